"""How an image of a ring is changed so that one thing about it is wrong: what ring_breaks.py is made of.

Offsets, sizes and lengths are in bytes; names that end in 8 count units of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from vmbus.layout import (
    GPA_DIRECT_HEADER,
    IN_WORD,
    SMALLEST_PACKET,
    TRANSFER_PAGE_RANGE,
    GpaDirectHeader,
    PacketType,
    TransferPageRange,
)
from vmbus.ring import PagedRange
from vmbus.sizes import PAGE_SIZE, SLOT

from .packet_builder import PacketImage, RawRange
from .ring_images import RingImage

__all__ = [
    "GPA_DIRECT",
    "HALF",
    "TRANSFER_PAGES",
    "WORD",
    "Change",
    "Picks",
    "data_offsets_behind",
    "gpa_with_a_range_missing",
    "gpa_with_too_few_pages",
    "gpa_without_ranges",
    "has_header",
    "is_more_than_the_least",
    "is_short",
    "is_transfer",
    "lengths_beyond",
    "lengths_too_short",
    "lists_gpa_ranges",
    "numbered",
    "of_gpa_range",
    "of_packet",
    "of_word",
    "transfer_ranges_beyond",
]

Value = TypeVar("Value")

HALF = 0xFFFF
WORD = 0xFFFF_FFFF

#: Packets that can be broken, where an image has none.
PLAIN = PacketImage.in_band(b"broken")
GPA_DIRECT = PacketImage.gpa_direct([PagedRange(0, PAGE_SIZE, [7])])
TRANSFER_PAGES = PacketImage.transfer_pages(1, [TransferPageRange(64, 0)])


class Picks:
    """A number, taken apart into choices."""

    def __init__(self, choice: int) -> None:
        self._left = choice

    def one_of(self, options: Sequence[Value]) -> Value:
        self._left, number = divmod(self._left, len(options))
        return options[number]


class Victim(NamedTuple):
    """A waiting packet that is to be broken, by its number, in the image that has it."""

    image: RingImage
    number: int

    @property
    def packet(self) -> PacketImage:
        return self.image.waiting[self.number]

    @property
    def start(self) -> int:
        return self.image.starts()[self.number]

    @property
    def available8(self) -> int:
        """From its start to in, in units of 8 bytes."""
        return sum(packet.size for packet in self.image.waiting[self.number :]) // SLOT

    def replaced(self, packet: PacketImage) -> RingImage:
        """The image with another packet in its place; those behind move where it is shorter."""
        waiting = self.image.waiting
        return self.image.changed(waiting=(*waiting[: self.number], packet, *waiting[self.number + 1 :]))

    def published_up_to(self, length: int) -> RingImage:
        """The image whose in is `length` bytes behind the packet's start; what was behind it is gone."""
        in_offset = (self.start + length) % self.image.data_size
        words = (*self.image.words, (IN_WORD, in_offset))
        return self.image.changed(waiting=self.image.waiting[: self.number + 1], words=words)


Change = Callable[[RingImage, Picks], tuple[RingImage, int]]
PacketChange = Callable[[Victim, Picks], RingImage]


# -- how a change is made ----------------------------------------------------------------------------


def of_word(word: int, values: Callable[[RingImage], Sequence[int]]) -> Change:
    """Break a control word: nothing can be read then."""

    def change(image: RingImage, picks: Picks) -> tuple[RingImage, int]:
        return image.changed(words=(*image.words, (word, picks.one_of(values(image))))), 0

    return change


def of_packet(
    break_packet: PacketChange,
    can_be: Callable[[Victim], bool] = lambda victim: True,
    stand_in: PacketImage = PLAIN,
) -> Change:
    """Break one packet of those that can be broken so."""

    def change(image: RingImage, picks: Picks) -> tuple[RingImage, int]:
        victims = [Victim(image, number) for number in range(len(image.waiting))]
        able = [victim for victim in victims if can_be(victim)]
        victim = picks.one_of(able) if able else with_last(image, stand_in)
        return break_packet(victim, picks), victim.number

    return change


def with_last(image: RingImage, packet: PacketImage) -> Victim:
    """The image with one packet more; the last ones make room where they must."""
    kept = list(image.waiting)
    room = image.data_size - SLOT - packet.size
    while sum(one.size for one in kept) > room:
        kept.pop()
    return Victim(image.changed(waiting=(*kept, packet)), len(kept))


