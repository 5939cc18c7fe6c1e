"""One direction of a channel: the one step that blocking and asyncio channels share.

A call is an attempt: a function that does all of it at once or raises NotReady.  `look` makes it,
or says that it is time to sleep; who sleeps, and how, is the business of the two kinds of channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from vmbus.errors import CallerError, ChannelClosed, NotReady, PeerClosed, TimedOut, VmbusError

from .readiness import GO_ON, NOT_YET, GoOn, NotYet, ReceiverReadiness, SenderReadiness
from .signal import Signal

__all__ = ["Clock", "Deadline", "Direction", "Ready", "check_timeout"]

Result = TypeVar("Result")
Clock = Callable[[], float]

#: A moment of the clock, or None for never.
Deadline = float | None

#: Says whether an attempt has its result already, without the ring; None for those that never have.
Ready = Callable[[], bool] | None

#: The longest single sleep, in seconds; a longer wait is several.  Systems refuse huge numbers.
LONGEST_SLEEP = 86400.0


class Direction:
    """Receiving or sending, without the sleeping.

    what   what a call of this direction waits for, for the messages
    """

    def __init__(
        self, readiness: ReceiverReadiness | SenderReadiness, signal: Signal, clock: Clock, what: str
    ) -> None:
        self.readiness = readiness
        self.rest = readiness.at_rest
        self.closed = False
        self.signal = signal
        self._clock = clock
        self._what = what
        self.sends = isinstance(readiness, SenderReadiness)

    def interrupted(self, error: BaseException) -> None:
        """An attempt ended with an error: after an interrupt the other side must not sleep on.

        Our own errors say that nothing was committed; any other may have come between a commit and
        its signal.
        """
        if not isinstance(error, VmbusError):
            self.signal.notify()

    def look(
        self, attempt: Callable[[], Result | GoOn], ready: Ready, over: bool, refusal: NotReady | None = None
    ) -> Result | GoOn | NotYet:
        """The attempt's result; GO_ON when there is more to do; NOT_YET when this side may sleep now.

        over      the time is over: raise TimedOut instead of the last two
        refusal   of a try that was just made and is not to be made again

        Raises ChannelClosed; PeerClosed where the attempt can never succeed; what the attempt raises.
        """
        if self.closed:
            raise ChannelClosed("this side has closed the channel")
        if ready is not None and ready():
            return attempt()
        # Known before the look: all that the other side committed before it went is in the ring then.
        peer_closed = self.signal.peer_closed
        if peer_closed and self.sends:
            self._refuse_peer_closed()
        try:
            result = self.readiness.step(attempt, refusal)
        except BaseException as error:
            self.interrupted(error)
            raise
        if result is NOT_YET and peer_closed:
            self._refuse_peer_closed()
        if over and (result is NOT_YET or result is GO_ON):
            if result is GO_ON:
                self.signal.wake()  # there may be more, and nothing is published: look again by itself
            raise TimedOut(f"the time to wait for {self._what} is over")
        return result

    def _refuse_peer_closed(self) -> NoReturn:
        raise PeerClosed(f"the other side has closed the channel or is gone: there will be no {self._what}")

    def deadline(self, timeout: float | None) -> Deadline:
        """The moment at which a wait of `timeout` seconds is over."""
        return None if timeout is None else self._clock() + check_timeout(timeout)

    def is_over(self, deadline: Deadline) -> bool:
        return deadline is not None and self._clock() >= deadline

    def remaining(self, deadline: Deadline) -> float | None:
        """Seconds to sleep until `deadline`, at most a day."""
        return None if deadline is None else min(max(deadline - self._clock(), 0.0), LONGEST_SLEEP)


def check_timeout(timeout: float) -> float:
    """A number of seconds, 0 or more; CallerError for what is none."""
    try:
        if timeout >= 0:  # which not-a-number is not
            return timeout
    except TypeError:
        pass
    raise CallerError(
        f"a timeout is a number of seconds, 0 or more, or None; not {timeout!r}",
        argument="timeout",
        value=timeout,
        limit=0,
    )
