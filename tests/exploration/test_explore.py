"""Rings and channels under every schedule: as they are nothing goes wrong, and with any one line less it does.

Expected texts are tests/expected_output/explore-*.txt: what each complete exploration counted, and the
story of each change.  After a wanted change of rings or channels write them anew, and read each before
it is kept:

    python -m tests.exploration.test_explore
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import vmbus.exploration
from tests.exploration.changed_package import Change, changed_package
from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel
from vmbus.errors import CallerError
from vmbus.exploration import ViolationKind, WrongMessage, channel_sides, explore, stopped_clock
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing
from vmbus.sizes import MAXIMUM_DATA_SIZE

EXPECTED = Path(__file__).parent.parent / "expected_output"
COMPLETE = EXPECTED / "explore-complete.txt"


# -- complete explorations -----------------------------------------------------------------------


def channel_over(incoming, outgoing, signal, kind=PacketChannel):
    return kind(IncomingRing(incoming), OutgoingRing(outgoing), signal, clock=stopped_clock)


def asker(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal)
    for number in range(2):
        assert channel.request(b"question" * number).payload == b"answer" + bytes(2)


def answerer(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal)
    for _ in range(2):
        channel.complete(channel.receive().transaction_id, b"answer")


def batch_sender(incoming, outgoing, signal):
    channel_over(incoming, outgoing, signal).send_many([pattern(1336)] * 4)


def batch_receiver(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal)
    payloads = []
    while len(payloads) < 4:
        payloads += [packet.payload for packet in channel.receive_many()]
    assert payloads == [pattern(1336)] * 4


def message_sender(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal, MessageChannel)
    channel.send(b"two ", b"parts")
    channel.send(b"")


def message_receiver(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal, MessageChannel)
    assert [channel.receive(), channel.receive()] == [b"two parts", b""]


def byte_sender(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal, ByteChannel)
    channel.send(pattern(5000))
    channel.send_end()


def byte_receiver(incoming, outgoing, signal):
    channel = channel_over(incoming, outgoing, signal, ByteChannel)
    data = b""
    while part := channel.receive():
        data += part
    assert data == pattern(5000)


def closing_sender(incoming, outgoing, signal):
    with channel_over(incoming, outgoing, signal) as channel:
        channel.send(b"the last")


def closed_receiver(incoming, outgoing, signal):
    assert [packet.payload for packet in channel_over(incoming, outgoing, signal)] == [b"the last"]


#: What is explored to the end: the two sides, and the options.
EXPLORATIONS: dict[str, tuple[Callable[[], tuple], dict[str, object]]] = {
    "empty edge, three messages": (lambda: channel_sides(3, 8), {}),
    "full edge, three half-ring messages": (lambda: channel_sides(3, 2024), {}),
    "three messages, the channels made before": (lambda: channel_sides(3, 8, ready=True), {}),
    "two messages across the end of the ring": (lambda: channel_sides(2, 8), {"start": 4080}),
    "room for exactly the third": (lambda: channel_sides(3, (2024, 2016, 2024), ready=True), {}),
    "two messages and two wakes for nothing": (lambda: channel_sides(2, 8), {"spurious_wakes": 2}),
    "two requests and their completions": (lambda: (asker, answerer), {}),
    "a batch that does not fit at once": (lambda: (batch_sender, batch_receiver), {}),
    "messages in a pipe": (lambda: (message_sender, message_receiver), {}),
    "a stream longer than the ring": (lambda: (byte_sender, byte_receiver), {}),
    "a side that closes": (lambda: (closing_sender, closed_receiver), {}),
}


#: A fault that makes explorations endless is to fail soon.
MOST_STATES = 300_000


@cache
def explored(name: str):
    sides, options = EXPLORATIONS[name]
    return explore(*sides(), maximum_states=MOST_STATES, **options)


@known_bug("B01", "B04", "B08")
@pytest.mark.parametrize("name", EXPLORATIONS)
def test_no_schedule_loses_a_packet_or_a_wake_or_signals_needlessly(name):
    result = explored(name)
    assert result.violation is None, result.story()
    assert result.complete
    assert line_of(name) in COMPLETE.read_text(encoding="utf-8").splitlines()


def line_of(name: str) -> str:
    result = explored(name)
    left, right = result.histories
    return f"{name}: {result.summary()}; {left} and {right} histories"


def complete_text() -> str:
    return "\n".join(map(line_of, EXPLORATIONS)) + "\n"


def test_the_expected_counts_are_those_of_these_explorations_and_no_others():
    lines = COMPLETE.read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines] == list(EXPLORATIONS)


# -- one line less -------------------------------------------------------------------------------


class Removal(NamedTuple):
    """Something that the rings or channels need, and what happens without it.

    changes    of the shipped source
    messages   what the sides exchange: how many, and bytes of each
    kind       of violation that must be found
    most       states that may be met before it is
    """

    changes: Sequence[Change]
    messages: tuple[int, int | tuple[int, ...]]
    kind: ViolationKind
    most: int = 500


SLEEPS, NEEDLESS, FAILED = (
    ViolationKind.SLEEPS_FOREVER,
    ViolationKind.NEEDLESS_SIGNAL,
    ViolationKind.FAILED,
)
SMALL, HALF = (2, 8), (2, 2024)
OUTGOING, INCOMING, READINESS = "ring/outgoing.py", "ring/incoming.py", "channel/readiness.py"

STORE_IN = "        control[IN_WORD] = end"
STORE_OUT = "        control[OUT_WORD] = end"
STORE_PENDING = "        self._control[PENDING_SEND_SIZE_WORD] = round_up_to_slot(length)"
FENCE = "\n        self._fence()"
IF_SLEEP = "            if row.action is Action.SLEEP:"

REMOVALS = {
    "no-fence-after-in": Removal([Change(OUTGOING, STORE_IN + FENCE, STORE_IN)], SMALL, SLEEPS),
    "no-fence-after-out": Removal([Change(INCOMING, STORE_OUT + FENCE, STORE_OUT)], HALF, SLEEPS),
    "no-fence-after-unmask": Removal(
        [Change(INCOMING, "        if not masked:", "        if False:")], SMALL, SLEEPS
    ),
    "no-fence-after-pending": Removal([Change(OUTGOING, STORE_PENDING + FENCE, STORE_PENDING)], HALF, SLEEPS),
    "no-look-after-unmask": Removal(
        [Change(READINESS, IF_SLEEP, "            if row.action in (Action.SLEEP, Action.UNMASK):")],
        SMALL,
        SLEEPS,
    ),
    "no-look-after-pending": Removal(
        [Change(READINESS, IF_SLEEP, "            if row.action in (Action.SLEEP, Action.ASK):")],
        HALF,
        SLEEPS,
    ),
    "no-mask-while-draining": Removal(
        [Change(READINESS, "        elif action is Action.MASK:", "        elif False:")], SMALL, NEEDLESS
    ),
    "pending-not-cleared": Removal(
        [Change(READINESS, "        elif action is Action.CLEAR:", "        elif False:")],
        HALF,
        NEEDLESS,
        most=1000,
    ),
    "signal-before-in": Removal(
        [
            Change(
                OUTGOING,
                STORE_IN,
                "        control[IN_WORD], control = end, "
                "{word: control[word] for word in (INTERRUPT_MASK_WORD, OUT_WORD)}",
            )
        ],
        SMALL,
        NEEDLESS,
    ),
    "signal-before-out": Removal(
        [
            Change(
                INCOMING,
                STORE_OUT,
                "        control[OUT_WORD], control = end, "
                "{word: control[word] for word in (PENDING_SEND_SIZE_WORD, IN_WORD)}",
            )
        ],
        HALF,
        NEEDLESS,
    ),
    "in-before-data": Removal(
        [
            Change(
                OUTGOING,
                "        end = start + total\n        pack = self._packers.get(total)",
                "        end = start + total\n        self._control[IN_WORD] = end % size\n"
                "        pack = self._packers.get(total)",
            )
        ],
        SMALL,
        FAILED,
    ),
    "room-given-back-before-it-is-read": Removal(
        [
            Change(
                INCOMING,
                "        available = published - out  # used_bytes()",
                "        self._control[OUT_WORD] = published\n"
                "        available = published - out  # used_bytes()",
            )
        ],
        (2, (2024, 3000)),
        FAILED,
        most=2000,
    ),
    "signal-at-every-write": Removal(
        [Change(OUTGOING, "        signal = False", "        signal = True")], SMALL, NEEDLESS
    ),
    "signal-at-every-write-while-unmasked": Removal(
        [
            Change(
                "ring/signaling.py",
                "    return interrupt_mask == 0 and out_offset == in_before",
                "    return interrupt_mask == 0",
            )
        ],
        SMALL,
        NEEDLESS,
    ),
    "signal-at-every-read": Removal(
        [
            Change(
                INCOMING,
                "        signal = pending != 0 and self._ends_a_wait(pending, end)",
                "        signal = True",
            )
        ],
        SMALL,
        NEEDLESS,
    ),
    "exactly-the-wanted-room-not-enough": Removal(
        [
            Change(
                "ring/signaling.py",
                "    return free_before < wanted_space(pending_send_size) <= free_after",
                "    return free_before < wanted_space(pending_send_size) < free_after",
            )
        ],
        (3, (2024, 2016, 2024)),
        SLEEPS,
        most=5000,
    ),
    "in-loaded-before-pending": Removal(
        [
            Change(
                INCOMING,
                "        pending = control[PENDING_SEND_SIZE_WORD]",
                "        self._early = control[IN_WORD]\n        pending = control[PENDING_SEND_SIZE_WORD]",
            ),
            Change(
                INCOMING,
                "        self._acquire()\n        in_offset = self._control[IN_WORD]",
                "        self._acquire()\n        in_offset = self._early",
            ),
        ],
        (3, (1336, 1336, 2736)),
        NEEDLESS,
        most=3000,
    ),
}


def explore_without(name: str):
    removal = REMOVALS[name]
    with changed_package(removal.changes) as exploration:
        return explore_channels(exploration, removal)


def explore_channels(exploration: ModuleType, removal: Removal):
    sides = exploration.channel_sides(*removal.messages, ready=True)
    return exploration.explore(*sides, maximum_states=MOST_STATES)


@known_bug("B01", "B03", "B04", "B08", "B10", "B11")
@pytest.mark.parametrize("name", REMOVALS)
def test_a_story_tells_what_goes_wrong_without_it(name):
    result = explore_without(name)
    assert result.violation is not None
    assert result.violation.kind.name == REMOVALS[name].kind.name
    assert not result.complete
    assert result.states <= REMOVALS[name].most
    assert result.story() == (EXPECTED / f"explore-{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REMOVALS)
def test_the_same_sides_find_nothing_in_the_package_as_it_is(name):
    result = explore_channels(vmbus.exploration, REMOVALS[name])
    assert result.complete, result.story()


def test_a_changed_package_leaves_nothing_behind():
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "vmbus"}
    with changed_package(REMOVALS["no-fence-after-in"].changes) as exploration:
        assert exploration is not vmbus.exploration
        assert exploration.ExploredMemory is not vmbus.exploration.ExploredMemory
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "vmbus"}
    assert after == before


# -- rings by themselves -------------------------------------------------------------------------


def test_a_receiver_that_never_unmasks_is_found_asleep():
    def sender(incoming, outgoing, signal):
        if OutgoingRing(outgoing).send(b"a packet"):
            signal.notify()

    def receiver(incoming, outgoing, signal):
        ring = IncomingRing(incoming)
        while not ring.can_read(ring.incoming()):
            signal.wait(None)

    result = explore(sender, receiver)
    assert result.violation == (SLEEPS, 1)
    story = result.story()
    assert story.splitlines()[0].split() == ["sender", "receiver"]
    assert "The receiver sleeps for ever: no signal is on its way, and the sender has ended." in story
    assert "The ring holds 32 bytes, and 4056 are free." in story


def test_a_receiver_that_unmasks_and_looks_again_is_not():
    def sender(incoming, outgoing, signal):
        if OutgoingRing(outgoing).send(b"a packet"):
            signal.notify()

    def receiver(incoming, outgoing, signal):
        ring = IncomingRing(incoming)
        ring.set_interrupt_mask(False)
        while not ring.can_read(ring.incoming()):
            signal.wait(None)
        return ring.receive()[0].payload

    result = explore(sender, receiver)
    assert result.complete, result.story()
    assert result.outcomes == {(None, b"a packet"): result.schedules}


def test_a_doubled_message_is_found():
    def sender(incoming, outgoing, signal):
        ring = OutgoingRing(outgoing)
        for payload in (b"number 1", b"number 2"):
            ring.send(payload)

    def receiver(incoming, outgoing, signal):
        """Looks at a packet and forgets to commit it."""
        ring = IncomingRing(incoming)
        for expected in (b"number 1", b"number 2"):
            offset = ring.incoming()
            if not ring.can_read(offset):
                return
            found = ring.read(offset).payload.reader(ring).read_all()
            if found != expected:
                raise WrongMessage(f"{found!r} instead of {expected!r}")

    result = explore(sender, receiver)
    assert result.violation == (FAILED, 1)
    assert "WrongMessage: b'number 1' instead of b'number 2'" in result.story()


class SendingTwice(PacketChannel):
    """Sends each packet a second time."""

    def send(self, payload):
        super().send(payload)
        return super().send(payload)


def test_the_ready_made_receiver_finds_a_message_that_came_twice():
    result = explore(*channel_sides(2, ready=True, kind=SendingTwice))
    assert result.violation == (FAILED, 1)
    assert "The receiver failed: WrongMessage: message 2 came as message 1\n" in result.story()


def test_the_ready_made_receiver_finds_bytes_that_nobody_sent_it():
    sender, _ = channel_sides(1, 32, ready=True)
    _, receiver = channel_sides(1, 8, ready=True)
    result = explore(sender, receiver)
    assert result.violation == (FAILED, 1)
    assert "WrongMessage: message 1 came as 32 bytes: 01 01 00 00 04 01 00 01 " in result.story()


def test_a_signal_without_a_look_at_the_mask_is_found():
    def sender(incoming, outgoing, signal):
        OutgoingRing(outgoing)
        outgoing.control[0] = 0
        signal.notify()

    result = explore(sender, lambda incoming, outgoing, signal: None)
    assert result.violation == (NEEDLESS, 0)
    assert "it has not loaded mask or back pending since it stored in" in result.story()


@pytest.mark.parametrize("offset", [0, 8, 4088, 4095, 4096])
@pytest.mark.parametrize("length", [1, 8, 100, 4096])
def test_an_explored_memory_wraps_as_every_other_does(offset, length):
    data = pattern(length)
    flat = FlatRingMem(4096)
    flat.write_at(offset, data)
    with flat:
        expected = flat.read_at(0, 4096)

    def writer(incoming, outgoing, signal):
        assert incoming.size == outgoing.size == 4096
        outgoing.write_at(offset, memoryview(data))
        assert outgoing.read_at(offset, length) == data
        return outgoing.read_at(0, 4096)

    result = explore(writer, lambda incoming, outgoing, signal: None)
    assert result.complete, result.story()
    assert set(result.outcomes) == {(expected, None)}


@pytest.mark.parametrize(("offset", "length"), [(8191, 2), (4097, 4096), (-8, 8)])
def test_an_access_that_would_wrap_twice_is_a_failure_of_the_side(offset, length):
    refusals = []

    def reader(incoming, outgoing, signal):
        try:
            incoming.read_at(offset, length)
        except CallerError as error:
            refusals.append((error.argument, error.value, error.limit))
            raise

    result = explore(reader, lambda incoming, outgoing, signal: None)
    assert result.violation == (FAILED, 0)
    assert f"CallerError: {length} bytes at {offset:#06x} are not within twice the 4096" in result.story()
    assert set(refusals) == {("offset", offset, 8192 - length)}


def test_the_two_rings_have_words_and_bytes_of_their_own():
    def left(incoming, outgoing, signal):
        outgoing.control[0] = 8
        outgoing.write_at(0, b"left")
        yield
        return incoming.control[0], incoming.read_at(0, 5)

    def right(incoming, outgoing, signal):
        outgoing.control[0] = 16
        outgoing.write_at(0, b"right")
        yield
        return incoming.control[0], incoming.read_at(0, 4)

    assert set(explore(left, right).outcomes) == {((16, b"right"), (8, b"left"))}


@pytest.mark.parametrize(
    ("options", "argument", "value", "limit"),
    [
        ({"ring_sizes": (1000, 4096)}, "size", 1000, MAXIMUM_DATA_SIZE),
        ({"ring_sizes": (4096, 1000)}, "size", 1000, MAXIMUM_DATA_SIZE),
        ({"start": 4}, "start", 4, 4088),
        ({"start": -8}, "start", -8, 4088),
        ({"start": 4096}, "start", 4096, 4088),
        ({"ring_sizes": (8192, 4096), "start": 4096}, "start", 4096, 4088),
    ],
)
def test_what_no_ring_can_be_is_refused(options, argument, value, limit):
    with pytest.raises(CallerError) as caught:
        explore(*channel_sides(1), **options)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == (argument, value, limit)


def test_a_wait_with_a_time_limit_is_refused_and_not_explored_wrongly():
    def left(incoming, outgoing, signal):
        signal.wait(1.5)

    with pytest.raises(CallerError, match=r"a wait of 1\.5 seconds cannot be explored"):
        explore(left, lambda incoming, outgoing, signal: None)


def test_a_look_without_sleeping_sees_a_signal_once_and_a_side_that_closed():
    def left(incoming, outgoing, signal):
        ring = OutgoingRing(outgoing)
        if ring.send(b"to an unmasked reader"):
            signal.notify()
        signal.close()

    def right(incoming, outgoing, signal):
        before = signal.peer_closed
        return before, signal.wait(0), signal.peer_closed

    result = explore(left, right)
    assert result.complete, result.story()
    assert {seen for _, seen in result.outcomes} == {
        (False, False, False),
        (False, True, False),
        (False, True, True),
    }


def test_too_many_states_are_reported_as_an_exploration_that_is_not_complete():
    result = explore(*channel_sides(3), maximum_states=1000)
    assert not result.complete
    assert result.violation is None
    assert result.story() == ""
    assert 1000 < result.states < 2000
    assert "not complete" in result.summary()


def test_progress_is_told_with_every_step():
    seen = []
    result = explore(*channel_sides(1), progress=lambda steps, states: seen.append((steps, states)))
    assert [steps for steps, _ in seen[:-1]] == list(range(1, result.steps + 1))
    assert seen[-1] == (result.steps, result.states)


def test_two_explorations_of_the_same_are_the_same():
    first, second = (explore_without("signal-before-in") for _ in range(2))
    assert first.summary() == second.summary()
    assert first.story() == second.story()


def test_the_exploration_of_sides_knows_no_rings():
    folder = Path(vmbus.exploration.__file__).parent
    core = {"steps", "sides", "buffers", "shared", "machine", "search", "story"}
    sources = [(folder / f"{module}.py").read_text(encoding="utf-8") for module in core]
    imports = {name for source in sources for name in re.findall(r"^from (\S+) import", source, re.MULTILINE)}
    assert {name for name in imports if name.startswith("vmbus")} == {"vmbus.errors"}
    assert {name for name in imports if name.startswith(".")} <= {f".{module}" for module in core}


def main() -> None:
    """Write every expected text anew."""
    COMPLETE.write_text(complete_text(), encoding="utf-8")
    for name in REMOVALS:
        result = explore_without(name)
        (EXPECTED / f"explore-{name}.txt").write_text(result.story(), encoding="utf-8")
        print(f"{name}: {result.summary()}", file=sys.stderr)


if __name__ == "__main__":
    main()
