"""Imported before what needs hypothesis: says how to get it where it is not installed."""

from __future__ import annotations

__all__: list[str] = []

try:
    import hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "this needs hypothesis, which is not installed: pip install 'vmbus[fuzzing]'", name="hypothesis"
    ) from error
