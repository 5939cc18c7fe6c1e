"""Whether a function that somebody else wrote makes what it should: looked at once, before anything is checked.

Where it does not, every check would fail in the same way, at some place far from the mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .conformance_report import Mismatch, brief, place_of

__all__ = ["called", "demand_has", "two_of"]


def called(call: str, wanted: str, function: Callable[..., Any], *arguments: object) -> Any:
    """What a call returns; Mismatch where it raises.

    >>> called("make(7)", "a RingMem", lambda: None, 7)
    Traceback (most recent call last):
      ...
    vmbus.fuzzing.conformance_report.Mismatch: expected a RingMem from make(7); came TypeError: <lambda>() takes \
0 positional arguments but 1 was given
    """
    try:
        return function(*arguments)
    except Exception as error:
        inside = error.__traceback__ is not None and error.__traceback__.tb_next is not None
        came = f"{type(error).__name__}: {brief(str(error))}"
        # One that was raised here and no deeper is about the call itself: the place would be this one.
        raise Mismatch(f"{wanted} from {call}", f"{came}, {place_of(error)}" if inside else came) from error


def two_of(made: Any, call: str, wanted: str) -> tuple[Any, ...]:
    """The two things that were made; Mismatch where these are not two."""
    try:
        both = tuple(made)
    except TypeError:
        raise Mismatch(f"{wanted} from {call}", f"{kind_of(made)}, which is no pair") from None
    if len(both) != 2:
        raise Mismatch(f"{wanted} from {call}", f"{kind_of(made)} of {len(both)}")
    return both


def demand_has(made: object, names: Sequence[str], call: str, wanted: str) -> None:
    """Raise Mismatch unless it has all these attributes."""
    missing = [name for name in names if not hasattr(made, name)]
    if missing:
        raise Mismatch(f"{wanted} from {call}", f"{kind_of(made)}, which has no {', '.join(missing)}")


def kind_of(made: object) -> str:
    return "None" if made is None else type(made).__name__
