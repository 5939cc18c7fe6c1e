"""Captures for other programs: pcapng, and pcap for those that want the older one.

Both are written in little-endian order, with times in nanoseconds since 1970.  Nothing is held back:
what `write` was given stands in the stream when it returns, as far as the stream itself does not
buffer.

Sources: as vmbus/inspection/capture_layout.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import BinaryIO, NoReturn

from vmbus.errors import CallerError
from vmbus.memory import Buffer, view_bytes

from .capture_layout import (
    BYTE_ORDER_MAGIC,
    FORMS,
    LARGEST_SNAP_LENGTH,
    NANOSECONDS,
    PCAP_UNITS,
    BlockType,
    Direction,
    Option,
    PacketOption,
    padded_size,
)

__all__ = ["PcapWriter", "PcapngWriter"]

LITTLE = FORMS["<"]

#: An option's length has 16 bits.
LARGEST_OPTION = 0xFFFF

#: A section whose end nobody has said: it reaches to the end of the file.
UNTIL_THE_END = -1


class PcapngWriter:
    """Writes packets as a pcapng file: a section whose interfaces each have a link type.

    stream        a binary stream
    link_type     of interface 0, what its packets are: LINKTYPE_USER0, or one of those that tcpdump.org
                  lists; None for no interface yet: `add_interface` describes them all
    snap_length   the most bytes of each packet that are stored; 0 for all of them
    name, description   of interface 0
    comment       on the file
    application   what writes it

    Raises CallerError for a number or a text that does not fit its field.

    >>> import io
    >>> stream = io.BytesIO()
    >>> PcapngWriter(stream, 147).write(b"five!", timestamp=1_500_000_000, comment="the first")
    >>> len(stream.getvalue()), stream.getvalue()[-20:-8]
    (120, b'the first\\x00\\x00\\x00')
    """

    def __init__(
        self,
        stream: BinaryIO,
        link_type: int | None,
        *,
        snap_length: int = LARGEST_SNAP_LENGTH,
        name: str | None = None,
        description: str | None = None,
        comment: str | None = None,
        application: str | None = None,
    ) -> None:
        self._stream = stream
        self._snap_length = fitting("snap_length", snap_length, 32)
        self._interfaces = 0
        section = LITTLE.section.pack(BYTE_ORDER_MAGIC, 1, 0, UNTIL_THE_END)
        section += options([(Option.COMMENT, comment), (Option.SECTION_APPLICATION, application)])
        interface = None if link_type is None else self._interface(link_type, name, description)
        self._write_block(BlockType.SECTION, section)
        if interface is not None:
            self._write_interface(interface)

    def add_interface(
        self, link_type: int, *, name: str | None = None, description: str | None = None
    ) -> int:
        """Describe one more interface, any time before its first packet; its number, to write with.

        >>> import io
        >>> writer = PcapngWriter(io.BytesIO(), None)
        >>> writer.add_interface(147, name="ring 0x0"), writer.add_interface(147, name="ring 0x5000")
        (0, 1)
        """
        return self._write_interface(self._interface(link_type, name, description))

    def _interface(self, link_type: int, name: str | None, description: str | None) -> bytes:
        interface = LITTLE.interface.pack(fitting("link_type", link_type, 16), 0, self._snap_length)
        return interface + options(
            [
                (Option.INTERFACE_NAME, name),
                (Option.INTERFACE_DESCRIPTION, description),
                (Option.INTERFACE_TIME_RESOLUTION, bytes([9])),  # a unit is 10**-9 seconds
            ]
        )

    def _write_interface(self, interface: bytes) -> int:
        self._write_block(BlockType.INTERFACE, interface)
        self._interfaces += 1
        return self._interfaces - 1

    def write(
        self,
        data: Buffer,
        *,
        timestamp: int = 0,
        original_length: int | None = None,
        comment: str | None = None,
        interface: int = 0,
        direction: Direction | None = None,
    ) -> None:
        """Write one packet.

        timestamp         nanoseconds since 1970, a whole number: time.time_ns() gives one
        original_length   bytes that it had where it was captured; None: all are in `data`
        interface         the number of one that was described
        direction         which way it went; None says nothing of it
        """
        stored, original = captured(data, original_length, self._snap_length)
        high, low = divmod(fitting("timestamp", timestamp, 64), 1 << 32)
        if not 0 <= whole_number("interface", interface) < self._interfaces:
            raise CallerError(
                f"a packet is of interface {interface}, and {self._interfaces} were described",
                argument="interface",
                value=interface,
                limit=self._interfaces,
            )
        body = LITTLE.enhanced_packet.pack(interface, high, low, len(stored), original)
        flags = None if direction is None else LITTLE.word.pack(direction)
        ending = options([(Option.COMMENT, comment), (PacketOption.FLAGS, flags)])
        self._write_block(BlockType.ENHANCED_PACKET, body, stored, ending)

    def _write_block(
        self, kind: BlockType, body: bytes, data: bytes | memoryview = b"", ending: bytes = b""
    ) -> None:
        padding = bytes(padded_size(len(data)) - len(data))
        length = LITTLE.block.size + len(body) + len(data) + len(padding) + len(ending) + LITTLE.word.size
        block = [LITTLE.block.pack(kind, length), body, data, padding, ending, LITTLE.word.pack(length)]
        self._stream.write(b"".join(block))


class PcapWriter:
    """Writes packets of one link type as a pcap file.

    stream        a binary stream
    link_type     as for PcapngWriter
    nanoseconds   whether times keep them; otherwise microseconds, for readers that know no others
    snap_length   as for PcapngWriter; 0 for the most that common readers take

    Raises CallerError for a number that does not fit its field.

    >>> import io
    >>> stream = io.BytesIO()
    >>> PcapWriter(stream, 271, nanoseconds=False).write(b"five!", timestamp=1_000_002_999)
    >>> stream.getvalue()[24:].hex(" ", -4)
    '01000000 02000000 05000000 05000000 66697665 21'
    """

    def __init__(
        self,
        stream: BinaryIO,
        link_type: int,
        *,
        nanoseconds: bool = True,
        snap_length: int = LARGEST_SNAP_LENGTH,
    ) -> None:
        self._stream = stream
        self._snap_length = fitting("snap_length", snap_length, 32) or LARGEST_SNAP_LENGTH
        self._units = NANOSECONDS if nanoseconds else 1_000_000
        (magic,) = (magic for magic, units in PCAP_UNITS.items() if units == self._units)
        number = fitting("link_type", link_type, 16)
        stream.write(LITTLE.pcap_header.pack(magic, 2, 4, 0, 0, self._snap_length, number))

    def write(self, data: Buffer, *, timestamp: int = 0, original_length: int | None = None) -> None:
        """Write one packet: as PcapngWriter.write, but a time ends in 2106 and there are no comments."""
        stored, original = captured(data, original_length, self._snap_length)
        time = whole_number("timestamp", timestamp)
        if not 0 <= time < NANOSECONDS << 32:
            refuse_number("timestamp", time, (NANOSECONDS << 32) - 1)
        seconds, rest = divmod(time, NANOSECONDS)
        units = rest * self._units // NANOSECONDS
        record = LITTLE.pcap_record.pack(seconds, units, len(stored), original)
        self._stream.write(b"".join([record, stored]))


def captured(data: Buffer, original_length: int | None, snap_length: int) -> tuple[memoryview, int]:
    """The bytes of a packet that are stored, and how many it had."""
    view = view_bytes(data, "data")
    original = fitting("original_length", len(view) if original_length is None else original_length, 32)
    if original < len(view):
        raise CallerError(
            f"a packet of {original} bytes cannot have {len(view)} captured ones",
            argument="original_length",
            value=original,
            limit=len(view),
        )
    return view[: snap_length or None], original


def options(wanted: Iterable[tuple[Option | PacketOption, str | bytes | None]]) -> bytes:
    """Options as they are stored, those that are None left out."""
    stored = b""
    for code, value in wanted:
        if value is None:
            continue
        data = value.encode() if isinstance(value, str) else value
        if len(data) > LARGEST_OPTION:
            raise CallerError(
                f"an option has at most {LARGEST_OPTION} bytes, and this one {len(data)}",
                argument=code.name.lower(),
                value=len(data),
                limit=LARGEST_OPTION,
            )
        stored += LITTLE.option.pack(code, len(data)) + data.ljust(padded_size(len(data)), b"\0")
    return stored + LITTLE.option.pack(Option.END, 0) if stored else b""


def fitting(argument: str, value: int, bits: int) -> int:
    """`value` if it is an unsigned number of so many bits, else CallerError."""
    number, largest = whole_number(argument, value), (1 << bits) - 1
    if not 0 <= number <= largest:
        refuse_number(argument, number, largest)
    return number


def whole_number(argument: str, value: int) -> int:
    """`value` as an int if it is one, else CallerError: a time in seconds is often given as a float."""
    try:
        return index(value)
    except TypeError:
        what = "number of nanoseconds: time.time_ns() gives one" if argument == "timestamp" else "number"
        raise CallerError(
            f"{argument} is a whole {what}, not {value!r}", argument=argument, value=value
        ) from None


def refuse_number(argument: str, value: int, largest: int) -> NoReturn:
    raise CallerError(
        f"{argument} is 0 to {largest:#x}, not {value:#x}", argument=argument, value=value, limit=largest
    )
