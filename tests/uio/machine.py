"""The process in which the doubles of a kernel run, one after another: to start one for each test would take longer
than most of the tests.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import final

from tests.memory.children import exit_status, fork_child
from tests.uio.calls import LONGEST, PATIENCE, call_pair
from tests.uio.kernel import LATE, ROOT_NAME, Age, Kernel
from tests.uio.kernel_process import run_kernel

__all__ = ["Machine"]

#: Seconds after which a kernel ends, whatever has become of the test.
LONGEST_LIFE = 120


@final
class Machine:
    """A process in which kernels run, one after another.  Leaving the block ends it, whatever it does."""

    def __init__(self) -> None:
        end, other_end = call_pair()
        self.process = fork_child(lambda: live(other_end))
        other_end.close()
        self._end = end
        self._end.settimeout(PATIENCE)
        self._closed = False

    def boot(self, folder: Path, age: Age = LATE) -> Kernel:
        """A new kernel.

        folder   for its tree of files, and for the memory that is shared
        age      which kernel it is
        """
        calls, kernel_calls = call_pair()
        orders, kernel_orders = call_pair()
        with kernel_calls, kernel_orders:
            message = pickle.dumps((folder, age))
            socket.send_fds(self._end, [message], [kernel_calls.fileno(), kernel_orders.fileno()])
        return Kernel(calls, orders, folder, age, self._confirm_end)

    def _confirm_end(self) -> None:
        """A kernel has been told to end: wait until it has."""
        try:
            ended = self._end.recv(1)
        except OSError:
            ended = b""
        if not ended:
            self.close()
            raise AssertionError("the process of the kernel has ended before its time, or hangs")

    def close(self) -> None:
        """End the process; again is harmless."""
        if not self._closed:
            self._closed = True
            self._end.close()
            os.kill(self.process, signal.SIGKILL)
            exit_status(self.process)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def live(end: socket.socket) -> None:
    """In the other process."""
    signal.alarm(0)
    gc.freeze()  # what belongs to the test is not to be finalized here
    close_all_but(end)
    while True:
        message, descriptors, _, _ = socket.recv_fds(end, LONGEST, 2)
        if not message:
            return
        signal.alarm(LONGEST_LIFE)
        folder, age = pickle.loads(message)
        calls, orders = (socket.socket(fileno=one) for one in descriptors)
        with calls, orders:
            memory = folder / "memory"
            memory.mkdir()
            run_kernel(calls, orders, folder / ROOT_NAME, memory, age)
        signal.alarm(0)
        end.send(b"ended")


def close_all_but(*kept: socket.socket) -> None:
    """Whoever waits for the end of a pipe or socket of the test is not to wait for this process."""
    wanted = {0, 1, 2, *(end.fileno() for end in kept)}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in wanted:
            with suppress(OSError):
                os.close(int(name))
