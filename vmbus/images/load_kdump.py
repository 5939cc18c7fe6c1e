"""kdump-compressed images: what makedumpfile and `dump-guest-memory -z` of QEMU write.

Two bitmaps say which pages of memory exist and which of them are stored.  Each stored page has a descriptor, in
the order of the pages: where its bytes are, how many, and how they are compressed.  Many descriptors may
point at the same bytes: all zero pages do.

Nothing of the size of the memory is kept: bitmaps and descriptors are read in groups of 4096 pages when they
are needed, and a few pages are kept decoded.

A page that is stored is lost all the same where its descriptor or its bytes are not in the file, where another
part of a split dump has it, and where it is compressed in a way that this Python cannot decode.

Addresses, sizes and offsets are in bytes; a page has the size of the file's blocks, up to 65536.

Sources: makedumpfile IMPLEMENTATION; crash diskdump.c; QEMU dump/dump.c.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from vmbus.errors import DumpError

from .dump import TOP, Dump, FilePlace, MissingMemory, Run, State
from .findings import Finding, Severity
from .kdump_group import Entry, Group, PageState, entry_states, read_table
from .kdump_header import read_header
from .kdump_layout import DESCRIPTOR, Status
from .page_bitmap import GROUP_PAGES, PageBitmap
from .page_codecs import CodecError, codec_of
from .source import Source

__all__ = ["KdumpDump", "load"]

#: Groups of 4096 pages whose bits and descriptors are kept; 100 KiB each.
KEPT_GROUPS = 8

#: Bytes of pages that are kept decoded, one by one; and pages that many descriptors share.
KEPT_BYTES = 1 << 19
KEPT_SHARED = 16

#: What is read of so few pages goes through those that are kept.
FEW_PAGES = 2

#: Pages that lie one behind the other in the file are read together, up to so many bytes and pages.
READ_SIZE = 1 << 18
READ_PAGES = 256


class KdumpDump(Dump):
    """The memory of a kdump-compressed image.

    header   what its headers say
    """

    format = "kdump"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.header, self.findings = read_header(source)
        header = self.header
        self._page_size = header.block_size
        self._exists = self._stored = PageBitmap(source, header.first_bitmap, header.mapped_pages)
        if header.second_bitmap != header.first_bitmap:
            self._stored = PageBitmap(source, header.second_bitmap, header.mapped_pages)
        self._known = min(self._exists.known, self._stored.known)
        self._first_rank = self._stored.before(header.start)
        self._groups: dict[int, Group] = {}
        self._kept: dict[int, bytes] = {}
        self._shared: dict[Entry, bytes] = {}
        self.findings += self._what_is_missing()

    # -- what memory there is ------------------------------------------------------------------

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        size = self._page_size
        pages = self._stretches(start // size, min(-(-end // size), self.header.pages))
        for first, last, state in joined(pages):
            if state.state is not None:
                yield Run(max(first * size, start), min(last * size, end), state.state, state.why)

    def _stretches(self, start: int, end: int) -> Iterator[tuple[int, int, PageState]]:
        """Pages from `start` up to `end` by their states, in order; some that touch are in one state."""
        known = min(self._known, end)
        at = start
        numbers = self._exists.groups
        for place in range(bisect_left(numbers, start // GROUP_PAGES), len(numbers)):
            first = numbers[place] * GROUP_PAGES
            if max(first, at) >= known:
                break
            if first > at:
                yield at, first, PageState.HOLE
                at = first
            stop = min(first + GROUP_PAGES, known)
            yield from self._group(numbers[place]).stretches(at, stop)
            at = stop
        if at < known:
            yield at, known, PageState.HOLE
        at = max(known, start)
        if at < end:
            yield at, end, PageState.NOT_MAPPED

    def _group(self, number: int) -> Group:
        group = self._groups.get(number)
        if group is None:
            if len(self._groups) >= KEPT_GROUPS:
                del self._groups[next(iter(self._groups))]
            group = self._groups[number] = self._read_group(number)
        return group

    def _read_group(self, number: int) -> Group:
        first = number * GROUP_PAGES
        header = self.header
        exists = self._exists.group(number)
        stored = exists if self._stored is self._exists else self._stored.group(number)
        own = int.from_bytes(stored, "little") & pages_between(header.start - first, header.end - first)
        # The descriptors count from the first page of this part.
        index = max(self._stored.before(first) - self._first_rank, 0)
        table = read_table(self.source, header.descriptors + index * DESCRIPTOR.size, own.bit_count())
        return Group(first, exists, stored, own, table, (self._page_size, self.size))

    # -- reading -------------------------------------------------------------------------------

    def read_present(self, address: int, length: int) -> bytes:
        size = self._page_size
        first, skipped = divmod(address, size)
        end = -(-(address + length) // size)
        if end - first <= FEW_PAGES:
            pages = [self._kept_page(page, address) for page in range(first, end)]
        else:
            pages = self._pages(first, end, address)
        data = pages[0] if len(pages) == 1 else b"".join(pages)
        return data if len(data) == length else data[skipped : skipped + length]

    def _kept_page(self, page: int, address: int) -> bytes:
        data = self._kept.get(page)
        if data is None:
            (data,) = self._pages(page, page + 1, address)
            if len(self._kept) >= KEPT_BYTES // self._page_size:
                del self._kept[next(iter(self._kept))]
            self._kept[page] = data
        return data

    def _pages(self, first: int, end: int, address: int) -> list[bytes]:
        """The pages from `first` up to `end`; MissingMemory for an address not before `address`."""
        pages: list[bytes] = []
        while first < end:
            group = self._group(first // GROUP_PAGES)
            stop = min(end, group.end)
            missing = group.missing(first, stop)
            if missing is not None:
                self._refuse(max(missing * self._page_size, address))
            self._decode(group.entries(first, stop), first, address, pages)
            first = stop
        return pages

    def _decode(self, entries: list[Entry], first: int, address: int, pages: list[bytes]) -> None:
        """Append the pages with these descriptors, the first of them page `first`.

        A descriptor that points back, before the end of what was stored last, is taken for one that is shared.
        """
        window, window_start, window_end = memoryview(b""), 0, 0
        stored_end = 0
        for number, entry in enumerate(entries):
            offset, length, flags, _ = entry
            if offset < stored_end and entry in self._shared:
                pages.append(self._shared[entry])
                continue
            try:
                if not window_start <= offset <= window_end - length:
                    window = self._window(entries, number)
                    window_start, window_end = offset, offset + len(window)
                begin = offset - window_start
                page = self._decoded(window[begin : begin + length], flags)
            except DumpError as error:
                at = max((first + number) * self._page_size, address)
                raise MissingMemory(at, State.LOST, error.args[0], path=self.path, place=offset) from error
            pages.append(page)
            if offset < stored_end:
                self._share(entry, page)
            stored_end = max(stored_end, offset + length)

    def _window(self, entries: list[Entry], number: int) -> memoryview:
        """The bytes of a page, and of those that lie behind it one after the other."""
        start, length, _, _ = entries[number]
        end = start + length
        for offset, length, _, _ in entries[number + 1 : number + READ_PAGES]:
            if offset == end:
                end += length
            if offset > end or end - start >= READ_SIZE:
                break
        try:
            return memoryview(self.source.read(start, end - start))
        except DumpError:
            return memoryview(self.source.read(start, entries[number][1]))

    def _decoded(self, data: memoryview, flags: int) -> bytes:
        """The page that is stored in these bytes; DumpError where they do not decode to one."""
        codec = codec_of(flags)
        if codec.decode is None:
            raise DumpError(f"its page is stored with {codec.name}, which this Python cannot decode")
        try:
            page = codec.decode(data, self._page_size)
        except CodecError as error:
            raise DumpError(f"its page is stored with {codec.name}, and damaged: {error}") from error
        if len(page) != self._page_size:
            size = self._page_size
            found = f"{len(page)} bytes, not {size}" if len(page) < size else f"more than {size} bytes"
            raise DumpError(f"its page, stored with {codec.name}, decodes to {found}")
        return page

    def _share(self, entry: Entry, page: bytes) -> None:
        if len(self._shared) >= KEPT_SHARED:
            self._shared.clear()
        self._shared[entry] = page

    def where(self, address: int) -> FilePlace | None:
        page, inside = divmod(address, self._page_size)
        if not 0 <= page < self._known:
            return None
        group = self._group(page // GROUP_PAGES)
        if group.missing(page, page + 1) is not None:
            return None
        ((offset, _, flags, _),) = group.entries(page, page + 1)
        place = offset + inside if codec_of(flags).plain else offset
        stored = self.source.place(place)
        return None if stored is None else FilePlace(self.path, stored)

    # -- what is missing -----------------------------------------------------------------------

    def _what_is_missing(self) -> Iterator[Finding]:
        """What can be said of the whole file without looking at every descriptor."""
        header = self.header
        if header.split:
            message = (
                f"is one part of a split dump: it has the pages from {header.start:#x} up to {header.end:#x}, and "
                f"what the other parts have is lost"
            )
            yield Finding("image-split", Severity.NOTE, None, message)
        if header.status & Status.INCOMPLETE:
            message = "its writer says that it is incomplete: it did not get to all pages"
            yield Finding("image-incomplete", Severity.WARNING, None, message)
        if header.status & Status.ZSTD and codec_of(Status.ZSTD).decode is None:
            message = "pages are stored with zstd, which this Python cannot decode (3.14 can): those are lost"
            yield Finding("image-codec", Severity.WARNING, None, message)
        lacking = self._lacking()
        if lacking:
            yield Finding("image-cut-short", Severity.WARNING, None, f"the file ends before {lacking}")

    def _lacking(self) -> str:
        """Of what the file ends before: nothing, mostly."""
        header = self.header
        if self._known < header.mapped_pages:
            return f"the page bitmaps do, which are known up to page {self._known:#x}"
        count = self._stored.before(header.end) - self._first_rank
        room = max(self.size - header.descriptors, 0) // DESCRIPTOR.size
        if count > room:
            return (
                "the descriptor of 1 page"
                if count - room == 1
                else f"the descriptors of {count - room} pages"
            )
        last = min(count, GROUP_PAGES)
        table = read_table(self.source, header.descriptors + (count - last) * DESCRIPTOR.size, last)
        behind = entry_states(table, self._page_size, self.size).count(PageState.BEHIND_THE_END.code)
        last_pages = "page" if behind == 1 else f"{behind} pages"
        return f"the bytes of its last {last_pages} or more" if behind else ""


def joined(stretches: Iterator[tuple[int, int, PageState]]) -> Iterator[tuple[int, int, PageState]]:
    """Stretches that follow each other, those in one state as one."""
    first, last, state = 0, 0, PageState.HOLE
    for start, end, following in stretches:
        if following is state:
            last = end
        else:
            yield first, last, state
            first, last, state = start, end, following
    yield first, last, state


def pages_between(start: int, end: int) -> int:
    """The bits of a group from `start` up to `end`; both may lie outside of it.

    >>> hex(pages_between(-9, 4)), hex(pages_between(4, 8)), hex(pages_between(9999, 99999))
    ('0xf', '0xf0', '0x0')
    """
    start, end = (min(max(one, 0), GROUP_PAGES) for one in (start, end))
    return (1 << end) - (1 << start) if start < end else 0


def load(source: Source) -> KdumpDump:
    """The memory of a kdump-compressed image; DumpError with the place where it cannot be one."""
    return KdumpDump(source)
