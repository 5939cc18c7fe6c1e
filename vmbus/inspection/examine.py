"""One packet taken apart for people, whole or as far as it can be read.

Everything is copied out of the dump once and judged from the copy.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import PeerError
from vmbus.images import Finding, Severity
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER,
    FOOTER_SIZE,
    PIPE_HEADER_SIZE,
    Footer,
    PacketDescriptor,
    PacketType,
    PartialPipeHeader,
)
from vmbus.memory import RingMem
from vmbus.pipe import pipe_header_of
from vmbus.ring import (
    Ranges,
    RingFault,
    advance,
    explain_descriptor,
    parse_extension,
    smallest_data_offset,
)

from .recover import Trust
from .walk import WalkedPacket

__all__ = ["PacketReport", "examine_packet"]


class PacketReport(NamedTuple):
    """A packet as it lies in a ring.

    offset                where its descriptor is, in bytes from the start of the data area
    available             bytes from there to the end of what was walked; of a recovered packet, its own
    descriptor            as read; None when not all of it is there
    header                the bytes between descriptor and payload; None when there is no telling
    payload               the bytes up to the footer, padding included; None as well
    ranges                memory outside the ring, where the header lists some and they are valid; None
                          when there is no header to list them
    transfer_page_set_id  of a transfer-page packet
    footer                None when it is not there
    footer_offset         where the footer is
    broken                the check that speaks against the packet, or None
    raw                   of a broken packet, all its bytes that there are; None where an image lacks some
    description           what the payload seems to be, or None
    content               the payload without the frame that the description speaks of
    trust                 of a packet recovered from behind out
    findings              what is wrong with it; a footer that is not its own is none

    A packet recovered by its footer alone begins and ends as the footer says; its descriptor, which
    says something else, is shown as it is.
    """

    offset: int
    available: int
    descriptor: PacketDescriptor | None
    header: bytes | None = None
    payload: bytes | None = None
    ranges: Ranges | None = None
    transfer_page_set_id: int | None = None
    footer: Footer | None = None
    footer_offset: int | None = None
    broken: str | None = None
    raw: bytes | None = None
    description: str | None = None
    content: bytes = b""
    trust: Trust | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def data_offset(self) -> int | None:
        """Bytes from its start to its payload, as the descriptor says."""
        return self.descriptor.data_offset if self.descriptor else None

    @property
    def length(self) -> int | None:
        """Bytes without its footer, as the descriptor says."""
        return self.descriptor.length if self.descriptor else None

    @property
    def packet_size(self) -> int | None:
        """Bytes with its footer: as the descriptor says, or the footer where only that is trusted."""
        if self.trust is Trust.FOOTER_ONLY:
            return self.available
        return self.length + FOOTER_SIZE if self.length is not None else None

    @property
    def shown_bytes(self) -> int:
        """Bytes of it that can be shown: with its footer, or what there is of a broken one."""
        if self.raw is not None:
            return len(self.raw)
        return 0 if self.broken is not None else self.packet_size or 0

    @property
    def footer_agrees(self) -> bool:
        """True when the footer is what every writer but QEMU's leaves there."""
        return self.footer == Footer(0, self.offset)


def examine_packet(memory: RingMem, walked: WalkedPacket, trust: Trust | None = None) -> PacketReport:
    """Everything that can be said of a packet that a walk came to."""
    descriptor = walked.descriptor
    by_footer = trust is Trust.FOOTER_ONLY
    if descriptor is None or not (walked.whole or by_footer):
        return torn_packet(memory, walked, trust)
    length = walked.available - FOOTER_SIZE if by_footer else descriptor.length
    data = memory.read_at(walked.offset, length + FOOTER_SIZE)
    if by_footer:
        findings = [extent_finding(walked, descriptor)]
    else:
        findings = [] if walked.fault is None else [descriptor_finding(walked)]
    data_offset = descriptor.data_offset
    smallest = smallest_data_offset(descriptor.type)
    ranges: Ranges | None = None
    set_id = None
    header = payload = None
    if DESCRIPTOR_SIZE <= data_offset <= length:
        header, payload = data[DESCRIPTOR_SIZE:data_offset], data[data_offset:length]
        ranges = ()
        if data_offset >= smallest:
            try:
                ranges, set_id = parse_extension(descriptor, header)
            except PeerError as error:
                findings.append(packet_finding(walked.offset, error))
    broken = findings[0].check if findings else None
    description, content = describe_payload(descriptor, payload or b"")
    return PacketReport(
        offset=walked.offset,
        available=walked.available,
        descriptor=descriptor,
        header=header,
        payload=payload,
        ranges=ranges,
        transfer_page_set_id=set_id,
        footer=FOOTER.unpack(data, length),
        footer_offset=advance(memory.size, walked.offset, length),
        broken=broken,
        raw=data if broken else None,
        description=description,
        content=content,
        trust=trust,
        findings=tuple(findings),
    )


def torn_packet(memory: RingMem, walked: WalkedPacket, trust: Trust | None) -> PacketReport:
    """A packet that its own length does not end inside the ring's published bytes."""
    finding = descriptor_finding(walked)
    said = walked.descriptor.packet_size if walked.descriptor else 0
    shown = min(walked.available, max(said, DESCRIPTOR_SIZE))
    return PacketReport(
        offset=walked.offset,
        available=walked.available,
        descriptor=walked.descriptor,
        broken=finding.check,
        raw=memory.read_at(walked.offset, shown),
        trust=trust,
        findings=(finding,),
    )


def descriptor_finding(walked: WalkedPacket) -> Finding:
    assert walked.fault is not None
    descriptor = walked.descriptor or PacketDescriptor(0, 0, 0, 0, 0)
    return packet_finding(walked.offset, explain_descriptor(walked.fault, descriptor, walked.available))


def packet_finding(offset: int, error: PeerError) -> Finding:
    assert error.kind is not None
    return Finding(error.kind.value, Severity.ERROR, offset, f"the packet {error}")


def extent_finding(walked: WalkedPacket, descriptor: PacketDescriptor) -> Finding:
    """That descriptor and footer do not agree on where a recovered packet ends."""
    message = (
        f"the packet says that it is {descriptor.packet_size} bytes long with its footer, "
        f"and the footer that names its start ends after {walked.available}"
    )
    return Finding(RingFault.INVALID_DESCRIPTOR_LENGTHS.value, Severity.ERROR, walked.offset, message)


def describe_payload(descriptor: PacketDescriptor, payload: bytes) -> tuple[str | None, bytes]:
    """What the payload seems to be, from its bytes alone, and the bytes without their frame."""
    header = pipe_header_of(payload) if descriptor.type == PacketType.IN_BAND else None
    if header is None:
        return None, payload
    content = payload[PIPE_HEADER_SIZE : PIPE_HEADER_SIZE + header.length]
    if isinstance(header, PartialPipeHeader):
        return f"pipe data, {header.length} bytes of which {header.consumed} are read", content
    return (f"pipe data, {header.length} bytes" if header.length else "pipe end of stream"), content
