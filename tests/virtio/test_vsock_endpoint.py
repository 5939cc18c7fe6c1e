"""Many connections over one device: who listens, who is refused, and what is limited.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

import pytest

from tests.virtio.vsock_by_hand import (
    CREDIT_UPDATE,
    END_OF_MESSAGE,
    FAR_CID,
    FAR_PORT,
    NEAR_CID,
    NEAR_PORT,
    NEITHER,
    NO_SEND,
    PLENTY,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    SEQPACKET,
    SHUTDOWN,
    STREAM,
    HandPeer,
)
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError
from vmbus.virtio import (
    VSOCK_EVENT,
    VirtqueueCompletion,
    VsockEndpoint,
    VsockEvent,
    VsockFeatures,
    VsockState,
    VsockType,
    check_guest_cid,
    connected_vsock,
    vsock_types,
)
from vmbus.virtio.vsock_credit import COUNT_MASK
from vmbus.virtio.vsock_endpoint import FIRST_FREE_PORT, LAST_FREE_PORT, MOST_PACKETS, MOST_RESETS


def source(port: int) -> tuple[int, int]:
    return FAR_CID, port


# -- listening -------------------------------------------------------------------------------------


def test_a_request_makes_a_connection_that_the_listener_hands_out():
    peer = HandPeer(buffer_size=555)
    listener = peer.endpoint.listen(NEAR_PORT)
    assert listener.accept() is None
    (response,) = peer.say(REQUEST, buf_alloc=77)
    assert response[:10] == (3, 2, NEAR_PORT, FAR_PORT, 0, STREAM, RESPONSE, 0, 555, 0)
    connection = listener.accept()
    assert connection is not None and connection.sending.free == 77
    assert connection.was_established
    assert listener.accept() is None
    assert peer.endpoint.connections == [connection]


def test_connections_are_accepted_in_the_order_in_which_they_came():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    for port in (5, 3, 9):
        peer.put(REQUEST, source=source(port))
    peer.endpoint.pump()
    assert [listener.accept().peer.port for _ in range(3)] == [5, 3, 9]


@pytest.mark.parametrize("fwd_cnt", [1, 5, 2**32 - 1])
def test_a_request_that_has_received_what_was_never_sent_is_refused_and_harms_nobody(fwd_cnt):
    peer = HandPeer()
    other = peer.accepted()
    assert [packet.operation for packet in peer.say(REQUEST, source=source(9), fwd_cnt=fwd_cnt)] == [RST]
    assert peer.endpoint.connections == [other]
    assert peer.endpoint.error is None


def test_a_full_backlog_refuses_and_goes_on_when_somebody_was_accepted():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT, backlog=2)
    answers = [peer.say(REQUEST, source=source(port))[0].operation for port in (1, 2, 3)]
    assert answers == [RESPONSE, RESPONSE, RST]
    assert listener.accept() is not None
    assert peer.say(REQUEST, source=source(3))[0].operation == RESPONSE


def test_those_that_are_gone_again_take_no_place_in_the_backlog():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT, backlog=2)
    for port in range(1, 20):
        assert peer.say(REQUEST, source=source(port))[0].operation == RESPONSE
        assert peer.say(RST, source=source(port)) == []
    assert listener.accept() is None
    assert len(listener._waiting) <= 2


def test_a_connection_that_is_gone_and_has_left_something_to_read_is_still_handed_out():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT, backlog=1)
    peer.say(REQUEST)
    peer.say(RW, b"short visit")
    peer.say(SHUTDOWN, flags=NO_SEND)
    peer.say(RST)
    assert peer.say(REQUEST, source=source(9))[0].operation == RST
    connection = listener.accept()
    assert connection.receive(99) == b"short visit"
    assert connection.receive(99) == b""


def test_a_listener_that_closes_resets_those_that_wait_and_keeps_those_that_do_not():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    for port in (1, 2, 3):
        peer.say(REQUEST, source=source(port))
    kept = listener.accept()
    listener.close()
    listener.close()
    peer.endpoint.pump()
    resets = peer.sent()
    assert [(packet.operation, packet.dst_port) for packet in resets] == [(RST, 2), (RST, 3)]
    assert peer.endpoint.connections == [kept]
    with pytest.raises(ChannelClosed):
        listener.accept()
    assert peer.say(REQUEST, source=source(4))[0].operation == RST
    assert peer.say(RW, b"x", source=source(1)) == []
    assert kept.receive(1) == b"x"
    peer.endpoint.listen(NEAR_PORT)


def test_nobody_listens_twice_on_a_port():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    with pytest.raises(CallerError):
        peer.endpoint.listen(NEAR_PORT)
    with pytest.raises(CallerError):
        peer.endpoint.listen(NEAR_PORT, kind=VsockType.SEQPACKET)
    listener.close()
    assert peer.endpoint.listen(NEAR_PORT).accept() is None


def test_a_request_of_another_type_than_the_listeners_is_refused():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT, kind=VsockType.SEQPACKET)
    (reset,) = peer.say(REQUEST, kind=STREAM)
    assert (reset.operation, reset.type) == (RST, STREAM)
    (response,) = peer.say(REQUEST, kind=SEQPACKET)
    assert (response.operation, response.type) == (RESPONSE, SEQPACKET)
    assert listener.accept().kind is VsockType.SEQPACKET


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 2**32},
        {"port": 5, "backlog": 0},
        {"port": 5, "kind": 3},
        {"port": 5, "kind": 0},
    ],
    ids=str,
)
def test_what_cannot_be_listened_to_is_the_callers_fault(wrong):
    peer = HandPeer()
    with pytest.raises(CallerError):
        peer.endpoint.listen(**wrong)
    assert peer.say(REQUEST, to=(NEAR_CID, 5))[0].operation == RST


# -- connecting ------------------------------------------------------------------------------------


def test_connections_with_the_same_near_port_are_told_apart_by_the_far_one():
    peer = HandPeer(peer_cid=None, buffer_size=100)
    listener = peer.endpoint.listen(NEAR_PORT)
    ends = [(FAR_CID, 1), (FAR_CID, 2), (7, 1), (2**63, 1)]
    for end in ends:
        assert peer.say(REQUEST, source=end)[0].dst_cid == end[0]
    connections = [listener.accept() for _ in ends]
    for number, end in enumerate(ends):
        peer.say(RW, bytes([number]), source=end)
    assert [connection.receive(9) for connection in connections] == [b"\0", b"\1", b"\2", b"\3"]


def test_ports_that_nobody_asked_for_are_free_ones_and_start_again_at_the_end():
    peer = HandPeer()
    first = peer.endpoint.connect(FAR_PORT).local.port
    assert first == FIRST_FREE_PORT == 1 << 30
    assert peer.endpoint.listen(COUNT_MASK).port == first + 1
    peer.endpoint._next_port = LAST_FREE_PORT
    assert LAST_FREE_PORT == (1 << 31) - 1
    ports = [peer.endpoint.connect(FAR_PORT).local.port for _ in range(3)]
    assert ports == [LAST_FREE_PORT, first + 2, first + 3]


def test_a_connection_takes_its_addresses_until_it_ends():
    peer = HandPeer()
    connection = peer.connecting()
    with pytest.raises(CallerError, match="already"):
        peer.endpoint.connect(FAR_PORT, local_port=NEAR_PORT)
    peer.endpoint.connect(FAR_PORT + 1, local_port=NEAR_PORT)
    peer.say(RST)
    assert connection.state is VsockState.CLOSED
    again = peer.endpoint.connect(FAR_PORT, local_port=NEAR_PORT)
    connection.shutdown(NEITHER)
    connection.reset(None)
    connection.lose(PeerClosed("late"))
    assert again in peer.endpoint.connections, "the end of an old one is not the end of the new one"


def test_over_the_queues_of_a_guest_there_is_only_the_host():
    peer = HandPeer()
    with pytest.raises(CallerError, match="CID"):
        peer.endpoint.connect(FAR_PORT, cid=7)
    assert peer.endpoint.connect(FAR_PORT, cid=2).peer.cid == 2
    anywhere = HandPeer(peer_cid=None)
    assert anywhere.endpoint.connect(FAR_PORT, cid=7).peer.cid == 7
    assert anywhere.endpoint.connect(FAR_PORT).peer.cid == 2


def test_connections_are_limited_whoever_asks_for_them():
    peer = HandPeer(most_connections=3)
    listener = peer.endpoint.listen(NEAR_PORT)
    for port in (1, 2):
        assert peer.say(REQUEST, source=source(port))[0].operation == RESPONSE
    peer.endpoint.connect(FAR_PORT)
    with pytest.raises(CallerError):
        peer.endpoint.connect(FAR_PORT)
    peer.sent()
    assert peer.say(REQUEST, source=source(3))[0].operation == RST
    listener.accept().reset(None)
    assert peer.say(REQUEST, source=source(3))[-1].operation == RESPONSE
    assert len(peer.endpoint.connections) == 3


# -- resets ----------------------------------------------------------------------------------------


def test_resets_that_wait_for_room_are_limited():
    peer = HandPeer()
    peer.carrier.places = 0
    for port in range(MOST_RESETS + 10):
        peer.put(RW, b"x", source=source(port))
    while peer.endpoint.pump():
        pass
    assert len(peer.endpoint._resets) == MOST_RESETS
    assert peer.endpoint.statistics()[1:] == (MOST_RESETS, 10)
    peer.carrier.places = 100
    peer.endpoint.pump()
    peer.carrier.places = PLENTY
    peer.endpoint.pump()
    resets = peer.sent()
    assert [packet.dst_port for packet in resets] == list(range(MOST_RESETS))
    assert peer.say(RW, source=source(5000))[0].operation == RST


def test_a_side_that_has_no_room_takes_what_comes():
    """Two sides that both wait for room before they read would wait for ever."""
    peer = HandPeer()
    connection = peer.accepted()
    peer.carrier.places = 0
    for _ in range(50):
        peer.put(RW, b"x")
    peer.endpoint.pump()
    assert connection.receive(100) == b"x" * 50


def test_a_reset_for_the_connection_before_never_comes_behind_the_response_of_the_next_one():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    peer.say(REQUEST)
    peer.carrier.places = 0
    peer.say(RESPONSE)  # not expected: a reset is due, and must wait
    assert listener.accept() is None
    peer.say(REQUEST)
    connection = listener.accept()
    peer.carrier.places = PLENTY
    connection.send(memoryview(b"hello"))
    peer.endpoint.pump()
    assert peer.operations()[:2] == [RST, RESPONSE]


def test_one_pump_takes_a_limited_number_of_packets():
    peer = HandPeer()
    for _ in range(MOST_PACKETS + 1):
        peer.put(RST)
    assert peer.endpoint.pump() is True
    assert len(peer.carrier.incoming) == 1
    assert peer.endpoint.pump() is True
    assert peer.endpoint.pump() is False


def test_what_is_owed_goes_out_in_order_as_far_as_there_is_room():
    peer = HandPeer()
    peer.endpoint.listen(NEAR_PORT)
    peer.carrier.places = 0
    for port in (1, 2, 3):
        peer.say(REQUEST, source=source(port))
    seen = []
    for _ in range(4):
        peer.carrier.places = 1
        done = peer.endpoint.flush()
        seen.append((done, [packet.dst_port for packet in peer.sent()]))
    assert seen == [(False, [1]), (False, [2]), (True, [3]), (True, [])]


# -- the end of all --------------------------------------------------------------------------------


def test_a_transport_reset_ends_all_connections_and_keeps_the_listeners():
    peer = HandPeer()
    listener = peer.endpoint.listen(NEAR_PORT)
    peer.say(REQUEST)
    accepted = listener.accept()
    peer.say(REQUEST, source=source(9))  # waits
    connecting = peer.endpoint.connect(FAR_PORT)
    peer.say(RW, b"before the move")
    peer.sent()
    peer.carrier.was_reset = True
    peer.endpoint.pump()
    assert peer.sent() == [], "nobody is told: the other side knows none of them"
    assert peer.endpoint.connections == []
    assert accepted.receive(99) == b"before the move"
    for connection in (accepted, connecting):
        with pytest.raises(PeerClosed, match="moved"):
            connection.receive(1)
    assert listener.accept() is None
    assert peer.say(REQUEST)[0].operation == RESPONSE
    assert listener.accept() is not None


def test_an_endpoint_that_failed_says_why_whatever_is_asked_of_it():
    peer = HandPeer()
    connection = peer.accepted()
    listener = peer.endpoint.listen(NEAR_PORT + 1)
    peer.endpoint.fail(PeerError("the queues are broken"))
    peer.endpoint.fail(PeerClosed("later"))
    for call in (
        lambda: connection.receive(1),
        lambda: connection.send(memoryview(b"x")),
        lambda: peer.endpoint.connect(1),
        lambda: peer.endpoint.listen(1),
        lambda: listener.accept(),
        peer.endpoint.check_alive,
    ):
        with pytest.raises(PeerError, match="broken"):
            call()


def test_an_endpoint_that_closes_tells_all_and_listens_no_more():
    peer = HandPeer()
    connection = peer.accepted()
    peer.endpoint.connect(FAR_PORT)
    waiting_at = peer.endpoint.listen(NEAR_PORT + 1)
    peer.say(REQUEST, to=(NEAR_CID, NEAR_PORT + 1))
    peer.sent()
    peer.endpoint.close()
    assert sorted(peer.operations()) == [RST, SHUTDOWN]
    assert connection.state is VsockState.CLOSING
    with pytest.raises(ChannelClosed):
        waiting_at.accept()
    peer.say(RST)
    assert peer.endpoint.connections == []


@pytest.mark.parametrize("cid", [0, 1, 2, 0xFFFF_FFFF, 2**32, 2**64 - 1, -1])
def test_a_cid_that_no_guest_can_have_is_the_callers_fault(cid):
    with pytest.raises(CallerError):
        check_guest_cid(cid)
    assert check_guest_cid(3) == 3


def test_everything_says_what_it_is():
    peer = HandPeer()
    peer.accepted(kind=SEQPACKET)
    listener = peer.endpoint.listen(7)
    assert "1 connections, 2 listeners" in repr(peer.endpoint)
    assert "port 7, stream, 0 of 128 waiting" in repr(listener)
    listener.close()
    assert "closed" in repr(listener)
    assert list(peer.endpoint) == peer.endpoint.connections
    assert isinstance(peer.endpoint, VsockEndpoint)


def test_each_packet_for_nobody_is_answered_once():
    peer = HandPeer()
    assert [p.operation for p in peer.say(RW, b"x", kind=SEQPACKET, flags=END_OF_MESSAGE)] == [RST]
    assert [p.operation for p in peer.say(CREDIT_UPDATE)] == [RST]


# -- what the device offers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "types"),
    [
        (0, {VsockType.STREAM}),
        (VsockFeatures.STREAM, {VsockType.STREAM}),
        (VsockFeatures.SEQPACKET, {VsockType.STREAM, VsockType.SEQPACKET}),
        (VsockFeatures.STREAM | VsockFeatures.SEQPACKET, {VsockType.STREAM, VsockType.SEQPACKET}),
        (VsockFeatures.SEQPACKET | VsockFeatures.NO_IMPLIED_STREAM, {VsockType.SEQPACKET}),
        (VsockFeatures.STREAM | VsockFeatures.NO_IMPLIED_STREAM, {VsockType.STREAM}),
        (VsockFeatures.NO_IMPLIED_STREAM, set()),
    ],
)
def test_connections_are_of_the_types_that_were_negotiated(features, types):
    guest, _ = connected_vsock()
    endpoint = VsockEndpoint(guest.carrier, 3, features=features)
    assert vsock_types(features) == endpoint.types == types
    for kind in VsockType:
        for call in (endpoint.listen, endpoint.connect):
            if kind in types:
                call(1234 + kind, kind=kind)
            else:
                with pytest.raises(CallerError) as caught:
                    call(1234 + kind, kind=kind)
                assert (caught.value.argument, caught.value.limit) == ("kind", sorted(types))


def test_a_reset_of_the_transport_ends_what_was_before_it_and_nothing_after():
    guest, host = connected_vsock()
    listener = guest.listen(7)
    old = host.connect(7)
    guest.pump()
    host.pump()
    lost = listener.accept()
    host.carrier.send_reset()
    host.end_all(PeerClosed("moved"))
    guest.cid = host.peer_cid = 4
    new = host.connect(7)
    guest.pump()
    host.pump()
    assert (lost.state, new.state) == (VsockState.CLOSED, VsockState.ESTABLISHED)
    assert (old.state, listener.accept().peer) == (VsockState.CLOSED, new.local)


def test_a_device_that_never_stops_telling_events_does_not_keep_the_guest():
    guest, _ = connected_vsock()
    event = VSOCK_EVENT.pack(VsockEvent(0))
    told = []

    def completions():
        while True:
            told.append(1)
            yield VirtqueueCompletion(0, event, 4)

    guest.carrier.event.completions = completions
    guest.carrier.event.add_place = lambda *arguments, **options: 0
    assert guest.carrier.take_reset() is True
    assert len(told) == guest.carrier.event.queue_size
