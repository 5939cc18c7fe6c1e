"""makedumpfile's flattened form: a file that was sent through a pipe, as pieces and where they belong.

Whoever writes to a pipe cannot go back.  So each piece of the file goes there with its offset and its size in
front, in any order; a later one overrides an earlier one, and what no piece covers is zero.  A last record
says that all of it came.  QEMU's `dump-guest-memory -z` writes this, too.

A FlattenedSource is the file that `makedumpfile -R` would put together, read through an index of its pieces:
24 bytes for each, in packed arrays.

Where the last record is missing, or a record cannot be right, what came before is kept.  What no piece covers
is then unknown and cannot be read: it is not shown as zeros.

Sizes and offsets are in bytes, numbers big-endian.

Sources: makedumpfile makedumpfile.h, struct makedumpfile_header and makedumpfile_data_header; QEMU dump/dump.c.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, NoReturn

from vmbus.errors import DumpError

from . import magics
from .findings import Finding, Severity
from .piece_index import PieceIndex
from .source import Source

__all__ = ["MOST_RECORDS", "FlattenedSource", "unflatten"]

#: signature, type, version; the records begin behind FIRST_RECORD bytes
FILE_HEADER = Struct(">16sqq")
KNOWN_TYPE = KNOWN_VERSION = 1
FIRST_RECORD = 4096

#: offset, size; both -1 at the end
RECORD = Struct(">qq")
END_MARKER = (-1, -1)

#: The end of a file, at most.
LARGEST_OFFSET = 2**63 - 1

#: The most records that are indexed: 256 GiB in the pieces of 16 KiB that QEMU writes.
MOST_RECORDS = 1 << 24

#: So many bytes are read to see a record's header; where records are small there are more of them inside.
WINDOW = 4096


class Ending(NamedTuple):
    """Why the records end before the end marker.

    place     of the record, in the flattened file
    """

    check: str
    severity: Severity
    message: str
    place: int


class FlattenedSource(Source):
    """The file that the pieces of a flattened one make.

    flattened   the bytes of the flattened file; closed with this source
    findings    what is wrong with it
    complete    whether it has its end marker, so that what no piece covers is known to be zero

    Raises DumpError when it is not flattened, has no record, or more than MOST_RECORDS.

    >>> from .source import BytesSource
    >>> head = FILE_HEADER.pack(magics.FLATTENED, 1, 1).ljust(FIRST_RECORD, b"\\0")
    >>> records = RECORD.pack(4, 4) + b"EFGH" + RECORD.pack(0, 2) + b"AB" + RECORD.pack(-1, -1)
    >>> FlattenedSource(BytesSource("two pieces", memoryview(head + records))).read(0, 8)
    b'AB\\x00\\x00EFGH'
    """

    def __init__(self, flattened: Source) -> None:
        self.path = flattened.path
        self.flattened = flattened
        self.findings: list[Finding] = []
        check_header(flattened)
        index = PieceIndex()
        self.size = 0
        ending = self._walk(index)
        self.complete = ending is None
        if not len(index):
            what = ending or Ending(
                "", Severity.ERROR, "holds nothing: there is no record in it", FIRST_RECORD
            )
            raise DumpError(what.message, path=self.path, place=what.place)
        if ending is not None:
            self.findings.append(Finding(ending.check, ending.severity, None, ending.message))
        try:
            index.settle()
        except DumpError as error:
            raise DumpError(str(error), path=self.path, place=FIRST_RECORD) from error
        self._starts, self._ends, self._places = index.starts, index.ends, index.places

    # -- opening -------------------------------------------------------------------------------

    def _walk(self, index: PieceIndex) -> Ending | None:
        """Put every record into the index; why they end too early, if they do."""
        source, file_size = self.flattened, self.flattened.size
        place, window, window_at = FIRST_RECORD, b"", 0
        add, unpack = index.add, RECORD.unpack_from
        while True:
            at = place - window_at
            if at + RECORD.size > len(window):
                if place + RECORD.size > file_size:
                    return no_end_marker(place, file_size)
                window = source.read(place, min(WINDOW, file_size - place))
                window_at, at = place, 0
            offset, size = unpack(window, at)
            if offset < 0 or size < 0 or offset + size > LARGEST_OFFSET:
                return None if (offset, size) == END_MARKER else bad_record(place, offset, size)
            place += RECORD.size
            if size:
                if len(index) == MOST_RECORDS:
                    self._too_many(place)
                stored = min(size, file_size - place)
                if stored > 0:
                    add(offset, offset + stored, place)
                self.size = max(self.size, offset + size)
                place += size

    def _too_many(self, place: int) -> NoReturn:
        raise DumpError(
            f"has more than {MOST_RECORDS} records; `makedumpfile -R` makes a plain file of it",
            path=self.path,
            place=place,
        )

    # -- reading -------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        number = bisect_right(self._starts, offset) - 1
        if number >= 0 and length >= 0 and offset + length <= self._ends[number]:
            return self.flattened.read(self._places[number] + offset - self._starts[number], length)
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        end = offset + len(buffer)
        self.check_range(offset, len(buffer))
        at = offset
        for number in range(max(bisect_right(self._starts, offset) - 1, 0), len(self._starts)):
            start = max(self._starts[number], offset)
            stop = min(self._ends[number], end)
            if self._starts[number] >= end:
                break
            if stop <= start:
                continue
            self._fill(buffer, offset, at, start)
            place = self._places[number] + start - self._starts[number]
            self.flattened.read_into(place, buffer[start - offset : stop - offset])
            at = stop
        self._fill(buffer, offset, at, end)

    def _fill(self, buffer: memoryview, offset: int, start: int, end: int) -> None:
        """What no piece covers: zeros, where all pieces are there."""
        if start == end:
            return
        if not self.complete:
            message = (
                f"{end - start} bytes at {start:#x} of what it unpacks to are not in it: it is cut short"
            )
            raise DumpError(message, path=self.path, place=start)
        buffer[start - offset : end - offset] = bytes(end - start)

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where between `start` and `end` there are pieces, those that touch as one."""
        number = max(bisect_right(self._starts, start) - 1, 0)
        first = last = start
        while number < len(self._starts) and self._starts[number] < end:
            piece_start, piece_end = max(self._starts[number], start), min(self._ends[number], end)
            number += 1
            if piece_end <= piece_start:
                continue
            if piece_start != last:
                if first < last:
                    yield first, last
                first = piece_start
            last = piece_end
        if first < last:
            yield first, last

    def place(self, offset: int) -> int | None:
        """Where in the flattened file a byte is; None where no piece covers it."""
        number = bisect_right(self._starts, offset) - 1
        if number < 0 or offset >= self._ends[number]:
            return None
        return self._places[number] + offset - self._starts[number]

    def close(self) -> None:
        self.flattened.close()


