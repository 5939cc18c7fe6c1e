"""The one step that blocking and asyncio vsock links share: take what has come, try, and know when to sleep.

A call is an attempt: a function that returns its result, or None where it is too early.  Who sleeps, and
how, is the business of the two kinds of link.

Source: OASIS VIRTIO 1.2, sections 2.7.7 and 5.10.6.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeVar

from vmbus.channel import Signal
from vmbus.errors import ChannelClosed, PeerClosed, PeerError, VmbusError
from vmbus.virtio import VsockEndpoint

__all__ = [
    "ABANDONED",
    "FLUSH_TIMEOUT",
    "REMIND_AFTER",
    "Attempt",
    "Later",
    "LinkSteps",
    "Remind",
    "of_this_process",
]

Result = TypeVar("Result")

#: Returns its result, or None where it is too early.
Attempt = Callable[[], "Result | None"]

#: What to do again and again while a call waits.
Remind = Callable[[], object] | None

#: Seconds between two of these.
REMIND_AFTER = 1.0

#: Seconds that closing a link gives what is still owed to the other side.
FLUSH_TIMEOUT = 1.0

# Why a link is closed.
CLOSED = "this side has closed its end of the vsock device"
ABANDONED = "this vsock link is of the process that forked this one: attach an end here"


class Later(Enum):
    """There is no result yet."""

    AGAIN = "something has moved: look again"
    SLEEP = "nothing has, and the other side will notify"


class LinkSteps:
    """One side of a vsock device, between two sleeps.

    endpoint   its connections
    signal     this side's end of the signals

    `moved` says that packets have come since it was last set to False: others may have got what they
    wait for.  For one thread at a time.
    """

    def __init__(self, endpoint: VsockEndpoint, signal: Signal) -> None:
        self.endpoint = endpoint
        self.signal = signal
        self.carrier = endpoint.carrier
        self._must_notify = endpoint.carrier.must_notify
        self.moved = False
        self.closed = False
        self._closed_because = CLOSED

    def first_try(self, attempt: Attempt[Result]) -> Result | None:
        """The attempt, before anything else, where nothing speaks against it."""
        if self.closed or self.endpoint.error is not None or self.signal.peer_closed:
            return None
        try:
            result = attempt()
            if self.endpoint.owes:
                self.finish()
            elif self._must_notify():
                self.signal.notify()
        except BaseException as error:
            self._settle(error)
            raise
        return result

    def act(self, action: Callable[[], Result]) -> Result:
        """Do what is no attempt, because it never waits."""
        try:
            result = action()
            if not self.closed:
                self.finish()
        except BaseException as error:
            self._settle(error)
            raise
        return result

    def step(self, attempt: Attempt[Result]) -> Result | Later:
        """Take what has come, and try.

        Raises ChannelClosed when this side is closed, PeerClosed and PeerError as the attempt does.
        """
        if self.closed:
            raise ChannelClosed(self._closed_because)
        # Known before the look: all that the other side committed before it went is there then.
        gone = self.signal.peer_closed
        try:
            moved = self._pump()
            if gone and not moved:
                self.endpoint.fail(PeerClosed("the other side of the vsock device has closed it, or is gone"))
            result = attempt()
            self._flush_and_notify()
        except BaseException as error:
            self._settle(error)
            raise
        if result is not None:
            return result
        self.endpoint.check_alive()
        if moved:
            return Later.AGAIN
        ready = self.carrier.prepare_to_sleep()
        # Room may have come that another waits for, who is not notified of what was found here.
        self.moved |= ready
        return Later.AGAIN if ready else Later.SLEEP

    def _pump(self) -> bool:
        try:
            moved = self.endpoint.pump()
        except PeerError as error:
            self.endpoint.fail(error)
            return False
        self.moved |= moved
        return moved

    def finish(self) -> None:
        """What follows on anything that was done outside a step.

        What is owed and has no room now needs somebody who sleeps to ask for it: then `moved` is set.
        """
        self._flush_and_notify()
        self.moved |= self.endpoint.owes

    def _flush_and_notify(self) -> None:
        """Send what is owed, and tell the other side of all that was done if it wants to know."""
        try:
            if self.endpoint.owes:
                self.endpoint.flush()
            if self.carrier.must_notify():
                self.signal.notify()
        except PeerError as error:
            self.endpoint.fail(error)

    def close(self, why: str = CLOSED) -> None:
        """Nothing is done from now on."""
        self.closed = True
        self._closed_because = why
        self.endpoint.fail(ChannelClosed(why))

    def _settle(self, error: BaseException) -> None:
        """After an error: one of ours has come between two packets, and any other may have come in the middle."""
        if not isinstance(error, VmbusError):
            self._end(error)
            return
        try:
            if not self.closed:
                self.finish()
        except BaseException as interrupt:
            self._end(interrupt)
            raise

    def _end(self, error: BaseException) -> None:
        """A signal handler has raised in the middle: something may be half done, so nothing goes on.

        A packet may be taken and not counted, or published and not told: the connections cannot be trusted.
        """
        self.endpoint.fail(ChannelClosed(f"interrupted by {type(error).__name__} while packets were moved"))
        self.signal.notify()


class Abandoned(Protocol):
    """What a forked child must not use."""

    def abandon(self) -> None: ...


#: The links of this process: a forked child must not use them, for their other users run on in its parent.
of_this_process: weakref.WeakSet[Abandoned] = weakref.WeakSet()


def abandon_all() -> None:
    for link in list(of_this_process):
        link.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)
