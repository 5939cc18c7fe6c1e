"""How a packet of a ring stands in a capture: link type 147 (USER0), a fixed header and the packet.

The header is 48 bytes, little-endian; the packet behind it is descriptor, header and payload as they lie in
the ring, put together where they wrap, without the footer.

    +0   magic        the bytes "VMBR"
    +4   version      u16: 1
    +6   header_size  u16: 48, where the packet starts; a later version 1 may have a longer header
    +8   direction    u8: 0 unknown, 1 inbound (host to guest), 2 outbound (guest to host)
    +9   state        u8: 1 waiting, 2 consumed: the reader has taken it, and its bytes are still there
    +10  trust        u8, of a consumed one: 1 intact, 2 length-only, 3 footer-only, 4 guess; of a waiting one 0
    +11  flags        u8: bit 0, a reader would refuse it; bit 1, its footer is known
    +12  offset       u32: where it starts, from the start of the data area
    +16  address      u64: of the ring's control page
    +24  data_size    u32: of the ring's data area
    +28  available    u32: bytes from its start to in; of a consumed one, those that it takes
    +32  packet_size  u32: bytes of it, with the footer where that is known
    +36  reserved     u32: 0
    +40  footer       8 bytes as they lie in the ring; zeros where it is not known
    +48  the packet

Of a packet of which a memory image lacks some bytes, its descriptor stands in the frame, where that is known, and
packet_size and the frame's original length count all of it, with its footer: the frame was not captured whole.

In pcapng the direction stands in epb_flags as well, and every ring is an interface of its own.  What a packet
carries through a pipe follows in a frame of its own: vmbus/inspection/pipe_capture.py.

Sources: tcpdump.org, link types; IETF draft-ietf-opsawg-pcapng, epb_flags.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple, NoReturn

from vmbus.errors import CallerError, DumpError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER,
    FOOTER_SIZE,
    PACKET_DESCRIPTOR,
)
from vmbus.memory import ControlWords, RingMem
from vmbus.ring import RingFault, descriptor_fault
from vmbus.sizes import CONTROL_SIZE, SLOT, check_data_size

from .capture_layout import Direction
from .examine import PacketReport, examine_packet
from .recover import Trust
from .ring_place import RingPlace
from .walk import WalkedPacket

__all__ = [
    "RING_FRAME_HEADER",
    "PacketState",
    "RingFrame",
    "RingFrameHeader",
    "frame_to_report",
    "is_ring_frame",
    "original_length",
    "parse_ring_frame",
    "ring_frame",
]

MAGIC = b"VMBR"
VERSION = 1

RING_FRAME_HEADER = Struct("<4sHHBBBBIQIIII8s")


class PacketState(IntEnum):
    """Whether a packet is still to be read."""

    WAITING = 1
    CONSUMED = 2


class FrameFlags(IntFlag):
    """The flags of the header."""

    BROKEN = 1
    HAS_FOOTER = 2


#: The number of each degree of trust; of a waiting packet there is none to speak of.
TRUSTS = (None, Trust.INTACT, Trust.LENGTH_ONLY, Trust.FOOTER_ONLY, Trust.GUESS)


class RingFrameHeader(NamedTuple):
    """The fields of the header, as in the table above."""

    magic: bytes
    version: int
    header_size: int
    direction: int
    state: int
    trust: int
    flags: int
    offset: int
    address: int
    data_size: int
    available: int
    packet_size: int
    reserved: int
    footer: bytes


class RingFrame(NamedTuple):
    """A frame taken apart.

    header    its numbers, checked
    packet    the packet without its footer, as far as it was captured
    is_whole  whether all of it was captured
    """

    header: RingFrameHeader
    packet: bytes
    is_whole: bool

    @property
    def direction(self) -> Direction:
        return Direction(self.header.direction)

    @property
    def state(self) -> PacketState:
        return PacketState(self.header.state)

    @property
    def trust(self) -> Trust | None:
        return TRUSTS[self.header.trust]

    @property
    def footer(self) -> bytes:
        """The footer, or nothing where it is not known."""
        return self.header.footer if self.header.flags & FrameFlags.HAS_FOOTER else b""


def direction_of(role: str | None) -> Direction:
    """Which way the packets of a ring go.

    >>> direction_of("inbound"), direction_of(None)
    (<Direction.INBOUND: 1>, <Direction.UNKNOWN: 0>)
    """
    return Direction.UNKNOWN if role is None else Direction[role.upper()]


def ring_frame(packet: PacketReport, state: PacketState, place: RingPlace) -> bytes:
    """A packet of the ring at `place` as a frame; of one that is torn or not all in the image, what there is."""
    data = packet_bytes(packet)
    footer = b"" if packet.footer is None else FOOTER.pack(packet.footer)
    flags = (FrameFlags.BROKEN if packet.broken is not None else 0) | (FrameFlags.HAS_FOOTER if footer else 0)
    header = RingFrameHeader(
        magic=MAGIC,
        version=VERSION,
        header_size=RING_FRAME_HEADER.size,
        direction=direction_of(place.role),
        state=state,
        trust=TRUSTS.index(packet.trust),
        flags=flags,
        offset=packet.offset,
        address=place.address,
        data_size=place.data_size,
        available=packet.available,
        packet_size=(missing_size(packet) if is_missing(packet) else len(data)) + len(footer),
        reserved=0,
        footer=footer,
    )
    return RING_FRAME_HEADER.pack(*header) + data


def original_length(packet: PacketReport) -> int | None:
    """Bytes that the frame of a packet would have if the image had all of them; None where it has."""
    return RING_FRAME_HEADER.size + missing_size(packet) if is_missing(packet) else None


def is_missing(packet: PacketReport) -> bool:
    """Whether a memory image lacks bytes of a packet."""
    return packet.broken is not None and packet.raw is None


def missing_size(packet: PacketReport) -> int:
    """Bytes that such a packet has with its footer, as far as its own length can be believed."""
    if packet.packet_size is None:
        return packet.available
    return min(packet.available, max(packet.packet_size, DESCRIPTOR_SIZE))


def packet_bytes(packet: PacketReport) -> bytes:
    """A packet without its footer; of one that is torn or not all in the image, what there is."""
    if packet.raw is not None:
        return packet.raw if packet.footer is None else packet.raw[:-FOOTER_SIZE]
    descriptor = b"" if packet.descriptor is None else PACKET_DESCRIPTOR.pack(packet.descriptor)
    return b"".join([descriptor, packet.header or b"", packet.payload or b""])


def is_ring_frame(data: bytes | memoryview) -> bool:
    """Whether a frame of link type 147, which everybody may use, begins as those of rings do."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def parse_ring_frame(data: bytes | memoryview, original_length: int | None = None) -> RingFrame:
    """A frame taken apart and checked.

    original_length   bytes that it had where it was captured; None: all of them are in `data`

    Raises DumpError, without a path, when it is none or contradicts itself.
    """
    if not is_ring_frame(data):
        refuse(f"a frame of a ring begins with {MAGIC!r}, and this one with {bytes(data[: len(MAGIC)])!r}")
    if len(data) < RING_FRAME_HEADER.size:
        refuse(f"a frame of a ring has {RING_FRAME_HEADER.size} bytes at least, and this one {len(data)}")
    header = RingFrameHeader._make(RING_FRAME_HEADER.unpack_from(data))
    check_frame_header(header)
    packet = bytes(data[header.header_size :])
    whole = max(original_length or 0, len(data))
    known = whole - header.header_size + (FOOTER_SIZE if header.flags & FrameFlags.HAS_FOOTER else 0)
    if known != header.packet_size:
        refuse(f"the frame has {known} bytes of its packet, and its header says {header.packet_size}")
    return RingFrame(header, packet, whole == len(data))


