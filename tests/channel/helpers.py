"""Two channels that face each other, made to be watched: in one thread, or in several.

In one thread, what happens while a side sleeps is said beforehand (`OneThreadSignal`): no test has
to wait for anything, and a wait that nobody would ever end is an error and no hang.  With several
threads, `RecordingSignal` says when a thread has gone to sleep.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from vmbus.channel import Channel, PacketChannel, Signal, local_signals
from vmbus.errors import TimedOut
from vmbus.fuzzing.one_thread_signal import SleepClock, one_thread_signals
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import IncomingRing, OutgoingRing

Result = TypeVar("Result")

#: Seconds after which a thread that should have ended long ago fails its test.
PATIENCE = 30


class Pair(NamedTuple):
    """Two channels in one thread; `out` is the memory of the ring from guest to host."""

    guest: Any
    host: Any
    clock: SleepClock
    out: RingMem
    back: RingMem

    def notified(self) -> tuple[int, int]:
        """How often guest and host have signaled each other."""
        return self.guest.signal.notified, self.host.signal.notified

    def nothing_owed(self) -> bool:
        """True when neither side has been told of anything that it has not looked for."""
        return not (self.guest.signal.told or self.host.signal.told)


def scripted_pair(
    kind: type[Channel] = PacketChannel,
    size: int = 4096,
    *,
    out: RingMem | None = None,
    back: RingMem | None = None,
    **options: Any,
) -> Pair:
    """Two channels over rings of `size` bytes, or over the memories given, for one thread."""
    out, back = out or FlatRingMem(size), back or FlatRingMem(size)
    clock = SleepClock()
    near, far = one_thread_signals(clock)
    guest = kind(IncomingRing(back), OutgoingRing(out), near, role="guest", clock=clock, **options)
    host = kind(IncomingRing(out), OutgoingRing(back), far, role="host", clock=clock, **options)
    return Pair(guest, host, clock, out, back)


class RecordingSignal:
    """A Signal around another that says when somebody goes to sleep and counts what is told."""

    def __init__(self, inside: Signal) -> None:
        self.inside = inside
        self.notified = 0
        self.closes = 0
        self.waiting_now = 0
        self._asleep = threading.Semaphore(0)

    @property
    def peer_closed(self) -> bool:
        return self.inside.peer_closed

    def notify(self) -> None:
        self.notified += 1
        self.inside.notify()

    def wait(self, timeout: float | None) -> bool:
        assert not self.closes, "somebody waits for a signal that is closed"
        self.waiting_now += 1
        assert self.waiting_now == 1, "two threads wait for one signal"
        self._asleep.release()
        try:
            return self.inside.wait(timeout)
        finally:
            self.waiting_now -= 1

    def wake(self) -> None:
        self.inside.wake()

    def fileno(self) -> int:
        return self.inside.fileno()

    def close(self) -> None:
        assert not self.waiting_now, "a signal is closed while somebody waits for it"
        self.closes += 1
        self.inside.close()

    def await_sleeper(self) -> None:
        """Return once one more wait has begun: its thread has published what it waits for."""
        assert self._asleep.acquire(timeout=PATIENCE), "nobody goes to sleep"


def threaded_pair(kind: type[Channel] = PacketChannel, size: int = 4096, **options: Any) -> tuple[Any, Any]:
    """Two channels for threads, whose signals are RecordingSignals."""
    out, back = FlatRingMem(size), FlatRingMem(size)
    near, far = (RecordingSignal(one) for one in local_signals())
    guest = kind(IncomingRing(back), OutgoingRing(out), near, role="guest", **options)
    host = kind(IncomingRing(out), OutgoingRing(back), far, role="host", **options)
    return guest, host


class CallCounter:
    """A clock that counts who asks for the time.

    A call with a timeout asks before it takes the lock of its direction and, where it must wait for
    its turn, again with the lock held.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: Counter[int] = Counter()
        self._changed = threading.Condition()

    def __call__(self) -> float:
        with self._changed:
            self._calls[threading.get_ident()] += 1
            self._changed.notify_all()
        return self._clock()

    def await_calls(self, task: Running[Any], count: int) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: self._calls[task.ident] >= count, PATIENCE)
            assert came, "the thread does not get as far as to wait"


class Running(Generic[Result]):
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> None:
        self._work = lambda: function(*arguments, **named)
        self._outcome: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def still_runs(self) -> bool:
        return self._thread.is_alive()

    def result(self, patience: float = PATIENCE) -> Result:
        """What the function returned; what it raised is raised here."""
        self._thread.join(patience)
        assert not self._thread.is_alive(), "the thread still waits"
        if self._error is not None:
            raise self._error
        return self._outcome[0]


def mask_of(memory: RingMem) -> int:
    return memory.control[INTERRUPT_MASK_WORD]


def pending_of(memory: RingMem) -> int:
    return memory.control[PENDING_SEND_SIZE_WORD]


def is_empty(memory: RingMem) -> bool:
    return memory.control[IN_WORD] == memory.control[OUT_WORD]


def fill_ring(channel: Any, size: int = 232) -> int:
    """Send packets of 256 bytes until one is refused: how many."""
    count = 0
    while True:
        try:
            channel.send(bytes(size), timeout=0)
        except TimedOut:
            return count
        count += 1


__all__ = [
    "PATIENCE",
    "CallCounter",
    "Pair",
    "RecordingSignal",
    "Running",
    "fill_ring",
    "is_empty",
    "mask_of",
    "pending_of",
    "scripted_pair",
    "threaded_pair",
]
