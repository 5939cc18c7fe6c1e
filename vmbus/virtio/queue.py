"""The driver's side of a virtqueue: requests go in, completions come out.

Each request has an id and, where the queue was made with a `request_size`, a place of that many
bytes in the queue's own block, for whatever small things the device must read or write: a header,
a status byte.  Nothing here waits or notifies: methods say whether the device must be notified.

Sources: OASIS VIRTIO 1.2, sections 2.6 to 2.8; the virtio-driver crate, Virtqueue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from vmbus.errors import CallerError, RingFull
from vmbus.memory import TOP_OF_MEMORY, QueueMemory

from .driver_ring import BufferList
from .features import (
    check_features,
    check_memory,
    check_start,
    first_position,
    has_event_idx,
    has_indirect,
    is_packed,
)
from .layout import DESCRIPTOR_SIZE, INDIRECT, LARGEST_CHAIN_BYTES, WRITE, QueueAreas, VirtioFeatures
from .packed_driver import PackedDriverRing
from .queue_layout import VirtqueueLayout
from .requests import AddDescriptor, Prepare, RequestPlace, Translate, VirtqueueCompletion
from .split_driver import SplitDriverRing

__all__ = ["Virtqueue"]


class Virtqueue:
    """One queue, split or packed by `features`, from the driver's side.

    memory         what driver and device share, by the driver's own addresses
    queue_size     descriptors: a power of two for a split queue, at most 32,768
    features       those that were negotiated
    address        where the queue's block starts: a multiple of 16; VirtqueueLayout says how long it is
    request_size   bytes of each request's place
    indirect_size  entries of each request's indirect table; 0: no request has one
    completion_size   bytes of its place that a completion brings a copy of; None: all of them
    translate      from the driver's addresses to the device's; None when they are the same
    start          where the queue begins: an index, in a packed queue a slot with its wrap counter in
                   bit 15; the device must begin there too.  None: at the very start, as all do

    The block is zeroed.  For one thread at a time.

    Raises CallerError for a size no queue can have, a feature that is not built (IN_ORDER), and a
    block that is not aligned or not inside the memory.  Other bits of `features` are the caller's own
    affair.

    After a PeerError add_request and completions raise it again: reset the device, and make a new
    queue.

    >>> from vmbus.memory import GuestMemory
    >>> queue = Virtqueue(GuestMemory([(0, bytearray(4096))]), 8, request_size=16)
    >>> def prepare(place, add_descriptor):
    ...     place.data[:5] = b"hello"
    ...     add_descriptor(place.address, 5)
    ...     add_descriptor(place.address + 8, 8, from_dev=True)
    >>> queue.add_request(prepare), queue.avail_notif_needed(), queue.free
    (0, True, 6)
    """

    def __init__(
        self,
        memory: QueueMemory,
        queue_size: int,
        features: int = VirtioFeatures.VERSION_1,
        *,
        address: int = 0,
        request_size: int = 0,
        indirect_size: int = 0,
        completion_size: int | None = None,
        translate: Translate | None = None,
        start: int | None = None,
    ) -> None:
        check_memory(memory)
        check_features(features)
        self._layout = layout = VirtqueueLayout.new(
            1, queue_size, features, request_size=request_size, indirect_size=indirect_size
        )
        memory.view(address, layout.end_offset)  # AddressError unless all of it is there, in one piece
        check_alignment(address)
        memory.write(address, bytes(layout.end_offset))
        self.memory = memory
        self.features = VirtioFeatures(features)
        self._queue_size = queue_size
        self._address = address
        self._indirect_size = indirect_size
        self._translate = translate
        self._request_size = request_size
        first = address + layout.request_offset
        self._places = request_places(memory, first, request_size, queue_size)
        copied = copied_views(memory, self._places, request_size, completion_size)
        self._ring = driver_ring(memory, layout.areas(address), copied, features, start)
        # Of the request that is being prepared, of which there is one at a time.
        self._buffers: BufferList = []
        self._indirect = False
        self._room = 0  # how many buffers it may have; 0 while none is being prepared
        self._bytes_left = 0
        self._writable = 0
        # Looked up once, for the loops.
        self._publish = self._ring.publish
        self._take_used = self._ring.take_used
        self._add: AddDescriptor = self._add_descriptor

    @property
    def queue_size(self) -> int:
        """Descriptors of the queue."""
        return self._queue_size

    @property
    def request_size(self) -> int:
        """Bytes of each request's place."""
        return self._request_size

    @property
    def layout(self) -> VirtqueueLayout:
        """Where the parts of this queue's block lie."""
        return self._layout

    @property
    def areas(self) -> QueueAreas:
        """Where the device finds the three areas: its own addresses."""
        sizes = QueueAreas.sizes(self._queue_size, packed=is_packed(self.features))
        places = zip(self._layout.areas(self._address), sizes, strict=True)
        return QueueAreas(*(self._device_address(address, size) for address, size in places))

    @property
    def free(self) -> int:
        """Descriptors that no request takes; a request in a table of its own needs one."""
        return self._ring.free

    @property
    def outstanding(self) -> int:
        """Requests that the device has."""
        return len(self._ring.outstanding)

    def add_request(self, prepare: Prepare, *, indirect: bool = False) -> int:
        """Have `prepare` fill a request and name its buffers, make it available, and return its id.

        prepare    is called with the request's place and a function that adds one buffer:
                   add_descriptor(address, length, from_dev=False), readable ones first; `from_dev`
                   for those that the device writes.  What prepare raises is raised, and the queue
                   is then as it was.
        indirect   put the descriptors into the request's own table, so that the request takes one
                   descriptor of the queue

        Afterwards avail_notif_needed says whether the device must be notified.

        Raises RingFull when no descriptor is free (prepare has then not been called) or when
        add_descriptor runs out of them; CallerError for a request without buffers.  A prepare that
        catches what add_descriptor raises has its request published without that buffer.
        """
        ring = self._ring
        free = ring.free
        if ring.fault is not None or not free or self._room:
            self._refuse_request()
        ids = ring.ids
        request_id = ids[-1]
        buffers: BufferList = []
        self._buffers = buffers
        self._writable = 0
        self._bytes_left = LARGEST_CHAIN_BYTES
        self._indirect = indirect
        self._room = free if not indirect else self._table_room()
        try:
            prepare(self._places[request_id], self._add)
        finally:
            self._room = 0
        if not buffers or ids[-1] != request_id or ring.fault is not None:
            ring.check_fault()
            refuse_prepared(buffers)
        if indirect:
            buffers = [self._table(request_id, buffers)]
        return self._publish(buffers, self._writable)

    @property
    def next_place(self) -> RequestPlace | None:
        """The place of the request that is added next; None when no descriptor is free."""
        ids = self._ring.ids
        return self._places[ids[-1]] if ids and self._ring.free else None

    def add_place(self, length: int, *, from_dev: bool = False) -> int:
        """Make a request available whose one buffer is the start of its own place, and return its id.

        What the device is to read has been put into `next_place` before.  It is add_request without a
        `prepare`, for those who have nothing else to say.

        Raises RingFull when no descriptor is free, CallerError when the place is not so long.

        >>> from vmbus.memory import GuestMemory
        >>> queue = Virtqueue(GuestMemory([(0, bytearray(4096))]), 8, request_size=16)
        >>> queue.next_place.data[:5] = b"hello"
        >>> queue.add_place(5), queue.add_place(16, from_dev=True)
        (0, 1)
        """
        ring = self._ring
        if ring.fault is not None or not ring.free or self._room:
            self._refuse_request()
        if not 0 <= length <= self._request_size:
            raise CallerError(
                f"a request's place has {self._request_size} bytes, not {length}",
                argument="length",
                value=length,
                limit=self._request_size,
            )
        address = self._places[ring.ids[-1]].address
        if self._translate is not None:
            address = self._device_address(address, length)
        return self._publish([(address, length, WRITE if from_dev else 0)], length if from_dev else 0)

    def completions(self) -> Iterator[VirtqueueCompletion]:
        """The requests that the device is done with, one after the other, until there are no more.

        Each is taken from the queue as it is handed out; its descriptors are free again.

        Raises PeerError when the device says what cannot be.
        """
        take_used = self._take_used
        while True:
            completion = take_used()
            if completion is None:
                return
            yield completion

    def has_completion(self) -> bool:
        """Whether `completions` has something to find; a hint, nothing is checked."""
        return self._ring.has_used()

    def avail_notif_needed(self) -> bool:
        """Whether the device must be notified of the requests added since this was last asked.

        An answer is given once: keep it.  A device asks for each notification anew.
        """
        return self._ring.notification_needed()

    def set_used_notif_enabled(self, enabled: bool) -> bool:
        """Ask the device to notify of completions, or to be silent; they are on at first.

        In a split queue with RING_EVENT_IDX there is no wish for silence: the device goes silent by
        itself, once it has notified of what it was last asked for.

        True when there is a completion already: take it before going to sleep, since no
        notification may come for it.
        """
        return self._ring.set_used_notifications(enabled)

    def _add_descriptor(self, address: int, length: int, from_dev: bool = False) -> None:
        """What `prepare` is given."""
        buffers = self._buffers
        if len(buffers) >= self._room or not 0 <= length <= self._bytes_left:
            self._refuse_descriptor(length)
        if not from_dev and buffers and buffers[-1][2]:
            refuse_order()
        if self._translate is not None:
            address = self._translate(address, length)
        if not 0 <= address <= TOP_OF_MEMORY - length:
            check_address(address, length)
        self._bytes_left -= length
        if from_dev:
            self._writable += length
        buffers.append((address, length, WRITE if from_dev else 0))

    def _table_room(self) -> int:
        """How many buffers an indirect request may have."""
        if not has_indirect(self.features) or not self._indirect_size:
            raise CallerError(
                f"an indirect request needs the feature RING_INDIRECT_DESC and a queue made with an "
                f"indirect_size; this one has {self._indirect_size} entries for each request and the "
                f"features {self.features!r}",
                argument="indirect",
                value=True,
                limit=False,
            )
        # The table's entries count like descriptors of the queue: a chain is never longer than that.
        return min(self._indirect_size, self._queue_size)

    def _table(self, request_id: int, buffers: BufferList) -> tuple[int, int, int]:
        """The one descriptor of a request whose buffers go into its table."""
        length = DESCRIPTOR_SIZE * len(buffers)
        start = self._address + self._layout.indirect_offset
        address = start + DESCRIPTOR_SIZE * self._indirect_size * request_id
        seen_at = self._device_address(address, length)
        check_address(seen_at, length)
        self.memory.write(address, self._ring.table_of(buffers))
        return seen_at, length, INDIRECT

    def _device_address(self, address: int, length: int) -> int:
        return address if self._translate is None else self._translate(address, length)

    def _refuse_request(self) -> NoReturn:
        self._ring.check_fault()
        if self._room:
            raise CallerError(
                "a request is being prepared: add the next one afterwards",
                argument="prepare",
                value="inside prepare",
                limit="one request at a time",
            )
        raise RingFull(
            f"all {self._queue_size} descriptors are taken, by {self.outstanding} requests: take completions "
            "first",
            needed=1,
            free=0,
        )

    def _refuse_descriptor(self, length: int) -> NoReturn:
        count = len(self._buffers)
        if not self._room:
            raise CallerError(
                "add_descriptor is for use inside prepare",
                argument="add_descriptor",
                value="outside prepare",
                limit="inside prepare",
            )
        if not 0 <= length <= self._bytes_left:
            raise CallerError(
                f"a buffer of {length} bytes behind {LARGEST_CHAIN_BYTES - self._bytes_left}: a request has "
                f"at most {LARGEST_CHAIN_BYTES} bytes",
                argument="length",
                value=length,
                limit=self._bytes_left,
            )
        if self._indirect or count >= self._queue_size:
            raise CallerError(
                f"a request of this queue never has more than {self._room} buffers: no chain is longer "
                f"than the queue ({self._queue_size}), nor than its table if it has one ({self._indirect_size})",
                argument="buffers",
                value=count + 1,
                limit=self._room,
            )
        raise RingFull(
            f"the request needs more than {count} descriptors, and {self._room} of {self._queue_size} were "
            "free",
            needed=count + 1,
            free=self._room,
        )

    def __repr__(self) -> str:
        kind = "packed" if is_packed(self.features) else "split"
        return f"<Virtqueue: {kind}, {self._queue_size} descriptors, {self.free} free>"


