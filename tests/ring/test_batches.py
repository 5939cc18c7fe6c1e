"""The one-step methods: batches, buffers of every kind, and calls that are wrong.

A batch is one commit and at most one signal, however many packets it holds; nothing is written
before every size is known to be possible, and nothing read is lost to what comes behind it.
"""

from __future__ import annotations

import array
import mmap
import struct
from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest

from tests.helpers import MEMORIES, PACKET_KINDS, image_of, padded, pattern, receive_packet, send_packet
from tests.known_bugs import known_bug
from vmbus.errors import BufferTooSmall, CallerError, PeerError, RingEmpty, RingFull
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import (
    IncomingPacketType,
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PacketSize,
    RingFault,
    connected_rings,
)

over_each_memory = pytest.mark.parametrize("memory_name", MEMORIES)


def payloads_of(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets]


#: Each way to send 24 bytes: what it returns is the signal, or ends with it.
SENDS: dict[str, Callable[[OutgoingRing, object], object]] = {
    "send": lambda sender, payload: sender.send(payload),
    "send_many": lambda sender, payload: sender.send_many([payload]),
    "send_packet": lambda sender, payload: sender.send_packet(OutgoingPacket.in_band(24), payload),
    "write": lambda sender, payload: send_whole(sender, payload),
}


def send_whole(sender: OutgoingRing, payload: object) -> bool:
    """Send 24 bytes step by step."""
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(24)).writer(sender).write(payload)
    return sender.commit_write(outgoing)


#: Each way to take one packet: what it returns ends with the signal.
RECEIVES: dict[str, Callable[[IncomingRing], tuple[object, bool]]] = {
    "receive": IncomingRing.receive,
    "receive_many": lambda receiver: receiver.receive_many(1),
    "receive_into": lambda receiver: receiver.receive_into(bytearray(1000)),
    "read": lambda receiver: receive_packet(receiver)[:2],
}


# -- send_many -------------------------------------------------------------------------------------


@over_each_memory
def test_send_many_writes_as_many_as_fit_and_says_how_many(memory_name):
    sender, receiver = connected_rings(memory=MEMORIES[memory_name](4096), start=4000)
    payloads = [pattern(1000, seed=number) for number in range(1, 7)]
    assert sender.send_many(payloads) == (3, True)  # 3 x 1024 of 4088 bytes
    assert payloads_of(receiver.receive_many()[0]) == payloads[:3]
    assert sender.send_many(payloads[3:]) == (3, True)
    assert payloads_of(receiver.receive_many()[0]) == payloads[3:]


def test_send_many_stops_at_the_first_that_does_not_fit_even_when_a_later_one_would():
    sender, receiver = connected_rings(4096)
    sender.send(bytes(3000))
    assert sender.send_many([bytes(8), bytes(1040), bytes(8)]) == (1, False)
    assert [len(packet.payload) for packet in receiver.receive_many()[0]] == [3000, 8]


def test_send_many_fills_a_ring_to_the_last_slot():
    sender, receiver = connected_rings(4096, start=2048)
    assert sender.send_many([bytes(8)] * 200) == (127, True)  # 127 x 32 = 4064, 24 left
    assert sender.send_many([b"", b""]) == (1, False)
    assert len(receiver.receive_many()[0]) == 128


def test_send_many_of_nothing_commits_nothing_and_signals_nobody():
    sender, receiver = connected_rings(4096)
    outgoing = sender.outgoing()
    assert sender.send_many([]) == (0, False)
    sender.write(outgoing, OutgoingPacket.in_band(0))  # the offset is not stale
    with pytest.raises(RingEmpty):
        receiver.receive()


def test_send_many_takes_any_iterable_and_looks_at_each_payload_once():
    sender, receiver = connected_rings(4096)
    assert sender.send_many(bytes([number]) * 8 for number in range(3)) == (3, True)
    assert payloads_of(receiver.receive_many()[0]) == [bytes([number]) * 8 for number in range(3)]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_send_many_checks_all_sizes_before_it_writes_anything(place):
    sender, receiver = connected_rings(4096, start=4088)
    before = image_of(sender.memory)
    payloads = [b"good"] * 3
    payloads.insert(place, bytes(4096 - 8 - 24 + 1))
    with pytest.raises(CallerError) as caught:
        sender.send_many(payloads)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("payload", 4096, 4088)
    assert image_of(sender.memory) == before
    assert sender.send_many([b"good"]) == (1, True)
    assert payloads_of(receiver.receive_many()[0]) == [padded(b"good")]


