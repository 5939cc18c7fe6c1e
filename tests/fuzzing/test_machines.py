"""A machine does what its trial can do, and finds what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzzing.shelf_trial import FallingShelfTrial, ForgetfulShelfTrial, Shelf, ShelfTrial
from vmbus.fuzzing import Case, Wrong, machine_of

quick = settings(
    max_examples=60,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def run(machine):
    run_state_machine_as_test(machine, settings=quick)


def test_a_machine_that_finds_nothing_wrong_does_every_operation_and_ends_every_trial():
    ended, done = [], set()

    class Watched(machine_of(ShelfTrial)):
        def perform(self, step):
            done.add(step.name)
            super().perform(step)

        def teardown(self):
            super().teardown()
            ended.append((self.trial.is_closed, self.trial.model, self.case.perform().keys()))

    run(Watched)
    assert done == {"put", "take", "put_many"}
    assert all(closed and not model for closed, model, _ in ended)
    assert set().union(*(corners for _, _, corners in ended)) == set(ShelfTrial.CORNERS)


def test_a_machine_finds_the_smallest_case_and_that_case_fails_without_hypothesis():
    last: list[Case] = []

    class Watched(machine_of(ForgetfulShelfTrial)):
        def teardown(self):
            last[:] = [self.case]
            super().teardown()

    with pytest.raises(Wrong):
        run(Watched)
    (case,) = last
    assert [step.name for step in case.steps] == ["put"]
    assert (case.settings["room"], case.steps[0].arguments) == (1, {"number": 200})
    with pytest.raises(Wrong):
        case.perform()


def test_an_error_that_nobody_expected_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        run(machine_of(FallingShelfTrial))


def test_a_user_brings_what_is_to_be_tested():
    class UpsideDown(Shelf):
        def take(self):
            return self.numbers.pop()

    class Mine(machine_of(ShelfTrial)):
        def make_trial(self, **settings):
            trial = super().make_trial(**settings)
            trial.shelf = UpsideDown(settings["room"], "none")
            return trial

    with pytest.raises(Wrong, match="what was put first"):
        run(Mine)


def test_a_machine_is_named_after_its_trial_and_made_once():
    assert machine_of(ShelfTrial).__name__ == "ShelfMachine"
    assert machine_of(ShelfTrial) is machine_of(ShelfTrial)
