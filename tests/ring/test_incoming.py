"""The receiving end: what it accepts, what it refuses and where, and what it never loses.

What the one-step methods have in common with the single steps is in test_pair.py; bytes from an
enemy are in test_hostile.py.
"""

from __future__ import annotations

import struct

import pytest

from tests.helpers import padded, pattern, receive_packet, send_packet
from tests.known_bugs import known_bug
from tests.no_error import no_error
from vmbus.errors import BufferTooSmall, CallerError, PeerError, RingEmpty
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.layout import (
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
    PacketDescriptor,
)
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import (
    GpaRangeFault,
    IncomingPacketType,
    IncomingRing,
    OutgoingPacket,
    PagedRange,
    RingFault,
    TransferPageRange,
    connected_rings,
)


def raw_ring(packet: bytes, start: int = 0, published: int | None = None) -> IncomingRing:
    """A receiver of a ring of 4096 bytes with these bytes at `start`; by default all published."""
    memory = FlatRingMem(4096)
    memory.write_at(start, packet)
    memory.control[OUT_WORD] = start
    memory.control[IN_WORD] = (start + (len(packet) if published is None else published)) % 4096
    return IncomingRing(memory)


def raw_packet(
    *, kind: int = 6, data_offset8: int = 2, flags: int = 0, transaction_id: int = 0, body: bytes = b""
) -> bytes:
    """A packet as any sender could write it, its footer not filled in."""
    descriptor = PacketDescriptor(kind, data_offset8, 2 + len(body) // 8, flags, transaction_id)
    return PACKET_DESCRIPTOR.pack(descriptor) + body + b"\xee" * 8


def read_one(receiver: IncomingRing) -> IncomingRing:
    return receiver.read(receiver.incoming())


# -- making one ------------------------------------------------------------------------------------


def test_making_a_receiver_loads_out_and_masks_interrupts_and_does_nothing_else():
    memory = RecordingMemory(FlatRingMem(4096))
    memory.inside.control[IN_WORD] = memory.inside.control[OUT_WORD] = 512
    memory.inside.control[PENDING_SEND_SIZE_WORD] = 77
    IncomingRing(memory)
    accesses = [(str(access), access.value) for access in memory.take()]
    assert accesses == [("load out", 512), ("store mask", 1)]
    assert list(memory.inside.control) == [512, 512, 1, 77] + [0] * 28


def test_a_receiver_made_over_a_ring_in_use_goes_on_at_out():
    sender, receiver = connected_rings(start=4064)
    for text in (b"first", b"second", b"third"):
        sender.send(text)
    receiver.receive()
    later = IncomingRing(sender.memory)
    assert [packet.payload for packet in later.receive_many()[0]] == [padded(b"second"), padded(b"third")]


@pytest.mark.parametrize("out", [4, 4096, 2**32 - 8])
def test_a_receiver_made_where_out_is_bad_raises_at_its_first_use(out):
    memory = FlatRingMem(4096)
    memory.control[OUT_WORD] = out
    receiver = IncomingRing(memory)
    for call in (receiver.incoming, receiver.receive, receiver.receive_many):
        with pytest.raises(PeerError, match=f"out is {out:#06x}"):
            call()


# -- rounds of reading -----------------------------------------------------------------------------


def test_a_round_reads_packets_in_order_and_gives_their_space_back_at_its_commit():
    sender, receiver = connected_rings()
    for number in range(3):
        sender.send(pattern(16, seed=number + 1))
    incoming = receiver.incoming()
    for number in range(3):
        packet = receiver.read(incoming)
        assert packet.payload.reader(receiver).read_all() == pattern(16, seed=number + 1)
        assert receiver.memory.control[OUT_WORD] == 0
    assert receiver.can_read(incoming) is False
    with pytest.raises(RingEmpty):
        receiver.read(incoming)
    receiver.commit_read(incoming)
    assert receiver.memory.control[OUT_WORD] == 120


def test_a_reverted_round_reads_the_same_packets_again():
    sender, receiver = connected_rings()
    sender.send(b"first")
    sender.send(b"second")
    incoming = receiver.incoming()
    receiver.read(incoming)
    receiver.commit_read(incoming)
    receiver.read(incoming)
    incoming.revert()
    assert receiver.read(incoming).payload.reader(receiver).read_all() == padded(b"second")


def test_a_round_goes_on_after_its_own_commit():
    sender, receiver = connected_rings()
    incoming = receiver.incoming()
    for text in (b"one", b"two", b"three"):
        sender.send(text)
        assert receiver.read(incoming).payload.reader(receiver).read_all() == padded(text)
        receiver.commit_read(incoming)


def test_a_commit_of_nothing_stores_nothing_and_signals_nobody():
    memory = RecordingMemory(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory)
    sender.send(b"")
    sender.set_pending_send_size(4088)
    incoming = receiver.incoming()
    receiver.read(incoming)
    incoming.revert()
    memory.take()
    assert receiver.commit_read(incoming) is False
    assert memory.take() == []


def test_packets_that_come_during_a_round_belong_to_it():
    sender, receiver = connected_rings()
    incoming = receiver.incoming()
    assert receiver.can_read(incoming) is False
    sender.send(b"late")
    assert receiver.can_read(incoming) is True
    assert receiver.read(incoming).payload.size == 8


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda receiver: receiver.receive(),
        lambda receiver: receiver.receive_many(1),
        lambda receiver: receiver.receive_into(bytearray(8)),
        receive_packet,
        lambda receiver: receiver.reset(),
    ],
    ids=["receive", "receive_many", "receive_into", "commit_read", "reset"],
)
def test_an_offset_from_before_another_commit_or_reset_is_stale_and_the_callers_error(meanwhile):
    sender, receiver = connected_rings()
    for _ in range(3):
        sender.send(bytes(8))
    unused, used = receiver.incoming(), receiver.incoming()
    receiver.read(used)
    meanwhile(receiver)
    for stale in (unused, used):
        for call in (receiver.can_read, receiver.read, receiver.commit_read):
            with pytest.raises(CallerError, match="make a new one") as error:
                call(stale)
            assert error.value.argument == "offset"
    receiver.read(receiver.incoming())


