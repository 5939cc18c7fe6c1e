"""The memory of an address space as a dump: what a debugger or another library reads is looked at like a file."""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.memory import AddressSpace

from .dump import TOP, Dump, FilePlace, Run, State, joined_runs
from .source import Source

__all__ = ["SpaceDump", "dump_over"]


class SpaceSource(Source):
    """The name and the size of what has no file."""

    def __init__(self, name: str, size: int) -> None:
        self.path = name
        self.size = size


class SpaceDump(Dump):
    """An AddressSpace.  What its reader raises comes through.

    name   what to call it in messages

    >>> from vmbus.memory import AddressSpace
    >>> SpaceDump(AddressSpace([(0x1000, b"RING")])).read(0x1001, 2)
    b'IN'
    """

    format = "memory"

    def __init__(self, space: AddressSpace, name: str = "memory") -> None:
        super().__init__(SpaceSource(name, sum(region.end - region.start for region in space.regions)))
        self.space = space

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        limited = ((max(region.start, start), min(region.end, end)) for region in self.space.regions)
        return joined_runs(Run(first, stop, State.PRESENT) for first, stop in limited if first < stop)

    def read_present(self, address: int, length: int) -> bytes:
        return self.space.read(address, length)

    def where(self, address: int) -> FilePlace | None:
        return None


def dump_over(memory: Dump | AddressSpace) -> Dump:
    """Memory of either kind as a dump."""
    return SpaceDump(memory) if isinstance(memory, AddressSpace) else memory
