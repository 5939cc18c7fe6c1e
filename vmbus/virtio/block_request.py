"""Virtio block: what a request to a disk looks like, for both of its sides.

A request is a chain: a header of 16 bytes, data, and one last byte for the device's verdict.

    header   readable   what to do, and the first sector
    data     readable   OUT: what to write; DISCARD, WRITE_ZEROES: segments of 16 bytes
             writable   IN: what was read; GET_ID: 20 bytes
             none       FLUSH
    status   writable   the chain's very last byte

How these parts lie in buffers is the driver's affair: the header may be cut in two, and header and
data may share a buffer.  All numbers are little-endian; a sector has 512 bytes, whatever the
disk's own blocks are.  The requests of zoned disks, of secure erase and of life time are named here
and not built.

Sources: OASIS VIRTIO 1.2, sections 5.2 and 2.7.4 (message framing); of zoned disks VIRTIO 1.3.
"""

from __future__ import annotations

import errno
from enum import IntFlag
from typing import NamedTuple

from construct import Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct

from vmbus.errors import PeerError
from vmbus.layout import EnumField, FixedCodec, OpenIntEnum

from .chains import DescriptorChain
from .cursors import ChainReader, ChainWriter
from .faults import VirtqueueFault

__all__ = [
    "BLOCK_CONFIG",
    "BLOCK_CONFIG_SCHEMA",
    "BLOCK_HEADER",
    "BLOCK_HEADER_SCHEMA",
    "BLOCK_ID_SIZE",
    "BLOCK_SEGMENT",
    "BLOCK_SEGMENT_SCHEMA",
    "SECTOR_SIZE",
    "BlockConfig",
    "BlockFeatures",
    "BlockHeader",
    "BlockRequest",
    "BlockRequestType",
    "BlockSegment",
    "BlockStatus",
    "SegmentFlags",
    "block_status_byte",
    "parse_block_config",
]

#: The unit of places and lengths on a disk.
SECTOR_SIZE = 512

#: Bytes of a disk's name: padded with zeros, and without one when the name is that long.
BLOCK_ID_SIZE = 20


