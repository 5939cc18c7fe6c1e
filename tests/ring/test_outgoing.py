"""The sending end: what it stores to the byte, what it refuses, and when it signals.

What the one-step methods have in common with the single steps is in test_pair.py; indices from an
enemy are in test_hostile.py.
"""

from __future__ import annotations

import array

import pytest

from tests.helpers import SlowRingMem, padded, pattern, receive_packet, send_packet
from tests.known_bugs import known_bug
from vmbus.errors import CallerError, PeerError, RingFull
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.layout import (
    FEATURE_BITS_WORD,
    FOOTER,
    IN_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
)
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import (
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    PacketSize,
    PagedRange,
    connected_rings,
)


def send_twice(sender: OutgoingRing, payload: bytes) -> None:
    """Twice, because the second packet of a size takes the prepared way."""
    sender.send(payload)
    sender.send(payload)


#: The ways to send payloads, each in its own commit or all in one.
SENDS = {
    "send": lambda sender, payloads: [sender.send(payload) for payload in payloads],
    "send_many": lambda sender, payloads: sender.send_many(payloads),
    "write": lambda sender, payloads: [send_packet(sender, payload) for payload in payloads],
}
every_send = pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)


# -- making one ------------------------------------------------------------------------------------


def test_making_a_sender_loads_in_and_stores_its_feature_bit_and_a_pending_size_of_0_and_nothing_else():
    memory = RecordingMemory(FlatRingMem(4096))
    words = memory.inside.control
    words[IN_WORD] = words[OUT_WORD] = 512
    words[FEATURE_BITS_WORD], words[PENDING_SEND_SIZE_WORD], words[2] = 0xF0, 99, 1
    OutgoingRing(memory)
    accesses = [(str(access), access.value) for access in memory.take()]
    assert accesses == [("load in", 512), ("store features", 1), ("store pending", 0)]
    assert list(words) == [512, 512, 1, 0] + [0] * 12 + [1] + [0] * 15


@every_send
def test_a_sender_made_over_a_ring_in_use_writes_behind_what_waits_and_never_over_it(send):
    first, receiver = connected_rings(start=4000)
    first.send_many([pattern(900, seed=number + 1) for number in range(4)])
    later = OutgoingRing(first.memory)
    assert later.can_write(later.outgoing(), 376) is True
    assert later.can_write(later.outgoing(), 384) is False
    with pytest.raises(RingFull) as error:
        later.send(bytes(360))
    assert (error.value.needed, error.value.free) == (384, 376)
    send(later, [pattern(352)])
    received = [packet.payload for packet in receiver.receive_many()[0]]
    assert received == [padded(pattern(900, seed=number + 1)) for number in range(4)] + [pattern(352)]


def test_a_sender_that_is_reset_knows_of_no_room_before_it_looks():
    sender, _ = connected_rings()
    sender.send(bytes(4000))
    sender.reset()
    with pytest.raises(RingFull):
        sender.send(bytes(100))


@pytest.mark.parametrize("in_offset", [4, 4096, 2**32 - 8])
def test_a_sender_made_where_in_is_bad_raises_at_its_first_use(in_offset):
    memory = FlatRingMem(4096)
    memory.control[IN_WORD] = in_offset
    sender = OutgoingRing(memory)
    for call in (sender.outgoing, lambda: sender.send(b""), lambda: sender.send_many([])):
        with pytest.raises(PeerError, match=f"in is {in_offset:#06x}"):
            call()


@pytest.mark.parametrize(
    "memory",
    [
        FlatRingMem.over(bytes(8192)),
        PagedRingMem([bytes(4096)] * 2),
        FlatRingMem.over(memoryview(bytes(8192))),
    ],
    ids=["flat", "paged", "view"],
)
def test_no_sender_is_made_over_memory_that_cannot_be_written(memory):
    with pytest.raises(CallerError, match="read-only memory") as error:
        OutgoingRing(memory)
    assert error.value.argument == "memory"


# -- rounds of writing -----------------------------------------------------------------------------


