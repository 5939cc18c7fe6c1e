"""The shape of a virtqueue in memory, split and packed, and where its parts lie.

A split queue has three areas: a table of N descriptors, the driver area (the available ring) and
the device area (the used ring).  A packed queue has one ring of N descriptors, and an event
suppression structure of each side in its place.

                     split                                  packed
    descriptors      16 * N bytes, address a multiple of 16 16 * N, multiple of 16
    driver area      6 + 2 * N, multiple of 2               4, multiple of 4
    device area      6 + 8 * N, multiple of 4               4, multiple of 4

Sizes and offsets are in bytes, all numbers little-endian.

Source: OASIS VIRTIO 1.2, sections 2.7 (split virtqueues) and 2.8 (packed virtqueues).
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import NamedTuple

from construct import Array, Int16ul, Int32ul, Int64ul, Struct

from vmbus.errors import CallerError
from vmbus.layout import EnumField, FixedCodec, OpenIntEnum

__all__ = [
    "AVAILABLE",
    "DESCRIPTOR_SIZE",
    "EVENT_FLAGS_WORD",
    "EVENT_POSITION_WORD",
    "EVENT_SUPPRESSION",
    "EVENT_SUPPRESSION_SCHEMA",
    "FIRST_SLOT_WORD",
    "FLAGS_WORD",
    "HEAD_SIZE",
    "INDEX_WORD",
    "INDIRECT",
    "LARGEST_CHAIN_BYTES",
    "LARGEST_QUEUE",
    "LARGEST_TABLE",
    "NEXT",
    "PACKED_BODY",
    "PACKED_DESCRIPTOR",
    "PACKED_DESCRIPTOR_SCHEMA",
    "PACKED_LENGTH_AND_ID",
    "PACKED_LENGTH_OFFSET",
    "RING_HEADER_SIZE",
    "SLOT_FLAGS_WORD",
    "SLOT_WORDS",
    "SPLIT_DESCRIPTOR",
    "SPLIT_DESCRIPTOR_SCHEMA",
    "USED",
    "USED_ELEMENT",
    "USED_ELEMENT_SCHEMA",
    "USED_ELEMENT_SIZE",
    "WRAP",
    "WRITE",
    "AvailableRingFlags",
    "DescriptorFlags",
    "EventFlags",
    "EventSuppression",
    "PackedDescriptor",
    "QueueAreas",
    "SplitDescriptor",
    "UsedElement",
    "UsedRingFlags",
    "VirtioFeatures",
    "available_ring_schema",
    "check_queue_size",
    "used_ring_schema",
]

#: A ring offset has 15 bits beside its wrap counter, and an index must tell N from 0.
LARGEST_QUEUE = 32768

#: Entries of an indirect table: an index of 16 bits names no more.
LARGEST_TABLE = 65535

#: The bytes of one chain, as many as a used length can count.  (The standard would allow one more.)
LARGEST_CHAIN_BYTES = 2**32 - 1


class VirtioFeatures(IntFlag):
    """The feature bits that belong to no kind of device."""

    NOTIFY_ON_EMPTY = 1 << 24
    ANY_LAYOUT = 1 << 27
    RING_INDIRECT_DESC = 1 << 28
    RING_EVENT_IDX = 1 << 29
    VERSION_1 = 1 << 32
    ACCESS_PLATFORM = 1 << 33
    RING_PACKED = 1 << 34
    IN_ORDER = 1 << 35
    ORDER_PLATFORM = 1 << 36
    SR_IOV = 1 << 37
    NOTIFICATION_DATA = 1 << 38
    NOTIF_CONFIG_DATA = 1 << 39
    RING_RESET = 1 << 40


class DescriptorFlags(IntFlag):
    """The flags of a descriptor; the last two are of packed queues alone."""

    NEXT = 1
    WRITE = 2
    INDIRECT = 4
    AVAILABLE = 0x0080
    USED = 0x8000


# Plain numbers for the loops: an IntFlag costs a microsecond an operation.
NEXT = int(DescriptorFlags.NEXT)
WRITE = int(DescriptorFlags.WRITE)
INDIRECT = int(DescriptorFlags.INDIRECT)
AVAILABLE = int(DescriptorFlags.AVAILABLE)
USED = int(DescriptorFlags.USED)

#: The wrap counter's place beside a ring offset of 15 bits.
WRAP = 0x8000


class AvailableRingFlags(IntFlag):
    """The driver's word to the device."""

    NO_INTERRUPT = 1


class UsedRingFlags(IntFlag):
    """The device's word to the driver."""

    NO_NOTIFY = 1


class EventFlags(OpenIntEnum):
    """When one side of a packed queue wants to be notified: 0 always, 1 never, 2 at a descriptor."""

    ENABLE = 0
    DISABLE = 1
    DESCRIPTOR = 2


SPLIT_DESCRIPTOR_SCHEMA = Struct(
    "address" / Int64ul,  # le64 addr
    "length" / Int32ul,  # le32 len
    "flags" / EnumField(Int16ul, DescriptorFlags),  # le16 flags
    "next" / Int16ul,  # le16 next: meaningful with NEXT
)

PACKED_DESCRIPTOR_SCHEMA = Struct(
    "address" / Int64ul,  # le64 addr
    "length" / Int32ul,  # le32 len
    "id" / Int16ul,  # le16 id: the buffer id, valid in the last descriptor of a list
    "flags" / EnumField(Int16ul, DescriptorFlags),  # le16 flags
)

USED_ELEMENT_SCHEMA = Struct(
    "id" / Int32ul,  # le32 id: the chain's head
    "length" / Int32ul,  # le32 len: bytes written, from the first writable one on
)

