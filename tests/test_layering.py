"""The ladder: which part of the package may import which, and which modules from outside.

A part is a folder; each imports only what stands in its row of `LADDER`, and only through the other
part's front door (`from vmbus.ring import IncomingRing`, never `vmbus.ring.incoming`).  The whole
ladder stands here; parts that do not exist yet are simply not found.

The checker reads source text alone, so that the last tests can show it every violation it is there
for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "vmbus"

#: What every part may import.
OPEN_TO_ALL = {"errors", "sizes"}

#: Part, and the other parts it may import.
LADDER = {
    "memory": set(),  # bytes that two sides share
    "layout": set(),  # the shape of every VMBus structure in memory
    "ring": {"memory", "layout"},  # one ring, from either end
    "pipe": {"ring", "layout"},  # messages and byte streams framed in packets
    "protocols": {"layout"},  # what the payloads of known devices mean
    "virtio": {"memory", "layout"},  # the other ring: virtqueues, and the packets on them
    "channel": {"memory", "ring", "pipe"},  # two rings and a signal; where waiting happens
    "sockets": {"memory", "virtio", "pipe", "channel"},  # waiting over virtqueues
    "uio": {"memory", "layout", "ring", "channel", "protocols"},  # a real device of a Linux guest
    "services": {"pipe", "protocols", "channel"},  # the guest's side of the integration components
    # a stand-in for the host; of uio only the names of files in sysfs
    "host": {"memory", "layout", "ring", "pipe", "channel", "protocols", "uio"},
    "images": {"memory"},  # bytes at guest-physical addresses, out of files of many formats
    # rings and virtqueues in a dump
    "inspection": {"memory", "layout", "ring", "pipe", "protocols", "virtio", "images"},
}
#: Every schedule of two sides.
LADDER["exploration"] = {"memory", "layout", "ring", "channel", "virtio"}
#: What other implementations would make of a ring.
LADDER["acceptance"] = {"memory", "layout", "ring", "images"}
#: Strategies, trials and conformance checks for anyone.
LADDER["fuzzing"] = LADDER.keys() - {"uio"}
#: The `vmbus` command.
LADDER["cli"] = {*LADDER, "version"}

#: The files beside the parts, and the parts they may import.
TOP_LEVEL = {
    "errors": set(),
    "sizes": {"errors"},
    "version": set(),
    "__init__": {"version"},
    "__main__": {"cli"},
}

#: Modules from outside that only these may import.
RESERVED = {
    "construct": {"layout", "protocols", "virtio"},
    "mmap": {"memory", "uio"},
    "asyncio": {"channel", "sockets", "uio", "services", "host"},
    "threading": {"channel", "sockets", "uio", "services", "host", "exploration", "fuzzing"},
    "select": {"channel", "sockets", "uio", "services", "host"},
    "selectors": {"channel", "sockets", "uio", "services", "host"},
    "hypothesis": {"fuzzing"},
    "pytest": {"fuzzing"},
    "argparse": {"cli"},
    "curses": {"cli"},
    "importlib": {"__init__"},
}

#: Modules of a newer Python's standard library, which are used where they are there.
NEWER_MODULES = {"compression"}

#: The only parts whose code prints.
PRINTING = {"cli"}


class Violation(NamedTuple):
    """One line of source that breaks a rule."""

    line: int
    rule: str
    what: str


class Import(NamedTuple):
    """One module that one statement imports; `module` is relative to a part where `dots` is not 0."""

    line: int
    dots: int
    module: str
    from_package: bool


def owner_of(path: Path) -> str:
    """The part, or the file beside the parts, that a path below vmbus/ belongs to."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imports_of(tree: ast.Module) -> Iterator[Import]:
    """Every import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, 0, alias.name, False)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.lineno, node.level, node.module or "", True)


def hidden_imports(tree: ast.Module) -> Iterator[int]:
    """The lines of imports that only type checkers see."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in ast.walk(node):
                if isinstance(inner, (ast.Import, ast.ImportFrom)):
                    yield inner.lineno


def check_import(owner: str, one: Import) -> Iterator[tuple[str, str]]:
    """The rules that one import of `owner` breaks, each with what broke it."""
    if one.dots:
        yield from check_relative(owner, one)
        return
    top, _, rest = one.module.partition(".")
    if top == "vmbus":
        yield from check_own(owner, one, rest)
    elif top in RESERVED:
        if owner not in RESERVED[top]:
            yield "reserved module", f"{owner} imports {top}"
    elif top not in sys.stdlib_module_names and top not in NEWER_MODULES:
        yield "foreign module", f"{owner} imports {top}"


def check_relative(owner: str, one: Import) -> Iterator[tuple[str, str]]:
    if one.dots > 1:
        yield "two dots", "." * one.dots + one.module
    elif owner in TOP_LEVEL:
        yield "a dot outside a part", f"{owner} imports .{one.module}"


