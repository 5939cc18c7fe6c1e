"""From everything that was seen in an image to its rings: joined to channels, to pairs, and without overlaps.

Rules, each applied in this order:

    channels   pages that a GPADL message lists for a channel are that channel's rings
    sizes      see judge_candidates
    overlaps   of two that share memory the one with the higher score stays, and of equals the one that
               begins first
    pairs      the rings of a channel; else a ring and the one whose control page lies directly behind its
               data, the first outbound: where three lie in a row, the pair that begins on a multiple of the
               power of two that holds it, as Linux allocates pairs, goes first

Source: Linux drivers/hv/channel.c, vmbus_alloc_ring() and __vmbus_open().
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

from vmbus.images import Dump, MissingMemory
from vmbus.layout import CONTROL_PAGE
from vmbus.ring import inspect_ring, is_offset
from vmbus.sizes import CONTROL_SIZE, PAGE_SIZE

from .control_page_finder import ControlCandidate
from .data_area import Effort
from .found_ring import FoundRing, Reason
from .gpadl_index import ChannelRings
from .judge_candidates import judge_candidate, judge_pages, sized_by_neighbours
from .ring_place import RingDevice

__all__ = ["rings_of"]

#: A message may be left of a channel that is closed, and its pages given back and cleared.
ALL_ZERO = Reason("all-zero", -20, "its control page is zeros, as that of a channel closed long ago may be")


def rings_of(
    dump: Dump,
    candidates: Iterable[ControlCandidate],
    channels: Iterable[ChannelRings],
    effort: Effort | None = None,
) -> list[FoundRing]:
    """All rings, and all that look like rings, in the order of their addresses; see `FoundRing.is_ring`.

    effort   what looking at all of them may take together
    """
    effort = Effort() if effort is None else effort
    named = [ring for channel in channels for ring in rings_of_channel(dump, channel)]
    taken = {ring.address for ring in named}
    others = [judge_candidate(dump, one, effort) for one in candidates if one.address not in taken]
    every = sized_by_neighbours(sorted([*named, *others], key=lambda ring: ring.address))
    return in_pairs(without_overlaps(every))


def rings_of_channel(dump: Dump, channel: ChannelRings) -> Iterator[FoundRing]:
    """The rings in the pages that messages list; none where these pages hold something else by now."""
    device = device_of(channel)
    sides = (("outbound", channel.outbound_pages), ("inbound", channel.inbound_pages))
    found = [ring_in_pages(dump, pages, role, device) for role, pages in sides]
    outbound, inbound = found
    if outbound is not None:
        yield outbound if inbound is None else joined_to(outbound, inbound)
    if inbound is not None:
        yield inbound if outbound is None else joined_to(inbound, outbound)


def joined_to(ring: FoundRing, other: FoundRing) -> FoundRing:
    """One ring of a channel; that the other one is there speaks for it."""
    ring = ring._replace(pair=other.address)
    return (
        ring.because(Reason("pair", 30, "the other ring of the channel is there")) if other.is_ring else ring
    )


def ring_in_pages(dump: Dump, pages: Sequence[int | None], role: str, device: RingDevice) -> FoundRing | None:
    """The ring in pages with these numbers, of which None is one that is not known."""
    addresses = [number * PAGE_SIZE for number in pages if number is not None]
    if len(addresses) < 2 or len(set(addresses)) < len(pages):
        return None  # a page is not known; or one is listed twice, as no ring has it
    try:
        control = inspect_ring(dump.read(addresses[0], CONTROL_PAGE.size))
        rest = dump.read(addresses[0] + CONTROL_SIZE, PAGE_SIZE - CONTROL_SIZE)
    except MissingMemory:
        return None
    size = (len(addresses) - 1) * PAGE_SIZE
    if not is_offset(size, control.in_offset) or not is_offset(size, control.out_offset) or any(rest):
        return None
    if control.other_words or control.interrupt_mask > 1:
        return None
    message = f"a GPADL message lists its {len(addresses)} pages for channel {device.channel_id}"
    ring = judge_pages(dump, control, addresses)
    reasons = [Reason("gpadl", 40, message)]
    if not any((control.in_offset, control.out_offset, control.interrupt_mask, control.feature_bits)):
        reasons.append(ALL_ZERO)
    return ring._replace(role=role, device=device).because(*reasons)


def device_of(channel: ChannelRings) -> RingDevice:
    from vmbus.protocols import device_class

    known = None if channel.class_id is None else device_class(channel.class_id)
    return RingDevice(
        class_id=None if channel.class_id is None else str(channel.class_id),
        class_name=None if known is None else known.name,
        instance_id=None if channel.instance_id is None else str(channel.instance_id),
        channel_id=channel.relid,
    )


def without_overlaps(rings: Sequence[FoundRing]) -> list[FoundRing]:
    """Those that share no memory with a better one, in the order of their addresses."""
    kept: list[FoundRing] = []
    taken: list[tuple[int, int]] = []
    for ring in sorted(rings, key=lambda ring: (-ring.score, ring.address)):
        extents = list(ring.extents())
        if any(overlaps(taken, start, end) for start, end in extents):
            continue
        for extent in extents:
            insort(taken, extent)
        kept.append(ring)
    return sorted(kept, key=lambda ring: ring.address)


def overlaps(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a stretch shares memory with one of those taken, which share none with each other."""
    place = bisect_left(taken, (start, start))
    return (place < len(taken) and taken[place][0] < end) or (place > 0 and taken[place - 1][1] > start)


def in_pairs(rings: Sequence[FoundRing]) -> list[FoundRing]:
    """The same rings, those that lie directly behind each other joined."""
    paired = list(rings)
    number = 0
    while number + 1 < len(paired):
        first, second = paired[number], paired[number + 1]
        third = paired[number + 2] if number + 2 < len(paired) else None
        if not are_pair(first, second) or belongs_to_next(first, second, third):
            number += 1
            continue
        reason = Reason("pair", 30, "the two rings of a channel lie directly behind each other")
        paired[number] = first._replace(role="outbound", pair=second.address).because(reason)
        paired[number + 1] = second._replace(role="inbound", pair=first.address).because(reason)
        number += 2
    return paired


def are_pair(first: FoundRing, second: FoundRing) -> bool:
    """Whether the second ring begins where the first one's data ends, and neither is in another pair."""
    whole = first.data_size is not None and first.is_ring and first.pages is None and second.pages is None
    return (
        whole
        and first.pair is None
        and second.pair is None
        and first.header_size == second.header_size
        and first.end == second.address
    )


def belongs_to_next(first: FoundRing, second: FoundRing, third: FoundRing | None) -> bool:
    """Whether the second of three rings in a row is rather the outbound ring of the last two."""
    if third is None or not are_pair(second, third):
        return False
    return not begins_on_its_size(first, second) and begins_on_its_size(second, third)


def begins_on_its_size(first: FoundRing, second: FoundRing) -> bool:
    size = second.end - first.address
    return first.address % (1 << (size - 1).bit_length()) == 0
