"""Time: none, little, for ever; and what stands published when it is over."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.channel.helpers import Pair, fill_ring, mask_of, pending_of, scripted_pair
from tests.helpers import padded
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel
from vmbus.errors import CallerError, NotReady, TimedOut
from vmbus.ring import OutgoingPacket

KINDS = [PacketChannel, MessageChannel, ByteChannel]

#: Every call that waits for a packet, of a packet channel.
RECEIVES: dict[str, Callable[..., Any]] = {
    "receive": lambda end, timeout: end.receive(timeout=timeout),
    "receive_many": lambda end, timeout: end.receive_many(timeout=timeout),
    "receive_into": lambda end, timeout: end.receive_into(bytearray(64), timeout=timeout),
    "request": lambda end, timeout: end.request(b"", timeout=timeout),
}
#: Every call that waits for room.
SENDS: dict[str, Callable[..., Any]] = {
    "send": lambda end, timeout: end.send(bytes(1000), timeout=timeout),
    "send_many": lambda end, timeout: end.send_many([bytes(1000)] * 2, timeout=timeout),
    "send_packet": lambda end, timeout: end.send_packet(OutgoingPacket.in_band(1000), bytes(1000), timeout),
    "complete": lambda end, timeout: end.complete(9, bytes(1000), timeout=timeout),
    "request": lambda end, timeout: end.request(bytes(1000), timeout=timeout),
}


def waiting_pair(calls: dict[str, Callable[..., Any]]) -> Pair:
    """A pair on which these calls of the guest must wait."""
    pair = scripted_pair()
    if calls is SENDS:
        fill_ring(pair.guest)
        pair.guest.signal.waits.clear()
    return pair


CASES = [(calls, name) for calls in (RECEIVES, SENDS) for name in calls]


@pytest.mark.parametrize(("calls", "name"), CASES)
@pytest.mark.parametrize("timeout", [0, 0.25, 3])
def test_a_call_waits_just_as_long_as_it_may(calls, name, timeout):
    pair = waiting_pair(calls)
    started = pair.clock.now
    with pytest.raises(TimedOut) as caught:
        calls[name](pair.guest, timeout)
    assert pair.clock.now - started == timeout
    assert isinstance(caught.value, NotReady)
    assert isinstance(caught.value, TimeoutError)
    assert f"within {timeout:g} s" in str(caught.value)


@pytest.mark.parametrize(("calls", "name"), CASES)
def test_without_a_timeout_it_waits_for_ever(calls, name):
    pair = waiting_pair(calls)
    with pytest.raises(AssertionError, match="sleeps for ever"):
        calls[name](pair.guest, None)
    assert pair.guest.signal.waits == [None]


@pytest.mark.parametrize(("calls", "name"), CASES)
def test_signals_for_nothing_do_not_lengthen_the_wait(calls, name):
    pair = waiting_pair(calls)

    def disturb() -> None:
        pair.clock.now += 1
        pair.guest.signal.wake()

    pair.guest.signal.while_asleep.extend([disturb] * 10)
    started = pair.clock.now
    with pytest.raises(TimedOut):
        calls[name](pair.guest, 4.5)
    assert 4.5 <= pair.clock.now - started <= 5.5


@pytest.mark.parametrize(("calls", "name"), CASES)
@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_negative_times_and_no_numbers_are_refused_and_nothing_is_done(calls, name, timeout):
    pair = waiting_pair(calls)
    before = pair.out.control[0]
    with pytest.raises(CallerError, match="timeout is a number of seconds") as caught:
        calls[name](pair.guest, timeout)
    assert caught.value.argument == "timeout"
    assert pair.out.control[0] == before
    assert pair.guest.outstanding == 0


@pytest.mark.parametrize("timeout", ["soon", [1], object()])
def test_what_is_no_number_at_all_is_refused(timeout):
    pair = scripted_pair()
    with pytest.raises(CallerError, match="timeout is a number"):
        pair.guest.receive(timeout=timeout)
    with pytest.raises(CallerError, match="timeout is a number"):
        pair.guest.send(b"", timeout=timeout)
    assert pair.host.incoming.receive_many() == ([], False)


@pytest.mark.parametrize("spin", [-1.0, float("nan")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_spin_is_a_time_too(kind, spin):
    with pytest.raises(CallerError):
        scripted_pair(kind, spin=spin)


def test_a_very_long_time_is_slept_in_pieces():
    for timeout in (1e18, float("inf")):
        pair = scripted_pair()
        pair.guest.signal.while_asleep.extend([lambda: None, lambda pair=pair: pair.host.send(b"at last")])
        assert pair.guest.receive(timeout=timeout).payload == padded(b"at last")
        assert all(0 < wait <= 86400 for wait in pair.guest.signal.waits)


@pytest.mark.parametrize("name", RECEIVES)
def test_after_its_time_a_receiver_stays_unmasked_gets_a_signal_and_then_a_packet(name):
    pair = waiting_pair(RECEIVES)
    with pytest.raises(TimedOut):
        RECEIVES[name](pair.guest, 0)
    assert mask_of(pair.back) == 0
    assert not pair.guest.signal.told  # a descriptor would not be readable
    pair.host.send(b"news")
    assert pair.guest.signal.told  # now it would
    assert pair.host.signal.notified == 1
    assert pair.guest.receive(timeout=0).payload == padded(b"news")
    assert mask_of(pair.back) == 1


@pytest.mark.parametrize("name", SENDS)
def test_after_its_time_a_sender_has_asked_gets_a_signal_and_then_room(name):
    pair = waiting_pair(SENDS)
    with pytest.raises(TimedOut):
        SENDS[name](pair.guest, 0)
    assert pending_of(pair.out) == 1024
    pair.guest.signal.told = False
    taken = 0
    while not pair.guest.signal.told:
        pair.host.receive(timeout=0)
        taken += 1
    assert taken == 4
    pair.guest.send(bytes(1000), timeout=0)
    assert pending_of(pair.out) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_channel_times_out_both_ways_and_goes_on(kind):
    pair = scripted_pair(kind)
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=2)
    with pytest.raises(TimedOut):
        for _ in range(100):
            pair.guest.send(bytes(200), timeout=0)
    assert (mask_of(pair.out), pending_of(pair.out)) == (0, 1024)
    assert pair.notified() == (1, 0)
    with pytest.raises(TimedOut):
        while True:
            pair.host.receive(timeout=0)
    assert pair.notified() == (1, 1)
    pair.guest.send(bytes(200), timeout=0)
    assert len(getattr(pair.host.receive(timeout=0), "payload", bytes(200))) == 200


def test_a_packet_that_came_with_the_end_of_the_time_is_received():
    pair = scripted_pair()

    def late() -> None:
        pair.host.outgoing.send(b"just in time")
        pair.clock.now += 5

    pair.guest.signal.while_asleep.append(late)
    assert pair.guest.receive(timeout=1).payload == padded(b"just in time")


def test_a_call_with_no_time_still_finds_what_is_there():
    pair = scripted_pair()
    pair.guest.send(b"there", timeout=0)
    assert pair.host.receive(timeout=0).payload == padded(b"there")
    assert pair.guest.signal.waits == pair.host.signal.waits == []


def test_a_time_is_up_for_the_ring_that_is_too_small_not_for_a_packet_that_fits():
    pair = scripted_pair()
    fill_ring(pair.guest)
    with pytest.raises(TimedOut):
        pair.guest.send(bytes(400), timeout=1)
    pair.guest.send(bytes(200), timeout=0)


def test_a_timed_out_error_pickles_with_what_was_done():
    pair = scripted_pair()
    with pytest.raises(TimedOut) as caught:
        pair.guest.send_many([bytes(1000)] * 9, timeout=0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.done, str(again)) == (caught.value.done, str(caught.value)) == (3, str(again))


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_sender_that_waits_takes_no_signal_from_a_receiver_that_polls(timeout):
    pair = scripted_pair()
    fill_ring(pair.guest)
    with pytest.raises(TimedOut):
        pair.guest.receive(timeout=0)  # from now on its owner polls the descriptor
    pair.host.send(b"packet")
    assert pair.guest.signal.told
    with pytest.raises(TimedOut):
        pair.guest.send(bytes(1000), timeout=timeout)
    assert pair.guest.signal.told
