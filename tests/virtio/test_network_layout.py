"""The header before each frame: its five sizes, byte by byte, and the sizes of buffers.

Sources: OASIS VIRTIO 1.2, section 5.1.6; Linux include/uapi/linux/virtio_net.h.
"""

from __future__ import annotations

import pytest

from vmbus.virtio import (
    HASH_NETWORK_HEADER,
    LEGACY_NETWORK_HEADER,
    NETWORK_HEADER,
    NETWORK_HEADERS,
    OUTER_NETWORK_HEADER,
    TUNNEL_NETWORK_HEADER,
    GsoType,
    LegacyNetworkHeader,
    NetworkFeatures,
    NetworkHeader,
    NetworkHeaderFlags,
    OuterNetworkHeader,
    VirtioFeatures,
    control_queue_number,
    largest_received_frame,
    least_receive_buffer,
    network_header_size,
    receive_queue_number,
    transmit_queue_number,
)

V1 = int(VirtioFeatures.VERSION_1)
F = NetworkFeatures

#: Negotiated, and bytes of the header (4.1).
SIZES = {
    "VERSION_1": (V1, 12),
    "VERSION_1 with MRG_RXBUF": (V1 | F.MRG_RXBUF, 12),
    "legacy": (0, 10),
    "legacy with MRG_RXBUF": (F.MRG_RXBUF, 12),
    "HASH_REPORT": (V1 | F.HASH_REPORT, 20),
    "tunnels to the guest": (V1 | 1 << 65, 24),
    "tunnels to the host": (V1 | 1 << 67, 24),
    "tunnel checksums alone": (V1 | 1 << 66 | 1 << 68, 12),
    "tunnels and hash": (V1 | 1 << 65 | F.HASH_REPORT, 24),
    "outer header": (V1 | 1 << 69, 32),
    "everything": (V1 | 1 << 69 | 1 << 65 | F.HASH_REPORT | F.MRG_RXBUF, 32),
    "an unknown feature": (V1 | 1 << 100, 12),
}


@pytest.mark.parametrize(("features", "size"), SIZES.values(), ids=SIZES.keys())
def test_the_features_decide_the_size_of_the_header(features, size):
    assert network_header_size(features) == size


GOLDEN = {
    "CSUM and TSO4": (NetworkHeader(1, 1, 54, 1460, 34, 16, 1), "0101 3600 b405 2200 1000 0100"),
    "plain received": (NetworkHeader(num_buffers=1), "0000 0000 0000 0000 0000 0100"),
}


@pytest.mark.parametrize(("header", "wire"), GOLDEN.values(), ids=GOLDEN.keys())
def test_a_header_has_the_bytes_of_the_standard(header, wire):
    assert NETWORK_HEADER.pack(header) == bytes.fromhex(wire)
    assert NETWORK_HEADER.unpack(bytes.fromhex(wire)) == header


def test_every_size_has_its_header():
    assert list(NETWORK_HEADERS) == [10, 12, 20, 24, 32]


OFFSETS = {
    "flags": 0,
    "gso_type": 1,
    "header_length": 2,
    "gso_size": 4,
    "checksum_start": 6,
    "checksum_offset": 8,
    "num_buffers": 10,
    "hash_value": 12,
    "hash_report": 16,
    "outer_transport_offset": 20,
    "inner_network_offset": 22,
    "outer_network_offset": 24,
    "ipsec_resource_id": 26,
    "ipsec_resource_type": 30,
}


@pytest.mark.parametrize("size", NETWORK_HEADERS)
def test_a_field_is_at_its_place_in_every_header_that_has_it(size):
    expected = {name: offset for name, offset in OFFSETS.items() if offset < size}
    assert NETWORK_HEADERS[size].offsets == expected


@pytest.mark.parametrize("size", NETWORK_HEADERS)
def test_a_larger_header_has_the_smaller_ones_bytes_in_place(size):
    values = dict(zip(OFFSETS, range(0x11, 0x1F), strict=True))
    whole = OUTER_NETWORK_HEADER.pack(OuterNetworkHeader(**values))
    assert whole[18:20] == bytes(2)  # padding behind hash_report
    codec = NETWORK_HEADERS[size]
    header = codec.unpack(whole)
    assert header._asdict() == {name: values[name] for name in codec.offsets}
    assert codec.pack(header) == whole[:size]


