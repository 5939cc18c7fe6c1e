"""Every ring memory moves bytes as one model does, and needs no more than the seam says.

The model is a plain bytearray: an access goes byte by byte, modulo its length.  Planted by hand
and seen to fail here: no wrap at the end, a wrap one byte late, an offset behind the end not
taken back to the start, a page crossed without going on in the next one, a packer that writes
over the end of its page.
"""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import SlowRingMem, pattern
from vmbus.errors import BufferTooSmall, CallerError
from vmbus.layout import PACKET_DESCRIPTOR
from vmbus.memory import FlatRingMem, PagedRingMem, RingMem, copy_into, ring_memory, view_bytes
from vmbus.ring import connected_rings
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE


class HeldPages:
    """Pages in reverse order in one block: a PagedMemory that counts how often it is asked."""

    def __init__(self, data_pages: int) -> None:
        self.block = mmap.mmap(-1, (data_pages + 1) * PAGE_SIZE)
        self.asked: list[int | str] = []
        self._data_pages = data_pages

    def page_of_block(self, number: int) -> memoryview:
        return memoryview(self.block)[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]

    def control(self) -> memoryview:
        self.asked.append("control")
        return self.page_of_block(self._data_pages)

    @property
    def data_page_count(self) -> int:
        return self._data_pages

    def data(self, page: int) -> memoryview:
        self.asked.append(page)
        return self.page_of_block(self._data_pages - 1 - page % self._data_pages)


def scattered_pages(count: int) -> list[object]:
    """Pages of three kinds of buffer."""
    kinds = [bytearray, lambda size: mmap.mmap(-1, size), lambda size: memoryview(bytearray(size))]
    return [kinds[number % 3](PAGE_SIZE) for number in range(count)]


MEMORIES = {
    "own mapping": lambda pages: FlatRingMem(pages * PAGE_SIZE),
    "over a bytearray": lambda pages: FlatRingMem.over(bytearray((pages + 1) * PAGE_SIZE)),
    "over 64-bit items": lambda pages: FlatRingMem.over(
        memoryview(bytearray((pages + 1) * PAGE_SIZE)).cast("Q")
    ),
    "behind 16 KiB": lambda pages: FlatRingMem.over(bytearray((pages + 4) * PAGE_SIZE), header_size=16384),
    "scattered pages": lambda pages: PagedRingMem(scattered_pages(pages + 1)),
    "held pages": lambda pages: PagedRingMem(HeldPages(pages)),
    "one byte at a time": lambda pages: SlowRingMem(pages * PAGE_SIZE),
}
every_memory = pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES.keys())


def read_model(model: bytearray, offset: int, length: int) -> bytes:
    return bytes(model[(offset + i) % len(model)] for i in range(length))


def write_model(model: bytearray, offset: int, data: bytes) -> None:
    for i, byte in enumerate(data):
        model[(offset + i) % len(model)] = byte


