"""4096 pages of a kdump-compressed image: what state each is in, and the descriptors of those that are stored.

The bits of a group are two stretches of 512 bytes of the bitmaps, its descriptors one stretch of their table.
Most groups are of one kind from end to end, and are compared as a whole first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum

from vmbus.errors import DumpError

from .dump import State
from .kdump_layout import DESCRIPTOR, PageFlags
from .page_bitmap import ALL_PAGES, GROUP_BYTES, GROUP_PAGES, NO_PAGES
from .page_codecs import codec_of
from .source import Source

__all__ = ["Entry", "Group", "PageState", "entry_state", "read_table"]


class PageState(Enum):
    """What a page may be: its number in a group's states, the state of its memory, and why."""

    HOLE = (0, None, "")
    EXCLUDED = (1, State.EXCLUDED, "")
    PRESENT = (2, State.PRESENT, "")
    OTHER_PART = (3, State.LOST, "another part of this split dump has it")
    NOT_WRITTEN = (4, State.LOST, "the image is incomplete: nothing says where its page is stored")
    BEHIND_THE_END = (5, State.LOST, "the file ends before its bytes")
    WRONG_LENGTH = (6, State.LOST, "its page is stored in a number of bytes that cannot be right")
    ZSTD = (7, State.LOST, "its page is stored with zstd, which this Python cannot decode")
    UNKNOWN_FLAGS = (8, State.LOST, "its page is stored with unknown flags, which this Python cannot decode")
    NOT_MAPPED = (9, State.LOST, "the page bitmaps end before")

    def __init__(self, code: int, state: State | None, why: str) -> None:
        self.code = code
        self.state = state
        self.why = why


#: A descriptor: where the bytes of a page are, how many, how they are stored, and what nobody uses.
Entry = tuple[int, int, int, int]

STATES = tuple(PageState)
PRESENT = PageState.PRESENT.code

#: Pages in one state.
STRETCH = re.compile(b"|".join(re.escape(bytes([state.code])) + b"+" for state in STATES))

#: The eight bits of a byte as eight bytes.
SPREAD = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))

ALL_PRESENT = bytes([PRESENT]) * GROUP_PAGES
ALL_EXCLUDED = bytes([PageState.EXCLUDED.code]) * GROUP_PAGES


class Group:
    """Some 4096 pages, beginning with page `first`.

    exists   their bits in the bitmap of pages that exist
    stored   their bits in the bitmap of pages that are stored
    own      of these, the ones of which this file has the descriptors
    table    the descriptors, those of `own`
    states   of each page, the code of its PageState
    """

    def __init__(
        self, first: int, exists: bytes, stored: bytes, own: int, table: bytes, limits: tuple[int, int]
    ) -> None:
        self.first = first
        self.end = first + GROUP_PAGES
        self.own = own
        self.table = table
        self.states = self._states(exists, stored, limits)

    def _states(self, exists: bytes, stored: bytes, limits: tuple[int, int]) -> bytes:
        """limits   as entry_states has them: the size of a page, and of the file"""
        broken = entry_states(self.table, *limits)
        own = self.own.to_bytes(GROUP_BYTES, "little")
        if exists == ALL_PAGES and own == ALL_PAGES:
            return bytes(broken) or ALL_PRESENT
        if exists == ALL_PAGES and stored == NO_PAGES:
            return ALL_EXCLUDED
        # One addition for all pages: 1 where a page exists, 1 more where it is stored, 1 more elsewhere.
        there = spread(exists)
        states = there + (there & spread(stored)) + (there & spread(stored) & ~spread(own))
        codes = states.to_bytes(GROUP_PAGES, "little")
        return self._with_broken(codes, own, broken) if broken else codes

    def _with_broken(self, states: bytes, own: bytes, broken: list[int]) -> bytes:
        """The states, with those that their descriptors give to pages that are stored."""
        changed = bytearray(states)
        codes = iter(broken)
        for page, is_own in enumerate(spread(own).to_bytes(GROUP_PAGES, "little")):
            if is_own:
                code = next(codes)
                if changed[page] == PRESENT:
                    changed[page] = code
        return bytes(changed)

    def stretches(self, start: int, end: int) -> Iterator[tuple[int, int, PageState]]:
        """The pages from `start` up to `end`, all of this group, by their states."""
        first, states = self.first, self.states
        if states.count(states[start - first], start - first, end - first) == end - start:
            yield start, end, STATES[states[start - first]]
            return
        for found in STRETCH.finditer(states, start - first, end - first):
            yield first + found.start(), first + found.end(), STATES[states[found.start()]]

    def missing(self, start: int, end: int) -> int | None:
        """The first page from `start` up to `end` that is not present."""
        states = self.states[start - self.first : end - self.first]
        if states.count(PRESENT) == len(states):
            return None
        return start + len(states) - len(states.lstrip(bytes([PRESENT])))

    def entries(self, start: int, end: int) -> list[Entry]:
        """The descriptors, of the pages from `start` up to `end`, all present."""
        below = (1 << start - self.first) - 1
        begin = (self.own & below).bit_count() * DESCRIPTOR.size
        table = self.table[begin : begin + (end - start) * DESCRIPTOR.size]
        return [*DESCRIPTOR.iter_unpack(table)]


