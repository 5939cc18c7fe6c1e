"""Messages between guest and host that make channels: offers, openings, and lists of shared pages.

The host offers a channel by a number, its relid.  The guest shares memory by listing its pages in a
GPADL, one header message and as many body messages as it takes, and opens the channel with the number
of the GPADL that holds its two rings.  A message has at most 240 bytes.

    what                        type  bytes  follows
    offer                          1    196
    open channel                   5    148
    GPADL header                   8     20  the start of its ranges: 8 bytes and page numbers, each
    GPADL body                     9     16  the next bytes of the ranges

Other messages are not described here yet.

Sources: Linux include/linux/hyperv.h, struct vmbus_channel_offer_channel, vmbus_channel_open_channel,
vmbus_channel_gpadl_header, vmbus_channel_gpadl_body; OpenVMM vmbus_core/src/protocol.rs.
"""

from __future__ import annotations

from enum import Enum, IntFlag
from typing import NamedTuple

from construct import Bytes, Int8ul, Int16ul, Int32ul, Struct

from vmbus.errors import PeerError
from vmbus.layout import GPA_RANGE, GUID_SIZE, PAGE_NUMBER_SIZE, EnumField, FixedCodec, Guid, OpenIntEnum

__all__ = [
    "GPADL_BODY",
    "GPADL_BODY_SCHEMA",
    "GPADL_HEADER",
    "GPADL_HEADER_SCHEMA",
    "HEADER_PAGES",
    "LARGEST_MESSAGE",
    "LARGEST_RELID",
    "MESSAGE_HEADER",
    "MESSAGE_HEADER_SCHEMA",
    "OFFER",
    "OFFER_SCHEMA",
    "OPEN_CHANNEL",
    "OPEN_CHANNEL_SCHEMA",
    "GpadlBody",
    "GpadlHeader",
    "MessageFault",
    "MessageHeader",
    "MessageType",
    "Offer",
    "OfferFlags",
    "OpenChannel",
    "parse_gpadl_body",
    "parse_gpadl_header",
    "parse_offer",
    "parse_open_channel",
]

#: The most bytes a message has.
LARGEST_MESSAGE = 240

#: The numbers of channels go from 1 to this: each has a bit in a page of 2048.
LARGEST_RELID = 2047

USER_DEFINED_SIZE = 120


class MessageType(OpenIntEnum):
    """The types described here."""

    OFFER = 1
    OPEN_CHANNEL = 5
    GPADL_HEADER = 8
    GPADL_BODY = 9


class MessageFault(Enum):
    """What can be wrong with a message."""

    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    OTHER_TYPE = "of another type"


class OfferFlags(IntFlag):
    """What a channel is offered as."""

    ENUMERATE_DEVICE_INTERFACE = 0x1
    CONFIDENTIAL_RING = 0x2
    CONFIDENTIAL_EXTERNAL_MEMORY = 0x4
    PINNED_EXTERNAL_MEMORY = 0x8
    NAMED_PIPE_MODE = 0x10
    LOOPBACK = 0x100
    PARENT_OFFER = 0x200
    MONITORED_NOTIFICATION = 0x400
    HVSOCK = 0x2000


_TYPE = "type" / EnumField(Int32ul, MessageType)  # u32 msgtype
_PADDING = "padding" / Int32ul  # u32 padding: 0

MESSAGE_HEADER_SCHEMA = Struct(_TYPE, _PADDING)

OFFER_SCHEMA = Struct(
    _TYPE,
    _PADDING,
    "class_bytes" / Bytes(GUID_SIZE),  # guid_t if_type
    "instance_bytes" / Bytes(GUID_SIZE),  # guid_t if_instance
    "reserved" / Bytes(16),  # u64 reserved1, reserved2: what a host writes there is nobody's
    "flags" / EnumField(Int16ul, OfferFlags),  # u16 chn_flags
    "mmio_megabytes" / Int16ul,  # u16 mmio_megabytes
    "user_defined" / Bytes(USER_DEFINED_SIZE),  # the device's own
    "subchannel_index" / Int16ul,  # u16 sub_channel_index: 0 for a device's first channel
    "optional_mmio_megabytes" / Int16ul,  # u16 reserved3
    "relid" / Int32ul,  # u32 child_relid
    "monitor_id" / Int8ul,  # u8 monitorid
    "monitor_allocated" / Int8ul,  # u8 monitor_allocated:1
    "dedicated_interrupt" / Int16ul,  # u16 is_dedicated_interrupt:1
    "connection_id" / Int32ul,  # u32 connection_id
)

OPEN_CHANNEL_SCHEMA = Struct(
    _TYPE,
    _PADDING,
    "relid" / Int32ul,  # u32 child_relid
    "open_id" / Int32ul,  # u32 openid: comes back in the answer; Linux gives the relid
    "ring_gpadl" / Int32ul,  # u32 ringbuffer_gpadlhandle
    "target_vp" / Int32ul,  # u32 target_vp: the processor to interrupt
    "downstream_page_offset" / Int32ul,  # u32 downstream_ringbuffer_pageoffset: the second ring's page
    "user_data" / Bytes(USER_DEFINED_SIZE),  # u8 userdata[]
)

GPADL_HEADER_SCHEMA = Struct(
    _TYPE,
    _PADDING,
    "relid" / Int32ul,  # u32 child_relid
    "gpadl" / Int32ul,  # u32 gpadl
    "range_buflen" / Int16ul,  # u16 range_buflen: bytes of all ranges, in all messages of this GPADL
    "range_count" / Int16ul,  # u16 rangecount
)

