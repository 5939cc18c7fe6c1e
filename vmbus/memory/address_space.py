"""Addresses and the bytes that lie there, with holes between.

A region is a run of addresses whose bytes lie in one buffer.  Regions may touch; a range of
addresses may cross from one into the next, and only then.

Addresses and lengths are in bytes; an address is at most 2**64 - 1, and a range ends at 2**64 at
the latest: nothing ever wraps past the top.

Source: rust-vmm vm-memory, GuestMemory and GuestMemoryRegion.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple, NoReturn, TypeVar
from weakref import ref

from vmbus.errors import CallerError

from .ring_memory import Buffer, view_bytes

__all__ = ["TOP_OF_MEMORY", "AddressError", "AddressSpace", "Placement", "Region"]

#: The end of a 64-bit address space.
TOP_OF_MEMORY = 2**64


#: So many views are remembered before those that nobody has any more are forgotten.
FEW_VIEWS = 1024

Space = TypeVar("Space", bound="AddressSpace")


class Placement(Enum):
    """How a range of addresses lies among the regions."""

    INSIDE = "inside one region"
    CROSSES = "across regions that touch"
    OUTSIDE = "not mapped, or not all of it"


class AddressError(CallerError):
    """Some byte of a range of addresses is not there, or is to be written and can only be read.

    address   the first address to blame
    """

    def __init__(self, message: str = "", *, address: int = 0) -> None:
        super().__init__(message, argument="address", value=address, limit="mapped")
        self.address = address


class Region(NamedTuple):
    """Addresses from `start` up to, and without, `end`, and the bytes there."""

    start: int
    end: int
    view: memoryview


class AddressSpace:
    """Bytes at addresses, to be read.

    regions   (address of the first byte, buffer) of each, in any order

    A context manager that lets go of the buffers at the end, as `close` does.

    Raises CallerError when there is none, when one is empty or reaches past 2**64, and when two
    overlap.

    >>> space = AddressSpace([(0x1000, b"left"), (0x1004, b"right")])
    >>> space.read(0x1002, 4), space.placement(0x1002, 4).name
    (b'ftri', 'CROSSES')
    >>> space.placement(0x1002, 2).name, space.placement(0x1008, 2).name
    ('INSIDE', 'OUTSIDE')
    """

    def __init__(self, regions: Iterable[tuple[int, Buffer]]) -> None:
        self._prepare([region_of(start, buffer) for start, buffer in regions])

    @staticmethod
    def from_reader(read: Callable[[int, int], Buffer], ranges: Iterable[tuple[int, int]]) -> AddressSpace:
        """Memory that `read(address, length)` gives the bytes of: a debugger's, a hypervisor's, another library's.

        ranges   (address of the first byte, bytes) of each stretch that there is

        Every view is a copy; what `read` raises comes through as it is.  With drgn, for instance:
        `AddressSpace.from_reader(lambda address, length: prog.read(address, length, True), ranges)`.

        >>> space = AddressSpace.from_reader(lambda address, length: bytes([address % 256]) * length, [(0x1000, 64)])
        >>> space.read(0x1002, 3).hex()
        '020202'
        """
        from .reader_space import ReaderSpace  # which is made of this class

        return ReaderSpace(read, ranges)

    def _prepare(self, regions: list[Region]) -> None:
        self.regions: Sequence[Region] = sorted(regions, key=lambda region: region.start)
        check_regions(self.regions)
        self._starts = [region.start for region in self.regions]
        # Most accesses go where the last one went: most machines have few regions, and queues one.
        self._recent = self.regions[0]
        self._lent: list[ref[memoryview]] = []
        self._tidy_at = FEW_VIEWS

    def close(self) -> None:
        """Let go of the buffers, so that their owner can close them; again is harmless.

        What was made of this memory (views, queues) must not be used any more: it raises ValueError.
        """
        for one in self._lent:
            if (view := one()) is not None:
                view.release()
        for region in self.regions:
            region.view.release()

    def __enter__(self: Space) -> Space:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lend(self, view: memoryview) -> memoryview:
        """Remember a view that is given away, for as long as somebody has it."""
        if len(self._lent) >= self._tidy_at:
            self._lent = [one for one in self._lent if one() is not None]
            self._tidy_at = 2 * len(self._lent) + FEW_VIEWS
        self._lent.append(ref(view))
        return view

    def find_region(self, address: int) -> Region | None:
        """The region that `address` lies in."""
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self.regions[place].end:
            return None
        return self.regions[place]

    def placement(self, address: int, length: int) -> Placement:
        """Whether the range is inside one region, crosses into others, or is not all there.

        A range of no bytes is inside wherever it is.
        """
        check_length(length)
        if not length:
            return Placement.INSIDE
        region = self.find_region(address)
        if region is not None and address + length <= region.end:
            return Placement.INSIDE
        return Placement.OUTSIDE if self.first_hole(address, length) is not None else Placement.CROSSES

    def first_hole(self, address: int, length: int) -> int | None:
        """The first address of the range that nothing is mapped at; None when all of it is."""
        end = address + length
        while address < end:
            region = self.find_region(address)
            if region is None:
                return address
            address = region.end
        return None

    def check_range(self, address: int, length: int) -> None:
        """Raise AddressError when some byte of the range is not mapped."""
        start, end, _ = self._recent
        if start <= address and address + length <= end and length >= 0:
            return
        check_length(length)
        hole = self.first_hole(address, length)
        if hole is not None:
            self._refuse(address, length, hole)

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves, not a copy: the other side may change them at any moment.

        Raises AddressError when the range is not inside one region; `views` takes those that cross.
        """
        start, end, view = self._recent
        if address < start or address + length > end or length < 0:
            if not length:
                return self._lend(view[:0])  # no bytes are inside wherever they are
            start, end, view = self._region_around(address, length)
        first = address - start
        return self._lend(view[first : first + length])

    def views(self, address: int, length: int) -> list[memoryview]:
        """The bytes of a range that may cross, a view for each region.

        Raises AddressError when some of it is not mapped.
        """
        check_length(length)
        self.check_range(address, length)
        views = []
        end = address + length
        while address < end:
            region = self.find_region(address)
            assert region is not None, "there was no hole"
            stop = min(end, region.end)
            views.append(self._lend(region.view[address - region.start : stop - region.start]))
            address = stop
        return views

    def read(self, address: int, length: int) -> bytes:
        """A copy of the bytes; AddressError when some of them are not mapped."""
        start, end, view = self._recent
        if start <= address and address + length <= end and length >= 0:
            first = address - start
            return view[first : first + length].tobytes()
        return b"".join(self.views(address, length))

    def _region_around(self, address: int, length: int) -> Region:
        """The region that the whole range lies in, kept for the next access."""
        check_length(length)
        region = self.find_region(address)
        if region is None or address + length > region.end:
            hole = self.first_hole(address, length)
            self._refuse(address, length, hole if hole is not None else region.end if region else address)
        self._recent = region
        return region

    def _refuse(self, address: int, length: int, hole: int) -> NoReturn:
        mapped = ", ".join(f"{region.start:#x} to {region.end - 1:#x}" for region in self.regions[:4])
        more = f" and {len(self.regions) - 4} more" if len(self.regions) > 4 else ""
        crosses = "belongs to another region" if self.find_region(hole) else "is not mapped"
        raise AddressError(
            f"{length} bytes at {address:#x}: address {hole:#x} {crosses} (there is {mapped}{more})",
            address=hole,
        )

    def __repr__(self) -> str:
        size = sum(region.end - region.start for region in self.regions)
        return f"<{type(self).__name__}: {size} bytes in {len(self.regions)} regions>"


