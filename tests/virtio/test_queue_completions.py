"""A driver's completions and notifications: what the device gave back, and what it must not say.

The device across is written by hand (tests/virtio/by_hand.py): it says right and wrong things alike.

Sources: OASIS VIRTIO 1.2, sections 2.7.7, 2.7.8, 2.7.10, 2.7.14, 2.8.10 and 2.8.22; the virtio-driver
crate, whose completions fold or trust what is refused here; Linux drivers/virtio/virtio_ring.c, which
keeps the driver's own record of every chain.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.known_bugs import known_bug
from tests.virtio.by_hand import EVENT_IDX, FORMATS, INDIRECT_DESC, PACKED, VERSION_1, HandDevice
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import Virtqueue, VirtqueueCompletion, VirtqueueFault, connected_virtqueues

ADDRESS = 0x1000
MEMORY_SIZE = 0x3000
BUFFER = 0x5_0000_0000

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])


def both_sides(
    packed: bool = False, size: int = 8, features: int = 0, *, start: int | None = None
) -> tuple[Virtqueue, HandDevice]:
    """A real driver and, across, a device written by hand."""
    queue = Virtqueue(
        GuestMemory([(ADDRESS, bytearray(MEMORY_SIZE))]),
        size,
        features | INDIRECT_DESC | VERSION_1 | (PACKED if packed else 0),
        address=ADDRESS,
        request_size=16,
        indirect_size=4,
        start=start,
    )
    return queue, HandDevice.of(queue, start)


def buffers(*lengths: int) -> Callable[..., None]:
    """A prepare that adds a buffer of each length, negative for one that the device writes."""

    def prepare(place, add_descriptor):
        for number, length in enumerate(lengths):
            add_descriptor(BUFFER + 0x1000 * number, abs(length), from_dev=length < 0)

    return prepare


def add(queue: Virtqueue, *lengths: int, times: int = 1) -> list[int]:
    return [queue.add_request(buffers(*lengths or (1,))) for _ in range(times)]


def taken(queue: Virtqueue) -> list[int]:
    """The ids of all completions there are."""
    return [done.id for done in queue.completions()]


# -- what comes out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5, 16, None])
@both_formats
def test_a_completion_brings_as_much_of_the_place_as_the_queue_was_made_for(packed, size):
    features = VERSION_1 | (PACKED if packed else 0)
    memory = GuestMemory([(ADDRESS, bytearray(MEMORY_SIZE))])
    queue = Virtqueue(memory, 8, features, address=ADDRESS, request_size=16, completion_size=size)
    device = HandDevice.of(queue)

    def prepare(place, add_descriptor):
        place.data[:] = b"0123456789abcdef"
        add_descriptor(place.address, 16, from_dev=True)

    queue.add_request(prepare)
    device.available()
    device.give_back(0, 16)
    assert list(queue.completions()) == [VirtqueueCompletion(0, b"0123456789abcdef"[:size], 16)]


@pytest.mark.parametrize("size", [-1, 17])
def test_a_completion_cannot_bring_more_than_the_place(size):
    memory = GuestMemory([(ADDRESS, bytearray(MEMORY_SIZE))])
    with pytest.raises(CallerError) as caught:
        Virtqueue(memory, 8, VERSION_1, address=ADDRESS, request_size=16, completion_size=size)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("completion_size", size, 16)


@both_formats
def test_completions_come_in_the_order_in_which_the_device_gave_back(packed):
    queue, device = both_sides(packed)
    add(queue, -9, times=5)
    device.available()
    for used_id, length in ((3, 0), (0, 9), (4, 1)):
        device.give_back(used_id, length)
    assert list(queue.completions()) == [
        VirtqueueCompletion(3, bytes(16), 0),
        VirtqueueCompletion(0, bytes(16), 9),
        VirtqueueCompletion(4, bytes(16), 1),
    ]
    assert (queue.free, queue.outstanding) == (6, 2)
    assert taken(queue) == []


@both_formats
def test_an_unused_queue_has_no_completions(packed):
    queue, _ = both_sides(packed)
    assert not queue.has_completion()
    assert taken(queue) == []
    add(queue, times=8)
    assert not queue.has_completion()
    assert taken(queue) == []


@both_formats
def test_a_completion_is_taken_as_it_is_handed_out_and_no_sooner(packed):
    queue, device = both_sides(packed)
    add(queue, times=3)
    device.available()
    for used_id in range(3):
        device.give_back(used_id)
    for done in queue.completions():
        assert done.id == 0
        assert (queue.free, queue.outstanding) == (6, 2)
        break
    assert queue.has_completion()
    assert taken(queue) == [1, 2]
    assert not queue.has_completion()


@both_formats
def test_requests_can_be_added_between_two_completions(packed):
    queue, device = both_sides(packed, size=2)
    add(queue, times=2)
    served = []
    for offered in device.available():
        device.give_back(offered.head)
    for done in queue.completions():
        served.append(done.id)
        if len(served) < 20:
            add(queue)
            for offered in device.available():
                device.give_back(offered.head)
    assert len(served) == 21
    assert queue.free == 2


@both_formats
def test_the_request_is_copied_when_it_is_handed_out(packed):
    queue, device = both_sides(packed)
    places = []

    def prepare(place, add_descriptor):
        places.append(place)
        place.data[:] = b"before the answer"[:16]
        add_descriptor(place.address, 8)
        add_descriptor(place.address + 8, 8, from_dev=True)

    queue.add_request(prepare)
    device.available()
    queue.memory.write(places[0].address + 8, b"answered")
    device.give_back(0, 8)
    (done,) = queue.completions()
    queue.memory.write(places[0].address, bytes(16))
    assert done == (0, b"before tanswered", 8)
    assert type(done.request) is bytes


@both_formats
@pytest.mark.parametrize("count", [1, 3])
def test_as_many_descriptors_are_free_again_as_the_request_took(packed, count):
    queue, device = both_sides(packed)
    add(queue, *[1] * count)
    add(queue, 1)
    device.available()
    assert queue.free == 8 - count - 1
    device.give_back(0)
    assert taken(queue) == [0]
    assert queue.free == 7


@both_formats
def test_an_indirect_request_gives_one_descriptor_back(packed):
    queue, device = both_sides(packed)
    request_id = queue.add_request(buffers(1, 2, -3, -4), indirect=True)
    device.available()
    device.give_back(request_id, 7)
    assert [(done.id, done.length) for done in queue.completions()] == [(request_id, 7)]
    assert queue.free == 8


@both_formats
def test_a_queue_that_is_used_up_to_the_last_descriptor_comes_back_whole(packed):
    """The crate counts none where the used ring is exactly full."""
    queue, device = both_sides(packed)
    for _ in range(5):
        ids = add(queue, times=8)
        assert queue.free == 0
        assert [one.head for one in device.available()] == ids
        for used_id in ids:
            device.give_back(used_id)
        assert queue.has_completion()
        assert taken(queue) == ids
        assert queue.free == 8


@known_bug("V11")
@pytest.mark.parametrize("start", [0xFFFE, 0xFFFF, 0x7FFE, 0x00FE])
def test_the_indices_of_a_split_queue_wrap_from_65535_to_0(start):
    queue, device = both_sides(start=start)
    for turn in range(1, 6):
        add(queue, times=2)
        for offered in device.available():
            device.give_back(offered.head)
        assert sorted(taken(queue)) == [0, 1]
        assert device.avail_idx == device.used_idx == (start + 2 * turn) & 0xFFFF


@known_bug("V09")
def test_the_available_index_lies_in_memory_with_its_low_byte_first():
    queue, _ = both_sides(start=0x0102)
    index = queue.areas.driver_area + 2
    assert queue.memory.read(index, 2) == b"\x02\x01"
    add(queue)
    assert queue.memory.read(index, 2) == b"\x03\x01"


@known_bug("V09")
def test_the_used_index_is_read_with_its_low_byte_first():
    queue, device = both_sides(start=0x01FF)
    add(queue)
    device.available()
    device.put_used(0x01FF, 0, 0)
    queue.memory.write(queue.areas.device_area + 2, b"\x00\x02")
    assert taken(queue) == [0]


# -- nothing is read back ----------------------------------------------------------------------------


def test_scribbling_over_the_table_changes_nothing_that_a_split_driver_does():
    """It keeps its own record of every chain, and walks no NEXT in memory that the device reaches."""
    queue, device = both_sides(size=16)
    outstanding: list[tuple[int, int]] = []
    for turn in range(40):
        count = 1 + turn % 4
        request_id = queue.add_request(buffers(*[1] * count))
        (offered,) = device.available()
        assert (offered.head, len(offered.buffers)) == (request_id, count)
        outstanding.append((request_id, count))
        queue.memory.write(queue.areas.descriptor_table, bytes([turn * 37 & 0xFF | 1]) * 16 * 16)
        if len(outstanding) == 3:
            used_id, freed = outstanding.pop(turn % 3)
            free = queue.free
            device.give_back(used_id)
            assert taken(queue) == [used_id]
            assert queue.free == free + freed


def test_a_device_that_lengthens_a_packed_list_in_memory_moves_the_driver_no_further():
    queue, device = both_sides(packed=True)
    add(queue, 1, 2, times=2)
    device.available()
    for number in range(8):
        address = device.descriptor_address(number)
        queue.memory.write(address, b"\xff" * 14)
    device.give_back(0)
    device.give_back(1)
    assert taken(queue) == [0, 1]
    assert queue.free == 8


@pytest.mark.parametrize("flags", [0x0080, 0x8000, 0x0000, 0x0083, 0x007F])
def test_a_packed_slot_that_is_not_used_in_this_round_is_no_completion(flags):
    queue, device = both_sides(packed=True)
    add(queue, -4)
    device.available()
    device.put_used_slot(0x8000, 0, 4, flags=flags)
    assert not queue.has_completion()
    assert taken(queue) == []
    # WRITE and NEXT in a used slot say nothing.
    device.put_used_slot(0x8000, 0, 4, flags=0x8083)
    assert taken(queue) == [0]


def test_an_old_slot_of_the_round_before_is_no_completion():
    """Zeroed memory reads as used for a wrap counter of 0: only slots that were published count."""
    queue, device = both_sides(packed=True, start=0x0002)
    assert not queue.has_completion()
    assert taken(queue) == []
    add(queue, 1, 1)
    assert taken(queue) == []
    device.available()
    device.give_back(0)
    assert taken(queue) == [0]
    assert not queue.has_completion()


# -- what a device must not say ----------------------------------------------------------------------


@pytest.mark.parametrize("used_id", [8, 9, 16, 0x7FFF, 0xFFFF])
@both_formats
def test_a_used_id_that_no_descriptor_has_is_refused(packed, used_id):
    """The crate folds it modulo the size, and completes somebody else's request."""
    queue, device = both_sides(packed)
    add(queue, times=8)
    device.available()
    device.give_back(used_id)
    with pytest.raises(PeerError) as caught:
        taken(queue)
    error = caught.value
    assert (error.kind, error.descriptor, error.found) == (
        VirtqueueFault.USED_ID_OUT_OF_RANGE,
        used_id,
        used_id,
    )
    assert str(used_id) in str(error)


