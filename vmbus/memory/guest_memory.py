"""Memory that a driver and a device share, at the addresses that the device sees.

What a virtqueue asks of its memory is QueueMemory; GuestMemory has it, over any buffers.  A memory
of your own (one that records, delays or disturbs every access) is a class with the same members.

Indices, flags and event words that the other side polls are loaded and stored with one aligned
access each: items of `halfwords`.  Everything else is private until an index publishes it, or
copied before it is looked at, and may go by slices.

Fields are little-endian, whatever the machine.

Sources: rust-vmm vm-memory, GuestMemory and Bytes; CPython Modules/_struct.c and
Objects/memoryobject.c on which of their calls are one access.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable
from functools import partial
from struct import Struct
from typing import Any, Literal, Protocol

from vmbus.errors import CallerError

from .address_space import AddressError, AddressSpace
from .barrier import Fence, Fences, require_fences
from .ring_memory import Buffer, check_alignment, view_bytes

__all__ = ["GuestMemory", "Halfwords", "QueueMemory"]

#: The native letter of an unsigned integer of so many bytes, for one access of that size.
LETTERS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Halfwords(Protocol):
    """A row of 16-bit words, each loaded and stored with one aligned access."""

    def __getitem__(self, word: int, /) -> int: ...

    def __setitem__(self, word: int, value: int, /) -> None: ...


class QueueMemory(Protocol):
    """What a virtqueue, from either side, asks of its memory.

    acquire   an earlier load comes before everything that follows
    release   earlier loads and stores come before later stores
    fence     everything before comes before everything after
    """

    acquire: Fence
    release: Fence
    fence: Fence

    def check_range(self, address: int, length: int, *, writable: bool = False) -> None:
        """Raise AddressError when some byte of the range is not mapped, or is not `writable`."""
        ...

    def read(self, address: int, length: int) -> bytes:
        """A copy of the bytes; AddressError when some of them are not mapped."""
        ...

    def write(self, address: int, data: Buffer) -> None:
        """Store the bytes; AddressError, and nothing stored, when some of them cannot be."""
        ...

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves; AddressError when they are not inside one region."""
        ...

    def halfwords(self, address: int, count: int) -> Halfwords:
        """The 16-bit words from an even address on."""
        ...

    def packer(self, record: Struct, address: int, length: int) -> Callable[..., object]:
        """A function of (offset, *values) that stores `record` in the `length` bytes at `address`."""
        ...

    def unpacker(self, record: Struct, address: int, length: int) -> Callable[[int], tuple[Any, ...]]:
        """A function of an offset in those bytes that returns the values of `record`."""
        ...


