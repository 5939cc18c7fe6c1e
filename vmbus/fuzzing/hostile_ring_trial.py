"""Both ends of a ring, and pipes over them, with an enemy at the other side.

Two rings: of one the receiving end is the victim, of the other the sending end.  Operations are of three sorts:
honest sides that fill and empty the rings, strikes that come so many accesses later, and calls of the victims.
hostile_reading.py and hostile_writing.py hold the laws; hostile_trial.py those that every victim keeps.

>>> trial = HostileRingTrial(pages=1, start=511)
>>> trial.perform("honest_packet", {"kind": "in-band", "length": 16})
>>> trial.perform("strike_word", {"victim": "reader", "after": 2, "word": "in", "value": 4})
>>> trial.perform("receive", {})
>>> trial.perform("receive", {})
>>> trial.corners["error raised"]
1

Sizes, offsets and lengths are in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem, RingMem
from vmbus.pipe import BytePipe, MessagePipe
from vmbus.sizes import PAGE_SIZE, SLOT

from .arguments import Number
from .hostile_reading import EACH_PACKET, ONE_PACKET, HostileReading
from .hostile_trial import HOSTILE_CORNERS, RingVictim
from .hostile_writing import HostileWriting, WritingVictim
from .packet_kinds import PACKET_KINDS
from .reading_victim import ReadingVictim
from .ring_strikes import RingStrikes
from .trial import operation

__all__ = ["HostileRingTrial", "MakeMemory", "started_at"]

MakeMemory = Callable[[int], RingMem]


class HostileRingTrial(RingStrikes, HostileReading, HostileWriting):
    """Two rings under attack.

    pages         data pages of each
    start         the slot where the first packet lies, counted round and round
    make_memory   makes a RingMem of so many bytes, in place of FlatRingMem
    """

    name = "hostile-ring"
    summary = "ring ends and pipes whose other side writes anything at any moment"
    settings = {"pages": Number(1, 2), "start": Number(0, 1023, corners=[511, 510, 508])}  # noqa: RUF012
    CORNERS = (
        *HOSTILE_CORNERS,
        "changed within a write",
        "error kept by an earlier call",
        "index moved",
        "index not a multiple of 8",
        "index out of range",
        "mask changed",
        "packet put in",
        "packet refused by a pipe",
        "pending size changed",
    )

    def __init__(self, pages: int, start: int, *, make_memory: MakeMemory = FlatRingMem) -> None:
        super().__init__()
        size = pages * PAGE_SIZE
        first = SLOT * start % size
        self.reader = ReadingVictim(started_at(make_memory(size), first))
        self.writer = WritingVictim(started_at(make_memory(size), first))
        self.messages = MessagePipe(self.reader.ring, self.writer.ring)
        self.bytes = BytePipe(self.reader.ring, self.writer.ring)

    def victim_named(self, victim: str) -> RingVictim:
        return self.reader if victim == "reader" else self.writer

    # -- pipes -----------------------------------------------------------------------------------

    @operation()
    def read_message(self) -> None:
        reader = self.reader
        outcome = self.read_call("a read of a message", self.take_message, ONE_PACKET)
        looks = reader.looks
        message = outcome.result
        if message is None:
            return
        self.demand(any(message == data for _, data in looks.reads), "a message that was never one read")
        self.committed(
            {looks.end_of(reader.out, one) for one in looks.descriptors(reader.out, reader.known_in)}
        )
        if reader.quiet:
            self.demand_equal(message, reader.expected.popleft().message, "a message of an honest sender")

    def take_message(self) -> bytes:
        ring = self.reader.ring
        offset = ring.incoming()
        message = self.messages.read(offset)
        ring.commit_read(offset)
        return message

    @operation(limit=Number(1, 5000, corners=[1, 7, 8, 100, 4096]))
    def read_bytes(self, limit: int) -> None:
        """Bytes of a stream; what the reader marks as read it stores in the ring."""
        reader = self.reader
        most = ONE_PACKET + EACH_PACKET * min(limit, reader.ring.size)
        start = reader.known_in
        outcome = self.read_call("a read of bytes", lambda: self.take_bytes(limit), most, parts=True)
        looks = reader.looks
        if outcome.result is None:
            return
        self.demand(len(outcome.result) <= limit, f"{len(outcome.result)} bytes with a limit of {limit}")
        self.demand(looks.compose(outcome.result), "bytes that were never read so")
        if reader.stores(OUT_WORD):
            self.committed(looks.reachable(reader.out, reader.known_ins | {start}))
        if reader.quiet:
            self.read_quietly(outcome.result)

    def take_bytes(self, limit: int) -> bytes:
        ring = self.reader.ring
        offset = ring.incoming()
        data = self.bytes.read(offset, limit)
        ring.commit_read(offset)
        return data

    def read_quietly(self, data: bytes) -> None:
        """Bytes of honest messages, or the end of their stream, which is a message of none."""
        expected = self.reader.expected
        first = expected[0].rest if expected else None
        if not data:
            self.demand_equal(first, b"", "bytes of an honest sender, read up to the end of the stream")
            expected.popleft()
        while data:
            rest = (expected[0].rest if expected else None) or b""
            part = data[: len(rest)]
            self.demand(bool(part) and rest.startswith(part), "bytes that no honest sender put in")
            data = data[len(part) :]
            one = expected.popleft()
            if len(part) < len(rest):
                expected.appendleft(one.left_in_part(rest[len(part) :]))

    @operation(length=Number(0, 1400))
    def write_message(self, length: int) -> None:
        message = self.new_payload(length)
        self.write_through(
            "a write of a message", [message], lambda offset: self.messages.write(offset, message)
        )

    @operation(length=Number(0, 3000, corners=[2048, 2049]))
    def write_bytes(self, length: int) -> None:
        data = self.new_payload(length)
        chunks = [data[at : at + 2048] for at in range(0, length, 2048)]
        self.write_through("a write of bytes", chunks, lambda offset: self.bytes.write(offset, data))

    def write_through(self, call: str, messages: list[bytes], write: Callable[[Any], Any]) -> None:
        """A write of a pipe, with its commit, and the packets that it may have come to."""
        writer = self.writer

        def write_and_commit() -> tuple[Any, bool]:
            offset = writer.ring.outgoing()
            written = write(offset)
            return written, writer.ring.commit_write(offset)

        outcome = self.write_call(call, write_and_commit, ONE_PACKET * (1 + len(messages)), parts=True)
        written, signal = outcome.result or (0, False)
        kind = PACKET_KINDS["in-band"]._replace(transaction_id=0)
        packets = []
        for message in messages if outcome.error is None else ():
            if written is not None and written <= 0:
                break
            packets.append(
                (kind, struct.pack("<II", 1, len(message)) + message)
            )  # PIPE_HEADER, spelled by hand
            written = None if written is None else written - len(message)
        if packets:
            self.wrote(packets, at=writer.in_offset)
            self.published(packets, signal)


def started_at(memory: RingMem, start: int) -> RingMem:
    """An empty ring in which the first packet will lie there, and everything else is noise."""
    memory.write_at(0, bytes([0xA5]) * memory.size)
    memory.control[IN_WORD] = memory.control[OUT_WORD] = start
    return memory