@pytest.mark.parametrize("used_id", [0x10000, 0x10001, 0x8000_0000, 0xFFFF_FFFF])
def test_all_32_bits_of_a_split_used_id_count(used_id):
    queue, device = both_sides()
    add(queue, times=8)
    device.available()
    device.give_back(used_id)
    with pytest.raises(PeerError) as caught:
        taken(queue)
    assert caught.value.kind is VirtqueueFault.USED_ID_OUT_OF_RANGE


@both_formats
def test_a_used_id_that_is_not_outstanding_is_refused(packed):
    queue, device = both_sides(packed)
    add(queue, times=2)
    device.available()
    device.give_back(5)
    with pytest.raises(PeerError, match="2 chains are outstanding") as caught:
        taken(queue)
    assert (caught.value.kind, caught.value.descriptor) == (VirtqueueFault.USED_ID_NOT_OUTSTANDING, 5)


@both_formats
def test_a_chain_that_is_given_back_twice_is_refused_the_second_time(packed):
    """In the crate it puts the id on the free list twice, and two requests share a place."""
    queue, device = both_sides(packed)
    add(queue, times=3)
    device.available()
    device.give_back(1)
    device.give_back(1)
    completions = queue.completions()
    assert next(completions).id == 1
    with pytest.raises(PeerError) as caught:
        next(completions)
    assert caught.value.kind is VirtqueueFault.USED_ID_NOT_OUTSTANDING
    assert (queue.free, queue.outstanding) == (6, 2)


