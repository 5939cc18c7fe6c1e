"""The front door of fuzzing: every name is there, and nothing is imported before it is asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vmbus.fuzzing

FOLDER = Path(vmbus.fuzzing.__file__).parent
HUBS = [name[1:].lower() for name in vars(vmbus.fuzzing) if name.startswith("_") and name[1:].isupper()]

#: The hub whose names need hypothesis.
MACHINERY = "machinery"


def names_of(hub: str) -> list[str]:
    return list(getattr(vmbus.fuzzing, f"_{hub.upper()}"))


@pytest.mark.parametrize("hub", HUBS)
def test_a_hub_gives_the_names_that_the_front_door_has_of_it(hub):
    module = importlib.import_module(f"vmbus.fuzzing.{hub}")
    assert sorted(names_of(hub)) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(vmbus.fuzzing, name) is getattr(module, name)


def test_no_name_stands_in_two_hubs_or_is_that_of_a_file():
    names = [name for hub in HUBS for name in names_of(hub)]
    assert len(set(names)) == len(names)
    assert not {path.stem for path in FOLDER.glob("*.py")} & set(names)


def test_the_stub_has_the_same_names():
    stub = ast.parse((FOLDER / "__init__.pyi").read_text(encoding="utf-8"))
    found = {
        (node.module, alias.asname)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert found == {(hub, name) for hub in HUBS for name in names_of(hub)}


def test_all_has_the_names_that_do_not_need_hypothesis_and_dir_has_all():
    assert sorted(vmbus.fuzzing.__all__) == sorted(
        name for hub in HUBS if hub != MACHINERY for name in names_of(hub)
    )
    assert set(dir(vmbus.fuzzing)) >= {name for hub in HUBS for name in names_of(hub)}


def test_a_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'Hammer'"):
        _ = vmbus.fuzzing.Hammer


def test_the_front_door_itself_imports_nothing():
    code = (
        "import vmbus.fuzzing, sys; print(sorted(name for name in sys.modules if name.startswith('vmbus')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parents[1]
    )
    assert done.stdout == "['vmbus', 'vmbus.fuzzing', 'vmbus.version']\n"
