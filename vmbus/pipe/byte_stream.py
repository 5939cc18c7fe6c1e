"""A pipe of bytes: packets are only how they travel.

A reader that takes a part of a packet writes into the packet how much is gone, in the ring, and
leaves it there; a dump may show such a packet at out.  A packet of no bytes ends the stream.

Sources: OpenVMM vmbus_async/src/pipe.rs, byte mode.
"""

from __future__ import annotations

from operator import index

from vmbus.errors import CallerError, VmbusError
from vmbus.layout import PARTIAL_PIPE_HEADER, PartialPipeHeader, PipePacketType
from vmbus.ring import (
    Buffer,
    IncomingOffset,
    IncomingRing,
    OutgoingOffset,
    OutgoingRing,
    RingRange,
    view_bytes,
)

from .framing import check_header, open_packet, write_packet

__all__ = ["CHUNK_SIZE", "BytePipe"]

#: The most bytes that a byte stream puts into one packet, so that a reader gets them soon.
CHUNK_SIZE = 2048


class BytePipe:
    """Sends bytes through a ring and takes bytes out of another; never commits, never waits.

    incoming   the ring to read from
    outgoing   the ring to write to

    `read` and `write` move an offset of the ring; the caller commits or reverts it there.  One thing
    a revert cannot take back: bytes read from a packet that was not read to its end are gone, for
    how many they were stands in the ring itself.

    >>> from vmbus.pipe import connected_byte_pipes
    >>> near, far = connected_byte_pipes()
    >>> sent = near.outgoing.outgoing()
    >>> near.write(sent, b"one stream")
    10
    >>> near.write_end(sent)
    >>> signal = near.outgoing.commit_write(sent)
    >>> received = far.incoming.incoming()
    >>> far.read(received, 3), far.read(received, 100), far.read(received, 100)
    (b'one', b' stream', b'')
    """

    def __init__(self, incoming: IncomingRing, outgoing: OutgoingRing) -> None:
        self.incoming = incoming
        self.outgoing = outgoing

    def write(self, offset: OutgoingOffset, data: Buffer) -> int:
        """Write as many of the bytes as fit now, in packets of up to 2,048; how many that were.

        No bytes write no packet.  Raises RingFull when not even the first packet fits.
        """
        view = view_bytes(data, "data")
        done = 0
        while done < len(view):
            chunk = view[done : done + CHUNK_SIZE]
            try:
                write_packet(self.outgoing, offset, [chunk], raw=False)
            except VmbusError:
                if done == 0:
                    raise
                break  # what was written stays written; the next call raises again
            done += len(chunk)
        return done

    def write_end(self, offset: OutgoingOffset) -> None:
        """Write the end of the stream: the reader's `read` will return no bytes.  Raises RingFull."""
        write_packet(self.outgoing, offset, [], raw=False)

    def read(self, offset: IncomingOffset, limit: int) -> bytes:
        """Up to `limit` bytes, as many as are there; no bytes at the end of the stream.

        Raises RingEmpty when none have come, PeerError for what is no stream.
        """
        if limit < 1:
            raise CallerError(
                f"a read takes at least 1 byte, not {limit}: no bytes mean the end of the stream",
                argument="limit",
                value=limit,
                limit=1,
            )
        parts: list[bytes] = []
        # No call takes more than the ring holds, however fast the other side puts more into it.
        left = min(index(limit), self.incoming.size)
        first = offset.next_out
        while left:
            start = offset.next_out
            try:
                part = self._read_packet(offset, left)
            except VmbusError:
                offset.next_out = start
                if not parts:
                    raise
                break
            except BaseException:  # an interrupt: what was read is not returned, so it is not gone
                offset.next_out = first
                raise
            if not part:
                if parts:
                    offset.next_out = start  # the end is for a call that has nothing else to return
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def receive_into(self, offset: IncomingOffset, buffer: Buffer) -> int:
        """Bytes into `buffer`, as many as fit and are there: how many; 0 at the end of the stream.

        Raises as `read`.
        """
        view = view_bytes(buffer, "buffer", writable=True)
        data = self.read(offset, len(view))
        view[: len(data)] = data
        return len(data)

    def _read_packet(self, offset: IncomingOffset, limit: int) -> bytes:
        """Up to `limit` bytes of the next packet; none when it ends the stream.

        The packet stays, marked, when bytes of it are left.
        """
        start = offset.next_out
        payload = open_packet(self.incoming, offset)
        reader = payload.reader(self.incoming)
        length, consumed = check_header(reader, start, partial_allowed=True)
        reader.skip(consumed)
        taken = min(length - consumed, limit)
        data = reader.read(taken)
        if consumed + taken < length:
            self._mark(payload, length, consumed + taken)
            offset.next_out = start
        return data

    def _mark(self, payload: RingRange, length: int, consumed: int) -> None:
        """Write into the packet how many of its bytes are gone."""
        if self.incoming.memory.control.readonly:
            raise CallerError(
                "a part of a packet cannot be read from read-only memory: what is gone stands in the ring",
                argument="limit",
                value=consumed,
                limit=length,
            )
        header = PartialPipeHeader(PipePacketType.PARTIAL, length, consumed)
        payload.writer(self.incoming).write(PARTIAL_PIPE_HEADER.pack(header))
