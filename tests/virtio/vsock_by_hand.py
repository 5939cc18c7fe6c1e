"""The other side of a vsock device written by hand: any packet can come, and all that is sent is looked at.

Nothing here knows a rule of vmbus.virtio: the header is stated once more with plain `struct`.  There are
no queues: a HandCarrier has one deque for each way, and room for as many packets as a test says.

    peer = HandPeer()                                   the endpoint has CID 3, this peer CID 2
    connection = peer.accepted()                        from port 1234 here to port 5000 there
    assert peer.say(CREDIT_REQUEST)[0].operation == CREDIT_UPDATE
    peer.carrier.places = 0                             from now on nothing can be sent

Source: OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, NamedTuple

from vmbus.virtio import CarrierStatistics, VsockEndpoint, VsockHeader, VsockType
from vmbus.virtio.vsock_carrier import VsockArrival

INVALID, REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(8)
STREAM, SEQPACKET = 1, 2
NO_RECEIVE, NO_SEND, NEITHER = 1, 2, 3
END_OF_MESSAGE, END_OF_RECORD = 1, 2

#: The endpoint's address, and the one of the peer by hand.
NEAR_CID, NEAR_PORT = 3, 5000
FAR_CID, FAR_PORT = 2, 1234

HEADER = struct.Struct("<QQIIIHHIII")

#: More packets than any test sends.
PLENTY = 1 << 30


class Packet(NamedTuple):
    """A packet that the endpoint has sent: the fields in the order in which they lie, and the payload."""

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    length: int
    type: int
    operation: int
    flags: int
    buf_alloc: int
    fwd_cnt: int
    payload: bytes

    @property
    def credit(self) -> tuple[int, int]:
        """(buf_alloc, fwd_cnt)"""
        return self.buf_alloc, self.fwd_cnt


class HandCarrier:
    """Two deques.

    incoming   (header, payload) that the endpoint has not taken yet
    sent       what it has sent and nobody has looked at
    places     packets that can still be sent
    largest    the most payload of one
    """

    def __init__(self, largest: int = 4096) -> None:
        self.incoming: deque[VsockArrival] = deque()
        self.sent: list[Packet] = []
        self.places = PLENTY
        self.largest = largest
        self.was_reset = False

    def room(self) -> int:
        return self.largest if self.places else -1

    def send(self, header: bytes, payload: Any = b"") -> None:
        assert self.places, "a packet was sent where there is no room"
        assert len(header) == HEADER.size == 44
        packet = Packet(*HEADER.unpack(header), bytes(payload))
        assert len(packet.payload) == packet.length <= self.largest
        self.places -= 1
        self.sent.append(packet)

    def receive(self) -> VsockArrival | None:
        return self.incoming.popleft() if self.incoming else None

    def take_reset(self) -> bool:
        was_reset, self.was_reset = self.was_reset, False
        return was_reset

    def must_notify(self) -> bool:
        return False

    def prepare_to_sleep(self) -> bool:
        return bool(self.incoming)

    def stay_awake(self) -> None:
        pass

    def statistics(self) -> CarrierStatistics:
        return CarrierStatistics(0, 0, 0)


class HandPeer:
    """The other side, and the endpoint that it stands across from.

    largest   the most payload of a packet that the endpoint sends
    options   for VsockEndpoint
    """

    def __init__(self, *, largest: int = 4096, **options: Any) -> None:
        self.carrier = HandCarrier(largest)
        self.endpoint = VsockEndpoint(
            self.carrier, NEAR_CID, **{"peer_cid": FAR_CID, "buffer_size": 1000} | options
        )

    def put(
        self,
        operation: int,
        payload: bytes = b"",
        *,
        source: tuple[int, int] = (FAR_CID, FAR_PORT),
        to: tuple[int, int] = (NEAR_CID, NEAR_PORT),
        length: int | None = None,
        kind: int = STREAM,
        flags: int = 0,
        buf_alloc: int = 1000,
        fwd_cnt: int = 0,
    ) -> None:
        """Have a packet wait for the endpoint."""
        size = len(payload) if length is None else length
        fields = (source[0], to[0], source[1], to[1], size, kind, operation, flags, buf_alloc, fwd_cnt)
        self.carrier.incoming.append((VsockHeader(*fields), payload))

    def say(self, operation: int, payload: bytes = b"", **fields: Any) -> list[Packet]:
        """Send a packet; what comes back."""
        self.put(operation, payload, **fields)
        self.endpoint.pump()
        return self.sent()

    def sent(self) -> list[Packet]:
        """What the endpoint has sent since this was last asked."""
        sent, self.carrier.sent = self.carrier.sent, []
        return sent

    def operations(self) -> list[int]:
        """The operations of that."""
        return [packet.operation for packet in self.sent()]

    def accepted(self, *, kind: int = STREAM, **credit: int) -> Any:
        """A connection that this peer has asked for."""
        listener = self.endpoint.listen(NEAR_PORT, kind=VsockType(kind))
        (response,) = self.say(REQUEST, kind=kind, **credit)
        assert response.operation == RESPONSE
        connection = listener.accept()
        assert connection is not None
        return connection

    def connecting(self, *, kind: int = STREAM) -> Any:
        """A connection that the endpoint has asked for."""
        connection = self.endpoint.connect(FAR_PORT, kind=VsockType(kind), local_port=NEAR_PORT)
        (request,) = self.sent()
        assert request.operation == REQUEST
        return connection

    def connected(self, *, kind: int = STREAM, **credit: int) -> Any:
        """A connection that the endpoint has asked for, and this peer has agreed to."""
        connection = self.connecting(kind=kind)
        assert self.say(RESPONSE, kind=kind, **credit) == []
        return connection
