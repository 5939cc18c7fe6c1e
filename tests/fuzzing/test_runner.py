"""A run draws cases until one fails, the time is up or there were enough."""

from __future__ import annotations

import pytest

from tests.fuzzing.shelf_trial import FallingShelfTrial, ForgetfulShelfTrial, ShelfTrial
from vmbus.fuzzing import Case, Step, Wrong, failure_of, fuzz


def test_a_run_performs_as_many_cases_as_it_is_asked_for_and_counts_corners():
    seen = []
    result = fuzz(ShelfTrial, cases=280, seconds=60, progress=lambda so_far: seen.append(so_far.cases))
    assert (result.cases, result.failure) == (280, None)
    assert seen == [50, 250, 280]
    assert set(result.corners) == set(ShelfTrial.CORNERS)
    assert all(0 < count <= 280 for count in result.corners.values())
    assert result.rate == result.cases / result.seconds


def test_a_run_repeats_itself_and_another_seed_draws_other_cases():
    for seed in (3, 4):  # random bytes, and what Hypothesis draws
        first, again = (fuzz(ShelfTrial, cases=50, seconds=60, seed=seed).corners for _ in range(2))
        assert first == again != fuzz(ShelfTrial, cases=50, seconds=60, seed=seed + 2).corners


def test_a_run_ends_when_its_time_is_up():
    result = fuzz(ShelfTrial, seconds=0.1)
    assert result.cases > 0
    assert result.seconds < 5
    assert fuzz(ShelfTrial, seconds=0).cases == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_case_that_fails_is_made_small(jobs):
    result = fuzz(ForgetfulShelfTrial, seconds=60, jobs=jobs)
    failure = result.failure
    assert failure.is_finding
    assert failure.reason == "how many there are: 0 instead of 1"
    smallest = Case(ForgetfulShelfTrial, {"room": 1, "flaw": "forgets"}, (Step("put", {"number": 200}),))
    assert failure.case == smallest
    with pytest.raises(Wrong):
        failure.case.perform()


def test_a_case_of_random_bytes_that_fails_is_made_small_as_well():
    failure = fuzz(ForgetfulShelfTrial, seconds=60, seed=1).failure
    assert failure.is_finding
    assert len(failure.case.steps) == 1
    assert str(failure_of(failure.case)) == failure.reason


def test_what_nobody_expected_is_a_failure_and_no_finding():
    failure = fuzz(FallingShelfTrial, seconds=60).failure
    assert not failure.is_finding
    assert failure.reason == "ZeroDivisionError: the shelf fell"
    assert "in take" in failure.trace


def test_processes_share_the_rounds():
    result = fuzz(ShelfTrial, cases=450, seconds=60, jobs=2)
    alone = fuzz(ShelfTrial, cases=450, seconds=60)
    assert (result.cases, result.corners) == (alone.cases, alone.corners)
