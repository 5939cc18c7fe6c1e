"""A byte channel as asyncio streams: readline, readexactly, drain and all the rest.

The reader and the writer are asyncio's own, over a Transport that moves bytes between them and the
rings.  What sockets do at their ends is done here too, with these differences.

* The other side may close its channel without ending its stream, or die.  All that it sent is read
  first, also what already waits in the StreamReader; then reading raises PeerClosed, and
  `connection_lost` gets it, as they would get a ConnectionResetError.
* `close` sends what is in the buffer, ends this side's stream, and only then closes the channel: the
  other side reads an end, never PeerClosed.  It waits for room as long as that takes; `abort` does not.
  What comes in meanwhile is dropped, so that two sides that write without reading can both close.

Sizes are in bytes.

Sources: docs.python.org, asyncio Transports and Protocols, and Streams; Lib/asyncio/selector_events.py.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, BufferedProtocol, IncompleteReadError, Task
from contextlib import suppress
from typing import Any

from vmbus.errors import CallerError, PeerClosed, VmbusError
from vmbus.memory import Buffer, view_bytes

from .asynchronous import AsyncByteChannel

__all__ = ["ChannelTransport", "open_streams"]

log = logging.getLogger("vmbus.channel")

#: The most that is taken out of the ring for one `data_received`.
RECEIVE_SIZE = 65536

#: The most that is sent before it leaves the buffer and the limits are looked at again.
SEND_SIZE = 16384

#: The limits of the write buffer, as asyncio's own transports have them.
HIGH_WATER = 65536

#: A StreamReader's limit, as asyncio.open_connection has it: it holds at most twice as much.
READER_LIMIT = 65536


async def open_streams(
    channel: AsyncByteChannel, *, limit: int = READER_LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A StreamReader and a StreamWriter of the channel, which belongs to them from now on.

    limit   of the StreamReader: the longest line

    Raises CallerError for a channel of another kind.
    """
    if not isinstance(channel, AsyncByteChannel):
        raise CallerError(
            f"streams of bytes need an AsyncByteChannel, not {type(channel).__name__}",
            argument="channel",
            value=type(channel).__name__,
            limit="AsyncByteChannel",
        )
    loop = asyncio.get_running_loop()
    reader = ChannelReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = ChannelTransport(channel, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class ChannelReader(asyncio.StreamReader):
    """A StreamReader that gives all its bytes before it says that the other side is gone.

    Where a record is cut short, the PeerClosed has the IncompleteReadError with its bytes as its cause.
    """

    _lost: PeerClosed | None = None

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, PeerClosed):
            self._lost = exc
            self.feed_eof()
        else:
            super().set_exception(exc)

    def exception(self) -> Exception | None:
        return self._lost or super().exception()

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        if not data and n != 0 and self._lost is not None:
            raise self._lost
        return data

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        try:
            return await super().readuntil(separator)
        except IncompleteReadError as error:
            if self._lost is not None:
                raise self._lost from error
            raise

    async def readexactly(self, n: int) -> bytes:
        try:
            return await super().readexactly(n)
        except IncompleteReadError as error:
            if self._lost is not None:
                raise self._lost from error
            raise


