"""What is peculiar to the device's side of a packed queue: wrap counters, lists of slots, events.

Everything that both formats have in common is in test_device_queue.py.

Seen to fail with: a wrap one slot late, or that does not turn the counter; an available flag alone
taken for availability; the id of the first slot; slots in flight counted as lists; WRITE in a used
slot, or the flags of another lap; the flags stored before the rest; the event after its flags, without
its wrap counter, or DESC in place of DISABLE; an event of the lap before taken for one of this.

Sources: OASIS VIRTIO 1.2, sections 2.8.1 to 2.8.14; OpenVMM's and QEMU's packed queues, where they
differ from each other.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.known_bugs import known_bug
from tests.virtio.by_hand import (
    AREAS,
    AVAILABLE,
    BUFFERS,
    EVENT_IDX,
    INDIRECT_DESC,
    MEMORY_SIZE,
    NEXT,
    PACKED,
    TABLES,
    USED,
    VERSION_1,
    WRITE,
    HandDriver,
    device_by_hand,
    moved,
    new_memory,
)
from vmbus.errors import CallerError
from vmbus.memory import GuestMemory
from vmbus.memory.barrier import Fences
from vmbus.virtio import DeviceQueue, HeldChain, QueueState
from vmbus.virtio.packed_ring import distance

ONE_BYTE = (BUFFERS, 1, WRITE)


def use_list(driver: HandDriver, device: DeviceQueue, slots: int, buffer_id: int | None = None) -> list[int]:
    """Offer a list, take it and give it back; its slots as the device saw them."""
    list_id = driver.offer(*[ONE_BYTE] * slots, buffer_id=buffer_id)
    chain = device.pop_descriptor_chain()
    assert chain is not None and chain.head_index == list_id
    device.add_used(list_id, slots)
    assert driver.used() == [(list_id, slots)]
    return [descriptor.number for descriptor in chain.descriptors]


# -- what is available ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0x8000, 0x0000, 0x8003, 0x0003])
@pytest.mark.parametrize("flags", [0, AVAILABLE, USED, AVAILABLE | USED])
def test_a_slot_is_available_when_one_flag_equals_the_wrap_counter_and_the_other_does_not(start, flags):
    driver, device = device_by_hand(packed=True, size=4, start=start)
    driver.slot(start & 3, BUFFERS, 8, flags, 7)
    wanted = AVAILABLE if start & 0x8000 else USED
    chain = device.pop_descriptor_chain()
    assert (chain is not None) is (flags == wanted)
    assert device.enable_notification() is False or chain is None


@pytest.mark.parametrize("start", [0x8000, 0x0000])
def test_zeroed_memory_offers_nothing(start):
    _, device = device_by_hand(packed=True, start=start)
    assert device.pop_descriptor_chain() is None
    assert device.enable_notification() is False


def test_what_was_used_in_one_lap_is_not_available_in_the_next():
    driver, device = device_by_hand(packed=True, size=2)
    for _ in range(9):
        use_list(driver, device, 1)
        assert device.pop_descriptor_chain() is None


# -- lists ---------------------------------------------------------------------------------------------


@known_bug("V05")
@pytest.mark.parametrize(
    ("size", "start", "slots"),
    [(4, 2, [2, 3, 0]), (6, 4, [4, 5, 0]), (3, 2, [2, 0, 1]), (1, 0, [0]), (5, 4, [4, 0])],
)
@pytest.mark.parametrize("wrap", [0x8000, 0])
def test_a_list_goes_on_at_slot_0(size, start, slots, wrap):
    driver, device = device_by_hand(packed=True, size=size, start=start | wrap)
    assert use_list(driver, device, len(slots)) == slots
    after = (start + len(slots)) % size | wrap ^ 0x8000
    assert device.next_avail == device.next_used == after


@known_bug("V04")
@pytest.mark.parametrize("size", [1, 2, 5, 16])
@pytest.mark.parametrize("wrap", [0x8000, 0])
def test_a_list_as_long_as_the_ring_turns_both_wrap_counters(size, wrap):
    for start in range(size):
        driver, device = device_by_hand(packed=True, size=size, start=start | wrap)
        for lap in range(1, 4):
            use_list(driver, device, size)
            expected = start | wrap ^ (0x8000 if lap % 2 else 0)
            assert (device.next_avail, device.next_used) == (expected, expected)


@known_bug("V04")
def test_a_full_ring_is_told_from_an_empty_one():
    driver, device = device_by_hand(packed=True, size=4)
    list_id = driver.offer(*[ONE_BYTE] * 4)
    assert device.pop_descriptor_chain().head_index == list_id
    assert (device.next_avail, device.next_used) == (0x0000, 0x8000)
    assert device.pop_descriptor_chain() is None
    assert device.enable_notification() is False
    device.add_used(list_id, 4)
    assert (device.next_avail, device.next_used) == (0x0000, 0x0000)


@pytest.mark.parametrize("buffer_id", [0, 3, 16, 0x7FFF, 0xFFFF])
def test_the_id_of_a_list_is_in_its_last_slot_and_any_16_bits(buffer_id):
    driver, device = device_by_hand(packed=True)
    use_list(driver, device, 3, buffer_id)  # the other slots of the list say 0xDEAD
    use_list(driver, device, 1, buffer_id)


def test_slots_behind_the_first_are_part_of_the_list_whatever_their_wrap_flags_say():
    """Only the first slot's flags are published last: the others are looked at for NEXT and WRITE."""
    driver, device = device_by_hand(packed=True)
    driver.slot(1, BUFFERS, 8, WRITE | AVAILABLE | USED, 5)
    driver.slot(0, BUFFERS, 8, NEXT | AVAILABLE, 0)
    chain = device.pop_descriptor_chain()
    assert (chain.head_index, chain.readable_bytes, chain.writable_bytes) == (5, 8, 8)


