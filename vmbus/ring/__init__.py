"""One ring, from either end.

OutgoingRing writes packets and IncomingRing reads them, over any RingMem; both say when the other
side must be signaled and neither ever waits.
"""

from vmbus.layout import TransferPageRange
from vmbus.memory import Buffer, view_bytes

from .control import inspect_ring, load_control, reader_needs_signal, writer_needs_signal
from .gparange import (
    AddressRange,
    GpaRange,
    GpaRangeFault,
    MultiPagedRangeBuf,
    PagedRange,
    validate_gpa_ranges,
)
from .incoming import IncomingOffset, IncomingRing
from .offsets import advance, free_bytes, is_offset, largest_packet, used_bytes
from .outgoing import OutgoingOffset, OutgoingRing
from .packets import (
    IncomingPacket,
    IncomingPacketType,
    OutgoingPacket,
    OutgoingPacketType,
    Packet,
    PacketSize,
    Ranges,
)
from .pair import connected_rings
from .parsing import (
    RingFault,
    descriptor_fault,
    explain_descriptor,
    parse_extension,
    read_packet,
    smallest_data_offset,
)
from .ranges import Ring, RingRange, RingRangeReader, RingRangeWriter
from .signaling import (
    reader_is_owed_a_signal,
    signal_reader_after_write,
    signal_writer_after_read,
    wanted_space,
    writer_is_owed_a_signal,
)

__all__ = [
    "AddressRange",
    "Buffer",
    "GpaRange",
    "GpaRangeFault",
    "IncomingOffset",
    "IncomingPacket",
    "IncomingPacketType",
    "IncomingRing",
    "MultiPagedRangeBuf",
    "OutgoingOffset",
    "OutgoingPacket",
    "OutgoingPacketType",
    "OutgoingRing",
    "Packet",
    "PacketSize",
    "PagedRange",
    "Ranges",
    "Ring",
    "RingFault",
    "RingRange",
    "RingRangeReader",
    "RingRangeWriter",
    "TransferPageRange",
    "advance",
    "connected_rings",
    "descriptor_fault",
    "explain_descriptor",
    "free_bytes",
    "inspect_ring",
    "is_offset",
    "largest_packet",
    "load_control",
    "parse_extension",
    "read_packet",
    "reader_is_owed_a_signal",
    "reader_needs_signal",
    "signal_reader_after_write",
    "signal_writer_after_read",
    "smallest_data_offset",
    "used_bytes",
    "validate_gpa_ranges",
    "view_bytes",
    "wanted_space",
    "writer_is_owed_a_signal",
    "writer_needs_signal",
]