@pytest.mark.parametrize("size", NETWORK_HEADERS)
def test_the_schema_parses_what_the_codec_packs(size):
    codec = NETWORK_HEADERS[size]
    data = codec.pack(codec.record(flags=0x82, gso_type=0x81, header_length=0x1234))
    parsed = codec.schema.parse(data)
    assert {name: parsed[name] for name in codec.offsets} == codec.unpack(data)._asdict()
    assert isinstance(parsed.flags, NetworkHeaderFlags) and isinstance(parsed.gso_type, GsoType)
    assert codec.schema.build(parsed) == data


def test_the_sizes_have_their_names():
    named = (
        LEGACY_NETWORK_HEADER,
        NETWORK_HEADER,
        HASH_NETWORK_HEADER,
        TUNNEL_NETWORK_HEADER,
        OUTER_NETWORK_HEADER,
    )
    assert [codec.size for codec in named] == list(NETWORK_HEADERS)
    assert LEGACY_NETWORK_HEADER.record is LegacyNetworkHeader


def test_flags_and_types_have_the_numbers_of_the_standard():
    assert [int(flag) for flag in NetworkHeaderFlags] == [1, 2, 4, 8, 16, 32, 64]
    assert [int(kind) for kind in GsoType] == [0, 1, 3, 4, 5, 0x20, 0x40, 0x80]


def test_unknown_flags_and_types_are_kept():
    assert int(NetworkHeaderFlags(0x81)) == 0x81
    assert GsoType(99) == 99 and GsoType(99).label == "unknown-99"
    assert NETWORK_HEADER.schema.parse(b"\x80\x02" + bytes(10)).flags == 0x80


@pytest.mark.parametrize("plain", [GsoType.NONE, GsoType.TCPV4, GsoType.UDP, GsoType.TCPV6, GsoType.UDP_L4])
@pytest.mark.parametrize("added", [0, 0x80, 0x20, 0x40, 0xE0])
def test_a_type_is_a_number_with_bits_added(plain, added):
    kind = GsoType(plain | added)
    assert kind.plain is plain
    assert kind.has_ecn is bool(added & 0x80)


BITS = {"CSUM": 0, "GUEST_CSUM": 1, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "GUEST_UFO": 10, "HOST_TSO4": 11}
BITS |= {"MRG_RXBUF": 15, "CTRL_VQ": 17, "MQ": 22, "HASH_REPORT": 57, "SPEED_DUPLEX": 63}
BITS |= {"GUEST_UDP_TUNNEL_GSO": 65, "HOST_UDP_TUNNEL_GSO": 67, "OUT_NET_HEADER": 69}


@pytest.mark.parametrize(("name", "bit"), BITS.items(), ids=BITS)
def test_a_feature_has_its_bit(name, bit):
    assert NetworkFeatures[name] == 1 << bit


#: Negotiated, and bytes of a receive buffer (4.1).
BUFFERS = {
    "plain": (V1, 1526),
    "plain legacy": (0, 1524),
    "large": (V1 | F.GUEST_TSO4, 65601),
    "large by UFO": (V1 | F.GUEST_UFO, 65601),
    "hash": (V1 | F.HASH_REPORT, 1534),
    "hash and large": (V1 | F.HASH_REPORT | F.GUEST_TSO6, 65609),
    "mergeable": (V1 | F.MRG_RXBUF, 12),
    "mergeable and large": (V1 | F.MRG_RXBUF | F.GUEST_TSO4, 12),
    "mergeable and hash": (V1 | F.MRG_RXBUF | F.HASH_REPORT, 20),
    "large for the host alone": (V1 | F.HOST_TSO4, 1526),
}


@pytest.mark.parametrize(("features", "size"), BUFFERS.values(), ids=BUFFERS.keys())
def test_a_receive_buffer_has_room_for_the_largest_frame_that_may_come(features, size):
    assert least_receive_buffer(features) == size


def test_a_frame_has_1514_bytes_or_65589():
    assert largest_received_frame(V1) == 1514
    assert largest_received_frame(V1 | F.GUEST_USO6) == 65589


def test_queues_come_in_pairs_with_the_control_queue_behind():
    numbers = [(receive_queue_number(pair), transmit_queue_number(pair)) for pair in range(3)]
    assert numbers == [(0, 1), (2, 3), (4, 5)]
    assert control_queue_number(3) == 6
