"""Which features, and what memory, a queue is built for.

Source: OASIS VIRTIO 1.2, section 6.
"""

from __future__ import annotations

from vmbus.errors import CallerError

from .layout import WRAP, VirtioFeatures

__all__ = [
    "check_features",
    "check_memory",
    "check_start",
    "first_position",
    "has_event_idx",
    "has_indirect",
    "is_packed",
]


def check_memory(memory: object) -> None:
    """Raise CallerError for what has no addresses: a bare buffer, most likely."""
    if not hasattr(memory, "halfwords"):
        raise CallerError(
            f"a queue needs memory with addresses, not {type(memory).__name__}: "
            "GuestMemory([(0, buffer)]) puts a buffer at address 0",
            argument="memory",
            value=type(memory).__name__,
            limit="QueueMemory",
        )


def check_features(features: int) -> None:
    """Raise CallerError for features under which a queue would have to work another way."""
    if features & VirtioFeatures.IN_ORDER:
        raise CallerError(
            "queues are not built for IN_ORDER, under which one used element stands for many chains: do not "
            "negotiate it",
            argument="features",
            value=features,
            limit="without IN_ORDER",
        )


def first_position(features: int) -> int:
    """Where an unused queue starts: at index 0, or at slot 0 with a wrap counter of 1 in bit 15."""
    return WRAP if is_packed(features) else 0


def check_start(start: int, queue_size: int, features: int) -> int:
    """Return where a queue begins if it can begin there, else raise CallerError."""
    slot = start & ~WRAP if is_packed(features) else 0
    if not 0 <= start <= 0xFFFF or slot >= queue_size:
        raise CallerError(
            f"a queue of {queue_size} does not start at {start:#x}: it is an index of 16 bits, in a packed "
            "queue a slot with its wrap counter in bit 15",
            argument="start",
            value=start,
            limit=queue_size - 1 if is_packed(features) else 0xFFFF,
        )
    return start


def is_packed(features: int) -> bool:
    return bool(features & VirtioFeatures.RING_PACKED)


def has_event_idx(features: int) -> bool:
    return bool(features & VirtioFeatures.RING_EVENT_IDX)


def has_indirect(features: int) -> bool:
    return bool(features & VirtioFeatures.RING_INDIRECT_DESC)
