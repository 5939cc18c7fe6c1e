"""The ranges of a packet of a document: as the bytes of a header, and against a header that is given besides."""

from __future__ import annotations

from typing import Any

from vmbus.errors import PeerError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    GPA_RANGE,
    PAGE_NUMBER_SIZE,
    TRANSFER_PAGE_RANGE,
    GpaRange,
    PacketDescriptor,
    TransferPageRange,
    pack_words,
    page_count,
)
from vmbus.ring import parse_extension, smallest_data_offset

from .craft_values import Spec, refuse
from .to_json import range_to_json

__all__ = ["check_ranges", "gpa_range", "transfer_page_range"]

GPA_RANGE_KEYS = ("byte_count", "byte_offset", "pages", "pages_hex")
TRANSFER_RANGE_KEYS = ("byte_count", "byte_offset")

WORD = 2**32 - 1


def gpa_range(value: object, path: str) -> bytes:
    one = Spec(value, path, GPA_RANGE_KEYS)
    pages = [page_number(page, f"{one.at('pages')}[{number}]") for number, page in enumerate(pages_of(one))]
    byte_offset = one.number("byte_offset", most=WORD) or 0
    byte_count = one.number("byte_count", most=WORD)
    if byte_count is None:
        one.refuse("byte_count", "is missing: how many bytes of memory")
    if len(pages) != page_count(byte_offset, byte_count):
        one.refuse(
            "pages",
            f"are {len(pages)}, and {byte_count} bytes from {byte_offset} on touch "
            f"{page_count(byte_offset, byte_count)}",
        )
    return GPA_RANGE.pack(GpaRange(byte_count, byte_offset)) + pack_words(pages)


def pages_of(one: Spec) -> list[Any]:
    """The page numbers, from the key for numbers or the one for hex."""
    if one.has("pages"):
        return one.items("pages")
    pages = []
    for number, text in enumerate(one.items("pages_hex")):
        try:
            pages.append(int(text, 16))
        except (TypeError, ValueError):
            refuse(f"{one.at('pages_hex')}[{number}]", f"is a number in hex, not {text!r}")
    return pages


def page_number(value: object, path: str) -> int:
    most = (1 << 8 * PAGE_NUMBER_SIZE) - 1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        refuse(path, f"is a page number of 64 bits, not {value!r}", value)
    return value


def transfer_page_range(value: object, path: str) -> bytes:
    one = Spec(value, path, TRANSFER_RANGE_KEYS)
    byte_count, byte_offset = (one.number(key, most=WORD) or 0 for key in TRANSFER_RANGE_KEYS)
    return TRANSFER_PAGE_RANGE.pack(TransferPageRange(byte_count, byte_offset))


def check_ranges(spec: Spec, descriptor: PacketDescriptor, header: bytes) -> None:
    """Refuse ranges that are not those of the header; a header that cannot be read has none."""
    ranges, set_id = [], None
    if len(header) >= smallest_data_offset(descriptor.type) - DESCRIPTOR_SIZE:
        try:
            found, set_id = parse_extension(descriptor, header)
            ranges = [range_to_json(one) for one in found]
        except PeerError:
            ranges = [dict(one) for one in spec.items("ranges") if isinstance(one, dict)]
    spec.agree("transfer_page_set_id", set_id, "type and header")
    if spec.data("header") is None:
        return  # it was made of them
    listed = spec.items("ranges")
    if spec.has("ranges") and listed != ranges and without_hex(listed) != without_hex(ranges):
        spec.refuse("ranges", "are not those of header; leave one out")


def without_hex(ranges: list[Any]) -> list[Any]:
    return [
        {key: value for key, value in one.items() if key != "pages_hex"} if isinstance(one, dict) else one
        for one in ranges
    ]
