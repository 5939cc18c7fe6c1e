"""What the fixtures of the pytest plugin hand out, each as a context that looks at the end whether all is well.

Imported when a fixture is first asked for, and not by the plugin itself.  Needs neither pytest nor hypothesis.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vmbus.channel import PacketChannel, connected_channels
from vmbus.errors import PeerError, RingEmpty
from vmbus.layout import SMALLEST_PACKET
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import IncomingRing, OutgoingRing, connected_rings
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE

from .hostile_peer import HostilePeer
from .strikes import Strike

__all__ = ["checked_channels", "checked_ring_pair", "hostile_ring", "what_is_wrong"]


class BrokenRing(AssertionError):
    """A test has left a ring behind that is not as a correct sender and a correct receiver leave it."""


@contextmanager
def checked_ring_pair(size: int = PAGE_SIZE) -> Iterator[tuple[OutgoingRing, IncomingRing]]:
    """The sender and the receiver of an empty ring whose first packet wraps.

    size   bytes of the data area

    Raises BrokenRing at the end, unless the block has raised something else.

    >>> with checked_ring_pair() as (sender, receiver):
    ...     sender.send(b"hello"), receiver.receive()[0].payload[:5]
    (True, b'hello')
    """
    sender, receiver = connected_rings(size, start=size - SMALLEST_PACKET)
    yield sender, receiver
    refuse_broken(sender, receiver)


@contextmanager
def checked_channels(kind: type[Any] = PacketChannel, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Two connected channels, "guest" and "host", closed at the end whatever happens.

    kind, options   as of `vmbus.channel.connected_channels`

    Raises BrokenRing at the end, unless the block has raised something else.

    >>> with checked_channels() as (guest, host):
    ...     guest.send(b"to the host")
    ...     host.receive().payload
    b'to the host\\x00\\x00\\x00\\x00\\x00'
    """
    guest, host = connected_channels(kind=kind, **options)
    try:
        yield guest, host
        refuse_broken(guest.outgoing, host.incoming)
        refuse_broken(host.outgoing, guest.incoming)
    finally:
        guest.close()
        host.close()


def hostile_ring(plan: Iterable[Strike] = ()) -> tuple[IncomingRing, HostilePeer]:
    """A receiving ring with three packets in it, and the enemy at its other side.

    plan   what the enemy does first; `peer.plan` adds more

    >>> ring, peer = hostile_ring([Strike(0, "word", 0, 4)])
    >>> ring.receive()
    Traceback (most recent call last):
    vmbus.errors.PeerError: in is 0x0004: in a ring of 4096 bytes it is a multiple of 8 up to 0x0ff8
    """
    sender, receiver = connected_rings()
    sender.send_many([b"first", b"second", b"third"])
    return HostilePeer.ring(plan, IncomingRing, memory=receiver.memory)


# -- what is wrong with a ring -------------------------------------------------------------------------------


def refuse_broken(sender: OutgoingRing, receiver: IncomingRing) -> None:
    why = what_is_wrong(sender, receiver)
    if why is not None:
        raise BrokenRing(f"the test has left a broken ring behind: {why}")


def what_is_wrong(sender: OutgoingRing, receiver: IncomingRing) -> str | None:
    """What one of the ends, or a receiver that looks anew, has to say against the ring; None where all is well."""
    try:
        for ask in (sender.outgoing, receiver.incoming):
            ask()
        for memory in {id(end.memory): end.memory for end in (sender, receiver)}.values():
            read_all(memory)
    except PeerError as error:
        return str(error)
    except ValueError:  # the test has closed the memory, as it may
        return None
    return None


def read_all(memory: RingMem) -> int:
    """Read a copy of a ring to its end: how many packets wait in it.  Raises PeerError where it is broken."""
    words = [memory.control[word] for word in range(CONTROL_WORD_COUNT)]
    page = struct.pack(f"<{CONTROL_WORD_COUNT}I", *words).ljust(PAGE_SIZE, b"\0")
    ring = IncomingRing(FlatRingMem.over(page + memory.read_at(0, memory.size)))
    offset = ring.incoming()
    count = 0
    try:
        while True:
            ring.read(offset)
            count += 1
    except RingEmpty:
        return count


def options_of(parameter: object) -> Mapping[str, Any]:
    """The options of `checked_channels` that a test has parametrized its fixture with: a kind, or options."""
    if isinstance(parameter, type):
        return {"kind": parameter}
    return parameter if isinstance(parameter, Mapping) else {}
