"""What a uio device offers to be mapped: /sys/class/uio/uioN/maps/mapK.

    txrx_rings      both rings of the primary channel, the outbound one first
    int_page        the interrupt page, and
    monitor_page    the monitor page that the guest writes: both are of all devices of the guest
    recv:<gpadl>    the buffers that packets of transfer pages point into, where the kernel has made any;
    send:<gpadl>    the number behind the colon is that of the GPADL, decimal

Sizes are what the kernel says, never assumed: they differ between kernels and classes.

Sources: Linux drivers/uio/uio.c, map_attrs; drivers/uio/uio_hv_generic.c, hv_uio_probe().
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import NamedTuple

from vmbus.errors import DeviceError

from .system import Root, system_at

__all__ = [
    "INTERRUPT_PAGE",
    "MONITOR_PAGE",
    "RECEIVE_BUFFER",
    "RINGS",
    "SEND_BUFFER",
    "UioMap",
    "map_named",
    "read_maps",
]

#: The names of maps.
RINGS, INTERRUPT_PAGE, MONITOR_PAGE = "txrx_rings", "int_page", "monitor_page"
RECEIVE_BUFFER, SEND_BUFFER = "recv", "send"

FOLDER = re.compile(r"map(0|[1-9][0-9]{0,2})")
BUFFER_NAME = re.compile(rf"({RECEIVE_BUFFER}|{SEND_BUFFER}):([0-9]{{1,10}})")


class UioMap(NamedTuple):
    """One map of a uio device.

    number    N of mapN: it is mapped at N times the size of the kernel's pages
    size      bytes
    address   where it is, in words of the kernel; of the rings the guest-physical address, in kernels from 2025 on
    offset    bytes from the start of its first page to where it begins
    """

    number: int
    name: str
    size: int
    address: int | None
    offset: int

    @property
    def gpadl(self) -> int | None:
        """The number of the GPADL that the host knows this buffer by; None for a map that is no buffer."""
        found = BUFFER_NAME.fullmatch(self.name)
        return None if found is None else int(found[2])


def read_maps(uio: str, root: Root = "/") -> list[UioMap]:
    """The maps of a uio device such as "uio0", in order; one whose size cannot be read is left out."""
    system = system_at(root)
    place = f"sys/class/uio/{uio}/maps"
    found = []
    for name in system.names(place):
        folder = FOLDER.fullmatch(name)
        size = system.number(f"{place}/{name}/size")
        if folder is not None and size is not None and size > 0:
            found.append(
                UioMap(
                    number=int(folder[1]),
                    name=system.text(f"{place}/{name}/name") or "",
                    size=size,
                    address=system.number(f"{place}/{name}/addr"),
                    offset=system.number(f"{place}/{name}/offset") or 0,
                )
            )
    return sorted(found)


def map_named(maps: Iterable[UioMap], name: str, path: str) -> UioMap:
    """The map of that name; DeviceError, which says that `path` has none, where the kernel offers no such map."""
    offered = list(maps)
    for one in offered:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in offered) or "none: no VMBus device is there, or not any more"
    raise DeviceError(errno.ENODEV, f"{path} has no map {name}; the kernel offers {names}")
