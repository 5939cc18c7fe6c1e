"""Packets that were read already and are still there.

Reading moves out and erases nothing.  The 8 bytes before any packet are the footer of the one
before it and say where that one starts, so a walk goes backwards from out until it meets bytes
that the sender has used again.

How far a packet can be trusted:

    intact        footer and descriptor agree on where it starts and ends
    footer-only   the footer names a start whose descriptor says something else, and the chain
                  behind it goes on to an intact packet
    length-only   no footer leads to it; the lengths of older packets do, and those of newer ones lead
                  from it to out, or to the oldest packet that footers lead to
    guess         the same, but nothing older leads to it, or other chains of lengths compete

QEMU's hosts write no footer: all that was read from their rings is of the last two kinds.  Those are
looked for only behind the last packet that footers lead to, and only where a caller asks for guesses.

Sources: Linux include/linux/hyperv.h on the trailing offset; DPDK drivers/bus/vmbus and OpenVMM
vmbus_ring write it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from typing import NamedTuple

from vmbus.images import MissingMemory
from vmbus.layout import FOOTER, FOOTER_SIZE, PACKET_DESCRIPTOR, SMALLEST_PACKET
from vmbus.memory import RingMem
from vmbus.ring import advance, descriptor_fault, is_offset, used_bytes

from .guess import Chain, guess_chain
from .walk import WalkedPacket, checked_indices

__all__ = ["History", "RecoveredPacket", "Trust", "count_recovered", "look_back", "packets_before", "recover"]


class Trust(Enum):
    """How far a recovered packet can be trusted; the values stand in reports."""

    INTACT = "intact"
    LENGTH_ONLY = "length-only"
    FOOTER_ONLY = "footer-only"
    GUESS = "guess"


class RecoveredPacket(NamedTuple):
    """A packet from behind out, and how far to trust it."""

    packet: WalkedPacket
    trust: Trust


class History(NamedTuple):
    """What is left behind out.

    by_footers   how many packets footers lead to
    chain        those behind them that only lengths lead to
    newest       makes an iterator over all of them, newest first, each time from the start
    """

    by_footers: int
    chain: Chain
    newest: Callable[[], Iterator[RecoveredPacket]]

    @property
    def total(self) -> int:
        """How many packets there are in all."""
        return self.by_footers + len(self.chain.slots)


def look_back(memory: RingMem, in_offset: int, out_offset: int) -> History:
    """All packets before `out_offset` that are still there, guesses too.

    in_offset, out_offset   the ring's indices: multiples of 8 below the memory's size
    """
    trusted = count_recovered(memory, in_offset, out_offset)
    left, end = memory.size - used_bytes(memory.size, in_offset, out_offset), out_offset
    for found in islice(packets_before(memory, in_offset, out_offset), trusted):
        left -= found.packet.available
        end = found.packet.offset  # the search goes on behind the oldest one
    chain = guess_chain(memory, end, left)

    def newest() -> Iterator[RecoveredPacket]:
        yield from islice(packets_before(memory, in_offset, out_offset), trusted)
        for packet, contested in chain.newest_first():
            yield RecoveredPacket(packet, Trust.GUESS if contested else Trust.LENGTH_ONLY)

    return History(trusted, chain, newest)


def recover(
    memory: RingMem, in_offset: int | None = None, out_offset: int | None = None, *, guess: bool = False
) -> list[RecoveredPacket]:
    """The packets before `out_offset` whose every byte is still there, oldest first.

    in_offset, out_offset   the ring's indices, multiples of 8 below the memory's size; without them those in
                            its control page, or PeerError when these are no offsets
    guess                   also those that no footer leads to: length-only, and guesses

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send(b"read already")
    True
    >>> packet, must_signal = receiver.receive()
    >>> [(old.packet.offset, old.trust.value) for old in recover(sender.memory)]
    [(0, 'intact')]
    """
    if in_offset is None or out_offset is None:
        own_out, own_in = checked_indices(memory)
        in_offset = own_in if in_offset is None else in_offset
        out_offset = own_out if out_offset is None else out_offset
    if guess:
        return [*look_back(memory, in_offset, out_offset).newest()][::-1]
    trusted = count_recovered(memory, in_offset, out_offset)
    newest_first = [*islice(packets_before(memory, in_offset, out_offset), trusted)]
    return newest_first[::-1]


def count_recovered(memory: RingMem, in_offset: int, out_offset: int) -> int:
    """How many packets can be recovered: up to the oldest intact one."""
    trusted = 0
    for number, found in enumerate(packets_before(memory, in_offset, out_offset), 1):
        if found.trust is Trust.INTACT:
            trusted = number
    return trusted


def packets_before(memory: RingMem, in_offset: int, out_offset: int) -> Iterator[RecoveredPacket]:
    """What the footers lead to from `out_offset` backwards, newest first; count_recovered says how far
    it can be trusted.
    """
    end = out_offset
    left = memory.size - used_bytes(memory.size, in_offset, out_offset)
    try:
        while (found := packet_before(memory, end, left)) is not None:
            yield found
            left -= found.packet.available
            end = found.packet.offset
    except MissingMemory:  # bytes that an image does not have lead nowhere
        return


def packet_before(memory: RingMem, end: int, left: int) -> RecoveredPacket | None:
    """The packet whose footer ends at `end`, or None when the `left` bytes before it hold none."""
    size = memory.size
    if left < SMALLEST_PACKET:
        return None
    footer = FOOTER.unpack(memory.read_at(advance(size, end, size - FOOTER_SIZE), FOOTER_SIZE))
    start = footer.packet_offset
    if footer.reserved or not is_offset(size, start):
        return None
    length = used_bytes(size, end, start)
    if not SMALLEST_PACKET <= length <= left:
        return None
    descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at(start, PACKET_DESCRIPTOR.size))
    agrees = descriptor.packet_size == length
    packet = WalkedPacket(start, descriptor, length, descriptor_fault(descriptor, length))
    return RecoveredPacket(packet, Trust.INTACT if agrees else Trust.FOOTER_ONLY)
