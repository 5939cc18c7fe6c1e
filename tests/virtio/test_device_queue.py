"""The device's side of a virtqueue, fact by fact, across from a driver written by hand.

The rows Q1 to Q32 and K1, K2 are the behaviour that rust-vmm's virtio-queue has tests or proofs for
(Q26, Q33 and Q34 are in test_device_state.py, R1 to R8 in test_cursors.py).  Where this device does
otherwise on purpose a comment says what that one does: it ignores a wrong setting and keeps the old
one, ends a broken chain without a word, and has no packed queue.

Seen to fail with: an index compared without its 16 bits, or one ahead too far or too little allowed;
a slot taken modulo another size; a head taken twice; lengths and heads that add_used does not check;
the used index with its bytes exchanged; a notification decided before the fence, from a count that is
not cleared or stops at 1, or in spite of NO_INTERRUPT; an event of what is known in place of what is
taken; the recheck before the fence; a store with every pop; a pass over the chains without an end.

Sources: OASIS VIRTIO 1.2, sections 2.7 and 2.8; rust-vmm virtio-queue 0.18, Queue and its tests.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.known_bugs import known_bug
from tests.no_error import no_error
from tests.virtio.by_hand import (
    AREAS,
    BUFFERS,
    EVENT_IDX,
    FORMATS,
    INDIRECT_DESC,
    NEXT,
    PACKED,
    TABLES,
    VERSION_1,
    WRITE,
    Areas,
    HandDriver,
    device_by_hand,
    facts,
    new_memory,
)
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.memory.barrier import Fences
from vmbus.virtio import DescriptorChain, DeviceQueue, QueueAreas, Tolerance, VirtqueueFault

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

REPEATABLE = settings(deadline=None, derandomize=True, database=None, max_examples=200)

ONE_BYTE = (BUFFERS, 1, WRITE)


def unset_device(packed: bool = False, max_size: int = 16) -> DeviceQueue:
    """A device that no driver has set up."""
    return DeviceQueue(new_memory(), max_size, VERSION_1 | (PACKED if packed else 0))


def numbers(chain: DescriptorChain | None) -> list[int]:
    """The descriptors of a chain, by their place in their table."""
    assert chain is not None
    return [descriptor.number for descriptor in chain.descriptors]


def give_all_back(device: DeviceQueue) -> int:
    """Use every chain that is available, and say how many there were."""
    count = 0
    for chain in device:
        device.add_used(chain.head_index, 0)
        count += 1
    return count


# -- setting up ------------------------------------------------------------------------------------


@both_formats
def test_a_queue_is_valid_while_it_is_ready(packed):  # Q1
    _, device = device_by_hand(packed)
    seen = [device.is_valid()]
    for ready in (False, True):
        device.set_ready(ready)
        seen.append(device.is_valid())
    assert seen == [True, False, True]


@pytest.mark.parametrize(
    ("packed", "sizes", "last"),
    [(False, (32, 0, 11), 4), (True, (32, 0, 17), 11)],
    ids=["Q2 split", "Q2 packed"],
)
def test_a_size_that_cannot_be_is_refused_and_the_old_one_stays(packed, sizes, last):
    # virtio-queue logs and goes on; a packed queue need not have a power of two.
    device = unset_device(packed)
    for size in sizes:
        with pytest.raises(CallerError) as caught:
            device.set_size(size)
        assert (caught.value.argument, caught.value.value) == ("size", size)
        assert device.size == 16
    device.set_size(last)
    assert device.size == last


@pytest.mark.parametrize(
    ("packed", "setter", "area", "good", "bad"),
    [
        (False, "set_desc_table_address", "descriptor_table", 0x1000, 0xF),
        (False, "set_avail_ring_address", "driver_area", 0x2002, 0x1),
        (False, "set_used_ring_address", "device_area", 0x3004, 0x3),
        (False, "set_used_ring_address", "device_area", 0x3004, 0x2),
        (True, "set_desc_table_address", "descriptor_table", 0x1000, 0x8),
        (True, "set_avail_ring_address", "driver_area", 0x2004, 0x2),
        (True, "set_used_ring_address", "device_area", 0x3004, 0x1),
    ],
    ids=lambda value: hex(value) if type(value) is int else None,
)
def test_an_address_that_is_not_aligned_is_refused_and_the_old_one_stays(packed, setter, area, good, bad):
    # Q3; virtio-queue's plain setters ignore it, its try_ setters answer with an error.
    device = unset_device(packed)
    getattr(device, setter)(good, 0)
    with pytest.raises(CallerError) as caught:
        getattr(device, setter)(bad)
    assert (caught.value.argument, caught.value.value) == (area, bad)
    assert getattr(device.areas, area) == good


def test_half_an_address_leaves_the_other_half_and_has_32_bits():
    device = unset_device()
    device.set_desc_table_address(0x1000, 0x2)
    device.set_desc_table_address(low=0x3000)
    assert device.areas.descriptor_table == 0x2_0000_3000
    device.set_desc_table_address(high=0x5)
    assert device.areas.descriptor_table == 0x5_0000_3000
    for halves in ({"low": 1 << 32}, {"high": 1 << 32}, {"low": -16}):
        with pytest.raises(CallerError, match="32 bits"):
            device.set_desc_table_address(**halves)
    assert device.areas.descriptor_table == 0x5_0000_3000


@both_formats
def test_areas_outside_the_memory_are_taken_and_make_the_queue_invalid(packed):  # Q4
    # virtio-queue: is_valid is false and the iterator cannot be made; here the use says where.
    device = unset_device(packed)
    device.set_desc_table_address(0xFFFF_FFF0)
    device.set_avail_ring_address(0xFFFF_FFFC if packed else 0xFFFF_FFFE)
    device.set_used_ring_address(0xFFFF_FFFC)
    device.set_ready(True)
    assert device.ready and not device.is_valid()
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert caught.value.kind is VirtqueueFault.AREA_OUTSIDE_MEMORY
    assert caught.value.found == tuple(device.areas)


@both_formats
def test_areas_that_overlap_are_none_of_the_devices_business(packed):  # Q5
    device = unset_device(packed)
    device.set_desc_table_address(0x10)
    device.set_avail_ring_address(0x4 if packed else 0x2)
    device.set_used_ring_address(0x4)
    device.set_ready(True)
    assert device.is_valid()
    assert device.pop_descriptor_chain() is None


@known_bug("V05", "V08")
@pytest.mark.parametrize(
    ("packed", "size"),
    [(False, 15), (False, 0), (False, 65536), (False, 65535), (False, -1), (True, 0), (True, 32769)],
)
def test_a_largest_size_that_cannot_be_is_refused(packed, size):  # Q6
    with pytest.raises(CallerError) as caught:
        unset_device(packed, max_size=size)
    assert (caught.value.argument, caught.value.value) == ("size", size)


@known_bug("V05")
@pytest.mark.parametrize("size", [1, 3, 15, 100])
def test_a_packed_queue_has_any_number_of_slots_and_goes_round(size):
    driver, device = device_by_hand(packed=True, size=size)
    for _ in range(3 * size + 1):
        buffer_id = driver.offer(ONE_BYTE)
        assert device.pop_descriptor_chain().head_index == buffer_id
        device.add_used(buffer_id, 1)
        assert driver.used() == [(buffer_id, 1)]


@both_formats
def test_a_queue_that_is_ready_cannot_be_changed(packed):
    _, device = device_by_hand(packed)
    changes: list[Any] = [
        lambda: device.set_size(8),
        lambda: device.set_desc_table_address(0x5000),
        lambda: device.set_avail_ring_address(0x5000),
        lambda: device.set_used_ring_address(0x5000),
        lambda: device.set_up(QueueAreas(0x5000, 0x6000, 0x7000)),
        lambda: setattr(device, "features", VERSION_1),
    ]
    for change in changes:
        with pytest.raises(CallerError, match="cannot change"):
            change()
    assert (device.size, device.areas, device.is_valid()) == (16, QueueAreas(*AREAS), True)


def test_a_packed_size_that_is_no_power_of_two_cannot_become_split():
    device = unset_device(packed=True)
    device.set_size(11)
    with pytest.raises(CallerError):  # at the latest when the queue is to work
        device.features = VERSION_1
        device.set_up(QueueAreas(*AREAS))
    assert not device.is_valid()


# -- giving chains back ----------------------------------------------------------------------------


@both_formats
def test_a_chain_that_was_never_popped_cannot_be_given_back(packed):  # Q7
    # virtio-queue refuses a head outside the table alone, and writes any other.
    driver, device = device_by_hand(packed)
    before = driver.memory.read(0, 0x10000)
    for head in (16, 0, 5, -1, 65536):
        with pytest.raises(CallerError) as caught:
            device.add_used(head, 0)
        assert (caught.value.argument, caught.value.value) == ("head_index", head)
    assert driver.memory.read(0, 0x10000) == before
    assert device.next_used == (0x8000 if packed else 0)


def test_what_is_given_back_stands_in_the_used_ring():  # Q8
    driver, device = device_by_hand()
    driver.descriptor(1, BUFFERS, 0x1000, WRITE)
    driver.push(1)
    device.add_used(device.pop_descriptor_chain().head_index, 0x1000)
    assert driver.used_idx == 1
    assert driver.used_element(0) == (1, 0x1000)
    assert device.next_used == 1


@both_formats
def test_a_chain_is_given_back_once(packed):
    driver, device = device_by_hand(packed)
    head = driver.offer(ONE_BYTE)
    device.pop_descriptor_chain()
    device.add_used(head, 1)
    with pytest.raises(CallerError, match="none of the 0"):
        device.add_used(head, 1)
    assert driver.used() == [(head, 1)]


@both_formats
@pytest.mark.parametrize("length", [13, 1 << 32, -1])
def test_no_more_bytes_are_given_back_than_the_chain_has_to_write(packed, length):
    driver, device = device_by_hand(packed)
    head = driver.offer((BUFFERS, 100, 0), (BUFFERS, 8, WRITE), (BUFFERS, 4, WRITE))
    device.pop_descriptor_chain()
    with pytest.raises(CallerError) as caught:
        device.add_used(head, length)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("length", length, 12)
    assert driver.used() == []
    device.add_used(head, 12)
    assert driver.used() == [(head, 12)]


@both_formats
def test_chains_may_be_given_back_in_any_order(packed):
    driver, device = device_by_hand(packed)
    heads = [driver.offer(*[ONE_BYTE] * (1 + number % 3)) for number in range(8)]
    assert [chain.head_index for chain in device] == heads
    for head in (*heads[::2], *heads[1::2][::-1]):
        device.add_used(head, 1)
    assert driver.used() == [(head, 1) for head in (*heads[::2], *heads[1::2][::-1])]


# -- when the driver must be notified --------------------------------------------------------------


@both_formats
def test_without_event_indices_each_used_chain_calls_for_a_notification(packed):  # Q9
    # virtio-queue says yes whether or not anything was used, and whatever NO_INTERRUPT says.
    driver, device = device_by_hand(packed)
    for _ in range(16):
        device.add_used(pop_one(driver, device), 1)
        assert device.needs_notification() is True
        assert device.needs_notification() is False


@both_formats
def test_a_driver_that_asked_for_silence_is_not_notified(packed):
    driver, device = device_by_hand(packed)
    silence, speech = ((0, 1), (0, 0)) if packed else (1, 0)
    for wish, answer in ((silence, False), (speech, True)):
        if packed:
            driver.set_driver_event(*wish)
        else:
            driver.set_avail_flags(wish)
        device.add_used(pop_one(driver, device), 1)
        assert device.needs_notification() is answer


def pop_one(driver: HandDriver, device: DeviceQueue) -> int:
    """Offer one chain, pop it, and return what to give back."""
    driver.offer(ONE_BYTE)
    chain = device.pop_descriptor_chain()
    assert chain is not None
    return chain.head_index


def counted_split_queue(features: int = EVENT_IDX) -> tuple[HandDriver, DeviceQueue, Any]:
    """A split queue whose every slot holds head 0, and a function that runs one chain through it."""
    driver, device = device_by_hand(features=features)
    driver.descriptor(0, *ONE_BYTE)
    words = driver.memory.halfwords(AREAS.driver, 2)

    def use_one() -> None:
        words[1] = (words[1] + 1) & 0xFFFF
        device.pop_descriptor_chain()
        device.add_used(0, 1)

    return driver, device, use_one


@known_bug("V11")
def test_a_used_event_is_reached_once_in_65536_chains():  # Q10, Q11, Q12
    driver, device, use_one = counted_split_queue()
    driver.set_used_event(4)
    reached = []
    for used in range(1, 65548):
        use_one()
        if device.needs_notification():
            reached.append(used)
    assert reached == [5, 65541]
    assert device.next_used == 65547 - 65536

    driver.set_used_event(8)  # Q11: entry 8 was used long ago, and nothing since
    assert device.needs_notification() is False

    driver.set_used_event(15)  # Q12
    answers = []
    for index in (12, 15, 16, 16):
        while device.next_used < index:
            use_one()
        answers.append(device.needs_notification())
    assert answers == [False, False, True, False]


def test_a_used_event_just_below_the_end_of_the_counter_is_reached():  # Q13
    driver, device = device_by_hand(features=EVENT_IDX, start=0xFFFC)
    driver.set_used_event(0xFFFC)
    device.add_used(pop_one(driver, device), 1)
    assert device.next_used == 0xFFFD
    assert device.needs_notification() is True


@given(
    start=some.integers(0, 0xFFFF),
    used=some.integers(0, 16),
    away=some.none() | some.integers(-2, 18) | some.integers(0, 0xFFFF),
    flags=some.integers(0, 1),
)
@REPEATABLE
def test_a_driver_that_waits_for_one_of_the_used_chains_is_notified(start, used, away, flags):  # K1
    """`away`: how far behind `start` the driver's event is; None without the feature."""
    driver, device = device_by_hand(features=0 if away is None else EVENT_IDX, start=start)
    driver.set_avail_flags(flags)  # with event indices it says nothing
    if away is None:
        wanted = used > 0 and not flags
    else:
        driver.set_used_event((start + away) & 0xFFFF)
        wanted = away % 0x10000 < used
    for _ in range(used):
        driver.offer(ONE_BYTE)
    assert give_all_back(device) == used
    assert device.needs_notification() is wanted
    assert device.needs_notification() is False