GPADL_BODY_SCHEMA = Struct(
    _TYPE,
    _PADDING,
    "message_number" / Int32ul,  # u32 msgnumber: Linux leaves 0
    "gpadl" / Int32ul,  # u32 gpadl
)


class MessageHeader(NamedTuple):
    """What every message starts with."""

    type: int
    padding: int


class Offer(NamedTuple):
    """The host offers a channel."""

    type: int
    padding: int
    class_bytes: bytes
    instance_bytes: bytes
    reserved: bytes
    flags: int
    mmio_megabytes: int
    user_defined: bytes
    subchannel_index: int
    optional_mmio_megabytes: int
    relid: int
    monitor_id: int
    monitor_allocated: int
    dedicated_interrupt: int
    connection_id: int

    @property
    def class_id(self) -> Guid:
        """What kind of device it is; of a Hyper-V socket, which service."""
        return Guid(self.class_bytes)

    @property
    def instance_id(self) -> Guid:
        """Which device it is."""
        return Guid(self.instance_bytes)


class OpenChannel(NamedTuple):
    """The guest opens a channel over a GPADL that holds both rings.

    downstream_page_offset   which page of the GPADL is the first of the ring from host to guest
    """

    type: int
    padding: int
    relid: int
    open_id: int
    ring_gpadl: int
    target_vp: int
    downstream_page_offset: int
    user_data: bytes


class GpadlHeader(NamedTuple):
    """The guest shares memory; the start of the list of its ranges follows."""

    type: int
    padding: int
    relid: int
    gpadl: int
    range_buflen: int
    range_count: int


class GpadlBody(NamedTuple):
    """The list of ranges goes on."""

    type: int
    padding: int
    message_number: int
    gpadl: int


MESSAGE_HEADER = FixedCodec(MESSAGE_HEADER_SCHEMA, MessageHeader)
OFFER = FixedCodec(OFFER_SCHEMA, Offer)
OPEN_CHANNEL = FixedCodec(OPEN_CHANNEL_SCHEMA, OpenChannel)
GPADL_HEADER = FixedCodec(GPADL_HEADER_SCHEMA, GpadlHeader)
GPADL_BODY = FixedCodec(GPADL_BODY_SCHEMA, GpadlBody)

#: Page numbers of a GPADL with one range that its header message holds.
HEADER_PAGES = (LARGEST_MESSAGE - GPADL_HEADER.size - GPA_RANGE.size) // PAGE_NUMBER_SIZE


def parse_offer(message: bytes) -> Offer:
    """An offer; PeerError where its length or type is wrong.  Bytes behind it are ignored, as always."""
    check(message, MessageType.OFFER, OFFER.size)
    return OFFER.unpack(message)


def parse_open_channel(message: bytes) -> OpenChannel:
    """An open channel message; PeerError where its length or type is wrong."""
    check(message, MessageType.OPEN_CHANNEL, OPEN_CHANNEL.size)
    return OPEN_CHANNEL.unpack(message)


def parse_gpadl_header(message: bytes) -> tuple[GpadlHeader, bytes]:
    """A GPADL header and the ranges, or the start of them, that follow it in this message.

    >>> message = GPADL_HEADER.pack(GpadlHeader(8, 0, 3, 0xE1E10, 16, 1)) + bytes(16) + b"rest"
    >>> header, ranges = parse_gpadl_header(message)
    >>> header.gpadl == 0xE1E10, len(ranges)
    (True, 16)

    PeerError where its length or type is wrong.
    """
    check(message, MessageType.GPADL_HEADER, GPADL_HEADER.size)
    header = GPADL_HEADER.unpack(message)
    # All that ranges are made of has 8 bytes: the last 4 of a message of 240 bytes are never among them.
    length = min(header.range_buflen, len(message) - GPADL_HEADER.size) // PAGE_NUMBER_SIZE * PAGE_NUMBER_SIZE
    return header, message[GPADL_HEADER.size : GPADL_HEADER.size + length]


def parse_gpadl_body(message: bytes) -> tuple[GpadlBody, bytes]:
    """A GPADL body and all bytes that follow it: only the header says how many of them count.

    PeerError where its length or type is wrong.
    """
    check(message, MessageType.GPADL_BODY, GPADL_BODY.size)
    return GPADL_BODY.unpack(message), message[GPADL_BODY.size :]


def check(message: bytes, kind: MessageType, size: int) -> None:
    """Raise PeerError unless this is a message of that type with at least `size` bytes."""
    what = f"a message of type {kind.label}"
    check_length(message, size, what)
    found = MESSAGE_HEADER.unpack(message).type
    if found != kind:
        raise PeerError(
            f"a message of type {found} is none of type {kind.label} ({int(kind)})",
            kind=MessageFault.OTHER_TYPE,
            offset=0,
            found=found,
            allowed=int(kind),
        )


def check_length(message: bytes, size: int, what: str) -> None:
    length = len(message)
    if length < size:
        raise PeerError(
            f"{what} has at least {size} bytes, this one {length}",
            kind=MessageFault.TOO_SHORT,
            offset=length,
            found=length,
            allowed=size,
        )
    if length > LARGEST_MESSAGE:
        raise PeerError(
            f"{what} has at most {LARGEST_MESSAGE} bytes, this one {length}",
            kind=MessageFault.TOO_LONG,
            offset=LARGEST_MESSAGE,
            found=length,
            allowed=LARGEST_MESSAGE,
        )
