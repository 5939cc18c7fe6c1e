"""Virtio network: what stands before each frame in a queue, and how large buffers must be.

Every frame, in both directions, has a header of one of five sizes, which the features decide.  Sizes
are cumulative: a larger header has the smaller one's bytes in place, also where the feature that
brought them is off.

    10   legacy devices without MRG_RXBUF
    12   num_buffers as well: all devices that are not legacy
    20   HASH_REPORT
    24   UDP tunnels
    32   the outer network header, in a draft of VIRTIO 1.4 that may still change

All numbers are little-endian.  A legacy device uses the guest's own order, which is taken for that
one: guests of the other order are not supported.  Sizes and offsets are in bytes.

Sources: OASIS VIRTIO 1.2, sections 5.1.2, 5.1.3 and 5.1.6; of tunnels VIRTIO 1.3 and of the outer
header the draft of 1.4; Linux include/uapi/linux/virtio_net.h.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple

from construct import Int8ul, Int16ul, Int32ul, Padding, Struct

from vmbus.layout import EnumField, FixedCodec, OpenIntEnum

from .layout import VirtioFeatures

__all__ = [
    "ETHERNET_HEADER_SIZE",
    "HASH_NETWORK_HEADER",
    "HASH_NETWORK_HEADER_SCHEMA",
    "LARGEST_MERGED_FRAME",
    "LARGEST_PLAIN_FRAME",
    "LEGACY_NETWORK_HEADER",
    "LEGACY_NETWORK_HEADER_SCHEMA",
    "NETWORK_HEADER",
    "NETWORK_HEADERS",
    "NETWORK_HEADER_SCHEMA",
    "OUTER_NETWORK_HEADER",
    "OUTER_NETWORK_HEADER_SCHEMA",
    "TUNNEL_NETWORK_HEADER",
    "TUNNEL_NETWORK_HEADER_SCHEMA",
    "GsoType",
    "HashNetworkHeader",
    "LegacyNetworkHeader",
    "NetworkFeatures",
    "NetworkHeader",
    "NetworkHeaderFlags",
    "OuterNetworkHeader",
    "TunnelNetworkHeader",
    "control_queue_number",
    "largest_received_frame",
    "least_receive_buffer",
    "network_header_codec",
    "network_header_size",
    "receive_queue_number",
    "transmit_queue_number",
]

#: Destination, source and type.
ETHERNET_HEADER_SIZE = 14

#: A frame of a packet of 1,500 bytes.
LARGEST_PLAIN_FRAME = ETHERNET_HEADER_SIZE + 1500

#: A frame that was put together of many: an IPv6 header, and all that it can count behind it.
LARGEST_MERGED_FRAME = ETHERNET_HEADER_SIZE + 40 + 65535


class NetworkFeatures(IntFlag):
    """The feature bits of a network device.  GUEST: what a driver takes.  HOST: what a device takes."""

    CSUM = 1 << 0
    GUEST_CSUM = 1 << 1
    CTRL_GUEST_OFFLOADS = 1 << 2
    MTU = 1 << 3
    MAC = 1 << 5
    GUEST_TSO4 = 1 << 7
    GUEST_TSO6 = 1 << 8
    GUEST_ECN = 1 << 9
    GUEST_UFO = 1 << 10
    HOST_TSO4 = 1 << 11
    HOST_TSO6 = 1 << 12
    HOST_ECN = 1 << 13
    HOST_UFO = 1 << 14
    MRG_RXBUF = 1 << 15
    STATUS = 1 << 16
    CTRL_VQ = 1 << 17
    CTRL_RX = 1 << 18
    CTRL_VLAN = 1 << 19
    GUEST_ANNOUNCE = 1 << 21
    MQ = 1 << 22
    CTRL_MAC_ADDR = 1 << 23
    GUEST_USO4 = 1 << 54
    GUEST_USO6 = 1 << 55
    HOST_USO = 1 << 56
    HASH_REPORT = 1 << 57
    GUEST_HDRLEN = 1 << 59
    RSS = 1 << 60
    RSC_EXT = 1 << 61
    STANDBY = 1 << 62
    SPEED_DUPLEX = 1 << 63
    GUEST_UDP_TUNNEL_GSO = 1 << 65
    GUEST_UDP_TUNNEL_GSO_CSUM = 1 << 66
    HOST_UDP_TUNNEL_GSO = 1 << 67
    HOST_UDP_TUNNEL_GSO_CSUM = 1 << 68
    OUT_NET_HEADER = 1 << 69


# Plain numbers: an IntFlag costs a microsecond an operation.
VERSION_1 = int(VirtioFeatures.VERSION_1)
MRG_RXBUF = int(NetworkFeatures.MRG_RXBUF)
HASH_REPORT = int(NetworkFeatures.HASH_REPORT)
OUT_NET_HEADER = int(NetworkFeatures.OUT_NET_HEADER)
TUNNELS = int(NetworkFeatures.GUEST_UDP_TUNNEL_GSO | NetworkFeatures.HOST_UDP_TUNNEL_GSO)

#: With one of these a device may hand over frames larger than LARGEST_PLAIN_FRAME.
LARGE_RECEIVE = int(
    NetworkFeatures.GUEST_TSO4
    | NetworkFeatures.GUEST_TSO6
    | NetworkFeatures.GUEST_UFO
    | NetworkFeatures.GUEST_USO4
    | NetworkFeatures.GUEST_USO6
    | NetworkFeatures.GUEST_UDP_TUNNEL_GSO
)


class NetworkHeaderFlags(IntFlag):
    """What else is to be known of a frame.  The last three are of the draft of VIRTIO 1.4."""

    NEEDS_CSUM = 1
    DATA_VALID = 2
    RSC_INFO = 4
    UDP_TUNNEL_CSUM = 8
    SECURITY = 16
    SECURITY_ERROR = 32
    SECURITY_SOFT_EXPIRY = 64


class GsoType(OpenIntEnum):
    """How a large frame is to be cut into packets.

    One of the first five, which are numbers and no bits, perhaps with bits of the last three added.

    >>> GsoType(0x81).label, GsoType(0x81).plain.label, GsoType(0x81).has_ecn
    ('unknown-129', 'tcpv4', True)
    """

    NONE = 0
    TCPV4 = 1
    UDP = 3
    TCPV6 = 4
    UDP_L4 = 5
    UDP_TUNNEL_IPV4 = 0x20
    UDP_TUNNEL_IPV6 = 0x40
    ECN = 0x80

    @property
    def plain(self) -> GsoType:
        """The number without the added bits."""
        return GsoType(self & ~(GsoType.UDP_TUNNEL_IPV4 | GsoType.UDP_TUNNEL_IPV6 | GsoType.ECN))

    @property
    def has_ecn(self) -> bool:
        """Whether congestion notification is in the packet."""
        return bool(self & GsoType.ECN)


#: Every field that a header can have, in order, by the size of the header that has it first.
FIELDS: dict[int, list[Any]] = {
    10: [
        "flags" / EnumField(Int8ul, NetworkHeaderFlags),  # u8 flags
        "gso_type" / EnumField(Int8ul, GsoType),  # u8 gso_type
        "header_length" / Int16ul,  # le16 hdr_len: of all headers, for whoever cuts the frame
        "gso_size" / Int16ul,  # le16 gso_size: payload of each piece
        "checksum_start" / Int16ul,  # le16 csum_start: where to begin to sum
        "checksum_offset" / Int16ul,  # le16 csum_offset: from there to the checksum's place
    ],
    12: ["num_buffers" / Int16ul],  # le16 num_buffers: chains that one received frame takes
    20: [
        "hash_value" / Int32ul,  # le32 hash_value
        "hash_report" / Int16ul,  # le16 hash_report: what was hashed
        Padding(2),  # le16 padding_reserved
    ],
    24: [
        "outer_transport_offset" / Int16ul,  # le16 outer_th_offset
        "inner_network_offset" / Int16ul,  # le16 inner_nh_offset
    ],
    32: [
        "outer_network_offset" / Int16ul,  # le16 outer_nh_offset
        "ipsec_resource_id" / Int32ul,  # le32 resource_id; reserved without IPsec
        "ipsec_resource_type" / Int16ul,  # le16 resource_type, likewise
    ],
}


def header_schema(size: int) -> Any:
    """The schema of the header of that size: all fields of the smaller ones, then its own."""
    return Struct(*(field for first, fields in FIELDS.items() if first <= size for field in fields))


LEGACY_NETWORK_HEADER_SCHEMA = header_schema(10)
NETWORK_HEADER_SCHEMA = header_schema(12)
HASH_NETWORK_HEADER_SCHEMA = header_schema(20)
TUNNEL_NETWORK_HEADER_SCHEMA = header_schema(24)
OUTER_NETWORK_HEADER_SCHEMA = header_schema(32)


class LegacyNetworkHeader(NamedTuple):
    """The header of 10 bytes."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0


