"""A packet in a chain of descriptors: what is found, what is refused and in which order, and a
header that is read once.

S1 to S29 number the cases of the tests of rust-vmm's virtio-vsock, and a few that follow, with
addresses and lengths of our own.  Headers are spelled by hand with struct.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.known_bugs import known_bug
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    PKT_HEADER_SIZE,
    VSOCK_HEADER,
    Descriptor,
    PacketSlice,
    VirtioFeatures,
    VsockFault,
    VsockHeader,
    VsockPacket,
    connected_virtqueues,
)

HEADER = struct.Struct("<QQIIIHHIII")

R, W = 0, 2
NEXT = 1

#: Memory is [0, END): the four last bytes of it are at LAST.
END = 0x9004
LAST = 0x9000
OUTSIDE = 0xA000
MOST = 0x4000

#: A flow from guest 3, port 1024 to the host's port 1234 with a buffer of 256 KiB.
REQUEST = bytes.fromhex(
    "0300000000000000 0200000000000000 00040000 d2040000 00000000 0100 0100 00000000 00000400 00000000"
)
FIVE_BYTES = bytes.fromhex(
    "0300000000000000 0200000000000000 00040000 d2040000 05000000 0100 0500 00000000 00000400 00000000"
)
ALL_FIELDS = bytes.fromhex(
    "0100000000000000 0200000000000000 03000000 04000000 10000000 0500 0600 0f000000 00010000 09000000"
)

GETTERS = (
    "src_cid",
    "dst_cid",
    "src_port",
    "dst_port",
    "len",
    "type_",
    "op",
    "flags",
    "buf_alloc",
    "fwd_cnt",
)
#: Setter, byte offset, bytes.
SETTERS = {
    "src_cid": ("set_src_cid", 0, 8),
    "dst_cid": ("set_dst_cid", 8, 8),
    "src_port": ("set_src_port", 16, 4),
    "dst_port": ("set_dst_port", 20, 4),
    "len": ("set_len", 24, 4),
    "type_": ("set_type", 28, 2),
    "op": ("set_op", 30, 2),
    "flags": ("set_flags", 32, 4),
    "buf_alloc": ("set_buf_alloc", 36, 4),
    "fwd_cnt": ("set_fwd_cnt", 40, 4),
}


def new_memory(size: int = END) -> GuestMemory:
    return GuestMemory([(0, bytearray(size))])


def header_with(length: int) -> bytes:
    return HEADER.pack(3, 2, 1024, 1234, length, 1, 5, 0, 1 << 18, 0)


def chain_of(*buffers: tuple[int, int, int]) -> Iterator[Descriptor]:
    """Descriptors 5, 6, … of (address, length, flags), each but the last with NEXT."""
    last = len(buffers) - 1
    for number, (address, length, flags) in enumerate(buffers):
        yield Descriptor(number + 5, address, length, flags | (NEXT if number < last else 0), None)


def parse(side: str, memory: GuestMemory, *buffers: tuple[int, int, int], most: int = MOST) -> VsockPacket:
    way = VsockPacket.from_rx_virtq_chain if side == "rx" else VsockPacket.from_tx_virtq_chain
    return way(memory, chain_of(*buffers), most)


def values(packet: VsockPacket) -> tuple[int, ...]:
    return tuple(getattr(packet, name) for name in GETTERS)


# -- the chains that must be refused ----------------------------------------------------------------


class Refused(NamedTuple):
    """A chain, and what is said of it."""

    side: str
    buffers: list[tuple[int, int, int]]
    kind: VsockFault
    found: object
    allowed: object
    descriptor: int | None = 5
    header: bytes = bytes(44)
    most: int = MOST


F = VsockFault
SECOND = (0x3000, 0x200, W)
PAYLOAD = header_with(24)
IN_ONE = "inside one region"

REFUSED = {
    "S1 rx, head readable": Refused(
        "rx", [(0x2000, 0x80, R), SECOND], F.UNEXPECTED_READ_ONLY_DESCRIPTOR, "readable", "writable"
    ),
    "S2 rx, head of 43": Refused("rx", [(0x2000, 43, W), SECOND], F.DESCRIPTOR_LENGTH_TOO_SMALL, 43, 44),
    "S3 rx, second one longer than the most": Refused(
        "rx",
        [(0x2000, 44, W), (0x3000, MOST + 1, W)],
        F.DESCRIPTOR_LENGTH_TOO_LONG,
        MOST + 1,
        MOST,
        descriptor=6,
    ),
    "S4 rx, only a header": Refused("rx", [(0x2000, 44, W)], F.DESCRIPTOR_CHAIN_TOO_SHORT, 0, 1),
    "S5 rx, header over the end": Refused("rx", [(LAST, 0x80, W), SECOND], F.FRAGMENTED_MEMORY, END, IN_ONE),
    "S6 rx, header outside": Refused(
        "rx", [(OUTSIDE, 0x80, W), SECOND], F.INVALID_MEMORY_ACCESS, OUTSIDE, IN_ONE
    ),
    "S7 rx, second readable": Refused(
        "rx",
        [(0x2000, 0x80, W), (0x3000, 0x200, R)],
        F.UNEXPECTED_READ_ONLY_DESCRIPTOR,
        "readable",
        "writable",
        descriptor=6,
    ),
    "S8 rx, data over the end": Refused(
        "rx", [(0x2000, 0x80, W), (LAST, 0x200, W)], F.FRAGMENTED_MEMORY, END, IN_ONE, descriptor=6
    ),
    "S9 rx, data outside": Refused(
        "rx", [(0x2000, 0x80, W), (OUTSIDE, 0x200, W)], F.INVALID_MEMORY_ACCESS, OUTSIDE, IN_ONE, descriptor=6
    ),
    "S12 tx, head writable": Refused(
        "tx", [(0x2000, 0x80, W), SECOND], F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR, "writable", "readable"
    ),
    "S13 tx, head of 43": Refused("tx", [(0x2000, 43, R)], F.DESCRIPTOR_LENGTH_TOO_SMALL, 43, 44),
    "S15 tx, more payload than the most": Refused(
        "tx",
        [(0x2000, 44, R), (0x3000, 0x200, R)],
        F.INVALID_HEADER_LENGTH,
        65537,
        65536,
        header=header_with(65537),
        most=65536,
    ),
    "S16 tx, payload and no descriptor for it": Refused(
        "tx", [(0x2000, 44, R)], F.DESCRIPTOR_CHAIN_TOO_SHORT, 0, 24, header=PAYLOAD
    ),
    "S17 tx, data over the end": Refused(
        "tx",
        [(0x2000, 44, R), (LAST, 0x200, R)],
        F.FRAGMENTED_MEMORY,
        END,
        IN_ONE,
        descriptor=6,
        header=PAYLOAD,
    ),
    "S18 tx, data outside": Refused(
        "tx",
        [(0x2000, 44, R), (OUTSIDE, 0x200, R)],
        F.INVALID_MEMORY_ACCESS,
        OUTSIDE,
        IN_ONE,
        descriptor=6,
        header=PAYLOAD,
    ),
    "S19 tx, second writable": Refused(
        "tx",
        [(0x2000, 44, R), SECOND],
        F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR,
        "writable",
        "readable",
        descriptor=6,
        header=PAYLOAD,
    ),
    "S20 tx, second a byte too short": Refused(
        "tx",
        [(0x2000, 44, R), (0x3000, 23, R)],
        F.DESCRIPTOR_LENGTH_TOO_SMALL,
        23,
        24,
        descriptor=6,
        header=PAYLOAD,
    ),
    "S28 tx, header over the end": Refused("tx", [(LAST, 0x80, R)], F.FRAGMENTED_MEMORY, END, IN_ONE),
    "S29 tx, header outside": Refused("tx", [(OUTSIDE, 0x80, R)], F.INVALID_MEMORY_ACCESS, OUTSIDE, IN_ONE),
    "tx, no descriptor": Refused("tx", [], F.DESCRIPTOR_CHAIN_TOO_SHORT, 0, 1, descriptor=None),
    "rx, no descriptor": Refused("rx", [], F.DESCRIPTOR_CHAIN_TOO_SHORT, 0, 1, descriptor=None),
    "tx, one descriptor a byte too short": Refused(
        "tx", [(0x2000, 44 + 23, R)], F.DESCRIPTOR_CHAIN_TOO_SHORT, 23, 24, header=PAYLOAD
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_chain_that_holds_no_packet_is_refused_with_its_rule_and_descriptor(case):
    memory = new_memory()
    memory.write(0x2000, case.header)
    before = memory.read(0, END)
    with pytest.raises(PeerError) as raised:
        parse(case.side, memory, *case.buffers, most=case.most)
    error = raised.value
    assert (error.kind, error.found, error.allowed) == (case.kind, case.found, case.allowed)
    assert (error.descriptor, error.entry) == (case.descriptor, None)
    assert memory.read(0, END) == before


@pytest.mark.parametrize("side", ["rx", "tx"])
def test_the_documented_example_reaches_memory_that_is_not_there(side):
    """64 KiB of memory, and descriptors far above."""
    flags = W if side == "rx" else R
    with pytest.raises(PeerError) as raised:
        parse(side, new_memory(0x10000), (0x50000, 0x100, flags), (0x80000, 0x100, flags), most=65536)
    assert (raised.value.kind, raised.value.found) == (F.INVALID_MEMORY_ACCESS, 0x50000)


@pytest.mark.parametrize("side", ["rx", "tx"])
def test_a_part_that_crosses_into_the_region_that_touches_is_fragmented_all_the_same(side):
    memory = GuestMemory([(0, bytearray(0x1000)), (0x1000, bytearray(0x1000))])
    flags = W if side == "rx" else R
    with pytest.raises(PeerError) as raised:
        parse(side, memory, (0x1000 - 43, 44 + 8, flags))
    assert (raised.value.kind, raised.value.found) == (F.FRAGMENTED_MEMORY, 0x1000)
    memory.write(0x800, header_with(8))
    with pytest.raises(PeerError) as raised:
        parse(side, memory, (0x800, 44, flags), (0x1000 - 7, 8, flags))
    assert (raised.value.kind, raised.value.found, raised.value.descriptor) == (
        F.FRAGMENTED_MEMORY,
        0x1000,
        6,
    )


@pytest.mark.parametrize("side", ["rx", "tx"])
def test_a_header_that_ends_at_the_top_of_memory_leaves_no_address_for_data(side):
    top = 2**64
    memory = GuestMemory([(top - 44, bytearray(header_with(8)))])
    with pytest.raises(PeerError) as raised:
        parse(side, memory, (top - 44, 44 + 8, W if side == "rx" else R))
    assert raised.value.kind is F.DESCRIPTOR_LENGTH_TOO_SMALL


@pytest.mark.parametrize("side", ["rx", "tx"])
def test_next_without_another_descriptor_is_a_chain_too_short(side):
    memory = new_memory()
    memory.write(0x2000, header_with(8))
    cut = [Descriptor(5, 0x2000, 44 + 8, NEXT | (W if side == "rx" else R), None)]
    way = VsockPacket.from_rx_virtq_chain if side == "rx" else VsockPacket.from_tx_virtq_chain
    with pytest.raises(PeerError) as raised:
        way(memory, cut, MOST)
    assert raised.value.kind is F.DESCRIPTOR_CHAIN_TOO_SHORT


def test_an_entry_of_an_indirect_table_is_named_as_one():
    memory = new_memory()
    with pytest.raises(PeerError) as raised:
        VsockPacket.from_tx_virtq_chain(memory, [Descriptor(1, 0x2000, 8, R, 9)], MOST)
    assert (raised.value.descriptor, raised.value.entry) == (9, 1)
    assert (
        str(raised.value) == "entry 1 of the table of descriptor 9 has 8 bytes, and needs 44 for the header"
    )


@pytest.mark.parametrize("place", ["header", "data"])
def test_room_in_memory_that_can_only_be_read_is_the_guests_fault(place):
    memory = GuestMemory([(0, bytearray(0x1000)), (0x1000, bytes(0x1000))])
    header, data = (0x1000, 0x800) if place == "header" else (0x800, 0x1000)
    with pytest.raises(PeerError) as raised:
        parse("rx", memory, (header, 44, W), (data, 64, W))
    assert (raised.value.kind, raised.value.found) == (F.INVALID_MEMORY_ACCESS, 0x1000)
    assert raised.value.descriptor == (5 if place == "header" else 6)


# -- of two rules that are broken, the first is reported ---------------------------------------------

#: A header that reads as one with too much payload lies across two regions here.
SPLIT_AT = 0x4000
CROSSING = SPLIT_AT - 8


def two_regions() -> GuestMemory:
    memory = GuestMemory([(0, bytearray(SPLIT_AT)), (SPLIT_AT, bytearray(0x2000))])
    memory.write(CROSSING, header_with(MOST + 1))
    memory.write(0x2000, header_with(24))
    memory.write(0x2800, header_with(MOST + 1))
    return memory


BOTH_BROKEN = {
    "tx direction before length": (
        "tx",
        [(0x2000, 43, W)],
        F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR,
    ),
    "tx direction before memory": ("tx", [(OUTSIDE, 44, W)], F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR),
    "tx length before memory": ("tx", [(OUTSIDE, 43, R)], F.DESCRIPTOR_LENGTH_TOO_SMALL),
    "tx memory before the header's length": ("tx", [(CROSSING, 44, R)], F.FRAGMENTED_MEMORY),
    "tx header's length before a missing descriptor": ("tx", [(0x2800, 44, R)], F.INVALID_HEADER_LENGTH),
    "tx header's length before the second one's direction": (
        "tx",
        [(0x2800, 44, R), (0x3000, 64, W)],
        F.INVALID_HEADER_LENGTH,
    ),
    "tx second one's direction before its length": (
        "tx",
        [(0x2000, 44, R), (0x3000, 23, W)],
        F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR,
    ),
    "tx second one's length before its memory": (
        "tx",
        [(0x2000, 44, R), (OUTSIDE, 23, R)],
        F.DESCRIPTOR_LENGTH_TOO_SMALL,
    ),
    "tx head before the second one": ("tx", [(OUTSIDE, 44, R), (OUTSIDE, 1, W)], F.INVALID_MEMORY_ACCESS),
    "rx direction before length": ("rx", [(0x2000, 43, R)], F.UNEXPECTED_READ_ONLY_DESCRIPTOR),
    "rx length before memory": ("rx", [(OUTSIDE, 43, W)], F.DESCRIPTOR_LENGTH_TOO_SMALL),
    "rx memory before a missing descriptor": ("rx", [(CROSSING, 44, W)], F.FRAGMENTED_MEMORY),
    "rx memory before the second one's direction": (
        "rx",
        [(OUTSIDE, 44, W), (0x3000, 64, R)],
        F.INVALID_MEMORY_ACCESS,
    ),
    "rx second one's direction before its length": (
        "rx",
        [(0x2000, 44, W), (0x3000, MOST + 1, R)],
        F.UNEXPECTED_READ_ONLY_DESCRIPTOR,
    ),
    "rx second one's length before its memory": (
        "rx",
        [(0x2000, 44, W), (OUTSIDE, MOST + 1, W)],
        F.DESCRIPTOR_LENGTH_TOO_LONG,
    ),
}


@pytest.mark.parametrize(("side", "buffers", "kind"), BOTH_BROKEN.values(), ids=BOTH_BROKEN)
def test_of_two_broken_rules_the_first_is_reported(side, buffers, kind):
    with pytest.raises(PeerError) as raised:
        parse(side, two_regions(), *buffers)
    assert raised.value.kind is kind


# -- the chains that hold a packet ------------------------------------------------------------------


def test_rx_gives_a_zero_header_and_all_the_room_of_the_second_descriptor_once():
    """S10."""
    memory = new_memory()
    memory.write(0x2000, b"\xee" * 0x80)
    memory.write(0x3000, bytes(range(200)))
    descriptors = chain_of((0x2000, 0x80, W), (0x3000, 200, W))
    packet = VsockPacket.from_rx_virtq_chain(memory, descriptors, MOST)
    assert values(packet) == (0,) * 10
    assert packet.data_slice().read() == bytes(range(200))
    assert memory.read(0x2000, 44) == packet.header_slice().read() == b"\xee" * 44
    packet.data_slice().write(0, b"there")
    assert memory.read(0x3000, 5) == b"there"
    with pytest.raises(PeerError) as raised:
        VsockPacket.from_rx_virtq_chain(memory, descriptors, MOST)
    assert raised.value.kind is F.DESCRIPTOR_CHAIN_TOO_SHORT


@known_bug("V14")
@pytest.mark.parametrize("room", [1, 200, MOST + 1])
def test_rx_takes_header_and_data_in_one_descriptor_of_any_size(room):
    """S11; the most applies only to a descriptor for data alone."""
    memory = new_memory()
    packet = parse("rx", memory, (0x2000, 44 + room, W))
    assert len(packet.data_slice()) == room
    packet.data_slice().write(room - 1, b"z")
    assert memory.read(0x2000 + 44 + room - 1, 1) == b"z"


@pytest.mark.parametrize(("length", "expected"), [(0, None), (1, 1), (MOST, MOST)])
def test_rx_takes_a_second_descriptor_of_up_to_the_most(length, expected):
    packet = parse("rx", new_memory(), (0x1000, 44, W), (0x2000, length, W))
    data = packet.data_slice()
    assert (None if data is None else len(data)) == expected


def test_rx_may_have_its_empty_second_descriptor_anywhere():
    assert parse("rx", new_memory(), (0x1000, 44, W), (OUTSIDE, 0, W)).data_slice() is None


@pytest.mark.parametrize("length", [44, 45, 0x80])
def test_tx_without_payload_needs_only_a_header(length):
    """S14."""
    memory = new_memory()
    memory.write(0x2000, REQUEST)
    packet = parse("tx", memory, (0x2000, length, R))
    assert packet.data_slice() is None
    assert packet.is_empty
    assert values(packet) == (3, 2, 1024, 1234, 0, 1, 1, 0, 1 << 18, 0)


def test_tx_without_payload_ignores_whatever_follows():
    """S14: the check of the second descriptor is never made."""
    memory = new_memory()
    memory.write(0x2000, REQUEST)
    assert parse("tx", memory, (0x2000, 44, R), (OUTSIDE, 1, W)).data_slice() is None


@pytest.mark.parametrize("length", [24, 25, 0x200])
@pytest.mark.parametrize("head", [44, 44 + 24, 0x200], ids=["header alone", "room for both", "room for more"])
def test_tx_takes_as_much_of_the_second_descriptor_as_the_header_says(head, length):
    """S21: also where the head would have had room, and however long the second one is."""
    memory = new_memory()
    memory.write(0x2000, header_with(24) + b"x" * 0x200)
    memory.write(0x3000, bytes(range(100, 150)))
    descriptors = chain_of((0x2000, head, R), (0x3000, length, R), (OUTSIDE, 7, W))
    packet = VsockPacket.from_tx_virtq_chain(memory, descriptors, MOST)
    assert packet.data_slice().read() == bytes(range(100, 124))
    assert packet.len == 24
    with pytest.raises(PeerError):
        VsockPacket.from_tx_virtq_chain(memory, descriptors, MOST)


def test_parsing_an_iterator_again_finds_no_descriptor():
    """S21."""
    memory = new_memory()
    memory.write(0x2000, header_with(24))
    descriptors = chain_of((0x2000, 44, R), (0x3000, 24, R))
    VsockPacket.from_tx_virtq_chain(memory, descriptors, MOST)
    with pytest.raises(PeerError) as raised:
        VsockPacket.from_tx_virtq_chain(memory, descriptors, MOST)
    assert raised.value.kind is F.DESCRIPTOR_CHAIN_TOO_SHORT


@known_bug("V14")
@pytest.mark.parametrize("length", [44 + 24, 44 + 25, 44 + 0x200])
def test_tx_takes_header_and_data_in_one_descriptor(length):
    """S22."""
    memory = new_memory()
    memory.write(0x2000, header_with(24) + bytes(range(60)))
    packet = parse("tx", memory, (0x2000, length, R))
    assert packet.data_slice().read() == bytes(range(24))


@pytest.mark.parametrize("most", [24, 25])
def test_tx_takes_payload_of_up_to_the_most(most):
    memory = new_memory()
    memory.write(0x2000, header_with(24) + bytes(24))
    assert len(parse("tx", memory, (0x2000, 68, R), most=most).data_slice()) == 24


def test_no_packet_has_less_than_no_data():
    with pytest.raises(CallerError) as raised:
        parse("tx", new_memory(), (0x2000, 44, R), most=-1)
    assert raised.value.argument == "max_data_size"


# -- over real queues -------------------------------------------------------------------------------

FEATURES = {
    "split": VirtioFeatures.VERSION_1,
    "packed": VirtioFeatures.VERSION_1 | VirtioFeatures.RING_PACKED,
}


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("apart", [False, True], ids=["one descriptor", "two"])
def test_a_packet_goes_through_a_queue_either_way(features, indirect, apart):
    memory = new_memory(0x10000)
    driver, device = connected_virtqueues(
        8, features | VirtioFeatures.RING_INDIRECT_DESC, memory=memory, indirect_size=4
    )
    memory.write(0x8000, FIVE_BYTES + (b"" if apart else b"hello"))
    memory.write(0x9000, b"hello")
    memory.write(0xA000, b"\xff" * 64)

    def send(place, add_descriptor):
        add_descriptor(0x8000, 44 if apart else 49)
        if apart:
            add_descriptor(0x9000, 16)

    def offer_room(place, add_descriptor):
        if apart:
            add_descriptor(0xA000, 44, from_dev=True)
            add_descriptor(0xB000, 16, from_dev=True)
        else:
            add_descriptor(0xA000, 60, from_dev=True)

    driver.add_request(send, indirect=indirect)
    driver.add_request(offer_room, indirect=indirect)
    chain = device.pop_descriptor_chain()
    packet = VsockPacket.from_tx_virtq_chain(memory, chain)
    assert packet.header == (3, 2, 1024, 1234, 5, 1, 5, 0, 1 << 18, 0)
    assert packet.data_slice().read() == b"hello"
    # a DescriptorChain is read from its start each time
    assert VsockPacket.from_tx_virtq_chain(memory, chain).header == packet.header
    device.add_used(chain.head_index, 0)
    chain = device.pop_descriptor_chain()
    answer = VsockPacket.from_rx_virtq_chain(memory, chain)
    answer.set_header_from_raw(FIVE_BYTES)
    answer.data_slice().write(0, b"world")
    device.add_used(chain.head_index, PKT_HEADER_SIZE + 5)
    assert [completion.length for completion in driver.completions()] == [0, 49]
    assert memory.read(0xA000, 44) == FIVE_BYTES
    assert memory.read(0xB000 if apart else 0xA000 + 44, 5) == b"world"


def test_a_chain_of_a_queue_names_its_own_descriptor():
    memory = new_memory(0x10000)
    driver, device = connected_virtqueues(8, memory=memory)
    driver.add_request(lambda place, add: (add(0x8000, 44), add(OUTSIDE * 2, 8)))
    chain = device.pop_descriptor_chain()
    memory.write(0x8000, FIVE_BYTES)
    with pytest.raises(PeerError) as raised:
        VsockPacket.from_tx_virtq_chain(memory, chain)
    assert raised.value.descriptor == chain.descriptors[1].number


# -- header, getters, setters -----------------------------------------------------------------------


def test_the_golden_header_is_what_the_setters_store():
    """S23."""
    shared = bytearray(44)
    packet = VsockPacket.new(shared)
    packet.set_src_cid(1).set_dst_cid(2).set_src_port(3).set_dst_port(4).set_len(16).set_type(5)
    assert packet.set_op(6).set_flags(7).set_flag(8).set_buf_alloc(256).set_fwd_cnt(9) is packet
    assert bytes(shared) == ALL_FIELDS
    assert values(packet) == (1, 2, 3, 4, 16, 5, 6, 15, 256, 9)
    assert packet.header == VsockHeader(1, 2, 3, 4, 16, 5, 6, 15, 256, 9)
    assert not packet.is_empty


@pytest.mark.parametrize("name", SETTERS)
def test_each_setter_takes_what_its_field_holds_and_nothing_else(name):
    setter, offset, size = SETTERS[name]
    shared = bytearray(b"\xa5" * 44)
    packet = VsockPacket.new(shared)
    largest = (1 << 8 * size) - 1
    for value in (0, 1, largest):
        assert getattr(packet, setter)(value) is packet
        assert getattr(packet, name) == value
        expected = bytearray(b"\xa5" * 44)
        expected[offset : offset + size] = value.to_bytes(size, "little")
        assert shared == expected
    for value in (-1, largest + 1, 1 << 70):
        with pytest.raises(CallerError) as raised:
            getattr(packet, setter)(value)
        assert (raised.value.value, raised.value.limit) == (value, largest)
        assert getattr(packet, name) == largest
        assert shared == expected
    for value in (1.5, "1", None):
        with pytest.raises(TypeError):
            getattr(packet, setter)(value)
        assert shared == expected


def test_a_flag_is_added_to_the_private_copy_not_to_what_the_guest_wrote():
    shared = bytearray(44)
    packet = VsockPacket.new(shared).set_flags(1)
    shared[32:36] = b"\xf0\xf0\xf0\xf0"
    assert packet.set_flag(4).flags == 5
    assert shared[32:36] == b"\5\0\0\0"
    with pytest.raises(CallerError):
        packet.set_flag(1 << 32)
    assert packet.flags == 5


@pytest.mark.parametrize("length", [0, 43, 45, 88])
def test_a_raw_header_of_another_size_changes_nothing(length):
    """S24, S25."""
    shared = bytearray(ALL_FIELDS)
    packet = VsockPacket.new(shared).set_len(3)
    for call in (lambda: packet.set_header_from_raw(bytes(length)), lambda: VsockPacket.new(bytes(length))):
        with pytest.raises(CallerError) as raised:
            call()
        assert (raised.value.argument, raised.value.value, raised.value.limit) == ("header", length, 44)
    assert packet.len == 3
    assert bytes(shared) == ALL_FIELDS[:24] + b"\3\0\0\0" + ALL_FIELDS[28:]


def test_a_raw_header_is_stored_and_read_back():
    shared = bytearray(44)
    packet = VsockPacket.new(shared)
    assert packet.set_header_from_raw(ALL_FIELDS) is packet
    assert bytes(shared) == ALL_FIELDS
    assert values(packet) == (1, 2, 3, 4, 16, 5, 6, 15, 256, 9)


@pytest.mark.parametrize("data", [None, b"", bytes(5), bytearray(70000)])
def test_a_new_packet_starts_at_zero_over_any_bytes_and_with_any_data(data):
    shared = bytearray(ALL_FIELDS)
    packet = VsockPacket.new(shared, data)
    assert values(packet) == (0,) * 10
    assert bytes(shared) == ALL_FIELDS
    assert (packet.data_slice() is None) == (data is None)
    if data is not None:
        assert len(packet.data_slice()) == len(data)


def test_what_the_guest_writes_after_the_parse_changes_no_getter():
    """S26."""
    memory = new_memory()
    memory.write(0x2000, FIVE_BYTES + b"hello")
    packet = parse("tx", memory, (0x2000, 49, R))
    before = values(packet)
    memory.write(0x2000, b"\xff" * 49)
    assert values(packet) == before
    assert len(packet.data_slice()) == 5
    assert packet.header_slice().read() == b"\xff" * 44
    packet.header_slice().write(24, b"\1\0\0\0")
    assert packet.len == 5


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 45), (44, 1), (43, 2), (-1, 1), (45, 0), (1, -1), (1 << 70, 1)]
)
def test_a_slice_has_nothing_outside_itself(offset, length):
    """S27."""
    shared = bytearray(44)
    header = VsockPacket.new(shared).header_slice()
    calls: list[Callable[[], Any]] = [lambda: header.read(offset, length)]
    if length >= 0:
        calls += [
            lambda: header.write(offset, b"x" * length),
            lambda: header.write_slice(b"x" * length, offset),
            lambda: header.read_slice(bytearray(length), offset),
        ]
    for call in calls:
        with pytest.raises(CallerError) as raised:
            call()
        assert (raised.value.argument, raised.value.limit) == ("offset", 44)
    assert shared == bytes(44)


def test_a_slice_reads_and_writes_in_place():
    shared = bytearray(range(10))
    part = PacketSlice(shared)
    target = bytearray(3)
    part.read_slice(target, 2)
    part.write_slice(b"ab", 8)
    part.write(10, b"")
    assert (target, part.read(8), part.read(0, 0), len(part)) == (b"\2\3\4", b"ab", b"", 10)
    assert bool(PacketSlice(b""))


def test_memory_that_can_only_be_read_refuses_every_setter_and_keeps_the_getters():
    memory = GuestMemory([(0, FIVE_BYTES + b"hello")])
    packet = parse("tx", memory, (0, 49, R))
    before = values(packet)
    calls = [getattr(packet, setter) for setter, _, _ in SETTERS.values()]
    calls += [packet.set_flag, lambda value: packet.set_header_from_raw(bytes(44))]
    calls += [lambda value: packet.data_slice().write(0, b"x")]
    for call in calls:
        with pytest.raises(CallerError) as raised:
            call(1)
        assert (raised.value.argument, raised.value.value) == ("memory", "read-only")
    assert values(packet) == before


def test_a_packet_shows_itself():
    packet = VsockPacket.new(bytearray(44)).set_header_from_raw(FIVE_BYTES)
    assert repr(packet) == (
        "<VsockPacket: stream rw, 3:1024 to 2:1234, 5 bytes, flags 0x0, buf_alloc 262144, fwd_cnt 0, no data>"
    )
    assert "unknown-9 unknown-77" in repr(packet.set_type(9).set_op(77))
    assert repr(PacketSlice(bytes(2))) == "<PacketSlice: 2 bytes, read-only>"


def test_the_golden_headers_are_what_the_schema_says():
    assert PKT_HEADER_SIZE == 44
    for golden in (REQUEST, FIVE_BYTES, ALL_FIELDS):
        header = VSOCK_HEADER.unpack(golden)
        assert tuple(header) == HEADER.unpack(golden)
        assert VSOCK_HEADER.pack(header) == golden


# -- any bytes, and any order of calls ----------------------------------------------------------------


def slow_tx(memory: bytes, buffers: list[tuple[int, int, int]], most: int) -> object:
    """What a tx chain holds, said slowly: (header, payload), or the fault."""

    def part(address: int, length: int) -> bytes | VsockFault:
        if address >= len(memory):
            return F.INVALID_MEMORY_ACCESS
        if address + length > len(memory):
            return F.FRAGMENTED_MEMORY
        return memory[address : address + length]

    if not buffers:
        return F.DESCRIPTOR_CHAIN_TOO_SHORT
    address, size, flags = buffers[0]
    if flags & W:
        return F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR
    if size < 44:
        return F.DESCRIPTOR_LENGTH_TOO_SMALL
    header = part(address, 44)
    if isinstance(header, VsockFault):
        return header
    length = int.from_bytes(header[24:28], "little")
    if length == 0:
        return header, None
    if length > most:
        return F.INVALID_HEADER_LENGTH
    if len(buffers) > 1:
        address, size, flags = buffers[1]
        if flags & W:
            return F.UNEXPECTED_WRITE_ONLY_DESCRIPTOR
        if size < length:
            return F.DESCRIPTOR_LENGTH_TOO_SMALL
    elif size - 44 < length:
        return F.DESCRIPTOR_CHAIN_TOO_SHORT
    else:
        address += 44
    data = part(address, length)
    return data if isinstance(data, VsockFault) else (header, data)


def slow_rx(size_of_memory: int, buffers: list[tuple[int, int, int]], most: int) -> object:
    """Where an rx chain has room: (header's address, data's address and length), or the fault."""

    def refuse(address: int, length: int) -> VsockFault | None:
        if address + length <= size_of_memory:
            return None
        return F.INVALID_MEMORY_ACCESS if address >= size_of_memory else F.FRAGMENTED_MEMORY

    if not buffers:
        return F.DESCRIPTOR_CHAIN_TOO_SHORT
    head, size, flags = buffers[0]
    if not flags & W:
        return F.UNEXPECTED_READ_ONLY_DESCRIPTOR
    if size < 44:
        return F.DESCRIPTOR_LENGTH_TOO_SMALL
    if wrong := refuse(head, 44):
        return wrong
    if len(buffers) > 1:
        address, length, flags = buffers[1]
        if not flags & W:
            return F.UNEXPECTED_READ_ONLY_DESCRIPTOR
        if length > most:
            return F.DESCRIPTOR_LENGTH_TOO_LONG
        if length == 0:
            return head, None
    elif size == 44:
        return F.DESCRIPTOR_CHAIN_TOO_SHORT
    else:
        address, length = head + 44, size - 44
    return refuse(address, length) or (head, (address, length))


SMALL = 256
descriptor = st.tuples(
    st.integers(0, SMALL + 20),
    st.sampled_from([0, 1, 7, 8, 43, 44, 45, 51, 52, 53, 300]),
    st.sampled_from([R, W]),
)
mostly_readable = st.tuples(st.integers(0, SMALL - 40), st.sampled_from([8, 44, 52, 60]), st.just(R))


@given(
    st.lists(st.one_of(mostly_readable, descriptor), max_size=3),
    st.sampled_from([0, 1, 7, 8, 9, 200]),
    st.sampled_from([0, 8, 100]),
)
@example([(0, 44, R), (50, 60, R)], 9, 100)  # a second descriptor with more than the header says
def test_a_tx_chain_holds_what_a_slow_reader_finds(buffers, length, most):
    image = bytearray(bytes(range(SMALL)))
    if buffers:
        start = buffers[0][0]
        image[start + 24 : start + 28] = length.to_bytes(4, "little")
        del image[SMALL:]
    memory = GuestMemory([(0, image)])
    try:
        packet = parse("tx", memory, *buffers, most=most)
    except PeerError as error:
        found: object = error.kind
    else:
        data = packet.data_slice()
        found = (HEADER.pack(*values(packet)), None if data is None else data.read())
    assert found == slow_tx(bytes(image), buffers, most)


mostly_writable = st.tuples(st.integers(0, SMALL - 40), st.sampled_from([8, 44, 52, 60]), st.just(W))


@given(st.lists(st.one_of(mostly_writable, descriptor), max_size=3), st.sampled_from([0, 8, 52, 100]))
@example([(0, 60, W)], 8)  # more room behind the header than the most that a packet carries
def test_an_rx_chain_has_the_room_that_a_slow_reader_finds(buffers, most):
    memory = GuestMemory([(0, bytearray(SMALL))])
    try:
        packet = parse("rx", memory, *buffers, most=most)
    except PeerError as error:
        assert error.kind is slow_rx(SMALL, buffers, most)
        return
    assert values(packet) == (0,) * 10
    image = bytearray(SMALL)
    head, data = slow_rx(SMALL, buffers, most)
    packet.header_slice().write(0, b"h" * 44)
    image[head : head + 44] = b"h" * 44
    assert (packet.data_slice() is None) == (data is None)
    if data is not None:
        address, length = data
        packet.data_slice().write(0, b"d" * length)
        image[address : address + length] = b"d" * length
    assert memory.read(0, SMALL) == image


class PacketUnderAHostileGuest(RuleBasedStateMachine):
    """The getters say what the setters were told, and the memory holds what was last stored there."""

    @initialize(image=st.binary(min_size=128, max_size=128), way=st.sampled_from(["new", "rx", "tx"]))
    def start(self, image, way):
        self.memory = GuestMemory([(0x1000, bytearray(image))])
        self.image = bytearray(image)
        self.expected = dict.fromkeys(GETTERS, 0)
        if way == "new":
            self.packet = VsockPacket.new(self.memory.view(0x1000 + 10, 44), self.memory.view(0x1040, 32))
        elif way == "rx":
            self.packet = parse("rx", self.memory, (0x1000 + 10, 44, W), (0x1040, 32, W))
        else:
            self.guest_writes(10 + 24, (32).to_bytes(4, "little"))
            self.expected = dict(zip(GETTERS, HEADER.unpack_from(self.image, 10), strict=True))
            self.packet = parse("tx", self.memory, (0x1000 + 10, 44, R), (0x1040, 64, R))

    @rule(offset=st.integers(0, 120), data=st.binary(max_size=16))
    def guest_writes(self, offset, data):
        data = data[: 128 - offset]
        self.memory.write(0x1000 + offset, data)
        self.image[offset : offset + len(data)] = data

    @rule(name=st.sampled_from(GETTERS), value=st.integers(-1, 1 << 32) | st.integers(0, 1 << 64))
    def set_a_field(self, name, value):
        setter, offset, size = SETTERS[name]
        if 0 <= value < 1 << 8 * size:
            assert getattr(self.packet, setter)(value) is self.packet
            self.expected[name] = value
            self.image[10 + offset : 10 + offset + size] = value.to_bytes(size, "little")
        else:
            with pytest.raises(CallerError):
                getattr(self.packet, setter)(value)

    @rule(bit=st.integers(0, 31))
    def set_a_flag(self, bit):
        self.packet.set_flag(1 << bit)
        self.expected["flags"] |= 1 << bit
        self.image[10 + 32 : 10 + 36] = self.expected["flags"].to_bytes(4, "little")

    @rule(raw=st.binary(min_size=44, max_size=44) | st.binary(max_size=60))
    def set_a_raw_header(self, raw):
        if len(raw) != 44:
            with pytest.raises(CallerError):
                self.packet.set_header_from_raw(raw)
            return
        self.packet.set_header_from_raw(raw)
        self.expected = dict(zip(GETTERS, HEADER.unpack(raw), strict=True))
        self.image[10 : 10 + 44] = raw

    @rule(
        which=st.sampled_from(["header_slice", "data_slice"]),
        offset=st.integers(-1, 45),
        data=st.binary(max_size=40),
    )
    def write_through_a_slice(self, which, offset, data):
        part = getattr(self.packet, which)()
        start, size = (10, 44) if which == "header_slice" else (0x40, 32)
        if offset >= 0 and offset + len(data) <= size:
            part.write(offset, data)
            self.image[start + offset : start + offset + len(data)] = data
            assert part.read(offset, len(data)) == data
        else:
            with pytest.raises(CallerError):
                part.write(offset, data)

    @precondition(lambda self: hasattr(self, "packet"))
    @invariant()
    def says_what_it_was_told(self):
        assert dict(zip(GETTERS, values(self.packet), strict=True)) == self.expected
        assert self.packet.is_empty == (self.expected["len"] == 0)
        assert self.memory.read(0x1000, 128) == self.image
        assert self.packet.header_slice().read() == self.image[10:54]
        assert self.packet.data_slice().read() == self.image[0x40:0x60]


TestPacketUnderAHostileGuest = PacketUnderAHostileGuest.TestCase