def test_lists_given_back_out_of_order_are_written_where_the_next_used_slot_is():
    driver, device = device_by_hand(packed=True, size=8)
    ids = [driver.offer(*[ONE_BYTE] * count, buffer_id=20 + count) for count in (1, 2, 3)]
    assert [chain.head_index for chain in device] == ids
    places = []
    for list_id in (ids[2], ids[0], ids[1]):
        places.append(device.next_used)
        device.add_used(list_id, 1)
        assert driver.read_descriptor(places[-1] & 0x7FFF)[1:] == (1, list_id, AVAILABLE | USED | WRITE)
    assert places == [0x8000, 0x8003, 0x8004]
    assert device.next_used == 0x8006


@given(
    size=some.integers(1, 9),
    start=some.integers(0, 8),
    wrap=some.booleans(),
    counts=some.lists(some.integers(1, 9), max_size=20),
    newest=some.lists(some.booleans(), min_size=20, max_size=20),
)
@settings(deadline=None, derandomize=True, database=None, max_examples=150)
def test_positions_count_slots_whatever_lists_there_are(size, start, wrap, counts, newest):
    """The oracle is one number for each side that only grows: slots since the ring began."""
    begin = start % size | (0x8000 if wrap else 0)
    driver, device = device_by_hand(packed=True, size=size, start=begin)
    taken = used = 0
    held: list[tuple[int, int]] = []
    ids = list(range(size))
    for count, last in zip(counts, newest, strict=False):
        count = min(count, size)
        while taken - used + count > size:
            list_id, slots = held.pop(-1 if last else 0)
            device.add_used(list_id, slots)
            used += slots
            ids.append(list_id)
            assert driver.used() == [(list_id, slots)]
        list_id = driver.offer(*[ONE_BYTE] * count, buffer_id=ids.pop(0))
        assert device.pop_descriptor_chain().head_index == list_id
        held.append((list_id, count))
        taken += count
        assert device.next_avail == moved(begin, taken, size)
        assert device.next_used == moved(begin, used, size)
        assert device.pop_descriptor_chain() is None


