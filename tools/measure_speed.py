"""How quick the rings are, each row beside something that people would use instead.

Both sides of a row take turns in the same run, seven times each.  Each two turns that follow each
other give a ratio, so that a machine that is busy for a while slows both, and the median of the seven
ratios counts; the times beside it are medians too.  Every payload that arrives is compared with the
one that was sent.  Only names of the public front doors are used.  Rings have 256 KiB of data.

In rows 1 to 11 and 15 to 17 a ratio of 2 means twice as fast as the other side, so more is better; in rows 12 and
13 it is our time divided by theirs, so less is better.  Row 14 is no contest but the memory that a process has.

Nothing fails on a slow machine: the exit status is 0 whatever the ratios are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from image_work import find_messages, find_pages, mixed_image, peak_of_scan, read_image, sparse_image
from queue_work import Wrong, construct_requests, messages_of, queue_requests
from two_processes import (
    channel_round_trips,
    channel_stream,
    pin_this,
    pipe_stream,
    socket_round_trips,
    socket_stream,
    unix_stream,
    vsock_stream,
)

from vmbus import (
    PAGE_SIZE,
    FlatRingMem,
    PacketType,
    PagedRingMem,
    RingMem,
    VirtioFeatures,
    connected_rings,
)
from vmbus.inspection import walk
from vmbus.layout import PACKET_DESCRIPTOR_SCHEMA

RING_SIZE = 256 * 1024
REPETITIONS = 7
BATCH = 32

#: How often a side does its work in one repetition: so often that it takes tens of milliseconds.
ROUNDS = {
    "requests": 2000,
    "streamed": 20000,
    "built": 200,
    "small": 200,
    "large": 50,
    "walks": 3,
    "images": 1,
    "processes": 3,
    "streams": 300,
    "trips": 30,
}

#: Megabytes of the image of rows 10 and 11: more than processors keep in their caches.
IMAGE_SIZE = 64

#: Seconds that a side of row 8 looks before it sleeps: far longer than an answer takes.
SPIN = 0.001


class Figure(NamedTuple):
    """What a row is to reach: "at least", or "at most" where less is better, and the aim."""

    limit: float
    aim: float
    less_is_better: bool = False


class Contest(NamedTuple):
    """Two sides that do the same work; each call does it once and returns how many units it was."""

    row: int
    work: str
    against: str
    figure: Figure
    unit: str
    ours: Callable[[], int]
    theirs: Callable[[], int] | None


class Result(NamedTuple):
    """Seconds for a unit in each turn of either side; none where the other is not here."""

    contest: Contest
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float | None:
        ratios = [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=False)]
        if not ratios:
            return None
        return 1 / median(ratios) if self.contest.figure.less_is_better else median(ratios)

    @property
    def our_time(self) -> float:
        """Microseconds."""
        return median(self.ours) * 1e6

    @property
    def their_time(self) -> float | None:
        return median(self.theirs) * 1e6 if self.theirs else None

    def to_json(self) -> dict[str, Any]:
        contest, ratio, their_time = self.contest, self.ratio, self.their_time
        return {
            "row": contest.row,
            "work": contest.work,
            "against": contest.against,
            "ratio": None if ratio is None else round(ratio, 3),
            "at_least": contest.figure.limit,
            "aim": contest.figure.aim,
            "less_is_better": contest.figure.less_is_better,
            "unit": contest.unit,
            "ours_us": round(self.our_time, 3),
            "theirs_us": None if their_time is None else round(their_time, 3),
        }


class Footprint(NamedTuple):
    """Memory that a process has at most, in MiB, of which only so much is allowed."""

    row: int
    work: str
    figure: Figure
    peak: Callable[[], float]


class FootprintResult(NamedTuple):
    footprint: Footprint
    peak: float

    def to_json(self) -> dict[str, Any]:
        footprint = self.footprint
        return {
            "row": footprint.row,
            "work": footprint.work,
            "against": "a limit",
            "ratio": None,
            "at_least": footprint.figure.limit,
            "aim": footprint.figure.aim,
            "less_is_better": footprint.figure.less_is_better,
            "unit": "MiB",
            "peak_mib": round(self.peak, 1),
        }


# -- the sides -------------------------------------------------------------------------------


def payloads_of(size: int, count: int = BATCH) -> list[bytes]:
    """Payloads of which no two are alike."""
    return [bytes((number * 7 + place) % 256 for place in range(size)) for number in range(count)]


def flat_memory() -> RingMem:
    return FlatRingMem(RING_SIZE)


def paged_memory() -> RingMem:
    """The same ring in pages that do not follow each other."""
    block = memoryview(bytearray(RING_SIZE + PAGE_SIZE))
    pages = [block[start : start + PAGE_SIZE] for start in range(0, len(block), PAGE_SIZE)]
    return PagedRingMem([*pages[::2], *pages[1::2]])


def ring_messages(memory: RingMem, size: int, rounds: int) -> Callable[[], int]:
    """One packet at a time through a ring."""
    sender, receiver = connected_rings(memory=memory)
    send, receive = sender.send, receiver.receive
    payloads = payloads_of(size)

    def run() -> int:
        for _ in range(rounds):
            for payload in payloads:
                send(payload)
                if receive()[0].payload != payload:
                    raise Wrong
        return rounds * BATCH

    return run


def ring_batches(memory: RingMem, size: int, rounds: int) -> Callable[[], int]:
    """As many packets as there are, at once."""
    sender, receiver = connected_rings(memory=memory)
    send_many, receive_many = sender.send_many, receiver.receive_many
    payloads = payloads_of(size)

    def run() -> int:
        for _ in range(rounds):
            send_many(payloads)
            if [packet.payload for packet in receive_many()[0]] != payloads:
                raise Wrong
        return rounds * BATCH

    return run


def pipe_ends(cleanup: ExitStack) -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
    """How to send into a duplex pipe, and how to receive from it."""
    one, other = multiprocessing.Pipe()
    cleanup.callback(one.close)
    cleanup.callback(other.close)
    return one.send_bytes, other.recv_bytes


def pipe_messages(cleanup: ExitStack, size: int, rounds: int) -> Callable[[], int]:
    send, receive = pipe_ends(cleanup)
    payloads = payloads_of(size)

    def run() -> int:
        for _ in range(rounds):
            for payload in payloads:
                send(payload)
                if receive() != payload:
                    raise Wrong
        return rounds * BATCH

    return run


def pipe_batches(cleanup: ExitStack, size: int, rounds: int) -> Callable[[], int]:
    send, receive = pipe_ends(cleanup)
    payloads = payloads_of(size)

    def run() -> int:
        for _ in range(rounds):
            for payload in payloads:
                send(payload)
            if [receive() for _ in payloads] != payloads:
                raise Wrong
        return rounds * BATCH

    return run


def pipe_requests(cleanup: ExitStack, size: int, rounds: int) -> Callable[[], int]:
    """A request one way and its response back."""
    one, other = multiprocessing.Pipe()
    cleanup.callback(one.close)
    cleanup.callback(other.close)
    request, response = messages_of(size)

    def run() -> int:
        for _ in range(rounds):
            one.send_bytes(request)
            if other.recv_bytes() != request:
                raise Wrong
            other.send_bytes(response)
            if one.recv_bytes() != response:
                raise Wrong
        return rounds

    return run


def socket_batches(cleanup: ExitStack, size: int, rounds: int) -> Callable[[], int] | None:
    """None where the system has no such sockets.

    A receiver does not know how long the next message is.  recv() makes an object of the size it is
    asked for and then cuts it, so asking for far too much would slow the sockets down unfairly: four
    times the payload leaves room, and is still a small object that Python makes quickly.
    """
    try:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError):
        return None
    cleanup.callback(one.close)
    cleanup.callback(other.close)
    send, receive = one.send, other.recv
    room = 4 * size
    payloads = payloads_of(size)

    def run() -> int:
        for _ in range(rounds):
            for payload in payloads:
                send(payload)
            if [receive(room) for _ in payloads] != payloads:
                raise Wrong
        return rounds * BATCH

    return run


class Dump(NamedTuple):
    """A ring image, and where which packets wait in it, each by the values of its descriptor."""

    image: bytes
    end: int
    packets: list[tuple[int, tuple[int, ...]]]


def dump_of_packets() -> Dump:
    """A ring that is nearly full of packets of many sizes."""
    image = bytearray(PAGE_SIZE + RING_SIZE)
    memory = FlatRingMem.over(image)
    sender, _ = connected_rings(memory=memory)
    packets: list[tuple[int, tuple[int, ...]]] = []
    end = 0
    while end < RING_SIZE - PAGE_SIZE:
        number = len(packets)
        payload = bytes(8 + number * 56 % 400)
        sender.send(payload, transaction_id=number)
        packets.append((end, (PacketType.IN_BAND, 2, 2 + len(payload) // 8, 0, number)))
        end = memory.control[0]
    return Dump(bytes(image), end, packets)


def walking(dump: Dump, rounds: int) -> Callable[[], int]:
    memory = FlatRingMem.over(dump.image)

    def run() -> int:
        for _ in range(rounds):
            walked = list(walk(memory, 0, dump.end))
            if [(one.offset, one.descriptor) for one in walked] != dump.packets:
                raise Wrong
        return rounds * len(dump.packets)

    return run


def parsing(dump: Dump, rounds: int) -> Callable[[], int]:
    """Construct, told where each descriptor is."""
    parse = PACKET_DESCRIPTOR_SCHEMA.parse
    places = [PAGE_SIZE + offset for offset, _ in dump.packets]
    transactions = [descriptor[-1] for _, descriptor in dump.packets]

    def run() -> int:
        for _ in range(rounds):
            parsed = [parse(dump.image[place : place + 16]) for place in places]
            if [one.transaction_id for one in parsed] != transactions:
                raise Wrong
        return rounds * len(places)

    return run


def compiled(cleanup: ExitStack) -> dict[str, str]:
    """An environment in which all modules are compiled once, as those of an installed package are."""
    folder = cleanup.enter_context(tempfile.TemporaryDirectory())
    places = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def process(
    arguments: list[str], expected: str, environment: dict[str, str], rounds: int
) -> Callable[[], int]:
    """Python, from its start to its end; `expected` must be in what it prints."""

    def run() -> int:
        for _ in range(rounds):
            done = subprocess.run(
                [sys.executable, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=True,
            )
            if expected not in done.stdout.decode():
                raise Wrong
        return rounds

    return run


def temporary_folder(cleanup: ExitStack) -> Path:
    return Path(cleanup.enter_context(tempfile.TemporaryDirectory()))


def ring_image(cleanup: ExitStack) -> str:
    """The path of a file of 20 KiB that holds a ring with three packets."""
    image = bytearray(PAGE_SIZE + 16384)
    sender, _ = connected_rings(memory=FlatRingMem.over(image))
    sender.send_many(payloads_of(64, 3))
    path = temporary_folder(cleanup) / "ring.bin"
    path.write_bytes(image)
    return str(path)


# -- the rows --------------------------------------------------------------------------------

SMALL_WORK = "send + receive, 64 B"
BATCH_WORK = f"send_many + receive_many, {BATCH} x 64 B"
LARGE_WORK = "send + receive, 16 KiB"
REQUEST_WORK = "request and response, 64 B"
VSOCK_WORK = "vsock stream, 4 KiB a call"
PIPE = "multiprocessing.Pipe"
STREAM = "a Unix stream socket"
CONSTRUCT = "the same, construct building, parsing"
READING = "readinto of 1 MiB, all of it"
SEQPACKET = "SEQPACKET socket pair"
SEQPACKET_PINNED = "the same pair; both on two CPUs"
FLAT = "the same over FlatRingMem"


def row_1(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often = rounds["small"]
    ours, theirs = ring_messages(flat_memory(), 64, often), pipe_messages(cleanup, 64, often)
    yield Contest(1, SMALL_WORK, PIPE, Figure(1.3, 2), "message", ours, theirs)


def row_2(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often = rounds["small"]
    for against, figure, peer in (
        (PIPE, Figure(2.5, 4), pipe_batches),
        (SEQPACKET, Figure(1, 1.8), socket_batches),
    ):
        ours = ring_batches(flat_memory(), 64, often)
        yield Contest(2, BATCH_WORK, against, figure, "message", ours, peer(cleanup, 64, often))


def row_3(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often = rounds["large"]
    ours, theirs = ring_messages(flat_memory(), 16384, often), pipe_messages(cleanup, 16384, often)
    yield Contest(3, LARGE_WORK, PIPE, Figure(1.3, 2), "message", ours, theirs)


def row_4(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    for work, run, size, often in (
        (SMALL_WORK, ring_messages, 64, rounds["small"]),
        (BATCH_WORK, ring_batches, 64, rounds["small"]),
        (LARGE_WORK, ring_messages, 16384, rounds["large"]),
    ):
        ours, theirs = run(paged_memory(), size, often), run(flat_memory(), size, often)
        yield Contest(4, f"{work}, over PagedRingMem", FLAT, Figure(0.5, 0.8), "message", ours, theirs)


def row_5(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    yield from streams_of_batches(cleanup, rounds, 5, 64, {SEQPACKET: Figure(1.4, 2.5), PIPE: Figure(2.7, 5)})


def row_6(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    figures = {SEQPACKET: Figure(1, 1.5), PIPE: Figure(2.2, 3)}
    yield from streams_of_batches(cleanup, rounds, 6, 1024, figures)


def streams_of_batches(
    cleanup: ExitStack, rounds: dict[str, int], row: int, size: int, figures: dict[str, Figure]
) -> Iterator[Contest]:
    often, payloads = rounds["streams"], payloads_of(size)
    for against, peer in ((SEQPACKET, socket_stream), (PIPE, pipe_stream)):
        ours = channel_stream(cleanup, RING_SIZE, payloads, often, batches=True)
        theirs = peer(cleanup, payloads, often)
        work = f"two processes, batches of {BATCH} x {size} B"
        yield Contest(row, work, against, figures[against], "message", ours, theirs)


def row_7(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often, payloads = rounds["streams"], payloads_of(64)
    ours = channel_stream(cleanup, RING_SIZE, payloads, often, batches=False)
    theirs = pipe_stream(cleanup, payloads, often)
    yield Contest(7, "two processes, one send a message, 64 B", PIPE, Figure(1.2, 2), "message", ours, theirs)


def row_8(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often, payloads = rounds["trips"], payloads_of(64)
    other = pin_this(cleanup)
    for work, spin, figure in (("asleep", 0.0, Figure(0.45, 0.7)), ("spinning", SPIN, Figure(1.2, 2))):
        ours = channel_round_trips(cleanup, RING_SIZE, payloads, often, processor=other, spin=spin)
        theirs = socket_round_trips(cleanup, payloads, often, processor=other)
        yield Contest(8, f"round trip, 64 B, {work}", SEQPACKET_PINNED, figure, "round trip", ours, theirs)


def row_9(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    dump = dump_of_packets()
    ours, theirs = walking(dump, rounds["walks"]), parsing(dump, rounds["walks"])
    work, against = "walking the packets of a dump", "construct, their descriptors alone"
    yield Contest(9, work, against, Figure(5, 8), "packet", ours, theirs)


def row_10(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    image = mixed_image(temporary_folder(cleanup), IMAGE_SIZE)
    ours, theirs = find_pages(image, rounds["images"]), read_image(image, rounds["images"])
    yield Contest(10, "finding control pages in an image", READING, Figure(0.4, 0.9), "MiB", ours, theirs)


def row_11(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    image = mixed_image(temporary_folder(cleanup), IMAGE_SIZE)
    ours, theirs = find_messages(image, rounds["images"]), read_image(image, rounds["images"])
    work = "the same, and messages at any 8-byte place"
    yield Contest(11, work, READING, Figure(0.08, 0.2), "MiB", ours, theirs)


def row_12(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often, environment = rounds["processes"], compiled(cleanup)
    ours = process(["-m", "vmbus", "--help"], "usage", environment, often)
    theirs = process(["-c", "import argparse"], "", environment, often)
    figure = Figure(2, 1.5, less_is_better=True)
    yield Contest(12, "vmbus --help", 'python -c "import argparse"', figure, "process", ours, theirs)


def row_13(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    often, environment = rounds["processes"], compiled(cleanup)
    ours = process(["-m", "vmbus", "inspect", ring_image(cleanup)], "3 packets", environment, often)
    theirs = process(["-c", "import argparse, construct"], "", environment, often)
    work, against = "vmbus inspect of 20 KiB", 'python -c "import argparse, construct"'
    yield Contest(13, work, against, Figure(1.6, 1.2, less_is_better=True), "process", ours, theirs)


def row_14(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Footprint]:
    path, environment = sparse_image(temporary_folder(cleanup)), compiled(cleanup)
    figure = Figure(100, 100, less_is_better=True)
    yield Footprint(14, "vmbus scan of 8 GiB, sparse", figure, lambda: peak_of_scan(path, environment))


def row_15(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    for work, features in (("split", 0), ("packed", VirtioFeatures.RING_PACKED)):
        ours = queue_requests(64, features, rounds["requests"])
        theirs = pipe_requests(cleanup, 64, rounds["requests"])
        yield Contest(15, f"{work} virtqueue, {REQUEST_WORK}", PIPE, Figure(1, 1.5), "request", ours, theirs)


def row_16(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    ours = queue_requests(64, 0, rounds["requests"])
    theirs = construct_requests(64, rounds["built"])
    yield Contest(16, f"split virtqueue, {REQUEST_WORK}", CONSTRUCT, Figure(12, 16), "request", ours, theirs)


def row_17(cleanup: ExitStack, rounds: dict[str, int]) -> Iterator[Contest]:
    (payload,) = payloads_of(4096)[:1]
    for work, from_guest in (("guest to host", True), ("host to guest", False)):
        ours = vsock_stream(
            cleanup, payload, rounds["streamed"], from_guest=from_guest, buffer_size=RING_SIZE
        )
        theirs = unix_stream(cleanup, payload, rounds["streamed"])
        yield Contest(17, f"{VSOCK_WORK}, {work}", STREAM, Figure(0.3, 0.5), "packet", ours, theirs)


ROWS: dict[int, Callable[[ExitStack, dict[str, int]], Iterator[Contest | Footprint]]] = {
    1: row_1,
    2: row_2,
    3: row_3,
    4: row_4,
    5: row_5,
    6: row_6,
    7: row_7,
    8: row_8,
    9: row_9,
    10: row_10,
    11: row_11,
    12: row_12,
    13: row_13,
    14: row_14,
    15: row_15,
    16: row_16,
    17: row_17,
}


# -- measuring -------------------------------------------------------------------------------


def seconds_per_unit(side: Callable[[], int]) -> float:
    start = perf_counter()
    units = side()
    return (perf_counter() - start) / units


def compete(contest: Contest | Footprint, repetitions: int) -> Result | FootprintResult:
    """Let both sides take turns; a footprint is the same every time."""
    if isinstance(contest, Footprint):
        return FootprintResult(contest, contest.peak())
    result = Result(contest, [], [])
    sides = [(contest.ours, result.ours)]
    if contest.theirs is not None:
        sides.append((contest.theirs, result.theirs))
    for side, _ in sides:
        side()  # the first time is for caches and for what is prepared once
    for _ in range(repetitions):
        for side, times in sides:
            times.append(seconds_per_unit(side))
    return result


def measure(rows: list[int], rounds: dict[str, int], repetitions: int) -> list[Result | FootprintResult]:
    results = []
    for row in rows:
        with ExitStack() as cleanup:
            results += [compete(contest, repetitions) for contest in ROWS[row](cleanup, rounds)]
    return results


# -- showing ---------------------------------------------------------------------------------


def heading(repetitions: int) -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
        f"{platform.system()}, {os.cpu_count()} CPUs; rings of {RING_SIZE // 1024} KiB; "
        f"medians of {repetitions}, both sides in turns\n"
        "times as fast as the other; rows 12 and 13: our time by theirs, less is better; row 14: MiB"
    )


def cells(result: Result | FootprintResult) -> list[str]:
    """One line of the table."""
    if isinstance(result, FootprintResult):
        footprint = result.footprint
        limits = [f"<= {footprint.figure.limit:g}", f"{footprint.figure.aim:g}"]
        return [
            str(footprint.row),
            footprint.work,
            "a limit",
            "-",
            *limits,
            f"{result.peak:.2f}",
            "-",
            "MiB at most",
        ]
    contest, figure = result.contest, result.contest.figure
    return [
        str(contest.row),
        contest.work,
        contest.against,
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        f"{'<=' if figure.less_is_better else '>='} {figure.limit:g}",
        f"{figure.aim:g}",
        f"{result.our_time:.2f}",
        "not here" if result.their_time is None else f"{result.their_time:.2f}",
        f"us a {contest.unit}",
    ]


def table(results: list[Result | FootprintResult]) -> Iterator[str]:
    """The results as lines: words to the left, numbers to the right."""
    heads = ["ROW", "WORK", "AGAINST", "RATIO", "LIMIT", "AIM", "OURS", "THEIRS", ""]
    lines = [heads, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            text.ljust(width) if head in ("WORK", "AGAINST", "") else text.rjust(width)
            for head, text, width in zip(heads, line, widths, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def row_list(text: str) -> list[int]:
    """The rows of `1,2,13`, in their order."""
    try:
        chosen = {int(number) for number in text.split(",")}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None
    if unknown := chosen - ROWS.keys():
        raise argparse.ArgumentTypeError(f"no row {sorted(unknown)}; there are {', '.join(map(str, ROWS))}")
    return sorted(chosen)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=row_list, default=list(ROWS), help="only these, as in 1,2,13")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--quick", action="store_true", help="every side once: a trial, no measurement")
    chosen = parser.parse_args(arguments)
    rounds, repetitions = ROUNDS, REPETITIONS
    if chosen.quick:
        rounds, repetitions = dict.fromkeys(ROUNDS, 1), 1
    results = measure(chosen.rows, rounds, repetitions)
    if chosen.json:
        print(json.dumps([result.to_json() for result in results], indent=2))
    else:
        print(heading(repetitions))
        for line in table(results):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
