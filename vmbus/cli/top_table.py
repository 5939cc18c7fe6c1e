"""What `vmbus top` shows, as lines of text: for any width and height, and without a terminal.

Of a screen that is too small, this stays longest: the selected row; the line that says what is shown; the
headings; more rows; a line of keys; and three lines that tell more of the selected row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vmbus.uio import STATES, ChannelRow, Fill

from .output import printable
from .top_columns import Chosen, choose_columns
from .top_help import HELP, columns_explained, in_two_columns
from .top_text import Bars, count_text, cut, fill_text, folds, pad, width_of
from .top_view import Picture, View

__all__ = ["Line", "Part", "Style", "once_lines", "screen_lines"]

#: From so many lines on the screen ends with a line of keys, and from so many with more of the selected row.
HEIGHT_FOR_KEYS, HEIGHT_FOR_DETAILS = 6, 16

DETAIL_LINES = 3


#: A ring that is fuller than this is marked; and one that is nearly full otherwise.
HALF_FULL, NEARLY_FULL = 0.5, 0.9

KEYS = "q quit  h help  / filter  s sort  r reverse  p pause  i hide quiet  +/- interval"

#: Below a part of the help that goes on.
MORE = "-- more: page down --"

#: How text looks; it means nothing that the text does not say.
Style = str
PLAIN, TITLE, HEADING, SORTED, SELECTED, DIM, LOW, MIDDLE, HIGH = (
    "plain",
    "title",
    "heading",
    "sorted",
    "selected",
    "dim",
    "low",
    "middle",
    "high",
)


class Part(NamedTuple):
    """Text of one look."""

    text: str
    style: Style = PLAIN


class Line(NamedTuple):
    """A line of the screen."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


def line(text: str, width: int, style: Style = PLAIN) -> Line:
    """One line of one look; what is too long for it is not shown."""
    return Line((Part(cut(printable(text), width), style),))


# -- the whole screen -------------------------------------------------------------------------------


def screen_lines(view: View, picture: Picture, width: int, height: int, bars: Bars) -> list[Line]:
    """The screen: `height` lines of at most `width` cells.

    The view is settled for it: its cursor is on a row that is there, and that row on the screen.
    """
    if view.help:
        return help_lines(view, width, height)
    rows = view.visible(picture.rows)
    above, below = frame_heights(height, is_typing=view.typed is not None)
    page = height - above - below
    view.settle(rows, page)
    chosen = choose_columns(rows, width, view.sort)
    lines = [line(title(view, picture, rows, width), width, TITLE), headings(chosen, view.sort)][:above]
    for index, row in list(enumerate(rows))[view.top : view.top + page]:
        lines.append(
            selected_line(row, chosen, width, bars) if index == view.index else row_line(row, chosen, bars)
        )
    if not rows:
        lines += folded(why_empty(view, picture), width)[:page]
    lines += [line("", width)] * (above + page - len(lines))
    return lines + footer(view, rows, width, below)


def frame_heights(height: int, *, is_typing: bool) -> tuple[int, int]:
    """How many lines stand above the rows, and how many below."""
    below = DETAIL_LINES if height >= HEIGHT_FOR_DETAILS else 0
    if is_typing or height >= HEIGHT_FOR_KEYS:
        below += 1
    return max(0, min(2, height - below - 1)), below


def title(view: View, picture: Picture, rows: Sequence[ChannelRow], width: int) -> str:
    """The line that says what is shown, without what there is no room for."""
    hidden = len(picture.rows) - len(rows)
    channels = f"{len(rows)} of {len(picture.rows)}" if hidden else str(len(rows))
    order = f"by {view.sort}{', reversed' if view.reverse else ''}"
    parts = [
        (7, "vmbus top"),
        (6, picture.clock),
        (2, f"{counted(len(picture.sample.devices), 'device')}, {counted(channels, 'channel')}"),
        (5, f"every {view.interval:g} s"),
        (4, order),
        (3, f"filter {view.current_filter}" if view.current_filter else ""),
        (1, "quiet hidden" if view.hide_quiet else ""),
        (0, "PAUSED" if view.paused else ""),
    ]
    wanted: set[int] = set()
    for importance, text in sorted(parts):
        together = [part for rank, part in parts if part and (rank in wanted or rank == importance)]
        if text and width_of("  ".join(together)) <= width:
            wanted.add(importance)
    return "  ".join(text for rank, text in parts if rank in wanted)


def counted(number: int | str, what: str) -> str:
    """
    >>> counted(1, "device"), counted("2 of 3", "channel")
    ('1 device', '2 of 3 channels')
    """
    return f"{number} {what}{'' if number in (1, '1') else 's'}"


def why_empty(view: View, picture: Picture) -> str:
    """What stands where there is no row."""
    if picture.sample.problem is not None:
        return picture.sample.problem
    if not picture.sample.devices:
        return "no device"
    if not picture.rows:
        return "no channel"
    if view.current_filter:
        return f"no channel matches {view.current_filter}"
    return "every channel is quiet (i shows them)"


def folded(text: str, width: int) -> list[Line]:
    """All of a text, in as many lines as it takes, and words whole where they are no longer than a line."""
    return [line(one, width) for one in folds(printable(text), width)]


