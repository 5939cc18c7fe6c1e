"""`vmbus check`: a line a finding and a verdict a ring, for grep and for programs; and its exit status."""

from __future__ import annotations

import re

import pytest

from tests.cli.running import control_page, packet, ring_with, run, run_process
from vmbus.inspection import CHECKS

IN_BAND = 6
LINE = re.compile(r"(?P<file>.+?): ring (?P<ring>0x[0-9a-f]+): (?P<rest>.+)")


@pytest.fixture
def saved(tmp_path):
    """Saves an image and gives its path."""

    def save(image: bytes, name: str = "ring.bin") -> str:
        path = tmp_path / name
        path.write_bytes(image)
        return str(path)

    return save


WAITING = ring_with((IN_BAND, b"payload!"))
EMPTY = control_page() + bytes(4096)
BROKEN = ring_with((99, b"payload!"))
ODD = ring_with((IN_BAND, b"payload!"), mask=7)


def test_of_a_check_that_no_source_has_it_is_said_that_it_is_our_own():
    listed = run("check", "--list").out
    assert "[none]" not in listed
    (line,) = [line for line in listed.splitlines() if line.startswith("missing-memory ")]
    assert line.endswith("[our own]")


VERDICTS = [
    (EMPTY, "verdict: idle"),
    (WAITING, "verdict: waiting for its reader; the reader may be owed a signal"),
    (BROKEN, "verdict: corrupt: a reader would refuse it; the reader may be owed a signal"),
    (bytes(8192), "verdict: never opened: all bytes are zero"),
    (ring_with((IN_BAND, bytes(4064)), mask=1), "verdict: full: not even an empty packet fits"),
    (
        control_page(pending=8192) + bytes(4096),
        "verdict: waiting for its writer, who waits for more room than there ever is",
    ),
    (
        control_page(pending=4120) + bytes(8192),
        "verdict: idle; its writer asks for 4120 bytes for good, as hvsock does, and has them",
    ),
]


@pytest.mark.parametrize(("image", "verdict"), VERDICTS)
def test_the_last_line_of_a_ring_is_its_verdict(image, verdict, saved):
    path = saved(image)
    ending = run("check", path, "--offset", "0")
    assert ending.out.splitlines()[-1] == f"{path}: ring 0x0: {verdict}"


def test_each_finding_is_a_line_with_its_place_severity_and_check(saved):
    path = saved(ring_with((99, b"payload!"), mask=7))
    ending = run("check", path, "--offset", "0")
    lines = ending.out.splitlines()
    assert lines[0].startswith(
        f"{path}: ring 0x0: control: warning: interrupt-mask: the interrupt mask is 0x7"
    )
    assert lines[1].startswith(
        f"{path}: ring 0x0: 0x0000: error: descriptor-type: the packet has the type 99"
    )
    assert len(lines) == 3
    assert ending.status == 1


@pytest.mark.parametrize(("image", "status"), [(EMPTY, 0), (WAITING, 0), (ODD, 1), (BROKEN, 1)])
def test_the_status_is_1_where_a_finding_is_an_error_or_a_warning(image, status, saved):
    path = saved(image)
    for form in ((), ("--json",), ("--jsonl",)):
        assert run("check", path, "--offset", "0", *form).status == status


def test_both_rings_of_a_pair_have_a_verdict(saved):
    ending = run("check", saved(WAITING + EMPTY))
    assert [LINE.fullmatch(line)["ring"] for line in ending.out.splitlines()] == ["0x0", "0x2000"]
    assert run("check", "--sample").out.count(": verdict: ") == 2


def test_several_files_are_checked_one_after_the_other(saved):
    paths = [saved(WAITING, "one.bin"), saved(BROKEN, "two.bin"), saved(WAITING, "three.bin")]
    ending = run("check", *paths)
    assert [LINE.fullmatch(line)["file"] for line in ending.out.splitlines()] == [
        paths[0],
        paths[1],
        paths[1],
        paths[2],
    ]
    assert ending.status == 1


@pytest.mark.parametrize("form", [(), ("--json",), ("--jsonl",)])
def test_a_file_that_cannot_be_checked_is_named_and_the_others_are_checked(form, saved):
    good, missing = saved(WAITING), saved(b"x", "none.bin")
    ending = run_process("check", missing, good, *form)
    assert ending.status == 2
    assert ending.err.startswith(f"vmbus: {missing}: ")
    assert len(ending.err.splitlines()) == 1
    assert good in ending.out
    assert missing not in ending.out


def test_of_a_single_file_that_cannot_be_checked_nothing_is_printed(saved):
    for form in ((), ("--json",), ("--jsonl",)):
        assert run("check", saved(b"x"), *form).status == 2
    ending = run_process("check", saved(b"x"), saved(b"y", "other"), "--json")
    assert (ending.status, ending.out, len(ending.err.splitlines())) == (2, "", 2)


# -- quiescent -----------------------------------------------------------------------------------


