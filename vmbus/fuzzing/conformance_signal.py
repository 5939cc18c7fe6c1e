"""What every signal must do, whatever it is made of: vmbus.channel.Signal.

A side that sleeps has published that it does, and the signal that then comes is the only one: a signal may come
for nothing, and may never be missed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from vmbus.channel import Signal

from .bounded import StillRunning, Task
from .conformance_report import Mismatch, Subject, checks_of, demand, demand_equal
from .first_call import called, demand_has, two_of

__all__ = ["SIGNAL_CHECKS", "SignalMaker", "soon"]

Result = TypeVar("Result")

TRIES = 20  # waits of which one must have no reason
LONG = 3600.0  # seconds that no check lasts; not all waits take an infinite time
ROUNDS = 300  # of a conversation in which no signal may be lost


class SignalMaker(Subject):
    """What is tested: how to make the two ends of one pair.

    patience   seconds in which everything that should happen has happened
    """

    def __init__(self, make: Callable[[], tuple[Signal, Signal]], patience: float) -> None:
        super().__init__()
        self._make = make
        self.patience = patience

    def try_out(self) -> None:
        made = called("make_pair()", "a pair of signals", self._make)
        for end in two_of(made, "make_pair()", "a pair of signals"):
            self.keep(end)
            demand_has(end, ("notify", "wait", "wake", "close"), "make_pair()", "a pair of signals")

    def make(self) -> tuple[Signal, Signal]:
        near, far = self._make()
        self.keep(near)
        self.keep(far)
        return near, far


def soon(task: Task[Result], patience: float, expected: str) -> Result:
    """What a task returns; Mismatch when it goes on for longer."""
    try:
        return task.result(patience)
    except StillRunning as error:
        raise Mismatch(expected, str(error)) from None


def comes_to_rest(end: Signal) -> bool:
    """Whether a wait finds no reason in the end: it may say so too late, and not never."""
    return any(not end.wait(0) for _ in range(TRIES))


def waits_of(end: Signal, timeout: float) -> list[bool]:
    """What some waits return."""
    return [end.wait(timeout) for _ in range(TRIES)]


def nothing_told_is_no_reason(pairs: SignalMaker) -> None:
    """Where nobody has told anything, a wait returns False when its time is over, and at once when it has none."""
    near, far = pairs.make()
    demand(comes_to_rest(near), f"False from one of {TRIES} wait(0)", "True from all")
    for timeout in (0, 0.001, -1, -LONG):
        task = Task(partial(waits_of, far, timeout))
        found = soon(task, pairs.patience, f"an end of {TRIES} wait({timeout})")
        demand(False in found, f"False from one of {TRIES} wait({timeout})", found)


def wait_lasts_its_time(pairs: SignalMaker) -> None:
    """A wait that says that its time is over has lasted as long as it was given."""
    _, far = pairs.make()

    def wait() -> tuple[bool, float]:
        started = monotonic()
        return far.wait(0.03), monotonic() - started

    has_reason, took = soon(Task(wait), pairs.patience, "an end of wait(0.03)")
    demand(has_reason or took >= 0.02, "False from wait(0.03) after 0.03 seconds", f"after {took:.3f}")


def earlier_notify_ends_a_wait(pairs: SignalMaker) -> None:
    """A notify from before the wait ends it."""
    near, far = pairs.make()
    near.notify()
    task = Task(lambda: far.wait(None))
    demand_equal(soon(task, pairs.patience, "an end of wait(None) behind a notify"), True, "wait(None)")


def notify_wakes_a_sleeper(pairs: SignalMaker) -> None:
    """A notify ends the wait of a thread that sleeps already, whether it has a timeout or none."""
    for timeout in (None, 60 * pairs.patience, LONG):
        near, far = pairs.make()
        task = Task(partial(far.wait, timeout))
        task.has_ended(0.01)  # time to fall asleep; where it has not, it must be woken all the same
        near.notify()
        demand_equal(
            soon(task, pairs.patience, f"an end of wait({timeout}) by a notify"), True, f"wait({timeout})"
        )


def notify_is_for_the_other_side(pairs: SignalMaker) -> None:
    """A notify tells the other side, and not the one that gives it."""
    near, far = pairs.make()
    found = []
    for _ in range(TRIES):
        near.notify()
        found.append(near.wait(0))
    demand(False in found, "False from wait(0) of the side that told", found)
    demand_equal(far.wait(0), True, "wait(0) of the side that was told")


def reason_is_taken_by_a_wait(pairs: SignalMaker) -> None:
    """A wait takes its reason away: when nobody tells anything more, waits find none in the end."""
    near, far = pairs.make()
    for _ in range(5):
        near.notify()
        far.wake()
    demand(comes_to_rest(far), f"False from one of {TRIES} wait(0)", "True from all")


def notify_never_waits(pairs: SignalMaker) -> None:
    """However many notifies and wakes nobody has looked for, the next one does not wait, and one is kept."""
    near, far = pairs.make()

    def tell() -> None:
        for _ in range(5000):
            near.notify()
            far.wake()

    soon(Task(tell), pairs.patience, "5000 notifies and wakes that do not wait")
    demand_equal(far.wait(0), True, "wait(0) behind them")


def wake_ends_the_own_wait(pairs: SignalMaker) -> None:
    """A wake ends this side's own wait, from another thread, and tells the other side nothing."""
    near, far = pairs.make()
    task = Task(lambda: far.wait(None))
    far.wake()
    demand_equal(soon(task, pairs.patience, "an end of wait(None) by a wake"), True, "wait(None)")
    demand(comes_to_rest(near), "False from wait(0) of the other side", "True")


