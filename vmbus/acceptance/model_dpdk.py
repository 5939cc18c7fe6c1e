"""How DPDK takes a ring, in a guest's user space.

It looks at a copy of the descriptor and copies the packet in two parts where it wraps.  A packet that is
not there whole, with its footer, is one that will still come: the reader waits, if need be for ever.

Source: DPDK drivers/bus/vmbus/vmbus_bufring.c and vmbus_channel.c: vmbus_rxbr_peek(), vmbus_rxbr_read(),
vmbus_txbr_write(), rte_vmbus_chan_recv() and rte_vmbus_chan_signal_read().
"""

from __future__ import annotations

from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer, mapped_once
from .model_arithmetic import readable, signal_writer, wake_reader, writable

__all__ = ["DpdkModel"]

TRANSFER_PAGES = 7
SMALLEST = DESCRIPTOR_SIZE + FOOTER_SIZE


class DpdkModel(Model):
    """The bus driver vmbus; its network driver looks at packet types.

    caller_buffer   bytes of the buffer that is to take a packet; None: large enough for any
    """

    name = "dpdk"
    title = "DPDK vmbus bus driver"
    source = "drivers/bus/vmbus/vmbus_bufring.c and vmbus_channel.c"
    unverified = (
        "what it does with an index out of range: follows from its arithmetic, and was not tried",
        "what its drivers do with a packet type, but for the length of a transfer-page header",
    )

    def __init__(self, caller_buffer: int | None = None) -> None:
        self.caller_buffer = caller_buffer

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
        if data_offset < DESCRIPTOR_SIZE:
            return Step(out, Answer.ERROR, f"a payload cannot begin at byte {data_offset} (EIO)")
        if data_offset > length:
            return Step(
                out, Answer.ERROR, f"a payload at byte {data_offset} lies behind the {length} bytes (EIO)"
            )
        if self.caller_buffer is not None and length > self.caller_buffer:
            return Step(out, Answer.ERROR, f"{length} bytes are more than the caller's buffer has (ENOBUFS)")
        if length + FOOTER_SIZE > available:
            return Step(out, Answer.STALLS, f"it waits for {length} bytes and their footer (EAGAIN)")
        if not mapped_once(ring, out, length):
            return Step(
                out, Answer.UNDEFINED, "no index is checked, and it copies from outside the ring"
            ).inferred()
        if descriptor.type == TRANSFER_PAGES and ranges_are_cut(ring, out, data_offset):
            return Step(out, Answer.ERROR, "a transfer-page header has no room for its ranges")
        following = out + length + FOOTER_SIZE
        following = following - ring.size if following >= ring.size else following
        return Step.takes(out, length, data_offset, following)

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


def ranges_are_cut(ring: RingView, out: int, data_offset: int) -> bool:
    """Whether the header of a transfer-page packet counts more ranges than there are before the payload."""
    listed = data_offset - DESCRIPTOR_SIZE - 8
    if listed < 0:
        return True
    header = ring.read_at(out + DESCRIPTOR_SIZE, 8)
    return int.from_bytes(header[4:8], "little") * 8 > listed
