"""SlowMemory and SlowGuestMemory: they answer as the memory inside, and somebody may act between any two parts."""

from __future__ import annotations

import struct

import pytest

from tests.helpers import MEMORIES, image_of
from vmbus.errors import CallerError
from vmbus.fuzzing import Access, SlowGuestMemory, SlowMemory, check_ring_memory
from vmbus.memory import AddressError, FlatRingMem, GuestMemory
from vmbus.ring import connected_rings
from vmbus.virtio import VirtioFeatures, connected_virtqueues

RECORD = struct.Struct("<HHHHQ")  # 16 bytes: two parts
SHORT = struct.Struct("<HHI")


def ignore(access: Access) -> None:
    pass


def shown(accesses: list[Access]) -> list[str]:
    """What was done, where and how long; those that are only about to be done are left out."""
    return [f"{one.what} {one.place}+{one.length}" for one in accesses if one.done]


@pytest.mark.parametrize(("inside", "part_size"), [("flat", 8), ("paged", 100), ("slow", None)])
def test_a_slow_memory_is_a_ring_memory(inside, part_size):
    report = check_ring_memory(
        lambda size: SlowMemory(MEMORIES[inside](size), ignore, part_size=part_size), sizes=(4096,)
    )
    report.raise_for_failures()


def test_each_access_is_told_of_before_and_behind_it_with_its_value_behind_it():
    seen: list[Access] = []
    inside = FlatRingMem(4096)
    memory = SlowMemory(inside, seen.append)
    memory.control[3] = 40
    assert memory.control[3] == 40
    memory.acquire()
    memory.write_at(16, b"8 bytes.")
    assert memory.read_at(16, 8) == b"8 bytes."
    assert seen == [
        Access("store", 3, 4, 40),
        Access("store", 3, 4, 40, True),
        Access("load", 3, 4),
        Access("load", 3, 4, 40, True),
        Access("acquire"),
        Access("acquire", done=True),
        Access("write", 16, 8, b"8 bytes."),
        Access("write", 16, 8, b"8 bytes.", True),
        Access("read", 16, 8),
        Access("read", 16, 8, b"8 bytes.", True),
    ]


@pytest.mark.parametrize("what", ["store", "write"])
def test_before_an_access_nothing_has_happened_and_behind_it_all_of_it(what):
    inside = FlatRingMem(4096)
    looks = []
    memory = SlowMemory(
        inside, lambda access: looks.append((inside.control[0], inside.read_at(0, 4), access.done))
    )
    if what == "store":
        memory.control[0] = 8
    else:
        memory.write_at(0, b"data")
    before = (0, bytes(4), False)
    assert looks == [before, (8, bytes(4), True) if what == "store" else (0, b"data", True)]


def test_long_accesses_go_in_parts_that_end_at_multiples_of_their_size():
    seen: list[Access] = []
    memory = SlowMemory(FlatRingMem(4096), seen.append)
    memory.write_at(4, bytes(range(20)))
    assert shown(seen) == ["write 4+4", "write 8+8", "write 16+8"]
    assert [one.begins for one in seen if one.done] == [True, False, False]
    seen.clear()
    assert memory.read_at(4090, 14) == bytes(14)[:6] + bytes(4) + bytes(range(4))
    assert shown(seen) == ["read 4090+6", "read 4096+8"]


def test_records_go_in_parts_only_where_they_are_longer_than_one():
    seen: list[Access] = []
    memory = SlowMemory(FlatRingMem(4096), seen.append)
    memory.packer(RECORD)(32, 1, 2, 3, 4, 5)
    assert memory.unpacker(RECORD)(32) == (1, 2, 3, 4, 5)
    memory.packer(SHORT)(0, 1, 2, 3)
    assert memory.unpacker(SHORT)(0) == (1, 2, 3)
    assert shown(seen) == [
        *("write 32+8", "write 40+8", "read 32+8", "read 40+8"),
        *("write 0+8", "read 0+8"),
    ]
    seen.clear()
    whole = SlowMemory(FlatRingMem(4096), seen.append, part_size=None)
    whole.packer(RECORD)(32, 1, 2, 3, 4, 5)
    assert whole.unpacker(RECORD)(32) == (1, 2, 3, 4, 5)
    assert shown(seen) == ["write 32+16", "read 32+16"]


def test_whoever_acts_in_the_middle_of_a_read_is_seen_by_its_second_half_alone():
    inside = FlatRingMem(4096)
    inside.write_at(0, b"A" * 24)

    def between(access: Access) -> None:
        if access.what == "read" and access.place == 8 and not access.done:
            inside.write_at(0, b"B" * 24)

    assert SlowMemory(inside, between).read_at(0, 24) == b"A" * 8 + b"B" * 16


