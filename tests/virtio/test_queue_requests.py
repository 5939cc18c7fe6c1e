"""A driver's requests: what the device finds in memory, and what is refused without a trace.

The device across is written by hand (tests/virtio/by_hand.py), so that the bytes are judged by a
second statement of the layout.

Sources: OASIS VIRTIO 1.2, sections 2.7.5, 2.7.13, 2.8.6, 2.8.19 and 2.8.21; the virtio-driver crate,
Virtqueue::add_request, where this one is stricter.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest

from tests.known_bugs import known_bug
from tests.virtio.by_hand import (
    AVAILABLE,
    EVENT_IDX,
    FORMATS,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    PACKED,
    USED,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
)
from tests.virtio.watched_memory import WatchedMemory
from vmbus.errors import CallerError, RingFull
from vmbus.memory import AddressError, GuestMemory
from vmbus.virtio import RequestPlace, VirtioFeatures, Virtqueue, VirtqueueLayout

ADDRESS = 0x1000
MEMORY_SIZE = 0x3000
BUFFER = 0x5_0000_0000

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])


def new_queue(
    packed: bool = False, size: int = 8, features: int = 0, *, memory: object = None, **others: object
) -> Virtqueue:
    features |= VERSION_1 | (PACKED if packed else 0)
    memory = memory or GuestMemory([(ADDRESS, bytearray(MEMORY_SIZE))])
    settings = {"address": ADDRESS, "request_size": 16, **others}
    return Virtqueue(memory, size, features, **settings)


def buffers(*lengths: int) -> Callable[..., None]:
    """A prepare that adds a buffer of each length, negative for one that the device writes."""

    def prepare(place, add_descriptor):
        for number, length in enumerate(lengths):
            add_descriptor(BUFFER + 0x1000 * number, abs(length), from_dev=length < 0)

    return prepare


def everything(queue: Virtqueue) -> tuple[bytes, int, int]:
    """All bytes of the memory, and what the queue says of itself."""
    return queue.memory.read(ADDRESS, MEMORY_SIZE), queue.free, queue.outstanding


def own_areas(queue: Virtqueue) -> Areas:
    """Where the areas are by the driver's own addresses."""
    return Areas(*queue.layout.areas(ADDRESS))


def add_until_full(queue: Virtqueue) -> list[int]:
    return [queue.add_request(buffers(1)) for _ in range(queue.free)]


# -- what the device finds ---------------------------------------------------------------------------


@both_formats
def test_the_device_finds_the_buffers_in_their_order_with_their_directions(packed):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    request_id = queue.add_request(buffers(5, 0, -7))
    (offered,) = device.available()
    assert offered.head == request_id == 0
    kinds = NEXT | WRITE
    assert [(address, length, flags & kinds) for address, length, flags in offered.buffers] == [
        (BUFFER, 5, NEXT),
        (BUFFER + 0x1000, 0, NEXT),
        (BUFFER + 0x2000, 7, WRITE),
    ]
    assert (queue.free, queue.outstanding) == (5, 1)


@both_formats
def test_only_the_last_descriptor_of_a_request_has_no_next(packed):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    for count in (1, 2, 3):
        queue.add_request(buffers(*[1] * count))
        (offered,) = device.available()
        assert [flags & NEXT for _, _, flags in offered.buffers] == [NEXT] * (count - 1) + [0]


def test_a_packed_request_of_one_descriptor_has_no_next():
    """The virtio-driver crate publishes it with NEXT set, and the device would look for another."""
    queue = new_queue(packed=True)
    queue.add_request(buffers(-512))
    assert HandDevice.of(queue).flags_of_slot(0) == WRITE | AVAILABLE


def test_a_split_descriptor_has_the_bytes_of_the_standard():
    queue = new_queue()

    def prepare(place, add_descriptor):
        add_descriptor(0x1000, 0x2000, from_dev=True)
        add_descriptor(0x1122_3344_5566_7788, 0xAABBCCDD, from_dev=True)

    queue.add_request(prepare)
    assert queue.memory.read(queue.areas.descriptor_table, 32) == bytes.fromhex(
        "0010000000000000 00200000 0300 0100 8877665544332211 ddccbbaa 0200 0000"
    )
    assert queue.memory.read(queue.areas.driver_area, 6) == bytes.fromhex("0000 0100 0000")


