"""The strategies reach every corner on purpose, draw nothing but what they say, and shrink to what is plainest.

Counts are of a fixed number of examples; what is asked for is a fifth or less of what is found on average.
"""

from __future__ import annotations

import struct
from collections import Counter
from functools import cache
from typing import Any

import pytest

from tests.fuzzing.drawing import drawn
from vmbus.errors import CallerError, PeerError, RingEmpty, RingFull
from vmbus.fuzzing import BREAKS, PacketImage, RingImage, packet_kinds, strategies
from vmbus.fuzzing.ring_images import CORNERS
from vmbus.fuzzing.strategies import (
    PACKET_KINDS,
    broken_ring_images,
    control_pages,
    control_words,
    gpa_ranges,
    guids,
    hostile_packets,
    numbers,
    offsets,
    outgoing_packets,
    packet_bytes,
    packets,
    paged_ranges,
    payloads,
    received_packets,
    ring_images,
    smallest,
    transfer_page_ranges,
)
from vmbus.layout import CONTROL_PAGE, PACKET_DESCRIPTOR, page_count
from vmbus.ring import IncomingRing, OutgoingPacketType, OutgoingRing, PacketSize, connected_rings, is_offset


@cache
def images() -> list[RingImage]:
    return drawn(ring_images(), 200)


@cache
def broken_images() -> list[RingImage]:
    return drawn(broken_ring_images(data_sizes=[4096], most_packets=1), 400)


@cache
def some_packets() -> list[PacketImage]:
    return drawn(packets(), 300)


# -- counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", CORNERS)
def test_two_hundred_rings_have_each_corner_several_times(corner):
    found = sum(corner in image.corners() for image in images())
    assert found >= 5, found


@pytest.mark.parametrize("name", BREAKS)
def test_four_hundred_broken_rings_have_each_break(name):
    assert name in {image.broken.name for image in broken_images()}


def test_broken_rings_often_have_good_packets_before_the_broken_one():
    assert sum(bool(image.packets()) for image in broken_images()) >= 100


def test_rings_differ_in_size_in_what_lies_stale_and_in_what_was_consumed():
    assert Counter(image.data_size for image in images()).keys() == {4096, 8192, 20480}
    assert len({image.stale for image in images()}) == 4
    assert sum(image.free == 24 for image in images()) >= 15


@pytest.mark.parametrize("bits", [1, 3, 7, 12, 16, 33, 64])
def test_numbers_have_no_more_bits_than_they_may(bits):
    assert all(0 <= number < 2**bits for number in drawn(numbers(bits), 60))


def test_kinds_of_packets_have_the_names_that_they_have_everywhere():
    assert list(PACKET_KINDS) == [*packet_kinds.PACKET_KINDS, "extra-header", "pipe"]


@pytest.mark.parametrize("kind", PACKET_KINDS)
def test_packets_are_of_each_kind_when_it_is_asked_for_and_a_tenth_of_the_time_otherwise(kind):
    recognised = {
        "in-band": lambda packet: packet.type == 6 and not packet.flags and not packet.extension,
        "in-band-with-completion": lambda packet: packet.type == 6 and packet.flags == 1,
        "completion": lambda packet: packet.type == 11,
        "gpa-direct": lambda packet: packet.type == 9 and packet.ranges,
        "transfer-pages": lambda packet: packet.type == 7 and packet.transfer_page_set_id is not None,
        "extra-header": lambda packet: packet.type in (6, 11) and packet.extension,
        "pipe": lambda packet: packet.payload[:4] in (b"\1\0\0\0", b"\2\0\0\0"),
    }
    assert all(recognised[kind](packet) for packet in drawn(packets(kinds=[kind]), 20))
    assert sum(bool(recognised[kind](packet)) for packet in some_packets()) >= 10


