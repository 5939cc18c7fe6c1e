"""Every example that people read is run: each docstring's, and each of the README.

In the README a `python` block with prompts is a session, any other `python` block is a script, and a
`console` or `text` block that begins with `$ vmbus` or `$ python -m vmbus` shows commands with all
that they print.  There a line `...` stands for any lines that were left out, and the word `guest` for a copy
of a guest's /sys, which is made for them.
"""

from __future__ import annotations

import difflib
import doctest
import importlib
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import vmbus
from tests.uio.realistic_guest import realistic_guest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

#: What in the README is run as this package's command line.
COMMANDS = ("vmbus", "python -m vmbus")

#: What stands in them for a copy of a guest's files.
GUEST = "guest"

#: Seconds for one example.
PATIENCE = 120


class Block(NamedTuple):
    """A fenced block of Markdown; `line` is that of its first line of text."""

    language: str
    line: int
    text: str


class Command(NamedTuple):
    """A command of a console block, and all that it prints."""

    line: int
    arguments: list[str]
    output: str


def blocks_of(markdown: str) -> list[Block]:
    """The fenced blocks; a fence may be indented, and its text with it."""
    found = []
    inside: tuple[str, str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = re.fullmatch(r"( *)```+ *(\S*).*", line)
        if inside is None and fence:
            inside, lines = (fence[1], fence[2], number + 1), []
        elif inside is not None and fence and not fence[2]:
            found.append(Block(inside[1], inside[2], "".join(f"{one}\n" for one in lines)))
            inside = None
        elif inside is not None:
            lines.append(line.removeprefix(inside[0]))
    assert inside is None, f"the block at line {inside[2] if inside else 0} is not closed"
    return found


def is_python(block: Block) -> bool:
    return block.language == "python"


def is_session(block: Block) -> bool:
    return is_python(block) and re.search(r"^ *>>> ", block.text, re.MULTILINE) is not None


def is_console(block: Block) -> bool:
    first = block.text.partition("\n")[0]
    return block.language in ("console", "text") and any(
        f"{first} ".startswith(f"$ {command} ") for command in COMMANDS
    )


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block; each ends where the next prompt begins."""
    commands: list[Command] = []
    for number, line in enumerate(block.text.splitlines(keepends=True), start=block.line):
        if line.startswith("$ "):
            commands.append(Command(number, arguments_of(line[2:].rstrip("\n")), ""))
        else:
            commands[-1] = commands[-1]._replace(output=commands[-1].output + line)
    return commands


def arguments_of(command: str) -> list[str]:
    """The arguments behind `vmbus` or `python -m vmbus`."""
    words = shlex.split(command, comments=True)
    for prefix in map(str.split, COMMANDS):
        if words[: len(prefix)] == prefix:
            return words[len(prefix) :]
    raise AssertionError(f"{command!r} stands in a block of vmbus commands, and is none")


def run_command(arguments: list[str], guest: Path) -> str:
    """What `vmbus` prints, errors included."""
    done = subprocess.run(
        [sys.executable, "-m", "vmbus", *(str(guest) if one == GUEST else one for one in arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
    )
    return done.stdout.decode("utf-8").replace("\r\n", "\n").replace(str(guest), GUEST)


def matches(expected: str, output: str) -> bool:
    """True when they are the same but for what `...` alone on a line leaves out."""
    parts = [
        "(?:.*\n)*" if line == "...\n" else re.escape(line) for line in expected.splitlines(keepends=True)
    ]
    return re.fullmatch("".join(parts), output) is not None


def difference(expected: str, output: str) -> str:
    lines = difflib.unified_diff(
        expected.splitlines(), output.splitlines(), "as written", "as printed", lineterm=""
    )
    return "\n".join(lines)


def run_session(text: str, name: str, line: int) -> doctest.TestResults:
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name, name, line - 1)
    return doctest.DocTestRunner(verbose=False).run(test)


def run_script(block: Block, folder: Path) -> None:
    """Run a script under the README's name, so that an error names the line there."""
    script = folder / README.name
    script.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


def run_python(block: Block, folder: Path) -> None:
    """Run a session or a script; AssertionError where a session gives something else."""
    if is_session(block):
        assert run_session(block.text, README.name, block.line).failed == 0
    else:
        run_script(block, folder)


def blocks_in_readme(kind) -> list:
    """The blocks of one kind as parameters that name their line."""
    text = README.read_text(encoding="utf-8") if README.is_file() else ""
    return [
        pytest.param(block, id=f"README.md line {block.line}") for block in blocks_of(text) if kind(block)
    ]


# -- docstrings ------------------------------------------------------------------------------


def module_names() -> list[str]:
    found = pkgutil.walk_packages(vmbus.__path__, prefix="vmbus.")
    return ["vmbus", *sorted(module.name for module in found)]


@pytest.mark.parametrize("name", module_names())
def test_every_example_in_a_docstring_gives_what_it_says(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module)
    assert results.failed == 0


def test_docstrings_do_have_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = {
        name: sum(len(test.examples) for test in finder.find(importlib.import_module(name)))
        for name in module_names()
    }
    assert examples["vmbus"] and examples["vmbus.ring.signaling"] and examples["vmbus.layout.codec"]
    assert sum(examples.values()) >= 50


def test_no_file_of_the_package_is_missed():
    files = {path for path in (ROOT / "vmbus").rglob("*.py") if path.name != "__init__.py"}
    walked = {Path(str(importlib.import_module(name).__file__)) for name in module_names()}
    assert files <= walked


# -- the README ------------------------------------------------------------------------------


def test_the_readme_has_examples_of_both_kinds():
    assert blocks_in_readme(is_python)
    assert blocks_in_readme(is_console)


@pytest.mark.parametrize("block", blocks_in_readme(is_python))
def test_every_python_example_of_the_readme_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(block, tmp_path)


@pytest.fixture(scope="module")
def guest(tmp_path_factory) -> Path:
    """A copy of a guest's files."""
    return realistic_guest(tmp_path_factory.mktemp("files") / GUEST).root


@pytest.mark.parametrize("block", blocks_in_readme(is_console))
def test_every_command_of_the_readme_prints_what_it_says(block, guest):
    for command in commands_of(block):
        output = run_command(command.arguments, guest)
        assert matches(command.output, output), (
            f"README.md line {command.line}\n{difference(command.output, output)}"
        )


# -- the reading of examples itself ----------------------------------------------------------


MARKDOWN = """\
A text with `code`.

```python
>>> 1 + 1
2
```

```python
assert True
```

* a point
  ```console
  $ vmbus --version
  vmbus 1
  ...
  $ python -m vmbus inspect "a b" -x   # why
  ```

```text
not a command
```

```
nothing
```
"""


def test_blocks_are_read_with_their_language_and_line():
    assert [(block.language, block.line) for block in blocks_of(MARKDOWN)] == [
        ("python", 4),
        ("python", 9),
        ("console", 14),
        ("text", 21),
        ("", 25),
    ]
    assert blocks_of(MARKDOWN)[0].text == ">>> 1 + 1\n2\n"


def test_each_kind_of_block_is_told_from_the_others():
    kinds = [(is_python(one), is_session(one), is_console(one)) for one in blocks_of(MARKDOWN)]
    assert kinds == [
        (True, True, False),
        (True, False, False),
        (False, False, True),
        (False, False, False),
        (False, False, False),
    ]


def test_commands_are_read_with_their_output():
    assert commands_of(blocks_of(MARKDOWN)[2]) == [
        Command(14, ["--version"], "vmbus 1\n...\n"),
        Command(17, ["inspect", "a b", "-x"], ""),
    ]


def test_a_block_that_is_not_closed_is_an_error():
    with pytest.raises(AssertionError, match="line 2 is not closed"):
        blocks_of("```python\n1 / 0\n")


def test_another_command_in_a_block_of_commands_is_an_error():
    with pytest.raises(AssertionError, match="and is none"):
        commands_of(Block("console", 1, "$ vmbus --help\n...\n$ rm ring.bin\n"))


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\ntwo\n", "one\ntwo", False),
        ("one\ntwo\n", "one\nTwo\n", False),
        ("one\n", "one\ntwo\n", False),
        ("one\ntwo\n", "one\n", False),
        ("one \n", "one\n", False),
        ("o.e\n", "one\n", False),
        ("one\n...\n", "one\ntwo\nthree\n", True),
        ("one\n...\nthree\n", "one\ntwo\nthree\n", True),
        ("one\n...\ntwo\n", "one\ntwo\n", True),
        ("one\n...\nfour\n", "one\ntwo\nthree\n", False),
        ("...\n", "", True),
        ("one ...\n", "one two\n", False),
        ("", "one\n", False),
        ("", "", True),
    ],
)
def test_output_is_compared_exactly_but_for_lines_left_out(expected, output, same):
    assert matches(expected, output) is same


def test_a_session_that_gives_something_else_fails(capsys, tmp_path):
    with pytest.raises(AssertionError):
        run_python(Block("python", 7, ">>> 1 + 1\n3\n"), tmp_path)
    assert 'File "README.md", line 7' in capsys.readouterr().out


def test_a_script_that_fails_names_its_line_in_the_readme(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        run_python(Block("python", 40, "one = 1\none / 0\n"), tmp_path)
    assert caught.traceback[-1].path.name == "README.md"
    assert caught.traceback[-1].lineno + 1 == 41


def test_what_a_command_prints_is_seen_with_its_errors(guest):
    assert "usage" in run_command(["--help"], guest).lower()
    assert run_command(["inspect", "/no/such/file"], guest).startswith("vmbus: ")
