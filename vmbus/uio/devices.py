"""The VMBus devices of a Linux guest, as sysfs shows them.

    /sys/bus/vmbus/devices/<instance>/                  id, class_id, state, driver, numa_node, ...
                                     /out_write_index   the rings of its primary channel, and monitor words
                                     /channels/<relid>/ counters of every channel, the primary among them
                                     /uio/uioN          where uio_hv_generic has it
                                     /net/eth0, ...     interfaces and disks: see attached

What is not there, or makes no sense, is None in the records of device_files.

Sources: Linux Documentation/ABI/stable/sysfs-bus-vmbus, drivers/hv/vmbus_drv.c (vmbus_dev_attrs and
vmbus_chan_attrs), drivers/uio/uio_hv_generic.c.
"""

from __future__ import annotations

import errno
import re

from vmbus.errors import CallerError, DeviceError

from .attached import attached_to
from .device_files import BUS, DEVICES, STATES, GuestChannel, GuestDevice, MonitorFiles, RingFiles, guid_of
from .naming import UIO_NAME, names_several, not_there
from .system import Root, System, system_at

__all__ = [
    "BUS",
    "DEVICES",
    "STATES",
    "GuestChannel",
    "GuestDevice",
    "MonitorFiles",
    "RingFiles",
    "find_device",
    "find_devices",
    "read_device",
]

RELID = re.compile(r"0|[1-9][0-9]{0,9}")
MAPPING = re.compile(rf"({RELID.pattern}):([0-9]{{1,10}})")

#: How often the files of a ring are read, where what they say does not fit.
MOST_LOOKS = 3

#: The files of a channel that hold one number each; of these, some hold a word of shared memory.
CHANNEL_FILES = GuestChannel._fields[1:-1]
CHANNEL_WORDS = ("out_mask", "in_mask", "read_avail", "write_avail", "pending")


def find_devices(root: Root = "/") -> list[GuestDevice]:
    """Every VMBus device, in the order of their relids.

    Raises DeviceError (ENODEV) where there is no VMBus.  One that is removed meanwhile is left out.
    """
    system = system_at(root)
    if not system.exists(DEVICES):
        why = (
            "this is no Linux guest of Hyper-V, or hv_vmbus is not loaded"
            if system.is_this_machine
            else "this is no copy of the files of a Linux guest of Hyper-V"
        )
        raise DeviceError(errno.ENODEV, f"{system.path(DEVICES)} is not there: {why}")
    found = [read_device(name, system) for name in system.names(DEVICES)]
    devices = [device for device in found if device is not None]
    return sorted(devices, key=lambda device: (device.id is None, device.id, device.instance_id))


def read_device(instance_id: str, root: Root = "/") -> GuestDevice | None:
    """The device of that name; None where it is gone."""
    system = system_at(root)
    place = f"{DEVICES}/{instance_id}"

    def number(name: str) -> int | None:
        return system.number(f"{place}/{name}")

    attached = attached_to(place, system)
    device = GuestDevice(
        instance_id=instance_id,
        class_id=guid_of(system.text(f"{place}/class_id")),
        id=number("id"),
        vendor=number("vendor"),
        device=number("device"),
        state=number("state"),
        modalias=system.text(f"{place}/modalias"),
        numa_node=number("numa_node"),
        driver_override=override_of(system.text(f"{place}/driver_override")),
        monitor_id=number("monitor_id"),
        channel_vp_mapping=mapping_of(system.text(f"{place}/channel_vp_mapping")),
        driver=system.link_name(f"{place}/driver"),
        uio=next((name for name in system.names(f"{place}/uio") if UIO_NAME.fullmatch(name)), None),
        outbound=ring_of(system, f"{place}/out"),
        inbound=ring_of(system, f"{place}/in"),
        server=monitor_of(system, f"{place}/server"),
        client=monitor_of(system, f"{place}/client"),
        channels=channels_of(system, place),
        device_id=guid_of(system.text(f"{place}/device_id")),
        interfaces=attached.interfaces,
        disks=attached.disks,
    )
    return device if system.exists(place) else None


def ring_of(system: System, start: str) -> RingFiles:
    """The ring whose files have names that start so."""
    for _ in range(MOST_LOOKS):
        ring = RingFiles(*(word_of(system.number(f"{start}_{name}")) for name in RingFiles._fields))
        if ring.data_size is not None or None in (ring.read_bytes_avail, ring.write_bytes_avail):
            break
    return ring


def monitor_of(system: System, start: str) -> MonitorFiles:
    """The words of the side whose files have names that start so."""
    return MonitorFiles(*(word_of(system.number(f"{start}_monitor_{name}")) for name in MonitorFiles._fields))


def channels_of(system: System, place: str) -> tuple[GuestChannel, ...]:
    """The channels of the device in that folder."""
    channels = []
    for relid in sorted(int(name) for name in system.names(f"{place}/channels") if RELID.fullmatch(name)):
        folder = f"{place}/channels/{relid}"
        files = {name: system.number(f"{folder}/{name}") for name in CHANNEL_FILES}
        words = {name: word_of(files[name]) for name in CHANNEL_WORDS}
        channel = GuestChannel(relid=relid, ring_size=system.file_size(f"{folder}/ring"), **(files | words))
        if system.exists(folder):
            channels.append(channel)
    return tuple(channels)


def word_of(number: int | None) -> int | None:
    """A word of 32 bits: those of the primary channel are printed as if they had a sign.

    >>> word_of(-2**31) == word_of(2**31) == 2**31, word_of(2**32)
    (True, None)
    """
    return None if number is None or not -(2**31) <= number < 2**32 else number % 2**32


def override_of(text: str | None) -> str | None:
    """The driver that alone may have a device; the kernel prints (null) where any may."""
    return None if text in ("", "(null)") else text


def mapping_of(text: str | None) -> tuple[tuple[int, int], ...]:
    """Pairs of relid and processor, from lines such as 14:0."""
    lines = (MAPPING.fullmatch(line) for line in (text or "").split())
    return tuple((int(line[1]), int(line[2])) for line in lines if line is not None)


def find_device(which: str | int, root: Root = "/") -> GuestDevice:
    """The one device that `which` names, as GuestDevice.matches says.

    Raises DeviceError (ENODEV) where there is none, CallerError where there are several.
    """
    devices = find_devices(root)
    found = [device for device in devices if device.matches(str(which))]
    if not found:
        raise DeviceError(errno.ENODEV, not_there(str(which), devices))
    if len(found) > 1:
        raise CallerError(names_several(str(which), found), argument="which", value=which, limit="one device")
    return found[0]
