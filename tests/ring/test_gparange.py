"""Ranges of guest memory: their shape, their five faults, their parts, and the form they travel in.

The oracle of the parts is a list with one guest-physical address for every byte of a range.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.known_bugs import known_bug
from vmbus.errors import CallerError, PeerError
from vmbus.layout import GPA_RANGE, GPA_RANGE_WITH_PAGES_SCHEMA
from vmbus.ring import (
    AddressRange,
    GpaRange,
    GpaRangeFault,
    MultiPagedRangeBuf,
    PagedRange,
    validate_gpa_ranges,
)

REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)


def addresses(one: PagedRange) -> list[int]:
    """The guest-physical address of every byte, from the parts that `ranges` gives."""
    return [address for part in one.ranges() for address in range(part.start, part.end)]


def bytes_of(offset: int, length: int, gpns: list[int]) -> list[int]:
    """The same, from the pages, byte by byte."""
    return [gpns[at // 4096] * 4096 + at % 4096 for at in range(offset, offset + length)]


@some.composite
def pages_and_bytes(draw):
    """An offset, a length and the pages for them, with neighbours among the pages."""
    gpns = draw(some.lists(some.sampled_from((3, 4, 5, 9, 2**52 - 1)), min_size=1, max_size=4))
    room = 4096 * len(gpns)
    near = some.sampled_from((0, 1, 4095, 4096, 4097, 8192)).filter(lambda value: value <= room)
    offset = draw(some.one_of(near, some.integers(0, room)))
    left = room - offset
    length = draw(some.one_of(some.sampled_from((0, left, min(1, left), left // 2)), some.integers(0, left)))
    return offset, length, gpns


@known_bug("B54")
@REPEATABLE
@given(pages_and_bytes(), some.integers(0, 2**14), some.integers(0, 2**14))
def test_a_part_of_a_range_is_that_part_of_its_bytes(what, first, second):
    offset, length, gpns = what
    whole = PagedRange(offset, length, gpns)
    expected = bytes_of(offset, length, gpns)
    assert len(whole) == length and addresses(whole) == expected
    start, end = sorted((first % (length + 1), second % (length + 1)))
    assert addresses(whole.subrange(start, end - start)) == expected[start:end]
    assert whole.try_subrange(start, end - start) == whole.subrange(start, end - start)
    assert addresses(whole.skip(start)) == expected[start:]
    assert addresses(whole.truncate(end)) == expected[:end]
    before, behind = whole.split(start)
    assert (addresses(before), addresses(behind)) == (expected[:start], expected[start:])
    # A part of a part is the part counted from the whole.
    assert whole.skip(start).truncate(end - start) == whole.subrange(start, end - start)


@known_bug("B54")
def test_a_part_counts_from_the_ranges_own_offset():
    part = PagedRange(0x800, 0x1000, [1, 2]).subrange(0x700, 0x200)
    assert list(part.ranges()) == [AddressRange(0x1F00, 0x2100)]
    assert (part.offset, len(part), part.gpns) == (0xF00, 0x200, (1, 2))
    assert PagedRange(0x800, 0x1000, [1, 2]).skip(0x800).gpns == (2,)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 101), (100, 1), (101, 0), (50, 51)])
def test_bytes_that_are_not_all_inside_a_range_are_no_part_of_it(offset, length):
    whole = PagedRange(0, 100, [1])
    assert whole.try_subrange(offset, length) is None
    with pytest.raises(CallerError, match=f"bytes {offset} to {offset + length}"):
        whole.subrange(offset, length)


def test_skipping_or_cutting_more_than_there_is_is_the_callers_error():
    whole = PagedRange(0, 100, [1])
    for call in (lambda: whole.skip(101), lambda: whole.truncate(101), lambda: whole.split(101)):
        with pytest.raises(CallerError):
            call()


@known_bug("B59")
def test_a_range_of_no_bytes_has_only_parts_of_no_bytes_and_goes_below_nothing():
    empty = PagedRange.empty()
    assert (len(empty), empty.is_empty, empty.gpns, list(empty.ranges())) == (0, True, (), [])
    assert empty.subrange(0, 0) == empty.skip(0) == empty.truncate(0) == empty
    assert empty.split(0) == (empty, empty)
    assert empty.try_subrange(0, 1) is None and empty.try_subrange(1, 0) is None
    assert PagedRange(100, 50, [7]).skip(50) == empty
    assert PagedRange(4096, 0, [7]) == PagedRange(0, 0, [7, 8]) == empty


@pytest.mark.parametrize(
    ("offset", "length", "gpns"),
    [(0, 4097, [1]), (4095, 2, [1]), (4096, 1, [1]), (1, 0, []), (0, 1, []), (-1, 1, [1]), (0, -1, [1])],
)
def test_a_range_needs_pages_for_all_its_bytes(offset, length, gpns):
    with pytest.raises(CallerError, match=f"{len(gpns)} pages hold {4096 * len(gpns)} bytes"):
        PagedRange(offset, length, gpns)


@pytest.mark.parametrize("gpn", [-1, 2**64])
def test_a_page_number_has_64_bits(gpn):
    with pytest.raises(CallerError, match="64 bits"):
        PagedRange(0, 1, [gpn])
    assert PagedRange(0, 1, [2**64 - 1]).gpns == (2**64 - 1,)


def test_pages_before_the_first_byte_and_behind_the_last_are_dropped():
    one = PagedRange(4096 + 8, 4096, [1, 2, 3, 4])
    assert (one.offset, len(one), one.gpns) == (8, 4096, (2, 3))


def test_pages_that_follow_each_other_become_one_stretch():
    assert list(PagedRange(16, 3 * 4096, [4, 5, 6, 9]).ranges()) == [(0x4010, 0x7000), (0x9000, 0x9010)]
    assert list(PagedRange(0, 8192, [5, 4]).ranges()) == [(0x5000, 0x6000), (0x4000, 0x5000)]
    assert list(PagedRange(0, 8192, [0, 0]).ranges()) == [(0, 0x1000), (0, 0x1000)]


def test_ranges_of_the_same_bytes_in_the_same_pages_are_equal():
    one = PagedRange(4, 8, [1, 2])
    assert one == PagedRange(4, 8, [1]) and hash(one) == hash(PagedRange(4, 8, [1]))
    for other in (PagedRange(5, 8, [1]), PagedRange(4, 9, [1]), PagedRange(4, 8, [2])):
        assert one != other
    assert one != (4, 8, [1])
    assert eval(repr(one)) == one


# -- the form in which ranges travel ---------------------------------------------------------------


def head(byte_count: int, byte_offset: int) -> int:
    """The 64-bit word in front of a range's page numbers."""
    return byte_count | byte_offset << 32


