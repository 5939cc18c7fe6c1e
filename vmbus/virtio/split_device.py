"""The device's side of a split queue.

Taking: available index, acquire, slot, descriptors.  Giving back: element, release, used index.
Deciding on a notification: full fence, the driver's flags or event.  Before a sleep: own event or
flags, full fence, available index once more.

Source: OASIS VIRTIO 1.2, sections 2.7.6 to 2.7.8 and 2.7.14.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vmbus.errors import PeerError
from vmbus.memory import QueueMemory

from .chains import ChainRules, DescriptorChain
from .device_ring import DeviceRing, Held
from .faults import VirtqueueFault
from .layout import (
    FIRST_SLOT_WORD,
    FLAGS_WORD,
    INDEX_WORD,
    RING_HEADER_SIZE,
    SPLIT_DESCRIPTOR,
    USED_ELEMENT,
    USED_ELEMENT_SIZE,
    QueueAreas,
    UsedRingFlags,
)
from .notification import event_reached, not_suppressed
from .walking import walk_split_chain

__all__ = ["SplitDeviceRing"]

NO_NOTIFY = int(UsedRingFlags.NO_NOTIFY)

new_tuple: Any = tuple.__new__


class SplitDeviceRing(DeviceRing):
    """Chains by the index of their first descriptor.

    areas                   where the three areas are, by the device's addresses
    next_avail, next_used   the free-running indices to go on from

    Raises AddressError when an area is not inside one region of the memory, and CallerError when
    the two indices are further apart than the queue is long.
    """

    def __init__(
        self,
        memory: QueueMemory,
        areas: QueueAreas,
        rules: ChainRules,
        event_idx: bool,
        next_avail: int,
        next_used: int,
        held: dict[int, Held],
    ) -> None:
        super().__init__(memory, rules, event_idx, held)
        size = rules.queue_size
        sizes = QueueAreas.sizes(size, packed=False)
        self._mask = size - 1
        self._fetch = memory.unpacker(SPLIT_DESCRIPTOR.struct, areas[0], sizes[0])
        self._available = memory.halfwords(areas.driver_area, sizes.driver_area // 2)
        self._used = memory.halfwords(areas.device_area, sizes.device_area // 2)
        elements = areas.device_area + RING_HEADER_SIZE
        self._pack_used = memory.packer(USED_ELEMENT.struct, elements, USED_ELEMENT_SIZE * size)
        self._used_event_word = FIRST_SLOT_WORD + size
        self._available_event_word = sizes.device_area // 2 - 1
        self._taken_index = next_avail
        self._available_index = next_avail  # the driver's, as it was last loaded
        self._used_index = next_used
        self.unknown = self._count_unknown((next_avail - next_used) & 0xFFFF)

    @property
    def next_avail(self) -> int:
        return self._taken_index

    @property
    def next_used(self) -> int:
        return self._used_index

    def take(self) -> DescriptorChain | None:
        if self._fault is not None:
            self.check_fault()
        index = self._taken_index
        if index == self._available_index and not self._load_available_index():
            return None
        head = self._available[FIRST_SLOT_WORD + (index & self._mask)]
        held = self.held
        if head in held or len(held) + self.unknown >= self._size:
            self._refuse_take(head, 1, head)
        chain = DescriptorChain(self._memory, head, self._rules)
        try:
            walk_split_chain(chain, self._fetch, self._size)
        except PeerError as error:
            self._fail(error)
        held[head] = new_tuple(Held, (index, 1, chain.writable_bytes, self._turn))
        self._turn += 1
        self._taken_index = (index + 1) & 0xFFFF
        return chain

    def _load_available_index(self) -> bool:
        """Whether the driver has moved its index."""
        index = self._available[INDEX_WORD]
        self._acquire()
        ahead = (index - self._taken_index) & 0xFFFF
        if ahead > self._size:
            self._refuse_index(index, ahead)
        self._available_index = index
        return ahead != 0

    def _refuse_index(self, index: int, ahead: int) -> NoReturn:
        self._fail(
            PeerError(
                f"the available index is {index:#06x}, {ahead} ahead of the {self._taken_index:#06x} that was "
                f"taken, in a queue of {self._size}",
                kind=VirtqueueFault.AVAILABLE_INDEX_JUMP,
                found=index,
                allowed=self._size,
            )
        )

    def give_back(self, head: int, length: int) -> None:
        known = self.held.get(head)
        if known is None:
            self._give_back_unknown(head, length)
        elif not 0 <= length <= known[2]:
            self._refuse_give_back(head, length)
        index = self._used_index
        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)
        # Private first, shared last: an interrupt in between publishes with the next chain.
        self._used_index = index = (index + 1) & 0xFFFF
        if known is not None:
            del self.held[head]
        self._uncounted += 1
        self._release()
        self._used[INDEX_WORD] = index

    def _give_back_unknown(self, head: int, length: int) -> None:
        """A chain that an earlier owner took, of which nothing is known but that there is one."""
        if not (self.unknown and 0 <= head < self._size and 0 <= length < 1 << 32):
            self._refuse_give_back(head, length)
        self.unknown -= 1

    def _stand_at(self, place: int, slots: int) -> None:
        self._taken_index = place

    def enable_notification(self) -> bool:
        if self._event_idx:
            self._used[self._available_event_word] = self._taken_index
        else:
            self._used[FLAGS_WORD] = 0
        self._fence()
        return self._available[INDEX_WORD] != self._taken_index

    def disable_notification(self) -> None:
        if not self._event_idx:
            self._used[FLAGS_WORD] = NO_NOTIFY

    def notification_needed(self) -> bool:
        self._fence()
        count, self._uncounted = self._uncounted, 0
        if self._event_idx:
            return event_reached(self._available[self._used_event_word], self._used_index, count)
        return not_suppressed(self._available[FLAGS_WORD], count)
