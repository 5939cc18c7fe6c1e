"""Memory fences for a language that has none.

Two processes that share a ring run on two processors, and a processor may let a later load
overtake an earlier store.  The rings need three fences against that:

    acquire   an earlier load comes before everything that follows
    release   earlier loads and stores come before later stores
    full      everything before comes before everything after, loads after stores too

What is enough on which machine:

x86-64, i686   Loads stay in order with loads, stores with stores and with earlier loads; only a
               load may overtake an earlier store.  So acquire and release cost nothing (the
               interpreter does not reorder, every access is a call into C), and full needs one
               instruction with a lock prefix.  Taking a free lock is one: CPython's locks are
               semaphores, SRW locks or mutexes, each taken by a compare-and-exchange.  Every
               call of a BufferedWriter takes and releases a lock of its own in C, so flushing
               one that is empty is the cheapest fence there is: one call, which a signal handler
               cannot interrupt and, under the interpreter's own lock, a fork cannot copy half done.
               (Intel SDM volume 3, "Memory Ordering"; CPython Modules/_io/bufferedio.c,
               ENTER_BUFFERED.)
arm64          Any two accesses may change places and a lock taken and released again orders
               nothing across itself, so all three are a real fence: atomic_thread_fence of
               libatomic, or of the C library where it has one, or OSMemoryBarrier on macOS.  None
               of them is on Windows.  Not yet measured on such a machine.
any other      Or another interpreter: no means is known.  The caller brings the fences or gets a CallerError.

tools/litmus.py shows on the machine at hand that the reordering happens without `full` and
never with it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vmbus.errors import CallerError

__all__ = ["FENCES", "NO_FENCES", "Fence", "Fences", "fences_for_machine", "require_fences"]

Fence = Callable[[], object]


class Fences(NamedTuple):
    """The three fences, and a sentence that says what they are made of."""

    acquire: Fence
    release: Fence
    full: Fence
    means: str


#: For an order that the processor keeps by itself.  Of all calls that do nothing this is the cheapest.
nothing: Fence = bool

#: Takes and releases the lock of a writer that never has anything to write.
locked_instruction: Fence = io.BufferedWriter(io.BytesIO()).flush


def c_library_fence() -> Fence | None:
    """A sequentially consistent fence from a C library, or None where there is none."""
    import ctypes  # slow to import, and x86 never needs it

    for name, symbol, arguments in (
        ("libatomic.so.1", "atomic_thread_fence", (5,)),  # 5: memory_order_seq_cst
        (None, "atomic_thread_fence", (5,)),
        (None, "OSMemoryBarrier", ()),
    ):
        try:
            function = getattr(ctypes.CDLL(name), symbol)
        except (AttributeError, OSError, TypeError):
            continue
        function.restype = None
        return partial(function, *arguments)
    return None


def machine_name() -> str:
    """The processor's family; the platform module would say the same and is slow to import."""
    if hasattr(os, "uname"):
        return os.uname().machine
    return os.environ.get("PROCESSOR_ARCHITECTURE", "")


def fences_for_machine(machine: str) -> Fences | None:
    """The cheapest fences that are enough on `machine` (as platform.machine() names it), or None.

    >>> fences_for_machine("x86_64").means
    'the order of x86, and a locked instruction'
    >>> fences_for_machine("an unknown machine") is None
    True
    """
    machine = machine.lower()
    is_x86 = machine in ("x86_64", "amd64", "i386", "i486", "i586", "i686", "x86")
    if is_x86 and sys.implementation.name == "cpython":
        return Fences(nothing, nothing, locked_instruction, "the order of x86, and a locked instruction")
    if machine in ("aarch64", "arm64"):
        fence = c_library_fence()
        if fence is not None:
            return Fences(fence, fence, fence, "a fence of the C library")
    return None


#: Enough for bytes that nobody else can reach: a dump, or a buffer of this process alone, whose
#: threads take turns under the interpreter's own lock.
NO_FENCES = Fences(nothing, nothing, nothing, "nothing: the bytes are not shared between processes")

#: What FlatRingMem and PagedRingMem use; None where no means is known.
FENCES = fences_for_machine(machine_name()) if sys.byteorder == "little" else None


def require_fences(fences: Fences | None, *, shared: bool) -> Fences:
    """The fences to use: the caller's, else those of this machine.

    shared   whether another process can reach the bytes

    Raises CallerError when they are shared and no means is known here.
    """
    chosen = fences or FENCES or (None if shared else NO_FENCES)
    if chosen is None:
        raise CallerError(
            f"no memory fence is known for a {machine_name()} ({sys.byteorder}-endian) machine: a "
            "ring shared between processes would lose packets; pass fences=Fences(...) of your own",
            argument="fences",
            value=fences,
            limit="x86-64, arm64",
        )
    return chosen
