"""What a frame of a guest asks of its host: a new connection, a name, a datagram, or nothing special.

Only as much is checked as is needed to find the ports.  No checksum is verified; the version number,
fragments and the destination of the Ethernet header are not looked at, and extension headers of IPv6
not walked.  Whatever is not long enough, or not known, is PASSTHROUGH: the network stack deals with it.

Any bytes have an answer.  This runs once for each frame.

Sources: smolvm smolvm-network, its classifier and the first version of that; smoltcp src/wire, on
what makes a header valid.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from enum import Enum
from typing import NamedTuple, TypeAlias

from .packet_headers import (
    ETHERNET_HEADER,
    IPV4_HEADER,
    IPV6_HEADER,
    TCP_HEADER,
    UDP_HEADER,
    EtherType,
    IpProtocol,
    TcpFlags,
)

__all__ = [
    "DNS_PORT",
    "FABRIC_NETWORK",
    "Classified",
    "FrameClass",
    "IpEndpoint",
    "classify_frame",
    "classify_frame_early",
    "packed_addresses",
]

#: Where names are asked for.
DNS_PORT = 53

#: The first two bytes of every IPv4 address of a fabric; the third is the member's number.
FABRIC_NETWORK = bytes([100, 96])


class FrameClass(Enum):
    """What to do about a frame."""

    PASSTHROUGH = "for the stack as it is"
    TCP_SYN = "opens a connection"
    DNS_QUERY = "asks for a name"
    UDP_FLOW = "a datagram for somewhere else"
    UNSUPPORTED_UDP = "a datagram that cannot be passed on"
    FABRIC = "for another member of the fabric"


class IpEndpoint(NamedTuple):
    """An address, 4 or 16 bytes as on the wire, and a port."""

    address: bytes
    port: int

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address for people."""
        return ipaddress.ip_address(self.address)

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if len(self.address) == 16 else f"{self.ip}:{self.port}"


class Classified(NamedTuple):
    """What a frame is, and of TCP_SYN and all of UDP who sends it to whom.

    member   of FABRIC: the number of the member that it is for
    """

    frame_class: FrameClass
    source: IpEndpoint | None = None
    destination: IpEndpoint | None = None
    member: int | None = None


#: Of a packet: its protocol, where its payload begins and ends in the frame, source, destination.
Transport: TypeAlias = tuple[int, int, int, bytes, bytes]

PASSTHROUGH = Classified(FrameClass.PASSTHROUGH)

#: Sizes and places, and plain numbers: enums are slow to compare with, and records slow to make.
ETHERNET_SIZE = ETHERNET_HEADER.size
ETHERTYPE = ETHERNET_HEADER.offsets["ethertype"]
IPV4_SIZE = IPV4_HEADER.size
IPV6_SIZE = IPV6_HEADER.size
unpack_ipv4 = IPV4_HEADER.struct.unpack_from
unpack_ipv6 = IPV6_HEADER.struct.unpack_from
DESTINATION_PORT = TCP_HEADER.offsets["destination_port"]  # as in UDP
TCP_SIZE = TCP_HEADER.size
TCP_DATA_OFFSET = TCP_HEADER.offsets["data_offset"]
TCP_FLAGS = TCP_HEADER.offsets["flags"]
UDP_SIZE = UDP_HEADER.size
UDP_LENGTH = UDP_HEADER.offsets["length"]
IPV4 = int(EtherType.IPV4)
IPV6 = int(EtherType.IPV6)
TCP = int(IpProtocol.TCP)
UDP = int(IpProtocol.UDP)
SYN = int(TcpFlags.SYN)
RST = int(TcpFlags.RST)
ACK = int(TcpFlags.ACK)


def packed_addresses(*addresses: str) -> frozenset[bytes]:
    """Addresses as they are on the wire, of either version.

    >>> sorted(packed_addresses("100.96.0.1", "::1"), key=len)[0]
    b'd`\\x00\\x01'
    """
    return frozenset(ipaddress.ip_address(address).packed for address in addresses)


