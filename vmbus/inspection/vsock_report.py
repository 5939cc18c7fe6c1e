"""One vsock packet taken apart for people, from a chain of a virtqueue or from a capture.

Nothing is refused: what a receiver would drop, or answer with an RST, is a finding.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c for what a
receiver does with each.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple

from vmbus.images import Finding, Severity
from vmbus.virtio import (
    HOST_CID,
    LARGEST_PAYLOAD,
    VSOCK_HEADER,
    VsockHeader,
    VsockMessageFlags,
    VsockOperation,
    VsockShutdown,
    VsockType,
    is_reserved_cid,
)

from .names import bit_names

__all__ = ["VsockPacketReport", "examine_vsock_packet", "vsock_packet_to_json"]

#: The CID by which a machine reaches itself: in captures, never on a queue.
LOCAL_CID = 1


class NoFlags(IntFlag):
    """The flags of a packet that has none."""


class VsockPacketReport(NamedTuple):
    """A packet as it was found.

    header     None when there are fewer bytes than it has
    payload    the bytes that belong to it: of an RW as many as the header says, or there are
    left_over  bytes behind them, which nobody reads
    findings   what is wrong with it
    raw        the header's bytes, all there are
    """

    header: VsockHeader | None
    payload: bytes
    left_over: int
    findings: tuple[Finding, ...]
    raw: bytes

    @property
    def operation(self) -> str | None:
        """Its operation by name, or unknown-N."""
        return None if self.header is None else VsockOperation(self.header.operation).label

    @property
    def type(self) -> str | None:
        """Its type by name, or unknown-N."""
        return None if self.header is None else VsockType(self.header.type).label

    @property
    def flags(self) -> list[str]:
        """Its flags by the names that they have in this operation."""
        return [] if self.header is None else bit_names(flags_kind(self.header), self.header.flags)


def examine_vsock_packet(
    header: bytes, payload: bytes = b"", *, queue: str | None = None
) -> VsockPacketReport:
    """Everything that can be said of one packet.

    header    its bytes: 44, or as many as there are
    payload   the bytes behind them that there are
    queue     the queue that it was found in, "rx" or "tx": it says who sent it; None for a capture

    >>> packet = examine_vsock_packet(VSOCK_HEADER.pack(VsockHeader(3, 2, 1024, 1234, 5, 1, 5)), b"hello")
    >>> packet.operation, packet.type, packet.payload, packet.findings
    ('rw', 'stream', b'hello', ())
    """
    if len(header) < VSOCK_HEADER.size:
        message = f"a packet of {len(header)} bytes has no room for a header of {VSOCK_HEADER.size}"
        finding = Finding("vsock-header", Severity.ERROR, None, message)
        return VsockPacketReport(None, b"", len(payload), (finding,), bytes(header))
    fields = VSOCK_HEADER.unpack(header)
    length = fields.length if fields.operation == VsockOperation.RW else 0
    own = bytes(payload[:length])
    findings = [
        *check_addresses(fields, queue),
        *check_kind(fields),
        *check_length(fields, len(payload)),
        *check_flags(fields),
    ]
    return VsockPacketReport(fields, own, len(payload) - len(own), tuple(findings), bytes(header))


def warning(check: str, message: str) -> Finding:
    return Finding(check, Severity.WARNING, None, message)


def check_addresses(header: VsockHeader, queue: str | None) -> list[Finding]:
    """A sender's CID that no sender has."""
    source = header.src_cid
    if queue == "tx":
        wrong = is_reserved_cid(source)
        allowed = "a guest's is from 3 on"
    elif queue == "rx":
        wrong = is_reserved_cid(source) and source != HOST_CID
        allowed = f"the host's is {HOST_CID}, a guest's from 3 on"
    else:
        wrong = is_reserved_cid(source) and source not in (LOCAL_CID, HOST_CID)
        allowed = f"1 is this machine itself, {HOST_CID} the host, guests are from 3 on"
    if not wrong:
        return []
    return [warning("vsock-cid", f"the packet comes from CID {source:#x}, which no sender has: {allowed}")]


def check_kind(header: VsockHeader) -> list[Finding]:
    """A type or an operation that receivers do not know."""
    findings = []
    if header.type not in (VsockType.STREAM, VsockType.SEQPACKET):
        message = f"the type is {header.type}; receivers know 1 (stream) and 2 (seqpacket)"
        findings.append(warning("vsock-type", message))
    if not VsockOperation.REQUEST <= header.operation <= VsockOperation.CREDIT_REQUEST:
        findings.append(
            warning("vsock-operation", f"the operation is {header.operation}; receivers know 1 to 7")
        )
    return findings


def check_length(header: VsockHeader, there: int) -> list[Finding]:
    """A length that is not that of the payload."""
    length = header.length
    if header.operation != VsockOperation.RW:
        if not length:
            return []
        message = f"the packet says that it has {length} bytes of payload, and its operation has none"
        return [warning("vsock-payload", message)]
    findings = []
    if length > LARGEST_PAYLOAD:
        message = f"the packet says that it has {length} bytes of payload: no receiver takes more than {LARGEST_PAYLOAD}"
        findings.append(warning("vsock-large", message))
    if length > there:
        message = f"the packet says that it has {length} bytes of payload, and {there} are there"
        findings.append(Finding("vsock-length", Severity.ERROR, None, message))
    return findings


def check_flags(header: VsockHeader) -> list[Finding]:
    """Flags without a meaning in this operation."""
    unknown = header.flags
    for bit in flags_kind(header).__members__.values():
        unknown &= ~int(bit)
    if not unknown:
        return []
    message = f"the flags {unknown:#x} have no meaning in {VsockOperation(header.operation).label}"
    return [warning("vsock-flags", message)]


def flags_kind(header: VsockHeader) -> type[IntFlag]:
    """What the flags of a packet are."""
    if header.operation == VsockOperation.SHUTDOWN:
        return VsockShutdown
    if header.operation == VsockOperation.RW and header.type == VsockType.SEQPACKET:
        return VsockMessageFlags
    return NoFlags


def vsock_packet_to_json(packet: VsockPacketReport) -> dict[str, Any]:
    """The packet as an object: numbers as they are, the CIDs in hex as well, unknown is null."""
    header = packet.header
    document: dict[str, Any] = {}
    for name in VsockHeader._fields:
        document[name] = None if header is None else int(getattr(header, name))
        if name.endswith("_cid"):
            document[f"{name}_hex"] = None if header is None else f"{getattr(header, name):#x}"
    for name, value in (("type", packet.type), ("operation", packet.operation)):
        document[f"{name}_value"] = document[name]
        document[name] = value
    document["flags_value"] = document["flags"]
    document["flags"] = None if header is None else packet.flags
    document |= {
        "payload_length": len(packet.payload),
        "payload": packet.payload.hex(),
        "left_over": packet.left_over,
        "header": packet.raw.hex(),
    }
    return document
