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
