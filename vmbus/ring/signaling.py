"""When one side of a ring must wake the other.

Four rules, each a function of numbers already read from the control page.  Two are edges: they
are asked once after each commit and are true only for the commit that made the difference.  Two
are levels: they judge a control page as it stands, in a dump or after a restore, and may be true
although the signal has been sent already.

Nothing here reads memory or waits; the order of the reads and writes around these calls belongs
to the rings.  The host throttles a guest that signals when no rule asks for it.

Every size is in bytes.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close(); OpenVMM
vmbus_ring/src/lib.rs, commit_write(), commit_read(), reader_needs_signal(), writer_needs_signal();
Linux Documentation/virt/hyperv/vmbus.rst on what the host expects.
"""

from __future__ import annotations

from vmbus.sizes import SLOT

__all__ = [
    "reader_is_owed_a_signal",
    "signal_reader_after_write",
    "signal_writer_after_read",
    "wanted_space",
    "writer_is_owed_a_signal",
]


def wanted_space(pending_send_size: int) -> int:
    """The free space a pending send size asks for: the value without its low three bits.

    Some senders ask for the ring's size minus 1 and mean an empty ring, in which at most the size
    minus 8 is free.

    >>> wanted_space(4095), wanted_space(0)
    (4088, 0)
    """
    return pending_send_size & ~(SLOT - 1)


def signal_reader_after_write(*, interrupt_mask: int, out_offset: int, in_before: int) -> bool:
    """True when the packets just published end an emptiness the reader may be asleep over.

    interrupt_mask   of the ring; nonzero, the reader looks again by itself
    out_offset       the reader's, loaded after the new in was stored
    in_before        the writer's in before this batch

    >>> signal_reader_after_write(interrupt_mask=0, out_offset=64, in_before=64)
    True
    >>> signal_reader_after_write(interrupt_mask=0, out_offset=0, in_before=64)
    False
    """
    return interrupt_mask == 0 and out_offset == in_before


def signal_writer_after_read(*, pending_send_size: int, free_before: int, free_after: int) -> bool:
    """True when freeing space has just made room for the packet the sender waits to write.

    pending_send_size         what the sender asked for; 0 when it is not waiting
    free_before, free_after   free space on either side of the receiver's new offset

    True once for each wait: freeing still more space later gives False.

    >>> signal_writer_after_read(pending_send_size=64, free_before=56, free_after=64)
    True
    >>> signal_writer_after_read(pending_send_size=64, free_before=64, free_after=128)
    False
    """
    return free_before < wanted_space(pending_send_size) <= free_after


def reader_is_owed_a_signal(*, interrupt_mask: int, in_offset: int, out_offset: int) -> bool:
    """True when packets wait and the reader has not said that it will look by itself.

    >>> reader_is_owed_a_signal(interrupt_mask=0, in_offset=64, out_offset=0)
    True
    """
    return interrupt_mask == 0 and in_offset != out_offset


def writer_is_owed_a_signal(*, pending_send_size: int, free: int) -> bool:
    """True when there is all the room that the sender has asked for.

    >>> writer_is_owed_a_signal(pending_send_size=4095, free=4088)
    True
    """
    return 0 < wanted_space(pending_send_size) <= free
