"""Signals and time for two sides of a channel that run in one thread: nobody waits, and nothing happens by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

from vmbus.errors import CallerError

from .trial import Wrong

__all__ = ["OneThreadSignal", "SleepClock", "one_thread_signals"]


class SleepClock:
    """Time that passes only while a OneThreadSignal sleeps, and when somebody adds to `now`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class OneThreadSignal:
    """A Signal between two sides that run in one thread.

    while_asleep   what others do during the next sleeps, a function for each
    notified       how often this side has told the other to look
    waits          the timeout of each wait
    closes         how often this side has closed it
    """

    def __init__(self, clock: SleepClock) -> None:
        self.clock = clock
        self.peer = self
        self.peer_closed = False
        self.while_asleep: deque[Callable[[], object]] = deque()
        self.told = False
        self.notified = 0
        self.waits: list[float | None] = []
        self.closes = 0

    def notify(self) -> None:
        self.notified += 1
        self.peer.told = True

    def wake(self) -> None:
        self.told = True

    def wait(self, timeout: float | None) -> bool:
        self.waits.append(timeout)
        if self.while_asleep and not self.told:
            self.while_asleep.popleft()()
        if self.told:
            self.told = False
            return True
        if timeout is None:
            raise Wrong("a side sleeps for ever: nobody tells it to look")
        self.clock.now += timeout
        return False

    def fileno(self) -> NoReturn:
        raise CallerError("nobody polls a signal within one thread", argument="self", value=None, limit=None)

    def close(self) -> None:
        self.closes += 1
        self.peer.peer_closed = True
        self.peer.told = True


def one_thread_signals(clock: SleepClock) -> tuple[OneThreadSignal, OneThreadSignal]:
    """Two ends: what one tells, the other is told.

    >>> near, far = one_thread_signals(SleepClock())
    >>> near.notify()
    >>> far.wait(1), far.wait(1), far.clock()
    (True, False, 1.0)
    """
    near, far = OneThreadSignal(clock), OneThreadSignal(clock)
    near.peer, far.peer = far, near
    return near, far
