"""Packets without footers come back by their lengths alone, each trusted as far as that goes, and noise
gives none.

Packets are spelled by hand as QEMU's hosts leave them, with other bytes where a footer would be.  The model
of the search is a slow one: it tries every place, packet by packet, with the rule that readers have.
"""

from __future__ import annotations

import struct
import time
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from tests.helpers import MEMORIES, pattern
from tests.inspection.dumps import (
    COMPLETION,
    GPA_DIRECT,
    HISTORY,
    IN_BAND,
    TRANSFER_PAGES,
    look,
    packet,
    ring_image,
)
from vmbus.inspection import Severity, Trust, guess_chain, recover
from vmbus.inspection.guess import MOST_SEARCHED
from vmbus.layout import DESCRIPTOR_SIZE, PACKET_DESCRIPTOR
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import descriptor_fault

SIZE = 4096
NO_FOOTER = b"\xa5" * 8


def memory_with(*pieces: tuple[int, bytes], kind: str = "flat", size: int = SIZE) -> RingMem:
    memory = MEMORIES[kind](size)
    for offset, piece in pieces:
        memory.write_at(offset, piece)
    return memory


def trusted(memory: RingMem, in_offset: int, out_offset: int) -> list[tuple[int, str]]:
    found = recover(memory, in_offset, out_offset, guess=True)
    return [(old.packet.offset, old.trust.value) for old in found]


def row(start: int, *lengths: int, footer: bytes | None = NO_FOOTER) -> bytes:
    """Packets one behind the other, each of so many bytes with its footer."""
    written = b""
    for length in lengths:
        at = (start + len(written)) % SIZE
        written += packet(at, pattern(length - 24, seed=at + 1), footer=footer)
    return written


