"""Channels for asyncio: a call lets other tasks run until it is done, its time is over, or a side closes.

They make the same attempts and walk the same tables as the blocking channels; here stands only how a
task sleeps and how tasks take turns.

The tasks of a direction stand in a line.  The first has the turn: it alone touches the ring, also while
it sleeps, so that a large packet is not overtaken for ever by small ones.

Cancellation.  A task is suspended only where it holds nothing: never between an attempt that succeeded
and the return of its result.  So a cancelled call has done nothing, or (`send_many`, and `send` of
bytes) a part, of which each packet is whole; `timeout` instead of cancellation tells how much.  Nobody
needs to be handed the wake-up of a task that was cancelled: every call looks before it sleeps, and no
other task runs between that look and the sleep.

A channel belongs to the event loop that runs when it is first used, and to that loop's thread.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import TypeVar

from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut, VmbusError
from vmbus.memory import Buffer, view_bytes
from vmbus.pipe import CHUNK_SIZE
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, Packet

from .common import Channel
from .direction import Clock, Deadline, Direction, Ready
from .kinds import ByteKind, MessageKind, PacketKind
from .readiness import GO_ON, NOT_YET, GoOn
from .signal import Signal
from .works import Parts

__all__ = ["CALLS_PER_PAUSE", "AsyncByteChannel", "AsyncChannel", "AsyncMessageChannel", "AsyncPacketChannel"]

Result = TypeVar("Result")
Asynchronous = TypeVar("Asynchronous", bound="AsyncChannel")

#: A channel whose calls never have to wait lets other tasks run before every so many of them.
#: A pause costs as much as two calls that need not wait (5 and 2.7 us where this was measured): at 64
#: that is 3 % of their time, and other tasks have their turn every 0.2 ms.
CALLS_PER_PAUSE = 64


class Later(Enum):
    LATER = "the attempt must wait, and nothing was published"


LATER = Later.LATER


class Place:
    """The place of one task in a line, where it can sleep and be woken.

    ready   as in Direction.look
    """

    __slots__ = ("_asleep", "ready")

    def __init__(self, ready: Ready) -> None:
        self.ready = ready
        self._asleep: Future[None] | None = None

    async def sleep(self, loop: AbstractEventLoop, timeout: float | None) -> None:
        """Until `wake`, or `timeout` seconds."""
        self._asleep = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self.wake)
        try:
            await self._asleep
        finally:
            self._asleep = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        asleep = self._asleep
        if asleep is not None and not asleep.done() and not asleep.get_loop().is_closed():
            asleep.set_result(None)


class AsyncWaiters:
    """The tasks of one side that wait for its signal: the first of each line.

    The loop watches the signal's descriptor from the first wait on.  Each signal wakes them all.
    """

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._loop: AbstractEventLoop | None = None
        self._watched: int | None = None
        self._places: set[Place] = set()
        self._failure: Exception | None = None
        self._calls = 0

    def loop(self) -> AbstractEventLoop:
        """The loop of this channel, which is the running one."""
        running = asyncio.get_running_loop()
        if self._loop is not running:
            if self._loop is not None:
                raise CallerError(
                    f"this channel belongs to the event loop it was first used in, {self._loop!r}, "
                    f"and was called in {running!r}",
                    argument="loop",
                    value=running,
                    limit=self._loop,
                )
            self._loop = running
        return running

    async def wait(self, place: Place, timeout: float | None) -> None:
        """Sleep until the next signal; may return for nothing."""
        self.watch()
        loop = self.loop()
        self._calls = 0
        self._places.add(place)
        try:
            await place.sleep(loop, timeout)
        finally:
            self._places.discard(place)
        if self._failure is not None:
            raise self._failure

    def watch(self) -> None:
        """Have the loop look at the signal from now on."""
        if self._failure is not None:
            raise self._failure
        if self._watched is None:
            descriptor = self._signal.fileno()
            self.loop().add_reader(descriptor, self._take_signal)
            self._watched = descriptor

    def is_pause_due(self) -> bool:
        """Counts a call that does not wait: True for every so many."""
        self._calls += 1
        return self._calls >= CALLS_PER_PAUSE

    async def pause(self) -> None:
        """Let every task run that can."""
        self._calls = 0
        await asyncio.sleep(0)

    def wake(self) -> None:
        """End all waits."""
        for place in self._places:
            place.wake()

    def close(self) -> None:
        """End all waits; the signal is not watched any more."""
        self._unwatch()
        self.wake()

    def _take_signal(self) -> None:
        try:
            self._signal.wait(0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tasks that wait get it
            # Unwatched: a descriptor that stays readable would call here for ever.
            self._failure = error
            self._unwatch()
        else:
            if self._signal.peer_closed:
                self._unwatch()  # there will be no other signal, and this one never goes away
        self.wake()

    def _unwatch(self) -> None:
        if self._watched is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._watched)
            self._watched = None


class AsyncDirection(Direction):
    """One direction, for tasks.  While one spins, all others run between two of its looks."""

    def __init__(
        self,
        ring: IncomingRing | OutgoingRing,
        signal: Signal,
        waiters: AsyncWaiters,
        *,
        role: str,
        spin: float,
        clock: Clock,
    ) -> None:
        super().__init__(ring, signal, role=role, spin=spin, clock=clock)
        self._waiters = waiters
        self._line: deque[Place] = deque()

    async def run(
        self, attempt: Callable[[], Result | GoOn], timeout: float | None, ready: Ready = None
    ) -> Result:
        """As BlockingDirection.run.

        Who need not be suspended does not stand in line: nobody else can come meanwhile.
        """
        deadline = None if timeout is None else self.deadline(timeout)
        self._waiters.loop()
        if not self._line and not self._waiters.is_pause_due():
            result = self.first_try(attempt)
            if result is not NOT_YET and result is not GO_ON:
                return result
        place = self._stand_in_line(ready)
        try:
            await self._wait_for_turn(place, timeout, deadline)
            return await self._wait(place, attempt, timeout, deadline)
        finally:
            self._leave_line(place)

    async def run_parts(self, parts: Parts, timeout: float | None) -> None:
        """As BlockingDirection.run_parts."""
        try:
            await self.run(parts.send_next, timeout)
        except (TimedOut, PeerClosed, ChannelClosed) as error:
            error.done = parts.done
            raise

    async def _wait(
        self,
        place: Place,
        attempt: Callable[[], Result | GoOn],
        timeout: float | None,
        deadline: Deadline,
    ) -> Result:
        """As BlockingDirection._wait: the turn is this task's, or `ready` says that it needs none."""
        if self._spin and self.readiness.refused is attempt:
            await self._spin_until_moved(place, deadline)
            self.readiness.refused = None
        if not self.closed:
            self.readiness.begin()
        over = None
        while True:
            result = self.look(attempt, place.ready, over)
            if result is NOT_YET:
                self._call_ready()
                await self._waiters.wait(place, self.remaining(deadline))
            elif result is GO_ON:
                if self._waiters.is_pause_due():
                    self._call_ready()
                    await self._waiters.pause()
            else:
                return result
            over = timeout if self.is_over(deadline) else None

    # -- the line ----------------------------------------------------------------------------

    def _stand_in_line(self, ready: Ready) -> Place:
        place = Place(ready)
        self._line.append(place)
        return place

    async def _wait_for_turn(self, place: Place, timeout: float | None, deadline: Deadline) -> None:
        if self._waiters.is_pause_due():
            await self._waiters.pause()
        ready = place.ready
        while self._line[0] is not place and not self.closed and not (ready is not None and ready()):
            if self.is_over(deadline):
                self.refuse_turn(timeout)
            await place.sleep(self._waiters.loop(), self.remaining(deadline))

    def _leave_line(self, place: Place) -> None:
        self._line.remove(place)
        if self._line:
            self._line[0].wake()  # who calls the others before it sleeps

    def _call_ready(self) -> None:
        """Wake those whose result another task may have brought."""
        for place in self._line:
            if place.ready is not None and place.ready():
                place.wake()

    async def _spin_until_moved(self, place: Place, deadline: Deadline) -> None:
        """As BlockingDirection._spin_until_moved; the loop looks at the signal."""
        self._waiters.watch()
        self._call_ready()
        until = self._clock() + self._spin
        ready = place.ready
        while not (self.closed or self.ring.peer_has_moved() or self.signal.peer_closed):
            if self._clock() >= until or self.is_over(deadline) or (ready is not None and ready()):
                break
            await self._waiters.pause()

    def make_ready(self) -> None:
        """Something else than a packet may have made calls ready: let them look."""
        self._waiters.wake()
        self._call_ready()

    def close(self) -> None:
        """End every wait; afterwards nobody touches the ring any more."""
        super().close()
        for place in self._line:
            place.wake()


