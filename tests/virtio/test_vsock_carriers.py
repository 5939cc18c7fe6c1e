"""Packets over queues: the device across from a driver by hand, the driver across from a device by hand,
and both across from each other, asleep and awake.

Sources: OASIS VIRTIO 1.2, sections 2.7.4, 2.7.7 and 5.10.6; Linux drivers/vhost/vsock.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, sampled_from

from tests.helpers import pattern
from tests.virtio.by_hand import (
    EVENT_IDX,
    FORMATS,
    INDIRECT_DESC,
    PACKED,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
    device_by_hand,
    new_memory,
)
from tests.virtio.vsock_by_hand import (
    CREDIT_UPDATE,
    HEADER,
    NEITHER,
    REQUEST,
    RST,
    RW,
    STREAM,
    Packet,
)
from vmbus.errors import CallerError, PeerClosed, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    Virtqueue,
    VirtqueueFault,
    VsockDevice,
    VsockDriver,
    VsockEndpoint,
    VsockFault,
    VsockState,
    connected_virtqueues,
    connected_vsock,
)

REPEATABLE = settings(deadline=None, derandomize=True, database=None, max_examples=100)

BUFFERS = 0x10000
MEMORY_SIZE = 0x60000
RX = Areas(0x1000, 0x2000, 0x3000)
TX = Areas(0x4000, 0x5000, 0x6000)
EVENT = Areas(0x7000, 0x8000, 0x9000)
packed_or_split = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])


def header(operation: int = RW, length: int = 0, **fields: int) -> bytes:
    """A header from the guest (3:1234) to the host (2:5000)."""
    values = {"src": 3, "dst": 2, "from_port": 1234, "to_port": 5000, "length": length, "type": STREAM}
    values |= {"operation": operation, "flags": 0, "buf_alloc": 1000, "fwd_cnt": 0} | fields
    return HEADER.pack(*values.values())


def packet(payload: bytes) -> bytes:
    return header(RW, len(payload)) + payload


class Guest:
    """A guest by hand, the queues of one device in its memory, and the device."""

    def __init__(self, packed: bool = False, features: int = INDIRECT_DESC, **options: Any) -> None:
        self.memory = new_memory(MEMORY_SIZE)
        queues = [
            device_by_hand(packed, 16, features, memory=self.memory, areas=at) for at in (RX, TX, EVENT)
        ]
        self.rx, self.tx, self.event = (driver for driver, _ in queues)
        self.device = VsockDevice(*(device for _, device in queues), **options)
        self.next = BUFFERS

    def place(self, data: bytes) -> int:
        """Where bytes of one's own lie."""
        address, self.next = self.next, self.next + len(data) + 3
        self.memory.write(address, data)
        return address

    def send(self, *parts: bytes) -> int:
        """A chain of readable buffers."""
        return self.tx.offer(*((self.place(part), len(part), 0) for part in parts))

    def offer(self, *sizes: int) -> tuple[int, list[int]]:
        """A chain of writable buffers for a packet, and where they are."""
        places = [self.place(bytes(size)) for size in sizes]
        return self.rx.offer(*((at, size, WRITE) for at, size in zip(places, sizes, strict=True))), places


# -- the device receives ---------------------------------------------------------------------------


@packed_or_split
@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize(
    "cuts", [(), (44,), (43,), (45,), (1,), (20, 44), (20, 44, 50), tuple(range(10, 140, 13))], ids=str
)
def test_a_packet_is_the_same_however_its_bytes_are_spread_over_buffers(cuts, size, packed):
    """V14: no layout of descriptors may be assumed."""
    guest = Guest(packed)
    whole = packet(pattern(size))
    ends = [0, *(cut for cut in cuts if cut < len(whole)), len(whole)]
    parts = [whole[start:end] for start, end in pairwise(ends)]
    head = guest.send(*parts)
    found, payload = guest.device.receive()
    assert tuple(found) == HEADER.unpack(whole[:44])
    assert payload == pattern(size)
    assert guest.tx.used() == [(head, 0)]
    assert guest.device.receive() is None
    assert guest.device.statistics() == (0, 1, 0)


