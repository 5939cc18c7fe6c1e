"""The ways in which a line of tests/bug_coverage.py is held, each of which can say that it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tests.exploration.test_explore import REMOVALS
from tests.planted_faults import PlantedFault
from vmbus.errors import CallerError, PeerError

__all__ = ["CannotApply", "Explored", "Held", "Planted", "Refused", "caller", "peer", "planted_faults"]

TESTS = Path(__file__).parent

#: The test that plays an exploration with one line less, as tests/known_bugs.py names tests.
STORIES = "exploration/test_explore.py::test_a_story_tells_what_goes_wrong_without_it"


class Planted(NamedTuple):
    """A fault of tests/planted_*.py, by name."""

    fault: str

    def holds(self, tests: list[str]) -> str | None:
        """What is wrong with this as what keeps a bug out that those tests name; None for nothing."""
        planted = planted_faults().get(self.fault)
        if planted is None:
            return f"no fault is called {self.fault!r}"
        if test_of(planted) not in tests:
            return f"{self.fault!r} is noticed by {test_of(planted)}, which does not name the bug"
        return None

    def __str__(self) -> str:
        planted = planted_faults().get(self.fault)
        place = f", in {planted.file}, noticed by {planted.caught_by}" if planted else ""
        return f"planted: {self.fault}{place}"


class Explored(NamedTuple):
    """A line left out in an exploration, by its name."""

    removal: str

    def holds(self, tests: list[str]) -> str | None:
        if self.removal not in REMOVALS:
            return f"no exploration is called {self.removal!r}"
        return None if STORIES in tests else f"{STORIES} does not name the bug"

    def __str__(self) -> str:
        kind = REMOVALS[self.removal].kind.name.lower().replace("_", " ") if self.removal in REMOVALS else "?"
        return f"explored: {self.removal} ({kind}), found by {STORIES}"


class Refused(NamedTuple):
    """An input, and the error that it is met with.

    what      the input, in words
    attempt   puts it in
    error     exactly the class of the error
    says      its kind where it is a PeerError, else the argument it blames
    """

    what: str
    attempt: Callable[[], object]
    error: type[Exception]
    says: object

    def holds(self, tests: list[str]) -> str | None:
        try:
            result = self.attempt()
        except (PeerError, CallerError) as error:
            said = error.kind if isinstance(error, PeerError) else error.argument
            met = (type(error), said)
            return None if met == (self.error, self.says) else f"{self.what}: met with {met}, {error}"
        return f"{self.what}: taken, with the result {result!r}"

    def __str__(self) -> str:
        says = self.says.name if isinstance(self.says, Enum) else self.says
        return f"input: {self.what}: {self.error.__name__}, {says}"


class CannotApply(NamedTuple):
    """Why nothing here can have the bug, or a part of it."""

    reason: str

    def holds(self, tests: list[str]) -> str | None:
        return None if self.reason.endswith(".") else f"no sentence: {self.reason}"

    def __str__(self) -> str:
        return f"cannot apply: {self.reason}"


Held = Planted | Explored | Refused | CannotApply


@cache
def planted_faults() -> dict[str, PlantedFault]:
    """All faults of tests/planted_*.py by name."""
    lists = (
        value
        for path in sorted(TESTS.glob("planted_*.py"))
        for value in vars(import_module(f"tests.{path.stem}")).values()
        if isinstance(value, list)
    )
    return {one.name: one for faults in lists for one in faults if isinstance(one, PlantedFault)}


def test_of(fault: PlantedFault) -> str:
    """The test that must notice a fault, without the case of it."""
    return fault.caught_by.partition("[")[0]


def peer(what: str, attempt: Callable[[], object], kind: object) -> Refused:
    return Refused(what, attempt, PeerError, kind)


def caller(what: str, attempt: Callable[[], object], argument: str) -> Refused:
    return Refused(what, attempt, CallerError, argument)
