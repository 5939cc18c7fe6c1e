"""Ranges of guest memory, as GPA-direct packets and GPADLs list them.

A range is a page list, an offset into its first page and a length.  Page numbers are guest-
physical addresses divided by 4096.  A range buffer is a list of 64-bit words: for each range one
word with its byte count (low half) and byte offset (high half), then its page numbers.

Sources: OpenVMM vmbus_ring/src/gparange.rs and vmcore/guestmem/src/ranges.rs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from enum import Enum
from typing import NamedTuple

from vmbus.errors import CallerError, PeerError
from vmbus.layout import GPA_RANGE, GpaRange, pack_words, page_count, unpack_words
from vmbus.sizes import PAGE_SIZE

__all__ = [
    "AddressRange",
    "GpaRange",
    "GpaRangeFault",
    "MultiPagedRangeBuf",
    "PagedRange",
    "validate_gpa_ranges",
]

#: Offset and count of a range, rounded up to whole pages, must fit 32 bits.
LARGEST_RANGE = 0xFFFF_FFFF - (PAGE_SIZE - 1)
LARGEST_PAGE_NUMBER = 0xFFFF_FFFF_FFFF_FFFF


class GpaRangeFault(Enum):
    """What can be wrong with a range of the other side's; the values are names for reports."""

    EMPTY_RANGE = "gpa-range-missing"
    EMPTY_BYTE_COUNT = "gpa-range-empty"
    RANGE_TOO_SMALL = "gpa-range-too-few-pages"
    OFFSET_TOO_LARGE = "gpa-range-offset"
    OVERFLOW = "gpa-range-overflow"


class AddressRange(NamedTuple):
    """Guest-physical bytes from `start` up to but not including `end`."""

    start: int
    end: int


class PagedRange:
    """Bytes that are contiguous for their user and lie in pages anywhere.

    offset    bytes into the first page of `gpns`; may skip whole pages, which are then dropped
    length    bytes
    gpns      guest page numbers; pages behind the last byte are dropped

    Immutable.  Raises CallerError when the pages do not hold the bytes.

    >>> range = PagedRange(4000, 200, [7, 9])
    >>> range.offset, len(range), range.gpns
    (4000, 200, (7, 9))
    >>> [f"{part.start:#x}-{part.end:#x}" for part in range.ranges()]
    ['0x7fa0-0x8000', '0x9000-0x9068']
    """

    __slots__ = ("_length", "gpns", "offset")

    PAGE_SIZE = PAGE_SIZE

    def __init__(self, offset: int, length: int, gpns: Sequence[int]) -> None:
        room = len(gpns) * PAGE_SIZE
        if offset < 0 or length < 0 or offset + length > room:
            raise CallerError(
                f"{len(gpns)} pages hold {room} bytes, not {length} from offset {offset} on",
                argument="gpns",
                value=(offset, length),
                limit=room,
            )
        first = offset // PAGE_SIZE
        kept = tuple(gpns[first : first + page_count(offset % PAGE_SIZE, length)]) if length else ()
        if any(not 0 <= gpn <= LARGEST_PAGE_NUMBER for gpn in kept):
            raise CallerError(
                f"a page number has 64 bits: {kept}", argument="gpns", value=kept, limit=LARGEST_PAGE_NUMBER
            )
        self.offset = offset % PAGE_SIZE if length else 0
        self._length = length
        self.gpns = kept

    @classmethod
    def empty(cls) -> PagedRange:
        """The range of no bytes."""
        return cls(0, 0, ())

    def __len__(self) -> int:
        return self._length

    @property
    def is_empty(self) -> bool:
        return self._length == 0

    def try_subrange(self, offset: int, length: int) -> PagedRange | None:
        """`length` bytes from `offset` on, or None when they are not all inside."""
        if offset < 0 or length < 0 or offset + length > self._length:
            return None
        return PagedRange(self.offset + offset, length, self.gpns)

    def subrange(self, offset: int, length: int) -> PagedRange:
        """As try_subrange, but CallerError when the bytes are not all inside."""
        part = self.try_subrange(offset, length)
        if part is None:
            raise CallerError(
                f"bytes {offset} to {offset + length} are not inside a range of {self._length}",
                argument="offset",
                value=(offset, length),
                limit=self._length,
            )
        return part

    def skip(self, length: int) -> PagedRange:
        """What is left behind the first `length` bytes."""
        return self.subrange(length, self._length - length)

    def truncate(self, length: int) -> PagedRange:
        """The first `length` bytes."""
        return self.subrange(0, length)

    def split(self, offset: int) -> tuple[PagedRange, PagedRange]:
        """What is before and behind byte `offset`."""
        return self.truncate(offset), self.skip(offset)

    def ranges(self) -> Iterator[AddressRange]:
        """The guest-physical bytes, pages that follow each other joined."""
        left = self._length
        start = end = 0
        for number, gpn in enumerate(self.gpns):
            within = self.offset if number == 0 else 0
            taken = min(PAGE_SIZE - within, left)
            address = gpn * PAGE_SIZE + within
            if number and address == end:
                end += taken
            else:
                if number:
                    yield AddressRange(start, end)
                start, end = address, address + taken
            left -= taken
        if self.gpns:
            yield AddressRange(start, end)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PagedRange):
            return NotImplemented
        return (self.offset, self._length, self.gpns) == (other.offset, other._length, other.gpns)

    def __hash__(self) -> int:
        return hash((self.offset, self._length, self.gpns))

    def __repr__(self) -> str:
        return f"PagedRange({self.offset}, {self._length}, {list(self.gpns)})"


