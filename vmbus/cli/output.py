"""What commands share: how they read numbers, and how they print results and errors."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from vmbus.errors import CallerError

__all__ = [
    "UsageError",
    "checked",
    "forget_if_gone",
    "number",
    "print_json",
    "print_json_lines",
    "print_lines",
    "printable",
    "report",
]

SUFFIXES = {"k": 10, "m": 20, "g": 30}

#: Addresses, sizes and transaction ids have 64 bits.
LARGEST_NUMBER = 2**64 - 1


class UsageError(Exception):
    """The command line is wrong in a way that argparse cannot see, such as options that contradict."""


def number(text: str) -> int:
    """A number of the command line: decimal or 0x, with _ between digits, with K, M or G (binary).

    >>> number("4096"), number("0x10_00"), number("16K")
    (4096, 4096, 16384)
    """
    shift = SUFFIXES.get(text[-1:].lower(), 0)
    digits = text[:-1] if shift else text
    try:
        value = int(digits, 0)
    except ValueError:
        value = -1
    if value < 0:
        what = "is negative" if text.startswith("-") else "is no number"
        raise ArgumentTypeError(f"{text!r} {what}: write 4096, 0x1000, 4_096 or 4K")
    if value << shift > LARGEST_NUMBER:
        raise ArgumentTypeError(f"{text!r} has more than 64 bits")
    return value << shift


def checked(check: Callable[[int], int]) -> Callable[[str], int]:
    """A converter for argparse: a number that `check` returns, and whose CallerError is the refusal."""

    def convert(text: str) -> int:
        try:
            return check(number(text))
        except CallerError as error:
            raise ArgumentTypeError(str(error)) from error

    return convert


def print_lines(lines: Iterable[str]) -> None:
    """Lines of text; what the terminal does not know is replaced, and what it would obey is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(printable(line).encode(encoding, "replace").decode(encoding))


def print_json(document: dict[str, Any]) -> None:
    """One document."""
    import json  # slow to import for those who read text

    json.dump(document, sys.stdout, indent=2)
    print()


def print_json_lines(documents: Iterable[dict[str, Any]]) -> None:
    """One object a line, each there as soon as it is printed."""
    import json

    for document in documents:
        print(json.dumps(document), flush=True)


def report(message: str) -> None:
    """One line on standard error."""
    if sys.stderr is None:
        return
    try:
        print(f"vmbus: {printable(message)}", file=sys.stderr)
    except OSError:
        forget_if_gone(sys.stderr)


def printable(text: str) -> str:
    r"""`text` on one line: what a terminal would obey is escaped, as file names may hold anything.

    >>> print(printable("one\ntwo\x1b[31m"))
    one\ntwo\x1b[31m
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def forget_if_gone(stream: TextIO | None) -> None:
    """Drop what an output that is gone has not taken, or the end of the process complains of it again."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
