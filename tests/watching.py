"""A ring memory that writes down every access, and can let the other side act after each one.

It wraps another memory at the seam the rings use, so the rings run on it the lines that they run
without it: the packers and unpackers of the memory inside are called, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from vmbus.layout import (
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PENDING_SEND_SIZE_WORD,
)
from vmbus.memory import ControlWords, RingMem

__all__ = ["Access", "WatchedRingMem"]

WORD_NAMES = {
    IN_WORD: "in",
    OUT_WORD: "out",
    INTERRUPT_MASK_WORD: "mask",
    PENDING_SEND_SIZE_WORD: "pending",
    FEATURE_BITS_WORD: "features",
}


class Access(NamedTuple):
    """One access to the memory.

    what     load or store of a control word, read or write of the data area, or a fence's name
    place    the word's name, or the byte offset; nothing for a fence
    value    the word's value, or the bytes
    """

    what: str
    place: str | int | None = None
    value: Any = None

    def __str__(self) -> str:
        """As the tables of the tests have it: no values, and no places in the data area."""
        return f"{self.what} {self.place}" if self.what in ("load", "store") else self.what


class WatchedWords:
    """Control words that can be reached one at a time only."""

    def __init__(self, words: ControlWords, note: Callable[[Access], None]) -> None:
        self._words = words
        self._note = note

    @property
    def readonly(self) -> bool:
        return self._words.readonly

    def __getitem__(self, word: int) -> int:
        assert type(word) is int, f"control words are loaded one at a time, not {word!r}"
        value = self._words[word]
        self._note(Access("load", WORD_NAMES.get(word, f"word {word}"), value))
        return value

    def __setitem__(self, word: int, value: int) -> None:
        assert type(word) is int, f"control words are stored one at a time, not {word!r}"
        self._words[word] = value
        self._note(Access("store", WORD_NAMES.get(word, f"word {word}"), value))


class WatchedRingMem(RingMem):
    """The accesses to a memory, in order.

    inside      the memory
    accesses    what has been done so far; clear it to start again
    after       called with each access, after it: the other side's chance to act
    """

    def __init__(self, inside: RingMem, after: Callable[[Access], object] | None = None) -> None:
        self.inside = inside
        self.accesses: list[Access] = []
        self.after = after
        self._words = WatchedWords(inside.control, self._note)

    @property
    def control(self) -> ControlWords:
        return self._words

    @property
    def size(self) -> int:
        return self.inside.size

    def read_at(self, offset: int, length: int) -> bytes:
        data = self.inside.read_at(offset, length)
        self._note(Access("read", offset, data))
        return data

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self.inside.write_at(offset, data)
        self._note(Access("write", offset, bytes(data)))

    def acquire(self) -> None:
        self.inside.acquire()
        self._note(Access("acquire"))

    def release(self) -> None:
        self.inside.release()
        self._note(Access("release"))

    def fence(self) -> None:
        self.inside.fence()
        self._note(Access("fence"))

    def packer(self, record: Struct) -> Callable[..., object]:
        pack_inside = self.inside.packer(record)

        def pack(offset: int, *values: object) -> None:
            pack_inside(offset, *values)
            self._note(Access("write", offset, record.pack(*values)))

        return pack

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        unpack_inside = self.inside.unpacker(record)

        def unpack(offset: int) -> tuple[Any, ...]:
            values = unpack_inside(offset)
            self._note(Access("read", offset, record.pack(*values)))
            return values

        return unpack

    def take(self) -> list[Access]:
        """What has been done since the last call."""
        accesses, self.accesses[:] = self.accesses[:], []
        return accesses

    def _note(self, access: Access) -> None:
        self.accesses.append(access)
        if self.after is not None:
            self.after(access)
