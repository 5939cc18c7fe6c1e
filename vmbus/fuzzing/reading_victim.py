"""The receiving end of a ring under attack, and what is known of it.

Offsets are in bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import RingMem
from vmbus.ring import IncomingOffset, IncomingRing, OutgoingRing, Packet, is_offset

from .hostile_trial import RingVictim
from .one_look import Looks

__all__ = ["Expected", "ReadingVictim"]


class Expected(NamedTuple):
    """A packet that an honest sender put in.

    message   what of it is a message; None where it is no packet of a pipe, or was read in part
    rest      what of that message has not been read as bytes
    """

    packet: Packet
    message: bytes | None = None
    rest: bytes | None = None

    def left_in_part(self, rest: bytes) -> Expected:
        """The same behind a read of bytes that left `rest`: how many are gone stands in the packet."""
        whole = int.from_bytes(self.packet.payload[4:6], "little")
        head = struct.pack("<IHH", 2, whole, whole - len(rest))  # PARTIAL_PIPE_HEADER, spelled by hand
        return Expected(self.packet._replace(payload=head + self.packet.payload[8:]), None, rest)


class ReadingVictim(RingVictim):
    """An IncomingRing, and what is known of it.

    out        where its next packet starts
    known_in   the in that it works with
    places     where its open round of reading can have come, `round` packets on
    expected   what honest senders put in, as long as nothing is struck
    """

    def __init__(self, inside: RingMem) -> None:
        super().__init__("the reader", inside)
        self.sender = OutgoingRing(inside)
        self.ring = IncomingRing(self.memory)
        self.expected: deque[Expected] = deque()
        self.sent = 0
        self.began()

    def began(self) -> None:
        """It was made, or reset: its own index is the one that it loaded last."""
        index = self.loads(OUT_WORD)[-1]
        self.out = self.known_in = index
        self.new_round(None)

    def new_round(self, offset: IncomingOffset | None) -> None:
        self.offset = offset
        self.places = {self.out}
        self.round = 0

    def look(self) -> None:
        """Take note of what the last call has loaded, and read up to its commit."""
        accesses = self.accesses
        committed = [
            number
            for number, access in enumerate(accesses)
            if access.what == "store" and access.place == OUT_WORD
        ]
        before = accesses[: committed[0]] if committed else accesses
        loaded = [access.value for access in before if access.what == "load" and access.place == IN_WORD]
        self.bad = [index for index in loaded if not is_offset(self.ring.size, index)]
        for access in accesses[committed[0] :] if committed else ():
            if (
                access.what == "load"
                and access.place == IN_WORD
                and not is_offset(self.ring.size, access.value)
            ):
                self.owed = access.value if self.fault is None else None
        self.known_ins = {self.known_in, *loaded}
        self.known_in = loaded[-1] if loaded else self.known_in
        self.looks = Looks(before, self.ring.size)
