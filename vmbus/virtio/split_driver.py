"""The driver's side of a split queue.

Publishing: descriptors, slot, release, available index.  Deciding on a notification: full fence,
the device's flags or event.  Taking: used index, acquire, element.  Before a sleep: own event or
flags, full fence, used index once more.

Source: OASIS VIRTIO 1.2, sections 2.7.6 to 2.7.8, 2.7.13 and 2.7.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from vmbus.errors import PeerError
from vmbus.memory import QueueMemory

from .driver_ring import BufferList, DriverRing
from .faults import VirtqueueFault
from .layout import (
    DESCRIPTOR_SIZE,
    FIRST_SLOT_WORD,
    FLAGS_WORD,
    INDEX_WORD,
    NEXT,
    SPLIT_DESCRIPTOR,
    USED_ELEMENT,
    USED_ELEMENT_SIZE,
    AvailableRingFlags,
    QueueAreas,
)
from .notification import event_reached, not_suppressed
from .requests import VirtqueueCompletion
from .split_areas import SplitAreas

__all__ = ["SplitDriverRing"]

NO_INTERRUPT = int(AvailableRingFlags.NO_INTERRUPT)

new_tuple: Any = tuple.__new__


class SplitDriverRing(DriverRing[list[int]]):
    """Descriptors from a private list of free ones; the id of a chain is its first descriptor.

    areas   where the three areas are, by the driver's own addresses: all zero
    start   the free-running index to begin with
    """

    def __init__(
        self,
        memory: QueueMemory,
        areas: QueueAreas,
        copied: Sequence[memoryview],
        event_idx: bool,
        start: int,
    ) -> None:
        super().__init__(memory, copied, event_idx)
        size = self._size
        split = SplitAreas(memory, areas, size)
        self._mask = size - 1
        self._pack_descriptor = memory.packer(SPLIT_DESCRIPTOR.struct, *split.table)
        self._unpack_used = memory.unpacker(USED_ELEMENT.struct, *split.elements)
        self._available, self._used = split.available, split.used
        self._used_event_word = split.used_event_word
        self._available_event_word = split.available_event_word
        self._available_index = self._stored_index = start
        self._used_index = start  # the device's, as it was last loaded
        self._taken_index = start
        self._event_index = start  # the taken index that was last published as event
        self._available[INDEX_WORD] = self._available[self._used_event_word] = start
        self._used[INDEX_WORD] = self._used[self._available_event_word] = start

    def publish(self, buffers: BufferList, writable: int) -> int:
        free = self.ids
        count = len(buffers)
        entries = free[-count:]
        pack = self._pack_descriptor
        # From the last to the first, so that each is told which one follows it.
        link = head = 0
        for descriptor in entries:
            address, length, flags = buffers.pop()
            pack(descriptor * DESCRIPTOR_SIZE, address, length, flags | link, head)
            head = descriptor
            link = NEXT
        index = self._available_index
        self._available[FIRST_SLOT_WORD + (index & self._mask)] = head
        # Private first, shared last.  No interrupt comes between these lines, which call nothing; after
        # one that comes later the index is stored before the device is told of it.
        del free[-count:]
        self.free -= count
        self.outstanding[head] = (entries, writable)
        self._available_index = index = (index + 1) & 0xFFFF
        self._uncounted += 1
        self._release()
        self._available[INDEX_WORD] = index
        self._stored_index = index
        return head

    def table_of(self, buffers: BufferList) -> bytes:
        last = len(buffers) - 1
        pack = SPLIT_DESCRIPTOR.struct.pack
        return b"".join(
            pack(address, length, flags | NEXT if entry < last else flags, entry + 1 if entry < last else 0)
            for entry, (address, length, flags) in enumerate(buffers)
        )

    def take_used(self) -> VirtqueueCompletion | None:
        if self.fault is not None:
            self.check_fault()
        taken_index = self._taken_index
        if taken_index == self._used_index and not self._load_used_index():
            return None
        used_id, length = self._unpack_used((taken_index & self._mask) * USED_ELEMENT_SIZE)
        chain = self.outstanding.get(used_id)
        if chain is None or length > chain[1]:
            self._refuse_used(used_id, length)
        entries = chain[0]
        count = len(entries)
        request = self._copied[used_id].tobytes()
        completion: VirtqueueCompletion = new_tuple(VirtqueueCompletion, (used_id, request, length))
        next_index = (taken_index + 1) & 0xFFFF
        if self._wants_event and next_index == self._used_index:
            self._publish_event(next_index)  # whoever takes no further look is told of the next all the same
        # No interrupt comes between these lines, which call nothing: a completion is not lost.
        self._taken_index = next_index
        del self.outstanding[used_id]
        self.ids += entries
        self.free += count
        return completion

    def has_used(self) -> bool:
        return self._used[INDEX_WORD] != self._taken_index

    def _load_used_index(self) -> bool:
        """Whether the device has moved its index; at the end the event is brought up to date."""
        taken_index = self._taken_index
        index = self._used[INDEX_WORD]
        if index == taken_index:
            if not self._wants_event or self._event_index == taken_index:
                return False
            self._publish_event(taken_index)
            index = self._used[INDEX_WORD]
        self._acquire()
        ahead = (index - taken_index) & 0xFFFF
        if ahead > len(self.outstanding):
            self._refuse_index(index, ahead)
        self._used_index = index
        return ahead != 0

    def _publish_event(self, index: int) -> None:
        """Ask to be told of the chain used at `index`; if it is already, that is seen after the fence."""
        self._available[self._used_event_word] = index
        self._event_index = index
        self._fence()

    def _refuse_index(self, index: int, ahead: int) -> NoReturn:
        self._fail(
            PeerError(
                f"the used index is {index:#06x}, {ahead} ahead of the {self._taken_index:#06x} that was "
                f"taken, and {len(self.outstanding)} chains are outstanding",
                kind=VirtqueueFault.USED_INDEX_JUMP,
                found=ahead,
                allowed=len(self.outstanding),
            )
        )

    def notification_needed(self) -> bool:
        if self._stored_index != self._available_index:
            self._release()
            self._available[INDEX_WORD] = self._available_index
            self._stored_index = self._available_index
        self._fence()
        if self._event_idx:
            event = self._used[self._available_event_word]
            needed = event_reached(event, self._available_index, self._uncounted)
        else:
            needed = not_suppressed(self._used[FLAGS_WORD], self._uncounted)
        self._uncounted = 0  # last: whoever is interrupted asks again
        return needed

    def set_used_notifications(self, enabled: bool) -> bool:
        self._wants_event = enabled and self._event_idx
        if not self._event_idx:
            self._available[FLAGS_WORD] = 0 if enabled else NO_INTERRUPT
            self._fence()
        elif enabled:
            self._publish_event(self._taken_index)
        return self.has_used()
