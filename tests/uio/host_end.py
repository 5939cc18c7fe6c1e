"""The host behind one channel: the other ends of its two rings, over the very same memory.

It looks at the rings when it is signaled and at no other time, and interrupts the guest only where the rings say
that it must: a signal that a guest forgets, or waits for without having asked for it, is missed for good.

What it does with packets that come is its manner: it keeps them, sends them back, or completes them.  While it
has something to send that the ring has no room for it asks for room, as a guest would.

Sources: the two rules of Linux drivers/hv/ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close(), which a
Windows host keeps as well: Documentation/virt/hyperv/vmbus.rst.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NoReturn

from vmbus.channel import PacketChannel
from vmbus.errors import CallerError, PeerError, TimedOut
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, Packet

__all__ = ["HostEnd", "Manner"]

#: So many packets are kept for the test to look at; those before them are only counted.
MOST_KEPT = 500


class Manner(Enum):
    """What a host does with the packets that come."""

    KEEP = "keep"
    ECHO = "send back"
    COMPLETE = "complete those that ask for it, keep the others"


class HostSignal:
    """The host's end of the signals: to notify is to interrupt the guest, and nobody ever sleeps here."""

    peer_closed = False

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt

    def notify(self) -> None:
        self._interrupt()

    def wait(self, timeout: float | None) -> bool:
        assert timeout == 0, "the kernel's process would hang"
        return False

    def wake(self) -> None:
        pass

    def fileno(self) -> NoReturn:
        raise CallerError("the host's end has no descriptor", argument="self")

    def close(self) -> None:
        pass


class HostEnd:
    """One channel, seen from the host.

    rings       memory of both, the guest's outbound one first; the data of each begins after `page_size` bytes
    interrupt   called to interrupt the guest
    """

    def __init__(
        self, rings: memoryview, page_size: int, interrupt: Callable[[], object], manner: Manner
    ) -> None:
        half = len(rings) // 2
        self._memories = [
            FlatRingMem.over(part, header_size=page_size) for part in (rings[:half], rings[half:])
        ]
        outbound, inbound = self._memories
        self._channel = PacketChannel(
            IncomingRing(outbound), OutgoingRing(inbound), HostSignal(interrupt), role="host"
        )
        self.manner = manner
        self.silent = False
        self.fault: PeerError | None = None
        self.received: deque[Packet] = deque(maxlen=MOST_KEPT)
        self.received_count = 0
        self.sent_count = 0
        self._outbox: deque[tuple[OutgoingPacket, bytes]] = deque()
        self.look()

    def look(self) -> None:
        """What a signal of the guest leads to: send what waits, take what has come."""
        try:
            while not self.silent and self.fault is None:
                self._send_waiting()
                if self._outbox and self.manner is not Manner.KEEP:
                    return  # nothing is taken that could not be answered
                self._take(self._channel.receive(timeout=0))
        except TimedOut:
            return
        except PeerError as error:
            self.fault = error

    def post(self, packets: list[tuple[OutgoingPacket, bytes]]) -> None:
        """Send these, now as far as there is room, the others when the guest says that it has made some."""
        self._outbox.extend(packets)
        try:
            self._send_waiting()
        except PeerError as error:
            self.fault = error

    def _send_waiting(self) -> None:
        while self._outbox:
            try:
                self._channel.send_packet(*self._outbox[0], timeout=0)
            except TimedOut:  # it has asked for room
                return
            self._outbox.popleft()
            self.sent_count += 1

    def _take(self, packet: Packet) -> None:
        self.received_count += 1
        if self.manner is Manner.ECHO:
            answer = OutgoingPacket.in_band(len(packet.payload), transaction_id=packet.transaction_id)
            self._outbox.append((answer, packet.payload))
        elif self.manner is Manner.COMPLETE and packet.completion_requested:
            done = OutgoingPacket.completion(len(packet.payload), transaction_id=packet.transaction_id)
            self._outbox.append((done, packet.payload))
        else:
            self.received.append(packet)

    @property
    def waiting_count(self) -> int:
        """Packets that it has no room for yet."""
        return len(self._outbox)

    def fence(self) -> None:
        self._memories[0].fence()

    def close(self) -> None:
        """Let go of the memory."""
        self._channel.close()
        for memory in self._memories:
            memory.close()
