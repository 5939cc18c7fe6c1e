"""ELF cores: what a segment stores is read, what it leaves out is not, and nothing in a file is taken on trust."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.elf import elf_core, elf_header, elf_load, elf_section

from tests.images.image_checks import (
    assert_holds,
    assert_keeps_to_the_rules,
    checks_of,
    damaged,
    peak_memory,
    place_of_refusal,
    regions_to_write,
    runs_of,
    source_of,
)
from vmbus.images import FilePlace
from vmbus.images.load_elf import MOST_PROGRAM_HEADERS, load
from vmbus.inspection import MissingMemory, State

#: Four bytes at 0x1000, as they stand in a file that was written by hand.
BY_HAND = bytes.fromhex(
    "7f 45 4c 46 02 01 01 00 00 00 00 00 00 00 00 00 04 00 3e 00 01 00 00 00"
    "00 00 00 00 00 00 00 00 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "00 00 00 00 40 00 38 00 01 00 00 00 00 00 00 00"
    "01 00 00 00 07 00 00 00 78 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "00 10 00 00 00 00 00 00 04 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00"
    "00 00 00 00 00 00 00 00"
    "52 49 4e 47"
)


def dump_of(data):
    return load(source_of(data))


def core_of(*headers, data=b"", **options):
    """A core of these program headers, with `data` behind them."""
    return elf_header(count=len(headers), **options) + b"".join(headers) + data


# -- what is there -------------------------------------------------------------------------------


def test_a_core_spelled_by_hand_is_read():
    dump = dump_of(BY_HAND)
    assert (dump.format, dump.size, dump.findings) == ("elf", 124, [])
    assert dump.read(0x1000, 4) == b"RING"
    assert runs_of(dump) == [(0x1000, 0x1004, "present")]
    assert dump.where(0x1002) == FilePlace("image", 122)


def test_the_writer_of_these_tests_writes_what_was_spelled_by_hand():
    assert elf_core([(0x1000, b"RING")]) == BY_HAND


@settings(max_examples=100, deadline=None)
@given(
    regions_to_write(),
    st.sampled_from([56, 57, 64, 4096]),
    st.booleans(),
    st.sampled_from([b"", b"a note"]),
)
def test_every_byte_of_every_region_is_read_and_nothing_else_is_there(regions, stride, extended, note):
    image = elf_core(regions, stride=stride, extended_count=extended, note=note)
    dump = dump_of(image)
    assert dump.findings == []
    assert_holds(dump, regions)
    for address, data in regions:
        place = dump.where(address + len(data) - 1)
        assert image[place.offset] == data[-1]


def test_the_machine_and_the_size_of_the_header_are_not_looked_at():
    """QEMU writes i386 before a guest is in long mode, and has written a wrong e_ehsize."""
    image = bytearray(elf_core([(0x1000, b"RING")], machine=3))
    image[52:54] = b"\x08\x00"
    assert dump_of(bytes(image)).read(0x1000, 4) == b"RING"


def test_memory_that_the_writer_left_out_is_excluded_and_not_zero():
    dump = dump_of(elf_core([(0x1000, b"kept"), (0x3000, b"more")], tails=[0x1FFC, 12]))
    assert runs_of(dump) == [
        (0x1000, 0x1004, "present"),
        (0x1004, 0x3000, "excluded"),
        (0x3000, 0x3004, "present"),
        (0x3004, 0x3010, "excluded"),
    ]
    with pytest.raises(MissingMemory, match="left out") as caught:
        dump.read(0x1000, 8)
    assert (caught.value.address, caught.value.state) == (0x1004, State.EXCLUDED)


def test_memory_that_is_stored_is_read_also_where_another_segment_leaves_it_out():
    dump = dump_of(elf_core([(0x1000, b"kept"), (0x1008, b"more")], tails=[100]))
    assert dump.read(0x1008, 4) == b"more"
    assert checks_of(dump) == ["image-overlap"]


def test_segments_without_a_physical_address_or_a_size_are_stepped_over():
    image = core_of(
        elf_load(offset=288, address=2**64 - 1, in_file=4, virtual=0xFFFFFFFFC0000000),
        elf_load(offset=288, address=0x9000, in_file=4, in_memory=0),
        elf_load(offset=288, address=0x1000, in_file=4),
        elf_load(offset=288, address=0x7000, in_file=4, kind=4),
        data=b"RING",
    )
    dump = dump_of(image)
    assert runs_of(dump) == [(0x1000, 0x1004, "present")]
    assert dump.read(0x1000, 4) == b"RING"
    assert dump.findings == []


def test_of_segments_that_overlap_the_first_is_taken_and_a_finding_says_so():
    dump = dump_of(elf_core([(0x1004, b"first"), (0x1000, b"the second one")]))
    assert dump.read(0x1000, 14) == b"the firstd one"
    assert checks_of(dump) == ["image-overlap"]


# -- very many segments --------------------------------------------------------------------------


def test_more_segments_than_the_header_can_count_are_all_read():
    regions = [(0x2000 * number, number.to_bytes(4, "little")) for number in range(70_000)]
    dump = dump_of(elf_core(regions, extended_count=True))
    assert sum(1 for _ in dump.runs()) == 70_000
    assert dump.read(0x2000 * 69_999, 4) == (69_999).to_bytes(4, "little")


def test_a_hundred_thousand_segments_are_opened_in_well_under_a_second():
    source = source_of(
        elf_core([(0x2000 * number, b"page") for number in range(100_000)], extended_count=True)
    )
    start = time.process_time()
    load(source)
    assert time.process_time() - start < 1


def test_a_count_that_stands_nowhere_is_refused():
    message, place = place_of_refusal(load, core_of()[:56] + b"\xff\xff" + bytes(6))
    assert (
        message
        == "says that it has 65535 program headers or more, and has no section header with their number"
    )
    assert place == 0


def test_a_count_behind_the_end_of_the_file_is_refused():
    image = elf_header(count=0xFFFF, sections_at=2**63, section_count=1)
    message, place = place_of_refusal(load, image)
    assert "before the section header at 0x8000000000000000" in message
    assert place == 2**63


# -- what is not a memory image --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why", "place"),
    [
        (core_of(elf_class=1), "is a 32-bit ELF file; only 64-bit cores are read", 4),
        (core_of(byte_order=2), "is a big-endian ELF file; only little-endian cores are read", 5),
        (core_of(elf_class=3), "has ELF class 3 and byte order 1, not 2 and 1", 4),
        (core_of(kind=2), "is a program, not a core (type 4)", 16),
        (core_of(kind=3), "is a shared library, not a core (type 4)", 16),
        (core_of(kind=0xFE00), "is an ELF file of type 65024, not a core (type 4)", 16),
        (core_of(), "has no memory in it: none of 0 program headers has a physical address and a size", 64),
        (core_of(stride=0), "has no memory in it: none of 0 program headers has a physical address and a size", 64),
        (core_of(elf_load(offset=0, address=0, in_file=0), stride=55), "has program headers of 55 bytes; 56 is the least", 0),
        (b"\x7fELF\x01", "64 bytes at 0x0 are not all there: it ends at 0x5", 0),
        (BY_HAND[:63], "64 bytes at 0x0 are not all there: it ends at 0x3f", 0),
        (BY_HAND[:100], "ends at 0x64, before its program headers at 0x40", 64),
        (b"RING" * 20, "is no ELF file", 0),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_the_place(image, why, place):
    assert place_of_refusal(load, image) == (why, place)


@pytest.mark.parametrize("virtual", [[0x400000, 0x7FFF0000], [0, 0x400000], [2**63, 2**63 + 4096]])
def test_the_core_of_a_process_is_refused(virtual):
    """OpenHCL's own dumps are such: virtual addresses alone."""
    message, _ = place_of_refusal(load, elf_core([(0, b"text"), (0, b"data")], virtual=virtual))
    assert message.startswith("is a core of a process: ")


