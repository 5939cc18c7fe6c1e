"""Packets of all kinds between two channels: order, batches, requests, signals, and many threads."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from random import Random
from time import monotonic
from typing import Any

import pytest

from tests.channel.helpers import (
    PATIENCE,
    CallCounter,
    Running,
    fill_ring,
    is_empty,
    mask_of,
    pending_of,
    scripted_pair,
    threaded_pair,
)
from tests.helpers import PACKET_KINDS, padded, pattern
from tests.known_bugs import known_bug
from tests.no_error import no_error
from vmbus.channel import connected_channels
from vmbus.channel.transactions import FIRST_ID
from vmbus.errors import BufferTooSmall, CallerError, NotReady, PeerError, TimedOut
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import (
    IncomingPacketType,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PacketSize,
    PagedRange,
)


def payloads_of(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets]


# -- what goes in comes out --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKET_KINDS)
@pytest.mark.parametrize("length", [0, 1, 8, 23, 400])
def test_every_kind_of_packet_arrives_as_it_was_sent(name, length):
    pair, kind, payload = scripted_pair(), PACKET_KINDS[name], pattern(length)
    pair.guest.send_packet(kind.outgoing(length), payload)
    assert pair.host.receive() == Packet(
        kind.type, kind.transaction_id, padded(payload), kind.ranges, kind.flags, kind.transfer_page_set_id
    )


def test_send_carries_id_and_wish_and_complete_answers_them():
    pair = scripted_pair()
    pair.guest.send(b"question", transaction_id=7, completion_requested=True)
    question = pair.host.receive()
    assert (question.type, question.transaction_id, question.flags) == (IncomingPacketType.IN_BAND, 7, 1)
    pair.host.complete(7, b"answer")
    answer = pair.guest.receive()
    assert (answer.type, answer.transaction_id, answer.payload) == (
        IncomingPacketType.COMPLETION,
        7,
        padded(b"answer"),
    )


@pytest.mark.parametrize("size", [4096, 8192, 20480])
def test_long_traffic_through_rings_of_any_size_keeps_order_in_both_directions(size):
    pair = scripted_pair(size=size)
    random = Random(size)
    ends = [(pair.guest, pair.host, deque()), (pair.host, pair.guest, deque())]
    sent = 0
    for _ in range(1500):
        sender, receiver, waiting = random.choice(ends)
        if random.random() < 0.55:
            payload = pattern(random.choice([0, 8, 64, 304, 1000]), seed=sent)
            try:
                sender.send(payload, timeout=0)
            except TimedOut:
                assert waiting
            else:
                waiting.append(payload)
                sent += 1
        elif waiting:
            assert receiver.receive(timeout=0).payload == waiting.popleft()
        else:
            with pytest.raises(TimedOut):
                receiver.receive(timeout=0)
    assert sent > 300


@known_bug("B12", "B13")
def test_packets_from_before_a_channel_was_made_are_received_although_no_signal_comes():
    out = FlatRingMem(4096)
    early = OutgoingRing(out)
    early.send(b"early")
    pair = scripted_pair(out=out)
    assert not pair.host.signal.told
    assert pair.host.receive(timeout=0).payload == padded(b"early")


@known_bug("B12", "B13")
def test_a_signal_that_came_before_the_receiver_was_ready_for_it_is_not_needed():
    pair = scripted_pair()
    pair.guest.send(b"first")
    pair.host.signal.told = False  # it came before anybody listened
    assert pair.host.receive().payload == padded(b"first")
    assert pair.host.signal.waits == []


@known_bug("B18")
def test_one_signal_is_enough_for_any_number_of_packets():
    pair = scripted_pair()
    pair.host.signal.while_asleep.append(lambda: pair.guest.send_many([b"one", b"two", b"three"]))
    received = [pair.host.receive() for _ in range(3)]
    assert payloads_of(received) == [padded(one) for one in (b"one", b"two", b"three")]
    assert pair.guest.signal.notified == 1
    assert len(pair.host.signal.waits) == 1


@known_bug("B19")
def test_receive_many_gives_all_that_wait_so_that_the_last_one_is_the_newest():
    pair = scripted_pair()
    for number in range(5):
        pair.guest.send(b"time %d" % number)
    assert pair.host.receive_many()[-1].payload == padded(b"time 4")
    with pytest.raises(TimedOut):
        pair.host.receive_many(timeout=0)


@known_bug("B20")
def test_receive_many_ends_with_what_was_published_although_packets_keep_coming():
    out = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(out=out)
    sender = OutgoingRing(out.inside)
    sender.send(b"there before")

    def more(access: Access) -> None:
        if access.what == "read":
            sender.send(b"more and more")

    out.after = more
    assert payloads_of(pair.host.receive_many(timeout=0)) == [padded(b"there before")]


# -- batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 1, 2, 3, 100])
def test_receive_many_takes_what_is_there_up_to_its_limit(limit):
    pair = scripted_pair()
    sent = [pattern(8 * n, seed=n) for n in range(7)]
    pair.guest.send_many(sent)
    received = []
    while len(received) < 7:
        some = payloads_of(pair.host.receive_many(limit))
        assert 1 <= len(some) <= (limit or 7)
        received += some
    assert received == sent


def test_receive_many_takes_a_limit_of_0_and_none_below():
    pair = scripted_pair()
    pair.guest.send(b"stays")
    assert pair.host.receive_many(0) == []
    with pytest.raises(CallerError, match="limit"):
        pair.host.receive_many(-1)
    assert pair.host.receive_many(1)[0].payload == padded(b"stays")


def test_receive_many_refuses_a_negative_limit_also_while_packets_are_kept():
    pair = scripted_pair()
    keep_unsolicited(pair, [b"kept"])
    with pytest.raises(CallerError, match="limit"):
        pair.host.receive_many(-1)
    assert payloads_of(pair.host.receive_many(0)) == []
    assert payloads_of(pair.host.receive_many(1)) == [padded(b"kept")]


def test_a_batch_larger_than_the_ring_goes_through_while_the_other_side_reads():
    pair = scripted_pair()
    received: list[Packet] = []

    def read_some() -> None:
        received.extend(pair.host.receive_many())

    pair.guest.signal.while_asleep.extend([read_some] * 100)
    sent = [pattern(200, seed=n) for n in range(100)]
    pair.guest.send_many(sent)
    if not is_empty(pair.out):
        read_some()
    assert payloads_of(received) == sent


@pytest.mark.parametrize("count", [0, 3, 18, 19, 60])
def test_a_batch_that_is_given_up_says_how_many_were_sent_and_those_arrive(count):
    """18 packets of 224 bytes go into 4096."""
    pair = scripted_pair()
    sent = [pattern(200, seed=n) for n in range(count)]
    if count <= 18:
        pair.guest.send_many(sent, timeout=0)
    else:
        with pytest.raises(TimedOut) as caught:
            pair.guest.send_many(sent, timeout=0)
        assert caught.value.done == 18
    if count:
        assert payloads_of(pair.host.receive_many()) == sent[:18]


def test_a_batch_with_a_packet_that_never_fits_is_refused_before_anything_is_sent():
    pair = scripted_pair()
    with pytest.raises(CallerError, match="never fits"):
        pair.guest.send_many([b"good", bytes(4080)])
    assert is_empty(pair.out)
    assert pair.notified() == (0, 0)


def test_a_packet_that_never_fits_is_refused_and_waits_for_nothing():
    pair = scripted_pair()
    for call in (
        lambda: pair.guest.send(bytes(4080)),
        lambda: pair.guest.send_packet(OutgoingPacket.completion(4080, transaction_id=1), bytes(4080)),
        lambda: pair.guest.request(bytes(4080)),
    ):
        with pytest.raises(CallerError, match="never fits"):
            call()
    assert (pending_of(pair.out), pair.guest.signal.waits, pair.guest.outstanding) == (0, [], 0)
    pair.guest.send(bytes(4064))


# -- receive_into ------------------------------------------------------------------------------------


def test_receive_into_fills_the_start_of_the_buffer():
    pair = scripted_pair()
    pair.guest.send(b"sixteen bytes...")
    buffer = bytearray(b"." * 20)
    assert pair.host.receive_into(buffer) == 16
    assert buffer == b"sixteen bytes......."


@pytest.mark.parametrize("again", ["receive", "receive_into", "receive_many", "request"])
def test_a_packet_too_long_for_the_buffer_stays_the_next_one(again):
    pair = scripted_pair()
    pair.guest.send(pattern(64))
    pair.guest.send(b"behind")
    for _ in range(2):
        with pytest.raises(BufferTooSmall) as caught:
            pair.host.receive_into(bytearray(63))
        assert caught.value.needed == 64
    if again == "receive_into":
        buffer = bytearray(64)
        assert pair.host.receive_into(buffer) == 64
        first = bytes(buffer)
    elif again == "receive_many":
        first = pair.host.receive_many(1)[0].payload
    else:
        if again == "request":
            with pytest.raises(TimedOut):
                pair.host.request(b"", timeout=0)
        first = pair.host.receive().payload
    assert first == pattern(64)
    assert pair.host.receive().payload == padded(b"behind")


def test_receive_into_a_buffer_that_cannot_be_written_loses_no_packet():
    pair = scripted_pair()
    pair.guest.send(b"precious")
    for buffer in (b"read-only", 7):
        with pytest.raises(CallerError, match="buffer"):
            pair.host.receive_into(buffer)
    assert pair.host.receive().payload == b"precious"


# -- requests ----------------------------------------------------------------------------------------


def answer_all(end: Any, order: Callable[[list[Packet]], list[Packet]] = list) -> None:
    """Complete every request that waits, each with its own payload."""
    for packet in order(end.receive_many()):
        end.complete(packet.transaction_id, packet.payload)


def keep_unsolicited(pair: Any, payloads: list[bytes], reader: str = "host") -> None:
    """Packets that reach `reader` while it waits for the completion of a request that does not come."""
    end, other = (pair.host, pair.guest) if reader == "host" else (pair.guest, pair.host)
    for payload in payloads:
        other.send(payload)
    with pytest.raises(TimedOut):
        end.request(b"never answered", timeout=1)
    other.receive(timeout=0)


def test_a_request_returns_its_completion():
    pair = scripted_pair()
    pair.guest.signal.while_asleep.append(lambda: answer_all(pair.host))
    answer = pair.guest.request(b"question")
    assert (answer.type, answer.payload) == (IncomingPacketType.COMPLETION, b"question")
    assert pair.guest.outstanding == 0


@known_bug("B61")
def test_requests_ask_for_a_completion_under_ids_that_count_up_and_are_never_0():
    pair = scripted_pair()
    seen = []

    def look_and_answer() -> None:
        packet = pair.host.receive()
        seen.append((packet.type, packet.flags, packet.transaction_id))
        pair.host.complete(packet.transaction_id)

    for _ in range(3):
        pair.guest.signal.while_asleep.append(look_and_answer)
        pair.guest.request(b"")
    assert seen == [(IncomingPacketType.IN_BAND, 1, FIRST_ID + n) for n in range(3)]


def test_a_request_may_be_a_packet_of_another_kind_and_its_id_is_replaced():
    pair = scripted_pair()
    ranges = (PagedRange(0, 4096, [7]),)

    def look_and_answer() -> None:
        packet = pair.host.receive()
        assert (packet.type, packet.ranges) == (IncomingPacketType.GPA_DIRECT, ranges)
        assert packet.transaction_id == FIRST_ID
        pair.host.complete(packet.transaction_id, b"done")

    pair.guest.signal.while_asleep.append(look_and_answer)
    packet = OutgoingPacket.gpa_direct(ranges, 8, transaction_id=99)
    assert pair.guest.request(bytes(8), packet=packet).payload == padded(b"done")


@known_bug("B21", "B64")
def test_packets_that_answer_no_request_are_kept_in_order_for_receive():
    pair = scripted_pair()

    def chatter_and_answer() -> None:
        request = pair.host.receive()
        pair.host.send_many([b"one", b"two"])
        pair.host.complete(12345, b"of nobody")
        pair.host.complete(request.transaction_id, b"answer")
        pair.host.send(b"three")

    pair.guest.signal.while_asleep.append(chatter_and_answer)
    with no_error("a request, and then what came before and behind its answer"):
        assert pair.guest.request(b"question", timeout=1).payload == padded(b"answer")
        received = [pair.guest.receive(timeout=0) for _ in range(4)]
    assert payloads_of(received) == [padded(one) for one in (b"one", b"two", b"of nobody", b"three")]
    assert received[2].type is IncomingPacketType.COMPLETION


def test_the_descriptor_says_that_packets_were_kept_while_a_request_waited():
    pair = scripted_pair()

    def chatter_and_answer() -> None:
        request = pair.host.receive()
        pair.host.send(b"unsolicited")
        pair.host.complete(request.transaction_id)

    pair.guest.signal.while_asleep.append(chatter_and_answer)
    pair.guest.request(b"question")
    assert pair.guest.signal.told


def test_the_completion_of_a_request_given_up_is_dropped_and_frees_its_id():
    pair = scripted_pair()
    for _ in range(3):
        with pytest.raises(TimedOut):
            pair.guest.request(b"late", timeout=1)
    assert pair.guest.outstanding == 3
    late = pair.host.receive_many()
    assert [packet.transaction_id for packet in late] == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
    for packet in late[1:]:
        pair.host.complete(packet.transaction_id, b"late")
    pair.host.send(b"news")
    assert pair.guest.receive(timeout=1).payload == padded(b"news")
    assert pair.guest.outstanding == 1
    assert pair.guest.receive_many(0) == []


@pytest.mark.parametrize("receive", ["receive", "receive_many", "receive_into"])
def test_late_completions_never_come_out_of_any_kind_of_receive(receive):
    pair = scripted_pair()
    with pytest.raises(TimedOut):
        pair.guest.request(b"late", timeout=1)
    pair.host.complete(pair.host.receive().transaction_id, b"late")
    arguments = (bytearray(100),) if receive == "receive_into" else ()
    with pytest.raises(TimedOut):
        getattr(pair.guest, receive)(*arguments, timeout=1)
    assert pair.guest.outstanding == 0
    assert is_empty(pair.back)
    assert mask_of(pair.back) == 0


def test_a_completion_of_an_unknown_id_goes_to_receive():
    pair = scripted_pair()
    pair.host.complete(77, b"for whom")
    assert pair.guest.receive(timeout=0).transaction_id == 77


@known_bug("B62")
def test_one_request_too_many_waits_until_another_is_answered():
    pair = scripted_pair(maximum_outstanding=2)
    for _ in range(2):
        with pytest.raises(TimedOut):
            pair.guest.request(b"early", timeout=1)
    with pytest.raises(TimedOut):
        pair.guest.request(b"one too many", timeout=1)
    early = pair.host.receive_many()
    assert len(early) == 2  # the third was not sent
    pair.guest.signal.while_asleep.append(lambda: pair.host.complete(early[1].transaction_id))
    pair.guest.signal.while_asleep.append(lambda: answer_all(pair.host))
    assert pair.guest.request(b"now", timeout=1).payload == padded(b"now")
    assert pair.guest.outstanding == 1


def test_packets_that_come_while_a_request_waits_for_a_place_are_kept():
    pair = scripted_pair(maximum_outstanding=1)
    keep_unsolicited(pair, [b"before"], reader="guest")
    pair.host.send(b"meanwhile")
    with pytest.raises(TimedOut):
        pair.guest.request(b"no place", timeout=1)
    assert payloads_of([pair.guest.receive(), pair.guest.receive()]) == [
        padded(b"before"),
        padded(b"meanwhile"),
    ]


def test_a_request_that_could_not_be_sent_leaves_nothing_outstanding():
    pair = scripted_pair()
    fill_ring(pair.guest)
    with pytest.raises(TimedOut):
        pair.guest.request(bytes(1000), timeout=1)
    assert pair.guest.outstanding == 0


def test_an_id_of_an_outstanding_request_is_not_to_be_chosen_by_hand():
    pair = scripted_pair()
    with pytest.raises(TimedOut):
        pair.guest.request(b"", timeout=1)
    with pytest.raises(CallerError, match="belongs to a request"):
        pair.guest.send(b"", transaction_id=FIRST_ID, completion_requested=True)
    pair.guest.send(b"", transaction_id=FIRST_ID)


def test_packets_kept_beyond_the_bound_refuse_the_next_request_and_none_is_lost():
    pair = scripted_pair()
    sent = kept = 0
    with pytest.raises(CallerError, match="answer no request") as caught:
        while True:
            while sent - kept < 3:
                pair.host.send(pattern(1000, seed=sent))
                sent += 1
            with pytest.raises(TimedOut):
                pair.guest.request(b"", timeout=1)
            kept = sent
            pair.host.receive(timeout=0)
            assert sent < 1000
    assert caught.value.limit == 16 * 4096
    assert abs(caught.value.value - 16 * 4096) <= 1024
    for number in range(sent):
        assert pair.guest.receive(timeout=0).payload == pattern(1000, seed=number)


def test_the_ranges_of_kept_packets_count_too():
    """A packet without payload can bring thousands of page numbers, and another side may mean harm."""
    pair = scripted_pair()
    ranges = [PagedRange(0, 4096 * 400, list(range(400)))]
    packet = OutgoingPacket.gpa_direct(ranges)
    kept = 0
    with pytest.raises(CallerError, match="answer no request"):
        while kept < 60:
            pair.host.send_packet(packet)
            with pytest.raises(TimedOut):
                pair.guest.request(b"", timeout=1)
            kept += 1
            pair.host.receive(timeout=0)
    assert kept * PacketSize.gpa_direct(ranges, 0) < 18 * 4096


def test_the_kept_bytes_are_counted_down_when_they_are_received():
    pair = scripted_pair()
    for round in range(40):
        keep_unsolicited(pair, [pattern(1000, seed=n) for n in range(3)], reader="guest")
        assert len(pair.guest.receive_many()) == 3, round


# -- time --------------------------------------------------------------------------------------------


@known_bug("B20")
def test_a_flood_of_other_packets_cannot_hold_a_request_beyond_its_time():
    back = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(back=back)
    sender = pair.host.outgoing
    pair.host.send(b"the first")

    def flood(access: Access) -> None:
        """One more packet, and a tenth of a second, for each that is taken."""
        if str(access) == "store out":
            pair.clock.now += 0.1
            sender.send(b"flood")

    back.after = flood
    started = pair.clock.now
    with pytest.raises(TimedOut):
        pair.guest.request(b"question", timeout=2)
    assert 2 <= pair.clock.now - started < 2.5
    back.after = None
    assert pair.guest.outstanding == 1
    received = pair.guest.receive_many()
    assert payloads_of(received) == [padded(b"the first"), *[padded(b"flood")] * (len(received) - 1)]
    assert pair.guest.signal.told  # there may be more: whoever polls looks again


def test_a_call_whose_time_is_over_among_late_completions_says_that_there_may_be_more():
    pair = scripted_pair()
    for _ in range(8):
        with pytest.raises(TimedOut):
            pair.guest.request(b"question", timeout=0)
    for question in pair.host.receive_many():
        pair.host.complete(question.transaction_id)
    pair.guest.signal.told = False
    with pytest.raises(TimedOut):
        pair.guest.receive(timeout=0)
    assert not is_empty(pair.back) and mask_of(pair.back) == 1  # so that no signal will come
    assert pair.guest.signal.told


def test_a_signal_that_another_thread_takes_between_the_look_and_the_sleep_is_not_slept_over():
    back = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(back=back)

    def send_and_take_the_signal(access: Access) -> None:
        if str(access) == "load in" and mask_of(back.inside) == 0:
            back.after = None
            pair.host.send(b"packet 1")
            waiters = pair.guest._waiters
            waiters.wait(waiters.wakes, 0)  # as a thread does that waits for room

    back.after = send_and_take_the_signal
    assert pair.guest.receive().payload == b"packet 1"


def test_a_request_that_waits_for_a_place_gets_that_of_one_that_could_not_be_sent():
    guest, host = threaded_pair(maximum_outstanding=1)
    fill_ring(guest)
    large = Running(guest.request, bytes(1000), 0.2)
    guest.signal.await_sleeper()
    host.receive(PATIENCE)  # room for a small one alone
    small = Running(guest.request, b"question")
    with pytest.raises(TimedOut):
        large.result()
    for packet in host:
        if packet.completion_requested:
            host.complete(packet.transaction_id, b"answered")
            break
    assert small.result().payload == b"answered"


def test_the_time_of_a_request_is_that_of_all_its_phases_together():
    pair = scripted_pair()
    sent = fill_ring(pair.guest)

    def make_room() -> None:
        pair.clock.now += 3
        assert len(pair.host.receive_many()) == sent

    pair.guest.signal.while_asleep.append(make_room)
    started = pair.clock.now
    with pytest.raises(TimedOut):
        pair.guest.request(bytes(1000), timeout=5)
    assert pair.clock.now - started == 5
    assert pair.guest.outstanding == 1


# -- signals -----------------------------------------------------------------------------------------


@known_bug("B10", "B11")
def test_a_receiver_that_does_not_sleep_is_not_signaled():
    pair = scripted_pair()
    for _ in range(10):
        pair.guest.send(b"while the receiver is busy")
    pair.guest.send_many([b"and more"] * 10)
    pair.host.receive_many()
    assert pair.notified() == (0, 0)


@known_bug("B10", "B11")
def test_a_sleeping_receiver_is_signaled_once_for_a_batch_and_not_while_it_drains():
    pair = scripted_pair()
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)
    pair.guest.send_many([b"batch"] * 5)
    pair.guest.send(b"and more")
    assert pair.notified() == (1, 0)
    pair.host.receive()
    pair.guest.send_many([b"batch"] * 5)
    pair.host.receive_many()
    pair.guest.send(b"and more")
    assert pair.notified() == (1, 0)


@known_bug("B03")
def test_a_sleeping_sender_is_signaled_once_when_a_quarter_of_the_ring_is_free():
    pair = scripted_pair()
    assert fill_ring(pair.guest) == 15  # 256 bytes each, 248 are free
    freed_at_signal = []
    for number in range(1, 16):
        pair.host.receive()
        if pair.host.signal.notified:
            freed_at_signal.append(number)
    assert freed_at_signal[0] == 4  # 248 + 4 * 256 is the first that reaches 1024
    assert pair.host.signal.notified == 1
    assert pair.host.statistics().signals_after_read == 1


@known_bug("B03")
def test_a_reader_never_signals_a_sender_that_waits_for_nothing():
    pair = scripted_pair()
    for _ in range(20):
        pair.guest.send_many([bytes(200)] * 18)
        for _ in range(18):
            pair.host.receive()
    assert pair.notified() == (0, 0)


@known_bug("B02")
def test_who_waits_for_a_packet_does_not_erase_what_the_sender_asked_for():
    pair = scripted_pair()
    with pytest.raises(TimedOut):
        pair.guest.send_many([bytes(1000)] * 5, timeout=0)
    asked = pending_of(pair.out)
    assert asked == 1024
    for _ in range(3):
        with pytest.raises(TimedOut):
            pair.guest.receive(timeout=0)
        with pytest.raises(TimedOut):
            pair.guest.receive_many(timeout=1)
    pair.host.send(b"packet")
    pair.guest.receive()
    assert pending_of(pair.out) == asked


@known_bug("B02")
def test_a_second_sender_does_not_erase_what_the_first_asked_for():
    guest, host = threaded_pair(size=4096)
    fill_ring(guest)
    first = Running(guest.send, bytes(3000))
    guest.signal.await_sleeper()  # of fill_ring
    guest.signal.await_sleeper()
    assert pending_of(guest.outgoing.memory) == 3024
    with pytest.raises(TimedOut, match="another call"):
        guest.send(b"", timeout=0)
    assert pending_of(guest.outgoing.memory) == 3024
    for _ in range(15):
        host.receive(timeout=PATIENCE)
    first.result()
    assert pending_of(guest.outgoing.memory) == 0


@known_bug("B03", "B10", "B11")
@pytest.mark.parametrize("seed", range(6))
def test_signals_are_sent_exactly_when_the_rules_ask_for_them(seed):
    """Random traffic in both directions against a model that counts bytes and knows who sleeps."""
    random = Random(seed)
    pair = scripted_pair()
    ends = [pair.guest, pair.host]
    models = [DirectionModel(4096), DirectionModel(4096)]
    signals = [0, 0]
    for _ in range(700):
        side = random.randrange(2)
        end, out, back = ends[side], models[side], models[1 - side]
        if random.random() < 0.5:
            payload = bytes(8 * random.choice([0, 1, 5, 40, 120, 300, 480]))
            fits, signaled = out.send(len(payload))
            attempt(lambda end=end, payload=payload: end.send(payload, timeout=0), fits)
        else:
            limit = random.choice([1, 1, 2, None])
            found, signaled = back.receive(limit)
            attempt(lambda end=end, limit=limit: end.receive_many(limit, timeout=0), found)
        signals[side] += signaled
        assert list(pair.notified()) == signals
    assert min(signals) > 10
    for side, end in enumerate(ends):
        counted = end.statistics()
        assert counted.signals_after_write + counted.signals_after_read == signals[side]
        assert counted.signals_after_write == models[side].reader_signaled
        assert counted.signals_after_read == models[1 - side].writer_signaled


def attempt(call: Callable[[], object], succeeds: bool) -> None:
    if succeeds:
        call()
    else:
        with pytest.raises(TimedOut):
            call()


class DirectionModel:
    """One ring as decision 5 sees it: sizes that wait, whether its reader sleeps, what its sender asks for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: list[int] = []
        self.reader_sleeps = False
        self.asked = 0
        self.reader_signaled = 0
        self.writer_signaled = 0

    def free(self) -> int:
        return self.size - 8 - sum(self.waiting)

    def send(self, length: int) -> tuple[bool, bool]:
        """Whether it fits, and whether the reader is signaled."""
        total = 24 + length
        if total > self.free():
            self.asked = max(total, self.size // 4)
            return False, False
        self.asked = 0
        signaled = self.reader_sleeps and not self.waiting
        self.reader_signaled += signaled
        self.waiting.append(total)
        return True, signaled

    def receive(self, limit: int | None) -> tuple[bool, bool]:
        """Whether there is anything, and whether the writer is signaled."""
        self.reader_sleeps = not self.waiting
        if not self.waiting:
            return False, False
        before = self.free()
        del self.waiting[:limit]
        signaled = before < self.asked <= self.free()
        self.writer_signaled += signaled
        return True, signaled


# -- the trace and the log -----------------------------------------------------------------------------


def test_the_trace_sees_every_packet_on_both_sides():
    seen: list[tuple[str, Packet]] = []
    pair = scripted_pair(trace=lambda what, packet: seen.append((what, packet)))
    pair.guest.send(b"plain", transaction_id=3)
    pair.guest.send_many([b"one", b"two"])
    pair.host.receive()
    pair.host.receive_many()
    pair.guest.signal.while_asleep.append(lambda: pair.host.complete(pair.host.receive().transaction_id))
    pair.guest.request(b"question")
    assert [(what, packet.payload.rstrip(b"\0"), packet.transaction_id) for what, packet in seen] == [
        ("sent", b"plain", 3),
        ("sent", b"one", 0),
        ("sent", b"two", 0),
        ("received", b"plain", 3),
        ("received", b"one", 0),
        ("received", b"two", 0),
        ("sent", b"question", FIRST_ID),
        ("received", b"question", FIRST_ID),
        ("sent", b"", FIRST_ID),
        ("received", b"", FIRST_ID),
    ]
    assert [packet.type.name for _, packet in seen[-2:]] == ["COMPLETION", "COMPLETION"]


def test_a_packet_that_is_not_sent_is_not_traced():
    seen: list[object] = []
    pair = scripted_pair(trace=lambda *packet: seen.append(packet))
    count = fill_ring(pair.guest)
    assert len(seen) == count


def test_an_error_of_the_trace_is_logged_and_goes_no_further(caplog):
    def trace(what: str, packet: Packet) -> None:
        raise ZeroDivisionError

    pair = scripted_pair(trace=trace)
    pair.guest.send(b"all the same")
    assert pair.host.receive().payload == padded(b"all the same")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2
    sent, received = (record.getMessage() for record in caplog.records)
    assert "was sent" in sent
    assert "was received" in received


@known_bug("B42")
def test_a_full_ring_and_an_empty_one_are_logged_by_nobody(caplog):
    caplog.set_level(logging.DEBUG)
    pair = scripted_pair()
    fill_ring(pair.guest)
    with pytest.raises(TimedOut):
        pair.guest.receive(timeout=1)
    with pytest.raises(TimedOut):
        pair.guest.send_many([bytes(1000)] * 10, timeout=1)
    assert not caplog.records


def test_a_program_that_sets_up_no_logging_sees_none():
    """Without a handler Python would print warnings by itself."""
    handlers = logging.getLogger("vmbus").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


# -- an enemy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [IN_WORD, OUT_WORD])
@pytest.mark.parametrize("value", [4, 4096, 2**32 - 1])
def test_a_bad_index_is_an_error_of_the_other_side_each_time(word, value):
    pair = scripted_pair()
    fill_ring(pair.guest)
    memory = pair.back if word == IN_WORD else pair.out
    memory.control[word] = value
    calls = {
        IN_WORD: [
            lambda: pair.guest.receive(timeout=1),
            lambda: pair.guest.receive_many(timeout=1),
            lambda: pair.guest.receive_into(bytearray(8), timeout=1),
        ],
        OUT_WORD: [
            lambda: pair.guest.send(bytes(400), timeout=1),
            lambda: pair.guest.send_many([bytes(400)], timeout=1),
            lambda: pair.guest.request(bytes(400), timeout=1),
        ],
    }[word]
    for call in calls * 2:
        with pytest.raises(PeerError, match="multiple of 8"):
            call()
    assert pair.guest.outstanding == 0
    pair.guest.close()


def test_a_bad_packet_while_a_request_waits_is_an_error_of_the_other_side():
    pair = scripted_pair()

    def send_nonsense() -> None:
        pair.back.write_at(0, b"\xff" * 16)
        pair.back.control[IN_WORD] = 64
        pair.host.signal.notify()

    pair.guest.signal.while_asleep.append(send_nonsense)
    with pytest.raises(PeerError):
        pair.guest.request(b"question", timeout=1)
    with pytest.raises(PeerError):
        pair.guest.receive(timeout=1)


def test_a_mask_that_the_other_side_sets_is_noticed_by_who_sleeps():
    pair = scripted_pair()

    def mask() -> None:
        pair.back.control[INTERRUPT_MASK_WORD] = 1
        pair.host.signal.notify()

    pair.guest.signal.while_asleep.append(mask)
    with pytest.raises(PeerError, match="this end had cleared it"):
        pair.guest.receive(timeout=1)


@pytest.mark.parametrize("seed", range(25))
def test_random_bytes_in_shared_memory_raise_errors_of_the_other_side_or_time_out(seed):
    random = Random(seed)
    pair = scripted_pair(maximum_outstanding=3)

    def disturb() -> None:
        memory = random.choice([pair.out, pair.back])
        if random.random() < 0.5:
            memory.control[random.randrange(16)] = random.choice([0, 1, 8, 64, 4088, 4096, 2**32 - 1])
        else:
            memory.write_at(8 * random.randrange(512), random.randbytes(8 * random.randrange(1, 9)))
        pair.host.signal.notify()

    calls = [
        lambda: pair.guest.receive(timeout=1),
        lambda: pair.guest.receive_many(timeout=1),
        lambda: pair.guest.receive_into(bytearray(16), timeout=1),
        lambda: pair.guest.send(random.randbytes(8 * random.randrange(60)), timeout=1),
        lambda: pair.guest.send_many([random.randbytes(400)] * random.randrange(12), timeout=1),
        lambda: pair.guest.request(b"question", timeout=1),
    ]
    for _ in range(40):
        pair.guest.signal.while_asleep.append(disturb)
        if random.random() < 0.3:
            disturb()
        try:
            random.choice(calls)()
        except (NotReady, PeerError, CallerError) as error:
            is_expected = not isinstance(error, CallerError) or isinstance(error, BufferTooSmall)
            assert is_expected or "answer no request" in str(error), repr(error)


# -- threads ---------------------------------------------------------------------------------------------


def test_threads_that_request_at_once_get_each_their_own_answer_beside_other_traffic():
    guest, host = connected_channels(size=4096, maximum_outstanding=3)
    requests, threads = 25, 5
    unsolicited = [b"news %02d" % number for number in range(60)]

    def serve() -> None:
        """Answers in turned order, with other packets between."""
        news = iter(unsolicited)
        answered = 0
        while answered < requests * threads:
            batch = host.receive_many(timeout=PATIENCE)
            for packet in reversed(batch):
                host.send_many(islice(news, 2))
                host.complete(packet.transaction_id, b"re: " + packet.payload)
                answered += 1
        for one in news:
            host.send(one)

    def ask(thread: int) -> None:
        for number in range(requests):
            question = b"%d of %d is asked" % (number, thread)
            answer = guest.request(question, timeout=PATIENCE)
            assert answer.payload == padded(b"re: " + padded(question))

    def listen() -> list[bytes]:
        return [guest.receive(timeout=PATIENCE).payload for _ in unsolicited]

    server, listener = Running(serve), Running(listen)
    for task in [Running(ask, thread) for thread in range(threads)]:
        task.result()
    server.result()
    assert listener.result() == [padded(one) for one in unsolicited]
    assert guest.outstanding == 0


def test_many_senders_and_receivers_on_one_channel_move_each_packet_once_whole_and_in_order():
    guest, host = connected_channels(size=4096)
    senders, receivers, count = 4, 3, 120

    def send(who: int) -> None:
        for number in range(0, count, 4):
            guest.send(whole_packet(who, number), timeout=PATIENCE)
            guest.send_many([whole_packet(who, number + n) for n in (1, 2, 3)], timeout=PATIENCE)

    def receive() -> list[bytes]:
        taken: list[bytes] = []
        while True:
            payload = host.receive(timeout=PATIENCE).payload
            if not payload:
                return taken
            taken.append(payload)

    readers = [Running(receive) for _ in range(receivers)]
    for task in [Running(send, who) for who in range(senders)]:
        task.result()
    for _ in range(receivers):
        guest.send(b"", timeout=PATIENCE)
    taken = [reader.result() for reader in readers]
    everything = sorted(payload for one in taken for payload in one)
    assert everything == sorted(whole_packet(who, n) for who in range(senders) for n in range(count))
    for one in taken:
        for who in range(senders):
            numbers = [payload[1] for payload in one if payload[0] == who]
            assert numbers == sorted(numbers)


def whole_packet(who: int, number: int) -> bytes:
    """A payload of its own length that starts with who sent it and its number."""
    return bytes([who, number]) + pattern(6 + 8 * (number % 40), seed=1000 * who + number)


@known_bug("B16")
def test_an_answer_that_another_thread_has_brought_ends_the_request_although_that_thread_waits_on():
    guest, host = threaded_pair()
    listener = Running(guest.receive)
    guest.signal.await_sleeper()  # it waits for the signal, and the requests behind it
    tasks = [Running(guest.request, b"question %d" % n) for n in range(3)]
    asked = [host.receive(timeout=PATIENCE) for _ in range(3)]
    for packet in asked:
        host.complete(packet.transaction_id, packet.payload)
    assert sorted(task.result().payload for task in tasks) == [padded(b"question %d" % n) for n in range(3)]
    assert listener.still_runs()
    host.send(b"for the listener")
    assert listener.result().payload == b"for the listener"


@known_bug("B16")
def test_a_completion_that_comes_before_the_requester_waits_is_not_missed():
    """The answer is in the ring before `request` gets as far as to look for it."""
    pair = scripted_pair()
    notify = pair.guest.signal.notify
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)  # so that the request is signaled

    def answer_at_once() -> None:
        notify()
        packet = pair.host.receive()
        pair.host.complete(packet.transaction_id, b"at once")

    pair.guest._work._notify = answer_at_once
    assert pair.guest.request(b"question").payload == padded(b"at once")
    assert pair.guest.signal.waits == []


