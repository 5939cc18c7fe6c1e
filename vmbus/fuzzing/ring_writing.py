"""The half of the ring trial that sends: see ring_trial.py.

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from vmbus.errors import CallerError, RingFull
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import RingMem
from vmbus.ring import IncomingPacketType, IncomingRing, OutgoingRing

from .arguments import Choice, Flag, Listing, Number
from .packet_kinds import PACKET_KINDS, Sent
from .ring_model import (
    LENGTH,
    MakeMemory,
    RingModel,
    close_memory,
    fresh_payload,
    memory_for,
    total_of,
    words_of,
)
from .trial import Trial, operation

__all__ = ["MakeEnds", "RingWriting", "both_ends"]

KIND = Choice(*PACKET_KINDS)

#: How many slots are to be left free; -1 is one too many.
SLOTS_LEFT = Number(-1, 2, corners=[0])

#: Bytes by which a payload misses the end of its last slot.
PADDING = Number(0, 7)

#: Makes both ends of the ring in a memory, which go on from where its indices stand.
MakeEnds: TypeAlias = Callable[[RingMem], tuple[OutgoingRing, IncomingRing]]


def both_ends(memory: RingMem) -> tuple[OutgoingRing, IncomingRing]:
    """The two ends of the ring in a memory."""
    return OutgoingRing(memory), IncomingRing(memory)


class RingWriting(Trial):
    """One ring and its model, and what a sender does.

    batch   packets that were written and not committed
    read    packets that were read and not committed
    """

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        *,
        make_memory: MakeMemory | None = None,
        make_ends: MakeEnds = both_ends,
    ) -> None:
        super().__init__()
        self.size = 4096 * pages
        self.memory = memory_for(memory, self.size, make_memory)
        self.model: RingModel[Sent] = RingModel(self.size, 8 * start % self.size)
        self.make_ends = make_ends
        self.batch: list[Sent] = []
        self.read = 0
        self.packets_made = 0
        self.memory.control[IN_WORD] = self.memory.control[OUT_WORD] = self.model.start
        with self.demand_no_error("a new ring"):
            self.sender, self.receiver = make_ends(self.memory)
            self.receiver.set_interrupt_mask(False)
            self.outgoing = self.sender.outgoing()
            self.incoming = self.receiver.incoming()
        self.stale_outgoing = [self.outgoing][:0]
        self.stale_incoming = [self.incoming][:0]

    def close(self) -> None:
        close_memory(self.memory)

    def check(self) -> None:
        if (found := words_of(self.memory)) != (expected := self.model.words()):
            self.demand_equal(found, expected, "in, out, mask and pending send size")

    # -- what the model says ---------------------------------------------------------------------

    def room(self) -> int:
        """Free bytes behind what is written already."""
        return self.model.free - total_of(self.batch)

    def make(self, kind: str, length: int) -> Sent:
        """A packet unlike those before it."""
        self.packets_made += 1
        return Sent.of(PACKET_KINDS[kind], fresh_payload(length, self.packets_made))

    def committed(self, packets: list[Sent]) -> bool:
        """Account for packets that became visible; whether the receiver must be signaled."""
        for sent, at in zip(packets, self.places(packets), strict=True):
            self.count_packet(sent, at)
        would_signal = bool(packets) and not self.model.waiting
        signal = self.model.put(packets)
        if packets and not self.model.free:
            self.corners["ring filled to the last slot"] += 1
        if would_signal:
            self.corners["reader signaled" if signal else "empty ring written while masked"] += 1
        return signal

    def places(self, packets: list[Sent]) -> list[int]:
        """Where each will lie."""
        places = [self.model.in_offset]
        for sent in packets[:-1]:
            places.append((places[-1] + sent.total) % self.size)
        return places[: len(packets)]

    def count_packet(self, sent: Sent, at: int) -> None:
        self.corners[f"packet: {sent.kind.name}"] += 1
        before_end = self.size - at
        data_at = 16 + len(sent.kind.extension)
        if before_end == sent.total:
            self.corners["packet that ends where the ring ends"] += 1
        elif before_end == sent.total - 8:
            self.corners["wrap before the footer"] += 1
        elif before_end < 16:
            self.corners["wrap in a descriptor"] += 1
        elif before_end < data_at:
            self.corners["wrap in an extension"] += 1
        elif before_end < sent.total:
            self.corners["wrap in a payload"] += 1

    def new_outgoing(self) -> None:
        """A commit went past the open offset: it is stale, and what it wrote is gone."""
        self.stale_outgoing = [*self.stale_outgoing[-2:], self.outgoing]
        with self.demand_no_error("a new round of writing"):
            self.outgoing = self.sender.outgoing()
        self.batch = []

    def demand_refused(self, needed: int, free: int, attempt: Callable[[], object]) -> None:
        """What does not fit is refused, with the right numbers."""
        if needed > self.size - 8:
            self.corners["packet that could never fit"] += 1
            with self.demand_raises(CallerError, f"a packet of {needed} bytes in a ring of {self.size}"):
                attempt()
            return
        if needed - free == 8:
            self.corners["refused by one slot"] += 1
        with self.demand_raises(RingFull, f"a packet of {needed} bytes with {free} free"):
            try:
                attempt()
            except RingFull as error:
                self.demand_equal((error.needed, error.free), (needed, free), "needed and free of RingFull")
                raise

    # -- writing ---------------------------------------------------------------------------------

    def write(self, sent: Sent) -> None:
        packet = sent.kind.outgoing(len(sent.payload))
        if sent.total > self.room():
            refused = partial(self.sender.write, self.outgoing, packet)
            self.demand_refused(sent.total, self.room(), refused)
            return
        with self.demand_no_error("write"):
            where = self.sender.write(self.outgoing, packet)
            where.writer(self.sender).write(sent.payload)
        self.batch.append(sent)

    def send(self, sent: Sent) -> None:
        kind = sent.kind
        send: Callable[[], bool]
        if kind.type is IncomingPacketType.IN_BAND:
            send = partial(self.sender.send, sent.payload, kind.transaction_id, bool(kind.flags))
        else:
            send = partial(self.sender.send_packet, kind.outgoing(len(sent.payload)), sent.payload)
        if sent.total > self.model.free:
            self.demand_refused(sent.total, self.model.free, send)
            return
        with self.demand_no_error("send"):
            found = send()
        self.demand_equal(found, self.committed([sent]), "signal after send")
        self.new_outgoing()

    @operation(kind=KIND, length=LENGTH, commit=Flag())
    def write_one(self, kind: str, length: int, commit: bool) -> None:
        """One packet in steps."""
        self.write(self.make(kind, length))
        if commit:
            self.commit_write()

    @operation(kind=KIND, slots=SLOTS_LEFT, padding=PADDING, commit=Flag())
    def write_leaving(self, kind: str, slots: int, padding: int, commit: bool) -> None:
        """The packet that leaves exactly so many slots; -1 is one too many."""
        length = self.room() - PACKET_KINDS[kind].size(0) - 8 * slots - padding
        if length >= 0:
            self.write_one(kind, length, commit)

    @operation()
    def commit_write(self) -> None:
        packets, self.batch = self.batch, []
        if len(packets) > 1:
            self.corners["several packets in one commit"] += 1
        with self.demand_no_error("commit_write"):
            found = self.sender.commit_write(self.outgoing)
        self.demand_equal(found, self.committed(packets), "signal after commit_write")

    @operation(kind=KIND, length=LENGTH)
    def send_one(self, kind: str, length: int) -> None:
        """One packet in one step."""
        self.send(self.make(kind, length))

    @operation(kind=KIND, slots=SLOTS_LEFT, padding=PADDING, insist=Flag())
    def send_leaving(self, kind: str, slots: int, padding: int, insist: bool) -> None:
        """The same in one step; `insist`, and one slot too many is tried twice before.

        The second time the sender knows already how much is free, and has nothing to look up.
        """
        length = self.model.free - PACKET_KINDS[kind].size(0) - padding
        for left in (*((-1, -1) if insist else ()), slots):
            if length - 8 * left >= 0:
                self.send_one(kind, length - 8 * left)

    @operation(lengths=Listing(LENGTH, 12))
    def send_many(self, lengths: tuple[int, ...]) -> None:
        packets = [self.make_plain(length) for length in lengths]
        fitting = self.model.fitting(packets)
        if 0 < len(fitting) < len(packets):
            self.corners["batch that fits in part"] += 1
        expected = (len(fitting), self.committed(fitting))
        with self.demand_no_error("send_many"):
            found = self.sender.send_many([sent.payload for sent in packets])
        self.demand_equal(found, expected, "count and signal of send_many")
        if fitting:
            self.new_outgoing()

    def make_plain(self, length: int) -> Sent:
        """An in-band packet as send_many sends it."""
        sent = self.make("in-band", length)
        return sent._replace(kind=sent.kind._replace(transaction_id=0))

    @operation(good=Listing(Number(0, 40), 3), excess=Number(1, 100))
    def send_many_with_one_that_never_fits(self, good: tuple[int, ...], excess: int) -> None:
        payloads = [*map(bytes, good), bytes(self.size - 8 - 24 + excess), b""]
        self.corners["packet that could never fit"] += 1
        with self.demand_raises(CallerError, "a batch of which one packet could never fit"):
            self.sender.send_many(payloads)

    @operation(kind=KIND, length=Number(0, 40), cut=Number(0, 16), at_once=Flag())
    def send_across_the_end(self, kind: str, length: int, cut: int, at_once: bool) -> None:
        """A packet that begins so many slots before the end of the ring, in an empty ring; then another."""
        self.empty()
        left = self.size - self.model.in_offset - 8 * cut
        filling = left - PACKET_KINDS["in-band"].size(0)
        if filling >= 0:
            self.send_one("in-band", filling)
        if at_once:
            self.send_many((length, length))
        else:
            self.send_one(kind, length)
            self.write_one(kind, length, True)

    def empty(self) -> None:
        """Take all out; the half that receives does it."""
        raise NotImplementedError
