"""How the blocks of a ring's picture are cut into the rows of a band, and how wide each piece is drawn.

Widths are percent of the picture's, in proportion to the bytes of a row, but none so narrow that it can
neither be seen nor pointed at.  Offsets and lengths are in bytes; offsets count from the start of the data
area, and a block may go over the ring's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vmbus.sizes import PAGE_SIZE

__all__ = ["MOST_PIECES", "NARROWEST", "Piece", "Row", "rows_of", "shares"]

#: So many pieces of blocks stand in one row.
MOST_PIECES = 48

#: The least width of a piece, in percent; MOST_PIECES of them fit into a row.
NARROWEST = 1.5

#: A ring takes one row for so many bytes, and no more than MOST_ROWS for its bytes alone.
ROW_BYTES = 4 * PAGE_SIZE
MOST_ROWS = 8


class Piece(NamedTuple):
    """What stands of a block in one row.

    start, end   the bytes, end exclusive
    block        the number of the block
    x, width     in percent of the picture's width
    """

    start: int
    end: int
    block: int
    x: float
    width: float


class Row(NamedTuple):
    """One row of the band: the bytes from `start` to `end`, exclusive."""

    start: int
    end: int
    pieces: tuple[Piece, ...]


class Cut(NamedTuple):
    """Bytes of a block that stand in one row, before they have a place in it."""

    start: int
    end: int
    block: int


def rows_of(size: int, blocks: Sequence[tuple[int, int]]) -> list[Row]:
    """The band of a data area of `size` bytes, which `blocks` have once, each with its start and length.

    A row ends where it has its bytes, or as many pieces as can be told apart.  Of two blocks that lie one
    behind the other, the second over the end:

    >>> [[(piece.start, piece.end, piece.block) for piece in row.pieces] for row in rows_of(4096, [(8, 80), (88, 4016)])]
    [[(0, 8, 1), (8, 88, 0), (88, 4096, 1)]]
    """
    row_bytes = max(ROW_BYTES, -(-size // MOST_ROWS // PAGE_SIZE) * PAGE_SIZE)
    widest = min(row_bytes, size)
    rows = []
    row: list[Cut] = []
    for cut in cuts(size, blocks):
        rest = cut
        while rest.start < rest.end:
            if row and (len(row) == MOST_PIECES or rest.start - row[0].start >= row_bytes):
                rows.append(lay_out(row, widest))
                row = []
            limit = (row[0].start if row else rest.start) + row_bytes
            row.append(rest._replace(end=min(rest.end, limit)))
            rest = rest._replace(start=row[-1].end)
    rows.append(lay_out(row, widest))
    return rows


def cuts(size: int, blocks: Sequence[tuple[int, int]]) -> list[Cut]:
    """The blocks by their offset, the one that goes over the ring's end in two."""
    found = []
    for number, (start, length) in enumerate(blocks):
        end = start + length
        found.append(Cut(start, min(end, size), number))
        if end > size:
            found.append(Cut(0, end - size, number))
    return sorted(found)


def lay_out(row: Sequence[Cut], widest: int) -> Row:
    """A row with a place for each piece; one of `widest` bytes takes all the width."""
    lengths = [cut.end - cut.start for cut in row]
    total = min(100.0, max(100 * sum(lengths) / widest, NARROWEST * len(row)))
    x = 0.0
    pieces = []
    for cut, width in zip(row, shares(lengths, total), strict=True):
        pieces.append(Piece(*cut, x, width))
        x += width
    return Row(row[0].start, row[-1].end, tuple(pieces))


def shares(lengths: Sequence[int], total: float) -> list[float]:
    """`total` shared out in proportion, to each at least NARROWEST.

    >>> shares([10, 10, 980], 100)
    [1.5, 1.5, 97.0]
    """
    per_byte = total / sum(lengths)
    narrow: set[int] = set()
    while True:
        found = {n for n, length in enumerate(lengths) if length * per_byte < NARROWEST} | narrow
        rest = sum(length for n, length in enumerate(lengths) if n not in found)
        if not rest:  # all are equal, and only rounding makes them narrow
            return [total / len(lengths)] * len(lengths)
        if found == narrow:
            break
        narrow = found
        per_byte = (total - NARROWEST * len(narrow)) / rest
    return [NARROWEST if n in narrow else length * per_byte for n, length in enumerate(lengths)]
