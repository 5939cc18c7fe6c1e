"""A bitmap of pages that lies in a file: which bits are set, and how many before a page.

Bit n, the lowest of a byte first, is page n.  The bitmap stays in the file.  Of every stretch of 4096 pages (512
bytes) that has a bit set at all, its number and the bits before it are kept, 16 bytes in packed arrays; they are
counted once, at opening.  What a sparse file does not store has no bit set, and costs nothing.

What the file does not have, because it is cut short, is not taken for zeros: `known` says how far the bitmap
goes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from vmbus.errors import DumpError

from .source import Source

__all__ = ["ALL_PAGES", "GROUP_BYTES", "GROUP_PAGES", "LARGEST_BITMAP", "NO_PAGES", "PageBitmap"]

#: The stretch of pages that is counted as one, and its bytes in the bitmap.
GROUP_PAGES = 4096
GROUP_BYTES = GROUP_PAGES // 8

NO_PAGES = bytes(GROUP_BYTES)
ALL_PAGES = b"\xff" * GROUP_BYTES

#: So many groups are read at once while they are counted.
READ_GROUPS = 512

#: The most bytes of a bitmap, stored ones, that are counted: 8 TiB of memory in pages of 4096 bytes.
LARGEST_BITMAP = 1 << 28


class PageBitmap:
    """The bits of a bitmap.

    source, offset   where the bitmap begins
    pages            how many bits it should have
    known            how many it has, before the first that cannot be read
    total            how many of them are set
    groups           the numbers of the groups that have a bit set, in order

    Raises DumpError where the file stores more than LARGEST_BITMAP bytes of it.

    >>> from .source import BytesSource
    >>> bitmap = PageBitmap(BytesSource("bits", memoryview(b"\\x26\\x01")), 0, 16)
    >>> bitmap.total, bitmap.before(0), bitmap.before(5), bitmap.before(16)
    (4, 0, 2, 4)
    """

    def __init__(self, source: Source, offset: int, pages: int) -> None:
        self.source = source
        self.offset = offset
        self.pages = pages
        self.known = pages
        self.total = 0
        self.groups = array("Q")
        self._before = array("Q")
        self._count()

    def group(self, number: int) -> bytes:
        """The bits of one group: 512 bytes, zero behind the last page that is known."""
        place = bisect_left(self.groups, number)
        if place == len(self.groups) or self.groups[place] != number:
            return NO_PAGES
        return self._read(number, 1)

    def before(self, page: int) -> int:
        """How many bits are set before that of `page`."""
        number, inside = divmod(page, GROUP_PAGES)
        place = bisect_left(self.groups, number)
        if place == len(self.groups):
            return self.total
        count = self._before[place]
        if not inside or self.groups[place] != number:
            return count
        bits = int.from_bytes(self._read(number, 1), "little")
        return count + (bits & (1 << inside) - 1).bit_count()

    # -- opening -------------------------------------------------------------------------------

    def _count(self) -> None:
        """Fill `groups`, and find where the bitmap cannot be read any more."""
        stored = 0
        for first, end in self._stored_groups():
            for number in range(first, end, READ_GROUPS):
                count = min(READ_GROUPS, end - number)
                stored += count * GROUP_BYTES
                if stored > LARGEST_BITMAP:
                    message = f"a page bitmap has more than {LARGEST_BITMAP} bytes"
                    raise DumpError(message, path=self.source.path, place=self.offset)
                try:
                    data = self._read(number, count)
                except DumpError:
                    self._count_to_the_end(number, count)
                    return
                self._add(number, data)

    def _count_to_the_end(self, number: int, count: int) -> None:
        """Count the groups before the one that cannot be read, and of that one the bytes before its end."""
        for one in range(number, number + count):
            try:
                data = self._read(one, 1)
            except DumpError:
                self.known = one * GROUP_PAGES
                return
            self._add(one, data)

    def _add(self, number: int, data: bytes) -> None:
        for at in range(0, len(data), GROUP_BYTES):
            bits = data[at : at + GROUP_BYTES]
            if bits != NO_PAGES:
                self.groups.append(number + at // GROUP_BYTES)
                self._before.append(self.total)
                full = bits == ALL_PAGES
                self.total += GROUP_PAGES if full else int.from_bytes(bits, "little").bit_count()

    def _stored_groups(self) -> Iterator[tuple[int, int]]:
        """Which groups the file stores something of, from the first up to, and without, the second."""
        size = (self.pages + 7) // 8
        readable = min(size, max(self.source.size - self.offset, 0))
        if readable < size:
            self.known = readable * 8
        done = 0
        for start, end in self.source.extents(self.offset, self.offset + readable):
            first = max((start - self.offset) // GROUP_BYTES, done)
            last = -(-(end - self.offset) // GROUP_BYTES)
            if first > done and not self._is_zero(done):
                return
            if first < last:
                yield first, last
                done = last
        if done * GROUP_BYTES < readable:
            self._is_zero(done)

    def _is_zero(self, number: int) -> bool:
        """Whether a group that is not stored is zero, and not one that is missing: then the bitmap ends there."""
        try:
            self.source.read(self.offset + number * GROUP_BYTES, 1)
        except DumpError:
            self.known = min(self.known, number * GROUP_PAGES)
            return False
        return True

    def _read(self, number: int, count: int) -> bytes:
        """The bits of so many groups, as `group` gives them; DumpError where some cannot be read."""
        start = number * GROUP_BYTES
        pages = max(min(self.known - number * GROUP_PAGES, count * GROUP_PAGES), 0)
        data = self.source.read(self.offset + start, (pages + 7) // 8)
        if pages % 8:
            data = data[:-1] + bytes([data[-1] & (1 << pages % 8) - 1])
        return data.ljust(count * GROUP_BYTES, b"\0")
