"""A network device on real virtqueues, from both sides: the guest's driver and the host's backend.

Hostile guests and devices are written by hand (by_hand), from the standard alone.

Source: OASIS VIRTIO 1.2, section 5.1.6.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, booleans, integers, just, lists, sampled_from, tuples

from tests.helpers import pattern
from tests.virtio.by_hand import (
    BUFFERS,
    FORMATS,
    PACKED,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
    device_by_hand,
    new_memory,
)
from vmbus.errors import CallerError, PeerError, RingFull
from vmbus.virtio import (
    NetworkBackend,
    NetworkDriver,
    NetworkFault,
    NetworkFeatures,
    NetworkFrameQueues,
    VirtqueueFault,
    connected_virtqueues,
    least_receive_place,
    least_transmit_place,
    network_header_size,
)

MERGEABLE = int(NetworkFeatures.MRG_RXBUF)
HASH = int(NetworkFeatures.HASH_REPORT)
TSO4 = int(NetworkFeatures.GUEST_TSO4)
CSUM = int(NetworkFeatures.GUEST_CSUM)
TUNNELS = 1 << 65
OUTER = 1 << 69

#: Every size of the header, each with and without merging where there is the choice.
HEADERS = {
    "10": 0,
    "12": VERSION_1,
    "12 merged": VERSION_1 | MERGEABLE,
    "12 legacy merged": MERGEABLE,
    "20": VERSION_1 | HASH,
    "20 merged": VERSION_1 | HASH | MERGEABLE,
    "24": VERSION_1 | TUNNELS,
    "24 merged": VERSION_1 | TUNNELS | MERGEABLE,
    "32": VERSION_1 | OUTER,
    "32 merged": VERSION_1 | OUTER | MERGEABLE,
}

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])
every_header = pytest.mark.parametrize("features", HEADERS.values(), ids=HEADERS.keys())


class Link(NamedTuple):
    """A guest's driver and its host's backend, over two real queues."""

    driver: NetworkDriver
    backend: NetworkBackend
    queues: NetworkFrameQueues

    def to_host(self, frame):
        """Send from the guest, and return what the host has then."""
        self.driver.send(frame)
        self.backend.process_transmit()
        return self.queues.guest_to_host.pop()

    def to_guest(self, *frames):
        """Queue frames for the guest, and return what it has received then."""
        for frame in frames:
            assert self.queues.host_to_guest.push(frame) is None
        self.backend.process_receive()
        return list(self.driver.received())


def linked(features=VERSION_1, packed=False, *, size=16, rx_place=None, tx_place=None, capacity=64):
    """`rx_place`, `tx_place`: bytes of a buffer beyond the header; None: the least there may be."""
    features |= PACKED if packed else 0
    header = network_header_size(features)
    rx_size = least_receive_place(features) if rx_place is None else header + rx_place
    tx_size = least_transmit_place(features) if tx_place is None else header + tx_place
    rx = connected_virtqueues(size, features, request_size=rx_size)
    tx = connected_virtqueues(size, features, request_size=tx_size)
    queues = NetworkFrameQueues.shared(capacity)
    backend = NetworkBackend(rx[1], tx[1], queues)
    return Link(NetworkDriver(rx[0], tx[0]), backend, queues)


# -- there and back ----------------------------------------------------------------------------


@both_formats
@every_header
def test_frames_go_both_ways_whole_and_in_order(features, packed):
    link = linked(features, packed, rx_place=200 if features & MERGEABLE else None)
    assert link.driver.header_size == link.backend.header_size
    for length in (1, 14, 60, 188, 200, 201, 399, 400, 1000, 1514):
        frame = pattern(length, seed=length)
        assert link.to_host(frame) == frame
        assert link.to_guest(frame) == [frame]
    frames = [pattern(50 + number, seed=number) for number in range(6)]
    assert link.to_guest(*frames) == frames


@both_formats
@every_header
def test_a_queue_goes_round_many_times(features, packed):
    link = linked(features, packed, size=4, rx_place=40 if features & MERGEABLE else None)
    for number in range(60):
        frame = pattern(1 + number, seed=number)
        assert link.to_host(frame) == frame
        assert link.to_guest(frame) == [frame]


def test_process_moves_both_directions_and_counts():
    link = linked()
    link.driver.send(b"out")
    link.queues.host_to_guest.push(b"in")
    assert link.backend.process() == 2
    assert link.queues.guest_to_host.pop() == b"out"
    assert list(link.driver.received()) == [b"in"]
    assert (link.backend.counters.from_guest, link.backend.counters.to_guest) == (1, 1)
    assert link.backend.process() == 0


def test_the_guest_is_to_be_notified_of_both():
    link = linked()
    link.to_host(b"out")
    assert link.backend.tx.needs_notification() and not link.backend.rx.needs_notification()
    link.to_guest(b"in")
    assert link.backend.rx.needs_notification()


def test_the_poll_loop_is_woken_only_when_it_has_a_frame():
    link = linked(capacity=1)
    link.backend.process_transmit()
    assert link.queues.guest_wake.drain() is False
    link.driver.send(b"one")
    link.backend.process_transmit()
    assert link.queues.guest_wake.drain() is True
    link.driver.send(b"lost")
    link.backend.process_transmit()
    assert link.queues.guest_wake.drain() is False


@pytest.mark.parametrize(
    ("features", "header"),
    [
        (0, "0000 0000 0000 0000 0000"),
        (VERSION_1, "0000 0000 0000 0000 0000 0100"),
        (VERSION_1 | MERGEABLE, "0000 0000 0000 0000 0000 0100"),
        (VERSION_1 | HASH, "0000 0000 0000 0000 0000 0100" + "00" * 8),
    ],
    ids=["10", "12", "12 merged", "20"],
)
def test_a_received_frame_has_a_plain_header_and_num_buffers_1(features, header):
    rx, tx = connected_virtqueues(4, features, request_size=2000), connected_virtqueues(4, features)
    queues = NetworkFrameQueues.shared(4)
    rx[0].add_request(lambda place, add: add(place.address, 2000, from_dev=True))
    queues.host_to_guest.push(b"frame")
    assert NetworkBackend(rx[1], tx[1], queues).process_receive() == 1
    [completion] = rx[0].completions()
    expected = bytes.fromhex(header) + b"frame"
    assert completion.length == len(expected)  # frame + header
    assert completion.request[: completion.length] == expected


# -- from the guest ----------------------------------------------------------------------------


def test_a_full_host_queue_drops_the_newest_and_counts_it():
    link = linked(capacity=2)
    for frame in (b"one", b"two", b"three", b"four"):
        link.driver.send(frame)
    assert link.backend.process_transmit() == 4
    assert [link.queues.guest_to_host.pop() for _ in range(3)] == [b"one", b"two", None]
    assert (link.backend.counters.from_guest, link.backend.counters.host_queue_full) == (2, 2)
    assert link.driver.reclaim() == 4


def test_no_more_chains_are_taken_than_asked_for():
    link = linked()
    for _ in range(5):
        link.driver.send(b"frame")
    assert [link.backend.process_transmit(2) for _ in range(4)] == [2, 2, 1, 0]


class HandGuest:
    """A backend, and both of its queues by hand; the buffers lie from 0x4000 on."""

    def __init__(self, packed=False, features=0, size=16, **options):
        self.memory = new_memory()
        rx_areas, tx_areas = Areas(0x1000, 0x1400, 0x1800), Areas(0x2000, 0x2400, 0x2800)
        common = {"memory": self.memory, "features": features, "size": size}
        self.rx, rx = device_by_hand(packed, areas=rx_areas, **common)
        self.tx, tx = device_by_hand(packed, areas=tx_areas, **common)
        self.queues = NetworkFrameQueues.shared(8)
        self.backend = NetworkBackend(rx, tx, self.queues, **options)
        self.counters = self.backend.counters

    def send(self, data, *lengths):
        """Put bytes into memory, and offer them in buffers of such lengths, the last with the rest."""
        self.memory.write(BUFFERS, data)
        buffers, start = [], 0
        for length in (*lengths, len(data) - sum(lengths)):
            buffers.append((BUFFERS + start, length, 0))
            start += length
        return self.tx.offer(*buffers)


@both_formats
@pytest.mark.parametrize("cuts", [(), (12,), (5, 7), (1,) * 13, (0, 12, 0), (11,)], ids=str)
def test_a_frame_may_be_cut_anywhere(packed, cuts):
    guest = HandGuest(packed)
    head = guest.send(bytes(12) + b"whole frame", *cuts)
    assert guest.backend.process_transmit() == 1
    assert guest.queues.guest_to_host.pop() == b"whole frame"
    assert guest.tx.used() == [(head, 0)]


OUTSIDE = 0x10000

#: Chains that hold no frame to be handed on: (address, length, flags) of each buffer, and the header.
BAD_TRANSMITS = {
    "no byte": ([(BUFFERS, 0, 0)], b""),
    "less than a header": ([(BUFFERS, 11, 0)], b""),
    "a header and no frame": ([(BUFFERS, 12, 0)], b""),
    "only room to write": ([(BUFFERS, 100, WRITE)], b""),
    "too long": ([(0, 0x8000, 0), (0, 0x8000, 0), (0, 13, 0)], b""),
    "4 GiB of it": ([(0, 2**32 - 1, 0)], b""),
    "outside the memory": ([(OUTSIDE, 100, 0)], b""),
    "the last byte outside": ([(OUTSIDE - 99, 100, 0)], b""),
    "the second buffer outside": ([(BUFFERS, 12, 0), (2**63, 10, 0)], b""),
    "a checksum is left to do": ([(BUFFERS, 100, 0)], b"\x01"),
    "it is to be cut": ([(BUFFERS, 100, 0)], b"\x00\x01"),
}


@both_formats
@pytest.mark.parametrize(("buffers", "header"), BAD_TRANSMITS.values(), ids=BAD_TRANSMITS.keys())
def test_a_chain_without_a_frame_is_given_back_and_counted_and_the_next_one_goes(packed, buffers, header):
    guest = HandGuest(packed)
    guest.memory.write(BUFFERS, header)
    bad = guest.tx.offer(*buffers)
    guest.memory.write(0x9000, bytes(12) + b"good")
    good = guest.tx.offer((0x9000, 16, 0))
    assert guest.backend.process_transmit() == 2
    assert guest.tx.used() == [(bad, 0), (good, 0)]
    assert [guest.queues.guest_to_host.pop(), guest.queues.guest_to_host.pop()] == [b"good", None]
    assert (guest.counters.bad_transmit_chains, guest.counters.from_guest) == (1, 1)


def test_other_flags_of_the_guest_do_not_matter():
    guest = HandGuest()
    guest.send(b"\xfe\x00" + bytes(8) + b"\xff\xff" + b"frame")
    guest.backend.process_transmit()
    assert guest.queues.guest_to_host.pop() == b"frame"


def test_the_largest_frame_from_the_guest_is_taken_and_one_more_byte_is_not():
    guest = HandGuest(largest_frame=100)
    guest.send(bytes(12 + 100))
    guest.backend.process_transmit()
    guest.send(bytes(12 + 101))
    guest.backend.process_transmit()
    assert [guest.queues.guest_to_host.pop(), guest.queues.guest_to_host.pop()] == [bytes(100), None]


@pytest.mark.parametrize("name", ["CSUM", "HOST_TSO4", "HOST_TSO6", "HOST_UFO", "HOST_USO"])
def test_features_that_leave_work_to_the_device_are_refused(name):
    with pytest.raises(CallerError, match=name) as caught:
        linked(VERSION_1 | int(NetworkFeatures[name]))
    assert caught.value.argument == "features"


# -- to the guest ------------------------------------------------------------------------------


@both_formats
def test_a_frame_without_room_waits_and_it_is_the_only_one_held(packed):
    guest = HandGuest(packed)
    for frame in (b"one", b"two"):
        guest.queues.host_to_guest.push(frame)
    assert [guest.backend.process_receive() for _ in range(3)] == [0, 0, 0]
    assert guest.backend.pending == b"one" and len(guest.queues.host_to_guest) == 1
    heads = [guest.rx.offer((BUFFERS + 2048 * number, 1526, WRITE)) for number in range(2)]
    assert guest.backend.process_receive() == 2
    assert guest.rx.used() == [(head, 15) for head in heads]
    assert guest.memory.read(BUFFERS + 12, 3) + guest.memory.read(BUFFERS + 2060, 3) == b"onetwo"
    assert guest.backend.pending is None


#: Chains with too little room, or room that is none.
BAD_RECEIVES = {
    "no room": [(BUFFERS, 0, WRITE)],
    "only bytes to read": [(BUFFERS, 2000, 0)],
    "less than a header": [(BUFFERS, 11, WRITE)],
    "less than header and frame": [(BUFFERS, 12 + 99, WRITE)],
    "outside the memory": [(OUTSIDE, 2000, WRITE)],
    "the last byte of header and frame outside": [(OUTSIDE - 111, 2000, WRITE)],
    "the second buffer outside": [(BUFFERS, 12, WRITE), (2**64 - 4000, 2000, WRITE)],
}


@both_formats
@pytest.mark.parametrize("buffers", BAD_RECEIVES.values(), ids=BAD_RECEIVES.keys())
def test_a_chain_without_room_is_given_back_and_counted_and_the_frame_goes_into_the_next(packed, buffers):
    guest = HandGuest(packed)
    before = bytes(guest.memory.read(BUFFERS, 0x4000))
    bad = guest.rx.offer(*buffers)
    guest.queues.host_to_guest.push(pattern(100))
    assert guest.backend.process_receive() == 0
    assert guest.rx.used() == [(bad, 0)]
    assert guest.memory.read(BUFFERS, 0x4000) == before
    good = guest.rx.offer((BUFFERS, 1526, WRITE))
    assert guest.backend.process_receive() == 1
    assert guest.rx.used() == [(good, 112)]
    assert guest.memory.read(BUFFERS + 12, 100) == pattern(100)
    assert (guest.counters.bad_receive_chains, guest.counters.to_guest) == (1, 1)


@both_formats
def test_a_frame_longer_than_a_buffer_that_is_large_enough_is_dropped_and_the_buffer_stays(packed):
    guest = HandGuest(packed)
    head = guest.rx.offer((BUFFERS, 1526, WRITE))
    guest.queues.host_to_guest.push(bytes(1515))
    guest.queues.host_to_guest.push(b"short")
    assert guest.backend.process_receive() == 1
    assert guest.rx.used() == [(head, 17)]
    assert (guest.counters.too_long_for_guest, guest.counters.bad_receive_chains) == (1, 0)


@both_formats
def test_room_may_be_cut_anywhere(packed):
    guest = HandGuest(packed)
    head = guest.rx.offer(*((BUFFERS + 300 * number, 7, WRITE) for number in range(10)))
    guest.queues.host_to_guest.push(pattern(50))
    guest.backend.process_receive()
    assert guest.rx.used() == [(head, 62)]
    written = b"".join(guest.memory.read(BUFFERS + 300 * number, 7) for number in range(10))
    assert written == bytes(10) + b"\1\0" + pattern(50) + bytes(8)


# -- merged ------------------------------------------------------------------------------------


@both_formats
@pytest.mark.parametrize(
    ("length", "lengths"),
    [(20, [32]), (51, [63]), (52, [64]), (53, [64, 1]), (116, [64, 64]), (117, [64, 64, 1]), (244, [64] * 4)],
    ids=str,
)
def test_all_chains_but_the_last_are_filled_and_only_the_first_has_a_header(packed, length, lengths):
    guest = HandGuest(packed, MERGEABLE)
    heads = [guest.rx.offer((BUFFERS + 256 * number, 64, WRITE)) for number in range(6)]
    guest.queues.host_to_guest.push(pattern(length))
    assert guest.backend.process_receive() == 1
    assert guest.rx.used() == list(zip(heads, lengths, strict=False))
    written = b"".join(guest.memory.read(BUFFERS + 256 * at, size) for at, size in enumerate(lengths))
    assert written == bytes(10) + struct.pack("<H", len(lengths)) + pattern(length)
    behind = BUFFERS + 256 * (len(lengths) - 1) + lengths[-1]
    assert guest.memory.read(behind, 100) == bytes(100)


@both_formats
def test_a_merged_frame_waits_until_there_are_chains_enough_and_takes_none_before(packed):
    guest = HandGuest(packed, MERGEABLE)
    heads = [guest.rx.offer((BUFFERS + 256 * number, 64, WRITE)) for number in range(2)]
    guest.queues.host_to_guest.push(pattern(150))
    assert [guest.backend.process_receive() for _ in range(2)] == [0, 0]
    assert guest.rx.used() == [] and guest.backend.pending == pattern(150)
    heads.append(guest.rx.offer((BUFFERS + 512, 64, WRITE)))
    assert guest.backend.process_receive() == 1
    assert guest.rx.used() == list(zip(heads, [64, 64, 34], strict=True))
    assert guest.counters.bad_receive_chains == 0


@both_formats
def test_a_chain_without_room_between_those_of_a_frame_comes_back_behind_them(packed):
    guest = HandGuest(packed, MERGEABLE)
    first = guest.rx.offer((BUFFERS, 64, WRITE))
    bad = guest.rx.offer((BUFFERS + 256, 11, WRITE))
    outside = guest.rx.offer((OUTSIDE, 64, WRITE))
    guest.queues.host_to_guest.push(pattern(100))
    assert guest.backend.process_receive() == 0
    assert guest.rx.used() == []
    last = guest.rx.offer((BUFFERS + 512, 64, WRITE))
    assert guest.backend.process_receive() == 1
    assert sorted(guest.rx.used()[2:]) == sorted([(bad, 0), (outside, 0)])
    assert guest.memory.read(BUFFERS + 10, 2) == b"\2\0"
    assert guest.memory.read(BUFFERS + 12, 52) + guest.memory.read(BUFFERS + 512, 48) == pattern(100)
    assert guest.counters.bad_receive_chains == 2
    assert {first, last}.isdisjoint({bad, outside})


@both_formats
def test_a_frame_larger_than_a_whole_queue_of_buffers_is_dropped(packed):
    guest = HandGuest(packed, MERGEABLE, size=4)
    heads = [guest.rx.offer((BUFFERS + 256 * number, 64, WRITE)) for number in range(4)]
    guest.queues.host_to_guest.push(bytes(4 * 64 - 12 + 1))
    guest.queues.host_to_guest.push(pattern(4 * 64 - 12))
    assert guest.backend.process_receive() == 1
    assert guest.rx.used() == [(head, 64) for head in heads]
    assert guest.counters.too_long_for_guest == 1


# -- a broken queue ----------------------------------------------------------------------------


@both_formats
def test_a_broken_queue_is_a_peer_error_and_the_frame_is_kept(packed):
    guest = HandGuest(packed)
    guest.queues.host_to_guest.push(b"frame")
    if packed:
        offer_indirect(guest.rx)
    else:
        guest.rx.push(16)
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            guest.backend.process_receive()
        assert isinstance(caught.value.kind, VirtqueueFault)
    assert guest.backend.pending == b"frame"


def offer_indirect(driver):
    """Offer an indirect descriptor, which was not negotiated."""
    driver.offer_table(BUFFERS, 16)


def test_a_head_that_comes_twice_is_fatal_and_gets_one_used_element():
    guest = HandGuest(features=MERGEABLE)
    head = guest.rx.offer((BUFFERS, 64, WRITE))
    guest.rx.push(head)
    guest.queues.host_to_guest.push(bytes(100))
    with pytest.raises(PeerError) as caught:
        guest.backend.process_receive()
    assert caught.value.kind is VirtqueueFault.HEAD_IN_FLIGHT
    assert guest.rx.used() == []


def test_the_loop_is_woken_for_frames_before_the_queue_broke():
    guest = HandGuest()
    guest.send(bytes(12) + b"good")
    guest.tx.push(77)
    with pytest.raises(PeerError):
        guest.backend.process_transmit()
    assert guest.queues.guest_to_host.pop() == b"good"
    assert guest.queues.guest_wake.drain() is True


@pytest.mark.parametrize("features", [0, MERGEABLE], ids=["plain", "merged"])
def test_an_interrupt_takes_neither_the_frame_nor_the_chain_away(features, monkeypatch):
    guest = HandGuest(features=features)
    heads = [guest.rx.offer((BUFFERS + 256 * number, 64, WRITE)) for number in range(2)]
    length = 100 if features else 40
    guest.queues.host_to_guest.push(pattern(length))
    with monkeypatch.context() as patch:
        patch.setattr(guest.memory, "write", interrupting)
        with pytest.raises(KeyboardInterrupt):
            guest.backend.process_receive()
    assert guest.rx.used() == []
    assert guest.backend.process_receive() == 1
    assert [head for head, _ in guest.rx.used()] == heads[: 2 if features else 1]


def test_an_interrupt_while_a_frame_is_read_leaves_its_chain_available(monkeypatch):
    guest = HandGuest()
    head = guest.send(bytes(12) + b"frame")
    with monkeypatch.context() as patch:
        patch.setattr("vmbus.virtio.chains.DescriptorChain.read_all", interrupting)
        with pytest.raises(KeyboardInterrupt):
            guest.backend.process_transmit()
    assert guest.backend.process_transmit() == 1
    assert guest.tx.used() == [(head, 0)] and guest.queues.guest_to_host.pop() == b"frame"


def interrupting(*arguments):
    raise KeyboardInterrupt


# -- any chains of a guest ---------------------------------------------------------------------

addresses = sampled_from([0, BUFFERS, BUFFERS + 1, OUTSIDE - 50, OUTSIDE, 2**63, 2**64 - 12]) | integers(
    BUFFERS, OUTSIDE
)
buffer_lengths = sampled_from([0, 1, 10, 11, 12, 13, 64, 1526, 65535, 2**32 - 1]) | integers(0, 200)
buffers = lists(tuples(addresses, buffer_lengths, sampled_from([0, WRITE])), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    booleans(),
    sampled_from([0, MERGEABLE]),
    lists(tuples(booleans(), buffers), max_size=8),
    lists(integers(1, 1600), max_size=5),
)
def test_any_chains_are_used_once_with_a_length_that_fits_or_the_queue_is_broken(
    packed, features, chains, lengths
):
    guest = HandGuest(packed, features, size=8)
    offered = {True: {}, False: {}}
    taken = {True: 0, False: 0}
    for is_rx, chain in chains:
        if taken[is_rx] + len(chain) <= 8:
            taken[is_rx] += len(chain)
            driver = guest.rx if is_rx else guest.tx
            # Writable ones come last, or the queue is broken, which has a test of its own.
            ordered = sorted(chain, key=lambda one: one[2])
            room = sum(length for _, length, flags in ordered if flags)
            offered[is_rx][driver.offer(*ordered)] = room
    for length in lengths:
        guest.queues.host_to_guest.push(pattern(length))
    try:
        for _ in range(3):
            guest.backend.process()
    except PeerError as error:  # all else these chains can do is refused one by one
        assert error.kind is VirtqueueFault.CHAIN_TOO_LARGE
    used = guest.rx.used()
    assert len({head for head, _ in used}) == len(used)
    assert all(length <= offered[True][head] for head, length in used)
    sent = guest.tx.used()
    assert len({head for head, _ in sent}) == len(sent) and all(length == 0 for _, length in sent)
    counters = guest.counters
    counted = counters.bad_transmit_chains + counters.from_guest + counters.host_queue_full
    assert counted == len(sent)
    assert sum(length > 0 for _, length in used) >= counters.to_guest


# -- the driver --------------------------------------------------------------------------------


def test_the_least_places_are_the_least_that_work():
    for features in HEADERS.values():
        rx_size, tx_size = least_receive_place(features), least_transmit_place(features)
        rx = connected_virtqueues(4, features, request_size=rx_size)[0]
        small_rx = connected_virtqueues(4, features, request_size=rx_size - 1)[0]
        tx = connected_virtqueues(4, features, request_size=tx_size)[0]
        small_tx = connected_virtqueues(4, features, request_size=tx_size - 1)[0]
        NetworkDriver(rx, tx)
        for name, pair in {"rx": (small_rx, tx), "tx": (rx, small_tx)}.items():
            with pytest.raises(CallerError) as caught:
                NetworkDriver(*pair)
            assert caught.value.argument == name and caught.value.limit in (rx_size, tx_size)


@both_formats
@pytest.mark.parametrize(
    ("features", "parts"), [(0, 2), (VERSION_1, 1), (1 << 27, 1)], ids=["legacy", "1", "any"]
)
def test_a_legacy_device_gets_the_header_in_a_buffer_of_its_own(packed, features, parts):
    link = linked(features, packed)
    link.driver.send(b"frame")
    for queue in (link.backend.tx, link.backend.rx):
        lengths = [one.length for one in queue.pop_descriptor_chain().descriptors]
        assert len(lengths) == parts
        assert parts == 1 or lengths[0] == 10


def test_every_free_place_is_offered_as_a_buffer_and_again_after_use():
    link = linked(size=8)
    assert link.driver.rx.outstanding == 8
    for _ in range(3):
        assert len(link.to_guest(*[b"frame"] * 8)) == 8
        assert link.driver.rx.outstanding == 8
    assert link.driver.fill() == 0


@pytest.mark.parametrize("length", [0, 1515])
def test_an_empty_or_too_long_frame_is_not_sent(length):
    link = linked()
    with pytest.raises(CallerError) as caught:
        link.driver.send(bytes(length))
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("frame", length, 1514)
    assert link.driver.unsent == 0


def test_a_larger_place_lets_larger_frames_be_sent():
    link = linked(tx_place=9000)
    assert link.driver.largest_frame == 9000
    assert link.to_host(pattern(9000)) == pattern(9000)


@pytest.mark.parametrize("features", [0, VERSION_1], ids=["legacy", "version 1"])
def test_sending_takes_back_places_by_itself_and_is_refused_when_none_is_free(features):
    link = linked(features, size=4)
    room = 4 if features else 2
    for _ in range(room):
        link.driver.send(b"frame")
    with pytest.raises(RingFull):
        link.driver.send(b"one more")
    assert link.driver.unsent == room
    link.backend.process_transmit(1)
    link.driver.send(b"one more")
    assert link.driver.unsent == room
    link.backend.process_transmit()
    assert link.driver.reclaim() == room


def test_a_place_that_was_used_leaves_nothing_in_the_next_header():
    link = linked(size=1)
    link.driver.tx.add_request(
        lambda place, add: (place.data.__setitem__(slice(0, 12), b"\xff" * 12), add(place.address, 12))
    )
    link.backend.process_transmit()
    assert link.to_host(b"frame") == b"frame"


class HandHost:
    """A driver, and the device's side of both of its queues by hand."""

    def __init__(self, features=VERSION_1, packed=False, size=8, place=None):
        link = linked(features, packed, size=size, rx_place=place)
        self.driver = link.driver
        self.rx, self.tx = HandDevice.of(self.driver.rx), HandDevice.of(self.driver.tx)
        self.buffers = []

    def answer(self, data, length=None):
        """Put bytes into the next receive buffer, say that it is used, and return what it then holds."""
        self.buffers += self.rx.available()
        offered = self.buffers.pop(0)
        address, size, _ = offered.buffers[0]
        self.driver.rx.memory.write(address, data)
        self.rx.give_back(offered.head, len(data) if length is None else length)
        return self.driver.rx.memory.read(address, size)


