"""The sizes every part agrees on, in bytes unless the name says otherwise.

Sources: OpenVMM vmbus_ring/src/lib.rs (PAGE_SIZE, CONTROL_WORD_COUNT); Linux
include/linux/hyperv.h, struct vmpacket_descriptor (the 16-bit length8).
"""

from __future__ import annotations

from vmbus.errors import CallerError

__all__ = [
    "CONTROL_SIZE",
    "CONTROL_WORD_COUNT",
    "HEADER_SIZES",
    "LARGEST_PACKET",
    "MAXIMUM_DATA_SIZE",
    "PAGE_SIZE",
    "SLOT",
    "check_data_size",
    "check_header_size",
    "round_up_to_slot",
]

#: A Hyper-V page, whatever the page size of the guest's own processor.
PAGE_SIZE = 4096

#: 32-bit words at the start of the control page that have, or may get, a meaning.
CONTROL_WORD_COUNT = 32

#: Those words in bytes; the rest of the control page is never touched.
CONTROL_SIZE = CONTROL_WORD_COUNT * 4

#: Every packet starts and ends on a multiple of this.
SLOT = 8

#: The descriptor counts slots in 16 bits, and the 8-byte footer is not counted.
LARGEST_PACKET = 0xFFFF * SLOT + SLOT

#: The largest data area: an offset plus a length must stay below 2**32.
MAXIMUM_DATA_SIZE = 2**31 - PAGE_SIZE

#: The control page of a ring may fill a larger page of the guest's processor.
HEADER_SIZES = (4096, 16384, 65536)


def round_up_to_slot(length: int) -> int:
    """The next multiple of 8 that holds `length` bytes.

    >>> round_up_to_slot(0), round_up_to_slot(1), round_up_to_slot(8)
    (0, 8, 8)
    """
    return (length + SLOT - 1) & ~(SLOT - 1)


def check_data_size(size: int) -> int:
    """Return `size` if a ring's data area can have it, else raise CallerError."""
    if size < PAGE_SIZE or size % PAGE_SIZE or size > MAXIMUM_DATA_SIZE:
        raise CallerError(
            f"a ring's data area is a multiple of {PAGE_SIZE} bytes, from {PAGE_SIZE} to "
            f"{MAXIMUM_DATA_SIZE}; this one has {size}",
            argument="size",
            value=size,
            limit=MAXIMUM_DATA_SIZE,
        )
    return size


def check_header_size(header_size: int) -> int:
    """Return `header_size` if a control page can fill it, else raise CallerError."""
    if header_size not in HEADER_SIZES:
        raise CallerError(
            f"the data area starts 4, 16 or 64 KiB behind the control page, not {header_size} bytes",
            argument="header_size",
            value=header_size,
            limit=HEADER_SIZES[-1],
        )
    return header_size
