"""Bytes that two sides share.

RingMem is what a ring asks of its memory; FlatRingMem and PagedRingMem are two that have it;
SharedMemory is bytes that several processes map; GuestMemory is bytes at the addresses of a guest,
and QueueMemory what a virtqueue asks of it; barrier keeps accesses in order.  Nothing here knows what
the bytes mean.
"""

from .address_space import TOP_OF_MEMORY, AddressError, AddressSpace, Placement, Region
from .atomic_words import AtomicBit
from .barrier import FENCES, NO_FENCES, Fences, fences_for_machine
from .flat import FlatRingMem
from .guest_memory import GuestMemory, Halfwords, QueueMemory
from .paged import PagedRingMem
from .reader_space import ReaderSpace
from .ring_memory import Buffer, ControlWords, PagedMemory, RingMem, control_words, copy_into, view_bytes
from .shared import SharedMemory

__all__ = [
    "FENCES",
    "NO_FENCES",
    "TOP_OF_MEMORY",
    "AddressError",
    "AddressSpace",
    "AtomicBit",
    "Buffer",
    "ControlWords",
    "Fences",
    "FlatRingMem",
    "GuestMemory",
    "Halfwords",
    "PagedMemory",
    "PagedRingMem",
    "Placement",
    "QueueMemory",
    "ReaderSpace",
    "Region",
    "RingMem",
    "SharedMemory",
    "control_words",
    "copy_into",
    "fences_for_machine",
    "view_bytes",
]