@packed_or_split
def test_a_packet_may_lie_in_an_indirect_table(packed):
    guest = Guest(packed)
    whole = packet(pattern(50))
    places = [(guest.place(part), len(part)) for part in (whole[:44], whole[44:60], whole[60:])]
    table = 0xA000
    entries = [(at, size, 1 if number < 2 else 0, number + 1) for number, (at, size) in enumerate(places)]
    length = guest.tx.table(table, *entries)
    head = guest.tx.offer_table(table, length)
    assert guest.device.receive()[1] == pattern(50)
    assert guest.tx.used() == [(head, 0)]


@pytest.mark.parametrize("parts", [(44 + 500,), (44, 500), (30, 514)], ids=str)
def test_only_the_first_bytes_of_a_longer_buffer_are_payload(parts):
    guest = Guest()
    whole = header(RW, 5) + b"hello" + bytes(495)
    guest.send(*(whole[sum(parts[:at]) : sum(parts[: at + 1])] for at in range(len(parts))))
    assert guest.device.receive()[1] == b"hello"


@pytest.mark.parametrize("operation", [0, 1, 2, 3, 4, 6, 7, 99])
def test_only_an_rw_has_a_payload_whatever_the_length_says(operation):
    guest = Guest()
    guest.send(header(operation, 0xFFFF_FFFF))
    guest.send(header(operation, 3), b"abc")
    for length in (0xFFFF_FFFF, 3):
        found, payload = guest.device.receive()
        assert (found.operation, found.length, payload) == (operation, length, b"")


BAD_TX = {
    "43 bytes": [(b"\0" * 43, 0)],
    "nothing": [(b"", 0)],
    "43 bytes in two": [(b"\0" * 40, 0), (b"\0" * 3, 0)],
    "payload longer than its chain": [(header(RW, 6) + b"hello", 0)],
    "payload longer than its two buffers": [(header(RW, 6), 0), (b"hello", 0)],
    "no payload at all": [(header(RW, 1), 0)],
    "more than 64 KiB": [(header(RW, 65537) + bytes(65537), 0)],
    "more than 64 KiB in two": [(header(RW, 65537), 0), (bytes(65537), 0)],
    "the largest length there is": [(header(RW, 2**32 - 1), 0), (bytes(100), 0)],
    "writable header": [(packet(b"hello"), WRITE)],
    "writable payload": [(header(RW, 5), 0), (b"hello", WRITE)],
}


@packed_or_split
@pytest.mark.parametrize("bad", BAD_TX.values(), ids=BAD_TX)
def test_a_chain_that_is_no_packet_is_given_back_counted_and_harms_nobody(bad, packed):
    guest = Guest(packed)
    heads = [guest.send(packet(b"before"))]
    heads.append(guest.tx.offer(*((guest.place(data), len(data), flags) for data, flags in bad)))
    heads.append(guest.send(packet(b"after")))
    assert [guest.device.receive()[1] for _ in range(2)] == [b"before", b"after"]
    assert guest.device.receive() is None
    assert guest.tx.used() == [(head, 0) for head in heads]
    assert guest.device.statistics() == (0, 2, 1)


@packed_or_split
@pytest.mark.parametrize(
    "where",
    [
        [(MEMORY_SIZE + 0x1000, 100)],
        [(MEMORY_SIZE - 20, 100)],
        [(MEMORY_SIZE - 44, 49)],
        [(BUFFERS, 44), (MEMORY_SIZE, 5)],
        [(BUFFERS, 20), (2**64 - 4096, 29)],
    ],
    ids=["header outside", "header over the end", "payload outside", "second outside", "at the top"],
)
def test_a_packet_outside_the_memory_is_given_back_and_harms_nobody(where, packed):
    guest = Guest(packed)
    whole = header(RW, 5)
    guest.memory.write(BUFFERS, whole)
    guest.memory.write(MEMORY_SIZE - 44, whole)
    guest.next += 100
    head = guest.tx.offer(*((at, size, 0) for at, size in where))
    guest.send(packet(b"after"))
    assert guest.device.receive()[1] == b"after"
    assert guest.tx.used()[0] == (head, 0)
    assert guest.device.statistics().refused == 1


def test_the_most_payload_is_64_kib_or_what_the_device_says():
    guest = Guest()
    guest.send(packet(bytes(65536)))
    assert len(guest.device.receive()[1]) == 65536
    small = Guest(largest_payload=10)
    small.send(packet(bytes(11)))
    small.send(header(RW, 11), bytes(11))
    small.send(packet(bytes(10)))
    assert len(small.device.receive()[1]) == 10
    assert small.device.statistics().refused == 2


