"""A message comes out as long as it went in, or not at all, and the pipe commits nothing.

Every length from 0 to 64, the longest a ring or the protocol allows and one more; several buffers
are one message; what is refused, for want of room or of a buffer, leaves everything as it was.
"""

from __future__ import annotations

from array import array

import pytest

from tests.helpers import image_of, padded, paged_memory, pattern
from tests.known_bugs import known_bug
from tests.pipe.pipe_packets import Inbox, data, packet_size, read_only_copy
from vmbus.errors import BufferTooSmall, CallerError, RingEmpty, RingFull
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.memory import FlatRingMem
from vmbus.pipe import MessagePipe, connected_message_pipes
from vmbus.ring import IncomingRing, connected_rings

#: Starts from which headers, short messages and footers meet the end of a one-page ring.
STARTS = [0, 2048, *range(4096 - 104, 4096, 8)]


def pipe_over(memory, start=0):
    """A message pipe from a ring to itself: what it writes it can read."""
    sender, receiver = connected_rings(memory=memory, start=start)
    return MessagePipe(receiver, sender)


def pass_on(pipe: MessagePipe, *buffers) -> bytes:
    """Write, commit, read and commit one message."""
    outgoing = pipe.outgoing.outgoing()
    pipe.write(outgoing, *buffers)
    pipe.outgoing.commit_write(outgoing)
    incoming = pipe.incoming.incoming()
    message = pipe.read(incoming)
    pipe.incoming.commit_read(incoming)
    return message


# -- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_memory", [FlatRingMem, paged_memory])
@pytest.mark.parametrize("start", STARTS)
def test_messages_of_0_to_64_bytes_keep_their_length_from_any_start(start, make_memory):
    for length in range(65):
        assert pass_on(pipe_over(make_memory(4096), start), pattern(length)) == pattern(length)


@known_bug("B32")
@pytest.mark.parametrize("length", range(65))
def test_padding_is_zeros_in_the_ring_and_hidden_from_the_reader(length):
    memory = FlatRingMem(4096)
    memory.write_at(0, b"\xee" * 4096)
    assert pass_on(pipe_over(memory), pattern(length)) == pattern(length)
    padding = memory.read_at(16 + 8 + length, -length % 8)
    assert padding == bytes(len(padding))
    assert memory.read_at(packet_size(length), 8) == b"\xee" * 8


@pytest.mark.parametrize("size", [4096, 8192, 16384, 20480, 65536])
def test_the_longest_message_passes_from_an_awkward_start_and_one_byte_more_is_the_callers_error(size):
    for start in (0, size - 8, size - 16, size - 24, size - 32, size - 4096):
        pipe = pipe_over(FlatRingMem(size), start)
        longest = pipe.maximum_message_size
        assert longest == min(16384, size - 40)
        assert pass_on(pipe, pattern(longest)) == pattern(longest)
        assert pass_on(pipe, pattern(longest - 1)) == pattern(longest - 1)
        check_too_long(pipe, longest + 1, longest)


def check_too_long(pipe: MessagePipe, length: int, limit: int) -> None:
    before = image_of(pipe.outgoing.memory)
    offset = pipe.outgoing.outgoing()
    with pytest.raises(CallerError, match=f"at most {limit} bytes.*not {length}") as caught:
        pipe.write(offset, bytes(length))
    assert (caught.value.value, caught.value.limit) == (length, limit)
    assert image_of(pipe.outgoing.memory) == before
    assert pipe.outgoing.commit_write(offset) is False


@known_bug("B43")
def test_what_follows_a_message_of_the_longest_length_is_whole():
    near, far = connected_message_pipes(65536)
    messages = [pattern(16384, seed=1), pattern(3, seed=2), pattern(16384, seed=3), b""]
    outgoing = near.outgoing.outgoing()
    for message in messages:
        near.write(outgoing, message)
    near.outgoing.commit_write(outgoing)
    incoming = far.incoming.incoming()
    assert [far.read(incoming) for _ in messages] == messages


def test_a_message_may_be_shorter_than_its_packet_by_whole_slots():
    inbox = Inbox()
    inbox.put(data(b"short")[:8] + b"short" + bytes(100))
    assert inbox.messages.read(inbox.receiver.incoming()) == b"short"


