"""What to say of a name that is no device's, or that of several: what there is, and what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from vmbus.protocols import device_class

from .device_files import GuestDevice

__all__ = ["UIO_NAME", "names_several", "not_there"]

UIO_NAME = re.compile(r"uio[0-9]{1,9}")


def not_there(which: str, devices: list[GuestDevice]) -> str:
    """Why no device is found by that name."""
    wanted = which.strip("{}").lower().removeprefix("/dev/")
    owner = next((one for one in devices if any(str(sub.relid) == wanted for sub in one.channels)), None)
    if UIO_NAME.fullmatch(wanted):
        nodes = ", ".join(f"{one.uio}: {one.name}" for one in devices if one.uio is not None)
        return f"no device {which}; uio_hv_generic has {nodes or 'none at all'}"
    if owner is not None:
        return f"no device {which}; that is a subchannel of {label(owner)}, {owner.name}"
    near = None if device_class(wanted) is not None else nearest(wanted, devices)
    if near is not None:
        return f"no device {which} (did you mean {near}?)"
    kinds = ", ".join(sorted({device.name for device in devices})) or "none at all"
    return f"no device {which}; there are {kinds} (`vmbus devices` lists them)"


def nearest(wanted: str, devices: Iterable[GuestDevice]) -> str | None:
    """The name of a device that is most like it, numbers and nodes left aside: those are easily another's."""
    names: dict[str, None] = {}
    for device in devices:
        known = device.device_class
        others = () if known is None else known.other_names
        names |= dict.fromkeys((device.name, *others, *([device.driver] if device.driver else [])))
    found = get_close_matches(wanted, names, 1)
    return found[0] if found else None


def names_several(which: str, found: list[GuestDevice]) -> str:
    """That it names those devices, and how each can be told from the others."""
    each = ", ".join(f"{label(device)} {device.instance_id}" for device in found)
    return f"{which} names {len(found)} devices; one of them is named by its relid or instance: {each}"


def label(device: GuestDevice) -> str:
    """Its relid, and what it carries: "14 (eth0)"."""
    relid = "-" if device.id is None else str(device.id)
    return f"{relid} ({', '.join(device.carried)})" if device.carried else relid
