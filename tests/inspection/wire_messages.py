"""Messages about channels spelled by hand, byte by byte, with any field wrong that a test wants wrong.

Nothing here goes through the package's own codecs.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

__all__ = [
    "DISK",
    "NETWORK",
    "gpadl_bodies",
    "gpadl_body",
    "gpadl_header",
    "gpadl_messages",
    "offer",
    "open_channel",
]

NETWORK = uuid.UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e")
DISK = uuid.UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")
INSTANCE = uuid.UUID("00000000-0001-8899-0000-000000000000")  # as a virtual machine in Azure has


def offer(
    relid: int,
    class_id: uuid.UUID = NETWORK,
    instance_id: uuid.UUID = INSTANCE,
    *,
    kind: int = 1,
    padding: int = 0,
    reserved: bytes = bytes(16),
    flags: int = 0,
    user_defined: bytes = b"",
    subchannel: int = 0,
    monitor_allocated: int = 0,
    dedicated: int = 1,
) -> bytes:
    return (
        struct.pack("<II", kind, padding)
        + class_id.bytes_le
        + instance_id.bytes_le
        + reserved
        + struct.pack("<HH", flags, 0)
        + user_defined.ljust(120, b"\0")
        + struct.pack("<HHIBBHI", subchannel, 0, relid, 0xFF, monitor_allocated, dedicated, 0x10000 + relid)
    )


def open_channel(
    relid: int,
    gpadl: int,
    offset: int,
    *,
    kind: int = 5,
    padding: int = 0,
    open_id: int | None = None,
    processor: int = 0,
    user_data: bytes = b"",
) -> bytes:
    opened = relid if open_id is None else open_id
    return struct.pack("<7I", kind, padding, relid, opened, gpadl, processor, offset) + user_data.ljust(
        120, b"\0"
    )


def gpadl_header(
    relid: int,
    gpadl: int,
    pages: Sequence[int],
    *,
    kind: int = 8,
    padding: int = 0,
    range_buflen: int | None = None,
    range_count: int = 1,
    byte_count: int | None = None,
    byte_offset: int = 0,
) -> bytes:
    """The header of a GPADL over these pages, of which the first 26 stand in it."""
    buflen = 8 + 8 * len(pages) if range_buflen is None else range_buflen
    size = 4096 * len(pages) if byte_count is None else byte_count
    start = struct.pack("<IIIIHHII", kind, padding, relid, gpadl, buflen, range_count, size, byte_offset)
    return start + struct.pack(f"<{len(pages[:26])}Q", *pages[:26])


def gpadl_body(
    gpadl: int, pages: Sequence[int], *, number: int = 0, kind: int = 9, padding: int = 0
) -> bytes:
    return struct.pack(f"<4I{len(pages)}Q", kind, padding, number, gpadl, *pages)


def gpadl_bodies(gpadl: int, pages: Sequence[int], *, numbered: bool = False) -> list[bytes]:
    """The bodies of a GPADL over these pages: 28 each, behind the 26 of the header."""
    starts = range(26, len(pages), 28)
    return [
        gpadl_body(gpadl, pages[start : start + 28], number=place + 1 if numbered else 0)
        for place, start in enumerate(starts)
    ]


def gpadl_messages(relid: int, gpadl: int, pages: Sequence[int], *, numbered: bool = False) -> list[bytes]:
    return [gpadl_header(relid, gpadl, pages), *gpadl_bodies(gpadl, pages, numbered=numbered)]
