"""A ring that a scan found: where, how large, whose, and why it is believed to be one.

A ring's score is the sum of its reasons' points, 100 at most.  From RINGS_SCORE on it is reported as a ring;
below, it is something that looks like one, such as the control page of a ring that was opened and never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.layout import ControlPage
from vmbus.sizes import PAGE_SIZE

from .names import counted
from .ring_evidence import RingEvidence
from .ring_place import RingDevice

__all__ = ["RINGS_SCORE", "FoundRing", "Reason", "reasons_of"]

#: What a ring's score is at least.
RINGS_SCORE = 50

BEST_SCORE = 100


class Reason(NamedTuple):
    """Something that speaks for a ring.

    reason    its name, which never changes its meaning
    points    what it adds to the score; 0 for what only explains, less for what speaks against
    message   one sentence
    """

    reason: str
    points: int
    message: str


class FoundRing(NamedTuple):
    """One ring.

    address               of its control page
    header_size           bytes from there to the data; of scattered pages, of no meaning
    control               its control words
    data_size             bytes of data; None where nothing decides it
    data_size_candidates  what it may be then, the likeliest first
    smallest_data_size    bytes that hold all that is known
    score                 how sure it is, from 0 to 100
    reasons               why
    role                  "outbound" or "inbound" in a pair, else None
    pair                  address of the other ring's control page, or None
    device                whose it is, or None
    pages                 addresses of the control page and of all data pages, where they do not lie one behind
                          the other; else None
    """

    address: int
    header_size: int
    control: ControlPage
    data_size: int | None
    data_size_candidates: tuple[int, ...]
    smallest_data_size: int
    score: int
    reasons: tuple[Reason, ...]
    role: str | None = None
    pair: int | None = None
    device: RingDevice | None = None
    pages: tuple[int, ...] | None = None

    @property
    def is_ring(self) -> bool:
        """Whether it is more than something that looks like a ring."""
        return self.score >= RINGS_SCORE

    @property
    def known_size(self) -> int:
        """Bytes of data, or so many as are needed at least."""
        return self.smallest_data_size if self.data_size is None else self.data_size

    @property
    def end(self) -> int:
        """Where its data ends, as far as that is known; of scattered pages, where the last of them does."""
        if self.pages is not None:
            return max(self.pages) + PAGE_SIZE
        return self.address + self.header_size + self.known_size

    def extents(self) -> Iterator[tuple[int, int]]:
        """The memory that it takes, as far as that is known."""
        if self.pages is None:
            yield self.address, self.end
        else:
            for page in self.pages:
                yield page, page + PAGE_SIZE

    def because(self, *reasons: Reason) -> FoundRing:
        """The same ring with more reasons."""
        every = (*self.reasons, *reasons)
        return self._replace(reasons=every, score=score_of(every))


def score_of(reasons: tuple[Reason, ...]) -> int:
    return max(0, min(BEST_SCORE, sum(reason.points for reason in reasons)))


def reasons_of(control: ControlPage, evidence: RingEvidence, *, guessed: int = 0) -> Iterator[Reason]:
    """What control words and packets say for a ring.

    guessed   packets before out that descriptors alone lead to, where there are no footers
    """
    if control.feature_bits:
        yield Reason("control-page", 25, "the page has the shape of a control page, with the feature bit set")
    else:
        yield Reason("control-page", 20, "the page has the shape of a control page")
    found = evidence.best
    if found.strangers > found.waiting // 2:
        message = f"{counted(found.waiting, 'packet')} from out on, whose footers are those of another ring"
        yield Reason("waiting-packets", 5 * min(found.waiting, 3), message)
    elif found.waiting and found.ends_at_in:
        message = f"{counted(found.waiting, 'packet')} from out on, ending exactly at in"
        yield Reason("waiting-packets", 30 + 2 * min(found.waiting - 1, 10), message)
    elif found.waiting:
        message = f"{counted(found.waiting, 'packet')} from out on, and then something else"
        yield Reason("waiting-packets", 5 * min(found.waiting, 3), message)
    if found.footers:
        yield Reason(
            "footers", 15, f"{counted(found.footers, 'packet')} of those with a footer that names its start"
        )
    if found.recovered:
        message = f"{counted(found.recovered, 'packet')} before out, footer and descriptor agreeing"
        yield Reason("read-packets", min(15 + 10 * found.recovered, 50), message)
    elif guessed:
        message = f"{counted(guessed, 'packet')} before out, by their descriptors alone"
        yield Reason("descriptor-chain", min(10 + 10 * guessed, 40), message)
    if evidence.size is not None:
        message = (
            f"{counted(found.wraps, 'packet')} crossing or ending at the end of {evidence.size} bytes of data"
        )
        yield Reason("wraps", 10, message)
