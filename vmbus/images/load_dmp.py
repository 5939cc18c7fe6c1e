"""Windows crash dumps of 64-bit systems, DMP64: full, bitmap (also active and live) and lists of ranges.

A dump that is not full says of some memory that it is there and does not hold it.  What the header's own list
of runs has, and the dump does not, is excluded; where the header has no such list nobody can tell such memory from
none at all.

Only the first MOST_RANGES ranges of a list are read, and a bitmap has at most MOST_BITS pages.

Sources: QEMU include/qemu/win_dump_defs.h and dump/win_dump.c; Volatility 3, layers/crash.py; kdmp-parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from vmbus.errors import DumpError
from vmbus.sizes import PAGE_SIZE

from . import magics
from .disjoint import outside
from .dmp_bitmap import FORMAT, LEFT_OUT, BitmapDump, PageRanges
from .dmp_layout import (
    ADDRESS_PAGES,
    BITMAP,
    BITMAP_SIGNATURES,
    BITMAP_START,
    DUMP_TYPE,
    FILLER,
    HEADER,
    HEADER_SIZE,
    MACHINES,
    MOST_RUNS,
    RANGE_MARKER,
    RANGES,
    RANGES_SIGNATURE,
    RANGES_START,
    RUN,
    BitmapHeader,
    DmpHeader,
    DumpType,
    RangesHeader,
)
from .dump import Dump, State
from .findings import Finding, Severity
from .source import Source
from .stored import Segment, StoredDump

__all__ = ["MOST_BITS", "MOST_RANGES", "WindowsDump", "load"]

#: The ranges of a list that are read; each takes some hundred bytes of memory.
MOST_RANGES = 1 << 18

#: The pages that a bitmap may have: 32 TiB of memory, a bitmap of 1 GiB.
MOST_BITS = 1 << 33

READ_SIZE = 1 << 20

#: What cannot be read, and what to do about it.
UNSUPPORTED = {
    DumpType.OLD_KERNEL: "a kernel dump of an old type (2)",
    DumpType.MINI: "a small memory dump (type 4), which holds no physical memory",
}


def load(source: Source) -> Dump:
    """The memory in a dump; DumpError where it is of a type that holds none, or too damaged."""
    if source.read(0, 8) == magics.WINDOWS_32:
        raise DumpError(
            "is a crash dump of a 32-bit system, which is not supported; an ELF core or a raw image can be read",
            path=source.path,
            place=4,
        )
    header = DmpHeader(*HEADER.unpack(source.read(0, HEADER.size)))
    if header.signature + header.kind != magics.WINDOWS_64:
        raise DumpError("does not begin as a Windows crash dump does", path=source.path, place=0)
    (number,) = DUMP_TYPE.unpack(source.read(0, DUMP_TYPE.size))
    kind = dump_type(number, source.path)
    findings: list[Finding] = []
    if header.machine not in MACHINES:
        add(findings, "dmp-machine", f"machine type {header.machine:#x} is neither x64 nor arm64")
    dump: Dump
    if kind is DumpType.FULL:
        dump = full_dump(source, header, findings)
    elif kind in (DumpType.BITMAP, DumpType.LIVE):
        dump = bitmap_dump(source, header, findings)
    else:
        dump = ranges_dump(source, header, kind, findings)
    dump.findings[:0] = findings
    return dump


class WindowsDump(StoredDump):
    """A full dump, or one with a list of ranges; `header` is what the file begins with."""

    header: DmpHeader


def dump_type(number: int, path: str) -> DumpType:
    """The type as one that can be read; DumpError for all others."""
    place = DUMP_TYPE.size - 4
    advice = "; a complete, active or kernel dump, or a full one of QEMU, can be read"
    try:
        kind = DumpType(number)
    except ValueError:
        known = ", ".join(str(int(kind)) for kind in DumpType if kind not in UNSUPPORTED)
        raise DumpError(
            f"is a Windows dump of type {number:#x}; known are {known}", path=path, place=place
        ) from None
    if kind in UNSUPPORTED:
        raise DumpError(f"is {UNSUPPORTED[kind]}{advice}", path=path, place=place)
    return kind


def add(findings: list[Finding], check: str, message: str, severity: Severity = Severity.WARNING) -> None:
    findings.append(Finding(check, severity, None, message))


# -- the header's list of runs, and full dumps -----------------------------------------------------


def full_dump(source: Source, header: DmpHeader, findings: list[Finding]) -> WindowsDump:
    """Type 1: the pages of all runs, one behind the other."""
    if header.run_count == FILLER:
        raise DumpError(
            'has no run list (the text "PAGE" fills its place), without which a full dump says nothing of '
            "where its pages belong",
            path=source.path,
            place=HEADER.size - 16,
        )
    if header.run_count > MOST_RUNS:
        raise DumpError(
            f"has {header.run_count} runs of memory; a header has room for {MOST_RUNS}",
            path=source.path,
            place=HEADER.size - 16,
        )
    runs = header_runs(source, header.run_count)
    total = sum(count for _, count in runs)
    if total != header.page_count:
        add(
            findings,
            "dmp-page-count",
            f"{total} pages are in its runs, but {header.page_count} in its header",
        )
    return stored_dump(source, header, packed(runs, HEADER_SIZE, findings), findings)


def header_runs(source: Source, count: int) -> list[tuple[int, int]]:
    """The header's runs: first page, and how many."""
    return list(RUN.iter_unpack(source.read(HEADER.size, count * RUN.size)))


