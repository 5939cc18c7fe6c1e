"""A pipe of messages: each comes out as it went in, and what is no message is refused by its name and stays.

To try a pipe of your own:

>>> from vmbus.pipe import MessagePipe
>>> class MyPipe(MessagePipe):
...     pass
>>> trial = MessagePipeTrial(pages=1, start=0, memory="flat", raw=False, make_pipe=MyPipe)
>>> trial.perform("write", {"length": 40, "pieces": 2, "commit": True})
>>> trial.finish()

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from vmbus.errors import BufferTooSmall, CallerError, PeerError, RingFull
from vmbus.pipe import MessagePipe, PipeFault
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing

from .arguments import Choice, Flag, Number
from .differences import demand_bytes
from .packet_kinds import padded
from .pipe_under_test import DATA, HEADER, PARTIAL, PipePacket, PipeUnderTest, pipe_header
from .ring_model import LENGTH, MEMORY, PAGES, START, MakeMemory
from .trial import operation

__all__ = ["MessagePipeTrial"]


class Foreign(NamedTuple):
    """A packet that a pipe of messages refuses.

    payload    its payload
    fault      what a reader says of it
    in_band    False for one that is a completion
    """

    payload: bytes
    fault: PipeFault
    in_band: bool = True


FOREIGN = {
    "completion": Foreign(pipe_header(DATA, 8) + bytes(8), PipeFault.NOT_IN_BAND, in_band=False),
    "no header": Foreign(b"", PipeFault.HEADER_MISSING),
    "part of a stream": Foreign(pipe_header(PARTIAL, 8) + bytes(8), PipeFault.UNEXPECTED_PARTIAL),
    "unknown type": Foreign(pipe_header(0, 8) + bytes(8), PipeFault.UNKNOWN_TYPE),
    "set-up": Foreign(pipe_header(3, 0), PipeFault.SETUP_GPA_DIRECT),
    "tear-down": Foreign(pipe_header(4, 0), PipeFault.TEARDOWN_GPA_DIRECT),
    "one byte too long": Foreign(pipe_header(DATA, 9) + bytes(8), PipeFault.INVALID_LENGTH),
}

LARGEST_MESSAGE = 16384


class Message(PipePacket):
    """A message of the model; or a packet that is none, with its fault."""

    fault: PipeFault | None = None


class MessagePipeTrial(PipeUnderTest[MessagePipe, Message]):
    """A pipe of messages from a ring to itself, and a list.

    pages, start, memory, make_memory   as in RingTrial
    raw                                 without a header
    make_pipe                           makes a pipe over two ends of the ring, in place of MessagePipe
    """

    name = "message-pipe"
    summary = "messages through one ring: what comes out, and what is refused"
    settings = {"pages": PAGES, "start": START, "memory": MEMORY, "raw": Flag()}  # noqa: RUF012
    CORNERS = (
        "message of no bytes",
        "message of the largest size",
        "message that is too long",
        "message of several pieces",
        "raw message",
        "buffer too small",
        "packet that is no message",
        "wrap before the header",
        "wrap in a packet",
        "ring filled to the last slot",
        "refused by one slot",
        "empty ring read",
        "write reverted",
        "read reverted",
        "message that a new reader reads again",
    )

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        raw: bool,
        *,
        make_pipe: Callable[[IncomingRing, OutgoingRing], MessagePipe] | None = None,
        make_memory: MakeMemory | None = None,
    ) -> None:
        self.raw = raw
        super().__init__(pages, start, memory, make_pipe or partial(MessagePipe, raw=raw), make_memory)
        largest = self.size - 8 - 24 if raw else min(LARGEST_MESSAGE, self.size - 8 - 24 - HEADER)
        self.demand_equal(self.pipe.maximum_message_size, largest, "maximum_message_size")
        self.largest = largest

    def message(self, content: bytes) -> Message:
        if self.raw:
            return Message(padded(content), content)
        return Message(content, pipe_header(DATA, len(content)) + content)

    # -- writing ---------------------------------------------------------------------------------

    @operation(length=LENGTH, pieces=Number(1, 3), commit=Flag())
    def write(self, length: int, pieces: int, commit: bool) -> None:
        """A message, in so many pieces."""
        content = self.fresh(length)
        cut = [length * piece // pieces for piece in range(pieces + 1)]
        buffers = [content[cut[piece] : cut[piece + 1]] for piece in range(pieces)]
        attempt = partial(self.pipe.write, self.outgoing, *buffers)
        message = self.message(content)
        if length > self.largest:
            self.corners["message that is too long"] += 1
            with self.demand_raises(CallerError, f"a message of {length} bytes of at most {self.largest}"):
                attempt()
        elif message.total > self.room():
            self.demand_full(message.total, attempt)
        else:
            with self.demand_no_error("write"):
                attempt()
            self.count_message(length, pieces)
            self.written([message])
        if commit:
            self.commit_write()

    def demand_full(self, needed: int, attempt: Callable[[], Any]) -> None:
        room = self.room()
        if needed == room + 8:
            self.corners["refused by one slot"] += 1
        with self.demand_raises(RingFull, f"a packet of {needed} bytes with {room} free"):
            try:
                attempt()
            except RingFull as error:
                self.demand_equal((error.needed, error.free), (needed, room), "needed and free of RingFull")
                raise

    def count_message(self, length: int, pieces: int) -> None:
        if not length:
            self.corners["message of no bytes"] += 1
        if length == self.largest:
            self.corners["message of the largest size"] += 1
        if pieces > 1:
            self.corners["message of several pieces"] += 1
        if self.raw:
            self.corners["raw message"] += 1

    @operation(slots=Number(-1, 2, corners=[0]), padding=Number(0, 7), commit=Flag())
    def write_leaving(self, slots: int, padding: int, commit: bool) -> None:
        """The message that leaves exactly so many slots; -1 is one too many."""
        length = self.room() - self.message(b"").total - 8 * slots - padding
        if length >= 0:
            self.write(min(length, LARGEST_MESSAGE), 1, commit)

    @operation(excess=Number(-1, 8, corners=[0, 1]))
    def write_the_largest(self, excess: int) -> None:
        """The largest message into an empty ring, or one that is longer by so much."""
        self.empty()
        self.revert_write(False)
        self.write(self.largest + excess, 1, True)

    @operation(cut=Number(0, 6), length=LENGTH)
    def write_across_the_end(self, cut: int, length: int) -> None:
        """A message that begins so many slots before the end of the ring, in an empty ring."""
        self.empty()
        self.revert_write(False)
        filling = self.size - self.model.in_offset - 8 * cut - self.message(b"").total
        if filling >= 0:
            self.write(min(filling, LARGEST_MESSAGE), 1, True)
        self.write(length, 2, True)

    @operation(what=Choice(*FOREIGN))
    def write_what_is_no_message(self, what: str) -> None:
        """Somebody writes a packet that a pipe of messages does not take."""
        payload, fault, in_band = FOREIGN[what]
        message = Message(padded(payload), payload)
        if not in_band or not self.raw:
            message.fault = fault
        if message.total > self.room():
            return
        make = OutgoingPacket.in_band if in_band else partial(OutgoingPacket.completion, transaction_id=0)
        with self.demand_no_error("write into the ring"):
            where = self.pipe.outgoing.write(self.outgoing, make(len(payload)))
            where.writer(self.pipe.outgoing).write(payload)
        self.written([message])

    def bytes_of(self, packet: Message, at: int) -> bytes:
        found = super().bytes_of(packet, at)
        return b"\x0b" + found[1:] if packet.fault is PipeFault.NOT_IN_BAND else found

    # -- reading ---------------------------------------------------------------------------------

    @operation(commit=Flag())
    def read(self, commit: bool) -> None:
        """The next message."""
        self.read_with(lambda content: self.pipe.read(self.incoming))
        if commit:
            self.commit_read()

    @operation(more=Number(-8, 8, corners=[-1, 0]))
    def receive_into(self, more: int) -> None:
        """Into a buffer that has so many bytes more than the message needs, or fewer."""
        waiting = self.unread()
        length = len(waiting[0].content) if waiting else 8
        buffer = bytearray(max(0, length + more))
        if waiting and waiting[0].fault is None and len(buffer) < length:
            self.corners["buffer too small"] += 1
            with self.demand_raises(BufferTooSmall, f"{length} bytes into a buffer of {len(buffer)}"):
                try:
                    self.pipe.receive_into(self.incoming, buffer)
                except BufferTooSmall as error:
                    self.demand_equal(error.needed, length, "needed of BufferTooSmall")
                    raise
            return
        self.read_with(lambda content: bytes(buffer[: self.pipe.receive_into(self.incoming, buffer)]))

    def read_with(self, take: Callable[[bytes], bytes]) -> None:
        """Take the next message, whatever it is."""
        waiting = self.unread()
        if not waiting:
            self.demand_empty(lambda: take(b""))
            return
        message = waiting[0]
        if message.fault is not None:
            self.demand_fault(message.fault, take)
            with self.demand_no_error("read of the ring"):
                self.pipe.incoming.read(self.incoming)
        else:
            with self.demand_no_error("read"):
                found = take(message.content)
            demand_bytes(found, message.content, "a message")
        self.read_count += 1

    def demand_fault(self, fault: PipeFault, take: Callable[[bytes], bytes]) -> None:
        """A packet that is no message is refused by its name."""
        self.corners["packet that is no message"] += 1
        with self.demand_raises(PeerError, f"a packet with {fault.value}"):
            try:
                take(b"")
            except PeerError as error:
                self.demand_equal(error.kind, fault, "kind of PeerError")
                raise

    def empty(self) -> None:
        while self.unread():
            self.read(False)
        self.commit_read()

    def note_new_reader(self) -> None:
        if self.read_count:
            self.corners["message that a new reader reads again"] += 1
