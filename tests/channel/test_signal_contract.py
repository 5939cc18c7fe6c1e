"""What every signal must do, whatever it is made of.

A side that sleeps has published that it does; the signal that then comes is the only one, so a
signal may come for nothing and may never be missed.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.channel.helpers import PATIENCE, Running
from vmbus.channel import Signal, local_signals
from vmbus.channel.descriptor_signal import Bells, descriptor_signals
from vmbus.channel.direction import LONGEST_SLEEP
from vmbus.errors import CallerError

#: Functions that make the two ends of one pair.
FORMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "local": local_signals,
    "sockets": lambda: descriptor_signals(Bells.SOCKETS),
}
if hasattr(os, "eventfd") and hasattr(select, "epoll"):
    FORMS["eventfd"] = lambda: descriptor_signals(Bells.EVENTFD)


@pytest.fixture(params=FORMS)
def ends(request) -> Iterator[tuple[Signal, Signal]]:
    near, far = FORMS[request.param]()
    yield near, far
    near.close()
    far.close()


def is_readable(signal: Signal) -> bool:
    """Whether its descriptor says that there is a reason."""
    return bool(select.select([signal.fileno()], [], [], 0)[0])


def has_descriptor(signal: Signal) -> bool:
    try:
        return signal.fileno() >= 0
    except CallerError:
        return False


def test_nothing_told_is_no_reason(ends):
    near, far = ends
    assert near.wait(0) is False
    assert far.wait(0) is False
    assert far.wait(0.001) is False


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -0.5, -1, -1e300, math.nan, -math.inf])
def test_no_time_and_less_is_a_look(ends, timeout):
    near, far = ends
    assert far.wait(timeout) is False
    near.notify()
    assert far.wait(timeout) is True


@pytest.mark.parametrize(
    "timeout", [LONGEST_SLEEP + 1, threading.TIMEOUT_MAX * 4, 1e9, 1e300, 2.0**63, 10**30, math.inf]
)
def test_a_huge_timeout_is_a_long_wait(ends, timeout):
    near, far = ends
    near.notify()
    assert far.wait(timeout) is True


def test_a_notify_from_before_the_wait_ends_it(ends):
    near, far = ends
    near.notify()
    assert far.wait(None) is True
    assert far.wait(0) is False


def test_a_notify_reaches_the_other_side_only(ends):
    near, far = ends
    near.notify()
    assert near.wait(0) is False
    assert far.wait(0) is True


def test_both_sides_can_be_told_at_once(ends):
    near, far = ends
    near.notify()
    far.notify()
    assert near.wait(None) is True
    assert far.wait(None) is True


def test_a_thread_that_waits_is_woken_by_the_other_side(ends):
    near, far = ends
    waiter = Running(far.wait, None)
    near.notify()
    assert waiter.result() is True


def test_a_thread_that_waits_with_a_time_is_woken_before_it_is_over(ends):
    near, far = ends
    waiter = Running(far.wait, 10 * PATIENCE)
    near.notify()
    assert waiter.result() is True


def test_wake_ends_the_wait_of_its_own_side(ends):
    near, far = ends
    waiter = Running(far.wait, None)
    far.wake()
    assert waiter.result() is True
    assert near.wait(0) is False


def test_a_wake_that_finds_nobody_ends_the_next_wait(ends):
    _, far = ends
    far.wake()
    assert far.wait(None) is True
    assert far.wait(0) is False


def test_signals_never_wait_for_the_other_side_to_look(ends):
    near, far = ends
    for _ in range(5000):
        near.notify()
        near.wake()
    assert far.wait(None) is True
    assert near.wait(None) is True


def test_no_signal_is_missed_in_a_long_conversation(ends):
    """Each side notifies once and waits once, in turn: a missed one would end it."""
    near, far = ends
    rounds = 2000

    def answer() -> None:
        for _ in range(rounds):
            far.wait(None)
            far.notify()

    task = Running(answer)

    def ask() -> None:
        for _ in range(rounds):
            near.notify()
            near.wait(None)

    Running(ask).result()
    task.result()


def test_nobody_is_closed_before_it_closes(ends):
    near, far = ends
    near.notify()
    far.wait(0)
    far.wait(0)
    assert (near.peer_closed, far.peer_closed) == (False, False)


def test_a_close_ends_the_wait_of_the_other_side_which_then_knows(ends):
    near, far = ends
    waiter = Running(far.wait, None)
    near.close()
    assert waiter.result() is True
    assert far.peer_closed is True


def test_a_close_from_before_the_wait_ends_it_too(ends):
    near, far = ends
    near.close()
    assert far.wait(None) is True
    assert far.peer_closed is True


def test_a_close_behind_a_notify_is_seen_no_later_than_by_the_second_wait(ends):
    near, far = ends
    near.notify()
    near.close()
    assert far.wait(None) is True
    if not far.peer_closed:
        assert far.wait(None) is True
    assert far.peer_closed is True


def test_close_again_is_harmless(ends):
    near, far = ends
    near.close()
    near.close()
    far.wait(0)
    far.close()
    far.close()
    near.close()


def test_telling_a_side_that_is_gone_does_nothing(ends):
    near, far = ends
    near.close()
    for _ in range(3):
        far.notify()
        far.wait(0)
        far.notify()
    assert far.peer_closed is True


def test_wake_and_notify_from_other_threads_do_not_harm_a_wait(ends):
    near, far = ends
    start = threading.Barrier(3)

    def tell(what: Callable[[], None]) -> None:
        start.wait(PATIENCE)
        for _ in range(1000):
            what()

    tasks = [Running(tell, near.notify), Running(tell, far.wake)]
    start.wait(PATIENCE)
    while any(task.still_runs() for task in tasks):
        far.wait(0)
    for task in tasks:
        task.result()
    far.wait(0)
    near.notify()
    assert far.wait(None) is True


def test_the_descriptor_is_readable_just_while_a_wait_would_return_at_once(ends):
    near, far = ends
    if not has_descriptor(far):
        with pytest.raises(CallerError, match="descriptor"):
            far.fileno()
        return
    assert not is_readable(far)
    near.notify()
    assert is_readable(far)
    assert not is_readable(near)
    far.wait(None)
    assert not is_readable(far)
    far.wake()
    assert is_readable(far)
    far.wait(None)
    assert not is_readable(far)
    near.close()
    assert is_readable(far)
