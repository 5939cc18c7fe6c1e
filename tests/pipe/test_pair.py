"""Connected pipes are two that face each other, over two rings of the size asked for."""

from __future__ import annotations

import pytest

from vmbus.errors import CallerError, RingEmpty
from vmbus.layout import INTERRUPT_MASK_WORD
from vmbus.pipe import BytePipe, MessagePipe, connected_byte_pipes, connected_message_pipes

SIZES = [4096, 16384, 20480]


def send(pipe, content: bytes) -> bool:
    offset = pipe.outgoing.outgoing()
    pipe.write(offset, content)
    return pipe.outgoing.commit_write(offset)


@pytest.mark.parametrize("size", SIZES)
def test_what_either_message_pipe_writes_the_other_reads_and_it_never_reads_itself(size):
    near, far = connected_message_pipes(size)
    assert send(near, b"to far") is True
    with pytest.raises(RingEmpty):
        near.read(near.incoming.incoming())
    assert send(far, b"to near") is True
    assert far.read(far.incoming.incoming()) == b"to far"
    assert near.read(near.incoming.incoming()) == b"to near"


@pytest.mark.parametrize("size", SIZES)
def test_what_either_byte_pipe_writes_the_other_reads_and_it_never_reads_itself(size):
    near, far = connected_byte_pipes(size)
    assert send(near, b"to far") is True
    with pytest.raises(RingEmpty):
        near.read(near.incoming.incoming(), 9)
    assert send(far, b"to near") is True
    assert far.read(far.incoming.incoming(), 9) == b"to far"
    assert near.read(near.incoming.incoming(), 9) == b"to near"


@pytest.mark.parametrize("connect", [connected_message_pipes, connected_byte_pipes])
@pytest.mark.parametrize("size", SIZES)
def test_the_four_ends_are_of_two_rings_of_that_size_with_interrupts_on(connect, size):
    near, far = connect(size)
    assert near.outgoing.memory is far.incoming.memory
    assert near.incoming.memory is far.outgoing.memory
    assert near.outgoing.memory is not near.incoming.memory
    for memory in (near.outgoing.memory, near.incoming.memory):
        assert memory.size == size
        assert memory.control[INTERRUPT_MASK_WORD] == 0


def test_raw_message_pipes_are_raw_at_both_ends():
    near, far = connected_message_pipes(raw=True)
    assert near.raw and far.raw
    send(near, b"12345")
    assert far.read(far.incoming.incoming()) == b"12345\0\0\0"
    assert not connected_message_pipes()[0].raw


def test_pairs_are_of_the_kind_asked_for():
    assert [type(pipe) for pipe in connected_message_pipes()] == [MessagePipe, MessagePipe]
    assert [type(pipe) for pipe in connected_byte_pipes()] == [BytePipe, BytePipe]


@pytest.mark.parametrize("connect", [connected_message_pipes, connected_byte_pipes])
def test_a_size_no_ring_can_have_is_the_callers_error(connect):
    with pytest.raises(CallerError, match="multiple of 4096"):
        connect(1000)
