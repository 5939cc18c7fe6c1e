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
from .device_ring import DeviceRing, HeldChain
from .faults import VirtqueueFault
from .layout import (
    FIRST_SLOT_WORD,
    FLAGS_WORD,
    INDEX_WORD,
    SPLIT_DESCRIPTOR,
    USED_ELEMENT,
    USED_ELEMENT_SIZE,
    QueueAreas,
    UsedRingFlags,
)
from .notification import event_reached, not_suppressed
from .split_areas import SplitAreas
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
        held: dict[int, HeldChain],
    ) -> None:
        super().__init__(memory, rules, event_idx, held)
        split = SplitAreas(memory, areas, self._size)
        self._mask = self._size - 1
        self._fetch = memory.unpacker(SPLIT_DESCRIPTOR.struct, *split.table)
        self._pack_used = memory.packer(USED_ELEMENT.struct, *split.elements)
        self._available, self._used = split.available, split.used
        self._used_event_word = split.used_event_word
        self._available_event_word = split.available_event_word
        self._taken_index = next_avail
        self._available_index = next_avail  # the driver's, as it was last loaded
        self._used_index = self._stored_index = next_used
        self.unknown = self._count_unknown((next_avail - next_used) & 0xFFFF)

    @property
    def next_avail(self) -> int:
        return self._taken_index

    @property
    def next_used(self) -> int:
        return self._used_index

    def take(self) -> DescriptorChain | None:
        if self.fault is not None:
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
        known = new_tuple(HeldChain, (1, chain.writable_bytes, self._taken_before))
        # No interrupt comes between these lines, which call nothing.
        held[head] = known
        self._taken_before += 1
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
                f"the available index is {index:#06x}, {ahead} ahead of the {self._taken_index:#06x} that "
                f"was taken, in a queue of {self._size}",
                kind=VirtqueueFault.AVAILABLE_INDEX_JUMP,
                found=ahead,
                allowed=self._size,
            )
        )

    def give_back(self, head: int, length: int) -> None:
        known = self.held.get(head)
        if known is None:
            self._check_unknown(head, length)
        elif not 0 <= length <= known[1]:
            self._refuse_give_back(head, length)
        index = self._used_index
        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)
        # Private first, shared last.  No interrupt comes between these lines, which call nothing; after
        # one that comes later `settle` stores the index.
        self._used_index = index = (index + 1) & 0xFFFF
        if known is None:
            self.unknown -= 1
        else:
            del self.held[head]
        self._uncounted += 1
        self._release()
        self._used[INDEX_WORD] = index
        self._stored_index = index

    def settle(self) -> None:
        if self._stored_index != self._used_index:
            self._release()
            self._used[INDEX_WORD] = self._used_index
            self._stored_index = self._used_index

    def _check_unknown(self, head: int, length: int) -> None:
        """A chain that an earlier owner took, of which nothing is known but that there is one."""
        if not (self.unknown and 0 <= head < self._size and 0 <= length < 1 << 32):
            self._refuse_give_back(head, length)

    def _stand_back(self, slots: int) -> None:
        self._taken_index = (self._taken_index - slots) & 0xFFFF

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
        self.settle()
        self._fence()
        if self._event_idx:
            event = self._available[self._used_event_word]
            needed = event_reached(event, self._used_index, self._uncounted)
        else:
            needed = not_suppressed(self._available[FLAGS_WORD], self._uncounted)
        self._uncounted = 0  # last: whoever is interrupted asks again
        return needed
