"""A raw file with a map: each line's stretch at its address, and a map that cannot be right is refused by its line."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.images.image_checks import (
    assert_holds,
    assert_keeps_to_the_rules,
    checks_of,
    regions_to_write,
    runs_of,
    source_of,
)
from vmbus.errors import DumpError
from vmbus.images import FilePlace, MemoryMap, load_mapped, memory_map, parse_map, read_map
from vmbus.inspection import MissingMemory

IOMEM = """\
00000000-00000fff : Reserved
00001000-0000100b : System RAM
000a0000-000bffff : PCI Bus 0000:00
000f0000-000fffff : System ROM
00100000-0010000f : System RAM
  00100000-00100007 : Kernel code
  00100008-0010000b : System RAM
100000000-100000003 : System RAM (kexec)
200000000-200000003 : System RAM
"""


def dump_of(data, text):
    return load_mapped(source_of(data), parse_map(text))


def refusal(text):
    with pytest.raises(DumpError) as caught:
        parse_map(text, "map.txt")
    assert caught.value.path == "map.txt"
    return str(caught.value).removeprefix("map.txt: ")


# -- maps that are right ---------------------------------------------------------------------------


def test_lines_of_address_length_and_offset_say_where_memory_is():
    data = b"a" * 0x1000 + b"b" * 0x2000
    dump = dump_of(data, "0x1000 0x1000 0\n0x100000 0x2000 0x1000\n")
    assert (dump.format, dump.findings) == ("raw+map", [])
    assert runs_of(dump) == [(0x1000, 0x2000, "present"), (0x100000, 0x102000, "present")]
    assert dump.read(0x100000, 4) == b"bbbb"
    assert dump.where(0x100000) == FilePlace("image", 0x1000)
    with pytest.raises(MissingMemory, match="0x2000 has no memory"):
        dump.read(0x1FFF, 2)


def test_top_level_lines_of_system_ram_lie_one_behind_the_other():
    dump = dump_of(b"left memory.the right one...HIGH", IOMEM)
    assert dump.findings == []
    assert runs_of(dump) == [
        (0x1000, 0x100C, "present"),
        (0x100000, 0x100010, "present"),
        (0x200000000, 0x200000004, "present"),
    ]
    assert dump.read(0x1000, 12) == b"left memory."
    assert dump.read(0x100000, 16) == b"the right one..."
    assert dump.read(0x200000000, 4) == b"HIGH"


@pytest.mark.parametrize(
    "text",
    [
        "4096 4 0",
        "0x1000 4 0",
        "0b1000000000000 0x4 0x0",
        "4_096\t4   0  # low memory",
        "\n# all there is\n\n0x1000 4 0\n#",
        "0x1000 4 0\r\n",
    ],
)
def test_numbers_comments_and_empty_lines_are_as_people_write_them(text):
    assert [tuple(segment)[:3] for segment in parse_map(text).segments] == [(0x1000, 4, 0)]


def test_numbers_may_have_what_they_have_on_a_command_line():
    segments = parse_map("1M 0x1K 1_0\n1g 4k 0x2_0").segments
    assert [tuple(one)[:3] for one in segments] == [(1 << 20, 1024, 10), (1 << 30, 4096, 32)]


@settings(max_examples=100, deadline=None)
@given(regions_to_write(), st.integers(0, 20))
def test_every_byte_is_where_the_map_says_and_nothing_else_is_there(regions, gap):
    data, lines = bytearray(), []
    for address, content in regions:
        data += bytes(gap)
        lines.append(f"{address:#x} {len(content)} {len(data):#x}")
        data += content
    dump = dump_of(bytes(data), "\n".join(lines))
    assert dump.findings == []
    assert_holds(dump, regions)


@settings(max_examples=100, deadline=None)
@given(regions_to_write())
def test_lines_of_iomem_in_order_are_running_offsets(regions):
    assume(any(address + len(content) > 1 for address, content in regions))  # else all numbers are 0
    lines = [
        f"{address:08x}-{address + len(content) - 1:08x} : System RAM\n  {address:08x}-{address:08x} : inside"
        for address, content in regions
    ]
    dump = dump_of(b"".join(content for _, content in regions), "\n".join(lines))
    assert_holds(dump, regions)


def test_a_map_is_read_from_its_file(tmp_path):
    path = tmp_path / "iomem"
    path.write_text(IOMEM)
    assert read_map(path).segments == parse_map(IOMEM).segments
    assert read_map(str(path)).name == str(path)


# -- a file and a map that do not fit --------------------------------------------------------------


def test_what_the_map_has_behind_the_end_of_the_file_is_lost():
    dump = dump_of(b"left", "0x1000 4 0\n0x2000 4 2\n0x3000 4 9223372036854775808")
    assert runs_of(dump) == [
        (0x1000, 0x1004, "present"),
        (0x2000, 0x2002, "present"),
        (0x2002, 0x2004, "lost"),
        (0x3000, 0x3004, "lost"),
    ]
    assert checks_of(dump) == ["image-cut-short"]


def test_a_file_with_more_than_its_map_says_is_a_finding():
    dump = dump_of(b"left and right", "0x1000 4 0")
    assert [(finding.check, finding.message) for finding in dump.findings] == [
        ("image-map", "10 bytes at 0x4 of it are not in the map, perhaps a map of another file")
    ]


def test_stretches_that_overlap_in_memory_are_a_finding():
    dump = dump_of(b"leftright", "0x1000 4 0\n0x1002 5 4")
    assert dump.read(0x1000, 7) == b"leftght"
    assert checks_of(dump) == ["image-overlap"]


# -- maps that are wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no memory in it"),
        ("# nothing\n\n", "has no memory in it"),
        ("00001000-00001fff : Reserved\n", "has no memory in it"),
        ("0x1000 0x1000", "line 1 has 2 words, not address, length and offset: '0x1000 0x1000'"),
        ("\n0x1000 4 0 PRESENT", "line 2 has 4 words, not address, length and offset: '0x1000 4 0 PRESENT'"),
        ("0x1000 4 zero", "line 1 has 'zero', which is no number: write 4096, 0x1000, 4_096 or 4K"),
        ("0x1000 9f000 0", "line 1 has '9f000', which is no number: write 0x9f000 for hex"),
        ("00001000 4 0", "line 1 has '00001000', which is no number: write 0x1000 for hex"),
        ("0x1000 4K_ 0", "line 1 has '4K_', which is no number: write 4096, 0x1000, 4_096 or 4K"),
        ("K 4 0", "line 1 has 'K', which is no number: write 4096, 0x1000, 4_096 or 4K"),
        ("0x1000 4 " + "9" * 5000, f"line 1 has '{'9' * 30}', which is no number: write 4096, 0x1000, 4_096 or 4K"),
        ("0x1000 0x400000000g 0", "line 1 has 0x400000000g, which is not in 64 bits"),
        ("0x1000 -4 0", "line 1 has -4, which is not in 64 bits"),
        ("0x10000000000000000 4 0", "line 1 has 0x10000000000000000, which is not in 64 bits"),
        ("0x1000 0 0", "line 1 has a length of 0"),
        ("0xffffffffffffffff 2 0", "line 1 goes over the end of 64-bit addresses: 2 bytes at 0xffffffffffffffff"),
        ("00001000-00001fff : System RAM\n0x2000 4 0", "line 2 is no line of /proc/iomem: '0x2000 4 0'"),
        ("00001000-00000fff : System RAM", "line 1 ends at 0xfff, before it starts at 0x1000"),
        ("00001000-10000000000000000 : System RAM", "line 1 ends at 0x10000000000000000, above 64 bits"),
    ],
)  # fmt: skip
def test_a_map_that_is_wrong_is_refused_with_the_line_and_the_fault(text, why):
    assert re.sub("9{31,}", "9" * 30, refusal(text)) == why


def test_a_map_that_the_kernel_filled_with_zeros_is_refused_with_what_helps():
    text = re.sub(r"[0-9a-f]{8,}", "00000000", IOMEM)
    assert "CAP_SYS_ADMIN; read it as root" in refusal(text)


def test_a_map_with_more_lines_than_the_cap_is_refused(monkeypatch):
    monkeypatch.setattr(memory_map, "MOST_LINES", 3)
    parse_map("0x1000 4 0\n\n\n")
    assert refusal("0x1000 4 0\n\n\n\n") == "has 4 lines; a map has at most 3"


def test_a_map_with_more_bytes_than_the_cap_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_map, "LARGEST_MAP", 20)
    path = tmp_path / "map"
    path.write_text("0x1000 4 0".ljust(20))
    read_map(path)
    path.write_text("0x1000 4 0".ljust(21))
    with pytest.raises(DumpError, match="has more than 20 bytes, too many for a map"):
        read_map(path)


def test_a_map_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DumpError, match="cannot be read: "):
        read_map(tmp_path / "nothing")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text("0123456789abcdefx- :#\tSystemRAM", max_size=40),
            st.builds("{:#x} {} {}".format, *[st.integers(0, 2**65)] * 3),
            st.builds("{:x}-{:x} : System RAM".format, *[st.integers(0, 2**65)] * 2),
        ),
        max_size=5,
    ).map("\n".join)
)
def test_any_text_is_refused_or_a_map(text):
    try:
        found: MemoryMap = parse_map(text)
    except DumpError:
        return
    assert_keeps_to_the_rules(lambda source: load_mapped(source, found), b"some bytes of memory")
