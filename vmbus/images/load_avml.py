"""AVML images of version 2: records like those of LiME, each with its bytes in a snappy framed stream.

    header    32 bytes (see records); the range's last address is inclusive
    stream    chunks of at most 64 KiB, decoded; no length stands in front, it ends when the range is full
    trailer   8 bytes: how long the stream was

Opening walks over the heads of the chunks and decodes none.  A place of such a dump is that of the chunk
that a byte is in.  AVML leaves out blocks that are entirely zero, and the
last byte of every range; both are holes here.

A chunk whose head makes no sense takes the rest of its record with it; the next record is found by the
trailer, the one place where the length of the stream so far stands behind it.

Limits: at most MOST_CHUNKS chunks.  Sizes and places are in bytes, numbers little-endian.

Sources: microsoft/avml src/image.rs and README.md; google/snappy framing_format.txt.
"""

from __future__ import annotations

from . import magics
from .dump import Dump, FilePlace, MissingMemory, State
from .records import CUT, Record, RecordWalk
from .snappy import ChunkType
from .snappy_chunks import (
    HEAD_SIZE,
    LEAST_LENGTH,
    LOOKED_AT,
    STREAM_START,
    Chunk,
    StreamSource,
    Undecodable,
    chunk_at,
)
from .source import Source
from .stored import Segment, StoredDump

__all__ = ["MOST_CHUNKS", "AvmlDump", "AvmlWalk", "StreamWalk", "load"]

#: More chunks than this are not looked at: full ones are 1 TiB of memory.
MOST_CHUNKS = 1 << 24

TRAILER_SIZE = 8

#: So many bytes are taken from the file to look at heads: one page, since chunks are mostly larger.
WINDOW_SIZE = 4096


class AvmlWalk(RecordWalk):
    """All records of a file, of both kinds.

    streams   the file with what its chunks decode to behind it
    heads     how many chunks were looked at, data or not
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.streams = StreamSource(source)
        self.heads = 0
        self._window = b""
        self._window_place = 0

    def take_framed(self, record: Record, place: int) -> int | None:
        start = self.streams.size
        stream = StreamWalk(self, record, place)
        following = stream.go()
        known = min(self.streams.size - start, record.length)
        if known:
            self.segments.append(Segment(record.s_addr, known, start))
        self.lose(record, known, stream.why)
        return following

    def bytes_at(self, place: int, count: int) -> bytes:
        """So many bytes of the file, or fewer at its end; most of them come from a window of it."""
        at = place - self._window_place
        if not 0 <= at <= len(self._window) - count:
            size = max(0, min(WINDOW_SIZE, self.source.size - place))
            self._window, self._window_place, at = self.source.read(place, size) if size else b"", place, 0
        return self._window[at : at + count]

    def record_begins_at(self, place: int) -> bool:
        """Whether a record can begin there; the file can also end there."""
        first = self.bytes_at(place, len(magics.LIME))
        return place == self.source.size or first in (magics.LIME, magics.AVML)


class StreamWalk:
    """One stream, from chunk to chunk up to its trailer.

    why   why nothing more of the stream can be decoded; empty as long as it can
    """

    def __init__(self, walk: AvmlWalk, record: Record, start: int) -> None:
        self.walk = walk
        self.start = start
        self.here = start
        self.missing = record.length  # so many bytes are still to come
        self.why = ""

    def go(self) -> int | None:
        """Add its chunks to the index; where the next record is, None where that is not known."""
        first = self.walk.bytes_at(self.start, len(STREAM_START))
        if len(first) == len(STREAM_START) and first != STREAM_START:
            self.walk.say(
                "image-damaged", f"the stream at {self.start:#x} does not begin as a snappy stream does"
            )
        while True:
            first = self.walk.bytes_at(self.here, LOOKED_AT)
            if self._is_trailer(first):
                return self.here + TRAILER_SIZE
            if len(first) < (HEAD_SIZE if self.missing > 0 else TRAILER_SIZE):
                self._cut_short()
                return None
            chunk = chunk_at(self.here, first)
            if not self._can_take(chunk):
                return None
            self._take(chunk)

    def _is_trailer(self, first: bytes) -> bool:
        """Whether the stream ends here, as it should or not."""
        if len(first) < TRAILER_SIZE:
            return False
        length, stated = self.here - self.start, int.from_bytes(first[:TRAILER_SIZE], "little")
        if stated == length:
            if self.missing > 0 and not self.why:
                self._damaged(f"it ends at {self.here:#x}, {self.missing} bytes before its record is full")
            return True
        # No chunk begins with its own place in the stream; but a trailer can be wrong.
        if self.missing > 0 or not self.walk.record_begins_at(self.here + TRAILER_SIZE):
            return False
        self._damaged(f"it has {length} bytes, and the trailer at {self.here:#x} says {stated}")
        return True

    def _can_take(self, chunk: Chunk) -> bool:
        """Whether there is something to be found behind a chunk."""
        if ChunkType.PLAIN_WITHOUT_CRC < chunk.kind < ChunkType.FIRST_SKIPPABLE:
            self._damaged(f"the chunk at {chunk.place:#x} has the unknown type {chunk.kind:#04x}")
        elif chunk.length < LEAST_LENGTH.get(chunk.kind, 0):
            self._damaged(f"the chunk at {chunk.place:#x} has {chunk.length} bytes, too few for its type")
        elif chunk.end > self.walk.source.size:
            self._cut_short()
        elif self.walk.heads >= MOST_CHUNKS:
            self._damaged(f"more than {MOST_CHUNKS} chunks; those from {chunk.place:#x} on are left")
        else:
            return True
        return False

    def _take(self, chunk: Chunk) -> None:
        self.walk.heads += 1
        self.here = chunk.end
        if self.why or chunk.decoded == 0:
            return
        if chunk.decoded is None:
            self._damaged(f"the chunk at {chunk.place:#x} says that it decodes to more than a chunk can")
        elif self.missing <= 0:
            self._damaged(f"it goes on at {chunk.place:#x}, where its record is full")
        else:
            self.walk.streams.add(chunk)
            self.missing -= chunk.decoded
            if self.missing < 0:
                self._damaged(f"the chunk at {chunk.place:#x} goes over the end of its record")

    def _damaged(self, what: str) -> None:
        """Note what is wrong; of the memory that is missing by now, it is the reason."""
        self.why = self.why or f"in the stream at {self.start:#x}: {what}"
        self.walk.say("image-damaged", f"in the stream at {self.start:#x}: {what}")

    def _cut_short(self) -> None:
        self.why = self.why or CUT
        self.walk.cut_short("the stream of a record", self.start)


class AvmlDump(StoredDump):
    """The memory in a file of records, of which some or all have streams."""

    def __init__(self, source: Source) -> None:
        walk = AvmlWalk(source)
        walk.go()
        self._streams = walk.streams
        super().__init__(walk.streams, walk.segments, format="avml")
        self.findings[:0] = walk.findings.to_list()

    @property
    def size(self) -> int:
        return self._streams.file.size

    def where(self, address: int) -> FilePlace | None:
        place = super().where(address)
        return place and place._replace(offset=self._streams.place_of(place.offset))

    def _read_stored(self, offset: int, buffer: memoryview, address: int) -> None:
        try:
            self.source.read_into(offset, buffer)
        except Undecodable as error:
            lost = address + max(0, error.position - offset)
            raise MissingMemory(lost, State.LOST, error.why, path=self.path, place=error.place) from error


def load(source: Source) -> Dump:
    return AvmlDump(source)
