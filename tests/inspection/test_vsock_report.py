"""vsock packets for people: from chains of a queue, and from bytes alone.

Source: OASIS VIRTIO 1.2, section 5.10.6; the bytes of a REQUEST and of an RW are spelled by hand.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspection.queue_dumps import HISTORY, checks, hand, look, pair
from tests.virtio.by_hand import BUFFERS, FORMATS, WRITE, Areas, HandDevice, HandDriver
from vmbus.images.findings import Severity
from vmbus.inspection import Selection, examine_vsock_packet, queue_to_json, vsock_packet_to_json
from vmbus.memory import GuestMemory
from vmbus.virtio import LARGEST_PAYLOAD, VSOCK_EVENT, VSOCK_HEADER, VsockEvent, VsockHeader, VsockOperation

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

HELLO = VsockHeader(3, 2, 1024, 1234, 5, 1, 5, 0, 262144, 7)

#: From CID 3, port 1024 to the host's port 1234, a buffer of 256 KiB.
REQUEST_BYTES = bytes.fromhex(
    "03000000 00000000 02000000 00000000 00040000 d2040000 00000000 0100 0100 00000000 00000400 00000000"
)
RW_BYTES = bytes.fromhex(
    "03000000 00000000 02000000 00000000 00040000 d2040000 05000000 0100 0500 00000000 00000400 00000000"
)


def names(packet):
    return [finding.check for finding in packet.findings]


def examine(payload=b"", queue=None, **fields):
    return examine_vsock_packet(VSOCK_HEADER.pack(HELLO._replace(**fields)), payload, queue=queue)


# -- from bytes alone ------------------------------------------------------------------------------


def test_a_request_is_read_byte_by_byte():
    packet = examine_vsock_packet(REQUEST_BYTES)
    assert tuple(packet.header) == (3, 2, 1024, 1234, 0, 1, 1, 0, 262144, 0)
    assert (packet.operation, packet.type, packet.flags) == ("request", "stream", [])
    assert (packet.payload, packet.left_over, packet.findings) == (b"", 0, ())


def test_a_payload_ends_where_the_header_says():
    packet = examine_vsock_packet(RW_BYTES, b"hello, and more")
    assert packet.operation == "rw"
    assert packet.payload == b"hello"
    assert packet.left_over == len(b", and more")
    assert packet.findings == ()


@pytest.mark.parametrize("operation", list(VsockOperation)[1:])
def test_every_operation_has_its_name(operation):
    packet = examine(operation=operation, length=0)
    assert packet.operation == operation.name.lower().replace("_", "-")
    assert packet.findings == ()


@pytest.mark.parametrize(
    ("fields", "payload", "check", "severity"),
    [
        ({"length": 6}, b"hello", "vsock-length", Severity.ERROR),
        ({"length": LARGEST_PAYLOAD + 1}, bytes(LARGEST_PAYLOAD + 1), "vsock-large", Severity.WARNING),
        ({"operation": 8, "length": 0}, b"", "vsock-operation", Severity.WARNING),
        ({"operation": 0, "length": 0}, b"", "vsock-operation", Severity.WARNING),
        ({"type": 0}, b"hello", "vsock-type", Severity.WARNING),
        ({"type": 3}, b"hello", "vsock-type", Severity.WARNING),
        ({"operation": 1}, b"hello", "vsock-payload", Severity.WARNING),
        ({"operation": 6, "length": 9}, b"", "vsock-payload", Severity.WARNING),
        ({"operation": 4, "length": 0, "flags": 4}, b"", "vsock-flags", Severity.WARNING),
        ({"flags": 1}, b"hello", "vsock-flags", Severity.WARNING),
        ({"type": 2, "flags": 4}, b"hello", "vsock-flags", Severity.WARNING),
        ({"src_cid": 0}, b"hello", "vsock-cid", Severity.WARNING),
        ({"src_cid": 2**32 - 1}, b"hello", "vsock-cid", Severity.WARNING),
        ({"src_cid": 2**32 + 3}, b"hello", "vsock-cid", Severity.WARNING),
        ({"src_cid": 2**64 - 1}, b"hello", "vsock-cid", Severity.WARNING),
    ],
)
def test_what_a_receiver_would_not_take_is_found(fields, payload, check, severity):
    (finding,) = examine(payload, **fields).findings
    assert (finding.check, finding.severity) == (check, severity)


@pytest.mark.parametrize(
    ("source", "queue", "found"),
    [
        (3, "tx", False),
        (2, "tx", True),
        (1, "tx", True),
        (2, "rx", False),
        (3, "rx", False),
        (1, "rx", True),
        (0, "rx", True),
        (2, None, False),
        (1, None, False),
    ],
)
def test_who_can_send_depends_on_where_the_packet_was_found(source, queue, found):
    assert names(examine(b"hello", queue, src_cid=source)) == (["vsock-cid"] if found else [])


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"operation": 4, "flags": 3}, ["receive", "send"]),
        ({"operation": 4, "flags": 6}, ["send", "0x4"]),
        ({"type": 2, "flags": 3}, ["end-of-message", "end-of-record"]),
        ({"flags": 3}, ["0x3"]),
    ],
)
def test_flags_have_the_names_of_their_operation(fields, flags):
    assert examine(b"hello", **fields).flags == flags


@pytest.mark.parametrize("size", [0, 1, 43])
def test_fewer_bytes_than_a_header_are_an_error_and_shown(size):
    packet = examine_vsock_packet(RW_BYTES[:size])
    assert names(packet) == ["vsock-header"]
    shown = vsock_packet_to_json(packet)
    assert shown["operation"] is shown["src_cid"] is shown["flags"] is None
    assert shown["header"] == RW_BYTES[:size].hex()


def test_json_has_numbers_names_and_hex():
    shown = vsock_packet_to_json(examine(b"hello", type=9, src_cid=2**63))
    assert shown["src_cid"] == 2**63
    assert shown["src_cid_hex"] == "0x8000000000000000"
    assert (shown["type"], shown["type_value"]) == ("unknown-9", 9)
    assert (shown["operation"], shown["operation_value"]) == ("rw", 5)
    assert (shown["flags"], shown["flags_value"]) == ([], 0)
    assert (shown["payload"], shown["payload_length"]) == (b"hello".hex(), 5)
    assert [shown[name] for name in ("src_port", "dst_port", "buf_alloc", "fwd_cnt")] == [
        1024,
        1234,
        262144,
        7,
    ]


@given(
    header=st.binary(max_size=50), payload=st.binary(max_size=50), queue=st.sampled_from([None, "rx", "tx"])
)
def test_any_bytes_are_a_packet_of_some_kind(header, payload, queue):
    packet = examine_vsock_packet(header, payload, queue=queue)
    json.dumps(vsock_packet_to_json(packet))
    assert payload.startswith(packet.payload)
    assert len(packet.payload) + packet.left_over == len(payload)
    assert (packet.header is None) == (len(header) < 44)


# -- from a queue ----------------------------------------------------------------------------------


@both_formats
@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("indirect", [False, True])
def test_a_packet_in_any_number_of_buffers_is_the_same_packet(packed, pieces, indirect):
    both = pair(packed)
    both.send(HELLO, b"hello", pieces=pieces, indirect=indirect)
    report = both.look(vsock="tx")
    (chain,) = report.chains
    assert len(chain.descriptors) == pieces
    assert chain.vsock.header == HELLO
    assert chain.vsock.payload == b"hello"
    assert report.is_sound


def test_a_wrong_packet_is_a_finding_at_its_chain():
    both = pair()
    both.send(HELLO, b"hello")
    both.send(HELLO._replace(length=6), b"hello")
    report = both.look(vsock="tx")
    assert [(one.check, one.offset) for one in report.findings] == [("vsock-length", 1)]
    assert not report.is_sound


def test_a_packet_whose_buffer_the_dump_does_not_have_is_nobodys_fault():
    driver = hand()
    driver.memory.write(BUFFERS, RW_BYTES)
    driver.offer((BUFFERS, 44, 0), (0x5_0000, 5, 0))
    report = look(driver, vsock="tx")
    assert [one.severity for one in report.findings] == [Severity.NOTE, Severity.NOTE]
    assert report.is_sound
    assert report.chains[0].vsock.operation == "rw"


@both_formats
def test_buffers_that_wait_in_an_rx_queue_hold_no_packet(packed):
    both = pair(packed)
    both.add(-100)
    (chain,) = both.look(vsock="rx").chains
    assert chain.vsock is None
    assert chain.findings == ()


@both_formats
@pytest.mark.parametrize("queue", ["rx", "event"])
def test_a_queue_with_nothing_to_write_to_is_asked_whether_it_is_tx(packed, queue):
    both = pair(packed)
    both.send(HELLO, b"hello")
    both.send(HELLO, b"hello", pieces=2)
    report = both.look(vsock=queue)
    (finding,) = report.findings
    assert (finding.check, finding.severity) == ("vsock-queue", Severity.WARNING)
    assert finding.message == (
        f"none of the 2 chains that wait has room that the device writes to, as those of an {queue} queue do: "
        "is this the tx queue?"
    )
    assert not report.is_sound


@both_formats
def test_a_tx_queue_with_nothing_to_read_is_asked_first_whether_it_is_rx(packed):
    both = pair(packed)
    both.add(-100)
    both.add(-44, -56)
    report = both.look(vsock="tx")
    assert checks(report) == ["vsock-queue", "vsock-header", "vsock-header"]
    assert "is this the rx or the event queue, rather than tx?" in report.findings[0].message


@pytest.mark.parametrize("queue", ["rx", "tx", "event"])
def test_of_a_queue_with_a_chain_of_each_kind_and_of_an_empty_one_nothing_is_asked(queue):
    both = pair()
    assert checks(both.look(vsock=queue)) == []
    both.send(HELLO, b"hello")
    both.add(-100)
    assert "vsock-queue" not in checks(both.look(vsock=queue))


def test_the_limit_of_what_is_shown_does_not_change_what_is_asked():
    both = pair()
    both.send(HELLO, b"hello")
    both.add(-100)
    assert checks(both.look(vsock="rx", selection=Selection(limit=1))) == []


def test_where_no_chain_waits_the_used_ones_are_looked_at_for_a_note():
    both = pair()
    both.send(HELLO, b"hello")
    both.device.add_used(both.device.pop_descriptor_chain().head_index)
    report = both.look(vsock="rx", selection=HISTORY)
    assert [(one.check, one.severity) for one in report.findings] == [("vsock-queue", Severity.NOTE)]
    assert "none of the 1 chains used already" in report.findings[0].message
    assert checks(both.look(vsock="tx", selection=HISTORY)) == []


def test_used_rx_buffers_show_their_packets_on_request():
    both = pair()
    both.add(-44, -60)
    chain = both.device.pop_descriptor_chain()
    sent = VSOCK_HEADER.pack(HELLO._replace(src_cid=2, dst_cid=3)) + b"hello"
    both.device.add_used(chain.head_index, chain.write_all(sent))
    (used,) = both.look(vsock="rx", selection=HISTORY).history
    assert used.length == 49
    assert used.chain.vsock.payload == b"hello"
    assert used.chain.vsock.header.src_cid == 2


def test_used_packets_have_no_say_in_whether_a_queue_is_sound():
    both = pair()
    both.send(HELLO._replace(type=9), b"hello")
    both.device.add_used(both.device.pop_descriptor_chain().head_index)
    report = both.look(vsock="tx", selection=HISTORY)
    assert report.history[0].chain.vsock.type == "unknown-9"
    assert checks(report) == []


def test_an_event_is_shown_with_its_number():
    driver = hand()
    driver.offer((BUFFERS, 4, WRITE))
    driver.memory.write(BUFFERS, VSOCK_EVENT.pack(VsockEvent(0)))
    HandDevice(driver.memory, driver.areas, driver.size).give_back(0, 4)
    report = look(driver, vsock="event", selection=HISTORY)
    (used,) = queue_to_json(report)["history"]
    assert used["chain"]["event"] == 0


def test_the_same_large_payload_in_every_chain_is_copied_a_bounded_number_of_times():
    """2048 chains of one and the same 64 KiB: 128 MiB if all were shown."""
    size, buffer = 2048, 0x1_0000
    memory = GuestMemory([(0, bytearray(0x2_1000))])
    driver = HandDriver(memory, Areas(0, 0x8000, 0xA000), size)
    memory.write(buffer, VSOCK_HEADER.pack(HELLO._replace(length=LARGEST_PAYLOAD)))
    for _ in range(size):
        driver.offer((buffer, LARGEST_PAYLOAD + 44, 0))
    report = look(driver, vsock="tx")
    copied = [len(chain.vsock.payload) for chain in report.chains if chain.vsock is not None]
    assert set(copied) == {LARGEST_PAYLOAD}
    assert sum(copied) <= 65 << 20
    assert checks(report) == ["too-many-bytes"]
