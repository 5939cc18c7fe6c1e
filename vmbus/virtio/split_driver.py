"""The driver's side of a split queue.

Publishing: descriptors, slot, release, available index.  Deciding on a notification: full fence,
the device's flags or event.  Taking: used index, acquire, element.  Before a sleep: own event or
flags, full fence, used index once more.

Source: OASIS VIRTIO 1.2, sections 2.7.6 to 2.7.8, 2.7.13 and 2.7.14.
"""

from __future__ import annotations

from typing import NoReturn

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
    RING_HEADER_SIZE,
    SPLIT_DESCRIPTOR,
    USED_ELEMENT,
    USED_ELEMENT_SIZE,
    AvailableRingFlags,
    QueueAreas,
)
from .notification import event_reached, not_suppressed

__all__ = ["SplitDriverRing"]

NO_INTERRUPT = int(AvailableRingFlags.NO_INTERRUPT)


class SplitDriverRing(DriverRing[list[int]]):
    """Descriptors from a private list of free ones; the id of a chain is its first descriptor.

    areas   where the three areas are, by the driver's own addresses: all zero
    start   the free-running index to begin with
    """

    def __init__(
        self, memory: QueueMemory, areas: QueueAreas, size: int, event_idx: bool, start: int
    ) -> None:
        super().__init__(memory, size, event_idx)
        sizes = QueueAreas.sizes(size, packed=False)
        self._mask = size - 1
        self._pack_descriptor = memory.packer(SPLIT_DESCRIPTOR.struct, areas[0], sizes[0])
        self._available = memory.halfwords(areas.driver_area, sizes.driver_area // 2)
        self._used = memory.halfwords(areas.device_area, sizes.device_area // 2)
        elements = areas.device_area + RING_HEADER_SIZE
        self._unpack_used = memory.unpacker(USED_ELEMENT.struct, elements, USED_ELEMENT_SIZE * size)
        self._used_event_word = FIRST_SLOT_WORD + size
        self._available_event_word = sizes.device_area // 2 - 1
        self._available_index = start
        self._used_index = start  # the device's, as it was last loaded
        self._taken_index = start
        self._event_index = start  # the taken index that was last published as event
        self._available[INDEX_WORD] = self._available[self._used_event_word] = start
        self._used[INDEX_WORD] = self._used[self._available_event_word] = start

    @property
    def free(self) -> int:
        return len(self.ids)

    def publish(self, buffers: BufferList, writable: int) -> int:
        free = self.ids
        count = len(buffers)
        entries = free[-count:]
        taken = entries[::-1]
        pack = self._pack_descriptor
        last = count - 1
        position = 0
        for descriptor in taken:
            address, length, flags = buffers[position]
            if position < last:
                position += 1
                pack(descriptor * DESCRIPTOR_SIZE, address, length, flags | NEXT, taken[position])
            else:
                pack(descriptor * DESCRIPTOR_SIZE, address, length, flags, 0)
        head = taken[0]
        index = self._available_index
        self._available[FIRST_SLOT_WORD + (index & self._mask)] = head
        # Private first, shared last: an interrupt in between publishes with the next chain.
        del free[-count:]
        self.outstanding[head] = (entries, writable)
        self._available_index = index = (index + 1) & 0xFFFF
        self._uncounted += 1
        self._release()
        self._available[INDEX_WORD] = index
        return head

    def table_of(self, buffers: BufferList) -> bytes:
        last = len(buffers) - 1
        pack = SPLIT_DESCRIPTOR.struct.pack
        return b"".join(
            pack(address, length, flags | NEXT if entry < last else flags, entry + 1 if entry < last else 0)
            for entry, (address, length, flags) in enumerate(buffers)
        )

    def take_used(self) -> tuple[int, int] | None:
        if self.fault is not None:
            self.check_fault()
        taken_index = self._taken_index
        if taken_index == self._used_index and not self._load_used_index():
            return None
        used_id, length = self._unpack_used((taken_index & self._mask) * USED_ELEMENT_SIZE)
        chain = self.outstanding.get(used_id)
        if chain is None or length > chain[1]:
            self._refuse_used(used_id, length)
        self._taken_index = (taken_index + 1) & 0xFFFF
        del self.outstanding[used_id]
        self.ids += chain[0]
        return used_id, length

    def has_used(self) -> bool:
        return self._used[INDEX_WORD] != self._taken_index

    def _load_used_index(self) -> bool:
        """Whether the device has moved its index; at the end the event is brought up to date."""
        taken_index = self._taken_index
        index = self._used[INDEX_WORD]
        if index == taken_index:
            if not self._wants_event or self._event_index == taken_index:
                return False
            self._publish_event()
            index = self._used[INDEX_WORD]
        self._acquire()
        ahead = (index - taken_index) & 0xFFFF
        if ahead > len(self.outstanding):
            self._refuse_index(index, ahead)
        self._used_index = index
        return ahead != 0

    def _publish_event(self) -> None:
        """Ask to be told of the next chain used; whatever is used already is seen after the fence."""
        self._event_index = self._taken_index
        self._available[self._used_event_word] = self._event_index
        self._fence()

    def _refuse_index(self, index: int, ahead: int) -> NoReturn:
        self._fail(
            PeerError(
                f"the used index is {index:#06x}, {ahead} ahead of the {self._taken_index:#06x} that was "
                f"taken, and {len(self.outstanding)} chains are outstanding",
                kind=VirtqueueFault.USED_INDEX_JUMP,
                found=index,
                allowed=len(self.outstanding),
            )
        )

    def notification_needed(self) -> bool:
        self._fence()
        count, self._uncounted = self._uncounted, 0
        if self._event_idx:
            return event_reached(self._used[self._available_event_word], self._available_index, count)
        return not_suppressed(self._used[FLAGS_WORD], count)

    def set_used_notifications(self, enabled: bool) -> bool:
        self._wants_event = enabled and self._event_idx
        if not self._event_idx:
            self._available[FLAGS_WORD] = 0 if enabled else NO_INTERRUPT
            self._fence()
        elif enabled:
            self._publish_event()
        return self.has_used()
