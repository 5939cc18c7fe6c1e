"""The help of `vmbus top`: what its keys do, and what stands in its columns; for lines of any length."""

from __future__ import annotations

from collections.abc import Sequence

from .top_columns import COLUMNS
from .top_text import folds

__all__ = ["HELP", "columns_explained", "in_two_columns"]

#: The help explains beside what it explains only where there are so many cells for it.
LEAST_BESIDE = 30

#: What each key does.
HELP = (
    ("s or >, S or <", "sort by the next column, by the one before"),
    ("r", "sort the other way round"),
    (
        "/",
        "filter anew: words that are part of a device's kind, driver, node, interface or disk, its relid, or what "
        + "its instance begins with; enter keeps what was typed, escape the filter from before",
    ),
    ("escape", "no filter"),
    ("i", "hide closed channels, and those where nothing happens"),
    ("p or space", "pause"),
    ("+, -", "look less often, more often"),
    ("up, down, k, j", "one row; page up, page down: one page"),
    ("home or g", "stay on the first row, whichever that is"),
    ("end or G", "the last row"),
    ("ctrl-l", "draw the screen anew"),
    ("h or ?", "this help; again, or another key: back"),
    ("q", "quit"),
)


def columns_explained(width: int) -> list[str]:
    return in_two_columns([(one.heading, one.meaning) for one in COLUMNS], width)


def in_two_columns(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    """What is explained, and beside it what it is; below it where there is little room."""
    left = max(len(name) for name, _ in entries) + 2
    if width < left + LEAST_BESIDE:
        return [one for name, meaning in entries for one in [name, *indented(meaning, width, 2)]]
    lines = []
    for name, meaning in entries:
        first, *rest = indented(meaning, width, left)
        lines += [name + first[len(name) :], *rest]
    return lines


def indented(text: str, width: int, blanks: int) -> list[str]:
    return [" " * blanks + one for one in folds(text, max(1, width - blanks))]
