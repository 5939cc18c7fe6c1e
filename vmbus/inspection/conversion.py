"""Packets on their way into another form: each can be shown as an object, as a frame of a capture, or as
its payload alone.

Those of rings are here; those of sockets are in vsock_conversion, so that a ring needs nothing of virtio.
Where nobody noted the time, it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from vmbus.layout import FOOTER_SIZE, PACKET_DESCRIPTOR

from .capture_layout import LINKTYPE_USER0
from .examine import PacketReport
from .findings import Finding
from .names import type_label
from .report import Report
from .to_json import packet_to_json

__all__ = ["Convertible", "ConvertiblePacket", "ring_packets"]

#: What a capture of ring packets says of them: their link type is one that everybody may use.
RING_COMMENT = (
    "VMBus ring packet: descriptor, header and payload as they lie in the ring, without the footer; "
    "the times are not known"
)


class ConvertiblePacket(NamedTuple):
    """One packet.

    frame             its bytes in a capture
    payload           those that it carries
    document          makes the object that shows it
    timestamp         nanoseconds since 1970; 0 where it is not known
    original_length   bytes that the frame had where it was captured; None: that is all of it
    comment           where it was found
    """

    frame: bytes | memoryview
    payload: bytes
    document: Callable[[], dict[str, Any]]
    timestamp: int = 0
    original_length: int | None = None
    comment: str | None = None


class Convertible(NamedTuple):
    """All packets of one dump or capture.

    packets     makes an iterator over them, each time from the start; of a capture it may raise DumpError
    link_type   what their frames are
    comment     what a capture should say of them
    is_sound    whether what they were found in has neither an error nor a warning
    findings    what is wrong with it, as the report lists it
    """

    packets: Callable[[], Iterator[ConvertiblePacket]]
    link_type: int
    comment: str | None = None
    is_sound: bool = True
    findings: tuple[Finding, ...] = ()


def ring_packets(report: Report) -> Convertible:
    """The packets of rings, as `inspect_dump` reports them: of each ring those read already, then the
    waiting ones.

    >>> from .dump import open_dump, sample_path
    >>> from .report import inspect_dump
    >>> found = ring_packets(inspect_dump(open_dump(sample_path())))
    >>> found.link_type, len(list(found.packets()))
    (147, 5)
    """

    def packets() -> Iterator[ConvertiblePacket]:
        for ring in report.rings:
            for kind, found in (("consumed", ring.consumed), ("packet", ring.packets)):
                for packet in found:
                    yield ring_packet(packet, kind, ring.place.address)

    findings = tuple(finding for ring in report.rings for finding in ring.findings)
    return Convertible(packets, LINKTYPE_USER0, RING_COMMENT, report.is_sound, findings)


def ring_packet(packet: PacketReport, kind: str, address: int) -> ConvertiblePacket:
    def document() -> dict[str, Any]:
        return {"kind": kind, "ring": address, **packet_to_json(packet)}

    state = "read already" if kind == "consumed" else "waiting"
    words = [f"ring at {address:#x}, offset {packet.offset:#06x}, {state}"]
    if packet.descriptor is not None:
        words.append(
            f"{type_label(packet.descriptor.type)}, transaction {packet.descriptor.transaction_id:#x}"
        )
    if packet.broken is not None:
        words.append(f"broken: {packet.broken}")
    return ConvertiblePacket(ring_frame(packet), packet.payload or b"", document, comment=", ".join(words))


def ring_frame(packet: PacketReport) -> bytes:
    """A packet without its footer; of one that is torn, what there is."""
    if packet.raw is not None:
        return packet.raw if packet.footer is None else packet.raw[:-FOOTER_SIZE]
    assert packet.descriptor is not None, "a packet without one is broken"
    return b"".join([PACKET_DESCRIPTOR.pack(packet.descriptor), packet.header or b"", packet.payload or b""])
