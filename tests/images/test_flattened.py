"""makedumpfile's flattened form: pieces of a file in any order, against a file that is simply written over."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, booleans, integers, lists, sampled_from, tuples
from image_writers.flattened import END_MARKER, flattened, in_pieces, record

from tests.helpers import SAMPLES, pattern
from vmbus.errors import DumpError
from vmbus.images import BytesSource, FileSource
from vmbus.images.flattened import FlattenedSource, unflatten
from vmbus.images.piece_index import PieceIndex
from vmbus.inspection import Severity


def source_of(data: bytes) -> BytesSource:
    return BytesSource("flat", memoryview(data))


def opened(data: bytes) -> FlattenedSource:
    return FlattenedSource(source_of(data))


def written_over(pieces) -> tuple[bytes, bytearray]:
    """What the pieces make, and which bytes of it one of them covers: slow and obvious."""
    size = max((offset + len(data) for offset, data in pieces if data), default=0)
    whole, covered = bytearray(size), bytearray(size)
    for offset, data in pieces:
        whole[offset : offset + len(data)] = data
        covered[offset : offset + len(data)] = b"\1" * len(data)
    return bytes(whole), covered


def stretches(covered: bytearray) -> list[tuple[int, int]]:
    edges = [at for at in range(len(covered) + 1) if covered[at - 1 : at] != covered[at : at + 1] or not at]
    inside = [at for at in edges if covered[at : at + 1] == b"\1" or covered[max(at - 1, 0) : at] == b"\1"]
    return [*zip(inside[::2], inside[1::2], strict=True)] if covered else []


# -- what the pieces make ------------------------------------------------------------------------


def test_the_documented_records_make_the_documented_file():
    records = (
        bytes(7) + b"\4" + bytes(7) + b"\4" + b"EFGH" + bytes(8) + bytes(7) + b"\4" + b"ABCD" + b"\xff" * 16
    )
    header = b"makedumpfile\0\0\0\0" + bytes(7) + b"\1" + bytes(7) + b"\1"
    image = header.ljust(4096, b"\0") + records
    assert image == flattened([(4, b"EFGH"), (0, b"ABCD")])
    source, findings = unflatten(source_of(image))
    assert (source.size, source.read(0, 8), findings) == (8, b"ABCDEFGH", [])


def test_what_qemu_wrote_unpacks_to_what_makedumpfile_made_of_it():
    plain = (SAMPLES / "mem.kdump").read_bytes()
    source, findings = unflatten(FileSource(SAMPLES / "mem.flat"))
    assert (source.size, findings) == (len(plain), [])
    assert source.read(0, len(plain)) == plain
    assert all(source.read(at, 1000) == plain[at : at + 1000] for at in range(0, len(plain) - 1000, 777))
    source.close()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    places=lists(tuples(integers(0, 300), integers(0, 40) | integers(0, 300)), min_size=1, max_size=40),
    ascending=booleans(),
    at=integers(0, 320),
    length=integers(0, 320),
)
def test_any_pieces_in_any_order_make_what_writing_them_one_after_the_other_makes(
    places, ascending, at, length
):
    places = sorted(places) if ascending else places
    pieces = [(offset, pattern(size, seed=number + 1)) for number, (offset, size) in enumerate(places)]
    whole, covered = written_over(pieces)
    if not whole:
        return
    image = flattened(pieces)
    source = opened(image)
    assert (source.size, source.complete) == (len(whole), True)
    assert source.read(0, source.size) == whole
    assert [*source.extents(0, source.size)] == stretches(covered)
    start, end = min(at, source.size), min(at + length, source.size)
    assert source.read(start, end - start) == whole[start:end]
    clipped = [(max(first, start), min(last, end)) for first, last in stretches(covered)]
    assert [*source.extents(start, end)] == [(first, last) for first, last in clipped if first < last]
    for place in range(len(whole)):
        stored = source.place(place)
        assert (stored is not None) == bool(covered[place])
        assert stored is None or image[stored] == whole[place]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    runs=lists(tuples(integers(0, 200), lists(integers(1, 6), min_size=1, max_size=12)), max_size=8),
    gaps=lists(integers(0, 3), min_size=1, max_size=5),
)
def test_an_index_of_ascending_runs_holds_what_the_last_of_them_wrote(runs, gaps):
    index, model = PieceIndex(), {}
    place = 10_000
    for start, sizes in runs:
        for number, size in enumerate(sizes):
            index.add(start, start + size, place)
            model.update((start + at, place + at) for at in range(size))
            start += size + gaps[number % len(gaps)]
            place += size + 16
    index.settle()
    found = [*zip(index.starts, index.ends, index.places, strict=True)]
    assert {start + at: place + at for start, end, place in found for at in range(end - start)} == model
    assert all(start < end for start, end, _ in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))


def test_reading_outside_of_the_file_is_refused():
    source = opened(flattened([(0, b"ABCD")]))
    for offset, length in ((0, 5), (4, 1), (-1, 2), (5, 0), (1, -1)):
        with pytest.raises(DumpError) as refused:
            source.read(offset, length)
        assert refused.value.path == "flat"
    assert source.read(4, 0) == b""


# -- what is cut short or cannot be --------------------------------------------------------------


def test_of_a_file_that_is_cut_off_anywhere_all_that_is_there_is_kept_and_nothing_else_is_read():
    pieces = [(0, b"ABCD"), (8, b"IJKLMNOP"), (4, b"EF"), (30, b"z")]
    whole, _ = written_over(pieces)
    image = flattened(pieces)
    for length in range(len(image)):
        cut = image[:length]
        if length <= 4096 + 16:
            with pytest.raises(DumpError):
                opened(cut)
            continue
        source, findings = unflatten(source_of(cut))
        assert [(one.check, one.severity) for one in findings] == [("image-cut-short", Severity.WARNING)]
        covered = {at for first, last in source.extents(0, source.size) for at in range(first, last)}
        assert len(covered) == sum(min(max(length - at, 0), size) for at, size in data_places(pieces))
        for at in range(source.size):
            if at in covered:
                assert source.read(at, 1) == whole[at : at + 1]
            else:
                with pytest.raises(DumpError, match="cut short") as missing:
                    source.read(at, 1)
                assert missing.value.place == at


def data_places(pieces) -> list[tuple[int, int]]:
    """Where in the flattened file the bytes of each piece are."""
    at, places = 4096, []
    for _, data in pieces:
        places.append((at + 16, len(data)))
        at += 16 + len(data)
    return places


def test_a_file_without_its_end_marker_keeps_all_but_zeros_between():
    source = opened(flattened([(0, b"ABCD"), (8, b"IJKL")], end=b""))
    assert source.read(0, 4) + source.read(8, 4) == b"ABCDIJKL"
    with pytest.raises(DumpError, match="4 bytes at 0x4"):
        source.read(0, 12)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(-1, 4), (4, -1), (-2, -2), (-1, -2), (2**63 - 1, 1), (2**63 - 1, 2**63 - 1), (-(2**63), 0)],
)
def test_behind_a_record_that_cannot_be_nothing_is_used_and_that_is_said(offset, size):
    bad = record(offset, b"ABCD", size=size)
    source, findings = unflatten(
        source_of(flattened([(0, b"good")], end=bad + record(4, b"more") + END_MARKER))
    )
    assert (source.size, source.read(0, 4)) == (4, b"good")
    (finding,) = findings
    assert (finding.check, finding.severity) == ("image-damaged", Severity.ERROR)
    assert f"{size} bytes at offset {offset}" in finding.message
    with pytest.raises(DumpError) as refused:
        opened(flattened([], end=bad))
    assert refused.value.place == 4096


@pytest.mark.parametrize(
    ("image", "place", "why"),
    [
        (b"makedumpfile\0\0\0\0", 0, "not all there"),
        (b"makedumpfile\0\0\0\1".ljust(5000, b"\0"), 0, "begins with"),
        (flattened([(0, b"A")], kind=2), 16, "type 2, version 1"),
        (flattened([(0, b"A")], version=2), 16, "type 1, version 2"),
        (flattened([]), 4096, "no record"),
        (flattened([(0, b"")]), 4096, "no record"),
    ],
)
def test_what_is_not_flattened_or_empty_is_refused_with_the_place(image, place, why):
    with pytest.raises(DumpError, match=why) as refused:
        opened(image)
    assert (refused.value.path, refused.value.place) == ("flat", place)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    pieces=lists(tuples(integers(0, 100), binary(max_size=20)), min_size=1, max_size=8),
    behind=binary(max_size=60),
    place=integers(16, 4300),
    change=integers(1, 255),
    end=sampled_from([END_MARKER, b""]),
)
def test_any_bytes_are_a_file_or_a_dump_error(pieces, behind, place, change, end):
    image = bytearray(flattened(pieces, end=end) + behind)
    image[place % len(image)] ^= change
    try:
        source = opened(bytes(image))
    except DumpError as error:
        assert error.path == "flat" and error.place is not None
        return
    for start in (0, 1, 50, source.size - 10):
        try:
            assert len(source.read(start, 30)) == 30
        except DumpError as error:
            assert error.place is not None


# -- many pieces ---------------------------------------------------------------------------------


def many_pieces(order: str, count: int) -> bytes:
    """A flattened file of `count` pieces of one byte."""
    numbers = range(count) if order != "backwards" else range(count - 1, -1, -1)
    if order == "scattered":
        numbers = [number * 7919 % count for number in range(count)]
    pieces = b"".join(record(2 * number, b"x") for number in numbers)
    if order == "corrected":  # as by a writer that goes back to the header once it knows all
        pieces += record(0, b"y" * 5)
    return flattened([], end=pieces + END_MARKER)


@pytest.mark.parametrize("order", ["forwards", "corrected", "backwards", "scattered"])
def test_an_index_of_many_small_pieces_is_quick_and_small(order):
    count = 20_000
    image = many_pieces(order, count)
    started = time.process_time()
    source = opened(image)
    assert time.process_time() - started < 4
    assert source.size == 2 * count - 1
    assert source.read(2 * count - 10, 9) == b"x\0x\0x\0x\0x"
    assert source.read(0, 7) == (b"yyyyy\0x" if order == "corrected" else b"x\0x\0x\0x")
    tracemalloc.start()
    kept = opened(image)
    now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 40 * count
    assert most < 60 * count if order in ("forwards", "corrected") else most < 400 * count
    assert kept.size


def test_pieces_that_all_cover_each_other_are_taken_apart_in_no_more_than_their_number():
    count = 3000
    nested = [(number, bytes([number % 251 + 1]) * (2 * (count - number))) for number in range(count)]
    started = time.process_time()
    source = opened(flattened(nested))
    assert time.process_time() - started < 4
    whole, _ = written_over(nested)
    assert source.read(0, source.size) == whole


@pytest.mark.parametrize("limit", ["MOST_RECORDS", "MOST_TANGLED"])
def test_more_records_than_are_indexed_are_refused_with_what_helps(limit, monkeypatch):
    image = many_pieces("backwards", 100)
    module = "flattened" if limit == "MOST_RECORDS" else "piece_index"
    monkeypatch.setattr(f"vmbus.images.{module}.{limit}", 99 if limit == "MOST_RECORDS" else 1)
    if limit == "MOST_TANGLED":
        image = flattened([(0, bytes(9)), *[(number, b"x") for number in (7, 3, 1)]])
    with pytest.raises(DumpError, match="makedumpfile -R") as refused:
        opened(image)
    assert refused.value.path == "flat" and refused.value.place is not None
    monkeypatch.undo()
    assert opened(image).complete


def test_a_file_is_cut_into_pieces_and_put_together_again():
    whole = pattern(10_000)
    source = opened(flattened(reversed(in_pieces(whole, 777))))
    assert source.read(0, 10_000) == whole
