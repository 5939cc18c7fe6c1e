"""What a packet does to a vsock connection: one table, a row for every state and every event.

A state is this side's.  Where nobody listens and nobody is connected the state is CLOSED; a listener is
LISTENING for all who are not connected yet, and a REQUEST there makes a new connection.

What implementations differ in is decided so:

* A packet that its state does not have ends the connection with a reset (OpenVMM; Linux drops it).
* So does INVALID, but while a connection is asked for (Linux).
* A packet of another type than the connection's is answered with a reset and harms nobody (Linux); but a
  reset of any type is one.
* A reset is never answered with a reset: two sides would go on for ever.
* In CLOSING what still comes is dropped, for nobody will read it; a REQUEST says that the other side
  has forgotten the connection.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c,
virtio_transport_recv_pkt(); OpenVMM virtio_vsock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from .vsock_layout import VsockHeader, VsockOperation

__all__ = [
    "EVENT_OF",
    "VSOCK_TABLE",
    "VsockAction",
    "VsockPacketEvent",
    "VsockRow",
    "VsockState",
    "find_row",
    "vsock_table_text",
]


class Singleton(Enum):
    """An enum whose members are told apart by what they are: quicker to look up than by their names."""

    __hash__ = object.__hash__


class VsockState(Singleton):
    """Where a connection stands."""

    CLOSED = "closed"
    LISTENING = "listening"
    CONNECTING = "connecting"
    ESTABLISHED = "established"
    CLOSING = "closing"


class VsockPacketEvent(Singleton):
    """What has come."""

    REQUEST = "REQUEST"
    RESPONSE = "RESPONSE"
    RST = "RST"
    SHUTDOWN = "SHUTDOWN"
    RW = "RW"
    CREDIT_UPDATE = "CREDIT_UPDATE"
    CREDIT_REQUEST = "CREDIT_REQUEST"
    INVALID = "INVALID"
    UNKNOWN = "unknown operation"
    WRONG_TYPE = "wrong type"


class VsockAction(Singleton):
    """What to do then."""

    IGNORE = "ignore"
    RESET = "answer with a reset"
    ACCEPT = "answer with a response"
    ESTABLISH = "connected"
    REFUSE = "refused: tell the caller"
    FAIL = "reset, and tell the caller"
    RECEIVE = "take the payload"
    CREDIT = "note the credit"
    TELL_CREDIT = "answer with a credit update"
    SHUT = "note what will not come any more"
    LOSE = "the other side is gone"
    FINISH = "closed on both sides"


class VsockRow(NamedTuple):
    """One line of the table; `following` is the state afterwards."""

    state: VsockState
    event: VsockPacketEvent
    action: VsockAction
    following: VsockState


#: Operations by their number; all others are UNKNOWN.
EVENT_OF: Mapping[int, VsockPacketEvent] = {
    int(operation): VsockPacketEvent[operation.name] for operation in VsockOperation
}


def rows_of(
    state: VsockState,
    otherwise: tuple[VsockAction, VsockState],
    **special: tuple[VsockAction, VsockState],
) -> list[VsockRow]:
    """All rows of a state: the special ones by the name of their event, and one for all the others."""
    return [VsockRow(state, event, *special.get(event.name, otherwise)) for event in VsockPacketEvent]


def build_table() -> dict[tuple[VsockState, VsockPacketEvent], VsockRow]:
    action, state = VsockAction, VsockState
    rows = [
        *rows_of(
            state.CLOSED,
            (action.RESET, state.CLOSED),
            RST=(action.IGNORE, state.CLOSED),
        ),
        *rows_of(
            state.LISTENING,
            (action.RESET, state.LISTENING),
            REQUEST=(action.ACCEPT, state.ESTABLISHED),
            RST=(action.IGNORE, state.LISTENING),
        ),
        *rows_of(
            state.CONNECTING,
            (action.FAIL, state.CLOSED),
            RESPONSE=(action.ESTABLISH, state.ESTABLISHED),
            RST=(action.REFUSE, state.CLOSED),
            INVALID=(action.IGNORE, state.CONNECTING),
            WRONG_TYPE=(action.RESET, state.CONNECTING),
        ),
        *rows_of(
            state.ESTABLISHED,
            (action.FAIL, state.CLOSED),
            RW=(action.RECEIVE, state.ESTABLISHED),
            CREDIT_UPDATE=(action.CREDIT, state.ESTABLISHED),
            CREDIT_REQUEST=(action.TELL_CREDIT, state.ESTABLISHED),
            SHUTDOWN=(action.SHUT, state.ESTABLISHED),
            RST=(action.LOSE, state.CLOSED),
            WRONG_TYPE=(action.RESET, state.ESTABLISHED),
        ),
        *rows_of(
            state.CLOSING,
            (action.IGNORE, state.CLOSING),
            SHUTDOWN=(action.SHUT, state.CLOSING),
            RST=(action.FINISH, state.CLOSED),
            REQUEST=(action.RESET, state.CLOSED),
            WRONG_TYPE=(action.RESET, state.CLOSING),
        ),
    ]
    return {(row.state, row.event): row for row in rows}


#: Every state with every event.
VSOCK_TABLE: Mapping[tuple[VsockState, VsockPacketEvent], VsockRow] = build_table()

UNKNOWN, WRONG_TYPE, RST = VsockPacketEvent.UNKNOWN, VsockPacketEvent.WRONG_TYPE, VsockPacketEvent.RST


def find_row(state: VsockState, kind: int, header: VsockHeader) -> VsockRow:
    """The row for a packet; `kind` is the type of the connection, or of the listener.

    A reset is a reset whatever its type, or two sides would answer each other for ever.

    >>> find_row(VsockState.CONNECTING, 1, VsockHeader(type=1, operation=2)).following.value
    'established'
    """
    event = EVENT_OF.get(header.operation, UNKNOWN)
    if header.type != kind and event is not RST:
        event = WRONG_TYPE
    return VSOCK_TABLE[state, event]


def vsock_table_text() -> str:
    """The table for people, a line a row.

    >>> print(vsock_table_text().splitlines()[0])
    closed       REQUEST            answer with a reset               -> closed
    """
    return "\n".join(
        f"{row.state.value:<12} {row.event.value:<18} {row.action.value:<33} -> {row.following.value}"
        for row in VSOCK_TABLE.values()
    )
