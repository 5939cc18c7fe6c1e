"""A call that an exception ends in the middle loses no packet but its own, doubles none, and lets nobody sleep on.

Ctrl-C, or a signal handler that raises, can end a call at any access to the memory and at any call
of the signal.  A memory and a signal that raise at the n-th step stand for it, for every n.
"""

from __future__ import annotations

import random
import signal
import sys
from typing import Any

import pytest

from tests.channel.helpers import (
    PATIENCE,
    Pair,
    fill_ring,
    is_empty,
    mask_of,
    pending_of,
    scripted_pair,
)
from tests.helpers import padded
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel, connected_channels
from vmbus.errors import TimedOut
from vmbus.fuzzing.one_thread_signal import OneThreadSignal, SleepClock
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing

#: More than any one call here makes.
STEPS = range(44)


class Interrupted(BaseException):
    """What a signal handler raises."""


class Countdown:
    """Raises at the n-th step: one behind each access, one before and one behind each call of the signal."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self, access: Access | None = None) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Interrupted


class InterruptedSignal(OneThreadSignal):
    """A signal whose calls count as steps."""

    def __init__(self, clock: SleepClock, countdown: Countdown) -> None:
        super().__init__(clock)
        self.countdown = countdown

    def notify(self) -> None:
        self.countdown.step()
        super().notify()
        self.countdown.step()

    def wait(self, timeout: float | None) -> bool:
        self.countdown.step()
        told = super().wait(timeout)
        self.countdown.step()
        return told


def interruptible_pair(kind: type[Any] = PacketChannel) -> tuple[Pair, Countdown]:
    """A pair of which the guest's calls can be interrupted; the host works on the bare memories."""
    countdown, clock = Countdown(), SleepClock()
    out, back = FlatRingMem(4096), FlatRingMem(4096)
    near, far = InterruptedSignal(clock, countdown), OneThreadSignal(clock)
    near.peer, far.peer = far, near
    incoming = IncomingRing(RecordingMemory(back, after=countdown.step))
    outgoing = OutgoingRing(RecordingMemory(out, after=countdown.step))
    guest = kind(incoming, outgoing, near, clock=clock)
    host = kind(IncomingRing(out), OutgoingRing(back), far, clock=clock)
    return Pair(guest, host, clock, out, back), countdown


def interrupt(countdown: Countdown, steps: int, call: Any) -> tuple[bool, Any]:
    """Whether the call was interrupted at that step, and what it returned."""
    countdown.left = steps
    try:
        return False, call()
    except Interrupted:
        return True, None
    finally:
        countdown.left = None


def drain(end: Any) -> list[bytes]:
    """The payloads of everything that an end can receive now."""
    taken: list[bytes] = []
    while True:
        try:
            packet = end.receive(timeout=0)
        except TimedOut:
            return taken
        taken.append(getattr(packet, "payload", packet))


def locks_are_free(end: Any) -> bool:
    return not (end._receiving.lock.locked() or end._sending.lock.locked())


@pytest.mark.parametrize("kind", [PacketChannel, MessageChannel, ByteChannel])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_send_loses_no_other_packet_and_wakes_the_receiver(kind, asked, steps):
    """Also one that comes behind a send that was given up, and so clears what that asked for."""
    pair, countdown = interruptible_pair(kind)
    if asked:
        fill_ring(pair.guest)
    drain(pair.host)  # the host sleeps over an empty ring
    pair.host.signal.told = False
    interrupted, _ = interrupt(countdown, steps, lambda: pair.guest.send(b"one-----"))
    assert locks_are_free(pair.guest)
    assert is_empty(pair.out) or pair.host.signal.told, "the host sleeps over a packet"
    pair.guest.send(b"two-----", timeout=0)
    assert pair.host.signal.told
    received = b"".join(drain(pair.host))
    assert received in ((b"one-----two-----",) if not interrupted else (b"one-----two-----", b"two-----"))
    pair.host.signal.told = False
    pair.guest.send(b"three---", timeout=0)
    assert pair.host.signal.told
    assert b"".join(drain(pair.host)) == b"three---"


