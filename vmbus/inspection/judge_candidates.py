"""From pages that look like control pages to rings: what speaks for each, and how large it is.

For the ring behind a page, three things are asked in order:

    packets              see ring_evidence
    what comes next      a ring that is followed by another ring's control page, as far away as that of its
                         partner is, ends there: the two rings of a channel lie like that
    GPADL messages       the guest told the host the pages of every ring that it opened

Where none of them decides the size it stays unknown, and sizes that drivers use are listed.

Sources: Linux drivers/hv/channel.c, __vmbus_open(), for where the rings of a channel lie; the drivers of
Linux 6.12 for the sizes that they ask for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from vmbus.images import Dump
from vmbus.layout import ControlPage
from vmbus.memory import FlatRingMem
from vmbus.sizes import HEADER_SIZES, PAGE_SIZE, SLOT

from .control_page_finder import ControlCandidate
from .data_area import LARGEST_LOOKED_FOR, DataArea, Effort, blocks_at, blocks_of_pages
from .found_ring import FoundRing, Reason, reasons_of
from .guess import guess_chain
from .ring_evidence import RingEvidence, evidence_of, try_size

__all__ = ["USUAL_SIZES", "judge_candidate", "judge_pages", "sized_by_neighbours"]

KIB = 1024

#: Bytes of data of the rings that drivers make: the integration components, hvsock, keyboard and mouse, PCI,
#: storage, video, network, and what uio_hv_generic makes for the others.
USUAL_SIZES = tuple(
    kib * KIB for kib in (12, 16, 20, 24, 28, 32, 36, 64, 76, 124, 252, 508, 1020, 1024, 2044, 4092)
)

#: Bytes before out that are searched for descriptors where there are no footers.
GUESSED_SIZE = 64 * KIB

#: So many bytes of that search take about as long as looking at one descriptor.
GUESSED_A_STEP = 64

UNUSED = Reason("unused", 0, "it was never used, or everything in it was read when it was at its start again")


def judge_candidate(dump: Dump, candidate: ControlCandidate, effort: Effort | None = None) -> FoundRing:
    """What there is behind a page that looks like a control page.

    effort   what looking at all of them may take together
    """
    control = candidate.control
    best, evidence = HEADER_SIZES[0], None
    effort = Effort() if effort is None else effort
    for header_size in header_sizes(candidate):
        area = DataArea(blocks_at(dump, candidate.address + header_size, effort), effort=effort)
        found = evidence_of(area, control)
        if evidence is None or weight(found) > weight(evidence):
            best, evidence = header_size, found
        if evidence.best.footers or evidence.best.recovered:
            break
    assert evidence is not None
    area = DataArea(blocks_at(dump, candidate.address + best, effort), effort=effort)
    reasons = [*reasons_of(control, evidence, guessed=guessed_packets(area, control, evidence))]
    if candidate.unused:
        reasons.append(UNUSED)
    ring = FoundRing(
        address=candidate.address,
        header_size=best,
        control=control,
        data_size=evidence.size,
        data_size_candidates=() if evidence.size else evidence.sizes,
        smallest_data_size=evidence.smallest,
        score=0,
        reasons=(),
    )
    return ring.because(*reasons)


def weight(evidence: RingEvidence) -> tuple[int, int]:
    """What of two header sizes the better one has more of.

    A footer says where its packet starts, and so where the data begins; descriptors alone fit anywhere.
    """
    return evidence.best.footers + evidence.best.recovered, evidence.best.explained


def header_sizes(candidate: ControlCandidate) -> Iterator[int]:
    """What the control page may fill: a page of a guest's processor begins on a multiple of its size."""
    yield HEADER_SIZES[0]
    if not candidate.unused:
        yield from (size for size in HEADER_SIZES[1:] if candidate.address % size == 0)


