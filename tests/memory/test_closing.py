"""A ring memory lets go of its buffers, so that whoever holds them can close them."""

from __future__ import annotations

import mmap

import pytest

from vmbus.memory import FlatRingMem, PagedRingMem, SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing, connected_rings


def test_shared_memory_closes_behind_a_ring_memory_that_was_closed():
    with SharedMemory.create(8192) as shared, FlatRingMem.over(shared.map()) as memory:
        sender, receiver = OutgoingRing(memory), IncomingRing(memory)
        sender.send(b"kept until the end")
        packet, _ = receiver.receive()
        offset = receiver.incoming()
    assert packet.payload.startswith(b"kept until the end")
    assert repr(shared) == "<SharedMemory: closed>"
    with pytest.raises(ValueError, match="released"):
        receiver.can_read(offset)


def test_every_page_is_let_go():
    mappings = [mmap.mmap(-1, 4096) for _ in range(4)]
    with PagedRingMem(mappings) as memory:
        connected_rings(memory=memory)[0].send(b"somewhere")
    for mapping in mappings:
        mapping.close()


def test_closing_a_ring_memory_again_is_harmless():
    memory = FlatRingMem(4096)
    memory.close()
    memory.close()


def test_pages_come_from_any_iterable():
    assert PagedRingMem(bytearray(4096) for _ in range(4)).size == 3 * 4096