class NetworkHeader(NamedTuple):
    """The header of 12 bytes."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0
    num_buffers: int = 0


class HashNetworkHeader(NamedTuple):
    """The header of 20 bytes."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0
    num_buffers: int = 0
    hash_value: int = 0
    hash_report: int = 0


class TunnelNetworkHeader(NamedTuple):
    """The header of 24 bytes."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0
    num_buffers: int = 0
    hash_value: int = 0
    hash_report: int = 0
    outer_transport_offset: int = 0
    inner_network_offset: int = 0


class OuterNetworkHeader(NamedTuple):
    """The header of 32 bytes."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0
    num_buffers: int = 0
    hash_value: int = 0
    hash_report: int = 0
    outer_transport_offset: int = 0
    inner_network_offset: int = 0
    outer_network_offset: int = 0
    ipsec_resource_id: int = 0
    ipsec_resource_type: int = 0


LEGACY_NETWORK_HEADER = FixedCodec(LEGACY_NETWORK_HEADER_SCHEMA, LegacyNetworkHeader)
NETWORK_HEADER = FixedCodec(NETWORK_HEADER_SCHEMA, NetworkHeader)
HASH_NETWORK_HEADER = FixedCodec(HASH_NETWORK_HEADER_SCHEMA, HashNetworkHeader)
TUNNEL_NETWORK_HEADER = FixedCodec(TUNNEL_NETWORK_HEADER_SCHEMA, TunnelNetworkHeader)
OUTER_NETWORK_HEADER = FixedCodec(OUTER_NETWORK_HEADER_SCHEMA, OuterNetworkHeader)

