"""An image of any format becomes a raw file: every byte at its address, holes where nothing is.

The image is a list of runs spelled here, whatever format they might have come from.
"""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.errors import CallerError, DumpError
from vmbus.images import LARGEST_RAW_IMAGE, BytesSource, Segment, StoredDump, write_raw_image
from vmbus.images.raw_image import MOST_MISSING_LISTED
from vmbus.images.sparse import stretches
from vmbus.inspection import RawDump, Run, State

PRESENT, ZERO, EXCLUDED, LOST = State.PRESENT, State.ZERO, State.EXCLUDED, State.LOST
MiB = 1 << 20


def image_of(*parts: tuple[int, bytes | int, State]) -> StoredDump:
    """Memory of (address, bytes or how many, state)."""
    content, segments = b"", []
    for address, data, state in parts:
        length = data if isinstance(data, int) else len(data)
        segments.append(Segment(address, length, len(content), state, "" if state is PRESENT else "by hand"))
        content += data if isinstance(data, bytes) else b""
    return StoredDump(BytesSource("image", memoryview(content)), segments, format="by hand")


def written(dump: StoredDump, **limits: int) -> tuple[bytes, object]:
    stream = io.BytesIO()
    made = write_raw_image(dump, stream, **limits)
    assert len(stream.getvalue()) == made.size
    return stream.getvalue(), made


def test_every_byte_is_at_its_address_and_all_else_is_zero():
    data, made = written(image_of((0x1000, b"low", PRESENT), (0x5003, b"high", PRESENT)))
    assert data == bytes(0x1000) + b"low" + bytes(0x4000) + b"high"
    assert (made.start, made.size, made.stored, made.missing, made.places) == (0, 0x5007, 7, {}, 0)


def test_a_part_begins_at_its_start():
    dump = image_of((0x1000, b"abcdefgh", PRESENT), (2**40, b"far", PRESENT))
    assert written(dump, start=0x1002, end=0x1005)[0] == b"cde"
    assert written(dump, start=2**40 - 2)[0] == b"\0\0far"
    assert written(dump, end=0x1004)[0] == bytes(0x1000) + b"abcd"


def test_memory_that_ends_in_zeros_or_is_missing_counts_for_the_size():
    for state in (ZERO, EXCLUDED, LOST):
        data, _ = written(image_of((0, b"x", PRESENT), (0x2000, 0x1000, state)))
        assert data == b"x" + bytes(0x2FFF)
    assert written(image_of((0, bytes(5000), PRESENT)))[0] == bytes(5000)


def test_what_is_missing_is_told_with_its_addresses_and_counted():
    dump = image_of((0, b"x" * 4096, PRESENT), (4096, 8192, EXCLUDED), (12288, 4096, LOST), (16384, 1, ZERO))
    data, made = written(dump)
    assert data == b"x" * 4096 + bytes(12289)
    assert made.missing == {EXCLUDED: 8192, LOST: 4096}
    assert made.listed == (Run(4096, 12288, EXCLUDED, "by hand"), Run(12288, 16384, LOST, "by hand"))
    assert made.places == 2


def test_only_the_first_missing_places_are_kept_and_all_are_counted():
    parts = [(0x2000 * number, 4096, EXCLUDED) for number in range(50)]
    _, made = written(image_of(*parts))
    assert (made.places, made.missing) == (50, {EXCLUDED: 50 * 4096})
    assert [run.start for run in made.listed] == [0x2000 * number for number in range(MOST_MISSING_LISTED)]


