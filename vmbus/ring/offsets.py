"""Arithmetic on (size, in, out): how much of a ring is used, free, and where a packet ends.

size         bytes of the data area, a multiple of 4096
in_offset    where the sender will put the next packet
out_offset   where the receiver will take the next packet

Both offsets are bytes from the start of the data area, multiples of 8 below `size`.  The same
offset twice means an empty ring, so a full one must keep 8 bytes free.

Sources: OpenVMM vmbus_ring/src/lib.rs, available(), ring_free(), add_pointer() and validate();
Linux drivers/hv/ring_buffer.c counts those 8 bytes as free and then refuses an exact fit.
"""

from __future__ import annotations

from vmbus.sizes import LARGEST_PACKET, SLOT

__all__ = ["advance", "free_bytes", "is_offset", "largest_packet", "used_bytes"]


def is_offset(size: int, value: int) -> bool:
    """True when `value` can be an offset in a ring of `size` bytes.

    >>> is_offset(4096, 4088), is_offset(4096, 4096), is_offset(4096, 4)
    (True, False, False)
    """
    return 0 <= value < size and value % SLOT == 0


def used_bytes(size: int, in_offset: int, out_offset: int) -> int:
    """Bytes from out to in: what is waiting to be read.

    >>> used_bytes(4096, 128, 64), used_bytes(4096, 64, 128), used_bytes(4096, 64, 64)
    (64, 4032, 0)
    """
    used = in_offset - out_offset
    return used if used >= 0 else used + size


def free_bytes(size: int, in_offset: int, out_offset: int) -> int:
    """Bytes that can be written: all but what is used and the 8 that tell full from empty.

    >>> free_bytes(4096, 0, 0), free_bytes(4096, 64, 128), free_bytes(4096, 120, 128)
    (4088, 56, 0)
    """
    return size - used_bytes(size, in_offset, out_offset) - SLOT


def advance(size: int, offset: int, length: int) -> int:
    """The offset `length` bytes further on; `length` is at most `size`.

    >>> advance(4096, 4080, 8), advance(4096, 4080, 16), advance(4096, 4080, 24)
    (4088, 0, 8)
    """
    end = offset + length
    return end if end < size else end - size


def largest_packet(size: int) -> int:
    """Bytes of the largest packet, descriptor and footer included.

    A ring of `size` bytes never holds more than `size` minus 8, and a descriptor counts at most
    65,535 slots of 8 bytes.

    >>> largest_packet(4096), largest_packet(1 << 20)
    (4088, 524288)
    """
    return min(size - SLOT, LARGEST_PACKET)
