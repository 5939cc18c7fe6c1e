"""Writes rings for scenes, with a history: packets written and read, laps, and what a snapshot catches halfway.

An own reading of how VMBus rings work (Linux drivers/hv/ring_buffer.c, QEMU hw/hyperv/vmbus.c, OpenVMM
vmbus_ring); nothing is shared with what reads them.  Sizes and offsets are in bytes.
"""

from __future__ import annotations

import struct
from random import Random
from typing import NamedTuple

__all__ = ["RingWriter", "SentPacket", "control_page", "decides_size"]

PAGE = 4096
FOOTER = 8

IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11


class SentPacket(NamedTuple):
    """A packet: where it starts, its bytes with the footer, and how many of them there are."""

    start: int
    content: bytes

    @property
    def length(self) -> int:
        """Bytes, the footer included."""
        return len(self.content)


def control_page(
    in_offset: int, out_offset: int, *, mask: int = 0, pending: int = 0, features: int = 1, size: int = PAGE
) -> bytes:
    """A control page, filled up with zeros to the size of a page of the guest's processor."""
    words = struct.pack("<4I", in_offset, out_offset, mask, pending)
    return (words.ljust(64, b"\0") + struct.pack("<I", features)).ljust(size, b"\0")


class RingWriter:
    """A ring's data area, and both ends of it.

    size      bytes of data
    start     where the first packet goes
    footers   whether the sender writes them; QEMU steps over their place

    `packets` are all that were sent, oldest first, and `read` how many of them were read.
    """

    def __init__(self, random: Random, size: int, *, start: int = 0, footers: bool = True) -> None:
        self.random = random
        self.size = size
        self.footers = footers
        self.data = bytearray(size)
        self.in_offset = self.out_offset = start
        self.packets: list[SentPacket] = []
        self.read = 0
        self.used = 0

    @property
    def waiting(self) -> list[SentPacket]:
        return self.packets[self.read :]

    @property
    def free(self) -> int:
        return self.size - 8 - self.used

    def put(self, offset: int, content: bytes) -> None:
        """Store bytes, over the end of the ring too."""
        offset %= self.size
        first = min(len(content), self.size - offset)
        self.data[offset : offset + first] = content[:first]
        self.data[: len(content) - first] = content[first:]

    def made(self, length: int) -> bytes:
        """A packet of so many bytes, its footer included, as it would lie at in; random but well formed."""
        kind, header = self.random.choice([IN_BAND, IN_BAND, IN_BAND, COMPLETION]), b""
        room = length - FOOTER - 16
        if room >= 32 and self.random.random() < 0.2:
            kind = GPA_DIRECT
            header = struct.pack("<IIIIQ", 0, 1, 100, 8, self.random.randrange(1, 1 << 24))
        elif room >= 24 and self.random.random() < 0.1:
            kind, header = TRANSFER_PAGES, struct.pack("<HHIII", 0xCAFE, 0, 1, 1000, 0)
        flags = 1 if header or self.random.random() < 0.3 else 0
        number = self.random.choice([0, self.random.randrange(1, 2000), self.random.getrandbits(64)])
        descriptor = struct.pack("<HHHHQ", kind, 2 + len(header) // 8, (length - FOOTER) // 8, flags, number)
        body = header + self.random.randbytes(room - len(header))
        if self.footers:
            return descriptor + body + struct.pack("<II", 0, self.in_offset)
        # What was there before stays.
        at = (self.in_offset + length - FOOTER) % self.size
        return descriptor + body + bytes(self.data[at : at + FOOTER])

    def send(self, length: int) -> None:
        """One packet of so many bytes, its footer included: a multiple of 8."""
        assert 24 <= length <= self.free, (length, self.free)
        packet = SentPacket(self.in_offset, self.made(length))
        self.put(packet.start, packet.content)
        self.packets.append(packet)
        self.used += length
        self.in_offset = (self.in_offset + length) % self.size

    def receive(self, count: int = 1) -> None:
        """Read so many packets."""
        for packet in self.packets[self.read : self.read + count]:
            self.out_offset = (packet.start + packet.length) % self.size
            self.read += 1
            self.used -= packet.length

    def length(self) -> int:
        """A usual length: mostly short, sometimes long."""
        random = self.random
        largest = min(self.size // 4, 65536)
        if random.random() < 0.15:
            return random.randrange(24, largest, 8)
        # Few packets fill a large ring in reasonable time only when they are larger.
        return 24 + 8 * random.randrange(0, max(40, self.size // 2048))

    def run(self, total: int, *, waiting: int) -> None:
        """Send about `total` bytes, reading to make room, and leave about so many packets waiting."""
        sent = 0
        while sent < total:
            length = self.length()
            while length > self.free:
                self.receive(self.random.randrange(1, 4))
            self.send(length)
            sent += length
        self.receive(max(0, len(self.waiting) - waiting))
        while len(self.waiting) < waiting and self.free >= 24 + 8 * 40:
            self.send(24 + 8 * self.random.randrange(40))

    def fill(self) -> None:
        """Send until not one byte more fits."""
        while self.free >= 24:
            length = min(self.length(), self.free)
            self.send(self.free if self.free - length < 24 else length)

    def begin_next(self) -> None:
        """The sender has written a part of the next packet and has not moved in."""
        if self.free >= 24:
            content = self.made(min(self.free, self.length()))
            self.put(self.in_offset, content[: self.random.randrange(8, len(content))])

    def snapshot(self, *, old_packets: int = 0, **control: int) -> bytes:
        """Control page and data.

        old_packets   so many of the newest packets are not in the control page's in: it was saved before
        """
        in_offset = self.in_offset
        if old_packets:
            in_offset = self.packets[-old_packets].start
            self.used -= sum(packet.length for packet in self.packets[-old_packets:])
            self.packets = self.packets[:-old_packets]
            self.in_offset = in_offset
        return control_page(in_offset, self.out_offset, **control) + bytes(self.data)

    def history(self) -> list[SentPacket]:
        """The packets read already of which every byte is still there, as one chain back from out: newest first."""
        found: list[SentPacket] = []
        left = self.size - self.used
        for packet in reversed(self.packets[: self.read]):
            left -= packet.length
            if left < 0 or self.bytes_at(packet.start, packet.length) != packet.content:
                break
            found.append(packet)
        return found

    def bytes_at(self, offset: int, length: int) -> bytes:
        first = self.data[offset : offset + length]
        return bytes(first + self.data[: length - len(first)])

    def decides_size(self, *, broken: bool = False) -> bool:
        """Whether someone who has only these bytes can know how large the ring is; see `decides_size`."""
        history = self.history() if self.footers else []
        return decides_size(self.size, history, self.waiting, broken=broken)


def decides_size(
    size: int, history: list[SentPacket], waiting: list[SentPacket], *, broken: bool = False
) -> bool:
    """Whether packets tell the size: one of them crosses the end, or ends there.

    history   those before out that footers lead to, newest first
    broken    those that wait do not lead to in, so that at least three of the history must bear it out
    """
    if any(packet.start + packet.length >= size for packet in waiting) and not broken:
        return True
    crossing = any(packet.start + packet.length >= size for packet in history)
    return crossing and (not broken or len(history) > 2)