EVENT_SUPPRESSION_SCHEMA = Struct(
    "offset_and_wrap" / Int16ul,  # le16 desc: ring offset, wrap counter in bit 15
    "flags" / EnumField(Int16ul, EventFlags),  # le16 flags
)


def available_ring_schema(queue_size: int) -> Struct:
    """The driver area of a split queue."""
    return Struct(
        "flags" / EnumField(Int16ul, AvailableRingFlags),  # le16 flags
        "index" / Int16ul,  # le16 idx: where the driver puts the next head, never wrapped to N
        "ring" / Array(queue_size, Int16ul),  # le16 ring[N]: heads
        "used_event" / Int16ul,  # le16 used_event: meaningful with RING_EVENT_IDX
    )


def used_ring_schema(queue_size: int) -> Struct:
    """The device area of a split queue."""
    return Struct(
        "flags" / EnumField(Int16ul, UsedRingFlags),  # le16 flags
        "index" / Int16ul,  # le16 idx
        "ring" / Array(queue_size, USED_ELEMENT_SCHEMA),  # struct virtq_used_elem ring[N]
        "available_event" / Int16ul,  # le16 avail_event: meaningful with RING_EVENT_IDX
    )


class SplitDescriptor(NamedTuple):
    """One descriptor of a split queue, or of an indirect table there."""

    address: int
    length: int
    flags: int
    next: int


class PackedDescriptor(NamedTuple):
    """One descriptor of a packed queue, or of an indirect table there."""

    address: int
    length: int
    id: int
    flags: int


class UsedElement(NamedTuple):
    """What the device says of a chain that it is done with."""

    id: int
    length: int


class EventSuppression(NamedTuple):
    """When one side of a packed queue wants to be notified."""

    offset_and_wrap: int
    flags: int


SPLIT_DESCRIPTOR = FixedCodec(SPLIT_DESCRIPTOR_SCHEMA, SplitDescriptor)
PACKED_DESCRIPTOR = FixedCodec(PACKED_DESCRIPTOR_SCHEMA, PackedDescriptor)
USED_ELEMENT = FixedCodec(USED_ELEMENT_SCHEMA, UsedElement)
EVENT_SUPPRESSION = FixedCodec(EVENT_SUPPRESSION_SCHEMA, EventSuppression)

DESCRIPTOR_SIZE = SPLIT_DESCRIPTOR.size
USED_ELEMENT_SIZE = USED_ELEMENT.size

# The 16-bit words of an available or a used ring, and those of an event suppression structure.
FLAGS_WORD = 0
INDEX_WORD = 1
FIRST_SLOT_WORD = 2
EVENT_POSITION_WORD = EVENT_SUPPRESSION.offsets["offset_and_wrap"] // 2
EVENT_FLAGS_WORD = EVENT_SUPPRESSION.offsets["flags"] // 2

# Those of a slot of a packed ring, and which of them are its flags.
SLOT_WORDS = DESCRIPTOR_SIZE // 2
SLOT_FLAGS_WORD = PACKED_DESCRIPTOR.offsets["flags"] // 2

#: A packed descriptor without its flags, which are stored by themselves: they publish the rest.
PACKED_BODY = struct.Struct(PACKED_DESCRIPTOR.struct.format[:-1])

#: What a device overwrites of one before it stores the flags, and where in the descriptor.
PACKED_LENGTH_OFFSET = PACKED_DESCRIPTOR.offsets["length"]
PACKED_LENGTH_AND_ID = struct.Struct("<" + PACKED_BODY.format[2:])

# An available and a used ring: flags and index, a head or an element in each slot, an event.
RING_HEADER_SIZE = 4
HEAD_SIZE = 2
EVENT_SIZE = 2


class QueueAreas(NamedTuple):
    """Where the three areas of a queue start: addresses as the device sees them.

    What is said of each area (its bytes, its alignment) has the same three fields.  In a packed queue
    `driver_area` and `device_area` are the event suppression structures.
    """

    descriptor_table: int
    driver_area: int
    device_area: int

    @staticmethod
    def sizes(queue_size: int, *, packed: bool) -> QueueAreas:
        """The bytes of the three areas, event words included.

        >>> tuple(QueueAreas.sizes(8, packed=False)), tuple(QueueAreas.sizes(8, packed=True))
        ((128, 22, 70), (128, 4, 4))
        """
        table = DESCRIPTOR_SIZE * queue_size
        if packed:
            return QueueAreas(table, EVENT_SUPPRESSION.size, EVENT_SUPPRESSION.size)
        available = RING_HEADER_SIZE + HEAD_SIZE * queue_size + EVENT_SIZE
        used = RING_HEADER_SIZE + USED_ELEMENT_SIZE * queue_size + EVENT_SIZE
        return QueueAreas(table, available, used)

    @staticmethod
    def alignments(*, packed: bool) -> QueueAreas:
        """What the three addresses are a multiple of."""
        return QueueAreas(16, 4, 4) if packed else QueueAreas(16, 2, 4)


def check_queue_size(size: int, *, packed: bool, largest: int = LARGEST_QUEUE) -> int:
    """Return `size` if a queue can have it, else raise CallerError.

    A split queue has a power of two of descriptors, a packed one any number.
    """
    power_of_two = size > 0 and size & (size - 1) == 0
    if not 0 < size <= largest or not (packed or power_of_two):
        kind = "packed queue has" if packed else "split queue has a power of two of descriptors,"
        raise CallerError(
            f"a {kind} 1 to {largest} of them; this one has {size}",
            argument="size",
            value=size,
            limit=largest,
        )
    return size