def header(count=1, flags=0, gso=0):
    return struct.pack("<BBHHHHH", flags, gso, 0, 0, 0, 0, count)


#: What a device says in one buffer after the other: (bytes, used length), and what is wrong with it.
LIES = {
    "one byte": (0, [(b"", 1)], NetworkFault.NO_FRAME),
    "less than a header": (0, [(b"", 11)], NetworkFault.NO_FRAME),
    "a header alone": (0, [(header(), 12)], NetworkFault.NO_FRAME),
    "more than the buffer": (0, [(header(), 1527)], VirtqueueFault.USED_LENGTH_TOO_LARGE),
    "4 GiB": (0, [(header(), 2**32 - 1)], VirtqueueFault.USED_LENGTH_TOO_LARGE),
    "flags": (0, [(header(flags=1), 60)], NetworkFault.FLAGS_NOT_NEGOTIATED),
    "unknown flags": (0, [(header(flags=128), 60)], NetworkFault.FLAGS_NOT_NEGOTIATED),
    "to be cut": (0, [(header(gso=1), 60)], NetworkFault.FLAGS_NOT_NEGOTIATED),
    "to be cut, with checksums": (CSUM, [(header(gso=1), 60)], NetworkFault.FLAGS_NOT_NEGOTIATED),
    "no buffers": (MERGEABLE, [(header(0), 60)], NetworkFault.NO_BUFFERS),
    "a buffer more than the queue": (MERGEABLE, [(header(9), 64)], NetworkFault.TOO_MANY_BUFFERS),
    "65535 buffers": (MERGEABLE, [(header(65535), 64)], NetworkFault.TOO_MANY_BUFFERS),
    "the first not filled": (MERGEABLE, [(header(2), 63)], NetworkFault.BUFFER_NOT_FILLED),
    "the second of three not filled": (
        MERGEABLE,
        [(header(3), 64), (b"", 63)],
        NetworkFault.BUFFER_NOT_FILLED,
    ),
    "an empty one among three": (MERGEABLE, [(header(3), 64), (b"", 0)], NetworkFault.EMPTY_BUFFER),
    "an empty last one": (MERGEABLE, [(header(2), 64), (b"", 0)], NetworkFault.EMPTY_BUFFER),
}