def test_the_middle_of_a_split_chain_is_no_id():
    queue, device = both_sides()
    add(queue, 1, 2, 3)
    device.available()
    device.give_back(1)
    with pytest.raises(PeerError) as caught:
        taken(queue)
    assert caught.value.kind is VirtqueueFault.USED_ID_NOT_OUTSTANDING


@both_formats
@pytest.mark.parametrize(
    "lengths, used", [((4,), 1), ((4, -8), 9), ((-8, -8), 17), ((-8,), 0xFFFF_FFFF), ((4, -0), 1)]
)
def test_more_used_bytes_than_the_writable_ones_are_refused(packed, lengths, used):
    queue, device = both_sides(packed)
    add(queue, *lengths)
    device.available()
    device.give_back(0, used)
    with pytest.raises(PeerError, match=f"{used} bytes") as caught:
        taken(queue)
    error = caught.value
    assert (error.kind, error.descriptor) == (VirtqueueFault.USED_LENGTH_TOO_LARGE, 0)
    assert (error.found, error.allowed) == (used, -sum(length for length in lengths if length < 0))


@both_formats
@pytest.mark.parametrize("used", [0, 1, 7, 15, 16])
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_fewer_used_bytes_than_the_writable_ones_are_a_short_answer(packed, used, indirect):
    """The crate's packed queue asserts that all of them were written."""
    queue, device = both_sides(packed)
    queue.add_request(buffers(4, -8, -8), indirect=indirect)
    device.available()
    device.give_back(0, used)
    assert [done.length for done in queue.completions()] == [used]


