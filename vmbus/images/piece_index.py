"""Which piece of a file counts where, when pieces come in any order and a later one overrides an earlier one.

24 bytes a piece, in packed arrays.  Writers send long ascending stretches of pieces, and go back a few times:
from the page descriptors to the pages, or to a header whose numbers they know only at the end.  So pieces are
kept as runs that ascend, whole runs are put in order, and only where runs overlap are pieces looked at one by
one: by a sweep over all of them, in time n log n.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import chain, pairwise

from vmbus.errors import DumpError

__all__ = ["MOST_TANGLED", "PieceIndex"]

#: The most pieces in runs that overlap each other: each costs 100 bytes while they are taken apart.
MOST_TANGLED = 1 << 22

#: Numbers of pieces, in the order in which they were added: from the first up to, and without, the second.
PieceRun = tuple[int, int]


class PieceIndex:
    """Pieces of a file, added in any order; after `settle` sorted by where they start, and disjoint.

    starts, ends   of each piece, in the file that they make
    places         where its bytes are

    >>> index = PieceIndex()
    >>> index.add(0, 100, 1000)
    >>> index.add(20, 30, 2000)
    >>> index.settle()
    >>> list(zip(index.starts, index.ends, index.places))
    [(0, 20, 1000), (20, 30, 2000), (30, 100, 1030)]
    """

    def __init__(self) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.places = array("Q")
        self._turns = array("Q")  # the pieces that start before the end of the piece added before
        self._last = 0

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, place: int) -> None:
        """A piece that is not empty, and overrides what was added before."""
        if start < self._last:
            self._turns.append(len(self.starts))
        self._last = end
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(place)

    def settle(self) -> None:
        """Put the pieces in order, and leave of each what no later one overrides.

        Raises DumpError where more than MOST_TANGLED pieces would have to be taken apart.
        """
        if not self._turns:
            return
        settled = PieceIndex()
        for runs in self._tangles():
            self._settle_runs(runs, settled)
        self.starts, self.ends, self.places = settled.starts, settled.ends, settled.places
        self._turns = array("Q")

    def _tangles(self) -> Iterator[list[PieceRun]]:
        """The runs in order of where they start, those that overlap together."""
        edges = [0, *self._turns, len(self)]
        runs = sorted(pairwise(edges), key=lambda run: self.starts[run[0]])
        together: list[PieceRun] = []
        reached = 0
        for run in runs:
            if together and self.starts[run[0]] >= reached:
                yield together
                together = []
            together.append(run)
            reached = max(reached, self.ends[run[1] - 1])
        yield together

    def _settle_runs(self, runs: list[PieceRun], settled: PieceIndex) -> None:
        """What is left of runs that overlap.

        Mostly they are one long run and a few pieces that correct it, so that its pieces before those, and
        behind them, can stay as they are.
        """
        if len(runs) == 1:
            settled._take(self, *runs[0])
            return
        longest = max(runs, key=lambda run: run[1] - run[0])
        others = [run for run in runs if run is not longest]
        first = min(self.starts[run[0]] for run in others)
        last = max(self.ends[run[1] - 1] for run in others)
        begin = bisect_right(self.ends, first, *longest)
        end = bisect_left(self.starts, last, *longest)
        tangled = [*others, (begin, max(begin, end))]
        count = sum(run[1] - run[0] for run in tangled)
        if count > MOST_TANGLED:
            raise DumpError(
                f"has {count} records in an order that would have to be taken apart, and {MOST_TANGLED} is the "
                f"most; `makedumpfile -R` makes a plain file of it"
            )
        settled._take(self, longest[0], begin)
        self._sweep(chain.from_iterable(range(*run) for run in tangled), settled)
        settled._take(self, max(begin, end), longest[1])

    def _take(self, other: PieceIndex, begin: int, end: int) -> None:
        """Append pieces of another index as they are."""
        self.starts += other.starts[begin:end]
        self.ends += other.ends[begin:end]
        self.places += other.places[begin:end]

    def _sweep(self, numbers: Iterable[int], settled: PieceIndex) -> None:
        """What is left of these pieces: anywhere, the one that was added last counts.

        `active` has those that start at or before `at`, negative so that the last one added comes first.
        """
        starts, ends = self.starts, self.ends
        order = sorted(numbers, key=starts.__getitem__)
        active: list[int] = []
        at = following = 0
        while active or following < len(order):
            if not active:
                at = starts[order[following]]
            while following < len(order) and starts[order[following]] <= at:
                heappush(active, -order[following])
                following += 1
            while active and ends[-active[0]] <= at:
                heappop(active)
            if active:
                latest = -active[0]
                stop = ends[latest]
                if following < len(order):
                    stop = min(stop, starts[order[following]])
                settled._append(at, stop, self.places[latest] + at - starts[latest])
                at = stop

    def _append(self, start: int, end: int, place: int) -> None:
        """Add a part of a piece; with the part before it as one, where it goes on."""
        if self.starts and self.ends[-1] == start and self.places[-1] + start - self.starts[-1] == place:
            self.ends[-1] = end
            return
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(place)