def footer(view: View, rows: Sequence[ChannelRow], width: int, height: int) -> list[Line]:
    """The lines below the rows: more of the selected one, and the keys or what is typed."""
    lines = details(rows[view.index], width) if rows else [line("", width)] * DETAIL_LINES
    if view.typed is None:
        keys = line(KEYS, width, DIM)
    else:
        start, typed = "filter: ", printable(view.typed) + "_"
        while typed and width_of(start + typed) > width:  # the end is what is being typed
            start, typed = (start[1:], typed) if start else (start, typed[1:])
        keys = line(start + typed, width, TITLE)
    return [*lines, keys][-height:] if height else []


def details(row: ChannelRow, width: int) -> list[Line]:
    """What there is no column for, or no room."""
    device, channel = row.device, row.channel
    state = STATES.get(device.state, str(device.state)) if device.state is not None else "unknown"
    totals = {name: count_text(counter.total) for name, counter in row.counters.items()}
    first = [
        f"{device.name} {channel.relid}",
        device.instance_id,
        state,
        device.driver or "no driver",
        *([device.uio] if device.uio else []),
        *device.carried,
    ]
    second = [
        f"out {fill_in_bytes(row.outbound)}",
        f"in {fill_in_bytes(row.inbound)}",
        f"int {totals['interrupts']}",
        f"evnt {totals['events']}",
        f"full {totals['out_full_total']}",
        f"first {totals['out_full_first']}",
        f"infull {totals['intr_in_full']}",
        f"empty {totals['intr_out_empty']}",
    ]
    lines = [line(one, width) for parts in (first, second) for one in flowing(parts, width)]
    return (lines + [line("", width)] * DETAIL_LINES)[:DETAIL_LINES]


def flowing(parts: Sequence[str], width: int) -> list[str]:
    """The parts in lines, each part whole where it is no longer than a line."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}  {part}"
        if width_of(printable(longer)) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def fill_in_bytes(fill: Fill) -> str:
    about = "~" if fill.assumed else ""
    return f"{count_text(fill.used)}/{about}{count_text(fill.data_size)}"


def help_lines(view: View, width: int, height: int) -> list[Line]:
    """The help, from the line on that the user has come to; the last line says where there is more."""
    text = [*in_two_columns(HELP, width), "", *columns_explained(width)]
    page = height if len(text) <= height else height - 1
    view.page = max(1, page)
    view.help_top = max(0, min(view.help_top, len(text) - page))
    shown = text[view.help_top : view.help_top + page]
    lines = [line(one, width) for one in shown + [""] * (height - len(shown))]
    if page and view.help_top + page < len(text):
        lines[-1] = line(MORE, width, DIM)
    return lines


# -- the table --------------------------------------------------------------------------------------


def headings(chosen: list[Chosen], by: str) -> Line:
    """The line above the columns; that of the one that rows are sorted by stands out."""
    parts: list[Part] = []
    for one, width in chosen:
        if parts:
            parts.append(Part(" ", HEADING))
        parts.append(Part(pad(one.heading, width, right=one.right), SORTED if one.name == by else HEADING))
    return Line(tuple(parts))


def row_line(row: ChannelRow, chosen: list[Chosen], bars: Bars) -> Line:
    """One row of the table."""
    parts: list[Part] = []
    for one, width in chosen:
        if parts:
            parts.append(Part(" "))
        if one.text is None:
            fill = row.outbound if one.name == "out" else row.inbound
            parts.append(Part(fill_text(fill, row.channel.is_open, width, bars), fill_style(row, fill)))
        else:
            parts.append(Part(pad(one.text(row), width, right=one.right), cell_style(row, one.name)))
    return Line(tuple(parts))


def selected_line(row: ChannelRow, chosen: list[Chosen], width: int, bars: Bars) -> Line:
    return Line((Part(pad(row_line(row, chosen, bars).text, width), SELECTED),))


def fill_style(row: ChannelRow, fill: Fill) -> Style:
    if fill.is_broken:
        return HIGH
    if fill.fraction is None:
        return PLAIN if row.channel.is_open else DIM
    return LOW if fill.fraction < HALF_FULL else MIDDLE if fill.fraction < NEARLY_FULL else HIGH


def cell_style(row: ChannelRow, name: str) -> Style:
    if not row.channel.is_open:
        return DIM
    return HIGH if name == "full/s" and row.counters["out_full_total"].rate else PLAIN


def once_lines(view: View, picture: Picture, width: int | None, bars: Bars) -> Iterable[str]:
    """One table as text: every row, and where the width is None every column."""
    rows = view.visible(picture.rows)
    yield once_title(view, picture, rows)
    if not rows:
        yield why_empty(view, picture)
        return
    chosen = choose_columns(rows, width, view.sort)
    yield headings(chosen, view.sort).text.rstrip()
    for row in rows:
        yield row_line(row, chosen, bars).text.rstrip()


def once_title(view: View, picture: Picture, rows: Sequence[ChannelRow]) -> str:
    over = "no rates" if picture.seconds is None else f"rates over {picture.seconds:.1f} s"
    channels = f"{len(rows)} of {len(picture.rows)}" if len(rows) < len(picture.rows) else str(len(rows))
    return f"{counted(len(picture.sample.devices), 'device')}, {counted(channels, 'channel')}, {over}"
