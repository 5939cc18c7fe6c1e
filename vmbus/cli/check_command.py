"""Say what is wrong with rings: every check, one line a finding, and a verdict for each ring.

A file is taken for one ring, or for the two rings of a channel, as `vmbus inspect` takes it.  The lines are
for grep:

    FILE: ring ADDRESS: OFFSET: SEVERITY: CHECK: what is wrong
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
    CHECKS,
    Dump,
    Report,
    RingReport,
    Selection,
    finding_to_json,
    owed_signals,
    owed_to_json,
    place_of,
    stuck_findings,
    verdict_text,
)

from .dump_input import dump_of
from .output import UsageError, print_json, print_json_lines, print_lines, printable, report
from .ring_options import add_ring_options, rings_of

__all__ = ["add_arguments", "execute"]

SCHEMA = "vmbus.check/1"

EXAMPLES = """\
examples:
  vmbus check ring.bin
  vmbus check dumps/*.bin | grep -v ': verdict: '
  vmbus check hung.raw --address 0x3f2000 --data-size 16K --assume-quiescent
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
    form = parser.add_argument_group("how to show it").add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"one document, {SCHEMA}")
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
        documents = list(files)
        if documents:  # where nothing could be checked, nothing is printed
            print_json({"schema": SCHEMA, "assume_quiescent": arguments.assume_quiescent, "files": documents})
    elif arguments.jsonl:
        print_json_lines(one for document in files for one in json_lines(document))
    else:
        print_lines(line for document in files for line in text_lines(document))
    return max(statuses)


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for files that contradict each other."""
    if arguments.sample and arguments.files:
        raise UsageError(f"--sample is a dump itself; leave out {arguments.files[0]}")
    if not arguments.sample and not arguments.files:
        raise UsageError("which FILE? (- for standard input, --sample for a look at one)")
    if arguments.files.count("-") > 1:
        raise UsageError("standard input can be read once; - is given more often")


def print_list(arguments: Namespace) -> None:
    """Every check: in columns, or as objects."""
    if arguments.json or arguments.jsonl:
        rows = [
            {
                "check": check.name,
                "severities": [severity.value for severity in check.severities],
                "subject": check.subject,
                "meaning": check.meaning,
                "source": check.source,
            }
            for check in CHECKS
        ]
        if arguments.json:
            print_json({"schema": SCHEMA, "checks": rows})
        else:
            print_json_lines(rows)
        return
    width = max(len(check.name) for check in CHECKS)
    print_lines(
        f"{check.name:<{width}}  {check.subject:<9}  {'|'.join(one.value for one in check.severities):<13}  "
        f"{check.meaning} [{check.source}]"
        for check in CHECKS
    )


# -- one file after the other ------------------------------------------------------------------------


def checked_files(arguments: Namespace, statuses: list[int]) -> Iterator[dict[str, Any]]:
    """The object of each file that could be checked; of each file its exit status goes to `statuses`.

    Where there is but one file, its error is the command's.
    """
    for path in arguments.files or [None]:
        one = Namespace(**{**vars(arguments), "file": path})
        try:
            dump = dump_of(one)
            found = rings_of(one, dump, Selection(limit=0))
        except DumpError as error:
            if len(arguments.files) < 2:
                raise
            report(str(error))
            statuses.append(2)
            continue
        document = file_to_json(dump, found, quiescent=arguments.assume_quiescent)
        statuses.append(0 if document.pop("is_sound") else 1)
        yield document


def file_to_json(dump: Dump, found: Report, *, quiescent: bool) -> dict[str, Any]:
    """One item of "files"; every form is made of it."""
    rings = [ring_to_json(ring, quiescent=quiescent) for ring in found.rings]
    of_file = [finding_to_json(finding) for finding in dump.findings]
    serious = any(finding["severity"] != "note" for finding in of_file)
    is_stuck = any(ring["stuck"] for ring in rings)
    return {
        "source": {"path": found.path, "format": found.format, "size": found.size},
        "findings": of_file,
        "rings": rings,
        "is_sound": found.is_sound and not serious and not is_stuck,
    }


def ring_to_json(ring: RingReport, *, quiescent: bool) -> dict[str, Any]:
    """One item of "rings"; "stuck" is null where one snapshot cannot say."""
    findings = [*ring.findings, *(stuck_findings(ring) if quiescent else ())]
    return {
        "address": ring.place.address,
        "address_hex": f"{ring.place.address:#x}",
        "role": ring.place.role,
        "data_size": ring.place.data_size,
        "verdict": ring.verdict.value,
        "verdict_text": verdict_text(ring),
        "reader_needs_signal": ring.reader_needs_signal,
        "writer_needs_signal": ring.writer_needs_signal,
        "stuck": [owed_to_json(owed) for owed in owed_signals(ring)] if quiescent else None,
        "findings": [{**finding_to_json(finding), "place": place_of(ring, finding)} for finding in findings],
    }


def text_lines(document: dict[str, Any]) -> Iterator[str]:
    """The lines of one file."""
    path = printable(document["source"]["path"])
    for finding in document["findings"]:
        yield f"{path}: image: {words_of(finding)}"
    for ring in document["rings"]:
        start = f"{path}: ring {ring['address_hex']}"
        for finding in ring["findings"]:
            yield f"{start}: {finding['place']}: {words_of(finding)}"
        yield f"{start}: verdict: {ring['verdict_text']}{'; stuck' if ring['stuck'] else ''}"


def words_of(finding: dict[str, Any]) -> str:
    return f"{finding['severity']}: {finding['check']}: {finding['message']}"


def json_lines(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One file's document object by object, each with its kind and its file."""
    path = document["source"]["path"]
    for finding in document["findings"]:
        yield {"schema": SCHEMA, "kind": "finding", "path": path, "ring": None, **finding}
    for ring in document["rings"]:
        findings = ring.pop("findings")
        for finding in findings:
            yield {"schema": SCHEMA, "kind": "finding", "path": path, "ring": ring["address"], **finding}
        yield {"schema": SCHEMA, "kind": "verdict", "path": path, **ring}
