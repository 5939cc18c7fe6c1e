"""Images that were compressed as a whole: gzip, zlib, xz, bzip2, and zstd where Python has it (3.14).

They are unpacked into a file without a name, which is gone when it is closed; it lies where TMPDIR says.
Zeros are not written but skipped, so that on most file systems they take no room.  Memory stays at a few
MiB whatever the file's size.

A file may consist of several members, one behind the other.  Where it is cut short or damaged, what came
before is kept, and a finding says so.

Limits: LARGEST_OUTPUT bytes unpacked; LARGEST_WINDOW bytes of memory for xz.  Sizes are in bytes.

Sources: RFC 1950 and 1952; the .xz File Format; the bzip2 manual; RFC 8878.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from vmbus.errors import DumpError

from . import magics
from .findings import Finding, Severity
from .source import FileSource, Source
from .sparse_file import temporary_file, write_sparse

__all__ = ["LARGEST_OUTPUT", "LARGEST_WINDOW", "unpack"]

#: The most bytes that a file may unpack to, unless the caller says otherwise: 1 TiB.
LARGEST_OUTPUT = 1 << 40

#: The most memory that an xz file may ask for; `xz -9` needs 65 MiB.
LARGEST_WINDOW = 256 << 20

#: At most so many bytes are unpacked at a time.
PIECE_SIZE = 1 << 20

#: From the file first so many are read, then twice as many and so on: a member may have but a few bytes.
FIRST_READ = 512
LARGEST_READ = 256 << 10

Progress = Callable[[int, int], object]


class Decompressor(Protocol):
    """What unpacks one member, as the classes of bz2 and lzma do."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Inflater:
    """The same for zlib and gzip.

    Where something is wrong, what comes before it is still given: zlib alone would give nothing of that call.
    """

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self._more = False  # the last call gave all that it was allowed to
        self._error: zlib.error | None = None

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not (self._more or self._stream.unconsumed_tail or self._error)

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._error:
            raise self._error
        data = self._stream.unconsumed_tail + data
        before = self._stream.copy()
        try:
            piece = self._stream.decompress(data, max_length)
        except zlib.error as error:
            self._error = error
            return up_to_error(before, data, max_length)
        self._more = len(piece) == max_length
        return piece


def up_to_error(stream: zlib._Decompress, data: bytes, most: int) -> bytes:
    """What a stream gives before the byte that it refuses."""
    out = bytearray()
    try:
        for at in range(len(data)):
            out += stream.decompress(data[at : at + 1])
            if len(out) >= most:
                break
    except zlib.error:
        pass
    return bytes(out)


class Format(NamedTuple):
    """A way to compress.

    magic   what a member begins with; empty where there can be only one, of any beginning
    start   makes what unpacks a member, and says how that complains
    """

    name: str
    magic: bytes
    start: Callable[[], tuple[Decompressor, type[Exception]]]


def start_xz() -> tuple[Decompressor, type[Exception]]:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LARGEST_WINDOW), lzma.LZMAError


def start_zstd() -> tuple[Decompressor, type[Exception]]:
    from compression import zstd  # type: ignore[import-not-found]

    return zstd.ZstdDecompressor(), zstd.ZstdError


ZLIB = Format("zlib", b"", lambda: (Inflater(zlib.MAX_WBITS), zlib.error))
FORMATS = (
    Format("gzip", magics.GZIP, lambda: (Inflater(16 + zlib.MAX_WBITS), zlib.error)),
    Format("xz", magics.XZ, start_xz),
    Format("bzip2", magics.BZIP2, lambda: (bz2.BZ2Decompressor(), OSError)),
    Format("zstd", magics.ZSTD, start_zstd),
)
LONGEST_MAGIC = max(len(format.magic) for format in FORMATS)


