"""Hypothesis strategies of whole rings: right ones in any state, and ones that are broken in one named way.

Where the ring's end lies in a packet, and how much is free, is not left to luck: it is drawn first, and the ring is
made so.

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from vmbus.errors import CallerError
from vmbus.layout import SMALLEST_PACKET, TransferPageRange
from vmbus.sizes import LARGEST_PACKET, PAGE_SIZE, SLOT

from .packet_builder import PacketImage
from .packet_strategies import packets
from .ring_breaks import BREAKS
from .ring_images import WRAPS, RingImage, wrap_positions
from .value_strategies import filled, offsets

__all__ = ["broken_ring_images", "ring_images"]

#: How many slots are to be free, by the name of the state; None: as the packets leave it.
FILLS = {"some": None, "full": 0, "one-slot": 1, "room-for-the-smallest": SMALLEST_PACKET // SLOT}

#: A packet that has every part in which a ring can end.
WITH_ALL_PARTS = PacketImage.transfer_pages(1, [TransferPageRange(64, 0)], bytes(16))

#: What a fill leaves free, and the packet that fills up the rest, at least.
LARGEST_GAP = 2 * SMALLEST_PACKET

#: Enough of a packet that a reader which goes too far finds one.
STALE_PACKET = PacketImage.in_band(b"stale!!!", transaction_id=0x57A1E).to_bytes()


#: Numbers that choose among values that are not known before; the first is the simplest.
PICKS = st.integers(0, 9999)
STATES = st.sampled_from(["empty", *FILLS])
PARTS = st.sampled_from(["anywhere", *WRAPS])
MASKS = st.sampled_from([0, 1])
FEATURES = st.sampled_from([1, 0, 3, 0xFFFF_FFFF])
STALE = st.sampled_from([b"", b"\xff", STALE_PACKET, filled(24, 1)])
FLAGS = st.booleans()
SOME_CONSUMED = st.lists(packets(), max_size=2)


def ring_images(
    *,
    data_sizes: Sequence[int] = (PAGE_SIZE, 2 * PAGE_SIZE, 5 * PAGE_SIZE),
    header_sizes: Sequence[int] = (PAGE_SIZE,),
    most_packets: int = 4,
) -> SearchStrategy[RingImage]:
    """Rings that a correct sender and a correct receiver can have left behind, in any state.

    data_sizes, header_sizes   sizes that are drawn from
    most_packets               that wait, beside those that fill the ring up

    One in five is empty, and each of the other fills and each of the places where the ring can end as likely as
    the others; waiting and consumed packets are of every kind.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> smallest(ring_images(), lambda image: True)
    RingImage()
    >>> full = smallest(ring_images(), lambda image: image.free == 0)
    >>> full.data_size, full.used, full.out_offset
    (4096, 4088, 0)
    """
    waiting = st.lists(packets(), min_size=1, max_size=most_packets)
    sizes = st.tuples(st.sampled_from(tuple(header_sizes)), st.sampled_from(tuple(data_sizes)))
    return any_ring(sizes, waiting)


@st.composite
def any_ring(
    draw: DrawFn, sizes: SearchStrategy[tuple[int, int]], packet_lists: SearchStrategy[list[PacketImage]]
) -> RingImage:
    header_size, size = draw(sizes)
    state, part = draw(STATES), draw(PARTS)
    waiting: list[PacketImage] = []
    out_offset = None
    if state != "empty":
        waiting = fitting(draw(packet_lists), size - SLOT - WITH_ALL_PARTS.size - LARGEST_GAP)
        if not waiting or (part != "anywhere" and not places_of(waiting, part)):
            waiting.insert(0, WITH_ALL_PARTS)
        waiting = filled_up(draw, waiting, size, FILLS[state])
        if part != "anywhere":
            out_offset = (size - picked(draw, places_of(waiting, part))) % size
    image = RingImage(
        data_size=size,
        out_offset=draw(offsets(size)) if out_offset is None else out_offset,
        waiting=tuple(waiting),
        consumed=tuple(fitting(draw(SOME_CONSUMED), size)),
        interrupt_mask=draw(MASKS),
        feature_bits=draw(FEATURES),
        header_size=header_size,
        stale=draw(STALE),
    )
    pending = [0, image.free, image.free + SLOT, size - SLOT, size - 1, SLOT + 1]
    return image.changed(pending_send_size=picked(draw, pending))


def picked(draw: DrawFn, values: Sequence[int]) -> int:
    return values[draw(PICKS) % len(values)]


def fitting(drawn: list[PacketImage], room: int) -> list[PacketImage]:
    """As many of the packets as have room."""
    kept: list[PacketImage] = []
    for packet in drawn:
        room -= packet.size
        if room < 0:
            break
        kept.append(packet)
    return kept


def filled_up(draw: DrawFn, waiting: list[PacketImage], size: int, slots: int | None) -> list[PacketImage]:
    """The packets with what leaves just so many slots free behind them, or before them."""
    if slots is None:
        return waiting
    left = size - SLOT - slots * SLOT - sum(packet.size for packet in waiting)
    padding = picked(draw, [0, 1, 7])
    seed = draw(MASKS)
    fillers = []
    while left:
        taken = left if left <= LARGEST_PACKET else min(LARGEST_PACKET, left - SMALLEST_PACKET)
        length = max(0, taken - SMALLEST_PACKET - padding)
        fillers.append(PacketImage.in_band(filled(length, seed)))
        left -= taken
    return [*fillers, *waiting] if draw(FLAGS) else [*waiting, *fillers]


def places_of(waiting: list[PacketImage], part: str) -> list[int]:
    """Bytes from out to each place where the ring would end in that part of a packet."""
    places, start = [], 0
    for packet in waiting:
        positions = wrap_positions(packet, part)
        # Of a long payload its ends and its middle are enough to choose from.
        chosen = {positions[number] for number in (0, len(positions) // 2, -1)} if positions else set()
        places += sorted(start + position for position in chosen)
        start += packet.size
    return places


def broken_ring_images(
    *,
    names: Sequence[str] = tuple(BREAKS),
    data_sizes: Sequence[int] = (PAGE_SIZE, 2 * PAGE_SIZE),
    most_packets: int = 3,
) -> SearchStrategy[RingImage]:
    """Rings broken in one of the named ways, each as likely as the others; `image.broken` says which.

    Hypothesis varies an example several times before it draws a new one, so that a hundred examples do not meet
    every break.  A test that is to meet them all takes `names=[name]` for every name of BREAKS.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> image = smallest(broken_ring_images(), lambda image: image.packets())
    >>> image.broken.name, len(image.waiting)
    ('too-little-published', 2)
    """
    unknown = set(names) - BREAKS.keys()
    if unknown or not names:
        raise CallerError(
            f"breaks are some of {', '.join(BREAKS)}, not {list(names)}",
            argument="names",
            value=tuple(names),
            limit=tuple(BREAKS),
        )
    return st.builds(
        lambda name, image, choice: BREAKS[name].apply(image, choice),
        st.sampled_from(tuple(names)),
        ring_images(data_sizes=data_sizes, most_packets=most_packets),
        PICKS,
    )
