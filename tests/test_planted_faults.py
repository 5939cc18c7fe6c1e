"""Every fault of tests/planted_*.py is noticed by the test that is named beside it.

Each is planted in a copy of the package and its tests, in a directory of its own, and the named
test runs there in a process of its own.  The same test, with the same seed, has passed there
without the fault.  A test that cannot be collected, or that ends in any other way than by failing,
has noticed nothing.

The seed is no promise: what Hypothesis draws from it also depends on its version and on the constants of the
modules that are imported.  So luck must not decide.  The named test is one example by name, or a property that
has its `@example` for the fault, or one that meets the fault whatever the seed (and was seen to, with eight).
"""

from __future__ import annotations

import re

import pytest

from tests.all_faults import ALL_FAULTS
from tests.planted_faults import PlantedFault
from tests.planting import ROOT, Run, with_fault

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

FAILED = 1  # pytest's status when tests ran and some failed; an error in collection has another


def reported(run: Run, verdict: str, test: str) -> bool:
    """Whether pytest's summary has a line with that verdict on the test, or on one of its cases."""
    start = f"{verdict} tests/{test}"
    ends = ("", " ", "[")
    return any(
        line.startswith(start) and line[len(start) : len(start) + 1] in ends
        for line in run.printed.splitlines()
    )


@pytest.mark.planted
@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.name)
def test_the_named_test_fails_with_the_fault_and_passes_without(fault, planting):
    runs = planting.runs()
    passing = [run for run in runs.passing if reported(run, "PASSED", fault.caught_by)]
    assert passing, [run.printed[-3000:] for run in runs.passing if run.status]
    assert not any(reported(run, "FAILED", fault.caught_by) for run in runs.passing), passing[0].printed
    run = runs.failing[fault.name]
    assert run.status == FAILED, run.printed
    assert reported(run, "FAILED", fault.caught_by), run.printed


#: What a test says when it has found something; an exception that nobody expected is no finding.
FINDINGS = re.compile(
    r"AssertionError|\bassert\b|Failed: |Wrong|NotConforming|Mismatch|ExceptionGroup|DID NOT"
)

#: Processor seconds in which a fault must be found.
SECONDS = 10

NOBODY = "NOBODY"
NO_FINDING = "an exception that nobody expected, in"

#: The trials of vmbus.fuzzing look for faults in these parts.
TRIALS = "fuzzing/test_trials_find_faults.py::"
TRIED_PARTS = {"ring", "pipe", "channel", "inspection", "virtio"}


def catcher_of(fault: PlantedFault, run: Run) -> str:
    """Who has caught a fault; NOBODY where its test has passed."""
    start = f"FAILED tests/{fault.caught_by}"
    lines = [line for line in run.printed.splitlines() if line.startswith(start)]
    if not lines:
        return NOBODY
    return fault.caught_by if any(map(FINDINGS.search, lines)) else f"{NO_FINDING} {fault.caught_by}"


@pytest.mark.planted
def test_the_list_of_faults_and_who_caught_each(planting):
    """`pytest -rP tests/test_planted_faults.py -k fails_with` and this test by name shows it."""
    if planting is None:
        pytest.skip("no fault was planted in this run of pytest")
    runs = planting.runs()
    by_name = {fault.name: fault for fault in ALL_FAULTS}
    caught = {name: catcher_of(by_name[name], run) for name, run in runs.failing.items()}
    for name, catcher in caught.items():
        print(
            f"{runs.failing[name].seconds:6.2f} s  {by_name[name].file}: {name}\n          caught by {catcher}"
        )
    assert [name for name, catcher in caught.items() if catcher == NOBODY] == []
    assert {name: run.seconds for name, run in runs.failing.items() if run.seconds > SECONDS} == {}
    tried = [name for name in caught if by_name[name].caught_by.startswith(TRIALS)]
    assert [name for name in tried if caught[name].startswith(NO_FINDING)] == []


def test_the_trials_of_fuzzing_are_shown_to_find_faults_in_every_part():
    tried = [fault for fault in ALL_FAULTS if fault.caught_by.startswith(TRIALS)]
    assert len(tried) >= 40
    assert {fault.file.partition("/")[0] for fault in tried} >= TRIED_PARTS


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
