"""A pool of processes that ends at once, and silently, when whoever uses it is interrupted.

Ctrl-C in a terminal goes to every process of a command.  The workers of an ordinary pool each print a traceback
then, and where only the command itself is interrupted it waits until they have finished what they do.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from vmbus.errors import DumpError

__all__ = ["worker_pool"]

CAN_BLOCK = hasattr(signal, "pthread_sigmask")

#: Of Linux's prctl(2): the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes; an error inside the `with` ends them, whatever they are doing."""
    # Until a worker is set up, an interrupt waits: nothing would be there to end it quietly.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if CAN_BLOCK else None
    pool = ProcessPoolExecutor(processes, initializer=prepare_worker, initargs=(os.getpid(),))
    try:
        try:
            # As many tasks as workers, before one of them ends: each starts a worker.
            wait([pool.submit(int) for _ in range(processes)])
        finally:
            if before is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield pool
    except BaseException as error:
        # Ended first: the pool then finds them gone, and waits for nothing that they were doing.
        for worker in list((pool._processes or {}).values()):
            worker.kill()
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise DumpError(
                "a process that shared the work was ended from outside, perhaps for want of memory; --jobs 1 does "
                "without"
            ) from error
        raise
    pool.shutdown()


def prepare_worker(parent: int) -> None:
    """Of a worker: Ctrl-C is for the process that has the pool, which ends its workers then; and where that
    process is gone, a worker has nothing to wait for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent has ended, as a SIGTERM ends one without a word."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (OSError, AttributeError):  # a C library without it
        return
    if os.getppid() == 1 != parent:
        os._exit(1)  # it had ended before
