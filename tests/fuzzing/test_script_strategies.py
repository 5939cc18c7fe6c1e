"""What is drawn for the arguments of a trial can be written as bytes, and scripts of a trial are cases."""

from __future__ import annotations

import pytest

from tests.fuzzing.drawing import drawn
from tests.fuzzing.shelf_trial import ShelfTrial
from vmbus.errors import CallerError
from vmbus.fuzzing import Argument, Bytes, ByteSource, Case, Choice, Flag, Listing, Number, Rest, Trial
from vmbus.fuzzing.strategies import of_argument, scripts, smallest

ARGUMENTS = [
    Number(0, 4096, corners=[8, 4088]),
    Number(-5, 5),
    Number(8, 4088, step=8),
    Flag(),
    Choice("flat", "paged", 7),
    Bytes(9),
    Rest(100),
    Listing(Listing(Number(1, 3), 2), 3),
]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=repr)
def test_every_value_of_an_argument_can_be_written_and_read_again(argument):
    for value in drawn(of_argument(argument), 30):
        assert argument.decode(ByteSource(argument.encode(value))) == value


def test_a_number_in_steps_is_drawn_only_where_a_step_is():
    found = set(drawn(of_argument(Number(8, 4088, step=8)), 80))
    assert found <= set(range(8, 4096, 8))
    assert len(found) > 20


@pytest.mark.parametrize("argument", ARGUMENTS[:3], ids=repr)
def test_each_corner_of_a_number_is_drawn(argument):
    assert set(argument.corners) <= set(drawn(of_argument(argument), 80))


class Even(Argument):
    """A kind of argument that the strategies do not know."""

    def decode(self, source: ByteSource) -> int:
        return 2 * source.number()


def test_an_argument_of_somebodys_own_is_drawn_through_its_bytes():
    found = drawn(of_argument(Even()), 40)
    assert all(value % 2 == 0 for value in found)
    assert len(set(found)) > 5


class Idle(Trial):
    """A trial without settings or operations."""

    name = "idle"
    summary = "nothing is done"


@pytest.mark.parametrize("trial", [ShelfTrial, "ring"], ids=str)
def test_scripts_are_cases_that_have_bytes(trial):
    found = drawn(scripts(trial, most_steps=8), 30)
    for case in found:
        assert Case.from_bytes(case.trial, case.to_bytes()) == case
    assert max(len(case.steps) for case in found) <= 8
    assert len({step.name for case in found for step in case.steps}) > 1


def test_a_trial_in_which_nothing_can_be_done_has_a_script_too():
    assert smallest(scripts(Idle), lambda case: True) == Case(Idle, {}, ())


def test_a_target_that_there_is_not_is_refused():
    with pytest.raises(CallerError, match="ring"):
        scripts("rong")
