"""Packets that were read already come back while every byte of them is still there, and no others.

After any number of laps the recovered ones are exactly those that a model of the ring, a list with
absolute positions, says are whole.  Over bytes of any kind nothing is raised, and nothing that is
returned overlaps what waits, or another.
"""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, sampled_from, tuples

from tests.helpers import MEMORIES, PACKET_KINDS, SAMPLE_NAMES, pattern, sample, send_packet
from tests.inspection.dumps import HISTORY, data_area, dump_of, look, packet, ring_image
from vmbus.errors import RingFull
from vmbus.inspection import Severity, Trust, inspect_dump, recover
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import connected_rings


def recovered(memory, in_offset: int, out_offset: int) -> list[tuple[int, Trust]]:
    return [(old.packet.offset, old.trust) for old in recover(memory, in_offset, out_offset)]


def memory_with(*pieces: tuple[int, bytes]) -> FlatRingMem:
    memory = FlatRingMem(4096)
    memory.write_at(0, data_area(4096, *pieces))
    return memory


# -- what is still there -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_consumed_packets_of_a_sample_come_back_intact_and_nothing_else(name):
    image, written = sample(name)
    control = written["control"]
    expected = [
        (one["offset"], one["type"], one["data_offset8"], one["length8"], one["flags"], one["transaction_id"])
        for one in written["packets"]
        if one["consumed"]
    ]
    memory = PagedRingMem([image[at : at + 4096] for at in range(0, len(image), 4096)])
    for one in (memory, FlatRingMem.over(image)):
        found = recover(one, control["in"], control["out"])
        assert [(old.packet.offset, *old.packet.descriptor) for old in found] == expected
        assert all(old.trust is Trust.INTACT and old.packet.fault is None for old in found)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    memory_name=sampled_from(["flat", "paged"]),
    pages=integers(1, 2),
    start=integers(0, 1023),
    actions=lists(
        tuples(
            sampled_from(list(PACKET_KINDS)),
            sampled_from([0, 1, 8, 24, 100, 300, 1000, 3000]),
            integers(0, 3),
        ),
        min_size=1,
        max_size=60,
    ),
    exactly_full=booleans(),
)
def test_after_any_laps_the_packets_come_back_that_a_model_says_are_whole(
    memory_name, pages, start, actions, exactly_full
):
    size = 4096 * pages
    start = 8 * start % size
    sender, receiver = connected_rings(memory=MEMORIES[memory_name](size), start=start)
    written_to = read_to = start  # never taken modulo the size
    packets: list[tuple[int, int]] = []  # where each starts and ends, counted likewise

    def receive() -> None:
        nonlocal read_to
        receiver.receive()
        read_to = next(end for begin, end in packets if begin == read_to)

    for number, (kind, length, reads) in enumerate(actions):
        if exactly_full and number == len(actions) - 1:
            kind, length = "in-band", max(size - 8 - (written_to - read_to) - 24, 0)
        total = len(PACKET_KINDS[kind].whole(bytes(length), 0))
        while size - 8 - (written_to - read_to) < total and written_to != read_to:
            receive()
        try:
            send_packet(sender, pattern(length, seed=number + 1), PACKET_KINDS[kind].outgoing(length))
        except RingFull:
            continue
        packets.append((written_to, written_to + total))
        written_to += total
        for _ in range(min(reads, sum(begin >= read_to for begin, _ in packets))):
            receive()

    whole = [begin for begin, end in packets if end <= read_to and begin >= written_to - size]
    control = sender.memory.control
    assert (control[0], control[1]) == (written_to % size, read_to % size)
    assert recovered(sender.memory, control[0], control[1]) == [
        (begin % size, Trust.INTACT) for begin in whole
    ]


def test_a_ring_that_never_had_a_packet_has_no_history():
    for at in (0, 8, 4088):
        assert recover(FlatRingMem(4096), at, at) == []


def test_a_packet_of_which_one_slot_was_used_again_is_gone():
    memory = memory_with((0, packet(0, bytes(100)) + packet(128) + packet(152)))
    assert recovered(memory, 176, 176) == [(0, Trust.INTACT), (128, Trust.INTACT), (152, Trust.INTACT)]
    assert recovered(memory, 0, 176) == [(0, Trust.INTACT), (128, Trust.INTACT), (152, Trust.INTACT)]
    assert recovered(memory, 8, 176) == [(128, Trust.INTACT), (152, Trust.INTACT)]
    assert recovered(memory, 128, 176) == [(128, Trust.INTACT), (152, Trust.INTACT)]
    assert recovered(memory, 136, 176) == [(152, Trust.INTACT)]
    assert recovered(memory, 160, 176) == []


@pytest.mark.parametrize("start", range(4096 - 72, 4096, 8))
def test_a_packet_that_wraps_comes_back_wherever_it_is_cut(start):
    second = (start + 40) % 4096
    memory = memory_with((start, packet(start, bytes(16))), (second, packet(second)))
    end = (second + 24) % 4096
    assert recovered(memory, end, end) == [(start, Trust.INTACT), (second, Trust.INTACT)]


def test_a_packet_that_a_ring_would_refuse_comes_back_too():
    memory = memory_with((0, packet(0, kind=99, flags=6)))
    (old,) = recover(memory, 24, 24)
    assert (old.packet.descriptor.type, old.packet.descriptor.flags) == (99, 6)
    assert old.trust is Trust.INTACT


# -- footers that are not there, or lie ----------------------------------------------------------


@pytest.mark.parametrize(
    "footer", [b"\xee" * 8, struct.pack("<II", 0, 4), struct.pack("<II", 0, 4096), struct.pack("<II", 7, 24)]
)
def test_behind_a_packet_without_a_footer_nothing_is_found(footer):
    memory = memory_with((0, packet(0) + packet(24, footer=footer)))
    assert recover(memory, 48, 48) == []
    assert recovered(memory, 24, 24) == [(0, Trust.INTACT)]