def check_frame_header(header: RingFrameHeader) -> None:
    """Raise DumpError for numbers that no header has."""
    limits = (
        ("version", VERSION, VERSION),
        ("header_size", RING_FRAME_HEADER.size, 0xFFFF),
        ("direction", 0, max(Direction)),
        ("state", PacketState.WAITING, PacketState.CONSUMED),
        ("flags", 0, FrameFlags.BROKEN | FrameFlags.HAS_FOOTER),
        ("offset", 0, header.data_size - SLOT),
        ("available", header.packet_size, header.data_size),
    )
    try:
        check_data_size(header.data_size)
    except CallerError as error:
        refuse(f"the data_size of a frame cannot be: {error}")
    for name, least, most in limits:
        value = getattr(header, name)
        if not least <= value <= most:
            refuse(f"the {name} of a frame of a ring is {least} to {most}, and here {value}")
    if header.offset % SLOT:
        refuse(f"the offset of a frame of a ring is a multiple of {SLOT}, and here {header.offset}")
    trusts = range(1, len(TRUSTS)) if header.state == PacketState.CONSUMED else range(1)
    if header.trust not in trusts:
        refuse(
            f"the trust of a frame is {trusts[0]} to {trusts[-1]} in state {header.state}, not {header.trust}"
        )


def frame_to_report(frame: RingFrame) -> PacketReport:
    """What can be said of a packet in a capture: the same as of the packet in its ring.

    Of one that was not captured whole only the descriptor is judged; `raw` is what there is of it.

    Raises DumpError, without a path, when header and packet contradict each other.
    """
    header = frame.header
    if not frame.is_whole:
        has_descriptor = len(frame.packet) >= DESCRIPTOR_SIZE
        descriptor = PACKET_DESCRIPTOR.unpack(frame.packet) if has_descriptor else None
        return PacketReport(header.offset, header.available, descriptor, raw=frame.packet, trust=frame.trust)
    memory = FrameMemory(frame)
    descriptor, fault = None, RingFault.INVALID_DATA_AVAILABLE
    walked = WalkedPacket(header.offset, None, header.available, fault)
    if header.available >= DESCRIPTOR_SIZE:
        descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at(header.offset, DESCRIPTOR_SIZE))
        walked = walked._replace(descriptor=descriptor, fault=descriptor_fault(descriptor, header.available))
    report = examine_packet(memory, walked, frame.trust)
    if report.shown_bytes != header.packet_size or bool(report.footer) != bool(frame.footer):
        refuse(
            f"the header of a frame speaks of {header.packet_size} bytes, and its packet does not have them"
        )
    return report


class FrameMemory(RingMem):
    """A ring of which one packet is known."""

    def __init__(self, frame: RingFrame) -> None:
        self._header = frame.header
        self._data = frame.packet + frame.footer

    @property
    def control(self) -> ControlWords:
        return memoryview(bytes(CONTROL_SIZE)).cast("I")

    @property
    def size(self) -> int:
        return self._header.data_size

    def read_at(self, offset: int, length: int) -> bytes:
        start = (offset - self._header.offset) % self.size
        if start + length > len(self._data):
            refuse(
                f"its packet has {len(self._data)} bytes in the frame, and says that it has {start + length}"
            )
        return self._data[start : start + length]

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        raise CallerError("a packet in a capture is only looked at", argument="offset", value=offset)


def refuse(why: str) -> NoReturn:
    raise DumpError(why)
