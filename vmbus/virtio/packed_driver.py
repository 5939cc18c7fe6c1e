"""The driver's side of a packed queue.

One ring carries what is available and what is used; a slot's two flags, compared with a wrap
counter that turns over with every round, tell which it is.

Publishing: all slots of the list but the flags of the first, release, those flags.  Taking: flags of
the next slot, acquire, id and length.  Before a sleep: own event (packed_events.py), full fence, the
slot once more.

The flags of a slot are only ever stored by themselves, in one access: the device reads them at any
moment.

Devices of the field give lengths and never set the WRITE flag that makes them lengths (QEMU, OpenVMM).
So one that can be is taken as it is; one that cannot be is an error with the flag and nothing without
it, where the standard calls it reserved.

Sources: OASIS VIRTIO 1.2, sections 2.8.1 to 2.8.4, 2.8.21 and 2.8.22; QEMU hw/virtio/virtio.c,
virtqueue_packed_fill_desc().
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmbus.memory import QueueMemory

from .driver_ring import BufferList, DriverRing
from .layout import (
    DESCRIPTOR_SIZE,
    NEXT,
    PACKED_BODY,
    PACKED_DESCRIPTOR,
    SLOT_FLAGS_WORD,
    SLOT_WORDS,
    WRITE,
    QueueAreas,
)
from .packed_events import PackedEvents
from .packed_ring import advance, available_flags, is_available, is_used, joined, parted
from .requests import VirtqueueCompletion

__all__ = ["PackedDriverRing"]


new_tuple: Any = tuple.__new__


class PackedDriverRing(DriverRing[int]):
    """Slots in order, and ids of which the one freed last is the next.

    areas   where the ring and the two event suppression structures are: all zero
    start   the slot to begin with, and the wrap counter there in bit 15
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
        sizes = QueueAreas.sizes(size, packed=True)
        self._pack_body = memory.packer(PACKED_BODY, areas.descriptor_table, sizes.descriptor_table)
        self._unpack_body = memory.unpacker(PACKED_BODY, areas.descriptor_table, sizes.descriptor_table)
        self._words = memory.halfwords(areas.descriptor_table, sizes.descriptor_table // 2)
        self._events = PackedEvents(memory, areas.driver_area, areas.device_area, size, event_idx)
        self._next_slot, self._next_wrap = parted(start)
        self._used_slot, self._used_wrap = parted(start)
        #: A list that is about to be published: (first slot, wrap counter there, id, buffers).
        self._unpublished: tuple[int, int, int, BufferList] | None = None
        self._event = -1  # the position that was last published as event

    def publish(self, buffers: BufferList, writable: int) -> int:
        if self._unpublished is not None:
            self._publish_interrupted()
        buffer_id = self.ids[-1]
        count = len(buffers)
        unpublished = (self._next_slot, self._next_wrap, buffer_id, buffers)
        next_slot, next_wrap = advance(self._next_slot, self._next_wrap, count, self._size)
        # Private first, shared last.  No interrupt comes between these lines, which call nothing; after
        # one that comes later the list is stored before the next one, and never half of it.
        self.outstanding[buffer_id] = (count, writable)
        self.free -= count
        self._uncounted += count
        self._next_slot = next_slot
        self._next_wrap = next_wrap
        self._unpublished = unpublished
        del self.ids[-1]
        self._store_list(*unpublished)
        return buffer_id

    def _store_list(self, slot: int, wrap: int, buffer_id: int, buffers: BufferList) -> None:
        """Store all slots of a list; the flags of the first, which make it available, after all else."""
        words, pack_body, size = self._words, self._pack_body, self._size
        first = slot * SLOT_WORDS + SLOT_FLAGS_WORD
        first_flags = 0
        available = available_flags(wrap)
        last = len(buffers) - 1
        for position, (address, length, flags) in enumerate(buffers):
            pack_body(slot * DESCRIPTOR_SIZE, address, length, buffer_id)
            flags |= available if position == last else available | NEXT
            if position:
                words[slot * SLOT_WORDS + SLOT_FLAGS_WORD] = flags
            else:
                first_flags = flags
            slot += 1
            if slot == size:
                slot, wrap = advance(slot - 1, wrap, 1, size)
                available = available_flags(wrap)
        self._release()
        words[first] = first_flags
        self._unpublished = None

    def _publish_interrupted(self) -> None:
        """Store the list that an interrupt held back, unless it was: the device may have used it."""
        assert self._unpublished is not None
        slot, wrap, _, _ = self._unpublished
        found = self._words[slot * SLOT_WORDS + SLOT_FLAGS_WORD]
        if is_available(found, wrap) or is_used(found, wrap):
            self._unpublished = None
        else:
            self._store_list(*self._unpublished)

    def table_of(self, buffers: BufferList) -> bytes:
        pack = PACKED_DESCRIPTOR.struct.pack
        return b"".join(pack(address, length, 0, flags) for address, length, flags in buffers)

    def take_used(self) -> VirtqueueCompletion | None:
        if self.fault is not None:
            self.check_fault()
        flags = self._used_flags()
        if flags is None:
            flags = self._look_again()
            if flags is None:
                return None
        self._acquire()
        slot = self._used_slot
        _, length, buffer_id = self._unpack_body(slot * DESCRIPTOR_SIZE)
        chain = self.outstanding.get(buffer_id)
        if chain is None or length > chain[1]:
            if chain is None or flags & WRITE:
                self._refuse_used(buffer_id, length)
            length = 0  # without WRITE it is not said to be a length
        request = self._copied[buffer_id].tobytes()
        completion: VirtqueueCompletion = new_tuple(VirtqueueCompletion, (buffer_id, request, length))
        next_slot, next_wrap = advance(slot, self._used_wrap, chain[0], self._size)
        last = len(self.outstanding) == 1
        if self._wants_event and (last or self._flags_if_used(next_slot, next_wrap) is None):
            # Whoever takes no further look is told of the next one all the same.
            self._publish_event(next_slot, next_wrap)
        # No interrupt comes between these lines, which call nothing: a completion is not lost.
        self._used_slot = next_slot
        self._used_wrap = next_wrap
        del self.outstanding[buffer_id]
        self.free += chain[0]
        self.ids += (buffer_id,)
        return completion

    def has_used(self) -> bool:
        return self._used_flags() is not None

    def _used_flags(self) -> int | None:
        """The flags of the next slot, where they say that the device has used it."""
        return self._flags_if_used(self._used_slot, self._used_wrap) if self.outstanding else None

    def _flags_if_used(self, slot: int, wrap: int) -> int | None:
        flags = self._words[slot * SLOT_WORDS + SLOT_FLAGS_WORD]
        return flags if is_used(flags, wrap) else None

    def _look_again(self) -> int | None:
        """Bring the event up to date; the flags of the next slot if that has let them be seen."""
        if not self._wants_event or self._event == joined(self._used_slot, self._used_wrap):
            return None
        self._publish_event(self._used_slot, self._used_wrap)
        return self._used_flags()

    def _publish_event(self, slot: int, wrap: int) -> None:
        """Ask to be told when that slot is used; if it is already, that is seen after the fence."""
        position = joined(slot, wrap)
        self._events.ask(position)
        self._event = position

    def notification_needed(self) -> bool:
        if self._unpublished is not None:
            self._publish_interrupted()
        needed = self._events.wanted(self._next_slot, self._next_wrap, self._uncounted)
        self._uncounted = 0  # last: whoever is interrupted asks again
        return needed

    def set_used_notifications(self, enabled: bool) -> bool:
        self._wants_event = enabled and self._event_idx
        if enabled:
            self._publish_event(self._used_slot, self._used_wrap)
        else:
            self._events.silence()
        return self.has_used()
