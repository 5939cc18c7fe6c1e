"""kdump-compressed images: those of other writers, and those of ours in every variant."""

from __future__ import annotations

import zlib
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, data, integers, lists, none, sampled_from, sets, tuples
from image_writers.flattened import flattened, in_pieces
from image_writers.kdump import kdump, pages_of
from image_writers.page_encoders import ENCODERS

from tests.helpers import SAMPLES
from tests.images.kdumps import changed, checks, opened, page_bytes, states, why_missing
from vmbus.images import BytesSource, FileSource, KdumpDump
from vmbus.images.flattened import FlattenedSource, unflatten
from vmbus.images.load_kdump import load
from vmbus.images.page_codecs import codec_of
from vmbus.inspection import Run, Severity, State

RINGS = [
    (0x200000, "ring-4-pages-wrapped"),
    (0x205000, "ring-5-pages"),
    (0x300000, "ring-1-page"),
    (0x380000, "ring-4-pages"),
]

PRESENT, EXCLUDED, LOST = State.PRESENT, State.EXCLUDED, State.LOST
CODECS = ["zlib", "lzo", "snappy", "plain"]


# -- images that others wrote --------------------------------------------------------------------


def sample_image(name: str) -> KdumpDump:
    source = FileSource(SAMPLES / name)
    if name.endswith(".flat"):
        source, findings = unflatten(source)
        assert findings == []
    return load(source)


@pytest.mark.parametrize("name", ["mem.flat", "mem.kdump"])
def test_in_the_images_of_qemu_and_makedumpfile_every_ring_is_there_and_all_else_is_zero(name):
    with sample_image(name) as dump:
        assert (dump.findings, dump.path, dump.header.version) == ([], str(SAMPLES / name), 6)
        assert dump.header.machine == "x86_64"
        expected = bytearray(4 << 20)
        for address, ring in RINGS:
            content = (SAMPLES / f"{ring}.bin").read_bytes()
            expected[address : address + len(content)] = content
            assert dump.read(address, len(content)) == content
        assert dump.read(0, 4 << 20) == expected
        # The guest's memory, and the 128 KiB below 4 GiB where its firmware would be.
        assert states(dump) == [(0, 4 << 20, PRESENT), ((4 << 30) - (128 << 10), 4 << 30, PRESENT)]
        assert dump.read((4 << 30) - (128 << 10), 128 << 10) == bytes(128 << 10)
        pieces = {address: bytes(piece) for address, piece in dump.pieces()}
        assert b"".join(pieces[at << 20] for at in range(4)) == expected


@pytest.mark.parametrize("name", ["mem.flat", "mem.kdump"])
def test_where_a_page_of_such_an_image_is_said_to_be_its_stored_bytes_are(name):
    image = (SAMPLES / name).read_bytes()
    with sample_image(name) as dump:
        for address in (0, 0x200000, 0x203456, 0x380000, 0x384FFF, 0xFFFFF123):
            path, offset = dump.where(address)
            assert path == dump.path
            page = dump.read(address & ~4095, 4096)
            if any(page):  # the page of zeros is stored as it is
                page_start = zlib.decompressobj().decompress(image[offset : offset + 500])
                assert page_start and page.startswith(page_start)
            else:
                assert image[offset - address % 4096 :].startswith(page)


# -- images of our writer ------------------------------------------------------------------------


def minimal_file() -> bytes:
    """The documented example, put together byte by byte."""
    content = zlib.compress(bytes(range(256)) * 16)
    image = bytearray(0x5030)
    image[0:12] = b"KDUMP   \6\0\0\0"
    for offset, value in ((424, 1), (428, 4096), (432, 1), (436, 2), (440, 6), (460, 1)):
        image[offset] = value & 0xFF
        image[offset + 1] = value >> 8
    image[0x1000 + 96] = 6
    image[0x2000], image[0x3000] = 0x26, 0x22
    image[0x4000:0x4018] = (0x4030).to_bytes(8, "little") + (0x1000).to_bytes(4, "little") + bytes(12)
    image[0x4018:0x4030] = (
        (0x5030).to_bytes(8, "little") + len(content).to_bytes(4, "little") + b"\1" + bytes(11)
    )
    image[0x4030:0x5030] = b"\1" * 4096
    return bytes(image) + content


