"""Count how often a load overtakes the store before it, with and without vmbus.memory's full fence.

Two processes share memory, each pinned to a CPU of its own where the system can do that.  A round:

    one process      the other
    x = 1            y = 1
    (fence)          (fence)
    load y           load x

Whatever order these run in, the last store is followed by a load that sees both: at least one load
gives 1.  When both give 0, each processor has loaded before its store was seen.  So a ring loses a
wake-up: the sender stores `in` and loads the mask, the receiver stores the mask and loads `in`.

Words are stored and loaded as the rings do it, one item of a memoryview cast to "I", and the bytes
of a packet are stored before the word, as a sender does.  That matters: a processor keeps stores in
a queue until the cache line is its own, and only while the word waits there can the load overtake.

A round takes well under a microsecond, and no handshake is as quick; so both processes walk an array
of cells, x and y of each on cache lines of their own, and meet only before and after each walk.

The exit status is 0 when no round with the fence was reordered, 1 when one was, 2 when nothing could
be counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vmbus.memory import FENCES, SharedMemory

#: Rounds of one walk: few, so that the two processes have no time to drift apart.
CELLS = 1024

#: Bytes from one cell to the next: two cache lines, because processors fetch them in pairs.
STRIDE = 128

#: What is stored before the word: one cache line, as a packet of 40 bytes of payload takes.
PACKET = bytes(range(64))

#: Steps of waiting for the other process between two looks at the clock.
PATIENCE = 2_000

SIDES = (0, 1)
WORD = 4
AREA = CELLS * STRIDE


class Lost(Exception):
    """The other process is gone, or the time is up."""


class Side:
    """One of the two processes: its own cells, the other's, and where they meet.

    shared    the memory: a page for meeting, the cells of x, of y, packets, what each has seen
    number    0 or 1
    fence     the full fence
    alive     whether the other process still runs
    seconds   when to give up
    """

    def __init__(
        self,
        shared: SharedMemory,
        number: int,
        fence: Callable[[], object],
        alive: Callable[[], bool],
        seconds: float,
    ) -> None:
        other = 1 - number
        self.meeting = shared.map(0, AREA).cast("I")
        self.mine = shared.map((1 + number) * AREA, AREA).cast("I")
        self.theirs = shared.map((1 + other) * AREA, AREA).cast("I")
        self.packets = shared.map(3 * AREA, AREA)
        self.seen = [shared.map((4 + side) * AREA, CELLS * WORD).cast("I") for side in SIDES]
        self.number = number
        self.fence = fence
        self.alive = alive
        self.deadline = time.monotonic() + seconds
        self.met = 0

    def meet(self) -> None:
        """Wait until the other process is here too."""
        self.met += 1
        met, meeting = self.met, self.meeting
        step = STRIDE // WORD
        theirs = (1 - self.number) * step
        self.fence()
        meeting[self.number * step] = met
        for turn in count(1):
            if meeting[theirs] >= met:
                break
            if turn % PATIENCE == 0:
                self.look_around()
        self.fence()

    def look_around(self) -> None:
        """Give up when nobody will come; let the other run where there is one CPU only."""
        if time.monotonic() > self.deadline:
            raise Lost("the time is up")
        if not self.alive():
            raise Lost("the other process has ended")
        if hasattr(os, "sched_yield"):
            os.sched_yield()

    def batch(self, *, fenced: bool, rounds: int) -> None:
        """Walk the first `rounds` cells, and leave what was loaded in `seen`."""
        cells = [(cell * STRIDE // WORD, cell * STRIDE) for cell in range(rounds)]
        mine, theirs = self.mine, self.theirs
        for cell, _ in cells:
            mine[cell] = 0
        self.meet()
        for cell, _ in cells:  # now both caches hold both words, and a store must ask for its line
            theirs[cell] + mine[cell]
        self.meet()
        loaded = self.walk_with(self.fence, cells) if fenced else self.walk_without(cells)
        self.seen[self.number][:rounds] = array("I", loaded)
        self.meet()

    def walk_without(self, cells: list[tuple[int, int]]) -> list[int]:
        mine, theirs, packets, packet = self.mine, self.theirs, self.packets, PACKET
        loaded: list[int] = []
        note = loaded.append
        for cell, start in cells:
            packets[start : start + len(PACKET)] = packet
            mine[cell] = 1
            note(theirs[cell])
        return loaded

    def walk_with(self, fence: Callable[[], object], cells: list[tuple[int, int]]) -> list[int]:
        mine, theirs, packets, packet = self.mine, self.theirs, self.packets, PACKET
        loaded: list[int] = []
        note = loaded.append
        for cell, start in cells:
            packets[start : start + len(PACKET)] = packet
            mine[cell] = 1
            fence()
            note(theirs[cell])
        return loaded

    def reordered(self, rounds: int) -> int:
        """Rounds of the last batch in which both have loaded 0."""
        pairs = zip(self.seen[0][:rounds].tolist(), self.seen[1][:rounds].tolist(), strict=True)
        return sum(one == 0 and other == 0 for one, other in pairs)


def pin(number: int) -> int | None:
    """Run this process on a CPU of its own; which one, or None where that cannot be had."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return None
    os.sched_setaffinity(0, {cpus[number]})
    return cpus[number]


