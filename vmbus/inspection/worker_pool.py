"""A pool of processes that ends at once, and silently, when whoever uses it is interrupted.

Ctrl-C in a terminal goes to every process of a command.  The workers of an ordinary pool each print a traceback
then, and where only the command itself is interrupted it waits until they have finished what they do.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

__all__ = ["worker_pool"]

CAN_BLOCK = hasattr(signal, "pthread_sigmask")


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes; an error inside the `with` ends them, whatever they are doing."""
    # Until a worker is set up, an interrupt waits: nothing would be there to end it quietly.
    if CAN_BLOCK:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = ProcessPoolExecutor(processes, initializer=end_silently)
        pool.submit(int).result()  # starts them
    finally:
        if CAN_BLOCK:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield pool
    except BaseException:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    finally:
        pool.shutdown()


def end_silently() -> None:
    """Of a worker: Ctrl-C is for the process that has the pool, which ends its workers then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
