"""What the tests of pipes share: packets spelled by hand, and rings that others write into."""

from __future__ import annotations

import struct

from tests.helpers import image_of, padded, send_packet
from vmbus.memory import FlatRingMem, RingMem
from vmbus.pipe import BytePipe, MessagePipe
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, connected_rings

CONTROL_SIZE = 128

DATA, PARTIAL = 1, 2


def header(kind: int, length: int) -> bytes:
    """A pipe header as the other side writes it."""
    return struct.pack("<II", kind, length)


def partial_header(length: int, consumed: int) -> bytes:
    """The same eight bytes after a reader has taken some."""
    return struct.pack("<IHH", PARTIAL, length, consumed)


def data(content: bytes) -> bytes:
    """The payload of a pipe packet with data."""
    return header(DATA, len(content)) + content


def data_packet(content: bytes, start: int) -> bytes:
    """A whole pipe packet as it lies in the ring from `start` on."""
    body = padded(data(content))
    return struct.pack("<HHHHQ", 6, 2, 2 + len(body) // 8, 0, 0) + body + struct.pack("<II", 0, start)


def packet_size(length: int) -> int:
    """Bytes that a pipe packet of `length` bytes takes in the ring."""
    return len(data_packet(bytes(length), 0))


class Inbox:
    """A ring that somebody else fills, and the two kinds of pipe that read it.

    `sender` is the other side's end; nothing is ever written through the pipes.
    """

    def __init__(self, size: int = 4096, *, start: int = 0, memory: RingMem | None = None) -> None:
        self.sender, self.receiver = connected_rings(size, start=start, memory=memory)
        unused: OutgoingRing = connected_rings()[0]
        self.messages = MessagePipe(self.receiver, unused)
        self.raw = MessagePipe(self.receiver, unused, raw=True)
        self.stream = BytePipe(self.receiver, unused)

    def put(self, payload: bytes, packet: OutgoingPacket | None = None) -> None:
        """The other side sends one packet."""
        send_packet(self.sender, payload, packet)

    @property
    def memory(self) -> RingMem:
        return self.sender.memory

    def control(self) -> bytes:
        """The control words as they stand."""
        return image_of(self.memory)[:CONTROL_SIZE]


def read_only_copy(memory: RingMem) -> FlatRingMem:
    """What `memory` holds, in memory that can only be read."""
    image = image_of(memory)
    return FlatRingMem.over(image[:CONTROL_SIZE] + bytes(4096 - CONTROL_SIZE) + image[CONTROL_SIZE:])


def stream_over(memory: RingMem) -> BytePipe:
    """A new reader of bytes, with an end of the ring of its own."""
    return BytePipe(IncomingRing(memory), connected_rings()[0])
