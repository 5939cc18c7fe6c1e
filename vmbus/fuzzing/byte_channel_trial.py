"""Two channels of bytes: what arrives of both streams, where they end, and who must be signaled.

To try a channel of your own, of the kind of ByteChannel:

>>> from vmbus.channel import ByteChannel
>>> class MyChannel(ByteChannel):
...     pass
>>> trial = ByteChannelTrial(pages=1, start=0, memory="flat", make_channel=MyChannel)
>>> trial.perform("send", {"side": 0, "length": 5000})
>>> trial.perform("receive", {"side": 1, "limit": 9000, "into": False})
>>> trial.finish()
>>> trial.close()

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vmbus.channel import ByteChannel
from vmbus.errors import CallerError

from .arguments import Flag, Number
from .byte_pipe_trial import CHUNK, COUNT, Chunk
from .channel_under_test import (
    COMMON_CORNERS,
    PAGES_OF_CHANNELS,
    PATIENCE,
    SIDE,
    ChannelUnderTest,
    SideModel,
)
from .differences import demand_bytes
from .ring_model import MEMORY, START, MakeMemory, RingModel
from .trial import operation

__all__ = ["ByteChannelTrial"]


class ByteSide(SideModel[Chunk]):
    """One channel's own.

    end_sent   whether it has ended its stream
    ended      whether it has received the end of the other side's
    """

    def __init__(self, sends: RingModel[Chunk], receives: RingModel[Chunk]) -> None:
        super().__init__(sends, receives)
        self.end_sent = False
        self.ended = False


class ByteChannelTrial(ChannelUnderTest[ByteSide]):
    """Two channels of bytes and two lists, driven from both sides.

    pages, start, memory, make_memory   of both rings, as in RingTrial
    make_channel                        makes one of the channels, in place of ByteChannel: called with what a
                                        ByteChannel is called with
    """

    name = "byte-channel"
    summary = "two channels of bytes: what arrives, where each stream ends, who is signaled"
    settings = {"pages": PAGES_OF_CHANNELS, "start": START, "memory": MEMORY}  # noqa: RUF012
    CORNERS = (
        "send of which a part fits",
        "send of several packets",
        "send of no bytes",
        "send behind the end",
        "end sent again",
        "end with no room for it",
        "bytes sent after the other side's end was read",
        "end received while bytes can still be sent",
        "both streams ended",
        "receive behind the end",
        "end left for the next receive",
        "packet received in part",
        *COMMON_CORNERS,
    )

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        *,
        make_channel: Callable[..., Any] = ByteChannel,
        make_memory: MakeMemory | None = None,
    ) -> None:
        super().__init__(pages, start, memory, make_channel, make_memory, ByteSide)

    def finish(self) -> None:
        """All bytes that were sent arrive, where somebody is there to receive them."""
        for number, side in enumerate(self.sides):
            while not side.closed and not side.ended and side.receives.waiting:
                self.receive(number, 9000, False)
        self.check()

    # -- sending ---------------------------------------------------------------------------------

    @operation(side=SIDE, length=COUNT)
    def send(self, side: int, length: int) -> None:
        content = self.fresh(length)
        call = partial(self.ends[side].send, content, timeout=PATIENCE)
        if self.send_is_refused(side, call):
            return
        model = self.sides[side]
        if model.end_sent:
            self.corners["send behind the end"] += 1
            with self.demand_raises(CallerError, "bytes behind the end of a stream"):
                call()
            return
        chunks = [Chunk(content[at : at + CHUNK]) for at in range(0, length, CHUNK)]
        fitting = model.sends.fitting(chunks)
        if fitting:
            self.count_send(side, len(fitting), len(chunks))
            self.put(side, fitting)
        if len(fitting) < len(chunks):
            model.ask(chunks[len(fitting)].total)
            self.demand_full(sum(len(chunk.content) for chunk in fitting), call)
        else:
            with self.no_error(side):
                call()

    def count_send(self, side: int, fitting: int, wanted: int) -> None:
        if fitting > 1:
            self.corners["send of several packets"] += 1
        if fitting < wanted:
            self.corners["send of which a part fits"] += 1
        if self.sides[side].ended:
            self.corners["bytes sent after the other side's end was read"] += 1

    @operation(side=SIDE)
    def send_nothing(self, side: int) -> None:
        """No bytes send no packet, which would be an end."""
        call = partial(self.ends[side].send, b"", timeout=PATIENCE)
        if not self.send_is_refused(side, call):
            self.corners["send of no bytes"] += 1
            with self.no_error(side):
                call()

    @operation(side=SIDE, slots=Number(-1, 1, corners=[0]))
    def send_leaving(self, side: int, slots: int) -> None:
        """Bytes of which the last packet leaves exactly so many slots; -1 is one too many."""
        free = self.sides[side].sends.free - 8 * slots
        whole, rest = divmod(free, Chunk(bytes(CHUNK)).total)
        length = whole * CHUNK + max(0, rest - Chunk(b"").total)
        if length:
            self.send(side, length)

    @operation(side=SIDE, chance=Number(0, 7))
    def send_end(self, side: int, chance: int) -> None:
        """End this side's stream, now and then."""
        if chance > 1:
            return
        call = partial(self.ends[side].send_end, timeout=PATIENCE)
        if self.send_is_refused(side, call):
            return
        model = self.sides[side]
        end = Chunk(b"")
        if not model.end_sent and end.total > model.sends.free:
            self.corners["end with no room for it"] += 1
            model.ask(end.total)
            self.demand_full(None, call)
            return
        if model.end_sent:
            self.corners["end sent again"] += 1
        else:
            self.put(side, [end])
            model.end_sent = True
            if self.sides[1 - side].end_sent:
                self.corners["both streams ended"] += 1
        with self.no_error(side):
            call()

    # -- receiving -------------------------------------------------------------------------------

    @operation(side=SIDE, limit=COUNT, into=Flag())
    def receive(self, side: int, limit: int, into: bool) -> None:
        """Up to so many bytes, as they are or into a buffer."""
        call = partial(self.take_bytes, side, limit, into)
        if self.is_refused(side, call):
            return
        model = self.sides[side]
        if model.ended:
            self.corners["receive behind the end"] += 1
            expected = b""
        elif not model.receives.waiting:
            model.sleep()
            self.demand_nothing(side, call)
            return
        else:
            expected = self.next_bytes(side, limit)
        with self.no_error(side):
            found = call()
        demand_bytes(found, expected, "bytes received")

    def take_bytes(self, side: int, limit: int, into: bool) -> bytes:
        end = self.ends[side]
        if not into:
            data: bytes = end.receive(limit, timeout=PATIENCE)
            return data
        buffer = bytearray(limit)
        return bytes(buffer[: end.receive_into(buffer, timeout=PATIENCE)])

    def next_bytes(self, side: int, limit: int) -> bytes:
        """What the next receive returns; the end is for one that has nothing else to return."""
        model = self.sides[side]
        found = b""
        count = 0
        for chunk in model.receives.waiting:
            if len(found) == limit:
                break
            if not chunk.content:
                if found:
                    self.corners["end left for the next receive"] += 1
                else:
                    count = 1
                    self.end(side)
                break
            piece = chunk.content[chunk.gone :][: limit - len(found)]
            found += piece
            if chunk.gone + len(piece) < len(chunk.content):
                self.corners["packet received in part"] += 1
                chunk.gone += len(piece)
                break
            count += 1
        self.take(side, count)
        return found

    def end(self, side: int) -> None:
        """The other side's stream has ended."""
        model = self.sides[side]
        model.ended = True
        if not model.end_sent:
            self.corners["end received while bytes can still be sent"] += 1
