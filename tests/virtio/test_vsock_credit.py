"""The credit of vsock connections: the arithmetic, and what it does to two sides.

Sources: OASIS VIRTIO 1.2, section 5.10.6.3; Linux net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, tuples

from tests.helpers import pattern
from tests.virtio.vsock_by_hand import (
    CREDIT_REQUEST,
    CREDIT_UPDATE,
    END_OF_MESSAGE,
    NO_SEND,
    RESPONSE,
    RST,
    RW,
    SEQPACKET,
    SHUTDOWN,
    STREAM,
    HandPeer,
)
from vmbus.errors import CallerError, PeerError
from vmbus.virtio import (
    ReceiveCredit,
    SendCredit,
    VsockFault,
    VsockState,
    VsockType,
    bytes_in_flight,
    connected_vsock,
    credit_is_due,
    peer_free_bytes,
)

REPEATABLE = settings(deadline=None, derandomize=True, database=None, max_examples=150)

#: Where free-running counters start: at zero, and so that they wrap within a few bytes.
STARTS = [0, 2**32 - 1, 2**32 - 50, 2**31 - 50, 2**33 - 3]


def started(connection: Any, start: int) -> Any:
    """The connection as if so many bytes had gone each way already."""
    connection.sending.sent += start
    connection.sending.peer_fwd_cnt = (connection.sending.peer_fwd_cnt + start) & 0xFFFF_FFFF
    for name in ("received", "forwarded", "told", "allowed"):
        setattr(connection.receiving, name, getattr(connection.receiving, name) + start)
    return connection


# -- arithmetic ------------------------------------------------------------------------------------


def test_the_example_of_a_count_that_has_wrapped():
    assert bytes_in_flight(0x1000, 0xFFFF_FFF0) == 0x1010
    assert peer_free_bytes(0x40000, 0x1000, 0xFFFF_FFF0) == 258032


@given(alloc=integers(0, 2**32 - 1), flight=integers(0, 2**32 - 1), sent=integers(0, 2**40))
@REPEATABLE
def test_what_is_free_is_the_buffer_without_what_is_in_flight_and_never_less_than_nothing(
    alloc, flight, sent
):
    fwd_cnt = (sent - flight) % 2**32
    assert bytes_in_flight(sent, fwd_cnt) == flight
    assert peer_free_bytes(alloc, sent, fwd_cnt) == (alloc - flight if alloc > flight else 0)


@pytest.mark.parametrize(
    ("alloc", "untold", "due"),
    [
        (1, 0, False),
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
        (3, 2, True),
        (4096, 2047, False),
        (4096, 2048, True),
    ],
)
def test_credit_is_due_when_half_the_buffer_has_come_free(alloc, untold, due):
    assert credit_is_due(alloc, untold) is due


@pytest.mark.parametrize("start", STARTS)
def test_a_forward_count_up_to_what_was_sent_is_taken_and_one_more_is_not(start):
    credit = SendCredit()
    credit.sent, credit.peer_fwd_cnt = start + 100, start & 0xFFFF_FFFF
    credit.note(500, (start + 40) & 0xFFFF_FFFF)
    assert credit.free == 440
    for wrong in (start + 101, start + 39, start - 1, start + 40 + 2**31):
        with pytest.raises(PeerError) as caught:
            credit.note(7, wrong & 0xFFFF_FFFF)
        assert caught.value.kind is VsockFault.CREDIT_BACKWARDS
        assert caught.value.allowed == 60
        assert credit.free == 440
    credit.note(500, (start + 100) & 0xFFFF_FFFF)
    assert credit.free == 500


@pytest.mark.parametrize("start", STARTS)
def test_a_receiver_tells_its_count_in_32_bits(start):
    credit = ReceiveCredit(100)
    credit.received = credit.forwarded = credit.told = credit.allowed = start
    assert credit.tell() == (100, start % 2**32)
    credit.take(60)
    credit.forward(60)
    assert credit.tell() == (100, (start + 60) % 2**32)


@given(moves=lists(tuples(integers(0, 60), integers(0, 60), integers(1, 100)), max_size=30))
@REPEATABLE
def test_bytes_that_were_allowed_once_are_always_taken_and_one_more_never_is(moves):
    credit = ReceiveCredit(50)
    promised, received, forwarded = 0, 0, 0
    for take, forward, size in moves:
        credit.buf_alloc = size
        buf_alloc, fwd_cnt = credit.tell()
        promised = max(promised, fwd_cnt + buf_alloc)
        take = min(take, promised - received)
        credit.take(take)
        received += take
        with pytest.raises(PeerError) as caught:
            credit.take(promised - received + 1)
        assert caught.value.kind is VsockFault.CREDIT_EXCEEDED
        assert credit.waiting == received - forwarded
        forward = min(forward, received - forwarded)
        credit.forward(forward)
        forwarded += forward
        assert credit.waiting == received - forwarded


# -- sending within it -----------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "messages"])
def test_no_byte_more_is_sent_than_the_other_side_has_room_for(kind, start):
    peer = HandPeer()
    connection = started(peer.accepted(kind=kind, buf_alloc=100), start)
    send = connection.send
    assert send(memoryview(bytes(60)))
    assert not send(memoryview(bytes(41))) if kind == SEQPACKET else send(memoryview(bytes(41))) == 40
    assert send(memoryview(bytes(40))) is True if kind == SEQPACKET else not send(memoryview(bytes(40)))
    packets = [packet for packet in peer.sent() if packet.operation == RW]
    assert [packet.length for packet in packets] == [60, 40]
    assert connection.sending.free == 0
    peer.say(CREDIT_UPDATE, kind=kind, buf_alloc=100, fwd_cnt=(start + 99) & 0xFFFF_FFFF)
    assert connection.sending.free == 99


@pytest.mark.parametrize("operation", [CREDIT_UPDATE, CREDIT_REQUEST, RW, SHUTDOWN])
def test_credit_is_taken_from_every_packet_of_a_connection(operation):
    peer = HandPeer()
    connection = peer.accepted(buf_alloc=10)
    connection.send(memoryview(bytes(10)))
    peer.say(operation, flags=NO_SEND if operation == SHUTDOWN else 0, buf_alloc=30, fwd_cnt=4)
    assert connection.sending.free == 24


def test_a_buffer_that_shrinks_below_what_is_in_flight_has_no_room():
    peer = HandPeer()
    connection = peer.accepted(buf_alloc=100)
    assert connection.send(memoryview(bytes(80))) == 80
    peer.say(CREDIT_UPDATE, buf_alloc=50, fwd_cnt=0)
    assert connection.sending.free == 0
    assert connection.send(memoryview(b"x")) == 0
    peer.say(CREDIT_UPDATE, buf_alloc=50, fwd_cnt=30)
    assert connection.send(memoryview(b"x")) == 0
    peer.say(CREDIT_UPDATE, buf_alloc=50, fwd_cnt=31)
    assert connection.send(memoryview(b"xy")) == 1


def test_a_message_that_needs_more_credit_asks_once_until_one_was_sent():
    peer = HandPeer()
    connection = peer.accepted(kind=SEQPACKET, buf_alloc=100)
    assert connection.send(memoryview(bytes(60)))
    assert not any(connection.send(memoryview(bytes(50))) for _ in range(3))
    assert peer.operations() == [RW, CREDIT_REQUEST]
    peer.say(CREDIT_UPDATE, kind=SEQPACKET, buf_alloc=100, fwd_cnt=0)
    assert not any(connection.send(memoryview(bytes(50))) for _ in range(3))
    assert peer.sent() == [], "who asks again at every answer never ends"
    peer.say(CREDIT_UPDATE, kind=SEQPACKET, buf_alloc=100, fwd_cnt=60)
    assert connection.send(memoryview(bytes(50)))
    assert not connection.send(memoryview(bytes(60)))
    assert peer.operations() == [RW, CREDIT_REQUEST]


@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "messages"])
def test_a_side_can_ask_for_credit_at_any_time(kind):
    peer = HandPeer()
    connection = peer.accepted(kind=kind)
    connection.ask_for_credit()
    (request,) = peer.sent()
    assert (request.operation, request.type, request.credit) == (CREDIT_REQUEST, kind, (1000, 0))


def test_a_side_without_room_in_the_queue_does_not_ask_for_credit_that_it_has():
    peer = HandPeer()
    connection = peer.accepted(buf_alloc=4)
    peer.carrier.places = 0
    assert connection.send(memoryview(b"1234")) == 0
    peer.carrier.places = 9
    peer.endpoint.pump()
    assert peer.operations() == []


@pytest.mark.parametrize("fwd_cnt", [1, 100, 2**31, 2**32 - 1])
@pytest.mark.parametrize("operation", [RW, CREDIT_UPDATE, CREDIT_REQUEST, SHUTDOWN])
def test_a_side_that_says_it_received_more_than_was_sent_is_reset(operation, fwd_cnt):
    peer = HandPeer()
    connection = peer.accepted()
    assert [packet.operation for packet in peer.say(operation, fwd_cnt=fwd_cnt)] == [RST]
    assert connection.error.kind is VsockFault.CREDIT_BACKWARDS
    with pytest.raises(PeerError):
        connection.receive(1)
    with pytest.raises(PeerError):
        connection.send(memoryview(b"x"))


@pytest.mark.parametrize("fwd_cnt", [1, 2**32 - 1])
def test_a_response_that_has_received_what_was_never_sent_is_reset(fwd_cnt):
    peer = HandPeer()
    connection = peer.connecting()
    assert [packet.operation for packet in peer.say(RESPONSE, fwd_cnt=fwd_cnt)] == [RST]
    assert connection.error.kind is VsockFault.CREDIT_BACKWARDS
    assert not connection.was_established


# -- giving it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "messages"])
def test_one_byte_more_than_allowed_ends_the_connection_with_a_reset(kind, start):
    peer = HandPeer(buffer_size=100)
    connection = started(peer.accepted(kind=kind), start)
    flags = END_OF_MESSAGE if kind == SEQPACKET else 0
    assert peer.say(RW, pattern(100), kind=kind, flags=flags, fwd_cnt=start & 0xFFFF_FFFF) == []
    (reset,) = peer.say(RW, b"x", kind=kind, flags=flags, fwd_cnt=start & 0xFFFF_FFFF)
    assert (reset.operation, reset.credit) == (RST, (0, 0))
    assert connection.state is VsockState.CLOSED
    assert connection.error.kind is VsockFault.CREDIT_EXCEEDED
    received = connection.receive(1000) if kind == STREAM else connection.receive().data
    assert received == pattern(100), "what had come before the end can still be read"
    with pytest.raises(PeerError) as caught:
        connection.receive(1) if kind == STREAM else connection.receive()
    assert caught.value.kind is VsockFault.CREDIT_EXCEEDED


def test_only_payload_counts():
    peer = HandPeer(buffer_size=10)
    connection = peer.accepted()
    for operation in (CREDIT_UPDATE, CREDIT_REQUEST, SHUTDOWN) * 4:
        peer.say(operation, length=1000)
    for _ in range(10):
        assert peer.say(RW, b"x") == []
    assert peer.say(RW, b"") == []
    assert connection.receive(99) == b"x" * 10


def test_a_request_for_credit_is_answered_with_what_there_is():
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    peer.say(RW, bytes(30))
    connection.receive(10)
    assert peer.operations() == []
    (update,) = peer.say(CREDIT_REQUEST)
    assert (update.operation, update.type, update.credit) == (CREDIT_UPDATE, STREAM, (100, 10))


def test_the_other_side_is_told_when_half_the_buffer_is_free_again_and_not_before():
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    peer.say(RW, bytes(100))
    for _ in range(49):
        connection.receive(1)
    assert peer.sent() == []
    connection.receive(1)
    (update,) = peer.sent()
    assert (update.operation, update.credit) == (CREDIT_UPDATE, (100, 50))


def test_payload_brings_the_credit_of_its_sender_and_no_update_is_due_after_it():
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    peer.say(RW, bytes(40))
    connection.receive(40)
    connection.send(memoryview(b"answer"))
    (packet,) = peer.sent()
    assert (packet.operation, packet.credit) == (RW, (100, 40))
    peer.say(RW, bytes(49))
    connection.receive(49)
    assert peer.sent() == []


@pytest.mark.parametrize("smaller", [1, 50, 99])
def test_a_side_that_makes_its_buffer_smaller_takes_what_it_allowed_before(smaller):
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    connection.set_buffer_size(smaller)
    (update,) = peer.sent()
    assert (update.operation, update.credit) == (CREDIT_UPDATE, (smaller, 0))
    assert peer.say(RW, pattern(100)) == []
    assert connection.receive(1000) == pattern(100)
    assert peer.sent()[-1].credit == (smaller, 100)
    assert peer.say(RW, bytes(smaller)) == []
    assert [packet.operation for packet in peer.say(RW, b"x")] == [RST]


def test_a_buffer_that_grows_is_told_at_once():
    peer = HandPeer(buffer_size=10)
    connection = peer.accepted()
    connection.set_buffer_size(5000)
    assert [packet.credit for packet in peer.sent()] == [(5000, 0)]
    assert peer.say(RW, bytes(5000)) == []
    assert connection.receiving.waiting == 5000


def test_a_buffer_that_grows_while_there_is_no_answer_yet_is_told_with_it():
    """Nothing else may ever go this way: a reader has nothing to send."""
    peer = HandPeer(buffer_size=1)
    connection = peer.connecting()
    connection.set_buffer_size(5000)
    assert [packet.operation for packet in peer.sent()] in ([], [CREDIT_UPDATE])
    answer = peer.say(RESPONSE)
    assert [packet.credit for packet in answer][-1:] == [(5000, 0)]


def test_a_buffer_that_shrinks_and_grows_again_is_told_each_time():
    """What was allowed is the same in the end; what the other side takes for the buffer is not."""
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted()
    connection.set_buffer_size(50)
    connection.set_buffer_size(100)
    assert [packet.buf_alloc for packet in peer.sent()] == [50, 100]


@pytest.mark.parametrize("size", [0, -1, 2**32])
def test_a_buffer_that_cannot_be_told_is_the_callers_fault(size):
    peer = HandPeer()
    connection = peer.accepted()
    with pytest.raises(CallerError):
        connection.set_buffer_size(size)
    assert connection.receiving.buf_alloc == 1000


# -- nobody waits for ever -------------------------------------------------------------------------


def test_a_message_for_the_whole_buffer_comes_through_when_the_reader_empties_it_in_two_halves():
    """The first half is told by itself; the second is less than half, and its sender has asked before."""
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted(kind=SEQPACKET)
    for length in (50, 49):
        peer.say(RW, bytes(length), kind=SEQPACKET, flags=END_OF_MESSAGE)
    assert [packet.credit for packet in peer.say(CREDIT_REQUEST, kind=SEQPACKET)] == [(100, 0)]
    connection.receive()
    assert [packet.credit for packet in peer.sent()] == [(100, 50)]
    connection.receive()
    assert [packet.credit for packet in peer.sent()] == [(100, 99)], "its sender waits for all of it"


@pytest.mark.parametrize("asks", [True, False], ids=["asks for credit", "does not ask"])
def test_the_rest_of_a_message_comes_when_those_before_it_are_read(asks):
    """Linux sends a message in parts, as credit allows, and never asks for any."""
    peer = HandPeer(buffer_size=100)
    connection = peer.accepted(kind=SEQPACKET)
    peer.say(RW, bytes(40), kind=SEQPACKET, flags=END_OF_MESSAGE)
    peer.say(RW, bytes(60), kind=SEQPACKET)
    if asks:
        peer.say(CREDIT_REQUEST, kind=SEQPACKET)
    assert len(connection.receive().data) == 40
    assert [packet.credit for packet in peer.sent()][-1:] == [(100, 40)], "20 bytes of it are to come"
    assert peer.say(RW, bytes(20), kind=SEQPACKET, flags=END_OF_MESSAGE) == []
    assert len(connection.receive().data) == 80


def connected_pair(kind: VsockType, queue_size: int, place_size: int, sizes: tuple[int, int]) -> Any:
    """Both ends of one connection, and what lets both sides do all that they can."""
    guest, host = connected_vsock(queue_size, place_size=place_size)
    guest.buffer_size, host.buffer_size = sizes
    listener = host.listen(7, kind=kind)
    client = guest.connect(7, kind=kind)
    rounds(guest, host)
    server = listener.accept()
    rounds(guest, host)
    assert client.state is server.state is VsockState.ESTABLISHED
    return client, server, guest, host


def rounds(guest: Any, host: Any) -> None:
    """Pump both until nothing moves; a few rounds are enough for what two queues can hold."""
    for _ in range(60):
        if not (guest.pump() | host.pump()):
            return
    raise AssertionError("the two sides never come to rest")


@given(
    sizes=tuples(integers(1, 40), integers(1, 40)),
    order=integers(1, 3),
    payload=integers(1, 20),
    chunks=lists(tuples(integers(1, 60), integers(1, 60), integers(0, 3)), min_size=3, max_size=8),
)
@settings(REPEATABLE, max_examples=60)
def test_a_stream_through_the_smallest_queues_and_buffers_always_comes_through(sizes, order, payload, chunks):
    client, server, guest, host = connected_pair(VsockType.STREAM, 1 << order, 44 + payload, sizes)
    for one, other in ((client, server), (server, client)):
        for length, limit, skipped in chunks:
            data, done, received = pattern(length), 0, b""
            for turn in range(20 * length + 40):
                if done < length:
                    done += one.send(memoryview(data)[done:])
                if skipped != 1 or turn % 2:
                    guest.pump()
                if skipped != 2 or turn % 2:
                    host.pump()
                if skipped != 3 or turn % 3 == 2:
                    received += other.receive(limit) or b""
                if len(received) == length:
                    break
            assert received == data
            rounds(guest, host)


@given(
    size=integers(1, 60),
    order=integers(1, 3),
    payload=integers(1, 20),
    lengths=lists(tuples(integers(0, 60), integers(0, 2)), min_size=4, max_size=30),
)
@settings(REPEATABLE, max_examples=120)
def test_messages_through_the_smallest_queues_and_buffers_always_come_through(size, order, payload, lengths):
    client, server, guest, host = connected_pair(VsockType.SEQPACKET, 1 << order, 44 + payload, (5, size))
    wanted = [(pattern(min(length, size), number), reads) for number, (length, reads) in enumerate(lengths)]
    received: list[bytes] = []
    for message, reads in wanted:
        for _ in range(80):
            if client.send(memoryview(message)):
                break
            guest.pump(), host.pump()
            one = server.receive()
            received += [one.data] if one else []
        else:
            raise AssertionError(f"{server!r} is read to its end, and {client!r} waits for ever")
        for _ in range(reads):
            host.pump()
            one = server.receive()
            received += [one.data] if one else []
    for _ in range(80):
        rounds(guest, host)
        one = server.receive()
        received += [one.data] if one else []
    assert received == [message for message, _ in wanted]
