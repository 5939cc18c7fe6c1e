"""Signals between processes, over descriptors that can be waited for.

To notify is one system call, and so is a wait that ends with a signal.  Where the system has eventfd
and epoll each side has an eventfd, its bell.  It is watched edge-triggered: the system remembers that
it was rung and not how often, and nothing has to be read to silence it.  Elsewhere the bells are a
socket pair, one byte a ring; when it is full somebody has rung already.  Which of the two is chosen
when the bells are made, not when this file is imported.

A link tells of the other side's closing and death (peer_link).

The other side holds the bells too.  With eventfds it can, if it means harm, fill a bell of its own
and make it one that waits, so that `notify` does not return; with sockets it cannot.  This side's own
`wake` does not go over a bell and is safe from it either way.

Timeouts are in seconds.

Sources: eventfd(2), epoll(7), unix(7).
"""

from __future__ import annotations

import os
import select
import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import Enum
from functools import partial

from vmbus.errors import CallerError, DeviceError, PeerError

from .descriptors import AT_ONCE, RECEIVE_AT_ONCE, close_all, own_socket
from .peer_link import READABLE, Life, PeerLink, link_pair
from .polled_signal import PolledSignal, add_eventfd_waker

__all__ = ["Bells", "DescriptorSignal", "bell_pair", "descriptor_signals", "signal_ends", "signal_over"]

#: How much is read to silence a bell of sockets.
RINGS = 4096

RING = b"\0"


class Bells(Enum):
    """What a signal is made of."""

    EVENTFD = "eventfd"
    SOCKETS = "sockets"


def bell_pair(bells: Bells | None = None) -> tuple[list[int], list[int]]:
    """New descriptors for two ends: for each its own bell and the other's, or one for both.

    bells   which kind; None for the best there is
    """
    quick = hasattr(os, "eventfd") and hasattr(select, "epoll")
    if bells is Bells.EVENTFD or (bells is None and quick):
        near, far = new_eventfds()
        return near, far
    one, other = socket.socketpair()
    for end in (one, other):
        end.setblocking(False)
    return [one.detach()], [other.detach()]


def new_eventfds() -> tuple[list[int], list[int]]:
    made: list[int] = []
    try:
        for _ in range(2):
            made.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        for bell in (made[1], made[0]):
            made.append(os.dup(bell))
    except BaseException:
        close_all(made)
        raise
    return made[:2], made[2:]


def signal_ends(bells: Bells | None = None) -> tuple[tuple[list[int], int], tuple[list[int], int]]:
    """New bells and a new link: for each of two ends what a DescriptorSignal is made of.

    Raises DeviceError when the system refuses.
    """
    try:
        near, far = bell_pair(bells)
        try:
            links = link_pair()
        except BaseException:
            close_all([*near, *far])
            raise
    except OSError as error:
        raise DeviceError(error.errno, f"no signals between processes: {error.strerror}") from error
    return (near, links[0]), (far, links[1])


