"""The three areas of a virtqueue, copied once out of a memory that is only read.

A dump is an AddressSpace; a memory that somebody still works on will do as well.  Whatever is said of a
queue is said of one copy; only the buffers of its chains, and their indirect tables, are read later.

Sources: OASIS VIRTIO 1.2, sections 2.7.5 to 2.7.8, 2.8.10 and 2.8.13.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

from vmbus.memory import AddressError
from vmbus.virtio import (
    EVENT_SUPPRESSION,
    PACKED_DESCRIPTOR,
    USED_ELEMENT,
    EventSuppression,
    PackedDescriptor,
    QueueAreas,
)

from .zeros import is_zero

__all__ = ["PackedWords", "QueueImage", "ReadableMemory", "SplitWords", "read_image"]

#: What both rings of a split queue begin with: flags, index.
RING_HEADER = struct.Struct("<HH")
WORD = struct.Struct("<H")


class ReadableMemory(Protocol):
    """What looking at a queue asks of its memory: AddressSpace, GuestMemory and their like have it."""

    def read(self, address: int, length: int) -> bytes:
        """A copy of the bytes; AddressError when some of them are not there."""
        ...

    def check_range(self, address: int, length: int) -> None:
        """Raise AddressError when some byte of the range is not there."""
        ...


class SplitWords(NamedTuple):
    """The words of one ring of a split queue: what a driver offers, or what a device gives back.

    flags        its owner's wish
    next_index   where the owner puts the next entry, free-running
    slots        heads of the available ring, or (id, length) of the used ring
    event        the entry of the other ring that the owner waits for; meaningful with RING_EVENT_IDX
    """

    flags: int
    next_index: int
    slots: tuple[int, ...] | tuple[tuple[int, int], ...]
    event: int


class PackedWords(NamedTuple):
    """The slots of a packed ring, and the two event suppression structures; None where there are no bytes."""

    slots: tuple[PackedDescriptor, ...]
    driver: EventSuppression | None
    device: EventSuppression | None


class QueueImage(NamedTuple):
    """The bytes of the three areas; None for one that is not all there."""

    table: bytes | None
    driver: bytes | None
    device: bytes | None

    @property
    def whole(self) -> bool:
        return None not in self

    @property
    def all_zero(self) -> bool:
        """True when all areas are there and hold nothing but zeros."""
        return all(area is not None and is_zero(area) for area in self)

    def available(self, size: int) -> SplitWords | None:
        """The available ring of a split queue."""
        if self.driver is None:
            return None
        flags, index = RING_HEADER.unpack_from(self.driver)
        slots = struct.unpack_from(f"<{size}H", self.driver, RING_HEADER.size)
        (event,) = WORD.unpack(self.driver[-WORD.size :])
        return SplitWords(flags, index, slots, event)

    def used(self, size: int) -> SplitWords | None:
        """The used ring of a split queue."""
        if self.device is None:
            return None
        flags, index = RING_HEADER.unpack_from(self.device)
        end = RING_HEADER.size + size * USED_ELEMENT.size
        slots = tuple(USED_ELEMENT.struct.iter_unpack(self.device[RING_HEADER.size : end]))
        (event,) = WORD.unpack(self.device[-WORD.size :])
        return SplitWords(flags, index, slots, event)

    def packed(self) -> PackedWords | None:
        """The ring of a packed queue."""
        if self.table is None:
            return None
        slots = tuple(map(PackedDescriptor._make, PACKED_DESCRIPTOR.struct.iter_unpack(self.table)))
        events = (
            None if area is None else EVENT_SUPPRESSION.unpack(area) for area in (self.driver, self.device)
        )
        return PackedWords(slots, *events)


def read_image(memory: ReadableMemory, areas: QueueAreas, size: int, *, packed: bool) -> QueueImage:
    """Copy the areas: first the device's, so that no chain looks used that was not yet available."""
    sizes = QueueAreas.sizes(size, packed=packed)
    device = read_if_there(memory, areas.device_area, sizes.device_area)
    driver = read_if_there(memory, areas.driver_area, sizes.driver_area)
    table = read_if_there(memory, areas.descriptor_table, sizes.descriptor_table)
    return QueueImage(table, driver, device)


def read_if_there(memory: ReadableMemory, address: int, length: int) -> bytes | None:
    try:
        return memory.read(address, length)
    except AddressError:
        return None
