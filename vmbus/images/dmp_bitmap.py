"""Windows crash dumps that store the pages a bitmap names, in ascending order.

No list of pages is made: one count for each 4096 bytes of the bitmap is kept, and runs are found as they are
asked for.  A page number counts pages of 4096 bytes from address 0.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from vmbus.sizes import PAGE_SIZE

from .disjoint import outside
from .dmp_layout import ADDRESS_PAGES, BITMAP_START, BitmapHeader, DmpHeader
from .dump import TOP, Dump, FilePlace, Run, State, joined_runs
from .findings import Finding, Severity
from .source import Source
from .stored import BEHIND_THE_END

__all__ = ["FORMAT", "LEFT_OUT", "BitmapDump", "CrashDumpBitmap", "PageRanges"]

FORMAT = "windows-dmp64"

LEFT_OUT = "the dump does not hold this page"
LEFT_OUT_OR_NONE = "the dump does not hold this page, and does not say whether there is memory"
BITMAP_CUT = "the file ends within the bitmap that would say where it is"

#: Set bits are counted by blocks of so many bytes of the bitmap, which have so many pages.
BLOCK_SIZE = 4096
BLOCK_PAGES = BLOCK_SIZE * 8

READ_SIZE = 1 << 20

ONES = re.compile("1+")

#: Page numbers, start and end, sorted and disjoint.
PageRanges = Sequence[tuple[int, int]]


class CrashDumpBitmap:
    """A bitmap in a file, the first page of each byte being its lowest bit.

    Not the PageBitmap of page_bitmap.py, which says how many pages are stored before one: that of a sparse file,
    cut short anywhere, which is looked at a group at a time.  Here the file is no larger than it says, the pages
    are sought as ranges and by their place, and one block is kept at hand for it.

    start   where in the file it begins
    pages   how many it has
    total   how many of them are set
    """

    def __init__(self, source: Source, start: int, pages: int) -> None:
        self.source = source
        self.start = start
        self.pages = pages
        self._counts = self._count()
        self.total = self._counts[-1]
        self._block = -1
        self._number = 0
        self._text = ""

    def set_pages(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The set pages from `first` up to `last` as ranges; two of them may touch."""
        last = min(last, self.pages)
        while first < last:
            block = first // BLOCK_PAGES
            base = block * BLOCK_PAGES
            stop = min(last, base + BLOCK_PAGES)
            if self._counts[block + 1] != self._counts[block]:
                self._load(block)
                for match in ONES.finditer(self._text, first - base, stop - base):
                    yield base + match.start(), base + match.end()
            first = stop

    def set_before(self, page: int) -> int:
        """How many pages before this one are set: its place among those that are stored."""
        block, bit = divmod(page, BLOCK_PAGES)
        self._load(block)
        return self._counts[block] + (self._number & ((1 << bit) - 1)).bit_count()

    def page_at(self, place: int) -> int:
        """The set page that has this place among them."""
        block = bisect_right(self._counts, place) - 1
        before = self._counts[block]
        for start, end in self.set_pages(block * BLOCK_PAGES, self.pages):
            if before + end - start > place:
                return start + place - before
            before += end - start
        raise IndexError(place)

    def _load(self, block: int) -> None:
        """Make a block the one at hand: as a number, and as text whose first letter is its first page."""
        if self._block != block:
            at = block * BLOCK_SIZE
            length = min(BLOCK_SIZE, (self.pages + 7) // 8 - at)
            self._number = self._without_rest(self.source.read(self.start + at, length), block)
            self._text = format(self._number, f"0{BLOCK_PAGES}b")[::-1]
            self._block = block

    def _without_rest(self, data: bytes, block: int) -> int:
        """A block as a number, without the bits behind the last page."""
        pages = self.pages - block * BLOCK_PAGES
        bits = int.from_bytes(data, "little")
        return bits if pages >= BLOCK_PAGES else bits & ((1 << pages) - 1)

    def _count(self) -> array[int]:
        """How many pages are set before each block, and at last how many there are."""
        counts = array("Q", [0])
        size = (self.pages + 7) // 8
        for start in range(0, size, READ_SIZE):
            data = self.source.read(self.start + start, min(READ_SIZE, size - start))
            for at in range(0, len(data), BLOCK_SIZE):
                number = self._without_rest(data[at : at + BLOCK_SIZE], (start + at) // BLOCK_SIZE)
                counts.append(counts[-1] + number.bit_count())
        return counts


class BitmapDump(Dump):
    """Memory whose pages are stored where a bitmap has a 1, in ascending order.

    header   what the file begins with
    layout   what stands before the bitmap
    bitmap   the bitmap, as much of it as the file has
    """

    format = FORMAT

    def __init__(
        self, source: Source, header: DmpHeader, layout: BitmapHeader, known: PageRanges = ()
    ) -> None:
        """`known` is where the header says that there is memory."""
        super().__init__(source)
        self.header = header
        self.layout = layout
        self.bitmap = CrashDumpBitmap(
            source, BITMAP_START, min(layout.bits, max(source.size - BITMAP_START, 0) * 8)
        )
        self._known = known or [(0, self.bitmap.pages)]
        if self.bitmap.pages < layout.bits:  # of what is behind, nobody knows whether it was left out
            self._known = [(start, min(end, self.bitmap.pages)) for start, end in self._known]
        self._why = LEFT_OUT if known else LEFT_OUT_OR_NONE
        self._there = max(source.size - layout.first_page, 0)  # bytes of pages that the file has
        self._all_there = self.bitmap.total * PAGE_SIZE <= self._there
        self._check()

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        return joined_runs(self._runs(start, end))

    def read_present(self, address: int, length: int) -> bytes:
        return self.source.read(self._offset(address), length)

    def where(self, address: int) -> FilePlace | None:
        run = next(self.runs(address, address + 1), None)
        if run is None or run.state is not State.PRESENT:
            return None
        return FilePlace(self.path, self._offset(address))

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        """What is stored and what is not, in order; neighbours may be alike."""
        if start >= end:
            return
        first, last = start // PAGE_SIZE, min(-(-end // PAGE_SIZE), ADDRESS_PAGES)
        known = [(max(one, first), min(other, last)) for one, other in self._known]
        left_out = outside(known, self.bitmap.set_pages(first, last))
        for pages, is_stored in merged(self.bitmap.set_pages(first, last), left_out):
            low, high = max(pages[0] * PAGE_SIZE, start), min(pages[1] * PAGE_SIZE, end)
            if is_stored:
                yield from self._stored_run(low, high)
            else:
                yield Run(low, high, State.EXCLUDED, self._why)
        low, high = max(self.bitmap.pages * PAGE_SIZE, start), min(self.layout.bits * PAGE_SIZE, end)
        if low < high:
            yield Run(low, high, State.LOST, BITMAP_CUT)

    def _stored_run(self, start: int, end: int) -> Iterator[Run]:
        """Memory that should be stored, cut where the file ends."""
        if self._all_there:
            yield Run(start, end, State.PRESENT)
            return
        cut = start + min(max(self.size - self._offset(start), 0), end - start)
        if start < cut:
            yield Run(start, cut, State.PRESENT)
        if cut < end:
            yield Run(cut, end, State.LOST, BEHIND_THE_END)

    def _offset(self, address: int) -> int:
        """Where in the file a byte of a stored page is."""
        page, within = divmod(address, PAGE_SIZE)
        return self.layout.first_page + self.bitmap.set_before(page) * PAGE_SIZE + within

    def _check(self) -> None:
        bitmap, layout = self.bitmap, self.layout
        if bitmap.pages < layout.bits:
            message = f"the bitmap is to have {layout.bits} pages; the file ends after {bitmap.pages}"
            self._add("image-cut-short", message)
        elif bitmap.total != layout.stored:
            message = f"{bitmap.total} pages are in the bitmap, but {layout.stored} in the header before it"
            self._add("dmp-page-count", message)
        if layout.first_page < BITMAP_START + (layout.bits + 7) // 8:
            self._add("dmp-first-page", f"the first page, at {layout.first_page:#x}, lies within the bitmap")
        if not self._all_there:
            missing = bitmap.total * PAGE_SIZE - self._there
            whole, within = divmod(self._there, PAGE_SIZE)
            first = bitmap.page_at(whole) * PAGE_SIZE + within
            message = f"{missing} bytes of memory, the first at {first:#x}, lie behind the end of the file"
            self._add("image-cut-short", message)

    def _add(self, check: str, message: str) -> None:
        self.findings.append(Finding(check, Severity.WARNING, None, message))


def merged(
    stored: Iterator[tuple[int, int]], left_out: Iterator[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], bool]]:
    """Two lists of ranges that have nothing in common as one in order, each with whether it is stored."""
    one, other = next(stored, None), next(left_out, None)
    while one or other:
        if one and (other is None or one < other):
            yield one, True
            one = next(stored, None)
        elif other:
            yield other, False
            other = next(left_out, None)
