"""A pipe of bytes: they come out in their order, however they are cut, and an end is never lost.

The model knows which bytes travel together and how many of those the ring says are gone.

To try a pipe of your own:

>>> from vmbus.pipe import BytePipe
>>> class MyPipe(BytePipe):
...     pass
>>> trial = BytePipeTrial(pages=1, start=0, memory="paged", make_pipe=MyPipe)
>>> trial.perform("write", {"length": 4000, "commit": True})
>>> trial.finish()

Sizes are in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vmbus.errors import RingFull
from vmbus.pipe import BytePipe
from vmbus.ring import IncomingRing, OutgoingRing

from .arguments import Flag, Number
from .differences import demand_bytes
from .pipe_under_test import DATA, HEADER, PARTIAL, PipePacket, PipeUnderTest, pipe_header
from .ring_model import MEMORY, PAGES, START, MakeMemory
from .trial import operation

__all__ = ["BytePipeTrial"]

#: The most bytes that travel in one packet.
CHUNK = 2048

#: How many bytes are written or asked for at once.
COUNT = Number(1, 9000, corners=[2, 7, 8, 40, 400, 2047, 2048, 2049, 2050, 4000, 4096, 4097])


class Chunk(PipePacket):
    """Bytes that travel together, and how many of them the ring says are gone; none are an end."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content, pipe_header(DATA, len(content)) + content)
        self.gone = 0