def judge_pages(dump: Dump, control: ControlPage, pages: Sequence[int]) -> FoundRing:
    """The ring in these pages, of which the first is its control page: somebody said so."""
    size = (len(pages) - 1) * PAGE_SIZE
    area = DataArea(blocks_of_pages(dump, tuple(pages[1:])), size)
    trial = try_size(area, control, size)
    evidence = RingEvidence(size, None, (), trial)
    reasons = reasons_of(control, evidence, guessed=guessed_packets(area, control, evidence))
    contiguous = all(page == pages[0] + number * PAGE_SIZE for number, page in enumerate(pages))
    ring = FoundRing(
        address=pages[0],
        header_size=PAGE_SIZE,
        control=control,
        data_size=size,
        data_size_candidates=(),
        smallest_data_size=size,
        score=0,
        reasons=(),
        pages=None if contiguous else tuple(pages),
    )
    return ring.because(*reasons)


def guessed_packets(area: DataArea, control: ControlPage, evidence: RingEvidence) -> int:
    """How many packets before out their descriptors alone lead to; looked for where there is nothing else."""
    found = evidence.best
    if found.explained or found.footers or not control.out_offset:
        return 0
    first = max(0, control.out_offset - (PAGE_SIZE if area.effort.is_spent else GUESSED_SIZE)) // PAGE_SIZE
    area.effort.left -= (control.out_offset - first * PAGE_SIZE) // GUESSED_A_STEP
    pages = [area.page(number) for number in range(first, -(-control.out_offset // PAGE_SIZE))]
    if None in pages:
        return 0
    data = b"".join(page for page in pages if page is not None)
    end = control.out_offset - first * PAGE_SIZE
    oldest = max(0, control.in_offset - first * PAGE_SIZE) if control.in_offset < control.out_offset else 0
    # In a ring of whole pages `end` may be its size, which is offset 0.
    memory = FlatRingMem.over(bytes(PAGE_SIZE) + data)
    chain = guess_chain(memory, end % len(data), end - oldest)
    base = first * PAGE_SIZE + oldest
    pairs = zip(chain.slots, chain.ends, strict=True)
    strangers = sum(area.is_strange_footer(base + slot * SLOT, base + stop * SLOT) for slot, stop in pairs)
    return 0 if strangers > len(chain.slots) // 2 else len(chain.slots)


def sized_by_neighbours(rings: Iterable[FoundRing]) -> list[FoundRing]:
    """Rings of unknown size, sized by the control page that follows where that is its partner's.

    rings   in the order of their addresses, those that only look like rings too
    """
    listed = list(rings)
    scattered = sorted(page for ring in listed for page in ring.pages or ())
    starts = [ring.address for ring in listed]

    def next_behind(ring: FoundRing) -> FoundRing | None:
        place = bisect_left(starts, ring.end)
        if place == len(listed) or bisect_left(scattered, ring.address) < bisect_left(
            scattered, starts[place]
        ):
            return None
        return listed[place] if listed[place].pages is None else None

    return [sized_by_next(ring, next_behind(ring)) if ring.data_size is None else ring for ring in listed]


def sized_by_next(ring: FoundRing, following: FoundRing | None) -> FoundRing:
    """One ring, with the next page behind it that looks like a control page."""
    room = LARGEST_LOOKED_FOR
    candidates = list(ring.data_size_candidates)
    if following is not None:
        distance = following.address - ring.address - ring.header_size
        room = min(room, distance)
        if distance <= LARGEST_LOOKED_FOR and ring.is_ring:
            fits = distance in candidates if candidates else could_be_partner(ring, following, distance)
            if following.is_ring and fits:
                message = f"the control page of another ring follows at {following.address:#x}"
                return ring._replace(data_size=distance, data_size_candidates=()).because(
                    Reason("following-control-page", 5, message)
                )
            candidates.append(distance)
    usual = [size for size in USUAL_SIZES if ring.smallest_data_size <= size <= room]
    return ring._replace(data_size_candidates=tuple(dict.fromkeys([*candidates, *usual])))


def could_be_partner(ring: FoundRing, following: FoundRing, distance: int) -> bool:
    """Whether two rings are as far from each other as the rings of a channel: any ring lies behind any other.

    distance   bytes of data that the first one has, if they are
    """
    if distance == following.data_size or distance in USUAL_SIZES:
        return True
    # Linux gives a channel pages that begin on a multiple of a power of two, which holds both rings.
    whole = 2 * ring.header_size + distance + following.known_size
    return ring.address % (1 << (whole - 1).bit_length()) == 0