def test_a_look_that_takes_nothing_leaves_offsets_fresh():
    _, receiver = connected_rings()
    incoming = receiver.incoming()
    receiver.receive_many()
    with pytest.raises(RingEmpty):
        receiver.receive()
    assert receiver.can_read(incoming) is False


def test_reset_goes_on_from_the_indices_as_they_then_stand():
    sender, receiver = connected_rings()
    sender.send(b"skipped")
    sender.send(b"wanted")
    receiver.memory.control[OUT_WORD] = 32
    receiver.reset()
    assert receiver.receive()[0].payload == padded(b"wanted")


# -- what is in a packet ---------------------------------------------------------------------------


def test_eight_bytes_sent_are_eight_bytes_received_and_the_sender_is_not_signaled():
    sender, receiver = connected_rings(size=16384)
    assert send_packet(sender, bytes(range(1, 9))) is True
    payload, signal, _ = receive_packet(receiver)
    assert (payload, signal) == (bytes(range(1, 9)), False)


def test_a_received_packet_has_left_the_ring():
    sender, receiver = connected_rings()
    sender.send(b"received")
    packet, _ = receiver.receive()
    receiver.memory.write_at(0, b"\xff" * 4096)
    assert packet.payload == b"received" and type(packet.payload) is bytes


def test_a_payload_may_start_behind_bytes_that_are_no_part_of_it():
    receiver = raw_ring(raw_packet(data_offset8=4, body=pattern(40)))
    seen = read_one(receiver)
    assert (seen.extension.size, seen.payload.size) == (16, 24)
    assert receiver.receive()[0].payload == pattern(40)[16:]


