"""Two channels that face each other in one process, for tests, examples and measurements."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing

from .blocking import PacketChannel
from .common import Channel, check_kind
from .descriptor_signal import descriptor_signals
from .local_signal import local_signals
from .works import Trace

__all__ = ["connected_channels"]

Kind = TypeVar("Kind", bound=Channel)


@overload
def connected_channels(
    size: int = ...,
    *,
    pollable: bool = ...,
    maximum_outstanding: int = ...,
    spin: float = ...,
    trace: Trace | None = ...,
) -> tuple[PacketChannel, PacketChannel]: ...


@overload
def connected_channels(
    size: int = ..., *, kind: type[Kind], pollable: bool = ..., **options: Any
) -> tuple[Kind, Kind]: ...


def connected_channels(
    size: int = 16384, *, kind: type[Channel] = PacketChannel, pollable: bool = False, **options: Any
) -> tuple[Channel, Channel]:
    """Two channels over two rings of `size` bytes: what one sends the other receives.

    kind       PacketChannel, MessageChannel, ByteChannel or one of the three for asyncio
    pollable   whether `fileno()` is to give a descriptor; those for asyncio always have one
    options    of that kind, for both: spin, trace, maximum_outstanding, ...

    The first is called "guest" and the second "host".

    >>> from vmbus.channel import MessageChannel
    >>> guest, host = connected_channels(4096, kind=MessageChannel)
    >>> guest.send(b"hello"), host.receive()
    (None, b'hello')
    """
    check_kind(kind)
    to_host, to_guest = FlatRingMem(size), FlatRingMem(size)
    at_guest, at_host = descriptor_signals() if pollable or kind.needs_descriptor else local_signals()
    return (
        kind(IncomingRing(to_guest), OutgoingRing(to_host), at_guest, role="guest", **options),
        kind(IncomingRing(to_host), OutgoingRing(to_guest), at_host, role="host", **options),
    )