def unpack(
    source: Source, *, most: int = LARGEST_OUTPUT, progress: Progress | None = None
) -> tuple[Source, list[Finding]]:
    """What a compressed file holds, and what is wrong with it; the file itself is closed.

    most       more bytes than this are refused
    progress   told again and again how many bytes of the file are done, and how many it has

    Raises DumpError when nothing can be unpacked, or too much, or the disk is full.
    """
    members = Members(source, format_of(source), progress or (lambda done, total: None))
    # The temporary file belongs to the source that comes back, through a descriptor of its own.
    with temporary_file(source.path) as file:
        size = write_sparse(limited(members, most), file, source.path)
        if not size:
            raise DumpError(members.nothing(), path=source.path, place=members.place)
        unpacked = FileSource(source.path, os.dup(file.fileno()))
    source.close()
    return unpacked, members.findings


def limited(members: Members, most: int) -> Iterator[bytes]:
    """Pieces, up to one that would make them more than `most` bytes."""
    size = 0
    for piece in members:
        size += len(piece)
        if size > most:
            message = f"unpacks to more than {most} bytes, the most that is taken"
            raise DumpError(message, path=members.source.path, place=members.place)
        yield piece


def format_of(source: Source) -> Format:
    """How a file is compressed, by its first bytes; zlib where they say nothing else."""
    first = source.read(0, min(LONGEST_MAGIC, source.size))
    for format in FORMATS:
        if first.startswith(format.magic):
            return format
    return ZLIB


class Members:
    """Everything that the members of a file unpack to, in pieces.

    place      how far the file was read; where something is wrong, about there
    findings   what is wrong, once all pieces have come
    """

    def __init__(self, source: Source, format: Format, progress: Progress) -> None:
        self.source = source
        self.format = format
        self.place = 0
        self.findings: list[Finding] = []
        self._progress = progress

    def __iter__(self) -> Iterator[bytes]:
        while self.place < self.source.size:
            for piece in self._member():
                yield piece
                self._progress(self.place, self.source.size)
            if self.findings or not self._next_member():
                break
        self._progress(self.source.size, self.source.size)

    def _member(self) -> Iterator[bytes]:
        """One member, from its first byte on; up to what is wrong with it."""
        decompressor, complaint = self._start()
        step = FIRST_READ
        while not decompressor.eof:
            data = b""
            if decompressor.needs_input:
                data = self.source.read(self.place, min(step, self.source.size - self.place))
                if not data:
                    return self._say("image-cut-short", f"the file ends within its {self.format.name} data")
                self.place += len(data)
                step = min(2 * step, LARGEST_READ)
            try:
                piece = decompressor.decompress(data, PIECE_SIZE)
            except MemoryError:
                return self._say("image-damaged", f"its {self.format.name} data asks for too much memory")
            except complaint as error:
                return self._say("image-damaged", f"its {self.format.name} data is damaged: {error}")
            if piece:
                yield piece
        self.place -= len(decompressor.unused_data)

    def _start(self) -> tuple[Decompressor, type[Exception]]:
        try:
            return self.format.start()
        except ImportError as error:
            message = "is compressed with zstd, which this Python cannot unpack (3.14 can); `zstd -d` does"
            raise DumpError(message, path=self.source.path, place=0) from error

    def _next_member(self) -> bool:
        """Whether there is another member, behind zeros or not; anything else is wrong there."""
        self.place = end_of_zeros(self.source, self.place)
        left = self.source.size - self.place
        magic = self.format.magic
        if magic and self.source.read(self.place, min(len(magic), left)) == magic:
            return True
        if left:
            self._say("image-damaged", f"{left} bytes behind its {self.format.name} data are none")
        return False

    def _say(self, check: str, message: str) -> None:
        self.findings.append(
            Finding(
                check,
                Severity.WARNING,
                None,
                f"{message}, at or before {self.place:#x} of {self.source.size:#x}",
            )
        )

    def nothing(self) -> str:
        """Why nothing came of it."""
        why = f": {self.findings[0].message}" if self.findings else ""
        return f"holds nothing that {self.format.name} can unpack{why}"


def end_of_zeros(source: Source, place: int) -> int:
    """The first place from there on that is not zero."""
    for start, end in source.extents(place, source.size):
        step = FIRST_READ  # mostly there are no zeros at all
        while start < end:
            data = source.read(start, min(step, end - start))
            start += len(data)
            step = min(2 * step, LARGEST_READ)
            rest = data.lstrip(b"\0")
            if rest:
                return start - len(rest)
    return source.size
