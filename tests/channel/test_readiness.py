"""The two tables that say when a side may sleep, and that the code walks them and nothing else.

The rows are spelled again here, by hand.  Every row is entered through the real step, over a ring
whose every access is recorded; and at each access of a step the other side is let in, to try to get
its packet, or its room, past a side that is falling asleep.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.known_bugs import known_bug
from vmbus.channel import RECEIVER_TABLE, SENDER_TABLE, Action, Event, Row, State, table_text
from vmbus.channel.readiness import NOT_YET, ReceiverReadiness, SenderReadiness, size_to_ask_for
from vmbus.errors import NotReady, PeerError, RingEmpty, RingFull
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing, PacketSize, connected_rings

#: What each row does and where it leads, and the accesses that it makes.
RECEIVER_ROWS = {
    (State.MASKED, Event.READY): (Action.RETURN, State.MASKED),
    (State.MASKED, Event.NOTHING): (Action.UNMASK, State.UNMASKED),
    (State.UNMASKED, Event.READY): (Action.MASK, State.MASKED),
    (State.UNMASKED, Event.NOTHING): (Action.SLEEP, State.UNMASKED),
}
SENDER_ROWS = {
    (State.FREE, Event.READY): (Action.RETURN, State.FREE),
    (State.FREE, Event.NOTHING): (Action.ASK, State.ASKED),
    (State.ASKED, Event.READY): (Action.CLEAR, State.FREE),
    (State.ASKED, Event.NOTHING): (Action.SLEEP, State.ASKED),
    (State.ASKED, Event.CALL): (Action.CLEAR, State.FREE),
}
ACCESSES = {
    Action.UNMASK: ["store mask", "fence"],
    Action.MASK: ["store mask"],
    Action.ASK: ["store pending", "fence"],
    Action.CLEAR: ["store pending", "fence"],
    Action.SLEEP: [],
}

#: 15 packets of 272 bytes leave 8 bytes of 4096: no packet at all fits.
PAYLOAD = bytes(248)
FULL = 15


class Walked(NamedTuple):
    """A row as it was gone through."""

    before: State
    row: Row
    accesses: list[str]
    after: State


class Bench:
    """One end of a ring and its readiness, on a memory that is watched; the other end acts on the same bytes.

    `step` makes an attempt of its own kind, and `rows` are those that it has gone through.
    """

    table: dict[tuple[State, Event], tuple[Action, State]]

    def __init__(self) -> None:
        inside = FlatRingMem(4096)
        self.sender, self.receiver = connected_rings(memory=inside)
        self.memory = RecordingMemory(inside)
        self.readiness = self.make()
        self.rows: list[Walked] = []
        self.signals = 0
        follow = self.readiness._follow

        def watched_follow(row: Row) -> None:
            before = self.readiness.state
            self.order += map(str, self.memory.take())
            follow(row)
            accesses = list(map(str, self.memory.take()))
            self.order += accesses
            self.rows.append(Walked(before, row, accesses, self.readiness.state))

        self.readiness._follow = watched_follow
        self.order: list[str] = []
        self.memory.take()

    def step(self) -> Any:
        """One step; `order` holds its accesses afterwards."""
        self.order = []
        self.memory.take()
        try:
            return self.readiness.step(self.attempt)
        finally:
            self.order += map(str, self.memory.take())

    def row(self) -> Row:
        """The last row gone through."""
        return self.rows[-1].row

    def each_access(self, act: Callable[[Access], object]) -> None:
        self.memory.after = act


class ReceiverBench(Bench):
    """A receiver; `help_it` sends a packet."""

    table = RECEIVER_ROWS

    def make(self) -> ReceiverReadiness:
        self.ring = IncomingRing(self.memory)
        return ReceiverReadiness(self.ring)

    def attempt(self) -> Any:
        return self.ring.receive()[0]

    def help_it(self) -> None:
        self.signals += self.sender.send(PAYLOAD)

    def is_published(self) -> bool:
        return self.memory.inside.control[INTERRUPT_MASK_WORD] == 0


class SenderBench(Bench):
    """A sender over a full ring; `help_it` takes packets out of it until there is the room it needs."""

    table = SENDER_ROWS

    def make(self) -> SenderReadiness:
        self.ring = OutgoingRing(self.memory)
        while self.ring.can_write(self.ring.outgoing(), 272):
            self.ring.send(PAYLOAD)
        return SenderReadiness(self.ring)

    def attempt(self) -> Any:
        return self.ring.send(PAYLOAD)

    def help_it(self) -> None:
        for _ in range(4):  # 1088 bytes: a quarter of the ring, which it asks for, and more
            self.signals += self.receiver.receive()[1]

    def is_published(self) -> bool:
        return self.memory.inside.control[PENDING_SEND_SIZE_WORD] != 0


BENCHES = {"receiver": ReceiverBench, "sender": SenderBench}


@pytest.mark.parametrize(("table", "rows"), [(RECEIVER_TABLE, RECEIVER_ROWS), (SENDER_TABLE, SENDER_ROWS)])
def test_the_tables_say_what_is_spelled_here_and_no_more(table, rows):
    assert {key: (row.action, row.following) for key, row in table.items()} == rows
    assert all((row.state, row.event) == key for key, row in table.items())
    assert all(row.why for row in table.values())
    assert len(table_text(table).splitlines()) == len(rows)


def at_rest_ready(bench: Bench) -> None:
    if isinstance(bench, SenderBench):
        bench.receiver.receive()
    else:
        bench.help_it()
    assert bench.step() is not NOT_YET


def published_while_it_looks(bench: Bench) -> None:
    """What it waits for comes just behind the store that publishes."""

    def act(access: Access) -> None:
        if str(access) in ("store mask", "store pending"):
            bench.memory.after = None
            bench.help_it()

    bench.each_access(act)
    assert bench.step() is not NOT_YET


def nothing_comes(bench: Bench) -> None:
    assert bench.step() is NOT_YET


def woken_for_nothing(bench: Bench) -> None:
    nothing_comes(bench)
    bench.rows.clear()
    nothing_comes(bench)


def woken_with_reason(bench: Bench) -> None:
    nothing_comes(bench)
    bench.rows.clear()
    bench.help_it()
    assert bench.signals == 1
    assert bench.step() is not NOT_YET


def called_anew(bench: Bench) -> None:
    nothing_comes(bench)
    bench.rows.clear()
    bench.readiness.begin()


#: For each end and situation the rows that are gone through; a try at rest that succeeds is not seen.
SITUATIONS = [
    ("receiver", at_rest_ready, []),
    ("receiver", nothing_comes, [(State.MASKED, Event.NOTHING), (State.UNMASKED, Event.NOTHING)]),
    ("receiver", published_while_it_looks, [(State.MASKED, Event.NOTHING), (State.UNMASKED, Event.READY)]),
    ("receiver", woken_for_nothing, [(State.UNMASKED, Event.NOTHING)]),
    ("receiver", woken_with_reason, [(State.UNMASKED, Event.READY)]),
    ("receiver", called_anew, []),
    ("sender", at_rest_ready, []),
    ("sender", nothing_comes, [(State.FREE, Event.NOTHING), (State.ASKED, Event.NOTHING)]),
    ("sender", published_while_it_looks, [(State.FREE, Event.NOTHING), (State.ASKED, Event.READY)]),
    ("sender", woken_for_nothing, [(State.ASKED, Event.NOTHING)]),
    ("sender", woken_with_reason, [(State.ASKED, Event.READY)]),
    ("sender", called_anew, [(State.ASKED, Event.CALL)]),
]


@pytest.mark.parametrize(("end", "situation", "expected"), SITUATIONS)
def test_every_situation_goes_through_its_rows_with_their_accesses_and_into_their_states(
    end, situation, expected
):
    bench = BENCHES[end]()
    situation(bench)
    assert [(walked.before, walked.row.event) for walked in bench.rows] == expected
    for walked in bench.rows:
        action, following = bench.table[walked.before, walked.row.event]
        assert walked.row.action is action
        assert walked.accesses == ACCESSES[action]
        assert walked.after is following
    assert bench.readiness.state is (bench.rows[-1].after if bench.rows else bench.readiness.state)
    assert bench.is_published() is (bench.readiness.state in (State.UNMASKED, State.ASKED))


def test_the_situations_meet_every_row_of_both_tables_but_the_plain_success():
    met = {key for _, _, keys in SITUATIONS for key in keys}
    plain = {(State.MASKED, Event.READY), (State.FREE, Event.READY)}
    assert met == {*RECEIVER_ROWS, *SENDER_ROWS} - plain


# -- the order of the accesses -------------------------------------------------------------------


@known_bug("B08")
def test_a_receiver_that_finds_nothing_unmasks_fences_looks_again_and_then_sleeps():
    bench = ReceiverBench()
    nothing_comes(bench)
    assert bench.order == [
        *("load in", "acquire"),  # the try
        *("store mask", "fence"),
        *("load mask", "load in", "acquire"),  # nobody else has masked it, and the ring is empty still
    ]


@known_bug("B01")
def test_a_sender_that_finds_no_room_asks_fences_looks_again_and_then_sleeps():
    bench = SenderBench()
    nothing_comes(bench)
    assert bench.order == [
        *("load out", "acquire"),  # the try
        *("store pending", "fence"),
        *("load out", "acquire"),
    ]


def test_a_woken_receiver_masks_before_it_takes_a_packet_out():
    bench = ReceiverBench()
    woken_with_reason(bench)
    assert bench.order == [
        *("load mask", "load in", "acquire"),
        "store mask",
        *("read", "read", "release", "store out", "fence", "load pending"),
    ]


def test_a_woken_sender_clears_its_wish_before_it_writes():
    bench = SenderBench()
    woken_with_reason(bench)
    wraps = ["load out", "acquire"]
    assert bench.order[:4] == [*wraps, "store pending", "fence"]
    writes = [place for place, access in enumerate(bench.order) if access == "write"]
    assert min(writes) > bench.order.index("store pending")
    assert bench.order[writes[-1] :][:4] == ["write", "release", "store in", "fence"]


def test_a_step_that_succeeds_at_once_touches_neither_mask_nor_pending_size():
    for bench in (ReceiverBench(), SenderBench()):
        at_rest_ready(bench)
        assert "store mask" not in bench.order
        assert "store pending" not in bench.order


@known_bug("B01", "B08")
@pytest.mark.parametrize("end", BENCHES)
def test_whatever_comes_between_two_accesses_is_found_or_signaled(end):
    """At the n-th access of the step the other side does what is waited for; then at the next."""
    found = slept = 0
    for n in range(12):
        bench = BENCHES[end]()
        left = [n]

        def act(access: Access, bench: Bench = bench, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                bench.memory.after = None
                bench.help_it()

        bench.each_access(act)
        outcome = bench.step()
        bench.memory.after = None
        if left[0] >= 0:
            assert n >= 6, "the step makes fewer accesses than it must"
            break
        if outcome is NOT_YET:
            slept += 1
            assert bench.signals == 1, f"asleep, and what came behind access {n} was not signaled"
            assert bench.step() is not NOT_YET
        else:
            found += 1
    assert found and slept


# -- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ring_size", "needed", "asked"),
    [(4096, 24, 1022), (4096, 1022, 1022), (4096, 1024, 1024), (4096, 4088, 4088), (16384, 4000, 4094)],
)
def test_a_sender_asks_for_a_quarter_of_the_ring_or_for_what_it_needs_where_that_is_more(
    ring_size, needed, asked
):
    assert size_to_ask_for(ring_size, needed) == asked


@pytest.mark.parametrize(
    ("length", "stored"), [(8, 1024), (248, 1024), (1000, 1024), (1008, 1032), (4064, 4088)]
)
def test_the_size_published_is_that_of_the_packet_that_waits_or_a_quarter(length, stored):
    bench = SenderBench()

    def attempt() -> bool:
        return bench.ring.send(bytes(length))

    assert bench.readiness.step(attempt) is NOT_YET
    assert bench.memory.inside.control[PENDING_SEND_SIZE_WORD] == stored
    assert stored == max(PacketSize.in_band(length), 1024)


def test_a_sender_woken_for_a_quarter_writes_as_soon_as_its_packet_fits():
    bench = SenderBench()
    nothing_comes(bench)
    bench.signals += bench.receiver.receive()[1]
    assert bench.signals == 0  # 280 bytes are free, and it asked for 1024
    assert bench.step() is not NOT_YET  # but a look that it makes for another reason is enough


# -- invariants over long walks ---------------------------------------------------------------------


@pytest.mark.parametrize("end", BENCHES)
def test_a_long_random_walk_goes_by_the_table_and_its_state_is_what_is_published(end):
    random = Random(19)
    bench = BENCHES[end]()
    for _ in range(600):
        choice = random.choice(["beginning", "other", "other", "step", "step", "step"])
        if choice == "beginning":
            bench.readiness.begin()
        elif choice == "other":
            other = bench.receiver.receive if end == "sender" else lambda: bench.sender.send(PAYLOAD)
            try:
                other()
            except NotReady:
                continue
        else:
            bench.step()
        assert bench.is_published() is (bench.readiness.state in (State.UNMASKED, State.ASKED))
    for walked in bench.rows:
        assert bench.table[walked.before, walked.row.event] == (walked.row.action, walked.after)
    plain = {(State.MASKED, Event.READY), (State.FREE, Event.READY)}
    assert {(walked.before, walked.row.event) for walked in bench.rows} == {*bench.table} - plain
    assert bench.readiness.walked.total() == len(bench.rows)


@pytest.mark.parametrize("end", BENCHES)
def test_an_error_of_the_attempt_goes_through_with_the_side_at_rest(end):
    bench = BENCHES[end]()
    nothing_comes(bench)
    bench.help_it()

    def attempt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.readiness.step(attempt)
    assert bench.readiness.state is bench.readiness.at_rest
    assert not bench.is_published()


@pytest.mark.parametrize("end", BENCHES)
@pytest.mark.parametrize("published", [False, True])
def test_an_interrupt_while_a_row_is_gone_through_never_leaves_a_state_that_is_not_published(end, published):
    for n in range(8):
        bench = BENCHES[end]()
        if published:
            nothing_comes(bench)
        left = [n]

        def interrupt(access: Access, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt

        bench.each_access(interrupt)
        if left[0] < 0:
            continue
        try:
            bench.readiness.begin()
            bench.step()
        except KeyboardInterrupt:
            pass
        bench.memory.after = None
        assert bench.is_published() or bench.readiness.state is bench.readiness.at_rest
        bench.readiness.begin()
        assert bench.step() is NOT_YET
        bench.help_it()
        assert bench.signals == 1


def test_an_attempt_that_was_refused_just_now_is_not_made_again():
    bench = ReceiverBench()
    tries = []

    def attempt() -> None:
        tries.append(True)
        raise RingEmpty

    bench.readiness.note(attempt, RingEmpty())
    assert bench.readiness.step(attempt) is NOT_YET
    assert not tries
    bench = SenderBench()
    bench.readiness.note(attempt, RingFull(needed=2048))
    assert bench.readiness.step(attempt) is NOT_YET
    assert not tries
    assert bench.memory.inside.control[PENDING_SEND_SIZE_WORD] == 2048


# -- a hostile other side -----------------------------------------------------------------------------


def test_a_mask_set_from_outside_is_an_error_of_the_other_side():
    bench = ReceiverBench()
    nothing_comes(bench)
    bench.memory.inside.control[INTERRUPT_MASK_WORD] = 1
    with pytest.raises(PeerError, match="this end had cleared it"):
        bench.step()
    with pytest.raises(PeerError, match="this end had cleared it"):
        bench.step()


@pytest.mark.parametrize("end", BENCHES)
@pytest.mark.parametrize("asleep", [False, True])
def test_a_bad_index_ends_every_step_with_an_error(end, asleep):
    bench = BENCHES[end]()
    if asleep:
        nothing_comes(bench)
    bench.memory.inside.control[0] = bench.memory.inside.control[1] = 4097
    for _ in range(2):
        with pytest.raises(PeerError, match="multiple of 8"):
            bench.step()