@pytest.mark.parametrize(
    "start, golden",
    [
        (0x8003, "0010000000000000 00020000 0000 8200"),  # first lap, wrap counter 1
        (0x0003, "0010000000000000 00020000 0000 0280"),  # second lap
    ],
    ids=["first lap", "second lap"],
)
def test_a_packed_slot_has_the_bytes_of_the_standard(start, golden):
    queue = new_queue(packed=True, start=start)
    queue.add_request(lambda place, add_descriptor: add_descriptor(0x1000, 0x200, from_dev=True))
    assert queue.memory.read(queue.areas.descriptor_table + 3 * 16, 16) == bytes.fromhex(golden)


@known_bug("V05")
@pytest.mark.parametrize("start, wraps", [(0x8006, (1, 1, 0)), (0x0006, (0, 0, 1)), (0x8005, (1, 1, 1))])
def test_a_packed_request_goes_on_at_slot_0_with_the_other_wrap_counter(start, wraps):
    queue = new_queue(packed=True, start=start)
    queue.add_request(buffers(1, 2, 3))
    device = HandDevice.of(queue, start)
    found = [device.flags_of_slot(((start & 7) + number) % 8) & (AVAILABLE | USED) for number in range(3)]
    assert found == [AVAILABLE if wrap else USED for wrap in wraps]
    (offered,) = device.available()
    assert [length for _, length, _ in offered.buffers] == [1, 2, 3]


@known_bug("V04")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_packed_request_as_long_as_the_ring_turns_both_wrap_counters_over(size):
    queue = new_queue(packed=True, size=size)
    device = HandDevice.of(queue)
    for lap in range(4):
        request_id = queue.add_request(buffers(*range(1, size + 1)))
        (offered,) = device.available()
        assert [length for _, length, _ in offered.buffers] == list(range(1, size + 1))
        assert device.next == (0 if lap % 2 == 0 else 0x8000)
        device.give_back(request_id)
        assert [done.id for done in queue.completions()] == [request_id]
        assert queue.free == size


@both_formats
@pytest.mark.parametrize("size", [1, 2, 16])
def test_requests_stay_whole_through_many_rounds(packed, size):
    queue = new_queue(packed, size)
    device = HandDevice.of(queue)
    for turn in range(5 * size + 3):
        lengths = list(range(turn, turn + 1 + turn % min(3, size)))
        queue.add_request(buffers(*lengths))
        (offered,) = device.available()
        assert [length for _, length, _ in offered.buffers] == lengths
        device.give_back(offered.head)
        assert len(list(queue.completions())) == 1


# -- ids ---------------------------------------------------------------------------------------------


@both_formats
def test_ids_of_an_unused_queue_count_from_0(packed):
    assert add_until_full(new_queue(packed)) == list(range(8))


def test_the_id_of_a_split_request_is_its_first_descriptor():
    queue = new_queue()
    assert [
        queue.add_request(buffers(1, 2, 3)),
        queue.add_request(buffers(1)),
        queue.add_request(buffers(1)),
    ] == [
        0,
        3,
        4,
    ]


def test_the_ids_of_packed_requests_count_requests_and_not_slots():
    queue = new_queue(packed=True)
    assert [
        queue.add_request(buffers(1, 2, 3)),
        queue.add_request(buffers(1)),
        queue.add_request(buffers(1)),
    ] == [
        0,
        1,
        2,
    ]


@both_formats
def test_the_id_that_was_freed_last_is_the_next(packed):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    add_until_full(queue)
    device.available()
    for used_id in (5, 2, 7):
        device.give_back(used_id)
    assert [done.id for done in queue.completions()] == [5, 2, 7]
    assert [queue.add_request(buffers(1)) for _ in range(3)] == [7, 2, 5]


def test_the_descriptors_of_a_split_request_are_taken_up_again_from_its_first():
    queue = new_queue()
    device = HandDevice.of(queue)
    for _ in range(3):
        assert queue.add_request(buffers(1, 2, 3)) == 0
        assert [device.read_descriptor(index)[1] for index in range(3)] == [1, 2, 3]
        device.available()
        device.give_back(0)
        assert len(list(queue.completions())) == 1
    assert [queue.add_request(buffers(1)) for _ in range(4)] == [0, 1, 2, 3]


