"""The rings read, and write, what an independent implementation wrote.

The images of tests/samples come from a C implementation of the ring, each with a list of what was
written into it.  One of them has five data pages, a size that is no power of two.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.helpers import SAMPLE_NAMES, image_of, sample
from tests.known_bugs import known_bug
from vmbus.errors import RingEmpty
from vmbus.memory import FlatRingMem, PagedRingMem, RingMem
from vmbus.ring import (
    IncomingPacketType,
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    PagedRange,
    Ranges,
    TransferPageRange,
    connected_rings,
)

OUT_WORD = 1


def flat(image: bytes) -> FlatRingMem:
    return FlatRingMem.over(bytearray(image))


def paged(image: bytes) -> PagedRingMem:
    return PagedRingMem([bytearray(image[start : start + 4096]) for start in range(0, len(image), 4096)])


MEMORIES = pytest.mark.parametrize("memory_over", [flat, paged])
SAMPLES = pytest.mark.parametrize("name", SAMPLE_NAMES)


def listed_ranges(packet: dict[str, Any]) -> Ranges:
    """The ranges of a listed packet, taken out of its bytes by hand."""
    data = bytes.fromhex(packet["extra_header"])
    if not data:
        return ()
    count = struct.unpack_from("<I", data, 4)[0]
    if packet["type"] == 7:
        return tuple(TransferPageRange(*struct.unpack_from("<II", data, 8 + 8 * i)) for i in range(count))
    ranges = []
    at = 8
    for _ in range(count):
        byte_count, byte_offset = struct.unpack_from("<II", data, at)
        pages = (byte_offset + byte_count + 4095) // 4096
        ranges.append(PagedRange(byte_offset, byte_count, struct.unpack_from(f"<{pages}Q", data, at + 8)))
        at += 8 + 8 * pages
    return tuple(ranges)


def listed(written: dict[str, Any], *, consumed: bool | None = None) -> list[dict[str, Any]]:
    """The listed packets: all, the consumed or the waiting ones."""
    return [one for one in written["packets"] if consumed is None or one["consumed"] is consumed]


def packet_bytes(packet: dict[str, Any]) -> bytes:
    """A listed packet as it lies in the ring, footer included."""
    numbers = [packet[key] for key in ("type", "data_offset8", "length8", "flags", "transaction_id")]
    inside = bytes.fromhex(packet["extra_header"]) + bytes.fromhex(packet["payload"])
    return struct.pack("<HHHHQ", *numbers) + inside + struct.pack("<II", 0, packet["offset"])


def check_read_in_place(receiver: IncomingRing, packets: list[dict[str, Any]]) -> None:
    """The receiver reads exactly these packets, each from its own offset on."""
    incoming = receiver.incoming()
    for packet in packets:
        assert incoming.next_out == packet["offset"]
        found = receiver.read(incoming)
        numbers = [packet[key] for key in ("type", "data_offset8", "length8", "flags", "transaction_id")]
        assert list(found.descriptor) == numbers
        assert found.type is IncomingPacketType(packet["type"])
        assert found.extension.reader(receiver).read_all().hex() == packet["extra_header"]
        assert found.payload.reader(receiver).read_all().hex() == packet["payload"]
        assert found.ranges == listed_ranges(packet)
    with pytest.raises(RingEmpty):
        receiver.read(incoming)


def check_received(receiver: IncomingRing, packets: list[dict[str, Any]]) -> None:
    """The receiver takes out exactly these packets: half of them one by one, the rest at once."""
    half = len(packets) // 2
    found = [receiver.receive()[0] for _ in packets[:half]] + receiver.receive_many()[0]
    assert len(found) == len(packets)
    for one, packet in zip(found, packets, strict=True):
        assert (one.type, one.flags) == (packet["type"], packet["flags"])
        assert one.transaction_id == packet["transaction_id"]
        assert one.payload.hex() == packet["payload"]
        assert one.ranges == listed_ranges(packet)


# -- reading ---------------------------------------------------------------------------------------


@known_bug("B37")
@SAMPLES
@MEMORIES
def test_every_waiting_packet_of_a_sample_is_read_to_the_byte(name, memory_over):
    image, written = sample(name)
    waiting = listed(written, consumed=False)
    assert waiting
    receiver = IncomingRing(memory_over(image))
    check_read_in_place(receiver, waiting)
    check_received(receiver, waiting)
    assert receiver.memory.control[OUT_WORD] == written["control"]["in"]


@SAMPLES
@MEMORIES
def test_with_out_set_back_the_consumed_packets_are_read_to_the_byte_too(name, memory_over):
    image, written = sample(name)
    packets = listed(written)
    assert listed(written, consumed=True)
    memory = memory_over(image)
    memory.control[OUT_WORD] = packets[0]["offset"]
    receiver = IncomingRing(memory)
    check_read_in_place(receiver, packets)
    check_received(receiver, packets)


@SAMPLES
def test_a_sample_in_read_only_memory_is_read_and_left_as_it_is(name):
    image, written = sample(name)
    for memory in (FlatRingMem.over(image), read_only_pages(image)):
        check_read_in_place(IncomingRing(memory), listed(written, consumed=False))
        assert image_of(memory) == image[:128] + image[4096:]


def read_only_pages(image: bytes) -> PagedRingMem:
    return PagedRingMem([image[start : start + 4096] for start in range(0, len(image), 4096)])


# -- writing ---------------------------------------------------------------------------------------


def outgoing_packet(packet: dict[str, Any]) -> OutgoingPacket:
    """What to write so that the listed packet comes out."""
    size = len(packet["payload"]) // 2
    transaction_id = packet["transaction_id"]
    kind = IncomingPacketType(packet["type"])
    if kind is IncomingPacketType.GPA_DIRECT:
        return OutgoingPacket.gpa_direct(listed_ranges(packet), size, transaction_id=transaction_id)
    if kind is IncomingPacketType.TRANSFER_PAGES:
        set_id = int.from_bytes(bytes.fromhex(packet["extra_header"])[:2], "little")
        ranges = listed_ranges(packet)
        return OutgoingPacket.transfer_pages(set_id, ranges, size, transaction_id=transaction_id)
    if kind is IncomingPacketType.COMPLETION:
        return OutgoingPacket.completion(size, transaction_id=transaction_id)
    requested = bool(packet["flags"])
    return OutgoingPacket.in_band(size, transaction_id=transaction_id, completion_requested=requested)


def empty_ring_at(start: int, memory: RingMem) -> OutgoingRing:
    memory.write_at(0, b"\xa5" * memory.size)
    return connected_rings(memory=memory, start=start)[0]


def same_where_packets_lie(memory: RingMem, image: bytes, packets: list[dict[str, Any]]) -> None:
    """Every byte of the listed packets, footers included, is the sample's, whatever lies around."""
    original = FlatRingMem.over(image)
    for packet in packets:
        length = len(packet_bytes(packet))
        found = memory.read_at(packet["offset"], length)
        assert found == original.read_at(packet["offset"], length) == packet_bytes(packet)


