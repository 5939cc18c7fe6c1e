"""How Microsoft's guest firmware takes a ring.

Its ring layer checks indices and lengths and leaves everything inside a packet to the drivers above.  It keeps
1 byte free where others keep 8; among multiples of 8 that is the same.

Source: microsoft/mu_msvm MsvmPkg/EmclDxe/RingBuffer.c, in a release build; a checked build also compares the footer.
"""

from __future__ import annotations

from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer, wrong_index

__all__ = ["UefiModel"]

SMALLEST = DESCRIPTOR_SIZE + FOOTER_SIZE


class UefiModel(Model):
    """The ring layer of EmclDxe."""

    name = "uefi"
    title = "UEFI guest firmware (MsvmPkg), release build"
    source = "MsvmPkg/EmclDxe/RingBuffer.c"
    unverified = (
        "where a payload begins, flags and types: left to the drivers, which were not read",
        "that fewer than 24 published bytes are an error and not an empty ring",
    )

    def opens(self, ring: RingView) -> Step | None:
        wrong = wrong_index(ring)
        return Step(ring.out_offset, Answer.ERROR, wrong) if wrong else None

    def take(self, ring: RingView, out: int) -> Step:
        available = (ring.in_offset - out) % ring.size
        if available == 0:
            return Step(out, Answer.EMPTY)
        if available < SMALLEST:
            return Step(out, Answer.ERROR, "a whole packet and its footer must be published").inferred()
        descriptor = ring.descriptor_at(out)
        length, data_offset = descriptor.length, descriptor.data_offset
        if length < DESCRIPTOR_SIZE:
            return Step(out, Answer.ERROR, f"a packet of {length} bytes is shorter than its descriptor")
        if length + FOOTER_SIZE > available:
            return Step(out, Answer.ERROR, "a whole packet and its footer must be published")
        following = (out + length + FOOTER_SIZE) % ring.size
        if DESCRIPTOR_SIZE <= data_offset <= length:
            return Step.takes(out, length, data_offset, following)
        return Step.takes(
            out, length, None, following, "where a payload begins is left to the drivers"
        ).inferred()

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        pending = ring.pending_send_size
        if not pending:
            return Signal(False, "the sender waits for no room")
        free_before = free(ring.size, ring.in_offset, before)
        free_after = free(ring.size, ring.in_offset, after)
        return Signal(
            free_before < pending <= free_after,
            f"counted with all but 1 byte, {free_before} were free and {free_after} are, for {pending}",
        )

    def write(self, ring: RingView, size: int) -> Write:
        wrong = wrong_index(ring)
        if wrong:
            return Write(WriteAnswer.ERROR, None, wrong)
        room = free(ring.size, ring.in_offset, ring.out_offset)
        why = f"it counts {room} bytes free"
        if room < size or size >= ring.size:
            return Write(WriteAnswer.NO_ROOM, None, why)
        signals = ring.interrupt_mask == 0 and ring.out_offset == ring.in_offset
        return Write(WriteAnswer.WRITES, signals, why)


def free(size: int, write_index: int, read_index: int) -> int:
    """Bytes that can be written: all but one."""
    return (read_index - write_index - 1) % size
