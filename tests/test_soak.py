"""The soak runs in bounded time, finds nothing where all is well, and finds what is planted."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.known_bugs import known_bug
from vmbus.channel import RECEIVER_TABLE, SENDER_TABLE
from vmbus.ring import IncomingPacketType, Packet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="channels between processes run on Linux")

ROOT = Path(__file__).parents[1]


def load_tool(name: str) -> ModuleType:
    """A tool as a module: tools are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


soak_tool = load_tool("soak")


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "soak.py"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def counted(*arguments: str, status: int = 0) -> dict[str, object]:
    done = soak("--json", *arguments)
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    return json.loads(done.stdout)


def test_nothing_is_lost_duplicated_or_torn_and_every_waiting_state_is_entered():
    found = counted("--seconds", "1.5", "--seed", "7")
    assert (found["lost"], found["duplicated"], found["torn"], found["failure"]) == (0, 0, 0, None)
    assert found["messages"] > 200 and found["bytes"] > 100_000 and found["signals"] > 20
    assert (found["kills"], found["redelivered"]) == (0, 0)
    # Who is not done when the other side closes comes back for the rest.
    assert 2 <= found["attachments"] <= 4
    rows = {(row["side"], row["state"], row["event"]): row["count"] for row in found["rows"]}
    assert len(rows) == len(RECEIVER_TABLE) + len(SENDER_TABLE) - 2  # tries that succeed are not counted
    assert min(rows.values()) > 0


@known_bug("B15", "B65")
def test_processes_that_are_killed_over_and_over_lose_nothing():
    found = counted("--seconds", "1.5", "--kill")
    assert (found["lost"], found["duplicated"], found["torn"], found["failure"]) == (0, 0, 0, None)
    assert found["kills"] > 5 and found["messages"] > 200
    # One for each start, and one more for most kills: the other side attaches again too.
    assert 2 + found["kills"] <= found["attachments"] <= 4 + 4 * found["kills"]
    assert found["redelivered"] <= found["kills"]


@pytest.mark.parametrize(
    ("plant", "count"), [("lose", "lost"), ("duplicate", "duplicated"), ("tear", "torn")]
)
def test_what_is_planted_is_counted_once_for_each_way(plant, count):
    found = counted("--seconds", "0.5", "--plant", plant, status=1)
    assert {name: found[name] for name in ("lost", "duplicated", "torn")} == {
        "lost": 0,
        "duplicated": 0,
        "torn": 0,
        count: 2,
    }


