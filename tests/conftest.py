"""Registers the mark `known_bug`, so that `pytest -m known_bug` runs the tests that name a bug."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "known_bug(*numbers): keeps a bug of the catalogue in tests/known_bugs.py out"
    )
