"""Every packet, at every place in the ring where it can start.

The smallest ring, one page of data, has 512 places.  Each kind of packet with each short payload
and with the largest is written at each of them, compared with its bytes as spelled by hand, and
read back.  Then the edges: the last slot that can be filled, and the largest packet there is.

Over flat memory everything; pages, and a memory that moves one byte at a time, must hold the same
image.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.helpers import MEMORIES, PACKET_KINDS, PacketKind, image_of, padded, pattern
from tests.known_bugs import known_bug
from vmbus.errors import CallerError, RingEmpty, RingFull
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import (
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PacketSize,
    RingRange,
    connected_rings,
)

SIZE = 4096
STARTS = range(0, SIZE, 8)

#: What an empty packet takes, and the largest payload that then has room.
FRAME = 24
LARGEST = SIZE - 8 - FRAME

#: What lies in the ring before a packet is written: nothing of it may shine through.
DIRT = b"\xa5" * SIZE


@cache
def short_payloads(largest: int) -> list[bytes]:
    """Every length from 0 to 120 bytes, and the largest."""
    return [pattern(length, seed=length + 1) for length in [*range(121), largest]]


def each_start(memory: RingMem, sender: OutgoingRing, receiver: IncomingRing):
    """Every start in turn, both ends on the empty ring that begins there."""
    for start in STARTS:
        memory.control[0] = memory.control[1] = start
        sender.reset()
        receiver.reset()
        yield start


def write_whole(sender: OutgoingRing, packet: OutgoingPacket, payload: bytes) -> RingRange:
    """Write, fill and commit one packet; where its payload lies."""
    outgoing = sender.outgoing()
    where = sender.write(outgoing, packet)
    where.writer(sender).write(payload)
    sender.commit_write(outgoing)
    return where


# -- every start, every length, every kind -------------------------------------------------------


@known_bug("B28", "B29", "B32")
@pytest.mark.parametrize("name", PACKET_KINDS)
def test_every_packet_is_written_and_read_back_whole_at_every_start(name):
    kind = PACKET_KINDS[name]
    memory = FlatRingMem(SIZE)
    sender, receiver = connected_rings(memory=memory)
    header = 16 + len(kind.extension)
    for payload in short_payloads(LARGEST - len(kind.extension)):
        packet = kind.outgoing(len(payload))
        body = kind.body(payload)
        total = len(body) + 8
        for start in each_start(memory, sender, receiver):
            memory.write_at(start, DIRT[:total])
            where = write_whole(sender, packet, payload)
            end = (start + total) % SIZE
            assert memory.control[0] == end, f"{len(payload)} bytes at {start:#06x}"
            assert memory.read_at(start, len(body)) == body, f"{len(payload)} bytes at {start:#06x}"
            assert memory.read_at((start + len(body)) % SIZE, 8) == bytes(4) + start.to_bytes(4, "little")
            assert where == RingRange(start + header, len(payload))

            incoming = receiver.incoming()
            seen = receiver.read(incoming)
            assert (seen.type, seen.transaction_id, seen.ranges) == (kind.type, kind.seen_id, kind.ranges)
            assert seen.transfer_page_set_id == kind.transfer_page_set_id
            assert seen.descriptor[3:] == (kind.flags, kind.transaction_id)
            assert seen.extension == RingRange(start + 16, header - 16)
            assert seen.payload == RingRange(start + header, len(body) - header)
            assert seen.payload.reader(receiver).read_all() == body[header:]
            assert incoming.next_out == end
            assert memory.control[1] == start
            receiver.commit_read(incoming)
            assert memory.control[1] == end


@pytest.mark.parametrize("name", PACKET_KINDS)
def test_receive_copies_every_packet_at_every_start(name):
    kind = PACKET_KINDS[name]
    memory = FlatRingMem(SIZE)
    sender, receiver = connected_rings(memory=memory)
    for length in (0, 1, 7, 8, 9, 40, LARGEST - len(kind.extension)):
        payload = pattern(length)
        packet = kind.outgoing(length)
        end = len(kind.body(payload)) + 8
        expected = Packet(
            kind.type,
            kind.transaction_id,
            padded(payload),
            kind.ranges,
            kind.flags,
            kind.transfer_page_set_id,
        )
        for start in each_start(memory, sender, receiver):
            write_whole(sender, packet, payload)
            assert receiver.receive() == (expected, False)
            assert memory.control[1] == (start + end) % SIZE


@known_bug("B32")
@pytest.mark.parametrize("name", ["in-band", "in-band-with-completion"])
def test_send_writes_what_the_steps_write_at_every_start(name):
    kind = PACKET_KINDS[name]
    memory = FlatRingMem(SIZE)
    sender, receiver = connected_rings(memory=memory)
    for payload in short_payloads(LARGEST):
        total = PacketSize.in_band(len(payload))
        for start in each_start(memory, sender, receiver):
            memory.write_at(start, DIRT[:total])
            sender.send(payload, kind.transaction_id, bool(kind.flags))
            assert memory.read_at(start, total) == kind.whole(payload, start)
            assert memory.control[0] == (start + total) % SIZE
            assert receiver.receive()[0].payload == padded(payload)


def test_send_many_and_receive_many_go_round_from_every_start():
    memory = FlatRingMem(SIZE)
    sender, receiver = connected_rings(memory=memory)
    payloads = [pattern(length, seed=3) for length in (0, 40, 1, 900, 8, 40, 2500, 13)]
    lengths = [PacketSize.in_band(len(payload)) for payload in payloads]
    for start in each_start(memory, sender, receiver):
        assert sender.send_many(payloads) == (len(payloads), True)
        assert memory.control[0] == (start + sum(lengths)) % SIZE
        packets, _ = receiver.receive_many()
        assert [packet.payload for packet in packets] == [padded(payload) for payload in payloads]
        assert memory.control[1] == memory.control[0]


# -- packets that wrap, wherever the end of the ring cuts them (B29) --------------------------------


@known_bug("B29")
@pytest.mark.parametrize("memory_name", MEMORIES)
@pytest.mark.parametrize("name", PACKET_KINDS)
def test_a_packet_may_be_cut_at_each_multiple_of_8(name, memory_name):
    kind = PACKET_KINDS[name]
    payload = pattern(29)
    whole = len(kind.whole(payload, 0))
    for cut in range(8, whole, 8):
        memory = MEMORIES[memory_name](SIZE)
        start = SIZE - cut
        sender, receiver = connected_rings(memory=memory, start=start)
        write_whole(sender, kind.outgoing(len(payload)), payload)
        image = kind.whole(payload, start)
        assert memory.read_at(start, cut) == image[:cut]
        assert memory.read_at(0, whole - cut) == image[cut:]
        packet, _ = receiver.receive()
        assert (packet.payload, packet.ranges) == (padded(payload), kind.ranges)


# -- the same image in every memory (B30) -----------------------------------------------------------

MIXED_LENGTHS = (0, 1, 8, 13, 120)


def fill_with_every_kind(sender: OutgoingRing, kinds: list[PacketKind]) -> None:
    """One packet of each kind and length in one commit, and three more in one step each."""
    outgoing = sender.outgoing()
    for kind in kinds:
        for length in MIXED_LENGTHS:
            where = sender.write(outgoing, kind.outgoing(length))
            where.writer(sender).write(pattern(length))
    sender.commit_write(outgoing)
    sender.send(pattern(40))
    sender.send_many([pattern(40), pattern(5)])


@known_bug("B30")
def test_pages_and_single_bytes_hold_the_same_image_as_flat_memory_at_every_start():
    memories = [make(SIZE) for make in MEMORIES.values()]
    for start in STARTS:
        images = []
        contents = []
        for memory in memories:
            sender, receiver = connected_rings(memory=memory, start=start)
            fill_with_every_kind(sender, list(PACKET_KINDS.values()))
            images.append(image_of(memory))
            incoming = receiver.incoming()
            first = receiver.read(incoming)
            in_place = first.payload.reader(receiver).read_all()
            packets, _ = receiver.receive_many()
            assert packets[0].payload == in_place
            contents.append(packets)
        assert images[0] == images[1] == images[2]
        assert contents[0] == contents[1] == contents[2]
        assert len(contents[0]) == len(PACKET_KINDS) * len(MIXED_LENGTHS) + 3


# -- the last slot (B25) ----------------------------------------------------------------------------


def filled_but_for(slots: int):
    """At each start, a ring with one packet that leaves so many slots of 8 bytes free."""
    for start in STARTS:
        sender, receiver = connected_rings(SIZE, start=start)
        sender.send(pattern(LARGEST - 8 * slots))
        yield sender, receiver


@known_bug("B25")
def test_a_packet_that_fills_the_ring_exactly_fits_and_is_told_from_an_empty_ring():
    first, second = pattern(LARGEST - 40), pattern(16)
    for sender, receiver in filled_but_for(5):
        assert sender.can_write(sender.outgoing(), 40)
        sender.send(second)
        assert not sender.can_write(sender.outgoing(), 24)
        assert [packet.payload for packet in receiver.receive_many()[0]] == [first, second]
        with pytest.raises(RingEmpty):
            receiver.receive()


@known_bug("B25")
def test_one_slot_too_many_is_ring_full_and_changes_nothing():
    for sender, receiver in filled_but_for(4):
        before = image_of(sender.memory)
        outgoing = sender.outgoing()
        assert not sender.can_write(outgoing, 40)
        with pytest.raises(RingFull) as of_write:
            sender.write(outgoing, OutgoingPacket.in_band(9))
        with pytest.raises(RingFull) as of_send:
            sender.send(bytes(9))
        for caught in (of_write, of_send):
            assert (caught.value.needed, caught.value.free) == (40, 32)
        assert sender.send_many([bytes(9)]) == (0, False)
        assert image_of(sender.memory) == before
        assert len(receiver.receive()[0].payload) == LARGEST - 32


def test_one_slot_too_few_is_left_over_and_takes_no_packet():
    for sender, receiver in filled_but_for(4):
        sender.send(b"")
        with pytest.raises(RingFull) as caught:
            sender.send(b"")
        assert (caught.value.needed, caught.value.free) == (24, 8)
        assert sender.can_write(sender.outgoing(), 8)
        assert [len(packet.payload) for packet in receiver.receive_many()[0]] == [LARGEST - 32, 0]


@known_bug("B43")
@pytest.mark.parametrize("free_slots", [0, LARGEST // 8])
def test_what_could_never_fit_is_the_callers_mistake_even_in_a_full_ring(free_slots):
    for sender, _ in filled_but_for(free_slots):
        before = image_of(sender.memory)
        for attempt in too_large(sender, LARGEST + 1):
            with pytest.raises(CallerError) as caught:
                attempt()
            assert (caught.value.argument, caught.value.limit) == ("payload", SIZE - 8)
        assert image_of(sender.memory) == before


def too_large(sender: OutgoingRing, length: int):
    """Each way to ask for a payload of so many bytes."""
    return (
        lambda: sender.write(sender.outgoing(), OutgoingPacket.in_band(length)),
        lambda: sender.can_write(sender.outgoing(), PacketSize.in_band(length)),
        lambda: sender.send(bytes(length)),
        lambda: sender.send_many([b"small", bytes(length)]),
    )


# -- the largest packet there is (B31, B43) -----------------------------------------------------------

MIB = 1 << 20
LARGEST_PACKET = 524_288
LONGEST_PAYLOAD = pattern(LARGEST_PACKET - FRAME)


@known_bug("B31", "B43")
@pytest.mark.parametrize("start", [0, MIB - 8, MIB - 16, MIB - 4096, MIB - LARGEST_PACKET, MIB // 2 + 8])
@pytest.mark.parametrize("memory_name", ["flat", "paged"])
def test_a_packet_of_524288_bytes_crosses_a_ring_of_1_mib(start, memory_name):
    memory = MEMORIES[memory_name](MIB)
    sender, receiver = connected_rings(memory=memory, start=start)
    assert sender.maximum_packet_size() == LARGEST_PACKET

    write_whole(sender, OutgoingPacket.in_band(len(LONGEST_PAYLOAD)), LONGEST_PAYLOAD)
    assert memory.control[0] == (start + LARGEST_PACKET) % MIB
    assert memory.read_at(start, 8) == bytes([6, 0, 2, 0, 0xFF, 0xFF, 0, 0])
    assert receiver.receive()[0].payload == LONGEST_PAYLOAD

    sender.send(LONGEST_PAYLOAD, transaction_id=9)
    incoming = receiver.incoming()
    assert receiver.read(incoming).payload.reader(receiver).read_all() == LONGEST_PAYLOAD
    receiver.commit_read(incoming)

    assert sender.send_many([LONGEST_PAYLOAD, LONGEST_PAYLOAD])[0] == 1
    assert [packet.payload for packet in receiver.receive_many()[0]] == [LONGEST_PAYLOAD]


@known_bug("B31")
@pytest.mark.parametrize("start", [0, MIB - 8])
def test_one_slot_more_than_524288_bytes_is_the_callers_mistake(start):
    sender, receiver = connected_rings(MIB, start=start)
    for attempt in too_large(sender, len(LONGEST_PAYLOAD) + 1):
        with pytest.raises(CallerError, match="524296 bytes") as caught:
            attempt()
        assert (caught.value.argument, caught.value.limit) == ("payload", LARGEST_PACKET)
    assert image_of(sender.memory)[:8] == start.to_bytes(4, "little") * 2
    sender.send(b"the ring still works")
    assert receiver.receive()[0].payload == padded(b"the ring still works")


def test_extension_and_payload_together_make_the_largest_packet():
    ranges = PACKET_KINDS["gpa-direct"]
    longest = LARGEST_PACKET - FRAME - len(ranges.extension)
    sender, receiver = connected_rings(MIB, start=MIB - 4096)
    write_whole(sender, ranges.outgoing(longest), LONGEST_PAYLOAD[:longest])
    packet, _ = receiver.receive()
    assert (packet.payload, packet.ranges) == (LONGEST_PAYLOAD[:longest], ranges.ranges)
    with pytest.raises(CallerError):
        sender.write(sender.outgoing(), ranges.outgoing(longest + 1))
