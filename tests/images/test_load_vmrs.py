"""Saved states of Hyper-V as memory images."""

from __future__ import annotations

import random
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.vmrs import (
    compressed_block,
    context_channels,
    context_gpadl,
    memory_block,
    resealed,
    saved_state,
)

from tests.helpers import pattern
from vmbus.errors import DumpError
from vmbus.images import BytesSource, ChannelPages, FilePlace, VmrsDump
from vmbus.images.load_vmrs import load
from vmbus.images.vmrs_blocks import BLOCKS_KEPT, MOST_BLOCKS
from vmbus.images.vmrs_map import MOST_MEMORY_BLOCKS
from vmbus.inspection import MissingMemory, State

PAGE, MIB = 4096, 1 << 20
PRESENT, LOST = State.PRESENT, State.LOST
ZERO_BLOCK = b"\xfd\xff\xff\xff" + bytes(8) + b"\0\1\0\0" + b"\xff\xff\xff\xff"


def opened(image: bytes) -> VmrsDump:
    return load(BytesSource("a.vmrs", memoryview(image)))


def checks(dump: VmrsDump) -> list[str]:
    return [finding.check for finding in dump.findings]


def states(dump: VmrsDump) -> list[tuple[int, int, State]]:
    return [run[:3] for run in dump.runs()]


HIGH = pattern(2 * PAGE)
LOW = HIGH + b"a page of text\n " * 256 + bytes(MIB - 3 * PAGE) + bytes(range(256)) * 48
REGIONS = [(0, LOW), (0x100000000, HIGH)]


@pytest.mark.parametrize("compress", (None, compressed_block))
def test_stored_and_compressed_blocks_are_read_alike(compress: Any) -> None:
    dump = opened(saved_state(REGIONS, compress=compress))
    assert dump.findings == []
    assert states(dump) == [(0, len(LOW), PRESENT), (0x100000000, 0x100002000, PRESENT)]
    assert dump.read(0, len(LOW)) == LOW
    assert dump.read(0x100000FFF, 2) == HIGH[0xFFF:0x1001]
    assert dump.format == "hyper-v-vmrs"
    assert dump.version == 0xA00


def test_a_stored_byte_is_found_in_the_file_and_a_compressed_one_where_its_block_begins() -> None:
    image = saved_state(REGIONS)
    place = opened(image).where(MIB + 5)
    assert place is not None
    assert image[place.offset : place.offset + 16] == LOW[MIB + 5 : MIB + 21]

    image = saved_state(REGIONS, compress=compressed_block)
    dump = opened(image)
    offset, _ = dump.storage.stored("/savedstate/RamBlock1")
    assert dump.where(MIB + 5) == FilePlace("a.vmrs", offset)
    assert dump.where(len(LOW)) is None
    assert dump.where(2**64 - 1) is None


def test_a_small_compressed_block_stands_among_the_keys() -> None:
    dump = opened(saved_state([(0, bytes(3 * MIB))], compress=lambda block: ZERO_BLOCK))
    assert dump.size < 8 * PAGE
    assert states(dump) == [(0, 3 * MIB, PRESENT)]
    assert dump.read(MIB - 5, MIB + 10) == bytes(MIB + 10)


def test_blocks_are_taken_in_the_order_of_their_numbers() -> None:
    memory = b"".join(bytes([number]) * MIB for number in range(1, 13))
    dump = opened(saved_state([(0, memory)], compress=compressed_block))
    paths = sorted(path for path, _ in dump.storage.walk() if "/RamBlock" in path)
    assert paths[:4] == [f"/savedstate/RamBlock{number}" for number in (0, 1, 10, 11)]
    assert [dump.read(number * MIB, 1) for number in range(12)] == [
        bytes([number + 1]) for number in range(12)
    ]


@st.composite
def layouts(draw: Any) -> list[tuple[int, int]]:
    """Ranges of pages, disjoint, in any order; some need two blocks."""
    at = 0
    ranges = []
    for _ in range(draw(st.integers(1, 4))):
        at += draw(st.integers(0, 3) | st.integers(200, 600))
        count = draw(st.integers(1, 5) | st.integers(250, 300))
        ranges.append((at, count))
        at += count
    return list(draw(st.permutations(ranges)))


