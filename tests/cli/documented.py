"""The keys of a JSON document, and those that the docstring of the module that makes it has in quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["documented_keys", "keys_in"]


def documented_keys(module: ModuleType) -> set[str]:
    """Every word in quotes in the docstring of a module."""
    return set(re.findall(r'"(\w+)"', module.__doc__ or ""))


def keys_in(document: Any) -> set[str]:
    """Every key of a document, and of all that is in it."""
    return set(all_keys(document))


def all_keys(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from part
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from all_keys(one)
