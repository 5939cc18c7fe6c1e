"""Whether a packet can be explained by a single look at the bytes it was made of.

A reader that looks twice at what the other side may change puts packets together that never were: a length that was
checked and another that was used, ranges that were counted once and taken apart later.  Here is what a reader has
read, and what it made of it; every number of a packet must come from one and the same read.

Offsets and lengths are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmbus.errors import PeerError
from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE, PACKET_DESCRIPTOR, PacketDescriptor
from vmbus.ring import Packet, advance, parse_extension, used_bytes
from vmbus.sizes import SLOT

from .slow_memory import Access

__all__ = ["Looks"]

#: Where the payload starts at the earliest, by the type of the packet: in-band, completion, transfer pages, GPA-direct.
LEAST_DATA_OFFSET = {6: 16, 11: 16, 7: 24, 9: 24}


class Looks:
    """What a reader has read of a ring, in one call.

    accesses   whole, as the reader made them
    size       bytes of the ring's data area
    """

    def __init__(self, accesses: Sequence[Access], size: int) -> None:
        self.size = size
        self.reads = [(access.place, access.value) for access in accesses if access.what == "read"]

    def at(self, start: int, length: int) -> Iterator[bytes]:
        """What each read that covers those bytes saw there."""
        for place, data in self.reads:
            into = (start - place) % self.size
            if into + length <= len(data):
                yield data[into : into + length]

    def ends_of(self, packet: Packet, start: int, known_in: int) -> set[int]:
        """Where `packet` ends, by each look at `start` that explains all it says; nothing where none does."""
        said = (packet.type, packet.flags, packet.transaction_id)
        return {
            self.end_of(start, descriptor)
            for descriptor in self.descriptors_of(packet.payload, start, known_in)
            if said == (descriptor.type, descriptor.flags, descriptor.transaction_id)
            and self._explains_ranges(packet, start, descriptor)
        }

    def ends_of_payload(self, payload: bytes, start: int, known_in: int) -> set[int]:
        """The same of a packet of which only the payload is known."""
        return {
            self.end_of(start, descriptor) for descriptor in self.descriptors_of(payload, start, known_in)
        }

    def descriptors_of(self, payload: bytes, start: int, known_in: int) -> Iterator[PacketDescriptor]:
        """The descriptors without fault that were seen at `start`, where their payload was seen so."""
        for descriptor in self.descriptors(start, known_in):
            data_offset, length = SLOT * descriptor.data_offset8, SLOT * descriptor.length8
            if payload in self.at(start + data_offset, length - data_offset):
                yield descriptor

    def descriptors(self, start: int, known_in: int) -> Iterator[PacketDescriptor]:
        """The descriptors without fault that were seen at `start`, with so much published as `known_in` says."""
        available = used_bytes(self.size, known_in, start)
        for look in self.at(start, DESCRIPTOR_SIZE):
            descriptor = PACKET_DESCRIPTOR.unpack(look)
            data_offset, length = SLOT * descriptor.data_offset8, SLOT * descriptor.length8
            # The rule of the ring, stated once more: here it is what is tested.
            least = LEAST_DATA_OFFSET.get(descriptor.type)
            if (
                least is not None
                and least <= data_offset <= length <= available - FOOTER_SIZE
                and descriptor.flags in (0, 1)
            ):
                yield descriptor

    def reachable(self, start: int, known_ins: set[int]) -> set[int]:
        """Where a reader that takes packets from `start` on can have come, `start` included."""
        found: set[int] = set()
        left = {start}
        while left:
            at = left.pop()
            found.add(at)
            for known_in in known_ins:
                for descriptor in self.descriptors(at, known_in):
                    left.add(self.end_of(at, descriptor))
            left -= found
        return found

    def compose(self, data: bytes) -> bool:
        """Whether `data` is reads one behind the other, in their order, some left out."""
        reached = {0}
        for _, read in self.reads:
            reached |= {at + len(read) for at in reached if data.startswith(read, at)}
        return len(data) in reached

    def end_of(self, start: int, descriptor: PacketDescriptor) -> int:
        return advance(self.size, start, SLOT * descriptor.length8 + FOOTER_SIZE)

    def _explains_ranges(self, packet: Packet, start: int, descriptor: PacketDescriptor) -> bool:
        said = (packet.ranges, packet.transfer_page_set_id)
        if said == ((), None):
            return True
        length = SLOT * descriptor.data_offset8 - DESCRIPTOR_SIZE
        for look in self.at(start + DESCRIPTOR_SIZE, length):
            try:
                if parse_extension(descriptor, look) == said:
                    return True
            except PeerError:
                pass
        return False
