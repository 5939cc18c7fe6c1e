"""Hypothesis strategies of scripts: what a trial is set up with, and what is done on it, one behind the other.

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .arguments import Argument, Bytes, ByteSource, Choice, Flag, Listing, Number, Rest
from .case import Case, Step
from .trial import Trial

__all__ = ["of_argument", "of_arguments", "scripts"]

#: The most raw bytes that are drawn; libFuzzer starts with as many.
LONGEST_REST = 4096


def of_argument(argument: Argument) -> SearchStrategy[Any]:
    """The values of an argument; a number's corners are as likely as all its other values.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(of_argument(Listing(Number(8, 64, step=8), 3)), lambda value: sum(value) > 64)
    (8, 64)
    """
    if isinstance(argument, Number):
        return of_number(argument)
    if isinstance(argument, Flag):
        return st.booleans()
    if isinstance(argument, Choice):
        return st.sampled_from(argument.values)
    if isinstance(argument, Bytes):
        return st.binary(max_size=argument.longest)
    if isinstance(argument, Rest):
        return st.binary(max_size=min(argument.longest, LONGEST_REST))
    if isinstance(argument, Listing):
        return st.lists(of_argument(argument.item), max_size=argument.longest).map(tuple)
    # Somebody's own kind: any bytes are a value of it.
    return st.binary(max_size=64).map(lambda data: argument.decode(ByteSource(data)))


def of_number(argument: Number) -> SearchStrategy[int]:
    low, high, step = argument.low, argument.high, argument.step
    if step == 1:
        anywhere = st.integers(low, high)
    else:
        anywhere = st.integers(0, (high - low) // step).map(lambda count: low + step * count)
    return st.one_of(anywhere, st.sampled_from(argument.corners))


def of_arguments(arguments: Mapping[str, Argument]) -> dict[str, SearchStrategy[Any]]:
    """A strategy for each argument, by its name."""
    return {name: of_argument(argument) for name, argument in arguments.items()}


def scripts(target: str | type[Trial], *, most_steps: int = 30) -> SearchStrategy[Case]:
    """Cases of a trial: its settings and up to `most_steps` operations.

    target   a trial, or the name of one of the targets of `vmbus fuzz list`

    >>> from vmbus.fuzzing.strategies import smallest
    >>> from vmbus.fuzzing.trial import Trial, operation
    >>> class Sum(Trial):
    ...     name, summary = "sum", "numbers are added"
    ...     @operation(value=Number(0, 9))
    ...     def add(self, value): ...
    >>> print(smallest(scripts(Sum), lambda case: len(case.steps) == 2))
    sum()
      add(value=0)
      add(value=0)
    """
    if isinstance(target, str):
        from .target_table import target_named

        trial = target_named(target)
    else:
        trial = target
    steps = [
        st.builds(Step, st.just(operation.name), st.fixed_dictionaries(of_arguments(operation.arguments)))
        for operation in trial.operations()
    ]
    listed = st.lists(st.one_of(steps), max_size=most_steps) if steps else st.just([])
    return st.builds(
        Case, st.just(trial), st.fixed_dictionaries(of_arguments(trial.settings)), listed.map(tuple)
    )