@pytest.mark.parametrize("virtual", [0, 0xFFFF888000000000])
def test_memory_in_one_piece_from_address_0_is_no_process(virtual):
    assert dump_of(elf_core([(0, b"all of it")], virtual=[virtual])).read(0, 3) == b"all"


def test_one_segment_of_a_program_is_a_process():
    assert "process" in place_of_refusal(load, elf_core([(0, b"text")], virtual=[0x400000]))[0]


@pytest.mark.parametrize("name", [".xen_pfn", ".xen_p2m"])
def test_a_xen_core_is_named_as_unsupported(name):
    names = b"\0.shstrtab\0" + name.encode() + b"\0"
    sections = (elf_section(), elf_section(name=1, offset=256, size=len(names)), elf_section(name=11))
    image = elf_header(count=0, sections_at=64, section_count=3, names_in=1) + b"".join(sections) + names
    assert place_of_refusal(load, image) == (
        f"is a Xen core (it has a section {name}), which is not supported",
        64,
    )


def test_sections_of_other_names_do_no_harm():
    image = elf_core([(0x1000, b"RING")], extended_count=True)
    assert dump_of(image).read(0x1000, 4) == b"RING"


# -- what is cut short or damaged ------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(BY_HAND)))
def test_a_core_that_is_cut_anywhere_is_refused_or_says_what_is_lost(length):
    dump = assert_keeps_to_the_rules(load, BY_HAND[:length])
    if length < 120:
        assert dump is None
        return
    assert checks_of(dump) == ["image-cut-short"]
    assert dump.read(0x1000, length - 120) == b"RING"[: length - 120]
    with pytest.raises(MissingMemory, match="is lost: the file ends before") as caught:
        dump.read(0x1000, 4)
    assert (caught.value.address, caught.value.state) == (0x1000 + length - 120, State.LOST)


