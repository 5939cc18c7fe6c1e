"""Bitmaps of pages in a file, against counting their digits."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis.strategies import integers, just, lists, sampled_from, tuples

from vmbus.images import BytesSource
from vmbus.images.page_bitmap import PageBitmap


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    parts=lists(
        tuples(sampled_from([b"\0", b"\xff", b"\x5a", b"\1", b"\x80"]), integers(1, 1300)), max_size=6
    ),
    short=integers(0, 7),
    places=lists(integers(0, 40_000), max_size=8),
    missing=just(0) | integers(0, 600),
)
@example(parts=[(b"\xff", 1)], short=3, places=[0, 4, 5], missing=0)
@example(parts=[(b"\x5a", 600)], short=0, places=[4097, 4600], missing=85)
def test_the_bits_before_a_page_are_as_many_as_counting_says(parts, short, places, missing):
    bits = b"".join(byte * count for byte, count in parts)
    pages = max(len(bits) * 8 - short, 0)
    stored = bits[: max(len(bits) - missing, 0)]
    bitmap = PageBitmap(BytesSource("bits", memoryview(b"x" * 5 + stored)), 5, pages)
    assert bitmap.known == min(pages, len(stored) * 8)
    digits = "".join(f"{byte:08b}"[::-1] for byte in stored)[: bitmap.known]
    assert bitmap.total == digits.count("1")
    for page in [0, *places]:
        assert bitmap.before(page) == digits[:page].count("1")
        expected = digits[page // 4096 * 4096 :][:4096].ljust(4096, "0")
        assert "".join(f"{byte:08b}"[::-1] for byte in bitmap.group(page // 4096)) == expected
