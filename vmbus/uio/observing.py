"""A channel that somebody else uses, watched: its rings are mapped to be read, and nothing is ever stored.

What waits can be looked at again and again, and when the host interrupts the guest, whoever waits here is told
as well: each open of /dev/uioN counts interrupts for itself.

Timeouts are in seconds.

Sources: Linux drivers/uio/uio.c, uio_open() and uio_read(); drivers/uio/uio_hv_generic.c, hv_uio_open().
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import final

from vmbus.channel import SignalWaiters, check_seconds
from vmbus.errors import CallerError, DeviceError, PeerClosed

from .devices import find_device, read_device
from .late import PATIENCE, channel_when_open, node_of, open_node
from .signal import UioSignal
from .snapshots import Snapshot, channel_of, copy_rings, map_channel
from .system import Root, system_at

__all__ = ["ChannelObserver"]


@final
class ChannelObserver:
    """Both rings of a channel, to be looked at.

    which     the device: its instance, relid, uio node or kind, as find_device takes it
    relid     of a subchannel; None for the primary channel
    root      where /sys and /dev are
    timeout   seconds for the channel to be opened by its user

    From the first `wait` on the device is held open, and with it its primary channel, also when its user closes it.

    A context manager that closes at the end.  Raises DeviceError when there is no such device or channel, it is
    not bound to uio_hv_generic, nobody has the channel open, or the system refuses.
    """

    def __init__(
        self,
        which: str | int,
        *,
        relid: int | None = None,
        root: Root = "/",
        timeout: float | None = PATIENCE,
    ) -> None:
        self._system = system_at(root)
        self.info = find_device(which, self._system)
        self._uio = node_of(self.info, self._system, timeout)
        self._held = ExitStack()
        self._lock = threading.Lock()
        self._signal: UioSignal | None = None
        self._waiters: SignalWaiters | None = None
        self._seen = 0
        self._closed = False
        wanted = channel_of(self.info, relid)
        self.channel = channel_when_open(self._system, self.info, wanted.relid, timeout)
        self._rings = self._held.enter_context(map_channel(self._system, self.info, self.channel, self._uio))

    def look(self) -> Snapshot:
        """Both rings as they are now, copied.

        Raises PeerClosed when the channel is not open any more: its memory may be somebody else's.
        """
        self._check_open()
        try:
            copies = copy_rings(self._rings)
        except DeviceError as error:
            raise self._is_gone() from error
        self._check_open()  # it was open all the time
        return Snapshot(self.info, self.channel, *copies)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the host interrupts the guest; False when `timeout` seconds passed without that.

        Interrupts count from the first wait on, and those between two waits end the second.  Several threads may
        wait.  Raises PeerClosed when the device is gone, and in the first wait when the channel is not open any more.
        """
        deadline = None if timeout is None else monotonic() + check_seconds(timeout)
        signal, waiters = self._listening()
        seen = self._seen
        left: float | None = None
        while signal.interrupts == seen and (left is None or left > 0):
            wakes = waiters.wakes
            if signal.interrupts == seen:
                left = None if deadline is None else max(deadline - monotonic(), 0.0)
                waiters.wait(wakes, left)
            if self._closed:
                raise self._is_closed()
        if signal.peer_closed:
            raise self._is_gone()
        woken = signal.interrupts != seen
        self._seen = signal.interrupts
        return woken

    def _listening(self) -> tuple[UioSignal, SignalWaiters]:
        """The signal, and who waits for it; from the first call on the device is held open."""
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._waiters is None:
                self._check_open()  # or to open the device would open the channel, and empty its rings
                self._signal = UioSignal(open_node(self._system, self._uio, 0, writable=False))
                self._waiters = SignalWaiters(self._signal)
                self._held.callback(self._signal.close)
            assert self._signal is not None
            return self._signal, self._waiters

    def _check_open(self) -> None:
        if self._closed:
            raise self._is_closed()
        device = read_device(self.info.instance_id, self._system)
        now = None if device is None else device.channel(self.channel.relid)
        revoked = self._signal is not None and self._signal.peer_closed
        if revoked or now is None or not now.is_open:
            raise self._is_gone()

    def _is_gone(self) -> PeerClosed:
        return PeerClosed(
            f"channel {self.channel.relid} of {self.info.name} {self.info.instance_id} is not open any more: its user "
            "has closed it, or the device is gone"
        )

    def _is_closed(self) -> CallerError:
        return CallerError("this observer is closed", argument="self", value="closed", limit="open")

    def close(self) -> None:
        """Unmap, and let go of the device; again is harmless.  Who waits in another thread gets a CallerError."""
        with self._lock:
            self._closed = True
            waiters = self._waiters
        if waiters is None:
            self._held.close()
        else:
            waiters.close(self._held.close)

    def __enter__(self) -> ChannelObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ChannelObserver: channel {self.channel.relid} of {self.info.name} {self.info.instance_id}>"
