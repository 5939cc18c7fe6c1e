"""What a channel carries: packets, messages or bytes; the same for blocking and asyncio channels."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import Any

from vmbus.ring import IncomingRing, OutgoingRing

from .common import Channel
from .direction import Clock
from .signal import Signal
from .transactions import FIRST_ID, Transactions
from .works import ByteWork, MessageWork, PacketWork, Trace

__all__ = ["ByteKind", "MessageKind", "PacketKind"]


class PacketKind(Channel):
    """Packets of all kinds, with requests and their completions.

    maximum_outstanding   how many requests may wait for their completion at once; one more waits
    first_request_id      the transaction id of the first request; SharedChannel draws one, so that no
                          completion of an earlier attachment's request answers one of this one

    While a request waits for its completion, other packets are kept for `receive`: as much as fills
    the ring 16 times.  Beyond that every request is a CallerError until some have been received.
    """

    _work: PacketWork

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        maximum_outstanding: int = 1024,
        first_request_id: int = FIRST_ID,
        spin: float = 0.0,
        clock: Clock = monotonic,
        trace: Trace | None = None,
        role: str = "",
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._transactions = Transactions(maximum_outstanding, first_request_id)
        super().__init__(
            incoming, outgoing, signal, spin=spin, clock=clock, trace=trace, role=role, on_close=on_close
        )

    def _make_work(self, trace: Trace | None) -> PacketWork:
        return PacketWork(self.incoming, self.outgoing, self.signal, trace, self._transactions)

    @classmethod
    def attachment_options(cls) -> dict[str, Any]:
        return {"first_request_id": FIRST_ID + int.from_bytes(os.urandom(7), "little")}

    @property
    def outstanding(self) -> int:
        """Requests whose completion has not come, also those that were given up."""
        return len(self._work.transactions)


class MessageKind(Channel):
    """Messages, each with its exact length.

    raw   without a pipe header: a message is a packet's payload, its length rounded up to 8
    """

    _work: MessageWork

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        raw: bool = False,
        spin: float = 0.0,
        clock: Clock = monotonic,
        trace: Trace | None = None,
        role: str = "",
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._raw = raw
        super().__init__(
            incoming, outgoing, signal, spin=spin, clock=clock, trace=trace, role=role, on_close=on_close
        )

    def _make_work(self, trace: Trace | None) -> MessageWork:
        return MessageWork(self.incoming, self.outgoing, self.signal, trace, self._raw)

    @property
    def maximum_message_size(self) -> int:
        """Bytes of the longest message that can be sent."""
        return self._work.pipe.maximum_message_size


class ByteKind(Channel):
    """Two streams of bytes, one each way, each of which can be ended by itself."""

    _work: ByteWork

    def _make_work(self, trace: Trace | None) -> ByteWork:
        return ByteWork(self.incoming, self.outgoing, self.signal, trace)
