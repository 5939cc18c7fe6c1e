"""Snappy: the compression of AVML, decoded; and CRC-32C, which guards what it decodes to.

Two layers.  A raw block is compressed bytes: their decoded length, then literals and copies of what was
decoded before.  A framed stream is chunks, each with a type and a length in front of it; the data in a
chunk is a raw block or plain bytes, of at most MOST_IN_CHUNK bytes decoded.

Nothing here reads a file or knows of addresses.  What cannot be decoded is a SnappyError; whoever reads an
image turns it into lost memory.  Sizes are in bytes, numbers little-endian.

Sources: google/snappy format_description.txt and framing_format.txt; RFC 3720 appendix B.4 (CRC-32C).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CRC_SIZE",
    "IDENTIFIER",
    "MOST_IN_CHUNK",
    "ChunkType",
    "SnappyError",
    "crc32c",
    "decode_chunk",
    "decompress",
    "masked_crc",
    "stated_length",
]


class SnappyError(ValueError):
    """Bytes that no snappy encoder writes."""


class ChunkType(IntEnum):
    """What a chunk of a framed stream holds; its body is behind a byte of type and three of length."""

    COMPRESSED = 0x00  # the checksum of what it decodes to, then a raw block
    PLAIN = 0x01  # the checksum, then the bytes themselves
    COMPRESSED_WITHOUT_CRC = 0x02
    PLAIN_WITHOUT_CRC = 0x03
    FIRST_SKIPPABLE = 0x80  # from here on a reader steps over what it does not know
    IDENTIFIER = 0xFF


#: The body of the chunk that a stream begins with.
IDENTIFIER = b"sNaPpY"

#: The most bytes that one chunk decodes to.
MOST_IN_CHUNK = 65536

#: The checksum in front of the data in a chunk.
CRC_SIZE = 4

#: A length takes at most so many bytes, seven bits in each.
MOST_LENGTH_BYTES = 5

#: The longest copy, which encoders repeat for as long as bytes are alike: its tag, and how many bytes it makes.
LONGEST_COPY_TAG = 0xFE
LONGEST_COPY = 64

#: A literal's length stands in its tag below this many; from it on in the bytes behind.
SHORT_LITERALS = 60

MASK_32 = 0xFFFFFFFF


def stated_length(block: bytes, at: int = 0) -> tuple[int, int]:
    """The decoded length that a raw block begins with, and where its first element is.

    >>> stated_length(bytes([0x80, 0x80, 0x04]))
    (65536, 3)
    """
    length = 0
    for number, byte in enumerate(block[at : at + MOST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return length, at + number + 1
    raise SnappyError("the length in front of a block does not end")


def decompress(block: bytes, most: int = MOST_IN_CHUNK) -> bytes:
    """What a raw block decodes to, which must be at most `most` bytes.

    >>> decompress(bytes.fromhex("140041 4a0100"))
    b'AAAAAAAAAAAAAAAAAAAA'
    """
    size, at = stated_length(block)
    if size > most:
        raise SnappyError(f"a block says that it decodes to {size} bytes; {most} is the most")
    try:
        return bytes(decode_elements(block, at, size))
    except IndexError:
        raise SnappyError("a block ends inside an element") from None


def decode_elements(block: bytes, at: int, size: int) -> bytearray:
    """The literals and copies of a block; IndexError where it ends inside a tag.

    Nothing goes byte by byte: a copy that overlaps itself is its first bytes, repeated.
    """
    out = bytearray()
    done = 0
    end = len(block)
    while at < end:
        tag = block[at]
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            at += 1
            if length > SHORT_LITERALS:
                more = length - SHORT_LITERALS
                length = int.from_bytes(block[at : at + more], "little") + 1
                at += more
            if at + length > end:
                raise SnappyError(f"a literal of {length} bytes goes over the end of its block")
            out += block[at : at + length]
            at += length
            done += length
        else:
            if kind == 2:
                length = (tag >> 2) + 1
                offset = block[at + 1] | block[at + 2] << 8
                if tag == LONGEST_COPY_TAG:
                    # One copy after the other from the same distance is one long copy.
                    element = block[at : at + 3]
                    while length < size and block.startswith(element, at + 3):
                        length += LONGEST_COPY
                        at += 3
                at += 3
            elif kind == 1:
                length = (tag >> 2 & 7) + 4
                offset = (tag >> 5) << 8 | block[at + 1]
                at += 2
            else:
                length = (tag >> 2) + 1
                offset = int.from_bytes(block[at + 1 : at + 5], "little")
                at += 5
            if not 0 < offset <= done:
                raise SnappyError(f"a copy from {offset} bytes back, where {done} are decoded")
            start = done - offset
            if offset >= length:
                out += out[start : start + length]
            else:
                out += (out[start:] * (length // offset + 1))[:length]
            done += length
        if done > size:
            raise SnappyError(f"a block decodes to more than the {size} bytes that it says")
    if at != end:
        raise IndexError(at)
    if done != size:
        raise SnappyError(f"a block decodes to {done} bytes, and says {size}")
    return out


def decode_chunk(kind: int, body: bytes) -> bytes:
    """The bytes in the body of a data chunk (types 0 to 3), compared with its checksum where it has one.

    >>> decode_chunk(ChunkType.COMPRESSED, bytes.fromhex("51a4e043 1400414a0100"))
    b'AAAAAAAAAAAAAAAAAAAA'
    """
    with_crc = kind in (ChunkType.COMPRESSED, ChunkType.PLAIN)
    if with_crc and len(body) < CRC_SIZE:
        raise SnappyError(f"a chunk of {len(body)} bytes has no room for its checksum")
    content = body[CRC_SIZE:] if with_crc else body
    if kind in (ChunkType.COMPRESSED, ChunkType.COMPRESSED_WITHOUT_CRC):
        content = decompress(content)
    elif len(content) > MOST_IN_CHUNK:
        raise SnappyError(f"a chunk holds {len(content)} bytes; {MOST_IN_CHUNK} is the most")
    if with_crc:
        stated, found = int.from_bytes(body[:CRC_SIZE], "little"), masked_crc(content)
        if stated != found:
            raise SnappyError(f"the checksum of a chunk is {stated:#010x}, that of its bytes {found:#010x}")
    return content


# -- CRC-32C -------------------------------------------------------------------------------------
#
# A checksum is a remainder: the message, as a polynomial over GF(2), modulo one of degree 32.  A loop over
# the bytes costs 50 to 100 ns each.  Here the message is one integer instead, and most of it is folded away
# before the loop.  Some multiples of the modulus have very few terms; each says that one power of x is the
# sum of a few others, and squaring it doubles all its exponents.  So the first bits of a message can be
# left out when they are added in again further down, once for each term: shifts and exclusive ors of long
# integers, which cost next to nothing.  It is some thirty times as fast as the loop.

#: x**32 + the bits of this one, reflected: bit 31 is x**0.
POLYNOMIAL = 0x82F63B78

#: Multiples of the modulus: x**6777 = x**484 + x**100 + 1, and x**680 = x**122 + x**80 + x**19 + x**3 + 1.
#: As distances below the power on the left, which is where its coefficient has to be added in.
FOLDS = ((6777 - 484, 6777 - 100, 6777), (680 - 122, 680 - 80, 680 - 19, 680 - 3, 680))


def one_byte(remainder: int) -> int:
    for _ in range(8):
        remainder = remainder >> 1 ^ (POLYNOMIAL if remainder & 1 else 0)
    return remainder


BYTE_TABLE = tuple(one_byte(byte) for byte in range(256))


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of some bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    start = MASK_32
    if len(data) >= CRC_SIZE:
        # The bit that comes first has the highest power of x, and is the integer's lowest.  The start
        # value goes into the first bits, so that the loop starts from 0.
        message, bits = folded(int.from_bytes(data, "little") ^ start, len(data) * 8)
        data, start = message.to_bytes(bits // 8, "little"), 0
    return loop_over_bytes(data, start) ^ MASK_32


def loop_over_bytes(data: bytes | memoryview, remainder: int) -> int:
    for byte in data:
        remainder = remainder >> 8 ^ BYTE_TABLE[(remainder ^ byte) & 0xFF]
    return remainder


def folded(message: int, bits: int) -> tuple[int, int]:
    """A shorter message with the same remainder, and its length; lengths are multiples of 8."""
    for distances in FOLDS:
        scale = 1
        while distances[-1] * scale * 2 < bits:
            scale *= 2
        while scale:
            nearest, farthest = distances[0] * scale, distances[-1] * scale
            while (away := min(nearest, bits - farthest) & ~7) > 0:
                first = message & (1 << away) - 1
                message >>= away
                for distance in distances:
                    message ^= first << distance * scale - away
                bits -= away
            scale //= 2
    return message, bits


def masked_crc(data: bytes | memoryview) -> int:
    """The checksum as a stream stores it, so that checksums of checksums do no harm.

    >>> hex(masked_crc(b"123456789"))
    '0xc78ab0e5'
    """
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & MASK_32
