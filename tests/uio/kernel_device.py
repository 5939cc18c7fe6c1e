"""A device that uio_hv_generic has, as the kernel holds it; its channels are in kernel_channel.py.

Beside each step stands the function that it is a stand-in for, in Linux 6.12, and the rule that decides there, in
short: what is so -> what the function does or answers, from top to bottom, the first that holds.

    UIO      drivers/uio/uio.c
    GENERIC  drivers/uio/uio_hv_generic.c
    CHANNEL  drivers/hv/channel.c
    BUS      drivers/hv/vmbus_drv.c
    RING     drivers/hv/ring_buffer.c

Several ages of GENERIC are played.  Until 2025 the driver set the interrupt mask by itself, and what was written to
/dev/uioN reached the primary channel only; since then it leaves the mask alone, and a write reaches every channel.
The two changes are apart: there are kernels with either one alone.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from tests.uio.kernel_channel import Age, KernelChannel, refusal, signed
from vmbus.layout import (
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
)

__all__ = ["KernelDevice", "Listener"]


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
        """UIO uio_open(), GENERIC hv_uio_open(): the first one opens the channel.

        no device of that minor (unregistered)   -> ENODEV
        else                                     -> listener.event_count = event, and then info->open:
            ++refcnt is not 1   -> done: nobody waits for the one who is just opening the channel
            else                -> vmbus_connect_ring(), as KernelChannel.open
        """
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
        """UIO uio_release(), GENERIC hv_uio_release(): the last one closes the channel, and those under it.

        no info (unregistered)   -> nothing but the listener goes
        --refcnt is 0            -> CHANNEL vmbus_disconnect_ring(): the subchannels, then the primary channel
        """
        self.listeners.pop(number).close()
        self._let_go()

    def _let_go(self) -> None:
        self.opens -= 1
        if self.opens == 0 and self.registered:
            for channel in self.channels.values():
                channel.close()

    def read(self, number: int, length: int) -> bytes:
        """UIO uio_read() of a descriptor that does not block.

            count != 4                             -> EINVAL
            no info (unregistered), or irq == 0    -> EIO
            event != listener.event_count          -> listener.event_count = event, which is what is read, as an s32
            O_NONBLOCK                             -> EAGAIN

        UIO uio_poll(): EPOLLIN while event != listener.event_count; see `revoke`.
        """
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

        not opened to write      -> EBADF  (fs/read_write.c, vfs_write(): no FMODE_WRITE)
        count != 4               -> EINVAL
        no info (unregistered)   -> EINVAL
        irq == 0                 -> EIO
        else                     -> irqcontrol(the s32), then 4
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
        """GENERIC hv_uio_irqcontrol(): the primary channel; and then, from 2025 on, each of its sc_list."""
        for channel in list(self.channels.values()):
            if channel is self.primary or self.age.controls_subchannels:
                channel.control(number)

    def map_place(self, number: int, offset: int, length: int, writable: bool) -> Path:
        """UIO uio_mmap(): the file that is mapped; a map is as long as its last page.

        to write, and not opened so           -> EACCES  (mm/mmap.c, do_mmap(): VM_SHARED without FMODE_WRITE)
        offset is not at a page               -> EINVAL  (mmap(2))
        no info (unregistered)                -> EINVAL
        no mem[offset / PAGE_SIZE]            -> EINVAL  (uio_find_mem_index(): its size is 0)
        more pages asked for than it has      -> EINVAL  (requested_pages > actual_pages, which is rounded up)
        """
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
        """BUS vmbus_chan_sched(), GENERIC hv_uio_channel_cb().

        rescind, or no onchannel_callback (closed)   -> nothing
        else                                         -> ++interrupts, then the callback:
            until 2025   -> interrupt_mask = 1, a full barrier
            always       -> uio_event_notify()
        """
        if not channel.is_open or not self.has_interrupt:
            return
        channel.interrupts += 1
        if self.age.masks_itself:
            channel.inbound[INTERRUPT_MASK_WORD] = 1
        self.notify()

    def notify(self) -> None:
        """UIO uio_event_notify(): ++event, one number for all channels; everybody who has it open is woken."""
        self.event = signed(self.event + 1)
        for listener in self.listeners.values():
            listener.ring()

    def revoke(self, unregister: bool) -> None:
        """GENERIC hv_uio_rescind(), and hv_uio_remove() as far as /dev/uioN is concerned.

            irq = 0; uio_event_notify(); from 2023 on vmbus_device_unregister(), which removes the device:
            uio_unregister_device(): info = NULL; vmbus_free_ring(): the memory goes back to the system

        UIO uio_poll() from then on:

            no info (unregistered), or irq == 0   -> -EIO, whose bits have EPOLLIN among them: readable for ever
        """
        self.has_interrupt = False
        self.notify()
        for channel in self.channels.values():
            channel.close()
        self.registered = not unregister

    # -- sysfs -----------------------------------------------------------------------------------

    def attribute(self, name: str) -> int | None:
        """BUS vmbus_dev_attrs: None where reading the file is refused.

            no channel (state_show() and all others)                          -> ENODEV
            RING hv_ringbuffer_get_debuginfo(): ring_buffer is NULL (closed)  -> EINVAL, of all but `state`

        Words of shared memory are printed as %d: with a sign.
        """
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
