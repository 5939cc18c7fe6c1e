"""The part of the channel trial that sends and receives: see channel_trial.py.

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vmbus.channel import PacketChannel
from vmbus.errors import BufferTooSmall, CallerError
from vmbus.ring import IncomingPacketType, Packet

from .arguments import Choice, Listing, Number
from .channel_under_test import PATIENCE, SIDE, ChannelUnderTest, SideModel
from .differences import demand_bytes, demand_packets
from .packet_kinds import padded
from .ring_model import LENGTH, MakeMemory, RingModel
from .trial import operation

__all__ = ["MOST_REQUESTS", "Carried", "ChannelCalls", "PacketSide"]

IN_BAND, COMPLETION = IncomingPacketType.IN_BAND, IncomingPacketType.COMPLETION

#: How many requests may be outstanding, and the id of the first: soon ids begin again.
MOST_REQUESTS = 4
LARGEST_ID = 2**64 - 1
FIRST_ID = LARGEST_ID - 2

#: No limit for receive_many.
NO_LIMIT = 5


class Carried(Packet):
    """A packet of the model."""

    @property
    def total(self) -> int:
        """Bytes it takes in the ring."""
        return 24 + len(self.payload)


class PacketSide(SideModel[Carried]):
    """One channel's own.

    inbox         what it keeps for `receive`
    outstanding   the ids of requests whose completion has not come
    """

    def __init__(self, sends: RingModel[Carried], receives: RingModel[Carried]) -> None:
        super().__init__(sends, receives)
        self.inbox: list[Carried] = []
        self.outstanding: list[int] = []
        self.next_id = FIRST_ID

    def new_id(self) -> int:
        found = self.next_id
        self.next_id = found + 1 if found < LARGEST_ID else 1
        return found

    def answers(self, packet: Carried) -> bool:
        """Whether it is the completion of an outstanding request, which it then is no more."""
        if packet.type is COMPLETION and packet.transaction_id in self.outstanding:
            self.outstanding.remove(packet.transaction_id)
            return True
        return False


class ChannelCalls(ChannelUnderTest[PacketSide]):
    """Two channels of packets, and everything but requests."""

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        *,
        make_channel: Callable[..., Any] = PacketChannel,
        make_memory: MakeMemory | None = None,
    ) -> None:
        options = {"maximum_outstanding": MOST_REQUESTS, "first_request_id": FIRST_ID}
        super().__init__(pages, start, memory, make_channel, make_memory, PacketSide, **options)

    def check(self) -> None:
        super().check()
        for side, end in zip(self.sides, self.ends, strict=True):
            if end.outstanding != len(side.outstanding):
                self.demand_equal(end.outstanding, len(side.outstanding), "requests outstanding")

    def finish(self) -> None:
        """Everything that was sent arrives, where somebody is there to receive it."""
        for number, side in enumerate(self.sides):
            while not side.closed and (side.inbox or side.receives.waiting):
                self.receive(number)
        self.check()

    def packet(self, length: int, kind: IncomingPacketType = IN_BAND, id: int = 0, flags: int = 0) -> Carried:
        """A packet unlike those before it."""
        return Carried(kind, id, padded(self.fresh(length)), (), flags)

    # -- sending ---------------------------------------------------------------------------------

    @operation(side=SIDE, length=LENGTH, id=Choice(0, 7))
    def send(self, side: int, length: int, id: int) -> None:
        packet = self.packet(length, id=id)
        self.send_one(side, packet, partial(self.ends[side].send, packet.payload, id, timeout=PATIENCE))

    def send_one(self, side: int, packet: Carried, call: Callable[[], object]) -> None:
        model = self.sides[side]
        if self.send_is_refused(side, call):
            return
        if packet.total > model.sends.free:
            model.ask(packet.total)
            self.demand_full(None, call)
            return
        self.put(side, [packet])
        with self.no_error(side):
            call()

    @operation(side=SIDE, slots=Number(-1, 1, corners=[0]))
    def send_leaving(self, side: int, slots: int) -> None:
        """The packet that leaves exactly so many 8-byte slots; -1 is one too many."""
        length = self.sides[side].sends.free - 24 - 8 * slots
        if 0 <= length <= self.size - 32:
            self.send(side, length, 0)

    @operation(side=SIDE, lengths=Listing(LENGTH, 12))
    def send_many(self, side: int, lengths: tuple[int, ...]) -> None:
        packets = [self.packet(length) for length in lengths]
        payloads = [packet.payload for packet in packets]
        call = partial(self.ends[side].send_many, payloads, timeout=PATIENCE)
        if self.send_is_refused(side, call):
            return
        model = self.sides[side]
        fitting = model.sends.fitting(packets)
        if fitting:
            self.put(side, fitting)
        if len(fitting) < len(packets):
            if fitting:
                self.corners["batch that fits in part"] += 1
            model.ask(packets[len(fitting)].total)
            self.demand_full(len(fitting), call)
        else:
            with self.no_error(side):
                call()

    @operation(side=SIDE)
    def send_what_never_fits(self, side: int) -> None:
        call = partial(self.ends[side].send, bytes(self.size), timeout=PATIENCE)
        if not self.send_is_refused(side, call):
            self.corners["packet that could never fit"] += 1
            with self.demand_raises(CallerError, "a packet that could never fit"):
                call()

    @operation(side=SIDE, pick=Number(0, 5))
    def send_with_the_id_of_a_request(self, side: int, pick: int) -> None:
        """A wish for a completion under an id that one waits for already."""
        ids = self.sides[side].outstanding
        if ids:
            self.corners["id of an outstanding request refused"] += 1
            with self.demand_raises(CallerError, "the id of an outstanding request"):
                self.ends[side].send(b"", ids[pick % len(ids)], True, timeout=PATIENCE)

    @operation(side=SIDE, length=LENGTH, pick=Number(0, 5))
    def complete(self, side: int, length: int, pick: int) -> None:
        """The completion of a request of the other side that was given up, or of none."""
        ids = [*self.sides[1 - side].outstanding, 99]
        self.send_completion(side, length, ids[pick % len(ids)])

    def send_completion(self, side: int, length: int, id: int) -> None:
        packet = self.packet(length, COMPLETION, id)
        self.send_one(side, packet, partial(self.ends[side].complete, id, packet.payload, timeout=PATIENCE))

    # -- receiving -------------------------------------------------------------------------------

    def next_packet(self, side: int) -> Carried | None:
        """What the next receive returns; late completions are dropped on the way."""
        model = self.sides[side]
        if model.inbox:
            return model.inbox.pop(0)
        while model.receives.waiting:
            packet: Carried = self.take(side, 1)[0]
            if not self.is_dropped(side, packet):
                return packet
        model.sleep()
        return None

    def is_dropped(self, side: int, packet: Carried) -> bool:
        if self.sides[side].answers(packet):
            self.corners["completion of a request that was given up"] += 1
            return True
        if packet.type is COMPLETION:
            self.corners["completion of no request"] += 1
        return False

    @operation(side=SIDE)
    def receive(self, side: int) -> None:
        call = partial(self.ends[side].receive, timeout=PATIENCE)
        if self.is_refused(side, call):
            return
        expected = self.next_packet(side)
        if expected is None:
            self.demand_nothing(side, call)
            return
        with self.no_error(side):
            found = call()
        demand_packets([found], [expected], "a packet received")

    @operation(side=SIDE, length=Number(0, 400, corners=[0, 8, 16]))
    def receive_into(self, side: int, length: int) -> None:
        buffer = bytearray(length)
        call = partial(self.ends[side].receive_into, buffer, timeout=PATIENCE)
        if self.is_refused(side, call):
            return
        expected = self.next_packet(side)
        if expected is None:
            self.demand_nothing(side, call)
        elif len(expected.payload) > length:
            self.corners["buffer too small"] += 1
            self.sides[side].inbox.insert(0, expected)
            with self.demand_raises(BufferTooSmall, "a packet into a buffer that is too small"):
                call()
        else:
            with self.no_error(side):
                found = call()
            self.demand_equal(found, len(expected.payload), "length of receive_into")
            demand_bytes(bytes(buffer[:found]), expected.payload, "what receive_into wrote")

    @operation(side=SIDE, limit=Number(1, NO_LIMIT))
    def receive_many(self, side: int, limit: int) -> None:
        """Up to so many packets; 5 for all of them."""
        model = self.sides[side]
        count = None if limit == NO_LIMIT else limit
        call = partial(self.ends[side].receive_many, count, timeout=PATIENCE)
        if self.is_refused(side, call):
            return
        expected, model.inbox = model.inbox[:count], model.inbox[len(model.inbox[:count]) :]
        while not expected and model.receives.waiting:
            taken = self.take(side, len(model.receives.waiting[:count]))
            expected = [packet for packet in taken if not self.is_dropped(side, packet)]
        if not expected:
            model.sleep()
            self.demand_nothing(side, call)
            return
        with self.no_error(side):
            found = call()
        demand_packets(found, expected, "packets received")
