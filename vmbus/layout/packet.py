"""A packet in the data area: descriptor, what its type adds, payload, footer.

    +0                  descriptor                     16 bytes
    +16                 GPA-direct or transfer-page header and ranges, for those two types
    +data_offset8 * 8   payload, zero padded to a multiple of 8
    +length8 * 8        footer                         8 bytes, not counted in length8

Any of it may wrap at the end of the data area, at a multiple of 8.

Sources: Linux include/linux/hyperv.h, struct vmpacket_descriptor and enum vmbus_packet_type;
OpenVMM vmbus_ring/src/lib.rs, mod protocol.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from functools import lru_cache
from typing import NamedTuple

from construct import Int16ul, Int32ul, Int64ul, Struct

from vmbus.sizes import SLOT

from .codec import EnumField, FixedCodec, OpenIntEnum

__all__ = [
    "DESCRIPTOR_SIZE",
    "FOOTER",
    "FOOTER_SCHEMA",
    "FOOTER_SIZE",
    "GPA_DIRECT_HEADER",
    "GPA_DIRECT_HEADER_SCHEMA",
    "PACKET_DESCRIPTOR",
    "PACKET_DESCRIPTOR_SCHEMA",
    "PLAIN_DATA_OFFSET8",
    "SMALLEST_PACKET",
    "TRANSFER_PAGE_HEADER",
    "TRANSFER_PAGE_HEADER_SCHEMA",
    "Footer",
    "GpaDirectHeader",
    "PacketDescriptor",
    "PacketFlags",
    "PacketType",
    "TransferPageHeader",
    "whole_packet",
]


class PacketType(OpenIntEnum):
    """Every type that has a name; rings carry only four of them."""

    INVALID = 0
    SYNCH = 1
    ADD_TRANSFER_PAGE_SET = 2
    REMOVE_TRANSFER_PAGE_SET = 3
    ESTABLISH_GPADL = 4
    TEARDOWN_GPADL = 5
    IN_BAND = 6
    TRANSFER_PAGES = 7
    GPADL = 8
    GPA_DIRECT = 9
    CANCEL_REQUEST = 10
    COMPLETION = 11
    ADDITIONAL_PACKETS = 12
    ADDITIONAL_DATA = 13


class PacketFlags(IntFlag):
    """The flags of a descriptor."""

    COMPLETION_REQUESTED = 1


PACKET_DESCRIPTOR_SCHEMA = Struct(
    "type" / EnumField(Int16ul, PacketType),  # u16 type
    "data_offset8" / Int16ul,  # u16 offset8: payload start, in units of 8 bytes
    "length8" / Int16ul,  # u16 len8: packet length without footer, in units of 8 bytes
    "flags" / EnumField(Int16ul, PacketFlags),  # u16 flags
    "transaction_id" / Int64ul,  # u64 trans_id: the peer gives it back in the completion
)

GPA_DIRECT_HEADER_SCHEMA = Struct(
    "reserved" / Int32ul,  # may hold garbage
    "range_count" / Int32ul,
)

TRANSFER_PAGE_HEADER_SCHEMA = Struct(
    "transfer_page_set_id" / Int16ul,
    "reserved" / Int16ul,  # Linux: u8 sender_owns_set, u8 reserved; may hold garbage
    "range_count" / Int32ul,
)

FOOTER_SCHEMA = Struct(
    "reserved" / Int32ul,
    "packet_offset" / Int32ul,  # where this very packet starts in the data area
)


class PacketDescriptor(NamedTuple):
    """The first 16 bytes of a packet, as numbers."""

    type: int
    data_offset8: int
    length8: int
    flags: int
    transaction_id: int

    @property
    def data_offset(self) -> int:
        """Bytes from the packet's start to its payload."""
        return self.data_offset8 * SLOT

    @property
    def length(self) -> int:
        """Bytes of the packet without its footer."""
        return self.length8 * SLOT

    @property
    def packet_size(self) -> int:
        """Bytes of the packet with its footer: what it takes in the ring."""
        return self.length + FOOTER_SIZE


class GpaDirectHeader(NamedTuple):
    """What follows the descriptor of a GPA-direct packet; the ranges follow it."""

    reserved: int
    range_count: int


class TransferPageHeader(NamedTuple):
    """What follows the descriptor of a transfer-page packet; the ranges follow it."""

    transfer_page_set_id: int
    reserved: int
    range_count: int


class Footer(NamedTuple):
    """The last 8 bytes of a packet: they let a reader at its end find its start."""

    reserved: int
    packet_offset: int


PACKET_DESCRIPTOR = FixedCodec(PACKET_DESCRIPTOR_SCHEMA, PacketDescriptor)
GPA_DIRECT_HEADER = FixedCodec(GPA_DIRECT_HEADER_SCHEMA, GpaDirectHeader)
TRANSFER_PAGE_HEADER = FixedCodec(TRANSFER_PAGE_HEADER_SCHEMA, TransferPageHeader)
FOOTER = FixedCodec(FOOTER_SCHEMA, Footer)

DESCRIPTOR_SIZE = PACKET_DESCRIPTOR.size
FOOTER_SIZE = FOOTER.size

#: A descriptor and a footer with nothing between them.
SMALLEST_PACKET = DESCRIPTOR_SIZE + FOOTER_SIZE

#: Where the payload of an in-band or completion packet starts, in units of 8 bytes.
PLAIN_DATA_OFFSET8 = DESCRIPTOR_SIZE // SLOT


@lru_cache(maxsize=1024)
def whole_packet(packet_size: int) -> struct.Struct:
    """Descriptor, payload and footer of a packet without ranges, as one struct.

    packet_size   bytes of the whole packet, footer included: a multiple of 8

    A shorter payload is padded with zeros by the struct itself.

    >>> whole_packet(40).format
    '<HHHHQ16sLL'
    """
    payload = packet_size - SMALLEST_PACKET
    fields = PACKET_DESCRIPTOR.struct.format + f"{payload}s" + FOOTER.struct.format
    return struct.Struct("<" + fields.replace("<", ""))
