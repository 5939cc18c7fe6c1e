"""Guests whose devices are given to uio_hv_generic and back, for the tests of that."""

from __future__ import annotations

from pathlib import Path

from tests.uio.driver_core import DriverCore
from vmbus.protocols import device_class
from vmbus.uio import GuestDevice, bind, read_device

__all__ = [
    "NETWORK_CLASS",
    "NIC",
    "OTHER_NIC",
    "UNKNOWN",
    "UNKNOWN_CLASS",
    "bound_guest",
    "close",
    "device",
    "guest",
]

NIC = "11111111-0000-4000-8000-000000000001"
OTHER_NIC = "22222222-0000-4000-8000-000000000002"
UNKNOWN = "33333333-0000-4000-8000-000000000003"
UNKNOWN_CLASS = "44444444-0000-4000-8000-000000000004"
NETWORK_CLASS = str(device_class("network").class_id)


def guest(folder: Path, **kind: object) -> DriverCore:
    """A guest with two network cards, the second without a driver, and a device that nobody knows."""
    folder.mkdir(exist_ok=True)
    core = DriverCore(folder, **kind)
    core.add_device("network", NIC, 1, driver="hv_netvsc")
    core.add_device("network", OTHER_NIC, 2, driver=None)
    core.add_device("unknown", UNKNOWN, 3, driver=None, class_id=UNKNOWN_CLASS)
    core.say_that_nothing_is_in_use()
    return core


def bound_guest(folder: Path, **kind: object) -> DriverCore:
    """The same, where the first card is bound to uio_hv_generic, and not open."""
    core = guest(folder, **kind)
    bind(device(core), core)
    close(core)
    core.writes.clear()
    return core


def close(core: DriverCore) -> None:
    """What the tree says of a device that no program has open."""
    (core.tree.device_folder(NIC) / "channels/1/out_mask").unlink(missing_ok=True)


def device(core: DriverCore, instance: str = NIC) -> GuestDevice:
    found = read_device(instance, core)
    assert found is not None
    return found
