"""In which order the rings load, store and fence, compared with the stated order.

The order is the whole of what keeps two processors from losing a packet or a signal, and no test
that runs both ends on one thread would notice a step out of place.  So every access is recorded
at the memory seam and the record compared with a table.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write(), hv_pkt_iter_close() and
hv_end_read(); OpenVMM vmbus_ring/src/lib.rs, commit_write() and commit_read().
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from random import Random

import pytest

from tests.helpers import SlowRingMem, receive_packet, send_packet
from tests.known_bugs import known_bug
from vmbus.errors import NotReady
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.memory import FENCES, FlatRingMem, PagedRingMem
from vmbus.ring import (
    IncomingRing,
    OutgoingPacket,
    OutgoingRing,
    PacketSize,
    PagedRange,
    TransferPageRange,
    connected_rings,
)

#: The stated order.  "read" and "write" stand for all of a batch's bytes.
WRITE = (
    *("load out", "acquire", "write", "release", "store in"),
    *("fence", "load mask", "acquire", "load out"),
)
READ = (
    *("load in", "acquire", "read", "release", "store out"),
    *("fence", "load pending", "acquire", "load in"),
)
UNMASK = ("store mask", "fence", "load in", "acquire")
ASK_FOR_ROOM = ("store pending", "fence", "load out", "acquire")

SENDS = {
    "send": lambda sender: sender.send(b"sixteen bytes...", transaction_id=7),
    "send_many": lambda sender: sender.send_many([b"sixteen bytes..."] * 3),
    "write and commit_write": lambda sender: send_packet(sender, b"sixteen bytes..."),
}
RECEIVES = {
    "receive": lambda receiver: receiver.receive(),
    "receive_many": lambda receiver: receiver.receive_many(),
    "receive_into": lambda receiver: receiver.receive_into(bytearray(64)),
    "read and commit_read": receive_packet,
}
#: receive_many takes all there is by now, so it always looks; the others take what they know of.
RECEIVES_WHAT_IS_KNOWN = [name for name in RECEIVES if name != "receive_many"]

PACKETS = {
    "in-band": OutgoingPacket.in_band(16),
    "completion": OutgoingPacket.completion(16, transaction_id=1),
    "GPA-direct": OutgoingPacket.gpa_direct([PagedRange(0, 8192, [1, 2])], 16),
    "transfer pages": OutgoingPacket.transfer_pages(1, [TransferPageRange(8, 8)], 16),
}
MEMORIES = {
    "flat": lambda: FlatRingMem(4096),
    "paged": lambda: PagedRingMem([bytearray(4096) for _ in range(2)]),
    "slow": lambda: SlowRingMem(4096),
}


def steps(accesses: list[Access]) -> tuple[str, ...]:
    """The accesses as words, those to the bytes of one batch taken together."""
    words: list[str] = []
    for access in accesses:
        word = str(access)
        if not (word in ("read", "write") and words and words[-1] == word):
            words.append(word)
    return tuple(words)


@pytest.fixture(params=MEMORIES)
def memory(request):
    return RecordingMemory(MEMORIES[request.param]())


def full_as_far_as_known(memory: RecordingMemory) -> tuple[OutgoingRing, IncomingRing]:
    """A sender that thinks there is no room, although all has been read; its packers are prepared.

    102 packets of 40 bytes leave 8 bytes, and the next packet starts at 0.
    """
    sender, receiver = connected_rings(memory=memory, start=16)
    assert sender.send_many([bytes(16)] * 103)[0] == 102
    receiver.receive_many()
    memory.take()
    return sender, receiver


@known_bug("B04", "B09")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_write_goes_in_the_stated_order(memory, send):
    sender, _ = full_as_far_as_known(memory)
    send(sender)
    assert steps(memory.take()) == WRITE


@known_bug("B09")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_the_first_write_of_a_sender_looks_at_out_before_it_stores_a_byte(memory, send):
    memory.inside.control[0] = memory.inside.control[1] = 4080
    sender = OutgoingRing(memory)
    memory.take()
    send(sender)
    assert steps(memory.take()) == WRITE


@known_bug("B09")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_write_into_room_it_knows_of_leaves_out_the_first_look_and_nothing_else(memory, send):
    sender, _ = full_as_far_as_known(memory)
    send(sender)
    memory.take()
    send(sender)
    assert steps(memory.take()) == WRITE[2:]


@known_bug("B09")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_write_under_a_mask_looks_at_the_mask_last(memory, send):
    sender, receiver = full_as_far_as_known(memory)
    receiver.set_interrupt_mask(True)
    memory.take()
    send(sender)
    assert steps(memory.take()) == WRITE[:-2]


@known_bug("B04", "B63")
@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS)
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
@pytest.mark.parametrize("start", [0, 4080, 4088])
def test_a_read_goes_in_the_stated_order(memory, receive, packet, start):
    sender, receiver = connected_rings(memory=memory, start=start)
    send_packet(sender, bytes(16), packet)
    sender.set_pending_send_size(64)
    memory.take()
    receive(receiver)
    assert steps(memory.take()) == READ


@known_bug("B04", "B63")
@pytest.mark.parametrize("receive", [RECEIVES[name] for name in RECEIVES_WHAT_IS_KNOWN])
def test_a_read_of_a_packet_it_knows_of_leaves_out_the_first_look_and_nothing_else(memory, receive):
    sender, receiver = connected_rings(memory=memory)
    for _ in range(2):
        sender.send(bytes(16))
    sender.set_pending_send_size(64)
    receive(receiver)
    memory.take()
    receive(receiver)
    assert steps(memory.take()) == READ[2:]


@known_bug("B04")
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_a_read_with_no_sender_waiting_looks_at_the_pending_size_last(memory, receive):
    sender, receiver = connected_rings(memory=memory)
    sender.send(bytes(16))
    memory.take()
    receive(receiver)
    assert steps(memory.take()) == READ[:-2]


@known_bug("B04")
def test_a_batch_of_reads_and_a_batch_of_writes_publish_once(memory):
    sender, receiver = connected_rings(memory=memory)
    sender.set_pending_send_size(4088)
    memory.take()
    outgoing = sender.outgoing()
    for _ in range(3):
        sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(bytes(8))
    sender.commit_write(outgoing)
    assert steps(memory.take()) == WRITE
    incoming = receiver.incoming()
    for _ in range(3):
        receiver.read(incoming).payload.reader(receiver).read_all()
    receiver.commit_read(incoming)
    assert steps(memory.take()) == READ


@known_bug("B08")
def test_unmasking_is_fenced_from_the_look_that_follows(memory):
    _, receiver = connected_rings(memory=memory)
    memory.take()
    receiver.set_interrupt_mask(False)
    assert receiver.can_read(receiver.incoming()) is False
    assert steps(memory.take()) == UNMASK


@known_bug("B08")
@pytest.mark.parametrize("receive", ["receive", "receive_many", "receive_into"])
def test_unmasking_is_fenced_from_a_one_step_read_that_follows(memory, receive):
    _, receiver = connected_rings(memory=memory)
    memory.take()
    receiver.set_interrupt_mask(False)
    with suppress(NotReady):
        RECEIVES[receive](receiver)
    assert steps(memory.take()) == UNMASK


def test_masking_is_one_store(memory):
    _, receiver = connected_rings(memory=memory)
    memory.take()
    receiver.set_interrupt_mask(True)
    assert steps(memory.take()) == ("store mask",)


@known_bug("B01")
def test_asking_for_room_is_fenced_from_the_look_that_follows(memory):
    sender, _ = full_as_far_as_known(memory)
    sender.set_pending_send_size(40)
    assert sender.can_write(sender.outgoing(), PacketSize.in_band(16)) is True
    assert steps(memory.take()) == ASK_FOR_ROOM


@known_bug("B63")
def test_no_end_reads_its_own_index_back_and_no_end_stores_a_word_of_the_other(memory):
    inside = memory.inside
    inside.control[0] = inside.control[1] = 2048
    sends, receives = RecordingMemory(inside), RecordingMemory(inside)
    sender, receiver = OutgoingRing(sends), IncomingRing(receives)
    assert [str(access) for access in sends.take()] == ["load in", "store features", "store pending"]
    assert [str(access) for access in receives.take()] == ["load out", "store mask"]
    random = Random(63)
    for _ in range(600):
        end, calls = (sender, SENDS) if random.random() < 0.6 else (receiver, RECEIVES)
        try:
            random.choice(list(calls.values()))(end)
        except NotReady:
            sender.set_pending_send_size(8 * random.randrange(100))
            receiver.set_interrupt_mask(random.random() < 0.5)
    by_sender, by_receiver = ([str(access) for access in watch.take()] for watch in (sends, receives))
    for accesses, published in ((by_sender, "store in"), (by_receiver, "store out")):
        places = [place for place, access in enumerate(accesses) if access == published]
        assert len(places) > 50
        assert {(accesses[place - 1], accesses[place + 1]) for place in places} == {("release", "fence")}
    fences = {"acquire", "release", "fence"}
    assert set(by_sender) - fences == {"load out", "load mask", "store in", "store pending", "write"}
    assert set(by_receiver) - fences == {"load in", "load pending", "store out", "store mask", "read"}


def shared_pages() -> list[mmap.mmap]:
    return [mmap.mmap(-1, 4096) for _ in range(2)]


@pytest.mark.skipif(FENCES is None, reason="no fence is known for this machine: shared rings are refused")
@pytest.mark.parametrize(
    "make",
    [
        lambda: FlatRingMem(4096),
        lambda: FlatRingMem.over(mmap.mmap(-1, 8192)),
        lambda: FlatRingMem.over(memoryview(mmap.mmap(-1, 12288))[4096:]),
        lambda: FlatRingMem.over(bytearray(8192)),
        lambda: PagedRingMem(shared_pages()),
        lambda: PagedRingMem([bytearray(4096) for _ in range(2)]),
    ],
    ids=["flat", "over mmap", "over view", "over bytearray", "paged mmap", "paged bytearray"],
)
def test_flat_and_paged_memories_fence_by_the_means_of_this_machine_and_nothing_around_it(make):
    memory = make()
    assert (memory.acquire, memory.release, memory.fence) == FENCES[:3]
    assert memory.acquire is FENCES.acquire
    assert memory.release is FENCES.release
    assert memory.fence is FENCES.full