@known_bug("B64")
def test_a_packet_kept_by_a_request_reaches_a_receiver_that_waits_behind_it():
    clock = CallCounter(monotonic)
    guest, host = threaded_pair(clock=clock)
    request = Running(guest.request, b"question")
    guest.signal.await_sleeper()
    listener = Running(guest.receive, timeout=PATIENCE)
    clock.await_calls(listener, 2)
    host.send(b"unsolicited")
    assert listener.result().payload == padded(b"unsolicited")
    assert request.still_runs()
    host.complete(host.receive(timeout=PATIENCE).transaction_id, b"answer")
    assert request.result().payload == padded(b"answer")


def test_a_sender_asleep_for_room_blocks_no_receiver_of_its_side():
    guest, host = threaded_pair(size=4096)
    fill_ring(guest)
    guest.signal.await_sleeper()
    sender = Running(guest.send, bytes(1000))
    guest.signal.await_sleeper()
    host.send(b"packet")
    assert guest.receive(timeout=PATIENCE).payload == padded(b"packet")
    with pytest.raises(TimedOut):
        guest.receive(timeout=0)
    assert sender.still_runs()
    host.receive_many(timeout=PATIENCE)
    sender.result()


def test_a_receiver_asleep_for_packets_blocks_no_sender_of_its_side():
    guest, host = threaded_pair(size=4096)
    receiver = Running(guest.receive)
    guest.signal.await_sleeper()
    fill_ring(guest)
    for _ in range(3):
        host.receive_many(timeout=PATIENCE)
        fill_ring(guest)
    assert receiver.still_runs()
    host.send(b"packet")
    assert receiver.result().payload == padded(b"packet")


def test_both_directions_of_one_side_sleep_at_once_and_both_are_woken():
    guest, host = threaded_pair(size=4096)
    receiver = Running(guest.receive)
    guest.signal.await_sleeper()
    fill_ring(guest)
    sender = Running(guest.send, bytes(2000))
    host.receive_many(timeout=PATIENCE)
    if sender.still_runs():
        host.receive_many(timeout=PATIENCE)
    sender.result()
    host.send(b"packet")
    assert receiver.result().payload == padded(b"packet")


def test_a_large_packet_is_not_starved_by_small_ones():
    """Small packets that come after it wait behind it, although there would be room for them."""
    guest, host = threaded_pair(size=4096)
    fill_ring(guest)
    guest.signal.await_sleeper()
    large = Running(guest.send, bytes(4000))
    guest.signal.await_sleeper()
    small = [Running(guest.send, b"small", timeout=PATIENCE) for _ in range(3)]
    received = []
    while len(received) < 15 + 1 + 3:
        received += payloads_of(host.receive_many(timeout=PATIENCE))
    large.result()
    for task in small:
        task.result()
    assert received.index(bytes(4000)) == 15
    assert received[16:] == [padded(b"small")] * 3
