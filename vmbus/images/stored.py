"""Dumps whose file holds the bytes of memory as they are: a list of stretches, each at some offset.

Stretches may be listed in any order.  Where two overlap, the first in the list counts, and a finding says so;
what lies behind the end of the file is lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from vmbus.errors import DumpError

from .dump import PIECE_SIZE, TOP, Dump, FilePlace, MissingMemory, Run, State, joined_runs
from .findings import Finding, Severity
from .source import Source

__all__ = ["Segment", "StoredDump", "read_memory"]


class Segment(NamedTuple):
    """A stretch of memory.

    address, length   where it lies in memory
    offset            of its first byte in the file; of no meaning where nothing is stored
    state             what the file has of it
    why               why it cannot be read, where it cannot
    """

    address: int
    length: int
    offset: int
    state: State = State.PRESENT
    why: str = ""

    @property
    def end(self) -> int:
        return self.address + self.length


class StoredDump(Dump):
    """Memory that is stored plainly, in segments.

    segments   in the order in which the file lists them

    >>> from .source import BytesSource
    >>> dump = StoredDump(BytesSource("two", memoryview(b"leftright")), [Segment(0x2000, 5, 4), Segment(0x1000, 4, 0)])
    >>> dump.read(0x2000, 5), [(hex(run.start), run.state.value) for run in dump.runs()]
    (b'right', [('0x1000', 'present'), ('0x2000', 'present')])
    """

    def __init__(self, source: Source, segments: Iterable[Segment], *, format: str = "?") -> None:
        super().__init__(source)
        self.format = format
        made = [part for segment in segments for part in inside_file(segment, source.size)]
        self.segments = self._disjoint(made)
        self._starts = [segment.address for segment in self.segments]
        self._buffer = memoryview(bytearray(PIECE_SIZE))
        self._say_what_is_lost()

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        return joined_runs(self._parts(start, end))

    def _parts(self, start: int, end: int) -> Iterator[Run]:
        """What there is of each segment; what a sparse file does not store of one is zero."""
        for place in range(max(0, bisect_right(self._starts, start) - 1), len(self.segments)):
            segment = self.segments[place]
            if segment.address >= end:
                return
            first, last = max(segment.address, start), min(segment.end, end)
            if first >= last:
                continue
            if segment.state is not State.PRESENT:
                yield Run(first, last, segment.state, segment.why)
                continue
            shift = segment.address - segment.offset  # from a place in the file to an address
            for stored, stop in self.source.extents(first - shift, last - shift):
                if first < stored + shift:
                    yield Run(first, stored + shift, State.ZERO)
                yield Run(stored + shift, stop + shift, State.PRESENT)
                first = stop + shift
            if first < last:
                yield Run(first, last, State.ZERO)

    def read_present(self, address: int, length: int) -> bytes:
        buffer = bytearray(length)
        self._read_into(address, memoryview(buffer))
        return bytes(buffer)

    def where(self, address: int) -> FilePlace | None:
        segment = self._segment_at(address)
        if segment is None or segment.state is not State.PRESENT:
            return None
        place = self.source.place(segment.offset + address - segment.address)
        return None if place is None else FilePlace(self.path, place)

    def _piece(self, address: int, length: int) -> memoryview:
        piece = self._buffer[:length]
        self._read_into(address, piece)
        return piece

    def _read_into(self, address: int, buffer: memoryview) -> None:
        """Fill `buffer` from segments that are present and touch."""
        at, left = address, buffer
        while left:
            segment = self._segment_at(at)
            if segment is None or segment.state is not State.PRESENT:
                self._refuse(at)
            taken = min(segment.end - at, len(left))
            self._read_stored(segment.offset + at - segment.address, left[:taken], at)
            at, left = at + taken, left[taken:]

    def _read_stored(self, offset: int, buffer: memoryview, address: int) -> None:
        """Fill `buffer` with memory at `address`, which lies at `offset` of the source."""
        read_memory(self.source, offset, buffer, address)

    def _segment_at(self, address: int) -> Segment | None:
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self.segments[place].end:
            return None
        return self.segments[place]

    def _disjoint(self, segments: list[Segment]) -> list[Segment]:
        """Sorted, and without what an earlier one in the list has already."""
        order = sorted(range(len(segments)), key=lambda number: segments[number].address)
        if all(segments[one].end <= segments[other].address for one, other in pairwise(order)):
            return [segments[number] for number in order]
        kept, cut = first_wins(segments)
        message = f"{cut} bytes of memory are listed more than once; what the file lists first is taken"
        self.findings.append(Finding("image-overlap", Severity.WARNING, None, message))
        return kept

    def _say_what_is_lost(self) -> None:
        lost = [segment for segment in self.segments if segment.why == BEHIND_THE_END]
        if lost:
            total = sum(segment.length for segment in lost)
            message = (
                f"{total} bytes of memory, the first at {lost[0].address:#x}, lie behind the end of the file"
            )
            self.findings.append(Finding("image-cut-short", Severity.WARNING, None, message))


def read_memory(source: Source, offset: int, buffer: memoryview, address: int) -> None:
    """Fill `buffer` with memory at `address` from a source; MissingMemory where the source cannot give it."""
    try:
        source.read_into(offset, buffer)
    except DumpError as error:
        why = str(DumpError(*error.args))  # without the path, which the error has anyway
        raise MissingMemory(address, State.LOST, why, path=error.path, place=error.place) from error


BEHIND_THE_END = "the file ends before its bytes"


def inside_file(segment: Segment, size: int) -> Iterator[Segment]:
    """The part of a segment that the file has, and the part that it should have."""
    if not segment.length:
        return
    stored = min(max(size - segment.offset, 0), segment.length)
    if segment.state is not State.PRESENT or stored == segment.length:
        yield segment
        return
    if stored:
        yield segment._replace(length=stored)
    yield Segment(
        segment.address + stored, segment.length - stored, segment.offset, State.LOST, BEHIND_THE_END
    )


def first_wins(segments: list[Segment]) -> tuple[list[Segment], int]:
    """Segments that overlap, each cut where an earlier one has the same memory; and the bytes cut off.

    A sweep over all ends: at any address the segment with the lowest number counts.
    """
    from heapq import heappop, heappush

    edges = sorted({edge for segment in segments for edge in (segment.address, segment.end)})
    by_start = sorted(range(len(segments)), key=lambda number: segments[number].address)
    waiting: list[int] = []
    kept: list[Segment] = []
    next_start = 0
    for start, end in pairwise(edges):
        while next_start < len(by_start) and segments[by_start[next_start]].address <= start:
            heappush(waiting, by_start[next_start])
            next_start += 1
        while waiting and segments[waiting[0]].end <= start:
            heappop(waiting)
        if waiting:
            add_part(kept, segments[waiting[0]], start, end)
    cut = sum(segment.length for segment in segments) - sum(segment.length for segment in kept)
    return kept, cut


def add_part(kept: list[Segment], segment: Segment, start: int, end: int) -> None:
    """Add a part of a segment behind those that are kept, as one with its predecessor where it goes on."""
    part = segment._replace(
        address=start, length=end - start, offset=segment.offset + start - segment.address
    )
    last = kept[-1] if kept else None
    if (
        last is not None
        and last.end == start
        and (last.state, last.why) == (part.state, part.why)
        and last.offset + last.length == part.offset
    ):
        kept[-1] = last._replace(length=last.length + part.length)
    else:
        kept.append(part)
