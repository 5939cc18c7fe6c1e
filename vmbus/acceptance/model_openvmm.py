"""How OpenVMM takes a ring, host or guest.

It refuses almost everything that is wrong.  Two things it lets pass: a packet whose footer is not published,
and a footer with anything in it.

Source: OpenVMM vm/devices/vmbus/vmbus_ring/src/lib.rs: validate(), available(), parse_packet(), commit_read(),
commit_write() and write(); gparange.rs for the ranges.
"""

from __future__ import annotations

import struct

from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer, wrong_index

__all__ = ["OpenVmmModel"]

IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11
PAGE = 4096


class OpenVmmModel(Model):
    """The crate vmbus_ring."""

    name = "openvmm"
    title = "OpenVMM vmbus_ring, 2026-08"
    source = "vm/devices/vmbus/vmbus_ring/src/lib.rs and gparange.rs"
    unverified = (
        "what it reads after a step past in: follows from its arithmetic, and was not tried",
        "which of several faults of one packet it names",
    )

    def opens(self, ring: RingView) -> Step | None:
        wrong = wrong_index(ring)
        return Step(ring.out_offset, Answer.ERROR, wrong) if wrong else None

    def take(self, ring: RingView, out: int) -> Step:
        size, write_index = ring.size, ring.in_offset
        if write_index == out:
            return Step(out, Answer.EMPTY)
        available = write_index - out if write_index > out else size + write_index - out
        if available < DESCRIPTOR_SIZE:
            return Step(out, Answer.ERROR, "fewer than 16 bytes are no packet")
        descriptor = ring.descriptor_at(out)
        length, data_offset = descriptor.length, descriptor.data_offset
        if length > available:
            return Step(
                out, Answer.ERROR, f"a length of {length} is more than the {available} bytes published"
            )
        if not DESCRIPTOR_SIZE <= data_offset <= length:
            return Step(out, Answer.ERROR, f"a payload cannot begin at byte {data_offset} of {length}")
        if descriptor.flags & ~1:
            return Step(out, Answer.ERROR, f"flags {descriptor.flags:#x} are not known")
        wrong = wrong_type(ring, out, descriptor.type, data_offset)
        if wrong:
            return Step(out, Answer.ERROR, wrong)
        why = "the footer need not be published" if length + FOOTER_SIZE > available else ""
        following = out + length + FOOTER_SIZE
        return Step.takes(out, length, data_offset, following - size if following >= size else following, why)

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        wanted = ring.pending_send_size & ~7
        if not wanted:
            return Signal(False, "the sender waits for no room")
        free_before = free(ring.size, ring.in_offset, before)
        free_after = free(ring.size, ring.in_offset, after)
        return Signal(
            free_before < wanted <= free_after,
            f"{free_before} bytes were free and {free_after} are, for {wanted}",
        )

    def write(self, ring: RingView, size: int) -> Write:
        wrong = wrong_index(ring)
        if wrong:
            return Write(WriteAnswer.ERROR, None, wrong)
        if size >= ring.size - 8:
            return Write(
                WriteAnswer.NO_ROOM, None, f"a packet of {ring.size - 8} bytes or more is never written"
            )
        room = free(ring.size, ring.in_offset, ring.out_offset)
        why = f"{room} bytes are free"
        if room < size:
            return Write(WriteAnswer.NO_ROOM, None, why)
        signals = ring.interrupt_mask == 0 and ring.out_offset == ring.in_offset
        return Write(WriteAnswer.WRITES, signals, why)


def free(size: int, write_index: int, read_index: int) -> int:
    """Bytes that can be written."""
    gap = read_index - write_index if read_index > write_index else size - (write_index - read_index)
    return gap - 8


def wrong_type(ring: RingView, out: int, packet_type: int, data_offset: int) -> str:
    """What is wrong with the type, or with the ranges that it brings; nothing where all is right."""
    if packet_type in (IN_BAND, COMPLETION):
        return ""
    if packet_type not in (TRANSFER_PAGES, GPA_DIRECT):
        return f"type {packet_type} is not one of 6, 7, 9 and 11"
    listed = data_offset - DESCRIPTOR_SIZE - 8
    if listed < 0:
        return f"a payload at byte {data_offset} leaves no room for the header with the ranges"
    header = ring.read_at(out + DESCRIPTOR_SIZE, 8 + listed)
    count = int.from_bytes(header[4:8], "little")
    if packet_type == TRANSFER_PAGES:
        return f"{count} ranges are more than the header holds" if count * 8 > listed else ""
    return wrong_ranges(count, header[8:])


def wrong_ranges(count: int, data: bytes) -> str:
    """What is wrong with the GPA ranges at the start of `data`, which may be longer."""
    if count == 0:
        return "a GPA-direct packet without ranges"
    at = 0
    for _ in range(count):
        if at + 8 > len(data):
            return "fewer GPA ranges than the header counts"
        byte_count, byte_offset = struct.unpack_from("<II", data, at)
        at += 8
        if byte_count == 0:
            return "a GPA range without bytes"
        if byte_offset >= PAGE:
            return f"a GPA range that begins {byte_offset} bytes into its first page"
        rounded = byte_count + PAGE - 1 + byte_offset
        if rounded > 0xFFFF_FFFF:
            return "a GPA range whose end has more than 32 bits"
        at += 8 * (rounded // PAGE)
        if at > len(data):
            return "a GPA range with too few page numbers"
    return ""
