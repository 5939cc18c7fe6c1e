"""A packet packed in one call is the packet packed in three."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import pattern
from vmbus.layout import FOOTER, PACKET_DESCRIPTOR, SMALLEST_PACKET, Footer, PacketDescriptor, whole_packet
from vmbus.sizes import LARGEST_PACKET

words = st.integers(0, 2**16 - 1)
offsets = st.integers(0, 2**32 - 1)


def in_three_parts(descriptor: PacketDescriptor, payload: bytes, footer: Footer) -> bytes:
    padding = bytes(-len(payload) % 8)
    return PACKET_DESCRIPTOR.pack(descriptor) + payload + padding + FOOTER.pack(footer)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    descriptor=st.builds(PacketDescriptor, words, words, words, words, st.integers(0, 2**64 - 1)),
    length=st.integers(0, 130) | st.sampled_from([4072, 65536]),
    footer=st.builds(Footer, offsets, offsets),
)
def test_a_whole_packet_is_descriptor_payload_and_footer(descriptor, length, footer):
    parts = in_three_parts(descriptor, pattern(length), footer)
    record = whole_packet(len(parts))
    assert record.size == len(parts)
    assert record.pack(*descriptor, pattern(length), *footer) == parts
    assert record.unpack(parts) == (*descriptor, parts[16:-8], *footer)


@pytest.mark.parametrize("length", range(17))
def test_a_shorter_payload_is_padded_with_zeros(length):
    record = whole_packet(SMALLEST_PACKET + 16)
    image = bytearray(b"\xaa" * record.size)
    record.pack_into(image, 0, 6, 2, 4, 0, 7, b"\xff" * length, 0, 64)
    assert image[16:32] == b"\xff" * length + bytes(16 - length)


def test_the_largest_packet_can_be_packed_in_one_call():
    record = whole_packet(LARGEST_PACKET)
    assert record.size == LARGEST_PACKET == 524_288
    assert record.pack(6, 2, 0xFFFF, 0, 0, b"", 0, 0)[4:6] == b"\xff\xff"


def test_the_same_size_is_prepared_once():
    assert whole_packet(64) is whole_packet(64)


def test_less_than_a_descriptor_and_a_footer_is_no_packet():
    with pytest.raises(struct.error):
        whole_packet(SMALLEST_PACKET - 8)
