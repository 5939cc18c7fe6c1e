"""Bugs of the catalogue that no other test of virtqueues and messages names: lengths, and moves.

Offsets and lengths inside messages of disks, sockets and channels wrapped or pointed outside elsewhere; and a
check that was made too strict refused variants that are right, and had to be taken back.
"""

from __future__ import annotations

import struct

import pytest

from tests.known_bugs import known_bug
from tests.virtio.by_hand import BUFFERS, FORMATS, WRITE, device_by_hand
from tests.virtio.test_block_device import (
    CONTENT,
    DATA,
    DISCARD,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    OK,
    OUT,
    SECTORS,
    WRITE_ZEROES,
    Bench,
)
from vmbus.errors import PeerError
from vmbus.memory import GuestMemory
from vmbus.protocols import MessageFault, parse_gpadl_header, parse_offer
from vmbus.protocols.channel_messages import GPADL_HEADER, OFFER
from vmbus.virtio import DeviceQueue, VsockFault, VsockPacket
from vmbus.virtio.chains import Descriptor

TOP = 2**64


@known_bug("B56")
@pytest.mark.parametrize("sector", [SECTORS - 1, SECTORS, TOP - 1, TOP - 2], ids=hex)
def test_sectors_that_are_not_all_on_the_disk_are_neither_read_nor_written(sector):
    bench = Bench()
    bench.memory.write(DATA, b"\xa5" * 1024)
    assert bench.ask(OUT, (DATA, 1024, 0), sector=sector) == (IOERR, 1)
    assert bench.ask(IN, (DATA, 1024, WRITE), sector=sector) == (IOERR, 1)
    for sectors in (2, 2**32 - 1):
        for kind in (DISCARD, WRITE_ZEROES):
            assert bench.ask_segments(kind, (sector, sectors, 0)) == (IOERR, 1)
    assert bench.content() == CONTENT
    assert bench.memory.read(DATA, 1024) == b"\xa5" * 1024


@known_bug("B56")
def test_variants_of_requests_that_are_right_are_not_refused():
    bench = Bench()
    assert bench.ask(FLUSH) == (OK, 1)  # no data at all
    assert bench.ask(GET_ID, (DATA, 20, WRITE)) == (OK, 21)  # no whole sector
    assert bench.ask(IN, sector=SECTORS) == (OK, 1)  # nothing, from the end on
    assert bench.ask(IN, (DATA, 512, WRITE), sector=SECTORS - 1) == (OK, 513)
    assert bench.ask_segments(WRITE_ZEROES, (SECTORS - 1, 1, 1), (0, 0, 0)) == (OK, 1)


def vsock_header(length):
    return struct.pack("<QQIIIHHIII", 3, 2, 1024, 1234, length, 1, 5, 0, 1 << 18, 0)


def packet_of(length, second):
    """The packet of a header that announces `length` bytes, and of a descriptor with `second` of them."""
    memory = GuestMemory([(0, bytearray(0x4000))])
    memory.write(0x1000, vsock_header(length))
    chain = [Descriptor(0, 0x1000, 44, 1, None), Descriptor(1, 0x2000, second, 0, None)]
    return VsockPacket.from_tx_virtq_chain(memory, iter(chain), 0x1000)


@known_bug("B56")
@pytest.mark.parametrize(
    ("length", "second", "kind"),
    [
        (25, 24, VsockFault.DESCRIPTOR_LENGTH_TOO_SMALL),
        (1, 0, VsockFault.DESCRIPTOR_LENGTH_TOO_SMALL),
        (0x1001, 0x1001, VsockFault.INVALID_HEADER_LENGTH),
        (2**32 - 1, 24, VsockFault.INVALID_HEADER_LENGTH),
    ],
)
def test_a_packet_that_announces_more_than_its_buffers_hold_is_refused(length, second, kind):
    with pytest.raises(PeerError) as caught:
        packet_of(length, second)
    assert caught.value.kind is kind


@known_bug("B56")
def test_a_packet_whose_buffers_hold_more_than_it_announces_is_right():
    packet = packet_of(24, 100)
    assert len(packet.data_slice()) == 24


@known_bug("B56")
def test_a_channel_message_may_be_longer_than_its_type_and_not_shorter():
    offer = OFFER.struct.pack(*OFFER.unpack(bytes([1]) + bytes(OFFER.size - 1)))
    assert parse_offer(offer + b"of a later version").relid == 0
    with pytest.raises(PeerError) as caught:
        parse_offer(offer[:-1])
    assert (caught.value.kind, caught.value.allowed) == (MessageFault.TOO_SHORT, OFFER.size)


@known_bug("B56")
@pytest.mark.parametrize("announced", [0, 8, 16, 24, 0xFFFF])
def test_a_list_of_ranges_ends_with_its_message_whatever_length_it_announces(announced):
    message = struct.pack("<IIIIHH", 8, 0, 3, 0xE1E10, announced, 1) + bytes(range(1, 17))
    assert len(message) == GPADL_HEADER.size + 16
    _, ranges = parse_gpadl_header(message)
    assert ranges == bytes(range(1, 17))[: min(announced, 16)]


@known_bug("V13")
@pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])
def test_a_queue_that_has_moved_goes_on_where_it_stood(packed):
    driver, device = device_by_hand(packed, 8, start=0x8003)
    for number in range(3):
        head = driver.offer((BUFFERS, 8, WRITE))
        device.add_used(device.pop_descriptor_chain().head_index, number)
        assert driver.used() == [(head, number)]
    driver.offer((BUFFERS, 8, WRITE))
    stood = (device.next_avail, device.next_used)
    assert stood == (0x8006, 0x8006)

    moved = DeviceQueue.from_state(device.memory, device.state())
    assert (moved.next_avail, moved.next_used) == stood
    chain = moved.pop_descriptor_chain()
    moved.add_used(chain.head_index, 8)
    assert driver.used() == [(chain.head_index, 8)]