@given(layouts(), st.booleans(), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_what_was_written_is_read(ranges: list[tuple[int, int]], compress: bool, seed: int) -> None:
    chance = random.Random(seed)
    memory = {}
    regions = []
    for first, count in ranges:
        data = b"".join(bytes([chance.randrange(256)]) * PAGE for _ in range(count))
        regions.append((first * PAGE, data))
        memory.update({first + place: data[place * PAGE :][:PAGE] for place in range(count)})
    dump = opened(saved_state(regions, compress=compressed_block if compress else None))
    assert dump.findings == []
    seen = {}
    for run in dump.runs():
        assert run.state is PRESENT
        data = dump.read(run.start, run.end - run.start)
        seen.update({(run.start + at) // PAGE: data[at : at + PAGE] for at in range(0, len(data), PAGE)})
    assert seen == memory
    pieces = b"".join(bytes(piece) for _, piece in dump.pieces())
    assert pieces == b"".join(memory[number] for number in sorted(memory))


def test_a_range_of_runs_is_cut_out_of_all_of_them() -> None:
    dump = opened(saved_state([(0, bytes(3 * MIB)), (4 * MIB, bytes(PAGE))], without=[1]))
    everything = [*dump.runs()]
    assert [run[:3] for run in everything] == [
        (0, MIB, PRESENT),
        (MIB, 2 * MIB, LOST),
        (2 * MIB, 3 * MIB, PRESENT),
        (4 * MIB, 4 * MIB + PAGE, PRESENT),
    ]
    for start in range(0, 5 * MIB, MIB // 2 + 7):
        for end in (start, start + 1, start + PAGE, start + 2 * MIB, 2**64):
            assert [*dump.runs(start, end)] == [
                run._replace(start=max(run.start, start), end=min(run.end, end))
                for run in everything
                if max(run.start, start) < min(run.end, end)
            ]


def test_pages_that_do_not_begin_a_block_are_found_by_their_index() -> None:
    more = {
        "/savedstate/RamMemoryBlock0": memory_block(0x10, 3, 2),
        "/savedstate/RamMemoryBlock1": memory_block(0x80, 2, 255),
    }
    memory = random.Random(5).randbytes(2 * MIB)
    dump = opened(saved_state([(0, memory)], more=more))
    assert dump.findings == []
    assert dump.read(0x10000, 3 * PAGE) == memory[2 * PAGE : 5 * PAGE]
    assert dump.read(0x80000, 2 * PAGE) == memory[MIB - PAGE : MIB + PAGE]


def test_only_the_last_few_expanded_blocks_are_kept() -> None:
    dump = opened(saved_state([(0, bytes(9 * MIB))], compress=lambda block: ZERO_BLOCK))
    for number in range(9):
        dump.read(number * MIB, 1)
    assert [*dump._blocks._kept] == [*range(9 - BLOCKS_KEPT, 9)]


# -- what is missing -------------------------------------------------------------------------------


def test_a_block_that_is_missing_is_lost_and_never_zeros() -> None:
    dump = opened(saved_state(REGIONS, without=[1, 2]))
    assert states(dump) == [(0, MIB, PRESENT), (MIB, len(LOW), LOST), (0x100000000, 0x100002000, LOST)]
    assert checks(dump) == ["vmrs-lost"]
    assert f"{5 * PAGE} bytes of memory, the first at 0x100000" in dump.findings[0].message
    with pytest.raises(MissingMemory, match="is lost: its RamBlock is not in the file") as caught:
        dump.read(MIB - 1, 2)
    assert (caught.value.address, caught.value.state) == (MIB, LOST)
    assert dump.where(MIB) is None


def test_what_lies_behind_the_end_of_the_file_is_lost() -> None:
    image = saved_state(REGIONS)
    place = opened(image).where(0x100000000)
    assert place is not None
    dump = opened(image[: place.offset + PAGE + 100])
    assert checks(dump) == ["image-cut-short"]
    assert dump.read(0x100000000, PAGE + 100) == HIGH[: PAGE + 100]
    with pytest.raises(MissingMemory, match="the file ends before") as caught:
        dump.read(0x100000000, PAGE + 101)
    assert caught.value.address == 0x100001064

    image = saved_state(REGIONS, compress=compressed_block)
    place = opened(image).where(0x100000000)
    assert place is not None
    dump = opened(image[: place.offset + 100])
    assert states(dump)[-1] == (0x100000000, 0x100002000, LOST)


def test_a_damaged_block_has_the_pages_before_the_damage() -> None:
    damaged = b"\xfe\xff\xff\xff" + b"pattern " + b"\0\x20\0\0"
    dump = opened(saved_state([(0x5000, bytes(3 * PAGE))], compress=lambda block: damaged))
    assert states(dump) == [(0x5000, 0x8000, PRESENT)]
    assert dump.read(0x5000, PAGE) == b"pattern " * 512
    with pytest.raises(
        MissingMemory, match=r"RamBlock0 is damaged: it has a tag 0x2000 .* at byte 12"
    ) as caught:
        dump.read(0x5800, PAGE)
    assert (caught.value.address, caught.value.state) == (0x6000, LOST)
    missing = []
    assert [at for at, _ in dump.pieces(on_missing=missing.append)] == [0x5000]
    assert [run.start for run in missing] == [0x6000, 0x7000]


@pytest.mark.parametrize(
    ("block", "why"),
    [(bytes(MIB + 1), "more than 1 MiB"), (b"", "not in the file"), ("text", "no array"), (5, "no array")],
)
def test_a_block_that_is_none_is_lost(block: object, why: str) -> None:
    dump = opened(saved_state(REGIONS, more={"/savedstate/RamBlock2": block}))
    assert states(dump)[-1] == (0x100000000, 0x100002000, LOST)
    assert why in " ".join(finding.message for finding in dump.findings)


# -- memory blocks that contradict each other ------------------------------------------------------


def test_of_two_ranges_with_one_address_the_first_counts() -> None:
    dump = opened(saved_state([(0x10000, b"a" * 4 * PAGE), (0xE000, b"b" * 8 * PAGE)]))
    assert checks(dump) == ["image-overlap"]
    assert dump.read(0xE000, 8 * PAGE) == b"b" * 2 * PAGE + b"a" * 4 * PAGE + b"b" * 2 * PAGE


def test_of_two_ranges_with_one_place_among_the_saved_pages_the_second_is_lost() -> None:
    more = {"/savedstate/RamMemoryBlock1": memory_block(0x100000, 2, 3)}
    dump = opened(saved_state(REGIONS, more=more))
    assert states(dump)[-1] == (0x100000000, 0x100002000, LOST)
    assert "same place among the saved pages" in dump.findings[0].message


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (memory_block(0x100000, 2, 512, version=4), "has version 4; 3 is known"),
        (memory_block(2**52 - 1, 2, 512), "behind the last address"),
        (memory_block(0, 2**64 - 1, 2**64 - 1), "behind the last address"),
        (bytes(31), "is not an array of 48 bytes"),
        (bytes(5000), "is not an array of 48 bytes"),
        (7, "is not an array of 48 bytes"),
    ],
)
def test_a_range_that_means_nothing_is_a_finding_and_the_rest_is_there(value: object, why: str) -> None:
    dump = opened(saved_state(REGIONS, more={"/savedstate/RamMemoryBlock1": value}))
    assert why in dump.findings[0].message
    assert dump.read(0, len(LOW)) == LOW


def test_a_gap_in_the_numbers_is_a_finding_and_what_is_behind_is_read() -> None:
    dump = opened(
        saved_state(REGIONS, more={"/savedstate/RamMemoryBlock7": memory_block(0x10000, 1, 0x10000)})
    )
    assert "of RamMemoryBlock0 to 7 only 3 are there" in dump.findings[0].message
    assert (0x10000000, 0x10001000, LOST) in states(dump)


def test_the_largest_range_without_any_memory_is_one_run() -> None:
    started = time.process_time()
    dump = opened(
        saved_state([(0, bytes(PAGE))], more={"/savedstate/RamMemoryBlock1": memory_block(1, 2**52 - 1, 1)})
    )
    assert states(dump) == [(0, MIB, PRESENT), (MIB, 2**64, LOST)]
    assert time.process_time() - started < 1


def test_blocks_and_ranges_are_taken_up_to_their_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MOST_BLOCKS, MOST_MEMORY_BLOCKS) == (1 << 22, 1 << 10)
    far = {f"/savedstate/RamBlock{number}": ZERO_BLOCK for number in (MOST_BLOCKS, 4294967295, 9999999999)}
    dump = opened(saved_state(REGIONS, more=far))
    assert checks(dump) == ["vmrs-block"] * 3
    monkeypatch.setattr("vmbus.images.vmrs_map.MOST_MEMORY_BLOCKS", 1)
    assert states(opened(saved_state(REGIONS))) == [(0, len(LOW), PRESENT)]


# -- refused by name -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (
            saved_state([]),
            "without memory: no key is called RamMemoryBlock0; a VM that runs keeps its memory to itself",
        ),
        (saved_state([], version=0x500), "of a VM of version 5.0, whose layout is not supported; update"),
        (saved_state(REGIONS, version=0x400), "of a VM of version 4.0"),
        (
            saved_state([], version=None, more={"/RamMemoryBlock/0": b"", "/RamBlock/0": b""}),
            "of version 5.0 or before",
        ),
        (saved_state([(0, b"")]), "has no memory that could be read"),
        (bytes(20480), "does not begin as"),
    ],
)
def test_what_has_no_memory_is_refused_by_name(image: bytes, why: str) -> None:
    with pytest.raises(DumpError, match=why):
        opened(image)


