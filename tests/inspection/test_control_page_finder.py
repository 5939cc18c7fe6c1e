"""Pages with the shape of a control page are found wherever they lie, and no others."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import booleans, integers, lists, sampled_from, tuples

from tests.inspection.dumps import control_page
from vmbus.inspection import find_control_pages

LARGEST = 2**31 - 4096

SHAPES = {
    "in and out": (control_page(64, 32), False),
    "in alone, no features": (control_page(64, 0, features=0), False),
    "out alone, no features": (control_page(0, 64, features=0), False),
    "emptied and masked": (control_page(0, 0, mask=1), False),
    "pending alone": (control_page(0, 0, pending=4120), False),
    "pending size that is no multiple of 8": (control_page(8, 8, pending=4095), False),
    "largest offsets": (control_page(LARGEST - 8, LARGEST - 8, pending=LARGEST - 1), False),
    "never used": (control_page(0, 0), True),
}

OTHERS = {
    "zeros": bytes(4096),
    "in no multiple of 8": control_page(68, 32),
    "out no multiple of 8": control_page(64, 33),
    "in too large": control_page(LARGEST, 0),
    "out too large": control_page(0, LARGEST),
    "in above 2**31": control_page(2**31, 0),
    "mask of 2": control_page(64, 0, mask=2),
    "pending too large": control_page(64, 0, pending=LARGEST),
    "feature of 2": control_page(64, 0, features=2),
    "word behind the features": control_page(64, 0, others={17: 1}),
    "word 4": control_page(64, 0, others={4: 1}),
    "word 15": control_page(64, 0, others={15: 0x80000000}),
    "word 31": control_page(64, 0, others={31: 1}),
    "byte behind the words": control_page(64, 0)[:128] + b"\1" + bytes(3967),
    "last byte": control_page(64, 0)[:4095] + b"\1",
    "mask alone, no features": control_page(0, 0, mask=1, features=0),
    "pending alone, no features": control_page(0, 0, pending=64, features=0),
    "random": Random(7).randbytes(4096),
}

NAMES = [*SHAPES, *OTHERS]


def page_of(name: str) -> bytes:
    return SHAPES[name][0] if name in SHAPES else OTHERS[name]


def expected(start: int, memory: bytes) -> list[tuple[int, int, int, bool]]:
    """The same, page by page and word by word."""
    found = []
    for address in range(start + -start % 4096, start + len(memory) - 4095, 4096):
        page = memory[address - start : address - start + 4096]
        in_offset, out_offset, mask, pending = struct.unpack("<4I", page[:16])
        (feature,) = struct.unpack("<I", page[64:68])
        others = page[16:64] + page[68:]
        if (
            in_offset % 8 == out_offset % 8 == 0
            and max(in_offset, out_offset, pending) < LARGEST
            and mask in (0, 1)
            and feature in (0, 1)
            and others.count(0) == len(others)
            and (feature or in_offset or out_offset)
        ):
            found.append((address, in_offset, out_offset, not (in_offset or out_offset or mask or pending)))
    return found


def found_in(start: int, memory: bytes) -> list[tuple[int, int, int, bool]]:
    return [
        (one.address, one.control.in_offset, one.control.out_offset, one.unused)
        for one in find_control_pages(start, memory)
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_a_page_with_the_shape_is_found_among_zeros_and_noise(name):
    page, unused = SHAPES[name]
    memory = bytes(4096) + page + Random(1).randbytes(4096)
    (one,) = find_control_pages(0x40000, memory)
    assert (one.address, one.unused) == (0x41000, unused)
    assert one.control[:4] == struct.unpack("<4I", page[:16])


@pytest.mark.parametrize("name", OTHERS)
def test_a_page_with_another_shape_is_not_found(name):
    assert find_control_pages(0x40000, bytes(4096) + OTHERS[name]) == []


@settings(max_examples=150, deadline=None)
@given(
    start=sampled_from([0, 4096, 8, 1, 4095, 2**63 + 24]),
    names=lists(sampled_from(NAMES), max_size=6),
    before=integers(0, 4100),
    after=integers(0, 4100),
    aligned=booleans(),
    changes=lists(tuples(integers(0, 30000), integers(0, 255)), max_size=2),
)
@example(start=8, names=NAMES[:1], before=0, after=0, aligned=False, changes=[])
@example(start=8, names=NAMES[:1], before=0, after=0, aligned=True, changes=[])
def test_in_any_memory_those_are_found_that_a_look_at_every_word_finds(
    start, names, before, after, aligned, changes
):
    front = -start % 4096 if aligned else before
    memory = bytearray(bytes(front) + b"".join(map(page_of, names)) + bytes(after))
    for place, value in changes:
        if memory:
            memory[place % len(memory)] = value
    assert found_in(start, bytes(memory)) == expected(start, bytes(memory))
    assert found_in(start, memoryview(memory)) == expected(start, bytes(memory))


def test_random_bytes_hold_none():
    assert find_control_pages(0, Random(3).randbytes(1 << 20)) == []


def test_an_empty_piece_and_one_without_a_whole_page_hold_none():
    assert find_control_pages(0, b"") == []
    assert find_control_pages(8, control_page(64, 0)) == []
