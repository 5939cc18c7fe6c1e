"""What every signal does that sleeps over descriptors: the sleep itself, its end from outside, and closing.

One poller watches all that may be a reason to look again.  In a forked child a signal is closed: it is of one
process, and so is what it watches.

Timeouts are in seconds.

Sources: epoll(7), eventfd(2).
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import NoReturn, Protocol

from vmbus.errors import CallerError

from .direction import LONGEST_SLEEP

__all__ = ["PolledSignal", "Poller", "add_eventfd_waker", "do_nothing"]

#: What one call returns at most: a signal watches no more descriptors than this.
MOST_EVENTS = 4


class Poller(Protocol):
    """What a signal sleeps over: select.epoll, or what stands in for it."""

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]: ...

    def fileno(self) -> int: ...


class PolledSignal:
    """What a Signal does however the other side is told.  A kind of signal has `_ring` and `_handle` besides.

    `_begin` is called once, when all is prepared.
    """

    def __init__(self) -> None:
        self.peer_closed = False
        self._closed = False
        self._waking = threading.Lock()
        self._ring: Callable[[], object] = do_nothing

    def _begin(self, held: ExitStack, poller: Poller, quiet: int, wake: Callable[[], object]) -> None:
        """From here on this side can sleep.

        held     lets go of everything
        quiet    the descriptor that is ready most often, and says no more than that it is time to look again
        wake     ends this side's own wait; OSError where it was told already
        """
        self._poller = poller
        self._poll: Callable[[float | None, int], list[tuple[int, int]]] = poller.poll
        self._quiet = quiet
        self._wake = wake
        self._release = weakref.finalize(self, held.close)  # also when nobody calls close()
        of_this_process.add(self)

    def _handle(self, ready: list[int]) -> None:
        """These descriptors are ready, and not the quiet one alone."""
        raise NotImplementedError

    def wake(self) -> None:
        # The descriptor must not be closed, and be another's, in between.
        with self._waking, suppress(OSError):
            self._wake()

    def wait(self, timeout: float | None) -> bool:
        if timeout is None or 0 <= timeout <= LONGEST_SLEEP:
            events = self._poll(timeout, MOST_EVENTS)
        elif timeout > LONGEST_SLEEP:  # epoll counts milliseconds in 31 bits
            self.wait(LONGEST_SLEEP)
            return True  # perhaps for nothing, once a day
        else:
            events = self._poll(0, MOST_EVENTS)
        for descriptor, _ in events:
            if descriptor != self._quiet:
                self._handle([one for one, _ in events])
                break
        return bool(events)

    def fileno(self) -> int:
        if self._closed:
            refuse_closed()
        return self._poller.fileno()

    def close(self) -> None:
        with self._waking:
            if self._closed:
                return
            self._closed = True
            self._poll = refuse_closed
            self._ring = self._wake = do_nothing
        of_this_process.discard(self)
        self._release()

    def abandon(self) -> None:
        """Close without a word to the other side, in a forked child."""
        self._waking = threading.Lock()  # whoever held it is not in this process
        self.close()


#: The signals that a forked child must let go of.
of_this_process: weakref.WeakSet[PolledSignal] = weakref.WeakSet()


def abandon_all() -> None:
    """In a forked child: its copies would keep what ends with the parent from ending."""
    for one in list(of_this_process):
        one.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)


def add_eventfd_waker(held: ExitStack, poller: select.epoll) -> tuple[int, Callable[[], object]]:
    """A descriptor of Linux that `poller` watches from now on and `held` closes; and what makes it ready, once."""
    waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    held.callback(os.close, waker)
    # At an edge: the system remembers that it was rung, and nothing has to be read.
    poller.register(waker, select.EPOLLIN | select.EPOLLET)
    return waker, partial(os.eventfd_write, waker, 1)


def do_nothing() -> None:
    """In place of what a closed signal would tell."""


def refuse_closed(*arguments: object) -> NoReturn:
    raise CallerError("this signal is closed", argument="self", value="closed", limit="open")
