"""One stream connection: its end from either side, and what its user is told.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any

import pytest

from tests.helpers import pattern
from tests.virtio.vsock_by_hand import (
    CREDIT_UPDATE,
    FAR_PORT,
    NEAR_PORT,
    NEITHER,
    NO_RECEIVE,
    NO_SEND,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    SHUTDOWN,
    HandPeer,
)
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError
from vmbus.virtio import VsockAddress, VsockFault, VsockState, connected_vsock


def send(connection: Any, data: bytes) -> int:
    done: int = connection.send(memoryview(data))
    return done


# -- beginning -------------------------------------------------------------------------------------


def test_a_connection_knows_its_addresses_and_sends_a_request_that_tells_its_buffer():
    peer = HandPeer(buffer_size=321)
    connection = peer.endpoint.connect(FAR_PORT, local_port=NEAR_PORT)
    (request,) = peer.sent()
    assert request[:10] == (3, 2, NEAR_PORT, FAR_PORT, 0, 1, REQUEST, 0, 321, 0)
    assert connection.local == VsockAddress(3, NEAR_PORT)
    assert connection.peer == VsockAddress(2, FAR_PORT)
    assert str(connection) == "vsock 3:5000 - 2:1234"
    assert "connecting" in repr(connection)


def test_before_there_is_an_answer_nothing_can_be_sent_and_nothing_has_come():
    peer = HandPeer()
    connection = peer.connecting()
    with pytest.raises(CallerError, match="not answered"):
        send(connection, b"x")
    assert connection.receive(10) is None
    assert not connection.was_established


def test_a_connection_that_is_given_up_is_answered_with_a_reset_when_the_other_side_agrees():
    peer = HandPeer()
    connection = peer.connecting()
    connection.shutdown(NEITHER)
    assert connection.state is VsockState.CLOSED
    assert peer.endpoint.connections == []
    with pytest.raises(ChannelClosed):
        send(connection, b"x")
    assert [packet.operation for packet in peer.say(RESPONSE)] == [RST]


def test_a_request_that_waits_for_room_goes_out_later_and_only_once():
    peer = HandPeer()
    peer.carrier.places = 0
    peer.endpoint.connect(FAR_PORT)
    peer.endpoint.pump()
    assert peer.sent() == []
    peer.carrier.places = 5
    peer.endpoint.pump()
    peer.endpoint.pump()
    assert peer.operations() == [REQUEST]


def test_nothing_is_sent_over_a_connection_before_its_response():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    peer.carrier.places = 0
    assert peer.say(REQUEST) == []
    connection = listener.accept()
    assert send(connection, b"early") == 0
    peer.carrier.places = 1
    assert send(connection, b"early") == 0
    assert peer.operations() == [RESPONSE]
    peer.carrier.places = 1
    assert send(connection, b"early") == 5


# -- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1, 7, 4096])
def test_payload_is_cut_to_what_a_packet_holds(largest):
    peer = HandPeer(largest=largest)
    connection = peer.accepted(buf_alloc=40)
    assert send(connection, pattern(50)) == 40
    packets = peer.sent()
    assert b"".join(packet.payload for packet in packets) == pattern(40)
    assert [packet.length for packet in packets] == [min(largest, 40 - at) for at in range(0, 40, largest)]


def test_payload_is_never_more_than_64_kib_a_packet():
    peer = HandPeer(largest=1 << 30)
    connection = peer.accepted(buf_alloc=200_000)
    assert send(connection, bytes(150_000)) == 150_000
    assert [packet.length for packet in peer.sent()] == [65536, 65536, 18928]


def test_a_queue_that_is_full_takes_a_part():
    peer = HandPeer(largest=10)
    connection = peer.accepted()
    peer.carrier.places = 3
    assert send(connection, pattern(50)) == 30
    assert send(connection, pattern(50)) == 0
    assert connection.sending.sent == 30


def test_empty_payload_is_neither_sent_nor_an_end():
    peer = HandPeer()
    connection = peer.accepted()
    assert send(connection, b"") == 0
    assert peer.sent() == []
    peer.say(RW, b"")
    assert connection.receive(10) is None
    peer.say(RW, b"x")
    peer.say(RW, b"")
    assert connection.receive(10) == b"x"
    assert connection.receive(10) is None


@pytest.mark.parametrize("sizes", [[1] * 40, [511, 1, 512, 1, 1, 513], [600, 600], [0, 3, 0, 600, 0, 3]])
@pytest.mark.parametrize("limit", [1, 2, 511, 512, 513, 100_000])
def test_bytes_are_read_in_any_portions_and_in_order(sizes, limit):
    peer = HandPeer(buffer_size=10_000)
    connection = peer.accepted()
    sent = b""
    for number, size in enumerate(sizes):
        peer.say(RW, pattern(size, number))
        sent += pattern(size, number)
    received = connection.receive(3)
    assert received == sent[:3]
    peer.say(RW, b"behind a chunk that is begun")
    sent += b"behind a chunk that is begun"
    while connection.has_received:
        part = connection.receive(limit)
        assert isinstance(part, bytes)
        assert 1 <= len(part) <= limit
        received += part
    assert received == sent
    assert connection.receiving.waiting == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_read_of_no_bytes_is_the_callers_fault(limit):
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"x")
    with pytest.raises(CallerError):
        connection.receive(limit)
    assert connection.receive(1) == b"x"


def test_tiny_payloads_take_no_more_than_a_few_times_their_bytes():
    peer = HandPeer(buffer_size=100_000)
    connection = peer.accepted()
    for _ in range(20_000):
        peer.put(RW, b"x")
    while peer.endpoint.pump():
        pass
    assert connection.receiving.waiting == 20_000
    assert getsizeof(connection._chunks) + sum(map(getsizeof, connection._chunks)) < 2 * 20_000


# -- the end from the other side -------------------------------------------------------------------


def test_what_came_before_the_end_is_read_first_and_then_the_stream_ends():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"last words")
    assert peer.say(SHUTDOWN, flags=NO_SEND) == []
    assert connection.receive(5) == b"last "
    assert connection.receive(50) == b"words"
    assert connection.receive(50) == b"" == connection.receive(1)
    assert send(connection, b"still open") == 10


def test_both_ends_of_the_other_side_are_answered_with_a_reset_when_all_is_read():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"data")
    assert peer.say(SHUTDOWN, flags=NEITHER) == []
    assert connection.receive(3) == b"dat"
    assert RST not in peer.operations()
    assert connection.receive(3) == b"a"
    assert peer.operations()[-1:] == [RST]
    assert connection.state is VsockState.CLOSED
    assert connection.error is None
    assert connection.receive(3) == b""
    with pytest.raises(PeerClosed):
        send(connection, b"x")


def test_a_reset_without_a_shutdown_is_never_a_clean_end():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"data")
    assert peer.say(RST) == []
    assert connection.receive(50) == b"data"
    for _ in range(2):
        with pytest.raises(PeerClosed, match="reset"):
            connection.receive(50)
        with pytest.raises(PeerClosed, match="reset"):
            send(connection, b"x")
    assert peer.sent() == []


@pytest.mark.parametrize("flags", [NO_RECEIVE, 0, 4])
def test_a_reset_after_a_shutdown_that_said_nothing_of_sending_is_no_clean_end(flags):
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(SHUTDOWN, flags=flags)
    peer.say(RST)
    with pytest.raises(PeerClosed):
        connection.receive(50)


@pytest.mark.parametrize("flags", [NO_SEND, NEITHER])
def test_a_reset_after_the_other_side_ended_its_stream_is_a_clean_end(flags):
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"data")
    peer.say(SHUTDOWN, flags=flags)
    peer.say(RST)
    assert connection.receive(50) == b"data"
    assert connection.receive(50) == b""


def test_payload_after_the_end_of_a_stream_is_refused():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(SHUTDOWN, flags=NO_SEND)
    assert [packet.operation for packet in peer.say(RW, b"more")] == [RST]
    assert connection.error.kind is VsockFault.SENT_AFTER_SHUTDOWN
    assert connection.receiving.received == 0


def test_nothing_is_sent_to_a_side_that_receives_no_more():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(SHUTDOWN, flags=NO_RECEIVE)
    with pytest.raises(PeerClosed, match="receives no more"):
        send(connection, b"x")
    assert peer.say(RW, b"but it sends") == []
    assert connection.receive(50) == b"but it sends"


def test_a_connection_that_is_refused_says_so():
    peer = HandPeer()
    connection = peer.connecting()
    assert peer.say(RST) == []
    assert connection.state is VsockState.CLOSED
    assert not connection.was_established
    for call in (lambda: send(connection, b"x"), lambda: connection.receive(1)):
        with pytest.raises(PeerClosed, match="refused"):
            call()


def test_each_error_is_raised_as_an_exception_of_its_own():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RESPONSE)
    caught = []
    for _ in range(2):
        with pytest.raises(PeerError) as info:
            connection.receive(1)
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert (caught[0].kind, caught[0].found) == (caught[1].kind, caught[1].found)
    assert caught[0].kind is VsockFault.UNEXPECTED_OPERATION


# -- the end from this side ------------------------------------------------------------------------


def test_a_side_that_sends_no_more_still_receives():
    peer = HandPeer()
    connection = peer.accepted()
    connection.shutdown(NO_SEND)
    (packet,) = peer.sent()
    assert (packet.operation, packet.flags) == (SHUTDOWN, NO_SEND)
    with pytest.raises(CallerError, match="sends no more"):
        send(connection, b"x")
    peer.say(RW, b"answer")
    assert connection.receive(50) == b"answer"
    assert connection.state is VsockState.ESTABLISHED


def test_a_side_that_receives_no_more_drops_what_has_come_and_gives_the_credit_back():
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    peer.say(RW, bytes(30))
    connection.shutdown(NO_RECEIVE)
    (packet,) = peer.sent()
    assert (packet.operation, packet.flags, packet.credit) == (SHUTDOWN, NO_RECEIVE, (100, 30))
    with pytest.raises(ChannelClosed):
        connection.receive(1)
    for _ in range(4):
        answer = peer.say(RW, bytes(50))
        assert [packet.operation for packet in answer] == [CREDIT_UPDATE]
    assert connection.receiving.waiting == 0
    assert send(connection, b"but it sends") == 12


def test_the_same_shutdown_again_sends_nothing_and_another_one_all_of_it():
    peer = HandPeer()
    connection = peer.accepted()
    connection.shutdown(NO_SEND)
    connection.shutdown(NO_SEND)
    assert peer.operations() == [SHUTDOWN]
    connection.shutdown(NO_RECEIVE)
    (packet,) = peer.sent()
    assert (packet.operation, packet.flags) == (SHUTDOWN, NEITHER)
    assert connection.state is VsockState.CLOSING


def test_a_close_waits_for_the_other_sides_reset():
    peer = HandPeer()
    connection = peer.accepted()
    connection.shutdown(NEITHER)
    assert peer.operations() == [SHUTDOWN]
    assert peer.say(RW, b"too late") == []
    assert connection.state is VsockState.CLOSING
    assert peer.say(RST) == []
    assert connection.state is VsockState.CLOSED
    assert connection.error is None
    for call in (lambda: send(connection, b"x"), lambda: connection.receive(1)):
        with pytest.raises(ChannelClosed):
            call()


def test_a_close_of_what_the_other_side_has_closed_is_a_reset_at_once():
    peer = HandPeer()
    connection = peer.accepted()
    peer.say(RW, b"unread")
    peer.say(SHUTDOWN, flags=NEITHER)
    connection.shutdown(NEITHER)
    assert peer.operations()[-1] == RST
    assert peer.endpoint.connections == []


def test_what_is_owed_is_forgotten_with_the_connection():
    peer = HandPeer()
    connection = peer.accepted()
    peer.carrier.places = 0
    connection.shutdown(NO_SEND)
    peer.say(RST)
    peer.carrier.places = 9
    peer.endpoint.pump()
    assert peer.sent() == []
    connection.shutdown(NEITHER)
    connection.set_buffer_size(10)
    peer.endpoint.pump()
    assert peer.sent() == []


@pytest.mark.parametrize("seconds", [7.99, 8.0, 100.0])
def test_a_close_without_an_answer_is_a_reset_after_eight_seconds(seconds):
    now = [50.0]
    peer = HandPeer(clock=lambda: now[0])
    connection = peer.accepted()
    connection.shutdown(NEITHER)
    peer.sent()
    now[0] += seconds
    peer.endpoint.pump()
    late = seconds >= 8
    assert peer.operations() == ([RST] if late else [])
    assert connection.state is (VsockState.CLOSED if late else VsockState.CLOSING)
    peer.endpoint.pump()
    assert peer.sent() == []


def test_the_views_that_were_given_to_send_are_let_go():
    """A bytearray whose view is kept cannot change its size."""
    guest, host = connected_vsock()
    listener, client = host.listen(7), guest.connect(7)
    host.pump(), guest.pump()
    for one in (client, listener.accept()):
        data = bytearray(10_000)
        assert one.send(memoryview(data)) == 10_000
        data.clear()


@pytest.mark.parametrize("what", [0, 4, 8])
def test_a_shutdown_of_nothing_sends_nothing(what):
    peer = HandPeer()
    connection = peer.accepted()
    connection.shutdown(what)
    assert peer.sent() == []
    assert connection.state is VsockState.ESTABLISHED
