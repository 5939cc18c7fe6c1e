"""A ring of any size, from any start: it carries what a list carries, refuses the rest and signals when it must.

The model is a list of packets, a mask and a number of bytes asked for (ring_model.py).  The operations fill the
ring to the last slot on purpose, cut packets at its end, ask for exactly the room that the next packets free, and
leave offsets behind to go stale.

To try a memory or ends of your own:

>>> from vmbus.memory import FlatRingMem
>>> class MyMemory(FlatRingMem):
...     pass
>>> trial = RingTrial(pages=1, start=511, memory="flat", make_memory=MyMemory)
>>> trial.perform("send_one", {"kind": "gpa-direct", "length": 40})
>>> trial.finish()

Sizes are in bytes.
"""

from __future__ import annotations

from functools import partial

from vmbus.errors import CallerError
from vmbus.layout import PENDING_SEND_SIZE_WORD
from vmbus.ring import OutgoingPacket

from .arguments import Choice, Flag, Number
from .differences import demand_bytes
from .packet_kinds import PACKET_KINDS
from .ring_model import MEMORY, PAGES, START, rounded_down, rounded_up, total_of
from .ring_reading import RingReading
from .trial import operation

__all__ = ["RingTrial"]


class RingTrial(RingReading):
    """One ring, driven from both ends, and a list; what sends is in ring_writing.py, what receives in ring_reading.py.

    pages         data pages of the ring
    start         the slot where the first packet lies, counted round and round
    memory        "flat" or "paged"
    make_memory   makes a RingMem of so many bytes, in place of those
    make_ends     makes the sender and the receiver over a memory, in place of OutgoingRing and IncomingRing
    """

    name = "ring"
    summary = "a ring, from both ends: what it carries, refuses and signals"
    settings = {"pages": PAGES, "start": START, "memory": MEMORY}  # noqa: RUF012
    CORNERS = (
        *(f"packet: {kind}" for kind in PACKET_KINDS),
        "wrap in a descriptor",
        "wrap in an extension",
        "wrap in a payload",
        "wrap before the footer",
        "packet that ends where the ring ends",
        "ring filled to the last slot",
        "refused by one slot",
        "packet that could never fit",
        "several packets in one commit",
        "batch that fits in part",
        "empty ring read",
        "empty ring written while masked",
        "reader signaled",
        "writer signaled",
        "pending size met exactly",
        "pending size missed by one slot",
        "pending size with low bits",
        "stale offset used",
        "write reverted",
        "read reverted",
        "buffer too small",
        "new ends over the same memory",
    )

    def finish(self) -> None:
        """All that waits lies there byte for byte, and comes out."""
        at = self.model.out_offset
        for sent in self.model.waiting:
            found, expected = self.memory.read_at(at, sent.total), sent.kind.whole(sent.payload, at)
            demand_bytes(found, expected, f"the packet in memory at {at:#06x}")
            at = (at + sent.total) % self.size
        self.empty()
        self.check()

    # -- signals ---------------------------------------------------------------------------------

    @operation(masked=Flag())
    def set_interrupt_mask(self, masked: bool) -> None:
        with self.demand_no_error("set_interrupt_mask"):
            self.receiver.set_interrupt_mask(masked)
        self.model.masked = masked

    @operation(
        freed=Number(0, 3),
        slots=Number(-1, 1, corners=[0]),
        more=Number(-7, 7, corners=[0, 0, -1]),
        rounds=Flag(),
        then=Number(0, 4),
    )
    def ask_for_room(self, freed: int, slots: int, more: int, rounds: bool, then: int) -> None:
        """Ask for about the room there will be when so many packets are gone, then receive some."""
        length = self.model.free + total_of(self.model.waiting[:freed]) + 8 * slots + more
        if rounds:
            self.ask_as_this_sender(length)
        else:
            self.ask_as_a_sender_that_does_not_round(length)
        self.check()
        for _ in range(then):
            self.receive()

    def ask_as_this_sender(self, length: int) -> None:
        if not 0 <= length <= self.size - 8:
            with self.demand_raises(CallerError, f"a pending send size of {length}"):
                self.sender.set_pending_send_size(length)
            return
        with self.demand_no_error("set_pending_send_size"):
            self.sender.set_pending_send_size(length)
        self.model.wanted = rounded_up(length)

    def ask_as_a_sender_that_does_not_round(self, length: int) -> None:
        """The size minus 1 is a common one, and means an empty ring."""
        length = max(0, length)
        if length % 8:
            self.corners["pending size with low bits"] += 1
        self.memory.control[PENDING_SEND_SIZE_WORD] = length
        self.model.wanted = rounded_down(length)

    # -- what is done now and then ---------------------------------------------------------------

    @operation(what=Choice("revert_write", "revert_read", "use_stale_offsets", "ask_about_both_ends"))
    def now_and_then(self, what: str) -> None:
        getattr(self, what)()

    @operation(what=Choice("verify_that_interrupts_are_on", "reset_both_ends", "open_both_ends_anew"))
    def seldom(self, what: str) -> None:
        getattr(self, what)()

    def revert_write(self) -> None:
        self.write(self.make("completion", 40))
        if self.batch:
            self.corners["write reverted"] += 1
        self.outgoing.revert()
        self.batch = []
        self.commit_write()

    def revert_read(self) -> None:
        self.read_one()
        if self.read:
            self.corners["read reverted"] += 1
        self.incoming.revert()
        self.read = 0
        self.read_one()

    def ask_about_both_ends(self) -> None:
        room = self.room()
        for total in (0, room, room + 8, self.size - 8):
            if total <= self.size - 8:
                with self.demand_no_error("can_write"):
                    found = self.sender.can_write(self.outgoing, total)
                self.demand_equal(found, total <= room, f"can_write of {total} bytes with {room} free")
        with self.demand_raises(CallerError, "can_write of what never fits"):
            self.sender.can_write(self.outgoing, self.size)
        with self.demand_no_error("can_read"):
            can_read = self.receiver.can_read(self.incoming)
        self.demand_equal(can_read, self.read < len(self.model.waiting), "can_read")

    def use_stale_offsets(self) -> None:
        empty = OutgoingPacket.in_band(0)
        for outgoing in self.stale_outgoing:
            self.corners["stale offset used"] += 1
            for attempt in (
                partial(self.sender.can_write, outgoing, 24),
                partial(self.sender.write, outgoing, empty),
                partial(self.sender.commit_write, outgoing),
            ):
                with self.demand_raises(CallerError, "a stale offset of the sender"):
                    attempt()
        for incoming in self.stale_incoming:
            self.corners["stale offset used"] += 1
            for method in (self.receiver.can_read, self.receiver.read, self.receiver.commit_read):
                with self.demand_raises(CallerError, "a stale offset of the receiver"):
                    method(incoming)

    def verify_that_interrupts_are_on(self) -> None:
        if not self.model.masked:
            with self.demand_no_error("verify_interrupts_unmasked"):
                self.receiver.verify_interrupts_unmasked()
            return
        with self.demand_raises(CallerError, "verify_interrupts_unmasked while masked by this end"):
            self.receiver.verify_interrupts_unmasked()

    def reset_both_ends(self) -> None:
        with self.demand_no_error("reset"):
            self.sender.reset()
            self.receiver.reset()
        self.new_outgoing()
        self.new_incoming()

    def open_both_ends_anew(self) -> None:
        """New ends over the same memory go on where the old ones were; offsets of the old are no use."""
        self.corners["new ends over the same memory"] += 1
        with self.demand_no_error("new ends"):
            self.sender, self.receiver = self.make_ends(self.memory)
        self.new_outgoing()
        self.new_incoming()
        self.model.masked, self.model.wanted = True, 0
