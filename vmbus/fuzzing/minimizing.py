"""Make a case that fails smaller, and keep it failing for the same reason.

First steps are left out, as many together as will go; then each argument of those that are left is made simpler as
long as that goes; then a step less and a simpler argument are tried together; at last Hypothesis looks for what is
simpler in several arguments at once.  The result is the smallest that was found, not the smallest there is.

Source of leaving out in halves: A. Zeller and R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input,
IEEE Transactions on Software Engineering 28(2), 2002.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from time import monotonic
from types import TracebackType
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy, builds, fixed_dictionaries, just, tuples

from vmbus.errors import CallerError

from . import differences
from . import trial as trial_module
from .arguments import Argument
from .case import Case, Step, operation_of
from .strategies import of_arguments

__all__ = ["failure_of", "minimized"]

#: How many cases Hypothesis may draw.
TRIES = 200

#: Cases with no more steps are made simpler in two places at a time.
FEW_STEPS = 12

#: Told how many steps the smallest case so far has.
Progress = Callable[[int], object]

#: What tells one failure from another: the kind of each error, from the outermost to its causes, and its line.
Cause = list[tuple[type[BaseException], str, int]]

#: Files whose lines say what a failure looks like, not which it is.
MESSENGERS = {trial_module.__file__, differences.__file__, contextlib.__file__}

#: Seconds after which a case is taken as it is.
PATIENCE = 60.0


def failure_of(case: Case) -> Exception | None:
    """What a case fails with; None where it does not."""
    try:
        case.perform()
    except Exception as error:  # noqa: BLE001 - whatever it is, the case fails with it
        return error
    return None


def minimized(case: Case, progress: Progress | None = None, *, seconds: float = PATIENCE) -> Case:
    """A smaller case that fails as this one does; CallerError for one that does not fail.

    progress   called with the number of steps whenever there are fewer
    seconds    after which the smallest so far is taken
    """
    failure = failure_of(case)
    if failure is None:
        raise CallerError(
            "this case does not fail", argument="case", value=case.trial.name, limit="a failure"
        )
    cause = cause_of(failure)
    end = monotonic() + seconds

    def fails(other: Case) -> bool:
        if monotonic() >= end:
            return False
        failure = failure_of(other)
        return failure is not None and cause_of(failure) == cause

    while True:  # simpler arguments can make more steps needless
        smaller = with_each_argument_simpler(with_fewer_steps(case, fails, progress), fails)
        if smaller == case:
            smaller = next(filter(fails, cases_simpler_in_two_places(case)), case)
        if smaller == case:
            smaller = with_arguments_drawn_anew(case, fails)
        if smaller == case:
            return case
        case = smaller


def cause_of(failure: BaseException) -> Cause:
    """What tells a failure from others."""
    causes: Cause = []
    error: BaseException | None = failure
    while error is not None:
        causes.append((type(error), *line_of(error)))
        error = error.__cause__
    return causes


def line_of(error: BaseException) -> tuple[str, int]:
    """The line that raised an error; of a demand, the line that made it."""
    place = ("", 0)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in MESSENGERS:
            place = (file, trace.tb_lineno)
        trace = trace.tb_next
    return place


def rank_of(case: Case) -> tuple[Any, ...]:
    """How simple a case is: every change that is kept makes this less, so there is an end to them."""
    parts: list[Any] = [len(case.steps), *ranks(case.trial.settings, case.settings)]
    for step in case.steps:
        parts += ranks(operation_of(case.trial, step.name).arguments, step.arguments)
    return tuple(parts)


def ranks(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> Iterator[Any]:
    return (argument.rank(values[name]) for name, argument in arguments.items())


def with_fewer_steps(case: Case, fails: Callable[[Case], bool], progress: Progress | None) -> Case:
    """Leave out as many steps as will go: first half of them at a time, at last one."""
    length = max(1, len(case.steps) // 2)
    while True:
        start = 0
        while start < len(case.steps):
            shorter = case._replace(steps=case.steps[:start] + case.steps[start + length :])
            if fails(shorter):
                case = shorter
                if progress is not None:
                    progress(len(case.steps))
            else:
                start += length
        if length == 1:
            return case
        length //= 2


def with_each_argument_simpler(case: Case, fails: Callable[[Case], bool]) -> Case:
    """Make arguments simpler, one after the other, until none can be."""
    while True:
        found = next(filter(fails, simpler_cases(case)), None)
        if found is None:
            return case
        case = found


def simpler_cases(case: Case) -> Iterator[Case]:
    """Cases with one simpler argument each."""
    for values in simpler_values(case.trial.settings, case.settings):
        yield case._replace(settings=values)
    for number, step in enumerate(case.steps):
        for values in simpler_values(operation_of(case.trial, step.name).arguments, step.arguments):
            steps = (*case.steps[:number], step._replace(arguments=values), *case.steps[number + 1 :])
            yield case._replace(steps=steps)


def cases_simpler_in_two_places(case: Case) -> Iterator[Case]:
    """Cases with a step less and one simpler argument: a ring that is smaller is full sooner.

    Of a case with many steps that would be too many.
    """
    if len(case.steps) > FEW_STEPS:
        return
    for number in range(len(case.steps)):
        yield from simpler_cases(case._replace(steps=case.steps[:number] + case.steps[number + 1 :]))


def simpler_values(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, argument in arguments.items():
        for simpler in argument.simpler(values[name]):
            yield {**values, name: simpler}


def with_arguments_drawn_anew(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The same steps with what Hypothesis finds simplest; the case itself where it finds nothing smaller."""
    quiet = settings(
        max_examples=TRIES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        simpler = find(cases_like(case), fails, settings=quiet, random=Random(0))
    except NoSuchExample:
        return case
    return min(case, simpler, key=rank_of)


def cases_like(case: Case) -> SearchStrategy[Case]:
    """Cases of the same steps in the same order."""

    def like(step: Step) -> SearchStrategy[Step]:
        arguments = operation_of(case.trial, step.name).arguments
        return builds(Step, just(step.name), fixed_dictionaries(of_arguments(arguments)))

    steps: SearchStrategy[Any] = tuples(*map(like, case.steps))
    return builds(Case, just(case.trial), fixed_dictionaries(of_arguments(case.trial.settings)), steps)