@pytest.mark.parametrize("name", ["receive", "receive_many", "receive_into", "request"])
@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_receive_loses_at_most_what_it_took_and_doubles_nothing(name, steps):
    pair, countdown = interruptible_pair()
    sent = [b"%08d" % number for number in range(4)]
    pair.host.send_many(sent)
    received: list[bytes] = []
    calls = {
        "receive": lambda: received.append(pair.guest.receive().payload),
        "receive_many": lambda: received.extend(one.payload for one in pair.guest.receive_many(2)),
        "receive_into": lambda: pair.guest.receive_into(buffer),
        "request": lambda: pair.guest.request(b"question", timeout=1),
    }
    buffer = bytearray(8)
    try:
        interrupted, _ = interrupt(countdown, steps, calls[name])
    except TimedOut:
        interrupted = False
    if name == "receive_into" and not interrupted:
        received.append(bytes(buffer))
    assert locks_are_free(pair.guest)
    received += drain(pair.guest)
    most = {"receive": 1, "receive_many": 2, "receive_into": 1, "request": 1}[name]
    lost = [one for one in sent if one not in received]
    assert received == [one for one in sent if one in received], "a packet came twice, or before another"
    assert len(lost) <= (most if interrupted else 0)
    assert is_empty(pair.back)
    assert mask_of(pair.back) == 0
    pair.guest.signal.told = False
    pair.host.send(b"afterwards", timeout=0)
    assert pair.guest.signal.told
    assert drain(pair.guest) == [padded(b"afterwards")]


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_receive_leaves_no_sender_asleep_over_room(steps):
    pair, countdown = interruptible_pair()
    fill_ring(pair.host)
    assert pending_of(pair.back) == 1024
    pair.host.signal.told = False
    for _ in range(3):
        pair.guest.receive()
    assert not pair.host.signal.told
    interrupt(countdown, steps, pair.guest.receive)  # the fourth makes the room that the host waits for
    free = 4088 - (pair.back.control[0] - pair.back.control[1]) % 4096
    assert free < 1024 or pair.host.signal.told, "the host sleeps over room"
    pair.guest.receive(timeout=0)
    assert pair.host.signal.told


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_batch_goes_as_far_as_it_went_in_order(steps):
    pair, countdown = interruptible_pair()
    drain(pair.host)
    pair.host.signal.told = False
    sent = [b"%04d" % n + bytes(996) for n in range(6)]
    received: list[bytes] = []
    pair.guest.signal.while_asleep.append(lambda: received.extend(drain(pair.host)))
    interrupt(countdown, steps, lambda: pair.guest.send_many(sent, timeout=0))
    assert locks_are_free(pair.guest)
    assert is_empty(pair.out) or pair.host.signal.told
    received += drain(pair.host)
    pair.guest.send(b"last", timeout=0)
    received += drain(pair.host)
    assert received[-1] == padded(b"last")
    assert received[:-1] == sent[: len(received) - 1]


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_wait_is_taken_up_again(steps):
    """The next call finds the state that was left, and the other side's signal."""
    pair, countdown = interruptible_pair()
    pair.guest.signal.while_asleep.append(lambda: pair.host.send(b"packet"))
    interrupted, packet = interrupt(countdown, steps, lambda: pair.guest.receive(timeout=1))
    assert locks_are_free(pair.guest)
    if pair.guest.signal.while_asleep:
        pair.guest.signal.while_asleep.clear()
        pair.host.send(b"packet")
    if interrupted:
        left = drain(pair.guest)
        assert left in ([padded(b"packet")], [])
        assert left or is_empty(pair.back)
    else:
        assert packet.payload == padded(b"packet")
    pair.guest.signal.while_asleep.append(lambda: pair.host.send(b"another"))
    assert pair.guest.receive(timeout=1).payload == padded(b"another")


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_end_of_a_stream_can_be_sent_again_and_arrives(steps):
    pair, countdown = interruptible_pair(ByteChannel)
    pair.guest.send(b"bytes")
    interrupt(countdown, steps, pair.guest.send_end)
    pair.guest.send_end()
    assert pair.host.receive(timeout=0) == b"bytes"
    assert pair.host.receive(timeout=0) == b""


def test_the_send_after_an_interrupted_commit_signals_a_receiver_that_sleeps_meanwhile():
    out = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(out=out)
    stored = []

    def interrupt(access: Access) -> None:
        stored.append(str(access))
        if stored[-2:] == ["store in", "fence"]:
            raise Interrupted

    out.after = interrupt
    with pytest.raises(Interrupted):
        pair.guest.send(b"packet 1")
    out.after = None
    assert pair.host.receive(timeout=0).payload == b"packet 1"
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)
    pair.host.signal.told = False
    pair.guest.send(b"packet 2")
    assert pair.host.signal.told


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 can itself lose a lock to an interrupt")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_signal_handlers_that_raise_at_any_moment_leave_no_turn_and_no_wait_behind():
    class Rung(BaseException):
        pass

    def ring(number: int, frame: object) -> None:
        if armed:
            raise Rung

    armed = False
    guest, host = connected_channels(4096)
    before = signal.signal(signal.SIGALRM, ring)
    draw = random.Random(3)
    interrupts = 0
    try:
        for _ in range(3000):
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 6e-5))
            try:
                armed = True
                try:
                    guest.receive(timeout=draw.choice([0, 0, 5e-5]))
                finally:
                    armed = False
            except Rung:
                interrupts += 1
            except TimedOut:
                pass
            assert guest._receiving._sleeper is None
            assert guest._waiters._waiting_thread is None
            assert not guest._receiving.lock.locked()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 300
    host.send(b"packet 1")
    assert guest.receive(timeout=PATIENCE).payload == b"packet 1"
    guest.close()
    host.close()
