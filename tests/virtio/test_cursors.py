"""Reading and writing along a chain: R1 to R8 are the behaviour that rust-vmm's Reader and Writer have.

Where these do otherwise on purpose: reading or writing an exact length that is not there moves
nothing, where those consume what there is and then fail.

Seen to fail with: bytes not counted; a cut that leaves the old count; exact lengths not checked; the
place in the data not moved from buffer to buffer; buffers not looked up; a short write into the last
buffer in place of the first; a writable buffer read.

Sources: rust-vmm virtio-queue 0.18, Reader and Writer and their tests; OASIS VIRTIO 1.2, section 2.7.4.
"""

from __future__ import annotations

import array
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.helpers import pattern
from tests.virtio.by_hand import (
    BUFFERS,
    FORMATS,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    TABLES,
    WRITE,
    Areas,
    device_by_hand,
)
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import ChainReader, ChainWriter, DescriptorChain, Tolerance, VirtqueueFault

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

R4 = ((16, 0), (16, 0), (96, 0), (64, WRITE), (1, WRITE), (3, WRITE))

#: Buffers lie this far apart, so that running over one shows.
STEP = 0x100


def chain_of(*buffers: tuple[int, int], packed: bool = False) -> DescriptorChain:
    """A chain of (length, flags), a STEP apart from BUFFERS on."""
    driver, device = device_by_hand(packed)
    driver.offer(*((BUFFERS + STEP * place, length, flags) for place, (length, flags) in enumerate(buffers)))
    chain = device.pop_descriptor_chain()
    assert chain is not None
    return chain


def fill(chain: DescriptorChain, data: bytes) -> None:
    """Put `data` into the readable buffers, by their addresses."""
    for descriptor in chain.readable:
        chain.memory.write(descriptor.address, data[: descriptor.length])
        data = data[descriptor.length :]


def written(chain: DescriptorChain) -> bytes:
    """What stands in the writable buffers, by their addresses."""
    return b"".join(chain.memory.read(one.address, one.length) for one in chain.writable)


@both_formats
def test_a_reader_counts_what_it_read_and_what_is_left(packed):  # R1
    chain = chain_of(*((length, 0) for length in (8, 16, 18, 64)), packed=packed)
    data = pattern(106)
    fill(chain, data)
    reader = chain.reader()
    seen = [(reader.available_bytes, reader.bytes_read)]
    parts = []
    for _ in range(3):
        parts.append(reader.read(64))
        seen.append((reader.available_bytes, reader.bytes_read))
    assert seen == [(106, 0), (42, 64), (0, 106), (0, 106)]
    assert [len(part) for part in parts] == [64, 42, 0]
    assert b"".join(parts) == data


@both_formats
def test_a_writer_counts_what_it_wrote_and_what_room_is_left(packed):  # R2
    chain = chain_of(*((length, WRITE) for length in (8, 16, 18, 64)), packed=packed)
    data = pattern(192)
    writer = chain.writer()
    seen = [(writer.available_bytes, writer.bytes_written)]
    counts = []
    for place in range(3):
        counts.append(writer.write(data[64 * place : 64 * place + 64]))
        seen.append((writer.available_bytes, writer.bytes_written))
    assert seen == [(106, 0), (42, 64), (0, 106), (0, 106)]
    assert counts == [64, 42, 0]
    assert written(chain) == data[:106]


def test_nothing_is_written_beside_the_buffers():
    chain = chain_of(*((length, WRITE) for length in (8, 16, 18, 64)))
    chain.writer().write_all(b"\xff" * 106)
    around = chain.memory.read(0, 0x10000)
    assert around.count(b"\xff") == 106
    assert around[BUFFERS - 1] == around[BUFFERS + 8] == around[BUFFERS + 3 * STEP + 64] == 0