class BlockRequestType(OpenIntEnum):
    """What a driver can ask for."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    GET_LIFETIME = 10
    DISCARD = 11
    WRITE_ZEROES = 13
    SECURE_ERASE = 14
    ZONE_APPEND = 15
    ZONE_REPORT = 16
    ZONE_OPEN = 18
    ZONE_CLOSE = 20
    ZONE_FINISH = 22
    ZONE_RESET = 24
    ZONE_RESET_ALL = 26


class BlockStatus(OpenIntEnum):
    """What a device says of a request.

    UNWRITTEN is no device's word: a driver puts it there first, so that a device which says nothing
    is not taken for one that says OK.
    """

    OK = 0
    IOERR = 1
    UNSUPP = 2
    ZONE_INVALID_CMD = 3
    ZONE_UNALIGNED_WP = 4
    ZONE_OPEN_RESOURCE = 5
    ZONE_ACTIVE_RESOURCE = 6
    UNWRITTEN = 0xFF

    @property
    def errno(self) -> int:
        """The system's number for it: 0, EIO, ENOTSUP, or EPROTO for what no device may say here.

        >>> BlockStatus.IOERR.errno == errno.EIO, BlockStatus(77).errno == errno.EPROTO
        (True, True)
        """
        return ERROR_NUMBERS.get(self, errno.EPROTO)


ERROR_NUMBERS: dict[int, int] = {
    BlockStatus.OK: 0,
    BlockStatus.IOERR: errno.EIO,
    BlockStatus.UNSUPP: errno.ENOTSUP,
}


class BlockFeatures(IntFlag):
    """The feature bits of a disk."""

    SIZE_MAX = 1 << 1
    SEG_MAX = 1 << 2
    GEOMETRY = 1 << 4
    RO = 1 << 5
    BLK_SIZE = 1 << 6
    FLUSH = 1 << 9
    TOPOLOGY = 1 << 10
    CONFIG_WCE = 1 << 11
    MQ = 1 << 12
    DISCARD = 1 << 13
    WRITE_ZEROES = 1 << 14
    LIFETIME = 1 << 15
    SECURE_ERASE = 1 << 16
    ZONED = 1 << 17


class SegmentFlags(IntFlag):
    """What else is wanted of a segment; only WRITE_ZEROES may say UNMAP."""

    UNMAP = 1


BLOCK_HEADER_SCHEMA = Struct(
    "type" / EnumField(Int32ul, BlockRequestType),  # le32 type
    "reserved" / Int32ul,  # le32 reserved: in legacy devices a priority
    "sector" / Int64ul,  # le64 sector: 0 unless data is read or written there
)

BLOCK_SEGMENT_SCHEMA = Struct(
    "sector" / Int64ul,  # le64 sector
    "sectors" / Int32ul,  # le32 num_sectors
    "flags" / EnumField(Int32ul, SegmentFlags),  # le32 flags
)

BLOCK_CONFIG_SCHEMA = Struct(
    "capacity" / Int64ul,  # le64 capacity: in sectors
    "size_max" / Int32ul,  # le32 size_max: bytes of one buffer
    "seg_max" / Int32ul,  # le32 seg_max: buffers of one request
    "cylinders" / Int16ul,  # le16 geometry.cylinders
    "heads" / Int8ul,  # u8 geometry.heads
    "sectors" / Int8ul,  # u8 geometry.sectors
    "blk_size" / Int32ul,  # le32 blk_size
    "physical_block_exp" / Int8ul,  # u8 topology.physical_block_exp
    "alignment_offset" / Int8ul,  # u8 topology.alignment_offset
    "min_io_size" / Int16ul,  # le16 topology.min_io_size
    "opt_io_size" / Int32ul,  # le32 topology.opt_io_size
    "writeback" / Int8ul,  # u8 writeback: 0 writes through, 1 holds back until a flush
    Padding(1),  # u8 unused0
    "num_queues" / Int16ul,  # le16 num_queues
    "max_discard_sectors" / Int32ul,  # le32 max_discard_sectors: of one segment
    "max_discard_seg" / Int32ul,  # le32 max_discard_seg: segments of one request
    "discard_sector_alignment" / Int32ul,  # le32 discard_sector_alignment
    "max_write_zeroes_sectors" / Int32ul,  # le32 max_write_zeroes_sectors
    "max_write_zeroes_seg" / Int32ul,  # le32 max_write_zeroes_seg
    "write_zeroes_may_unmap" / Int8ul,  # u8 write_zeroes_may_unmap
    Padding(3),  # u8 unused1[3]
    "max_secure_erase_sectors" / Int32ul,  # le32 max_secure_erase_sectors
    "max_secure_erase_seg" / Int32ul,  # le32 max_secure_erase_seg
    "secure_erase_sector_alignment" / Int32ul,  # le32 secure_erase_sector_alignment
    "zone_sectors" / Int32ul,  # le32 zoned.zone_sectors
    "max_open_zones" / Int32ul,  # le32 zoned.max_open_zones
    "max_active_zones" / Int32ul,  # le32 zoned.max_active_zones
    "max_append_sectors" / Int32ul,  # le32 zoned.max_append_sectors
    "write_granularity" / Int32ul,  # le32 zoned.write_granularity
    "model" / Int8ul,  # u8 zoned.model: 0 none, 1 host-managed, 2 host-aware
    Padding(3),  # u8 zoned.unused2[3]
)


class BlockHeader(NamedTuple):
    """What is wanted, and where; `reserved` is 0."""

    type: int
    reserved: int
    sector: int


class BlockSegment(NamedTuple):
    """A run of sectors to discard or to fill with zeros."""

    sector: int
    sectors: int
    flags: int


class BlockConfig(NamedTuple):
    """A disk's configuration: its size, what it likes, and what it can take at once.

    Each field but `capacity` has a meaning only with the feature that it belongs to.
    """

    capacity: int = 0
    size_max: int = 0
    seg_max: int = 0
    cylinders: int = 0
    heads: int = 0
    sectors: int = 0
    blk_size: int = 0
    physical_block_exp: int = 0
    alignment_offset: int = 0
    min_io_size: int = 0
    opt_io_size: int = 0
    writeback: int = 0
    num_queues: int = 0
    max_discard_sectors: int = 0
    max_discard_seg: int = 0
    discard_sector_alignment: int = 0
    max_write_zeroes_sectors: int = 0
    max_write_zeroes_seg: int = 0
    write_zeroes_may_unmap: int = 0
    max_secure_erase_sectors: int = 0
    max_secure_erase_seg: int = 0
    secure_erase_sector_alignment: int = 0
    zone_sectors: int = 0
    max_open_zones: int = 0
    max_active_zones: int = 0
    max_append_sectors: int = 0
    write_granularity: int = 0
    model: int = 0


BLOCK_HEADER = FixedCodec(BLOCK_HEADER_SCHEMA, BlockHeader)
BLOCK_SEGMENT = FixedCodec(BLOCK_SEGMENT_SCHEMA, BlockSegment)
BLOCK_CONFIG = FixedCodec(BLOCK_CONFIG_SCHEMA, BlockConfig)


def parse_block_config(data: bytes) -> BlockConfig:
    """A device's configuration; what an older device's shorter one leaves out is 0.

    >>> parse_block_config(bytes([0, 8])).capacity
    2048
    """
    return BLOCK_CONFIG.unpack(data.ljust(BLOCK_CONFIG.size, b"\0"))


class BlockRequest(NamedTuple):
    """A chain, taken for a request to a disk.

    type     what is wanted
    sector   where on the disk
    data     the readable bytes behind the header
    room     the writable bytes before the status
    """

    type: BlockRequestType
    sector: int
    data: ChainReader
    room: ChainWriter

    @classmethod
    def parse(cls, chain: DescriptorChain) -> BlockRequest:
        """The request that a chain holds: any type, with any amount of data on either side.

        Raises PeerError when it is too short for a header and a status, or a buffer is not in memory.
        """
        data = chain.reader()
        header = BLOCK_HEADER.unpack(data.read_exact(BLOCK_HEADER.size))
        room = chain.writer()
        if not room.available_bytes:
            raise no_status(chain)
        room.split_at(room.available_bytes - 1)
        return cls(BlockRequestType(header.type), header.sector, data, room)


def block_status_byte(chain: DescriptorChain) -> ChainWriter:
    """Room for the status: the last writable byte, also where the rest of the chain makes no sense.

    Raises PeerError when there is none, or it is not in memory.
    """
    for descriptor in reversed(chain.writable):
        if descriptor.length:
            last = descriptor._replace(address=descriptor.address + descriptor.length - 1, length=1)
            return ChainWriter(chain.memory, [last])
    raise no_status(chain)


def no_status(chain: DescriptorChain) -> PeerError:
    return PeerError(
        f"the chain from {chain.head_index} has no writable byte: a disk has nowhere to put its status",
        kind=VirtqueueFault.CHAIN_TOO_SHORT,
        found=0,
        allowed=1,
    )
