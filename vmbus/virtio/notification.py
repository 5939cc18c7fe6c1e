"""When one side of a virtqueue must notify the other.

Each rule is a function of numbers that were already read, so that whoever looks at a queue can ask it
as well.  Nothing here reads memory or waits; the order of the accesses
around these calls belongs to the queues.

An entry is one head put into a ring of a split queue, one descriptor made available or used in a
packed one.  Counters of entries have 16 bits and wrap.

Source: OASIS VIRTIO 1.2, sections 2.7.7, 2.7.10 (split) and 2.8.10, 2.8.21 (packed).
"""

from __future__ import annotations

from .layout import WRAP, EventFlags

__all__ = ["event_reached", "not_suppressed", "notify_after_packed"]

DISABLE = int(EventFlags.DISABLE)
DESCRIPTOR = int(EventFlags.DESCRIPTOR)


def not_suppressed(flags: int, count: int) -> bool:
    """True when entries were published and the other side has not asked for silence.

    flags   of its ring: only bit 0 counts, and only without RING_EVENT_IDX
    count   entries since this was last asked

    >>> not_suppressed(0, 1), not_suppressed(1, 1), not_suppressed(0, 0)
    (True, False, False)
    """
    return count > 0 and not flags & 1


def event_reached(event: int, new: int, count: int) -> bool:
    """True when entry number `event` is one of the last `count` entries: the rule of RING_EVENT_IDX.

    event   the entry whose coming the other side waits for
    new     the counter now: the number of the entry that comes next
    count   entries since this was last asked; not wrapped, so that a whole round is a yes

    >>> event_reached(4, 5, 1), event_reached(4, 6, 1), event_reached(4, 8, 6)
    (True, False, True)
    >>> event_reached(0xFFFF, 0, 1), event_reached(3, 3, 0)
    (True, False)
    """
    return (new - event - 1) & 0xFFFF < count


def notify_after_packed(
    *, flags: int, offset_and_wrap: int, event_idx: bool, next_index: int, wrap: int, size: int, count: int
) -> bool:
    """Whether descriptors just made available, or used, in a packed queue call for a notification.

    flags, offset_and_wrap   the other side's event suppression structure
    event_idx                whether RING_EVENT_IDX was negotiated; without it there is no
                             notification at a descriptor, and the wish for one is none
    next_index, wrap         the slot that comes next, and this side's wrap counter there
    size                     slots of the ring
    count                    slots passed since this was last asked

    The value that the standard reserves for the flags (3) is taken as no wish at all: one
    notification too many is harmless, one too few is not.

    >>> ask = dict(flags=2, event_idx=True, size=4)
    >>> notify_after_packed(**ask, offset_and_wrap=0x8003, next_index=1, wrap=0, count=2)
    True
    >>> notify_after_packed(**ask, offset_and_wrap=0x8003, next_index=1, wrap=0, count=1)
    False
    """
    wish = flags & 3
    if not count or wish == DISABLE:
        return False
    if wish != DESCRIPTOR or not event_idx:
        return True
    event = offset_and_wrap & ~WRAP
    if (offset_and_wrap >= WRAP) != bool(wrap):
        event -= size  # the slot lies in the round before
    return event_reached(event, next_index, count)
