"""The fences are the cheapest that are enough, and where none is known nothing is shared.

That a fence keeps the order cannot be shown by calling it: tools/litmus.py counts on the machine
at hand, and tests/test_tools.py runs it.
"""

from __future__ import annotations

import io
import mmap
import platform
import signal
import sys
import threading
from types import BuiltinMethodType

import pytest

from tests.memory.children import in_child, needs_fork
from vmbus.errors import CallerError
from vmbus.memory import (
    FENCES,
    NO_FENCES,
    Fences,
    FlatRingMem,
    PagedRingMem,
    SharedMemory,
    barrier,
    fences_for_machine,
)
from vmbus.ring import connected_rings
from vmbus.sizes import PAGE_SIZE

X86_NAMES = ["x86_64", "AMD64", "amd64", "i386", "i486", "i586", "i686", "x86", "X86_64"]
ARM64_NAMES = ["aarch64", "arm64", "ARM64"]
UNKNOWN_NAMES = ["", "riscv64", "ppc64le", "armv7l", "s390x", "mips64", "wasm32", "x86_128"]

on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or sys.implementation.name != "cpython",
    reason="this is no CPython on x86-64",
)


def own_fences() -> Fences:
    """Fences of the caller's, which can be told apart."""
    return Fences(lambda: "acquire", lambda: "release", lambda: "full", "made for the test")


@pytest.mark.parametrize("machine", X86_NAMES)
def test_x86_pays_for_the_full_fence_alone(machine, monkeypatch):
    monkeypatch.setattr(barrier.sys.implementation, "name", "cpython")
    fences = fences_for_machine(machine)
    assert fences.acquire is fences.release is NO_FENCES.acquire
    assert fences.full is not fences.acquire
    assert "locked instruction" in fences.means


def test_another_interpreter_on_x86_has_no_known_fence(monkeypatch):
    monkeypatch.setattr(barrier.sys.implementation, "name", "pypy")
    assert fences_for_machine("x86_64") is None


@pytest.mark.parametrize("machine", ARM64_NAMES)
def test_arm64_uses_one_real_fence_for_all_three(machine, monkeypatch):
    fence = own_fences().full
    monkeypatch.setattr(barrier, "c_library_fence", lambda: fence)
    fences = fences_for_machine(machine)
    assert fences[:3] == (fence, fence, fence)
    assert "C library" in fences.means


@pytest.mark.parametrize("machine", ARM64_NAMES)
def test_arm64_without_a_fence_in_a_c_library_has_none(machine, monkeypatch):
    monkeypatch.setattr(barrier, "c_library_fence", lambda: None)
    assert fences_for_machine(machine) is None


def test_a_fence_of_a_c_library_where_there_is_one_can_be_called():
    fence = barrier.c_library_fence()
    assert fence is None or fence() is None


def test_a_c_library_without_a_fence_gives_none(monkeypatch):
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert barrier.c_library_fence() is None

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert barrier.c_library_fence() is None


@pytest.mark.parametrize("machine", UNKNOWN_NAMES)
def test_an_unknown_machine_has_no_known_fence(machine):
    assert fences_for_machine(machine) is None


def test_no_fences_are_three_that_do_nothing():
    assert NO_FENCES.acquire is NO_FENCES.release is NO_FENCES.full
    assert NO_FENCES.full is bool  # the cheapest call that does nothing


@on_x86
def test_the_full_fence_takes_a_lock_in_c_and_runs_no_python():
    assert isinstance(FENCES.full, BuiltinMethodType)
    assert isinstance(FENCES.full.__self__, io.BufferedWriter)
    assert FENCES.full.__name__ == "flush"
    assert FENCES.full() is None


# -- which fences a memory uses --------------------------------------------------------------


def chosen(memory) -> tuple[object, ...]:
    return memory.acquire, memory.release, memory.fence


def every_kind(**fences):
    """A ring memory of every kind that other processes could reach."""
    shared = SharedMemory.create(2 * PAGE_SIZE)
    return [
        FlatRingMem(PAGE_SIZE, **fences),
        FlatRingMem.over(mmap.mmap(-1, 2 * PAGE_SIZE), **fences),
        FlatRingMem.over(shared.map(), **fences),
        FlatRingMem.over(memoryview(bytearray(2 * PAGE_SIZE)), **fences),
        PagedRingMem([bytearray(PAGE_SIZE), mmap.mmap(-1, PAGE_SIZE)], **fences),
        PagedRingMem([mmap.mmap(-1, PAGE_SIZE), bytearray(PAGE_SIZE)], **fences),
    ]


