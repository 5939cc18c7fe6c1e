"""PagedRingMem is one ring in pages that lie anywhere, and refuses pages that are none."""

from __future__ import annotations

import mmap
from struct import Struct

import pytest

from tests.helpers import pattern
from vmbus.errors import CallerError
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import IncomingRing, connected_rings
from vmbus.sizes import PAGE_SIZE


def split(image: bytes) -> list[bytes]:
    """An image as its pages."""
    return [image[at : at + PAGE_SIZE] for at in range(0, len(image), PAGE_SIZE)]


def test_pages_hold_what_one_block_would():
    flat = bytearray(4 * PAGE_SIZE)
    pages = [bytearray(PAGE_SIZE) for _ in range(4)]
    for memory in (FlatRingMem.over(flat), PagedRingMem(pages)):
        sender, receiver = connected_rings(memory=memory, start=2 * PAGE_SIZE + 8)
        for length in (0, 8, 2000, 4100, 5000, 64):
            sender.send(pattern(length, seed=length))
            receiver.receive()
    assert b"".join(pages) == flat


def test_pages_may_lie_in_any_order():
    block = mmap.mmap(-1, 4 * PAGE_SIZE)
    places = [memoryview(block)[at : at + PAGE_SIZE] for at in range(0, len(block), PAGE_SIZE)]
    memory = PagedRingMem([places[2], places[3], places[0], places[1]])
    memory.write_at(PAGE_SIZE - 3, b"endgo on")
    memory.write_at(3 * PAGE_SIZE - 1, b"<>")
    assert block[4 * PAGE_SIZE - 3 :] == b"end"
    assert block[0:5] == b"go on"
    assert block[2 * PAGE_SIZE - 1 : 2 * PAGE_SIZE] == b"<"
    assert block[3 * PAGE_SIZE : 3 * PAGE_SIZE + 1] == b">"
    assert repr(memory) == "<PagedRingMem: 12288 bytes of data in 3 pages>"


def test_a_ring_in_read_only_pages_can_be_read_and_not_written():
    image = bytearray(3 * PAGE_SIZE)
    sender, _ = connected_rings(memory=FlatRingMem.over(image))
    sender.send(pattern(5000))
    memory = PagedRingMem(split(bytes(image)))
    receiver = IncomingRing(memory)
    incoming = receiver.incoming()
    packet = receiver.read(incoming)
    assert packet.payload.reader(receiver).read_all() == pattern(5000)
    for write in (
        lambda: memory.write_at(0, b"x"),
        lambda: memory.write_at(PAGE_SIZE - 1, b"two pages"),
        lambda: memory.packer(Struct("<I"))(0, 1),
        lambda: packet.payload.writer(receiver).write(b"x"),
        lambda: receiver.commit_read(incoming),
        receiver.receive,
    ):
        with pytest.raises(CallerError, match="read-only"):
            write()


@pytest.mark.parametrize("read_only", [[0], [1], [2], [1, 2], [0, 1]])
def test_pages_of_which_only_some_can_be_written_are_refused(read_only):
    pages = [bytes(PAGE_SIZE) if number in read_only else bytearray(PAGE_SIZE) for number in range(3)]
    with pytest.raises(CallerError, match="some pages can be written") as caught:
        PagedRingMem(pages)
    assert caught.value.value == read_only


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pages_are_refused(count):
    with pytest.raises(CallerError) as caught:
        PagedRingMem([bytearray(PAGE_SIZE)] * count)
    assert (caught.value.value, caught.value.limit) == (count, 2)


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize("length", [0, 1, 4095, 4097, 8192])
def test_a_page_of_another_size_is_refused_by_its_number(wrong, length):
    pages = [bytearray(length if number == wrong else PAGE_SIZE) for number in range(3)]
    with pytest.raises(CallerError, match=f"page {wrong} is {length} bytes long"):
        PagedRingMem(pages)


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize(
    "page", [None, "x" * PAGE_SIZE, memoryview(bytearray(2 * PAGE_SIZE))[::2]], ids=["None", "text", "gaps"]
)
def test_a_page_that_is_no_block_of_bytes_is_refused_by_its_number(wrong, page):
    pages = [page if number == wrong else bytearray(PAGE_SIZE) for number in range(3)]
    with pytest.raises(CallerError) as caught:
        PagedRingMem(pages)
    assert caught.value.argument == f"pages[{wrong}]"


def test_one_block_instead_of_pages_is_refused():
    with pytest.raises(CallerError):
        PagedRingMem(bytes(2 * PAGE_SIZE))


def test_a_control_page_that_would_tear_is_refused_and_data_pages_may_start_anywhere():
    block = memoryview(mmap.mmap(-1, 3 * PAGE_SIZE))
    crooked = block[1 : 1 + PAGE_SIZE]
    with pytest.raises(CallerError, match="see half a store"):
        PagedRingMem([crooked, bytearray(PAGE_SIZE)])
    memory = PagedRingMem([bytearray(PAGE_SIZE), crooked])
    memory.write_at(0, b"crooked")
    assert bytes(block[1:8]) == b"crooked"


class HollowMemory:
    """A PagedMemory without data pages."""

    data_page_count = 0

    def control(self):
        return bytearray(PAGE_SIZE)

    def data(self, page):
        raise AssertionError("there is no data page to ask for")


def test_held_pages_without_data_are_refused():
    with pytest.raises(CallerError) as caught:
        PagedRingMem(HollowMemory())
    assert (caught.value.argument, caught.value.value) == ("size", 0)
