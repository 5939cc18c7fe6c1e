"""What the driver of a disk puts into its queue, and what it makes of the device's answers.

The device is written by hand: it knows the layout from the standard alone.

Source: OASIS VIRTIO 1.2, section 5.2.6; the virtio-driver crate, VirtioBlkQueue.
"""

from __future__ import annotations

import errno

import pytest

from tests.virtio.by_hand import (
    FORMATS,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    PACKED,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
)
from vmbus.errors import CallerError, PeerError, RingFull
from vmbus.memory import AddressError, GuestMemory
from vmbus.virtio import BLOCK_PLACE_SIZE, BlockDriver, BlockStatus, Virtqueue

DATA = 0x8000
MEMORY_SIZE = 0x10000

#: The bits that a packed ring keeps in the flags besides.
OF_DESCRIPTOR = NEXT | WRITE | INDIRECT


class Bench:
    """A driver of a disk, and the device's side by hand."""

    def __init__(self, packed=False, queue_size=16, features=0, **options):
        self.memory = GuestMemory.from_ranges([(0, MEMORY_SIZE)])
        features |= VERSION_1 | (PACKED if packed else 0)
        self.queue = Virtqueue(
            self.memory,
            queue_size,
            features,
            request_size=BLOCK_PLACE_SIZE,
            indirect_size=8 if features & INDIRECT_DESC else 0,
        )
        self.driver = BlockDriver(self.queue, **options)
        self.device = HandDevice.of(self.queue)

    def taken(self):
        """What the device finds: (id, [(address, length, whether the device writes there)])."""
        [offered] = self.device.available()
        return offered.head, [
            (address, length, bool(flags & WRITE)) for address, length, flags in offered.buffers
        ]

    def answer(self, status, length=1):
        """Take the one request that waits, give it this status, and return the completion."""
        head, buffers = self.taken()
        if status is not None:
            self.memory.write(buffers[-1][0], bytes([status]))
        self.device.give_back(head, length)
        [completion] = self.driver.completions()
        return completion


@pytest.fixture(params=FORMATS, ids=["split", "packed"])
def bench(request):
    return Bench(request.param)


# -- what goes in ------------------------------------------------------------------------------

READ, WRITTEN = True, False

#: The call, its header and what lies between header and status: (bytes in the place, buffers).
REQUESTS = {
    "read": (
        lambda driver: driver.read(4096, DATA, 1024),
        "00000000 00000000 0800000000000000",
        [(DATA, 1024, READ)],
    ),
    "readv": (
        lambda driver: driver.readv(4096, [(DATA, 512), (DATA + 0x1000, 1536)]),
        "00000000 00000000 0800000000000000",
        [(DATA, 512, READ), (DATA + 0x1000, 1536, READ)],
    ),
    "write": (
        lambda driver: driver.write(4096, DATA, 512),
        "01000000 00000000 0800000000000000",
        [(DATA, 512, WRITTEN)],
    ),
    "writev, cut anywhere": (
        lambda driver: driver.writev(4096, iter([(DATA, 100), (DATA + 0x1000, 412)])),
        "01000000 00000000 0800000000000000",
        [(DATA, 100, WRITTEN), (DATA + 0x1000, 412, WRITTEN)],
    ),
    "the last sector": (
        lambda driver: driver.read(512 * (2**64 - 1), DATA, 512),
        "00000000 00000000 ffffffffffffffff",
        [(DATA, 512, READ)],
    ),
    "flush": (lambda driver: driver.flush(), "04000000 00000000 0000000000000000", []),
    "get_id": (
        lambda driver: driver.get_id(DATA + 3),
        "08000000 00000000 0000000000000000",
        [(DATA + 3, 20, READ)],
    ),
    "discard": (
        lambda driver: driver.discard(4096, 8192),
        "0b000000 00000000 0000000000000000",
        "0800000000000000 10000000 00000000",
    ),
    "write_zeroes": (
        lambda driver: driver.write_zeroes(4096, 8192),
        "0d000000 00000000 0000000000000000",
        "0800000000000000 10000000 00000000",
    ),
    "write_zeroes, unmapped": (
        lambda driver: driver.write_zeroes(4096, 8192, unmap=True),
        "0d000000 00000000 0000000000000000",
        "0800000000000000 10000000 01000000",
    ),
    "the largest discard": (
        lambda driver: driver.discard(0, 512 * (2**32 - 1)),
        "0b000000 00000000 0000000000000000",
        "0000000000000000 ffffffff 00000000",
    ),
}