class MultiPagedRangeBuf:
    """Several ranges, in the form in which they travel.

    >>> ranges = MultiPagedRangeBuf([PagedRange(0, 4096, [7]), PagedRange(8, 8, [9])])
    >>> ranges.range_count, [f"{word:#x}" for word in ranges.range_buffer]
    (2, ['0x1000', '0x7', '0x800000008', '0x9'])
    >>> list(MultiPagedRangeBuf.from_range_buffer(2, ranges.range_buffer)) == list(ranges)
    True
    """

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[PagedRange] = ()) -> None:
        self._ranges: list[PagedRange] = []
        for one in ranges:
            self.push_range(one)

    @classmethod
    def from_range_buffer(cls, count: int, words: Sequence[int]) -> MultiPagedRangeBuf:
        """The `count` ranges at the start of `words`; words behind them are ignored.

        Raises PeerError, its kind a GpaRangeFault: such buffers come from the other side.
        """
        self = cls()
        self._ranges = parse_ranges(count, words)[0]
        return self

    @classmethod
    def from_bytes(cls, count: int, data: bytes) -> MultiPagedRangeBuf:
        """As from_range_buffer, from the bytes as they lie in memory."""
        return cls.from_range_buffer(count, unpack_words(data))

    def __iter__(self) -> Iterator[PagedRange]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def range_count(self) -> int:
        return len(self._ranges)

    @property
    def first(self) -> PagedRange | None:
        """The first range, or None when there is none."""
        return self._ranges[0] if self._ranges else None

    @property
    def contiguous_aligned(self) -> PagedRange | None:
        """The range, when there is only one and it is made of whole pages; else None."""
        if len(self._ranges) != 1:
            return None
        only = self._ranges[0]
        return only if only.offset == 0 and len(only) % PAGE_SIZE == 0 else None

    @property
    def range_buffer(self) -> list[int]:
        """All ranges as 64-bit words."""
        words: list[int] = []
        for one in self._ranges:
            words.extend(unpack_words(GPA_RANGE.pack(GpaRange(len(one), one.offset))))
            words.extend(one.gpns)
        return words

    def to_bytes(self) -> bytes:
        """All ranges as they lie in memory."""
        return b"".join(
            GPA_RANGE.pack(GpaRange(len(one), one.offset)) + pack_words(one.gpns) for one in self._ranges
        )

    def clear(self) -> None:
        """Forget all ranges."""
        self._ranges = []

    def push_range(self, one: PagedRange) -> None:
        """Add a range at the end; CallerError when a reader would refuse it."""
        fault = range_fault(one.offset, len(one))
        if fault is not None:
            what, found, allowed = explain_range(fault, one.offset, len(one))
            raise CallerError(
                f"no reader takes a range that {what}", argument="range", value=found, limit=allowed
            )
        self._ranges.append(one)

    def try_extend_with(
        self, length: int, count: int, fill: Callable[[MutableSequence[int]], object]
    ) -> None:
        """Add `count` ranges that `fill` writes into a list of `length` zero words.

        When `fill` raises, or the words are no `count` valid ranges (PeerError), nothing is added.
        """
        words = [0] * length
        fill(words)
        self._ranges = self._ranges + parse_ranges(count, words)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiPagedRangeBuf) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"MultiPagedRangeBuf({self._ranges})"


