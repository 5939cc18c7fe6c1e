"""Text in the cells of a terminal: how wide it is, and how numbers are written where there is little room.

A character takes one cell, one of East Asia or an emoji two, and a mark that combines with the one before it
none.  (Unicode Standard Annex 11)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import category, east_asian_width

from vmbus.uio import Fill

__all__ = [
    "ASCII",
    "BLOCKS",
    "HALVES",
    "Bars",
    "count_text",
    "cut",
    "fill_text",
    "pad",
    "rate_text",
    "width_of",
]

#: What stands for a value that is not known.
UNKNOWN = "-"

SUFFIXES = "kMGTPE"

#: Cells behind a bar: a blank, and from 0% to 100%.
SHARE_WIDTH = 5


class Bars(NamedTuple):
    """The characters of a bar; `parts` are for a cell that is not quite full, the emptiest first."""

    full: str
    empty: str
    parts: str = ""


#: HALVES are for fonts of 256 characters, such as that of the console.
BLOCKS, HALVES, ASCII = Bars("█", "░", "▏▎▍▌▋▊▉"), Bars("█", "░", "▌"), Bars("#", ".")


def width_of(text: str) -> int:
    """How many cells `text` takes.

    >>> width_of("netvsc"), width_of("网")
    (6, 2)
    """
    return len(text) if text.isascii() else sum(map(character_width, text))


def character_width(character: str) -> int:
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of the beginning of `text` as there is room for.

    >>> cut("netvsc", 4), cut("网网", 3)
    ('netv', '网')
    """
    if text.isascii():
        return text[: max(0, width)]
    for end, character in enumerate(text):
        width -= character_width(character)
        if width < 0:
            return text[:end]
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` cut or filled with blanks, to the right where it is a number.

    >>> pad("ab", 4), pad("12", 4, right=True), pad("abcdef", 4)
    ('ab  ', '  12', 'abcd')
    """
    text = cut(text, width)
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def folds(text: str, width: int) -> Iterator[str]:
    """Lines of text, with words whole that are no longer than a line.

    >>> list(folds("is not there: /sys/bus", 7))
    ['is not', 'there:', '/sys/bu', 's']
    """
    text = text.strip()
    while text:
        first = cut(text, width) or text[0]
        if text[len(first) :].strip() and text[len(first)] != " " and " " in first:
            first = first[: first.rindex(" ")]
        yield first.rstrip()
        text = text[len(first) :].lstrip()


def count_text(number: int | None) -> str:
    """A number that may be missing."""
    return UNKNOWN if number is None else str(number)


def rate_text(rate: float | None) -> str:
    """A number a second, in six characters at most.

    >>> rate_text(0.0), rate_text(1.25), rate_text(1234.5), rate_text(2_500_000.0), rate_text(None)
    ('0', '1.2', '1234', '2500k', '-')
    """
    if rate is None:
        return UNKNOWN
    if rate == 0:
        return "0"
    if rate < 0.05:
        return "<0.1"
    if rate < 99.95:
        return f"{rate:.1f}"
    suffix = ""
    for larger in SUFFIXES:
        if rate < 99_999.5:
            break
        rate, suffix = rate / 1000, larger
    return f"{rate:.0f}{suffix}"


def fill_text(fill: Fill, is_open: bool, width: int, bars: Bars) -> str:
    """How full a ring is, as a bar and a share; ~ where the size is a guess.

    >>> fill_text(Fill(4096, 16384), True, 13, ASCII)
    '##......  25%'
    >>> fill_text(Fill(10000, 16384), True, 13, BLOCKS)
    '████▉░░░  61%'
    """
    if not is_open:
        return pad("closed", width)
    if fill.is_broken:
        return pad("wild index", width)
    fraction = fill.fraction
    if fraction is None:
        return pad(UNKNOWN if fill.used is None else f"{fill.used} bytes", width)
    share = pad(share_text(fraction, fill.assumed), SHARE_WIDTH, right=True)
    length = width - SHARE_WIDTH
    if length < 1:
        return pad(share.strip(), width, right=True)
    # To the nearest part of a cell: of a ring that holds next to nothing only the share says that it is not empty.
    steps = len(bars.parts) + 1
    full, rest = divmod(int(fraction * length * steps + 0.5), steps)
    filled = bars.full * full + bars.parts[rest - 1 : rest]
    return filled + bars.empty * (length - len(filled)) + share


def share_text(fraction: float, assumed: bool = False) -> str:
    """A share in percent.

    >>> share_text(0.0), share_text(0.001), share_text(0.456), share_text(1.0)
    ('0%', '<1%', '46%', '100%')
    """
    about = "~" if assumed else ""
    if 0 < fraction < 0.01:
        return f"{about}<1%"
    return f"{about}{fraction * 100:.0f}%"
