"""The settings and the state of a device's queue, and what of them can be.

They come from a driver's register writes, or from another machine: each is checked before it is used.

Sources: OASIS VIRTIO 1.2, sections 2.7 and 2.8 (sizes and alignments); rust-vmm virtio-queue,
QueueState.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import CallerError

from .device_ring import HeldChain
from .features import is_packed
from .layout import LARGEST_CHAIN_BYTES, QueueAreas

__all__ = [
    "QueueState",
    "check_addresses_set",
    "check_areas",
    "check_held",
    "check_longest",
    "check_position",
    "with_halves",
]


class QueueState(NamedTuple):
    """What a migration must carry over of a device's queue, beside the memory: numbers alone.

    max_size, size, ready, features          as of the DeviceQueue
    desc_table, avail_ring, used_ring        addresses, as the device sees them
    next_avail, next_used                    where it goes on: indices, or slots with the wrap
                                             counter in bit 15
    held                                     (head, HeldChain) of the chains that the device has
    """

    max_size: int
    size: int
    ready: bool
    features: int
    desc_table: int
    avail_ring: int
    used_ring: int
    next_avail: int
    next_used: int
    held: tuple[tuple[int, HeldChain], ...] = ()


def with_halves(address: int, low: int | None, high: int | None) -> int:
    """The address with its lower, its upper or both halves of 32 bits replaced.

    >>> hex(with_halves(0x1_0000_2000, 0x3000, None)), hex(with_halves(0x1_0000_2000, None, 2))
    ('0x100003000', '0x200002000')
    """
    for name, half in (("low", low), ("high", high)):
        if half is not None and not 0 <= half < 1 << 32:
            raise CallerError(
                f"half an address has 32 bits, not {half:#x}", argument=name, value=half, limit=(1 << 32) - 1
            )
    below = address & 0xFFFF_FFFF if low is None else low
    above = address >> 32 if high is None else high
    return above << 32 | below


def check_areas(areas: QueueAreas, packed: bool) -> QueueAreas:
    """Return the addresses if they are aligned, else raise CallerError."""
    for name, address, alignment in zip(
        QueueAreas._fields, areas, QueueAreas.alignments(packed=packed), strict=True
    ):
        if address % alignment or not 0 <= address < 1 << 64:
            raise CallerError(
                f"the {name.replace('_', ' ')} starts at a multiple of {alignment} below 2**64, not at "
                f"{address:#x}",
                argument=name,
                value=address,
                limit=alignment,
            )
    return areas


def check_addresses_set(areas: QueueAreas) -> None:
    """Raise CallerError while the driver's or the device's area is at address 0, as after a reset."""
    if not (areas.driver_area and areas.device_area):
        raise CallerError(
            f"the addresses of this queue are {', '.join(map(hex, areas))}: the driver's and the device's "
            "area are never at 0, where they are until they have been set",
            argument="ready",
            value=True,
            limit="addresses set",
        )


def check_held(state: QueueState) -> tuple[tuple[int, HeldChain], ...]:
    """Return the chains that a saved state names if a queue can hold them, else raise CallerError."""
    packed = is_packed(state.features)
    heads = 0x10000 if packed else state.size  # buffer ids are the driver's to choose
    most_slots = state.size if packed else 1
    held: dict[int, HeldChain] = {}
    for one in state.held:
        try:
            head, known = one[0], HeldChain(*one[1])
            possible = 0 <= head < heads and 0 < known.slots <= most_slots
            possible = possible and 0 <= known.writable <= LARGEST_CHAIN_BYTES
            possible = possible and (known.taken_before is None or known.taken_before + known.slots <= 0)
        except (TypeError, IndexError):
            possible = False
        if not possible or head in held:
            raise CallerError(
                f"a saved state holds {one!r}: chains are (head below {heads}, (1 to {most_slots} slots, up "
                f"to {LARGEST_CHAIN_BYTES} writable bytes, -slots or less, or None)), each head once",
                argument="held",
                value=one,
                limit="a chain",
            )
        held[head] = known
    return tuple(held.items())


def check_longest(longest_chain: int) -> int:
    if longest_chain < 1:
        raise CallerError(
            f"a chain has at least 1 descriptor, so the longest has not {longest_chain}",
            argument="longest_chain",
            value=longest_chain,
            limit=1,
        )
    return longest_chain


def check_position(name: str, value: int) -> int:
    if not 0 <= value <= 0xFFFF:
        raise CallerError(f"{name} has 16 bits, not {value}", argument=name, value=value, limit=0xFFFF)
    return value
