"""A part of the data area: read and written in place, across the end, and never outside itself."""

from __future__ import annotations

import pytest

from tests.helpers import SlowRingMem, pattern
from tests.known_bugs import known_bug
from vmbus.errors import BufferTooSmall, CallerError
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import IncomingRing, OutgoingPacket, RingRange, connected_rings

MEMORIES = {
    "flat": lambda: FlatRingMem(8192),
    "paged": lambda: PagedRingMem([bytearray(4096) for _ in range(3)]),
    "slow": lambda: SlowRingMem(8192),
}


@pytest.fixture(params=MEMORIES)
def ring(request):
    return IncomingRing(MEMORIES[request.param]())


#: Ranges inside the area, across a page's end, across the area's end, and behind it.
RANGES = [(0, 8), (4080, 64), (8128, 128), (8184, 8), (8184, 5000), (8200, 16), (3, 0)]


@known_bug("B29", "B30")
@pytest.mark.parametrize(("offset", "size"), RANGES)
def test_what_is_written_through_a_range_is_read_through_it_and_nothing_beside_it_changes(ring, offset, size):
    ring.memory.write_at(0, b"\xee" * 8192)
    data = pattern(size)
    RingRange(offset, size).writer(ring).write(data)
    assert RingRange(offset, size).reader(ring).read_all() == data
    everything = bytearray(b"\xee" * 8192)
    for at, byte in enumerate(data):
        everything[(offset + at) % 8192] = byte
    assert ring.memory.read_at(0, 8192) == bytes(everything)


@pytest.mark.parametrize(("offset", "size"), RANGES)
def test_a_range_read_or_written_in_pieces_is_the_same_as_at_once(ring, offset, size):
    data = pattern(size)
    writer = RingRange(offset, size).writer(ring)
    for at in range(0, size, 7):
        assert len(writer) == size - at
        writer.write(data[at : at + 7])
    reader = RingRange(offset, size).reader(ring)
    pieces = []
    while len(reader):
        pieces.append(reader.read(min(13, len(reader))))
    assert b"".join(pieces) == data
    assert reader.read_all() == b""


def test_skipped_bytes_are_neither_read_nor_written(ring):
    ring.memory.write_at(0, bytes(8192))
    writer = RingRange(8184, 24).writer(ring)
    writer.skip(12)
    writer.write(b"twelve bytes")
    assert ring.memory.read_at(8184, 24) == bytes(12) + b"twelve bytes"
    reader = RingRange(8184, 24).reader(ring)
    reader.skip(12)
    assert (len(reader), reader.read(6), len(reader)) == (12, b"twelve", 6)


@pytest.mark.parametrize("length", [-1, 17])
def test_more_than_is_left_cannot_be_read_written_or_skipped_and_nothing_moves(ring, length):
    reader, writer = RingRange(0, 16).reader(ring), RingRange(0, 16).writer(ring)
    for call in (reader.read, reader.skip, writer.skip, lambda length: writer.fill(1, length)):
        with pytest.raises(CallerError, match=f"{length} bytes asked for and 16 left"):
            call(length)
    with pytest.raises(CallerError):
        writer.write(bytes(17))
    assert len(reader) == len(writer) == 16
    assert ring.memory.read_at(0, 16) == bytes(16)


def test_reading_into_a_buffer_fills_its_start_and_leaves_the_rest(ring):
    RingRange(8184, 16).writer(ring).write(b"sixteen bytes ..")
    buffer = bytearray(b"?" * 20)
    assert RingRange(8184, 16).reader(ring).read_into(buffer) == 16
    assert buffer == b"sixteen bytes ..????"


@known_bug("B45")
def test_reading_into_too_small_a_buffer_says_how_much_is_needed_and_reads_nothing(ring):
    reader = RingRange(0, 16).reader(ring)
    buffer = bytearray(b"?" * 15)
    with pytest.raises(BufferTooSmall, match="16 bytes and the buffer 15") as error:
        reader.read_into(buffer)
    assert error.value.needed == 16
    assert buffer == b"?" * 15 and len(reader) == 16


