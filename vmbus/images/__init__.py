"""Memory images: bytes at guest-physical addresses, out of files of many formats, with holes between.

`open_dump` finds out which format a file has.  What is only asked for with one format is imported when it is
first asked for, from here like all the rest:

    AvmlDump, ElfDump, KdumpDump, VmrsDump, MappedDump           kinds of Dump
    WindowsDump, BitmapDump                                      Windows crash dumps: BitmapDump those of types 5
                                                                 and 6, with a bitmap; WindowsDump the others
    HyperVStorage, ChannelPages                                  what a Hyper-V saved state holds besides
    load_mapped, parse_map, read_map, MemoryMap                  raw memory in several parts
    unpack, unflatten, FlattenedSource                           what wraps an image
    SparseWriter, write_raw_image, RawImage, LARGEST_RAW_IMAGE   and out again, as a raw file

Nothing here knows what a ring is.
"""

import typing

from .dump import PIECE_SIZE, TOP, Dump, FilePlace, MissingMemory, Run, State
from .dump_memory import DumpMemory
from .findings import MOST_FINDINGS, Check, Finding, Findings, Severity
from .missing_runs import MissingRuns
from .open_image import open_dump, read_stream
from .raw import RawDump, RawFileDump
from .source import BytesSource, FileSource, Source
from .space_dump import SpaceDump, dump_over
from .stored import Segment, StoredDump

__all__ = [
    "MOST_FINDINGS",
    "PIECE_SIZE",
    "TOP",
    "BytesSource",
    "Check",
    "Dump",
    "DumpMemory",
    "FilePlace",
    "FileSource",
    "Finding",
    "Findings",
    "MissingMemory",
    "MissingRuns",
    "RawDump",
    "RawFileDump",
    "Run",
    "Segment",
    "Severity",
    "Source",
    "SpaceDump",
    "State",
    "StoredDump",
    "dump_over",
    "open_dump",
    "read_stream",
]

# What is imported when it is first asked for: whoever looks at a raw file does not wait for it.
# Not in __all__, or `import *` would load them.
_LATER = (
    "LARGEST_RAW_IMAGE",
    "AvmlDump",
    "BitmapDump",
    "ChannelPages",
    "ElfDump",
    "FlattenedSource",
    "HyperVStorage",
    "KdumpDump",
    "MappedDump",
    "MemoryMap",
    "RawImage",
    "SparseWriter",
    "VmrsDump",
    "WindowsDump",
    "load_mapped",
    "parse_map",
    "read_map",
    "unflatten",
    "unpack",
    "write_raw_image",
)


def __getattr__(name: str) -> typing.Any:
    """The names that belong to one format."""
    if name in _LATER:
        from . import formats

        return getattr(formats, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
