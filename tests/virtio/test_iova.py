"""Which addresses a device is given for the driver's memory.

Source: the virtio-driver crate, IovaSpace.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, tuples

from vmbus.errors import CallerError
from vmbus.memory import GuestMemory
from vmbus.virtio import IovaSpace, Virtqueue


def test_the_lowest_stretch_that_is_long_enough_is_given_out():
    space = IovaSpace([(0x1000, 0x1FFF), (0x8000, 0xFFFF)])
    assert space.allocate(0x10_0000, 0x800) == 0x1000
    assert space.allocate(0x20_0000, 0x1000) == 0x8000
    assert space.allocate(0x30_0000, 0x800) == 0x1800
    assert space.allocate(0x40_0000, 1) == 0x9000


def test_what_was_freed_is_given_out_again():
    space = IovaSpace([(0, 0x2FFF)])
    assert [space.allocate(0x1000 * (place + 16), 0x1000) for place in range(3)] == [0, 0x1000, 0x2000]
    space.free(0x1_1FFF, 1)  # one byte of the second is enough
    assert space.allocate(0x9_0000, 0x1000) == 0x1000
    assert [mapping.iova for mapping in space.mappings] == [0, 0x2000, 0x1000]


def test_a_stretch_that_fits_a_range_to_its_last_address_is_given_out_and_one_byte_more_is_not():
    assert IovaSpace([(5, 14)]).allocate(100, 10) == 5
    with pytest.raises(CallerError, match="no 11 addresses"):
        IovaSpace([(5, 14)]).allocate(100, 11)


@pytest.mark.parametrize("address, size", [(100, 10), (109, 1), (95, 6), (90, 40)])
def test_memory_is_mapped_once(address, size):
    space = IovaSpace([(0, 1000)])
    space.allocate(100, 10)
    with pytest.raises(CallerError, match="mapped already"):
        space.allocate(address, size)


@pytest.mark.parametrize("address, length", [(99, 1), (100, 11), (110, 1), (109, 2), (95, 30)])
def test_only_what_is_inside_a_mapping_is_translated(address, length):
    space = IovaSpace([(0x1000, 0x2000)])
    space.allocate(100, 10)
    assert (space.translate(100, 10), space.translate(109, 1)) == (0x1000, 0x1009)
    with pytest.raises(CallerError, match="not inside one"):
        space.translate(address, length)


def test_a_range_is_not_translated_across_two_mappings_even_where_they_touch():
    space = IovaSpace([(0x1000, 0x2000)])
    assert (space.allocate(100, 10), space.allocate(110, 10)) == (0x1000, 0x100A)
    with pytest.raises(CallerError, match="not inside one"):
        space.translate(109, 2)


@pytest.mark.parametrize("ranges", [[(2, 1)], [(0, 5), (5, 9)], [(6, 9), (0, 3)], [(0, 1 << 64)], [(-1, 4)]])
def test_ranges_that_are_none_or_out_of_order_are_refused(ranges):
    with pytest.raises(CallerError) as error:
        IovaSpace(ranges)
    assert error.value.argument == "ranges"


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_is_no_stretch(size):
    with pytest.raises(CallerError):
        IovaSpace([(0, 9)]).allocate(0, size)


@given(lists(tuples(integers(0, 60), integers(1, 12)), max_size=20))
def test_no_address_is_given_out_twice(stretches):
    space = IovaSpace([(0, 29), (40, 63)])
    given_out: dict[int, int] = {}
    for place, size in stretches:
        try:
            iova = space.allocate(1000 * place, size)
        except CallerError:
            space.free(1000 * place, 1)
            given_out = {iova: address for iova, address in given_out.items() if address // 1000 != place}
            continue
        for step in range(size):
            assert iova + step not in given_out
            assert iova + step <= 29 or 40 <= iova + step <= 63
            given_out[iova + step] = 1000 * place + step
    for iova, address in given_out.items():
        assert space.translate(address, 1) == iova


def test_a_queue_gives_the_device_addresses_of_the_space():
    space = IovaSpace([(0x10_0000, 0x1F_FFFF)])
    memory = GuestMemory.from_ranges([(0, 0x4000)])
    space.allocate(0, 0x4000)
    queue = Virtqueue(memory, 8, request_size=16, translate=space.translate)
    assert queue.areas.descriptor_table == 0x10_0000
    queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, 16))
    assert memory.load_field(0, 8) == 0x10_0000 + queue.layout.request_offset
    with pytest.raises(CallerError, match="not inside one"):
        queue.add_request(lambda place, add_descriptor: add_descriptor(0x4000, 1))
    assert queue.free == 7