@pytest.mark.parametrize("start", [0, 0xFFFE])
@pytest.mark.parametrize(
    "outstanding, jump", [(0, 1), (3, 4), (3, 8), (3, 9), (8, 9), (3, 0x8000), (3, 0xFFFF)]
)
def test_a_used_index_further_ahead_than_chains_are_outstanding_is_refused(outstanding, jump, start):
    """0xFFFF is one back."""
    queue, device = both_sides(start=start)
    add(queue, times=outstanding)
    device.set_used_idx((start + jump) & 0xFFFF)
    with pytest.raises(PeerError) as caught:
        taken(queue)
    error = caught.value
    assert (error.kind, error.found) == (VirtqueueFault.USED_INDEX_JUMP, jump)
    assert error.allowed == outstanding
    assert (queue.free, queue.outstanding) == (8 - outstanding, outstanding)


def test_a_used_index_that_moves_back_behind_what_was_announced_is_refused_at_the_next_look():
    queue, device = both_sides()
    add(queue, times=4)
    device.available()
    for used_id in range(3):
        device.give_back(used_id)
    completions = queue.completions()
    assert next(completions).id == 0
    device.set_used_idx(0)
    # What was announced was announced.
    assert [next(completions).id, next(completions).id] == [1, 2]
    with pytest.raises(PeerError) as caught:
        next(completions)
    assert caught.value.kind is VirtqueueFault.USED_INDEX_JUMP


@both_formats
def test_good_completions_before_a_bad_one_are_handed_out(packed):
    queue, device = both_sides(packed)
    add(queue, times=3)
    device.available()
    device.give_back(2)
    device.give_back(0)
    device.give_back(7)
    found = []
    with pytest.raises(PeerError):
        for done in queue.completions():
            found.append(done.id)
    assert found == [2, 0]


