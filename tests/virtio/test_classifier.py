"""What the classifier makes of a frame: every row of its rules, at every edge, and any bytes at all.

The frames are made by hand (frame_maker), and so is the model that any bytes are compared with.

Sources: smolvm smolvm-network, its classifier; smoltcp src/wire.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import binary, booleans, data, integers, just, sampled_from, tuples

from tests.virtio.frame_maker import (
    ACK,
    ETHERNET,
    FIN,
    GOOD_FRAMES,
    GUEST,
    GUEST6,
    IPV4,
    IPV6,
    OTHER,
    OTHER6,
    RST,
    SYN,
    arp,
    changed,
    ethernet,
    icmp4,
    ip4,
    ip6,
    packed,
    tcp4,
    tcp6,
    udp,
    udp4,
    udp6,
)
from vmbus.virtio import (
    ETHERNET_HEADER,
    IPV4_HEADER,
    IPV6_HEADER,
    TCP_HEADER,
    UDP_HEADER,
    Classified,
    EtherType,
    FrameClass,
    HeaderCodec,
    IpEndpoint,
    NetworkPlan,
    UdpHeader,
    classify_frame,
    classify_frame_early,
    ethernet_frame,
    packed_addresses,
)

PASSTHROUGH = FrameClass.PASSTHROUGH
TCP_SYN = FrameClass.TCP_SYN
DNS_QUERY = FrameClass.DNS_QUERY
UDP_FLOW = FrameClass.UDP_FLOW
UNSUPPORTED = FrameClass.UNSUPPORTED_UDP
FABRIC = FrameClass.FABRIC

GATEWAY, GATEWAY6 = "100.96.0.1", "fd53:4d00::1"
GATEWAYS = packed_addresses(GATEWAY, GATEWAY6)

#: Where a header's parts are in a frame.
OF_TCP4 = ETHERNET + IPV4
OF_UDP6 = ETHERNET + IPV6


def kinds(frame, **options):
    """(today's class, the first version's)."""
    return classify_frame(frame, **options).frame_class, classify_frame_early(frame).frame_class


# -- each row of the rules: a frame, its class today, its class in the first version -----------

ROWS = {
    "ARP": (arp(), PASSTHROUGH, PASSTHROUGH),
    "ICMP": (icmp4(), PASSTHROUGH, PASSTHROUGH),
    "another protocol in IPv6": (ip6(bytes(40), 58), PASSTHROUGH, PASSTHROUGH),
    "SYN": (tcp4(), TCP_SYN, TCP_SYN),
    "SYN in IPv6": (tcp6(), TCP_SYN, PASSTHROUGH),
    "SYN and RST": (tcp4(flags=SYN | RST), TCP_SYN, PASSTHROUGH),
    "SYN and FIN": (tcp4(flags=SYN | FIN), TCP_SYN, TCP_SYN),
    "SYN and ACK": (tcp4(flags=SYN | ACK), PASSTHROUGH, PASSTHROUGH),
    "ACK": (tcp4(flags=ACK), PASSTHROUGH, PASSTHROUGH),
    "RST": (tcp4(flags=RST), PASSTHROUGH, PASSTHROUGH),
    "no flag": (tcp4(flags=0), PASSTHROUGH, PASSTHROUGH),
    "UDP to 53": (udp4(port=53), DNS_QUERY, DNS_QUERY),
    "UDP to 53 of the gateway": (udp4(destination=GATEWAY, port=53), DNS_QUERY, DNS_QUERY),
    "UDP to 53 in IPv6": (udp6(port=53), DNS_QUERY, PASSTHROUGH),
    "UDP from 53": (udp4(source_port=53), UDP_FLOW, UNSUPPORTED),
    "other UDP": (udp4(), UDP_FLOW, UNSUPPORTED),
    "other UDP in IPv6": (udp6(), UDP_FLOW, PASSTHROUGH),
    "UDP behind options": (udp4(options=bytes(40)), UDP_FLOW, UNSUPPORTED),
    "SYN with options": (tcp4(words=6, payload=bytes(4)), TCP_SYN, TCP_SYN),
    "bytes behind the packet": (tcp4() + bytes(6), TCP_SYN, TCP_SYN),
}


@pytest.mark.parametrize(("frame", "today", "early"), ROWS.values(), ids=ROWS.keys())
def test_a_frame_has_its_class(frame, today, early):
    assert kinds(frame, gateways=GATEWAYS) == (today, early)


MEMBERS = {
    "another member": ("100.96.5.2", 3, (FABRIC, 5)),
    "own subnet": ("100.96.3.1", 3, (TCP_SYN, None)),
    "subnet 0": ("100.96.0.2", 3, (TCP_SYN, None)),
    "no fabric": ("100.96.5.2", None, (TCP_SYN, None)),
    "fabric index 0": ("100.96.5.2", 0, (FABRIC, 5)),
    "the next network": ("100.97.5.2", 3, (TCP_SYN, None)),
    "another network": ("101.96.5.2", 3, (TCP_SYN, None)),
}


@pytest.mark.parametrize(("destination", "index", "expected"), MEMBERS.values(), ids=MEMBERS.keys())
def test_a_syn_to_the_fabric_is_for_its_member(destination, index, expected):
    found = classify_frame(tcp4(destination=destination), fabric_index=index)
    assert (found.frame_class, found.member) == expected


@pytest.mark.parametrize(
    "frame",
    [
        udp4(destination="100.96.5.2", port=53),
        icmp4(destination="100.96.5.2"),
        tcp4(destination="100.96.5.2", flags=ACK),
        ip4(b"", 99, destination="100.96.5.2"),
        ip4(bytes(3), 6, destination="100.96.5.2"),
    ],
    ids=["dns", "icmp", "data", "unknown protocol", "no whole segment"],
)
def test_the_fabric_comes_first_whatever_the_protocol(frame):
    gateways = packed_addresses("100.96.5.2")
    assert classify_frame(frame, gateways=gateways, fabric_index=3) == Classified(FABRIC, member=5)


def test_the_fabric_takes_no_packet_that_is_not_valid():
    frame = changed(udp4(destination="100.96.5.2"), ETHERNET + 2, b"\xff\xff")
    assert classify_frame(frame, fabric_index=3).frame_class is PASSTHROUGH


def test_the_fabric_is_of_ipv4_alone():
    frame = udp6(destination="6460:0500::1")  # the same first bytes: 100, 96, 5
    assert classify_frame(frame, fabric_index=3).frame_class is UDP_FLOW


NAME_SERVERS = {
    "gateway:53": (tcp4(destination=GATEWAY, port=53), PASSTHROUGH),
    "gateway:53 in IPv6": (tcp6(destination=GATEWAY6, port=53), PASSTHROUGH),
    "1.1.1.1:53": (tcp4(destination="1.1.1.1", port=53), TCP_SYN),
    "gateway:443": (tcp4(destination=GATEWAY, port=443), TCP_SYN),
}


@pytest.mark.parametrize(("frame", "expected"), NAME_SERVERS.values(), ids=NAME_SERVERS.keys())
def test_a_syn_to_the_local_name_server_is_not_relayed(frame, expected):
    assert classify_frame(frame, gateways=GATEWAYS).frame_class is expected


def test_the_first_version_relays_a_syn_to_the_gateways_name_server():
    assert classify_frame_early(tcp4(destination=GATEWAY, port=53)).frame_class is TCP_SYN


@pytest.mark.parametrize(
    ("frame", "source", "destination"),
    [
        (tcp4(), (GUEST, 4000), (OTHER, 443)),
        (udp4(port=53), (GUEST, 4000), (OTHER, 53)),
        (udp4(source_port=1, port=65535), (GUEST, 1), (OTHER, 65535)),
        (udp4(options=bytes(4)), (GUEST, 4000), (OTHER, 9999)),
        (tcp6(), (GUEST6, 4000), (OTHER6, 443)),
        (udp6(), (GUEST6, 4000), (OTHER6, 9999)),
    ],
    ids=["tcp4", "dns4", "udp4", "udp4 behind options", "tcp6", "udp6"],
)
def test_source_and_destination_are_told(frame, source, destination):
    found = classify_frame(frame)
    assert found.source == IpEndpoint(packed(source[0]), source[1])
    assert found.destination == IpEndpoint(packed(destination[0]), destination[1])
    if len(packed(source[0])) == 4:
        early = classify_frame_early(frame)
        assert (early.source, early.destination) == (found.source, found.destination)


def test_an_endpoint_is_written_as_people_do():
    assert str(classify_frame(tcp4()).destination) == f"{OTHER}:443"
    assert str(classify_frame(tcp6()).source) == f"[{GUEST6}]:4000"


# -- validity: the last good value and the first bad one of every length -----------------------


def udp_with_length(length, payload=b"hello"):
    return udp4(payload=payload, length=length)


EDGES = {
    "Ethernet: 13 bytes": (udp4()[:13], False),
    "Ethernet alone": (udp4()[:14], False),
    "IPv4: 19 bytes": (ethernet(udp4()[14:33]), False),
    "IPv4: header of 16 bytes": (changed(udp4(), 14, b"\x44"), False),
    "IPv4: header of 0 bytes": (changed(udp4(), 14, b"\x40"), False),
    "IPv4: total length below the header": (udp4(total=19), False),
    "IPv4: total length is the header": (udp4(total=20), False),
    "IPv4: total length of all but a byte of UDP's header": (udp4(payload=b"", total=27), False),
    "IPv4: total length of UDP's header": (udp4(payload=b"", total=28), True),
    "IPv4: total length is all": (udp4(total=33), True),
    "IPv4: total length is one more": (udp4(total=34), False),
    "IPv4: header longer than the packet": (changed(udp4(), 14, b"\x4f"), False),
    "IPv4: cut by a byte": (udp4()[:-1], False),
    "IPv6: 39 bytes": (udp6()[: 14 + 39], False),
    "IPv6: nothing behind the header": (ip6(b"", 17), False),
    "IPv6: payload length one more": (changed(udp6(), 18, b"\0\x0e"), False),
    "IPv6: payload length is all": (changed(udp6(), 18, b"\0\x0d"), True),
    "IPv6: payload length below UDP's": (changed(udp6(), 18, b"\0\x0c"), False),
    "IPv6: payload length of 7": (changed(udp6(payload=b""), 18, b"\0\x07"), False),
    "UDP: length of 7": (udp_with_length(7), False),
    "UDP: length of 8": (udp_with_length(8), True),
    "UDP: length is all": (udp_with_length(13), True),
    "UDP: length is one more": (udp_with_length(14), False),
    "UDP: length of 0": (udp_with_length(0), False),
    "UDP: length beyond the packet, within the frame": (udp_with_length(14) + bytes(8), False),
    "UDP: 7 bytes": (ip4(udp(GUEST, OTHER, 1, 2, b"")[:7], 17), False),
    "UDP: nothing": (ip4(b"", 17), False),
    "UDP: 5 bytes": (ip4(bytes(5), 17), False),
    "TCP: nothing": (ip4(b"", 6), False),
    "TCP: 13 bytes": (ip4(bytes(13), 6), False),
    "TCP: 19 bytes": (ip4(tcp4()[OF_TCP4:][:19], 6), False),
    "TCP: 20 bytes": (tcp4(), True),
    "TCP: data offset of 16": (tcp4(words=4), False),
    "TCP: data offset of 24 in 20 bytes": (tcp4(words=6), False),
    "TCP: data offset of 24 in 23 bytes": (tcp4(words=6, payload=bytes(3)), False),
    "TCP: data offset of 60": (tcp4(words=15, payload=bytes(40)), True),
    "TCP: data offset beyond the packet, within the frame": (tcp4(words=6) + bytes(8), False),
}


@pytest.mark.parametrize(("frame", "valid"), EDGES.values(), ids=EDGES.keys())
def test_what_is_not_long_enough_passes_through(frame, valid):
    today, early = kinds(frame)
    assert (today is not PASSTHROUGH) is valid
    if frame[12:14] != b"\x86\xdd":
        assert (early is not PASSTHROUGH) is valid


IGNORED = {
    "no destination of the Ethernet header": changed(tcp4(), 0, b"\xff" * 6),
    "no version": changed(tcp4(), 14, b"\xf5"),
    "no fragment offset": changed(tcp4(), 20, b"\x3f\xff"),
    "no checksum of IPv4": changed(tcp4(), 24, b"\0\0"),
    "no checksum of TCP": changed(tcp4(), OF_TCP4 + 16, b"\0\0"),
    "no version of IPv6": changed(tcp6(), 14, b"\x45"),
}


@pytest.mark.parametrize("frame", IGNORED.values(), ids=IGNORED.keys())
def test_what_is_not_looked_at_changes_nothing(frame):
    assert classify_frame(frame).frame_class is TCP_SYN


def test_extension_headers_are_not_walked():
    hop_by_hop = bytes([17, 0]) + bytes(6)
    frame = ip6(hop_by_hop + udp6()[OF_UDP6:], 0)
    assert classify_frame(frame).frame_class is PASSTHROUGH


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("frame", GOOD_FRAMES.values(), ids=GOOD_FRAMES.keys())
def test_any_buffer_is_classified_alike(kind, frame):
    options = {"gateways": GATEWAYS, "fabric_index": 1}
    assert classify_frame(kind(frame), **options) == classify_frame(frame, **options)


# -- any bytes ---------------------------------------------------------------------------------


def by_slices(frame, gateways, fabric_index):
    """The rules once more, slowly, by cutting the frame down layer by layer."""
    packet = frame[14:]
    if len(frame) < 14:
        return PASSTHROUGH
    if frame[12:14] == b"\x08\x00" and len(packet) >= 20:
        header, total = packet[0] % 16 * 4, int.from_bytes(packet[2:4], "big")
        if header < 20 or header > total or total > len(packet):
            return PASSTHROUGH
        protocol, destination, segment = packet[9], packet[16:20], packet[:total][header:]
        in_fabric = fabric_index is not None and destination[:2] == b"\x64\x60"
        if in_fabric and destination[2] not in (0, fabric_index):
            return FABRIC
    elif frame[12:14] == b"\x86\xdd" and len(packet) >= 40:
        length = int.from_bytes(packet[4:6], "big")
        if 40 + length > len(packet):
            return PASSTHROUGH
        protocol, destination, segment = packet[6], packet[24:40], packet[40 : 40 + length]
    else:
        return PASSTHROUGH
    port = int.from_bytes(segment[2:4], "big")
    if protocol == 6 and len(segment) >= 20 and 20 <= segment[12] // 16 * 4 <= len(segment):
        opens = segment[13] & 0x02 and not segment[13] & 0x10
        return TCP_SYN if opens and not (port == 53 and destination in gateways) else PASSTHROUGH
    if protocol == 17 and len(segment) >= 8 and 8 <= int.from_bytes(segment[4:6], "big") <= len(segment):
        return DNS_QUERY if port == 53 else UDP_FLOW
    return PASSTHROUGH


SETTINGS = [({}, frozenset(), None), ({"fabric_index": 1}, frozenset(), 1)]
SETTINGS += [({"gateways": GATEWAYS, "fabric_index": 0}, GATEWAYS, 0)]


def check_against_model(frame):
    for options, gateways, index in SETTINGS:
        assert classify_frame(frame, **options).frame_class is by_slices(frame, gateways, index)
    classify_frame_early(frame)


@pytest.mark.parametrize("frame", [*GOOD_FRAMES.values(), *(frame for frame, *_ in ROWS.values())])
def test_the_model_agrees_on_good_frames(frame):
    check_against_model(frame)


@pytest.mark.parametrize("frame", GOOD_FRAMES.values(), ids=GOOD_FRAMES.keys())
def test_a_frame_cut_anywhere_has_an_answer(frame):
    for end in range(len(frame)):
        check_against_model(frame[:end])


@settings(max_examples=200, deadline=None)
@given(binary(max_size=120))
@example(b"")
def test_any_bytes_have_an_answer(frame):
    check_against_model(frame)


@settings(max_examples=200, deadline=None)
@given(sampled_from([b"\x08\x00", b"\x86\xdd"]), binary(min_size=20, max_size=90))
def test_any_packet_has_an_answer(ethertype, packet):
    check_against_model(bytes(12) + ethertype + packet)


#: The places of a frame that decide, of both versions.
DECIDING = [
    12,
    13,
    14,
    16,
    17,
    18,
    19,
    20,
    23,
    30,
    31,
    32,
    33,
    36,
    37,
    38,
    39,
    46,
    47,
    56,
    57,
    58,
    59,
    66,
    67,
]


@settings(max_examples=250, deadline=None)
@given(data())
def test_a_good_frame_with_bytes_changed_has_an_answer(data):
    frame = bytearray(data.draw(sampled_from(sorted(GOOD_FRAMES.values()))))
    for _ in range(data.draw(integers(1, 3))):
        place = data.draw(sampled_from(DECIDING) | integers(0, len(frame) - 1))
        if place < len(frame):
            frame[place] = data.draw(
                sampled_from([0, 1, 5, 6, 7, 8, 17, 20, 53, 69, 96, 100]) | integers(0, 255)
            )
    padding = data.draw(integers(-4, 8))
    check_against_model(bytes(frame)[: len(frame) + min(padding, 0)] + bytes(max(padding, 0)))


def segments(draw):
    """The beginning of a segment or a datagram, with the lengths in it near what is there."""
    segment = bytearray(draw(integers(0, 26)))
    for places, values in {
        (2, 3): just((0, 53)) | just((1, 187)),
        (4, 5): integers(5, 28).map(lambda length: (0, length)),
        (12, 13): tuples(sampled_from([0x40, 0x50, 0x60]), sampled_from([0x02, 0x06, 0x12, 0x10])),
    }.items():
        for place, value in zip(places, draw(values), strict=True):
            if place < len(segment):
                segment[place] = value
    return bytes(segment)


@settings(max_examples=250, deadline=None)
@given(data())
def test_a_packet_with_lengths_near_the_truth_has_an_answer(data):
    segment, protocol = segments(data.draw), data.draw(sampled_from([6, 17]))
    off_by = data.draw(sampled_from([0, 0, 0, -1, 1, 4]))
    padding = bytes(data.draw(integers(0, 6)))
    if data.draw(booleans()):
        destination = data.draw(sampled_from([OTHER, GATEWAY, "100.96.5.2", "100.96.1.2"]))
        total = max(0, 20 + len(segment) + off_by)
        check_against_model(ip4(segment, protocol, destination=destination, total=total) + padding)
    else:
        length = max(0, len(segment) + off_by)
        check_against_model(ip6(segment, protocol, destination=GATEWAY6, length=length) + padding)


# -- the headers and the defaults --------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "size"),
    [(ETHERNET_HEADER, 14), (IPV4_HEADER, 20), (IPV6_HEADER, 40), (TCP_HEADER, 20), (UDP_HEADER, 8)],
    ids=["ethernet", "ipv4", "ipv6", "tcp", "udp"],
)
def test_the_schema_and_the_codec_agree(codec, size):
    image = bytes(range(0x40, 0x40 + size))
    parsed = codec.schema.parse(image)
    record = codec.unpack(image)
    assert codec.size == size == codec.schema.sizeof()
    assert {name: parsed[name] for name in codec.offsets} == record._asdict()
    assert codec.pack(record) == image == codec.schema.build(record._asdict())


def test_a_header_read_from_a_frame_says_what_was_written():
    frame = tcp4(source_port=0x1234, port=0x5678)
    ip = IPV4_HEADER.unpack(frame, 14)
    assert (ip.protocol, ip.total_length, ip.destination) == (6, 40, packed(OTHER))
    tcp = TCP_HEADER.unpack(frame, 34)
    assert (tcp.source_port, tcp.destination_port, tcp.flags, tcp.data_offset) == (0x1234, 0x5678, SYN, 0x50)


def test_a_record_of_other_fields_gets_no_codec():
    with pytest.raises(TypeError, match="no codec for UdpHeader"):
        HeaderCodec(TCP_HEADER.schema, UdpHeader)


def test_a_frame_is_put_together():
    frame = ethernet_frame(b"\x02" * 6, b"\x04" * 6, b"payload", EtherType.ARP)
    assert frame == b"\x02" * 6 + b"\x04" * 6 + b"\x08\x06" + b"payload"


@pytest.mark.parametrize("at", [0, 1])
def test_an_address_of_five_bytes_is_refused(at):
    addresses = [bytes(6), bytes(6)]
    addresses[at] = bytes(5)
    with pytest.raises(ValueError, match="has 6 bytes, not 5"):
        ethernet_frame(*addresses, b"", 0)


def test_the_defaults_are_these():
    plan = NetworkPlan()
    assert [str(one) for one in (plan.guest, plan.gateway)] == ["100.96.0.2/30", "100.96.0.1/30"]
    assert [str(one) for one in (plan.guest_v6, plan.gateway_v6)] == ["fd53:4d00::2/64", "fd53:4d00::1/64"]
    assert plan.guest_mac.hex(":") == "02:53:4d:00:00:02"
    assert plan.gateway_mac.hex(":") == "02:53:4d:00:00:01"
    assert (plan.mtu, str(plan.name_server)) == (1500, "1.1.1.1")
    assert (plan.tcp_connections, plan.udp_sockets, plan.udp_flows) == (256, 128, 1024)
    assert (plan.dns_slots, plan.dns_buffer, plan.dns_pending) == (8, 2048, 512)
    assert plan.gateways == GATEWAYS


def test_a_packet_from_the_fabric_gets_a_header_for_the_guest():
    packet = tcp4()[14:]
    frame = NetworkPlan().frame_from_fabric(packet)
    assert frame == bytes.fromhex("02534d000002 02534d000001 0800") + packet
