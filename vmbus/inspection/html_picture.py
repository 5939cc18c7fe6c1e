"""The picture of a ring as SVG: a band of rows, a block for each packet, and a legend.

Places along the band are in percent, so that it is as wide as the page; heights are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .examine import PacketReport
from .html_page import html_text
from .names import counted
from .picture_rows import Piece, Row
from .ring_picture import Kind, Picture, Stretch, extent
from .ring_report import RingReport
from .to_text import offset_width, transaction_of, type_of

__all__ = ["HOW_TO_READ", "KIND_WORDS", "block_id", "picture_to_html"]

#: Pixels: the band of a row, a line of text above or below it, and the space to the next row.
BAND, LINE, SPACE = 28, 18, 8

#: From here on, in percent, the text at a mark stands to its left.
TURN = 70

#: What the legend says of each kind.
KIND_WORDS = {
    Kind.WAITING: "waiting to be read",
    Kind.BROKEN: "waiting, broken: a reader would refuse it",
    Kind.MISSING: "not in the image",
    Kind.UNLISTED: "waiting, not listed here",
    Kind.CONSUMED: "read already, still there",
    Kind.DOUBTFUL: "read already, doubtful",
    Kind.FREE: "free, and no packet is known there",
    Kind.UNKNOWN: "not known: an index is out of range",
}

#: What a reader of pictures has to know, once a page.
HOW_TO_READ = """\
<p class="quiet">A picture is the data area of a ring from its first byte to its last; behind the last comes the
first again.  Narrow packets are drawn wider than they are.  <span class="keys">Point at a block, or go to it with
Tab and the arrow keys; Home and End go to the first and the last packet, Enter to its row, Escape back.</span></p>
"""


class PlacedRow(NamedTuple):
    """A row of the band, and where its upper edge is, in pixels."""

    row: Row
    top: int


def picture_to_html(
    ring: RingReport, number: int, picture: Picture, target: Callable[[Stretch], str]
) -> Iterator[str]:
    """The band of the ring with this number, with what tells of it and the legend.

    target   the id of the row that belongs to a block
    """
    rows, height = place_rows(picture)
    width = offset_width(ring)
    yield '<div class="picture">\n<div class="band">\n'
    yield f'<svg class="offsets" width="{width * 8}" height="{height}" aria-hidden="true" focusable="false">'
    for row, top in rows:
        yield f'<text x="0" y="{top + BAND // 2 + 4}">{row.start:#0{width}x}</text>'
    yield "</svg>\n"
    what = f"data area of the ring, {counted(picture.size, 'byte')}, {counted(packets_in(ring), 'packet')}"
    yield f'<svg class="area" height="{height}" role="group" aria-label="{what}">\n'
    yield from blocks_to_html(ring, number, picture, rows, target)
    for row, top in rows:
        yield f'<rect class="frame" x="0" y="{top}" width="{percent(row_width(row))}" height="{BAND}"/>\n'
    yield from marks_to_html(picture, rows, width)
    yield "</svg>\n</div>\n"
    yield '<p class="told" role="status" aria-live="polite"></p>\n'
    yield from legend_to_html(picture)
    yield "</div>\n"


def block_id(ring_number: int, block_number: int) -> str:
    return f"r{ring_number}b{block_number}"


def packets_in(ring: RingReport) -> int:
    return len(ring.consumed) + len(ring.packets)


def place_rows(picture: Picture) -> tuple[list[PlacedRow], int]:
    """Each row with its place, with room for the marks above and below it, and the height of all."""
    placed = []
    y = 0
    for row in picture.rows:
        y += LINE if stands_in(picture.out_offset, row) else 0
        placed.append(PlacedRow(row, y))
        y += BAND + SPACE + (LINE if stands_in(picture.in_offset, row) else 0)
    return placed, y


def stands_in(offset: int | None, row: Row) -> bool:
    return offset is not None and row.start <= offset < row.end


def blocks_to_html(
    ring: RingReport,
    number: int,
    picture: Picture,
    rows: list[PlacedRow],
    target: Callable[[Stretch], str],
) -> Iterator[str]:
    """Every block, in the order in which a reader came or comes to them; the first is a Tab stop."""
    parts: dict[int, list[str]] = {}
    for row, top in rows:
        for piece in row.pieces:
            kind = picture.blocks[piece.block].kind
            parts.setdefault(piece.block, []).append(part_to_html(piece, top, kind))
    stop = first_stop(picture)
    for block_number, block in enumerate(picture.blocks):
        rectangles = "".join(parts[block_number])
        label = html_text(label_of(ring, picture, block))
        if block.first is None:
            yield f'<g data-told="{label}">{rectangles}</g>\n'
            continue
        tabindex = 0 if block_number == stop else -1
        yield (
            f'<a class="block" id="{block_id(number, block_number)}" href="#{target(block)}" '
            f'tabindex="{tabindex}" aria-label="{label}">{rectangles}</a>\n'
        )


def first_stop(picture: Picture) -> int | None:
    """The block at which Tab stops: the first that waits, or the oldest."""
    with_packets = [number for number, block in enumerate(picture.blocks) if block.first is not None]
    waiting = [n for n in with_packets if picture.blocks[n].kind in (Kind.WAITING, Kind.BROKEN, Kind.MISSING)]
    return next(iter([*waiting, *with_packets]), None)


def part_to_html(piece: Piece, top: int, kind: Kind) -> str:
    return (
        f'<rect class="part {kind.value}" x="{percent(piece.x)}" y="{top}" '
        f'width="{percent(piece.width)}" height="{BAND}"/>'
    )


def percent(value: float) -> str:
    return f"{value:.3f}%"


def row_width(row: Row) -> float:
    return row.pieces[-1].x + row.pieces[-1].width


def label_of(ring: RingReport, picture: Picture, block: Stretch) -> str:
    """What is told of a block that is pointed at, its offset first."""
    width = offset_width(ring)
    start = f"{block.start:#0{width}x}"
    if block.packets == 1 and block.first is not None and not is_shared(ring, block):
        words = packet_words(packet_at(ring, block.first))
    elif block.packets:
        words = [f"{block.packets} packets and gaps", f"{block.length} bytes", KIND_WORDS[block.kind]]
    else:
        words = [KIND_WORDS[block.kind], f"{block.length} bytes"]
    if picture.wraps(block):
        words.append("goes on at offset 0")
    return f"{start}: {', '.join(words)}"


def is_shared(ring: RingReport, block: Stretch) -> bool:
    """Whether a gap shares the block of one packet."""
    return block.first is not None and extent(packet_at(ring, block.first)) != block.length


def packet_at(ring: RingReport, number: int) -> PacketReport:
    consumed = len(ring.consumed)
    return ring.consumed[number] if number < consumed else ring.packets[number - consumed]


def packet_words(packet: PacketReport) -> list[str]:
    size = "length not known" if packet.packet_size is None else f"{packet.packet_size} bytes"
    words = [type_of(packet), size]
    transaction = transaction_of(packet)
    if transaction not in ("-", "?"):
        words.append(f"transaction {transaction}")
    words.append("waiting" if packet.trust is None else f"read already, {packet.trust.value}")
    if packet.broken:
        words.append(f"broken: {packet.broken}")
    return words


def marks_to_html(picture: Picture, rows: list[PlacedRow], width: int) -> Iterator[str]:
    """Where in and out point, and where a packet goes over the ring's end."""
    for row, top in rows:
        for piece in row.pieces:
            if piece.start == picture.out_offset:
                yield mark_to_html("out", piece, top, "M0 0l-5 -7h10z", -5, width)
            if piece.start == picture.in_offset:
                yield mark_to_html("in", piece, top + BAND, "M0 0l-5 7h10z", 14, width)
    if any(picture.wraps(block) and block.kind is not Kind.FREE for block in picture.blocks):
        first, last = rows[0], rows[-1]
        yield wrap_to_html(0, first.top, -9)
        yield wrap_to_html(row_width(last.row), last.top, 3)