@pytest.mark.parametrize("wrong", ["text", 5, None, [1, 2]])
def test_send_many_refuses_what_is_no_buffer_before_it_writes_anything(wrong):
    sender, _ = connected_rings(4096)
    before = image_of(sender.memory)
    with pytest.raises(CallerError):
        sender.send_many([b"good", wrong])
    assert image_of(sender.memory) == before


# -- receive_many ----------------------------------------------------------------------------------


@over_each_memory
def test_receive_many_takes_the_limit_and_leaves_the_rest(memory_name):
    sender, receiver = connected_rings(memory=MEMORIES[memory_name](4096), start=4080)
    payloads = [pattern(40, seed=number) for number in range(1, 11)]
    sender.send_many(payloads)
    found = []
    for limit, expected in ((0, 0), (1, 1), (4, 4), (5, 5), (3, 0), (None, 0)):
        packets, _ = receiver.receive_many(limit)
        assert len(packets) == expected
        found += payloads_of(packets)
    assert found == payloads[:10]


def test_receive_many_refuses_a_limit_below_zero_and_takes_nothing():
    sender, receiver = connected_rings(4096)
    sender.send(b"stays")
    with pytest.raises(CallerError):
        receiver.receive_many(-1)
    assert payloads_of(receiver.receive_many()[0]) == [padded(b"stays")]


def test_receive_many_counts_the_limit_over_packets_of_all_kinds():
    sender, receiver = connected_rings(4096)
    for kind in [*PACKET_KINDS.values(), *PACKET_KINDS.values()]:
        send_packet(sender, pattern(16), kind.outgoing(16))
    types = []
    while packets := receiver.receive_many(3)[0]:
        assert len(packets) <= 3
        types.append([packet.type for packet in packets])
    assert list(map(len, types)) == [3, 3, 3, 1]
    assert list(chain(*types)) == [kind.type for kind in PACKET_KINDS.values()] * 2


def test_receive_many_from_an_empty_ring_gives_nothing_and_does_not_raise():
    _, receiver = connected_rings(4096, start=64)
    incoming = receiver.incoming()
    assert receiver.receive_many() == ([], False)
    assert receiver.can_read(incoming) is False  # the offset is not stale


def test_receive_many_sees_what_was_published_while_packets_were_known_already():
    sender, receiver = connected_rings(4096)
    sender.send_many([b"one", b"two"])
    assert receiver.receive()[0].payload == padded(b"one")
    sender.send(b"three")
    assert payloads_of(receiver.receive_many()[0]) == [padded(b"two"), padded(b"three")]