def test_a_message_of_no_bytes_is_a_message():
    near, far = connected_message_pipes()
    outgoing = near.outgoing.outgoing()
    near.write(outgoing)
    near.write(outgoing, b"")
    near.write(outgoing, b"", b"", b"")
    near.outgoing.commit_write(outgoing)
    incoming = far.incoming.incoming()
    assert [far.read(incoming) for _ in range(3)] == [b"", b"", b""]
    with pytest.raises(RingEmpty):
        far.read(incoming)


# -- several buffers -----------------------------------------------------------------------------


def test_several_buffers_of_any_kind_are_one_message():
    buffers = [
        b"bytes ",
        bytearray(b"bytearray "),
        memoryview(b"xmemoryview x")[1:-1],
        array("I", [0x04030201, 0x08070605]),
        b"",
        b"!",
    ]
    expected = b"bytes bytearray memoryview \x01\x02\x03\x04\x05\x06\x07\x08!"
    for start in STARTS:
        assert pass_on(pipe_over(FlatRingMem(4096), start), *buffers) == expected


def test_buffers_are_written_one_by_one_and_never_joined():
    memory = RecordingMemory(FlatRingMem(4096))
    pipe = pipe_over(memory)
    buffers = [pattern(1000, seed=1), pattern(999, seed=2), pattern(5, seed=3)]
    memory.take()
    pipe.write(pipe.outgoing.outgoing(), *buffers)
    written = [access.value for access in memory.take() if access.what == "write"]
    for buffer in buffers:
        assert written.count(buffer) == 1
    assert max(map(len, written)) == 1000


def test_a_buffer_that_is_none_is_the_callers_error_before_anything_is_written():
    pipe = pipe_over(FlatRingMem(4096))
    before = image_of(pipe.outgoing.memory)
    offset = pipe.outgoing.outgoing()
    for wrong in ("text", 5, None, [1, 2]):
        with pytest.raises(CallerError, match="buffer"):
            pipe.write(offset, b"good", wrong)
    assert image_of(pipe.outgoing.memory) == before
    assert offset.next_in == 0


# -- raw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(65))
def test_a_raw_message_has_no_header_and_its_length_rounded_up_to_8(length):
    near, far = connected_message_pipes(4096, raw=True)
    outgoing = near.outgoing.outgoing()
    near.write(outgoing, pattern(length)[:3], pattern(length)[3:])
    near.outgoing.commit_write(outgoing)
    assert near.outgoing.memory.read_at(16, length) == pattern(length)
    assert far.read(far.incoming.incoming()) == padded(pattern(length))
    room = bytearray(b"\xee" * 80)
    assert far.receive_into(far.incoming.incoming(), room) == len(padded(pattern(length)))
    assert room == padded(pattern(length)) + b"\xee" * (80 - len(padded(pattern(length))))


@pytest.mark.parametrize(("size", "limit"), [(4096, 4064), (65536, 65504), (1 << 20, 524264)])
def test_the_longest_raw_message_is_what_the_ring_takes(size, limit):
    near, far = connected_message_pipes(size, raw=True)
    outgoing = near.outgoing.outgoing()
    near.write(outgoing, pattern(limit))
    near.outgoing.commit_write(outgoing)
    assert far.read(far.incoming.incoming()) == pattern(limit)
    check_too_long(connected_message_pipes(size, raw=True)[0], limit + 1, limit)


# -- reading into a buffer -----------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 64, 4056])
def test_a_message_goes_to_the_start_of_a_buffer_that_holds_it(length):
    inbox = Inbox(start=4000)
    inbox.put(data(pattern(length)))
    for spare in (0, 1, 100):
        buffer = bytearray(b"\xee" * (length + spare))
        assert inbox.messages.receive_into(inbox.receiver.incoming(), buffer) == length
        assert buffer == pattern(length) + b"\xee" * spare


@known_bug("B45")
@pytest.mark.parametrize("raw", [False, True])
def test_a_buffer_too_small_is_told_the_length_and_the_message_stays(raw):
    inbox = Inbox()
    inbox.put(data(b"sixteen bytes ok"))
    pipe, needed = (inbox.raw, 24) if raw else (inbox.messages, 16)
    offset = inbox.receiver.incoming()
    before = image_of(inbox.memory)
    buffer = bytearray(b"\xee" * (needed - 1))

    with pytest.raises(BufferTooSmall) as caught:
        pipe.receive_into(offset, buffer)

    assert caught.value.needed == needed
    assert buffer == b"\xee" * (needed - 1)
    assert offset.next_out == 0
    assert image_of(inbox.memory) == before
    assert pipe.receive_into(offset, bytearray(needed)) == needed


