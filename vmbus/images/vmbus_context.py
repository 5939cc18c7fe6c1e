"""What a Windows host saves of VMBus and of processors beside a VM's memory.

The arrays VmbusContext0, 1, 2 ... of a saved state say which channels there are, and which pages of memory each ring
has, so that a ring whose pages are scattered can be read.  The array partition_state holds the registers.

At most MOST_CHANNELS channels and MOST_GPADL_PAGES pages are taken.  Page numbers are of 4096 bytes.

Sources: public readers of .vmrs files, of which only one describes VmbusContext; no file that Windows wrote was at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from .findings import Finding, Severity

__all__ = [
    "MOST_CHANNELS",
    "MOST_GPADL_PAGES",
    "ChannelPages",
    "Processor",
    "VmbusState",
    "processors_of",
]

MOST_CHANNELS = 1 << 16
MOST_GPADL_PAGES = 1 << 20

#: Findings that are kept.
MOST_NOTED = 100

#: Page numbers are below this: an address has 64 bits.
ADDRESS_PAGES = 2**52

#: What every array begins with: its number, its kind, its size.
CONTEXT = Struct("<IIQ")

#: The arrays with these numbers have the version and the channels; all others a GPADL each.
VERSION_NUMBER, CHANNELS_NUMBER = 0, 1


class ChannelRecord(NamedTuple):
    """One channel; `size` bytes behind its start is the next one."""

    size: int
    channel_id: int
    interface_id: bytes
    instance_id: bytes
    ring_gpadl: int
    second_ring_page: int


CHANNEL = Struct("<II16s16sII")


class GpadlRecord(NamedTuple):
    """One GPADL with one range of memory; its page numbers follow.

    range_size   bytes of the range: two numbers of 4 bytes, and its page numbers
    """

    gpadl_id: int
    channel_id: int
    range_count: int
    range_size: int
    byte_count: int
    byte_offset: int


GPADL = Struct("<IIHH12xII")
RANGE_HEADER_SIZE = 8
PAGE_NUMBER_SIZE = 8


class ChannelPages(NamedTuple):
    """A channel, and where in memory its two rings are.

    interface_id, instance_id   the bytes of the two GUIDs, as they are in an offer
    pages                       page numbers, those of the guest's outgoing ring first; none when it is not open
    second_ring_page            which of them is the control page of the other ring
    """

    channel_id: int
    interface_id: bytes
    instance_id: bytes
    pages: tuple[int, ...]
    second_ring_page: int


class VmbusState:
    """What the arrays say.

    version    of the VMBus protocol, major and minor; None where it is not said
    findings   what is wrong with them
    """

    def __init__(self, arrays: Iterable[bytes]) -> None:
        self.version: tuple[int, int] | None = None
        self.findings: list[Finding] = []
        self._records: dict[int, ChannelRecord] = {}
        self._gpadls: dict[tuple[int, int], tuple[int, ...]] = {}
        self._pages_left = MOST_GPADL_PAGES
        for array in arrays:
            self._take(array)

    def gpadls(self) -> dict[int, tuple[int, ...]]:
        """The page numbers of every GPADL by its id; where two channels have used one id, the first one's."""
        found: dict[int, tuple[int, ...]] = {}
        for (_, gpadl_id), pages in self._gpadls.items():
            found.setdefault(gpadl_id, pages)
        return found

    def channels(self) -> list[ChannelPages]:
        """All channels in the order of their ids."""
        by_id = self.gpadls()
        channels = []
        for _, record in sorted(self._records.items()):
            pages = self._gpadls.get((record.channel_id, record.ring_gpadl)) or by_id.get(
                record.ring_gpadl, ()
            )
            channels.append(
                ChannelPages(
                    record.channel_id,
                    record.interface_id,
                    record.instance_id,
                    pages if record.ring_gpadl else (),
                    record.second_ring_page,
                )
            )
        return channels

    def _take(self, array: bytes) -> None:
        if len(array) < CONTEXT.size:
            self._add(f"an array of {len(array)} bytes, or one that cannot be read, does not say what it is")
            return
        number, _, _ = CONTEXT.unpack_from(array)
        if number == VERSION_NUMBER:
            if len(array) >= CONTEXT.size + 4:
                minor, major = Struct("<HH").unpack_from(array, CONTEXT.size)
                self.version = major, minor
        elif number == CHANNELS_NUMBER:
            self._take_channels(array)
        else:
            self._take_gpadl(array)

    def _take_channels(self, array: bytes) -> None:
        at = CONTEXT.size
        while at + CHANNEL.size <= len(array):
            record = ChannelRecord(*CHANNEL.unpack_from(array, at))
            if record.size < CHANNEL.size:
                self._add(
                    f"a channel has a record of {record.size} bytes; the rest of the channels is not read"
                )
                return
            if len(self._records) >= MOST_CHANNELS:
                self._add(f"there are more than {MOST_CHANNELS} channels; the rest is left out")
                return
            self._records.setdefault(record.channel_id, record)
            at += record.size

    def _take_gpadl(self, array: bytes) -> None:
        if len(array) < CONTEXT.size + GPADL.size:
            self._add(f"an array of {len(array)} bytes is too short for a GPADL")
            return
        gpadl = GpadlRecord(*GPADL.unpack_from(array, CONTEXT.size))
        name = f"GPADL {gpadl.gpadl_id:#x} of channel {gpadl.channel_id}"
        count, rest = divmod(gpadl.range_size - RANGE_HEADER_SIZE, PAGE_NUMBER_SIZE)
        start = CONTEXT.size + GPADL.size
        if gpadl.range_count != 1 or gpadl.byte_offset or count < 1 or rest:
            self._add(
                f"{name} has {gpadl.range_count} ranges in {gpadl.range_size} bytes, from byte {gpadl.byte_offset} of a "
                "page; a ring has one, of whole pages"
            )
        elif start + count * PAGE_NUMBER_SIZE > len(array):
            self._add(f"{name} is to have {count} pages, and its array of {len(array)} bytes ends before")
        elif count > self._pages_left:
            self._add(f"{name} is left out: there are more than {MOST_GPADL_PAGES} pages in all GPADLs")
        else:
            pages = Struct(f"<{count}Q").unpack_from(array, start)
            key = gpadl.channel_id, gpadl.gpadl_id
            if max(pages) >= ADDRESS_PAGES:
                self._add(f"{name} has a page {max(pages):#x}, behind the last address")
            elif key not in self._gpadls:
                self._pages_left -= count
                self._gpadls[key] = pages

    def _add(self, message: str) -> None:
        if len(self.findings) < MOST_NOTED:
            self.findings.append(Finding("vmbus-context", Severity.WARNING, None, message))


