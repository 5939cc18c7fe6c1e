"""The half of the ring trial that receives: see ring_trial.py.

Sizes are in bytes.
"""

from __future__ import annotations

from vmbus.errors import BufferTooSmall, RingEmpty
from vmbus.ring import IncomingPacket

from .arguments import Flag, Number
from .differences import demand_bytes, demand_packets
from .packet_kinds import Sent, padded
from .ring_writing import RingWriting
from .trial import operation

__all__ = ["RingReading"]

#: No limit for receive_many.
NO_LIMIT = 6


class RingReading(RingWriting):
    """What a receiver does."""

    def freed(self, count: int) -> bool:
        """Account for packets given back; whether the sender must be signaled."""
        wanted = self.model.wanted
        taken, signal = self.model.take(count)
        free = self.model.free
        if signal:
            self.corners["writer signaled"] += 1
        if wanted and taken:
            if wanted == free:
                self.corners["pending size met exactly"] += 1
            if wanted == free + 8:
                self.corners["pending size missed by one slot"] += 1
        return signal

    def new_incoming(self) -> None:
        """A commit went past the open offset: it is stale."""
        self.stale_incoming = [*self.stale_incoming[-2:], self.incoming]
        with self.demand_no_error("a new round of reading"):
            self.incoming = self.receiver.incoming()
        self.read = 0

    # -- reading ---------------------------------------------------------------------------------

    @operation(count=Number(1, 3), commit=Flag())
    def read_some(self, count: int, commit: bool) -> None:
        """Packets in steps."""
        for _ in range(count):
            self.read_one()
        if commit:
            self.commit_read()

    def read_one(self) -> None:
        if self.read == len(self.model.waiting):
            self.corners["empty ring read"] += 1
            with self.demand_raises(RingEmpty, "read with all read"):
                self.receiver.read(self.incoming)
            return
        with self.demand_no_error("read"):
            packet = self.receiver.read(self.incoming)
            payload = packet.payload.reader(self.receiver).read_all()
        self.check_in_place(packet, payload, self.model.waiting[self.read])
        self.read += 1

    def check_in_place(self, packet: IncomingPacket, payload: bytes, sent: Sent) -> None:
        kind = sent.kind
        descriptor = packet.descriptor
        found = (packet.type, descriptor.flags, descriptor.transaction_id, packet.transaction_id)
        expected = (kind.type, kind.flags, kind.transaction_id, kind.seen_id)
        self.demand_equal(found, expected, "type, flags, transaction id and id to answer of a packet read")
        demand_bytes(payload, padded(sent.payload), "payload of a packet read")
        found_ranges = (packet.ranges, packet.transfer_page_set_id)
        self.demand_equal(found_ranges, (kind.ranges, kind.transfer_page_set_id), "ranges of a packet read")

    @operation()
    def commit_read(self) -> None:
        count, self.read = self.read, 0
        with self.demand_no_error("commit_read"):
            found = self.receiver.commit_read(self.incoming)
        self.demand_equal(found, self.freed(count), "signal after commit_read")

    @operation(count=Number(1, 3))
    def receive_some(self, count: int) -> None:
        """Packets in one step each."""
        for _ in range(count):
            self.receive()

    def receive(self) -> None:
        if not self.model.waiting:
            self.corners["empty ring read"] += 1
            with self.demand_raises(RingEmpty, "receive from an empty ring"):
                self.receiver.receive()
            return
        sent = self.model.waiting[0]
        with self.demand_no_error("receive"):
            packet, signal = self.receiver.receive()
        demand_packets([packet], [sent.kind.received(sent.payload)], "a packet received")
        self.demand_equal(signal, self.freed(1), "signal after receive")
        self.new_incoming()

    @operation(limit=Number(0, NO_LIMIT, corners=[NO_LIMIT]))
    def receive_many(self, limit: int) -> None:
        """Up to so many packets; 6 for all of them."""
        count = None if limit == NO_LIMIT else limit
        taken = self.model.waiting[:count]
        with self.demand_no_error("receive_many"):
            packets, signal = self.receiver.receive_many(count)
        demand_packets(
            packets, [sent.kind.received(sent.payload) for sent in taken], "packets of receive_many"
        )
        self.demand_equal(signal, self.freed(len(taken)), "signal after receive_many")
        if taken:
            self.new_incoming()

    def empty(self) -> None:
        self.receive_many(NO_LIMIT)

    @operation(more=Number(-8, 16, corners=[-1, 0]))
    def receive_into(self, more: int) -> None:
        """A buffer that has so many bytes more than the packet needs, or fewer."""
        if not self.model.waiting:
            with self.demand_raises(RingEmpty, "receive_into from an empty ring"):
                self.receiver.receive_into(bytearray(8))
            return
        expected = padded(self.model.waiting[0].payload)
        buffer = bytearray(max(0, len(expected) + more))
        if len(buffer) < len(expected):
            self.corners["buffer too small"] += 1
            with self.demand_raises(BufferTooSmall, f"{len(expected)} bytes into a buffer of {len(buffer)}"):
                try:
                    self.receiver.receive_into(buffer)
                except BufferTooSmall as error:
                    self.demand_equal(error.needed, len(expected), "needed of BufferTooSmall")
                    raise
            return
        with self.demand_no_error("receive_into"):
            found = self.receiver.receive_into(buffer)
        self.demand_equal(found, (len(expected), self.freed(1)), "length and signal of receive_into")
        demand_bytes(bytes(buffer[: len(expected)]), expected, "what receive_into wrote")
        self.new_incoming()
