"""What each byte of a ring's data area is, and where it stands in a picture of the ring.

A picture is numbers alone; html_picture draws it.  It is made in three steps:

    stretches   the data area in the order in which the sender filled it, from in to out (packets
                read already, free space) and from out to in (packets that wait): every byte once
    blocks      the same, with neighbours taken together where there are too many to point at
    rows        the blocks by their offset, cut into rows of a band: picture_rows.py

A packet has a number: its place among those read already and then those that wait, as they are listed.

Offsets and lengths are in bytes; offsets count from the start of the data area.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, pairwise
from typing import NamedTuple

from vmbus.layout import SMALLEST_PACKET
from vmbus.memory import RingMem
from vmbus.ring import advance, used_bytes

from .examine import PacketReport
from .picture_rows import Piece, Row, rows_of
from .recover import Trust
from .ring_in_dump import DumpRingMem
from .ring_report import RingReport

__all__ = [
    "MOST_BLOCKS",
    "Kind",
    "Picture",
    "Stretch",
    "draw_ring",
    "extent",
]

#: So many blocks are drawn of what waits, and as many of the rest.
MOST_BLOCKS = 400

#: The check that speaks against a packet of which the image does not have every byte.
MISSING_MEMORY = "missing-memory"


class Kind(Enum):
    """What bytes of a data area are.  Where kinds are taken together, the last one here names them all."""

    UNKNOWN = "unknown"  # an index is out of range: nothing can be said
    FREE = "free"  # the sender may write there, and no packet is known
    CONSUMED = "consumed"  # read already and still there
    DOUBTFUL = "doubtful"  # the same, of which not everything agrees
    UNLISTED = "unlisted"  # waiting, but not among the packets of the report
    WAITING = "waiting"
    MISSING = "missing"  # bytes that the image does not have, or a waiting packet with some of them
    BROKEN = "broken"  # waiting, and a reader would refuse it; up to in where its end is not known


SEVERITY = {kind: number for number, kind in enumerate(Kind)}


class Stretch(NamedTuple):
    """Bytes that belong together; they may go over the ring's end.

    start    offset of the first
    length   how many
    kind     what they are
    first    the number of the first packet in them, or None
    packets  how many packets are in them
    """

    start: int
    length: int
    kind: Kind
    first: int | None = None
    packets: int = 0


class Picture(NamedTuple):
    """A ring's data area as a band.

    size                    bytes of the data area
    in_offset, out_offset   None where one of them is out of range
    blocks                  in the order in which they were filled, those that wait last
    rows                    every byte of the data area once, by its offset
    is_merged               whether several packets or gaps had to share a block
    """

    size: int
    in_offset: int | None
    out_offset: int | None
    blocks: list[Stretch]
    rows: list[Row]
    is_merged: bool

    def pieces(self) -> Iterator[Piece]:
        """All pieces, by their offset."""
        return chain.from_iterable(row.pieces for row in self.rows)

    def wraps(self, block: Stretch) -> bool:
        """Whether a block goes over the ring's end."""
        return block.start + block.length > self.size

    def block_of(self) -> dict[int, int]:
        """The number of the block of each packet, by the packet's number."""
        return {
            packet: number
            for number, block in enumerate(self.blocks)
            if block.first is not None
            for packet in range(block.first, block.first + block.packets)
        }


