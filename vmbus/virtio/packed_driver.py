"""The driver's side of a packed queue.

One ring carries what is available and what is used; a slot's two flags, compared with a wrap
counter that turns over with every round, tell which it is.

Publishing: all slots of the list but the flags of the first, release, those flags.  Deciding on a
notification: full fence, the device's flags, acquire, its event.  Taking: flags of the next slot,
acquire, id and length.  Before a sleep: own event, release, flags, full fence, the slot once more.

The flags of a slot are only ever stored by themselves, in one access: the device reads them at any
moment.

Source: OASIS VIRTIO 1.2, sections 2.8.1, 2.8.6, 2.8.10, 2.8.21 and 2.8.22.
"""

from __future__ import annotations

from vmbus.memory import QueueMemory

from .driver_ring import BufferList, DriverRing
from .layout import (
    AVAILABLE,
    DESCRIPTOR_SIZE,
    EVENT_FLAGS_WORD,
    EVENT_PLACE_WORD,
    NEXT,
    PACKED_BODY,
    PACKED_DESCRIPTOR,
    SLOT_FLAGS_WORD,
    SLOT_WORDS,
    EventFlags,
    QueueAreas,
)
from .notification import notify_after_packed
from .packed_ring import advance, available_flags, is_available, is_used, joined, parted

__all__ = ["PackedDriverRing"]

ENABLE = int(EventFlags.ENABLE)
DISABLE = int(EventFlags.DISABLE)
AT_DESCRIPTOR = int(EventFlags.DESCRIPTOR)


class PackedDriverRing(DriverRing[int]):
    """Slots in order, and ids of which the one freed last is the next.

    areas   where the ring and the two event suppression structures are: all zero
    start   the slot to begin with, and the wrap counter there in bit 15
    """

    def __init__(
        self, memory: QueueMemory, areas: QueueAreas, size: int, event_idx: bool, start: int
    ) -> None:
        super().__init__(memory, size, event_idx)
        sizes = QueueAreas.sizes(size, packed=True)
        self._pack_body = memory.packer(PACKED_BODY, areas.descriptor_table, sizes.descriptor_table)
        self._unpack_body = memory.unpacker(PACKED_BODY, areas.descriptor_table, sizes.descriptor_table)
        self._words = memory.halfwords(areas.descriptor_table, sizes.descriptor_table // 2)
        self._own_event = memory.halfwords(areas.driver_area, 2)
        self._device_event = memory.halfwords(areas.device_area, 2)
        self._free = size
        self._next_slot, self._next_wrap = parted(start)
        self._used_slot, self._used_wrap = parted(start)
        #: The flags of a list that is about to be published: (word, flags), the first slot's last.
        self._held_back: list[tuple[int, int]] = []
        self._event = -1  # the place that was last published as event

    @property
    def free(self) -> int:
        return self._free

    def publish(self, buffers: BufferList, writable: int) -> int:
        if self._held_back:
            self._publish_interrupted()
        buffer_id = self.ids[-1]
        slot, wrap = self._next_slot, self._next_wrap
        count = len(buffers)
        held_back = []
        for address, length, flags in buffers:
            self._pack_body(slot * DESCRIPTOR_SIZE, address, length, buffer_id)
            held_back.append((slot * SLOT_WORDS + SLOT_FLAGS_WORD, flags | NEXT | available_flags(wrap)))
            slot, wrap = advance(slot, wrap, 1, self._size)
        word, flags = held_back[-1]
        held_back[-1] = (word, flags & ~NEXT)
        held_back.reverse()
        # Private first, shared last.  No interrupt comes between these lines, which call nothing; one
        # that comes later leaves flags that are stored before the next list, and never half a list.
        self.outstanding[buffer_id] = (count, writable)
        self._free -= count
        self._uncounted += count
        self._next_slot, self._next_wrap = slot, wrap
        self._held_back = held_back
        del self.ids[-1]
        self._publish_flags()
        return buffer_id

    def _publish_flags(self) -> None:
        """Store the flags of a list; those of the first slot, which make it available, after all else."""
        *others, (first, flags) = self._held_back
        for word, other_flags in others:
            self._words[word] = other_flags
        self._release()
        self._words[first] = flags
        self._held_back = []

    def _publish_interrupted(self) -> None:
        """Store the flags that an interrupt held back, unless they were: the device may have used them."""
        word, flags = self._held_back[-1]
        found, wrap = self._words[word], flags & AVAILABLE
        if is_available(found, wrap) or is_used(found, wrap):
            self._held_back = []
        else:
            self._publish_flags()

    def table_of(self, buffers: BufferList) -> bytes:
        pack = PACKED_DESCRIPTOR.struct.pack
        return b"".join(pack(address, length, 0, flags) for address, length, flags in buffers)

    def take_used(self) -> tuple[int, int] | None:
        if self.fault is not None:
            self.check_fault()
        if not self.has_used() and not self._look_again():
            return None
        self._acquire()
        slot = self._used_slot
        _, length, buffer_id = self._unpack_body(slot * DESCRIPTOR_SIZE)
        chain = self.outstanding.get(buffer_id)
        if chain is None or length > chain[1]:
            self._refuse_used(buffer_id, length)
        self._used_slot, self._used_wrap = advance(slot, self._used_wrap, chain[0], self._size)
        del self.outstanding[buffer_id]
        self._free += chain[0]
        self.ids.append(buffer_id)
        return buffer_id, length

    def has_used(self) -> bool:
        if not self.outstanding:
            return False
        flags = self._words[self._used_slot * SLOT_WORDS + SLOT_FLAGS_WORD]
        return is_used(flags, self._used_wrap)

    def _look_again(self) -> bool:
        """Bring the event up to date; whether that has let something be seen."""
        if not self._wants_event or self._event == self._used_place():
            return False
        self._publish_event()
        return self.has_used()

    def _used_place(self) -> int:
        """Where the device writes next."""
        return joined(self._used_slot, self._used_wrap)

    def _publish_event(self) -> None:
        """Ask to be told of the next list used; what is used already is seen after the fence."""
        self._event = self._used_place()
        self._own_event[EVENT_PLACE_WORD] = self._event
        self._release()
        self._own_event[EVENT_FLAGS_WORD] = AT_DESCRIPTOR
        self._fence()

    def notification_needed(self) -> bool:
        self._fence()
        count, self._uncounted = self._uncounted, 0
        flags = self._device_event[EVENT_FLAGS_WORD]
        self._acquire()
        return notify_after_packed(
            flags=flags,
            offset_and_wrap=self._device_event[EVENT_PLACE_WORD],
            event_idx=self._event_idx,
            next_index=self._next_slot,
            wrap=self._next_wrap,
            size=self._size,
            count=count,
        )

    def set_used_notifications(self, enabled: bool) -> bool:
        self._wants_event = enabled and self._event_idx
        if enabled and self._event_idx:
            self._publish_event()
        else:
            self._own_event[EVENT_FLAGS_WORD] = ENABLE if enabled else DISABLE
            self._fence()
        return self.has_used()
