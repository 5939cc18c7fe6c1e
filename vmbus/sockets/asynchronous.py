"""Vsock for asyncio: the links, sockets and listeners of `link` and `vsock`, for tasks.

They make the same attempts over the same steps; here stands only how a task sleeps.

Cancellation.  A task is suspended only where it holds nothing: never between an attempt that succeeded
and the return of its result.  So a cancelled call has done nothing, or, where it sends bytes, a part of
them; `timeout` instead of cancellation tells how many.

A link belongs to the event loop that runs when it is first used, and to that loop's thread.  Timeouts are
in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from operator import index
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar, final

from vmbus.channel import LONGEST_SLEEP, AsyncWaiters, Place, Signal, check_seconds
from vmbus.errors import ChannelClosed, PeerClosed, PeerError, TimedOut
from vmbus.memory import Buffer, view_bytes
from vmbus.virtio import (
    ANY_PORT,
    VsockConnection,
    VsockEndpoint,
    VsockListenerQueue,
    VsockMessage,
    VsockMessageConnection,
    VsockShutdown,
    VsockStreamConnection,
    VsockType,
)

from .attempts import (
    Inbox,
    SendBytes,
    Turn,
    connecting,
    give_up_connecting,
    has_told,
    is_connected,
    listening,
    nothing,
    send_message,
)
from .socket_base import NOT_TAKEN, NOTHING_CAME, RECEIVE_SIZE, SocketBase
from .steps import (
    ABANDONED,
    FLUSH_TIMEOUT,
    REMIND_AFTER,
    Attempt,
    Later,
    LinkSteps,
    Remind,
    of_this_process,
)

__all__ = ["AsyncVsockLink", "AsyncVsockListener", "AsyncVsockMessages", "AsyncVsockStream"]

Result = TypeVar("Result")
Socket = TypeVar("Socket", bound="AsyncVsockSocket")


@final
class AsyncVsockLink:
    """One side of a vsock device, for tasks; `async with` closes it.

    endpoint   its connections, over the queues
    signal     this side's end of the signals, which must have a descriptor
    on_close   called once, when the link is closed

    Requests, credit and resets are answered while some call of this side waits; `serve` is for a task
    that always does.
    """

    def __init__(
        self, endpoint: VsockEndpoint, signal: Signal, *, on_close: Callable[[], object] | None = None
    ) -> None:
        signal.fileno()  # raises where there is none, now rather than at the first wait
        self.endpoint = endpoint
        self.signal = signal
        self._on_close = on_close
        self._steps = LinkSteps(endpoint, signal)
        self._waiters = AsyncWaiters(signal)
        self._sleepers = 0
        of_this_process.add(self)

    # -- connections -------------------------------------------------------------------------

    def listen(self, port: int = ANY_PORT, *, backlog: int = 128) -> AsyncVsockListener[AsyncVsockStream]:
        """As VsockLink.listen."""
        queue = self.act(listening(self.endpoint, port, VsockType.STREAM, backlog))
        return AsyncVsockListener(self, queue, AsyncVsockStream)

    def listen_messages(
        self, port: int = ANY_PORT, *, backlog: int = 128
    ) -> AsyncVsockListener[AsyncVsockMessages]:
        """As VsockLink.listen_messages."""
        queue = self.act(listening(self.endpoint, port, VsockType.SEQPACKET, backlog))
        return AsyncVsockListener(self, queue, AsyncVsockMessages)

    async def connect(
        self, port: int, cid: int | None = None, *, local_port: int = ANY_PORT, timeout: float | None = None
    ) -> AsyncVsockStream:
        """As VsockLink.connect."""
        connection = await self._connect(port, cid, VsockType.STREAM, local_port, timeout)
        assert isinstance(connection, VsockStreamConnection)
        return AsyncVsockStream(self, connection)

    async def connect_messages(
        self, port: int, cid: int | None = None, *, local_port: int = ANY_PORT, timeout: float | None = None
    ) -> AsyncVsockMessages:
        """As VsockLink.connect_messages."""
        connection = await self._connect(port, cid, VsockType.SEQPACKET, local_port, timeout)
        assert isinstance(connection, VsockMessageConnection)
        return AsyncVsockMessages(self, connection)

    async def _connect(
        self, port: int, cid: int | None, kind: VsockType, local_port: int, timeout: float | None
    ) -> VsockConnection:
        check_seconds(0 if timeout is None else timeout)
        connection = self.act(connecting(self.endpoint, port, cid, kind, local_port))
        try:
            await self.run(partial(is_connected, connection), timeout, f"{connection}: no answer")
        except BaseException:
            self.act(partial(give_up_connecting, connection))
            raise
        return connection

    async def serve(self, timeout: float | None = None) -> None:
        """Answer the other side until either closes, or for `timeout` seconds: for a task of its own."""
        with suppress(ChannelClosed, PeerClosed, TimedOut):
            await self.run(nothing, timeout, "")

    # -- waiting -----------------------------------------------------------------------------

    async def run(
        self, attempt: Attempt[Result], timeout: float | None, what: str, remind: Remind = None
    ) -> Result:
        """As VsockLink.run."""
        waiters = self._waiters
        waiters.loop()
        if waiters.is_pause_due():  # before the attempt: a result is never held while others run
            await waiters.pause()
        result = self._steps.first_try(attempt)
        if self._steps.moved:
            self._wake_others()
        return await self._wait(attempt, timeout, what, remind) if result is None else result

    async def _wait(
        self, attempt: Attempt[Result], timeout: float | None, what: str, remind: Remind
    ) -> Result:
        deadline = None if timeout is None else monotonic() + check_seconds(timeout)
        place = Place(None)
        reminder = monotonic() + REMIND_AFTER
        while True:
            # Looked at before the step: what comes within the time counts.
            left = None if deadline is None else deadline - monotonic()
            result = self._steps.step(attempt)
            if self._steps.moved:
                self._wake_others()
            if not isinstance(result, Later):
                return result
            if left is not None and left <= 0:
                raise TimedOut(f"{what} within {timeout:.3g} s")
            if result is Later.SLEEP:
                must_look = remind is not None or self.endpoint.is_closing
                longest = REMIND_AFTER if must_look else LONGEST_SLEEP
                await self._sleep(place, longest if left is None else min(left, longest))
                if remind is not None and monotonic() >= reminder:
                    self.act(remind)
                    reminder = monotonic() + REMIND_AFTER
            elif self._waiters.is_pause_due():
                await self._waiters.pause()

    async def _sleep(self, place: Place, timeout: float) -> None:
        self._sleepers += 1
        try:
            await self._waiters.wait(place, timeout)
        finally:
            self._sleepers -= 1
            if not self._sleepers and not self._steps.closed:
                self._steps.carrier.stay_awake()

    def act(self, action: Callable[[], Result]) -> Result:
        """Do what never waits to the endpoint or one of its connections, and tell the other side."""
        try:
            return self._steps.act(action)
        finally:
            if self._steps.moved:
                self._wake_others()

    def wake(self) -> None:
        """Let all who wait look again."""
        self._waiters.wake()

    def _wake_others(self) -> None:
        self._steps.moved = False
        self._waiters.wake()

    # -- the end -----------------------------------------------------------------------------

    async def close(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """As VsockLink.close; cancelled, it closes at once."""
        check_seconds(timeout)
        if self._steps.closed:
            return
        try:
            self.act(self.endpoint.close)
            self.wake()  # whose connections are closed
            with suppress(TimedOut, PeerClosed, ChannelClosed, PeerError):  # nobody takes it
                await self.run(self._is_flushed, timeout, "the other side makes no room")
        finally:
            self._finish_closing()

    def _is_flushed(self) -> bool | None:
        return True if self.endpoint.flush() else None

    def _finish_closing(self) -> None:
        if not self._steps.closed:
            self._steps.close()
            self._waiters.close()
            self.signal.close()
            if self._on_close is not None:
                self._on_close()

    def abandon(self) -> None:
        """As VsockLink.abandon."""
        self._steps.close(ABANDONED)

    async def __aenter__(self) -> AsyncVsockLink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncVsockLink: {'closed' if self._steps.closed else repr(self.endpoint)}>"


class AsyncVsockSocket(SocketBase[AsyncVsockLink]):
    """One connection; made by a link or a listener.  `async with` ends it as `with` ends a VsockSocket."""

    async def send_end(self, timeout: float | None = None) -> None:
        """As VsockSocket.send_end."""
        self.shutdown(VsockShutdown.SEND)
        if self._core.is_owing:
            await self._link.run(partial(has_told, self._core), timeout, NOT_TAKEN)

    async def __aenter__(self: Socket) -> Socket:  # noqa: PYI019 - Self came with Python 3.11
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.reset()


class AsyncVsockStream(AsyncVsockSocket):
    """As VsockStream, for tasks."""

    def __init__(self, link: AsyncVsockLink, connection: VsockStreamConnection) -> None:
        super().__init__(link, connection)
        self._connection = connection
        self._turn = Turn()

    async def send(self, data: Buffer, timeout: float | None = None) -> None:
        """As VsockStream.send."""
        sending = SendBytes(self._connection, self._turn, view_bytes(data, "data"))
        try:
            await self._link.run(sending.attempt, timeout, NOT_TAKEN, sending.remind)
        except BaseException as error:
            self._link.act(sending.give_up)
            if isinstance(error, (TimedOut, PeerClosed, ChannelClosed)):
                error.done = sending.done
            raise
        finally:
            if sending.must_wake:
                self._link.wake()

    async def receive(self, limit: int = RECEIVE_SIZE, timeout: float | None = None) -> bytes:
        """As VsockStream.receive."""
        return await self._link.run(partial(self._connection.receive, index(limit)), timeout, NOTHING_CAME)

    async def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """As VsockStream.receive_into."""
        view = view_bytes(buffer, "buffer", writable=True)
        data = await self.receive(len(view), timeout)
        view[: len(data)] = data
        return len(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Bytes as they come, until the end of the stream."""
        while data := await self.receive():
            yield data


