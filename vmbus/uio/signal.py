"""The signals of a channel that uio_hv_generic has opened.

From the host: /dev/uioN becomes readable with an interrupt, and reading it once makes it silent again.  What is
read, a count, says no more than that.  To the host: the doorbell of the channel.

The device goes when the host revokes it, or when somebody unbinds it.  Reading then fails at once, now and
for ever, and the descriptor stays readable: whoever goes on watching it never sleeps again.

Each open of /dev/uioN counts for itself, so that signals share nothing: one does not take another's interrupt.
The device counts those of its primary channel and its subchannels together.

Only on Linux.  Timeouts are in seconds.

Sources: Linux drivers/uio/uio.c uio_read() and uio_poll(), drivers/uio/uio_hv_generic.c hv_uio_rescind();
epoll(7), eventfd(2).
"""

from __future__ import annotations

import errno
import os
import select
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import NoReturn

from vmbus.channel import LONGEST_SLEEP
from vmbus.errors import CallerError, DeviceError

from .monitor import GONE, Doorbell
from .node import UioNode

__all__ = ["UioSignal"]

#: What is read from the device: a count of 32 bits, whole or not at all.
COUNT_SIZE = 4

#: What one wait can be told of at most: the device, and the waker.
MOST_EVENTS = 2


class UioSignal:
    """One end of the signals between a guest and its host; a Signal.

    node       /dev/uioN, opened for this signal alone
    doorbell   how the host is told, as `doorbell_of` chooses it; None for who only observes, who cannot `notify`

    Both belong to this object from now on, also when it raises.

    `peer_closed` is True from when a `wait` has found the device gone.  That ends one wait, and no other.

    on_revoked   called then, by whoever waits: the memory of the rings is about to be somebody else's

    In a forked child it is closed: a channel is of one process.

    Raises DeviceError when the system refuses, or is not Linux.
    """

    def __init__(self, node: UioNode, doorbell: Doorbell | None = None) -> None:
        self.peer_closed = False
        self.on_revoked: Callable[[], object] = do_nothing
        self._closed = False
        self._waking = threading.Lock()
        self._node = node
        self._told = repr(node)
        held = ExitStack()
        held.callback(node.close)
        if doorbell is not None:
            held.callback(doorbell.close)
        try:
            self._prepare(held)
        except OSError as error:
            held.close()
            raise DeviceError(
                error.errno, f"{self._told}: no signals from this device: {error.strerror}"
            ) from error
        except BaseException:
            held.close()
            raise
        self._ring: Callable[[], object] = refuse_to_tell if doorbell is None else doorbell.ring
        self._release = weakref.finalize(self, held.close)  # also when nobody calls close()
        of_this_process.add(self)

    def _prepare(self, held: ExitStack) -> None:
        if not (hasattr(os, "eventfd") and hasattr(select, "epoll")):
            raise OSError(errno.ENOSYS, "this system has neither eventfd nor epoll, and is no Linux")
        waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        held.callback(os.close, waker)
        self._poller = held.enter_context(select.epoll())
        self._device = self._node.fileno()
        self._poller.register(self._device, select.EPOLLIN)
        # At an edge: the system remembers that it was rung, and nothing has to be read.
        self._poller.register(waker, select.EPOLLIN | select.EPOLLET)
        self._poll: Callable[[float | None, int], list[tuple[int, int]]] = self._poller.poll
        self._wake: Callable[[], object] = partial(os.eventfd_write, waker, 1)

    def notify(self) -> None:
        """Tell the host to look again, as in Signal.

        Raises CallerError without a doorbell, DeviceError when the system refuses to ring it.
        """
        self._ring()

    def wake(self) -> None:
        # The descriptor must not be closed, and be another's, in between.
        with self._waking, suppress(OSError):  # OSError: it was told already
            self._wake()

    def wait(self, timeout: float | None) -> bool:
        """Sleep until there is a reason to look again, as in Signal.

        Raises DeviceError when the device fails in a way that does not mean that it is gone.
        """
        if timeout is None or 0 <= timeout <= LONGEST_SLEEP:
            events = self._poll(timeout, MOST_EVENTS)
        elif timeout > LONGEST_SLEEP:  # epoll counts milliseconds in 31 bits
            self.wait(LONGEST_SLEEP)
            return True  # perhaps for nothing, once a day
        else:
            events = self._poll(0, MOST_EVENTS)
        for descriptor, _ in events:
            if descriptor == self._device:
                self._take_interrupts()
        return bool(events)

    def _take_interrupts(self) -> None:
        """Read what makes the device readable; where it is gone, watch it no more."""
        try:
            gone = not self._node.read(COUNT_SIZE)
        except (BlockingIOError, InterruptedError):
            return  # for nothing: a wait may be
        except OSError as error:
            gone = error.errno in GONE
            if not gone:
                raise DeviceError(error.errno, f"{self._told}: cannot be read: {error.strerror}") from error
        if gone:
            self.peer_closed = True
            self.on_revoked()  # first: an interrupt in between leaves the device to be found gone again
            self._poller.unregister(self._device)

    def fileno(self) -> int:
        """A descriptor that is readable while `wait` would return at once; CallerError when closed."""
        if self._closed:
            refuse_closed()
        return self._poller.fileno()

    def close(self) -> None:
        """Let go of everything, the device too; again is harmless.

        The last to close the device closes its channel, and the host is told by the kernel.
        """
        with self._waking:
            if self._closed:
                return
            self._closed = True
            self._poll = refuse_closed
            self._ring = self._wake = do_nothing
        of_this_process.discard(self)
        self._release()

    def abandon(self) -> None:
        """Close in a forked child, which has copies of all descriptors: the parent's stay as they are."""
        self._waking = threading.Lock()  # whoever held it is not in this process
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return "<UioSignal: closed>"
        return f"<UioSignal: {self._told}{', revoked' if self.peer_closed else ''}>"


#: The signals that a forked child must let go of.
of_this_process: weakref.WeakSet[UioSignal] = weakref.WeakSet()


def abandon_all() -> None:
    """In a forked child: its copies of the device would keep the channel open when the parent closes it."""
    for one in list(of_this_process):
        one.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=abandon_all)


def do_nothing() -> None:
    """In place of what a closed signal would tell."""


def refuse_to_tell() -> NoReturn:
    raise CallerError(
        "this signal has no doorbell: it only observes, and the host is not told of anything",
        argument="doorbell",
        value=None,
        limit="a doorbell",
    )


def refuse_closed(*arguments: object) -> NoReturn:
    raise CallerError("this signal is closed", argument="self", value="closed", limit="open")
