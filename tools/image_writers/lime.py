"""Writes LiME images for tests and samples: an own reading of LiME's doc/README.md.  Nothing is shared with
what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["lime_image", "lime_record"]


def lime_record(
    address: int, data: bytes, *, last: int | None = None, magic: int = 0x4C694D45, version: int = 1
) -> bytes:
    """One record.

    last   the address that the header gives as that of the last byte; else what `data` has
    """
    last = address + len(data) - 1 if last is None else last
    fields = [(magic, 4), (version, 4), (address, 8), (last, 8), (0, 8)]
    return b"".join(value.to_bytes(size, "little") for value, size in fields) + data


def lime_image(regions: Sequence[tuple[int, bytes]]) -> bytes:
    """A record for each region."""
    return b"".join(lime_record(address, data) for address, data in regions)
