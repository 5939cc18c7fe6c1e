"""The bytes of a file at offsets, whatever they are stored in.

A memory image is read through a Source: the file itself, bytes that came from a pipe, or what a wrapping
format unpacks to.  Offsets and lengths are in bytes.  One thread at a time reads from a source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from typing import NoReturn
from weakref import finalize

from vmbus.errors import CallerError, DumpError

__all__ = ["BytesSource", "FileSource", "Source", "file_error"]


class Source:
    """What every source has.

    path       what to call it in messages
    size       how many bytes there are
    unpacked   whether they were unpacked from a compressed file, and opening it again unpacks them again
    """

    path: str
    size: int
    unpacked = False

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes; DumpError with the place where the file ends before."""
        self.check_range(offset, length)
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """The same into a buffer, all of which is filled."""
        raise NotImplementedError

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where between `start` and `end` something is stored, in order; the rest reads as zeros."""
        if start < end:
            yield start, end

    def place(self, offset: int) -> int | None:
        """Where in the file the byte at `offset` is stored; None where it is not."""
        return offset

    def check_range(self, offset: int, length: int) -> None:
        """Raise DumpError when some of these bytes are not there."""
        if offset < 0 or length < 0 or offset + length > self.size:
            self.ends_before(offset, length)

    def ends_before(self, offset: int, length: int) -> NoReturn:
        message = f"{length} bytes at {offset:#x} are not all there: it ends at {self.size:#x}"
        raise DumpError(message, path=self.path, place=offset)

    def close(self) -> None:
        """Let go of the file; again is harmless."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}: {self.size} bytes>"


class BytesSource(Source):
    """Bytes that are in memory already.

    >>> BytesSource("four", memoryview(b"RING")).read(1, 2)
    b'IN'
    """

    def __init__(self, path: str, data: memoryview) -> None:
        self.path = path
        self.data = data.toreadonly()
        self.size = len(self.data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        buffer[:] = self.data[offset : offset + len(buffer)]


class FileSource(Source):
    """A file that can be read at any place, and is, without being mapped.

    path         the file; or what to call it
    descriptor   one that was opened before, and is the source's own from now on

    It is closed at the latest when nobody has the source any more.  Raises DumpError when it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], descriptor: int | None = None) -> None:
        self.path = os.fspath(path)
        try:
            if descriptor is None:
                descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self._close = finalize(self, os.close, descriptor)
            self._file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115
            self.size = self._file.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:  # a name may hold a zero byte
            raise file_error(error, self.path) from error

    def fileno(self) -> int:
        """The descriptor behind it, which stays the source's own."""
        return self._file.fileno()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        file, left = self._open_file(), buffer
        try:
            file.seek(offset)
            while left:
                taken = file.readinto(left)
                if not taken:  # it was cut short since it was opened
                    self.ends_before(offset, len(buffer))
                left = left[taken:]
        except OSError as error:
            raise file_error(error, self.path, place=offset) from error

    def _open_file(self) -> FileIO:
        """The file, or CallerError when the source was closed."""
        if self._file.closed:
            raise CallerError(
                f"{self.path} is closed: what is to be read of it must be read before",
                argument="self",
                value="closed",
                limit="open",
            )
        return self._file

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        descriptor = self._open_file().fileno()
        if not hasattr(os, "SEEK_DATA"):
            yield from super().extents(start, end)
            return
        end = min(end, self.size)
        while start < end:
            try:
                first = os.lseek(descriptor, start, os.SEEK_DATA)
                last = os.lseek(descriptor, first, os.SEEK_HOLE)
            except OSError:  # nothing is stored behind `start`; or the file system cannot say
                if start_is_stored(descriptor, start):
                    yield start, end
                return
            if first < end:
                yield first, min(last, end)
            start = last

    def close(self) -> None:
        self._file.close()
        self._close()


def start_is_stored(descriptor: int, start: int) -> bool:
    """Whether a byte is stored there, as far as the file system can say: where it cannot, it may be."""
    try:
        return os.lseek(descriptor, start, os.SEEK_HOLE) > start
    except OSError:
        return True


def file_error(error: OSError | ValueError, path: str, place: int | None = None) -> DumpError:
    """What the system says of a file, as our error."""
    number = getattr(error, "errno", None)
    return DumpError(f"cannot be read: {os.strerror(number) if number else error}", path=path, place=place)
