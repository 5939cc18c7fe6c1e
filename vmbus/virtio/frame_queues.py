"""Two bounded queues of Ethernet frames between a guest and a network stack on the host.

Whoever has a frame pushes it and wakes whoever takes it; nothing here waits.  A frame is bytes from
its Ethernet header on, without a virtio header.  When a queue is full the push fails and the frame
comes back: what then becomes of it is the pusher's decision.

Capacities are in frames, not bytes.

Sources: smolvm smolvm-network, NetworkFrameQueues; crossbeam-queue, ArrayQueue.
"""

from __future__ import annotations

import queue
from typing import Protocol, TypeVar

from vmbus.errors import CallerError
from vmbus.memory import Buffer, view_bytes

__all__ = [
    "DEFAULT_FRAME_QUEUE_CAPACITY",
    "EgressCounter",
    "FlagWake",
    "FrameQueue",
    "NetworkFrameQueues",
    "Wake",
]

#: Frames of each direction.
DEFAULT_FRAME_QUEUE_CAPACITY = 1024

Frame = TypeVar("Frame", bound=Buffer)


class Wake(Protocol):
    """Something that wakes whoever waits for it."""

    def wake(self) -> None:
        """Say that there is something to look at.  Never waits; any number may melt into one."""
        ...


class FlagWake:
    """A wake that nobody waits for: it remembers that it was called.

    >>> wake = FlagWake()
    >>> wake.wake(); wake.wake(); wake.drain(), wake.drain()
    (True, False)
    """

    def __init__(self) -> None:
        self.woken = False

    def wake(self) -> None:
        self.woken = True

    def drain(self) -> bool:
        """Whether there was a wake since the last time."""
        woken, self.woken = self.woken, False
        return woken


class FrameQueue:
    """A bounded first-in-first-out queue of frames, for any number of threads on either end.

    capacity   the most frames it holds

    Raises CallerError for a capacity that is not at least 1.

    >>> frames = FrameQueue(1)
    >>> frames.push(b"first"), frames.push(b"second")
    (None, b'second')
    >>> frames.pop(), frames.pop()
    (b'first', None)
    """

    def __init__(self, capacity: int = DEFAULT_FRAME_QUEUE_CAPACITY) -> None:
        if capacity < 1:
            raise CallerError(
                f"a queue of {capacity} frames could never hold one: its capacity is at least 1",
                argument="capacity",
                value=capacity,
                limit=1,
            )
        # queue.Queue holds its lock for a few steps at a time; the calls used here never sleep.
        self._frames: queue.Queue[bytes] = queue.Queue(capacity)

    @property
    def capacity(self) -> int:
        """The most frames it holds."""
        return self._frames.maxsize

    def push(self, frame: Frame) -> Frame | None:
        """Put a frame in at the end.  None: it is in; the frame itself: there is no room for it.

        What is not bytes already is copied, and may be changed afterwards.

        Raises CallerError for what is no buffer of bytes.
        """
        try:
            self._frames.put_nowait(
                frame if isinstance(frame, bytes) else view_bytes(frame, "frame").tobytes()
            )
        except queue.Full:
            return frame
        return None

    def pop(self) -> bytes | None:
        """Take the oldest frame; None when there is none."""
        try:
            return self._frames.get_nowait()
        except queue.Empty:
            return None

    def __len__(self) -> int:
        return self._frames.qsize()

    def __bool__(self) -> bool:
        """A queue is a queue, also without frames in it."""
        return True

    @property
    def is_full(self) -> bool:
        """Whether the next push would fail, as far as one can know."""
        return self._frames.qsize() >= self._frames.maxsize

    def __repr__(self) -> str:
        return f"<FrameQueue: {len(self)} of {self.capacity} frames>"


