"""When the ends of a ring must signal each other, and what they must make of an index or a packet that is wrong.

How packets are moved stands in conformance_rings.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close(); OpenVMM
vmbus_ring/src/lib.rs, commit_write(), commit_read(), validate() and parse_packet().
"""

from __future__ import annotations

import struct

from vmbus.errors import PeerError, RingEmpty
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD

from .conformance_report import checks_of, demand_equal, demand_raises
from .conformance_rings import SEND_STEP, SIZE, RingsMaker, fill, send, take

__all__ = ["RULE_CHECKS"]


def reader_is_signaled_when_an_emptiness_ends(rings: RingsMaker) -> None:
    """A write asks for a signal when the receiver had read all there was before it, and at no other time."""
    pair = rings.make(start=4064)
    found = [send(pair.sender, b""), pair.sender.send(b""), pair.sender.send_many([b"", b""])[1]]
    demand_equal(found, [True, False, False], "signals of three writes into an empty ring:")
    take(pair.receiver)
    demand_equal(pair.sender.send(b""), False, "the signal while packets still wait")
    pair.receiver.receive_many()
    demand_equal(pair.sender.send_many([b"", b""])[1], True, "the signal when all had been read")


def mask_silences_the_sender(rings: RingsMaker) -> None:
    """While interrupts are masked no write asks for a signal."""
    pair = rings.make()
    pair.receiver.set_interrupt_mask(True)
    demand_equal(pair.word(INTERRUPT_MASK_WORD), 1, "the mask")
    demand_equal(pair.sender.send(b""), False, "the signal under a mask")
    pair.receiver.set_interrupt_mask(False)
    pair.receiver.receive()
    demand_equal(pair.sender.send(b""), True, "the signal after the mask was cleared")


def writer_is_signaled_once_there_is_room(rings: RingsMaker) -> None:
    """A read asks for a signal when it has just freed what the sender waits for: once, and never if it does not wait."""
    pair = rings.make(start=1024)
    for receive in (take, lambda receiver: receiver.receive(), lambda receiver: receiver.receive_many(1)):
        count = fill(pair.sender)
        demand_equal([receive(pair.receiver)[1] for _ in range(3)], [False] * 3, "signals nobody waits for:")
        free = SIZE - 8 - (count - 3) * SEND_STEP
        pair.sender.set_pending_send_size(free + 2 * SEND_STEP)
        found = [receive(pair.receiver)[1] for _ in range(4)]
        demand_equal(found, [False, True, False, False], "signals of four reads, the second makes room:")
        pair.sender.set_pending_send_size(0)
        pair.receiver.receive_many()


def pending_size_counts_whole_slots(rings: RingsMaker) -> None:
    """A pending size is stored rounded up to 8, and a receiver drops the low three bits of what it finds."""
    pair = rings.make()
    pair.sender.set_pending_send_size(33)
    demand_equal(pair.word(PENDING_SEND_SIZE_WORD), 40, "the pending size stored for 33:")
    fill(pair.sender)
    pair.memory.inside.control[PENDING_SEND_SIZE_WORD] = SIZE - 1
    demand_equal(
        pair.receiver.receive_many()[1], True, "the signal for a pending size of 4095 when all is read"
    )
    demand_equal(pair.receiver.supports_pending_send_size(), True, "supports_pending_send_size")


def own_index_is_private(rings: RingsMaker) -> None:
    """An end never reads its own index back: the other side could have changed it."""
    pair = rings.make(start=512)
    pair.sender.send(b"a packet")
    words = pair.memory.inside.control
    words[OUT_WORD] = 8
    demand_equal(pair.receiver.receive()[0].payload, b"a packet", "what is received")
    demand_equal(words[OUT_WORD], 544, "out behind it:")
    words[IN_WORD] = 8
    pair.sender.send(b"another!")
    demand_equal(words[IN_WORD], 576, "in behind the second packet:")


def bad_index_is_the_peers_error(rings: RingsMaker) -> None:
    """The other side's index out of range or no multiple of 8 is a PeerError: not empty, not full, and not for once."""
    for bad in (4, SIZE, SIZE + 8, 2**31, 2**32 - 8, 2**32 - 1):
        pair = rings.make()
        fill(pair.sender)
        pair.memory.inside.control[OUT_WORD] = bad
        with demand_raises(PeerError, f"send with out at {bad:#x}"):
            pair.sender.send(b"")
        pair.memory.inside.control[OUT_WORD] = 0
        with demand_raises(PeerError, "the next call of a sender that was shown a bad index"):
            pair.sender.send(b"")
        pair = rings.make()
        pair.memory.inside.control[IN_WORD] = bad
        for name in ("receive", "receive_many"):
            with demand_raises(PeerError, f"{name} with in at {bad:#x}"):
                getattr(pair.receiver, name)()
        pair.memory.inside.control[IN_WORD] = 0
        pair.receiver.reset()
        with demand_raises(RingEmpty, "receive after reset"):
            pair.receiver.receive()


#: Descriptors that no reader may take, of a packet whose sender has published 64 bytes.
BROKEN = {
    "a type of 0": (0, 2, 7, 0),
    "an unknown type": (14, 2, 7, 0),
    "an unknown flag": (6, 2, 7, 2),
    "no length": (6, 2, 0, 0),
    "a length without a payload's start": (6, 3, 2, 0),
    "a payload in the descriptor": (6, 1, 7, 0),
    "no payload offset": (6, 0, 7, 0),
    "a length behind in": (6, 2, 9, 0),
    "a footer behind in": (6, 2, 8, 0),
    "the largest length": (6, 2, 65535, 0),
    "no room for the header of GPA ranges": (9, 2, 7, 1),
    "no GPA ranges": (9, 3, 7, 1),
    "no room for the header of transfer pages": (7, 2, 7, 1),
}


def broken_packet_is_the_peers_error(rings: RingsMaker) -> None:
    """A malformed packet is a PeerError, the good ones before it are handed out, and nothing behind it ever is."""
    for name, numbers in BROKEN.items():
        for start in (0, 4032):
            pair = rings.make(start)
            pair.sender.send(b"it is ok")
            place = (start + 32) % SIZE
            pair.memory.inside.write_at(place, struct.pack("<HHHHQ", *numbers, 0) + bytes(48))
            pair.memory.inside.control[IN_WORD] = (place + 64) % SIZE
            found = [packet.payload for packet in pair.receiver.receive_many()[0]]
            demand_equal(found, [b"it is ok"], f"receive_many before {name}:")
            for _ in range(2):
                with demand_raises(PeerError, f"receive of {name}"):
                    pair.receiver.receive()
            demand_equal(pair.word(OUT_WORD), place, f"out at {name}:")


RULE_CHECKS = checks_of(
    reader_is_signaled_when_an_emptiness_ends,
    mask_silences_the_sender,
    writer_is_signaled_once_there_is_room,
    pending_size_counts_whole_slots,
    own_index_is_private,
    bad_index_is_the_peers_error,
    broken_packet_is_the_peers_error,
)
