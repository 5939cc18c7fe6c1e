"""The chunks of snappy framed streams in a file: their heads, an index of them, and their bytes on demand.

A head is the chunk's type and its length; a chunk with data also says how many bytes it decodes to, so that
an index needs to decode nothing.  Reading decodes the chunks that it needs, compares their checksums and
keeps the last few.

Limits: 16 bytes of memory for each chunk; KEPT_CHUNKS decoded ones.  Sizes and places are in bytes.

Source: google/snappy framing_format.txt.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from vmbus.errors import DumpError

from .snappy import (
    CRC_SIZE,
    IDENTIFIER,
    MOST_IN_CHUNK,
    ChunkType,
    SnappyError,
    decode_chunk,
    stated_length,
)
from .source import Source

__all__ = [
    "HEAD_SIZE",
    "KEPT_CHUNKS",
    "LEAST_LENGTH",
    "LOOKED_AT",
    "STREAM_START",
    "Chunk",
    "StreamSource",
    "Undecodable",
    "chunk_at",
]

#: Decoded chunks that are kept for the next read: 2 MiB, twice what is looked through at a time.
KEPT_CHUNKS = 32

HEAD_SIZE = 4  # of a chunk: its type, and three bytes of length

#: The first bytes of a chunk that are looked at: its head, checksum and the decoded length of its block.
LOOKED_AT = HEAD_SIZE + CRC_SIZE + 5

STREAM_START = bytes([ChunkType.IDENTIFIER, len(IDENTIFIER), 0, 0]) + IDENTIFIER

#: Types of chunks that have data, and how many bytes of their bodies come before it.
PLAIN: dict[int, int] = {ChunkType.PLAIN: CRC_SIZE, ChunkType.PLAIN_WITHOUT_CRC: 0}
BLOCKS: dict[int, int] = {ChunkType.COMPRESSED: CRC_SIZE, ChunkType.COMPRESSED_WITHOUT_CRC: 0}

#: What a chunk of data has at least: its checksum, and the length in front of a block.
LEAST_LENGTH: dict[int, int] = {
    ChunkType.COMPRESSED: CRC_SIZE + 1,
    ChunkType.PLAIN: CRC_SIZE,
    ChunkType.COMPRESSED_WITHOUT_CRC: 1,
}


class Chunk(NamedTuple):
    """The head of a chunk.

    place     of its head, in the file
    kind      its type
    length    of its body, in the file
    decoded   what its body says that it decodes to; 0 of what is no data, None where it makes no sense
    """

    place: int
    kind: int
    length: int
    decoded: int | None

    @property
    def end(self) -> int:
        return self.place + HEAD_SIZE + self.length


def chunk_at(place: int, first: bytes) -> Chunk:
    """The chunk that begins with these bytes, LOOKED_AT of them where the file has so many.

    >>> chunk_at(42, bytes.fromhex("000a0000 51a4e043 14"))
    Chunk(place=42, kind=0, length=10, decoded=20)
    """
    kind, length = first[0], int.from_bytes(first[1:HEAD_SIZE], "little")
    decoded: int | None = 0
    if kind in PLAIN:
        decoded = length - PLAIN[kind]
    elif kind in BLOCKS:
        try:
            decoded, _ = stated_length(first[: HEAD_SIZE + length], HEAD_SIZE + BLOCKS[kind])
        except SnappyError:
            decoded = None
    if decoded is None or not 0 <= decoded <= MOST_IN_CHUNK:
        decoded = None
    return Chunk(place, kind, length, decoded)


class Undecodable(DumpError):
    """A chunk cannot be decoded.

    position   of its first byte that was asked for, as an offset in the source
    why        what is wrong with it
    """

    def __init__(self, why: str, *, position: int, path: str, place: int) -> None:
        super().__init__(why, path=path, place=place)
        self.position = position
        self.why = why


class StreamSource(Source):
    """A file, and behind its last byte all that its chunks decode to.

    file   the file's own bytes
    """

    def __init__(self, file: Source) -> None:
        self.path = file.path
        self.size = file.size
        self.file = file
        self._starts = array("Q")  # of each chunk, where its decoded bytes begin here
        self._places = array("Q")  # and where it is in the file
        self._kept: dict[int, bytes | str] = {}

    def add(self, chunk: Chunk) -> None:
        """Put what a chunk decodes to behind all that there is."""
        self._starts.append(self.size)
        self._places.append(chunk.place)
        self.size += chunk.decoded or 0

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self._places)

    def place_of(self, offset: int) -> int:
        """Where in the file the byte at `offset` is stored: the place of its chunk, if it is in one."""
        if offset < self.file.size:
            return offset
        return self._places[bisect_right(self._starts, offset) - 1]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        if offset < self.file.size:
            self.file.read_into(offset, buffer)
            return
        number = bisect_right(self._starts, offset) - 1
        while buffer:
            content = self._decoded(number, offset)
            skipped = offset - self._starts[number]
            taken = min(len(content) - skipped, len(buffer))
            buffer[:taken] = content[skipped : skipped + taken]
            offset, buffer, number = offset + taken, buffer[taken:], number + 1

    def _decoded(self, number: int, offset: int) -> bytes:
        """What a chunk decodes to; Undecodable, also again, where it cannot be decoded."""
        kept = self._kept.pop(number, None)
        if kept is None:
            kept = self._decode(number)
        self._kept[number] = kept
        if len(self._kept) > KEPT_CHUNKS:
            del self._kept[next(iter(self._kept))]  # the one that was not used for longest
        if isinstance(kept, str):
            raise Undecodable(kept, position=offset, path=self.path, place=self._places[number])
        return kept

    def _decode(self, number: int) -> bytes | str:
        """What a chunk decodes to, or why it does not."""
        place = self._places[number]
        end = self._starts[number + 1] if number + 1 < len(self._starts) else self.size
        head = self.file.read(place, HEAD_SIZE)
        length = int.from_bytes(head[1:], "little")
        try:
            content = decode_chunk(head[0], self.file.read(place + HEAD_SIZE, length))
        except SnappyError as error:
            return str(error)
        if len(content) != end - self._starts[number]:
            return "the chunk was changed while it was looked at"
        return content

    def close(self) -> None:
        self.file.close()