class EgressCounter:
    """Bytes that guests have sent: never smaller than it was.  Any thread may add and look."""

    def __init__(self) -> None:
        self._total = 0
        # Additions of several threads must not mix.  This part of the package has no locks of its own,
        # since nothing in it waits; that of a queue, which is never used as one, is held for one addition.
        self._adding = queue.Queue[int]().mutex

    def add(self, count: int) -> None:
        """Count so many bytes more; CallerError for a negative number."""
        if count < 0:
            raise CallerError(
                f"a counter never goes back: {count} bytes cannot be added",
                argument="count",
                value=count,
                limit=0,
            )
        with self._adding:
            self._total += count

    @property
    def value(self) -> int:
        """Bytes so far."""
        return self._total

    def __repr__(self) -> str:
        return f"<EgressCounter: {self.value} bytes>"


class NetworkFrameQueues:
    """What a guest's network device, its poll loop and its stream threads share.

    capacity     frames of each direction
    guest_wake   wakes the poll loop: frames of the guest are waiting
    host_wake    wakes whoever brings frames to the guest: the stream writer, or a NetworkBackend
    relay_wake   wakes the poll loop: a relay has data

    Without wakes of your own each is a FlagWake, which nobody can wait for; `shared_frame_queues` of
    vmbus.sockets makes real ones.

    Raises CallerError for a capacity of 0.

    >>> queues = NetworkFrameQueues.shared(4)
    >>> queues.guest_to_host.push(b"frame"), queues.guest_to_host.pop()
    (None, b'frame')
    >>> queues.begin_shutdown(); queues.is_shutting_down(), queues.host_wake.woken
    (True, True)
    """

    def __init__(
        self,
        capacity: int = DEFAULT_FRAME_QUEUE_CAPACITY,
        *,
        guest_wake: Wake | None = None,
        host_wake: Wake | None = None,
        relay_wake: Wake | None = None,
    ) -> None:
        self.guest_to_host = FrameQueue(capacity)
        self.host_to_guest = FrameQueue(capacity)
        self.guest_wake: Wake = FlagWake() if guest_wake is None else guest_wake
        self.host_wake: Wake = FlagWake() if host_wake is None else host_wake
        self.relay_wake: Wake = FlagWake() if relay_wake is None else relay_wake
        self._at_shutdown: list[Wake] = []
        self._egress = EgressCounter()
        self._shutting_down = False

    @classmethod
    def shared(cls, capacity: int = DEFAULT_FRAME_QUEUE_CAPACITY) -> NetworkFrameQueues:
        """Queues to be shared: in Python every object can be, so this is the constructor."""
        return cls(capacity)

    def add_egress_bytes(self, count: int) -> None:
        """Count bytes that the guest has sent."""
        self._egress.add(count)

    def egress_bytes(self) -> int:
        """Bytes that the guest has sent so far."""
        return self._egress.value

    def egress_counter(self) -> EgressCounter:
        """The counter itself, for whoever reports it."""
        return self._egress

    def begin_shutdown(self) -> None:
        """Have everybody stop, for good; again is harmless, and wakes again."""
        self._shutting_down = True  # before the wakes, or somebody looks too early and sleeps again
        for wake in (self.guest_wake, self.host_wake, self.relay_wake, *self._at_shutdown):
            wake.wake()

    def is_shutting_down(self) -> bool:
        """Whether everybody is to stop."""
        return self._shutting_down

    def wake_at_shutdown(self, wake: Wake) -> None:
        """Have begin_shutdown wake somebody else too: at once, when it has begun already."""
        self._at_shutdown.append(wake)
        if self._shutting_down:
            wake.wake()

    def forget_at_shutdown(self, wake: Wake) -> None:
        """Take that back."""
        self._at_shutdown.remove(wake)

    def __repr__(self) -> str:
        state = "shutting down, " if self._shutting_down else ""
        return (
            f"<NetworkFrameQueues: {state}{len(self.guest_to_host)} frames from the guest, "
            f"{len(self.host_to_guest)} to it>"
        )
