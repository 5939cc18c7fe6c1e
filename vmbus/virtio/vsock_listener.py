"""Vsock connections that wait to be accepted.

Source: OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from vmbus.errors import ChannelClosed

from .vsock_kinds import AnyConnection
from .vsock_layout import VsockType
from .vsock_table import VsockState

__all__ = ["VsockListenerQueue"]


class VsockListenerHome(Protocol):
    """What a listener needs of the endpoint that it belongs to."""

    def check_alive(self) -> None:
        """Raise what has ended all connections for good."""
        ...

    def stop_listening(self, listener: VsockListenerQueue) -> None:
        """The listener is closed: its port is free again."""
        ...


class VsockListenerQueue:
    """The connections to one port that wait to be accepted.

    port      where
    kind      VsockType.STREAM or VsockType.SEQPACKET
    backlog   how many may wait; who comes after that is refused
    """

    def __init__(self, home: VsockListenerHome, port: int, kind: VsockType, backlog: int) -> None:
        self.port = port
        self.kind = kind
        self.backlog = backlog
        self.closed = False
        self._home = home
        self._waiting: deque[AnyConnection] = deque()

    @property
    def has_room(self) -> bool:
        """Whether one more may wait; those that are gone again do not count."""
        if len(self._waiting) >= self.backlog:
            self._waiting = deque(one for one in self._waiting if is_worth_accepting(one))
        return len(self._waiting) < self.backlog

    def accept(self) -> AnyConnection | None:
        """The connection that has waited longest; None when there is none.

        Raises ChannelClosed when the listener is closed.
        """
        if self.closed:
            raise ChannelClosed(
                f"nobody listens on port {self.port} any more: this side has closed the listener"
            )
        while self._waiting:
            connection = self._waiting.popleft()
            if is_worth_accepting(connection):
                return connection
        self._home.check_alive()
        return None

    def add(self, connection: AnyConnection) -> None:
        """Let one more wait."""
        self._waiting.append(connection)

    def close(self) -> None:
        """Listen no more; who waits to be accepted is reset."""
        if not self.closed:
            self.closed = True
            self._home.stop_listening(self)
            while self._waiting:
                self._waiting.popleft().reset(None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self._waiting)} of {self.backlog} waiting"
        return f"<VsockListenerQueue: port {self.port}, {self.kind.label}, {state}>"


def is_worth_accepting(connection: AnyConnection) -> bool:
    """Whether there is anything that can still be done with it."""
    return connection.state is not VsockState.CLOSED or connection.has_received
