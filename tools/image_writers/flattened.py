"""Writes makedumpfile's flattened form: a file as pieces, each with its offset and its size in front.

Written from the description of the format alone, and apart from what reads it.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["END_MARKER", "flattened", "in_pieces", "record"]

END_MARKER = b"\xff" * 16


def record(offset: int, data: bytes, *, size: int | None = None) -> bytes:
    """One piece; `size` is a lie about its length."""
    stated = len(data) if size is None else size
    return offset.to_bytes(8, "big", signed=True) + stated.to_bytes(8, "big", signed=True) + data


def flattened(
    pieces: Iterable[tuple[int, bytes]], *, end: bytes = END_MARKER, kind: int = 1, version: int = 1
) -> bytes:
    """A flattened file with these pieces, offset and bytes, in this order.

    end   what stands behind the last one
    """
    header = b"makedumpfile".ljust(16, b"\0") + kind.to_bytes(8, "big") + version.to_bytes(8, "big")
    return header.ljust(4096, b"\0") + b"".join(record(*piece) for piece in pieces) + end


def in_pieces(data: bytes, size: int) -> list[tuple[int, bytes]]:
    """A file cut into pieces of `size` bytes, in order."""
    return [(at, data[at : at + size]) for at in range(0, len(data), size)]