def test_a_queue_full_of_rubbish_is_given_back_in_one_look():
    guest = Guest()
    for _ in range(16):
        guest.send(b"rubbish")
    assert guest.device.receive() is None
    assert len(guest.tx.used()) == 16
    guest.send(packet(b"x"))
    assert guest.device.receive()[1] == b"x"


# -- the device sends ------------------------------------------------------------------------------


@packed_or_split
@pytest.mark.parametrize(
    "sizes", [(200,), (44, 156), (10, 34, 1, 155), (43, 157), (45, 155), (1,) * 10 + (190,)], ids=str
)
@pytest.mark.parametrize("size", [0, 1, 100, 156])
def test_a_packet_fills_the_guests_buffers_one_after_the_other(size, sizes, packed):
    guest = Guest(packed)
    head, places = guest.offer(*sizes)
    assert guest.device.room() == 156
    guest.device.send(header(RW, size), pattern(size))
    assert guest.rx.used() == [(head, 44 + size)]
    got = b"".join(guest.memory.read(at, length) for at, length in zip(places, sizes, strict=True))
    assert got == (packet(pattern(size)) + bytes(200))[:200]
    assert guest.device.room() == -1


@packed_or_split
@pytest.mark.parametrize(
    "bad",
    [
        [(BUFFERS, 44, WRITE)],
        [(BUFFERS, 0, WRITE)],
        [(BUFFERS, 40, WRITE), (BUFFERS + 50, 4, WRITE)],
        [(BUFFERS, 4096, 0)],
        [(BUFFERS, 4096, 0), (BUFFERS, 44, WRITE)],
        [(MEMORY_SIZE, 4096, WRITE)],
        [(MEMORY_SIZE - 100, 101, WRITE)],
        [(BUFFERS, 44, WRITE), (2**64 - 100, 100, WRITE)],
    ],
    ids=["44", "0", "40 and 4", "readable", "readable and 44", "outside", "over the end", "second outside"],
)
def test_a_buffer_that_cannot_hold_a_packet_is_given_back_counted_and_harms_nobody(bad, packed):
    guest = Guest(packed)
    guest.next += 8192
    refused = guest.rx.offer(*bad)
    head, _ = guest.offer(50)
    assert guest.device.room() == 6
    assert guest.rx.used() == [(refused, 0)]
    guest.device.send(header(RW, 6), b"abcdef")
    assert guest.rx.used() == [(head, 50)]
    assert guest.device.statistics() == (1, 0, 1)


def test_more_than_there_is_room_for_is_the_callers_fault_and_the_buffer_stays():
    guest = Guest()
    with pytest.raises(CallerError):
        guest.device.send(header(RST))
    head, _ = guest.offer(50)
    assert guest.device.room() == 6
    with pytest.raises(CallerError):
        guest.device.send(header(RW, 7), b"1234567")
    assert guest.rx.used() == []
    guest.device.send(header(RW, 6), b"123456")
    assert guest.rx.used() == [(head, 50)]


def test_a_buffer_larger_than_the_largest_payload_is_not_filled():
    guest = Guest()
    guest.offer(44 + 70_000)
    assert guest.device.room() == 65536


# -- events ----------------------------------------------------------------------------------------


def test_an_event_takes_a_buffer_of_four_bytes_and_smaller_ones_are_given_back():
    guest = Guest()
    assert guest.device.send_reset() is False
    for at, length, flags in (
        (0xA000, 3, WRITE),
        (0xA010, 4, 0),
        (MEMORY_SIZE, 4, WRITE),
        (0xA020, 4, WRITE),
    ):
        guest.event.offer((at, length, flags))
    guest.memory.write(0xA020, b"\xee" * 4)
    assert guest.device.send_reset() is True
    assert [length for _, length in guest.event.used()] == [0, 0, 0, 4]
    assert guest.memory.read(0xA020, 4) == bytes(4)
    assert guest.device.statistics().refused == 3
    assert guest.device.send_reset() is False


