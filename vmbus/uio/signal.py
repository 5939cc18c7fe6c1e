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
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import NoReturn

from vmbus.channel import PolledSignal, add_eventfd_waker, do_nothing
from vmbus.errors import CallerError, DeviceError

from .monitor import GONE, Doorbell
from .node import UioNode

__all__ = ["UioSignal"]

#: What is read from the device: a count of 32 bits, whole or not at all.
COUNT_SIZE = 4


class UioSignal(PolledSignal):
    """One end of the signals between a guest and its host; a Signal.

    node       /dev/uioN, opened for this signal alone
    doorbell   how the host is told, as `doorbell_of` chooses it; None for who only observes, who cannot `notify`

    Both belong to this object from now on, also when it raises.

    `peer_closed` is True from when a `wait` or a `notify` has found the device gone.  That ends one wait, and no other.

    interrupts   how often it has found the device readable so far
    on_revoked   called then, by whoever found it: the memory of the rings is about to be somebody else's

    In a forked child it is closed: a channel is of one process.

    Raises DeviceError when the system refuses, or is not Linux.
    """

    def __init__(self, node: UioNode, doorbell: Doorbell | None = None) -> None:
        super().__init__()
        self.on_revoked: Callable[[], object] = do_nothing
        self.interrupts = 0
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
        self._ring = refuse_to_tell if doorbell is None else doorbell.ring

    def _prepare(self, held: ExitStack) -> None:
        if not (hasattr(os, "eventfd") and hasattr(select, "epoll")):
            raise OSError(errno.ENOSYS, "this system has neither eventfd nor epoll, and is no Linux")
        self._watching = held.enter_context(select.epoll())
        self._device = self._node.fileno()
        self._watching.register(self._device, select.EPOLLIN)
        self._begin(held, self._watching, *add_eventfd_waker(held, self._watching))

    def notify(self) -> None:
        """Tell the host to look again, as in Signal.

        Raises CallerError without a doorbell, DeviceError when the system refuses to ring it.
        """
        if self._ring() is False:
            self._lose()
            self.wake()  # who sleeps is to know as well

    def _handle(self, ready: list[int]) -> None:
        """Read what makes the device readable; where it is gone, watch it no more."""
        try:
            gone = not self._node.read(COUNT_SIZE)
        except (BlockingIOError, InterruptedError):
            return  # for nothing: a wait may be
        except OSError as error:
            gone = error.errno in GONE
            if not gone:
                raise DeviceError(error.errno, f"{self._told}: cannot be read: {error.strerror}") from error
        self.interrupts += 1
        if gone:
            self._lose()  # first: an interrupt in between leaves the device to be found gone again
            with suppress(OSError, ValueError):  # another thread may have been here
                self._watching.unregister(self._device)

    def _lose(self) -> None:
        self.peer_closed = True
        self.on_revoked()

    def __repr__(self) -> str:
        if self._closed:
            return "<UioSignal: closed>"
        return f"<UioSignal: {self._told}{', revoked' if self.peer_closed else ''}>"


def refuse_to_tell() -> NoReturn:
    raise CallerError(
        "this signal has no doorbell: it only observes, and the host is not told of anything",
        argument="doorbell",
        value=None,
        limit="a doorbell",
    )
