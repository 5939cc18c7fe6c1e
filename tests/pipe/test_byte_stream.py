"""A stream of bytes: chunks on the way in, reads of any size on the way out, an end that is never lost.

A reader that takes a part of a packet writes into the packet how much is gone: the eight bytes in
the ring are compared, and a new reader over the same ring goes on from them.  The machine of the
byte-pipe trial drives both ends on small rings, where packets wrap and fill.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.helpers import image_of, paged_memory, pattern
from tests.known_bugs import known_bug
from tests.pipe.pipe_packets import (
    Inbox,
    data,
    data_packet,
    packet_size,
    partial_header,
    read_only_copy,
    stream_over,
)
from vmbus.errors import CallerError, PeerError, RingEmpty, RingFull
from vmbus.fuzzing.byte_pipe_trial import BytePipeTrial
from vmbus.fuzzing.machines import machine_of
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem
from vmbus.pipe import CHUNK_SIZE, BytePipe, PipeFault
from vmbus.ring import RingFault, connected_rings

HEADER_AT = 16  # behind the descriptor


def pipe_over(memory, start=0) -> BytePipe:
    """A byte pipe from a ring to itself: what it writes it can read."""
    sender, receiver = connected_rings(memory=memory, start=start)
    return BytePipe(receiver, sender)


def write(pipe: BytePipe, content: bytes) -> int:
    offset = pipe.outgoing.outgoing()
    written = pipe.write(offset, content)
    pipe.outgoing.commit_write(offset)
    return written


def write_end(pipe: BytePipe) -> None:
    offset = pipe.outgoing.outgoing()
    pipe.write_end(offset)
    pipe.outgoing.commit_write(offset)


def read(pipe: BytePipe, limit: int) -> bytes:
    offset = pipe.incoming.incoming()
    content = pipe.read(offset, limit)
    pipe.incoming.commit_read(offset)
    return content


# -- writing -------------------------------------------------------------------------------------


def test_a_chunk_has_2048_bytes():
    assert CHUNK_SIZE == 2048


@pytest.mark.parametrize("length", [1, 7, 8, 2047, 2048, 2049, 4096, 5000, 10240])
def test_bytes_travel_in_packets_of_2048_and_one_of_the_rest(length):
    pipe = pipe_over(FlatRingMem(16384))
    assert write(pipe, pattern(length)) == length
    expected, at = b"", 0
    while at < length:
        expected += data_packet(pattern(length)[at : at + 2048], len(expected))
        at += 2048
    assert pipe.outgoing.memory.read_at(0, len(expected)) == expected
    assert pipe.outgoing.memory.control[IN_WORD] == len(expected)


def test_no_bytes_write_no_packet():
    pipe = pipe_over(FlatRingMem(4096))
    offset = pipe.outgoing.outgoing()
    assert pipe.write(offset, b"") == 0
    assert offset.next_in == 0


def test_the_end_is_a_packet_of_no_bytes():
    pipe = pipe_over(FlatRingMem(4096), start=4080)
    write_end(pipe)
    assert pipe.outgoing.memory.read_at(4080, 32) == data_packet(b"", 4080)


@pytest.mark.parametrize("start", [0, 3000, 4088])
@pytest.mark.parametrize("spare", [0, 8, 16])
def test_a_write_returns_how_many_bytes_fit_and_is_full_when_the_first_packet_does_not(start, spare):
    pipe = pipe_over(FlatRingMem(4096), start)
    content = pattern(9000)
    offset = pipe.outgoing.outgoing()
    filler = 4088 - packet_size(2048) - spare - packet_size(0)
    assert pipe.write(offset, content[:filler]) == filler
    assert pipe.write(offset, content[filler:]) == 2048  # leaving `spare` bytes
    before, where = image_of(pipe.outgoing.memory), offset.next_in
    with pytest.raises(RingFull) as caught:
        pipe.write(offset, content)
    assert (caught.value.needed, caught.value.free) == (packet_size(2048), spare)
    with pytest.raises(RingFull) as caught:
        pipe.write_end(offset)
    assert caught.value.needed == 32
    assert (image_of(pipe.outgoing.memory), offset.next_in) == (before, where)
    pipe.outgoing.commit_write(offset)
    assert read(pipe, 9000) == content[: filler + 2048]


def test_a_smaller_write_still_fits_where_a_chunk_does_not():
    pipe = pipe_over(FlatRingMem(4096))
    offset = pipe.outgoing.outgoing()
    assert pipe.write(offset, bytes(5000)) == 2048
    with pytest.raises(RingFull):
        pipe.write(offset, bytes(2048))
    assert pipe.write(offset, bytes(1900)) == 1900


def test_what_was_written_before_the_reader_broke_its_index_is_counted_and_the_next_call_raises():
    memory = FlatRingMem(4096)
    pipe = pipe_over(memory)
    write(pipe, b"x")  # the sender has seen out, and needs it again only for the second chunk
    memory.control[OUT_WORD] = 3
    offset = pipe.outgoing.outgoing()
    assert pipe.write(offset, bytes(5000)) == 2048
    with pytest.raises(PeerError) as caught:
        pipe.write(offset, bytes(1))
    assert caught.value.kind is RingFault.INVALID_RING_POINTER


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_memory", [FlatRingMem, paged_memory])
@pytest.mark.parametrize("start", [0, 4040, 4048, 4056, 4064, 4072, 4080, 4088])
def test_reads_of_every_size_give_the_bytes_in_their_order(make_memory, start):
    content = pattern(150)
    for limit in range(1, 152):
        pipe = pipe_over(make_memory(4096), start)
        for piece in (content[:1], content[1:70], content[70:]):
            write(pipe, piece)
        found = []
        while sum(map(len, found)) < len(content):
            found.append(read(pipe, limit))
        assert b"".join(found) == content
        assert all(len(piece) == limit for piece in found[:-1])
        with pytest.raises(RingEmpty):
            read(pipe, limit)


def test_a_read_takes_the_bytes_of_several_packets():
    pipe = pipe_over(FlatRingMem(4096))
    for piece in (b"one ", b"two ", b"three"):
        write(pipe, piece)
    assert read(pipe, 100) == b"one two three"


@pytest.mark.parametrize("taken", range(1, 20))
@pytest.mark.parametrize("start", [0, 4056, 4072, 4080, 4088])
def test_a_part_that_is_read_is_written_into_the_header_and_nowhere_else(start, taken):
    inbox = Inbox(start=start)
    content = pattern(20)
    inbox.put(data(content))
    offset = inbox.receiver.incoming()

    assert inbox.stream.read(offset, taken) == content[:taken]

    expected = bytearray(data_packet(content, start))
    expected[HEADER_AT : HEADER_AT + 8] = partial_header(20, taken)
    assert inbox.memory.read_at(start, 4096) == expected + bytes(4096 - len(expected))
    assert offset.next_out == start
    assert inbox.receiver.commit_read(offset) is False
    assert inbox.memory.control[OUT_WORD] == start


def test_a_new_reader_over_the_same_ring_goes_on_behind_the_part():
    inbox = Inbox(start=4064)
    content = pattern(1000)
    inbox.put(data(content))
    found = b""
    for limit in (1, 7, 8, 500, 1, 2000):
        found += read(stream_over(inbox.memory), limit)
    assert found == content
    with pytest.raises(RingEmpty):
        read(stream_over(inbox.memory), 1)


def test_a_part_counts_from_the_packets_own_start_however_often_it_was_read():
    inbox = Inbox()
    inbox.put(data(pattern(4056)))
    for taken in (1, 2, 300, 3000):
        read(inbox.stream, taken)
    assert inbox.memory.read_at(HEADER_AT, 8) == partial_header(4056, 3303)


def test_the_last_byte_of_a_packet_gives_its_space_back():
    inbox = Inbox()
    inbox.put(data(b"abc"))
    assert read(inbox.stream, 2) == b"ab"
    assert inbox.memory.control[OUT_WORD] == 0
    assert read(inbox.stream, 1) == b"c"
    assert inbox.memory.control[OUT_WORD] == packet_size(3)


def test_a_whole_packet_that_is_reverted_comes_again_and_a_part_does_not():
    inbox = Inbox()
    inbox.put(data(b"whole"))
    inbox.put(data(b"half and half"))
    offset = inbox.receiver.incoming()
    assert inbox.stream.read(offset, 9) == b"wholehalf"
    offset.revert()
    assert inbox.stream.read(offset, 100) == b"whole and half"


def test_bytes_go_to_the_start_of_a_buffer():
    inbox = Inbox()
    inbox.put(data(b"abcdef"))
    buffer = bytearray(b"....")
    offset = inbox.receiver.incoming()
    assert inbox.stream.receive_into(offset, memoryview(buffer)[1:]) == 3
    assert buffer == b".abc"
    assert inbox.stream.receive_into(offset, buffer) == 3
    assert buffer == b"defc"
    with pytest.raises(RingEmpty):
        inbox.stream.receive_into(offset, buffer)
    inbox.put(data(b""))
    assert inbox.stream.receive_into(offset, buffer) == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_read_of_no_bytes_is_the_callers_error_for_none_mean_the_end(limit):
    inbox = Inbox()
    inbox.put(data(b"x"))
    offset = inbox.receiver.incoming()
    with pytest.raises(CallerError, match="at least 1 byte"):
        inbox.stream.read(offset, limit)
    with pytest.raises(CallerError, match="at least 1 byte"):
        inbox.stream.receive_into(offset, bytearray())
    assert inbox.stream.read(offset, 1) == b"x"


def test_a_buffer_that_cannot_be_written_takes_nothing_out_of_the_stream():
    inbox = Inbox()
    inbox.put(data(b"abc"))
    with pytest.raises(CallerError, match="can only be read"):
        inbox.stream.receive_into(inbox.receiver.incoming(), b"12")
    assert read(inbox.stream, 9) == b"abc"


# -- the end -------------------------------------------------------------------------------------


@known_bug("B47")
def test_the_end_is_told_once_and_then_nothing_looks_readable():
    pipe = pipe_over(FlatRingMem(4096))
    write_end(pipe)
    assert pipe.incoming.can_read(pipe.incoming.incoming())
    assert read(pipe, 100) == b""
    assert not pipe.incoming.can_read(pipe.incoming.incoming())
    memory = pipe.incoming.memory
    assert memory.control[IN_WORD] == memory.control[OUT_WORD]
    with pytest.raises(RingEmpty):
        read(pipe, 100)


@known_bug("B47")
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_the_end_is_only_for_a_call_that_has_nothing_else_to_return(limit):
    pipe = pipe_over(FlatRingMem(4096))
    write(pipe, b"abc")
    write_end(pipe)
    found = []
    for _ in range(3):
        found.append(read(pipe, limit))
        if not found[-1]:
            break
        assert pipe.incoming.can_read(pipe.incoming.incoming())  # the end at least
    else:
        found.append(read(pipe, limit))
    assert b"".join(found) == b"abc"
    assert found[-1] == b""
    assert b"" not in found[:-1]
    assert not pipe.incoming.can_read(pipe.incoming.incoming())


def test_an_end_that_is_reverted_is_told_again():
    pipe = pipe_over(FlatRingMem(4096))
    write_end(pipe)
    offset = pipe.incoming.incoming()
    assert pipe.read(offset, 5) == b""
    offset.revert()
    assert pipe.read(offset, 5) == b""


def test_two_ends_are_two_and_bytes_behind_an_end_are_still_read():
    pipe = pipe_over(FlatRingMem(4096))
    write_end(pipe)
    write_end(pipe)
    write(pipe, b"more")
    offset = pipe.incoming.incoming()
    assert [pipe.read(offset, 9) for _ in range(3)] == [b"", b"", b"more"]
    with pytest.raises(RingEmpty):
        pipe.read(offset, 9)


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3, 4, 100])
def test_the_good_bytes_before_a_bad_packet_are_returned_and_the_next_call_raises(limit):
    inbox = Inbox()
    inbox.put(data(b"abc"))
    inbox.put(b"\xff" * 8)
    offset = inbox.receiver.incoming()
    assert inbox.stream.read(offset, limit) == b"abc"
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            inbox.stream.read(offset, limit)
        assert (caught.value.kind, caught.value.offset) == (PipeFault.UNKNOWN_TYPE, 40)
    inbox.receiver.commit_read(offset)
    assert inbox.memory.control[OUT_WORD] == 40


def test_the_good_bytes_before_a_broken_ring_packet_are_returned_and_the_next_call_raises():
    inbox = Inbox()
    inbox.put(data(b"abc"))
    inbox.put(data(b"def"))
    inbox.memory.write_at(40 + 6, b"\xff")  # flags
    offset = inbox.receiver.incoming()
    assert inbox.stream.read(offset, 100) == b"abc"
    with pytest.raises(PeerError) as caught:
        inbox.stream.read(offset, 100)
    assert caught.value.kind is RingFault.INVALID_DESCRIPTOR_FLAGS
    inbox.receiver.commit_read(offset)  # what was read can still be given back
    assert inbox.memory.control[OUT_WORD] == 40


def test_in_memory_that_cannot_be_written_whole_packets_can_be_read_and_parts_cannot():
    inbox = Inbox()
    inbox.put(data(b"abc"))
    inbox.put(data(b"defghi"))
    memory = read_only_copy(inbox.memory)
    pipe = stream_over(memory)
    offset = pipe.incoming.incoming()
    with pytest.raises(CallerError, match="read-only"):
        pipe.read(offset, 2)
    assert pipe.read(offset, 5) == b"abc"
    with pytest.raises(CallerError, match="read-only"):
        pipe.read(offset, 5)
    assert pipe.read(offset, 6) == b"defghi"
    with pytest.raises(RingEmpty):
        pipe.read(offset, 1)
    assert image_of(memory) == image_of(inbox.memory)


def test_a_byte_pipe_stores_no_control_word():
    memory = RecordingMemory(FlatRingMem(4096))
    pipe = pipe_over(memory)
    memory.take()
    outgoing = pipe.outgoing.outgoing()
    assert pipe.write(outgoing, bytes(3000)) == 3000
    pipe.write_end(outgoing)
    with pytest.raises(RingFull):
        pipe.write(outgoing, bytes(2000))
    assert {str(access) for access in memory.take()} <= {"write", "load out", "acquire"}
    pipe.outgoing.commit_write(outgoing)
    memory.take()
    incoming = pipe.incoming.incoming()
    while pipe.read(incoming, 700):
        pass
    with pytest.raises(RingEmpty):
        pipe.read(incoming, 700)
    accesses = memory.take()
    assert {str(access) for access in accesses} <= {"read", "write", "load in", "acquire"}
    assert all(len(access.value) == 8 for access in accesses if access.what == "write")


# -- against a model -----------------------------------------------------------------------------


class StreamOverFlatMemory(machine_of(BytePipeTrial)):
    def make_trial(self, **options):
        return BytePipeTrial(**options, make_memory=FlatRingMem)


class StreamOverPages(machine_of(BytePipeTrial)):
    def make_trial(self, **options):
        return BytePipeTrial(**options, make_memory=paged_memory)


MACHINE_SETTINGS = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, print_blob=False
)
TestStreamOverFlatMemory = StreamOverFlatMemory.TestCase
TestStreamOverFlatMemory.settings = MACHINE_SETTINGS
TestStreamOverPages = StreamOverPages.TestCase
TestStreamOverPages.settings = settings(MACHINE_SETTINGS, max_examples=30)
