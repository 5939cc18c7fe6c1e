"""LZO1X blocks: every kind of instruction against a writer of its own, and bytes that no writer makes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import binary, booleans, data, integers, lists, sampled_from
from image_writers.page_encoders import LzoWriter, lzo

from tests.helpers import pattern
from vmbus.images.lzo import LzoError, decompress

#: The first bytes of instructions, by what they are: a kind is met when a written block has one of these.
KINDS = {
    "literals, first in the block": range(18, 256),
    "literals": range(1, 16),
    "many literals": range(1),
    "2 bytes, near, behind 1 to 3 literals": range(16),
    "3 bytes, 2049 to 3072 back, behind many literals": range(16),
    "far": range(16, 32),
    "near and long": range(32, 64),
    "3 to 8 bytes, near": range(64, 256),
}


@pytest.mark.parametrize(
    ("block", "decoded"),
    [
        ("14 616263 110000", b"abc"),
        ("25" + "41" * 20 + "110000", b"A" * 20),
        ("110000", b""),
        ("12 41 20 ff 0000 110000", b"A" * (1 + 33 + 255)),  # the same byte, over and over
        ("13 4142 0000 110000", b"ABBB"),
    ],
    ids=["literals", "more literals", "nothing", "a long copy", "a copy of 2 bytes"],
)
def test_the_documented_blocks_decode_to_what_they_should(block, decoded):
    assert decompress(bytes.fromhex(block), 4096) == decoded


INSTRUCTIONS = [
    # literals before, length, distance, what the instruction begins with
    (2, 2, 1, "2 bytes, near, behind 1 to 3 literals"),
    (3, 2, 1024, "2 bytes, near, behind 1 to 3 literals"),
    (3, 2, 1021, "2 bytes, near, behind 1 to 3 literals"),
    (4, 3, 2049, "3 bytes, 2049 to 3072 back, behind many literals"),
    (9, 3, 3072, "3 bytes, 2049 to 3072 back, behind many literals"),
    (0, 3, 1, "3 to 8 bytes, near"),
    (1, 4, 8, "3 to 8 bytes, near"),
    (4, 5, 9, "3 to 8 bytes, near"),
    (4, 8, 2048, "3 to 8 bytes, near"),
    (4, 8, 2049, "near and long"),
    (1, 3, 2049, "near and long"),
    (0, 9, 1, "near and long"),
    (0, 33, 16384, "near and long"),
    (0, 34, 16384, "near and long"),
    (0, 33 + 255, 16383, "near and long"),
    (0, 33 + 256, 7, "near and long"),
    (0, 3, 16385, "far"),
    (2, 9, 32768, "far"),
    (2, 10, 32767, "far"),
    (0, 9 + 255, 32769, "far"),
    (4, 9 + 256, 49151, "far"),
]


@pytest.mark.parametrize("behind", [0, 1, 2, 3, 4, 18, 19, 300])
@pytest.mark.parametrize(("before", "length", "distance", "kind"), INSTRUCTIONS)
def test_each_instruction_copies_what_its_bits_say(before, length, distance, kind, behind):
    writer = LzoWriter()
    writer.literals(pattern(50000))
    writer.copy(9, 16000)
    if before:
        writer.literals(pattern(before, seed=2))
    at = len(writer.block)
    writer.copy(length, distance)
    assert writer.block[at] in KINDS[kind]
    if behind:
        writer.literals(pattern(behind, seed=3))
    assert decompress(writer.finish(), 1 << 20) == writer.data


def test_an_instruction_is_there_for_every_kind_of_copy():
    assert {kind for *_, kind in INSTRUCTIONS} == {
        kind for kind in KINDS if "literals" not in kind.split(",")[0]
    }


@pytest.mark.parametrize("long_form", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 17, 18, 19, 238, 239, 272, 273, 274, 528, 5000])
def test_a_block_can_begin_with_any_number_of_literals(count, long_form):
    writer = LzoWriter()
    writer.literals(pattern(count), long_form=long_form)
    if count >= 3:
        writer.copy(3, 3)  # whose meaning hangs on how many literals there were
    assert decompress(writer.finish(), 1 << 16) == writer.data


@settings(max_examples=100, deadline=None, derandomize=True)
@given(draw=data(), long_form=booleans())
def test_any_chain_of_instructions_decodes_to_what_a_model_says(draw, long_form):
    writer = LzoWriter()
    writer.literals(pattern(draw.draw(integers(1, 400))), long_form=long_form)
    for _ in range(draw.draw(integers(0, 30))):
        farthest = min(len(writer.data), 49151)
        distance = draw.draw(integers(1, farthest) | integers(1, min(farthest, 20)))
        length = draw.draw(sampled_from([2, 3, 3, 4, 8, 9, 10, 33, 34, 300]) | integers(3, 2000))
        if not writer.takes_copy(length, distance):
            length = 3
        writer.copy(length, distance)
        behind = draw.draw(sampled_from([0, 0, 1, 2, 3, 4, 18, 19, 600]))
        if behind:
            writer.literals(pattern(behind, seed=len(writer.data)))
    whole = bytes(writer.data)
    assert decompress(writer.finish(), len(whole)) == whole
    with pytest.raises(LzoError, match="decodes to more than"):
        decompress(writer.finish(), len(whole) - 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(parts=lists(binary(max_size=40), max_size=20), repeats=integers(1, 30))
def test_what_a_compressor_makes_of_any_bytes_decodes_to_them(parts, repeats):
    whole = b"x" + b"".join(part * repeats for part in parts)
    assert decompress(lzo(whole), len(whole)) == whole


def test_a_block_that_is_cut_off_anywhere_is_refused():
    block = lzo(pattern(40) + b"ab" * 60 + pattern(900) + pattern(300))
    for end in range(len(block)):
        with pytest.raises(LzoError):
            decompress(block[:end], 4096)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("110000 00", "1 bytes lie behind the end"),
        ("12 41 120000", "ends with an instruction to copy 4 bytes"),
        ("12 41 4400", "a copy from 2 bytes back, where 1 are decoded"),  # distance 2
        ("11 0400", "a copy from 16385 bytes back, where 0 are decoded"),
        ("12 41 20", "ends inside an instruction"),
        ("ff 41", "238 literals go over the end"),
    ],
)
def test_a_block_that_cannot_be_is_refused_with_what_is_wrong(block, why):
    with pytest.raises(LzoError, match=why):
        decompress(bytes.fromhex(block), 4096)


def test_a_length_of_many_zero_bytes_makes_no_more_than_the_limit():
    with pytest.raises(LzoError, match="more than 4096 bytes"):
        decompress(bytes.fromhex("12 41 20") + bytes(60000) + bytes.fromhex("ff 0000 110000"), 4096)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(block=binary(max_size=300), first=sampled_from([b"", b"\x14abc", b"\x00" * 3]))
@example(block=b"", first=b"")
def test_any_bytes_decode_within_the_limit_or_are_refused(block, first):
    with suppress(LzoError):
        assert len(decompress(first + block, 500)) <= 500


@settings(max_examples=200, deadline=None, derandomize=True)
@given(place=integers(0, 10**6), bit=integers(0, 7))
def test_a_block_with_a_wrong_bit_decodes_within_the_limit_or_is_refused(place, bit):
    block = bytearray(lzo(pattern(200) + b"ab" * 300 + pattern(200)))
    block[place % len(block)] ^= 1 << bit
    with suppress(LzoError):
        assert len(decompress(block, 1000)) <= 1000