@both_formats
def test_a_queue_stays_broken_after_a_peer_error(packed):
    queue, device = both_sides(packed)
    add(queue, times=2)
    device.available()
    position = device.next_used
    device.give_back(7)
    with pytest.raises(PeerError) as first:
        taken(queue)
    # The device puts it right again: too late.
    if packed:
        device.put_used_slot(position, 0, 0)
    else:
        device.put_used(position, 0, 0)
    before = queue.memory.read(ADDRESS, MEMORY_SIZE)
    calls = {
        "completions": lambda: taken(queue),
        "add_request": lambda: queue.add_request(lambda *_: pytest.fail("was prepared")),
        "indirect": lambda: queue.add_request(lambda *_: pytest.fail("was prepared"), indirect=True),
    }
    for call in [*calls.values(), *calls.values()]:
        with pytest.raises(PeerError) as again:
            call()
        assert again.value is not first.value
        assert (again.value.kind, str(again.value)) == (first.value.kind, str(first.value))
        assert (again.value.found, again.value.descriptor) == (7, 7)
    assert queue.memory.read(ADDRESS, MEMORY_SIZE) == before
    assert queue.outstanding == 2


@both_formats
@pytest.mark.parametrize("caught_inside", [False, True], ids=["raised", "swallowed"])
def test_a_request_in_whose_prepare_the_queue_broke_is_not_published(packed, caught_inside):
    queue, device = both_sides(packed)
    add(queue)
    device.available()
    device.give_back(7)
    before = queue.memory.read(ADDRESS, MEMORY_SIZE)

    def prepare(place, add_descriptor):
        add_descriptor(BUFFER, 1)
        try:
            taken(queue)
        except PeerError:
            if not caught_inside:
                raise

    with pytest.raises(PeerError) as caught:
        queue.add_request(prepare)
    assert caught.value.kind is VirtqueueFault.USED_ID_NOT_OUTSTANDING
    assert device.available() == []
    assert queue.memory.read(ADDRESS, MEMORY_SIZE) == before
    assert queue.outstanding == 1


@both_formats
def test_another_queue_in_the_same_place_works_after_a_broken_one(packed):
    queue, device = both_sides(packed)
    add(queue, times=2)
    device.give_back(7)
    with pytest.raises(PeerError):
        taken(queue)
    again = Virtqueue(queue.memory, 8, queue.features, address=ADDRESS, request_size=16, indirect_size=4)
    device = HandDevice.of(again)
    assert add(again) == [0]
    assert [one.head for one in device.available()] == [0]
    device.give_back(0)
    assert taken(again) == [0]


@both_formats
def test_random_words_of_a_device_end_in_completions_or_a_peer_error(packed):
    """Whatever stands where the device writes: ids handed out are those that were outstanding."""
    state = 12345
    for _ in range(300):
        queue, device = both_sides(packed)
        ids = set(add(queue, -4, times=5))
        device.available()
        for number in range(6):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            used_id, length = state >> 16 & 15, state >> 20 & 7
            if packed:
                device.put_used_slot(0x8000 | number, used_id, length)
            else:
                device.put_used(number, used_id, length)
                device.set_used_idx(state >> 24 & 7)
        found = []
        try:
            for done in queue.completions():
                found.append(done.id)
                assert done.length <= 4
        except PeerError as error:
            assert isinstance(error.kind, VirtqueueFault)
        assert len(set(found)) == len(found) and set(found) <= ids
        assert queue.outstanding == 5 - len(found)


# -- notifications of the device ---------------------------------------------------------------------


@both_formats
@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["plain", "event idx"])
def test_the_device_is_notified_of_the_first_request_and_not_of_none(packed, event_idx):
    queue, _ = both_sides(packed, features=event_idx)
    assert queue.avail_notif_needed() is False
    add(queue)
    assert queue.avail_notif_needed() is True
    assert queue.avail_notif_needed() is False


