"""A pipe of messages: each packet is one, with its exact length.

Sources: OpenVMM vmbus_async/src/pipe.rs, message mode and raw mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vmbus.ring import Buffer, IncomingOffset, IncomingRing, OutgoingOffset, OutgoingRing, RingRangeReader

from .framing import check_header, largest_payload, open_packet, write_packet

__all__ = ["MessagePipe"]

Result = TypeVar("Result")


class MessagePipe:
    """Frames messages into a ring and takes them out of another; never commits, never waits.

    incoming   the ring to read from
    outgoing   the ring to write to
    raw        no header: a message is a packet's payload, its length rounded up to 8

    `read` and `write` move an offset of the ring; the caller commits or reverts it there.  A packet
    that a call refuses with an error stays unread, and the next call looks at it anew: only what is
    wrong with the ring itself is kept by the ring.

    >>> from vmbus.pipe import connected_message_pipes
    >>> near, far = connected_message_pipes()
    >>> offset = near.outgoing.outgoing()
    >>> near.write(offset, b"hello", b", pipe")
    >>> near.outgoing.commit_write(offset)
    True
    >>> far.read(far.incoming.incoming())
    b'hello, pipe'
    """

    def __init__(self, incoming: IncomingRing, outgoing: OutgoingRing, *, raw: bool = False) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.raw = raw

    @property
    def maximum_message_size(self) -> int:
        """Bytes of the longest message: 16,384 or less in a small ring; raw, what the ring holds."""
        return largest_payload(self.outgoing, raw=self.raw)

    def write(self, offset: OutgoingOffset, *buffers: Buffer) -> None:
        """Write one message of all `buffers`, one behind the other, without joining them first.

        Raises RingFull, which names the bytes needed; CallerError when it is too long.
        """
        write_packet(self.outgoing, offset, buffers, self.raw)

    def read(self, offset: IncomingOffset) -> bytes:
        """The next message, copied.

        Raises RingEmpty when there is none, PeerError for what is no message.
        """
        return self._read(offset, RingRangeReader.read)

    def receive_into(self, offset: IncomingOffset, buffer: Buffer) -> int:
        """The next message into `buffer`: its length.

        Raises as `read`, and BufferTooSmall, which names the length.
        """
        return self._read(offset, lambda reader, length: reader.read_into(buffer, length))

    def _read(self, offset: IncomingOffset, take: Callable[[RingRangeReader, int], Result]) -> Result:
        start = offset.next_out
        try:
            payload = open_packet(self.incoming, offset)
            reader = payload.reader(self.incoming)
            length = len(reader) if self.raw else check_header(reader, start, partial_allowed=False)[0]
            return take(reader, length)
        except BaseException:
            offset.next_out = start
            raise
