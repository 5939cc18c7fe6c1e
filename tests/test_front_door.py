"""What users import is one list, wherever it is written, and costs nothing until it is used.

`vmbus/__init__.py` has a table of names, `vmbus/__init__.pyi` imports the same names for type
checkers, and `dir(vmbus)` shows them; each part's own front door lists what it offers.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vmbus

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vmbus"

#: Each part and its everyday names.
TABLE: dict[str, tuple[str, ...]] = vmbus._PARTS
EVERYDAY = {name: part for part, names in TABLE.items() for name in names}
#: A part of which nothing is imported before it is asked for; tests/fuzzing/test_lazy_names.py is about it.
LAZY_PART = "fuzzing"
FRONT_DOORS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))


def names_in_stub() -> dict[str, str]:
    """Each name that the stub imports, and the part it comes from; a part comes from itself."""
    found: dict[str, str] = {}
    for node in stub().body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1
            for alias in node.names:
                assert alias.asname == alias.name, f"{alias.name} is not given on to type checkers"
                assert alias.name not in found, f"{alias.name} stands in the stub twice"
                found[alias.name] = node.module or alias.name
    return found


def in_another_process(code: str) -> list[str]:
    """The list of names that `code` leaves in `answer`, from a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}\nprint(json.dumps(answer))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


# -- the users' door -------------------------------------------------------------------------


def test_table_stub_and_dir_hold_the_same_names():
    expected = {*TABLE, *EVERYDAY}
    assert set(names_in_stub()) == expected
    assert set(dir(vmbus)) == {*expected, "__version__"}
    assert vmbus.__all__ == sorted(expected)


def test_table_and_stub_take_each_name_from_the_same_part():
    assert names_in_stub() == {**EVERYDAY, **{part: part for part in TABLE}}


def test_the_stub_declares_nothing_but_the_names_and_the_version():
    other = [node for node in stub().body if not isinstance(node, ast.ImportFrom)]
    assert [type(node) for node in other] == [ast.Expr, ast.AnnAssign]
    assert ast.unparse(other[1]) == "__version__: str"


def test_no_name_stands_in_the_table_twice():
    listed = [name for names in TABLE.values() for name in names]
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(TABLE)


@pytest.mark.parametrize("name", sorted(EVERYDAY))
def test_an_everyday_name_is_the_same_object_as_its_parts(name):
    part = importlib.import_module(f"vmbus.{EVERYDAY[name]}")
    assert getattr(vmbus, name) is getattr(part, name)
    assert name in part.__all__ or name in dir(part)


@pytest.mark.parametrize("part", sorted(TABLE))
def test_a_part_is_found_under_its_name(part):
    assert getattr(vmbus, part) is importlib.import_module(f"vmbus.{part}")


def test_every_part_but_the_command_stands_in_the_table():
    assert set(TABLE) == {*FRONT_DOORS, "errors", "sizes"} - {"cli"}


def test_an_everyday_name_is_looked_up_once():
    assert vmbus.FlatRingMem is vmbus.FlatRingMem
    assert "FlatRingMem" in vars(vmbus)


def test_a_name_that_is_not_offered_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        vmbus.no_such_name  # noqa: B018
    with pytest.raises(ImportError):
        from vmbus import no_such_name  # noqa: F401


def test_a_star_import_brings_exactly_the_names():
    answer = in_another_process("names = {}\nexec('from vmbus import *', names)\nanswer = sorted(names)")
    assert answer == sorted([*vmbus.__all__, "__builtins__"])


def test_the_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z0-9.+]*)?", vmbus.__version__)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{vmbus.__version__}"' in project or 'attr = "vmbus.version.VERSION"' in project


# -- what an import costs --------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """The modules of this package, and construct, that are loaded after `code`."""
    look = "answer = [name for name in sys.modules if name.split('.')[0] in ('vmbus', 'construct')]"
    return set(in_another_process(f"{code}\n{look}"))


@pytest.mark.parametrize("code", ["import vmbus", "import vmbus; dir(vmbus); vmbus.__version__"])
def test_importing_the_package_loads_no_part_and_no_construct(code):
    assert loaded_by(code) == {"vmbus", "vmbus.version"}


def test_using_a_name_loads_its_part_and_those_below_alone():
    loaded = loaded_by("import vmbus; vmbus.FlatRingMem")
    assert {name for name in loaded if name.count(".") == 1} == {
        "vmbus.version",
        "vmbus.errors",
        "vmbus.sizes",
        "vmbus.memory",
    }
    assert "construct" not in loaded


# -- each part's own front door --------------------------------------------------------------


def imported_names(part: str) -> list[str]:
    """The names that a front door imports from the files of its part or from other parts."""
    tree = ast.parse((PACKAGE / part / "__init__.py").read_text(encoding="utf-8"))
    return [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]


def order(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions; each by the alphabet."""
    if name == name.upper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("part", [part for part in FRONT_DOORS if part != LAZY_PART])
def test_a_front_door_lists_all_that_it_imports_and_nothing_else(part):
    offered = list(importlib.import_module(f"vmbus.{part}").__all__)
    assert sorted(offered) == sorted(imported_names(part))
    assert offered == sorted(offered, key=order)
    assert len(offered) == len(set(offered))


@pytest.mark.parametrize("part", [*FRONT_DOORS, "errors", "sizes", "version"])
def test_every_name_a_front_door_lists_can_be_used(part):
    module = importlib.import_module(f"vmbus.{part}")
    assert all(hasattr(module, name) for name in module.__all__)
    assert not [name for name in module.__all__ if name.startswith("_")]


def test_every_error_is_offered():
    from vmbus import errors

    defined = [
        name for name, value in vars(errors).items() if getattr(value, "__module__", "") == "vmbus.errors"
    ]
    assert sorted(errors.__all__) == sorted(defined)
    assert set(TABLE["errors"]) == set(defined)


FILES = sorted(path.relative_to(ROOT) for path in PACKAGE.glob("*/*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_what_a_file_lists_is_there(path):
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    listed = module.__all__
    assert all(hasattr(module, name) for name in listed)
    assert list(listed) == sorted(listed, key=order)


@pytest.mark.parametrize("hub", ["queues", "captures", "scans", "judgement", "crafts"])
def test_what_inspection_imports_later_is_what_its_modules_offer(hub):
    from vmbus import inspection

    module = importlib.import_module(f"vmbus.inspection.{hub}")
    assert sorted(getattr(inspection, f"_{hub.upper()}")) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(inspection, name) is getattr(module, name)
        assert name in dir(inspection)


def test_what_images_imports_later_is_what_its_module_offers():
    from vmbus import images
    from vmbus.images import formats

    assert sorted(images._LATER) == sorted(formats.__all__)
    assert all(getattr(images, name) is getattr(formats, name) for name in formats.__all__)


def test_whoever_looks_at_rings_does_not_load_virtqueues():
    loaded = loaded_by("import vmbus.inspection")
    assert not {name for name in loaded if name.startswith("vmbus.virtio") or "pcapng" in name}
