"""When the sides of a packed queue want to be notified: two event suppression structures.

Order of asking for a notification at a position: the position, release, the flags, full fence; of
deciding on one: full fence, the other side's flags, acquire, its position.

Source: OASIS VIRTIO 1.2, section 2.8.10.
"""

from __future__ import annotations

from vmbus.memory import QueueMemory

from .layout import EVENT_FLAGS_WORD, EVENT_POSITION_WORD, EVENT_SUPPRESSION, EventFlags
from .notification import notify_after_packed

__all__ = ["PackedEvents"]

ENABLE = int(EventFlags.ENABLE)
DISABLE = int(EventFlags.DISABLE)
AT_DESCRIPTOR = int(EventFlags.DESCRIPTOR)


class PackedEvents:
    """Both structures, from one side.

    own, other   their addresses: this side's, and the other's
    size         slots of the ring
    event_idx    whether RING_EVENT_IDX was negotiated

    Raises AddressError when one is not inside one region of the memory, or the own one is read-only.
    """

    def __init__(self, memory: QueueMemory, own: int, other: int, size: int, event_idx: bool) -> None:
        memory.check_range(own, EVENT_SUPPRESSION.size, writable=True)
        self._own = memory.halfwords(own, EVENT_SUPPRESSION.size // 2)
        self._other = memory.halfwords(other, EVENT_SUPPRESSION.size // 2)
        self._size = size
        self._event_idx = event_idx
        self._acquire = memory.acquire
        self._release = memory.release
        self._fence = memory.fence

    def ask(self, position: int) -> None:
        """Ask to be told when the other side gets to `position`; without RING_EVENT_IDX always."""
        if self._event_idx:
            self._own[EVENT_POSITION_WORD] = position
            self._release()
            self._own[EVENT_FLAGS_WORD] = AT_DESCRIPTOR
        else:
            self._own[EVENT_FLAGS_WORD] = ENABLE
        self._fence()

    def silence(self) -> None:
        """Ask to be told of nothing."""
        self._own[EVENT_FLAGS_WORD] = DISABLE
        self._fence()

    def wanted(self, next_slot: int, wrap: int, count: int) -> bool:
        """Whether the other side must be told of the last `count` slots before that position."""
        self._fence()
        flags = self._other[EVENT_FLAGS_WORD]
        self._acquire()
        return notify_after_packed(
            flags=flags,
            offset_and_wrap=self._other[EVENT_POSITION_WORD],
            event_idx=self._event_idx,
            next_index=next_slot,
            wrap=wrap,
            size=self._size,
            count=count,
        )