def check_alignment(address: int) -> None:
    if address % DESCRIPTOR_SIZE:
        raise CallerError(
            f"a queue's block starts at a multiple of {DESCRIPTOR_SIZE}, not at {address:#x}",
            argument="address",
            value=address,
            limit=DESCRIPTOR_SIZE,
        )


def request_places(memory: QueueMemory, first: int, size: int, count: int) -> list[RequestPlace]:
    """The places of all requests, `size` bytes apart, the first at the address `first`."""
    starts = (first + size * number for number in range(count))
    return [RequestPlace(memory.view(start, size), start, number) for number, start in enumerate(starts)]


def copied_views(
    memory: QueueMemory, places: Sequence[RequestPlace], request_size: int, size: int | None
) -> list[memoryview]:
    """What a completion brings a copy of, of each place."""
    if size is None:
        return [place.data for place in places]
    if not 0 <= size <= request_size:
        raise CallerError(
            f"a completion brings 0 to {request_size} bytes of the request's place, not {size}",
            argument="completion_size",
            value=size,
            limit=request_size,
        )
    return [memory.view(place.address, size) for place in places]


def driver_ring(
    memory: QueueMemory,
    areas: QueueAreas,
    copied: Sequence[memoryview],
    features: int,
    start: int | None,
) -> SplitDriverRing | PackedDriverRing:
    """The ring of the format that the features ask for."""
    kind = PackedDriverRing if is_packed(features) else SplitDriverRing
    position = first_position(features) if start is None else check_start(start, len(copied), features)
    return kind(memory, areas, copied, has_event_idx(features), position)


def check_address(address: int, length: int) -> None:
    """Raise CallerError for a buffer that does not end at 2**64 at the latest."""
    if not 0 <= address <= TOP_OF_MEMORY - length:
        raise CallerError(
            f"{length} bytes cannot lie at the address {address:#x}: addresses have 64 bits",
            argument="address",
            value=address,
            limit=TOP_OF_MEMORY - length,
        )


def refuse_order() -> NoReturn:
    raise CallerError(
        "a readable buffer comes before every one that the device writes",
        argument="from_dev",
        value=False,
        limit=True,
    )


def refuse_prepared(buffers: BufferList) -> NoReturn:
    if not buffers:
        raise CallerError(
            "prepare has added no buffer: a request has at least one descriptor",
            argument="prepare",
            value=0,
            limit=1,
        )
    raise CallerError(
        "prepare has taken completions: take them before or after, since they change which place is next",
        argument="prepare",
        value="completions",
        limit="no call of this queue",
    )
