"""A channel as the kernel holds it: its rings, and the host behind it.

The names of kernel files, and how the rules beside the steps are to be read, stand in kernel_device.py.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.uio.host_end import HostEnd, Manner
from vmbus.layout import (
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
)

__all__ = ["OPEN", "OPENING", "READY", "Age", "KernelChannel", "map_all", "refusal", "signed"]

#: Bytes that are zeroed at the start of each ring when a channel is opened.
CONTROL_PAGE_SIZE = 4096

#: Numbers of `state`.  (include/linux/hyperv.h, enum vmbus_channel_state)
OPENING, READY, OPEN = 1, 2, 3


class Age(NamedTuple):
    """What differs between kernels.

    masks_itself           the driver sets the inbound mask at open, and in every interrupt before it tells anybody
    controls_subchannels   a write to /dev/uioN is for the subchannels too
    page_size              of the system: offsets in /dev/uioN count it, and control pages take up as much
    """

    masks_itself: bool = False
    controls_subchannels: bool = True
    page_size: int = 4096


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def signed(count: int) -> int:
    """As a number of 32 bits with a sign."""
    return (count + 2**31) % 2**32 - 2**31


def map_all(path: Path) -> mmap.mmap:
    """All of a file, shared with whoever maps it elsewhere."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


class KernelChannel:
    """One channel: its rings, and the host behind it.

    memory       the file that both rings are in
    monitor_id   its bit in the monitor pages; None where it is signaled with hypercalls
    """

    def __init__(
        self, relid: int, subchannel: int, memory: Path, size: int, age: Age, monitor_id: int | None = None
    ) -> None:
        self.relid = relid
        self.subchannel = subchannel
        self.memory = memory
        self.size = size
        self.age = age
        self.monitor_id = monitor_id
        self.state = READY
        self.manner = Manner.KEEP
        self.host: HostEnd | None = None
        self.interrupts = self.hypercalls = self.monitor_signals = 0
        self._mapping = map_all(memory)
        half = size // 2
        words = memoryview(self._mapping)
        self.outbound = words[:CONTROL_PAGE_SIZE].cast("I")
        self.inbound = words[half : half + CONTROL_PAGE_SIZE].cast("I")

    @property
    def is_open(self) -> bool:
        return self.state == OPEN

    @property
    def data_size(self) -> int:
        """Bytes of a ring's data; no ring has as many where the map is broken."""
        return self.size // 2 - self.age.page_size

    def open(self, interrupt: Callable[[], object]) -> None:
        """CHANNEL __vmbus_open(): new control pages, old data; then the host is told.

            state is not CHANNEL_OPEN_STATE (2)   -> EINVAL
            else                                  -> state = OPENING (1); the host is asked; state = OPENED (3)

        RING hv_ringbuffer_init(), for both rings, also the one that the host writes:

            read_index = write_index = 0, feature_bits = 1

        GENERIC hv_uio_open() and hv_uio_new_channel(), until 2025, when that has succeeded:

            inbound interrupt_mask = 1
        """
        for words in (self.outbound, self.inbound):
            for word in range(len(words)):
                words[word] = 0
            words[FEATURE_BITS_WORD] = 1
        if self.data_size > 0 and self.data_size % 4096 == 0:
            rings = memoryview(self._mapping)[: self.size]
            self.host = HostEnd(rings, self.age.page_size, interrupt, self.manner)
        self.state = OPEN
        if self.age.masks_itself:
            self.inbound[INTERRUPT_MASK_WORD] = 1

    def close(self) -> None:
        """CHANNEL vmbus_close_internal(): the host looks no more; what is in the memory stays.

            state is not OPENED (3)   -> EINVAL, and nothing is done
            else                      -> no callback any more, state = CHANNEL_OPEN_STATE (2), the host is told

        RING hv_ringbuffer_cleanup(): ring_buffer = NULL, by which sysfs knows a closed channel.
        """
        if self.host is not None:
            self.manner = self.host.manner
            self.host.close()
            self.host = None
        self.state = READY

    def control(self, number: int) -> None:
        """GENERIC hv_uio_irqcontrol(), for one channel.

            always                                   -> inbound interrupt_mask = !irq_state
            not monitor_allocated, and irq_state     -> a full barrier, then the hypercall

        The hypercall is drivers/hv/connection.c vmbus_set_event(), which counts it: ++sig_events.
        """
        if not self.is_open:
            return
        self.inbound[INTERRUPT_MASK_WORD] = 0 if number else 1
        if self.host is not None:
            self.host.fence()
        if number and self.monitor_id is None:
            self.hypercalls += 1
            self.look()

    def look(self) -> None:
        if self.host is not None:
            self.host.look()

    def attribute(self, name: str) -> int | None:
        """BUS vmbus_chan_attrs: None where reading the file is refused, or where there is no file.

            out_mask, in_mask, read_avail, write_avail (out_mask_show() and so on):
                ring_buffer is NULL, so the channel is closed   -> EINVAL
            pending, latency, monitor_id (vmbus_chan_attr_is_visible()):
                not monitor_allocated                           -> no file

        Masks are the words of shared memory, %u.  read_avail is of the inbound ring, write_avail of the outbound one.
        interrupts is what vmbus_chan_sched() counts, events is sig_events: the hypercalls.
        """
        if name in ("out_mask", "in_mask", "read_avail", "write_avail") and not self.is_open:
            return None
        if name in ("pending", "latency", "monitor_id") and self.monitor_id is None:
            return None
        values: dict[str, Callable[[], int | None]] = {
            "out_mask": lambda: self.outbound[INTERRUPT_MASK_WORD],
            "in_mask": lambda: self.inbound[INTERRUPT_MASK_WORD],
            "read_avail": lambda: self.used(self.inbound),
            "write_avail": lambda: self.data_size - self.used(self.outbound),
            "interrupts": lambda: self.interrupts,
            "events": lambda: self.hypercalls,
            "monitor_id": lambda: self.monitor_id,
        }
        return values[name]() if name in values else 0

    def used(self, words: memoryview) -> int:
        """RING hv_get_ringbuffer_availbytes(): the bytes to read, of indices that lie in the ring.

        write_index >= read_index   -> write_index - read_index
        else                        -> ring_datasize - read_index + write_index
        """
        return (words[IN_WORD] - words[OUT_WORD]) % max(self.data_size, 1)
