"""Ring images for somebody else's reader: right ones, ones broken in one named way, and ones damaged at random.

Image number N of a seed is always the same, whatever images were made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import NamedTuple

from vmbus.layout import DESCRIPTOR_SIZE
from vmbus.ring import PagedRange, TransferPageRange
from vmbus.sizes import PAGE_SIZE, SLOT

from .packet_builder import PacketImage
from .ring_breaks import BREAKS
from .ring_images import RingImage
from .trial import pattern

__all__ = ["ReaderImage", "reader_image", "reader_images"]

#: So many images of every ten are right, are broken in a named way; the rest is damaged at random.
RIGHT, BROKEN = 4, 8

LARGEST_ID = 2**64 - 1
PAGE_NUMBERS = (0, 7, 2**52 - 1, LARGEST_ID)

#: Values that numbers of the control page and of descriptors are most easily read wrongly at.
NUMBERS = (0, 1, 2, 4, 6, 7, 8, 0x7FFF, 0x8000, 0xFFFF)


class ReaderImage(NamedTuple):
    """One image: its number, what was done to it, and its control page of 4096 bytes with the data area behind.

    seed, number   what it is made from
    made           "right", the name of a break, or "damaged"
    """

    seed: int
    number: int
    made: str
    data: bytes

    def __str__(self) -> str:
        return f"image {self.number} of seed {self.seed} ({self.made}, {len(self.data)} bytes)"


def reader_images(seed: int = 0) -> Iterator[ReaderImage]:
    """All images of a seed, without end."""
    return (reader_image(seed, number) for number in count())


def reader_image(seed: int, number: int) -> ReaderImage:
    """Image `number` of a seed.

    >>> [reader_image(1, number).made for number in range(3)]
    ['right', 'right', 'right']
    >>> reader_image(1, 4).made in BREAKS
    True
    """
    random = Random(f"{seed}/{number}")
    image = right_image(random)
    turn = number % 10
    if turn < RIGHT:
        return ReaderImage(seed, number, "right", image.to_bytes())
    if turn < BROKEN:
        # all breaks in turn, so that a short run has seen each of them
        names = sorted(BREAKS)
        name = names[(number // 10 * (BROKEN - RIGHT) + turn - RIGHT) % len(names)]
        broken = BREAKS[name].apply(image, random.randrange(1000))
        return ReaderImage(seed, number, name, broken.to_bytes())
    return ReaderImage(seed, number, "damaged", damaged(image, random))


def right_image(random: Random) -> RingImage:
    """An image that every reader takes: any start, any fill, packets of every kind."""
    data_size = PAGE_SIZE * random.choice((1, 1, 1, 2, 5))
    room = data_size - SLOT
    packets: list[PacketImage] = []
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        packet = any_packet(random)
        if packet.size <= room:
            packets.append(packet)
            room -= packet.size
    if random.random() < 0.15 and room >= PacketImage.in_band().size:  # fill it to the last slot
        filling = PacketImage.in_band(pattern(room - PacketImage.in_band().size, random.randrange(1000)))
        packets.append(filling)
    return RingImage(
        data_size=data_size,
        out_offset=any_start(random, data_size, packets),
        waiting=tuple(packets),
        interrupt_mask=random.choice((0, 1)),
        pending_send_size=random.choice((0, 0, 8, 64, 1000, data_size - SLOT)),
        stale=random.choice((b"", b"", random.randbytes(24))),
    )


def any_start(random: Random, data_size: int, packets: list[PacketImage]) -> int:
    """Where the first packet starts: mostly so that one of them wraps, anywhere in it."""
    used = sum(packet.size for packet in packets)
    if used and random.random() < 0.6:
        return (data_size - SLOT * random.randrange(1, used // SLOT + 1)) % data_size
    return SLOT * random.randrange(data_size // SLOT)


def any_packet(random: Random) -> PacketImage:
    """A packet of any kind that a correct sender may write."""
    length = random.choice((0, 1, 7, 8, 9, 64, random.randrange(300)))
    payload = pattern(length, random.randrange(1000))
    transaction_id = random.choice((0, 1, 7, 2**53 + 1, LARGEST_ID))
    return random.choice(KINDS)(random, payload, transaction_id)


def in_band(random: Random, payload: bytes, transaction_id: int) -> PacketImage:
    return PacketImage.in_band(
        payload, transaction_id=transaction_id, completion_requested=random.random() < 0.5
    )


def with_extra_header(random: Random, payload: bytes, transaction_id: int) -> PacketImage:
    """In-band, its payload further from the descriptor than it need be."""
    extra = random.randbytes(SLOT * random.randrange(1, 4))
    return PacketImage.in_band(payload, transaction_id=transaction_id, extension=extra)


def completion(random: Random, payload: bytes, transaction_id: int) -> PacketImage:
    return PacketImage.completion(payload, transaction_id=transaction_id)


def gpa_direct(random: Random, payload: bytes, transaction_id: int) -> PacketImage:
    ranges = []
    for _ in range(random.randrange(1, 4)):
        offset = random.choice((0, 1, PAGE_SIZE - 1))
        pages = [random.choice(PAGE_NUMBERS) for _ in range(random.randrange(1, 4))]
        ranges.append(PagedRange(offset, len(pages) * PAGE_SIZE - offset, pages))
    reserved = random.choice((0, 0xFFFF_FFFF))
    return PacketImage.gpa_direct(ranges, payload, transaction_id=transaction_id, reserved=reserved)


def transfer_pages(random: Random, payload: bytes, transaction_id: int) -> PacketImage:
    ranges = [
        TransferPageRange(random.choice((0, 1514, 2**32 - 1)), random.choice((0, 64, 2**32 - 1)))
        for _ in range(random.randrange(4))
    ]
    return PacketImage.transfer_pages(
        random.choice((0, 0xCAFE, 0xFFFF)), ranges, payload, transaction_id=transaction_id
    )


KINDS: tuple[Callable[[Random, bytes, int], PacketImage], ...] = (
    in_band,
    with_extra_header,
    completion,
    gpa_direct,
    transfer_pages,
)


def damaged(image: RingImage, random: Random) -> bytes:
    """The bytes of an image with one to three numbers changed, most of them where numbers are."""
    data = bytearray(image.to_bytes())
    places = [
        image.header_size + (start + at) % image.data_size
        for start in image.starts()
        for at in range(0, DESCRIPTOR_SIZE + SLOT, 2)
    ]
    for _ in range(random.choice((1, 1, 2, 3))):
        if places and random.random() < 0.8:
            at = random.choice(places)
        elif random.random() < 0.5:
            at = random.choice((0, 2, 4, 6))  # in and out
        else:
            at = image.header_size + 2 * random.randrange(image.data_size // 2)
        value = random.choice((*NUMBERS, random.randrange(1 << 16), SLOT * random.randrange(1 << 13)))
        data[at : at + 2] = value.to_bytes(2, "little")
    return bytes(data)
