"""A case is the same as bytes, as JSON and as a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.shelf_trial import FallingShelfTrial, ForgetfulShelfTrial, ShelfTrial
from vmbus.errors import CallerError
from vmbus.fuzzing import Case, Step, Wrong

ROOT = Path(__file__).parents[2]

FORGETS = Case(
    ForgetfulShelfTrial,
    {"room": 2, "flaw": "forgets"},
    (Step("put", {"number": 200}), Step("put", {"number": 1})),
)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_case_that_is_written_back_in_both_forms_and_ends(data):
    case = Case.from_bytes(ShelfTrial, data)
    assert Case.from_bytes(ShelfTrial, case.to_bytes()) == case
    assert Case.from_json(ShelfTrial, json.loads(json.dumps(case.to_json()))) == case
    case.perform()


def test_the_bytes_are_the_settings_and_then_the_number_and_arguments_of_each_operation():
    case = Case(ShelfTrial, {"room": 4, "flaw": "none"}, (Step("take", {}), Step("put", {"number": 9})))
    room, flaw, take = [2], [0], [1]  # the greatest is the second corner
    assert case.to_bytes() == bytes([*room, *flaw, *take, 0, 1, 9])


def test_a_case_of_no_bytes_has_the_first_settings_and_no_steps():
    assert Case.from_bytes(ShelfTrial, b"") == Case(ShelfTrial, {"room": 1, "flaw": "none"}, ())


def test_corners_are_counted_and_the_trial_is_closed_behind_a_failure_too(monkeypatch):
    closed = []
    monkeypatch.setattr(ShelfTrial, "close", lambda self: closed.append(self))
    steps = (Step("put", {"number": 1}), Step("put", {"number": 1}), Step("take", {}), Step("take", {}))
    assert Case(ShelfTrial, {"room": 1, "flaw": "none"}, steps).perform() == {"full": 1, "empty": 1}
    with pytest.raises(Wrong, match="how many there are: 1 instead of 2"):
        FORGETS.perform()
    assert len(closed) == 2


def test_an_error_that_the_trial_does_not_expect_comes_out_as_it_is():
    case = Case(FallingShelfTrial, {"room": 1, "flaw": "falls apart"}, (Step("put", {"number": 101}),))
    with pytest.raises(ZeroDivisionError):  # at the end, where all is taken
        case.perform()


def test_what_is_met_at_the_end_counts():
    unseen = Case(ForgetfulShelfTrial, {"room": 2, "flaw": "forgets"}, (Step("put", {"number": 250}),))
    assert unseen.perform() == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "vmbus.inspect/1"}, "not a case of shelf"),
        ({"target": "ring"}, "not a case of shelf"),
        ({"steps": 3}, "the steps are no list"),
        ({"steps": [["put"]]}, "is no step"),
        ({"steps": ["put"]}, "is no step"),
        ({"steps": [["fall", {}]]}, "has no operation 'fall'"),
        ({"steps": [[["put"], {}]]}, "has no operation"),
        ({"steps": [["put", {}]]}, "the values are to be number, and are none"),
        ({"steps": [["put", {"number": 256}]]}, "256 is not a value of"),
        ({"steps": [["put", 3]]}, "the values are to be number, and are none"),
        ({"settings": {"room": 1}}, "the values are to be room, flaw, and are room"),
        ({"settings": {"room": 9, "flaw": "none"}}, "9 is not a value of"),
    ],
)
def test_json_that_is_no_case_is_refused_with_what_is_wrong(change, message):
    document = Case(ShelfTrial, {"room": 1, "flaw": "none"}, ()).to_json() | change
    with pytest.raises(CallerError, match=message):
        Case.from_json(ShelfTrial, document)


def test_a_step_that_the_trial_does_not_have_cannot_be_written():
    with pytest.raises(CallerError, match="no operation 'fall'"):
        FORGETS._replace(steps=(Step("fall", {}),)).to_bytes()


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-"], input=script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_script_of_a_case_ends_with_its_error():
    done = run_script(FORGETS.to_script())
    assert done.returncode == 1
    assert done.stderr.endswith("Wrong: how many there are: 1 instead of 2\n")
    assert done.stdout == ""


def test_the_script_of_a_case_that_does_not_fail_says_so():
    done = run_script(FORGETS._replace(steps=FORGETS.steps[:1]).to_script())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "nothing went wrong: this case no longer fails\n"


def test_a_case_is_shown_as_calls():
    assert str(FORGETS).splitlines() == [
        "forgetful-shelf(room=2, flaw='forgets')",
        "  put(number=200)",
        "  put(number=1)",
    ]


def test_more_steps_than_bytes_can_have_are_refused():
    with pytest.raises(CallerError, match="2001 steps are too many"):
        FORGETS._replace(steps=(Step("take", {}),) * 2001).to_bytes()
    many = FORGETS._replace(steps=(Step("take", {}),) * 2000)
    assert Case.from_bytes(ForgetfulShelfTrial, many.to_bytes()) == many


def test_a_trial_that_no_script_can_import_has_no_script():
    class Inner(ShelfTrial):
        pass

    with pytest.raises(CallerError, match="cannot be imported by a script"):
        Case(Inner, {"room": 1, "flaw": "none"}, ()).to_script()
