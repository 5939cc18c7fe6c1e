"""A device that uio_hv_generic has, and its channels, as the kernel holds them.

Beside each step stands the function that it is a stand-in for, in Linux 6.12:

    UIO      drivers/uio/uio.c
    GENERIC  drivers/uio/uio_hv_generic.c
    CHANNEL  drivers/hv/channel.c
    BUS      drivers/hv/vmbus_drv.c

Two ages of GENERIC are played.  Until 2025 the driver set the interrupt mask by itself, and what was written to
/dev/uioN reached the primary channel only; since then it leaves the mask alone, and a write reaches every channel.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.uio.host_end import HostEnd, Manner
from vmbus.layout import (
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
)

__all__ = ["Age", "KernelChannel", "KernelDevice", "Listener", "refusal", "signed"]

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

        hv_ringbuffer_init() sets the feature word of both rings, also of the one that the host writes.
        """
        for words in (self.outbound, self.inbound):
            for word in range(len(words)):
                words[word] = 0
            words[FEATURE_BITS_WORD] = 1
        if self.data_size > 0 and self.data_size % 4096 == 0:
            rings = memoryview(self._mapping)[: self.size]
            self.host = HostEnd(rings, self.age.page_size, interrupt, self.manner)
        self.state = OPEN
        if self.age.masks_itself:  # GENERIC hv_uio_open(), hv_uio_new_channel() until 2025
            self.inbound[INTERRUPT_MASK_WORD] = 1

    def close(self) -> None:
        """CHANNEL vmbus_disconnect_ring(): the host looks no more; what is in the memory stays."""
        if self.host is not None:
            self.manner = self.host.manner
            self.host.close()
            self.host = None
        self.state = READY

    def control(self, number: int) -> None:
        """GENERIC hv_uio_irqcontrol(), for one channel.  The hypercall is CHANNEL vmbus_setevent()."""
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
        """BUS vmbus_chan_attrs: None where reading the file is refused."""
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
        """hv_get_ringbuffer_availbytes() of drivers/hv/ring_buffer.c: the bytes to read."""
        return (words[IN_WORD] - words[OUT_WORD]) % max(self.data_size, 1)