def plan(rounds: int) -> list[int]:
    """The rounds of each batch."""
    whole, rest = divmod(rounds, CELLS)
    return [CELLS] * whole + [rest] * (rest > 0)


def run_side(side: Side, rounds: int) -> dict[str, int]:
    """All batches, each without the fence and then with it; the rounds reordered in each."""
    found = {"without": 0, "with": 0}
    gc.disable()
    for batch in plan(rounds):
        for name, fenced in (("without", False), ("with", True)):
            side.batch(fenced=fenced, rounds=batch)
            if side.number == 0:
                found[name] += side.reordered(batch)
    return found


def run_partner(path: str, rounds: int, seconds: float) -> None:
    """The other process, from its start to its end."""
    parent = multiprocessing.parent_process()
    pin(1)
    shared = SharedMemory.open(path)
    assert FENCES is not None
    side = Side(shared, 1, FENCES.full, lambda: parent is None or parent.is_alive(), seconds)
    with suppress(Lost):  # the first process says so
        run_side(side, rounds)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run both processes; Lost when they do not come to an end."""
    assert FENCES is not None
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cells")
        shared = SharedMemory.create(6 * AREA, path)
        partner: BaseProcess = multiprocessing.get_context("spawn").Process(
            target=run_partner, args=(path, rounds, seconds), daemon=True
        )
        partner.start()
        before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        cpu = pin(0)
        side = Side(shared, 0, FENCES.full, partner.is_alive, seconds)
        start = time.monotonic()
        try:
            found = run_side(side, rounds)
        finally:
            partner.terminate()
            partner.join()
            if before is not None:
                os.sched_setaffinity(0, before)
        took = time.monotonic() - start
    return {
        "rounds": rounds,
        "reordered_without_fence": found["without"],
        "reordered_with_fence": found["with"],
        "fence": FENCES.means,
        "pinned": cpu is not None,
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
        "seconds": round(took, 2),
    }


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1_000_000, help="rounds of each kind (%(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="give up after so long (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds is at least 1, not {chosen.rounds}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    chosen = parse_arguments(arguments)
    if FENCES is None:
        print("litmus: vmbus.memory knows no fence for this machine", file=sys.stderr)
        return 2
    try:
        result = measure(chosen.rounds, chosen.seconds)
    except Lost as lost:
        print(f"litmus: nothing counted: {lost}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(result))
    else:
        print(f"fence: {result['fence']}")
        print(f"{result['rounds']:>12,} rounds, in {result['seconds']} seconds")
        print(f"{result['reordered_without_fence']:>12,} reordered without the fence")
        print(f"{result['reordered_with_fence']:>12,} reordered with the fence")
    return 1 if result["reordered_with_fence"] else 0


if __name__ == "__main__":
    sys.exit(main())
