"""What must be taken: an error of the package is then what the test fails by, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmbus.errors import VmbusError

__all__ = ["no_error"]


@contextmanager
def no_error(what: str) -> Iterator[None]:
    """Whatever is called in here is right, and the package takes it.

    what   which call on what, in words
    """
    try:
        yield
    except VmbusError as error:
        pytest.fail(f"{what}: {type(error).__name__}, {error}")
