"""Which lists of a packed ring the device has not used yet, as far as the ring tells.

Every slot says in its AVAILABLE flag in which round it was last written, whoever wrote it: so the
driver's place is where that flag turns over.  Before it stand slots that look available, back to the
last one that looks used.  The device overwrites the first slot of what it uses and skips as many as the
used list had, which nobody writes down: slots behind a used one that look available may be the rest of
that list.  What can decide it:

    the id         of a list is in its last slot; another id than the used one: no rest of it
    the event      which the driver has set to the slot where it goes on (with RING_EVENT_IDX)

Chains are taken to be used in order where the ring does not show otherwise.  Those used out of order are
given back over the descriptors of others, which can no longer be seen.  A ring that was begun with
elsewhere than at slot 0 is not understood before its first round is over; no driver begins so.

Source: OASIS VIRTIO 1.2, sections 2.8.1 to 2.8.6, 2.8.10 and 2.8.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from vmbus.virtio import DescriptorFlags, PackedDescriptor

__all__ = ["PackedLists", "PackedPlace", "SlotList", "UsedSlot", "packed_lists"]

NEXT = int(DescriptorFlags.NEXT)
AVAILABLE = int(DescriptorFlags.AVAILABLE)
USED = int(DescriptorFlags.USED)
BOTH = AVAILABLE | USED


class PackedPlace(NamedTuple):
    """A slot, and the wrap counter of whoever comes there next."""

    slot: int
    wrap: int


class SlotList(NamedTuple):
    """A list that looks available.

    slots          its slots, in their order
    id             of its last slot
    ended          whether it ends before the driver's place
    perhaps_used   whether it may have been used all the same
    """

    slots: tuple[int, ...]
    id: int
    ended: bool
    perhaps_used: bool = False


class UsedSlot(NamedTuple):
    """What a device wrote when it gave a list back."""

    slot: int
    id: int
    length: int
    flags: int


class PackedLists(NamedTuple):
    """What the ring says.

    next_available   the driver's place
    next_used        the device's; where the first list is perhaps used it may be behind that
    outstanding      lists between the two, in their order
    used             what was given back before, and is still there, oldest first
    turns            how often the round changes along the ring: once at most, by correct drivers
    in_order         whether all that can be seen was used in order
    """

    next_available: PackedPlace
    next_used: PackedPlace
    outstanding: list[SlotList]
    used: list[UsedSlot]
    turns: int
    in_order: bool


class Ring:
    """The slots in the order in which they were written: the oldest first, the driver's last one last."""

    def __init__(self, slots: Sequence[PackedDescriptor]) -> None:
        self.slots = slots
        self.size = size = len(slots)
        rounds = [slot.flags & AVAILABLE for slot in slots]
        changes = [place for place in range(1, size) if rounds[place] != rounds[place - 1]]
        self.turns = len(changes)
        first = bool(rounds[0])
        self.place = PackedPlace(changes[0], int(first)) if changes else PackedPlace(0, int(not first))
        self.order = [*range(self.place.slot, size), *range(self.place.slot)]

    def wrap_of(self, slot: int) -> int:
        """The wrap counter of the round in which a slot was last written."""
        return self.place.wrap if slot < self.place.slot else self.place.wrap ^ 1

    def looks_available(self, slot: int) -> bool:
        return self.slots[slot].flags & BOTH == (AVAILABLE if self.wrap_of(slot) else USED)

    def looks_used(self, slot: int) -> bool:
        """Whether a device has written it; zeros are a slot that nobody has."""
        found = self.slots[slot]
        return found.flags & BOTH == (BOTH if self.wrap_of(slot) else 0) and any(found)

    def number_of(self, place: PackedPlace) -> int | None:
        """How many slots are older than that place; None for one that is no place of these rounds."""
        if place == self.place:
            return self.size
        if place.slot >= self.size or self.wrap_of(place.slot) != place.wrap:
            return None
        return (place.slot - self.place.slot) % self.size

    def position(self, number: int) -> PackedPlace:
        """The place that comes `number` slots after the oldest."""
        if number >= self.size:
            return self.place
        slot = self.order[number]
        return PackedPlace(slot, self.wrap_of(slot))


def packed_lists(slots: Sequence[PackedDescriptor], event: PackedPlace | None = None) -> PackedLists:
    """The lists of a ring that wait.

    event   where the driver waits for a used slot, if that is known
    """
    ring = Ring(slots)
    order = ring.order
    start = ring.size
    while start and ring.looks_available(order[start - 1]):
        start -= 1
    used = [order[number] for number in range(start) if ring.looks_used(order[number])]
    in_order = was_in_order(ring, start)
    lists = parse(ring, start)
    event_at = None if event is None else ring.number_of(event)
    lists, start = doubted(ring, lists, start, event_at)
    if not in_order:
        ids = {slots[slot].id for slot in used}
        lists = [one._replace(perhaps_used=one.perhaps_used or one.id in ids) for one in lists]
    return PackedLists(
        ring.place,
        ring.position(start),
        lists,
        [used_slot(slots, slot) for slot in used],
        ring.turns,
        in_order,
    )


def used_slot(slots: Sequence[PackedDescriptor], slot: int) -> UsedSlot:
    _, length, buffer_id, flags = slots[slot]
    return UsedSlot(slot, buffer_id, length, flags)


def parse(ring: Ring, start: int) -> list[SlotList]:
    """The lists from there to the driver's place, by their NEXT flags."""
    lists = []
    current: list[int] = []
    for slot in ring.order[start:]:
        current.append(slot)
        if not ring.slots[slot].flags & NEXT:
            lists.append(SlotList(tuple(current), ring.slots[slot].id, True))
            current = []
    if current:
        lists.append(SlotList(tuple(current), ring.slots[current[-1]].id, False))
    return lists


def doubted(
    ring: Ring, lists: list[SlotList], start: int, event_at: int | None
) -> tuple[list[SlotList], int]:
    """The lists without what is known to be a rest, where they start, and doubts where it is not known.

    event_at   how many slots come before the one where the driver goes on; None: it does not say
    """
    last_used = ring.order[start - 1] if start else None
    if not lists or not lists[0].ended or (last_used is not None and not ring.looks_used(last_used)):
        return lists, start  # behind a slot that was never used there is no rest
    first = lists[0]
    behind = start + len(first.slots)
    ids = [one.id for one in lists]
    if last_used is None:
        # All slots look available: the first may be the rest of a list whose beginning was written over.
        if first.id in ids[1:]:
            return lists[1:], behind
        may_be_rest = len(lists) < ring.size
        same = first.id
    else:
        same = ring.slots[last_used].id
        may_be_rest = same in ids
    if not may_be_rest or event_at == start:
        return lists, start
    if event_at == behind and first.id == same:
        return lists[1:], behind
    # The id of the last use among them but not in the first: used out of order, or given out again.
    return [
        one._replace(perhaps_used=number == 0 or (first.id != same and one.id == same))
        for number, one in enumerate(lists)
    ], start


def was_in_order(ring: Ring, end: int) -> bool:
    """Whether no used list in the first `end` slots shows that they were used out of order.

    A used slot and what looks available behind it, up to the next used slot, are one list.  Used in
    order, it ends with the id that it was used with.
    """
    numbers = [number for number in range(end) if ring.looks_used(ring.order[number])]
    for number, following in pairwise(numbers):
        rest = ring.order[number + 1 : following]
        if not rest or not all(map(ring.looks_available, rest)):
            continue
        if ring.slots[rest[-1]].id != ring.slots[ring.order[number]].id:
            return False
    return True
