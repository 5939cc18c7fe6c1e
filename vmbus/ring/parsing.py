"""What makes a packet well formed, and how one is taken apart.

A descriptor is read once; everything after that uses the copy.  The same goes for the header and
the ranges behind it.  Nothing here commits, and whatever the bytes are, nothing but PeerError is
raised.

Sources: OpenVMM vmbus_ring/src/lib.rs, parse_packet(); unlike there, the footer must be published
too: a reader steps over it.
"""

from __future__ import annotations

from enum import Enum

from vmbus.errors import PeerError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER_SIZE,
    GPA_DIRECT_HEADER,
    PACKET_DESCRIPTOR,
    SMALLEST_PACKET,
    TRANSFER_PAGE_HEADER,
    TRANSFER_PAGE_RANGE,
    PacketDescriptor,
    PacketFlags,
    TransferPageRange,
)
from vmbus.memory import RingMem
from vmbus.sizes import SLOT

from .gparange import MultiPagedRangeBuf
from .offsets import advance
from .packets import IncomingPacket, IncomingPacketType, Ranges
from .ranges import RingRange

__all__ = [
    "EXTENSION_HEADER_SIZE",
    "KNOWN_FLAGS",
    "KNOWN_TYPES",
    "RingFault",
    "descriptor_fault",
    "explain_descriptor",
    "parse_extension",
    "parse_packet",
    "read_packet",
    "smallest_data_offset",
]


class RingFault(Enum):
    """What can be wrong with a ring; the values are names for reports.

    The first ten are the variants of vmbus_ring's Error.  Three of them are the caller's mistake
    here (CallerError) and stand for completeness: INVALID_MESSAGE_LENGTH, RING_TOO_LARGE and
    INVALID_RING_MEMORY.
    """

    INVALID_RING_POINTER = "index-range"
    INVALID_MESSAGE_LENGTH = "message-length"
    INVALID_DATA_AVAILABLE = "data-available"
    RING_TOO_LARGE = "ring-too-large"
    INVALID_RING_MEMORY = "ring-memory"
    INVALID_DESCRIPTOR_LENGTHS = "descriptor-length"
    INVALID_DESCRIPTOR_FLAGS = "descriptor-flags"
    INVALID_DESCRIPTOR_TYPE = "descriptor-type"
    INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT = "gpa-range-count"
    INTERRUPTS_EXTERNALLY_MASKED = "interrupts-masked"
    FOOTER_NOT_PUBLISHED = "footer-not-published"
    INVALID_TRANSFER_PAGE_RANGE_COUNT = "transfer-page-range-count"


KNOWN_TYPES = {int(kind): kind for kind in IncomingPacketType}
KNOWN_FLAGS = int(PacketFlags.COMPLETION_REQUESTED)

#: Bytes of the header behind the descriptor, for the types that have one.
EXTENSION_HEADER_SIZE = {
    int(IncomingPacketType.GPA_DIRECT): GPA_DIRECT_HEADER.size,
    int(IncomingPacketType.TRANSFER_PAGES): TRANSFER_PAGE_HEADER.size,
}


def smallest_data_offset(packet_type: int) -> int:
    """Bytes before the payload that a packet of this type has at least."""
    return DESCRIPTOR_SIZE + EXTENSION_HEADER_SIZE.get(packet_type, 0)


def descriptor_fault(descriptor: PacketDescriptor, available: int) -> RingFault | None:
    """What is wrong with a descriptor, or None: the one rule of packet validity.

    available   bytes from the packet's start to in

    >>> descriptor_fault(PacketDescriptor(6, 2, 3, 0, 0), 32) is None
    True
    >>> descriptor_fault(PacketDescriptor(6, 2, 3, 0, 0), 24)
    <RingFault.FOOTER_NOT_PUBLISHED: 'footer-not-published'>
    """
    if available < SMALLEST_PACKET:
        return RingFault.INVALID_DATA_AVAILABLE
    smallest = smallest_data_offset(descriptor.type)
    length = descriptor.length8 * SLOT  # not .length: walks call this for every packet of a dump
    if not smallest <= descriptor.data_offset8 * SLOT <= length <= available:
        return RingFault.INVALID_DESCRIPTOR_LENGTHS
    if length + FOOTER_SIZE > available:
        return RingFault.FOOTER_NOT_PUBLISHED
    if descriptor.flags & ~KNOWN_FLAGS:
        return RingFault.INVALID_DESCRIPTOR_FLAGS
    if descriptor.type not in KNOWN_TYPES:
        return RingFault.INVALID_DESCRIPTOR_TYPE
    return None


