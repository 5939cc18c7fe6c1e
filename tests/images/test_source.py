"""A source gives exactly the bytes that were asked for, or says where the file ends."""

from __future__ import annotations

import itertools
import os

import pytest

from vmbus.errors import DumpError
from vmbus.images import BytesSource, FileSource

CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=["file", "bytes"])
def source(request, tmp_path):
    if request.param == "bytes":
        yield BytesSource("content", memoryview(CONTENT))
        return
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    opened = FileSource(path)
    yield opened
    opened.close()


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 1), (5, 300), (10239, 1), (10240, 0), (0, 10240)])
def test_the_bytes_at_an_offset_are_those_of_the_file(source, offset, length):
    assert source.size == len(CONTENT)
    assert source.read(offset, length) == CONTENT[offset : offset + length]
    buffer = bytearray(length)
    source.read_into(offset, memoryview(buffer))
    assert buffer == CONTENT[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 10241), (10240, 1), (2**63, 1), (-1, 1), (5, -1)])
def test_bytes_that_are_not_all_there_are_refused_with_the_place(source, offset, length):
    with pytest.raises(DumpError) as caught:
        source.read(offset, length)
    assert caught.value.place == offset
    assert "0x2800" in str(caught.value)


def test_what_a_file_has_lost_since_it_was_opened_is_refused(tmp_path):
    path = tmp_path / "shrinks"
    path.write_bytes(CONTENT)
    source = FileSource(path)
    os.truncate(path, 100)
    assert source.read(0, 100) == CONTENT[:100]
    with pytest.raises(DumpError):
        source.read(50, 100)
    source.close()
    source.close()


def test_extents_are_what_a_sparse_file_stores(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(b"x" * 4096)
        file.seek(1 << 20)
        file.write(b"y" * 4096)
        file.truncate(4 << 20)
    source = FileSource(path)
    extents = list(source.extents(0, source.size))
    stored = {at for start, end in extents for at in range(start, end, 4096)}
    assert {0, 1 << 20} <= stored
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(extents))
    assert all(source.read(at, 4096) == bytes(4096) for at in range(0, 4 << 20, 4096) if at not in stored)
    assert list(source.extents(100, 50)) == []
    inside = list(source.extents(10, 20))
    assert inside == [(10, 20)]
    source.close()


def test_bytes_are_all_stored(source):
    assert list(source.extents(3, 9)) == [(3, 9)]


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path):
    for name in (tmp_path / "nothing", "a\0b"):
        with pytest.raises(DumpError) as caught:
            FileSource(name)
        assert caught.value.path == str(name)
