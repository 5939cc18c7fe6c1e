"""In which order the ends of a ring must load, store and fence.

The order is all that keeps two processors from losing a packet or a signal, and no test that runs both ends on one
of them would notice a step out of place.  So the accesses are written down at the memory's seam and compared with a
table, in which "read" and "write" stand for all the bytes of a batch.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write(), hv_pkt_iter_close() and hv_end_read(); OpenVMM
vmbus_ring/src/lib.rs, commit_write() and commit_read().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from vmbus.errors import NotReady
from vmbus.layout import DESCRIPTOR_SIZE
from vmbus.ring import PacketSize

from .conformance_report import checks_of, demand, demand_equal
from .conformance_rings import Rings, RingsMaker, fill, send, take
from .recording_memory import order_of, why_not_in_order

__all__ = ["ORDER_CHECKS"]

WRITE = ("load out", "acquire", "write", "release", "store in", "fence", "load mask", "acquire", "load out")
READ = ("load in", "acquire", "read", "release", "store out", "fence", "load pending", "acquire", "load in")
UNMASK = ("store mask", "fence", "load in")
ASK_FOR_ROOM = ("store pending", "fence", "load out")

SENDS: dict[str, Callable[[Any], object]] = {
    "send": lambda sender: sender.send(b"sixteen bytes..."),
    "send_many": lambda sender: sender.send_many([b"sixteen bytes..."] * 3),
    "write and commit_write": lambda sender: send(sender, b"sixteen bytes..."),
}
RECEIVES: dict[str, Callable[[Any], object]] = {
    "receive": lambda receiver: receiver.receive(),
    "receive_many": lambda receiver: receiver.receive_many(),
    "receive_into": lambda receiver: receiver.receive_into(bytearray(64)),
    "read and commit_read": take,
}


def demand_order(rings: Rings, table: Sequence[str], what: str) -> None:
    """Compare what was done since the last look with a table."""
    why = why_not_in_order(order_of(rings.memory.take()), table)
    demand(why is None, f"{what} in the order {', '.join(table)}", why or "")


def full_as_far_as_known(rings: RingsMaker, start: int) -> Rings:
    """Rings whose sender thinks that there is no room, although all has been read."""
    pair = rings.make(start)
    fill(pair.sender)
    pair.receiver.receive_many()
    pair.memory.take()
    return pair


def write_goes_in_order(rings: RingsMaker) -> None:
    """A write looks at out, stores the bytes, publishes in behind a release, and decides on the signal behind a fence."""
    for name, act in SENDS.items():
        pair = full_as_far_as_known(rings, 16)
        act(pair.sender)
        demand_order(pair, WRITE, name)
        act(pair.sender)  # of room that is known, out need not be looked at
        words = order_of(pair.memory.take())
        why = why_not_in_order(words, WRITE[2:]) and why_not_in_order(words, WRITE)
        demand(why is None, f"{name} in the order {', '.join(WRITE)}", why or "")


def read_goes_in_order(rings: RingsMaker) -> None:
    """A read looks at in, copies the bytes, publishes out behind a release, and decides on the signal behind a fence."""
    for name, act in RECEIVES.items():
        for start in (0, 4080):
            pair = rings.make(start)
            pair.sender.send(b"sixteen bytes...")
            pair.sender.set_pending_send_size(64)
            pair.memory.take()
            act(pair.receiver)
            demand_order(pair, READ, name)


def unmasking_is_fenced(rings: RingsMaker) -> None:
    """Between clearing the mask and looking for packets stands a full fence."""
    for look in (lambda receiver: receiver.can_read(receiver.incoming()), RECEIVES["receive"]):
        pair = rings.make()
        pair.receiver.set_interrupt_mask(False)
        with suppress(NotReady):
            look(pair.receiver)
        demand_order(pair, UNMASK, "unmasking and looking")


def asking_for_room_is_fenced(rings: RingsMaker) -> None:
    """Between asking for room and looking for it stands a full fence."""
    pair = full_as_far_as_known(rings, 16)
    pair.sender.set_pending_send_size(64)
    pair.sender.can_write(pair.sender.outgoing(), PacketSize.in_band(40))
    demand_order(pair, ASK_FOR_ROOM, "asking for room and looking")


def batch_publishes_once(rings: RingsMaker) -> None:
    """All packets of a batch are published by one store of the index, and given back by one."""
    pair = rings.make()
    pair.sender.send_many([b""] * 5)
    demand_equal(order_of(pair.memory.take()).count("store in"), 1, "stores of in by send_many:")
    pair.receiver.receive_many()
    demand_equal(order_of(pair.memory.take()).count("store out"), 1, "stores of out by receive_many:")


def descriptor_is_read_once(rings: RingsMaker) -> None:
    """No byte of a descriptor is read twice: the sender could change it in between."""
    for name, act in RECEIVES.items():
        for start in (0, 4088):
            pair = rings.make(start)
            pair.sender.send(b"sixteen bytes...")
            pair.memory.take()
            act(pair.receiver)
            size = pair.memory.size
            reads = [access for access in pair.memory.take() if access.what == "read"]
            for byte in range(start, start + DESCRIPTOR_SIZE):
                count = sum((byte - access.place) % size < len(access.value) for access in reads)
                demand_equal(count, 1, f"reads of byte {byte - start} of a descriptor by {name}:")


ORDER_CHECKS = checks_of(
    write_goes_in_order,
    read_goes_in_order,
    unmasking_is_fenced,
    asking_for_room_is_fenced,
    batch_publishes_once,
    descriptor_is_read_once,
)
