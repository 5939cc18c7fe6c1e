"""Somebody else's reader beside ours: right ones agree, and each wrong one is reported by its kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from random import Random

import pytest

from vmbus.errors import CallerError
from vmbus.fuzzing import (
    BREAKS,
    Answer,
    BatchReader,
    Disagreement,
    DisagreementKind,
    Ending,
    PacketImage,
    PathReader,
    ReaderProgram,
    RingImage,
    StdinReader,
    expected_of,
    reader_image,
    save_found,
    try_reader,
)
from vmbus.fuzzing.disagreement import compare
from vmbus.fuzzing.disagreement_script import script_of
from vmbus.fuzzing.images_for_readers import right_image
from vmbus.fuzzing.ring_images import CORNERS
from vmbus.ring import PagedRange, RingFault

HERE = Path(__file__).parent
RIGHT = [sys.executable, str(HERE / "ring_reader.py")]
ROOT = str(HERE.parents[1])

#: Seconds that are enough for a process to answer, also where many run at once.
PATIENCE = 60.0


def wrong(how: str, *more: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(HERE / "wrong_reader.py"), how, *more]


@pytest.fixture(autouse=True)
def vmbus_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ROOT)


# -- images ------------------------------------------------------------------------------------------


def test_the_images_are_what_they_say_and_the_strict_reader_says_the_same():
    seen = set()
    for number in range(120):
        image = reader_image(7, number)
        seen.add(image.made)
        expected = expected_of(image.data)
        if image.made == "right":
            assert expected.error is None
        elif image.made != "damaged":
            assert expected.fault == BREAKS[image.made].fault.value
    assert seen == {"right", "damaged", *BREAKS}


def test_an_image_is_the_same_each_time_and_of_each_number_and_seed_another():
    assert reader_image(3, 5) == reader_image(3, 5)
    assert len({reader_image(seed, number).data for seed in range(5) for number in range(20)}) > 90


def test_the_right_images_reach_every_corner():
    random = Random(1)
    reached = set().union(*(right_image(random).corners() for _ in range(250)))
    assert reached >= set(CORNERS) - {"one-slot-free", "consumed"}


# -- comparing ---------------------------------------------------------------------------------------

TWO = RingImage(
    out_offset=4080,
    waiting=(
        PacketImage.in_band(b"the first packet", transaction_id=7, completion_requested=True),
        PacketImage.gpa_direct([PagedRange(8, 100, [2**60])], b"and more", transaction_id=9),
    ),
    pending_send_size=4088,
)
BROKEN = BREAKS["flags-unknown"].apply(TWO, 1)
FIRST, SECOND = expected_of(TWO.to_bytes()).packets
ERROR = {"error": "I do not like it"}

AGREEING = {
    "all that we say": (TWO, [FIRST, SECOND, {"signal": True}]),
    "no signal": (TWO, [FIRST, SECOND]),
    "type and payload alone": (
        TWO,
        [{key: one[key] for key in ("type", "payload")} for one in (FIRST, SECOND)],
    ),
    "types as numbers, lengths for payloads": (
        TWO,
        [{"type_value": 6, "payload_length": 16}, {"type_value": 9, "payload_length": 8}],
    ),
    "payloads in capitals": (TWO, [{**FIRST, "payload": FIRST["payload"].upper()}, SECOND]),
    "flags as a number": (TWO, [{**FIRST, "flags": 1}, SECOND]),
    "keys of their own": (TWO, [{**FIRST, "colour": "red"}, SECOND]),
    "the packets before the broken one": (BROKEN, [FIRST, ERROR]),
    "a refusal of the whole": (BROKEN, [ERROR]),
    "nothing of an empty ring": (RingImage(), []),
}


@pytest.mark.parametrize(("image", "answer"), AGREEING.values(), ids=AGREEING)
def test_an_answer_that_says_the_same_agrees(image, answer):
    assert compare(expected_of(image.to_bytes()), answer) is None


DIFFERING = {
    "accepts the broken packet": (BROKEN, [FIRST, SECOND], "accepted-what-is-broken"),
    "ends before the broken packet": (BROKEN, [FIRST], "accepted-what-is-broken"),
    "refuses too late": (BROKEN, [FIRST, SECOND, ERROR], "accepted-what-is-broken"),
    "refuses a good ring": (TWO, [ERROR], "refused-what-is-good"),
    "refuses a good packet": (TWO, [FIRST, ERROR], "refused-what-is-good"),
    "says nothing": (TWO, [], "missing-packet"),
    "lacks one": (TWO, [FIRST], "missing-packet"),
    "has one more": (TWO, [FIRST, SECOND, SECOND], "extra-packet"),
    "is turned round": (TWO, [SECOND, FIRST], "order"),
    "has the same twice": (TWO, [FIRST, FIRST], "type"),
    "has another type": (TWO, [{**FIRST, "type": "completion"}, SECOND], "type"),
    "is shorter": (TWO, [{**FIRST, "payload": "00", "payload_length": 1}, SECOND], "length"),
    "counts other bytes": (TWO, [{**FIRST, "bytes": 48}, SECOND], "length"),
    "has a shorter payload": (TWO, [{"type": "in-band", "payload": "00"}, SECOND], "length"),
    "has another payload": (TWO, [{**FIRST, "payload": "00" * 16}, SECOND], "payload"),
    "has another id": (TWO, [{**FIRST, "transaction_id": 8}, SECOND], "transaction-id"),
    "has another id in hex": (TWO, [{**FIRST, "transaction_id_hex": "0x8"}, SECOND], "transaction-id"),
    "has other flags": (TWO, [{**FIRST, "flags": []}, SECOND], "flags"),
    "has flags as another number": (TWO, [{**FIRST, "flags": 0}, SECOND], "flags"),
    "has no ranges": (TWO, [FIRST, {**SECOND, "ranges": []}], "ranges"),
    "has another page": (TWO, [FIRST, {**SECOND, "ranges": [{"pages": [1]}]}], "ranges"),
    "is somewhere else": (TWO, [{**FIRST, "offset": 0}, SECOND], "place"),
    "signals nobody": (TWO, [FIRST, SECOND, {"signal": False}], "signal"),
    "is a number": (TWO, [17], "not-json"),
    "has no payload": (TWO, [{"type": "in-band"}, SECOND], "not-json"),
    "has an error that is no text": (TWO, [{"error": True}], "not-json"),
    "goes on behind an error": (BROKEN, [ERROR, FIRST], "not-json"),
    "says something else": (TWO, [{"hello": "world"}], "not-json"),
}


@pytest.mark.parametrize(("image", "answer", "kind"), DIFFERING.values(), ids=DIFFERING)
def test_an_answer_that_differs_is_reported_by_its_kind(image, answer, kind):
    found = compare(expected_of(image.to_bytes()), answer)
    assert found is not None
    assert found.kind is DisagreementKind(kind)
    assert found.expected
    assert found.came or not answer


def test_what_we_expect_has_the_keys_of_inspect():
    assert dict(FIRST) == {
        "type": "in-band",
        "type_value": 6,
        "length": 32,
        "bytes": 40,
        "payload_length": 16,
        "payload": b"the first packet".hex(),
        "header": "",
        "transaction_id": 7,
        "transaction_id_hex": "0x7",
        "flags": ["completion-requested"],
        "flags_value": 1,
        "ranges": [],
        "offset": 4080,
        "data_offset": 16,
    }
    assert SECOND["ranges"][0]["pages"] == [2**60]
    expected = expected_of(BROKEN.to_bytes())
    assert (expected.packets, expected.fault) == ((FIRST,), RingFault.INVALID_DESCRIPTOR_FLAGS.value)
    assert expected.to_json() == [FIRST, {"error": expected.error}]


# -- processes ---------------------------------------------------------------------------------------


def test_the_right_reader_agrees_about_all_images():
    with BatchReader([*RIGHT, "--batch"], PATIENCE) as reader:
        report = try_reader(reader, cases=100, seed=1)
    assert report.agrees, report
    assert (report.cases, report.to_json()["disagreements"]) == (100, [])
    assert 25 < report.broken < 75


@pytest.mark.parametrize("kind", [StdinReader, PathReader], ids=["stdin", "path"])
def test_the_right_reader_agrees_however_it_gets_its_image(kind):
    with kind(RIGHT, PATIENCE) as reader:
        assert try_reader(reader, images=[reader_image(1, 4)]).agrees


def test_the_path_takes_the_place_of_the_braces():
    with PathReader(
        [sys.executable, "-c", "import sys; print(sys.argv[1:])", "--in={}", "last"], PATIENCE
    ) as reader:
        answer = reader.ask(b"")
    assert answer.ending is Ending.DONE
    assert answer.output.startswith(b"['--in=/")
    assert answer.output.rstrip().endswith(b"ring.bin', 'last']")


WRONG = {
    "ignores-data-offset": "length",
    "accepts-a-missing-footer": "accepted-what-is-broken",
    "takes-any-type": "accepted-what-is-broken",
    "believes-indices": "accepted-what-is-broken",
    "refuses-a-wrap": "refused-what-is-good",
    "drops-the-last-slot": "length",
    "wraps-to-zeros": "payload",
    "knows-one-type": "type",
    "cuts-the-id": "transaction-id",
    "forgets-flags": "flags",
    "shifts-the-place": "place",
    "knows-no-ranges": "ranges",
    "forgets-the-last": "missing-packet",
    "repeats-the-last": "extra-packet",
    "turns-them-round": "order",
    "always-signals": "signal",
    "prints-garbage": "not-json",
    "prints-numbers": "not-json",
}

#: What this reader does not know at all; so it is right about the others.
RANGE_BREAKS = {name for name in BREAKS if name.startswith(("gpa-", "transfer-"))}
IMAGES = [
    image
    for number in range(60)
    if (image := reader_image(2, number)).made not in RANGE_BREAKS and (number < 20 or image.made in BREAKS)
]


def test_the_reader_that_the_wrong_ones_are_made_of_agrees():
    with BatchReader(wrong("no", "--batch"), PATIENCE) as reader:
        assert try_reader(reader, images=[image for image in IMAGES if image.made != "damaged"]).agrees


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_reader_is_reported_by_its_kind(how):
    with BatchReader(wrong(how, "--batch"), PATIENCE) as reader:
        report = try_reader(reader, images=IMAGES)
    kind = DisagreementKind(WRONG[how])
    assert kind in report.counts, report.counts
    assert report.first[kind].disagreement.kind is kind
    if how == "accepts-a-missing-footer":
        assert report.faults["footer-not-published"]
    if how == "takes-any-type":
        assert {"descriptor-type", "descriptor-flags"} <= report.faults.keys()


ENDINGS = {
    "crashes": ("crash", "ended by SIGABRT"),
    "fails": ("crash", "ended with status 1, and printed no error: something went wrong: exit status 1"),
    "hangs": ("timeout", "no answer after 0.15 seconds; it was ended"),
    "prints-for-ever": ("too-much-output", "more than 4194304 bytes printed; it was ended"),
}


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("kind", [StdinReader, BatchReader], ids=["stdin", "batch"])
def test_a_reader_that_ends_badly_is_reported_and_the_next_image_is_tried(kind, how):
    word, sentence = ENDINGS[how]
    batch = ["--batch"] if kind is BatchReader else []
    with kind(wrong(how, *batch), 0.15 if how == "hangs" else PATIENCE) as reader:
        report = try_reader(reader, images=IMAGES[:2] if how != "hangs" else IMAGES[:1])
    assert {kind.value: count for kind, count in report.counts.items()} == {word: report.cases}
    assert report.first[DisagreementKind(word)].disagreement.came == sentence


#: How a reader leaves a child behind, and what is said of it: it is ended, has ended by itself while the child holds
#: its output open, or has ended and the child holds nothing.
CHILDREN = {
    "prints-for-ever-with-a-child": (Ending.TOO_MUCH_OUTPUT, PATIENCE),
    "leaves-a-child": (Ending.TIMEOUT, 0.3),
    "leaves-a-silent-child": (Ending.DONE, PATIENCE),
}


@pytest.mark.skipif(os.name != "posix", reason="process groups as POSIX has them")
@pytest.mark.parametrize("how", CHILDREN)
def test_a_reader_that_has_ended_takes_its_children_along(how, tmp_path):
    path = tmp_path / "held"
    ending, timeout = CHILDREN[how]
    with StdinReader(wrong(how, str(path)), timeout) as reader:
        assert reader.ask(RingImage().to_bytes()).ending is ending
    assert_released(path)


@pytest.mark.skipif(os.name != "posix", reason="process groups as POSIX has them")
def test_where_no_one_can_look_whether_a_reader_has_ended_its_children_are_ended_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "waitid", raising=False)
    path = tmp_path / "held"
    with StdinReader(wrong("leaves-a-silent-child", str(path)), PATIENCE) as reader:
        assert reader.ask(RingImage().to_bytes()).ending is Ending.DONE
    assert_released(path)


def assert_released(path):
    """Nobody holds the lock on that file any longer, or in a moment; a reader that came too late never did."""
    import fcntl

    with path.open("a") as held:
        deadline = time.monotonic() + 1.2
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "the child lives on"
                time.sleep(0.01)


def test_a_second_line_for_an_image_is_not_taken_for_the_next_answer():
    with BatchReader(wrong("answers-twice", "--batch"), PATIENCE) as reader:
        report = try_reader(reader, images=[reader_image(1, 0)] * 3)
    assert report.counts == {DisagreementKind.NOT_JSON: 3}
    first = report.first[DisagreementKind.NOT_JSON]
    assert first.disagreement[1:] == (
        "one line",
        r"more than one line: '[]\n' was printed behind the answer",
    )
    assert first.answer.output == b"[]\n[]\n"


@pytest.mark.skipif(os.name != "posix", reason="named pipes as POSIX has them")
def test_a_line_that_comes_too_late_is_not_taken_for_the_next_answer(tmp_path):
    image = RingImage().to_bytes()
    path = tmp_path / "line"
    os.mkfifo(path)
    with BatchReader(wrong("answers-once-more-later", str(path), "--batch"), PATIENCE) as reader:
        assert reader.ask(image) == Answer(Ending.DONE, b"[]")
        path.write_text("[]")
        run = reader._run
        run._wait(lambda: run._output, time.monotonic() + PATIENCE)
        answer = reader.ask(image)
        assert answer.ending is Ending.MORE_THAN_ONE_LINE
        assert answer.how.endswith("was printed before it was given the image")
        assert reader.ask(image) == Answer(Ending.DONE, b"[]")  # of a new process


def test_a_process_is_ended_when_it_is_no_longer_asked():
    reader = BatchReader(wrong("no", "--batch"), PATIENCE)
    assert reader.ask(RingImage().to_bytes()).output == b"[]"
    process = reader._run._process
    reader.close()
    assert process.returncode is not None
    reader.close()


def test_a_command_that_is_not_there_is_the_systems_error():
    with pytest.raises(FileNotFoundError), StdinReader(["/no/such/reader"]) as reader:
        reader.ask(b"")
    with pytest.raises(CallerError, match="has no words"):
        StdinReader([])


class Scripted(ReaderProgram):
    """A reader that says what it is told to, in no process."""

    def __init__(self, answer):
        super().__init__(["nothing"])
        self.answer = answer

    def ask(self, image):
        return self.answer(image)


def test_a_run_ends_when_its_time_is_over():
    ticks = iter(range(100))
    report = try_reader(
        Scripted(lambda image: Answer(Ending.DONE, b"")), cases=None, seconds=10, clock=lambda: next(ticks)
    )
    assert report.cases == 9


@pytest.mark.parametrize(
    ("endings", "cases"),
    [
        ([Ending.TIMEOUT], 10),
        ([Ending.CRASH, Ending.TIMEOUT], 10),
        ([Ending.TOO_MUCH_OUTPUT], 30),
        ([Ending.CRASH] * 9 + [Ending.DONE], 30),
        ([Ending.DONE] + [Ending.CRASH] * 29, 30),
    ],
)
def test_a_run_gives_up_where_none_of_the_first_images_is_answered_and_nowhere_else(endings, cases):
    said = cycle(endings)
    reader = Scripted(lambda image: Answer(next(said), b"", "so it was"))
    report = try_reader(reader, images=IMAGES[:1] * 30)
    assert (report.cases, report.gave_up) == (cases, cases < 30)


def test_the_first_of_each_kind_is_saved_and_can_be_shown(tmp_path):
    with BatchReader(wrong("forgets-the-last", "--batch"), PATIENCE) as reader:
        report = try_reader(reader, images=IMAGES)
    paths = save_found(report, tmp_path / "found")
    assert {path.stem for path in paths} == {kind.value for kind in report.counts}
    path = tmp_path / "found" / "missing-packet.bin"
    document = json.loads(path.with_suffix(".json").read_text())
    assert document["schema"] == "vmbus.disagreement/1"
    assert document["kind"] == "missing-packet"
    expected = expected_of(path.read_bytes())
    assert document["right_answer"] == expected.to_json()
    image = document["image"]
    assert reader_image(image["seed"], image["number"]).data == path.read_bytes()


# -- a disagreement as a program ---------------------------------------------------------------------

#: Images, and what is said to have come of them.
PROVED = {
    "right": (TWO.to_bytes(), "nothing"),
    "with ranges of all kinds": (reader_image(1, 2).data, "nothing"),
    "broken": (BROKEN.to_bytes(), "all"),
    "empty": (RingImage().to_bytes(), 'a quote """ and\nimport nothing_that_is_there  # \udc80 \u2028'),
    "index out of range": (BREAKS["in-at-end"].apply(TWO, 1).to_bytes(), ""),
}


