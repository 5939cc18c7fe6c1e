"""Vsock packets in captures: the pseudo header of 32 bytes, and what any bytes are taken for."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbus.errors import DumpError
from vmbus.virtio import (
    LINKTYPE_VSOCK,
    VSOCK_HEADER,
    VSOCKMON,
    VSOCKMON_SCHEMA,
    CaptureOperation,
    CaptureTransport,
    VsockHeader,
    VsockOperation,
    capture_operation,
    capture_record,
    parse_capture_record,
)

MONITOR = struct.Struct("<QQIIHHH2x")

FIVE_BYTES = VsockHeader(3, 2, 1024, 1234, 5, 1, VsockOperation.RW, 0, 1 << 18, 0)
HEADER_BYTES = bytes.fromhex(
    "0300000000000000 0200000000000000 00040000 d2040000 05000000 0100 0500 00000000 00000400 00000000"
)
#: What Linux shows of that packet before its header.
PSEUDO_HEADER = bytes.fromhex("0300000000000000 0200000000000000 00040000 d2040000 0400 0200 2c00 0000")


def test_a_record_is_pseudo_header_header_and_payload_to_the_byte():
    assert capture_record(FIVE_BYTES, b"hello") == PSEUDO_HEADER + HEADER_BYTES + b"hello"
    assert LINKTYPE_VSOCK == 271


def test_the_schema_has_32_bytes_and_says_what_the_codec_does():
    assert VSOCKMON.size == MONITOR.size == 32
    parsed = VSOCKMON_SCHEMA.parse(PSEUDO_HEADER)
    header = VSOCKMON.unpack(PSEUDO_HEADER)
    assert {name: parsed[name] for name in header._fields} == header._asdict()
    assert VSOCKMON.pack(header) == PSEUDO_HEADER


OPERATIONS = {
    VsockOperation.INVALID: 0,
    VsockOperation.REQUEST: 1,
    VsockOperation.RESPONSE: 1,
    VsockOperation.RST: 2,
    VsockOperation.SHUTDOWN: 2,
    VsockOperation.RW: 4,
    VsockOperation.CREDIT_UPDATE: 3,
    VsockOperation.CREDIT_REQUEST: 3,
    8: 0,
    0xFFFF: 0,
}


@pytest.mark.parametrize(("operation", "number"), OPERATIONS.items(), ids=str)
def test_each_operation_has_its_number_in_captures(operation, number):
    assert capture_operation(operation) == number
    assert capture_record(FIVE_BYTES._replace(operation=operation))[24:26] == struct.pack("<H", number)


def test_a_record_comes_apart_into_what_it_was_made_of():
    record = parse_capture_record(memoryview(capture_record(FIVE_BYTES, b"hello")))
    assert record.header == FIVE_BYTES
    assert record.payload == b"hello"
    assert record.transport_header == HEADER_BYTES
    assert record.capture == (3, 2, 1024, 1234, CaptureOperation.PAYLOAD, CaptureTransport.VIRTIO, 44)


@pytest.mark.parametrize("transport", [0, 1, 3, 0xFFFF])
@pytest.mark.parametrize("own", [b"", b"opaque!", HEADER_BYTES], ids=["none", "7 bytes", "44 bytes"])
def test_another_transports_header_is_stepped_over_whatever_its_length(transport, own):
    data = MONITOR.pack(3, 2, 1024, 1234, 4, transport, len(own)) + own + b"hello"
    record = parse_capture_record(data)
    assert (record.header, record.transport_header, record.payload) == (None, own, b"hello")


def test_a_longer_virtio_header_is_one_with_something_behind():
    data = MONITOR.pack(3, 2, 1024, 1234, 4, 2, 48) + HEADER_BYTES + b"more" + b"hello"
    record = parse_capture_record(data)
    assert record.header == FIVE_BYTES
    assert record.transport_header == HEADER_BYTES + b"more"
    assert record.payload == b"hello"


@pytest.mark.parametrize("kept", [32, 33, 75, 76, 77, 80])
def test_a_record_whose_end_was_not_captured_shows_what_there_is(kept):
    record = parse_capture_record(capture_record(FIVE_BYTES, b"hello")[:kept])
    assert record.header == (FIVE_BYTES if kept >= 76 else None)
    assert record.transport_header == HEADER_BYTES[: kept - 32]
    assert record.payload == b"hello"[: max(0, kept - 76)]


@pytest.mark.parametrize("length", [0, 1, 31])
def test_less_than_a_pseudo_header_is_no_record(length):
    with pytest.raises(DumpError, match=f"has {length} bytes"):
        parse_capture_record(PSEUDO_HEADER[:length])


#: Mostly records: bytes drawn alone hardly ever say virtio, or a length that is there.
records = st.builds(
    lambda addresses, transport, length, rest: addresses + struct.pack("<HHH", transport, length, 0) + rest,
    st.binary(min_size=26, max_size=26),
    st.sampled_from([0, 1, 2, 3]),
    st.sampled_from([0, 7, 43, 44, 45, 60, 0xFFFF]),
    st.binary(max_size=80) | st.binary(min_size=44, max_size=80),
)


@given(records | st.binary(max_size=40))
def test_any_bytes_are_a_record_or_too_short(data):
    try:
        record = parse_capture_record(data)
    except DumpError:
        assert len(data) < 32
        return
    fields = MONITOR.unpack_from(data)
    assert tuple(record.capture) == fields
    end = 32 + fields[-1]
    assert record.transport_header == data[32:end]
    assert record.payload == data[end:]
    assert (record.header is not None) == (fields[-2] == 2 and len(data[32:end]) >= 44)


headers = st.builds(
    VsockHeader,
    *(st.integers(0, (1 << bits) - 1) for bits in (64, 64, 32, 32, 32, 16, 16, 32, 32, 32)),
)


@given(headers, st.binary(max_size=80))
def test_any_packet_comes_back_out_of_its_record(header, payload):
    record = parse_capture_record(capture_record(header, payload))
    assert (record.header, record.payload) == (header, payload)
    assert VSOCK_HEADER.pack(record.header) == record.transport_header
