"""Messages between two channels, each with its exact length."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from tests.channel.helpers import PATIENCE, Running, is_empty, pending_of, scripted_pair
from tests.helpers import padded, pattern
from tests.known_bugs import known_bug
from vmbus.channel import MessageChannel, connected_channels
from vmbus.errors import BufferTooSmall, CallerError, PeerError, TimedOut
from vmbus.layout import MAXIMUM_PIPE_PACKET_SIZE
from vmbus.pipe import PipeFault
from vmbus.ring import OutgoingPacket, Packet


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 1000, 4056])
def test_a_message_arrives_with_its_exact_length(length):
    pair = scripted_pair(MessageChannel)
    pair.guest.send(pattern(length))
    assert pair.host.receive() == pattern(length)
    assert is_empty(pair.out)


def test_a_message_may_come_in_pieces_of_any_kind_of_buffer():
    pair = scripted_pair(MessageChannel)
    pair.guest.send(b"one ", bytearray(b"message "), memoryview(b"of three"))
    pair.guest.send()
    assert [pair.host.receive(), pair.host.receive()] == [b"one message of three", b""]


def test_a_raw_message_is_a_payload_rounded_up_to_8():
    pair = scripted_pair(MessageChannel, raw=True)
    pair.guest.send(b"five!")
    assert pair.host.receive() == padded(b"five!")
    buffer = bytearray(8)
    pair.guest.send(b"", b"five!")
    assert pair.host.receive_into(buffer) == 8
    assert buffer == padded(b"five!")


@pytest.mark.parametrize(("size", "largest"), [(4096, 4056), (65536, MAXIMUM_PIPE_PACKET_SIZE)])
def test_the_longest_message_goes_and_one_byte_more_is_refused_at_once(size, largest):
    pair = scripted_pair(MessageChannel, size=size)
    assert pair.guest.maximum_message_size == largest
    pair.guest.send(bytes(largest))
    with pytest.raises(CallerError, match=f"at most {largest} bytes"):
        pair.guest.send(bytes(largest), b"!")
    assert pending_of(pair.out) == 0
    assert pair.host.receive() == bytes(largest)


def test_a_sender_waits_for_room_and_its_message_is_whole():
    pair = scripted_pair(MessageChannel)
    pair.guest.send(pattern(3000))
    pair.guest.signal.while_asleep.append(lambda: pair.host.receive() == pattern(3000))
    pair.guest.send(pattern(2000, seed=2))
    assert pair.host.receive() == pattern(2000, seed=2)
    assert pending_of(pair.out) == 0


def test_a_message_that_did_not_go_in_time_is_not_sent_at_all():
    pair = scripted_pair(MessageChannel)
    pair.guest.send(pattern(3000))
    with pytest.raises(TimedOut):
        pair.guest.send(pattern(2000), timeout=1)
    assert pair.host.receive() == pattern(3000)
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)


def test_receive_into_fills_a_buffer_and_a_message_too_long_for_it_stays():
    pair = scripted_pair(MessageChannel)
    pair.guest.send(b"a message")
    with pytest.raises(BufferTooSmall) as caught:
        pair.host.receive_into(bytearray(8))
    assert caught.value.needed == 9
    buffer = bytearray(20)
    assert pair.host.receive_into(buffer) == 9
    assert buffer == b"a message" + bytes(11)
    pair.guest.send(b"another")
    with pytest.raises(BufferTooSmall):
        pair.host.receive_into(bytearray(3))
    assert pair.host.receive() == b"another"


@known_bug("B47")
def test_a_message_without_bytes_is_read_once_and_leaves_nothing_to_read():
    pair = scripted_pair(MessageChannel)
    for _ in range(3):
        pair.guest.send(b"")
        assert pair.host.receive() == b""
        assert not pair.host.incoming.can_read(pair.host.incoming.incoming())
        with pytest.raises(TimedOut):
            pair.host.receive(timeout=0)
    assert is_empty(pair.out)


def test_long_traffic_in_both_directions_keeps_order_and_lengths():
    pair = scripted_pair(MessageChannel)
    random = Random(5)
    ends = [(pair.guest, pair.host, deque()), (pair.host, pair.guest, deque())]
    sent = 0
    for _ in range(1200):
        sender, receiver, waiting = random.choice(ends)
        if random.random() < 0.55:
            message = pattern(random.choice([0, 3, 64, 301, 1500]), seed=sent)
            try:
                sender.send(message[:10], message[10:], timeout=0)
            except TimedOut:
                assert waiting
            else:
                waiting.append(message)
                sent += 1
        elif waiting:
            assert receiver.receive(timeout=0) == waiting.popleft()
        else:
            with pytest.raises(TimedOut):
                receiver.receive(timeout=0)
    assert sent > 250


def test_two_threads_talk_through_a_small_ring():
    guest, host = connected_channels(size=4096, kind=MessageChannel)
    messages = [pattern(10 * n, seed=n) for n in range(300)]

    def echo() -> None:
        for _ in messages:
            host.send(host.receive(timeout=PATIENCE), timeout=PATIENCE)

    def send() -> None:
        for message in messages:
            guest.send(message, timeout=PATIENCE)

    tasks = [Running(echo), Running(send)]
    assert [guest.receive(timeout=PATIENCE) for _ in messages] == messages
    for task in tasks:
        task.result()


def test_iteration_ends_when_the_other_side_closes():
    guest, host = connected_channels(kind=MessageChannel)
    guest.send(b"one")
    guest.send(b"two")
    guest.close()
    assert list(host) == [b"one", b"two"]


def test_the_trace_sees_messages_without_their_headers():
    seen: list[tuple[str, Packet]] = []
    pair = scripted_pair(MessageChannel, trace=lambda what, packet: seen.append((what, packet)))
    pair.guest.send(b"one ", b"message")
    pair.host.receive()
    pair.guest.send(b"into")
    pair.host.receive_into(bytearray(10))
    assert [(what, packet.payload) for what, packet in seen] == [
        ("sent", b"one message"),
        ("received", b"one message"),
        ("sent", b"into"),
        ("received", b"into"),
    ]


def test_a_packet_that_is_no_message_is_an_error_of_the_other_side():
    pair = scripted_pair(MessageChannel)
    pair.guest.outgoing.send_packet(OutgoingPacket.completion(8, transaction_id=1), bytes(8))
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            pair.host.receive(timeout=0)
        assert caught.value.kind is PipeFault.NOT_IN_BAND


def test_one_signal_wakes_a_sleeping_reader_and_none_comes_while_it_reads():
    pair = scripted_pair(MessageChannel)
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)
    for _ in range(3):
        pair.guest.send(b"message")
    assert pair.notified() == (1, 0)
    for _ in range(3):
        pair.host.receive()
    pair.guest.send(b"while it is busy")
    assert pair.notified() == (1, 0)
    assert pair.guest.statistics().signals_after_write == 1
