"""Wakes that a thread can wait for, alone or beside descriptors of its own.

A wake says only "look again": any number of them melt into one, and none is lost.  To wait consumes
it; `drain` consumes it without waiting, for those who waited with a selector.

Each wake is a pair of sockets, one byte a wake.  Where they hold no more bytes somebody has been
woken often enough.  (The signals of a channel have two sides, and a link that watches the other
process: here there is one side, and any thread wakes.)

Timeouts are in seconds; None waits for ever.

Source: smolvm smolvm-network, its wake pipes and what followed them.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import NoReturn, TypeVar

from vmbus.errors import CallerError, DeviceError
from vmbus.virtio import DEFAULT_FRAME_QUEUE_CAPACITY, NetworkFrameQueues

__all__ = ["PollWake", "shared_frame_queues", "wake_of"]

#: Seconds that the system is asked to wait at once: it counts milliseconds in 31 bits.
LONGEST_WAIT = 86400.0

#: Bytes that are read at once.
WAKES = 4096

# The wakes of frame queues.
WAKE_NAMES = ("guest_wake", "host_wake", "relay_wake")

Own = TypeVar("Own", bound="PollWake")


class WakePipe:
    """The two sockets of a wake, until the last who shares them has closed."""

    def __init__(self) -> None:
        try:
            self.reader, self.writer = socket.socketpair()
        except OSError as error:
            raise DeviceError(error.errno, f"no sockets for a wake: {error.strerror}") from error
        self.writer.setblocking(False)
        self.lock = threading.Lock()
        self.shares = 1

    def write(self) -> None:
        with suppress(OSError):  # full: there is a wake to be seen already
            self.writer.send(b"\0")

    def read(self, timeout: float | None) -> bool:
        """Take what is there, at most WAKES bytes; False when nothing came in time."""
        self.reader.settimeout(timeout)
        try:
            return bool(self.reader.recv(WAKES))
        except (BlockingIOError, TimeoutError):
            return False

    def release(self) -> None:
        with self.lock:
            self.shares -= 1
            last = not self.shares
        if last:
            self.reader.close()
            self.writer.close()


class PollWake:
    """A wake that can be waited for; a Wake.

    `wake` may be called by any thread at any time; `wait` and `drain` by one thread at a time, over
    all who share it.  Each share is closed for itself; also a context manager.

    Raises DeviceError when the system has no sockets left.

    >>> wake = PollWake()
    >>> wake.wake(); wake.wake(); wake.wait(0.01), wake.wait(0.001)
    (True, False)
    >>> other = wake.share()
    >>> other.wake(); wake.wait(0)
    True
    >>> wake.close(); other.close()
    """

    def __init__(self, pipe: WakePipe | None = None) -> None:
        self._pipe: WakePipe | None = WakePipe() if pipe is None else pipe

    def wake(self) -> None:
        """Say that there is something to look at; nothing once this is closed.  Never waits."""
        pipe = self._pipe
        if pipe is not None:
            pipe.write()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until somebody wakes, or has done so before; False when the time is over.

        timeout   seconds; 0 or less only looks, None waits for ever
        """
        pipe = self._open()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if deadline is None else max(0.0, deadline - time.monotonic())
            if pipe.read(min(left, LONGEST_WAIT)):
                self.drain()
                return True
            if deadline is not None and left <= LONGEST_WAIT:
                return False

    def drain(self) -> bool:
        """Take all wakes that there are; whether there was one."""
        pipe = self._open()
        woken = False
        while pipe.read(0):
            woken = True
        return woken

    def share(self) -> PollWake:
        """The same wake once more: who wakes one wakes the other."""
        pipe = self._open()
        with pipe.lock:
            pipe.shares += 1
        return PollWake(pipe)

    def fileno(self) -> int:
        """A descriptor that is readable while there is a wake."""
        return self._open().reader.fileno()

    def close(self) -> None:
        """Let go of it; again is harmless.  Nobody waits any more when this is called."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.release()

    def _open(self) -> WakePipe:
        return self._pipe or refuse_closed()

    def __enter__(self: Own) -> Own:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PollWake: {'closed' if self._pipe is None else self._pipe.reader.fileno()}>"


def refuse_closed() -> NoReturn:
    raise CallerError("this wake is closed", argument="self", value="closed", limit="open")


def wake_of(queues: NetworkFrameQueues, name: str) -> PollWake:
    """One of the wakes of some queues, to wait for.

    name   "guest_wake", "host_wake" or "relay_wake"

    Raises CallerError for any other name, and when nobody can wait for that wake.
    """
    if name not in WAKE_NAMES:
        raise CallerError(
            f"frame queues have the wakes {', '.join(WAKE_NAMES)}, and no {name!r}",
            argument="name",
            value=name,
            limit=WAKE_NAMES,
        )
    wake = getattr(queues, name)
    if not isinstance(wake, PollWake):
        raise CallerError(
            f"nobody can wait for the {name} of these queues, a {type(wake).__name__}: "
            "shared_frame_queues() makes queues with wakes that one can wait for",
            argument="queues",
            value=type(wake).__name__,
            limit="PollWake",
        )
    return wake


def shared_frame_queues(capacity: int = DEFAULT_FRAME_QUEUE_CAPACITY) -> NetworkFrameQueues:
    """Frame queues whose wakes can be waited for.

    guest_wake and relay_wake are one wake: the poll loop waits for both at once.

    >>> queues = shared_frame_queues(4)
    >>> queues.relay_wake.wake(); wake_of(queues, "guest_wake").wait(0)
    True
    """
    NetworkFrameQueues(capacity)  # refuses a capacity of 0 before there are sockets
    poll_loop, writer = PollWake(), PollWake()
    return NetworkFrameQueues(capacity, guest_wake=poll_loop, host_wake=writer, relay_wake=poll_loop.share())
