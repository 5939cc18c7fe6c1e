"""How the command prints: encodings, terminals, bytes that a terminal would obey; and reads numbers.

Nothing that came from the other side of a ring, or from the name of a file, reaches a terminal as
it is.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from contextlib import redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.running import (
    COMMAND,
    SECONDS,
    assert_one_line,
    environment,
    posix_only,
    ring_with,
    run,
    run_process,
)
from tests.helpers import SAMPLES
from vmbus.cli.main import printable
from vmbus.cli.output import number, print_json, print_json_lines, print_lines

SOME_RING = str(SAMPLES / "ring-4-pages.bin")

#: What a terminal obeys: colours, a bell, a title, going back, another direction, C1 controls.
OBEYED = b"\x1b[31m\x07\x1b]0;title\x07\r\b\x7f\x9b2J\n\xe2\x80\xae"

FORMS = ([], ["--hexdump"], ["--json"], ["--jsonl"], ["--json", "--whole"])


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4_096", 4096),
        ("0x1000", 4096),
        ("0X10_00", 4096),
        ("0xabcDEF", 0xABCDEF),
        ("0b101", 5),
        ("4K", 4096),
        ("4k", 4096),
        ("3M", 3 << 20),
        ("3m", 3 << 20),
        ("2G", 2 << 30),
        ("2g", 2 << 30),
        ("0x10K", 16384),
        ("1_000M", 1000 << 20),
        ("18446744073709551615", 2**64 - 1),
        ("0xffff_ffff_ffff_ffff", 2**64 - 1),
        ("17179869183G", 2**64 - 2**30),
    ],
)
def test_a_number_may_be_decimal_or_hexadecimal_with_underscores_and_a_binary_suffix(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "K",
        "0x",
        "0xK",
        "x10",
        "-1",
        "-0x8",
        "1.5",
        "1e3",
        "4KB",
        "4KK",
        "4T",
        "1__0",
        "_1",
        "ten",
        "07",
    ],
)
def test_what_is_no_number_is_refused_with_what_would_be_one(text):
    what = "is negative" if text.startswith("-") else "is no number"
    with pytest.raises(ArgumentTypeError, match=f"{what}: write 4096, 0x1000, 4_096 or 4K"):
        number(text)


@pytest.mark.parametrize(
    "text", ["18446744073709551616", "0x1_0000_0000_0000_0000", "17179869184G", "0x" + "f" * 9999]
)
def test_a_number_of_more_than_64_bits_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="has more than 64 bits"):
        number(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text("0123456789abcdefxKMG_-. \n\u0663\ud800", max_size=8) | st.just("9" * 5000))
def test_any_text_is_a_number_of_64_bits_or_refused(text):
    try:
        assert 0 <= number(text) < 2**64
    except ArgumentTypeError as error:
        assert repr(text) in str(error)


# -- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "3 bytes …".encode()),
        ("cp1252", b"3 bytes \x85"),
        ("latin-1", b"3 bytes ?"),
        ("ascii", b"3 bytes ?"),
    ],
)
def test_a_character_that_the_output_cannot_show_is_replaced(encoding, printed):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    with redirect_stdout(out):
        print_lines(["3 bytes …"])
    out.flush()
    assert raw.getvalue() == printed + b"\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "ascii-strict", "C-locale"],
)
def test_a_process_whose_output_is_ascii_replaces_what_it_cannot_show(variables):
    ending = run_process("inspect", SOME_RING, "--history", variables=variables).check()
    shown = run("inspect", SOME_RING, "--history")
    assert "…" in shown.out
    assert ending.out == shown.out.replace("…", "?")


def test_a_process_whose_output_is_ascii_still_names_the_file_it_cannot_read():
    ending = run_process(
        "inspect", "gibt's-nicht-ü".encode(), variables={"PYTHONIOENCODING": "ascii"}
    ).check()
    assert ending.status == 2
    assert "gibt's-nicht-\\xfc: cannot be read" in ending.err


def test_json_is_ascii_whatever_the_file_is_called(tmp_path):
    file = tmp_path / "ring-ü-環.bin"
    file.write_bytes(ring_with((6, bytes(8))))
    for form in (["--json"], ["--jsonl"]):
        ending = run("inspect", *form, file)
        assert ending.out.isascii()
        assert json.JSONDecoder().raw_decode(ending.out)[0]["source"]["path"] == str(file)


# -- JSON -----------------------------------------------------------------------------------------


def test_a_document_is_printed_with_its_end_of_line():
    out = io.StringIO()
    with redirect_stdout(out):
        print_json({"schema": "a", "rings": []})
    assert out.getvalue() == '{\n  "schema": "a",\n  "rings": []\n}\n'


def test_each_line_of_json_is_out_before_the_next_object_is_made():
    class Pipe(io.RawIOBase):
        """Keeps what has really been written to it."""

        def __init__(self):
            self.got = b""

        def writable(self):
            return True

        def write(self, data):
            self.got += data
            return len(data)

    pipe = Pipe()
    seen = []

    def documents():
        for count in range(3):
            seen.append(pipe.got.decode().splitlines())
            yield {"count": count}

    with redirect_stdout(io.TextIOWrapper(io.BufferedWriter(pipe), newline="\n")):
        print_json_lines(documents())
    assert seen == [[], ['{"count": 0}'], ['{"count": 0}', '{"count": 1}']]
    assert pipe.got.endswith(b'{"count": 2}\n')


def test_every_line_of_json_lines_is_one_object():
    ending = run("inspect", "--jsonl", "--history", "--whole", SOME_RING)
    assert ending.out.endswith("\n")
    for line in ending.out.splitlines():
        assert isinstance(json.loads(line), dict)
    assert [one["kind"] for one in ending.objects] == ["ring"] + ["consumed"] * 9 + ["packet"] * 22


def test_a_document_is_one_value_and_nothing_else():
    out = run("inspect", "--json", SOME_RING).out
    document, end = json.JSONDecoder().raw_decode(out)
    assert isinstance(document, dict)
    assert out[end:] == "\n"


# -- terminals ------------------------------------------------------------------------------------


def characters_obeyed(text: str) -> set[str]:
    """The characters of `text` that are not simply shown, ends of line aside."""
    return {one for one in text.replace("\n", "") if not one.isprintable()}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "".join(form) or "text")
def test_bytes_in_a_ring_never_reach_the_terminal_as_they_are(tmp_path, form):
    payload = OBEYED.ljust(32, b"\x1b")
    piped = b"\x01\0\0\0" + len(payload).to_bytes(4, "little") + payload
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((6, payload), (6, piped), (0x1B5B, payload), features=0x6D31335B))
    ending = run("inspect", "--offset", "0", *form, file)
    assert ending.status == 1
    assert characters_obeyed(ending.out) == set()
    assert "1b 5b 33 31" in ending.out or payload.hex() in ending.out


@pytest.mark.skipif(os.name != "posix", reason="file names here hold no such characters")
@pytest.mark.parametrize("name", [OBEYED, b"line one\nvmbus: line two", b"\xff\xfe not UTF-8", b"tab\there"])
def test_the_name_of_a_file_never_reaches_the_terminal_as_it_is(tmp_path, name):
    file = os.path.join(os.fsencode(tmp_path), name.replace(b"/", b""))
    for content in (b"no ring", bytes(8192)):
        with open(file, "wb") as stream:
            stream.write(content)
        ending = run("inspect", os.fsdecode(file))
        assert ending.status == 2
        assert characters_obeyed(ending.err) == set()
    with open(file, "wb") as stream:
        stream.write(ring_with((6, bytes(8))))
    for form in FORMS:
        ending = run("inspect", *form, os.fsdecode(file))
        assert ending.status == 0
        assert characters_obeyed(ending.out) == set()
    assert os.fsencode(run("inspect", "--json", os.fsdecode(file)).document["source"]["path"]) == file


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "missing\x1b[31m\nfile"],
        ["inspect\x1b[31m\n"],
        ["inspect", "--\x1b[31m\n"],
        ["inspect", "one", "two\x1b[31m\nthree"],
        ["inspect", "one", "--limit", "\x1b[31m\n"],
        ["inspect", "one", "--type", "\x1b[31m\n"],
        ["inspect", "--sample", "\x1b[31m\n"],
        ["inspect", "--json=\x1b[31m\n", "one"],
    ],
)
def test_a_word_of_the_command_line_never_reaches_the_terminal_as_it_is(words):
    ending = run(*words)
    assert ending.status == 2
    assert characters_obeyed(ending.err) == set()
    assert "\\x1b[31m\\n" in ending.err


@posix_only
def test_a_name_that_is_not_utf_8_is_escaped_on_its_way_to_a_real_terminal():
    ending = run_process("inspect", b"\xff\x1b[31m\nend", variables={"PYTHONUTF8": "1"})
    assert ending.status == 2
    assert_one_line(ending.err)
    assert "\\udcff\\x1b[31m\\nend: cannot be read" in ending.err


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 0xFF) | st.integers(0, sys.maxunicode), max_size=20).map(
        lambda codes: "".join(map(chr, codes))
    )
)
def test_text_made_printable_is_one_line_and_keeps_what_was_printable(text):
    assert characters_obeyed(printable(text)) == set()
    assert len(printable(text).splitlines()) <= 1
    if text.isprintable():
        assert printable(text) == text


@posix_only
@pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"], ["inspect", SOME_RING, "--hexdump"]])
def test_no_escape_sequence_is_printed_on_a_terminal_with_no_color(words):
    master, slave = os.openpty()
    try:
        ending = run_on_terminal(master, slave, words)
    finally:
        os.close(master)
    assert b"\x1b" not in ending
    assert b"0x" in ending or b"usage: vmbus" in ending


def run_on_terminal(master: int, slave: int, words: list[str]) -> bytes:
    """What a process prints on the terminal whose two ends are given; closes the slave's."""
    variables = environment({"NO_COLOR": "1", "TERM": "xterm-256color"})
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=variables
    )
    os.close(slave)
    printed = b""
    try:
        while chunk := os.read(master, 65536):
            printed += chunk
    except OSError:  # how Linux says that nobody has the other end any more
        pass
    assert process.wait(SECONDS) == 0
    return printed


# -- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["inspect", "--help"], 0),
        (["inspect", SOME_RING, "--history", "--hexdump"], 0),
        (["inspect", SOME_RING, "--history", "--json", "--whole"], 0),
        (["inspect", "-", "--jsonl"], 0),
        (["inspect", "missing"], 2),
        (["inspect", __file__], 2),
        (["inspect", "--limit"], 2),
    ],
    ids=lambda value: "-".join(os.path.basename(word) for word in value) if isinstance(value, list) else None,
)
def test_a_run_in_development_mode_with_warnings_as_errors_warns_of_nothing(words, status):
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "vmbus"]
    with open(SOME_RING, "rb") as stream:
        ending = run_process(*words, command=command, stdin=stream.read())
    assert ending.check().status == status