@given(
    size=some.sampled_from([1, 4, 16]),
    start=some.integers(0, 0xFFFF),
    heads=some.lists(some.integers(-2, 20), max_size=12),
)
@REPEATABLE
def test_giving_back_moves_all_counters_or_none(size, start, heads):  # K2
    driver, device = device_by_hand(size=size, start=start)
    for _ in range(size):
        driver.offer(ONE_BYTE)
    held = {chain.head_index for chain in device}
    for head in heads:
        before = device.next_used
        try:
            device.add_used(head, 1)
        except CallerError:
            assert head not in held
            assert (device.next_used, driver.used_idx) == (before, before)
            assert device.needs_notification() is False
        else:
            held.remove(head)
            assert (device.next_used, driver.used_idx) == ((before + 1) & 0xFFFF,) * 2
            assert driver.used_element(before) == (head, 1)
            assert device.needs_notification() is True


class StubbornWords:
    """Words of which some cannot be stored for a while."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.refused: set[int] = set()

    def __getitem__(self, word: int) -> int:
        return self.words[word]

    def __setitem__(self, word: int, value: int) -> None:
        if word in self.refused:
            raise KeyboardInterrupt
        self.words[word] = value


class StubbornMemory(GuestMemory):
    """Memory whose words can be made to refuse."""

    def halfwords(self, address: int, count: int) -> Any:
        words = StubbornWords(super().halfwords(address, count))
        self.__dict__.setdefault("rows", {})[address] = words
        return words


def test_a_used_index_that_was_not_stored_is_made_good_by_the_next_chain():  # K2
    # Neither is a chain given back twice nor one forgotten; virtio-queue leaves this unproved.
    memory = StubbornMemory([(0, bytearray(0x10000))])
    driver, device = device_by_hand(memory=memory)
    heads = [driver.offer(ONE_BYTE), driver.offer(ONE_BYTE)]
    for _ in heads:
        device.pop_descriptor_chain()
    memory.rows[AREAS.device].refused = {1}
    with pytest.raises(KeyboardInterrupt):
        device.add_used(heads[0], 1)
    assert driver.used() == []
    memory.rows[AREAS.device].refused = set()
    device.add_used(heads[1], 1)
    assert driver.used() == [(heads[0], 1), (heads[1], 1)]
    assert device.needs_notification() is True


# -- asking the driver for notifications -----------------------------------------------------------


def test_without_event_indices_the_used_flags_ask_for_notifications():  # Q14
    driver, device = device_by_hand()
    flags = []
    for switch in (device.enable_notification, device.disable_notification, device.enable_notification):
        switch()
        flags.append(driver.used_flags)
    assert flags == [0, 1, 0]
    assert driver.avail_event == 0


def test_with_event_indices_the_event_is_the_next_chain_to_take():  # Q15
    driver, device = device_by_hand(features=EVENT_IDX)
    seen = []
    for offered in (2, 6):
        for _ in range(offered):
            driver.offer(ONE_BYTE)
        for _ in range(2):
            seen.append((device.enable_notification(), driver.avail_event))
            give_all_back(device)
    assert seen == [(True, 0), (False, 2), (True, 2), (False, 8)]
    device.disable_notification()
    assert (driver.used_flags, driver.avail_event) == (0, 8)


@both_formats
def test_the_event_is_the_next_chain_to_take_though_more_are_known(packed):
    driver, device = device_by_hand(packed, features=EVENT_IDX)
    for _ in range(4):
        driver.offer(ONE_BYTE)
    for _ in range(2):
        device.pop_descriptor_chain()
    assert device.enable_notification() is True
    assert (driver.device_event if packed else driver.avail_event) == ((0x8002, 2) if packed else 2)


FIVE_CHAINS = ((0, 1), (2, 3, 4), (5, 6), (7, 8), (9, 10, 11, 12))


def describe(driver: HandDriver, *chains: tuple[int, ...]) -> None:
    """Put chains into the table, and their heads into the first slots, without moving the index."""
    for slot, chain in enumerate(chains):
        for place, index in enumerate(chain):
            last = place == len(chain) - 1
            driver.descriptor(index, BUFFERS, 16, 0 if last else NEXT, 0 if last else chain[place + 1])
        driver.put_head(slot, chain[0])


@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["flags", "event index"])
@pytest.mark.parametrize(("late", "passes"), [(None, 1), (4, 2)], ids=["Q16", "Q17"])
def test_the_loop_that_enables_before_it_sleeps_misses_no_chain(event_idx, late, passes):
    driver, device = device_by_hand(features=event_idx)
    describe(driver, *FIVE_CHAINS)
    driver.set_avail_idx(2 if late is None else 3)
    done = 0
    while True:
        done += 1
        device.disable_notification()
        give_all_back(device)
        if late is not None:
            driver.set_avail_idx(late)
        if not device.enable_notification():
            break
    assert done == passes
    assert (device.next_avail, device.next_used) == ((late or 2), (late or 2))


def test_an_index_beyond_the_heads_that_were_written_gives_what_the_ring_holds():  # Q18
    driver, device = device_by_hand()
    describe(driver, *FIVE_CHAINS)
    driver.set_avail_idx(7)  # slots 5 and 6 hold 0
    heads = []
    for chain in device:
        heads.append(chain.head_index)
        device.add_used(chain.head_index, 0)
    assert heads == [0, 2, 5, 7, 9, 0, 0]
    assert (device.next_avail, device.next_used) == (7, 7)


@known_bug("V01", "V11")
def test_an_index_that_moves_back_is_refused():  # Q19
    driver, device = device_by_hand()
    describe(driver, *FIVE_CHAINS)
    driver.set_avail_idx(3)
    assert give_all_back(device) == 3
    driver.set_avail_idx(1)
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert (caught.value.kind, caught.value.found) == (VirtqueueFault.AVAILABLE_INDEX_JUMP, 0xFFFE)
    assert device.next_avail == 3


@known_bug("V01", "V11")
@pytest.mark.parametrize(("ahead", "fine"), [(2, True), (1, True), (0, True), (3, False), (0x8000, False)])
def test_an_index_is_as_far_ahead_as_the_queue_is_long_at_most(ahead, fine):  # Q20
    driver, device = device_by_hand(size=2, start=65535)
    for head in (0, 1):
        driver.descriptor(head, *ONE_BYTE)
        driver.put_head(65535 + head, head)
    driver.set_avail_idx((65535 + ahead) & 0xFFFF)
    if fine:
        assert [chain.head_index for chain in device] == [0, 1][:ahead]
        assert device.next_avail == (65535 + ahead) & 0xFFFF
    else:
        with pytest.raises(PeerError) as caught:
            device.pop_descriptor_chain()
        assert caught.value.kind is VirtqueueFault.AVAILABLE_INDEX_JUMP
        assert caught.value.allowed == 2
        assert device.next_avail == 65535


@known_bug("V11", "V13")
@both_formats
@pytest.mark.parametrize("size", [1, 2, 16])
def test_the_counters_go_round(packed, size):
    """Split: from just below 2**16; packed: three rounds of the ring."""
    driver, device = device_by_hand(packed, size, start=None if packed else 0xFFF0)
    for number in range(3 * 16):
        count = 1 + number % size
        head = driver.offer(*[ONE_BYTE] * count)
        chain = device.pop_descriptor_chain()
        assert (chain.head_index, len(chain.descriptors)) == (head, count)
        assert device.pop_descriptor_chain() is None
        device.add_used(head, count)
        assert driver.used() == [(head, count)]
    assert device.next_avail == device.next_used == driver.next


# -- chains ----------------------------------------------------------------------------------------


THREE_CHAINS = (  # (index, flags, next): a driver that mixes readable and writable
    (0, NEXT, 1),
    (1, 0, 0),
    (2, NEXT | WRITE, 3),
    (3, NEXT, 4),
    (4, WRITE, 0),
    (5, NEXT | WRITE, 6),
    (6, 0, 0),
)


def mixed_chains(tolerated: int) -> tuple[HandDriver, DeviceQueue]:
    driver, device = device_by_hand(tolerated=tolerated)
    for index, flags, following in THREE_CHAINS:
        driver.descriptor(index, BUFFERS + 0x100 * index, 0x10, flags, following)
    for head in (0, 2, 5):
        driver.push(head)
    return driver, device


def test_a_readable_buffer_behind_a_writable_one_may_be_tolerated():  # Q21
    _, device = mixed_chains(Tolerance.READABLE_AFTER_WRITABLE)
    first, second, third = device
    assert [chain.head_index for chain in (first, second, third)] == [0, 2, 5]
    assert numbers(first) == [0, 1]
    assert [descriptor.number for descriptor in second.writable] == [2, 4]
    assert [descriptor.number for descriptor in second.readable] == [3]
    assert [descriptor.number for descriptor in third.readable] == [6]
    assert (second.readable_bytes, second.writable_bytes) == (0x10, 0x20)
    assert device.pop_descriptor_chain() is None
    assert device.pop_descriptor_chain() is None


def test_a_readable_buffer_behind_a_writable_one_is_refused_unless_tolerated():  # Q21
    # virtio-queue, and OpenVMM, always let it pass.
    _, device = mixed_chains(Tolerance(0))
    assert numbers(device.pop_descriptor_chain()) == [0, 1]
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert caught.value.kind is VirtqueueFault.READABLE_AFTER_WRITABLE
    assert caught.value.descriptor == 3


@known_bug("V08", "V13")
@both_formats
def test_a_queue_that_is_not_ready_gives_and_takes_nothing(packed):  # Q22
    driver, device = device_by_hand(packed)
    driver.offer(ONE_BYTE)
    device.reset()
    calls: list[Any] = [
        device.pop_descriptor_chain,
        lambda: list(device),
        lambda: device.add_used(0, 0),
        device.go_to_previous_position,
        device.needs_notification,
        device.enable_notification,
        device.disable_notification,
    ]
    for call in calls:
        with pytest.raises(CallerError, match="not ready"):
            call()


@both_formats
def test_the_last_chain_can_be_taken_again(packed):  # Q23
    driver, device = device_by_hand(packed)
    for count in (2, 2, 3):
        driver.offer(*[ONE_BYTE] * count, buffer_id=7 - count if packed and count == 3 else None)
    chains = list(device)
    place = device.next_avail
    device.go_to_previous_position()
    assert device.next_avail != place
    again = device.pop_descriptor_chain()
    assert again.head_index == chains[-1].head_index
    assert again.descriptors == chains[-1].descriptors and len(again.descriptors) == 3
    assert device.pop_descriptor_chain() is None
    assert device.next_avail == place


@both_formats
def test_all_chains_can_be_taken_again_one_by_one(packed):
    driver, device = device_by_hand(packed, size=4, start=0x8003 if packed else 0xFFFF)
    heads = [driver.offer(*[ONE_BYTE] * count) for count in (2, 1, 1)]
    assert [chain.head_index for chain in device] == heads
    for count in (1, 2, 3):
        for _ in range(count):
            device.go_to_previous_position()
        assert [chain.head_index for chain in device] == heads[3 - count :]


@both_formats
def test_there_is_no_way_back_before_a_chain_that_was_used(packed):
    # virtio-queue goes back without asking.
    driver, device = device_by_hand(packed)
    with pytest.raises(CallerError, match="no way back"):
        device.go_to_previous_position()
    heads = [driver.offer(ONE_BYTE) for _ in range(2)]
    list(device)
    device.add_used(heads[1], 1)
    with pytest.raises(CallerError, match="no way back"):
        device.go_to_previous_position()
    device.add_used(heads[0], 1)
    assert driver.used() == [(heads[1], 1), (heads[0], 1)]


@known_bug("V08")
@both_formats
def test_a_chain_of_more_bytes_than_32_bits_count_is_refused(packed):  # Q24
    # virtio-queue yields the first descriptor and ends.
    driver, device = device_by_hand(packed)
    driver.offer((BUFFERS, 0xFFFF_FFFF, 0), (BUFFERS, 0x1234_5678, 0))
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert caught.value.kind is VirtqueueFault.CHAIN_TOO_LARGE
    assert caught.value.descriptor == 1
    assert caught.value.found == 0xFFFF_FFFF + 0x1234_5678


@both_formats
@pytest.mark.parametrize("lengths", [(0xFFFF_FFFF,), (0xFFFF_FFFE, 1), (0xFFFF_FFFF, 0)])
def test_a_chain_of_as_many_bytes_as_32_bits_count_is_fine(packed, lengths):
    driver, device = device_by_hand(packed)
    driver.offer(*((BUFFERS, length, WRITE) for length in lengths))
    assert device.pop_descriptor_chain().writable_bytes == 0xFFFF_FFFF


@known_bug("V02")
@pytest.mark.parametrize(
    ("length", "kind"),
    [(0xFFFF_FFFF, VirtqueueFault.CHAIN_TOO_LARGE), (1, VirtqueueFault.CHAIN_TOO_LONG)],
)
def test_a_descriptor_that_follows_itself_is_refused(length, kind):  # Q25
    # virtio-queue yields it once, or sixteen times, and ends.
    driver, device = device_by_hand()
    driver.descriptor(3, BUFFERS, length, NEXT, 3)
    driver.push(3)
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert (caught.value.kind, caught.value.descriptor) == (kind, 3)


#: A driver's leavings at address 0: read as an available ring with its index at 2, they offer chains.
LEAVINGS = bytes.fromhex("0000 0100 0000 0000 1000 0000 0000 0000")


@known_bug("V08", "V13")
def test_a_queue_that_was_reset_gives_no_chain_before_it_has_addresses():  # Q27
    driver, device = device_by_hand(areas=Areas(0, 0x2000, 0x3000))
    driver.offer(ONE_BYTE)
    driver.memory.write(0, LEAVINGS)
    device.reset()
    popped = None
    try:
        device.set_ready(True)
        popped = device.pop_descriptor_chain()
    except (CallerError, PeerError):
        pass
    assert popped is None

    device.reset()
    device.set_avail_ring_address(0x2000)
    with pytest.raises(CallerError, match="not ready"):
        device.pop_descriptor_chain()


@known_bug("V05")
def test_a_head_that_is_no_descriptor_is_refused():  # Q28
    driver, device = device_by_hand()
    driver.push(16)
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert (caught.value.kind, caught.value.found) == (VirtqueueFault.HEAD_OUT_OF_RANGE, 16)


@both_formats
def test_a_table_far_outside_the_memory_gives_no_chain(packed):  # Q28
    _, device = device_by_hand(packed, areas=Areas(0x00FF_FFFF_FFFF_FFF0, 0x2000, 0x3000))
    assert device.ready and not device.is_valid()
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert caught.value.kind is VirtqueueFault.AREA_OUTSIDE_MEMORY


@known_bug("V04", "V05")
@both_formats
@pytest.mark.parametrize("start", [0, 5, 15])
def test_a_chain_may_be_as_long_as_the_queue(packed, start):  # Q29
    driver, device = device_by_hand(packed, start=start | 0x8000 if packed else start)
    head = driver.offer(*[ONE_BYTE] * 16)
    chain = device.pop_descriptor_chain()
    first = start if packed else 0
    assert numbers(chain) == [(first + place) % 16 for place in range(16)]
    assert device.pop_descriptor_chain() is None
    device.add_used(head, 16)
    assert driver.used() == [(head, 16)]


def table_of_four(driver: HandDriver, address: int) -> int:
    """Four entries: linked in a split queue, one after the other in a packed one."""
    return driver.table(
        address,
        *(
            (BUFFERS + 0x10 * entry, 0x10, NEXT if entry < 3 and not driver.packed else 0, entry + 1)
            for entry in range(4)
        ),
    )


def chain_that_goes_on_behind_its_table(packed: bool, tolerated: int) -> DeviceQueue:
    driver, device = device_by_hand(packed, features=INDIRECT_DESC, tolerated=tolerated)
    length = table_of_four(driver, 0x7000)
    driver.offer((0x6000, 0x1000, 0), (0x7000, length, 4), (0x5000, 0x10, 0))
    return device


@both_formats
def test_what_follows_an_indirect_descriptor_may_be_overlooked(packed):  # Q30
    device = chain_that_goes_on_behind_its_table(packed, Tolerance.INDIRECT_WITH_NEXT)
    chain = device.pop_descriptor_chain()
    assert [(descriptor.table, descriptor.number) for descriptor in chain.descriptors] == [
        (None, 0),
        *((1, entry) for entry in range(4)),
    ]
    assert chain.readable_bytes == 0x1000 + 4 * 0x10


@both_formats
def test_an_indirect_descriptor_that_continues_is_refused_unless_tolerated(packed):  # Q30
    # virtio-queue, QEMU and OpenVMM overlook NEXT there.
    device = chain_that_goes_on_behind_its_table(packed, Tolerance(0))
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert (caught.value.kind, caught.value.descriptor) == (VirtqueueFault.INDIRECT_WITH_NEXT, 1)


@known_bug("V10")
@both_formats
@pytest.mark.parametrize("address", [0x7001, 0x7008, 0x700F])
def test_an_indirect_table_may_lie_anywhere(packed, address):  # Q31
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    driver.offer_table(address, table_of_four(driver, address))
    with no_error(f"a table at {address:#x}"):
        chain = device.pop_descriptor_chain()
    assert [(one.number, one.address) for one in chain.descriptors] == [
        (entry, BUFFERS + 0x10 * entry) for entry in range(4)
    ]


@known_bug("V02", "V06")
@both_formats
@pytest.mark.parametrize(
    ("length", "kind"),
    [
        (0x1001, VirtqueueFault.INDIRECT_LENGTH),
        (0, VirtqueueFault.INDIRECT_LENGTH),
        (65536 * 16, VirtqueueFault.INDIRECT_TOO_LONG),
    ],
)
def test_an_indirect_table_has_a_whole_number_of_entries_that_16_bits_can_name(packed, length, kind):  # Q32
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    driver.offer_table(TABLES, length)
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    assert (caught.value.kind, caught.value.descriptor, caught.value.found) == (kind, 0, length)


@both_formats
def test_a_table_of_one_entry_is_one_buffer(packed):  # Q32
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    # WRITE on the descriptor that points to a table means nothing.
    driver.offer_table(TABLES, driver.table(TABLES, (BUFFERS, 8, 0, 0)), flags=WRITE)
    chain = device.pop_descriptor_chain()
    assert (chain.readable_bytes, chain.writable_bytes) == (8, 0)
    assert chain.descriptors[0].table == 0


@known_bug("V06")
def test_a_split_table_may_have_more_entries_than_the_queue_when_fewer_are_linked():
    driver, device = device_by_hand(size=4, features=INDIRECT_DESC)
    entries = [(BUFFERS, 0x10, NEXT, 1), *[(0, 0, 0, 0)] * 98, (BUFFERS + 0x20, 0x20, WRITE, 0)]
    entries[1] = (BUFFERS + 0x10, 0x10, NEXT, 99)
    driver.offer_table(TABLES, driver.table(TABLES, *entries))
    with no_error("a table of 100 entries, 3 of them linked, in a queue of 4"):
        chain = device.pop_descriptor_chain()
    assert numbers(chain) == [0, 1, 99]


@both_formats
def test_a_chain_in_a_table_takes_one_entry_of_the_queue(packed):
    driver, device = device_by_hand(packed, size=4, features=INDIRECT_DESC)
    length = table_of_four(driver, TABLES)
    for _ in range(3):
        heads = [driver.offer_table(TABLES, length) for _ in range(4)]
        chains = list(device)
        assert [chain.head_index for chain in chains] == heads
        assert [len(chain.descriptors) for chain in chains] == [4] * 4
        for head in heads:
            device.add_used(head, 0)
        assert driver.used() == [(head, 0) for head in heads]


@both_formats
def test_buffers_of_no_bytes_are_the_devices_business(packed):
    driver, device = device_by_hand(packed)
    driver.offer((0, 0, 0), (2**64 - 1, 0, 0), (BUFFERS, 0, WRITE))
    chain = device.pop_descriptor_chain()
    assert (len(chain.readable), len(chain.writable)) == (2, 1)
    assert (chain.readable_bytes, chain.writable_bytes) == (0, 0)
    assert chain.read_all() == b""


@both_formats
def test_a_pass_over_the_chains_ends_though_the_driver_never_does(packed):
    """Bounded work: at most as many chains as the queue is long in one `for`."""
    driver, device = device_by_hand(packed, size=4)
    seen = 0
    driver.offer(ONE_BYTE)
    for chain in device:
        seen += 1
        assert seen <= 4
        device.add_used(chain.head_index, 1)
        driver.used()
        driver.offer(ONE_BYTE)
    assert seen == 4


# -- one chain as the driver changes it ------------------------------------------------------------


@both_formats
def test_a_chain_stays_as_it_was_fetched(packed):
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    driver.memory.write(BUFFERS, b"before")
    head = driver.offer((BUFFERS, 6, 0), (TABLES, driver.table(TABLES, (BUFFERS + 8, 4, WRITE, 0)), 4))
    chain = device.pop_descriptor_chain()
    driver.memory.write(AREAS.table, b"\xff" * 64)
    driver.memory.write(TABLES, b"\xff" * 64)
    assert chain.read_all() == b"before"
    assert chain.write_all(b"fine") == 4
    device.add_used(head, 4)
    assert driver.memory.read(BUFFERS + 8, 4) == b"fine"


# -- what others have had wrong --------------------------------------------------------------------


@known_bug("V12")
@both_formats
def test_a_wish_that_appears_with_the_fence_is_granted(packed):
    """The driver's last chance to speak is the fence: its word is read afterwards."""
    words: list[Any] = []
    fences = Fences(bool, bool, lambda: [word() for word in words], "a driver that is just in time")
    memory = GuestMemory([(0, bytearray(0x10000))], fences=fences)
    driver, device = device_by_hand(packed, features=EVENT_IDX, memory=memory)
    if packed:
        driver.set_driver_event(0, 1)
        words.append(lambda: driver.set_driver_event(0x8000, 2))
    else:
        driver.set_used_event(0x7777)
        words.append(lambda: driver.set_used_event(0))
    device.add_used(pop_one(driver, device), 1)
    assert device.needs_notification() is True


