"""Packets on their way into another form: each can be shown as an object, as a frame of a capture, or as
its payload alone.

Those of rings are here, and how a capture of them is written; those of sockets are in vsock_conversion, so
that a ring needs nothing of virtio.  Where nobody noted the time, it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from vmbus.errors import CallerError
from vmbus.images import Finding

from .capture_layout import LINKTYPE_USER0, LINKTYPE_WIRESHARK_UPPER_PDU, Direction
from .examine import PacketReport
from .names import type_label
from .pipe_capture import pipe_content, pipe_frame
from .report import Report
from .ring_capture import PacketState, direction_of, original_length, ring_frame
from .ring_place import RingPlace
from .to_json import packet_to_json
from .to_pcapng import PcapngWriter

__all__ = [
    "CaptureInterface",
    "Convertible",
    "ConvertiblePacket",
    "ring_packets",
    "write_ring_capture",
]

#: What a capture of ring packets says of them: their link type is one that everybody may use.
RING_COMMENT = (
    "VMBus ring packets: 48 bytes with ring, offset, direction and state (vmbus/inspection/ring_capture.py), "
    "then descriptor, header and payload as they lie in the ring, without the footer; the times are not known"
)


class CaptureInterface(NamedTuple):
    """Where the packets of a capture came from: of rings, one ring."""

    name: str | None = None
    description: str | None = None

    @property
    def of_pipe(self) -> CaptureInterface:
        """The interface beside it for what its packets carry through a pipe."""
        return self._replace(name=f"{self.name or 'ring'} pipe payload")


class ConvertiblePacket(NamedTuple):
    """One packet.

    frame             its bytes in a capture
    payload           those that it carries
    document          makes the object that shows it
    timestamp         nanoseconds since 1970; 0 where it is not known
    original_length   bytes that the frame had where it was captured; None: that is all of it
    comment           where it was found
    interface         what it was found in, where a capture has more than one of them
    direction         which way it went; None where that has no meaning
    content           what it carries through a pipe, where it seems to
    """

    frame: bytes | memoryview
    payload: bytes
    document: Callable[[], dict[str, Any]]
    timestamp: int = 0
    original_length: int | None = None
    comment: str | None = None
    interface: CaptureInterface | None = None
    direction: Direction | None = None
    content: bytes | None = None


class Convertible(NamedTuple):
    """All packets of one dump or capture.

    packets     makes an iterator over them, each time from the start; of a capture it may raise DumpError
    link_type   what their frames are
    comment     what a capture should say of them
    is_sound    whether what they were found in has neither an error nor a warning
    findings    what is wrong with it, as the report lists it
    interfaces  those that a capture describes, whether or not they have packets
    """

    packets: Callable[[], Iterator[ConvertiblePacket]]
    link_type: int
    comment: str | None = None
    is_sound: bool = True
    findings: tuple[Finding, ...] = ()
    interfaces: tuple[CaptureInterface, ...] = ()

    def write_pcapng(self, stream: BinaryIO, *, application: str) -> None:
        """Write them as a pcapng file: of rings with an interface for each, of sockets with one.

        Raises CallerError, which counts the packets, for one that does not fit a field.
        """
        writer = FrameWriter(self, stream, application)
        for count, packet in enumerate(self.packets(), 1):
            try:
                writer.write(packet)
            except CallerError as error:
                raise CallerError(
                    f"packet {count} does not fit the other form: {error}",
                    argument=error.argument,
                    value=error.value,
                    limit=error.limit,
                ) from error


def ring_packets(report: Report) -> Convertible:
    """The packets of rings, as `inspect_dump` reports them: of each ring those read already, then the
    waiting ones.

    >>> from vmbus.images import open_dump
    >>> from .sample import sample_path
    >>> from .report import inspect_dump
    >>> found = ring_packets(inspect_dump(open_dump(sample_path())))
    >>> found.link_type, len(list(found.packets())), [one.name for one in found.interfaces]
    (147, 5, ['ring 0x0 outbound', 'ring 0x2000 inbound'])
    """

    def packets() -> Iterator[ConvertiblePacket]:
        for ring in report.rings:
            for state, found in (
                (PacketState.CONSUMED, ring.consumed),
                (PacketState.WAITING, ring.packets),
            ):
                for packet in found:
                    yield ring_packet(packet, state, ring.place)

    findings = tuple(finding for ring in report.rings for finding in ring.findings)
    interfaces = tuple(interface_of(ring.place) for ring in report.rings)
    return Convertible(packets, LINKTYPE_USER0, RING_COMMENT, report.is_sound, findings, interfaces)


def interface_of(place: RingPlace) -> CaptureInterface:
    """A ring as the interface of a capture."""
    role = f" {place.role}" if place.role else ""
    of_device = "" if place.device is None else f", {place.device}"
    return CaptureInterface(
        f"ring {place.address:#x}{role}", f"VMBus ring, {place.data_size} bytes of data{of_device}"
    )


def ring_packet(packet: PacketReport, state: PacketState, place: RingPlace) -> ConvertiblePacket:
    def document() -> dict[str, Any]:
        return packet_document(packet, state, place.address)

    taken = "read already" if state is PacketState.CONSUMED else "waiting"
    words = [f"ring at {place.address:#x}, offset {packet.offset:#06x}, {taken}"]
    if packet.descriptor is not None:
        words.append(
            f"{type_label(packet.descriptor.type)}, transaction {packet.descriptor.transaction_id:#x}"
        )
    if packet.broken is not None:
        words.append(f"broken: {packet.broken}")
    return ConvertiblePacket(
        ring_frame(packet, state, place),
        packet.payload or b"",
        document,
        original_length=original_length(packet),
        comment=", ".join(words),
        interface=interface_of(place),
        direction=direction_of(place.role),
        content=pipe_content(packet),
    )


def packet_document(packet: PacketReport, state: PacketState, address: int) -> dict[str, Any]:
    """A packet as the object that `vmbus inspect --jsonl` has for it."""
    kind = "consumed" if state is PacketState.CONSUMED else "packet"
    return {"kind": kind, "ring": address, **packet_to_json(packet)}


def write_ring_capture(report: Report, stream: BinaryIO, *, application: str = "vmbus inspect") -> None:
    """Write every packet of a report as a pcapng file, each with its ring's offset and its direction.

    An interface for each ring, and one more where it carries a pipe; the frames are described in
    vmbus/inspection/ring_capture.py.

    >>> import io
    >>> from vmbus.images import open_dump
    >>> from .sample import sample_path
    >>> from .report import inspect_dump
    >>> stream = io.BytesIO()
    >>> write_ring_capture(inspect_dump(open_dump(sample_path())), stream)
    >>> stream.getvalue().count(b"VMBR")
    5
    """
    ring_packets(report).write_pcapng(stream, application=application)


class FrameWriter:
    """A pcapng file that gets its interfaces as packets of theirs come.

    Of a ring's packet that carries a pipe, what it carries is a second frame.
    """

    def __init__(self, found: Convertible, stream: BinaryIO, application: str) -> None:
        self.of_rings = found.link_type == LINKTYPE_USER0
        self.writer = PcapngWriter(
            stream,
            None if self.of_rings else found.link_type,
            snap_length=0,
            comment=found.comment,
            application=application,
        )
        self.numbers: dict[tuple[CaptureInterface, int], int] = {}
        for interface in found.interfaces:
            self.number_of(interface, found.link_type)

    def number_of(self, interface: CaptureInterface, link_type: int) -> int:
        """The number of an interface, which is described when it is new."""
        key = interface, link_type
        if key not in self.numbers:
            name, description = interface
            self.numbers[key] = self.writer.add_interface(link_type, name=name, description=description)
        return self.numbers[key]

    def write(self, packet: ConvertiblePacket) -> None:
        interface = packet.interface or CaptureInterface()
        number = self.number_of(interface, LINKTYPE_USER0) if self.of_rings else 0
        self.writer.write(
            packet.frame,
            timestamp=packet.timestamp,
            original_length=packet.original_length,
            comment=packet.comment,
            interface=number,
            direction=packet.direction,
        )
        if packet.content:
            self.writer.write(
                pipe_frame(packet.content),
                timestamp=packet.timestamp,
                interface=self.number_of(interface.of_pipe, LINKTYPE_WIRESHARK_UPPER_PDU),
                direction=packet.direction,
            )
