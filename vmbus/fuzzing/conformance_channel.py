"""What the two ends of every channel must do, whatever they carry: anything with the methods of PacketChannel,
MessageChannel or ByteChannel.

A call sleeps until it is done, its time is over, or a side closes.  Every wait of a check has a time limit: a channel
that hangs is a finding.  What is asked of one kind alone stands in conformance_kinds.

Sources: OpenVMM vm/devices/vmbus/vmbus_channel; Linux drivers/hv/hv_util.c and net/vmw_vsock/hyperv_transport.c for
what drivers rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from vmbus.errors import ChannelClosed, PeerClosed, TimedOut

from .bounded import Task
from .conformance_report import Mismatch, Subject, checks_of, demand, demand_equal, demand_raises
from .conformance_signal import soon
from .first_call import called, demand_has, two_of
from .trial import pattern

__all__ = ["CHANNEL_CHECKS", "ChannelMaker", "Ends", "carried", "receive_all"]

#: A channel that takes more than this without a receiver knows no back-pressure.
MOST_BYTES = 1 << 23

CHUNK = 1000  # bytes of a payload that fills a ring in some steps
ROUNDS = 200


class Ends(NamedTuple):
    """The two ends of a channel, and what they carry: packets, messages or bytes."""

    near: Any
    far: Any
    carries: str


class ChannelMaker(Subject):
    """What is tested: how to make the two ends of one channel.

    patience   seconds in which everything that should happen has happened
    """

    def __init__(self, make: Callable[[], tuple[Any, Any]], carries: str, patience: float) -> None:
        super().__init__()
        self._make = make
        self.carries = carries
        self.patience = patience

    def try_out(self) -> None:
        made = called("make_pair()", "a pair of channels", self._make)
        for end in two_of(made, "make_pair()", "a pair of channels"):
            self.keep(end)
            demand_has(end, ("send", "receive", "close"), "make_pair()", "a pair of channels")

    def make(self) -> Ends:
        near, far = self._make()
        self.keep(near)
        self.keep(far)
        return Ends(near, far, self.carries)


def carried(carries: str, payloads: Sequence[bytes]) -> list[bytes]:
    """How payloads come out: packets are padded to a multiple of 8, bytes are one stream."""
    if carries == "packets":
        return [payload + bytes(-len(payload) % 8) for payload in payloads]
    return [b"".join(payloads)] if carries == "bytes" else list(payloads)


def receive_all(ends: Ends, end: Any, payloads: Sequence[bytes], timeout: float) -> list[bytes]:
    """Receive what stands for these payloads; a short list where they end or time is over."""
    found: list[bytes] = []
    wanted = sum(map(len, payloads)) if ends.carries == "bytes" else len(payloads)
    while (sum(map(len, found)) if ends.carries == "bytes" else len(found)) < wanted:
        try:
            received = end.receive(timeout=timeout)
        except (TimedOut, PeerClosed):
            break
        payload = getattr(received, "payload", received)
        if ends.carries == "bytes" and not payload:
            break
        found.append(payload)
    return [b"".join(found)] if ends.carries == "bytes" else found


def demand_arrives(ends: Ends, end: Any, payloads: Sequence[bytes], patience: float, what: str) -> None:
    task = Task(lambda: receive_all(ends, end, payloads, patience))
    found = soon(task, 3 * patience, f"an end of receive({patience:g})")
    wanted = carried(ends.carries, payloads)
    if found != wanted:
        raise Mismatch(f"{what}: {described(wanted)}", described(found))


def described(payloads: Sequence[bytes]) -> str:
    """Payloads for a message: how many, how long, and how they begin."""
    lengths = ", ".join(str(len(payload)) for payload in payloads[:10])
    first = payloads[0][:16].hex(" ") if payloads else ""
    return f"{len(payloads)} of {lengths}{', ...' if len(payloads) > 10 else ''} bytes, the first {first}"


def fill(end: Any) -> list[bytes]:
    """Send until nothing more is taken: what was sent, by a channel of packets or messages."""
    sent: list[bytes] = []
    total = 0
    while total <= MOST_BYTES:
        payload = pattern(CHUNK, len(sent) % 50)
        try:
            end.send(payload, timeout=0)
        except TimedOut as error:
            sent.append(payload[: error.done])  # of bytes, part of them may have gone
            return [one for one in sent if one]
        sent.append(payload)
        total += CHUNK
    raise Mismatch("TimedOut from a send that nobody receives", f"{total} bytes taken")


def sleeping(function: Callable[[], Any]) -> Task[Any]:
    """A call that will wait, in a thread that has had time to fall asleep in it."""
    task = Task(function)
    task.has_ended(0.005)
    return task


# -- the checks ------------------------------------------------------------------------------------


def payloads_arrive_in_order(channels: ChannelMaker) -> None:
    """What one end sends the other receives, whole and in order, both ways."""
    ends = channels.make()
    payloads = [pattern(length, length) for length in (1, 7, 8, 9, 64, 100, 1000)]
    for one, other in ((ends.near, ends.far), (ends.far, ends.near)):
        for payload in payloads:
            one.send(payload, timeout=channels.patience)
        demand_arrives(ends, other, payloads, channels.patience, "what was sent")


def empty_wait_ends_in_time(channels: ChannelMaker) -> None:
    """With nothing to receive, receive raises TimedOut when its time is over, and not before."""
    ends = channels.make()
    for timeout in (0, 0.02):
        started = monotonic()
        with demand_raises(TimedOut, f"receive(timeout={timeout}) of nothing"):
            soon(Task(partial(ends.far.receive, timeout=timeout)), channels.patience, "an end of receive")
        demand(monotonic() - started >= timeout / 2, f"TimedOut after {timeout} seconds", "too early")
    ends.near.send(b"then one", timeout=channels.patience)
    demand_arrives(ends, ends.far, [b"then one"], channels.patience, "what is sent afterwards")


def sleeping_receiver_is_woken(channels: ChannelMaker) -> None:
    """A receive that sleeps is woken by what is sent, with a timeout and without."""
    ends = channels.make()
    for timeout in (None, 60 * channels.patience):
        task = sleeping(partial(ends.far.receive, timeout=timeout))
        ends.near.send(b"wake up!", timeout=channels.patience)
        received = soon(task, channels.patience, f"an end of receive({timeout}) by a send")
        demand_equal(getattr(received, "payload", received), b"wake up!", "what it received:")


def full_channel_pushes_back(channels: ChannelMaker) -> None:
    """A send that finds no room is TimedOut and sends nothing; what was sent before arrives; then there is room."""
    ends = channels.make()
    for _ in range(3):
        sent = soon(Task(lambda: fill(ends.near)), 3 * channels.patience, "an end of sends with timeout=0")
        demand(sent, "room for something in an empty channel", "TimedOut")
        demand_arrives(ends, ends.far, sent, channels.patience, "what was sent before it was full")
        with demand_raises(TimedOut, "receive behind all that was sent"):
            ends.far.receive(timeout=0)


def sleeping_sender_is_woken(channels: ChannelMaker) -> None:
    """A send that waits for room is woken by the receiver, and what it sends comes last."""
    ends = channels.make()
    sent = fill(ends.near)
    last = pattern(CHUNK, 77)
    task = sleeping(lambda: ends.near.send(last, timeout=None))
    demand_arrives(ends, ends.far, [*sent, last], channels.patience, "all that was sent")
    soon(task, channels.patience, "an end of the send that waited for room")


def nothing_is_lost_both_ways_at_once(channels: ChannelMaker) -> None:
    """Both ends send more than fits while both receive: all arrives, in order."""
    ends = channels.make()
    payloads = [pattern(1 + number * 37 % 900, number) for number in range(ROUNDS)]

    def send_all(end: Any) -> None:
        for payload in payloads:
            end.send(payload, timeout=channels.patience)

    senders = [Task(partial(send_all, end)) for end in (ends.near, ends.far)]
    receivers = [
        Task(partial(receive_all, ends, end, payloads, channels.patience)) for end in (ends.near, ends.far)
    ]
    for task in receivers:
        found = soon(task, 3 * channels.patience, "an end of the receives")
        wanted = carried(channels.carries, payloads)
        demand(found == wanted, described(wanted), described(found))
    for sender in senders:
        soon(sender, channels.patience, "an end of the sends")


def no_wake_up_is_lost(channels: ChannelMaker) -> None:
    """In a conversation of one question and one answer after the other nobody is ever left sleeping."""
    ends = channels.make()

    def answer() -> None:
        for _ in range(ROUNDS):
            ends.far.receive(timeout=None)
            ends.far.send(b"answer--", timeout=None)

    def ask() -> int:
        for done in range(ROUNDS):
            ends.near.send(b"question", timeout=channels.patience)
            try:
                ends.near.receive(timeout=channels.patience)
            except TimedOut:
                return done
        return ROUNDS

    task = Task(answer)
    demand_equal(soon(Task(ask), 3 * channels.patience, "an end of the questions"), ROUNDS, "rounds:")
    soon(task, channels.patience, "an end of the answers")


def sent_before_a_close_is_received(channels: ChannelMaker) -> None:
    """All that was sent before a close is received behind it, and then PeerClosed, every time."""
    ends = channels.make()
    payloads = [b"%08d" % number for number in range(10)]
    for payload in payloads:
        ends.near.send(payload, timeout=channels.patience)
    ends.near.close()
    demand_arrives(ends, ends.far, payloads, channels.patience, "what was sent before the close")
    for _ in range(2):
        with demand_raises(PeerClosed, "receive behind the last of it"):
            soon(Task(lambda: ends.far.receive(timeout=None)), channels.patience, "an end of receive")
    with demand_raises(PeerClosed, "send to a side that is closed"):
        ends.far.send(b"to nobody", timeout=channels.patience)


def close_ends_the_other_sides_waits(channels: ChannelMaker) -> None:
    """A close ends a receive and a send of the other side that wait, with PeerClosed."""
    ends = channels.make()
    demand_equal(ends.near.peer_closed, False, "peer_closed before the close")
    receive = sleeping(lambda: ends.near.receive(timeout=None))
    fill(ends.near)
    send = sleeping(lambda: ends.near.send(bytes(CHUNK), timeout=None))
    ends.far.close()
    for task, name in ((receive, "receive"), (send, "send")):
        with demand_raises(PeerClosed, f"the {name} that waited"):
            soon(task, channels.patience, f"an end of the {name} that waited, by a close")
    demand_equal(ends.near.peer_closed, True, "peer_closed behind the close")


def close_ends_the_own_waits(channels: ChannelMaker) -> None:
    """A close ends a receive and a send of this side that wait, with ChannelClosed."""
    ends = channels.make()
    receive = sleeping(lambda: ends.near.receive(timeout=None))
    fill(ends.near)
    send = sleeping(lambda: ends.near.send(bytes(CHUNK), timeout=None))
    soon(Task(ends.near.close), channels.patience, "an end of close")
    for task, name in ((receive, "receive"), (send, "send")):
        with demand_raises(ChannelClosed, f"the {name} that waited"):
            soon(task, channels.patience, f"an end of the {name} that waited, by a close")


def closed_channel_refuses_calls(channels: ChannelMaker) -> None:
    """After its close every call of a channel is ChannelClosed; closing again is harmless."""
    ends = channels.make()
    demand_equal(ends.near.closed, False, "closed of an open channel")
    ends.near.close()
    ends.near.close()
    demand_equal(ends.near.closed, True, "closed behind close")
    for timeout in (None, 0):
        with demand_raises(ChannelClosed, "receive from a closed channel"):
            soon(Task(partial(ends.near.receive, timeout=timeout)), channels.patience, "an end of receive")
        with demand_raises(ChannelClosed, "send to a closed channel"):
            soon(Task(partial(ends.near.send, b"late", timeout=timeout)), channels.patience, "an end of send")


def with_statement_closes(channels: ChannelMaker) -> None:
    """In a with statement a channel is itself, and is closed behind it, also by an error that goes on."""
    for error in (None, ZeroDivisionError):
        ends = channels.make()
        came = None
        try:
            with ends.near as same:
                demand(same is ends.near, "the channel itself in a with statement", type(same).__name__)
                demand_equal(ends.near.closed, False, "closed inside of it")
                if error is not None:
                    raise error
        except ZeroDivisionError:
            came = ZeroDivisionError
        demand(came is error, f"{error} behind the with statement", str(came))
        demand_equal(ends.near.closed, True, "closed behind it")
        with demand_raises(PeerClosed, "receive of the other side"):
            ends.far.receive(timeout=channels.patience)


CHANNEL_CHECKS = checks_of(
    payloads_arrive_in_order,
    empty_wait_ends_in_time,
    sleeping_receiver_is_woken,
    full_channel_pushes_back,
    sleeping_sender_is_woken,
    nothing_is_lost_both_ways_at_once,
    no_wake_up_is_lost,
    sent_before_a_close_is_received,
    close_ends_the_other_sides_waits,
    close_ends_the_own_waits,
    closed_channel_refuses_calls,
    with_statement_closes,
)