def test_a_file_that_does_not_say_its_version_is_read_with_a_finding() -> None:
    dump = opened(saved_state(REGIONS, version=None))
    assert (checks(dump), dump.version) == (["vmrs-version"], None)
    assert dump.read(0, 8) == LOW[:8]


def test_keys_are_known_by_their_last_names() -> None:
    image = saved_state(REGIONS).replace(b"savedstate", b"otherstate")
    dump = opened(resealed(image))
    assert dump.read(0, 8) == LOW[:8]


# -- VMBus -----------------------------------------------------------------------------------------


def test_channels_come_with_the_pages_of_their_rings() -> None:
    more = {
        "/savedstate/VmbusContext0": struct.pack("<IIQHHI", 0, 0, 24, 3, 5, 0),
        "/savedstate/VmbusContext1": context_channels([(3, b"c" * 16, b"i" * 16, 0xE1E10, 2)]),
        "/savedstate/VmbusContext2": context_gpadl(2, 0xE1E10, 3, [5, 4, 9, 8]),
        "/savedstate/VmbusContext3": "no array",
    }
    dump = opened(saved_state(REGIONS, more=more))
    assert dump.channels() == [ChannelPages(3, b"c" * 16, b"i" * 16, (5, 4, 9, 8), 2)]
    assert dump.gpadls() == {0xE1E10: (5, 4, 9, 8)}
    assert dump.vmbus.version == (5, 3)
    assert len(dump.vmbus.findings) == 1

    dump = opened(saved_state(REGIONS))
    assert (dump.channels(), dump.gpadls(), dump.processors()) == ([], {}, [])


