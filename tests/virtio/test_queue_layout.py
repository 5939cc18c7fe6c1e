"""Where the parts of a virtqueue lie: the sizes of its areas, and the block that a driver puts them in.

Sources: OASIS VIRTIO 1.2, sections 2.7 (sizes and alignments), 2.7.2 and 2.8; the virtio-driver
crate, VirtqueueLayout, whose offsets these are.
"""

from __future__ import annotations

import pytest

from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.virtio import (
    LARGEST_QUEUE,
    QueueAreas,
    VirtioFeatures,
    VirtqueueLayout,
    available_ring_schema,
    check_queue_size,
    used_ring_schema,
)

SPLIT = int(VirtioFeatures.VERSION_1)
PACKED = SPLIT | int(VirtioFeatures.RING_PACKED)

#: Queue size: bytes of descriptors, available ring, used ring; offsets of the driver area, the device
#: area and the first request.
WORKED_OFFSETS = {
    1: (16, 8, 14, 16, 28, 44),
    2: (32, 10, 22, 32, 44, 68),
    4: (64, 14, 38, 64, 80, 120),
    8: (128, 22, 70, 128, 152, 224),
    16: (256, 38, 134, 256, 296, 432),
    128: (2048, 262, 1030, 2048, 2312, 3344),
    256: (4096, 518, 2054, 4096, 4616, 6672),
    1024: (16384, 2054, 8198, 16384, 18440, 26640),
    32768: (524288, 65542, 262150, 524288, 589832, 851984),
}


@pytest.mark.parametrize("size", WORKED_OFFSETS)
def test_a_split_queue_lies_at_the_worked_offsets(size):
    descriptors, available, used, driver, device, requests = WORKED_OFFSETS[size]
    assert QueueAreas.sizes(size, packed=False) == (descriptors, available, used)
    layout = VirtqueueLayout.new(1, size, SPLIT, request_size=33)
    assert layout.driver_area_offset == driver
    assert layout.device_area_offset == device
    assert layout.request_offset == requests


@pytest.mark.parametrize("size", WORKED_OFFSETS)
def test_the_schemas_of_the_rings_have_the_sizes_of_the_areas(size):
    _, available, used = QueueAreas.sizes(size, packed=False)
    assert available_ring_schema(size).sizeof() == available
    assert used_ring_schema(size).sizeof() == used


@pytest.mark.parametrize("size, end", [(1, 80), (8, 496), (16, 960), (128, 7568), (256, 15120)])
def test_a_split_queue_with_requests_of_33_bytes_ends_where_the_crate_ends_it(size, end):
    assert VirtqueueLayout.new(1, size, SPLIT, request_size=33).end_offset == end


@pytest.mark.parametrize("size, requests, end", [(8, 136, 400), (16, 264, 800), (128, 2056, 6288)])
def test_a_packed_queue_with_requests_of_33_bytes_lies_where_the_crate_puts_it(size, requests, end):
    layout = VirtqueueLayout.new(1, size, PACKED, request_size=33)
    assert layout.driver_area_offset == 16 * size
    assert layout.device_area_offset == 16 * size + 4
    assert (layout.request_offset, layout.end_offset) == (requests, end)
    assert QueueAreas.sizes(size, packed=True) == (16 * size, 4, 4)


@pytest.mark.parametrize("features", [SPLIT, PACKED], ids=["split", "packed"])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 512, 32768])
@pytest.mark.parametrize("request_size, indirect_size", [(0, 0), (1, 0), (33, 0), (33, 3), (0, 5), (4096, 1)])
def test_parts_are_aligned_and_follow_each_other_without_overlap(features, size, request_size, indirect_size):
    layout = VirtqueueLayout.new(1, size, features, request_size=request_size, indirect_size=indirect_size)
    packed = features == PACKED
    sizes = QueueAreas.sizes(size, packed=packed)
    areas = layout.areas(0)
    for start, alignment in zip(areas, QueueAreas.alignments(packed=packed), strict=True):
        assert start % alignment == 0
    assert areas.descriptor_table + sizes.descriptor_table <= areas.driver_area
    assert areas.driver_area + sizes.driver_area <= areas.device_area
    assert areas.device_area + sizes.device_area <= layout.request_offset
    assert layout.request_offset + size * request_size <= layout.indirect_offset
    assert layout.indirect_offset + 16 * size * indirect_size == layout.end_offset
    assert layout.indirect_offset % 16 == layout.end_offset % 16 == 0


def test_an_indirect_table_changes_nothing_before_it():
    without = VirtqueueLayout.new(3, 16, SPLIT, request_size=33)
    having = VirtqueueLayout.new(3, 16, SPLIT, request_size=33, indirect_size=4)
    assert having[:5] == without[:5]
    assert having.end_offset == without.end_offset + 16 * 4 * 16


@pytest.mark.parametrize("features", [SPLIT, PACKED], ids=["split", "packed"])
def test_several_queues_lie_end_offset_apart(features):
    layout = VirtqueueLayout.new(4, 8, features, request_size=33)
    assert layout.num_queues == 4
    assert layout[1:] == VirtqueueLayout.new(1, 8, features, request_size=33)[1:]
    assert [layout.queue_offset(queue) for queue in range(4)] == [
        queue * layout.end_offset for queue in range(4)
    ]


@pytest.mark.parametrize("queue", [-1, 4, 5])
def test_a_queue_that_is_not_there_has_no_offset(queue):
    with pytest.raises(CallerError) as caught:
        VirtqueueLayout.new(4, 8).queue_offset(queue)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("queue", queue, 3)


def test_areas_start_from_the_address_of_the_block():
    layout = VirtqueueLayout.new(1, 16, SPLIT)
    assert layout.areas(0x1_2345_0000) == (0x1_2345_0000, 0x1_2345_0100, 0x1_2345_0128)


@known_bug("V05", "V08")
@pytest.mark.parametrize("size", [-1, 0, 32769, 65536, 3, 12, 24, 32767])
def test_a_split_queue_has_a_power_of_two_of_descriptors(size):
    for make in (lambda: VirtqueueLayout.new(1, size, SPLIT), lambda: check_queue_size(size, packed=False)):
        with pytest.raises(CallerError) as caught:
            make()
        assert (caught.value.argument, caught.value.value, caught.value.limit) == (
            "size",
            size,
            LARGEST_QUEUE,
        )


@known_bug("V05", "V08")
@pytest.mark.parametrize("size", [-1, 0, 32769, 65536])
def test_a_packed_queue_has_1_to_32768_descriptors(size):
    for make in (lambda: VirtqueueLayout.new(1, size, PACKED), lambda: check_queue_size(size, packed=True)):
        with pytest.raises(CallerError, match=str(size)):
            make()


@pytest.mark.parametrize("size", [1, 3, 5, 6, 7, 12, 910, 32767, 32768])
def test_the_size_of_a_packed_queue_need_not_be_a_power_of_two(size):
    layout = VirtqueueLayout.new(1, size, PACKED)
    assert layout.driver_area_offset == 16 * size
    assert check_queue_size(size, packed=True) == size


@pytest.mark.parametrize(
    "name, value",
    [("num_queues", -1), ("request_size", -1), ("indirect_size", -1)],
)
def test_a_number_that_cannot_be_is_refused_by_its_name(name, value):
    arguments = {"num_queues": 1, "queue_size": 8, name: value}
    with pytest.raises(CallerError, match=name) as caught:
        VirtqueueLayout.new(**arguments)
    assert (caught.value.argument, caught.value.value) == (name, value)