def validate_gpa_ranges(count: int, words: Sequence[int]) -> int:
    """How many of `words` the `count` ranges at their start take.

    Raises PeerError, its kind a GpaRangeFault, when one of them is not valid.

    >>> validate_gpa_ranges(1, [0x1000, 7, 99])
    2
    """
    return parse_ranges(count, words)[1]


def parse_ranges(count: int, words: Sequence[int]) -> tuple[list[PagedRange], int]:
    """The ranges and how many words they took.  Ends at the latest where the words end."""
    ranges: list[PagedRange] = []
    position = 0
    for number in range(count):
        one = parse_range(number, words, position)
        ranges.append(one)
        position += 1 + len(one.gpns)
    return ranges, position


def range_fault(byte_offset: int, byte_count: int) -> GpaRangeFault | None:
    """What is wrong with the head of a range, whatever its pages are, or None.

    >>> range_fault(0, 4096) is None, range_fault(4096, 1)
    (True, <GpaRangeFault.OFFSET_TOO_LARGE: 'gpa-range-offset'>)
    """
    if byte_count == 0:
        return GpaRangeFault.EMPTY_BYTE_COUNT
    if byte_offset >= PAGE_SIZE:
        return GpaRangeFault.OFFSET_TOO_LARGE
    if byte_offset + byte_count > LARGEST_RANGE:
        return GpaRangeFault.OVERFLOW
    return None


def parse_range(number: int, words: Sequence[int], position: int) -> PagedRange:
    """The range whose head is word `position`; `number` names it in errors."""
    left = len(words) - position
    if left < 1:
        raise range_error(GpaRangeFault.EMPTY_RANGE, number, "is missing", 0, "a range head")
    byte_count, byte_offset = GPA_RANGE.unpack(pack_words(words[position : position + 1]))
    fault = range_fault(byte_offset, byte_count)
    if fault is not None:
        what, found, allowed = explain_range(fault, byte_offset, byte_count)
        raise range_error(fault, number, what, found, allowed)
    pages = page_count(byte_offset, byte_count)
    if left - 1 < pages:
        what = f"has {byte_count} bytes from offset {byte_offset}, which need {pages} pages; {left - 1} are there"
        raise range_error(GpaRangeFault.RANGE_TOO_SMALL, number, what, left - 1, pages)
    return PagedRange(byte_offset, byte_count, words[position + 1 : position + 1 + pages])


def explain_range(fault: GpaRangeFault, byte_offset: int, byte_count: int) -> tuple[str, int, object]:
    """The words for a fault of a range's head, the value found, and what was allowed."""
    if fault is GpaRangeFault.EMPTY_BYTE_COUNT:
        return "has 0 bytes", 0, "at least 1"
    if fault is GpaRangeFault.OFFSET_TOO_LARGE:
        what = f"starts {byte_offset} bytes into its first page of {PAGE_SIZE}"
        return what, byte_offset, PAGE_SIZE - 1
    what = f"has {byte_count} bytes from offset {byte_offset}, and their sum does not fit 32 bits"
    return what, byte_count, LARGEST_RANGE


def range_error(fault: GpaRangeFault, number: int, what: str, found: object, allowed: object) -> PeerError:
    return PeerError(f"GPA range {number} {what}", kind=fault, found=found, allowed=allowed)
