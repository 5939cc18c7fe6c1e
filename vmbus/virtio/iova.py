"""Addresses for a device that does not see the driver's own: an IOVA for each stretch of memory.

The driver maps what it wants the device to reach, and `translate` is then what a Virtqueue is made
with: it refuses everything else.

Addresses and sizes are in bytes; ranges are [first, last], both included, as the kernel's vfio gives
them.

Source: the virtio-driver crate, IovaSpace and IovaTranslator.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, NoReturn

from vmbus.errors import CallerError

from .queue_layout import round_up

__all__ = ["IovaMapping", "IovaSpace"]


class IovaMapping(NamedTuple):
    """A stretch of the driver's memory, and where the device sees it."""

    iova: int
    address: int
    size: int


class IovaSpace:
    """Which of the device's addresses are free, and what the others stand for.

    ranges   (first, last) of the addresses that may be given out, in their order

    Raises CallerError for no range, and for ranges that are empty, overlap or are not in order.

    >>> space = IovaSpace([(0x1000, 0x8FFF)])
    >>> hex(space.allocate(0x7F00_0000, 0x2000)), hex(space.translate(0x7F00_0010, 4))
    ('0x1000', '0x1010')
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = [(first, last) for first, last in ranges]
        for first, last in self._ranges:
            if not 0 <= first <= last < 1 << 64:
                refuse_ranges(f"{first:#x} to {last:#x} is no range", (first, last))
        if not self._ranges:
            refuse_ranges("there is no range to give addresses out of", self._ranges)
        for (_, last), (first, _) in pairwise(self._ranges):
            if first <= last:
                refuse_ranges(f"the range at {first:#x} starts before the end of the one to {last:#x}", first)
        self._mappings: list[IovaMapping] = []  # by the driver's address
        self._starts: list[int] = []  # those addresses, for looking up

    def __repr__(self) -> str:
        return f"<IovaSpace: {len(self._mappings)} mappings in {len(self._ranges)} ranges>"

    @property
    def mappings(self) -> tuple[IovaMapping, ...]:
        """What is mapped, by the driver's address."""
        return tuple(self._mappings)

    def allocate(self, address: int, size: int, *, alignment: int = 1) -> int:
        """Map `size` bytes at the driver's `address`, and return the lowest free IOVA for them.

        alignment   what the IOVA is a multiple of: for the block of a queue at least 16

        Raises CallerError when some of them are mapped already, or no free stretch is long enough.
        """
        check_stretch(address, size)
        clash = next((one for one in self._mappings if overlaps(one, address, size)), None)
        if clash is not None:
            raise CallerError(
                f"{size} bytes at {address:#x}: {clash.size} at {clash.address:#x} are mapped already",
                argument="address",
                value=address,
                limit="not mapped",
            )
        if alignment < 1:
            raise CallerError(
                f"alignment is at least 1, not {alignment}", argument="alignment", value=alignment, limit=1
            )
        mapping = IovaMapping(self._first_fit(size, alignment), address, size)
        place = bisect_right(self._starts, address)
        self._mappings.insert(place, mapping)
        self._starts.insert(place, address)
        return mapping.iova

    def free(self, address: int, size: int) -> None:
        """Forget every mapping, whole, that has a byte in common with those `size` bytes."""
        check_stretch(address, size)
        self._mappings = [one for one in self._mappings if not overlaps(one, address, size)]
        self._starts = [one.address for one in self._mappings]

    def translate(self, address: int, length: int) -> int:
        """The device's address of those bytes; CallerError when they are not inside one mapping."""
        place = bisect_right(self._starts, address) - 1
        if place >= 0 and length >= 0:
            mapping = self._mappings[place]
            if address + length <= mapping.address + mapping.size:
                return mapping.iova + address - mapping.address
        raise CallerError(
            f"{length} bytes at {address:#x} are not inside one of {len(self._mappings)} mappings: allocate "
            "them first",
            argument="address",
            value=address,
            limit="mapped",
        )

    def _first_fit(self, size: int, alignment: int) -> int:
        taken = sorted((one.iova, one.size) for one in self._mappings)
        for first, last in self._ranges:
            start = round_up(first, alignment)
            for iova, length in taken:
                if iova + length <= start or iova > last:
                    continue
                if start + size <= iova:
                    break
                start = round_up(iova + length, alignment)
            if start + size - 1 <= last:
                return start
        raise CallerError(
            f"no {size} addresses in a row are free in {len(self._ranges)} ranges with {len(taken)} mappings",
            argument="size",
            value=size,
            limit="a free stretch",
        )


def overlaps(mapping: IovaMapping, address: int, size: int) -> bool:
    return mapping.address < address + size and address < mapping.address + mapping.size


def check_stretch(address: int, size: int) -> None:
    if size < 1 or address < 0 or address + size > 1 << 64:
        raise CallerError(
            f"{size} bytes at {address:#x} are no stretch of memory", argument="size", value=size, limit=1
        )


def refuse_ranges(what: str, value: object) -> NoReturn:
    raise CallerError(what, argument="ranges", value=value, limit="rising, apart")
