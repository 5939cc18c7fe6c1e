"""What the two ends of a ring must do: anything with the methods of OutgoingRing and IncomingRing.

What lies in memory is compared with bytes that were laid out by hand, apart from the rings of this package.
Signals and what is malformed stand in conformance_ring_rules, the order of accesses and fences in
conformance_order.

Sources: OpenVMM vmbus_ring/src/lib.rs; Linux drivers/hv/ring_buffer.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vmbus.errors import BufferTooSmall, CallerError, NotReady, RingEmpty, RingFull
from vmbus.layout import FEATURE_BITS_WORD, IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import OutgoingPacket, PacketSize

from .conformance_report import Subject, checks_of, demand, demand_equal, demand_no_error, demand_raises
from .first_call import called, demand_has, two_of
from .packet_kinds import PACKET_KINDS
from .recording_memory import RecordingMemory
from .trial import pattern

__all__ = ["RING_CHECKS", "SEND_STEP", "SIZE", "Rings", "RingsMaker", "fill", "send", "take"]

SIZE = 4096
SOME_ID = 0x0102_0304_0506_0708
BOTH_ENDS = "a sender and a receiver"
SEND_STEP = 24  # bytes that a packet without payload takes


class Rings(NamedTuple):
    """The two ends of one ring; interrupts are not masked."""

    sender: Any
    receiver: Any
    memory: RecordingMemory

    def word(self, word: int) -> int:
        return self.memory.inside.control[word]


class RingsMaker(Subject):
    """What is tested: how to make sender and receiver over a memory."""

    def __init__(self, make: Callable[[RingMem], tuple[Any, Any]]) -> None:
        super().__init__()
        self._make = make

    def try_out(self) -> None:
        made = called("make(memory)", BOTH_ENDS, self._make, FlatRingMem(SIZE))
        sender, receiver = two_of(made, "make(memory)", BOTH_ENDS)
        demand_has(sender, ("write", "commit_write"), "make(memory)", BOTH_ENDS)
        demand_has(receiver, ("read", "commit_read"), "make(memory)", BOTH_ENDS)

    def make(self, start: int = 0, size: int = SIZE) -> Rings:
        """Both ends of an empty ring whose next packet starts at `start`."""
        inside = FlatRingMem(size)
        inside.control[IN_WORD] = inside.control[OUT_WORD] = start
        memory = RecordingMemory(inside)
        sender, receiver = self._make(memory)
        receiver.set_interrupt_mask(False)
        memory.take()
        return Rings(sender, receiver, memory)


PAYLOAD = pattern(21)


def send(sender: Any, payload: bytes, packet: OutgoingPacket | None = None) -> bool:
    """Write, fill and commit one packet, step by step; whether to signal."""
    offset = sender.outgoing()
    sender.write(offset, packet or OutgoingPacket.in_band(len(payload))).writer(sender).write(payload)
    signal: bool = sender.commit_write(offset)
    return signal


def take(receiver: Any) -> tuple[bytes, bool]:
    """Read, copy and commit one packet, step by step: its payload, and whether to signal."""
    offset = receiver.incoming()
    payload = receiver.read(offset).payload.reader(receiver).read_all()
    return payload, receiver.commit_read(offset)


def fill(sender: Any) -> int:
    """Send packets of 24 bytes until one is refused: how many."""
    count = 0
    while count <= SIZE:
        try:
            sender.send(b"")
        except RingFull:
            break
        count += 1
    return count


# -- the checks ------------------------------------------------------------------------------------


def construction_writes_what_it_must(rings: RingsMaker) -> None:
    """A new receiver masks interrupts, a new sender sets feature bit 0 and clears the pending size; no index moves."""
    inside = FlatRingMem(SIZE)
    inside.control[IN_WORD] = inside.control[OUT_WORD] = 64
    inside.control[PENDING_SEND_SIZE_WORD] = 512
    rings._make(RecordingMemory(inside))
    words = (IN_WORD, OUT_WORD, INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD, FEATURE_BITS_WORD)
    found = [inside.control[word] for word in words]
    demand_equal(found, [64, 64, 1, 0, 1], "in, out, mask, pending size, features")


def empty_ring_is_empty(rings: RingsMaker) -> None:
    """From an empty ring nothing is read: RingEmpty, and no packets from receive_many."""
    pair = rings.make(start=2048)
    demand_equal(pair.receiver.can_read(pair.receiver.incoming()), False, "can_read")
    with demand_raises(RingEmpty, "read"):
        pair.receiver.read(pair.receiver.incoming())
    with demand_raises(RingEmpty, "receive"):
        pair.receiver.receive()
    demand_equal(pair.receiver.receive_many(), ([], False), "receive_many")


def packets_lie_as_the_format_says(rings: RingsMaker) -> None:
    """Every kind of packet lies in memory as its format says, padding zeroed and footer filled, also where it wraps."""
    for start in (0, 4080, 4088, 4032, 3984):
        for name, kind in PACKET_KINDS.items():
            pair = rings.make(start)
            pair.memory.inside.write_at(0, b"\xaa" * SIZE)
            send(pair.sender, PAYLOAD, kind.outgoing(len(PAYLOAD)))
            wanted = kind.whole(PAYLOAD, start)
            found = pair.memory.inside.read_at(start, len(wanted))
            demand_equal(found.hex(), wanted.hex(), f"{name} at {start}:")
            demand_equal(pair.word(IN_WORD), (start + len(wanted)) % SIZE, "in behind it:")


def packets_come_out_as_they_went_in(rings: RingsMaker) -> None:
    """Type, transaction id, flags, ranges and payload of every kind of packet come out, from any 8-byte place."""
    for start in (*range(SIZE - 120, SIZE, 8), 0):
        for name, kind in PACKET_KINDS.items():
            pair = rings.make(start)
            whole = kind.whole(PAYLOAD, start)
            pair.memory.inside.write_at(start, whole)
            pair.memory.inside.control[IN_WORD] = (start + len(whole)) % SIZE
            packet = pair.receiver.receive()[0]
            demand_equal(tuple(packet), tuple(kind.received(PAYLOAD)), f"{name} at {start}:")


def one_step_does_what_the_steps_do(rings: RingsMaker) -> None:
    """send, send_many, receive, receive_many and receive_into move what the single steps move."""
    for start in (0, 4072):
        pair = rings.make(start)
        payloads = [pattern(8 * length, length + 1) for length in range(6)]
        for number, payload in enumerate(payloads):
            pair.sender.send(payload, transaction_id=number, completion_requested=bool(number % 2))
        demand_equal(pair.sender.send_many(payloads)[0], 6, "packets sent by send_many:")
        send(pair.sender, b"last one")
        for number, payload in enumerate(payloads[:3]):
            packet = pair.receiver.receive()[0]
            found = (packet.transaction_id, packet.completion_requested, packet.payload)
            demand_equal(found, (number, bool(number % 2), payload), "receive:")
        demand_equal(take(pair.receiver)[0], payloads[3], "read:")
        buffer = bytearray(64)
        length = pair.receiver.receive_into(buffer)[0]
        demand_equal(bytes(buffer[:length]), payloads[4], "receive_into:")
        some, _ = pair.receiver.receive_many(limit=2)
        rest, _ = pair.receiver.receive_many()
        demand_equal(len(some), 2, "packets of receive_many(limit=2):")
        wanted = [payloads[5], *payloads, b"last one"]
        demand_equal([packet.payload for packet in some + rest], wanted, "receive_many:")


def ring_fills_to_its_last_slot(rings: RingsMaker) -> None:
    """A ring takes all but 8 of its bytes, from any start, and one slot more is RingFull and changes nothing."""
    for start in (0, 8, 2048, SIZE - 8):
        pair = rings.make(start)
        demand_equal(fill(pair.sender), (SIZE - 8) // SEND_STEP, f"packets of 24 bytes from {start}:")
        before = (pair.word(IN_WORD), pair.memory.inside.read_at(0, SIZE))
        with demand_raises(RingFull, "send into a full ring"):
            pair.sender.send(b"")
        with demand_raises(RingFull, "write into a full ring"):
            send(pair.sender, b"")
        demand(before == (pair.word(IN_WORD), pair.memory.inside.read_at(0, SIZE)), "no byte changed by them")
        pair.receiver.receive_many()
        exact = (SIZE - 8) // SEND_STEP - 1  # and one of 32 bytes fills the last slot
        demand_equal(pair.sender.send_many([b""] * exact)[0], exact, "packets of 24 bytes before the last:")
        with demand_no_error("a packet that fits exactly"):
            pair.sender.send(b"8 bytes.")
        pair.receiver.receive_many()
        whole = pattern(SIZE - 8 - SEND_STEP)
        pair.sender.send(whole)
        demand_equal(pair.receiver.receive()[0].payload, whole, "the payload of the largest packet")


def too_large_is_the_callers_error(rings: RingsMaker) -> None:
    """A packet that never fits is a CallerError, and no RingFull; so is a wish for more than the ring's size less 8."""
    pair = rings.make()
    with demand_raises(CallerError, "send of a packet as large as the ring"):
        pair.sender.send(bytes(SIZE - SEND_STEP))
    with demand_raises(CallerError, "set_pending_send_size of the ring's size"):
        pair.sender.set_pending_send_size(SIZE)
    demand_equal(pair.sender.send_many([b"fits"])[0], 1, "packets sent afterwards:")
    with demand_raises(CallerError, "send_many, one of which never fits"):
        pair.sender.send_many([b"fits", bytes(SIZE)])
    demand_equal(len(pair.receiver.receive_many()[0]), 1, "packets in the ring:")


