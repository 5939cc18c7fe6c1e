"""A dump as the memory that looking at virtqueues asks for."""

from __future__ import annotations

from vmbus.memory import AddressError

from .dump import Dump, MissingMemory

__all__ = ["DumpMemory"]


class DumpMemory:
    """Bytes at guest-physical addresses, to be read; what the dump does not have is an AddressError.

    base   the address that the dump's first byte has, for a raw file that does not begin at 0

    >>> from .raw import RawDump
    >>> DumpMemory(RawDump("eight", memoryview(b"01234567")), base=0x1000).read(0x1002, 3)
    b'234'
    """

    def __init__(self, dump: Dump, base: int = 0) -> None:
        self._dump = dump
        self._base = base

    def read(self, address: int, length: int) -> bytes:
        """A copy of the bytes; AddressError for the first that is not there."""
        if not length:
            return b""
        if address < self._base:
            raise AddressError(f"address {address:#x} is below {self._base:#x}", address=address)
        try:
            return self._dump.read(address - self._base, length)
        except MissingMemory as error:
            missing = error.address + self._base
            raise AddressError(str(error), address=missing) from error

    def check_range(self, address: int, length: int) -> None:
        """Raise AddressError when some of the range is not there."""
        self.read(address, length)
