"""How far the indices of a ring moved between two snapshots, and what follows from that alone.

A lap brings an index back to where it was.  Where the indices contradict each other unless one of them went
a lap further, it did; and where the bytes show that nobody wrote meanwhile, an index went backwards.

Edge rules are about the moment of a commit, which no snapshot shows; said is only that one must have been
true, where two snapshots prove it.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close().
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.images import Finding, Severity
from vmbus.memory import RingMem
from vmbus.ring import advance, used_bytes, wanted_space

from .ring_report import RingReport

__all__ = ["Movement", "same_bytes"]

#: So many bytes of the two snapshots are compared at a time.
PIECE = 1 << 20


class Movement:
    """How far the indices of two snapshots moved, both of whose are valid.

    written, read   how far in and out went, at least: a lap is in them only where nothing else fits
    lap             0; the data size where in must have gone one lap more than its position shows; minus
                    that where out must
    went_round      whether what lay in the ring is gone, as far as is known
    went_backwards  whether an index is where it cannot be
    """

    def __init__(self, a: RingReport, b: RingReport) -> None:
        self.a, self.b = a, b
        self.size = size = b.memory.size
        self.waiting_before = used_bytes(size, a.control.in_offset, a.control.out_offset)
        waiting_now = used_bytes(size, b.control.in_offset, b.control.out_offset)
        self.in_moved = used_bytes(size, b.control.in_offset, a.control.in_offset)
        self.out_moved = used_bytes(size, b.control.out_offset, a.control.out_offset)
        self.lap = waiting_now - self.waiting_before - self.in_moved + self.out_moved
        self.written = self.in_moved + max(0, self.lap)
        self.read = self.out_moved + max(0, -self.lap)
        self.went_round = self.written >= size
        self.went_backwards = False

    def lap_findings(self) -> Iterator[Finding]:
        """An index that went a lap further than its position shows, or backwards.

        Whoever publishes so much has written as many bytes, and they would be new.
        """
        before, now = self.a.control, self.b.control
        name, other = ("in", "out") if self.lap > 0 else ("out", "in")
        places = (
            f"in went from {before.in_offset:#06x} to {now.in_offset:#06x}, out from "
            f"{before.out_offset:#06x} to {now.out_offset:#06x}"
        )
        opened_anew = now.in_offset == now.out_offset == 0
        written = min(self.written, self.size)
        if not opened_anew and same_bytes(self.a.memory, self.b.memory, before.in_offset, written):
            self.went_backwards = True
            wrong = f"{other} is where it cannot be" if self.lap else "both went backwards"
            message = (
                f"{places}, and not one of {written} bytes was written meanwhile: {wrong}, unless the later "
                "dump is the earlier one"
            )
            yield Finding("index-backwards", Severity.ERROR, None, message)
        elif self.lap:
            message = f"{places}: {name} must have gone at least a lap of {self.size} bytes more than that"
            yield Finding("went-round", Severity.NOTE, None, message)

    def signals_due(self) -> Iterator[Finding]:
        """Edge rules that must have been true at a commit in between."""
        before, now = self.a.control, self.b.control
        if self.lap or self.went_round or self.went_backwards:
            return
        unmasked = not before.interrupt_mask and not now.interrupt_mask
        if not self.waiting_before and self.in_moved and not self.out_moved and unmasked:
            message = (
                f"the writer had to signal by the edge rule signal_reader_after_write when it published the "
                f"first packet at {before.in_offset:#06x}: the ring was empty and the mask 0, in both snapshots"
            )
            yield Finding("signal-was-due", Severity.NOTE, None, message)
        wanted = wanted_space(now.pending_send_size)
        free_before, free_now = self.size - 8 - self.waiting_before, self.b.free or 0
        same_wish = before.pending_send_size == now.pending_send_size
        if same_wish and not self.in_moved and free_before < wanted <= free_now:
            message = (
                f"the reader had to signal by the edge rule signal_writer_after_read: {wanted} bytes of room "
                f"were asked for, {free_before} were free, and {free_now} are"
            )
            yield Finding("signal-was-due", Severity.NOTE, None, message)


def same_bytes(a: RingMem, b: RingMem, offset: int, length: int) -> bool:
    """True when two snapshots have the same bytes there."""
    for done in range(0, length, PIECE):
        at, count = advance(a.size, offset, done), min(PIECE, length - done)
        if a.read_at(at, count) != b.read_at(at, count):
            return False
    return True
