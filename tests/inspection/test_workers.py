"""A worker that is ended from outside is one line about the work, and a limit that is reached is said."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from image_writers.elf import elf_core

from tests.inspection.scenes import dump_of_bytes, scan_bytes, small_scene
from vmbus.errors import DumpError
from vmbus.inspection import ScanOptions, scan, sighting, worker_pool

needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX systems")


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@needs_kill
def test_a_worker_that_is_killed_is_an_error_that_says_what_would_help():
    with pytest.raises(DumpError, match="--jobs 1"), worker_pool(2) as pool:
        pool.submit(end_this_process).result(timeout=30)


def test_an_error_in_the_block_comes_through_and_ends_the_workers():
    with pytest.raises(KeyError), worker_pool(2) as pool:
        workers = list(pool._processes.values())
        raise KeyError("mine")
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


@pytest.mark.parametrize(
    "method", [one for one in ("fork", "spawn") if one in multiprocessing.get_all_start_methods()]
)
def test_all_workers_are_there_before_the_work_begins(method, monkeypatch):
    context = multiprocessing.get_context(method)
    monkeypatch.setattr(multiprocessing, "get_context", lambda *which: context)
    with worker_pool(3) as pool:
        assert len(pool._processes) == 3


def test_messages_that_were_not_looked_for_are_told_with_the_address(monkeypatch):
    image = elf_core(small_scene(3).regions)
    assert not [one for one in scan_bytes(image).findings if one.check == "too-many-messages"]
    monkeypatch.setattr(sighting, "MOST_MESSAGES", 1)
    (finding,) = [one for one in scan_bytes(image).findings if one.check == "too-many-messages"]
    assert "0x" in finding.message


@pytest.mark.parametrize("end", [0x60000, 0x101000, 0x300000, 2**64])
def test_memory_behind_the_end_is_not_counted_as_looked_at(end):
    dump = dump_of_bytes(elf_core(small_scene(3).regions))
    looked_at = scan(dump, ScanOptions(end=end)).looked_at
    assert looked_at == sum(min(run.end, end) - run.start for run in dump.runs(0, end))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_workers_end_when_the_process_that_has_them_is_ended():
    program = (
        "import time\n"
        "from vmbus.inspection import worker_pool\n"
        "with worker_pool(2) as pool:\n"
        "    print(*pool._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with owner:
        workers = [int(word) for word in owner.stdout.readline().split()]
        assert len(workers) == 2
        owner.terminate()
        rest = owner.stdout.read()  # ends when nobody has the other end any more
    assert rest == ""