def test_a_buffer_that_cannot_be_written_is_the_callers_error_and_the_message_stays():
    inbox = Inbox()
    inbox.put(data(b"message"))
    offset = inbox.receiver.incoming()
    with pytest.raises(CallerError, match="can only be read"):
        inbox.messages.receive_into(offset, bytes(100))
    assert inbox.messages.read(offset) == b"message"


# -- room, rounds and what is never done ---------------------------------------------------------


def test_a_message_that_does_not_fit_now_names_the_bytes_it_needs_and_changes_nothing():
    pipe = pipe_over(FlatRingMem(4096), start=1024)
    offset = pipe.outgoing.outgoing()
    pipe.write(offset, bytes(3000))
    before, where = image_of(pipe.outgoing.memory), offset.next_in
    with pytest.raises(RingFull) as caught:
        pipe.write(offset, bytes(500), bytes(600))
    assert (caught.value.needed, caught.value.free) == (packet_size(1100), 4088 - packet_size(3000))
    assert (image_of(pipe.outgoing.memory), offset.next_in) == (before, where)
    pipe.write(offset, bytes(4088 - packet_size(3000) - packet_size(0)))  # exactly what is left
    with pytest.raises(RingFull):
        pipe.write(offset)


def test_written_messages_are_seen_when_they_are_committed_and_not_before():
    near, far = connected_message_pipes()
    outgoing = near.outgoing.outgoing()
    near.write(outgoing, b"one")
    near.write(outgoing, b"two")
    with pytest.raises(RingEmpty):
        far.read(far.incoming.incoming())
    assert near.outgoing.commit_write(outgoing) is True
    incoming = far.incoming.incoming()
    assert far.read(incoming) == b"one"
    incoming.revert()
    assert (far.read(incoming), far.read(incoming)) == (b"one", b"two")


def test_what_is_reverted_was_never_written():
    near, far = connected_message_pipes()
    outgoing = near.outgoing.outgoing()
    near.write(outgoing, b"never mind")
    outgoing.revert()
    near.write(outgoing, b"this")
    near.outgoing.commit_write(outgoing)
    incoming = far.incoming.incoming()
    assert far.read(incoming) == b"this"
    with pytest.raises(RingEmpty):
        far.read(incoming)


def test_a_message_pipe_stores_no_control_word_and_reading_stores_nothing_at_all():
    memory = RecordingMemory(FlatRingMem(4096))
    pipe = pipe_over(memory)
    memory.inside.control[2] = 0  # not masked: a commit would ask for a signal
    memory.take()

    outgoing = pipe.outgoing.outgoing()
    for _ in range(3):
        pipe.write(outgoing, pattern(1000))
    with pytest.raises(RingFull):
        pipe.write(outgoing, pattern(1000))
    accesses = memory.take()
    assert {str(access) for access in accesses} <= {"write", "load out", "acquire"}

    pipe.outgoing.commit_write(outgoing)
    memory.take()
    incoming = pipe.incoming.incoming()
    pipe.read(incoming)
    pipe.receive_into(incoming, bytearray(1000))
    with pytest.raises(BufferTooSmall):
        pipe.receive_into(incoming, bytearray(10))
    pipe.read(incoming)
    with pytest.raises(RingEmpty):
        pipe.read(incoming)
    assert {str(access) for access in memory.take()} <= {"read", "load in", "acquire"}


def test_messages_can_be_read_in_memory_that_cannot_be_written():
    inbox = Inbox(start=4080)
    inbox.put(data(b"look, do not touch"))
    memory = read_only_copy(inbox.memory)
    pipe = MessagePipe(IncomingRing(memory), connected_rings()[0])
    offset = pipe.incoming.incoming()
    assert pipe.read(offset) == b"look, do not touch"
    with pytest.raises(RingEmpty):
        pipe.read(offset)
    assert image_of(memory) == image_of(inbox.memory)
