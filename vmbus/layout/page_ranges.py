"""Ranges of memory outside the ring, as two packet types list them behind their headers.

A GPA range is 8 bytes and then as many 64-bit page numbers as its bytes touch; a transfer-page
range is 8 bytes that lie in a buffer shared before.

Sources: OpenVMM vmbus_ring/src/gparange.rs and lib.rs; Linux include/linux/hyperv.h, struct
gpa_range and struct vmtransfer_page_range.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from construct import Array, Int32ul, Int64ul, Struct

from vmbus.sizes import PAGE_SIZE

from .codec import FixedCodec

__all__ = [
    "GPA_RANGE",
    "GPA_RANGE_SCHEMA",
    "GPA_RANGE_WITH_PAGES_SCHEMA",
    "PAGE_NUMBER_SIZE",
    "TRANSFER_PAGE_RANGE",
    "TRANSFER_PAGE_RANGE_SCHEMA",
    "GpaRange",
    "TransferPageRange",
    "pack_words",
    "page_count",
    "unpack_words",
]


def page_count(byte_offset: int, byte_count: int) -> int:
    """Pages that `byte_count` bytes touch when they start `byte_offset` bytes into the first.

    >>> page_count(0, 4096), page_count(4095, 2)
    (1, 2)
    """
    return (byte_offset + byte_count + PAGE_SIZE - 1) // PAGE_SIZE


GPA_RANGE_SCHEMA = Struct(
    "byte_count" / Int32ul,
    "byte_offset" / Int32ul,  # in the first page: at most 4095
)

#: A whole range; too slow for the ring, the plainest statement of it for everybody else.
GPA_RANGE_WITH_PAGES_SCHEMA = Struct(
    "range" / GPA_RANGE_SCHEMA,
    "page_numbers" / Array(lambda it: page_count(it.range.byte_offset, it.range.byte_count), Int64ul),
)

TRANSFER_PAGE_RANGE_SCHEMA = Struct(
    "byte_count" / Int32ul,
    "byte_offset" / Int32ul,  # from the start of the shared buffer
)


class GpaRange(NamedTuple):
    """The head of a GPA range; its page numbers follow it."""

    byte_count: int
    byte_offset: int


class TransferPageRange(NamedTuple):
    """A part of a buffer that was shared before."""

    byte_count: int
    byte_offset: int


GPA_RANGE = FixedCodec(GPA_RANGE_SCHEMA, GpaRange)
TRANSFER_PAGE_RANGE = FixedCodec(TRANSFER_PAGE_RANGE_SCHEMA, TransferPageRange)

PAGE_NUMBER_SIZE: int = Int64ul.sizeof()
_WORD: str = Int64ul.fmtstr[1:]


def pack_words(words: Sequence[int]) -> bytes:
    """64-bit words, such as page numbers, as they lie in memory; struct.error for other numbers."""
    return struct.pack(f"<{len(words)}{_WORD}", *words)


def unpack_words(data: bytes) -> tuple[int, ...]:
    """The whole 64-bit words at the start of `data`.

    >>> unpack_words(pack_words([7, 9]) + b"rest")
    (7, 9)
    """
    return struct.unpack_from(f"<{len(data) // PAGE_NUMBER_SIZE}{_WORD}", data)
