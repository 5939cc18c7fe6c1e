"""A ring's bytes come from wherever its pages are; those that are missing are told and never read as zeros."""

from __future__ import annotations

import struct
from random import Random

import pytest
from image_writers.elf import elf_core
from image_writers.kdump import kdump
from image_writers.scene_rings import RingWriter

from tests.inspection.scenes import dump_of_bytes
from vmbus.errors import CallerError, DumpError
from vmbus.images import open_dump
from vmbus.inspection import MissingMemory, RawDump, RingPlace, walk
from vmbus.inspection.ring_in_dump import DumpRingMem, check_pages, memory_of, missing_findings
from vmbus.ring import IncomingRing, OutgoingRing

PAGE = 4096
SIZE = 5 * PAGE
DATA = Random(1).randbytes(SIZE)
RING = struct.pack("<2I", 64, 32).ljust(PAGE, b"\0") + DATA


def without_pages(*numbers: int):
    """The ring at 0x10000 in an image that lacks some of its pages."""
    kept = [(0x10000 + at * PAGE, RING[at * PAGE :][:PAGE]) for at in range(6) if at not in numbers]
    return dump_of_bytes(kdump(kept, excluded=[0x10 + number for number in numbers]))


@pytest.mark.parametrize("form", ["raw", "elf", "kdump"])
def test_a_ring_in_one_piece_has_its_bytes(form):
    image = bytes(0x10000) + RING
    make = {
        "raw": lambda: RawDump("raw", memoryview(image)),
        "elf": lambda: dump_of_bytes(elf_core([(0x10000, RING)])),
        "kdump": lambda: dump_of_bytes(kdump([(0x10000, RING)])),
    }
    memory = memory_of(make[form](), RingPlace(0x10000, PAGE, SIZE))
    assert memory.size == SIZE
    assert list(memory.control[:2]) == [64, 32]
    assert memory.read_at(0, SIZE) == DATA
    assert memory.read_at(SIZE - 8, 16) == DATA[-8:] + DATA[:8]


def test_scattered_pages_are_put_in_their_order():
    order = [3, 0, 5, 1, 4, 2]
    regions = sorted(
        (0x20000 + 2 * PAGE * place, RING[number * PAGE :][:PAGE]) for place, number in enumerate(order)
    )
    pages = tuple(0x20000 + 2 * PAGE * order.index(number) for number in range(6))
    memory = memory_of(dump_of_bytes(elf_core(regions)), RingPlace(pages[0], PAGE, SIZE, pages=pages))
    assert memory.read_at(0, SIZE) == DATA


def test_a_wide_header_is_stepped_over():
    image = RING[:PAGE].ljust(65536, b"\xee") + DATA
    memory = memory_of(dump_of_bytes(elf_core([(0, image)])), RingPlace(0, 65536, SIZE))
    assert memory.read_at(0, SIZE) == DATA


@pytest.mark.parametrize(
    ("offset", "length", "missing"),
    [
        (PAGE - 8, 8, False),
        (PAGE - 8, 9, True),
        (PAGE, 1, True),
        (2 * PAGE - 1, 1, True),
        (2 * PAGE, PAGE, False),
        (SIZE - 8, 8 + PAGE, False),
        (SIZE - 8, 8 + PAGE + 1, True),
        (0, SIZE, True),
    ],
)
def test_a_byte_of_a_missing_page_cannot_be_read_and_all_others_can(offset, length, missing):
    memory = memory_of(without_pages(2), RingPlace(0x10000, PAGE, SIZE))
    if missing:
        with pytest.raises(MissingMemory) as caught:
            memory.read_at(offset, length)
        assert caught.value.address // PAGE == 0x12
    else:
        assert memory.read_at(offset, length) == (DATA + DATA)[offset : offset + length]