@both_formats
def test_an_id_is_never_given_twice_at_a_time(packed):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    out: set[int] = set()
    for turn in range(60):
        while queue.free > turn % 3:
            request_id = queue.add_request(buffers(*[1] * min(1 + turn % 2, queue.free)))
            assert request_id not in out and request_id < 8
            out.add(request_id)
        device.available()
        for used_id in sorted(out)[turn % 2 :: 2]:
            device.give_back(used_id)
            out.remove(used_id)
        list(queue.completions())
        assert queue.outstanding == len(out)


# -- the place of a request --------------------------------------------------------------------------


@both_formats
def test_each_id_has_a_place_of_its_own_in_the_queues_block(packed):
    queue = new_queue(packed)
    places: list[RequestPlace] = []

    def prepare(place, add_descriptor):
        places.append(place)
        place.data[:] = bytes([0xA0 + len(places)]) * 16
        add_descriptor(place.address, 16)

    for _ in range(8):
        queue.add_request(prepare)
    start = ADDRESS + queue.layout.request_offset
    assert [place.address for place in places] == [start + 16 * number for number in range(8)]
    assert all(len(place.data) == 16 for place in places)
    assert queue.memory.read(start, 128) == b"".join(bytes([0xA1 + number]) * 16 for number in range(8))


@both_formats
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_a_queue_without_request_data_fits_exactly_the_memory_that_its_layout_says(packed, size):
    end = VirtqueueLayout.new(1, size, VERSION_1 | (PACKED if packed else 0)).end_offset
    queue = new_queue(packed, size, memory=GuestMemory([(ADDRESS, bytearray(end))]), request_size=0)
    request_id = queue.add_request(buffers(1))
    device = HandDevice.of(queue)
    device.available()
    device.give_back(request_id)
    assert [done.request for done in queue.completions()] == [b""]


# -- too many ----------------------------------------------------------------------------------------


@both_formats
def test_a_full_queue_refuses_a_request_before_it_is_prepared(packed):
    queue = new_queue(packed)
    add_until_full(queue)
    before = everything(queue)
    with pytest.raises(RingFull, match="8 descriptors are taken, by 8 requests") as caught:
        queue.add_request(lambda place, add_descriptor: pytest.fail("was prepared"))
    assert (caught.value.needed, caught.value.free) == (1, 0)
    assert everything(queue) == before


@both_formats
def test_a_request_that_runs_out_of_descriptors_leaves_no_trace(packed):
    queue = new_queue(packed)
    queue.add_request(buffers(1, 2, 3))
    before = everything(queue)
    with pytest.raises(RingFull) as caught:
        queue.add_request(buffers(1, 2, 3, 4, 5, 6))
    assert (caught.value.needed, caught.value.free) == (6, 5)
    assert everything(queue) == before
    assert queue.add_request(buffers(1, 2, 3, 4, 5)) == (1 if packed else 3)
    assert [len(one.buffers) for one in HandDevice.of(queue).available()] == [3, 5]


@both_formats
def test_a_request_that_never_fits_is_the_callers_error(packed):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError) as caught:
        queue.add_request(buffers(*range(9)))
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("buffers", 9, 8)
    assert everything(queue) == before


# -- wrong requests ----------------------------------------------------------------------------------


@both_formats
def test_a_request_without_buffers_is_refused_and_nothing_published(packed):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError, match="no buffer") as caught:
        queue.add_request(lambda place, add_descriptor: None)
    assert caught.value.argument == "prepare"
    assert everything(queue) == before
    assert HandDevice.of(queue).available() == []


class Refused(Exception):
    """What a prepare or a translation of these tests raises."""


@both_formats
@pytest.mark.parametrize("error", [Refused, KeyboardInterrupt, RingFull], ids=lambda error: error.__name__)
@pytest.mark.parametrize("added", range(5))
def test_a_prepare_that_raises_at_any_point_leaves_memory_and_queue_as_they_were(packed, added, error):
    """In the crate, the slots behind the first of an abandoned packed list stay available."""
    queue = new_queue(packed, start=0x8006 if packed else 0xFFFF)
    queue.add_request(buffers(1))
    before = everything(queue)
    refusal = error("no more")

    def prepare(place, add_descriptor):
        buffers(*[1] * added)(place, add_descriptor)
        raise refusal

    with pytest.raises(error) as caught:
        queue.add_request(prepare)
    assert caught.value is refusal
    assert everything(queue) == before
    # A shorter request in the same place is alone: nothing of the abandoned one is seen behind it.
    queue.add_request(buffers(9))
    device = HandDevice.of(queue, 0x8006 if packed else 0xFFFF)
    assert [[length for _, length, _ in one.buffers] for one in device.available()] == [[1], [9]]


