"""The size of a ring comes from its packets, and is right or unknown, never wrong."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.scene_rings import RingWriter

from tests.inspection.dumps import data_area, packet
from vmbus.inspection.data_area import DataArea, Effort
from vmbus.inspection.ring_evidence import RingEvidence, evidence_of, try_size
from vmbus.ring import inspect_ring

PAGE = 4096


def area_of(data: bytes, behind: bytes = b"", effort: Effort | None = None) -> DataArea:
    """A data area and what lies behind it."""
    memory = data + behind
    pages = [memory[at : at + PAGE] for at in range(0, len(memory), PAGE)]
    return DataArea(lambda number: pages[number] if number < len(pages) else None, effort=effort)


def control(in_offset: int, out_offset: int):
    return inspect_ring(struct.pack("<2I120x", in_offset, out_offset))


def look(data: bytes, in_offset: int, out_offset: int, behind: bytes = b"") -> RingEvidence:
    return evidence_of(area_of(data, behind), control(in_offset, out_offset))


def chain(start: int, *lengths: int, size: int, footers: bool = True) -> tuple[list[tuple[int, bytes]], int]:
    """Packets of so many bytes one behind the other, and where they end; none is alike."""
    at, pieces = start, []
    for number, length in enumerate(lengths):
        payload = bytes([number + 1]) * (length - 24)
        footer = None if footers else b"\xa5" * 8
        pieces.append((at, packet(at, payload, footer=footer)))
        at = (at + length) % size
    return pieces, at


NOISE = Random(4).randbytes(6 * PAGE)


@pytest.mark.parametrize("behind", [b"", bytes(4 * PAGE), NOISE], ids=["nothing", "zeros", "noise"])
@pytest.mark.parametrize("pages", [1, 2, 5])
@pytest.mark.parametrize("end", [0, 8, 16, 24, 32, 40, 392], ids=lambda end: f"{end} behind")
def test_a_packet_read_across_the_end_says_the_size(pages, end, behind):
    """Its descriptor, its payload or its footer is split, or it ends exactly at the end."""
    size = pages * PAGE
    pieces, out = chain(size - 400 + end, 400, 64, size=size)
    evidence = look(data_area(size, *pieces), out, out, behind)
    assert evidence.size == size
    assert evidence.best.wraps == 1
    assert evidence.best.recovered == 2
    assert evidence.best.ends_at_in


@pytest.mark.parametrize("footers", [True, False])
@pytest.mark.parametrize("pages", [1, 5])
@pytest.mark.parametrize("end", [0, 8, 16, 24, 200])
def test_a_packet_waiting_across_the_end_says_the_size(pages, end, footers):
    size = pages * PAGE
    pieces, in_offset = chain(size - 504 + end, 304, 200, 48, size=size, footers=footers)
    evidence = look(data_area(size, *pieces), in_offset, size - 504 + end, NOISE)
    assert evidence.size == size
    assert (evidence.best.waiting, evidence.best.footers) == (3, 3 if footers else 0)


@pytest.mark.parametrize("count", [40, 150])
def test_of_many_waiting_packets_the_one_that_wraps_says_the_size(count):
    """Hundreds of pages cross a multiple of the page size before the one that crosses the end."""
    writer = RingWriter(Random(count), count * PAGE, start=8 * 512, footers=False)
    while writer.free > 4000:
        writer.send(8 * writer.random.randrange(100, 400))
    assert len(writer.waiting) > count
    assert writer.in_offset < writer.out_offset
    evidence = look(bytes(writer.data), writer.in_offset, writer.out_offset, NOISE)
    assert evidence.size == writer.size
    assert evidence.best.waiting == len(writer.waiting)


def test_a_packet_of_half_a_megabyte_across_the_end_says_the_size():
    size = 700_416
    writer = RingWriter(Random(1), size, start=size - 300_000, footers=False)
    writer.send(524_280)
    evidence = look(bytes(writer.data), writer.in_offset, writer.out_offset)
    assert evidence.size == size


def test_without_a_packet_at_the_end_the_size_is_unknown_and_the_smallest_is_said():
    pieces, in_offset = chain(4000, 64, 5000, 200, size=5 * PAGE)
    evidence = look(data_area(5 * PAGE, *pieces), in_offset, 4064)
    assert (evidence.size, evidence.sizes) == (None, ())
    assert evidence.smallest == 3 * PAGE
    assert (evidence.best.waiting, evidence.best.recovered) == (2, 1)


def test_between_two_sizes_that_explain_as_much_nothing_is_decided():
    """Everything was read, and a packet ends at each of two pages."""
    ends = [(end - 64, packet(end - 64, bytes(40))) for end in (2 * PAGE, 3 * PAGE)]
    tied = look(data_area(4 * PAGE, *ends), 0, 0)
    assert tied.size is None
    assert tied.sizes == (2 * PAGE, 3 * PAGE)
    assert tied.best.recovered == 0


def test_of_two_sizes_the_one_that_explains_more_is_taken():
    size = 3 * PAGE
    at_end, _ = chain(size - 96, 48, 48, size=size)
    other = (2 * PAGE - 64, packet(2 * PAGE - 64, bytes(40)))
    evidence = look(data_area(size, other, *at_end), 0, 0)
    assert evidence.size == size
    assert evidence.sizes == (size, 2 * PAGE)


def test_a_broken_packet_behind_a_good_history_does_not_hide_the_size():
    size = 2 * PAGE
    pieces, out = chain(size - 100 * 8, 400, 400, 64, 64, size=size)
    broken = (out, struct.pack("<HHHH", 99, 2, 0, 0))
    evidence = look(data_area(size, *pieces, broken), out + 64, out)
    assert evidence.size == size
    assert not evidence.best.ends_at_in


def test_one_packet_of_history_and_a_broken_one_that_waits_decide_nothing():
    size = 2 * PAGE
    pieces, out = chain(size - 32, 64, size=size)
    evidence = look(data_area(size, *pieces, (out, b"\xff" * 8)), out + 64, out)
    assert evidence.size is None


def test_footers_that_name_other_places_are_those_of_another_ring():
    pieces, in_offset = chain(0, 64, 64, 64, size=PAGE)
    moved = [(at + 512, content) for at, content in pieces]
    evidence = look(data_area(PAGE, *moved), in_offset + 512, 512)
    assert (evidence.best.waiting, evidence.best.footers) == (3, 0)
    assert evidence.best.strangers == 2  # the first one names 0, which zeros would too


def test_where_the_effort_is_spent_less_is_looked_at():
    """And what is found is true all the same."""
    size = 40 * PAGE
    writer = RingWriter(Random(3), size, start=0)
    while len(writer.packets) < 5000:
        if writer.free < 200:
            writer.receive(4)
        writer.send(48)
    writer.receive(len(writer.waiting) - 3)
    with_care, briefly = Effort(), Effort(-1)
    words = control(writer.in_offset, writer.out_offset)
    full = evidence_of(area_of(bytes(writer.data), effort=with_care), words)
    brief = evidence_of(area_of(bytes(writer.data), effort=briefly), words)
    assert full.size == size
    assert brief.size in (None, size)
    assert (-1 - briefly.left) < (Effort().left - with_care.left) / 2


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    pages=st.integers(1, 9),
    footers=st.booleans(),
    laps=st.floats(0.1, 3),
    waiting=st.integers(0, 40),
    mid_write=st.booleans(),
    behind=st.sampled_from([b"", bytes(3 * PAGE), NOISE]),
)
def test_the_size_of_any_ring_is_right_or_unknown(seed, pages, footers, laps, waiting, mid_write, behind):
    random = Random(seed)
    size = pages * PAGE
    writer = RingWriter(random, size, start=8 * random.randrange(size // 8), footers=footers)
    writer.run(int(laps * size), waiting=waiting)
    if mid_write:
        writer.begin_next()
    evidence = look(bytes(writer.data), writer.in_offset, writer.out_offset, behind)
    assert evidence.size in (None, size)
    assert evidence.smallest <= size
    if writer.decides_size():
        assert evidence.size == size
    if evidence.size:
        assert evidence.best.waiting == len(writer.waiting)
        assert evidence.best.ends_at_in
        assert not footers or evidence.best.footers == len(writer.waiting)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=600),
    in_offset=st.integers(0, 2047),
    out=st.integers(0, 2047),
    size=st.integers(1, 4),
)
def test_any_bytes_give_some_evidence(data, in_offset, out, size):
    memory = (data * 40)[: 4 * PAGE].ljust(4 * PAGE, b"\0")
    words = control(8 * in_offset, 8 * out)
    evidence = evidence_of(area_of(memory), words)
    assert evidence.smallest % PAGE == 0
    assert evidence.size is None or evidence.size in evidence.sizes
    if max(in_offset, out) * 8 < size * PAGE:
        trial = try_size(area_of(memory), words, size * PAGE)
        assert 0 <= trial.footers + trial.strangers <= 2 * trial.waiting
