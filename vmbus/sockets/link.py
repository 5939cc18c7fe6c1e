"""One side of a vsock device, for threads: connections to it and from it.

There is no thread of its own behind a link: whoever waits takes the packets of all.  So requests, credit
and resets are answered while some call of this side waits; a program that computes for long stretches
runs `serve` in a thread.

Timeouts are in seconds, sizes in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TypeVar, final

from vmbus.channel import LONGEST_SLEEP, Signal, SignalWaiters, check_seconds
from vmbus.errors import ChannelClosed, PeerClosed, PeerError, TimedOut
from vmbus.virtio import (
    ANY_PORT,
    VsockConnection,
    VsockEndpoint,
    VsockMessageConnection,
    VsockStreamConnection,
    VsockType,
)

from .attempts import connecting, give_up_connecting, is_connected, listening, nothing
from .steps import (
    ABANDONED,
    FLUSH_TIMEOUT,
    REMIND_AFTER,
    Attempt,
    Later,
    LinkSteps,
    Remind,
    of_this_process,
)
from .vsock import VsockListener, VsockMessages, VsockStream

__all__ = ["VsockLink"]

Result = TypeVar("Result")


@final
class VsockLink:
    """One side of a vsock device; a context manager that closes it.

    endpoint   its connections, over the queues
    signal     this side's end of the signals
    on_close   called once, when the link is closed and no call is in it any more

    Any number of threads may use its connections and listeners at the same time.

    >>> from vmbus.channel import local_signals
    >>> from vmbus.virtio import connected_vsock
    >>> near, far = (VsockLink(*one) for one in zip(connected_vsock(), local_signals()))
    >>> listener = far.listen(1234)
    >>> threading.Thread(target=lambda: listener.accept(5).send(b"hello")).start()
    >>> near.connect(1234, timeout=5).receive(timeout=5)
    b'hello'
    """

    def __init__(
        self, endpoint: VsockEndpoint, signal: Signal, *, on_close: Callable[[], object] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.signal = signal
        self._on_close = on_close
        self._steps = LinkSteps(endpoint, signal)
        self._waiters = SignalWaiters(signal)
        self._lock = threading.Lock()  # guards the endpoint and its queues; nobody sleeps with it
        self._sleepers = 0
        self._closing = threading.RLock()
        self._finished = False
        of_this_process.add(self)

    # -- connections -------------------------------------------------------------------------

    def listen(self, port: int = ANY_PORT, *, backlog: int = 128) -> VsockListener[VsockStream]:
        """Take connections that carry streams, to a port; by default to one that is free.

        backlog   how many may wait to be accepted; who comes after that is refused

        Raises CallerError when somebody listens there already.
        """
        queue = self.act(listening(self.endpoint, port, VsockType.STREAM, backlog))
        return VsockListener(self, queue, VsockStream)

    def listen_messages(self, port: int = ANY_PORT, *, backlog: int = 128) -> VsockListener[VsockMessages]:
        """Take connections that carry messages; otherwise as `listen`."""
        queue = self.act(listening(self.endpoint, port, VsockType.SEQPACKET, backlog))
        return VsockListener(self, queue, VsockMessages)

    def connect(
        self, port: int, cid: int | None = None, *, local_port: int = ANY_PORT, timeout: float | None = None
    ) -> VsockStream:
        """A connection that carries streams.

        cid          of the other side; None where there is only one
        local_port   this side's port; by default one that is free

        Raises PeerClosed when it is refused, TimedOut when there was no answer.
        """
        connection = self._connect(port, cid, VsockType.STREAM, local_port, timeout)
        assert isinstance(connection, VsockStreamConnection)
        return VsockStream(self, connection)

    def connect_messages(
        self, port: int, cid: int | None = None, *, local_port: int = ANY_PORT, timeout: float | None = None
    ) -> VsockMessages:
        """A connection that carries messages; otherwise as `connect`."""
        connection = self._connect(port, cid, VsockType.SEQPACKET, local_port, timeout)
        assert isinstance(connection, VsockMessageConnection)
        return VsockMessages(self, connection)

    def _connect(
        self, port: int, cid: int | None, kind: VsockType, local_port: int, timeout: float | None
    ) -> VsockConnection:
        check_seconds(0 if timeout is None else timeout)
        connection = self.act(connecting(self.endpoint, port, cid, kind, local_port))
        try:
            self.run(partial(is_connected, connection), timeout, f"{connection}: no answer")
        except BaseException:
            self.act(partial(give_up_connecting, connection))
            raise
        return connection

    def serve(self, timeout: float | None = None) -> None:
        """Answer the other side until either closes, or for `timeout` seconds: for a thread of its own."""
        try:
            self.run(nothing, timeout, "")
        except (ChannelClosed, PeerClosed, TimedOut):
            return

    # -- waiting -----------------------------------------------------------------------------

    def run(
        self, attempt: Attempt[Result], timeout: float | None, what: str, remind: Remind = None
    ) -> Result:
        """The attempt's result, as soon as it has one.

        timeout   seconds; TimedOut, which says `what`, when there is no result then
        remind    what to do every second that it takes
        """
        result = self.try_now(attempt)
        return self._wait(attempt, timeout, what, remind) if result is None else result

    def try_now(self, attempt: Attempt[Result]) -> Result | None:
        """The attempt's result, or None where it would have to wait."""
        steps = self._steps
        with self._lock:
            result = steps.first_try(attempt)
            if steps.moved:
                self._wake_others()
        return result

    def _wait(self, attempt: Attempt[Result], timeout: float | None, what: str, remind: Remind) -> Result:
        deadline = None if timeout is None else monotonic() + check_seconds(timeout)
        reminder = monotonic() + REMIND_AFTER
        while True:
            # Looked at before the step: what comes within the time counts.
            left = None if deadline is None else deadline - monotonic()
            with self._lock:
                wakes = self._waiters.wakes  # before the look, or a signal after it is slept over
                result = self._steps.step(attempt)
                if self._steps.moved:
                    self._wake_others()
                asleep = result is Later.SLEEP and (left is None or left > 0)
                self._sleepers += asleep
            if not isinstance(result, Later):
                return result
            if asleep:
                must_look = remind is not None or self.endpoint.is_closing
                longest = REMIND_AFTER if must_look else LONGEST_SLEEP
                self._sleep(wakes, longest if left is None else min(left, longest))
                if remind is not None and monotonic() >= reminder:
                    self.act(remind)
                    reminder = monotonic() + REMIND_AFTER
            elif left is not None and left <= 0:
                raise TimedOut(f"{what} within {timeout:.3g} s")

    def _sleep(self, wakes: int, timeout: float) -> None:
        try:
            self._waiters.wait(wakes, timeout)
        finally:
            with self._lock:
                self._sleepers -= 1
                if not self._sleepers and not self._steps.closed:
                    self._steps.carrier.stay_awake()

    def _wake_others(self) -> None:
        """Packets have come for others than this thread, perhaps, or something is owed: let them look."""
        self._steps.moved = False
        if self._sleepers:
            self.signal.wake()

    def act(self, action: Callable[[], Result]) -> Result:
        """Do what never waits to the endpoint or one of its connections, and tell the other side."""
        with self._lock:
            try:
                return self._steps.act(action)
            finally:
                if self._steps.moved:
                    self._wake_others()

    def wake(self) -> None:
        """Let all who wait look again."""
        self.signal.wake()

    # -- the end -----------------------------------------------------------------------------

    def close(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Close all connections and listeners, and let go of the device; again is harmless.

        What was sent can still be received by the other side.  `timeout` is for what the queue had no
        room for: the rest of a message, and the ends of streams.

        Not to be called from a signal handler, but when the call that it may have interrupted sleeps.
        """
        check_seconds(timeout)
        with self._closing:
            if self._finished:
                return
            try:
                if not self._steps.closed:
                    self._close_connections(timeout)
            finally:
                with self._lock:
                    self._steps.close()
                self._waiters.close(self._finish_closing)

    def _close_connections(self, timeout: float) -> None:
        with suppress(TimedOut, PeerClosed, ChannelClosed, PeerError):  # nobody takes it
            self.act(self.endpoint.close)
            self.wake()  # whose connections are closed
            self.run(self._is_flushed, timeout, "the other side makes no room")

    def _is_flushed(self) -> bool | None:
        return True if self.endpoint.flush() else None

    def _finish_closing(self) -> None:
        self.signal.close()
        self._finished = True
        if self._on_close is not None:
            self._on_close()

    def abandon(self) -> None:
        """Close without a word: in a forked child, of whose process this link is not."""
        # Whoever held these is not in this process.
        self._lock = threading.Lock()
        self._closing = threading.RLock()
        self._waiters = SignalWaiters(self.signal)
        self._steps.close(ABANDONED)

    def __enter__(self) -> VsockLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VsockLink: {'closed' if self._steps.closed else repr(self.endpoint)}>"
