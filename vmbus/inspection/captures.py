"""All that reads, writes and makes captures, in one place: imported when first asked for."""

from .capture_layout import LINKTYPE_USER0, LINKTYPE_WIRESHARK_UPPER_PDU, Direction
from .captured_rings import capture_packets
from .conversion import (
    CaptureInterface,
    Convertible,
    ConvertiblePacket,
    ring_packets,
    write_ring_capture,
)
from .from_pcapng import CapturedPacket, is_capture, read_capture
from .ring_capture import RingFrame, RingFrameHeader, frame_to_report, parse_ring_frame
from .to_pcapng import PcapngWriter, PcapWriter
from .vsock_conversion import queue_packets

__all__ = [
    "LINKTYPE_USER0",
    "LINKTYPE_WIRESHARK_UPPER_PDU",
    "CaptureInterface",
    "CapturedPacket",
    "Convertible",
    "ConvertiblePacket",
    "Direction",
    "PcapWriter",
    "PcapngWriter",
    "RingFrame",
    "RingFrameHeader",
    "capture_packets",
    "frame_to_report",
    "is_capture",
    "parse_ring_frame",
    "queue_packets",
    "read_capture",
    "ring_packets",
    "write_ring_capture",
]
