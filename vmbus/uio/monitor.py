"""How a guest tells its host to look at a channel.

There are two ways, and each channel has one.  The other one is heard by nobody: the host sleeps on, and the
channel stands still.

    interrupt   write 1 to /dev/uioN, and the kernel signals the host, of channels that are not monitored.
                It clears the interrupt mask of the ring that the guest reads as well: a signal may then
                come for nothing.  Kernels differ in which channels are meant: up to early 6.12 the primary one
                alone, from late 6.12 on the subchannels too
    monitor     set the channel's bit in the interrupt page, then its monitor's bit in the monitor page, where
                the hypervisor finds it some 100 us later.  Writing to the device does not signal such a channel

A channel is monitored when it has a monitor id.

Sources: Linux drivers/uio/uio_hv_generic.c hv_uio_irqcontrol(), drivers/uio/uio.c uio_write(),
drivers/hv/connection.c vmbus_setevent(); DPDK drivers/bus/vmbus/vmbus_channel.c, which leaves out the bit in
the interrupt page of channels that are monitored.
"""

from __future__ import annotations

import errno
import struct
from typing import Protocol

from vmbus.errors import CallerError, DeviceError
from vmbus.layout import interrupt_place, monitor_place
from vmbus.memory import AtomicBit, Buffer

from .devices import GuestChannel
from .node import UioNode

__all__ = ["GONE", "Doorbell", "InterruptDoorbell", "MonitorDoorbell", "doorbell_of"]

#: What a revoked device answers: EIO first, and EINVAL once the kernel has taken it apart, which for
#: numbers of the right length means nothing else.  (uio.c, uio_write() and uio_read())
GONE = frozenset({errno.EIO, errno.ENODEV, errno.EINVAL})

#: What is left of a page that was mapped and is no more: the kernel could not reach it.
UNREACHABLE = errno.EFAULT

SIGNAL_HOST = struct.pack("=i", 1)


class Doorbell(Protocol):
    """A way to tell the host.  Rung by any thread at any time."""

    def ring(self) -> bool:
        """Tell the host to look; False when the device is gone, and nobody is there to be told.  Never waits.

        Raises DeviceError when the system refuses for another reason: then nobody was told.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds, and ring no more; again is harmless."""
        ...


class InterruptDoorbell:
    """The doorbell of a channel that is not monitored.  The node stays the caller's."""

    def __init__(self, node: UioNode) -> None:
        self._node: UioNode | None = node

    def ring(self) -> bool:
        node = self._node
        if node is None:
            return True
        try:
            node.write(SIGNAL_HOST)
        except OSError as error:
            if error.errno in GONE:
                return False
            raise DeviceError(error.errno, f"{node!r}: cannot signal the host: {error.strerror}") from error
        return True

    def close(self) -> None:
        self._node = None

    def __repr__(self) -> str:
        return f"<InterruptDoorbell: {'closed' if self._node is None else repr(self._node)}>"


class MonitorDoorbell:
    """The doorbell of a monitored channel.

    monitor_page     the monitor page that the guest writes
    interrupt_page   the interrupt page
    monitor_id       of the channel, below 128
    relid            of the channel, below 16384

    Pages are buffers of at least 4096 bytes that can be written; they cannot be closed before `close`.

    Raises CallerError for numbers and pages that no channel has, DeviceError where this system cannot set one bit.
    """

    def __init__(self, monitor_page: Buffer, interrupt_page: Buffer, *, monitor_id: int, relid: int) -> None:
        channel, monitor = interrupt_place(relid), monitor_place(monitor_id)
        self._what = f"monitor {monitor_id} of channel {relid}"
        # In the order in which they are set: who finds the second looks for the first.
        self._bits: tuple[AtomicBit, ...] = (
            AtomicBit(interrupt_page, channel.offset, channel.bit),
            AtomicBit(monitor_page, monitor.offset, monitor.bit),
        )

    def ring(self) -> bool:
        reached = True
        for bit in self._bits:
            try:
                bit.set()
            except DeviceError as error:
                if error.errno != UNREACHABLE:
                    raise
                reached = False
            except CallerError:
                break  # closed meanwhile, by another thread
        return reached

    def close(self) -> None:
        bits, self._bits = self._bits, ()
        for bit in bits:
            bit.release()

    def __repr__(self) -> str:
        return f"<MonitorDoorbell: {self._what}{'' if self._bits else ', closed'}>"


def doorbell_of(
    channel: GuestChannel,
    node: UioNode,
    *,
    monitor_page: Buffer | None = None,
    interrupt_page: Buffer | None = None,
) -> Doorbell:
    """The doorbell that the host hears, for this channel.

    monitor_page, interrupt_page   the two maps of its device, as in MonitorDoorbell; a channel that is not
                                   monitored needs neither

    Raises CallerError when they are needed and not given.
    """
    if channel.monitor_id is None:
        return InterruptDoorbell(node)
    if monitor_page is None or interrupt_page is None:
        missing = "monitor_page" if monitor_page is None else "interrupt_page"
        raise CallerError(
            f"channel {channel.relid} is monitored (monitor {channel.monitor_id}): its host is told through the "
            f"monitor page and the interrupt page, and {missing} is not given",
            argument=missing,
            value=None,
            limit="the map of the device",
        )
    return MonitorDoorbell(monitor_page, interrupt_page, monitor_id=channel.monitor_id, relid=channel.relid)
