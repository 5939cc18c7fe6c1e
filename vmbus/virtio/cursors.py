"""Reading and writing along a chain, as if its buffers lay in one piece.

A device must not care how a request is split over buffers: these make it easy not to.

Sources: OASIS VIRTIO 1.2, section 2.7.4 (message framing); rust-vmm virtio-queue, Reader and Writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeVar

from vmbus.errors import CallerError, PeerError
from vmbus.memory import AddressError, Buffer, QueueMemory, view_bytes

from .descriptor import Descriptor, descriptor_error
from .faults import VirtqueueFault

__all__ = ["ChainReader", "ChainWriter", "refuse_buffer"]

Cursor = TypeVar("Cursor", bound="ChainCursor")


class ChainCursor:
    """A place in the bytes of some buffers.

    The addresses of all buffers are looked up when the cursor is made.

    Raises PeerError when one of them is not in memory, or is to be written and cannot be.
    """

    #: Whether the buffers are to be written.
    writes = False

    def __init__(self, memory: QueueMemory, descriptors: Sequence[Descriptor]) -> None:
        self._memory = memory
        #: (address, length) of what is left, the next one last; that one may have been cut.
        self._parts: list[tuple[int, int]] = []
        for descriptor in descriptors:
            check_mapped(memory, descriptor, writable=self.writes)
            if descriptor.length:
                self._parts.append((descriptor.address, descriptor.length))
        self._parts.reverse()
        self._available = sum(length for _, length in self._parts)
        self._done = 0

    @property
    def available_bytes(self) -> int:
        """Bytes from here to the end."""
        return self._available

    def split_at(self: Cursor, offset: int) -> Cursor:  # noqa: PYI019 - Self came with Python 3.11
        """Cut behind `offset` more bytes: this cursor keeps those, and a new one has the rest.

        Raises CallerError when there are not so many.
        """
        if not 0 <= offset <= self._available:
            raise CallerError(
                f"{self._available} bytes are left: they cannot be cut behind {offset}",
                argument="offset",
                value=offset,
                limit=self._available,
            )
        rest = type(self)(self._memory, [])
        rest._available = self._available - offset
        kept = self._cut_off(offset)
        kept.reverse()
        rest._parts, self._parts = self._parts, kept
        self._available = offset
        return rest

    def _take(self, count: int) -> list[tuple[int, int]]:
        """Move `count` bytes on, and return what was passed."""
        self._available -= count
        self._done += count
        return self._cut_off(count)

    def _cut_off(self, count: int) -> list[tuple[int, int]]:
        """The next `count` bytes, taken out of what is left."""
        taken = []
        while count:
            address, length = self._parts.pop()
            if length > count:
                self._parts.append((address + count, length - count))
                length = count
            taken.append((address, length))
            count -= length
        return taken

    def _refuse(self, needed: int, verb: str) -> NoReturn:
        raise PeerError(
            f"{needed} bytes were to be {verb}, and the driver's chain has {self._available} more behind "
            f"the {self._done} that were",
            kind=VirtqueueFault.CHAIN_TOO_SHORT,
            found=self._available,
            allowed=needed,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._done} bytes done, {self._available} available>"


class ChainReader(ChainCursor):
    """The readable bytes of a chain, one after the other."""

    @property
    def bytes_read(self) -> int:
        """Bytes from the start to here."""
        return self._done

    def read(self, length: int | None = None) -> bytes:
        """At most `length` bytes, or all that are left."""
        count = self._available if length is None else min(max(length, 0), self._available)
        read = self._memory.read
        return b"".join([read(address, size) for address, size in self._take(count)])

    def read_exact(self, length: int) -> bytes:
        """So many bytes; PeerError, and nothing read, when the chain has not got them."""
        if length > self._available:
            self._refuse(length, "read")
        return self.read(length)


class ChainWriter(ChainCursor):
    """The writable bytes of a chain, one after the other."""

    writes = True

    @property
    def bytes_written(self) -> int:
        """Bytes from the start to here: what to give to add_used."""
        return self._done

    def write(self, data: Buffer) -> int:
        """Store as much of `data` as there is room for; how much that was."""
        view = view_bytes(data, "data")
        count = min(len(view), self._available)
        start = 0
        for address, size in self._take(count):
            self._memory.write(address, view[start : start + size])
            start += size
        return count

    def write_all(self, data: Buffer) -> None:
        """Store all of `data`; PeerError, and nothing stored, when the chain has no room for it."""
        view = view_bytes(data, "data")
        if len(view) > self._available:
            self._refuse(len(view), "written")
        self.write(view)


def check_mapped(memory: QueueMemory, descriptor: Descriptor, *, writable: bool) -> None:
    """Raise PeerError when some byte of a buffer is not in memory, or is not `writable`."""
    try:
        memory.check_range(descriptor.address, descriptor.length, writable=writable)
    except AddressError as error:
        refuse_buffer(descriptor, error)


def refuse_buffer(descriptor: Descriptor, error: AddressError) -> NoReturn:
    raise descriptor_error(
        descriptor,
        VirtqueueFault.BUFFER_OUTSIDE_MEMORY,
        f"a buffer that is not in memory, or cannot be written there: {error}",
        found=error.address,
        allowed="mapped, and writable where it is to be written",
    ) from None