# -- used slots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "flags"), [(0x8000, 0x8082), (0x0000, 0x0002)])
@pytest.mark.parametrize("indirect", [False, True], ids=["buffers", "table"])
def test_a_used_slot_keeps_its_address_and_says_by_write_that_its_length_is_one(start, flags, indirect):
    # QEMU keeps the address as well, and OpenVMM clears it; neither says WRITE.
    driver, device = device_by_hand(packed=True, features=INDIRECT_DESC, start=start)
    if indirect:
        list_id = driver.offer_table(
            TABLES, driver.table(TABLES, (BUFFERS, 0x20, WRITE, 0)), buffer_id=0x0102
        )
        address = TABLES
    else:
        list_id = driver.offer((BUFFERS, 0x10, WRITE), (BUFFERS, 0x10, WRITE), buffer_id=0x0102)
        address = BUFFERS
    device.pop_descriptor_chain()
    before = driver.memory.read(0, MEMORY_SIZE)
    device.add_used(list_id, 0x1F)
    after = driver.memory.read(0, MEMORY_SIZE)
    assert driver.read_descriptor(0) == (address, 0x1F, 0x0102, flags)
    changed = [place for place in range(MEMORY_SIZE) if before[place] != after[place]]
    assert changed and {place - AREAS.table for place in changed} <= set(range(8, 16))


# -- notifications asked of the driver -----------------------------------------------------------------


def test_without_event_indices_the_flags_alone_ask_for_notifications():
    driver, device = device_by_hand(packed=True)
    driver.set_word(AREAS.device, 0x1234)
    use_list(driver, device, 3)
    seen = []
    for switch in (device.enable_notification, device.disable_notification, device.enable_notification):
        switch()
        seen.append(driver.device_event)
    assert seen == [(0x1234, 0), (0x1234, 1), (0x1234, 0)]


@pytest.mark.parametrize("used", range(9))
def test_with_event_indices_the_event_is_the_next_slot_and_its_wrap_counter(used):
    driver, device = device_by_hand(packed=True, size=4, features=EVENT_IDX)
    for _ in range(used):
        use_list(driver, device, 1)
    device.disable_notification()
    assert driver.device_event[1] == 1
    assert device.enable_notification() is False
    assert driver.device_event == (moved(0x8000, used, 4), 2)
    driver.offer(ONE_BYTE)
    assert device.enable_notification() is True


def test_the_event_is_stored_before_the_flags_that_make_it_count():
    """Between the two is a release fence; in between the driver is still to be silent."""
    seen: list[Any] = []
    fences = Fences(bool, lambda: seen.append(driver.device_event), bool, "a driver that looks")
    memory = GuestMemory([(0, bytearray(MEMORY_SIZE))], fences=fences)
    driver, device = device_by_hand(packed=True, features=EVENT_IDX, memory=memory)
    use_list(driver, device, 5)
    device.disable_notification()
    seen.clear()
    device.enable_notification()
    assert seen == [(0x8005, 1)]
    assert driver.device_event == (0x8005, 2)


def test_a_used_slot_is_whole_before_its_flags_say_so():
    seen: list[Any] = []
    fences = Fences(bool, lambda: seen.append(driver.read_descriptor(0)), bool, "a driver that looks")
    memory = GuestMemory([(0, bytearray(MEMORY_SIZE))], fences=fences)
    driver, device = device_by_hand(packed=True, memory=memory)
    list_id = driver.offer(ONE_BYTE, buffer_id=9)
    device.pop_descriptor_chain()
    seen.clear()
    device.add_used(list_id, 1)
    assert seen == [(BUFFERS, 1, 9, WRITE | AVAILABLE)]
    assert driver.read_descriptor(0) == (BUFFERS, 1, 9, AVAILABLE | USED | WRITE)


def test_a_used_slot_without_a_length_has_no_flag_but_the_two():
    driver, device = device_by_hand(packed=True)
    list_id = driver.offer((BUFFERS, 1, 0), buffer_id=9)
    device.pop_descriptor_chain()
    device.add_used(list_id)
    assert driver.read_descriptor(0) == (BUFFERS, 0, 9, AVAILABLE | USED)


@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["flags", "event index"])
@pytest.mark.parametrize(("late", "passes"), [(0, 1), (1, 2)])
def test_the_loop_that_enables_before_it_sleeps_misses_no_list(features, late, passes):  # Q16, Q17
    driver, device = device_by_hand(packed=True, size=8, features=features, start=0x8006)
    for count in (2, 3):
        driver.offer(*[ONE_BYTE] * count)
    done = 0
    while True:
        done += 1
        device.disable_notification()
        for chain in device:
            device.add_used(chain.head_index, 1)
        for _ in range(late):
            driver.offer(ONE_BYTE)
        late = 0
        if not device.enable_notification():
            break
    assert done == passes
    assert device.next_avail == device.next_used == driver.next