def test_a_reader_where_all_is_writable_has_nothing():  # R3
    reader = chain_of((8, WRITE)).reader()
    assert reader.available_bytes == 0
    with pytest.raises(PeerError) as caught:
        reader.read_exact(1)
    assert caught.value.kind is VirtqueueFault.CHAIN_TOO_SHORT
    assert (reader.available_bytes, reader.bytes_read, reader.read()) == (0, 0, b"")


def test_a_writer_where_all_is_readable_has_no_room():  # R3
    chain = chain_of((8, 0))
    writer = chain.writer()
    assert writer.available_bytes == 0
    for write in (writer.write_all, chain.write_all):
        with pytest.raises(PeerError) as caught:
            write(b"1")
        assert caught.value.kind is VirtqueueFault.CHAIN_TOO_SHORT
    assert (writer.available_bytes, writer.bytes_written, writer.write(b"1")) == (0, 0, 0)


@both_formats
def test_reader_and_writer_of_one_chain_do_not_disturb_each_other(packed):  # R4
    chain = chain_of(*R4, packed=packed)
    fill(chain, pattern(128))
    reader, writer = chain.reader(), chain.writer()
    assert (reader.available_bytes, writer.available_bytes) == (128, 68)
    taken = b""
    while reader.available_bytes or writer.available_bytes:
        taken += reader.read(12)
        writer.write(b"0123456")
    assert (reader.bytes_read, writer.bytes_written) == (128, 68)
    assert taken == pattern(128)
    assert written(chain) == (b"0123456" * 10)[:68]
    again = chain.reader()
    assert (again.bytes_read, again.read()) == (0, pattern(128))


def test_a_field_may_be_scattered_byte_by_byte():  # R5
    chain = chain_of(*[(1, 0)] * 4, *[(1, WRITE)] * 4)
    fill(chain, struct.pack("<I", 0x12345678))
    value = struct.unpack("<I", chain.reader().read_exact(4))[0]
    assert value == 0x12345678
    chain.writer().write_all(struct.pack("<I", value))
    assert written(chain) == bytes.fromhex("78563412")


def test_an_exact_length_that_is_not_there_is_refused_and_nothing_read():  # R6
    chain = chain_of((256, 0), (256, 0))
    fill(chain, pattern(512))
    reader = chain.reader()
    with pytest.raises(PeerError) as caught:
        reader.read_exact(1024)
    assert caught.value.kind is VirtqueueFault.CHAIN_TOO_SHORT
    assert (caught.value.found, caught.value.allowed) == (512, 1024)
    assert reader.bytes_read == 0
    assert reader.read_exact(512) == pattern(512)


def test_more_than_there_is_room_for_is_refused_and_nothing_written():
    chain = chain_of((4, WRITE), (4, WRITE))
    writer = chain.writer()
    for write in (writer.write_all, chain.write_all):
        with pytest.raises(PeerError) as caught:
            write(b"123456789")
        assert (caught.value.found, caught.value.allowed) == (8, 9)
    assert writer.bytes_written == 0
    assert written(chain) == bytes(8)
    assert chain.write_all(b"12345678") == 8
    assert written(chain) == b"12345678"


@both_formats
@pytest.mark.parametrize(
    ("offset", "kept", "rest"),
    [(32, 32, 96), (24, 24, 104), (128, 128, 0), (0, 0, 128), (16, 16, 112), (127, 127, 1)],
)
def test_a_reader_is_cut_in_two(packed, offset, kept, rest):  # R7
    chain = chain_of(*R4, packed=packed)
    fill(chain, pattern(128))
    reader = chain.reader()
    behind = reader.split_at(offset)
    assert type(behind) is ChainReader
    assert (reader.available_bytes, behind.available_bytes) == (kept, rest)
    assert (reader.bytes_read, behind.bytes_read) == (0, 0)
    assert reader.read() + behind.read() == pattern(128)
    assert (reader.bytes_read, behind.bytes_read) == (kept, rest)


