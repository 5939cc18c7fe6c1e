"""The trials of channels: the corners that their cases meet, and what they say of channels that are wrong."""

from __future__ import annotations

import pytest

from tests.fuzzing.corners import SEEDS, corners_not_met
from vmbus.channel import ByteChannel, PacketChannel
from vmbus.fuzzing.byte_channel_trial import ByteChannelTrial
from vmbus.fuzzing.case import Case
from vmbus.fuzzing.channel_trial import ChannelTrial
from vmbus.fuzzing.one_thread_signal import SleepClock, one_thread_signals
from vmbus.fuzzing.trial import Wrong


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trial", [ChannelTrial, ByteChannelTrial])
def test_a_few_hundred_cases_of_random_bytes_meet_every_corner_of_a_channel(trial, seed):
    assert corners_not_met(trial, seed) == set()


def new_trial(**options) -> ChannelTrial:
    return ChannelTrial(pages=1, start=0, memory="flat", **options)


def test_a_request_is_answered_while_its_side_sleeps():
    trial = new_trial()
    trial.perform("request", {"side": 1, "length": 40, "answer": 8, "others": (100,), "also": True})
    assert trial.corners["completion awaited and given"] == 1
    assert trial.corners["packets kept while a request waited"] == 1
    trial.finish()
    trial.close()


def test_requests_are_refused_from_the_sixteenth_ring_of_kept_packets_on():
    """Random cases are too short for it, but a fuzzer's cases are not."""
    Case.from_bytes(ChannelTrial, b"\x8f" * 800).perform()


def fill_up(trial: ChannelTrial) -> None:
    """The host keeps what fills its ring 17 times: up to the sixteenth it is less than 16 rings."""
    for _ in range(17):
        trial.perform("send_leaving", {"side": 0, "slots": 0})
        trial.perform("request_and_give_up", {"side": 1, "length": 40, "times": 1})


@pytest.mark.parametrize("times", [1, 5])
def test_a_request_is_refused_until_so_much_is_received_that_less_than_sixteen_rings_are_kept(times):
    trial = new_trial()
    fill_up(trial)
    assert sum(packet.total for packet in trial.sides[1].inbox) >= 16 * 4096
    trial.perform("request_and_give_up", {"side": 1, "length": 40, "times": times})
    trial.perform("receive", {"side": 1})
    trial.perform("request_and_give_up", {"side": 1, "length": 40, "times": 1})
    trial.finish()
    trial.close()


class KeepsForEver(PacketChannel):
    """Packets that answer no request are kept without end."""

    def __init__(self, incoming, outgoing, signal, **options):
        super().__init__(incoming, outgoing, signal, **options)
        self._work.kept_bytes = -(10**9)


def test_a_channel_that_keeps_packets_without_end_is_found():
    trial = new_trial(make_channel=KeepsForEver)
    with pytest.raises(Wrong, match="too many packets kept: TimedOut instead of CallerError"):
        fill_up(trial)


class Answers(PacketChannel):
    """Whatever it is asked, it has an answer of its own."""

    def request(self, payload, timeout=None, *, packet=None):
        return super().request(payload, timeout, packet=packet)._replace(payload=b"no idea")


class TellsNobody(PacketChannel):
    def __init__(self, incoming, outgoing, signal, **options):
        super().__init__(incoming, outgoing, signal, **options)
        self._work._notify = lambda: None


class ForgetsOnClose(ByteChannel):
    """What waits when the other side goes is thrown away."""

    def receive(self, limit=2048, timeout=None):
        if self.peer_closed:
            self.incoming.receive_many()
        return super().receive(limit, timeout)


def test_a_channel_with_answers_of_its_own_is_found():
    trial = new_trial(make_channel=Answers)
    with pytest.raises(Wrong, match="the answer to a request: payload: 7 bytes instead of 16"):
        trial.perform("request", {"side": 0, "length": 40, "answer": 9, "others": (), "also": False})


def test_a_channel_that_tells_nobody_is_found():
    trial = new_trial(make_channel=TellsNobody)
    trial.perform("receive", {"side": 1})
    with pytest.raises(Wrong, match="signals sent: 0 instead of 1"):
        trial.perform("send", {"side": 0, "length": 40, "id": 0})


def test_a_channel_that_throws_away_what_was_sent_before_a_close_is_found():
    trial = ByteChannelTrial(pages=1, start=0, memory="paged", make_channel=ForgetsOnClose)
    trial.perform("send", {"side": 0, "length": 40})
    trial.perform("close_now_and_then", {"side": 0, "chance": 0})
    with pytest.raises(Wrong, match="PeerClosed where nothing is wrong"):
        trial.perform("receive", {"side": 1, "limit": 40, "into": False})


def test_nobody_sleeps_for_ever_in_one_thread():
    near, far = one_thread_signals(SleepClock())
    near.notify()
    assert far.wait(None)
    with pytest.raises(Wrong, match="sleeps for ever"):
        far.wait(None)
