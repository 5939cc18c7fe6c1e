"""How a QEMU host takes a ring.

What it does not like it leaves where it is: the packet is looked at again and again, and the channel stalls.
It writes no footers, and looks at none.

Source: QEMU hw/hyperv/vmbus.c: vmbus_channel_recv_start(), vmbus_channel_recv_peek(), vmbus_channel_recv_done(),
vmbus_channel_reserve() and vmbus_channel_send().
"""

from __future__ import annotations

import struct

from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer

__all__ = ["QemuModel"]

IN_BAND, GPA_DIRECT, COMPLETION = 6, 9, 11
PAGE = 4096
UNREAD = "it was not read what it does with a header that is too short"


class QemuModel(Model):
    """The VMBus host of QEMU."""

    name = "qemu"
    title = "QEMU host"
    source = "hw/hyperv/vmbus.c"
    unverified = (
        "that it wakes no sender when a read empties the ring: follows from its arithmetic",
        "which of several faults of one packet it meets first",
        "GPA-direct packets without room for the header that counts the ranges",
    )

    def opens(self, ring: RingView) -> Step | None:
        """Indices must be below the size; that they are multiples of 8 is not asked."""
        wrong = wrong_index(ring)
        return Step(ring.out_offset, Answer.ERROR, wrong) if wrong else None

    def take(self, ring: RingView, out: int) -> Step:
        available = (ring.in_offset - out) % ring.size
        if available == 0:
            return Step(out, Answer.EMPTY)
        if available < DESCRIPTOR_SIZE:
            return Step(out, Answer.STALLS, "fewer than 16 bytes are no packet to it")
        descriptor = ring.descriptor_at(out)
        length, data_offset = descriptor.length, descriptor.data_offset
        if not DESCRIPTOR_SIZE <= data_offset <= length:
            return Step(out, Answer.STALLS, f"a payload at byte {data_offset} of {length} is malformed")
        if length + FOOTER_SIZE > available:
            return Step(
                out, Answer.STALLS, "a packet that is not published whole, with its footer, is none yet"
            )
        if descriptor.type not in (IN_BAND, GPA_DIRECT, COMPLETION):
            return Step(out, Answer.STALLS, f"type {descriptor.type} is not one of 6, 9 and 11")
        if descriptor.type == GPA_DIRECT:
            stalled = stall_over_ranges(ring, out, data_offset)
            if stalled:
                return stalled
        return Step.takes(out, length, data_offset, (out + length + FOOTER_SIZE) % ring.size)

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        if ring.interrupt_mask:
            return Signal(False, "the interrupt mask is set, and it heeds it here too")
        if not ring.feature_bits & 1:
            return Signal(True, "the sender's feature bit is clear, and then it always signals")
        pending = ring.pending_send_size
        if not pending:
            return Signal(False, "the sender waits for no room")
        free = (after - ring.in_offset) % ring.size
        read = (after - before) % ring.size
        verdict = pending <= free < read + pending
        why = f"it counts {free} bytes free after {read} were read, for {pending}"
        return Signal(verdict, why, verified=free != 0)

    def write(self, ring: RingView, size: int) -> Write:
        if ring.in_offset >= ring.size:
            return Write(WriteAnswer.ERROR, None, f"in is {ring.in_offset:#x}, and not below the size")
        free = (ring.out_offset - ring.in_offset - 1) % ring.size
        why = f"it counts {free} bytes free"
        if ring.out_offset >= ring.size:
            free, why = 0, "with out not below the size nothing is free"
        if free < size:
            return Write(WriteAnswer.NO_ROOM, None, why)
        unread = (ring.in_offset + size - ring.out_offset) % ring.size
        return Write(WriteAnswer.WRITES, ring.interrupt_mask == 0 and unread <= size, why)


def wrong_index(ring: RingView) -> str:
    """Which index is out of range, or nothing."""
    for name, index in (("in", ring.in_offset), ("out", ring.out_offset)):
        if index >= ring.size:
            return f"{name} is {index:#x}, and not below the size"
    return ""


def stall_over_ranges(ring: RingView, out: int, data_offset: int) -> Step | None:
    """The end at a GPA-direct packet whose ranges it refuses; None where it takes them."""
    listed = data_offset - DESCRIPTOR_SIZE
    if listed < 8:
        return Step(out, Answer.UNKNOWN, UNREAD).inferred()
    header = ring.read_at(out + DESCRIPTOR_SIZE, listed)
    at = 8
    for _ in range(int.from_bytes(header[4:8], "little")):
        if at + 8 > listed:
            return Step(out, Answer.STALLS, "fewer GPA ranges than the header counts")
        byte_count, byte_offset = struct.unpack_from("<II", header, at)
        at += 8
        if byte_offset >= PAGE:
            why = f"a GPA range that begins {byte_offset} bytes into its first page"
            return Step(out, Answer.STALLS, why)
        if byte_count:  # a range without bytes has no page numbers, and is taken
            at += 8 * ((byte_offset + byte_count + PAGE - 1) // PAGE)
        if at > listed:
            return Step(out, Answer.STALLS, "a GPA range with too few page numbers")
    return None
