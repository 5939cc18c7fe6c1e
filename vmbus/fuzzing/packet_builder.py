"""A packet byte by byte, right or wrong: every number can be given, and what is not given is what it should be.

    PacketImage.in_band(b"hello")                          what a correct sender writes
    PacketImage.in_band(b"hello", length8=1)               the same with a length that cannot be
    PacketImage.gpa_direct([(0, 0, [7])])                  a range of no bytes, which OutgoingPacket refuses

Sizes and lengths are in bytes; `length8` and `data_offset8` are in units of 8, as they lie in memory.

Sources: Linux include/linux/hyperv.h, struct vmpacket_descriptor, vmdata_gpa_direct and
vmtransfer_page_packet_header; OpenVMM vmbus_ring/src/lib.rs, mod protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from vmbus.errors import CallerError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER,
    FOOTER_SIZE,
    GPA_DIRECT_HEADER,
    GPA_RANGE,
    PACKET_DESCRIPTOR,
    PIPE_HEADER,
    TRANSFER_PAGE_HEADER,
    TRANSFER_PAGE_RANGE,
    Footer,
    GpaDirectHeader,
    GpaRange,
    PacketDescriptor,
    PacketFlags,
    PacketType,
    PipeHeader,
    PipePacketType,
    TransferPageHeader,
    TransferPageRange,
    pack_words,
)
from vmbus.ring import IncomingPacketType, Packet, PagedRange, Ranges
from vmbus.sizes import SLOT, round_up_to_slot

__all__ = ["PacketImage", "RawRange"]

#: A GPA range as three numbers that need not agree: byte count, byte offset, page numbers.
RawRange = tuple[int, int, Sequence[int]]

#: How many bits each number has.
WIDTHS = {"type": 16, "data_offset8": 16, "length8": 16, "flags": 16, "transaction_id": 64}


@dataclass(frozen=True, repr=False)
class PacketImage:
    """A packet that can be put anywhere in a ring.

    type, flags, transaction_id    as the descriptor has them
    extension                      bytes between descriptor and payload: a header with ranges, or anything
    ranges, transfer_page_set_id   what a reader must make of the extension
    data_offset8, length8          None: where the payload starts, and where it ends, in units of 8 bytes
    padding                        None: zeros up to a multiple of 8; else the bytes behind the payload
    footer                         None: 0 and the packet's own offset; else these 8 bytes

    Raises CallerError for what has no form in memory: a number with too many bits, an extension or a payload
    that does not end at a multiple of 8.

    >>> packet = PacketImage.in_band(b"hello", transaction_id=7)
    >>> packet
    PacketImage(type=6, payload=b'hello', transaction_id=7)
    >>> packet.size, packet.to_bytes(0x40).hex(" ", 8)
    (32, '0600020003000000 0700000000000000 68656c6c6f000000 0000000040000000')
    """

    type: int = int(PacketType.IN_BAND)
    payload: bytes = b""
    transaction_id: int = 0
    flags: int = 0
    extension: bytes = b""
    ranges: Ranges = ()
    transfer_page_set_id: int | None = None
    data_offset8: int | None = None
    length8: int | None = None
    padding: bytes | None = None
    footer: bytes | None = None

    def __post_init__(self) -> None:
        for name, bits in WIDTHS.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1 << bits:
                refuse(name, value, (1 << bits) - 1, f"a number of {bits} bits")
        if len(self.extension) % SLOT:
            refuse("extension", len(self.extension), SLOT, f"a multiple of {SLOT} bytes")
        if len(self.received_payload) % SLOT:
            refuse("padding", len(self.received_payload), SLOT, f"what fills the payload up to {SLOT} bytes")
        if self.footer is not None and len(self.footer) != FOOTER_SIZE:
            refuse("footer", len(self.footer), FOOTER_SIZE, f"{FOOTER_SIZE} bytes")

    # -- the kinds -------------------------------------------------------------------------------

    @classmethod
    def in_band(
        cls,
        payload: bytes = b"",
        *,
        transaction_id: int = 0,
        completion_requested: bool = False,
        **others: Any,
    ) -> PacketImage:
        """Payload alone; `others` are fields of this class that are to be otherwise."""
        given = {"flags": int(completion_requested), **others}
        return cls(int(PacketType.IN_BAND), payload, transaction_id, **given)

    @classmethod
    def completion(cls, payload: bytes = b"", *, transaction_id: int = 0, **others: Any) -> PacketImage:
        """The answer to the packet of that transaction id."""
        return cls(int(PacketType.COMPLETION), payload, transaction_id, **others)

    @classmethod
    def gpa_direct(
        cls,
        ranges: Iterable[PagedRange | RawRange],
        payload: bytes = b"",
        *,
        transaction_id: int = 0,
        range_count: int | None = None,
        reserved: int = 0,
        slack: bytes = b"",
        **others: Any,
    ) -> PacketImage:
        """Payload and ranges of the guest's memory, as they should be or as bare numbers.

        range_count   None: as many as there are
        slack         bytes behind the last range, which readers pass over
        """
        listed = list(ranges)
        count = len(listed) if range_count is None else range_count
        header = GPA_DIRECT_HEADER.pack(GpaDirectHeader(reserved, count))
        right = tuple(one for one in listed if isinstance(one, PagedRange))
        given = {
            "flags": int(PacketFlags.COMPLETION_REQUESTED),
            "extension": header + b"".join(map(gpa_range_bytes, listed)) + slack,
            "ranges": right if len(right) == len(listed) else (),
            **others,
        }
        return cls(int(PacketType.GPA_DIRECT), payload, transaction_id, **given)

    @classmethod
    def transfer_pages(
        cls,
        transfer_page_set_id: int,
        ranges: Iterable[TransferPageRange],
        payload: bytes = b"",
        *,
        transaction_id: int = 0,
        range_count: int | None = None,
        reserved: int = 0,
        slack: bytes = b"",
        **others: Any,
    ) -> PacketImage:
        """Payload and parts of a buffer shared before; `range_count` and `slack` as of `gpa_direct`."""
        listed = tuple(ranges)
        count = len(listed) if range_count is None else range_count
        header = TRANSFER_PAGE_HEADER.pack(TransferPageHeader(transfer_page_set_id, reserved, count))
        given = {
            "flags": int(PacketFlags.COMPLETION_REQUESTED),
            "extension": header + b"".join(map(TRANSFER_PAGE_RANGE.pack, listed)) + slack,
            "ranges": listed,
            "transfer_page_set_id": transfer_page_set_id,
            **others,
        }
        return cls(int(PacketType.TRANSFER_PAGES), payload, transaction_id, **given)

    @classmethod
    def unknown(cls, type: int, payload: bytes = b"", **others: Any) -> PacketImage:
        """A packet of a type that rings do not carry."""
        return cls(type, payload, **others)

    @classmethod
    def pipe(
        cls,
        data: bytes = b"",
        *,
        packet_type: int = PipePacketType.DATA,
        length: int | None = None,
        **others: Any,
    ) -> PacketImage:
        """A packet of a pipe: `data` behind a pipe header.

        length   None: that of `data`
        """
        header = PIPE_HEADER.pack(PipeHeader(packet_type, len(data) if length is None else length))
        return cls(int(PacketType.IN_BAND), header + data, **others)

    # -- in memory -------------------------------------------------------------------------------

    @property
    def received_payload(self) -> bytes:
        """The payload as a ring gives it back: up to the multiple of 8 where the packet ends."""
        length = len(self.payload)
        return self.payload + (
            bytes(round_up_to_slot(length) - length) if self.padding is None else self.padding
        )

    @property
    def data_offset(self) -> int:
        """Where the payload is, in bytes from the packet's start, whatever `data_offset8` says."""
        return DESCRIPTOR_SIZE + len(self.extension)

    @property
    def length(self) -> int:
        """Bytes without the footer, whatever `length8` says."""
        return self.data_offset + len(self.received_payload)

    @property
    def size(self) -> int:
        """Bytes it takes in the ring."""
        return self.length + FOOTER_SIZE

    def to_bytes(self, offset: int = 0) -> bytes:
        """The packet as it lies in memory from `offset` of the data area on.

        Raises CallerError for a packet that is longer than 16 bits can say, unless `length8` is given.
        """
        data_offset8 = self.data_offset // SLOT if self.data_offset8 is None else self.data_offset8
        length8 = self.length // SLOT if self.length8 is None else self.length8
        if max(data_offset8, length8) > 0xFFFF:
            refuse("payload", self.length, 0xFFFF * SLOT, "at most 65,535 times 8 bytes with its descriptor")
        descriptor = PacketDescriptor(self.type, data_offset8, length8, self.flags, self.transaction_id)
        footer = FOOTER.pack(Footer(0, offset)) if self.footer is None else self.footer
        return PACKET_DESCRIPTOR.pack(descriptor) + self.extension + self.received_payload + footer

    def as_received(self) -> Packet:
        """What a strict reader makes of it, where `data_offset8` and `length8` are what they should be.

        Raises CallerError for a type that rings do not carry.
        """
        if self.type not in set(IncomingPacketType):
            refuse("type", self.type, tuple(map(int, IncomingPacketType)), "a type that rings carry")
        return Packet(
            IncomingPacketType(self.type),
            self.transaction_id,
            self.received_payload,
            self.ranges,
            self.flags,
            self.transfer_page_set_id,
        )

    def changed(self, **others: Any) -> PacketImage:
        """The same but for these fields."""
        return replace(self, **others)

    def __repr__(self) -> str:
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name in ("type", "payload") or getattr(self, field.name) != field.default
        ]
        return f"PacketImage({', '.join(given)})"


def gpa_range_bytes(one: PagedRange | RawRange) -> bytes:
    """A GPA range as it lies in memory."""
    count, offset, pages = (len(one), one.offset, one.gpns) if isinstance(one, PagedRange) else one
    return GPA_RANGE.pack(GpaRange(count, offset)) + pack_words(pages)


def refuse(name: str, value: object, limit: object, what: str) -> None:
    raise CallerError(f"{name} of a packet is {what}, not {value!r}", argument=name, value=value, limit=limit)
