"""The schema of GPA ranges says what the ring's own parser says."""

from __future__ import annotations

from construct import Array, GreedyRange, StreamError
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import mark, raises

from vmbus.errors import PeerError
from vmbus.layout import GPA_RANGE, GPA_RANGE_WITH_PAGES_SCHEMA, GpaRange, page_count
from vmbus.ring import GpaRangeFault, MultiPagedRangeBuf, PagedRange
from vmbus.sizes import PAGE_SIZE

page_numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**52 - 1, 2**64 - 1])


@st.composite
def paged_ranges(draw: st.DrawFn) -> PagedRange:
    """A range that ends on, just before or just behind a page's end, or anywhere."""
    pages = draw(st.integers(1, 6))
    offset = draw(st.sampled_from([0, 1, 8, PAGE_SIZE - 1]) | st.integers(0, PAGE_SIZE - 1))
    room = pages * PAGE_SIZE - offset
    length = draw(st.sampled_from([room, max(1, room - 1), 1]) | st.integers(1, room))
    numbers = draw(st.lists(page_numbers, min_size=pages, max_size=pages))
    return PagedRange(offset, length, numbers)


def by_hand(ranges: list[PagedRange]) -> list[dict[str, object]]:
    """The ranges as the schema takes them."""
    return [
        {"range": {"byte_count": len(one), "byte_offset": one.offset}, "page_numbers": list(one.gpns)}
        for one in ranges
    ]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(ranges=st.lists(paged_ranges(), max_size=5))
def test_schema_and_ring_agree_in_both_directions(ranges):
    image = MultiPagedRangeBuf(ranges).to_bytes()
    parsed = GreedyRange(GPA_RANGE_WITH_PAGES_SCHEMA).parse(image)
    assert [(one.range.byte_offset, one.range.byte_count, list(one.page_numbers)) for one in parsed] == [
        (one.offset, len(one), list(one.gpns)) for one in ranges
    ]
    assert Array(len(ranges), GPA_RANGE_WITH_PAGES_SCHEMA).build(by_hand(ranges)) == image
    assert list(MultiPagedRangeBuf.from_bytes(len(ranges), image)) == ranges


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    byte_count=st.integers(0, 5 * PAGE_SIZE) | st.sampled_from([1, PAGE_SIZE, PAGE_SIZE + 1]),
    byte_offset=st.integers(0, PAGE_SIZE - 1),
    words=st.integers(0, 6),
)
def test_both_want_the_same_number_of_pages(byte_count, byte_offset, words):
    image = GPA_RANGE.pack(GpaRange(byte_count, byte_offset)) + bytes(8 * words)
    needed = page_count(byte_offset, byte_count)
    if byte_count == 0:
        with raises(PeerError) as caught:
            MultiPagedRangeBuf.from_bytes(1, image)
        assert caught.value.kind is GpaRangeFault.EMPTY_BYTE_COUNT  # the ring is stricter than the schema
    elif needed <= words:
        assert len(GPA_RANGE_WITH_PAGES_SCHEMA.parse(image).page_numbers) == needed
        assert len(MultiPagedRangeBuf.from_bytes(1, image).first.gpns) == needed
    else:
        with raises(StreamError):
            GPA_RANGE_WITH_PAGES_SCHEMA.parse(image)
        with raises(PeerError) as caught:
            MultiPagedRangeBuf.from_bytes(1, image)
        assert (caught.value.kind, caught.value.allowed) == (GpaRangeFault.RANGE_TOO_SMALL, needed)


@mark.parametrize(
    ("offset", "count", "pages"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (0, 4096, 1),
        (0, 4097, 2),
        (1, 4095, 1),
        (1, 4096, 2),
        (4095, 1, 1),
        (4095, 2, 2),
        (4095, 4097, 2),
        (4095, 4098, 3),
    ],
)
def test_pages_are_counted_from_the_first_byte_to_the_last(offset, count, pages):
    assert page_count(offset, count) == pages
    first, last = offset // PAGE_SIZE, (offset + count - 1) // PAGE_SIZE
    assert pages == (last - first + 1 if count else 0)