@both_formats
def test_a_prepare_that_swallows_a_refusal_publishes_what_it_could_add(packed):
    queue = new_queue(packed, size=4)

    def prepare(place, add_descriptor):
        for length in (1, -1, 2**32, 2, 3, 4, 5):
            try:
                add_descriptor(BUFFER, length)
            except (CallerError, RingFull):
                continue

    queue.add_request(prepare)
    (offered,) = HandDevice.of(queue).available()
    assert [length for _, length, _ in offered.buffers] == [1, 2, 3, 4]


@both_formats
def test_a_request_cannot_be_added_while_another_is_being_prepared(packed):
    queue = new_queue(packed)

    def prepare(place, add_descriptor):
        add_descriptor(BUFFER, 1)
        with pytest.raises(CallerError, match="being prepared") as caught:
            queue.add_request(buffers(7))
        assert caught.value.argument == "prepare"
        add_descriptor(BUFFER, 2)

    queue.add_request(prepare)
    (offered,) = HandDevice.of(queue).available()
    assert [length for _, length, _ in offered.buffers] == [1, 2]


@both_formats
def test_a_nested_request_that_is_not_caught_undoes_the_outer_one(packed):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError, match="being prepared"):
        queue.add_request(lambda place, add_descriptor: queue.add_request(buffers(7)))
    assert everything(queue) == before
    assert queue.add_request(buffers(1)) == 0


@both_formats
@pytest.mark.parametrize("fails", [False, True], ids=["after a request", "after a refused one"])
def test_add_descriptor_is_of_no_use_after_its_prepare(packed, fails):
    queue = new_queue(packed)
    kept = []

    def prepare(place, add_descriptor):
        kept.append(add_descriptor)
        add_descriptor(BUFFER, 1)
        if fails:
            raise Refused

    try:
        queue.add_request(prepare)
    except Refused:
        assert fails
    before = everything(queue)
    with pytest.raises(CallerError, match="inside prepare") as caught:
        kept[0](BUFFER, 1)
    assert caught.value.argument == "add_descriptor"
    assert everything(queue) == before
    queue.add_request(buffers(5))
    assert [length for _, length, _ in HandDevice.of(queue).available()[-1].buffers] == [5]


@both_formats
@pytest.mark.parametrize("outstanding", [1, 3])
def test_a_request_in_whose_prepare_completions_were_taken_is_refused(packed, outstanding):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    ids = [queue.add_request(buffers(1)) for _ in range(outstanding)]
    device.available()
    device.give_back(ids[0])
    taken = []

    def prepare(place, add_descriptor):
        add_descriptor(BUFFER, 1)
        taken.extend(done.id for done in queue.completions())

    with pytest.raises(CallerError, match="taken completions"):
        queue.add_request(prepare)
    assert taken == ids[:1]
    assert (queue.free, queue.outstanding) == (8 - outstanding + 1, outstanding - 1)
    assert device.available() == []
    queue.add_request(buffers(6))
    assert [length for _, length, _ in device.available()[0].buffers] == [6]


@both_formats
@pytest.mark.parametrize("length", [-1, -(2**32), 2**32, 2**64])
def test_a_length_that_32_bits_do_not_hold_is_refused(packed, length):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError) as caught:
        queue.add_request(lambda place, add_descriptor: add_descriptor(BUFFER, length))
    assert (caught.value.argument, caught.value.value) == ("length", length)
    assert everything(queue) == before


@known_bug("V08")
@both_formats
def test_a_request_has_at_most_4294967295_bytes(packed):
    queue = new_queue(packed)
    before = everything(queue)
    for lengths in ((0xFFFF_FFFF, 1), (0xFFFF_FFFE, -2), (1, 2**31, -(2**31))):
        with pytest.raises(CallerError, match="4294967295") as caught:
            queue.add_request(buffers(*lengths))
        assert caught.value.argument == "length"
        assert everything(queue) == before
    queue.add_request(buffers(0xFFFF_FFFE, 0, -1))
    (offered,) = HandDevice.of(queue).available()
    assert sum(length for _, length, _ in offered.buffers) == 0xFFFF_FFFF


