"""How a pipe puts bytes into packets: the header, and what may stand in it.

A pipe packet is an in-band packet whose payload begins with an 8-byte header: a type and a length.
The length gives back what the ring's padding to 8 bytes hides.  The other side may send anything,
so every packet is checked against the numbers copied from it, and refused by name.

Sources: OpenVMM vmbus_async/src/pipe.rs and vmbus_ring/src/lib.rs, mod pipe_protocol; Microsoft
mu_msvm MsvmPkg VmbusPacketFormat.h for the types that rings without RDMA never carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from vmbus.errors import CallerError, PeerError
from vmbus.layout import (
    MAXIMUM_PIPE_PACKET_SIZE,
    PARTIAL_PIPE_HEADER,
    PIPE_HEADER,
    PIPE_HEADER_SIZE,
    PartialPipeHeader,
    PipeHeader,
    PipePacketType,
)
from vmbus.ring import (
    Buffer,
    IncomingOffset,
    IncomingPacketType,
    IncomingRing,
    OutgoingOffset,
    OutgoingPacket,
    OutgoingRing,
    PacketSize,
    RingRange,
    RingRangeReader,
    view_bytes,
)
from vmbus.sizes import round_up_to_slot

__all__ = [
    "PipeFault",
    "check_header",
    "largest_payload",
    "open_packet",
    "pipe_header_of",
    "write_packet",
]


class PipeFault(Enum):
    """What can be wrong with a pipe packet; the values are names for reports."""

    NOT_IN_BAND = "pipe-not-in-band"
    HEADER_MISSING = "pipe-header-missing"
    UNKNOWN_TYPE = "pipe-type"
    UNEXPECTED_PARTIAL = "pipe-unexpected-partial"
    SETUP_GPA_DIRECT = "pipe-setup-gpa-direct"
    TEARDOWN_GPA_DIRECT = "pipe-teardown-gpa-direct"
    INVALID_LENGTH = "pipe-length"
    INVALID_PARTIAL = "pipe-partial"


#: Types that exist and that no pipe here takes part in.
REFUSED_TYPES = {
    int(PipePacketType.SETUP_GPA_DIRECT): PipeFault.SETUP_GPA_DIRECT,
    int(PipePacketType.TEARDOWN_GPA_DIRECT): PipeFault.TEARDOWN_GPA_DIRECT,
}


def largest_payload(ring: OutgoingRing, *, raw: bool = False) -> int:
    """The most bytes that one pipe packet can carry through this ring.

    >>> from vmbus.ring import connected_rings
    >>> largest_payload(connected_rings(size=4096)[0]), largest_payload(connected_rings(size=65536)[0])
    (4056, 16384)
    """
    if raw:
        return ring.maximum_packet_size() - PacketSize.in_band(0)
    return min(MAXIMUM_PIPE_PACKET_SIZE, ring.maximum_packet_size() - PacketSize.in_band(PIPE_HEADER_SIZE))


def write_packet(ring: OutgoingRing, offset: OutgoingOffset, buffers: Iterable[Buffer], raw: bool) -> None:
    """Write one packet with the bytes of all `buffers`, one behind the other, behind `offset`.

    raw   without the header: the reader will see the length rounded up to 8

    Raises RingFull; CallerError when it could never fit.  Nothing is committed.
    """
    views = [view_bytes(one, "buffer") for one in buffers]
    length = sum(len(view) for view in views)
    limit = largest_payload(ring, raw=raw)
    if length > limit:
        raise CallerError(
            f"a message has at most {limit} bytes in a ring of {ring.size}, not {length}",
            argument="buffers",
            value=length,
            limit=limit,
        )
    header = b"" if raw else PIPE_HEADER.pack(PipeHeader(PipePacketType.DATA, length))
    start = offset.next_in
    try:
        writer = ring.write(offset, OutgoingPacket.in_band(len(header) + length)).writer(ring)
        writer.write(header)
        for view in views:
            writer.write(view)
    except BaseException:  # also an interrupt: half a message is none
        offset.next_in = start
        raise


def open_packet(ring: IncomingRing, offset: IncomingOffset) -> RingRange:
    """The payload of the next packet of a pipe; raises PeerError when it is none of a pipe's."""
    at = offset.next_out
    packet = ring.read(offset)
    if packet.type is not IncomingPacketType.IN_BAND:
        message = f"has the type {packet.type.value}, and pipes use in-band packets"
        allowed = IncomingPacketType.IN_BAND.value
        raise refusal(PipeFault.NOT_IN_BAND, at, message, found=packet.type.value, allowed=allowed)
    return packet.payload


