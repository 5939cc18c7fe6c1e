"""Fuzz a target for some time: cases are drawn and performed until one fails or the time is up.

Cases are drawn in rounds, each with a seed of its own, so that a run can be repeated: the same seed, the same
cases, as far as the time lets it come.  In every other round Hypothesis draws them, which takes long and comes to what is
special; in those between they are random bytes, which come to much in little time.  A case that fails is made
smaller before it is handed out.  Several processes share the rounds.

Without hypothesis this module cannot be imported; everything that repeats a case works without.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from itertools import count
from random import Random
from time import monotonic
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from vmbus.inspection import worker_pool

from .case import Case
from .corpus import random_case
from .minimizing import minimized
from .strategies import scripts
from .trial import Trial, Wrong

__all__ = ["Failure", "RunResult", "fuzz", "fuzz_round"]

#: Cases in a round that Hypothesis draws, one with an even number; and in one of random bytes.
DRAWN, RANDOM = 50, 200

#: Rounds that each process has before it, so that none waits for the next.
AHEAD = 2


class Failure(NamedTuple):
    """A case that failed.

    is_finding   True where the trial itself found something wrong; False where something was raised that it did
                 not expect
    reason       one sentence
    trace        where it was raised, as Python prints it
    """

    case: Case
    is_finding: bool
    reason: str
    trace: str


class RunResult(NamedTuple):
    """What a run came to.

    cases     how many were performed
    seconds   how long it took
    corners   how many cases met each corner
    failure   None where nothing was wrong
    """

    cases: int
    seconds: float
    corners: Counter[str]
    failure: Failure | None

    @property
    def rate(self) -> float:
        """Cases a second."""
        return self.cases / self.seconds if self.seconds else 0.0


#: Told what the run has come to so far.
Progress = Callable[[RunResult], object]


class Round:
    """One round: what is called with every case.

    until   when it ends, on the clock of `monotonic`
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self.cases = 0
        self.corners: Counter[str] = Counter()
        self.failure: Failure | None = None

    def one(self, case: Case) -> None:
        """Perform a case, unless the time is up; Hypothesis makes what failed smaller all the same."""
        if self.failure is None and monotonic() >= self.until:
            return
        self.cases += 1
        try:
            met = case.perform()
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            self.failure = Failure(case, isinstance(error, Wrong), reason_of(error), trace)
            raise
        self.corners.update(met.keys())


def fuzz_round(trial: type[Trial], number: int, cases: int = DRAWN, seconds: float = 10.0) -> RunResult:
    """Draw and perform one round of cases.

    number    of the round, which is its seed: even, and Hypothesis draws them
    cases     how many
    seconds   after which those that are left are not performed
    """
    started = monotonic()
    this = Round(started + seconds)
    draw = draw_with_hypothesis if is_drawn(number) else draw_random_bytes
    draw(trial, number, cases, this)
    if this.failure is not None:
        with suppress(Exception):  # `one` keeps it
            this.one(minimized(this.failure.case))
    return RunResult(this.cases, monotonic() - started, this.corners, this.failure)


def is_drawn(number: int) -> bool:
    """Whether Hypothesis draws the cases of that round."""
    return number % 2 == 0


def draw_with_hypothesis(trial: type[Trial], number: int, cases: int, this: Round) -> None:
    quiet = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        seeded(number)(quiet(given(scripts(trial))(this.one)))()
    except Exception:
        if this.failure is None:
            raise


def draw_random_bytes(trial: type[Trial], number: int, cases: int, this: Round) -> None:
    random = Random(number)
    for _ in range(cases):
        try:
            this.one(random_case(trial, random))
        except Exception:  # noqa: BLE001 - `one` has kept it
            return


def fuzz(
    trial: type[Trial],
    *,
    seconds: float = 10.0,
    cases: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> RunResult:
    """Draw and perform cases until one fails, the time is up or there were enough.

    seconds    of drawing; making a case that failed smaller may take longer
    cases      how many at most; None for as many as the time allows
    seed       of the first round; those behind it have the next numbers
    jobs       processes
    progress   called after every round with what the run has come to; whoever interrupts a run has that
    """
    started = monotonic()
    total = RunResult(0, 0.0, Counter(), None)

    def left() -> float:
        return started + seconds - monotonic()

    with closing(results_of(trial, seed, cases, left, jobs)) as results:
        for result in results:
            total = RunResult(
                total.cases + result.cases,
                monotonic() - started,
                total.corners + result.corners,
                result.failure,
            )
            if progress is not None:
                progress(total)
            if total.failure is not None:
                break
    return total


def rounds(first: int, cases: int | None) -> Iterator[tuple[int, int]]:
    """The number of each round and how many cases it has."""
    for number in count(first):
        most = DRAWN if is_drawn(number) else RANDOM
        if cases is None:
            yield number, most
        elif cases > 0:
            yield number, min(most, cases)
            cases -= most
        else:
            return


def results_of(
    trial: type[Trial], first: int, cases: int | None, left: Callable[[], float], jobs: int
) -> Generator[RunResult, None, None]:
    """The result of each round in order, while there is time."""
    if jobs == 1:
        for number, most in rounds(first, cases):
            if left() <= 0:
                return
            yield fuzz_round(trial, number, most, left())
        return
    with worker_pool(jobs) as pool:
        waiting: deque[Future[RunResult]] = deque()
        for number, most in rounds(first, cases):
            if left() <= 0:
                break
            waiting.append(pool.submit(fuzz_round, trial, number, most, left()))
            if len(waiting) >= AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def reason_of(error: Exception) -> str:
    """What went wrong, in one sentence."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, Wrong) else f"{type(error).__name__}: {text}"
