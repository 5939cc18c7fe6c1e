"""What appears late: the node of a device, the opening of a channel, the rings of a subchannel.

A node may be announced in sysfs before it can be opened, as when the host takes a device away and offers it
again.  A subchannel comes when the host grants it, long after the device was opened; its folder is there
before its `ring` file, and its file before it can be mapped.

Timeouts are in seconds, sizes in bytes.

Sources: Linux drivers/uio/uio.c, __uio_register_device(); drivers/uio/uio_hv_generic.c,
hv_uio_new_channel() and hv_uio_ring_mmap().
"""

from __future__ import annotations

import errno
import mmap

from vmbus.errors import CallerError, DeviceError

from .devices import GuestChannel, GuestDevice, read_device
from .node import UioNode
from .system import System
from .waiting import wait_for

__all__ = ["PATIENCE", "UIO_DRIVER", "channel_when_open", "map_subchannel", "node_of", "open_node"]

UIO_DRIVER = "uio_hv_generic"

#: Seconds to wait for what appears late, unless the caller says otherwise.
PATIENCE: float = 5.0

#: What the kernel answers of a node or a ring that is not there yet, or soon will not be.
TOO_EARLY = {errno.ENOENT, errno.ENXIO, errno.ENODEV}


def node_of(device: GuestDevice, system: System, timeout: float | None) -> str:
    """The device's node, such as "uio0".  DeviceError where another driver has the device."""

    def look() -> str | None:
        now = read_device(device.instance_id, system)
        if now is None:
            raise DeviceError(errno.ENODEV, f"{device.name} {device.instance_id} is gone")
        return now.uio

    uio = device.uio or (wait_for(look, timeout) if device.driver == UIO_DRIVER else None)
    if uio is None:
        holder = device.driver or "no driver"
        advice = f"`vmbus bind {device.instance_id}` gives it to {UIO_DRIVER}"
        if holder == UIO_DRIVER:
            advice = f"no node has appeared {in_time(timeout)}"
        raise DeviceError(errno.ENODEV, f"{device.name} {device.instance_id} is bound to {holder}: {advice}")
    return uio


def open_node(system: System, uio: str, timeout: float | None, *, writable: bool = True) -> UioNode:
    """/dev/uioN, as soon as it can be opened; DeviceError, the last that the kernel answered."""
    refusal = DeviceError(errno.ENOENT, f"{uio} cannot be opened")

    def look() -> UioNode | None:
        nonlocal refusal
        try:
            return system.open_node(uio, writable=writable)
        except DeviceError as error:
            if error.errno not in TOO_EARLY:
                raise
            refusal = error
            return None

    node = wait_for(look, timeout)
    if node is None:
        raise refusal
    return node


def channel_when_open(system: System, device: GuestDevice, relid: int, timeout: float | None) -> GuestChannel:
    """A channel, as soon as the kernel has opened it: before that it has no rings.

    Raises DeviceError (ETIMEDOUT) when that takes too long, CallerError for what is no relid.
    """
    if not isinstance(relid, int):
        raise CallerError(
            f"a relid is a number, as `vmbus devices -v` shows them, not {relid!r}",
            argument="relid",
            value=relid,
        )

    def channels() -> tuple[GuestChannel, ...]:
        now = read_device(device.instance_id, system)
        return () if now is None else now.channels

    def look() -> GuestChannel | None:
        return next((one for one in channels() if one.relid == relid and one.is_open), None)

    channel = wait_for(look, timeout)
    if channel is None:
        there = ", ".join(str(one.relid) for one in channels()) or "none"
        raise DeviceError(
            errno.ETIMEDOUT,
            f"{device.name} {device.instance_id}: channel {relid} is not open {in_time(timeout)}; the device has "
            f"{there}",
        )
    return channel


def map_subchannel(
    system: System, device: GuestDevice, relid: int, timeout: float | None, *, writable: bool = True
) -> mmap.mmap:
    """Both rings of a subchannel, as soon as they can be mapped: as much as its `ring` file has.

    Raises DeviceError, the last that the kernel answered.
    """
    place = device.ring_file(relid)
    refusal = DeviceError(
        errno.ENOENT, f"{system.path(place)} is not there {in_time(timeout)}: only {UIO_DRIVER} makes it"
    )

    def look() -> mmap.mmap | None:
        nonlocal refusal
        size = system.file_size(place)
        if not size:
            return None
        try:
            return system.map_file(place, size, writable=writable)
        except DeviceError as error:
            if error.errno not in TOO_EARLY:
                raise
            refusal = error
            return None

    mapping = wait_for(look, timeout)
    if mapping is None:
        raise refusal
    return mapping


def in_time(timeout: float | None) -> str:
    """When it was given up, for messages."""
    return "at all" if timeout is None else f"after {timeout:.3g} s"
