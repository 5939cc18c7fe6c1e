"""Writes kdump-compressed images.

Written from the description of the format alone, and apart from what reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from .page_encoders import ENCODERS

__all__ = ["kdump", "pages_of"]


def pages_of(regions: Sequence[tuple[int, bytes]], size: int) -> dict[int, bytes]:
    """The pages that regions of guest-physical memory fill, by their number; each region fills whole ones."""
    pages = {}
    for address, data in regions:
        if address % size or len(data) % size:
            raise ValueError(f"{len(data)} bytes at {address:#x} are not whole pages of {size}")
        for at in range(0, len(data), size):
            pages[(address + at) // size] = data[at : at + size]
    return pages


def kdump(
    regions: Sequence[tuple[int, bytes]],
    *,
    block_size: int = 4096,
    version: int = 6,
    codec: str | Callable[[int], str] = "zlib",
    excluded: Collection[int] = (),
    lost: Collection[int] = (),
    pages: int | None = None,
    one_bitmap: bool = False,
    spare_blocks: int = 0,
    part: tuple[int, int] | None = None,
    share_zero_pages: bool = True,
    status: int | None = None,
    sub_blocks: int = 1,
    machine: bytes = b"x86_64",
    flags: Mapping[int, int] | None = None,
) -> bytes:
    """An image of these regions, address and bytes, in which

    codec             names how pages are compressed, all or each by its number; one that grows is stored as it is
    excluded          pages exist and are left out
    lost              pages have a descriptor with nothing in it, as when the writer did not get to them
    pages             is how many the bitmaps speak of
    one_bitmap        there is only the bitmap of pages that exist
    spare_blocks      of both bitmaps are more than needed
    part              of a split dump has the pages from the first up to the second number
    share_zero_pages  all pages of zeros point at one that is stored first
    status            is the main header's word, in place of what the codec asks for
    flags             of some pages are others than they should be
    """
    stored = pages_of(regions, block_size)
    numbers = sorted({*stored, *excluded})
    pages = (numbers[-1] + 1 if numbers else 0) if pages is None else pages
    blocks_each = -(-pages // (8 * block_size)) + spare_blocks
    bitmap_blocks = blocks_each if one_bitmap else 2 * blocks_each
    start, end = part or (0, pages)
    first = codec if isinstance(codec, str) else "plain"
    header = main_header(
        version=version,
        machine=machine,
        status=ENCODERS[first][0] if status is None else status,
        block_size=block_size,
        sub_blocks=sub_blocks,
        bitmap_blocks=bitmap_blocks,
        pages=pages,
    ).ljust(block_size, b"\0")
    header += sub_header(version, part, pages).ljust(sub_blocks * block_size, b"\0")
    header += bitmap(numbers, blocks_each * block_size)
    if not one_bitmap:
        header += bitmap(stored, blocks_each * block_size)
    own = [number for number in numbers if number in stored and start <= number < end]
    table, data = b"", bytearray()
    data_start = len(header) + 24 * len(own)
    zero_place = None
    for number in own:
        page = stored[number]
        flag, encode = ENCODERS[codec if isinstance(codec, str) else codec(number)]
        content = encode(page)
        if len(content) >= block_size:
            flag, content = 0, page
        place = data_start + len(data)
        if share_zero_pages and not any(page) and zero_place is not None:
            place, flag, content = zero_place
        else:
            data += content
            if not any(page):
                zero_place = (place, flag, content)
        flag = (flags or {}).get(number, flag)
        place, length = (0, 0) if number in lost else (place, len(content))
        table += word(place, 8) + word(length, 4) + word(flag, 4) + bytes(8)
    return header + table + bytes(data)


def word(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def main_header(
    *,
    version: int,
    machine: bytes,
    status: int,
    block_size: int,
    sub_blocks: int,
    bitmap_blocks: int,
    pages: int,
) -> bytes:
    names = [b"", b"", b"", b"", machine, b""]
    utsname = b"".join(name.ljust(65, b"\0") for name in names)
    header = b"KDUMP   " + version.to_bytes(4, "little", signed=True) + utsname + bytes(6) + bytes(16)
    header += word(status, 4) + word(block_size, 4) + word(sub_blocks, 4) + word(bitmap_blocks, 4)
    return header + word(pages & 0xFFFFFFFF, 4) + bytes(4 * 4) + word(1, 4)


def sub_header(version: int, part: tuple[int, int] | None, pages: int) -> bytes:
    """The fields of this version; where later ones would be there is what is not to be read."""
    start, end = part or (0, 0)
    fields = word(0, 8) + word(31, 4)
    if version >= 2:
        fields += word(part is not None, 4) + word(start & 0xFFFFFFFF, 8) + word(end & 0xFFFFFFFF, 8)
    if version >= 6:
        fields += bytes(48) + word(start, 8) + word(end, 8) + word(pages, 8)
    return fields.ljust(104, b"\xee")


def bitmap(numbers: Collection[int], size: int) -> bytes:
    bits = bytearray(size)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)
