"""The tools run and say what they are for; what they measure depends on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmbus.fuzzing import targets
from vmbus.memory import FENCES

ROOT = Path(__file__).parents[1]
ROUNDS = 1_000_000


def cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / name), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


# -- litmus.py -------------------------------------------------------------------------------

needs_fence = pytest.mark.skipif(FENCES is None, reason="no fence is known on this machine")


@needs_fence
@pytest.mark.skipif(cpus() < 2, reason="one CPU alone never sees its own stores late")
def test_with_the_fence_no_load_overtakes_a_store_in_a_million_rounds(capsys, record_property):
    done = run_tool("litmus.py", "--rounds", str(ROUNDS), "--json")
    assert done.returncode in (0, 1), done.stderr
    counted = json.loads(done.stdout)
    record_property("reordered_without_fence", counted["reordered_without_fence"])
    with capsys.disabled():
        print(
            f"\n{ROUNDS:,} rounds of store, load: {counted['reordered_without_fence']:,} reordered "
            f"without the fence, {counted['reordered_with_fence']:,} with it"
        )
    assert counted["rounds"] == ROUNDS
    assert counted["reordered_with_fence"] == 0
    assert done.returncode == 0


@needs_fence
def test_litmus_tells_both_counts_to_people_too():
    done = run_tool("litmus.py", "--rounds", "700")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("fence: ")
    assert [line.split()[1:] for line in lines[2:]] == [
        ["reordered", "without", "the", "fence"],
        ["reordered", "with", "the", "fence"],
    ]


@needs_fence
def test_litmus_gives_up_in_time_and_says_so():
    done = run_tool("litmus.py", "--rounds", "1_000_000_000", "--seconds", "0.01")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("litmus: nothing counted: ")


#: Starts litmus with a partner that ends at once, as if it had been killed.
PARTNER_THAT_DIES = """
import sys
sys.path.insert(0, "tools")
import litmus

def partner(path, rounds, seconds):
    pass

if __name__ == "__main__":
    litmus.run_partner = partner
    sys.exit(litmus.main(["--rounds", "1000000", "--seconds", "100"]))
"""


@needs_fence
def test_litmus_does_not_wait_for_a_partner_that_has_died(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(PARTNER_THAT_DIES)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, "litmus: nothing counted: the other process has ended\n")


# -- measure_speed.py ------------------------------------------------------------------------

#: Row, how many entries it has, what is at least (or, in rows 12 to 14, at most) wanted, and the aim.
ROWS = [
    (1, [(1.3, 2)]),
    (2, [(2.5, 4), (1, 1.8)]),
    (3, [(1.3, 2)]),
    (4, [(0.5, 0.8)] * 3),
    (5, [(1.4, 2.5), (2.7, 5)]),
    (6, [(1, 1.5), (2.2, 3)]),
    (7, [(1.2, 2)]),
    (8, [(0.45, 0.7), (1.2, 2)]),
    (9, [(5, 8)]),
    (10, [(0.4, 0.9)]),
    (11, [(0.08, 0.2)]),
    (12, [(2, 1.5)]),
    (13, [(1.6, 1.2)]),
    (14, [(100, 100)]),
    (15, [(1, 1.5), (1, 1.5)]),
    (16, [(12, 16)]),
    (17, [(0.3, 0.5)] * 2),
]


@pytest.fixture(scope="module")
def speeds():
    done = run_tool("measure_speed.py", "--quick", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_every_row_is_measured_with_its_figures(speeds):
    expected = [(row, *figure) for row, figures in ROWS for figure in figures]
    assert [(one["row"], one["at_least"], one["aim"]) for one in speeds] == expected


def test_an_entry_of_the_measurement_says_what_it_compares(speeds):
    for one in speeds:
        assert {"row", "work", "against", "ratio", "at_least", "aim"} <= one.keys()
        assert one["work"] and one["against"]
        assert one["less_is_better"] is (one["row"] in (12, 13, 14))
        if one["row"] == 14:
            assert one["ratio"] is None and 0 < one["peak_mib"] <= one["at_least"]
            continue
        if one["ratio"] is None:
            assert "SEQPACKET" in one["against"] and sys.platform != "linux"
            continue
        assert one["ratio"] > 0
        assert one["ours_us"] > 0 and one["theirs_us"] > 0


def test_two_entries_of_a_row_differ_in_what_they_are_measured_against(speeds):
    entries = [(one["row"], one["work"], one["against"]) for one in speeds]
    assert len(set(entries)) == len(entries)


def test_rows_can_be_chosen_and_read_by_people():
    done = run_tool("measure_speed.py", "--quick", "--rows", "3,1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sys.version.split()[0] in lines[0] and "rings of 256 KiB" in lines[0]
    assert lines[2].split() == ["ROW", "WORK", "AGAINST", "RATIO", "LIMIT", "AIM", "OURS", "THEIRS"]
    assert [line.split()[0] for line in lines[3:]] == ["1", "3"]


@pytest.mark.parametrize("rows", ["0", "1,18", "x", ""])
def test_a_row_that_is_not_measured_is_refused(rows):
    done = run_tool("measure_speed.py", "--rows", rows)
    assert done.returncode == 2
    assert "error: argument --rows" in done.stderr


def test_a_payload_that_arrives_changed_is_noticed():
    code = """
import sys
sys.path.insert(0, "tools")
import measure_speed
from vmbus import FlatRingMem

class Disturbed(FlatRingMem):
    def read_at(self, offset, length):
        return bytes(length)

for side in (measure_speed.ring_messages, measure_speed.ring_batches):
    try:
        side(Disturbed(measure_speed.RING_SIZE), 64, 1)()
    except measure_speed.Wrong:
        print("noticed")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["noticed"]


# -- fuzz_rates.py -----------------------------------------------------------------------------


def test_fuzz_rates_has_a_row_for_each_target():
    done = run_tool("fuzz_rates.py", "--seconds", "0.01")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("|") for line in done.stdout.splitlines()[3:]]
    assert [row[1].strip(" `") for row in rows] == list(targets())
    assert all(int(row[2]) > 0 and int(row[3]) > 0 for row in rows)
