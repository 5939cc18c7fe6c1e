"""An address space whose bytes somebody else reads: a debugger, a hypervisor, another library."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vmbus.errors import CallerError

from .address_space import TOP_OF_MEMORY, AddressSpace, Region
from .ring_memory import Buffer

__all__ = ["ReaderSpace"]

#: The bytes of a region are not here.
ELSEWHERE = memoryview(b"")


class ReaderSpace(AddressSpace):
    """Addresses that are read through a function; see AddressSpace.from_reader."""

    def __init__(self, read: Callable[[int, int], Buffer], ranges: Iterable[tuple[int, int]]) -> None:
        self._read = read
        self._prepare([region_of(start, length) for start, length in ranges])

    def view(self, address: int, length: int) -> memoryview:
        if length:
            self._region_around(address, length)
        return memoryview(self.read(address, length))

    def views(self, address: int, length: int) -> list[memoryview]:
        return [memoryview(self.read(address, length))] if length else []

    def read(self, address: int, length: int) -> bytes:
        self.check_range(address, length)
        data = bytes(self._read(address, length)) if length else b""
        if len(data) != length:
            raise CallerError(
                f"read({address:#x}, {length}) gave {len(data)} bytes",
                argument="read",
                value=len(data),
                limit=length,
            )
        return data


def region_of(start: int, length: int) -> Region:
    if start < 0 or length < 1 or start + length > TOP_OF_MEMORY:
        raise CallerError(
            f"no stretch of memory has {length} bytes from {start:#x} on: it has at least one, and ends at "
            f"{TOP_OF_MEMORY:#x} at the latest",
            argument="ranges",
            value=(start, length),
            limit=TOP_OF_MEMORY,
        )
    return Region(start, start + length, ELSEWHERE)
