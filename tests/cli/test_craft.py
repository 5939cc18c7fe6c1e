"""`vmbus craft`: what inspect prints comes back, specifications by hand work, and errors say where."""

from __future__ import annotations

import json
import os
import shlex
import sys

import make_samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.elf import elf_core

from tests.cli.running import needs_dev_full, posix_only, ring_with, run, run_process
from tests.cli.test_convert import Terminal, run_bytes
from tests.helpers import SAMPLE_NAMES, SAMPLES
from vmbus.cli.main import COMMANDS, main

IN_BAND = 6
SPEC = b'{"data_size": 4096, "packets": [{"payload": "68656c6c6f2e2e2e"}]}'
IMAGE = ring_with((IN_BAND, b"hello..."))


def crafted(*words: object, stdin: bytes = b"") -> bytes:
    ending = run_bytes("craft", *words, stdin=stdin)
    assert (ending.status, ending.err) == (0, "")
    return ending.out


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_what_inspect_prints_of_a_whole_ring_becomes_the_ring(name, tmp_path):
    path, out = SAMPLES / f"{name}.bin", tmp_path / "ring.bin"
    spec = run("inspect", path, "--json", "--whole").out.encode()
    assert crafted("-", stdin=spec) == path.read_bytes()
    (tmp_path / "spec.json").write_bytes(spec)
    assert crafted(tmp_path / "spec.json", "-o", out) == b""
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_without_the_whole_inspect_says_the_same_of_what_is_made(name):
    path = SAMPLES / f"{name}.bin"
    spec = run("inspect", path, "--json", "--history").document
    image = crafted("-", stdin=json.dumps(spec).encode())
    assert run("inspect", "-", "--json", "--history", stdin=image).document["rings"] == spec["rings"]


def test_packets_that_the_image_lacks_are_left_out_and_counted(tmp_path):
    words = ring_with((IN_BAND, b"first..."), (IN_BAND, b"x" * 8200), (IN_BAND, b"last...."), data_size=12288)
    core = tmp_path / "guest.core"
    core.write_bytes(elf_core([(0, words[:8192]), (12288, words[12288:])]))
    spec = run("inspect", core, "--address", 0, "--data-size", "12K", "--json", "--whole").out.encode()
    ending = run_bytes("craft", "-", stdin=spec)
    said = "1 packet is left out: its bytes were not in the image, and zeros stand there"
    assert (ending.status, ending.err) == (1, f"vmbus: standard input: {said}\n")
    assert ending.out == words[: 4096 + 32] + bytes(8224) + words[4096 + 32 + 8224 :]
    two = json.dumps({"data_size": 4096, "packets": [{"broken": "missing-memory"}] * 2}).encode()
    assert (
        "2 packets are left out: their bytes were" in run("craft", "-", "-o", tmp_path / "x", stdin=two).err
    )


def test_every_ring_of_a_memory_image_is_made(tmp_path):
    """Also those whose pages were scattered, which lie behind all others, the outbound one of a pair first."""
    files = make_samples.scene_files(make_samples.small_scene())
    (tmp_path / "scene.elf").write_bytes(files["scene.elf"])
    shown = run("inspect", tmp_path / "scene.elf", "--json", "--whole").document
    assert [ring["role"] for ring in shown["rings"] if ring["pages"]] == ["inbound", "outbound"]
    assert run("craft", "-", "-o", tmp_path / "made", stdin=json.dumps(shown).encode()) == (0, "", "")
    made = (tmp_path / "made").read_bytes()
    lowest = min(ring["address"] for ring in shown["rings"] if not ring["pages"])
    behind = (
        max(ring["address"] + 4096 + ring["data_size"] for ring in shown["rings"] if not ring["pages"])
        - lowest
    )
    for ring in sorted(shown["rings"], key=lambda ring: ring["role"] == "inbound"):
        start = behind if ring["pages"] else ring["address"] - lowest
        assert made[start + 4096 :][: ring["data_size"]].hex() == ring["data"]
        behind += (4096 + ring["data_size"]) * bool(ring["pages"])
    assert behind == len(made)


def test_a_few_lines_by_hand_are_a_ring():
    assert crafted("-", stdin=SPEC) == IMAGE


def test_the_example_is_a_specification_that_works(tmp_path):
    example = run("craft", "--example")
    assert "comment" in example.document
    (tmp_path / "spec.json").write_text(example.out)
    image = crafted(tmp_path / "spec.json")
    shown = run("inspect", "-", "--data-size", "16K", "--json", stdin=image).ring
    assert [one["type"] for one in shown["packets"]][1:3] == ["completion", "gpa-direct"]


