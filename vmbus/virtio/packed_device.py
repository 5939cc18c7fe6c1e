"""The device's side of a packed queue.

Taking: flags of the next slot, acquire, descriptors.  Giving back: id and length, release, flags.
Deciding on a notification: full fence, the driver's flags, acquire, its event.  Before a sleep: own
event, release, flags, full fence, the slot once more.

The flags of a slot are only ever stored by themselves, in one access: the driver reads them at any
moment.  A used slot keeps the address that the driver put there, and says nothing by its WRITE flag.

Source: OASIS VIRTIO 1.2, sections 2.8.1, 2.8.6 to 2.8.10 and 2.8.22.
"""

from __future__ import annotations

from typing import Any

from vmbus.errors import CallerError, PeerError
from vmbus.memory import QueueMemory

from .chains import ChainRules, DescriptorChain
from .device_ring import DeviceRing, Held
from .layout import (
    DESCRIPTOR_SIZE,
    EVENT_FLAGS_WORD,
    EVENT_PLACE_WORD,
    PACKED_DESCRIPTOR,
    PACKED_LENGTH_AND_ID,
    PACKED_LENGTH_OFFSET,
    SLOT_FLAGS_WORD,
    SLOT_WORDS,
    EventFlags,
    QueueAreas,
)
from .notification import notify_after_packed
from .packed_ring import advance, distance, is_available, joined, parted, used_flags
from .walking import walk_packed_chain

__all__ = ["PackedDeviceRing"]

ENABLE = int(EventFlags.ENABLE)
DISABLE = int(EventFlags.DISABLE)
AT_DESCRIPTOR = int(EventFlags.DESCRIPTOR)

new_tuple: Any = tuple.__new__


class PackedDeviceRing(DeviceRing):
    """Chains by their buffer id.

    areas                   where the ring and the two event suppression structures are
    next_avail, next_used   the slots to go on from, each with its wrap counter in bit 15

    Raises AddressError when one of them is not inside one region of the memory, and CallerError when
    the two places cannot be those of one ring.
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
        table, length = areas.descriptor_table, QueueAreas.sizes(self._size, packed=True).descriptor_table
        self._fetch = memory.unpacker(PACKED_DESCRIPTOR.struct, table, length)
        self._pack_used = memory.packer(PACKED_LENGTH_AND_ID, table, length)
        self._words = memory.halfwords(table, length // 2)
        self._driver_event = memory.halfwords(areas.driver_area, 2)
        memory.check_range(
            areas.device_area, QueueAreas.sizes(self._size, packed=True).device_area, writable=True
        )
        self._own_event = memory.halfwords(areas.device_area, 2)
        self._next_slot, self._next_wrap = parted(next_avail)
        self._used_slot, self._used_wrap = parted(next_used)
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
        if self._fault is not None:
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
        self.held[buffer_id] = new_tuple(
            Held, (joined(slot, self._next_wrap), slots, chain.writable_bytes, self._turn)
        )
        self._turn += slots
        self._entries += slots
        self._next_slot, self._next_wrap = advance(slot, self._next_wrap, slots, self._size)
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
        slot = self._used_slot
        flags = used_flags(self._used_wrap)
        self._pack_used(slot * DESCRIPTOR_SIZE + PACKED_LENGTH_OFFSET, length, head)
        # Private first, shared last: an interrupt in between must not give a chain back twice.
        del self.held[head]
        self._entries -= held.slots
        self._uncounted += held.slots
        self._used_slot, self._used_wrap = advance(slot, self._used_wrap, held.slots, self._size)
        self._release()
        self._words[slot * SLOT_WORDS + SLOT_FLAGS_WORD] = flags

    def _stand_at(self, place: int, slots: int) -> None:
        self._next_slot, self._next_wrap = parted(place)
        self._entries -= slots

    def enable_notification(self) -> bool:
        if self._event_idx:
            self._own_event[EVENT_PLACE_WORD] = self.next_avail
            self._release()
            self._own_event[EVENT_FLAGS_WORD] = AT_DESCRIPTOR
        else:
            self._own_event[EVENT_FLAGS_WORD] = ENABLE
        self._fence()
        return self._has_available()

    def disable_notification(self) -> None:
        self._own_event[EVENT_FLAGS_WORD] = DISABLE

    def notification_needed(self) -> bool:
        self._fence()
        count, self._uncounted = self._uncounted, 0
        flags = self._driver_event[EVENT_FLAGS_WORD]
        self._acquire()
        return notify_after_packed(
            flags=flags,
            offset_and_wrap=self._driver_event[EVENT_PLACE_WORD],
            event_idx=self._event_idx,
            next_index=self._used_slot,
            wrap=self._used_wrap,
            size=self._size,
            count=count,
        )
