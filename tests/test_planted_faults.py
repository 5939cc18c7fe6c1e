"""Every fault of tests/planted_*.py is noticed by the test that is named beside it.

Each is planted in a copy of the package and its tests, in a directory of its own, and the named
test runs there in a process of its own.  The same test, with the same seed, has passed there
without the fault.  A test that cannot be collected, or that ends in any other way than by failing,
has noticed nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.planted_channel_faults import PLANTED_CHANNEL_FAULTS
from tests.planted_craft_faults import PLANTED_CRAFT_FAULTS
from tests.planted_faults import PLANTED_FAULTS, PlantedFault
from tests.planted_finder_faults import PLANTED_FINDER_FAULTS
from tests.planted_html_faults import PLANTED_HTML_FAULTS
from tests.planted_image_faults_1 import PLANTED_IMAGE_FAULTS_1
from tests.planted_image_faults_2 import PLANTED_IMAGE_FAULTS_2
from tests.planted_image_faults_3 import PLANTED_IMAGE_FAULTS_3
from tests.planted_judgement_faults import PLANTED_JUDGEMENT_FAULTS
from tests.planted_network_faults import PLANTED_NETWORK_FAULTS
from tests.planted_queue_faults import PLANTED_QUEUE_FAULTS
from tests.planted_scan_faults import PLANTED_SCAN_FAULTS
from tests.planted_socket_faults import PLANTED_SOCKET_FAULTS
from tests.planted_vsock_connection_faults import PLANTED_VSOCK_CONNECTION_FAULTS
from tests.planted_vsock_faults import PLANTED_VSOCK_FAULTS
from tests.pytest_server import PytestServer

ROOT = Path(__file__).parent.parent
SEED = 20250825

ALL_FAULTS = [
    *PLANTED_FAULTS,
    *PLANTED_CHANNEL_FAULTS,
    *PLANTED_QUEUE_FAULTS,
    *PLANTED_VSOCK_FAULTS,
    *PLANTED_VSOCK_CONNECTION_FAULTS,
    *PLANTED_NETWORK_FAULTS,
    *PLANTED_SOCKET_FAULTS,
    *PLANTED_CRAFT_FAULTS,
    *PLANTED_FINDER_FAULTS,
    *PLANTED_HTML_FAULTS,
    *PLANTED_IMAGE_FAULTS_1,
    *PLANTED_IMAGE_FAULTS_2,
    *PLANTED_IMAGE_FAULTS_3,
    *PLANTED_JUDGEMENT_FAULTS,
    *PLANTED_SCAN_FAULTS,
]

#: What an implementation of rings or virtqueues is most easily wrong in: each must be among the faults, by this name.
EXPECTED_NAMES = {
    "no wrap",
    "footer forgotten in the availability check",
    "empty/full confusion",
    "mask ignored",
    "pending low bits not masked",
    "pending rounded down",
    "signal on every write",
    "signal before the index is stored",
    "stale cached index",
    "padding not zeroed",
    "length truncated at 16 bits",
    "descriptor read twice",
    "available index that does not wrap",
    "available index one too far ahead",
    "wrap counter not turned over: device, completions",
    "chain one descriptor longer than the queue",
    "NEXT on the last slot of a list",
    "available index before its slot",
    "failed prepare leaves a request half made",
    "event not published where completions end",
    "second part of a range lost",
    "getter that reads the guest's memory again",
    "data as long as its descriptor",
    "credit not spent",
    "reset answered with a reset",
    "refused buffer not given back",
}

#: A failure need not be made small here, only found.
RUN_SETTINGS = """\
from hypothesis import Phase, settings

