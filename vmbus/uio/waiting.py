"""Waiting for files that appear late: they tell nobody, so one has to look again.

Timeouts are in seconds; None waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from vmbus.channel import check_seconds

__all__ = ["LOOK_EVERY", "wait_for"]

Result = TypeVar("Result")

#: Seconds between two looks.
LOOK_EVERY = 0.01


def wait_for(look: Callable[[], Result | None], timeout: float | None) -> Result | None:
    """What `look` returns, as soon as that is not None; None when `timeout` seconds are over.

    It looks once at least, and a last time when they are over.  CallerError for what is no number of seconds.

    >>> wait_for(iter([None, "there"]).__next__, 1)
    'there'
    """
    deadline = None if timeout is None else monotonic() + check_seconds(timeout)
    while True:
        left = LOOK_EVERY if deadline is None else deadline - monotonic()
        found = look()
        if found is not None or left <= 0:
            return found
        sleep(min(LOOK_EVERY, left))
