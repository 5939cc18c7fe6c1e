"""Send packets between two processes for a while, and account for every one of them.

Both processes send and receive at once, over a SharedChannel with small rings, packets of every size
up to the largest, with pauses at random on either side, so that each row of the two readiness tables
is gone through.  Each packet has a number and a checksum; whoever receives it counts

    lost         a number is left out
    duplicated   a number comes again
    torn         the checksum, the length or the transaction id is not that of the packet sent

and the exit status is 0 when all three are zero, 1 when one is not or a process fails or hangs, and
2 when nothing could be run.

With --kill a process is killed at random moments, and another one attached in its place.  A reader
notes each number in a journal before it gives the packet's space back; the packet that it was killed
over is met again by the next one, and counted as redelivered.  A writer notes each number, and where
in the ring it will be, before it commits; the next one sees from the ring whether it came to that.

--plant does wrong on purpose, with one packet each way, to show that it would be seen.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vmbus.channel import RECEIVER_TABLE, SENDER_TABLE, Action, PacketChannel, SharedChannel, Signal
from vmbus.errors import ChannelClosed, PeerClosed, TimedOut
from vmbus.layout import IN_WORD
from vmbus.memory import SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing, Packet, PacketSize

RING_SIZE = 32 * 1024

#: number, length, checksum of the rest and of these two
HEADER = struct.Struct("<QII")

#: The number of the packet that --plant spoils.
PLANTED = 20
PLANTS = ("lose", "duplicate", "tear")

#: Seconds that the two processes get for what is still on its way at the end.
PATIENCE = 30

#: Seconds between two kills: from, to.
KILL_EVERY = (0.02, 0.12)

#: With --kill: how often a process hesitates where being killed is worst, and for how many seconds.
HESITATION = 0.02
LONGEST_HESITATION = 0.004

#: Packets between two looks at the channel's own counts.
STATISTICS_EVERY = 50

#: More than any index: in a journal where nothing was written yet.
NO_INDEX = 2**32

#: The rows that channels count: all but the tries that succeed at once.
ROWS = [
    (who, row)
    for who, table in (("receiver", RECEIVER_TABLE), ("sender", SENDER_TABLE))
    for row in table.values()
    if row.action is not Action.RETURN
]
SIDES = ("near", "far")


class Words:
    """A stretch of the journal: 64-bit numbers that outlive the process that wrote them."""

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def __getitem__(self, place: int) -> int:
        return int(self.words[place])

    def add(self, place: int, count: int = 1) -> None:
        self.words[place] += count


class WayPlace(IntEnum):
    """Where in the journal of a way what stands."""

    CURRENT = 0  # which of the two notes counts
    FIRST_NOTE = 1  # number and index; the second note follows
    DONE = 5  # the writer has sent all that it will
    LAST = 6  # the number of its last packet
    READ = 7  # the highest number that the reader has met
    BYTES = 8
    REDELIVERED = 9
    LOST = 10
    DUPLICATED = 11
    TORN = 12


class WayJournal(Words):
    """What is known of the packets of one way.

    The writer's note is a number and an index.  It has two places for it and says last which of them
    counts: a writer that is killed over its note has not noted anything.
    """

    SIZE = 16

    def start(self) -> None:
        self.words[WayPlace.FIRST_NOTE + 1] = NO_INDEX

    def note_write(self, number: int, index: int) -> None:
        other = 1 - self[WayPlace.CURRENT]
        place = WayPlace.FIRST_NOTE + 2 * other
        self.words[place] = number
        self.words[place + 1] = index
        self.words[WayPlace.CURRENT] = other

    def written(self, index: int) -> int:
        """The number of the last packet that was committed; `index` is what the ring says now."""
        place = WayPlace.FIRST_NOTE + 2 * self[WayPlace.CURRENT]
        number, noted = self[place], self[place + 1]
        return number if index != noted else number - 1

    def note_read(self, number: int, first: bool) -> None:
        """Account for a packet; `first` of an attachment."""
        expected = self[WayPlace.READ] + 1
        if number == expected - 1 and first and number:
            self.add(WayPlace.REDELIVERED)
        elif number < expected:
            self.add(WayPlace.DUPLICATED)
        else:
            self.add(WayPlace.LOST, number - expected)
            self.words[WayPlace.READ] = number


class SidePlace(IntEnum):
    """Where in the journal of a side what stands."""

    ATTACHMENTS = 0
    AFTER_WRITE = 1  # signals
    AFTER_READ = 2
    FIRST_ROW = 3  # of ROWS; the others follow


class SideJournal(Words):
    """What the channels of one side have counted."""

    SIZE = 16


class Journal:
    """Memory that both processes, and the one that watches over them, write their counts into."""

    STOP = 0

    def __init__(self) -> None:
        size = 8 * (1 + 2 * WayJournal.SIZE + 2 * SideJournal.SIZE)
        words = SharedMemory.create(size).map().cast("Q")
        self.words = words
        start = 1
        self.ways = []
        self.sides = []
        for _ in SIDES:
            self.ways.append(WayJournal(words[start : start + WayJournal.SIZE]))
            start += WayJournal.SIZE
            self.sides.append(SideJournal(words[start : start + SideJournal.SIZE]))
            start += SideJournal.SIZE
        for way in self.ways:
            way.start()

    def stop(self) -> None:
        self.words[self.STOP] = 1

    def stopping(self) -> bool:
        return bool(self.words[self.STOP])


class SoakChannel(PacketChannel):
    """A channel that notes what it is about to commit.

    The rings are asked to do the same as ever, with a note at the last moment before.

    hesitate_reading, hesitate_writing   called between a note and its commit, and between a commit
                                         and its signal: the moments at which being killed is worst
    """

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        reads: WayJournal,
        writes: WayJournal,
        hesitate_reading: Callable[[], object],
        hesitate_writing: Callable[[], object],
        **options: Any,
    ) -> None:
        first = True
        send = outgoing.send

        def note_and_receive() -> tuple[Packet, bool]:
            nonlocal first
            offset = incoming.incoming()
            read = incoming.read(offset)
            payload = read.payload.reader(incoming).read_all()
            packet = Packet(read.type, read.descriptor.transaction_id, payload)
            number = account(packet, reads)
            reads.note_read(number, first)
            first = False
            hesitate_reading()
            must_signal = incoming.commit_read(offset)
            hesitate_reading()
            return packet, must_signal

        def note_and_send(
            payload: bytes, transaction_id: int = 0, completion_requested: bool = False
        ) -> bool:
            writes.note_write(transaction_id, int(outgoing.memory.control[IN_WORD]))
            hesitate_writing()
            must_signal = send(payload, transaction_id, completion_requested)
            hesitate_writing()
            return must_signal

        incoming.receive = note_and_receive  # type: ignore[method-assign]
        outgoing.send = note_and_send  # type: ignore[method-assign]
        super().__init__(incoming, outgoing, signal, **options)


def make_payload(number: int, length: int) -> bytes:
    """`length` bytes that say which packet they are and whether they are whole."""
    body = (number.to_bytes(8, "little") * (length // 8 + 1))[: length - HEADER.size]
    return HEADER.pack(number, length, checksum(number, body)) + body


def checksum(number: int, body: bytes) -> int:
    return crc32(body, crc32(number.to_bytes(8, "little")))


def account(packet: Packet, way: WayJournal) -> int:
    """The number of a packet; noted as torn when it is not whole."""
    payload = packet.payload
    if not is_whole(packet.transaction_id, payload):
        way.add(WayPlace.TORN)
    way.add(WayPlace.BYTES, len(payload))
    return packet.transaction_id


def is_whole(number: int, payload: bytes) -> bool:
    """Whether a payload is all of what was sent with that number."""
    if len(payload) < HEADER.size:
        return False
    found = HEADER.unpack_from(payload)
    return found == (number, len(payload), checksum(number, payload[HEADER.size :]))


class Task(NamedTuple):
    """What is to be done."""

    seconds: float
    kill: bool
    plant: str | None
    seed: int


class Side:
    """One of the two processes, over as many attachments as it takes.

    number   0 near, 1 far
    start    which process of the run this is: the first two are 1 and 2
    """

    def __init__(self, end: SharedChannel, number: int, journal: Journal, start: int, task: Task) -> None:
        self.end = end
        self.name = f"{task.seed} {SIDES[number]} {start}"
        self.journal = journal
        self.writes, self.reads = journal.ways[number], journal.ways[1 - number]
        self.counts = journal.sides[number]
        self.attachments = 0
        self.task = task
        self.failures: list[BaseException] = []

    def run(self) -> None:
        while not self.attach_once():
            pass

    def attach_once(self) -> bool:
        """One attachment, until all is done (True) or the other side goes."""
        self.counts.add(SidePlace.ATTACHMENTS)
        self.attachments += 1
        self.told = [0] * (len(ROWS) + 2)
        with self.end.attach(
            SoakChannel,
            reads=self.reads,
            writes=self.writes,
            hesitate_reading=self.hesitation("hesitate read"),
            hesitate_writing=self.hesitation("hesitate write"),
        ) as channel:
            writer = threading.Thread(target=self.guard, args=(self.write, channel), daemon=True)
            writer.start()
            try:
                done = self.read(channel)
                if done:
                    writer.join()
            finally:
                self.tell(channel)
                channel.close()
                writer.join()
        if self.failures:
            raise self.failures[0]
        return done and bool(self.writes[WayPlace.DONE])

    def draw(self, what: str) -> random.Random:
        """A generator of its own for each thing that is drawn in one attachment.

        How often somebody loses patience depends on the time, and so does who of two threads draws
        first: neither must change what else is drawn.
        """
        return random.Random(f"{self.name} {self.attachments} {what}")

    def hesitation(self, what: str) -> Callable[[], object]:
        draw = self.draw(what)

        def hesitate() -> None:
            if self.task.kill and draw.random() < HESITATION:
                time.sleep(draw.random() * LONGEST_HESITATION)

        return hesitate

    def guard(self, work: Callable[[SoakChannel], object], channel: SoakChannel) -> None:
        try:
            work(channel)
        except (PeerClosed, ChannelClosed):
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
            self.failures.append(error)
            channel.close()

    def write(self, channel: SoakChannel) -> None:
        """Send packets until it is time to stop."""
        sizes, patience = self.draw("write sizes"), self.draw("write patience")
        number = 1 + self.writes.written(int(channel.outgoing.memory.control[IN_WORD]))
        largest = channel.outgoing.maximum_packet_size() - PacketSize.in_band(0)
        pause = Pauses(self.draw("write pauses"))
        while not self.journal.stopping():
            pause()
            payload = make_payload(number, random_length(sizes, largest))
            copies = 1
            if number == PLANTED and self.task.plant == "lose":
                number += 1
                continue
            if number == PLANTED and self.task.plant == "tear":
                payload = payload[:-1] + bytes([payload[-1] ^ 1])
            if number == PLANTED and self.task.plant == "duplicate":
                copies = 2
            for _ in range(copies):
                send_patiently(channel, payload, number, patience)
            number += 1
        self.writes.words[WayPlace.LAST] = number - 1
        self.writes.words[WayPlace.DONE] = 1
        channel.signal.notify()  # the other side may sleep, and there is nothing more to come

    def read(self, channel: SoakChannel) -> bool:
        """Receive until there is nothing more to come (True), or the other side goes."""
        patience = self.draw("read patience")
        pause = Pauses(self.draw("read pauses"))
        received = 0
        while True:
            over = bool(self.reads[WayPlace.DONE])  # before the look
            try:
                channel.receive(timeout=0 if over else patience.choice([0, 0.001, 0.05]))
            except TimedOut:
                if over:
                    return True
                continue
            except (PeerClosed, ChannelClosed):
                return over
            received += 1
            if received % STATISTICS_EVERY == 0:
                self.tell(channel)
            pause()

    def tell(self, channel: SoakChannel) -> None:
        """Add to the journal what the channel has counted since the last time."""
        found = channel.statistics()
        now = [found.signals_after_write, found.signals_after_read]
        now += [found.walked.get((row.state.value, row.event.value), 0) for _, row in ROWS]
        for place, (before, count) in enumerate(zip(self.told, now, strict=True)):
            self.counts.add(SidePlace.AFTER_WRITE + place, count - before)
        self.told = now


class Pauses:
    """A worker that is mostly quick, sometimes slow, and sometimes stops for a while."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.left = 0
        self.slow = False

    def __call__(self) -> None:
        if self.left == 0:
            self.left = self.draw.randrange(1, 60)
            self.slow = self.draw.random() < 0.4
            time.sleep(self.draw.choice([0, 0, 0.001, 0.01]))
        self.left -= 1
        if self.slow:
            time.sleep(self.draw.random() * 0.001)


