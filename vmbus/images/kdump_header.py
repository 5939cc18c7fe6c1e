"""What the headers of a kdump-compressed image say: which pages there are, and where to find them.

Fields came with versions of the header; what a file's version does not have is not read, whatever is there.

Raises DumpError for headers that cannot be right and for the kinds of file that are not supported, by name.

Sources: makedumpfile IMPLEMENTATION; crash diskdump.c, read_dump_header().
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from vmbus.errors import DumpError

from . import magics
from .findings import Finding, Severity
from .kdump_layout import (
    BLOCK_SIZES,
    LARGEST_VERSION,
    MAIN_HEADER,
    OTHER_BLOCK_SIZES,
    SUB_HEADER,
    MainHeader,
    Status,
    SubHeader,
)
from .source import Source

__all__ = ["KdumpHeader", "read_header"]

MASK_32 = 0xFFFFFFFF

#: The first versions with a word on split dumps, and with page numbers of 64 bits.
SPLIT_VERSION = 2
WIDE_VERSION = 6


class KdumpHeader(NamedTuple):
    """What of the headers a reader needs; places and sizes in bytes, pages by their number.

    pages           those that the bitmaps speak of: all below this one
    mapped_pages    of these, as many as the bitmaps have room for
    start, end      the pages whose descriptors are in this file
    split           whether others are in other files
    first_bitmap    where the bitmap is of pages that exist
    second_bitmap   where the bitmap is of pages that are stored; the same where there is only one
    descriptors     where the table of page descriptors begins
    """

    version: int
    status: Status
    block_size: int
    machine: str
    phys_base: int
    pages: int
    mapped_pages: int
    start: int
    end: int
    split: bool
    first_bitmap: int
    second_bitmap: int
    descriptors: int


def read_header(source: Source) -> tuple[KdumpHeader, list[Finding]]:
    """The headers, and what is odd about them."""
    main = read_main_header(source)
    sub = read_sub_header(source, main)
    findings: list[Finding] = []
    if main.version > LARGEST_VERSION:
        warn(findings, "image-version", f"header version {main.version} is read as {LARGEST_VERSION}")
    wide = main.version >= WIDE_VERSION
    pages = sub.wide_max_mapnr if wide else main.max_mapnr
    split = main.version >= SPLIT_VERSION and sub.split == 1
    start, end = part_of(sub, pages, wide=wide) if split else (0, pages)
    first_bitmap = (1 + main.sub_blocks) * main.block_size
    second_bitmap, mapped_pages = second_bitmap_of(main, pages)
    if mapped_pages < pages:
        message = (
            f"{main.bitmap_blocks} blocks of page bitmaps reach to page {mapped_pages:#x} of {pages:#x}: what "
            f"is behind cannot be found"
        )
        warn(findings, "image-bitmap", message)
    header = KdumpHeader(
        version=main.version,
        status=Status(main.status),
        block_size=main.block_size,
        machine=main.machine.partition(b"\0")[0].decode("ascii", "backslashreplace"),
        phys_base=sub.phys_base,
        pages=pages,
        mapped_pages=mapped_pages,
        start=start,
        end=end,
        split=split,
        first_bitmap=first_bitmap,
        second_bitmap=second_bitmap,
        descriptors=first_bitmap + main.bitmap_blocks * main.block_size,
    )
    return header, findings


def part_of(sub: SubHeader, pages: int, *, wide: bool) -> tuple[int, int]:
    """The pages that this part of a split dump has: from the first up to the last."""
    start, end = (sub.wide_start, sub.wide_end) if wide else (sub.start_pfn & MASK_32, sub.end_pfn & MASK_32)
    end = min(end, pages)
    return min(start, end), end


def second_bitmap_of(main: MainHeader, pages: int) -> tuple[int, int]:
    """Where the second bitmap is, or the only one, and of how many pages each has room for a bit."""
    block_size = main.block_size
    place = (1 + main.sub_blocks) * block_size
    blocks_each = -(-pages // (8 * block_size))
    room = main.bitmap_blocks
    if main.bitmap_blocks >= 2 * blocks_each:
        room = main.bitmap_blocks // 2
        place += room * block_size
    return place, min(pages, room * block_size * 8)


def read_main_header(source: Source) -> MainHeader:
    if source.size < MAIN_HEADER.size:
        refuse(source, f"is {source.size} bytes long: too short for its main header", 0)
    first = source.read(0, MAIN_HEADER.size)
    main = MainHeader(*MAIN_HEADER.unpack(first))
    if main.signature == magics.DISKDUMP:
        refuse(source, "is a diskdump image, the format before kdump, which is not supported", 0)
    if main.signature != magics.KDUMP:
        refuse(source, f"begins with {main.signature!r}, not with {magics.KDUMP!r}", 0)
    if main.block_size not in BLOCK_SIZES:
        for layout, machine in OTHER_BLOCK_SIZES:
            if layout.unpack_from(first)[0] in BLOCK_SIZES:
                refuse(source, f"is a kdump image of {machine}, which is not supported", 0)
        sizes = ", ".join(map(str, BLOCK_SIZES))
        refuse(source, f"states blocks of {main.block_size} bytes; they have {sizes}", 428)
    if main.version < 0:
        refuse(source, f"has a header of version {main.version}", 8)
    if main.sub_blocks < 1:
        refuse(source, f"states a sub header of {main.sub_blocks} blocks; it has at least one", 432)
    return main


def read_sub_header(source: Source, main: MainHeader) -> SubHeader:
    if source.size < main.block_size + SUB_HEADER.size:
        refuse(source, "ends inside its sub header", main.block_size)
    return SubHeader(*SUB_HEADER.unpack(source.read(main.block_size, SUB_HEADER.size)))


def refuse(source: Source, message: str, place: int) -> NoReturn:
    raise DumpError(message, path=source.path, place=place)


def warn(findings: list[Finding], check: str, message: str) -> None:
    findings.append(Finding(check, Severity.WARNING, None, message))
