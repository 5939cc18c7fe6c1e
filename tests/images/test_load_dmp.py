"""Windows crash dumps as memory images."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.dmp import windows_dump

from vmbus.errors import DumpError
from vmbus.images import BytesSource, FilePlace, Source
from vmbus.images.load_dmp import MOST_BITS, MOST_RANGES, load
from vmbus.inspection import Dump, MissingMemory, Severity, State

PAGE = 4096
KINDS = (1, 5, 6, 8, 9, 10)
BITMAPS = (5, 6)
LISTS = (8, 9, 10)


def opened(image: bytes) -> Dump:
    return load(BytesSource("memory.dmp", memoryview(image)))


def page(number: int) -> bytes:
    """A page that says which one it is."""
    return struct.pack("<Q", number) * 512


def pages(first: int, count: int) -> bytes:
    return b"".join(page(first + place) for place in range(count))


def regions(*ranges: tuple[int, int]) -> list[tuple[int, bytes]]:
    return [(first * PAGE, pages(first, count)) for first, count in ranges]


def checks(dump: Dump) -> list[str]:
    return [finding.check for finding in dump.findings]


def states(dump: Dump) -> list[tuple[int, int, State]]:
    """Runs, in pages."""
    return [(run.start // PAGE, run.end // PAGE, run.state) for run in dump.runs()]


# -- the recipes -----------------------------------------------------------------------------------


def filled_header(kind: int) -> bytearray:
    header = bytearray(b"PAGE" * 0x800)
    header[:8] = b"PAGEDU64"
    struct.pack_into("<Q", header, 0x10, 0x1AD000)
    struct.pack_into("<I", header, 0x30, 0x8664)
    struct.pack_into("<I", header, 0xF98, kind)
    return header


def test_a_full_dump_by_its_recipe() -> None:
    header = filled_header(1)
    struct.pack_into("<I4xQ6Q", header, 0x88, 3, 6, 1, 2, 0x100, 3, 0x100000, 1)
    image = bytes(header) + pages(1, 2) + pages(0x100, 3) + pages(0x100000, 1)
    assert len(image) == 32768
    assert windows_dump(regions((1, 2), (0x100, 3), (0x100000, 1)))[0x2000:] == image[0x2000:]

    dump = opened(image)
    assert dump.findings == []
    assert dump.where(0x102000) == FilePlace("memory.dmp", 0x6000)
    assert dump.read(0x102000, PAGE) == page(0x102)
    present = State.PRESENT
    assert states(dump) == [(1, 3, present), (0x100, 0x103, present), (0x100000, 0x100001, present)]
    assert dump.format == "windows-dmp64"


def test_a_bitmap_dump_by_its_recipe() -> None:
    second = bytearray(0x1000)
    second[:8] = b"SDMPDUMP"
    struct.pack_into("<QQQ", second, 0x20, 0x3000, 4, 16)
    second[0x38:0x3A] = b"\x26\x02"
    image = bytes(filled_header(5)) + bytes(second) + page(1) + page(2) + page(5) + page(9)
    assert windows_dump(regions((1, 2), (5, 1), (9, 1)), kind=5, bits=16)[0x2000:] == image[0x2000:]

    dump = opened(image)
    assert dump.findings == []
    assert [dump.read(number * PAGE, PAGE) for number in (1, 2, 5, 9)] == [page(1), page(2), page(5), page(9)]
    assert dump.where(9 * PAGE + 5) == FilePlace("memory.dmp", 0x6005)
    assert dump.where(3 * PAGE) is None
    assert [one[:2] for one in states(dump) if one[2] is State.PRESENT] == [(1, 3), (5, 6), (9, 10)]


def test_a_dump_of_ranges_by_its_recipe() -> None:
    second = bytearray(0x1000)
    struct.pack_into("<I8s4xQQ", second, 0, 0x40, b"RDMPDUMP", 0xFE0, 0x3000)
    struct.pack_into("<QQQQ", second, 0x30, 1, 2, 0x100, 1)
    image = bytes(filled_header(8)) + bytes(second) + pages(1, 2) + page(0x100)
    assert windows_dump(regions((1, 2), (0x100, 1)), kind=8)[0x2000:] == image[0x2000:]

    dump = opened(image)
    assert states(dump) == [(1, 3, State.PRESENT), (0x100, 0x101, State.PRESENT)]
    assert dump.read(0x100000, PAGE) == page(0x100)
    assert [(one.check, one.severity) for one in dump.findings] == [("dmp-partial", Severity.NOTE)]


# -- round trips -----------------------------------------------------------------------------------


@st.composite
def page_sets(draw: Any) -> list[tuple[int, int]]:
    """Ranges of pages in ascending order, never page 0, with which a list would end."""
    ranges: list[tuple[int, int]] = []
    at = 1
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.integers(0, 40) | st.just(32760) | st.just(40000))
        count = draw(st.integers(1, 6))
        ranges.append((at, count))
        at += count
    return ranges


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(kind: int) -> None:
    @given(page_sets())
    @settings(max_examples=40, deadline=None)
    def round_trip(ranges: list[tuple[int, int]]) -> None:
        dump = opened(windows_dump(regions(*ranges), kind=kind))
        assert all(finding.severity is Severity.NOTE for finding in dump.findings)
        there = {first + place for first, count in ranges for place in range(count)}
        seen = set()
        for run in dump.runs():
            if run.state is State.PRESENT:
                for number in range(run.start // PAGE, run.end // PAGE):
                    seen.add(number)
                    assert dump.read(number * PAGE, PAGE) == page(number)
        assert seen == there
        for run, following in zip([*dump.runs()], [*dump.runs()][1:], strict=False):
            assert run.end < following.start or (run.end == following.start and run.state != following.state)

    round_trip()


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_of_runs_is_cut_out_of_all_of_them(kind: int) -> None:
    dump = opened(
        windows_dump(regions((3, 4), (20, 2), (40000, 1)), kind=kind, known=[(2, 8), (20, 3), (40000, 2)])
    )
    everything = [*dump.runs()]
    for start in range(0, 24 * PAGE, PAGE // 2):
        for end in (start, start + 1, start + PAGE, start + 9 * PAGE, 2**64):
            wanted = [
                run._replace(start=max(run.start, start), end=min(run.end, end))
                for run in everything
                if max(run.start, start) < min(run.end, end)
            ]
            assert [*dump.runs(start, end)] == wanted


@pytest.mark.parametrize("kind", (5, 6, 8, 9, 10))
def test_memory_that_only_the_header_knows_of_was_left_out(kind: int) -> None:
    dump = opened(windows_dump(regions((3, 2)), kind=kind, known=[(1, 6), (10, 1)]))
    left_out, there = State.EXCLUDED, State.PRESENT
    assert states(dump) == [(1, 3, left_out), (3, 5, there), (5, 7, left_out), (10, 11, left_out)]
    assert dump.findings == []
    with pytest.raises(MissingMemory) as caught:
        dump.read(3 * PAGE, 3 * PAGE)
    assert (caught.value.address, caught.value.state) == (5 * PAGE, State.EXCLUDED)
    with pytest.raises(MissingMemory) as caught:
        dump.read(9 * PAGE, 1)
    assert caught.value.state is None


@pytest.mark.parametrize("kind", (5, 6, 8, 9, 10))
@pytest.mark.parametrize("known", ([(5, 2), (1, 2)], [(1, 2**63)], [(1, 2), (2, 2)], [(0, 0)] * 44))
def test_a_list_in_the_header_that_contradicts_itself_is_not_used(
    kind: int, known: list[tuple[int, int]]
) -> None:
    image = windows_dump(regions((3, 2)), kind=kind, known=known)
    dump = opened(image)
    assert "dmp-run-list" in checks(dump)
    assert dump.read(3 * PAGE, 2 * PAGE) == pages(3, 2)


def test_without_a_list_in_the_header_a_bitmap_says_that_it_cannot_tell() -> None:
    (run, _) = opened(windows_dump(regions((3, 2)), kind=5)).runs()
    assert run.state is State.EXCLUDED
    assert "does not say whether there is memory" in run.why


def test_an_arm64_dump_is_like_any_other() -> None:
    assert opened(windows_dump(regions((3, 2)), machine=0xAA64)).findings == []
    assert checks(opened(windows_dump(regions((3, 2)), machine=0x14C))) == ["dmp-machine"]


def test_the_42_runs_of_a_header_and_one_that_qemu_has_room_for_are_read() -> None:
    ranges = [(2 * place + 1, 1) for place in range(43)]
    dump = opened(windows_dump(regions(*ranges)))
    assert [one[0] for one in states(dump)] == [first for first, _ in ranges]


def test_runs_that_overlap_are_stored_twice_and_the_first_counts() -> None:
    image = windows_dump([(PAGE, pages(1, 3)), (2 * PAGE, pages(100, 4))])
    dump = opened(image)
    assert checks(dump) == ["image-overlap"]
    assert dump.read(PAGE, 5 * PAGE) == pages(1, 3) + pages(102, 2)


# -- refused by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why", "place"),
    [
        (
            windows_dump([], kind=2),
            r"a kernel dump of an old type \(2\); a complete, active or kernel",
            0xF98,
        ),
        (
            windows_dump([], kind=4),
            r"a small memory dump \(type 4\), which holds no physical memory; ",
            0xF98,
        ),
        (windows_dump([], kind=3), "a Windows dump of type 0x3; known are 1, 5, 6, 8, 9, 10", 0xF98),
        (windows_dump([], signature=b"PAGEDUMP"), "a 32-bit system, which is not supported; ", 4),
        (windows_dump([], signature=b"PAGEDUMP")[:0x1000], "a 32-bit system", 4),
        (windows_dump([], signature=b"PAGEDU32"), "does not begin as", 0),
        (bytes(filled_header(1)), 'has no run list .the text "PAGE"', 0x88),
        (windows_dump([], known=[], pages=0), "lists no memory", 0x2000),
        (windows_dump([(0, b"")] * 44), "has 44 runs of memory; a header has room for 43", 0x88),
        (
            windows_dump(regions((1, 1)), kind=5, second_signature=b"SDMPDUMB"),
            "has b'SDMPDUMB' where",
            0x2000,
        ),
        (
            windows_dump(regions((1, 1)), kind=8, second_signature=b"SDMPDUMP"),
            "has b'SDMPDUMP' where",
            0x2000,
        ),
        (windows_dump(regions((1, 1)))[:100], "ends at 0x64", 0),
        (windows_dump(regions((1, 1)))[:0xF9A], "ends at 0xf9a", 0),
        (windows_dump(regions((1, 1)), kind=5)[:0x2030], "ends at 0x2030", 0x2000),
        (windows_dump(regions((1, 1)), kind=9)[:0x2020], "ends at 0x2020", 0x2000),
        (windows_dump([], kind=5, bits=0), "a bitmap of 0 pages", 0x2030),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(image: bytes, why: str, place: int) -> None:
    with pytest.raises(DumpError, match=why) as caught:
        opened(image)
    assert caught.value.place == place
    assert caught.value.path == "memory.dmp"


def test_a_run_behind_the_last_address_ends_the_list() -> None:
    image = bytearray(windows_dump(regions((1, 1), (2, 1), (9, 1))))
    struct.pack_into("<QQ", image, 0xA8, 2**52 - 1, 2)
    dump = opened(bytes(image))
    assert checks(dump) == ["dmp-page-count", "dmp-range"]
    assert states(dump) == [(1, 2, State.PRESENT)]


# -- what contradicts itself, and what is cut short ------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        windows_dump(regions((1, 3)), pages=4),
        windows_dump(regions((1, 3)), kind=5, stored=2),
        windows_dump(regions((1, 3)), kind=10, stored=4),
    ],
)
def test_counts_that_disagree_are_a_finding(image: bytes) -> None:
    dump = opened(image)
    assert checks(dump) == ["dmp-page-count"]
    assert dump.read(PAGE, 3 * PAGE) == pages(1, 3)


def test_the_total_of_a_complete_dump_ends_its_list() -> None:
    dump = opened(windows_dump(regions((1, 3), (10, 2)), kind=10, stored=3))
    assert states(dump) == [(1, 4, State.PRESENT)]
    assert dump.findings == []


@pytest.mark.parametrize("too_much", (0, PAGE))
def test_a_list_without_room_for_its_end_ends_where_the_first_page_begins(too_much: int) -> None:
    ranges = [(2 * place + 1, 1) for place in range(253)]
    image = bytearray(windows_dump(regions(*ranges), kind=9))
    struct.pack_into("<Q", image, 0x2010, 0xFE0 + too_much)
    assert image[0x2FF0:0x3000] == struct.pack("<QQ", 505, 1)
    dump = opened(bytes(image))
    assert len(states(dump)) == 253
    assert checks(dump) == [*["dmp-ranges"] * bool(too_much), "dmp-partial"]


def test_bits_behind_the_last_page_mean_nothing() -> None:
    image = bytearray(windows_dump(regions((1, 2), (5, 1)), kind=5, bits=6))
    assert image[0x2038] == 0b100110
    image[0x2038] |= 0b11000000
    dump = opened(bytes(image))
    assert dump.findings == []
    assert states(dump)[-1] == (5, 6, State.PRESENT)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_behind_the_end_of_the_file_is_lost(kind: int) -> None:
    image = windows_dump(regions((1, 3), (8, 2)), kind=kind, known=[(1, 3), (8, 2)])
    dump = opened(image[: -PAGE - 100])
    assert checks(dump) == ["image-cut-short"]
    assert f"{PAGE + 100} bytes of memory, the first at {9 * PAGE - 100:#x}" in dump.findings[0].message
    assert dump.read(8 * PAGE, PAGE - 100) == page(8)[:-100]
    with pytest.raises(MissingMemory, match="is lost: the file ends before") as caught:
        dump.read(8 * PAGE, PAGE)
    assert caught.value.address == 9 * PAGE - 100
    assert dump.where(9 * PAGE) is None
    assert [*dump.runs()][-1][:3] == (9 * PAGE - 100, 10 * PAGE, State.LOST)


def test_a_bitmap_that_is_cut_short_leaves_the_rest_unknown() -> None:
    image = windows_dump(regions((1, 3), (100, 2)), kind=5, known=[(1, 110)])
    dump = opened(image[:0x203A])
    assert checks(dump) == ["image-cut-short", "image-cut-short"]
    left_out, lost = State.EXCLUDED, State.LOST
    assert states(dump) == [(1, 4, lost), (4, 16, left_out), (16, 102, lost)]


class Endless(Source):
    """A file that goes on: its start is given, the rest is one byte over and over."""

    def __init__(self, start: bytes, size: int, rest: int) -> None:
        self.path = "endless"
        self.size = size
        self.start = start
        self.rest = rest

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        given = self.start[offset : offset + len(buffer)]
        buffer[:] = given + bytes([self.rest]) * (len(buffer) - len(given))


@pytest.mark.parametrize("rest", (0x55, 0xFF))
def test_a_bitmap_of_64_gib_is_opened_in_under_a_second_and_its_runs_come_one_by_one(rest: int) -> None:
    bits = 1 << 24
    stored = bits if rest == 0xFF else bits // 2
    second = struct.pack("<8s24xQQQ", b"FDMPDUMP", 0x203000, stored, bits)
    source = Endless(bytes(filled_header(6)) + second, 1 << 40, rest)
    started = time.process_time()
    dump = load(source)
    first = next(dump.runs(bits * PAGE // 2))
    assert time.process_time() - started < 1
    assert dump.findings == []
    assert (first.start, first.end) == (
        bits * PAGE // 2,
        bits * PAGE if rest == 0xFF else bits * PAGE // 2 + PAGE,
    )
    last = dump.where(first.start)
    assert last is not None
    assert last.offset == 0x203000 + stored // 2 * PAGE


def test_a_bitmap_or_a_list_of_any_size_is_bounded() -> None:
    second = struct.pack("<8s24xQQQ", b"SDMPDUMP", 0x3000, 4, MOST_BITS + 1)
    with pytest.raises(DumpError, match=f"from 1 to {MOST_BITS} are read"):
        opened(bytes(filled_header(5)) + second)

    second = struct.pack("<I8s4xQQ16x", 0x40, b"RDMPDUMP", 2**62, 2**62 + 0x2020)
    started = time.process_time()
    with pytest.raises(DumpError, match="pages from page 0x101010101010101 on end behind the last address"):
        load(Endless(bytes(filled_header(8)) + second, 1 << 30, 0x01))
    assert time.process_time() - started < 5


def test_a_list_longer_than_is_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_RANGES >= 1 << 16
    monkeypatch.setattr("vmbus.images.load_dmp.MOST_RANGES", 3)
    dump = opened(windows_dump(regions((1, 1), (3, 1), (5, 1), (7, 1)), kind=9))
    assert [one[0] for one in states(dump)] == [1, 3, 5]
    assert "dmp-ranges" in checks(dump)


# -- any bytes -------------------------------------------------------------------------------------


def look_everywhere(dump: Dump) -> None:
    """Every read gives bytes or says what is missing; runs are in order and end."""
    before = -1
    for place, run in enumerate(dump.runs()):
        assert before < run.start < run.end <= 2**64
        before = run.end - 1
        for address in (run.start, run.end - 1):
            if run.state is State.PRESENT:
                assert len(dump.read(address, 1)) == 1
                assert dump.where(address) is not None
            else:
                with pytest.raises(MissingMemory):
                    dump.read(address, 1)
                assert dump.where(address) is None
        if place > 300:
            break
    for address in (0, PAGE, 1 << 20, 2**52, 2**64 - 1):
        try:
            assert len(dump.read(address, 1)) == 1
        except MissingMemory as error:
            assert error.address == address


SMALL = {
    kind: windows_dump(regions((1, 3), (0x100, 2)), kind=kind, known=[(1, 4), (0x100, 2)]) for kind in KINDS
}
WORDS = st.sampled_from([0, 1, 2, 0x7FFF_FFFF, 2**40, 2**52 - 1, 2**52, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)
#: The 8-byte fields that say where things are.
PLACES = st.sampled_from([0x88, 0x90, *range(0x98, 0xD8, 8), *range(0x2000, 0x2060, 8)])


@given(st.sampled_from(KINDS), st.lists(st.tuples(PLACES, WORDS), max_size=4), st.integers(0, 0x8000))
@settings(max_examples=200, deadline=None)
def test_any_numbers_in_the_headers_and_any_end_give_a_dump_or_an_error(
    kind: int, changes: list[tuple[int, int]], cut: int
) -> None:
    image = bytearray(SMALL[kind])
    for place, value in changes:
        struct.pack_into("<Q", image, place, value)
    try:
        dump = opened(bytes(image[: len(image) - cut // 2] if cut & 1 else image))
    except DumpError as error:
        assert str(error).startswith("memory.dmp: ")
    else:
        look_everywhere(dump)


@given(st.sampled_from(KINDS), st.binary(min_size=0x60, max_size=0x1200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_behind_a_right_header_give_a_dump_or_an_error(kind: int, data: bytes) -> None:
    signature = b"SDMPDUMP" if kind in BITMAPS else b"\x40\0\0\0RDMPDUMP"
    try:
        dump = opened(SMALL[kind][:0x2000] + signature + data)
    except DumpError as error:
        assert str(error)
    else:
        look_everywhere(dump)
