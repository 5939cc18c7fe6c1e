"""Images of rings are what they say, byte for byte.

The bytes of packets are compared with bytes spelled by hand.
"""

from __future__ import annotations

import struct

import pytest

from tests.fuzzing.some_images import COMPLETION, FULL_4096, IMAGES, IN_BAND, ODD, TRANSFER, check_reading
from tests.helpers import PACKET_KINDS, pattern
from vmbus.errors import CallerError
from vmbus.fuzzing import PacketImage, RingImage
from vmbus.fuzzing.ring_images import CORNERS, WRAPS
from vmbus.memory import FlatRingMem
from vmbus.pipe import MessagePipe
from vmbus.ring import IncomingRing, OutgoingRing

# -- packets -------------------------------------------------------------------------------------------------


def built(kind: str, payload: bytes) -> PacketImage:
    """A packet made by the builders, as tests.helpers spells it by hand."""
    by_hand = PACKET_KINDS[kind]
    fields = {"transaction_id": by_hand.transaction_id}
    if kind == "gpa-direct":
        return PacketImage.gpa_direct(by_hand.ranges, payload, **fields)
    if kind == "transfer-pages":
        return PacketImage.transfer_pages(by_hand.transfer_page_set_id, by_hand.ranges, payload, **fields)
    if kind == "completion":
        return PacketImage.completion(payload, **fields)
    return PacketImage.in_band(payload, completion_requested=bool(by_hand.flags), **fields)


@pytest.mark.parametrize("length", [0, 1, 8, 13, 40])
@pytest.mark.parametrize("kind", PACKET_KINDS)
def test_a_packet_has_the_bytes_that_are_spelled_by_hand(kind, length):
    payload = pattern(length)
    packet = built(kind, payload)
    whole = PACKET_KINDS[kind].whole(payload, 0x128)
    assert packet.to_bytes(0x128) == whole
    assert packet.size == len(whole)


FIRST = ["type", "data_offset8", "length8", "flags"]


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("value", [0, 0xFFFF])
def test_each_number_of_the_descriptor_can_be_anything(name, value):
    right, changed = IN_BAND.to_bytes(), IN_BAND.changed(**{name: value}).to_bytes()
    numbers = list(struct.unpack("<4H", right[:8]))
    numbers[FIRST.index(name)] = value
    assert changed == struct.pack("<4H", *numbers) + right[8:]


def test_padding_and_footer_can_be_anything():
    packet = PacketImage.in_band(b"hello", padding=b"\xee\xdd\xcc", footer=b"nofooter")
    assert packet.to_bytes(64)[16:] == b"hello\xee\xdd\xccnofooter"
    check_reading(RingImage(waiting=(packet,)))


def test_a_gpa_range_can_be_three_numbers_that_do_not_agree():
    packet = PacketImage.gpa_direct([(0, 4096, [7, 8])], range_count=9, reserved=5)
    assert packet.extension == struct.pack("<IIIIQQ", 5, 9, 0, 4096, 7, 8)
    assert packet.ranges == ()


def test_a_pipe_reads_the_packets_that_are_built_for_it():
    image = RingImage(waiting=(PacketImage.pipe(b"hello"), PacketImage.pipe(b"")), out_offset=4080)
    pipe = MessagePipe(IncomingRing(image.memory()), OutgoingRing(FlatRingMem(4096)))
    offset = pipe.incoming.incoming()
    assert [pipe.read(offset), pipe.read(offset)] == [b"hello", b""]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("type", {"type": 1 << 16}),
        ("flags", {"flags": -1}),
        ("transaction_id", {"transaction_id": 1 << 64}),
        ("length8", {"length8": 1 << 16}),
        ("extension", {"extension": bytes(4)}),
        ("padding", {"payload": b"123", "padding": bytes(4)}),
        ("footer", {"footer": bytes(7)}),
    ],
)
def test_a_packet_without_a_form_in_memory_is_refused(argument, values):
    with pytest.raises(CallerError) as caught:
        PacketImage(**values)
    assert caught.value.argument == argument


