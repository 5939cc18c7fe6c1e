"""Rings that move while they are copied: what of the copy is whole, and that nothing else is shown.

The ring is a memory whose two sides may act between any two accesses, as in use they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.errors import RingEmpty, RingFull
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.inspection import inspect_memory
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import connected_rings, inspect_ring
from vmbus.uio import MovedWord, RingCopy, copy_ring
from vmbus.uio.snapshots import MOST_TRIES

#: The data area is copied in pieces of so many bytes, and between two of them the ring may move.
PIECE = 64

#: Accesses of one try: 32 words, a fence, the data, a fence and 32 words.
WORDS, PIECES = 32, 4096 // PIECE
MIDDLE = WORDS + 1 + PIECES // 2
TRY = 2 * (WORDS + 1) + PIECES

Move = Callable[["MovingRing"], object]


class MovingRing(RecordingMemory):
    """The memory of a ring that is in use: between any two accesses its two sides may act.

    sent        every packet that was published; `taken` says how many were read
    moves       what happens after an access, by its number
    published   how many were published when `in` was loaded before the last copy
    freed       how many had been read when `out` was loaded after it
    """

    def __init__(self, size: int = 4096, *, start: int = 0) -> None:
        inside = FlatRingMem(size)
        self.sender, self.receiver = connected_rings(start=start, memory=inside)
        self.sent: list[bytes] = []
        self.taken = 0
        self.moves: dict[int, Sequence[Move]] = {}
        self.published, self.freed = 0, 0
        super().__init__(inside, self.act)

    def read_at(self, offset: int, length: int) -> bytes:
        return b"".join(
            super(MovingRing, self).read_at(at, min(PIECE, offset + length - at))
            for at in range(offset, offset + length, PIECE)
        )

    def act(self, access: Access) -> None:
        """Note what a copy may show, and let the sides act."""
        first_reading = (len(self.accesses) - 1) % TRY < MIDDLE
        if access[:2] == ("load", "in") and first_reading:
            self.published = len(self.sent)
        if access[:2] == ("load", "out") and not first_reading:
            self.freed = self.taken
        for move in self.moves.pop(len(self.accesses), ()):
            move(self)

    def send(self) -> None:
        payload = b"%08d" % len(self.sent) * 2
        try:
            self.sender.send(payload)
        except RingFull:
            return
        self.sent.append(payload)

    def receive(self) -> None:
        try:
            packet, _ = self.receiver.receive()
        except RingEmpty:
            return
        assert packet.payload == self.sent[self.taken]
        self.taken += 1


def send(ring: MovingRing) -> None:
    ring.send()


def receive(ring: MovingRing) -> None:
    ring.receive()


def catch_up(ring: MovingRing) -> None:
    """Read faster than is written."""
    ring.send()
    for _ in range(4):
        ring.receive()


def payloads_of(copy: RingCopy) -> list[bytes]:
    """Of the packets that wait in a copy, which must all be whole."""
    report = inspect_memory(copy.memory)
    assert [one for one in report.findings if one.severity.value != "note"] == []
    return [packet.payload for packet in report.packets]


def numbers_of(copy: RingCopy) -> list[int]:
    return [int(payload[:8]) for payload in payloads_of(copy)]


def waiting_ring(packets: int = 3, **options: int) -> MovingRing:
    ring = MovingRing(**options)
    for _ in range(packets):
        ring.send()
    return ring


def test_a_ring_that_stands_still_is_copied_once():
    ring = waiting_ring()
    copy = copy_ring(ring)
    assert (copy.moved, copy.passed, numbers_of(copy)) == ((), False, [0, 1, 2])
    assert len(ring.accesses) == TRY
    kinds = [access.what for access in ring.accesses]
    assert kinds == ["load"] * 32 + ["acquire"] + ["read"] * PIECES + ["acquire"] + ["load"] * 32
    for loads in (ring.accesses[:WORDS], ring.accesses[-WORDS:]):
        assert len({access.place for access in loads}) == WORDS  # each word once


def toggle_mask(ring: MovingRing) -> None:
    ring.inside.control[INTERRUPT_MASK_WORD] ^= 1


@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("move", [send, receive, toggle_mask])
def test_a_ring_that_moves_is_copied_again_until_it_stands_still(tries, move):
    ring = waiting_ring()
    ring.moves = {MIDDLE + TRY * number: [move] for number in range(tries)}
    copy = copy_ring(ring)
    assert (copy.moved, copy.tries, len(ring.accesses)) == ((), tries + 1, TRY * (tries + 1))
    control = ring.inside.control.tobytes().ljust(4096, b"\0")
    assert copy.content == control + ring.inside.read_at(0, 4096)


def test_a_ring_that_never_stands_still_is_copied_three_times_and_says_what_moved():
    ring = waiting_ring()
    ring.moves = {MIDDLE + TRY * number: [send, receive] for number in range(9)}
    copy = copy_ring(ring)
    assert copy.tries == MOST_TRIES == 3
    assert len(ring.accesses) == 3 * TRY
    assert copy.moved == (MovedWord(IN_WORD, 5 * 40, 6 * 40), MovedWord(OUT_WORD, 2 * 40, 3 * 40))
    assert [word.name for word in copy.moved] == ["in", "out"]
    assert numbers_of(copy) == [3, 4]


def test_a_packet_that_was_published_during_the_copy_is_not_shown():
    ring = waiting_ring()
    ring.moves = {MIDDLE + TRY * number: [send] for number in range(3)}
    copy = copy_ring(ring)
    assert (ring.published, ring.freed) == (5, 0)
    assert numbers_of(copy) == [0, 1, 2, 3, 4]


def test_a_packet_that_was_read_during_the_copy_is_not_shown():
    ring = waiting_ring(5)
    ring.moves = {MIDDLE + TRY * number: [receive] for number in range(3)}
    copy = copy_ring(ring)
    assert (ring.published, ring.freed) == (5, 3)
    assert numbers_of(copy) == [3, 4]


@pytest.mark.parametrize("start", [0, 4096 - 80, 4096 - 16])
def test_a_ring_whose_packets_were_all_read_during_the_copy_is_shown_empty(start):
    ring = waiting_ring(2, start=start)
    ring.moves = {MIDDLE + TRY * number: [send, send, receive, receive, receive] for number in range(3)}
    ring.moves[MIDDLE + 2 * TRY] = [*[send] * 4, *[receive] * 5]
    copy = copy_ring(ring)
    page = inspect_ring(copy.content)
    assert copy.passed
    assert page.in_offset == page.out_offset == copy.moved[0].before
    assert payloads_of(copy) == []


def test_packets_that_were_written_over_during_the_copy_are_never_shown_as_whole():
    """A ring that was nearly full: what is read makes room, and that is written over at once."""
    ring = waiting_ring(102)  # 4080 of 4088 bytes
    ring.moves = {MIDDLE + TRY * number: [receive, receive, send, send] for number in range(3)}
    copy = copy_ring(ring)
    assert numbers_of(copy) == list(range(6, 106))
    assert (ring.published, ring.freed) == (106, 6)


@pytest.mark.parametrize(
    ("word", "value", "shown"),
    [
        (INTERRUPT_MASK_WORD, 1, 1),  # the receiver's, as out is: of the moment after the copy
        (PENDING_SEND_SIZE_WORD, 256, 0),  # the sender's, as in is: of the moment before
        (7, 9, 0),
    ],
)
def test_the_other_words_are_of_the_moment_that_their_side_s_index_is_of(word, value, shown):
    ring = waiting_ring()

    def set_word(ring: MovingRing) -> None:
        ring.inside.control[word] = value

    def clear_word(ring: MovingRing) -> None:
        ring.inside.control[word] = 0

    ring.moves = {
        index: [move]
        for number in range(3)
        for index, move in ((TRY * number, clear_word), (MIDDLE + TRY * number, set_word))
    }
    copy = copy_ring(ring)
    assert copy.moved == (MovedWord(word, 0, value),)
    assert copy.memory.control[word] == shown
    assert numbers_of(copy) == [0, 1, 2]


@pytest.mark.parametrize(
    ("before", "after"),
    [((0xFFFFFFF8, 0), (0xFFFFFFF8, 8)), ((24, 3), (24, 8)), ((24, 8), (24, 4096)), ((4096, 8), (4096, 16))],
)
def test_indices_out_of_range_are_copied_as_they_are(before, after):
    ring = MovingRing()
    ring.inside.control[IN_WORD], ring.inside.control[OUT_WORD] = before

    def toggle(ring: MovingRing) -> None:
        words = ring.inside.control
        words[IN_WORD], words[OUT_WORD] = after

    def back(ring: MovingRing) -> None:
        words = ring.inside.control
        words[IN_WORD], words[OUT_WORD] = before

    ring.moves = {
        index: [move]
        for number in range(3)
        for index, move in ((TRY * number, back), (MIDDLE + TRY * number, toggle))
    }
    copy = copy_ring(ring)
    page = inspect_ring(copy.content)
    assert not copy.passed
    assert (page.in_offset, page.out_offset) == (before[0], after[1])


#: Anywhere, or many together in the middle of the last copy.
MOMENTS = st.integers(0, TRY * MOST_TRIES) | st.just(MIDDLE + TRY * (MOST_TRIES - 1))
MOVES = st.lists(st.tuples(MOMENTS, st.sampled_from([send, receive, catch_up])), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, 511).map(lambda slot: 8 * slot),
    waiting=st.integers(0, 4) | st.integers(0, 102),
    moves=MOVES,
)
def test_a_copy_has_exactly_the_packets_that_did_not_change_meanwhile(start, waiting, moves):
    """However its sides act between any two accesses, less than a lap in all."""
    ring = waiting_ring(waiting, start=start)
    ring.moves = {MIDDLE + TRY * number: [toggle_mask] for number in range(MOST_TRIES - 1)}  # never still
    for index, move in moves:
        ring.moves[index] = (*ring.moves.get(index, ()), move)
    copy = copy_ring(ring)
    assert numbers_of(copy) == list(range(ring.freed, ring.published))
    assert [packet.payload for packet in copy.packets()] == payloads_of(copy)
