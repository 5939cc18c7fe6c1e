"""What every test of channels can use: child processes that do not outlive it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.channel.children import Children


@pytest.fixture
def children(no_descriptor_left: None) -> Iterator[Children]:
    """Starts children, and sees to it that nothing of them is left."""
    with contextlib.closing(Children()) as started:
        yield started