def fill_with_all_kinds(sender: OutgoingRing) -> list[Packet]:
    """Packets of every kind, small and large, until the ring is full; what must come out."""
    expected = []
    kinds = list(PACKET_KINDS.values())
    try:
        for number in range(10_000):
            kind = kinds[number // 7 % len(kinds)]  # a few of a kind in a row
            payload = pattern([8, 200, 1500, 0, 30_000][number % 5], seed=number + 1)
            send_packet(sender, payload, kind.outgoing(len(payload)))
            expected.append(
                Packet(
                    type=kind.type,
                    transaction_id=kind.transaction_id,
                    payload=padded(payload),
                    ranges=kind.ranges,
                    flags=kind.flags,
                    transfer_page_set_id=kind.transfer_page_set_id,
                )
            )
    except RingFull:
        return expected
    raise AssertionError("the ring never filled")


@pytest.mark.parametrize("memory_name", ["flat", "paged"])
@pytest.mark.parametrize("start", [0, 8, 131_072, 524_280 - 65_536, 524_280])
def test_receive_many_crosses_stretches_of_mixed_packets_larger_than_65536_bytes(memory_name, start):
    size = 524_288
    sender, receiver = connected_rings(memory=MEMORIES[memory_name](size), start=start)
    expected = fill_with_all_kinds(sender)
    assert sum(len(packet.payload) for packet in expected) > 7 * 65_536
    packets, _ = receiver.receive_many()
    assert packets == expected
    assert receiver.memory.control[OUT_WORD] == receiver.memory.control[IN_WORD]


@pytest.mark.parametrize("payload_length", [65_536 - 24 - 8, 65_536 - 24, 65_536 - 24 + 8, 100_000])
def test_receive_many_takes_packets_as_large_as_a_stretch_and_larger(payload_length):
    sender, receiver = connected_rings(1 << 20, start=(1 << 20) - 4096)
    payloads = [pattern(payload_length, seed=number) for number in range(1, 6)]
    payloads[2] = b""
    assert sender.send_many(payloads)[0] == 5
    assert payloads_of(receiver.receive_many()[0]) == [padded(payload) for payload in payloads]


# -- a bad packet behind good ones -------------------------------------------------------------------


def break_type(receiver: IncomingRing, place: int) -> None:
    receiver.memory.write_at(place, struct.pack("<H", 3))


def break_flags(receiver: IncomingRing, place: int) -> None:
    receiver.memory.write_at(place + 6, struct.pack("<H", 4))


def break_length(receiver: IncomingRing, place: int) -> None:
    receiver.memory.write_at(place + 4, struct.pack("<H", 0xFFFF))


BREAKS = {
    RingFault.INVALID_DESCRIPTOR_TYPE: break_type,
    RingFault.INVALID_DESCRIPTOR_FLAGS: break_flags,
    RingFault.INVALID_DESCRIPTOR_LENGTHS: break_length,
}


@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.value)
@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_receive_many_gives_the_good_packets_and_the_next_call_raises(good, fault):
    start = 4096 - 60 * 2
    sender, receiver = connected_rings(4096, start=start)
    payloads = [pattern(40, seed=number) for number in range(1, 8)]
    sender.send_many(payloads)  # 64 bytes each
    bad = (start + 64 * good) % 4096
    BREAKS[fault](receiver, bad)
    if good:
        packets, signal = receiver.receive_many()
        assert (payloads_of(packets), signal) == (payloads[:good], False)
    assert receiver.memory.control[OUT_WORD] == bad
    for attempt in (receiver.receive_many, receiver.receive, receiver.incoming):
        with pytest.raises(PeerError) as caught:
            attempt()
        assert (caught.value.kind, caught.value.offset) == (fault, bad)
    assert receiver.memory.control[OUT_WORD] == bad


def test_a_limit_reached_before_the_bad_packet_leaves_it_for_the_call_that_gets_there():
    sender, receiver = connected_rings(4096)
    sender.send_many([b"one", b"two", b"three"])
    break_type(receiver, 64)
    assert payloads_of(receiver.receive_many(2)[0]) == [padded(b"one"), padded(b"two")]
    assert receiver.receive_many(0) == ([], False)
    with pytest.raises(PeerError, match="packet at 0x0040 has the type 3"):
        receiver.receive_many(1)


def test_after_the_ring_is_put_right_and_reset_reading_goes_on_behind_the_good_packets():
    sender, receiver = connected_rings(4096)
    sender.send_many([b"one", b"two"])
    break_type(receiver, 32)
    receiver.receive_many()
    with pytest.raises(PeerError):
        receiver.receive_many()
    receiver.memory.write_at(32, struct.pack("<H", 6))
    receiver.reset()
    assert payloads_of(receiver.receive_many()[0]) == [padded(b"two")]


@known_bug("B28")
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_a_packet_whose_footer_is_not_published_is_refused_wherever_it_starts(receive):
    """Two packets of 64 bytes, and in set to the end of the second one's payload."""
    for start in range(0, 4096, 8):
        sender, receiver = connected_rings(4096, start=start)
        sender.send_many([pattern(40), pattern(40)])
        receiver.memory.control[IN_WORD] = (start + 128 - 8) % 4096
        receive(receiver)
        with pytest.raises(PeerError) as caught:
            receive(receiver)
        assert caught.value.kind is RingFault.FOOTER_NOT_PUBLISHED
        assert (caught.value.found, caught.value.allowed) == (64, 56)
        assert receiver.memory.control[OUT_WORD] == (start + 64) % 4096


# -- one signal for a batch ----------------------------------------------------------------------------


@known_bug("B10", "B11")
def test_a_batch_of_packets_signals_the_reader_once():
    sender, receiver = connected_rings(4096)
    batch = [bytes(8)] * 5
    assert [sender.send_many(batch)[1] for _ in range(3)] == [True, False, False]
    receiver.receive_many(14)
    assert sender.send_many(batch)[1] is False  # one packet still waits: the reader is not asleep
    receiver.receive_many()
    assert sender.send_many(batch)[1] is True


@known_bug("B10")
def test_a_batch_written_in_steps_signals_at_its_one_commit():
    sender, receiver = connected_rings(4096)
    outgoing = sender.outgoing()
    for number in range(5):
        sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(bytes([number]) * 8)
        assert receiver.receive_many() == ([], False)  # nothing is seen before the commit
    assert sender.commit_write(outgoing) is True
    assert sender.commit_write(outgoing) is False  # nothing is left to publish
    assert len(receiver.receive_many()[0]) == 5


