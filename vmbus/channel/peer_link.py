"""How one side of a channel between processes learns that the other attached, closed or died.

The two sides hold the ends of one socket pair, the link, which lives as long as the channel between
them: over many attachments, and over the death of either process.  Packets and signals flow
without it; it carries two messages:

    HELLO (sender, known)   I have attached; with it comes a descriptor that turns readable when I am gone
    BYE   (sender, known)   I have closed

`sender` is the generation of an attachment: a random number of 64 bits, never 0.  `known` is the
generation of the other side that the sender has met, 0 for nobody.  The number is needed because a
message waits in the link for whoever attaches next: a goodbye to a process that was killed must not
be taken for one to its successor.

LINK_TABLE (link_table.py) says what each message does.  A whole queue of them is read at once, and the
last word counts: who came and went before anybody looked is history.  Once somebody was told that the
other side is closed or gone, that stays so for this attachment, and the queue is left to the next one.

The descriptor in a HELLO is a pidfd, which the process has opened for itself, so that no other
process with the same number can be meant; where the system has none, it is one end of a socket pair
whose other end closes with the process.  Forked children give up their copies of that other end;
those of a fork that does not go through Python keep it open.

Limits: a message that does not fit into the link is dropped (an unread link holds some hundred), and
each HELLO that nobody has read is a descriptor in flight, of which a user has as many as a process
may open.  A process that replaces itself (exec) without closing counts as alive until it ends.

Whatever the other side sends, nothing here waits and nothing raises: a message that no correct side
sends counts as the end of the other side, and `fault` says what was wrong.

Sources: unix(7), pidfd_open(2), recvmsg(2).
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Container
from contextlib import ExitStack, suppress
from enum import Enum
from typing import NamedTuple, Protocol

from vmbus.errors import PeerError

from .descriptors import (
    AT_ONCE,
    RECEIVE_AT_ONCE,
    Received,
    close_foreign,
    own_socket,
    receive_with_descriptors,
    with_descriptors,
)
from .link_table import LINK_TABLE, LinkAction, LinkEvent, LinkState

__all__ = ["FLOOD", "READABLE", "Life", "LinkFault", "PeerLink", "Watching", "link_pair"]

log = logging.getLogger("vmbus.channel")

#: "Readable", for select.epoll (EPOLLIN) and for selectors (EVENT_READ) alike.
READABLE = 1

#: magic, kind, sender, known
MESSAGE = struct.Struct("<4sIQQ")
MAGIC = b"VMBL"

#: More messages than a link holds: with so many in one reading, somebody sends without end.
FLOOD = 1024


class Kind(Enum):
    """What a message says."""

    HELLO = 1
    BYE = 2


class LinkFault(Enum):
    """What no correct side sends over a link."""

    MALFORMED_MESSAGE = "malformed message"
    BAD_WATCH = "descriptor that cannot be watched"
    FLOODED = "messages without end"


class Life(Enum):
    """What tells the other side that this process has ended."""

    PIDFD = "pidfd"
    SOCKETS = "sockets"


class Message(NamedTuple):
    """One message of the link."""

    kind: Kind
    sender: int
    known: int

    def pack(self) -> bytes:
        return MESSAGE.pack(MAGIC, self.kind.value, self.sender, self.known)

    @classmethod
    def parse(cls, data: bytes) -> Message | None:
        """The message; None for what is none."""
        if len(data) != MESSAGE.size:
            return None
        magic, kind, sender, known = MESSAGE.unpack(data)
        if magic != MAGIC or kind not in (1, 2) or sender == 0:
            return None
        return cls(Kind(kind), sender, known)


class Watching(Protocol):
    """What a link asks of whoever sleeps: to wake when a descriptor is readable."""

    def register(self, fd: int, eventmask: int, /) -> object: ...

    def unregister(self, fd: int, /) -> object: ...


class PeerLink:
    """One attachment's end of the link.

    descriptor   of the link; belongs to this object from now on
    watching     wakes when the link, or the process on the other side, has something to say
    life         how the other side is to watch this process; None chooses

    `over` turns True for good once the other side has closed or is gone; `fault` is then the
    PeerError that says so, where it sent what no correct side sends.

    Not for several threads at once.
    """

    def __init__(self, descriptor: int, watching: Watching, *, life: Life | None = None) -> None:
        self.own = new_generation()
        self.peer = 0
        self.state = LinkState.ALONE
        self.over = False
        self.fault: PeerError | None = None
        self._peer_knows = 0
        self._watching = watching
        self._watched: int | None = None
        self._waits = False  # a message that was looked at is in the queue still
        self._greeted = False
        self._silent = False
        self._closed = False
        self._held = ExitStack()
        self._socket = self._held.enter_context(own_socket(descriptor))
        try:
            self._life = self._open_life(life)
            watching.register(self._socket.fileno(), READABLE)
        except BaseException:
            self._held.close()
            raise

    def _open_life(self, life: Life | None) -> int:
        """The descriptor that tells others of the end of this process."""
        if life is not Life.SOCKETS and hasattr(os, "pidfd_open"):
            try:
                pidfd = os.pidfd_open(os.getpid())
            except OSError:  # an old system, or a sandbox
                if life is Life.PIDFD:
                    raise
            else:
                self._held.callback(os.close, pidfd)
                return pidfd
        kept, told = socket.socketpair()
        self._held.enter_context(kept)
        self._held.enter_context(told)
        return told.fileno()

    def greet(self) -> None:
        """Say that this side has attached: the last step, when all else is ready."""
        self.read()
        self._greeted = True
        if not self.over:
            self._send_hello()

    def handle(self, ready: Container[int]) -> None:
        """Look at what those of the descriptors given to `watching` that are `ready` have to say."""
        if self.over:
            return
        if self._socket.fileno() in ready:
            # The other may be ready too.  It waits its turn: messages say whose end it is.
            self.read()
        elif self._watched is not None and self._watched in ready:
            self._follow(LinkEvent.GONE)

    # -- reading -----------------------------------------------------------------------------

    def read(self) -> None:
        """Read the whole queue, and act on it."""
        for _ in range(FLOOD):
            if self.over or not self._read_one():
                break
        else:
            self._fail(LinkFault.FLOODED, f"more than {FLOOD} messages waited", found=FLOOD)
        if not self.over:
            self._follow(LinkEvent.NO_MORE)

    def _read_one(self) -> bool:
        """Look at the first message of the queue and act on it; False when there is none."""
        try:
            seen = self._socket.recv(MESSAGE.size + 1, RECEIVE_AT_ONCE | socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # the other end was reset or is no socket that can be read: as good as gone
            self._follow(LinkEvent.END)
            return True
        self._waits = True
        message = Message.parse(seen)
        if not seen:
            self._follow(LinkEvent.END)
        elif message is None:
            self._fail(
                LinkFault.MALFORMED_MESSAGE, f"{len(seen)} bytes that are no message: {seen!r}", found=seen
            )
        else:
            if message.sender == self.peer and message.known == self.own:
                self._peer_knows = self.own
            event = self._event_of(message)
            if event is not None:
                self._follow(event)
        close_foreign(self._take().descriptors)
        return True

    def _take(self) -> Received:
        """Take the message that was looked at off the queue: it and its descriptors; once."""
        if not self._waits:
            return NO_MESSAGE
        self._waits = False
        try:
            return receive_with_descriptors(self._socket, MESSAGE.size + 1, 1, RECEIVE_AT_ONCE)
        except OSError:  # somebody else has taken it, or the other end was reset: the next look tells
            return NO_MESSAGE

    def _event_of(self, message: Message) -> LinkEvent | None:
        """What a message means for this side; None for what is of no concern."""
        ours = message.known in (0, self.own)
        if message.sender == self.peer and self.state in (LinkState.MET, LinkState.JOINED):
            if not ours:
                return LinkEvent.ASTRAY
            return LinkEvent.BYE if message.kind is Kind.BYE else None
        if not ours:
            return None
        if message.kind is Kind.HELLO:
            return LinkEvent.HELLO
        return LinkEvent.BYE if self.state is LinkState.ALONE else None

    # -- walking the table -------------------------------------------------------------------

    def _follow(self, event: LinkEvent) -> None:
        row = LINK_TABLE.get((self.state, event))
        if row is not None:
            self.state = row.following  # first: what is done may fail, which is an event of that state
            self._act(row.action)

    def _act(self, action: LinkAction) -> None:
        if action is LinkAction.ADOPT:
            self._adopt()
        elif action is LinkAction.DROP:
            self._drop()
        elif action is LinkAction.ANSWER:
            self._answer()
        elif action is LinkAction.STOP:
            self._stop()
        elif action is LinkAction.LEAVE:
            self._leave()

    def _adopt(self) -> None:
        data, descriptors, cut_off = self._take()
        self._watch(None)
        message = Message.parse(data)
        if message is not None:
            self.peer, self._peer_knows = message.sender, message.known
        for descriptor in descriptors:  # one, or none
            self._watch(descriptor)
        if cut_off and not descriptors:  # its end could never be noticed
            self._fail(
                LinkFault.BAD_WATCH,
                "a descriptor that this process has no room for",
                found="no descriptor",
            )

    def _drop(self) -> None:
        self._watch(None)
        self.peer = 0

    def _answer(self) -> None:
        if self._greeted and self._peer_knows != self.own:
            self._send_hello()

    def _stop(self) -> None:
        self.over = True
        self._watch(None)
        # Or whoever sleeps would be woken by it for ever.
        with suppress(OSError, KeyError, ValueError):
            self._watching.unregister(self._socket.fileno())

    def _leave(self) -> None:
        self._waits = False
        self._stop()

    def _watch(self, descriptor: int | None) -> None:
        """Watch `descriptor`, which is ours from now on, instead of the one before."""
        if self._watched is not None:
            # Before it is closed: the system forgets a descriptor only when all its copies are.
            with suppress(OSError, KeyError, ValueError):
                self._watching.unregister(self._watched)
            close_foreign([self._watched])
            self._watched = None
        if descriptor is None:
            return
        try:
            self._watching.register(descriptor, READABLE)
        except (OSError, ValueError, KeyError) as error:
            close_foreign([descriptor])
            self._fail(
                LinkFault.BAD_WATCH, f"a descriptor to watch that cannot be: {error}", found=str(error)
            )
        else:
            self._watched = descriptor

    def _fail(self, kind: LinkFault, what: str, found: object) -> None:
        self.fault = PeerError(
            f"the other side sent {what}"
            if kind is not LinkFault.FLOODED
            else f"the link is flooded: {what}",
            kind=kind,
            found=found,
            allowed=f"messages of {MESSAGE.size} bytes",
        )
        log.warning("the link to the other side is given up: %s", self.fault)
        self._follow(LinkEvent.END)

    # -- sending -----------------------------------------------------------------------------

    def _send_hello(self) -> None:
        message = [Message(Kind.HELLO, self.own, self.peer).pack()]
        try:
            self._socket.sendmsg(message, with_descriptors([self._life]), AT_ONCE)
        except BlockingIOError:
            pass  # the link is full: whoever reads it will say hello, and is answered
        except OSError:  # too many descriptors in flight, or nobody there
            with suppress(OSError):
                self._socket.sendmsg(message, [], AT_ONCE)

    def close(self) -> None:
        """Say goodbye and let go of everything; again is harmless."""
        if self._closed:
            return
        self._closed = True
        if self._greeted and not self._silent:
            if not self.over:
                self.read()  # who is there now: the goodbye is for that one
            with suppress(OSError):
                self._socket.send(Message(Kind.BYE, self.own, self.peer).pack(), AT_ONCE)
        self.state = LinkState.OVER
        self.over = True
        self._watch(None)
        self._held.close()

    def abandon(self) -> None:
        """Let go of everything without a word: in a forked child, which this attachment is not of."""
        self._silent = True
        # What watches is shared with the process that this one was forked from: leave it alone.
        self._watching = NOBODY
        self.close()

    def __repr__(self) -> str:
        fault = f", {self.fault.kind.value}" if self.fault is not None and self.fault.kind is not None else ""
        return f"<PeerLink: {self.state.value}{fault}>"


class Nobody:
    """Watches nothing."""

    def register(self, fd: int, eventmask: int, /) -> None:
        pass

    def unregister(self, fd: int, /) -> None:
        pass


NOBODY = Nobody()


NO_MESSAGE = Received(b"", [], False)


def new_generation() -> int:
    """A random number that names an attachment: 64 bits, not 0."""
    return int.from_bytes(os.urandom(8), "little") or 1


def link_pair() -> tuple[int, int]:
    """The two descriptors of a new link."""
    try:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # macOS keeps message boundaries only where it tells no end; death is told apart
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return near.detach(), far.detach()
