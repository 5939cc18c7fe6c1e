"""`vmbus COMMAND`: help whose examples run, the ways to start it, and every way it can end.

Processes are used only where the process matters: an output that is gone, a signal, what is imported.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from image_writers.elf import elf_core

from tests.cli.running import (
    COMMAND,
    ROOT,
    SECONDS,
    Ending,
    assert_one_line,
    control_page,
    environment,
    needs_dev_full,
    packet,
    posix_only,
    run,
    run_process,
)
from tests.helpers import SAMPLES, pattern
from vmbus.cli import inspect_command
from vmbus.cli.commands import Command
from vmbus.cli.fuzz_command import TABLE as FUZZ_TABLE
from vmbus.cli.main import COMMANDS, main
from vmbus.cli.main import run as run_console_command
from vmbus.errors import CallerError, DeviceError, DumpError, RingEmpty

SOME_RING = SAMPLES / "ring-4-pages.bin"


# -- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["-h"], []], ids=["--help", "-h", "nothing"])
def test_help_shows_each_command_with_a_line_and_one_example(words):
    ending = run(*words)
    assert ending.status == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"\n  {name} +{re.escape(command.summary)}\n", ending.out)
        assert command.example.startswith(f"vmbus {name} ")
        assert f"\n  {command.example}\n" in ending.out


def test_help_tells_the_exit_statuses():
    for words in (["--help"], ["inspect", "--help"]):
        said = " ".join(run(*words).out.split())
        assert re.search(r"exit status: 0 done; 1 done, and .*; 2 could not be done", said)


def test_the_help_of_a_command_names_every_option_of_it():
    said = run("inspect", "--help").out
    options = (
        "FILE --sample --offset --address --data-size --header-size --type --transaction --limit "
        "--hexdump --history --whole --json --jsonl --help"
    )
    for option in options.split():
        assert re.search(rf"^ +(-h, )?{option}\b", said, re.MULTILINE), option


def test_help_is_for_the_command_wherever_it_stands():
    expected = run("inspect", "--help")
    assert run("inspect", "-h") == expected
    assert run("inspect", "missing", "--json", "--help") == expected


def examples_of(*words: str) -> list[str]:
    """The example lines of a help text, without the remarks behind them."""
    section = run(*words).out.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [re.split(r" {2,}", line.strip())[0] for line in section.splitlines()]


#: Of inspect, with what it prints of rings; those of other commands, and of virtqueues, run in the tests of these.
EXAMPLES = [
    one
    for one in [*examples_of("--help"), *examples_of("inspect", "--help")]
    if "vmbus inspect" in one and "--html" not in one
]


def test_both_levels_of_help_have_examples():
    assert len(examples_of("--help")) > len(COMMANDS)
    assert all(examples_of(name, "--help") for name in COMMANDS)
    assert len(EXAMPLES) >= 7
    assert all("vmbus " in example for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_runs(example, tmp_path, monkeypatch):
    ring = SOME_RING.read_bytes()
    memory = bytearray(0x3F8000)
    for place in (16 * 4096, 0x3F2000):  # where the examples look
        memory[place : place + len(ring)] = ring
    (tmp_path / "ring.bin").write_bytes(ring)
    (tmp_path / "memory.raw").write_bytes(memory)
    scattered = [(0x5000, 0), (0x9000, 4096), (0xA000, 8192), (0x17000, 12288)]
    regions = [(page, ring[at : at + 4096]) for page, at in scattered]
    (tmp_path / "memory.elf").write_bytes(elf_core([*regions, (0x400000, ring)]))
    monkeypatch.chdir(tmp_path)

    before, command, after = re.fullmatch(r"(?:(dd .*) \| )?vmbus (.*?)(?: \| jq '(.*)')?", example).groups()
    ending = run(*shlex.split(command), stdin=piece_of_file(before) if before else b"")
    assert ending.status == 0
    shown = (
        found_by_jq(ending.document, after) if after else re.findall(r"^  0x\w+ .*", ending.out, re.MULTILINE)
    )
    assert len(shown) > 1


def piece_of_file(dd: str) -> bytes:
    """What this command line of dd prints."""
    said = dict(word.split("=") for word in dd.split()[1:])
    size = int(said["bs"])
    start = int(said["skip"]) * size
    return Path(said["if"]).read_bytes()[start : start + int(said["count"]) * size]


def found_by_jq(document: object, path: str) -> list:
    """What a path such as `.rings[].packets[].offset` of jq finds."""
    found = [document]
    for key, is_list in re.findall(r"\.(\w+)(\[\])?", path):
        found = [one[key] for one in found]
        if is_list:
            found = [part for one in found for part in one]
    return found


def test_version_is_that_of_the_package():
    said = re.search(r'^VERSION = "(.*)"$', (ROOT / "vmbus" / "version.py").read_text(), re.MULTILINE)
    assert run("--version") == Ending(0, f"vmbus {said[1]}\n", "")


def test_help_imports_neither_construct_nor_the_rings():
    code = (
        "import sys; from vmbus.cli.main import main; status = main(sys.argv[1:]);"
        "print(status, *sys.modules, file=sys.stderr)"
    )
    for words in (["--help"], ["--version"], []):
        ending = run_process(*words, command=[sys.executable, "-c", code])
        status, *modules = ending.err.split()
        assert status == "0"
        assert "vmbus.cli.main" in modules
        parts = {name for name in modules if name.startswith("vmbus.")}
        ours = {f"vmbus.cli.{name}" for name in ("commands", "main", "output")}
        assert parts == {"vmbus.cli", "vmbus.errors", "vmbus.version", *ours}
        assert not any(name.partition(".")[0] in ("construct", "mmap", "json") for name in modules)


# -- ways to start it -----------------------------------------------------------------------------


def script_named_in_pyproject() -> str:
    """What the console command of that name calls: module:function."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = text.partition("\n[project.scripts]\n")[2].partition("\n[")[0]
    return re.search(r'^vmbus = "(.*)"$', section, re.MULTILINE)[1]


def test_the_console_command_named_in_pyproject_is_there():
    module, _, function = script_named_in_pyproject().partition(":")
    assert getattr(import_module(module), function) is run_console_command


def test_the_console_command_that_is_installed_is_the_one_named_in_pyproject():
    installed = [one.value for one in metadata.entry_points(group="console_scripts") if one.name == "vmbus"]
    assert set(installed) <= {script_named_in_pyproject()}


MODULE, FUNCTION = script_named_in_pyproject().split(":")

#: What pip writes into the file of a console command.
SCRIPT = [sys.executable, "-c", f"import sys; from {MODULE} import {FUNCTION}; sys.exit({FUNCTION}())"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--version"], 0),
        (["inspect", "--sample", "--history"], 0),
        (["inspect", str(SOME_RING), "--offset", "1", "--data-size", "4K"], 1),
        (["inspect", "missing"], 2),
        (["inspcet"], 2),
    ],
    ids=lambda value: str(value),
)
def test_the_module_the_console_command_and_main_do_the_same(words, status):
    in_process = run(*words)
    assert in_process.status == status
    assert run_process(*words) == in_process
    assert run_process(*words, command=SCRIPT) == in_process


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["inspect", "missing"], 2)])
def test_run_takes_the_words_of_the_process_and_exits_with_the_status(words, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vmbus", *words])
    with pytest.raises(SystemExit) as end:
        run_console_command()
    assert end.value.code == status
    assert "vmbus" in "".join(capsys.readouterr())


# -- endings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (SystemExit(1), 1, ""),
        (DumpError("is odd", path="file", place=7), 2, "vmbus: file: is odd\n"),
        (DumpError("is odd"), 2, "vmbus: is odd\n"),
        (CallerError("inspect: no such day"), 2, "vmbus: inspect: no such day\n"),
        (RingEmpty("no packet"), 2, "vmbus: no packet\n"),
        (DeviceError(13, "cannot map"), 2, "vmbus: cannot map\n"),
        (OSError(28, "No space left on device"), 2, "vmbus: standard output: No space left on device\n"),
        (OSError(5, "Input/output error", "file"), 2, "vmbus: file: Input/output error\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_ends_a_command_becomes_a_status_and_at_most_a_line(monkeypatch, raised, status, said):
    def execute(arguments):
        raise raised

    monkeypatch.setattr(inspect_command, "execute", execute)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["inspect", "file"]) == status
    assert (out.getvalue(), err.getvalue()) == ("", said)


def test_our_own_mistakes_are_not_hidden(monkeypatch):
    monkeypatch.setattr(inspect_command, "execute", lambda arguments: {}["missing"])
    with redirect_stdout(io.StringIO()), pytest.raises(KeyError):
        main(["inspect", "file"])


def test_after_an_error_the_output_of_the_calling_program_still_works():
    code = "from vmbus.cli.main import main; status = main(['inspect', 'missing']); print('status', status)"
    ending = run_process(command=[sys.executable, "-c", code])
    assert ending.out == "status 2\n"
    assert_one_line(ending.err)


@posix_only
@pytest.mark.parametrize(
    ("words", "redirected", "status", "said"),
    [
        (["inspect", "--sample"], ">&-", 2, "standard output is closed"),
        (["inspect", "--help"], ">&-", 2, "standard output is closed"),
        (["--help"], ">&-", 2, "standard output is closed"),
        (["--version"], ">&-", 2, "standard output is closed"),
        (["inspect", "--sample"], "1<&0 </dev/null", 2, "standard output: Bad file descriptor"),
        (["inspect", "-"], "<&-", 2, "standard input: is closed"),
        (["inspect", "-"], "</dev/null", 2, "standard input: is empty"),
        (["inspect", "-"], "0>>/dev/null", 2, "standard input: cannot be read: Bad file descriptor"),
        (["inspect", "missing"], "<&-", 2, "missing: cannot be read: No such file"),
        (["inspect", "missing"], ">&-", 2, "standard output is closed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_process_without_input_or_output_says_so_in_one_line(words, redirected, status, said):
    ending = run_process(*words, redirected=redirected).check()
    assert ending.status == status
    assert said in ending.err


@posix_only
@pytest.mark.parametrize("form", ["--json", "--jsonl", "--hexdump"])
def test_a_process_whose_input_is_closed_reads_a_file_all_the_same(form):
    ending = run_process("inspect", str(SOME_RING), form, redirected="<&-").check()
    assert ending == run("inspect", SOME_RING, form)


@posix_only
@needs_dev_full
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["--help"], ""),
        (["--help"], "1"),
        (["--version"], ""),
        (["inspect", "--help"], ""),
        (["inspect", "--sample"], ""),
        (["inspect", "--sample"], "1"),
        (["inspect", "--sample", "--json"], ""),
        (["inspect", "--sample", "--jsonl"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else f"unbuffered {value or 0}",
)
def test_an_output_that_is_full_is_an_error_in_one_line(words, unbuffered):
    ending = run_process(*words, redirected=">/dev/full", variables={"PYTHONUNBUFFERED": unbuffered}).check()
    assert ending == Ending(2, "", "vmbus: standard output: No space left on device\n")


@posix_only
@pytest.mark.parametrize("redirected", ["2>&-", pytest.param("2>/dev/full", marks=needs_dev_full)])
@pytest.mark.parametrize("words", [["inspect", "missing"], ["insepct"]], ids=" ".join)
def test_an_error_that_nobody_can_read_keeps_its_status(words, redirected):
    assert run_process(*words, redirected=redirected) == Ending(2, "", "")


@posix_only
@needs_dev_full
def test_where_neither_results_nor_errors_can_go_the_status_is_2():
    assert run_process("inspect", "--sample", redirected=">/dev/full 2>/dev/full") == Ending(2, "", "")
    assert run_process("inspect", "--sample", redirected=">&- 2>&-") == Ending(2, "", "")


@posix_only
def test_an_error_whose_reader_has_gone_keeps_its_status():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        call = [*COMMAND, "inspect", "missing"]
        done = subprocess.run(call, stderr=writer, env=environment(), timeout=SECONDS, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 2


@pytest.fixture(scope="module")
def full_ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ring whose packets, printed, fill a pipe several times over."""
    size = 256 * 1024
    offsets = range(0, size - 1024, 1024)
    data = b"".join(packet(offset, 6, pattern(1000, seed=offset)) for offset in offsets)
    file = tmp_path_factory.mktemp("full") / "ring.bin"
    file.write_bytes(control_page(len(data)) + data.ljust(size, b"\0"))
    return file


@posix_only
@pytest.mark.parametrize(
    ("form", "unbuffered"), [("--json", ""), ("--jsonl", ""), ("--hexdump", ""), ("--hexdump", "1")]
)
def test_a_reader_that_leaves_early_ends_the_command_quietly(full_ring, form, unbuffered):
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(full_ring), form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment({"PYTHONUNBUFFERED": unbuffered}),
    )
    with process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 0


@posix_only
def test_control_c_while_reading_a_pipe_that_never_ends_exits_with_130_and_not_a_word():
    # Where the tests run in the background Ctrl-C is ignored, and a child inherits that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from vmbus.cli.main import run; run()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "inspect", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process:
        # More than a pipe holds: when this is written, the command is reading.
        process.stdin.write(bytes(4 << 20))
        process.stdin.flush()
        # One that comes just before a read goes to sleep ends no read: Python sees it at the next.
        for _ in range(SECONDS):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        assert process.wait(0) == 130
        assert process.stdout.read() == b""
        assert process.stderr.read() == b""


# -- the table of commands ------------------------------------------------------------------------


def test_a_command_of_the_table_is_loaded_only_when_it_is_used(monkeypatch):
    loaded = []

    def load():
        loaded.append("now")
        return SimpleNamespace(
            __doc__="A test.",
            add_arguments=lambda parser: parser.add_argument("word"),
            execute=lambda arguments: print(arguments.word) or 1,
        )

    command = Command("say a word", "vmbus echo hello", load)
    monkeypatch.setitem(COMMANDS, "echo", command)
    overview = run("--help").out
    assert "\n  echo     say a word\n" in overview
    assert "\n  vmbus echo hello\n" in overview
    assert loaded == []
    assert run("echo", "hello") == Ending(1, "hello\n", "")
    assert loaded == ["now"]


def test_every_command_of_the_table_loads_and_has_what_main_calls():
    for command in [*COMMANDS.values(), *FUZZ_TABLE.commands.values()]:
        module = command.load()
        assert module.__doc__
        if hasattr(module, "TABLE"):
            continue
        assert callable(module.add_arguments)
        assert callable(module.execute)
