"""From packet to packet, through rings that may be broken.

A ring refuses what is malformed; a walk shows it and goes on where the length still says how.

Source: OpenVMM vmbus_ring/src/lib.rs, parse_packet(), for what a reader accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.errors import PeerError
from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE, PACKET_DESCRIPTOR, SMALLEST_PACKET, PacketDescriptor
from vmbus.memory import RingMem
from vmbus.ring import RingFault, advance, descriptor_fault, is_offset, load_control, used_bytes
from vmbus.sizes import SLOT

__all__ = ["WalkedPacket", "checked_indices", "walk"]


class WalkedPacket(NamedTuple):
    """A place where a packet should be.

    offset       of the descriptor, in bytes from the start of the data area
    descriptor   as it was read; None when fewer bytes are there than it has
    available    bytes from there to the end of the walk
    fault        why a reader would refuse the descriptor, or None
    """

    offset: int
    descriptor: PacketDescriptor | None
    available: int
    fault: RingFault | None

    @property
    def whole(self) -> bool:
        """True when the descriptor's length ends the packet inside the walk."""
        return (
            self.descriptor is not None and SMALLEST_PACKET <= self.descriptor.packet_size <= self.available
        )


def walk(memory: RingMem, start: int | None = None, end: int | None = None) -> Iterator[WalkedPacket]:
    """Each packet from offset `start` up to `end`, both multiples of 8 below the memory's size.

    Without them what waits in the ring, from out to in as its control page has them; PeerError when these are
    no offsets.  Ends at `end`, or with a packet whose length cannot
    be followed; takes at most as many steps as the ring has places for packets.

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send_many([b"first", b"second"])
    (2, True)
    >>> [packet.offset for packet in walk(sender.memory)]
    [0, 32]
    """
    if start is None or end is None:
        own_out, own_in = checked_indices(memory)
        start, end = own_out if start is None else start, own_in if end is None else end
    size = memory.size
    last_start = size - DESCRIPTOR_SIZE
    unpack = memory.unpacker(PACKET_DESCRIPTOR.struct)
    new_descriptor = PACKET_DESCRIPTOR.record._make
    available = used_bytes(size, end, start)
    offset = start
    while available >= DESCRIPTOR_SIZE:
        if offset <= last_start:
            descriptor = new_descriptor(unpack(offset))
        else:
            descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at(offset, DESCRIPTOR_SIZE))
        yield WalkedPacket(offset, descriptor, available, descriptor_fault(descriptor, available))
        taken = descriptor.length8 * SLOT + FOOTER_SIZE
        if not SMALLEST_PACKET <= taken <= available:
            return
        available -= taken
        offset = advance(size, offset, taken)
    if available:
        yield WalkedPacket(offset, None, available, RingFault.INVALID_DATA_AVAILABLE)


def checked_indices(memory: RingMem) -> tuple[int, int]:
    """out and in of a ring, read once; PeerError when one is no offset of it."""
    control = load_control(memory.control)
    for name, index in (("out", control.out_offset), ("in", control.in_offset)):
        if not is_offset(memory.size, index):
            raise PeerError(
                f"{name} is {index:#x}, and in {memory.size} bytes it is a multiple of {SLOT} below that",
                kind=RingFault.INVALID_RING_POINTER,
                found=index,
                allowed=memory.size,
            )
    memory.acquire()  # no packet is read before the indices that say that it is there
    return control.out_offset, control.in_offset