class AsyncChannel(Channel):
    """What the three kinds of asyncio channel share: their directions, and how they close.

    See Channel for the arguments, but for two.

    signal   must have a descriptor
    spin     while a task spins all others run between two of its looks; the loop never sleeps then

    `async with` closes the channel at the end.
    """

    needs_descriptor = True

    _receiving: AsyncDirection
    _sending: AsyncDirection

    def _make_directions(self, clock: Clock) -> tuple[AsyncDirection, AsyncDirection]:
        self.signal.fileno()  # raises where there is none, now rather than at the first wait
        self._waiters = AsyncWaiters(self.signal)
        receiving, sending = (
            AsyncDirection(ring, self.signal, self._waiters, role=self.role, spin=self.spin, clock=clock)
            for ring in (self.incoming, self.outgoing)
        )
        return receiving, sending

    def close(self) -> None:
        """Close this side; again is harmless.

        Every task that waits here ends with ChannelClosed.  The other side can still receive all
        that was sent, and then gets PeerClosed.  Nothing is written and nothing waited for.

        In the loop's thread, or when the loop has ended.
        """
        if self.closed:
            return
        self.closed = True
        self._receiving.close()
        self._sending.close()
        self._waiters.close()
        self._finish_closing()

    async def __aenter__(self: Asynchronous) -> Asynchronous:  # noqa: PYI019 - Self came with Python 3.11
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncPacketChannel(PacketKind, AsyncChannel):
    """A channel of packets of all kinds, with requests and their completions, for asyncio.

    See AsyncChannel for the arguments, and PacketKind for those of this kind.  `async for` gives
    packets as they come, until either side closes.
    """

    # -- sending -----------------------------------------------------------------------------

    async def send(
        self,
        payload: Buffer,
        transaction_id: int = 0,
        completion_requested: bool = False,
        timeout: float | None = None,
    ) -> None:
        """As PacketChannel.send."""
        work = self._work
        if completion_requested:
            work.transactions.check_unused(transaction_id)
        await self._sending.run(lambda: work.send(payload, transaction_id, completion_requested), timeout)

    async def send_packet(
        self, packet: OutgoingPacket, payload: Buffer = b"", timeout: float | None = None
    ) -> None:
        """As PacketChannel.send_packet."""
        await self._sending.run(lambda: self._work.send_packet(packet, payload), timeout)

    async def send_many(self, payloads: Iterable[Buffer], timeout: float | None = None) -> None:
        """As PacketChannel.send_many.  Cancelled, it has sent some from the first on, or none."""
        await self._sending.run_parts(self._work.sends(payloads), timeout)

    async def complete(
        self, transaction_id: int, payload: Buffer = b"", timeout: float | None = None
    ) -> None:
        """As PacketChannel.complete."""
        size = len(view_bytes(payload, "payload"))
        packet = OutgoingPacket.completion(size, transaction_id=transaction_id)
        await self.send_packet(packet, payload, timeout)

    # -- receiving ---------------------------------------------------------------------------

    async def receive(self, timeout: float | None = None) -> Packet:
        """As PacketChannel.receive."""
        return await self._receiving.run(self._work.receive, timeout, self._work.has_kept)

    async def receive_many(self, limit: int | None = None, timeout: float | None = None) -> list[Packet]:
        """As PacketChannel.receive_many."""
        work = self._work
        return await self._receiving.run(lambda: work.receive_many(limit), timeout, work.has_kept)

    async def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """As PacketChannel.receive_into."""
        work = self._work
        return await self._receiving.run(lambda: work.receive_into(buffer), timeout, work.has_kept)

    def __aiter__(self) -> AsyncPacketChannel:
        return self

    async def __anext__(self) -> Packet:
        try:
            return await self.receive()
        except (ChannelClosed, PeerClosed):
            raise StopAsyncIteration from None

    # -- requests ----------------------------------------------------------------------------

    async def request(
        self, payload: Buffer, timeout: float | None = None, *, packet: OutgoingPacket | None = None
    ) -> Packet:
        """As PacketChannel.request.  A request that is cancelled is given up."""
        work = self._work
        receiving = self._receiving
        deadline = receiving.deadline(timeout)
        if packet is None:
            packet = OutgoingPacket.in_band(len(view_bytes(payload, "payload")), completion_requested=True)
        transaction = await receiving.run(work.begin, timeout, work.transactions.has_room)
        outgoing = packet._replace(transaction_id=transaction.id)
        try:
            await self._sending.run(
                lambda: work.send_packet(outgoing, payload), receiving.remaining(deadline)
            )
        except (VmbusError, CancelledError):
            work.transactions.forget(transaction)  # nothing was sent
            receiving.make_ready()  # one may wait for its place
            raise
        try:
            return await receiving.run(
                lambda: work.answer(transaction), receiving.remaining(deadline), transaction.answered
            )
        finally:
            transaction.given_up = True


