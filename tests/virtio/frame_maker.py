"""Frames by hand: Ethernet, IPv4, IPv6, TCP, UDP and ARP with plain `struct`, checksums included.

Nothing here comes from vmbus.virtio: the formats are stated once more.  Every maker takes what a test
wants to be wrong: a length, a flag, a header with options.

    udp4(source="100.96.0.2", destination="1.1.1.1", destination_port=53, payload=b"name?")
    tcp4(flags=SYN)

Sources: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 826, RFC 1071.
"""

from __future__ import annotations

import ipaddress
import struct

ACK = 0x10
FIN = 0x01
RST = 0x04
SYN = 0x02

GUEST_MAC = bytes.fromhex("02534d000002")
GATEWAY_MAC = bytes.fromhex("02534d000001")

GUEST, OTHER = "100.96.0.2", "93.184.216.34"
GUEST6, OTHER6 = "fd53:4d00::2", "2606:2800::1"

#: Where things are in a frame of IPv4 without options.
ETHERNET, IPV4, IPV6 = 14, 20, 40


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, ethertype: int = 0x0800) -> bytes:
    return struct.pack(">6s6sH", GATEWAY_MAC, GUEST_MAC, ethertype) + payload


def ip4(payload: bytes, protocol: int, source=GUEST, destination=OTHER, *, options=b"", total=None) -> bytes:
    words = 5 + len(options) // 4
    total = 4 * words + len(payload) if total is None else total
    start = struct.pack(">BBHHHBB", 0x40 | words, 0, total & 0xFFFF, 1, 0x4000, 64, protocol)
    end = packed(source) + packed(destination) + options
    return ethernet(start + struct.pack(">H", checksum(start + bytes(2) + end)) + end + payload)


def ip6(payload: bytes, protocol: int, source=GUEST6, destination=OTHER6, *, length=None) -> bytes:
    length = len(payload) if length is None else length
    header = struct.pack(">IHBB", 6 << 28, length, protocol, 64)
    return ethernet(header + packed(source) + packed(destination) + payload, 0x86DD)


def pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    """What the checksums of TCP and UDP begin with."""
    form = ">BBH" if len(packed(source)) == 4 else ">I3xB"
    numbers = (0, protocol, length) if form == ">BBH" else (length, protocol)
    return packed(source) + packed(destination) + struct.pack(form, *numbers)


def udp(source: str, destination: str, source_port: int, port: int, payload: bytes, length=None) -> bytes:
    length = 8 + len(payload) if length is None else length
    start = pseudo(source, destination, 17, 8 + len(payload))
    header = struct.pack(">HHHH", source_port, port, length, 0)
    # A sum of 0 is sent as 0xffff: 0 would say that there is none.
    found = checksum(start + header + payload) or 0xFFFF
    return header[:6] + struct.pack(">H", found) + payload


def tcp(source, destination, source_port, port, flags, payload=b"", *, sequence=1, ack=0, words=5) -> bytes:
    header = struct.pack(">HHIIBBHHH", source_port, port, sequence, ack, words << 4, flags, 64240, 0, 0)
    found = checksum(pseudo(source, destination, 6, 20 + len(payload)) + header + payload)
    return header[:16] + struct.pack(">H", found) + header[18:] + payload


def udp4(
    source=GUEST, destination=OTHER, source_port=4000, port=9999, payload=b"hello", *, length=None, **options
) -> bytes:
    return ip4(
        udp(source, destination, source_port, port, payload, length), 17, source, destination, **options
    )


def udp6(
    source=GUEST6, destination=OTHER6, source_port=4000, port=9999, payload=b"hello", *, length=None
) -> bytes:
    return ip6(udp(source, destination, source_port, port, payload, length), 17, source, destination)


def tcp4(
    source=GUEST, destination=OTHER, source_port=4000, port=443, flags=SYN, payload=b"", *, words=5, **options
) -> bytes:
    segment = tcp(source, destination, source_port, port, flags, payload, words=words)
    return ip4(segment, 6, source, destination, **options)


def tcp6(
    source=GUEST6, destination=OTHER6, source_port=4000, port=443, flags=SYN, payload=b"", *, words=5
) -> bytes:
    return ip6(
        tcp(source, destination, source_port, port, flags, payload, words=words), 6, source, destination
    )


def icmp4(source=GUEST, destination=OTHER) -> bytes:
    echo = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + b"ping"
    return ip4(echo[:2] + struct.pack(">H", checksum(echo)) + echo[4:], 1, source, destination)


def arp() -> bytes:
    """Who has the gateway's address?"""
    body = struct.pack(
        ">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, GUEST_MAC, packed(GUEST), bytes(6), b"\x64\x60\0\1"
    )
    return struct.pack(">6s6sH", b"\xff" * 6, GUEST_MAC, 0x0806) + body


def changed(frame: bytes, offset: int, value: bytes) -> bytes:
    """The frame with other bytes at an offset."""
    return frame[:offset] + value + frame[offset + len(value) :]


#: One good frame of every kind.
GOOD_FRAMES = {
    "udp4": udp4(),
    "udp6": udp6(),
    "dns4": udp4(port=53),
    "syn4": tcp4(),
    "syn6": tcp6(),
    "data4": tcp4(flags=ACK, payload=b"data"),
    "icmp4": icmp4(),
    "arp": arp(),
    "fabric": udp4(destination="100.96.5.2"),
    "options": udp4(options=bytes(8)),
}
