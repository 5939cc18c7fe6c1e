"""Hold somebody else's ring reader against the strict one of this package.

COMMAND is given ring images, one after the other: right ones, wrapped in every place and of every kind of
packet; ones broken in one named way; and ones damaged at random.  It says what it reads, and every
disagreement is reported by kind.

The image: a control page of 4096 bytes, then the data area; on standard input, until that ends, or with
--by path in a file, whose name replaces {} in ARGS or comes last.  COMMAND reads all packets from out to in.

The answer: one JSON object a line, with the keys of `vmbus inspect --json`:

    {"type": "in-band", "transaction_id": 7, "payload": "68656c6c6f000000"}
    {"error": "any text"}

A packet must have "type" (in-band, completion, gpa-direct, transfer-pages) or "type_value", and "payload" in hex
or "payload_length"; the payload goes up to the footer, padding included.  Whatever else there is of
transaction_id (or transaction_id_hex), flags (names or a number), ranges, transfer_page_set_id, offset,
data_offset, length and bytes is compared too.  {"error": …} comes last, behind the packets before the broken
one, or alone.  {"signal": true} or false, on a line of its own, says whether the sender must be signaled once all
the packets are given back at once; it may be left out.  An empty ring has no packets: print nothing.

With --batch COMMAND runs once.  Each image comes behind its length, 4 bytes little-endian; each answer is one line:
a list of the objects above.  Flush it.

It ends early where COMMAND has answered none of the first 10 images, with --batch 3, but crashed or timed out.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from vmbus.fuzzing import (
    DISAGREEMENT_SCHEMA,
    TARGET_SCHEMA,
    BatchReader,
    PathReader,
    ReaderProgram,
    ReaderReport,
    StdinReader,
    save_found,
    try_reader,
)

from .fuzz_run import seconds
from .output import UsageError, number, print_json, print_lines
from .progress import Progress

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus fuzz target -- ./my-reader
  vmbus fuzz target --cases 5000 --save disagreements -- ./my-reader --json
  vmbus fuzz target --batch --seconds 60 -- python3 reader.py
  vmbus fuzz target --by path --timeout 2 -- ./my-reader --image={} --packets
  vmbus fuzz target --json -- ./my-reader | jq '.disagreements[] | [.kind, .count]'

a reader that agrees, in Python:

  import sys
  from vmbus.fuzzing import expected_of
  import json
  for line in expected_of(sys.stdin.buffer.read()).to_json():
      print(json.dumps(line))

kinds of disagreement:
{kinds}

exit status: 0 no disagreement; 1 some; 2 COMMAND could not be run, or does not speak --batch.
"""

KINDS = """\
  accepted-what-is-broken   it took a packet, or went on, where the strict reader refuses
  refused-what-is-good      it said {"error": …} where nothing is wrong, or too early
  missing-packet            it said nothing of the last packets
  extra-packet              it went on behind the last
  order                     the same packets in another order
  type, length, payload, transaction-id, flags, ranges, place, signal
                            this is not as it should be, in the first packet where anything is not
  not-json                  a line is no object of those above, or --batch got more than one line for an image
  crash                     it was ended by a signal, or failed and printed no error
  timeout                   no answer in time; it was ended, and all that it started
  too-much-output           it printed megabytes; it was ended"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES.replace("{kinds}", KINDS)
    parser.add_argument("command", nargs="*", metavar="-- COMMAND [ARGS]", help="the reader")
    parser.add_argument(
        "--cases", type=number, metavar="N", help="how many images (default: 1000, or as many as --seconds)"
    )
    parser.add_argument("--seconds", type=seconds, metavar="N", help="how long at most")
    parser.add_argument("--seed", type=number, default=0, metavar="S", help="of the images (default: 0)")
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="N", help="seconds for one answer (default: 10)"
    )
    parser.add_argument(
        "--by",
        choices=("stdin", "path"),
        help="how COMMAND gets an image (default: stdin; path where {} is in ARGS)",
    )
    parser.add_argument("--batch", action="store_true", help="one process for all images")
    parser.add_argument(
        "--save",
        metavar="DIR",
        help="write the first image of each kind of disagreement here: KIND.bin; what is wrong, KIND.json "
        f"({DISAGREEMENT_SCHEMA}); and a program that proves it with nothing but vmbus, KIND.py",
    )
    parser.add_argument(
        "--json", action="store_true", help=f"one document, {TARGET_SCHEMA}; in it each {DISAGREEMENT_SCHEMA}"
    )


def execute(arguments: Namespace) -> int:
    """Try it and print; 1 where there was a disagreement."""
    cases = arguments.cases
    if cases is None and arguments.seconds is None:
        cases = 1000
    with reader_of(arguments) as reader, Progress("fuzz target: ") as progress:
        found = try_reader(
            reader,
            cases=cases,
            seconds=arguments.seconds,
            seed=arguments.seed,
            progress=lambda tried: progress.say(f"{tried} images"),
        )
    if found.gave_up and arguments.batch:
        came = next(iter(found.first.values())).disagreement.came
        raise UsageError(f"{unanswered(found)} ({came}); does {arguments.command[0]} speak --batch?")
    saved = [] if arguments.save is None else save_found(found, Path(arguments.save))
    if arguments.json:
        print_json({**found.to_json(), "command": arguments.command, "saved": list(map(str, saved))})
    else:
        print_lines(lines_of(found, saved))
    return 0 if found.agrees else 1


def reader_of(arguments: Namespace) -> ReaderProgram:
    """The command, and how it gets its images."""
    command = arguments.command
    if not command:
        raise UsageError("which COMMAND? It comes behind --, as in: vmbus fuzz target -- ./my-reader")
    by_path = arguments.by == "path" or (arguments.by is None and any("{}" in word for word in command[1:]))
    if arguments.cases == 0 or arguments.seconds == 0:
        raise UsageError("with no cases, or no time for any, nothing would be tried")
    if not arguments.timeout:
        raise UsageError("--timeout 0: no answer comes at once; give it more than 0 seconds")
    if arguments.batch and by_path:
        raise UsageError("--batch gives all images to one standard input; leave out --by path and {}")
    if arguments.batch:
        return BatchReader(command, arguments.timeout)
    return (PathReader if by_path else StdinReader)(command, arguments.timeout)


def unanswered(found: ReaderReport) -> str:
    return f"no answer to any of the first {found.cases} images"


def lines_of(found: ReaderReport, saved: list[Path]) -> Iterator[str]:
    """What is told to people."""
    width = max((len(kind.value) for kind in found.counts), default=0)
    for kind, count in found.counts.items():
        first = found.first[kind]
        yield f"{kind.value:<{width}}  {count:>6}"
        yield f"  first: {first.image}"
        yield f"  expected: {first.disagreement.expected}"
        yield f"  came:     {first.disagreement.came}"
    if found.faults:
        faults = ", ".join(f"{name} {count}" for name, count in found.faults.items())
        yield f"accepted although broken: {faults}"
    for path in saved:
        yield f"saved in {path}; `vmbus inspect {path}` shows it, {path.with_suffix('.py').name} proves it"
    if found.gave_up:
        yield f"given up: {unanswered(found)}"
    good = found.cases - found.broken
    rate = found.cases / found.seconds if found.seconds else 0.0
    total = sum(found.counts.values())
    yield (
        f"{found.cases} images, {good} right and {found.broken} broken, in {found.seconds:.1f} s "
        f"({rate:.0f} a second): {total or 'no'} disagreement{'' if total == 1 else 's'}"
    )