@st.composite
def accesses(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Pages of a ring, then (offset, length) pairs; most begin or end beside a page's edge."""
    pages = draw(st.integers(1, 4))
    size = pages * PAGE_SIZE
    edges = st.integers(0, 2 * pages).map(lambda page: page * PAGE_SIZE)
    offsets = st.one_of(
        st.builds(lambda edge, by: edge + by, edges, st.integers(-24, 24)), st.integers(0, 2 * size - 1)
    )
    lengths = st.one_of(
        st.integers(0, 48),
        st.builds(lambda edge, by: edge + by, edges, st.integers(-24, 24)),
        st.just(size),
    )
    listed = []
    for _ in range(draw(st.integers(1, 6))):
        offset = min(max(draw(offsets), 0), 2 * size - 1)
        length = min(max(draw(lengths), 0), size, 2 * size - offset)
        listed.append((offset, length))
    return [(pages, 0), *listed]


@every_memory
@settings(deadline=None, max_examples=60, derandomize=True)
@given(steps=accesses())
def test_reads_and_writes_wrap_as_the_model_does(make, steps):
    (pages, _), *listed = steps
    memory = make(pages)
    model = bytearray(memory.size)
    assert memory.size == pages * PAGE_SIZE
    for number, (offset, length) in enumerate(listed, start=1):
        data = pattern(length, seed=number)
        memory.write_at(offset, memoryview(data) if number % 2 else data)
        write_model(model, offset, data)
        assert memory.read_at(offset, length) == data
    for offset, length in listed:
        assert memory.read_at(offset, length) == read_model(model, offset, length)
    assert memory.read_at(0, memory.size) == bytes(model)
    assert memory.read_at(memory.size, memory.size) == bytes(model)


def test_the_accesses_reach_what_they_are_made_for():
    reached = set()

    @settings(deadline=None, max_examples=60, derandomize=True, database=None)
    @given(steps=accesses())
    def look(steps):
        (pages, _), *listed = steps
        size = pages * PAGE_SIZE
        for offset, length in listed:
            reached.add("empty" if length == 0 else "some")
            if offset < size < offset + length:
                reached.add("wraps")
            if offset + length == size:
                reached.add("ends at the end")
            if offset >= size:
                reached.add("starts behind the end")
            if length > PAGE_SIZE and offset % PAGE_SIZE:
                reached.add("touches three pages")

    look()
    assert reached == {
        "empty",
        "some",
        "wraps",
        "ends at the end",
        "starts behind the end",
        "touches three pages",
    }


@every_memory
def test_packers_and_unpackers_do_what_write_and_read_do_at_every_offset(make):
    memory, plain = make(2), SlowRingMem(2 * PAGE_SIZE)
    record = PACKET_DESCRIPTOR.struct
    pack, unpack = memory.packer(record), memory.unpacker(record)
    # one byte further each time round a page's edge, so that every place in a record meets it
    edges = [*range(40), *range(PAGE_SIZE - 40, PAGE_SIZE + 40), *range(2 * PAGE_SIZE - 56, 2 * PAGE_SIZE)]
    for offset in [edge for edge in edges if edge + record.size <= 2 * PAGE_SIZE]:
        values = (offset, 2, 3, 1, 2**64 - 1 - offset)
        pack(offset, *values)
        plain.write_at(offset, record.pack(*values))
        assert unpack(offset) == values
        assert memory.read_at(offset, record.size) == record.pack(*values)
    assert memory.read_at(0, memory.size) == plain.read_at(0, plain.size)


@every_memory
def test_control_words_are_32_little_endian_words_of_32_bits(make):
    control = make(1).control
    for word in range(CONTROL_WORD_COUNT):
        control[word] = 0x01020304 * (word % 4)
    assert [control[word] for word in range(32)] == [0x01020304 * (word % 4) for word in range(32)]
    with pytest.raises(IndexError):
        control[CONTROL_WORD_COUNT]
    control[3] = 0xFFFF_FFFF
    with pytest.raises((ValueError, struct.error)):
        control[3] = 2**32


def test_control_words_lie_at_the_start_of_the_control_page():
    image = bytearray(2 * PAGE_SIZE)
    memory = FlatRingMem.over(image)
    memory.control[16] = 0x0A0B0C0D
    assert image[64:68] == bytes([0x0D, 0x0C, 0x0B, 0x0A])
    assert image.count(0) == len(image) - 4


def test_a_machine_of_the_other_byte_order_is_refused(monkeypatch):
    monkeypatch.setattr(ring_memory.sys, "byteorder", "big")
    with pytest.raises(CallerError, match="little-endian"):
        FlatRingMem.over(bytearray(2 * PAGE_SIZE))


class SmallestMemory(RingMem):
    """Nothing but the four members that a RingMem must bring."""

    def __init__(self) -> None:
        self.words = memoryview(bytearray(128)).cast("I")
        self.model = bytearray(PAGE_SIZE)

    @property
    def control(self):
        return self.words

    @property
    def size(self):
        return len(self.model)

    def read_at(self, offset, length):
        return read_model(self.model, offset, length)

    def write_at(self, offset, data):
        write_model(self.model, offset, bytes(data))


def test_four_members_are_enough_for_a_ring_memory():
    sender, receiver = connected_rings(memory=SmallestMemory(), start=PAGE_SIZE - 24)
    payloads = [pattern(length, seed=length) for length in (8, 64, 0, 1000)]
    sender.send(payloads[0], transaction_id=7)
    assert receiver.receive()[0].payload == payloads[0]
    assert sender.send_many(payloads * 2) == (8, True)
    assert [packet.payload for packet in receiver.receive_many()[0]] == payloads * 2


def test_a_paged_memory_is_asked_for_each_page_once():
    held = HeldPages(3)
    memory = PagedRingMem(held)
    sender, receiver = connected_rings(memory=memory)
    for _ in range(20):
        sender.send(pattern(1000))
        receiver.receive()
    assert held.asked == ["control", 0, 1, 2]


def test_a_buffer_is_viewed_and_not_copied():
    block = bytearray(16)
    view_bytes(block, "buffer")[3] = 9
    view_bytes(memoryview(block).cast("I"), "buffer")[4] = 8
    assert block[3:5] == b"\x09\x08"


@pytest.mark.parametrize(
    "wrong", ["text", 7, None, [1, 2], memoryview(bytearray(16))[::2]], ids=lambda wrong: type(wrong).__name__
)
def test_what_is_no_block_of_bytes_is_refused_by_its_name(wrong):
    with pytest.raises(CallerError, match="payload is a contiguous buffer") as caught:
        view_bytes(wrong, "payload")
    assert caught.value.argument == "payload"


def test_a_buffer_that_is_closed_is_refused():
    closed = mmap.mmap(-1, PAGE_SIZE)
    closed.close()
    released = memoryview(bytearray(8))
    released.release()
    for buffer in (closed, released):
        with pytest.raises(CallerError):
            view_bytes(buffer, "buffer")


def test_copy_into_fills_the_start_of_a_buffer():
    buffer = bytearray(b"........")
    assert copy_into(buffer, 5, lambda: b"hello") == 5
    assert buffer == b"hello..."


def test_copy_into_a_buffer_too_small_reads_nothing_and_says_what_is_needed():
    def read():
        raise AssertionError("read although the buffer is too small")

    with pytest.raises(BufferTooSmall) as caught:
        copy_into(bytearray(4), 5, read)
    assert (caught.value.needed, caught.value.value) == (5, 4)


@pytest.mark.parametrize("buffer", [bytes(8), memoryview(bytes(8)), "text"], ids=["bytes", "view", "text"])
def test_copy_into_what_cannot_be_written_is_refused(buffer):
    with pytest.raises(CallerError):
        copy_into(buffer, 2, lambda: b"hi")