def script_for(image: bytes, came: str = "", expected=None) -> str:
    disagreement = Disagreement(DisagreementKind.ORDER, "2 packets", came)
    return script_of("image 1 of seed 2", image, expected or expected_of(image), disagreement)


def performed(script: str) -> None:
    exec(compile(script, "script.py", "exec"), {"__name__": "script"})  # noqa: S102 - it is our own


@pytest.mark.parametrize(("image", "came"), PROVED.values(), ids=PROVED)
def test_a_saved_program_rebuilds_the_ring_and_proves_what_the_strict_reader_says(
    image, came, tmp_path, monkeypatch
):
    path = tmp_path / "ring.bin"
    monkeypatch.setattr(sys, "argv", ["script.py", str(path)])
    performed(script_for(image, came))
    assert path.read_bytes() == image


def test_a_saved_program_fails_where_the_strict_reader_says_something_else(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py"])
    image = TWO.to_bytes()
    right = expected_of(image)
    others = (
        right._replace(packets=right.packets[:1]),
        right._replace(packets=({**FIRST, "payload": "00" * 16}, SECOND)),
        right._replace(packets=(FIRST, {**SECOND, "ranges": []})),
        right._replace(signal=False),
        right._replace(error="broken", fault=RingFault.INVALID_DESCRIPTOR_FLAGS.value),
    )
    for expected in others:
        with pytest.raises(AssertionError):
            performed(script_for(image, expected=expected))
    wrong_rule = expected_of(BROKEN.to_bytes())._replace(fault=RingFault.FOOTER_NOT_PUBLISHED.value)
    for expected in (wrong_rule, wrong_rule._replace(error=None, signal=False)):
        with pytest.raises(AssertionError):
            performed(script_for(BROKEN.to_bytes(), expected=expected))


def test_a_saved_program_stands_alone(tmp_path):
    with BatchReader(wrong("accepts-a-missing-footer", "--batch"), PATIENCE) as reader:
        report = try_reader(reader, images=IMAGES)
    (path,) = (one for one in save_found(report, tmp_path) if one.stem == "accepted-what-is-broken")
    ended = subprocess.run(
        [sys.executable, path.with_suffix(".py")],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("as expected: ")
    assert ", then " in ended.stdout
