"""Frames on a byte stream: each after its length, four bytes with the largest first.

    00 00 00 06  01 02 03 04 05 06     a frame of six bytes

A length is 1 to 65,536; any other is an error, after which nothing more can be read.  No input or
output is done here: bytes come in by `feed` and go out by `encode_frame`.

Sources: libkrun and smolvm smolvm-network, the stream between a virtual machine monitor and its
network process.
"""

from __future__ import annotations

import struct
from copy import copy

from construct import Int32ub, Struct

from vmbus.errors import CallerError, PeerError
from vmbus.memory import Buffer, view_bytes

from .network_faults import FrameStreamFault

__all__ = ["FRAME_PREFIX_SCHEMA", "LARGEST_STREAM_FRAME", "FrameStreamDecoder", "encode_frame"]

#: Bytes of the largest frame, and of the largest packet between peers of a fabric.
LARGEST_STREAM_FRAME = 65536

FRAME_PREFIX_SCHEMA = Struct("length" / Int32ub)

# The same for the loops.
PREFIX = struct.Struct(FRAME_PREFIX_SCHEMA.length.fmtstr)


def encode_frame(frame: Buffer) -> bytes:
    """The bytes that put a frame on the stream.

    Raises CallerError for an empty frame, and for one of more than 65,536 bytes.

    >>> encode_frame(bytes([1, 2, 3, 4, 5, 6])).hex(" ")
    '00 00 00 06 01 02 03 04 05 06'
    """
    view = view_bytes(frame, "frame")
    length = len(view)
    if not 1 <= length <= LARGEST_STREAM_FRAME:
        raise CallerError(
            f"a frame on a stream has 1 to {LARGEST_STREAM_FRAME} bytes, not {length}",
            argument="frame",
            value=length,
            limit=LARGEST_STREAM_FRAME,
        )
    return PREFIX.pack(length) + view


class FrameStreamDecoder:
    """Takes a stream apart, however it was cut.

    clean_in_prefix   whether a stream may end inside a length, as those between peers of a fabric do

    It holds at most one frame that is not whole yet.

    `fault` is what was wrong with the stream, once something was: the frames before it are still
    returned, and every call after that raises it.

    >>> decoder = FrameStreamDecoder()
    >>> decoder.feed(bytes.fromhex("00 00 00 03 07 08")), decoder.feed(b"\\x09"), decoder.finish()
    ([], [b'\\x07\\x08\\t'], None)
    """

    def __init__(self, *, clean_in_prefix: bool = False) -> None:
        self.fault: PeerError | None = None
        self._clean_in_prefix = clean_in_prefix
        self._part = bytearray()  # of a length, or of a frame with its length
        self._position = 0  # bytes of the stream before that

    @property
    def held(self) -> int:
        """Bytes of a frame that is not whole yet, its length included."""
        return len(self._part)

    def feed(self, data: Buffer) -> list[bytes]:
        """The frames that these bytes complete.

        Raises PeerError for a length that cannot be; when there are frames before it, at the next call.
        """
        self._check()
        frames = []
        rest = view_bytes(data, "data")
        while rest:
            wanted = self._wanted() - len(self._part)
            self._part += rest[:wanted]
            rest = rest[wanted:]
            if len(self._part) < PREFIX.size:
                continue
            wanted = self._wanted()
            if not PREFIX.size < wanted <= PREFIX.size + LARGEST_STREAM_FRAME:
                self._refuse_length(wanted - PREFIX.size)
                break
            if len(self._part) == wanted:
                frames.append(bytes(self._part[PREFIX.size :]))
                self._position += wanted
                self._part.clear()
        if not frames:
            self._check()
        return frames

    def finish(self) -> None:
        """Say that the stream is over; PeerError when that is inside a frame."""
        self._check()
        if not self._part or (self._clean_in_prefix and len(self._part) < PREFIX.size):
            return
        inside = len(self._part) >= PREFIX.size
        where = "a frame" if inside else "the length of a frame"
        self.fault = PeerError(
            f"the stream ends inside {where}, which begins at byte {self._position}: {len(self._part)} of "
            f"{self._wanted()} bytes are there",
            kind=FrameStreamFault.TRUNCATED,
            offset=self._position,
            found=len(self._part),
            allowed=self._wanted(),
        )
        self._check()

    def _wanted(self) -> int:
        """How many bytes must be there for the next step: the length's own, then those it counts too."""
        if len(self._part) < PREFIX.size:
            return PREFIX.size
        length: int = PREFIX.unpack_from(self._part)[0]
        return PREFIX.size + length

    def _refuse_length(self, length: int) -> None:
        self._part.clear()
        self.fault = PeerError(
            f"the frame at byte {self._position} of the stream says that it has {length} bytes: it can have "
            f"1 to {LARGEST_STREAM_FRAME}",
            kind=FrameStreamFault.LENGTH,
            offset=self._position,
            found=length,
            allowed=LARGEST_STREAM_FRAME,
        )

    def _check(self) -> None:
        if self.fault is not None:
            raise copy(self.fault) from None

    def __repr__(self) -> str:
        state = "broken" if self.fault is not None else f"{self.held} bytes held"
        return f"<FrameStreamDecoder: {state}>"
