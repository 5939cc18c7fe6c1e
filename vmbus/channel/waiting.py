"""Threads that wait for one signal.

A signal can be waited for by one thread at a time, and a channel may have two that wait: one to
receive, one to send.  One of them waits for the signal, and when it wakes it wakes the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .signal import Signal

__all__ = ["LONGEST_NAP", "SignalWaiters"]

#: Seconds after which a thread that another one should wake looks by itself: nothing depends on it
#: but what interrupts (signal handlers that raise) may have broken.
LONGEST_NAP = 1.0


class SignalWaiters:
    """The threads of one side that wait for its signal.

    `wakes` counts the signals so far.  Read it, look, and hand it to `wait`: a signal that another
    thread has taken since then ends the wait at once.
    """

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        # Held only to hand over who waits: never while anybody sleeps or touches a ring.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting_thread: int | None = None
        self._closed = False
        self._finish: Callable[[], object] | None = None
        self.wakes = 0

    def wait(self, wakes: int, timeout: float | None) -> None:
        """Sleep until the next signal after the one counted `wakes`; may return for nothing."""
        this_thread = threading.get_ident()
        try:
            with self._lock:
                if self.wakes != wakes or self._closed:
                    return
                # A note of this very thread is left from a wait that an interrupt has ended.
                if self._waiting_thread not in (None, this_thread):
                    self._changed.wait(LONGEST_NAP if timeout is None else min(timeout, LONGEST_NAP))
                    return
                self._waiting_thread = this_thread
            try:
                self._signal.wait(timeout)
            finally:
                self._hand_over()
        finally:  # again, where an interrupt came in between
            if self._waiting_thread == this_thread:
                self._hand_over()

    def _hand_over(self) -> None:
        """The thread that waited does so no more: let the others look, and one of them wait."""
        with self._lock:
            self._waiting_thread = None
            self.wakes += 1
            self._changed.notify_all()
        if self._finish is not None:
            self._finish()

    def close(self, finish: Callable[[], object]) -> None:
        """End all waits, and call `finish` when nobody waits for the signal any more.

        It has been called when this returns; but in the thread that waits, which a signal handler
        can interrupt to call this, only when that wait ends.
        """
        with self._lock:
            self._closed = True
            self._signal.wake()
            if self._waiting_thread == threading.get_ident():
                self._finish = finish
                return
            self._changed.wait_for(lambda: self._waiting_thread is None, LONGEST_NAP)
        finish()