@known_bug("B05", "B07", "B10")
def test_a_batch_of_reads_signals_the_waiting_writer_once():
    sender, receiver = connected_rings(4096)
    sender.send_many([bytes(232)] * 15)  # 15 x 256 of 4088 bytes
    sender.set_pending_send_size(1000)
    assert receiver.receive_many(2)[1] is False  # 248 + 512 are free
    assert receiver.receive_many(5)[1] is True  # the wait ends inside this batch
    assert receiver.receive_many()[1] is False  # it was told already


@known_bug("B10")
def test_each_batch_stores_its_index_once():
    memory = RecordingMemory(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory, start=4000)
    for act, store in (
        (lambda: sender.send_many([bytes(8)] * 20), "store in"),
        (lambda: receiver.receive_many(), "store out"),
    ):
        memory.take()
        act()
        assert [str(access) for access in memory.take()].count(store) == 1


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_reader_that_falls_asleep_while_a_packet_is_written_has_seen_it_or_is_signaled(send):
    """It drains, unmasks and looks again between any two accesses of the sender."""
    for place in range(50):
        memory = RecordingMemory(FlatRingMem(4096))
        sender, receiver = connected_rings(memory=memory)
        sender.send(b"first")
        receiver.set_interrupt_mask(True)
        seen: list[Packet] = []
        memory.after = act_once_after(place, partial(look_and_sleep, receiver, seen))
        signaled = send(sender, pattern(24)) in (True, (1, True))
        if not seen:  # the sender was done before it was the reader's turn
            assert place >= 5
            return
        assert signaled or seen[-1].payload == pattern(24)


@known_bug("B01", "B04")
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_a_writer_that_falls_asleep_while_a_packet_is_read_has_seen_the_room_or_is_signaled(receive):
    """It asks for room and looks again between any two accesses of the receiver."""
    for place in range(50):
        memory = RecordingMemory(FlatRingMem(4096))
        sender, receiver = connected_rings(memory=memory)
        sender.send_many([bytes(1000)] * 3)  # 1016 bytes are free
        seen: list[bool] = []
        memory.after = act_once_after(place, partial(ask_for_room, sender, seen))
        signaled = receive(receiver)[1]
        if not seen:
            assert place >= 5
            return
        assert signaled or seen == [True]


def act_once_after(place: int, act: Callable[[], object]) -> Callable[[Access], None]:
    """The other side's turn comes once, after so many accesses of this side."""
    left = [None] * (place + 1)

    def after(access: Access) -> None:
        if left:
            left.pop()
            if not left:
                act()

    return after


def look_and_sleep(receiver: IncomingRing, seen: list[Packet]) -> None:
    """Drain, unmask, look again: from here on only a signal brings the reader back."""
    seen += receiver.receive_many()[0]
    receiver.set_interrupt_mask(False)
    seen += receiver.receive_many()[0]


def ask_for_room(sender: OutgoingRing, seen: list[bool]) -> None:
    """Ask for more than is free, and look again whether it is there now."""
    sender.set_pending_send_size(2000)
    seen.append(sender.can_write(sender.outgoing(), 2000))


# -- buffers that are too small ------------------------------------------------------------------------


@known_bug("B45")
@over_each_memory
@pytest.mark.parametrize("name", PACKET_KINDS)
def test_a_buffer_that_is_too_small_leaves_the_packet_in_the_ring(name, memory_name):
    memory = MEMORIES[memory_name](4096)
    sender, receiver = connected_rings(memory=memory, start=4072)
    kind = PACKET_KINDS[name]
    send_packet(sender, pattern(61), kind.outgoing(61))
    for length in (0, 1, 61, 63):
        buffer = bytearray(b"\xa5" * length)
        with pytest.raises(BufferTooSmall) as caught:
            receiver.receive_into(buffer)
        assert caught.value.needed == 64
        assert buffer == b"\xa5" * length
        assert memory.control[OUT_WORD] == 4072
    buffer = bytearray(b"\xa5" * 70)
    assert receiver.receive_into(buffer) == (64, False)
    assert buffer == padded(pattern(61)) + b"\xa5" * 6