def test_a_packet_longer_than_its_number_can_say_is_refused_unless_the_number_is_given():
    packet = PacketImage.in_band(bytes(0x10000 * 8))
    with pytest.raises(CallerError):
        packet.to_bytes()
    assert packet.changed(length8=3).to_bytes()[4:6] == b"\x03\x00"


def test_a_packet_of_an_unknown_type_cannot_be_received():
    with pytest.raises(CallerError):
        PacketImage.unknown(8).as_received()


# -- rings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_strict_reader_finds_the_packets_of_an_image(image):
    check_reading(image)


@pytest.mark.parametrize("slot", [0, 1, 2, 3, 17, 62, 300, 510, 511])
def test_an_image_can_start_at_any_offset(slot):
    check_reading(RingImage(out_offset=8 * slot, waiting=FULL_4096))


@pytest.mark.parametrize("part", WRAPS)
def test_a_ring_that_ends_in_a_part_of_a_packet_says_so(part):
    places = {"descriptor": 8, "header": 24, "payload": TRANSFER.data_offset, "footer": TRANSFER.length}
    image = RingImage(waiting=(TRANSFER,), out_offset=4096 - places.get(part, TRANSFER.size))
    assert image.corners() & {f"end-in-{one}" for one in WRAPS} == {f"end-in-{part}"}
    check_reading(image)


def test_the_control_page_has_what_the_image_says():
    image = RingImage(
        out_offset=4088,
        waiting=(IN_BAND,),
        interrupt_mask=1,
        pending_send_size=0x1234,
        feature_bits=3,
        words=((31, 0xFFFF_FFFF), (5, 7)),
    )
    expected = [24, 4088, 1, 0x1234, 0, 7, *10 * [0], 3, *14 * [0], 0xFFFF_FFFF]
    assert struct.unpack("<32I", image.to_bytes()[:128]) == tuple(expected)
    assert not any(image.to_bytes()[128:4096])


def test_consumed_packets_end_where_the_waiting_ones_begin_and_stale_bytes_fill_the_rest():
    image = RingImage(out_offset=16, waiting=(ODD,), consumed=(IN_BAND, COMPLETION), stale=b"stale")
    data = image.to_bytes()[4096:]
    begin = 16 - IN_BAND.size - COMPLETION.size
    there = (data + data)[4096 + begin :][: 16 - begin + ODD.size]
    assert there == IN_BAND.to_bytes(begin + 4096) + COMPLETION.to_bytes(
        16 - COMPLETION.size + 4096
    ) + ODD.to_bytes(16)
    assert data[16 + ODD.size : 4096 + begin] in 1000 * b"stale"
    check_reading(image)


def test_a_full_image_has_no_room_for_another_slot():
    image = IMAGES["full"]
    assert (image.free, image.used) == (0, 4088)
    with pytest.raises(CallerError):
        image.changed(
            waiting=(*image.waiting[:-1], PacketImage.in_band(bytes(len(image.waiting[-1].payload) + 1)))
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"data_size": 4095},
        {"header_size": 8192},
        {"out_offset": 4096},
        {"out_offset": 4},
        {"waiting": (PacketImage.in_band(bytes(4088 - 23)),)},
        {"consumed": (PacketImage.in_band(bytes(4096 - 23)),)},
        {"words": ((32, 0),)},
        {"pending_send_size": 1 << 32},
        {"data_size": 1 << 20, "waiting": (PacketImage.in_band(bytes(1 << 19), length8=9),)},
    ],
)
def test_what_no_ring_can_be_is_refused(fields):
    with pytest.raises(CallerError):
        RingImage(**fields)


def test_the_images_of_these_tests_have_every_corner():
    found = set().union(*(image.corners() for image in IMAGES.values()))
    others = {f"end-in-{part}" for part in WRAPS} | {"one-slot-free", "wanted-space", "masked"}
    assert found | others == set(CORNERS)
