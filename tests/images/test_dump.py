"""The bytes of a file come mapped and read-only, those of a pipe read to its end; what cannot be had
is a DumpError that names the file and says why.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import threading

import pytest

from tests.helpers import SAMPLES
from vmbus.errors import DumpError
from vmbus.images import open_image
from vmbus.inspection import RawDump, inspect_dump, open_dump, read_stream, sample_path

RING = (SAMPLES / "ring-1-page.bin").read_bytes()

posix_only = pytest.mark.skipif(os.name != "posix", reason="named pipes of POSIX systems")


def refusal(path) -> DumpError:
    with pytest.raises(DumpError) as caught:
        open_dump(path)
    assert caught.value.path == str(path)
    assert str(caught.value).startswith(f"{path}: ")
    return caught.value


def reason(path) -> str:
    """What is said behind the name of the file."""
    return str(refusal(path)).removeprefix(f"{path}: ")


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_a_file_is_a_dump_of_its_bytes(tmp_path, as_path):
    path = tmp_path / "ring.bin"
    path.write_bytes(RING)
    opened = open_dump(as_path(path))
    assert (opened.path, opened.format, opened.size) == (str(path), "raw", len(RING))
    assert opened.data == RING
    assert opened.data.readonly
    assert repr(opened) == f"<RawFileDump {str(path)!r}: {len(RING)} bytes, raw>"


def test_a_file_is_mapped_and_not_read():
    """What is written to it later is seen: nothing was copied."""
    opened = open_dump(SAMPLES / "ring-1-page.bin")
    assert type(opened.data.obj).__module__ == "mmap"


def test_a_large_sparse_file_costs_nothing_until_it_is_looked_at(tmp_path):
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(64 << 30)
    assert open_dump(path).size == 64 << 30


def test_a_dump_outlives_the_name_of_its_file(tmp_path):
    path = tmp_path / "ring.bin"
    path.write_bytes(RING)
    opened = open_dump(path)
    if os.name == "posix":
        path.unlink()
    assert opened.data == RING
    assert len(inspect_dump(opened).rings[0].packets) == 5


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors where /proc lists them")
def test_no_descriptor_is_left_open_once_a_dump_is_made(tmp_path):
    path = tmp_path / "ring.bin"
    path.write_bytes(RING)
    before = os.listdir("/proc/self/fd")
    dumps = [open_dump(path) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= len(before) + len(dumps)  # at most the mappings' own
    del dumps
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert reason(tmp_path / "nothing.bin") == f"cannot be read: {os.strerror(errno.ENOENT)}"


def test_a_directory_is_refused(tmp_path):
    assert reason(tmp_path) == "is a directory; a dump is a file"


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.bin"
    path.touch()
    assert (reason(path), refusal(path).place) == ("is empty", 0)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "secret.bin"
    path.write_bytes(RING)

    def refuse(name, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(os, "open", refuse)  # whoever runs the tests may read everything, perhaps
    assert reason(path) == f"cannot be read: {os.strerror(errno.EACCES)}"


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(RING)
    assert reason(tmp_path / "file" / "ring.bin").startswith("cannot be read: ")


def test_a_name_that_no_file_can_have_is_refused():
    assert reason("ring\0.bin").startswith("cannot be read: ")


@posix_only
def test_a_named_pipe_is_read_to_its_end(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(RING * 30,))
    writer.start()
    opened = open_dump(path)
    writer.join()
    assert opened.data == RING * 30
    assert opened.data.readonly


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="a file without a size, as in /proc")
def test_a_file_without_a_size_is_read_to_its_end():
    assert open_dump("/proc/self/maps").size > 0


# -- streams -------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def read(self, size: int = -1) -> bytes:
        piece, self.left = self.left[: min(size, 1000)], self.left[min(size, 1000) :]
        return piece


@pytest.mark.parametrize("make", [io.BytesIO, Trickle])
def test_a_stream_is_read_to_its_end(make):
    read = read_stream(make(RING), "standard input")
    assert (read.path, read.size, read.data) == ("standard input", len(RING), RING)
    assert read.data.readonly
    assert inspect_dump(read).rings[0].packets[0].offset == 1480


def test_a_stream_without_a_byte_is_refused():
    with pytest.raises(DumpError, match="is empty") as caught:
        read_stream(io.BytesIO(), "standard input")
    assert caught.value.path == "standard input"


def test_a_stream_with_more_bytes_than_the_limit_is_refused_and_one_with_as_many_is_not(monkeypatch):
    monkeypatch.setattr(open_image, "LARGEST_STREAM", 5000)
    assert read_stream(Trickle(bytes(5000)), "standard input").size == 5000
    with pytest.raises(
        DumpError, match="more than 5000 bytes, too many for a pipe; save it to a file first"
    ) as caught:
        read_stream(Trickle(bytes(5001)), "standard input")
    assert (caught.value.path, caught.value.place) == ("standard input", 5000)


def test_a_stream_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(open_image, "LARGEST_STREAM", 1 << 20)

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with pytest.raises(DumpError, match="too many for a pipe"):
        read_stream(Endless(), "standard input")


# -- the dump that is shipped --------------------------------------------------------------------


def test_bytes_in_hand_are_a_dump_too_and_cannot_be_written_through_it():
    data = bytearray(RING)
    own = RawDump("own", memoryview(data))
    assert own.data.readonly
    assert own.size == len(RING)


def test_the_shipped_dump_lies_in_the_package():
    assert os.path.dirname(sample_path()) == os.path.dirname(sys.modules["vmbus.inspection"].__file__)
    assert open_dump(sample_path()).size == 16384