def test_receive_into_takes_each_kind_of_writable_buffer():
    sender, receiver = connected_rings(4096)
    for make in (
        lambda: bytearray(24),
        lambda: memoryview(bytearray(32))[4:28],
        lambda: mmap.mmap(-1, 4096),
        lambda: array.array("H", range(12)),
        lambda: array.array("Q", range(3)),
    ):
        sender.send(pattern(24))
        buffer = make()
        assert receiver.receive_into(buffer)[0] == 24
        assert bytes(memoryview(buffer).cast("B")[:24]) == pattern(24)


@pytest.mark.parametrize("wrong", [b"read-only", memoryview(bytes(64)), "text", 64, None])
def test_receive_into_refuses_what_it_cannot_write_and_leaves_the_packet(wrong):
    sender, receiver = connected_rings(4096)
    sender.send(b"stays")
    with pytest.raises(CallerError):
        receiver.receive_into(wrong)
    assert receiver.receive()[0].payload == padded(b"stays")


# -- what a payload may be -------------------------------------------------------------------------------


def in_a_mapping(data: bytes) -> mmap.mmap:
    mapping = mmap.mmap(-1, len(data))
    mapping[:] = data
    return mapping


#: Forms of the same 24 bytes.
BUFFERS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "part of a memoryview": lambda data: memoryview(b"123" + data + b"456")[3:-3],
    "memoryview of words": lambda data: memoryview(data).cast("I"),
    "memoryview of a table": lambda data: memoryview(data).cast("B", (4, 6)),
    "mmap": in_a_mapping,
    "array of bytes": lambda data: array.array("B", data),
    "array of numbers": lambda data: array.array("Q", struct.unpack("<3Q", data)),
    "bytes of a class of their own": lambda data: type("Payload", (bytes,), {})(data),
}


@over_each_memory
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS)
def test_a_payload_may_be_any_buffer(buffer, send, memory_name):
    for start in (0, 4064):  # 24 bytes of payload that lie together, and that wrap
        sender, receiver = connected_rings(memory=MEMORIES[memory_name](4096), start=start)
        for _ in range(2):  # the second time the sender has a packer for this size
            send(sender, buffer(pattern(24)))
            assert receiver.receive()[0].payload == pattern(24)


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("wrong", ["text", 24, None, [1, 2, 3], object()], ids=repr)
def test_a_payload_that_is_no_buffer_is_the_callers_mistake_and_the_ring_stays_usable(send, wrong):
    sender, receiver = connected_rings(4096)
    with pytest.raises(CallerError):
        send(sender, wrong)
    assert receiver.receive_many() == ([], False)
    sender.send(b"usable")
    assert receiver.receive()[0].payload == padded(b"usable")


@pytest.mark.parametrize("length", [0, 23, 25])
def test_send_packet_refuses_a_payload_of_another_length_than_the_packet_announces(length):
    sender, receiver = connected_rings(4096)
    with pytest.raises(CallerError) as caught:
        sender.send_packet(OutgoingPacket.in_band(24), bytes(length))
    assert (caught.value.value, caught.value.limit) == (length, 24)
    assert receiver.receive_many() == ([], False)


def test_a_changed_bytearray_does_not_change_what_was_sent():
    sender, receiver = connected_rings(4096)
    payload = bytearray(b"before")
    sender.send(payload)
    payload[:] = b"behind"
    assert receiver.receive()[0].payload == padded(b"before")


def test_more_sizes_than_a_sender_prepares_for_all_come_through():
    sender, receiver = connected_rings(16384)
    for _ in range(2):
        for length in range(0, 8 * 600, 8):
            sender.send(pattern(length))
            assert receiver.receive()[0].payload == pattern(length)


# -- transaction ids -----------------------------------------------------------------------------------

WRONG_IDS = pytest.mark.parametrize("wrong", [-1, 2**64, 2**80, 1.0, "7", None], ids=repr)


@over_each_memory
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("start", [0, 4080])
@WRONG_IDS
def test_a_transaction_id_out_of_range_is_the_callers_mistake_and_the_ring_stays_usable(
    wrong, start, prepared, memory_name
):
    """prepared: the sender has sent a packet of this size before, and packs it in one call."""
    sender, receiver = connected_rings(memory=MEMORIES[memory_name](4096), start=start)
    if prepared:
        sender.send(bytes(24))
        receiver.receive()
    shown = image_of(sender.memory)[:128]
    for attempt in (
        lambda: sender.send(bytes(24), transaction_id=wrong),
        lambda: send_packet(sender, bytes(24), OutgoingPacket.completion(24, transaction_id=wrong)),
        lambda: send_packet(sender, bytes(24), OutgoingPacket.in_band(24, transaction_id=wrong)),
    ):
        with pytest.raises(CallerError) as caught:
            attempt()
        assert (caught.value.argument, caught.value.limit) == ("transaction_id", 2**64 - 1)
        assert image_of(sender.memory)[:128] == shown
    sender.send(pattern(24), transaction_id=2**64 - 1)
    assert receiver.receive()[0][:3] == (IncomingPacketType.IN_BAND, 2**64 - 1, pattern(24))
    with pytest.raises(RingEmpty):
        receiver.receive()