class Listener:
    """One open(2) of /dev/uioN.  (UIO struct uio_listener)

    event_count   of interrupts, as it was when it read last
    bell          a descriptor that is readable while a read would not wait
    """

    def __init__(self, event_count: int, writable: bool) -> None:
        self.event_count = event_count
        self.writable = writable
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.bell, 1)

    def silence(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def close(self) -> None:
        os.close(self.bell)


class KernelDevice:
    """A device: what stands behind /dev/uioN.

    maps    the files that hold each map, and the sizes that sysfs tells
    event   the running number of interrupts; tests may begin anywhere
    """

    def __init__(
        self,
        instance: str,
        uio: str,
        primary: KernelChannel,
        maps: list[tuple[Path, int]],
        age: Age,
        event: int,
    ) -> None:
        self.instance = instance
        self.uio = uio
        self.primary = primary
        self.maps = maps
        self.age = age
        self.channels = {primary.relid: primary}
        self.listeners: dict[int, Listener] = {}
        self.event = event
        self.opens = 0
        self.has_interrupt = True  # UIO info->irq
        self.registered = True  # UIO idev->info
        self.opening_looks = 0
        self._next_listener = 0

    # -- the file --------------------------------------------------------------------------------

    def open(self, writable: bool) -> tuple[int, Listener]:
        """UIO uio_open(), GENERIC hv_uio_open(): the first one opens the channel."""
        if not self.registered:
            raise refusal(errno.ENODEV)
        listener = Listener(self.event, writable)
        self._next_listener += 1
        self.listeners[self._next_listener] = listener
        self._hold()
        return self._next_listener, listener

    def _hold(self) -> None:
        self.opens += 1
        if self.opens == 1:
            self.open_channel(self.primary)

    def open_channel(self, channel: KernelChannel) -> None:
        channel.open(lambda: self.interrupt(channel))

    def close(self, number: int) -> None:
        """UIO uio_release(), GENERIC hv_uio_release(): the last one closes the channel, and those under it."""
        self.listeners.pop(number).close()
        self._let_go()

    def _let_go(self) -> None:
        self.opens -= 1
        if self.opens == 0 and self.registered:
            for channel in self.channels.values():
                channel.close()

    def read(self, number: int, length: int) -> bytes:
        """UIO uio_read() of a descriptor that does not block."""
        listener = self.listeners[number]
        if length != 4:
            raise refusal(errno.EINVAL)
        if not self.has_interrupt or not self.registered:
            raise refusal(errno.EIO)
        if self.event == listener.event_count:
            raise refusal(errno.EAGAIN)
        listener.event_count = self.event
        listener.silence()
        return self.event.to_bytes(4, sys.byteorder, signed=True)

    def write(self, number: int, data: bytes) -> int:
        """UIO uio_write(), GENERIC hv_uio_irqcontrol().

        Once the device is unregistered the kernel answers EINVAL; before, when it has lost its interrupt, EIO.
        """
        if not self.listeners[number].writable:
            raise refusal(errno.EBADF)
        if len(data) != 4 or not self.registered:
            raise refusal(errno.EINVAL)
        if not self.has_interrupt:
            raise refusal(errno.EIO)
        self.control(int.from_bytes(data, sys.byteorder, signed=True))
        return 4

    def control(self, number: int) -> None:
        for channel in list(self.channels.values()):
            if channel is self.primary or self.age.controls_subchannels:
                channel.control(number)

    def map_place(self, number: int, offset: int, length: int, writable: bool) -> Path:
        """UIO uio_find_mem_index(), uio_mmap(): the file that is mapped; a map is as long as its last page."""
        page_size = self.age.page_size
        if writable and not self.listeners[number].writable:
            raise refusal(errno.EACCES)
        index, rest = divmod(offset, page_size)
        if not self.registered or rest or index >= len(self.maps):
            raise refusal(errno.EINVAL)
        path, size = self.maps[index]
        if -(-length // page_size) > -(-size // page_size):
            raise refusal(errno.EINVAL)
        return path

    # -- interrupts ------------------------------------------------------------------------------

    def interrupt(self, channel: KernelChannel) -> None:
        """BUS vmbus_chan_sched(), GENERIC hv_uio_channel_cb()."""
        if not channel.is_open or not self.has_interrupt:
            return
        channel.interrupts += 1
        if self.age.masks_itself:
            channel.inbound[INTERRUPT_MASK_WORD] = 1
        self.notify()

    def notify(self) -> None:
        """UIO uio_event_notify(): one number for all channels, and everybody who has it open is woken."""
        self.event = signed(self.event + 1)
        for listener in self.listeners.values():
            listener.ring()

    def revoke(self, unregister: bool) -> None:
        """GENERIC hv_uio_rescind(), and hv_uio_remove() as far as /dev/uioN is concerned.

        UIO uio_poll() answers an error from then on, which is readable for ever.
        """
        self.has_interrupt = False
        self.notify()
        for channel in self.channels.values():
            channel.close()
        self.registered = not unregister

    # -- sysfs -----------------------------------------------------------------------------------

    def attribute(self, name: str) -> int | None:
        """BUS vmbus_dev_attrs: None where reading the file is refused."""
        channel = self.primary
        if name == "state":
            return channel.state
        if not channel.is_open:
            return None
        ring, _, what = name.partition("_")
        words = channel.outbound if ring == "out" else channel.inbound
        if what == "read_bytes_avail":
            return channel.used(words)
        if what == "write_bytes_avail":
            return channel.data_size - channel.used(words)
        word = {"write_index": IN_WORD, "read_index": OUT_WORD, "intr_mask": INTERRUPT_MASK_WORD}[what]
        return signed(words[word])
