"""What Hypothesis is told of this package: how its types are drawn, and two profiles.

Hypothesis calls `setup` when it is imported, where this package is installed.  From then on `st.from_type(RingImage)`,
`st.builds` of something that takes a `Packet`, and `@given(...)` of annotated arguments draw from the strategies
in strategies.py, which is imported when that first happens.

    vmbus-quick    30 examples of each test, 20 steps of each machine
    vmbus-long     2,000 examples, 100 steps
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["PROFILES", "register_profiles", "register_types", "setup"]

#: The settings of each profile, by its name.
PROFILES: dict[str, dict[str, Any]] = {
    "vmbus-quick": {"max_examples": 30, "stateful_step_count": 20, "deadline": None},
    "vmbus-long": {"max_examples": 2000, "stateful_step_count": 100, "deadline": None, "print_blob": True},
}


def setup() -> None:
    """Register all of it; harmless where something of it cannot be imported."""
    try:
        register_profiles()
        register_types()
    except ImportError:  # an installation that is not whole must not take Hypothesis from others
        return


def register_profiles() -> None:
    """The profiles; none of them is loaded."""
    from hypothesis import settings

    for name, values in PROFILES.items():
        settings.register_profile(name, **values)


def register_types() -> None:
    """How types of this package are drawn."""
    from hypothesis import strategies as st

    from vmbus.layout import (
        FOOTER,
        GPA_DIRECT_HEADER,
        PACKET_DESCRIPTOR,
        PARTIAL_PIPE_HEADER,
        PIPE_HEADER,
        TRANSFER_PAGE_HEADER,
        ControlPage,
        GpaRange,
        Guid,
        TransferPageRange,
    )
    from vmbus.ring import OutgoingPacket, Packet, PagedRange

    from .packet_builder import PacketImage
    from .ring_images import RingImage

    named = {
        PacketImage: "packets",
        RingImage: "ring_images",
        OutgoingPacket: "outgoing_packets",
        Packet: "received_packets",
        PagedRange: "paged_ranges",
        GpaRange: "gpa_ranges",
        TransferPageRange: "transfer_page_ranges",
        Guid: "guids",
        ControlPage: "control_pages",
    }
    for kind, name in named.items():
        st.register_type_strategy(kind, only_for(kind, by_name(name)))
    headers = (GPA_DIRECT_HEADER, TRANSFER_PAGE_HEADER, PIPE_HEADER, PARTIAL_PIPE_HEADER)
    for codec in (PACKET_DESCRIPTOR, *headers, FOOTER):
        st.register_type_strategy(codec.record, only_for(codec.record, by_schema(codec)))


def only_for(kind: type, make: Callable[[], Any]) -> Callable[[Any], Any]:
    """The strategy for a type itself.

    Hypothesis asks for it also where something hashable is wanted, or any object: ours are not for that.
    """

    def strategy(asked: Any) -> Any:
        return make() if asked is kind else NotImplemented

    return strategy


def by_name(name: str) -> Callable[[], Any]:
    """A function that imports the strategy of that name when it is needed."""

    def make() -> Any:
        from . import strategies

        return getattr(strategies, name)()

    return make


def by_schema(codec: Any) -> Callable[[], Any]:
    def make() -> Any:
        from .strategies import from_schema

        return from_schema(codec)

    return make