def test_a_core_that_ends_within_its_program_headers_has_those_that_are_there():
    headers = [elf_load(offset=64, address=0x1000 * number, in_file=8) for number in range(1, 4)]
    dump = dump_of(core_of(*headers)[:-1])
    assert runs_of(dump) == [(0x1000, 0x1008, "present"), (0x2000, 0x2008, "present")]
    assert [finding.message for finding in dump.findings] == [
        "the file ends within its program headers: 2 of 3 are there"
    ]


def test_a_core_that_makedumpfile_could_not_finish_says_so():
    dump = dump_of(elf_core([(0x1000, b"RING")], flags=1))
    assert checks_of(dump) == ["image-cut-short"]
    assert "disk" in dump.findings[0].message


def test_a_segment_larger_than_any_file_costs_nothing_and_is_lost():
    image = core_of(elf_load(offset=120, address=0, in_file=2**63), data=b"RING")
    assert peak_memory(lambda: dump_of(image)) < 4 << 20
    dump = dump_of(image)
    assert runs_of(dump) == [(0, 4, "present"), (4, 2**63, "lost")]
    assert dump.read(0, 4) == b"RING"


def test_a_segment_over_the_end_of_the_addresses_is_cut_there():
    dump = dump_of(core_of(elf_load(offset=120, address=2**64 - 4, in_file=8), data=b"RINGRING"))
    assert runs_of(dump) == [(2**64 - 4, 2**64, "present")]
    assert checks_of(dump) == ["image-damaged"]


def test_a_segment_with_more_in_the_file_than_in_memory_gives_what_memory_has():
    dump = dump_of(core_of(elf_load(offset=120, address=0x1000, in_file=8, in_memory=4), data=b"RINGRING"))
    assert runs_of(dump) == [(0x1000, 0x1004, "present")]
    assert checks_of(dump) == ["image-damaged"]


def test_four_billion_program_headers_that_are_not_there_cost_nothing():
    image = elf_core([(0x1000, b"RING")], extended_count=True).replace(
        elf_section(info=1), elf_section(info=2**32 - 1)
    )
    assert peak_memory(lambda: assert_keeps_to_the_rules(load, image)) < 4 << 20
    assert "image-cut-short" in checks_of(dump_of(image))


class Endless(type(source_of(b""))):
    """As many zeros as a sparse file can have, behind some bytes."""

    def __init__(self, data):
        super().__init__("image", memoryview(data))
        self.size = 2**60

    def read_into(self, offset, buffer):
        found = self.data[offset : offset + len(buffer)]
        buffer[:] = bytes(found).ljust(len(buffer), b"\0")


def test_more_program_headers_than_the_cap_are_refused_and_as_many_are_read_without_much_memory():
    def image(count):
        section = elf_section(info=count)
        return Endless(elf_header(count=0xFFFF, headers_at=4096, sections_at=64, section_count=1) + section)

    def refused(count):
        with pytest.raises(Exception, match=r"program headers") as caught:
            load(image(count))
        return str(caught.value)

    assert refused(2**32 - 1) == (
        f"image: has 4294967295 program headers; {MOST_PROGRAM_HEADERS} is the most that are read"
    )
    assert peak_memory(lambda: refused(MOST_PROGRAM_HEADERS // 16)) < 8 << 20


@settings(max_examples=120, deadline=None)
@given(
    damaged(
        st.builds(
            lambda regions, extended, stride: elf_core(regions, extended_count=extended, stride=stride),
            regions_to_write(most=20),
            st.booleans(),
            st.sampled_from([56, 60]),
        )
    )
)
def test_a_damaged_core_is_refused_or_read_as_far_as_it_goes(image):
    assert_keeps_to_the_rules(load, image)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_behind_the_right_beginning_are_refused_or_read(rest):
    assert_keeps_to_the_rules(load, BY_HAND[:40] + rest)
    assert_keeps_to_the_rules(load, BY_HAND[:64] + rest)
