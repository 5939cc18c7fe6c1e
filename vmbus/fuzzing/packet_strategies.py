"""Hypothesis strategies of packets, of every kind: as bytes, as they are sent, and as they are received.

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from vmbus.errors import CallerError
from vmbus.layout import PipePacketType, pack_words
from vmbus.ring import OutgoingPacket, Packet
from vmbus.sizes import SLOT

from .packet_builder import PacketImage
from .value_strategies import numbers, paged_ranges, payloads, remembered, transfer_page_ranges

__all__ = [
    "PACKET_KINDS",
    "hostile_packets",
    "outgoing_packets",
    "packet_bytes",
    "packets",
    "received_packets",
]

MOST_RANGES = 3


class Odd(NamedTuple):
    """A footer, None for the right one, and the byte that padding is made of."""

    footer: bytes | None
    padding: int


#: Footers that nobody wrote so and padding that is not zero, now and then: readers take them.
ODD_PARTS = st.sampled_from(
    [
        *4 * [Odd(None, 0)],
        Odd(None, 0xEE),
        Odd(bytes(8), 0),
        Odd(b"\xff" * 8, 0xEE),
    ]
)

#: What can stand behind the ranges of a header.
SLACK = st.sampled_from([b"", b"", b"", bytes(SLOT), b"\xff" * SLOT])


@st.composite
def with_odd_parts(draw: DrawFn, plain: SearchStrategy[PacketImage]) -> PacketImage:
    packet = draw(plain)
    footer, byte = draw(ODD_PARTS)
    padding = bytes([byte]) * (-len(packet.payload) % SLOT) if byte else None
    return packet if footer is padding is None else packet.changed(footer=footer, padding=padding)


@remembered
def in_band(longest: int, *, requested: bool = False) -> SearchStrategy[PacketImage]:
    return st.builds(
        PacketImage.in_band,
        payloads(longest),
        transaction_id=numbers(64),
        completion_requested=st.just(requested),
    )


@remembered
def completion(longest: int) -> SearchStrategy[PacketImage]:
    return st.builds(PacketImage.completion, payloads(longest), transaction_id=numbers(64))


@remembered
def gpa_direct(longest: int) -> SearchStrategy[PacketImage]:
    return st.builds(
        PacketImage.gpa_direct,
        st.lists(paged_ranges(), min_size=1, max_size=MOST_RANGES),
        payloads(longest),
        transaction_id=numbers(64),
        reserved=numbers(32),
        slack=SLACK,
    )


@remembered
def transfer_pages(longest: int) -> SearchStrategy[PacketImage]:
    return st.builds(
        PacketImage.transfer_pages,
        numbers(16),
        st.lists(transfer_page_ranges(), max_size=MOST_RANGES),
        payloads(longest),
        transaction_id=numbers(64),
        reserved=numbers(16),
        slack=SLACK,
    )


@remembered
def with_extra_header(longest: int) -> SearchStrategy[PacketImage]:
    """Plain packets whose payload does not follow the descriptor at once."""
    plain = st.one_of(in_band(longest), in_band(longest, requested=True), completion(longest))
    return st.builds(
        lambda packet, slots: packet.changed(extension=b"\xdd" * SLOT * slots), plain, st.integers(1, 3)
    )


@remembered
def of_pipe(longest: int) -> SearchStrategy[PacketImage]:
    """Packets of a pipe; of a byte pipe where some of one was taken already."""
    return st.builds(pipe_packet, payloads(max(0, longest - SLOT)), st.integers(0, 64), numbers(64))


def pipe_packet(data: bytes, consumed: int, transaction_id: int) -> PacketImage:
    if not 0 < consumed < len(data):
        return PacketImage.pipe(data, transaction_id=transaction_id)
    words = len(data) | consumed << 16
    kind = PipePacketType.PARTIAL
    return PacketImage.pipe(data, packet_type=kind, length=words, transaction_id=transaction_id)


#: A strategy for every kind of packet, by its name as in packet_kinds.py, and for two that are special: a function of
#: the longest payload.
PACKET_KINDS: dict[str, Callable[[int], SearchStrategy[PacketImage]]] = {
    "in-band": in_band,
    "in-band-with-completion": lambda longest: in_band(longest, requested=True),
    "completion": completion,
    "gpa-direct": gpa_direct,
    "transfer-pages": transfer_pages,
    "extra-header": with_extra_header,
    "pipe": of_pipe,
}


def packets(longest: int = 128, *, kinds: Sequence[str] = tuple(PACKET_KINDS)) -> SearchStrategy[PacketImage]:
    """Packets that a strict reader takes, of the named kinds, each as likely as the others.

    longest   bytes of the longest payload; a header with ranges has up to 112 more

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(packets(), lambda packet: True)
    PacketImage(type=6, payload=b'')
    >>> smallest(packets(kinds=["gpa-direct"]), lambda packet: packet.payload).ranges
    (PagedRange(0, 1, [0]),)
    """
    unknown = set(kinds) - PACKET_KINDS.keys()
    if unknown or not kinds:
        raise CallerError(
            f"kinds of packets are some of {', '.join(PACKET_KINDS)}, not {list(kinds)}",
            argument="kinds",
            value=tuple(kinds),
            limit=tuple(PACKET_KINDS),
        )
    return packets_of(longest, tuple(kinds))


@remembered
def packets_of(longest: int, kinds: tuple[str, ...]) -> SearchStrategy[PacketImage]:
    return with_odd_parts(st.one_of([PACKET_KINDS[kind](longest) for kind in kinds]))


@remembered
@st.composite
def hostile_packets(draw: DrawFn, longest: int = 64) -> PacketImage:
    """Packets of which up to three numbers are anything: most of them a strict reader refuses.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(hostile_packets(), lambda packet: packet.length8 == 0)
    PacketImage(type=6, payload=b'', length8=0)
    """
    packet = draw(packets(longest))
    right = {"length8": packet.length // SLOT, "data_offset8": packet.data_offset // SLOT}
    changes = {}
    for name in draw(HOSTILE_NAMES):
        value = draw(HOSTILE_FIELDS[name])
        changes[name] = (right[name] + value) & 0xFFFF if name in right else value
    return packet.changed(**changes)


#: What an enemy writes into the fields of a packet; of the first two, how far from what is right.
HOSTILE_FIELDS: dict[str, SearchStrategy[Any]] = {
    "length8": st.one_of(st.integers(-2, 2), numbers(16)),
    "data_offset8": st.one_of(st.integers(-2, 2), numbers(16)),
    "type": numbers(16),
    "flags": numbers(16),
    "extension": st.lists(numbers(64), max_size=8).map(pack_words),
}
HOSTILE_NAMES = st.lists(st.sampled_from(list(HOSTILE_FIELDS)), max_size=3, unique=True)


def packet_bytes(offset: int = 0, *, hostile: bool = False) -> SearchStrategy[bytes]:
    """Whole packets as they lie in memory from `offset` on; `hostile`, and their numbers may be anything.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(packet_bytes(), lambda data: True).hex(" ", 8)
    '0600020002000000 0000000000000000 0000000000000000'
    """
    drawn = hostile_packets() if hostile else packets()
    return drawn.map(lambda packet: packet.to_bytes(offset))


def received_packets(longest: int = 128) -> SearchStrategy[Packet]:
    """Packets as `IncomingRing.receive` returns them.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(received_packets(), lambda packet: packet.completion_requested).flags
    1
    """
    return packets(longest).map(lambda packet: packet.as_received())


@remembered
def outgoing_packets(longest: int = 128) -> SearchStrategy[OutgoingPacket]:
    """Packets of every kind, to be given to `OutgoingRing.write`; the payload is written behind that.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(outgoing_packets(), lambda packet: packet.transaction_id > 99).transaction_id
    100
    """
    sizes, ids = payloads(longest).map(len), numbers(64)
    gpa = st.lists(paged_ranges(), min_size=1, max_size=MOST_RANGES)
    parts = st.lists(transfer_page_ranges(), max_size=MOST_RANGES)
    return st.one_of(
        st.builds(OutgoingPacket.in_band, sizes, transaction_id=ids, completion_requested=st.booleans()),
        st.builds(OutgoingPacket.completion, sizes, transaction_id=ids),
        st.builds(OutgoingPacket.gpa_direct, gpa, sizes, transaction_id=ids),
        st.builds(OutgoingPacket.transfer_pages, numbers(16), parts, sizes, transaction_id=ids),
    )
