"""What a debugger or another library reads is looked at like a file: scanned, walked, judged."""

from __future__ import annotations

import pytest

from tests.helpers import SAMPLES
from vmbus.images import DumpMemory
from vmbus.images.space_dump import SpaceDump, dump_over
from vmbus.inspection import MissingMemory, RawDump, Run, State, find_rings, inspect_dump, scan
from vmbus.memory import AddressError, AddressSpace

RING = (SAMPLES / "ring-5-pages.bin").read_bytes()
ADDRESS = 0x7654000


def read(address: int, length: int) -> bytes:
    return RING[address - ADDRESS : address - ADDRESS + length]


def space() -> AddressSpace:
    return AddressSpace.from_reader(read, [(ADDRESS, len(RING))])


def test_a_ring_in_an_address_space_is_found_and_shown():
    report = scan(space())
    assert [(ring.address, ring.data_size) for ring in report.rings] == [(ADDRESS, len(RING) - 4096)]
    assert (report.path, report.format, report.size) == ("memory", "memory", len(RING))
    (place,) = find_rings(space())
    assert (place.address, place.data_size) == (ADDRESS, len(RING) - 4096)
    (ring,) = inspect_dump(space()).rings
    (from_file,) = inspect_dump(RawDump("ring", memoryview(RING))).rings
    assert [packet.payload for packet in ring.packets] == [packet.payload for packet in from_file.packets]
    assert ring.waiting == 6


def test_the_ring_at_an_address_is_sized_by_its_packets():
    (place,) = find_rings(space(), address=ADDRESS)
    assert (place.data_size, place.data_size_known) == (len(RING) - 4096, True)


def test_regions_in_touch_are_one_run_and_others_are_holes():
    dump = SpaceDump(AddressSpace([(0, bytes(8)), (8, b"RING"), (20, b"far")]), "three")
    assert list(dump.runs()) == [Run(0, 12, State.PRESENT), Run(20, 23, State.PRESENT)]
    assert list(dump.runs(4, 21)) == [Run(4, 12, State.PRESENT), Run(20, 21, State.PRESENT)]
    assert dump.read(6, 4) == b"\0\0RI"
    assert dump.where(0) is None
    with pytest.raises(MissingMemory) as caught:
        dump.read(10, 4)
    assert (caught.value.address, caught.value.state, caught.value.path) == (12, None, "three")


def test_a_dump_stays_what_it_is():
    dump = RawDump("x", memoryview(b"RING"))
    assert dump_over(dump) is dump


# -- and a dump as memory for virtqueues ---------------------------------------------------------


def test_a_dump_is_memory_that_begins_where_its_base_is():
    memory = DumpMemory(RawDump("x", memoryview(b"01234567")), base=0x1000)
    assert memory.read(0x1002, 3) == b"234"
    assert memory.read(0, 0) == b""
    memory.check_range(0x1000, 8)


@pytest.mark.parametrize(
    "address, length, blamed", [(0xFFF, 2, 0xFFF), (0x1006, 3, 0x1008), (0x2000, 1, 0x2000)]
)
def test_what_a_dump_does_not_have_is_an_address_error(address, length, blamed):
    memory = DumpMemory(RawDump("x", memoryview(b"01234567")), base=0x1000)
    for method in (memory.read, memory.check_range):
        with pytest.raises(AddressError) as caught:
            method(address, length)
        assert caught.value.address == blamed
