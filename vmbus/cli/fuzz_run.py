"""Draw cases for a target until one fails or the time is up.

Shown at the end: how many cases, how many a second, and how many of them met each of the target's corners.  A case
that fails is made smaller and kept in DIR/TARGET/crash-SHA1, as libFuzzer does; beside it, under the same name
with .json, as JSON.  Needs hypothesis.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmbus.fuzzing import Trial, crash_path

from .fuzz_targets import chosen, without_hypothesis
from .output import UsageError, number, print_json, print_lines, report
from .progress import Progress

__all__ = ["add_arguments", "execute"]

#: The keys: `target`; `cases`, `seconds`, `rate` (cases a second); `corners`, an object of how many cases met each;
#: `interrupted`; `failure`, null or an object: `finding` (false for an error that the trial did not expect), `reason`,
#: `case` (a document "vmbus.case/1"), `file` (null where it could not be kept).
SCHEMA = "vmbus.fuzz/1"

EXAMPLES = """\
examples:
  vmbus fuzz run ring
  vmbus fuzz run channel --seconds 60 --jobs 2 --seed 1000
  vmbus fuzz run ring --cases 500 --json | jq .rate

`vmbus fuzz list` names the targets.  The same seed draws the same cases, with the same version of hypothesis:
--cases makes a run the same every time, where --seconds ends it earlier or later.

A Ctrl-C ends a run as its time does, with all that was found so far, and exit status 130.

exit status: 0 nothing wrong; 1 a case failed; 2 could not be done; 130 interrupted, and nothing wrong so far.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("target", metavar="TARGET", help="what to fuzz")
    parser.add_argument(
        "--seconds", type=seconds, metavar="N", help="how long (default: 10, or as --cases need)"
    )
    parser.add_argument("--cases", type=number, metavar="N", help="how many cases at most")
    parser.add_argument("--jobs", type=number, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--seed", type=number, default=0, metavar="S", help="of the first cases (default: 0)")
    parser.add_argument(
        "--artifacts",
        default="artifacts",
        metavar="DIR",
        help="where a case that fails is kept (default: artifacts)",
    )
    parser.add_argument("--json", action="store_true", help=f"one document, {SCHEMA}")


def seconds(text: str) -> float:
    """A length of time; 0 or more, and no more than a year."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LONGEST}")
    return value


LONGEST = 365 * 24 * 3600

MOST_JOBS = 256

INTERRUPTED = 130


def execute(arguments: Namespace) -> int:
    trial = chosen(arguments.target)
    if not 1 <= arguments.jobs <= MOST_JOBS:
        raise UsageError(f"--jobs {arguments.jobs}: from 1, this process alone, to {MOST_JOBS}")
    if arguments.cases == 0 or arguments.seconds == 0:
        raise UsageError("with no cases, or no time for any, nothing would be tried")
    try:
        from vmbus.fuzzing import RunResult, fuzz
    except ModuleNotFoundError as error:
        raise without_hypothesis("run", error) from error
    limit = arguments.seconds
    if limit is None:
        limit = LONGEST if arguments.cases else 10.0
    directory = Path(arguments.artifacts) / trial.name
    directory.mkdir(parents=True, exist_ok=True)  # before all the work, so that what it finds can be kept
    result, interrupted = RunResult(0, 0.0, Counter(), None), False

    def told(so_far: RunResult) -> None:
        nonlocal result
        result = so_far
        progress.say(f"{so_far.cases} cases in {so_far.seconds:.0f} s")

    with Progress(f"{trial.name}: ") as progress:
        try:
            fuzz(
                trial,
                seconds=limit,
                cases=arguments.cases,
                seed=arguments.seed,
                jobs=arguments.jobs,
                progress=told,
            )
        except KeyboardInterrupt:  # the ordinary end of a long run
            interrupted = True
    kept, trouble = None, None
    if result.failure:
        try:
            kept = keep(Path(arguments.artifacts), result.failure.case)
        except OSError as error:
            trouble = error
    if arguments.json:
        print_json({**to_json(trial, result, kept), "interrupted": interrupted})
    else:
        print_lines(lines_of(trial, result, kept))
    if trouble is not None:
        report(
            f"{trouble.filename or directory}: {trouble.strerror or trouble}: the case that failed is not kept"
        )
    if result.failure:
        return 1
    return INTERRUPTED if interrupted else 0


def keep(directory: Path, case: Any) -> Path:
    """Write a case that failed, as bytes and as JSON."""
    data = case.to_bytes()
    path = crash_path(directory, case.trial.name, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(case.to_json(), indent=2) + "\n", encoding="utf-8")
    return path


def to_json(trial: type[Trial], result: Any, kept: Path | None) -> dict[str, Any]:
    failure = result.failure
    return {
        "schema": SCHEMA,
        "target": trial.name,
        "cases": result.cases,
        "seconds": result.seconds,
        "rate": result.rate,
        "corners": {corner: result.corners[corner] for corner in trial.CORNERS},
        "failure": failure
        and {
            "finding": failure.is_finding,
            "reason": failure.reason,
            "case": failure.case.to_json(),
            "file": None if kept is None else str(kept),
        },
    }


def lines_of(trial: type[Trial], result: Any, kept: Path | None) -> Iterator[str]:
    yield f"{trial.name}: {result.cases} cases in {result.seconds:.1f} s, {result.rate:.0f} a second"
    missed = [corner for corner in trial.CORNERS if not result.corners[corner]]
    width = max(map(len, trial.CORNERS), default=0)
    for corner in trial.CORNERS:
        if result.corners[corner]:
            yield f"  {corner:<{width}}  {result.corners[corner]}"
    if missed:
        yield f"corners that no case met: {', '.join(missed)}"
    elif trial.CORNERS:
        yield "every corner was met"
    failure = result.failure
    if failure is None:
        yield "nothing wrong"
        return
    yield ""
    yield from str(failure.case).splitlines()
    yield (
        f"wrong: {failure.reason}" if failure.is_finding else f"raised what nobody expected: {failure.reason}"
    )
    if not failure.is_finding:
        yield from failure.trace.splitlines()
    if kept is not None:
        yield f"kept in {kept}; vmbus fuzz repro {kept} --script writes it as a Python program"
