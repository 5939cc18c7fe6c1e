"""A vsock connection that carries messages with their boundaries.

A message travels as one or more RW packets, the last of which says that it ends there, and perhaps a
record as well.  Sizes are in bytes.

Source: OASIS VIRTIO 1.2, section 5.10.6.4; Linux net/vmw_vsock/virtio_transport_common.c,
virtio_transport_seqpacket_do_dequeue().
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from vmbus.errors import CallerError, PeerClosed, PeerError

from .vsock_address import VsockAddress
from .vsock_connection import VsockConnection, VsockHome
from .vsock_faults import VsockFault
from .vsock_layout import LARGEST_PAYLOAD, VsockHeader, VsockMessageFlags, VsockOperation, VsockType
from .vsock_owed import OWED_PAYLOAD, OWED_UPDATE
from .vsock_table import VsockState

__all__ = ["MOST_MESSAGES", "MOST_UNDER_WAY", "VsockMessage", "VsockMessageConnection"]

RW = int(VsockOperation.RW)
END_OF_MESSAGE = int(VsockMessageFlags.END_OF_MESSAGE)
END_OF_RECORD = int(VsockMessageFlags.END_OF_RECORD)

#: Messages, but empty ones, that are sent and not known to be read.
MOST_UNDER_WAY = 2048

#: Messages that may wait to be read: empty ones take no credit.  (Linux allows far fewer.)
MOST_MESSAGES = 4096


class VsockMessage(NamedTuple):
    """One message; `end_of_record` when its sender says that a record ends with it."""

    data: bytes
    end_of_record: bool


class VsockMessageConnection(VsockConnection):
    """Messages each way.

    Payload is kept up to the credit that the other side was given, and at most MOST_MESSAGES messages.
    """

    kind = VsockType.SEQPACKET

    def __init__(
        self, home: VsockHome, local: VsockAddress, peer: VsockAddress, state: VsockState, buf_alloc: int
    ) -> None:
        super().__init__(home, local, peer, state, buf_alloc)
        self._messages: deque[VsockMessage] = deque()
        self._partial = bytearray()  # of the message whose end has not come
        self._ends: deque[int] = deque()  # of messages that were sent, by the count of bytes
        self._asked = False  # for the credit of the next message
        self._rest: tuple[memoryview, int] | None = None  # of one that is going out, and the flags of its end

    @property
    def has_received(self) -> bool:
        return bool(self._messages)

    @property
    def is_starved(self) -> bool:
        return bool(self._partial)

    def send(self, data: memoryview, *, end_of_record: bool = False) -> bool:
        """Send a message; False when there is not credit for all of it, or one before is still going out.

        What the queue has no room for now goes out later by itself, from a copy.

        At most MOST_UNDER_WAY messages are sent that the other side has not read, since receivers keep only
        so many and reset who sends more: here MOST_MESSAGES, in Linux fewer when they are tiny.  Empty ones
        take no credit, so it is not known when they are read: they are not counted.

        Raises CallerError for a message that is longer than the other side's whole buffer.
        """
        self.check_sending()
        if self._owed and not self.flush():
            return False
        sending = self.sending
        length = len(data)
        if length > sending.free or self._has_many_under_way():
            self._check_length(length)
            if sending.free and not self._asked:
                self._asked = True
                self.ask_for_credit()  # the other side need not tell of less than half its buffer
            return False
        if self._carrier.room() < 0:
            return False
        sending.sent += length
        if length:
            self._ends.append(sending.sent)
        self._asked = False
        self._rest = (data, END_OF_MESSAGE | END_OF_RECORD if end_of_record else END_OF_MESSAGE)
        if not self.send_rest():
            rest, flags = self._rest
            self._rest = (memoryview(bytes(rest)), flags)
            self._owe(OWED_PAYLOAD)
        return True

    def _has_many_under_way(self) -> bool:
        """Whether as many messages are unread as the other side may keep: then their credit is waited for."""
        ends = self._ends
        read = self.sending.sent - self.sending.in_flight
        while ends and ends[0] <= read:
            ends.popleft()
        return len(ends) >= MOST_UNDER_WAY

    def send_rest(self) -> bool:
        carrier = self._carrier
        while self._rest is not None:
            data, flags = self._rest
            count = min(len(data), carrier.room(), LARGEST_PAYLOAD)
            if count < 0 or (data and not count):
                return False
            part, rest = data[:count], data[count:]
            carrier.send(self.pack(RW, count, 0 if rest else flags), part)
            self._rest = (rest, flags) if rest else None
        return True

    def _check_length(self, length: int) -> None:
        limit = self.sending.peer_buf_alloc
        if length > limit:
            raise CallerError(
                f"{self}: a message of {length} bytes never fits the other side's buffer of {limit}",
                argument="data",
                value=length,
                limit=limit,
            )

    def receive(self) -> VsockMessage | None:
        """The next message; None: nothing yet.  Raises PeerClosed behind the last one."""
        if self._messages:
            message = self._messages.popleft()
            self.forward(len(message.data))
            return message
        if self.input_ended:
            self.check_input()
            self._check_whole()
            raise PeerClosed(f"{self}: the other side has sent its last message")
        return None

    def keep(self, header: VsockHeader, payload: bytes) -> None:
        if header.flags & END_OF_MESSAGE:
            if len(self._messages) >= MOST_MESSAGES:
                self._refuse_message()
            data = bytes(self._partial) + payload if self._partial else payload
            self._partial.clear()
            self._messages.append(VsockMessage(data, header.flags & END_OF_RECORD != 0))
            return
        self._partial += payload
        receiving = self.receiving
        if receiving.untold and receiving.allowed - receiving.received < LARGEST_PAYLOAD:
            # The rest may need room that only this side knows of: no reader will free more before it comes.
            self._owe(OWED_UPDATE)

    def _check_whole(self) -> None:
        """Raise PeerError when the other side has ended its messages in the middle of one."""
        if self._partial:
            raise PeerError(
                f"{self}: the other side has sent {len(self._partial)} bytes of a message, and not its end",
                kind=VsockFault.UNFINISHED_MESSAGE,
                found=len(self._partial),
                allowed="whole messages",
            )

    def _refuse_message(self) -> None:
        raise PeerError(
            f"{self}: one more message has come where {MOST_MESSAGES} wait to be read",
            kind=VsockFault.TOO_MANY_MESSAGES,
            found=MOST_MESSAGES + 1,
            allowed=MOST_MESSAGES,
        )

    def drop_received(self) -> None:
        self._messages.clear()
        self._partial.clear()
        self.receiving.forwarded = self.receiving.received
