"""Signals between the threads of one process.

Each end is one lock, used as a flag that sleepers can wait for: held, nothing has been told;
free, something has.  Telling twice leaves it free, and a waiter takes it again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import NoReturn

from vmbus.errors import CallerError

__all__ = ["LocalSignal", "local_signals"]


class LocalSignal:
    """One of two ends between threads of this process; a Signal.  Made by `local_signals`."""

    def __init__(self) -> None:
        self._untold = threading.Lock()
        self._untold.acquire()
        self._peer = self
        self.peer_closed = False

    def notify(self) -> None:
        self._peer.wake()

    def wake(self) -> None:
        with suppress(RuntimeError):  # told already
            self._untold.release()

    def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            return self._untold.acquire()
        if timeout > 0:
            return self._untold.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        return self._untold.acquire(blocking=False)

    def fileno(self) -> NoReturn:
        raise CallerError(
            "signals between threads have no descriptor: connected_channels(pollable=True) makes channels "
            "that have one",
            argument="signal",
            value="LocalSignal",
            limit="DescriptorSignal",
        )

    def close(self) -> None:
        self._peer.peer_closed = True
        self._peer.wake()


def local_signals() -> tuple[LocalSignal, LocalSignal]:
    """Two ends: what one tells, the other is told.

    >>> near, far = local_signals()
    >>> near.notify()
    >>> far.wait(0), far.wait(0)
    (True, False)
    """
    near, far = LocalSignal(), LocalSignal()
    near._peer, far._peer = far, near
    return near, far