def draw_ring(ring: RingReport) -> Picture:
    """The picture of a ring and of the packets that its report lists.

    >>> from vmbus.ring import connected_rings
    >>> from .ring_report import inspect_memory
    >>> sender, receiver = connected_rings(size=4096)
    >>> sender.send(bytes(1000))
    True
    >>> picture = draw_ring(inspect_memory(sender.memory))
    >>> [(piece.start, piece.end, picture.blocks[piece.block].kind.value) for piece in picture.pieces()]
    [(0, 1024, 'waiting'), (1024, 4096, 'free')]
    """
    size, control = ring.memory.size, ring.control
    edges = missing_edges(ring.memory)
    if ring.available is None:
        return Picture(size, None, None, [Stretch(0, size, Kind.UNKNOWN)], rows_of(size, [(0, size)]), False)
    room = size - ring.available
    behind = [*stretches(size, control.in_offset, room, enumerate(ring.consumed), Kind.FREE, edges)]
    numbered = enumerate(ring.packets, len(ring.consumed))
    waiting = [*stretches(size, control.out_offset, ring.available, numbered, Kind.UNLISTED, edges)]
    blocks = [*merged(size, behind), *merged(size, waiting)]
    return Picture(
        size=size,
        in_offset=control.in_offset,
        out_offset=control.out_offset,
        blocks=blocks,
        rows=rows_of(size, [(one.start, one.length) for one in blocks]),
        is_merged=len(blocks) < len(behind) + len(waiting),
    )


def missing_edges(memory: RingMem) -> list[int]:
    """Where stretches that the image does not have begin and end, in order."""
    if not isinstance(memory, DumpRingMem):
        return []
    return [edge for one in memory.missing for edge in (one.start, one.end)]


def stretches(
    size: int,
    start: int,
    length: int,
    packets: Iterable[tuple[int, PacketReport]],
    gap: Kind,
    edges: Sequence[int],
) -> Iterator[Stretch]:
    """The `length` bytes from `start` on: packets, each with its number, and `gap` where none is.

    A packet that overlaps the one before, or does not end in time, is left out: in a ring that moved
    while it was looked at nothing is sure.
    """
    at = 0
    for number, packet in packets:
        place = used_bytes(size, packet.offset, start)
        taken = extent(packet)
        if place < at or place + taken > length:
            continue
        yield from gap_stretches(size, advance(size, start, at), place - at, gap, edges)
        yield Stretch(packet.offset, taken, kind_of(packet), number, 1)
        at = place + taken
    yield from gap_stretches(size, advance(size, start, at), length - at, gap, edges)


def gap_stretches(size: int, start: int, length: int, kind: Kind, edges: Sequence[int]) -> Iterator[Stretch]:
    """The `length` bytes from `start` on, in which no packet is known; apart those that the image has not."""
    end = start + length
    inside = edges[bisect_right(edges, start) : bisect_left(edges, end)]
    behind_end = edges[: max(0, bisect_left(edges, end - size))]
    places = sorted({start, *inside, *(size + edge for edge in behind_end), end})
    for first, last in pairwise(places):
        offset = first % size
        is_missing = bisect_right(edges, offset) % 2  # behind an odd number of edges
        yield Stretch(offset, last - first, Kind.MISSING if is_missing else kind)


def extent(packet: PacketReport) -> int:
    """Bytes that a packet takes; all up to in where its own length does not end it before."""
    said = packet.packet_size
    return said if said is not None and SMALLEST_PACKET <= said <= packet.available else packet.available


def kind_of(packet: PacketReport) -> Kind:
    if packet.trust is None:
        if packet.broken == MISSING_MEMORY:
            return Kind.MISSING
        return Kind.BROKEN if packet.broken else Kind.WAITING
    return Kind.CONSUMED if packet.trust is Trust.INTACT and not packet.broken else Kind.DOUBTFUL


def merged(size: int, several: Sequence[Stretch]) -> Iterator[Stretch]:
    """No more than MOST_BLOCKS of them: as many neighbours as it takes make one."""
    group = -(-len(several) // MOST_BLOCKS)
    for at in range(0, len(several), group or 1):
        yield together(several[at : at + group])


def together(neighbours: Sequence[Stretch]) -> Stretch:
    numbers = [one.first for one in neighbours if one.first is not None]
    return Stretch(
        start=neighbours[0].start,
        length=sum(one.length for one in neighbours),
        kind=max((one.kind for one in neighbours), key=SEVERITY.__getitem__),
        first=numbers[0] if numbers else None,
        packets=sum(one.packets for one in neighbours),
    )
