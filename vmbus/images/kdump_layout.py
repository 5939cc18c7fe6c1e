"""The shape of a kdump-compressed image: its two headers and the descriptor of a page.

All of it stands here.  The file is counted in blocks of `block_size` bytes, which is also the size of a page
of memory in it: 4096 on x86-64, up to 65536 on arm64.  The main header is in block 0, the sub header in block
1; both are the same for all 64-bit little-endian machines.  Every number is little-endian.

Sources: makedumpfile IMPLEMENTATION and diskdump_mod.h; crash diskdump.h; QEMU include/sysemu/dump.h.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import NamedTuple

__all__ = [
    "BLOCK_SIZES",
    "DESCRIPTOR",
    "LARGEST_VERSION",
    "MAIN_HEADER",
    "OTHER_BLOCK_SIZES",
    "SUB_HEADER",
    "MainHeader",
    "PageFlags",
    "Status",
    "SubHeader",
]

#: What a block may be long.
BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)

#: The newest header version that anybody has described.
LARGEST_VERSION = 6

#: Where block_size is, and how it is read, in files of machines that are not supported.
OTHER_BLOCK_SIZES = (
    (Struct("<416xI"), "a 32-bit machine"),
    (Struct(">428xI"), "a big-endian machine"),
    (Struct(">416xI"), "a 32-bit big-endian machine"),
)


class PageFlags(IntFlag):
    """How one page is stored; the first of these that is set counts, and without one it is stored as it is."""

    ZLIB = 0x01
    LZO = 0x02
    SNAPPY = 0x04
    ZSTD = 0x20


class Status(IntFlag):
    """What the main header says of the whole file; the names of codecs are as in PageFlags."""

    ZLIB = 0x01
    LZO = 0x02
    SNAPPY = 0x04
    INCOMPLETE = 0x08
    EXCLUDED_VMEMMAP = 0x10
    ZSTD = 0x20


class MainHeader(NamedTuple):
    """What block 0 holds, as far as it matters here.

    machine        of utsname: "x86_64"; QEMU writes "Unknown" for arm64
    block_size     bytes
    sub_blocks     blocks of the sub header, and of the notes behind it
    bitmap_blocks  blocks of both bitmaps
    max_mapnr      pages that the bitmaps speak of, in 32 bits
    """

    signature: bytes
    version: int
    machine: bytes
    status: int
    block_size: int
    sub_blocks: int
    bitmap_blocks: int
    max_mapnr: int


#: signature; header_version; utsname, of which `machine` is the fifth of six; padding and the time; ...
MAIN_HEADER = Struct("<8si260x65s65x6x16xIiiII")


class SubHeader(NamedTuple):
    """What block 1 holds, as far as it matters here.  Which of it counts depends on the header version.

    split, start_pfn, end_pfn       of a part of a split dump, which holds the pages from start up to end
    wide_start, wide_end            the same in 64 bits, from version 6 on
    wide_max_mapnr                  as max_mapnr of the main header, from version 6 on
    """

    phys_base: int
    dump_level: int
    split: int
    start_pfn: int
    end_pfn: int
    wide_start: int
    wide_end: int
    wide_max_mapnr: int


SUB_HEADER = Struct("<QiiQQ48xQQQ")

#: Of a page: where its bytes are in the file, how many, PageFlags, and something that nobody uses.
DESCRIPTOR = Struct("<QIIQ")
