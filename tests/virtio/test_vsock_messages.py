"""A connection of messages: their boundaries, their parts, and what has no end.

Sources: OASIS VIRTIO 1.2, section 5.10.6.4; Linux net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import pattern
from tests.virtio.vsock_by_hand import (
    CREDIT_UPDATE,
    END_OF_MESSAGE,
    END_OF_RECORD,
    NEITHER,
    NO_SEND,
    RST,
    RW,
    SEQPACKET,
    SHUTDOWN,
    HandPeer,
    Packet,
)
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError
from vmbus.virtio import MOST_MESSAGES, MOST_UNDER_WAY, VsockFault, VsockState, VsockType, connected_vsock


def sender(largest: int = 4096, **credit: int) -> tuple[HandPeer, Any]:
    peer = HandPeer(largest=largest)
    return peer, peer.accepted(kind=SEQPACKET, **credit)


def say(peer: HandPeer, payload: bytes, flags: int = END_OF_MESSAGE) -> list[Packet]:
    return peer.say(RW, payload, kind=SEQPACKET, flags=flags)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("length", [0, 1, 10, 11, 40])
def test_a_message_is_packets_of_which_the_last_says_that_it_is(length, record):
    peer, connection = sender(largest=10)
    assert connection.send(memoryview(pattern(length)), end_of_record=record) is True
    packets = peer.sent()
    assert b"".join(packet.payload for packet in packets) == pattern(length)
    last = END_OF_MESSAGE | (END_OF_RECORD if record else 0)
    assert [packet.flags for packet in packets] == [0] * (len(packets) - 1) + [last]
    assert len(packets) == max(1, -(-length // 10))


def test_messages_come_as_they_were_sent_in_any_parts():
    peer, connection = sender()
    say(peer, b"one")
    say(peer, b"t", flags=0)
    say(peer, b"", flags=0)
    say(peer, b"wo", flags=0)
    assert connection.receive() == (b"one", False)
    assert connection.receive() is None, "the second one has no end yet"
    say(peer, b"", flags=END_OF_MESSAGE | END_OF_RECORD)
    say(peer, b"")
    assert connection.receive() == (b"two", True)
    assert connection.receive() == (b"", False)
    assert connection.receive() is None
    assert connection.receiving.waiting == 0


def test_the_end_of_a_record_alone_ends_no_message():
    peer, connection = sender()
    say(peer, b"a", flags=END_OF_RECORD)
    assert connection.receive() is None
    say(peer, b"b", flags=END_OF_MESSAGE | 0xFFFF_FFF0)
    assert connection.receive() == (b"ab", False)


def test_a_message_that_is_longer_than_the_other_sides_buffer_is_the_callers_fault():
    peer, connection = sender(buf_alloc=100)
    with pytest.raises(CallerError, match="101 bytes"):
        connection.send(memoryview(bytes(101)))
    assert peer.sent() == []
    assert connection.send(memoryview(bytes(100)))


def test_a_message_goes_out_whole_or_not_at_all_for_want_of_credit():
    peer, connection = sender(buf_alloc=100)
    assert connection.send(memoryview(bytes(60))) is True
    assert connection.send(memoryview(bytes(41))) is False
    assert connection.sending.sent == 60
    assert connection.send(memoryview(bytes(40))) is True
    assert sum(packet.length for packet in peer.sent()) == 100
    assert connection.send(memoryview(b"")) is True, "an empty one takes no credit"


def test_the_rest_of_a_message_goes_out_later_from_a_copy_and_before_all_else():
    peer, connection = sender(largest=10)
    peer.carrier.places = 2
    data = bytearray(pattern(45))
    assert connection.send(memoryview(data)) is True
    data.clear()  # nothing holds on to it
    assert connection.send(memoryview(b"next")) is False
    connection.shutdown(NO_SEND)
    sent = peer.sent()
    for _ in range(10):
        peer.carrier.places = 1
        peer.endpoint.pump()
        sent += peer.sent()
    assert [packet.operation for packet in sent] == [RW] * 5 + [SHUTDOWN]
    assert b"".join(packet.payload for packet in sent) == pattern(45)
    assert [packet.flags for packet in sent] == [0, 0, 0, 0, END_OF_MESSAGE, NO_SEND]


def test_a_message_for_which_there_is_no_room_at_all_is_not_begun():
    peer, connection = sender()
    peer.carrier.places = 0
    assert connection.send(memoryview(b"later")) is False
    assert connection.sending.sent == 0
    peer.carrier.places = 9
    peer.endpoint.pump()
    assert peer.sent() == []


def test_a_close_with_a_message_on_its_way_sends_the_rest_first():
    peer, connection = sender(largest=10)
    peer.carrier.places = 1
    connection.send(memoryview(pattern(30)))
    connection.shutdown(NEITHER)
    assert connection.state is VsockState.CLOSING
    peer.carrier.places = 9
    peer.endpoint.pump()
    sent = peer.sent()
    assert [packet.operation for packet in sent] == [RW, RW, RW, SHUTDOWN]


def test_what_came_before_the_end_is_read_first():
    peer, connection = sender()
    say(peer, b"last")
    peer.say(SHUTDOWN, kind=SEQPACKET, flags=NEITHER)
    assert peer.sent() == []
    assert connection.state is VsockState.ESTABLISHED
    assert connection.receive() == (b"last", False)
    assert peer.operations()[-1:] == [RST]
    with pytest.raises(PeerClosed, match="last message"):
        connection.receive()


def test_an_empty_message_that_waits_keeps_the_connection_until_it_is_read():
    peer, connection = sender()
    say(peer, b"")
    peer.say(SHUTDOWN, kind=SEQPACKET, flags=NEITHER)
    assert connection.state is VsockState.ESTABLISHED
    assert connection.receive() == (b"", False)
    assert peer.operations()[-1:] == [RST]


def test_a_reset_without_a_shutdown_is_told_as_one():
    peer, connection = sender()
    say(peer, b"last")
    say(peer, b"and a part", flags=0)
    peer.say(RST, kind=SEQPACKET)
    assert connection.receive() == (b"last", False)
    with pytest.raises(PeerClosed, match="reset"):
        connection.receive()


def test_a_message_that_ends_in_the_middle_is_not_the_last_of_a_clean_end():
    peer, connection = sender()
    say(peer, b"whole")
    say(peer, b"the first part of", flags=0)
    peer.say(SHUTDOWN, kind=SEQPACKET, flags=NO_SEND)
    assert connection.receive() == (b"whole", False)
    with pytest.raises((PeerClosed, PeerError)) as caught:
        connection.receive()
    assert "last message" not in str(caught.value), "17 bytes of one more are lost"


def test_a_side_that_receives_no_more_drops_whole_messages_and_parts():
    peer, connection = sender()
    say(peer, b"whole")
    say(peer, bytes(300), flags=0)
    connection.shutdown(1)
    assert peer.sent()[-1].credit == (1000, 305)
    assert [packet.operation for packet in say(peer, bytes(600))] == [CREDIT_UPDATE]
    assert not connection.has_received
    with pytest.raises(ChannelClosed):
        connection.receive()


def test_messages_that_wait_are_limited_in_number():
    peer, connection = sender()
    for _ in range(MOST_MESSAGES):
        peer.put(RW, b"", kind=SEQPACKET, flags=END_OF_MESSAGE)
    while peer.endpoint.pump():
        pass
    assert connection.state is VsockState.ESTABLISHED
    connection.receive()
    assert say(peer, b"") == []
    assert [packet.operation for packet in say(peer, b"")] == [RST]
    assert connection.error.kind is VsockFault.TOO_MANY_MESSAGES
    for _ in range(MOST_MESSAGES):
        assert connection.receive() == (b"", False)
    with pytest.raises(PeerError):
        connection.receive()


def test_parts_without_an_end_are_limited_by_the_credit():
    peer, connection = sender()
    for _ in range(1000):
        peer.put(RW, b"x", kind=SEQPACKET)
        peer.put(RW, b"", kind=SEQPACKET)
    while peer.endpoint.pump():
        pass
    assert connection.state is VsockState.ESTABLISHED
    assert len(connection._partial) == 1000
    assert peer.sent() == []
    assert [packet.operation for packet in peer.say(RW, b"x", kind=SEQPACKET)] == [RST]


# -- many small ones -----------------------------------------------------------------------------------


def test_a_sender_of_small_messages_waits_before_the_other_side_must_reset_it():
    guest, host = connected_vsock(256)
    listener = host.listen(7, kind=VsockType.SEQPACKET)
    client = guest.connect(7, kind=VsockType.SEQPACKET)
    host.pump()
    guest.pump()
    server = listener.accept()
    sent = read = 0
    for _ in range(3):
        for _ in range(2 * MOST_UNDER_WAY):
            if not client.send(memoryview(b"%10d" % sent)):
                host.pump()
                guest.pump()
                if not client.send(memoryview(b"%10d" % sent)):
                    break
            sent += 1
        assert sent - read == MOST_UNDER_WAY < MOST_MESSAGES
        while (message := server.receive()) is not None:
            assert message.data == b"%10d" % read
            read += 1
        assert read == sent
        guest.pump()
    assert client.state is server.state is VsockState.ESTABLISHED