def mark_to_html(name: str, piece: Piece, y: int, triangle: str, below: int, width: int) -> str:
    place = 'x="-8" text-anchor="end"' if piece.x > TURN else 'x="8"'
    return (
        f'<svg class="mark" x="{percent(piece.x)}" y="{y}" overflow="visible"><path d="{triangle}"/>'
        f'<text {place} y="{below}">{name} {piece.start:#0{width}x}</text></svg>\n'
    )


def wrap_to_html(x: float, top: int, dx: int) -> str:
    return (
        f'<svg class="wrap" x="{percent(x)}" y="{top}" overflow="visible">'
        f'<path d="M{dx} {BAND // 2 - 6}l6 6l-6 6"/></svg>\n'
    )


def legend_to_html(picture: Picture) -> Iterator[str]:
    yield '<ul class="legend">\n'
    there = {block.kind for block in picture.blocks}
    for kind, words in KIND_WORDS.items():
        if kind in there:
            yield (
                '<li><svg width="26" height="16" aria-hidden="true" focusable="false">'
                f'<rect class="part {kind.value}" width="26" height="16"/>'
                f'<rect class="frame" x="0.5" y="0.5" width="25" height="15"/></svg>{words}</li>\n'
            )
    yield "</ul>\n"
    if picture.is_merged:
        yield (
            '<p class="quiet">There are too many packets to draw each: neighbours share a block, '
            "whose worst kind it shows.</p>\n"
        )
