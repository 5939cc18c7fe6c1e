"""A ring image, looked at by inspection: it shows what a strict reader delivers, says what that one refuses, and
recovers what was read before.

The image is made packet by packet (ring_images.py), may be broken in one named way (ring_breaks.py), and may then get
bytes that nobody can foresee.  What is known of it by construction is compared; of bytes that nobody can foresee
it is asked that inspection and the strict reader agree, and that nothing is raised.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from vmbus.errors import CallerError, PeerError, RingEmpty
from vmbus.inspection import (
    Report,
    RingReport,
    Trust,
    craft_ring,
    inspect_memory,
    recover,
    report_to_lines,
    ring_to_json,
)
from vmbus.layout import PacketFlags
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, Packet
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE, SLOT

from .arguments import Bytes, Choice, Flag, Number
from .packet_builder import PacketImage
from .packet_kinds import GPA_RANGES, PACKET_KINDS, TRANSFER_PAGE_RANGES
from .ring_breaks import BREAKS
from .ring_images import RingImage
from .trial import Trial, operation, pattern

__all__ = ["ImageTrial"]

#: What is used of the control page.
CONTROL_SIZE = 4 * CONTROL_WORD_COUNT

#: The most packets that are read before; older ones are written over sooner or later.
MOST_CONSUMED = 20


class Reading(NamedTuple):
    """What a strict reader makes of an image: the packets, and what it raises behind them."""

    packets: list[Packet]
    error: PeerError | None


class ImageTrial(Trial):
    """One image and what was put into it.

    pages   data pages
    start   the slot where the first packet lies, counted round and round
    stale   what lies where no packet ever was
    """

    name = "image"
    summary = "a ring image, broken or not: inspection shows, judges and recovers what a strict reader would"
    settings = {  # noqa: RUF012
        "pages": Number(1, 3),
        "start": Number(0, 1535, corners=[509, 510, 511]),
        "stale": Bytes(16),
    }
    CORNERS = (
        *(f"packet: {kind}" for kind in PACKET_KINDS),
        *(f"broken: {name}" for name in BREAKS),
        "packet across the end of the ring",
        "full",
        "history recovered",
        "history partly written over",
        "bytes nobody foresaw, accepted",
        "bytes nobody foresaw, refused",
    )

    def __init__(self, pages: int = 1, start: int = 0, stale: bytes = b"") -> None:
        super().__init__()
        size = pages * PAGE_SIZE
        self.image = RingImage(data_size=size, out_offset=start * SLOT % size, stale=stale)
        self.pokes: dict[int, int] = {}
        self.made = 0

    # -- what happens to the image ---------------------------------------------------------------

    @operation(kind=Choice(*PACKET_KINDS), length=Number(0, 4200, corners=[1, 8, 100, 1000, 2000]))
    def put(self, kind: str, length: int) -> None:
        """Another packet waits, if there is room."""
        self.made += 1
        packet = packet_of(kind, pattern(length, self.made), self.made)
        if self.image.broken is None and packet.size <= self.image.free:
            start = self.image.in_offset
            self.image = self.image.changed(waiting=(*self.image.waiting, packet))
            self.corners[f"packet: {kind}"] += 1
            self.corners["packet across the end of the ring"] += start + packet.size > self.image.data_size

    @operation(left=Number(0, 3))
    def fill(self, left: int) -> None:
        """A packet that leaves so many slots free."""
        length = self.image.free - PacketImage.in_band().size - left * SLOT
        if length >= 0:
            self.put("in-band", length)
            self.corners["full"] += self.image.free == 0

    @operation(count=Number(1, 8))
    def consume(self, count: int) -> None:
        """The oldest packets are read."""
        image = self.image
        if image.broken is not None:
            return
        read, waiting = image.waiting[:count], image.waiting[count:]
        consumed = (*image.consumed, *read)[-MOST_CONSUMED:]
        while sum(packet.size for packet in consumed) > image.data_size:
            consumed = consumed[1:]
        size = sum(packet.size for packet in read)
        out_offset = (image.out_offset + size) % image.data_size
        self.image = image.changed(waiting=waiting, consumed=consumed, out_offset=out_offset)

    @operation(masked=Flag(), pending=Number(0, 12288, corners=[4080, 4088, 4087, 4096]))
    def ask(self, masked: bool, pending: int) -> None:
        """The reader's mask and the writer's pending send size."""
        self.image = self.image.changed(interrupt_mask=int(masked), pending_send_size=pending)

    @operation(how=Choice(*BREAKS), choice=Number(0, 255, corners=[1, 2, 3]))
    def damage(self, how: str, choice: int) -> None:
        """Break the image in one way, if that has not been done and there is room for a broken packet."""
        if self.image.broken is not None:
            return
        try:
            self.image = BREAKS[how].apply(self.image, choice)
        except CallerError:  # no packet that can be broken so, and no room for one
            return
        self.corners[f"broken: {how}"] += 1

    @operation(
        offset=Number(0, 16383, corners=[0, 1, 4, 5, 8, 12, CONTROL_SIZE]),
        value=Number(0, 255, corners=[1, 6, 7, 9, 11]),
    )
    def poke(self, offset: int, value: int) -> None:
        """Any byte of the control words or the data."""
        place = offset % (CONTROL_SIZE + self.image.data_size)
        self.pokes[place if place < CONTROL_SIZE else place - CONTROL_SIZE + PAGE_SIZE] = value

    @operation(start=Number(0, 511), value=Number(0, 255), choice=Number(0, 7))
    def poke_packet(self, start: int, value: int, choice: int) -> None:
        """One of the eight bytes of a descriptor that say what it is."""
        if self.image.waiting:
            offset = self.image.starts()[start % len(self.image.waiting)] + choice
            self.pokes[PAGE_SIZE + offset] = value

    # -- what must hold --------------------------------------------------------------------------

    @operation()
    def look(self) -> None:
        """Look at the image, in every way there is."""
        data = self.as_bytes()
        reading = strict_reading(data)
        with self.demand_no_error("inspection"):
            report = inspect_memory(FlatRingMem.over(data))
            document = json.loads(json.dumps(ring_to_json(report, whole=True)))
            lines = [*report_to_lines(Report("image", "raw", len(data), [report]), with_hexdump=True)]
        self.demand(bool(lines), "a ring is shown without a line")
        self.compare_with_reader(report, reading)
        if not self.pokes:
            self.compare_with_image(report, reading)
            self.compare_history(data)
        with self.demand_no_error("crafting the ring that was shown"):
            crafted = craft_ring(document)
        self.demand(crafted == data, "the ring that is crafted of a report is not the ring")

    def finish(self) -> None:
        self.look()

    def as_bytes(self) -> bytes:
        """The image, and what was poked into it."""
        data = bytearray(self.image.to_bytes())
        for offset, value in self.pokes.items():
            data[offset] = value
        return bytes(data)

    def compare_with_reader(self, report: RingReport, reading: Reading) -> None:
        """Inspection accepts what the strict reader accepts, and where that one stops it has a finding of that name."""
        good = []
        for packet in report.packets:
            if packet.broken is not None:
                break
            good.append((packet.descriptor and packet.descriptor.type, packet.payload, packet.ranges))
        read = [(int(packet.type), packet.payload, packet.ranges) for packet in reading.packets]
        self.demand_equal(good, read, "the packets that inspection finds good")
        if reading.error is None:
            self.demand(
                report.verdict.value != "corrupt", "a ring that a strict reader reads to its end is corrupt"
            )
        else:
            self.demand_equal(
                report.verdict.value, "corrupt", "the verdict on a ring that a strict reader refuses"
            )
            found = {finding.check for finding in report.findings}
            kind = reading.error.kind.value if reading.error.kind else "nothing"
            self.demand(
                kind in found, f"a strict reader finds {kind}, inspection only {', '.join(sorted(found))}"
            )
        if self.pokes:
            self.corners[f"bytes nobody foresaw, {'refused' if reading.error else 'accepted'}"] += 1

    def compare_with_image(self, report: RingReport, reading: Reading) -> None:
        """Both say what the image was made of."""
        image = self.image
        self.demand_equal(reading.packets, image.packets(), "what a strict reader delivers")
        self.demand_equal(reading.error and reading.error.kind, image.fault, "what a strict reader refuses")
        if image.broken is not None:
            return
        self.demand_equal((report.available, report.free), (image.used, image.free), "used and free bytes")
        starts = [packet.offset for packet in report.packets]
        self.demand_equal(starts, image.starts(), "where the packets start")
        self.demand_equal(report.waiting, len(image.waiting), "how many packets wait")
        owed = bool(image.waiting) and not image.interrupt_mask
        self.demand_equal(report.reader_needs_signal, owed, "whether the reader needs a signal")
        wanted = image.pending_send_size // SLOT * SLOT
        self.demand_equal(
            report.writer_needs_signal, 0 < wanted <= image.free, "whether the writer needs a signal"
        )
        verdicts = {
            True: {"waiting-for-reader", "full"},
            False: {"idle", "waiting-for-writer", "never-opened"},
        }
        self.demand(
            report.verdict.value in verdicts[bool(image.waiting)], f"the verdict is {report.verdict.value}"
        )

    def compare_history(self, data: bytes) -> None:
        """What was read last and not written over is recovered whole, the newest last."""
        image = self.image
        if image.broken is not None:
            return
        left, kept = image.data_size - image.used, []
        for packet in reversed(image.consumed):
            left -= packet.size
            if left < 0:
                self.corners["history partly written over"] += 1
                break
            kept.append(packet)
        with self.demand_no_error("recovery"):
            found = recover(FlatRingMem.over(data))
        intact = [one for one in found if one.trust is Trust.INTACT]
        self.demand(
            len(intact) >= len(kept), f"{len(intact)} packets recovered whole, of {len(kept)} that are there"
        )
        if kept:
            self.corners["history recovered"] += 1
        at = image.out_offset
        for packet, one in zip(kept, reversed(intact), strict=False):
            at = (at - packet.size) % image.data_size
            self.demand_equal(one.packet.offset, at, "where a packet that was read lies")


def packet_of(kind: str, payload: bytes, number: int) -> PacketImage:
    """A packet of that kind."""
    if kind == "completion":
        return PacketImage.completion(payload, transaction_id=number)
    if kind == "gpa-direct":
        return PacketImage.gpa_direct(GPA_RANGES, payload, transaction_id=number)
    if kind == "transfer-pages":
        return PacketImage.transfer_pages(0xCAFE, TRANSFER_PAGE_RANGES, payload, transaction_id=number)
    flags = int(PacketFlags.COMPLETION_REQUESTED) if kind == "in-band-with-completion" else 0
    return PacketImage.in_band(payload, transaction_id=number, flags=flags)


def strict_reading(data: bytes) -> Reading:
    """Read a copy of an image to its end, or to where a strict reader stops."""
    packets: list[Packet] = []
    reader = IncomingRing(FlatRingMem.over(bytearray(data)))
    try:
        while True:
            packets.append(reader.receive()[0])
    except RingEmpty:
        return Reading(packets, None)
    except PeerError as error:
        return Reading(packets, error)