@known_bug("V07")
@both_formats
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("address", [-1, 2**64, 2**70])
def test_an_address_that_64_bits_do_not_hold_is_refused_without_a_trace(packed, position, address):
    queue = new_queue(packed)
    before = everything(queue)

    def prepare(place, add_descriptor):
        for number in range(3):
            add_descriptor(address if number == position else BUFFER, 1)

    with pytest.raises(CallerError) as caught:
        queue.add_request(prepare)
    assert (caught.value.argument, caught.value.value) == ("address", address)
    assert everything(queue) == before
    queue.add_request(buffers(9))
    assert [len(one.buffers) for one in HandDevice.of(queue).available()] == [1]


@both_formats
def test_a_readable_buffer_behind_a_writable_one_is_refused(packed):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError, match="readable") as caught:
        queue.add_request(buffers(1, -1, 1))
    assert caught.value.argument == "from_dev"
    assert everything(queue) == before


# -- addresses of the device -------------------------------------------------------------------------

IOVA = 0x7000_0000_0000


@both_formats
def test_buffers_areas_and_tables_get_the_devices_addresses(packed):
    asked: list[tuple[int, int]] = []

    def translate(address: int, length: int) -> int:
        asked.append((address, length))
        return address + IOVA

    queue = new_queue(packed, features=INDIRECT_DESC, indirect_size=4, translate=translate)
    layout = queue.layout
    assert queue.areas == tuple(area + IOVA for area in layout.areas(ADDRESS))
    sizes = (128, 4, 4) if packed else (128, 22, 70)
    assert asked == list(zip(layout.areas(ADDRESS), sizes, strict=True))
    asked.clear()

    queue.add_request(buffers(5, -7))
    assert asked == [(BUFFER, 5), (BUFFER + 0x1000, 7)]
    asked.clear()
    request_id = queue.add_request(buffers(1, 2, -3), indirect=True)
    table = ADDRESS + layout.indirect_offset + 4 * 16 * request_id
    assert asked[3:] == [(table, 48)]

    device = HandDevice(queue.memory, own_areas(queue), 8, packed)
    direct, indirect = device.available()
    assert [address for address, _, _ in direct.buffers] == [IOVA + BUFFER, IOVA + BUFFER + 0x1000]
    assert [(address, length) for address, length, _ in indirect.buffers] == [(IOVA + table, 48)]
    assert [entry[:2] for entry in device.table(table, 3)] == [
        (IOVA + BUFFER, 1),
        (IOVA + BUFFER + 0x1000, 2),
        (IOVA + BUFFER + 0x2000, 3),
    ]


@both_formats
@pytest.mark.parametrize("refused", range(3))
def test_what_a_translation_raises_is_raised_and_nothing_is_left(packed, refused):
    calls = []

    def translate(address: int, length: int) -> int:
        calls.append(address)
        if len(calls) == refused + 1:
            raise Refused(address)
        return address

    queue = new_queue(packed, translate=translate)
    before = everything(queue)
    with pytest.raises(Refused):
        queue.add_request(buffers(1, 2, 3))
    assert everything(queue) == before
    queue.add_request(buffers(9))
    assert [
        len(one.buffers) for one in HandDevice(queue.memory, own_areas(queue), 8, packed).available()
    ] == [1]


@both_formats
def test_a_table_that_cannot_be_translated_is_not_published(packed):
    def translate(address: int, length: int) -> int:
        if address < BUFFER:
            raise Refused(address)
        return address

    queue = new_queue(packed, features=INDIRECT_DESC, indirect_size=4, translate=translate)
    before = everything(queue)
    with pytest.raises(Refused):
        queue.add_request(buffers(1, 2, 3), indirect=True)
    assert everything(queue) == before


@both_formats
@pytest.mark.parametrize("address", [-1, 2**64])
def test_a_translation_to_what_64_bits_do_not_hold_is_refused_without_a_trace(packed, address):
    answers = iter([BUFFER, BUFFER, address])
    queue = new_queue(packed, translate=lambda start, length: next(answers))
    before = everything(queue)
    with pytest.raises(CallerError, match="address"):
        queue.add_request(buffers(1, 2, 3))
    assert everything(queue) == before


# -- indirect ----------------------------------------------------------------------------------------