def test_a_packet_may_be_all_header_and_no_payload():
    receiver = raw_ring(raw_packet(data_offset8=7, body=pattern(40)))
    assert read_one(receiver).payload.is_empty
    assert receiver.receive()[0].payload == b""


def test_the_footer_and_the_padding_of_a_sender_do_not_matter():
    assert raw_ring(raw_packet(body=b"\xff" * 8)).receive()[0].payload == b"\xff" * 8


@known_bug("B47")
def test_a_packet_without_bytes_is_a_packet_and_then_the_ring_is_empty_to_both_ends():
    sender, receiver = connected_rings()
    for take in (
        lambda: receiver.receive()[0].payload,
        lambda: receiver.receive_many()[0][0].payload,
        lambda: bytes(receiver.receive_into(bytearray(0))[0]),
        lambda: receive_packet(receiver).payload,
    ):
        sender.send(b"")
        assert receiver.can_read(receiver.incoming()) is True
        assert take() == b""
        assert receiver.can_read(receiver.incoming()) is False
        assert receiver.memory.control[OUT_WORD] == receiver.memory.control[IN_WORD]
        with pytest.raises(RingEmpty):
            receiver.receive()


@known_bug("B43")
def test_a_message_of_4096_bytes_comes_whole_and_the_next_one_follows_it():
    sender, receiver = connected_rings(size=8192, start=8000)
    sender.send(pattern(4096))
    sender.send(b"the next")
    assert receiver.receive()[0].payload == pattern(4096)
    assert receiver.receive()[0].payload == b"the next"


@known_bug("B25")
@pytest.mark.parametrize("start", [0, 8, 2048, 4080, 4088])
def test_a_full_ring_is_full_of_packets_and_not_empty(start):
    for lengths in ([4064], [2020, 2016], [0] * 169 + [8]):
        sender, receiver = connected_rings(start=start)
        for length in lengths:
            sender.send(pattern(length))
        assert sender.memory.control[IN_WORD] == (start - 8) % 4096
        received = receiver.receive_many()[0]
        assert [packet.payload for packet in received] == [padded(pattern(length)) for length in lengths]


@known_bug("B45")
def test_a_buffer_too_small_says_what_is_needed_and_the_packet_stays_until_it_fits():
    sender, receiver = connected_rings()
    sender.send(pattern(48))
    buffer = bytearray(b"?" * 47)
    for _ in range(2):
        with pytest.raises(BufferTooSmall, match="48 bytes and the buffer 47") as error:
            receiver.receive_into(buffer)
        assert error.value.needed == 48
        assert buffer == b"?" * 47
        assert receiver.memory.control[OUT_WORD] == 0
    larger = bytearray(b"?" * 50)
    assert receiver.receive_into(larger) == (48, False)
    assert larger == pattern(48) + b"??"


def test_a_buffer_that_cannot_be_written_leaves_the_packet_where_it_is():
    sender, receiver = connected_rings()
    sender.send(b"it stays")
    for buffer in (bytes(8), "text", memoryview(bytes(8))):
        with pytest.raises(CallerError):
            receiver.receive_into(buffer)
    assert receiver.receive()[0].payload == b"it stays"


def test_receive_into_takes_any_buffer_that_can_be_written():
    sender, receiver = connected_rings()
    whole = bytearray(16)
    for buffer in (whole, memoryview(whole)[8:], memoryview(bytearray(16)).cast("Q")):
        sender.send(b"eight...")
        assert receiver.receive_into(buffer) == (8, False)
    assert whole == b"eight...eight..."


# -- many at once ----------------------------------------------------------------------------------


