"""Arithmetic on (size, in, out), held against a count of slots one by one."""

from __future__ import annotations

import pytest

from tests.known_bugs import known_bug
from vmbus.ring import advance, free_bytes, is_offset, largest_packet, used_bytes

#: Every pair of offsets of a small ring; no function here asks that a size be whole pages.
SMALL = 128
OFFSETS = range(0, SMALL, 8)


def slots_from(out: int, to: int, size: int) -> list[int]:
    """The offsets a reader steps over from `out` to `to`."""
    slots = []
    while out != to:
        slots.append(out)
        out = out + 8 if out + 8 < size else 0
    return slots


@pytest.mark.parametrize("out", OFFSETS)
def test_used_bytes_are_the_slots_between_out_and_in(out):
    for in_offset in OFFSETS:
        assert used_bytes(SMALL, in_offset, out) == 8 * len(slots_from(out, in_offset, SMALL))


@known_bug("B25", "B26")
@pytest.mark.parametrize("out", OFFSETS)
def test_free_bytes_are_all_others_but_the_slot_that_tells_full_from_empty(out):
    for in_offset in OFFSETS:
        free = free_bytes(SMALL, in_offset, out)
        used = used_bytes(SMALL, in_offset, out)
        assert free == SMALL - 8 - used
        assert 0 <= free <= SMALL - 8
        assert advance(SMALL, in_offset, free) == (out - 8) % SMALL


def test_same_offsets_are_an_empty_ring():
    for offset in OFFSETS:
        assert (used_bytes(SMALL, offset, offset), free_bytes(SMALL, offset, offset)) == (0, SMALL - 8)


def test_advance_steps_slot_by_slot_and_wraps_at_the_end():
    for offset in OFFSETS:
        for length in range(0, SMALL + 8, 8):
            stepped = offset
            for _ in range(length // 8):
                stepped = stepped + 8 if stepped + 8 < SMALL else 0
            assert advance(SMALL, offset, length) == stepped


@known_bug("B26")
@pytest.mark.parametrize("size", [4096, 5 * 4096, 2**31 - 4096])
def test_an_offset_is_a_multiple_of_8_below_the_size(size):
    good = [0, 8, 16, size // 2, size - 16, size - 8]
    bad = [1, 2, 4, 7, 9, size - 9, size - 7, size - 4, size - 1, size, size + 8, 2**31, 2**32 - 8, 2**32 - 1]
    assert [value for value in good + bad if is_offset(size, value)] == good


@known_bug("B25")
def test_the_largest_packet_leaves_one_slot_and_is_at_most_what_16_bits_count():
    assert largest_packet(4096) == 4088
    assert largest_packet(524_288) == 524_280
    assert largest_packet(524_288 + 4096) == 524_288
    assert largest_packet(2**31 - 4096) == 524_288
