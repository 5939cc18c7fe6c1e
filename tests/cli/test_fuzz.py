"""`vmbus fuzz`: run, repeat, make small, and keep cases.

The targets of these tests are two small ones: a shelf that is right, and one that forgets.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.cli.running import Ending, run
from tests.fuzzing.shelf_trial import FallingShelfTrial, ForgetfulShelfTrial, ShelfTrial
from vmbus.cli.fuzz_command import TABLE
from vmbus.cli.main import main
from vmbus.fuzzing import (
    BREAKS,
    Case,
    RunResult,
    Step,
    Trial,
    corpus_of,
    dictionary,
    file_name,
    reader_image,
    targets,
)

ROOT = Path(__file__).parents[2]

SMALLEST = Case(ForgetfulShelfTrial, {"room": 1, "flaw": "forgets"}, (Step("put", {"number": 200}),))


@pytest.fixture(autouse=True)
def shelves(monkeypatch, tmp_path):
    """The small targets beside ours, and a folder to be in."""
    for trial in (ShelfTrial, ForgetfulShelfTrial, FallingShelfTrial):
        monkeypatch.setitem(targets(), trial.name, trial)
    monkeypatch.chdir(tmp_path)


def fuzz(*words: str) -> Ending:
    """What comes of `vmbus fuzz` with these words."""
    return run("fuzz", *words)


def crash(folder: str = "artifacts", case: Case = SMALLEST) -> Path:
    """A case that is kept as `vmbus fuzz run` keeps one."""
    path = Path(folder) / case.trial.name / "crash-1"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.to_bytes())
    return path


# -- the table -----------------------------------------------------------------------------------------


def test_help_names_every_command_with_an_example():
    status, output, errors = fuzz("--help")
    assert (status, errors) == (0, "")
    for name, command in TABLE.commands.items():
        assert f"\n  {name} " in output
        assert f"\n  {command.example}\n" in output
        assert command.example.startswith(f"vmbus fuzz {name}")


def test_without_a_command_the_help_is_shown():
    assert fuzz() == fuzz("--help")


@pytest.mark.parametrize("name", TABLE.commands)
def test_every_command_has_examples_in_its_help(name):
    status, output, _ = fuzz(name, "--help")
    assert status == 0
    assert f"\n  vmbus fuzz {name}" in output


def test_a_command_that_there_is_not_is_refused_with_a_near_one():
    assert fuzz("minimise", "x") == (
        2,
        "",
        "vmbus: minimise: no such command; did you mean minimize? (try 'vmbus fuzz --help')\n",
    )


# -- list ----------------------------------------------------------------------------------------------


def test_list_has_a_line_for_each_target():
    status, output, _ = fuzz("list")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == list(targets())


def test_list_shows_all_that_one_target_can_do():
    output = fuzz("list", "shelf")[1]
    assert "put(number: Number(0, 255))" in output
    assert output.splitlines()[-4:] == ["corners", "  full", "  empty", "  many at once"]


def test_list_as_json():
    document = json.loads(fuzz("list", "--json")[1])
    assert document["schema"] == "vmbus.targets/1"
    assert [one["name"] for one in document["targets"]] == list(targets())
    assert set(document["targets"][-1]) == {"name", "summary", "settings", "operations", "corners"}


def test_a_target_that_there_is_not_is_refused_with_those_there_are():
    for command in (["list", "shelve"], ["run", "shelve"], ["corpus", "d", "--target", "shelve"]):
        status, output, errors = fuzz(*command)
        assert (status, output) == (2, "")
        assert "no target is called 'shelve'; there are ring, " in errors
        assert errors.count("\n") == 1


# -- run -----------------------------------------------------------------------------------------------


def test_run_shows_how_many_cases_met_each_corner():
    status, output, errors = fuzz("run", "shelf", "--cases", "150")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0].startswith("shelf: 150 cases in ")
    assert lines[0].endswith(" a second")
    assert [line.split()[:-1] for line in lines[1:4]] == [["full"], ["empty"], ["many", "at", "once"]]
    assert lines[4:] == ["every corner was met", "nothing wrong"]


def test_run_names_the_corners_that_no_case_met():
    assert "corners that no case met: " in fuzz("run", "image", "--cases", "1")[1]


def test_run_keeps_the_smallest_case_that_fails_in_bytes_and_in_json():
    status, output, _ = fuzz("run", "forgetful-shelf", "--seconds", "60")
    assert status == 1
    (kept,) = Path("artifacts/forgetful-shelf").glob("crash-*[!n]")
    assert Case.from_bytes(ForgetfulShelfTrial, kept.read_bytes()) == SMALLEST
    document = json.loads(kept.with_suffix(".json").read_text())
    assert Case.from_json(ForgetfulShelfTrial, document) == SMALLEST
    assert output.splitlines()[-4:] == [
        "forgetful-shelf(room=1, flaw='forgets')",
        "  put(number=200)",
        "wrong: how many there are: 0 instead of 1",
        f"kept in {kept}; vmbus fuzz repro {kept} --script writes it as a Python program",
    ]
    assert fuzz("repro", str(kept))[0] == fuzz("repro", f"{kept}.json")[0] == 1


def test_run_shows_where_an_error_came_from_that_nobody_expected():
    status, output, _ = fuzz("run", "falling-shelf", "--artifacts", "kept")
    assert status == 1
    assert "raised what nobody expected: ZeroDivisionError: the shelf fell\nTraceback" in output
    assert len(list(Path("kept/falling-shelf").iterdir())) == 2


def test_run_as_json():
    status, output, _ = fuzz("run", "shelf", "--cases", "50", "--json")
    document = json.loads(output)
    assert status == 0
    assert document["schema"] == "vmbus.fuzz/1"
    assert (document["target"], document["cases"], document["failure"]) == ("shelf", 50, None)
    assert list(document["corners"]) == list(ShelfTrial.CORNERS)
    assert document["rate"] == document["cases"] / document["seconds"]
    failure = json.loads(fuzz("run", "forgetful-shelf", "--json")[1])["failure"]
    assert (failure["finding"], failure["reason"]) == (True, "how many there are: 0 instead of 1")
    assert failure["case"] == SMALLEST.to_json()
    assert Path(failure["file"]).is_file()


def test_run_says_before_all_work_that_it_cannot_keep_anything():
    Path("file").touch()
    status, output, errors = fuzz("run", "shelf", "--artifacts", "file")
    assert (status, output) == (2, "")
    assert "file" in errors


def test_a_case_that_cannot_be_kept_is_shown_all_the_same(monkeypatch):
    def refuse(directory, case):
        raise PermissionError(13, "Permission denied", "kept/crash")

    monkeypatch.setattr("vmbus.cli.fuzz_run.keep", refuse)
    with redirect_stderr(io.StringIO()) as errors, redirect_stdout(io.StringIO()) as output:
        assert main(["fuzz", "run", "forgetful-shelf"]) == 1
    assert output.getvalue().endswith("  put(number=200)\nwrong: how many there are: 0 instead of 1\n")
    assert errors.getvalue() == "vmbus: kept/crash: Permission denied: the case that failed is not kept\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "--jobs 0: from 1, this process alone, to 256"),
        (["--jobs", "2K"], "--jobs 2048: from 1"),
        (["--cases", "0"], "nothing would be tried"),
        (["--seconds", "0"], "nothing would be tried"),
        (["--seconds", "soon"], "'soon' is no number of seconds"),
        (["--seconds", "-1"], "no number of seconds"),
        (["--seconds", "nan"], "no number of seconds"),
        (["--cases", "-5"], "is negative"),
    ],
)
def test_run_refuses_numbers_that_mean_nothing(words, message):
    status, output, errors = fuzz("run", "shelf", *words)
    assert (status, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_run_that_is_interrupted_shows_what_it_has_come_to(monkeypatch):
    def interrupted(trial, *, progress, **options):
        progress(RunResult(150, 2.0, Counter({"full": 9}), None))
        raise KeyboardInterrupt

    monkeypatch.setattr("vmbus.fuzzing.machinery.fuzz", interrupted)
    with redirect_stdout(io.StringIO()) as output:
        assert main(["fuzz", "run", "shelf"]) == 130
    assert output.getvalue().startswith("shelf: 150 cases in 2.0 s, 75 a second\n  full          9\n")
    with redirect_stdout(io.StringIO()) as output:
        assert main(["fuzz", "run", "shelf", "--json"]) == 130
    assert json.loads(output.getvalue())["interrupted"] is True


# -- repro ---------------------------------------------------------------------------------------------


def test_repro_shows_the_case_and_what_comes_of_it():
    assert fuzz("repro", str(crash())) == (
        1,
        "forgetful-shelf(room=1, flaw='forgets')\n  put(number=200)\nwrong: how many there are: 0 instead of 1\n",
        "",
    )
    good = crash(case=Case(ShelfTrial, {"room": 1, "flaw": "none"}, (Step("take", {}),)))
    assert fuzz("repro", str(good)) == (
        0,
        "shelf(room=1, flaw='none')\n  take()\nnothing wrong; corners met: empty\n",
        "",
    )
    fell = Case(FallingShelfTrial, {"room": 1, "flaw": "falls apart"}, (Step("put", {"number": 101}),))
    status, output, _ = fuzz("repro", str(crash(case=fell)))
    assert status == 1
    assert output.endswith("raised what nobody expected: ZeroDivisionError: the shelf fell\n")


def test_repro_writes_a_script_that_fails_on_its_own():
    status, script, _ = fuzz("repro", str(crash()), "--script")
    assert status == 0
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.endswith("Wrong: how many there are: 0 instead of 1\n")


def test_repro_writes_json_that_it_reads_again():
    Path("case.json").write_text(fuzz("repro", str(crash()), "--json")[1])
    assert fuzz("repro", "case.json") == fuzz("repro", str(crash()))


def test_repro_takes_the_target_from_the_option_or_the_folder():
    path = crash("somewhere")
    path = path.rename(path.parent.parent / "loose")
    status, _, errors = fuzz("repro", str(path))
    assert status == 2
    assert "does not say what it is a case of; say --target, one of ring, " in errors
    assert fuzz("repro", str(path), "--target", "forgetful-shelf")[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": "vmbus.case/1"}', "does not name its target"),
        (b'{"schema": "vmbus.case/1", "target": 7}', "does not name its target"),
        (b'{"schema": "vmbus.case/1", "target": "shelf", "steps": 1}', "the steps are no list"),
        (b'{"schema": "vmbus.inspect/1", "target": "shelf"}', "not a case of shelf"),
        (bytes((1 << 20) + 1), "a case has 1048576 bytes at most"),
        (b'{"schema": "vmbus.case/1", "target": "shelf"', "this is no JSON: "),
    ],
)
def test_a_file_that_is_no_case_is_refused_in_one_line(content, message):
    Path("file").write_bytes(content)
    status, output, errors = fuzz("repro", "file")
    assert (status, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_file_that_is_not_there_is_named():
    assert fuzz("repro", "nowhere") == (2, "", "vmbus: nowhere: No such file or directory\n")


# -- minimize ------------------------------------------------------------------------------------------


def test_minimize_writes_a_smaller_case_beside_the_file():
    steps = (Step("take", {}), *(Step("put", {"number": number}) for number in (251, 9, 252)))
    path = crash(case=SMALLEST._replace(steps=steps))
    status, output, _ = fuzz("minimize", str(path))
    assert status == 0
    assert output.splitlines()[-1] == f"4 steps became 1; written to {path}.min"
    assert Case.from_bytes(ForgetfulShelfTrial, Path(f"{path}.min").read_bytes()) == SMALLEST
    assert fuzz("minimize", str(path), "-o", "small")[0] == 0
    assert Path("small").read_bytes() == SMALLEST.to_bytes()


def test_minimize_refuses_a_case_that_does_not_fail():
    path = crash(case=SMALLEST._replace(steps=()))
    status, output, errors = fuzz("minimize", str(path))
    assert (status, output) == (2, "")
    assert f"{path}: this case does not fail" in errors
    assert not Path(f"{path}.min").exists()


# -- corpus --------------------------------------------------------------------------------------------


def test_corpus_writes_the_cases_of_a_target():
    status, output, _ = fuzz("corpus", "seeds", "--target", "shelf", "--seed", "7")
    names = sorted(path.read_bytes() for path in Path("seeds/shelf").iterdir())
    assert status == 0
    assert names == sorted(kept.case.to_bytes() for kept in corpus_of(ShelfTrial, 7))
    assert output == f"{Path('seeds/shelf')}: {len(names)} cases\n"


def test_corpus_says_that_a_case_is_wrong_that_was_to_be_kept():
    status, output, _ = fuzz("corpus", "seeds", "--target", "forgetful-shelf")
    assert status == 1
    assert output.startswith("forgetful-shelf: a case that was to be kept is wrong: how many there are")


def test_corpus_writes_ring_images_that_the_strict_reader_has_read():
    status, output, _ = fuzz("corpus", "seeds", "--images", "--seed", "3")
    files = {path.name: path.read_bytes() for path in Path("seeds/images").iterdir()}
    wanted = [reader_image(3, number) for number in range(100)]
    assert (status, output) == (0, f"{Path('seeds/images')}: 100 images\n")
    assert files == {file_name(image.data): image.data for image in wanted}
    assert {image.made for image in wanted} >= set(BREAKS) | {"right", "damaged"}
    assert fuzz("corpus", "few", "--images", "--count", "3").status == 0
    assert len(list(Path("few/images").iterdir())) == 3


def test_corpus_prints_the_dictionary():
    status, output, _ = fuzz("corpus", "--dictionary")
    assert status == 0
    assert output.splitlines() == [str(entry) for entry in dictionary()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which DIR?"),
        (["seeds", "--dictionary"], "leave out DIR and --target"),
        (["seeds", "--count", "3"], "--count is how many --images"),
        (["seeds", "--images", "--target", "ring"], "--images are of no target"),
    ],
)
def test_corpus_refuses_what_contradicts_itself(words, message):
    status, output, errors = fuzz("corpus", *words)
    assert (status, output) == (2, "")
    assert message in errors


def test_every_target_is_a_trial_under_its_name():
    for name, trial in targets().items():
        assert issubclass(trial, Trial)
        assert trial.name == name
        assert trial.summary
        assert not trial.summary.endswith(".")
