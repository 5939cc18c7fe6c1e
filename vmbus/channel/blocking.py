"""Channels for threads: a call sleeps until it is done, its time is over, or a side closes.

Each direction has one lock, which guards its ring and is never held by a thread that sleeps.  A
thread that must sleep keeps its turn meanwhile: whoever comes after it waits behind it, so that a
large packet is not overtaken for ever by small ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from vmbus.errors import ChannelClosed, PeerClosed, TimedOut, VmbusError
from vmbus.memory import Buffer, view_bytes
from vmbus.pipe import CHUNK_SIZE
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, Packet

from .common import Channel
from .direction import Clock, Deadline, Direction, Ready
from .kinds import ByteKind, MessageKind, PacketKind
from .readiness import GO_ON, NOT_YET, GoOn
from .signal import Signal
from .streams import ChannelFile
from .waiting import LONGEST_NAP, SignalWaiters
from .works import Parts

__all__ = ["BlockingChannel", "ByteChannel", "MessageChannel", "PacketChannel"]

Result = TypeVar("Result")
Blocking = TypeVar("Blocking", bound="BlockingChannel")

#: Seconds between two looks at the signal of a thread that spins.
SIGNAL_EVERY = 0.001


class Call:
    """A call that could not be done at once.

    timeout, deadline   the seconds that it had, and when they are over
    ready               as in Direction.look
    slept               whether it has waited for the signal
    """

    __slots__ = ("deadline", "ready", "slept", "thread", "timeout")

    def __init__(self, timeout: float | None, deadline: Deadline, ready: Ready) -> None:
        self.timeout = timeout
        self.deadline = deadline
        self.ready = ready
        self.slept = False
        self.thread = threading.get_ident()


class BlockingDirection(Direction):
    """One direction, for threads."""

    def __init__(
        self,
        ring: IncomingRing | OutgoingRing,
        signal: Signal,
        waiters: SignalWaiters,
        *,
        role: str,
        spin: float,
        clock: Clock,
    ) -> None:
        super().__init__(ring, signal, role=role, spin=spin, clock=clock)
        self.lock = threading.Lock()
        self.other = self
        self._waiters = waiters
        self._turn = threading.Condition(self.lock)
        self._sleeper: Call | None = None
        self._followers = 0

    def run(self, attempt: Callable[[], Result | GoOn], timeout: float | None, ready: Ready = None) -> Result:
        """The attempt's result, as soon as it has one, within `timeout` seconds.

        ready   whether it has one already, which another thread may have brought
        """
        deadline = None if timeout is None else self.deadline(timeout)
        with self.lock:
            result = self.first_try(attempt)
        if result is not NOT_YET and result is not GO_ON:
            return result
        call = Call(timeout, deadline, ready)
        try:
            try:
                return self._wait(attempt, call)
            finally:
                self._end(call)
        finally:  # again, where an interrupt came in between
            if self._sleeper is call:
                self._end(call)

    def run_parts(self, parts: Parts, timeout: float | None) -> None:
        """All parts of a call, with nobody else's between them."""
        try:
            self.run(parts.send_next, timeout)
        except (TimedOut, PeerClosed, ChannelClosed) as error:
            error.done = parts.done
            raise

    def _wait(self, attempt: Callable[[], Result | GoOn], call: Call) -> Result:
        """As `run`, for a call that could not be done at once.

        The lock is held for each look and never while this thread sleeps or spins; `_sleeper` keeps
        the turn meanwhile.
        """
        if self._spin and self.readiness.refused is attempt:
            self._spin_until_moved(call)
        self._begin(call)
        over = None
        while True:
            with self.lock:
                wakes = self._waiters.wakes  # before the look, or a signal after it is slept over
                result = self.look(attempt, call.ready, over)
                if result is NOT_YET:
                    self._sleeper = call
                elif result is GO_ON:
                    self._call_followers()
            if result is NOT_YET:
                call.slept = True
                self._waiters.wait(wakes, self.remaining(call.deadline))
            elif result is not GO_ON:
                return result
            over = call.timeout if self.is_over(call.deadline) else None

    def _begin(self, call: Call) -> None:
        """Take the turn, or find that this call needs none."""
        with self.lock:
            while not self._take_turn(call):
                if self.is_over(call.deadline):
                    self.refuse_turn(call.timeout)
                left = self.remaining(call.deadline)
                self._followers += 1
                self._turn.wait(LONGEST_NAP if left is None else min(left, LONGEST_NAP))
                self._followers -= 1
            if not self.closed:
                self.readiness.begin()

    def _take_turn(self, call: Call) -> bool:
        sleeper = self._sleeper
        # One of this very thread is left from a call that an interrupt has ended.
        if sleeper is None or sleeper is call or sleeper.thread == call.thread:
            self._sleeper = call
            return True
        return self.closed or (call.ready is not None and call.ready())

    def _end(self, call: Call) -> None:
        """Give the turn back, and wake whoever may have waited for this call or its signals."""
        with self.lock:
            if self._sleeper is call:
                self._sleeper = None
            self._call_followers()
            if call.slept and self.other.is_published():
                self.signal.wake()  # whoever polls the descriptor for the other direction is owed one

    def _spin_until_moved(self, call: Call) -> None:
        """Look for the other side's next move, again and again, as long as `spin` and time allow."""
        with self.lock:
            if self._sleeper is None:
                self._sleeper = call
        now = look_at_signal = self._clock()
        until = now + self._spin if call.deadline is None else min(now + self._spin, call.deadline)
        while now < until and not self.signal.peer_closed:
            with self.lock:  # behind which `close` takes the memory away
                if self.closed or self.ring.peer_has_moved():
                    break
            if call.ready is not None and call.ready():
                break
            if now >= look_at_signal:  # which alone tells that the other side has closed
                self._waiters.wait(self._waiters.wakes, 0)
                look_at_signal = now + SIGNAL_EVERY
            now = self._clock()
        self.readiness.refused = None  # try again

    def is_published(self) -> bool:
        """True when a signal may be waited for: a call of this direction was given up, or sleeps."""
        return self.readiness.state is not self.rest and not self.closed

    def look_again(self) -> None:
        """Something else than a signal may have made a call ready that waits."""
        with self.lock:
            self._call_followers()
        self.signal.wake()

    def _call_followers(self) -> None:
        if self._followers:
            self._turn.notify_all()

    def abandon(self) -> None:
        super().abandon()
        self.lock = threading.Lock()  # whoever held it is not in this process
        self._turn = threading.Condition(self.lock)
        self._sleeper = None

    def close(self) -> None:
        """End every wait; afterwards nobody touches the ring any more."""
        with self.lock:
            super().close()
            self._turn.notify_all()


