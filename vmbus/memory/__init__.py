"""Bytes that two sides share.

RingMem is what a ring asks of its memory; FlatRingMem and PagedRingMem are two that have it;
SharedMemory is bytes that several processes map; barrier keeps accesses in order.  Nothing here
knows what the bytes mean.
"""

from .barrier import FENCES, NO_FENCES, Fences, fences_for_machine
from .flat import FlatRingMem
from .paged import PagedRingMem
from .ring_memory import Buffer, ControlWords, PagedMemory, RingMem, control_words, copy_into, view_bytes
from .shared import SharedMemory

__all__ = [
    "FENCES",
    "NO_FENCES",
    "Buffer",
    "ControlWords",
    "Fences",
    "FlatRingMem",
    "PagedMemory",
    "PagedRingMem",
    "RingMem",
    "SharedMemory",
    "control_words",
    "copy_into",
    "fences_for_machine",
    "view_bytes",
]
