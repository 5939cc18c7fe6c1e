"""A hexdump shows every byte once, at its place in the ring, and may fold rows that repeat."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, integers, lists, sampled_from, tuples

from vmbus.inspection import hexdump


def lines(data: bytes, offset: int = 0, size: int = 4096) -> list[str]:
    return list(hexdump(data, offset, size))


def test_a_row_has_an_offset_sixteen_bytes_in_two_halves_and_what_can_be_printed():
    assert lines(bytes(range(0x1A, 0x2A)), 0x10) == [
        " 00000010  1a 1b 1c 1d 1e 1f 20 21  22 23 24 25 26 27 28 29  |...... !\"#$%&'()|"
    ]


def test_a_last_row_is_as_short_as_what_is_left_and_its_columns_stay_where_they_are():
    assert lines(b"sixteen bytes ok" + b"three") == [
        " 00000000  73 69 78 74 65 65 6e 20  62 79 74 65 73 20 6f 6b  |sixteen bytes ok|",
        " 00000010  74 68 72 65 65                                    |three|",
    ]


def test_nothing_has_no_lines():
    assert lines(b"") == []


@pytest.mark.parametrize("byte", [0x00, 0x1F, 0x7F, 0x80, 0xFF, 0x1B, 0x0A])
def test_a_byte_that_a_terminal_would_not_print_is_a_dot(byte):
    assert lines(bytes([byte]))[0].endswith("|.|")


def test_what_wraps_goes_on_at_0_in_a_row_of_its_own_marked_with_a_caret():
    assert lines(b"before the end, behind it", 4096 - 15) == [
        " 00000ff1  62 65 66 6f 72 65 20 74  68 65 20 65 6e 64 2c     |before the end,|",
        "^00000000  20 62 65 68 69 6e 64 20  69 74                    | behind it|",
    ]


def test_what_ends_with_the_ring_or_starts_with_it_did_not_wrap():
    assert lines(b"12345678", 4088) == [
        " 00000ff8  31 32 33 34 35 36 37 38                           |12345678|"
    ]
    assert lines(b"1", 0)[0].startswith(" 00000000")


def test_rows_like_the_one_before_are_folded_and_the_last_one_is_shown():
    shown = lines(bytes(16) * 5 + b"x" * 16 + bytes(16) * 2)
    assert [line[:9] for line in shown] == [" 00000000", " *", " 00000050", " 00000060", " 00000070"]


def test_two_rows_alike_at_the_end_are_both_shown_and_three_have_a_fold():
    assert [line[:9] for line in lines(bytes(32))] == [" 00000000", " 00000010"]
    assert [line[:9] for line in lines(bytes(48))] == [" 00000000", " *", " 00000020"]


def test_a_fold_never_hides_where_the_ring_wraps():
    shown = lines(bytes(96), 4096 - 48)
    assert [line[:9] for line in shown] == [
        " 00000fd0",
        " *",
        "^00000000",
        " *",
        " 00000020",
    ]


def test_a_fold_ends_where_a_row_differs_and_begins_anew():
    shown = lines(bytes(48) + b"y" * 48 + bytes(16))
    assert [line[:9] for line in shown] == [" 00000000", " *", " 00000030", " *", " 00000060"]


pieces = lists(
    tuples(sampled_from([bytes(16), b"\xff" * 16, bytes(8)]), integers(1, 6)).map(lambda it: it[0] * it[1]),
    max_size=6,
).map(b"".join)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=pieces, tail=binary(max_size=40), offset=integers(0, 511).map(lambda slot: 8 * slot))
def test_the_bytes_can_be_had_back_from_the_lines(data, tail, offset):
    data += tail
    size = 4096
    found = b""
    row = b""
    for line in lines(data, offset, size):
        if line == " *":
            continue
        start = int(line[1:9], 16)
        at = (start - offset) % size
        while len(found) < at:  # folded
            found += row
        assert (line[0] == "^") == (start == 0 and at > 0)
        row = bytes.fromhex(line[11:59])  # two columns of 8
        assert line[59:] == f"  |{''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in row)}|"
        assert len(found) == at
        found += row
    assert found == data