@both_formats
@pytest.mark.parametrize(("features", "answers", "kind"), LIES.values(), ids=LIES.keys())
def test_what_a_device_cannot_say_is_a_peer_error_for_good(packed, features, answers, kind):
    host = HandHost(VERSION_1 | features, packed, place=52 if features & MERGEABLE else None)
    for data, length in answers:
        host.answer(data, length)
    with pytest.raises(PeerError) as caught:
        list(host.driver.received())
    assert caught.value.kind is kind
    assert str(caught.value.found) in str(caught.value) or isinstance(caught.value.found, tuple)
    with pytest.raises(PeerError) as again:
        list(host.driver.received())
    assert again.value.kind is kind


def test_frames_before_a_lie_are_received():
    host = HandHost()
    host.answer(header() + b"good")
    host.answer(b"", 5)
    received = host.driver.received()
    assert next(received) == b"good"
    with pytest.raises(PeerError):
        next(received)


@both_formats
def test_an_unused_buffer_is_counted_and_offered_again(packed):
    host = HandHost(packed=packed)
    host.answer(b"", 0)
    host.answer(header() + b"frame")
    assert list(host.driver.received()) == [b"frame"]
    assert (host.driver.lost_buffers, host.driver.rx.outstanding) == (1, 8)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_num_buffers_means_nothing_without_merging(count):  # older devices leave 0 there
    host = HandHost()
    host.answer(header(count) + b"frame")
    assert list(host.driver.received()) == [b"frame"]


