"""Inputs that are bugs elsewhere and errors here, one function each; tests/bug_coverage.py says which error.

Images are written by hand here, with plain `struct`: what is refused is not made by the code that refuses it.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from tests.virtio.by_hand import (
    BUFFERS,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    TABLES,
    WRITE,
    HandDriver,
    device_by_hand,
)
from vmbus.errors import PeerError
from vmbus.memory import FlatRingMem, GuestMemory, PagedRingMem
from vmbus.pipe import MessagePipe
from vmbus.protocols import parse_offer
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, connected_rings
from vmbus.virtio import DeviceQueue, VsockPacket
from vmbus.virtio.chains import Descriptor

SIZE = 4096
IN_BAND, GPA_DIRECT = 6, 9


def ring_with(words: dict[int, int], data: bytes = b"") -> FlatRingMem:
    """A ring whose control words (0 is in, 1 is out) and first bytes are these."""
    memory = FlatRingMem(SIZE)
    for word, value in words.items():
        memory.control[word] = value
    memory.write_at(0, data)
    return memory


def receive(data: bytes, in_offset: int | None = None) -> object:
    """What a receiver takes out of a ring that begins with `data`, published to its end."""
    published = len(data) if in_offset is None else in_offset
    return IncomingRing(ring_with({0: published}, data)).receive()


def packet(kind: int, data_offset: int, body: bytes, flags: int = 0) -> bytes:
    """A packet with its footer, its body standing behind the descriptor."""
    length = 16 + len(body)
    return struct.pack("<HHHHQ", kind, data_offset // 8, length // 8, flags, 7) + body + bytes(8)


# -- rings ---------------------------------------------------------------------------------------


def in_at_the_size() -> object:
    return receive(b"", SIZE)


def in_between_slots() -> object:
    return receive(packet(IN_BAND, 16, bytes(8)), 36)


def out_at_the_size() -> object:
    """A sender that needs to know what is free."""
    return OutgoingRing(ring_with({1: SIZE})).send(b"a packet")


def both_out_of_range() -> object:
    """Taken for equal indices of an empty ring, these would never end a wait."""
    return IncomingRing(ring_with({0: SIZE + 8, 1: SIZE + 8})).receive()


def footer_behind_in() -> object:
    return receive(packet(IN_BAND, 16, bytes(16)), 32)


def packet_too_long_for_16_bits() -> object:
    return OutgoingRing(FlatRingMem(1 << 20)).send(bytes(524_288 - 16))


def control_page_alone() -> object:
    return FlatRingMem.over(bytearray(4096))


def one_page_in_all() -> object:
    return PagedRingMem([bytearray(4096)])


def no_data_area() -> object:
    return FlatRingMem(0)


def buffer_too_small() -> object:
    sender, receiver = connected_rings()
    sender.send(bytes(16))
    return receiver.receive_into(bytearray(15))


def answer_longer_than_its_packet() -> object:
    return connected_rings()[0].send_packet(OutgoingPacket.completion(8, transaction_id=7), bytes(16))


def write_behind_a_packet() -> object:
    sender, _ = connected_rings()
    return sender.write(sender.outgoing(), OutgoingPacket.in_band(8)).writer(sender).write(bytes(16))


# -- packets -------------------------------------------------------------------------------------


def payload_inside_its_header() -> object:
    return receive(packet(GPA_DIRECT, 16, struct.pack("<IIIIQ", 0, 1, 8, 0, 7), flags=1))


def gpa_direct(count: int, *ranges: tuple[int, int]) -> bytes:
    """A packet that announces `count` ranges of (bytes, offset), each with one page."""
    listed = b"".join(struct.pack("<IIQ", *one, 7) for one in ranges)
    return packet(GPA_DIRECT, 16 + 8 + len(listed), struct.pack("<II", 0, count) + listed, flags=1)


def range_behind_its_page() -> object:
    return receive(gpa_direct(1, (8, 4096)))


def no_ranges() -> object:
    return receive(gpa_direct(0))


def range_of_no_bytes() -> object:
    return receive(gpa_direct(1, (0, 0)))


def unknown_flag() -> object:
    return receive(packet(IN_BAND, 16, bytes(8), flags=4))


def unknown_type() -> object:
    return receive(packet(5, 16, bytes(8)))


def pipe_length_above_its_packet() -> object:
    sender, receiver = connected_rings()
    sender.send(struct.pack("<II", 1, 2**32 - 1) + bytes(8))
    return MessagePipe(receiver, sender).read(receiver.incoming())


# -- other messages ------------------------------------------------------------------------------


def packet_longer_than_its_buffer() -> object:
    """A socket packet that announces 4 GiB less a byte in a buffer of 24."""
    memory = GuestMemory([(0, bytearray(0x4000))])
    memory.write(0x1000, struct.pack("<QQIIIHHIII", 3, 2, 1024, 1234, 2**32 - 1, 1, 5, 0, 1 << 18, 0))
    chain = [Descriptor(0, 0x1000, 44, NEXT, None), Descriptor(1, 0x2000, 24, 0, None)]
    return VsockPacket.from_tx_virtq_chain(memory, iter(chain), 0x1000)


def offer_cut_short() -> object:
    return parse_offer(struct.pack("<II", 1, 0) + bytes(100))


# -- virtqueues ----------------------------------------------------------------------------------


def queue(packed: bool = False) -> tuple[HandDriver, DeviceQueue]:
    """A driver written by hand, and a device with a queue of 16."""
    return device_by_hand(packed, features=INDIRECT_DESC)


def used_length_above_the_room() -> object:
    driver, device = queue()
    return device.add_used(taken(driver, device), 9)


def chain_given_back_twice() -> object:
    driver, device = queue()
    head = taken(driver, device)
    device.add_used(head, 8)
    return device.add_used(head, 8)


def taken(driver: HandDriver, device: DeviceQueue) -> int:
    """The head of a chain with room for 8 bytes, which the device has."""
    driver.offer((BUFFERS, 8, WRITE))
    chain = device.pop_descriptor_chain()
    assert chain is not None
    return chain.head_index


def available_index_jump() -> object:
    driver, device = queue()
    driver.set_avail_idx(17)
    return device.pop_descriptor_chain()


def offer_circle() -> DeviceQueue:
    driver, device = queue()
    driver.descriptor(3, BUFFERS, 8, NEXT, 3)
    driver.push(3)
    return device


def circle() -> object:
    return offer_circle().pop_descriptor_chain()


def circle_again() -> object:
    device = offer_circle()
    with suppress(PeerError):
        device.pop_descriptor_chain()
    return device.pop_descriptor_chain()


def nested_table() -> object:
    driver, device = queue()
    driver.offer_table(TABLES, driver.table(TABLES, (TABLES + 0x100, 16, INDIRECT, 0)))
    return device.pop_descriptor_chain()


def next_behind_the_last_entry() -> object:
    driver, device = queue()
    entries = ((BUFFERS, 8, NEXT, 1), (BUFFERS, 8, NEXT, 2))
    driver.offer_table(TABLES, driver.table(TABLES, *entries))
    return device.pop_descriptor_chain()


def chain_in_flight() -> object:
    driver, device = queue()
    driver.push(taken(driver, device))
    return device.pop_descriptor_chain()


def buffer_over_the_top() -> object:
    driver, device = queue()
    driver.offer((2**64 - 8, 16, 0))
    chain = device.pop_descriptor_chain()
    assert chain is not None
    return chain.read_all()


def split_queue_of_size_0() -> object:
    _, device = queue()
    device.set_ready(False)
    return device.set_size(0)


def packed_queue_of_size_0() -> object:
    _, device = queue(packed=True)
    device.set_ready(False)
    return device.set_size(0)


def pop_after_reset() -> object:
    driver, device = queue()
    driver.offer((BUFFERS, 8, WRITE))
    device.reset()
    return device.pop_descriptor_chain()
