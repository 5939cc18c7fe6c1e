"""The link tells who attached, closed or died, and nothing that comes over it does harm.

Each row of LINK_TABLE has a script: what the other side says, in order, and what is known after it.
The other side of these tests is a bare socket.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from array import array
from typing import Any, NamedTuple

import pytest

from tests.channel.children import PATIENCE, needs_linux
from tests.descriptors import assert_no_more_than, open_descriptors
from tests.known_bugs import known_bug
from vmbus.channel import peer_link
from vmbus.channel.descriptors import Received, close_all, receive_with_descriptors
from vmbus.channel.link_table import LINK_TABLE, LinkAction, LinkEvent, LinkState
from vmbus.channel.peer_link import (
    FLOOD,
    READABLE,
    Life,
    LinkFault,
    PeerLink,
    link_pair,
)
from vmbus.errors import PeerError

pytestmark = needs_linux

ALONE, MET, LEFT, JOINED, OVER = LinkState
HELLO, BYE = 1, 2
US, ANOTHER_OF_US, NOBODY = "us", 0xA07, 0
FIRST, SECOND = 0x1111, 0x2222


class Watched(dict[int, int]):
    """Remembers what is watched."""

    def register(self, fd: int, eventmask: int, /) -> None:
        assert fd not in self
        os.fstat(fd)
        self[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        del self[fd]


class Other:
    """The other side: says what it likes."""

    def __init__(self, own: int, descriptor: int) -> None:
        self.own = own
        self.socket = socket.socket(fileno=descriptor)
        self.lives: list[tuple[socket.socket, socket.socket]] = []

    def send(self, data: bytes, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([data], rights)

    def say(self, kind: int, sender: int, known: int | str) -> None:
        """One message; a hello comes with a descriptor that `die` makes readable."""
        data = struct.pack("<4sIQQ", b"VMBL", kind, sender, self.own if known == US else known)
        if kind == HELLO:
            self.lives.append(socket.socketpair())
            self.send(data, self.lives[-1][1].fileno())
        else:
            self.send(data)

    def heard(self) -> list[tuple[int, int, int]]:
        """All messages that came: kind, sender, known."""
        messages = []
        while True:
            try:
                data, descriptors, _ = receive_with_descriptors(self.socket, 100, 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return messages
            if not data:
                return messages
            assert len(descriptors) == (data[4] == HELLO)
            for descriptor in descriptors:
                assert not os.get_inheritable(descriptor)
                os.close(descriptor)
            magic, kind, sender, known = struct.unpack("<4sIQQ", data)
            assert magic == b"VMBL"
            messages.append((kind, sender, known))

    def die(self) -> None:
        """What the process of the last hello was is no more."""
        self.lives[-1][0].close()

    def close(self) -> None:
        for kept, told in self.lives:
            kept.close()
            told.close()
        self.socket.close()


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def sides(watched, no_descriptor_left):
    """A link that has said nothing yet, and the other side of it."""
    near, far = link_pair()
    link = PeerLink(near, watched)
    other = Other(link.own, far)
    yield link, other
    link.close()
    other.close()
    assert not watched or link.over


def look(link, watched) -> None:
    """What `wait` does when a descriptor is ready."""
    import select

    ready, _, _ = select.select(list(watched), [], [], 0)
    link.handle(ready)


# -- the table -------------------------------------------------------------------------------

HELLO_FIRST = ("say", HELLO, FIRST, NOBODY)
HELLO_SECOND = ("say", HELLO, SECOND, NOBODY)
BYE_FIRST = ("say", BYE, FIRST, NOBODY)
ASTRAY_HELLO = ("say", HELLO, FIRST, ANOTHER_OF_US)
ASTRAY_STRANGER = ("say", HELLO, SECOND, ANOTHER_OF_US)  # of no concern: the queue is read, and that is all
READ = ("read",)
CLOSE = ("close",)

TO_NOBODY, TO_FIRST, TO_SECOND = [(HELLO, NOBODY)], [(HELLO, FIRST)], [(HELLO, SECOND)]


class Script(NamedTuple):
    """What leads to a row's state and then happens, and what is true after all of it was read.

    steps   of the other side, after our greeting
    known   the state
    peer    whom we know
    heard   what the other side has heard from us: kind, and whom it names
    left    messages that are left for our next attachment
    """

    steps: list[tuple[object, ...]]
    known: LinkState
    peer: int
    heard: list[tuple[int, int]]
    left: int = 0


BOTH = TO_NOBODY + TO_FIRST

SCRIPTS = {
    (ALONE, LinkEvent.HELLO): Script([HELLO_FIRST], JOINED, FIRST, BOTH),
    (ALONE, LinkEvent.BYE): Script([BYE_FIRST], OVER, NOBODY, TO_NOBODY),
    (ALONE, LinkEvent.NO_MORE): Script([], ALONE, NOBODY, TO_NOBODY),
    (ALONE, LinkEvent.END): Script([CLOSE], OVER, NOBODY, TO_NOBODY),
    (MET, LinkEvent.HELLO): Script([HELLO_FIRST, HELLO_SECOND], JOINED, SECOND, TO_NOBODY + TO_SECOND),
    (MET, LinkEvent.BYE): Script([HELLO_FIRST, BYE_FIRST], OVER, FIRST, TO_NOBODY),
    (MET, LinkEvent.ASTRAY): Script([HELLO_FIRST, ASTRAY_HELLO], ALONE, NOBODY, TO_NOBODY),
    (MET, LinkEvent.NO_MORE): Script([HELLO_FIRST], JOINED, FIRST, BOTH),
    (MET, LinkEvent.END): Script([HELLO_FIRST, CLOSE], OVER, FIRST, TO_NOBODY),
    (LEFT, LinkEvent.HELLO): Script(
        [HELLO_FIRST, BYE_FIRST, HELLO_SECOND], JOINED, SECOND, TO_NOBODY + TO_SECOND
    ),
    (LEFT, LinkEvent.NO_MORE): Script([HELLO_FIRST, BYE_FIRST], OVER, FIRST, TO_NOBODY),
    (LEFT, LinkEvent.END): Script([HELLO_FIRST, BYE_FIRST, CLOSE], OVER, FIRST, TO_NOBODY),
    (JOINED, LinkEvent.HELLO): Script([HELLO_FIRST, READ, HELLO_SECOND], OVER, FIRST, BOTH, left=1),
    (JOINED, LinkEvent.BYE): Script([HELLO_FIRST, READ, ("say", BYE, FIRST, US)], OVER, FIRST, BOTH),
    (JOINED, LinkEvent.ASTRAY): Script(
        [HELLO_FIRST, READ, ("say", BYE, FIRST, ANOTHER_OF_US)], ALONE, NOBODY, BOTH
    ),
    (JOINED, LinkEvent.NO_MORE): Script([HELLO_FIRST, READ, ASTRAY_STRANGER], JOINED, FIRST, BOTH),
    (JOINED, LinkEvent.GONE): Script([HELLO_FIRST, READ, ("die",)], OVER, FIRST, BOTH),
    (JOINED, LinkEvent.END): Script([HELLO_FIRST, READ, CLOSE], OVER, FIRST, BOTH),
}


def test_every_row_of_the_table_has_its_script():
    assert SCRIPTS.keys() == LINK_TABLE.keys()


@pytest.mark.parametrize("row", SCRIPTS, ids=str)
def test_a_row_leads_to_what_it_says_and_does_it(row, sides, watched, monkeypatch):
    link, other = sides
    script = SCRIPTS[row]
    walked = []
    follow = PeerLink._follow

    def noting(self, event):
        walked.append((self.state, event))
        follow(self, event)

    monkeypatch.setattr(PeerLink, "_follow", noting)
    link.greet()
    heard = []
    for step, *arguments in script.steps:
        if step == "read":
            look(link, watched)
            assert link.state is JOINED
        elif step == "close":
            heard += other.heard()  # or the system forgets what was said before
            other.socket.shutdown(socket.SHUT_WR)
        else:
            getattr(other, step)(*arguments)
    look(link, watched)
    assert row in walked
    assert (link.state, link.peer, link.fault) == (script.known, script.peer, None)
    assert link.over == (script.known is OVER)
    # Whoever sleeps is woken by the link and by the process of the other side, and by nothing once
    # that is gone; what was told already wakes nobody.
    assert len(watched) == {ALONE: 1, JOINED: 2, OVER: 0}[script.known]
    before = dict(watched)
    look(link, watched)
    assert (link.state, watched) == (script.known, before)
    assert [(kind, known) for kind, _, known in heard + other.heard()] == script.heard
    assert waiting_messages(link) == script.left


def waiting_messages(link: PeerLink) -> int:
    """How many messages the link has not taken."""
    count = 0
    while True:
        try:
            if not link._socket.recv(100, socket.MSG_DONTWAIT):
                return count
        except BlockingIOError:
            return count
        count += 1


def test_the_process_that_is_watched_is_the_one_of_the_last_hello(sides, watched):
    link, other = sides
    link.greet()
    for sender in (FIRST, SECOND):
        other.say(HELLO, sender, NOBODY)
    look(link, watched)
    other.lives[0][0].close()
    look(link, watched)
    assert (link.state, link.peer) == (JOINED, SECOND)
    other.die()
    look(link, watched)
    assert link.over


def test_the_table_has_a_reason_in_each_row_and_ends_only_where_it_says_so():
    for (state, event), row in LINK_TABLE.items():
        assert (row.state, row.event) == (state, event) and row.why
        tells = row.action in (LinkAction.STOP, LinkAction.LEAVE)
        assert tells == (row.following is OVER)
        assert row.state is not OVER


IGNORED = {
    "a hello to another of us, before any": ([("say", HELLO, FIRST, ANOTHER_OF_US)], ALONE),
    "a bye to another of us, before any": ([("say", BYE, FIRST, ANOTHER_OF_US)], ALONE),
    "a hello to another of us from a stranger": (
        [HELLO_FIRST, ("say", HELLO, SECOND, ANOTHER_OF_US)],
        JOINED,
    ),
    "a bye to another of us from a stranger": ([HELLO_FIRST, ("say", BYE, SECOND, ANOTHER_OF_US)], JOINED),
    "a late bye of one before": ([HELLO_FIRST, HELLO_SECOND, BYE_FIRST], JOINED),
    "a second bye": ([HELLO_FIRST, BYE_FIRST, BYE_FIRST], OVER),
}


@pytest.mark.parametrize(("script", "known"), IGNORED.values(), ids=IGNORED)
def test_what_is_not_for_this_side_changes_nothing(script, known, sides, watched):
    link, other = sides
    for _, *arguments in script:
        other.say(*arguments)
    link.greet()
    assert (link.state, link.fault) == (known, None)


# -- the conversation ------------------------------------------------------------------------


def test_a_side_that_attaches_first_is_answered_and_nobody_answers_twice(sides, watched):
    link, other = sides
    link.greet()
    assert other.heard() == [(HELLO, link.own, NOBODY)]
    other.say(HELLO, FIRST, NOBODY)
    look(link, watched)
    assert other.heard() == [(HELLO, link.own, FIRST)]
    other.say(HELLO, FIRST, US)
    look(link, watched)
    assert other.heard() == []


def test_a_hello_that_knows_us_is_not_answered(sides, watched):
    link, other = sides
    link.greet()
    other.heard()
    other.say(HELLO, FIRST, US)
    look(link, watched)
    assert (link.state, other.heard()) == (JOINED, [])


def test_a_side_that_attaches_second_says_one_hello_that_names_the_first(sides):
    link, other = sides
    other.say(HELLO, FIRST, NOBODY)
    link.greet()
    assert (link.state, other.heard()) == (JOINED, [(HELLO, link.own, FIRST)])


def test_only_the_last_of_a_queue_is_answered(sides, watched):
    link, other = sides
    link.greet()
    other.heard()
    for number in range(1, 40):
        other.say(HELLO, number, NOBODY)
        other.say(BYE, number, NOBODY)
    other.say(HELLO, FIRST, NOBODY)
    look(link, watched)
    assert (link.state, other.heard()) == (JOINED, [(HELLO, link.own, FIRST)])


def test_closing_says_goodbye_to_the_one_that_is_there(sides):
    link, other = sides
    other.say(HELLO, FIRST, NOBODY)
    link.greet()
    other.heard()
    link.close()
    link.close()
    assert other.heard() == [(BYE, link.own, FIRST)]


def test_closing_says_goodbye_to_one_that_attached_and_was_never_noticed(sides):
    link, other = sides
    link.greet()
    other.heard()
    other.say(HELLO, FIRST, NOBODY)
    link.close()
    assert other.heard()[-1] == (BYE, link.own, FIRST)


def test_one_that_turned_out_to_be_anothers_is_known_no_more(sides):
    link, other = sides
    other.say(HELLO, FIRST, NOBODY)
    other.say(HELLO, FIRST, ANOTHER_OF_US)
    link.greet()
    link.close()
    assert other.heard() == [(HELLO, link.own, NOBODY), (BYE, link.own, NOBODY)]


def test_a_link_that_never_said_hello_does_not_say_goodbye(sides):
    link, other = sides
    link.close()
    assert other.heard() == []


def test_an_abandoned_link_says_nothing_and_leaves_what_watches_alone(sides, watched):
    link, other = sides
    link.greet()
    other.say(HELLO, FIRST, US)
    look(link, watched)
    other.heard()
    before = dict(watched)
    assert len(before) == 2
    link.abandon()
    assert (other.heard(), watched) == ([], before)
    watched.clear()


def test_a_hello_after_the_end_is_left_for_the_next_attachment(watched, no_descriptor_left):
    near, far = link_pair()
    again = os.dup(near)
    link = PeerLink(near, watched)
    other = Other(link.own, far)
    link.greet()
    other.say(HELLO, FIRST, NOBODY)
    look(link, watched)
    other.say(HELLO, SECOND, NOBODY)
    look(link, watched)
    assert link.state is OVER
    link.close()
    following = PeerLink(again, watched)
    following.greet()
    assert (following.state, following.peer) == (JOINED, SECOND)
    following.close()
    other.close()


@known_bug("B65")
def test_a_goodbye_to_one_that_was_killed_does_not_end_its_successor(watched, no_descriptor_left):
    near, far = link_pair()
    again = os.dup(near)
    killed = PeerLink(near, watched)
    other = Other(killed.own, far)
    killed.greet()
    other.say(HELLO, FIRST, US)
    look(killed, watched)
    killed.abandon()
    watched.clear()
    other.say(BYE, FIRST, US)  # "us" is the one that was killed
    successor = PeerLink(again, watched)
    successor.greet()
    assert successor.state is ALONE
    other.say(HELLO, SECOND, NOBODY)
    look(successor, watched)
    assert (successor.state, successor.peer) == (JOINED, SECOND)
    successor.close()
    other.close()


@known_bug("B65")
def test_a_hello_read_by_one_that_was_killed_is_said_again_to_its_successor(no_descriptor_left):
    near, far = link_pair()
    again = os.dup(near)
    at_near, at_far = Watched(), Watched()
    survivor = PeerLink(far, at_far)
    survivor.greet()
    killed = PeerLink(near, at_near)
    killed.read()  # takes the survivor's hello, and is killed before it says its own
    assert killed.peer == survivor.own
    killed.abandon()
    at_near.clear()
    successor = PeerLink(again, at_near)
    successor.greet()
    look(survivor, at_far)
    look(successor, at_near)
    assert (successor.state, successor.peer) == (JOINED, survivor.own)
    assert (survivor.state, survivor.peer) == (JOINED, successor.own)
    successor.close()
    look(survivor, at_far)
    assert survivor.state is OVER
    survivor.close()


@pytest.mark.parametrize("seed", range(30))
def test_two_sides_find_each_other_whoever_is_killed_in_whatever_order(seed, no_descriptor_left):
    """Attachments come, look, close and are killed at random; in the end two that stay are joined.

    A side that is told that the other is gone attaches again, as a user would.
    """
    draw = random.Random(seed)
    handles = link_pair()
    at: list[Watched] = [Watched(), Watched()]
    links: list[PeerLink | None] = [None, None]

    def attach(side):
        links[side] = PeerLink(os.dup(handles[side]), at[side], life=Life.SOCKETS)
        links[side].greet()

    def end(side, how):
        getattr(links[side], how)()
        at[side].clear()
        links[side] = None

    for _ in range(60):
        side = draw.randrange(2)
        if links[side] is None:
            attach(side)
        else:
            step = draw.choice(["look", "look", "close", "abandon"])
            if step == "look":
                look(links[side], at[side])
            else:
                end(side, step)
    for _ in range(6):  # from here on nobody is killed
        for side in (0, 1):
            if links[side] is None:
                attach(side)
            look(links[side], at[side])
            if links[side].over:
                end(side, "close")
    assert [link and link.state for link in links] == [JOINED, JOINED]
    assert links[0].peer == links[1].own and links[1].peer == links[0].own
    for side in (0, 1):
        end(side, "close")
        os.close(handles[side])


# -- what a hostile other side may try ---------------------------------------------------------

GOOD = struct.pack("<4sIQQ", b"VMBL", HELLO, FIRST, 0)
JUNK = {
    "one byte": b"\0",
    "one byte less": GOOD[:-1],
    "one byte more": GOOD + b"\0",
    "much": bytes(10_000),
    "another magic": b"VMBX" + GOOD[4:],
    "kind 0": struct.pack("<4sIQQ", b"VMBL", 0, FIRST, 0),
    "kind 3": struct.pack("<4sIQQ", b"VMBL", 3, FIRST, 0),
    "from nobody": struct.pack("<4sIQQ", b"VMBL", HELLO, 0, 0),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("hello", ["none", "read", "unread", "taken back"])
def test_junk_on_the_link_counts_as_the_end_of_the_other_side(junk, hello, sides, watched, caplog):
    link, other = sides
    link.greet()
    if hello != "none":
        other.say(HELLO, FIRST, NOBODY)
    if hello == "read":
        look(link, watched)
    if hello == "taken back":
        other.say(BYE, FIRST, NOBODY)
    other.send(junk)
    look(link, watched)
    assert (link.state, link.over, watched) == (OVER, True, {})
    assert isinstance(link.fault, PeerError)
    assert link.fault.kind is LinkFault.MALFORMED_MESSAGE
    assert len(caplog.records) == 1
    assert waiting_messages(link) == 0  # or it would be the end of our next attachment too


def test_a_message_without_bytes_counts_as_the_end(sides, watched):
    link, other = sides
    link.greet()
    other.send(b"")
    look(link, watched)
    assert link.over


@pytest.mark.parametrize("seed", range(20))
def test_no_bytes_with_any_descriptors_make_the_link_raise_wait_or_keep_one(seed, sides, watched):
    draw = random.Random(seed)
    link, other = sides
    link.greet()
    before = open_descriptors()
    spare = [os.open(os.devnull, os.O_RDONLY), *os.pipe(), os.dup(other.socket.fileno())]
    for _ in range(30):
        data = draw.choice([GOOD, *JUNK.values(), draw.randbytes(24), b""])
        if draw.random() < 0.5:
            data = struct.pack(
                "<4sIQQ", b"VMBL", draw.choice([1, 2]), draw.choice([1, 2]), draw.choice([0, link.own, 9])
            )
        other.send(data, *draw.choices(spare, k=draw.randrange(6)))
    for _ in range(31):
        look(link, watched)
    for descriptor in spare:
        os.close(descriptor)
    if watched:  # the link itself, and at most one life
        assert open_descriptors() - before == len(watched) - 1


def test_a_descriptor_that_cannot_be_watched_counts_as_the_end(no_descriptor_left):
    import select

    near, far = link_pair()
    with select.epoll() as watching, open(os.devnull, "rb") as null, open(__file__, "rb") as regular:
        link = PeerLink(near, watching)
        other = Other(link.own, far)
        link.greet()
        other.send(GOOD, regular.fileno(), null.fileno())
        watching.poll(0)
        link.read()
        assert (link.over, link.state) == (True, OVER)
        assert link.fault is not None and link.fault.kind is LinkFault.BAD_WATCH
        link.close()
        other.close()


def test_more_descriptors_than_one_are_closed(sides, watched):
    link, other = sides
    link.greet()
    before = open_descriptors()
    pipe = os.pipe()
    other.send(GOOD, pipe[0], *[pipe[1]] * 20)
    look(link, watched)
    for descriptor in pipe:
        os.close(descriptor)
    assert link.state is JOINED
    assert open_descriptors() == before + 1


def test_a_hello_without_a_descriptor_is_a_hello(sides, watched):
    link, other = sides
    link.greet()
    other.send(GOOD)
    look(link, watched)
    assert (link.state, len(watched)) == (JOINED, 1)


def test_a_full_link_makes_nobody_wait(sides):
    link, other = sides
    other.socket.setblocking(True)
    while True:
        try:
            link._socket.send(GOOD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    link._socket.setblocking(True)  # as the other side could have made it
    link.greet()
    link.close()


def test_messages_without_end_are_given_up(sides, watched, monkeypatch):
    link, _ = sides
    link.greet()
    data = [GOOD] * (FLOOD + 10)
    monkeypatch.setattr(PeerLink, "_read_one", lambda self: bool(data.pop()))
    link.read()
    assert link.over and len(data) == 10
    assert link.fault is not None and link.fault.kind is LinkFault.FLOODED


def test_watching_a_link_means_to_wait_for_reading(sides, watched):
    assert not sides[0].over
    assert list(watched.values()) == [READABLE]


def test_where_there_is_no_pidfd_the_end_of_a_socket_pair_tells(monkeypatch, watched, no_descriptor_left):
    monkeypatch.delattr(os, "pidfd_open")
    near, far = link_pair()
    one, other = PeerLink(near, watched), PeerLink(far, Watched())
    other.greet()
    one.greet()
    assert (one.state, len(watched)) == (JOINED, 2)
    look(one, watched)
    assert one.state is JOINED
    other.abandon()  # as if it had been killed: it says nothing
    one.handle([descriptor for descriptor in watched if descriptor != near])
    assert one.state is OVER
    one.close()


def test_a_system_that_refuses_a_pidfd_is_asked_once_and_sockets_serve(
    monkeypatch, watched, no_descriptor_left
):
    def refuse(*arguments):
        raise OSError(38, "not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    near, far = link_pair()
    link = PeerLink(near, watched)
    link.greet()
    link.close()
    os.close(far)
    near, far = link_pair()
    with pytest.raises(OSError, match="not here"):
        PeerLink(near, watched, life=Life.PIDFD)
    os.close(far)


def test_a_socket_set_to_linger_is_closed_without_waiting_for_its_data(sides, watched, no_descriptor_left):
    link, other = sides
    link.greet()
    with socket.create_server(("127.0.0.1", 0)) as server:
        lingering = socket.create_connection(server.getsockname())
        there, _ = server.accept()  # who never reads
        with there:
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2 * PATIENCE))
            lingering.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    lingering.send(bytes(65536))
            other.send(struct.pack("<4sIQQ", b"VMBL", 2, 7, 9), lingering.fileno())  # of no concern to us
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2 * PATIENCE))
            os.close(lingering.detach())
            started = time.monotonic()
            look(link, watched)
            assert time.monotonic() - started < PATIENCE


def test_a_pidfd_that_the_system_adds_to_each_message_is_closed(sides, watched):
    link, other = sides
    link.greet()
    pass_pidfd = 76  # SO_PASSPIDFD
    try:
        link._socket.setsockopt(socket.SOL_SOCKET, pass_pidfd, 1)
    except OSError:
        pytest.skip("this system does not add any")
    before = open_descriptors()
    for _ in range(20):
        other.send(struct.pack("<4sIQQ", b"VMBL", 2, 7, 9))
        look(link, watched)
    assert_no_more_than(before)


def test_a_hello_whose_descriptor_did_not_fit_into_this_process_counts_as_the_end(
    sides, watched, monkeypatch
):
    link, other = sides
    link.greet()
    received = peer_link.receive_with_descriptors

    def at_the_limit(*arguments: Any) -> Received:
        data, descriptors, _ = received(*arguments)
        close_all(descriptors)
        return Received(data, [], True)

    monkeypatch.setattr(peer_link, "receive_with_descriptors", at_the_limit)
    other.say(HELLO, FIRST, NOBODY)
    look(link, watched)
    assert link.over
    assert link.fault is not None and link.fault.kind is LinkFault.BAD_WATCH
