"""All vsock connections of one side: who listens, who is connected, and what each packet is for.

Nothing here waits.  `pump` takes what has come and sends what is owed; connections and listeners answer
with None where it is too early.  A packet for nobody is answered with a reset, as the table says.

Nothing grows at the other side's wish: connections, those that wait to be accepted, and resets that
wait for room have limits.

Sources: OASIS VIRTIO 1.2, section 5.10.6; Linux net/vmw_vsock/virtio_transport_common.c,
virtio_transport_recv_pkt().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from copy import copy
from time import monotonic
from typing import NamedTuple

from vmbus.errors import CallerError, PeerClosed, VmbusError

from .vsock_address import VsockAddress, check_port
from .vsock_carrier import VsockCarrier
from .vsock_connection import VsockConnection
from .vsock_credit import check_buffer_size
from .vsock_kinds import KINDS, AnyConnection, check_kind
from .vsock_layout import (
    ANY_PORT,
    HOST_CID,
    VSOCK_HEADER,
    VsockFeatures,
    VsockHeader,
    VsockOperation,
    VsockShutdown,
    VsockType,
    vsock_types,
)
from .vsock_listener import VsockListenerQueue
from .vsock_table import VsockAction, VsockState, find_row

__all__ = [
    "DEFAULT_BUFFER_SIZE",
    "EndpointStatistics",
    "VsockEndpoint",
]

#: Bytes of a connection's receive buffer, as Linux has it.
DEFAULT_BUFFER_SIZE = 262144

#: Seconds that the other side has to answer a close before it is reset, as Linux has it.
CLOSE_TIMEOUT = 8.0

#: Resets that wait for room; what comes to nobody after that is not answered.
MOST_RESETS = 256

#: The most packets that one `pump` takes, so that a side that never stops sending does not keep it.
MOST_PACKETS = 256

#: Where ports are taken from that nobody has asked for.
FIRST_FREE_PORT = 1 << 30
LAST_FREE_PORT = (1 << 31) - 1


class EndpointStatistics(NamedTuple):
    """What an endpoint has done so far.

    foreign   packets that were dropped: not for this address, or from one that the other side has not
    resets    resets that were sent because there was no such connection, or an end to one
    unsent    resets that were not sent because too many were waiting
    """

    foreign: int
    resets: int
    unsent: int


class VsockEndpoint:
    """One side of a vsock device, with all its connections.

    carrier            the queues: VsockDriver or VsockDevice
    cid                this side's address; to be set anew where a reset of the transport has changed it
    peer_cid           the other side's, where there is only one; None: any
    features           those of VsockFeatures that were negotiated: what connections may carry
    buffer_size        bytes of each connection's receive buffer
    most_connections   how many there may be
    clock              seconds, as time.monotonic counts them

    For one thread at a time.

    >>> from vmbus.virtio import connected_vsock
    >>> guest, host = connected_vsock()
    >>> listener = host.listen(1234)
    >>> client = guest.connect(1234)
    >>> host.pump(), guest.pump()
    (True, True)
    >>> server = listener.accept()
    >>> client.send(memoryview(b"hello")), host.pump(), server.receive(100)
    (5, True, b'hello')
    """

    def __init__(
        self,
        carrier: VsockCarrier,
        cid: int,
        *,
        peer_cid: int | None = HOST_CID,
        features: int = VsockFeatures.STREAM | VsockFeatures.SEQPACKET,
        buffer_size: int = DEFAULT_BUFFER_SIZE,
        most_connections: int = 1024,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.carrier = carrier
        self.cid = cid
        self.peer_cid = peer_cid
        self.types = vsock_types(features)
        self.buffer_size = check_buffer_size(buffer_size)
        self.most_connections = most_connections
        self.error: VmbusError | None = None
        self.owes = False  # whether something waits to be sent
        self._clock = clock
        #: By the ports and the CID that a packet comes with: (dst_port, src_cid, src_port).
        self._connections: dict[tuple[int, int, int], AnyConnection] = {}
        self._listeners: dict[int, VsockListenerQueue] = {}
        self._owing: dict[VsockConnection, None] = {}  # a set that keeps its order
        self._closing: dict[VsockConnection, float] = {}  # until when, the earliest first
        self._resets: deque[bytes] = deque()
        self._next_port = FIRST_FREE_PORT
        self._foreign = self._reset_count = self._unsent = 0

    # -- what users do -----------------------------------------------------------------------

    def listen(
        self, port: int, *, kind: VsockType = VsockType.STREAM, backlog: int = 128
    ) -> VsockListenerQueue:
        """Take connections to a port; ANY_PORT for one that is free.

        Raises CallerError when somebody listens there already.
        """
        self.check_alive()
        if port == ANY_PORT:
            port = self._free_port()
        if check_port(port) in self._listeners:
            raise CallerError(
                f"somebody listens on port {port} already", argument="port", value=port, limit="another port"
            )
        if backlog < 1:
            raise CallerError(
                f"at least 1 connection must be able to wait, not {backlog}",
                argument="backlog",
                value=backlog,
                limit=1,
            )
        self._listeners[port] = listener = VsockListenerQueue(
            self, port, check_kind(kind, self.types), backlog
        )
        return listener

    def connect(
        self,
        port: int,
        cid: int | None = None,
        *,
        kind: VsockType = VsockType.STREAM,
        local_port: int = ANY_PORT,
    ) -> AnyConnection:
        """Ask for a connection: it is CONNECTING until the other side has answered.

        cid   of the other side; None where there is only one

        Raises CallerError when there can be none.
        """
        self.check_alive()
        check_port(port)
        if cid is None:
            cid = HOST_CID if self.peer_cid is None else self.peer_cid
        if self.peer_cid not in (None, cid):
            raise CallerError(
                f"over these queues there is only CID {self.peer_cid}, not {cid}",
                argument="cid",
                value=cid,
                limit=self.peer_cid,
            )
        if len(self._connections) >= self.most_connections:
            raise CallerError(
                f"there are {self.most_connections} connections already",
                argument="self",
                value=len(self._connections),
                limit=self.most_connections,
            )
        local = self._free_port() if local_port == ANY_PORT else check_port(local_port)
        if (local, cid, port) in self._connections:
            raise CallerError(
                f"there is a connection from port {local} to {cid}:{port} already",
                argument="local_port",
                value=local,
                limit="another port",
            )
        connection = self._add(
            KINDS[check_kind(kind, self.types)], local, VsockAddress(cid, port), VsockState.CONNECTING
        )
        self.flush()
        return connection

    @property
    def connections(self) -> list[AnyConnection]:
        """All that are not closed."""
        return list(self._connections.values())

    @property
    def is_closing(self) -> bool:
        """Whether some connection waits for the other side's last word, and `pump` may have to end it."""
        return bool(self._closing)

    def statistics(self) -> EndpointStatistics:
        """What was done so far."""
        return EndpointStatistics(self._foreign, self._reset_count, self._unsent)

    def check_alive(self) -> None:
        """Raise what has ended all connections for good."""
        if self.error is not None:
            raise copy(self.error) from None

    # -- moving packets ----------------------------------------------------------------------

    def pump(self) -> bool:
        """Take what has come, and send what is owed; whether anything came.

        Raises PeerError when the queues are broken.
        """
        if self.carrier.take_reset():
            self._resets.clear()
            self.end_all(PeerClosed("the device says that all connections are gone: the guest has moved"))
        receive, find, cid = self.carrier.receive, self._connections.get, self.cid
        count = 0
        while count < MOST_PACKETS:
            arrival = receive()
            if arrival is None:
                break
            count += 1
            header, payload = arrival
            connection = find((header.dst_port, header.src_cid, header.src_port))
            if connection is not None and header.dst_cid == cid:
                connection.handle(header, payload)
            else:
                self._handle_stranger(header)
        if self._closing:
            self._reset_late()
        if self.owes:
            self.flush()
        return count > 0

    def flush(self) -> bool:
        """Send what is owed, as far as there is room; whether all of it is sent."""
        while self._owing:
            connection = next(iter(self._owing))
            if not connection.flush():
                return False
            self._owing.pop(connection, None)
        self.owes = not self.flush_resets()
        return not self.owes

    def _handle_stranger(self, header: VsockHeader) -> None:
        """A packet of no connection: for a listener, for nobody, or for somebody else."""
        if header.dst_cid != self.cid or self.peer_cid not in (None, header.src_cid):
            self._foreign += 1
            return
        local, peer = VsockAddress(self.cid, header.dst_port), VsockAddress(header.src_cid, header.src_port)
        listener = self._listeners.get(header.dst_port)
        state = VsockState.CLOSED if listener is None else VsockState.LISTENING
        action = find_row(state, header.type if listener is None else listener.kind, header).action
        if action is VsockAction.ACCEPT and listener is not None and self._accept(listener, peer, header):
            return
        if action is not VsockAction.IGNORE:
            self.reset(local, peer, header.type)

    def _accept(self, listener: VsockListenerQueue, peer: VsockAddress, header: VsockHeader) -> bool:
        """Whether a request has become a connection: there is room, and its credit is that of a new one."""
        if not listener.has_room or len(self._connections) >= self.most_connections or header.fwd_cnt:
            return False
        connection = self._add(KINDS[listener.kind], listener.port, peer, VsockState.ESTABLISHED)
        connection.sending.note(header.buf_alloc, header.fwd_cnt)
        listener.add(connection)
        return True

    def _add(
        self,
        kind: type[AnyConnection],
        port: int,
        peer: VsockAddress,
        state: VsockState,
    ) -> AnyConnection:
        connection = kind(self, VsockAddress(self.cid, port), peer, state, self.buffer_size)
        self._connections[port, peer.cid, peer.port] = connection
        return connection

    def _free_port(self) -> int:
        taken = {port for port, _, _ in self._connections} | self._listeners.keys()
        port = self._next_port
        while port in taken:
            port = port + 1 if port < LAST_FREE_PORT else FIRST_FREE_PORT
        self._next_port = port + 1 if port < LAST_FREE_PORT else FIRST_FREE_PORT
        return port

    # -- what connections ask for ------------------------------------------------------------

    def note_owing(self, connection: VsockConnection) -> None:
        self._owing[connection] = None
        self.owes = True

    def note_closing(self, connection: VsockConnection) -> None:
        self._closing[connection] = self._clock() + CLOSE_TIMEOUT

    def forget(self, connection: VsockConnection) -> None:
        self._connections.pop((connection.local.port, connection.peer.cid, connection.peer.port), None)
        self._owing.pop(connection, None)
        self._closing.pop(connection, None)

    def reset(self, local: VsockAddress, peer: VsockAddress, kind: int) -> None:
        if len(self._resets) >= MOST_RESETS:
            self._unsent += 1
            return
        self._reset_count += 1
        header = VsockHeader(
            *(local.cid, peer.cid, local.port, peer.port), type=kind, operation=VsockOperation.RST
        )
        self._resets.append(VSOCK_HEADER.pack(header))
        self.owes = True
        if self.flush_resets():
            self.owes = bool(self._owing)

    def flush_resets(self) -> bool:
        carrier = self.carrier
        while self._resets:
            if carrier.room() < 0:
                return False
            carrier.send(self._resets[0])
            self._resets.popleft()
        return True

    def stop_listening(self, listener: VsockListenerQueue) -> None:
        self._listeners.pop(listener.port, None)

    # -- the end -----------------------------------------------------------------------------

    def _reset_late(self) -> None:
        """Reset who has not answered a close in time."""
        now = self._clock()
        late = [connection for connection, deadline in self._closing.items() if deadline <= now]
        for connection in late:
            connection.reset(None)

    def close(self) -> None:
        """Close all listeners and connections; the other side is told as far as there is room."""
        for listener in list(self._listeners.values()):
            listener.close()
        for connection in self.connections:
            connection.shutdown(VsockShutdown.RECEIVE | VsockShutdown.SEND)
        self.flush()

    def end_all(self, error: VmbusError) -> None:
        """End all connections, and tell nobody; listeners stay."""
        for connection in self.connections:
            connection.lose(error)

    def fail(self, error: VmbusError) -> None:
        """End all connections for good: the queues are gone, or cannot be trusted any more."""
        if self.error is None:
            self.error = error
        self.end_all(error)

    def __iter__(self) -> Iterator[VsockConnection]:
        return iter(self.connections)

    def __repr__(self) -> str:
        return (
            f"<VsockEndpoint: CID {self.cid}, {len(self._connections)} connections, "
            f"{len(self._listeners)} listeners, over {self.carrier!r}>"
        )