def reverted_is_undone(rings: RingsMaker) -> None:
    """What was written and reverted is never seen; what was read and reverted is read again; a stale offset is refused."""
    pair = rings.make(start=4080)
    offset = pair.sender.outgoing()
    pair.sender.write(offset, OutgoingPacket.in_band(8)).writer(pair.sender).write(b"reverted")
    demand_equal(pair.word(IN_WORD), 4080, "in before the commit:")
    offset.revert()
    demand_equal(pair.sender.commit_write(offset), False, "commit_write of nothing")
    send(pair.sender, b"the next")
    reading = pair.receiver.incoming()
    pair.receiver.read(reading)
    reading.revert()
    demand_equal(pair.word(OUT_WORD), 4080, "out before the commit:")
    demand_equal(take(pair.receiver)[0], b"the next", "what is read:")
    with demand_raises(CallerError, "an offset from before another commit"):
        pair.sender.write(offset, OutgoingPacket.in_band(0))


def small_buffer_leaves_the_packet(rings: RingsMaker) -> None:
    """receive_into with too small a buffer says what is needed, and the packet stays."""
    pair = rings.make(start=4072)
    pair.sender.send(PAYLOAD)
    try:
        pair.receiver.receive_into(bytearray(16))
    except BufferTooSmall as error:
        demand_equal(error.needed, 24, "BufferTooSmall.needed")
    else:
        demand(False, "BufferTooSmall from a buffer of 16 bytes", "no error")
    demand_equal(pair.receiver.receive()[0].payload, PAYLOAD + bytes(3), "the packet that stayed")


def full_ring_says_what_is_needed(rings: RingsMaker) -> None:
    """RingFull says how many bytes are needed and how many are free, and can_write agrees."""
    pair = rings.make()
    count = fill(pair.sender)
    free = SIZE - 8 - count * SEND_STEP
    try:
        pair.sender.send(bytes(100))
    except NotReady as error:
        found = (getattr(error, "needed", None), getattr(error, "free", None))
        demand_equal(found, (PacketSize.in_band(100), free), "RingFull.needed and .free")
    offset = pair.sender.outgoing()
    found_room = [pair.sender.can_write(offset, length) for length in (free, free + 8)]
    demand_equal(found_room, [True, False], "can_write of what is free, and of 8 bytes more:")


RING_CHECKS = checks_of(
    construction_writes_what_it_must,
    empty_ring_is_empty,
    packets_lie_as_the_format_says,
    packets_come_out_as_they_went_in,
    one_step_does_what_the_steps_do,
    ring_fills_to_its_last_slot,
    full_ring_says_what_is_needed,
    too_large_is_the_callers_error,
    reverted_is_undone,
    small_buffer_leaves_the_packet,
)
