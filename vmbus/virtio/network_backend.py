"""Virtio network, the device's side: a guest's two queues, connected to queues of frames.

What the guest transmits loses its header and goes to `guest_to_host`; what waits in `host_to_guest`
gets one and goes into the guest's receive buffers.

What a driver says is never trusted.  A chain that makes no sense is given back with a length of 0 and
counted, and the next one is looked at; only a broken queue is an error.  The work for one call is
bounded, and nothing is held but one frame for which the guest has offered no room yet.

Nothing here waits, or notifies the guest.

Sources: OASIS VIRTIO 1.2, section 5.1.6; OpenVMM vm/devices/virtio/virtio_net.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from vmbus.errors import CallerError, PeerError

from .chains import DescriptorChain
from .cursors import ChainWriter
from .device_queue import DeviceQueue
from .frame_queues import NetworkFrameQueues
from .frame_stream import LARGEST_STREAM_FRAME
from .network_layout import (
    MRG_RXBUF,
    GsoType,
    NetworkFeatures,
    NetworkHeaderFlags,
    least_receive_buffer,
    network_header_codec,
)

__all__ = ["NetworkBackend", "NetworkCounters"]

#: What a driver may leave to a device that does not only hand frames on.
TRANSMIT_WORK = int(
    NetworkFeatures.CSUM
    | NetworkFeatures.HOST_TSO4
    | NetworkFeatures.HOST_TSO6
    | NetworkFeatures.HOST_ECN
    | NetworkFeatures.HOST_UFO
    | NetworkFeatures.HOST_USO
    | NetworkFeatures.HOST_UDP_TUNNEL_GSO
    | NetworkFeatures.HOST_UDP_TUNNEL_GSO_CSUM
)

NEEDS_CSUM = int(NetworkHeaderFlags.NEEDS_CSUM)
NO_GSO = int(GsoType.NONE)


@dataclass
class NetworkCounters:
    """What became of frames and chains.

    from_guest           frames that went to the host
    to_guest             frames that went to the guest
    host_queue_full      frames of the guest that were dropped because `guest_to_host` was full
    bad_transmit_chains  chains of the guest that hold no frame that could be handed on
    bad_receive_chains   chains of the guest that have too little room, or room outside the memory
    too_long_for_guest   frames for the guest that were dropped: none of its buffers can hold them
    """

    from_guest: int = 0
    to_guest: int = 0
    host_queue_full: int = 0
    bad_transmit_chains: int = 0
    bad_receive_chains: int = 0
    too_long_for_guest: int = 0


class Outcome(Enum):
    """What came of trying to bring a frame to the guest."""

    DONE = "the frame is there"
    DROPPED = "the frame can never be there"
    AGAIN = "a chain was of no use: try the next"
    WAIT = "the guest offers too little room now"


class NetworkBackend:
    """A guest's network device, between its pair of virtqueues and a pair of frame queues.

    rx, tx          DeviceQueues: what the guest receives into, and what it transmits
    queues          the frames
    features        those that were negotiated for the device; of them only MRG_RXBUF and those that
                    change the header's size mean something here
    largest_frame   bytes of the largest frame taken from the guest

    `counters` tells what became of everything.

    A frame that takes several chains (MRG_RXBUF) is given back chain by chain: a driver that looks in
    between sees a part of it, and must wait for the rest, as NetworkDriver does.

    Raises CallerError for features under which a driver leaves work to the device (CSUM, HOST_TSO4
    and their like): here frames are handed on as they are.

    >>> from vmbus.virtio import connected_virtqueues
    >>> rx, tx = connected_virtqueues(4), connected_virtqueues(4, request_size=80)
    >>> backend = NetworkBackend(rx[1], tx[1], NetworkFrameQueues.shared(4))
    >>> def prepare(place, add_descriptor):
    ...     place.data[12:18] = b"frame!"
    ...     add_descriptor(place.address, 18)
    >>> request_id = tx[0].add_request(prepare)
    >>> backend.process_transmit(), backend.queues.guest_to_host.pop()
    (1, b'frame!')
    """

    def __init__(
        self,
        rx: DeviceQueue,
        tx: DeviceQueue,
        queues: NetworkFrameQueues,
        features: int | None = None,
        *,
        largest_frame: int = LARGEST_STREAM_FRAME,
    ) -> None:
        features = int(rx.features) if features is None else int(features)
        check_features(features)
        self.rx = rx
        self.tx = tx
        self.queues = queues
        self.counters = NetworkCounters()
        self.largest_frame = largest_frame
        self._features = features
        self._codec = network_header_codec(features)
        self._header_size = self._codec.size
        self._mergeable = bool(features & MRG_RXBUF)
        self._least = least_receive_buffer(features)
        self._first_header = self._header(1)
        self._flags_offset = self._codec.offsets["flags"]
        self._gso_offset = self._codec.offsets["gso_type"]
        self._pending: bytes | None = None

    @property
    def header_size(self) -> int:
        """Bytes before each frame in the guest's buffers."""
        return self._header_size

    @property
    def pending(self) -> bytes | None:
        """The frame that has left `host_to_guest` and waits for room in the guest."""
        return self._pending

    def process(self) -> int:
        """Both directions once; how many frames were moved.

        Afterwards `rx.needs_notification` and `tx.needs_notification` say whether the guest must be
        notified, also when this raises PeerError, for a queue that is broken.
        """
        before = self.counters.from_guest
        self.process_transmit()
        return self.counters.from_guest - before + self.process_receive()

    # -- from the guest ------------------------------------------------------------------------

    def process_transmit(self, most: int | None = None) -> int:
        """Take what the guest has transmitted; how many chains that were.

        most   take no more than that; None: as many as the queue has descriptors

        The poll loop is woken when there are frames for it.  A frame that finds `guest_to_host` full
        is dropped.
        """
        count = 0
        frames = self.counters.from_guest
        try:
            for chain in islice(self.tx, most):
                self._take(chain)
                count += 1
        finally:
            if self.counters.from_guest != frames:
                self.queues.guest_wake.wake()
        return count

    def _take(self, chain: DescriptorChain) -> None:
        try:
            frame = self._frame_of(chain)
            self.tx.add_used(chain.head_index, 0)
        except BaseException:
            with suppress(CallerError):  # it was given back already
                self.tx.go_to_previous_position()
            raise
        if frame is None:
            self.counters.bad_transmit_chains += 1
        elif self.queues.guest_to_host.push(frame) is None:
            self.counters.from_guest += 1
        else:
            self.counters.host_queue_full += 1

    def _frame_of(self, chain: DescriptorChain) -> bytes | None:
        """A copy of the frame that a chain holds; None when there is none to be handed on."""
        length = chain.readable_bytes - self._header_size
        if not 1 <= length <= self.largest_frame:
            return None
        try:
            data = chain.read_all()
        except PeerError:
            return None
        if data[self._flags_offset] & NEEDS_CSUM or data[self._gso_offset] != NO_GSO:
            return None  # a part of a frame is left to the device, and that was not negotiated
        return data[self._header_size :]

    # -- to the guest --------------------------------------------------------------------------

    def process_receive(self) -> int:
        """Bring to the guest what waits for it, as long as it offers room; how many frames that were."""
        waiting = self.queues.host_to_guest
        before = self.counters.to_guest
        for _ in range(self.rx.size + waiting.capacity):
            if self._pending is None:
                self._pending = waiting.pop()
            if self._pending is None:
                break
            outcome = self._bring(self._pending)
            if outcome is Outcome.WAIT:
                break
            if outcome is not Outcome.AGAIN:
                self._pending = None
        return self.counters.to_guest - before

    def _bring(self, frame: bytes) -> Outcome:
        rx = self.rx
        chain = rx.pop_descriptor_chain()
        if chain is None:
            return Outcome.WAIT
        popped = [chain]
        try:
            room = chain.writable_bytes
            if room >= self._header_size + len(frame):
                return self._bring_in_one(frame, chain)
            if room < self._least:
                return self._give_back_unused(chain)
            if self._mergeable:
                return self._bring_in_many(frame, popped)
            rx.go_to_previous_position()  # the buffer is as large as it must be
            return self._drop()
        except BaseException:
            self._go_back(popped)
            raise

    def _bring_in_one(self, frame: bytes, chain: DescriptorChain) -> Outcome:
        try:
            written = chain.write_all(self._first_header + frame)
        except PeerError:
            return self._give_back_unused(chain)
        self.rx.add_used(chain.head_index, written)
        self.counters.to_guest += 1
        return Outcome.DONE

    def _bring_in_many(self, frame: bytes, popped: list[DescriptorChain]) -> Outcome:
        """Fill one chain after the other; `popped` has the first, and takes the others."""
        useful: list[tuple[DescriptorChain, ChainWriter]] = []
        room = -self._header_size
        chain: DescriptorChain | None = popped[0]
        while True:
            assert chain is not None
            writer = self._writer_of(chain)
            if writer is not None:
                useful.append((chain, writer))
                room += writer.available_bytes
            elif not useful:
                return self._give_back_unused(chain)
            if room >= len(frame):
                break
            chain = self.rx.pop_descriptor_chain()
            if chain is None:
                never = descriptors_of(popped) >= self.rx.size  # and no more can be offered
                self._go_back(popped)
                return self._drop() if never else Outcome.WAIT
            popped.append(chain)
        self._fill(frame, useful)
        # Those without room come last, so that the frame's own follow one another.
        known = {chain.head_index for chain, _ in useful}
        for chain in popped:
            if chain.head_index not in known:
                self._give_back_unused(chain)
        return Outcome.DONE

    def _fill(self, frame: bytes, useful: list[tuple[DescriptorChain, ChainWriter]]) -> None:
        data = memoryview(self._header(len(useful)) + frame)
        position = 0
        for _, writer in useful:
            position += writer.write(data[position:])
        for chain, writer in useful:
            self.rx.add_used(chain.head_index, writer.bytes_written)
        self.counters.to_guest += 1

    def _writer_of(self, chain: DescriptorChain) -> ChainWriter | None:
        """A cursor over a chain's room; None when it has too little, or room outside the memory."""
        if chain.writable_bytes < self._least:
            return None
        try:
            return chain.writer()
        except PeerError:
            return None

    def _give_back_unused(self, chain: DescriptorChain) -> Outcome:
        self.rx.add_used(chain.head_index, 0)
        self.counters.bad_receive_chains += 1
        return Outcome.AGAIN

    def _drop(self) -> Outcome:
        self.counters.too_long_for_guest += 1
        return Outcome.DROPPED

    def _go_back(self, popped: list[DescriptorChain]) -> None:
        """Undo the pops of chains that were not used; they come again."""
        with suppress(CallerError):  # some were given back already
            for _ in popped:
                self.rx.go_to_previous_position()

    def _header(self, buffers: int) -> bytes:
        """The header of a plain frame in so many chains."""
        header = self._codec.record()
        if "num_buffers" in self._codec.offsets:
            header = header._replace(num_buffers=buffers)
        return self._codec.pack(header)

    def __repr__(self) -> str:
        return (
            f"<NetworkBackend: {self.counters.from_guest} frames from the guest, "
            f"{self.counters.to_guest} to it, header of {self._header_size} bytes>"
        )


def descriptors_of(chains: list[DescriptorChain]) -> int:
    """How many descriptors of the queue's own table some chains take."""
    count = 0
    for chain in chains:
        tables = {descriptor.table for descriptor in chain.descriptors if descriptor.table is not None}
        count += len(tables) + sum(descriptor.table is None for descriptor in chain.descriptors)
    return count


def check_features(features: int) -> None:
    work = features & TRANSMIT_WORK
    if work:
        raise CallerError(
            f"this device hands frames on as they are: it cannot do what {NetworkFeatures(work)!r} leaves to "
            "it; do not offer that",
            argument="features",
            value=features,
            limit=features & ~TRANSMIT_WORK,
        )
