"""What all vsock sockets have in common, for threads and for asyncio: nothing of it waits.

Source: vsock(7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from vmbus.errors import ChannelClosed
from vmbus.virtio import VsockAddress, VsockConnection, VsockShutdown, VsockState

__all__ = ["NOTHING_CAME", "NOT_TAKEN", "RECEIVE_SIZE", "Acts", "SocketBase"]

Result = TypeVar("Result")

#: Bytes that a receive takes at most, unless told.
RECEIVE_SIZE = 65536

# What did not happen in time.
NOTHING_CAME = "nothing has come"
NOT_TAKEN = "the other side has not taken it all"


class Acts(Protocol):
    """What every socket needs of its link."""

    def act(self, action: Callable[[], Result]) -> Result:
        """Do what never waits, and tell the other side."""
        ...

    def wake(self) -> None:
        """Let all who wait look again."""
        ...


Link = TypeVar("Link", bound=Acts)


class SocketBase(Generic[Link]):
    """One connection, without what waits."""

    def __init__(self, link: Link, connection: VsockConnection) -> None:
        self._link = link
        self._core = connection

    @property
    def local(self) -> VsockAddress:
        """This side's CID and port."""
        return self._core.local

    @property
    def peer(self) -> VsockAddress:
        """The other side's."""
        return self._core.peer

    @property
    def state(self) -> VsockState:
        """Where the connection stands, as far as this side has looked."""
        return self._core.state

    @property
    def buffer_size(self) -> int:
        """Bytes of the receive buffer; may be set, and the other side is told."""
        return self._core.receiving.buf_alloc

    @buffer_size.setter
    def buffer_size(self, size: int) -> None:
        self._link.act(lambda: self._core.set_buffer_size(size))

    def shutdown(self, what: int = VsockShutdown.SEND | VsockShutdown.RECEIVE) -> None:
        """Say what this side will not do any more; never waits.  Both close the connection."""
        self._link.act(lambda: self._core.shutdown(what))
        self._link.wake()

    def close(self) -> None:
        """Close the connection; again is harmless, and never waits.

        The other side can still receive what was sent, and then comes the end of the stream, as with any
        socket (and unlike a channel's): `reset` is for what is not whole.  What has come and was not
        received is lost.
        """
        self.shutdown()

    def reset(self) -> None:
        """Break the connection off: the other side gets PeerClosed, not the end of a stream; never waits."""
        error = ChannelClosed(f"{self._core}: this side has broken the connection off")
        self._link.act(lambda: self._core.reset(error))
        self._link.wake()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.local} - {self.peer}, {self.state.value}>"