def test_one_snapshot_says_stuck_only_where_the_caller_vouches_that_nobody_ran(saved):
    path = saved(WAITING)
    assert run("check", path).out == (
        f"{path}: ring 0x0: verdict: waiting for its reader; the reader may be owed a signal\n"
    )
    ending = run("check", path, "--assume-quiescent")
    lines = ending.out.splitlines()
    assert lines[0].startswith(
        f"{path}: ring 0x0: control: error: stuck-reader: the writer owes the reader a signal"
    )
    assert "reader_needs_signal" in lines[0]
    assert lines[1].endswith("; stuck")
    assert ending.status == 1


@pytest.mark.parametrize(
    "image",
    [EMPTY, ring_with((IN_BAND, b"payload!"), mask=1), control_page(pending=4120) + bytes(8192)],
)
def test_a_ring_that_owes_nobody_a_signal_is_not_stuck_either_way(image, saved):
    ending = run("check", saved(image), "--assume-quiescent", "--json")
    (ring,) = ending.document["files"][0]["rings"]
    assert (ring["stuck"], ending.status) == ([], 0)


def test_a_writer_is_stuck_where_there_is_the_room_that_it_asked_for(saved):
    ending = run("check", saved(control_page(pending=64) + bytes(4096)), "--assume-quiescent", "--json")
    (ring,) = ending.document["files"][0]["rings"]
    (stuck,) = ring["stuck"]
    assert (stuck["to"], stuck["owed_by"], stuck["rule"]) == ("writer", "reader", "writer_needs_signal")


# -- for programs --------------------------------------------------------------------------------


def test_the_document_has_its_keys(saved):
    path = saved(ODD)
    document = run("check", path, "--json", "--offset", 0).document
    assert list(document) == ["schema", "assume_quiescent", "files"]
    assert (document["schema"], document["assume_quiescent"]) == ("vmbus.check/1", False)
    (file,) = document["files"]
    assert list(file) == ["source", "findings", "rings"]
    assert file["source"] == {"path": path, "format": "raw", "size": 8192}
    (ring,) = file["rings"]
    assert list(ring) == [
        "address",
        "address_hex",
        "role",
        "pair",
        "device",
        "data_size",
        "verdict",
        "verdict_text",
        "reader_needs_signal",
        "writer_needs_signal",
        "stuck",
        "findings",
    ]
    assert (ring["verdict"], ring["stuck"]) == ("waiting-for-reader", None)
    (finding,) = ring["findings"]
    assert finding["check"] == "interrupt-mask"
    assert list(finding) == ["check", "severity", "offset", "message", "place"]


def test_the_lines_of_json_are_findings_and_verdicts(saved):
    path = saved(ODD)
    first, last = run("check", path, "--jsonl", "--offset", 0).objects
    assert (first["kind"], first["path"], first["ring"], first["check"]) == (
        "finding",
        path,
        0,
        "interrupt-mask",
    )
    assert (last["kind"], last["verdict"]) == ("verdict", "waiting-for-reader")
    assert "findings" not in last


# -- the list ------------------------------------------------------------------------------------


def test_the_list_has_every_check_in_text_and_as_objects():
    lines = run("check", "--list").out.splitlines()
    assert [line.split()[0] for line in lines] == [check.name for check in CHECKS]
    assert all(check.meaning in line for check, line in zip(CHECKS, lines, strict=True))
    rows = run("check", "--list", "--json").document["checks"]
    assert [(row["check"], row["severities"]) for row in rows] == [
        (check.name, [severity.value for severity in check.severities]) for check in CHECKS
    ]
    assert run("check", "--list", "--jsonl").objects == rows


def test_the_help_names_every_check():
    words = run("check", "--help").out.split()
    assert {check.name for check in CHECKS} <= set(words)


# -- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "which FILE?"),
        (("--sample", "ring.bin"), "--sample is a dump itself"),
        (("-", "-"), "standard input can be read once"),
        (("ring.bin", "--json", "--jsonl"), "not allowed with"),
    ],
)
def test_a_command_line_that_contradicts_itself_is_refused(words, says):
    ending = run("check", *words)
    assert (ending.status, says in ending.err) == (2, True)


def test_standard_input_is_checked():
    ending = run("check", "-", stdin=WAITING)
    assert ending.out.startswith("standard input: ring 0x0: verdict: waiting for its reader")


def test_a_name_with_control_characters_stays_on_its_line(saved):
    path = saved(WAITING, "a\x1b[31m\nb")
    assert len(run("check", path).out.splitlines()) == 1


def test_options_say_where_the_ring_is(saved):
    path = saved(bytes(4096) + ring_with((IN_BAND, b"payload!")) + bytes(4096))
    ending = run("check", path, "--address", "0x1000", "--data-size", "4K")
    assert ending.out.startswith(f"{path}: ring 0x1000: verdict: waiting for its reader")


def test_the_packets_of_a_large_ring_are_all_checked(saved):
    count = 1000
    data = b"".join(
        packet(24 * number, 99 if number == count - 1 else IN_BAND, b"") for number in range(count)
    )
    image = control_page(24 * count) + data.ljust(24576, b"\0")
    assert f"{24 * (count - 1):#06x}: error: descriptor-type" in run("check", saved(image)).out
