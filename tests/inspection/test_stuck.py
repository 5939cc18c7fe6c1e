"""Who is owed a signal: each level rule names who owes it to whom, and one snapshot never says stuck by itself."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.inspection.dumps import checks, look, packet, ring_image
from tests.known_bugs import known_bug
from vmbus.errors import RingFull
from vmbus.inspection import (
    STANDING_REQUEST,
    RingPlace,
    RingReport,
    Severity,
    inspect_memory,
    owed_signals,
    stuck_findings,
)
from vmbus.memory import FlatRingMem
from vmbus.ring import connected_rings, reader_needs_signal, writer_needs_signal


def owed(image: bytes) -> list[tuple[str, str, str]]:
    return [(one.to, one.owed_by, one.rule) for one in owed_signals(look(image))]


READER = ("reader", "writer", "reader_needs_signal")
WRITER = ("writer", "reader", "writer_needs_signal")


@known_bug("B08")
def test_packets_that_wait_with_the_mask_clear_are_owed_to_the_reader():
    assert owed(ring_image([packet(0)])) == [READER]
    (finding,) = stuck_findings(look(ring_image([packet(0)])))
    assert finding[:3] == ("stuck-reader", Severity.ERROR, None)
    assert finding.message == (
        "the writer owes the reader a signal by the level rule reader_needs_signal: the interrupt mask is 0, "
        "and 24 bytes wait from out 0x0000 to in 0x0018"
    )


def test_a_reader_that_has_masked_interrupts_looks_by_itself():
    assert owed(ring_image([packet(0)], mask=1)) == []


@known_bug("B01")
def test_room_that_was_asked_for_and_is_there_is_owed_to_the_writer():
    assert owed(ring_image([], pending=64)) == [WRITER]
    (finding,) = stuck_findings(look(ring_image([packet(0)], pending=64, mask=1)))
    assert finding[:3] == ("stuck-writer", Severity.ERROR, None)
    assert finding.message == (
        "the reader owes the writer a signal by the level rule writer_needs_signal: 64 bytes of room were asked "
        "for, and 4064 are free"
    )


def test_both_can_be_owed_a_signal():
    assert owed(ring_image([packet(0)], pending=64)) == [READER, WRITER]


def test_room_that_is_not_there_yet_is_owed_to_nobody():
    assert owed(ring_image([packet(0)], pending=4072, mask=1)) == []
    assert owed(ring_image([packet(0)], pending=4064, mask=1)) == [WRITER]


@known_bug("B17")
def test_a_wish_for_the_size_minus_one_is_met_by_an_empty_ring():
    (one,) = owed_signals(look(ring_image([], pending=4095)))
    assert "4088 bytes of room were asked for, and 4088 are free" in one.message


@known_bug("B03")
def test_where_the_feature_bit_is_clear_it_is_said_that_linux_gives_no_signal():
    (one,) = owed_signals(look(ring_image([], pending=64, features=0)))
    assert one.message.endswith("; the feature bit is clear, and Linux's readers then never give this signal")


def test_the_pending_size_that_hvsock_leaves_set_makes_no_ring_stuck():
    idle = look(ring_image([], pending=STANDING_REQUEST, size=24576))
    assert (idle.verdict.value, idle.writer_needs_signal, owed_signals(idle)) == ("idle", True, [])
    for size in (STANDING_REQUEST - 8, STANDING_REQUEST + 8):
        assert owed(ring_image([], pending=size, size=24576)) == [WRITER]
    assert owed(ring_image([packet(0)], pending=STANDING_REQUEST, size=24576)) == [READER]


@pytest.mark.parametrize("image", [ring_image([packet(0, kind=0)]), ring_image([], in_offset=4), bytes(8192)])
def test_nothing_is_owed_in_a_ring_that_is_corrupt_or_was_never_opened(image):
    assert owed(image) == []


@pytest.mark.parametrize(
    ("role", "start"),
    [
        ("outbound", "the writer (the guest) owes the reader (the host) a signal"),
        ("inbound", "the writer (the host) owes the reader (the guest) a signal"),
        (None, "the writer owes the reader a signal"),
    ],
)
def test_of_a_pair_it_is_said_which_side_that_is(role, start):
    place = RingPlace(0, 4096, 4096, role)
    ring = inspect_memory(FlatRingMem.over(ring_image([packet(0)])), place=place)
    (one,) = owed_signals(ring)
    assert one.message.startswith(start)


def test_a_report_never_says_stuck():
    for image in (ring_image([packet(0)]), ring_image([], pending=64)):
        ring = look(image)
        assert ring.is_sound
        assert checks(ring) == []


def snapshot(memory) -> RingReport:
    return inspect_memory(memory)


def test_while_a_ring_is_used_the_owed_signals_are_what_the_level_rules_say():
    """Over a correct pair: the rules are those of the rings, word for word."""
    sender, receiver = connected_rings(4096)
    for number in range(60):
        if number % 7 == 3:
            receiver.set_interrupt_mask(number % 2 == 1)
        sender.set_pending_send_size(8 * (number % 5) * 100)
        with suppress(RingFull):
            sender.send(bytes(8 * (number % 40)))
        if number % 3 == 0:
            receiver.receive_many(2)
        page = b"".join(sender.memory.control[word].to_bytes(4, "little") for word in range(32))
        expected = [READER] * reader_needs_signal(page) + [WRITER] * writer_needs_signal(page, 4096)
        assert [(one.to, one.owed_by, one.rule) for one in owed_signals(snapshot(sender.memory))] == expected