class AsyncMessageChannel(MessageKind, AsyncChannel):
    """A channel of messages, each with its exact length, for asyncio.

    See AsyncChannel for the arguments, and MessageKind for those of this kind.  `async for` gives
    messages as they come, until either side closes.
    """

    async def send(self, *buffers: Buffer, timeout: float | None = None) -> None:
        """As MessageChannel.send."""
        await self._sending.run(lambda: self._work.send(buffers), timeout)

    async def receive(self, timeout: float | None = None) -> bytes:
        """As MessageChannel.receive."""
        return await self._receiving.run(self._work.receive, timeout)

    async def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """As MessageChannel.receive_into."""
        return await self._receiving.run(lambda: self._work.receive_into(buffer), timeout)

    def __aiter__(self) -> AsyncMessageChannel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except (ChannelClosed, PeerClosed):
            raise StopAsyncIteration from None


class AsyncByteChannel(ByteKind, AsyncChannel):
    """A channel of two byte streams, one each way, for asyncio.

    See AsyncChannel for the arguments, and ByteChannel for the ends of the streams.  `async for`
    gives bytes as they come, until the end of the stream.  `open_streams` makes an
    asyncio.StreamReader and an asyncio.StreamWriter of it.
    """

    async def send(self, data: Buffer, timeout: float | None = None) -> None:
        """As ByteChannel.send.  Cancelled, it has sent some bytes from the first on, or none."""
        await self._sending.run_parts(self._work.sends(data), timeout)

    async def send_end(self, timeout: float | None = None) -> None:
        """As ByteChannel.send_end."""
        await self._sending.run(self._work.send_end, timeout)

    async def receive(self, limit: int = CHUNK_SIZE, timeout: float | None = None) -> bytes:
        """As ByteChannel.receive."""
        work = self._work
        return await self._receiving.run(lambda: work.receive(limit), timeout, work.has_ended)

    async def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """As ByteChannel.receive_into."""
        view = view_bytes(buffer, "buffer", writable=True)
        data = await self.receive(len(view), timeout)
        view[: len(data)] = data
        return len(data)

    def __aiter__(self) -> AsyncByteChannel:
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive()
        if not data:
            raise StopAsyncIteration
        return data
