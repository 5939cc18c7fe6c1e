"""A queue's memory that writes down every access by the name of the field, and can let the other side act.

It wraps another memory at the seam that the queues use, so they run on it the lines that they run
without it: packers, unpackers and words of the memory inside are used, not replaced.

    driver_memory, device_memory = watched_pair(areas, size, packed=False)

Two of them over one memory tell the two sides apart.  The names, of a split and of a packed queue:

    avail flags, avail idx, avail slot 3, used_event     slot 3 flags (loaded, stored: one access)
    used flags, used idx, used elem 3, avail_event       slot 3 (read, written: the 14 bytes before)
    descriptor 3                                         driver event, driver event flags
    request, table, buffer: what lies elsewhere          device event, device event flags

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from vmbus.memory import GuestMemory, Halfwords, QueueMemory

__all__ = ["Access", "Areas", "WatchedMemory", "named_fields", "steps", "watched_pair"]

DESCRIPTOR_SIZE = 16
USED_ELEMENT_SIZE = 8


class Areas(NamedTuple):
    """Where descriptors, driver area and device area are."""

    table: int
    driver: int
    device: int


class Access(NamedTuple):
    """One access to the memory.

    what      load or store of one halfword, read or write of several bytes, or a fence's name
    place     the field's name; nothing for a fence
    address   of its first byte
    length    bytes
    value     the word's value, or the bytes
    """

    what: str
    place: str = ""
    address: int = 0
    length: int = 0
    value: Any = None

    def __str__(self) -> str:
        return f"{self.what} {self.place}" if self.place else self.what


class Field(NamedTuple):
    """A run of bytes that has a name."""

    start: int
    end: int
    name: str


def named_fields(areas: Areas, size: int, packed: bool) -> list[Field]:
    """The fields of a queue's three areas."""
    return packed_fields(areas, size) if packed else split_fields(areas, size)


def split_fields(areas: Areas, size: int) -> list[Field]:
    driver, device = areas.driver, areas.device
    fields = [
        Field(driver, driver + 2, "avail flags"),
        Field(driver + 2, driver + 4, "avail idx"),
        Field(driver + 4 + 2 * size, driver + 6 + 2 * size, "used_event"),
        Field(device, device + 2, "used flags"),
        Field(device + 2, device + 4, "used idx"),
        Field(device + 4 + 8 * size, device + 6 + 8 * size, "avail_event"),
    ]
    for number in range(size):
        descriptor = areas.table + DESCRIPTOR_SIZE * number
        slot = driver + 4 + 2 * number
        element = device + 4 + USED_ELEMENT_SIZE * number
        fields.append(Field(descriptor, descriptor + DESCRIPTOR_SIZE, f"descriptor {number}"))
        fields.append(Field(slot, slot + 2, f"avail slot {number}"))
        fields.append(Field(element, element + USED_ELEMENT_SIZE, f"used elem {number}"))
    return fields


def packed_fields(areas: Areas, size: int) -> list[Field]:
    fields = []
    for name, start in (("driver event", areas.driver), ("device event", areas.device)):
        fields += [Field(start, start + 2, name), Field(start + 2, start + 4, f"{name} flags")]
    for number in range(size):
        slot = areas.table + DESCRIPTOR_SIZE * number
        fields += [
            Field(slot, slot + 14, f"slot {number}"),
            Field(slot + 14, slot + 16, f"slot {number} flags"),
        ]
    return fields


class WatchedHalfwords:
    """Words that can be reached one at a time only."""

    def __init__(self, words: Halfwords, address: int, note: Callable[..., None]) -> None:
        self._words = words
        self._address = address
        self._note = note

    def __getitem__(self, word: int) -> int:
        assert type(word) is int, f"words are loaded one at a time, not {word!r}"
        value = self._words[word]
        self._note("load", self._address + 2 * word, 2, value)
        return value

    def __setitem__(self, word: int, value: int) -> None:
        assert type(word) is int, f"words are stored one at a time, not {word!r}"
        self._words[word] = value
        self._note("store", self._address + 2 * word, 2, value)


class WatchedMemory(QueueMemory):
    """The accesses to a memory, in order.

    inside     the memory
    fields     what lies where; `name` adds to them
    accesses   what has been done so far; `take` starts again
    after      called with each access, after it: the other side's chance to act
    """

    def __init__(self, inside: GuestMemory, fields: list[Field]) -> None:
        self.inside = inside
        self.fields = list(fields)
        self.accesses: list[Access] = []
        self.after: Callable[[Access], object] | None = None
        self.acquire = self._watched_fence("acquire", inside.acquire)
        self.release = self._watched_fence("release", inside.release)
        self.fence = self._watched_fence("fence", inside.fence)

    def name(self, start: int, length: int, name: str) -> None:
        """Give a run of bytes a name."""
        self.fields.append(Field(start, start + length, name))

    def take(self) -> list[Access]:
        """What has been done since the last call."""
        accesses, self.accesses[:] = self.accesses[:], []
        return accesses

    def check_range(self, address: int, length: int, *, writable: bool = False) -> None:
        self.inside.check_range(address, length, writable=writable)

    def read(self, address: int, length: int) -> bytes:
        data = self.inside.read(address, length)
        self._note("read", address, length, data)
        return data

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.inside.write(address, data)
        self._note("write", address, len(data), bytes(data))

    def view(self, address: int, length: int) -> memoryview:
        return self.inside.view(address, length)

    def halfwords(self, address: int, count: int) -> WatchedHalfwords:
        return WatchedHalfwords(self.inside.halfwords(address, count), address, self._note)

    def packer(self, record: Struct, address: int, length: int) -> Callable[..., object]:
        pack_inside = self.inside.packer(record, address, length)

        def pack(offset: int, *values: object) -> None:
            pack_inside(offset, *values)
            self._note("write", address + offset, record.size, record.pack(*values))

        return pack

    def unpacker(self, record: Struct, address: int, length: int) -> Callable[[int], tuple[Any, ...]]:
        unpack_inside = self.inside.unpacker(record, address, length)

        def unpack(offset: int) -> tuple[Any, ...]:
            values = unpack_inside(offset)
            self._note("read", address + offset, record.size, record.pack(*values))
            return values

        return unpack

    def _watched_fence(self, name: str, fence: Callable[[], object]) -> Callable[[], object]:
        def watched() -> None:
            fence()
            self._add(Access(name))

        return watched

    def _note(self, what: str, address: int, length: int, value: Any) -> None:
        self._add(Access(what, self._place(address, length), address, length, value))

    def _place(self, address: int, length: int) -> str:
        """The names of all fields that the bytes touch."""
        touched = [one.name for one in self.fields if address < one.end and one.start < address + length]
        return " and ".join(touched) or f"{address:#x}"

    def _add(self, access: Access) -> None:
        self.accesses.append(access)
        if self.after is not None:
            self.after(access)


def watched_pair(
    inside: GuestMemory, areas: Areas, size: int, *, packed: bool
) -> tuple[WatchedMemory, WatchedMemory]:
    """Two watches over the same bytes: one for the driver, one for the device."""
    fields = named_fields(areas, size, packed)
    return WatchedMemory(inside, fields), WatchedMemory(inside, fields)


def steps(accesses: list[Access]) -> list[str]:
    """The accesses as words."""
    return [str(access) for access in accesses]