@known_bug("V12")
@both_formats
@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["flags", "event index"])
def test_a_chain_that_appears_with_the_fence_is_seen_before_the_sleep(packed, features):
    events: list[tuple[int, ...]] = []
    once: list[Any] = []
    fences = Fences(bool, bool, lambda: once and once.pop()(), "a driver that is just in time")
    memory = GuestMemory([(0, bytearray(0x10000))], fences=fences)
    driver, device = device_by_hand(packed, features=features, memory=memory)

    def arrive() -> None:
        events.append(driver.device_event if packed else (driver.used_flags, driver.avail_event))
        driver.offer(ONE_BYTE)

    device.disable_notification()
    once.append(arrive)
    assert device.enable_notification() is True
    # By then the driver could see that it is to notify.
    wish = (0x8000, 2) if packed and features else (0, 0)
    assert events == [wish]


@known_bug("V15")
@both_formats
@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["flags", "event index"])
def test_taking_chains_stores_nothing(packed, features):
    driver, device = device_by_hand(packed, features=features)
    for _ in range(10):
        driver.offer(ONE_BYTE)
    before = driver.memory.read(0, 0x10000)
    assert len(list(device)) == 10
    assert device.pop_descriptor_chain() is None
    assert driver.memory.read(0, 0x10000) == before