@pytest.mark.parametrize(("call", "header", "between"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_is_header_then_data_or_segment_then_status(bench, call, header, between):
    request_id = call(bench.driver)
    head, buffers = bench.taken()
    assert head == request_id
    place = bench.queue.layout.request_offset + BLOCK_PLACE_SIZE * request_id
    assert buffers[0] == (place, 16, WRITTEN)
    assert bench.memory.read(place, 16) == bytes.fromhex(header)
    if isinstance(between, str):
        assert buffers[1:-1] == [(place + 16, 16, WRITTEN)]
        assert bench.memory.read(place + 16, 16) == bytes.fromhex(between)
    else:
        assert buffers[1:-1] == between
    assert buffers[-1] == (place + 32, 1, READ)
    assert bench.memory.read(place + 32, 1) == b"\xff"


def test_a_place_that_was_used_before_says_nothing_of_its_last_request(bench):
    bench.driver.write_zeroes(512, 512, unmap=True)
    assert bench.answer(0).status is BlockStatus.OK
    assert bench.driver.flush() == 0
    place = bench.queue.layout.request_offset
    assert bench.memory.read(place, 16) == bytes.fromhex("04000000 00000000 0000000000000000")
    assert bench.answer(None).status is BlockStatus.UNWRITTEN


@pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])
def test_an_indirect_request_takes_one_descriptor(packed):
    bench = Bench(packed, features=INDIRECT_DESC, indirect=True)
    bench.driver.readv(0, [(DATA, 512), (DATA + 512, 512)])
    assert bench.queue.free == 15
    [offered] = bench.device.available()
    [(address, length, flags)] = offered.buffers
    assert (length, flags & OF_DESCRIPTOR) == (64, INDIRECT)
    entries = bench.device.table(address, 4)
    assert [(length, flags & WRITE) for _, length, flags, _ in entries] == [
        (16, 0),
        (512, WRITE),
        (512, WRITE),
        (1, WRITE),
    ]


def test_the_device_sees_its_own_addresses():
    shared = bytearray(MEMORY_SIZE)
    queue = Virtqueue(
        GuestMemory([(0, shared)]),
        8,
        request_size=BLOCK_PLACE_SIZE,
        translate=lambda address, length: address + 0x100000,
    )
    BlockDriver(queue).read(0, DATA, 512)
    device = HandDevice(GuestMemory([(0x100000, shared)]), Areas(*queue.areas), 8)
    [offered] = device.available()
    place = 0x100000 + queue.layout.request_offset
    assert [address for address, _, _ in offered.buffers] == [place, 0x100000 + DATA, place + 32]


# -- what comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "number"),
    [
        (0, 0),
        (1, errno.EIO),
        (2, errno.ENOTSUP),
        (3, errno.EPROTO),
        (0x80, errno.EPROTO),
        (None, errno.EPROTO),
    ],
)
def test_a_completion_has_the_context_and_the_devices_word(bench, status, number):
    """None: a device that completes and writes nothing has not succeeded."""
    context = object()
    bench.driver.read(0, DATA, 512, context)
    assert bench.driver.outstanding == [context]
    completion = bench.answer(status, length=7)
    assert completion == (context, 0xFF if status is None else status, 7)
    assert completion.status.errno == number
    assert bench.driver.outstanding == []
    assert bench.queue.free == 16


def test_requests_may_be_completed_in_any_order_and_contexts_find_theirs(bench):
    driver = bench.driver
    ids = {
        driver.read(0, DATA, 512, "read"): "read",
        driver.flush("flush"): "flush",
        driver.discard(0, 512, "discard"): "discard",
        driver.get_id(DATA, "id"): "id",
    }
    offered = bench.device.available()
    assert [one.head for one in offered] == list(ids)
    for one in reversed(offered):
        bench.memory.write(one.buffers[-1][0], b"\x00")
        bench.device.give_back(one.head, 1)
    assert [completion.context for completion in driver.completions()] == ["id", "discard", "flush", "read"]


def test_one_context_may_stand_for_many_requests_and_none_is_one_too(bench):
    for _ in range(2):
        bench.driver.flush("same")
    bench.driver.flush()
    assert bench.driver.outstanding == ["same", "same", None]
    assert list(bench.driver.completions()) == []


def test_a_device_that_completes_what_it_never_had_ends_the_queue(bench):
    bench.driver.read(0, DATA, 512, "lost")
    bench.device.give_back(5, 1)
    for _ in range(2):
        with pytest.raises(PeerError):
            list(bench.driver.completions())
    with pytest.raises(PeerError):
        bench.driver.flush()
    assert bench.driver.outstanding == ["lost"]


