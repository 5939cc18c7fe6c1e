"""A forked child for tests of memory that two processes share."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")

#: Seconds after which a child that hangs is ended, so that the test fails instead.
PATIENCE = 20


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child; 0 when it returned, else how the child ended."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads; a test here has threads on purpose.
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
    return os.waitpid(child, 0)[1]