# -- processors ------------------------------------------------------------------------------------

#: The start of partition_state: its header's size is the second number.
PARTITION = Struct("<QQQ")
CHUNKS_BEHIND_HEADER = 16

#: A piece of state: its id, and how many bytes follow.
CHUNK = Struct("<II8x")
CHUNK_PROCESSOR, CHUNK_VTL, CHUNK_CONTROL, CHUNK_END = 0x30001000, 0x3001A000, 0x30007000, 0xF0000000

PROCESSOR_NUMBER = Struct("<I")
CONTROL_REGISTERS = Struct("<QQQ")


class Processor(NamedTuple):
    """The page tables that a processor used.

    vtl   the virtual trust level; a processor is listed once for each that it has
    cr3   the control register with the address of the page table
    """

    number: int
    vtl: int
    cr3: int


def processors_of(partition_state: bytes) -> list[Processor]:
    """The processors in the array partition_state, as far as it can be read."""
    found: list[Processor] = []
    number = vtl = 0
    for kind, content in chunks_of(partition_state):
        if kind == CHUNK_PROCESSOR and len(content) >= PROCESSOR_NUMBER.size:
            (number,), vtl = PROCESSOR_NUMBER.unpack_from(content), 0
        elif kind == CHUNK_VTL and content:
            vtl = content[0]
        elif kind == CHUNK_CONTROL and len(content) >= CONTROL_REGISTERS.size:
            found.append(Processor(number, vtl, CONTROL_REGISTERS.unpack_from(content)[2]))
    return found


def chunks_of(partition_state: bytes) -> Iterator[tuple[int, bytes]]:
    """The pieces of the array, each with its id, up to the one that ends it or the first that is not all there."""
    if len(partition_state) < PARTITION.size:
        return
    at = PARTITION.unpack_from(partition_state)[1] + CHUNKS_BEHIND_HEADER
    while at + CHUNK.size <= len(partition_state):
        kind, length = CHUNK.unpack_from(partition_state, at)
        at += CHUNK.size
        if kind == CHUNK_END or at + length > len(partition_state):
            return
        yield kind, partition_state[at : at + length]
        at += length
