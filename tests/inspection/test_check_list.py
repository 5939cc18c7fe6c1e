"""Every finding made anywhere in inspection has a check of the list, with a severity that the list gives it,
and the list has none that nobody makes: read from the sources.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vmbus.images
import vmbus.inspection
from vmbus.inspection import CHECKS, CHECKS_BY_NAME, Severity
from vmbus.ring import GpaRangeFault, RingFault
from vmbus.virtio import VirtqueueFault

#: Where findings are made.
SOURCES = [Path(part.__file__).parent for part in (vmbus.images, vmbus.inspection)]

#: What only a live ring, or a caller's mistake, gives.
NOT_IN_DUMPS = {
    RingFault.INVALID_MESSAGE_LENGTH,
    RingFault.RING_TOO_LARGE,
    RingFault.INVALID_RING_MEMORY,
    RingFault.INTERRUPTS_EXTERNALLY_MASKED,
}

RING_FAULTS = {fault.value for fault in RingFault if fault not in NOT_IN_DUMPS} | {
    fault.value for fault in GpaRangeFault
}
QUEUE_FAULTS = {fault.name.lower().replace("_", "-") for fault in VirtqueueFault}


def called(node: ast.Call) -> str:
    """The last name of what is called: `Finding`, `add`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def parameters(function: ast.FunctionDef) -> list[str]:
    names = [one.arg for one in function.args.posonlyargs + function.args.args + function.args.kwonlyargs]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def argument(call: ast.Call, number: int, name: str) -> ast.expr | None:
    """What a call gives for a parameter, by its place or its name."""
    if len(call.args) > number:
        return call.args[number]
    return next((one.value for one in call.keywords if one.arg == name), None)


class Maker(NamedTuple):
    """A function, method or record that is given the name of a check.

    number, name   which of its parameters that is
    """

    module: str
    number: int
    name: str
    is_method: bool


