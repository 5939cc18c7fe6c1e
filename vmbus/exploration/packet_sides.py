"""Two sides ready to explore: one sends packets over a channel, the other receives and checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from vmbus.channel import PacketChannel
from vmbus.ring import IncomingRing, OutgoingRing

from .explore import ExploredMemory, ExploredSignal, RingSide, stopped_clock

__all__ = ["WrongMessage", "channel_sides"]

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

    >>> from vmbus.fuzzing import channel_sides, explore
    >>> sender, receiver = channel_sides(messages=1)
    >>> explore(sender, receiver, maximum_states=100).complete
    False
    """
    sizes = [size] * messages if isinstance(size, int) else list(size)
    payloads = [message(1 + number, sizes[number]) for number in range(messages)]
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
        found = channel.receive().payload
        if found != payload:
            raise WrongMessage(f"message {number} came as {named(found, payloads)}")
        signal.note(f"has message {number}")


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


# -- messages ------------------------------------------------------------------------------------


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