def test_a_ring_whose_writer_leaves_stale_bytes_for_footers_is_read_and_has_no_history_by_footers():
    """As QEMU's hosts do: what is there is noted, and is no error."""
    stale = [b"\xa5\x5a\xa5\x5a\xa5\x5a\xa5\x5a", bytes(8), struct.pack("<II", 0, 3000)]
    sent = [packet(64 + 40 * n, pattern(16), transaction_id=n, footer=stale[n]) for n in range(3)]
    image = ring_image(sent, out=64)
    ring = look(image, HISTORY)
    assert [one.payload for one in ring.packets] == [pattern(16)] * 3
    assert [one.footer_agrees for one in ring.packets] == [False] * 3
    assert [one[:3] for one in ring.findings] == [("footer", Severity.NOTE, 64)]
    assert inspect_dump(dump_of(image)).is_sound

    read = look(ring_image([], out=64 + 120)[:4096] + image[4096:], HISTORY)
    assert recover(read.memory, 184, 184) == []
    assert read.packets == []
    assert [(one.offset, one.trust) for one in read.consumed] == [
        (64, Trust.GUESS),
        (104, Trust.LENGTH_ONLY),
        (144, Trust.LENGTH_ONLY),
    ]
    assert [one[:3] for one in read.findings] == [("history-guess", Severity.NOTE, 64)]


def test_a_footer_that_names_a_start_is_believed_when_the_chain_behind_it_goes_on_to_an_intact_packet():
    torn = packet(24, bytes(40), length8=0xFFFF)
    memory = memory_with((0, packet(0) + torn + packet(88)))
    assert recovered(memory, 112, 112) == [(0, Trust.INTACT), (24, Trust.FOOTER_ONLY), (88, Trust.INTACT)]


def test_a_footer_that_leads_to_no_intact_packet_is_not_believed():
    memory = memory_with((24, packet(24, bytes(40), length8=0xFFFF) + packet(88)))
    assert recovered(memory, 112, 112) == [(88, Trust.INTACT)]
    alone = memory_with((24, packet(24, bytes(40), length8=3)))
    assert recover(alone, 88, 88) == []


def test_a_footer_that_names_its_own_end_or_leads_round_the_ring_ends_the_history():
    memory = memory_with((0, packet(0) + packet(24, footer=struct.pack("<II", 0, 48))))
    assert recover(memory, 48, 48) == []
    round_the_ring = memory_with((0, packet(0, footer=struct.pack("<II", 0, 32))))
    assert recover(round_the_ring, 24, 24) == []


def test_a_packet_known_by_its_footer_alone_is_shown_as_broken_with_all_its_bytes():
    torn = packet(24, pattern(40), length8=0xFFFF)
    ring = look(ring_image([], out=112)[:4096] + data_area(4096, (0, packet(0) + torn + packet(88))), HISTORY)
    assert [(one.offset, one.trust) for one in ring.consumed] == [
        (0, Trust.INTACT),
        (24, Trust.FOOTER_ONLY),
        (88, Trust.INTACT),
    ]
    assert (ring.consumed[1].broken, ring.consumed[1].raw) == ("descriptor-length", torn)
    assert (ring.consumed[1].packet_size, ring.consumed[1].payload) == (64, pattern(40))
    assert ring.findings == []  # what was read already is no reason to distrust the ring


# -- any bytes -----------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=integers(0, 2**32),
    in_offset=integers(0, 511).map(lambda slot: 8 * slot),
    out_offset=integers(0, 511).map(lambda slot: 8 * slot),
    lengths=lists(sampled_from([24, 24, 32, 48, 200, 2000]), max_size=100),
    lies=lists(integers(0, 99), max_size=6),
    values=lists(integers(0, 520).map(lambda slot: 8 * slot), min_size=6, max_size=6),
)
def test_over_any_bytes_nothing_is_raised_and_nothing_overlaps_what_waits(
    seed, in_offset, out_offset, lengths, lies, values
):
    memory = memory_with((0, Random(seed).randbytes(4096)))
    at = out_offset
    for number, total in enumerate(lengths):  # a chain of packets backwards from out, some of them lies
        at = (at - total) % 4096
        start = values[lies.index(number)] if number in lies else at
        memory.write_at(at, packet(at, bytes(total - 24), footer=struct.pack("<II", 0, start)))
    found = recover(memory, in_offset, out_offset)
    left = 4096 - (in_offset - out_offset) % 4096
    end = out_offset
    for old in reversed(found):
        taken = (end - old.packet.offset) % 4096
        assert taken == old.packet.available
        assert 24 <= taken <= left
        left -= taken
        end = old.packet.offset
    if found:
        assert found[0].trust is Trust.INTACT
    assert len(found) <= 4096 // 24


def test_the_history_of_a_ring_read_to_its_end_is_what_was_read():
    sender, receiver = connected_rings(8192, start=8000)
    sent = []
    for number in range(400):
        payload = pattern(8 * (number % 30), seed=number)
        sender.send(payload, transaction_id=number)
        sent.append((number, payload))
        if number % 3 == 2:
            receiver.receive_many()
    receiver.receive_many()
    memory = sender.memory
    ring = look(control_and_data(memory), HISTORY)
    assert ring.packets == []
    assert len(ring.consumed) > 20
    seen = [(one.descriptor.transaction_id, one.payload) for one in ring.consumed]
    assert seen == sent[-len(seen) :]


def control_and_data(memory) -> bytes:
    words = [memory.control[word] for word in range(32)]
    return struct.pack("<32I", *words).ljust(4096, b"\0") + memory.read_at(0, memory.size)