def classify_frame(
    frame: bytes, *, gateways: Container[bytes] = frozenset(), fabric_index: int | None = None
) -> Classified:
    """What a frame of a guest is, by the rules of today.

    gateways       the host's own addresses as the guest sees them, from `packed_addresses`: the local
                   name server listens there, so that a connection to it is not one to be relayed
    fabric_index   this guest's number in the fabric; None: there is no fabric

    The classes are PASSTHROUGH, TCP_SYN, DNS_QUERY, UDP_FLOW and FABRIC.
    """
    packet = find_transport(frame)
    if packet is None:
        return PASSTHROUGH
    protocol, start, end, source, destination = packet
    if fabric_index is not None and destination[:2] == FABRIC_NETWORK and len(destination) == 4:
        member = destination[2]
        if member != fabric_index and member:
            return Classified(FrameClass.FABRIC, member=member)
    if protocol == TCP:
        if tcp_flags(frame, start, end) & (SYN | ACK) != SYN:
            return PASSTHROUGH
        target = endpoint(destination, frame, start + DESTINATION_PORT)
        if target.port == DNS_PORT and destination in gateways:
            return PASSTHROUGH
        return Classified(FrameClass.TCP_SYN, endpoint(source, frame, start), target)
    if protocol == UDP and is_datagram(frame, start, end):
        target = endpoint(destination, frame, start + DESTINATION_PORT)
        kind = FrameClass.DNS_QUERY if target.port == DNS_PORT else FrameClass.UDP_FLOW
        return Classified(kind, endpoint(source, frame, start), target)
    return PASSTHROUGH


def classify_frame_early(frame: bytes) -> Classified:
    """What a frame is by the rules of the first version: IPv4 alone, and no datagrams but for names.

    The classes are PASSTHROUGH, TCP_SYN, DNS_QUERY and UNSUPPORTED_UDP.
    """
    packet = find_transport(frame)
    if packet is None:
        return PASSTHROUGH
    protocol, start, end, source, destination = packet
    if len(source) != 4:
        return PASSTHROUGH
    if protocol == TCP and tcp_flags(frame, start, end) & (SYN | ACK | RST) == SYN:
        kind = FrameClass.TCP_SYN
    elif protocol == UDP and is_datagram(frame, start, end):
        names = number(frame, start + DESTINATION_PORT) == DNS_PORT
        kind = FrameClass.DNS_QUERY if names else FrameClass.UNSUPPORTED_UDP
    else:
        return PASSTHROUGH
    target = endpoint(destination, frame, start + DESTINATION_PORT)
    return Classified(kind, endpoint(source, frame, start), target)


def number(frame: bytes, offset: int) -> int:
    """The 16-bit number there."""
    return frame[offset] << 8 | frame[offset + 1]


def endpoint(address: bytes, frame: bytes, offset: int) -> IpEndpoint:
    """An address with the port that stands at `offset`."""
    return IpEndpoint(address, number(frame, offset))


def find_transport(frame: bytes) -> Transport | None:
    """Where an IP packet's payload is; None for what is no valid IP packet."""
    available = len(frame) - ETHERNET_SIZE
    if available < 0:
        return None
    ethertype = number(frame, ETHERTYPE)
    if ethertype == IPV4:
        return find_in_ipv4(frame, available)
    if ethertype == IPV6:
        return find_in_ipv6(frame, available)
    return None


def find_in_ipv4(frame: bytes, available: int) -> Transport | None:
    if available < IPV4_SIZE:
        return None
    first, _, total_length, _, _, _, protocol, _, source, destination = unpack_ipv4(frame, ETHERNET_SIZE)
    header_length = (first & 0x0F) * 4
    if not IPV4_SIZE <= header_length <= total_length <= available:
        return None
    return protocol, ETHERNET_SIZE + header_length, ETHERNET_SIZE + total_length, source, destination


def find_in_ipv6(frame: bytes, available: int) -> Transport | None:
    if available < IPV6_SIZE:
        return None
    _, payload_length, next_header, _, source, destination = unpack_ipv6(frame, ETHERNET_SIZE)
    if IPV6_SIZE + payload_length > available:
        return None
    start = ETHERNET_SIZE + IPV6_SIZE
    return next_header, start, start + payload_length, source, destination


def tcp_flags(frame: bytes, start: int, end: int) -> int:
    """The flags of the segment there; 0 when it is not a valid one."""
    available = end - start
    if available < TCP_SIZE:
        return 0
    data_offset = (frame[start + TCP_DATA_OFFSET] >> 4) * 4
    return frame[start + TCP_FLAGS] if TCP_SIZE <= data_offset <= available else 0


def is_datagram(frame: bytes, start: int, end: int) -> bool:
    """Whether a valid datagram is there."""
    available = end - start
    return available >= UDP_SIZE and UDP_SIZE <= number(frame, start + UDP_LENGTH) <= available
