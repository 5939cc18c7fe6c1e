"""The operations of a hostile peer of rings: what is struck, and so many accesses later.

Sizes, offsets and lengths are in bytes.
"""

from __future__ import annotations

from vmbus.sizes import PAGE_SIZE, SLOT

from .arguments import Bytes, Choice, Number
from .control_words import WORDS
from .hostile_trial import HostileTrial, RingVictim
from .strikes import descriptor_bytes, index_corners
from .trial import operation

__all__ = ["AFTER", "RingStrikes"]

#: How many accesses later a strike comes: most calls make about ten, in parts of 8 bytes some more.
AFTER = Choice(0, 0, 0, 0, *range(16), *range(2, 10), 20, 24, 40, 100)

INDEX = Number(0, 2**32 - 1, corners=index_corners(PAGE_SIZE) + index_corners(2 * PAGE_SIZE))
STRUCK_WORD = Choice("in", "out", "in", "out", "mask", "pending", "features")

#: Where bytes are struck: at a place of the ring, behind what was read last, or behind out.
WHERE = Choice("again", "next", "bytes")
PLACE = Number(0, 2 * PAGE_SIZE - 1, corners=[0, 2, 4, 6, 8, 16, 20, 24])

#: The numbers of a descriptor.
HALFWORD_CORNERS = [0, 1, 2, 3, 4, 5, 6, 8, 9, 16, 511, 512, 0x7FFF, 0x8000]
DESCRIPTOR = {
    "kind": Choice(6, 6, 6, 11, 7, 9, 0, 10, 0xFFFF),
    "data_offset8": Number(0, 0xFFFF, corners=[2, 2, 3, *HALFWORD_CORNERS]),
    "length8": Number(0, 0xFFFF, corners=HALFWORD_CORNERS),
    "flags": Choice(0, 0, 1, 1, 2, 0x8000),
}


class RingStrikes(HostileTrial):
    """Strikes against a reader and a writer of rings."""

    def victim_named(self, victim: str) -> RingVictim:
        """ "reader" or "writer"."""
        raise NotImplementedError

    @operation(victim=Choice("reader", "writer"), after=AFTER, word=STRUCK_WORD, value=INDEX)
    def strike_word(self, victim: str, after: int, word: str, value: int) -> None:
        self.strike(self.victim_named(victim), after, "word", WORDS[word], value)

    @operation(victim=Choice("reader", "writer"), after=AFTER, where=WHERE, place=PLACE, data=Bytes(24))
    def strike_bytes(self, victim: str, after: int, where: str, place: int, data: bytes) -> None:
        self.strike(self.victim_named(victim), after, where, place, data)

    @operation(after=AFTER, where=WHERE, **DESCRIPTOR)
    def strike_descriptor(
        self, after: int, where: str, kind: int, data_offset8: int, length8: int, flags: int
    ) -> None:
        """A descriptor where the reader looks next, or where it has just looked."""
        data = descriptor_bytes(kind, data_offset8, length8, flags)
        self.strike(self.victim_named("reader"), after, where, 0, data)

    @operation(after=AFTER, slot=Number(0, 1023), slots=Number(1, 20), **DESCRIPTOR)
    def strike_packet(
        self, after: int, slot: int, slots: int, kind: int, data_offset8: int, length8: int, flags: int
    ) -> None:
        """A packet, right or wrong, with in behind it."""
        data = descriptor_bytes(kind, data_offset8, length8, flags).ljust(SLOT * slots, b"\0")
        self.strike(self.victim_named("reader"), after, "packet", SLOT * slot, data)