def test_a_wrong_transaction_id_in_the_middle_of_a_batch_leaves_the_batch_usable():
    sender, receiver = connected_rings(4096)
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(8, transaction_id=1)).writer(sender).write(bytes(8))
    with pytest.raises(CallerError):
        sender.write(outgoing, OutgoingPacket.in_band(8, transaction_id=-1))
    sender.write(outgoing, OutgoingPacket.in_band(8, transaction_id=2)).writer(sender).write(bytes(8))
    sender.commit_write(outgoing)
    assert [packet.transaction_id for packet in receiver.receive_many()[0]] == [1, 2]


@pytest.mark.parametrize("set_id, ranges", [(-1, []), (2**16, []), (1, [(2**32, 0)]), (1, [(0, -1)])])
def test_transfer_page_numbers_with_too_many_bits_are_the_callers_mistake(set_id, ranges):
    with pytest.raises(CallerError):
        OutgoingPacket.transfer_pages(set_id, ranges)


@pytest.mark.parametrize("length", [-1, -8, -24, -100])
def test_a_packet_of_negative_length_is_the_callers_mistake(length):
    sender, receiver = connected_rings(4096)
    outgoing = sender.outgoing()
    for kind in PACKET_KINDS.values():
        with pytest.raises(CallerError):
            sender.write(outgoing, kind.outgoing(length))
    assert sender.commit_write(outgoing) is False
    assert receiver.receive_many() == ([], False)


# -- ends that join a ring in use ------------------------------------------------------------------------


@over_each_memory
def test_a_sender_that_joins_a_ring_in_use_keeps_what_waits_in_it(memory_name):
    """Until it has looked at out it knows of no room at all."""
    for start in range(0, 4096, 1016):
        memory = MEMORIES[memory_name](4096)
        first, receiver = connected_rings(memory=memory, start=start)
        waiting = [pattern(1000, seed=number) for number in (1, 2, 3)]
        first.send_many(waiting)  # 3 x 1024 of 4088 bytes
        joined = OutgoingRing(memory)
        assert not joined.can_write(joined.outgoing(), PacketSize.in_band(1000))
        with pytest.raises(RingFull) as caught:
            joined.send(bytes(1000))
        assert caught.value.free == 1016
        assert joined.send_many([pattern(900), pattern(900)]) == (1, False)
        assert payloads_of(receiver.receive_many()[0]) == [*waiting, padded(pattern(900))]


def test_a_sender_that_is_reset_counts_the_room_anew():
    sender, receiver = connected_rings(4096)
    sender.send_many([bytes(1000)] * 3)
    sender.reset()
    with pytest.raises(RingFull):
        sender.send(bytes(1000))
    assert len(receiver.receive_many()[0]) == 3


def test_a_receiver_that_joins_a_ring_in_use_finds_what_waits_in_it():
    memory = FlatRingMem(4096)
    sender, first = connected_rings(memory=memory, start=4064)
    sender.send_many([b"one", b"two", b"three"])
    first.receive()
    assert payloads_of(IncomingRing(memory).receive_many()[0]) == [padded(b"two"), padded(b"three")]


# -- memory that can only be read ------------------------------------------------------------------------


def test_read_only_memory_refuses_a_commit_even_after_a_broken_packet():
    sender, receiver = connected_rings(4096)
    sender.send_many([b"good", b"bad"])
    break_type(receiver, 32)
    watching = IncomingRing(FlatRingMem.over(read_only_image(receiver)))
    incoming = watching.incoming()
    watching.read(incoming)
    with pytest.raises(PeerError):
        watching.read(incoming)
    for attempt in (lambda: watching.commit_read(incoming), watching.receive, watching.receive_many):
        with pytest.raises(CallerError, match="read-only"):
            attempt()


def read_only_image(receiver: IncomingRing) -> bytes:
    image = image_of(receiver.memory)
    return image[:128].ljust(4096, b"\0") + image[128:]
