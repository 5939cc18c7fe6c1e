"""What goes into a ring and what comes out of it.

Sources: OpenVMM vmbus_ring/src/lib.rs, OutgoingPacket, IncomingPacket and PacketSize.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import (
    GPA_DIRECT_HEADER,
    GPA_RANGE,
    PAGE_NUMBER_SIZE,
    SMALLEST_PACKET,
    TRANSFER_PAGE_HEADER,
    TRANSFER_PAGE_RANGE,
    GpaDirectHeader,
    PacketDescriptor,
    PacketFlags,
    PacketType,
    TransferPageHeader,
    TransferPageRange,
)
from vmbus.sizes import round_up_to_slot

from .gparange import MultiPagedRangeBuf, PagedRange
from .ranges import RingRange

__all__ = [
    "IncomingPacket",
    "IncomingPacketType",
    "OutgoingPacket",
    "OutgoingPacketType",
    "Packet",
    "PacketSize",
    "Ranges",
]

#: What a packet says about memory outside the ring; empty for the two plain types.
Ranges = tuple[PagedRange, ...] | tuple[TransferPageRange, ...]


class IncomingPacketType(IntEnum):
    """The four types a ring carries."""

    IN_BAND = PacketType.IN_BAND
    TRANSFER_PAGES = PacketType.TRANSFER_PAGES
    GPA_DIRECT = PacketType.GPA_DIRECT
    COMPLETION = PacketType.COMPLETION


class OutgoingPacketType(Enum):
    """What can be written: for each form the type on the wire and its flags."""

    IN_BAND_NO_COMPLETION = (PacketType.IN_BAND, PacketFlags(0))
    IN_BAND_WITH_COMPLETION = (PacketType.IN_BAND, PacketFlags.COMPLETION_REQUESTED)
    COMPLETION = (PacketType.COMPLETION, PacketFlags(0))
    GPA_DIRECT = (PacketType.GPA_DIRECT, PacketFlags.COMPLETION_REQUESTED)
    TRANSFER_PAGES = (PacketType.TRANSFER_PAGES, PacketFlags.COMPLETION_REQUESTED)


class PacketSize:
    """Bytes that a packet takes in the ring, descriptor, padding and footer included.

    What OutgoingRing.can_write and set_pending_send_size take.

    >>> PacketSize.in_band(0), PacketSize.in_band(1), PacketSize.completion(8)
    (24, 32, 32)
    >>> PacketSize.transfer_pages(2, 0), PacketSize.gpa_direct([PagedRange(0, 8, [7])], 0)
    (48, 48)
    """

    @staticmethod
    def in_band(payload_length: int) -> int:
        return SMALLEST_PACKET + round_up_to_slot(payload_length)

    @staticmethod
    def completion(payload_length: int) -> int:
        return PacketSize.in_band(payload_length)

    @staticmethod
    def transfer_pages(range_count: int, payload_length: int) -> int:
        header = TRANSFER_PAGE_HEADER.size + range_count * TRANSFER_PAGE_RANGE.size
        return PacketSize.in_band(payload_length) + header

    @staticmethod
    def gpa_direct(ranges: Iterable[PagedRange], payload_length: int) -> int:
        listed: int = sum(GPA_RANGE.size + PAGE_NUMBER_SIZE * len(one.gpns) for one in ranges)
        return PacketSize.in_band(payload_length) + GPA_DIRECT_HEADER.size + listed


class OutgoingPacket(NamedTuple):
    """A packet to be written: everything but its payload.

    type                  one of OutgoingPacketType
    size                  bytes of payload
    transaction_id        64 bits; the peer gives it back in its completion
    extension             what lies between descriptor and payload, as bytes

    Made by the four functions below.
    """

    type: OutgoingPacketType
    size: int
    transaction_id: int = 0
    extension: bytes = b""

    @classmethod
    def in_band(
        cls, size: int, *, transaction_id: int = 0, completion_requested: bool = False
    ) -> OutgoingPacket:
        """Payload only, with or without a request for a completion."""
        kind = OutgoingPacketType.IN_BAND_NO_COMPLETION
        if completion_requested:
            kind = OutgoingPacketType.IN_BAND_WITH_COMPLETION
        return cls(kind, size, transaction_id)

    @classmethod
    def completion(cls, size: int, *, transaction_id: int) -> OutgoingPacket:
        """The answer to the packet of that transaction id."""
        return cls(OutgoingPacketType.COMPLETION, size, transaction_id)

    @classmethod
    def gpa_direct(
        cls, ranges: Iterable[PagedRange], size: int = 0, *, transaction_id: int = 0
    ) -> OutgoingPacket:
        """Payload and ranges of the guest's memory; always asks for a completion.

        Raises CallerError for what a reader would refuse: no ranges, or one without bytes.
        """
        listed = MultiPagedRangeBuf(ranges)
        if not listed.range_count:
            raise CallerError(
                "a GPA-direct packet with 0 ranges is refused by every reader: list 1 or more",
                argument="ranges",
                value=0,
                limit=1,
            )
        header = GPA_DIRECT_HEADER.pack(GpaDirectHeader(0, listed.range_count))
        return cls(OutgoingPacketType.GPA_DIRECT, size, transaction_id, header + listed.to_bytes())

    @classmethod
    def transfer_pages(
        cls,
        transfer_page_set_id: int,
        ranges: Iterable[TransferPageRange],
        size: int = 0,
        *,
        transaction_id: int = 0,
    ) -> OutgoingPacket:
        """Payload and parts of a buffer shared before; always asks for a completion.

        Raises CallerError when the set id has more than 16 bits, or a number of a range more than 32.
        """
        listed = list(ranges)
        try:
            header = TRANSFER_PAGE_HEADER.pack(TransferPageHeader(transfer_page_set_id, 0, len(listed)))
            body = b"".join(TRANSFER_PAGE_RANGE.pack(one) for one in listed)
        except struct.error:
            raise CallerError(
                f"a transfer page set id is a number of 16 bits, and ranges are pairs of 32-bit numbers: "
                f"not set {transfer_page_set_id!r} with {listed!r}",
                argument="ranges",
                value=(transfer_page_set_id, listed),
                limit="16 bits, 32 bits",
            ) from None
        return cls(OutgoingPacketType.TRANSFER_PAGES, size, transaction_id, header + body)


class IncomingPacket(NamedTuple):
    """A packet that is still in the ring.

    type                  one of IncomingPacketType
    transaction_id        None unless the packet asks for a completion or is one
    payload               where the payload lies; the sender can still change those bytes
    ranges                memory outside the ring, copied and checked when the packet was read
    transfer_page_set_id  of a transfer-page packet, else None
    extension             where the bytes between descriptor and payload lie in the ring
    descriptor            the descriptor as it was read, once
    """

    type: IncomingPacketType
    transaction_id: int | None
    payload: RingRange
    ranges: Ranges
    transfer_page_set_id: int | None
    extension: RingRange
    descriptor: PacketDescriptor


class Packet(NamedTuple):
    """A packet that has left the ring: nothing of it is shared any more.

    type                  one of IncomingPacketType
    transaction_id        the descriptor's number, whatever the flags say
    payload               bytes, with the padding to a multiple of 8 that the ring cannot tell apart
    ranges                memory outside the ring: PagedRanges or TransferPageRanges
    flags                 the descriptor's: 1 asks for a completion
    transfer_page_set_id  of a transfer-page packet, else None
    """

    type: IncomingPacketType
    transaction_id: int
    payload: bytes
    ranges: Ranges = ()
    flags: int = 0
    transfer_page_set_id: int | None = None

    @property
    def completion_requested(self) -> bool:
        return bool(self.flags & PacketFlags.COMPLETION_REQUESTED)