def test_nothing_is_published_before_the_commit_and_all_of_the_round_by_it():
    sender, receiver = connected_rings()
    outgoing = sender.outgoing()
    for number in range(3):
        sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(bytes([number]) * 8)
        assert sender.memory.control[IN_WORD] == 0
    assert receiver.can_read(receiver.incoming()) is False
    assert sender.commit_write(outgoing) is True
    assert [packet.payload[0] for packet in receiver.receive_many()[0]] == [0, 1, 2]


def test_a_reverted_round_has_written_nothing():
    sender, receiver = connected_rings()
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(b"taken up")
    sender.commit_write(outgoing)
    sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(b"reverted")
    outgoing.revert()
    assert sender.commit_write(outgoing) is False
    sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(b"replaced")
    sender.commit_write(outgoing)
    assert [packet.payload for packet in receiver.receive_many()[0]] == [b"taken up", b"replaced"]


def test_a_commit_of_nothing_stores_nothing_and_signals_nobody():
    memory = RecordingMemory(FlatRingMem(4096))
    sender, _ = connected_rings(memory=memory)
    outgoing = sender.outgoing()
    memory.take()
    assert sender.commit_write(outgoing) is False
    assert sender.send_many([]) == (0, False)
    assert memory.take() == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda sender: sender.send(b""),
        lambda sender: sender.send_many([b""]),
        lambda sender: send_packet(sender, b""),
        lambda sender: sender.reset(),
    ],
    ids=["send", "send_many", "commit_write", "reset"],
)
def test_an_offset_from_before_another_commit_or_reset_is_stale_and_the_callers_error(meanwhile):
    sender, _ = connected_rings()
    unused, used = sender.outgoing(), sender.outgoing()
    sender.write(used, OutgoingPacket.in_band(8))
    meanwhile(sender)
    for stale in (unused, used):
        for call in (
            lambda offset: sender.can_write(offset, 24),
            lambda offset: sender.write(offset, OutgoingPacket.in_band(8)),
            sender.commit_write,
        ):
            with pytest.raises(CallerError, match="make a new one") as error:
                call(stale)
            assert error.value.argument == "offset"
    sender.write(sender.outgoing(), OutgoingPacket.in_band(8))


def test_room_that_a_round_has_used_is_not_used_again():
    sender, _ = connected_rings()
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(3000))
    assert sender.can_write(outgoing, 1064) is True
    assert sender.can_write(outgoing, 1072) is False
    with pytest.raises(RingFull) as error:
        sender.write(outgoing, OutgoingPacket.in_band(1041))
    assert (error.value.needed, error.value.free) == (1072, 1064)
    sender.write(outgoing, OutgoingPacket.in_band(1040))
    assert sender.can_write(outgoing, 24) is False


def test_a_packet_that_did_not_fit_leaves_the_round_as_it_was():
    sender, receiver = connected_rings()
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(3000)).writer(sender).write(pattern(3000))
    with pytest.raises(RingFull):
        sender.write(outgoing, OutgoingPacket.in_band(3000))
    sender.commit_write(outgoing)
    assert [packet.payload for packet in receiver.receive_many()[0]] == [pattern(3000)]


# -- the bytes -------------------------------------------------------------------------------------


@every_send
def test_a_packet_is_its_descriptor_its_payload_its_padding_and_its_footer(send):
    sender, _ = connected_rings(start=64)
    send(sender, [b"0123456789"])
    stored = sender.memory.read_at(64, 40)
    assert stored[:16].hex(" ", 2) == "0600 0200 0400 0000 0000 0000 0000 0000"
    assert stored[16:32] == b"0123456789" + bytes(6)
    assert stored[32:].hex(" ", 4) == "00000000 40000000"


@every_send
@pytest.mark.parametrize("start", [0, 4072, 4080, 4088])
def test_the_footer_of_every_packet_is_the_place_of_that_packet(send, start):
    sender, _ = connected_rings(start=start)
    send(sender, [pattern(20)] * 3)
    for number in range(3):
        footer = FOOTER.unpack(sender.memory.read_at((start + 48 * number + 40) % 4096, 8))
        assert (footer.reserved, footer.packet_offset) == (0, (start + 48 * number) % 4096)


