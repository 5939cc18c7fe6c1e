"""Two channels, both directions, against two lists: what arrives, what waits, and who must be signaled.

The model counts bytes and remembers who has published what; it knows no index and no rule of
vmbus.ring.  Each call has one second of a clock that only a sleep moves, and nobody acts meanwhile:
so it either does its work at once or says TimedOut, and the model says which.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import integers, lists, none, one_of, sampled_from

from tests.channel.helpers import mask_of, pending_of, scripted_pair
from tests.helpers import padded, pattern
from vmbus.channel.transactions import FIRST_ID
from vmbus.errors import BufferTooSmall, CallerError, TimedOut
from vmbus.ring import IncomingPacketType, Packet

lengths = one_of(integers(0, 40), integers(0, 400), integers(0, 2500))
sides = integers(0, 1)


class RingModel:
    """One ring: the packets that wait in it, whether its reader sleeps, and what its sender asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: list[Packet] = []
        self.reader_sleeps = False
        self.asked = 0

    def free(self) -> int:
        return self.size - 8 - sum(24 + len(packet.payload) for packet in self.waiting)

    def ask(self, needed: int) -> None:
        """The sender is asleep, or was, for that many bytes: at least a quarter of the ring."""
        quarter = (self.size - 8) // 4
        self.asked = -(-max(needed, quarter) // 8) * 8

    def put(self, packets: list[Packet]) -> bool:
        """One commit; whether the reader is signaled."""
        signaled = self.reader_sleeps and not self.waiting
        self.waiting += packets
        return signaled

    def take(self, count: int) -> tuple[list[Packet], bool]:
        """One commit; the packets, and whether the sender is signaled."""
        before = self.free()
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken, before < self.asked <= self.free()


class SideModel:
    """One channel's own: what it keeps, and the ids that it waits for."""

    def __init__(self, sends: RingModel, receives: RingModel) -> None:
        self.sends = sends
        self.receives = receives
        self.inbox: list[Packet] = []
        self.outstanding: list[int] = []
        self.next_id = FIRST_ID
        self.notified = 0

    def next_packet(self) -> Packet | None:
        """What the next receive returns; late completions are dropped on the way."""
        if self.inbox:
            return self.inbox.pop(0)
        while self.receives.waiting:
            self.receives.reader_sleeps = False
            [packet] = self.commit_read(1)
            if not self.drops(packet):
                return packet
        self.receives.reader_sleeps = True
        return None

    def commit_read(self, count: int) -> list[Packet]:
        taken, signaled = self.receives.take(count)
        self.notified += signaled
        return taken

    def drops(self, packet: Packet) -> bool:
        """A completion of a request that was given up."""
        if packet.type is IncomingPacketType.COMPLETION and packet.transaction_id in self.outstanding:
            self.outstanding.remove(packet.transaction_id)
            return True
        return False

    def send(self, packets: list[Packet]) -> int:
        """How many go at once; the others have been asked room for."""
        self.sends.asked = 0
        fit = 0
        free = self.sends.free()
        while fit < len(packets) and 24 + len(packets[fit].payload) <= free:
            free -= 24 + len(packets[fit].payload)
            fit += 1
        if fit:
            self.notified += self.sends.put(packets[:fit])
        if fit < len(packets):
            self.sends.ask(24 + len(packets[fit].payload))
        return fit


class ChannelsAgainstLists(RuleBasedStateMachine):
    """Random calls on both sides."""

    @initialize(pages=sampled_from([1, 1, 2, 5]))
    def empty(self, pages: int) -> None:
        size = 4096 * pages
        self.pair = scripted_pair(size=size, maximum_outstanding=4)
        self.ends = (self.pair.guest, self.pair.host)
        rings = (RingModel(size), RingModel(size))
        self.models = (SideModel(rings[0], rings[1]), SideModel(rings[1], rings[0]))
        self.made = 0

    def packet(
        self, length: int, kind: IncomingPacketType = IncomingPacketType.IN_BAND, id: int = 0
    ) -> Packet:
        """A packet unlike all before it."""
        self.made += 1
        return Packet(kind, id, padded(pattern(length, seed=self.made)), (), 0)

    # -- sending -------------------------------------------------------------------------------

    @rule(side=sides, length=lengths, id=sampled_from([0, 7]))
    def send(self, side: int, length: int, id: int) -> None:
        packet = self.packet(length, id=id)
        if self.models[side].send([packet]):
            self.ends[side].send(packet.payload, transaction_id=id, timeout=1)
        else:
            with pytest.raises(TimedOut):
                self.ends[side].send(packet.payload, transaction_id=id, timeout=1)

    @rule(side=sides, slots=integers(-1, 1))
    def send_leaving(self, side: int, slots: int) -> None:
        """The packet that leaves exactly so many 8-byte slots; -1 is one too many."""
        length = self.models[side].sends.free() - 24 - 8 * slots
        if 0 <= length <= self.models[side].sends.size - 32:
            self.send(side, length, 0)

    @rule(side=sides, lengths=lists(lengths, max_size=12))
    def send_many(self, side: int, lengths: list[int]) -> None:
        packets = [self.packet(length) for length in lengths]
        payloads = [packet.payload for packet in packets]
        done = self.models[side].send(packets) if packets else 0
        if done == len(packets):
            self.ends[side].send_many(payloads, timeout=1)
            if not packets:
                self.models[side].sends.asked = 0
        else:
            with pytest.raises(TimedOut) as caught:
                self.ends[side].send_many(payloads, timeout=1)
            assert caught.value.done == done

    @rule(side=sides, length=integers(0, 300), pick=integers(0, 5))
    def complete(self, side: int, length: int, pick: int) -> None:
        """The completion of a request of the other side that was given up, or of none."""
        ids = [*self.models[1 - side].outstanding, 99]
        packet = self.packet(length, IncomingPacketType.COMPLETION, ids[pick % len(ids)])
        if self.models[side].send([packet]):
            self.ends[side].complete(packet.transaction_id, packet.payload, timeout=1)
        else:
            with pytest.raises(TimedOut):
                self.ends[side].complete(packet.transaction_id, packet.payload, timeout=1)

    @rule(side=sides)
    def send_what_never_fits(self, side: int) -> None:
        with pytest.raises(CallerError):
            self.ends[side].send(bytes(self.models[side].sends.size))
        self.models[side].sends.asked = 0

    # -- receiving -----------------------------------------------------------------------------

    @rule(side=sides)
    def receive(self, side: int) -> None:
        expected = self.models[side].next_packet()
        if expected is None:
            with pytest.raises(TimedOut):
                self.ends[side].receive(timeout=1)
        else:
            assert self.ends[side].receive(timeout=1) == expected

    @rule(side=sides, length=integers(0, 200))
    def receive_into(self, side: int, length: int) -> None:
        model, buffer = self.models[side], bytearray(length)
        expected = model.next_packet()
        if expected is None:
            with pytest.raises(TimedOut):
                self.ends[side].receive_into(buffer, timeout=1)
        elif len(expected.payload) > length:
            model.inbox.insert(0, expected)
            with pytest.raises(BufferTooSmall) as caught:
                self.ends[side].receive_into(buffer, timeout=1)
            assert caught.value.needed == len(expected.payload)
        else:
            assert self.ends[side].receive_into(buffer, timeout=1) == len(expected.payload)
            assert buffer[: len(expected.payload)] == expected.payload

    @rule(side=sides, limit=one_of(none(), integers(1, 4)))
    def receive_many(self, side: int, limit: int | None) -> None:
        model = self.models[side]
        expected: list[Packet] = []
        if model.inbox:
            count = limit or len(model.inbox)
            expected, model.inbox = model.inbox[:count], model.inbox[count:]
        while not expected and model.receives.waiting:
            model.receives.reader_sleeps = False
            taken = model.commit_read(limit or len(model.receives.waiting))
            expected = [packet for packet in taken if not model.drops(packet)]
        if expected:
            assert self.ends[side].receive_many(limit, timeout=1) == expected
        else:
            model.receives.reader_sleeps = True
            with pytest.raises(TimedOut):
                self.ends[side].receive_many(limit, timeout=1)

    # -- requests ------------------------------------------------------------------------------

    @rule(side=sides, length=integers(0, 500))
    def request_and_give_up(self, side: int, length: int) -> None:
        """Nobody answers: what is in the ring is sorted, and the request stays outstanding if it was sent."""
        model = self.models[side]
        packet = self.packet(length)
        if len(model.outstanding) >= 4:
            self.sort(model, until_place=True)
        if len(model.outstanding) < 4:
            id = model.next_id
            model.next_id += 1
            if model.send([packet._replace(transaction_id=id, flags=1)]):
                model.outstanding.append(id)
                self.sort(model, until_place=False)
        with pytest.raises(TimedOut):
            self.ends[side].request(packet.payload, timeout=1)

    def sort(self, model: SideModel, until_place: bool) -> None:
        """Each packet of the ring goes to its request or is kept, until all are gone or a place is free."""
        while model.receives.waiting:
            model.receives.reader_sleeps = False
            [packet] = model.commit_read(1)
            if model.drops(packet):
                if until_place:
                    return
            else:
                model.inbox.append(packet)
        model.receives.reader_sleeps = True

    # -- always --------------------------------------------------------------------------------

    @invariant()
    def what_is_published_and_signaled_is_what_the_model_says(self) -> None:
        for side, memory in enumerate((self.pair.out, self.pair.back)):
            ring = self.models[side].sends
            assert mask_of(memory) == (not ring.reader_sleeps)
            assert pending_of(memory) == ring.asked
            assert (memory.control[0] - memory.control[1]) % ring.size == ring.size - 8 - ring.free()
        assert list(self.pair.notified()) == [model.notified for model in self.models]
        assert [end.outstanding for end in self.ends] == [len(model.outstanding) for model in self.models]

    def teardown(self) -> None:
        """Everything that was sent arrives in the end."""
        if hasattr(self, "pair"):
            for side in (0, 1):
                while self.models[side].inbox or self.models[side].receives.waiting:
                    self.receive(side)


class TestChannelsAgainstLists(ChannelsAgainstLists.TestCase):
    settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
