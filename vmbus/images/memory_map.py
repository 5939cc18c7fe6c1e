"""Raw files that hold several stretches of memory one behind the other, and the maps that say which.

A map is text in one of two forms:

    00001000-0009fbff : System RAM     lines of /proc/iomem.  Those of System RAM that are not indented lie
    00100000-7ffdffff : System RAM     in the file, in this order, without a gap (LiME format=raw)

    0x1000    0x9ec00    0             lines of address, length, offset in the file; numbers as on a command
    0x100000  2046M      0x9ec00       line: 4096, 0x1000, 4_096 or 4K (also M and G); # starts a comment

Limits: MOST_LINES lines.  Addresses, lengths and offsets are in bytes.

Sources: LiME doc/README.md and src/main.c; Linux kernel/resource.c, r_show().
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from vmbus.errors import DumpError

from .dump import TOP
from .findings import Finding, Severity
from .source import Source, file_error
from .stored import Segment, StoredDump

__all__ = ["MOST_LINES", "MappedDump", "MemoryMap", "load_mapped", "parse_map", "read_map"]

#: A machine has some tens of stretches of memory, and a map of single pages can have more.
MOST_LINES = 1_048_576

#: The most bytes of a map.
LARGEST_MAP = 64 << 20

IOMEM_LINE = re.compile(
    r"(?P<indent> *)(?P<first>[0-9a-f]+)-(?P<last>[0-9a-f]+) : (?P<name>.*)", re.IGNORECASE
)
MEMORY_NAME = "System RAM"

#: By how many bits a letter behind a number shifts it.
SUFFIXES = {"k": 10, "m": 20, "g": 30}

#: What can be a number in hex without 0x in front.
HEX_DIGITS = re.compile(r"[0-9a-f]{1,16}", re.IGNORECASE)


class MemoryMap:
    """What a map says.

    name       the file it came from
    segments   the stretches of memory, in the order of the lines
    """

    def __init__(self, name: str, segments: list[Segment]) -> None:
        self.name = name
        self.segments = segments

    @property
    def end(self) -> int:
        """How many bytes a file has to which it belongs."""
        return max(segment.offset + segment.length for segment in self.segments)


class MappedDump(StoredDump):
    """A raw file, read through a map.

    >>> from .source import BytesSource
    >>> dump = MappedDump(BytesSource("two.raw", memoryview(b"lowhigh")), parse_map("0x1000 3 0\\n0x8000 4 3"))
    >>> dump.read(0x8000, 4), dump.where(0x8001)
    (b'high', FilePlace(path='two.raw', offset=4))
    """

    def __init__(self, source: Source, memory_map: MemoryMap) -> None:
        super().__init__(source, memory_map.segments, format="raw+map")
        self.memory_map = memory_map
        rest = source.size - memory_map.end
        if rest > 0:
            message = f"{rest} bytes at {memory_map.end:#x} of it are not in {memory_map.name}, perhaps a map of another file"
            self.findings.append(Finding("image-map", Severity.WARNING, None, message))


def load_mapped(source: Source, memory_map: MemoryMap) -> MappedDump:
    """The memory in a raw file for which there is a map."""
    return MappedDump(source, memory_map)


def read_map(path: str | os.PathLike[str]) -> MemoryMap:
    """The map in a file; DumpError with the line that is wrong."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(LARGEST_MAP + 1)
    except (OSError, ValueError) as error:
        raise file_error(error, name) from error
    if len(data) > LARGEST_MAP:
        raise DumpError(
            f"has more than {LARGEST_MAP} bytes, too many for a map", path=name, place=LARGEST_MAP
        )
    return parse_map(data.decode("utf-8-sig", errors="replace"), name)


def parse_map(text: str, name: str = "the map") -> MemoryMap:
    """A map from its text, in either form; DumpError with the line that is wrong.

    >>> parse_map("00001000-00001fff : System RAM\\n  00001000-000010ff : Kernel code").segments
    [Segment(address=4096, length=4096, offset=0, state=<State.PRESENT: 'present'>, why='')]
    """
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise DumpError(f"has {len(lines)} lines; a map has at most {MOST_LINES}", path=name)
    form = iomem_segments if any(IOMEM_LINE.fullmatch(line.rstrip()) for line in lines) else listed_segments
    segments = list(form(lines, name))
    if not segments:
        raise DumpError("has no memory in it", path=name)
    return MemoryMap(name, segments)


def iomem_segments(lines: list[str], name: str) -> Iterator[Segment]:
    """The stretches in lines of /proc/iomem, each in the file behind the one before."""
    offset = 0
    known = False  # whether any number is one
    for number, line in meaningful(lines):
        match = IOMEM_LINE.fullmatch(line)
        if match is None:
            raise wrong_line(name, number, f"is no line of /proc/iomem: {line[:60]!r}")
        first, last = int(match["first"], 16), int(match["last"], 16)
        known = known or last > 0
        if match["indent"] or match["name"] != MEMORY_NAME:
            continue
        if first > last:
            raise wrong_line(name, number, f"ends at {last:#x}, before it starts at {first:#x}")
        if last >= TOP:
            raise wrong_line(name, number, f"ends at {last:#x}, above 64 bits")
        yield Segment(first, last - first + 1, offset)
        offset += last - first + 1
    if not known:
        message = (
            "has only zeros for addresses: the kernel shows the real ones in /proc/iomem to those with "
            "CAP_SYS_ADMIN; read it as root"
        )
        raise DumpError(message, path=name)


def listed_segments(lines: list[str], name: str) -> Iterator[Segment]:
    """The stretches in lines of address, length and offset."""
    for number, line in meaningful(lines):
        words = line.split()
        if len(words) != 3:
            raise wrong_line(
                name, number, f"has {len(words)} words, not address, length and offset: {line[:60]!r}"
            )
        address, length, offset = (number_in(word, name, number) for word in words)
        if not length:
            raise wrong_line(name, number, "has a length of 0")
        if address + length > TOP:
            raise wrong_line(
                name, number, f"goes over the end of 64-bit addresses: {length} bytes at {address:#x}"
            )
        yield Segment(address, length, offset)


def meaningful(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The lines with something on them, without comments, and their numbers from 1 on."""
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0].rstrip()
        if content:
            yield number, content


def number_in(word: str, name: str, line: int) -> int:
    shift = SUFFIXES.get(word[-1:].lower(), 0)
    try:
        value = int(word[:-1] if shift else word, 0) << shift
    except ValueError:  # also more digits than Python cares to read
        message = f"has {word[:30]!r}, which is no number: write {in_hex(word)}"
        raise wrong_line(name, line, message) from None
    if not 0 <= value < TOP:
        raise wrong_line(name, line, f"has {word[:30]}, which is not in 64 bits")
    return value


def in_hex(word: str) -> str:
    """What to write for a word that is no number."""
    if HEX_DIGITS.fullmatch(word):
        return f"0x{word.lstrip('0') or '0'} for hex"
    return "4096, 0x1000, 4_096 or 4K"


def wrong_line(name: str, number: int, what: str) -> DumpError:
    return DumpError(f"line {number} {what}", path=name)
