"""A hostile peer: its plan strikes where and when it says, can be repeated, and gets a victim into trouble."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.helpers import facts
from vmbus.errors import CallerError, NotReady, PeerError, RingFull
from vmbus.fuzzing import (
    HostilePeer,
    HostileQueuePeer,
    SlowGuestMemory,
    SlowMemory,
    Strike,
    descriptor_bytes,
    random_plan,
)
from vmbus.memory import FlatRingMem, GuestMemory
from vmbus.ring import IncomingRing, OutgoingRing, RingFault

IN, OUT, MASK, PENDING = 0, 1, 2, 3


def with_packets(*payloads: bytes) -> FlatRingMem:
    memory = FlatRingMem(4096)
    sender = OutgoingRing(memory)
    for payload in payloads:
        sender.send(payload)
    return memory


def test_a_strike_comes_after_so_many_accesses_and_before_the_next():
    for after in range(5):
        memory = FlatRingMem(4096)
        peer = HostilePeer(memory, [Strike(after, "word", MASK, 7)])
        slow = SlowMemory(memory, peer.between)
        seen = [slow.control[MASK] for _ in range(5)]
        assert seen == [0] * after + [7] * (5 - after)


def test_strikes_of_one_moment_come_in_the_order_in_which_they_were_planned():
    memory = FlatRingMem(4096)
    peer = HostilePeer(
        memory, [Strike(1, "word", MASK, 1), Strike(1, "word", MASK, 2), Strike(0, "word", MASK, 3)]
    )
    slow = SlowMemory(memory, peer.between)
    assert [slow.control[MASK], slow.control[MASK]] == [3, 2]
    assert (peer.strikes, peer.waiting, peer.accesses) == (3, 0, 2)


def test_a_plan_made_later_counts_from_then():
    memory = FlatRingMem(4096)
    peer = HostilePeer(memory)
    slow = SlowMemory(memory, peer.between)
    for _ in range(10):
        slow.fence()
    peer.plan([Strike(1, "word", MASK, 1)])
    assert [slow.control[MASK] for _ in range(3)] == [0, 1, 1]


def test_each_kind_of_strike_writes_where_it_says():
    memory = FlatRingMem(4096)
    memory.control[OUT] = 64
    peer = HostilePeer(memory)
    slow = SlowMemory(memory, peer.between)
    slow.read_at(4096 + 128, 16)
    peer.plan(
        [
            Strike(0, "bytes", 4092, b"wraps..."),
            Strike(0, "again", 8, b"again"),
            Strike(0, "next", 2, b"next"),
            Strike(0, "packet", 4080, b"packet".ljust(32)),
            Strike(0, "word", PENDING, 2**32 + 5),
        ]
    )
    slow.fence()
    assert memory.read_at(0, 4) == b"    " and memory.read_at(136, 5) == b"again"
    assert memory.read_at(66, 4) == b"next" and memory.read_at(4080, 6) == b"packet"
    assert (memory.control[IN], memory.control[PENDING]) == (16, 5)


def test_what_is_left_of_a_plan_can_be_struck_at_once():
    memory = FlatRingMem(4096)
    peer = HostilePeer(memory, [Strike(500, "word", MASK, 1), Strike(100, "word", PENDING, 8)])
    peer.strike_now()
    assert (memory.control[MASK], memory.control[PENDING], peer.waiting) == (1, 8, 0)


@pytest.mark.parametrize(
    "strike",
    [
        Strike(-1, "word", 0, 0),
        Strike(0, "words", 0, 0),
        Strike(0, "word", 0, b"bytes"),
        Strike(0, "bytes", 0, 1),
    ],
)
def test_what_is_no_strike_is_the_callers_mistake(strike):
    with pytest.raises(CallerError):
        HostilePeer(FlatRingMem(4096), [strike])


@pytest.mark.parametrize("what", ["next", "packet"])
def test_a_queue_knows_no_strikes_of_rings(what):
    with pytest.raises(CallerError):
        HostileQueuePeer(GuestMemory.from_ranges([(0, 4096)]), [Strike(0, what, 0, b"x")])


def test_a_descriptor_that_changes_behind_the_look_at_it_changes_nothing_for_the_victim():
    ring, peer = HostilePeer.ring(memory=with_packets(b"16 bytes of data", b"next one"))
    peer.plan([Strike(4, "next", 4, b"\xff\xff")])  # load in, acquire, and two halves of the descriptor
    packet, _ = ring.receive()
    assert packet.payload == b"16 bytes of data"
    assert peer.corners == {"changed between two looks": 1}
    assert ring.receive()[0].payload == b"next one"


def test_a_payload_that_changes_within_its_read_is_taken_as_it_was_seen():
    ring, peer = HostilePeer.ring(memory=with_packets(b"A" * 24))
    peer.plan([Strike(6, "bytes", 16, b"B" * 24)])
    assert ring.receive()[0].payload == b"A" * 16 + b"B" * 8
    assert peer.corners["changed within a read"] == 1


def test_a_descriptor_torn_in_two_is_judged_as_it_was_seen():
    ring, peer = HostilePeer.ring(memory=with_packets(b"12345678"))
    peer.plan([Strike(3, "next", 0, descriptor_bytes(6, 2, 99, 0) + (5).to_bytes(8, "little"))])
    packet, _ = ring.receive()
    assert (packet.payload, packet.transaction_id) == (b"12345678", 5)


def test_an_index_that_turns_bad_at_the_commit_is_an_error_of_the_next_call_and_stays():
    memory = with_packets(b"12345678")
    memory.control[PENDING] = 64
    ring, peer = HostilePeer.ring([Strike(8, "word", IN, 9)], memory=memory)
    packet, signal = ring.receive()
    assert (packet.payload, signal, peer.corners) == (b"12345678", False, {"index not a multiple of 8": 1})
    with pytest.raises(PeerError) as first:
        ring.receive()
    assert first.value.kind is RingFault.INVALID_RING_POINTER
    memory.control[IN] = memory.control[OUT]
    with pytest.raises(PeerError) as again:
        ring.receive_many()
    assert facts(again.value) == facts(first.value)
    ring.reset()
    with pytest.raises(NotReady):
        ring.receive()


def test_a_writer_can_be_the_victim():
    ring, peer = HostilePeer.ring([Strike(0, "word", OUT, 2**31)], OutgoingRing)
    assert isinstance(ring, OutgoingRing)
    with pytest.raises(PeerError, match="out is 0x80000000"):
        ring.send(b"data")
    assert peer.corners == {"index out of range": 1}


def outcomes(seed: int) -> tuple[list[str], bytes]:
    """What a reader under a random plan came to, call by call, and the ring behind it."""
    memory = with_packets(*[bytes([number] * 40) for number in range(20)])
    ring, _ = HostilePeer.ring(random_plan(Random(seed), longest_gap=8), memory=memory)
    found = []
    for _ in range(30):
        try:
            found.append(str(ring.receive()))
        except (NotReady, PeerError) as error:
            found.append(str(error))
    return found, memory.read_at(0, 4096)


def test_a_random_plan_of_a_seed_is_the_same_plan_and_comes_to_the_same():
    assert random_plan(Random(3)) == random_plan(Random(3)) != random_plan(Random(4))
    assert outcomes(3) == outcomes(3)


def test_random_plans_meet_every_corner_of_a_reader_and_a_writer():
    met: Counter[str] = Counter()
    for seed in range(60):
        for kind in (IncomingRing, OutgoingRing):
            memory = with_packets(*[bytes(40)] * 20)
            ring, peer = HostilePeer.ring(random_plan(Random(seed), longest_gap=8), kind, memory=memory)
            for _ in range(15):
                peer.begin()
                try:
                    ring.receive() if isinstance(ring, IncomingRing) else ring.send(bytes(40))
                except RingFull:
                    memory.control[OUT] = memory.control[IN]
                except NotReady:
                    memory.control[IN] = 512
                except PeerError:
                    break
            met += peer.corners
    assert set(met) == {
        "changed between two looks",
        "changed within a read",
        "changed within a write",
        "index moved",
        "index not a multiple of 8",
        "index out of range",
        "mask changed",
        "packet put in",
        "pending size changed",
    }


def test_a_peer_of_a_queue_strikes_addresses_and_misses_where_there_is_no_memory():
    memory = GuestMemory([(0x1000, bytearray(4096))])
    peer = HostileQueuePeer(memory)
    slow = SlowGuestMemory(memory, peer.between)
    slow.read(0x1100, 16)
    peer.plan(
        [
            Strike(0, "word", 0x1003, 0x12345),
            Strike(0, "bytes", 0x1010, b"bytes"),
            Strike(0, "again", 4, b"again"),
            Strike(0, "bytes", 0x0FFF, b"nowhere"),
            Strike(0, "word", 0x9000, 1),
        ]
    )
    slow.fence()
    assert memory.read(0x1002, 2) == b"\x45\x23" and memory.read(0x1010, 5) == b"bytes"
    assert memory.read(0x1104, 5) == b"again" and memory.read(0x1000, 2) == b"\0\0"
    assert peer.corners["nowhere"] == 2 and peer.corners["changed between two looks"] == 1
