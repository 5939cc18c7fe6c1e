"""A stretch of memory that belongs to a packet: the bytes themselves, never a copy of them.

Offsets and lengths are in bytes.  What is read is a copy; a driver may change the bytes at any moment.

Source: rust-vmm vm-memory, VolatileSlice.
"""

from __future__ import annotations

from typing import NoReturn

from vmbus.errors import CallerError
from vmbus.memory import Buffer, view_bytes

__all__ = ["PacketSlice", "refuse_write"]


class PacketSlice:
    """Bytes that driver and device share.

    >>> shared = bytearray(8)
    >>> part = PacketSlice(shared)
    >>> part.write(2, b"up")
    >>> part.read(1, 4), len(part), bytes(shared)
    (b'\\x00up\\x00', 8, b'\\x00\\x00up\\x00\\x00\\x00\\x00')
    """

    __slots__ = ("view",)

    def __init__(self, buffer: Buffer) -> None:
        #: The bytes as a memoryview: for struct, sockets and files.
        self.view = view_bytes(buffer, "buffer")

    def __len__(self) -> int:
        return len(self.view)

    def __bool__(self) -> bool:
        """True, also of no bytes: a slice that is there is not the same as None."""
        return True

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """A copy of `length` bytes, or of all from `offset` on.

        Raises CallerError when some of them are not inside.
        """
        size = len(self.view)
        if length is None:
            length = size - offset
        if not 0 <= offset <= offset + length <= size:
            self._refuse(offset, length)
        return self.view[offset : offset + length].tobytes()

    def write(self, offset: int, data: Buffer) -> None:
        """Store the bytes at `offset`.

        Raises CallerError, and stores nothing, when some are not inside or the memory is read-only.
        """
        source = view_bytes(data, "data")
        length = len(source)
        if not 0 <= offset <= offset + length <= len(self.view):
            self._refuse(offset, length)
        if self.view.readonly:
            refuse_write(length)
        self.view[offset : offset + length] = source

    def read_slice(self, buffer: Buffer, offset: int = 0) -> None:
        """Fill all of a writable `buffer` with the bytes from `offset` on; CallerError as `read`."""
        target = view_bytes(buffer, "buffer", writable=True)
        length = len(target)
        if not 0 <= offset <= offset + length <= len(self.view):
            self._refuse(offset, length)
        target[:] = self.view[offset : offset + length]

    def write_slice(self, buffer: Buffer, offset: int = 0) -> None:
        """`write` with its arguments the other way round."""
        self.write(offset, buffer)

    def _refuse(self, offset: int, length: int) -> NoReturn:
        raise CallerError(
            f"{length} bytes from offset {offset} on are not inside these {len(self.view)}",
            argument="offset",
            value=(offset, length),
            limit=len(self.view),
        )

    def __repr__(self) -> str:
        kind = ", read-only" if self.view.readonly else ""
        return f"<PacketSlice: {len(self.view)} bytes{kind}>"


def refuse_write(length: int) -> NoReturn:
    raise CallerError(
        f"{length} bytes cannot be stored: this memory can only be read",
        argument="memory",
        value="read-only",
        limit="writable",
    )
