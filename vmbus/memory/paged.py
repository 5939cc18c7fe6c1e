"""A ring whose control page and data pages lie anywhere.

Sources: OpenVMM vmbus_ring/src/lib.rs, PagedRingMem.  Like there, the data pages are listed twice
in a row, so that an access that wraps goes on to the next page and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from struct import Struct
from typing import Any

from vmbus.errors import CallerError
from vmbus.sizes import PAGE_SIZE, check_data_size

from .barrier import Fences
from .ring_memory import Buffer, BufferRingMem, PagedMemory, view_bytes

__all__ = ["PagedRingMem"]

PAGE_SHIFT = PAGE_SIZE.bit_length() - 1
IN_PAGE = PAGE_SIZE - 1


class PagedRingMem(BufferRingMem):
    """A control page and data pages, each in a buffer of its own.

    pages    a list: pages[0] is the control page, the others are the data area in their order;
             or a PagedMemory
    fences   what orders the accesses, where this machine's own are not wanted or not known

    A context manager that lets go of the pages at the end, as `close` does.

    All pages must be writable, or none.  Raises CallerError when a page is not 4096 bytes long
    or there are too few.

    >>> memory = PagedRingMem([bytearray(4096) for page in range(3)])
    >>> memory.size
    8192
    >>> memory.write_at(8190, b"wrapped")
    >>> memory.read_at(8190, 7)
    b'wrapped'
    """

    def __init__(self, pages: Iterable[Buffer] | PagedMemory, *, fences: Fences | None = None) -> None:
        control, data = pages_of(pages)
        check_data_size(len(data) * PAGE_SIZE)
        views = [check_page(page, number) for number, page in enumerate([control, *data])]
        readonly = views[0].readonly
        if any(view.readonly != readonly for view in views):
            raise CallerError(
                "some pages can be written and some cannot: a ring is all one or all the other",
                argument="pages",
                value=[number for number, view in enumerate(views) if view.readonly],
                limit="none read-only, or all",
            )
        self._pages = views[1:] * 2
        self._prepare([control, *data], len(data) * PAGE_SIZE, fences)

    def _views(self) -> list[memoryview]:
        return self._pages

    def read_at(self, offset: int, length: int) -> bytes:
        page, start = offset >> PAGE_SHIFT, offset & IN_PAGE
        pages = self._pages
        if start + length <= PAGE_SIZE:
            return pages[page][start : start + length].tobytes()
        parts = [pages[page][start:]]
        left = length + start - PAGE_SIZE
        while left > 0:
            page += 1
            parts.append(pages[page] if left >= PAGE_SIZE else pages[page][:left])
            left -= PAGE_SIZE
        return b"".join(parts)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        page, start = offset >> PAGE_SHIFT, offset & IN_PAGE
        pages = self._pages
        length = len(data)
        if start + length <= PAGE_SIZE:
            pages[page][start : start + length] = data
            return
        # A stream fills page after page; assigning slice by slice takes twice as long.
        fill = BytesIO(data).readinto
        fill(pages[page][start:])
        left = length + start - PAGE_SIZE
        while left > 0:
            page += 1
            fill(pages[page] if left >= PAGE_SIZE else pages[page][:left])
            left -= PAGE_SIZE

    def packer(self, record: Struct) -> Callable[..., object]:
        pages = self._pages
        pack_into = record.pack_into
        last_start = PAGE_SIZE - record.size

        def pack(offset: int, *values: object) -> None:
            start = offset & IN_PAGE
            if start <= last_start:
                pack_into(pages[offset >> PAGE_SHIFT], start, *values)
            else:
                self.write_at(offset, record.pack(*values))

        return pack

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        pages = self._pages
        unpack_from = record.unpack_from
        last_start = PAGE_SIZE - record.size
        size = record.size

        def unpack(offset: int) -> tuple[Any, ...]:
            start = offset & IN_PAGE
            if start <= last_start:
                return unpack_from(pages[offset >> PAGE_SHIFT], start)
            return record.unpack(self.read_at(offset, size))

        return unpack

    def __repr__(self) -> str:
        return f"<PagedRingMem: {self._size} bytes of data in {len(self._pages) // 2} pages>"


def pages_of(pages: Iterable[Buffer] | PagedMemory) -> tuple[Buffer, list[Buffer]]:
    """The control page and the data pages of either form."""
    if isinstance(pages, Iterable):
        listed = list(pages)
        if len(listed) < 2:
            raise CallerError(
                f"a ring has a control page and at least one data page, not {len(listed)} pages",
                argument="pages",
                value=len(listed),
                limit=2,
            )
        return listed[0], listed[1:]
    return pages.control(), [pages.data(page) for page in range(pages.data_page_count)]


def check_page(page: Buffer, number: int) -> memoryview:
    """`page` as bytes; CallerError when it is not exactly a page."""
    view = view_bytes(page, f"pages[{number}]")
    if len(view) != PAGE_SIZE:
        raise CallerError(
            f"page {number} is {len(view)} bytes long, and every page is {PAGE_SIZE}",
            argument="pages",
            value=len(view),
            limit=PAGE_SIZE,
        )
    return view
