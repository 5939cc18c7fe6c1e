"""TracedCarrier: every packet is shown, either way, and becomes a capture; the trace harms nobody."""

from __future__ import annotations

import io
import logging

import pytest

from vmbus.inspection import PcapngWriter, read_capture
from vmbus.sockets import SharedVsock
from vmbus.virtio import (
    LINKTYPE_VSOCK,
    TracedCarrier,
    VsockEndpoint,
    VsockOperation,
    capture_record,
    connected_vsock,
    parse_capture_record,
)

PORT = 1234


def talk(trace) -> tuple[VsockEndpoint, VsockEndpoint]:
    """A connection over which each side sends once, seen from the host by `trace`."""
    guest, host = connected_vsock()
    host = VsockEndpoint(TracedCarrier(host.carrier, trace), 2, peer_cid=3)
    listener = host.listen(PORT)
    client = guest.connect(PORT)
    host.pump()
    guest.pump()
    server = listener.accept()
    client.send(memoryview(b"to the host"))
    host.pump()
    assert server.receive(100) == b"to the host"
    server.send(memoryview(b"to the guest"))
    guest.pump()
    assert client.receive(100) == b"to the guest"
    return guest, host


def test_every_packet_is_shown_in_its_order_with_what_it_carries():
    seen = []
    talk(
        lambda header, payload: seen.append(
            (header.src_cid, VsockOperation(header.operation).name, bytes(payload))
        )
    )
    assert seen == [
        (3, "REQUEST", b""),
        (2, "RESPONSE", b""),
        (3, "RW", b"to the host"),
        (2, "RW", b"to the guest"),
    ]


def test_what_a_trace_raises_is_logged_and_goes_no_further(caplog):
    def fail(header, payload):
        raise ZeroDivisionError

    with (
        caplog.at_level(logging.ERROR, "vmbus.virtio"),
        pytest.warns(RuntimeWarning, match="ZeroDivision") as warned,
    ):
        talk(fail)
    assert len(warned) == 1
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 4


def test_a_traced_carrier_answers_as_the_one_that_it_is_made_of():
    guest, host = connected_vsock()
    traced = TracedCarrier(host.carrier, lambda header, payload: None)
    assert traced.room() == host.carrier.room() == 4096
    assert traced.prepare_to_sleep() is False
    traced.stay_awake()
    assert (traced.take_reset(), traced.must_notify()) == (False, False)
    assert traced.statistics() == host.carrier.statistics()
    assert repr(host.carrier) in repr(traced)
    guest.connect(PORT)
    assert traced.prepare_to_sleep() is True


def test_a_trace_written_as_a_capture_is_read_back_packet_by_packet():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, LINKTYPE_VSOCK)
    sent = []

    def capture(header, payload):
        sent.append((header, bytes(payload)))
        writer.write(capture_record(header, payload), timestamp=len(sent))

    talk(capture)
    stream.seek(0)
    captured = list(read_capture(stream))
    records = [parse_capture_record(packet.data) for packet in captured]
    assert [(record.header, record.payload) for record in records] == sent
    assert [packet.timestamp for packet in captured] == [1, 2, 3, 4]
    assert {packet.link_type for packet in captured} == {LINKTYPE_VSOCK}


def test_a_link_can_be_traced():
    seen = []
    guest, host = SharedVsock.create()
    with (
        guest,
        host,
        guest.attach(trace=lambda header, payload: seen.append(header.operation)) as near,
        host.attach() as far,
    ):
        listener = far.listen(PORT)
        connection = near.endpoint.connect(PORT)
        far.serve(timeout=0)
        near.serve(timeout=0)
        assert connection.was_established
        assert listener.accept(timeout=1).peer == (3, connection.local.port)
    assert seen[:2] == [VsockOperation.REQUEST, VsockOperation.RESPONSE]
