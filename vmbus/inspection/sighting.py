"""What there is to see in a memory image, or a part of one, in one pass over it.

Parts can be looked through apart and joined: a message that begins in one part and ends in the next is seen
with the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vmbus.images import PIECE_SIZE, TOP, Dump, MissingRuns, Run, State
from vmbus.protocols import LARGEST_MESSAGE
from vmbus.sizes import PAGE_SIZE

from .control_page_finder import ControlCandidate, find_control_pages
from .message_finder import FoundMessage, MessageFinder

__all__ = [
    "MOST_CANDIDATES",
    "MOST_MISSING",
    "Progress",
    "Sighting",
    "joined",
    "look_through",
    "parts_of",
    "present_bytes",
]

#: So many pages that look like control pages are judged; an image of nothing else has no rings to speak of.
MOST_CANDIDATES = 100_000

#: So many stretches of missing memory are listed.
MOST_MISSING = 1000

#: So many messages are kept.
MOST_MESSAGES = 200_000

#: Told how many bytes of how many are done.
Progress = Callable[[int, int], object]


class Sighting(NamedTuple):
    """What was seen in a part of an image.

    candidates   pages that look like control pages
    messages     messages of the guest and the host about channels
    missing      memory that is not in the image though it should be, the first of it
    unlisted     bytes of it beyond those
    looked_at    bytes of memory looked through
    unread_from  the address from which on messages were not looked for any more, there being too many; or None
    pages_cut    pages with so much in them that looks like a message that not all was looked at
    first_cut    the address of the first of them
    """

    candidates: list[ControlCandidate]
    messages: list[FoundMessage]
    missing: list[Run]
    unlisted: int
    looked_at: int
    unread_from: int | None
    pages_cut: int
    first_cut: int | None


def look_through(dump: Dump, start: int, end: int, *, progress: Progress | None = None) -> Sighting:
    """What there is to see from address `start` to `end`.

    Messages that begin before `end` and go on behind it are seen too.
    """
    candidates: list[ControlCandidate] = []
    messages: list[FoundMessage] = []
    missing = MissingRuns(MOST_MISSING)
    finder = MessageFinder()
    done = 0
    unread_from: int | None = None
    total = present_bytes(dump, start, end) if progress is not None else 0
    for address, piece in dump.pieces(start, min(end + LARGEST_MESSAGE, TOP), on_missing=missing.add):
        if len(candidates) <= MOST_CANDIDATES:
            candidates += (one for one in find_control_pages(address, piece) if one.address < end)
        if len(messages) < MOST_MESSAGES:
            messages += (one for one in finder.feed(address, piece) if one.address < end)
        elif unread_from is None:
            unread_from = address
        done += max(0, min(address + len(piece), end) - address)
        if progress is not None:
            progress(done, total)
    messages += (one for one in finder.finish() if one.address < end)
    return Sighting(
        candidates,
        messages,
        missing.listed,
        missing.unlisted,
        done,
        unread_from,
        finder.pages_cut,
        finder.first_cut,
    )


def joined(sightings: list[Sighting]) -> Sighting:
    """What was seen in all parts, in the order of addresses."""
    missing = MissingRuns(MOST_MISSING)
    for one in sightings:
        for run in one.missing:
            missing.add(run)
    return Sighting(
        sorted({one.address: one for part in sightings for one in part.candidates}.values()),
        list({one.address: one for part in sightings for one in part.messages}.values()),
        missing.listed,
        missing.unlisted + sum(one.unlisted for one in sightings),
        sum(one.looked_at for one in sightings),
        next((one.unread_from for one in sightings if one.unread_from is not None), None),
        sum(one.pages_cut for one in sightings),
        next((one.first_cut for one in sightings if one.first_cut is not None), None),
    )


def parts_of(dump: Dump, start: int, end: int, count: int) -> list[tuple[int, int]]:
    """The addresses from `start` to `end` cut into about `count` parts with as much memory each.

    Every part begins on a multiple of PIECE_SIZE, but the first, which begins on a page.
    """
    start = start // PAGE_SIZE * PAGE_SIZE
    if count <= 1:
        return [(start, end)]
    share = max(present_bytes(dump, start, end) // count, PIECE_SIZE)
    parts: list[tuple[int, int]] = []
    at, held = start, 0
    for run in dump.runs(start, end):
        if run.state is not State.PRESENT:
            continue
        left = run.start
        while held + run.end - left >= share and len(parts) + 1 < count:
            cut = -(-(left + share - held) // PIECE_SIZE) * PIECE_SIZE
            if cut >= run.end:
                break
            parts.append((at, cut))
            at, left, held = cut, cut, 0
        held += run.end - left
    return [*parts, (at, end)]


def present_bytes(dump: Dump, start: int, end: int) -> int:
    """How many bytes are stored between two addresses."""
    return sum(run.end - run.start for run in dump.runs(start, end) if run.state is State.PRESENT)
