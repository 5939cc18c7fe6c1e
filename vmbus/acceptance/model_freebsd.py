"""How a FreeBSD guest takes a ring, as far as its ring code was read: the buffer ring, not the channel above it.

Source: FreeBSD sys/dev/hyperv/vmbus/vmbus_br.c, in its newer form: vmbus_rxbr_peek(), vmbus_rxbr_read(),
vmbus_rxbr_need_signal(), vmbus_txbr_write() and vmbus_txbr_need_signal().
"""

from __future__ import annotations

from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer, mapped_once
from .model_arithmetic import readable, signal_writer, wake_reader, writable

__all__ = ["FreeBsdModel"]

SMALLEST = DESCRIPTOR_SIZE + FOOTER_SIZE
NOT_READ = "the code that looks at the descriptor was not read"


class FreeBsdModel(Model):
    """The buffer ring of FreeBSD's vmbus driver."""

    name = "freebsd"
    title = "FreeBSD vmbus driver, newer buffer ring"
    source = "sys/dev/hyperv/vmbus/vmbus_br.c"
    unverified = (
        "everything above the buffer ring: lengths below 16 bytes and where a payload begins",
        "what it does with an index out of range: follows from its arithmetic, and was not tried",
    )

    def take(self, ring: RingView, out: int) -> Step:
        available = readable(ring.size, ring.in_offset, out)
        if available == 0:
            return Step(out, Answer.EMPTY)
        if available < SMALLEST:
            return Step(out, Answer.STALLS, "it waits for 24 bytes (EAGAIN)")
        if not mapped_once(ring, out, SMALLEST):
            return Step(
                out, Answer.UNDEFINED, "no index is checked, and it copies from outside the ring"
            ).inferred()
        descriptor = ring.descriptor_at(out)
        length, data_offset = descriptor.length, descriptor.data_offset
        if length < DESCRIPTOR_SIZE:
            return Step(out, Answer.UNKNOWN, NOT_READ).inferred()
        if length + FOOTER_SIZE > available:
            return Step(out, Answer.STALLS, f"it waits for {length} bytes and their footer (EAGAIN)")
        if not mapped_once(ring, out, length):
            return Step(
                out, Answer.UNDEFINED, "no index is checked, and it copies from outside the ring"
            ).inferred()
        following = out + length + FOOTER_SIZE
        following = following - ring.size if following >= ring.size else following
        if DESCRIPTOR_SIZE <= data_offset <= length:
            return Step.takes(out, length, data_offset, following)
        return Step.takes(out, length, None, following, NOT_READ).inferred()

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        return signal_writer(ring, before, after)

    def write(self, ring: RingView, size: int) -> Write:
        if ring.in_offset >= ring.size:
            why = "no index is checked, and it copies to outside the ring"
            return Write(WriteAnswer.UNDEFINED, None, why, verified=False)
        free = writable(ring.size, ring.in_offset, ring.out_offset)
        why = f"it counts {free} bytes free and wants more than the packet"
        if free <= size:
            return Write(WriteAnswer.NO_ROOM, None, why)
        return Write(WriteAnswer.WRITES, wake_reader(ring), why)
