"""Both ends of one ring: connected, used in one step and in single steps with the same outcome.

The second half plays any series of calls on two rings side by side.  On one the calls are the
one-step methods, on the other the rounds of single steps that they stand for; results, signals,
control words and every byte of the data area must stay the same, and each signal must be what the
rule says of the words as they stood.

Seen to fail with: padding not zeroed in `send`, in `send_many` and in `write`; the footer's offset
left out; `receive_many` stopping one early; the pending size rounded down; the low bits of a
pending size not dropped; a signal on every write; the mask ignored.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.helpers import SlowRingMem, padded, pattern, receive_packet, send_packet
from vmbus.errors import CallerError, NotReady, RingEmpty, RingFull
from vmbus.layout import (
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PENDING_SEND_SIZE_WORD,
)
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import (
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    Packet,
    PagedRange,
    TransferPageRange,
    connected_rings,
    free_bytes,
    signal_reader_after_write,
    signal_writer_after_read,
)

SIZE = 4096


def test_a_connected_pair_is_an_empty_ring_at_its_start_with_interrupts_on():
    sender, receiver = connected_rings(size=8192, start=8184)
    assert sender.memory is receiver.memory
    assert (sender.size, receiver.size) == (8192, 8192)
    words = list(sender.memory.control)
    assert words[:4] == [8184, 8184, 0, 0] and words[16] == 1
    assert sum(words) == 8184 * 2 + 1
    receiver.verify_interrupts_unmasked()
    assert receiver.supports_pending_send_size() is True


def test_a_pair_over_a_memory_in_use_forgets_what_was_in_it():
    memory = FlatRingMem(4096)
    connected_rings(memory=memory)[0].send(b"old")
    sender, receiver = connected_rings(memory=memory, start=256)
    assert receiver.receive_many() == ([], False)
    sender.send(b"new")
    assert memory.control[IN_WORD] == 288
    assert receiver.receive()[0].payload == padded(b"new")


@pytest.mark.parametrize("start", [-8, 4, 4095, 4096, 8192])
def test_a_pair_starts_at_an_offset_of_its_ring(start):
    with pytest.raises(CallerError, match=f"not at {start}"):
        connected_rings(start=start)


def test_two_rings_in_opposite_directions_do_not_touch_each_other():
    here, there = connected_rings(), connected_rings(size=20480)
    here[0].send(b"ping")
    there[0].send(b"pong pong")
    assert here[1].receive()[0].payload == padded(b"ping")
    assert there[1].receive()[0].payload == padded(b"pong pong")


def test_ends_say_where_they_stand():
    sender, receiver = connected_rings(start=64)
    sender.send(b"")
    assert repr(sender) == "<OutgoingRing: in 0x0058, 4096 bytes>"
    assert repr(receiver) == "<IncomingRing: out 0x0040, 4096 bytes>"
    assert repr(sender.outgoing()) == "<OutgoingOffset: committed 0x0058, next 0x0058>"
    incoming = receiver.incoming()
    receiver.read(incoming)
    assert repr(incoming) == "<IncomingOffset: committed 0x0040, next 0x0058>"
    receiver.memory.control[IN_WORD] = 3
    with pytest.raises(Exception, match="in is"):
        receiver.read(incoming)
    assert repr(receiver).endswith("stopped>")


# -- one step and single steps ---------------------------------------------------------------------


def send_in_one_step(sender: OutgoingRing, payload: bytes, transaction_id: int, completion: bool) -> bool:
    return sender.send(payload, transaction_id, completion)


def send_in_steps(sender: OutgoingRing, payload: bytes, transaction_id: int, completion: bool) -> bool:
    packet = OutgoingPacket.in_band(
        len(payload), transaction_id=transaction_id, completion_requested=completion
    )
    return send_packet(sender, payload, packet)


def payload_leaving(sender: OutgoingRing, slots: int) -> bytes:
    """A payload that leaves so many slots free; -1 is one too many for what is free."""
    control = sender.memory.control
    free = free_bytes(SIZE, control[IN_WORD], control[OUT_WORD])
    return pattern(max(0, free - 24 - 8 * slots))


def fill_in_one_step(sender: OutgoingRing, slots: int) -> bool:
    return sender.send(payload_leaving(sender, slots))


def fill_in_steps(sender: OutgoingRing, slots: int) -> bool:
    return send_packet(sender, payload_leaving(sender, slots))


def send_many_in_steps(sender: OutgoingRing, payloads: list[bytes]) -> tuple[int, bool]:
    outgoing = sender.outgoing()
    count = 0
    for payload in payloads:
        try:
            sender.write(outgoing, OutgoingPacket.in_band(len(payload))).writer(sender).write(payload)
        except RingFull:
            break
        count += 1
    return count, sender.commit_write(outgoing)


def copied(packet: Any, receiver: IncomingRing) -> Packet:
    descriptor = packet.descriptor
    payload = packet.payload.reader(receiver).read_all()
    return Packet(
        *(packet.type, descriptor.transaction_id, payload, packet.ranges),
        *(descriptor.flags, packet.transfer_page_set_id),
    )


def receive_in_steps(receiver: IncomingRing) -> tuple[Packet, bool]:
    payload, signal, packet = receive_packet(receiver)
    return copied(packet, receiver)._replace(payload=payload), signal


def receive_many_in_steps(receiver: IncomingRing, limit: int | None) -> tuple[list[Packet], bool]:
    incoming = receiver.incoming()
    packets = []
    while (limit is None or len(packets) < limit) and receiver.can_read(incoming):
        packets.append(copied(receiver.read(incoming), receiver))
    return packets, receiver.commit_read(incoming)


def receive_into_one_step(receiver: IncomingRing) -> tuple[bytes, bool]:
    buffer = bytearray(SIZE)
    length, signal = receiver.receive_into(buffer)
    return bytes(buffer[:length]), signal


def receive_into_in_steps(receiver: IncomingRing) -> tuple[bytes, bool]:
    payload, signal, _ = receive_packet(receiver)
    return payload, signal


def send_ranges(sender: OutgoingRing, number: int) -> bool:
    """A packet with ranges; there is only one way to send these."""
    ranges = [PagedRange(number, 5000, [1, 2, 3])]
    packet = OutgoingPacket.gpa_direct(ranges, 5, transaction_id=number)
    if number % 2:
        packet = OutgoingPacket.transfer_pages(number, [TransferPageRange(number, 1)], 5)
    return send_packet(sender, b"range", packet)


def set_mask(receiver: IncomingRing, masked: bool) -> None:
    receiver.set_interrupt_mask(masked)


def ask_for_room(sender: OutgoingRing, length: int) -> None:
    sender.set_pending_send_size(length)


def ask_oddly(sender: OutgoingRing, length: int) -> None:
    """As senders do that do not round: the word itself, whatever its low bits."""
    sender.memory.control[PENDING_SEND_SIZE_WORD] = length


#: For each call: which end, in one step, in single steps.
CALLS: dict[str, tuple[str, Any, Any]] = {
    "send": ("sender", send_in_one_step, send_in_steps),
    "send leaving": ("sender", fill_in_one_step, fill_in_steps),
    "send_many": ("sender", OutgoingRing.send_many, send_many_in_steps),
    "send ranges": ("sender", send_ranges, send_ranges),
    "receive": ("receiver", IncomingRing.receive, receive_in_steps),
    "receive_many": ("receiver", IncomingRing.receive_many, receive_many_in_steps),
    "receive_into": ("receiver", receive_into_one_step, receive_into_in_steps),
    "mask": ("receiver", set_mask, set_mask),
    "ask": ("sender", ask_for_room, ask_for_room),
    "ask oddly": ("sender", ask_oddly, ask_oddly),
}

payloads = some.one_of(some.integers(0, 40), some.integers(300, 1300)).map(pattern)
wishes = some.one_of(some.integers(0, SIZE - 8), some.integers(1000, 3000))
calls = some.one_of(
    some.tuples(
        some.just("send"),
        some.tuples(payloads, some.sampled_from((0, 1, 2**64 - 1)), some.booleans()),
    ),
    some.tuples(some.just("send leaving"), some.tuples(some.integers(-1, 3))),
    some.tuples(some.just("send_many"), some.tuples(some.lists(payloads, max_size=6))),
    some.tuples(some.just("send ranges"), some.tuples(some.integers(0, 50))),
    some.tuples(some.just("receive"), some.just(())),
    some.tuples(some.just("receive_many"), some.tuples(some.one_of(some.none(), some.integers(0, 3)))),
    some.tuples(some.just("receive_into"), some.just(())),
    some.tuples(some.just("mask"), some.tuples(some.booleans())),
    some.tuples(some.just("ask"), some.tuples(wishes)),
    some.tuples(some.just("ask oddly"), some.tuples(wishes)),
)


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (RingEmpty, RingFull, CallerError) as error:
        return type(error), str(error)


def signal_by_the_rule(end: str, before: list[int], after: list[int]) -> bool:
    """What the rule says of the words before a call and after it."""
    if end == "sender":
        return after[IN_WORD] != before[IN_WORD] and signal_reader_after_write(
            interrupt_mask=before[INTERRUPT_MASK_WORD],
            out_offset=before[OUT_WORD],
            in_before=before[IN_WORD],
        )
    return after[OUT_WORD] != before[OUT_WORD] and signal_writer_after_read(
        pending_send_size=before[PENDING_SEND_SIZE_WORD],
        free_before=free_bytes(SIZE, before[IN_WORD], before[OUT_WORD]),
        free_after=free_bytes(SIZE, before[IN_WORD], after[OUT_WORD]),
    )


def play(memories: list[Any], start: int, series: list[tuple[str, tuple[Any, ...]]]) -> Counter[str]:
    """Play the calls in one step on the first memory, in single steps on the second."""
    seen: Counter[str] = Counter()
    for memory in memories:
        memory.write_at(0, b"\xa5" * SIZE)
    ends = []
    for memory in memories:
        sender, receiver = connected_rings(memory=memory, start=start)
        ends.append({"sender": sender, "receiver": receiver})
    for name, arguments in series:
        end, one_step, in_steps = CALLS[name]
        before = list(memories[0].control)
        result = outcome(one_step, ends[0][end], *arguments)
        assert outcome(in_steps, ends[1][end], *arguments) == result
        after = list(memories[0].control)
        assert list(memories[1].control) == after
        assert memories[0].read_at(0, SIZE) == memories[1].read_at(0, SIZE)
        if name in ("mask", "ask", "ask oddly"):
            continue
        if isinstance(result, tuple) and result[0] in (RingEmpty, RingFull, CallerError):
            seen[result[0].__name__] += 1
            assert before == after
        else:
            signal = result if isinstance(result, bool) else result[-1]
            seen[f"{end} signal {signal}"] += 1
            assert signal is signal_by_the_rule(end, before, after)
            seen["wrap"] += after[IN_WORD] < before[IN_WORD]
            seen["full"] += free_bytes(SIZE, after[IN_WORD], after[OUT_WORD]) == 0
    return seen


MEMORIES = {
    "flat and slow": lambda: [FlatRingMem(SIZE), SlowRingMem(SIZE)],
    "paged and flat": lambda: [PagedRingMem([bytearray(4096) for _ in range(2)]), FlatRingMem(SIZE)],
}


@pytest.mark.parametrize("memories", MEMORIES.values(), ids=MEMORIES)
def test_the_one_step_methods_do_what_the_single_steps_do_and_signal_by_the_rule(memories):
    seen: Counter[str] = Counter()

    @settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=70,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(start=some.integers(400, 511).map(lambda slot: 8 * slot), series=some.lists(calls, min_size=15))
    def any_series(start: int, series: list[Any]) -> None:
        seen.update(play(memories(), start, series))

    any_series()
    # The series reach what they are for.
    for what in ("RingEmpty", "RingFull", "wrap", "full", "sender signal True", "receiver signal True"):
        assert seen[what] > 5, seen


def test_a_not_ready_call_changes_nothing():
    sender, receiver = connected_rings()
    sender.send(bytes(3000))
    words, data = list(sender.memory.control), sender.memory.read_at(0, 4096)
    with pytest.raises(RingFull):
        sender.send(bytes(2000))
    assert sender.send_many([bytes(2000)]) == (0, False)
    assert (list(sender.memory.control), sender.memory.read_at(0, 4096)) == (words, data)
    receiver.receive()
    words = list(sender.memory.control)
    for call in (receiver.receive, lambda: receiver.receive_into(bytearray(9))):
        with pytest.raises(NotReady):
            call()
    assert receiver.receive_many() == ([], False)
    assert list(sender.memory.control) == words
