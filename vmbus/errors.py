"""Every error, sorted by who must act.

    RingEmpty, RingFull (NotReady)   nobody: try again later
    TimedOut (NotReady)              nobody: the time given to a wait is over
    CallerError                      you: the call is wrong
    PeerError                        the other side broke the format: stop trusting this ring
    ChannelClosed, PeerClosed        you closed it, they closed it
    ConnectionRefused (PeerClosed)   they take no such connection
    DumpError                        the file
    DeviceError                      the system

A message shows the value, the limit and the place; the same numbers stand in attributes, so
that nobody has to read them out of the text.  All of them pickle.
"""

from __future__ import annotations

from enum import Enum

__all__ = [
    "BufferTooSmall",
    "CallerError",
    "ChannelClosed",
    "ConnectionRefused",
    "DeviceError",
    "DumpError",
    "NotReady",
    "PeerClosed",
    "PeerError",
    "RingEmpty",
    "RingFull",
    "TimedOut",
    "VmbusError",
]


class VmbusError(Exception):
    """The base of all errors of this package; itself never raised."""


class NotReady(VmbusError):
    """Not now; the same call may succeed later.  Itself never raised."""


class RingEmpty(NotReady):
    """The ring holds no packet that has not been read."""


class RingFull(NotReady):
    """The packet, or the request, does not fit beside what is waiting.

    needed   bytes the packet takes, descriptor and footer included: what to give to
             OutgoingRing.set_pending_send_size; of a virtqueue, descriptors
    free     bytes, or descriptors, that were free
    """

    def __init__(self, message: str = "", *, needed: int = 0, free: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free


class TimedOut(NotReady, TimeoutError):
    """The time given to a wait is over; what was waited for may still come.

    done   how much of the call was done before: packets of a batch, bytes of a stream
    """

    done: int = 0


class CallerError(VmbusError, ValueError):
    """The call is wrong, whatever the other side does.

    argument   the name of what is wrong
    value      what was given
    limit      what would have been allowed
    """

    def __init__(
        self, message: str = "", *, argument: str = "", value: object = None, limit: object = None
    ) -> None:
        super().__init__(message)
        self.argument = argument
        self.value = value
        self.limit = limit


class BufferTooSmall(CallerError):
    """The buffer does not hold the payload; the packet stays in the ring.

    needed   bytes the buffer must have
    """

    def __init__(self, message: str = "", *, needed: int = 0, value: object = None) -> None:
        super().__init__(message, argument="buffer", value=value, limit=needed)
        self.needed = needed


class PeerError(VmbusError):
    """The other side wrote what a correct one never writes.

    kind         which rule was broken: an enum of the part that raised
    offset       where, in bytes from the start of the data area; None for the control page
    found        the value there
    allowed      what would have been right: a largest value, or a sentence
    descriptor   of a virtqueue: the descriptor to blame, by its index in the queue's own table
    entry        the entry to blame in the indirect table of that descriptor
    """

    def __init__(
        self,
        message: str = "",
        *,
        kind: Enum | None = None,
        offset: int | None = None,
        found: object = None,
        allowed: object = None,
        descriptor: int | None = None,
        entry: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.offset = offset
        self.found = found
        self.allowed = allowed
        self.descriptor = descriptor
        self.entry = entry


class ChannelClosed(VmbusError):
    """This side has closed the channel.

    done   how much of the call was done before: packets of a batch, bytes of a stream
    """

    done: int = 0


class PeerClosed(VmbusError, ConnectionError):
    """The other side has closed the channel, or is gone; also a ConnectionError, as of any stream.

    done   how much of the call was done before: packets of a batch, bytes of a stream
    """

    done: int = 0


class ConnectionRefused(PeerClosed, ConnectionRefusedError):
    """The other side is there, and takes no such connection: it may later."""


class DumpError(VmbusError):
    """The file is not what it should be, or cannot be read.

    path    the file
    place   where in it, in bytes; None where no place is to blame
    """

    def __init__(self, message: str = "", *, path: str = "", place: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.place = place

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.path}: {message}" if self.path else message


class DeviceError(VmbusError, OSError):
    """The system refused; `errno` says why."""