def test_people_are_told_the_same_counts():
    done = soak("--seconds", "0.3", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "two processes, rings of 32768 bytes, 0.3 seconds, seed 3"
    assert [line.split() for line in lines[-3:]] == [["0", "lost"], ["0", "duplicated"], ["0", "torn"]]


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "nan"], ["--plant", "x"], ["more"]])
def test_what_cannot_be_done_is_refused(arguments):
    done = soak(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr


def test_a_payload_that_is_short_changed_or_anothers_is_torn():
    journal = soak_tool.Journal()
    way = journal.ways[0]
    whole = soak_tool.make_payload(7, 64)
    for payload, torn in [
        (whole, 0),
        (whole[:56], 1),
        (whole[: soak_tool.HEADER.size - 1], 1),
        (b"", 1),
        (whole[:-1] + b"x", 1),
        (soak_tool.make_payload(8, 64), 1),
    ]:
        before = way[soak_tool.WayPlace.TORN]
        assert soak_tool.account(Packet(IncomingPacketType.IN_BAND, 7, payload), way) == 7
        assert way[soak_tool.WayPlace.TORN] - before == torn, payload


def test_a_seed_repeats_what_is_drawn_in_each_attachment():
    journal = soak_tool.Journal()

    def draws(seed: int, number: int, start: int, attachment: int, what: str) -> tuple[float, ...]:
        side = soak_tool.Side(None, number, journal, start, soak_tool.Task(1, False, None, seed))
        side.attachments = attachment
        draw = side.draw(what)
        return tuple(draw.random() for _ in range(5))

    ways = [
        (seed, number, start, attachment, what)
        for seed in (1, 2)
        for number in (0, 1)
        for start in (1, 2)
        for attachment in (1, 2)
        for what in ("write sizes", "write pauses")
    ]
    assert len({draws(*way) for way in ways}) == len(ways)
    assert all(draws(*way) == draws(*way) for way in ways)


#: Tells the lengths that each side sends first; with "slow" each send is in vain once.
LENGTHS = """
import os
from vmbus.errors import TimedOut
make_payload = soak.make_payload

def tell_and_make(number, length):
    if number <= 50:
        side = soak.multiprocessing.current_process().name
        os.write(1, f"length {side} {number} {length}\\n".encode())
    return make_payload(number, length)

send, tried = soak.SoakChannel.send, set()

def try_twice(self, payload, number, timeout):
    if number not in tried:
        tried.add(number)
        raise TimedOut("in vain")
    return send(self, payload, number, timeout=timeout)

soak.make_payload = tell_and_make
if SLOW:
    soak.SoakChannel.send = try_twice
sys.exit(soak.main(["--seconds", "0.7", "--seed", "5"]))
"""


def test_a_run_with_the_same_seed_sends_the_same_sizes_however_long_it_takes(tmp_path):
    runs = []
    for slow in (False, True):
        output, errors = run_script(f"SLOW = {slow}\n" + LENGTHS, tmp_path / "lengths.py").communicate(
            timeout=60
        )
        assert errors == ""
        runs.append(sorted(line for line in output.splitlines() if line.startswith("length ")))
    assert len(runs[0]) == 100
    assert runs[0] == runs[1]


def run_script(script: str, path: Path) -> subprocess.Popen[str]:
    """A soak that is changed a little, in a session of its own."""
    path.write_text("import sys\nsys.path.insert(0, 'tools')\nimport soak\n" + script)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


#: Tells the ids of its two processes once both have attached.
TELLING = """
import signal
import time

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

let_run = soak.Watch.let_run

def attached(self):
    return all(side[soak.SidePlace.ATTACHMENTS] for side in self.journal.sides)

def tell_and_run(self, until):
    end = time.monotonic() + 20
    while not attached(self) and time.monotonic() < end:
        time.sleep(0.001)
    assert attached(self), "the two sides do not attach"
    print(*(process.pid for process in self.running), flush=True)
    return let_run(self, until)

soak.Watch.let_run = tell_and_run
sys.exit(soak.main(["--seconds", "60"]))
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")
def test_both_processes_end_with_the_one_that_watches_over_them(tmp_path):
    process = run_script(TELLING, tmp_path / "told.py")
    assert process.stdout is not None
    children = [os.pidfd_open(int(number)) for number in process.stdout.readline().split()]
    assert len(children) == 2
    process.kill()
    process.communicate(timeout=30)
    for child in children:
        assert select.select([child], [], [], 30)[0]
        os.close(child)


def test_an_interrupt_ends_both_processes_and_says_nothing(tmp_path):
    process = run_script(TELLING, tmp_path / "told.py")
    assert process.stdout is not None
    children = [int(number) for number in process.stdout.readline().split()]
    assert len(children) == 2
    os.killpg(process.pid, signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, output, errors) == (130, "", "")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


#: A writer that ends with an error; a reader that never ends.
FAILING = "soak.Side.write = lambda self, channel: 1 / 0\nsys.exit(soak.main(['--seconds', '20']))\n"
HANGING = """
import threading
soak.PATIENCE = 0.5
soak.Side.read = lambda self, channel: threading.Event().wait()
sys.exit(soak.main(['--seconds', '0.2']))
"""


@pytest.mark.parametrize(
    ("script", "says"), [(FAILING, "ended early, with status 1"), (HANGING, "side hangs")]
)
def test_a_process_that_fails_or_hangs_is_a_failure_and_not_a_wait(script, says, tmp_path):
    process = run_script(script, tmp_path / "wrong.py")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("soak: the ") and errors.rstrip().endswith(says)
