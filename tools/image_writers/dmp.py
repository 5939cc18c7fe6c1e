"""Writes Windows crash dumps for tests and samples: an own reading of the format.  Nothing is shared with what
reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["windows_dump"]

PAGE = 4096
START = 0x2000
NOT_FILLED = 0x45474150

Regions = Sequence[tuple[int, bytes]]
Ranges = Sequence[tuple[int, int]]


def windows_dump(
    regions: Regions,
    *,
    kind: int = 1,
    known: Ranges | None = None,
    machine: int = 0x8664,
    cr3: int = 0x1AD000,
    pages: int | None = None,
    stored: int | None = None,
    bits: int | None = None,
    signature: bytes = b"PAGEDU64",
    second_signature: bytes | None = None,
) -> bytes:
    """A dump of regions, each of whole pages.

    kind    the type: 1 in runs, 5 and 6 with a bitmap, 8, 9 and 10 with a list of ranges
    known   of the last five, what the header lists as memory: first page and how many; else nothing
    pages   the header's number of pages, else the right one; `stored` is that of the second header
    bits    pages in the bitmap, else as many as it needs
    """
    listed = [(address // PAGE, len(data) // PAGE) for address, data in regions]
    header = first_header(listed if kind == 1 else known, kind, machine, cr3, pages, signature)
    memory = b"".join(data for _, data in (sorted(regions) if kind in (5, 6) else regions))
    if kind in (5, 6):
        return header + bitmap_part(listed, bits, stored, second_signature or b"SDMPDUMP") + memory
    if kind in (8, 9, 10):
        return header + ranges_part(listed, kind, stored, second_signature or b"RDMPDUMP") + memory
    return header + memory


def first_header(
    ranges: Ranges | None, kind: int, machine: int, cr3: int, pages: int | None, signature: bytes
) -> bytes:
    """The 0x2000 bytes that all dumps begin with."""
    header = bytearray(b"PAGE" * (START // 4))
    put(header, 0, signature)
    put_number(header, 0x08, 15, 4)
    put_number(header, 0x0C, 19041, 4)
    put_number(header, 0x10, cr3, 8)
    put_number(header, 0x30, machine, 4)
    put_number(header, 0x34, 2, 4)
    if ranges is not None:
        put_number(header, 0x88, len(ranges), 4)
        put_number(header, 0x90, sum(count for _, count in ranges) if pages is None else pages, 8)
        for number, (first, count) in enumerate(ranges):
            put_number(header, 0x98 + 16 * number, first, 8)
            put_number(header, 0xA0 + 16 * number, count, 8)
    put_number(header, 0xF98, kind, 4)
    return bytes(header)


def bitmap_part(listed: Ranges, bits: int | None, stored: int | None, signature: bytes) -> bytes:
    """The second header with a bitmap, up to the first page."""
    numbers = [first + place for first, count in listed for place in range(count)]
    bits = max(numbers, default=0) + 1 if bits is None else bits
    bitmap = bytearray((max(bits, *numbers, 1) + 8) // 8)
    for number in numbers:
        bitmap[number // 8] |= 1 << number % 8
    del bitmap[(bits + 7) // 8 :]
    part = bytearray(0x38)
    put(part, 0, signature)
    put_number(part, 0x28, len(numbers) if stored is None else stored, 8)
    put_number(part, 0x30, bits, 8)
    part += bitmap
    part += bytes(-len(part) % PAGE)
    put_number(part, 0x20, START + len(part), 8)
    return bytes(part)


def ranges_part(listed: Ranges, kind: int, stored: int | None, signature: bytes) -> bytes:
    """The second header with a list of ranges, up to the first page."""
    part = bytearray(0x30)
    put_number(part, 0, 0x40, 4)
    put(part, 4, signature)
    if kind == 10:
        put_number(part, 0x20, len(listed), 4)
        put_number(part, 0x28, sum(count for _, count in listed) if stored is None else stored, 8)
    for first, count in listed:
        part += first.to_bytes(8, "little") + count.to_bytes(8, "little")
    part += bytes(-len(part) % PAGE)
    put_number(part, 0x10, len(part) - 0x20, 8)
    put_number(part, 0x18, START + len(part), 8)
    return bytes(part)


def put(target: bytearray, place: int, data: bytes) -> None:
    target[place : place + len(data)] = data


def put_number(target: bytearray, place: int, value: int, size: int) -> None:
    put(target, place, value.to_bytes(size, "little"))
