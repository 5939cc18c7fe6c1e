"""What a ring needs from its memory: the one seam between the rings and shared bytes.

A memory that records every access, changes bytes under the reader or fails on purpose is a class
with these members; the rings then run on it the very lines that they run on real memory.

Offsets are bytes from the start of the data area.  They may reach twice the data's size: an
access that starts or ends behind the end goes on at the start (it wraps, once).

Sources: OpenVMM vmbus_ring/src/lib.rs, trait RingMem and trait PagedMemory.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

from vmbus.errors import BufferTooSmall, CallerError
from vmbus.sizes import CONTROL_SIZE

from .barrier import Fences, require_fences

__all__ = [
    "Buffer",
    "BufferRingMem",
    "ControlWords",
    "PagedMemory",
    "RingMem",
    "control_words",
    "copy_into",
    "view_bytes",
]

#: Anything that memoryview() takes; type checkers can tell from Python 3.12 on.
if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    Buffer: TypeAlias = Any


class ControlWords(Protocol):
    """The 32 words of a control page, each loaded and stored with one aligned 32-bit access."""

    @property
    def readonly(self) -> bool: ...

    def __getitem__(self, word: int, /) -> int: ...

    def __setitem__(self, word: int, value: int, /) -> None: ...


class RingMem(Protocol):
    """The memory of one ring: control words, a data area that wraps, and fences.

    control   the control words
    size      bytes of the data area: a non-zero multiple of 4096

    A class that names this one as its base needs only `control`, `size`, `read_at` and
    `write_at`: it inherits this machine's fences, and packers made of the two methods.
    """

    @property
    def control(self) -> ControlWords: ...

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """A copy of `length` bytes at `offset`."""
        ...

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Store `data` at `offset`."""
        ...

    def acquire(self) -> object:
        """An earlier load comes before all that follows."""
        return require_fences(None, shared=True).acquire()

    def release(self) -> object:
        """Earlier loads and stores come before later stores."""
        return require_fences(None, shared=True).release()

    def fence(self) -> object:
        """All that is earlier comes before all that is later."""
        return require_fences(None, shared=True).full()

    def packer(self, record: Struct) -> Callable[..., object]:
        """A function of (offset, *values) that stores `record` in place.

        The rings call it only where the record does not wrap, so that it can be one call.
        """

        def pack(offset: int, *values: object) -> None:
            self.write_at(offset, record.pack(*values))

        return pack

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        """A function of an offset that returns the values of `record`, where it does not wrap."""
        size = record.size

        def unpack(offset: int) -> tuple[Any, ...]:
            return record.unpack(self.read_at(offset, size))

        return unpack


class PagedMemory(Protocol):
    """Pages that somebody holds in their own way, for PagedRingMem.

    Every page is asked for once, when the ring memory is made.
    """

    def control(self) -> Buffer:
        """The control page."""
        ...

    @property
    def data_page_count(self) -> int:
        """Data pages of the ring."""
        ...

    def data(self, page: int) -> Buffer:
        """A data page: any buffer of 4096 bytes."""
        ...


def view_bytes(buffer: Buffer, name: str, *, writable: bool = False) -> memoryview:
    """`buffer` as plain bytes, without a copy.

    Raises CallerError, which calls it `name`, when it is not one block of bytes, or is to be
    `writable` and is not.
    """
    try:
        view = memoryview(buffer)
        plain = view.format == "B" and view.ndim == 1 and view.c_contiguous
        view = view if plain else view.cast("B")
    except (TypeError, ValueError) as error:  # ValueError: it is closed
        raise CallerError(
            f"{name} is a contiguous buffer of bytes (bytearray, mmap, memoryview, bytes), "
            f"not {type(buffer).__name__}: {error}",
            argument=name,
            value=type(buffer).__name__,
            limit="a contiguous buffer",
        ) from None
    if writable and view.readonly:
        raise CallerError(
            f"{name} is to be written, and this {type(buffer).__name__} can only be read",
            argument=name,
            value="read-only",
            limit="writable",
        )
    return view


Memory = TypeVar("Memory", bound="BufferRingMem")


class BufferRingMem(RingMem):
    """The control words, the size and the fences of a ring in buffers."""

    def _prepare(self, pages: list[Buffer], size: int, fences: Fences | None) -> None:
        """Use the control page at the start of pages[0]; `pages` are all buffers of the ring."""
        views = [memoryview(page) for page in pages]
        writable = not views[0].readonly
        private = not writable or all(isinstance(page, bytearray) for page in pages)
        chosen = require_fences(fences, shared=not private)
        if writable and not isinstance(pages[0], mmap.mmap):
            check_alignment(views[0], 4)
        self._control = control_words(views[0])
        self._size = size
        if not writable:
            self.write_at = refuse_write  # type: ignore[assignment, method-assign]
            self.packer = refuse_packer  # type: ignore[method-assign]
        # Instance attributes, so that a ring calls the fence itself and nothing around it.
        self.acquire = chosen.acquire  # type: ignore[method-assign]
        self.release = chosen.release  # type: ignore[method-assign]
        self.fence = chosen.full  # type: ignore[method-assign]

    @property
    def control(self) -> memoryview:
        return self._control

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        """Let go of the buffers, so that their owner can close them; again is harmless.

        A ring over this memory must not be used any more: it raises ValueError.
        """
        for view in (self._control, *self._views()):
            view.release()

    def _views(self) -> list[memoryview]:
        """The views of the data area."""
        raise AssertionError("each kind of memory has its own")

    def __enter__(self: Memory) -> Memory:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def control_words(page: memoryview) -> memoryview:
    """The 32 control words at the start of `page`, as items that one access loads or stores."""
    if sys.byteorder != "little":
        raise CallerError(
            "control words are little-endian and this machine is not: one access cannot load them",
            argument="page",
            value=sys.byteorder,
            limit="little",
        )
    return page.cast("B")[:CONTROL_SIZE].cast("I")


def refuse_write(*arguments: object) -> NoReturn:
    """In place of every store to the data area of a memory that can only be read."""
    raise CallerError(
        "this memory is read-only: it can be read and inspected, and nothing stored in it",
        argument="memory",
        value="read-only",
        limit="writable",
    )


def refuse_packer(record: Struct) -> Callable[..., object]:
    """In place of the packers of such a memory."""
    return refuse_write


def check_alignment(view: memoryview, size: int) -> None:
    """Raise CallerError when the first byte of a writable `view` is not at a multiple of `size`."""
    import ctypes  # slow to import, and needed only for buffers that somebody cut out themselves

    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    if address % size:
        raise CallerError(
            f"the shared words start at address {address:#x} of this process; they need a multiple of "
            f"{size}, or the other side could see half a store",
            argument="buffer",
            value=address,
            limit=size,
        )


def copy_into(buffer: Buffer, length: int, read: Callable[[], bytes]) -> int:
    """Copy the `length` bytes that `read` returns to the start of `buffer`, and return `length`.

    Raises BufferTooSmall, and reads nothing, when they do not fit; CallerError when the buffer
    cannot be written.
    """
    view = view_bytes(buffer, "buffer", writable=True)
    if length > len(view):
        raise BufferTooSmall(
            f"the payload has {length} bytes and the buffer {len(view)}", needed=length, value=len(view)
        )
    view[:length] = read()
    return length
