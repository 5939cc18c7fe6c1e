"""What a request to a disk looks like in memory, and how a chain is taken for one.

Golden bytes are written out by hand from OASIS VIRTIO 1.2, section 5.2.6; the rows of what is refused
follow the checks of rust-vmm virtio-blk, Request::parse.
"""

from __future__ import annotations

import errno
import struct

import pytest

from tests.known_bugs import known_bug
from tests.virtio.by_hand import FORMATS, INDIRECT_DESC, MEMORY_SIZE, NEXT, TABLES, WRITE, device_by_hand
from vmbus.errors import PeerError
from vmbus.virtio import (
    BLOCK_CONFIG,
    BLOCK_CONFIG_SCHEMA,
    BLOCK_HEADER,
    BLOCK_HEADER_SCHEMA,
    BLOCK_SEGMENT,
    BLOCK_SEGMENT_SCHEMA,
    BlockConfig,
    BlockHeader,
    BlockRequest,
    BlockRequestType,
    BlockSegment,
    BlockStatus,
    ChainWriter,
    DescriptorChain,
    SegmentFlags,
    Tolerance,
    VirtqueueFault,
    block_status_byte,
    parse_block_config,
)

HEADER = 0x4000
DATA = 0x5000
STATUS = 0x6000

READ_SECTOR_8 = bytes.fromhex("00000000 00000000 0800000000000000")
WRITE_SECTOR_8 = bytes.fromhex("01000000 00000000 0800000000000000")


@pytest.fixture(params=FORMATS, ids=["split", "packed"])
def sides(request):
    """A driver written by hand, and a device's queue."""
    return device_by_hand(request.param)


def popped(sides, *buffers) -> DescriptorChain:
    """The chain that the device finds when the driver offers these buffers."""
    driver, device = sides
    driver.offer(*buffers)
    return device.pop_descriptor_chain()


def put_header(sides, kind, sector=0, address=HEADER) -> None:
    sides[0].memory.write(address, struct.pack("<IIQ", kind, 0, sector))


def shape(request: BlockRequest) -> tuple[int, int, int, int]:
    """A request in numbers: type, sector, bytes of data, and of room."""
    return request.type, request.sector, request.data.available_bytes, request.room.available_bytes


# -- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "schema", "record", "golden"),
    [
        (BLOCK_HEADER, BLOCK_HEADER_SCHEMA, BlockHeader(BlockRequestType.IN, 0, 8), READ_SECTOR_8),
        (BLOCK_HEADER, BLOCK_HEADER_SCHEMA, BlockHeader(BlockRequestType.OUT, 0, 8), WRITE_SECTOR_8),
        (
            BLOCK_SEGMENT,
            BLOCK_SEGMENT_SCHEMA,
            BlockSegment(8, 16, SegmentFlags.UNMAP),
            bytes.fromhex("0800000000000000 10000000 01000000"),
        ),
    ],
    ids=["read of sector 8", "write of sector 8", "segment of 16 sectors from 8 on, unmapped"],
)
def test_header_and_segment_have_these_bytes(codec, schema, record, golden):
    assert codec.pack(record) == golden == schema.build(record._asdict())
    assert codec.unpack(golden) == record
    parsed = schema.parse(golden)
    assert tuple(parsed[name] for name in record._fields) == record


#: Offsets as they are printed in the structure virtio_blk_config of the standard.
CONFIG_OFFSETS = {
    "capacity": 0,
    "size_max": 8,
    "seg_max": 12,
    "cylinders": 16,
    "heads": 18,
    "sectors": 19,
    "blk_size": 20,
    "physical_block_exp": 24,
    "alignment_offset": 25,
    "min_io_size": 26,
    "opt_io_size": 28,
    "writeback": 32,
    "num_queues": 34,
    "max_discard_sectors": 36,
    "max_discard_seg": 40,
    "discard_sector_alignment": 44,
    "max_write_zeroes_sectors": 48,
    "max_write_zeroes_seg": 52,
    "write_zeroes_may_unmap": 56,
    "max_secure_erase_sectors": 60,
    "max_secure_erase_seg": 64,
    "secure_erase_sector_alignment": 68,
    "zone_sectors": 72,
    "max_open_zones": 76,
    "max_active_zones": 80,
    "max_append_sectors": 84,
    "write_granularity": 88,
    "model": 92,
}


def test_the_configuration_has_96_bytes_and_each_field_its_place():
    assert BLOCK_CONFIG.size == BLOCK_CONFIG_SCHEMA.sizeof() == 96
    assert BLOCK_CONFIG.offsets == CONFIG_OFFSETS