def numbered(name: str, values: Callable[[Victim], Sequence[int]]) -> PacketChange:
    """Give a field of the packet another number."""

    def change(victim: Victim, picks: Picks) -> RingImage:
        return victim.replaced(victim.packet.changed(**{name: picks.one_of(values(victim))}))

    return change


# -- conditions and values ---------------------------------------------------------------------------


def is_short(victim: Victim) -> bool:
    """Whether 16 bits can count more than what is published from this packet on."""
    return victim.available8 < HALF


def is_more_than_the_least(victim: Victim) -> bool:
    """Whether it is still longer than the smallest packet when its footer is missing."""
    return victim.packet.length >= SMALLEST_PACKET


def has_header(victim: Victim) -> bool:
    return victim.packet.type in (PacketType.GPA_DIRECT, PacketType.TRANSFER_PAGES)


def lists_gpa_ranges(victim: Victim) -> bool:
    return victim.packet.type == PacketType.GPA_DIRECT and bool(victim.packet.ranges)


def is_transfer(victim: Victim) -> bool:
    return victim.packet.type == PacketType.TRANSFER_PAGES


def lengths_beyond(victim: Victim) -> Sequence[int]:
    least = victim.available8 + 1
    ring = victim.image.data_size // SLOT
    return tuple(length for length in (least, least + 1, ring, HALF) if least <= length <= HALF)


def lengths_too_short(victim: Victim) -> Sequence[int]:
    return (victim.packet.data_offset // SLOT - 1, 1, 0)


def data_offsets_behind(victim: Victim) -> Sequence[int]:
    return (victim.packet.length // SLOT + 1, HALF)


# -- what is wrong with ranges -----------------------------------------------------------------------


def with_ranges(packet: PacketImage, ranges: Sequence[RawRange], count: int | None = None) -> PacketImage:
    """The packet with other numbers in its GPA ranges, and nothing behind them."""
    other = PacketImage.gpa_direct(ranges, range_count=count)
    return packet.changed(extension=other.extension, ranges=())


def raw_ranges(packet: PacketImage) -> list[RawRange]:
    return [(len(one), one.offset, one.gpns) for one in packet.ranges if isinstance(one, PagedRange)]


def of_gpa_range(numbers: Callable[[int, int], Sequence[tuple[int, int]]]) -> Change:
    """Give one GPA range another byte count and byte offset; its pages stay."""

    def change(victim: Victim, picks: Picks) -> RingImage:
        ranges = raw_ranges(victim.packet)
        which = picks.one_of(range(len(ranges)))
        count, offset, pages = ranges[which]
        ranges[which] = (*picks.one_of(numbers(count, offset)), pages)
        return victim.replaced(with_ranges(victim.packet, ranges))

    return of_packet(change, lists_gpa_ranges, GPA_DIRECT)


def gpa_without_ranges(victim: Victim, picks: Picks) -> RingImage:
    header = GPA_DIRECT_HEADER.pack(GpaDirectHeader(0, 0))
    extension = header + victim.packet.extension[len(header) :]
    return victim.replaced(victim.packet.changed(extension=extension, ranges=()))


def gpa_with_a_range_missing(victim: Victim, picks: Picks) -> RingImage:
    ranges = raw_ranges(victim.packet)
    count = picks.one_of((len(ranges) + 1, WORD))
    return victim.replaced(with_ranges(victim.packet, ranges, count))


def gpa_with_too_few_pages(victim: Victim, picks: Picks) -> RingImage:
    ranges = raw_ranges(victim.packet)
    count, offset, pages = ranges[-1]
    # The last range, so that no words of another one can pass for the missing page.
    missing = picks.one_of((1, 2, 65536))
    ranges[-1] = (count + missing * PAGE_SIZE, offset, pages)
    return victim.replaced(with_ranges(victim.packet, ranges))


def transfer_ranges_beyond(victim: Victim, picks: Picks) -> RingImage:
    extension = victim.packet.extension
    room = (len(extension) - SLOT) // TRANSFER_PAGE_RANGE.size
    count = picks.one_of((room + 1, room + 2, 1 << 29, WORD))
    changed = extension[:4] + count.to_bytes(4, "little") + extension[8:]
    return victim.replaced(victim.packet.changed(extension=changed, ranges=()))