@known_bug("V03")
@both_formats
def test_no_more_is_in_flight_than_the_queue_has_entries(packed):
    driver, device = device_by_hand(packed, size=4)
    heads = [driver.offer(ONE_BYTE) for _ in range(4)]
    assert [chain.head_index for chain in device] == heads
    assert device.pop_descriptor_chain() is None
    if packed:
        # All slots are the device's: what the driver writes there now is not looked at.
        driver.slot(0, BUFFERS, 1, driver.available_flags(0), 9)
        assert device.pop_descriptor_chain() is None
    else:
        driver.push(heads[0])
        with pytest.raises(PeerError) as caught:
            device.pop_descriptor_chain()
        assert caught.value.kind is VirtqueueFault.HEAD_IN_FLIGHT
        assert caught.value.descriptor == heads[0]
    for head in heads:
        device.add_used(head, 1)


@both_formats
def test_an_error_is_new_each_time_and_says_the_same(packed):
    driver, device = device_by_hand(packed)
    driver.offer((BUFFERS, 1, WRITE), (BUFFERS, 1, 0))
    errors = []
    for _ in range(3):
        with pytest.raises(PeerError) as caught:
            list(device)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3
    assert len({facts(error) for error in errors}) == 1


@both_formats
def test_repr_says_what_kind_of_queue_and_chain_it_is(packed):
    driver, device = device_by_hand(packed)
    driver.offer((BUFFERS, 8, 0), (BUFFERS, 4, WRITE))
    assert repr(device.pop_descriptor_chain()) == (
        "<DescriptorChain: from 0, 2 descriptors, 8 bytes to read, 4 to write>"
    )
    kind = "packed" if packed else "split"
    assert repr(device) == f"<DeviceQueue: {kind}, 16 descriptors, ready>"
    device.reset()
    assert "not ready" in repr(device)
