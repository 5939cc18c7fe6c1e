"""How pages of kdump-compressed images are stored: every codec, and pages that do not decode."""

from __future__ import annotations

import sys
import types
from contextlib import suppress

import pytest
from image_writers.kdump import kdump
from image_writers.page_encoders import ENCODERS

from tests.images.kdumps import changed, checks, opened, page_bytes, why_missing
from vmbus.images.page_codecs import CodecError, codec_of
from vmbus.inspection import MissingMemory, State

LOST = State.LOST

#: Why a page is lost that has too few bytes, and one that has too many: zlib, LZO and snappy tell it differently.
SHORT = r"its page, stored with \w+, decodes to 100 bytes, not 4096$"
LONG = (
    r"its page, stored with zlib, decodes to more than 4096 bytes$"
    r"|its page is stored with LZO, and damaged: a block decodes to more than 4096 bytes$"
    r"|its page is stored with snappy, and damaged: a block says that it decodes to \d+ bytes; 4096 is the most$"
)


def test_that_an_image_is_of_zstd_is_said_at_once():
    image = kdump([(0, b"A" * 4096)], codec="zstd")
    assert checks(opened(image)) == ([] if codec_of(0x20).decode else ["image-codec"])


@pytest.fixture
def zstd_of_this_interpreter(monkeypatch):
    """A module with the name and the calls of Python 3.14's, for pages of one repeated byte."""
    codec_of.cache_clear()

    class Decompressor:
        def __init__(self) -> None:
            self.eof = False

        def decompress(self, frame: bytes, max_length: int) -> bytes:
            if bytes(frame[:4]) != b"\x28\xb5\x2f\xfd":
                raise module.ZstdError("Unknown frame descriptor")
            self.eof = len(frame) == 13
            size = int.from_bytes(frame[9:12], "little") >> 3
            return bytes(frame[12:13]) * min(size, max_length)

    module = types.ModuleType("compression.zstd")
    module.ZstdDecompressor, module.ZstdError = Decompressor, type("ZstdError", (Exception,), {})
    package = types.ModuleType("compression")
    package.zstd = module
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    yield
    codec_of.cache_clear()


def test_where_the_interpreter_has_zstd_its_pages_are_decoded(zstd_of_this_interpreter):
    image = kdump(
        [(0, b"A" * 4096 + page_bytes(1) + bytes(8192))], codec=lambda n: "zlib" if n == 1 else "zstd"
    )
    dump = opened(image)
    assert dump.findings == []
    assert dump.read(0, 4 * 4096) == b"A" * 4096 + page_bytes(1) + bytes(8192)
    broken = opened(image.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"))
    assert "stored with zstd, and damaged: Unknown frame" in why_missing(broken, 0)[2]


@pytest.mark.parametrize("codec", ["zlib", "lzo", "snappy"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(100), SHORT),
        (bytes(4097), LONG),
        (bytes(1 << 16), LONG),
        (None, "damaged"),
    ],
    ids=["short", "a byte too long", "much too long", "nonsense"],
)
def test_a_page_that_does_not_decode_to_a_page_is_lost_and_its_neighbours_are_not(codec, content, why):
    regions = [(number * 4096, page_bytes(number)) for number in range(4)]
    image = kdump(regions, codec=codec)
    dump = opened(image)
    bad = b"\x07" * 50 if content is None else ENCODERS[codec][1](content)
    table, place = image.index(dump.where(4096).offset.to_bytes(8, "little")), len(image)
    entry = place.to_bytes(8, "little") + len(bad).to_bytes(4, "little")
    dump = opened(changed(table, entry, image) + bad)
    with pytest.raises(MissingMemory, match=why) as missing:
        dump.read(0, 4 * 4096)
    assert (missing.value.address, missing.value.state, missing.value.place) == (4096, LOST, place)
    missed = []
    pieces = [(at, bytes(piece)) for at, piece in dump.pieces(on_missing=missed.append)]
    assert pieces == [(at, page) for at, page in regions if at != 4096]
    assert [(run.start, run.end, run.state) for run in missed] == [(4096, 8192, LOST)]


@pytest.mark.parametrize("codec", ["zlib", "lzo", "snappy"])
def test_a_decoder_makes_at_most_one_byte_too_many_of_anything(codec):
    flag, encode = ENCODERS[codec]
    decode = codec_of(flag).decode
    assert decode(encode(page_bytes(3)), 4096) == page_bytes(3)
    assert decode(memoryview(encode(bytes(4096))), 4096) == bytes(4096)
    with suppress(CodecError):
        assert len(decode(encode(bytes(200 << 10)), 4096)) <= 4097
    whole = encode(page_bytes(3))
    for length in range(0, len(whole), 3):
        with pytest.raises(CodecError):
            decode(whole[:length], 4096)


def test_the_first_flag_that_is_known_says_how_a_page_is_stored():
    names = {flags: codec_of(flags).name for flags in (0, 1, 2, 3, 4, 6, 0x20, 0x24, 0x21, 8, 0x41)}
    assert names == {
        0: "no compression",
        1: "zlib",
        2: "LZO",
        3: "zlib",
        4: "snappy",
        6: "LZO",
        0x20: "zstd",
        0x24: "snappy",
        0x21: "zlib",
        8: "unknown flags 0x8",
        0x41: "zlib",
    }
