"""How many cases a second each target of `vmbus fuzz` performs here: the table of the README.

    python tools/fuzz_rates.py [--seconds N]

Cases are random bytes, drawn before the clock starts; a target's corners are counted with them.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections import Counter
from pathlib import Path
from random import Random
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package beside this tool

from vmbus.fuzzing import Case, Trial, random_case, targets

SEED = 1
BATCH = 20  # cases that are drawn at a time


class Rate(NamedTuple):
    """What was measured of one target."""

    name: str
    cases: int
    operations: int
    seconds: float
    missed: tuple[str, ...]

    def row(self) -> str:
        missed = f" {len(self.missed)} corners missed |" if self.missed else ""
        return f"| `{self.name}` | {self.cases / self.seconds:.0f} | {self.operations / self.cases:.0f} |{missed}"


def measure(trial: type[Trial], seconds: float) -> Rate:
    """Perform cases for so long."""
    random = Random(SEED)
    corners: Counter[str] = Counter()
    passed, cases, operations = 0.0, 0, 0
    while passed < seconds:
        drawn: list[Case] = [random_case(trial, random) for _ in range(BATCH)]
        start = perf_counter()
        for case in drawn:
            corners.update(case.perform().keys())
        passed += perf_counter() - start
        cases += len(drawn)
        operations += sum(len(case.steps) for case in drawn)
    missed = tuple(corner for corner in trial.CORNERS if not corners[corner])
    return Rate(trial.name, cases, operations, passed, missed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each target (default: 3)")
    seconds = parser.parse_args().seconds
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    print("| target | cases a second | operations in a case |")
    print("|---|---|---|")
    for trial in targets().values():
        print(measure(trial, seconds).row(), flush=True)


if __name__ == "__main__":
    main()
