"""What every test can use: the mark `known_bug` (`pytest -m known_bug`), and a watch on descriptors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.descriptors import assert_no_more_than, open_descriptors


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "known_bug(*numbers): keeps a bug of the catalogue in tests/known_bugs.py out"
    )


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """Fails when the test leaves a descriptor behind."""
    before = open_descriptors()
    yield
    assert_no_more_than(before)
