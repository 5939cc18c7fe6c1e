"""Say what is wrong with rings: every check, one line a finding, and a verdict for each ring.

A raw file is taken for one ring, or for the two rings of a channel, as `vmbus inspect` takes it; of a memory
image all rings that a scan finds are checked, or the one at --address; of a device (--uio) both.  The lines are for grep:

    FILE: ring ADDRESS: OFFSET: SEVERITY: CHECK: what is wrong
    FILE: ring ADDRESS (ROLE of DEVICE, channel N): … where the device is known
    FILE: ring ADDRESS: verdict: whose turn it is, and who may be owed a signal
    FILE: image: SEVERITY: CHECK: what is wrong with the file

One snapshot cannot tell a slow ring from a stuck one: a channel that drains with its mask clear looks as if
a signal were owed all the time.  With --assume-quiescent, for a VM that was paused or hung, it is stuck.
Otherwise `vmbus diff` tells, from two snapshots.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from vmbus.errors import DumpError
from vmbus.inspection import (
    CHECK_SCHEMA,
    CHECKS,
    CheckedFile,
    Dump,
    Report,
    Selection,
    check_list_to_json,
    check_to_json,
    check_to_json_lines,
)

from .dump_input import dump_of, refuse_capture
from .output import UsageError, print_json, print_json_lines, print_lines, printable, report
from .ring_options import add_ring_options, asks_for_ring, rings_of
from .uio_options import add_uio_options, asks_for_uio, check_uio_usage

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus check ring.bin
  vmbus check dumps/*.bin | grep -v ': verdict: '
  vmbus check guest.vmcore --jsonl
  vmbus check hung.raw --address 0x3f2000 --data-size 16K --assume-quiescent
  vmbus check --uio 0                    both rings of /dev/uio0, on a Linux guest
  vmbus check ring.bin --json | jq '.files[].rings[].verdict'

verdicts: idle, waiting for its reader, waiting for its writer, full, corrupt, never opened.  A writer waits
only where less is free than it has asked for.  A pending send size of 4120 makes no ring stuck: Linux's
hvsock sets it for good.

checks (`vmbus check --list` says what each means):
{names}

of several FILEs, one that cannot be read is named on standard error and the others are checked.
exit status: 0 done; 1 done, and a finding is an error or a warning; 2 a FILE could not be checked.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES.replace("{names}", names_of_checks())
    parser.add_argument("files", nargs="*", metavar="FILE", help="the dumps; - for standard input")
    parser.add_argument("--sample", action="store_true", help="use a dump that comes with the package")
    parser.add_argument("--list", action="store_true", help="print every check and what it means, and end")
    parser.add_argument(
        "--assume-quiescent",
        action="store_true",
        help="nobody ran when the dump was taken: a signal that a level rule says is owed makes a ring stuck",
    )
    add_ring_options(parser)
    add_uio_options(parser)
    form = parser.add_argument_group("how to show it").add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"one document, {CHECK_SCHEMA}")
    form.add_argument("--jsonl", action="store_true", help="an object a line: findings and verdicts")


def names_of_checks() -> str:
    """All names, in lines of at most 100 characters."""
    lines = ["  "]
    for check in CHECKS:
        if len(lines[-1]) + len(check.name) > 98:
            lines.append("  ")
        lines[-1] += f"{check.name} "
    return "\n".join(line.rstrip() for line in lines)


def execute(arguments: Namespace) -> int:
    """Check and print; 1 when something is wrong with a ring, 2 when a file could not be checked."""
    if arguments.list:
        print_list(arguments)
        return 0
    check_usage(arguments)
    statuses: list[int] = []
    files = checked_files(arguments, statuses)
    if arguments.json:
        document = check_to_json(files, assume_quiescent=arguments.assume_quiescent)
        if document["files"]:  # where nothing could be checked, nothing is printed
            print_json(document)
    elif arguments.jsonl:
        print_json_lines(one for file in files for one in check_to_json_lines(file))
    else:
        print_lines(line for file in files for line in text_lines(file.to_json()))
    return max(statuses)


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for files that contradict each other."""
    if arguments.sample and arguments.files:
        raise UsageError(f"--sample is a dump itself; leave out {arguments.files[0]}")
    check_uio_usage(arguments, arguments.files)
    if not arguments.sample and not arguments.files and not asks_for_uio(arguments):
        raise UsageError("which FILE? (- for standard input, --sample for a look at one)")
    if arguments.files.count("-") > 1:
        raise UsageError("standard input can be read once; - is given more often")


def print_list(arguments: Namespace) -> None:
    """Every check: in columns, or as objects."""
    if arguments.json:
        print_json(check_list_to_json())
        return
    if arguments.jsonl:
        print_json_lines(check_list_to_json()["checks"])
        return
    width = max(len(check.name) for check in CHECKS)
    print_lines(
        f"{check.name:<{width}}  {check.subject:<9}  {'|'.join(one.value for one in check.severities):<13}  "
        f"{check.meaning} [{check.source}]"
        for check in CHECKS
    )


# -- one file after the other ------------------------------------------------------------------------


def checked_files(arguments: Namespace, statuses: list[int]) -> Iterator[CheckedFile]:
    """Each file that could be checked; of each file its exit status goes to `statuses`.

    Where there is but one file, its error is the command's.
    """
    for path in arguments.files or [None]:
        one = Namespace(**{**vars(arguments), "file": path})
        try:
            found = live_rings(one) if asks_for_uio(one) else rings_in(one, dump_of(one))
        except DumpError as error:
            if len(arguments.files) < 2:
                raise
            report(str(error))
            statuses.append(2)
            continue
        checked = CheckedFile(found, assume_quiescent=arguments.assume_quiescent)
        statuses.append(0 if checked.is_sound else 1)
        yield checked


def live_rings(arguments: Namespace) -> Report:
    """The rings of a live device."""
    from .uio_input import live_dump, report_on

    return report_on(live_dump(arguments), Selection(limit=0))


def rings_in(arguments: Namespace, dump: Dump) -> Report:
    """The rings of a dump; DumpError that names the other command for a capture."""
    try:
        return rings_of(arguments, dump, Selection(limit=0))
    except DumpError:
        if not asks_for_ring(arguments):
            refuse_capture(dump)
        raise


def text_lines(document: dict[str, Any]) -> Iterator[str]:
    """The lines of one file."""
    path = printable(document["source"]["path"])
    for finding in document["findings"]:
        yield f"{path}: image: {words_of(finding)}"
    for ring in document["rings"]:
        start = f"{path}: ring {ring['address_hex']}{owner_of(ring)}"
        for finding in ring["findings"]:
            yield f"{start}: {finding['place']}: {words_of(finding)}"
        yield f"{start}: verdict: {ring['verdict_text']}{'; stuck' if ring['stuck'] else ''}"


def owner_of(ring: dict[str, Any]) -> str:
    """Whose a ring is, where that is known."""
    device = ring["device"]
    if device is None:
        return ""
    return f" ({ring['role']} of {device['class_name'] or device['class']}, channel {device['channel']})"


def words_of(finding: dict[str, Any]) -> str:
    return f"{finding['severity']}: {finding['check']}: {finding['message']}"