REFUSED = {
    "an unknown key": (b'{"data_sice": 1}', "data_sice: is no key here; did you mean data_size?"),
    "a deep one": (
        b'{"rings": [{"data_size": 4096, "packets": [{}, {"length": 8}]}]}',
        "rings[0].packets[1].length: is 8, and header and payload make it 16; leave one out",
    ),
    "too much": (
        b'{"rings": [{"data_size": 4096, "address": 0}, {"data_size": 4096, "address": 4294967296}]}',
        "the image would have 4294975488 bytes, and 4294967296 (4 GiB) is the most",
    ),
    "nothing": (b"", "is no JSON: line 1, column 1: Expecting value"),
    "half of it": (b'{"data_size":\n 4096, ', "is no JSON: line 2, column "),
    "bytes of no text": (b'{"\xff": 1}', "is no JSON that can be read: "),
    "a key twice": (b'{"data_size": 4096, "data_size": 8192}', "an object has the key 'data_size' twice"),
    "no number": (b'{"data_size": NaN}', "NaN is no number of JSON"),
    "lists in lists": (b"[" * 200_000, "is no JSON that can be read: "),
    "a number without end": (b'{"data_size": 1' + b"0" * 10_000 + b"}", ""),
    "a text": (b'"ring"', "the document: is an object, not a text"),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_ring_is_refused_with_the_file_and_the_place_in_it(spec, message, tmp_path):
    file = tmp_path / "spec.json"
    file.write_bytes(spec)
    ending = run("craft", file, "-o", tmp_path / "out")
    assert ending.status == 2
    assert ending.err.startswith(f"vmbus: {file}: {message}"), ending.err
    assert os.listdir(tmp_path) == ["spec.json"]
    assert run("craft", "-", stdin=spec).err.startswith(f"vmbus: standard input: {message}")


USAGE = {
    "no spec": [],
    "the example and a spec": ["--example", "x"],
    "the example and a file": ["--example", "-o", "x"],
    "an output without a name": ["x", "-o", ""],
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE)
def test_what_makes_no_sense_is_refused_with_where_to_look(words):
    assert "(try 'vmbus craft --help')" in run("craft", *words).err


def test_a_file_that_is_not_there_is_named():
    assert (
        run("craft", "nowhere.json").err == "vmbus: nowhere.json: cannot be read: No such file or directory\n"
    )


def test_a_specification_is_never_overwritten_by_what_it_makes(tmp_path):
    file = tmp_path / "spec.json"
    file.write_bytes(SPEC)
    assert "is the input itself" in run("craft", file, "-o", file).err
    assert file.read_bytes() == SPEC


def test_binary_is_not_written_to_a_terminal(monkeypatch, tmp_path):
    (tmp_path / "spec.json").write_bytes(SPEC)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["craft", str(tmp_path / "spec.json")]) == 2
    assert terminal.getvalue() == ""


def test_far_rings_make_a_file_with_holes(tmp_path):
    rings = [{"data_size": 4096, "address": 0}, {"data_size": 4096, "address": 3 << 30}]
    (tmp_path / "spec.json").write_text(json.dumps({"rings": rings}))
    assert run("craft", tmp_path / "spec.json", "-o", tmp_path / "out").status == 0
    assert (tmp_path / "out").stat().st_size == (3 << 30) + 8192
    if os.name == "posix":
        assert (tmp_path / "out").stat().st_blocks * 512 < 1 << 20


@posix_only
def test_behind_what_stands_in_a_redirected_file_the_image_is_appended(tmp_path):
    (tmp_path / "spec.json").write_bytes(SPEC)
    (tmp_path / "out").write_bytes(b"before")
    words = ("craft", str(tmp_path / "spec.json"))
    ending = run_process(*words, redirected=f">>{shlex.quote(str(tmp_path / 'out'))}").check()
    assert ending.status == 0
    assert (tmp_path / "out").read_bytes() == b"before" + IMAGE


@needs_dev_full
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / "spec.json").write_bytes(SPEC)
    ending = run("craft", tmp_path / "spec.json", "-o", "/dev/full")
    assert ending.err == "vmbus: /dev/full: No space left on device\n"


def examples() -> list[str]:
    section = run("craft", "--help").out.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [line.strip().split("  ")[0] for line in section.splitlines()]


@posix_only
def test_the_examples_of_the_help_run(tmp_path):
    (tmp_path / "ring.json").write_bytes(SPEC)
    commands = [COMMANDS["craft"].example, *examples()]
    assert len(commands) == 5
    script = "\n".join(["set -e", 'vmbus() { "$PYTHON" -m vmbus "$@"; }', *commands])
    ending = run_process(
        command=["sh", "-c", f"cd {shlex.quote(str(tmp_path))}\n{script} || test $? = 1"],
        variables={"PYTHON": sys.executable},
    )
    assert (ending.status, ending.err) == (0, ""), ending
    assert "1 packet, 0 findings" in ending.out
    assert (tmp_path / "ring.bin").read_bytes() == (tmp_path / "same.bin").read_bytes()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(b'{}[],:"0519-eEtrufalsn \\\x00\xff')), max_size=4
    ),
    st.integers(0, 80),
)
def test_any_specification_is_made_or_refused_in_one_line(changes, end):
    spec = bytearray(SPEC)
    for place, value in changes:
        spec[place % len(spec)] = value
    run_bytes("craft", "-", stdin=bytes(spec[: max(end, 1)] if end < 70 else spec))
