"""Virtio block, the driver's side: reads and writes of a disk as requests in a Virtqueue.

Each request has a place in the queue's own block for what is small: header, segment and status.
The data stays where the caller has it, and the queue only names it.

Sources: OASIS VIRTIO 1.2, section 5.2.6; the virtio-driver crate, VirtioBlkQueue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from vmbus.errors import CallerError

from .block_request import (
    BLOCK_HEADER,
    BLOCK_ID_SIZE,
    BLOCK_SEGMENT,
    SECTOR_SIZE,
    BlockHeader,
    BlockRequestType,
    BlockSegment,
    BlockStatus,
    SegmentFlags,
)
from .queue import Virtqueue
from .requests import AddDescriptor, RequestPlace, VirtqueueCompletion

__all__ = ["BLOCK_PLACE_SIZE", "BlockCompletion", "BlockDriver"]

# Where the parts lie in a request's place.
SEGMENT_OFFSET = BLOCK_HEADER.size
STATUS_OFFSET = SEGMENT_OFFSET + BLOCK_SEGMENT.size

#: Bytes of a request's place: the least `request_size` of the queue.
BLOCK_PLACE_SIZE = STATUS_OFFSET + 1

# In bytes, what a sector of 64 bits, the length of a chain, and a segment can say.
LARGEST_OFFSET = SECTOR_SIZE * (2**64 - 1)
LARGEST_TRANSFER = 2**32 - SECTOR_SIZE
LARGEST_SEGMENT_BYTES = SECTOR_SIZE * (2**32 - 1)


class BlockCompletion(NamedTuple):
    """A request that the device is done with.

    context   what the caller gave with it
    status    the device's verdict: only OK is success
    length    bytes that the device says it wrote, the status included: devices differ in what
              they count, so it is a hint
    """

    context: Any
    status: BlockStatus
    length: int


class BlockDriver:
    """Requests to one disk, over one queue.

    queue      a Virtqueue whose request_size is at least BLOCK_PLACE_SIZE
    indirect   let each request take one descriptor of the queue, as for Virtqueue.add_request

    Every request takes a context, any object, which comes back with its completion, and returns its
    id.  Offsets and lengths are in bytes and multiples of 512; a buffer is (address, length) in the
    memory of the queue, by the driver's own addresses, and belongs to the device until the
    completion.  The buffers of a request may be cut anywhere: only their sum is a multiple of 512.

    Nothing here waits or notifies: afterwards `queue.avail_notif_needed` says whether the device
    must be notified.  Nor is anything checked against the disk's size or features: a device says
    IOERR or UNSUPP.

    A request raises CallerError for an offset, length or address that cannot be, and RingFull when
    the queue has no room for it now; nothing is then added.

    >>> from vmbus.memory import GuestMemory
    >>> memory = GuestMemory.from_ranges([(0, 65536)])
    >>> driver = BlockDriver(Virtqueue(memory, 8, request_size=BLOCK_PLACE_SIZE))
    >>> driver.read(4096, 0x8000, 512, context="boot sector"), driver.flush()
    (0, 3)
    >>> driver.queue.avail_notif_needed(), list(driver.completions())
    (True, [])
    """

    def __init__(self, queue: Virtqueue, *, indirect: bool = False) -> None:
        check_places(queue)
        self.queue = queue
        self._indirect = indirect
        self._contexts: dict[int, Any] = {}
        self._finished: VirtqueueCompletion | None = None  # what an interrupt kept from being told

    @property
    def outstanding(self) -> list[Any]:
        """The contexts of the requests that the device has, the oldest first."""
        return list(self._contexts.values())

    def read(self, offset: int, address: int, length: int, context: Any = None) -> int:
        """Read `length` bytes of the disk, from `offset` on, into one buffer."""
        return self.readv(offset, [(address, length)], context)

    def readv(self, offset: int, buffers: Iterable[tuple[int, int]], context: Any = None) -> int:
        """Read as much as some buffers hold, into one after the other."""
        return self._transfer(BlockRequestType.IN, offset, list(buffers), context)

    def write(self, offset: int, address: int, length: int, context: Any = None) -> int:
        """Write one buffer of `length` bytes to the disk, from `offset` on."""
        return self.writev(offset, [(address, length)], context)

    def writev(self, offset: int, buffers: Iterable[tuple[int, int]], context: Any = None) -> int:
        """Write some buffers, one after the other."""
        return self._transfer(BlockRequestType.OUT, offset, list(buffers), context)

    def flush(self, context: Any = None) -> int:
        """Have everything whose completion has come made durable."""
        return self._add(BlockRequestType.FLUSH, context)

    def discard(self, offset: int, length: int, context: Any = None) -> int:
        """Say that these bytes of the disk are not needed; what they hold afterwards is not known."""
        return self._add(BlockRequestType.DISCARD, context, segment=segment_of(offset, length, 0))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False, context: Any = None) -> int:
        """Fill these bytes of the disk with zeros; with `unmap` the disk may give up the space."""
        segment = segment_of(offset, length, SegmentFlags.UNMAP if unmap else 0)
        return self._add(BlockRequestType.WRITE_ZEROES, context, segment=segment)

    def get_id(self, address: int, context: Any = None) -> int:
        """Read the disk's name into 20 bytes at `address`; a shorter name is padded with zeros."""
        return self._add(BlockRequestType.GET_ID, context, buffers=[(address, BLOCK_ID_SIZE)], from_dev=True)

    def completions(self) -> Iterator[BlockCompletion]:
        """The requests that the device is done with, until there are no more, in its order.

        Raises PeerError when the device says what cannot be; `outstanding` then tells which
        requests will never be completed.
        """
        finished = chain(self._left_over(), self.queue.completions())
        for self._finished in finished:
            request_id, place, length = self._finished
            context = self._contexts.get(request_id)
            done = BlockCompletion(context, BlockStatus(place[STATUS_OFFSET]), length)
            # No interrupt comes between these lines, which call nothing: a completion is not lost.
            if request_id in self._contexts:
                del self._contexts[request_id]
            self._finished = None
            yield done

    def _left_over(self) -> Iterator[VirtqueueCompletion]:
        if self._finished is not None:
            yield self._finished

    def _transfer(
        self, kind: BlockRequestType, offset: int, buffers: list[tuple[int, int]], context: Any
    ) -> int:
        check_sectors("offset", offset, 0, LARGEST_OFFSET)
        check_sectors("length", sum(length for _, length in buffers), SECTOR_SIZE, LARGEST_TRANSFER)
        from_dev = kind == BlockRequestType.IN
        return self._add(kind, context, sector=offset // SECTOR_SIZE, buffers=buffers, from_dev=from_dev)

    def _add(
        self,
        kind: BlockRequestType,
        context: Any,
        *,
        sector: int = 0,
        segment: bytes = b"",
        buffers: Iterable[tuple[int, int]] = (),
        from_dev: bool = False,
    ) -> int:
        for address, length in buffers:
            self.queue.memory.check_range(address, length)

        def prepare(place: RequestPlace, add_descriptor: AddDescriptor) -> None:
            data, start, request_id = place
            data[:SEGMENT_OFFSET] = BLOCK_HEADER.pack(BlockHeader(kind, 0, sector))
            add_descriptor(start, SEGMENT_OFFSET)
            if segment:
                data[SEGMENT_OFFSET:STATUS_OFFSET] = segment
                add_descriptor(start + SEGMENT_OFFSET, len(segment))
            for address, length in buffers:
                add_descriptor(address, length, from_dev)
            data[STATUS_OFFSET] = BlockStatus.UNWRITTEN
            add_descriptor(start + STATUS_OFFSET, 1, from_dev=True)
            self._contexts[request_id] = context

        return self.queue.add_request(prepare, indirect=self._indirect)

    def __repr__(self) -> str:
        return f"<BlockDriver: {len(self._contexts)} requests outstanding, over {self.queue!r}>"


def segment_of(offset: int, length: int, flags: int) -> bytes:
    """The one segment of a request that names a run of the disk."""
    check_sectors("offset", offset, 0, LARGEST_OFFSET)
    check_sectors("length", length, SECTOR_SIZE, LARGEST_SEGMENT_BYTES)
    return BLOCK_SEGMENT.pack(BlockSegment(offset // SECTOR_SIZE, length // SECTOR_SIZE, flags))


def check_sectors(name: str, value: int, least: int, most: int) -> None:
    """Raise CallerError when a number of bytes is not one of sectors, or out of bounds."""
    if value % SECTOR_SIZE or not least <= value <= most:
        raise CallerError(
            f"the {name} on a disk is a multiple of {SECTOR_SIZE} from {least} to {most}, not {value}",
            argument=name,
            value=value,
            limit=SECTOR_SIZE if value % SECTOR_SIZE else most,
        )


def check_places(queue: Virtqueue) -> None:
    if queue.request_size < BLOCK_PLACE_SIZE:
        raise CallerError(
            f"each request to a disk needs {BLOCK_PLACE_SIZE} bytes of its own; this queue was made with a "
            f"request_size of {queue.request_size}",
            argument="queue",
            value=queue.request_size,
            limit=BLOCK_PLACE_SIZE,
        )
