"""Packets read already that only the lengths in their descriptors lead to.

Where a writer leaves no footers (QEMU's hosts), nothing leads backwards from a packet to the one before
it.  Forwards each descriptor still says where the next one is: the true packets behind out are a chain of
descriptors, one ending where the next begins, whose last one ends exactly at out.  So every place of 8
bytes that could be a descriptor is followed to its end, and those whose chain comes out exactly are kept;
of these the chain with the most packets is taken.

A place could be a descriptor when a reader would take it for one, by the rule of
vmbus.ring.descriptor_fault: its type is known, its payload begins behind what the type needs (16 bytes or
24) and not behind its end, it has no unknown flag, and it ends with its footer no later than out.  The
transaction id may be anything.  Of the 2**64 values of 8 random bytes about 2**34 pass, one in a billion,
and then the chain must still come out exactly.  Where small 16-bit numbers lie close together far more
pass by chance.

    length-only   an older packet of the chain leads to it, and no other chain has bytes of it
    guess         the oldest packet of the chain, which nothing leads to, and all that others compete for

Every place is looked at once, so the search takes time and memory in proportion to the bytes it looks at:
at most MOST_SEARCHED of them, the newest.

Sources: Linux drivers/hv/ring_buffer.c and QEMU hw/hyperv/vmbus.c for how packets lie behind each other;
OpenVMM vmbus_ring/src/lib.rs, parse_packet(), for what a reader takes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from vmbus.images import MissingMemory
from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE, PACKET_DESCRIPTOR, PacketFlags
from vmbus.memory import RingMem
from vmbus.ring import IncomingPacketType, advance, descriptor_fault, smallest_data_offset
from vmbus.sizes import SLOT

from .walk import WalkedPacket

__all__ = ["MOST_SEARCHED", "Chain", "GuessedPacket", "guess_chain"]

#: No device is known to have a larger ring.
MOST_SEARCHED = 32 << 20

#: The first slot of a known packet's payload, by the packet's type.
SMALLEST_OFFSET8 = {int(kind): smallest_data_offset(kind) // SLOT for kind in IncomingPacketType}
#: Where bytes are missing, the others are read in pieces of so many.
PIECE = 512
FOOTER8 = FOOTER_SIZE // SLOT

#: The first 8 bytes of a descriptor are below this: its flags are their upper 16 bits.
FLAGS_LIMIT = (int(PacketFlags.COMPLETION_REQUESTED) + 1) << 48


class GuessedPacket(NamedTuple):
    """A packet of the chain.

    packet      what its descriptor says
    contested   whether other chains have bytes of it, or nothing leads to it
    """

    packet: WalkedPacket
    contested: bool


class Chain(NamedTuple):
    """The chain of descriptors that leads to the end of the search.

    memory, start   the ring, and the offset at which the search began
    slots           where its packets are, in slots of 8 bytes behind `start`, oldest first
    ends            where each ends
    contested       for each packet 1 where other chains have bytes of it or nothing leads to it
    competing       how many other chains lead to the same end
    cut             bytes that were not searched, being more than MOST_SEARCHED behind
    """

    memory: RingMem
    start: int
    slots: array[int]
    ends: array[int]
    contested: bytearray
    competing: int = 0
    cut: int = 0

    @property
    def first_offset(self) -> int | None:
        """Where the oldest packet of the chain is."""
        return advance(self.memory.size, self.start, self.slots[0] * SLOT) if self.slots else None

    def newest_first(self) -> Iterator[GuessedPacket]:
        """The packets, each taken apart when it is asked for."""
        size = self.memory.size
        for number in reversed(range(len(self.slots))):
            offset = advance(size, self.start, self.slots[number] * SLOT)
            length = (self.ends[number] - self.slots[number]) * SLOT
            try:
                descriptor = PACKET_DESCRIPTOR.unpack(self.memory.read_at(offset, DESCRIPTOR_SIZE))
            except MissingMemory:  # its first 8 bytes are there, or it would not be in the chain
                continue
            fault = descriptor_fault(descriptor, length)
            packet = WalkedPacket(offset, descriptor, length, fault)
            yield GuessedPacket(packet, bool(self.contested[number]))


def guess_chain(memory: RingMem, end: int, length: int) -> Chain:
    """The longest chain of descriptors in the `length` bytes before `end` that leads exactly to `end`.

    end      out, or the start of the oldest packet that footers lead to
    length   bytes from in, where the oldest byte is that is still there, to `end`; a multiple of 8, at
             most the memory's size

    Reads those bytes once; nothing is raised, whatever they are.

    >>> from vmbus.memory import FlatRingMem
    >>> memory = FlatRingMem(4096)
    >>> for offset in (0, 32, 64):
    ...     memory.write_at(offset, bytes([6, 0, 2, 0, 3, 0]))
    >>> chain = guess_chain(memory, 96, 4096)
    >>> [(guessed.packet.offset, guessed.contested) for guessed in chain.newest_first()]
    [(64, False), (32, False), (0, True)]
    """
    size = memory.size
    cut = max(0, length - MOST_SEARCHED)
    start = advance(size, end, size - (length - cut))
    data = read_present(memory, start, length - cut)
    depths, ends, led_to = follow(data)
    slots, slot_ends = longest(depths, ends)
    if not slots:
        return Chain(memory, start, slots, slot_ends, bytearray(), 0, cut)
    leaves = sum(1 for slot in good_slots(depths) if not led_to[slot])
    contested = contested_by_others(depths, ends, slots)
    return Chain(memory, start, slots, slot_ends, contested, leaves - 1, cut)


def read_present(memory: RingMem, start: int, length: int) -> bytes:
    """The bytes to search; zeros, which are no descriptor, where an image does not have them."""
    try:
        return memory.read_at(start, length)
    except MissingMemory:
        pieces = []
        for at in range(0, length, PIECE):
            offset, count = advance(memory.size, start, at), min(PIECE, length - at)
            try:
                pieces.append(memory.read_at(offset, count))
            except MissingMemory:
                pieces.append(bytes(count))
        return b"".join(pieces)


def follow(data: bytes) -> tuple[array[int], array[int], bytearray]:
    """For each slot of 8 bytes: how many packets its chain has up to the end of `data`, 0 where it does
    not come out there or is none; where its packet ends; and whether another packet leads to it.
    """
    words = memoryview(data).cast("Q")
    last = len(words)
    depths = array("I", bytes(4 * last))
    ends = array("I", bytes(4 * last))
    led_to = bytearray(last + 1)
    for slot in range(last - 1, -1, -1):
        word = words[slot]
        # What descriptor_fault says, of a descriptor with all bytes up to the end of `data` available.
        if word < FLAGS_LIMIT and word & 0xFFFF in SMALLEST_OFFSET8:
            length8 = word >> 32 & 0xFFFF
            if SMALLEST_OFFSET8[word & 0xFFFF] <= word >> 16 & 0xFFFF <= length8:
                end = slot + length8 + FOOTER8
                if end < last:
                    depth = depths[end]
                    if not depth:
                        continue
                elif end == last:
                    depth = 0
                else:
                    continue
                depths[slot] = depth + 1
                ends[slot] = end
                led_to[end] = 1
    return depths, ends, led_to


def good_slots(depths: array[int]) -> Iterator[int]:
    """The slots whose chains come out."""
    return (slot for slot, depth in enumerate(depths) if depth)


def longest(depths: array[int], ends: array[int]) -> tuple[array[int], array[int]]:
    """The starts and ends of the chain with the most packets; of several that which begins first."""
    slots, slot_ends = array("I"), array("I")
    most = max(depths, default=0)
    if not most:
        return slots, slot_ends
    slot = depths.index(most)
    while slot < len(depths):
        slots.append(slot)
        slot = ends[slot]
        slot_ends.append(slot)
    return slots, slot_ends


def contested_by_others(depths: array[int], ends: array[int], slots: array[int]) -> bytearray:
    """For each packet of the chain, 1 where a packet of another chain has bytes of it, and for the first.

    The packets of a chain lie one behind the other, so one pass over the slots meets them in order.
    """
    contested = bytearray(len(slots))
    contested[0] = 1
    current = -1  # the packet of the chain that the pass is in
    others_end = 0  # where the last of the other chains' packets so far ends
    for slot in good_slots(depths):
        if current + 1 < len(slots) and slot == slots[current + 1]:
            current += 1
            if others_end > slot:
                contested[current] = 1
            continue
        others_end = max(others_end, ends[slot])
        if current >= 0:
            contested[current] = 1
    return contested