def test_a_record_in_a_missing_page_cannot_be_unpacked():
    memory = memory_of(without_pages(1), RingPlace(0x10000, PAGE, SIZE))
    unpack = memory.unpacker(struct.Struct("<Q"))
    assert unpack(PAGE) == struct.unpack_from("<Q", DATA, PAGE)
    with pytest.raises(MissingMemory):
        unpack(PAGE - 8)


def test_what_is_missing_is_a_finding_for_each_stretch():
    memory = memory_of(without_pages(1, 2, 4), RingPlace(0x10000, PAGE, SIZE))
    assert isinstance(memory, DumpRingMem)
    findings = list(missing_findings(memory))
    assert [(finding.check, finding.offset) for finding in findings] == [
        ("missing-memory", 0),
        ("missing-memory", 3 * PAGE),
    ]
    assert "8192 bytes" in findings[0].message and "0x11000" in findings[0].message


def test_of_many_stretches_the_first_are_listed_and_the_rest_counted():
    pages = 41
    kept = [(0, RING[:PAGE]), *((at * PAGE, DATA[:PAGE]) for at in range(2, pages, 2))]
    dump = dump_of_bytes(kdump(kept, excluded=range(1, pages, 2)))
    findings = list(missing_findings(memory_of(dump, RingPlace(0, PAGE, (pages - 1) * PAGE))))
    assert len(findings) == 11
    assert findings[-1].message.startswith(f"{10 * PAGE} more bytes")


def test_a_ring_without_its_control_page_cannot_be_shown():
    with pytest.raises(MissingMemory):
        memory_of(without_pages(0), RingPlace(0x10000, PAGE, SIZE))


def test_packets_are_walked_up_to_the_missing_page():
    writer = RingWriter(Random(2), SIZE)
    while writer.in_offset < 3 * PAGE:
        writer.send(512)
    image = writer.snapshot()
    kept = [(at * PAGE, image[at * PAGE :][:PAGE]) for at in range(6) if at != 2]
    memory = memory_of(dump_of_bytes(kdump(kept, excluded=[2])), RingPlace(0, PAGE, SIZE))
    walked = []
    with pytest.raises(MissingMemory):
        for one in walk(memory, 0, writer.in_offset):
            walked.append(one.offset)
    assert walked == [packet.start for packet in writer.packets if packet.start < PAGE]


@pytest.mark.parametrize(
    ("pages", "hint"),
    [
        ((), "0 pages"),
        ((4096,), "and 1 page is listed"),
        ((4096, 8200), "0x2008"),
        ([0] * (2**19 + 2), "524290 pages"),
    ],
)
def test_pages_in_which_no_ring_can_lie_are_refused(pages, hint):
    with pytest.raises(DumpError, match=hint):
        check_pages(pages, "list")


def test_who_looks_again_sees_what_is_there_by_then(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(RING)
    with open_dump(file) as dump:
        memory = memory_of(dump, RingPlace(0, PAGE, SIZE))
        unpack = memory.unpacker(struct.Struct("<Q"))
        before = unpack(64)
        with open(file, "r+b") as other:
            other.write(struct.pack("<2I", 72, 40))
            other.seek(PAGE + 64)
            other.write(bytes(8))
        assert unpack(64) == before  # read once, until it is asked for anew
        assert list(memory.control[:2]) == [72, 40]
        memory.acquire()
        assert unpack(64) == (0,)


def test_nothing_is_stored_into_a_dump(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(RING)
    with open_dump(file) as dump:
        memory = memory_of(dump, RingPlace(0, PAGE, SIZE))
        with pytest.raises(CallerError):
            memory.write_at(0, b"12345678")
        assert memory.control.readonly
        for end in (IncomingRing, OutgoingRing):
            with pytest.raises(CallerError):
                end(memory).set_interrupt_mask(True) if end is IncomingRing else end(memory)
    assert file.read_bytes() == RING


def test_a_dump_that_was_closed_says_so(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(RING)
    with open_dump(file) as dump:
        memory = memory_of(dump, RingPlace(0, PAGE, SIZE))
    with pytest.raises(CallerError, match="is closed"):
        memory.read_at(0, 16)