def test_a_device_that_wrote_more_than_there_was_room_for_ends_the_queue(bench):
    bench.driver.flush("lost")
    head, _ = bench.taken()
    bench.device.give_back(head, 2)
    with pytest.raises(PeerError, match="2 bytes"):
        list(bench.driver.completions())
    assert bench.driver.outstanding == ["lost"]


# -- what is the caller's mistake --------------------------------------------------------------

MISTAKES = {
    "an offset inside a sector": (lambda driver: driver.read(511, DATA, 512), "offset", 511),
    "an offset before the disk": (lambda driver: driver.write(-512, DATA, 512), "offset", -512),
    "an offset that 64 bits of sectors do not reach": (
        lambda driver: driver.read(512 * 2**64, DATA, 512),
        "offset",
        512 * 2**64,
    ),
    "a read of part of a sector": (lambda driver: driver.read(0, DATA, 513), "length", 513),
    "a write of part of a sector": (lambda driver: driver.write(0, DATA, 256), "length", 256),
    "a read of nothing": (lambda driver: driver.read(0, DATA, 0), "length", 0),
    "a readv without buffers": (lambda driver: driver.readv(0, []), "length", 0),
    "buffers whose sum is no sector": (
        lambda driver: driver.writev(0, [(DATA, 512), (DATA, 100)]),
        "length",
        612,
    ),
    "a negative buffer": (lambda driver: driver.writev(0, [(DATA, 1024), (DATA, -512)]), "length", -512),
    "a read of more than a chain holds": (lambda driver: driver.read(0, DATA, 2**32), "length", 2**32),
    "a discard from inside a sector": (lambda driver: driver.discard(1, 512), "offset", 1),
    "a discard of part of a sector": (lambda driver: driver.discard(0, 100), "length", 100),
    "a discard of nothing": (lambda driver: driver.discard(0, 0), "length", 0),
    "a discard of more than 32 bits of sectors": (
        lambda driver: driver.discard(0, 512 * 2**32),
        "length",
        512 * 2**32,
    ),
    "zeros from inside a sector": (lambda driver: driver.write_zeroes(256, 512), "offset", 256),
    "zeros on part of a sector": (lambda driver: driver.write_zeroes(0, 513), "length", 513),
}


@pytest.mark.parametrize(("call", "argument", "value"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_can_never_be_is_refused_and_nothing_is_added(bench, call, argument, value):
    with pytest.raises(CallerError) as refused:
        call(bench.driver)
    assert (refused.value.argument, refused.value.value) == (argument, value)
    assert bench.device.available() == []
    assert bench.driver.outstanding == []
    assert bench.queue.free == 16


@pytest.mark.parametrize("address", [MEMORY_SIZE - 511, MEMORY_SIZE, 2**64 - 512])
def test_a_buffer_outside_the_memory_is_refused_before_the_device_sees_it(bench, address):
    for call in (bench.driver.read, bench.driver.write):
        with pytest.raises(AddressError):
            call(0, address, 512)
    assert bench.device.available() == []


def test_a_full_queue_refuses_and_what_was_refused_leaves_no_context(bench):
    for number in range(5):
        bench.driver.read(0, DATA, 512, number)
    with pytest.raises(RingFull):  # one descriptor is left
        bench.driver.flush("too much")
    assert bench.driver.outstanding == [0, 1, 2, 3, 4]
    assert len(bench.device.available()) == 5


def test_an_indirect_request_with_more_buffers_than_its_table_is_the_callers_mistake():
    """It will never fit, however many completions are taken first."""
    bench = Bench(features=INDIRECT_DESC, indirect=True)
    with pytest.raises(CallerError):
        bench.driver.readv(0, [(DATA, 512)] * 7)  # 9 with header and status, in a table of 8
    assert bench.driver.readv(0, [(DATA, 512)] * 6) == 0


@pytest.mark.parametrize("size", [0, 32])
def test_a_queue_without_room_for_header_segment_and_status_is_the_callers_mistake(size):
    queue = Virtqueue(GuestMemory.from_ranges([(0, MEMORY_SIZE)]), 1, request_size=size)
    with pytest.raises(CallerError, match=f"33 bytes of its own.*{size}") as refused:
        BlockDriver(queue).flush()
    assert refused.value.argument == "queue"
    assert queue.free == 1