def earlier_wake_ends_a_wait(pairs: SignalMaker) -> None:
    """A wake that finds nobody waiting ends the next wait."""
    _, far = pairs.make()
    far.wake()
    task = Task(lambda: far.wait(None))
    demand_equal(soon(task, pairs.patience, "an end of wait(None) behind a wake"), True, "wait(None)")


def no_signal_is_missed(pairs: SignalMaker) -> None:
    """In a conversation in which each side notifies once and waits once, none is ever left waiting."""
    near, far = pairs.make()

    def answer() -> None:
        for _ in range(ROUNDS):
            far.wait(None)
            far.notify()

    def ask() -> int:
        for done in range(ROUNDS):
            near.notify()
            if not near.wait(pairs.patience):
                return done
        return ROUNDS

    task = Task(answer)
    demand_equal(soon(Task(ask), 2 * pairs.patience, "an end of the conversation"), ROUNDS, "rounds:")
    soon(task, pairs.patience, "an end of the answers")


def nobody_is_closed_yet(pairs: SignalMaker) -> None:
    """A side is not said to be closed because it notifies, wakes or keeps silent."""
    near, far = pairs.make()
    near.notify()
    for end in (far, near):
        end.wake()
        end.wait(0)
        demand_equal(end.peer_closed, False, "peer_closed of an open pair")


def close_wakes_the_other_side(pairs: SignalMaker) -> None:
    """A close ends the wait of the other side, which then knows that it was closed."""
    near, far = pairs.make()
    task = Task(lambda: far.wait(None))
    near.close()
    demand_equal(soon(task, pairs.patience, "an end of wait(None) by a close"), True, "wait(None)")
    demand_equal(far.peer_closed, True, "peer_closed behind that wait")


def earlier_close_ends_a_wait(pairs: SignalMaker) -> None:
    """A close from before the wait ends it too, also behind a notify; the second wait tells at the latest."""
    for tells in (False, True):
        near, far = pairs.make()
        if tells:
            near.notify()
        near.close()
        for _ in range(1 + tells):
            if not far.peer_closed:
                task = Task(partial(far.wait, None))
                soon(task, pairs.patience, "an end of wait(None) behind a close")
        demand_equal(far.peer_closed, True, "peer_closed behind a close")


def close_again_is_harmless(pairs: SignalMaker) -> None:
    """Both sides can be closed, in any order and again, and telling a side that is gone does nothing."""
    near, far = pairs.make()
    near.close()
    near.close()
    for _ in range(3):
        far.notify()
        far.wait(0)
    demand_equal(far.peer_closed, True, "peer_closed")
    far.close()
    far.close()
    near.close()


SIGNAL_CHECKS = checks_of(
    nothing_told_is_no_reason,
    wait_lasts_its_time,
    earlier_notify_ends_a_wait,
    notify_wakes_a_sleeper,
    notify_is_for_the_other_side,
    reason_is_taken_by_a_wait,
    notify_never_waits,
    wake_ends_the_own_wait,
    earlier_wake_ends_a_wait,
    no_signal_is_missed,
    nobody_is_closed_yet,
    close_wakes_the_other_side,
    earlier_close_ends_a_wait,
    close_again_is_harmless,
)