@known_bug("B54", "B55")
@pytest.mark.parametrize(
    ("count", "words", "fault", "number"),
    [
        (1, [], GpaRangeFault.EMPTY_RANGE, 0),
        (2, [head(1, 0), 7], GpaRangeFault.EMPTY_RANGE, 1),
        (2**32 - 1, [head(1, 0), 7] * 3, GpaRangeFault.EMPTY_RANGE, 3),
        (1, [head(0, 0), 7], GpaRangeFault.EMPTY_BYTE_COUNT, 0),
        (1, [head(0, 4096)], GpaRangeFault.EMPTY_BYTE_COUNT, 0),
        (2, [head(1, 0), 7, head(0, 0)], GpaRangeFault.EMPTY_BYTE_COUNT, 1),
        (1, [head(1, 0)], GpaRangeFault.RANGE_TOO_SMALL, 0),
        (1, [head(4097, 0), 7], GpaRangeFault.RANGE_TOO_SMALL, 0),
        (1, [head(2, 4095), 7], GpaRangeFault.RANGE_TOO_SMALL, 0),
        (1, [head(2**32 - 4096, 0), 7], GpaRangeFault.RANGE_TOO_SMALL, 0),
        (1, [head(1, 4096), 0xDEADBEEF], GpaRangeFault.OFFSET_TOO_LARGE, 0),
        (1, [head(1, 2**32 - 1), 7], GpaRangeFault.OFFSET_TOO_LARGE, 0),
        (1, [head(2**32 - 1, 0), 7], GpaRangeFault.OVERFLOW, 0),
        (1, [head(2**32 - 4095, 0), 7], GpaRangeFault.OVERFLOW, 0),
        (1, [head(2**32 - 4096, 1), 7], GpaRangeFault.OVERFLOW, 0),
    ],
)
def test_each_of_the_five_faults_is_named_with_its_range(count, words, fault, number):
    for parse in (MultiPagedRangeBuf.from_range_buffer, validate_gpa_ranges):
        with pytest.raises(PeerError, match=f"GPA range {number}") as error:
            parse(count, words)
        assert error.value.kind is fault
        assert error.value.found is not None and error.value.allowed is not None


def test_a_range_that_needs_exactly_the_pages_there_are_is_good():
    for words in ([head(4096, 0), 7], [head(1, 4095), 7], [head(2, 4095), 7, 8], [head(4097, 4095), 7, 8]):
        parsed = MultiPagedRangeBuf.from_range_buffer(1, words)
        assert parsed.range_buffer == words
        assert validate_gpa_ranges(1, words) == len(words)