def random_length(draw: random.Random, largest: int) -> int:
    """A length of a payload: mostly short, sometimes all that a ring can hold; a multiple of 8."""
    longest = draw.choice([64, 256, 256, 2048, largest])
    return max(HEADER.size, draw.randrange(HEADER.size, longest + 1) // 8 * 8)


def send_patiently(channel: SoakChannel, payload: bytes, number: int, draw: random.Random) -> None:
    """Send one packet, giving up and beginning again at random."""
    while True:
        try:
            return channel.send(payload, number, timeout=draw.choice([0, 0.001, 0.05, 1]))
        except TimedOut:
            continue


# -- watching over them ----------------------------------------------------------------------


def run_side(ends: Sequence[SharedChannel], number: int, journal: Journal, start: int, task: Task) -> None:
    """All of one process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    threading.Thread(target=end_with_parent, daemon=True).start()  # unless it is killed itself
    signal.alarm(int(task.seconds + 2 * PATIENCE) + 1)
    ends[1 - number].close()
    Side(ends[number], number, journal, start, task).run()


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Watch:
    """Starts the two processes, kills them where that is asked for, and ends them."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.draw = random.Random(task.seed)
        self.context = multiprocessing.get_context("fork")
        self.ends = SharedChannel.create(RING_SIZE)
        self.journal = Journal()
        self.running: list[BaseProcess] = []
        self.started = 0
        self.kills = 0

    def start(self, number: int) -> BaseProcess:
        self.started += 1
        process = self.context.Process(
            target=run_side,
            args=(self.ends, number, self.journal, self.started, self.task),
            name=SIDES[number],
            daemon=True,
        )
        process.start()
        return process

    def run(self) -> str | None:
        """Run for the time given; what went wrong, or None."""
        try:
            self.running = [self.start(number) for number in (0, 1)]
            return self.let_run(time.monotonic() + self.task.seconds) or self.let_end(
                time.monotonic() + PATIENCE
            )
        finally:
            for process in self.running:
                process.kill()
                process.join()
            for end in self.ends:
                end.close()

    def let_run(self, until: float) -> str | None:
        while (left := until - time.monotonic()) > 0:
            pause = self.draw.uniform(*KILL_EVERY) if self.task.kill else 0.2
            time.sleep(min(pause, left))
            for process in self.running:
                if process.exitcode is not None:
                    return f"the {process.name} side ended early, with status {process.exitcode}"
            if self.task.kill and pause < left:
                number = self.draw.randrange(2)
                self.running[number].kill()
                self.running[number].join()
                self.kills += 1
                self.running[number] = self.start(number)
        return None

    def let_end(self, until: float) -> str | None:
        self.journal.stop()
        for process in self.running:
            process.join(max(0, until - time.monotonic()))
            if process.exitcode is None:
                return f"the {process.name} side hangs"
            if process.exitcode:
                return f"the {process.name} side ended with status {process.exitcode}"
        return None

    def result(self, failure: str | None) -> dict[str, Any]:
        ways, sides = self.journal.ways, self.journal.sides

        def over_ways(place: int) -> int:
            return sum(way[place] for way in ways)

        def over_sides(place: int) -> int:
            return sum(side[place] for side in sides)

        rows = [
            {
                "side": who,
                "state": row.state.value,
                "event": row.event.value,
                "action": row.action.value,
                "count": over_sides(SidePlace.FIRST_ROW + place),
            }
            for place, (who, row) in enumerate(ROWS)
        ]
        return {
            "seconds": self.task.seconds,
            "seed": self.task.seed,
            "ring_size": RING_SIZE,
            "python": sys.version.split()[0],
            "messages": over_ways(WayPlace.READ),
            "bytes": over_ways(WayPlace.BYTES),
            "signals": over_sides(SidePlace.AFTER_WRITE) + over_sides(SidePlace.AFTER_READ),
            "attachments": over_sides(SidePlace.ATTACHMENTS),
            "kills": self.kills,
            "redelivered": over_ways(WayPlace.REDELIVERED),
            "lost": over_ways(WayPlace.LOST) + self.lost_at_the_end(failure),
            "duplicated": over_ways(WayPlace.DUPLICATED),
            "torn": over_ways(WayPlace.TORN),
            "rows": rows,
            "failure": failure,
        }

    def lost_at_the_end(self, failure: str | None) -> int:
        """Packets that were committed last and never came."""
        if failure is not None:
            return 0  # they may lie in the rings still
        return sum(max(0, way[WayPlace.LAST] - way[WayPlace.READ]) for way in self.journal.ways)


def show(result: dict[str, Any]) -> None:
    """The result for people."""
    print(
        f"two processes, rings of {result['ring_size']} bytes, {result['seconds']} seconds, "
        f"seed {result['seed']}"
    )
    for name in ("messages", "bytes", "signals", "attachments", "kills", "redelivered"):
        print(f"{result[name]:>14,} {name}")
    for row in result["rows"]:
        print(f"{row['count']:>14,} {row['side']}, {row['state']}, {row['event']}: {row['action']}")
    for name in ("lost", "duplicated", "torn"):
        print(f"{result[name]:>14,} {name}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long (%(default)s)")
    parser.add_argument("--kill", action="store_true", help="kill a side at random moments, and go on")
    parser.add_argument("--plant", choices=PLANTS, help="do wrong on purpose, to see that it is seen")
    parser.add_argument("--seed", type=int, help="of sizes, pauses and kills; another each time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.seconds <= 10**6:
        parser.error(f"--seconds is more than 0 and at most a million, not {chosen.seconds}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    chosen = parse_arguments(arguments)
    if sys.platform != "linux":
        print("soak: channels between processes run on Linux", file=sys.stderr)
        return 2
    seed = int.from_bytes(os.urandom(4), "little") if chosen.seed is None else chosen.seed
    watch = Watch(Task(chosen.seconds, chosen.kill, chosen.plant, seed))
    try:
        failure = watch.run()
    except KeyboardInterrupt:
        return 130
    result = watch.result(failure)
    if chosen.json:
        print(json.dumps(result))
    else:
        show(result)
    if failure is not None:
        print(f"soak: {failure}", file=sys.stderr)
    return 1 if failure or any(result[name] for name in ("lost", "duplicated", "torn")) else 0


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