def test_the_documented_file_has_the_documented_pages():
    with opened(minimal_file()) as dump:
        assert dump.findings == []
        assert [*dump.runs()] == [
            Run(0x1000, 0x2000, PRESENT),
            Run(0x2000, 0x3000, EXCLUDED),
            Run(0x5000, 0x6000, PRESENT),
        ]
        assert dump.read(0x1000, 4096) == b"\1" * 4096
        assert dump.read(0x5000, 4096) == bytes(range(256)) * 16
        assert dump.read(0x50FF, 3) == b"\xff\0\1"
        assert dump.where(0x1234) == ("guest.kdump", 0x4030 + 0x234)
        assert dump.where(0x5234) == ("guest.kdump", 0x5030)
        assert why_missing(dump, 0x2000) == (0x2000, EXCLUDED, "")
        assert why_missing(dump, 0x3000) == (0x3000, None, "")
        assert [dump.where(at) for at in (0, 0x2000, 0x3000, 0x6000, 2**64 - 1)] == [None] * 5


def test_our_writer_writes_that_file_up_to_what_no_reader_looks_at():
    written = bytearray(
        kdump(
            [(0x1000, b"\1" * 4096), (0x5000, bytes(range(256)) * 16)],
            excluded=[2],
            codec=lambda number: "plain" if number == 1 else "zlib",
            status=1,
            machine=b"",
        )
    )
    written[0x1008:0x1060] = bytes(0x58)  # dump level, and what is 0xee where this writer has no field
    written[0x1068:0x2000] = bytes(0x2000 - 0x1068)
    assert bytes(written) == minimal_file()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(draw=data())
