"""A whole ring as a value: what it is, the bytes that it has, and what a strict reader must make of them.

    image = RingImage(out_offset=4080, waiting=(PacketImage.in_band(b"hello"),))
    image.to_bytes()     control page and data area, for a file or another program
    image.memory()       the same as a memory for IncomingRing and OutgoingRing
    image.packets()      what reading it must give, before it raises `image.fault`

Packets follow each other from `out_offset` on; nothing is computed by the code under test.  `ring_breaks.py`
breaks an image in one named way.

Offsets and sizes are in bytes.

Source: Linux include/linux/hyperv.h, struct hv_ring_buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PENDING_SEND_SIZE_WORD,
    PacketType,
)
from vmbus.memory import FlatRingMem
from vmbus.ring import Packet
from vmbus.sizes import (
    CONTROL_WORD_COUNT,
    LARGEST_PACKET,
    PAGE_SIZE,
    SLOT,
    check_data_size,
    check_header_size,
)

from .packet_builder import PacketImage
from .packet_kinds import TYPE_NAMES

__all__ = ["CORNERS", "WRAPS", "Broken", "RingImage", "wrap_positions"]

CONTROL_WORDS = struct.Struct(f"<{CONTROL_WORD_COUNT}I")

#: The parts of a packet in which the end of the ring can lie.
WRAPS = ("descriptor", "header", "payload", "footer", "behind")

#: What can be special about an image.
CORNERS = (
    *("empty", "full", "one-slot-free"),
    *(f"end-in-{part}" for part in WRAPS),
    *TYPE_NAMES.values(),
    *("completion-requested", "empty-payload", "odd-payload", "extra-header"),
    *("consumed", "stale-bytes", "wanted-space", "masked"),
)


class Broken(NamedTuple):
    """How an image was broken, and what a strict reader must say.

    name     of the break
    fault    the `kind` of the PeerError
    before   packets that are delivered before it
    """

    name: str
    fault: Enum
    before: int


@dataclass(frozen=True, repr=False)
class RingImage:
    """One ring at one moment.

    data_size           bytes of the data area
    out_offset          where the first waiting packet starts
    waiting             packets from there on; they take at most the data's size minus 8
    consumed            packets that were read already and end there, oldest first; waiting ones may overwrite them
    interrupt_mask, pending_send_size, feature_bits     as the control page has them
    header_size         bytes of the control page: 4, 16 or 64 KiB
    stale               what lies where no packet is, over and over; zeros where it is empty
    words               (word, value) for control words that are otherwise than all this says
    broken              how the image was broken, if it was

    Raises CallerError for what no ring can be.

    >>> image = RingImage(out_offset=4080, waiting=(PacketImage.in_band(b"hello"),), stale=b"old")
    >>> image.in_offset, image.used, image.free
    (16, 32, 4056)
    >>> image.to_bytes()[-16:].hex(" ", 8), image.to_bytes()[4096:4120].hex(" ", 8)
    ('0600020003000000 0000000000000000', '68656c6c6f000000 00000000f00f0000 6c646f6c646f6c64')
    """

    data_size: int = PAGE_SIZE
    out_offset: int = 0
    waiting: tuple[PacketImage, ...] = ()
    consumed: tuple[PacketImage, ...] = ()
    interrupt_mask: int = 0
    pending_send_size: int = 0
    feature_bits: int = 1
    header_size: int = PAGE_SIZE
    stale: bytes = b""
    words: tuple[tuple[int, int], ...] = ()
    broken: Broken | None = None

    def __post_init__(self) -> None:
        check_data_size(self.data_size)
        check_header_size(self.header_size)
        if not 0 <= self.out_offset < self.data_size or self.out_offset % SLOT:
            self._refuse("out_offset", self.out_offset, self.data_size - SLOT, "a multiple of 8 up to")
        if self.used > self.data_size - SLOT:
            self._refuse("waiting", self.used, self.data_size - SLOT, "packets of at most so many bytes:")
        consumed = sum(packet.size for packet in self.consumed)
        if consumed > self.data_size:
            self._refuse("consumed", consumed, self.data_size, "packets of at most so many bytes:")
        largest = max((packet.size for packet in (*self.waiting, *self.consumed)), default=0)
        if largest > LARGEST_PACKET:
            self._refuse("waiting", largest, LARGEST_PACKET, "packets each of at most so many bytes:")
        for word, value in self._words():
            if not 0 <= word < CONTROL_WORD_COUNT or not 0 <= value < 1 << 32:
                self._refuse("words", (word, value), (31, 0xFFFF_FFFF), "numbers of words and 32-bit values:")

    def _refuse(self, name: str, value: object, limit: object, what: str) -> None:
        raise CallerError(
            f"{name} of a ring of {self.data_size} bytes is {what} {limit}, not {value}",
            argument=name,
            value=value,
            limit=limit,
        )

    # -- in memory -------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes of the waiting packets."""
        return sum(packet.size for packet in self.waiting)

    @property
    def free(self) -> int:
        """Bytes that a sender could still write."""
        return self.data_size - self.used - SLOT

    @property
    def in_offset(self) -> int:
        """Where the waiting packets end, whatever the control page says."""
        return (self.out_offset + self.used) % self.data_size

    def starts(self) -> list[int]:
        """The offset of each waiting packet."""
        return list(self._places(self.waiting, self.out_offset))

    def control_words(self) -> list[int]:
        """All words of the control page."""
        words = [0] * CONTROL_WORD_COUNT
        for word, value in self._words():
            words[word] = value
        return words

    def _words(self) -> tuple[tuple[int, int], ...]:
        return (
            (IN_WORD, self.in_offset),
            (OUT_WORD, self.out_offset),
            (INTERRUPT_MASK_WORD, self.interrupt_mask),
            (PENDING_SEND_SIZE_WORD, self.pending_send_size),
            (FEATURE_BITS_WORD, self.feature_bits),
            *self.words,
        )

    def to_bytes(self) -> bytes:
        """The control page and the data area."""
        size = self.data_size
        stale = self.stale or b"\0"
        data = bytearray((stale * (size // len(stale) + 1))[:size])
        oldest = (self.out_offset - sum(packet.size for packet in self.consumed)) % size
        for packets, begin in ((self.consumed, oldest), (self.waiting, self.out_offset)):
            for packet, start in zip(packets, self._places(packets, begin), strict=True):
                there = packet.to_bytes(start)
                first = size - start
                data[start : start + len(there)] = there[:first]
                data[: max(0, len(there) - first)] = there[first:]
        return CONTROL_WORDS.pack(*self.control_words()).ljust(self.header_size, b"\0") + bytes(data)

    def _places(self, packets: tuple[PacketImage, ...], start: int) -> Iterator[int]:
        for packet in packets:
            yield start
            start = (start + packet.size) % self.data_size

    def memory(self) -> FlatRingMem:
        """A memory of its own with these bytes, to be read and written by rings."""
        return FlatRingMem.over(bytearray(self.to_bytes()), header_size=self.header_size)

    # -- what it means ---------------------------------------------------------------------------

    def packets(self) -> list[Packet]:
        """What a strict reader must deliver before it finds the ring empty, or broken."""
        before = len(self.waiting) if self.broken is None else self.broken.before
        return [packet.as_received() for packet in self.waiting[:before]]

    @property
    def fault(self) -> Enum | None:
        """The `kind` of the PeerError that a strict reader must raise then; None where nothing is wrong."""
        return None if self.broken is None else self.broken.fault

    def corners(self) -> frozenset[str]:
        """Which of CORNERS it has.

        >>> sorted(RingImage(out_offset=4088, waiting=(PacketImage.in_band(),)).corners())
        ['empty-payload', 'end-in-descriptor', 'in-band']
        """
        found = {TYPE_NAMES[packet.type] for packet in self.waiting if packet.type in TYPE_NAMES}
        for packet, start in zip(self.waiting, self.starts(), strict=True):
            found |= corners_of_packet(packet)
            for part in WRAPS:
                if self.data_size - start in wrap_positions(packet, part):
                    found.add(f"end-in-{part}")
        held = {
            "empty": not self.waiting,
            "full": self.free == 0,
            "one-slot-free": self.free == SLOT,
            "consumed": bool(self.consumed),
            "stale-bytes": any(self.stale),
            "wanted-space": self.pending_send_size > 0,
            "masked": self.interrupt_mask > 0,
        }
        return frozenset(found) | {name for name, holds in held.items() if holds}

    def changed(self, **others: Any) -> RingImage:
        """The same but for these fields."""
        return replace(self, **others)

    def __repr__(self) -> str:
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"RingImage({', '.join(given)})"


def corners_of_packet(packet: PacketImage) -> set[str]:
    held = {
        "completion-requested": packet.flags & 1,
        "empty-payload": not packet.payload,
        "odd-payload": len(packet.payload) % SLOT,
        "extra-header": packet.extension and packet.type in (PacketType.IN_BAND, PacketType.COMPLETION),
    }
    return {name for name, holds in held.items() if holds}


def wrap_positions(packet: PacketImage, part: str) -> range:
    """Where in a packet the ring can end so that it ends in, or just before, that part; or just behind it all.

    A footer is one slot: the ring never ends within.

    >>> [list(wrap_positions(PacketImage.in_band(bytes(16)), part)) for part in WRAPS]
    [[8], [], [16, 24], [32], [40]]
    """
    data_offset, length = packet.data_offset, packet.length
    places = {
        "descriptor": range(SLOT, DESCRIPTOR_SIZE, SLOT),
        "header": range(DESCRIPTOR_SIZE, data_offset, SLOT),
        "payload": range(data_offset, length, SLOT),
        "footer": range(length, length + SLOT, SLOT),
        "behind": range(packet.size, packet.size + SLOT, SLOT),
    }
    return places[part]
