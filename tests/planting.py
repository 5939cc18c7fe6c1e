"""Runs tests in copies of the package in which a line is wrong, while the other tests go on.

    python -m tests.planting DIRECTORY

is a process of its own: it has threads, opens files and starts processes, and the tests that count such things
are not to notice.  The directory has the faults in `faults.json`; when all is done, `runs.json` stands there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tests.planted_faults import PlantedFault
from tests.pytest_server import PytestServer

ROOT = Path(__file__).parent.parent
SEED = 20250825

#: A failure need not be made small here, only found: and found by what a test says, not because a machine is
#: slow.  On a build server too it is the seed that counts.
RUN_SETTINGS = """\
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "planted",
    database=None,
    deadline=None,
    derandomize=False,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
"""

#: What pytest prints of a failure is only looked at when it is not the expected one.
EVERY_RUN = (
    *("-p", "no:cacheprovider", "-q", "-rA", "--tb=native"),
    *(
        "-p",
        "run_settings",
        "-p",
        "hypothesispytest",
        "--hypothesis-profile=planted",
        f"--hypothesis-seed={SEED}",
    ),
)

#: Of those that must pass without a fault.
TESTS_AT_ONCE = 60

#: Runs at a time; more would need more memory than they save time.
LARGEST_CROWD = 4

LONGEST_RUN = 300  # seconds: a fault that loops for ever is an error here, and not a test that waits

#: The other tests come first: some of them look at the clock.
NICENESS = 10


class Run(NamedTuple):
    """How a run of pytest ended: its status, None where it had to be ended; what it printed, and the processor
    seconds that it took.
    """

    status: int | None
    printed: str
    seconds: float = 0.0


class Runs(NamedTuple):
    """Of every test that must notice a fault, a run without any; and of every fault, by its name, that with it."""

    passing: list[Run]
    failing: dict[str, Run]


class Workshop:
    """A copy of the package and its tests, in which lines can be changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for folder in ("vmbus", "tests", "tools"):
            # Compiled files stay good, as they go by the times of the sources, and most of the work is in the tests'
            # own; those that are just being written by somebody else have a number for their end.
            ignored = shutil.ignore_patterns("*.pyc.*")
            shutil.copytree(ROOT / folder, directory / folder, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", directory)
        (directory / "run_settings.py").write_text(RUN_SETTINGS, encoding="utf-8")
        self.pytest = PytestServer(directory, environment_of_runs(directory), LONGEST_RUN)
        self.changes = 0

    @contextmanager
    def planted(self, fault: PlantedFault) -> Iterator[None]:
        """The fault stands in the source, and afterwards the right line again."""
        path = self.directory / "vmbus" / fault.file
        right = path.read_text(encoding="utf-8")
        self.write(path, with_fault(right, fault))
        try:
            yield
        finally:
            self.write(path, right)

    def write(self, path: Path, text: str) -> None:
        """Change a file so that Python notices.

        It takes compiled code for current when the file has the second and the size that it had:
        give every change a second of its own.
        """
        path.write_text(text, encoding="utf-8")
        self.changes += 1
        os.utime(path, (0, 1_000_000_000 + self.changes))

    def run(self, *arguments: str) -> Run:
        """Run tests of this copy, those that draw with the one seed."""
        try:
            done = self.pytest.run([*arguments, *EVERY_RUN])
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            return Run(None, str(error))
        return Run(done.returncode, done.stdout + done.stderr, self.pytest.seconds)


def environment_of_runs(directory: Path) -> dict[str, str]:
    """Most of a short run is the import of plugins that it does not need, and of code not compiled yet."""
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        environment.pop(name, None)
    # So wide that the summary has what each failure says.
    return {**environment, "PYTHONPATH": str(directory), "COLUMNS": "1000"}


def with_fault(source: str, fault: PlantedFault) -> str:
    lines = source.split("\n")
    assert lines.count(fault.old) == 1, (
        f"{fault.file} has this line {lines.count(fault.old)} times: {fault.old}"
    )
    lines[lines.index(fault.old)] = fault.new
    return "\n".join(lines)


class Workshops:
    """Runs tests with and without faults, as many at a time as there are processors beside that of the other tests.

    directory   where to make the copies of the package, one for each run that goes on at a time
    faults      those to be planted
    """

    def __init__(self, directory: Path, faults: Sequence[PlantedFault]) -> None:
        count = max(1, min((os.cpu_count() or 1) - 1, LARGEST_CROWD))
        self._free: SimpleQueue[Workshop] = SimpleQueue()
        for number in range(count):
            self._free.put(Workshop(directory / str(number)))
        self._pool = ThreadPoolExecutor(count)
        tests = sorted({fault.caught_by for fault in faults})
        self._passing = [
            self._pool.submit(self._run_right, tests[start : start + TESTS_AT_ONCE])
            for start in range(0, len(tests), TESTS_AT_ONCE)
        ]
        self._failing = {fault.name: self._pool.submit(self._run_wrong, fault) for fault in faults}

    def runs(self) -> Runs:
        """All of them, when they are done."""
        failing = {name: run.result() for name, run in self._failing.items()}
        return Runs([run.result() for run in self._passing], failing)

    def _run_right(self, tests: Sequence[str]) -> Run:
        with self._workshop() as workshop:
            return workshop.run(*(f"tests/{test}" for test in tests))

    def _run_wrong(self, fault: PlantedFault) -> Run:
        with self._workshop() as workshop, workshop.planted(fault):
            return workshop.run(f"tests/{fault.caught_by}", "-x")

    @contextmanager
    def _workshop(self) -> Iterator[Workshop]:
        workshop = self._free.get()
        try:
            yield workshop
        finally:
            self._free.put(workshop)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._free.empty():
            self._free.get().pytest.close()


class Planting:
    """The process that does it, from the start of a session of pytest to its end.

    directory   where it works
    faults      those to be planted
    """

    def __init__(self, directory: Path, faults: Sequence[PlantedFault]) -> None:
        self._directory = directory
        self._runs: Runs | None = None
        (directory / "faults.json").write_text(json.dumps(faults), encoding="utf-8")
        with (directory / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.planting", str(directory)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def runs(self) -> Runs:
        """All of them: waits until they are done."""
        if self._runs is None:
            status = self._process.wait()
            assert status == 0, (self._directory / "output.txt").read_text(encoding="utf-8", errors="replace")
            passing, failing = json.loads((self._directory / "runs.json").read_text(encoding="utf-8"))
            self._runs = Runs(
                [Run(*run) for run in passing], {name: Run(*run) for name, run in failing.items()}
            )
        return self._runs

    def close(self) -> None:
        """End the process, done or not; the run that goes on in each workshop ends by itself."""
        self._process.terminate()
        self._process.wait()


def main(directory: Path) -> None:
    """Run what is asked for in a directory, and leave there how it went."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    faults = [PlantedFault(*fault) for fault in json.loads((directory / "faults.json").read_text("utf-8"))]
    workshops = Workshops(directory, faults)
    try:
        runs = workshops.runs()
    finally:
        workshops.close()
    (directory / "runs.json").write_text(json.dumps(runs), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
