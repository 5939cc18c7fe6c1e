"""How soon random cases meet the corners of a trial."""

from __future__ import annotations

from random import Random

from vmbus.fuzzing.corpus import random_case
from vmbus.fuzzing.trial import Trial

#: Cases after which every corner must have been met.
A_FEW_HUNDRED = 400

SEEDS = range(5)


def corners_not_met(trial: type[Trial], seed: int) -> set[str]:
    """The corners that random cases do not meet, of those that the trial says it has."""
    random = Random(seed)
    left = set(trial.CORNERS)
    for _ in range(A_FEW_HUNDRED):
        met = random_case(trial, random).perform().keys()
        assert met <= set(trial.CORNERS), "a corner that is counted and not listed"
        left -= met
        if not left:
            break
    return left
