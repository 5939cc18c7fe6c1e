"""The operations of a hostile peer of a virtqueue: what is struck, and so many accesses later.

A place is named by what lies there (a descriptor, an index, a used element), so that most of what is struck is
looked at.  Numbers are mostly what they could be, and otherwise at the edge of it, or anything.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

import struct

from vmbus.virtio import DESCRIPTOR_SIZE, QueueAreas

from .arguments import Bytes, Choice, Number
from .hostile_trial import HostileTrial, QueueVictim
from .trial import operation

__all__ = [
    "BLOCK",
    "BLOCK_SIZE",
    "BUFFERS",
    "BUFFERS_SIZE",
    "READ_ONLY",
    "READ_ONLY_SIZE",
    "TABLES",
    "QueueStrikes",
]

#: The queue's own block; behind it, and touching, what wild buffers and tables may be in; a ROM.
BLOCK, BLOCK_SIZE = 0x1000, 0x2000
BUFFERS, BUFFERS_SIZE = BLOCK + BLOCK_SIZE, 0x400
TABLES = BUFFERS
READ_ONLY, READ_ONLY_SIZE = 0x9000, 0x40

#: How many accesses later: most calls make about five.
AFTER = Choice(0, 0, 0, 0, *range(10), *range(1, 5), 15, 30)

HALFWORD = Number(
    0, 0xFFFF, corners=[0, 1, 2, 3, 4, 5, 7, 8, 9, 0x80, 0x7FFF, 0x8000, 0x8001, 0x8080, 0xFFFE]
)

#: Of a buffer: inside, at the end of a region, where two touch, in the ROM, nowhere, behind the last address.
ADDRESSES = (
    *(BUFFERS + 0x200, BUFFERS + 0x300, TABLES, TABLES + 16, TABLES + 1, BUFFERS - 8),
    *(BUFFERS + BUFFERS_SIZE - 8, BUFFERS + BUFFERS_SIZE, READ_ONLY + 8, 0, 2**64 - 8),
)
LENGTHS = (0, 1, 7, 16, 32, 48, 64, 80, 144, 160, 4096, 65536 * 16, 2**31, 2**32 - 16, 2**32 - 1)

DESCRIPTOR = {
    "address": Choice(*ADDRESSES),
    "length": Choice(*LENGTHS),
    "flags": Choice(0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 0xFFFF),
    "following": HALFWORD,
}

#: The flags of a packed descriptor that say whose it is.
AVAILABLE, USED = 0x0080, 0x8000


class QueueStrikes(HostileTrial):
    """Strikes against either side of a queue."""

    victim: QueueVictim
    areas: QueueAreas
    size: int
    packed: bool

    def next_position(self) -> int:
        """Where the victim looks next: an index, or a slot with its wrap counter in bit 15."""
        raise NotImplementedError

    @operation(after=AFTER, area=Choice(*QueueAreas._fields), word=Number(0, 127), value=HALFWORD)
    def strike_word(self, after: int, area: str, word: int, value: int) -> None:
        """Any 16 bits of any area."""
        start: int = getattr(self.areas, area)
        length: int = getattr(QueueAreas.sizes(self.size, packed=self.packed), area)
        self.strike(self.victim, after, "word", start + 2 * word % (length & ~1), value)

    @operation(after=AFTER, place=Number(0, 31, corners=[0, 2, 4, 6, 8, 12, 14]), data=Bytes(16))
    def strike_again(self, after: int, place: int, data: bytes) -> None:
        """What the victim has just read."""
        self.strike(self.victim, after, "again", place, data)

    @operation(after=AFTER, by=Choice(0, 1, 1, 1, 2, 3, 8, 9, 0x7FFF, 0x8000, 0xFFFF))
    def strike_index(self, after: int, by: int) -> None:
        """The index that the victim looks at, so much further on; of a packed queue the flags that it looks at."""
        position = self.next_position()
        if self.packed:
            self.strike_flags(after, position ^ by & 0x8000, by & 3)
        else:
            self.strike(self.victim, after, "word", self.area_of_peer() + 2, (position + by) & 0xFFFF)

    def strike_flags(self, after: int, position: int, flags: int) -> None:
        """The flags of a packed descriptor, such that the victim takes it for its own."""
        wrap = bool(position & 0x8000)
        used = wrap ^ self.victim_is_device()
        self.strike(
            self.victim, after, "word", self.slot(position) + 14, flags | AVAILABLE * wrap | USED * used
        )

    @operation(
        after=AFTER,
        ahead=Choice(0, 0, 0, 1),
        name=Choice(*range(9), *range(8), 9, 0xFFFF),
        length=Choice(*LENGTHS),
        flags=Choice(0, 2, 3, 1),
    )
    def strike_answer(self, after: int, ahead: int, name: int, length: int, flags: int) -> None:
        """What the victim takes next: a head that is available, or an id that is used, with its length."""
        position = (self.next_position() + ahead) & 0xFFFF
        if self.packed:
            self.strike(
                self.victim, after, "bytes", self.slot(position) + 8, struct.pack("<IH", length, name)
            )
            self.strike_flags(after, position, flags)
            return
        slot = position % self.size
        if self.victim_is_device():
            self.strike(self.victim, after, "word", self.area_of_peer() + 4 + 2 * slot, name)
        else:
            answer = struct.pack("<II", name, length)
            self.strike(self.victim, after, "bytes", self.area_of_peer() + 4 + 8 * slot, answer)
        self.strike(self.victim, after, "word", self.area_of_peer() + 2, (position + 1) & 0xFFFF)

    def area_of_peer(self) -> int:
        """The area that only the victim's other side stores in."""
        return self.areas.driver_area if self.victim_is_device() else self.areas.device_area

    @operation(after=AFTER, number=Number(0, 7), **DESCRIPTOR)
    def strike_descriptor(
        self, after: int, number: int, address: int, length: int, flags: int, following: int
    ) -> None:
        place = self.areas.descriptor_table + DESCRIPTOR_SIZE * (number % self.size)
        if self.packed:
            wrap = bool(self.next_position() & 0x8000)
            flags = flags & ~(AVAILABLE | USED) | AVAILABLE * wrap | USED * (not wrap)
        self.strike(self.victim, after, "bytes", place, self.entry(address, length, flags, following))

    @operation(after=AFTER, number=Number(0, 15), own=Choice(0, 1), **DESCRIPTOR)
    def strike_table(
        self, after: int, number: int, own: int, address: int, length: int, flags: int, following: int
    ) -> None:
        """An entry of an indirect table: in the queue's own block, or where wild tables are."""
        table = self.table_of_requests() if own else TABLES
        data = self.entry(address, length, flags, following)
        self.strike(self.victim, after, "bytes", table + DESCRIPTOR_SIZE * number, data)

    # -- places ----------------------------------------------------------------------------------

    def entry(self, address: int, length: int, flags: int, following: int) -> bytes:
        third, fourth = (following, flags) if self.packed else (flags, following)
        return struct.pack("<QIHH", address, length, third, fourth)

    def slot(self, position: int) -> int:
        """The address of the packed descriptor at a position."""
        return self.areas.descriptor_table + DESCRIPTOR_SIZE * ((position & 0x7FFF) % self.size)

    def table_of_requests(self) -> int:
        """Where the first request's indirect table is."""
        raise NotImplementedError

    def victim_is_device(self) -> bool:
        raise NotImplementedError
