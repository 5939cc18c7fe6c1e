"""A report for reading and for grep: no borders, offsets in hex, sizes in decimal.

Bytes that came from the other side never reach a terminal as they are: payloads are shown in hex.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.images import Finding
from vmbus.layout import FeatureBits, PacketFlags, PacketType
from vmbus.ring import PagedRange, wanted_space

from .checks import Verdict, room_is_missing
from .examine import PacketReport
from .hexdump import hexdump
from .names import bit_names, counted, type_label
from .report import Report
from .ring_place import RingPlace
from .ring_report import RingReport
from .stuck import asks_for_good

__all__ = ["device_of", "finding_to_line", "packets_to_lines", "place_of", "report_to_lines", "verdict_text"]

#: Bytes of payload in a packet's line.
SHOWN_BYTES = 8

VERDICTS = {
    Verdict.NEVER_OPENED: "never opened: all bytes are zero",
    Verdict.CORRUPT: "corrupt: a reader would refuse it",
    Verdict.FULL: "full: not even an empty packet fits",
    Verdict.WAITING_FOR_READER: "waiting for its reader",
    Verdict.WAITING_FOR_WRITER: "waiting for its writer, who waits for more room than there ever is",
    Verdict.IDLE: "idle",
}


def report_to_lines(report: Report, *, with_hexdump: bool = False) -> Iterator[str]:
    """The lines of a report; `with_hexdump` adds the bytes of every packet."""
    for number, ring in enumerate(report.rings):
        if number:
            yield ""
        yield from ring_to_lines(ring, with_hexdump)
    if report.findings:
        yield ""
        yield report.path
    for finding in report.findings:
        yield f"  {'image':<8}  {finding.severity.value:<7}  {finding.check}  {finding.message}"


def ring_to_lines(ring: RingReport, with_hexdump: bool) -> Iterator[str]:
    place = ring.place
    role = f"{place.role} " if place.role else ""
    yield f"{role}ring at {place.address:#x}{device_of(place)}, {place.data_size} bytes of data"
    yield from control_to_lines(ring)
    if ring.consumed:
        yield ""
        yield "read already, oldest first"
        yield from packets_to_lines(ring, ring.consumed, with_hexdump)
    if ring.packets:
        yield ""
        if ring.consumed:
            yield "waiting"
        yield from packets_to_lines(ring, ring.packets, with_hexdump)
    yield ""
    yield summary(ring)
    for finding in ring.findings:
        yield finding_to_line(ring, finding)


def device_of(place: RingPlace) -> str:
    """Whose a ring is, to be put behind its address; nothing where that is not known."""
    return f" of {place.device}, channel {place.device.channel_id}" if place.device else ""


def finding_to_line(ring: RingReport, finding: Finding) -> str:
    """A finding below a ring's report."""
    width = max(offset_width(ring), 8)
    return f"  {place_of(ring, finding):<{width}}  {finding.severity.value:<7}  {finding.check}  {finding.message}"


def place_of(ring: RingReport, finding: Finding) -> str:
    """Where a finding is: an offset in the data area, or the control page."""
    return "control" if finding.offset is None else f"{finding.offset:#0{offset_width(ring)}x}"


def control_to_lines(ring: RingReport) -> Iterator[str]:
    control = ring.control
    room = ""
    if ring.available is not None:
        room = f"   {ring.available} bytes waiting   {ring.free} bytes free"
    yield f"  in {control.in_offset:#06x}   out {control.out_offset:#06x}{room}"
    mask = "interrupts masked" if control.interrupt_mask else "interrupts unmasked"
    pending = f"pending send size {control.pending_send_size}"
    features = "|".join(bit_names(FeatureBits, control.feature_bits)) or "0"
    yield f"  {mask}   {pending}   features {features}"
    yield f"  {verdict_text(ring)}"


def verdict_text(ring: RingReport) -> str:
    """The verdict in words, and the signals that may be owed."""
    return f"{VERDICTS[ring.verdict]}{signals(ring)}"


