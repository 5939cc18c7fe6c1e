"""What a channel carries: packets, messages or bytes; the same for blocking and asyncio channels."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from vmbus.ring import IncomingRing, OutgoingRing

from .common import Channel
from .direction import Clock
from .signal import Signal
from .works import ByteWork, MessageWork, PacketWork, Trace

__all__ = ["ByteKind", "MessageKind", "PacketKind"]


class PacketKind(Channel):
    """Packets of all kinds, with requests and their completions.

    maximum_outstanding   how many requests may wait for their completion at once; one more waits
    """

    _work: PacketWork

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        maximum_outstanding: int = 1024,
        spin: float = 0.0,
        clock: Clock = monotonic,
        trace: Trace | None = None,
        role: str = "",
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._work = PacketWork(incoming, outgoing, signal, trace, maximum_outstanding)
        super().__init__(incoming, outgoing, signal, spin=spin, clock=clock, role=role, on_close=on_close)

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
        self._work = MessageWork(incoming, outgoing, signal, trace, raw)
        super().__init__(incoming, outgoing, signal, spin=spin, clock=clock, role=role, on_close=on_close)

    @property
    def maximum_message_size(self) -> int:
        """Bytes of the longest message that can be sent."""
        return self._work.pipe.maximum_message_size


class ByteKind(Channel):
    """Two streams of bytes, one each way, each of which can be ended by itself."""

    _work: ByteWork

    def __init__(
        self,
        incoming: IncomingRing,
        outgoing: OutgoingRing,
        signal: Signal,
        *,
        spin: float = 0.0,
        clock: Clock = monotonic,
        trace: Trace | None = None,
        role: str = "",
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self._work = ByteWork(incoming, outgoing, signal, trace)
        super().__init__(incoming, outgoing, signal, spin=spin, clock=clock, role=role, on_close=on_close)
