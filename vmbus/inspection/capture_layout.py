"""The shape of capture files: pcap, and pcapng with the blocks that hold packets.

All of it stands here, for writers and readers; `order` is the byte order of a file or of a section: "<" or
">".  A pcapng block is a type, its length, a body and the length again, in multiples of 4 bytes; an
option is a code, a length and a value, padded likewise, and code 0 ends the options.

Sources: IETF drafts draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng; tcpdump.org, link types.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

__all__ = [
    "BYTE_ORDER_MAGIC",
    "FORMS",
    "LARGEST_SNAP_LENGTH",
    "LINKTYPE_USER0",
    "LINKTYPE_WIRESHARK_UPPER_PDU",
    "NANOSECONDS",
    "PCAP_UNITS",
    "BlockType",
    "Direction",
    "Forms",
    "Option",
    "PacketOption",
    "padded_size",
]

#: The first of the link types that everybody may use for what they like.
LINKTYPE_USER0 = 147

#: Tags that say what a payload is, and the payload: Wireshark's "exported PDU".
LINKTYPE_WIRESHARK_UPPER_PDU = 252

#: The most bytes of a packet that common readers take.
LARGEST_SNAP_LENGTH = 262144

#: Units of time in a second.
NANOSECONDS = 1_000_000_000

#: The first 4 bytes of a pcap file as a number, and the units of time in a second that they promise.
PCAP_UNITS = {0xA1B2C3D4: 1_000_000, 0xA1B23C4D: NANOSECONDS}

#: A section's byte order, behind type and length of its first block.
BYTE_ORDER_MAGIC = 0x1A2B3C4D


class BlockType(IntEnum):
    """The blocks of a pcapng file that matter here; SECTION reads the same in either byte order."""

    INTERFACE = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECTION = 0x0A0D0D0A


class Option(IntEnum):
    """The options that are read or written; those above COMMENT belong to one type of block."""

    END = 0
    COMMENT = 1
    SECTION_APPLICATION = 4
    INTERFACE_NAME = 2
    INTERFACE_DESCRIPTION = 3
    INTERFACE_TIME_RESOLUTION = 9
    INTERFACE_TIME_OFFSET = 14


class PacketOption(IntEnum):
    """Those of an enhanced packet block alone; FLAGS is a word whose low two bits are a Direction."""

    FLAGS = 2


class Direction(IntEnum):
    """Which way a packet went, seen from where it was captured."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


class Forms(NamedTuple):
    """Every structure in one byte order.

    pcap_header       magic, major and minor version, time zone, accuracy, snap length, link type
    pcap_record       seconds, units, bytes captured, bytes that there were
    word              type or length of a block
    block             type, length
    section           byte order magic, major and minor version, length of the section
    interface         link type, reserved, snap length
    enhanced_packet   interface, upper and lower half of the time, bytes captured, bytes that there were
    old_packet        interface, drops, and then as enhanced_packet
    simple_packet     bytes that there were
    option            code, length
    time_offset       seconds
    """

    pcap_header: Struct
    pcap_record: Struct
    word: Struct
    block: Struct
    section: Struct
    interface: Struct
    enhanced_packet: Struct
    old_packet: Struct
    simple_packet: Struct
    option: Struct
    time_offset: Struct

    @classmethod
    def of(cls, order: str) -> Forms:
        letters = ("IHHiIII", "IIII", "I", "II", "IHHq", "HHI", "IIIII", "HHIIII", "I", "HH", "q")
        return cls(*(Struct(order + fields) for fields in letters))


FORMS = {order: Forms.of(order) for order in "<>"}


def padded_size(size: int) -> int:
    """What `size` bytes take in a pcapng file.

    >>> padded_size(5), padded_size(8)
    (8, 8)
    """
    return (size + 3) // 4 * 4
