"""What speaks for a ring behind a page that has the shape of a control page, and how large it is.

Nothing in a control page says how many bytes of data follow.  The packets do, where some of them, waiting or
read already, cross the end of the data area or end exactly at it:

    a footer that names a start behind it    its packet wraps: start + length - end is the size
    a chain of footers that reaches 0        the packet before ends exactly at the size
    waiting packets with in before out       one of them wraps, and only with the right size does the walk
                                             go on to end exactly at in

Each size that comes up this way is tried, by walking all packets with it.  The one that explains the most
packets is taken; where two explain as many, neither is.

Sources: Linux include/linux/hyperv.h, struct vmpacket_descriptor and the trailing offset; OpenVMM
vmbus_ring/src/lib.rs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from vmbus.layout import SMALLEST_PACKET, ControlPage
from vmbus.ring import descriptor_fault, used_bytes
from vmbus.sizes import LARGEST_PACKET, PAGE_SIZE, SLOT

from .data_area import DataArea

__all__ = ["MOST_TRIALS", "RingEvidence", "SizeTrial", "evidence_of", "smallest_size", "try_size"]

#: So many sizes are tried.
MOST_TRIALS = 16

#: Pages at whose end a packet is looked for where out is 0 and no packets lead there: of most such control pages
#: the ring was never used.
FEW_ENDS = 64


class SizeTrial(NamedTuple):
    """What comes out when a ring is taken to have `size` bytes of data.

    waiting     packets from out on that can be walked
    ends_at_in  whether they end exactly at in, so far as they were walked
    footers     how many of them have their own footer
    recovered   packets before out whose footer and descriptor agree
    wraps       how many of all these need this very size, because they cross its end
    strangers   how many of those that wait have a footer that names another place: they are of another ring
    """

    size: int
    waiting: int
    ends_at_in: bool
    footers: int
    recovered: int
    wraps: int
    strangers: int = 0

    @property
    def is_believable(self) -> bool:
        """Whether the size is borne out: by a packet that needs it, and by the others.

        What waits may be broken, and the ring is shown all the same: then those before out must do.
        """
        return self.wraps > 0 and (self.ends_at_in or self.recovered > 2)

    @property
    def explained(self) -> int:
        """Packets that fit."""
        return self.recovered + (self.waiting if self.ends_at_in else 0)


class RingEvidence(NamedTuple):
    """What the bytes behind a control page say.

    smallest   bytes of data that hold all that is known: a multiple of the page size
    size       bytes of data, where packets decide it; else None
    sizes      those that packets make possible, the likeliest first
    best       the trial of `size`; where that is None, what is true of every size
    """

    smallest: int
    size: int | None
    sizes: tuple[int, ...]
    best: SizeTrial


class Waiting(NamedTuple):
    """The packets from out on, up to in or to the first that is none; the other fields as in SizeTrial."""

    packets: int
    ends_at_in: bool
    footers: int
    wraps: int
    strangers: int


class Backwards(NamedTuple):
    """A chain of footers from out towards 0.

    packets   whose footer and descriptor agree
    end       where the oldest of them starts: the one before ends here
    sizes     sizes for which another packet is there, across the end of the data area
    """

    packets: int
    end: int
    sizes: tuple[int, ...]


def smallest_size(control: ControlPage) -> int:
    """Bytes of whole pages that in and out lie in."""
    return (max(control.in_offset, control.out_offset) // PAGE_SIZE + 1) * PAGE_SIZE


def evidence_of(area: DataArea, control: ControlPage) -> RingEvidence:
    """What packets say about the ring with these control words, whose indices are multiples of 8."""
    in_offset, out_offset = control.in_offset, control.out_offset
    smallest = smallest_size(control)
    before = chain_before(area, in_offset, out_offset, smallest)
    sizes = dict.fromkeys([*before.sizes, *sizes_of_waiting(area, in_offset, out_offset, smallest)])
    trials = [try_size(area, control, size) for size in islice(sizes, MOST_TRIALS)]
    fitting = [trial for trial in trials if trial.is_believable]
    fitting.sort(key=lambda trial: (-trial.explained, trial.size))
    if not fitting:
        return RingEvidence(smallest, None, (), without_size(area, control, before, smallest))
    decided = len(fitting) == 1 or fitting[0].explained > fitting[1].explained
    best = fitting[0] if decided else without_size(area, control, before, smallest)
    return RingEvidence(
        smallest, fitting[0].size if decided else None, tuple(trial.size for trial in fitting), best
    )


def without_size(area: DataArea, control: ControlPage, before: Backwards, smallest: int) -> SizeTrial:
    """What is true whatever the size is: packets that cross no end."""
    if control.in_offset >= control.out_offset:
        waiting = walk_waiting(area, control.out_offset, control.in_offset, None)
    else:
        waiting = Waiting(0, False, 0, 0, 0)
    return SizeTrial(
        smallest, waiting.packets, waiting.ends_at_in, waiting.footers, before.packets, 0, waiting.strangers
    )


def try_size(area: DataArea, control: ControlPage, size: int) -> SizeTrial:
    """Take the ring to have `size` bytes of data, and count the packets that bear it out."""
    in_offset, out_offset = control.in_offset, control.out_offset
    waiting = walk_waiting(area, out_offset, in_offset, size)
    recovered, wraps = count_before(area, in_offset, out_offset, size)
    wraps += waiting.wraps
    return SizeTrial(
        size, waiting.packets, waiting.ends_at_in, waiting.footers, recovered, wraps, waiting.strangers
    )


def walk_waiting(area: DataArea, start: int, end: int, size: int | None) -> Waiting:
    """The packets from `start` to `end`.

    size   of the data area; None where start is not behind end, and no packet can cross it
    """
    count = footers = wraps = strangers = 0
    at = start
    left = end - start if size is None else used_bytes(size, end, start)
    most = area.effort.steps
    while left and count < most:
        descriptor = area.descriptor(at, size)
        if descriptor is None or descriptor_fault(descriptor, left) is not None:
            return Waiting(count, False, footers, wraps, strangers)
        taken = descriptor.packet_size
        following = at + taken
        if size is not None and following >= size:
            following -= size
            wraps += 1
        count += 1
        end = following or size or 0
        footer = area.footer_before(end)
        footers += footer is not None and (footer.reserved, footer.packet_offset) == (0, at)
        strangers += area.is_strange_footer(at, end)
        at, left = following, left - taken
    return Waiting(count, True, footers, wraps, strangers)


def count_before(area: DataArea, in_offset: int, out_offset: int, size: int) -> tuple[int, int]:
    """How many packets before out are still whole, and how many of them cross the end of `size` bytes."""
    count = wraps = 0
    end, left = out_offset, size - used_bytes(size, in_offset, out_offset)
    most = area.effort.steps
    while count < most:
        start = start_before(area, end, left, size)
        if start is None:
            break
        wraps += start >= end
        left -= used_bytes(size, end, start)
        count, end = count + 1, start
    return count, wraps


def start_before(area: DataArea, end: int, left: int, size: int) -> int | None:
    """Where the packet before `end` starts, when footer and descriptor agree on it."""
    footer = area.footer_before(end or size)
    if footer is None or footer.reserved:
        return None
    start = footer.packet_offset
    if start % SLOT or start >= size:
        return None
    length = used_bytes(size, end, start)
    if not SMALLEST_PACKET <= length <= left:
        return None
    descriptor = area.descriptor(start, size)
    if descriptor is None or descriptor.packet_size != length or descriptor_fault(descriptor, length):
        return None
    return start


def chain_before(area: DataArea, in_offset: int, out_offset: int, smallest: int) -> Backwards:
    """The packets before out that can be found without knowing the size."""
    count, end = 0, out_offset
    # With in before out the free bytes lie between them: nothing older than in is left.
    oldest = in_offset if in_offset < out_offset else 0
    most = area.effort.steps
    while count < most and end > oldest:
        start = start_before(area, end, end - oldest, area.limit)
        if start is None or start >= end:
            break
        count, end = count + 1, start
    if in_offset < out_offset:
        return Backwards(count, end, ())
    if end:
        found = size_of_wrapped(area, end)
    else:
        found = sizes_ending_there(area, smallest, area.effort.ends if count else FEW_ENDS)
    return Backwards(count, end, tuple(size for size in found if is_size(size, smallest, area.limit)))


def size_of_wrapped(area: DataArea, end: int) -> Iterator[int]:
    """The size, where the packet that ends at `end` starts before the end of the data area."""
    footer = area.footer_before(end)
    if footer is None or footer.reserved or footer.packet_offset <= end:
        return
    descriptor = area.descriptor(footer.packet_offset)
    if descriptor is not None:
        yield footer.packet_offset + descriptor.packet_size - end


def sizes_ending_there(area: DataArea, smallest: int, pages: int) -> Iterator[int]:
    """Sizes at whose end a packet ends, footer and descriptor agreeing on where it starts.

    pages   so many sizes are looked at
    """
    largest = min(area.limit, smallest + pages * PAGE_SIZE)
    for size in range(smallest, largest + 1, PAGE_SIZE):
        if area.page(size // PAGE_SIZE - 1) is None:
            return
        footer = area.footer_before(size)
        if footer is None or footer.reserved or not size - LARGEST_PACKET <= footer.packet_offset < size:
            continue
        descriptor = area.descriptor(footer.packet_offset, size)
        if descriptor is not None and footer.packet_offset + descriptor.packet_size == size:
            yield size


def sizes_of_waiting(area: DataArea, in_offset: int, out_offset: int, smallest: int) -> Iterator[int]:
    """Sizes at whose end a waiting packet crosses or ends, where in is before out.

    Packets are followed as if there were no end.  The true one is where that goes wrong, at the last of them:
    so those come first.
    """
    if in_offset >= out_offset:
        return
    at, starts = out_offset, [out_offset]
    for _ in range(area.effort.steps):
        descriptor = area.descriptor(at, at + SLOT)  # its second half may be elsewhere
        if descriptor is None or descriptor_fault(descriptor, LARGEST_PACKET) is not None:
            break
        at += descriptor.packet_size
        starts.append(at)
    for number in range(len(starts) - 1, 0, -1):
        start, following = starts[number - 1 : number + 1]
        first = start // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE
        for size in range(max(first, smallest), following + 1, PAGE_SIZE):
            if is_size(size, smallest, area.limit) and goes_on(area, following - size, in_offset):
                yield size


def goes_on(area: DataArea, at: int, in_offset: int) -> bool:
    """Whether what waits ends at `at`, or another packet begins there."""
    if at >= in_offset:
        return at == in_offset
    descriptor = area.descriptor(at)
    return descriptor is not None and descriptor_fault(descriptor, in_offset - at) is None


def is_size(size: int, smallest: int, limit: int) -> bool:
    return smallest <= size <= limit and size % PAGE_SIZE == 0
