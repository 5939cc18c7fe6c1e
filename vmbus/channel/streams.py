"""A byte channel as a file, for code that reads and writes files.

`io.BufferedReader`, `io.BufferedWriter` and `io.TextIOWrapper` go around it as around any raw file.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Protocol

from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.memory import Buffer

__all__ = ["ChannelFile", "FileChannel"]

MODES = ("rb", "wb", "rwb")


class FileChannel(Protocol):
    """What a file needs of a byte channel."""

    def send(self, data: Buffer, timeout: float | None = None) -> None: ...

    def send_end(self, timeout: float | None = None) -> None: ...

    def receive_into(self, buffer: Buffer, timeout: float | None = None) -> int: ...


class ChannelFile(io.RawIOBase):
    """A raw file over a byte channel.

    mode      "rb", "wb" or "rwb"
    timeout   seconds that one read or write may wait; None waits for ever

    It has no descriptor: what one would read from it is not the stream (poll the channel's own).
    The end of the other side's stream is the end of the file.  Closing the file ends this side's
    stream, when it can be written; the channel stays open and belongs to the caller.

    Close it: a file that is dropped instead does not end the stream, for a finalizer must not wait
    for room in a ring.  What a wrapper of it that is dropped still has in its buffer is not sent.

    >>> import io
    >>> from vmbus.channel import ByteChannel, connected_channels
    >>> guest, host = connected_channels(kind=ByteChannel)
    >>> with io.TextIOWrapper(io.BufferedWriter(guest.makefile("wb")), encoding="utf-8") as lines:
    ...     print("first line", "second line", sep="\\n", file=lines)
    >>> list(io.BufferedReader(host.makefile("rb")))
    [b'first line\\n', b'second line\\n']
    """

    #: Until it is opened: one that is refused is closed all the same.
    _mode = "rb"

    #: Dropped, or inside of what is dropped: nothing may wait any more.
    _dropped = False

    def __init__(self, channel: FileChannel, mode: str = "rwb", timeout: float | None = None) -> None:
        if mode not in MODES:
            raise CallerError(
                f"a channel's file is opened as one of {', '.join(MODES)}, not {mode!r}",
                argument="mode",
                value=mode,
                limit=MODES,
            )
        self._channel = channel
        self._mode = mode
        self._timeout = timeout

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "w" in self._mode

    def readinto(self, buffer: Buffer) -> int:
        if not self.readable():
            raise io.UnsupportedOperation(f"this file was opened as {self._mode!r}, to be written")
        return self._channel.receive_into(buffer, self._timeout) if len(memoryview(buffer)) else 0

    def write(self, data: Buffer) -> int:
        """Send all the bytes: how many they are, or were when the time was over."""
        if not self.writable():
            raise io.UnsupportedOperation(f"this file was opened as {self._mode!r}, to be read")
        if self._dropped:
            raise CallerError(
                "what was dropped without being closed sends nothing more: close it",
                argument="self",
                value="dropped",
                limit="closed",
            )
        length = memoryview(data).nbytes
        try:
            self._channel.send(data, self._timeout)
        except TimedOut as error:
            if not error.done:
                raise
            return error.done  # what a raw file may do; the caller writes the rest
        return length

    def close(self) -> None:
        if not self.closed:
            try:
                if self.writable() and not self._dropped:
                    with suppress(ChannelClosed, PeerClosed):  # nobody is there to read the end
                        self._channel.send_end(self._timeout)
            finally:
                super().close()

    def _dealloc_warn(self, source: object) -> None:
        """Called by the io module's wrappers when they are finalized, before they flush and close."""
        self._dropped = True

    def __del__(self) -> None:
        self._dropped = True
        self.close()
