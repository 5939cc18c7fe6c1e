"""A vsock connection that carries a stream of bytes.

Sizes are in bytes.

Source: OASIS VIRTIO 1.2, section 5.10.6.4.
"""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from vmbus.errors import CallerError

from .vsock_address import VsockAddress
from .vsock_connection import VsockConnection, VsockHome
from .vsock_layout import LARGEST_PAYLOAD, VsockHeader, VsockOperation, VsockType
from .vsock_table import VsockState

__all__ = ["VsockStreamConnection"]

RW = int(VsockOperation.RW)
ESTABLISHED = VsockState.ESTABLISHED

#: Payloads below this are put together as they come: each object by itself costs some fifty bytes.
SMALL = 512


class VsockStreamConnection(VsockConnection):
    """A stream of bytes each way.

    Payload is kept up to the credit that the other side was given.
    """

    kind = VsockType.STREAM

    def __init__(
        self, home: VsockHome, local: VsockAddress, peer: VsockAddress, state: VsockState, buf_alloc: int
    ) -> None:
        super().__init__(home, local, peer, state, buf_alloc)
        self._chunks: deque[bytes | bytearray] = deque()
        self._start = 0  # how much of the first chunk is gone

    @property
    def has_received(self) -> bool:
        return self.receiving.waiting > 0

    def send(self, data: memoryview) -> int:
        """Send as many of the bytes as credit and queue have room for now: how many; 0 for none."""
        if self.state is not ESTABLISHED or self.own_shutdown or self.peer_shutdown:
            self.check_sending()
        if self._owed and not self.flush():
            return 0
        sending, carrier = self.sending, self._carrier
        length = len(data)
        free = sending.free
        done = 0
        while done < length:
            count = min(length - done, free, carrier.room(), LARGEST_PAYLOAD)
            if count <= 0:
                break
            part = data if count == length else data[done : done + count]
            carrier.send(self.pack(RW, count), part)
            sending.sent += count
            free -= count
            done += count
        return done

    def send_at_once(self, data: memoryview) -> bool | None:
        """Send the bytes if they fit one packet and nothing speaks against it now; None, and nothing is sent, if not."""
        length = len(data)
        if self.state is not ESTABLISHED or self.own_shutdown or self.peer_shutdown or self._owed:
            return None
        if length > self.sending.free or length > self._carrier.room() or not 0 < length <= LARGEST_PAYLOAD:
            return None
        self._carrier.send(self.pack(RW, length), data)
        self.sending.sent += length
        return True

    def receive(self, limit: int) -> bytes | None:
        """Up to `limit` bytes, as many as are there; none at the end of the stream; None: nothing yet."""
        waiting = self.receiving.waiting
        if limit < 1:
            refuse_limit(limit)
        if not waiting:
            if not self.input_ended:
                return None
            self.check_input()
            return b""
        chunks = self._chunks
        first = len(chunks[0])
        if not self._start and (first == limit or first == waiting <= limit):
            data = bytes(chunks.popleft())  # no copy, where it is bytes: most are
        elif limit < waiting or self._start:
            data = self._take_some(min(limit, waiting))
        else:
            data = b"".join(chunks)
            chunks.clear()
        self.forward(len(data))
        return data

    def _take_some(self, limit: int) -> bytes:
        """The next `limit` bytes, which may end inside a chunk."""
        parts = []
        left = limit
        while left:
            chunk = self._chunks[0]
            part = chunk[self._start : self._start + left]
            parts.append(part)
            left -= len(part)
            self._start += len(part)
            if self._start == len(chunk):
                self._chunks.popleft()
                self._start = 0
        return b"".join(parts)

    def keep(self, header: VsockHeader, payload: bytes) -> None:
        chunks = self._chunks
        if len(payload) >= SMALL:
            chunks.append(payload)
        elif chunks and type(chunks[-1]) is bytearray and len(chunks[-1]) < SMALL:
            chunks[-1] += payload
        elif payload:
            chunks.append(bytearray(payload))

    def drop_received(self) -> None:
        self._chunks.clear()
        self._start = 0
        self.receiving.forwarded = self.receiving.received


def refuse_limit(limit: int) -> NoReturn:
    raise CallerError(
        f"a read takes at least 1 byte, not {limit}: no bytes mean the end of the stream",
        argument="limit",
        value=limit,
        limit=1,
    )
