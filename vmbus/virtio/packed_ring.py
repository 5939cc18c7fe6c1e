"""What a position in a packed ring is, and what a slot's flags say: the rules that both sides share.

A position is a slot and a wrap counter of one bit, which turns over with every round.  In 16 bits it
is the slot with the counter in bit 15: so event offsets and saved positions are written.

Source: OASIS VIRTIO 1.2, sections 2.8.1 and 2.8.10.
"""

from __future__ import annotations

from vmbus.errors import CallerError

from .layout import AVAILABLE, USED, WRAP

__all__ = [
    "advance",
    "available_flags",
    "distance",
    "is_available",
    "is_used",
    "joined",
    "parted",
    "retreat",
    "used_flags",
]

BOTH = AVAILABLE | USED


def available_flags(wrap: int) -> int:
    """The two flags of a slot that a driver with that wrap counter makes available."""
    return AVAILABLE if wrap else USED


def used_flags(wrap: int) -> int:
    """The two flags of a slot that a device with that wrap counter has used."""
    return BOTH if wrap else 0


def is_available(flags: int, wrap: int) -> bool:
    """Whether a slot's flags make it available to a device whose wrap counter there is `wrap`.

    >>> is_available(0x0080, 1), is_available(0x8000, 0), is_available(0x8080, 1), is_available(0, 0)
    (True, True, False, False)
    """
    return flags & BOTH == available_flags(wrap)


def is_used(flags: int, wrap: int) -> bool:
    """Whether a slot's flags say that the device has used it, to a driver with that wrap counter.

    >>> is_used(0x8080, 1), is_used(0x0000, 0), is_used(0x0080, 1), is_used(0x8000, 0)
    (True, True, False, False)
    """
    return flags & BOTH == used_flags(wrap)


def advance(slot: int, wrap: int, slots: int, size: int) -> tuple[int, int]:
    """The position so many slots further on, at most a whole round.

    >>> advance(2, 1, 3, 4), advance(2, 1, 1, 4), advance(1, 1, 4, 4)
    ((1, 0), (3, 1), (1, 0))
    """
    slot += slots
    return (slot, wrap) if slot < size else (slot - size, wrap ^ 1)


def retreat(slot: int, wrap: int, slots: int, size: int) -> tuple[int, int]:
    """The position so many slots before, at most a whole round.

    >>> retreat(1, 0, 3, 4), retreat(3, 1, 1, 4), retreat(1, 0, 4, 4)
    ((2, 1), (2, 1), (1, 1))
    """
    slot -= slots
    return (slot, wrap) if slot >= 0 else (slot + size, wrap ^ 1)


def joined(slot: int, wrap: int) -> int:
    """The position in 16 bits."""
    return slot | WRAP if wrap else slot


def parted(position: int) -> tuple[int, int]:
    """The slot and the wrap counter of a position in 16 bits."""
    return position & ~WRAP, position >> 15


def distance(used: int, available: int, size: int) -> int:
    """Slots in flight between two positions: where a device gives back, and where it takes.

    Raises CallerError when it is no number from 0 to `size`, or a slot is none of the ring.

    >>> distance(0x8002, 0x8005, 8), distance(0x8006, 0x0001, 8), distance(0x0000, 0x8000, 8)
    (3, 3, 8)
    """
    (used_slot, used_wrap), (slot, wrap) = parted(used), parted(available)
    apart = slot - used_slot if wrap == used_wrap else slot - used_slot + size
    if max(used_slot, slot) >= size or not 0 <= apart <= size:
        raise CallerError(
            f"positions {used:#06x} and {available:#06x} of a packed ring of {size} are {apart} apart",
            argument="next_avail",
            value=(used, available),
            limit=size,
        )
    return apart
