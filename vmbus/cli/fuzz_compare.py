"""Show how Linux, OpenVMM, DPDK, FreeBSD, UEFI firmware and QEMU would each take a ring.

Each is a small model of what that code does, no more than was read of it.  Columns are implementations.  Rows:

    0x0040           bytes of payload that each takes from the packet at this offset; - where it takes none
    then             how each ends: empty, error, stalls (sees no packet though bytes are published), past in,
                     undefined (leaves the ring's memory), unknown (that code was not read)
    wakes, first     whether it then wakes the sender, having given back the first packet alone
    wakes, all       the same, having given back at once all that is published
    writes 24        what each does that has a packet of 24 bytes to write: wakes or quiet (it writes, and wakes
                     the reader or not), no room, error, undefined

A ? marks what is inferred, or not for the ring's code to say; it makes no difference.
"""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from vmbus.acceptance import (
    COMPARE_SCHEMA,
    Comparison,
    Model,
    Signal,
    Step,
    Write,
    compare,
    models_with,
)
from vmbus.errors import DumpError
from vmbus.inspection import Dump, RawDump, Report, RingPlace, Selection
from vmbus.sizes import PAGE_SIZE

from .dump_input import dump_of
from .output import UsageError, number, print_json, print_lines
from .ring_options import add_ring_options, rings_of

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus fuzz compare ring.bin
  vmbus fuzz compare ring.bin --write 4088 --packet-buffer 16384
  vmbus fuzz compare guest.core --address 0x3f2000 --json | jq '.rings[].differences[].message'
  vmbus fuzz compare --list

A raw file of whole pages is taken for a ring whatever its control words say.

exit status: 0 all agree, as far as is known; 1 they differ; 2 the IMAGE could not be read.
"""

#: Narrower than this nothing can be laid out.
LEAST_WIDTH = 40

GAP = "  "


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", nargs="?", metavar="IMAGE", help="the dump of a ring; - for standard input")
    parser.add_argument("--sample", action="store_true", help="use a dump that comes with the package")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print each model, its source and what of it is unverified, and end",
    )
    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "--write",
        type=number,
        metavar="N",
        default=24,
        help="bytes of the packet to be written, descriptor and footer included (default 24)",
    )
    asked.add_argument(
        "--packet-buffer",
        type=number,
        metavar="N",
        help="bytes that Linux copies of a packet, as the driver has it: 80 for storvsc, 16416 for hvsock, 4096 for "
        "most (default: all of it)",
    )
    asked.add_argument(
        "--caller-buffer",
        type=number,
        metavar="N",
        help="bytes that DPDK's caller has room for; it refuses a longer packet (default: any packet)",
    )
    add_ring_options(parser)
    form = parser.add_argument_group("how to show it")
    form.add_argument("--json", action="store_true", help=f"one document, {COMPARE_SCHEMA}")


def execute(arguments: Namespace) -> int:
    """Compare and print; 1 when some are known to differ."""
    models = models_with(packet_buffer=arguments.packet_buffer, caller_buffer=arguments.caller_buffer)
    if arguments.list:
        print_models(arguments, models)
        return 0
    if bool(arguments.sample) == bool(arguments.file):
        raise UsageError("which IMAGE? (- for standard input, --sample for a look at one; not both)")
    dump = dump_of(arguments)
    found = rings_in(arguments, dump)
    compared = [
        (ring.place, compare(ring.memory, write_size=arguments.write, models=models)) for ring in found.rings
    ]
    if arguments.json:
        print_json(to_json(found, compared))
    else:
        print_lines(text_lines(compared, width_of_terminal()))
    return int(not all(comparison.agree for _, comparison in compared))


def rings_in(arguments: Namespace, dump: Dump) -> Report:
    """The rings of a dump; of a raw file of whole pages that shows none, one that fills it."""
    try:
        return rings_of(arguments, dump, Selection(limit=0))
    except DumpError:
        said = (arguments.offset, arguments.address, arguments.data_size, arguments.pages)
        data_size = dump.size - arguments.header_size
        whole = isinstance(dump, RawDump) and data_size > 0 and data_size % PAGE_SIZE == 0
        if any(value is not None for value in said) or not whole:
            raise
        here = Namespace(**{**vars(arguments), "offset": 0, "data_size": data_size})
        return rings_of(here, dump, Selection(limit=0))


# -- as text ------------------------------------------------------------------------------------------


def width_of_terminal() -> int | None:
    """Characters in a line: as COLUMNS or the terminal has them; None where there is neither."""
    try:
        width = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        width = 0
    try:
        width = width if width > 0 else os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):  # ValueError: it is a stream without a file
        return None
    return max(width, LEAST_WIDTH)


def text_lines(compared: Sequence[tuple[RingPlace, Comparison]], width: int | None) -> Iterator[str]:
    """The table of each ring and what differs."""
    for count, (place, comparison) in enumerate(compared):
        if count:
            yield ""
        ring = comparison.ring
        yield f"ring at {place.address:#x}, {ring.size} bytes of data"
        yield f"  in {ring.in_offset:#06x}   out {ring.out_offset:#06x}   interrupt mask {ring.interrupt_mask:#x}"
        yield f"  pending send size {ring.pending_send_size}   features {ring.feature_bits:#x}"
        yield ""
        yield from table_lines(table_of(comparison), width)
        yield ""
        yield from difference_lines(comparison, width)


def table_of(comparison: Comparison) -> list[list[str]]:
    """The table, row by row: what a row is about, and a cell for each model."""
    readings = comparison.readings
    rows = [["", *(reading.model.name for reading in readings)]]
    taken = [{step.offset: step for step in reading.packets} for reading in readings]
    ring = comparison.ring
    offsets = sorted(
        {offset for one in taken for offset in one}, key=lambda at: (at - ring.out_offset) % ring.size
    )
    rows += [[f"{at:#06x}", *(packet_cell(one.get(at)) for one in taken)] for at in offsets]
    ends = [reading.end for reading in readings]
    rows.append(["then", *(marked(end.answer.value, end.verified) for end in ends)])
    for title, signals in (
        ("wakes, first", [reading.after_first for reading in readings]),
        ("wakes, all", [reading.after_all for reading in readings]),
    ):
        if any(signals):
            rows.append([title, *(signal_cell(signal) for signal in signals)])
    rows.append([f"writes {comparison.write_size}", *(write_cell(reading.write) for reading in readings)])
    return rows


def marked(text: str, verified: bool) -> str:
    return text if verified else f"{text}?"


def packet_cell(step: Step | None) -> str:
    if step is None:
        return "-"
    return "?" if step.payload_length is None else marked(str(step.payload_length), step.verified)


def signal_cell(signal: Signal | None) -> str:
    return "-" if signal is None else marked("yes" if signal.signals else "no", signal.verified)


def write_cell(write: Write) -> str:
    if write.signals is None:
        return marked(write.answer.value, write.verified)
    return marked("wakes" if write.signals else "quiet", write.verified)


def table_lines(rows: list[list[str]], width: int | None) -> Iterator[str]:
    """The table in columns; those that a narrow terminal has no room for stand below the others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = 1
    while first < len(widths):
        last = first + 1
        room = (width or sys.maxsize) - len(GAP) - widths[0]
        while last < len(widths) and sum(len(GAP) + one for one in widths[first : last + 1]) <= room:
            last += 1
        if first > 1:
            yield ""
        for row in rows:
            cells = (cell.rjust(size) for cell, size in zip(row[first:last], widths[first:last], strict=True))
            yield GAP + GAP.join([row[0].ljust(widths[0]), *cells])
        first = last