PACKET_CORNERS = {
    "footer that nobody writes": lambda packet: packet.footer is not None,
    "padding that is not zero": lambda packet: packet.padding,
    "no payload": lambda packet: not packet.payload,
    "longest payload": lambda packet: len(packet.payload) == 128,
    "payload one byte short of a slot": lambda packet: len(packet.payload) % 8 == 7,
    "payload one byte into a slot": lambda packet: len(packet.payload) % 8 == 1,
    "a range that ends with a page": lambda packet: any(
        (one.offset + len(one)) % 4096 == 0 for one in packet.ranges if packet.type == 9
    ),
    "a range that starts at the last byte of a page": lambda packet: any(
        one.offset == 4095 for one in packet.ranges if packet.type == 9
    ),
    "several ranges": lambda packet: len(packet.ranges) > 1,
    "transfer pages without ranges": lambda packet: packet.type == 7 and not packet.ranges,
    "garbage where a header is reserved": lambda packet: packet.type == 9 and any(packet.extension[:4]),
    "words behind the ranges": lambda packet: (
        packet.type == 9 and len(packet.extension) > 8 + sum(8 + 8 * len(one.gpns) for one in packet.ranges)
    ),
    "transaction id of 64 bits": lambda packet: packet.transaction_id >> 63,
    "transaction id zero": lambda packet: packet.transaction_id == 0,
}


@pytest.mark.parametrize("corner", PACKET_CORNERS)
def test_three_hundred_packets_have_each_corner(corner):
    found = sum(bool(PACKET_CORNERS[corner](packet)) for packet in some_packets())
    assert found >= 3, found


def test_hostile_packets_break_each_rule_of_a_descriptor_and_are_sometimes_right():
    faults: Counter[Any] = Counter()
    for packet in drawn(hostile_packets(), 200):
        memory = RingImage(waiting=(packet,)).memory()
        try:
            IncomingRing(memory).receive()
            faults["right"] += 1
        except PeerError as error:
            faults[error.kind.value] += 1
    wanted = {"descriptor-length", "footer-not-published", "descriptor-flags", "descriptor-type"}
    assert {"right", *wanted} <= faults.keys()
    assert min(faults[name] for name in wanted) >= 2


def test_hostile_words_are_right_beside_right_and_far_from_it():
    words = drawn(control_words(4096), 200)
    assert sum(is_offset(4096, word) for word in words) >= 20
    assert {4096, 4088, 4095, 4097, 4104} <= set(words)
    assert sum(word >= 2**31 for word in words) >= 2


# -- what is drawn is what is said ---------------------------------------------------------------------------


def test_rings_are_read_by_a_strict_reader_as_they_say():
    for image in images()[:120]:
        ring = IncomingRing(image.memory())
        assert ring.receive_many()[0] == image.packets()
        with pytest.raises(RingEmpty):
            ring.receive()


def test_broken_rings_are_refused_by_the_rule_that_they_say():
    for image in broken_images()[:200]:
        ring = IncomingRing(image.memory())
        with pytest.raises(PeerError) as caught:
            for expected in [*image.packets(), None]:
                assert ring.receive()[0] == expected
        assert caught.value.kind is image.fault


def test_rings_of_other_sizes_can_be_asked_for():
    found = drawn(ring_images(data_sizes=[4096 * 129], header_sizes=[65536], most_packets=1), 20)
    assert {image.data_size for image in found} == {4096 * 129}
    assert {image.header_size for image in found} == {65536}
    crowded = max(found, key=lambda image: image.used)
    assert crowded.used > 4096 * 128
    assert IncomingRing(crowded.memory()).receive_many()[0] == crowded.packets()


def test_a_ring_that_is_crowded_has_its_end_where_it_was_drawn():
    for image in drawn(ring_images(data_sizes=[4096], most_packets=200), 20):
        assert IncomingRing(image.memory()).receive_many()[0] == image.packets()


def test_packets_to_be_sent_are_of_each_kind_and_are_received():
    found = drawn(outgoing_packets(), 100)
    assert {packet.type for packet in found} == set(OutgoingPacketType)
    sender, receiver = connected_rings()
    for packet in found:
        sender.send_packet(packet, bytes(packet.size))
        assert receiver.receive()[0].type.value == packet.type.value[0]


def test_bytes_of_packets_have_their_footer_and_their_length():
    for data in drawn(packet_bytes(0x40), 60):
        assert PACKET_DESCRIPTOR.unpack(data).packet_size == len(data)
    footers = Counter(data[-8:] for data in drawn(packet_bytes(0x40), 60))
    assert footers.most_common(1)[0][0] == struct.pack("<II", 0, 0x40)


def test_ranges_of_guest_memory_are_right_and_heads_of_ranges_are_anything():
    for one in drawn(paged_ranges(), 60):
        assert len(one.gpns) == page_count(one.offset, len(one)) <= 3
    heads = drawn(gpa_ranges(), 100)
    assert {0, 4096, 2**32 - 1} <= {value for head in heads for value in head}