class GuestMemory(AddressSpace, QueueMemory):
    """An AddressSpace that can be written, with fields, single accesses and fences.

    regions   (address of the first byte, buffer) of each, in any order
    fences    what orders the accesses, where this machine's own are not wanted or not known

    `GuestMemory.from_ranges` makes the bytes too: zeroed, in anonymous shared mappings.

    A region over a read-only buffer can be read; writing there is an AddressError.

    >>> memory = GuestMemory.from_ranges([(0x1000, 4096), (0x4000, 4096)])
    >>> memory.write(0x1FFE, b"up")
    >>> memory.store_field(0x4000, 4, 0x12345678)
    >>> memory.read(0x4000, 4), hex(memory.load_field(0x4000, 2))
    (b'xV4\\x12', '0x5678')
    """

    def __init__(self, regions: Iterable[tuple[int, Buffer]], *, fences: Fences | None = None) -> None:
        buffers = list(regions)
        super().__init__(buffers)
        private = all(isinstance(buffer, (bytearray, bytes)) for _, buffer in buffers)
        chosen = require_fences(fences, shared=not private)
        self.acquire = chosen.acquire
        self.release = chosen.release
        self.fence = chosen.full

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]], *, fences: Fences | None = None) -> GuestMemory:
        """Zeroed memory; a forked child sees the same bytes.

        ranges   (address, bytes) of each region

        Raises CallerError as the class does, and for a region of no bytes.
        """
        return cls([(start, new_mapping(size)) for start, size in ranges], fences=fences)

    def check_range(self, address: int, length: int, *, writable: bool = False) -> None:
        """Raise AddressError when some byte of the range is not mapped, or is not `writable`."""
        start, end, view = self._recent
        if start <= address and address + length <= end and length >= 0 and not (writable and view.readonly):
            return
        super().check_range(address, length)
        if writable:
            self._writable_views(address, length)

    def write(self, address: int, data: Buffer) -> None:
        """Store the bytes; AddressError, and nothing stored, when some of them cannot be."""
        if type(data) is not bytes:
            data = view_bytes(data, "data")
        length = len(data)
        start, end, view = self._recent
        if start <= address and address + length <= end and not view.readonly:
            first = address - start
            view[first : first + length] = data
            return
        done = 0
        for view in self._writable_views(address, length):
            view[:] = data[done : done + len(view)]
            done += len(view)

    def load_field(self, address: int, size: int) -> int:
        """The little-endian unsigned integer of 1, 2, 4 or 8 bytes at `address`.

        One access where the address is a multiple of the size, so that the other side's store is
        seen whole or not at all.
        """
        value = self._word(address, size)[0]
        return value if sys.byteorder == "little" else swapped(value, size)

    def store_field(self, address: int, size: int, value: int) -> None:
        """Store such an integer, in one access where the address is a multiple of the size.

        Raises CallerError when it does not fit, or the region is read-only.
        """
        word = self._word(address, size)
        if not 0 <= value < 1 << 8 * size:
            raise CallerError(
                f"{value} does not fit {size} bytes",
                argument="value",
                value=value,
                limit=(1 << 8 * size) - 1,
            )
        check_writable(word, address)
        word[0] = value if sys.byteorder == "little" else swapped(value, size)

    def halfwords(self, address: int, count: int) -> memoryview:
        """The 16-bit words from an even address on, each one access.

        Raises CallerError when the address is odd, here or in this process's own memory, or the
        machine is big-endian; AddressError when the words are not inside one region.
        """
        if sys.byteorder != "little":
            raise CallerError(
                "the words of a queue are little-endian and this machine is not: one access cannot load them",
                argument="memory",
                value=sys.byteorder,
                limit="little",
            )
        view = self.view(address, 2 * count)
        if address % 2:
            raise CallerError(
                f"16-bit words start at an even address, not at {address:#x}",
                argument="address",
                value=address,
                limit="even",
            )
        if not view.readonly:
            check_alignment(view, 2)
        return self._lend(view.cast("H"))

    def packer(self, record: Struct, address: int, length: int) -> Callable[..., object]:
        view = self.view(address, length)
        check_writable(view, address)
        return partial(record.pack_into, view)

    def unpacker(self, record: Struct, address: int, length: int) -> Callable[[int], tuple[Any, ...]]:
        return partial(record.unpack_from, self.view(address, length))

    def _writable_views(self, address: int, length: int) -> list[memoryview]:
        """The views of a range that may cross; AddressError when some of it cannot be written."""
        views = self.views(address, length)
        for view in views:
            check_writable(view, address)
            address += len(view)
        return views

    def _word(self, address: int, size: int) -> memoryview:
        if size not in LETTERS:
            raise CallerError(
                f"a field has 1, 2, 4 or 8 bytes, not {size}", argument="size", value=size, limit=8
            )
        return self.view(address, size).cast(LETTERS[size])


def new_mapping(size: int) -> mmap.mmap:
    """Zeroed bytes that forked children share."""
    if size <= 0:
        raise CallerError(f"a region has at least 1 byte, not {size}", argument="ranges", value=size, limit=1)
    return mmap.mmap(-1, size)


def check_writable(view: memoryview, address: int) -> None:
    if view.readonly:
        raise AddressError(
            f"the memory at {address:#x} is read-only: it can be read and inspected, and nothing stored in it",
            address=address,
        )


def swapped(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")
