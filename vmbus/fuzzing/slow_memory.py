"""Memory that lets somebody else act before and after every access, and in the middle of long ones.

SlowMemory wraps the memory of a ring, SlowGuestMemory that of a virtqueue, at the seam that rings and queues use:
they run on it the very lines that they run without it.  Whoever is called in between (`between`) may change any
byte of the memory inside, as another processor could: between the check of a length and its use, or when half of a
payload has been copied.

A read or write goes in parts of 8 bytes, each of them one access; control words, halfwords and fences are one access
each.  Where all that lies between two parts is the call, nothing is changed by it: this memory answers as the one
inside does.

What `between` does it does to the memory inside.  Through this one it would call itself.

Sources: vmbus.memory.RingMem and vmbus.memory.QueueMemory, which say what an access is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from vmbus.errors import CallerError
from vmbus.memory import Buffer, ControlWords, Halfwords, QueueMemory, RingMem, view_bytes
from vmbus.sizes import SLOT

__all__ = ["Access", "Between", "SlowGuestMemory", "SlowMemory"]


class Access(NamedTuple):
    """One access, or one part of a long one.

    what     "load" or "store" of a word, "read" or "write" of bytes, "acquire", "release" or "fence"
    place    of a ring: the word's number, or the byte's offset as it was given; of a virtqueue: the address
    length   bytes; 0 of a fence
    value    the word, or the bytes; None before a load or a read
    done     False before the access, True behind it
    begins   False for the second part of a long one, and those behind it
    """

    what: str
    place: int = 0
    length: int = 0
    value: Any = None
    done: bool = False
    begins: bool = True


Between = Callable[[Access], object]

WORD_BYTES, HALFWORD_BYTES = 4, 2


class SlowWords:
    """Words that are reached one at a time, each between two calls.

    place   of the first one, and how far the next one is from it
    """

    def __init__(
        self, words: ControlWords | Halfwords, between: Between, size: int, place: int, step: int
    ) -> None:
        self._words = words
        self._between = between
        self._size = size
        self._place = place
        self._step = step

    @property
    def readonly(self) -> bool:
        return bool(getattr(self._words, "readonly", False))

    def __getitem__(self, word: int) -> int:
        access = Access("load", self._place + self._step * word, self._size)
        self._between(access)
        value = self._words[word]
        self._between(access._replace(value=value, done=True))
        return value

    def __setitem__(self, word: int, value: int) -> None:
        access = Access("store", self._place + self._step * word, self._size, value)
        self._between(access)
        self._words[word] = value
        self._between(access._replace(done=True))


class Slow:
    """What both kinds share: reads and writes in parts, and fences between two calls."""

    def __init__(self, between: Between, part_size: int | None) -> None:
        if part_size is not None and part_size < 1:
            raise CallerError(
                f"a part has at least 1 byte, not {part_size}", argument="part_size", value=part_size, limit=1
            )
        self.between = between
        self.part_size = part_size

    def _call(self, access: Access) -> None:
        self.between(access)

    def _parts(self, place: int, length: int) -> Iterator[tuple[int, int]]:
        """Where each part starts, and its length; parts end where multiples of their size are."""
        size = self.part_size
        if size is None or not length:
            yield place, length
            return
        end = place + length
        while place < end:
            stop = min(end, (place // size + 1) * size)
            yield place, stop - place
            place = stop

    def _read(self, read: Callable[[int, int], bytes], place: int, length: int) -> bytes:
        parts = []
        begins = True
        for start, size in self._parts(place, length):
            access = Access("read", start, size, None, False, begins)
            self.between(access)
            data = read(start, size)
            self.between(access._replace(value=data, done=True))
            parts.append(data)
            begins = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _write(self, write: Callable[[int, Any], object], place: int, data: Any) -> None:
        begins = True
        for start, size in self._parts(place, len(data)):
            part = data[start - place : start - place + size]
            access = Access("write", start, size, bytes(part), False, begins)
            self.between(access)
            write(start, part)
            self.between(access._replace(done=True))
            begins = False

    def _one_part(self, record: Struct) -> bool:
        return self.part_size is None or record.size <= self.part_size

    def _fence(self, name: str, fence: Callable[[], object]) -> Callable[[], object]:
        before, behind = Access(name), Access(name, done=True)

        def slow_fence() -> None:
            self.between(before)
            fence()
            self.between(behind)

        return slow_fence

    def _packer(self, record: Struct, pack: Callable[..., object], place: int) -> Callable[..., object]:
        """The packer inside, as one access."""

        def slow_pack(offset: int, *values: object) -> None:
            access = Access("write", place + offset, record.size, record.pack(*values))
            self.between(access)
            pack(offset, *values)
            self.between(access._replace(done=True))

        return slow_pack

    def _unpacker(
        self, record: Struct, unpack: Callable[[int], tuple[Any, ...]], place: int
    ) -> Callable[[int], tuple[Any, ...]]:
        """The unpacker inside, as one access."""

        def slow_unpack(offset: int) -> tuple[Any, ...]:
            access = Access("read", place + offset, record.size)
            self.between(access)
            values = unpack(offset)
            self.between(access._replace(value=record.pack(*values), done=True))
            return values

        return slow_unpack


class SlowMemory(Slow, RingMem):
    """A ring's memory, `between` every two accesses of which somebody else may act.

    memory      the memory inside: what `between` is to change
    between     called before and behind every access; what it raises ends the access
    part_size   bytes of one part of a long read or write; None: reads and writes are whole

    Give each side a SlowMemory of its own, over the same memory, to tell their accesses apart.

    >>> from vmbus.memory import FlatRingMem
    >>> inside = FlatRingMem(4096)
    >>> def between(access):
    ...     if access.done and access.place == 0:       # the first half has been read
    ...         inside.write_at(8, b"changed!")
    >>> SlowMemory(inside, between).read_at(0, 16)
    b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00changed!'
    """

    def __init__(self, memory: RingMem, between: Between, *, part_size: int | None = SLOT) -> None:
        super().__init__(between, part_size)
        self.inside = memory
        self._control = SlowWords(memory.control, self._call, WORD_BYTES, 0, 1)
        # Instance attributes, as in other memories: a ring fetches them once.
        self.acquire = self._fence("acquire", memory.acquire)  # type: ignore[method-assign]
        self.release = self._fence("release", memory.release)  # type: ignore[method-assign]
        self.fence = self._fence("fence", memory.fence)  # type: ignore[method-assign]

    @property
    def control(self) -> ControlWords:
        return self._control

    @property
    def size(self) -> int:
        return self.inside.size

    def read_at(self, offset: int, length: int) -> bytes:
        return self._read(self.inside.read_at, offset, length)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self._write(self.inside.write_at, offset, data)

    def packer(self, record: Struct) -> Callable[..., object]:
        if self._one_part(record):
            return self._packer(record, self.inside.packer(record), 0)
        return lambda offset, *values: self.write_at(offset, record.pack(*values))

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        if self._one_part(record):
            return self._unpacker(record, self.inside.unpacker(record), 0)
        return lambda offset: record.unpack(self.read_at(offset, record.size))


class SlowGuestMemory(Slow, QueueMemory):
    """The memory of a virtqueue, `between` every two accesses of which somebody else may act.

    memory      the memory inside: what `between` is to change
    between     called before and behind every access; what it raises ends the access
    part_size   bytes of one part of a long read or write; None: reads and writes are whole

    What goes through a `view` is not seen: there the bytes themselves are handed out.

    >>> from vmbus.memory import GuestMemory
    >>> seen = []
    >>> memory = SlowGuestMemory(GuestMemory.from_ranges([(0x1000, 4096)]), seen.append)
    >>> memory.halfwords(0x1000, 2)[1]
    0
    >>> [(access.what, hex(access.place), access.done) for access in seen]
    [('load', '0x1002', False), ('load', '0x1002', True)]
    """

    def __init__(self, memory: QueueMemory, between: Between, *, part_size: int | None = SLOT) -> None:
        super().__init__(between, part_size)
        self.inside = memory
        self.acquire = self._fence("acquire", memory.acquire)
        self.release = self._fence("release", memory.release)
        self.fence = self._fence("fence", memory.fence)

    def check_range(self, address: int, length: int, *, writable: bool = False) -> None:
        self.inside.check_range(address, length, writable=writable)

    def read(self, address: int, length: int) -> bytes:
        self.inside.check_range(address, length)  # all of it or nothing, as inside
        return self._read(self.inside.read, address, length)

    def write(self, address: int, data: Buffer) -> None:
        view = view_bytes(data, "data")
        self.inside.check_range(address, len(view), writable=True)
        self._write(self.inside.write, address, view)

    def view(self, address: int, length: int) -> memoryview:
        return self.inside.view(address, length)

    def halfwords(self, address: int, count: int) -> Halfwords:
        return SlowWords(self.inside.halfwords(address, count), self._call, HALFWORD_BYTES, address, 2)

    def packer(self, record: Struct, address: int, length: int) -> Callable[..., object]:
        pack = self.inside.packer(record, address, length)  # also where it is not used: it checks the range
        if self._one_part(record):
            return self._packer(record, pack, address)
        return lambda offset, *values: self.write(address + offset, record.pack(*values))

    def unpacker(self, record: Struct, address: int, length: int) -> Callable[[int], tuple[Any, ...]]:
        unpack = self.inside.unpacker(record, address, length)
        if self._one_part(record):
            return self._unpacker(record, unpack, address)
        return lambda offset: record.unpack(self.read(address + offset, record.size))