def test_a_writer_is_cut_in_two():  # R7
    chain = chain_of(*R4)
    writer = chain.writer()
    behind = writer.split_at(64)
    assert type(behind) is ChainWriter
    assert (writer.available_bytes, behind.available_bytes) == (64, 4)
    behind.write_all(b"tail")
    assert writer.write(b"-" * 100) == 64
    assert written(chain) == b"-" * 64 + b"tail"


@pytest.mark.parametrize("offset", [129, 256, -1])
def test_a_cursor_cannot_be_cut_behind_its_end(offset):  # R7
    reader = chain_of(*R4).reader()
    with pytest.raises(CallerError) as caught:
        reader.split_at(offset)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("offset", offset, 128)
    assert reader.available_bytes == 128


def test_a_cursor_is_cut_behind_where_it_stands():
    chain = chain_of(*R4)
    fill(chain, pattern(128))
    reader = chain.reader()
    assert reader.read(20) == pattern(128)[:20]
    behind = reader.split_at(10)
    assert (reader.bytes_read, reader.available_bytes, behind.available_bytes) == (20, 10, 98)
    assert reader.read() == pattern(128)[20:30]
    assert behind.read() == pattern(128)[30:]


@both_formats
def test_a_cursor_over_a_buffer_that_is_not_in_memory_cannot_be_made(packed):  # R8
    memory = GuestMemory([(0, bytearray(0x1000))])
    driver, device = device_by_hand(packed, memory=memory, areas=Areas(0, 0x200, 0x300))
    driver.offer((0x500, 4, 0), (0x1001, 4, 0))
    chain = device.pop_descriptor_chain()
    with pytest.raises(PeerError) as caught:
        chain.reader()
    assert caught.value.kind is VirtqueueFault.BUFFER_OUTSIDE_MEMORY
    assert (caught.value.descriptor, caught.value.found) == (1, 0x1001)
    assert chain.writer().available_bytes == 0


def test_a_buffer_in_a_table_is_blamed_by_entry_and_table():
    driver, device = device_by_hand(features=INDIRECT_DESC)
    table = driver.table(TABLES, (BUFFERS, 4, NEXT, 1), (0x10000, 4, 0, 0))
    driver.offer((BUFFERS, 1, 0), (TABLES, table, INDIRECT))
    with pytest.raises(PeerError, match="entry 1 of the table of descriptor 1") as caught:
        device.pop_descriptor_chain().reader()
    assert (caught.value.descriptor, caught.value.entry) == (1, 1)


def test_a_buffer_may_lie_across_regions_that_touch():
    regions = [(0, bytearray(0x4004)), (0x4004, bytearray(2)), (0x4006, bytearray(0x100))]
    driver, device = device_by_hand(memory=GuestMemory(regions))
    driver.memory.write(0x4000, b"across three")
    driver.offer((0x4000, 12, 0), (0x4000, 12, WRITE))
    chain = device.pop_descriptor_chain()
    assert chain.reader().read() == b"across three"
    chain.writer().write_all(b"ACROSS THREE")
    assert [bytes(regions[0][1][0x4000:]), bytes(regions[1][1]), bytes(regions[2][1][:6])] == [
        b"ACRO",
        b"SS",
        b" THREE",
    ]


def test_a_buffer_with_a_hole_in_it_is_refused_with_the_holes_address():
    memory = GuestMemory([(0, bytearray(0x4004)), (0x4006, bytearray(0x100))])
    driver, device = device_by_hand(memory=memory)
    driver.offer((0x4000, 12, 0))
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain().reader()
    assert caught.value.found == 0x4004


def test_a_writer_takes_views_of_any_item_size():
    words = array.array("H", [0x1122, 0x3344])
    chain = chain_of((3, WRITE), (3, WRITE))
    writer = chain.writer()
    writer.write_all(memoryview(words))
    assert writer.bytes_written == 4
    assert written(chain) == words.tobytes() + bytes(2)


