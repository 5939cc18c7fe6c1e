"""Trials as state machines of Hypothesis.

    class MyRings(machine_of(RingTrial)):
        def make_trial(self, **settings):
            return RingTrial(**settings, make_memory=MyMemory)

    TestMyRings = MyRings.TestCase

Hypothesis chooses the operations and what they are given; where one goes wrong it looks for the smallest case that
does.  The rules are the operations of the trial, and after each the trial's check is made.  `case` is what has
been done so far: to be kept, or to be performed without Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import new_class
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from .case import Case, Step
from .strategies import of_arguments
from .trial import Operation, Trial

__all__ = ["TrialMachine", "machine_of"]


class OneBugAtATime:
    """The test case of a machine, as Hypothesis makes it, that looks for the smallest case of one bug.

    By itself Hypothesis goes on for every place where the machine fails, and is silent for minutes.
    """

    def __get__(self, machine: object, kind: type[RuleBasedStateMachine]) -> Any:
        known = vars(kind).get("_test_case")
        if known is None:
            known = RuleBasedStateMachine.__dict__["TestCase"].__get__(None, kind)
            known.settings = settings(known.settings, report_multiple_bugs=False)
            type.__setattr__(kind, "_test_case", known)
        return known


class TrialMachine(RuleBasedStateMachine):
    """The base of the machines; `machine_of` makes one of a trial.

    trial       what is being driven
    case        what has been done on it
    """

    TestCase: Any = OneBugAtATime()
    trial_class: ClassVar[type[Trial]]
    trial: Trial
    case: Case

    def make_trial(self, **settings: Any) -> Trial:
        """The trial of one case; override it to bring a memory, a ring or a channel of your own."""
        return self.trial_class(**settings)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """The first step of every case."""
        self.case = Case(self.trial_class, settings, ())
        self.trial = self.make_trial(**settings)
        self.trial.check()

    def perform(self, step: Step) -> None:
        """Every other step."""
        self.case = self.case._replace(steps=(*self.case.steps, step))
        self._all_is_well = False
        self.trial.perform(step.name, step.arguments)
        self._all_is_well = True

    def teardown(self) -> None:
        """The end of a case; of one that failed, too."""
        if not hasattr(self, "trial"):
            return
        try:
            if self._all_is_well:
                self.trial.finish()
        finally:
            self.trial.close()

    _all_is_well = True


@cache
def machine_of(trial: type[Trial]) -> type[TrialMachine]:
    """The state machine of a trial, to be subclassed or to be used as it is."""

    def body(namespace: dict[str, Any]) -> None:
        namespace["__doc__"] = f"{trial.summary}."
        namespace["trial_class"] = trial
        namespace["do_begin"] = beginning_of(trial)
        for operation in trial.operations():
            namespace[f"do_{operation.name}"] = rule_of(operation)

    return new_class(f"{trial.__name__.removesuffix('Trial')}Machine", (TrialMachine,), exec_body=body)


def beginning_of(trial: type[Trial]) -> Callable[..., None]:
    def do_begin(self: TrialMachine, **settings: Any) -> None:
        self.begin(settings)

    mark: Any = initialize(**of_arguments(trial.settings))  # type: ignore[call-overload]
    marked: Callable[..., None] = mark(do_begin)
    return marked


def rule_of(operation: Operation) -> Callable[..., None]:
    def do(self: TrialMachine, **arguments: Any) -> None:
        self.perform(Step(operation.name, arguments))

    do.__name__ = do.__qualname__ = f"do_{operation.name}"
    mark: Any = rule(**of_arguments(operation.arguments))  # type: ignore[call-overload]
    marked: Callable[..., None] = mark(do)
    return marked
