"""Compresses a page as writers of kdump images do: with zlib, LZO1X, snappy, and in one case zstd.

LZO1X and snappy look for the last place with the same bytes and take the longest match there.  They are slow
and press badly, but use every kind of instruction that a page can need.  zstd is written for pages of one
repeated byte alone.

Written from the descriptions of the formats alone, and apart from what decodes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

__all__ = ["ENCODERS", "LzoWriter", "lzo", "snappy", "zstd"]


class LzoWriter:
    """Puts together an LZO1X block, instruction by instruction.

    Literals of any number can come first and behind a copy, never behind literals.

    data   what the block decodes to, so far
    """

    END = bytes([0x11, 0, 0])

    def __init__(self) -> None:
        self.block = bytearray()
        self.data = bytearray()
        self.state = 0  # literals that the last instruction copied; 4 for more than 3
        self._low = 0  # where in the block the last instruction has its two lowest bits

    def literals(self, data: bytes, *, long_form: bool = False) -> None:
        """Bytes as they are; at the start of a block a long form is possible for what has a short one."""
        count = len(data)
        if not self.block and count <= 238 and not (long_form and count >= 4):
            self.block.append(17 + count)
        elif self.block and count <= 3:
            self.block[self._low] |= count
        elif count <= 18:
            self.block.append(count - 3)
        else:
            self.block.append(0)
            self._extend(count - 18)
        self.block += data
        self.data += data
        self.state = min(count, 4)

    def copy(self, length: int, distance: int) -> None:
        """What was there `distance` bytes before, in the shortest instruction that can say so."""
        for _ in range(length):
            self.data.append(self.data[-distance])
        if length == 2 or (length == 3 and self.state == 4 and 2049 <= distance <= 3072):
            back = distance - (1 if length == 2 else 2049)
            self._instruction([(back & 3) << 2, back >> 2], 0)
        elif length <= 8 and distance <= 2048:
            back = distance - 1
            self._instruction([(length - 1) << 5 | (back & 7) << 2, back >> 3], 0)
        elif distance <= 16384:
            self._long(32, length, 33, distance - 1)
        else:
            back = distance - 16384
            self._long(16 | (back >> 14) << 3, length, 9, back & 0x3FFF)

    def takes_copy(self, length: int, distance: int) -> bool:
        """Whether there is an instruction for that, here."""
        if not 1 <= distance <= min(len(self.data), 49151):
            return False
        return length >= 3 or (length == 2 and 1 <= self.state <= 3 and distance <= 1024)

    def finish(self) -> bytes:
        return bytes(self.block) + self.END

    def _instruction(self, parts: list[int], low: int) -> None:
        self._low = len(self.block) + low
        self.block += bytes(parts)
        self.state = 0

    def _long(self, first: int, length: int, most: int, back: int) -> None:
        """An instruction whose length may go on behind its first byte, and whose distance has two bytes."""
        if length <= most:
            self.block.append(first | length - 2)
        else:
            self.block.append(first)
            self._extend(length - most)
        self._instruction([(back << 2) & 0xFF, back >> 6], 0)

    def _extend(self, rest: int) -> None:
        zeros, last = divmod(rest - 1, 255)
        self.block += bytes(zeros) + bytes([last + 1])


def matches(data: bytes, longest: int, farthest: int) -> Iterator[tuple[bytes, int, int]]:
    """Literals, and behind each the length and distance of a copy; 0 and 0 at the end."""
    seen: dict[bytes, int] = {}
    at = start = 0
    while at < len(data):
        key = data[at : at + 4]
        before = seen.get(key, -1)
        seen[key] = at
        if before < 0 or len(key) < 4 or at - before > farthest:
            at += 1
            continue
        length = 4
        while length < longest and at + length < len(data) and data[before + length] == data[at + length]:
            length += 1
        yield data[start:at], length, at - before
        at += length
        start = at
    yield data[start:], 0, 0


def lzo(page: bytes) -> bytes:
    writer = LzoWriter()
    for literals, length, distance in matches(page, len(page), 49151):
        if literals:
            writer.literals(literals)
        if length:
            writer.copy(length, distance)
    return writer.finish()


def snappy(page: bytes) -> bytes:
    """A raw block: the length, then literals and copies."""
    out = bytearray()
    length = len(page)
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    for literals, length, distance in matches(page, 64, 65535):
        if literals:
            out += bytes([61 << 2]) + (len(literals) - 1).to_bytes(2, "little") + literals
        if length:
            out += bytes([(length - 1) << 2 | 2]) + distance.to_bytes(2, "little")
    return bytes(out)


def zstd(page: bytes) -> bytes:
    """A frame of one block, which says how often one byte is repeated."""
    if page.count(page[:1]) != len(page):
        raise ValueError("only pages of one repeated byte can be written with zstd here")
    frame = b"\x28\xb5\x2f\xfd" + b"\xa0" + len(page).to_bytes(4, "little")  # one segment, 4 bytes of size
    return frame + (len(page) << 3 | 1 << 1 | 1).to_bytes(3, "little") + page[:1]


#: By name: the flag of a page, and what compresses it.
ENCODERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "zlib": (0x01, zlib.compress),
    "lzo": (0x02, lzo),
    "snappy": (0x04, snappy),
    "zstd": (0x20, zstd),
    "plain": (0, bytes),
}
