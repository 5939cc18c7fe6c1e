"""A device that uio_hv_generic has, held open: its maps, its channels and its buffers.

Opening /dev/uioN opens the device's primary channel, unless somebody holds it open already, and the kernel
then zeroes the control pages of both rings.  The last who closes it closes the channel.  The kernel opens
subchannels itself, when the host offers them.

Nothing is stored in shared memory before a channel is opened: `open_channel`.

Rings are as long as the maps say.  Timeouts are in seconds.

Sources: Linux drivers/uio/uio_hv_generic.c, Documentation/driver-api/uio-howto.rst (Generic Hyper-V UIO
driver); DPDK drivers/bus/vmbus/linux/vmbus_uio.c.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, final, overload

from vmbus.channel import AsyncChannel, BlockingChannel, Channel, PacketChannel, check_kind
from vmbus.errors import CallerError, DeviceError, PeerClosed
from vmbus.ring import OutgoingRing

from .buffers import DeviceBuffers
from .devices import GuestChannel, find_device, read_device
from .late import PATIENCE, channel_when_open, map_subchannel, node_of, open_node
from .maps import INTERRUPT_PAGE, MONITOR_PAGE, RINGS, UioMap, map_named, read_maps
from .monitor import Doorbell, doorbell_of
from .node import UioNode
from .rings import MappedRings, MaskedByOthersRing, halves_of, let_go
from .signal import UioSignal
from .system import Root, system_at

__all__ = ["UioDevice"]

Kind = TypeVar("Kind", bound=Channel)

REVOKED = "the host has revoked the device, or its driver was taken away: the memory of its rings is gone"


class Opened(NamedTuple):
    """A channel that is open; `held` lets go of its memory, its node and its signal."""

    channel: BlockingChannel | AsyncChannel
    held: ExitStack


@final
class UioDevice:
    """A VMBus device, open.

    which     its instance, relid, uio node or kind, as find_device takes it
    root      where /sys and /dev are
    alone     False: open it also where somebody has its channel open; two that use one ring destroy it
    timeout   seconds for a node that appears late

    info      what sysfs said of it then: a GuestDevice
    maps      what it offers to be mapped
    buffers   the large buffers that it shares with the host: DeviceBuffers

    A context manager; closing it closes its channels.  In a forked child it is closed.  Needs the right to open
    /dev/uioN, usually root's.

    Opening waits in the calling thread: in an event loop, call it through asyncio.to_thread.

    Raises DeviceError when there is no such device, it is not bound to uio_hv_generic, somebody has it open
    (EBUSY), or the system refuses.
    """

    def __init__(
        self, which: str | int, *, root: Root = "/", alone: bool = True, timeout: float | None = PATIENCE
    ) -> None:
        self.system = system_at(root)
        self.info = find_device(which, self.system)
        self.uio = node_of(self.info, self.system, timeout)
        if alone and self.info.is_open:
            raise DeviceError(
                errno.EBUSY,
                f"{self.path}: somebody has the channel of {self.info.name} {self.info.instance_id} open already, and "
                "two that use one ring destroy it: close it there, or only observe (read_only=True)",
            )
        self._closed = False
        self._opened: dict[int, Opened] = {}
        with ExitStack() as undo:
            self._node = open_node(self.system, self.uio, timeout)
            undo.callback(self._node.close)
            self.maps = read_maps(self.uio, self.system)
            self.buffers = DeviceBuffers(self.maps, self._map)
            undo.callback(self.buffers.close)
            self._held = undo.pop_all()
        of_this_process.add(self)

    # -- looking ----------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Of its node, such as /dev/uio0."""
        return self.system.path(f"dev/{self.uio}")

    def channels(self) -> tuple[GuestChannel, ...]:
        """Its channels as they are now: the primary one, and the subchannels that the host has offered."""
        device = read_device(self.info.instance_id, self.system)
        return () if device is None else device.channels

    # -- channels ---------------------------------------------------------------------------------

    @overload
    def open_channel(
        self, *, relid: int | None = ..., timeout: float | None = ..., **options: Any
    ) -> PacketChannel: ...

    @overload
    def open_channel(
        self, kind: type[Kind], *, relid: int | None = ..., timeout: float | None = ..., **options: Any
    ) -> Kind: ...

    def open_channel(
        self,
        kind: type[Any] = PacketChannel,
        *,
        relid: int | None = None,
        timeout: float | None = PATIENCE,
        **options: Any,
    ) -> Any:
        """A channel of that kind over the primary channel's rings, or over those of a subchannel.

        kind      PacketChannel, MessageChannel, ByteChannel or one of the three for asyncio
        relid     of the subchannel; None for the primary channel
        timeout   seconds for the channel and its rings to appear
        options   of that kind: spin, trace, ...

        From here on this side writes: it masks, and takes back the pending send size.  Closing the channel leaves
        the device open.

        The device's revocation ends every call with PeerClosed at once: the kernel takes the memory of the rings
        back, and it is not touched any more.

        A signal is one write to the node, which also clears the interrupt mask; kernels until 2025 then signal the
        primary channel alone, later ones every channel of the device that is not monitored.  So signals may come
        for nothing on either side.  A monitored channel is signaled through the monitor page.

        Raises CallerError when it is open here already, DeviceError when there is no such channel, its memory
        holds no two rings, or the system refuses.
        """
        check_kind(kind)
        relid = self._check_unused(relid)
        with ExitStack() as undo:
            info = channel_when_open(self.system, self.info, relid, timeout)
            rings = undo.enter_context(self._map_rings(relid, timeout))
            node = self.system.open_node(self.uio, writable=True)
            undo.callback(node.close)
            signal = UioSignal(node, self._doorbell(info, node, undo))
            undo.callback(signal.close)
            on_close = options.pop("on_close", None)
            closing = ExitStack()
            options = {"role": f"{self.info.name} {relid}", **options, "on_close": closing.close}
            channel = kind(MaskedByOthersRing(rings.inbound), OutgoingRing(rings.outbound), signal, **options)
            signal.on_revoked = partial(channel.give_up, REVOKED)
            if on_close is not None:
                closing.callback(on_close)  # the last
            undo.callback(self._opened.pop, relid, None)
            held = ExitStack()
            closing.push(held)
            self._opened[relid] = Opened(channel, held)
            held.push(undo.pop_all())
        return channel

    def _check_unused(self, relid: int | None) -> int:
        """The channel that is meant; CallerError when it is open here, or the device closed."""
        self._check_open()
        relid = self.info.id if relid is None else relid
        if relid is None:
            raise DeviceError(
                errno.ENODEV, f"{self.path}: sysfs does not say which its primary channel is: give a relid"
            )
        opened = self._opened.get(relid)
        if opened is not None and opened.channel.peer_closed:
            raise PeerClosed(f"{self.path}: {REVOKED}")
        if opened is not None:
            raise CallerError(
                f"channel {relid} is open here already: close that one first",
                argument="relid",
                value=relid,
                limit="open once",
            )
        return relid

    def _map_rings(self, relid: int, timeout: float | None) -> MappedRings:
        if relid == self.info.id:
            rings = map_named(self.maps, RINGS, self.path)
            name = f"{self.path}: map {rings.number} ({RINGS})"
            halves = halves_of(rings.size, self.system.page_size, name)
            return MappedRings(self._map(rings, True), halves)
        mapping = map_subchannel(self.system, self.info, relid, timeout)
        name = f"{self.path}: the ring file of channel {relid}"
        try:
            return MappedRings(mapping, halves_of(len(mapping), self.system.page_size, name))
        except BaseException:
            mapping.close()
            raise

    def _doorbell(self, channel: GuestChannel, node: UioNode, undo: ExitStack) -> Doorbell:
        """What tells the host of this channel."""
        pages: dict[str, mmap.mmap] = {}
        if channel.monitor_id is not None:
            for page, name in (("monitor_page", MONITOR_PAGE), ("interrupt_page", INTERRUPT_PAGE)):
                pages[page] = self._map(map_named(self.maps, name, self.path), True)
                undo.callback(let_go, pages[page])
        try:
            doorbell = doorbell_of(channel, node, **pages)
        except CallerError as error:  # what the kernel says of the channel, and not what the caller does
            raise DeviceError(
                errno.EINVAL, f"{self.path}: channel {channel.relid} cannot be signaled: {error}"
            ) from error
        undo.callback(doorbell.close)
        return doorbell

    # -- maps -------------------------------------------------------------------------------------

    def _map(self, one: UioMap, writable: bool) -> mmap.mmap:
        self._check_open()
        if one.offset:
            raise DeviceError(
                errno.EINVAL,
                f"{self.path}: map {one.number} ({one.name}) begins {one.offset:#x} into a page; all of this driver "
                "begin where a page does",
            )
        return self._node.map(one.number * self.system.page_size, one.size, writable=writable)

    # -- closing ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise CallerError(f"{self.path} is closed here", argument="self", value="closed", limit="open")

    def close(self) -> None:
        """Close its channels, unmap, and let go of the node; again is harmless.

        The kernel closes the primary channel when nobody holds the node any more.
        """
        self._closed = True
        for channel, _ in list(self._opened.values()):
            channel.close()
        self._held.close()

    def abandon(self) -> None:
        """Let go of everything, in a forked child: its copies would keep the channel open behind the parent's back."""
        self._closed = True
        for _, held in list(self._opened.values()):
            held.close()
        self._held.close()

    def __enter__(self) -> UioDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<UioDevice: {self.info.name} {self.info.instance_id} at {self.path}{closed}>"


#: The devices that a forked child must let go of.
of_this_process: weakref.WeakSet[UioDevice] = weakref.WeakSet()


def abandon_all() -> None:
    for device in list(of_this_process):
        device.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)
