"""A call that spins publishes nothing meanwhile, and ends as soon as any other call would."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.channel.helpers import PATIENCE, Running, scripted_pair, threaded_pair
from vmbus.channel import PacketChannel
from vmbus.errors import ChannelClosed, PeerClosed, TimedOut
from vmbus.fuzzing.one_thread_signal import SleepClock
from vmbus.layout import INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing

#: Seconds, far longer than any test.
FOR_EVER = 1000.0


class ActingClock(SleepClock):
    """A clock by which a second passes at every look, and something happens at one of them."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        super().__init__()
        self.at = at
        self.act = act
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        self.now += 1
        if self.looks == self.at:
            self.act()
        return self.now


def spinning_pair(at: int = 0, act: Callable[[], object] = lambda: None, spin: float = 50.0):
    """A channel that spins for so many looks at the clock, and one that does not."""
    pair = scripted_pair(PacketChannel)
    clock = ActingClock(at, act)
    guest = PacketChannel(
        IncomingRing(pair.back),
        OutgoingRing(pair.out),
        pair.guest.signal,
        spin=spin,
        clock=clock,
        role="guest",
    )
    return pair, guest, clock


def test_a_receiver_publishes_nothing_while_it_spins_and_is_not_signaled():
    pair, guest, _ = spinning_pair(10, lambda: pair.host.send(b"packet 1"))
    assert guest.receive().payload == b"packet 1"
    assert not guest.statistics().walked
    assert pair.host.signal.notified == 0


def test_a_sender_publishes_nothing_while_it_spins_and_is_not_signaled():
    pair, guest, _ = spinning_pair(10, lambda: pair.host.receive_many())
    guest.send(bytes(4000))
    guest.send(bytes(4000))
    assert not guest.statistics().walked
    assert pair.host.signal.notified == 0


def test_a_call_that_has_spun_long_enough_publishes_and_sleeps():
    pair, guest, clock = spinning_pair(spin=20.0)
    asleep = pair.guest.signal.while_asleep

    def send_once_it_sleeps() -> None:
        if pair.back.control[INTERRUPT_MASK_WORD] == 0:
            pair.host.send(b"packet 1")
        else:  # it only looked at its signal
            asleep.append(send_once_it_sleeps)

    asleep.append(send_once_it_sleeps)
    assert guest.receive().payload == b"packet 1"
    assert 20 <= clock.looks <= 24
    assert pair.host.signal.notified == 1


@pytest.mark.parametrize("timeout", [0, 5])
def test_spinning_ends_with_the_time_of_the_call(timeout):
    pair, guest, clock = spinning_pair(spin=FOR_EVER)
    with pytest.raises(TimedOut):
        guest.receive(timeout=timeout)
    assert clock.looks <= timeout + 8
    assert pair.back.control[INTERRUPT_MASK_WORD] == 0  # then published, as by any call given up
    guest.send(bytes(4000))
    with pytest.raises(TimedOut):
        guest.send(bytes(4000), timeout=timeout)
    assert pair.out.control[PENDING_SEND_SIZE_WORD] == 4024


class FilledSlowly:
    """Two channels for threads, of which the guest spins for ever."""

    def __init__(self) -> None:
        self.guest, self.host = threaded_pair(spin=FOR_EVER)
        self.spinning = Running(self.guest.receive)
        while not self.guest._receiving._sleeper:
            assert self.spinning.still_runs()


def test_spinning_ends_when_this_side_closes():
    two = FilledSlowly()
    two.guest.close()
    with pytest.raises(ChannelClosed):
        two.spinning.result()


def test_spinning_ends_when_the_other_side_closes():
    two = FilledSlowly()
    two.host.close()
    with pytest.raises(PeerClosed):
        two.spinning.result()


def test_a_thread_that_spins_keeps_no_other_from_its_timeout_or_from_sending():
    two = FilledSlowly()
    two.guest.send(b"a packet", timeout=PATIENCE)
    with pytest.raises(TimedOut):
        two.guest.receive(timeout=0)
    two.host.send(b"packet 1")
    assert two.spinning.result().payload == b"packet 1"


def test_a_channel_does_not_spin_over_what_it_has_already_published():
    out, back = FlatRingMem(4096), FlatRingMem(4096)
    pair = scripted_pair(out=out, back=back)
    clock = ActingClock(0, lambda: None)
    guest = PacketChannel(
        IncomingRing(back), OutgoingRing(out), pair.guest.signal, spin=FOR_EVER, clock=clock
    )
    with pytest.raises(TimedOut):
        guest.receive(timeout=0)
    looks = clock.looks
    with pytest.raises(TimedOut):
        guest.receive(timeout=0)
    assert clock.looks - looks <= 5