@known_bug("B32")
@every_send
@pytest.mark.parametrize("length", range(1, 25))
@pytest.mark.parametrize("start", [0, 4064, 4072])
def test_padding_is_zero_whatever_was_in_the_ring(send, length, start):
    for memory in (FlatRingMem(4096), PagedRingMem([bytearray(4096) for _ in range(2)]), SlowRingMem(4096)):
        memory.write_at(0, b"\xff" * 4096)
        sender, receiver = connected_rings(memory=memory, start=start)
        send(sender, [b"\xee" * length] * 3)
        expected = padded(b"\xee" * length)
        assert [packet.payload for packet in receiver.receive_many()[0]] == [expected] * 3


@known_bug("B32")
def test_the_padding_of_a_packet_with_ranges_is_zero_too():
    sender, receiver = connected_rings(start=4000)
    sender.memory.write_at(0, b"\xff" * 4096)
    send_packet(sender, b"five!", OutgoingPacket.gpa_direct([PagedRange(0, 8192, [1, 2])], 5))
    assert receiver.receive()[0].payload == padded(b"five!")


@every_send
def test_no_byte_beside_the_packets_is_stored(send):
    sender, _ = connected_rings(start=4040)
    sender.memory.write_at(0, b"\xa5" * 4096)
    send(sender, [pattern(20)] * 3)
    assert sender.memory.read_at(88, 4096 - 144) == b"\xa5" * (4096 - 144)
    assert sender.memory.control[IN_WORD] == 88


@pytest.mark.parametrize("transaction_id", [0, 1, 2**63, 2**64 - 1])
def test_a_transaction_id_and_the_wish_for_a_completion_go_into_the_descriptor(transaction_id):
    sender, receiver = connected_rings()
    for _ in range(2):
        sender.send(b"x", transaction_id, True)
        packet, _ = receiver.receive()
        assert (packet.transaction_id, packet.completion_requested) == (transaction_id, True)


@pytest.mark.parametrize("transaction_id", [-1, 2**64, 1.5, None, "7"])
def test_what_is_no_number_of_64_bits_is_no_transaction_id_and_nothing_is_sent(transaction_id):
    sender, receiver = connected_rings()
    for call in (
        lambda: sender.send(b"12345678", transaction_id),
        lambda: send_packet(sender, b"", OutgoingPacket.completion(0, transaction_id=transaction_id)),
    ):
        for _ in range(2):  # the first of its size, and one that takes the prepared way
            with pytest.raises(CallerError, match="transaction id is a number from 0") as error:
                call()
            assert error.value.value == transaction_id
            assert receiver.receive_many() == ([], False)
            sender.send(b"prepared")
            receiver.receive()


def test_any_buffer_can_be_sent_as_the_bytes_it_holds():
    sender, receiver = connected_rings()
    buffers = [
        *(b"12345678", bytearray(b"12345678"), memoryview(b"12345678"), memoryview(b"a12345678z")[1:9]),
        *(array.array("I", [0x34333231, 0x38373635]), memoryview(array.array("H", [0x3231] * 4))),
    ]
    for buffer in buffers:
        send_twice(sender, buffer)
    assert sender.send_many(buffers)[0] == len(buffers)
    expected = [bytes(buffer) for buffer in buffers]
    assert [packet.payload for packet in receiver.receive_many()[0]] == [
        *(payload for payload in expected for _ in range(2)),
        *expected,
    ]


@pytest.mark.parametrize("payload", ["text", 7, None, [1, 2], object()])
def test_what_is_no_buffer_is_the_callers_error_and_nothing_is_sent(payload):
    sender, receiver = connected_rings()
    for call in (lambda: sender.send(payload), lambda: sender.send_many([b"good", payload])):
        with pytest.raises(CallerError, match=type(payload).__name__):
            call()
    assert receiver.receive_many() == ([], False)


