"""What each packet does in each state, compared with a table written once more.

The expectations come from the standard and what implementations do, not from the table that is tested.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c; OpenVMM
virtio_vsock.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.virtio.vsock_by_hand import (
    CREDIT_REQUEST,
    CREDIT_UPDATE,
    FAR_CID,
    FAR_PORT,
    INVALID,
    NEAR_CID,
    NEAR_PORT,
    NEITHER,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    SEQPACKET,
    SHUTDOWN,
    STREAM,
    HandPeer,
)
from vmbus.errors import ConnectionRefused, PeerClosed, PeerError
from vmbus.virtio import VSOCK_TABLE, VsockFault, VsockPacketEvent, VsockState, VsockType, vsock_table_text

#: The operations, two that nobody has named, and a REQUEST of a type that is not the connection's.
EVENTS = {
    "REQUEST": (REQUEST, None),
    "RESPONSE": (RESPONSE, None),
    "RST": (RST, None),
    "SHUTDOWN": (SHUTDOWN, None),
    "RW": (RW, None),
    "CREDIT_UPDATE": (CREDIT_UPDATE, None),
    "CREDIT_REQUEST": (CREDIT_REQUEST, None),
    "INVALID": (INVALID, None),
    "UNKNOWN": (8, None),
    "WRONG_TYPE": (RW, "other"),
}
STATES = ("closed", "listening", "connecting", "established", "closing")
KINDS = {"stream": STREAM, "messages": SEQPACKET}


class Outcome(NamedTuple):
    """What must happen: operations that are sent, the state afterwards, the error that users get."""

    answer: list[int]
    state: str
    error: type[Exception] | None = None


def expected(state: str, event: str) -> Outcome:
    """The standard's rules one after the other, and what was decided where it has none."""
    if event == "RST":  # never answered
        if state in ("closed", "listening"):
            return Outcome([], state)
        errors = {"connecting": ConnectionRefused, "established": PeerClosed}
        return Outcome([], "closed", errors.get(state))
    if event == "WRONG_TYPE":  # answered, and harms nobody
        return Outcome([RST], state)
    if state == "closed":
        return Outcome([RST], "closed")
    if state == "listening":
        return Outcome([RESPONSE], "established") if event == "REQUEST" else Outcome([RST], "listening")
    if state == "connecting":
        if event == "RESPONSE":
            return Outcome([], "established")
        if event == "INVALID":
            return Outcome([], "connecting")
        return Outcome([RST], "closed", PeerError)
    if state == "established":
        if event in ("RW", "CREDIT_UPDATE", "SHUTDOWN"):
            return Outcome([], "established")
        if event == "CREDIT_REQUEST":
            return Outcome([CREDIT_UPDATE], "established")
        return Outcome([RST], "closed", PeerError)
    assert state == "closing"
    if event == "REQUEST":  # the other side has forgotten
        return Outcome([RST], "closed")
    return Outcome([], "closing")


def brought_to(state: str, kind: int) -> tuple[HandPeer, Any]:
    """A peer across from an endpoint in that state, and its connection if there is one."""
    peer = HandPeer()
    if state == "closed":
        return peer, None
    if state == "listening":
        peer.endpoint.listen(NEAR_PORT, kind=VsockType(kind))
        return peer, None
    if state == "connecting":
        return peer, peer.connecting(kind=kind)
    connection = peer.accepted(kind=kind)
    if state == "closing":
        connection.shutdown(NEITHER)
        assert peer.operations() == [SHUTDOWN]
    return peer, connection


def state_of(peer: HandPeer, connection: Any) -> str:
    """The state of the one connection that there is or was; without one, that of the port."""
    if connection is not None:
        assert (connection in peer.endpoint.connections) == (connection.state is not VsockState.CLOSED)
        return str(connection.state.value)
    if peer.endpoint.connections:
        return str(peer.endpoint.connections[0].state.value)
    return "listening" if NEAR_PORT in peer.endpoint._listeners else "closed"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_event_does_in_every_state_what_the_standard_says(state, event, kind):
    peer, connection = brought_to(state, kind)
    operation, other = EVENTS[event]
    sent_kind = 3 - kind if other else kind
    outcome = expected(state, event)
    answer = peer.say(operation, kind=sent_kind, buf_alloc=777)
    assert [packet.operation for packet in answer] == outcome.answer
    for packet in answer:
        assert (packet.src_cid, packet.src_port) == (NEAR_CID, NEAR_PORT)
        assert (packet.dst_cid, packet.dst_port) == (FAR_CID, FAR_PORT)
        assert (packet.type, packet.length, packet.flags) == (sent_kind, 0, 0)
        assert packet.credit == ((0, 0) if packet.operation == RST else (1000, 0))
    assert state_of(peer, connection) == outcome.state
    if connection is not None:
        error = type(connection.error) if connection.error else None
        assert error is outcome.error
        if error is PeerError:
            assert connection.error.kind is VsockFault.UNEXPECTED_OPERATION
            assert connection.error.found == operation
        takes_credit = outcome.state in ("established", "closing") and (
            event in ("RESPONSE", "RW", "CREDIT_UPDATE", "CREDIT_REQUEST", "SHUTDOWN")
        )
        if state != "closing" and takes_credit:
            assert connection.sending.peer_buf_alloc == 777


