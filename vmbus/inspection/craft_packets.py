"""One packet of a document as the bytes that it has in a ring.

A packet is made of what is given; the rest follows from it.  A broken one is given by all its bytes (raw); one
whose bytes the image did not have (broken: missing-memory) is left out.
What is given twice must say the same twice.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER,
    FOOTER_SIZE,
    GPA_DIRECT_HEADER,
    PACKET_DESCRIPTOR,
    TRANSFER_PAGE_HEADER,
    Footer,
    GpaDirectHeader,
    PacketDescriptor,
    PacketFlags,
    PacketType,
    TransferPageHeader,
)
from vmbus.ring import smallest_data_offset
from vmbus.sizes import LARGEST_PACKET, SLOT, round_up_to_slot

from .craft_ranges import check_ranges, gpa_range, transfer_page_range
from .craft_values import Spec, objects_of, refuse
from .names import TYPE_NAMES, bit_names, type_label

__all__ = ["PACKET_KEYS", "CraftedPacket", "read_packet"]

#: What a packet is made of, and what `vmbus inspect` says of it besides, which is passed over.
PACKET_KEYS = (
    *("offset", "type", "type_value", "flags", "flags_value", "transaction_id", "transaction_id_hex"),
    *("data_offset", "length", "bytes", "header", "payload_length", "payload", "ranges"),
    *("transfer_page_set_id", "footer", "raw"),
    *("broken", "description", "trust", "kind", "ring", "capture"),
)
FOOTER_KEYS = ("at", "value", "reserved", "ok")

WORD = 2**32 - 1
HALF = 2**16 - 1

#: What inspection says of a packet whose bytes are not all in its image.
MISSING = "missing-memory"

#: The flags by name.
FLAGS = {name: flag.value for flag in PacketFlags for name in bit_names(PacketFlags, flag.value)}


class CraftedPacket(NamedTuple):
    """A packet that has no place yet.

    spec          the object that it was read from
    offset        where it is to start; None: behind the one before
    body          its bytes without the footer; of a broken one all of them
    footer        reserved word and value of the footer, the value None where it is the packet's own offset;
                  None where no footer is written
    takes         bytes in the ring; 0 of a packet that is left out
    """

    spec: Spec
    offset: int | None
    body: bytes
    footer: tuple[int, int | None] | None
    takes: int

    @property
    def is_left_out(self) -> bool:
        """Whether nothing is known of its bytes, so that none are written."""
        return not self.takes

    def data(self, offset: int) -> bytes:
        """Its bytes at `offset`."""
        if self.footer is None:
            return self.body
        reserved, value = self.footer
        return self.body + FOOTER.pack(Footer(reserved, offset if value is None else value))

    def check_footer_place(self, offset: int, size: int) -> None:
        """Refuse a footer that is said to be where it is not."""
        place = self.spec.value.get("footer")
        if isinstance(place, dict):
            at = (offset + self.takes - FOOTER_SIZE) % size
            Spec(place, self.spec.at("footer"), FOOTER_KEYS).agree("at", at, "offset and length")


def read_packet(value: object, path: str) -> CraftedPacket:
    """A packet of the list at `path`; CallerError, with the path, for what makes no sense."""
    spec = Spec(value, path, PACKET_KEYS)
    offset = spec.number("offset", most=WORD)
    raw = spec.data("raw")
    if raw is not None:
        check_raw(spec, raw)
        return CraftedPacket(spec, offset, raw, None, len(raw))
    if spec.value.get("broken") == MISSING:
        return CraftedPacket(spec, offset, b"", None, 0)
    if spec.has("broken"):
        spec.refuse("broken", "is said of a packet whose bytes are not there; give raw, or leave it out")
    body = packet_body(spec)
    return CraftedPacket(spec, offset, body, footer_of(spec), len(body) + FOOTER_SIZE)


# -- a packet out of its parts ----------------------------------------------------------------------


def packet_body(spec: Spec) -> bytes:
    """Descriptor, header and payload."""
    kind = type_of(spec)
    header, because = header_of(spec, kind), "type and header"
    if len(header) % SLOT:
        spec.refuse("header", f"has a multiple of {SLOT} bytes, not {len(header)}")
    payload = spec.data("payload") or b""
    padded = payload + bytes(round_up_to_slot(len(payload)) - len(payload))
    data_offset = DESCRIPTOR_SIZE + len(header)
    length = data_offset + len(padded)
    if length + FOOTER_SIZE > LARGEST_PACKET:
        refuse(
            spec.path, f"has {length + FOOTER_SIZE} bytes with its footer, and {LARGEST_PACKET} is the most"
        )
    if spec.value.get("payload_length") != len(payload):  # inspect counts the padding
        spec.agree("payload_length", len(padded), "payload and its padding")
    spec.agree("data_offset", data_offset, because)
    spec.agree("length", length, "header and payload")
    spec.agree("bytes", length + FOOTER_SIZE, "header, payload and footer")
    descriptor = PacketDescriptor(
        kind, data_offset // SLOT, length // SLOT, flags_of(spec), spec.wide_number("transaction_id") or 0
    )
    check_ranges(spec, descriptor, header)
    return PACKET_DESCRIPTOR.pack(descriptor) + header + padded


def type_of(spec: Spec) -> int:
    """The number of the type: in-band where nothing is said."""
    number = spec.number("type_value", most=HALF)
    if not spec.has("type"):
        return int(PacketType.IN_BAND) if number is None else number
    name = spec.value["type"]
    known = {type_label(kind): int(kind) for kind in PacketType if type_label(kind) in TYPE_NAMES}
    named = known.get(name) if isinstance(name, str) else None
    if named is None and isinstance(name, str) and name.startswith("unknown-") and name[8:].isdecimal():
        named = int(name[8:])
    if named is None or named > HALF:
        spec.refuse("type", f"is {', '.join(TYPE_NAMES)} or unknown-N, not {name!r}")
    if number not in (None, named):
        spec.refuse("type", f"is {name}, and type_value is {number}; leave one out")
    return named


def flags_of(spec: Spec) -> int:
    """The number of the flags: none where nothing is said."""
    number = spec.number("flags_value", most=HALF)
    if not spec.has("flags"):
        return number or 0
    named = 0
    for name in spec.items("flags"):
        try:
            named |= FLAGS[name] if name in FLAGS else int(name, 16)
        except (TypeError, ValueError):
            spec.refuse("flags", f'lists {", ".join(FLAGS)} and numbers such as "0x4", not {name!r}')
    if not 0 <= named <= HALF:
        spec.refuse("flags", f"have 16 bits, not {named:#x}")
    if number not in (None, named):
        spec.refuse("flags", f"are {named:#x}, and flags_value is {number:#x}; leave one out")
    return named


def header_of(spec: Spec, kind: int) -> bytes:
    """What lies between descriptor and payload: as it is given, or made of the ranges."""
    header = spec.data("header")
    if header is not None:
        return header
    smallest = smallest_data_offset(kind)
    if smallest == DESCRIPTOR_SIZE:
        if spec.items("ranges"):
            spec.refuse(
                "ranges", f"are of gpa-direct and transfer-pages packets, and this is {type_label(kind)}"
            )
        return b""
    if not spec.has("ranges"):
        spec.refuse("ranges", f"are missing: a packet of type {type_label(kind)} lists some, or has a header")
    if kind == PacketType.GPA_DIRECT:
        ranges = objects_of(spec, "ranges", gpa_range)
        return GPA_DIRECT_HEADER.pack(GpaDirectHeader(0, len(ranges))) + b"".join(ranges)
    ranges = objects_of(spec, "ranges", transfer_page_range)
    set_id = spec.number("transfer_page_set_id", most=HALF) or 0
    return TRANSFER_PAGE_HEADER.pack(TransferPageHeader(set_id, 0, len(ranges))) + b"".join(ranges)


def footer_of(spec: Spec) -> tuple[int, int | None] | None:
    """What the footer holds; none is written where it is null."""
    if "footer" not in spec.value:
        return 0, None
    if spec.value["footer"] is None:
        return None
    footer = Spec(spec.value["footer"], spec.at("footer"), FOOTER_KEYS)
    return footer.number("reserved", most=WORD) or 0, footer.number("value", most=WORD)


# -- a packet of which all bytes are given ----------------------------------------------------------


def check_raw(spec: Spec, raw: bytes) -> None:
    """Refuse what contradicts the bytes of a broken packet: they alone are written."""
    if not raw:
        spec.refuse("raw", "is empty, and a packet has bytes")
    given = {key for key in PACKET_KEYS if spec.has(key)} - {"offset", "raw", "kind", "ring", "capture"}
    if len(raw) < DESCRIPTOR_SIZE:
        for key in sorted(given - {"broken", "description", "trust"}):
            spec.refuse(key, f"is not in the {len(raw)} bytes of raw; leave one out")
        return
    descriptor = PACKET_DESCRIPTOR.unpack(raw)
    for key, read, found in (
        ("type", type_of, descriptor.type),
        ("flags", flags_of, descriptor.flags),
        ("transaction_id", lambda one: one.wide_number("transaction_id"), descriptor.transaction_id),
    ):
        keys = (key, f"{key}_value", f"{key}_hex")
        value = read(spec)
        if any(spec.has(one) for one in keys) and value != found:
            named = next(one for one in keys if spec.has(one))
            spec.refuse(named, f"is {value:#x}, and raw has {int(found):#x}; leave one out")
    spec.agree("data_offset", descriptor.data_offset, "the bytes of raw")
    spec.agree("length", descriptor.length, "the bytes of raw")
    if spec.value.get("bytes") != len(raw):  # of a packet known by its footer alone
        spec.agree("bytes", descriptor.packet_size, "the bytes of raw")
    check_raw_parts(spec, raw, descriptor)


def check_raw_parts(spec: Spec, raw: bytes, descriptor: PacketDescriptor) -> None:
    start = descriptor.data_offset
    header, payload = spec.data("header"), spec.data("payload")
    if header is not None and header != raw[DESCRIPTOR_SIZE:start]:
        spec.refuse("header", "is not the one in raw; leave one out")
    if payload is not None and payload != raw[start : start + len(payload)]:
        spec.refuse("payload", "is not the one in raw; leave one out")
    if payload is not None:
        spec.agree("payload_length", len(payload), "the bytes of payload")
    if header is not None:
        check_ranges(spec, descriptor, header)
    if spec.has("footer"):
        footer = Spec(spec.value["footer"], spec.at("footer"), FOOTER_KEYS)
        there = FOOTER.unpack(raw, len(raw) - FOOTER_SIZE)
        footer.agree("value", there.packet_offset, "the last bytes of raw")
        footer.agree("reserved", there.reserved, "the last bytes of raw")
