"""A walk comes to every packet that is there, past broken ones where their length says how, and ends.

It takes at most as many steps as a ring has slots, whatever its bytes and wherever it starts, and on
a ring without faults it comes to the packets that IncomingRing reads and to no others.
"""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, sampled_from

from tests.helpers import MEMORIES, PACKET_KINDS, SAMPLE_NAMES, pattern, sample, send_packet
from tests.inspection.dumps import IN_BAND, data_area, packet
from tests.known_bugs import known_bug
from vmbus.errors import PeerError, RingEmpty, RingFull
from vmbus.inspection import walk
from vmbus.layout import PacketDescriptor
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import IncomingRing, RingFault, connected_rings

LENGTHS = RingFault.INVALID_DESCRIPTOR_LENGTHS


def memory_with(*pieces: tuple[int, bytes], size: int = 4096) -> FlatRingMem:
    memory = FlatRingMem(size)
    memory.write_at(0, data_area(size, *pieces))
    return memory


def steps(memory, start: int, end: int) -> list[tuple[int, RingFault | None]]:
    return [(one.offset, one.fault) for one in walk(memory, start, end)]


# -- what is there -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_waiting_packets_of_a_sample_are_walked_each_once_and_nothing_else(name):
    image, written = sample(name)
    control = written["control"]
    expected = [
        (one["offset"], one["type"], one["data_offset8"], one["length8"], one["flags"], one["transaction_id"])
        for one in written["packets"]
        if not one["consumed"]
    ]
    memory = PagedRingMem([image[at : at + 4096] for at in range(0, len(image), 4096)])
    for one in (memory, FlatRingMem.over(image)):
        walked = list(walk(one, control["out"], control["in"]))
        assert [(packet.offset, *packet.descriptor) for packet in walked] == expected
        assert all(packet.whole and packet.fault is None for packet in walked)


def test_nothing_is_walked_from_a_place_to_itself():
    assert list(walk(memory_with((0, packet(0))), 0, 0)) == []


@pytest.mark.parametrize("make_memory", MEMORIES.values(), ids=MEMORIES)
@pytest.mark.parametrize("start", range(4096 - 72, 4096, 8))
def test_a_packet_may_be_cut_by_the_end_anywhere(make_memory, start):
    memory = make_memory(4096)
    memory.write_at(start, packet(start, b"sixteen bytes ok", transaction_id=2**64 - 1))
    second = (start + 40) % 4096
    memory.write_at(second, packet(second, flags=1, transaction_id=5))
    end = (start + 64) % 4096
    assert [one[:3] for one in walk(memory, start, end)] == [
        (start, PacketDescriptor(IN_BAND, 2, 4, 0, 2**64 - 1), 64),
        (second, PacketDescriptor(IN_BAND, 2, 2, 1, 5), 24),
    ]


# -- what is broken ------------------------------------------------------------------------------


@known_bug("B58")
def test_a_packet_of_unknown_type_or_flags_is_walked_and_so_is_what_follows():
    memory = memory_with((0, packet(0, kind=99) + packet(24, flags=6) + packet(48)))
    assert steps(memory, 0, 72) == [
        (0, RingFault.INVALID_DESCRIPTOR_TYPE),
        (24, RingFault.INVALID_DESCRIPTOR_FLAGS),
        (48, None),
    ]


@pytest.mark.parametrize("data_offset8", [0, 1, 4, 0xFFFF])
def test_a_payload_that_starts_nowhere_does_not_end_the_walk(data_offset8):
    memory = memory_with((0, packet(0, bytes(8), data_offset8=data_offset8) + packet(32)))
    assert steps(memory, 0, 56) == [(0, LENGTHS), (32, None)]


@pytest.mark.parametrize("length8", [0, 1, 7, 0xFFFF])
def test_a_length_that_cannot_be_ends_the_walk_at_its_packet(length8):
    memory = memory_with((0, packet(0) + packet(24, length8=length8) + packet(48)))
    assert steps(memory, 0, 72) == [(0, None), (24, LENGTHS)]


@known_bug("B28")
def test_a_packet_whose_footer_is_behind_in_is_not_whole_and_ends_the_walk():
    memory = memory_with((0, packet(0, bytes(8))))
    (only,) = walk(memory, 0, 24)
    assert (only.fault, only.available, only.whole) == (RingFault.FOOTER_NOT_PUBLISHED, 24, False)


