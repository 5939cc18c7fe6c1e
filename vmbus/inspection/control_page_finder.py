"""Where in memory a control page may be, by its shape alone.

The control page of a ring that has been used looks like little else: five words that follow rules, and
4096 bytes that are otherwise zero.  Whether it is one, only the packets behind it tell.

A ring that was opened and never used has a 1 in its feature word and nothing else, which other things
have too: such pages are marked.  A page of zeros is none at all.

A gigabyte is a quarter of a million pages, so they are looked at a column at a time: one word of every
page of a piece in one go, and only those pages that pass are looked at one by one.  Whatever the pages hold,
the work is bounded for each.

Sources: Linux include/linux/hyperv.h, struct hv_ring_buffer, and drivers/hv/ring_buffer.c, which zeroes
the page when a ring is opened and sets the feature word in both rings; OpenVMM vmbus_ring/src/lib.rs,
whose receivers set the mask to 1.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from vmbus.layout import CONTROL_PAGE, ControlPage, FeatureBits
from vmbus.ring import is_offset
from vmbus.sizes import CONTROL_SIZE, MAXIMUM_DATA_SIZE, PAGE_SIZE

__all__ = ["ControlCandidate", "find_control_pages"]

#: Bits that are clear in a word of two offsets, each a multiple of 8 below 2**31.
NEVER_IN_OFFSETS = 0x80000007_80000007

ZEROS = bytes(PAGE_SIZE - CONTROL_SIZE)


class ControlCandidate(NamedTuple):
    """A page with the shape of a control page.

    address   of the page
    control   its words
    unused    whether nothing but the feature word is set: the ring was opened and never used, was
              emptied at its start, or is none at all
    """

    address: int
    control: ControlPage
    unused: bool


def find_control_pages(address: int, data: bytes | memoryview) -> list[ControlCandidate]:
    """Every page with that shape that lies wholly in one piece of memory.

    address   where the piece starts; pages start at multiples of 4096, wherever the piece does
    data      the piece, of any length: 1 MiB is a good one

    >>> used = bytes([64]) + bytes(63) + bytes([1]) + bytes(4031)
    >>> find_control_pages(0x10000, bytes(4096) + used)[0].address
    69632
    """
    view = memoryview(data)
    first = -address % PAGE_SIZE
    pages = (len(view) - first) // PAGE_SIZE
    if pages <= 0:
        return []
    words = columns(pages).unpack_from(view, first)
    if not any(words):
        return []
    suspects = [
        page
        for page, (indices, features) in enumerate(zip(words[::2], words[1::2], strict=True))
        if features <= 1 and (indices or features) and not indices & NEVER_IN_OFFSETS
    ]
    found = []
    for page in suspects:
        at = first + page * PAGE_SIZE
        candidate = candidate_at(address + at, view[at : at + PAGE_SIZE])
        if candidate is not None:
            found.append(candidate)
    return found


@lru_cache(maxsize=256)
def columns(pages: int) -> Struct:
    """In and out of each page as one number, and its feature word with the next one as another."""
    between = CONTROL_PAGE.offsets["feature_bits"] - 8
    return Struct("<" + f"Q{between}xQ{PAGE_SIZE - between - 16}x" * pages)


def candidate_at(address: int, page: memoryview) -> ControlCandidate | None:
    """The page as a candidate, or None when it has another shape."""
    control = CONTROL_PAGE.unpack(page)
    if not has_shape(control) or page[CONTROL_SIZE:].tobytes() != ZEROS:
        return None
    used = control.in_offset or control.out_offset or control.interrupt_mask or control.pending_send_size
    return ControlCandidate(address, control, not used)


def has_shape(control: ControlPage) -> bool:
    """Whether the words can be those of some ring, and at least one of those that tell is set."""
    return (
        control.interrupt_mask <= 1
        and control.pending_send_size < MAXIMUM_DATA_SIZE
        and control.feature_bits <= FeatureBits.SUPPORTS_PENDING_SEND_SIZE
        and is_offset(MAXIMUM_DATA_SIZE, control.in_offset)
        and is_offset(MAXIMUM_DATA_SIZE, control.out_offset)
        and bool(control.feature_bits or control.in_offset or control.out_offset)
        and not control.other_words
    )
