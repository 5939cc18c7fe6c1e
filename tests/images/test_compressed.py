"""Compressed files are unpacked as a stream, without more memory or room on the disk than what is in them needs."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import sys
import tempfile
import types
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.lime import lime_image

from tests.helpers import pattern
from tests.images.image_checks import peak_memory, source_of
from vmbus.errors import DumpError
from vmbus.images import BytesSource, FileSource, compressed, sparse_file, unpack
from vmbus.images.load_lime import load

RING_GZ = bytes.fromhex("1f 8b 08 00 00 00 00 00 02 03 0b f2 f4 73 07 00 c2 18 49 b9 04 00 00 00")


def small_window_zlib(data):
    """As LiME's compress=1 writes it."""
    stream = zlib.compressobj(wbits=11)
    return stream.compress(data) + stream.flush()


COMPRESSORS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zlib": zlib.compress,
    "zlib of LiME": small_window_zlib,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
SEVERAL_MEMBERS = ["gzip", "xz", "bzip2"]


def unpacked(data, **options):
    """What a file holds, and the checks of its findings."""
    source, findings = unpack(source_of(data), **options)
    try:
        assert source.path == "image"
        return source.read(0, source.size), [finding.check for finding in findings]
    finally:
        source.close()


def refusal(data, **options):
    with pytest.raises(DumpError) as caught:
        unpack(source_of(data), **options)
    assert caught.value.path == "image"
    return str(caught.value).removeprefix("image: ")


# -- what is right -------------------------------------------------------------------------------


def test_a_file_spelled_by_hand_is_unpacked():
    assert unpacked(RING_GZ) == (b"RING", [])


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
@pytest.mark.parametrize(
    "content",
    [b"R", pattern(100_000), bytes(3_000_000) + b"end", pattern(5000) + bytes(2 << 20), bytes(8192)],
    ids=["one byte", "no zeros", "zeros first", "zeros last", "zeros"],
)
def test_every_byte_is_unpacked(compress, content):
    assert unpacked(compress(content)) == (content, [])


@pytest.mark.parametrize("kind", SEVERAL_MEMBERS)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 200)), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_members_stand_one_behind_the_other_also_behind_zeros(kind, parts, padding):
    contents = [part * count for part, count in parts]
    if not any(contents):
        return
    data = b"".join(COMPRESSORS[kind](content) + bytes(4 * padding) for content in contents)
    assert unpacked(data) == (b"".join(contents), [])


def test_of_members_of_a_few_bytes_little_more_is_read_than_there_is():
    """Else very many of them would take time as the square of their number."""

    class Counting(BytesSource):
        taken = 0

        def read_into(self, offset, buffer):
            self.taken += len(buffer)
            super().read_into(offset, buffer)

    source = Counting("image", memoryview(gzip.compress(b"page") * 2000))
    found, findings = unpack(source)
    assert found.read(0, found.size) == b"page" * 2000
    assert findings == []
    assert source.taken < 2000 * 1100
    found.close()


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
def test_an_image_inside_is_opened(compress):
    regions = [(0x1000, pattern(5000)), (0x100000, bytes(9000))]
    with load(unpack(source_of(compress(lime_image(regions))))[0]) as dump:
        assert dump.read(0x1000, 5000) == pattern(5000)
        assert dump.read(0x100000, 9000) == bytes(9000)
        assert dump.path == "image"


