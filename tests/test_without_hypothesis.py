"""Who has the package and not hypothesis notices nothing: not in use, and not in a pytest run.

Hypothesis is hidden from the other process by a finder that refuses its import, as if it had never
been installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Loaded by Python itself when it starts.
HIDE_HYPOTHESIS = '''
import sys

class NeverInstalled:
    """Answers as for a package that is not there."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hypothesis", "_hypothesis_pytestplugin"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, NeverInstalled())
'''

TESTS_OF_A_USER = """
import pytest
import vmbus


def test_hypothesis_is_not_there():
    with pytest.raises(ModuleNotFoundError):
        import hypothesis


def test_a_ring_carries_a_packet():
    sender, receiver = vmbus.connected_rings(size=4096)
    assert sender.send(b"no hypothesis") is True
    packet, signal = receiver.receive()
    assert packet.payload == b"no hypothesis" + bytes(3)
    with pytest.raises(vmbus.RingEmpty):
        receiver.receive()


@pytest.mark.parametrize("name", vmbus.__all__)
def test_every_name_can_be_used(name):
    assert getattr(vmbus, name) is not None
"""


@pytest.fixture
def without_hypothesis(tmp_path):
    """A function that runs Python, hypothesis hidden, in a folder of its own."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE_HYPOTHESIS)
    (tmp_path / "work").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    places = filter(None, [str(tmp_path / "hidden"), str(ROOT), os.environ.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(places)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "work",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_pytest_run_passes_without_a_warning(without_hypothesis, tmp_path):
    (tmp_path / "work" / "test_of_a_user.py").write_text(TESTS_OF_A_USER)
    # Where hypothesis is installed its own plugin is, too; somebody without it has neither.
    done = without_hypothesis("-m", "pytest", "-p", "no:hypothesispytest", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert " passed" in summary
    assert not [word for word in ("warning", "skipped", "error", "failed") if word in summary], summary
    assert done.stderr == ""


def test_the_command_works(without_hypothesis):
    done = without_hypothesis("-m", "vmbus", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["run", "ring"], ["minimize", "case"]])
def test_what_needs_hypothesis_says_in_one_line_how_to_get_it(without_hypothesis, words):
    done = without_hypothesis("-m", "vmbus", "fuzz", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{words[0]} needs hypothesis: pip install 'vmbus[fuzzing]'" in done.stderr
    assert done.stderr.count("\n") == 1


FUZZ_WITHOUT = """
import sys
from vmbus.cli.main import main
from vmbus.fuzzing import fuzz_one, random_case, target_named

fuzz_one(b"any bytes")
open("case", "wb").write(random_case(target_named("ring"), __import__("random").Random(1)).to_bytes())
commands = [
    "list", "repro case --target ring", "repro case --target ring --script", "corpus seeds --target ring",
    "corpus --dictionary", "explore ring", "compare ring.bin",
]
print([main(["fuzz", *words.split()]) for words in commands], "hypothesis" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "statement", ["from vmbus.fuzzing import machine_of", "import vmbus.fuzzing.strategies"]
)
def test_the_library_says_how_to_get_hypothesis_too(without_hypothesis, statement):
    done = without_hypothesis("-c", statement)
    assert done.stderr.endswith(
        "this needs hypothesis, which is not installed: pip install 'vmbus[fuzzing]'\n"
    )


def test_everything_else_of_fuzzing_works_without_hypothesis(without_hypothesis, tmp_path):
    (tmp_path / "work" / "ring.bin").write_bytes((ROOT / "tests/samples/ring-1-page.bin").read_bytes())
    done = without_hypothesis("-c", FUZZ_WITHOUT)
    assert done.stderr == "[0, 0, 0, 0, 0, 0, 0] False\n", done.stdout
    target = without_hypothesis(
        "-m", "vmbus", "fuzz", "target", "--cases", "5", "--", sys.executable, "-c", ""
    )
    assert (target.returncode, target.stderr) == (1, "")


def test_the_other_process_does_not_have_hypothesis(without_hypothesis):
    done = without_hypothesis("-c", "import hypothesis")
    assert done.returncode == 1
    assert "No module named 'hypothesis'" in done.stderr


def test_no_part_but_fuzzing_imports_hypothesis():
    for path in (ROOT / "vmbus").rglob("*.py"):
        if path.relative_to(ROOT / "vmbus").parts[0] == "fuzzing":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in modules if name.startswith("hypothesis")], path


def test_nothing_that_is_imported_at_once_needs_hypothesis():
    code = "import vmbus, sys; [getattr(vmbus, name) for name in vmbus.__all__]; print('hypothesis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