def test_an_older_devices_configuration_of_60_bytes_lacks_what_came_later():
    whole = BlockConfig(*range(1, len(BlockConfig._fields) + 1))
    cut = parse_block_config(BLOCK_CONFIG.pack(whole)[:60])
    assert cut[:19] == whole[:19]
    assert set(cut[19:]) == {0}


@pytest.mark.parametrize(
    ("status", "number"),
    [(0, 0), (1, errno.EIO), (2, errno.ENOTSUP), (3, errno.EPROTO), (7, errno.EPROTO), (0xFF, errno.EPROTO)],
)
def test_a_status_is_success_or_refusal_or_no_word_of_the_protocol(status, number):
    assert BlockStatus(status).errno == number


def test_a_type_and_a_status_that_have_no_name_keep_their_number():
    assert BlockRequestType(0x80000000).label == "unknown-2147483648"
    assert BlockStatus(9).label == "unknown-9"


# -- what a chain is taken for -----------------------------------------------------------------


def test_a_read_is_its_room_and_a_write_its_data(sides):
    put_header(sides, 0, sector=8)
    chain = popped(sides, (HEADER, 16, 0), (DATA, 1024, WRITE), (STATUS, 1, WRITE))
    assert shape(BlockRequest.parse(chain)) == (BlockRequestType.IN, 8, 0, 1024)
    put_header(sides, 1, sector=8)
    chain = popped(sides, (HEADER, 16, 0), (DATA, 1024, 0), (STATUS, 1, WRITE))
    assert shape(BlockRequest.parse(chain)) == (BlockRequestType.OUT, 8, 1024, 0)


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_header_may_be_cut_anywhere(sides, cut):
    memory = sides[0].memory
    memory.write(HEADER, WRITE_SECTOR_8[:cut])
    memory.write(DATA, WRITE_SECTOR_8[cut:] + b"data")
    chain = popped(sides, (HEADER, cut, 0), (DATA, 16 - cut, 0), (STATUS, 1, WRITE))
    assert shape(BlockRequest.parse(chain)) == (BlockRequestType.OUT, 8, 0, 0)


def test_header_and_data_may_share_a_buffer(sides):
    sides[0].memory.write(HEADER, WRITE_SECTOR_8 + b"data")
    request = BlockRequest.parse(popped(sides, (HEADER, 20, 0), (STATUS, 1, WRITE)))
    assert shape(request) == (BlockRequestType.OUT, 8, 4, 0)
    assert request.data.read() == b"data"


@pytest.mark.parametrize(
    ("lengths", "last"),
    [([513], 0x5200), ([512, 1], 0x6000), ([100, 413], 0x619C), ([1, 512], 0x61FF), ([513, 0], 0x5200)],
    ids=str,
)
def test_the_status_is_the_last_writable_byte_however_the_room_is_cut(sides, lengths, last):
    put_header(sides, 0)
    places = zip((DATA, STATUS), lengths, strict=False)
    chain = popped(sides, (HEADER, 16, 0), *((address, length, WRITE) for address, length in places))
    request = BlockRequest.parse(chain)
    assert request.room.available_bytes == 512
    block_status_byte(chain).write(b"\x07")
    assert sides[0].memory.read(last, 1) == b"\x07"
    request.room.write_all(b"\x05" * 512)
    assert sides[0].memory.read(last, 1) == b"\x07", "the room does not reach into the status"


def test_the_buffers_of_an_indirect_table_are_a_request_like_any(sides):
    driver, device = sides
    device.set_ready(False)
    device.features |= INDIRECT_DESC
    device.set_ready(True)
    put_header(sides, 0, sector=3)
    entries = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (STATUS, 1, WRITE, 0)]
    driver.offer_table(TABLES, driver.table(TABLES, *entries))
    request = BlockRequest.parse(device.pop_descriptor_chain())
    assert shape(request) == (BlockRequestType.IN, 3, 0, 512)


def test_a_request_may_have_more_data_than_its_type_makes_sense_of(sides):
    """Two runs that the device may write, under a type that only reads: 0x300 bytes in all."""
    put_header(sides, 1, sector=2)
    chain = popped(
        sides, (HEADER, 16, 0), (DATA, 0x100, WRITE), (DATA + 0x400, 0x200, WRITE), (STATUS, 1, WRITE)
    )
    assert shape(BlockRequest.parse(chain)) == (BlockRequestType.OUT, 2, 0, 0x300)


@pytest.mark.parametrize("kind", [2, 3, 5, 8, 9, 16, 0x80000000, 0xFFFFFFFF])
def test_a_type_that_nobody_knows_is_still_a_request(sides, kind):
    put_header(sides, kind, sector=5)
    chain = popped(sides, (HEADER, 16, 0), (DATA, 30, WRITE), (STATUS, 1, WRITE))
    assert shape(BlockRequest.parse(chain)) == (kind, 5, 0, 30)


