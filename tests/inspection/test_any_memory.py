"""Whatever has the bytes of rings is checked, walked and recovered: a memory, a dump, an address space."""

from __future__ import annotations

import struct

import pytest
from image_writers.elf import elf_core

from tests.helpers import SAMPLES
from tests.inspection.scenes import dump_of_bytes, expected, small_scene
from vmbus.errors import PeerError
from vmbus.images import RawDump, open_dump
from vmbus.inspection import RingPlace, check, find_rings, inspect_dump, memory_of, recover, walk
from vmbus.memory import AddressSpace, FlatRingMem
from vmbus.ring import RingFault

RING = (SAMPLES / "ring-5-pages.bin").read_bytes()
ADDRESS = 0x7654000


def space() -> AddressSpace:
    return AddressSpace.from_reader(lambda at, length: RING[at - ADDRESS :][:length], [(ADDRESS, len(RING))])


def test_memory_of_any_kind_is_checked_walked_and_recovered():
    assert [finding.check for finding in check(space())] == []
    memory = memory_of(RawDump("ring", memoryview(RING)), RingPlace(0, 4096, len(RING) - 4096))
    assert check(memory) == []
    walked = [packet.offset for packet in walk(memory)]
    assert len(walked) == 6 and walked == [packet.offset for packet in walk(memory, 0x88, 0x7A0)]
    assert len(recover(memory)) == 69
    assert [*recover(memory)] == recover(memory, 0x7A0, 0x88)


@pytest.mark.parametrize("word, value, name", [(0, 4, "in"), (1, 1 << 20, "out"), (1, 20480, "out")])
def test_indices_that_are_no_offsets_cannot_be_walked_from(word, value, name):
    image = bytearray(RING)
    struct.pack_into("<I", image, 4 * word, value)
    memory = FlatRingMem.over(bytes(image))
    for walk_by_itself in (lambda: list(walk(memory)), lambda: recover(memory)):
        with pytest.raises(PeerError, match=f"{name} is {value:#x}") as caught:
            walk_by_itself()
        assert caught.value.kind is RingFault.INVALID_RING_POINTER


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_the_ring_at_an_address_of_an_image_is_what_the_scan_of_all_of_it_says(seed):
    """Its size and its pages may be told by another ring, or by messages anywhere in the image."""
    dump = dump_of_bytes(elf_core(small_scene(seed).regions))
    for ring in expected(small_scene(seed)):
        (place,) = find_rings(dump, address=ring.address)
        assert (place.pages, place.role, place.header_size) == (ring.pages, ring.role, ring.header_size)
        assert (place.data_size if place.data_size_known else None) == ring.data_size
        (alone,) = inspect_dump(dump, address=ring.address).rings
        (same,) = [one for one in inspect_dump(dump).rings if one.place.address == ring.address]
        assert (alone.verdict, alone.findings) == (same.verdict, same.findings)


def test_a_raw_file_that_is_too_large_for_a_ring_is_memory_with_rings_in_it(tmp_path):
    file = tmp_path / "memory.raw"
    with open(file, "wb") as stream:
        stream.truncate(64 << 20)
        stream.seek(0x123000)
        stream.write(RING)
    with open_dump(file) as dump:
        (place,) = find_rings(dump, address=0x123000)
        assert (place.data_size, place.data_size_known) == (len(RING) - 4096, True)
        assert len(inspect_dump(dump, address=0x123000).rings[0].packets) == 6
