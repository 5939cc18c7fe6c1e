"""What each kind of channel does with its two rings, without waiting.

Every method is an attempt: it does its work at once and signals the other side where a rule asks for
it, or raises NotReady and has changed nothing.  Blocking and asyncio channels make the same attempts.

An attempt to receive and one to send may run at the same time, in two threads; two of the same
direction never do.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from vmbus.errors import CallerError
from vmbus.memory import Buffer, copy_into, view_bytes
from vmbus.pipe import BytePipe, MessagePipe
from vmbus.ring import (
    IncomingOffset,
    IncomingPacketType,
    IncomingRing,
    OutgoingOffset,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PacketSize,
    PagedRange,
)
from vmbus.sizes import SLOT

from .readiness import GO_ON, GoOn
from .signal import Signal
from .transactions import Transaction, Transactions

__all__ = ["ByteWork", "MessageWork", "PacketWork", "Parts", "Trace", "Work"]

log = logging.getLogger("vmbus.channel")

IN_BAND = IncomingPacketType.IN_BAND

#: Called with "sent" or "received" and each packet, after the fact.
Trace = Callable[[str, Packet], object]

#: So many times the ring's size of unsolicited packets are kept while a request waits for its answer.
KEPT_RINGS = 16


class Work:
    """The two rings of a channel and its signal.

    trace   called for every packet; what it raises is logged and goes no further

    `signals_after_write` and `signals_after_read` count what was told the other side.
    """

    def __init__(
        self, incoming: IncomingRing, outgoing: OutgoingRing, signal: Signal, trace: Trace | None
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.trace = trace
        self.signals_after_write = 0
        self.signals_after_read = 0
        self._notify = signal.notify

    def signal_reader(self) -> None:
        self.signals_after_write += 1
        self._notify()

    def signal_writer(self) -> None:
        self.signals_after_read += 1
        self._notify()

    def commit_write(self, offset: OutgoingOffset) -> None:
        if self.outgoing.commit_write(offset):
            self.signal_reader()

    def commit_read(self, offset: IncomingOffset) -> None:
        if self.incoming.commit_read(offset):
            self.signal_writer()

    def show(self, what: str, packet: Packet) -> None:
        """Give a packet to the trace."""
        assert self.trace is not None
        try:
            self.trace(what, packet)
        except Exception:
            log.exception("the trace of a packet that was %s failed", what)

    def show_plain(self, what: str, payload: Buffer) -> None:
        self.show(what, as_given(IN_BAND, payload))


class Parts:
    """A call that may take several attempts: packets of a batch, bytes of a stream.

    send      sends what it can behind the first so many: how many more; at least one, or NotReady
    length    how many there are in all
    done      how many have been sent
    """

    def __init__(self, send: Callable[[int], int], length: int) -> None:
        self._send = send
        self._length = length
        self.done = 0

    def send_next(self) -> GoOn | None:
        """An attempt: as many as there is room for."""
        if self.done < self._length:
            self.done += self._send(self.done)
        return None if self.done >= self._length else GO_ON


class PacketWork(Work):
    """Packets of all kinds, and requests.

    `inbox` keeps, in order, packets that came while somebody waited for the completion of a request.
    """

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        trace: Trace | None,
        transactions: Transactions,
    ) -> None:
        super().__init__(incoming, outgoing, signal, trace)
        self.transactions = transactions
        self.inbox: deque[Packet] = deque()
        self.kept_bytes = 0

    # -- sending -----------------------------------------------------------------------------

    def send(self, payload: Buffer, transaction_id: int, completion_requested: bool) -> None:
        if self.outgoing.send(payload, transaction_id, completion_requested):
            self.signal_reader()
        if self.trace is not None:
            self.show("sent", as_given(IN_BAND, payload, transaction_id, int(completion_requested)))

    def send_packet(self, packet: OutgoingPacket, payload: Buffer) -> None:
        if self.outgoing.send_packet(packet, payload):
            self.signal_reader()
        if self.trace is not None:
            kind, flags = packet.type.value
            self.show("sent", as_given(kind, payload, packet.transaction_id, int(flags)))

    def sends(self, payloads: Iterable[Buffer]) -> Parts:
        listed = list(payloads)
        return Parts(lambda done: self.send_many(listed[done:] if done else listed), len(listed))

    def send_many(self, payloads: Sequence[Buffer]) -> int:
        """How many from the first on were sent: at least one, or RingFull."""
        count, must_signal = self.outgoing.send_many(payloads)
        if must_signal:
            self.signal_reader()
        if not count:
            self.send(payloads[0], 0, False)  # raises RingFull, or fits by now
            return 1
        if self.trace is not None:
            for payload in payloads[:count]:
                self.show_plain("sent", payload)
        return count

    # -- receiving ---------------------------------------------------------------------------

    def take(self) -> Packet:
        """The next packet of the ring."""
        packet, must_signal = self.incoming.receive()
        if must_signal:
            self.signal_writer()
        if self.trace is not None:
            self.show("received", packet)
        return packet

    def has_kept(self) -> bool:
        return bool(self.inbox)

    def receive(self) -> Packet | GoOn:
        if self.inbox:
            return self.unkeep()
        packet, must_signal = self.incoming.receive()  # as `take`, which every packet would call
        if must_signal:
            self.signal_writer()
        if self.trace is not None:
            self.show("received", packet)
        if packet.type is IncomingPacketType.COMPLETION and self.transactions.deliver(packet):
            return GO_ON
        return packet

    def receive_many(self, limit: int | None) -> list[Packet] | GoOn:
        """All there are, or `limit` of them; at least one."""
        if self.inbox and (limit is None or limit >= 0):  # the ring refuses the others
            count = len(self.inbox) if limit is None else min(limit, len(self.inbox))
            return [self.unkeep() for _ in range(count)]
        taken, must_signal = self.incoming.receive_many(limit)
        if must_signal:
            self.signal_writer()
        if not taken and limit != 0:
            taken = [self.take()]  # raises RingEmpty, or one has come by now
        elif self.trace is not None:
            for packet in taken:
                self.show("received", packet)
        packets = [packet for packet in taken if not self.transactions.deliver(packet)]
        return packets if packets or limit == 0 else GO_ON

    def receive_into(self, buffer: Buffer) -> int | GoOn:
        if not self.inbox:
            packet = self.take()
            if self.transactions.deliver(packet):
                return GO_ON
            self.keep(packet)  # it stays there when the buffer is too small
        first = self.inbox[0].payload
        length = copy_into(buffer, len(first), lambda: first)
        self.unkeep()
        return length

    # -- requests ----------------------------------------------------------------------------

    def begin(self) -> Transaction | GoOn:
        """A transaction id for a request; GO_ON while too many are outstanding."""
        if self.transactions.has_room():
            return self.transactions.begin()
        self.sort_next()
        return GO_ON

    def answer(self, transaction: Transaction) -> Packet | GoOn:
        """The completion of a request; GO_ON when it was another packet that came."""
        if transaction.answer is None:
            self.sort_next()
        return GO_ON if transaction.answer is None else transaction.answer

    def sort_next(self) -> None:
        """Give the next packet of the ring to its request, or keep it for `receive`."""
        limit = KEPT_RINGS * self.incoming.size
        if self.kept_bytes >= limit:
            raise CallerError(
                f"{len(self.inbox)} packets that answer no request wait for receive(), {self.kept_bytes} "
                "bytes of them: receive them before the next request",
                argument="unsolicited",
                value=self.kept_bytes,
                limit=limit,
            )
        packet = self.take()
        if not self.transactions.deliver(packet):
            self.keep(packet)

    # -- the inbox ---------------------------------------------------------------------------

    def keep(self, packet: Packet) -> None:
        self.kept_bytes += bytes_in_ring(packet)
        self.inbox.append(packet)

    def unkeep(self) -> Packet:
        packet = self.inbox.popleft()
        self.kept_bytes -= bytes_in_ring(packet)
        return packet


class MessageWork(Work):
    """Messages of a MessagePipe."""

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        trace: Trace | None,
        raw: bool,
    ) -> None:
        super().__init__(incoming, outgoing, signal, trace)
        self.pipe = MessagePipe(incoming, outgoing, raw=raw)

    def send(self, buffers: Sequence[Buffer]) -> None:
        offset = self.outgoing.outgoing()
        self.pipe.write(offset, *buffers)
        self.commit_write(offset)
        if self.trace is not None:
            self.show_plain("sent", b"".join(bytes(view_bytes(one, "buffer")) for one in buffers))

    def receive(self) -> bytes:
        offset = self.incoming.incoming()
        message = self.pipe.read(offset)
        self.commit_read(offset)
        if self.trace is not None:
            self.show_plain("received", message)
        return message

    def receive_into(self, buffer: Buffer) -> int:
        offset = self.incoming.incoming()
        length = self.pipe.receive_into(offset, buffer)
        self.commit_read(offset)
        if self.trace is not None:
            self.show_plain("received", bytes(view_bytes(buffer, "buffer")[:length]))
        return length


class ByteWork(Work):
    """The two byte streams of a BytePipe.

    `ended` is set once the other side's end of stream has been read, `end_sent` once ours is written.
    """

    def __init__(
        self, incoming: IncomingRing, outgoing: OutgoingRing, signal: Signal, trace: Trace | None
    ) -> None:
        super().__init__(incoming, outgoing, signal, trace)
        self.pipe = BytePipe(incoming, outgoing)
        self.ended = False
        self.end_sent = False

    def has_ended(self) -> bool:
        return self.ended

    def sends(self, data: Buffer) -> Parts:
        view = view_bytes(data, "data")
        return Parts(lambda done: self.send(view[done:]), len(view))

    def send(self, data: memoryview) -> int:
        """How many of the bytes were sent: at least one, or RingFull."""
        if self.end_sent:
            raise CallerError(
                f"this side has sent the end of its stream, and {len(data)} bytes would come behind it",
                argument="data",
                value=len(data),
                limit=0,
            )
        offset = self.outgoing.outgoing()
        count = self.pipe.write(offset, data)
        self.commit_write(offset)
        if self.trace is not None:
            self.show_plain("sent", bytes(data[:count]))
        return count

    def send_end(self) -> None:
        if self.end_sent:
            return
        offset = self.outgoing.outgoing()
        self.pipe.write_end(offset)
        self.commit_write(offset)
        self.end_sent = True  # last: of an interrupted call a second end is harmless, and none is not
        if self.trace is not None:
            self.show_plain("sent", b"")

    def receive(self, limit: int) -> bytes:
        """Up to `limit` bytes; none at the end of the stream."""
        if self.ended:
            return b""
        offset = self.incoming.incoming()
        data = self.pipe.read(offset, limit)
        self.ended = not data
        self.commit_read(offset)
        if self.trace is not None:
            self.show_plain("received", data)
        return data


def bytes_in_ring(packet: Packet) -> int:
    """About how many bytes a packet took in its ring: with its ranges, which may be most of it."""
    size = PacketSize.in_band(len(packet.payload))
    for one in packet.ranges:
        size += SLOT + SLOT * len(one.gpns) if isinstance(one, PagedRange) else SLOT
    return size


def as_given(kind: int, payload: Buffer, transaction_id: int = 0, flags: int = 0) -> Packet:
    """A packet as the sender gave it: not padded, and what lies before the payload left out."""
    data = bytes(view_bytes(payload, "payload"))
    return Packet(IncomingPacketType(kind), transaction_id, data, (), flags)