def test_processors_come_from_the_partition_state() -> None:
    state = struct.pack("<QQQ", 1, 24, 0) + bytes(16)
    state += struct.pack("<II8xI", 0x30001000, 4, 1) + struct.pack(
        "<II8x6Q", 0x30007000, 48, 1, 0, 0x1AD000, 3, 4, 5
    )
    dump = opened(saved_state(REGIONS, more={"/savedstate/savedVM/partition_state": state}))
    assert [(one.number, one.cr3) for one in dump.processors()] == [(1, 0x1AD000)]


# -- any bytes -------------------------------------------------------------------------------------

SMALL = saved_state(
    [(0x1000, pattern(5 * PAGE)), (0x80000, b"B" * PAGE)],
    compress=lambda block: compressed_block(block) if block[0] != 0x42 else ZERO_BLOCK,
    more={
        "/VmbusContext1": context_channels([(3, b"c" * 16, b"i" * 16, 5, 1)]),
        "/VmbusContext2": context_gpadl(2, 5, 3, [5, 4]),
    },
)
KEYS, DATA = 12288, 20480


def look_everywhere(dump: VmrsDump) -> None:
    """Every read gives bytes or says what is missing; runs are in order and end."""
    before = -1
    for run in dump.runs():
        assert before < run.start < run.end <= 2**64
        before = run.end - 1
        for address in (run.start, run.end - 1):
            try:
                assert len(dump.read(address, 1)) == 1
                assert run.state is PRESENT
            except MissingMemory as error:
                assert error.address == address
            assert (dump.where(address) is not None) == (run.state is PRESENT)
    for channel in dump.channels():
        assert all(page < 2**52 for page in channel.pages)
    assert len(dump.findings) < 150


@given(
    st.lists(
        st.tuples(
            st.integers(0, 46)
            | st.integers(8192, 8260)
            | st.integers(KEYS, KEYS + 900)
            | st.integers(DATA, len(SMALL) - 1),
            st.sampled_from([0, 1, 2, 7, 127, 255]) | st.integers(0, 255),
        ),
        max_size=4,
    ),
    st.integers(0, len(SMALL)) | st.just(0),
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_behind_right_checksums_give_a_dump_or_an_error(
    changes: list[tuple[int, int]], cut: int
) -> None:
    image = bytearray(SMALL)
    for place, value in changes:
        image[place] = value
    made = resealed(bytes(image))
    try:
        dump = opened(made[: len(made) - cut])
    except DumpError as error:
        assert str(error).startswith("a.vmrs: ")
    else:
        look_everywhere(dump)


WORDS = st.sampled_from([0, 1, 255, 256, 2**20, 2**32, 2**52 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2000)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_ranges_of_addresses_give_a_dump_or_an_error(ranges: list[tuple[int, int, int]]) -> None:
    more = {f"/RamMemoryBlock{place}": memory_block(*numbers) for place, numbers in enumerate(ranges)}
    more |= {f"/RamBlock{place}": ZERO_BLOCK for place in (0, 1, 3, 255)}
    try:
        dump = opened(saved_state([], more=more))
    except DumpError as error:
        assert "no memory that could be read" in str(error)
    else:
        look_everywhere(dump)