@known_bug("V05")
@both_formats
def test_an_indirect_request_takes_one_descriptor_and_lists_its_buffers_in_its_table(packed):
    queue = new_queue(packed, features=INDIRECT_DESC, indirect_size=4)
    device = HandDevice.of(queue)
    queue.add_request(buffers(1))
    request_id = queue.add_request(buffers(5, 6, -7, -8), indirect=True)
    assert (queue.free, queue.outstanding, request_id) == (6, 2, 1)
    table = ADDRESS + queue.layout.indirect_offset + 4 * 16 * request_id
    offered = device.available()[1]
    assert [(address, length, flags & 7) for address, length, flags in offered.buffers] == [
        (table, 64, INDIRECT)
    ]
    # A packed table is read in its order: only WRITE counts there, and no flag of availability.
    links = 0 if packed else NEXT
    assert device.table(table, 4) == (
        (BUFFER, 5, links, 0 if packed else 1),
        (BUFFER + 0x1000, 6, links, 0 if packed else 2),
        (BUFFER + 0x2000, 7, WRITE | links, 0 if packed else 3),
        (BUFFER + 0x3000, 8, WRITE, 0),
    )


def test_an_indirect_descriptor_has_the_bytes_of_the_standard():
    queue = new_queue(features=INDIRECT_DESC, indirect_size=4)
    queue.add_request(buffers(1, 2, 3, 4), indirect=True)
    table = ADDRESS + queue.layout.indirect_offset
    assert queue.memory.read(ADDRESS, 16) == struct.pack("<Q", table) + bytes.fromhex("40000000 0400 0000")


@both_formats
def test_as_many_indirect_requests_as_descriptors_have_tables_of_their_own(packed):
    queue = new_queue(packed, size=4, features=INDIRECT_DESC, indirect_size=4, request_size=0)
    device = HandDevice.of(queue)
    for turn in range(3):
        for number in range(4):
            queue.add_request(buffers(*[turn * 10 + number + 1] * 4), indirect=True)
        offered = device.available()
        tables = [one.buffers[0][0] for one in offered]
        assert len(set(tables)) == 4
        for number, table in enumerate(tables):
            assert [entry[1] for entry in device.table(table, 4)] == [turn * 10 + number + 1] * 4
        for one in reversed(offered):
            device.give_back(one.head)
        assert len(list(queue.completions())) == 4


@both_formats
@pytest.mark.parametrize(
    "features, indirect_size",
    [(0, 4), (INDIRECT_DESC, 0), (EVENT_IDX, 4)],
    ids=["no feature", "no table", "other"],
)
def test_an_indirect_request_needs_the_feature_and_a_table(packed, features, indirect_size):
    queue = new_queue(packed, features=features, indirect_size=indirect_size)
    before = everything(queue)
    with pytest.raises(CallerError) as caught:
        queue.add_request(buffers(1, 2), indirect=True)
    assert caught.value.argument == "indirect"
    assert everything(queue) == before
    assert queue.add_request(buffers(1)) == 0


@known_bug("V06")
@both_formats
@pytest.mark.parametrize("indirect_size, most", [(3, 3), (8, 8), (20, 8)])
@pytest.mark.parametrize("taken", [0, 6], ids=["empty queue", "two descriptors free"])
def test_an_indirect_request_has_at_most_a_table_and_never_more_than_the_queue(
    packed, indirect_size, most, taken
):
    """Too many for the table is never going to fit: an error of the caller, not a full ring."""
    queue = new_queue(packed, features=INDIRECT_DESC, indirect_size=indirect_size)
    for _ in range(taken):
        queue.add_request(buffers(1))
    before = everything(queue)
    with pytest.raises(CallerError) as caught:
        queue.add_request(buffers(*[1] * (most + 1)), indirect=True)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("buffers", most + 1, most)
    assert everything(queue) == before
    queue.add_request(buffers(*[1] * most), indirect=True)
    assert queue.free == 8 - taken - 1


# -- making a queue ----------------------------------------------------------------------------------


@both_formats
@pytest.mark.parametrize("address", [0x1001, 0x1008, 0x100C])
def test_a_block_starts_at_a_multiple_of_16(packed, address):
    with pytest.raises(CallerError, match=re.escape(f"{address:#x}")) as caught:
        new_queue(packed, address=address)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("address", address, 16)


@both_formats
def test_memory_that_is_a_byte_too_small_is_refused(packed):
    features = VERSION_1 | INDIRECT_DESC | (PACKED if packed else 0)
    end = VirtqueueLayout.new(1, 8, features, request_size=16, indirect_size=2).end_offset
    new_queue(packed, indirect_size=2, memory=GuestMemory([(ADDRESS, bytearray(end))]))
    with pytest.raises(AddressError) as caught:
        new_queue(packed, indirect_size=2, memory=GuestMemory([(ADDRESS, bytearray(end - 1))]))
    assert caught.value.address == ADDRESS + end - 1


