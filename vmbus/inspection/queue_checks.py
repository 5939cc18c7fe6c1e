"""What can be wrong with a virtqueue's control words, and the verdict on it.

Sources: OASIS VIRTIO 1.2, sections 2.7.6 to 2.7.8 and 2.8.10; QEMU hw/virtio/virtio.c and rust-vmm
virtio-queue for what devices refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from vmbus.images import Finding, Severity
from vmbus.virtio import (
    EventFlags,
    EventSuppression,
    QueueAreas,
    VirtioFeatures,
    VirtqueueFault,
)

from .packed_lists import PackedPlace, SlotList
from .queue_chain import QueueChainReport, fault_label
from .queue_image import PackedWords, QueueImage, SplitWords
from .split_heads import Doubt, OutstandingHead

__all__ = [
    "WRAP",
    "QueueVerdict",
    "Uses",
    "check_areas",
    "check_lists",
    "check_packed",
    "check_split",
    "doubt_finding",
    "effort_finding",
    "moved_finding",
    "order_finding",
    "outside_finding",
    "rest_finding",
    "waiting_of",
]

#: A packed event's position has 15 bits beside its wrap counter.
WRAP = 0x8000


class QueueVerdict(Enum):
    """The state of a queue in one snapshot, which cannot tell a slow device from a stuck one.

    Whether the driver has taken what was used is nowhere in memory: such a queue is idle here.  A packed
    queue is unclear where what looks like a list that waits may be the rest of one that was used.
    """

    NEVER_SET_UP = "never-set-up"
    CORRUPT = "corrupt"
    NOT_IN_MEMORY = "not-in-memory"
    WAITING_FOR_DEVICE = "waiting-for-device"
    UNCLEAR = "unclear"
    IDLE = "idle"


def warning(check: str, message: str) -> Finding:
    return Finding(check, Severity.WARNING, None, message)


def error(kind: VirtqueueFault, place: int | None, message: str) -> Finding:
    return Finding(fault_label(kind), Severity.ERROR, place, message)


def check_areas(areas: QueueAreas, image: QueueImage, size: int, *, packed: bool) -> Iterator[Finding]:
    """Areas that are not there, not aligned, or on top of each other."""
    sizes = QueueAreas.sizes(size, packed=packed)
    named = [name.replace("_", " ") for name in areas._fields]
    placed = list(zip(named, areas, sizes, QueueAreas.alignments(packed=packed), image, strict=True))
    for name, address, length, alignment, data in placed:
        if address % alignment:
            message = f"the {name} is at {address:#x}, and a device takes multiples of {alignment} alone"
            yield Finding("area-alignment", Severity.ERROR, None, message)
        if data is None:
            message = f"not all {length} bytes of the {name} at {address:#x} are there"
            yield error(VirtqueueFault.AREA_OUTSIDE_MEMORY, None, message)
    for number, (name, address, length, *_) in enumerate(placed):
        for other, start, extent, *_ in placed[number + 1 :]:
            if address < start + extent and start < address + length:
                message = f"the {name} at {address:#x} and the {other} at {start:#x} have bytes in common"
                yield warning("areas-overlap", message)


def waiting_of(available: SplitWords | None, used: SplitWords | None, size: int) -> int | None:
    """How many chains the device has; None where the indices cannot be those of one queue."""
    if available is None or used is None:
        return None
    waiting = (available.next_index - used.next_index) & 0xFFFF
    return waiting if waiting <= size else None


def check_split(
    available: SplitWords | None, used: SplitWords | None, size: int, features: int
) -> Iterator[Finding]:
    """What is wrong with flags and indices of a split queue."""
    event_idx = bool(features & VirtioFeatures.RING_EVENT_IDX)
    for owner, words in (("driver", available), ("device", used)):
        if words is None:
            continue
        if words.flags > 1:
            message = f"the {owner}'s flags are {words.flags:#x}, and only bit 0 has a meaning"
            yield warning("ring-flags", message)
        elif words.flags and event_idx:
            message = f"the {owner} has set its flag, which means nothing with RING_EVENT_IDX and is then 0"
            yield warning("ring-flags", message)
    if available is None or used is None:
        return
    if waiting_of(available, used, size) is None:
        ahead = (available.next_index - used.next_index) & 0xFFFF
        message = (
            f"the available index is {available.next_index:#06x}, {ahead} ahead of the used index "
            f"{used.next_index:#06x}, in a queue of {size}"
        )
        yield error(VirtqueueFault.AVAILABLE_INDEX_JUMP, None, message)


def doubt_finding(doubt: Doubt, size: int) -> Finding:
    """What the rings of a split queue say and correct sides never would."""
    head, index = doubt.head, doubt.entry
    if doubt.kind is VirtqueueFault.HEAD_OUT_OF_RANGE:
        message = f"entry {index:#06x} of the available ring is the head {head}: the table has {size}"
        return error(doubt.kind, None, message)
    if doubt.kind is VirtqueueFault.HEAD_IN_FLIGHT:
        message = f"entry {index:#06x} of the available ring is the head {head}, which was not used since the last time"
        return error(doubt.kind, head, message)
    if doubt.kind is VirtqueueFault.USED_ID_OUT_OF_RANGE:
        message = f"entry {index:#06x} of the used ring is the id {head}: the table has {size}"
        return error(doubt.kind, None, message)
    message = f"entry {index:#06x} of the used ring is the id {head}, which was not available then"
    return error(doubt.kind, head, message)


def check_packed(words: PackedWords, size: int, features: int, turns: int) -> Iterator[Finding]:
    """What is wrong with a packed ring's rounds and with the two event suppression structures."""
    if turns > 1:
        message = (
            f"the AVAILABLE flag turns over {turns} times along the ring, and once at most with correct "
            "sides: what is behind the first turn may be an abandoned list, or no ring"
        )
        yield warning("wrap-pattern", message)
    for owner, event in (("driver", words.driver), ("device", words.device)):
        if event is not None:
            yield from check_event(owner, event, size, features)