def test_with_the_features_flags_and_types_come_with_the_header():
    host = HandHost(VERSION_1 | CSUM | TSO4)
    host.answer(header(flags=1, gso=1) + b"frame")
    [received] = host.driver.received_with_headers()
    assert received.frame == b"frame"
    assert (received.header.flags, received.header.gso_type, received.header.num_buffers) == (1, 1, 1)


@both_formats
def test_a_frame_of_which_a_part_has_come_is_finished_later(packed):
    host = HandHost(VERSION_1 | MERGEABLE, packed, place=52)
    host.answer(header(3) + pattern(52))
    assert list(host.driver.received()) == []
    host.answer(pattern(64, seed=2))
    assert list(host.driver.received()) == []
    host.answer(b"end")
    host.answer(header() + b"next")
    assert list(host.driver.received()) == [pattern(52) + pattern(64, seed=2) + b"end", b"next"]


@pytest.mark.parametrize(("last", "fits"), [(7501, True), (7502, False)])
def test_the_parts_of_a_frame_never_grow_beyond_the_largest_frame(last, fits):
    # Seven buffers of 8,300 bytes without the header, and 7,501: that is 65,589.
    host = HandHost(VERSION_1 | MERGEABLE, size=8, place=8300 - 12)
    host.answer(header(8).ljust(8300, b"."))
    for _ in range(6):
        host.answer(bytes(8300))
    host.answer(bytes(last))
    if fits:
        assert [len(frame) for frame in host.driver.received()] == [65589]
    else:
        with pytest.raises(PeerError) as caught:
            list(host.driver.received())
        assert (caught.value.kind, caught.value.found) == (NetworkFault.FRAME_TOO_LONG, 65590)


