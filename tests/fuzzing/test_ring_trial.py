"""The ring trial: the corners that its cases meet, and what it says of memories and ends that are wrong."""

from __future__ import annotations

import pytest

from tests.fuzzing.corners import SEEDS, corners_not_met
from tests.helpers import PACKET_KINDS, SlowRingMem, image_of
from vmbus.errors import RingFull
from vmbus.fuzzing import packet_kinds
from vmbus.fuzzing.differences import demand_bytes, demand_packets
from vmbus.fuzzing.ring_model import RingModel
from vmbus.fuzzing.ring_trial import RingTrial
from vmbus.fuzzing.trial import Wrong
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingPacketType, IncomingRing, OutgoingRing, Packet


@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_hundred_cases_of_random_bytes_meet_every_corner_of_a_ring(seed):
    assert corners_not_met(RingTrial, seed) == set()


def new_trial(**options) -> RingTrial:
    return RingTrial(pages=1, start=511, memory="flat", **options)


def test_a_memory_of_the_users_own_is_the_one_that_is_used():
    trial = new_trial(make_memory=SlowRingMem)
    assert isinstance(trial.memory, SlowRingMem)
    before = image_of(trial.memory)
    trial.perform("send_one", {"kind": "in-band", "length": 40})
    assert image_of(trial.memory) != before
    trial.finish()
    trial.close()


class NeverWraps(FlatRingMem):
    def write_at(self, offset, data):
        super().write_at(offset, data[: self.size - offset] if offset < self.size else data)


class SignalsAlways(OutgoingRing):
    def send(self, *arguments):
        super().send(*arguments)
        return True


class LosesTheLastPacket(IncomingRing):
    def receive_many(self, limit=None):
        packets, signal = super().receive_many(limit)
        return packets[:-1], signal


class IsFullTooSoon(OutgoingRing):
    def send(self, *arguments):
        raise RingFull("full", needed=24, free=16)


def ends_of(sender=OutgoingRing, receiver=IncomingRing):
    return lambda memory: (sender(memory), receiver(memory))


@pytest.mark.parametrize(
    ("options", "steps", "sentence"),
    [
        ({"make_memory": NeverWraps}, ["send", "receive"], "a packet received: "),
        ({"make_ends": ends_of(SignalsAlways)}, ["send", "send"], "signal after send: True instead of False"),
        (
            {"make_ends": ends_of(receiver=LosesTheLastPacket)},
            ["send", "receive all"],
            "packets of receive_many: 0 packets instead of 1",
        ),
        ({"make_ends": ends_of(IsFullTooSoon)}, ["send"], "send: RingFull where nothing is wrong"),
    ],
    ids=["memory-that-does-not-wrap", "signals-always", "loses-a-packet", "full-too-soon"],
)
def test_a_memory_or_an_end_that_is_wrong_is_found_and_named(options, steps, sentence):
    trial = new_trial(**options)
    operations = {
        "send": ("send_one", {"kind": "in-band", "length": 40}),
        "receive": ("receive_some", {"count": 1}),
        "receive all": ("receive_many", {"limit": 6}),
    }
    for step in steps[:-1]:
        trial.perform(*operations[step])
    with pytest.raises(Wrong, match=sentence):
        trial.perform(*operations[steps[-1]])


def test_what_lies_in_memory_at_the_end_is_compared_byte_for_byte():
    trial = new_trial()
    trial.perform("send_one", {"kind": "completion", "length": 40})
    trial.memory.write_at(4088 + 16 + 40, b"footer?!")
    with pytest.raises(Wrong, match="the packet in memory at 0x0ff8: from byte 56 of 64 on "):
        trial.finish()


def test_a_word_of_the_control_page_that_changes_by_itself_is_found():
    trial = new_trial()
    trial.memory.control[3] = 64
    with pytest.raises(Wrong, match="in, out, mask and pending send size"):
        trial.check()


@pytest.mark.parametrize("kind", PACKET_KINDS)
@pytest.mark.parametrize("length", [0, 1, 8, 41])
def test_the_size_of_a_packet_is_that_of_its_bytes(kind, length):
    spelled = packet_kinds.PACKET_KINDS[kind]
    assert spelled.size(length) == len(spelled.whole(bytes(length), 0))


def test_the_models_ring_signals_only_at_the_edges():
    model = RingModel(4096)
    first = packet_kinds.Sent.of(packet_kinds.PACKET_KINDS["in-band"], bytes(1000))
    assert [model.put([first]), model.put([first])] == [True, False]
    model.wanted = model.free + first.total
    assert [model.take(1)[1], model.take(1)[1]] == [True, False]
    model.masked = True
    assert model.put([first]) is False


def test_differences_are_named_by_packet_field_and_byte():
    packet = Packet(IncomingPacketType.IN_BAND, 7, bytes(16))
    other = packet._replace(payload=bytes(15) + b"!")
    with pytest.raises(Wrong, match="number 2 of 2: payload: from byte 15 of 16 on 00 instead of 21"):
        demand_packets([packet, packet], [packet, other], "packets")
    with pytest.raises(Wrong, match="transaction_id 7 instead of 8"):
        demand_packets([packet], [packet._replace(transaction_id=8)], "a packet")
    with pytest.raises(Wrong, match="16 bytes instead of 15"):
        demand_bytes(bytes(16), bytes(15), "bytes")