def check_event(owner: str, event: EventSuppression, size: int, features: int) -> Iterator[Finding]:
    position = event.offset_and_wrap & ~WRAP
    if event.flags > EventFlags.DESCRIPTOR:
        message = f"the {owner}'s event flags are {int(event.flags):#x}; there are 0, 1 and 2"
        yield warning("event-flags", message)
    elif event.flags == EventFlags.DESCRIPTOR:
        if not features & VirtioFeatures.RING_EVENT_IDX:
            message = f"the {owner} waits for a descriptor, which takes RING_EVENT_IDX"
            yield warning("event-flags", message)
        elif position >= size:
            message = f"the {owner} waits for slot {position}, and the ring has {size}"
            yield warning("event-position", message)


def check_lists(lists: list[SlotList], place: PackedPlace, used_ids: set[int]) -> Iterable[Finding]:
    """Lists that do not end, and ids that two of them have."""
    seen: set[int] = set()
    for one in lists:
        if not one.ended:
            message = f"the list goes on in slot {place.slot}, which the driver has not made available"
            yield Finding("list-unfinished", Severity.ERROR, one.slots[0], message)
        if one.id in seen and one.id not in used_ids:
            message = f"the list has the id {one.id}, which another list has that was not used"
            yield Finding("head-in-flight", Severity.ERROR, one.slots[0], message)
        seen.add(one.id)


def outside_finding(outside: list[QueueChainReport], count: int) -> Finding:
    buffer = next(one for one in outside[0].descriptors if not one.in_memory)
    message = (
        f"{len(outside)} of {count} chains have buffers that are not all there, the first of them "
        f"{buffer.length} bytes at {buffer.address:#x}"
    )
    return Finding(
        "buffer-not-there", Severity.NOTE, buffer.number if buffer.table is None else buffer.table, message
    )


def order_finding(waiting: int, listed: list[OutstandingHead]) -> Finding:
    doubtful = sum(one.perhaps_used for one in listed)
    message = (
        f"chains were used out of order: {waiting} wait, and the rings name {len(listed)}, of which "
        f"{doubtful} may have been used; others may have been written over"
    )
    return Finding("out-of-order", Severity.NOTE, None, message)


def rest_finding(lists: list[SlotList]) -> Finding:
    first = lists[0].slots[0]
    message = (
        f"{len(lists)} of the lists, the first at slot {first}, wait or are what is left of used ones: the ring "
        "does not tell"
    )
    return Finding("list-or-rest", Severity.NOTE, first, message)


def effort_finding(count: int, most: int) -> Finding:
    message = f"after {count} chains with more than {most} descriptors the others were not followed"
    return Finding("too-many-descriptors", Severity.NOTE, None, message)


def moved_finding(looks: int) -> Finding:
    message = (
        f"the queue changed while it was looked at, {looks} times: what is said of it may be of two "
        "moments, and is no error"
    )
    return Finding("queue-moved", Severity.NOTE, None, message)


class Uses:
    """What the chains of a queue are for, as far as they are whole.

    count      how many were looked at
    certain    how many of them wait for sure
    readable   how many have bytes that the device reads
    writable   how many have room that it writes to
    """

    def __init__(self, chains: Iterable[QueueChainReport] = ()) -> None:
        self.count = self.certain = self.readable = self.writable = 0
        for chain in chains:
            self.add(chain)

    def add(self, chain: QueueChainReport) -> None:
        if chain.broken is None:
            self.count += 1
            self.certain += not chain.perhaps_used
            self.readable += chain.readable_bytes > 0
            self.writable += chain.writable_bytes > 0

    def check(self, vsock: str | None, *, waiting: bool) -> list[Finding]:
        """That they are not those of the queue that it was taken for: one finding, or none."""
        fitting = self.readable if vsock == "tx" else self.writable
        if vsock is None or not self.count or fitting:
            return []
        return [vsock_queue_finding(vsock, self.count, waiting=waiting and self.certain > 0)]


def vsock_queue_finding(vsock: str, count: int, *, waiting: bool) -> Finding:
    """That the chains of a queue, all `count` of them, are those of another queue of a socket device.

    waiting   whether the chains wait: what is known of used ones is not to be trusted
    """
    which = "chains that wait" if waiting else "chains used already"
    if vsock == "tx":
        message = (
            f"none of the {count} {which} has bytes that the device reads: is this the rx or the event "
            "queue, rather than tx?"
        )
    else:
        message = (
            f"none of the {count} {which} has room that the device writes to, as those of an {vsock} queue "
            "do: is this the tx queue?"
        )
    return Finding("vsock-queue", Severity.WARNING if waiting else Severity.NOTE, None, message)
