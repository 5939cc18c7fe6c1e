"""A relay between a VMBus byte channel and a vsock stream: what comes on one goes out on the other, both ways.

The channel is what Hyper-V sockets ride on: a guest that knows those on one side, one that knows vsock
on the other.

At most one piece of each direction is held here: a side that does not read stops the other.  The end of
one side's stream is passed on, and the other direction goes on.  When both have ended both are closed.  Where
the stream's other side closes altogether the channel is closed as well: nobody would take what it sends.

A side that breaks off is not taken for one that has ended: what it sent before is passed on, then the
channel's other side gets PeerClosed, and the stream's other side a reset.  That a side has gone after
it had ended its stream is noticed when something is sent to it.

A stream's other side may say that it receives no more, and go on sending.  A channel has no words for
that, so it is not carried over: what the channel's other side sends from then on nobody takes, and it
gets PeerClosed once the other direction has ended too.

For threads here, for tasks in `async_bridge`.  Sizes are in bytes, timeouts in seconds.

Sources: Linux net/vmw_vsock/hyperv_transport.c; OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from vmbus.channel import ByteChannel, check_seconds
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError, TimedOut, VmbusError
from vmbus.virtio import VsockState

from .socket_base import RECEIVE_SIZE, SocketBase
from .vsock import VsockListener, VsockStream

__all__ = ["MOST_BRIDGES", "BridgeEnd", "BridgeResult", "Relay", "Way", "bridge", "serve_bridge"]

log = logging.getLogger("vmbus.sockets")

#: Connections that a service bridges at the same time, unless told.
MOST_BRIDGES = 64

# What a service logs of a connection.
NOT_BRIDGED = "%r: could not be bridged"


class BridgeEnd(Enum):
    """Why a relay is over."""

    ENDED = "both sides have ended their streams"
    CHANNEL_BROKE = "the channel's other side broke off"
    STREAM_BROKE = "the stream's other side broke off"
    STOPPED = "this side has closed one of them"
    TIMED_OUT = "the time was over"


class BridgeResult(NamedTuple):
    """What a relay has done.

    end          why it is over
    to_stream    bytes that went from the channel to the stream
    to_channel   bytes that went from the stream to the channel
    error        what ended it; None where both sides have ended their streams
    """

    end: BridgeEnd
    to_stream: int
    to_channel: int
    error: VmbusError | None = None


class Closes(Protocol):
    """A channel, as far as closing goes."""

    def close(self) -> None: ...


Channel = TypeVar("Channel", bound=Closes)
Stream = TypeVar("Stream", bound=SocketBase[Any])
End_co = TypeVar("End_co", covariant=True)


class Way(Generic[End_co]):
    """One direction.

    source, sink       where its bytes come from, and where they go
    from_end, to_end   what it means when either breaks
    count              bytes so far
    done               whether its stream has ended
    """

    def __init__(self, source: End_co, from_end: BridgeEnd, sink: End_co, to_end: BridgeEnd) -> None:
        self.source = source
        self.from_end = from_end
        self.sink = sink
        self.to_end = to_end
        self.count = 0
        self.done = False


class Relay(Generic[Channel, Stream]):
    """What threads and tasks share: the two ways, who was first to break off, and the end."""

    def __init__(self, channel: Channel, stream: Stream, timeout: float | None) -> None:
        self.channel = channel
        self.stream = stream
        self.to_stream: Way[Channel | Stream] = Way(
            channel, BridgeEnd.CHANNEL_BROKE, stream, BridgeEnd.STREAM_BROKE
        )
        self.to_channel: Way[Channel | Stream] = Way(
            stream, BridgeEnd.STREAM_BROKE, channel, BridgeEnd.CHANNEL_BROKE
        )
        self.end = BridgeEnd.ENDED
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._deadline = None if timeout is None else monotonic() + check_seconds(timeout)

    def remaining(self) -> float | None:
        """Seconds that are left."""
        return None if self._deadline is None else max(self._deadline - monotonic(), 0.0)

    def note_end(self, way: Way[object]) -> None:
        """A way has ended in order.

        Where the stream's other side has closed altogether nobody takes what the channel still sends.
        """
        if way is self.to_channel and not self.to_stream.done and self.stream.state is VsockState.CLOSED:
            self._note(
                way.from_end, PeerClosed(f"{self.stream!r}: the other side has closed it and takes no more")
            )
            self.channel.close()

    def note_lost(self, way: Way[object], error: BaseException) -> None:
        """Nothing more comes on a way, and its stream has not ended: both sides are of no more use."""
        self._note(way.from_end, error)
        self.abort()

    def note_refused(self, way: Way[object], error: BaseException) -> None:
        """Nobody takes any more on a way.  What its sink has sent before, the other way still passes on."""
        way.count += getattr(error, "done", 0)
        self._note(way.to_end, error)
        if not isinstance(error, PeerClosed):
            self.abort()

    def _note(self, end: BridgeEnd, error: BaseException) -> None:
        if isinstance(error, ChannelClosed):
            end = BridgeEnd.STOPPED
        elif isinstance(error, TimedOut):
            end = BridgeEnd.TIMED_OUT
        with self._lock:
            if self.error is None:  # what comes after the first is its consequence
                self.end, self.error = end, error

    def abort(self) -> None:
        """End both ways at once, so that nobody takes it for the end of a stream; from any thread."""
        self.channel.close()
        self.stream.reset()

    def finish(self) -> BridgeResult:
        """Close both; what was done.  Raises what no other side can be blamed for."""
        if self.error is None:
            self.channel.close()
            self.stream.close()
        else:
            self.abort()
        error = self.error
        if error is not None and not isinstance(error, ChannelClosed | PeerClosed | PeerError | TimedOut):
            raise error
        return BridgeResult(self.end, self.to_stream.count, self.to_channel.count, error)


# -- for threads -----------------------------------------------------------------------------


def bridge(channel: ByteChannel, stream: VsockStream, timeout: float | None = None) -> BridgeResult:
    """Relay until both streams have ended, a side breaks off, or this side closes one of the two.

    channel   of Hyper-V sockets, or any other channel of bytes; nobody else uses it meanwhile
    stream    the connection
    timeout   seconds for all of it

    Both are closed when this returns, or raises: an interrupt, what no other side can be blamed for.
    To stop it from another thread close either of the two.

    Raises CallerError, and closes nothing, when one of the two is no channel or stream of bytes.

    >>> from vmbus.channel import connected_channels, local_signals
    >>> from vmbus.sockets import VsockLink
    >>> from vmbus.virtio import connected_vsock
    >>> near, far = (VsockLink(*one) for one in zip(connected_vsock(), local_signals()))
    >>> listener, client = far.listen(1), near.connect
    >>> threading.Thread(target=lambda: client(1).send_end()).start()
    >>> guest, host = connected_channels(kind=ByteChannel)
    >>> guest.send(b"through both")
    >>> guest.send_end()
    >>> bridge(host, listener.accept(5), timeout=5).to_stream
    12
    """
    check_ends(channel, ByteChannel, stream, VsockStream)
    relay = Relay(channel, stream, timeout)
    threads = [
        threading.Thread(target=pass_on, args=(relay, way), name="vmbus bridge", daemon=True)
        for way in (relay.to_stream, relay.to_channel)
    ]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            started.append(thread)
            thread.start()
        for thread in started:
            thread.join()
    except BaseException:
        relay.abort()
        for thread in started:
            await_end(thread)
        raise
    return relay.finish()


def check_ends(channel: object, channel_kind: type, stream: object, stream_kind: type) -> None:
    """Whether each of the two is what it is to be: messages have no place in a stream of bytes."""
    for name, found, kind in (("channel", channel, channel_kind), ("stream", stream, stream_kind)):
        if not isinstance(found, kind):
            raise CallerError(
                f"a bridge is from a channel (the class {channel_kind.__name__}) to a stream (the class "
                f"{stream_kind.__name__}): its {name} cannot be a {type(found).__name__}",
                argument=name,
                value=type(found).__name__,
                limit=kind.__name__,
            )


def await_end(thread: threading.Thread) -> None:
    """Join a thread, unless it never ran, or is just starting: then it finds closed what it is for."""
    with suppress(RuntimeError):
        thread.join()


def pass_on(relay: Relay[ByteChannel, VsockStream], way: Way[ByteChannel | VsockStream]) -> None:
    """One way, in a thread of its own, to its end."""
    source, sink = way.source, way.sink
    while True:
        try:
            data = source.receive(RECEIVE_SIZE, relay.remaining())
        except BaseException as error:  # noqa: BLE001 - it is raised where the threads are joined
            relay.note_lost(way, error)
            return
        try:
            if not data:
                way.done = True  # before the other side can know, and close
                sink.send_end(relay.remaining())
                relay.note_end(way)
                return
            sink.send(data, relay.remaining())
        except BaseException as error:  # noqa: BLE001
            relay.note_refused(way, error)
            return
        way.count += len(data)


def serve_bridge(
    listener: VsockListener[VsockStream],
    connect: Callable[[VsockStream], ByteChannel],
    *,
    most: int = MOST_BRIDGES,
    on_end: Callable[[BridgeResult], object] = lambda result: None,
) -> None:
    """Bridge every connection that is accepted to a channel of its own, until the listener is closed.

    connect   gives the channel for a connection; raises where there is none: the connection is reset
    most      how many there may be at a time; others wait to be accepted
    on_end    called with each result, in a thread of the service

    Returns when the last bridge is over.  Interrupted, or where the system has no more threads, it ends
    them all and raises that.  What `connect` and `on_end` raise is logged, and the service goes on.
    """
    places = threading.Semaphore(most)
    running: dict[threading.Thread, VsockStream] = {}

    def serve_one(stream: VsockStream) -> None:
        try:
            result = bridge(connect(stream), stream)
        except Exception:
            log.exception(NOT_BRIDGED, stream)
            stream.reset()
        else:
            tell(on_end, result, stream)
        finally:
            running.pop(threading.current_thread(), None)
            places.release()

    def accept() -> VsockStream | None:
        places.acquire()
        try:
            return listener.accept()
        except (ChannelClosed, PeerClosed):
            return None

    try:
        while (stream := accept()) is not None:
            thread = threading.Thread(target=serve_one, args=(stream,), name="vmbus bridge", daemon=True)
            running[thread] = stream
            thread.start()
    except BaseException:
        for stream in list(running.values()):
            stream.reset()
        raise
    finally:
        for thread in list(running):
            await_end(thread)


def tell(on_end: Callable[[BridgeResult], object], result: BridgeResult, stream: object) -> None:
    """Call a service's `on_end`, whose failure is its own."""
    try:
        on_end(result)
    except Exception:
        log.exception("%r: on_end has failed after a bridge that is over: %r", stream, result)
