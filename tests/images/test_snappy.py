"""Snappy blocks decode to what was encoded and never to more than was asked for; CRC-32C is that of a slow loop."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.avml import checksum, snappy_block, snappy_chunk

from tests.helpers import pattern
from tests.images.image_checks import peak_memory
from vmbus.images.snappy import (
    FOLDS,
    MOST_IN_CHUNK,
    ChunkType,
    SnappyError,
    crc32c,
    decode_chunk,
    decompress,
    masked_crc,
    stated_length,
)

BLOCK_OF_A = bytes.fromhex("14 00 41 4a 01 00")


def block(length, *elements):
    """A raw block that says it decodes to so many bytes."""
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes(out) + bytes([length]) + b"".join(elements)


def bytes_that_repeat(most):
    """Bytes with stretches that came before, near and far, and that overlap themselves."""
    parts = st.tuples(st.binary(min_size=1, max_size=20), st.integers(1, 60))
    return st.lists(parts, max_size=20).map(
        lambda drawn: b"".join(part * count for part, count in drawn)[:most]
    )


# -- blocks ----------------------------------------------------------------------------------------


def test_the_documented_block_is_decoded():
    assert decompress(BLOCK_OF_A) == b"A" * 20
    assert stated_length(BLOCK_OF_A) == (20, 1)


@pytest.mark.parametrize(
    ("elements", "content"),
    [
        ([b"\x08abc"], b"abc"),
        ([b"\xf0\x3c", b"x" * 61], b"x" * 61),
        ([b"\xf4\x00\x01", b"x" * 257], b"x" * 257),
        ([b"\xf8\x00\x00\x01", pattern(65537)[:65537]], pattern(65537)[:65537]),
        ([b"\xfc\x02\x00\x00\x00", b"abc"], b"abc"),
        ([b"\x08abc", b"\x01\x03"], b"abcabca"),
        ([b"\x08abc", b"\x1d\x01"], b"abc" + b"c" * 11),
        ([b"\x08abc", b"\x02\x03\x00"], b"abca"),
        ([b"\x08abc", b"\xfe\x03\x00"], b"abc" * 22 + b"a"),
        ([b"\x08abc", b"\xfe\x02\x00" * 3], b"abc" + b"bc" * 96),
        ([b"\x08abc", b"\x0b\x02\x00\x00\x00"], b"abcbcb"),
        ([b"\xf4\x2b\x01" + pattern(300), b"\x21\x2c"], pattern(300) + pattern(300)[:4]),
        ([], b""),
    ],
)  # fmt: skip
def test_every_kind_of_element_is_decoded(elements, content):
    assert decompress(block(len(content), *elements), 70_000) == content


@settings(max_examples=120, deadline=None)
@given(bytes_that_repeat(5000))
def test_a_block_decodes_to_what_was_encoded(content):
    assert decompress(snappy_block(content)) == content


def test_copies_from_more_than_64_KiB_back_are_decoded():
    content = pattern(70_000) + b"abcdefgh" * 9000 + pattern(70_000)
    assert b"\xff" in snappy_block(content)  # the tag of a copy with a long distance
    assert decompress(snappy_block(content), len(content)) == content


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the length in front of a block does not end"),
        (b"\xff\xff", "the length in front of a block does not end"),
        (b"\xff" * 9, "the length in front of a block does not end"),
        (block(65537), "a block says that it decodes to 65537 bytes; 65536 is the most"),
        (block(2**32 - 1), "a block says that it decodes to 4294967295 bytes; 65536 is the most"),
        (block(3, b"\x08ab"), "a literal of 3 bytes goes over the end of its block"),
        (block(3, b"\xfc\xff\xff\xff\xff"), "a literal of 4294967296 bytes goes over the end of its block"),
        (block(3, b"\xfc\xff"), "a literal of 256 bytes goes over the end of its block"),
        (block(7, b"\x08abc", b"\x01"), "a block ends inside an element"),
        (block(7, b"\x08abc", b"\x0e\x03"), "a block ends inside an element"),
        (block(7, b"\x08abc", b"\x0f\x03\x00\x00"), "a block ends inside an element"),
        (block(7, b"\x08abc", b"\x01\x00"), "a copy from 0 bytes back, where 3 are decoded"),
        (block(7, b"\x08abc", b"\x01\x04"), "a copy from 4 bytes back, where 3 are decoded"),
        (block(7, b"\x01\x01"), "a copy from 1 bytes back, where 0 are decoded"),
        (block(4, b"\x08abc"), "a block decodes to 3 bytes, and says 4"),
        (block(2, b"\x08abc"), "a block decodes to more than the 2 bytes that it says"),
        (block(6, b"\x08abc", b"\x01\x03"), "a block decodes to more than the 6 bytes that it says"),
    ],
)  # fmt: skip
def test_a_block_that_no_encoder_writes_is_refused_with_its_fault(data, why):
    with pytest.raises(SnappyError) as caught:
        decompress(data)
    assert str(caught.value) == why


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 200))
def test_any_bytes_are_decoded_to_what_they_say_or_refused(data, most):
    try:
        content = decompress(data, most)
    except SnappyError:
        return
    assert len(content) == stated_length(data)[0] <= most


def test_a_small_block_that_would_be_very_large_is_refused_without_becoming_it():
    bomb = block(MOST_IN_CHUNK, b"\x00A", b"\xfe\x01\x00" * 200_000)  # 12 MiB

    def refused():
        with pytest.raises(SnappyError, match="more than the 65536 bytes"):
            decompress(bomb)

    start = time.process_time()
    assert peak_memory(refused) < 1 << 20
    assert time.process_time() - start < 1


# -- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_the_bytes_of_every_kind_of_chunk_are_given(kind):
    content = b"ring " * 1000
    assert decode_chunk(kind, snappy_chunk(content, kind)[4:]) == content


@pytest.mark.parametrize("kind", [ChunkType.COMPRESSED, ChunkType.PLAIN])
def test_a_chunk_whose_checksum_is_of_other_bytes_is_refused(kind):
    body = snappy_chunk(b"ring", kind, crc=checksum(b"Ring"))[4:]
    with pytest.raises(SnappyError, match="the checksum of a chunk is 0x"):
        decode_chunk(kind, body)


@pytest.mark.parametrize("kind", [ChunkType.COMPRESSED, ChunkType.PLAIN])
def test_a_chunk_without_room_for_its_checksum_is_refused(kind):
    with pytest.raises(SnappyError, match="a chunk of 3 bytes has no room"):
        decode_chunk(kind, b"abc")


def test_a_chunk_of_more_plain_bytes_than_a_chunk_can_have_is_refused():
    decode_chunk(ChunkType.PLAIN_WITHOUT_CRC, bytes(65536))
    with pytest.raises(SnappyError, match="a chunk holds 65537 bytes; 65536 is the most"):
        decode_chunk(ChunkType.PLAIN_WITHOUT_CRC, bytes(65537))


# -- checksums ---------------------------------------------------------------------------------------


def crc_bit_by_bit(data):
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def test_the_checksum_of_the_nine_digits_is_the_published_one():
    assert (crc32c(b"123456789"), masked_crc(b"123456789")) == (0xE3069283, 0xC78AB0E5)
    assert crc32c(b"") == 0


@pytest.mark.parametrize("distances", FOLDS)
def test_each_multiple_of_the_modulus_is_one(distances):
    """The power of x on the left is the sum of those on the right: as remainders they are equal."""

    def power(exponent):
        remainder = 0x80000000
        for _ in range(exponent):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
        return remainder

    total = 0
    for distance in distances:
        total ^= power(distances[-1] - distance)
    assert total == power(distances[-1])


@pytest.mark.parametrize(
    "size", [*range(12), *range(80, 95), *range(160, 180), 846, 847, 848, 849, 1694, 1695, 6777, 20000]
)
def test_a_checksum_of_any_length_is_that_of_a_slow_loop(size):  # fmt: skip
    data = pattern(size)
    assert crc32c(data) == crc_bit_by_bit(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_checksum_of_any_bytes_is_that_of_a_slow_loop(data, count):
    assert crc32c(memoryview(data * count)) == crc_bit_by_bit(data * count)


@pytest.mark.parametrize("size", [5, 1000, 65536])
def test_a_checksum_is_another_one_when_any_bit_is(size):
    data = bytearray(pattern(size))
    right = crc32c(data)
    for bit in range(0, size * 8, max(1, size * 8 // 199)):
        data[bit // 8] ^= 1 << bit % 8
        assert crc32c(data) != right
        data[bit // 8] ^= 1 << bit % 8
