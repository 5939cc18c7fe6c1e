"""All that reads, writes and makes captures, in one place: imported when first asked for."""

from .capture_layout import LINKTYPE_USER0
from .conversion import Convertible, ConvertiblePacket, ring_packets
from .from_pcapng import CapturedPacket, is_capture, read_capture
from .to_pcapng import PcapngWriter, PcapWriter
from .vsock_conversion import capture_packets, queue_packets

__all__ = [
    "LINKTYPE_USER0",
    "CapturedPacket",
    "Convertible",
    "ConvertiblePacket",
    "PcapWriter",
    "PcapngWriter",
    "capture_packets",
    "is_capture",
    "queue_packets",
    "read_capture",
    "ring_packets",
]
