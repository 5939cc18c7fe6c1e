"""What conformance checks are made of, and what they say in the end.

A check is a function of what is tested.  Its name, with hyphens, is the check's; its first line of text is the
rule that it holds an implementation to.  It ends, or raises `Mismatch`; whatever else comes out of it, and a check
that does not end, is a failure as well.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from vmbus.errors import CallerError

from .bounded import StillRunning, Task

__all__ = [
    "Check",
    "Mismatch",
    "NotConforming",
    "Outcome",
    "Report",
    "Subject",
    "checks_of",
    "demand",
    "demand_equal",
    "demand_no_error",
    "demand_raises",
    "run_checks",
]

LONGEST_VALUE = 300  # letters of a value in a message


class Mismatch(Exception):
    """What a check found is not what the rule asks for.

    expected   what would have been right
    came       what came instead
    """

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


class NotConforming(AssertionError):
    """Some checks failed; the message lists all of them, `report` has the whole of it."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class Subject:
    """What checks are done on; the base of what makes a memory, a pair of signals, of rings or of channels.

    What a check makes through `keep` is closed behind it when it has passed: behind one that failed somebody may
    still wait in it.
    """

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def try_out(self) -> None:
        """Make one; Mismatch where what comes is not what it should be."""
        raise NotImplementedError

    def keep(self, made: Any) -> None:
        """Close this in the end, where it can be closed."""
        self._kept.append(made)

    def tidy(self, passed: bool) -> None:
        kept, self._kept = self._kept, []
        for one in kept if passed else ():
            getattr(one, "close", int)()


class Check(NamedTuple):
    """One rule, and the function that holds an implementation to it."""

    name: str
    sentence: str
    function: Callable[[Any], object]


class Outcome(NamedTuple):
    """How one check ended.

    expected, came   of a check that failed: what would have been right, and what came instead
    """

    name: str
    sentence: str
    passed: bool
    expected: str = ""
    came: str = ""

    def __str__(self) -> str:
        if self.passed:
            return f"passed  {self.name}: {self.sentence}"
        return (
            f"FAILED  {self.name}: {self.sentence}\n"
            f"        expected: {self.expected}\n"
            f"        came:     {self.came}"
        )


class Report(NamedTuple):
    """What all checks said of one implementation."""

    subject: str
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def passed(self) -> bool:
        return not self.failures

    def raise_for_failures(self) -> None:
        """Raise NotConforming where a check failed."""
        if self.failures:
            raise NotConforming(self)

    def __str__(self) -> str:
        total, wrong = len(self.outcomes), self.failures
        if not wrong:
            return f"{self.subject}: all {total} checks passed"
        return "\n".join([f"{self.subject}: {len(wrong)} of {total} checks failed", *map(str, wrong)])


#: Comes before all others, and is in a report only when it failed: then all others would fail as it did.
FIRST_CALL = Check("make", "What is to be checked can be made.", lambda subject: subject.try_out())


def checks_of(*functions: Callable[[Any], object]) -> tuple[Check, ...]:
    """A table of checks, each named and explained as its function is.

    >>> def mask_is_kept(rings): "A mask that was set stays set."
    >>> checks_of(mask_is_kept)[0][:2]
    ('mask-is-kept', 'A mask that was set stays set.')
    """
    return tuple(
        Check(one.__name__.replace("_", "-"), (one.__doc__ or "").strip().partition("\n\n")[0], one)
        for one in functions
    )


def run_checks(
    title: str, subject: Subject, checks: Sequence[Check], limit: float, only: Collection[str] | None
) -> Report:
    """Do all checks, or those named, each within `limit` seconds; none where not even one can be made.

    Raises CallerError for a name that no check has.
    """
    names = [check.name for check in checks]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise CallerError(
            f"no check is named {unknown[0]!r}; there are {', '.join(names)}",
            argument="only",
            value=unknown[0],
            limit=tuple(names),
        )
    first = run_check(FIRST_CALL, subject, limit)
    if not first.passed:
        return Report(title, (first,))
    chosen = [check for check in checks if only is None or check.name in only]
    return Report(title, tuple(run_check(check, subject, limit) for check in chosen))


def run_check(check: Check, subject: Subject, limit: float) -> Outcome:
    outcome = judged(check, subject, limit)
    subject.tidy(outcome.passed)
    return outcome


def judged(check: Check, subject: Subject, limit: float) -> Outcome:
    try:
        return Task(lambda: attempt(check, subject)).result(limit)
    except StillRunning as error:
        return Outcome(check.name, check.sentence, False, "an end of the check", str(error))


def attempt(check: Check, subject: Subject) -> Outcome:
    """Do a check, in a thread of its own: there also a SystemExit is a finding and ends nothing else."""
    try:
        check.function(subject)
        subject.tidy(True)
    except StillRunning:
        raise
    except Mismatch as error:
        return Outcome(check.name, check.sentence, False, error.expected, error.came)
    except BaseException as error:  # noqa: BLE001 - a finding, whatever it is
        came = f"{type(error).__name__}: {brief(str(error))}, {place_of(error)}"
        return Outcome(check.name, check.sentence, False, "no such error", came)
    return Outcome(check.name, check.sentence, True)


def place_of(error: BaseException) -> str:
    """Where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"raised in {frames[-1].filename}, line {frames[-1].lineno}" if frames else "raised nowhere"


# -- for the checks --------------------------------------------------------------------------------


def demand(holds: object, expected: str, came: object = "something else") -> None:
    """Raise Mismatch unless something holds."""
    if not holds:
        raise Mismatch(expected, came if isinstance(came, str) else brief(repr(came)))


def demand_equal(found: object, expected: object, what: str) -> None:
    """Raise Mismatch unless a value is the one that it should be."""
    if found != expected or (isinstance(expected, bool) and found is not expected):
        raise Mismatch(f"{what} {brief(repr(expected))}", brief(repr(found)))


@contextmanager
def demand_raises(kind: type[Exception], what: str) -> Iterator[None]:
    """Raise Mismatch unless the block raises an error of that kind."""
    expected = f"{kind.__name__} from {what}"
    try:
        yield
    except kind:
        return
    except (Mismatch, StillRunning):
        raise
    except Exception as error:  # noqa: BLE001 - raised again as what it is here
        raise_instead(expected, error)
    raise Mismatch(expected, "no error")


@contextmanager
def demand_no_error(what: str) -> Iterator[None]:
    """Raise Mismatch where the block raises an error."""
    try:
        yield
    except (Mismatch, StillRunning):
        raise
    except Exception as error:  # noqa: BLE001 - raised again as what it is here
        raise_instead(f"no error from {what}", error)


def raise_instead(expected: str, error: Exception) -> NoReturn:
    raise Mismatch(expected, f"{type(error).__name__}: {brief(str(error))}") from error


def brief(text: str) -> str:
    """A text for a message; the middle of a long one left out."""
    if len(text) <= LONGEST_VALUE:
        return text
    half = LONGEST_VALUE // 2
    return f"{text[:half]} ... {text[-half:]}"