def test_whatever_is_written_is_read_back_and_all_else_is_missing(draw):
    block_size = draw.draw(sampled_from([4096, 4096, 4096, 16384, 65536]))
    version = draw.draw(sampled_from([0, 1, 2, 3, 4, 5, 6]))
    # Around the edges of a byte, of a group of 4096 pages, and of another.
    numbers = integers(0, 20) | integers(4090, 4100) | integers(8188, 8195)
    stored = draw.draw(sets(numbers, max_size=12 if block_size > 4096 else 24))
    excluded = draw.draw(sets(numbers, max_size=6)) - stored
    lost = draw.draw(sets(sampled_from(sorted(stored or {0})), max_size=3)) & stored
    pages = draw.draw(sampled_from([None, 8200, 40000]))
    one_bitmap = draw.draw(booleans()) if pages is not None else False
    if one_bitmap:
        excluded = set()
    part = draw.draw(none() | tuples(numbers, numbers).map(sorted)) if version >= 2 else None
    zeros = draw.draw(sets(sampled_from(sorted(stored or {0}))))
    content = {
        number: bytes(block_size) if number in zeros else page_bytes(number, block_size) for number in stored
    }
    kinds = draw.draw(lists(sampled_from(CODECS), min_size=1, max_size=5))
    image = kdump(
        [(number * block_size, page) for number, page in sorted(content.items())],
        block_size=block_size,
        version=version,
        codec=lambda number: kinds[number % len(kinds)],
        excluded=excluded,
        lost=lost,
        pages=pages,
        one_bitmap=one_bitmap,
        spare_blocks=0 if one_bitmap else draw.draw(integers(0, 2)),
        part=part and (part[0], part[1]),
        share_zero_pages=draw.draw(booleans()),
        sub_blocks=draw.draw(integers(1, 3)),
    )
    if draw.draw(booleans()):
        image_source = FlattenedSource(
            BytesSource("flat", memoryview(flattened(reversed(in_pieces(image, 10_000)))))
        )
        dump = load(image_source)
    else:
        dump = opened(image)
    end = max([*stored, *excluded], default=-1) + 1 if pages is None else pages
    own = range(end) if part is None else range(part[0], part[1])

    def state_of(number: int) -> State | None:
        if number in stored:
            return PRESENT if number in own and number not in lost else LOST
        return EXCLUDED if number in excluded else None

    expected = []
    touched = [(number, state_of(number)) for number in range(max([*stored, *excluded], default=-1) + 1)]
    for state, together in groupby(touched, key=lambda one: one[1]):
        numbers_here = [number for number, _ in together]
        if state is not None:
            expected.append((numbers_here[0], numbers_here[-1] + 1, state))
    joined = [
        (first // block_size, last // block_size, state) for state, first, last in joined_states(states(dump))
    ]
    assert joined == expected
    for number in stored | excluded | {0, 4095, 4096, 8200}:
        address = number * block_size
        state = state_of(number)
        if state is PRESENT:
            assert dump.read(address, block_size) == content[number]
            assert dump.read(address + 100, 7) == content[number][100:107]
            assert dump.where(address) is not None
        else:
            assert why_missing(dump, address + 5)[:2] == (address + 5, state)
            assert dump.where(address) is None
    seen = b"".join(piece.tobytes() for _, piece in dump.pieces())
    assert seen == b"".join(content[number] for number in sorted(stored) if state_of(number) is PRESENT)


def joined_states(runs: list[tuple[int, int, State]]) -> list[tuple[State, int, int]]:
    """Runs with those joined that are lost for different reasons."""
    joined: list[tuple[State, int, int]] = []
    for start, end, state in runs:
        if joined and joined[-1][0] is state and joined[-1][2] == start:
            joined[-1] = (state, joined[-1][1], end)
        else:
            joined.append((state, start, end))
    return joined


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("block_size", [4096, 16384, 65536])
def test_pages_of_each_codec_are_stored_with_it_and_read_in_any_stretch(codec, block_size):
    region = b"".join(page_bytes(number, block_size) for number in range(5)) + bytes(3 * block_size)
    image = kdump([(8 * block_size, region)], codec=codec, block_size=block_size)
    dump = opened(image)
    base = 8 * block_size
    for start, end in (
        (0, len(region)),
        (1, block_size),
        (block_size - 1, 3 * block_size + 1),
        (7, len(region) - 9),
    ):
        assert dump.read(base + start, end - start) == region[start:end]
    offset = dump.where(base + block_size + 9).offset
    flag = ENCODERS[codec][0]
    table = image.index((dump.where(base).offset).to_bytes(8, "little"))
    assert int.from_bytes(image[table + 24 : table + 32], "little") == offset - (9 if codec == "plain" else 0)
    assert image[table + 24 + 12] == flag


def test_the_runs_and_pieces_of_a_range_are_cut_to_it():
    dump = opened(kdump([(0x1000, bytes(0x3000))], excluded=[6], pages=9))
    assert [*dump.runs(0x1800, 0x2001)] == [Run(0x1800, 0x2001, PRESENT)]
    assert [*dump.runs(0x3FFF, 0x6001)] == [Run(0x3FFF, 0x4000, PRESENT), Run(0x6000, 0x6001, EXCLUDED)]
    assert [*dump.runs(0x4000, 0x6000)] == []
    assert [*dump.runs(0x9000, 2**64)] == []
    assert [(at, len(piece)) for at, piece in dump.pieces(0x1FFF, 0x2001)] == [(0x1FFF, 2)]


def test_a_page_that_many_descriptors_share_is_read_like_any_other():
    pages = {number: bytes(4096) if number % 3 else page_bytes(number) for number in range(300)}
    image = kdump([(number * 4096, page) for number, page in pages.items()])
    dump = opened(image)
    assert dump.read(0, 300 * 4096) == b"".join(pages.values())
    assert dump.where(4096) == dump.where(2 * 4096) == dump.where(298 * 4096)


# -- what is lost --------------------------------------------------------------------------------


def test_of_a_split_dump_each_part_has_its_pages_and_says_who_has_the_others():
    content = {number: page_bytes(number) for number in (1, 2, 5000, 5001, 9000)}
    regions = [(number * 4096, page) for number, page in content.items()]
    edges = [0, 2, 5001, 5001, 9001]
    for start, end in pairwise(edges):
        dump = opened(kdump(regions, excluded=[3], part=(start, end)))
        assert [(one.check, one.severity) for one in dump.findings] == [("image-split", Severity.NOTE)]
        assert f"from {start:#x} up to {end:#x}" in dump.findings[0].message
        for number, page in content.items():
            if start <= number < end:
                assert dump.read(number * 4096, 4096) == page
            else:
                state, why = why_missing(dump, number * 4096)[1:]
                assert (state, why) == (LOST, "another part of this split dump has it")
        assert why_missing(dump, 3 * 4096)[1] is EXCLUDED


def test_a_page_that_the_writer_did_not_get_to_is_lost():
    image = kdump([(0, page_bytes(0) + page_bytes(1) + page_bytes(2))], lost=[1], status=0x09)
    dump = opened(image)
    assert checks(dump) == ["image-incomplete"]
    assert states(dump) == [(0, 4096, PRESENT), (4096, 8192, LOST), (8192, 12288, PRESENT)]
    assert why_missing(dump, 5000) == (
        5000,
        LOST,
        "the image is incomplete: nothing says where its page is stored",
    )
    assert b"".join(bytes(piece) for _, piece in dump.pieces()) == page_bytes(0) + page_bytes(2)


@pytest.mark.parametrize(
    ("flags", "why"),
    [(0x20, "zstd"), (0x40, "unknown flags"), (0x80000000, "unknown flags"), (0x60, "zstd")],
)
def test_a_page_that_this_python_cannot_decode_is_lost_with_what_it_is_stored_with(flags, why):
    if flags & 0x20 and codec_of(0x20).decode is not None:
        pytest.skip("this Python decodes zstd")
    dump = opened(kdump([(0, page_bytes(0) + page_bytes(1))], flags={1: flags}))
    assert states(dump) == [(0, 4096, PRESENT), (4096, 8192, LOST)]
    message = why_missing(dump, 4096)[2]
    assert f"stored with {why}" in message and "this Python cannot decode" in message


@pytest.mark.parametrize("length", [0, 4095, 4097, 2**32 - 1])
def test_a_plain_page_that_is_not_a_page_long_is_lost(length):
    image = kdump([(0, page_bytes(0) + page_bytes(1))], codec="plain")
    table = image.index((4096).to_bytes(4, "little") + bytes(12), 4 * 4096) - 8
    dump = opened(changed(table + 8, length.to_bytes(4, "little"), image))
    assert states(dump) == [(0, 4096, LOST), (4096, 8192, PRESENT)]


def test_bitmaps_with_fewer_blocks_than_pages_need_lose_what_is_behind():
    image = kdump([(0, page_bytes(0))], pages=100)
    image = changed(4096 + 96, (40000).to_bytes(8, "little"), image)
    dump = opened(image)
    # 2 blocks for 40000 pages, which need 2 of each bitmap: one bitmap of 2 blocks is what is left.
    assert (dump.header.mapped_pages, checks(dump)) == (40000, [])
    dump = opened(changed(4096 + 96, (100_000).to_bytes(8, "little"), image))
    assert checks(dump) == ["image-bitmap"]
    assert states(dump)[-1] == (65536 * 4096, 100_000 * 4096, LOST)
    assert why_missing(dump, 65536 * 4096)[2] == "the page bitmaps end before"


def test_regions_are_cut_into_pages():
    assert pages_of([(8192, b"A" * 4096 + b"B" * 4096)], 4096) == {2: b"A" * 4096, 3: b"B" * 4096}
    with pytest.raises(ValueError, match="not whole pages"):
        pages_of([(100, bytes(4096))], 4096)
