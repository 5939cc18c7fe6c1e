"""Which chains of a split queue the device has not used yet, as far as its two rings tell.

Nowhere in memory is it written down.  The indices say how many there are, k; the rings keep the last N
heads that were made available and the last N that were used.  Where these name the same heads in the
same order, chains are used in order, and the last k are the ones.  Otherwise a head is counted: once for
every time it was made available, back for every time it was used.

A position is the free-running index of an entry, here without an end: it may be negative where the
16-bit index has gone round.

    first round    nothing was ever written over: the counts are exact
    later          a use may have been written over that counts against an entry still there, so
                   that some heads are only "perhaps used"; and a chain that the device has kept for more than
                   a round of the ring is in neither ring

Source: OASIS VIRTIO 1.2, sections 2.7.6 and 2.7.8.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from vmbus.virtio import VirtqueueFault

__all__ = ["Doubt", "OutstandingHead", "SplitHeads", "outstanding_heads"]


class OutstandingHead(NamedTuple):
    """A head that was made available and not used.

    position       of its entry in the available ring: a free-running index of 16 bits
    perhaps_used   whether it may have been used all the same
    """

    head: int
    position: int
    perhaps_used: bool = False


class Doubt(NamedTuple):
    """Something that the rings of correct sides never say.

    kind    what a device, or a driver, would call it
    head    the head or the id in question
    entry   its index, in the available or in the used ring
    """

    kind: VirtqueueFault
    head: int
    entry: int


class SplitHeads(NamedTuple):
    """What the rings say.

    outstanding   in the order in which they were made available
    missing       how many more there are, of which no head is known
    in_order      whether all that can be seen was used in order
    doubts        what cannot be
    """

    outstanding: list[OutstandingHead]
    missing: int
    in_order: bool
    doubts: list[Doubt]


class Rings:
    """Both rings by position: `available` before `end`, `used` before `used_end`, `start` the first known."""

    def __init__(self, heads: Sequence[int], ids: Sequence[int], available_index: int, waiting: int) -> None:
        self.size = len(heads)
        self.heads = heads
        self.ids = ids
        self.end = available_index
        self.used_end = available_index - waiting
        self.waiting = waiting
        self.first_round = (
            self.used_end >= 0
            and self.end <= self.size
            and not any(heads[self.end :])
            and not any(ids[self.used_end :])
        )
        self.start = 0 if self.first_round else self.end - self.size
        self.used_start = 0 if self.first_round else self.used_end - self.size
        self.uses: dict[int, list[int]] = defaultdict(list)
        for position in range(self.used_start, self.used_end):
            self.uses[self.id_at(position)].append(position)
        self.entries: dict[int, list[int]] = defaultdict(list)
        for position in range(self.start, self.end):
            self.entries[self.head_at(position)].append(position)

    def head_at(self, position: int) -> int:
        return self.heads[position % self.size]

    def id_at(self, position: int) -> int:
        return self.ids[position % self.size]

    def perhaps_used_since(self, head: int, position: int) -> bool:
        """Whether a use of `head` can have come after it was made available at `position`.

        By then at least position + 1 - N had been used: earlier uses are of earlier times.
        """
        oldest = position + 1 - self.size
        if not self.first_round and oldest < self.used_start:
            return True  # such a use may have been written over
        return any(use >= oldest for use in self.uses.get(head, ()))


def outstanding_heads(
    heads: Sequence[int], ids: Sequence[int], available_index: int, waiting: int, *, in_order: bool = False
) -> SplitHeads:
    """The heads that wait, at most `waiting` of them, which is at most the size.

    heads              the available ring
    ids                those of the used ring
    available_index    the driver's, of 16 bits
    in_order           whether IN_ORDER was negotiated: one used element then stands for many chains

    >>> [one.head for one in outstanding_heads([0, 3, 2, 0], [3, 0, 0, 0], 3, 2).outstanding]
    [0, 2]
    """
    rings = Rings(heads, ids, available_index, waiting)
    doubts = [
        Doubt(VirtqueueFault.HEAD_OUT_OF_RANGE, rings.head_at(position), position & 0xFFFF)
        for position in range(rings.used_end, rings.end)
        if rings.head_at(position) >= rings.size
    ]
    seen_in_order = in_order or all(
        rings.head_at(position) == rings.id_at(position) for position in range(rings.start, rings.used_end)
    )
    if not in_order:
        doubts += doubtful_uses(rings)
    if seen_in_order:
        listed = [
            OutstandingHead(rings.head_at(position), position)
            for position in range(rings.used_end, rings.end)
            if rings.head_at(position) < rings.size
        ]
    else:
        listed = counted_heads(rings)
    if not in_order:
        doubts += doubtful_entries(rings)
    once = {one.head: one for one in reversed(listed)}
    listed = [one for one in listed if once[one.head] is one]
    bad = sum(doubt.kind is VirtqueueFault.HEAD_OUT_OF_RANGE for doubt in doubts)
    missing = max(0, waiting - bad - len(listed)) if not doubts or not seen_in_order else 0
    listed = [one._replace(position=one.position & 0xFFFF) for one in listed]
    return SplitHeads(listed, missing, seen_in_order, doubts)


def counted_heads(rings: Rings) -> list[OutstandingHead]:
    """The heads that were made available more often than used, where the order of uses tells nothing."""
    if not rings.waiting:
        return []
    count = Counter({head: len(entries) for head, entries in rings.entries.items()})
    for position in range(rings.start, rings.used_end):
        count[rings.id_at(position)] -= 1
    certain, perhaps = [], []
    for head, entries in rings.entries.items():
        if head >= rings.size:
            continue
        last = entries[-1]
        if not rings.first_round and not rings.perhaps_used_since(head, last):
            certain.append(OutstandingHead(head, last))
        elif count[head] > 0:
            perhaps.append(OutstandingHead(head, last, perhaps_used=not rings.first_round))
    if len(certain) >= rings.waiting:
        perhaps = []
    return sorted(certain + perhaps, key=lambda one: one.position)


def doubtful_entries(rings: Rings) -> list[Doubt]:
    """Heads that were made available again without having been used between."""
    doubts = []
    for head, entries in rings.entries.items():
        uses = rings.uses.get(head, [])
        for before, position in pairwise(entries):
            oldest = before + 1 - rings.size
            known = rings.first_round or oldest >= rings.used_start
            if head < rings.size and known and not any(oldest <= use < position for use in uses):
                doubts.append(Doubt(VirtqueueFault.HEAD_IN_FLIGHT, head, position & 0xFFFF))
                break
        else:
            if rings.first_round and len(entries) > len(uses) + 1 and head < rings.size:
                doubts.append(Doubt(VirtqueueFault.HEAD_IN_FLIGHT, head, entries[-1] & 0xFFFF))
    return doubts


def doubtful_uses(rings: Rings) -> list[Doubt]:
    """Ids that cannot be, or were used again without having been made available between."""
    doubts = []
    for used_id, uses in rings.uses.items():
        written = [use for use in uses if use >= 0]  # the slot of an earlier one may never have been written
        if used_id >= rings.size:
            if written:
                doubts.append(Doubt(VirtqueueFault.USED_ID_OUT_OF_RANGE, used_id, written[0] & 0xFFFF))
            continue
        entries = rings.entries.get(used_id, [])
        for before, use in pairwise(uses):
            if before + 1 < rings.start:
                continue
            if not any(before < entry < use + rings.size for entry in entries):
                doubts.append(Doubt(VirtqueueFault.USED_ID_NOT_OUTSTANDING, used_id, use & 0xFFFF))
                break
        else:
            if rings.first_round and len(uses) > len(entries):
                doubts.append(Doubt(VirtqueueFault.USED_ID_NOT_OUTSTANDING, used_id, uses[-1] & 0xFFFF))
    return doubts
