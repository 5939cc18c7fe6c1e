"""Images of rings out of what `vmbus inspect --json` prints: the inverse of inspection.

A ring that has "data" (--whole) is exact to the byte.  Without, it is exact in the control words and in every
byte of a listed packet (waiting, consumed, or broken with its "raw"), and zero elsewhere; what of the header
page lies behind the 128 bytes of control words is zero in any case.

A person may leave out nearly everything:

    data_size         the one thing that must be said, unless data is given
    header_size       4096
    control           out where the packets begin, or 0; in where they end; feature_bits 1; all else 0
    packets           one behind the other from out on, where they have no offset
    consumed          one behind the other up to out
    of a packet       type in-band, no flags, transaction 0, no payload, a footer; "footer": null writes none

What inspection concludes (verdict, findings, free, …) is passed over.  Two statements about the same byte or
number must agree, and an unknown key is refused: CallerError, whose message begins with the path of what is wrong.

Rings lie as far apart as their addresses say, and the image begins with the lowest; those without an address lie
behind all of them, one behind the other, the outbound one of a pair before its inbound one.  A ring whose pages
were scattered ("pages") is put together, and counts as one without an address.

Of a packet whose bytes the image did not have nothing is written; CraftedImage.left_out counts them.

Sizes and offsets are in bytes.
"""

from __future__ import annotations

from typing import Any

from vmbus.errors import CallerError
from vmbus.layout import CONTROL_PAGE, FEATURE_BITS_WORD, ControlPage, FeatureBits, control_page_of
from vmbus.sizes import (
    CONTROL_WORD_COUNT,
    HEADER_SIZES,
    MAXIMUM_DATA_SIZE,
    PAGE_SIZE,
    check_data_size,
    check_header_size,
)

from .craft_packets import read_packet
from .craft_places import first_offset, joined_parts, place_consumed, place_packets
from .craft_values import Spec, objects_of, refuse, shortened
from .crafted_image import LARGEST_CRAFTED, CraftedImage, CraftedRing, placed
from .to_json import SCHEMA

__all__ = ["CRAFT_EXAMPLE", "LARGEST_CRAFTED", "CraftedImage", "craft", "craft_image", "craft_ring"]

DOCUMENT_KEYS = ("schema", "source", "rings", "findings")
RING_KEYS = (
    *(
        "address",
        "address_hex",
        "header_size",
        "data_size",
        "control",
        "packets",
        "consumed",
        "data",
        "pages",
    ),
    # What inspection and scans say of a ring besides, which is passed over.
    *(
        "data_size_known",
        "data_size_candidates",
        "smallest_data_size",
        "role",
        "device",
        "pair",
        "pair_hex",
        "score",
    ),
    *("reasons", "available", "free", "reader_needs_signal", "writer_needs_signal", "verdict", "findings"),
    *("schema", "kind", "source", "pages_hex", "channel", "format"),
)
#: The words that have names, by the key in "control".
NAMED_WORDS = {
    "in": 0,
    "out": 1,
    "interrupt_mask": 2,
    "pending_send_size": 3,
    "feature_bits": FEATURE_BITS_WORD,
}
OTHER_WORDS = frozenset(range(CONTROL_WORD_COUNT)) - set(NAMED_WORDS.values())
WORD = 2**32 - 1

#: A small specification that works, for people to begin with.
CRAFT_EXAMPLE: dict[str, Any] = {
    "comment": "vmbus craft makes an image of this; only data_size must be there. Bytes are hex.",
    "rings": [
        {
            "data_size": 16384,
            "control": {"comment": "in follows from the packets", "out": 16352, "pending_send_size": 4096},
            "consumed": [{"payload": "72656164"}],
            "packets": [
                {"comment": "wraps at the end of the ring", "payload": "77616974696e6721" * 4},
                {"type": "completion", "transaction_id": 7, "payload": ""},
                {
                    "type": "gpa-direct",
                    "flags": ["completion-requested"],
                    "transaction_id": 8,
                    "ranges": [{"byte_count": 200, "byte_offset": 4000, "pages": [7, 9]}],
                },
                {"comment": "as QEMU writes them", "payload": "71656d75", "footer": None},
                {"comment": "no known type: a reader refuses it", "type_value": 99},
            ],
        },
        {"comment": "no address: it lies behind the first", "data_size": 4096, "packets": []},
    ],
}


def craft_ring(document: dict[str, Any]) -> bytes:
    """The image of one ring, of an object of "rings": control page, then data area.

    >>> image = craft_ring({"data_size": 4096, "packets": [{"payload": "68656c6c6f"}]})
    >>> len(image), image[:8].hex(), image[4112:4120]
    (8192, '2000000000000000', b'hello\\x00\\x00\\x00')
    >>> craft_ring({"data_size": 4096, "packets": [{"payload": "68656c6c6f", "length": 8}]})
    Traceback (most recent call last):
        ...
    vmbus.errors.CallerError: packets[0].length: is 8, and header and payload make it 24; leave one out
    """
    return placed([read_ring(document, "")]).to_bytes()