def event_pair(size: int = 4) -> tuple[Any, Any]:
    rx, tx, event = (
        connected_virtqueues(request_size=100),
        connected_virtqueues(request_size=100),
        (connected_virtqueues(4, request_size=size)),
    )
    return VsockDriver(rx[0], tx[0], event[0]), VsockDevice(rx[1], tx[1], event[1])


@pytest.mark.parametrize("size", [4, 64])
def test_the_buffers_for_events_come_back_to_the_device(size):
    driver, device = event_pair(size)
    for _ in range(20):
        assert not driver.take_reset()
        assert device.send_reset()
        assert driver.take_reset()
    assert not driver.take_reset()
    for _ in range(4):
        assert device.send_reset()
    assert not device.send_reset()
    assert driver.take_reset(), "several are one"
    assert not driver.take_reset()


def test_an_event_of_an_unknown_kind_means_nothing_and_a_short_one_is_the_devices_fault():
    driver, device = event_pair()
    chain = device.event.pop_descriptor_chain()
    device.event.add_used(chain.head_index, chain.write_all(b"\x07\0\0\0"))
    assert not driver.take_reset()
    chain = device.event.pop_descriptor_chain()
    device.event.add_used(chain.head_index, 3)
    with pytest.raises(PeerError) as caught:
        driver.take_reset()
    assert caught.value.kind is VsockFault.INVALID_EVENT
    assert driver.event.free == 0


def test_a_guest_that_has_moved_has_no_connections_and_keeps_its_listeners():
    guest, host = connected_vsock()
    listener, connection = guest.listen(9), guest.connect(7)
    assert host.carrier.send_reset()
    guest.pump()
    assert connection.state is VsockState.CLOSED
    with pytest.raises(PeerClosed, match="moved"):
        connection.receive(1)
    host.pump()
    guest.pump()
    host.connect(9)
    guest.pump()
    assert listener.accept() is not None


# -- the driver across from a device by hand -------------------------------------------------------


class Device:
    """A device by hand, and the driver's endpoint."""

    def __init__(self, packed: bool = False, features: int = 0, place_size: int = 100) -> None:
        every = VERSION_1 | features | (PACKED if packed else 0)
        block = 0x4000
        memory = GuestMemory.from_ranges([(0, 4 * block)])
        rx, tx, event = (
            Virtqueue(memory, 4, every, address=block * number, request_size=place_size)
            for number in range(3)
        )
        self.memory = memory
        self.driver = VsockDriver(rx, tx, event)
        self.endpoint = VsockEndpoint(self.driver, 3)
        self.rx, self.tx, self.event = map(HandDevice.of, (rx, tx, event))
        self.offered = self.rx.available()

    def write(self, data: bytes, length: int | None = None) -> None:
        """Fill the next of the guest's buffers."""
        if not self.offered:
            self.offered = self.rx.available()
        head, buffers = self.offered.pop(0)
        assert len(buffers) == 1 and buffers[0][2] & WRITE
        self.memory.write(buffers[0][0], data)
        self.rx.give_back(head, len(data) if length is None else length)

    def sent(self) -> list[Packet]:
        """The packets that the driver has made available, which are given back."""
        packets = []
        for head, buffers in self.tx.available():
            ((address, length, flags),) = buffers
            assert not flags & WRITE
            data = self.memory.read(address, length)
            packets.append(Packet(*HEADER.unpack(data[:44]), data[44:]))
            self.tx.give_back(head)
        return packets


@packed_or_split
def test_a_driver_offers_all_its_buffers_and_each_again_when_it_was_read(packed):
    device = Device(packed)
    for offered, size in ((device.offered, 100), (device.event.available(), 4)):
        assert [(one.buffers[0][1], one.buffers[0][2] & WRITE) for one in offered] == [(size, WRITE)] * 4
    for number in range(30):
        device.write(packet(pattern(56, number)))
        assert device.driver.receive()[1] == pattern(56, number)
    assert device.driver.receive() is None
    assert device.driver.statistics() == (0, 30, 0)


@packed_or_split
def test_a_packet_of_the_driver_is_one_readable_buffer(packed):
    device = Device(packed)
    for number in range(10):
        assert device.driver.room() == 56
        device.driver.send(header(RW, 56), pattern(56, number))
        (sent,) = device.sent()
        assert (sent.length, sent.payload) == (56, pattern(56, number))


