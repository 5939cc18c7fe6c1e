"""The receiving end of a ring under attack, judged after every call.

While nothing is struck, what comes out is what an honest sender put in.  From then on every packet is one that a
single look explains, out moves behind exactly the packets that were returned, and nothing else is stored.

Sizes, offsets and lengths are in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmbus.errors import BufferTooSmall, RingEmpty, VmbusError
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD
from vmbus.ring import IncomingPacket, Packet, is_offset

from .arguments import Choice, Flag, Number
from .hostile_trial import HostileTrial, Outcome
from .packet_kinds import PACKET_KINDS
from .reading_victim import Expected, ReadingVictim
from .trial import operation, pattern

__all__ = ["EACH_PACKET", "HONEST_LENGTH", "LEAST_PACKET", "ONE_PACKET", "PATIENCE", "HostileReading"]

#: Lengths of what honest sides send.
HONEST_LENGTH = Number(0, 900, corners=[0, 1, 8, 16, 40, 100])

#: No limit for receive_many.
NO_LIMIT = 4

#: Accesses of a call that takes one packet; of each packet of a call that takes many.
ONE_PACKET, EACH_PACKET = 16, 5

LEAST_PACKET = 24

#: Behind so many calls that raised the same error again somebody puts the ring right.
PATIENCE = 2


class HostileReading(HostileTrial):
    """The reading half of the trial of a hostile ring."""

    reader: ReadingVictim

    # -- the honest past -------------------------------------------------------------------------

    @operation(kind=Choice(*PACKET_KINDS), length=HONEST_LENGTH)
    def honest_packet(self, kind: str, length: int) -> None:
        """An honest sender puts a packet in, as far as it can: its side of the ring may be struck as well."""
        reader = self.reader
        reader.sent += 1
        payload = pattern(length, reader.sent)
        spelled = PACKET_KINDS[kind]
        if self.put_in(lambda: reader.sender.send_packet(spelled.outgoing(length), payload)):
            reader.expected.append(Expected(spelled.received(payload)))

    @operation(length=HONEST_LENGTH)
    def honest_message(self, length: int) -> None:
        """An honest sender puts in a packet of a pipe."""
        reader = self.reader
        reader.sent += 1
        message = pattern(length, reader.sent)
        payload = struct.pack("<II", 1, length) + message  # PIPE_HEADER, spelled by hand
        if self.put_in(lambda: reader.sender.send(payload)):
            received = PACKET_KINDS["in-band"].received(payload)._replace(transaction_id=0)
            reader.expected.append(Expected(received, message, message))

    def put_in(self, send: Callable[[], object]) -> bool:
        """Whether a model must know of it."""
        try:
            send()
        except VmbusError:
            return False
        return self.reader.quiet

    # -- in one step -----------------------------------------------------------------------------

    @operation()
    def receive(self) -> None:
        reader = self.reader
        outcome = self.read_call("receive", reader.ring.receive, ONE_PACKET)
        self.took([] if outcome.result is None else [outcome.result[0]], outcome)

    @operation(limit=Number(0, NO_LIMIT))
    def receive_many(self, limit: int) -> None:
        reader = self.reader
        most = ONE_PACKET + EACH_PACKET * (reader.ring.size // LEAST_PACKET)
        wanted = None if limit == NO_LIMIT else limit
        outcome = self.read_call("receive_many", lambda: reader.ring.receive_many(wanted), most)
        packets = [] if outcome.result is None else outcome.result[0]
        self.demand(
            wanted is None or len(packets) <= wanted, f"{len(packets)} packets, with a limit of {limit}"
        )
        made = len(reader.accesses)
        self.demand(
            made <= ONE_PACKET + EACH_PACKET * len(packets), f"{made} accesses for {len(packets)} packets"
        )
        self.took(packets, outcome)

    @operation(length=Number(0, 8192, corners=[0, 8, 4096]))
    def receive_into(self, length: int) -> None:
        reader = self.reader
        buffer = bytearray(length)
        outcome = self.read_call(
            "receive_into", lambda: reader.ring.receive_into(buffer), ONE_PACKET, may=(BufferTooSmall,)
        )
        self.demand(len(buffer) == length, f"a buffer of {length} bytes has {len(buffer)} now")
        if isinstance(outcome.error, BufferTooSmall):
            self.demand(
                outcome.error.needed > length, f"{length} bytes are enough for {outcome.error.needed}"
            )
        if outcome.result is None:
            self.took([], outcome)
            return
        payload = bytes(buffer[: outcome.result[0]])
        places = reader.looks.ends_of_payload(payload, reader.out, reader.known_in)
        self.demand(bool(places), "a payload into a buffer was put together from two looks")
        self.committed(places)
        if reader.quiet:
            expected = reader.expected.popleft().packet.payload
            self.demand_equal(payload, expected, "a payload of an honest sender")

    # -- in steps --------------------------------------------------------------------------------

    @operation()
    def read(self) -> None:
        """One packet of a round, copied at once."""
        reader = self.reader
        outcome = self.read_call("read", self.read_next, ONE_PACKET)
        looks = reader.looks
        if outcome.result is not None:
            packet = whole(*outcome.result)
            places = {end for at in reader.places for end in looks.ends_of(packet, at, reader.known_in)}
            self.explained(packet, places)
            reader.places = places
            if reader.quiet:
                self.demand(reader.round < len(reader.expected), "a packet that nobody put in")
                expected = reader.expected[reader.round].packet
                self.demand_equal(packet, expected, "a packet of an honest sender, read in steps")
            reader.round += 1

    def read_next(self) -> tuple[IncomingPacket, bytes]:
        reader = self.reader
        if reader.offset is None:
            reader.new_round(reader.ring.incoming())
        assert reader.offset is not None
        packet = reader.ring.read(reader.offset)
        return packet, packet.payload.reader(reader.ring).read_all()

    @operation()
    def revert_read(self) -> None:
        if self.reader.offset is not None:
            self.reader.offset.revert()
            self.reader.new_round(self.reader.offset)

    @operation()
    def commit_read(self) -> None:
        reader = self.reader
        offset = reader.offset
        if offset is None:
            return
        self.read_call("commit_read", lambda: reader.ring.commit_read(offset), ONE_PACKET, commits=True)
        if reader.quiet:
            for _ in range(reader.round):
                reader.expected.popleft()
        reader.round = 0
        if reader.stores(OUT_WORD):
            self.committed(reader.places)

    # -- what changes nothing --------------------------------------------------------------------

    @operation(masked=Flag())
    def mask(self, masked: bool) -> None:
        ring = self.reader.ring
        outcome = self.read_call("set_interrupt_mask", lambda: ring.set_interrupt_mask(masked), 2)
        if outcome.error is None and not masked:
            self.read_call("verify_interrupts_unmasked", ring.verify_interrupts_unmasked, 1)

    @operation()
    def ask_reader(self) -> None:
        ring = self.reader.ring
        outcome = self.read_call("can_read", lambda: ring.can_read(ring.incoming()), 2)
        self.demand(outcome.error is not None or outcome.result in (True, False), "can_read is yes or no")
        self.read_call("supports_pending_send_size", ring.supports_pending_send_size, 1)

    @operation()
    def reset_reader(self) -> None:
        """Trust the ring again, as it stands: nothing that is honest is known of it any more."""
        reader = self.reader
        if reader.fault is None:
            return
        reader.fault = None
        reader.refusals = 0
        self.read_call("reset", reader.ring.reset, 1)
        reader.began()

    # -- judging ---------------------------------------------------------------------------------

    def read_call(
        self, call: str, function: Callable[[], Any], most: int, *, parts: bool = False, **options: Any
    ) -> Outcome:
        """A call of the reader; `parts`: it returns what it has got when an error comes, and the next one raises."""
        outcome = self.attempt(self.reader, call, function, most=most, **options)
        self.check_stores(self.reader, (OUT_WORD, INTERRUPT_MASK_WORD))
        if outcome.error is not None and not options.get("commits"):
            self.demand(not self.reader.stores(OUT_WORD), f"{call} raised an error and moved out")
        self.reader.look()
        self.check_index(self.reader, call, outcome, self.reader.bad, parts)
        if self.reader.refusals >= PATIENCE:
            self.put_reader_right()
        return outcome

    def put_reader_right(self) -> None:
        """Somebody empties the ring where the reader is, and all trust it again."""
        reader = self.reader
        control = reader.inside.control
        control[IN_WORD] = control[OUT_WORD] = reader.out if is_offset(reader.ring.size, reader.out) else 0
        reader.sender.reset()
        reader.put_right()
        reader.expected.clear()
        self.read_call("reset", reader.ring.reset, 1)
        reader.began()

    def took(self, packets: list[Packet], outcome: Outcome) -> None:
        """A call in one step has returned these."""
        reader = self.reader
        looks = reader.looks
        if reader.quiet:
            self.took_quietly(packets, isinstance(outcome.error, RingEmpty))
        if not packets:
            return
        places = {reader.out}
        for packet in packets:
            places = {end for at in places for end in looks.ends_of(packet, at, reader.known_in)}
            self.explained(packet, places)
        self.committed(places)

    def took_quietly(self, packets: list[Packet], empty: bool) -> None:
        reader = self.reader
        self.demand(not (empty and reader.expected), f"empty, and {len(reader.expected)} packets were put in")
        for packet in packets:
            self.demand(bool(reader.expected), "a packet that nobody put in")
            self.demand_equal(packet, reader.expected.popleft().packet, "a packet of an honest sender")

    def explained(self, packet: Packet, places: set[int]) -> None:
        self.demand(bool(places), f"{packet!r:.80} was put together from two looks at a ring that changed")

    def committed(self, places: set[int]) -> None:
        """Out was stored once, and one of these."""
        reader = self.reader
        stored = reader.stores(OUT_WORD)
        self.demand(len(stored) == 1, f"out was stored {len(stored)} times in one commit")
        self.demand(
            stored[0] in places, f"out is {stored[0]:#x} now; the packets end at {hexadecimal(places)}"
        )
        reader.out = stored[0]
        reader.new_round(None)


def whole(packet: IncomingPacket, payload: bytes) -> Packet:
    """A packet of `read` as the one-step methods return it."""
    descriptor = packet.descriptor
    return Packet(
        packet.type,
        descriptor.transaction_id,
        payload,
        packet.ranges,
        descriptor.flags,
        packet.transfer_page_set_id,
    )


def hexadecimal(offsets: set[int]) -> str:
    return ", ".join(f"{offset:#x}" for offset in sorted(offsets)) or "no place"