class Names:
    """The names of checks that one module's source makes findings with.

    makers   what makes findings of a name that it is given, in all modules
    """

    def __init__(self, module: str, text: str, makers: dict[str, set[Maker]]) -> None:
        self.module = module
        self.tree = ast.parse(text)
        self.makers = makers
        nodes = [*ast.walk(self.tree)]
        self.functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
        self.imported = {
            alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                fields = [ast.unparse(one.target) for one in node.body if isinstance(one, ast.AnnAssign)]
                if "check" in fields:
                    self.add_maker(node.name, Maker(module, fields.index("check"), "check", False))
        for function in self.functions:
            if "check" in parameters(function):
                self.add_function(function, "check")

    def add_function(self, function: ast.FunctionDef, name: str) -> None:
        names = [one.arg for one in function.args.args]
        is_method = names[:1] in (["self"], ["cls"])
        self.add_maker(function.name, Maker(self.module, parameters(function).index(name), name, is_method))

    def add_maker(self, name: str, maker: Maker) -> None:
        self.makers.setdefault(name, set()).add(maker)

    def calls(self) -> Iterator[tuple[ast.Call, ast.expr, ast.FunctionDef | None]]:
        """Each call that makes a finding, what it is given for the name, and the function it stands in."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                for maker in self.makers.get(called(node), ()):
                    given = argument(node, maker.number, maker.name)
                    if given is not None and self.reaches(maker, node, given):
                        yield node, given, self.function_around(node)

    def reaches(self, maker: Maker, call: ast.Call, given: ast.expr) -> bool:
        """True when a call of this name can be one of that maker: methods are called on anything."""
        if isinstance(call.func, ast.Attribute):
            return maker.is_method and (
                isinstance(given, ast.IfExp)
                or (isinstance(given, ast.Name) and given.id == maker.name)
                or (isinstance(given, ast.Constant) and isinstance(given.value, str))
            )
        return not maker.is_method and (maker.module == self.module or called(call) in self.imported)

    def function_around(self, node: ast.AST) -> ast.FunctionDef | None:
        """The innermost one."""
        around = [
            one for one in self.functions if one.lineno <= node.lineno and node.end_lineno <= one.end_lineno
        ]
        return max(around, key=lambda one: one.lineno, default=None)

    def resolve(self, given: ast.expr, function: ast.FunctionDef | None) -> set[str] | None:
        """The names that an expression can be; None where it is a parameter of its function."""
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            return {given.value} if given.value else set()
        if isinstance(given, ast.IfExp):
            return (self.resolve(given.body, function) or set()) | (
                self.resolve(given.orelse, function) or set()
            )
        text = ast.unparse(given)
        if (match := re.fullmatch(r"RingFault\.(\w+)\.value", text)) is not None:
            return {RingFault[match[1]].value}
        if (match := re.fullmatch(r"fault_label\(VirtqueueFault\.(\w+)\)", text)) is not None:
            return {match[1].lower().replace("_", "-")}
        if text.startswith("fault_label("):
            return QUEUE_FAULTS
        if text == "error.kind.value":
            return RING_FAULTS
        if isinstance(given, ast.Name) and function is not None and given.id in parameters(function):
            return None
        if re.fullmatch(r"(\w+\.)?check", text):
            return set()  # of a finding, or the like, that was made before
        raise AssertionError(f"line {given.lineno}: what name is {text}? (a literal can be checked)")


def modules(texts: dict[str, str]) -> list[Names]:
    """The sources, with all that makes findings of what it is given."""
    makers: dict[str, set[Maker]] = {"Finding": {Maker("findings", 0, "check", False)}}
    found = [Names(name, text, makers) for name, text in texts.items()]
    while True:
        before = sum(map(len, makers.values()))
        for names in found:
            for _, given, function in [*names.calls()]:
                if (
                    isinstance(given, ast.Name)
                    and function is not None
                    and names.resolve(given, function) is None
                ):
                    names.add_function(function, given.id)
        if sum(map(len, makers.values())) == before:
            return found


def made(texts: dict[str, str]) -> dict[str, set[Severity]]:
    """The names that findings are made with, and the severities that stand beside them."""
    found: dict[str, set[Severity]] = {}
    for module in modules(texts):
        for call, given, function in module.calls():
            names = module.resolve(given, function)
            severities = {
                Severity[node.attr]
                for argument in [*call.args, *(one.value for one in call.keywords)]
                for node in ast.walk(argument)
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Severity"
            }
            for name in names or ():
                found.setdefault(name, set()).update(severities)
    return found


SHIPPED = {
    path.name: path.read_text(encoding="utf-8") for part in SOURCES for path in sorted(part.glob("*.py"))
}


@functools.cache
def made_here() -> dict[str, set[Severity]]:
    return made(SHIPPED)


def test_every_finding_has_a_check_of_the_list():
    assert sorted(made_here().keys() - CHECKS_BY_NAME.keys()) == []


def test_every_check_of_the_list_is_made_by_somebody():
    assert sorted(CHECKS_BY_NAME.keys() - made_here().keys()) == []


def test_a_finding_has_a_severity_that_the_list_gives_it():
    wrong = {
        name: severities
        for name, severities in made_here().items()
        if name in CHECKS_BY_NAME and not severities <= set(CHECKS_BY_NAME[name].severities)
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('from .findings import Finding\nFinding("one", Severity.NOTE, None, "…")', {"one": {Severity.NOTE}}),
        (
            'from .findings import Finding\nFinding(check="two", severity=Severity.ERROR, offset=None, message="")',
            {"two": {Severity.ERROR}},
        ),
        (
            'from .findings import Finding\ndef make(check):\n return Finding(check, 1)\nmake("three")',
            {"three": set()},
        ),
        (
            'from .findings import Finding\ndef a(x, check):\n return Finding(check)\ndef b(check):\n a(1, check)\nb("four")',
            {"four": set()},
        ),
        (
            'from .findings import Finding\nclass A:\n def a(self, name):\n  Finding(name)\n def b(self):\n  self.a("five")',
            {"five": set()},
        ),
        ('from .findings import Finding\nFinding("six" if x else "seven")', {"six": set(), "seven": set()}),
        (
            'from .findings import Finding\nclass Ending:\n place: int\n check: str\nEnding(1, "eight")',
            {"eight": set()},
        ),
        (
            "from .findings import Finding\nFinding(RingFault.INVALID_RING_POINTER.value)",
            {"index-range": set()},
        ),
    ],
)
def test_the_reader_of_sources_finds_names_wherever_they_are_given(source, names):
    assert made({"one": source}) == names


def test_the_reader_of_sources_refuses_a_name_that_it_cannot_tell():
    with pytest.raises(AssertionError, match="what name is words"):
        made({"one": "from .findings import Finding\nFinding(words[0])"})


def test_every_fault_of_a_ring_in_a_dump_is_a_check():
    assert CHECKS_BY_NAME.keys() >= RING_FAULTS
    assert not {fault.value for fault in NOT_IN_DUMPS} & CHECKS_BY_NAME.keys()


def test_every_check_has_a_name_of_its_own_and_is_explained_in_a_line():
    assert len(CHECKS_BY_NAME) == len(CHECKS)
    for check in CHECKS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.name), check.name
        assert check.severities and len(set(check.severities)) == len(check.severities)
        assert check.meaning and check.source and "\n" not in check.meaning + check.source
        assert not check.meaning.endswith(".")


def test_the_readme_lists_every_check():
    listed = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = listed.partition("The checks, by their fixed names")[2].partition("\n\n`vmbus craft")[0]
    named = re.findall(r"`([a-z-]+)`", section)
    assert named == [check.name for check in CHECKS]
