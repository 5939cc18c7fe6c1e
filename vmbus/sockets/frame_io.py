"""A stream of frames and a pair of frame queues, each way the body of a thread.

The stream is a connected socket, usually a Unix one, whose other end is a virtual machine monitor:
what `read_frames` reads comes from the guest, and what `write_frames` writes goes to it.  The socket
becomes non-blocking; closing it stays the caller's affair.

However one of the two ends, it begins the shutdown of the queues, and so ends the other: no peer that
keeps silent, or does not read, holds up a shutdown.  At a shutdown what the stream still takes at
once is written; frames beyond that are lost.

Source: smolvm smolvm-network, its stream reader and writer.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple, Protocol

from vmbus.errors import CallerError, DeviceError, PeerError
from vmbus.virtio import FrameStreamDecoder, NetworkFrameQueues, encode_frame

from .wakes import PollWake, wake_of

__all__ = ["Sending", "StreamReport", "read_frames", "write_frames", "write_whole"]

#: Bytes that are read at once.
READ_SIZE = 65536


class StreamReport(NamedTuple):
    """How one direction of a stream has ended.

    frames   that went through
    lost     frames that were dropped: read while guest_to_host was full, or, whatever ended the writing,
             the frame that was being written and those that were queued behind it
    error    what ended it; None for a shutdown, and for an end of the stream between two frames
    """

    frames: int
    lost: int
    error: PeerError | OSError | CallerError | None


class Sending(Protocol):
    """What writing asks of a stream."""

    def send(self, data: memoryview, /) -> int:
        """Take some of the bytes, and say how many; BlockingIOError when there is no room now."""
        ...


class CanGoOn(Protocol):
    """Waits until a stream has room again; False: give up."""

    def __call__(self) -> bool: ...


class Watch:
    """Waits for a stream and, beside it, for a wake."""

    def __init__(self, stream: socket.socket, event: int, wake: PollWake) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, event, "stream")
        self._selector.register(wake, selectors.EVENT_READ, "wake")
        self._wake = wake

    def wait(self) -> None:
        """Return when the stream is ready, or somebody woke."""
        for key, _ in self._selector.select():
            if key.data == "wake":
                self._wake.drain()

    def close(self) -> None:
        self._selector.close()


def read_frames(stream: socket.socket, queues: NetworkFrameQueues) -> StreamReport:
    """Put the frames of a stream into `guest_to_host`, until it ends, fails, or a shutdown begins.

    A frame that finds the queue full is dropped.  Returns how it ended; begins the shutdown.
    """
    frames = lost = 0
    error: PeerError | OSError | None = None
    try:
        stream.setblocking(False)
        with told_of_shutdown(queues) as stop, closing(Watch(stream, selectors.EVENT_READ, stop)) as watch:
            decoder = FrameStreamDecoder()
            while not queues.is_shutting_down():
                found = read_some(stream, decoder)
                if found is None:
                    watch.wait()
                    continue
                kept = sum(queues.guest_to_host.push(frame) is None for frame in found)
                frames, lost = frames + kept, lost + len(found) - kept
                if kept:
                    queues.guest_wake.wake()
                if decoder.fault is not None:
                    raise decoder.fault
    except EndOfStream:
        pass
    except (PeerError, OSError) as caught:
        error = caught
    finally:
        queues.begin_shutdown()
    return StreamReport(frames, lost, error)


@contextmanager
def told_of_shutdown(queues: NetworkFrameQueues) -> Iterator[PollWake]:
    """A wake for the time being, which comes when a shutdown begins or has begun."""
    with PollWake() as stop:
        queues.wake_at_shutdown(stop)
        try:
            yield stop
        finally:
            queues.forget_at_shutdown(stop)


class EndOfStream(Exception):
    """The stream has ended between two frames."""


def read_some(stream: socket.socket, decoder: FrameStreamDecoder) -> list[bytes] | None:
    """The frames that one read completes; None when there is nothing to read now.

    Raises EndOfStream, PeerError for what is no stream of frames, OSError.
    """
    try:
        data = stream.recv(READ_SIZE)
    except BlockingIOError:
        return None
    if not data:
        decoder.finish()
        raise EndOfStream
    return decoder.feed(data)


def write_frames(stream: socket.socket, queues: NetworkFrameQueues) -> StreamReport:
    """Put the frames of `host_to_guest` on a stream, until it fails or a shutdown begins.

    At a shutdown what is queued is written first, as long as the stream takes it without waiting.
    Returns how it ended; begins the shutdown.

    Raises CallerError when nobody can wait for the queues' host_wake.
    """
    wake = wake_of(queues, "host_wake")
    waiting = queues.host_to_guest
    frames = unwritten = 0
    error: OSError | CallerError | None = None
    try:
        stream.setblocking(False)
        with closing(Watch(stream, selectors.EVENT_WRITE, wake)) as watch:
            while len(waiting) or not queues.is_shutting_down():
                frame = waiting.pop()
                if frame is None:
                    wake.wait(None)
                    continue
                unwritten = 1
                if not write_whole(stream, encode_frame(frame), CanWait(queues, watch)):
                    break
                frames, unwritten = frames + 1, 0
    except (OSError, CallerError) as caught:
        error = caught
    finally:
        queues.begin_shutdown()
    return StreamReport(frames, unwritten + len(waiting), error)


class CanWait:
    """Waits for room in a stream, as long as no shutdown has begun."""

    def __init__(self, queues: NetworkFrameQueues, watch: Watch) -> None:
        self._queues = queues
        self._watch = watch

    def __call__(self) -> bool:
        if self._queues.is_shutting_down():
            return False
        self._watch.wait()
        return True


def write_whole(stream: Sending, data: bytes, can_go_on: CanGoOn) -> bool:
    """Write all of `data`, however little the stream takes at once; False when that was given up.

    Raises DeviceError when the stream takes nothing, and what the stream raises.
    """
    rest = memoryview(data)
    while rest:
        try:
            count = stream.send(rest)
        except BlockingIOError:
            if not can_go_on():
                return False
            continue
        if not count:
            raise DeviceError(
                errno.EIO, f"the stream takes nothing more, and {len(rest)} of {len(data)} bytes are left"
            )
        rest = rest[count:]
    return True
