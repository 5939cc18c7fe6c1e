"""Find the rings in memory images: raw memory, ELF cores, LiME, AVML, kdump, Windows dumps, Hyper-V saved states.

The format is found out from the file.  Every page that looks like a ring's control page is checked against the
packets behind it; what GPADL, open-channel and offer messages in the image say is used for rings whose pages are
scattered, and to name the device.  `vmbus inspect IMAGE --address N` then shows a ring.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import Any

from vmbus.errors import DumpError
from vmbus.inspection import (
    SCAN_SCHEMA,
    ScanOptions,
    ScanReport,
    Severity,
    State,
    found_ring_to_json,
    scan,
    scan_many,
    scan_to_json,
    scan_to_lines,
)

from .output import UsageError, number, print_json, print_json_lines, print_lines, report
from .progress import Progress

__all__ = ["add_arguments", "execute"]

#: More processes do not help, and each has a copy of the program.
MOST_JOBS = 256

EXAMPLES = """\
examples:
  vmbus scan memory.elf
  vmbus scan memory.raw --why                      with the reasons for each ring
  vmbus scan guest.lime --json | jq '.rings[] | .address_hex, .data_size'
  vmbus scan memory.raw --start 0x100000000 --jobs 4
  vmbus scan *.vmrs --jobs 4 --jsonl > rings.jsonl

SCORE is how sure it is that there is a ring, up to 100; below 50 it is only shown with --all.  A size that
neither packets nor messages nor a following ring decide is unknown (?): what is known needs so many bytes
at least.

numbers: 4096, 0x1000, 4_096, 4K (also M and G, all binary).
exit status: 0 rings were found; 1 the same, and an image is damaged or memory of it is lost; 2 nothing
was found, or an image could not be read.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="the files to look through; - for standard input"
    )
    where = parser.add_argument_group("where to look")
    where.add_argument("--start", type=number, metavar="N", default=0, help="first address to look at")
    where.add_argument("--end", type=number, metavar="N", help="address to stop at")
    where.add_argument(
        "--map",
        metavar="FILE",
        help="where the parts of a raw file belong: a copy of /proc/iomem, or lines of address, length and "
        "offset, such as `0x1000 0x9f000 0x0`",
    )
    where.add_argument(
        "--jobs",
        type=process_count,
        metavar="N",
        default=1,
        help=f"processes that share the work, from 1 to {MOST_JOBS} (default 1)",
    )
    what = parser.add_argument_group("what to show")
    what.add_argument("--all", action="store_true", help="also pages that only look like control pages")
    what.add_argument("--why", action="store_true", help="why each is taken for a ring")
    form = parser.add_argument_group("how to show it").add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"one document, {SCAN_SCHEMA}, for one image")
    form.add_argument(
        "--jsonl", action="store_true", help="an object a line: images and rings, any number of images"
    )


def execute(arguments: Namespace) -> int:
    """Scan and print; 1 when something is wrong with an image, 2 when there is nothing in any."""
    check_usage(arguments)
    found, failed, damaged = False, False, False
    for number_of, one in enumerate(reports(arguments)):
        if isinstance(one, DumpError):
            report(str(one))
            failed = True
            continue
        if number_of and not (arguments.json or arguments.jsonl):
            print_lines([""])
        show(arguments, one)
        found = found or bool(one.rings)
        damaged = damaged or is_damaged(one)
        if not one.rings:
            report(f"{one.path}: no ring was found{hint(one)}")
    if failed or not found:
        return 2
    return 1 if damaged else 0


def hint(one: ScanReport) -> str:
    if one.unsure:
        what = (
            "1 page looks like the control page of a ring that was"
            if one.unsure == 1
            else f"{one.unsure} pages look like control pages of rings that were"
        )
        return f"; {what} never used (--all)"
    if one.format == "raw":
        return " (where the file is memory in several parts, --map says where they belong)"
    return ""


def is_damaged(one: ScanReport) -> bool:
    """Whether memory is lost, or something else is wrong; what the writer left out is as it wanted."""
    lost = any(run.state is State.LOST for run in one.missing)
    return lost or any(finding.severity is not Severity.NOTE for finding in one.findings)


def process_count(text: str) -> int:
    """A number of processes."""
    try:
        count = number(text)
    except ArgumentTypeError:
        count = 0
    if not 1 <= count <= MOST_JOBS:
        raise ArgumentTypeError(f"{text}: from 1 to {MOST_JOBS} processes")
    return count


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if not arguments.images:
        raise UsageError("which IMAGE? (- for standard input)")
    if arguments.json and len(arguments.images) > 1:
        raise UsageError("--json is one document; --jsonl takes several images")
    if arguments.end is not None and arguments.end <= arguments.start:
        raise UsageError(f"--end {arguments.end:#x} is not behind --start {arguments.start:#x}")
    if "-" in arguments.images and len(arguments.images) > 1:
        raise UsageError("- is the only image when it is one")


def reports(arguments: Namespace) -> Iterator[ScanReport | DumpError]:
    """The report on each image, or why there is none."""
    options = ScanOptions(
        start=arguments.start,
        memory_map=arguments.map,
        jobs=arguments.jobs,
        everything=arguments.all,
    )
    if arguments.end is not None:
        options = options._replace(end=arguments.end)
    if len(arguments.images) > 1 and arguments.jobs > 1:
        for path, one in zip(arguments.images, scan_many(arguments.images, options), strict=True):
            yield one if isinstance(one, DumpError) or one.rings else checked_capture(path, one)
        return
    for path in arguments.images:
        with Progress(f"{path}: ") as progress:
            try:
                image = image_of(path, arguments)
                found = scan(image, options, progress=progress.show)
                yield found if found.rings else checked_capture(image, found)
            except DumpError as error:
                progress.clear()
                yield error


def checked_capture(image: Any, report: ScanReport) -> ScanReport | DumpError:
    """The report on an image in which no ring was found; where that is a capture, why there is none."""
    from .dump_input import refuse_capture

    try:
        refuse_capture(image)
    except DumpError as error:
        return error
    return report


def image_of(path: str, arguments: Namespace) -> Any:
    """The name of the file, or the dump on standard input."""
    if path != "-":
        return path
    from .dump_input import dump_on_stdin

    return dump_on_stdin(memory_map=arguments.map)


def show(arguments: Namespace, one: ScanReport) -> None:
    if arguments.json:
        print_json(scan_to_json(one))
    elif arguments.jsonl:
        print_json_lines(json_lines(one))
    else:
        print_lines(scan_to_lines(one, with_reasons=arguments.why))


def json_lines(one: ScanReport) -> Iterator[dict[str, Any]]:
    """The image, then each of its rings."""
    document = scan_to_json(one)
    del document["rings"]
    yield {"schema": SCAN_SCHEMA, "kind": "image", **document}
    for ring in one.rings:
        yield {"kind": "ring", "path": one.path, **found_ring_to_json(ring)}