def test_one_call_receives_at_most_a_queue_full_from_a_device_that_never_stops():
    host = HandHost(size=4)
    received = host.driver.received()
    count = 0
    for _ in range(4):
        host.answer(header() + b"frame")
    for _ in received:
        count += 1
        host.answer(header() + b"another")
    assert count == 4


class SlowDriver:
    """What a driver makes of a device's answers, once more: frames, until one is a lie."""

    def __init__(self, features, place):
        self.features, self.place = features, place
        self.header = 20 if features & HASH else 12
        self.frames, self.parts, self.missing, self.broken = [], b"", 0, False

    def answer(self, held, length):
        self.broken = self.broken or length > self.place or not self.take(held[:length])

    def take(self, data):
        """Whether these bytes of a buffer can be."""
        if self.missing:
            self.parts += data
            self.missing -= 1
            if not self.missing:
                self.frames.append(self.parts)
            return len(data) == self.place if self.missing else len(data) > 0
        if not data:
            return True
        flags, gso = data[:2].ljust(2, b"\0")
        if len(data) <= self.header or (flags and not self.features & CSUM):
            return False
        count = int.from_bytes(data[10:12], "little") if self.features & MERGEABLE else 1
        if (gso and not self.features & TSO4) or not 1 <= count <= 8:
            return False
        self.parts, self.missing = data[self.header :], count - 1
        if not self.missing:
            self.frames.append(self.parts)
        return not self.missing or len(data) == self.place


