"""`vmbus scan`: its options, its text and its JSON, and how it ends.

The expected outputs are tests/expected_output/scan-*, of the images that tools/make_samples.py writes.  After a
wanted change of them write them anew, and read each before it is kept:

    python -m tests.cli.test_scan
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import make_samples

from tests.cli.running import COMMAND, SECONDS, Ending, environment, posix_only, run, run_process
from tests.helpers import SAMPLES
from vmbus.cli.main import main
from vmbus.inspection import SCAN_SCHEMA

EXPECTED = Path(__file__).parent.parent / "expected_output"

#: What each expected output is of: a file that make_samples writes, and options.
CASES = {
    "whole": ("scene.elf", []),
    "part": ("scene-part.kdump", []),
    "why": ("scene.kdump", ["--why"]),
    "all": ("scene.lime", ["--all"]),
    "range": ("scene.raw", ["--start", "0x100000", "--end", "0x150000"]),
}
FORMS = {"txt": [], "json": ["--json"]}

#: Images that hold all of the scene's memory and nothing else.
SAME_MEMORY = [
    "scene.raw",
    "scene.raw.gz",
    "scene.elf",
    "scene.lime",
    "scene.avml",
    "scene.kdump",
    "scene.flat",
    "scene.dmp",
    "scene.vmrs",
]


@lru_cache(maxsize=1)
def files() -> dict[str, bytes]:
    return make_samples.scene_files(make_samples.small_scene())


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A directory with the images."""
    directory = tmp_path_factory.mktemp("images")
    for name, content in files().items():
        (directory / name).write_bytes(content)
    return directory


def show(name: str, *more: object) -> Ending:
    """What the command says of a case; the image comes through a pipe, so that its name is the same."""
    image, options = CASES[name]
    return run("scan", "-", *options, *more, stdin=files()[image])


# -- what it prints --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_an_image_is_shown_as_expected(name, form):
    if (name, form) == ("why", "json"):
        pytest.skip("--why changes the text alone")
    expected = EXPECTED / f"scan-{name}.{form}"
    ending = show(name, *FORMS[form])
    assert ending.out == expected.read_text(encoding="utf-8")
    assert ending.status == (1 if name == "part" else 0)


@pytest.mark.parametrize("name", SAME_MEMORY)
def test_every_format_gives_the_rings_that_were_planted(images, name):
    document = run("scan", images / name, "--json").document
    planted = json.loads(files()["scene.json"])["rings"]
    keys = ("address", "data_size", "header_size", "role", "pair", "pages")
    assert [{key: ring[key] for key in keys} for ring in document["rings"]] == [
        {key: ring[key] for key in keys} for ring in planted
    ]
    for ring, one in zip(document["rings"], planted, strict=True):
        device = ring["device"]
        assert one["device"] == (device and [device["class"], device["instance"], device["channel"]])


def test_a_map_says_where_the_parts_of_a_raw_file_belong(images):
    mapped = run("scan", images / "scene-parts.raw", "--map", images / "scene-parts.map", "--json").document
    assert mapped["rings"] == run("scan", images / "scene.elf", "--json").document["rings"]


def test_the_keys_of_the_document_are_those_that_are_promised():
    document = show("part", "--json").document
    assert document["schema"] == SCAN_SCHEMA == "vmbus.scan/1"
    assert list(document) == [
        *("schema", "source", "start", "end", "looked_at", "rings", "unsure", "missing", "missing_unlisted"),
        "findings",
    ]
    assert list(document["source"]) == ["path", "format", "size"]
    for ring in document["rings"]:
        usual = [
            *(
                "address",
                "address_hex",
                "header_size",
                "data_size",
                "data_size_candidates",
                "smallest_data_size",
            ),
            *("role", "pair", "pair_hex", "score", "reasons", "control", "device", "pages"),
        ]
        assert list(ring) == usual + ["pages_hex"] * (ring["pages"] is not None)
        assert ring["address_hex"] == hex(ring["address"])
        assert all(list(reason) == ["reason", "points", "message"] for reason in ring["reasons"])
        assert ring["device"] is None or list(ring["device"]) == [
            "class",
            "class_name",
            "instance",
            "channel",
        ]
    assert [list(run) for run in document["missing"]] == [
        ["start", "start_hex", "end", "end_hex", "state", "why"]
    ] * 2
    assert [run["state"] for run in document["missing"]] == ["excluded", "lost"]