def check_header(reader: RingRangeReader, at: int, *, partial_allowed: bool) -> tuple[int, int]:
    """Read the header: how many bytes the packet carries, and how many of them are gone already.

    reader   the payload, which is left standing behind the header
    at       the packet's place in the ring, for the error

    Raises PeerError, by name, for every header that a correct sender does not write.
    """
    if len(reader) < PIPE_HEADER_SIZE:
        message = f"has {len(reader)} bytes of payload, and its header alone takes {PIPE_HEADER_SIZE}"
        raise refusal(PipeFault.HEADER_MISSING, at, message, found=len(reader), allowed=PIPE_HEADER_SIZE)
    header = reader.read(PIPE_HEADER_SIZE)
    kind, length = PIPE_HEADER.unpack(header)
    if kind == PipePacketType.PARTIAL and partial_allowed:
        partial = PARTIAL_PIPE_HEADER.unpack(header)
        check_length(partial.length, len(reader), at)
        if partial.consumed >= partial.length:
            message = f"has {partial.length} bytes, and {partial.consumed} of them are said to be read"
            limit = partial.length - 1
            raise refusal(PipeFault.INVALID_PARTIAL, at, message, found=partial.consumed, allowed=limit)
        return partial.length, partial.consumed
    if kind != PipePacketType.DATA:
        raise type_error(kind, at)
    check_length(length, len(reader), at)
    return length, 0


def check_length(length: int, present: int, at: int) -> None:
    limit = min(present, MAXIMUM_PIPE_PACKET_SIZE)
    if length > limit:
        message = f"says that it carries {length} bytes, and {limit} is the most it can"
        raise refusal(PipeFault.INVALID_LENGTH, at, message, found=length, allowed=limit)


def type_error(kind: int, at: int) -> PeerError:
    """The refusal of a header's type, by the type's name."""
    fault = REFUSED_TYPES.get(kind, PipeFault.UNKNOWN_TYPE)
    if kind == PipePacketType.PARTIAL:
        fault = PipeFault.UNEXPECTED_PARTIAL
    name = PipePacketType(kind).label.replace("-", " ")
    message = f"has the type {kind} ({name}), and this pipe takes only data"
    return refusal(fault, at, message, found=kind, allowed=PipePacketType.DATA.value)


def refusal(fault: PipeFault, at: int, message: str, *, found: int, allowed: int) -> PeerError:
    """The error for the packet at offset `at`."""
    return PeerError(
        f"pipe packet at {at:#06x} {message}", kind=fault, offset=at, found=found, allowed=allowed
    )


def pipe_header_of(payload: bytes) -> PipeHeader | PartialPipeHeader | None:
    """The pipe header that a payload seems to begin with, or None: for tools that must guess.

    Believed when its length accounts for the payload to the padding.

    >>> pipe_header_of(bytes([1, 0, 0, 0, 5, 0, 0, 0]) + b"hello" + bytes(3))
    PipeHeader(packet_type=1, length=5)
    >>> pipe_header_of(b"no header at all") is None
    True
    """
    if len(payload) < PIPE_HEADER_SIZE:
        return None
    header = PIPE_HEADER.unpack(payload)
    partial = PARTIAL_PIPE_HEADER.unpack(payload)
    if header.packet_type == PipePacketType.PARTIAL:
        if partial.consumed < partial.length and fills(partial.length, payload):
            return partial
    elif header.packet_type == PipePacketType.DATA and fills(header.length, payload):
        return header
    return None


def fills(length: int, payload: bytes) -> bool:
    return PIPE_HEADER_SIZE + round_up_to_slot(length) == len(payload)
