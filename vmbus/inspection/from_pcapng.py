"""Packets out of capture files: pcap and pcapng, in either byte order.

Packets are handed out one after the other as views of the file's bytes, so that a large file costs no
memory.  Blocks and options that hold no packets are passed over.  What is cut off or contradicts
itself is a DumpError, after the packets before it.

Sources: as vmbus/inspection/capture_layout.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct
from typing import Any, BinaryIO, NamedTuple, NoReturn

from vmbus.errors import DumpError
from vmbus.images import Dump, RawDump, open_dump, read_stream

from .capture_layout import (
    BYTE_ORDER_MAGIC,
    FORMS,
    NANOSECONDS,
    PCAP_UNITS,
    BlockType,
    Direction,
    Forms,
    Option,
    PacketOption,
    padded_size,
)

__all__ = ["CapturedPacket", "is_capture", "read_capture"]

#: A file without if_tsresol counts microseconds.
USUAL_RESOLUTION = 6

#: The bit of if_tsresol that makes its number a power of 2.
POWER_OF_TWO = 0x80

#: Of the last word of a pcap header, the bits that are the link type.
LINK_TYPE_BITS = 0xFFFF


class CapturedPacket(NamedTuple):
    """One packet of a capture.

    place            of its record or block, in bytes from the start of the file
    link_type        what it is
    timestamp        nanoseconds since 1970, rounded down; None where the file has no time for it
    original_length  bytes that it had, of which `data` may be only the first
    data             those that were captured
    comment          of the packet; None without one
    direction        which way it went; None where the file does not say
    interface        the name of the interface it was captured at; None without one
    description      of that interface; None without one
    """

    place: int
    link_type: int
    timestamp: int | None
    original_length: int
    data: memoryview
    comment: str | None = None
    direction: Direction | None = None
    interface: str | None = None
    description: str | None = None


class Interface(NamedTuple):
    """What a pcapng section says of where packets came from.

    units    of time in a second
    offset   seconds to add to each time
    """

    link_type: int
    snap_length: int
    units: int
    offset: int
    name: str | None = None
    description: str | None = None


def is_capture(dump: Dump) -> bool:
    """Whether a file starts as pcap or pcapng files do.

    >>> is_capture(RawDump("empty.pcap", memoryview(bytes.fromhex("d4c3b2a1"))))
    True
    """
    if not isinstance(dump, RawDump):
        return False
    start = dump.data[: FORMS["<"].word.size]
    return pcap_order(start) is not None or starts_section(start)


def read_capture(source: str | os.PathLike[str] | BinaryIO | Dump) -> Iterator[CapturedPacket]:
    """The packets of a capture: the name of a file, a binary stream, or a Dump.

    Raises DumpError when the file is no capture, and at the place where it is broken.

    >>> from io import BytesIO
    >>> [packet.link_type for packet in read_capture(BytesIO(bytes.fromhex(
    ...     "d4c3b2a1 02000400 00000000 00000000 00000400 0f010000"
    ...     "01000000 02000000 01000000 01000000 41")))]
    [271]
    """
    dump = dump_from(source)
    order = pcap_order(dump.data[: FORMS["<"].word.size])
    if order is not None:
        return PcapReader(dump, FORMS[order]).packets()
    if starts_section(dump.data[: FORMS["<"].word.size]):
        return PcapngReader(dump).packets()
    raise DumpError(
        "is no capture: it starts neither as a pcap nor as a pcapng file does", path=dump.path, place=0
    )


def dump_from(source: str | os.PathLike[str] | BinaryIO | Dump) -> RawDump:
    """The bytes of a capture; DumpError for a memory image."""
    if isinstance(source, Dump):
        dump = source
    elif isinstance(source, (str, os.PathLike)):
        dump = open_dump(source)
    else:
        dump = read_stream(source, str(getattr(source, "name", "the stream")))
    if not isinstance(dump, RawDump):
        raise DumpError(f"is no capture: it is a memory image ({dump.format})", path=dump.path, place=0)
    return dump


def pcap_order(start: memoryview) -> str | None:
    """The byte order of a pcap file, from its first bytes."""
    for order, forms in FORMS.items():
        if len(start) == forms.word.size and forms.word.unpack(start)[0] in PCAP_UNITS:
            return order
    return None


def starts_section(start: memoryview) -> bool:
    return bytes(start) == FORMS["<"].word.pack(BlockType.SECTION)


class Reader:
    """What both kinds of file ask of their bytes."""

    def __init__(self, dump: RawDump) -> None:
        self.dump = dump

    def unpack(self, form: Struct, place: int, end: int, what: str) -> tuple[Any, ...]:
        """A structure that ends at `end` at the latest."""
        if place + form.size > end:
            self.refuse(place, f"{what} needs {form.size} bytes, and there are {max(end - place, 0)}")
        return form.unpack_from(self.dump.data, place)

    def cut(self, place: int, length: int, end: int, what: str) -> memoryview:
        """Bytes that end at `end` at the latest."""
        if length > end - place:
            self.refuse(place, f"{what} has {length} bytes, and there are {max(end - place, 0)}")
        return self.dump.data[place : place + length]

    def refuse(self, place: int, why: str) -> NoReturn:
        raise DumpError(f"at {place:#x}, {why}", path=self.dump.path, place=place)


class PcapReader(Reader):
    """A pcap file: a header, and records one behind the other."""

    def __init__(self, dump: RawDump, forms: Forms) -> None:
        super().__init__(dump)
        self.forms = forms
        magic, *_, last = self.unpack(forms.pcap_header, 0, dump.size, "the header of a pcap file")
        self.units = PCAP_UNITS[magic]
        self.link_type = last & LINK_TYPE_BITS

    def packets(self) -> Iterator[CapturedPacket]:
        record = self.forms.pcap_record
        place, end = self.forms.pcap_header.size, self.dump.size
        while place < end:
            seconds, units, length, original = self.unpack(record, place, end, "a record")
            data = self.cut(place + record.size, length, end, "a packet")
            timestamp = seconds * NANOSECONDS + units * NANOSECONDS // self.units
            yield CapturedPacket(place, self.link_type, timestamp, original, data)
            place += record.size + length


class PcapngReader(Reader):
    """A pcapng file: sections of blocks, each section with a byte order and interfaces of its own."""

    def __init__(self, dump: RawDump) -> None:
        super().__init__(dump)
        self.forms = FORMS["<"]
        self.interfaces: list[Interface] = []

    def packets(self) -> Iterator[CapturedPacket]:
        place = 0
        while place < self.dump.size:
            if starts_section(self.dump.data[place : place + self.forms.word.size]):
                self.start_section(place)
            kind, length = self.unpack(self.forms.block, place, self.dump.size, "a block")
            start = place + self.forms.block.size
            end = place + length - self.forms.word.size  # of the body
            if length % 4 or end < start:
                self.refuse(place, f"a block cannot have {length} bytes")
            self.cut(place, length, self.dump.size, "a block")
            (again,) = self.unpack(self.forms.word, end, self.dump.size, "a block")
            if again != length:
                self.refuse(place, f"a block starts with a length of {length} and ends with {again}")
            if kind == BlockType.INTERFACE:
                self.interfaces.append(self.interface(start, end))
            elif kind in PACKET_BLOCKS:
                yield self.packet(kind, place, start, end)
            place += length

    def start_section(self, place: int) -> None:
        """Learn the byte order of the blocks that follow."""
        at = place + self.forms.block.size
        for forms in FORMS.values():
            magic, *_ = self.unpack(forms.section, at, self.dump.size, "the header of a section")
            if magic == BYTE_ORDER_MAGIC:
                self.forms = forms
                self.interfaces = []
                return
        self.refuse(at, "a section says nothing of its byte order")

    def interface(self, start: int, end: int) -> Interface:
        link_type, _, snap_length = self.unpack(self.forms.interface, start, end, "an interface")
        exponent, base, offset = USUAL_RESOLUTION, 10, 0
        texts: dict[int, str] = {}
        for code, value in self.options(start + self.forms.interface.size, end):
            if code == Option.INTERFACE_TIME_RESOLUTION and len(value) == 1:
                exponent, base = value[0] & ~POWER_OF_TWO, 2 if value[0] & POWER_OF_TWO else 10
            elif code == Option.INTERFACE_TIME_OFFSET and len(value) == self.forms.time_offset.size:
                (offset,) = self.forms.time_offset.unpack(value)
            elif code in (Option.INTERFACE_NAME, Option.INTERFACE_DESCRIPTION):
                texts[code] = bytes(value).decode("utf-8", "replace")
        name, description = texts.get(Option.INTERFACE_NAME), texts.get(Option.INTERFACE_DESCRIPTION)
        return Interface(link_type, snap_length, base**exponent, offset, name, description)

    def packet(self, kind: int, place: int, start: int, end: int) -> CapturedPacket:
        """What one of the three blocks for packets holds."""
        form = getattr(self.forms, PACKET_BLOCKS[kind])
        fields = self.unpack(form, start, end, "a packet's block")
        start += form.size
        if kind == BlockType.SIMPLE_PACKET:
            interface = self.interface_of(0, place)
            (original,) = fields
            length = min(original, interface.snap_length) if interface.snap_length else original
            data = self.cut(start, length, end, "a packet")
            return CapturedPacket(
                place,
                interface.link_type,
                None,
                original,
                data,
                interface=interface.name,
                description=interface.description,
            )
        number, (high, low, length, original) = fields[0], fields[-4:]
        interface = self.interface_of(number, place)
        data = self.cut(start, length, end, "a packet")
        timestamp = (high << 32 | low) * NANOSECONDS // interface.units + interface.offset * NANOSECONDS
        comment, direction = None, None
        for code, value in self.options(start + padded_size(length), end):
            if code == Option.COMMENT:
                comment = bytes(value).decode("utf-8", "replace")
            elif code == PacketOption.FLAGS and len(value) == self.forms.word.size:
                direction = direction_of(self.forms.word.unpack(value)[0])
        return CapturedPacket(
            place,
            interface.link_type,
            timestamp,
            original,
            data,
            comment,
            direction,
            interface.name,
            interface.description,
        )

    def interface_of(self, number: int, place: int) -> Interface:
        if number >= len(self.interfaces):
            self.refuse(
                place, f"a packet is of interface {number}, and {len(self.interfaces)} were described"
            )
        return self.interfaces[number]

    def options(self, place: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """The options from `place` on, which may end without saying so."""
        form = self.forms.option
        while place < end:
            code, length = self.unpack(form, place, end, "an option")
            if code == Option.END:
                return
            yield code, self.cut(place + form.size, length, end, "an option")
            place += form.size + padded_size(length)


def direction_of(flags: int) -> Direction | None:
    """What the flags of a packet say of its way; one of the four values has no meaning."""
    value = flags & 3
    return Direction(value) if value in Direction._value2member_map_ else None


#: The blocks that hold a packet, and the member of Forms that each starts with.
PACKET_BLOCKS: dict[int, str] = {
    BlockType.ENHANCED_PACKET: "enhanced_packet",
    BlockType.OLD_PACKET: "old_packet",
    BlockType.SIMPLE_PACKET: "simple_packet",
}
