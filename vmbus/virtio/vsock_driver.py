"""The guest's side of a vsock device: packets over three Virtqueues.

Each request's place in its queue is one packet's buffer: 44 bytes of header, then payload.  So the
`request_size` of a queue says how much payload a packet of it has at most.

Sizes are in bytes.

Source: OASIS VIRTIO 1.2, sections 5.10.2 and 5.10.6.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from vmbus.errors import CallerError, PeerError

from .queue import Virtqueue
from .vsock_carrier import CarrierStatistics, VsockArrival
from .vsock_faults import VsockFault
from .vsock_layout import VSOCK_EVENT, VSOCK_HEADER, VsockEventId, VsockHeader, VsockOperation

__all__ = ["VSOCK_PLACE_SIZE", "VsockDriver"]

HEADER_SIZE = VSOCK_HEADER.size
RW = int(VsockOperation.RW)

unpack_header = VSOCK_HEADER.struct.unpack
new_tuple: Any = tuple.__new__

#: So many packets go out before those that are done are taken back: the queue hands out first what came
#: back last, and buffers that are still in the processor's cache are quicker by a third.
RECLAIM_EVERY = 32

#: A request_size for the rx and the tx queue: a header and 4 KiB of payload.
VSOCK_PLACE_SIZE = HEADER_SIZE + 4096


class VsockDriver:
    """Packets over the queues of one device; a VsockCarrier.

    rx, tx   Virtqueues whose request_size is more than 44: VSOCK_PLACE_SIZE is a good one; nothing of their
             completions is looked at, so completion_size may be 0
    event    the event queue, whose request_size is at least 4; None: nobody listens to the device's events

    All buffers of rx and event are given to the device at once, and again when they come back.

    Raises CallerError for queues whose places are too small, or that have requests already.

    >>> from vmbus.memory import GuestMemory
    >>> rx, tx = (Virtqueue(GuestMemory.from_ranges([(0, 1 << 20)]), 8, request_size=VSOCK_PLACE_SIZE) for _ in "rt")
    >>> driver = VsockDriver(rx, tx)
    >>> driver.room(), driver.receive(), driver.must_notify()
    (4096, None, True)
    """

    def __init__(self, rx: Virtqueue, tx: Virtqueue, event: Virtqueue | None = None) -> None:
        for queue, least in ((rx, HEADER_SIZE + 1), (tx, HEADER_SIZE + 1), (event, VSOCK_EVENT.size)):
            if queue is not None:
                check_queue(queue, least)
        self.rx = rx
        self.tx = tx
        self.event = event
        self._places: list[memoryview] = [memoryview(b"")] * rx.queue_size
        self._tx_room = tx.request_size - HEADER_SIZE
        self._before_reclaim = min(tx.free, RECLAIM_EVERY)  # nobody else adds requests to the queue
        self._was_full = False  # whether a caller of `room` was told so since the last sleep
        self._sent = self._received = self._refused = 0
        self._rx_changed = self._tx_changed = self._event_changed = False
        self._was_reset = False
        while rx.free:
            self._offer_buffer()
        while event is not None and event.free:
            self._offer_event(event)

    # -- sending -----------------------------------------------------------------------------

    def room(self) -> int:
        if self._before_reclaim:
            return self._tx_room
        for _ in self.tx.completions():
            pass
        self._before_reclaim = min(self.tx.free, RECLAIM_EVERY)
        if self._before_reclaim:
            return self._tx_room
        self._was_full = True
        return -1

    def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        place = self.tx.next_place
        end = HEADER_SIZE + len(payload)
        if place is not None and end <= len(place.data):
            place.data[:HEADER_SIZE] = header
            place.data[HEADER_SIZE:end] = payload
        self._before_reclaim -= 1  # before, or an interrupt would leave one too many
        self.tx.add_place(end)  # which refuses what does not go
        self._tx_changed = True
        self._sent += 1

    # -- receiving ---------------------------------------------------------------------------

    def receive(self) -> VsockArrival | None:
        left = self.rx.queue_size
        for request_id, _, length in self.rx.completions():
            arrival = self._parse(self._places[request_id], length)
            self._offer_buffer()
            if arrival is not None:
                self._received += 1
                return arrival
            self._refused += 1
            left -= 1
            if not left:
                break
        return None

    def _parse(self, place: memoryview, length: int) -> VsockArrival | None:
        """A copy of the packet that the device has written; None when it has written none."""
        if length < HEADER_SIZE:
            return None
        # One copy of the header, and all that follows from that copy.
        header: VsockHeader = new_tuple(VsockHeader, unpack_header(place[:HEADER_SIZE].tobytes()))
        if header.operation != RW:
            return header, b""
        end = HEADER_SIZE + header.length
        return (header, place[HEADER_SIZE:end].tobytes()) if end <= length else None

    def _offer_buffer(self) -> None:
        """Let the device have one more buffer for a packet."""
        place = self.rx.next_place
        assert place is not None, "one has just come free"
        self._places[place.id] = place.data
        self.rx.add_place(len(place.data), from_dev=True)
        self._rx_changed = True

    def take_reset(self) -> bool:
        if self.event is None:
            return False
        for _, place, length in islice(self.event.completions(), self.event.queue_size):
            self._offer_event(self.event)
            self._was_reset |= is_reset(place, length)
        was_reset, self._was_reset = self._was_reset, False
        return was_reset

    def _offer_event(self, event: Virtqueue) -> None:
        """Let the device have one more buffer for an event."""
        event.add_place(VSOCK_EVENT.size, from_dev=True)
        self._event_changed = True

    # -- notifications -----------------------------------------------------------------------

    def must_notify(self) -> bool:
        needed = False
        if self._tx_changed:
            self._tx_changed = False
            needed = self.tx.avail_notif_needed()
        if self._rx_changed:
            self._rx_changed = False
            needed |= self.rx.avail_notif_needed()
        if self._event_changed and self.event is not None:
            self._event_changed = False
            needed |= self.event.avail_notif_needed()
        return needed

    def prepare_to_sleep(self) -> bool:
        ready = self.rx.set_used_notif_enabled(True)
        if self.event is not None:
            ready |= self.event.set_used_notif_enabled(True)
        was_full, self._was_full = self._was_full, False
        if self.room() < 0:
            self.tx.set_used_notif_enabled(True)
        return ready or (was_full and self.room() >= 0)

    def stay_awake(self) -> None:
        self.rx.set_used_notif_enabled(False)
        self.tx.set_used_notif_enabled(False)

    def statistics(self) -> CarrierStatistics:
        return CarrierStatistics(self._sent, self._received, self._refused)

    def __repr__(self) -> str:
        return f"<VsockDriver: {self._sent} sent, {self._received} received, rx {self.rx!r}, tx {self.tx!r}>"


def is_reset(place: bytes, length: int) -> bool:
    """Whether an event says that all connections are gone; PeerError when it is none at all."""
    if length < VSOCK_EVENT.size:
        raise PeerError(
            f"an event of {length} bytes: each has {VSOCK_EVENT.size}",
            kind=VsockFault.INVALID_EVENT,
            found=length,
            allowed=VSOCK_EVENT.size,
        )
    return VSOCK_EVENT.unpack(place).id == VsockEventId.TRANSPORT_RESET


def check_queue(queue: Virtqueue, least: int) -> None:
    if queue.request_size < least:
        raise CallerError(
            f"each request of this queue needs {least} bytes of its own; it was made with a request_size of "
            f"{queue.request_size}",
            argument="queue",
            value=queue.request_size,
            limit=least,
        )
    if queue.outstanding:
        raise CallerError(
            f"the queue has {queue.outstanding} requests of somebody else",
            argument="queue",
            value=queue.outstanding,
            limit=0,
        )
