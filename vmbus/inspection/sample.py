"""A dump that comes with the package."""

from __future__ import annotations

import os

__all__ = ["sample_path"]


def sample_path() -> str:
    """The name of a dump that comes with the package: the two rings of a channel."""
    return os.path.join(os.path.dirname(__file__), "sample.bin")
