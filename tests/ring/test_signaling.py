"""The four rules of who must be woken: two edges for the rings, two levels for a look from outside.

An edge is true for the one commit that made the difference.  The tests play a ring of bytes counted
by hand and ask the edge after every step.
"""

from __future__ import annotations

import pytest

from tests.known_bugs import known_bug
from vmbus.ring import (
    connected_rings,
    free_bytes,
    reader_is_owed_a_signal,
    signal_reader_after_write,
    signal_writer_after_read,
    wanted_space,
    writer_is_owed_a_signal,
)

SIZE = 128


@known_bug("B07")
def test_a_write_signals_only_where_it_ends_an_emptiness():
    for before in range(0, SIZE, 8):
        for out in range(0, SIZE, 8):
            expected = out == before
            assert signal_reader_after_write(interrupt_mask=0, out_offset=out, in_before=before) is expected


@pytest.mark.parametrize("mask", [1, 2, 0x8000_0000, 0xFFFF_FFFF])
def test_a_write_under_any_mask_but_0_signals_nobody(mask):
    assert signal_reader_after_write(interrupt_mask=mask, out_offset=64, in_before=64) is False
    assert reader_is_owed_a_signal(interrupt_mask=mask, in_offset=64, out_offset=0) is False


@known_bug("B05", "B07")
@pytest.mark.parametrize("step", [8, 24, 40, 120])
def test_the_reads_of_one_wait_signal_once_at_the_first_that_makes_enough_room(step):
    for pending in range(8, SIZE, 8):
        for free_at_first in range(0, SIZE, 8):
            free, signals = free_at_first, []
            while free < SIZE - 8:
                before, free = free, min(free + step, SIZE - 8)
                signals.append(
                    signal_writer_after_read(pending_send_size=pending, free_before=before, free_after=free)
                )
                assert signals[-1] is (before < pending <= free)
            assert signals.count(True) == (free_at_first < pending)


@known_bug("B03", "B05")
def test_exactly_the_wanted_space_is_enough_and_more_before_was_enough_already():
    assert signal_writer_after_read(pending_send_size=64, free_before=56, free_after=64) is True
    assert signal_writer_after_read(pending_send_size=64, free_before=48, free_after=56) is False
    assert signal_writer_after_read(pending_send_size=64, free_before=64, free_after=72) is False


def test_a_sender_that_waits_for_nothing_is_never_signaled():
    for before in range(0, SIZE, 8):
        assert signal_writer_after_read(pending_send_size=0, free_before=before, free_after=SIZE - 8) is False
        assert writer_is_owed_a_signal(pending_send_size=0, free=before) is False


@known_bug("B17")
def test_the_low_three_bits_of_a_pending_send_size_do_not_count():
    for pending in range(512):
        assert wanted_space(pending) == pending // 8 * 8
    for pending in range(1, 8):
        assert signal_writer_after_read(pending_send_size=pending, free_before=0, free_after=120) is False
        assert writer_is_owed_a_signal(pending_send_size=pending, free=120) is False


@known_bug("B17")
@pytest.mark.parametrize("size", [4096, 5 * 4096])
def test_a_wish_for_the_size_less_one_byte_is_met_by_an_empty_ring_and_by_no_other(size):
    empty = free_bytes(size, 0, 0)
    assert (
        signal_writer_after_read(pending_send_size=size - 1, free_before=empty - 8, free_after=empty) is True
    )
    assert writer_is_owed_a_signal(pending_send_size=size - 1, free=empty) is True
    assert writer_is_owed_a_signal(pending_send_size=size - 1, free=empty - 8) is False


def test_the_levels_are_true_for_as_long_as_somebody_could_be_waiting():
    for in_offset in range(0, SIZE, 8):
        owed = reader_is_owed_a_signal(interrupt_mask=0, in_offset=in_offset, out_offset=64)
        assert owed is (in_offset != 64)
    for free in range(0, SIZE, 8):
        assert writer_is_owed_a_signal(pending_send_size=64, free=free) is (free >= 64)


@known_bug("B06", "B07")
def test_each_end_answers_whether_to_signal_in_the_commit_itself_once_for_each_emptiness():
    sender, receiver = connected_rings()
    for _ in range(3):
        assert [sender.send(bytes(8)) for _ in range(5)] == [True, False, False, False, False]
        assert [receiver.receive()[1] for _ in range(5)] == [False] * 5


@known_bug("B17")
@pytest.mark.parametrize("pending", [4088, 4089, 4095])
def test_a_sender_that_asks_for_a_byte_less_than_the_ring_is_signaled_when_the_ring_is_empty(pending):
    sender, receiver = connected_rings()
    for _ in range(3):
        sender.send(bytes(8))
    sender.memory.control[3] = pending
    assert [receiver.receive()[1] for _ in range(3)] == [False, False, True]


@known_bug("B05")
def test_a_sender_is_signaled_once_for_a_wait_although_its_wish_still_stands():
    sender, receiver = connected_rings()
    for _ in range(4):
        sender.send(bytes(976))
    sender.set_pending_send_size(2000)
    assert [receiver.receive()[1] for _ in range(4)] == [False, True, False, False]
    sender.send(bytes(8))
    assert receiver.receive()[1] is False