@both_formats
def test_a_block_lies_inside_one_region(packed):
    memory = GuestMemory([(ADDRESS, bytearray(0x100)), (ADDRESS + 0x100, bytearray(0x1000))])
    with pytest.raises(AddressError, match="another region"):
        new_queue(packed, size=16, memory=memory)


@both_formats
def test_a_block_in_memory_that_cannot_be_written_is_refused(packed):
    with pytest.raises(CallerError, match="read-only"):
        new_queue(packed, memory=GuestMemory([(ADDRESS, bytes(MEMORY_SIZE))]))


@both_formats
@pytest.mark.parametrize("others", [0, EVENT_IDX, INDIRECT_DESC])
def test_a_queue_with_in_order_is_refused(packed, others):
    with pytest.raises(CallerError, match="IN_ORDER") as caught:
        new_queue(packed, features=others | int(VirtioFeatures.IN_ORDER))
    assert caught.value.argument == "features"


@both_formats
def test_features_that_are_no_concern_of_queues_are_taken_as_they_are(packed):
    features = 1 << 5 | 1 << 27 | 1 << 36 | 1 << 50 | VERSION_1 | (PACKED if packed else 0)
    queue = new_queue(packed, features=features)
    assert int(queue.features) == features
    assert queue.add_request(buffers(1)) == 0


@both_formats
def test_old_bytes_are_wiped_out_and_those_around_the_block_left_alone(packed):
    memory = GuestMemory([(ADDRESS, bytearray(b"\xff" * MEMORY_SIZE))])
    queue = new_queue(packed, memory=memory, features=INDIRECT_DESC, indirect_size=2, address=ADDRESS + 0x100)
    end = queue.layout.end_offset
    assert memory.read(ADDRESS + 0x100, end) == bytes(end)
    assert memory.read(ADDRESS, 0x100) == b"\xff" * 0x100
    assert memory.read(ADDRESS + 0x100 + end, 0x200) == b"\xff" * 0x200


@both_formats
def test_two_queues_of_one_block_do_not_touch_each_other(packed):
    features = VERSION_1 | (PACKED if packed else 0)
    layout = VirtqueueLayout.new(2, 8, features, request_size=16)
    memory = GuestMemory([(ADDRESS, bytearray(2 * layout.end_offset))])
    first, second = (
        new_queue(packed, memory=memory, address=ADDRESS + layout.queue_offset(number)) for number in range(2)
    )
    for queue in (first, second):
        for _ in range(8):
            queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, 16))
    for number, queue in enumerate((first, second)):
        offered = HandDevice.of(queue).available()
        assert [one.head for one in offered] == list(range(8))
        start = ADDRESS + layout.queue_offset(number)
        assert all(start <= one.buffers[0][0] < start + layout.end_offset for one in offered)