def test_receive_many_takes_what_is_there_or_as_many_as_it_may():
    sender, receiver = connected_rings()
    sender.send_many([bytes([number]) * 8 for number in range(10)])
    taken = {limit: receiver.receive_many(limit)[0] for limit in (3, 1, 0, 100, None)}
    numbers = {limit: [packet.payload[0] for packet in packets] for limit, packets in taken.items()}
    assert numbers == {3: [0, 1, 2], 1: [3], 0: [], 100: [4, 5, 6, 7, 8, 9], None: []}


def test_receive_many_takes_every_kind_of_packet_in_the_order_they_were_sent():
    sender, receiver = connected_rings(size=8192, start=8104)
    sent = [
        OutgoingPacket.in_band(8),
        OutgoingPacket.gpa_direct([PagedRange(0, 8192, [4, 5])], 8),
        OutgoingPacket.gpa_direct([PagedRange(0, 1, [4])], 8),
        OutgoingPacket.completion(8, transaction_id=9),
        OutgoingPacket.transfer_pages(2, [TransferPageRange(1, 2)], 8),
        OutgoingPacket.in_band(8),
        OutgoingPacket.in_band(8),
    ]
    for number, packet in enumerate(sent):
        send_packet(sender, pattern(8, seed=number + 1), packet)
    received, _ = receiver.receive_many()
    assert [packet.type for packet in received] == [packet.type.value[0] for packet in sent]
    assert [packet.payload for packet in received] == [pattern(8, seed=number + 1) for number in range(7)]


@pytest.mark.parametrize("paged", [False, True], ids=["flat", "paged"])
def test_receive_many_takes_more_than_it_copies_at_once(paged):
    size = 64 * 4096
    memory = PagedRingMem([bytearray(4096) for _ in range(65)]) if paged else FlatRingMem(size)
    sender, receiver = connected_rings(memory=memory, start=size - 40_000)
    lengths = [60_000, 10, 70_000, 3000, 65_512, 0, 40_000]
    sender.send_many([pattern(length) for length in lengths])
    received, _ = receiver.receive_many()
    assert [packet.payload for packet in received] == [padded(pattern(length)) for length in lengths]
    assert receiver.receive_many() == ([], False)


def test_receive_many_signals_once_for_the_whole_batch():
    sender, receiver = connected_rings()
    sender.send_many([bytes(976)] * 4)
    sender.set_pending_send_size(1000)
    assert receiver.receive_many(2)[1] is True
    assert receiver.receive_many()[1] is False


# -- refusing --------------------------------------------------------------------------------------

#: The three ways to look at one packet.
LOOKS = {
    "read": read_one,
    "receive": IncomingRing.receive,
    "receive_many": IncomingRing.receive_many,
}
every_look = pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)


def fault_of(receiver: IncomingRing, look) -> PeerError:
    with pytest.raises(PeerError) as error:
        look(receiver)
    return error.value


@known_bug("B28")
@every_look
@pytest.mark.parametrize(
    "packet",
    [
        raw_packet(body=bytes(16)),
        raw_packet(kind=11),
        raw_packet(kind=9, data_offset8=5, body=struct.pack("<IIIIQ", 0, 1, 8, 0, 7)),
        raw_packet(kind=7, data_offset8=4, body=struct.pack("<HHIII", 1, 0, 1, 8, 0)),
    ],
    ids=["in-band", "completion", "GPA-direct", "transfer pages"],
)
def test_a_packet_is_refused_at_every_offset_until_its_footer_is_published_too(look, packet):
    for start in range(0, 4096, 8):
        assert look(raw_ring(packet, start))
        error = fault_of(raw_ring(packet, start, published=len(packet) - 8), look)
        if len(packet) - 8 < 24:
            assert error.kind is RingFault.INVALID_DATA_AVAILABLE
            continue
        assert error.kind is RingFault.FOOTER_NOT_PUBLISHED
        assert (error.offset, error.found, error.allowed) == (start, len(packet), len(packet) - 8)


