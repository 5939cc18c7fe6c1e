"""Packets as they are described before they are written and after they were read."""

from __future__ import annotations

import pytest

from tests.helpers import padded, pattern, receive_packet, send_packet
from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.layout import IN_WORD, PacketFlags, PacketType
from vmbus.ring import (
    IncomingPacketType,
    OutgoingPacket,
    OutgoingPacketType,
    PacketSize,
    PagedRange,
    RingRange,
    TransferPageRange,
    connected_rings,
)

GPA_RANGES = [PagedRange(4000, 5000, [7, 9, 8]), PagedRange(0, 1, [2**64 - 1])]
PAGE_RANGES = [TransferPageRange(60, 0), TransferPageRange(2**32 - 1, 2**32 - 1)]

#: Every form of packet, for a payload of so many bytes: type on the wire, flags, size.
FORMS = {
    "in-band": (
        lambda size: OutgoingPacket.in_band(size, transaction_id=5),
        *(PacketType.IN_BAND, 0, PacketSize.in_band),
    ),
    "in-band with completion": (
        lambda size: OutgoingPacket.in_band(size, transaction_id=5, completion_requested=True),
        *(PacketType.IN_BAND, 1, PacketSize.in_band),
    ),
    "completion": (
        lambda size: OutgoingPacket.completion(size, transaction_id=5),
        *(PacketType.COMPLETION, 0, PacketSize.completion),
    ),
    "GPA-direct": (
        lambda size: OutgoingPacket.gpa_direct(GPA_RANGES, size, transaction_id=5),
        *(PacketType.GPA_DIRECT, 1, lambda size: PacketSize.gpa_direct(GPA_RANGES, size)),
    ),
    "transfer pages": (
        lambda size: OutgoingPacket.transfer_pages(0xCAFE, PAGE_RANGES, size, transaction_id=5),
        *(PacketType.TRANSFER_PAGES, 1, lambda size: PacketSize.transfer_pages(2, size)),
    ),
}
every_form = pytest.mark.parametrize(("make", "kind", "flags", "size_of"), FORMS.values(), ids=FORMS)
LENGTHS = [0, 1, 7, 8, 9, 15, 16, 100, 1000]


@every_form
@pytest.mark.parametrize("length", LENGTHS)
def test_a_packet_takes_the_bytes_that_packet_size_says(make, kind, flags, size_of, length):
    sender, _ = connected_rings()
    send_packet(sender, pattern(length), make(length))
    assert sender.memory.control[IN_WORD] == size_of(length)


@every_form
def test_a_packet_has_the_type_and_the_flags_of_its_form(make, kind, flags, size_of):
    sender, receiver = connected_rings(start=4040)
    send_packet(sender, pattern(16), make(16))
    descriptor = receive_packet(receiver).packet.descriptor
    assert (descriptor.type, descriptor.flags, descriptor.transaction_id) == (kind, flags, 5)
    assert make(16).type.value == (kind, PacketFlags(flags))


@every_form
def test_a_payload_lies_behind_the_descriptor_and_its_extension_and_before_the_footer(
    make, kind, flags, size_of
):
    sender, receiver = connected_rings(start=64)
    packet = make(16)
    send_packet(sender, pattern(16), packet)
    seen = receive_packet(receiver).packet
    assert seen.extension == RingRange(64 + 16, len(packet.extension))
    assert seen.payload == RingRange(64 + 16 + len(packet.extension), 16)
    assert seen.descriptor.data_offset8 * 8 == 16 + len(packet.extension)
    assert seen.descriptor.length8 * 8 == size_of(16) - 8


@every_form
@pytest.mark.parametrize("length", LENGTHS)
def test_a_packet_comes_out_with_all_that_went_in(make, kind, flags, size_of, length):
    sender, receiver = connected_rings(start=4000)
    send_packet(sender, pattern(length), make(length))
    packet, _ = receiver.receive()
    assert packet.type == kind and packet.type in IncomingPacketType
    assert (packet.payload, packet.transaction_id, packet.flags) == (padded(pattern(length)), 5, flags)
    assert packet.completion_requested is bool(flags)
    if kind == PacketType.GPA_DIRECT:
        assert (packet.ranges, packet.transfer_page_set_id) == (tuple(GPA_RANGES), None)
    elif kind == PacketType.TRANSFER_PAGES:
        assert (packet.ranges, packet.transfer_page_set_id) == (tuple(PAGE_RANGES), 0xCAFE)
    else:
        assert (packet.ranges, packet.transfer_page_set_id) == ((), None)


@every_form
def test_a_transaction_id_is_one_only_where_a_completion_is_asked_for_or_is_there(make, kind, flags, size_of):
    sender, receiver = connected_rings()
    send_packet(sender, b"", make(0))
    expected = 5 if flags or kind == PacketType.COMPLETION else None
    assert receive_packet(receiver).packet.transaction_id == expected


def test_the_forms_are_the_five_that_can_be_written_and_the_types_the_four_that_can_be_read():
    assert {make(0).type for make, *_ in FORMS.values()} == set(OutgoingPacketType)
    assert {kind for _, kind, *_ in FORMS.values()} == set(IncomingPacketType)


def test_an_empty_list_of_transfer_pages_is_a_list():
    sender, receiver = connected_rings()
    send_packet(sender, b"", OutgoingPacket.transfer_pages(3, []))
    packet, _ = receiver.receive()
    assert (packet.ranges, packet.transfer_page_set_id) == ((), 3)


@known_bug("B55")
def test_a_range_without_bytes_cannot_be_put_into_a_packet():
    with pytest.raises(CallerError, match="has 0 bytes"):
        OutgoingPacket.gpa_direct([PagedRange.empty()])


@known_bug("B55")
def test_a_gpa_direct_packet_without_ranges_cannot_be_made_because_no_reader_takes_it():
    with pytest.raises(CallerError, match="0 ranges"):
        OutgoingPacket.gpa_direct([])


@pytest.mark.parametrize(
    "make",
    [
        lambda: OutgoingPacket.transfer_pages(65536, []),
        lambda: OutgoingPacket.transfer_pages(-1, []),
        lambda: OutgoingPacket.transfer_pages(1, [TransferPageRange(2**32, 0)]),
        lambda: OutgoingPacket.transfer_pages(1, [TransferPageRange(0, -1)]),
    ],
)
def test_numbers_too_wide_for_a_transfer_page_header_are_the_callers_error(make):
    with pytest.raises(CallerError, match="bit"):
        make()


@known_bug("B31", "B43")
def test_the_largest_packet_is_counted_whole_and_one_slot_more_is_refused_and_not_cut():
    sender, receiver = connected_rings(size=1 << 20, start=(1 << 20) - 4096)
    largest = sender.maximum_packet_size()
    assert largest == 0xFFFF * 8 + 8
    payload = pattern(largest - PacketSize.in_band(0))
    sender.send(payload)
    send_packet(sender, payload[8:])
    for _ in range(2):
        assert receiver.receive_many(1)[0][0].payload == payload
        payload = payload[8:]
    for refused in (
        lambda: sender.send(bytes(largest - 23)),
        lambda: sender.send_many([b"", bytes(largest - 23)]),
        lambda: send_packet(sender, bytes(largest - 23)),
        lambda: sender.can_write(sender.outgoing(), largest + 8),
    ):
        with pytest.raises(CallerError, match=f"the largest has {largest}"):
            refused()
    assert receiver.receive_many() == ([], False)