def test_a_ring_of_unknown_size_has_null_and_what_it_may_be():
    rings = [ring for ring in show("whole", "--json").document["rings"] if ring["data_size"] is None]
    assert rings
    for ring in rings:
        assert ring["smallest_data_size"] % 4096 == 0
        assert all(size >= ring["smallest_data_size"] for size in ring["data_size_candidates"])


def test_json_lines_hold_the_same_data_as_the_document():
    document = show("part", "--json").document
    image, *rings = show("part", "--jsonl").objects
    assert image.pop("kind") == "image"
    for ring in rings:
        assert (ring.pop("kind"), ring.pop("path")) == ("ring", "standard input") or ring
    assert {**image, "rings": rings} == document


def test_several_images_come_one_after_the_other(images):
    ending = run("scan", images / "scene.elf", SAMPLES / "ring-5-pages.bin")
    assert ending.status == 0
    first, second = ending.out.split("\n\n")
    assert "scene.elf: elf, 12 rings" in first
    assert "ring-5-pages.bin: raw, 1 ring in" in second


@pytest.mark.parametrize("jobs", [1, 3])
def test_several_images_by_several_processes_give_the_same(images, jobs):
    words = ["scan", *(images / name for name in ("scene.elf", "scene.dmp")), "--jsonl", "--jobs", jobs]
    objects = run(*words).objects
    assert [one["kind"] for one in objects].count("image") == 2
    assert len([one for one in objects if one["kind"] == "ring"]) == 24


def test_all_shows_what_only_looks_like_a_ring(images):
    some = run("scan", images / "scene.elf", "--json").document
    every = run("scan", images / "scene.elf", "--json", "--all").document
    assert len(every["rings"]) == len(some["rings"]) + some["unsure"]
    assert all((ring["score"] >= 50) == (ring in some["rings"]) for ring in every["rings"])


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_jobs_change_nothing_that_is_printed(images, jobs):
    alone = run("scan", images / "scene.elf", "--json").document
    shared = run("scan", images / "scene.elf", "--json", "--jobs", jobs).document
    assert {**shared, "looked_at": 0} == {**alone, "looked_at": 0}


@pytest.mark.parametrize("command", ["scan", "inspect", "check"])
def test_a_map_of_an_image_that_has_its_own_is_refused(images, command):
    ending = run(command, images / "scene.elf", "--map", images / "scene-parts.map")
    why = "is an ELF core (elf), which says itself where its memory belongs; --map is for raw files"
    assert ending == Ending(2, "", f"vmbus: {images / 'scene.elf'}: {why}\n")
    assert "`0x1000 0x9f000 0x0`" in " ".join(run(command, "--help").out.split())


