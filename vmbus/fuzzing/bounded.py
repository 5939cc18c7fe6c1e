"""Functions that are given so many seconds, and no more.

What somebody else has written may wait for ever.  It runs in a daemon thread, which is left behind where it
does not end in time: it harms nobody but whoever it shares things with, and ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["StillRunning", "Task", "in_seconds"]

Result = TypeVar("Result")


class StillRunning(Exception):
    """A function has not ended in the time that it was given."""


class Task(Generic[Result]):
    """A function that runs in a daemon thread of its own, from now on.

    >>> Task(lambda: 6 * 7).result(60)
    42
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def has_ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        self._thread.join(max(seconds, 0))
        return not self._thread.is_alive()

    def result(self, seconds: float) -> Result:
        """What it returned, within so many seconds; what it raised is raised here.

        Raises StillRunning when it has not ended by then.
        """
        started = monotonic()
        if not self.has_ended(seconds):
            raise StillRunning(f"still running after {in_seconds(round(monotonic() - started, 3))}")
        if self._error is not None:
            raise self._error
        return self._results[0]


def in_seconds(seconds: float) -> str:
    """A time for a message.

    >>> in_seconds(1.0), in_seconds(0.25)
    ('1 second', '0.25 seconds')
    """
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"
