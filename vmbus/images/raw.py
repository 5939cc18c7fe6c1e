"""Raw memory: byte n of the file is byte n of the memory.

What a sparse file does not store is zero.  Holes and zeros cannot be told apart here.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.errors import DeviceError, DumpError
from vmbus.memory import SharedMemory

from .dump import PIECE_SIZE, TOP, Dump, FilePlace, Run, State, check_addresses
from .source import BytesSource, FileSource, Source, file_error
from .stored import read_memory

__all__ = ["RawDump", "RawFileDump"]


class RawDump(Dump):
    """Bytes in memory, or that came from a pipe, under the name that they came with.

    >>> RawDump("eight", memoryview(b"01234567")).read(2, 3)
    b'234'
    """

    format = "raw"

    def __init__(self, path: str, data: memoryview) -> None:
        super().__init__(BytesSource(path, data))
        self._bytes = data.toreadonly()

    @property
    def data(self) -> memoryview:
        """All bytes, read-only."""
        return self._bytes

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        at, end = start, min(end, self.size)
        for first, last in self.source.extents(start, end):
            if at < first:
                yield Run(at, first, State.ZERO)
            yield Run(first, last, State.PRESENT)
            at = last
        if at < end:
            yield Run(at, end, State.ZERO)

    def read_present(self, address: int, length: int) -> bytes:
        buffer = bytearray(length)
        read_memory(self.source, address, memoryview(buffer), address)
        return bytes(buffer)

    def view(self, address: int, length: int) -> memoryview:
        check_addresses(address, length)
        if address + length > self.size:
            self._refuse(max(address, self.size))
        return self.data[address : address + length]

    def where(self, address: int) -> FilePlace | None:
        return FilePlace(self.path, address) if 0 <= address < self.size else None


class RawFileDump(RawDump):
    """A raw file."""

    def __init__(self, source: Source) -> None:
        Dump.__init__(self, source)
        self._mapped: memoryview | None = None
        self._buffer = memoryview(bytearray(PIECE_SIZE))

    @property
    def data(self) -> memoryview:
        """All bytes, mapped when first asked for: what others write into the file is seen."""
        if self._mapped is None:
            self._mapped = self._map()
        return self._mapped

    def _map(self) -> memoryview:
        if not isinstance(self.source, FileSource):
            return memoryview(self.source.read(0, self.size))
        try:
            return SharedMemory.open(self.source.fileno(), readonly=True).map().toreadonly()
        except DeviceError as error:
            raise file_error(error, self.path) from error
        except ValueError as error:  # it was emptied meanwhile
            raise DumpError(f"cannot be read: {error}", path=self.path) from error

    def _piece(self, address: int, length: int) -> memoryview:
        piece = self._buffer[:length]
        read_memory(self.source, address, piece, address)
        return piece
