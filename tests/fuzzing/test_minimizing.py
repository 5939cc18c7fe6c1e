"""A case that fails becomes smaller and fails as it did."""

from __future__ import annotations

import pytest

from tests.fuzzing.shelf_trial import FallingShelfTrial, ForgetfulShelfTrial, ShelfTrial
from vmbus.errors import CallerError
from vmbus.fuzzing import Case, Step, Wrong, failure_of, minimized, operation
from vmbus.fuzzing.differences import demand_bytes


def puts(trial, room, *numbers):
    flaw = trial.settings["flaw"].values[0]
    return Case(trial, {"room": room, "flaw": flaw}, tuple(Step("put", {"number": n}) for n in numbers))


def test_steps_that_are_not_needed_go_and_arguments_become_simple():
    told = []
    noise = [Step("take", {}), Step("put_many", {"numbers": (1, 2), "backwards": True, "label": b"x"})]
    case = puts(ForgetfulShelfTrial, 1, 3, 250)
    case = case._replace(steps=(*noise, *case.steps[:1], *noise[:1], *case.steps[1:], *noise))
    smaller = minimized(case, told.append)
    assert smaller == puts(ForgetfulShelfTrial, 1, 200)
    assert told == sorted(told, reverse=True)
    assert told[-1] == 1


def test_another_failure_than_that_of_the_case_is_not_taken_for_it():
    case = puts(FallingShelfTrial, 4, 1, 2, 120, 9)
    assert isinstance(failure_of(case), ZeroDivisionError)
    assert minimized(case) == puts(FallingShelfTrial, 1, 101)


def test_a_case_that_does_not_fail_cannot_be_minimized():
    with pytest.raises(CallerError, match="does not fail"):
        minimized(puts(ForgetfulShelfTrial, 2, 7))


def test_the_failure_of_a_case_is_told():
    assert isinstance(failure_of(puts(ForgetfulShelfTrial, 1, 200)), Wrong)
    assert failure_of(puts(ForgetfulShelfTrial, 1, 199)) is None


def test_a_case_that_takes_long_is_given_up_in_time():
    case = puts(ForgetfulShelfTrial, 2, 1, 250)
    assert minimized(case, seconds=0) == case


class TwoDemands(ShelfTrial):
    """Two demands that one function of another file makes."""

    name = "two-demands"

    @operation()
    def take(self) -> None:
        demand_bytes(bytes(self.model), b"", "what is taken")

    def finish(self) -> None:
        demand_bytes(bytes(self.model), b"", "what is left")


def test_two_demands_that_one_function_compares_are_two_failures():
    steps = (Step("put", {"number": 9}), Step("take", {}))
    smaller = minimized(Case(TwoDemands, {"room": 1, "flaw": "none"}, steps))
    assert [step.name for step in smaller.steps] == ["put", "take"]
    assert str(failure_of(smaller)).startswith("what is taken")