def explain_descriptor(fault: RingFault, descriptor: PacketDescriptor, available: int) -> PeerError:
    """The error for a fault of a descriptor; the message still lacks the place."""
    smallest = smallest_data_offset(descriptor.type)
    length, data_offset = descriptor.length, descriptor.data_offset
    if fault is RingFault.INVALID_DESCRIPTOR_FLAGS:
        message = f"has the flags {descriptor.flags:#x}, and only {KNOWN_FLAGS:#x} is known"
        return PeerError(message, kind=fault, found=descriptor.flags, allowed=KNOWN_FLAGS)
    if fault is RingFault.INVALID_DESCRIPTOR_TYPE:
        known = ", ".join(str(kind) for kind in KNOWN_TYPES)
        message = f"has the type {descriptor.type}, and rings carry only the types {known}"
        return PeerError(message, kind=fault, found=descriptor.type, allowed=tuple(KNOWN_TYPES))
    if fault is RingFault.INVALID_DATA_AVAILABLE:
        message = f"has {available} bytes, and {SMALLEST_PACKET} is the least"
        return PeerError(message, kind=fault, found=available, allowed=SMALLEST_PACKET)
    if data_offset < smallest:
        message = f"has its payload {data_offset} bytes from its start, and {smallest} is the least"
        return PeerError(message, kind=fault, found=data_offset, allowed=smallest)
    if data_offset > length:
        message = f"has its payload {data_offset} bytes from its start and is only {length} bytes long"
        return PeerError(message, kind=fault, found=data_offset, allowed=length)
    size = descriptor.packet_size
    message = f"is {size} bytes long with its footer, but the sender has published {available}"
    return PeerError(message, kind=fault, found=size, allowed=available)


def at_place(error: PeerError, offset: int, available: int, size: int) -> PeerError:
    """The same error with its place: which packet, of what ring."""
    place = f"(in {advance(size, offset, available):#06x}, out {offset:#06x}, ring of {size} bytes)"
    return PeerError(
        f"packet at {offset:#06x} {error} {place}",
        kind=error.kind,
        offset=offset,
        found=error.found,
        allowed=error.allowed,
    )


def parse_extension(descriptor: PacketDescriptor, extension: bytes) -> tuple[Ranges, int | None]:
    """The ranges of a packet and its transfer page set id.

    extension   the bytes between descriptor and payload, copied

    Raises PeerError, without a place, when the ranges are not valid.
    """
    if descriptor.type == IncomingPacketType.GPA_DIRECT:
        count = GPA_DIRECT_HEADER.unpack(extension).range_count
        if count == 0:
            raise PeerError(
                "is GPA-direct and lists 0 ranges, and 1 is the least",
                kind=RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT,
                found=0,
                allowed=1,
            )
        try:
            listed = MultiPagedRangeBuf.from_bytes(count, extension[GPA_DIRECT_HEADER.size :])
        except PeerError as error:
            message = f"lists {count} ranges, of which {error}"
            raise PeerError(message, kind=error.kind, found=error.found, allowed=error.allowed) from None
        return tuple(listed), None
    if descriptor.type == IncomingPacketType.TRANSFER_PAGES:
        header = TRANSFER_PAGE_HEADER.unpack(extension)
        room = (len(extension) - TRANSFER_PAGE_HEADER.size) // TRANSFER_PAGE_RANGE.size
        if header.range_count > room:
            raise PeerError(
                f"lists {header.range_count} transfer page ranges where {room} have room",
                kind=RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT,
                found=header.range_count,
                allowed=room,
            )
        end = TRANSFER_PAGE_HEADER.size + header.range_count * TRANSFER_PAGE_RANGE.size
        pairs = TRANSFER_PAGE_RANGE.struct.iter_unpack(extension[TRANSFER_PAGE_HEADER.size : end])
        return tuple(TransferPageRange(*pair) for pair in pairs), header.transfer_page_set_id
    return (), None


def parse_packet(
    memory: RingMem, offset: int, available: int, descriptor: PacketDescriptor
) -> tuple[IncomingPacket, int]:
    """The packet of a descriptor already read, and the bytes it takes with its footer.

    Raises PeerError when the packet is not well formed.
    """
    try:
        fault = descriptor_fault(descriptor, available)
        if fault is not None:
            raise explain_descriptor(fault, descriptor, available)
        data_offset = descriptor.data_offset
        extension = RingRange(offset + DESCRIPTOR_SIZE, data_offset - DESCRIPTOR_SIZE)
        ranges: Ranges = ()
        set_id = None
        if descriptor.type in EXTENSION_HEADER_SIZE:
            ranges, set_id = parse_extension(descriptor, memory.read_at(extension.offset, extension.size))
    except PeerError as error:
        raise at_place(error, offset, available, memory.size) from None
    kind = KNOWN_TYPES[descriptor.type]
    is_transaction = descriptor.flags & KNOWN_FLAGS or kind is IncomingPacketType.COMPLETION
    packet = IncomingPacket(
        type=kind,
        transaction_id=descriptor.transaction_id if is_transaction else None,
        payload=RingRange(offset + data_offset, descriptor.length - data_offset),
        ranges=ranges,
        transfer_page_set_id=set_id,
        extension=extension,
        descriptor=descriptor,
    )
    return packet, descriptor.packet_size


def read_packet(memory: RingMem, offset: int, available: int) -> tuple[IncomingPacket, int]:
    """The packet at `offset`, and the bytes it takes with its footer.

    available   bytes from there to in; nonzero

    Raises PeerError when the packet is not well formed.
    """
    descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at(offset, DESCRIPTOR_SIZE))
    return parse_packet(memory, offset, available, descriptor)
