"""Who may send how much: the credit of a vsock connection.

Each side tells, in every packet, how large its receive buffer is (`buf_alloc`) and how many bytes have
left it so far (`fwd_cnt`, free-running, 32 bits).  A sender counts what it has sent, and never has more
under way than the other side's buffer holds.  Only payload counts.

Sizes and counts are in bytes.  The counts here are Python integers that never wrap; only on the wire do
they have 32 bits.

Sources: OASIS VIRTIO 1.2, section 5.10.6.3; Linux net/vmw_vsock/virtio_transport_common.c,
virtio_transport_get_credit() and virtio_transport_inc_rx_pkt().
"""

from __future__ import annotations

from vmbus.errors import CallerError, PeerError

from .vsock_faults import VsockFault

__all__ = [
    "COUNT_MASK",
    "ReceiveCredit",
    "SendCredit",
    "bytes_in_flight",
    "check_buffer_size",
    "credit_is_due",
    "peer_free_bytes",
]

#: Counts on the wire have 32 bits.
COUNT_MASK = 0xFFFFFFFF


def bytes_in_flight(tx_count: int, peer_fwd_cnt: int) -> int:
    """Bytes that were sent and have not left the other side's buffer.

    >>> hex(bytes_in_flight(0x1000, 0xFFFFFFF0))
    '0x1010'
    """
    return (tx_count - peer_fwd_cnt) & COUNT_MASK


def peer_free_bytes(peer_buf_alloc: int, tx_count: int, peer_fwd_cnt: int) -> int:
    """Bytes that may be sent now.  A buffer that has become smaller than what is in flight has none.

    >>> peer_free_bytes(0x40000, 0x1000, 0xFFFFFFF0), peer_free_bytes(4096, 8192, 0)
    (258032, 0)
    """
    return max(0, peer_buf_alloc - bytes_in_flight(tx_count, peer_fwd_cnt))


def credit_is_due(buf_alloc: int, untold: int) -> bool:
    """Whether the other side should be told that room has come free: half the buffer has.

    untold   bytes that have left the buffer since it was last told

    >>> credit_is_due(4096, 2047), credit_is_due(4096, 2048), credit_is_due(0, 0)
    (False, True, False)
    """
    return untold > 0 and 2 * untold >= buf_alloc


class SendCredit:
    """What this side may send.

    >>> credit = SendCredit()
    >>> credit.note(4096, 0)
    >>> credit.sent += 4000
    >>> credit.free
    96
    """

    __slots__ = ("peer_buf_alloc", "peer_fwd_cnt", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.peer_buf_alloc = 0
        self.peer_fwd_cnt = 0

    @property
    def in_flight(self) -> int:
        """Bytes that were sent and have not left the other side's buffer, as far as it has told."""
        return bytes_in_flight(self.sent, self.peer_fwd_cnt)

    @property
    def free(self) -> int:
        """Bytes that may be sent now."""
        return peer_free_bytes(self.peer_buf_alloc, self.sent, self.peer_fwd_cnt)

    def note(self, buf_alloc: int, fwd_cnt: int) -> None:
        """Take what a packet of the other side says.

        Raises PeerError, and changes nothing, when it has received more than was sent.
        """
        if fwd_cnt != self.peer_fwd_cnt:
            ahead = (fwd_cnt - self.peer_fwd_cnt) & COUNT_MASK
            in_flight = bytes_in_flight(self.sent, self.peer_fwd_cnt)
            if ahead > in_flight:
                raise PeerError(
                    f"the other side says that {ahead} more bytes have left its buffer (fwd_cnt {fwd_cnt:#x}, "
                    f"before {self.peer_fwd_cnt:#x}), and {in_flight} were in flight",
                    kind=VsockFault.CREDIT_BACKWARDS,
                    found=ahead,
                    allowed=in_flight,
                )
            self.peer_fwd_cnt = fwd_cnt
        self.peer_buf_alloc = buf_alloc

    def __repr__(self) -> str:
        return f"<SendCredit: {self.sent} sent, {self.free} of {self.peer_buf_alloc} free>"


class ReceiveCredit:
    """What the other side may send.

    buf_alloc   the receive buffer; may be set at any time, and is told with the next packet

    What was told once stays allowed, also when the buffer has become smaller since.

    >>> credit = ReceiveCredit(4096)
    >>> credit.tell()
    (4096, 0)
    >>> credit.take(4000)
    >>> credit.forward(2500)
    >>> credit.is_due, credit.tell(), credit.is_due
    (True, (4096, 2500), False)
    """

    __slots__ = ("allowed", "buf_alloc", "forwarded", "received", "told", "told_buf_alloc")

    def __init__(self, buf_alloc: int) -> None:
        self.buf_alloc = buf_alloc
        self.received = 0  # bytes that have come, ever
        self.forwarded = 0  # bytes that have left the buffer, ever
        self.told = 0  # `forwarded`, as the other side knows it
        self.told_buf_alloc = 0  # `buf_alloc`, likewise
        self.allowed = 0  # what `received` may come to

    @property
    def waiting(self) -> int:
        """Bytes in the buffer."""
        return self.received - self.forwarded

    def take(self, length: int) -> None:
        """Count bytes that have come; PeerError, and not counted, when they are more than was allowed."""
        received = self.received + length
        if received > self.allowed:
            room = self.allowed - self.received
            raise PeerError(
                f"{length} bytes have come where the other side may send {room} more: "
                f"{self.waiting} of {self.buf_alloc} wait to be read",
                kind=VsockFault.CREDIT_EXCEEDED,
                found=length,
                allowed=room,
            )
        self.received = received

    def forward(self, length: int) -> None:
        """Count bytes that have left the buffer."""
        self.forwarded += length

    @property
    def untold(self) -> int:
        """Bytes that have left the buffer since the other side was last told."""
        return self.forwarded - self.told

    @property
    def is_due(self) -> bool:
        """Whether the other side should be told without being asked."""
        return credit_is_due(self.buf_alloc, self.forwarded - self.told)

    def tell(self) -> tuple[int, int]:
        """`buf_alloc` and `fwd_cnt` for a packet that is being sent."""
        forwarded = self.forwarded
        buf_alloc = self.buf_alloc
        if forwarded != self.told or buf_alloc != self.told_buf_alloc:
            self.told = forwarded
            self.told_buf_alloc = buf_alloc
            self.allowed = max(self.allowed, forwarded + buf_alloc)
        return buf_alloc, forwarded & COUNT_MASK

    def __repr__(self) -> str:
        return f"<ReceiveCredit: {self.waiting} of {self.buf_alloc} bytes waiting>"


def check_buffer_size(size: int) -> int:
    """Return the size of a receive buffer if it can be told, else raise CallerError."""
    if not 0 < size <= COUNT_MASK:
        raise CallerError(
            f"a receive buffer has 1 to {COUNT_MASK} bytes, not {size}",
            argument="buffer_size",
            value=size,
            limit=COUNT_MASK,
        )
    return size