def test_a_full_queue_has_room_again_when_the_device_gives_back():
    device = Device()
    for _ in range(4):
        device.driver.send(header(CREDIT_UPDATE))
    assert device.driver.room() == -1
    assert len(device.sent()) == 4
    assert device.driver.room() == 56


LIES = {
    "no bytes": (header(REQUEST), 0),
    "43 bytes": (header(REQUEST), 43),
    "payload that was not written": (header(RW, 10) + b"helloworld", 53),
    "payload longer than the buffer": (header(RW, 57) + bytes(56), 100),
    "the largest length there is": (header(RW, 2**32 - 1), 100),
    "payload of nothing": (header(RW, 1), 44),
}


@packed_or_split
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_device_that_lies_about_a_packet_is_counted_and_its_buffer_offered_again(lie, packed):
    device = Device(packed)
    for _ in range(6):
        device.write(*lie)
        device.write(header(RW, 5) + b"after")
        assert device.driver.receive()[1] == b"after"
    assert device.driver.statistics() == (0, 6, 6)


@pytest.mark.parametrize("operation", [0, 8, 0xFFFF])
def test_an_operation_that_nobody_has_named_is_handed_on(operation):
    device = Device()
    device.write(header(operation, 99))
    assert device.driver.receive()[0].operation == operation


def test_a_packet_longer_than_it_says_brings_only_what_it_says():
    device = Device()
    device.write(header(RW, 5) + b"hello, and more")
    assert device.driver.receive()[1] == b"hello"


@packed_or_split
def test_a_device_that_breaks_the_queue_is_a_peer_error_from_pump(packed):
    device = Device(packed)
    device.rx.give_back(77, 44)
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            device.endpoint.pump()
        assert isinstance(caught.value.kind, VirtqueueFault)


@packed_or_split
@pytest.mark.parametrize("queue", ["rx", "tx"])
def test_a_driver_that_breaks_a_queue_is_a_peer_error_from_pump(queue, packed):
    guest = Guest(packed)
    host = VsockEndpoint(guest.device, 2, peer_cid=3)
    getattr(guest, queue).offer((BUFFERS, 4096, WRITE), (BUFFERS, 4096, 0))
    if queue == "rx":
        guest.send(packet(b"for nobody"))  # an answer is due
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            host.pump()
        assert caught.value.kind is VirtqueueFault.READABLE_AFTER_WRITABLE


@pytest.mark.parametrize(("size", "which"), [(44, 0), (44, 1), (3, 2)])
def test_queues_whose_places_are_too_small_are_the_callers_fault(size, which):
    queues = [connected_virtqueues(request_size=size if number == which else 100)[0] for number in range(3)]
    with pytest.raises(CallerError):
        VsockDriver(*queues)


def test_a_queue_with_requests_of_somebody_else_is_the_callers_fault():
    queues = [connected_virtqueues(request_size=100)[0] for _ in range(2)]
    queues[1].add_request(lambda place, add: add(place.address, 10))
    with pytest.raises(CallerError):
        VsockDriver(*queues)


# -- asleep and awake ------------------------------------------------------------------------------