def test_a_flush_is_header_and_status_and_its_sector_is_seen(sides):
    for sector in (0, 1):
        put_header(sides, 4, sector=sector)
        chain = popped(sides, (HEADER, 16, 0), (STATUS, 1, WRITE))
        assert shape(BlockRequest.parse(chain)) == (BlockRequestType.FLUSH, sector, 0, 0)


def test_a_tolerated_readable_buffer_behind_a_writable_one_is_data_like_any():
    sides = device_by_hand(tolerated=Tolerance.READABLE_AFTER_WRITABLE)
    put_header(sides, 1)
    chain = popped(sides, (HEADER, 16, 0), (STATUS, 1, WRITE), (DATA, 512, 0))
    assert shape(BlockRequest.parse(chain)) == (BlockRequestType.OUT, 0, 512, 0)


# -- what is no request ------------------------------------------------------------------------

TOO_SHORT = VirtqueueFault.CHAIN_TOO_SHORT
OUTSIDE = VirtqueueFault.BUFFER_OUTSIDE_MEMORY

#: Buffers, why the chain is no request, and why there is no place for a status (None: there is).
REFUSED = {
    "a header alone": ([(HEADER, 16, 0)], TOO_SHORT, TOO_SHORT),
    "a status alone": ([(STATUS, 1, WRITE)], TOO_SHORT, None),
    "nothing but empty buffers": ([(HEADER, 0, 0), (STATUS, 0, WRITE)], TOO_SHORT, TOO_SHORT),
    "a writable head": ([(HEADER, 16, WRITE), (STATUS, 1, WRITE)], TOO_SHORT, None),
    "a header of 15 bytes": ([(HEADER, 15, 0), (STATUS, 1, WRITE)], TOO_SHORT, None),
    "a header of 15 bytes in two": ([(HEADER, 8, 0), (DATA, 7, 0), (STATUS, 1, WRITE)], TOO_SHORT, None),
    "a readable status": ([(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, 0)], TOO_SHORT, TOO_SHORT),
    "a status of no bytes": ([(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 0, WRITE)], TOO_SHORT, TOO_SHORT),
    "a header outside": ([(MEMORY_SIZE, 16, 0), (STATUS, 1, WRITE)], OUTSIDE, None),
    "a header half outside": ([(MEMORY_SIZE - 8, 16, 0), (STATUS, 1, WRITE)], OUTSIDE, None),
    "data outside": ([(HEADER, 16, 0), (2**40, 512, 0), (STATUS, 1, WRITE)], OUTSIDE, None),
    "room outside": ([(HEADER, 16, 0), (MEMORY_SIZE, 512, WRITE), (STATUS, 1, WRITE)], OUTSIDE, None),
    "data past the top": ([(HEADER, 16, 0), (2**64 - 1, 512, 0), (STATUS, 1, WRITE)], OUTSIDE, None),
    "a status outside": ([(HEADER, 16, 0), (MEMORY_SIZE, 1, WRITE)], OUTSIDE, OUTSIDE),
    "a status past the top": ([(HEADER, 16, 0), (2**64 - 1, 2, WRITE)], OUTSIDE, OUTSIDE),
    "a status inside, room before it not": (
        [(HEADER, 16, 0), (MEMORY_SIZE - 1, 2, WRITE)],
        OUTSIDE,
        OUTSIDE,
    ),
}


@known_bug("V07")
@pytest.mark.parametrize(("buffers", "fault", "status_fault"), REFUSED.values(), ids=REFUSED.keys())
def test_a_chain_that_is_no_request_is_refused_and_its_status_byte_found_where_it_has_one(
    sides, buffers, fault, status_fault
):
    put_header(sides, 0)
    chain = popped(sides, *buffers)
    with pytest.raises(PeerError) as refused:
        BlockRequest.parse(chain)
    assert refused.value.kind is fault
    if status_fault is None:
        assert isinstance(block_status_byte(chain), ChainWriter)
        assert block_status_byte(chain).available_bytes == 1
    else:
        with pytest.raises(PeerError) as nowhere:
            block_status_byte(chain)
        assert nowhere.value.kind is status_fault


def test_the_error_of_a_chain_without_a_status_names_the_chain(sides):
    chain = popped(sides, (HEADER, 16, 0))
    with pytest.raises(PeerError, match=f"the chain from {chain.head_index} has no writable byte"):
        BlockRequest.parse(chain)
