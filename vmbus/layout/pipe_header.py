"""The 8 bytes that begin the payload of a packet on a pipe channel.

They give lengths that are no multiple of 8, and mark the end of a byte stream.

Sources: OpenVMM vmbus_ring/src/lib.rs, mod pipe_protocol; Microsoft mu_msvm MsvmPkg
VmbusPacketFormat.h (types 3 to 5); Linux include/linux/hyperv.h, struct vmpipe_proto_header.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import Int16ul, Int32ul, Struct

from .codec import EnumField, FixedCodec, OpenIntEnum

__all__ = [
    "MAXIMUM_PIPE_PACKET_SIZE",
    "PARTIAL_PIPE_HEADER",
    "PARTIAL_PIPE_HEADER_SCHEMA",
    "PIPE_HEADER",
    "PIPE_HEADER_SCHEMA",
    "PIPE_HEADER_SIZE",
    "PIPE_PACKET_TYPE_DATA",
    "PIPE_PACKET_TYPE_PARTIAL",
    "PIPE_PACKET_TYPE_SETUP_GPA_DIRECT",
    "PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT",
    "PartialPipeHeader",
    "PipeHeader",
    "PipePacketType",
]

#: The most bytes a pipe packet carries behind its header.
MAXIMUM_PIPE_PACKET_SIZE = 16384


class PipePacketType(OpenIntEnum):
    """What a pipe packet is; only the first three occur on rings that carry no GPA-direct buffers."""

    INVALID = 0
    DATA = 1
    PARTIAL = 2
    SETUP_GPA_DIRECT = 3
    TEARDOWN_GPA_DIRECT = 4
    INDICATION_COMPLETE = 5


# The names vmbus_ring gives them.
PIPE_PACKET_TYPE_DATA = PipePacketType.DATA
PIPE_PACKET_TYPE_PARTIAL = PipePacketType.PARTIAL
PIPE_PACKET_TYPE_SETUP_GPA_DIRECT = PipePacketType.SETUP_GPA_DIRECT
PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT = PipePacketType.TEARDOWN_GPA_DIRECT


PIPE_HEADER_SCHEMA = Struct(
    "packet_type" / EnumField(Int32ul, PipePacketType),
    "length" / Int32ul,  # bytes that follow, without the padding
)

#: The same 8 bytes after a byte reader has taken a part of the packet.
PARTIAL_PIPE_HEADER_SCHEMA = Struct(
    "packet_type" / EnumField(Int32ul, PipePacketType),
    "length" / Int16ul,
    "consumed" / Int16ul,
)


class PipeHeader(NamedTuple):
    """The header of a pipe packet; `length` counts bytes behind it."""

    packet_type: int
    length: int


class PartialPipeHeader(NamedTuple):
    """The header of a packet of which `consumed` bytes of `length` are gone."""

    packet_type: int
    length: int
    consumed: int


PIPE_HEADER = FixedCodec(PIPE_HEADER_SCHEMA, PipeHeader)
PARTIAL_PIPE_HEADER = FixedCodec(PARTIAL_PIPE_HEADER_SCHEMA, PartialPipeHeader)
PIPE_HEADER_SIZE = PIPE_HEADER.size
