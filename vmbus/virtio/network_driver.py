"""Virtio network, the driver's side: frames in and out over a pair of queues.

Each request has a place in the queue's own block for a whole frame and its header: the places of the
receiving queue are its buffers, which the driver keeps offered, and those of the transmitting queue
hold what is on its way.

What a device says is checked before it is used; a device that cannot be trusted gives PeerError.

Sources: OASIS VIRTIO 1.2, section 5.1.6; Linux drivers/net/virtio_net.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from vmbus.errors import CallerError, PeerError, RingFull
from vmbus.memory import Buffer, view_bytes

from .layout import VirtioFeatures
from .network_faults import NetworkFault
from .network_layout import (
    LARGE_RECEIVE,
    LARGEST_MERGED_FRAME,
    LARGEST_PLAIN_FRAME,
    MRG_RXBUF,
    GsoType,
    NetworkFeatures,
    NetworkHeaderFlags,
    least_receive_buffer,
    network_header_codec,
    network_header_size,
)
from .queue import Virtqueue
from .requests import AddDescriptor, RequestPlace, VirtqueueCompletion

__all__ = ["NetworkDriver", "ReceivedFrame", "least_receive_place", "least_transmit_place"]

GUEST_CSUM = int(NetworkFeatures.GUEST_CSUM)
WHOLE_HEADER = int(VirtioFeatures.VERSION_1 | VirtioFeatures.ANY_LAYOUT)


class ReceivedFrame(NamedTuple):
    """A frame and the header that came with it.

    header   one of network_layout, as large as the features make it
    """

    header: Any
    frame: bytes


class PartialFrame(NamedTuple):
    """A frame of which not all buffers have come.

    missing   buffers that are to come
    """

    header: Any
    parts: tuple[bytes, ...]
    missing: int


def least_receive_place(features: int) -> int:
    """The least `request_size` of a receiving queue; with MRG_RXBUF there must be room for a byte of a frame.

    >>> least_receive_place(VirtioFeatures.VERSION_1)
    1526
    """
    return max(least_receive_buffer(features), network_header_size(features) + 1)


def least_transmit_place(features: int) -> int:
    """The least `request_size` of a transmitting queue: for a frame of 1,514 bytes.

    >>> least_transmit_place(VirtioFeatures.VERSION_1)
    1526
    """
    return network_header_size(features) + LARGEST_PLAIN_FRAME


class NetworkDriver:
    """Frames of a guest over its two queues.

    rx         a Virtqueue whose request_size is at least `least_receive_place(features)`: the size of
               each receive buffer
    tx         a Virtqueue whose request_size is at least `least_transmit_place(features)`: more lets
               larger frames be sent
    features   those that were negotiated; None: those of `rx`

    lost_buffers   receive buffers that the device gave back unused

    A legacy device without ANY_LAYOUT gets each header in a descriptor of its own.

    Nothing here waits or notifies: afterwards `tx.avail_notif_needed` and `rx.avail_notif_needed` say
    whether the device must be notified; at first it must be of the receive buffers.

    Raises CallerError for places that are too small.

    >>> from vmbus.virtio import connected_virtqueues
    >>> rx, tx = (connected_virtqueues(4, request_size=1526) for _ in range(2))
    >>> driver = NetworkDriver(rx[0], tx[0])
    >>> driver.send(b"frame"), rx[0].avail_notif_needed(), tx[0].avail_notif_needed()
    (0, True, True)
    >>> tx[1].pop_descriptor_chain().read_all()[12:]
    b'frame'
    >>> chain = rx[1].pop_descriptor_chain()
    >>> rx[1].add_used(chain.head_index, chain.write_all(bytes(10) + b"\\x01\\x00" + b"answer"))
    >>> list(driver.received())
    [b'answer']
    """

    def __init__(self, rx: Virtqueue, tx: Virtqueue, features: int | None = None) -> None:
        features = int(rx.features) if features is None else int(features)
        check_places("rx", rx, least_receive_place(features))
        check_places("tx", tx, least_transmit_place(features))
        self.rx = rx
        self.tx = tx
        self.lost_buffers = 0
        self._codec = network_header_codec(features)
        self._header_size = self._codec.size
        self._empty_header = bytes(self._header_size)
        self._mergeable = bool(features & MRG_RXBUF)
        self._large = bool(features & LARGE_RECEIVE)
        self._checksums = bool(features & GUEST_CSUM)
        self._split_header = not features & WHOLE_HEADER
        self._partial: PartialFrame | None = None
        self._taken: VirtqueueCompletion | None = None  # a buffer that is not looked at yet
        self._whole: ReceivedFrame | None = None  # what is to be handed out
        self.fill()

    @property
    def header_size(self) -> int:
        """Bytes before each frame."""
        return self._header_size

    @property
    def largest_frame(self) -> int:
        """Bytes of the largest frame that can be sent: what a place holds behind the header."""
        return self.tx.request_size - self._header_size

    @property
    def unsent(self) -> int:
        """Frames that the device has not taken yet, as far as is known."""
        return self.tx.outstanding

    # -- sending -------------------------------------------------------------------------------

    def send(self, frame: Buffer) -> int:
        """Have the device send a frame, and return the request's id.

        Raises RingFull when the queue has no room, also after taking back what the device is done
        with; CallerError for an empty frame, and one that is larger than a place.
        """
        view = view_bytes(frame, "frame")
        size = self._header_size
        end = size + len(view)
        if not size < end <= self.tx.request_size:
            self._refuse_frame(len(view))
        if not self.tx.free:
            self.reclaim()

        def prepare(place: RequestPlace, add_descriptor: AddDescriptor) -> None:
            data, start, _ = place
            data[:size] = self._empty_header
            data[size:end] = view
            self._add(add_descriptor, start, end, from_dev=False)

        try:
            return self.tx.add_request(prepare)
        except RingFull:
            if not self.reclaim():
                raise
        return self.tx.add_request(prepare)

    def reclaim(self) -> int:
        """Take back the places of frames that the device is done with; how many those were.

        What the device says that it wrote there is not looked at: devices differ in it.
        """
        return sum(1 for _ in islice(self.tx.completions(), self.tx.queue_size))

    # -- receiving -----------------------------------------------------------------------------

    def fill(self) -> int:
        """Offer every place that is free as a receive buffer; how many those were."""
        added = 0
        while self.rx.free > self._split_header:
            self.rx.add_request(self._offer)
            added += 1
        return added

    def received(self) -> Iterator[bytes]:
        """The frames that have come, until there are no more, and at most a queue full of them.

        A frame in several buffers comes when all of them have.  Each buffer is offered anew as soon as
        it was copied.  Raises PeerError when the device says what cannot be, and from then on.

        An interrupt loses no frame: what was taken and not handed out comes with the next call.
        """
        for received in self.received_with_headers():
            yield received.frame

    def received_with_headers(self) -> Iterator[ReceivedFrame]:
        """The same, each with its header: with GUEST_CSUM and its like it says what is left to do."""
        self._look()  # at what an interrupt has left, or once more at what cannot be
        if self._whole is not None:
            whole, self._whole = self._whole, None
            yield whole
        for completion in islice(self.rx.completions(), self.rx.queue_size):
            # No interrupt comes between these lines, which call nothing: nothing is lost.
            self._taken = completion
            self._look()
            if self._whole is not None:
                whole, self._whole = self._whole, None
                yield whole

    def _look(self) -> None:
        """Find out what the buffer that was taken brings, and only then forget it."""
        taken = self._taken
        if taken is None:
            return
        self.fill()
        found = self._found(taken.request, taken.length, self._partial)
        whole = found if isinstance(found, ReceivedFrame) else None
        partial = found if isinstance(found, PartialFrame) else None
        # As above: all of it, or nothing.
        self.lost_buffers += found is None
        self._partial = partial
        self._whole = whole
        self._taken = None

    def _found(
        self, data: bytes, length: int, partial: PartialFrame | None
    ) -> ReceivedFrame | PartialFrame | None:
        """What a used buffer brings: a frame, or what has come of one; None for a buffer that is lost."""
        if partial is not None:
            return self._found_more(data, length, partial)
        if not length:
            return None
        if length <= self._header_size:
            self._refuse(
                NetworkFault.NO_FRAME,
                f"{length} bytes are in a receive buffer, which must be more than the header's",
                found=length,
                allowed=self._header_size + 1,
            )
        header = self._codec.unpack(data)
        self._check_header(header)
        frame = data[self._header_size : length]
        count = header.num_buffers if self._mergeable else 1
        if count == 1:
            return ReceivedFrame(header, frame)
        self._check_count(count)
        self._check_filled(length)
        return PartialFrame(header, (frame,), count - 1)

    def _found_more(self, data: bytes, length: int, partial: PartialFrame) -> ReceivedFrame | PartialFrame:
        """One more buffer of a frame that takes several."""
        if not length:
            self._refuse(
                NetworkFault.EMPTY_BUFFER,
                f"a buffer came back with 0 bytes where {partial.missing} more belong to one frame",
                found=0,
                allowed=1,
            )
        header, parts, missing = partial
        if missing > 1:
            self._check_filled(length)
        parts += (data[:length],)
        self._check_length(sum(map(len, parts)))
        return (
            PartialFrame(header, parts, missing - 1)
            if missing > 1
            else ReceivedFrame(header, b"".join(parts))
        )

    def _check_header(self, header: Any) -> None:
        """Whether a frame can be taken as it is."""
        if (header.flags and not self._checksums) or (header.gso_type and not self._large):
            self._refuse(
                NetworkFault.FLAGS_NOT_NEGOTIATED,
                f"a received frame has the flags {NetworkHeaderFlags(header.flags)!r} and is to be cut as "
                f"{GsoType(header.gso_type).label}, and no feature that allows it was negotiated",
                found=(header.flags, header.gso_type),
                allowed=(0, 0),
            )

    def _check_count(self, count: int) -> None:
        if not count:
            self._refuse(
                NetworkFault.NO_BUFFERS, "a received frame says that it takes 0 buffers", found=0, allowed=1
            )
        if count > self.rx.queue_size:
            self._refuse(
                NetworkFault.TOO_MANY_BUFFERS,
                f"a received frame says that it takes {count} buffers of a queue of {self.rx.queue_size}",
                found=count,
                allowed=self.rx.queue_size,
            )

    def _check_filled(self, length: int) -> None:
        size = self.rx.request_size
        if length != size:
            self._refuse(
                NetworkFault.BUFFER_NOT_FILLED,
                f"a frame goes on in the next buffer, and this one holds {length} of {size} bytes",
                found=length,
                allowed=size,
            )

    def _check_length(self, length: int) -> None:
        """Whether a frame can be as long as that; one in a single buffer always is."""
        if length > LARGEST_MERGED_FRAME:
            self._refuse(
                NetworkFault.FRAME_TOO_LONG,
                f"a received frame has {length} bytes with what has come of it, and never has one more than "
                f"{LARGEST_MERGED_FRAME}",
                found=length,
                allowed=LARGEST_MERGED_FRAME,
            )

    def _refuse(self, kind: NetworkFault, what: str, *, found: object, allowed: object) -> NoReturn:
        raise PeerError(what, kind=kind, found=found, allowed=allowed)

    # -- both ----------------------------------------------------------------------------------

    def _offer(self, place: RequestPlace, add_descriptor: AddDescriptor) -> None:
        self._add(add_descriptor, place.address, self.rx.request_size, from_dev=True)

    def _add(self, add_descriptor: AddDescriptor, start: int, length: int, *, from_dev: bool) -> None:
        """The buffer of a header and a frame, or of each."""
        size = self._header_size if self._split_header else 0
        if size:
            add_descriptor(start, size, from_dev)
        add_descriptor(start + size, length - size, from_dev)

    def _refuse_frame(self, length: int) -> NoReturn:
        raise CallerError(
            f"a frame of {length} bytes cannot be sent: it has 1 to {self.largest_frame}, as each place of "
            f"the queue has {self.tx.request_size} bytes with the header; a larger request_size allows more",
            argument="frame",
            value=length,
            limit=self.largest_frame,
        )

    def __repr__(self) -> str:
        return (
            f"<NetworkDriver: {self.unsent} frames with the device, {self.rx.outstanding} receive buffers, "
            f"header of {self._header_size} bytes>"
        )


def check_places(name: str, queue: Virtqueue, least: int) -> None:
    if queue.request_size < least:
        raise CallerError(
            f"each request of {name} needs at least {least} bytes of its own under these features; this "
            f"queue was made with a request_size of {queue.request_size}",
            argument=name,
            value=queue.request_size,
            limit=least,
        )
