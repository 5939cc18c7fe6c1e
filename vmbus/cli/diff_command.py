"""Compare two snapshots of a ring, the earlier one first: what moved, what was written and read in between,
and whether the ring is stuck.

Stuck is a ring where nothing moved and a signal is owed.  Only two snapshots show it, and the more time was
between them, the surer it is: a second is long for a ring.

The rings are looked for in A, as `vmbus inspect` does, and B has to have them at the same places, or with
--offset-b somewhere else.  A and B may be one file.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from vmbus.errors import DumpError
from vmbus.inspection import DIFF_SCHEMA, Dump, Report, Selection, diff_reports, inspect_memory, memory_of

from .dump_input import dump_of
from .output import UsageError, number, print_json, print_lines
from .output import report as complain
from .ring_options import add_ring_options, rings_of

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus diff before.bin after.bin
  vmbus diff monday.raw tuesday.raw --address 0x3f2000 --data-size 16K --json
  vmbus diff both.bin both.bin --offset 0 --offset-b 20K --data-size 16K

written and read list packets; how often the ring was filled in between nobody can tell.  rules that say
that a signal is owed: reader_needs_signal (packets wait and the mask is 0), writer_needs_signal (there is
the room that was asked for).  They speak of the control words as they are.  signal_reader_after_write and
signal_writer_after_read speak of the moment of a commit: where both snapshots prove such a moment, the
finding signal-was-due names it.

numbers: 4096, 0x1000, 4_096, 4K (also M and G, all binary).
exit status: 0 done; 1 done, and a ring is stuck or corrupt, or another finding is an error or a warning;
2 could not be done.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("a", metavar="A", help="the earlier dump; - for standard input")
    parser.add_argument("b", metavar="B", help="the later one")
    add_ring_options(parser)
    parser.add_argument(
        "--offset-b",
        type=number,
        metavar="N",
        help="where the first ring's control page is in B, if not where it is in A",
    )
    form = parser.add_argument_group("how to show it")
    form.add_argument("--json", action="store_true", help=f"one document, {DIFF_SCHEMA}")


def execute(arguments: Namespace) -> int:
    """Compare and print; 1 when a ring is stuck, or something is wrong with it."""
    check_usage(arguments)
    before = options_for(arguments, arguments.a)
    earlier, later = dump_of(before), dump_of(options_for(arguments, arguments.b))
    found = rings_of(before, earlier, Selection(limit=0))
    failed: list[DumpError] = []
    report = diff_reports(found, same_rings(later, found, arguments.offset_b, failed.append))
    if arguments.json:
        print_json(report.to_json())
    else:
        print_lines(report.to_lines())
    for error in failed:
        complain(f"{error}; that ring is not compared")
    if failed:
        return 2
    return 0 if report.is_sound else 1


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError where A and B are one snapshot, which says nothing about itself."""
    if arguments.a == arguments.b == "-":
        raise UsageError("standard input can be read once, and both A and B are -")
    files = (arguments.a, arguments.b)
    if arguments.offset_b is None and all(map(os.path.isfile, files)) and os.path.samefile(*files):
        raise UsageError("A and B are one file; --offset-b says where the later snapshot is in it")


def options_for(arguments: Namespace, path: str) -> Namespace:
    """The command line as `inspect` would have it for one of the files."""
    return Namespace(**{**vars(arguments), "file": path, "sample": False})


def same_rings(
    dump: Dump, earlier: Report, address: int | None, on_error: Callable[[DumpError], object]
) -> Report:
    """The rings of another dump at the places where an earlier one has them.

    address    where the first of them is; None: at the same place
    on_error   told of a ring that cannot be read, where others can

    Raises DumpError when none can.
    """
    shift = 0 if address is None else address - earlier.rings[0].place.address
    rings = []
    for one in earlier.rings:
        place = one.place._replace(findings=())
        if shift:
            if place.pages is not None:
                raise UsageError("--offset-b is for rings in one piece, and these are scattered")
            place = place._replace(address=place.address + shift)
        if place.address < 0:
            raise UsageError(f"--offset-b {address:#x} puts a ring before the start of B")
        if dump.format == "raw" and place.pages is None and place.end > dump.size:
            raise DumpError(
                f"the ring at {place.address:#x} would end at {place.end:#x}, and the file has {dump.size} bytes",
                path=dump.path,
                place=dump.size,
            )
        try:
            rings.append(inspect_memory(memory_of(dump, place), place=place, selection=Selection(limit=0)))
        except DumpError as error:
            if len(earlier.rings) == 1:
                raise
            on_error(error)
    return Report(dump.path, dump.format, dump.size, rings)
