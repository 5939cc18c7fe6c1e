"""Which guest-physical addresses a saved state of Hyper-V has: keys RamMemoryBlock0, 1, ...

Each names a range of pages of 4096 bytes, and the place of its first page in the sequence of all saved pages.

Sources: as load_vmrs.py.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from struct import Struct
from typing import NamedTuple

from vmbus.errors import DumpError
from vmbus.sizes import PAGE_SIZE

from .disjoint import outside
from .hyperv_storage import Storage

__all__ = ["MOST_MEMORY_BLOCKS", "Stretch", "stretches_of"]

#: Ranges that are read; the others are left out.
MOST_MEMORY_BLOCKS = 1 << 10

#: Page numbers are below this: an address has 64 bits.
ADDRESS_PAGES = 2**52

SHARED = "another range of addresses has the same place among the saved pages"


class MemoryBlock(NamedTuple):
    """The value of a key RamMemoryBlock; a NUMA node and a block id follow.

    flags         1 added while it ran, 2 SGX, 4 of VTL 2, 8 for a special purpose
    pages         how many
    saved_index   the place of the first among all saved pages, of which a RamBlock has 256
    first_page    the number of the first
    """

    version: int
    flags: int
    pages: int
    saved_index: int
    first_page: int


MEMORY_BLOCK = Struct("<IIQQQ")
MEMORY_BLOCK_VERSION = 3


class Stretch(NamedTuple):
    """Pages from `start` up to `end`, the first of them at `saved_index`; lost when `why` says so."""

    start: int
    end: int
    saved_index: int
    why: str = ""


#: Takes the name of a check and a sentence.
Add = Callable[[str, str], object]


def stretches_of(storage: Storage, memory: Mapping[int, int], add: Add) -> list[Stretch]:
    """The memory that the keys speak of, sorted; where two have the same, the first counts.

    memory   of each RamMemoryBlock its number, and what `storage` knows the key by
    """
    taken: list[tuple[int, int]] = []
    saved: list[tuple[int, int]] = []
    stretches: list[Stretch] = []
    if len(memory) > MOST_MEMORY_BLOCKS:
        add("vmrs-memory-block", f"of {len(memory)} ranges of addresses {MOST_MEMORY_BLOCKS} are read")
    if max(memory) >= len(memory):
        add("vmrs-memory-block", f"of RamMemoryBlock0 to {max(memory)} only {len(memory)} are there")
    for name, number in sorted(memory.items())[:MOST_MEMORY_BLOCKS]:
        block = memory_block(storage, name, number, add)
        if block is None or not block.pages:
            continue
        first, end = block.first_page, block.first_page + block.pages
        parts = [*outside([(first, end)], taken)]
        if parts != [(first, end)]:
            add("image-overlap", f"RamMemoryBlock{name} has addresses of an earlier one, which counts")
        mine = block.saved_index, block.saved_index + block.pages
        why = "" if [*outside([mine], saved)] == [mine] else SHARED
        if not why and parts:
            insort(saved, mine)
        for start, stop in parts:
            insort(taken, (start, stop))
            stretches.append(Stretch(start, stop, block.saved_index + start - first, why))
    if not stretches:
        raise DumpError(
            "has no memory that could be read: its keys RamMemoryBlock mean nothing, or are empty",
            path=storage.source.path,
            place=0,
        )
    return sorted(stretches)


def memory_block(storage: Storage, name: int, number: int, add: Add) -> MemoryBlock | None:
    """A RamMemoryBlock; None, with a finding, where it means nothing."""
    what = f"is not an array of {MEMORY_BLOCK.size + 16} bytes"
    try:
        value = storage.value_at(number) if storage.stored_at(number)[1] <= PAGE_SIZE else None
    except DumpError as error:
        value, what = None, f"cannot be read: {error.args[0]}"
    if not isinstance(value, bytes) or len(value) < MEMORY_BLOCK.size:
        add("vmrs-memory-block", f"RamMemoryBlock{name} {what}")
        return None
    block = MemoryBlock(*MEMORY_BLOCK.unpack_from(value))
    if block.version != MEMORY_BLOCK_VERSION:
        add(
            "vmrs-memory-block",
            f"RamMemoryBlock{name} has version {block.version}; {MEMORY_BLOCK_VERSION} is known",
        )
    if block.first_page + block.pages > ADDRESS_PAGES:
        what = f"has {block.pages} pages from page {block.first_page:#x} on, behind the last address"
        add("vmrs-memory-block", f"RamMemoryBlock{name} {what}")
        return None
    return block
