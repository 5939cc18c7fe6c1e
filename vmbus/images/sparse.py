"""Files with holes: what is never written takes no room and reads as zeros."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from vmbus.sizes import PAGE_SIZE

__all__ = ["SparseWriter", "can_have_holes", "stretches"]

ZERO_PAGE = bytes(PAGE_SIZE)

#: Zeros are written so many at a time, where a stream cannot leave them out.
MOST_ZEROS = bytes(1 << 20)


class SparseWriter:
    """Writes stretches of a file in order, and nothing between them.

    stream   a binary stream that stands at its start; one that cannot have holes gets zeros in their place
    holes    False for zeros in any case
    """

    def __init__(self, stream: BinaryIO, *, holes: bool = True) -> None:
        self._stream = stream
        self._seeks = holes and can_have_holes(stream)
        self._at = 0
        self.stored = 0

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write bytes that lie behind all that were written before; `stored` counts them."""
        self._go_to(offset)
        self._stream.write(data)
        self._at += len(data)
        self.stored += len(data)

    def finish(self, size: int) -> None:
        """Give the file its size, which is not less than what was written."""
        if not self._seeks:
            self._go_to(size)
            return
        self._stream.truncate(size)
        if self._stream.seek(0, os.SEEK_END) < size:  # a stream in memory, which truncate makes no longer
            self._stream.seek(size - 1)
            self._stream.write(b"\0")

    def _go_to(self, offset: int) -> None:
        if self._seeks:
            self._stream.seek(offset)
            self._at = offset
        while self._at < offset:
            zeros = MOST_ZEROS[: offset - self._at]
            self._stream.write(zeros)
            self._at += len(zeros)


def can_have_holes(stream: BinaryIO) -> bool:
    """Whether a stream is a file, or bytes in memory: pipes and devices cannot skip anything."""
    try:
        return stream.seekable() and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # io.UnsupportedOperation: it has no descriptor
        return stream.seekable()


def stretches(data: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Where in bytes that go to `offset` of a file there are pages that are not zero: starts and ends in `data`.

    >>> list(stretches(bytes(4096) + b"page", 0)), list(stretches(b"rest of a page" + bytes(9000), 4090))
    ([(4096, 4100)], [(0, 4102)])
    """
    begin, at = None, 0
    while at < len(data):
        stop = min(len(data), at + PAGE_SIZE - (offset + at) % PAGE_SIZE)
        page = data[at:stop]
        if page != ZERO_PAGE[: stop - at]:
            begin = at if begin is None else begin
        elif begin is not None:
            yield begin, at
            begin = None
        at = stop
    if begin is not None:
        yield begin, at
