"""The rings of this package, as one of the models: the same functions that IncomingRing and OutgoingRing call."""

from __future__ import annotations

from vmbus.errors import PeerError
from vmbus.ring import (
    RingFault,
    advance,
    free_bytes,
    is_offset,
    largest_packet,
    read_packet,
    signal_reader_after_write,
    signal_writer_after_read,
    used_bytes,
    wanted_space,
)

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer

__all__ = ["VmbusModel"]


class VmbusModel(Model):
    """This package's own rings: strict in everything."""

    name = "vmbus"
    title = "this package's rings"
    source = "vmbus/ring: read_packet(), descriptor_fault() and the rules of signaling.py"

    def opens(self, ring: RingView) -> Step | None:
        """Both indices are checked before anything is read."""
        wrong = wrong_index(ring)
        return Step(ring.out_offset, Answer.ERROR, wrong) if wrong else None

    def take(self, ring: RingView, out: int) -> Step:
        published = used_bytes(ring.size, ring.in_offset, out)
        if not published:
            return Step(out, Answer.EMPTY)
        try:
            ring.descriptor_at(out)  # kept, so that the strict reader sees what the other models see
            packet, taken = read_packet(ring, out, published)
        except PeerError as error:
            return Step(out, Answer.ERROR, f"it raises {name_of(error)}")
        descriptor = packet.descriptor
        return Step.takes(out, descriptor.length, descriptor.data_offset, advance(ring.size, out, taken))

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        free_before = free_bytes(ring.size, ring.in_offset, before)
        free_after = free_bytes(ring.size, ring.in_offset, after)
        verdict = signal_writer_after_read(
            pending_send_size=ring.pending_send_size, free_before=free_before, free_after=free_after
        )
        wanted = wanted_space(ring.pending_send_size)
        if not wanted:
            return Signal(False, "the sender waits for no room")
        return Signal(verdict, f"{free_before} bytes were free and {free_after} are, for {wanted}")

    def write(self, ring: RingView, size: int) -> Write:
        wrong = wrong_index(ring)
        if wrong:
            return Write(WriteAnswer.ERROR, None, wrong)
        free = free_bytes(ring.size, ring.in_offset, ring.out_offset)
        if size > min(free, largest_packet(ring.size)):
            return Write(WriteAnswer.NO_ROOM, None, f"{free} bytes are free")
        signals = signal_reader_after_write(
            interrupt_mask=ring.interrupt_mask, out_offset=ring.out_offset, in_before=ring.in_offset
        )
        return Write(WriteAnswer.WRITES, signals, f"{free} bytes are free")


def wrong_index(ring: RingView) -> str:
    """Which index is none, or nothing."""
    for index_name, index in (("in", ring.in_offset), ("out", ring.out_offset)):
        if not is_offset(ring.size, index):
            return f"{index_name} is {index:#x}: it raises {RingFault.INVALID_RING_POINTER.value}"
    return ""


def name_of(error: PeerError) -> str:
    """The name that reports give to the rule that was broken."""
    return str(error.kind.value if error.kind else error)