def test_the_table_has_each_state_with_each_event_once():
    assert len(VSOCK_TABLE) == len(STATES) * len(EVENTS) == 50
    assert {state.value for state, _ in VSOCK_TABLE} == set(STATES)
    assert len(vsock_table_text().splitlines()) == 50
    for (state, event), row in VSOCK_TABLE.items():
        assert (row.state, row.event) == (state, event)
        wanted = expected(state.value, event.name)
        assert row.following.value == wanted.state
        if event is VsockPacketEvent.RST:
            assert "reset" not in row.action.value


@pytest.mark.parametrize("kind", [0, STREAM, SEQPACKET, 3, 0xFFFF])
@pytest.mark.parametrize("state", STATES)
def test_a_reset_of_any_type_is_never_answered(state, kind):
    peer, _ = brought_to(state, STREAM)
    assert peer.say(RST, kind=kind) == []
    assert peer.say(RST, kind=kind) == []


@pytest.mark.parametrize("operation", [INVALID, RESPONSE, SHUTDOWN, RW, 8, 0xFFFF])
@pytest.mark.parametrize("kind", [0, STREAM, SEQPACKET, 0xFFFF])
def test_a_packet_for_nobody_is_answered_with_a_reset_of_its_own_type(operation, kind):
    peer = HandPeer()
    (reset,) = peer.say(operation, b"data" if operation == RW else b"", kind=kind, flags=3, fwd_cnt=9)
    assert (reset.operation, reset.type, reset.flags, reset.credit) == (RST, kind, 0, (0, 0))
    assert (reset.src_port, reset.dst_port) == (NEAR_PORT, FAR_PORT)
    assert peer.endpoint.statistics().resets == 1


@pytest.mark.parametrize("first", [1, 2])
def test_the_flags_of_two_shutdowns_add_up_and_the_second_ends_the_connection(first):
    peer = HandPeer()
    connection = peer.accepted()
    assert peer.say(SHUTDOWN, flags=first) == []
    assert connection.state is VsockState.ESTABLISHED
    assert [packet.operation for packet in peer.say(SHUTDOWN, flags=3 - first)] == [RST]
    assert connection.state is VsockState.CLOSED
    assert connection.error is None


def test_flags_of_a_shutdown_that_nobody_has_named_mean_nothing():
    peer = HandPeer()
    connection = peer.accepted()
    assert peer.say(SHUTDOWN, flags=0xFFFF_FFFC) == []
    assert connection.peer_shutdown == 0


@pytest.mark.parametrize("flags", [1, 2, 3])
def test_a_shutdown_from_the_other_side_while_this_side_closes(flags):
    peer, connection = brought_to("closing", STREAM)
    answer = [packet.operation for packet in peer.say(SHUTDOWN, flags=flags)]
    assert answer == ([RST] if flags == NEITHER else [])
    assert connection.state is (VsockState.CLOSED if flags == NEITHER else VsockState.CLOSING)


@pytest.mark.parametrize("operation", [8, 9, 0x1234, 0xFFFF])
def test_an_operation_that_nobody_has_named_ends_a_connection_and_is_named_by_its_number(operation):
    peer = HandPeer()
    connection = peer.accepted()
    assert [packet.operation for packet in peer.say(operation)] == [RST]
    assert str(operation) in str(connection.error)


@pytest.mark.parametrize("field", ["source", "to"])
def test_a_packet_from_or_to_a_foreign_cid_is_dropped_and_counted(field):
    """Vhost: the guest's CID and 2, and nothing else."""
    peer = HandPeer()
    connection = peer.accepted()
    wrong = {"source": (FAR_CID + 7, FAR_PORT), "to": (NEAR_CID + 7, NEAR_PORT)}[field]
    for number, operation in enumerate((REQUEST, RW, RST, SHUTDOWN, 99), start=1):
        assert peer.say(operation, **{field: wrong}) == []
        assert peer.endpoint.statistics().foreign == number
    assert connection.state is VsockState.ESTABLISHED
    assert len(peer.endpoint.connections) == 1


def test_the_length_of_a_packet_without_payload_means_nothing():
    peer = HandPeer()
    connection = peer.accepted()
    assert [p.operation for p in peer.say(CREDIT_REQUEST, length=0xFFFF_FFFF)] == [CREDIT_UPDATE]
    assert connection.receiving.received == 0
