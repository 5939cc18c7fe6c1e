"""A ring whose control page and data lie in one block of bytes.

Sources: OpenVMM vmbus_ring/src/lib.rs, FlatRingMem and SingleMappedRingMem.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

from vmbus.errors import CallerError
from vmbus.sizes import PAGE_SIZE, check_data_size, check_header_size

from .barrier import Fences
from .ring_memory import Buffer, BufferRingMem, view_bytes

__all__ = ["FlatRingMem"]


class FlatRingMem(BufferRingMem):
    """Control page and data area in one block.

    `FlatRingMem(size)` is zeroed memory of its own, `size` bytes of data behind a control page,
    in an anonymous shared mapping: a forked child sees the same ring.  `FlatRingMem.over(buffer)`
    uses bytes that are there already; read-only ones can be read and inspected, never written.

    A context manager that lets go of the buffer at the end, as `close` does.

    fences   what orders the accesses, where this machine's own are not wanted or not known

    Raises CallerError for a size no ring can have.

    >>> memory = FlatRingMem(4096)
    >>> memory.write_at(4092, b"wrapped")       # four bytes at the end, three at the start
    >>> memory.read_at(4092, 7), memory.read_at(0, 4)
    (b'wrapped', b'ped\\x00')
    """

    def __init__(self, size: int, *, fences: Fences | None = None) -> None:
        check_data_size(size)
        mapping = mmap.mmap(-1, PAGE_SIZE + size)
        self._data = memoryview(mapping)[PAGE_SIZE:]
        self._prepare([mapping], size, fences)

    @classmethod
    def over(
        cls, buffer: Buffer, *, header_size: int = PAGE_SIZE, fences: Fences | None = None
    ) -> FlatRingMem:
        """A ring in `buffer`: `header_size` bytes of control page, the rest its data area.

        header_size   4096; 16384 or 65536 where the guest's own pages have that size

        Raises CallerError when the rest is no non-zero multiple of 4096, or when a buffer that can
        be written starts at an address where a 32-bit access would tear.
        """
        view = view_bytes(buffer, "buffer")
        check_header_size(header_size)
        if len(view) <= header_size:
            raise CallerError(
                f"a buffer of {len(view)} bytes has no room for data behind {header_size} bytes of control page",
                argument="buffer",
                value=len(view),
                limit=header_size + PAGE_SIZE,
            )
        check_data_size(len(view) - header_size)
        self = cls.__new__(cls)
        self._data = view[header_size:]
        self._prepare([buffer], len(self._data), fences)
        return self

    def _views(self) -> list[memoryview]:
        return [self._data]

    def read_at(self, offset: int, length: int) -> bytes:
        end = offset + length
        size = self._size
        if end <= size:
            return self._data[offset:end].tobytes()
        if offset >= size:
            return self._data[offset - size : end - size].tobytes()
        return self._data[offset:].tobytes() + self._data[: end - size].tobytes()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        size = self._size
        if end <= size:
            self._data[offset:end] = data
        elif offset >= size:
            self._data[offset - size : end - size] = data
        else:
            first = size - offset
            self._data[offset:] = data[:first]
            self._data[: end - size] = data[first:]

    def packer(self, record: Struct) -> Callable[..., object]:
        return partial(record.pack_into, self._data)

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        return partial(record.unpack_from, self._data)

    def __repr__(self) -> str:
        return f"<FlatRingMem: {self._size} bytes of data{', read-only' if self._data.readonly else ''}>"
