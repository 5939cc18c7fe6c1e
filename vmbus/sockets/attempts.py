"""What a socket's calls try, the same for threads and for asyncio.

An attempt returns its result, or None where it is too early; it is made again until it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import index

from vmbus.errors import BufferTooSmall, ChannelClosed
from vmbus.virtio import (
    VsockConnection,
    VsockEndpoint,
    VsockListenerQueue,
    VsockMessage,
    VsockMessageConnection,
    VsockState,
    VsockStreamConnection,
    VsockType,
)

__all__ = [
    "Inbox",
    "SendBytes",
    "Turn",
    "connecting",
    "give_up_connecting",
    "has_told",
    "is_connected",
    "listening",
    "nothing",
    "send_at_once",
    "send_message",
]


def nothing() -> None:
    """The attempt of who waits for nothing."""


def is_connected(connection: VsockConnection) -> bool | None:
    """True once the other side has answered; raises what has ended the connection before."""
    if connection.was_established:
        return True
    if connection.state is not VsockState.CONNECTING:
        connection.check_open()
    return None


def listening(
    endpoint: VsockEndpoint, port: int, kind: VsockType, backlog: int
) -> Callable[[], VsockListenerQueue]:
    """Listens, when it is called; TypeError at once for what are no numbers."""
    return partial(endpoint.listen, index(port), kind=kind, backlog=index(backlog))


def connecting(
    endpoint: VsockEndpoint, port: int, cid: int | None, kind: VsockType, local_port: int
) -> Callable[[], VsockConnection]:
    """Asks for a connection, when it is called; TypeError at once for what are no numbers."""
    cid = None if cid is None else index(cid)
    return partial(endpoint.connect, index(port), cid, kind=kind, local_port=index(local_port))


class Turn:
    """Who sends on a connection: nobody's bytes come between those of one call.

    wanted   whether somebody has found it taken since it was last given back
    """

    __slots__ = ("owner", "wanted")

    def __init__(self) -> None:
        self.owner: object = None
        self.wanted = False

    def take(self, caller: object) -> bool:
        """Whether it is the caller's now."""
        if self.owner is None:
            self.owner = caller
        self.wanted |= self.owner is not caller
        return self.owner is caller

    def give_back(self, caller: object) -> bool:
        """The caller is done; whether somebody else waits."""
        if self.owner is not caller:
            return False
        self.owner = None
        wanted, self.wanted = self.wanted, False
        return wanted


def send_at_once(connection: VsockStreamConnection, turn: Turn, data: memoryview) -> bool | None:
    """True when nobody else sends and all bytes went out in one packet; else nothing was done."""
    return connection.send_at_once(data) if turn.owner is None else None


def give_up_connecting(connection: VsockConnection) -> None:
    """Nobody waits for the answer any more, which may have come meanwhile."""
    error = ChannelClosed(f"{connection}: given up before there was an answer")
    if connection.was_established:
        connection.reset(error)
    else:
        connection.lose(error)  # an answer that comes later finds nobody, and is reset


def has_told(connection: VsockConnection) -> bool | None:
    """True once the other side has been sent all that it is to be told."""
    return True if not connection.is_owing or connection.flush() else None


class SendBytes:
    """Sends all bytes of one call, once it has the turn.

    done        bytes that were sent so far
    must_wake   whether others wait for the turn, which is theirs now
    """

    __slots__ = ("_connection", "_rest", "_turn", "done", "must_wake")

    def __init__(self, connection: VsockStreamConnection, turn: Turn, data: memoryview) -> None:
        self.done = 0
        self.must_wake = False
        self._connection = connection
        self._turn = turn
        self._rest = data

    def attempt(self) -> bool | None:
        """True once all bytes are sent."""
        turn = self._turn
        if turn.owner is not self and not turn.take(self):
            return None
        rest = self._rest
        sent = self._connection.send(rest)
        self.done += sent
        if sent == len(rest):
            self.must_wake = turn.give_back(self)
            return True
        if sent:
            self._rest = rest[sent:]
        return None

    def give_up(self) -> None:
        """The call has ended early."""
        self.must_wake = self._turn.give_back(self)

    def remind(self) -> None:
        """The call still waits: ask for credit, for the other side may tell it only when asked."""
        if self._turn.owner is self:
            self._connection.ask_for_credit()


def send_message(connection: VsockMessageConnection, data: memoryview, end_of_record: bool) -> bool | None:
    """True once the message is accepted."""
    return connection.send(data, end_of_record=end_of_record) or None


class Inbox:
    """The messages of one connection, one of which may be kept: a buffer was too small for it."""

    def __init__(self, connection: VsockMessageConnection) -> None:
        self._connection = connection
        self._kept: VsockMessage | None = None

    def take(self) -> VsockMessage | None:
        kept, self._kept = self._kept, None
        return self._connection.receive() if kept is None else kept

    def take_into(self, view: memoryview) -> int | None:
        """The length of the next message, which is then in `view`; BufferTooSmall, and it is kept."""
        message = self.take()
        if message is None:
            return None
        length = len(message.data)
        if length > len(view):
            self._kept = message
            raise BufferTooSmall(
                f"{self._connection}: the message has {length} bytes, the buffer {len(view)}",
                needed=length,
                value=len(view),
            )
        view[:length] = message.data
        return length