def spread(bits: bytes) -> int:
    """The bits of a group as the bytes of one long number, so that they can be added."""
    return int.from_bytes(b"".join(map(SPREAD.__getitem__, bits)), "little")


def read_table(source: Source, start: int, count: int) -> bytes:
    """So many descriptors; all zero where the file has none, as if the page had not been written."""
    size = DESCRIPTOR.size
    inside = min(count, max(source.size - start, 0) // size)
    try:
        table = source.read(start, inside * size)
    except DumpError:
        table = readable_part(source, start, inside)
    return table.ljust(count * size, b"\0")


def readable_part(source: Source, start: int, count: int) -> bytes:
    """Descriptors of which some cannot be read: those stay zero."""
    size = DESCRIPTOR.size
    table = bytearray(count * size)
    for first, last in source.extents(start, start + count * size):
        begin, end = -(-(first - start) // size) * size, (last - start) // size * size
        if begin < end:
            with suppress(DumpError):
                table[begin:end] = source.read(start + begin, end - begin)
    return bytes(table)


def entry_states(table: bytes, page_size: int, file_size: int) -> list[int]:
    """The codes of the PageStates that descriptors lead to; an empty list where all are present."""
    size = DESCRIPTOR.size
    if table == table[:size] * (len(table) // size):  # all pages are zero, and share one stored page
        if not table:
            return []
        offset, length, flags, _ = DESCRIPTOR.unpack(table[:size])
        code = entry_state(offset, length, flags, page_size, file_size).code
        return [] if code == PRESENT else [code] * (len(table) // size)
    offsets, lengths, flags, _ = zip(*DESCRIPTOR.iter_unpack(table), strict=True)
    if (
        min(offsets)
        and max(offsets) + page_size <= file_size
        and 0 < min(lengths) <= max(lengths) <= page_size
        and all(codec_of(one).decode is not None for one in set(flags))
        and {length for length, flag in zip(lengths, flags, strict=True) if not flag} <= {page_size}
    ):
        return []
    codes = [
        entry_state(offset, length, flag, page_size, file_size).code
        for offset, length, flag in zip(offsets, lengths, flags, strict=True)
    ]
    return [] if codes.count(PRESENT) == len(codes) else codes


def entry_state(offset: int, length: int, flags: int, page_size: int, file_size: int) -> PageState:
    """The state of a page with this descriptor."""
    if not offset:
        return PageState.NOT_WRITTEN
    codec = codec_of(flags)
    if codec.decode is None:
        return PageState.ZSTD if flags & PageFlags.ZSTD else PageState.UNKNOWN_FLAGS
    if not 0 < length <= page_size or (codec.plain and length != page_size):
        return PageState.WRONG_LENGTH
    if offset + length > file_size:
        return PageState.BEHIND_THE_END
    return PageState.PRESENT