class SelectorPoller:
    """What stands in for epoll: the two bells of sockets, silenced when they have rung."""

    def __init__(self, bell: socket.socket, waker: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        for heard in (bell, waker):
            self._selector.register(heard, READABLE, heard)

    def register(self, fd: int, eventmask: int, /) -> object:
        return self._selector.register(fd, eventmask)

    def unregister(self, fd: int, /) -> object:
        return self._selector.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        found = []
        for key, mask in self._selector.select(timeout):
            if key.data is not None:
                self._silence(key.data)
            found.append((key.fd, mask))
        return found

    def _silence(self, bell: socket.socket) -> None:
        try:
            ended = not bell.recv(RINGS, RECEIVE_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            ended = True
        if ended:  # nobody will ring it any more; the link says what that means
            self._selector.unregister(bell)

    def fileno(self) -> int:
        descriptor = getattr(self._selector, "fileno", None)
        if descriptor is None:
            raise CallerError(
                f"{type(self._selector).__name__} has no descriptor of its own",
                argument="self",
                value=type(self._selector).__name__,
                limit="a selector with a descriptor",
            )
        return int(descriptor())

    def close(self) -> None:
        self._selector.close()


#: What a signal sleeps over, its own bell, and what ends its own wait.
Held = tuple["select.epoll | SelectorPoller", int, Callable[[], object]]


class DescriptorSignal(PolledSignal):
    """One end of the signals between two processes; a Signal.

    bells   the descriptors of one end, from `bell_pair`
    link    the descriptor of one end, from `link_pair`
    life    how the other side is to watch this process; None for the best there is

    The descriptors belong to this object from now on, also when it raises.  Nothing is said to the
    other side before `greet`.

    After the other side's closing has ended one `wait`, it ends no other: `peer_closed` tells.

    In a forked child it is closed: an attachment is of one process.

    Raises DeviceError when the system refuses.
    """

    def __init__(self, bells: Sequence[int], link: int, *, life: Life | None = None) -> None:
        super().__init__()
        held = ExitStack()
        self._held = held
        try:
            try:
                hold = self._hold_eventfds if len(bells) == 2 else self._hold_sockets
                poller, bell, wake = hold(held, *bells)
            except BaseException:
                os.close(link)
                raise
            self._link = PeerLink(link, poller, life=life)
        except OSError as error:
            held.close()
            raise DeviceError(error.errno, f"no signals between processes: {error.strerror}") from error
        except BaseException:
            held.close()
            raise
        held.callback(self._link.close)  # the first to be closed
        self._begin(held, poller, bell, wake)

    def _hold_eventfds(self, held: ExitStack, own: int, peer: int) -> Held:
        held.callback(close_all, [own, peer])
        poller = held.enter_context(select.epoll())
        _, wake = add_eventfd_waker(held, poller)
        poller.register(own, select.EPOLLIN | select.EPOLLET)
        self._ring: Callable[[], object] = partial(os.eventfd_write, peer, 1)
        return poller, own, wake

    def _hold_sockets(self, held: ExitStack, both: int) -> Held:
        bell = held.enter_context(own_socket(both))
        waker, wakes = socket.socketpair()
        for end in (waker, wakes):
            held.enter_context(end)
            end.setblocking(False)
        poller = SelectorPoller(bell, waker)
        held.callback(poller.close)
        self._ring = partial(bell.send, RING, AT_ONCE)
        return poller, bell.fileno(), partial(wakes.send, RING, AT_ONCE)

    @property
    def fault(self) -> PeerError | None:
        """What the other side sent over the link that no correct side sends; it then counts as gone."""
        return self._link.fault

    def greet(self) -> None:
        """Say to the other side that this one has attached."""
        self._link.greet()
        self.peer_closed = self._link.over

    def notify(self) -> None:
        try:  # noqa: SIM105 - quicker than a context manager, and every message comes through here
            self._ring()
        except OSError:
            pass  # rung often enough, or nobody there

    def _handle(self, ready: list[int]) -> None:
        self._link.handle(ready)
        self.peer_closed = self._link.over

    def abandon(self) -> None:
        self._link.abandon()
        super().abandon()

    def __repr__(self) -> str:
        if self._closed:
            return "<DescriptorSignal: closed>"
        return f"<DescriptorSignal: {self._link.state.value}>"


def signal_over(descriptors: Sequence[int], life: Life | None) -> DescriptorSignal:
    """A signal over copies of these: bells, then the link, as `signal_ends` makes them.

    Raises DeviceError when the system refuses.
    """
    own: list[int] = []
    try:
        for descriptor in descriptors:
            own.append(os.dup(descriptor))
    except OSError as error:
        close_all(own)
        raise DeviceError(error.errno, f"no signals between processes: {error.strerror}") from error
    *bells, link = own
    return DescriptorSignal(bells, link, life=life)


def descriptor_signals(
    bells: Bells | None = None, *, life: Life | None = None
) -> tuple[DescriptorSignal, DescriptorSignal]:
    """Two ends over descriptors, both in this process: for event loops, and for tests.

    >>> near, far = descriptor_signals()
    >>> near.notify()
    >>> far.wait(0), far.wait(0)
    (True, False)
    >>> near.close(); far.wait(0), far.peer_closed
    (True, True)
    >>> far.close()
    """
    at_near, at_far = signal_ends(bells)
    try:
        near = DescriptorSignal(*at_near, life=life)
    except BaseException:
        close_all([*at_far[0], at_far[1]])
        raise
    try:
        far = DescriptorSignal(*at_far, life=life)
    except BaseException:
        near.close()
        raise
    near.greet()
    far.greet()
    near.wait(0)  # take the answer, so that nothing is left to be told
    return near, far
