"""Bugs of the catalogue that no other test of channels names.

Most of them were bugs of drivers in a kernel.  What is tested is the part of each that a channel can have:
when it sleeps, what it tells the other side with, who holds it, and what is left when it is closed.
"""

from __future__ import annotations

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import mask_of, pending_of, scripted_pair
from tests.helpers import padded
from tests.known_bugs import known_bug
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel
from vmbus.channel.descriptor_signal import Bells, descriptor_signals
from vmbus.channel.shared import SharedChannel
from vmbus.channel.transactions import Transactions
from vmbus.errors import CallerError, ChannelClosed, TimedOut
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingPacketType, IncomingRing, OutgoingPacket, Packet, PagedRange

# -- before a side can be woken ------------------------------------------------------------------


def pair_in_which(happens):
    """A pair, and what happens right after the guest has found its ring empty for the first time.

    It is still masked then, so it is not signaled; if it slept now it would sleep for ever.
    """
    memory = RecordingMemory(FlatRingMem(4096))
    pair = scripted_pair(back=memory)

    def slip_in(access: Access) -> None:
        if str(access) == "load in":
            memory.after = None
            happens(pair.host)
            assert not pair.guest.signal.told

    memory.after = slip_in
    return pair


def packet_that_comes(host):
    host.send(b"early")


def completion_that_comes(host):
    host.complete(host.receive().transaction_id, b"early")


@known_bug("B12", "B16")
@pytest.mark.parametrize(
    ("happens", "wait_for"),
    [
        (packet_that_comes, lambda guest: guest.receive(timeout=5)),
        (completion_that_comes, lambda guest: guest.request(b"question", timeout=5)),
    ],
    ids=["packet", "completion"],
)
def test_what_comes_before_its_receiver_can_be_woken_does_not_wait_for_the_next_signal(happens, wait_for):
    pair = pair_in_which(happens)
    assert wait_for(pair.guest).payload == padded(b"early")
    assert pair.guest.signal.waits == []


@known_bug("B18", "B19")
def test_all_that_came_with_one_signal_is_taken_in_one_call_with_the_newest_last():
    pair = scripted_pair()
    beats = [b"beat %d" % number for number in range(3)]
    pair.host.signal.while_asleep.append(lambda: pair.guest.send_many(beats))
    assert [packet.payload for packet in pair.host.receive_many()] == [padded(beat) for beat in beats]
    assert (pair.guest.signal.notified, len(pair.host.signal.waits)) == (1, 1)

    stream = scripted_pair(ByteChannel)
    stream.host.signal.while_asleep.append(lambda: [stream.guest.send(beat) for beat in beats])
    assert stream.host.receive() == b"".join(beats)
    assert len(stream.host.signal.waits) == 1


# -- by what means, and over which ring ----------------------------------------------------------


@known_bug("B23")
@pytest.mark.parametrize("bells", [pytest.param(Bells.EVENTFD, marks=needs_linux), Bells.SOCKETS])
def test_whatever_a_signal_is_made_of_it_tells_the_other_side_and_not_its_own(bells, no_descriptor_left):
    near, far = descriptor_signals(bells)
    try:
        for teller, told in ((near, far), (far, near)):
            teller.notify()
            assert told.wait(0) is True
            assert teller.wait(0) is False
            teller.wake()
            assert teller.wait(0) is True
            assert told.wait(0) is False
    finally:
        near.close()
        far.close()


@known_bug("B24")
def test_each_channel_of_a_device_has_a_mask_of_its_own_and_none_is_left_as_it_was_found():
    memories = [FlatRingMem(4096) for _ in range(3)]
    assert [mask_of(memory) for memory in memories] == [0, 0, 0]  # as a guest hands them over
    primary, *others = [scripted_pair(out=memory) for memory in memories]
    assert [mask_of(memory) for memory in memories] == [1, 1, 1]

    for asleep, pair in enumerate(others, 1):
        with pytest.raises(TimedOut):
            pair.host.receive(timeout=1)
        assert [mask_of(memory) for memory in memories] == [int(asleep != one) for one in range(3)]
        pair.guest.send(b"wake up")
        assert pair.notified() == (1, 0)
        assert pair.host.receive().payload == padded(b"wake up")
        assert mask_of(memories[asleep]) == 1
    assert primary.notified() == (0, 0)


# -- how many, and how large ---------------------------------------------------------------------