def craft(document: dict[str, Any]) -> bytes:
    """The image of a document of `vmbus inspect --json`, or of one ring alone.

    >>> len(craft({"rings": [{"data_size": 4096}, {"data_size": 8192}]}))
    20480
    """
    return craft_image(document).to_bytes()


def craft_image(document: dict[str, Any]) -> CraftedImage:
    """As craft, without making zeros of it."""
    if not isinstance(document, dict) or "rings" not in document:
        return placed([read_ring(document, "")])
    check_schema(document, "")
    spec = Spec(document, "", DOCUMENT_KEYS)
    rings = objects_of(spec, "rings", read_ring)
    if not rings:
        spec.refuse("rings", "is empty: there is nothing to make")
    return placed(rings)


def check_schema(value: object, path: str) -> None:
    """Refuse what is written in other words, before its keys are looked at."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema not in (None, SCHEMA):
        refuse(f"{path}.schema" if path else "schema", f"is {SCHEMA}, not {shortened(schema)}", schema)


# -- one ring ---------------------------------------------------------------------------------------


def read_ring(value: object, path: str) -> CraftedRing:
    """A ring, all of whose bytes are known; CallerError with the path of what is wrong."""
    check_schema(value, path)
    spec = Spec(value, path, RING_KEYS)
    data = spec.data("data")
    data_size = data_size_of(spec, data)
    header_size = spec.number("header_size", most=max(HEADER_SIZES)) or PAGE_SIZE
    try:
        check_header_size(header_size)
    except CallerError as error:
        spec.refuse("header_size", str(error))
    control = Spec(spec.value.get("control") or {}, spec.at("control"), (*NAMED_WORDS, "other_words"))
    consumed = objects_of(spec, "consumed", read_packet)
    packets = objects_of(spec, "packets", read_packet)
    out = control.number("out", most=WORD)
    parts = [(0, data, spec.at("data"))] if data else []
    found_out, old = place_consumed(
        spec, consumed, out if out is not None else first_offset(packets), data_size
    )
    out = found_out if out is None else out
    end, new = place_packets(spec, packets, out, data_size)
    parts += [*old, *new]
    given_in = control.number("in", most=WORD)
    if given_in not in (None, end) and packets and all(packet.offset is None for packet in packets):
        control.refuse("in", f"is {given_in}, and the packets end at {end}; leave it out")
    words = control_page(control, end if given_in is None else given_in, out)
    pieces = [(0, CONTROL_PAGE.pack(words))]
    pieces += [(header_size + at, joined) for at, joined in joined_parts(parts, data_size)]
    return CraftedRing(
        path=path or "the ring",
        address=address_of(spec),
        size=header_size + data_size,
        pieces=pieces,
        pair=pair_of(spec),
        is_inbound=spec.value.get("role") == "inbound",
        left_out=sum(packet.is_left_out for packet in (*consumed, *packets)),
    )


def data_size_of(spec: Spec, data: bytes | None) -> int:
    data_size = spec.number("data_size", most=MAXIMUM_DATA_SIZE)
    if data_size is None and data is None:
        spec.refuse("data_size", "is missing: how many bytes the ring's data area has")
    if data is not None and data_size not in (None, len(data)):
        spec.refuse("data", f"has {len(data)} bytes, and data_size is {data_size}")
    try:
        return check_data_size(len(data) if data is not None else data_size or 0)
    except CallerError as error:
        spec.refuse("data_size" if data is None else "data", str(error))


def address_of(spec: Spec) -> int | None:
    """Where the control page lies; None for a ring that is put together."""
    address = spec.wide_number("address")
    return None if spec.has("pages") else address


def pair_of(spec: Spec) -> tuple[int, ...] | None:
    """The addresses of a ring and of the other one of its channel, the same for both; None where one is not known."""
    own, other = spec.wide_number("address"), spec.wide_number("pair")
    return None if own is None or other is None else tuple(sorted((own, other)))


def control_page(control: Spec, in_offset: int, out_offset: int) -> ControlPage:
    words = [0] * CONTROL_WORD_COUNT
    words[NAMED_WORDS["in"]], words[NAMED_WORDS["out"]] = in_offset, out_offset
    words[FEATURE_BITS_WORD] = FeatureBits.SUPPORTS_PENDING_SEND_SIZE
    for key in ("interrupt_mask", "pending_send_size", "feature_bits"):
        number = control.number(key, most=WORD)
        if number is not None:
            words[NAMED_WORDS[key]] = number
    others = Spec(control.value.get("other_words") or {}, control.at("other_words"), map(str, OTHER_WORDS))
    for key in others.value.keys() - {"comment"}:
        words[int(key)] = others.number(key, most=WORD) or 0
    return control_page_of(words)
