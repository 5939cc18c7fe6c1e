"""One end of a channel, whose other side has the memory of both rings in its hands, and the signal.

Calls have no time to wait: each ends at once, with a result, TimedOut, PeerError, or that a side has closed.  While
nothing is struck, what is received is what an honest side put in.

Sizes, offsets and lengths are in bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from vmbus.channel import ByteChannel, Channel, MessageChannel, PacketChannel
from vmbus.errors import (
    BufferTooSmall,
    CallerError,
    ChannelClosed,
    NotReady,
    PeerClosed,
    PeerError,
    VmbusError,
)
from vmbus.layout import FEATURE_BITS_WORD, IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing
from vmbus.sizes import PAGE_SIZE, SLOT

from .arguments import Choice, Flag, Number
from .hostile_reading import EACH_PACKET, HONEST_LENGTH
from .hostile_ring_trial import MakeMemory, started_at
from .hostile_signal import HostileSignal
from .hostile_trial import HOSTILE_CORNERS, HostileTrial, Outcome, RingVictim, Victim, facts
from .packet_kinds import PACKET_KINDS
from .ring_strikes import RingStrikes
from .trial import operation, pattern

__all__ = ["HostileChannelTrial"]

KINDS: dict[str, type[Channel]] = {"packets": PacketChannel, "messages": MessageChannel, "bytes": ByteChannel}

#: The transaction id of a channel's first request; the others follow.
FIRST_ID = 2**32

#: Accesses of a call that is tried three times, and publishes that it waits and that it no longer does.
ONE_CALL = 80

LENGTH = Number(0, 1200, corners=[0, 1, 8, 40, 1000])


class HostileChannelTrial(RingStrikes, HostileTrial):
    """A channel under attack.

    kind    "packets", "messages" or "bytes"
    start   the slot where the first packet of both rings lies, counted round and round
    """

    name = "hostile-channel"
    summary = "a channel whose other side writes anything into its rings at any moment"
    settings = {"kind": Choice(*KINDS), "start": Number(0, 511, corners=[511, 510, 508])}  # noqa: RUF012
    CORNERS = (
        *HOSTILE_CORNERS,
        "answered",
        "changed within a write",
        "closed under attack",
        "error kept by an earlier call",
        "index moved",
        "index not a multiple of 8",
        "index out of range",
        "mask changed",
        "nothing within the time",
        "packet put in",
        "packet refused by a pipe",
        "pending size changed",
    )

    def __init__(self, kind: str, start: int, *, make_memory: MakeMemory = FlatRingMem) -> None:
        super().__init__()
        first = SLOT * start % PAGE_SIZE
        self.reader = RingVictim("the receiving side", started_at(make_memory(PAGE_SIZE), first))
        self.writer = RingVictim("the sending side", started_at(make_memory(PAGE_SIZE), first))
        self.sender = OutgoingRing(self.reader.inside)
        self.receiver = IncomingRing(self.writer.inside)
        self.kind = kind
        self.signal = HostileSignal()
        self.channel: Any = KINDS[kind](
            IncomingRing(self.reader.memory), OutgoingRing(self.writer.memory), self.signal, clock=lambda: 0.0
        )
        self.expected: deque[Any] = deque()
        self.stream = b""
        self.count = 0
        self.asked = 0
        self.end_sent = False

    def close(self) -> None:
        self.channel.close()

    def victim_named(self, victim: str) -> RingVictim:
        return self.reader if victim == "reader" else self.writer

    # -- the other side --------------------------------------------------------------------------

    @operation(kind=Choice(*PACKET_KINDS), length=HONEST_LENGTH)
    def honest(self, kind: str, length: int) -> None:
        """An honest other side sends what this kind of channel carries."""
        self.count += 1
        data = pattern(length, self.count)
        if self.kind == "packets":
            spelled = PACKET_KINDS[kind]
            self.put_in(
                lambda: self.sender.send_packet(spelled.outgoing(length), data), spelled.received(data)
            )
        elif data or self.kind == "messages":  # a message of none is the end of a stream
            payload = struct.pack("<II", 1, length) + data  # PIPE_HEADER, spelled by hand
            self.put_in(lambda: self.sender.send(payload), data)

    def put_in(self, send: Callable[[], object], expected: object) -> None:
        try:
            send()
        except VmbusError:
            return
        if self.kind == "bytes":
            assert isinstance(expected, bytes)
            self.stream += expected
        else:
            self.expected.append(expected)

    @operation(ahead=Choice(0, 0, 0, 1, 2), after=Number(0, 60, corners=[0, 0, 1, 2]))
    def answer_later(self, ahead: int, after: int) -> None:
        """The completion of a request that is made soon, in the middle of it."""
        place = self.reader.inside.control[IN_WORD] % PAGE_SIZE
        packet = struct.pack("<HHHHQQQ", 11, 2, 3, 0, FIRST_ID + self.asked + ahead, 0, 0)
        self.strike(self.reader, after, "packet", place, packet)

    @operation()
    def honest_receive(self) -> None:
        """An honest other side takes all there is, as far as it can."""
        try:
            self.receiver.receive_many()
        except PeerError as error:
            self.demand(not self.writer.quiet, f"what a channel sent is no packet: {error}")
            self.receiver.reset()

    @operation(comes=Flag())
    def turn_signal(self, comes: bool) -> None:
        self.signal.comes = comes

    @operation(this_side=Flag(), really=Choice(0, 0, 0, 1))
    def close_one(self, this_side: bool, really: int) -> None:
        if not really:
            return
        self.corners["closed under attack"] += 1
        if this_side:
            self.channel.close()
        else:
            self.signal.peer_closed = True

    # -- receiving -------------------------------------------------------------------------------

    @operation()
    def receive(self) -> None:
        outcome = self.call(self.reader, "receive", lambda: self.channel.receive(timeout=0))
        self.received([] if outcome.result is None else [outcome.result], outcome)

    @operation(limit=Number(1, 4))
    def receive_many(self, limit: int) -> None:
        if self.kind == "packets":
            outcome = self.call(
                self.reader,
                "receive_many",
                lambda: self.channel.receive_many(limit, timeout=0),
                more=EACH_PACKET * limit,
            )
            self.demand(len(outcome.result or ()) <= limit, f"more than {limit} packets")
            self.received(outcome.result or [], outcome)

    @operation(length=Number(1, 4096))
    def receive_into(self, length: int) -> None:
        buffer = bytearray(length)
        outcome = self.call(
            self.reader,
            "receive_into",
            lambda: self.channel.receive_into(buffer, timeout=0),
            may=(BufferTooSmall,),
        )
        self.demand(len(buffer) == length, f"a buffer of {length} bytes has {len(buffer)} now")
        if isinstance(outcome.error, BufferTooSmall):
            self.demand(
                outcome.error.needed > length, f"{length} bytes are enough for {outcome.error.needed}"
            )
        elif outcome.result is not None:
            self.received([bytes(buffer[: outcome.result])], outcome)

    # -- sending ---------------------------------------------------------------------------------

    @operation(length=LENGTH)
    def send(self, length: int) -> None:
        if self.kind == "bytes" and not length:
            return  # nothing to send, whatever the ring is like
        data = pattern(length, length + 1)
        may = (CallerError,) if self.end_sent else ()
        self.call(self.writer, "send", lambda: self.channel.send(data, timeout=0), may=may)

    @operation(count=Number(1, 8), length=LENGTH)
    def send_many(self, count: int, length: int) -> None:
        if self.kind == "packets":
            payloads = [pattern(length, number + 1) for number in range(count)]
            self.call(
                self.writer,
                "send_many",
                lambda: self.channel.send_many(payloads, timeout=0),
                more=EACH_PACKET * count,
            )

    @operation()
    def send_end(self) -> None:
        if self.kind == "bytes" and not self.end_sent:
            outcome = self.call(self.writer, "send_end", lambda: self.channel.send_end(timeout=0))
            self.end_sent = outcome.error is None

    @operation(length=LENGTH)
    def request(self, length: int) -> None:
        """A request that has no time for its answer; what else comes meanwhile is kept."""
        if self.kind != "packets":
            return
        data = pattern(length, length + 1)
        outcome = self.call(
            self.writer, "request", lambda: self.channel.request(data, timeout=0), may=(CallerError,)
        )
        if isinstance(outcome.error, CallerError):
            # The one that is allowed: more is kept than fills the ring 16 times.
            self.demand(outcome.error.argument == "unsolicited", f"a request is refused: {outcome.error}")
        self.asked += 1
        if outcome.result is not None:
            self.corners["answered"] += 1
            first = next(access.value for access in self.writer.accesses if access.what == "write")
            asked = int.from_bytes(first[8:16], "little")
            self.demand_equal(outcome.result.transaction_id, asked, "the answer's transaction id")

    # -- judging ---------------------------------------------------------------------------------

    def call(
        self,
        victim: RingVictim,
        name: str,
        function: Callable[[], Any],
        *,
        more: int = 0,
        may: tuple[type[Exception], ...] = (),
    ) -> Outcome:
        """A call of the channel.  Some touch both rings: either of them may be the one that is wrong."""
        other = self.reader if victim is self.writer else self.writer
        most = ONE_CALL + more
        other.begin(f"{name} of {victim.name}", most)
        self.signal.waits = 0
        outcome = self.attempt(victim, name, function, most=most, may=(PeerClosed, ChannelClosed, *may))
        self.check_stores(self.reader, (OUT_WORD, INTERRUPT_MASK_WORD))
        self.check_stores(self.writer, (IN_WORD, PENDING_SEND_SIZE_WORD, FEATURE_BITS_WORD))
        if isinstance(outcome.error, NotReady):
            self.corners["nothing within the time"] += 1
        return outcome

    def owner_of(self, error: PeerError) -> RingVictim:
        """Whose ring an error is about: of the sending side's, the other side writes out alone."""
        return self.writer if str(error).startswith("out is") else self.reader

    def note_fault(self, victim: Victim, call: str, error: PeerError) -> None:
        if call == "request":  # which receives as well
            victim = self.owner_of(error)
        if victim.fault is None:
            super().note_fault(victim, call, error)
        else:
            self.demand_equal(facts(error), victim.fault, f"{call} of {victim.name} behind a PeerError")

    def check_fault_again(self, victim: Victim, call: str, outcome: Outcome) -> None:
        """Behind a PeerError the same again, but for a side that has closed and packets that are kept."""
        error = outcome.error
        if isinstance(error, ChannelClosed | PeerClosed):
            return
        if error is None or isinstance(error, BufferTooSmall):
            kept = not any(access.what == "read" for access in victim.accesses)
            self.demand(kept and self.kind == "packets", f"{call} went on behind a PeerError")
            return
        if call == "request" and isinstance(error, PeerError):
            victim = self.owner_of(error)
            if victim.fault is None:
                super().note_fault(victim, call, error)
                return
        super().check_fault_again(victim, call, outcome)

    def received(self, results: list[Any], outcome: Outcome) -> None:
        """Compare with what an honest side put in, while nothing was struck."""
        if not self.reader.quiet:
            return
        if isinstance(outcome.error, NotReady | PeerClosed):
            self.demand(not self.expected and not self.stream, f"{outcome.error}, and something was put in")
        for result in results:
            if self.kind == "bytes":
                self.demand(bool(result) and self.stream.startswith(result), "bytes that nobody put in")
                self.stream = self.stream[len(result) :]
                continue
            self.demand(bool(self.expected), "something that nobody put in")
            expected = self.expected.popleft()
            is_payload = self.kind == "packets" and isinstance(result, bytes)
            self.demand_equal(
                result, expected.payload if is_payload else expected, "what an honest side put in"
            )
