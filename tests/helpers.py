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
from vmbus.memory import ControlWords, FlatRingMem, PagedRingMem, RingMem
from vmbus.ring import (
    IncomingPacket,
    IncomingPacketType,
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    PagedRange,
    Ranges,
    TransferPageRange,
)
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


def pattern(length: int, seed: int = 1) -> bytes:
    """`length` bytes of which no two stretches of eight are alike within a ring."""
    words = (seed * 0x9E3779B97F4A7C15 + i * 0xD1B54A32D192ED03 for i in range((length + 7) // 8))
    return b"".join((word % 2**64).to_bytes(8, "little") for word in words)[:length]


def padded(payload: bytes) -> bytes:
    """The payload as a ring gives it back: zeros up to a multiple of 8."""
    return payload + bytes(-len(payload) % 8)


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


class PacketKind(NamedTuple):
    """One kind of packet: how to ask a ring for it, and what it is in memory, spelled by hand.

    outgoing         makes what OutgoingRing.write takes, of a payload's length
    transaction_id   what the descriptor holds
    seen_id          what a reader tells of it: None where the packet has no part in a transaction
    """

    outgoing: Callable[[int], OutgoingPacket]
    type: IncomingPacketType
    flags: int
    transaction_id: int
    seen_id: int | None
    extension: bytes = b""
    ranges: Ranges = ()
    transfer_page_set_id: int | None = None

    def body(self, payload: bytes) -> bytes:
        """The packet in memory without its footer: descriptor, extension, payload, zeros."""
        data_offset = 16 + len(self.extension)
        length = data_offset + (len(payload) + 7) // 8 * 8
        numbers = (self.type, data_offset // 8, length // 8, self.flags, self.transaction_id)
        return struct.pack("<HHHHQ", *numbers) + self.extension + padded(payload)

    def whole(self, payload: bytes, start: int) -> bytes:
        """The packet as it lies in memory from `start` on, its footer included."""
        return self.body(payload) + struct.pack("<II", 0, start)


GPA_RANGES = (PagedRange(4000, 200, [7, 2**64 - 1]), PagedRange(0, 1, [9]))
TRANSFER_PAGE_RANGES = (TransferPageRange(1514, 2**32 - 1), TransferPageRange(0, 64))
SOME_ID = 0x0102_0304_0506_0708
LARGEST_ID = 2**64 - 1

#: Every kind of packet that a ring carries.
PACKET_KINDS = {
    "in-band": PacketKind(
        outgoing=lambda size: OutgoingPacket.in_band(size, transaction_id=SOME_ID),
        type=IncomingPacketType.IN_BAND,
        flags=0,
        transaction_id=SOME_ID,
        seen_id=None,
    ),
    "in-band-with-completion": PacketKind(
        outgoing=lambda size: OutgoingPacket.in_band(
            size, transaction_id=LARGEST_ID, completion_requested=True
        ),
        type=IncomingPacketType.IN_BAND,
        flags=1,
        transaction_id=LARGEST_ID,
        seen_id=LARGEST_ID,
    ),
    "completion": PacketKind(
        outgoing=lambda size: OutgoingPacket.completion(size, transaction_id=SOME_ID),
        type=IncomingPacketType.COMPLETION,
        flags=0,
        transaction_id=SOME_ID,
        seen_id=SOME_ID,
    ),
    "gpa-direct": PacketKind(
        outgoing=lambda size: OutgoingPacket.gpa_direct(GPA_RANGES, size, transaction_id=SOME_ID),
        type=IncomingPacketType.GPA_DIRECT,
        flags=1,
        transaction_id=SOME_ID,
        seen_id=SOME_ID,
        extension=struct.pack("<IIIIQQIIQ", 0, 2, 200, 4000, 7, 2**64 - 1, 1, 0, 9),
        ranges=GPA_RANGES,
    ),
    "transfer-pages": PacketKind(
        outgoing=lambda size: OutgoingPacket.transfer_pages(0xCAFE, TRANSFER_PAGE_RANGES, size),
        type=IncomingPacketType.TRANSFER_PAGES,
        flags=1,
        transaction_id=0,
        seen_id=0,
        extension=struct.pack("<HHIIIII", 0xCAFE, 0, 2, 1514, 2**32 - 1, 0, 64),
        ranges=TRANSFER_PAGE_RANGES,
        transfer_page_set_id=0xCAFE,
    ),
}


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