def difference_lines(comparison: Comparison, width: int | None) -> Iterator[str]:
    """How many differences there are, and each of them."""
    differences = comparison.differences
    if not differences:
        yield "all agree, as far as is known"
        return
    yield f"{len(differences)} difference{'' if len(differences) == 1 else 's'}"
    for one in differences:
        place = "control" if one.offset is None else f"{one.offset:#06x}"
        line = f"  {place:<8}  {one.kind.value:<10}  {one.message}"
        yield from [line] if width is None else textwrap.wrap(line, width, subsequent_indent=" " * 6)


# -- as JSON, and the list ----------------------------------------------------------------------------


def to_json(found: Report, compared: Sequence[tuple[RingPlace, Comparison]]) -> dict[str, Any]:
    """The document "vmbus.compare/1"."""
    return {
        "schema": COMPARE_SCHEMA,
        "source": {"path": found.path, "format": found.format, "size": found.size},
        "agree": all(comparison.agree for _, comparison in compared),
        "rings": [
            {"address": place.address, "address_hex": f"{place.address:#x}", **comparison.to_json()}
            for place, comparison in compared
        ],
    }


def print_models(arguments: Namespace, models: Sequence[Model]) -> None:
    """Each model, and what is known of it."""
    if arguments.json:
        listed = [
            {
                "name": model.name,
                "title": model.title,
                "source": model.source,
                "unverified": list(model.unverified),
            }
            for model in models
        ]
        print_json({"schema": COMPARE_SCHEMA, "models": listed})
        return
    for model in models:
        print_lines([f"{model.name:<8}  {model.title}: {model.source}"])
        print_lines(f"{'':<8}  unverified: {one}" for one in model.unverified)
