"""One vsock connection from one side, before it is known what it carries: state, credit, and the end.

Nothing here waits.  What this side owes the other (a response, a credit update, the end) is noted, and
sent as soon as the queue has room for it.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

from copy import copy
from typing import ClassVar, NoReturn, Protocol

from vmbus.errors import (
    CallerError,
    ChannelClosed,
    ConnectionRefused,
    PeerClosed,
    PeerError,
    VmbusError,
)

from .vsock_address import VsockAddress
from .vsock_carrier import VsockCarrier
from .vsock_credit import ReceiveCredit, SendCredit, check_buffer_size
from .vsock_faults import VsockFault
from .vsock_layout import VSOCK_HEADER, VsockHeader, VsockOperation, VsockShutdown, VsockType
from .vsock_owed import OWED_PACKETS, OWED_SHUTDOWN, OWED_UPDATE, Owed
from .vsock_table import VsockAction, VsockRow, VsockState, find_row

__all__ = ["VsockConnection", "VsockHome"]

# Plain numbers for the loops: an IntFlag costs a microsecond an operation.
NO_RECEIVE = int(VsockShutdown.RECEIVE)
NO_SEND = int(VsockShutdown.SEND)
NEITHER = NO_RECEIVE | NO_SEND
RW = int(VsockOperation.RW)
ESTABLISHED = VsockState.ESTABLISHED

pack_header = VSOCK_HEADER.struct.pack


class VsockHome(Protocol):
    """What a connection needs of the endpoint that it belongs to."""

    carrier: VsockCarrier

    def note_owing(self, connection: VsockConnection) -> None:
        """The connection has something to send."""
        ...

    def note_closing(self, connection: VsockConnection) -> None:
        """The connection waits for the other side's last word, and not for ever."""
        ...

    def forget(self, connection: VsockConnection) -> None:
        """The connection is closed: its addresses are free again."""
        ...

    def reset(self, local: VsockAddress, peer: VsockAddress, kind: int) -> None:
        """Tell the other side that there is no such connection."""
        ...

    def flush_resets(self) -> bool:
        """Send the resets that wait; whether none does any more.

        A connection's packets come after them: one may be for an earlier connection of its addresses.
        """
        ...


