"""Reports to be shown as pages: sound rings, and every way of being none that a page shows apart."""

from __future__ import annotations

from tests.inspection.dumps import (
    HISTORY,
    control_page,
    data_area,
    look,
    packet,
    ring_image,
    sample_dump,
)
from vmbus.images import BytesSource, Segment, StoredDump
from vmbus.inspection import (
    Report,
    RingDevice,
    RingPlace,
    RingReport,
    Selection,
    inspect_dump,
    inspect_memory,
    memory_of,
    open_dump,
    sample_path,
)

__all__ = [
    "EVIL_PATH",
    "broken_ring",
    "crowded_ring",
    "doubtful_ring",
    "filtered_ring",
    "mixed_report",
    "report_of",
    "ring_with_a_hole",
]

#: A name that a file can have, and that a page must show as text.
EVIL_PATH = "<script>document.title='gone'</script>\x1b[31m&\"'\udcff.bin"


def report_of(*rings: RingReport, path: str = "ring.bin") -> Report:
    return Report(path, "raw", 123456, list(rings))


def broken_ring() -> RingReport:
    """A sound packet, one whose payload begins inside its descriptor, and one that ends nowhere."""
    packets = [
        packet(4000, b"</pre><script>alert(1)</script>"),
        packet(4056, b"abc", data_offset8=1),
        packet(4088, b"torn", length8=900),
    ]
    return look(ring_image(packets, out=4000))


def doubtful_ring() -> RingReport:
    """Of three packets read already the second one's descriptor does not say what its footer says."""
    packets = packet(0, bytes(40)) + packet(64, bytes(40), length8=5) + packet(128, bytes(40))
    return look(control_page(192, 192) + data_area(4096, (0, packets)), HISTORY)


def crowded_ring() -> RingReport:
    """More packets than a picture has blocks: 1000 that wait, over the ring's end."""
    packets = [packet((60_000 + 24 * number) % 65536) for number in range(1000)]
    return look(ring_image(packets, out=60_000, size=65536))


def filtered_ring() -> RingReport:
    """Of five waiting packets every second one is asked for."""
    packets = [packet(24 * number, kind=6 if number % 2 else 11) for number in range(5)]
    return look(ring_image(packets), Selection(packet_type="completion"))


def ring_with_a_hole() -> RingReport:
    """Scattered pages of a device's ring, one of which the image does not have; a packet goes over into it."""
    device = RingDevice("f8615163-df3e-46c5-913f-f2d2f965ed0e", "network <nic>", None, 14)
    place = RingPlace(0x5000, 4096, 8192, device=device, pages=(0x5000, 0x9000, 0x17000))
    packets = packet(4064, bytes(80)) + packet(4168, bytes(40))
    image = control_page(4232, 4064) + data_area(8192, (4064, packets))
    dump = StoredDump(
        BytesSource("image", memoryview(image)), [Segment(0x5000, 4096, 0), Segment(0x9000, 4096, 4096)]
    )
    return inspect_memory(memory_of(dump, place), place=place)


def mixed_report() -> Report:
    """Rings of every kind, of which the first two are a pair."""
    pair = inspect_dump(open_dump(sample_path()), selection=HISTORY).rings
    wrapped = inspect_dump(sample_dump("ring-4-pages-wrapped"), selection=HISTORY).rings
    never_opened = look(bytes(8192))
    bad_indices = look(control_page(5, 4096, mask=7, pending=9999, others={7: 1}) + bytes(4096))
    return report_of(
        *pair,
        *wrapped,
        broken_ring(),
        doubtful_ring(),
        filtered_ring(),
        ring_with_a_hole(),
        bad_indices,
        never_opened,
        path=EVIL_PATH,
    )
