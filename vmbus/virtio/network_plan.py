"""The addresses and limits that a guest's network begins with, unless somebody says otherwise.

Source: smolvm smolvm-network, its defaults.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from .network_device import DEFAULT_MTU
from .packet_headers import EtherType, ethernet_frame

__all__ = ["NetworkPlan"]


class NetworkPlan(NamedTuple):
    """A guest, its gateway, and how much of everything there may be.

    guest, gateway             their IPv4 addresses, in one network
    guest_v6, gateway_v6       likewise of IPv6
    guest_mac, gateway_mac     six bytes each
    mtu                        bytes of the largest IP packet
    name_server                whom names are really asked of
    tcp_connections            connections at once
    udp_sockets, udp_flows     destinations of datagrams, and pairs of source and destination
    dns_slots, dns_buffer      queries that wait for an answer, and bytes for them
    dns_pending                queries that are on their way at the most; more are dropped

    >>> NetworkPlan().guest.ip in NetworkPlan().gateway.network
    True
    """

    guest: ipaddress.IPv4Interface = ipaddress.IPv4Interface("100.96.0.2/30")
    gateway: ipaddress.IPv4Interface = ipaddress.IPv4Interface("100.96.0.1/30")
    guest_v6: ipaddress.IPv6Interface = ipaddress.IPv6Interface("fd53:4d00::2/64")
    gateway_v6: ipaddress.IPv6Interface = ipaddress.IPv6Interface("fd53:4d00::1/64")
    guest_mac: bytes = bytes.fromhex("02534d000002")
    gateway_mac: bytes = bytes.fromhex("02534d000001")
    mtu: int = DEFAULT_MTU
    name_server: ipaddress.IPv4Address = ipaddress.IPv4Address("1.1.1.1")
    tcp_connections: int = 256
    udp_sockets: int = 128
    udp_flows: int = 1024
    dns_slots: int = 8
    dns_buffer: int = 2048
    dns_pending: int = 512

    @property
    def gateways(self) -> frozenset[bytes]:
        """The gateway's addresses for `classify_frame`."""
        return frozenset({self.gateway.ip.packed, self.gateway_v6.ip.packed})

    def frame_from_fabric(self, packet: bytes) -> bytes:
        """The frame in which a bare IPv4 packet of another member reaches the guest."""
        return ethernet_frame(self.guest_mac, self.gateway_mac, packet, EtherType.IPV4)