def check_own(owner: str, one: Import, rest: str) -> Iterator[tuple[str, str]]:
    """Rules for an import from this package by its full name."""
    if not one.from_package or not rest:
        yield "the users' door", f"{owner} imports {one.module}"
        return
    part, _, inside = rest.partition(".")
    if inside:
        yield "side door", f"{owner} imports {one.module}"
    if part == owner:
        yield "own part in full", f"{owner} imports {one.module}"
    elif part not in allowed_parts(owner):
        yield "above or beside", f"{owner} imports {part}"


def allowed_parts(owner: str) -> set[str]:
    if owner in TOP_LEVEL:
        return TOP_LEVEL[owner]
    return LADDER[owner] | OPEN_TO_ALL


def printing(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines that print."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno, "print"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
            yield node.lineno, ast.unparse(node)


def by_hand(tree: ast.Module) -> Iterator[int]:
    """The lines that import by calling a function that no import statement shows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "__import__":
            yield node.lineno


def violations(source: str, path: Path) -> list[Violation]:
    """All rules that a file breaks; `path` is below vmbus/."""
    owner = owner_of(path)
    tree = ast.parse(source)
    if owner not in LADDER and owner not in TOP_LEVEL:
        return [Violation(0, "unknown part", owner)]
    found = [
        Violation(one.line, rule, what) for one in imports_of(tree) for rule, what in check_import(owner, one)
    ]
    found += [Violation(line, "hidden import", owner) for line in hidden_imports(tree)]
    found += [Violation(line, "import by hand", owner) for line in by_hand(tree)]
    if owner not in PRINTING:
        found += [Violation(line, "printing", f"{owner} uses {what}") for line, what in printing(tree)]
    return found


# -- the package -----------------------------------------------------------------------------


SOURCES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_imports_only_what_the_ladder_allows(path):
    assert violations((PACKAGE / path).read_text(encoding="utf-8"), path) == []


def test_the_walk_meets_the_parts_that_exist():
    parts = {owner_of(path) for path in SOURCES}
    assert {"memory", "layout", "ring", "errors", "sizes", "__init__"} <= parts
    assert parts <= LADDER.keys() | TOP_LEVEL.keys()


def test_every_part_has_a_front_door():
    for part in {path.parts[0] for path in SOURCES if len(path.parts) > 1}:
        assert (PACKAGE / part / "__init__.py").is_file(), part


def test_the_ladder_has_no_circle():
    placed: set[str] = set()
    while len(placed) < len(LADDER):
        ready = {part for part, below in LADDER.items() if below & LADDER.keys() <= placed} - placed
        assert ready, f"a circle among {LADDER.keys() - placed}"
        placed |= ready


def test_the_ladder_names_only_parts_it_has():
    known = LADDER.keys() | TOP_LEVEL.keys()
    for below in [*LADDER.values(), *TOP_LEVEL.values(), *RESERVED.values()]:
        assert below <= known


# -- each rule catches what it is there for --------------------------------------------------


PLANTED = {
    "a part that is above": ("ring/x.py", "from vmbus.pipe import MessagePipe", "above or beside"),
    "a part that is beside": ("memory/x.py", "from vmbus.layout import FOOTER", "above or beside"),
    "a part that nobody knows": ("ring/x.py", "from vmbus.engine import start", "above or beside"),
    "uio in fuzzing": ("fuzzing/x.py", "from vmbus.uio import open_device", "above or beside"),
    "a part in errors": ("errors.py", "from vmbus.sizes import PAGE_SIZE", "above or beside"),
    "a part in the users' door": ("__init__.py", "from vmbus.ring import Packet", "above or beside"),
    "an import in a function": (
        "layout/x.py",
        "def late():\n    from vmbus.ring import IncomingRing\n    return IncomingRing",
        "above or beside",
    ),
    "an import in a block in a method": (
        "layout/x.py",
        "class Late:\n    def late(self):\n        with self:\n            from vmbus.ring import Packet",
        "above or beside",
    ),
    "a module inside another part": ("pipe/x.py", "from vmbus.ring.incoming import X", "side door"),
    "a module inside the open files": ("pipe/x.py", "from vmbus.sizes.x import X", "side door"),
    "another part as a module": ("pipe/x.py", "import vmbus.ring", "the users' door"),
    "another part under another name": ("pipe/x.py", "import vmbus.ring as ring", "the users' door"),
    "the package itself": ("pipe/x.py", "import vmbus", "the users' door"),
    "the users' door": ("pipe/x.py", "from vmbus import IncomingRing", "the users' door"),
    "a part through the users' door": ("pipe/x.py", "from vmbus import ring", "the users' door"),
    "the own part in full": ("ring/x.py", "from vmbus.ring import Packet", "own part in full"),
    "two dots": ("ring/x.py", "from ..memory import RingMem", "two dots"),
    "two dots alone": ("ring/x.py", "from .. import memory", "two dots"),
    "three dots": ("ring/deep/x.py", "from ...memory import RingMem", "two dots"),
    "a dot beside the parts": ("sizes.py", "from .errors import CallerError", "a dot outside a part"),
    "a dot in the users' door": ("__init__.py", "from . import ring", "a dot outside a part"),
    "an import for type checkers": (
        "ring/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vmbus.memory import RingMem",
        "hidden import",
    ),
    "one by the module's name": (
        "ring/x.py",
        "import typing\nif typing.TYPE_CHECKING:\n    from .offsets import advance",
        "hidden import",
    ),
    "one behind a condition": (
        "ring/x.py",
        "from typing import TYPE_CHECKING\nif 1 and TYPE_CHECKING:\n    if 2:\n        import struct",
        "hidden import",
    ),
    "one in the else": (
        "ring/x.py",
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    pass\nelse:\n    import struct",
        "hidden import",
    ),
    "construct in a ring": ("ring/x.py", "from construct import Int32ul", "reserved module"),
    "construct in a function": ("cli/x.py", "def late():\n    import construct", "reserved module"),
    "mmap in inspection": ("inspection/x.py", "import mmap", "reserved module"),
    "threads below channel": ("pipe/x.py", "from threading import Lock", "reserved module"),
    "asyncio below channel": ("ring/x.py", "import asyncio.locks", "reserved module"),
    "select in virtio": ("virtio/x.py", "import os, select", "reserved module"),
    "hypothesis outside fuzzing": ("ring/x.py", "import hypothesis.strategies as st", "reserved module"),
    "pytest outside fuzzing": ("cli/x.py", "import pytest", "reserved module"),
    "argparse outside cli": ("inspection/x.py", "import argparse", "reserved module"),
    "curses outside cli": ("host/x.py", "import curses", "reserved module"),
    "importlib in a part": ("cli/x.py", "from importlib.metadata import version", "reserved module"),
    "importlib for resources": ("inspection/x.py", "import importlib.resources", "reserved module"),
    "an import by hand": ("cli/x.py", "ring = __import__('vmbus.ring')", "import by hand"),
    "a package nobody has": ("memory/x.py", "import numpy", "foreign module"),
    "printing in a ring": ("ring/x.py", "def show():\n    print('x')", "printing"),
    "printing passed on": ("inspection/x.py", "show = print", "printing"),
    "writing to the output": ("inspection/x.py", "import sys\nsys.stdout.write('x')", "printing"),
    "a part that is in no row": ("engine/x.py", "import struct", "unknown part"),
    "a file that is in no row": ("utilities.py", "import struct", "unknown part"),
}


@pytest.mark.parametrize(("path", "source", "rule"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_violation_is_found_and_named(path, source, rule):
    assert [found.rule for found in violations(source, Path(path))] == [rule]


ALLOWED = {
    "a part below": ("ring/x.py", "from vmbus.memory import RingMem"),
    "errors and sizes": ("memory/x.py", "from vmbus.errors import X\nfrom vmbus.sizes import Y"),
    "the same part": ("ring/x.py", "from .offsets import free_bytes\nfrom . import pair"),
    "a standard module": ("ring/x.py", "import os.path\nfrom collections.abc import Iterator"),
    "a standard module in a function": ("memory/x.py", "def late():\n    import ctypes.util"),
    "construct in layout": ("layout/x.py", "from construct import Int32ul"),
    "mmap in memory": ("memory/x.py", "import mmap"),
    "everything in cli": (
        "cli/x.py",
        "\n".join(f"from vmbus.{part} import x" for part in sorted(LADDER.keys() - {"cli"})),
    ),
    "printing in cli": ("cli/x.py", "import argparse, sys\nprint('x', file=sys.stderr)"),
    "printing in an example": ("ring/x.py", '"""\n>>> print("x")\nx\n"""'),
    "importlib in the users' door": ("__init__.py", "import importlib\nfrom vmbus.version import VERSION"),
    "hypothesis in fuzzing": ("fuzzing/x.py", "def late():\n    import hypothesis"),
    "the command in __main__": ("__main__.py", "from vmbus.cli import run"),
    "the future": ("ring/x.py", "from __future__ import annotations"),
}


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_the_ladder_allows_is_not_held_against_a_file(path, source):
    assert violations(source, Path(path)) == []


def test_every_line_that_breaks_a_rule_is_reported_with_its_number():
    source = "import os\nimport mmap\n\nfrom vmbus import ring\nprint(ring)\n"
    assert violations(source, Path("pipe/x.py")) == [
        Violation(2, "reserved module", "pipe imports mmap"),
        Violation(4, "the users' door", "pipe imports vmbus"),
        Violation(5, "printing", "pipe uses print"),
    ]
