"""What `vmbus top` does all the time: look, show, wait for a key or for the next look.

The screen, the keys and the clock are arguments: tests bring their own.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, strftime
from typing import Protocol

from vmbus.uio import Root, Sample, channel_rows, take_sample

from .top_keys import press
from .top_table import Line, screen_lines
from .top_text import Bars
from .top_view import Picture, View

__all__ = ["REDRAW", "TERMINAL_GONE", "Screen", "picture_of", "watch"]

#: What a screen may answer in place of a key: it has another size or was disturbed; its terminal is gone.
REDRAW, TERMINAL_GONE = "redraw", "terminal gone"

#: Seconds to wait for a key when nothing else is to be done.
LONG = 3600.0


class Screen(Protocol):
    """Where lines go, and keys come from."""

    @property
    def bars(self) -> Bars:
        """What it can draw bars with."""
        ...

    def size(self) -> tuple[int, int]:
        """Cells in a line, and lines."""
        ...

    def show(self, lines: list[Line]) -> None: ...

    def key(self, seconds: float) -> str | None:
        """The next key, or REDRAW, or TERMINAL_GONE; None where there is none for so long."""
        ...


def picture_of(sample: Sample, before: Sample | None, root: Root) -> Picture:
    """What a sample shows."""
    seconds = None if before is None else sample.at - before.at
    return Picture(sample, channel_rows(sample, before, root), seconds, strftime("%H:%M:%S"))


def watch(
    screen: Screen,
    view: View,
    root: Root,
    *,
    count: int | None = None,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Show the channels until the user leaves, or `count` samples have been shown, each for an interval."""
    picture = picture_of(take_sample(root, clock), None, root)
    due = picture.sample.at + view.interval
    shown = 1
    while True:
        screen.show(screen_lines(view, picture, *screen.size(), screen.bars))
        key = screen.key(LONG if view.paused else max(0.0, due - clock()))
        interval = view.interval
        if key == TERMINAL_GONE:
            return
        if key is not None and key != REDRAW:
            press(view, key, view.visible(picture.rows))
        if view.done:
            return
        due += view.interval - interval
        if view.paused or clock() < due:
            continue
        if shown == count:
            return
        picture = picture_of(take_sample(root, clock), picture.sample, root)
        # Where there is so much to look at that it takes longer than the interval, rest as long as it took.
        due = max(picture.sample.at + view.interval, 2 * clock() - picture.sample.at)
        shown += 1
