"""kdump-compressed images that are cut short, damaged, or say more than they hold."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, integers, lists, none, sampled_from
from image_writers.flattened import flattened, in_pieces
from image_writers.kdump import kdump

from tests.images.kdumps import ONE_PAGE, changed, checks, opened, page_bytes, states, why_missing
from vmbus.errors import DumpError
from vmbus.images import BytesSource, FileSource, KdumpDump
from vmbus.images.flattened import FlattenedSource, unflatten
from vmbus.images.load_kdump import load
from vmbus.inspection import MissingMemory, Run, State

PRESENT, LOST = State.PRESENT, State.LOST


def look_everywhere(dump: KdumpDump) -> None:
    """Every way to read: bytes or MissingMemory, and nothing said twice or out of order."""
    last = 0
    for number, run in enumerate(dump.runs()):
        assert last <= run.start < run.end <= 2**64
        last = run.end
        if number > 50:
            break
    for address in (0, 0x1000, 0x1FFF, 0x2000, 0x4FF0, 4096 * 4096 - 8, 2**63):
        try:
            assert len(dump.read(address, 32)) == 32
        except MissingMemory as missing:
            assert address <= missing.address < address + 32
        place = dump.where(address)
        assert place is None or 0 <= place.offset < 2**64
    for number, (address, piece) in enumerate(dump.pieces(on_missing=lambda run: None)):
        assert address % 4096 + len(piece) >= 1
        if number > 20:
            break


#: Small, and with every kind of page in it.
SMALL = kdump(
    [
        (0x1000, page_bytes(1)),
        (0x2000, bytes(4096)),
        (0x4000, page_bytes(4) + bytes(4096)),
        (4096 * 4096, b"z" * 4096),
    ],
    excluded=[3, 4097],
    lost=[5],
    codec=lambda number: ["zlib", "lzo", "snappy", "plain"][number % 4],
)


def test_a_file_that_is_cut_off_anywhere_has_what_is_there_and_says_so():
    whole = opened(SMALL)
    expected = {number: whole.read(number * 4096, 4096) for number in (1, 2, 4, 4096)}
    lengths = [*range(0, 4400, 40), *range(4400, 16200, 300), *range(16200, len(SMALL), 7)]
    for length in lengths:
        try:
            dump = opened(SMALL[:length])
        except DumpError as error:
            assert error.place is not None and length < 4096 + 104
            continue
        assert "image-cut-short" in checks(dump)
        assert not any(" 1 pages" in finding.message for finding in dump.findings)
        look_everywhere(dump)
        for number, page in expected.items():
            try:
                assert dump.read(number * 4096, 4096) == page
            except MissingMemory as missing:
                # Without the bitmap of pages that are there, nobody knows; and never is it zeros.
                assert missing.state is LOST
    assert not opened(SMALL).findings


def test_of_a_flattened_file_that_is_cut_off_no_page_becomes_zeros():
    pages = {number: b"%4096d" % number for number in range(20)}
    image = kdump([(number * 4096, page) for number, page in pages.items()], codec="plain")
    pieces = in_pieces(image, 1000)
    order = sorted(range(len(pieces)), key=lambda number: number * 37 % len(pieces))
    head = [number for number in order if number <= 16]  # headers and bitmaps, mostly
    order = head + [number for number in order if number > 16]
    flat = flattened([pieces[number] for number in order])
    for length in range(len(flat) - 16, 4096 + 20_000, -1013):
        source, findings = unflatten(BytesSource("flat", memoryview(flat[:length])))
        assert [one.check for one in findings] == ["image-cut-short"]
        dump = load(source)
        for number, page in pages.items():
            try:
                assert dump.read(number * 4096, 4096) == page
            except MissingMemory as missing:
                assert missing.state is LOST
        look_everywhere(dump)


def test_pages_behind_a_part_of_a_bitmap_that_was_not_sent_are_lost():
    content = {number: page_bytes(number) for number in (1, 4095, 4096, 20_000)}
    image = kdump([(number * 4096, page) for number, page in content.items()], pages=40_000)
    first, second, table = 8192, 8192 + 2 * 4096, 8192 + 4 * 4096
    for name, sent in (
        ("first", [(0, first + 512), (second, len(image))]),
        ("second", [(0, second + 512), (table, len(image))]),
    ):
        flat = flattened([(start, image[start:end]) for start, end in sent], end=b"")
        source, _ = unflatten(BytesSource("flat", memoryview(flat)))
        dump = load(source)
        assert checks(dump) == ["image-cut-short"], name
        assert [dump.read(number * 4096, 4096) for number in (1, 4095)] == [content[1], content[4095]]
        for number in (4096, 20_000):
            assert why_missing(dump, number * 4096)[1:] == (LOST, "the page bitmaps end before")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    places=lists(
        integers(0, len(SMALL) - 1) | integers(424, 444) | integers(4096, 4200), min_size=1, max_size=4
    ),
    bits=lists(integers(0, 7), min_size=4, max_size=4),
    cut=none() | integers(0, len(SMALL)),
)
def test_a_file_with_wrong_bits_is_an_image_or_a_dump_error(places, bits, cut):
    image = bytearray(SMALL)
    for place, bit in zip(places, bits, strict=False):
        image[place] ^= 1 << bit
    try:
        dump = opened(bytes(image)[:cut])
    except DumpError as error:
        assert error.place is not None
        return
    look_everywhere(dump)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    words=lists(integers(0, 2**32 - 1) | sampled_from([0, 1, 2, 4096, 65536, 2**31]), min_size=5, max_size=5),
    sub=binary(min_size=104, max_size=104),
    rest=binary(max_size=200),
    blocks=sampled_from([4096, 65536]),
    version=integers(0, 8),
)
def test_random_headers_and_bytes_are_an_image_or_a_dump_error(words, sub, rest, blocks, version):
    header = b"KDUMP   " + version.to_bytes(4, "little") + bytes(412)
    header += b"".join(
        word.to_bytes(4, "little") for word in (words[0], blocks, words[1] % 4, words[2], words[3])
    )
    image = header.ljust(blocks, b"\0") + sub.ljust(blocks, b"\0") + (rest * 400)[:30_000]
    started = time.process_time()
    try:
        dump = opened(image)
    except DumpError as error:
        assert error.place is not None
        return
    look_everywhere(dump)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("pages", [2**40, 2**52, 2**64 - 1])
def test_a_small_file_that_speaks_of_very_many_pages_costs_what_a_small_file_costs(pages):
    image = changed(4096 + 96, pages.to_bytes(8, "little"), ONE_PAGE)
    image = changed(436, b"\xff\xff\xff\xff", image)
    tracemalloc.start()
    started = time.process_time()
    dump = opened(image)
    look_everywhere(dump)
    runs = states(dump)
    assert time.process_time() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert runs[-1][1] == min(pages * 4096, 2**64)
    assert "image-cut-short" in checks(dump)


def test_a_sparse_file_that_speaks_of_very_many_pages_costs_what_it_stores():
    """Flattened: a bitmap of 2**46 pages of which two bits are stored."""
    first, second = 1 << 20, 1 << 45
    blocks = 2**46 // 8 // 4096
    headers = changed(
        440, bytes(4), changed(436, ((2 * blocks) & 0xFFFFFFFF).to_bytes(4, "little"), ONE_PAGE[:8192])
    )
    headers = changed(4096 + 96, (2**46).to_bytes(8, "little"), headers)
    # With 2**32 blocks of bitmaps at most, their number does not fit: one bitmap, of all blocks that do.
    headers = changed(436, b"\xff\xff\xff\xff", headers)
    table = 8192 + 0xFFFFFFFF * 4096
    content = zlib.compress(page_bytes(7))
    entry = (table + 48).to_bytes(8, "little") + len(content).to_bytes(4, "little") + b"\1" + bytes(11)
    flat = flattened(
        [
            (0, headers),
            (8192 + first // 8, b"\1"),
            (8192 + second // 8, b"\1"),
            (8192 + 0x7FFFFFFF * 4096 + first // 8, b"\1"),
            (8192 + 0x7FFFFFFF * 4096 + second // 8, b"\1"),
            (table, entry * 2 + content),
        ]
    )
    started = time.process_time()
    dump = load(FlattenedSource(BytesSource("flat", memoryview(flat))))
    assert states(dump)[:2] == [(at * 4096, (at + 1) * 4096, PRESENT) for at in (first, second)]
    assert dump.read(second * 4096, 4096) == page_bytes(7)
    assert dump.read(first * 4096, 4096) == page_bytes(7)
    assert time.process_time() - started < 2


def test_more_of_a_bitmap_than_is_counted_is_refused(monkeypatch):
    monkeypatch.setattr("vmbus.images.page_bitmap.LARGEST_BITMAP", 4096)
    image = kdump([(0, page_bytes(0))], pages=40_000)
    with pytest.raises(DumpError, match="more than 4096 bytes") as refused:
        opened(image)
    assert (refused.value.path, refused.value.place) == ("guest.kdump", 8192)
    assert opened(kdump([(0, page_bytes(0))], pages=30_000)).header.pages == 30_000


def test_an_image_of_64_gib_is_opened_in_a_second_and_few_megabytes(tmp_path):
    """All pages are there, each the one page of zeros."""
    path = tmp_path / "large.kdump"
    pages = (64 << 30) // 4096
    header = bytearray(kdump([(0, bytes(4096))], pages=8)[:8192])
    blocks = pages // 8 // 4096
    header[436:440] = (2 * blocks).to_bytes(4, "little")
    header[4096 + 96 : 4096 + 104] = pages.to_bytes(8, "little")
    table = 8192 + 2 * blocks * 4096
    with open(path, "wb") as file:
        file.write(header)
        file.write(b"\xff" * (2 * blocks * 4096))
        content = zlib.compress(bytes(4096))
        place = table + 24 * pages
        entry = place.to_bytes(8, "little") + len(content).to_bytes(4, "little") + b"\1" + bytes(11)
        for at in (0, pages - 4096):  # the rest of the table stays a hole in the file: offsets of 0
            file.seek(table + 24 * at)
            file.write(entry * 4096)
        file.write(content)
    tracemalloc.start()
    started = time.process_time()
    dump = load(FileSource(path))
    assert time.process_time() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert dump.findings == []
    assert next(dump.runs(0, 8192 * 4096)) == Run(0, 4096 * 4096, PRESENT)
    assert dump.read((64 << 30) - 4097, 4097) == bytes(4097)
    started = time.process_time()
    assert [run.state for run in dump.runs(1 << 30)] == [LOST, PRESENT]
    assert time.process_time() - started < 5
    dump.close()
