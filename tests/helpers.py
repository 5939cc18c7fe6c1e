"""What the tests share: one-line packets, memories that watch or disturb, and the samples.

`send_packet` and `receive_packet` go through the ring's transactions, step by step; the one-step
methods have tests of their own that compare them with these.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vmbus.errors import PeerError
from vmbus.fuzzing.packet_kinds import PACKET_KINDS, PacketKind, padded  # noqa: F401 - for the tests
from vmbus.fuzzing.trial import pattern  # noqa: F401
from vmbus.memory import ControlWords, FlatRingMem, PagedRingMem, RingMem
from vmbus.ring import IncomingPacket, IncomingRing, OutgoingPacket, OutgoingRing
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE

SAMPLES = Path(__file__).parent / "samples"
SAMPLE_NAMES = ("ring-1-page", "ring-4-pages", "ring-4-pages-wrapped", "ring-5-pages")


class Received(NamedTuple):
    """A packet taken by receive_packet: its copied payload, and whether the sender is signaled."""

    payload: bytes
    signal: bool
    packet: IncomingPacket


def send_packet(sender: OutgoingRing, payload: bytes, packet: OutgoingPacket | None = None) -> bool:
    """Write, fill and commit one packet (in-band unless one is given); whether to signal."""
    outgoing = sender.outgoing()
    where = sender.write(outgoing, packet or OutgoingPacket.in_band(len(payload)))
    where.writer(sender).write(payload)
    return sender.commit_write(outgoing)


def receive_packet(receiver: IncomingRing) -> Received:
    """Read, copy and commit one packet."""
    incoming = receiver.incoming()
    packet = receiver.read(incoming)
    payload = packet.payload.reader(receiver).read_all()
    return Received(payload, receiver.commit_read(incoming), packet)


def sample(name: str) -> tuple[bytes, dict[str, Any]]:
    """A sample image and what was written into it."""
    image = (SAMPLES / f"{name}.bin").read_bytes()
    return image, json.loads((SAMPLES / f"{name}.json").read_text())


def facts(error: PeerError) -> tuple[object, ...]:
    """What an error says: each raise of a stopped ring is a new error with the same facts."""
    return (str(error), error.kind, error.offset, error.found, error.allowed)


class SlowRingMem(RingMem):
    """A ring memory that moves one byte at a time: the oracle for the quick ones.

    Its packers and unpackers are the slow ones that every RingMem inherits.
    """

    def __init__(self, size: int) -> None:
        self._words = memoryview(bytearray(4 * CONTROL_WORD_COUNT)).cast("I")
        self._bytes = [0] * size

    @property
    def control(self) -> memoryview:
        return self._words

    @property
    def size(self) -> int:
        return len(self._bytes)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._bytes[(offset + i) % self.size] for i in range(length))

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        for i, byte in enumerate(data):
            self._bytes[(offset + i) % self.size] = byte


def paged_memory(size: int) -> PagedRingMem:
    """A ring memory whose pages lie apart."""
    return PagedRingMem([bytearray(PAGE_SIZE) for page in range(1 + size // PAGE_SIZE)])


#: The ring memories that every ring must work over, by name: each a function of the data's size.
MEMORIES: dict[str, Callable[[int], RingMem]] = {
    "flat": FlatRingMem,
    "paged": paged_memory,
    "slow": SlowRingMem,
}


def image_of(memory: RingMem) -> bytes:
    """All that two sides share: the control words, then the data area."""
    words = [memory.control[word] for word in range(CONTROL_WORD_COUNT)]
    return struct.pack(f"<{CONTROL_WORD_COUNT}I", *words) + memory.read_at(0, memory.size)


class TwinRingMem(RingMem):
    """A quick ring memory and a slow one, given the same accesses: every answer must be the same."""

    def __init__(self, quick: RingMem) -> None:
        self.quick = quick
        self.slow = SlowRingMem(quick.size)

    @property
    def control(self) -> ControlWords:
        return self.quick.control

    @property
    def size(self) -> int:
        return self.quick.size

    def read_at(self, offset: int, length: int) -> bytes:
        found = self.quick.read_at(offset, length)
        assert found == self.slow.read_at(offset, length)
        return found

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self.quick.write_at(offset, data)
        self.slow.write_at(offset, data)

    def packer(self, record: struct.Struct) -> Callable[..., object]:
        packers = (self.quick.packer(record), self.slow.packer(record))

        def pack(offset: int, *values: object) -> None:
            for pack_one in packers:
                pack_one(offset, *values)

        return pack

    def unpacker(self, record: struct.Struct) -> Callable[[int], tuple[Any, ...]]:
        quick, slow = self.quick.unpacker(record), self.slow.unpacker(record)

        def unpack(offset: int) -> tuple[Any, ...]:
            found = quick(offset)
            assert found == slow(offset)
            return found

        return unpack
