"""The columns of `vmbus top`: what stands in them, how rows are sorted by them, and which go where room is short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from vmbus.errors import CallerError
from vmbus.uio import ChannelRow

from .output import printable
from .top_text import UNKNOWN, count_text, rate_text, width_of

__all__ = ["COLUMNS", "COLUMN_NAMES", "Chosen", "Column", "choose_columns", "column", "sorted_rows"]

#: Cells between two columns.
GAP = 1

#: The longest text of a cell; instance GUIDs have 36 characters.
WIDEST = 36

#: A bar with its share has so many cells at least, however short the line; so many where there is room for both
#: bars and numbers; and so many at most.
NARROWEST_BAR, USUAL_BAR, WIDEST_BAR = 9, 13, 25

#: Of the cells of a line, one bar may always have one in so many.
BAR_PART = 6


class Column(NamedTuple):
    """One column.

    heading        above it, and in small letters its name: what rows are sorted by
    meaning        for the help
    importance     the lowest number stays longest
    value          what rows are sorted by; None comes last
    text           in a cell; None for a column of bars
    right          whether texts stand at the right, as numbers do
    largest_first  how rows are sorted by it unless reversed
    least          cells that it has at least, so that a number that grows moves nothing
    """

    heading: str
    meaning: str
    importance: int
    value: Callable[[ChannelRow], Any]
    text: Callable[[ChannelRow], str] | None
    right: bool = True
    largest_first: bool = False
    least: int = 1

    @property
    def name(self) -> str:
        return self.heading.lower()


class Chosen(NamedTuple):
    """A column that is shown, and how many cells it has."""

    column: Column
    width: int


def name_column(
    heading: str, meaning: str, importance: int, value: Callable[[ChannelRow], str | None]
) -> Column:
    def text(row: ChannelRow) -> str:
        return printable(value(row) or UNKNOWN)

    return Column(heading, meaning, importance, value, text, right=False)


def number_column(
    heading: str,
    meaning: str,
    importance: int,
    value: Callable[[ChannelRow], int | None],
    **more: Any,
) -> Column:
    return Column(heading, meaning, importance, value, lambda row: count_text(value(row)), **more)


def rate_column(heading: str, meaning: str, importance: int, counter: str) -> Column:
    def rate(row: ChannelRow) -> float | None:
        return row.counters[counter].rate

    return Column(
        heading,
        meaning,
        importance,
        rate,
        lambda row: rate_text(rate(row)),
        largest_first=True,
        least=6,
    )


def total_column(heading: str, meaning: str, importance: int, counter: str) -> Column:
    return number_column(
        heading, meaning, importance, lambda row: row.counters[counter].total, largest_first=True
    )


def masks(row: ChannelRow) -> tuple[int, int] | None:
    """Both interrupt masks, None where there are none."""
    out_mask, in_mask = row.channel.out_mask, row.channel.in_mask
    return None if out_mask is None or in_mask is None else (out_mask, in_mask)


def masks_text(row: ChannelRow) -> str:
    return f"{count_text(row.channel.out_mask)}/{count_text(row.channel.in_mask)}"


def pending_text(row: ChannelRow) -> str:
    return UNKNOWN if row.is_signal_pending is None else "yes" if row.is_signal_pending else "no"


#: In the order in which they stand.
COLUMNS = (
    name_column("DEVICE", "kind of device", 0, lambda row: row.device.name),
    number_column("RELID", "number of the channel on the bus", 1, lambda row: row.channel.relid),
    number_column("SUB", "subchannel; 0 is the primary one", 8, lambda row: row.channel.subchannel_id),
    number_column("CPU", "processor that is interrupted", 10, lambda row: row.channel.cpu),
    Column(
        "OUT",
        "how full the ring to the host is; ~25%: of a size that is a guess; <1%: not empty",
        2,
        lambda row: row.outbound.fraction,
        None,
        right=False,
        largest_first=True,
    ),
    Column(
        "IN",
        "how full the ring from the host is",
        3,
        lambda row: row.inbound.fraction,
        None,
        right=False,
        largest_first=True,
    ),
    Column(
        "MASK",
        "interrupt masks, of OUT by the host and of IN by the guest; 0/1: the guest wants no signals now",
        7,
        masks,
        masks_text,
        largest_first=True,
    ),
    Column(
        "PEND",
        "whether a signal waits in the monitor page for the host; -: this channel uses none",
        9,
        lambda row: row.is_signal_pending,
        pending_text,
        largest_first=True,
    ),
    rate_column("INT/s", "signals from the host", 4, "interrupts"),
    rate_column("EVNT/s", "signals to the host by hypercall", 5, "events"),
    rate_column("FULL/s", "writes that found no room", 6, "out_full_total"),
    rate_column("FIRST/s", "times that the ring to the host became full", 13, "out_full_first"),
    rate_column("INFULL/s", "signals to the host that it has room again", 14, "intr_in_full"),
    rate_column("EMPTY/s", "signals to the host that its ring was empty", 15, "intr_out_empty"),
    name_column("UIO", "node of uio_hv_generic", 11, lambda row: row.device.uio),
    name_column("DRIVER", "what has the device", 12, lambda row: row.device.driver),
    number_column(
        "OUTBYTES",
        "bytes that wait for the host",
        16,
        lambda row: row.outbound.used,
        largest_first=True,
    ),
    number_column(
        "INBYTES",
        "bytes that wait for the guest",
        17,
        lambda row: row.inbound.used,
        largest_first=True,
    ),
    total_column("FULL", "as FULL/s, since the channel was opened", 18, "out_full_total"),
    total_column("FIRST", "as FIRST/s", 19, "out_full_first"),
    total_column("INFULL", "as INFULL/s", 20, "intr_in_full"),
    total_column("EMPTY", "as EMPTY/s", 21, "intr_out_empty"),
    total_column("INTERRUPTS", "as INT/s", 22, "interrupts"),
    total_column("EVENTS", "as EVNT/s", 23, "events"),
    name_column("INSTANCE", "name of the device on the bus", 24, lambda row: row.device.instance_id),
)

COLUMN_NAMES = tuple(one.name for one in COLUMNS)


def column(name: str) -> Column:
    """The column of that name; CallerError where there is none."""
    for one in COLUMNS:
        if one.name == name:
            return one
    raise CallerError(
        f"{name!r} is no column; there is {', '.join(COLUMN_NAMES)}",
        argument="column",
        value=name,
        limit=COLUMN_NAMES,
    )


def sorted_rows(rows: Iterable[ChannelRow], by: str, *, reverse: bool = False) -> list[ChannelRow]:
    """Rows in the order of a column; what is not known comes last, however the others are sorted."""
    one = column(by)
    known = [(one.value(row), row) for row in rows]
    missing = [row for value, row in known if value is None]
    known = [pair for pair in known if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=one.largest_first != reverse)
    return [row for _, row in known] + missing


def choose_columns(rows: list[ChannelRow], width: int | None, by: str) -> list[Chosen]:
    """The columns that there is room for; None: for all of them.

    The least important ones go first, but the one that rows are sorted by is the last to go beside the device.
    """
    chosen: list[Chosen] = []
    room = width
    bar = USUAL_BAR if width is None else max(NARROWEST_BAR, min(USUAL_BAR, width // BAR_PART))
    for one in sorted(COLUMNS, key=lambda one: (one.importance > 0, one.name != by, one.importance)):
        needed = bar if one.text is None else least_width(one, rows)
        if room is not None:
            if chosen and needed + GAP > room:
                break
            needed = min(needed, room)
            room -= needed + (GAP if chosen else 0)
        chosen.append(Chosen(one, needed))
    chosen.sort(key=lambda pair: COLUMNS.index(pair.column))
    return chosen if room is None else widen_bars(chosen, room)


def least_width(one: Column, rows: list[ChannelRow]) -> int:
    """Cells for the longest text of a column."""
    text = one.text
    widest = 0 if text is None else max((width_of(text(row)) for row in rows), default=0)
    return min(WIDEST, max(len(one.heading), one.least, widest))


def widen_bars(chosen: list[Chosen], room: int) -> list[Chosen]:
    """Give what is left to the bars, in equal parts."""
    bars = sum(pair.column.text is None for pair in chosen)
    return [
        Chosen(one, min(WIDEST_BAR, width + room // bars) if one.text is None else width)
        for one, width in chosen
    ]
