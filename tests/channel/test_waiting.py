"""Several threads that wait for one signal: one waits for it, and wakes the others."""

from __future__ import annotations

import pytest

from tests.channel.helpers import PATIENCE, RecordingSignal, Running
from vmbus.channel import local_signals
from vmbus.channel.waiting import SignalWaiters


def waiters_and_peer() -> tuple[SignalWaiters, RecordingSignal, RecordingSignal]:
    near, far = (RecordingSignal(one) for one in local_signals())
    return SignalWaiters(near), near, far


def test_one_signal_wakes_every_thread_that_waits():
    waiters, signal, peer = waiters_and_peer()
    tasks = [Running(waiters.wait, waiters.wakes, None) for _ in range(4)]
    signal.await_sleeper()
    peer.notify()
    for task in tasks:
        task.result()
    assert waiters.wakes >= 1


def test_a_signal_that_another_thread_has_taken_since_the_look_ends_the_wait_at_once():
    waiters, _, peer = waiters_and_peer()
    seen = waiters.wakes
    peer.notify()
    waiters.wait(seen, None)
    waiters.wait(seen, 1)  # nothing more is told: only the count says that there was a signal
    assert waiters.wakes == seen + 1


def test_a_signal_from_before_the_wait_ends_it():
    waiters, _, peer = waiters_and_peer()
    peer.notify()
    waiters.wait(waiters.wakes, None)
    assert waiters.wakes == 1


def test_a_wait_that_is_over_hands_over_to_the_thread_behind_it():
    waiters, signal, peer = waiters_and_peer()
    first = Running(waiters.wait, waiters.wakes, 0.01)
    signal.await_sleeper()
    second = Running(wait_until_told, waiters, peer)
    first.result()
    signal.await_sleeper()  # it is the second that waits for the signal now
    peer.notify()
    second.result()


def wait_until_told(waiters: SignalWaiters, peer: RecordingSignal) -> None:
    """As a channel waits: look, and wait again when it was for nothing."""
    while True:
        wakes = waiters.wakes
        if peer.notified:
            return
        waiters.wait(wakes, None)


def test_no_time_at_all_takes_a_signal_that_is_there_and_waits_for_none():
    waiters, signal, peer = waiters_and_peer()
    waiters.wait(waiters.wakes, 0)
    peer.notify()
    waiters.wait(waiters.wakes, 0)
    assert signal.wait(0) is False


def test_the_time_of_a_thread_that_waits_behind_another_is_its_own():
    waiters, signal, peer = waiters_and_peer()
    first = Running(waiters.wait, waiters.wakes, None)
    signal.await_sleeper()
    waiters.wait(waiters.wakes, 0.001)  # returns although nobody tells anything
    assert first.still_runs()
    peer.notify()
    first.result()


class Interrupted(BaseException):
    """What a signal handler raises."""


class InterruptedSignal(RecordingSignal):
    """A signal whose first wait is ended by an exception."""

    interrupts = 1

    def wait(self, timeout: float | None) -> bool:
        told = super().wait(timeout)
        if self.interrupts:
            self.interrupts -= 1
            raise Interrupted
        return told


def test_an_exception_while_the_signal_is_waited_for_hands_over_and_counts():
    near, far = local_signals()
    signal, peer = InterruptedSignal(near), RecordingSignal(far)
    waiters = SignalWaiters(signal)
    seen = waiters.wakes
    first = Running(waiters.wait, seen, None)
    signal.await_sleeper()
    second = Running(waiters.wait, seen, None)
    peer.notify()  # taken by the first, whose wait then raises: the second must look all the same
    with pytest.raises(Interrupted):
        first.result()
    second.result()


def test_close_ends_every_wait_and_finishes_when_the_last_has_left():
    waiters, signal, _ = waiters_and_peer()
    tasks = [Running(waiters.wait, waiters.wakes, None) for _ in range(3)]
    signal.await_sleeper()
    waiters.close(signal.close)  # which refuses while somebody waits
    assert signal.closes == 1
    for task in tasks:
        task.result()


def test_close_with_nobody_there_finishes_at_once():
    waiters, signal, peer = waiters_and_peer()
    waiters.close(signal.close)
    assert signal.closes == 1
    assert peer.wait(PATIENCE) is True
    assert peer.peer_closed


def test_close_in_the_thread_that_waits_finishes_when_that_wait_ends():
    near, _ = local_signals()
    finished = []

    class ClosingSignal(RecordingSignal):
        """A signal handler closes in the middle of the wait."""

        def wait(self, timeout: float | None) -> bool:
            waiters.close(lambda: finished.append("finished"))
            assert not finished
            return super().wait(timeout)

    waiters = SignalWaiters(ClosingSignal(near))
    waiters.wait(waiters.wakes, PATIENCE)
    assert finished == ["finished"]


def test_after_close_no_wait_waits():
    waiters, signal, _ = waiters_and_peer()
    waiters.close(signal.close)
    waiters.wait(waiters.wakes, None)
    assert signal.closes == 1


def test_only_one_thread_at_a_time_waits_for_the_signal():
    """RecordingSignal refuses a second; here four threads wait again and again."""
    waiters, _, peer = waiters_and_peer()
    rounds = 40
    done = []

    def wait_often() -> None:
        for _ in range(rounds):
            waiters.wait(waiters.wakes, 0.001)
        done.append(True)

    tasks = [Running(wait_often) for _ in range(4)]
    while len(done) < 4 and any(task.still_runs() for task in tasks):
        peer.notify()
    for task in tasks:
        task.result()
