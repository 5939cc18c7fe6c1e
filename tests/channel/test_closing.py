"""How a channel ends: from either side, in every kind of wait, and what is still received then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from tests.channel.helpers import (
    PATIENCE,
    CallCounter,
    RecordingSignal,
    Running,
    fill_ring,
    scripted_pair,
    threaded_pair,
)
from tests.helpers import padded, pattern
from tests.known_bugs import known_bug
from tests.no_error import no_error
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel, connected_channels
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.memory import FlatRingMem
from vmbus.ring import OutgoingPacket

KINDS = [PacketChannel, MessageChannel, ByteChannel]


def payload_of(received: Any) -> bytes:
    return getattr(received, "payload", received)


class Wait:
    """One kind of wait: how to bring the guest so far that a call waits, and that call."""

    def __init__(
        self,
        prepare: Callable[[Any], object],
        call: Callable[[Any], object],
        kind: type[Any] = PacketChannel,
    ) -> None:
        self.prepare = prepare
        self.call = call
        self.kind = kind


def nothing(guest: Any) -> None:
    """No preparation."""


def take_all_places(guest: Any) -> None:
    """The one place for a request is taken."""
    with pytest.raises(TimedOut):
        guest.request(b"", timeout=0)


WAITS = {
    "receive": Wait(nothing, lambda guest: guest.receive()),
    "receive_many": Wait(nothing, lambda guest: guest.receive_many()),
    "receive_into": Wait(nothing, lambda guest: guest.receive_into(bytearray(8))),
    "send": Wait(fill_ring, lambda guest: guest.send(bytes(1000))),
    "send_packet": Wait(
        fill_ring, lambda guest: guest.send_packet(OutgoingPacket.in_band(1000), bytes(1000))
    ),
    "complete": Wait(fill_ring, lambda guest: guest.complete(1, bytes(1000))),
    "send_many": Wait(nothing, lambda guest: guest.send_many([bytes(1000)] * 9)),
    "request, for a place": Wait(take_all_places, lambda guest: guest.request(b"")),
    "request, for room": Wait(fill_ring, lambda guest: guest.request(bytes(1000))),
    "request, for its answer": Wait(nothing, lambda guest: guest.request(b"")),
    "message receive": Wait(nothing, lambda guest: guest.receive(), MessageChannel),
    "message receive_into": Wait(nothing, lambda guest: guest.receive_into(bytearray(8)), MessageChannel),
    "message send": Wait(fill_ring, lambda guest: guest.send(bytes(1000)), MessageChannel),
    "bytes receive": Wait(nothing, lambda guest: guest.receive(), ByteChannel),
    "bytes send": Wait(nothing, lambda guest: guest.send(bytes(9000)), ByteChannel),
    "bytes send_end": Wait(
        lambda guest: guest.send(bytes(2000) + bytes(2000)), lambda guest: guest.send_end(), ByteChannel
    ),
}


def waiting(name: str, **options: Any) -> tuple[Any, Any, Running[Any]]:
    """A pair whose guest has a thread that sleeps in that wait."""
    wait = WAITS[name]
    if wait.kind is PacketChannel:
        options["maximum_outstanding"] = 1
    guest, host = threaded_pair(wait.kind, 4096, **options)
    wait.prepare(guest)
    while guest.signal._asleep.acquire(blocking=False):
        """Forget the waits of the preparation."""
    task = Running(wait.call, guest)
    guest.signal.await_sleeper()
    return guest, host, task


@pytest.mark.parametrize("name", WAITS)
def test_a_close_of_this_side_ends_the_wait_with_channel_closed(name):
    guest, _, task = waiting(name)
    guest.close()
    with pytest.raises(ChannelClosed):
        task.result()


@pytest.mark.parametrize("name", WAITS)
def test_a_close_of_the_other_side_ends_the_wait_with_peer_closed(name):
    guest, host, task = waiting(name)
    host.close()
    with pytest.raises(PeerClosed):
        task.result()
    assert guest.peer_closed
    assert not guest.closed


@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("who", ["guest", "host"])
def test_a_close_ends_a_wait_for_a_turn_too(direction, who):
    clock = CallCounter(monotonic)
    guest, host = threaded_pair(size=4096, clock=clock)
    fill_ring(guest)
    guest.signal.await_sleeper()
    call = {
        "receive": lambda: guest.receive(timeout=10 * PATIENCE),
        "send": lambda: guest.send(bytes(1000), timeout=10 * PATIENCE),
    }[direction]
    tasks = [Running(call)]
    guest.signal.await_sleeper()
    tasks += [Running(call), Running(call)]
    for task in tasks[1:]:
        clock.await_calls(task, 2)
    (guest if who == "guest" else host).close()
    for task in tasks:
        with pytest.raises(ChannelClosed if who == "guest" else PeerClosed):
            task.result()


def test_both_directions_end_when_both_sleep():
    guest, host = threaded_pair(size=4096)
    receiver = Running(guest.receive)
    guest.signal.await_sleeper()
    fill_ring(guest)
    sender = Running(guest.send, bytes(1000))
    host.close()
    for task in (receiver, sender):
        with pytest.raises(PeerClosed):
            task.result()


def test_a_batch_ended_by_a_close_says_how_many_were_sent():
    for who, error in (("guest", ChannelClosed), ("host", PeerClosed)):
        pair = scripted_pair()
        pair.guest.signal.while_asleep.append(getattr(pair, who).close)
        with pytest.raises(error) as caught:
            pair.guest.send_many([bytes(1000)] * 9)
        assert caught.value.done == 3


# -- what was sent before ------------------------------------------------------------------------------


@known_bug("B67")
@pytest.mark.parametrize("kind", KINDS)
def test_everything_sent_before_a_close_is_received_after_it(kind):
    guest, host = connected_channels(size=4096, kind=kind)
    for number in range(10):
        guest.send(b"%08d" % number)
    guest.close()
    received = b""
    while len(received) < 80:
        received += payload_of(host.receive(timeout=PATIENCE))
    assert received == b"".join(b"%08d" % number for number in range(10))
    for _ in range(3):
        with pytest.raises(PeerClosed):
            host.receive(timeout=PATIENCE)


@known_bug("B67")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_between_the_last_look_and_the_close_is_received(kind):
    """The receiver has found nothing, and goes to sleep, when both come."""
    pair = scripted_pair(kind)

    def send_and_close() -> None:
        pair.guest.send(b"last one")
        pair.guest.close()

    pair.host.signal.while_asleep.append(send_and_close)
    with no_error("a receive of what was sent before the close"):
        assert payload_of(pair.host.receive()) == b"last one"
    with pytest.raises(PeerClosed):
        pair.host.receive()


@known_bug("B67")
@pytest.mark.parametrize("n", range(12))
def test_a_close_between_any_two_accesses_of_a_receiver_loses_nothing(n):
    out = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(out=out)
    left = [n]

    def act(access: Any) -> None:
        left[0] -= 1
        if left[0] == -1:
            pair.guest.outgoing.memory.after = None
            pair.guest.send(b"last one")
            pair.guest.close()

    out.after = act
    try:
        received = pair.host.receive(timeout=1)
    except TimedOut:  # its time was over before they came
        out.after = None
        if left[0] >= 0:
            return
        received = pair.host.receive(timeout=0)
    assert payload_of(received) == b"last one"
    with pytest.raises(PeerClosed):
        pair.host.receive(timeout=1)


@known_bug("B22")
@pytest.mark.parametrize("kind", KINDS)
def test_after_the_other_sides_close_every_call_ends_at_once_each_time(kind):
    guest, host = connected_channels(size=4096, kind=kind)
    guest.close()
    calls = [
        lambda: host.receive(),
        lambda: host.receive_into(bytearray(8)),
        lambda: host.send(b"to nobody"),
    ]
    for call in calls * 3:
        if call is calls[2]:
            with pytest.raises((PeerClosed, TimedOut)):
                host.receive(timeout=0)  # what a signal says is known once somebody has waited
        with pytest.raises(PeerClosed):
            call()
    assert "the other side is closed" in repr(host)


@known_bug("B22")
@pytest.mark.parametrize("kind", [PacketChannel, MessageChannel])
def test_iteration_ends_at_a_close_of_either_side_and_tries_no_more(kind):
    for who in (0, 1):
        guest, host = pair = threaded_pair(kind, 4096)
        guest.send(b"one-----")
        task = Running(list, host)
        host.signal.await_sleeper()
        pair[who].close()
        assert [payload_of(one) for one in task.result()] == [b"one-----"]


def test_completions_sent_before_a_close_still_answer():
    pair = scripted_pair()

    def answer_and_close() -> None:
        packet = pair.host.receive()
        pair.host.complete(packet.transaction_id, b"answer")
        pair.host.close()

    pair.guest.signal.while_asleep.append(answer_and_close)
    assert pair.guest.request(b"question").payload == padded(b"answer")
    with pytest.raises(PeerClosed):
        pair.guest.request(b"another")
    assert pair.guest.outstanding == 0


# -- close itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_after_close_raises_channel_closed_and_touches_nothing(kind):
    out, back = RecordingMemory(FlatRingMem(4096)), RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(kind, out=out, back=back)
    with pytest.raises(TimedOut):
        pair.guest.receive(timeout=0)  # unmasked
    with pytest.raises(TimedOut):
        for _ in range(10):
            pair.guest.send(bytes(1000), timeout=0)  # and asked for room
    pair.guest.close()
    out.take()
    back.take()
    calls = [
        lambda: pair.guest.receive(),
        lambda: pair.guest.receive(timeout=0),
        lambda: pair.guest.receive_into(bytearray(8)),
        lambda: pair.guest.send(b"late"),
        lambda: pair.guest.send(b"late", timeout=0),
    ]
    if kind is PacketChannel:
        calls += [
            lambda: pair.guest.receive_many(),
            lambda: pair.guest.send_many([b"late"]),
            lambda: pair.guest.request(b"late"),
            lambda: pair.guest.complete(1),
            lambda: pair.guest.send_packet(OutgoingPacket.in_band(0)),
        ]
    if kind is ByteChannel:
        calls.append(lambda: pair.guest.send_end())
    for call in calls:
        with pytest.raises(ChannelClosed):
            call()
    if kind is not ByteChannel:
        assert list(pair.guest) == []
    repr(pair.guest)
    pair.guest.statistics()
    with pytest.raises(CallerError, match="closed channel has no descriptor"):
        pair.guest.fileno()
    assert [*map(str, out.take()), *map(str, back.take())] == []


@pytest.mark.parametrize("kind", KINDS)
def test_close_again_is_harmless_and_with_closes(kind):
    pair = scripted_pair(kind)
    with pair.guest as same:
        assert same is pair.guest
        assert not pair.guest.closed
    assert pair.guest.closed
    pair.guest.close()
    with pair.guest:
        pass
    assert pair.guest.signal.closes == 1
    assert pair.host.signal.closes == 0


def test_with_closes_after_an_error_too():
    pair = scripted_pair()
    with pytest.raises(ZeroDivisionError), pair.guest:
        raise ZeroDivisionError
    assert pair.guest.closed


def test_both_sides_may_close_in_any_order():
    for order in ((0, 1), (1, 0), (0, 1, 0), (1, 0, 1)):
        pair = connected_channels()
        for who in order:
            pair[who].close()


def test_on_close_is_called_once_after_the_signal_is_closed():
    calls = []
    guest, _ = threaded_pair(on_close=lambda: calls.append(guest.signal.closes))
    assert calls == []
    guest.close()
    guest.close()
    assert calls == [1]


@pytest.mark.parametrize("name", ["receive", "send", "request, for its answer", "bytes send"])
def test_on_close_is_called_once_when_nobody_is_inside_any_more(name):
    called = threading.Event()
    inside: list[int] = []

    def on_close() -> None:
        inside.append(guest.signal.waiting_now)
        inside.append(guest.signal.closes)
        called.set()

    holder: list[Callable[[], None]] = []
    guest, _, task = waiting(name, on_close=lambda: holder[0]())
    holder.append(on_close)
    guest.close()
    with pytest.raises(ChannelClosed):
        task.result()
    assert called.wait(PATIENCE)
    assert inside[:2] == [0, 1], "somebody still waits, or the signal is still open"


def test_many_threads_that_close_at_once_close_once():
    for _ in range(50):
        calls: list[bool] = []
        guest, _ = threaded_pair(on_close=lambda calls=calls: calls.append(True))
        start = threading.Barrier(4)

        def close(guest: Any = guest, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            guest.close()

        for task in [Running(close) for _ in range(4)]:
            task.result()
        assert calls == [True]
        assert guest.signal.closes == 1


def test_a_close_waits_for_a_call_that_is_at_work_in_the_ring():
    """A trace that blocks keeps a send inside; the close returns when it has left."""
    entered, leave, order = threading.Event(), threading.Event(), []

    def trace(what: str, packet: Any) -> None:
        entered.set()
        assert leave.wait(PATIENCE)
        order.append("left")

    guest, host = threaded_pair(trace=trace, on_close=lambda: order.append("closed"))
    sender = Running(guest.send, b"packet")
    assert entered.wait(PATIENCE)
    closer = Running(guest.close)
    assert order == []
    leave.set()
    sender.result()
    closer.result()
    assert order == ["left", "closed"]
    assert host.receive(timeout=PATIENCE).payload == padded(b"packet")


def test_a_close_does_not_wait_for_the_other_side():
    guest, host = threaded_pair(size=4096)
    fill_ring(guest)
    guest.close()
    host.close()


@pytest.mark.parametrize("kind", KINDS)
def test_repr_says_role_fill_and_state_in_every_state(kind):
    pair = scripted_pair(kind)
    name = kind.__name__
    assert repr(pair.guest) == f"<{name}: guest, in 0 of 4096 bytes, masked; out 0 of 4096 bytes, free>"
    with pytest.raises(TimedOut):
        pair.guest.receive(timeout=0)
    with pytest.raises(TimedOut):
        for _ in range(10):
            pair.guest.send(bytes(1000), timeout=0)
    assert "unmasked" in repr(pair.guest)
    assert "asked" in repr(pair.guest).rpartition(";")[2]
    pair.host.close()
    assert repr(pair.guest).endswith("; the other side is closed>")
    pair.out.control[0] = 4095
    assert "out corrupt" in repr(pair.guest)
    pair.guest.close()
    assert repr(pair.guest) == f"<{name}: guest, closed>"


def test_a_close_is_a_line_of_the_debug_log_and_no_more(caplog):
    caplog.set_level(logging.DEBUG)
    pair = scripted_pair()
    pair.guest.close()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "channel guest closed")
    ]


def test_a_thread_asleep_while_the_signal_is_closed_never_waits_for_it_again():
    """RecordingSignal refuses a wait behind its close, and a close under a wait."""
    for _ in range(20):
        guest, _ = threaded_pair(size=4096)
        tasks = [Running(guest.receive) for _ in range(3)]
        guest.signal.await_sleeper()
        guest.close()
        for task in tasks:
            with pytest.raises(ChannelClosed):
                task.result()
        assert isinstance(guest.signal, RecordingSignal)
        assert guest.signal.closes == 1


def test_pattern_of_a_large_transfer_survives_a_close_right_behind_it():
    guest, host = connected_channels(size=4096, kind=ByteChannel)

    def send() -> None:
        guest.send(pattern(30000), timeout=PATIENCE)
        guest.close()

    sender = Running(send)
    received = b""
    while len(received) < 30000:
        received += host.receive(timeout=PATIENCE)
    sender.result()
    assert received == pattern(30000)
    with pytest.raises(PeerClosed):
        host.receive(timeout=PATIENCE)
