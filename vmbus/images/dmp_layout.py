"""The shape of a 64-bit Windows crash dump: a header of two pages, then what its type says.

All numbers are little-endian, a page has 4096 bytes, and a page number counts pages from address 0.  What Windows
does not fill in of the header holds the text "PAGE".

Sources: QEMU include/qemu/win_dump_defs.h, WinDumpHeader64, and contrib/elf2dmp; Rekall and Volatility 3,
layers/crash.py; kdmp-parser, src/structs.rs.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

__all__ = [
    "ADDRESS_PAGES",
    "BITMAP",
    "BITMAP_SIGNATURES",
    "BITMAP_START",
    "DUMP_TYPE",
    "FILLER",
    "HEADER",
    "HEADER_SIZE",
    "MACHINES",
    "MOST_RUNS",
    "RANGES",
    "RANGES_SIGNATURE",
    "RANGES_START",
    "RANGE_MARKER",
    "RUN",
    "BitmapHeader",
    "DmpHeader",
    "DumpType",
    "RangesHeader",
]

#: The header in bytes; memory, or a second header, begins behind it.
HEADER_SIZE = 0x2000

#: The text "PAGE" as a number: nobody has filled this in.
FILLER = 0x45474150

#: The runs of memory end where the processor's registers begin, at 0x348.
MOST_RUNS = 43

#: Page numbers are below this: an address has 64 bits.
ADDRESS_PAGES = 2**52

#: The processors that 64-bit Windows runs on.
MACHINES = {0x8664: "x64", 0xAA64: "arm64"}


class DumpType(IntEnum):
    """What is stored, and how."""

    FULL = 1
    OLD_KERNEL = 2
    MINI = 4
    BITMAP = 5
    LIVE = 6
    KERNEL = 8
    KERNEL_AND_USER = 9
    COMPLETE = 0xA


class DmpHeader(NamedTuple):
    """The start of the header, up to the runs.

    signature, kind        "PAGE" and "DU64"; "DUMP" instead is a dump of 32-bit Windows
    build                  the number of the Windows build
    directory_table_base   CR3 of the processor that wrote the dump
    run_count              runs of memory behind this structure, or FILLER
    page_count             pages in all of them
    """

    signature: bytes
    kind: bytes
    major: int
    build: int
    directory_table_base: int
    pfn_database: int
    loaded_modules: int
    active_processes: int
    machine: int
    processors: int
    bug_check: int
    debugger_data: int
    run_count: int
    page_count: int


#: At 0.
HEADER = Struct("<4s4sIIQQQQIII68xQI4xQ")

#: One run of memory: the number of its first page, and how many there are.
RUN = Struct("<QQ")

#: At 0xf98, the type of the dump.
DUMP_TYPE = Struct("<3992xI")


class BitmapHeader(NamedTuple):
    """What stands behind the header of types 5 and 6, before the bitmap.

    first_page   where in the file the first stored page begins
    stored       how many pages are stored: the bits that are set
    bits         how many bits the bitmap has, the first of each byte being its lowest
    """

    signature: bytes
    first_page: int
    stored: int
    bits: int


BITMAP = Struct("<8s24xQQQ")
BITMAP_START = HEADER_SIZE + BITMAP.size
BITMAP_SIGNATURES = (b"SDMPDUMP", b"FDMPDUMP")


class RangesHeader(NamedTuple):
    """What stands behind the header of types 8, 9 and 10, before the list of ranges.

    metadata_size   bytes from 0x2020 to the first page
    first_page      where in the file it begins
    total           of type 10, pages in all ranges
    """

    marker: int
    signature: bytes
    metadata_size: int
    first_page: int
    total: int


RANGES = Struct("<I8s4xQQ8xQ")
RANGES_START = HEADER_SIZE + RANGES.size
RANGES_SIGNATURE = b"RDMPDUMP"
RANGE_MARKER = 0x40