@known_bug("B41")
def test_requests_have_no_useless_bytes_and_those_beyond_the_ring_wait_for_room():
    pair = scripted_pair(maximum_outstanding=1000)
    sent = 0
    with pytest.raises(TimedOut):
        while True:
            pair.guest.send(bytes(104), transaction_id=1 + sent, completion_requested=True, timeout=0)
            sent += 1
            assert pair.out.control[IN_WORD] == 128 * sent  # descriptor, payload, footer
    assert sent == 31  # the ring has 4096 bytes, and 8 of them are never used
    assert pending_of(pair.out) > 0

    asked = pair.host.receive_many()
    assert [packet.transaction_id for packet in asked] == list(range(1, 32))
    assert pair.notified()[1] == 1
    pair.guest.send(bytes(104), transaction_id=sent + 1, completion_requested=True, timeout=0)
    assert pair.host.receive().transaction_id == sent + 1

    read_of_4_kib = OutgoingPacket.gpa_direct([PagedRange(0, 4096, [7])], 64, transaction_id=5)
    before = pair.out.control[IN_WORD]
    pair.guest.send_packet(read_of_4_kib, bytes(64))
    assert (pair.out.control[IN_WORD] - before) % 4096 == 16 + 8 + 8 + 8 + 64 + 8


# -- who holds it ---------------------------------------------------------------------------------


@known_bug("B49")
@pytest.mark.parametrize("first", [PacketChannel, MessageChannel])
def test_what_a_channel_holds_is_let_go_of_once_however_often_it_is_closed(first):
    let_go = []
    with scripted_pair(first, on_close=lambda: let_go.append("by the first")).host as channel:
        channel.close()
        assert let_go == ["by the first"]
    channel.close()
    assert let_go == ["by the first"]
    assert channel.signal.closes == 1


@known_bug("B49")
@needs_linux
def test_rings_go_from_one_kind_of_channel_to_another_and_nothing_is_let_go_of_twice(no_descriptor_left):
    near, far = SharedChannel.create(4096)
    let_go = []
    with near, far:
        for kind in (PacketChannel, MessageChannel, PacketChannel):
            channel = near.attach(kind, on_close=lambda kind=kind: let_go.append(kind))
            channel.close()
            channel.close()
    assert let_go == [PacketChannel, MessageChannel, PacketChannel]


@known_bug("B66")
@needs_linux
def test_an_end_counts_as_attached_from_its_attachment_to_its_close_and_no_longer(no_descriptor_left):
    near, far = SharedChannel.create(4096)
    with near, far:
        assert near.attached is False
        with pytest.raises(CallerError):
            near.attach(spin=-1)  # nothing came of it
        assert near.attached is False
        for _ in range(2):
            channel = near.attach()
            assert (near.attached, far.attached) == (True, False)
            with pytest.raises(CallerError, match="attached in this process already"):
                near.attach()
            channel.close()
            assert near.attached is False


@known_bug("B68")
def test_an_answer_that_comes_twice_ends_one_request_and_takes_no_other_off_the_count():
    transactions = Transactions(2)
    first, second = transactions.begin(), transactions.begin()
    answer = Packet(IncomingPacketType.COMPLETION, first.id, b"answer")
    assert [transactions.deliver(answer), transactions.deliver(answer)] == [True, False]
    assert (len(transactions), second.answered()) == (1, False)
    third = transactions.begin()
    assert not transactions.has_room()
    for request in (second, third):
        assert transactions.deliver(answer._replace(transaction_id=request.id, payload=b"its own"))
        assert request.answer.payload == b"its own"


@known_bug("B70")
def test_who_shows_a_channel_while_its_memory_is_taken_away_is_told_so():
    """Another thread closes the channel between the look at its state and the look at its rings."""
    pair = scripted_pair()
    pair.guest.send(b"waiting")
    assert "in 32 of 4096 bytes" in repr(pair.host)
    pair.out.close()
    assert shown(pair.host) == "in closed of 4096 bytes"
    pair.host.close()
    assert repr(pair.host) == "<PacketChannel: host, closed>"
    with pytest.raises(ChannelClosed):
        pair.host.receive(timeout=0)


def shown(channel):
    """What is said of the ring that a channel receives from, or the error instead."""
    try:
        return repr(channel).partition("host, ")[2].partition(",")[0]
    except ValueError as error:
        return error


@known_bug("B24")
def test_a_mask_that_a_predecessor_left_clear_is_set_by_the_next_receiver():
    memory = FlatRingMem(4096)
    memory.control[INTERRUPT_MASK_WORD] = 0
    IncomingRing(memory)
    assert mask_of(memory) == 1
