"""The bytes behind a control page of which nobody has said how many there are.

They are read block by block, when they are first looked at, and what is not there is None: so a scan can ask
anywhere behind any page.  Offsets are in bytes from the start of the data area and multiples of 8.

Whoever writes memory can fill it with pages behind each of which there is much to walk.  So what is looked at
is counted, for all rings of an image together, and where it gets too much each further one is looked at less.
"""

from __future__ import annotations

from collections.abc import Callable

from vmbus.errors import CallerError
from vmbus.images import Dump, MissingMemory
from vmbus.layout import FOOTER, FOOTER_SIZE, PACKET_DESCRIPTOR, Footer, PacketDescriptor
from vmbus.ring import is_offset
from vmbus.sizes import PAGE_SIZE, SLOT

__all__ = ["LARGEST_LOOKED_FOR", "MOST_EFFORT", "DataArea", "Effort", "blocks_at", "blocks_of_pages"]

#: No ring with more data is looked for: the largest that drivers are known to make have 2 MiB.
LARGEST_LOOKED_FOR = 16 << 20

#: So much is looked at with all care, in descriptors, footers and pages; a busy ring of 512 KiB takes 20,000.
MOST_EFFORT = 3_000_000

#: Reading a page takes as long as looking at so many descriptors.
PAGE_STEPS = 4

#: So many pages are kept for the next ring: what lies behind one page lies behind the next one too.
MOST_KEPT = 2048

#: Packets that are walked at a time, and pages that are looked at for where a packet ends: usually, and where
#: the effort is spent.
MOST_STEPS, FEW_STEPS = 20_000, 32
MOST_ENDS, FEW_ENDS = LARGEST_LOOKED_FOR // PAGE_SIZE, 8

#: Gives the page of data with this number, or None where it is not there.
ReadPage = Callable[[int], "bytes | None"]


class Effort:
    """How much is still to be looked at with all care.

    left   descriptors, footers and pages; less than 0 when it is spent
    kept   pages that were read, by their addresses
    """

    def __init__(self, left: int = MOST_EFFORT) -> None:
        self.left = left
        self.kept: dict[int, bytes | None] = {}

    @property
    def is_spent(self) -> bool:
        return self.left < 0

    @property
    def steps(self) -> int:
        """So many packets may be walked at a time."""
        return FEW_STEPS if self.left < 0 else MOST_STEPS

    @property
    def ends(self) -> int:
        """At so many ends of pages a packet may be looked for."""
        return FEW_ENDS if self.left < 0 else MOST_ENDS


class DataArea:
    """A ring's data, as far as there is memory.

    read_page   what gives a page by its number
    limit       bytes that there can be at most
    effort      what looking at it is counted in
    """

    def __init__(
        self, read_page: ReadPage, limit: int = LARGEST_LOOKED_FOR, effort: Effort | None = None
    ) -> None:
        self._read_page = read_page
        self._pages: dict[int, bytes | None] = {}
        self.limit = limit
        self.effort = Effort() if effort is None else effort

    def slot(self, offset: int) -> bytes | None:
        """The 8 bytes at `offset`, which is not negative; None where there are none."""
        if offset >= self.limit:
            return None
        page = self.page(offset // PAGE_SIZE)
        if page is None:
            return None
        start = offset % PAGE_SIZE
        return page[start : start + SLOT]

    def page(self, number: int) -> bytes | None:
        """A whole page by its number."""
        try:
            return self._pages[number]
        except KeyError:
            self.effort.left -= PAGE_STEPS
            page = self._pages[number] = self._read_page(number)
            return page

    def footer_before(self, end: int) -> Footer | None:
        """The footer of a packet that ends at `end`, which is not 0."""
        self.effort.left -= 1
        slot = self.slot(end - FOOTER_SIZE)
        return None if slot is None else FOOTER.unpack(slot)

    def is_strange_footer(self, start: int, end: int) -> bool:
        """Whether the packet from `start` to `end` has a footer that names another place: it is of another ring.

        Where a sender writes no footers, anything may be there; zeros, mostly.
        """
        footer = self.footer_before(end)
        return (
            footer is not None
            and not footer.reserved
            and footer.packet_offset not in (0, start)
            and is_offset(self.limit, footer.packet_offset)
        )

    def descriptor(self, offset: int, size: int | None = None) -> PacketDescriptor | None:
        """The descriptor at `offset`; its transaction id is 0 where it goes over the end of `size` bytes."""
        self.effort.left -= 1
        first = self.slot(offset)
        if first is None:
            return None
        at_end = size is not None and offset + SLOT >= size
        second = None if at_end else self.slot(offset + SLOT)
        return PACKET_DESCRIPTOR.unpack(first + (second or bytes(SLOT)))


def blocks_at(dump: Dump, address: int, effort: Effort | None = None) -> ReadPage:
    """Pages that lie one behind the other from `address` on."""
    kept = {} if effort is None else effort.kept

    def read_page(number: int) -> bytes | None:
        return page_at(dump, address + number * PAGE_SIZE, kept)

    return read_page


def blocks_of_pages(dump: Dump, addresses: tuple[int, ...]) -> ReadPage:
    """Pages that lie anywhere."""

    def read_page(number: int) -> bytes | None:
        return page_at(dump, addresses[number], {}) if number < len(addresses) else None

    return read_page


def page_at(dump: Dump, address: int, kept: dict[int, bytes | None]) -> bytes | None:
    """The page, which is kept; None where it is not there."""
    if address in kept:
        return kept[address]
    if len(kept) >= MOST_KEPT:
        kept.clear()
    try:
        page = dump.read(address, PAGE_SIZE)
    except (MissingMemory, CallerError):  # of the latter, what lies behind the last address
        page = None
    kept[address] = page
    return page