@known_bug("B28")
@every_look
@pytest.mark.parametrize("published", [8, 16])
def test_less_than_a_descriptor_and_a_footer_is_no_packet(look, published):
    for start in (0, 4080, 4088):
        error = fault_of(raw_ring(raw_packet(), start, published), look)
        assert (error.kind, error.found, error.allowed) == (RingFault.INVALID_DATA_AVAILABLE, published, 24)


@every_look
@pytest.mark.parametrize(
    ("data_offset8", "length8"), [(2, 6), (2, 65535), (0, 3), (1, 3), (4, 3), (65535, 3), (0, 0), (2, 1)]
)
@pytest.mark.parametrize("kind", [6, 11, 7, 9])
def test_lengths_that_do_not_fit_each_other_or_what_is_published_are_refused(
    look, data_offset8, length8, kind
):
    packet = PACKET_DESCRIPTOR.pack(PacketDescriptor(kind, data_offset8, length8, 0, 0)) + bytes(16)
    error = fault_of(raw_ring(packet, 128), look)
    assert (error.kind, error.offset) == (RingFault.INVALID_DESCRIPTOR_LENGTHS, 128)


@known_bug("B53")
@every_look
@pytest.mark.parametrize("kind", [IncomingPacketType.GPA_DIRECT, IncomingPacketType.TRANSFER_PAGES])
def test_a_packet_with_ranges_whose_payload_starts_inside_its_header_is_refused(look, kind):
    packet = raw_packet(kind=kind, data_offset8=2, body=struct.pack("<II", 0, 1))
    error = fault_of(raw_ring(packet), look)
    assert (error.kind, error.found, error.allowed) == (RingFault.INVALID_DESCRIPTOR_LENGTHS, 16, 24)


@known_bug("B55")
@every_look
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([0 << 32], RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT),
        ([0 << 32, 8, 7], RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT),
        ([1 << 32], GpaRangeFault.EMPTY_RANGE),
        ([1 << 32, 0, 7], GpaRangeFault.EMPTY_BYTE_COUNT),
        ([1 << 32, 8], GpaRangeFault.RANGE_TOO_SMALL),
        ([1 << 32, 4096 << 32 | 8, 7], GpaRangeFault.OFFSET_TOO_LARGE),
        ([1 << 32, 2**32 - 1, 7], GpaRangeFault.OVERFLOW),
        ([2 << 32, 8, 7], GpaRangeFault.EMPTY_RANGE),
        ([(2**32 - 1) << 32, 8, 7, 8, 7], GpaRangeFault.EMPTY_RANGE),
    ],
)
def test_ranges_that_are_missing_empty_or_do_not_fit_their_pages_are_refused(look, words, kind):
    extension = struct.pack(f"<{len(words)}Q", *words)
    packet = raw_packet(kind=9, data_offset8=2 + len(words), body=extension + bytes(8))
    error = fault_of(raw_ring(packet, 4072), look)
    assert (error.kind, error.offset) == (kind, 4072)


@every_look
@pytest.mark.parametrize(("count", "room"), [(1, 0), (2, 1), (2**32 - 1, 3)])
def test_more_transfer_page_ranges_than_there_is_room_for_are_refused(look, count, room):
    extension = struct.pack("<HHI", 1, 0, count) + bytes(8 * room)
    error = fault_of(raw_ring(raw_packet(kind=7, data_offset8=3 + room, body=extension)), look)
    assert (error.kind, error.found, error.allowed) == (
        RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT,
        count,
        room,
    )


@known_bug("B57")
def test_reserved_fields_may_hold_anything():
    garbage = 0xDEADBEEF
    gpa = raw_packet(kind=9, data_offset8=5, body=struct.pack("<IIIIQ", garbage, 1, 8, 4, 7) + b"payload.")
    with no_error("a packet with garbage where its header is reserved"):
        packet, _ = raw_ring(gpa).receive()
    assert (packet.ranges, packet.payload) == ((PagedRange(4, 8, [7]),), b"payload.")
    pages = raw_packet(
        kind=7, data_offset8=4, body=struct.pack("<HHIII", 5, garbage & 0xFFFF, 1, 8, 4) + b"payload."
    )
    with no_error("a packet with transfer pages and such garbage"):
        packet, _ = raw_ring(pages).receive()
    assert (packet.transfer_page_set_id, packet.ranges) == (5, (TransferPageRange(8, 4),))