def unflatten(source: Source) -> tuple[Source, list[Finding]]:
    """The file inside a flattened one, and what is wrong with the flattened one."""
    inside = FlattenedSource(source)
    return inside, inside.findings


def check_header(source: Source) -> None:
    """Raise DumpError for what is not flattened, or is so in another way."""
    if source.size < FILE_HEADER.size:
        source.ends_before(0, FILE_HEADER.size)
    signature, kind, version = FILE_HEADER.unpack(source.read(0, FILE_HEADER.size))
    if signature != magics.FLATTENED:
        raise DumpError(
            f"begins with {signature!r}, not with {magics.FLATTENED!r}", path=source.path, place=0
        )
    if (kind, version) != (KNOWN_TYPE, KNOWN_VERSION):
        raise DumpError(
            f"is flattened in a way that is not known: type {kind}, version {version}, in place of "
            f"{KNOWN_TYPE} and {KNOWN_VERSION}",
            path=source.path,
            place=16,
        )


def no_end_marker(place: int, file_size: int) -> Ending:
    message = (
        f"the flattened file ends at {file_size:#x} without its end marker, which says that all of it came: "
        f"what is missing cannot be read"
    )
    return Ending("image-cut-short", Severity.WARNING, message, min(place, file_size))


def bad_record(place: int, offset: int, size: int) -> Ending:
    message = (
        f"the record at {place:#x} of the flattened file states {size} bytes at offset {offset}, which cannot "
        f"be: from there on nothing of it can be used"
    )
    return Ending("image-damaged", Severity.ERROR, message, place)
