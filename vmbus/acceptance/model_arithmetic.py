"""How Linux, DPDK and FreeBSD count what a ring holds: 32-bit numbers, no index checked.

The free space is overstated by the 8 bytes that never fill, so a writer asks for more than it needs, and never
for exactly as much.  An index that is out of range makes the results wrap around.

Sources: Linux drivers/hv/ring_buffer.c, hv_get_bytes_to_read(), hv_get_bytes_to_write() and
hv_pkt_iter_close(); DPDK drivers/bus/vmbus/private.h, vmbus_br_availwrite() and vmbus_br_availread();
FreeBSD sys/dev/hyperv/vmbus/vmbus_br.c and vmbus_brvar.h.
"""

from __future__ import annotations

from .model import RingView, Signal

__all__ = ["readable", "signal_writer", "u32", "wake_reader", "writable"]


def u32(value: int) -> int:
    """A number as a 32-bit register keeps it.

    >>> u32(4096 - 8192)
    4294963200
    """
    return value & 0xFFFF_FFFF


def readable(size: int, write_index: int, read_index: int) -> int:
    """Bytes that seem to wait.

    >>> readable(4096, 64, 32), readable(4096, 32, 64), readable(4096, 8192, 0)
    (32, 4064, 8192)
    """
    if write_index >= read_index:
        return write_index - read_index
    return u32(size - read_index + write_index)


def writable(size: int, write_index: int, read_index: int) -> int:
    """Bytes that seem free: of an empty ring all.

    >>> writable(4096, 0, 0), writable(4096, 32, 64), writable(4096, 8192, 0)
    (4096, 32, 4294963200)
    """
    if write_index >= read_index:
        return u32(size - (write_index - read_index))
    return read_index - write_index


def signal_writer(ring: RingView, before: int, after: int) -> Signal:
    """Whether a reader that went from `before` to `after` wakes a writer who waits for room."""
    if not ring.feature_bits & 1:
        return Signal(False, "the sender's feature bit is clear, and then it never signals")
    pending = ring.pending_send_size
    if not pending:
        return Signal(False, "the sender waits for no room")
    free = writable(ring.size, ring.in_offset, after)
    free_before = u32(free - (after - before) % ring.size)
    verdict = free_before <= pending < free
    return Signal(
        verdict,
        f"counted with the 8 bytes that never fill, {free_before} were free and {free} are, for {pending}",
    )


def wake_reader(ring: RingView) -> bool:
    """Whether a writer wakes the reader: the mask first, then whether the reader stands where it wrote."""
    return ring.interrupt_mask == 0 and ring.out_offset == ring.in_offset
