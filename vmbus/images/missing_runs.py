"""What an image lacks, while it is gone through in the order of addresses."""

from __future__ import annotations

from .dump import Run, State

__all__ = ["MissingRuns"]


class MissingRuns:
    """Stretches of missing memory: those in touch as one, all of them counted and the first ones listed.

    listed     the first of them, at most `most`
    places     how many there are
    counts     bytes of each state
    unlisted   bytes of those that are not listed

    >>> missing = MissingRuns(1)
    >>> for start, end in (0, 8), (8, 24), (32, 40):
    ...     missing.add(Run(start, end, State.LOST))
    >>> [(run.start, run.end) for run in missing.listed], missing.places, missing.unlisted
    ([(0, 24)], 2, 8)
    """

    def __init__(self, most: int) -> None:
        self.listed: list[Run] = []
        self.places = 0
        self.counts: dict[State, int] = {}
        self.unlisted = 0
        self._most = most
        self._last: Run | None = None

    def add(self, run: Run) -> None:
        """Note a stretch behind all those before."""
        length = run.end - run.start
        self.counts[run.state] = self.counts.get(run.state, 0) + length
        last = self._last
        goes_on = (
            last is not None and last.end == run.start and (last.state, last.why) == (run.state, run.why)
        )
        self._last = run
        self.places += not goes_on
        if self.places > self._most:
            self.unlisted += length
        elif goes_on:
            self.listed[-1] = self.listed[-1]._replace(end=run.end)
        else:
            self.listed.append(run)