settings.register_profile("planted", database=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile("planted")
"""

FAILED = 1  # pytest's status when tests ran and some failed; an error in collection has another

#: Runs at a time; more would need more memory than they save time.
LARGEST_CROWD = 4

LONGEST_RUN = 300  # seconds: a fault that loops for ever is an error here, and not a test that waits


class Workshop:
    """A copy of the package and its tests, in which lines can be changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for folder in ("vmbus", "tests", "tools"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, directory / folder, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", directory)
        (directory / "run_settings.py").write_text(RUN_SETTINGS)
        # Most of a short run is the import of plugins that it does not need.
        alone = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(directory)}
        self.pytest = PytestServer(directory, {**os.environ, **alone}, LONGEST_RUN)
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

    def run(self, *tests: str) -> subprocess.CompletedProcess[str]:
        """Run tests of this copy, those that draw with the one seed."""
        arguments = [*(f"tests/{test}" for test in tests), "-p", "no:cacheprovider", "-q", "-x", "-rA"]
        if any(self.draws(test) for test in tests):
            arguments += ["-p", "run_settings", "-p", "hypothesispytest", f"--hypothesis-seed={SEED}"]
        return self.pytest.run(arguments)

    def draws(self, test: str) -> bool:
        """Whether the file of a test has property tests."""
        path = self.directory / "tests" / test.partition("::")[0]
        return "\nfrom hypothesis import" in path.read_text(encoding="utf-8")


def with_fault(source: str, fault: PlantedFault) -> str:
    lines = source.split("\n")
    assert lines.count(fault.old) == 1, (
        f"{fault.file} has this line {lines.count(fault.old)} times: {fault.old}"
    )
    lines[lines.index(fault.old)] = fault.new
    return "\n".join(lines)


def reported(result: subprocess.CompletedProcess[str], verdict: str, test: str) -> bool:
    """Whether pytest's summary has a line with that verdict on the test, or on one of its cases."""
    start = f"{verdict} tests/{test}"
    ends = ("", " ", "[")
    return any(
        line.startswith(start) and line[len(start) : len(start) + 1] in ends
        for line in result.stdout.splitlines()
    )


Run = subprocess.CompletedProcess[str]


class Workshops:
    """Runs tests with and without faults, as many at a time as there are processors.

    directory   where to make the copies of the package, one for each run that goes on at a time
    faults      those to be planted
    """

    def __init__(self, directory: Path, faults: Sequence[PlantedFault]) -> None:
        count = min(os.cpu_count() or 1, LARGEST_CROWD)
        self._free: SimpleQueue[Workshop] = SimpleQueue()
        for number in range(count):
            self._free.put(Workshop(directory / str(number)))
        self._pool = ThreadPoolExecutor(count)
        tests = sorted({fault.caught_by for fault in faults})
        #: A run, without any fault, of every test that must notice one.
        self.passing = self._pool.submit(self._run_right, tests)
        self.failing = {fault.name: self._pool.submit(self._run_wrong, fault) for fault in faults}

    def _run_right(self, tests: Sequence[str]) -> Run:
        with self._workshop() as workshop:
            return workshop.run(*tests)

    def _run_wrong(self, fault: PlantedFault) -> Run:
        with self._workshop() as workshop, workshop.planted(fault):
            return workshop.run(fault.caught_by)

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


@pytest.fixture(scope="module")
def workshops(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshops]:
    """For the faults that this run of pytest has been asked for."""
    wanted = {getattr(item, "callspec", None) and item.callspec.id for item in request.session.items}
    faults = [fault for fault in ALL_FAULTS if fault.name in wanted]
    made = Workshops(tmp_path_factory.mktemp("workshops"), faults)
    yield made
    made.close()


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.name)
def test_the_named_test_fails_with_the_fault_and_passes_without(fault, workshops):
    passing = workshops.passing.result()
    assert reported(passing, "PASSED", fault.caught_by), passing.stdout + passing.stderr
    assert not reported(passing, "FAILED", fault.caught_by), passing.stdout
    result = workshops.failing[fault.name].result()
    assert result.returncode == FAILED, result.stdout + result.stderr
    assert reported(result, "FAILED", fault.caught_by), result.stdout


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.name)
def test_each_fault_changes_one_line_into_another_that_python_takes(fault):
    source = (ROOT / "vmbus" / fault.file).read_text(encoding="utf-8")
    planted = with_fault(source, fault)
    assert "\n" not in fault.old + fault.new
    assert fault.new != fault.old
    compile(planted, fault.file, "exec")


def test_the_faults_that_rings_are_most_easily_wrong_in_are_all_planted():
    names = [fault.name for fault in ALL_FAULTS]
    assert len(set(names)) == len(names)
    assert set(names) >= EXPECTED_NAMES
