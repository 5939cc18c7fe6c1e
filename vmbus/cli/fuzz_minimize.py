"""Make a case that fails smaller, keeping it failing at the same place with the same kind of error.

Steps are left out, and what is left gets simpler arguments.  The result is shown, and written beside FILE as
FILE.min, or where -o says.  Needs hypothesis.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmbus.errors import CallerError

from .fuzz_targets import case_in, without_hypothesis
from .output import UsageError, print_lines
from .output_file import check_output, write_output
from .progress import Progress

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus fuzz minimize artifacts/ring/crash-0a1b2c
  vmbus fuzz minimize crash-0a1b2c --target ring -o small && vmbus fuzz repro small --target ring --script

exit status: 0 done; 2 FILE is no case that fails, or hypothesis is not installed.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the case")
    parser.add_argument(
        "--target", metavar="TARGET", help="what it is a case of; by default its folder's name"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: FILE.min)")


def execute(arguments: Namespace) -> int:
    try:
        from vmbus.fuzzing import minimized
    except ModuleNotFoundError as error:
        raise without_hypothesis("minimize", error) from error
    case = case_in(arguments)
    with Progress("minimize: ") as progress:
        try:
            smaller = minimized(case, lambda steps: progress.say(f"{steps} steps"))
        except CallerError as error:
            raise UsageError(f"{arguments.file}: {error}") from error
    path = arguments.output or f"{arguments.file}.min"
    check_output(path, binary=True)
    write_output(path, lambda file: file.write(smaller.to_bytes()))
    print_lines(str(smaller).splitlines())
    print_lines([f"{len(case.steps)} steps became {len(smaller.steps)}; written to {path}"])
    return 0
