"""The quick ways through a ring hold by the same rules as the functions that state them.

send, receive, send_many and receive_many say used_bytes, is_offset, descriptor_fault, advance,
PacketSize.in_band and signal_reader_after_write once more in their own lines, because a call costs
more there than the rule.  Here every such line is held against the function, and every quick way
against the slow one, step by step: on the rings a correct peer leaves and on broken ones, with any
control words and from any start.

Seen to fail with each of those lines changed: tests/planted_faults.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    booleans,
    builds,
    composite,
    integers,
    just,
    lists,
    none,
    one_of,
    sampled_from,
    tuples,
)

from tests.helpers import PACKET_KINDS, image_of, paged_memory, pattern
from vmbus.errors import CallerError, PeerError, RingEmpty, RingFull, VmbusError
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER_SIZE,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
    PacketDescriptor,
)
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import (
    GpaRangeFault,
    IncomingOffset,
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PacketSize,
    RingFault,
    advance,
    descriptor_fault,
    free_bytes,
    is_offset,
    parse_extension,
    signal_reader_after_write,
    signal_writer_after_read,
    used_bytes,
)

SIZE = 4096
BACKGROUND = pattern(SIZE, seed=77)

in_short = settings(max_examples=200, deadline=None)

# -- rings, right and broken -----------------------------------------------------------------------


class RingState(NamedTuple):
    """All that decides what a ring does next."""

    words: dict[int, int]
    data: bytes

    def memory(self, make: Callable[[int], RingMem] = FlatRingMem) -> RingMem:
        """A memory in this state.  The ends are made first: making them stores words too."""
        memory = make(SIZE)
        memory.write_at(0, self.data)
        self.store_words(memory)
        return memory

    def store_words(self, memory: RingMem) -> None:
        for word, value in self.words.items():
            memory.control[word] = value

    def receiver(self, make: Callable[[int], RingMem] = FlatRingMem) -> IncomingRing:
        receiver = IncomingRing(self.memory(make))
        self.store_words(receiver.memory)
        return receiver

    def sender(self, make: Callable[[int], RingMem] = FlatRingMem) -> OutgoingRing:
        sender = OutgoingRing(self.memory(make))
        self.store_words(sender.memory)
        return sender


#: Offsets; often those next to the end, where things wrap.
offsets = one_of(integers(0, 511), integers(500, 511), integers(0, 12)).map(lambda slot: 8 * slot)

#: What may stand in an index word: an offset, an offset and a bit, or anything of 32 bits.
index_words = one_of(
    offsets, offsets, offsets, integers(0, SIZE + 16), sampled_from([SIZE, SIZE + 8, 2**32 - 8, 2**31])
)

masks = sampled_from([0, 0, 1, 2**31])
pending_sizes = one_of(just(0), integers(0, SIZE), just(SIZE - 1), integers(0, 2**32 - 1))
field_values = one_of(integers(0, 20), integers(505, 520), sampled_from([0x7FFF, 0x8000, 0xFFFE, 0xFFFF]))


@composite
def packets_in_memory(draw: Callable[[Any], Any]) -> tuple[bytes, int]:
    """A packet as it lies in memory, right or with one field broken, and the bytes the right one takes."""
    kind = PACKET_KINDS[draw(sampled_from(list(PACKET_KINDS)))]
    whole = bytearray(kind.whole(pattern(draw(integers(0, 60))), 0))
    length = len(whole)
    if draw(integers(0, 3)) == 0:
        at = draw(sampled_from([0, 2, 4, 6, 20, 24, 28]).filter(lambda at: at + 2 <= length))
        now = struct.unpack_from("<H", whole, at)[0]
        beside = sampled_from([-2, -1, 1, 2]).map(lambda step: (now + step) % 2**16)
        struct.pack_into("<H", whole, at, draw(one_of(field_values, beside)))
    return bytes(whole), length


@composite
def rings_to_read(draw: Callable[[Any], Any]) -> RingState:
    """Some packets from any start; in may be one slot off, one bit off or anywhere."""
    start = draw(offsets)
    memory = FlatRingMem(SIZE)
    memory.write_at(0, BACKGROUND)
    end = start
    for data, length in draw(lists(packets_in_memory(), max_size=8)):
        memory.write_at(end, data)
        end = advance(SIZE, end, length)
    near_end = sampled_from([-24, -16, -8, 0, 0, 0, 0, 8, 4, 24]).map(lambda step: (end + step) % SIZE)
    words = {
        IN_WORD: draw(one_of(near_end, near_end, near_end, index_words)),
        OUT_WORD: start,
        PENDING_SEND_SIZE_WORD: draw(
            one_of(pending_sizes, integers(-64, 1024).map(lambda more: max(0, SIZE - 1024 + more)))
        ),
    }
    return RingState(words, memory.read_at(0, SIZE))


# -- what happened, in a form that can be compared -----------------------------------------------------


def outcome(attempt: Callable[[], object]) -> object:
    """What a call returned, or all that its error says."""
    try:
        return attempt()
    except VmbusError as error:
        return (type(error), str(error), *vars(error).items())


def receive_by_steps(receiver: IncomingRing) -> tuple[Packet, bool]:
    packets, signal = receive_many_by_steps(receiver, 1)
    if not packets:
        receiver.read(receiver.incoming())
    return packets[0], signal


def receive_many_by_steps(receiver: IncomingRing, limit: int | None) -> tuple[list[Packet], bool]:
    """Up to `limit` packets in one commit; a broken one behind good ones is left for the next call."""
    incoming = receiver.incoming()
    packets: list[Packet] = []
    try:
        receiver.can_read(incoming)  # receive_many looks at in even where it may take nothing
        while limit is None or len(packets) < limit:
            packets.append(copy_next(receiver, incoming))
    except RingEmpty:
        pass
    except PeerError:
        if not packets:
            raise
    return packets, receiver.commit_read(incoming)


def copy_next(receiver: IncomingRing, incoming: IncomingOffset) -> Packet:
    seen = receiver.read(incoming)
    return Packet(
        type=seen.type,
        transaction_id=seen.descriptor.transaction_id,
        payload=seen.payload.reader(receiver).read_all(),
        ranges=seen.ranges,
        flags=seen.descriptor.flags,
        transfer_page_set_id=seen.transfer_page_set_id,
    )


def receive_into_as_receive(receiver: IncomingRing) -> tuple[bytes, bool]:
    buffer = bytearray(SIZE)
    length, signal = receiver.receive_into(buffer)
    return bytes(buffer[:length]), signal


# -- receive ---------------------------------------------------------------------------------------


def receive_by_the_rules(memory: RingMem) -> object:
    """What `receive` must do with the first packet, said with the named functions alone."""
    control = memory.control
    in_offset, out = control[IN_WORD], control[OUT_WORD]
    if in_offset == out:
        return RingEmpty
    if not is_offset(SIZE, in_offset):
        return RingFault.INVALID_RING_POINTER
    available = used_bytes(SIZE, in_offset, out)
    descriptor = PACKET_DESCRIPTOR.unpack(memory.read_at(out, DESCRIPTOR_SIZE))
    fault = descriptor_fault(descriptor, available)
    if fault is not None:
        return fault
    length = descriptor.length8 * 8
    body = memory.read_at(out, length)
    header_end = descriptor.data_offset8 * 8
    try:
        ranges, set_id = parse_extension(descriptor, body[DESCRIPTOR_SIZE:header_end])
    except PeerError as error:
        return error.kind
    packet = (descriptor.type, descriptor.transaction_id, body[header_end:], ranges, descriptor.flags, set_id)
    end = advance(SIZE, out, length + FOOTER_SIZE)
    signal = signal_writer_after_read(
        pending_send_size=control[PENDING_SEND_SIZE_WORD],
        free_before=free_bytes(SIZE, in_offset, out),
        free_after=free_bytes(SIZE, in_offset, end),
    )
    return packet, signal, end


def receive_in_brief(take: Callable[[IncomingRing], tuple[Packet, bool]], receiver: IncomingRing) -> object:
    """What it really does, in the same words."""
    try:
        packet, signal = take(receiver)
    except RingEmpty:
        return RingEmpty
    except PeerError as error:
        return error.kind
    return tuple(packet), signal, receiver.memory.control[OUT_WORD]


def receive_one_of_many(receiver: IncomingRing) -> tuple[Packet, bool]:
    packets, signal = receiver.receive_many(1)
    if not packets:
        raise RingEmpty
    return packets[0], signal


def check_first_packet(state: RingState) -> object:
    expected = receive_by_the_rules(state.memory())
    for take in (IncomingRing.receive, receive_one_of_many, receive_by_steps):
        for make in (FlatRingMem, paged_memory):
            assert receive_in_brief(take, state.receiver(make)) == expected
    return expected


@in_short
@given(rings_to_read())
def test_receive_does_what_the_named_rules_say(state):
    check_first_packet(state)


def in_a_word(expected: object) -> object:
    if isinstance(expected, GpaRangeFault) or expected is RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT:
        return "a fault of the ranges"
    return expected if isinstance(expected, RingFault) else type(expected)


def test_receive_judges_every_descriptor_as_descriptor_fault_does():
    """Every field around every edge, for every number of bytes published."""
    seen = set()
    for kind in (0, 6, 7, 9, 11):
        for data_offset8 in range(5):
            for length8 in range(7):
                for flags in range(3):
                    descriptor = PacketDescriptor(kind, data_offset8, length8, flags, 5)
                    data = PACKET_DESCRIPTOR.pack(descriptor) + struct.pack("<II", 0, 1) + b"\1" * 40
                    for available in range(8, 72, 8):
                        words = {IN_WORD: available, OUT_WORD: 0, PENDING_SEND_SIZE_WORD: 0}
                        state = RingState(words, data)
                        expected = receive_by_the_rules(state.memory())
                        for take in (IncomingRing.receive, receive_one_of_many):
                            assert receive_in_brief(take, state.receiver()) == expected, descriptor
                        seen.add(in_a_word(expected))
    assert seen == {
        tuple,
        RingFault.INVALID_DATA_AVAILABLE,
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        RingFault.FOOTER_NOT_PUBLISHED,
        RingFault.INVALID_DESCRIPTOR_FLAGS,
        RingFault.INVALID_DESCRIPTOR_TYPE,
        "a fault of the ranges",
    }


def test_receive_and_receive_many_take_an_index_for_what_is_offset_takes_it():
    receiver = IncomingRing(FlatRingMem(SIZE))
    receiver.memory.control[OUT_WORD] = 64
    for value in [*range(SIZE + 64), 2**16, 2**31, 2**31 + 8, 2**32 - 8, 2**32 - 1]:
        receiver.memory.control[IN_WORD] = value
        for take in (IncomingRing.receive, IncomingRing.receive_many):
            receiver.reset()
            found = outcome(lambda take=take: take(receiver))
            said = (("kind", RingFault.INVALID_RING_POINTER), ("found", value), ("allowed", SIZE - 8))
            refused = all(one in found for one in said)
            assert refused == (not is_offset(SIZE, value)) == (value >= SIZE or value % 8 != 0), value


@in_short
@given(rings_to_read(), booleans())
def test_receive_goes_through_a_ring_as_the_steps_do(state, pages):
    make = paged_memory if pages else FlatRingMem
    one_step, stepwise = state.receiver(make), state.receiver(make)
    for _ in range(SIZE // 8):
        found = outcome(one_step.receive)
        assert found == outcome(lambda: receive_by_steps(stepwise))
        assert image_of(one_step.memory) == image_of(stepwise.memory)
        if found[0] in (RingEmpty, PeerError):
            return
    raise AssertionError("more packets than slots")


@in_short
@given(rings_to_read(), lists(one_of(none(), integers(0, 5)), min_size=1, max_size=4))
def test_receive_many_goes_through_a_ring_as_the_steps_do(state, limits):
    at_once, stepwise = state.receiver(), state.receiver(paged_memory)
    for limit in [*limits, None, None]:
        found = outcome(lambda limit=limit: at_once.receive_many(limit))
        assert found == outcome(lambda limit=limit: receive_many_by_steps(stepwise, limit))
        assert image_of(at_once.memory) == image_of(stepwise.memory)


@in_short
@given(rings_to_read())
def test_receive_into_goes_through_a_ring_as_receive_does(state):
    into, one_step = state.receiver(), state.receiver()
    for _ in range(9):
        found = outcome(one_step.receive)
        if isinstance(found[0], Packet):
            found = (found[0].payload, found[1])
        assert outcome(lambda: receive_into_as_receive(into)) == found
        assert image_of(into.memory) == image_of(one_step.memory)


# -- send ------------------------------------------------------------------------------------------


class Message(NamedTuple):
    payload: bytes
    transaction_id: int
    completion_requested: bool


LARGEST = SIZE - 8 - 24
payload_lengths = one_of(integers(0, 24), integers(0, 60), integers(0, 1500), integers(LARGEST - 20, LARGEST))
messages = builds(
    Message,
    payload_lengths.map(pattern),
    one_of(just(0), integers(0, 2**64 - 1), sampled_from([-1, 2**64])),
    booleans(),
)

#: What the other side does between two sends: its index, its mask.
peer_acts = tuples(sampled_from([OUT_WORD, INTERRUPT_MASK_WORD]), index_words) | tuples(
    just(INTERRUPT_MASK_WORD), masks
)


@composite
def rings_to_write(draw: Callable[[Any], Any]) -> RingState:
    """Any part of the ring may be full; out may be broken."""
    words = {
        IN_WORD: draw(offsets),
        OUT_WORD: draw(one_of(offsets, offsets, index_words)),
        INTERRUPT_MASK_WORD: draw(masks),
    }
    if draw(booleans()):
        words[OUT_WORD] = words[IN_WORD]
    return RingState(words, BACKGROUND)


def send_by_steps(sender: OutgoingRing, message: Message) -> bool:
    outgoing = sender.outgoing()
    write_one(sender, outgoing, message)
    return sender.commit_write(outgoing)


def write_one(sender: OutgoingRing, outgoing: Any, message: Message) -> None:
    packet = OutgoingPacket.in_band(
        len(message.payload),
        transaction_id=message.transaction_id,
        completion_requested=message.completion_requested,
    )
    sender.write(outgoing, packet).writer(sender).write(message.payload)


def send_many_by_steps(sender: OutgoingRing, payloads: list[bytes]) -> tuple[int, bool]:
    outgoing = sender.outgoing()
    count = 0
    try:
        for payload in payloads:
            write_one(sender, outgoing, Message(payload, 0, False))
            count += 1
    except RingFull:
        pass
    return count, sender.commit_write(outgoing)


def what_was_sent(memory: RingMem, before: int) -> tuple[bytes, bytes]:
    """The control words, and the bytes that a commit has published: from the in before it to its own.

    Bytes outside may differ: a step stores its packets' frames first, and an error can leave them.  A
    receiver that moves its index back sees such bytes; they are nobody's.
    """
    published = used_bytes(SIZE, memory.control[IN_WORD], before)
    return image_of(memory)[:128], memory.read_at(before, published)


@in_short
@given(rings_to_write(), lists(one_of(messages, messages, peer_acts), min_size=1, max_size=12), booleans())
def test_send_does_what_the_steps_do_and_what_the_named_rules_say(state, actions, pages):
    make = paged_memory if pages else FlatRingMem
    one_step, stepwise = state.sender(make), state.sender(make)
    for action in actions:
        if not isinstance(action, Message):
            one_step.memory.control[action[0]] = stepwise.memory.control[action[0]] = action[1]
            continue
        before = one_step.memory.control[IN_WORD]
        found = outcome(lambda action=action: one_step.send(*action))
        assert found == outcome(lambda action=action: send_by_steps(stepwise, action))
        assert what_was_sent(one_step.memory, before) == what_was_sent(stepwise.memory, before)
        check_send_against_rules(one_step.memory, before, len(action.payload), found)


def check_send_against_rules(memory: RingMem, before: int, length: int, found: object) -> None:
    """What became of a send, said with the named functions alone."""
    control = memory.control
    needed = PacketSize.in_band(length)
    if isinstance(found, bool):
        assert control[IN_WORD] == advance(SIZE, before, needed)
        assert found == signal_reader_after_write(
            interrupt_mask=control[INTERRUPT_MASK_WORD], out_offset=control[OUT_WORD], in_before=before
        )
        return
    assert control[IN_WORD] == before
    if found[0] is RingFull:
        assert found[2:] == (("needed", needed), ("free", free_bytes(SIZE, before, control[OUT_WORD])))
        assert needed > free_bytes(SIZE, before, control[OUT_WORD])
    else:
        assert found[0] in (PeerError, CallerError)


@in_short
@given(rings_to_write(), payload_lengths, payload_lengths)
def test_send_fits_exactly_when_free_bytes_says_so(state, first, second):
    """Against a receiver that stays where it is, and whose index is right."""
    sender = state.sender()
    control = sender.memory.control
    if not is_offset(SIZE, control[OUT_WORD]):
        control[OUT_WORD] = control[IN_WORD]
    for length in (first, second):
        fits = PacketSize.in_band(length) <= free_bytes(SIZE, control[IN_WORD], control[OUT_WORD])
        assert isinstance(outcome(lambda length=length: sender.send(bytes(length))), bool) == fits


@in_short
@given(
    rings_to_write(),
    lists(lists(payload_lengths.map(pattern), max_size=10), min_size=1, max_size=3),
    lists(peer_acts, max_size=3),
    booleans(),
)
def test_send_many_does_what_the_steps_do_in_one_commit(state, batches, acts, pages):
    make = paged_memory if pages else FlatRingMem
    at_once, stepwise = state.sender(make), state.sender(make)
    for number, payloads in enumerate(batches):
        before = at_once.memory.control[IN_WORD]
        found = outcome(lambda payloads=payloads: at_once.send_many(payloads))
        assert found == outcome(lambda payloads=payloads: send_many_by_steps(stepwise, payloads))
        assert what_was_sent(at_once.memory, before) == what_was_sent(stepwise.memory, before)
        if isinstance(found[0], int):
            check_batch_against_rules(at_once.memory, before, payloads[: found[0]], found[1])
        if number < len(acts):
            word, value = acts[number]
            at_once.memory.control[word] = stepwise.memory.control[word] = value


def check_batch_against_rules(memory: RingMem, before: int, sent: list[bytes], signal: bool) -> None:
    control = memory.control
    end = before
    for payload in sent:
        end = advance(SIZE, end, PacketSize.in_band(len(payload)))
    assert control[IN_WORD] == end
    owed = signal_reader_after_write(
        interrupt_mask=control[INTERRUPT_MASK_WORD], out_offset=control[OUT_WORD], in_before=before
    )
    assert signal == (bool(sent) and owed)


# -- the plainest of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, 1, 2, 2**31])
def test_send_signals_by_signal_reader_after_write_for_every_out(mask):
    sender = OutgoingRing(FlatRingMem(SIZE))
    control = sender.memory.control
    for out in range(0, SIZE, 8):
        control[IN_WORD], control[OUT_WORD] = 64, 64
        sender.reset()
        sender.can_write(sender.outgoing(), 24)
        control[INTERRUPT_MASK_WORD], control[OUT_WORD] = mask, out
        expected = signal_reader_after_write(interrupt_mask=mask, out_offset=out, in_before=64)
        assert sender.send(b"") == expected
