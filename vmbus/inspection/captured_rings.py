"""Packets of rings out of captures that this toolkit wrote, and captures of either kind of packet.

A capture is of rings when the first frame of it that is known is one of a ring; else of sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from vmbus.errors import DumpError
from vmbus.images import Dump
from vmbus.virtio import LINKTYPE_VSOCK

from .capture_layout import LINKTYPE_USER0, Direction
from .conversion import RING_COMMENT, CaptureInterface, Convertible, ConvertiblePacket, packet_document
from .examine import PacketReport
from .from_pcapng import CapturedPacket, read_capture
from .pipe_capture import pipe_content
from .ring_capture import RingFrame, frame_to_report, is_ring_frame, parse_ring_frame
from .vsock_conversion import capture_packets as socket_packets

__all__ = ["capture_packets", "captured_ring_packets"]

ROLES = {Direction.UNKNOWN: None, Direction.INBOUND: "inbound", Direction.OUTBOUND: "outbound"}


def capture_packets(
    dump: Dump, *, limit: int | None = None, on_break: Callable[[DumpError], object] | None = None
) -> Convertible:
    """The packets of a capture, the first `limit` of them: those of rings or those of sockets, whichever of
    the two comes first in it.  Those of other link types are passed over.

    on_break   called where the file is broken, mostly cut off, behind a packet that is known: the packets
               then end there.  Without it DumpError is raised there

    Raises DumpError when it is no capture.  So may the iterator: where the file is broken, for a packet
    that is not what its link type promises, and when there are packets and none of them is known.
    """
    find = captured_ring_packets if begins_with_rings(dump) else socket_packets
    return find(dump, limit=limit, on_break=on_break)


def begins_with_rings(dump: Dump) -> bool:
    """Whether the first frame that is known is one of a ring."""
    packets = read_capture(dump)
    try:
        for packet in packets:
            if of_a_ring(packet):
                return True
            if packet.link_type == LINKTYPE_VSOCK:
                return False
    except DumpError:  # it is told by who reads the packets
        pass
    return False


def of_a_ring(packet: CapturedPacket) -> bool:
    return packet.link_type == LINKTYPE_USER0 and is_ring_frame(packet.data)


def captured_ring_packets(
    dump: Dump, *, limit: int | None = None, on_break: Callable[[DumpError], object] | None = None
) -> Convertible:
    """As capture_packets, those of rings: each is judged again, as it was in its ring.

    What a packet carried through a pipe is found in the packet, not in the frame that followed it.
    """
    read_capture(dump)  # which raises at once for a file that is none

    def packets() -> Iterator[ConvertiblePacket]:
        count = 0
        frames = read_capture(dump)
        while count != limit:
            try:
                packet = next(frames, None)
            except DumpError as error:
                if on_break is None or not count:
                    raise
                on_break(error)
                return
            if packet is None:
                return
            if of_a_ring(packet):
                yield captured_packet(packet, dump.path)
                count += 1

    return Convertible(packets, LINKTYPE_USER0, RING_COMMENT)


def captured_packet(packet: CapturedPacket, path: str) -> ConvertiblePacket:
    """A frame of a ring."""
    try:
        frame = parse_ring_frame(packet.data, packet.original_length)
        report = frame_to_report(frame)
    except DumpError as error:
        raise DumpError(f"at {packet.place:#x}, {error}", path=path, place=packet.place) from None
    return ConvertiblePacket(
        packet.data,
        payload_of(frame, report),
        partial(captured_to_json, packet, frame, report),
        packet.timestamp or 0,
        max(packet.original_length, len(packet.data)),
        packet.comment,
        CaptureInterface(packet.interface, packet.description),
        packet.direction,
        pipe_content(report),
    )


def payload_of(frame: RingFrame, report: PacketReport) -> bytes:
    """The payload, or as much of it as was captured."""
    if report.payload is not None or report.data_offset is None or frame.is_whole:
        return report.payload or b""
    return frame.packet[report.data_offset : report.length]


def captured_to_json(packet: CapturedPacket, frame: RingFrame, report: PacketReport) -> dict[str, Any]:
    """The object of `vmbus inspect --jsonl`, and under "capture" where and how it was captured."""
    return {
        **packet_document(report, frame.state, frame.header.address),
        "capture": {
            "place": packet.place,
            "timestamp": packet.timestamp,
            "captured_length": len(packet.data),
            "original_length": packet.original_length,
            "interface": packet.interface,
            "comment": packet.comment,
            "role": ROLES[frame.direction],
            "data_size": frame.header.data_size,
        },
    }