#: Every header by its size.
NETWORK_HEADERS: dict[int, FixedCodec[Any]] = {
    codec.size: codec
    for codec in (
        LEGACY_NETWORK_HEADER,
        NETWORK_HEADER,
        HASH_NETWORK_HEADER,
        TUNNEL_NETWORK_HEADER,
        OUTER_NETWORK_HEADER,
    )
}


def network_header_codec(features: int) -> FixedCodec[Any]:
    """The header that stands before each frame under these features.

    features   all that were negotiated, those of the queues included
    """
    if features & OUT_NET_HEADER:
        return OUTER_NETWORK_HEADER
    if features & TUNNELS:
        return TUNNEL_NETWORK_HEADER
    if features & HASH_REPORT:
        return HASH_NETWORK_HEADER
    if features & (VERSION_1 | MRG_RXBUF):
        return NETWORK_HEADER
    return LEGACY_NETWORK_HEADER


def network_header_size(features: int) -> int:
    """Bytes of that header.

    >>> network_header_size(VirtioFeatures.VERSION_1), network_header_size(0)
    (12, 10)
    """
    return network_header_codec(features).size


def largest_received_frame(features: int) -> int:
    """Bytes of the largest frame that a device may hand over under these features."""
    return LARGEST_MERGED_FRAME if features & LARGE_RECEIVE else LARGEST_PLAIN_FRAME


def least_receive_buffer(features: int) -> int:
    """The bytes that each of a driver's receive buffers must have at the least.

    Without MRG_RXBUF a frame has one buffer, which must have room for the largest; with it a frame
    goes on in the next one, and only the header must fit.

    >>> least_receive_buffer(VirtioFeatures.VERSION_1)
    1526
    >>> least_receive_buffer(VirtioFeatures.VERSION_1 | NetworkFeatures.MRG_RXBUF)
    12
    """
    size = network_header_size(features)
    return size if features & MRG_RXBUF else size + largest_received_frame(features)


def receive_queue_number(pair: int) -> int:
    """Which of a device's queues has the frames for the driver, of the pair number `pair`."""
    return 2 * pair


def transmit_queue_number(pair: int) -> int:
    """Which has the frames of the driver."""
    return 2 * pair + 1


def control_queue_number(pairs: int) -> int:
    """Which takes commands: the one behind all `pairs` pairs."""
    return 2 * pairs
