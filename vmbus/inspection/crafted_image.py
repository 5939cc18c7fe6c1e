"""An image of rings that are made, each of them at its place.

Rings lie as far apart as their addresses say, and the image begins with the lowest; those without an address lie
behind all of them, one behind the other, the outbound one of a pair before its inbound one.

Sizes and places are in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from vmbus.errors import CallerError
from vmbus.images import SparseWriter

from .craft_values import refuse

__all__ = ["LARGEST_CRAFTED", "CraftedImage", "CraftedRing", "placed"]

#: No image is made larger.
LARGEST_CRAFTED = 4 << 30


class CraftedImage(NamedTuple):
    """An image to be written.

    size       bytes of it
    pieces     (place, bytes) in order; all between them is zero
    left_out   packets that were not made, as the image that they are from lacks their bytes
    """

    size: int
    pieces: Sequence[tuple[int, bytes]]
    left_out: int = 0

    def write(self, stream: BinaryIO, *, holes: bool = True) -> None:
        """Write all of it to a binary stream that stands at its start; zeros are holes where it is a file.

        holes   False for a stream that begins elsewhere, such as a redirected standard output
        """
        writer = SparseWriter(stream, holes=holes)
        for place, data in self.pieces:
            writer.write_at(place, data)
        writer.finish(self.size)

    def to_bytes(self) -> bytes:
        """All of it."""
        parts, at = [], 0
        for place, data in self.pieces:
            parts += [bytes(place - at), data]
            at = place + len(data)
        return b"".join([*parts, bytes(self.size - at)])


class CraftedRing(NamedTuple):
    """A ring that has no place yet.

    pieces     count from its control page
    pair       addresses of its two rings, where it belongs to a channel whose rings are known; else None
    left_out   packets of it that were not made
    """

    path: str
    address: int | None
    size: int
    pieces: list[tuple[int, bytes]]
    pair: tuple[int, ...] | None = None
    is_inbound: bool = False
    left_out: int = 0


def placed(rings: list[CraftedRing]) -> CraftedImage:
    """Rings at their places in one image."""
    lowest = min((ring.address for ring in rings if ring.address is not None), default=0)
    starts = {number: ring.address - lowest for number, ring in enumerate(rings) if ring.address is not None}
    behind = max((start + rings[number].size for number, start in starts.items()), default=0)
    for number in without_address(rings):
        starts[number] = behind
        behind += rings[number].size
    order = sorted(starts, key=lambda number: starts[number])
    for one, other in pairwise(order):
        if starts[one] + rings[one].size > starts[other]:
            refuse(
                f"{rings[other].path}.address",
                f"it begins inside {rings[one].path}, whose {rings[one].size} bytes end at "
                f"{lowest + starts[one] + rings[one].size:#x}",
            )
    size = max(starts[number] + ring.size for number, ring in enumerate(rings))
    if size > LARGEST_CRAFTED:
        raise CallerError(
            f"the image would have {size} bytes, and {LARGEST_CRAFTED} (4 GiB) is the most",
            argument="document",
            value=size,
            limit=LARGEST_CRAFTED,
        )
    pieces = [(starts[number] + at, data) for number in order for at, data in rings[number].pieces]
    return CraftedImage(size, pieces, sum(ring.left_out for ring in rings))


def without_address(rings: list[CraftedRing]) -> list[int]:
    """The numbers of the rings without an address, in order, but of a pair the outbound one first."""
    numbers = [number for number, ring in enumerate(rings) if ring.address is None]
    first_of: dict[tuple[int, ...], int] = {}
    for number in numbers:
        pair = rings[number].pair
        if pair is not None:
            first_of.setdefault(pair, number)

    def place(number: int) -> tuple[int, bool]:
        ring = rings[number]
        return number if ring.pair is None else first_of[ring.pair], ring.is_inbound

    return sorted(numbers, key=place)