class BytePipeTrial(PipeUnderTest[BytePipe, Chunk]):
    """Both ends of one ring on a byte pipe, and a list of packets.

    pages, start, memory, make_memory   as in RingTrial
    make_pipe                           makes a pipe over two ends of the ring, in place of BytePipe
    """

    name = "byte-pipe"
    summary = "a stream of bytes through one ring: what comes out, and where it ends"
    settings = {"pages": PAGES, "start": START, "memory": MEMORY}  # noqa: RUF012
    CORNERS = (
        "write of several packets",
        "write of which a part fits",
        "packet read in part",
        "packet read on",
        "read over several packets",
        "end of the stream read",
        "end left for the next read",
        "part kept for a new reader",
        "wrap before the header",
        "wrap in a packet",
        "ring filled to the last slot",
        "refused by one slot",
        "empty ring read",
        "write reverted",
        "read reverted",
    )

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        *,
        make_pipe: Callable[[IncomingRing, OutgoingRing], BytePipe] = BytePipe,
        make_memory: MakeMemory | None = None,
    ) -> None:
        super().__init__(pages, start, memory, make_pipe, make_memory)

    def check(self) -> None:
        super().check()
        with self.demand_no_error("can_read"):
            readable = self.pipe.incoming.can_read(self.incoming)
        self.demand_equal(readable, bool(self.unread()), "whether there is something to read")

    def bytes_of(self, packet: Chunk, at: int) -> bytes:
        found = super().bytes_of(packet, at)
        if not packet.gone:
            return found
        return (
            found[:16] + struct.pack("<IHH", PARTIAL, len(packet.content), packet.gone) + found[16 + HEADER :]
        )

    # -- writing ---------------------------------------------------------------------------------

    @operation(length=COUNT, commit=Flag())
    def write(self, length: int, commit: bool) -> None:
        """Bytes, as many of them as fit."""
        content = self.fresh(length)
        chunks = [Chunk(content[at : at + CHUNK]) for at in range(0, length, CHUNK)]
        fitting = self.fitting(chunks)
        if fitting:
            with self.demand_no_error("write"):
                found = self.pipe.write(self.outgoing, content)
            self.demand_equal(found, sum(len(chunk.content) for chunk in fitting), "bytes written")
            self.count_write(len(fitting), len(chunks))
            self.written(fitting)
        else:
            self.demand_full(chunks[0], lambda: self.pipe.write(self.outgoing, content))
        if commit:
            self.commit_write()

    def fitting(self, chunks: list[Chunk]) -> list[Chunk]:
        fitting: list[Chunk] = []
        left = self.room()
        for chunk in chunks:
            left -= chunk.total
            if left < 0:
                break
            fitting.append(chunk)
        return fitting

    def count_write(self, fitting: int, wanted: int) -> None:
        if fitting > 1:
            self.corners["write of several packets"] += 1
        if fitting < wanted:
            self.corners["write of which a part fits"] += 1

    def demand_full(self, chunk: Chunk, attempt: Callable[[], object]) -> None:
        if chunk.total == self.room() + 8:
            self.corners["refused by one slot"] += 1
        with self.demand_raises(RingFull, f"a packet of {chunk.total} bytes with {self.room()} free"):
            try:
                attempt()
            except RingFull as error:
                self.demand_equal(error.needed, chunk.total, "needed of RingFull")
                raise

    @operation(slots=Number(-1, 1, corners=[0]), commit=Flag())
    def write_leaving(self, slots: int, commit: bool) -> None:
        """Bytes of which the last packet leaves exactly so many slots; -1 is one too many."""
        while self.room() > 2 * Chunk(bytes(CHUNK)).total:
            self.write(CHUNK, False)
        length = self.room() - Chunk(b"").total - 8 * slots
        if 0 < length <= CHUNK:
            self.write(length, commit)

    @operation(cut=Number(0, 6), length=COUNT)
    def write_across_the_end(self, cut: int, length: int) -> None:
        """A packet that begins so many slots before the end of the ring, in an empty ring."""
        self.empty()
        self.revert_write(False)
        left = self.size - self.model.in_offset - 8 * cut
        smallest, largest = Chunk(b"").total, Chunk(bytes(CHUNK)).total
        while left > largest + smallest:
            self.write(CHUNK - 8 * (left < 2 * largest), True)
            left = self.size - self.model.in_offset - 8 * cut
        if left > smallest:
            self.write(min(left - smallest, CHUNK), True)
        self.write(length, True)

    @operation(commit=Flag())
    def write_end(self, commit: bool) -> None:
        """The end of a stream; in these pipes another can begin behind it."""
        end = Chunk(b"")
        if end.total > self.room():
            self.demand_full(end, lambda: self.pipe.write_end(self.outgoing))
        else:
            with self.demand_no_error("write_end"):
                self.pipe.write_end(self.outgoing)
            self.written([end])
        if commit:
            self.commit_write()

    # -- reading ---------------------------------------------------------------------------------

    @operation(limit=COUNT, into=Flag())
    def read(self, limit: int, into: bool) -> None:
        """Up to so many bytes, as they are or into a buffer."""
        if not self.unread():
            self.demand_empty(lambda: self.take(limit, into))
            return
        with self.demand_no_error("read"):
            found = self.take(limit, into)
        demand_bytes(found, self.model_read(limit), "bytes read")

    @operation(spare=Number(-1, 1), into=Flag())
    def read_nearly_all_of_the_next(self, spare: int, into: bool) -> None:
        """The next packet to its end, or but for one byte, or with one byte of the one behind."""
        if self.unread():
            chunk = self.unread()[0]
            self.read(max(1, len(chunk.content) - chunk.gone + spare), into)

    def take(self, limit: int, into: bool) -> bytes:
        if not into:
            return self.pipe.read(self.incoming, limit)
        buffer = bytearray(limit)
        return bytes(buffer[: self.pipe.receive_into(self.incoming, buffer)])

    def model_read(self, limit: int) -> bytes:
        found = b""
        chunks = 0
        for chunk in self.unread():
            if len(found) == limit:
                break
            if not chunk.content:
                self.corners["end left for the next read" if found else "end of the stream read"] += 1
                self.read_count += not found
                break
            if chunk.gone:
                self.corners["packet read on"] += 1
            piece = chunk.content[chunk.gone :][: limit - len(found)]
            found += piece
            chunks += 1
            if chunk.gone + len(piece) < len(chunk.content):
                self.corners["packet read in part"] += 1
                chunk.gone += len(piece)
                break
            self.read_count += 1
        if chunks > 1:
            self.corners["read over several packets"] += 1
        return found

    def empty(self) -> None:
        while self.unread():
            self.read(9000, False)
        self.commit_read()

    def note_new_reader(self) -> None:
        if any(chunk.gone for chunk in self.model.waiting):
            self.corners["part kept for a new reader"] += 1