@pytest.mark.parametrize("memory", [FlatRingMem, SlowRingMem])
def test_packets_of_more_sizes_than_are_prepared_are_all_sent_right(memory):
    sender, receiver = connected_rings(memory=memory(8192))
    for length in (*range(0, 8 * 520, 8), *range(8 * 519, 0, -56)):
        sender.send(pattern(length), length)
        packet, _ = receiver.receive()
        assert (packet.payload, packet.transaction_id) == (pattern(length), length)


# -- full ------------------------------------------------------------------------------------------


@known_bug("B25")
@every_send
@pytest.mark.parametrize("first", [0, 24, 1000, 4032, 4040])
@pytest.mark.parametrize("start", [0, 8, 4080, 4088])
def test_a_ring_is_filled_to_all_but_its_last_slot_and_not_one_slot_more(send, first, start):
    sender, receiver = connected_rings(start=start)
    payloads = [pattern(first)] if first else []
    left = 4088 - sum(PacketSize.in_band(len(payload)) for payload in payloads)
    send(sender, payloads)
    if left >= 24 and first:
        with pytest.raises(RingFull) as error:
            sender.send(bytes(left - 23))
        assert (error.value.needed, error.value.free) == (left + 8, left)
        assert sender.send_many([bytes(left - 23)]) == (0, False)
    if left >= 24:
        payloads.append(pattern(left - 24))
        send(sender, payloads[-1:])
        left = 0
    assert sender.memory.control[IN_WORD] == (start - 8 - left) % 4096
    assert sender.can_write(sender.outgoing(), 24) is False
    with pytest.raises(RingFull):
        sender.send(b"")
    assert [packet.payload for packet in receiver.receive_many()[0]] == payloads
    sender.send(b"")


@known_bug("B25", "B43")
@pytest.mark.parametrize("pages", [1, 2, 5])
def test_a_packet_larger_than_the_ring_will_ever_hold_is_the_callers_error_and_never_ring_full(pages):
    size = pages * 4096
    sender, receiver = connected_rings(size=size)
    sender.send(b"in the way")
    assert sender.maximum_packet_size() == size - 8
    with pytest.raises(RingFull):
        sender.send(bytes(size - 32))
    for call in (
        lambda: sender.send(bytes(size - 31)),
        lambda: sender.send_many([b"", bytes(size - 31)]),
        lambda: send_packet(sender, bytes(size - 31)),
        lambda: sender.can_write(sender.outgoing(), size),
    ):
        with pytest.raises(CallerError, match=f"the largest has {size - 8}") as error:
            call()
        assert (error.value.value, error.value.limit) == (size, size - 8)
    assert len(receiver.receive_many()[0]) == 1


def test_room_that_the_receiver_makes_is_found_when_it_is_needed():
    sender, receiver = connected_rings()
    for number in range(50):
        sender.send(pattern(3000, seed=number + 1))
        with pytest.raises(RingFull):
            sender.send(bytes(3000))
        assert receiver.receive()[0].payload == pattern(3000, seed=number + 1)


def test_send_many_sends_as_many_from_the_first_on_as_fit_and_says_how_many():
    sender, receiver = connected_rings()
    payloads = [pattern(1000, seed=number + 1) for number in range(5)]
    assert sender.send_many(payloads) == (3, True)
    assert sender.send_many(payloads[3:]) == (0, False)
    assert sender.send_many([bytes(1100), b"small"]) == (0, False)
    assert [packet.payload for packet in receiver.receive_many()[0]] == payloads[:3]
    assert sender.send_many(iter(payloads[3:])) == (2, True)
    assert [packet.payload for packet in receiver.receive_many()[0]] == payloads[3:]


def test_send_many_checks_every_size_before_it_stores_a_byte():
    memory = RecordingMemory(FlatRingMem(4096))
    sender, _ = connected_rings(memory=memory)
    memory.take()
    with pytest.raises(CallerError):
        sender.send_many([b"good", bytes(4065)])
    assert memory.take() == []


# -- signals ---------------------------------------------------------------------------------------


def test_a_masked_receiver_is_not_signaled_and_an_unmasked_one_is_when_its_ring_was_empty():
    memory = FlatRingMem(16384)
    sender, receiver = OutgoingRing(memory), IncomingRing(memory)
    assert send_packet(sender, b"123") is False
    assert receive_packet(receiver).signal is False
    receiver.set_interrupt_mask(False)
    assert send_packet(sender, b"123") is True
    assert send_packet(sender, b"123") is False
    assert receive_packet(receiver).signal is False


