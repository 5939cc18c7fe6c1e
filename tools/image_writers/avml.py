"""Writes AVML images of version 2 for tests and samples, with a small snappy encoder.

An own reading of AVML's src/image.rs and of google/snappy's two format descriptions; nothing is shared with
what reads them.  The checksum goes bit by bit, 256 of its steps in a table.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CHUNK_TYPES",
    "avml_image",
    "avml_record",
    "checksum",
    "snappy_block",
    "snappy_chunk",
    "snappy_stream",
]

#: Types of chunks: whether its bytes are compressed, and whether a checksum is in front.
CHUNK_TYPES = {0: (True, True), 1: (False, True), 2: (True, False), 3: (False, False)}

FULL_CHUNK = 65536


def steps(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 * (value & 1))
    return value


TABLE = [steps(value) for value in range(256)]


def checksum(data: bytes) -> bytes:
    """The masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15) | (crc << 17 & 0xFFFFFFFF)
    return ((rotated + 0xA282EAD8) % 2**32).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def literal(data: bytes) -> bytes:
    if not data:
        return b""
    length = len(data) - 1
    if length < 60:
        return bytes([length << 2]) + data
    size = (length.bit_length() + 7) // 8
    return bytes([(59 + size) << 2]) + length.to_bytes(size, "little") + data


def copy(length: int, offset: int) -> bytes:
    """Elements that copy so many bytes from so far back, in the shortest of the three forms."""
    out = b""
    while length:
        part = min(length, 64)
        if 4 <= part <= 11 and offset < 2048:
            out += bytes([1 | (part - 4) << 2 | (offset >> 8) << 5, offset & 255])
        elif offset < 65536:
            out += bytes([2 | (part - 1) << 2]) + offset.to_bytes(2, "little")
        else:
            out += bytes([3 | (part - 1) << 2]) + offset.to_bytes(4, "little")
        length -= part
    return out


def snappy_block(data: bytes) -> bytes:
    """A raw block: wherever four bytes stood before, as many as are alike are copied."""
    out = bytearray(varint(len(data)))
    seen: dict[bytes, int] = {}
    at = start = 0
    while at + 4 <= len(data):
        four = data[at : at + 4]
        before = seen.get(four)
        seen[four] = at
        if before is None:
            at += 1
            continue
        length = 4
        while at + length < len(data) and data[before + length] == data[at + length]:
            length += 1
        out += literal(data[start:at]) + copy(length, at - before)
        at += length
        start = at
    return bytes(out + literal(data[start:]))


def snappy_chunk(data: bytes, kind: int = 0, *, length: int | None = None, crc: bytes | None = None) -> bytes:
    """A chunk of data, of type 0 to 3; `length` and `crc` in place of the right ones."""
    compressed, guarded = CHUNK_TYPES[kind]
    body = snappy_block(data) if compressed else data
    if guarded:
        body = (checksum(data) if crc is None else crc) + body
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3, "little") + body


def snappy_stream(data: bytes, *, kinds: Sequence[int] = (0,), chunk: int = FULL_CHUNK) -> bytes:
    """A framed stream, in chunks of so many bytes whose types follow `kinds` round and round."""
    out = [b"\xff\x06\x00\x00sNaPpY"]
    for number, at in enumerate(range(0, len(data), chunk)):
        out.append(snappy_chunk(data[at : at + chunk], kinds[number % len(kinds)]))
    return b"".join(out)


def avml_record(
    address: int,
    data: bytes,
    *,
    last: int | None = None,
    stream: bytes | None = None,
    trailer: int | None = None,
    version: int = 2,
    kinds: Sequence[int] = (0,),
    chunk: int = FULL_CHUNK,
) -> bytes:
    """One record; `last`, `stream`, `trailer` and `version` in place of the right ones."""
    last = address + len(data) - 1 if last is None else last
    stream = snappy_stream(data, kinds=kinds, chunk=chunk) if stream is None else stream
    trailer = len(stream) if trailer is None else trailer
    head = (
        b"AVML" + version.to_bytes(4, "little") + address.to_bytes(8, "little") + last.to_bytes(8, "little")
    )
    return head + bytes(8) + stream + trailer.to_bytes(8, "little")


def avml_image(
    regions: Sequence[tuple[int, bytes]], *, kinds: Sequence[int] = (0,), chunk: int = FULL_CHUNK
) -> bytes:
    """A record for each region."""
    return b"".join(avml_record(address, data, kinds=kinds, chunk=chunk) for address, data in regions)