# -- notifications asked by the driver -----------------------------------------------------------------

DECISIONS = [
    # (event index negotiated, offset and wrap, flags, slots used before, slots used now, notify)
    (False, 0, 0, 0, 1, True),
    (False, 0, 1, 0, 1, False),
    (False, 0x8003, 2, 0, 1, True),  # nothing to wait for without the feature
    (False, 0, 3, 0, 1, True),
    (True, 0, 0, 0, 1, True),
    (True, 0x8000, 1, 0, 1, False),
    (True, 0x8000, 2, 0, 1, True),
    (True, 0x8000, 2, 0, 3, True),
    (True, 0x8000, 2, 1, 1, False),
    (True, 0x8001, 2, 0, 1, False),
    (True, 0x8001, 2, 0, 2, True),
    (True, 0x8001, 2, 0, 3, True),  # the event is inside the list
    (True, 0x8003, 2, 3, 1, True),  # the last slot of the lap: the ring has turned when it is asked
    (True, 0x8003, 2, 3, 2, True),
    (True, 0x8003, 2, 2, 1, False),
    (True, 0x0003, 2, 3, 1, False),  # the same slot, a lap later
    (True, 0x0000, 2, 3, 2, True),
    (True, 0x0000, 2, 3, 1, False),
    (True, 0x0000, 2, 0, 4, False),
    (True, 0x8000, 2, 0, 4, True),  # a list as long as the ring
    (True, 0x8000, 2, 4, 4, False),
    (True, 0x0000, 2, 4, 4, True),
    (True, 0x8003, 3, 0, 1, True),  # reserved: one notification too many does no harm
]


@pytest.mark.parametrize(("event_idx", "event", "flags", "before", "now", "notify"), DECISIONS)
def test_the_driver_is_notified_as_it_asked(event_idx, event, flags, before, now, notify):
    driver, device = device_by_hand(packed=True, size=4, features=EVENT_IDX if event_idx else 0)
    for _ in range(before):
        use_list(driver, device, 1)
    device.needs_notification()
    driver.set_driver_event(event, flags)
    assert device.needs_notification() is False, "nothing has been used yet"
    use_list(driver, device, now)
    assert device.needs_notification() is notify
    assert device.needs_notification() is False


def test_an_event_comes_once_in_two_laps():
    driver, device = device_by_hand(packed=True, size=4, features=EVENT_IDX)
    driver.set_driver_event(0x8002, 2)
    answers = []
    for _ in range(32):
        use_list(driver, device, 1)
        answers.append(device.needs_notification())
    assert [number for number, answer in enumerate(answers) if answer] == [2, 10, 18, 26]


# -- positions of a saved queue --------------------------------------------------------------------------


@known_bug("V13")
@pytest.mark.parametrize(
    ("avail", "used", "in_flight"),
    [(0x8000, 0x8000, 0), (0x0003, 0x0003, 0), (0x8005, 0x8002, 3), (0x0004, 0x8004, 8), (0x0001, 0x8006, 3)],
    ids=hex,
)
def test_slots_in_flight_are_counted_from_the_two_positions(avail, used, in_flight):
    assert distance(used, avail, 8) == in_flight
    held = tuple((number, HeldChain(1, 4)) for number in range(in_flight))
    state = QueueState(8, 8, True, VERSION_1 | PACKED, *AREAS, avail, used, held)
    device = DeviceQueue.from_state(new_memory(), state)
    assert device.state() == state
    for number in reversed(range(in_flight)):
        device.add_used(number, 4)
    assert device.next_used == avail


@known_bug("V13")
@pytest.mark.parametrize(
    ("avail", "used"),
    [
        (0x8001, 0x8006),
        (0x0001, 0x0006),
        (0x8005, 0x0002),
        (0x8008, 0x8000),
        (0x8000, 0x8008),
        (0x7FFF, 0x0000),
    ],
    ids=hex,
)
def test_positions_that_cannot_be_those_of_one_ring_are_refused(avail, used):
    state = QueueState(8, 8, True, VERSION_1 | PACKED, *AREAS, avail, used)
    with pytest.raises(CallerError):
        DeviceQueue.from_state(new_memory(), state)
