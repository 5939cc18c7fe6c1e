"""What `from vmbus.fuzzing import …` gives that needs hypothesis; the strategies are vmbus.fuzzing.strategies."""

from . import needs_hypothesis  # noqa: F401 - first
from .machines import TrialMachine, machine_of
from .minimizing import failure_of, minimized
from .runner import Failure, RunResult, fuzz, fuzz_round

__all__ = [
    "Failure",
    "RunResult",
    "TrialMachine",
    "failure_of",
    "fuzz",
    "fuzz_round",
    "machine_of",
    "minimized",
]
