"""Both ends of one ring, for tests, examples and measurements."""

from __future__ import annotations

from vmbus.errors import CallerError
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem, RingMem
from vmbus.sizes import SLOT

from .incoming import IncomingRing
from .offsets import is_offset
from .outgoing import OutgoingRing

__all__ = ["connected_rings"]


def connected_rings(
    size: int = 4096, *, start: int = 0, memory: RingMem | None = None
) -> tuple[OutgoingRing, IncomingRing]:
    """The sender and the receiver of one empty ring; interrupts are not masked.

    size     bytes of the data area, where no memory is given
    start    the offset of the first packet: a multiple of 8 below the size
    memory   the memory to use; its packets are forgotten

    >>> sender, receiver = connected_rings(start=4088)
    >>> sender.send(b"hello")
    True
    >>> receiver.receive()[0].payload
    b'hello\\x00\\x00\\x00'
    """
    if memory is None:
        memory = FlatRingMem(size)
    if not is_offset(memory.size, start):
        raise CallerError(
            f"a packet starts at a multiple of 8 below {memory.size}, not at {start}",
            argument="start",
            value=start,
            limit=memory.size - SLOT,
        )
    if memory.control.readonly:
        raise CallerError(
            "this memory is read-only, and a ring is written before it is read",
            argument="memory",
            value="read-only",
            limit="writable",
        )
    memory.control[IN_WORD] = memory.control[OUT_WORD] = start
    sender, receiver = OutgoingRing(memory), IncomingRing(memory)
    receiver.set_interrupt_mask(False)
    return sender, receiver
