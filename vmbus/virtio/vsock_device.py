"""The host's side of a vsock device: packets over three DeviceQueues.

A packet may lie in any number of descriptors, header and payload in one or in many: a device must not
care.  (VsockPacket, which hands out views of the guest's memory and not copies, takes header and payload
in one descriptor or in two, as rust-vmm's does.)

What a guest offers that is no packet, or has no room for one, is given back with a length of 0 and
counted.

Sizes are in bytes.

Sources: OASIS VIRTIO 1.2, sections 2.7.4 and 5.10.6; Linux drivers/vhost/vsock.c.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vmbus.errors import CallerError, PeerError
from vmbus.memory import AddressError

from .chains import DescriptorChain
from .device_queue import DeviceQueue
from .layout import WRITE
from .vsock_carrier import CarrierStatistics, VsockArrival
from .vsock_layout import (
    LARGEST_PAYLOAD,
    VSOCK_EVENT,
    VSOCK_HEADER,
    VsockEvent,
    VsockEventId,
    VsockHeader,
    VsockOperation,
)

__all__ = ["VsockDevice"]

HEADER_SIZE = VSOCK_HEADER.size
RW = int(VsockOperation.RW)

#: Descriptors of refused chains that one call walks; the next call goes on behind them.
MOST_DESCRIPTORS = 4096

#: Bytes of a packet that are read in one go, before it is known how long it is.
READ_AT_ONCE = 8192

unpack_header = VSOCK_HEADER.struct.unpack_from
new_tuple: Any = tuple.__new__


class VsockDevice:
    """Packets over the queues of one guest; a VsockCarrier.

    rx, tx            DeviceQueues that are ready: rx is what the guest receives
    event             the event queue; None when there is none
    largest_payload   bytes; a packet that has more is refused

    >>> from vmbus.virtio import connected_virtqueues
    >>> rx, tx = connected_virtqueues(), connected_virtqueues()
    >>> device = VsockDevice(rx[1], tx[1])
    >>> device.room(), device.receive()
    (-1, None)
    """

    def __init__(
        self,
        rx: DeviceQueue,
        tx: DeviceQueue,
        event: DeviceQueue | None = None,
        *,
        largest_payload: int = LARGEST_PAYLOAD,
    ) -> None:
        self.rx = rx
        self.tx = tx
        self.event = event
        self.largest_payload = largest_payload
        self._buffer: DescriptorChain | None = None  # of the guest's, for the next packet
        self._room = -1  # for payload, in that buffer
        self._address: int | None = None  # of the buffer, where it is in one piece
        self._rx_memory = rx.memory
        self._was_full = False  # whether a caller of `room` was told so since the last sleep
        self._sent = self._received = self._refused = 0
        self._rx_changed = self._tx_changed = self._event_changed = False

    # -- sending -----------------------------------------------------------------------------

    def room(self) -> int:
        if self._buffer is not None:
            return self._room
        self._buffer = buffer = self._next_buffer()
        if buffer is None:
            self._was_full = True
            return -1
        self._room = room = min(buffer.writable_bytes - HEADER_SIZE, self.largest_payload)
        return room

    def _next_buffer(self) -> DescriptorChain | None:
        """The guest's next buffer that can hold a packet; those that cannot are given back."""
        rx = self.rx
        left = MOST_DESCRIPTORS
        while left > 0:
            chain = rx.pop_descriptor_chain()
            if chain is None or self._can_hold(chain):
                return chain
            left -= len(chain.descriptors)
            rx.add_used(chain.head_index, 0)
            self._rx_changed = True
            self._refused += 1
        return None

    def _can_hold(self, chain: DescriptorChain) -> bool:
        """Whether there is room for a header and some payload, all of it in memory."""
        if chain.writable_bytes <= HEADER_SIZE:
            return False
        check_range, descriptors = self._rx_memory.check_range, chain.descriptors
        self._address = descriptors[0][1] if len(descriptors) == 1 else None
        try:
            for _, address, length, flags, _ in descriptors:
                if flags & WRITE:
                    check_range(address, length, writable=True)
        except AddressError:
            return False
        return True

    def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        buffer = self._buffer
        length = len(payload)
        if buffer is None or length > self._room:
            self._refuse(length)
        packet = b"".join((header, payload))
        if self._address is not None:
            self._rx_memory.write(self._address, packet)
        else:
            buffer.write_all(packet)
        self.rx.add_used(buffer.head_index, HEADER_SIZE + length)
        self._buffer = None
        self._rx_changed = True
        self._sent += 1

    def _refuse(self, length: int) -> NoReturn:
        room = -1 if self._buffer is None else self._room
        raise CallerError(
            f"a packet of {length} bytes of payload, where there is room for {room}: ask `room` first",
            argument="payload",
            value=length,
            limit=room,
        )

    def send_reset(self) -> bool:
        """Tell the guest that all connections are gone; False when it has no buffer for events."""
        if self.event is None:
            return False
        for chain in self.event:
            self._event_changed = True
            try:
                written = chain.write_all(VSOCK_EVENT.pack(VsockEvent(VsockEventId.TRANSPORT_RESET)))
            except PeerError:
                self.event.add_used(chain.head_index, 0)
                self._refused += 1
                continue
            self.event.add_used(chain.head_index, written)
            return True
        return False

    # -- receiving ---------------------------------------------------------------------------

    def receive(self) -> VsockArrival | None:
        tx = self.tx
        left = MOST_DESCRIPTORS
        while left > 0:
            chain = tx.pop_descriptor_chain()
            if chain is None:
                return None
            left -= len(chain.descriptors)
            arrival = self._parse(chain)
            tx.add_used(chain.head_index, 0)
            self._tx_changed = True
            if arrival is not None:
                self._received += 1
                return arrival
            self._refused += 1
        return None

    def _parse(self, chain: DescriptorChain) -> VsockArrival | None:
        """A copy of the packet in a chain of the guest; None when there is none."""
        _, address, length, flags, _ = chain.descriptors[0]
        if flags & WRITE or length < HEADER_SIZE:
            return self._parse_scattered(chain)
        read = self.tx.memory.read
        try:
            # One copy of the header, and all that follows from that copy; most payloads come along with it.
            start = read(address, min(length, READ_AT_ONCE))
            header: VsockHeader = new_tuple(VsockHeader, unpack_header(start))
            if header.operation != RW:
                return header, b""
            end = HEADER_SIZE + header.length
            if header.length > self.largest_payload:
                return None
            if end <= len(start):
                return header, start[HEADER_SIZE:end]
            if end <= length:
                return header, read(address + HEADER_SIZE, header.length)
        except AddressError:
            return None
        return self._parse_scattered(chain)

    def _parse_scattered(self, chain: DescriptorChain) -> VsockArrival | None:
        """As `_parse`, for a packet that does not lie in one descriptor."""
        try:
            reader = chain.reader()
            header = VsockHeader._make(unpack_header(reader.read_exact(HEADER_SIZE)))
            if header.operation != RW:
                return header, b""
            if header.length > self.largest_payload:
                return None
            return header, reader.read_exact(header.length)
        except PeerError:
            return None

    def take_reset(self) -> bool:
        return False

    # -- notifications -----------------------------------------------------------------------

    def must_notify(self) -> bool:
        needed = False
        if self._rx_changed:
            self._rx_changed = False
            needed = self.rx.needs_notification()
        if self._tx_changed:
            self._tx_changed = False
            needed |= self.tx.needs_notification()
        if self._event_changed and self.event is not None:
            self._event_changed = False
            needed |= self.event.needs_notification()
        return needed

    def prepare_to_sleep(self) -> bool:
        ready = self.tx.enable_notification()
        was_full, self._was_full = self._was_full, False
        if self.room() < 0:
            self.rx.enable_notification()
        return ready or (was_full and self.room() >= 0)

    def stay_awake(self) -> None:
        self.tx.disable_notification()
        self.rx.disable_notification()

    def statistics(self) -> CarrierStatistics:
        return CarrierStatistics(self._sent, self._received, self._refused)

    def __repr__(self) -> str:
        return f"<VsockDevice: {self._sent} sent, {self._received} received, rx {self.rx!r}, tx {self.tx!r}>"
