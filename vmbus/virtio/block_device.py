"""Virtio block, the device's side: a file that is a disk to whoever drives the queue.

What a driver may ask for is a table: which feature it needs, and on which side its data is.

What a driver says is never trusted: a request that makes no sense gets IOERR, one that is not known
or was not negotiated UNSUPP.  A chain without a byte for the status, or with that byte outside the
memory, is given back with a length of 0, and nothing is done: its driver hurts itself alone.

The work for one request is bounded: no more than the chain's own bytes are read or written, 64 KiB
at a time, and of zeros at most 16 segments of 32 MiB, as the configuration says.

Nothing here waits or notifies, but the file may take its time.

Sources: OASIS VIRTIO 1.2, section 5.2; rust-vmm virtio-blk, StdIoBackend, from which these differ:
a read-only disk refuses only what would change it, and says UNSUPP to what is not built before
anything else; a segment may be cut over buffers; data on the wrong side is an IOERR.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, NamedTuple

from vmbus.errors import CallerError, DeviceError, PeerError

from .block_request import (
    BLOCK_ID_SIZE,
    BLOCK_SEGMENT,
    SECTOR_SIZE,
    BlockConfig,
    BlockFeatures,
    BlockRequest,
    BlockRequestType,
    BlockSegment,
    BlockStatus,
    SegmentFlags,
    block_status_byte,
)
from .chains import DescriptorChain
from .device_queue import DeviceQueue

__all__ = ["LARGEST_SEGMENT_SECTORS", "MOST_SEGMENTS", "BlockDevice"]

#: Bytes that are moved at a time.
PIECE = 65536

#: Segments of one request, and sectors of one segment.
MOST_SEGMENTS = 16
LARGEST_SEGMENT_SECTORS = 65536

ZEROS = bytes(PIECE)


class Rule(NamedTuple):
    """What must be so for one type of request.

    feature    what must have been negotiated; 0 for none
    changes    whether it may change the disk
    readable   whether it comes with data
    writable   whether it has room for data
    """

    feature: int
    changes: bool
    readable: bool
    writable: bool


RULES: dict[int, Rule] = {
    BlockRequestType.IN: Rule(0, changes=False, readable=False, writable=True),
    BlockRequestType.OUT: Rule(0, changes=True, readable=True, writable=False),
    BlockRequestType.FLUSH: Rule(BlockFeatures.FLUSH, changes=False, readable=False, writable=False),
    BlockRequestType.GET_ID: Rule(0, changes=False, readable=False, writable=True),
    BlockRequestType.DISCARD: Rule(BlockFeatures.DISCARD, changes=True, readable=True, writable=False),
    BlockRequestType.WRITE_ZEROES: Rule(
        BlockFeatures.WRITE_ZEROES, changes=True, readable=True, writable=False
    ),
}


class BlockDevice:
    """One queue of a disk, served from a file.

    queue       a DeviceQueue
    disk        a binary file that can seek, or the descriptor of one; it stays the caller's own
    features    those of BlockFeatures that were negotiated: FLUSH, DISCARD, WRITE_ZEROES, and RO,
                with which nothing changes the disk; others change nothing here
    device_id   the disk's name for GET_ID, at most 20 bytes; None: it has none

    The disk is as large as the file is now, without what is left of a sector at the end.  DISCARD is
    checked, and then nothing is done: a disk may ignore it.  Without FLUSH every write is durable
    before its completion.

    Raises CallerError for a name that is too long, DeviceError for a file without a size.

    >>> from vmbus.memory import GuestMemory
    >>> from vmbus.virtio import BlockDriver, connected_virtqueues
    >>> memory = GuestMemory.from_ranges([(0, 65536)])
    >>> driver_end, device_end = connected_virtqueues(8, memory=memory)
    >>> driver, device = BlockDriver(driver_end), BlockDevice(device_end, io.BytesIO(bytes(4096)))

    A sector goes to the disk and comes back; between two processes the device would be woken in between:

    >>> memory.write(0x8000, b"sector five".ljust(512, b"."))
    >>> request_id = driver.write(5 * 512, 0x8000, 512, context="write")
    >>> driver_end.avail_notif_needed(), device.process_all()
    (True, 1)
    >>> request_id = driver.read(5 * 512, 0xA000, 512, context="read")
    >>> device.process_all(), device_end.needs_notification()
    (1, True)
    >>> [(context, status.label) for context, status, length in driver.completions()]
    [('write', 'ok'), ('read', 'ok')]
    >>> memory.read(0xA000, 16)
    b'sector five.....'
    """

    def __init__(
        self,
        queue: DeviceQueue,
        disk: BinaryIO | int,
        features: int = BlockFeatures.FLUSH | BlockFeatures.DISCARD | BlockFeatures.WRITE_ZEROES,
        *,
        device_id: bytes | None = None,
    ) -> None:
        if device_id is not None and len(device_id) > BLOCK_ID_SIZE:
            raise CallerError(
                f"a disk's name has at most {BLOCK_ID_SIZE} bytes, not {len(device_id)}",
                argument="device_id",
                value=device_id,
                limit=BLOCK_ID_SIZE,
            )
        self.queue = queue
        self.features = BlockFeatures(features)
        self._device_id = device_id
        try:
            self._file = as_file(disk)
            self._capacity = self._file.seek(0, io.SEEK_END) // SECTOR_SIZE
        except OSError as error:
            raise DeviceError(error.errno, f"no disk in {disk!r}: {error.strerror or error}") from error

    @property
    def capacity(self) -> int:
        """Sectors of the disk."""
        return self._capacity

    @property
    def config(self) -> BlockConfig:
        """The configuration that a transport shows to the driver."""
        return BlockConfig(
            capacity=self._capacity,
            max_discard_sectors=LARGEST_SEGMENT_SECTORS,
            max_discard_seg=MOST_SEGMENTS,
            discard_sector_alignment=1,
            max_write_zeroes_sectors=LARGEST_SEGMENT_SECTORS,
            max_write_zeroes_seg=MOST_SEGMENTS,
        )

    def process_all(self, most: int | None = None) -> int:
        """Serve what is available, at most as many requests as the queue has descriptors; how many.

        most   serve no more than that: a request of a hostile driver can move 4 GiB

        Afterwards `queue.needs_notification` says whether the driver must be notified; so it does
        when this raises PeerError, for a chain that must not be.  A request in which anything else is
        raised (by the file, or by a signal handler) stays available, and is served from its start the
        next time.  Before going to sleep `queue.enable_notification` asks to be told of the next one.
        """
        count = 0
        for chain in islice(self.queue, most):
            try:
                self.process(chain)
            except BaseException:
                with suppress(CallerError):  # it was given back already
                    self.queue.go_to_previous_position()
                raise
            count += 1
        return count

    def process(self, chain: DescriptorChain) -> BlockStatus | None:
        """Do what a chain of the queue asks for, and give it back; chains may come in any order.

        Returns what the driver was told; None when there was no room for that.
        """
        try:
            status_byte = block_status_byte(chain)
        except PeerError:
            self.queue.add_used(chain.head_index, 0)
            return None
        status, written = self._attempt(chain)
        status_byte.write(bytes([status]))
        self.queue.add_used(chain.head_index, written + 1)
        return status

    def _attempt(self, chain: DescriptorChain) -> tuple[BlockStatus, int]:
        """The status of a request, and how many bytes of data it has brought."""
        try:
            request = BlockRequest.parse(chain)
        except PeerError:
            return BlockStatus.IOERR, 0
        try:
            status = self._refusal(request) or self._execute(request)
        except OSError:
            status = BlockStatus.IOERR
        return status, request.room.bytes_written

    def _refusal(self, request: BlockRequest) -> BlockStatus | None:
        """Why a request is not even tried."""
        rule = RULES.get(request.type)
        if rule is None or rule.feature & ~int(self.features):
            return BlockStatus.UNSUPP
        if rule.changes and self.features & BlockFeatures.RO:
            return BlockStatus.IOERR
        if request.data.available_bytes and not rule.readable:
            return BlockStatus.IOERR
        if request.room.available_bytes and not rule.writable:
            return BlockStatus.IOERR
        return None

    def _execute(self, request: BlockRequest) -> BlockStatus:
        if request.type == BlockRequestType.IN:
            return self._read(request)
        if request.type == BlockRequestType.OUT:
            return self._write(request)
        if request.type == BlockRequestType.FLUSH:
            return self._flush(request)
        if request.type == BlockRequestType.GET_ID:
            return self._get_id(request)
        return self._segments(request)

    def _read(self, request: BlockRequest) -> BlockStatus:
        room = request.room
        if not self._seek(request.sector, room.available_bytes):
            return BlockStatus.IOERR
        while left := room.available_bytes:
            piece = self._file.read(min(left, PIECE))
            if not piece:  # the file has become shorter
                return BlockStatus.IOERR
            room.write(piece)
        return BlockStatus.OK

    def _write(self, request: BlockRequest) -> BlockStatus:
        if not self._seek(request.sector, request.data.available_bytes):
            return BlockStatus.IOERR
        while piece := request.data.read(PIECE):
            write_whole(self._file, piece)
        return self._written()

    def _flush(self, request: BlockRequest) -> BlockStatus:
        if request.sector:
            return BlockStatus.IOERR
        make_durable(self._file)
        return BlockStatus.OK

    def _get_id(self, request: BlockRequest) -> BlockStatus:
        if self._device_id is None:
            return BlockStatus.UNSUPP
        if request.room.available_bytes != BLOCK_ID_SIZE:
            return BlockStatus.IOERR
        request.room.write(self._device_id.ljust(BLOCK_ID_SIZE, b"\0"))
        return BlockStatus.OK

    def _segments(self, request: BlockRequest) -> BlockStatus:
        """Discard, or fill with zeros, one segment after the other; the first failure is the last."""
        count, rest = divmod(request.data.available_bytes, BLOCK_SEGMENT.size)
        if rest or not 0 < count <= MOST_SEGMENTS:
            return BlockStatus.IOERR
        zeroes = request.type == BlockRequestType.WRITE_ZEROES
        allowed = int(SegmentFlags.UNMAP) if zeroes else 0  # inverted, an IntFlag loses unknown bits
        for _ in range(count):
            segment = BLOCK_SEGMENT.unpack(request.data.read_exact(BLOCK_SEGMENT.size))
            if segment.flags & ~allowed:
                return BlockStatus.UNSUPP
            if not self._clear(segment, zeroes):
                return BlockStatus.IOERR
        return self._written() if zeroes else BlockStatus.OK

    def _clear(self, segment: BlockSegment, zeroes: bool) -> bool:
        left = segment.sectors * SECTOR_SIZE
        if segment.sectors > LARGEST_SEGMENT_SECTORS or not self._seek(segment.sector, left):
            return False
        while zeroes and left:
            write_whole(self._file, ZEROS[:left])
            left -= min(left, PIECE)
        return True

    def _seek(self, sector: int, length: int) -> bool:
        """Go to a sector; whether `length` bytes from there on are whole sectors of the disk."""
        if length % SECTOR_SIZE or sector + length // SECTOR_SIZE > self._capacity:
            return False
        self._file.seek(sector * SECTOR_SIZE)
        return True

    def _written(self) -> BlockStatus:
        """The end of a write: whoever cannot flush must not have to."""
        if not self.features & BlockFeatures.FLUSH:
            make_durable(self._file)
        return BlockStatus.OK

    def __repr__(self) -> str:
        return f"<BlockDevice: {self._capacity} sectors, {self.features!r}, over {self.queue!r}>"


def as_file(disk: BinaryIO | int) -> BinaryIO:
    """A file, or an unbuffered one over a descriptor, which it does not close."""
    return open(disk, "r+b", buffering=0, closefd=False) if isinstance(disk, int) else disk


def write_whole(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`, also where the file takes it in bites; OSError when it takes nothing."""
    rest = memoryview(data)
    while rest:
        count = file.write(rest)
        if not count:
            raise OSError(errno.EIO, "the file takes no more")
        rest = rest[count:]


def make_durable(file: BinaryIO) -> None:
    """Have what was written stay when the machine stops, as far as the file is one of the system's."""
    file.flush()
    try:
        descriptor = file.fileno()
    except OSError:  # a file in memory
        return
    os.fsync(descriptor)