def test_whoever_looks_in_the_middle_of_a_write_sees_half_of_it():
    inside = FlatRingMem(4096)
    halves = []
    memory = SlowMemory(inside, lambda access: halves.append(inside.read_at(0, 16)))
    memory.write_at(0, b"A" * 16)
    assert b"A" * 8 + bytes(8) in halves


def test_what_between_raises_ends_the_access_before_it_is_done():
    class Stop(Exception):
        pass

    def between(access: Access) -> None:
        if access.place == 8:
            raise Stop

    inside = FlatRingMem(4096)
    with pytest.raises(Stop):
        SlowMemory(inside, between).write_at(0, b"A" * 16)
    assert inside.read_at(0, 16) == b"A" * 8 + bytes(8)


def test_a_part_has_at_least_one_byte():
    for part_size in (0, -8):
        with pytest.raises(CallerError):
            SlowMemory(FlatRingMem(4096), ignore, part_size=part_size)


@pytest.mark.parametrize("part_size", [8, 3, None])
def test_a_ring_over_slow_memory_leaves_the_same_bytes(part_size):
    images = []
    for slow in (False, True):
        inside = FlatRingMem(4096)
        memory = SlowMemory(inside, ignore, part_size=part_size) if slow else inside
        sender, receiver = connected_rings(memory=memory, start=4040)
        for length in (0, 16, 100, 16):
            sender.send(bytes(range(length)), transaction_id=length)
        assert len(receiver.receive_many()[0]) == 4
        images.append(image_of(inside))
    assert images[0] == images[1]


def test_a_read_only_memory_stays_read_only():
    memory = SlowMemory(FlatRingMem.over(bytes(8192)), ignore)
    assert memory.control.readonly is True
    assert memory.read_at(0, 16) == bytes(16)
    with pytest.raises(CallerError):
        memory.write_at(0, b"x")


# -- guest memory ----------------------------------------------------------------------------------


def guest_memory() -> GuestMemory:
    return GuestMemory([(0x1000, bytearray(0x3000)), (0x8000, bytes(64))])


@pytest.mark.parametrize("part_size", [8, None])
@pytest.mark.parametrize("packed", [0, int(VirtioFeatures.RING_PACKED)], ids=["split", "packed"])
def test_a_queue_over_slow_memory_leaves_the_same_bytes(packed, part_size):
    images = []
    for slow in (False, True):
        inside = guest_memory()
        memory = SlowGuestMemory(inside, ignore, part_size=part_size) if slow else inside
        driver, device = connected_virtqueues(
            4, VirtioFeatures.VERSION_1 | packed, request_size=32, memory=memory, address=0x1000
        )
        for _ in range(6):
            driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 32, from_dev=True))
            chain = device.pop_descriptor_chain()
            device.add_used(chain.head_index, chain.write_all(b"an answer of twenty "))
            assert next(driver.completions()).request[:20] == b"an answer of twenty "
        images.append(inside.read(0x1000, 0x3000))
    assert images[0] == images[1]


def test_reads_and_writes_of_guest_memory_go_in_parts_and_halfwords_whole():
    seen: list[Access] = []
    memory = SlowGuestMemory(guest_memory(), seen.append)
    memory.write(0x1004, b"twelve bytes")
    assert memory.read(0x1004, 12) == b"twelve bytes"
    words = memory.halfwords(0x1100, 4)
    words[3] = 7
    assert words[3] == 7
    memory.packer(RECORD, 0x1200, 64)(16, 1, 2, 3, 4, 5)
    assert memory.unpacker(RECORD, 0x1200, 64)(16) == (1, 2, 3, 4, 5)
    memory.fence()
    assert [f"{one.what} {one.place:#x}+{one.length}" for one in seen if one.done] == [
        *("write 0x1004+4", "write 0x1008+8", "read 0x1004+4", "read 0x1008+8"),
        *("store 0x1106+2", "load 0x1106+2"),
        *("write 0x1210+8", "write 0x1218+8", "read 0x1210+8", "read 0x1218+8", "fence 0x0+0"),
    ]


@pytest.mark.parametrize(
    "access",
    [
        lambda memory: memory.write(0x3FF8, bytes(16)),
        lambda memory: memory.write(0x8000, b"x"),
        lambda memory: memory.read(0x3FF8, 16),
        lambda memory: memory.read(0x7000, 1),
        lambda memory: memory.packer(RECORD, 0x8000, 64),
        lambda memory: memory.unpacker(RECORD, 0x7000, 64),
    ],
)
def test_what_is_not_all_in_memory_is_refused_before_any_part_of_it_is_touched(access):
    seen: list[Access] = []
    inside = guest_memory()
    with pytest.raises(AddressError):
        access(SlowGuestMemory(inside, seen.append))
    assert seen == [] and inside.read(0x3FF8, 8) == bytes(8)