@every_send
@pytest.mark.parametrize("mask", [1, 2, 2**31, 2**32 - 1])
def test_any_mask_but_0_is_a_mask(send, mask):
    sender, _ = connected_rings()
    sender.memory.control[2] = mask
    result = send(sender, [b""])
    assert result in ([False], (1, False))


@known_bug("B06", "B07")
def test_a_batch_signals_once_and_only_where_the_receiver_had_read_all_before_it():
    sender, receiver = connected_rings()
    assert sender.send_many([b""] * 5) == (5, True)
    receiver.receive_many(4)
    assert sender.send_many([b""] * 5) == (5, False)
    receiver.receive_many()
    assert sender.send_many([b""] * 5) == (5, True)


@known_bug("B06")
def test_a_receiver_that_reads_between_the_index_and_the_check_gets_no_signal_it_does_not_need():
    """The check looks at where the reader is after the new in was stored, not before."""
    memory = RecordingMemory(FlatRingMem(4096))
    sender, receiver = OutgoingRing(memory), IncomingRing(memory.inside)
    receiver.set_interrupt_mask(False)

    def read_at_once(access):
        if str(access) == "store in":
            receiver.receive_many()

    memory.after = read_at_once
    assert sender.send(b"seen already") is False


@pytest.mark.parametrize(
    ("asked", "stored"), [(0, 0), (1, 8), (8, 8), (9, 16), (1001, 1008), (4081, 4088), (4088, 4088)]
)
def test_a_pending_send_size_is_stored_rounded_up(asked, stored):
    sender, _ = connected_rings()
    sender.set_pending_send_size(asked)
    assert sender.memory.control[PENDING_SEND_SIZE_WORD] == stored


@pytest.mark.parametrize("asked", [-1, -8, 4089, 4096, 2**32])
def test_a_pending_send_size_no_ring_can_free_is_the_callers_error(asked):
    sender, _ = connected_rings()
    sender.set_pending_send_size(64)
    with pytest.raises(CallerError, match=f"not {asked}") as error:
        sender.set_pending_send_size(asked)
    assert (error.value.argument, error.value.limit) == ("length", 4088)
    assert sender.memory.control[PENDING_SEND_SIZE_WORD] == 64


def test_a_pending_send_size_may_be_larger_than_any_packet():
    sender, _ = connected_rings(size=1 << 20)
    sender.set_pending_send_size((1 << 20) - 8)
    assert sender.memory.control[PENDING_SEND_SIZE_WORD] == (1 << 20) - 8


def test_the_size_that_ring_full_names_is_the_size_to_ask_for():
    sender, receiver = connected_rings()
    sender.send_many([bytes(976)] * 4)
    with pytest.raises(RingFull) as error:
        sender.send(bytes(1993))
    sender.set_pending_send_size(error.value.needed)
    assert [receiver.receive()[1] for _ in range(2)] == [False, True]
    sender.send(bytes(1993))


@known_bug("B01")
def test_room_made_before_the_wish_was_stored_is_found_by_the_look_after_it():
    sender, receiver = connected_rings()
    sender.send(bytes(4064))
    assert sender.can_write(sender.outgoing(), 4088) is False
    assert receiver.receive()[1] is False
    sender.set_pending_send_size(4088)
    assert sender.can_write(sender.outgoing(), 4088) is True


def test_the_descriptor_of_every_packet_says_its_own_length():
    sender, _ = connected_rings(start=4032)
    sender.send_many([pattern(length) for length in (0, 1, 8, 9, 100)])
    at = 4032
    for length in (0, 1, 8, 9, 100):
        descriptor = PACKET_DESCRIPTOR.unpack(sender.memory.read_at(at, 16))
        assert descriptor == (6, 2, (PacketSize.in_band(length) - 8) // 8, 0, 0)
        at = (at + PacketSize.in_band(length)) % 4096
