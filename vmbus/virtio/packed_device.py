"""The device's side of a packed queue.

Taking: flags of the next slot, acquire, descriptors.  Giving back: id and length, release, flags.
Before a sleep: own event (packed_events.py), full fence, the slot once more.

The flags of a slot are only ever stored by themselves, in one access: the driver reads them at any
moment.  A used slot keeps the address that the driver put there; its WRITE flag says that bytes were
written, and that the length is one.

Source: OASIS VIRTIO 1.2, sections 2.8.1 to 2.8.7, 2.8.13 and 2.8.22.
"""

from __future__ import annotations

from typing import Any

from vmbus.errors import CallerError, PeerError
from vmbus.memory import QueueMemory

from .chains import ChainRules, DescriptorChain
from .device_ring import DeviceRing, HeldChain
from .layout import (
    DESCRIPTOR_SIZE,
    PACKED_DESCRIPTOR,
    PACKED_LENGTH_AND_ID,
    PACKED_LENGTH_OFFSET,
    SLOT_FLAGS_WORD,
    SLOT_WORDS,
    WRITE,
    QueueAreas,
)
from .packed_events import PackedEvents
from .packed_ring import advance, distance, is_available, joined, parted, retreat, used_flags
from .walking import walk_packed_chain

__all__ = ["PackedDeviceRing"]

new_tuple: Any = tuple.__new__


class PackedDeviceRing(DeviceRing):
    """Chains by their buffer id.

    areas                   where the ring and the two event suppression structures are
    next_avail, next_used   the slots to go on from, each with its wrap counter in bit 15

    Raises AddressError when one of them is not inside one region of the memory, and CallerError when
    the two positions cannot be those of one ring.
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
        table, length = areas.descriptor_table, QueueAreas.sizes(self._size, packed=True).descriptor_table
        self._fetch = memory.unpacker(PACKED_DESCRIPTOR.struct, table, length)
        self._pack_used = memory.packer(PACKED_LENGTH_AND_ID, table, length)
        self._words = memory.halfwords(table, length // 2)
        self._events = PackedEvents(memory, areas.device_area, areas.driver_area, self._size, event_idx)
        self._next_slot, self._next_wrap = parted(next_avail)
        self._used_slot, self._used_wrap = parted(next_used)
        #: The flags of the slot given back last, until they are stored: (word, flags, wrap counter).
        self._owed: tuple[int, int, int] | None = None
        self._entries = distance(next_used, next_avail, self._size)  # that the device has
        if self._count_unknown(self._entries):
            raise CallerError(
                f"{self._entries} slots are in flight, and only {len(held)} chains are named that take them: "
                "without its length no list of a packed queue can be given back",
                argument="held",
                value=len(held),
                limit="every chain in flight",
            )

    @property
    def next_avail(self) -> int:
        return joined(self._next_slot, self._next_wrap)

    @property
    def next_used(self) -> int:
        return joined(self._used_slot, self._used_wrap)

    def take(self) -> DescriptorChain | None:
        if self.fault is not None:
            self.check_fault()
        slot = self._next_slot
        if not self._has_available():
            return None
        self._acquire()
        chain = DescriptorChain(self._memory, slot, self._rules)
        try:
            slots, buffer_id = walk_packed_chain(chain, self._fetch, slot, self._size)
        except PeerError as error:
            self._fail(error)
        if buffer_id in self.held or self._entries + slots > self._size:
            self._refuse_take(buffer_id, slots, slot)
        chain.head_index = buffer_id
        known = new_tuple(HeldChain, (slots, chain.writable_bytes, self._taken_before))
        next_slot, next_wrap = advance(slot, self._next_wrap, slots, self._size)
        # No interrupt comes between these lines, which call nothing.
        self.held[buffer_id] = known
        self._taken_before += slots
        self._entries += slots
        self._next_slot = next_slot
        self._next_wrap = next_wrap
        return chain

    def _has_available(self) -> bool:
        if self._entries >= self._size:
            return False  # the next slot is one that the device has
        flags = self._words[self._next_slot * SLOT_WORDS + SLOT_FLAGS_WORD]
        return is_available(flags, self._next_wrap)

    def give_back(self, head: int, length: int) -> None:
        held = self.held.get(head)
        if held is None or not 0 <= length <= held.writable:
            self._refuse_give_back(head, length)
        if self._owed is not None:
            self.settle()
        slot, wrap = self._used_slot, self._used_wrap
        owed = (slot * SLOT_WORDS + SLOT_FLAGS_WORD, used_flags(wrap) | (WRITE if length else 0), wrap)
        self._pack_used(slot * DESCRIPTOR_SIZE + PACKED_LENGTH_OFFSET, length, head)
        next_slot, next_wrap = advance(slot, wrap, held.slots, self._size)
        # Private first, shared last.  No interrupt comes between these lines, which call nothing; after
        # one that comes later `settle` stores the flags.
        del self.held[head]
        self._entries -= held.slots
        self._uncounted += held.slots
        self._used_slot = next_slot
        self._used_wrap = next_wrap
        self._owed = owed
        self._release()
        self._words[owed[0]] = owed[1]
        self._owed = None

    def settle(self) -> None:
        if self._owed is None:
            return
        word, flags, wrap = self._owed
        # A slot that does not look available any more has its flags already, or the driver's next ones.
        if is_available(self._words[word], wrap):
            self._release()
            self._words[word] = flags
        self._owed = None

    def _stand_back(self, slots: int) -> None:
        self._next_slot, self._next_wrap = retreat(self._next_slot, self._next_wrap, slots, self._size)
        self._entries -= slots

    def enable_notification(self) -> bool:
        self._events.ask(self.next_avail)
        return self._has_available()

    def disable_notification(self) -> None:
        self._events.silence()

    def notification_needed(self) -> bool:
        self.settle()
        needed = self._events.wanted(self._used_slot, self._used_wrap, self._uncounted)
        self._uncounted = 0  # last: whoever is interrupted asks again
        return needed
