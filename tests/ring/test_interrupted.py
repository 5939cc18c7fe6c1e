"""A call that an exception ends in the middle leaves the ring as it was before or after, never between.

Ctrl-C, or a signal handler that raises, can end a call between any two accesses.  A memory that raises
at the n-th access stands for it, for every n.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress

import pytest

from tests.helpers import padded
from vmbus.errors import CallerError, PeerError, RingEmpty
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem, RingMem
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, connected_rings


class Interrupted(Exception):
    """What the n-th access raises."""


class InterruptingWords:
    """Control words that count their accesses."""

    readonly = False

    def __init__(self, memory: InterruptingRingMem) -> None:
        self.memory = memory

    def __getitem__(self, word: int) -> int:
        self.memory.step()
        return self.memory.inner.control[word]

    def __setitem__(self, word: int, value: int) -> None:
        self.memory.step()
        self.memory.inner.control[word] = value
        self.memory.step()


class InterruptingRingMem(RingMem):
    """A memory whose n-th step raises; a step is before an access, and also after a store."""

    def __init__(self, inner: FlatRingMem) -> None:
        self.inner = inner
        self.left: int | None = None
        self._control = InterruptingWords(self)

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Interrupted

    @property
    def control(self) -> InterruptingWords:
        return self._control

    @property
    def size(self) -> int:
        return self.inner.size

    def read_at(self, offset: int, length: int) -> bytes:
        self.step()
        return self.inner.read_at(offset, length)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self.step()
        self.inner.write_at(offset, data)
        self.step()

    def fence(self) -> None:
        self.step()


#: More than any one call makes.
STEPS = range(24)


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_send_loses_no_packet_and_no_signal(steps):
    memory = InterruptingRingMem(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory)
    memory.left = steps
    sent = [b"one", b"two"]
    try:
        signals = [sender.send(b"one")]
    except Interrupted:
        signals = []
    published_before_the_next = memory.inner.control[IN_WORD] != 0
    memory.left = None
    signals.append(sender.send(b"two"))

    received = [packet.payload for packet in receiver.receive_many()[0]]
    # All of them, or all but the one whose call was ended before it was published.
    assert received in ([padded(one) for one in sent], [padded(b"two")])
    assert not published_before_the_next or received[0] == padded(b"one")
    assert any(signals), "the receiver was asleep over an empty ring, and nobody woke it"


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_receive_gives_no_packet_twice_and_forgets_no_space(steps):
    memory = InterruptingRingMem(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory)
    sender.send_many([b"one", b"two", b"three"])
    memory.left = steps
    received = []
    with suppress(Interrupted):
        received.append(receiver.receive()[0].payload)
    given_back = memory.inner.control[OUT_WORD] != 0
    memory.left = None
    received += [packet.payload for packet in receiver.receive_many()[0]]

    assert received == sorted(set(received), key=received.index), "a packet came twice"
    assert received[-2:] == [padded(b"two"), padded(b"three")]
    assert given_back or len(received) in (2, 3)
    with pytest.raises(RingEmpty):
        receiver.receive()
    assert memory.inner.control[OUT_WORD] == memory.inner.control[IN_WORD]


@pytest.mark.parametrize("steps", STEPS)
def test_an_interrupted_receive_loses_no_signal_for_a_waiting_sender(steps):
    memory = InterruptingRingMem(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory)
    while sender.can_write(sender.outgoing(), 1024):
        sender.send(bytes(1000))
    sender.set_pending_send_size(2048)
    memory.left = steps
    signals = []
    with suppress(Interrupted):
        signals.append(receiver.receive()[1])
    memory.left = None
    packets, signal = receiver.receive_many()
    assert packets
    assert [*signals, signal].count(True) == 1


def test_a_stopped_ring_holds_no_frames_of_its_callers():
    sender, receiver = connected_rings()
    sender.send(b"good")
    sender.memory.control[IN_WORD] = 4095

    class Large:
        pass

    def call() -> weakref.ref[Large]:
        local = Large()
        with pytest.raises(PeerError):
            receiver.receive()
        return weakref.ref(local)

    kept = [call() for _ in range(3)]
    gc.collect()
    assert [one() for one in kept] == [None, None, None]


def test_an_offset_of_another_ring_is_refused():
    (sender, receiver), (other_sender, other_receiver) = connected_rings(), connected_rings()
    sender.send(b"here")
    other_sender.send(b"there")
    for call in (
        lambda: receiver.read(other_receiver.incoming()),
        lambda: receiver.can_read(other_receiver.incoming()),
        lambda: receiver.commit_read(other_receiver.incoming()),
        lambda: sender.write(other_sender.outgoing(), OutgoingPacket.in_band(8)),
        lambda: sender.can_write(other_sender.outgoing(), 24),
        lambda: sender.commit_write(other_sender.outgoing()),
    ):
        with pytest.raises(CallerError, match="belongs to another"):
            call()
    assert receiver.receive()[0].payload == padded(b"here")


def test_any_packet_can_be_sent_in_one_step():
    sender, receiver = connected_rings()
    assert sender.send_packet(OutgoingPacket.completion(5, transaction_id=7), b"hello") is True
    packet, _ = receiver.receive()
    assert (packet.type.name, packet.transaction_id, packet.payload) == ("COMPLETION", 7, padded(b"hello"))
    with pytest.raises(CallerError, match="announces 5 bytes of payload, and 4 were given"):
        sender.send_packet(OutgoingPacket.in_band(5), b"four")
    with pytest.raises(RingEmpty):
        receiver.receive()


def test_a_ring_over_something_that_is_no_ring_memory_is_refused_with_advice():
    for end in (OutgoingRing, IncomingRing):
        with pytest.raises(CallerError, match=r"FlatRingMem\.over"):
            end(bytearray(8192))
