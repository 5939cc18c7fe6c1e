"""The steps and attempts that both kinds of link share, one at a time: nobody sleeps here, and there are no threads."""

from __future__ import annotations

from functools import partial

import pytest

from vmbus.errors import PeerClosed
from vmbus.sockets.attempts import SendBytes, Turn, is_connected, nothing, send_at_once
from vmbus.sockets.steps import Later, LinkSteps
from vmbus.virtio import VsockType, connected_vsock


class Signal:
    """Counts the notifications."""

    def __init__(self) -> None:
        self.count = 0
        self.peer_closed = False

    def notify(self) -> None:
        self.count += 1


class Sides:
    """Two links, and connections between them."""

    def __init__(self, **options: int) -> None:
        self.near, self.far = (LinkSteps(one, Signal()) for one in connected_vsock(**options))

    def connect(self, port: int, kind: VsockType = VsockType.STREAM):
        """The ends of one more connection."""
        far, near = self.far.endpoint, self.near.endpoint
        queue = self.far.act(lambda: far.listen(port, kind=kind))
        connection = self.near.act(lambda: near.connect(port, kind=kind))
        accepted = self.far.step(queue.accept)
        assert self.near.step(partial(is_connected, connection)) is True
        return connection, accepted

    def sleep(self) -> None:
        """Both have nothing to do, and would sleep."""
        for side in (self.near, self.far, self.near):
            while side.step(nothing) is not Later.SLEEP:
                pass
            side.moved = False


def test_a_step_that_takes_packets_says_that_others_may_have_got_theirs():
    sides = Sides()
    one, _ = sides.connect(1)
    other, sends = sides.connect(2)
    sides.sleep()
    sides.far.act(lambda: sends.send(b"x"))
    assert sides.near.step(partial(one.receive, 9)) is Later.AGAIN
    assert sides.near.moved
    assert sides.near.step(partial(other.receive, 9)) == b"x"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_who_is_told_to_sleep_is_notified_of_the_next_packet(times):
    sides = Sides()
    receives, sends = sides.connect(1)
    for _ in range(times):
        sides.near.carrier.stay_awake()
        sides.sleep()
        before = sides.far.signal.count
        sides.far.act(lambda: sends.send(b"x"))
        assert sides.far.signal.count == before + 1
        assert sides.near.step(partial(receives.receive, 9)) == b"x"


def test_what_is_owed_and_has_no_room_is_somebodys_to_ask_for():
    sides = Sides(queue_size=4)
    sends, _ = sides.connect(1, VsockType.SEQPACKET)
    sides.sleep()
    sides.near.act(lambda: sends.send(b"x"))
    assert not sides.near.endpoint.owes and not sides.near.moved
    sides.near.act(lambda: sends.send(bytes(100_000)))
    assert sides.near.endpoint.owes and sides.near.moved


def test_a_side_that_goes_without_a_word_has_its_packets_taken_and_is_then_gone():
    sides = Sides()
    receives, sends = sides.connect(1)
    sides.far.act(lambda: sends.send(b"last"))
    sides.near.signal.peer_closed = True
    assert sides.near.step(partial(receives.receive, 9)) == b"last"
    with pytest.raises(PeerClosed, match="gone"):
        sides.near.step(partial(receives.receive, 9))


def test_nothing_is_sent_out_of_turn_and_the_turn_is_given_back():
    sides = Sides()
    connection, receives = sides.connect(1)
    turn = Turn()
    first, second = (SendBytes(connection, turn, memoryview(data)) for data in (bytes(10**6), b"second"))
    assert sides.near.step(first.attempt) in Later  # not all of it, and it has the turn
    sides.far.step(partial(receives.receive, 10**6))
    sides.near.step(nothing)  # there is room for more now
    assert sides.near.act(partial(send_at_once, connection, turn, memoryview(b"small"))) is None
    assert sides.near.act(second.attempt) is None
    first.give_up()
    assert first.must_wake
    assert sides.near.act(second.attempt) is True
    assert turn.owner is None
    assert sides.near.act(partial(send_at_once, connection, turn, memoryview(b"small"))) is True


def test_room_that_one_finds_before_it_sleeps_is_told_to_the_others():
    """Whoever waits for it has asked to be notified, and is not of what was taken back here."""
    guest, host = connected_vsock(4)
    steps = LinkSteps(guest, Signal())
    while guest.carrier.room() >= 0:
        guest.carrier.send(bytes(44))
    assert steps.step(lambda: None) is Later.SLEEP  # a sender, say
    while host.carrier.receive() is not None:
        pass
    steps.moved = False
    assert steps.step(lambda: None) is Later.AGAIN  # a receiver, which does not need the room
    assert steps.moved
