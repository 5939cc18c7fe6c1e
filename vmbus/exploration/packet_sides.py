"""Two sides ready to explore: one sends packets, the other receives and checks them.

`channel_sides` does it over a channel, which waits by itself; `ring_sides` over bare rings, as somebody
does who waits on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from vmbus.channel import PacketChannel
from vmbus.errors import RingEmpty, RingFull
from vmbus.ring import IncomingRing, OutgoingRing

from .ring_explorer import ExploredMemory, ExploredSignal, RingSide, stopped_clock

__all__ = ["WrongMessage", "channel_sides", "ring_sides"]

#: What a side does once its channel is there.
Work = Callable[[PacketChannel, ExploredSignal], None]


class WrongMessage(AssertionError):
    """A message came that is not the next one, whole."""


def channel_sides(
    messages: int = 3,
    size: int | Sequence[int] = 8,
    *,
    ready: bool = False,
    kind: type[PacketChannel] = PacketChannel,
) -> tuple[RingSide, RingSide]:
    """A side that sends so many packets over a channel, and one that receives them.

    messages   how many
    size       bytes of each, a multiple of 8; or of each by itself
    ready      make both channels before the exploration begins
    kind       of channel

    >>> from vmbus.exploration import channel_sides, explore
    >>> sender, receiver = channel_sides(messages=1)
    >>> explore(sender, receiver, maximum_states=100).complete
    False
    """
    payloads = payloads_of(messages, size)
    side_of = side_made_before if ready else side_made_at_once
    sender = side_of(kind, partial(send_all, payloads))
    receiver = side_of(kind, partial(receive_all, payloads))
    sender.__name__, receiver.__name__ = "sender", "receiver"
    return sender, receiver


# -- what the sides do ---------------------------------------------------------------------------


def send_all(payloads: list[bytes], channel: PacketChannel, signal: ExploredSignal) -> None:
    for number, payload in enumerate(payloads, start=1):
        signal.note(f"sends message {number}:")
        channel.send(payload)


def receive_all(payloads: list[bytes], channel: PacketChannel, signal: ExploredSignal) -> None:
    for number, payload in enumerate(payloads, start=1):
        check(number, channel.receive().payload, payload, payloads)
        signal.note(f"has message {number}")


def check(number: int, found: bytes, payload: bytes, payloads: list[bytes]) -> None:
    if found != payload:
        raise WrongMessage(f"message {number} came as {named(found, payloads)}")


# -- and over which channel ----------------------------------------------------------------------


def side_made_at_once(kind: type[PacketChannel], work: Work) -> RingSide:
    """A side of which the making of its channel is explored too."""

    def side(incoming: ExploredMemory, outgoing: ExploredMemory, signal: ExploredSignal) -> None:
        work(channel_over(kind, incoming, outgoing, signal), signal)

    return side


def side_made_before(kind: type[PacketChannel], work: Work) -> RingSide:
    """A side that makes its channel alone, before the exploration begins."""

    def side(incoming: ExploredMemory, outgoing: ExploredMemory, signal: ExploredSignal) -> Iterator[None]:
        channel = channel_over(kind, incoming, outgoing, signal)
        yield
        work(channel, signal)

    return side


def channel_over(
    kind: type[PacketChannel], incoming: ExploredMemory, outgoing: ExploredMemory, signal: ExploredSignal
) -> PacketChannel:
    return kind(IncomingRing(incoming), OutgoingRing(outgoing), signal, clock=stopped_clock)


# -- over bare rings ------------------------------------------------------------------------------


def ring_sides(messages: int = 3, size: int | Sequence[int] = 8) -> tuple[RingSide, RingSide]:
    """A side that sends so many packets over a bare ring, and one that receives them.

    Before it sleeps the sender asks for room, the receiver for a signal, and each looks once more.  The
    arguments are those of `channel_sides`.

    >>> from vmbus.exploration import explore
    >>> explore(*ring_sides(messages=1)).complete
    True
    """
    payloads = payloads_of(messages, size)

    def sender(incoming: ExploredMemory, outgoing: ExploredMemory, signal: ExploredSignal) -> Iterator[None]:
        ring = OutgoingRing(outgoing)
        yield
        for number, payload in enumerate(payloads, start=1):
            signal.note(f"sends message {number}:")
            send_over(ring, payload, signal)

    def receiver(
        incoming: ExploredMemory, outgoing: ExploredMemory, signal: ExploredSignal
    ) -> Iterator[None]:
        ring = IncomingRing(incoming)
        yield
        for number, payload in enumerate(payloads, start=1):
            check(number, receive_over(ring, signal), payload, payloads)
            signal.note(f"has message {number}")

    return sender, receiver


def send_over(ring: OutgoingRing, payload: bytes, signal: ExploredSignal) -> None:
    """Send a packet, when there is room for it."""
    while True:
        try:
            must_signal = ring.send(payload)
        except RingFull as full:
            ring.set_pending_send_size(full.needed)
            if not ring.can_write(ring.outgoing(), full.needed):
                signal.wait(None)
            ring.set_pending_send_size(0)
            continue
        if must_signal:
            signal.notify()
        return


def receive_over(ring: IncomingRing, signal: ExploredSignal) -> bytes:
    """The payload of the next packet, when there is one."""
    while True:
        try:
            packet, must_signal = ring.receive()
        except RingEmpty:
            ring.set_interrupt_mask(False)
            if not ring.can_read(ring.incoming()):
                signal.wait(None)
            ring.set_interrupt_mask(True)
            continue
        if must_signal:
            signal.notify()
        return packet.payload


# -- messages ------------------------------------------------------------------------------------


def payloads_of(messages: int, size: int | Sequence[int]) -> list[bytes]:
    """What is sent: messages of that many bytes each, or each of its own."""
    sizes = [size] * messages if isinstance(size, int) else list(size)
    return [message(1 + number, sizes[number]) for number in range(messages)]


def message(number: int, size: int) -> bytes:
    """The bytes of a message: no two alike, and no two parts of one."""
    return b"".join(
        ((number * 0x0101 + place * 0x0100_0003) & 0xFFFF_FFFF).to_bytes(4, "little")
        for place in range((size + 3) // 4)
    )[:size]


def named(found: bytes, payloads: list[bytes]) -> str:
    """A message that should not have come, for people."""
    if found in payloads:
        return f"message {1 + payloads.index(found)}"
    return f"{len(found)} bytes: {found[:24].hex(' ')}{'...' if len(found) > 24 else ''}"