@pytest.mark.skipif(FENCES is None, reason="no fence is known on this machine")
def test_shared_memories_use_the_fences_of_this_machine():
    for memory in every_kind():
        assert chosen(memory) == FENCES[:3]


def test_the_callers_fences_are_used_where_given():
    own = own_fences()
    for memory in every_kind(fences=own):
        assert chosen(memory) == own[:3]
    assert chosen(FlatRingMem.over(bytearray(2 * PAGE_SIZE), fences=own)) == own[:3]


SHARED_MEMORIES = {
    "own mapping": lambda **fences: FlatRingMem(PAGE_SIZE, **fences),
    "mmap": lambda **fences: FlatRingMem.over(mmap.mmap(-1, 2 * PAGE_SIZE), **fences),
    "shared memory": lambda **fences: FlatRingMem.over(SharedMemory.create(2 * PAGE_SIZE).map(), **fences),
    "a view, of what nobody knows": lambda **fences: FlatRingMem.over(
        memoryview(bytearray(2 * PAGE_SIZE)), **fences
    ),
    "a shared data page": lambda **fences: PagedRingMem(
        [bytearray(PAGE_SIZE), mmap.mmap(-1, PAGE_SIZE)], **fences
    ),
    "a shared control page": lambda **fences: PagedRingMem(
        [mmap.mmap(-1, PAGE_SIZE), bytearray(PAGE_SIZE)], **fences
    ),
}
PRIVATE_MEMORIES = {
    "bytearray": lambda: FlatRingMem.over(bytearray(2 * PAGE_SIZE)),
    "bytes": lambda: FlatRingMem.over(bytes(2 * PAGE_SIZE)),
    "pages": lambda: PagedRingMem([bytearray(PAGE_SIZE)] * 3),
    "read-only pages": lambda: PagedRingMem([bytes(PAGE_SIZE)] * 3),
}


@pytest.mark.parametrize("make", SHARED_MEMORIES.values(), ids=SHARED_MEMORIES.keys())
def test_without_a_known_fence_shared_memory_is_refused(make, monkeypatch):
    monkeypatch.setattr(barrier, "FENCES", None)
    with pytest.raises(CallerError, match="no memory fence is known") as caught:
        make()
    assert caught.value.argument == "fences"


@pytest.mark.parametrize("make", SHARED_MEMORIES.values(), ids=SHARED_MEMORIES.keys())
def test_without_a_known_fence_the_callers_own_will_do(make, monkeypatch):
    monkeypatch.setattr(barrier, "FENCES", None)
    own = own_fences()
    memory = make(fences=own)
    assert chosen(memory) == own[:3]
    sender, receiver = connected_rings(memory=memory)
    sender.send(b"fenced--")
    assert receiver.receive()[0].payload == b"fenced--"


@pytest.mark.parametrize("make", PRIVATE_MEMORIES.values(), ids=PRIVATE_MEMORIES.keys())
def test_without_a_known_fence_private_memory_needs_none(make, monkeypatch):
    monkeypatch.setattr(barrier, "FENCES", None)
    assert chosen(make()) == NO_FENCES[:3]


# -- where the full fence may be called ------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.skipif(FENCES is None, reason="no fence is known on this machine")
def test_the_full_fence_may_be_called_in_a_signal_handler():
    handled = 0

    def handler(number, frame):
        nonlocal handled
        FENCES.full()
        handled += 1

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for _ in range(20_000_000):
            FENCES.full()
            if handled >= 100:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert handled >= 100


@needs_fork
@pytest.mark.skipif(FENCES is None, reason="no fence is known on this machine")
def test_the_full_fence_may_be_called_after_a_fork_beside_threads_that_call_it():
    done = threading.Event()

    def hammer():
        while not done.is_set():
            FENCES.full()

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(lambda: [FENCES.full() for _ in range(1000)]) for _ in range(10)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * 10