def test_words_behind_the_last_range_are_passed_over():
    body = struct.pack("<IIIIQQ", 0, 1, 8, 4, 7, 2**64 - 1) + b"payload."
    packet, _ = raw_ring(raw_packet(kind=9, data_offset8=6, body=body)).receive()
    assert (packet.ranges, packet.payload) == ((PagedRange(4, 8, [7]),), b"payload.")


@known_bug("B58")
@every_look
@pytest.mark.parametrize("kind", [kind for kind in range(17) if kind not in (6, 7, 9, 11)] + [65535])
def test_a_type_that_rings_do_not_carry_is_refused_and_named(look, kind):
    error = fault_of(raw_ring(raw_packet(kind=kind)), look)
    assert (error.kind, error.found) == (RingFault.INVALID_DESCRIPTOR_TYPE, kind)
    assert f"type {kind}" in str(error)


@known_bug("B58")
@every_look
@pytest.mark.parametrize("flags", [2, 3, 4, 0x8000, 0xFFFF])
def test_a_flag_that_nobody_knows_is_refused_and_shown(look, flags):
    error = fault_of(raw_ring(raw_packet(flags=flags)), look)
    assert (error.kind, error.found, error.allowed) == (RingFault.INVALID_DESCRIPTOR_FLAGS, flags, 1)
    assert f"flags {flags:#x}" in str(error)


@known_bug("B26", "B27")
@every_look
@pytest.mark.parametrize("index", [1, 4, 4095, 4096, 4104, 8192, 2**31, 2**32 - 8])
def test_an_in_that_is_no_offset_is_refused_and_never_shown_as_empty(look, index):
    memory = FlatRingMem(4096)
    memory.control[IN_WORD] = index
    error = fault_of(IncomingRing(memory), look)
    assert (error.kind, error.offset) == (RingFault.INVALID_RING_POINTER, None)
    assert (error.found, error.allowed) == (index, 4088)


# -- signals ---------------------------------------------------------------------------------------


def test_five_packets_of_4000_bytes_fill_a_ring_of_four_and_two_must_leave_to_wake_the_sender():
    sender, receiver = connected_rings(size=16384)
    for number in range(4):
        send_packet(sender, bytes([number]) * 4000)
    assert sender.can_write(sender.outgoing(), 16384 - 8 - 4 * 4024) is True
    assert sender.can_write(sender.outgoing(), 4024) is False
    assert receive_packet(receiver).signal is False  # nobody waits yet
    send_packet(sender, bytes(4000))
    assert sender.can_write(sender.outgoing(), 4024) is False
    sender.set_pending_send_size(2 * 4024)
    assert receive_packet(receiver).signal is False  # room for one
    assert receive_packet(receiver).signal is True  # room for two
    assert receive_packet(receiver).signal is False  # it was told already


@known_bug("B08")
def test_the_mask_is_stored_as_0_or_1():
    _, receiver = connected_rings()
    for masked in (True, False, 7, 0):
        receiver.set_interrupt_mask(masked)
        assert receiver.memory.control[INTERRUPT_MASK_WORD] == int(bool(masked))


@known_bug("B08")
def test_a_packet_that_came_under_the_mask_is_found_by_the_look_after_unmasking():
    sender, receiver = connected_rings()
    receiver.set_interrupt_mask(True)
    assert receiver.can_read(receiver.incoming()) is False
    assert sender.send(b"unseen") is False
    receiver.set_interrupt_mask(False)
    assert receiver.can_read(receiver.incoming()) is True