class AsyncVsockMessages(AsyncVsockSocket):
    """As VsockMessages, for tasks."""

    def __init__(self, link: AsyncVsockLink, connection: VsockMessageConnection) -> None:
        super().__init__(link, connection)
        self._connection = connection
        self._inbox = Inbox(connection)

    async def send(self, data: Buffer, *, end_of_record: bool = False, timeout: float | None = None) -> None:
        """As VsockMessages.send."""
        attempt = partial(send_message, self._connection, view_bytes(data, "data"), end_of_record)
        await self._link.run(attempt, timeout, NOT_TAKEN, self._connection.ask_for_credit)

    async def receive(self, timeout: float | None = None) -> bytes:
        """As VsockMessages.receive."""
        return (await self.receive_message(timeout)).data

    async def receive_message(self, timeout: float | None = None) -> VsockMessage:
        """As VsockMessages.receive_message."""
        return await self._link.run(self._inbox.take, timeout, NOTHING_CAME)

    async def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """As VsockMessages.receive_into."""
        view = view_bytes(buffer, "buffer", writable=True)
        return await self._link.run(partial(self._inbox.take_into, view), timeout, NOTHING_CAME)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages as they come, until either side closes."""
        with suppress(ChannelClosed, PeerClosed):
            while True:
                yield await self.receive()


class AsyncVsockListener(Generic[Socket]):
    """As VsockListener, for tasks."""

    def __init__(
        self, link: AsyncVsockLink, queue: VsockListenerQueue, make: Callable[[AsyncVsockLink, Any], Socket]
    ) -> None:
        self._link = link
        self._queue = queue
        self._make = make

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._queue.port

    async def accept(self, timeout: float | None = None) -> Socket:
        """The next connection."""
        connection = await self._link.run(self._queue.accept, timeout, f"nobody has come to port {self.port}")
        return self._make(self._link, connection)

    async def __aiter__(self) -> AsyncIterator[Socket]:
        """Connections as they come, until either side closes."""
        with suppress(ChannelClosed, PeerClosed):
            while True:
                yield await self.accept()

    def close(self) -> None:
        """Listen no more; who waits to be accepted is reset."""
        self._link.act(self._queue.close)
        self._link.wake()

    async def __aenter__(self) -> AsyncVsockListener[Socket]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AsyncVsockListener: {self._queue!r}>"
