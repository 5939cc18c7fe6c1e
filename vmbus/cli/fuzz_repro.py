"""Perform a case again: does it still fail, and with what?

FILE is a case as `vmbus fuzz run` and libFuzzer write them: bytes, whose target is named by --target or by the folder
that the file lies in, or JSON.  --script writes a Python program that needs nothing but vmbus, does the same on
its own, and ends with the error; --json writes the case as JSON, to be read or changed by hand.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from vmbus.fuzzing import Case, Wrong

from .fuzz_targets import case_in
from .output import print_json, print_lines

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus fuzz repro artifacts/ring/crash-0a1b2c
  vmbus fuzz repro crash-0a1b2c --target ring --script > crash.py; python crash.py
  vmbus fuzz repro artifacts/ring/crash-0a1b2c --json > case.json; vmbus fuzz repro case.json

exit status: 0 the case does not fail, or was written; 1 it fails; 2 FILE is no case.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the case")
    parser.add_argument(
        "--target", metavar="TARGET", help="what it is a case of; by default its folder's name"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--script", action="store_true", help="write a Python program instead")
    form.add_argument("--json", action="store_true", help="write the case as JSON instead")


def execute(arguments: Namespace) -> int:
    case = case_in(arguments)
    if arguments.script:
        print_lines(case.to_script().splitlines())
        return 0
    if arguments.json:
        print_json(case.to_json())
        return 0
    return perform(case)


def perform(case: Case) -> int:
    """Show the case and what comes of it."""
    print_lines(str(case).splitlines())
    sys.stdout.flush()
    try:
        corners = case.perform()
    except Wrong as error:
        print_lines([f"wrong: {error}"])
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the case fails with it
        print_lines([f"raised what nobody expected: {type(error).__name__}: {error}"])
        return 1
    print_lines([f"nothing wrong; corners met: {', '.join(sorted(corners)) or 'none'}"])
    return 0