@pytest.mark.parametrize(
    ("features", "expected"), [(0, False), (1, True), (3, True), (2, False), (0xFFFF_FFFE, False)]
)
def test_a_sender_asks_for_room_if_its_first_feature_bit_says_so(features, expected):
    memory = FlatRingMem(4096)
    memory.control[FEATURE_BITS_WORD] = features
    assert IncomingRing(memory).supports_pending_send_size() is expected


def test_interrupts_that_somebody_else_has_masked_are_noticed():
    _, receiver = connected_rings()
    receiver.set_interrupt_mask(True)
    receiver.set_interrupt_mask(False)
    receiver.verify_interrupts_unmasked()
    receiver.memory.control[INTERRUPT_MASK_WORD] = 1
    with pytest.raises(PeerError, match="interrupt mask is 0x1") as error:
        receiver.verify_interrupts_unmasked()
    assert error.value.kind is RingFault.INTERRUPTS_EXTERNALLY_MASKED
    assert (error.value.found, error.value.allowed) == (1, 0)


# -- memory that cannot be written -----------------------------------------------------------------


def image_of_two_packets(broken: bool = False) -> bytes:
    sender, _ = connected_rings(memory=FlatRingMem.over(image := bytearray(8192)), start=4072)
    sender.send(b"first")
    second = sender.memory.control[IN_WORD]
    sender.send(b"second")
    sender.set_pending_send_size(4088)
    if broken:
        sender.memory.write_at(second, b"\xff\xff")
    return bytes(image)


READ_ONLY = {
    "flat": lambda image: FlatRingMem.over(image),
    "paged": lambda image: PagedRingMem([image[at : at + 4096] for at in range(0, len(image), 4096)]),
}
read_only = pytest.mark.parametrize("memory", READ_ONLY.values(), ids=READ_ONLY)


@read_only
def test_read_only_memory_is_read_as_often_as_one_likes_and_nothing_is_stored(memory):
    image = image_of_two_packets()
    watched = RecordingMemory(memory(image))
    receiver = IncomingRing(watched)
    for _ in range(2):
        incoming = receiver.incoming()
        read = [receiver.read(incoming).payload.reader(receiver).read_all() for _ in range(2)]
        assert read == [padded(b"first"), padded(b"second")]
        assert receiver.can_read(incoming) is False
    assert receiver.supports_pending_send_size() is True
    receiver.verify_interrupts_unmasked()
    assert not [access for access in watched.take() if access.what in ("store", "write")]


@read_only
def test_read_only_memory_refuses_every_commit_as_the_callers_error(memory):
    receiver = IncomingRing(memory(image_of_two_packets()))
    incoming = receiver.incoming()
    receiver.read(incoming)
    for call in (
        lambda: receiver.commit_read(incoming),
        receiver.receive,
        receiver.receive_many,
        lambda: receiver.receive_into(bytearray(64)),
        lambda: receiver.set_interrupt_mask(True),
        lambda: receiver.set_interrupt_mask(False),
    ):
        with pytest.raises(CallerError, match="read-only memory"):
            call()
    receiver.reset()
    with pytest.raises(CallerError, match="read-only memory"):
        receiver.receive()


@read_only
def test_a_broken_packet_in_read_only_memory_stops_reading_and_commits_stay_the_callers_error(memory):
    receiver = IncomingRing(memory(image_of_two_packets(broken=True)))
    incoming = receiver.incoming()
    receiver.read(incoming)
    for _ in range(2):
        with pytest.raises(PeerError, match="type 65535"):
            receiver.read(incoming)
    for call in (lambda: receiver.commit_read(incoming), receiver.receive, receiver.receive_many):
        with pytest.raises(CallerError, match="read-only memory"):
            call()
    receiver.reset()
    assert receiver.read(receiver.incoming()).payload.reader(receiver).read_all() == padded(b"first")