def filled(count, length):
    return header(count).ljust(length, b".")


answers = lists(
    tuples(binary(max_size=80), just(None) | integers(0, 90) | sampled_from([65601, 2**32 - 1]))
    | tuples(tuples(integers(0, 4), integers(11, 72)).map(lambda both: filled(*both)), just(None))
    | tuples(integers(0, 9).map(lambda count: filled(count, 64)), sampled_from([None, 64, 64, 72, 0, 13])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(sampled_from([0, MERGEABLE, MERGEABLE, MERGEABLE | HASH, CSUM | TSO4]), booleans(), answers)
def test_any_answers_of_a_device_give_the_frames_of_a_slow_driver_or_a_peer_error(features, packed, answers):
    host = HandHost(VERSION_1 | features, packed, place=52 if features & MERGEABLE else None)
    model = SlowDriver(features, host.driver.rx.request_size)
    frames = []
    broken = False
    for data, length in answers:
        held = host.answer(data, length)
        model.answer(held, len(data) if length is None else length)
        try:
            frames += host.driver.received()
        except PeerError as error:
            assert isinstance(error.kind, (NetworkFault, VirtqueueFault))
            broken = True
        assert broken is model.broken
        if broken:
            break
        assert host.driver.rx.outstanding == 8
    assert frames == model.frames[: len(frames)]
    assert broken or len(frames) == len(model.frames)
