"""GuestMemory: writing, fields, words and packers over an AddressSpace; forked children see the same.

Sources: rust-vmm vm-memory, Bytes for GuestMemory; CPython Objects/memoryobject.c.
"""

from __future__ import annotations

import mmap
import weakref
from struct import Struct

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import binary, integers, lists, sampled_from, tuples

from tests.helpers import pattern
from tests.known_bugs import known_bug
from tests.memory.children import in_child, needs_fork
from vmbus.errors import CallerError
from vmbus.memory import FENCES, AddressError, Fences, GuestMemory, SharedMemory, barrier, guest_memory
from vmbus.virtio import connected_virtqueues

TOP = 2**64
SIZES = [1, 2, 4, 8]


def new_memory() -> GuestMemory:
    """1000-10ff and 1100-11ff, which touch, and 2000-20ff."""
    return GuestMemory([(start, bytearray(0x100)) for start in (0x1000, 0x1100, 0x2000)])


def contents(memory: GuestMemory) -> list[bytes]:
    return [region.view.tobytes() for region in memory.regions]


# -- writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recent", [0x1000, 0x2000], ids=["where it was last", "elsewhere"])
def test_a_range_is_there_and_writable_whether_or_not_it_was_used_last(recent):
    memory = GuestMemory([(0x1000, bytes(0x100)), (0x2000, bytearray(0x100))])
    memory.read(recent, 1)
    memory.check_range(0x1000, 0x100)
    memory.check_range(0x2000, 0x100, writable=True)
    for address, length, writable in (
        (0x1000, 1, True),
        (0x1000, 0x101, False),
        (0x20FF, 2, True),
        (0xFFF, 1, False),
    ):
        memory.read(recent, 1)
        with pytest.raises(AddressError):
            memory.check_range(address, length, writable=writable)
    with pytest.raises(CallerError):
        memory.check_range(0x1000, -1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_that_were_written_are_read_back(kind):
    memory = new_memory()
    memory.write(0x1010, kind(b"written"))
    assert memory.read(0x100F, 9) == b"\0written\0"


@pytest.mark.parametrize("warm", [0x1000, 0x1100, 0x2000])
def test_a_write_crosses_into_the_region_that_touches(warm):
    memory = new_memory()
    memory.view(warm, 1)
    memory.write(0x10FD, b"across")
    assert contents(memory)[0][-3:] + contents(memory)[1][:3] == b"across"
    assert memory.read(0x10FD, 6) == b"across"


@pytest.mark.parametrize("warm", [0x1000, 0x1100, 0x2000])
@pytest.mark.parametrize(
    "address, length, hole",
    [
        (0x11FE, 3, 0x1200),
        (0x10FE, 0x200, 0x1200),
        (0xFFF, 4, 0xFFF),
        (0x1FFF, 2, 0x1FFF),
        (0x3000, 1, 0x3000),
    ],
)
def test_nothing_is_written_when_a_part_is_missing(address, length, hole, warm):
    memory = new_memory()
    memory.view(warm, 1)
    before = contents(memory)
    with pytest.raises(AddressError) as caught:
        memory.write(address, b"x" * length)
    assert caught.value.address == hole
    assert contents(memory) == before


@known_bug("V07")
def test_a_write_past_the_top_of_memory_does_not_go_on_at_0():
    memory = GuestMemory([(0, bytearray(0x1000)), (TOP - 0x1000, bytearray(0x1000))])
    before = contents(memory)
    for address, length in ((TOP - 1 - 0x800, 0x900), (TOP - 1, 2), (TOP, 1)):
        with pytest.raises(AddressError) as caught:
            memory.write(address, b"x" * length)
        assert caught.value.address == TOP
    assert contents(memory) == before
    memory.write(TOP - 1, b"z")
    assert memory.read(TOP - 1, 1) == b"z"


@pytest.mark.parametrize("address", [0, 0x1000, 0x1100, 0x1200, TOP])
def test_no_bytes_can_be_written_anywhere(address):
    memory = new_memory()
    memory.write(address, b"")
    assert contents(memory) == [bytes(0x100)] * 3


# -- memory that can only be read --------------------------------------------------------------------


def read_only_between() -> GuestMemory:
    return GuestMemory([(0x1000, bytearray(0x100)), (0x1100, pattern(0x100)), (0x1200, bytearray(0x100))])


@pytest.mark.parametrize("warm", [0x1000, 0x1100])
@pytest.mark.parametrize(
    "address, length, blamed",
    [(0x1100, 4, 0x1100), (0x10FE, 4, 0x1100), (0x11FE, 4, 0x11FE), (0x1000, 0x300, 0x1100)],
)
def test_nothing_is_written_when_a_part_is_read_only(address, length, blamed, warm):
    memory = read_only_between()
    memory.view(warm, 1)
    before = contents(memory)
    with pytest.raises(AddressError, match="read-only") as caught:
        memory.write(address, b"x" * length)
    assert caught.value.address == blamed
    assert contents(memory) == before


def test_a_read_only_region_can_be_read_by_every_means():
    memory = read_only_between()
    assert memory.read(0x1100, 0x100) == pattern(0x100)
    assert memory.load_field(0x1104, 4) == int.from_bytes(pattern(8)[4:], "little")
    assert memory.halfwords(0x1102, 2)[1] == int.from_bytes(pattern(6)[4:], "little")
    assert memory.unpacker(Struct("<HH"), 0x1100, 0x100)(4) == Struct("<HH").unpack(pattern(8)[4:])
    assert memory.view(0x1100, 1).readonly


def test_every_means_of_storing_refuses_a_read_only_region():
    memory = read_only_between()
    for store in (
        lambda: memory.store_field(0x1100, 2, 1),
        lambda: memory.packer(Struct("<H"), 0x1100, 2),
    ):
        with pytest.raises(AddressError, match="read-only") as caught:
            store()
        assert caught.value.address == 0x1100
    with pytest.raises(TypeError):
        memory.halfwords(0x1100, 2)[0] = 1


# -- fields ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 1, 3, 0xF8])
def test_a_field_is_little_endian_wherever_it_lies(size, offset):
    memory = new_memory()
    memory.write(0x1000 + offset, pattern(8))
    value = memory.load_field(0x1000 + offset, size)
    assert value == int.from_bytes(pattern(8)[:size], "little")
    memory.store_field(0x1000 + offset, size, value ^ 0xA5)
    assert memory.read(0x1000 + offset, 8) == bytes([pattern(8)[0] ^ 0xA5]) + pattern(8)[1:]


@pytest.mark.parametrize("size", SIZES)
def test_a_field_takes_its_least_and_its_greatest_value(size):
    memory = new_memory()
    for value in (0, 1, (1 << 8 * size) - 1):
        memory.store_field(0x1000, size, value)
        assert memory.load_field(0x1000, size) == value
        assert memory.read(0x1000, size) == value.to_bytes(size, "little")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beyond", ["below", "above"])
def test_a_value_that_does_not_fit_a_field_is_refused(size, beyond):
    memory = new_memory()
    value = -1 if beyond == "below" else 1 << 8 * size
    with pytest.raises(CallerError) as caught:
        memory.store_field(0x1000, size, value)
    assert (caught.value.argument, caught.value.value) == ("value", value)
    assert caught.value.limit == (1 << 8 * size) - 1
    assert not any(contents(memory)[0])


@pytest.mark.parametrize("size", [0, 3, 5, 16, -1])
def test_a_field_of_another_size_is_refused(size):
    memory = new_memory()
    for access in (lambda: memory.load_field(0x1000, size), lambda: memory.store_field(0x1000, size, 0)):
        with pytest.raises(CallerError) as caught:
            access()
        assert (caught.value.argument, caught.value.value) == ("size", size)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_field_lies_inside_one_region(size):
    memory = new_memory()
    for address, hole in ((0x1101 - size, 0x1100), (0x1201 - size, 0x1200), (0x3000, 0x3000)):
        for access in (
            lambda address=address: memory.load_field(address, size),
            lambda address=address: memory.store_field(address, size, 1),
        ):
            with pytest.raises(AddressError) as caught:
                access()
            assert caught.value.address == hole
    assert contents(memory) == [bytes(0x100)] * 3


@pytest.mark.parametrize("size", SIZES)
def test_a_big_endian_machine_swaps_fields_and_refuses_words(monkeypatch, size):
    """Seen from here: the swap of a machine that is little-endian after all."""
    memory = new_memory()
    monkeypatch.setattr(guest_memory.sys, "byteorder", "big")
    memory.store_field(0x1000, size, 0x1F)
    assert memory.read(0x1000, size) == (0x1F).to_bytes(size, "big")
    assert memory.load_field(0x1000, size) == 0x1F
    with pytest.raises(CallerError, match="little-endian"):
        memory.halfwords(0x1000, 2)


# -- words, packers ----------------------------------------------------------------------------------


def test_words_are_the_bytes_themselves_two_at_a_time():
    memory = new_memory()
    words = memory.halfwords(0x1010, 3)
    words[1] = 0x1234
    assert memory.read(0x1010, 6) == b"\0\0\x34\x12\0\0"
    memory.write(0x1014, b"\xff\x01")
    assert words[2] == 0x01FF
    with pytest.raises(IndexError):
        words[3]
    with pytest.raises(IndexError):
        words[3] = 0


@pytest.mark.parametrize("address", [0x1001, 0x1003, 0x10FD])
def test_words_at_an_odd_address_are_refused(address):
    with pytest.raises(CallerError) as caught:
        new_memory().halfwords(address, 1)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("address", address, "even")


def test_words_that_lie_odd_in_this_process_are_refused():
    """The guest's address is even, and the store would still be torn."""
    shifted = memoryview(bytearray(0x101))[1:]
    memory = GuestMemory([(0x1000, shifted)])
    with pytest.raises(CallerError, match="multiple of 2") as caught:
        memory.halfwords(0x1000, 4)
    assert caught.value.limit == 2
    assert caught.value.value % 2 == 1
    # A region that starts at an odd address over an even buffer: its even addresses lie odd.
    memory = GuestMemory([(0x1001, bytearray(0x100))])
    with pytest.raises(CallerError, match="multiple of 2"):
        memory.halfwords(0x1002, 4)
    memory = GuestMemory([(0x1001, shifted)])
    memory.halfwords(0x1002, 4)[0] = 1
    assert shifted[1] == 1


@pytest.mark.parametrize(
    "address, count, hole", [(0x10FE, 2, 0x1100), (0x11FE, 2, 0x1200), (0x1200, 1, 0x1200)]
)
def test_words_lie_inside_one_region(address, count, hole):
    with pytest.raises(AddressError) as caught:
        new_memory().halfwords(address, count)
    assert caught.value.address == hole


def test_a_packer_stores_and_an_unpacker_loads_at_an_offset_of_its_range():
    memory = new_memory()
    record = Struct("<QIHH")
    pack, unpack = memory.packer(record, 0x1020, 0x40), memory.unpacker(record, 0x1020, 0x40)
    pack(0x10, 0x1122334455667788, 9, 8, 7)
    assert memory.read(0x1030, 16) == record.pack(0x1122334455667788, 9, 8, 7)
    assert unpack(0x10) == (0x1122334455667788, 9, 8, 7)
    assert unpack(0) == (0, 0, 0, 0)
    assert memory.read(0x1020, 0x10) == bytes(0x10)


def test_a_packer_does_not_reach_behind_its_range():
    memory = new_memory()
    record = Struct("<QIHH")
    pack, unpack = memory.packer(record, 0x1020, 0x40), memory.unpacker(record, 0x1020, 0x40)
    for access in (lambda: pack(0x31, 1, 2, 3, 4), lambda: unpack(0x31)):
        with pytest.raises(Exception, match="buffer"):
            access()
    assert contents(memory) == [bytes(0x100)] * 3


@pytest.mark.parametrize("means", ["packer", "unpacker"])
@pytest.mark.parametrize(
    "address, length, hole", [(0x10F0, 0x11, 0x1100), (0x11F0, 0x11, 0x1200), (0x500, 1, 0x500)]
)
def test_a_packers_range_lies_inside_one_region(means, address, length, hole):
    with pytest.raises(AddressError) as caught:
        getattr(new_memory(), means)(Struct("<H"), address, length)
    assert caught.value.address == hole


# -- made of ranges, shared --------------------------------------------------------------------------


def test_memory_made_of_ranges_is_zeroed_and_each_range_its_own():
    memory = GuestMemory.from_ranges([(0x3000, 0x1000), (0x1000, 0x800)])
    assert contents(memory) == [bytes(0x800), bytes(0x1000)]
    memory.write(0x1000, b"one")
    assert memory.read(0x3000, 3) == bytes(3)
    assert [(region.start, region.end) for region in memory.regions] == [(0x1000, 0x1800), (0x3000, 0x4000)]


@pytest.mark.parametrize("size", [0, -1, -4096])
def test_a_range_of_no_bytes_is_refused(size):
    with pytest.raises(CallerError) as caught:
        GuestMemory.from_ranges([(0x1000, size)])
    assert (caught.value.argument, caught.value.value) == ("ranges", size)


@pytest.mark.parametrize("ranges", [[], [(0, 4096), (4095, 4096)], [(TOP - 1, 4096)], [(-1, 16)]])
def test_ranges_that_cannot_be_regions_are_refused(ranges):
    with pytest.raises(CallerError):
        GuestMemory.from_ranges(ranges)


@needs_fork
def test_a_forked_child_sees_and_changes_the_same_bytes():
    memory = GuestMemory.from_ranges([(0x1000, 4096), (0x2000, 4096)])
    memory.write(0x1FFC, b"from the parent")

    def child() -> None:
        assert memory.read(0x1FFC, 15) == b"from the parent"
        memory.write(0x1FFC, b"from the child!")
        memory.halfwords(0x2100, 1)[0] = 0xBEEF
        memory.store_field(0x2108, 8, 2**64 - 1)

    assert in_child(child) == 0
    assert memory.read(0x1FFC, 15) == b"from the child!"
    assert memory.load_field(0x2100, 2) == 0xBEEF
    assert memory.load_field(0x2108, 8) == 2**64 - 1


def test_memory_over_a_mapping_writes_through_to_it():
    mapped = mmap.mmap(-1, 8192)
    memory = GuestMemory([(0x1000, mapped)])
    memory.write(0x1005, b"through")
    assert mapped[5:12] == b"through"


# -- fences ------------------------------------------------------------------------------------------


def test_the_fences_are_the_machines_own_or_those_that_were_given():
    memory = new_memory()
    if FENCES is not None:
        assert (memory.acquire, memory.release, memory.fence) == FENCES[:3]
    calls: list[str] = []
    given = Fences(
        *(lambda name=name: calls.append(name) for name in ("acquire", "release", "full")), "a test's"
    )
    for memory in (
        GuestMemory([(0, bytearray(16))], fences=given),
        GuestMemory.from_ranges([(0, 16)], fences=given),
    ):
        memory.acquire()
        memory.release()
        memory.fence()
    assert calls == ["acquire", "release", "full"] * 2


def test_without_a_known_fence_shared_memory_is_refused_and_private_memory_is_not(monkeypatch):
    monkeypatch.setattr(barrier, "FENCES", None)
    GuestMemory([(0, bytearray(16)), (16, b"bytes")]).fence()
    for shared in (
        lambda: GuestMemory.from_ranges([(0, 16)]),
        lambda: GuestMemory([(0, bytearray(16)), (4096, mmap.mmap(-1, 16))]),
        lambda: GuestMemory([(0, memoryview(bytearray(16)))]),
    ):
        with pytest.raises(CallerError, match="no memory fence is known"):
            shared()


# -- against a model ---------------------------------------------------------------------------------


class MemoryAgainstTable(RuleBasedStateMachine):
    """Memory of several regions behaves like a table of address -> byte, errors and all.

    Regions are short and often touch, so that most accesses cross, or end in a hole.
    """

    @initialize(
        layout=lists(tuples(sampled_from([0, 0, 1, 4]), integers(1, 9)), min_size=1, max_size=5),
        base=sampled_from([0, 2, 0x1000, None]),
    )
    def make(self, layout, base):
        total = sum(hole + length for hole, length in layout)
        address = self.first = TOP - total if base is None else base
        self.length = total
        self.table: dict[int, int] = {}
        self.owner: dict[int, int] = {}
        regions = []
        for hole, length in layout:
            address += hole
            regions.append((address, bytearray(length)))
            for one in range(address, address + length):
                self.table[one] = 0
                self.owner[one] = address
            address += length
        self.memory = GuestMemory(regions)

    def hole(self, start: int, length: int) -> int | None:
        return next((one for one in range(start, start + length) if one not in self.table), None)

    def one_region(self, start: int, length: int) -> bool:
        return len({self.owner.get(one) for one in range(start, start + length)}) == 1

    @rule(offset=integers(-3, 40), data=binary(max_size=20))
    def write(self, offset, data):
        start = self.first + offset
        hole = self.hole(start, len(data))
        if hole is None:
            self.memory.write(start, data)
            self.table.update(enumerate(data, start))
        else:
            with pytest.raises(AddressError) as caught:
                self.memory.write(start, data)
            assert caught.value.address == hole

    @rule(offset=integers(-3, 40), length=integers(0, 20))
    def read(self, offset, length):
        start = self.first + offset
        hole = self.hole(start, length)
        if hole is None:
            assert list(self.memory.read(start, length)) == [
                self.table[one] for one in range(start, start + length)
            ]
        else:
            with pytest.raises(AddressError) as caught:
                self.memory.read(start, length)
            assert caught.value.address == hole

    @rule(offset=integers(-3, 40), size=sampled_from(SIZES), value=integers(0, 2**64 - 1))
    def store_and_load_a_field(self, offset, size, value):
        start, value = self.first + offset, value & (1 << 8 * size) - 1
        if self.hole(start, size) is None and self.one_region(start, size):
            self.memory.store_field(start, size, value)
            self.table.update(enumerate(value.to_bytes(size, "little"), start))
            assert self.memory.load_field(start, size) == value
        else:
            with pytest.raises(AddressError):
                self.memory.store_field(start, size, value)
            with pytest.raises(AddressError):
                self.memory.load_field(start, size)

    @invariant()
    def the_bytes_are_those_of_the_table(self):
        if hasattr(self, "memory"):
            stored = {
                region.start + offset: value
                for region in self.memory.regions
                for offset, value in enumerate(region.view.tobytes())
            }
            assert stored == self.table


TestMemoryAgainstTable = MemoryAgainstTable.TestCase
TestMemoryAgainstTable.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


def test_shared_memory_can_be_closed_behind_a_guest_memory_and_what_was_made_of_it():
    with SharedMemory.create(8192) as shared:
        with GuestMemory([(0, shared.map())]) as memory:
            driver, device = connected_virtqueues(8, memory=memory)
            driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 16))
            assert device.pop_descriptor_chain() is not None
            kept = [memory.view(0, 16), memory.halfwords(16, 2), *memory.views(32, 8)]
        memory.close()
        for view in kept:
            with pytest.raises(ValueError, match="released"):
                view[0]
        with pytest.raises(ValueError, match="released"):
            device.pop_descriptor_chain()


def test_views_that_nobody_has_any_more_are_forgotten():
    memory = GuestMemory.from_ranges([(0, 4096)])
    kept = memory.view(0, 4)
    for _ in range(5000):
        memory.view(4, 4)
    assert len(memory._lent) < 2000
    memory.close()
    with pytest.raises(ValueError, match="released"):
        kept[0]


def test_a_guest_memory_that_nobody_has_any_more_is_gone_at_once():
    memory = GuestMemory.from_ranges([(0, 4096)])
    memory.view(0, 4)
    gone = weakref.ref(memory)
    del memory
    assert gone() is None
