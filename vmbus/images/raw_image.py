"""A memory image of any format as a raw one: byte n of the file is the byte of memory at address n.

The file is sparse.  Holes of the address space and pages of zeros stay holes of the file; so does memory that
the image does not have, and that is told, for nobody could see it in the file.

Memory is moved in pieces of at most 1 MiB, whatever the size of the image.  Addresses and lengths are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from vmbus.errors import CallerError, DumpError

from .dump import TOP, Dump, Run, State
from .missing_runs import MissingRuns
from .sparse import SparseWriter, can_have_holes, stretches

__all__ = ["LARGEST_RAW_IMAGE", "MOST_MISSING_LISTED", "RawImage", "write_raw_image"]

#: No raw file is made larger, sparse as it would be: an image may claim memory at any address.
LARGEST_RAW_IMAGE = 1 << 46

#: So many places where memory is missing are listed; the others are counted.
MOST_MISSING_LISTED = 8


class RawImage(NamedTuple):
    """What was written.

    start     the address of the file's first byte
    size      bytes of the file, with its holes
    stored    bytes of memory that were written into it
    missing   bytes that are excluded or lost, and are holes now, each state with its number
    places    how many places those are
    listed    the first of them
    """

    start: int
    size: int
    stored: int
    missing: dict[State, int]
    places: int
    listed: tuple[Run, ...]


def write_raw_image(
    dump: Dump,
    stream: BinaryIO,
    *,
    start: int = 0,
    end: int = TOP,
    progress: Callable[[int, int], object] | None = None,
) -> RawImage:
    """Write the memory from `start` to `end` as a raw file, whose first byte is that at `start`.

    stream     a binary stream that can seek and truncate, at its start
    progress   told now and then how many bytes of how many were read

    Raises CallerError for a range without addresses and a stream that cannot seek; DumpError when the image has
    no memory in the range, or more addresses than a raw file is made for.

    >>> import io
    >>> from .raw import RawDump
    >>> stream = io.BytesIO()
    >>> made = write_raw_image(RawDump("two pages", memoryview(bytes(4096) + b"page")), stream, start=4096)
    >>> made.size, made.stored, stream.getvalue()
    (4, 4, b'page')
    """
    if not 0 <= start < end <= TOP:
        raise CallerError(
            f"there are no addresses from {start:#x} to {end:#x}", argument="end", value=end, limit=start
        )
    if not can_have_holes(stream):
        raise CallerError(
            "a raw image has holes, and this stream cannot skip them", argument="stream", limit="a file"
        )
    size, total = extent_of(dump, start, end)
    missing, writer, done = MissingRuns(MOST_MISSING_LISTED), SparseWriter(stream), 0
    for address, piece in dump.pieces(start, end, on_missing=missing.add):
        data, offset = bytes(piece), address - start
        for first, last in stretches(data, offset):
            writer.write_at(offset + first, memoryview(data)[first:last])
        done += len(data)
        if progress is not None:
            progress(done, total)
    writer.finish(size)
    return RawImage(start, size, writer.stored, missing.counts, missing.places, tuple(missing.listed))


def extent_of(dump: Dump, start: int, end: int) -> tuple[int, int]:
    """How large the raw file is, and how many bytes of memory go into it."""
    last, total = start, 0
    for run in dump.runs(start, end):
        last = run.end
        if run.state is State.PRESENT:
            total += run.end - run.start
    if last == start:
        where = "on" if end == TOP else f"to {end - 1:#x}"
        raise DumpError(f"has no memory from {start:#x} {where}", path=dump.path, place=None)
    if last - start > LARGEST_RAW_IMAGE:
        raise DumpError(
            f"has memory up to {last:#x}, and a raw image has at most {LARGEST_RAW_IMAGE >> 40} TiB; "
            "--start and --end take a part of it",
            path=dump.path,
        )
    return last - start, total
