"""Ranges that are sorted and disjoint, and what lies in one list of them and not in another.

A range is a start and an end, which is not part of it; the unit is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["outside"]


def outside(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of `ranges` that are not `taken`; both are sorted and disjoint, and are read as they come.

    >>> list(outside([(0, 10), (20, 30)], [(2, 4), (8, 25)]))
    [(0, 2), (4, 8), (25, 30)]
    """
    others = iter(taken)
    other = next(others, None)
    for start, end in ranges:
        while start < end:
            while other and other[1] <= start:
                other = next(others, None)
            if other is None or other[0] >= end:
                yield start, end
                break
            if start < other[0]:
                yield start, other[0]
            start = other[1]
