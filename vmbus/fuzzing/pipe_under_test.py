"""What the trials of the two kinds of pipe share: one ring with a pipe at both ends, and its model.

Sizes are in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vmbus.errors import RingEmpty
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.pipe import BytePipe, MessagePipe
from vmbus.ring import IncomingRing, OutgoingRing

from .arguments import Flag
from .differences import demand_bytes
from .ring_model import MakeMemory, RingModel, close_memory, fresh_payload, memory_for, total_of, words_of
from .trial import Trial, operation

__all__ = ["DATA", "HEADER", "PARTIAL", "PipePacket", "PipeUnderTest", "pipe_header"]

#: Bytes of a pipe's header, and two of the types in it.
HEADER = 8
DATA, PARTIAL = 1, 2


def pipe_header(kind: int, length: int) -> bytes:
    """A pipe's header, spelled by hand.

    >>> pipe_header(DATA, 5).hex()
    '0100000005000000'
    """
    return struct.pack("<II", kind, length)


class PipePacket:
    """A packet of the model: what it carries, and what it takes of the ring.

    content   what a reader makes of it
    payload   what is in the packet
    total     bytes it takes in the ring
    """

    def __init__(self, content: bytes, payload: bytes) -> None:
        self.content = content
        self.payload = payload
        self.total = 24 + (len(payload) + 7) // 8 * 8


Pipe = TypeVar("Pipe", MessagePipe, BytePipe)
Packet = TypeVar("Packet", bound=PipePacket)


class PipeUnderTest(Trial, Generic[Pipe, Packet]):
    """A pipe from a ring to itself: what it writes it can read.

    batch   packets that were written and not committed
    read    packets that were read to their ends and not committed
    """

    pipe: Pipe

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        make_pipe: Callable[[IncomingRing, OutgoingRing], Pipe],
        make_memory: MakeMemory | None,
    ) -> None:
        super().__init__()
        self.size = 4096 * pages
        self.memory = memory_for(memory, self.size, make_memory)
        self.model: RingModel[Packet] = RingModel(self.size, 8 * start % self.size)
        self.make_pipe: Callable[[IncomingRing, OutgoingRing], Pipe] = make_pipe
        self.batch: list[Packet] = []
        self.read_count = 0
        self.made = 0
        self.memory.control[IN_WORD] = self.memory.control[OUT_WORD] = self.model.start
        with self.demand_no_error("a new pipe"):
            self.pipe = make_pipe(IncomingRing(self.memory), OutgoingRing(self.memory))
            self.pipe.incoming.set_interrupt_mask(False)
            self.incoming = self.pipe.incoming.incoming()
            self.outgoing = self.pipe.outgoing.outgoing()

    def close(self) -> None:
        close_memory(self.memory)

    def check(self) -> None:
        if (found := words_of(self.memory)) != (expected := self.model.words()):
            self.demand_equal(found, expected, "in, out, mask and pending send size")

    def finish(self) -> None:
        self.check_bytes()
        self.empty()
        self.check()

    def check_bytes(self) -> None:
        """All that waits lies there byte for byte."""
        at = self.model.out_offset
        for packet in self.model.waiting:
            found = self.memory.read_at(at, packet.total)
            demand_bytes(found, self.bytes_of(packet, at), f"the packet in memory at {at:#06x}")
            at = (at + packet.total) % self.size

    def bytes_of(self, packet: Packet, at: int) -> bytes:
        """A packet as it lies in memory."""
        length = packet.total - 8
        descriptor = struct.pack("<HHHHQ", 6, 2, length // 8, 0, 0)
        return (descriptor + packet.payload).ljust(length, b"\0") + struct.pack("<II", 0, at)

    def empty(self) -> None:
        """Take all out, and give the room back."""
        raise NotImplementedError

    # -- what the model says ---------------------------------------------------------------------

    def room(self) -> int:
        return self.model.free - total_of(self.batch)

    def fresh(self, length: int) -> bytes:
        self.made += 1
        return fresh_payload(length, self.made)

    def unread(self) -> list[Packet]:
        return self.model.waiting[self.read_count :]

    def written(self, packets: list[Packet]) -> None:
        """Account for packets that were written and are not committed."""
        for packet in packets:
            at = (self.model.in_offset + total_of(self.batch)) % self.size
            before_end = self.size - at
            if 16 <= before_end < 16 + HEADER:
                self.corners["wrap before the header"] += 1
            elif before_end < packet.total:
                self.corners["wrap in a packet"] += 1
            self.batch.append(packet)
        if packets and not self.room():
            self.corners["ring filled to the last slot"] += 1

    def demand_empty(self, attempt: Callable[[], Any]) -> None:
        self.corners["empty ring read"] += 1
        with self.demand_raises(RingEmpty, "read with all read"):
            attempt()

    # -- offsets ---------------------------------------------------------------------------------

    @operation()
    def commit_write(self) -> None:
        batch, self.batch = self.batch, []
        with self.demand_no_error("commit_write"):
            found = self.pipe.outgoing.commit_write(self.outgoing)
        self.demand_equal(found, self.model.put(batch), "signal after commit_write")

    @operation(new_writer=Flag())
    def revert_write(self, new_writer: bool) -> None:
        """What was not committed is gone, by a revert or because a new writer comes."""
        if self.batch:
            self.corners["write reverted"] += 1
        if new_writer:
            with self.demand_no_error("a new writer"):
                self.pipe = self.make_pipe(self.pipe.incoming, OutgoingRing(self.memory))
                self.outgoing = self.pipe.outgoing.outgoing()
        else:
            self.outgoing.revert()
        self.batch = []

    @operation()
    def commit_read(self) -> None:
        count, self.read_count = self.read_count, 0
        with self.demand_no_error("commit_read"):
            found = self.pipe.incoming.commit_read(self.incoming)
        self.demand_equal(found, self.model.take(count)[1], "signal after commit_read")

    @operation(new_reader=Flag())
    def revert_read(self, new_reader: bool) -> None:
        """What was not committed comes back, by a revert or for a new reader."""
        if self.read_count:
            self.corners["read reverted"] += 1
        if new_reader:
            self.note_new_reader()
            with self.demand_no_error("a new reader"):
                self.pipe = self.make_pipe(IncomingRing(self.memory), self.pipe.outgoing)
                self.pipe.incoming.set_interrupt_mask(False)
                self.incoming = self.pipe.incoming.incoming()
        else:
            self.incoming.revert()
        self.read_count = 0

    def note_new_reader(self) -> None:
        """Count what a new reader comes to."""
