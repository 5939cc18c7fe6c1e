"""What a user of `vmbus top` has chosen: the order, the filter, the row, and whether time stands still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmbus.uio import ChannelRow, Sample

from .top_columns import COLUMN_NAMES, sorted_rows

__all__ = ["Picture", "View", "matches"]

#: What + and - step through, in seconds.
INTERVALS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass
class View:
    """The choices.

    sort, reverse   the column, and whether the other way round
    filter          only rows that match it
    typed           the filter while it is typed, and then the one that counts
    paused          whether the same sample stays
    interval        seconds between samples
    hide_quiet      whether closed channels and those where nothing moves are left out
    help            whether the help is shown; help_top is its first line on the screen
    selected        the key of the row that the cursor stays on; None while it stays at its place, as at first
    index           where the cursor is
    top, page       the first row on the screen, and how many there are
    done            whether to leave
    """

    sort: str = "relid"
    reverse: bool = False
    filter: str = ""
    typed: str | None = None
    paused: bool = False
    interval: float = 1.0
    hide_quiet: bool = False
    help: bool = False
    help_top: int = 0
    selected: tuple[str, int] | None = None
    index: int = 0
    top: int = 0
    page: int = 1
    done: bool = False

    @property
    def current_filter(self) -> str:
        return self.filter if self.typed is None else self.typed

    def visible(self, rows: Sequence[ChannelRow]) -> list[ChannelRow]:
        """The rows to show, in order."""
        shown = [
            row
            for row in rows
            if matches(row, self.current_filter) and not (self.hide_quiet and row.is_quiet)
        ]
        return sorted_rows(shown, self.sort, reverse=self.reverse)

    def next_column(self, step: int) -> None:
        """Sort by the next column, or for -1 by the one before."""
        at = (COLUMN_NAMES.index(self.sort) + step) % len(COLUMN_NAMES)
        self.sort, self.reverse = COLUMN_NAMES[at], False
        self.release()

    def turn_round(self) -> None:
        """Sort the other way round."""
        self.reverse = not self.reverse
        self.release()

    def release(self) -> None:
        """Have the cursor stay on the first row, whichever that is."""
        self.selected, self.index = None, 0

    def next_interval(self, step: int) -> None:
        """Look less often, or for -1 more often."""
        if step > 0:
            self.interval = next((one for one in INTERVALS if one > self.interval), self.interval)
        else:
            self.interval = next((one for one in reversed(INTERVALS) if one < self.interval), self.interval)

    def select(self, index: int, rows: Sequence[ChannelRow]) -> None:
        """Put the cursor on a row, or on the nearest that there is."""
        self.index = max(0, min(index, len(rows) - 1))
        self.selected = rows[self.index].key if rows else None

    def settle(self, rows: Sequence[ChannelRow], page: int) -> None:
        """Follow the selected row to where it is now; of one that is gone, keep the place.

        page   rows that the screen has room for
        """
        if self.selected is None:
            self.index = max(0, min(self.index, len(rows) - 1))
        else:
            places = [index for index, row in enumerate(rows) if row.key == self.selected]
            self.select(places[0] if places else self.index, rows)
        self.page = max(1, page)
        lowest = max(0, len(rows) - self.page)
        self.top = max(self.index - self.page + 1, min(self.top, self.index, lowest))


@dataclass
class Picture:
    """What there is to see: the channels of a sample, with rates since the one before.

    seconds   between the two
    clock     the time of day, as text
    """

    sample: Sample
    rows: list[ChannelRow] = field(default_factory=list)
    seconds: float | None = None
    clock: str = ""


def matches(row: ChannelRow, text: str) -> bool:
    """Whether every word of a filter is found in a row.

    A word is part of the name of the device, its driver or node, or what it carries; the relid; or what the instance
    begins with.
    """
    device = row.device
    names = [device.name, device.driver or "", device.uio or "", *device.carried]
    known = device.device_class
    if known is not None:
        names += known.other_names
    return all(
        any(word in name.lower() for name in names)
        or word == str(row.channel.relid)
        or device.instance_id.lower().startswith(word)
        for word in text.lower().split()
    )
