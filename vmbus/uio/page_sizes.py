"""How large the pages of a guest's kernel are: each ring has one in front of its data, for its control page.

The kernel that runs here says so itself.  Of another one, of which there is only a copy of its files, nothing says
it; but where uio_hv_generic has a device, the length of both rings of its primary channel and that of their data
are each told, and a page of the kernel is what lies between.

Sizes are in bytes.

Sources: Linux drivers/uio/uio_hv_generic.c, hv_uio_probe(), map txrx_rings; drivers/hv/ring_buffer.c,
hv_ringbuffer_init(); arch/*/Kconfig, PAGE_SIZE_4KB, PAGE_SIZE_16KB, PAGE_SIZE_64KB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .device_files import GuestDevice
from .maps import RINGS, read_maps
from .system import Root, System, system_at

__all__ = ["kernel_page_size"]

#: Those that Linux has where there is VMBus: x86 has the first alone, Arm all three.
PAGE_SIZES = (4096, 16384, 65536)


def kernel_page_size(devices: Iterable[GuestDevice], root: Root = "/") -> int | None:
    """That of the kernel with those devices; None where its files do not tell, or contradict each other."""
    system = system_at(root)
    if system.is_this_machine:
        return system.page_size
    told = {size for device in devices for size in page_sizes_of(device, system)}
    # Files that were read while a ring moved can add up to a wrong one; that of a whole guest is one.
    return told.pop() if len(told) == 1 else None


def page_sizes_of(device: GuestDevice, system: System) -> Iterator[int]:
    """What each ring of the primary channel tells, where it tells something that can be."""
    maps = [] if device.uio is None else read_maps(device.uio, system)
    length = next((one.size for one in maps if one.name == RINGS), None)
    for ring in (device.outbound, device.inbound):
        if ring.data_size is not None:
            yield from (size for size in PAGE_SIZES if 2 * (size + ring.data_size) == length)