@pytest.mark.parametrize("start", [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
def test_a_split_queue_begins_at_any_index(start):
    queue = new_queue(start=start)
    device = HandDevice.of(queue, start)
    assert (device.avail_idx, device.used_idx) == (start, start)
    assert list(queue.completions()) == []
    assert queue.add_request(buffers(1)) == 0
    assert device.avail_idx == (start + 1) & 0xFFFF
    assert device.avail_ring(start) == 0
    assert [one.head for one in device.available()] == [0]


@pytest.mark.parametrize("start", [0x8000, 0x0000, 0x8007, 0x0007])
def test_a_packed_queue_begins_at_any_slot_of_either_round(start):
    queue = new_queue(packed=True, start=start)
    device = HandDevice.of(queue, start)
    assert list(queue.completions()) == []
    for _ in range(20):
        request_id = queue.add_request(buffers(1, 2))
        assert [one.head for one in device.available()] == [request_id]
        device.give_back(request_id)
        assert [done.id for done in queue.completions()] == [request_id]


@pytest.mark.parametrize(
    "packed, start",
    [(False, -1), (False, 0x10000), (True, -1), (True, 8), (True, 0x8008), (True, 0x7FFF), (True, 0x10000)],
)
def test_a_start_that_no_queue_of_this_size_has_is_refused(packed, start):
    with pytest.raises(CallerError) as caught:
        new_queue(packed, start=start)
    assert (caught.value.argument, caught.value.value) == ("start", start)


@both_formats
def test_a_queue_says_what_it_is(packed):
    queue = new_queue(packed, size=8, features=EVENT_IDX)
    queue.add_request(buffers(1, 2))
    assert queue.queue_size == 8
    assert repr(queue) == f"<Virtqueue: {'packed' if packed else 'split'}, 8 descriptors, 6 free>"
    assert queue.layout == VirtqueueLayout.new(1, 8, queue.features, request_size=16)


# -- interrupted -------------------------------------------------------------------------------------


def add_interrupted(queue: Virtqueue, memory: WatchedMemory, access: int) -> bool:
    """Add a request of three buffers and interrupt behind that access; whether it was interrupted."""
    memory.take()

    def interrupt(_: object) -> None:
        if len(memory.accesses) == access + 1:
            raise KeyboardInterrupt

    memory.after = interrupt
    try:
        queue.add_request(buffers(1, 2, 3))
        return False
    except KeyboardInterrupt:
        return True
    finally:
        memory.after = None


@both_formats
@pytest.mark.parametrize("access", range(9))
@pytest.mark.parametrize("served", ["at once", "later"])
def test_an_interrupt_while_publishing_leaves_the_device_no_part_of_a_request(packed, access, served):
    """Behind each access in turn.  What is seen is the whole request or nothing, and it is completed."""
    memory = WatchedMemory(GuestMemory([(ADDRESS, bytearray(MEMORY_SIZE))]), [])
    queue = new_queue(packed, memory=memory)
    device = HandDevice(memory.inside, own_areas(queue), 8, packed)
    interrupted = add_interrupted(queue, memory, access)
    seen = device.available()
    assert [len(one.buffers) for one in seen] in ([[], [3]] if interrupted else [[3]])
    if served == "at once":
        for one in seen:
            device.give_back(one.head)
    queue.add_request(buffers(9))
    given_back = len(seen) if served == "at once" else 0
    seen += device.available()
    lengths = [[length for _, length, _ in one.buffers] for one in seen]
    assert lengths in ([[9]], [[1, 2, 3], [9]])
    for one in seen[given_back:]:
        device.give_back(one.head)
    assert [done.id for done in queue.completions()] == [one.head for one in seen]
    assert (queue.free, queue.outstanding) == (8, 0)


# -- requests that are their own places --------------------------------------------------------------


@both_formats
@pytest.mark.parametrize("moved", [0, 0x1_0000_0000], ids=["own addresses", "translated"])
def test_a_place_that_is_added_is_the_same_as_a_request_that_names_it(packed, moved):
    def translate(address: int, length: int) -> int:
        return address + moved

    def prepare(place, add_descriptor):
        place.data[:5] = b"hello"
        add_descriptor(place.address, 5)

    one, other = (new_queue(packed, translate=translate if moved else None) for _ in range(2))
    for _ in range(8):
        place = one.next_place
        place.data[:5] = b"hello"
        assert one.add_place(5) == other.add_request(prepare) == place.id
    assert everything(one) == everything(other)
    assert one.next_place is None


@both_formats
def test_a_place_can_be_for_the_device_to_write(packed):
    queue = new_queue(packed)
    device = HandDevice.of(queue)
    place = queue.next_place
    assert queue.add_place(16, from_dev=True) == place.id
    (offered,) = device.available()
    assert [(address, length, flags & WRITE) for address, length, flags in offered.buffers] == [
        (place.address, 16, WRITE)
    ]
    place.data[:3] = b"yes"
    device.give_back(offered.head, 3)
    (completion,) = queue.completions()
    assert completion == (place.id, b"yes".ljust(16, b"\0"), 3)


@both_formats
@pytest.mark.parametrize("length", [-1, 17])
def test_more_of_a_place_than_there_is_cannot_be_added(packed, length):
    queue = new_queue(packed)
    before = everything(queue)
    with pytest.raises(CallerError) as caught:
        queue.add_place(length)
    assert (caught.value.value, caught.value.limit) == (length, 16)
    assert everything(queue) == before


@both_formats
def test_a_place_is_not_added_to_a_full_queue_nor_inside_prepare(packed):
    queue = new_queue(packed)

    def prepare(place, add_descriptor):
        with pytest.raises(CallerError):
            queue.add_place(1)
        add_descriptor(place.address, 1)

    queue.add_request(prepare)
    for _ in range(7):
        queue.add_place(1)
    with pytest.raises(RingFull):
        queue.add_place(1)