def test_fewer_bytes_than_a_packet_has_are_shown_with_what_there_is():
    memory = memory_with((0, packet(0) + packet(24, transaction_id=9)))
    short = list(walk(memory, 0, 40))[-1]
    assert (short.offset, short.available, short.fault) == (24, 16, RingFault.INVALID_DATA_AVAILABLE)
    assert short.descriptor == PacketDescriptor(IN_BAND, 2, 2, 0, 9)
    shorter = list(walk(memory, 0, 32))[-1]
    assert shorter[:3] == (24, None, 8)
    assert (shorter.fault, shorter.whole) == (RingFault.INVALID_DATA_AVAILABLE, False)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=integers(0, 2**32),
    start=integers(0, 511).map(lambda slot: 8 * slot),
    end=integers(0, 511).map(lambda slot: 8 * slot),
    lengths=lists(sampled_from([0, 1, 2, 2, 2, 3, 5, 30, 600, 0xFFFF]), max_size=200),
)
def test_a_walk_through_any_bytes_ends_before_it_comes_round(seed, start, end, lengths):
    memory = memory_with((0, Random(seed).randbytes(4096)))
    at = start
    for length8 in lengths:  # sown in, so that the walk gets somewhere
        memory.write_at(at, struct.pack("<HHHH", seed % 16, 2, length8, seed % 3))
        at = (at + 8 * length8 + 8) % 4096
    walked = list(walk(memory, start, end))
    left = (end - start) % 4096
    assert len(walked) <= 4096 // 8
    assert bool(walked) == bool(left)
    for number, one in enumerate(walked):
        assert (one.offset, one.available) == ((end - left) % 4096, left)
        is_last = number == len(walked) - 1
        if not one.whole:
            assert is_last
            assert one.fault is not None
            return
        left -= 8 * one.descriptor.length8 + 8
    assert left == 0


def test_the_longest_walk_has_as_many_steps_as_empty_packets_fit():
    memory = memory_with((0, b"".join(packet(at) for at in range(0, 4080, 24))))
    assert len(list(walk(memory, 0, 4080))) == 170
    assert len(list(walk(memory, 0, 4088))) == 171  # the last is 8 bytes that hold no packet


# -- beside the reader ---------------------------------------------------------------------------


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    pages=integers(1, 3),
    start=integers(0, 1535),
    skipped=integers(0, 3),
    sent=lists(
        sampled_from(list(PACKET_KINDS)).flatmap(
            lambda kind: sampled_from([0, 1, 8, 100, 900]).map(lambda length: (kind, length))
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_a_walk_comes_to_exactly_the_packets_that_a_ring_reads(pages, start, skipped, sent):
    sender, receiver = connected_rings(4096 * pages, start=8 * start % (4096 * pages))
    for number, (kind, length) in enumerate(sent):
        try:
            send_packet(sender, pattern(length, seed=number + 1), PACKET_KINDS[kind].outgoing(length))
        except RingFull:
            break
        if number < skipped:
            receiver.receive()
    incoming = receiver.incoming()
    walked = list(walk(sender.memory, sender.memory.control[1], sender.memory.control[0]))
    for one in walked:
        assert one.offset == incoming.next_out
        assert one.descriptor == receiver.read(incoming).descriptor
        assert one.fault is None
    with pytest.raises(RingEmpty):
        receiver.read(incoming)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    fields=lists(
        lists(sampled_from([0, 1, 2, 3, 4, 6, 7, 9, 11, 6, 2, 2, 0xFFFF]), min_size=4, max_size=4),
        min_size=1,
        max_size=4,
    ),
    published=sampled_from([0, -8, -16, 8, 16, 24]),
)
def test_the_first_fault_of_a_walk_is_what_stops_a_ring(fields, published):
    """Types without ranges: what is wrong with ranges is not for a walk to see."""
    memory = FlatRingMem(4096)
    at = 0
    for kind, data_offset8, length8, flags in fields:
        kind = 12 if kind in (7, 9) else kind
        memory.write_at(at, struct.pack("<HHHHQ", kind, data_offset8, length8, flags & 1, 0))
        at += 8 * min(length8, 9) + 8
    memory.control[0] = max(at + published, 8)
    receiver = IncomingRing(memory)
    incoming = receiver.incoming()
    for one in walk(memory, 0, memory.control[0]):
        if one.fault is None:
            assert receiver.read(incoming).descriptor == one.descriptor
        else:
            with pytest.raises(PeerError) as caught:
                receiver.read(incoming)
            assert (caught.value.kind, caught.value.offset) == (one.fault, one.offset)
            return
    with pytest.raises(RingEmpty):
        receiver.read(incoming)
