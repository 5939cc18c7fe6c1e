"""Vsock packets as captures hold them: a header that every transport has, the transport's own, payload.

Linux shows its sockets so through a vsockmon device, and captures call it link type 271.  The first
32 bytes are the pseudo header, whose `length` says how much of the transport's own header follows:
of virtio the 44 bytes of a packet's header.  The payload is the rest.

All numbers are little-endian; sizes are in bytes.  The public description of the link type draws no
reserved bytes behind `length`; Linux writes two, and Wireshark reads two.

Sources: Linux include/uapi/linux/vsockmon.h and net/vmw_vsock/virtio_transport_common.c; Wireshark
packet-vsock.c; tcpdump.org, LINKTYPE_VSOCK.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import Int16ul, Int32ul, Int64ul, Padding, Struct

from vmbus.errors import DumpError
from vmbus.layout import EnumField, FixedCodec, OpenIntEnum
from vmbus.memory import Buffer, view_bytes

from .vsock_layout import VSOCK_HEADER, VsockHeader, VsockOperation

__all__ = [
    "LINKTYPE_VSOCK",
    "VSOCKMON",
    "VSOCKMON_SCHEMA",
    "CaptureHeader",
    "CaptureOperation",
    "CaptureRecord",
    "CaptureTransport",
    "capture_operation",
    "capture_record",
    "parse_capture_record",
]

#: What pcap and pcapng files call these records.
LINKTYPE_VSOCK = 271


class CaptureOperation(OpenIntEnum):
    """What a packet is for, in the words of all transports."""

    UNKNOWN = 0
    CONNECT = 1
    DISCONNECT = 2
    CONTROL = 3
    PAYLOAD = 4


class CaptureTransport(OpenIntEnum):
    """Whose header follows the pseudo header."""

    UNKNOWN = 0
    NO_INFO = 1
    VIRTIO = 2


CAPTURE_OPERATIONS: dict[int, CaptureOperation] = {
    VsockOperation.REQUEST: CaptureOperation.CONNECT,
    VsockOperation.RESPONSE: CaptureOperation.CONNECT,
    VsockOperation.RST: CaptureOperation.DISCONNECT,
    VsockOperation.SHUTDOWN: CaptureOperation.DISCONNECT,
    VsockOperation.CREDIT_UPDATE: CaptureOperation.CONTROL,
    VsockOperation.CREDIT_REQUEST: CaptureOperation.CONTROL,
    VsockOperation.RW: CaptureOperation.PAYLOAD,
}

VSOCKMON_SCHEMA = Struct(
    "src_cid" / Int64ul,  # le64 src_cid
    "dst_cid" / Int64ul,  # le64 dst_cid
    "src_port" / Int32ul,  # le32 src_port
    "dst_port" / Int32ul,  # le32 dst_port
    "operation" / EnumField(Int16ul, CaptureOperation),  # le16 op
    "transport" / EnumField(Int16ul, CaptureTransport),  # le16 t
    "length" / Int16ul,  # le16 len: of the transport's header
    Padding(2),  # u8 reserved[2]
)


class CaptureHeader(NamedTuple):
    """The pseudo header."""

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    operation: int
    transport: int
    length: int


VSOCKMON = FixedCodec(VSOCKMON_SCHEMA, CaptureHeader)


class CaptureRecord(NamedTuple):
    """One record, taken apart.

    capture            the pseudo header
    header             the virtio header; None where the transport is another or not all of it is there
    transport_header   its bytes, of whatever transport, or as many of them as were captured
    payload            the bytes behind
    """

    capture: CaptureHeader
    header: VsockHeader | None
    transport_header: bytes
    payload: bytes


def capture_operation(operation: int) -> CaptureOperation:
    """What captures call an operation of virtio.

    >>> capture_operation(VsockOperation.RW).label, capture_operation(99).label
    ('payload', 'unknown')
    """
    return CAPTURE_OPERATIONS.get(operation, CaptureOperation.UNKNOWN)


def capture_record(header: VsockHeader, payload: Buffer = b"") -> bytes:
    """A packet of virtio as a record; `payload` is stored as it is, whatever the header says of it.

    >>> record = capture_record(VsockHeader(3, 2, 1024, 1234, 5, 1, VsockOperation.RW), b"hello")
    >>> len(record), parse_capture_record(record).payload
    (81, b'hello')
    """
    capture = CaptureHeader(
        header.src_cid,
        header.dst_cid,
        header.src_port,
        header.dst_port,
        capture_operation(header.operation),
        CaptureTransport.VIRTIO,
        VSOCK_HEADER.size,
    )
    return b"".join([VSOCKMON.pack(capture), VSOCK_HEADER.pack(header), view_bytes(payload, "payload")])


def parse_capture_record(data: Buffer) -> CaptureRecord:
    """Take a record apart, of any transport and also when its end was not captured.

    Raises DumpError when it is too short for the pseudo header.
    """
    record = view_bytes(data, "data")
    if len(record) < VSOCKMON.size:
        raise DumpError(
            f"a captured packet has {len(record)} bytes, and its pseudo header alone {VSOCKMON.size}"
        )
    capture = VSOCKMON.unpack(record)
    payload_offset = VSOCKMON.size + capture.length
    own = record[VSOCKMON.size : payload_offset].tobytes()
    is_virtio = capture.transport == CaptureTransport.VIRTIO and len(own) >= VSOCK_HEADER.size
    return CaptureRecord(
        capture,
        VSOCK_HEADER.unpack(own) if is_virtio else None,
        own,
        record[payload_offset:].tobytes(),
    )