def region_of(start: int, buffer: Buffer) -> Region:
    if isinstance(buffer, int):
        raise CallerError(
            f"a region is (address, buffer), and {buffer} is no buffer: GuestMemory.from_ranges makes them "
            "of sizes",
            argument="regions",
            value=buffer,
            limit="a buffer",
        )
    view = view_bytes(buffer, "regions")
    if start < 0 or not len(view) or start + len(view) > TOP_OF_MEMORY:
        raise CallerError(
            f"a region of {len(view)} bytes cannot start at {start:#x}: it has at least one byte, and "
            f"ends at {TOP_OF_MEMORY:#x} at the latest",
            argument="regions",
            value=start,
            limit=TOP_OF_MEMORY,
        )
    return Region(start, start + len(view), view)


def check_regions(regions: Sequence[Region]) -> None:
    if not regions:
        raise CallerError("memory has at least one region", argument="regions", value=0, limit=1)
    for below, above in pairwise(regions):
        if above.start < below.end:
            raise CallerError(
                f"the region at {above.start:#x} starts inside the one from {below.start:#x} to "
                f"{below.end - 1:#x}",
                argument="regions",
                value=above.start,
                limit=below.end,
            )


def check_length(length: int) -> None:
    if length < 0:
        raise CallerError(
            f"a range has no negative length: {length}", argument="length", value=length, limit=0
        )