class VsockConnection:
    """One connection, without any waiting.

    home          the endpoint that it belongs to
    local, peer   the two addresses
    state         CONNECTING, or ESTABLISHED for one that is being accepted
    buf_alloc     bytes of the receive buffer

    `state` says where it stands, `was_established` whether the other side has ever agreed; `error` why
    it is CLOSED, None after a clean end.  What has come before the end can still be read.

    A method that cannot go on raises PeerClosed when the other side is gone, ChannelClosed when this side
    has closed, and PeerError when the other side broke the protocol, of which a reset has told it.
    """

    #: What it carries.
    kind: ClassVar[VsockType]

    def __init__(
        self, home: VsockHome, local: VsockAddress, peer: VsockAddress, state: VsockState, buf_alloc: int
    ) -> None:
        self.local = local
        self.peer = peer
        self.state = state
        self.error: VmbusError | None = None
        self.sending = SendCredit()
        self.receiving = ReceiveCredit(check_buffer_size(buf_alloc))
        self.was_established = state is VsockState.ESTABLISHED
        self.own_shutdown = 0
        self.peer_shutdown = 0
        self._home = home
        self._carrier = home.carrier
        self._tell = self.receiving.tell
        self._addresses = (local.cid, peer.cid, local.port, peer.port)
        self._kind = int(self.kind)
        self._owed = 0
        self._peer_asked = False  # whether the other side asks for credit, until it was told of all
        self._owe(int(Owed.REQUEST if state is VsockState.CONNECTING else Owed.RESPONSE))

    # -- what the two kinds of connection do ---------------------------------------------------

    @property
    def has_received(self) -> bool:
        """Whether something waits to be read."""
        raise NotImplementedError

    def keep(self, header: VsockHeader, payload: bytes) -> None:
        """Keep the payload of an RW, which the credit allows; PeerError when it cannot be kept."""
        raise NotImplementedError

    def drop_received(self) -> None:
        """Forget what nobody will read."""
        raise NotImplementedError

    @property
    def is_starved(self) -> bool:
        """Whether nothing can be read before more has come."""
        return False

    def send_rest(self) -> bool:
        """Send what is left of a message; whether nothing is left."""
        return True

    # -- sending -----------------------------------------------------------------------------

    def pack(self, operation: int, length: int = 0, flags: int = 0) -> bytes:
        """The header of a packet that is about to be sent, with which the other side is told the credit."""
        return pack_header(*self._addresses, length, self._kind, operation, flags, *self._tell())

    def flush(self) -> bool:
        """Send what this side owes; whether all of it is sent."""
        carrier = self._carrier
        if not self._home.flush_resets():
            return False
        for bit, operation in OWED_PACKETS:
            if not self._owed & bit:
                continue
            if operation is None:
                if not self.send_rest():
                    return False
            elif carrier.room() < 0:
                return False
            else:
                carrier.send(self.pack(operation, 0, self.own_shutdown if bit == OWED_SHUTDOWN else 0))
            self._owed &= ~bit
        return True

    @property
    def is_owing(self) -> bool:
        """Whether something waits for room in the queue."""
        return self._owed != 0

    def check_sending(self) -> None:
        """Raise unless payload can be sent, now or later."""
        if self.state is VsockState.ESTABLISHED and not self.own_shutdown & NO_SEND:
            if self.peer_shutdown & NO_RECEIVE:
                raise PeerClosed(f"{self}: the other side has said that it receives no more")
            return
        self.check_open()
        raise CallerError(
            f"{self}: this side has said that it sends no more", argument="self", value="ended", limit="open"
        )

    def check_open(self) -> None:
        """Raise what has ended the connection, where something has."""
        if self.error is not None:
            raise copy(self.error) from None
        if self.own_shutdown == NEITHER:
            raise ChannelClosed(f"{self}: this side has closed the connection")
        if self.state is VsockState.CLOSED:
            raise PeerClosed(f"{self}: the other side has closed the connection")
        if self.state is VsockState.CONNECTING:
            raise CallerError(
                f"{self}: the other side has not answered yet",
                argument="self",
                value="connecting",
                limit="established",
            )

    def ask_for_credit(self) -> None:
        """Ask the other side to tell its credit.

        It tells by itself when enough of its buffer has come free; this is for when it keeps silent, and
        for a message that needs more than there is.  An answer comes whether there is room or not, so who
        asks again at every answer never ends.
        """
        if self.state is VsockState.ESTABLISHED:
            self._owe(int(Owed.CREDIT_REQUEST))
            self.flush()

    def _owe(self, owed: int) -> None:
        self._owed |= owed
        self._home.note_owing(self)

    # -- receiving ---------------------------------------------------------------------------

    def set_buffer_size(self, size: int) -> None:
        """Change the receive buffer, and tell the other side: it may still send what it was allowed before."""
        receiving = self.receiving
        receiving.buf_alloc = check_buffer_size(size)
        if receiving.told_buf_alloc != size:
            self._tell_credit()

    @property
    def input_ended(self) -> bool:
        """Whether nothing will come any more, by this side's wish or by the other's."""
        return (
            self.state is VsockState.CLOSED
            or self.own_shutdown & NO_RECEIVE != 0
            or self.peer_shutdown & NO_SEND != 0
        )

    def check_input(self) -> None:
        """Raise, where nothing will come any more, unless the other side has ended its stream in order."""
        if self.own_shutdown & NO_RECEIVE:
            raise ChannelClosed(f"{self}: this side has said that it receives no more")
        if not self.peer_shutdown & NO_SEND:
            self.check_open()

    def forward(self, length: int) -> None:
        """Bytes have left the buffer: tell the other side if it should know, and end what has ended."""
        receiving = self.receiving
        receiving.forward(length)
        if receiving.is_due:
            self._tell_credit()
        if (self._peer_asked or self.is_starved) and not self.has_received:
            # There is nothing more to read whose reading would make an update due.
            self._peer_asked = False
            if receiving.untold:
                self._tell_credit()
        if self.peer_shutdown:
            self._end_when_read()

    def _tell_credit(self) -> None:
        if self.state is VsockState.ESTABLISHED:
            self._owe(OWED_UPDATE)
            self.flush()

    # -- the end -----------------------------------------------------------------------------

    def shutdown(self, what: int) -> None:
        """Say what this side will not do any more: VsockShutdown.SEND, RECEIVE or both.

        Both close the connection: the other side answers with a reset.  One that is not answered yet is
        given up, whatever is said.
        """
        if self.state is VsockState.CONNECTING:
            self._close(ChannelClosed(f"{self}: given up before there was an answer"))
        new = what & NEITHER & ~self.own_shutdown
        if self.state is not VsockState.ESTABLISHED or not new:
            return
        self.own_shutdown |= new
        if self.own_shutdown & NO_RECEIVE:
            self.drop_received()
        if self.own_shutdown == NEITHER:
            if self.peer_shutdown == NEITHER:
                self.reset(None)
                return
            self.state = VsockState.CLOSING
            self._home.note_closing(self)
        self._owe(OWED_SHUTDOWN)
        self.flush()

    def reset(self, error: VmbusError | None) -> None:
        """End the connection at once, and tell the other side; `error` is what users of this side get."""
        if self.state is not VsockState.CLOSED:
            self._home.reset(self.local, self.peer, self._kind)
            self._close(error)

    def lose(self, error: VmbusError) -> None:
        """End the connection without a word: there is nobody to tell."""
        if self.state is not VsockState.CLOSED:
            self._close(error)

    def _close(self, error: VmbusError | None) -> None:
        self.state = VsockState.CLOSED
        self.error = error
        self._owed = 0
        self._home.forget(self)

    def _end_when_read(self) -> None:
        """Both directions are ended by the other side: the connection ends with the last byte that is read."""
        if self.peer_shutdown == NEITHER and not self.has_received:
            self.reset(None)

    # -- what comes --------------------------------------------------------------------------

    def handle(self, header: VsockHeader, payload: bytes) -> None:
        """Do with a packet of the other side what the table says."""
        try:
            # The table's row for payload, once more: nearly all packets are that.
            if header.operation == RW and header.type == self._kind and self.state is ESTABLISHED:
                self._receive(header, payload)
            else:
                self._follow(find_row(self.state, self._kind, header), header)
        except PeerError as error:
            if not isinstance(error.kind, VsockFault):
                raise  # of the queue, not of this connection
            self.reset(error)

    def _follow(self, row: VsockRow, header: VsockHeader) -> None:
        """A packet without payload."""
        action = row.action
        if row.following is VsockState.CLOSED:
            self._handle_end(row, header)
            return
        self.state = row.following
        if action is VsockAction.IGNORE:
            return
        if action is VsockAction.RESET:
            self._home.reset(self.local, self.peer, header.type)
            return
        self.sending.note(header.buf_alloc, header.fwd_cnt)
        if action is VsockAction.ESTABLISH:
            self.was_established = True
            self.set_buffer_size(self.receiving.buf_alloc)  # which may have changed since the request
        elif action is VsockAction.TELL_CREDIT:
            self._peer_asked = True
            self._owe(OWED_UPDATE)
        elif action is VsockAction.SHUT:
            self.peer_shutdown |= header.flags & NEITHER
            self._end_when_read()

    def _receive(self, header: VsockHeader, payload: bytes) -> None:
        """Take the payload of an RW; PeerError when the other side must not send it."""
        sending, length = self.sending, len(payload)
        if header.fwd_cnt != sending.peer_fwd_cnt or header.buf_alloc != sending.peer_buf_alloc:
            sending.note(header.buf_alloc, header.fwd_cnt)
        if self.peer_shutdown & NO_SEND:
            self._refuse_payload(length)
        self.receiving.take(length)
        if self.own_shutdown & NO_RECEIVE:
            self.forward(length)
        else:
            self.keep(header, payload)

    def _handle_end(self, row: VsockRow, header: VsockHeader) -> None:
        """A packet that ends the connection."""
        error: VmbusError | None = None
        if row.action is VsockAction.FAIL:
            error = self._unexpected(header)
        elif row.action is VsockAction.REFUSE:
            error = ConnectionRefused(
                f"{self}: refused: nobody listens there for a {self.kind.label} connection, or has room for one more"
            )
        elif row.action is VsockAction.LOSE:
            error = PeerClosed(f"{self}: the other side has reset the connection")
        if row.action in (VsockAction.FAIL, VsockAction.RESET):
            self._home.reset(self.local, self.peer, header.type)
        self._close(error)

    def _unexpected(self, header: VsockHeader) -> PeerError:
        operation = VsockOperation(header.operation)
        return PeerError(
            f"{self}: {operation.name} has come, which has no place in a connection that is {self.state.value}",
            kind=VsockFault.UNEXPECTED_OPERATION,
            found=header.operation,
            allowed=f"what belongs to a connection that is {self.state.value}",
        )

    def _refuse_payload(self, length: int) -> NoReturn:
        raise PeerError(
            f"{self}: {length} bytes of payload have come after the other side said that it sends no more",
            kind=VsockFault.SENT_AFTER_SHUTDOWN,
            found=length,
            allowed=0,
        )

    def __str__(self) -> str:
        return f"vsock {self.local} - {self.peer}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.local} - {self.peer}, {self.state.value}, {self.sending!r}, {self.receiving!r}>"
