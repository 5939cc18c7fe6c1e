"""What a saved state says of VMBus and of processors."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.vmrs import context_channels, context_gpadl

from vmbus.images import ChannelPages
from vmbus.images.vmbus_context import (
    MOST_CHANNELS,
    MOST_GPADL_PAGES,
    Processor,
    VmbusState,
    processors_of,
)

NETWORK, FIRST, SECOND = bytes(range(16)), b"instance-number1", b"instance-number2"
VERSION = struct.pack("<IIQHHIQQ", 0, 0, 24, 2, 5, 0, 0x1000, 0x2000)


def test_channels_come_with_the_pages_of_their_rings() -> None:
    state = VmbusState(
        [
            VERSION,
            context_channels([(9, NETWORK, SECOND, 0, 0), (3, NETWORK, FIRST, 0xE1E10, 2)]),
            context_gpadl(2, 0xE1E10, 3, [0x100, 0x205, 0x103, 0x104]),
            context_gpadl(3, 0xE1E11, 3, [7]),
        ]
    )
    assert state.version == (5, 2)
    assert state.channels() == [
        ChannelPages(3, NETWORK, FIRST, (0x100, 0x205, 0x103, 0x104), 2),
        ChannelPages(9, NETWORK, SECOND, (), 0),
    ]
    assert state.gpadls() == {0xE1E10: (0x100, 0x205, 0x103, 0x104), 0xE1E11: (7,)}
    assert state.findings == []


def test_a_channel_has_its_own_gpadl_where_two_channels_use_one_id() -> None:
    records = [(1, NETWORK, FIRST, 5, 1), (2, NETWORK, SECOND, 5, 1)]
    state = VmbusState(
        [context_channels(records), context_gpadl(2, 5, 1, [10, 11]), context_gpadl(3, 5, 2, [20, 21])]
    )
    assert [channel.pages for channel in state.channels()] == [(10, 11), (20, 21)]
    assert state.gpadls() == {5: (10, 11)}


def test_records_are_as_long_as_they_say() -> None:
    records = [(number, NETWORK, FIRST, 0, 0) for number in (1, 2, 3)]
    for size in (48, 53, 64, 200):
        state = VmbusState([context_channels(records, record_size=size)])
        assert [channel.channel_id for channel in state.channels()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (b"", "does not say what it is"),
        (bytes(15), "does not say what it is"),
        (struct.pack("<IIQ", 2, 0, 0), "too short for a GPADL"),
        (context_gpadl(2, 5, 1, [10], ranges=2), "GPADL 0x5 of channel 1 has 2 ranges in 16 bytes"),
        (context_gpadl(2, 5, 1, []), "has 1 ranges in 8 bytes"),
        (context_gpadl(2, 5, 1, [10, 11])[:-1], "is to have 2 pages, and its array of 63 bytes ends before"),
        (context_gpadl(2, 5, 1, [2**52]), "has a page 0x10000000000000, behind the last address"),
        (
            context_channels([(1, NETWORK, FIRST, 0, 0)], record_size=48).replace(
                b"\x30\0\0\0\1", b"\x28\0\0\0\1"
            ),
            "40 bytes;",
        ),
    ],
)
def test_what_means_nothing_is_a_finding_and_the_rest_is_there(array: bytes, why: str) -> None:
    state = VmbusState([array, context_gpadl(3, 6, 1, [77])])
    assert [finding.check for finding in state.findings] == ["vmbus-context"]
    assert why in state.findings[0].message
    assert state.gpadls() == {6: (77,)}


def test_channels_and_pages_are_taken_up_to_their_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MOST_CHANNELS, MOST_GPADL_PAGES) == (1 << 16, 1 << 20)
    monkeypatch.setattr("vmbus.images.vmbus_context.MOST_CHANNELS", 2)
    monkeypatch.setattr("vmbus.images.vmbus_context.MOST_GPADL_PAGES", 5)
    records = [(number, NETWORK, FIRST, 0, 0) for number in range(4)]
    state = VmbusState(
        [context_channels(records), *(context_gpadl(place, place, 1, [1, 2]) for place in range(2, 200))]
    )
    assert len(state.channels()) == 2
    assert [*state.gpadls()] == [2, 3]
    assert len(state.findings) == 100


def chunk(kind: int, content: bytes) -> bytes:
    return struct.pack("<II8x", kind, len(content)) + content


CONTROL = struct.pack("<6Q", 0x80050033, 0, 0x1AD000, 0x370678, 0, 0xD01)
PARTITION = (
    struct.pack("<QQQ", 1, 24, 0)
    + bytes(16)
    + chunk(0x20001000, bytes(8))
    + chunk(0x30001000, struct.pack("<I", 0))
    + chunk(0x30007000, CONTROL)
    + chunk(0x30001000, struct.pack("<I", 1))
    + chunk(0x30007000, CONTROL)
    + chunk(0x3001A000, b"\1")
    + chunk(0x30007000, CONTROL.replace(b"\0\xd0\x1a", b"\0\xe0\x1a"))
    + chunk(0xF0000000, b"")
    + chunk(0x30007000, CONTROL)
)


def test_processors_come_with_their_page_tables_for_each_trust_level() -> None:
    assert processors_of(PARTITION) == [
        Processor(0, 0, 0x1AD000),
        Processor(1, 0, 0x1AD000),
        Processor(1, 1, 0x1AE000),
    ]
    assert processors_of(b"") == processors_of(struct.pack("<QQQ", 1, 2**64 - 1, 0)) == []


@given(
    st.integers(0, 3),
    st.lists(
        st.sampled_from([0, 1, 8, 16, 48, 64, 2**16 - 1, 2**31]) | st.integers(0, 2**32 - 1), max_size=40
    ),
    st.integers(0, len(PARTITION)),
)
@settings(max_examples=150, deadline=None)
def test_any_array_gives_channels_and_findings(number: int, words: list[int], cut: int) -> None:
    array = struct.pack(f"<IIQ{len(words)}I", number, 0, 0, *words)
    state = VmbusState([array[: max(len(array) - cut % 7, 0)]])
    for channel in state.channels():
        assert len(channel.interface_id) == len(channel.instance_id) == 16
    assert all(pages for pages in state.gpadls().values())
    assert len(processors_of(PARTITION[:cut])) <= 3
    assert len(processors_of(PARTITION[:24] + array)) <= 3