@pytest.mark.parametrize("flags, wanted", [(0, True), (1, False), (2, True), (0xFFFE, True), (0xFFFF, False)])
def test_bit_0_of_the_used_flags_silences_a_split_driver(flags, wanted):
    queue, device = both_sides()
    device.set_used_flags(flags)
    add(queue)
    assert queue.avail_notif_needed() is wanted


@pytest.mark.parametrize("flags", [0, 1, 0xFFFF])
@pytest.mark.parametrize("event, wanted", [(0, True), (2, True), (3, False), (0xFFFF, False)])
def test_with_event_idx_a_split_driver_goes_by_the_event_and_not_by_the_flags(flags, event, wanted):
    queue, device = both_sides(features=EVENT_IDX)
    device.set_used_flags(flags)
    device.set_avail_event(event)
    add(queue, times=3)
    assert queue.avail_notif_needed() is wanted


def test_without_event_idx_a_split_driver_does_not_look_at_the_event():
    queue, device = both_sides()
    device.set_avail_event(1000)
    add(queue)
    assert queue.avail_notif_needed() is True


@pytest.mark.parametrize(
    "event_idx, event, wanted",
    [
        (0, (0, 0), True),
        (0, (0, 1), False),
        (0, (0x8000, 2), True),
        (0, (0x8000, 3), True),
        (EVENT_IDX, (0, 0), True),
        (EVENT_IDX, (0, 1), False),
        (EVENT_IDX, (0x8000, 2), True),
        (EVENT_IDX, (0x8002, 2), True),
        (EVENT_IDX, (0x8003, 2), False),
        (EVENT_IDX, (0x0000, 2), False),
        (EVENT_IDX, (0x8003, 3), True),
    ],
)
def test_a_packed_driver_goes_by_the_devices_event_structure(event_idx, event, wanted):
    queue, device = both_sides(packed=True, features=event_idx)
    device.set_device_event(*event)
    add(queue, 1, 2, 3)  # slots 0, 1 and 2
    assert queue.avail_notif_needed() is wanted


@both_formats
def test_requests_count_once_even_where_the_device_asked_for_silence(packed):
    """Asked while the device wants none, the driver starts to count anew."""
    queue, device = both_sides(packed)
    device.set_device_event(0, 1) if packed else device.set_used_flags(1)
    add(queue)
    assert queue.avail_notif_needed() is False
    device.set_device_event(0, 0) if packed else device.set_used_flags(0)
    assert queue.avail_notif_needed() is False
    add(queue)
    assert queue.avail_notif_needed() is True


