"""What the pages of a kdump-compressed image are stored with, and what decodes it here.

zlib, LZO and snappy are decoded by every Python that this package runs on; zstd where the interpreter brings
`compression.zstd` (Python 3.14).  What is not decodable has a name all the same, so that a report can say
why a page is lost.  A codec is looked for when the first page needs it.

A decoder is called with what is stored and with the size of a page.  It gives at most one byte more than that,
whatever it is fed, and raises CodecError for what it cannot decode; whether the page is whole is for its
caller to say.

Sources: makedumpfile IMPLEMENTATION and crash diskdump.c on the flags; RFC 1950 (zlib), RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .kdump_layout import PageFlags

__all__ = ["CodecError", "PageCodec", "codec_of"]

Decoder = Callable[[bytes | memoryview, int], bytes]


class CodecError(ValueError):
    """Bytes that do not decode."""


class PageCodec(NamedTuple):
    """A way to store a page.

    name     as people call it
    decode   None where this Python cannot
    plain    whether the page is stored as it is
    """

    name: str
    decode: Decoder | None
    plain: bool = False


@lru_cache(maxsize=64)  # a hostile file may have any flags
def codec_of(flags: int) -> PageCodec:
    """How a page with these flags is stored: the first flag of PageFlags that is set says it.

    >>> codec_of(0).plain, codec_of(1).name, codec_of(6).name, codec_of(0x40)
    (True, 'zlib', 'LZO', PageCodec(name='unknown flags 0x40', decode=None, plain=False))
    """
    for flag, (name, decoder) in CODECS.items():
        if flags & flag:
            return PageCodec(name, decoder())
    if flags:
        return PageCodec(f"unknown flags {flags:#x}", None)
    return PageCodec("no compression", plainly, plain=True)


def plainly(data: bytes | memoryview, size: int) -> bytes:
    return bytes(data[: size + 1])


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """zlib, of a few bytes that may be meant to become very many."""
    decoder = zlib.decompressobj()
    try:
        page = decoder.decompress(data, size + 1)
    except zlib.error as error:
        raise CodecError(str(error)) from error
    if not decoder.eof and len(page) <= size:
        raise CodecError(f"{len(data)} bytes end inside a zlib stream")
    return page


def zlib_decoder() -> Decoder:
    return inflate


def lzo_decoder() -> Decoder:
    from .lzo import LzoError, decompress

    def decode(data: bytes | memoryview, size: int) -> bytes:
        try:
            return decompress(data, size)
        except LzoError as error:
            raise CodecError(str(error)) from error

    return decode


def snappy_decoder() -> Decoder:
    from .snappy import SnappyError, decompress

    def decode(data: bytes | memoryview, size: int) -> bytes:
        try:
            return decompress(bytes(data), size)
        except SnappyError as error:
            raise CodecError(str(error)) from error

    return decode


def zstd_decoder() -> Decoder | None:
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        return None

    def decode(data: bytes | memoryview, size: int) -> bytes:
        decoder = zstd.ZstdDecompressor()
        try:
            page: bytes = decoder.decompress(data, size + 1)
        except (zstd.ZstdError, MemoryError) as error:  # a frame may ask for a window of any size
            raise CodecError(str(error) or "a frame that asks for too much memory") from error
        if not decoder.eof and len(page) <= size:
            raise CodecError(f"{len(data)} bytes end inside a zstd frame")
        return page

    return decode


#: By flag, in the order in which they count: the name, and what finds the decoder.
CODECS: dict[PageFlags, tuple[str, Callable[[], Decoder | None]]] = {
    PageFlags.ZLIB: ("zlib", zlib_decoder),
    PageFlags.LZO: ("LZO", lzo_decoder),
    PageFlags.SNAPPY: ("snappy", snappy_decoder),
    PageFlags.ZSTD: ("zstd", zstd_decoder),
}