# -- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 5, IN_BAND, TRANSFER_PAGES, 8, GPA_DIRECT, COMPLETION, 65535])
@pytest.mark.parametrize("data_offset8", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("flags", [0, 1, 2, 3, 0x8000])
def test_a_place_is_taken_for_a_packet_where_a_reader_would_take_it_for_one(kind, data_offset8, flags):
    for length8, less in product((1, 2, 3, 4, 510, 511, 65535), (0, 8)):
        check_rule((kind, data_offset8, length8, flags, 2**64 - 1), min((length8 + 1) * 8, SIZE) - less)


def check_rule(descriptor: tuple[int, ...], length: int) -> None:
    """A ring with one descriptor, so many bytes before out."""
    memory = FlatRingMem(SIZE)
    memory.write_at(0, struct.pack("<HHHHQ", *descriptor))
    found = [guessed.packet.offset for guessed in guess_chain(memory, length, length).newest_first()]
    record = PACKET_DESCRIPTOR.record(*descriptor)
    fits = descriptor_fault(record, length) is None and record.packet_size == length
    assert (0 in found) == fits


# -- chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("start", [0, 8, 2000, 4000, 4048, 4088])
def test_the_packets_of_a_row_without_footers_come_back_wherever_it_wraps(kind, start):
    lengths = [24, 48, 200, 32, 1000]
    memory = memory_with((start, row(start, *lengths)), kind=kind)
    out = (start + sum(lengths)) % SIZE
    starts = [(start + sum(lengths[:number])) % SIZE for number in range(len(lengths))]
    expected = [(starts[0], "guess"), *((at, "length-only") for at in starts[1:])]
    assert trusted(memory, out, out) == expected


def test_a_lonely_packet_is_a_guess():
    assert trusted(memory_with((0, row(0, 40))), 40, 40) == [(0, "guess")]


def test_what_waits_is_not_looked_at():
    memory = memory_with((0, row(0, 40, 40, 40)))
    assert trusted(memory, 80, 40) == [(0, "guess")]
    assert trusted(memory, 40, 40) == [(0, "guess")]  # what is behind in was not read but written over


def test_a_packet_that_waits_is_none_of_a_chain_that_goes_on_round_the_ring():
    memory = memory_with((0, row(0, *[32] * (SIZE // 32))))
    assert trusted(memory, 32, 0)[0] == (32, "guess")
    assert len(trusted(memory, 32, 0)) == SIZE // 32 - 1
    assert len(trusted(memory, 0, 0)) == SIZE // 32


def test_of_a_packet_that_was_written_over_in_part_nothing_is_said():
    memory = memory_with((0, row(0, 40, 40, 40)))
    memory.write_at(0, bytes(48))
    assert trusted(memory, 120, 120) == [(80, "guess")]


def test_behind_the_last_packet_that_footers_lead_to_lengths_go_on():
    memory = memory_with((0, row(0, 40, 40, 40)), (120, row(120, 40, 40, footer=None)))
    assert trusted(memory, 200, 200) == [
        (0, "guess"),
        (40, "length-only"),
        (80, "length-only"),
        (120, "intact"),
        (160, "intact"),
    ]


def test_a_ring_that_footers_lead_through_to_the_end_needs_no_guess():
    memory = FlatRingMem(SIZE)
    for offset in range(0, SIZE - 31, 32):
        memory.write_at(offset, packet(offset, b"8 bytes."))
    found = trusted(memory, 0, 0)
    assert len(found) == SIZE // 32
    assert {trust for _, trust in found} == {"intact"}


def test_a_chain_that_ends_one_slot_early_or_late_is_none():
    memory = memory_with((0, row(0, 40, 40, 40)))
    assert trusted(memory, 112, 112) == []
    assert trusted(memory, 128, 128) == []


# -- chains that compete -------------------------------------------------------------------------


def with_nested(*inner: int) -> tuple[RingMem, int]:
    """Three packets, of which the middle one's payload looks like packets up to its own end."""
    nested = b"".join(row(0, length) for length in inner)
    filler = 200 - 16 - len(nested)  # the last of them ends where the middle one's footer does
    middle = packet(0, bytes(filler) + nested[:-8], footer=nested[-8:])
    assert len(middle) == 200
    content = row(0, 40) + middle + row(240, 40)
    return memory_with((0, content)), len(content)


def test_where_a_payload_looks_like_packets_they_compete():
    memory, out = with_nested(40)
    assert trusted(memory, out, out) == [(0, "guess"), (40, "guess"), (240, "length-only")]
    assert guess_chain(memory, out, SIZE).competing == 1


def test_every_chain_that_competes_is_counted_once():
    memory, out = with_nested(24, 48)
    chain = guess_chain(memory, out, SIZE)
    assert chain.competing == 1
    longer, out = with_nested(24, 24, 24)
    assert guess_chain(longer, out, SIZE).competing == 1
    assert [trust for _, trust in trusted(longer, out, out)][-1] == "length-only"


def test_a_place_whose_packet_would_reach_over_several_makes_all_of_them_guesses():
    content = row(0, 40, 40, 40, 40, 40)
    memory = memory_with((0, content))
    memory.write_at(56, struct.pack("<HHHH", IN_BAND, 2, (160 - 56 - 8) // 8, 0))  # up to the last packet
    assert trusted(memory, 200, 200) == [
        (0, "guess"),
        (40, "guess"),
        (80, "guess"),
        (120, "guess"),
        (160, "length-only"),
    ]


def test_a_far_jump_to_a_packet_does_not_hide_those_in_between():
    memory = memory_with((400, row(400, *[40] * 10)))
    memory.write_at(0, struct.pack("<HHHH", IN_BAND, 2, (760 - 8) // 8, 0))  # ends where the last one begins
    found = trusted(memory, 800, 800)
    assert [offset for offset, _ in found] == [400 + 40 * number for number in range(10)]
    assert {trust for _, trust in found[:-1]} == {"guess"}
    assert found[-1] == (760, "length-only")


# -- reports -------------------------------------------------------------------------------------


def test_a_report_says_how_many_no_footer_leads_to_and_stays_sound():
    image = ring_image([], out=120)[:4096] + memory_with((0, row(0, 40, 40, 40))).read_at(0, SIZE)
    ring = look(image, HISTORY)
    assert [(one.offset, one.trust) for one in ring.consumed] == [
        (0, Trust.GUESS),
        (40, Trust.LENGTH_ONLY),
        (80, Trust.LENGTH_ONLY),
    ]
    (finding,) = ring.findings
    assert finding[:3] == ("history-guess", Severity.NOTE, 0)
    assert (
        "no footer leads to 3 of the packets read already: 2 by lengths alone, 1 no more" in finding.message
    )
    assert "no other chain of lengths would fit" in finding.message
    assert ring.is_sound
    assert look(image).findings == []


def test_a_report_counts_the_chains_that_compete():
    memory, out = with_nested(40)
    (finding,) = look(ring_image([], out=out)[:4096] + memory.read_at(0, SIZE), HISTORY).findings
    assert "1 other chain of lengths would fit" in finding.message


def test_with_a_limit_the_newest_are_shown_and_all_are_counted():
    image = ring_image([], out=120)[:4096] + memory_with((0, row(0, 40, 40, 40))).read_at(0, SIZE)
    ring = look(image, HISTORY._replace(limit=1))
    assert ([one.offset for one in ring.consumed], ring.recovered) == ([80], 3)


# -- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_noise_has_no_packets(seed):
    size = 1 << 20
    memory = FlatRingMem(size)
    memory.write_at(0, Random(seed).randbytes(size))
    chain = guess_chain(memory, 0, size)
    assert (len(chain.slots), chain.competing) == (0, 0)


def test_noise_behind_true_packets_is_not_taken_for_older_ones():
    for seed in range(20):
        memory = memory_with((0, Random(seed).randbytes(SIZE)), (2000, row(2000, *[40] * 10)))
        found = trusted(memory, 2400, 2400)
        assert [offset for offset, _ in found] == [2000 + 40 * number for number in range(10)]
        assert [trust for _, trust in found] == ["guess", *["length-only"] * 9]


def test_zeros_have_no_packets():
    assert trusted(FlatRingMem(SIZE), 0, 0) == []


# -- any bytes, against the slow search ------------------------------------------------------------


def slow_chain(memory: RingMem, end: int, length: int) -> tuple[list[int], list[bool], int]:
    """Starts and doubts of the longest chain, and how many others there are, tried place by place."""
    start = (end - length) % memory.size
    ends: dict[int, int] = {}
    for at in range(0, length - 15, 8):
        descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at((start + at) % memory.size, DESCRIPTOR_SIZE))
        if descriptor_fault(descriptor, length - at) is None:
            ends[at] = at + descriptor.packet_size

    def path(at: int) -> list[int] | None:
        places = []
        while at in ends:
            places.append(at)
            at = ends[at]
        return places if at == length else None

    paths = {at: found for at in ends if (found := path(at)) is not None}
    if not paths:
        return [], [], 0
    longest = max(paths.values(), key=lambda found: (len(found), -found[0]))
    leaves = paths.keys() - {ends[at] for at in paths}
    others = paths.keys() - set(longest)
    doubts = [
        number == 0 or any(other < ends[at] and at < ends[other] for other in others)
        for number, at in enumerate(longest)
    ]
    return [(start + at) % memory.size for at in longest], doubts, len(leaves) - 1


@settings(max_examples=150, deadline=None)
@given(
    seed=integers(0, 2**32),
    count=integers(64, 512),
    start=integers(0, 511),
    end=integers(0, 511),
    length=integers(0, 512),
)
def test_over_descriptors_everywhere_the_search_finds_what_a_slow_one_finds(seed, count, start, end, length):
    random = Random(seed)
    memory = FlatRingMem(SIZE)
    kinds = [IN_BAND, GPA_DIRECT, COMPLETION, 0]
    data = b"".join(
        struct.pack(
            "<HHHH", random.choice(kinds), random.randint(1, 4), random.randint(1, 40), random.randint(0, 1)
        )
        for _ in range(count)
    )
    memory.write_at(8 * start, data)
    chain = guess_chain(memory, 8 * end, 8 * length)
    newest_first = [*chain.newest_first()]
    found = [guessed.packet.offset for guessed in reversed(newest_first)]
    doubts = [guessed.contested for guessed in reversed(newest_first)]
    assert (found, doubts, chain.competing) == slow_chain(memory, 8 * end, 8 * length)


class CountingMem(FlatRingMem):
    """Counts the bytes that are read."""

    taken = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.taken += length
        return super().read_at(offset, length)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(struct.pack("<HHHHQ", IN_BAND, 2, 2, 0, 0) + bytes(8), id="smallest packets"),
        pytest.param(struct.pack("<HHHH", IN_BAND, 2, 2, 0), id="a descriptor in every slot"),
        pytest.param(struct.pack("<HHHH", IN_BAND, 2, 60000, 0), id="long ones in every slot"),
    ],
)
def test_a_large_ring_is_read_once_and_searched_in_time_that_grows_with_its_size(content):
    size = 2 << 20
    memory = CountingMem(size)
    memory.write_at(0, (content * (size // len(content) + 1))[:size])
    started = time.perf_counter()
    chain = guess_chain(memory, 0, size)
    assert memory.taken == size
    assert time.perf_counter() - started < 2
    assert len(chain.slots) <= size // 24


def test_of_a_huge_ring_only_the_newest_bytes_are_searched():
    memory = FlatRingMem(MOST_SEARCHED + (1 << 20))
    chain = guess_chain(memory, 0, memory.size)
    assert (chain.cut, chain.start) == (1 << 20, 1 << 20)
