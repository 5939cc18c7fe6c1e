"""The shape of vsock packets: one header of 44 bytes, then the payload.

A virtio socket device has three queues: rx (packets for the guest), tx (packets of the guest) and event.
Only an RW packet has a payload; of any other `length` means nothing.

Sizes are in bytes, all numbers little-endian.  A CID is the address of a guest or of its host.

Source: OASIS VIRTIO 1.2, section 5.10; Linux include/uapi/linux/virtio_vsock.h.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from construct import Int16ul, Int32ul, Int64ul, Struct

from vmbus.layout import EnumField, FixedCodec, OpenIntEnum

__all__ = [
    "ANY_CID",
    "ANY_PORT",
    "HOST_CID",
    "LARGEST_PAYLOAD",
    "VSOCK_CONFIG",
    "VSOCK_CONFIG_SCHEMA",
    "VSOCK_EVENT",
    "VSOCK_EVENT_SCHEMA",
    "VSOCK_HEADER",
    "VSOCK_HEADER_SCHEMA",
    "VsockConfig",
    "VsockEvent",
    "VsockEventId",
    "VsockFeatures",
    "VsockHeader",
    "VsockMessageFlags",
    "VsockOperation",
    "VsockQueue",
    "VsockShutdown",
    "VsockType",
    "is_reserved_cid",
    "vsock_types",
]

#: The host, as every guest sees it.
HOST_CID = 2

#: Whatever the own address is; never on the wire.
ANY_CID = 0xFFFFFFFF

#: Whatever port is free; never on the wire.
ANY_PORT = 0xFFFFFFFF

#: The most bytes that any implementation known puts into one packet, or takes in one.
LARGEST_PAYLOAD = 65536


class VsockQueue(IntEnum):
    """The queues of a device, by their index."""

    RX = 0
    TX = 1
    EVENT = 2


class VsockFeatures(IntFlag):
    """The feature bits of a socket device."""

    STREAM = 1 << 0
    SEQPACKET = 1 << 1
    NO_IMPLIED_STREAM = 1 << 2


class VsockType(OpenIntEnum):
    """What a connection carries: a stream of bytes, or messages with their boundaries."""

    STREAM = 1
    SEQPACKET = 2


class VsockOperation(OpenIntEnum):
    """What a packet is for."""

    INVALID = 0
    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class VsockShutdown(IntFlag):
    """The flags of a SHUTDOWN: what its sender will not do any more."""

    RECEIVE = 1
    SEND = 2


class VsockMessageFlags(IntFlag):
    """The flags of an RW of messages: what ends with this packet."""

    END_OF_MESSAGE = 1
    END_OF_RECORD = 2


class VsockEventId(OpenIntEnum):
    """What a device tells over the event queue: all connections are gone, the CID may be another."""

    TRANSPORT_RESET = 0


VSOCK_HEADER_SCHEMA = Struct(
    "src_cid" / Int64ul,  # le64 src_cid
    "dst_cid" / Int64ul,  # le64 dst_cid
    "src_port" / Int32ul,  # le32 src_port
    "dst_port" / Int32ul,  # le32 dst_port
    "length" / Int32ul,  # le32 len: of the payload, in an RW
    "type" / EnumField(Int16ul, VsockType),  # le16 type
    "operation" / EnumField(Int16ul, VsockOperation),  # le16 op
    "flags" / Int32ul,  # le32 flags: which ones depends on operation and type
    "buf_alloc" / Int32ul,  # le32 buf_alloc: the sender's receive buffer, in bytes
    "fwd_cnt" / Int32ul,  # le32 fwd_cnt: bytes that have left that buffer, free-running
)

VSOCK_EVENT_SCHEMA = Struct("id" / EnumField(Int32ul, VsockEventId))  # le32 id

VSOCK_CONFIG_SCHEMA = Struct("guest_cid" / Int64ul)  # le64 guest_cid: the upper half is zero


class VsockHeader(NamedTuple):
    """The header of one packet."""

    src_cid: int = 0
    dst_cid: int = 0
    src_port: int = 0
    dst_port: int = 0
    length: int = 0
    type: int = 0
    operation: int = 0
    flags: int = 0
    buf_alloc: int = 0
    fwd_cnt: int = 0


class VsockEvent(NamedTuple):
    """What one buffer of the event queue holds."""

    id: int


class VsockConfig(NamedTuple):
    """The device's configuration space."""

    guest_cid: int


VSOCK_HEADER = FixedCodec(VSOCK_HEADER_SCHEMA, VsockHeader)
VSOCK_EVENT = FixedCodec(VSOCK_EVENT_SCHEMA, VsockEvent)
VSOCK_CONFIG = FixedCodec(VSOCK_CONFIG_SCHEMA, VsockConfig)


def vsock_types(features: int) -> frozenset[VsockType]:
    """What may be carried under the features that were negotiated.

    Without any of the three bits it is streams, and messages alone imply streams unless that is excluded.

    >>> sorted(vsock_types(0)) == sorted(vsock_types(VsockFeatures.STREAM)) == [VsockType.STREAM]
    True
    >>> VsockType.STREAM in vsock_types(VsockFeatures.SEQPACKET)
    True
    """
    types = {VsockType.SEQPACKET} if features & VsockFeatures.SEQPACKET else set()
    if features & VsockFeatures.STREAM or not features & VsockFeatures.NO_IMPLIED_STREAM:
        types.add(VsockType.STREAM)
    return frozenset(types)


def is_reserved_cid(cid: int) -> bool:
    """Whether no guest can have this CID: 0, 1, the host's, ANY_CID, and all above 32 bits.

    >>> is_reserved_cid(HOST_CID), is_reserved_cid(3), is_reserved_cid(2**64 - 1)
    (True, False, True)
    """
    return not HOST_CID < cid < ANY_CID
