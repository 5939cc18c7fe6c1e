"""What every channel is, however it waits: two rings, a signal, and an end.

A channel is deterministic given what it reads: memory, signal and clock are arguments, and it
sleeps through the signal alone.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, NamedTuple

from vmbus.errors import CallerError
from vmbus.ring import IncomingRing, OutgoingRing, is_offset, load_control, used_bytes

from .direction import Clock, Direction, check_seconds
from .signal import Signal
from .works import Trace, Work

__all__ = ["Channel", "Statistics", "check_kind"]

log = logging.getLogger("vmbus.channel")
logging.getLogger("vmbus").addHandler(logging.NullHandler())


class Statistics(NamedTuple):
    """What a channel has done so far.

    signals_after_write   signals that told the other side of packets
    signals_after_read    signals that told it of room
    walked                how often each row of the two readiness tables was gone through, by
                          (state, event) as the tables name them; tries that succeeded at once are
                          not counted
    """

    signals_after_write: int
    signals_after_read: int
    walked: dict[tuple[str, str], int]


class Channel:
    """One side of a channel, before it is known what it carries and how it waits.

    incoming   the ring to receive from; nobody else reads it
    outgoing   the ring to send to; nobody else writes it
    signal     this side's end of the signals
    spin       seconds to go on looking, once a call, before it publishes that it waits; 0 for none.
               Only between processes that run on processors of their own: a thread that spins
               keeps its neighbours from running
    clock      seconds, as time.monotonic counts them
    trace      called with "sent" or "received" and every packet, after the fact; what it raises is
               logged and goes no further.  It must not call the channel
    role       a word for messages: which side this is
    on_close   called once, when the channel is closed and no call is in it any more

    A channel is of one process: in a forked child it is closed.  Every wait takes a timeout in
    seconds (None waits for ever) and ends at once when either side closes.  Several threads, or tasks,
    may send and receive at the same time.

    After any PeerError the channel is of no more use: close it.
    """

    #: Whether this kind sleeps in an event loop, which polls the signal's descriptor.
    needs_descriptor: ClassVar[bool] = False

    _work: Work

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        spin: float = 0.0,
        clock: Clock = monotonic,
        trace: Trace | None = None,
        role: str = "",
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.signal = signal
        self.role = role
        self.spin = check_seconds(spin, "spin")
        self.closed = False
        self._given_up = False
        self._work = self._make_work(trace)
        self._receiving, self._sending = self._make_directions(clock)
        self._on_close = on_close
        of_this_process.add(self)

    def _make_work(self, trace: Trace | None) -> Work:
        """What this kind of channel does with its rings."""
        raise NotImplementedError

    def _make_directions(self, clock: Clock) -> tuple[Direction, Direction]:
        """The two directions, which wait as this kind of channel does: to receive, and to send."""
        raise NotImplementedError

    def _finish_closing(self) -> None:
        """The last step of `close`: no call is in the channel any more."""
        self.signal.close()
        log.debug("channel %s closed", self.role)
        if self._on_close is not None:
            self._on_close()

    @classmethod
    def attachment_options(cls) -> dict[str, Any]:
        """Arguments that are to differ from one attachment of a SharedChannel to the next."""
        return {}

    def give_up(self, because: str) -> None:
        """Touch the rings no more: the other side is gone, and their memory with it.

        because   the message of the PeerClosed that every call ends with from now on

        A call that is at work in another thread is not stopped; one that sleeps ends with its next
        signal.  What was not received is lost.  `close` lets go of the rest.
        """
        self._given_up = True
        for direction in (self._receiving, self._sending):
            direction.give_up(because)

    def abandon(self) -> None:
        """Close without a word: in a forked child, of whose process this attachment is not."""
        self.closed = True
        for direction in (self._receiving, self._sending):
            direction.abandon()

    def fileno(self) -> int:
        """A descriptor to poll: readable when it is time to call `receive` or `send` with timeout 0.

        Call until TimedOut first: only then does the other side know that this one waits.
        Raises CallerError where the signal has none, and when the channel is closed.
        """
        if self.closed:
            raise CallerError(
                "a closed channel has no descriptor", argument="self", value="closed", limit="open"
            )
        return self.signal.fileno()

    @property
    def peer_closed(self) -> bool:
        """True once this side has noticed that the other is closed or gone; packets may still wait."""
        return self.signal.peer_closed

    def statistics(self) -> Statistics:
        """What this channel has done so far."""
        walked = self._receiving.readiness.walked + self._sending.readiness.walked
        return Statistics(
            self._work.signals_after_write,
            self._work.signals_after_read,
            {(state.value, event.value): count for (state, event), count in walked.items()},
        )

    def __repr__(self) -> str:
        role = f"{self.role}, " if self.role else ""
        if self.closed:
            return f"<{type(self).__name__}: {role}closed>"
        if self._given_up:
            return f"<{type(self).__name__}: {role}the other side is gone>"
        directions = (("in", self.incoming, self._receiving), ("out", self.outgoing, self._sending))
        parts = [
            f"{name} {fill(ring)} of {ring.size} bytes, {direction.readiness.state.value}"
            for name, ring, direction in directions
        ]
        peer = "; the other side is closed" if self.peer_closed else ""
        return f"<{type(self).__name__}: {role}{'; '.join(parts)}{peer}>"


def fill(ring: IncomingRing | OutgoingRing) -> str:
    """How many bytes wait in a ring, or that its control page makes no sense."""
    try:
        page = load_control(ring.memory.control)
    except ValueError:  # another thread has closed the channel, and its memory
        return "closed"
    if not (is_offset(ring.size, page.in_offset) and is_offset(ring.size, page.out_offset)):
        return "corrupt"
    return str(used_bytes(ring.size, page.in_offset, page.out_offset))


#: The channels that a forked child must not use: their other users run on in its parent.
of_this_process: weakref.WeakSet[Channel] = weakref.WeakSet()


def abandon_all() -> None:
    for channel in list(of_this_process):
        channel.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)


def check_kind(kind: object) -> None:
    """Raise CallerError for what is no kind of channel."""
    if not (isinstance(kind, type) and issubclass(kind, Channel)):
        raise CallerError(
            f"a kind of channel is a class such as PacketChannel or AsyncByteChannel, not {kind!r}",
            argument="kind",
            value=kind,
            limit="a subclass of Channel",
        )
