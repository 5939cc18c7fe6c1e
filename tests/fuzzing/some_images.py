"""Rings in states as different as they can be, and the strict reader, in three ways and over two memories."""

from __future__ import annotations

from itertools import product

from vmbus.errors import PeerError, RingEmpty
from vmbus.fuzzing import PacketImage, RingImage
from vmbus.memory import PagedRingMem, RingMem
from vmbus.ring import IncomingRing, Packet, PagedRange, TransferPageRange

IN_BAND = PacketImage.in_band(b"in band!", transaction_id=1)
ODD = PacketImage.in_band(b"odd", completion_requested=True, transaction_id=2)
COMPLETION = PacketImage.completion(b"12345678" * 3, transaction_id=3)
GPA = PacketImage.gpa_direct(
    [PagedRange(4000, 200, [7, 8]), PagedRange(0, 1, [9])], b"gpa", reserved=0xFFFF_FFFF
)
TRANSFER = PacketImage.transfer_pages(
    0xCAFE, [TransferPageRange(1514, 2**32 - 1), TransferPageRange(0, 64)], b"transfer", reserved=0xFFFF
)
EXTRA = PacketImage.in_band(b"behind", extension=bytes(range(24)))
ALL_KINDS = (IN_BAND, ODD, COMPLETION, GPA, TRANSFER, EXTRA)

FULL_4096 = (*ALL_KINDS, PacketImage.in_band(bytes(4088 - 24 - sum(packet.size for packet in ALL_KINDS))))

#: The largest packet that there is, and a ring that is little larger.
LARGEST = PacketImage.in_band(bytes(0xFFFF * 8 - 16))
SIZE_OF_LARGE = (1 << 19) + 4096

#: States of a ring, as different as they can be.
IMAGES = {
    "empty": RingImage(),
    "empty at the last slot": RingImage(out_offset=4088, stale=b"\xff"),
    "one packet": RingImage(waiting=(IN_BAND,)),
    "one GPA-direct packet": RingImage(waiting=(GPA,), out_offset=4080),
    "one transfer-page packet": RingImage(waiting=(TRANSFER,), out_offset=4072),
    "all kinds": RingImage(waiting=ALL_KINDS, out_offset=4000, stale=IN_BAND.to_bytes()),
    "full": RingImage(waiting=FULL_4096, out_offset=2048),
    "full of the smallest": RingImage(waiting=170 * (PacketImage.in_band(),), out_offset=4088),
    "large": RingImage(data_size=SIZE_OF_LARGE, waiting=(IN_BAND, LARGEST), out_offset=SIZE_OF_LARGE - 64),
    "64 KiB of control page": RingImage(header_size=65536, waiting=(GPA, TRANSFER), consumed=(COMPLETION,)),
}


def paged(image: RingImage) -> RingMem:
    whole = image.to_bytes()
    data = whole[image.header_size :]
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    return PagedRingMem([bytearray(whole[:4096]), *map(bytearray, pages)])


# -- four ways to read, each until something is raised ---------------------------------------------------


def by_receive(ring: IncomingRing) -> tuple[list[Packet], Exception]:
    packets = []
    try:
        while True:
            packets.append(ring.receive()[0])
    except (RingEmpty, PeerError) as error:
        return packets, error


def by_receive_many(ring: IncomingRing) -> tuple[list[Packet], Exception]:
    packets: list[Packet] = []
    try:
        while found := ring.receive_many()[0]:
            packets += found
    except PeerError as error:
        return packets, error
    return packets, RingEmpty()


def by_steps(ring: IncomingRing) -> tuple[list[Packet], Exception]:
    packets = []
    try:
        offset = ring.incoming()
        while True:
            packet = ring.read(offset)
            payload = packet.payload.reader(ring).read_all()
            descriptor = packet.descriptor
            packets.append(
                Packet(
                    packet.type,
                    descriptor.transaction_id,
                    payload,
                    packet.ranges,
                    descriptor.flags,
                    packet.transfer_page_set_id,
                )
            )
    except (RingEmpty, PeerError) as error:
        return packets, error


WAYS = (by_receive, by_receive_many, by_steps)


def check_reading(image: RingImage) -> None:
    """A strict reader finds what the image says, whichever way it reads."""
    for way, memory in product(WAYS, (image.memory, lambda: paged(image))):
        packets, error = way(IncomingRing(memory()))
        assert packets == image.packets()
        if image.fault is None:
            assert isinstance(error, RingEmpty)
        else:
            assert isinstance(error, PeerError)
            assert error.kind is image.fault
