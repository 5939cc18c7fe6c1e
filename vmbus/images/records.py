"""The records of LiME and AVML images: back to back, each a stretch of memory behind a header of 32 bytes.

The last address of a record is inclusive, and its length any number of bytes.  AVML leaves out what is
entirely zero, LiME nothing; since a file does not say who wrote it, what is between records is a hole.

The bytes of a record of AVML's version 2 are compressed, and a walk of load_avml takes them.  What comes
behind a record that makes no sense cannot be found, and is left.

Limits: at most MOST_RECORDS records.  Sizes and places are in bytes, numbers little-endian.

Sources: LiME doc/README.md and src/lime.h; microsoft/avml src/image.rs.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from vmbus.errors import DumpError

from . import magics
from .dump import State
from .findings import Finding, Findings, Severity
from .source import Source
from .stored import Segment

__all__ = ["CUT", "MOST_RECORDS", "RECORD", "Record", "RecordWalk"]

#: More records than this are not looked at.  AVML makes one of every 16 MiB: these would be 16 TiB.
MOST_RECORDS = 1_048_576

#: The version that goes with each magic.
VERSIONS = {magics.LIME: 1, magics.AVML: 2}


class Record(NamedTuple):
    """What a record begins with; in the file e_addr is followed by eight bytes of zeros."""

    magic: bytes
    version: int
    s_addr: int
    e_addr: int  # inclusive

    @property
    def length(self) -> int:
        return self.e_addr - self.s_addr + 1


RECORD = Struct("<4sIQQ8x")

#: Why the rest of a record is lost when the file ends in it.
CUT = "the file ends within its record"


class RecordWalk:
    """All records of a file, from one to the next.

    segments   what the file has of memory, in its order
    findings   what is wrong with it, as many as are kept
    framed     whether a record of AVML's version 2 was met, which only a kind of walk in load_avml takes

    Raises DumpError when not even the first record is one.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.segments: list[Segment] = []
        self.findings = Findings()
        self.framed = False

    def go(self) -> None:
        place: int | None = 0
        for number in range(MOST_RECORDS + 1):
            if place is None or (number and place >= self.source.size):
                return
            if number == MOST_RECORDS:
                self.say(
                    "image-damaged",
                    f"has more than {MOST_RECORDS} records; those from {place:#x} on are left",
                )
                return
            place = self._take(place)

    def say(self, check: str, message: str) -> None:
        self.findings.add([Finding(check, Severity.WARNING, None, message)])

    def cut_short(self, what: str, place: int) -> None:
        self.say("image-cut-short", f"ends at {self.source.size:#x}, within {what} at {place:#x}")

    def _take(self, place: int) -> int | None:
        """Note the record at `place`; where the next one is."""
        if self.source.size - place < RECORD.size:
            if not place:
                message = (
                    f"has {self.source.size} bytes, fewer than the {RECORD.size} that a record begins with"
                )
                raise DumpError(message, path=self.source.path, place=0)
            self.cut_short("the header of a record", place)
            return None
        record = Record._make(RECORD.unpack(self.source.read(place, RECORD.size)))
        wrong = what_is_wrong(record)
        if wrong and not place:
            raise DumpError(f"its first record {wrong}", path=self.source.path, place=0)
        if wrong:
            self.say("image-damaged", f"the record at {place:#x} {wrong}; from there on nothing is known")
            return None
        if record.magic == magics.LIME:
            return self._take_stored(record, place + RECORD.size)
        self.framed = True
        return self.take_framed(record, place + RECORD.size)

    def take_framed(self, record: Record, place: int) -> int | None:
        """Note the record whose stream begins at `place`; where the next one is, if that is known."""
        return None

    def _take_stored(self, record: Record, place: int) -> int:
        stored = min(record.length, self.source.size - place)
        if stored:
            self.segments.append(Segment(record.s_addr, stored, place))
        if stored < record.length:
            self.lose(record, stored, CUT)
            self.cut_short(f"a record of {record.length} bytes", place - RECORD.size)
        return place + record.length

    def lose(self, record: Record, known: int, why: str) -> None:
        """Note that of a record only the first `known` bytes can be read."""
        if known < record.length:
            start = record.s_addr + known
            self.segments.append(Segment(start, record.length - known, self.source.size, State.LOST, why))


def what_is_wrong(record: Record) -> str:
    """Why this is no record, as the end of a sentence; nothing where it is one."""
    version = VERSIONS.get(record.magic)
    if version is None:
        return f"begins with {record.magic.hex(' ')}, as no record does"
    if record.version != version:
        return f"has version {record.version}, where {version} is known"
    if record.e_addr < record.s_addr:
        return f"ends at address {record.e_addr:#x}, before it starts at {record.s_addr:#x}"
    return ""
