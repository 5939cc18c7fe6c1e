"""A raw file that is memory with rings in it is shown as that, and one that is a ring as a ring."""

from __future__ import annotations

import os
import struct

import pytest

from tests.helpers import SAMPLES
from vmbus.errors import DumpError
from vmbus.images import RawDump, open_dump
from vmbus.inspection import Selection, diff, find_rings, inspect_dump, memory_of
from vmbus.memory import FlatRingMem
from vmbus.ring import connected_rings

RING = (SAMPLES / "ring-5-pages.bin").read_bytes()


def memory(first_page: bytes = bytes(4096)) -> RawDump:
    """Half a mebibyte with a ring in its middle."""
    image = first_page + bytes(0x40000 - 4096) + RING
    return RawDump("memory.raw", memoryview(image.ljust(0x80000, b"\0")))


@pytest.mark.parametrize("first_page", [bytes(4096), b"\xff" * 4096, struct.pack("<I", 12).ljust(4096, b"x")])
def test_rings_are_looked_for_where_the_file_does_not_begin_with_one(first_page):
    (place,) = find_rings(memory(first_page))
    assert (place.address, place.data_size, place.data_size_known) == (0x40000, len(RING) - 4096, True)


def test_the_ring_at_an_address_ends_where_its_packets_say_and_not_where_the_file_does():
    (ring,) = inspect_dump(memory(), address=0x40000).rings
    assert (ring.place.data_size, len(ring.packets), ring.findings) == (len(RING) - 4096, 6, [])


def test_another_ring_far_behind_it_is_not_its_second_ring():
    image = bytes(memory().data[:0x60000]) + RING + bytes(4096)
    (place,) = find_rings(RawDump("memory.raw", memoryview(image)), address=0x40000)
    assert (place.data_size, place.role) == (len(RING) - 4096, None)


def test_a_page_of_zeros_before_data_that_is_no_ring_is_still_a_ring_that_was_cleared():
    stale = bytes(4096) + RING[4096:]
    (place,) = find_rings(RawDump("cleared.bin", memoryview(stale)))
    assert (place.address, place.data_size) == (0, len(RING) - 4096)


def test_a_ring_that_is_cut_short_is_refused_and_not_taken_for_memory():
    with pytest.raises(DumpError, match="are no ring"):
        find_rings(RawDump("cut.bin", memoryview(RING[:-100])))


def test_a_file_that_is_cut_short_while_it_is_looked_at_is_an_error(tmp_path):
    """And no SIGBUS: nothing is mapped."""
    file = tmp_path / "ring.bin"
    file.write_bytes(RING)
    with open_dump(file) as dump:
        (place,) = find_rings(dump, address=0)
        ring = memory_of(dump, place)
        os.truncate(file, 8192)
        with pytest.raises(DumpError, match=r"ends at|not all there"):
            ring.read_at(3 * 4096, 16)
        report = inspect_dump(dump, address=0, data_size=place.data_size, selection=Selection(history=True))
        assert (report.rings[0].waiting, report.rings[0].recovered < 69) == (6, True)


def test_a_ring_that_went_round_exactly_once_is_not_stuck():
    """The same indices and the same packet waiting, and everything behind out is new."""
    before = FlatRingMem(4096)
    sender, receiver = connected_rings(memory=before)
    snapshots = []
    for lap in (b"first", b"later"):
        for number in range(127):
            sender.send(lap[:1] * 8 if number < 126 else b"the same")
            if number < 126:
                receiver.receive()
        receiver.set_interrupt_mask(False)
        snapshots.append(
            FlatRingMem.over(bytes(before.control.cast("B")).ljust(4096, b"\0") + before.read_at(0, 4096))
        )
        receiver.receive()
        sender.send(b"one more")  # 128 packets of 32 bytes are a lap
        receiver.receive()
    one, other = snapshots
    compared = diff(one, other)
    assert (compared.moved, compared.stuck) == (True, [])
    assert [finding.check for finding in compared.findings] == ["data-changed"]
    still = diff(one, one)
    assert (still.moved, len(still.stuck)) == (False, 1)
