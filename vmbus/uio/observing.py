"""A channel that somebody else uses, watched: its rings are mapped to be read, and nothing is ever stored.

What waits can be looked at again and again, and when the host interrupts the guest, whoever waits here is told
as well: each open of /dev/uioN counts interrupts for itself.

Timeouts are in seconds.

Sources: Linux drivers/uio/uio.c, uio_open() and uio_read(); drivers/uio/uio_hv_generic.c, hv_uio_open().
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import final

from vmbus.errors import PeerClosed
from vmbus.memory import FlatRingMem

from .devices import find_device
from .late import PATIENCE, channel_when_open, node_of, open_node
from .signal import UioSignal
from .snapshots import Snapshot, channel_of, copy_ring, map_channel
from .system import Root, system_at

__all__ = ["ChannelObserver"]


@final
class ChannelObserver:
    """Both rings of a channel, to be looked at.

    which     the device: its instance, relid, uio node or kind, as find_device takes it
    relid     of a subchannel; None for the primary channel
    root      where /sys and /dev are
    timeout   seconds for the channel to be opened by its user

    inbound, outbound   the memory of the rings, read-only.  The other two sides go on moving: `look` copies

    The primary channel stays open as long as somebody waits here, also when its user closes it.

    A context manager that closes at the end.  Raises DeviceError when there is no such device or channel, it is
    not bound to uio_hv_generic, nobody has the channel open, or the system refuses.
    """

    def __init__(
        self, which: str, *, relid: int | None = None, root: Root = "/", timeout: float = PATIENCE
    ) -> None:
        self._system = system_at(root)
        self.info = find_device(which, self._system)
        self._uio = node_of(self.info, self._system, timeout)
        self._timeout = timeout
        self._held = ExitStack()
        self._signal: UioSignal | None = None
        self._gone = False
        wanted = channel_of(self.info, relid)
        self.channel = channel_when_open(self._system, self.info, wanted.relid, timeout)
        rings = self._held.enter_context(map_channel(self._system, self.info, self.channel, self._uio))
        self.inbound: FlatRingMem = rings.inbound
        self.outbound: FlatRingMem = rings.outbound

    def look(self) -> Snapshot:
        """Both rings as they are now, copied.

        Raises PeerClosed once a wait has found that the device is gone: its memory is then somebody else's.
        """
        if self._gone:
            raise self._is_gone()
        header_size = self._system.page_size
        outbound = copy_ring(self.outbound, header_size=header_size)
        inbound = copy_ring(self.inbound, header_size=header_size)
        return Snapshot(self.info, self.channel, outbound, inbound)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the host interrupts the guest; False when `timeout` seconds passed without that.

        Interrupts count from the first wait on.  Raises PeerClosed when the device is gone.
        """
        if self._gone:
            raise self._is_gone()
        if self._signal is None:
            self._signal = self._listen()
        woken = self._signal.wait(timeout)
        if self._signal.peer_closed:
            self._gone = True
            raise self._is_gone()
        return woken

    def _listen(self) -> UioSignal:
        signal = UioSignal(open_node(self._system, self._uio, self._timeout, writable=False))
        self._held.callback(signal.close)
        return signal

    def _is_gone(self) -> PeerClosed:
        return PeerClosed(
            f"{self.info.name} {self.info.instance_id} is gone, and the memory of its rings with it"
        )

    def close(self) -> None:
        """Unmap, and let go of the device; again is harmless."""
        self._held.close()

    def __enter__(self) -> ChannelObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ChannelObserver: channel {self.channel.relid} of {self.info.name} {self.info.instance_id}>"
