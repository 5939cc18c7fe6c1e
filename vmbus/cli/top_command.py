"""Watch the channels of this guest: how full their rings are, who signals how often, and who finds no room.

A live view on a terminal (h shows its keys); with --once a table, with --json objects for scripts.  Nothing is
opened and nothing written.  What the kernel does not tell is shown as -.
"""

from __future__ import annotations

import errno
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from time import monotonic, sleep

from vmbus.errors import DeviceError
from vmbus.uio import find_devices, take_sample

from .output import UsageError, print_json_lines, print_lines
from .top_columns import COLUMN_NAMES
from .top_help import columns_explained
from .top_json import SCHEMA, picture_to_json
from .top_loop import picture_of, watch
from .top_table import once_lines
from .top_text import ASCII, BLOCKS, Bars
from .top_view import Picture, View

__all__ = ["add_arguments", "execute"]

#: Seconds between two samples.
SHORTEST, LONGEST = 0.1, 3600.0

#: Cells of a line of `--help`.
HELP_WIDTH = 76

EXAMPLES = """\
examples:
  vmbus top
  vmbus top --sort int/s --filter network
  vmbus top --once                                two samples, a second apart, and one table
  vmbus top --once --interval 0                   one sample: no rates
  vmbus top --once --interval 10 --count 6        six tables, ten seconds apart
  vmbus top --json --count 60 | jq -c '.channels[] | [.class_name, .relid, .rates.interrupts]'

--once looks twice, an interval apart, so that there are rates; so does --json before its first object.
Both show one sample unless --count asks for more.

columns, by whose headings --sort goes; /s: a second:
{columns}

exit status: 0 done; 1 done, and with --once or --json a ring has an index that no ring can have, or no channel
passes the filter; 2 could not be done, such as where there is no VMBus.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES.format(columns="\n".join(f"  {one}" for one in columns_explained(HELP_WIDTH)))
    parser.add_argument(
        "--interval",
        type=interval,
        metavar="SECONDS",
        default=1.0,
        help=f"between two samples, from {SHORTEST} (default 1)",
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after so many samples have been shown")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        default="relid",
        type=sort_column,
        help="by a column, see below (default relid)",
    )
    parser.add_argument("--reverse", action="store_true", help="sort the other way round")
    parser.add_argument(
        "--filter",
        metavar="TEXT",
        default="",
        help="only channels that match every word: a part of the device's kind, driver, node, interface or disk; the "
        "relid; or what the instance begins with",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="look at a copy of another machine's /sys and /proc, such as a support archive; default /",
    )
    form = parser.add_argument_group("how to show it")
    form.add_argument("--once", action="store_true", help="print one table, or --count of them")
    form.add_argument("--json", action="store_true", help=f"an object a line, {SCHEMA}")


def sort_column(text: str) -> str:
    """The name of a column: its heading, in letters of any size."""
    if text.lower() in COLUMN_NAMES:
        return text.lower()
    near = get_close_matches(text.lower(), COLUMN_NAMES, 1, 0.7)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(COLUMN_NAMES)}"
    raise ArgumentTypeError(f"{text!r} is no column; {hint}")


def interval(text: str) -> float:
    """Seconds, from the shortest to the longest; or 0."""
    with suppress(ValueError):
        seconds = float(text)
        if isfinite(seconds) and (seconds == 0 or SHORTEST <= seconds <= LONGEST):
            return seconds
    raise ArgumentTypeError(f"{text!r}: from {SHORTEST} to {LONGEST:.0f} seconds, or 0 with --once")


def count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text[:18]) < 1 or len(text) > 18:
        raise ArgumentTypeError(f"{text!r}: a number of samples, from 1")
    return int(text)


def execute(arguments: Namespace) -> int:
    """Show; 1 where a table or an object has a broken ring, or the filter leaves nothing to show."""
    check_usage(arguments)
    view = View(
        sort=arguments.sort, reverse=arguments.reverse, filter=arguments.filter, interval=arguments.interval
    )
    if arguments.json or arguments.once:
        return print_pictures(arguments, view)
    find_devices(arguments.root)  # DeviceError where there is no VMBus; later it may go
    from .top_screen import open_screen

    with open_screen() as screen:
        watch(screen, view, arguments.root, count=arguments.count)
    return 0


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    is_once = (arguments.once or arguments.json) and arguments.count in (None, 1)
    if arguments.interval == 0 and not is_once:
        raise UsageError("--interval 0 is one sample, for --once or --json")


def print_pictures(arguments: Namespace, view: View) -> int:
    broken, found = False, not view.filter

    def noticed() -> Iterator[Picture]:
        nonlocal broken, found
        for picture in pictures(arguments.root, arguments.interval, arguments.count or 1):
            broken = broken or any(row.outbound.is_broken or row.inbound.is_broken for row in picture.rows)
            found = found or bool(view.visible(picture.rows))
            yield picture

    if arguments.json:
        print_json_lines(picture_to_json(view, picture) for picture in noticed())
    else:
        for number, picture in enumerate(noticed()):
            print_lines([""] * bool(number) + [*once_lines(view, picture, *paper())])
            sys.stdout.flush()
    return 1 if broken or not found else 0


def pictures(root: str, interval: float, count: int) -> Iterator[Picture]:
    """So many samples, an interval apart; DeviceError where there is no VMBus before the first is shown."""
    before = take_sample(root)
    if before.problem is not None:
        raise DeviceError(errno.ENODEV, before.problem)
    if interval == 0:
        yield picture_of(before, None, root)
        return
    start = before.at
    for number in range(1, count + 1):
        sleep(max(0.0, start + number * interval - monotonic()))
        sample = take_sample(root)
        if count == 1 and sample.problem is not None:
            raise DeviceError(errno.ENODEV, sample.problem)
        yield picture_of(sample, before, root)
        before = sample


def paper() -> tuple[int | None, Bars]:
    """How wide lines may be, None for as wide as they are; and what standard output can show bars with."""
    import os

    try:
        "".join(BLOCKS).encode(sys.stdout.encoding or "ascii")
        bars = BLOCKS
    except UnicodeError:
        bars = ASCII
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):  # not a terminal
        width = 0
    return width or None, bars
