"""When one side of a virtqueue must notify the other: the tables, and an oracle that counts entries.

Sources: OASIS VIRTIO 1.2, sections 2.7.7, 2.7.10 (split), 2.8.10 and 2.8.21 (packed); Linux
include/uapi/linux/virtio_ring.h, vring_need_event(); the virtio-driver crate's packed queue.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, sampled_from

from tests.known_bugs import known_bug
from tests.virtio.by_hand import EVENT_IDX, PACKED, VERSION_1, HandDevice
from vmbus.memory import GuestMemory
from vmbus.virtio import Virtqueue, event_reached, not_suppressed, notify_after_packed

#: (event, new, old): whether to notify.
EVENTS = {
    (0, 1, 0): True,
    (0, 2, 1): False,
    (4, 5, 4): True,
    (4, 6, 5): False,
    (4, 8, 2): True,
    (8, 12, 11): False,
    (15, 15, 14): False,
    (15, 16, 15): True,
    (15, 16, 16): False,
    (0xFFFC, 0xFFFD, 0xFFFC): True,
    (0xFFFF, 0, 0xFFFF): True,
    (0xFFFF, 3, 0xFFFE): True,
    (0, 65535, 0): True,
    (3, 3, 3): False,
}


@known_bug("V11")
@pytest.mark.parametrize("event, new, old", EVENTS)
def test_an_event_is_reached_when_its_entry_is_among_the_new_ones(event, new, old):
    count = (new - old) & 0xFFFF
    wanted = EVENTS[event, new, old]
    assert event_reached(event, new, count) is wanted


@pytest.mark.parametrize("count", [65536, 65537, 200000])
@pytest.mark.parametrize("event", [0, 4, 0x8000, 0xFFFF])
def test_after_a_whole_round_of_the_counter_every_event_is_reached(count, event):
    assert event_reached(event, 5, count)


@pytest.mark.parametrize("event", [0, 4, 5, 6, 0xFFFF])
def test_without_new_entries_no_event_is_reached(event):
    assert not event_reached(event, 5, 0)


@pytest.mark.parametrize(
    "flags, wanted",
    [(0, True), (1, False), (2, True), (3, False), (0xFFFE, True), (0xFFFF, False)],
)
def test_without_an_event_bit_0_of_the_flags_asks_for_silence_and_no_other_does(flags, wanted):
    assert not_suppressed(flags, 1) is wanted
    assert not_suppressed(flags, 65536) is wanted
    assert not_suppressed(flags, 0) is False


def test_an_event_of_0_is_reached_by_the_first_entry_and_then_once_in_65536():
    reached = [number for number in range(1, 65536 * 2 + 2) if event_reached(0, number & 0xFFFF, 1)]
    assert reached == [1, 65537, 131073]


def test_an_event_of_4_is_reached_by_the_fifth_entry_and_then_once_in_65536():
    """Q10: of the counters 0 to 65547 only 5 and 65541."""
    reached = [number for number in range(65548) if event_reached(4, number & 0xFFFF, 1)]
    assert reached == [5, 65541]


# -- packed ------------------------------------------------------------------------------------------

#: Size 4: (event offset, its wrap, next slot, wrap there, slots passed): whether to notify.
PACKED_EVENTS = {
    (0, 1, 1, 1, 1): True,
    (0, 1, 2, 1, 1): False,
    (3, 1, 0, 0, 1): True,
    (3, 1, 1, 0, 2): True,
    (3, 1, 1, 0, 1): False,
    (0, 0, 1, 0, 2): True,
}


def packed_answer(
    event: int, event_wrap: int, slot: int, wrap: int, count: int, *, size: int = 4, **others: object
) -> bool:
    settings = {"flags": 2, "event_idx": True, **others}
    return notify_after_packed(
        offset_and_wrap=event | event_wrap << 15,
        next_index=slot,
        wrap=wrap,
        size=size,
        count=count,
        **settings,
    )


@pytest.mark.parametrize("event, event_wrap, slot, wrap, count", PACKED_EVENTS)
def test_a_packed_event_is_reached_when_its_slot_was_passed(event, event_wrap, slot, wrap, count):
    wanted = PACKED_EVENTS[event, event_wrap, slot, wrap, count]
    assert packed_answer(event, event_wrap, slot, wrap, count) is wanted
    # The same one round later: both wrap counters turned over.
    assert packed_answer(event, event_wrap ^ 1, slot, wrap ^ 1, count) is wanted


@pytest.mark.parametrize(
    "flags, event_idx, wanted",
    [
        (0, False, True),
        (0, True, True),
        (1, False, False),
        (1, True, False),
        # A wish for an event without the feature is none.
        (2, False, True),
        (2, True, False),
        # The reserved value is no wish either.
        (3, False, True),
        (3, True, True),
        # Only two bits are flags.
        (0xFFFC, True, True),
        (0xFFFD, True, False),
        (0xFFFE, True, False),
    ],
)
def test_the_flags_of_a_packed_queue_say_always_never_or_at_a_slot(flags, event_idx, wanted):
    # The event, slot 0, was passed long ago: only the flags can make it a yes.
    assert packed_answer(0, 1, 3, 1, 1, flags=flags, event_idx=event_idx) is wanted


@pytest.mark.parametrize("flags", range(4))
@pytest.mark.parametrize("event_idx", [False, True])
def test_without_new_slots_there_is_no_notification(flags, event_idx):
    assert not packed_answer(0, 1, 1, 1, 0, flags=flags, event_idx=event_idx)


@pytest.mark.parametrize("count", [65536, 65537, 200000])
@pytest.mark.parametrize("offset_and_wrap", [0, 3, 0x8000, 0x8003, 0x7FFF, 0xFFFF])
def test_after_65536_slots_the_answer_is_always_yes(count, offset_and_wrap):
    assert notify_after_packed(
        flags=2,
        offset_and_wrap=offset_and_wrap,
        event_idx=True,
        next_index=2,
        wrap=1,
        size=4,
        count=count,
    )


# -- oracles -----------------------------------------------------------------------------------------


def split_oracle(event: int, old: int, count: int) -> bool:
    """Put entries into the ring one by one and see whether `event` is one of them."""
    return any((old + entry) % 65536 == event for entry in range(count))


def packed_oracle(event: int, event_wrap: int, slot: int, wrap: int, count: int, size: int) -> bool:
    """Pass slots one by one, turning the wrap counter over behind the last."""
    for _ in range(count):
        if (slot, wrap) == (event, event_wrap):
            return True
        slot += 1
        if slot == size:
            slot, wrap = 0, 1 - wrap
    return False


@known_bug("V11")
@settings(max_examples=200, deadline=None)
@given(
    old=sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFF0, 0xFFFE, 0xFFFF]) | integers(0, 0xFFFF),
    ahead=integers(-3, 70),
    count=integers(0, 64) | sampled_from([32768, 65535, 65536, 65537]),
)
def test_a_split_event_is_reached_exactly_when_counting_finds_it(old, ahead, count):
    event, new = (old + ahead) & 0xFFFF, (old + count) & 0xFFFF
    wanted = split_oracle(event, old, count)
    assert event_reached(event, new, count) is wanted


@settings(max_examples=200, deadline=None)
@given(
    size=integers(1, 9) | sampled_from([16, 32767, 32768]),
    start=integers(0, 65535),
    ahead=integers(-9, 20),
    wanted_count=integers(0, 18) | sampled_from([32766, 32767, 32768]),
)
def test_a_packed_event_is_reached_exactly_when_passing_slots_finds_it(size, start, ahead, wanted_count):
    """Up to a round of the ring at once: no more is published before the other side looks again."""
    old_position, count = start % (2 * size), min(wanted_count, size)

    def place(position: int) -> tuple[int, int]:
        position %= 2 * size
        return position % size, 1 - position // size

    event, event_wrap = place(old_position + ahead)
    slot, wrap = place(old_position + count)
    assert packed_answer(event, event_wrap, slot, wrap, count, size=size) is packed_oracle(
        event, event_wrap, *place(old_position), count, size
    )


@settings(max_examples=100, deadline=None)
@given(size=integers(1, 9), start=integers(0, 17), count=integers(0, 70000), back=integers(1, 9))
def test_a_slot_passed_within_the_last_round_is_a_yes_however_many_went_before(size, start, count, back):
    back = min(back, size, count)
    if not back:
        return
    position = start % (2 * size)
    event = (position - back) % (2 * size)
    assert packed_answer(
        event % size, 1 - event // size, position % size, 1 - position // size, count, size=size
    )


# -- the same from a real driver, across from a device written by hand -------------------------------


@settings(max_examples=60, deadline=None)
@given(
    packed=booleans(),
    start=integers(0, 15) | sampled_from([0x7FFE, 0xFFF8, 0xFFFF]),
    ahead=integers(-3, 10),
    before=integers(0, 8),
    count=integers(0, 8),
    each=integers(1, 3),
)
def test_a_driver_notifies_exactly_when_it_passes_the_event_of_the_device(
    packed, start, ahead, before, count, each
):
    """An entry is a head in a split queue, whatever hangs on it, and a slot in a packed one."""
    size = 8
    if packed:
        start = start % size | (start & 8) << 12
    features = VERSION_1 | EVENT_IDX | (PACKED if packed else 0)
    queue = Virtqueue(GuestMemory([(0, bytearray(4096))]), size, features, start=start)
    device = HandDevice.of(queue, start)

    def prepare(place, add_descriptor):
        for _ in range(each):
            add_descriptor(0, 1)

    for _ in range(min(before, size // each)):
        queue.add_request(prepare)
    queue.avail_notif_needed()
    for offered in device.available():
        device.give_back(offered.head)
    assert len(list(queue.completions())) == min(before, size // each)
    at = device.next
    count = min(count, size // each)
    if packed:
        position = (at & 7) + (8 if at < 0x8000 else 0) + ahead
        event, event_wrap = position % 8, 1 - position // 8 % 2
        device.set_device_event(event | event_wrap << 15, 2)
        wanted = packed_oracle(event, event_wrap, at & 7, at >> 15, count * each, size)
    else:
        event = (at + ahead) & 0xFFFF
        device.set_avail_event(event)
        wanted = split_oracle(event, at, count)
    for _ in range(count):
        queue.add_request(prepare)
    assert queue.avail_notif_needed() is wanted
    # What was counted once is not counted again.
    assert queue.avail_notif_needed() is False