class ChannelTransport(asyncio.Transport):
    """A Transport over a byte channel, for any asyncio Protocol.

    channel    belongs to the transport from now on, which closes it
    protocol   its `connection_made` is called at once, everything else by the loop

    `get_extra_info("channel")` is the channel.  The two tasks that move the bytes are the transport's;
    who cancels one of them aborts it.
    """

    def __init__(self, channel: AsyncByteChannel, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"channel": channel})
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._channel = channel
        self._protocol: Any = protocol
        # Reading.
        self._may_read = asyncio.Event()
        self._may_read.set()
        # Writing: the buffer, and what is to happen once it is empty.
        self._buffer = bytearray()
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._writing_paused = False
        self._ending = False
        self._closing = False
        self._something_to_do = asyncio.Event()
        # The ways out.
        self._write_error: PeerClosed | None = None
        self._reading_done = False
        self._finished = False
        protocol.connection_made(self)
        self._tasks: tuple[Task[None], ...] = (
            self._loop.create_task(self._receive()),
            self._loop.create_task(self._send()),
        )
        for task in self._tasks:
            task.add_done_callback(self._see_end_of)

    # -- what everybody asks -----------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        """True when nothing more can be written: after `close`, and once the other side is gone."""
        return self._closing or self._write_error is not None

    def __repr__(self) -> str:
        state = "closed" if self._finished else "closing" if self._closing else "open"
        return f"<{type(self).__name__}: {state}, {len(self._buffer)} bytes to send, {self._channel!r}>"

    # -- reading -----------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._may_read.is_set() and not self._closing and not self._reading_done

    def pause_reading(self) -> None:
        """Leave the other side's bytes in the ring; it waits when that is full.  Again is harmless."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _receive(self) -> None:
        while True:
            await self._may_read.wait()
            try:
                data = await self._channel.receive(RECEIVE_SIZE)
            except PeerClosed as error:
                await self._may_read.wait()
                if not self._closing:  # else the other task knows whether anything is lost
                    self._finish(error)
                return
            await self._may_read.wait()  # it may have been paused while nothing came
            if not data:
                self._end_reading()
                return
            if not self._closing:
                self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        protocol = self._protocol
        if not isinstance(protocol, BufferedProtocol):
            protocol.data_received(data)
            return
        view = memoryview(data)
        while view:
            room = view_bytes(protocol.get_buffer(len(view)), "buffer", writable=True)
            count = min(len(room), len(view))
            if not count:
                raise CallerError(
                    f"get_buffer() gave no room for {len(view)} bytes", argument="buffer", value=0, limit=1
                )
            room[:count] = view[:count]
            protocol.buffer_updated(count)
            view = view[count:]

    def _end_reading(self) -> None:
        """The other side's stream has ended; whether this one goes on the protocol says."""
        self._reading_done = True
        if self._closing:
            return
        keep_open = self._protocol.eof_received()
        if self._write_error is not None:
            self._finish(self._write_error)
        elif not keep_open:
            self.close()

    # -- writing -----------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send the bytes as soon as there is room; never waits."""
        view = view_bytes(data, "data")
        if self._ending:
            raise CallerError(
                f"this side's stream is ended, and {len(view)} bytes would come behind it",
                argument="data",
                value=len(view),
                limit=0,
            )
        if self.is_closing():
            log.warning("%d bytes are written to a stream that is closed or lost", len(view))
            return
        self._buffer += view
        if view:
            self._something_to_do.set()
        self._apply_limits()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End this side's stream behind what is in the buffer; the other side's goes on."""
        self._ending = True
        self._something_to_do.set()

    async def _send(self) -> None:
        while True:
            await self._something_to_do.wait()
            self._something_to_do.clear()
            try:
                while self._buffer:
                    part = self._buffer[:SEND_SIZE]
                    await self._channel.send(part)
                    del self._buffer[: len(part)]
                    self._apply_limits()
            except PeerClosed as error:
                self._lose_peer(error)
                return
            if self._ending or self._closing:
                with suppress(PeerClosed):  # nothing is lost: nobody is there to read the end
                    await self._channel.send_end()
            if self._closing:
                self._finish(None)
                return

    def _lose_peer(self, error: PeerClosed) -> None:
        """What is in the buffer is lost; what the other side sent before may still be in the ring."""
        if self._closing or self._reading_done:
            self._finish(error)
        else:
            self._write_error = error
            self._buffer.clear()
            self._apply_limits()  # or drain() would wait for ever

    # -- flow control of the writer ----------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio.WriteTransport has it: `low` is a quarter of `high`, and `high` 64 KiB."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise CallerError(
                f"the limits of the write buffer are high >= low >= 0, not {high} and {low}",
                argument="low",
                value=low,
                limit=high,
            )
        self._high, self._low = high, low
        self._apply_limits()

    def _apply_limits(self) -> None:
        protocol = self._protocol
        waiting = len(self._buffer)
        if not self._writing_paused and waiting > self._high:
            self._writing_paused = True
            protocol.pause_writing()
        elif self._writing_paused and waiting <= self._low:
            self._writing_paused = False
            protocol.resume_writing()

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Read no more; send what is in the buffer and the end of the stream, then close the channel."""
        if self._closing:
            return
        self._closing = True
        if self._loop.is_closed():
            self._channel.close()  # nobody will ever send the rest
        elif self._write_error is not None:
            self._finish(self._write_error)
        else:
            self._may_read.set()
            self._something_to_do.set()

    def abort(self) -> None:
        """Close the channel at once; what is in the buffer is lost."""
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        if self._finished:
            return
        self._finished = self._closing = True
        self._buffer.clear()
        self._channel.close()
        if self._loop.is_closed():
            return
        current = asyncio.current_task(self._loop)
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def _see_end_of(self, task: Task[None]) -> None:
        """One of the two tasks has ended; where it failed or was cancelled that ends the transport."""
        if task.cancelled():
            self._finish(None)
            return
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, VmbusError) and not self._finished:
            self._loop.call_exception_handler(
                {
                    "message": "a protocol's method failed, and its transport is closed",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._finish(error if isinstance(error, Exception) else None)
