"""Bytes of a ring as `hexdump -C` prints them, with a mark where they wrap."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["hexdump"]

ROW = 16


def hexdump(data: bytes, offset: int, size: int) -> Iterator[str]:
    """The lines for `data`, which lies at `offset` in a ring of `size` bytes.

    Offsets are the ring's.  A row ends where the ring does, and the next one, from offset 0, is
    marked with ^.  Rows like the one before are folded into one *.

    >>> for line in hexdump(b"in a ring of sixteen bytes", 4088, 4096):
    ...     print(line)
     00000ff8  69 6e 20 61 20 72 69 6e                           |in a rin|
    ^00000000  67 20 6f 66 20 73 69 78  74 65 65 6e 20 62 79 74  |g of sixteen byt|
     00000010  65 73                                             |es|
    """
    at = 0
    before = None
    folded = False
    while at < len(data):
        start = (offset + at) % size
        row = data[at : at + min(ROW, size - start)]
        wrapped = start == 0 and at > 0
        if row == before and not wrapped and at + len(row) < len(data):
            if not folded:
                yield " *"
            folded = True
        else:
            folded = False
            yield f"{'^' if wrapped else ' '}{start:08x}  {hex_columns(row)}  |{text_column(row)}|"
        before = row
        at += len(row)


def hex_columns(row: bytes) -> str:
    halves = (row[:8], row[8:])
    return "  ".join(f"{half.hex(' '):<23}" for half in halves)


def text_column(row: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
