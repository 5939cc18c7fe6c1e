"""One direction of a channel: the one step that blocking and asyncio channels share.

A call is an attempt: a function that does all of it at once or raises NotReady.  `look` makes it,
or says that it is time to sleep; who sleeps, and how, is the business of the two kinds of channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from vmbus.errors import CallerError, ChannelClosed, NotReady, PeerClosed, TimedOut, VmbusError
from vmbus.ring import IncomingRing, OutgoingRing

from .readiness import GO_ON, NOT_YET, GoOn, NotYet, ReceiverReadiness, SenderReadiness
from .signal import Signal

__all__ = ["LONGEST_SLEEP", "Clock", "Deadline", "Direction", "Ready", "check_seconds"]

Result = TypeVar("Result")
Clock = Callable[[], float]

#: A moment of the clock, or None for never.
Deadline = float | None

#: Says whether an attempt has its result already, without the ring; None for those that never have.
Ready = Callable[[], bool] | None

#: The longest single sleep, in seconds; a longer wait is several.  Systems refuse huge numbers.
LONGEST_SLEEP = 86400.0

CLOSED_HERE = "this side has closed the channel"


class Direction:
    """Receiving or sending, without the sleeping.

    role   which side this is, for the messages
    spin   seconds to go on looking before anything is published; 0 for none
    """

    def __init__(
        self,
        ring: IncomingRing | OutgoingRing,
        signal: Signal,
        *,
        role: str,
        spin: float,
        clock: Clock,
    ) -> None:
        self.sends = isinstance(ring, OutgoingRing)
        self.readiness: ReceiverReadiness | SenderReadiness
        self.readiness = SenderReadiness(ring) if isinstance(ring, OutgoingRing) else ReceiverReadiness(ring)
        self.rest = self.readiness.at_rest
        self.closed = False
        self._closed_because = CLOSED_HERE
        self._ending: type[ChannelClosed | PeerClosed] = ChannelClosed
        self.ring = ring
        self.signal = signal
        self._who = f"{role}: " if role else ""
        self._spin = spin
        self._clock = clock

    def first_try(self, attempt: Callable[[], Result | GoOn]) -> Result | GoOn | NotYet:
        """The attempt, made before anything else where nothing speaks against it; or NOT_YET.

        Most calls need no more.  `readiness.refused` is the attempt when it was made.
        """
        readiness = self.readiness
        readiness.refused = None
        if readiness.state is self.rest and not self.closed and not (self.sends and self.signal.peer_closed):
            try:
                return attempt()
            except NotReady as refusal:
                readiness.note(attempt, refusal)
            except BaseException as error:
                self._tell_after_interrupt(error)
                raise
        return NOT_YET

    def look(
        self, attempt: Callable[[], Result | GoOn], ready: Ready, over: float | None
    ) -> Result | GoOn | NotYet:
        """The attempt's result; GO_ON when there is more to do; NOT_YET when this side may sleep now.

        over   the seconds that the call had, when they are over: raise TimedOut instead of the last two

        Raises ChannelClosed; PeerClosed where the attempt can never succeed; what the attempt raises.
        """
        if self.closed:
            raise self._ending(f"{self._who}{self._closed_because}")
        if ready is not None and ready():
            return attempt()
        # Known before the look: all that the other side committed before it went is in the ring then.
        peer_closed = self.signal.peer_closed
        if peer_closed and self.sends:
            raise PeerClosed(f"{self._who}the other side has closed the channel or is gone: nobody will read")
        try:
            result = self.readiness.step(attempt)
        except BaseException as error:
            self._tell_after_interrupt(error)
            raise
        if result is NOT_YET and peer_closed:
            raise PeerClosed(f"{self._who}the other side has closed the channel or is gone, and all is read")
        if over is not None and (result is NOT_YET or result is GO_ON):
            if result is GO_ON:
                self.signal.wake()  # there may be more, and nothing is published: look again by itself
            raise TimedOut(f"{self._who}{self.readiness.lack()} within {over:.3g} s")
        return result

    def close(self) -> None:
        """Touch the ring no more: this side has closed the channel."""
        self.closed = True
        self._ending = ChannelClosed
        self._closed_because = CLOSED_HERE

    def give_up(self, because: str) -> None:
        """Touch the ring no more: the other side is gone, and the ring's memory with it."""
        self._ending = PeerClosed
        self._closed_because = because
        self.closed = True  # the last: whoever sees it finds why

    def abandon(self) -> None:
        """Touch the ring no more: in a forked child."""
        self.closed = True
        self._closed_because = "this channel is attached in the process that forked this one: attach here"

    def _tell_after_interrupt(self, error: BaseException) -> None:
        """An attempt ended with an error: after an interrupt the other side must not sleep on.

        Our own errors say that nothing was committed; any other may have come between a commit and
        its signal.
        """
        if not isinstance(error, VmbusError):
            self.signal.notify()

    def refuse_turn(self, timeout: float | None) -> NoReturn:
        """The time was over before it was this call's turn."""
        verb = "sends" if self.sends else "receives"
        raise TimedOut(f"{self._who}another call still {verb}, and this one had {timeout:.3g} s")

    def deadline(self, timeout: float | None) -> Deadline:
        """The moment at which a wait of `timeout` seconds is over."""
        return None if timeout is None else self._clock() + check_seconds(timeout)

    def is_over(self, deadline: Deadline) -> bool:
        return deadline is not None and self._clock() >= deadline

    def remaining(self, deadline: Deadline) -> float | None:
        """Seconds to sleep until `deadline`, at most a day; None for ever."""
        return None if deadline is None else min(max(deadline - self._clock(), 0.0), LONGEST_SLEEP)


def check_seconds(seconds: float, name: str = "timeout") -> float:
    """A number of seconds, 0 or more; CallerError, which calls it `name`, for what is none."""
    try:
        if seconds >= 0:  # which not-a-number is not
            return seconds
    except TypeError:
        pass
    raise CallerError(
        f"{name} is a number of seconds, 0 or more{' (or None)' if name == 'timeout' else ''}, not {seconds!r}",
        argument=name,
        value=seconds,
        limit=0,
    )
