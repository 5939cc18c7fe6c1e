"""What a disk does with each request, in status, in bytes, and in the length that it gives back.

The driver is written by hand, except where both sides are held against a model.  The rows of what is
refused follow rust-vmm virtio-blk, StdIoBackend; where ours differ, the test says so.

Source: OASIS VIRTIO 1.2, section 5.2.6.2.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from hypothesis.strategies import booleans, data, integers, lists, sampled_from

from tests.descriptors import assert_no_more_than, open_descriptors
from tests.helpers import pattern
from tests.known_bugs import known_bug
from tests.virtio.by_hand import FORMATS, MEMORY_SIZE, WRITE, HandDriver, device_by_hand
from vmbus.errors import CallerError, DeviceError, PeerError, RingFull
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    BLOCK_PLACE_SIZE,
    BlockDevice,
    BlockDriver,
    BlockFeatures,
    BlockStatus,
    DeviceQueue,
    QueueAreas,
    VirtioFeatures,
    connected_virtqueues,
)
from vmbus.virtio.block_device import LARGEST_SEGMENT_SECTORS, MOST_SEGMENTS, PIECE

HEADER = 0x4000
STATUS = 0x4100
SEGMENTS = 0x4200
DATA = 0x5000

IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
UNMAP = 1

#: What a test finds where the device has written nothing.
NOT_WRITTEN = 0xEE

SECTORS = 16
CONTENT = pattern(SECTORS * 512)

EVERYTHING = BlockFeatures.FLUSH | BlockFeatures.DISCARD | BlockFeatures.WRITE_ZEROES


class Bench:
    """A disk over a file, and a driver written by hand."""

    def __init__(self, packed=False, file=None, features=EVERYTHING, device_id=b"disk 7"):
        self.file = io.BytesIO(CONTENT) if file is None else file
        self.driver, self.queue = device_by_hand(packed)
        self.memory = self.driver.memory
        self.device = BlockDevice(self.queue, self.file, features, device_id=device_id)

    def ask(self, kind, *buffers, sector=0):
        """The status and the length that a request with these buffers (address, length, flags) gets."""
        self.memory.write(HEADER, struct.pack("<IIQ", kind, 0, sector))
        self.memory.write(STATUS, bytes([NOT_WRITTEN]))
        return self.ask_by_hand((HEADER, 16, 0), *buffers, (STATUS, 1, WRITE))

    def ask_by_hand(self, *buffers):
        head = self.driver.offer(*buffers)
        assert self.device.process_all() == 1
        [(used, length)] = self.driver.used()
        assert used == head
        return self.memory.read(STATUS, 1)[0], length

    def ask_segments(self, kind, *segments):
        """The same of a request with these segments: (sector, sectors, flags) each."""
        packed = b"".join(struct.pack("<QII", *segment) for segment in segments)
        self.memory.write(SEGMENTS, packed)
        return self.ask(kind, (SEGMENTS, len(packed), 0))

    def content(self):
        self.file.seek(0)
        return self.file.read()


@pytest.fixture(params=FORMATS, ids=["split", "packed"])
def bench(request):
    return Bench(request.param)


# -- reads and writes --------------------------------------------------------------------------


@pytest.mark.parametrize("sectors", [1, 3, SECTORS - 2])
def test_a_read_brings_the_sectors_and_counts_its_status(bench, sectors):
    length = 512 * sectors
    assert bench.ask(IN, (DATA, length, WRITE), sector=2) == (OK, length + 1)
    assert bench.memory.read(DATA, length) == CONTENT[1024 : 1024 + length]
    assert bench.memory.read(DATA + length, 1) == b"\0"


def test_a_write_changes_its_sectors_and_no_other_and_counts_only_its_status(bench):
    bench.memory.write(DATA, b"\xa5" * 1024)
    assert bench.ask(OUT, (DATA, 1024, 0), sector=2) == (OK, 1)
    assert bench.content() == CONTENT[:1024] + b"\xa5" * 1024 + CONTENT[2048:]


@pytest.mark.parametrize("cuts", [[512, 512], [1, 1023], [100, 0, 400, 524], [1023, 1]], ids=str)
def test_how_the_data_is_cut_over_buffers_makes_no_difference(bench, cuts):
    starts = [DATA + 0x800 * number for number in range(len(cuts))]
    places = list(zip(starts, cuts, strict=True))
    assert bench.ask(IN, *((start, length, WRITE) for start, length in places), sector=1) == (OK, 1025)
    assert b"".join(bench.memory.read(*place) for place in places) == CONTENT[512:1536]
    assert bench.ask(OUT, *((start, length, 0) for start, length in places), sector=8) == (OK, 1)
    assert bench.content()[8 * 512 : 10 * 512] == CONTENT[512:1536]


@known_bug("V14")
def test_header_and_data_may_share_a_buffer_and_so_may_data_and_status(bench):
    bench.memory.write(HEADER, struct.pack("<IIQ", OUT, 0, 1) + b"\x5a" * 512)
    assert bench.ask_by_hand((HEADER, 528, 0), (STATUS, 1, WRITE)) == (OK, 1)
    assert bench.content()[512:1024] == b"\x5a" * 512
    bench.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    _, length = bench.ask_by_hand((HEADER, 16, 0), (DATA, 513, WRITE))
    assert length == 513
    assert bench.memory.read(DATA, 513) == CONTENT[:512] + bytes([OK])


@pytest.mark.parametrize(("kind", "flags"), [(IN, WRITE), (OUT, 0)], ids=["read", "write"])
def test_what_is_not_whole_sectors_of_the_disk_is_an_error_and_moves_nothing(bench, kind, flags):
    outside = [(SECTORS, 512), (SECTORS - 1, 1024), (0, 512 * (SECTORS + 1)), (2**64 - 1, 512)]
    for sector, length in [*outside, (0, 511), (0, 513), (0, 1)]:
        assert bench.ask(kind, (DATA, length, flags), sector=sector) == (IOERR, 1)
    assert bench.content() == CONTENT
    assert bench.memory.read(DATA, 0x2000) == bytes(0x2000)


def test_a_sector_whose_bytes_do_not_fit_64_bits_is_outside_and_not_at_the_start(bench):
    assert bench.ask(IN, (DATA, 512, WRITE), sector=2**55) == (IOERR, 1)
    assert bench.ask(OUT, (DATA, 512, 0), sector=2**55) == (IOERR, 1)
    assert bench.content() == CONTENT


def test_a_read_of_nothing_is_done_at_once_up_to_the_end_of_the_disk(bench):
    assert bench.ask(IN, sector=SECTORS) == (OK, 1)
    assert bench.ask(IN, sector=SECTORS + 1) == (IOERR, 1)


@pytest.mark.parametrize("rest", [0, 1, 511])
def test_what_is_left_of_a_sector_at_the_end_of_the_file_is_no_part_of_the_disk(rest):
    bench = Bench(file=io.BytesIO(CONTENT[:1024] + bytes(rest)))
    assert bench.device.capacity == bench.device.config.capacity == 2
    assert bench.ask(IN, (DATA, 512, WRITE), sector=1) == (OK, 513)
    assert bench.ask(IN, (DATA, 512, WRITE), sector=2) == (IOERR, 1)


# -- a file that does less than it is asked for --------------------------------------------------


class Bites(io.BytesIO):
    """A file that moves at most 1000 bytes at a time, and remembers how many it was asked for."""

    def __init__(self, content):
        super().__init__(content)
        self.asked = []

    def read(self, size=-1, /):
        self.asked.append(size)
        return super().read(min(size, 1000))

    def write(self, piece, /):
        self.asked.append(len(piece))
        return super().write(bytes(piece)[:1000])


def test_a_file_that_moves_data_in_bites_is_asked_until_all_is_moved():
    bench = Bench(file=Bites(CONTENT))
    assert bench.ask(IN, (DATA, 4096, WRITE)) == (OK, 4097)
    assert bench.memory.read(DATA, 4096) == CONTENT[:4096]
    assert bench.ask(OUT, (DATA, 4096, 0), sector=8) == (OK, 1)
    assert io.BytesIO.getvalue(bench.file)[4096:] == CONTENT[:4096]


def test_more_than_64_kib_is_moved_piece_by_piece():
    """Buffers may overlap: what a driver offers costs it nothing, and here it costs one piece."""
    file = Bites(bytes(1 << 20))
    bench = Bench(file=file)
    assert bench.ask(IN, *[(DATA, 0x8000, WRITE)] * 10) == (OK, 0x50001)
    assert bench.ask(OUT, *[(DATA, 0x8000, 0)] * 10) == (OK, 1)
    assert bench.ask_segments(WRITE_ZEROES, (0, 2048, 0)) == (OK, 1)
    assert max(file.asked) == PIECE


class Fails(io.BytesIO):
    """A file whose calls of one name fail from the `allowed`-th on, or say that nothing was moved."""

    def __init__(self, name, allowed=0, answer=None):
        super().__init__(bytes(1 << 18))
        self.failing = name
        self.allowed = allowed
        self.answer = answer

    def called(self, name, *arguments):
        if name == self.failing:
            self.allowed -= 1
            if self.allowed < 0:
                assert self.allowed > -100, "asked without end"
                if self.answer is None:
                    raise OSError(errno.EIO, "bad sector")
                return self.answer
        return getattr(super(), name)(*arguments)

    def read(self, size=-1, /):
        return self.called("read", size)

    def write(self, piece, /):
        return self.called("write", piece)

    def seek(self, *arguments):
        return self.called("seek", *arguments)

    def flush(self):
        return self.called("flush")


@pytest.mark.parametrize("answer", [None, b""], ids=["an error", "an end"])
def test_a_read_that_fails_counts_what_had_arrived(answer):
    bench = Bench(file=Fails("read", allowed=2, answer=answer))
    assert bench.ask(IN, *[(DATA, 0x8000, WRITE)] * 8) == (IOERR, 2 * PIECE + 1)


def test_a_file_that_was_cut_short_ends_a_read(bench):
    bench.file.truncate(1000)
    assert bench.ask(IN, (DATA, 1024, WRITE)) == (IOERR, 1001)
    assert bench.memory.read(DATA, 1001) == CONTENT[:1000] + b"\0"


@pytest.mark.parametrize(
    ("file", "request_of"),
    [
        (Fails("write", allowed=1), lambda bench: bench.ask(OUT, *[(DATA, 0x8000, 0)] * 4)),
        (Fails("write", answer=0), lambda bench: bench.ask(OUT, (DATA, 512, 0))),
        (Fails("write"), lambda bench: bench.ask_segments(WRITE_ZEROES, (0, 8, 0))),
        (Fails("seek", allowed=1), lambda bench: bench.ask(OUT, (DATA, 512, 0))),
        (Fails("seek", allowed=1), lambda bench: bench.ask(IN, (DATA, 512, WRITE))),
        (Fails("flush"), lambda bench: bench.ask(FLUSH)),
    ],
    ids=["write", "write of nothing", "zeros", "seek to write", "seek to read", "flush"],
)
def test_what_the_file_refuses_is_an_error_of_the_disk_and_the_next_request_is_served(file, request_of):
    bench = Bench(file=file)
    assert request_of(bench) == (IOERR, 1)
    file.failing = ""
    assert bench.ask(IN, (DATA, 512, WRITE), sector=500) == (OK, 513)


# -- flush, name, durability ---------------------------------------------------------------------


class Counts(io.BytesIO):
    """A file that counts its flushes."""

    flushes = 0

    def flush(self):
        self.flushes += 1


def test_a_flush_flushes_the_file():
    bench = Bench(file=Counts(CONTENT))
    assert bench.ask(OUT, (DATA, 512, 0)) == (OK, 1)
    assert bench.file.flushes == 0
    assert bench.ask(FLUSH) == (OK, 1)
    assert bench.file.flushes == 1


def test_without_the_flush_feature_every_write_is_durable_at_once():
    bench = Bench(file=Counts(CONTENT), features=BlockFeatures.WRITE_ZEROES)
    assert bench.ask(OUT, (DATA, 512, 0)) == (OK, 1)
    assert bench.ask_segments(WRITE_ZEROES, (0, 1, 0)) == (OK, 1)
    assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)
    assert bench.file.flushes == 2


def test_a_flush_reaches_the_systems_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with open(tmp_path / "disk", "w+b") as file:
        file.write(CONTENT)
        assert Bench(file=file).ask(FLUSH) == (OK, 1)
        assert synced == [file.fileno()]


def test_a_flush_of_a_sector_or_with_data_is_an_error(bench):
    assert bench.ask(FLUSH, sector=1) == (IOERR, 1)
    assert bench.ask(FLUSH, (DATA, 512, 0)) == (IOERR, 1)
    assert bench.ask(FLUSH, (DATA, 512, WRITE)) == (IOERR, 1)


@pytest.mark.parametrize(
    ("device_id", "found"),
    [
        (b"", bytes(20)),
        (b"disk 7", b"disk 7" + bytes(14)),
        (b"exactly twenty bytes", b"exactly twenty bytes"),
    ],
)
def test_the_name_of_a_disk_is_20_bytes_padded_with_zeros(device_id, found):
    bench = Bench(device_id=device_id)
    bench.memory.write(DATA, b"\xee" * 21)
    assert bench.ask(GET_ID, (DATA, 20, WRITE)) == (OK, 21)
    assert bench.memory.read(DATA, 21) == found + b"\xee"
    assert bench.ask(GET_ID, (DATA, 19, WRITE), (DATA + 100, 1, WRITE)) == (OK, 21)


def test_the_name_of_a_disk_asks_for_20_bytes(bench):
    for length in (0, 19, 21, 512):
        assert bench.ask(GET_ID, (DATA, length, WRITE)) == (IOERR, 1)
    assert bench.memory.read(DATA, 512) == bytes(512)


def test_a_name_that_is_too_long_is_the_callers_mistake():
    with pytest.raises(CallerError, match="at most 20 bytes") as refused:
        Bench(device_id=b"one more than twenty!")
    assert refused.value.argument == "device_id"


# -- segments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, UNMAP])
def test_zeros_are_written_to_each_segment_and_nowhere_else(bench, flags):
    assert bench.ask_segments(WRITE_ZEROES, (1, 2, flags), (10, 0, flags), (15, 1, flags)) == (OK, 1)
    assert bench.content() == CONTENT[:512] + bytes(1024) + CONTENT[1536:-512] + bytes(512)


def test_a_discard_is_checked_and_may_do_nothing(bench):
    assert bench.ask_segments(DISCARD, (0, SECTORS, 0)) == (OK, 1)
    assert bench.content() == CONTENT
    assert bench.ask_segments(DISCARD, (0, SECTORS + 1, 0)) == (IOERR, 1)
    assert bench.ask_segments(DISCARD, (2**64 - 1, 1, 0)) == (IOERR, 1)


@pytest.mark.parametrize("cut", [1, 8, 15, 16, 17, 31])
def test_segments_may_be_cut_over_buffers(bench, cut):
    segments = struct.pack("<QIIQII", 1, 1, 0, 3, 1, 0)
    bench.memory.write(SEGMENTS, segments[:cut])
    bench.memory.write(DATA, segments[cut:])
    assert bench.ask(WRITE_ZEROES, (SEGMENTS, cut, 0), (DATA, 32 - cut, 0)) == (OK, 1)
    expected = CONTENT[:512] + bytes(512) + CONTENT[1024:1536] + bytes(512) + CONTENT[2048:]
    assert bench.content() == expected


@pytest.mark.parametrize(
    ("kind", "flags"),
    [(DISCARD, UNMAP), (DISCARD, 2), (WRITE_ZEROES, 2), (WRITE_ZEROES, UNMAP | 0x80000000)],
)
def test_a_flag_that_is_not_known_there_is_not_supported_and_nothing_is_done(bench, kind, flags):
    assert bench.ask_segments(kind, (0, 1, flags)) == (UNSUPP, 1)
    assert bench.content() == CONTENT


@pytest.mark.parametrize(
    ("segments", "status", "zeroed"),
    [
        ([(0, 1, 0), (SECTORS, 1, 0), (2, 1, 0)], IOERR, 512),
        ([(0, 1, 0), (1, 1, 2), (2, 1, 0)], UNSUPP, 512),
        ([(2**64 - 1, 1, 0), (0, 1, 0)], IOERR, 0),
    ],
    ids=["outside", "a flag", "outside at once"],
)
def test_segments_are_done_in_order_up_to_the_first_that_cannot_be(bench, segments, status, zeroed):
    assert bench.ask_segments(WRITE_ZEROES, *segments) == (status, 1)
    assert bench.content() == bytes(zeroed) + CONTENT[zeroed:]


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
@pytest.mark.parametrize("length", [0, 1, 15, 17, 24])
def test_data_that_is_no_whole_number_of_segments_or_none_is_an_error(bench, kind, length):
    bench.memory.write(SEGMENTS, struct.pack("<QIIQI", 0, 1, 0, 1, 1))
    assert bench.ask(kind, (SEGMENTS, length, 0)) == (IOERR, 1)
    assert bench.content() == CONTENT


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
def test_the_work_of_one_request_is_bounded_as_the_configuration_says(kind):
    bench = Bench(file=Sparse())
    config = bench.device.config
    segments = [(0, 0, 0)] * MOST_SEGMENTS
    assert bench.ask_segments(kind, *segments) == (OK, 1)
    assert bench.ask_segments(kind, *segments, (0, 0, 0)) == (IOERR, 1)
    assert bench.ask_segments(kind, (0, LARGEST_SEGMENT_SECTORS + 1, 0)) == (IOERR, 1)
    assert bench.file.written == 0
    assert bench.ask_segments(kind, (0, LARGEST_SEGMENT_SECTORS, 0)) == (OK, 1)
    assert bench.file.written == (512 * LARGEST_SEGMENT_SECTORS if kind == WRITE_ZEROES else 0)
    assert config.max_discard_seg == config.max_write_zeroes_seg == MOST_SEGMENTS
    assert config.max_discard_sectors == config.max_write_zeroes_sectors == LARGEST_SEGMENT_SECTORS


class Sparse(io.BytesIO):
    """A file of 1 TiB that keeps nothing."""

    written = 0

    def seek(self, offset, whence=0, /):
        return 1 << 40 if whence else offset

    def write(self, piece, /):
        self.written += len(piece)
        return len(piece)


# -- what is refused whole -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "request_of"),
    [
        (BlockFeatures.FLUSH, lambda bench: bench.ask(FLUSH)),
        (BlockFeatures.DISCARD, lambda bench: bench.ask_segments(DISCARD, (0, 1, 0))),
        (BlockFeatures.WRITE_ZEROES, lambda bench: bench.ask_segments(WRITE_ZEROES, (0, 1, 0))),
    ],
    ids=["flush", "discard", "write zeroes"],
)
def test_what_was_not_negotiated_is_not_supported(feature, request_of):
    assert request_of(Bench(features=EVERYTHING & ~feature)) == (UNSUPP, 1)
    assert request_of(Bench(features=feature)) == (OK, 1)


def test_a_disk_without_a_name_does_not_support_being_asked(bench):
    assert Bench(device_id=None).ask(GET_ID, (DATA, 20, WRITE)) == (UNSUPP, 1)


@pytest.mark.parametrize("kind", [2, 3, 5, 9, 10, 14, 15, 16, 18, 20, 22, 24, 26, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("flags", [0, WRITE])
def test_what_nobody_has_built_is_not_supported_whatever_comes_with_it(kind, flags):
    bench = Bench()
    assert bench.ask(kind, (DATA, 513, flags), sector=2**64 - 1) == (UNSUPP, 1)
    assert bench.content() == CONTENT


@pytest.mark.parametrize(
    ("kind", "flags"),
    [(IN, 0), (OUT, WRITE), (GET_ID, 0), (DISCARD, WRITE), (WRITE_ZEROES, WRITE)],
    ids=["read", "write", "name", "discard", "write zeroes"],
)
def test_data_on_the_wrong_side_is_an_error(bench, kind, flags):
    """Elsewhere only a read with data to read is refused; the others would be done, for nothing."""
    bench.memory.write(DATA, struct.pack("<QII", 0, 1, 0))
    assert bench.ask(kind, (DATA, 512, flags)) == (IOERR, 1)
    assert bench.content() == CONTENT


def test_a_read_only_disk_refuses_what_would_change_it_and_nothing_else(bench):
    """Elsewhere a read-only disk refuses its name and a flush too."""
    bench = Bench(features=EVERYTHING | BlockFeatures.RO)
    assert bench.ask(OUT, (DATA, 512, 0)) == (IOERR, 1)
    assert bench.ask_segments(DISCARD, (0, 1, 0)) == (IOERR, 1)
    assert bench.ask_segments(WRITE_ZEROES, (0, 1, 0)) == (IOERR, 1)
    assert bench.content() == CONTENT
    assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)
    assert bench.ask(GET_ID, (DATA, 20, WRITE)) == (OK, 21)
    assert bench.ask(FLUSH) == (OK, 1)
    assert bench.ask(99) == (UNSUPP, 1)


# -- what is no request ----------------------------------------------------------------------------

#: Buffers of a chain with a status byte that cannot be a request; the header says IN of sector 0.
NO_REQUEST = {
    "no header": [(STATUS, 1, WRITE)],
    "a writable head": [(HEADER, 16, WRITE), (STATUS, 1, WRITE)],
    "a header that is too short": [(HEADER, 15, 0), (STATUS, 1, WRITE)],
    "a header outside memory": [(MEMORY_SIZE, 16, 0), (STATUS, 1, WRITE)],
    "data outside memory": [(HEADER, 16, 0), (MEMORY_SIZE - 1, 512, 0), (STATUS, 1, WRITE)],
    "room outside memory": [(HEADER, 16, 0), (MEMORY_SIZE - 1, 512, WRITE), (STATUS, 1, WRITE)],
    "room past the top": [(HEADER, 16, 0), (2**64 - 256, 512, WRITE), (STATUS, 1, WRITE)],
    "room in a hole": [(HEADER, 16, 0), (DATA, 256, WRITE), (2**40, 256, WRITE), (STATUS, 1, WRITE)],
}


@known_bug("V07")
@pytest.mark.parametrize("buffers", NO_REQUEST.values(), ids=NO_REQUEST.keys())
def test_a_chain_that_is_no_request_gets_an_error_where_it_has_a_status(bench, buffers):
    bench.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    bench.memory.write(STATUS, bytes([NOT_WRITTEN]))
    assert bench.ask_by_hand(*buffers) == (IOERR, 1)
    assert bench.memory.read(DATA, 256) == bytes(256)
    assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)


@pytest.mark.parametrize(
    "buffers",
    [
        [(HEADER, 16, 0)],
        [(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, 0)],
        [(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 0, WRITE)],
        [(HEADER, 16, 0), (DATA, 512, 0), (MEMORY_SIZE, 1, WRITE)],
        [(HEADER, 16, 0), (DATA, 512, 0), (2**64 - 1, 2, WRITE)],
        [(HEADER, 16, 0), (DATA, 512, WRITE), (MEMORY_SIZE, 1, WRITE)],
    ],
    ids=["none", "readable", "empty", "outside", "past the top", "outside, of a read"],
)
def test_a_chain_without_a_place_for_the_status_is_given_back_and_nothing_is_done(bench, buffers):
    """The request itself would be a good one."""
    kind = IN if any(flags and address == DATA for address, _, flags in buffers) else OUT
    bench.memory.write(HEADER, struct.pack("<IIQ", kind, 0, 0))
    bench.memory.write(STATUS, bytes([NOT_WRITTEN]))
    assert bench.ask_by_hand(*buffers) == (NOT_WRITTEN, 0)
    assert bench.content() == CONTENT
    assert bench.memory.read(DATA, 512) == bytes(512)


def test_a_chain_that_must_not_be_ends_the_queue_and_what_came_before_was_served(bench):
    bench.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    good = bench.driver.offer((HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE))
    bench.driver.offer((STATUS, 1, WRITE), (HEADER, 16, 0))
    with pytest.raises(PeerError):
        bench.device.process_all()
    assert bench.driver.used() == [(good, 513)]
    assert bench.queue.needs_notification() is True
    with pytest.raises(PeerError):
        bench.device.process_all()


READ_ONLY_MEMORY = 0x100000


@pytest.mark.parametrize("target", ["data", "status"])
def test_a_buffer_in_memory_that_cannot_be_written_is_the_drivers_mistake_and_not_ours(target):
    """A driver chooses the addresses: a guest's ROM is one that it can choose."""
    memory = GuestMemory([(0, bytearray(MEMORY_SIZE)), (READ_ONLY_MEMORY, bytes(4096))])
    queue = DeviceQueue(memory, 16)
    driver = HandDriver(memory)
    queue.set_up(QueueAreas(*driver.areas))
    device = BlockDevice(queue, io.BytesIO(CONTENT))
    memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    data = READ_ONLY_MEMORY if target == "data" else DATA
    status = READ_ONLY_MEMORY if target == "status" else STATUS
    head = driver.offer((HEADER, 16, 0), (data, 512, WRITE), (status, 1, WRITE))
    assert device.process_all() == 1
    assert driver.used() == [(head, 1 if target == "data" else 0)]
    if target == "data":
        assert memory.read(STATUS, 1) == bytes([IOERR])


