"""Send bytes both ways over vsock between two processes, and check every one of them, and every packet.

Two processes share a device (SharedVsock): the host's echoes, on several connections at once, what the
guest's sends in chunks of random sizes.  Checked are

    bytes     the echo is what was sent, by its checksum, and its length
    packets   in both processes, from the headers alone: nobody sends more than it was told there is room
              for, counts only grow, lengths are true, nothing follows an end

The exit status is 0 when all is well, 1 when anything is not or nothing moves, and 2 when nothing could be
run.

With --kill one of the processes is killed at a random moment, over and over: the other one must notice
within a tenth of a second, and have read what came before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import struct
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vmbus.errors import PeerClosed, VmbusError
from vmbus.sockets import SharedVsock, VsockLink, VsockStream
from vmbus.virtio import VirtioFeatures

#: What is checked here is spelled out here: src_cid, dst_cid, src_port, dst_port, length, type, operation,
#: flags, buf_alloc, fwd_cnt.
HEADER = struct.Struct("<QQIIIHHIII")
RST, SHUTDOWN, RW = 3, 4, 5
SHUT_SEND = 2
WRAP = 1 << 32

PORT = 7000

#: Seconds within which something must move.
PATIENCE = 30

#: Seconds within which a killed process must be noticed.
NOTICED = 0.1

FORMATS = {
    "split": VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX,
    "packed": VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX | VirtioFeatures.RING_PACKED,
}


class WrongPacket(AssertionError):
    """A packet breaks a rule."""


class OneWay:
    """What is known of one direction of one flow, from headers.

    sent      bytes of payload so far
    allowed   the highest `sent` that the receiver has told there is room for
    told      the receiver's fwd_cnt as it was last told, not wrapped
    """

    def __init__(self) -> None:
        self.sent = 0
        self.allowed = 0
        self.told = 0
        self.room = 0
        self.has_ended = False


class PacketChecker:
    """Checks every packet that one side sends or receives.

    cid   of this side

    Of what this side sends, it was told all that it may go by: the limit is what was told last.  Of what
    it receives, something may still be under way: the limit is the highest that it has told.
    """

    def __init__(self, cid: int) -> None:
        self.cid = cid
        self.ways: dict[tuple[int, int, int, int], OneWay] = {}
        self.packets = 0
        self.closest = WRAP  # the least room that was ever left behind a payload

    def watch(self, carrier: Any) -> None:
        """Check what passes through a carrier from now on."""
        send, receive = carrier.send, carrier.receive

        def checked_send(header: bytes, payload: Any = b"") -> None:
            self.check(HEADER.unpack(header), len(payload), own=True)
            send(header, payload)

        def checked_receive() -> Any:
            arrival = receive()
            if arrival is not None:
                self.check(tuple(arrival[0]), len(arrival[1]), own=False)
            return arrival

        carrier.send, carrier.receive = checked_send, checked_receive

    def check(self, header: tuple[int, ...], payload: int, *, own: bool) -> None:
        source, target, from_port, to_port, length, _, operation, flags, buf_alloc, fwd_cnt = header
        self.packets += 1
        self.need((source == self.cid) is own and (target == self.cid) is not own, "wrong address", header)
        forth = self.ways.setdefault((source, from_port, target, to_port), OneWay())
        back = self.ways.setdefault((target, to_port, source, from_port), OneWay())
        if operation == RST:
            for key in ((source, from_port, target, to_port), (target, to_port, source, from_port)):
                self.ways.pop(key, None)
            return
        # What the sender of this packet tells of the way back to it.
        moved = (fwd_cnt - back.told) % WRAP
        self.need(back.told + moved <= back.sent, "fwd_cnt of what was never sent, or backwards", header)
        back.told += moved
        back.room = back.told + buf_alloc
        back.allowed = max(back.allowed, back.room)
        if operation == RW:
            self.need(payload == length, "length of another payload", header)
            self.need(0 < length <= 65536, "length", header)
            self.need(not forth.has_ended, "payload behind the end", header)
            forth.sent += length
            limit = forth.room if own else forth.allowed
            self.need(forth.sent <= limit, f"{forth.sent - limit} bytes more than there is credit", header)
            self.closest = min(self.closest, limit - forth.sent)
        elif operation == SHUTDOWN and flags & SHUT_SEND:
            forth.has_ended = True

    def need(self, holds: bool, what: str, header: tuple[int, ...]) -> None:
        if not holds:
            raise WrongPacket(f"CID {self.cid}: {what}: {header}")


class Task(NamedTuple):
    """What one run is to do.

    size          bytes each way, on all connections together
    connections   at the same time
    """

    size: int
    connections: int
    seed: int
    queue_format: str
    queue_size: int
    buffer_size: int


def watched(end: SharedVsock) -> tuple[VsockLink, PacketChecker]:
    """A link, and who checks its packets."""
    link = end.attach()
    checker = PacketChecker(link.endpoint.cid)
    checker.watch(link.endpoint.carrier)
    return link, checker


def counts(link: VsockLink, checker: PacketChecker) -> dict[str, int]:
    """What a side has checked; raises when a packet went past the checker."""
    statistics = link.endpoint.carrier.statistics()
    if statistics.sent + statistics.received != checker.packets:
        raise WrongPacket(f"{checker.packets} packets were checked, of {statistics}")
    return {"packets": checker.packets, "closest": checker.closest}


# -- the host: echo ----------------------------------------------------------------------------


def echo(stream: VsockStream, draw: random.Random) -> None:
    while data := stream.receive(draw.randrange(1, 70_000), PATIENCE):
        stream.send(data, PATIENCE)
    stream.send_end()


def serve(end: SharedVsock, task: Task, tell: Connection) -> None:
    """The host's process."""
    with end:
        link, checker = watched(end)
    listener = link.listen(PORT)
    tell.send("ready")
    threads = []
    for number in range(task.connections):
        stream = listener.accept(PATIENCE)
        draw = random.Random(f"{task.seed} echo {number}")
        threads.append(threading.Thread(target=echo, args=(stream, draw), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    tell.send(counts(link, checker))
    link.close()


# -- the guest: send, and compare --------------------------------------------------------------


class Asking:
    """One connection of the guest: sends its share, and counts what comes back."""

    def __init__(self, stream: VsockStream, size: int, draw: random.Random) -> None:
        self.stream = stream
        self.size = size
        self.draw = draw
        self.pool = draw.randbytes(1 << 20)
        self.sent = self.received = self.sent_sum = self.received_sum = 0
        self.error: BaseException | None = None
        self.threads = [
            threading.Thread(target=self.guard, args=(one,), daemon=True) for one in (self.send, self.receive)
        ]

    def guard(self, action: Any) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - told where the threads are joined
            self.error = error

    def send(self) -> None:
        pool = memoryview(self.pool)
        while self.sent < self.size:
            length = min(int(2 ** self.draw.uniform(0, 18)), self.size - self.sent)
            start = self.draw.randrange(len(pool) - length)
            data = pool[start : start + length]
            self.stream.send(data, PATIENCE)
            self.sent += length
            self.sent_sum = crc32(data, self.sent_sum)
        self.stream.send_end()

    def receive(self) -> None:
        while data := self.stream.receive(65536, PATIENCE):
            self.received += len(data)
            self.received_sum = crc32(data, self.received_sum)

    def finish(self) -> None:
        for thread in self.threads:
            thread.join()
        if self.error is not None:
            raise self.error
        if (self.sent, self.sent_sum) != (self.received, self.received_sum):
            raise WrongPacket(f"{self.sent} bytes were sent, and {self.received} came back, or others")


def ask(end: SharedVsock, task: Task) -> dict[str, int]:
    """The guest's side, in this process."""
    with end:
        link, checker = watched(end)
    with link:
        share = task.size // task.connections
        askers = [
            Asking(link.connect(PORT, timeout=PATIENCE), share, random.Random(f"{task.seed} ask {number}"))
            for number in range(task.connections)
        ]
        for asker in askers:
            for thread in asker.threads:
                thread.start()
        for asker in askers:
            asker.finish()
        return {**counts(link, checker), "bytes": sum(asker.received for asker in askers)}


def run(task: Task) -> dict[str, Any]:
    """One run: what was checked.  Raises when anything is wrong."""
    guest, host = SharedVsock.create(
        queue_size=task.queue_size, buffer_size=task.buffer_size, features=FORMATS[task.queue_format]
    )
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(host, task, there), daemon=True)
    process.start()
    host.close()
    there.close()
    start = time.monotonic()
    try:
        here.recv()
        near = ask(guest, task)
        far = here.recv() if here.poll(PATIENCE) else None
    except EOFError:
        far = None
    finally:
        process.join(PATIENCE if sys.exc_info()[0] is None else 0)
        process.kill()
        process.join()
    if far is None or process.exitcode:
        raise WrongPacket(f"the host's process ended with status {process.exitcode}")
    return {
        "format": task.queue_format,
        "bytes": near["bytes"],
        "seconds": round(time.monotonic() - start, 3),
        "packets": near["packets"],
        "closest": min(near["closest"], far["closest"]),
    }


# -- kills -----------------------------------------------------------------------------------


def chatter(end: SharedVsock, seed: str) -> None:
    """The process that is killed: sends, and receives, without end."""
    with end:
        link = end.attach()
    stream = link.connect(PORT, timeout=PATIENCE)
    draw = random.Random(seed)
    pool = draw.randbytes(1 << 18)
    threading.Thread(target=link.serve, daemon=True).start()
    number = 0
    while True:
        length = draw.randrange(1, 30_000)
        number += length
        stream.send(pool[:length], PATIENCE)


def kill_once(seed: str, queue_format: str) -> float:
    """Kill the other side at a random moment: the seconds until it was noticed."""
    draw = random.Random(seed)
    guest, host = SharedVsock.create(queue_size=16, features=FORMATS[queue_format])
    process = multiprocessing.get_context("fork").Process(target=chatter, args=(guest, seed), daemon=True)
    with guest, host, host.attach() as link:
        listener = link.listen(PORT)
        process.start()
        try:
            stream = listener.accept(PATIENCE)
            killed: list[float] = []

            def kill() -> None:
                killed.append(time.monotonic())
                os.kill(process.pid or 0, signal.SIGKILL)

            timer = threading.Timer(draw.uniform(0, 0.05), kill)
            timer.start()
            try:
                while stream.receive(timeout=PATIENCE):
                    pass
                raise WrongPacket("a killed process has ended its stream")
            except PeerClosed:
                return time.monotonic() - killed[0]
        finally:
            process.kill()
            process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Send bytes over vsock between two processes, and check all."
    )
    parser.add_argument("--megabytes", type=float, default=100, help="each way, in all (default 100)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--format", choices=[*FORMATS, "both"], default="both")
    parser.add_argument("--queue-size", type=int, default=128)
    parser.add_argument("--buffer-size", type=int, default=100_000)
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="kill N processes as well")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    formats = list(FORMATS) if options.format == "both" else [options.format]
    size = int(options.megabytes * 10**6) // len(formats)
    if size < 1 or options.connections < 1 or options.kill < 0:
        parser.error("there is nothing to send")
    results: dict[str, Any] = {"runs": [], "kills": 0, "slowest": 0.0, "failure": None}
    try:
        for one in formats:
            task = Task(size, options.connections, options.seed, one, options.queue_size, options.buffer_size)
            results["runs"].append(run(task))
        for number in range(options.kill):
            took = kill_once(f"{options.seed} kill {number}", formats[number % len(formats)])
            results["kills"] += 1
            results["slowest"] = max(results["slowest"], round(took, 4))
            if took > NOTICED:
                raise WrongPacket(f"a killed process was noticed after {took:.3f} seconds")
    except (WrongPacket, VmbusError) as error:
        results["failure"] = str(error)
    if options.json:
        print(json.dumps(results))
    else:
        show(results)
    if results["failure"]:
        print(f"soak_vsock: {results['failure']}", file=sys.stderr)
    return 1 if results["failure"] else 0


def show(results: dict[str, Any]) -> None:
    for one in results["runs"]:
        rate = 2 * one["bytes"] / 1e6 / one["seconds"]
        print(f"{one['format']:<8}{one['bytes']:>12} bytes each way{one['seconds']:>9} s{rate:>8.1f} MB/s")
        print(f"{'':<8}{one['packets']:>12} packets checked on each side, least room left {one['closest']}")
    if results["kills"]:
        print(f"{'kills':<8}{results['kills']:>12} noticed within {results['slowest'] * 1000:.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
