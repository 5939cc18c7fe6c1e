"""`vmbus fuzz target`: what it prints, how it ends, and what it keeps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.running import ROOT, run

READERS = Path(__file__).parents[1] / "fuzzing"


def right(*more: str) -> list[str]:
    return [sys.executable, str(READERS / "ring_reader.py"), *more]


def wrong(how: str, *more: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(READERS / "wrong_reader.py"), how, *more]


@pytest.fixture(autouse=True)
def vmbus_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def target(*words: object):
    return run("fuzz", "target", *words)


def test_a_reader_that_agrees_is_said_to():
    ending = target("--cases", 30, "--batch", "--", *right("--batch"))
    assert ending.status == 0
    assert ending.out.startswith("30 images, ")
    assert ending.out.endswith("a second): no disagreements\n")


@pytest.mark.parametrize("options", [["--by", "path"], []], ids=["by path", "braces"])
def test_an_image_comes_in_a_file_by_path_or_where_braces_are(options):
    words = right() if options else right("{}")
    assert target("--cases", 1, *options, "--", *words).status == 0


def test_disagreements_are_counted_shown_and_saved(tmp_path):
    directory = tmp_path / "found"
    ending = target(
        *("--cases", 30, "--seed", 2, "--batch", "--save", directory),
        *("--", *wrong("accepts-a-missing-footer", "--batch")),
    )
    assert ending.status == 1
    first, image, expected, came, *_ = ending.out.splitlines()
    assert first.startswith("accepted-what-is-broken  ")
    assert image.startswith("  first: image ")
    assert " of seed 2 (" in image
    assert expected.startswith("  expected: ")
    assert came.startswith("  came:     ")
    path = directory / "accepted-what-is-broken.bin"
    shows = f"saved in {path}; `vmbus inspect {path}` shows it, accepted-what-is-broken.py proves it"
    assert shows in ending.out.splitlines()
    assert "footer-not-published 1" in ending.out
    assert path.with_suffix(".json").is_file()
    assert run("inspect", "--data-size", path.stat().st_size - 4096, path).status in (0, 1)


def test_json_has_the_same():
    ending = target("--json", "--cases", 10, "--batch", "--", *wrong("prints-numbers", "--batch"))
    assert ending.status == 1
    document = ending.document
    assert document["schema"] == "vmbus.fuzz-target/1"
    assert (document["cases"], document["command"][-1]) == (10, "--batch")
    (found,) = document["disagreements"]
    assert (found["kind"], found["count"]) == ("not-json", 10)
    assert found["first"]["schema"] == "vmbus.disagreement/1"
    assert found["first"]["image"] == {"seed": 0, "number": 0, "made": "right"}
    assert found["first"]["output"] == "17"


def test_options_behind_the_dashes_are_the_commands():
    code = "import sys; print('{\"error\": \"' + ' '.join(sys.argv[1:]) + '\"}')"
    ending = target("--cases", 1, "--json", "--", sys.executable, "-c", code, "--seed", "--", "--cases", "7")
    assert ending.document["disagreements"][0]["first"]["came"] == "error: --seed -- --cases 7"


def test_a_reader_that_does_not_speak_batch_is_asked_about_three_images_and_no_more():
    ending = target("--batch", "--timeout", 0.05, "--", *wrong("hangs"))
    assert ending.status == 2
    assert (
        "no answer to any of the first 3 images (no answer after 0.05 seconds; it was ended); " in ending.err
    )
    assert f"does {sys.executable} speak --batch?" in ending.err


@pytest.mark.parametrize("batch", [["--batch"], []], ids=["batch", "stdin"])
def test_fewer_images_than_it_takes_to_give_up_are_all_tried(batch):
    ending = target(*batch, "--cases", 2, "--", *wrong("fails", *batch))
    assert ending.status == 1
    assert ending.out.splitlines()[0].split() == ["crash", "2"]
    assert "given up" not in ending.out


def test_a_reader_that_answers_nothing_is_asked_about_ten_images_and_no_more():
    words = ["--", sys.executable, "-I", "-S", "-c", "import sys; sys.exit('I want a file')"]
    ending = target(*words)
    assert ending.status == 1
    *_, given_up, summary = ending.out.splitlines()
    assert given_up == "given up: no answer to any of the first 10 images"
    assert summary.startswith("10 images, ")
    assert target("--json", *words).document["gave_up"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "/no/such/reader"], "/no/such/reader: No such file or directory"),
        ([], "which COMMAND?"),
        (["--batch", "--by", "path", "--", "reader"], "leave out --by path"),
        (["--seconds", "-1", "--", "reader"], "'-1' is no number of seconds"),
        (["--by", "post", "--", "reader"], "invalid choice: 'post'"),
        (["--cases", "0", "--", "reader"], "nothing would be tried"),
        (["--seconds", "0", "--", "reader"], "no time for any, nothing would be tried"),
        (["--timeout", "0", "--", "reader"], "--timeout 0: no answer comes at once"),
    ],
    ids=[
        "no such command",
        "no command",
        "batch by path",
        "negative time",
        "by post",
        "no cases",
        "no time",
        "no time for one",
    ],
)
def test_what_cannot_be_run_is_one_line_and_2(words, message):
    ending = target(*words)
    assert ending.status == 2
    assert message in ending.err


def test_help_shows_the_protocol_and_every_kind():
    from vmbus.fuzzing.disagreement import DisagreementKind

    text = target("--help").out
    assert all(kind.value in text for kind in DisagreementKind)
    assert '{"error": "any text"}' in text
    assert "vmbus fuzz target --batch --seconds 60 -- python3 reader.py" in text