@known_bug("V11")
@both_formats
def test_65536_requests_without_a_question_are_a_yes(packed):
    """The counter is then where it was, and two indices alone would say that nothing was published."""
    size = 4096 if packed else 32768
    queue = Virtqueue(
        GuestMemory([(0, bytearray(1 << 20))]), size, EVENT_IDX | VERSION_1 | (PACKED if packed else 0)
    )
    device = HandDevice.of(queue)
    prepare = buffers(1)
    for _ in range(65536 // size):
        ids = [queue.add_request(prepare) for _ in range(size)]
        for number, used_id in enumerate(ids):
            # As give_back does, without a store of the index for each.
            if packed:
                device.put_used_slot(device.next_used & 0x8000 | number, used_id, 0)
            else:
                device.put_used(number, used_id, 0)
        if packed:
            device.next_used ^= 0x8000
        else:
            device.next_used = (device.next_used + size) & 0xFFFF
            device.set_used_idx(device.next_used)
        assert sum(1 for _ in queue.completions()) == size
    device.set_device_event(0x8000 | 100, 2) if packed else device.set_avail_event(40000)
    assert queue.avail_notif_needed() is True
    assert queue.avail_notif_needed() is False


# -- notifications of the driver ---------------------------------------------------------------------


@both_formats
def test_notifications_are_on_at_first(packed):
    queue, device = both_sides(packed)
    assert (device.driver_event if packed else device.avail_flags) == ((0, 0) if packed else 0)
    assert queue.free == 8


@both_formats
def test_without_event_idx_the_flags_ask_for_notifications_or_for_silence(packed):
    queue, device = both_sides(packed)
    for enabled in (False, True, True, False):
        assert queue.set_used_notif_enabled(enabled) is False
        flags = device.driver_event[1] if packed else device.avail_flags
        assert flags == (0 if enabled else 1)
        if not packed:
            assert device.used_event == 0


def test_a_split_driver_with_event_idx_never_sets_the_flag():
    queue, device = both_sides(features=EVENT_IDX)
    for enabled in (False, True, False):
        queue.set_used_notif_enabled(enabled)
        assert device.avail_flags == 0


@both_formats
def test_with_event_idx_the_event_is_where_the_next_completion_will_be(packed):
    start = 0x8006 if packed else 0xFFFE
    queue, device = both_sides(packed, features=EVENT_IDX, start=start)

    def event() -> int:
        if packed:
            assert device.driver_event[1] == 2
        return device.driver_event[0] if packed else device.used_event

    assert queue.set_used_notif_enabled(True) is False
    assert event() == start
    for expected in (0x8007, 0x0000, 0x0001) if packed else (0xFFFF, 0x0000, 0x0001):
        add(queue)
        device.available()
        device.give_back(0)
        assert taken(queue) == [0]
        assert event() == expected


def test_the_packed_event_steps_over_the_slots_of_a_whole_list():
    queue, device = both_sides(packed=True, features=EVENT_IDX)
    add(queue, 1, 2, 3)
    add(queue, 1)
    device.available()
    device.give_back(0)
    assert taken(queue) == [0]
    assert device.driver_event == (0x8003, 2)


@both_formats
def test_the_event_does_not_move_while_notifications_are_off(packed):
    queue, device = both_sides(packed, features=EVENT_IDX)
    queue.set_used_notif_enabled(True)
    queue.set_used_notif_enabled(False)
    if packed:
        assert device.driver_event[1] == 1
    before = device.driver_event if packed else device.used_event
    for _ in range(3):
        add(queue)
        device.available()
        device.give_back(0)
        assert taken(queue) == [0]
    assert (device.driver_event if packed else device.used_event) == before
    assert queue.set_used_notif_enabled(True) is False
    assert (device.driver_event if packed else device.used_event) == ((0x8003, 2) if packed else 3)


@both_formats
@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["plain", "event idx"])
@pytest.mark.parametrize("enabled", [True, False])
def test_asking_for_notifications_says_whether_one_would_come_too_late(packed, event_idx, enabled):
    queue, device = both_sides(packed, features=event_idx)
    add(queue, times=2)
    device.available()
    assert queue.set_used_notif_enabled(enabled) is False
    device.give_back(1)
    assert queue.has_completion() is True
    assert queue.set_used_notif_enabled(enabled) is True
    assert taken(queue) == [1]
    assert queue.has_completion() is False
    assert queue.set_used_notif_enabled(enabled) is False


@pytest.mark.parametrize("flags, length", [(0x8080, 0), (0x8082, None)], ids=["without WRITE", "with WRITE"])
def test_without_the_write_flag_a_length_that_cannot_be_is_none(flags, length):
    """A device that wrote nothing need not touch the length of the slot: what stands there is the request's."""
    queue, device = both_sides(True)
    add(queue, 16)
    device.put_used_slot(0x8000, 0, 16, flags)
    if length is None:
        with pytest.raises(PeerError) as caught:
            list(queue.completions())
        assert caught.value.kind is VirtqueueFault.USED_LENGTH_TOO_LARGE
    else:
        assert [done.length for done in queue.completions()] == [length]


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_driver_that_takes_one_completion_and_sleeps_is_told_of_the_next(packed):
    driver, device = connected_virtqueues(8, VERSION_1 | EVENT_IDX | (PACKED if packed else 0))
    driver.set_used_notif_enabled(True)
    for _ in range(2):
        driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1))
    first, second = device
    device.add_used(first.head_index)
    assert device.needs_notification()
    assert next(driver.completions()).id == first.head_index
    device.add_used(second.head_index)
    assert device.needs_notification()