def signals(ring: RingReport) -> str:
    parts = []
    waits_for_reader = ring.verdict in (Verdict.WAITING_FOR_READER, Verdict.FULL)
    if waits_for_reader and room_is_missing(ring.control, ring.memory.size):
        wanted = wanted_space(ring.control.pending_send_size)
        parts.append(f"; its writer waits for {wanted} bytes of room")
    if ring.reader_needs_signal:
        parts.append("; the reader may be owed a signal")
    if ring.writer_needs_signal and asks_for_good(ring):
        asked = ring.control.pending_send_size
        parts.append(f"; its writer asks for {asked} bytes for good, as hvsock does, and has them")
    elif ring.writer_needs_signal:
        parts.append("; the writer may be owed a signal")
    return "".join(parts)


def packets_to_lines(ring: RingReport, packets: list[PacketReport], with_hexdump: bool) -> Iterator[str]:
    trusted = any(packet.trust for packet in packets)
    trust_title = f"  {'TRUST':<11}" if trusted else ""
    width = offset_width(ring)
    yield f"  {'OFFSET':<{width}}  {'BYTES':>6}  {'TYPE':<14}  {'TRANSACTION':>18}{trust_title}  PAYLOAD"
    for packet in packets:
        trust = f"  {packet.trust.value if packet.trust else '':<11}" if trusted else ""
        size = "-" if packet.packet_size is None else str(packet.packet_size)
        yield (
            f"  {packet.offset:#0{width}x}  {size:>6}  {type_of(packet):<14}  {transaction_of(packet):>18}{trust}"
            f"  {content_of(packet)}"
        )
        if with_hexdump:
            data = ring.memory.read_at(packet.offset, packet.shown_bytes)
            for line in hexdump(data, packet.offset, ring.memory.size):
                yield f"    {line}"


def offset_width(ring: RingReport) -> int:
    """Characters of the longest offset in a ring."""
    return max(len("0x0000"), len(f"{ring.place.data_size - 1:#x}"))


def type_of(packet: PacketReport) -> str:
    return "?" if packet.descriptor is None else type_label(packet.descriptor.type)


def transaction_of(packet: PacketReport) -> str:
    """The transaction id, or - where the descriptor's number means nothing."""
    descriptor = packet.descriptor
    if descriptor is None:
        return "?"
    is_transaction = descriptor.type == PacketType.COMPLETION or (
        descriptor.flags & PacketFlags.COMPLETION_REQUESTED
    )
    means_something = is_transaction or descriptor.transaction_id
    return f"{descriptor.transaction_id:#x}" if means_something else "-"


def content_of(packet: PacketReport) -> str:
    """What a packet's line says of its payload, its ranges and its flags."""
    parts = [] if packet.broken is None else [f"broken: {packet.broken}"]
    if packet.payload is not None:
        parts.append(payload_of(packet, packet.payload))
    if packet.ranges:
        total = sum(len(one) if isinstance(one, PagedRange) else one.byte_count for one in packet.ranges)
        parts.append(f"{counted(len(packet.ranges), 'range')} of {total} bytes outside the ring")
    if packet.transfer_page_set_id is not None:
        parts.append(f"transfer page set {packet.transfer_page_set_id:#x}")
    if packet.descriptor is not None and packet.descriptor.flags:
        parts.append("flags " + "|".join(bit_names(PacketFlags, packet.descriptor.flags)))
    return ", ".join(parts)


def payload_of(packet: PacketReport, payload: bytes) -> str:
    shown = packet.content[:SHOWN_BYTES].hex(" ")
    more = " …" if len(packet.content) > SHOWN_BYTES else ""
    what = packet.description or f"{len(payload)} bytes"
    return f"{what}: {shown}{more}" if shown else what


def summary(ring: RingReport) -> str:
    waiting = counted(ring.waiting, "packet") + shown(len(ring.packets), ring.waiting)
    read = (
        f", {ring.recovered} read already{shown(len(ring.consumed), ring.recovered)}"
        if ring.recovered
        else ""
    )
    return f"{waiting}{read}, {counted(len(ring.findings), 'finding')}"


def shown(count: int, of: int) -> str:
    return f" ({count} shown)" if count < of else ""
