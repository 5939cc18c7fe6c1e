"""The compression of memory in Hyper-V's saved states: XPRESS without Huffman codes, and blocks of 1 MiB made of it.

A compressed stream is a word of 32 flags, then what its bits announce, the highest first: 0 a byte as it is, 1 a
match, which repeats bytes that came up to 8192 before.  A block is a list of tags, each with the pages that it
stands for.

What comes out is never more than was asked for, and every tag and flag word takes bytes of the input, so
that nothing goes on for ever.  Sizes are in bytes; numbers are little-endian.

Sources: MS-XCA, plain LZ77; the tags of a block as public readers of .vmrs files know them.  No file that
Windows wrote was at hand to compare with.
"""

from __future__ import annotations

from struct import Struct

from vmbus.sizes import PAGE_SIZE

__all__ = ["BLOCK_SIZE", "XpressError", "expand", "expand_block"]

#: Memory is saved in blocks of so many bytes.
BLOCK_SIZE = 1 << 20

NUMBER = Struct("<I")
PATTERN_SIZE = 8

TAG_END = 0xFFFFFFFF
TAG_PATTERN = 0xFFFFFFFE
TAG_PATTERNS = 0xFFFFFFFD
TAG_CHUNK = 0xFFFFFFFC

#: The lengths of a match that a token, half a byte, and a byte have room for; one more says "see the next".
TOKEN_FULL, HALF_FULL, BYTE_FULL = 7, 15, 255

#: What these three add up to: the least that a length of 16 or 32 bits may say.
LEAST_LONG = 22

#: No match is shorter.
SHORTEST_MATCH = 3


class XpressError(ValueError):
    """The compressed bytes are not what a correct writer makes.

    done   what was expanded before: of a block whole pages
    """

    def __init__(self, message: str, done: bytes = b"") -> None:
        super().__init__(message)
        self.done = done


def expand(data: bytes, size: int) -> bytes:
    """The `size` bytes that plain LZ77 has made of these; what follows them is left alone.

    >>> expand(bytes.fromhex("00 00 00 20 41 42 08 00"), 5)
    b'ABABA'
    """
    out = bytearray()
    try:
        expand_into(out, data, size)
    except IndexError:
        raise XpressError(f"ends after {len(data)} bytes with {len(out)} of {size} expanded") from None
    return bytes(out)


def expand_into(out: bytearray, data: bytes, size: int) -> None:
    """Append to an empty `out` up to `size` bytes; IndexError where `data` ends before."""
    at = flags = left = 0
    half = -1  # the place of a byte of which one half, the upper one, is still to be used
    done = 0
    while done < size:
        if not left:
            flags, at, left = number_at(data, at, 4), at + 4, 32
        # `flags` has the bits that are left: those in front of the first 1 are bytes as they are.
        literals = min(left - flags.bit_length(), size - done)
        if literals:
            taken = data[at : at + literals]
            out += taken
            if len(taken) < literals:
                raise IndexError
            at, done, left = at + literals, done + literals, left - literals
            continue
        left -= 1
        flags ^= 1 << left
        token = data[at] | data[at + 1] << 8
        at += 2
        length = token & 7
        if length == TOKEN_FULL:
            if half < 0:
                length, half, at = data[at] & 15, at, at + 1
            else:
                length, half = data[half] >> 4, -1
            if length == HALF_FULL:
                length, at = long_length(data, at)
            else:
                length += TOKEN_FULL
        done = repeat(out, (token >> 3) + 1, min(length + SHORTEST_MATCH, size - done))


def long_length(data: bytes, at: int) -> tuple[int, int]:
    """The length of a match that did not fit into half a byte, and where the bytes that say it end."""
    length, at = data[at], at + 1
    if length < BYTE_FULL:
        return length + HALF_FULL + TOKEN_FULL, at
    length, at = number_at(data, at, 2), at + 2
    if not length:
        length, at = number_at(data, at, 4), at + 4
    if length < LEAST_LONG:
        raise XpressError(f"says a match's length, {length}, in more bytes than that takes, before byte {at}")
    return length, at


def number_at(data: bytes, at: int, size: int) -> int:
    """The number in `size` bytes at `at`; IndexError where they are not all there."""
    data[at + size - 1]
    return int.from_bytes(data[at : at + size], "little")


def repeat(out: bytearray, distance: int, length: int) -> int:
    """Append `length` bytes, each a copy of the one `distance` before it; the new size."""
    start = len(out) - distance
    if start < 0:
        raise XpressError(f"repeats bytes {distance} before, with only {len(out)} expanded")
    if length <= distance:
        out += out[start : start + length]
    else:
        pattern = out[start:]
        out += (pattern * (length // distance + 1))[:length]
    return len(out)


def expand_block(data: bytes, size: int = BLOCK_SIZE) -> bytes:
    """The memory in a compressed block; XpressError, with the pages before, where it is damaged.

    >>> block = bytes.fromhex("fd ff ff ff 56 4d 42 55 53 21 21 00 02 00 00 00 ff ff ff ff")
    >>> expand_block(block, 8192)[4096:4104]
    b'VMBUS!!\\x00'
    """
    out = bytearray()
    at = 0
    try:
        while len(out) < size:
            at = expand_tag(out, data, at, size)
    except (XpressError, IndexError) as error:
        why = error if isinstance(error, XpressError) else f"ends after {len(data)} bytes"
        done = bytes(out[: len(out) // PAGE_SIZE * PAGE_SIZE])
        raise XpressError(f"{why} (with {len(out)} of {size} bytes of the block expanded)", done) from None
    return bytes(out)


def expand_tag(out: bytearray, data: bytes, at: int, size: int) -> int:
    """Append the pages of the tag at `at`; where the next one is."""
    tag, at = number_at(data, at, NUMBER.size), at + NUMBER.size
    if tag == TAG_END:
        raise XpressError(f"says at byte {at - NUMBER.size} that it ends")
    if tag == TAG_CHUNK:
        length, stored, at = number_at(data, at, 4), number_at(data, at + 4, 4), at + 8
    elif 0 < tag <= PAGE_SIZE:
        length, stored = PAGE_SIZE, tag
    elif tag in (TAG_PATTERN, TAG_PATTERNS):
        return expand_pattern(out, data, at, size, counted=tag == TAG_PATTERNS)
    else:
        raise XpressError(f"has a tag {tag:#x} that is not known, at byte {at - NUMBER.size}")
    check_room(out, length, size)
    content = data[at : at + stored]
    if len(content) < stored:
        raise IndexError
    out += content if length == stored else expand(content, length)
    return at + stored


def expand_pattern(out: bytearray, data: bytes, at: int, size: int, *, counted: bool) -> int:
    """Append one page, or as many as are counted, of 8 bytes over and over."""
    number_at(data, at, PATTERN_SIZE)
    pattern, at = data[at : at + PATTERN_SIZE], at + PATTERN_SIZE
    count = 1
    if counted:
        count, at = number_at(data, at, NUMBER.size), at + NUMBER.size
    check_room(out, count * PAGE_SIZE, size)
    out += pattern * (count * PAGE_SIZE // PATTERN_SIZE)
    return at


def check_room(out: bytearray, length: int, size: int) -> None:
    if length > size - len(out):
        raise XpressError(f"has {length} bytes where {size - len(out)} are left")