def test_control_pages_are_right_unless_an_enemy_wrote_them():
    right = drawn(control_pages(8192), 40)
    assert all(is_offset(8192, page.in_offset) and is_offset(8192, page.out_offset) for page in right)
    assert any(page.other_words for page in right)
    hostile = drawn(control_pages(8192, hostile=True), 60)
    assert sum(not is_offset(8192, page.in_offset) for page in hostile) >= 10
    assert all(len(CONTROL_PAGE.pack(page)) == 128 for page in right + hostile)


@pytest.mark.parametrize(
    "make", [packets, outgoing_packets, received_packets, payloads], ids=lambda one: one.__name__
)
def test_a_longest_payload_is_kept_to(make):
    for value in drawn(make(24), 60):
        length = (
            getattr(value, "size", None)
            if make is outgoing_packets
            else len(getattr(value, "payload", value))
        )
        assert length <= 24


def test_strategies_are_made_once():
    assert packets() is packets()
    assert numbers(16) is numbers(16)


@pytest.mark.parametrize(
    "make", [lambda: packets(kinds=["in-bnad"]), lambda: broken_ring_images(names=["no"])]
)
def test_a_name_that_there_is_not_is_refused_with_those_there_are(make):
    with pytest.raises(CallerError, match=r"gpa-|in-band"):
        make()


# -- shrinking -----------------------------------------------------------------------------------------------


SMALLEST = {
    "payload": (payloads(), lambda value: True, b""),
    "payload of some length": (payloads(), lambda value: len(value) >= 30, bytes(30)),
    "number": (numbers(64), lambda value: value > 1000, 1001),
    "offset": (offsets(), lambda value: value > 9, 16),
    "packet": (packets(), lambda value: True, PacketImage.in_band()),
    "gpa-direct packet": (
        packets(),
        lambda value: value.type == 9,
        PacketImage.gpa_direct(smallest(paged_ranges().map(lambda one: [one]), bool)),
    ),
    "transfer-page packet": (packets(), lambda value: value.type == 7, PacketImage.transfer_pages(0, [])),
    "ring": (ring_images(), lambda value: True, RingImage()),
    "ring with a packet": (
        ring_images(),
        lambda value: value.waiting,
        RingImage(waiting=(PacketImage.in_band(),)),
    ),
    "broken ring": (broken_ring_images(), lambda value: True, BREAKS["in-at-end"].apply(RingImage())),
    "ring of an unknown flag": (
        broken_ring_images(names=["flags-unknown"]),
        lambda value: True,
        BREAKS["flags-unknown"].apply(RingImage()),
    ),
    "transfer-page range": (transfer_page_ranges(), lambda value: value.byte_count > 4, (5, 0)),
    "GUID": (guids(), lambda value: True, (bytes(16),)),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_example_is_the_plainest(name):
    strategy, condition, expected = SMALLEST[name]
    assert smallest(strategy, condition) == expected


def test_a_reader_that_forgets_to_wrap_is_shown_by_a_ring_of_one_packet():
    def misread(image):
        data = image.to_bytes()[4096:]
        return any(
            len(data) - start < packet.size
            for packet, start in zip(image.waiting, image.starts(), strict=True)
        )

    image = smallest(ring_images(), misread)
    assert len(image.waiting) == 1
    assert image.data_size == 4096


def test_the_smallest_is_the_same_each_time():
    found = [smallest(numbers(64), lambda value: value % 1000 == 999) for _ in range(3)]
    assert len(set(found)) == 1


def test_all_names_are_there_and_have_an_example():
    for name in strategies.__all__:
        value = getattr(strategies, name)
        assert name == "PACKET_KINDS" or name.endswith("arguments") or ">>> " in value.__doc__, name


def test_a_full_ring_is_full_to_a_sender_too():
    full = next(image for image in images() if image.free == 0)
    with pytest.raises(RingFull):
        OutgoingRing(full.memory()).send(b"")
    almost = next(image for image in images() if image.free == 24)
    sender = OutgoingRing(almost.memory())
    assert PacketSize.in_band(0) == 24
    sender.send(b"")
    with pytest.raises(RingFull):
        sender.send(b"")