def packed(ranges: Iterable[tuple[int, int]], offset: int, findings: list[Finding]) -> Iterator[Segment]:
    """Ranges of pages as segments whose bytes stand one behind the other in the file, from `offset` on."""
    for first, count in ranges:
        if first + count > ADDRESS_PAGES:
            message = f"{count} pages from page {first:#x} on end behind the last address; this range and those behind it are not read"
            add(findings, "dmp-range", message, Severity.ERROR)
            return
        yield Segment(first * PAGE_SIZE, count * PAGE_SIZE, offset)
        offset += count * PAGE_SIZE


def stored_dump(
    source: Source, header: DmpHeader, segments: Iterable[Segment], findings: list[Finding]
) -> WindowsDump:
    dump = WindowsDump(source, segments, format=FORMAT)
    dump.header = header
    if not dump.segments:
        why = f": {findings[-1].message}" if findings else ""
        raise DumpError(f"lists no memory that could be read{why}", path=source.path, place=HEADER_SIZE)
    return dump


def known_memory(source: Source, header: DmpHeader, findings: list[Finding]) -> PageRanges:
    """Where the header of a partial dump says that there is memory: page numbers, start and end; often nothing."""
    if header.run_count == FILLER:
        return ()
    if 0 < header.run_count <= MOST_RUNS:
        runs = header_runs(source, header.run_count)
        ranges = [(first, first + count) for first, count in runs]
        ordered = all(one[1] <= other[0] for one, other in pairwise(ranges))
        if (
            ordered
            and ranges[-1][1] <= ADDRESS_PAGES
            and sum(count for _, count in runs) == header.page_count
        ):
            return ranges
    add(findings, "dmp-run-list", "the header's own list of runs contradicts itself and is not used")
    return ()


# -- types 5 and 6: a bitmap -----------------------------------------------------------------------


def bitmap_dump(source: Source, header: DmpHeader, findings: list[Finding]) -> BitmapDump:
    bitmap = BitmapHeader(*BITMAP.unpack(source.read(HEADER_SIZE, BITMAP.size)))
    if bitmap.signature not in BITMAP_SIGNATURES:
        raise DumpError(
            f"has {bitmap.signature!r} where the bitmap of its type should begin",
            path=source.path,
            place=HEADER_SIZE,
        )
    if not 0 < bitmap.bits <= MOST_BITS:
        raise DumpError(
            f"has a bitmap of {bitmap.bits} pages; from 1 to {MOST_BITS} are read",
            path=source.path,
            place=BITMAP_START - 8,
        )
    return BitmapDump(source, header, bitmap, known_memory(source, header, findings))


# -- types 8, 9 and 10: a list of ranges -----------------------------------------------------------


def ranges_dump(source: Source, header: DmpHeader, kind: DumpType, findings: list[Finding]) -> WindowsDump:
    ranges = RangesHeader(*RANGES.unpack(source.read(HEADER_SIZE, RANGES.size)))
    if ranges.signature != RANGES_SIGNATURE:
        raise DumpError(
            f"has {ranges.signature!r} where the ranges of its type should begin",
            path=source.path,
            place=HEADER_SIZE,
        )
    if ranges.marker != RANGE_MARKER:
        add(
            findings,
            "dmp-ranges",
            f"the list of ranges begins with {ranges.marker:#x}, not {RANGE_MARKER:#x}",
        )
    if ranges.metadata_size % RUN.size or ranges.first_page != ranges.metadata_size + RANGES_START - RUN.size:
        message = f"a first page at {ranges.first_page:#x} contradicts a list of {ranges.metadata_size} bytes"
        add(findings, "dmp-ranges", message)
    total = ranges.total if kind is DumpType.COMPLETE else None
    listed = [*read_ranges(source, ranges, total, findings)]
    segments = [*packed(listed, ranges.first_page, findings)]
    stored = sum(segment.length for segment in segments) // PAGE_SIZE
    if total is not None and stored != total:
        add(
            findings,
            "dmp-page-count",
            f"{stored} pages are in its ranges, but {total} in the header before them",
        )
    known = known_memory(source, header, findings)
    dump = stored_dump(source, header, [*segments, *excluded(segments, known)], findings)
    if not known and total is None:
        message = "a kernel dump holds a part of memory, and this one does not say what else there was"
        add(findings, "dmp-partial", message, Severity.NOTE)
    return dump


def excluded(segments: list[Segment], known: PageRanges) -> Iterator[Segment]:
    """What the header says there is, and no segment has."""
    stored = sorted((segment.address // PAGE_SIZE, segment.end // PAGE_SIZE) for segment in segments)
    disjoint = []
    highest = 0
    for start, end in stored:
        if end > highest:
            disjoint.append((max(start, highest), end))
            highest = end
    for start, end in outside(known, disjoint):
        yield Segment(start * PAGE_SIZE, (end - start) * PAGE_SIZE, 0, State.EXCLUDED, LEFT_OUT)


def read_ranges(
    source: Source, ranges: RangesHeader, total: int | None, findings: list[Finding]
) -> Iterator[tuple[int, int]]:
    """The ranges, first page and how many, up to the end of their list; `total` ends it too."""
    # The list ends where the first page begins at the latest: what is behind would be taken for ranges.
    end = min(RANGES_START - RUN.size + ranges.metadata_size, source.size)
    if ranges.first_page > RANGES_START:
        end = min(end, ranges.first_page)
    count = max(end - RANGES_START, 0) // RUN.size
    seen = 0
    step = READ_SIZE // RUN.size
    for start in range(0, min(count, MOST_RANGES), step):
        taken = min(step, count - start, MOST_RANGES - start)
        for first, pages in RUN.iter_unpack(source.read(RANGES_START + start * RUN.size, taken * RUN.size)):
            if not first or seen == total:
                return
            yield first, pages
            seen += pages
    if count > MOST_RANGES:
        message = f"the list has room for {count} ranges, of which the first {MOST_RANGES} were read"
        add(findings, "dmp-ranges", message)