def test_what_cannot_be_written_is_no_buffer_to_read_into(ring):
    for buffer in (bytes(16), memoryview(bytes(16)), "text", 7):
        with pytest.raises(CallerError):
            RingRange(0, 16).reader(ring).read_into(buffer)


def test_any_buffer_can_be_written_and_what_is_none_is_the_callers_error(ring):
    writer = RingRange(8188, 16).writer(ring)
    for data in (b"four", bytearray(b"four"), memoryview(b"four"), memoryview(bytearray(b"four")).cast("I")):
        writer.write(data)
    assert RingRange(8188, 16).reader(ring).read_all() == b"four" * 4
    with pytest.raises(CallerError):
        writer.write("four")


def test_filling_stores_one_byte_many_times(ring):
    writer = RingRange(8188, 10).writer(ring)
    writer.fill(7, 9)
    assert ring.memory.read_at(8188, 10) == b"\7" * 9 + b"\0"
    assert len(writer) == 1


def test_whole_words_are_written_over_exactly_the_whole_range(ring):
    words = [1, 2**64 - 1, 0x0807060504030201]
    RingRange(8184, 24).write_aligned_full(ring, words)
    assert ring.memory.read_at(8184, 24) == b"".join(word.to_bytes(8, "little") for word in words)
    for wrong in ([], words[:2], [*words, 4]):
        with pytest.raises(CallerError, match="the range has 24"):
            RingRange(8184, 24).write_aligned_full(ring, wrong)


@known_bug("B59")
def test_an_empty_range_reads_and_writes_nothing(ring):
    empty = RingRange.empty()
    assert (len(empty), empty.is_empty, empty.size) == (0, True, 0)
    assert empty.reader(ring).read_all() == b""
    assert empty.reader(ring).read_into(bytearray()) == 0
    empty.writer(ring).write(b"")
    empty.writer(ring).skip(0)
    empty.write_aligned_full(ring, [])
    with pytest.raises(CallerError):
        empty.reader(ring).read(1)
    assert ring.memory.read_at(0, 8192) == bytes(8192)


def test_a_range_knows_its_length():
    assert (len(RingRange(4088, 24)), RingRange(4088, 24).is_empty) == (24, False)
    assert RingRange(8, 16) == RingRange(8, 16) != RingRange(8, 24)


@known_bug("B29", "B30")
@pytest.mark.parametrize("start", [*range(3960, 4096, 8)])
def test_reading_in_place_and_copying_out_give_the_same_bytes_wherever_a_packet_is_split(start):
    """Descriptor, payload and footer of a 104-byte packet, each split at every multiple of 8."""
    payload = pattern(80)
    for memory in (
        FlatRingMem(4096),
        PagedRingMem([bytearray(4096) for _ in range(2)]),
        SlowRingMem(4096),
    ):
        sender, receiver = connected_rings(memory=memory, start=start)
        outgoing = sender.outgoing()
        writer = sender.write(outgoing, OutgoingPacket.in_band(80, transaction_id=start)).writer(sender)
        for at in range(0, 80, 3):
            writer.write(payload[at : at + 3])
        sender.commit_write(outgoing)
        incoming = receiver.incoming()
        packet = receiver.read(incoming)
        assert packet.payload.reader(receiver).read_all() == payload
        assert packet.descriptor.transaction_id == start
        footer = memory.read_at((start + 96) % 4096, 8)
        assert footer == bytes(4) + start.to_bytes(4, "little")
        incoming.revert()
        copied, _ = receiver.receive()
        assert (copied.payload, copied.transaction_id) == (payload, start)


def test_values_with_too_many_bits_are_the_callers_error_and_store_nothing():
    sender, _ = connected_rings()
    where = sender.write(sender.outgoing(), OutgoingPacket.in_band(8))
    before = sender.memory.read_at(0, sender.size)
    for call in (
        lambda: where.write_aligned_full(sender, [2**64]),
        lambda: where.write_aligned_full(sender, [-1]),
        lambda: where.writer(sender).fill(256, 8),
        lambda: where.writer(sender).fill(-1, 8),
    ):
        with pytest.raises(CallerError):
            call()
    assert sender.memory.read_at(0, sender.size) == before