class BlockingChannel(Channel):
    """What the three kinds of blocking channel share: their directions, and how they close."""

    _receiving: BlockingDirection
    _sending: BlockingDirection

    def _make_directions(self, clock: Clock) -> tuple[BlockingDirection, BlockingDirection]:
        self._waiters = SignalWaiters(self.signal)
        self._closing = threading.RLock()  # held by `close`; a signal handler may come in between
        receiving, sending = (
            BlockingDirection(ring, self.signal, self._waiters, role=self.role, spin=self.spin, clock=clock)
            for ring in (self.incoming, self.outgoing)
        )
        receiving.other, sending.other = sending, receiving
        return receiving, sending

    def close(self) -> None:
        """Close this side; again is harmless.

        Every call that waits here ends with ChannelClosed, and none is in the channel any more when
        this returns.  The other side can still receive all that was sent, and then gets PeerClosed.
        Nothing is written, and nobody else is waited for.

        Not to be called from `trace`, and from a signal handler only when the call that it may have
        interrupted sleeps.
        """
        with self._closing:
            if not self.closed:
                self.closed = True
                self._receiving.close()
                self._sending.close()
                self._waiters.close(self._finish_closing)

    def __enter__(self: Blocking) -> Blocking:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PacketChannel(PacketKind, BlockingChannel):
    """A channel of packets of all kinds, with requests and their completions.

    See Channel for the arguments, and PacketKind for those of this kind.  Payloads come out with
    their length rounded up to a multiple of 8, as the ring knows them.

    >>> from vmbus.channel import connected_channels
    >>> guest, host = connected_channels()
    >>> guest.send(b"a question", transaction_id=7, completion_requested=True)
    >>> question = host.receive(timeout=1)
    >>> host.complete(question.transaction_id, b"answer")
    >>> guest.receive(timeout=1).payload
    b'answer\\x00\\x00'
    """

    # -- sending -----------------------------------------------------------------------------

    def send(
        self,
        payload: Buffer,
        transaction_id: int = 0,
        completion_requested: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send one in-band packet, as soon as there is room for it.

        Raises CallerError when it could never fit, or when the id is that of an outstanding request.
        """
        work = self._work
        if completion_requested:
            work.transactions.check_unused(transaction_id)
        self._sending.run(lambda: work.send(payload, transaction_id, completion_requested), timeout)

    def send_packet(
        self, packet: OutgoingPacket, payload: Buffer = b"", timeout: float | None = None
    ) -> None:
        """Send one packet of any type, as soon as there is room for it."""
        self._sending.run(lambda: self._work.send_packet(packet, payload), timeout)

    def send_many(self, payloads: Iterable[Buffer], timeout: float | None = None) -> None:
        """Send in-band packets, all of them, in as few commits as there is room for.

        Raises CallerError, before anything is sent, when one of those that go first could never fit.
        What ends the call early (TimedOut, PeerClosed, ChannelClosed) says in `done` how many were sent.
        """
        self._sending.run_parts(self._work.sends(payloads), timeout)

    def complete(self, transaction_id: int, payload: Buffer = b"", timeout: float | None = None) -> None:
        """Send the completion of the packet that came with that transaction id."""
        size = len(view_bytes(payload, "payload"))
        self.send_packet(OutgoingPacket.completion(size, transaction_id=transaction_id), payload, timeout)

    # -- receiving ---------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Packet:
        """The next packet that is not the completion of a request made here."""
        return self._receiving.run(self._work.receive, timeout, self._work.has_kept)

    def receive_many(self, limit: int | None = None, timeout: float | None = None) -> list[Packet]:
        """All packets that are there, or `limit` of them; waits for the first."""
        return self._receiving.run(lambda: self._work.receive_many(limit), timeout, self._work.has_kept)

    def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """The next packet's payload into `buffer`: its length.

        Raises BufferTooSmall, which names the length; the packet is then the next one still.
        """
        return self._receiving.run(lambda: self._work.receive_into(buffer), timeout, self._work.has_kept)

    def __iter__(self) -> Iterator[Packet]:
        """Packets as they come, until either side closes."""
        return until_closed(self.receive)

    # -- requests ----------------------------------------------------------------------------

    def request(
        self, payload: Buffer, timeout: float | None = None, *, packet: OutgoingPacket | None = None
    ) -> Packet:
        """Send a request and wait for its completion, which it returns.

        payload   of the request
        packet    what to send with that payload; in-band when it is not given.  Its transaction id
                  is replaced by a fresh one

        Packets that answer no request are kept, in order, for `receive`.  A request that is given up
        stays outstanding: its completion is dropped when it comes.  Raises CallerError when too many
        packets are kept (see PacketKind); the request then has been sent and is given up.
        """
        work = self._work
        receiving = self._receiving
        deadline = receiving.deadline(timeout)
        if packet is None:
            packet = OutgoingPacket.in_band(len(view_bytes(payload, "payload")), completion_requested=True)
        transaction = receiving.run(work.begin, timeout, work.transactions.has_room)
        outgoing = packet._replace(transaction_id=transaction.id)
        may_be_sent = False

        def send() -> None:
            nonlocal may_be_sent
            may_be_sent = True
            try:
                work.send_packet(outgoing, payload)
            except VmbusError:
                may_be_sent = False
                raise

        try:
            self._sending.run(send, receiving.remaining(deadline))
            return receiving.run(
                lambda: work.answer(transaction), receiving.remaining(deadline), transaction.answered
            )
        finally:
            transaction.given_up = True
            if not may_be_sent:
                work.transactions.forget(transaction)
                receiving.look_again()  # one may wait for its place
            elif work.inbox:
                self.signal.wake()  # whoever polls the descriptor sees that something is to be received


class MessageChannel(MessageKind, BlockingChannel):
    """A channel of messages, each with its exact length.

    See Channel for the arguments, and MessageKind for those of this kind.

    >>> from vmbus.channel import connected_channels
    >>> guest, host = connected_channels(kind=MessageChannel)
    >>> guest.send(b"one message ", b"in two buffers")
    >>> host.receive(timeout=1)
    b'one message in two buffers'
    """

    def send(self, *buffers: Buffer, timeout: float | None = None) -> None:
        """Send one message of all `buffers`, one behind the other, as soon as there is room for it.

        Raises CallerError when it is longer than `maximum_message_size`.
        """
        self._sending.run(lambda: self._work.send(buffers), timeout)

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message."""
        return self._receiving.run(self._work.receive, timeout)

    def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """The next message into `buffer`: its length.

        Raises BufferTooSmall, which names the length; the message is then the next one still.
        """
        return self._receiving.run(lambda: self._work.receive_into(buffer), timeout)

    def __iter__(self) -> Iterator[bytes]:
        """Messages as they come, until either side closes."""
        return until_closed(self.receive)


class ByteChannel(ByteKind, BlockingChannel):
    """A channel of two byte streams, one each way.

    See Channel for the arguments.  `send_end` ends this side's stream; the other side's `receive`
    then returns no bytes, and it can go on sending.  `makefile` makes a file of it.

    >>> from vmbus.channel import connected_channels
    >>> guest, host = connected_channels(kind=ByteChannel)
    >>> guest.send(b"one stream")
    >>> guest.send_end()
    >>> host.receive(3), host.receive(), host.receive()
    (b'one', b' stream', b'')
    """

    def send(self, data: Buffer, timeout: float | None = None) -> None:
        """Send all bytes, in as many packets as there is room for.

        What ends the call early (TimedOut, PeerClosed, ChannelClosed) says in `done` how many bytes
        were sent.  Raises CallerError behind `send_end`.
        """
        self._sending.run_parts(self._work.sends(data), timeout)

    def send_end(self, timeout: float | None = None) -> None:
        """End this side's stream; again is harmless."""
        self._sending.run(self._work.send_end, timeout)

    def receive(self, limit: int = CHUNK_SIZE, timeout: float | None = None) -> bytes:
        """Up to `limit` bytes, as many as are there; none at the end of the other side's stream.

        Raises PeerClosed when the other side went without ending its stream.
        """
        return self._receiving.run(lambda: self._work.receive(limit), timeout, self._work.has_ended)

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
        """The channel as a raw file: see ChannelFile."""
        return ChannelFile(self, mode, timeout)


def until_closed(receive: Callable[[], Result]) -> Iterator[Result]:
    """What `receive` returns, until the channel is closed on either side."""
    with suppress(ChannelClosed, PeerClosed):
        while True:
            yield receive()
