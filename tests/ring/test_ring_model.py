"""A ring of any size, from any start, carries what a list carries, refuses the rest and signals
exactly when it must.

The model is a list of packets, a mask and a number of bytes asked for.  It counts: it knows no
index, no wrap and no rule of vmbus.ring.  The machine fills the ring to the last slot on purpose,
asks for exactly the room that the next packets free, and leaves offsets behind to go stale.

The quick memories run beside one that moves a byte at a time, and every access must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import booleans, integers, just, lists, none, one_of, sampled_from

from tests.helpers import (
    PACKET_KINDS,
    PacketKind,
    SlowRingMem,
    TwinRingMem,
    padded,
    paged_memory,
    pattern,
)
from vmbus.errors import BufferTooSmall, CallerError, RingEmpty, RingFull
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import (
    IncomingOffset,
    IncomingPacket,
    IncomingPacketType,
    IncomingRing,
    OutgoingOffset,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    connected_rings,
)

#: Small payloads fill a ring with many packets, large ones bring it to its end soon.
lengths = one_of(integers(0, 40), integers(0, 400), integers(0, 2500))
kinds = sampled_from(list(PACKET_KINDS))


class Sent(NamedTuple):
    """A packet of the model."""

    kind: PacketKind
    payload: bytes

    @property
    def total(self) -> int:
        """Bytes it takes in the ring."""
        return len(self.kind.whole(self.payload, 0))


def total_of(packets: list[Sent]) -> int:
    return sum(packet.total for packet in packets)


def as_received(sent: Sent) -> Packet:
    """What the one-step methods must make of it."""
    kind = sent.kind
    return Packet(
        type=kind.type,
        transaction_id=kind.transaction_id,
        payload=padded(sent.payload),
        ranges=kind.ranges,
        flags=kind.flags,
        transfer_page_set_id=kind.transfer_page_set_id,
    )


class RingAgainstList(RuleBasedStateMachine):
    """One ring, driven from both ends, and a list."""

    @initialize(pages=one_of(just(1), integers(1, 4)), start=integers(0, 2047))
    def empty_ring(self, pages: int, start: int) -> None:
        self.size = 4096 * pages
        self.start = 8 * start % self.size
        self.memory = self.make_memory(self.size)
        self.sender, self.receiver = connected_rings(memory=self.memory, start=self.start)
        self.waiting: list[Sent] = []  # committed, and its space not given back yet
        self.batch: list[Sent] = []  # written, not committed
        self.read_count = 0  # of those waiting, read and not committed
        self.sent_bytes = 0  # committed since the start
        self.freed_bytes = 0  # given back since the start
        self.masked = False
        self.wanted = 0  # free bytes the sender waits for
        self.packets_made = 0
        self.outgoing: OutgoingOffset = self.sender.outgoing()
        self.incoming: IncomingOffset = self.receiver.incoming()
        self.stale_outgoing: list[OutgoingOffset] = []
        self.stale_incoming: list[IncomingOffset] = []

    def make_memory(self, size: int) -> RingMem:
        raise AssertionError("each machine below has a memory of its own")

    # -- what the model counts -------------------------------------------------------------------

    def free(self) -> int:
        """Free bytes as the two indices show them."""
        return self.size - 8 - total_of(self.waiting)

    def room(self) -> int:
        """Free bytes behind what is written already."""
        return self.free() - total_of(self.batch)

    def make(self, kind: str, length: int) -> Sent:
        """A packet unlike all others before it."""
        self.packets_made += 1
        return Sent(PACKET_KINDS[kind], pattern(length, seed=self.packets_made))

    def committed(self, packets: list[Sent]) -> bool:
        """Account for packets that became visible; whether the receiver must be signaled."""
        ring_was_empty = not self.waiting
        self.waiting += packets
        self.sent_bytes += total_of(packets)
        return bool(packets) and ring_was_empty and not self.masked

    def freed(self, count: int) -> bool:
        """Account for packets given back; whether the sender must be signaled."""
        before = self.free()
        self.freed_bytes += total_of(self.waiting[:count])
        del self.waiting[:count]
        return self.wanted > 0 and self.wanted in range(before + 1, self.free() + 1)

    def new_outgoing(self) -> None:
        """A commit went past the open offset: it is stale, and what it wrote is gone."""
        self.stale_outgoing.append(self.outgoing)
        self.outgoing = self.sender.outgoing()
        self.batch = []

    def new_incoming(self) -> None:
        self.stale_incoming.append(self.incoming)
        self.incoming = self.receiver.incoming()
        self.read_count = 0

    # -- writing -----------------------------------------------------------------------------------

    def write(self, sent: Sent) -> None:
        packet = sent.kind.outgoing(len(sent.payload))
        if sent.total > self.room():
            self.check_refused(sent.total, self.room(), lambda: self.sender.write(self.outgoing, packet))
            return
        where = self.sender.write(self.outgoing, packet)
        where.writer(self.sender).write(sent.payload)
        self.batch.append(sent)

    def send(self, sent: Sent) -> None:
        kind = sent.kind
        if kind.type is IncomingPacketType.IN_BAND:
            send = partial(self.sender.send, sent.payload, kind.transaction_id, bool(kind.flags))
        else:
            send = partial(self.sender.send_packet, kind.outgoing(len(sent.payload)), sent.payload)
        if sent.total > self.free():
            self.check_refused(sent.total, self.free(), send)
            return
        assert send() == self.committed([sent])
        self.new_outgoing()

    def check_refused(self, needed: int, free: int, attempt: Callable[[], object]) -> None:
        if needed > self.size - 8:
            with pytest.raises(CallerError):
                attempt()
            return
        with pytest.raises(RingFull) as caught:
            attempt()
        assert (caught.value.needed, caught.value.free) == (needed, free)

    @rule(kind=kinds, length=lengths, commit=booleans())
    def write_one(self, kind: str, length: int, commit: bool) -> None:
        self.write(self.make(kind, length))
        if commit:
            self.commit_write()

    @rule(kind=kinds, slots=integers(-1, 2), padding=integers(0, 7), commit=booleans())
    def write_leaving(self, kind: str, slots: int, padding: int, commit: bool) -> None:
        """The packet that leaves exactly so many slots; -1 is one too many."""
        length = self.room() - self.make(kind, 0).total - 8 * slots - padding
        if length >= 0:
            self.write_one(kind, length, commit)

    @rule()
    def commit_write(self) -> None:
        packets, self.batch = self.batch, []
        assert self.sender.commit_write(self.outgoing) == self.committed(packets)

    @rule(kind=kinds, length=lengths)
    def send_one(self, kind: str, length: int) -> None:
        self.send(self.make(kind, length))

    @rule(kind=kinds, slots=integers(-1, 2), padding=integers(0, 7), look=booleans())
    def send_leaving(self, kind: str, slots: int, padding: int, look: bool) -> None:
        """The same in one step; `look`, and the sender knows just how much is free."""
        if look:
            self.sender.can_write(self.outgoing, self.size - 8)
        length = self.free() - self.make(kind, 0).total - 8 * slots - padding
        if length >= 0:
            self.send_one(kind, length)

    @rule(payload_lengths=lists(lengths, max_size=12))
    def send_many(self, payload_lengths: list[int]) -> None:
        without_id = PACKET_KINDS["in-band"]._replace(transaction_id=0)
        packets = [self.make("in-band", length)._replace(kind=without_id) for length in payload_lengths]
        fitting: list[Sent] = []
        for sent in packets:
            if total_of(fitting) + sent.total > self.free():
                break
            fitting.append(sent)
        signal = self.committed(fitting)
        assert self.sender.send_many([sent.payload for sent in packets]) == (len(fitting), signal)
        if fitting:
            self.new_outgoing()

    @rule(good=lists(integers(0, 40), max_size=3), excess=integers(1, 100))
    def send_many_with_one_that_never_fits(self, good: list[int], excess: int) -> None:
        payloads = [*map(bytes, good), bytes(self.size - 8 - 24 + excess), b""]
        with pytest.raises(CallerError):
            self.sender.send_many(payloads)

    @rule(length=integers(0, 40), slots=sampled_from([0, 0, -1, 1]), at_once=booleans())
    def send_up_to_the_end_of_the_ring(self, length: int, slots: int, at_once: bool) -> None:
        """Packets of one size, of which one ends where the ring ends, or a slot beside it."""
        self.receive_many(None)
        self.send_one("in-band", length)
        left = self.size - (self.start + self.sent_bytes) % self.size
        total = self.make("in-band", length).total
        filling = left - total - self.make("in-band", 0).total - 8 * slots
        if filling >= 0:
            self.send_one("in-band", filling)
        if at_once:
            self.send_many([length, length])
        else:
            self.send_one("in-band", length)
            self.send_one("in-band", length)

    # -- reading -----------------------------------------------------------------------------------

    @rule(count=integers(1, 3), commit=booleans())
    def read_some(self, count: int, commit: bool) -> None:
        for _ in range(count):
            self.read_one()
        if commit:
            self.commit_read()

    def read_one(self) -> None:
        left = self.waiting[self.read_count :]
        if not left:
            with pytest.raises(RingEmpty):
                self.receiver.read(self.incoming)
            return
        self.check_in_place(self.receiver.read(self.incoming), left[0])
        self.read_count += 1

    def check_in_place(self, packet: IncomingPacket, sent: Sent) -> None:
        kind = sent.kind
        assert packet.payload.reader(self.receiver).read_all() == padded(sent.payload)
        assert (packet.type, packet.transaction_id) == (kind.type, kind.seen_id)
        assert (packet.descriptor.transaction_id, packet.descriptor.flags) == (
            kind.transaction_id,
            kind.flags,
        )
        assert (packet.ranges, packet.transfer_page_set_id) == (kind.ranges, kind.transfer_page_set_id)

    @rule()
    def commit_read(self) -> None:
        count, self.read_count = self.read_count, 0
        assert self.receiver.commit_read(self.incoming) == self.freed(count)

    @rule(count=integers(1, 3))
    def receive_some(self, count: int) -> None:
        for _ in range(count):
            self.receive()

    def receive(self) -> None:
        if not self.waiting:
            with pytest.raises(RingEmpty):
                self.receiver.receive()
            return
        expected = as_received(self.waiting[0])
        assert self.receiver.receive() == (expected, self.freed(1))
        self.new_incoming()

    @rule(limit=one_of(none(), integers(0, 5)))
    def receive_many(self, limit: int | None) -> None:
        taken = self.waiting[:limit]
        expected = [as_received(sent) for sent in taken]
        assert self.receiver.receive_many(limit) == (expected, self.freed(len(taken)))
        if taken:
            self.new_incoming()

    @rule(more=integers(-8, 16))
    def receive_into(self, more: int) -> None:
        """A buffer that has so many bytes more than the packet needs, or fewer."""
        if not self.waiting:
            with pytest.raises(RingEmpty):
                self.receiver.receive_into(bytearray(8))
            return
        expected = padded(self.waiting[0].payload)
        buffer = bytearray(max(0, len(expected) + more))
        if len(buffer) < len(expected):
            with pytest.raises(BufferTooSmall) as caught:
                self.receiver.receive_into(buffer)
            assert caught.value.needed == len(expected)
            return
        assert self.receiver.receive_into(buffer) == (len(expected), self.freed(1))
        assert buffer.startswith(expected)
        self.new_incoming()

    # -- signals -----------------------------------------------------------------------------------

    @rule(masked=booleans())
    def set_interrupt_mask(self, masked: bool) -> None:
        self.receiver.set_interrupt_mask(masked)
        self.masked = masked

    @rule(
        freed=integers(0, 3),
        slots=integers(-1, 1),
        more=integers(-7, 7),
        rounds=booleans(),
        then=integers(0, 4),
    )
    def ask_for_room(self, freed: int, slots: int, more: int, rounds: bool, then: int) -> None:
        """Ask for about the room there will be when so many packets are gone, then receive some."""
        length = self.free() + total_of(self.waiting[:freed]) + 8 * slots + more
        if rounds:
            self.ask_as_this_sender(length)
        else:
            self.ask_as_a_sender_that_does_not_round(length)
        for _ in range(then):
            self.receive()

    def ask_as_this_sender(self, length: int) -> None:
        if not 0 <= length <= self.size - 8:
            with pytest.raises(CallerError):
                self.sender.set_pending_send_size(length)
            return
        self.sender.set_pending_send_size(length)
        self.wanted = length
        while self.wanted % 8:
            self.wanted += 1

    def ask_as_a_sender_that_does_not_round(self, length: int) -> None:
        """The size minus 1 is a common one, and means an empty ring."""
        length = max(0, length)
        self.memory.control[3] = length
        self.wanted = length
        while self.wanted % 8:
            self.wanted -= 1

    # -- what is done now and then -----------------------------------------------------------------

    @rule(what=sampled_from(["revert_write", "revert_read", "use_stale_offsets", "ask_about_both_ends"]))
    def now_and_then(self, what: str) -> None:
        getattr(self, what)()

    @rule(what=sampled_from(["verify_that_interrupts_are_on", "reset_both_ends", "open_both_ends_anew"]))
    def seldom(self, what: str) -> None:
        getattr(self, what)()

    def revert_write(self) -> None:
        self.write(self.make("completion", 40))
        self.outgoing.revert()
        self.batch = []
        self.commit_write()

    def revert_read(self) -> None:
        self.read_one()
        self.incoming.revert()
        self.read_count = 0
        self.read_one()

    def ask_about_both_ends(self) -> None:
        room = self.room()
        for total in (0, room, room + 8, self.size - 8):
            if total <= self.size - 8:
                assert self.sender.can_write(self.outgoing, total) == (total <= room)
        with pytest.raises(CallerError):
            self.sender.can_write(self.outgoing, self.size)
        assert self.receiver.can_read(self.incoming) == (self.read_count < len(self.waiting))

    def use_stale_offsets(self) -> None:
        empty = OutgoingPacket.in_band(0)
        for outgoing in self.stale_outgoing[-3:]:
            calls = [
                (self.sender.can_write, outgoing, 24),
                (self.sender.write, outgoing, empty),
                (self.sender.commit_write, outgoing),
            ]
            for method, *arguments in calls:
                with pytest.raises(CallerError):
                    method(*arguments)
        for incoming in self.stale_incoming[-3:]:
            for method in (self.receiver.can_read, self.receiver.read, self.receiver.commit_read):
                with pytest.raises(CallerError):
                    method(incoming)

    def verify_that_interrupts_are_on(self) -> None:
        if not self.masked:
            self.receiver.verify_interrupts_unmasked()
            return
        with pytest.raises(CallerError, match="this end masks interrupts itself"):
            self.receiver.verify_interrupts_unmasked()

    def reset_both_ends(self) -> None:
        self.sender.reset()
        self.receiver.reset()
        self.new_outgoing()
        self.new_incoming()

    def open_both_ends_anew(self) -> None:
        """New ends over the same memory go on where the old ones were; offsets of the old are no use."""
        self.sender, self.receiver = OutgoingRing(self.memory), IncomingRing(self.memory)
        self.new_outgoing()
        self.new_incoming()
        self.masked, self.wanted = True, 0

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def control_words_are_what_the_model_counts(self) -> None:
        control = self.memory.control
        assert control[0] == (self.start + self.sent_bytes) % self.size
        assert control[1] == (self.start + self.freed_bytes) % self.size
        assert control[2] == self.masked
        assert control[3] // 8 * 8 == self.wanted

    def teardown(self) -> None:
        if hasattr(self, "waiting"):
            packets, _ = self.receiver.receive_many()
            assert packets == [as_received(sent) for sent in self.waiting]
        if isinstance(getattr(self, "memory", None), TwinRingMem):
            self.memory.read_at(0, self.size)


class RingOverFlatMemory(RingAgainstList):
    def make_memory(self, size: int) -> RingMem:
        return TwinRingMem(FlatRingMem(size))


class RingOverPages(RingAgainstList):
    def make_memory(self, size: int) -> RingMem:
        return TwinRingMem(paged_memory(size))


class RingOverSingleBytes(RingAgainstList):
    def make_memory(self, size: int) -> RingMem:
        return SlowRingMem(size)


in_short = settings(max_examples=80, stateful_step_count=50, deadline=None)

TestRingOverFlatMemory = RingOverFlatMemory.TestCase
TestRingOverFlatMemory.settings = in_short
TestRingOverPages = RingOverPages.TestCase
TestRingOverPages.settings = in_short
TestRingOverSingleBytes = RingOverSingleBytes.TestCase
TestRingOverSingleBytes.settings = in_short
