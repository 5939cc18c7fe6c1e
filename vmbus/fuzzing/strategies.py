"""Hypothesis strategies for anybody's tests of rings.

    from hypothesis import given
    from vmbus.fuzzing import strategies as vmbus_st

    @given(vmbus_st.broken_ring_images())
    def test_my_parser_refuses_what_is_broken(image):
        with pytest.raises(MyError):
            my_parser(image.to_bytes())

values     numbers, payloads, offsets, control_words, control_pages, guids, paged_ranges, ...
packets    packets of every kind, hostile_packets, packet_bytes, outgoing_packets, received_packets
rings      ring_images in any state, broken_ring_images
trials     scripts, of_argument
schemas    from_schema of any fixed-size schema of construct

Values at which rings go wrong (a ring that ends within a descriptor, one that is full to the last slot, a length
that goes just beyond what is published) are drawn on purpose, each about as often as the others.  All shrink to
the smallest and plainest; `smallest` shows it.

Needs hypothesis.
"""

from __future__ import annotations

from . import needs_hypothesis  # noqa: F401 - first
from .image_strategies import broken_ring_images, ring_images
from .packet_strategies import (
    PACKET_KINDS,
    hostile_packets,
    outgoing_packets,
    packet_bytes,
    packets,
    received_packets,
)
from .schema_strategies import from_schema
from .script_strategies import of_argument, of_arguments, scripts
from .value_strategies import (
    control_pages,
    control_words,
    gpa_ranges,
    guids,
    numbers,
    offsets,
    paged_ranges,
    payloads,
    smallest,
    transfer_page_ranges,
)

__all__ = [
    "PACKET_KINDS",
    "broken_ring_images",
    "control_pages",
    "control_words",
    "from_schema",
    "gpa_ranges",
    "guids",
    "hostile_packets",
    "numbers",
    "of_argument",
    "of_arguments",
    "offsets",
    "outgoing_packets",
    "packet_bytes",
    "packets",
    "paged_ranges",
    "payloads",
    "received_packets",
    "ring_images",
    "scripts",
    "smallest",
    "transfer_page_ranges",
]
