"""Sizes: what a ring's data area and control page can measure, and rounding to slots."""

from __future__ import annotations

import pytest

from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.layout import CONTROL_PAGE, PACKET_DESCRIPTOR
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import IncomingRing, OutgoingRing, connected_rings
from vmbus.sizes import (
    CONTROL_SIZE,
    CONTROL_WORD_COUNT,
    LARGEST_PACKET,
    MAXIMUM_DATA_SIZE,
    PAGE_SIZE,
    SLOT,
    check_data_size,
    check_header_size,
    round_up_to_slot,
)


def test_the_constants_are_those_of_the_ring_format():
    assert (PAGE_SIZE, CONTROL_WORD_COUNT, CONTROL_SIZE, SLOT) == (4096, 32, 128, 8)
    assert CONTROL_PAGE.size == CONTROL_SIZE
    assert LARGEST_PACKET == 524_288
    assert MAXIMUM_DATA_SIZE == 2_147_479_552


def test_a_length_is_rounded_up_to_the_next_multiple_of_8_and_no_further():
    for length in range(100):
        rounded = round_up_to_slot(length)
        assert rounded % 8 == 0 and length <= rounded < length + 8


@pytest.mark.parametrize("size", [4096, 8192, 5 * 4096, 127 * 4096, 1 << 20, MAXIMUM_DATA_SIZE])
def test_a_data_area_is_any_number_of_pages(size):
    assert check_data_size(size) == size


@known_bug("B33")
@pytest.mark.parametrize(
    "size", [-4096, 0, 1, 24, 128, 4088, 4095, 4097, 6144, MAXIMUM_DATA_SIZE + 4096, 2**32]
)
def test_no_other_size_is_one(size):
    with pytest.raises(CallerError, match=str(size)) as error:
        check_data_size(size)
    assert (error.value.argument, error.value.value) == ("size", size)


@pytest.mark.parametrize("header_size", [4096, 16384, 65536])
def test_a_control_page_may_fill_a_page_of_4_16_or_64_kib(header_size):
    assert check_header_size(header_size) == header_size


@pytest.mark.parametrize("header_size", [0, -4096, 128, 2048, 8192, 32768, 131072])
def test_no_other_header_size_is_one(header_size):
    with pytest.raises(CallerError, match=str(header_size)):
        check_header_size(header_size)


class RingMemOfSize:
    """A memory that says what it likes about its size."""

    def __init__(self, size: int) -> None:
        inside = FlatRingMem(4096)
        self.size = size
        self.control = inside.control
        self.read_at, self.write_at = inside.read_at, inside.write_at
        self.acquire, self.release, self.fence = inside.acquire, inside.release, inside.fence
        self.packer, self.unpacker = inside.packer, inside.unpacker


@known_bug("B33")
@pytest.mark.parametrize("size", [0, 4000, 4104])
@pytest.mark.parametrize("end", [IncomingRing, OutgoingRing])
def test_no_ring_is_made_over_a_memory_of_a_size_no_ring_has(end, size):
    memory = RingMemOfSize(size)
    with pytest.raises(CallerError, match=str(size)):
        end(memory)
    assert list(memory.control) == [0] * 32


@known_bug("B33")
def test_a_header_page_alone_is_no_ring_and_one_data_page_is_the_smallest():
    with pytest.raises(CallerError):
        FlatRingMem.over(bytearray(4096))
    with pytest.raises(CallerError):
        PagedRingMem([bytearray(4096)])
    sender, receiver = connected_rings(memory=FlatRingMem.over(bytearray(8192)))
    sender.send(b"it works")
    assert receiver.receive()[0].payload == b"it works"


@known_bug("B37", "B38")
@pytest.mark.parametrize("pages", [1, 2, 3, 4, 5, 6, 7, 127, 129])
@pytest.mark.parametrize("paged", [False, True], ids=["flat", "paged"])
def test_a_ring_of_any_number_of_pages_is_used_to_its_last_byte_and_wraps_there(pages, paged):
    size = pages * 4096
    memory = PagedRingMem([bytearray(4096) for _ in range(pages + 1)]) if paged else FlatRingMem(size)
    sender, receiver = connected_rings(memory=memory, start=size - 24)
    sender.send(b"before the end")
    sender.send(b"across the end")
    assert receiver.receive()[0].payload == b"before the end\0\0"
    assert receiver.receive()[0].payload == b"across the end\0\0"
    assert memory.control[0] == memory.control[1] == 56
    assert sender.maximum_packet_size() == min(size - 8, 524_288)


@known_bug("B36")
@pytest.mark.parametrize("header_size", [4096, 16384, 65536])
def test_data_starts_behind_a_header_of_any_page_size(header_size):
    buffer = bytearray(header_size + 8192)
    sender, receiver = connected_rings(memory=FlatRingMem.over(buffer, header_size=header_size))
    sender.send(b"the data", transaction_id=7)
    assert PACKET_DESCRIPTOR.unpack(buffer, header_size).transaction_id == 7
    assert buffer[header_size + 16 : header_size + 24] == b"the data"
    assert bytes(buffer[CONTROL_SIZE:header_size]) == bytes(header_size - CONTROL_SIZE)
    assert receiver.receive()[0].payload == b"the data"
