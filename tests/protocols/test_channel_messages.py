"""Messages have the fields, sizes and offsets that guests and hosts agree on, and wrong lengths are refused."""

from __future__ import annotations

import struct
import uuid
from contextlib import suppress

import construct
import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary

from tests.inspection.wire_messages import NETWORK, gpadl_body, gpadl_header, offer, open_channel
from vmbus.errors import PeerError
from vmbus.layout import Guid
from vmbus.protocols import (
    GPADL_BODY,
    GPADL_HEADER,
    HEADER_PAGES,
    MESSAGE_HEADER,
    OFFER,
    OPEN_CHANNEL,
    MessageFault,
    OfferFlags,
    parse_gpadl_body,
    parse_gpadl_header,
    parse_offer,
    parse_open_channel,
)

CODECS = {
    "header": (MESSAGE_HEADER, 8),
    "offer": (OFFER, 196),
    "open channel": (OPEN_CHANNEL, 148),
    "GPADL header": (GPADL_HEADER, 20),
    "GPADL body": (GPADL_BODY, 16),
}

PARSERS = {
    "offer": (parse_offer, offer(3), 196),
    "open channel": (parse_open_channel, open_channel(3, 0xE1E10, 4), 148),
    "GPADL header": (parse_gpadl_header, gpadl_header(3, 0xE1E10, [7]), 20),
    "GPADL body": (parse_gpadl_body, gpadl_body(0xE1E10, [7]), 16),
}


@pytest.mark.parametrize("name", CODECS)
def test_a_message_has_its_size(name):
    codec, size = CODECS[name]
    assert codec.size == size


@pytest.mark.parametrize(
    ("codec", "offsets"),
    [
        (
            OFFER,
            {
                "type": 0,
                "padding": 4,
                "class_bytes": 8,
                "instance_bytes": 24,
                "reserved": 40,
                "flags": 56,
                "mmio_megabytes": 58,
                "user_defined": 60,
                "subchannel_index": 180,
                "optional_mmio_megabytes": 182,
                "relid": 184,
                "monitor_id": 188,
                "monitor_allocated": 189,
                "dedicated_interrupt": 190,
                "connection_id": 192,
            },
        ),
        (
            OPEN_CHANNEL,
            {
                "type": 0,
                "padding": 4,
                "relid": 8,
                "open_id": 12,
                "ring_gpadl": 16,
                "target_vp": 20,
                "downstream_page_offset": 24,
                "user_data": 28,
            },
        ),
        (
            GPADL_HEADER,
            {"type": 0, "padding": 4, "relid": 8, "gpadl": 12, "range_buflen": 16, "range_count": 18},
        ),
        (GPADL_BODY, {"type": 0, "padding": 4, "message_number": 8, "gpadl": 12}),
    ],
    ids=["offer", "open channel", "GPADL header", "GPADL body"],
)
def test_every_field_has_its_offset(codec, offsets):
    assert codec.offsets == offsets


@settings(max_examples=100, deadline=None)
@given(binary(min_size=196, max_size=196))
def test_codec_and_schema_read_the_same(data):
    for codec, size in CODECS.values():
        parsed = codec.schema.parse(data)
        record = codec.unpack(data)
        assert {name: parsed[name] for name in record._fields} == record._asdict()
        assert codec.pack(record) == codec.schema.build(construct.Container(parsed)) == data[:size]


def test_fields_come_out_as_they_were_written():
    parsed = parse_offer(offer(11, flags=0x2011, subchannel=2, user_defined=b"\1", monitor_allocated=1))
    assert (parsed.relid, parsed.flags, parsed.subchannel_index) == (11, 0x2011, 2)
    assert (parsed.monitor_id, parsed.monitor_allocated, parsed.dedicated_interrupt) == (255, 1, 1)
    assert (parsed.connection_id, parsed.user_defined[0]) == (0x1000B, 1)
    assert parsed.class_id == Guid.parse(str(NETWORK))
    assert uuid.UUID(str(parsed.instance_id)).bytes_le == parsed.instance_bytes
    assert OfferFlags.HVSOCK in OfferFlags(parsed.flags)

    opening = parse_open_channel(open_channel(3, 0xE1E10, 9, processor=2, open_id=1, user_data=b"x"))
    assert opening[2:7] == (3, 1, 0xE1E10, 2, 9)
    assert opening.user_data[:1] == b"x"


def test_the_ranges_of_a_gpadl_header_end_where_it_says():
    pages = list(range(100, 103))
    header, ranges = parse_gpadl_header(gpadl_header(3, 0xE1E10, pages) + b"what lay there before")
    assert (header.relid, header.gpadl, header.range_buflen, header.range_count) == (3, 0xE1E10, 32, 1)
    assert ranges == struct.pack("<II3Q", 3 * 4096, 0, *pages)


def test_a_gpadl_header_holds_26_pages_and_a_body_all_that_follows():
    header, ranges = parse_gpadl_header(gpadl_header(3, 0xE1E10, range(1, 101)))
    assert (header.range_buflen, len(ranges)) == (8 + 800, 8 + 8 * 26)
    assert parse_gpadl_header(gpadl_header(3, 0xE1E10, range(1, 101)) + bytes(4)) == (header, ranges)
    assert HEADER_PAGES == 26
    body, rest = parse_gpadl_body(gpadl_body(0xE1E10, range(27, 55), number=1))
    assert (body.gpadl, body.message_number, len(rest)) == (0xE1E10, 1, 28 * 8)


@pytest.mark.parametrize("name", PARSERS)
def test_a_message_that_is_one_byte_short_is_refused(name):
    parse, message, size = PARSERS[name]
    parse(message[:size])
    with pytest.raises(PeerError, match=f"at least {size} bytes, this one {size - 1}") as caught:
        parse(message[: size - 1])
    assert (caught.value.kind, caught.value.found) == (MessageFault.TOO_SHORT, size - 1)


@pytest.mark.parametrize("name", PARSERS)
def test_a_message_of_more_than_240_bytes_is_refused(name):
    parse, message, _ = PARSERS[name]
    parse(message.ljust(240, b"\0"))
    with pytest.raises(PeerError) as caught:
        parse(message.ljust(241, b"\0"))
    assert caught.value.kind is MessageFault.TOO_LONG


@pytest.mark.parametrize("name", PARSERS)
def test_a_message_of_another_type_is_refused(name):
    parse, message, _ = PARSERS[name]
    with pytest.raises(PeerError, match="type 2") as caught:
        parse(b"\2" + message[1:])
    assert (caught.value.kind, caught.value.found) == (MessageFault.OTHER_TYPE, 2)


@settings(max_examples=100, deadline=None)
@given(binary(max_size=260))
def test_any_bytes_are_a_message_or_refused(data):
    for parse, message, _ in PARSERS.values():
        for one in (data, message[:8] + data):
            with suppress(PeerError):
                parse(one)
