"""A part of the data area: where a packet's payload lies, and ways to read and write it there.

Reading through a RingRange reads shared memory in place: the other side may change the bytes
between two reads.  Copy first, then look at the copy.

Sources: OpenVMM vmbus_ring/src/lib.rs, RingRange, RingRangeReader and RingRangeWriter.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import error as StructError
from typing import Protocol

from vmbus.errors import CallerError
from vmbus.layout import pack_words
from vmbus.memory import Buffer, RingMem, copy_into, view_bytes
from vmbus.sizes import SLOT

__all__ = ["Ring", "RingRange", "RingRangeReader", "RingRangeWriter"]


class Ring(Protocol):
    """Either end of a ring, as far as its ranges care."""

    @property
    def memory(self) -> RingMem:
        """The memory under the ring."""
        ...


class RingRange:
    """`size` bytes from `offset` on; they may wrap at the end of the data area.

    >>> len(RingRange(4088, 24)), RingRange.empty().is_empty
    (24, True)
    """

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size

    @classmethod
    def empty(cls) -> RingRange:
        """The range of no bytes."""
        return cls(0, 0)

    def __len__(self) -> int:
        return self.size

    @property
    def is_empty(self) -> bool:
        return self.size == 0

    def reader(self, ring: Ring) -> RingRangeReader:
        """Reads the range from its start on, in place."""
        return RingRangeReader(ring.memory, self.offset, self.size)

    def writer(self, ring: Ring) -> RingRangeWriter:
        """Writes the range from its start on."""
        return RingRangeWriter(ring.memory, self.offset, self.size)

    def write_aligned_full(self, ring: Ring, words: Sequence[int]) -> None:
        """Write the whole range as 64-bit words; CallerError when they are not exactly its size."""
        if len(words) * SLOT != self.size:
            raise CallerError(
                f"{len(words)} words are {len(words) * SLOT} bytes, and the range has {self.size}",
                argument="words",
                value=len(words) * SLOT,
                limit=self.size,
            )
        try:
            data = pack_words(words)
        except StructError as error:
            raise CallerError(
                f"a word is a number from 0 to 2**64 - 1: {error}", argument="words", limit=2**64 - 1
            ) from None
        ring.memory.write_at(self.offset, data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RingRange):
            return NotImplemented
        return (self.offset, self.size) == (other.offset, other.size)

    def __hash__(self) -> int:
        return hash((self.offset, self.size))

    def __repr__(self) -> str:
        return f"RingRange(offset={self.offset}, size={self.size})"


class Cursor:
    """A position in a range that only moves forward."""

    __slots__ = ("_left", "_memory", "_offset")

    def __init__(self, memory: RingMem, offset: int, size: int) -> None:
        self._memory = memory
        self._offset = offset
        self._left = size

    def __len__(self) -> int:
        """Bytes that are left."""
        return self._left

    def _take(self, length: int) -> int:
        """Move on by `length` bytes; the offset before."""
        if not 0 <= length <= self._left:
            raise CallerError(
                f"{length} bytes asked for and {self._left} left in the range",
                argument="length",
                value=length,
                limit=self._left,
            )
        start = self._offset
        self._offset = start + length
        self._left -= length
        return start

    def skip(self, length: int) -> None:
        """Leave out `length` bytes; CallerError when fewer are left."""
        self._take(length)


class RingRangeReader(Cursor):
    """Reads a range in place: reading twice may give two answers, so read once."""

    __slots__ = ()

    def read(self, length: int) -> bytes:
        """A copy of the next `length` bytes; CallerError when fewer are left."""
        return self._memory.read_at(self._take(length), length)

    def read_all(self) -> bytes:
        """A copy of all that is left."""
        return self.read(self._left)

    def read_into(self, buffer: Buffer, length: int | None = None) -> int:
        """Copy the next `length` bytes, or all that are left, into `buffer`; how many that was.

        Raises BufferTooSmall, and reads nothing, when they do not fit.
        """
        wanted = self._left if length is None else length
        return copy_into(buffer, wanted, lambda: self.read(wanted))


class RingRangeWriter(Cursor):
    """Writes a range from its start on."""

    __slots__ = ()

    def write(self, data: Buffer) -> None:
        """Store `data` next; CallerError when it is longer than what is left."""
        view = view_bytes(data, "data")
        self._memory.write_at(self._take(len(view)), view)

    def fill(self, value: int, length: int) -> None:
        """Store `length` bytes of `value`, 0 to 255, next."""
        if not 0 <= value <= 0xFF:
            raise CallerError(f"a byte is 0 to 255, not {value}", argument="value", value=value, limit=0xFF)
        self._memory.write_at(self._take(length), bytes([value]) * length)