def test_progress_is_told_to_the_end():
    told = []
    data = gzip.compress(os.urandom(1 << 20))
    unpacked(data, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert {total for _, total in told} == {len(data)}
    assert told[0][0] < len(data) == told[-1][0]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors where /proc lists them")
def test_no_descriptor_and_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "ring.gz"
    path.write_bytes(RING_GZ)
    before = os.listdir("/proc/self/fd")
    original = FileSource(path)
    source, _ = unpack(original)
    assert source.path == str(path)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1  # the file itself is closed
    assert source.read(0, 4) == b"RING"
    source.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert os.listdir(tmp_path) == ["ring.gz"]


# -- room ----------------------------------------------------------------------------------------


def zeros_gz(mebibytes):
    stream = zlib.compressobj(wbits=31)
    piece = bytes(1 << 20)
    return b"".join([*(stream.compress(piece) for _ in range(mebibytes)), stream.flush()])


def test_a_bomb_of_zeros_takes_no_room_and_little_memory():
    data = zeros_gz(48)
    held = []

    def unpack_it():
        held.append(unpack(source_of(data))[0])

    assert peak_memory(unpack_it) < 8 << 20
    (source,) = held
    assert source.size == 48 << 20
    assert list(source.extents(0, source.size)) == [] or not hasattr(os, "SEEK_DATA")
    if hasattr(os.stat_result, "st_blocks"):
        assert os.fstat(source.fileno()).st_blocks * 512 < 1 << 20
    source.close()


def test_zeros_around_what_is_stored_are_holes():
    content = bytes(1 << 20) + pattern(4096) + bytes(1 << 20)
    source, _ = unpack(source_of(gzip.compress(content)))
    assert list(source.extents(0, source.size)) in ([(1 << 20, (1 << 20) + 4096)], [(0, source.size)])
    source.close()


def test_more_than_the_cap_is_refused_and_as_much_is_not():
    data = zeros_gz(3)
    assert len(unpacked(data, most=3 << 20)[0]) == 3 << 20
    assert refusal(data, most=(3 << 20) - 1) == "unpacks to more than 3145727 bytes, the most that is taken"


def test_a_full_disk_is_named_with_what_helps(monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sparse_file, "write_all", full)
    message = refusal(RING_GZ)
    assert message.startswith("cannot be unpacked into ")
    assert message.endswith(f": {os.strerror(errno.ENOSPC)}; TMPDIR names another directory")


def test_a_directory_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert refusal(RING_GZ).startswith(f"cannot be unpacked into {tmp_path / 'nowhere'}: ")


def test_an_xz_file_that_asks_for_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(compressed, "LARGEST_WINDOW", 1 << 20)
    assert "emory usage limit" in refusal(lzma.compress(pattern(1000), preset=6))


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
def test_what_was_there_before_a_cut_is_kept_and_a_finding_says_so(compress):
    content = pattern(600_000)
    data = compress(content)
    found, checks = unpacked(data[: len(data) * 3 // 4])
    assert checks == ["image-cut-short"]
    assert len(found) > len(content) // 3
    assert content.startswith(found)


@pytest.mark.parametrize("length", range(len(RING_GZ)))
def test_a_file_that_is_cut_anywhere_is_refused_or_has_what_was_there(length):
    if length < 12:
        assert refusal(RING_GZ[:length]).startswith("holds nothing that ")
    else:
        assert unpacked(RING_GZ[:length]) == (b"RING"[: length - 11], ["image-cut-short"])


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
def test_a_wrong_checksum_at_the_end_is_a_finding_and_costs_no_byte(kind):
    data = bytearray(COMPRESSORS[kind](pattern(5000)))
    data[-5 if kind == "gzip" else -1] ^= 1
    assert unpacked(bytes(data)) == (pattern(5000), ["image-damaged"])


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_bytes_behind_the_last_member_are_a_finding(kind):
    data = COMPRESSORS[kind](b"RING")
    assert unpacked(data + b"\0\0\0\0garbage") == (b"RING", ["image-damaged"])
    assert unpacked(data + bytes(5_000_000)) == (b"RING", [])


def test_a_second_member_that_is_damaged_is_a_finding():
    assert unpacked(RING_GZ + RING_GZ[:10] + b"\xff" * 20) == (b"RING", ["image-damaged"])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (RING_GZ[:5], "holds nothing that gzip can unpack: the file ends within its gzip data"),
        (gzip.compress(b""), "holds nothing that gzip can unpack"),
        (b"\x78\x9c" + b"\xff" * 50, "holds nothing that zlib can unpack: its zlib data is damaged: Error -3"),
        (b"BZh9" + bytes(50), "holds nothing that bzip2 can unpack: its bzip2 data is damaged: Invalid data stream"),
        (b"\xfd7zXZ\0" + bytes(50), "holds nothing that xz can unpack: its xz data is damaged: "),
    ],
)  # fmt: skip
def test_a_file_with_nothing_in_it_is_refused(data, why):
    assert refusal(data).startswith(why)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(COMPRESSORS)), st.integers(1, 3))
def test_a_damaged_file_is_refused_or_gives_bytes(data, kind, flips):
    image = bytearray(COMPRESSORS[kind](pattern(300) + bytes(300)))
    head = 2 if kind.startswith("zlib") else 6 if kind == "xz" else 3
    for _ in range(flips):
        image[data.draw(st.integers(head, len(image) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found, checks = unpacked(bytes(image))
    except DumpError as error:
        assert error.path == "image"
    else:
        assert found[:600] == pattern(300) + bytes(300) or checks


# -- zstd ----------------------------------------------------------------------------------------

ZSTD = b"\x28\xb5\x2f\xfd"


def test_zstd_is_named_where_this_python_does_not_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "compression", None)
    assert refusal(ZSTD + b"frame") == (
        "is compressed with zstd, which this Python cannot unpack (3.14 can); `zstd -d` does"
    )


def test_zstd_is_unpacked_where_python_has_it(monkeypatch):
    """By a stand-in that has the interface of 3.14: a frame is the magic, a length and so many bytes."""

    class ZstdError(Exception):
        pass

    class ZstdDecompressor:
        def __init__(self):
            self.eof, self.needs_input, self.unused_data, self.got = False, True, b"", b""

        def decompress(self, data, max_length):
            self.got += data
            if len(self.got) > 4 and len(self.got) >= 5 + self.got[4]:
                self.eof, end = True, 5 + self.got[4]
                self.unused_data = self.got[end:]
                return self.got[5:end]
            if self.got[:4] != ZSTD[: len(self.got)]:
                raise ZstdError("no frame")
            return b""

    zstd = types.SimpleNamespace(ZstdDecompressor=ZstdDecompressor, ZstdError=ZstdError)
    monkeypatch.setitem(sys.modules, "compression", types.SimpleNamespace(zstd=zstd))
    assert unpacked(ZSTD + b"\x04RING" + ZSTD + b"\x05again") == (b"RINGagain", [])
    assert unpacked(ZSTD + b"\x04RING" + ZSTD + b"\x05aga") == (b"RING", ["image-cut-short"])
