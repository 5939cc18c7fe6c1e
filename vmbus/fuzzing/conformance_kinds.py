"""What is asked of one kind of channel alone: packets, messages or bytes.

What is asked of all of them stands in conformance_channel.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from vmbus.errors import BufferTooSmall, CallerError, PeerClosed, TimedOut
from vmbus.ring import IncomingPacketType, OutgoingPacket

from .bounded import Task
from .conformance_channel import ChannelMaker, receive_all
from .conformance_report import checks_of, demand, demand_equal, demand_raises
from .conformance_signal import soon
from .trial import pattern

__all__ = ["CHECKS_OF_KIND"]

FAR_TOO_LONG = 1 << 24  # bytes that no ring of a test holds


# -- packets and messages --------------------------------------------------------------------------


def too_long_is_the_callers_error(channels: ChannelMaker) -> None:
    """A payload that never fits is a CallerError at once, and nothing of it is sent."""
    ends = channels.make()
    task = Task(lambda: ends.near.send(bytes(FAR_TOO_LONG), timeout=None))
    with demand_raises(CallerError, f"send of {FAR_TOO_LONG} bytes"):
        soon(task, channels.patience, "an end of that send")
    with demand_raises(TimedOut, "receive behind it"):
        ends.far.receive(timeout=0)


def small_buffer_leaves_it(channels: ChannelMaker) -> None:
    """receive_into with too small a buffer says what is needed, and what was sent is received next."""
    ends = channels.make()
    payload = pattern(64)
    ends.near.send(payload, timeout=channels.patience)
    try:
        ends.far.receive_into(bytearray(63), timeout=channels.patience)
    except BufferTooSmall as error:
        demand_equal(error.needed, 64, "BufferTooSmall.needed")
    else:
        demand(False, "BufferTooSmall from a buffer of 63 bytes", "no error")
    buffer = bytearray(80)
    length = ends.far.receive_into(buffer, timeout=channels.patience)
    demand_equal(bytes(buffer[:length]), payload, "what receive_into stores:")


def iteration_ends_at_a_close(channels: ChannelMaker) -> None:
    """Iterating receives what comes, and ends when the other side closes."""
    ends = channels.make()
    for payload in (b"one-----", b"another-"):
        ends.near.send(payload, timeout=channels.patience)
    ends.near.close()
    found = soon(Task(lambda: list(ends.far)), channels.patience, "an end of the iteration")
    payloads = [getattr(one, "payload", one) for one in found]
    demand_equal(payloads, [b"one-----", b"another-"], "what the iteration yields:")


# -- packets ---------------------------------------------------------------------------------------


def packets_keep_what_they_say(channels: ChannelMaker) -> None:
    """Type, transaction id and the wish for a completion arrive with a packet."""
    ends = channels.make()
    ends.near.send(b"plain---", transaction_id=7, timeout=channels.patience)
    ends.near.send(b"", transaction_id=2**64 - 1, completion_requested=True, timeout=channels.patience)
    ends.near.send_packet(
        OutgoingPacket.transfer_pages(3, [], 8, transaction_id=9), b"received", timeout=channels.patience
    )
    ends.near.complete(11, b"done", timeout=channels.patience)
    found = [ends.far.receive(timeout=channels.patience) for _ in range(4)]
    in_band, pages, done = (
        IncomingPacketType.IN_BAND,
        IncomingPacketType.TRANSFER_PAGES,
        IncomingPacketType.COMPLETION,
    )
    wanted = [
        (in_band, 7, False, b"plain---"),
        (in_band, 2**64 - 1, True, b""),
        (pages, 9, True, b"received"),
        (done, 11, False, b"done\0\0\0\0"),
    ]
    seen = [(one.type, one.transaction_id, one.completion_requested, one.payload) for one in found]
    demand_equal(seen, wanted, "packets:")


def request_gets_its_completion(channels: ChannelMaker) -> None:
    """A request returns its own completion, whatever else comes first, and the rest stays for receive."""
    ends = channels.make()

    def answer() -> None:
        question = ends.far.receive(timeout=channels.patience)
        ends.far.send(b"a notice", timeout=channels.patience)
        ends.far.complete(question.transaction_id + 1, b"of nobody", timeout=channels.patience)
        ends.far.complete(question.transaction_id, question.payload, timeout=channels.patience)

    task = Task(answer)
    asked = Task(lambda: ends.near.request(b"question", timeout=channels.patience))
    answered = soon(asked, 2 * channels.patience, "an end of the request")
    demand_equal(answered.payload, b"question", "the completion of the request:")
    soon(task, channels.patience, "an end of the answer")
    demand_equal(ends.near.receive(timeout=channels.patience).payload, b"a notice", "what receive returns:")


def requests_are_told_apart(channels: ChannelMaker) -> None:
    """Several requests wait at once, and each gets its own completion, in whatever order they come."""
    ends = channels.make()
    names = [b"request%d" % number for number in range(4)]
    tasks = {name: Task(partial(ends.near.request, name, timeout=channels.patience)) for name in names}
    questions = [ends.far.receive(timeout=channels.patience) for _ in names]
    ids = [question.transaction_id for question in questions]
    demand_equal(len(set(ids)), len(ids), "different transaction ids:")
    for question in reversed(questions):
        ends.far.complete(question.transaction_id, question.payload, timeout=channels.patience)
    for name, task in tasks.items():
        demand_equal(soon(task, channels.patience, "an end of each request").payload, name, "its completion:")


def batches_arrive_whole(channels: ChannelMaker) -> None:
    """send_many sends all, also more than the ring holds; receive_many returns what is there, `limit` at most."""
    ends = channels.make()
    payloads = [pattern(8 * (number % 40), number) for number in range(300)]
    task = Task(lambda: ends.near.send_many(payloads, timeout=channels.patience))
    found: list[Any] = []
    with suppress(TimedOut):
        while len(found) < len(payloads):
            some = ends.far.receive_many(limit=7, timeout=channels.patience)
            demand(1 <= len(some) <= 7, "1 to 7 packets of receive_many(limit=7)", len(some))
            found += some
    demand([one.payload for one in found] == payloads, "all 300 packets", f"{len(found)} packets, or others")
    soon(task, channels.patience, "an end of send_many")


# -- messages --------------------------------------------------------------------------------------


def messages_keep_their_length(channels: ChannelMaker) -> None:
    """A message has the very length with which it was sent, down to none, also when it was sent in pieces."""
    ends = channels.make()
    payloads = [pattern(length, length) for length in (0, 1, 3, 7, 8, 9, 255)]
    for payload in payloads:
        ends.near.send(payload[:2], payload[2:], timeout=channels.patience)
    demand_equal(receive_all(ends, ends.far, payloads, channels.patience), payloads, "messages:")


def longest_message_goes_through(channels: ChannelMaker) -> None:
    """A message of maximum_message_size bytes goes through; one byte more is a CallerError."""
    ends = channels.make()
    size = ends.near.maximum_message_size
    task = Task(lambda: ends.near.send(pattern(size), timeout=channels.patience))
    found = receive_all(ends, ends.far, [pattern(size)], channels.patience)
    demand(
        found == [pattern(size)], f"the message of {size} bytes", f"messages of {[len(one) for one in found]}"
    )
    soon(task, channels.patience, "an end of its send")
    with demand_raises(CallerError, f"send of {size + 1} bytes"):
        ends.near.send(bytes(size + 1), timeout=channels.patience)


# -- bytes -----------------------------------------------------------------------------------------


def end_is_half_a_close(channels: ChannelMaker) -> None:
    """send_end ends one stream: its receiver gets what was sent and then no bytes, and the other stream goes on."""
    ends = channels.make()
    ends.near.send(b"the last words", timeout=channels.patience)
    ends.near.send_end(timeout=channels.patience)
    ends.near.send_end(timeout=channels.patience)
    found = receive_all(ends, ends.far, [b"the last words"], channels.patience)
    demand_equal(found, [b"the last words"], "what was sent before the end:")
    for _ in range(2):
        try:
            received = ends.far.receive(timeout=channels.patience)
        except TimedOut:
            received = "TimedOut"
        demand_equal(received, b"", "receive at the end of the stream:")
    for _ in range(2):
        ends.far.send(b"an answer", timeout=channels.patience)
        found = receive_all(ends, ends.near, [b"an answer"], channels.patience)
        demand_equal(found, [b"an answer"], "what comes the other way:")
    with demand_raises(CallerError, "send behind send_end"):
        ends.near.send(b"one more", timeout=channels.patience)


def end_wakes_the_receiver(channels: ChannelMaker) -> None:
    """A receive that sleeps is woken by the end of the stream."""
    ends = channels.make()
    task = Task(lambda: ends.far.receive(timeout=None))
    task.has_ended(0.005)
    ends.near.send_end(timeout=channels.patience)
    demand_equal(soon(task, channels.patience, "an end of receive by send_end"), b"", "what it received:")


def close_is_not_the_end_of_a_stream(channels: ChannelMaker) -> None:
    """A side that closes without ending its stream is PeerClosed, and never the end of the stream."""
    ends = channels.make()
    ends.near.close()
    with demand_raises(PeerClosed, "receive from a side that has closed without send_end"):
        ends.far.receive(timeout=channels.patience)


def bytes_go_in_any_portions(channels: ChannelMaker) -> None:
    """A send may be longer than the ring, and a receive takes no more than it was asked for."""
    ends = channels.make()
    data = pattern(100_000)
    task = Task(lambda: ends.near.send(data, timeout=channels.patience))
    found = b""
    while len(found) < len(data):
        some = ends.far.receive(777, timeout=channels.patience)
        demand(1 <= len(some) <= 777, "1 to 777 bytes of receive(777)", len(some))
        found += some
    demand(found == data, "the bytes that were sent", "others")
    soon(task, channels.patience, "an end of the send")


ONE_BY_ONE = checks_of(too_long_is_the_callers_error, small_buffer_leaves_it, iteration_ends_at_a_close)

#: What is asked besides CHANNEL_CHECKS, by what a channel carries.
CHECKS_OF_KIND = {
    "packets": (
        *ONE_BY_ONE,
        *checks_of(
            packets_keep_what_they_say,
            request_gets_its_completion,
            requests_are_told_apart,
            batches_arrive_whole,
        ),
    ),
    "messages": (*ONE_BY_ONE, *checks_of(messages_keep_their_length, longest_message_goes_through)),
    "bytes": checks_of(
        end_is_half_a_close,
        end_wakes_the_receiver,
        close_is_not_the_end_of_a_stream,
        bytes_go_in_any_portions,
    ),
}