@pytest.mark.parametrize("lengths", [(3, 3), (8,)], ids=["two buffers", "one buffer"])
def test_write_all_takes_views_of_any_item_size_and_returns_bytes(lengths):
    words = array.array("H", [0x1122, 0x3344])
    chain = chain_of(*((length, WRITE) for length in lengths))
    assert chain.write_all(memoryview(words)) == 4
    assert written(chain)[:4] == words.tobytes()


def test_a_reader_reads_nothing_backwards():
    chain = chain_of((8, 0))
    reader = chain.reader()
    assert reader.read(-1) == b""
    assert reader.read(0) == b""
    assert reader.available_bytes == 8


@given(
    lengths=some.lists(some.integers(0, 40), min_size=1, max_size=16),
    readable=some.integers(0, 16),
    steps=some.lists(some.integers(0, 90), max_size=8),
    cut=some.integers(0, 200),
)
@settings(deadline=None, derandomize=True, database=None, max_examples=150)
def test_however_a_request_is_framed_its_bytes_are_the_same(lengths, readable, steps, cut):
    """The oracle is one run of bytes: whatever the buffers, the cursors move over that."""
    chain = chain_of(*((length, 0 if place < readable else WRITE) for place, length in enumerate(lengths)))
    data = pattern(sum(lengths[:readable]))
    room = sum(lengths[readable:])
    fill(chain, data)
    assert chain.read_all() == data
    assert (chain.readable_bytes, chain.writable_bytes) == (len(data), room)

    reader, place = chain.reader(), 0
    for step in steps:
        assert reader.read(step) == data[place : place + step]
        place = min(place + step, len(data))
        assert (reader.bytes_read, reader.available_bytes) == (place, len(data) - place)
    cut = min(cut, reader.available_bytes)
    behind = reader.split_at(cut)
    assert (reader.read(), behind.read()) == (data[place : place + cut], data[place + cut :])

    writer, output = chain.writer(), pattern(room + 9, seed=2)
    place = 0
    for step in steps:
        assert writer.write(output[place : place + step]) == min(step, room - place)
        place = min(place + step, room)
    assert written(chain) == output[:place] + bytes(room - place)


def test_cursors_of_a_tolerated_chain_go_over_one_direction_each():
    driver, device = device_by_hand(tolerated=Tolerance.READABLE_AFTER_WRITABLE)
    driver.memory.write(BUFFERS, b"abcdefgh")
    driver.offer((BUFFERS, 2, 0), (BUFFERS + 2, 2, WRITE), (BUFFERS + 4, 2, 0), (BUFFERS + 6, 2, WRITE))
    chain = device.pop_descriptor_chain()
    assert chain.read_all() == b"abef"
    assert chain.write_all(b"CDGH") == 4
    assert driver.memory.read(BUFFERS, 8) == b"abCDefGH"


def test_what_is_readable_is_read_though_a_writable_buffer_of_its_length_comes_first():
    driver, device = device_by_hand(tolerated=Tolerance.READABLE_AFTER_WRITABLE)
    driver.memory.write(BUFFERS, b"notread ")
    driver.offer((BUFFERS, 4, WRITE), (BUFFERS + 3, 4, 0))
    assert device.pop_descriptor_chain().read_all() == b"read"


@both_formats
@pytest.mark.parametrize("lengths", [(8,), (8, 8), (0, 8), (3, 8), (8, 0)])
def test_few_bytes_are_written_from_the_first_writable_byte_on(packed, lengths):
    chain = chain_of((8, 0), *((length, WRITE) for length in lengths), packed=packed)
    assert chain.write_all(b"short") == 5
    assert written(chain) == b"short".ljust(sum(lengths), b"\0")
    assert chain.read_all() == bytes(8)


def test_repr_says_where_a_cursor_stands():
    reader = chain_of(*R4).reader()
    reader.read(28)
    assert repr(reader) == "<ChainReader: 28 bytes done, 100 available>"
