"""What is tested, beside a slow and obvious model of it.

    class Stack(Trial):
        name = "stack"
        summary = "a list is a stack"
        settings = {"room": Number(1, 8)}
        CORNERS = ("full",)

        def __init__(self, room):
            super().__init__()
            self.model, self.real = [], RealStack(room)

        @operation(value=Number(0, 255))
        def push(self, value):
            ...
            self.demand(self.real.top() == value, "the top is what was pushed last")

A trial is driven by whoever has operations: bytes (case.py), Hypothesis (machines.py), or a person.  An
operation that makes no sense now does nothing, or checks that it is refused: any operations, in any order, are a
case.  Whatever the settings and operations, a trial ends.

A trial finds what it tests wrong by raising `Wrong`, and nothing else: any other exception that comes out of it
is a mistake of its own, or of what it tests in a way it did not think of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

from vmbus.errors import VmbusError

from .arguments import Argument

__all__ = ["Operation", "Trial", "Wrong", "operation", "pattern"]

Function = TypeVar("Function", bound=Callable[..., object])


class Wrong(AssertionError):
    """What is tested does not do what it must."""


class Operation(NamedTuple):
    """Something that a trial can be asked to do.

    arguments   what it is given, by name
    """

    name: str
    arguments: Mapping[str, Argument]


def operation(**arguments: Argument) -> Callable[[Function], Function]:
    """Mark a method of a Trial as an operation with these arguments."""

    def mark(function: Function) -> Function:
        function.operation = Operation(function.__name__, arguments)  # type: ignore[attr-defined]
        return function

    return mark


@lru_cache(maxsize=256)
def pattern(length: int, seed: int = 1) -> bytes:
    """Bytes of which no two stretches of eight are alike within a ring, nor in two seeds.

    >>> pattern(4, seed=1).hex(), pattern(4, seed=2).hex()
    ('157c4a7f', '2af894fe')
    """
    words = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 for number in range((length + 7) // 8))
    return b"".join((word % 2**64).to_bytes(8, "little") for word in words)[:length]


class Trial:
    """The base of trials.

    name       as the command line has it: lower case, words joined by hyphens
    summary    one line
    settings   arguments of the constructor
    CORNERS    the corners that are worth counting; `corners` counts them

    A subclass may take more arguments in its constructor (a memory of the user's own, say), with defaults.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    settings: ClassVar[Mapping[str, Argument]] = MappingProxyType({})
    CORNERS: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.corners: Counter[str] = Counter()

    @classmethod
    def operations(cls) -> tuple[Operation, ...]:
        """All operations, in the order in which they stand in the class; those of base classes first."""
        known = _OPERATIONS.get(cls)
        if known is None:
            known = _OPERATIONS[cls] = operations_of(cls)
        return known

    def perform(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Do one operation and look whether all is as it should be."""
        getattr(self, name)(**arguments)
        self.check()

    def check(self) -> None:
        """Called after every operation: what always holds."""

    def finish(self) -> None:
        """Called behind the last operation: what holds at the end, such as that nothing was lost."""

    def close(self) -> None:
        """Called at last, also behind a failure: give back what was opened."""

    # -- for subclasses --------------------------------------------------------------------------

    def demand(self, holds: bool, sentence: str) -> None:
        """Raise Wrong with a sentence unless something holds."""
        if not holds:
            raise Wrong(sentence)

    def demand_equal(self, found: object, expected: object, what: str) -> None:
        """Raise Wrong unless what was found is what the model says."""
        if found != expected:
            raise Wrong(f"{what}: {brief(found)} instead of {brief(expected)}")

    @contextmanager
    def demand_raises(self, kind: type[Exception], what: str) -> Iterator[None]:
        """Raise Wrong unless the block raises what the model says: just that, and nothing derived from it."""
        try:
            yield
        except Exception as error:
            if type(error) is kind:
                return
            if not isinstance(error, VmbusError):
                raise
            raise Wrong(f"{what}: {type(error).__name__} instead of {kind.__name__}: {error}") from error
        raise Wrong(f"{what}: nothing was raised instead of {kind.__name__}")

    @contextmanager
    def demand_no_error(self, what: str) -> Iterator[None]:
        """Raise Wrong where the block raises an error of this package: by the model it must not."""
        try:
            yield
        except VmbusError as error:
            raise Wrong(f"{what}: {type(error).__name__} where nothing is wrong: {error}") from error


#: Of each trial, once somebody has asked.
_OPERATIONS: dict[type[Trial], tuple[Operation, ...]] = {}


def operations_of(trial: type[Trial]) -> tuple[Operation, ...]:
    found: dict[str, Operation] = {}
    for base in reversed(trial.__mro__):
        for name, value in vars(base).items():
            marked = getattr(value, "operation", None)
            if isinstance(marked, Operation):
                found[name] = marked
    return tuple(found.values())


def brief(value: object, longest: int = 200) -> str:
    """A value for a message; the middle of a long one left out."""
    text = repr(value)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}... ({len(text) - 2 * half} letters) ...{text[-half:]}"
