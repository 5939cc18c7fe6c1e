"""A ring memory that writes down every access, and can let the other side act after each one.

It wraps another at the seam that rings use: they run on it the very lines that they run without it, and the
packers and unpackers of the memory inside are called, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, NamedTuple

from vmbus.memory import ControlWords, RingMem

from .control_words import WORD_NAMES
from .trial import Wrong

__all__ = ["Access", "RecordingMemory", "order_of", "why_not_in_order"]

#: What each fence is good for, also where a weaker one is asked for.
AT_LEAST = {
    "acquire": {"acquire", "fence"},
    "release": {"release", "fence"},
    "fence": {"fence"},
}


class Access(NamedTuple):
    """One access to the memory.

    what     "load" or "store" of a control word, "read" or "write" of the data area, or a fence's name
    place    the word's name, or the byte offset; nothing for a fence
    value    the word's value, or the bytes
    """

    what: str
    place: Any = None
    value: Any = None

    def __str__(self) -> str:
        """As tables of orders have it: no values, and no places in the data area.

        >>> print(Access("store", "in", 64), Access("read", 8, b"12345678"), sep=", ")
        store in, read
        """
        return f"{self.what} {self.place}" if self.what in ("load", "store") else self.what


class RecordingWords:
    """Control words that note every load and store, and can be reached one at a time only."""

    def __init__(self, words: ControlWords, note: Callable[[Access], object]) -> None:
        self._words = words
        self._note = note

    @property
    def readonly(self) -> bool:
        return self._words.readonly

    def __getitem__(self, word: int) -> int:
        name = name_of(word)
        value = self._words[word]
        self._note(Access("load", name, value))
        return value

    def __setitem__(self, word: int, value: int) -> None:
        name = name_of(word)
        self._words[word] = value
        self._note(Access("store", name, value))


def name_of(word: int) -> str:
    if type(word) is not int:  # a slice of words would be more loads than one, in no order
        raise Wrong(f"control words are loaded and stored one at a time, not {word!r}")
    return WORD_NAMES.get(word, f"word {word}")


class RecordingMemory(RingMem):
    """The accesses to a memory, in order, since the last `take`.

    inside      the memory
    accesses    what has been done since then
    after       called with each access, after it: the other side's chance to act

    >>> from vmbus.memory import FlatRingMem
    >>> memory = RecordingMemory(FlatRingMem(4096))
    >>> memory.control[0] = 8
    >>> memory.fence()
    >>> order_of(memory.take())
    ['store in', 'fence']
    """

    def __init__(self, inside: RingMem, after: Callable[[Access], object] | None = None) -> None:
        self.inside = inside
        self.accesses: list[Access] = []
        self.after = after
        self._words = RecordingWords(inside.control, self._note)

    def take(self) -> list[Access]:
        """What has been done since the last call."""
        accesses, self.accesses[:] = self.accesses[:], []
        return accesses

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

    def _note(self, access: Access) -> None:
        self.accesses.append(access)
        if self.after is not None:
            self.after(access)


def order_of(accesses: Iterable[Access]) -> list[str]:
    """The accesses as words."""
    return [str(access) for access in accesses]


def why_not_in_order(words: Sequence[str], table: Sequence[str]) -> str | None:
    """What of a stated order is not kept, or None.

    The accesses must be those of the table, where reads that follow each other count once, and so do writes;
    fences may be stronger than there, and more.

    >>> why_not_in_order(["write", "fence", "store in"], ["write", "release", "store in"]) is None
    True
    >>> why_not_in_order(["write", "store in"], ["write", "release", "store in"])
    'no release between write and store in'
    """
    accesses, found = taken_apart(words)
    stated, needed = taken_apart(table)
    if accesses != stated:
        return f"the accesses {', '.join(accesses) or 'none'} instead of {', '.join(stated)}"
    for number, fences in enumerate(needed):
        for fence in fences:
            if not AT_LEAST[fence] & set(found[number]):
                before = stated[number - 1] if number else "the start"
                after = stated[number] if number < len(stated) else "the end"
                return f"no {fence} between {before} and {after}"
    return None


def taken_apart(words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The accesses, and the fences before each and behind the last."""
    accesses: list[str] = []
    groups: list[list[str]] = [[]]
    for word in words:
        if word in AT_LEAST:
            groups[-1].append(word)
        elif word in ("read", "write") and accesses and accesses[-1] == word:
            groups[-1].clear()
        else:
            accesses.append(word)
            groups.append([])
    return accesses, groups