FEATURES = {
    "split": VERSION_1,
    "split, event index": VERSION_1 | EVENT_IDX,
    "packed": VERSION_1 | PACKED,
    "packed, event index": VERSION_1 | PACKED | EVENT_IDX,
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_sides_with_nothing_to_do_go_to_sleep(features):
    guest, host = connected_vsock(4, features)
    connection = guest.connect(7)
    for _ in range(5):
        guest.pump(), host.pump()
    connection.shutdown(NEITHER)
    for side in (guest.carrier, host.carrier):
        side.stay_awake()
    for _ in range(3):
        guest.pump(), host.pump()
        slept = [side.prepare_to_sleep() for side in (guest.carrier, host.carrier)]
    assert slept == [False, False]


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("guest_first", [True, False], ids=["guest sends", "host sends"])
def test_a_side_without_room_and_without_packets_goes_to_sleep_and_is_woken(guest_first, features):
    guest, host = connected_vsock(4, features)
    one, other = (guest.carrier, host.carrier) if guest_first else (host.carrier, guest.carrier)
    one.stay_awake()
    while one.room() >= 0:
        one.send(header(CREDIT_UPDATE))
    one.must_notify()
    assert [one.prepare_to_sleep() for _ in range(3)] == [False] * 3
    while other.receive() is not None:
        pass
    assert other.must_notify(), "there is room again"
    assert one.room() > 0


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("guest_first", [True, False], ids=["guest sends", "host sends"])
def test_room_that_comes_free_before_the_sleep_is_not_slept_over(guest_first, features):
    guest, host = connected_vsock(4, features)
    one, other = (guest.carrier, host.carrier) if guest_first else (host.carrier, guest.carrier)
    one.stay_awake()
    while one.room() >= 0:
        one.send(header(CREDIT_UPDATE))
    while other.receive() is not None:
        pass
    other.must_notify()  # says perhaps that nobody wants to know
    assert one.prepare_to_sleep() is True
    assert one.prepare_to_sleep() is False, "it was told once"


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_an_event_that_comes_before_the_sleep_is_not_slept_over(features):
    guest, host = connected_vsock(4, features)
    host.carrier.send_reset()
    assert guest.carrier.prepare_to_sleep() is True
    guest.pump()
    assert guest.carrier.prepare_to_sleep() is False
    host.carrier.send_reset()
    assert host.carrier.must_notify()


def talker(
    endpoint: Any, connection: Any, data: bytes, expected: int, bells: dict[Any, bool]
) -> Iterator[bool]:
    """One side that sends all it has and receives all it expects: whether it sleeps, at every step."""
    carrier, done, received = endpoint.carrier, 0, b""
    while done < len(data) or len(received) < expected:
        moved = endpoint.pump()
        yield False
        before = done, len(received)
        if done < len(data):
            done += connection.send(memoryview(data)[done:])
        yield False
        received += connection.receive(7) or b""
        yield False
        if carrier.must_notify():
            bells["host" if endpoint.cid == 3 else "guest"] = True
        yield False
        if moved or before != (done, len(received)):
            continue
        mine = "guest" if endpoint.cid == 3 else "host"
        if carrier.prepare_to_sleep():
            continue
        while not bells[mine]:
            yield True
        bells[mine] = False
        carrier.stay_awake()
    while True:  # done, and there for the other
        moved = endpoint.pump()
        if carrier.must_notify():
            bells["host" if endpoint.cid == 3 else "guest"] = True
        yield False
        if not moved and not carrier.prepare_to_sleep():
            mine = "guest" if endpoint.cid == 3 else "host"
            while not bells[mine]:
                yield True
            bells[mine] = False
            carrier.stay_awake()


@given(
    turns=lists(booleans(), min_size=20, max_size=120),
    features=sampled_from(list(FEATURES.values())),
    order=integers(1, 2),
    payload=integers(1, 8),
    size=integers(1, 30),
    lengths=lists(integers(0, 40), min_size=2, max_size=2),
)
@REPEATABLE
def test_no_side_sleeps_while_there_is_something_for_it(turns, features, order, payload, size, lengths):
    """Each step of either side may come between any two of the other."""
    guest, host = connected_vsock(1 << order, features, place_size=44 + payload, buffer_size=size)
    listener, client = host.listen(7), guest.connect(7)
    for _ in range(4):
        host.pump(), guest.pump()
    server = listener.accept()
    bells = {"guest": True, "host": True}
    sides = [
        talker(guest, client, pattern(lengths[0]), lengths[1], bells),
        talker(host, server, pattern(lengths[1]), lengths[0], bells),
    ]
    asleep = [False, False]
    for step in range(40_000):
        which = turns[step % len(turns)] if step < 4 * len(turns) else step % 2
        asleep[which] = next(sides[which])
        if all(asleep) and not any(bells.values()):
            break
    else:
        raise AssertionError("the two never go to sleep")
    assert client.sending.sent == lengths[0] == server.receiving.forwarded
    assert server.sending.sent == lengths[1] == client.receiving.forwarded


def test_the_end_of_a_connection_wakes_the_other_side():
    guest, host = connected_vsock(4, FEATURES["split"])
    listener, client = host.listen(7), guest.connect(7)
    host.pump(), guest.pump()
    server = listener.accept()
    for side in (guest.carrier, host.carrier):
        side.must_notify()
        assert not side.prepare_to_sleep()
    client.shutdown(NEITHER)
    assert guest.carrier.must_notify()
    host.pump()
    assert server.receive(1) == b""
    assert host.carrier.must_notify()
