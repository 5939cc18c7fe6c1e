"""The two headers of a pipe packet are two readings of the same eight bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.layout import (
    MAXIMUM_PIPE_PACKET_SIZE,
    PARTIAL_PIPE_HEADER,
    PIPE_HEADER,
    PartialPipeHeader,
    PipeHeader,
    PipePacketType,
)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(kind=st.integers(0, 2**32 - 1), length=st.integers(0, 2**16 - 1), consumed=st.integers(0, 2**16 - 1))
def test_a_partial_header_keeps_what_is_consumed_in_the_upper_half_of_the_length(kind, length, consumed):
    image = PARTIAL_PIPE_HEADER.pack(PartialPipeHeader(kind, length, consumed))
    assert PIPE_HEADER.unpack(image) == PipeHeader(kind, length | consumed << 16)
    assert PIPE_HEADER.pack(PipeHeader(kind, length | consumed << 16)) == image


def test_the_longest_packet_fits_both_halves_of_a_partial_header():
    header = PartialPipeHeader(PipePacketType.PARTIAL, MAXIMUM_PIPE_PACKET_SIZE, MAXIMUM_PIPE_PACKET_SIZE)
    assert PARTIAL_PIPE_HEADER.unpack(PARTIAL_PIPE_HEADER.pack(header)) == header


def test_a_data_header_that_was_not_consumed_reads_the_same_both_ways():
    image = PIPE_HEADER.pack(PipeHeader(PipePacketType.DATA, 12))
    assert image == bytes([1, 0, 0, 0, 12, 0, 0, 0])
    assert PARTIAL_PIPE_HEADER.unpack(image) == PartialPipeHeader(1, 12, 0)
