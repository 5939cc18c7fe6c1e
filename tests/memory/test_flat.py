"""FlatRingMem takes every buffer a ring can lie in, and refuses the rest with a CallerError."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
from struct import Struct

import pytest

from tests.helpers import pattern
from tests.memory.children import in_child, needs_fork
from vmbus.errors import CallerError
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing, connected_rings
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE

TWO_PAGES = 2 * PAGE_SIZE


def test_memory_of_its_own_is_zeroed_and_can_be_written():
    memory = FlatRingMem(3 * PAGE_SIZE)
    assert memory.size == 3 * PAGE_SIZE
    assert memory.read_at(0, memory.size) == bytes(memory.size)
    assert list(memory.control) == [0] * 32
    assert repr(memory) == "<FlatRingMem: 12288 bytes of data>"


@pytest.mark.parametrize("size", [-PAGE_SIZE, 0, 1, 4095, 4097, 6144, MAXIMUM_DATA_SIZE + 1, 2**31, 2**64])
def test_a_size_no_ring_has_is_refused(size):
    with pytest.raises(CallerError) as caught:
        FlatRingMem(size)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == (
        "size",
        size,
        2**31 - PAGE_SIZE,
    )


@pytest.mark.parametrize("header_size", [4096, 16384, 65536])
def test_the_data_begins_behind_the_header(header_size):
    image = bytearray(header_size + TWO_PAGES)
    image[header_size : header_size + 5] = b"first"
    image[-4:] = b"last"
    memory = FlatRingMem.over(image, header_size=header_size)
    assert memory.size == TWO_PAGES
    assert memory.read_at(TWO_PAGES - 4, 9) == b"lastfirst"
    memory.control[0] = 1
    assert image[0] == 1
    assert not any(image[4:header_size])


@pytest.mark.parametrize("header_size", [0, -4096, 128, 4095, 8192, 12288, 32768, 131072])
def test_another_header_size_is_refused(header_size):
    with pytest.raises(CallerError) as caught:
        FlatRingMem.over(bytearray(65536 + PAGE_SIZE), header_size=header_size)
    assert (caught.value.argument, caught.value.value) == ("header_size", header_size)


@pytest.mark.parametrize("header_size", [4096, 16384, 65536])
@pytest.mark.parametrize("data_size", [-65536, -1, 0, 1, 8, 4095, 4097, 4104])
def test_a_buffer_of_a_size_no_ring_has_is_refused(header_size, data_size):
    with pytest.raises(CallerError) as caught:
        FlatRingMem.over(bytearray(max(header_size + data_size, 0)), header_size=header_size)
    assert caught.value.argument == ("buffer" if data_size <= 0 else "size")


BUFFERS = {
    "bytearray": lambda size: bytearray(size),
    "mmap": lambda size: mmap.mmap(-1, size),
    "view of an mmap": lambda size: memoryview(mmap.mmap(-1, size)),
    "a slice of an mmap": lambda size: memoryview(mmap.mmap(-1, size + 2 * PAGE_SIZE))[PAGE_SIZE:-PAGE_SIZE],
    "a slice at an odd word": lambda size: memoryview(mmap.mmap(-1, size + PAGE_SIZE))[4 : 4 + size],
    "32-bit items": lambda size: array.array("I", bytes(size)),
    "floating-point items": lambda size: array.array("d", bytes(size)),
    "characters": lambda size: memoryview(bytearray(size)).cast("c"),
    "two dimensions": lambda size: memoryview(bytearray(size)).cast("B", (size // 64, 64)),
    "ctypes": lambda size: (ctypes.c_ubyte * size)(),
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS.keys())
def test_a_ring_lies_in_any_buffer_that_can_be_written(make):
    buffer = make(3 * PAGE_SIZE)
    sender, receiver = connected_rings(memory=FlatRingMem.over(buffer), start=TWO_PAGES - 24)
    sender.send(pattern(100))
    assert receiver.receive()[0].payload == pattern(100) + bytes(4)
    image = memoryview(buffer).cast("B") if memoryview(buffer).format != "B" else memoryview(buffer)
    assert bytes(image.tobytes()[0:4]) == (104).to_bytes(4, "little")  # 128 bytes, from 24 before the end
    assert image.tobytes()[PAGE_SIZE : PAGE_SIZE + 92] == pattern(100)[8:]


@pytest.mark.parametrize("shift", range(1, 9))
def test_a_control_page_that_would_tear_is_refused(shift):
    buffer = memoryview(mmap.mmap(-1, TWO_PAGES + PAGE_SIZE))[shift : shift + TWO_PAGES]
    if shift % 4 == 0:
        assert FlatRingMem.over(buffer).size == PAGE_SIZE
        return
    with pytest.raises(CallerError, match="see half a store") as caught:
        FlatRingMem.over(buffer)
    assert caught.value.limit == 4
    assert caught.value.value % 4 == shift % 4


@pytest.mark.parametrize("shift", range(4))
def test_a_read_only_ring_may_start_anywhere(shift):
    image = bytes(shift) + (64).to_bytes(4, "little") + bytes(TWO_PAGES)
    memory = FlatRingMem.over(memoryview(image)[shift : shift + TWO_PAGES])
    assert memory.control[0] == 64


READ_ONLY = {
    "bytes": lambda image: image,
    "read-only view": lambda image: memoryview(bytearray(image)).toreadonly(),
    "read-only mmap": None,
}


@pytest.fixture(params=READ_ONLY)
def read_only(request, tmp_path):
    """A function that makes a read-only buffer of an image."""
    if request.param != "read-only mmap":
        return READ_ONLY[request.param]

    def mapped(image):
        path = tmp_path / "image"
        path.write_bytes(image)
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    return mapped


def image_with(payloads: list[bytes]) -> bytes:
    """A ring with packets that wait."""
    image = bytearray(TWO_PAGES)
    sender, _ = connected_rings(memory=FlatRingMem.over(image))
    sender.send_many(payloads)
    return bytes(image)


def test_a_ring_in_read_only_bytes_can_be_read(read_only):
    image = image_with([b"one-----", b"two-----"])
    memory = FlatRingMem.over(read_only(image))
    receiver = IncomingRing(memory)
    incoming = receiver.incoming()
    payloads = [receiver.read(incoming).payload.reader(receiver).read_all() for _ in range(2)]
    assert payloads == [b"one-----", b"two-----"]
    assert not receiver.can_read(incoming)
    assert "read-only" in repr(memory)


def test_a_write_to_read_only_bytes_is_the_callers_error(read_only):
    image = image_with([bytes(8)])
    buffer = read_only(image)
    memory = FlatRingMem.over(buffer)
    receiver = IncomingRing(memory)
    incoming = receiver.incoming()
    packet = receiver.read(incoming)
    for write in (
        lambda: memory.write_at(0, b"x"),
        lambda: memory.write_at(PAGE_SIZE - 1, b"wraps"),
        lambda: memory.packer(Struct("<I"))(0, 1),
        lambda: packet.payload.writer(receiver).write(b"x"),
        lambda: packet.payload.writer(receiver).fill(0, 1),
        lambda: packet.payload.write_aligned_full(receiver, [1]),
        lambda: receiver.commit_read(incoming),
        lambda: receiver.set_interrupt_mask(False),
        receiver.receive,
        receiver.receive_many,
        lambda: receiver.receive_into(bytearray(8)),
        lambda: OutgoingRing(memory),
    ):
        with pytest.raises(CallerError, match="read-only"):
            write()
    assert memoryview(buffer).tobytes() == image


@pytest.mark.parametrize(
    "wrong",
    [None, "text", 8192, memoryview(bytearray(2 * TWO_PAGES))[::2], memoryview(bytes(2 * TWO_PAGES))[::2]],
    ids=["None", "text", "number", "every second byte", "every second byte, read-only"],
)
def test_what_is_no_block_of_bytes_is_refused(wrong):
    with pytest.raises(CallerError) as caught:
        FlatRingMem.over(wrong)
    assert caught.value.argument == "buffer"


def test_two_ring_memories_over_one_buffer_are_one_ring():
    buffer = bytearray(TWO_PAGES)
    sender = connected_rings(memory=FlatRingMem.over(buffer))[0]
    receiver = IncomingRing(FlatRingMem.over(buffer))
    sender.send(b"the same")
    assert receiver.receive()[0].payload == b"the same"


@needs_fork
def test_a_forked_child_shares_memory_of_its_own():
    sender, receiver = connected_rings(size=PAGE_SIZE)

    def child():
        assert receiver.receive()[0].payload == b"to child"
        receiver.memory.write_at(4090, b"wrapped!")

    sender.send(b"to child")
    assert in_child(child) == 0
    assert sender.memory.read_at(4090, 8) == b"wrapped!"
    assert receiver.memory.control[1] == 32


@needs_fork
def test_a_forked_child_has_its_own_copy_of_a_bytearray():
    memory = FlatRingMem.over(bytearray(TWO_PAGES))
    assert in_child(lambda: memory.write_at(0, b"gone")) == 0
    assert memory.read_at(0, 4) == bytes(4)


@needs_fork
def test_an_error_in_a_child_is_seen(capfd):
    def fail():
        raise AssertionError(os.getpid())

    assert in_child(fail) != 0
    assert "AssertionError" in capfd.readouterr().err