# -- the queue ---------------------------------------------------------------------------------


def test_chains_may_be_served_in_any_order_and_the_caller_learns_the_status(bench):
    bench.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    first = bench.driver.offer((HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE))
    second = bench.driver.offer((HEADER, 16, 0), (DATA, 511, WRITE), (STATUS, 1, WRITE))
    third = bench.driver.offer((HEADER, 16, 0))
    chains = list(bench.queue)
    assert [bench.device.process(chain) for chain in reversed(chains)] == [
        None,
        BlockStatus.IOERR,
        BlockStatus.OK,
    ]
    assert bench.driver.used() == [(third, 0), (second, 1), (first, 513)]


def test_status_and_data_are_there_before_the_chain_is_given_back(bench, monkeypatch):
    seen = []
    give_back = bench.queue.add_used

    def watched(head_index, length=0):
        seen.append((bench.memory.read(STATUS, 1)[0], bench.memory.read(DATA, 512)))
        give_back(head_index, length)

    monkeypatch.setattr(bench.queue, "add_used", watched)
    assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)
    assert seen == [(OK, CONTENT[:512])]


def test_all_that_is_available_is_served_at_once_and_one_notification_tells_of_it(bench):
    bench.memory.write(HEADER, struct.pack("<IIQ", FLUSH, 0, 0))
    assert bench.device.process_all() == 0
    assert bench.queue.needs_notification() is False
    for _ in range(8):
        bench.driver.offer((HEADER, 16, 0), (STATUS, 1, WRITE))
    assert bench.device.process_all() == 8
    assert bench.queue.needs_notification() is True
    assert bench.queue.needs_notification() is False
    assert [length for _, length in bench.driver.used()] == [1] * 8


@pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])
def test_a_disk_over_a_descriptor_is_the_file_and_the_descriptor_stays_open(packed, tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    before = open_descriptors()
    descriptor = os.open(path, os.O_RDWR)
    bench = Bench(packed, file=descriptor)
    assert bench.device.capacity == SECTORS
    bench.memory.write(DATA, b"\xa5" * 512)
    assert bench.ask(OUT, (DATA, 512, 0), sector=3) == (OK, 1)
    assert path.read_bytes() == CONTENT[:1536] + b"\xa5" * 512 + CONTENT[2048:]
    assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)
    assert bench.ask(FLUSH) == (OK, 1)
    del bench
    os.close(descriptor)
    assert_no_more_than(before)


def test_a_write_to_a_descriptor_that_can_only_be_read_is_an_error_of_the_disk(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        bench = Bench(file=descriptor)
        assert bench.ask(OUT, (DATA, 512, 0)) == (IOERR, 1)
        assert bench.ask(IN, (DATA, 512, WRITE)) == (OK, 513)
    finally:
        os.close(descriptor)


def test_what_cannot_seek_is_no_disk():
    read, write = os.pipe()
    try:
        for pipe in (read, os.fdopen(read, "rb", buffering=0, closefd=False)):
            with pytest.raises(DeviceError, match="no disk in"):
                BlockDevice(device_by_hand()[1], pipe)
    finally:
        os.close(read)
        os.close(write)


# -- both sides against a model ------------------------------------------------------------------

#: Each request of the machine has a slot of so many bytes for its data.
SLOT_SIZE = 4 * 512
MOST_SLOTS = 16 + 1  # as many as requests are outstanding, and the one that is refused
FIRST_SLOT = 0x8000


class Asked:
    """A request as the model knows it; `status` and `found` come when it is served."""

    def __init__(self, kind, sector, sectors, slot, data=b""):
        self.kind = kind
        self.sector = sector
        self.sectors = sectors
        self.slot = slot
        self.data = data
        self.status = None
        self.found = None


class DiskAgainstBytes(RuleBasedStateMachine):
    """A driver and a device do to a disk what slices do to a bytearray, in whatever order they are served."""

    @initialize(
        packed=booleans(),
        event_idx=booleans(),
        indirect=booleans(),
        size=sampled_from([2, 4, 8, 16]),
        start=sampled_from([0, 3, -2]),
    )
    def connect(self, packed, event_idx, indirect, size, start):
        features = VirtioFeatures.VERSION_1
        features |= VirtioFeatures.RING_PACKED if packed else 0
        features |= VirtioFeatures.RING_EVENT_IDX if event_idx else 0
        features |= VirtioFeatures.RING_INDIRECT_DESC if indirect else 0
        position = start % size | 0x8000 if packed else start & 0xFFFF
        self.memory = GuestMemory.from_ranges([(0, FIRST_SLOT + MOST_SLOTS * SLOT_SIZE)])
        driver, self.queue = connected_virtqueues(
            size,
            features,
            request_size=BLOCK_PLACE_SIZE,
            indirect_size=8 if indirect else 0,
            memory=self.memory,
            start=position,
        )
        self.size = size
        self.indirect = indirect
        self.disk = io.BytesIO(CONTENT)
        self.model = bytearray(CONTENT)
        self.driver = BlockDriver(driver, indirect=indirect)
        self.device = BlockDevice(self.queue, self.disk, device_id=b"model")
        self.slots = list(range(MOST_SLOTS))
        self.free = size
        self.costs = {}
        self.waiting = []  # requests that the device has not taken, in order
        self.held = []  # (chain, request) that it has taken
        self.served = []  # requests that it has given back, in order

    def submit(self, asked, buffers, call):
        """Make a request, or see it refused, as the model's own count of descriptors says."""
        cost = 1 if self.indirect else buffers
        if cost > self.free and (self.indirect or self.free < self.size):
            with pytest.raises(RingFull):
                call(asked)
        elif buffers > self.size:
            with pytest.raises(CallerError):
                call(asked)
        else:
            call(asked)
            self.free -= cost
            self.costs[asked] = cost
            self.waiting.append(asked)
            self.slots.remove(asked.slot)

    def address_of(self, slot):
        return FIRST_SLOT + slot * SLOT_SIZE

    @rule(
        sector=integers(0, SECTORS + 1),
        sectors=integers(1, 4),
        cuts=lists(integers(1, 2047), max_size=3, unique=True),
        writes=booleans(),
        seed=integers(0, 255),
    )
    def read_or_write(self, sector, sectors, cuts, writes, seed):
        length = 512 * sectors
        slot = self.slots[0]
        address = self.address_of(slot)
        content = pattern(length, seed)
        self.memory.write(address, content if writes else b"\xee" * length)
        points = [0, *sorted(cut for cut in cuts if cut < length), length]
        buffers = [(address + start, end - start) for start, end in pairwise(points)]
        asked = Asked("write" if writes else "read", sector, sectors, slot, content)
        call = self.driver.writev if writes else self.driver.readv
        self.submit(asked, 2 + len(buffers), lambda context: call(512 * sector, buffers, context))

    @rule(sector=integers(0, SECTORS + 1), sectors=integers(1, 4), unmap=booleans())
    def write_zeroes(self, sector, sectors, unmap):
        asked = Asked("zeroes", sector, sectors, self.slots[0])
        self.submit(
            asked,
            3,
            lambda context: self.driver.write_zeroes(
                512 * sector, 512 * sectors, unmap=unmap, context=context
            ),
        )

    @rule(sector=integers(0, SECTORS + 1), sectors=integers(1, 4))
    def discard(self, sector, sectors):
        asked = Asked("discard", sector, sectors, self.slots[0])
        self.submit(asked, 3, lambda context: self.driver.discard(512 * sector, 512 * sectors, context))

    @rule()
    def flush(self):
        self.submit(Asked("flush", 0, 0, self.slots[0]), 2, self.driver.flush)

    @rule()
    def get_id(self):
        slot = self.slots[0]
        asked = Asked("id", 0, 0, slot)
        self.submit(asked, 3, lambda context: self.driver.get_id(self.address_of(slot), context))

    @rule()
    def take(self):
        """The device takes everything that is available, and does nothing with it yet."""
        chains = list(self.queue)
        assert len(chains) == len(self.waiting)
        self.held += zip(chains, self.waiting, strict=True)
        self.waiting = []

    @rule(draw=data())
    def serve(self, draw):
        """The device serves one of the chains that it has, not always the oldest."""
        if self.held:
            chain, asked = self.held.pop(draw.draw(integers(0, len(self.held) - 1)))
            self.do(asked)
            assert self.device.process(chain) == asked.status
            self.served.append(asked)

    @rule()
    def serve_all(self):
        self.take()
        while self.held:
            chain, asked = self.held.pop()
            self.do(asked)
            assert self.device.process(chain) == asked.status
            self.served.append(asked)

    def do(self, asked):
        """What the request means, to the model."""
        start, length = 512 * asked.sector, 512 * asked.sectors
        asked.status = OK if start + length <= len(self.model) else IOERR
        if asked.status == IOERR:
            asked.found = b"\xee" * length if asked.kind == "read" else None
        elif asked.kind == "read":
            asked.found = bytes(self.model[start : start + length])
        elif asked.kind == "write":
            self.model[start : start + length] = asked.data
        elif asked.kind == "zeroes":
            self.model[start : start + length] = bytes(length)
        elif asked.kind == "id":
            asked.found = b"model".ljust(20, b"\0")

    @rule()
    def complete(self):
        completions = list(self.driver.completions())
        assert [completion.context for completion in completions] == self.served
        for asked, status, length in completions:
            assert status == asked.status
            found = asked.found or b""
            if found:
                assert self.memory.read(self.address_of(asked.slot), len(found)) == found
            assert length == (len(found) if status == OK else 0) + 1
            self.free += self.costs.pop(asked)
            self.slots.append(asked.slot)
        self.served = []
        assert self.driver.queue.free == self.free

    def teardown(self):
        if hasattr(self, "disk"):
            self.serve_all()
            self.complete()
            assert self.free == self.size
            assert self.disk.getvalue() == self.model


TestDiskAgainstBytes = DiskAgainstBytes.TestCase
TestDiskAgainstBytes.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
