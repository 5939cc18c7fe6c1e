"""Forked children for tests of what two processes share."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

import pytest

__all__ = ["PATIENCE", "exit_status", "fork_child", "in_child", "needs_fork"]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")

#: Seconds after which a child that hangs is ended, so that the test fails instead.
PATIENCE = 20


def fork_child(action: Callable[[], object]) -> int:
    """The id of a forked child that does `action` and ends, with status 0 unless that raised."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads; some tests have threads on purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        status = 1
        try:
            action()
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    return child


def exit_status(child: int) -> int:
    """Wait for the end of a child: its status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child; 0 when it returned, else how the child ended."""
    return exit_status(fork_child(action))
