"""Two vsock links that face each other in one process, and threads of which one knows that they sleep."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.channel.helpers import PATIENCE, Running
from vmbus.channel import descriptor_signals, local_signals
from vmbus.errors import TimedOut
from vmbus.sockets import AsyncVsockLink, VsockLink, VsockStream
from vmbus.virtio import VirtioFeatures, connected_vsock

__all__ = [
    "FORMATS",
    "PATIENCE",
    "PORT",
    "Running",
    "async_links",
    "await_sleepers",
    "connect",
    "connected_pair",
    "fill",
    "links",
    "quickly",
    "threads_of",
]

PORT = 1234

#: Both queue formats, by name.
FORMATS = {
    "split": VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX,
    "packed": VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX | VirtioFeatures.RING_PACKED,
}

#: Seconds that what is woken may take at most: a nap of the waiters takes one.
QUICK = 0.5


@contextmanager
def links(
    *, signals: Callable[[], tuple[Any, Any]] = local_signals, **options: Any
) -> Iterator[tuple[VsockLink, VsockLink]]:
    """The guest's and the host's link, which are closed at the end; the arguments of `connected_vsock`."""
    near, far = (VsockLink(*one) for one in zip(connected_vsock(**options), signals(), strict=True))
    try:
        yield near, far
    finally:
        near.close(0)
        far.close(0)


@contextmanager
def connected_pair(**options: Any) -> Iterator[tuple[VsockStream, VsockStream]]:
    """The two ends of one stream: the guest's, which has connected, and the host's."""
    with links(**options) as (near, far):
        yield connect(near, far)


def connect(near: VsockLink, far: VsockLink, port: int = PORT, *, messages: bool = False) -> tuple[Any, Any]:
    """One more connection between two links: both ends."""
    listener = far.listen_messages(port) if messages else far.listen(port)
    accepting = Running(listener.accept, PATIENCE)
    make = near.connect_messages if messages else near.connect
    client = make(port, timeout=PATIENCE)
    server = accepting.result()
    listener.close()
    return client, server


def async_links(**options: Any) -> tuple[AsyncVsockLink, AsyncVsockLink]:
    """As `links`, for tasks; to be closed by whoever calls."""
    near, far = connected_vsock(**options)
    near_signal, far_signal = descriptor_signals()
    return AsyncVsockLink(near, near_signal), AsyncVsockLink(far, far_signal)


def await_sleepers(link: VsockLink, count: int) -> None:
    """Return once so many threads sleep in a link, or are about to and would be woken."""
    end = time.monotonic() + PATIENCE
    while link._sleepers < count:
        assert time.monotonic() < end, f"{link._sleepers} of {count} threads sleep"
        os.sched_yield()


def fill(stream: VsockStream) -> int:
    """Send until nothing more is taken: how many bytes."""
    sent = 0
    while True:
        try:
            stream.send(bytes(65536), timeout=0)
            sent += 65536
        except TimedOut as error:
            sent += error.done
            if not error.done:
                return sent


@contextmanager
def quickly(seconds: float = QUICK) -> Iterator[None]:
    """Fails when the block takes longer: somebody was not woken, and looked by himself."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < seconds, f"this took {took:.2f} s"


def threads_of(name: str) -> list[threading.Thread]:
    """The threads of that name."""
    return [thread for thread in threading.enumerate() if thread.name == name]
