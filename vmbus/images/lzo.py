"""LZO1X, decoded: one way in which kdump-compressed images store a page.

A block has no header and no length.  It is a chain of instructions: each copies literals, which follow it, or
bytes that were decoded before, and may be followed by up to three literals more.  What the lowest
instructions mean depends on the literals before them.  A block ends with an instruction of its own.

Nothing here reads a file.  What cannot be decoded is an LzoError; whoever reads an image turns it into lost
memory.  Sizes and distances are in bytes, numbers little-endian.

Source: Linux Documentation/staging/lzo.rst, version 0 of the stream.
"""

from __future__ import annotations

__all__ = ["LzoError", "decompress"]

#: The distance of the instruction that ends a block; the copies of its kind reach farther back.
END_DISTANCE = 16384

#: The length that the instruction at the end states, for nothing.
END_LENGTH = 3

#: The nearest place to copy 3 bytes from right behind many literals: anything nearer has another instruction.
FAR_SHORT_COPY = 2049

#: A first byte above this is a number of literals; from FIRST_LONG literals on they count as many.
FIRST_LITERALS = 17
MANY = 4


class LzoError(ValueError):
    """Bytes that no LZO1X encoder writes."""


def decompress(data: bytes | memoryview, limit: int) -> bytes:
    """What a block decodes to, which must be at most `limit` bytes.

    >>> decompress(bytes.fromhex("14 616263 110000"), 4096)
    b'abc'
    """
    data = bytes(data)
    try:
        out, end = decode(data, limit)
    except IndexError:
        raise LzoError(f"a block of {len(data)} bytes ends inside an instruction") from None
    if end != len(data):
        raise LzoError(f"{len(data) - end} bytes lie behind the end of a block")
    return bytes(out)


def decode(data: bytes, limit: int) -> tuple[bytearray, int]:
    """The decoded bytes, and where the block's end is; IndexError where there is none.

    `literals` counts those that the last instruction copied: 0 to 3, or MANY.
    """
    out = bytearray()
    at = 0
    literals = 0
    if data[0] > FIRST_LITERALS:
        following = data[0] - FIRST_LITERALS
        literals = min(following, MANY)
        at = copy_literals(out, data, 1, following, limit)
    while True:
        byte = data[at]
        at += 1
        if byte < 16 and not literals:
            length, at = (byte + 3, at) if byte else extended(data, at, 18)
            at = copy_literals(out, data, at, length, limit)
            literals = MANY
            continue
        if byte >= 64:
            length = (byte >> 5) + 1
            distance = (byte >> 2 & 7) + 8 * data[at] + 1
            literals = byte & 3
            at += 1
        elif byte >= 16:
            mask, base = (31, 33) if byte >= 32 else (7, 9)
            length, at = ((byte & mask) + 2, at) if byte & mask else extended(data, at, base)
            low = data[at]
            distance = (low | data[at + 1] << 8) >> 2
            literals = low & 3
            at += 2
            if byte >= 32:
                distance += 1
            else:
                distance += END_DISTANCE + ((byte & 8) << 11)
                if distance == END_DISTANCE:
                    if length != END_LENGTH:
                        raise LzoError(f"a block ends with an instruction to copy {length} bytes")
                    return out, at
        else:
            length, nearest = (3, FAR_SHORT_COPY) if literals == MANY else (2, 1)
            distance = (byte >> 2) + 4 * data[at] + nearest
            literals = byte & 3
            at += 1
        copy_back(out, distance, length, limit)
        if literals:
            at = copy_literals(out, data, at, literals, limit)


def extended(data: bytes, at: int, base: int) -> tuple[int, int]:
    """A length that did not fit into its instruction, and where the bytes that held it end.

    Each zero byte is worth 255; the first other byte ends it.
    """
    length = base
    while not data[at]:
        length += 255
        at += 1
    return length + data[at], at + 1


def copy_literals(out: bytearray, data: bytes, at: int, length: int, limit: int) -> int:
    """Append bytes that stand in the block; where they end."""
    end = at + length
    if end > len(data):
        raise LzoError(f"{length} literals go over the end of a block of {len(data)} bytes")
    if len(out) + length > limit:
        raise LzoError(f"a block decodes to more than {limit} bytes")
    out += data[at:end]
    return end


def copy_back(out: bytearray, distance: int, length: int, limit: int) -> None:
    """Append bytes that were decoded before; a copy that overlaps itself is its first bytes, repeated."""
    done = len(out)
    start = done - distance
    if start < 0:
        raise LzoError(f"a copy from {distance} bytes back, where {done} are decoded")
    if done + length > limit:
        raise LzoError(f"a block decodes to more than {limit} bytes")
    if distance >= length:
        out += out[start : start + length]
    else:
        out += (out[start:] * (length // distance + 1))[:length]
