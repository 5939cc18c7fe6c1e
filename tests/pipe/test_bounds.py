"""No call of a pipe takes more than the ring holds, and half a message is never left behind."""

from __future__ import annotations

import pytest

from vmbus.errors import CallerError
from vmbus.pipe import connected_byte_pipes, connected_message_pipes
from vmbus.ring import OutgoingPacket, OutgoingPacketType, connected_rings


def test_a_limit_that_is_no_whole_number_takes_nothing():
    near, far = connected_byte_pipes()
    offset = near.outgoing.outgoing()
    near.write(offset, b"hello")
    near.outgoing.commit_write(offset)
    incoming = far.incoming.incoming()
    with pytest.raises(TypeError):
        far.read(incoming, 2.0)
    assert far.read(incoming, 100) == b"hello"


def test_one_read_returns_no_more_than_the_ring_holds():
    near, far = connected_byte_pipes(4096)
    incoming = far.incoming.incoming()
    read_packet = far._read_packet

    def refill(offset, limit):
        outgoing = near.outgoing.outgoing()
        near.write(outgoing, bytes(1000))
        near.outgoing.commit_write(outgoing)
        data = read_packet(offset, limit)
        far.incoming.commit_read(offset)
        return data

    far._read_packet = refill
    assert len(far.read(incoming, 10**8)) == 4096


def test_a_message_that_is_interrupted_leaves_nothing_behind():
    near, far = connected_message_pipes()
    offset = near.outgoing.outgoing()
    memory = near.outgoing.memory
    store, memory.write_at = memory.write_at, None
    with pytest.raises(TypeError):
        near.write(offset, b"half")
    memory.write_at = store
    near.write(offset, b"whole")
    near.outgoing.commit_write(offset)
    assert far.read(far.incoming.incoming()) == b"whole"


def test_an_extension_that_is_no_multiple_of_8_is_refused():
    sender, receiver = connected_rings()
    torn = OutgoingPacket(OutgoingPacketType.IN_BAND_NO_COMPLETION, 8, 0, b"abc")
    with pytest.raises(CallerError, match="multiple of 8"):
        sender.write(sender.outgoing(), torn)
    sender.send(b"still fine")
    assert receiver.receive()[0].payload[:10] == b"still fine"