def test_one_page_that_looks_like_a_control_page_is_one(tmp_path, capsys):
    (tmp_path / "page").write_bytes(bytes(64) + struct.pack("<I", 1) + bytes(8192 - 68))
    assert main(["scan", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    assert said.endswith("1 page looks like the control page of a ring that was never used (--all)\n"), said


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "which IMAGE"),
        (["a", "b", "--json"], "--jsonl takes several"),
        (["a", "--json", "--jsonl"], "not allowed with"),
        (["a", "--start", "8K", "--end", "8K"], "is not behind"),
        (["a", "--jobs", "0"], "argument --jobs: 0: from 1 to 256 processes"),
        (["a", "--jobs", "257"], "argument --jobs: 257: from 1 to 256 processes"),
        (["a", "--jobs", "-1"], "argument --jobs: -1: from 1 to 256 processes"),
        (["a", "--jobs", "few"], "argument --jobs: few: from 1 to 256 processes"),
        (["a", "--start", "-1"], "--start"),
        (["-", "a"], "only image"),
        (["a", "--nonsense"], "--nonsense"),
        (["no such file"], "no such file"),
        (["."], "is a directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, hint):
    ending = run("scan", *words)
    assert ending.status == 2
    assert hint.lower() in ending.err.lower()


def test_a_map_that_is_not_there_is_one_line(images):
    ending = run("scan", images / "scene-parts.raw", "--map", images / "nothing.map")
    assert (ending.status, ending.out) == (2, "")
    assert "nothing.map" in ending.err


def test_where_nothing_is_found_the_status_is_2(tmp_path):
    path = tmp_path / "noise.bin"
    path.write_bytes(Random(1).randbytes(100_000))
    ending = run_process("scan", str(path))
    assert ending.status == 2
    assert "no ring was found" in ending.err
    assert "Traceback" not in ending.err


def test_of_a_damaged_image_the_rings_are_shown_and_the_status_is_1(tmp_path):
    path = tmp_path / "short.elf"
    path.write_bytes(files()["scene.elf"][:-200_000])
    ending = run("scan", path)
    assert ending.status == 1
    assert "image-cut-short" in ending.out
    assert "missing" in ending.out


def test_one_unreadable_image_among_others_is_told_and_the_others_are_shown(images):
    ending = run_process("scan", str(images / "scene.elf"), "no such file")
    assert ending.status == 2
    assert "12 rings" in ending.out
    assert ending.err.startswith("vmbus: no such file: ")


def test_without_a_terminal_no_progress_is_shown(images):
    assert run_process("scan", str(images / "scene.elf")).err == ""


@posix_only
def test_on_a_terminal_progress_is_shown_and_taken_away(tmp_path):
    """Ten times a second at most: the first line comes at once."""
    import pty

    path = tmp_path / "large.bin"
    path.write_bytes((SAMPLES / "ring-5-pages.bin").read_bytes() + Random(1).randbytes(4 << 20))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "scan", str(path)], stdout=subprocess.PIPE, stderr=theirs, env=environment()
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=SECONDS)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "1 ring in" in out.decode()
    assert "large.bin: " in shown and "%" in shown
    assert shown.endswith("\r\x1b[K")


@posix_only
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_long_scan_with_130_and_leaves_nothing_behind(tmp_path, jobs):
    path = tmp_path / "memory.elf"
    path.write_bytes(twenty_gibibytes())
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "scan", str(path), "--jobs", jobs],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = os.read(ours, 1000) if jobs == "1" else b""  # it is at work
        if jobs != "1":
            wait_for_children(process.pid, 2)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        assert out == b""
        os.set_blocking(ours, False)
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # nothing more, or the other end is closed
            pass
        assert b"Traceback" not in shown
        assert group_is_gone(process.pid)
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()


#: The command, and an interrupt ends it also where whoever runs the tests has it ignored, as a shell's background
#: jobs do.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from vmbus.cli import run; run()"


def twenty_gibibytes() -> bytes:
    """A core whose segments all lie at the same mebibyte of the file, so that it takes a while to look through."""
    count, noise = 20 << 10, Random(1).randbytes(1 << 20)
    start = 64 + 56 * count
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    )
    segments = [
        struct.pack("<IIQQQQQQ", 1, 6, start, 0, number << 20, 1 << 20, 1 << 20, 4096)
        for number in range(count)
    ]
    return header + b"".join(segments) + noise


def wait_for_children(parent: int, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    children = Path(f"/proc/{parent}/task/{parent}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    while len(children.read_text().split()) < count:
        assert time.monotonic() < deadline
        os.sched_yield()


def group_is_gone(group: int) -> bool:
    """Whether no process of a group is left, soon."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        os.sched_yield()
    return False


def test_the_help_has_an_example_and_every_option():
    said = run("scan", "--help").out
    for option in ("--start", "--end", "--map", "--jobs", "--all", "--why", "--json", "--jsonl"):
        assert option in said
    assert "vmbus scan memory.elf" in said


def write_expected() -> None:
    for name in CASES:
        for form, words in FORMS.items():
            if (name, form) == ("why", "json"):
                continue
            path = EXPECTED / f"scan-{name}.{form}"
            path.write_text(show(name, *words).out, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    write_expected()
