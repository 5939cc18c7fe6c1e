"""The two rings of a channel in what the kernel maps: outbound first, each half of the bytes.

    [control page][data]  outbound, what the guest sends     [control page][data]  inbound, what it receives

The control page takes a page of the kernel, of which the first 4096 bytes are shared: with pages of 64 KiB
the data begins 64 KiB behind it.  How long the rings are the kernel alone decides.

Sizes are in bytes.

Sources: Linux drivers/uio/uio_hv_generic.c, hv_uio_probe() and hv_uio_new_channel();
drivers/hv/ring_buffer.c, hv_ringbuffer_init(); tools/hv/vmbus_bufring.c.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, final

from vmbus.errors import DeviceError
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing
from vmbus.sizes import PAGE_SIZE

__all__ = ["MappedRings", "MaskedByOthersRing", "RingHalves", "halves_of", "let_go"]


class RingHalves(NamedTuple):
    """How two rings share what is mapped.

    ring_size     bytes of each, with its control page
    header_size   bytes from its control page to its data
    """

    ring_size: int
    header_size: int


def halves_of(size: int, page_size: int, name: str) -> RingHalves:
    """The halves of `size` bytes; DeviceError, which says that `name` has them, where no rings fit in them.

    page_size   of the kernel

    >>> halves_of(40960, 4096, "map 0")
    RingHalves(ring_size=20480, header_size=4096)
    """
    half, rest = divmod(size, 2)
    data_size = half - page_size
    if rest or data_size <= 0 or data_size % PAGE_SIZE:
        raise DeviceError(
            errno.EINVAL,
            f"{name} has {size} bytes, which are no two rings: each half is a control page of {page_size} bytes "
            f"and data, a non-zero multiple of {PAGE_SIZE}",
        )
    return RingHalves(half, page_size)


@final
class MappedRings:
    """Two rings over one mapping, which belongs to this object from now on.

    outbound, inbound   the memory of each
    halves              how they share it

    A context manager that unmaps at the end, as `close` does.
    """

    def __init__(self, mapping: mmap.mmap, halves: RingHalves) -> None:
        self._mapping = mapping
        self.halves = halves
        with self.views() as views:
            self.outbound, self.inbound = (
                FlatRingMem.over(view[:], header_size=halves.header_size) for view in views
            )

    @contextmanager
    def views(self) -> Iterator[tuple[memoryview, memoryview]]:
        """The bytes of both rings, for a while."""
        size = self.halves.ring_size
        with (
            memoryview(self._mapping) as all_bytes,
            all_bytes[:size] as outbound,
            all_bytes[size : 2 * size] as inbound,
        ):
            yield outbound, inbound

    def close(self) -> None:
        """Unmap; again is harmless.  A ring over this memory must not be used any more."""
        self.outbound.close()
        self.inbound.close()
        let_go(self._mapping)

    def __enter__(self) -> MappedRings:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def let_go(mapping: mmap.mmap) -> None:
    """Unmap now, or when the last view of it that somebody still holds is gone."""
    with suppress(BufferError):
        mapping.close()


class MaskedByOthersRing(IncomingRing):
    """The inbound ring of a uio device: somebody else than this end may set its interrupt mask.

    Until 2025 the kernel did so with every interrupt, and left it to user space to clear it.  Whoever
    waits on must then clear it again, or no further packet is ever signaled; so a mask that is found set
    is no fault of the host here.  After `verify_interrupts_unmasked` look again before waiting.

    Sources: Linux drivers/uio/uio_hv_generic.c, hv_uio_channel_cb(), before and after "uio_hv_generic: Let
    userspace take care of interrupt mask" (2025).
    """

    def _find_masked(self, mask: int) -> None:
        self.set_interrupt_mask(False)