def test_words_behind_the_last_range_are_left_alone():
    words = [head(1, 0), 7, 99, 98]
    assert validate_gpa_ranges(1, words) == 2
    assert MultiPagedRangeBuf.from_range_buffer(1, words).range_buffer == words[:2]
    assert MultiPagedRangeBuf.from_range_buffer(0, words).range_count == 0


some_ranges = some.lists(
    pages_and_bytes().filter(lambda what: what[1] > 0).map(lambda what: PagedRange(*what)), max_size=4
)


@REPEATABLE
@given(some_ranges)
def test_ranges_come_back_from_words_and_from_bytes_as_they_went_in(ranges):
    buffer = MultiPagedRangeBuf(ranges)
    assert list(buffer) == ranges
    assert len(buffer) == buffer.range_count == len(ranges)
    assert buffer.first == (ranges[0] if ranges else None)
    words, data = buffer.range_buffer, buffer.to_bytes()
    assert data == struct.pack(f"<{len(words)}Q", *words)
    assert MultiPagedRangeBuf.from_range_buffer(len(ranges), words) == buffer
    assert MultiPagedRangeBuf.from_bytes(len(ranges), data) == buffer
    assert validate_gpa_ranges(len(ranges), words) == len(words)
    for one in ranges:
        parsed = GPA_RANGE_WITH_PAGES_SCHEMA.parse(data)
        assert (parsed.range.byte_count, parsed.range.byte_offset) == (len(one), one.offset)
        assert tuple(parsed.page_numbers) == one.gpns
        data = data[8 + 8 * len(one.gpns) :]


@REPEATABLE
@given(some.integers(0, 6), some.lists(some.one_of(some.integers(0, 9000), some.integers(0, 2**64 - 1))))
def test_any_words_are_ranges_or_a_peer_error(count, words):
    try:
        used = validate_gpa_ranges(count, words)
    except PeerError as error:
        assert isinstance(error.kind, GpaRangeFault)
    else:
        assert MultiPagedRangeBuf.from_range_buffer(count, words).range_buffer == words[:used]


def test_the_head_of_a_range_is_its_length_and_then_its_offset():
    assert GPA_RANGE.pack(GpaRange(byte_count=1, byte_offset=2)) == head(1, 2).to_bytes(8, "little")


@known_bug("B55")
def test_a_range_that_no_reader_takes_cannot_be_added():
    buffer = MultiPagedRangeBuf()
    with pytest.raises(CallerError, match="has 0 bytes"):
        buffer.push_range(PagedRange.empty())
    assert buffer.range_count == 0


def test_only_one_range_of_whole_pages_is_contiguous_and_aligned():
    def contiguous(*ranges: PagedRange) -> PagedRange | None:
        return MultiPagedRangeBuf(ranges).contiguous_aligned

    whole = PagedRange(0, 8192, [9, 3])
    assert contiguous(whole) == whole
    assert contiguous() is None
    assert contiguous(whole, whole) is None
    assert contiguous(PagedRange(8, 4096, [9, 3])) is None
    assert contiguous(PagedRange(0, 4095, [9])) is None


def test_ranges_written_by_a_function_are_added_all_or_not_at_all():
    buffer = MultiPagedRangeBuf([PagedRange(0, 1, [5])])
    before = buffer.range_buffer

    def fill(words):
        assert list(words) == [0] * 4
        words[:] = [head(1, 0), 6, head(2, 4), 7]

    buffer.try_extend_with(4, 2, fill)
    assert list(buffer) == [PagedRange(0, 1, [5]), PagedRange(0, 1, [6]), PagedRange(4, 2, [7])]

    buffer = MultiPagedRangeBuf([PagedRange(0, 1, [5])])
    with pytest.raises(PeerError):
        buffer.try_extend_with(2, 1, lambda words: None)
    with pytest.raises(ZeroDivisionError):
        buffer.try_extend_with(2, 1, lambda words: 1 // 0)
    assert buffer.range_buffer == before


def test_a_cleared_buffer_holds_nothing_and_can_be_filled_again():
    buffer = MultiPagedRangeBuf([PagedRange(0, 1, [5])])
    buffer.clear()
    assert (buffer.range_count, buffer.range_buffer, buffer.first, buffer.to_bytes()) == (0, [], None, b"")
    buffer.push_range(PagedRange(0, 1, [6]))
    assert buffer == MultiPagedRangeBuf([PagedRange(0, 1, [6])])
    assert buffer != [PagedRange(0, 1, [6])]
