"""The headers inside a frame: Ethernet, IPv4, IPv6, TCP and UDP, as far as a classifier looks.

All numbers have their largest byte first.  Options and payload are not described: they follow.
Lengths and offsets are in bytes unless a field says otherwise.

Sources: IEEE 802.3; RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP).
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import Any, Generic, NamedTuple, TypeVar

from construct import Bytes, Int8ub, Int16ub, Int32ub, Struct

from vmbus.errors import CallerError
from vmbus.layout import OpenIntEnum

__all__ = [
    "ETHERNET_HEADER",
    "ETHERNET_HEADER_SCHEMA",
    "IPV4_HEADER",
    "IPV4_HEADER_SCHEMA",
    "IPV6_HEADER",
    "IPV6_HEADER_SCHEMA",
    "TCP_HEADER",
    "TCP_HEADER_SCHEMA",
    "UDP_HEADER",
    "UDP_HEADER_SCHEMA",
    "EtherType",
    "EthernetHeader",
    "HeaderCodec",
    "IPv4Header",
    "IPv6Header",
    "IpProtocol",
    "TcpFlags",
    "TcpHeader",
    "UdpHeader",
    "ethernet_frame",
]

Record = TypeVar("Record", bound="tuple[Any, ...]")


class EtherType(OpenIntEnum):
    """What a frame carries."""

    IPV4 = 0x0800
    ARP = 0x0806
    IPV6 = 0x86DD


class IpProtocol(OpenIntEnum):
    """What a packet carries."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58


class TcpFlags(IntFlag):
    """The flags of a segment, in the byte 13 of its header."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


ETHERNET_HEADER_SCHEMA = Struct(
    "destination" / Bytes(6),
    "source" / Bytes(6),
    "ethertype" / Int16ub,
)

IPV4_HEADER_SCHEMA = Struct(
    "version_and_length" / Int8ub,  # version in the high half; header length in words of 4 bytes
    "service" / Int8ub,
    "total_length" / Int16ub,  # of the packet, this header included
    "identification" / Int16ub,
    "fragment" / Int16ub,  # three flags, then the offset in units of 8 bytes
    "time_to_live" / Int8ub,
    "protocol" / Int8ub,
    "checksum" / Int16ub,
    "source" / Bytes(4),
    "destination" / Bytes(4),
)

IPV6_HEADER_SCHEMA = Struct(
    "version_and_flow" / Int32ub,
    "payload_length" / Int16ub,  # without this header
    "next_header" / Int8ub,
    "hop_limit" / Int8ub,
    "source" / Bytes(16),
    "destination" / Bytes(16),
)

TCP_HEADER_SCHEMA = Struct(
    "source_port" / Int16ub,
    "destination_port" / Int16ub,
    "sequence" / Int32ub,
    "acknowledgment" / Int32ub,
    "data_offset" / Int8ub,  # of the payload, in words of 4 bytes, in the high half
    "flags" / Int8ub,
    "window" / Int16ub,
    "checksum" / Int16ub,
    "urgent" / Int16ub,
)

UDP_HEADER_SCHEMA = Struct(
    "source_port" / Int16ub,
    "destination_port" / Int16ub,
    "length" / Int16ub,  # this header included
    "checksum" / Int16ub,
)


class EthernetHeader(NamedTuple):
    """Whom a frame is for, whom it is from, what it carries."""

    destination: bytes
    source: bytes
    ethertype: int


class IPv4Header(NamedTuple):
    """The first 20 bytes of a packet."""

    version_and_length: int
    service: int
    total_length: int
    identification: int
    fragment: int
    time_to_live: int
    protocol: int
    checksum: int
    source: bytes
    destination: bytes


class IPv6Header(NamedTuple):
    """The first 40 bytes of a packet."""

    version_and_flow: int
    payload_length: int
    next_header: int
    hop_limit: int
    source: bytes
    destination: bytes


class TcpHeader(NamedTuple):
    """The first 20 bytes of a segment."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    data_offset: int
    flags: int
    window: int
    checksum: int
    urgent: int


class UdpHeader(NamedTuple):
    """The 8 bytes of a datagram's header."""

    source_port: int
    destination_port: int
    length: int
    checksum: int


class HeaderCodec(Generic[Record]):
    """What vmbus.layout.FixedCodec is, for numbers with the largest byte first.

    >>> UDP_HEADER.pack(UdpHeader(1024, 53, 8, 0)).hex(" "), UDP_HEADER.offsets["length"]
    ('04 00 00 35 00 08 00 00', 4)
    """

    def __init__(self, schema: Any, record: type[Record]) -> None:
        self.schema = schema
        self.record = record
        self.offsets: dict[str, int] = {}
        letters = ">"
        for field in schema.subcons:
            self.offsets[field.name] = struct.calcsize(letters)
            core = field.subcon
            letters += f"{core.length}s" if isinstance(core, type(Bytes(0))) else core.fmtstr.lstrip(">")
        self.struct = struct.Struct(letters)
        self.size = self.struct.size
        if list(self.offsets) != list(getattr(record, "_fields", ())) or self.size != schema.sizeof():
            raise TypeError(f"no codec for {record.__name__}: the schema describes something else")

    def pack(self, record: Record) -> bytes:
        """The bytes of `record`."""
        return self.struct.pack(*record)

    def unpack(self, buffer: bytes | bytearray | memoryview, offset: int = 0) -> Record:
        """The record at `offset` in `buffer`."""
        return self.record._make(self.struct.unpack_from(buffer, offset))  # type: ignore[attr-defined, no-any-return]


ETHERNET_HEADER = HeaderCodec(ETHERNET_HEADER_SCHEMA, EthernetHeader)
IPV4_HEADER = HeaderCodec(IPV4_HEADER_SCHEMA, IPv4Header)
IPV6_HEADER = HeaderCodec(IPV6_HEADER_SCHEMA, IPv6Header)
TCP_HEADER = HeaderCodec(TCP_HEADER_SCHEMA, TcpHeader)
UDP_HEADER = HeaderCodec(UDP_HEADER_SCHEMA, UdpHeader)

#: Bytes of an Ethernet address.
ADDRESS_SIZE = ETHERNET_HEADER.offsets["source"]


def ethernet_frame(destination: bytes, source: bytes, payload: bytes, ethertype: int) -> bytes:
    """A frame: the header, then the payload as it is.

    Raises CallerError for an address that is not of six bytes.
    """
    for name, address in (("destination", destination), ("source", source)):
        if len(address) != ADDRESS_SIZE:
            raise CallerError(
                f"an Ethernet address has {ADDRESS_SIZE} bytes, not {len(address)}",
                argument=name,
                value=address,
                limit=ADDRESS_SIZE,
            )
    return ETHERNET_HEADER.pack(EthernetHeader(destination, source, ethertype)) + payload
