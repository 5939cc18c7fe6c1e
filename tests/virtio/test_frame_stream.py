"""Frames on a byte stream: golden bytes, every way to cut them, and streams that are none.

Source: libkrun and smolvm smolvm-network, the stream between monitor and network process.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, integers, lists

from vmbus.errors import CallerError, PeerError
from vmbus.virtio import (
    FRAME_PREFIX_SCHEMA,
    LARGEST_STREAM_FRAME,
    FrameStreamDecoder,
    FrameStreamFault,
    encode_frame,
)


def fed(data, step=None, **options):
    """All frames of some bytes, fed in pieces of `step`."""
    decoder = FrameStreamDecoder(**options)
    step = step or max(len(data), 1)
    frames = [frame for at in range(0, len(data), step) for frame in decoder.feed(data[at : at + step])]
    decoder.finish()
    return frames


def test_a_frame_follows_its_length_with_the_largest_byte_first():  # golden
    assert encode_frame(bytes([1, 2, 3, 4, 5, 6])) == bytes.fromhex("00000006 010203040506")
    assert FRAME_PREFIX_SCHEMA.parse(b"\0\0\1\2").length == 258


def test_the_golden_stream_is_read():  # golden
    assert fed(bytes.fromhex("00000003 070809")) == [bytes([7, 8, 9])]


@pytest.mark.parametrize("step", range(1, 12))
def test_two_frames_keep_their_boundaries_however_they_are_cut(step):
    data = encode_frame(b"one") + encode_frame(b"seven!!")
    assert fed(data, step) == [b"one", b"seven!!"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_goes_in(kind):
    assert encode_frame(kind(b"one")) == b"\0\0\0\3one"
    assert FrameStreamDecoder().feed(kind(b"\0\0\0\3one")) == [b"one"]


def test_what_is_fed_may_change_afterwards():
    data = bytearray(b"\0\0\0\3on")
    decoder = FrameStreamDecoder()
    decoder.feed(data)
    data[:] = bytes(6)
    assert decoder.feed(b"e") == [b"one"]


@pytest.mark.parametrize("length", [1, 65536])
def test_the_smallest_and_the_largest_frame_go_through(length):
    assert fed(encode_frame(bytes(length)), 4096) == [bytes(length)]


@pytest.mark.parametrize("length", [0, 65537])
def test_an_empty_or_too_large_frame_is_not_written(length):
    with pytest.raises(CallerError) as caught:
        encode_frame(bytes(length))
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("frame", length, 65536)


@pytest.mark.parametrize("length", [0, 65537, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused_as_soon_as_it_is_there(length):
    decoder = FrameStreamDecoder()
    with pytest.raises(PeerError) as caught:
        decoder.feed(length.to_bytes(4, "big"))
    error = caught.value
    assert (error.kind, error.found, error.allowed) == (FrameStreamFault.LENGTH, length, 65536)
    assert error.offset == 0 and str(length) in str(error)
    for call in (lambda: decoder.feed(b""), lambda: decoder.feed(encode_frame(b"good")), decoder.finish):
        with pytest.raises(PeerError) as again:
            call()
        assert str(again.value) == str(error) and again.value is not error


def test_frames_before_a_bad_length_are_returned_first():
    decoder = FrameStreamDecoder()
    assert decoder.feed(encode_frame(b"good") + bytes(4) + encode_frame(b"lost")) == [b"good"]
    assert decoder.fault.offset == 8
    with pytest.raises(PeerError):
        decoder.feed(encode_frame(b"lost"))


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 7])
def test_an_end_inside_a_frame_is_an_error(cut):  # truncated stream: EOF error
    decoder = FrameStreamDecoder()
    decoder.feed(encode_frame(b"whole") + encode_frame(b"half")[:cut])
    with pytest.raises(PeerError) as caught:
        decoder.finish()
    assert caught.value.kind is FrameStreamFault.TRUNCATED
    assert caught.value.found == cut and caught.value.offset == 9
    with pytest.raises(PeerError):
        decoder.feed(b"more")


@pytest.mark.parametrize("data", [b"", encode_frame(b"whole")])
def test_an_end_between_frames_is_none(data):
    fed(data)


@pytest.mark.parametrize("cut", [1, 3])
def test_between_peers_of_a_fabric_an_end_inside_a_length_is_clean(cut):
    assert fed(encode_frame(b"packet") + bytes(cut), clean_in_prefix=True) == [b"packet"]


@pytest.mark.parametrize("cut", [4, 5])
def test_between_peers_of_a_fabric_an_end_inside_a_packet_is_not(cut):
    with pytest.raises(PeerError):
        fed(encode_frame(b"packet")[:cut], clean_in_prefix=True)


@pytest.mark.parametrize("length", [0, 65537])
def test_between_peers_of_a_fabric_lengths_are_the_same(length):
    with pytest.raises(PeerError):
        fed(length.to_bytes(4, "big"), clean_in_prefix=True)


def test_no_more_than_one_frame_is_held():
    decoder = FrameStreamDecoder()
    largest = encode_frame(bytes(LARGEST_STREAM_FRAME))
    for _ in range(3):
        decoder.feed(largest[:-1])
        assert decoder.held == len(largest) - 1
        assert len(decoder.feed(largest[-1:])) == 1
        assert decoder.held == 0


@settings(max_examples=60, deadline=None)
@given(lists(binary(min_size=1, max_size=40), max_size=8), integers(1, 17))
def test_what_was_written_is_read_however_it_is_cut(frames, step):
    assert fed(b"".join(map(encode_frame, frames)), step) == frames


@settings(max_examples=150, deadline=None)
@given(
    lists(binary(max_size=12) | binary(max_size=3).map(lambda end: bytes(3) + end), max_size=8),
)
def test_any_bytes_give_frames_or_a_peer_error_and_cutting_changes_nothing(pieces):
    data = b"".join(pieces)

    def outcome(parts):
        decoder, frames = FrameStreamDecoder(), []
        try:
            for part in parts:
                frames += decoder.feed(part)
                assert decoder.held <= 4 + LARGEST_STREAM_FRAME
            decoder.finish()
        except PeerError as error:
            return frames, error.kind, error.offset, error.found
        return frames, None, None, None

    assert outcome(pieces) == outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))])
