"""What the two formats of a queue have in common on the driver's side.

A driver ring knows descriptors and nothing of requests: it publishes lists of buffers, and hands
back the ids of those that the device is done with.  All that it must know of a chain it keeps to
itself: it never reads a descriptor back, because the device could have changed it.

Source: OASIS VIRTIO 1.2, sections 2.7.13, 2.7.14, 2.8.21 and 2.8.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NoReturn, TypeAlias, TypeVar

from vmbus.errors import PeerError
from vmbus.memory import QueueMemory

from .faults import VirtqueueFault
from .queue_end import QueueEnd
from .requests import VirtqueueCompletion

__all__ = ["BufferList", "DriverRing"]

#: Buffers of one request: (address, length, descriptor flags without NEXT) as the device sees them.
BufferList: TypeAlias = "list[tuple[int, int, int]]"

#: What a format must remember of a chain to free its descriptors.
Taken = TypeVar("Taken")


class DriverRing(QueueEnd, Generic[Taken]):
    """One ring from the driver's side: SplitDriverRing or PackedDriverRing.

    copied   of each request's place, what a completion brings a copy of: one for each descriptor

    `outstanding` holds the chains that the device has: id -> (what they take, bytes that the device
    may write).  `free` counts the descriptors that no chain takes; `ids` are those that no chain has,
    the next chain's last.  After a fault take_used raises it every time.
    """

    def __init__(self, memory: QueueMemory, copied: Sequence[memoryview], event_idx: bool) -> None:
        size = len(copied)
        super().__init__(memory, size, event_idx)
        self._copied = copied
        # Those freed last are used first: their descriptors are still warm in the caches.
        self.ids = list(range(size - 1, -1, -1))
        self.free = size
        self.outstanding: dict[int, tuple[Taken, int]] = {}
        self._wants_event = event_idx  # notifications are on at first

    def publish(self, buffers: BufferList, writable: int) -> int:
        """Make a chain available to the device, and return its id.

        buffers    at least one, and at most `free` of them
        writable   bytes that the device may write there
        """
        raise NotImplementedError

    def table_of(self, buffers: BufferList) -> bytes:
        """The indirect table that holds these buffers."""
        raise NotImplementedError

    def take_used(self) -> VirtqueueCompletion | None:
        """A request that the device is done with; None when there is none.

        Raises PeerError when the device says what cannot be, and from then on every time.
        """
        raise NotImplementedError

    def has_used(self) -> bool:
        """Whether take_used has something to find; a hint, nothing is checked."""
        raise NotImplementedError

    def notification_needed(self) -> bool:
        """Whether the device must be told of what was published since this was last asked."""
        raise NotImplementedError

    def set_used_notifications(self, enabled: bool) -> bool:
        """Ask the device for notifications, or for silence; whether something is used already."""
        raise NotImplementedError

    def _refuse_used(self, used_id: int, length: int) -> NoReturn:
        """Say what is wrong with what the device calls used."""
        known = self.outstanding.get(used_id)
        if used_id >= self._size:
            kind, allowed = VirtqueueFault.USED_ID_OUT_OF_RANGE, f"at most {self._size - 1}"
        elif known is None:
            kind, allowed = VirtqueueFault.USED_ID_NOT_OUTSTANDING, "an id that the device has"
        else:
            self._fail(
                PeerError(
                    f"the device says that it wrote {length} bytes into chain {used_id}, which has "
                    f"{known[1]} writable bytes",
                    kind=VirtqueueFault.USED_LENGTH_TOO_LARGE,
                    descriptor=used_id,
                    found=length,
                    allowed=known[1],
                )
            )
        self._fail(
            PeerError(
                f"the device says that it has used chain {used_id}: it must be {allowed}; "
                f"{len(self.outstanding)} chains are outstanding in a queue of {self._size}",
                kind=kind,
                descriptor=used_id,
                found=used_id,
                allowed=allowed,
            )
        )