@known_bug("B37")
@SAMPLES
@pytest.mark.parametrize("history", [False, True], ids=["waiting", "waiting and consumed"])
@MEMORIES
def test_writing_the_packets_of_a_sample_again_gives_the_same_bytes(name, memory_over, history):
    image, written = sample(name)
    packets = listed(written) if history else listed(written, consumed=False)
    sender = empty_ring_at(packets[0]["offset"], memory_over(bytes(len(image))))
    for packet in packets:
        outgoing = sender.outgoing()
        where = sender.write(outgoing, outgoing_packet(packet))
        where.writer(sender).write(bytes.fromhex(packet["payload"]))
        sender.commit_write(outgoing)
    same_where_packets_lie(sender.memory, image, packets)
    assert sender.memory.control[0] == written["control"]["in"]


@SAMPLES
@MEMORIES
def test_send_gives_the_same_bytes_as_the_samples_in_band_packets(name, memory_over):
    image, written = sample(name)
    in_band = [packet for packet in listed(written) if packet["type"] == 6]
    assert in_band
    for packet in in_band:
        sender = empty_ring_at(packet["offset"], memory_over(bytes(len(image))))
        sender.send(bytes.fromhex(packet["payload"]), packet["transaction_id"], bool(packet["flags"]))
        same_where_packets_lie(sender.memory, image, [packet])


# -- the samples are worth the trouble -----------------------------------------------------------------


def test_the_samples_hold_every_kind_of_packet_and_some_that_the_end_of_the_ring_cuts():
    kinds = set()
    wrapped = []
    for name in SAMPLE_NAMES:
        _, written = sample(name)
        for packet in listed(written):
            kinds.add((packet["type"], packet["flags"]))
            if packet["offset"] + len(packet_bytes(packet)) > written["data_size"]:
                wrapped.append((name, packet["consumed"]))
    assert kinds == {(6, 0), (6, 1), (11, 0), (9, 1), (7, 1)}
    assert wrapped == [("ring-1-page", True), ("ring-4-pages-wrapped", False), ("ring-5-pages", True)]


@known_bug("B37")
def test_the_ring_of_5_pages_is_no_power_of_two():
    image, written = sample("ring-5-pages")
    assert len(image) - 4096 == written["data_size"] == 20480
    assert any(packet["offset"] + packet["length8"] * 8 >= 16384 for packet in listed(written))
