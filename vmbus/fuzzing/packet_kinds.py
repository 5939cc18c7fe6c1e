"""The kinds of packets that a ring carries, spelled by hand: what the models of rings count and compare with.

Nothing of vmbus.layout makes these bytes: a mistake there must show as a difference here.

Sizes are in bytes.

Sources: Linux include/linux/hyperv.h, struct vmpacket_descriptor, vmdata_gpa_direct and
vmtransfer_page_packet_header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from vmbus.ring import (
    IncomingPacketType,
    OutgoingPacket,
    Packet,
    PagedRange,
    Ranges,
    TransferPageRange,
)

__all__ = ["GPA_RANGES", "PACKET_KINDS", "TRANSFER_PAGE_RANGES", "TYPE_NAMES", "PacketKind", "Sent", "padded"]


def padded(payload: bytes) -> bytes:
    """The payload as a ring gives it back: zeros up to a multiple of 8.

    >>> padded(b"hello")
    b'hello\\x00\\x00\\x00'
    """
    return payload + bytes(-len(payload) % 8)


class PacketKind(NamedTuple):
    """One kind of packet: how to ask a ring for it, and what it is in memory.

    name             what the kind is called here
    outgoing         makes what OutgoingRing.write takes, of a payload's length
    flags            as the descriptor holds them
    transaction_id   as the descriptor holds it
    seen_id          what a reader tells of it: None where the packet has no part in a transaction
    extension        what lies between descriptor and payload
    """

    name: str
    outgoing: Callable[[int], OutgoingPacket]
    type: IncomingPacketType
    flags: int
    transaction_id: int
    seen_id: int | None
    extension: bytes = b""
    ranges: Ranges = ()
    transfer_page_set_id: int | None = None

    def size(self, length: int) -> int:
        """Bytes that a packet with so much payload takes in the ring, footer included."""
        return 16 + len(self.extension) + (length + 7) // 8 * 8 + 8

    def body(self, payload: bytes) -> bytes:
        """The packet in memory without its footer: descriptor, extension, payload, zeros."""
        data_offset = 16 + len(self.extension)
        length = data_offset + (len(payload) + 7) // 8 * 8
        numbers = (self.type, data_offset // 8, length // 8, self.flags, self.transaction_id)
        return struct.pack("<HHHHQ", *numbers) + self.extension + padded(payload)

    def whole(self, payload: bytes, start: int) -> bytes:
        """The packet as it lies in memory from `start` on, its footer included."""
        return self.body(payload) + struct.pack("<II", 0, start)

    def received(self, payload: bytes) -> Packet:
        """The packet as it leaves the ring."""
        return Packet(
            type=self.type,
            transaction_id=self.transaction_id,
            payload=padded(payload),
            ranges=self.ranges,
            flags=self.flags,
            transfer_page_set_id=self.transfer_page_set_id,
        )


class Sent(NamedTuple):
    """A packet of a model.

    total   bytes it takes in the ring
    """

    kind: PacketKind
    payload: bytes
    total: int

    @classmethod
    def of(cls, kind: PacketKind, payload: bytes) -> Sent:
        return cls(kind, payload, kind.size(len(payload)))


GPA_RANGES = (PagedRange(4000, 200, [7, 2**64 - 1]), PagedRange(0, 1, [9]))
TRANSFER_PAGE_RANGES = (TransferPageRange(1514, 2**32 - 1), TransferPageRange(0, 64))
SOME_ID = 0x0102_0304_0506_0708
LARGEST_ID = 2**64 - 1

#: Every kind of packet that a ring carries.
ALL_KINDS = (
    PacketKind(
        name="in-band",
        outgoing=lambda size: OutgoingPacket.in_band(size, transaction_id=SOME_ID),
        type=IncomingPacketType.IN_BAND,
        flags=0,
        transaction_id=SOME_ID,
        seen_id=None,
    ),
    PacketKind(
        name="in-band-with-completion",
        outgoing=lambda size: OutgoingPacket.in_band(
            size, transaction_id=LARGEST_ID, completion_requested=True
        ),
        type=IncomingPacketType.IN_BAND,
        flags=1,
        transaction_id=LARGEST_ID,
        seen_id=LARGEST_ID,
    ),
    PacketKind(
        name="completion",
        outgoing=lambda size: OutgoingPacket.completion(size, transaction_id=SOME_ID),
        type=IncomingPacketType.COMPLETION,
        flags=0,
        transaction_id=SOME_ID,
        seen_id=SOME_ID,
    ),
    PacketKind(
        name="gpa-direct",
        outgoing=lambda size: OutgoingPacket.gpa_direct(GPA_RANGES, size, transaction_id=SOME_ID),
        type=IncomingPacketType.GPA_DIRECT,
        flags=1,
        transaction_id=SOME_ID,
        seen_id=SOME_ID,
        extension=struct.pack("<IIIIQQIIQ", 0, 2, 200, 4000, 7, 2**64 - 1, 1, 0, 9),
        ranges=GPA_RANGES,
    ),
    PacketKind(
        name="transfer-pages",
        outgoing=lambda size: OutgoingPacket.transfer_pages(0xCAFE, TRANSFER_PAGE_RANGES, size),
        type=IncomingPacketType.TRANSFER_PAGES,
        flags=1,
        transaction_id=0,
        seen_id=0,
        extension=struct.pack("<HHIIIII", 0xCAFE, 0, 2, 1514, 2**32 - 1, 0, 64),
        ranges=TRANSFER_PAGE_RANGES,
        transfer_page_set_id=0xCAFE,
    ),
)

PACKET_KINDS = {kind.name: kind for kind in ALL_KINDS}

#: What the number of a type is called: the name of its plainest kind.
TYPE_NAMES = {int(kind.type): kind.name for kind in reversed(ALL_KINDS)}
