"""Vsock sockets for threads: streams, messages, and those who listen.

A socket is of one link, which moves its packets.  Every wait takes a timeout in seconds (None waits for
ever) and ends when either side closes.  Sizes are in bytes.

Sources: vsock(7); OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from operator import index
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from vmbus.channel import ChannelFile
from vmbus.errors import ChannelClosed, PeerClosed, TimedOut
from vmbus.memory import Buffer, view_bytes
from vmbus.virtio import (
    VsockListenerQueue,
    VsockMessage,
    VsockMessageConnection,
    VsockShutdown,
    VsockStreamConnection,
)

from .attempts import Inbox, SendBytes, Turn, has_told, send_at_once, send_message
from .socket_base import NOT_TAKEN, NOTHING_CAME, RECEIVE_SIZE, Acts, SocketBase
from .steps import Attempt, Remind

__all__ = ["VsockListener", "VsockMessages", "VsockSocket", "VsockStream"]

Result = TypeVar("Result")
Socket = TypeVar("Socket", bound="VsockSocket")


class Runs(Acts, Protocol):
    """What a socket needs of its link."""

    def run(
        self, attempt: Attempt[Result], timeout: float | None, what: str, remind: Remind = None
    ) -> Result: ...

    def try_now(self, attempt: Attempt[Result]) -> Result | None: ...


class VsockSocket(SocketBase[Runs]):
    """One connection; made by a link or a listener.

    A context manager that closes it, and breaks it off where its block ends with an exception.
    """

    def send_end(self, timeout: float | None = None) -> None:
        """End what this side sends; again is harmless.  The other side can go on sending.

        Waits for room in the queue, where there is none: then the other side will learn of the end.
        """
        self.shutdown(VsockShutdown.SEND)
        if self._core.is_owing:
            self._link.run(partial(has_told, self._core), timeout, NOT_TAKEN)

    def __enter__(self: Socket) -> Socket:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.reset()  # what is not whole must not look as if it were


class VsockStream(VsockSocket):
    """A connection of two byte streams, one each way."""

    def __init__(self, link: Runs, connection: VsockStreamConnection) -> None:
        super().__init__(link, connection)
        self._connection = connection
        self._turn = Turn()

    def send(self, data: Buffer, timeout: float | None = None) -> None:
        """Send all bytes.

        What ends the call early (TimedOut, PeerClosed, ChannelClosed) says in `done` how many were sent.
        """
        view = memoryview(data) if type(data) is bytes else view_bytes(data, "data")
        if self._link.try_now(partial(send_at_once, self._connection, self._turn, view)):
            return
        sending = SendBytes(self._connection, self._turn, view)
        try:
            self._link.run(sending.attempt, timeout, NOT_TAKEN, sending.remind)
        except BaseException as error:
            self._link.act(sending.give_up)
            if isinstance(error, (TimedOut, PeerClosed, ChannelClosed)):
                error.done = sending.done
            raise
        finally:
            if sending.must_wake:
                self._link.wake()

    def receive(self, limit: int = RECEIVE_SIZE, timeout: float | None = None) -> bytes:
        """Up to `limit` bytes, as many as are there; none at the end of the other side's stream.

        Raises PeerClosed when the other side went without ending its stream.
        """
        return self._link.run(partial(self._connection.receive, index(limit)), timeout, NOTHING_CAME)

    def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """Bytes into `buffer`, as many as fit and are there: how many; 0 at the end of the stream."""
        view = view_bytes(buffer, "buffer", writable=True)
        data = self.receive(len(view), timeout)
        view[: len(data)] = data
        return len(data)

    def __iter__(self) -> Iterator[bytes]:
        """Bytes as they come, until the end of the stream."""
        return iter(self.receive, b"")

    def makefile(self, mode: str = "rwb", *, timeout: float | None = None) -> ChannelFile:
        """The connection as a raw file: see ChannelFile."""
        return ChannelFile(self, mode, timeout)


class VsockMessages(VsockSocket):
    """A connection of messages, each with its exact length."""

    def __init__(self, link: Runs, connection: VsockMessageConnection) -> None:
        super().__init__(link, connection)
        self._connection = connection
        self._inbox = Inbox(connection)

    def send(self, data: Buffer, *, end_of_record: bool = False, timeout: float | None = None) -> None:
        """Send one message; it is on its way, if not all of it in the queue, when this returns.

        Raises CallerError when it is longer than the other side's whole receive buffer.
        """
        attempt = partial(send_message, self._connection, view_bytes(data, "data"), end_of_record)
        self._link.run(attempt, timeout, NOT_TAKEN, self._connection.ask_for_credit)

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message.  Raises PeerClosed behind the other side's last one."""
        return self.receive_message(timeout).data

    def receive_message(self, timeout: float | None = None) -> VsockMessage:
        """The next message, and whether a record ends with it."""
        return self._link.run(self._inbox.take, timeout, NOTHING_CAME)

    def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """The next message into `buffer`: its length.

        Raises BufferTooSmall, which names the length; the message is then the next one still.
        """
        view = view_bytes(buffer, "buffer", writable=True)
        return self._link.run(partial(self._inbox.take_into, view), timeout, NOTHING_CAME)

    def __iter__(self) -> Iterator[bytes]:
        """Messages as they come, until either side closes."""
        with suppress(ChannelClosed, PeerClosed):
            while True:
                yield self.receive()


class VsockListener(Generic[Socket]):
    """Takes connections to one port; a context manager that closes it.  Made by a link."""

    def __init__(self, link: Runs, queue: VsockListenerQueue, make: Callable[[Runs, Any], Socket]) -> None:
        self._link = link
        self._queue = queue
        self._make = make

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._queue.port

    def accept(self, timeout: float | None = None) -> Socket:
        """The next connection."""
        connection = self._link.run(self._queue.accept, timeout, f"nobody has come to port {self.port}")
        return self._make(self._link, connection)

    def __iter__(self) -> Iterator[Socket]:
        """Connections as they come, until either side closes."""
        with suppress(ChannelClosed, PeerClosed):
            while True:
                yield self.accept()

    def close(self) -> None:
        """Listen no more; who waits to be accepted is reset."""
        self._link.act(self._queue.close)
        self._link.wake()

    def __enter__(self) -> VsockListener[Socket]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VsockListener: {self._queue!r}>"
