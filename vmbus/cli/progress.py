"""How far long work has come, on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from time import monotonic

from .output import printable

__all__ = ["Progress"]

#: Seconds between two lines.
INTERVAL = 0.1

MEGABYTE = 1 << 20


class Progress:
    """One line that is written over and over; a context manager that takes it away at the end.

    name   what the line begins with
    """

    def __init__(self, name: str) -> None:
        self._name = printable(name)
        self._visible = sys.stderr is not None and sys.stderr.isatty()
        self._next = 0.0
        self._shown = False

    def show(self, done: int, total: int) -> None:
        """`done` of `total` bytes are done."""
        share = f"{100 * done // total} %" if total else "…"
        self.say(f"{share} of {total // MEGABYTE} MiB")

    def say(self, text: str) -> None:
        """How far the work has come; shown ten times a second at most."""
        if not self._visible or (now := monotonic()) < self._next:
            return
        self._next = now + INTERVAL
        print(f"\r{self._name}{text}\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
