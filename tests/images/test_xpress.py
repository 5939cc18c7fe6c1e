"""Memory as Hyper-V compresses it: XPRESS without Huffman codes, and blocks of pages."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.vmrs import compressed_block, lz77, tokens_of

from tests.helpers import pattern
from vmbus.images.xpress import BLOCK_SIZE, XpressError, expand, expand_block

PAGE = 4096
MEANT = b"abcdefghijklmnopqrstuvwxyz"


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("compressed", "expanded"),
    [
        (hexed("3f 00 00 00") + MEANT, MEANT),
        (hexed("ff ff ff 1f 61 62 63 17 00 0f ff 26 01"), b"abc" * 100),
        (hexed("00 00 00 20 41 42 08 00"), b"ABABA"),
        (hexed("ff ff ff 5f 41 07 00 0f ff fb 0f 41"), b"A" * PAGE),
    ],
)
def test_the_known_streams_expand_to_the_known_bytes(compressed: bytes, expanded: bytes) -> None:
    assert expand(compressed, len(expanded)) == expanded


def test_the_known_block_expands_to_its_pages() -> None:
    stored = bytes(range(256)) * 16
    block = hexed("0c 00 00 00 ff ff ff 5f 41 07 00 0f ff fb 0f 41 fe ff ff ff 56 4d 42 55 53 21 21 00")
    block += (
        hexed("00 10 00 00") + stored + hexed("fd ff ff ff") + bytes(8) + hexed("fd 00 00 00 ff ff ff ff")
    )
    assert len(block) == 4148

    assert expand_block(block) == b"A" * PAGE + b"VMBUS!!\0" * 512 + stored + bytes(253 * PAGE)


def literal_or_match(draw: Any, size: int) -> int | tuple[int, int]:
    """A byte, or a match that the bytes before allow; lengths around every border are as likely as all others."""
    if not size or draw(st.booleans()):
        return draw(st.integers(0, 255))
    borders = [3, 8, 9, 10, 11, 23, 24, 25, 26, 278, 279, 280, 281, 282, 65537, 65538, 65539, 70000]
    length = draw(st.sampled_from(borders) | st.integers(3, 400))
    return draw(st.integers(1, min(size, 8192))), length


@st.composite
def token_lists(draw: Any) -> list[int | tuple[int, int]]:
    tokens: list[int | tuple[int, int]] = []
    size = 0
    for _ in range(draw(st.integers(1, 40))):
        token = literal_or_match(draw, size)
        tokens.append(token)
        size += 1 if isinstance(token, int) else token[1]
        if size > 80_000:
            break
    return tokens


def model(tokens: list[int | tuple[int, int]]) -> bytes:
    """What tokens mean, byte by byte."""
    out = bytearray()
    for token in tokens:
        if isinstance(token, int):
            out.append(token)
        else:
            distance, length = token
            for _ in range(length):
                out.append(out[-distance])
    return bytes(out)


@given(token_lists())
@settings(max_examples=100, deadline=None)
def test_tokens_of_every_length_and_distance_expand_to_what_they_mean(
    tokens: list[int | tuple[int, int]],
) -> None:
    meant = model(tokens)
    assert expand(lz77(tokens), len(meant)) == meant


@given(token_lists(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_stream_is_expanded_up_to_what_was_asked_for_and_refused_where_it_has_less(
    tokens: list[int | tuple[int, int]], data: Any
) -> None:
    meant = model(tokens)
    size = data.draw(st.integers(0, len(meant)))
    assert expand(lz77(tokens), size) == meant[:size]
    with pytest.raises(XpressError, match="ends after"):
        expand(lz77(tokens), len(meant) + 1)


@given(st.lists(st.sampled_from([b"", b"A" * 8, b"rings of a VM, ", b"\1"]), max_size=40), st.randoms())
@settings(max_examples=20, deadline=None)
def test_a_block_expands_to_what_was_compressed(seeds: list[bytes], random: Any) -> None:
    pages = [
        (seed * PAGE)[:PAGE].ljust(PAGE, b"\0") if seed != b"\1" else random.randbytes(PAGE) for seed in seeds
    ]
    block = b"".join(pages).ljust(BLOCK_SIZE, b"\0")
    assert expand_block(compressed_block(block)) == block


@given(st.binary(max_size=400), st.integers(0, 5000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_expand_to_the_size_asked_for_or_are_refused(data: bytes, size: int) -> None:
    try:
        assert len(expand(data, size)) == size
    except XpressError as error:
        assert str(error)


TAGS = st.sampled_from([1, 12, 4095, 4096, 4097, 0xFFFFFFFB, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF])


@given(st.lists(st.tuples(TAGS, st.binary(max_size=24)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_tags_expand_to_a_block_or_are_refused_with_whole_pages(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(tag.to_bytes(4, "little") + rest for tag, rest in parts)
    try:
        assert len(expand_block(data)) == BLOCK_SIZE
    except XpressError as error:
        assert len(error.done) % PAGE == 0
        assert len(error.done) < BLOCK_SIZE


PAGES = [b"A" * PAGE, b"VMBUS!!\0" * 512, bytes(range(256)) * 16, pattern(PAGE)]
COMPRESSED = compressed_block(b"".join(PAGES).ljust(BLOCK_SIZE, b"\0"))


@given(st.integers(0, len(COMPRESSED) - 1), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_flipped_bit_gives_a_block_or_the_pages_before_it(place: int, bit: int) -> None:
    compressed = bytearray(COMPRESSED)
    compressed[place] ^= 1 << bit
    try:
        assert len(expand_block(bytes(compressed))) == BLOCK_SIZE
    except XpressError as error:
        assert len(error.done) % PAGE == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (hexed("00 00 00 20 41 42 10 00"), "repeats bytes 3 before, with only 2 expanded"),
        (hexed("ff ff ff 5f 41 07 00 0f ff 15 00"), "says a match's length, 21"),
        (hexed("ff ff ff 5f 41 07 00 0f ff 00 00 15 00 00 00"), "says a match's length, 21"),
        (hexed("00 00 00 20 41"), "ends after 5 bytes"),
        (hexed("00 00 00"), "ends after 3 bytes"),
        (b"", "ends after 0 bytes with 0 of 4096 expanded"),
    ],
)
def test_what_no_writer_makes_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(XpressError, match=why):
        expand(data, PAGE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (hexed("ff ff ff ff"), "says at byte 0 that it ends"),
        (hexed("00 00 00 00"), "a tag 0x0 that is not known, at byte 0"),
        (hexed("01 10 00 00"), "a tag 0x1001 that is not known"),
        (hexed("fd ff ff ff") + bytes(8) + hexed("01 01 00 00"), "1052672 bytes where 1048576 are left"),
        (hexed("fc ff ff ff 00 00 10 01 00 00 00 00"), "17825792 bytes where 1048576 are left"),
        (hexed("fe ff ff ff 01 02"), "ends after 6 bytes"),
        (hexed("00 10 00 00") + bytes(4095), "ends after 4099 bytes"),
    ],
)
def test_a_block_that_no_writer_makes_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(XpressError, match=why):
        expand_block(data)


def test_a_chunk_is_stored_where_both_its_sizes_are_the_same_and_compressed_where_not() -> None:
    stored = hexed("fc ff ff ff 00 20 00 00 00 20 00 00") + b"stored! " * 1024
    small = lz77(tokens_of(b"squeezed" * 1024))
    squeezed = hexed("fc ff ff ff 00 20 00 00") + len(small).to_bytes(4, "little") + small
    zeros = hexed("fd ff ff ff") + bytes(8) + hexed("fc 00 00 00")

    assert expand_block(stored + squeezed + zeros).rstrip(b"\0") == b"stored! " * 1024 + b"squeezed" * 1024


def test_damage_leaves_the_pages_before_it() -> None:
    block = hexed("fe ff ff ff") + b"pattern " + hexed("00 20 00 00")
    with pytest.raises(XpressError) as caught:
        expand_block(block)
    assert caught.value.done == b"pattern " * 512


def test_a_block_of_the_longest_streams_takes_no_longer_than_any_other() -> None:
    page = lz77([value & 255 for value in range(PAGE)])  # nothing but bytes as they are
    assert len(page) > PAGE
    data = b"".join((0xFFFFFFFC).to_bytes(4, "little") + n(PAGE) + n(len(page)) + page for _ in range(256))
    started = time.process_time()
    assert len(expand_block(data)) == BLOCK_SIZE
    assert time.process_time() - started < 2


def n(value: int) -> bytes:
    return value.to_bytes(4, "little")
