"""A device's queue as it is reset, stopped, saved and restored.

Q26, Q33 and Q34 are rows of the behaviour that rust-vmm's virtio-queue has tests for.  That one's
state knows nothing of the chains that the device has; this one's does.

Seen to fail with: a reset that leaves addresses, size, `ready` or held chains; held chains lost by a
stop; next_used, size or held chains restored unchecked; positions counted modulo the ring alone; the
notification forgotten that an earlier owner owed.

Sources: rust-vmm virtio-queue 0.18, QueueState and its tests; OpenVMM's saved state of its queues;
OASIS VIRTIO 1.2, section 2.6.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.known_bugs import known_bug
from tests.virtio.by_hand import (
    AREAS,
    BUFFERS,
    EVENT_IDX,
    FORMATS,
    INDIRECT_DESC,
    MEMORY_SIZE,
    PACKED,
    TABLES,
    VERSION_1,
    WRITE,
    HandDriver,
    device_by_hand,
    new_memory,
)
from vmbus.errors import CallerError, PeerError
from vmbus.virtio import DeviceQueue, HeldChain, QueueAreas, QueueState, Tolerance, VirtqueueFault

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

ONE_BYTE = (BUFFERS, 1, WRITE)


def features_of(packed: bool) -> int:
    return VERSION_1 | (PACKED if packed else 0)


def restored(device: DeviceQueue, **settings: Any) -> DeviceQueue:
    """Another queue that goes on where this one is; the state goes through bytes on its way."""
    state = pickle.loads(pickle.dumps(device.state()))
    return DeviceQueue.from_state(device.memory, state, **settings)


# -- reset -------------------------------------------------------------------------------------------


@known_bug("V13")
@both_formats
def test_a_reset_leaves_nothing_of_the_driver(packed):  # Q33
    driver, device = device_by_hand(packed, 8, EVENT_IDX | INDIRECT_DESC, max_size=16)
    for _ in range(4):
        driver.offer(ONE_BYTE)
    chains = list(device)
    for chain in chains[:2]:
        device.add_used(chain.head_index, 1)
    first = 0x8000 if packed else 0
    assert (device.next_avail, device.next_used) == (first + 4, first + 2)
    device.reset()
    assert (device.size, device.max_size, device.ready, device.is_valid()) == (16, 16, False, False)
    assert device.areas == QueueAreas(0, 0, 0)
    assert (device.next_avail, device.next_used, device.state().held) == (0, 0, ())
    assert int(device.features) == VERSION_1
    with pytest.raises(CallerError, match="not ready"):
        device.add_used(chains[2].head_index, 1)

    # It owes no notification, and its former chains are not its own.
    device.features = features_of(packed)
    device.set_size(8)
    device.set_up(QueueAreas(*AREAS))
    assert device.needs_notification() is False
    with pytest.raises(CallerError, match="none of the 0"):
        device.add_used(chains[2].head_index, 1)


@known_bug("V13")
@pytest.mark.parametrize("max_size", [1, 3, 10, 16])
def test_a_packed_queue_of_any_size_can_be_reset_and_used_again(max_size):
    _, device = device_by_hand(packed=True, size=max_size)
    device.reset()
    assert not device.ready
    device.features = features_of(packed=True)
    device.memory.write(0, bytes(MEMORY_SIZE))
    device.set_up(QueueAreas(*AREAS))
    driver = HandDriver(device.memory, AREAS, max_size, packed=True)
    assert device.size == max_size
    assert driver.offer(ONE_BYTE) == device.pop_descriptor_chain().head_index


# -- stopping and going on ------------------------------------------------------------------------------


@both_formats
def test_a_queue_that_is_stopped_goes_on_where_it_stood(packed):
    driver, device = device_by_hand(packed)
    heads = [driver.offer(ONE_BYTE) for _ in range(4)]
    assert [device.pop_descriptor_chain().head_index for _ in range(3)] == heads[:3]
    device.add_used(heads[1], 1)
    before = device.state()
    device.set_ready(False)
    assert device.state() == before._replace(ready=False)
    device.set_ready(False)  # once more says nothing new
    assert device.state() == before._replace(ready=False)
    device.set_ready(True)
    device.set_ready(True)
    assert device.state() == before
    assert [chain.head_index for chain in device] == heads[3:]
    for head in (heads[0], heads[3], heads[2]):
        device.add_used(head, 1)
    assert driver.used() == [(heads[number], 1) for number in (1, 0, 3, 2)]


@both_formats
def test_stopping_forgets_what_the_driver_did_wrong(packed):
    driver, device = device_by_hand(packed)
    place = driver.next
    driver.offer(ONE_BYTE, (BUFFERS, 1, 0))
    with pytest.raises(PeerError):
        device.pop_descriptor_chain()
    device.set_ready(False)
    device.set_ready(True)
    with pytest.raises(PeerError):  # it looks again, and finds the same
        device.pop_descriptor_chain()
    device.set_ready(False)
    driver.next, driver.next_descriptor = place, 0
    driver.offer(ONE_BYTE, ONE_BYTE)
    driver.set_avail_idx(1 if not packed else driver.driver_event[1])
    device.set_ready(True)
    assert device.pop_descriptor_chain().writable_bytes == 2


@both_formats
def test_setting_the_features_puts_a_queue_back_to_its_start(packed):
    driver, device = device_by_hand(packed)
    driver.offer(ONE_BYTE)
    device.pop_descriptor_chain()
    device.set_ready(False)
    device.features = features_of(not packed)
    first = 0 if packed else 0x8000
    assert (device.next_avail, device.next_used, device.state().held) == (first, first, ())


@both_formats
def test_in_order_queues_are_not_built(packed):
    device = DeviceQueue(new_memory(), 16, features_of(packed))
    with pytest.raises(CallerError, match="IN_ORDER"):
        device.features = features_of(packed) | 1 << 35
    assert int(device.features) == features_of(packed)
    with pytest.raises(CallerError, match="IN_ORDER"):
        DeviceQueue(new_memory(), 16, features_of(packed) | 1 << 35)


@pytest.mark.parametrize(
    ("packed", "start"), [(False, 0x10000), (False, -1), (True, 16), (True, 0x8010), (True, 0x10000)]
)
def test_a_start_that_cannot_be_is_refused_and_leaves_no_trace(packed, start):
    device = DeviceQueue(new_memory(), 16, features_of(packed))
    with pytest.raises(CallerError):
        device.set_up(QueueAreas(*AREAS), start=start)
    assert not device.ready
    device.set_up(QueueAreas(*AREAS))
    assert device.next_avail == device.next_used == (0x8000 if packed else 0)
    assert device.pop_descriptor_chain() is None


# -- saving and restoring ------------------------------------------------------------------------------


@both_formats
def test_a_fresh_queue_is_restored_as_it_was(packed):  # Q34
    device = DeviceQueue(new_memory(), 16, features_of(packed))
    first = 0x8000 if packed else 0
    assert device.state() == QueueState(16, 16, False, features_of(packed), 0, 0, 0, first, first, ())
    assert restored(device).state() == device.state()


GARBAGE: list[tuple[str, int]] = [
    ("max_size", 0),
    ("max_size", 65535),
    ("max_size", 15),
    ("size", 0),
    ("size", 65535),
    ("size", 15),
    ("size", 32),
    ("desc_table", 0xF),
    ("avail_ring", 1),
    ("used_ring", 3),
    ("desc_table", 2**64),
    ("next_avail", 0x10000),
    ("next_avail", -1),
    ("next_used", 0x10000),
    ("next_avail", 17),  # further ahead of next_used than the queue is long
    ("next_used", 1),  # ahead of next_avail
    ("features", VERSION_1 | 1 << 35),
]


@known_bug("V08")
@pytest.mark.parametrize(("field", "value"), GARBAGE)
@pytest.mark.parametrize("ready", [False, True])
def test_a_state_that_no_split_queue_can_have_is_refused(field, value, ready):  # Q26, Q34
    _, device = device_by_hand()
    state = device.state()._replace(ready=ready, **{field: value})
    with pytest.raises(CallerError):
        DeviceQueue.from_state(device.memory, state).set_ready(True)


@known_bug("V08")
def test_a_state_full_of_garbage_is_refused_and_divides_by_nothing():  # Q26
    state = QueueState(38, 0, False, VERSION_1, 0x0123_4567, 0x89AB_CDEF, 0x1357_9BDF, 0xFEDC, 0xBA98)
    with pytest.raises(CallerError):
        DeviceQueue.from_state(new_memory(), state)
    with pytest.raises(CallerError):
        DeviceQueue.from_state(new_memory(), state._replace(max_size=64))


@both_formats
def test_a_state_whose_areas_are_not_in_memory_is_kept_and_not_valid(packed):
    driver, device = device_by_hand(packed)
    heads = [driver.offer(ONE_BYTE) for _ in range(2)]
    list(device)
    state = device.state()._replace(used_ring=MEMORY_SIZE)
    elsewhere = DeviceQueue.from_state(device.memory, state)
    assert elsewhere.ready and not elsewhere.is_valid()
    assert elsewhere.state() == state
    with pytest.raises(PeerError) as caught:
        elsewhere.add_used(heads[0], 1)
    assert caught.value.kind is VirtqueueFault.AREA_OUTSIDE_MEMORY


@known_bug("V13")
@both_formats
@given(
    work=some.lists(some.tuples(some.integers(1, 3), some.sampled_from("ttgb")), max_size=40),
    start=some.integers(0, 0xFFFF),
)
@settings(deadline=None, derandomize=True, database=None, max_examples=60)
def test_a_queue_may_move_at_any_moment(packed, work, start):
    """Between two steps the device is saved and restored; the model is what each side must see.

    t takes a chain, g gives the oldest back, b the newest; before each a chain is offered where there
    is room.
    """
    size = 8
    start = (start % size) | (start & 0x8000) if packed else start
    driver, device = device_by_hand(packed, size, start=start)
    waiting: list[tuple[int, int]] = []
    held: list[tuple[int, int]] = []
    expected: list[tuple[int, int]] = []
    ids = list(range(size))
    for count, step in work:
        if ids and sum(slots for _, slots in waiting + held) + count <= size:
            if packed:
                head = driver.offer(*[ONE_BYTE] * count, buffer_id=ids.pop())
            else:
                head = ids.pop()
                driver.descriptor(head, *ONE_BYTE)
                driver.push(head)
                count = 1
            waiting.append((head, count))
        if step == "t" and waiting:
            chain = device.pop_descriptor_chain()
            assert chain is not None and chain.head_index == waiting[0][0]
            held.append(waiting.pop(0))
        elif step in "gb" and held:
            head, _ = held.pop(0 if step == "g" else -1)
            device.add_used(head, 1)
            assert device.needs_notification() is True
            expected.append((head, 1))
            ids.append(head)
            assert driver.used() == expected[-1:]
        device = restored(device)
    assert [head for head, _ in device.state().held] == [head for head, _ in held]
    assert [chain.head_index for chain in device] == [head for head, _ in waiting]


@known_bug("V13")
@both_formats
def test_the_last_chain_can_be_taken_again_after_a_move(packed):
    driver, device = device_by_hand(packed)
    heads = [driver.offer(ONE_BYTE, ONE_BYTE) for _ in range(3)]
    list(device)
    device = restored(device)
    device.go_to_previous_position()
    assert [chain.head_index for chain in device] == heads[2:]


@known_bug("V13")
@both_formats
def test_a_restored_queue_knows_how_much_may_be_written_to_each_chain(packed):
    driver, device = device_by_hand(packed)
    head = driver.offer((BUFFERS, 100, 0), (BUFFERS, 10, WRITE))
    device.pop_descriptor_chain()
    device = restored(device)
    with pytest.raises(CallerError) as caught:
        device.add_used(head, 11)
    assert caught.value.limit == 10
    device.add_used(head, 10)
    assert driver.used() == [(head, 10)]


@known_bug("V12", "V13")
@both_formats
@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["flags", "event index"])
@pytest.mark.parametrize("silent", [False, True], ids=["", "silent"])
@pytest.mark.parametrize("moves", [False, True], ids=["stopped", "restored"])
def test_a_notification_that_is_owed_is_still_owed_after_a_stop(packed, features, silent, moves):
    """Given back, and nobody asked yet whether to notify: the driver may sleep on it for ever.

    (QEMU notifies with the first decision after a restore.)  One too many does no harm, and with
    event indices a split driver has no other way to ask for silence than an event far away.
    """
    driver, device = device_by_hand(packed, features=features)
    if packed:
        driver.set_driver_event(0x8000, 1 if silent else 2)
    else:
        driver.set_avail_flags(int(silent))
    driver.offer(ONE_BYTE)
    device.add_used(device.pop_descriptor_chain().head_index, 1)
    if moves:
        device = restored(device)
    else:
        device.set_ready(False)
        device.set_ready(True)
    heeded = silent and (packed or not features)  # with event indices the flags of a split queue are void
    assert device.needs_notification() is not heeded
    assert device.needs_notification() is False


@known_bug("V13")
def test_a_split_state_may_leave_out_the_chains_that_are_held():
    """As other devices save it: two indices."""
    driver, device = device_by_hand()
    heads = [driver.offer(ONE_BYTE) for _ in range(3)]
    list(device)
    device = DeviceQueue.from_state(device.memory, device.state()._replace(held=()))
    for head in heads[:2]:
        device.add_used(head, 0x1234_5678)
    for wrong in ((16, 0), (-1, 0), (0, -1), (0, 1 << 32)):
        with pytest.raises(CallerError):
            device.add_used(*wrong)
    device.add_used(heads[2], 1)
    assert driver.used() == [(heads[0], 0x1234_5678), (heads[1], 0x1234_5678), (heads[2], 1)]
    with pytest.raises(CallerError, match="none of the 0"):
        device.add_used(heads[0], 0)


@known_bug("V13")
def test_a_packed_state_must_not_leave_out_the_chains_that_are_held():
    """How many slots each takes is nowhere else: they could never be given back."""
    driver, device = device_by_hand(packed=True)
    driver.offer(ONE_BYTE, ONE_BYTE)
    list(device)
    state = device.state()
    for held in ((), ((0, HeldChain(1, 2)),), ((0, HeldChain(3, 2)),)):
        with pytest.raises(CallerError):
            DeviceQueue.from_state(device.memory, state._replace(held=held))


BROKEN_HELD: list[tuple[str, tuple[tuple[int, HeldChain], ...]]] = [
    (
        "more than lie between the indices",
        ((0, HeldChain(1, 1)), (1, HeldChain(1, 1)), (2, HeldChain(1, 1))),
    ),
    ("two entries for one split chain", ((0, HeldChain(2, 1)),)),
    ("no entry for a chain", ((0, HeldChain(0, 1)),)),
    ("less than no entries", ((0, HeldChain(-3, 1)),)),
    ("a head outside the table", ((16, HeldChain(1, 1)),)),
    ("a negative head", ((-1, HeldChain(1, 1)),)),
    ("the same head twice", ((0, HeldChain(1, 1)), (0, HeldChain(1, 1)))),
    ("less than no bytes", ((0, HeldChain(1, -1)),)),
    ("more bytes than 32 bits count", ((0, HeldChain(1, 1 << 32)),)),
    ("taken after the last one", ((0, HeldChain(1, 1, 0)),)),
]


@known_bug("V03", "V13")
@pytest.mark.parametrize("held", [held for _, held in BROKEN_HELD], ids=[name for name, _ in BROKEN_HELD])
def test_a_state_with_chains_that_cannot_be_held_is_refused(held):
    driver, device = device_by_hand()
    for _ in range(2):
        driver.offer(ONE_BYTE)
    list(device)
    state = device.state()
    assert DeviceQueue.from_state(device.memory, state).state() == state
    with pytest.raises(CallerError):
        DeviceQueue.from_state(device.memory, state._replace(held=held))


@both_formats
def test_the_devices_own_settings_are_given_again_when_it_is_restored(packed):
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    driver.offer(ONE_BYTE, (BUFFERS, 1, 0))
    driver.offer(*[ONE_BYTE] * 3)
    device = restored(device, tolerated=Tolerance.READABLE_AFTER_WRITABLE, longest_chain=2)
    assert len(device.pop_descriptor_chain().descriptors) == 2
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert caught.value.kind is VirtqueueFault.CHAIN_TOO_LONG
    assert caught.value.allowed == 2


@both_formats
def test_features_are_kept_over_a_move(packed):
    driver, device = device_by_hand(packed, features=INDIRECT_DESC | EVENT_IDX)
    driver.offer_table(TABLES, driver.table(TABLES, (BUFFERS, 5, WRITE, 0)))
    moved = restored(device)
    assert moved.features == device.features
    assert moved.pop_descriptor_chain().writable_bytes == 5
    moved.enable_notification()
    assert (driver.device_event if packed else driver.avail_event) == ((0x8001, 2) if packed else 1)