class Undecodable(RawDump):
    """Memory of which some pages turn out not to be readable."""

    def __init__(self, data: bytes, bad: set[int]) -> None:
        super().__init__("image", memoryview(data))
        self.bad = bad

    def _piece(self, address: int, length: int) -> memoryview:
        from vmbus.images.dump import MissingMemory

        for page in range(address // 4096, (address + length + 4095) // 4096):
            if page in self.bad:
                raise MissingMemory(page * 4096, LOST, "does not unpack", path=self.path)
        return self.data[address : address + length]


def test_pages_that_do_not_unpack_are_lost_and_told_as_one_place_where_they_touch():
    stream = io.BytesIO()
    made = write_raw_image(Undecodable(b"x" * 8 * 4096, {1, 2, 6}), stream)
    assert made.listed == (
        Run(4096, 12288, LOST, "does not unpack"),
        Run(24576, 28672, LOST, "does not unpack"),
    )
    assert (made.places, made.missing) == (2, {LOST: 3 * 4096})
    pages = [stream.getvalue()[at : at + 4096] for at in range(0, 8 * 4096, 4096)]
    assert [page == b"x" * 4096 for page in pages] == [True, False, False, True, True, True, False, True]


@pytest.mark.skipif(os.name != "posix", reason="other systems need to be told that a file is sparse")
def test_holes_and_pages_of_zeros_take_no_room(tmp_path):
    page = b"x" * 4096
    dump = image_of((0, page + bytes(8 * MiB) + page, PRESENT), (1 << 33, page, PRESENT))
    with open(tmp_path / "out", "wb") as stream:
        made = write_raw_image(dump, stream)
    stat = (tmp_path / "out").stat()
    assert (stat.st_size, made.size, made.stored) == ((1 << 33) + 4096, (1 << 33) + 4096, 3 * 4096)
    if stat.st_blocks * 512 >= 8 * MiB:
        pytest.skip("this file system has no holes")
    with open(tmp_path / "out", "rb") as stream:
        assert stream.read(4096) == page
        stream.seek(8 * MiB + 4096)
        assert stream.read(4097) == page + b"\0"


def test_progress_is_told_and_ends_with_all():
    told: list[tuple[int, int]] = []
    dump = image_of((0, bytes(3 * MiB), PRESENT), (8 * MiB, b"x", PRESENT))
    write_raw_image(dump, io.BytesIO(), progress=lambda done, total: told.append((done, total)))
    assert told == [(number * MiB, 3 * MiB + 1) for number in (1, 2, 3)] + [(3 * MiB + 1, 3 * MiB + 1)]


def test_an_image_that_reaches_too_far_is_refused_before_anything_is_written():
    stream = io.BytesIO()
    dump = image_of((0, b"x", PRESENT), (2**63, b"y", PRESENT))
    with pytest.raises(
        DumpError, match=r"memory up to 0x8000000000000001, and a raw image has at most 64 TiB"
    ):
        write_raw_image(dump, stream)
    assert stream.getvalue() == b""
    assert written(dump, start=2**63)[0] == b"y"
    assert LARGEST_RAW_IMAGE == 64 << 40


def test_a_range_without_memory_or_without_addresses_is_refused():
    dump = image_of((0x1000, b"x", PRESENT))
    with pytest.raises(DumpError, match=r"has no memory from 0x2000 to 0x2fff$"):
        write_raw_image(dump, io.BytesIO(), start=0x2000, end=0x3000)
    with pytest.raises(DumpError, match=r"has no memory from 0x2000 on$"):
        write_raw_image(dump, io.BytesIO(), start=0x2000)
    for start, end in ((5, 5), (6, 5), (-1, 5), (0, 2**64 + 1)):
        with pytest.raises(CallerError, match="there are no addresses from"):
            write_raw_image(dump, io.BytesIO(), start=start, end=end)


def test_a_stream_that_cannot_have_holes_is_refused():
    reading, writing = os.pipe()
    with (
        open(reading, "rb"),
        open(writing, "wb") as stream,
        pytest.raises(CallerError, match="cannot skip them"),
    ):
        write_raw_image(image_of((0, b"x", PRESENT)), stream)


pages = st.sampled_from([bytes(4096), b"x" * 4096, bytes(4095) + b"y", b"z" + bytes(4095)])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(0, 5),
            st.lists(pages, min_size=1, max_size=3),
            st.sampled_from(State),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(1, 50 * 4096),
)
def test_the_file_is_what_a_model_has_at_every_address(parts, page, shift, length):
    model, known, made_of = bytearray(64 * 4096), bytearray(64 * 4096), []
    for at, more, contents, state in reversed(parts):  # the first that has an address counts
        address, data = at * 4096 + more, b"".join(contents)
        made_of.insert(0, (address, data if state is PRESENT else len(data), state))
        model[address : address + len(data)] = data if state is PRESENT else bytes(len(data))
        known[address : address + len(data)] = b"\1" * len(data)
    start = page * 4096 + shift
    dump, end = image_of(*made_of), start + length
    last = known.rfind(1, start, end) + 1
    if not last:
        with pytest.raises(DumpError):
            written(dump, start=start, end=end)
        return
    data, made = written(dump, start=start, end=end)
    assert data == model[start:last]
    assert made.stored <= len(data)


@given(st.lists(pages, max_size=6), st.integers(0, 9000), st.integers(0, 3000))
@settings(max_examples=100, deadline=None)
def test_stretches_cover_every_byte_that_is_not_zero(contents, offset, cut):
    data = b"".join(contents)[cut:]
    covered = bytearray(len(data))
    ends = -1
    for begin, end in stretches(data, offset):
        assert ends < begin < end
        ends = end
        covered[begin:end] = data[begin:end]
    assert covered == data
