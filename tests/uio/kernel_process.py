"""The process of a kernel: it answers system calls of the test, and does what the test orders.

One thread does all of it, one thing after the other, as if under one lock.  It sleeps until it is asked; only
while a channel is monitored, or an order waits for something, it looks around every now and then, as the
hypervisor does.
"""

from __future__ import annotations

import errno
import gc
import selectors
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from tests.uio.calls import PATIENCE, answer, question
from tests.uio.host_end import Manner
from tests.uio.kernel_channel import OPENING, Age, map_all, refusal
from tests.uio.kernel_device import KernelDevice
from tests.uio.kernel_parts import KernelParts
from vmbus.layout import INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import AtomicBit
from vmbus.ring import OutgoingPacket, Packet

__all__ = ["ChannelReport", "KernelProcess", "run_kernel"]

#: Seconds between two looks at what nobody tells of.
LOOK_EVERY = 0.0002

#: Where the words of the monitor page begin: {pending, armed} of each group of 32; and those of the half of the
#: interrupt page that the guest writes.  (include/linux/hyperv.h, struct hv_monitor_page; drivers/hv/connection.c,
#: vmbus_connect())
FIRST_TRIGGER_GROUP = 8
TRIGGER_GROUP_SIZE = 8
GUEST_HALF = 2048


class ChannelReport(NamedTuple):
    """What has happened to a channel.

    hypercalls        signals of the guest through /dev/uioN, which a monitored channel never gets
    monitor_signals   bits that the hypervisor has found in the monitor page
    interrupt_bit     whether the guest has set the channel's bit in the interrupt page; nobody clears it
    interrupts        of the guest
    received, sent    packets by the host
    waiting           packets that the host has no room for
    fault             what the guest wrote that a correct one never writes
    """

    is_open: bool
    hypercalls: int
    monitor_signals: int
    interrupt_bit: bool
    interrupts: int
    received: int
    sent: int
    waiting: int
    fault: str | None


class Waiting(NamedTuple):
    """An order that is answered when something has come true."""

    met: Callable[[], bool]
    deadline: float


class KernelProcess(KernelParts):
    """What the other process does; `run` until the test closes its ends.

    calls, orders   the kernel's ends of the two pairs of sockets
    root            a GuestTree is made here; the memory that is shared lies beside it
    """

    def __init__(
        self, calls: socket.socket, orders: socket.socket, root: Path, memory: Path, age: Age
    ) -> None:
        super().__init__(root, memory, age)
        self._ends = (calls, orders)
        self._orders = orders
        self._listeners: dict[int, tuple[KernelDevice, int]] = {}
        self._last_node = 0
        self._refusals: defaultdict[str, deque[int]] = defaultdict(deque)
        self._hidden: defaultdict[str, int] = defaultdict(int)
        self._waiting: Waiting | None = None
        self._interrupt_bits = map_all(self._interrupt_page)
        self._monitor_bits = map_all(self._monitor_page)
        self._pending: dict[int, AtomicBit] = {}

    # -- the loop ------------------------------------------------------------------------------------

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for number, end in enumerate(self._ends):
                selector.register(end, selectors.EVENT_READ, number)
            while True:
                for key, _ in selector.select(LOOK_EVERY if self._looks_around else None):
                    end = self._ends[key.data]
                    asked = question(end)
                    if asked is None:
                        return
                    self._handle(end, *asked)
                self._look_at_monitor_page()
                self._look_at_waiting()

    @property
    def _looks_around(self) -> bool:
        monitored = any(one.monitor_id is not None for one in self._channels.values())
        return monitored or self._waiting is not None

    def _handle(
        self, end: socket.socket, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> None:
        try:
            value = getattr(self, name)(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - raised again where it was asked
            answer(end, error=error)
            return
        if isinstance(value, Waiting):
            self._waiting = value
        elif name == "open_node":
            node, bell = value
            answer(end, node, descriptors=[bell])
        else:
            answer(end, value)

    def _look_at_waiting(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        if waiting.met():
            answer(self._orders)
        elif monotonic() > waiting.deadline:
            answer(self._orders, error=AssertionError(f"nothing came in {PATIENCE} seconds"))
        else:
            return
        self._waiting = None

    def _look_at_monitor_page(self) -> None:
        """What the hypervisor does some thousand times a second: it clears the bits that it finds, and tells the host.

        It finds those of channels that are closed as well, and nobody is told.

        Where a guest sets them: CHANNEL vmbus_setevent(),

            monitor_allocated   -> bit child_relid % 32 of word child_relid / 32 of the upper half of the interrupt
                                   page (drivers/hv/connection.c, vmbus_send_interrupt()), then bit monitorid % 32 of
                                   trigger_group[monitorid / 32].pending of the second monitor page
            else                -> the hypercall, as in KernelChannel.control

        Both are sync_set_bit(): one locked operation.  The channel's bit is not looked at here; a report tells of it.
        """
        for channel in list(self._channels.values()):
            if channel.monitor_id is None:
                continue
            group, bit = divmod(channel.monitor_id, 32)
            place = FIRST_TRIGGER_GROUP + group * TRIGGER_GROUP_SIZE
            if self._monitor_bits[place + bit // 8] & 1 << bit % 8:
                if channel.monitor_id not in self._pending:
                    self._pending[channel.monitor_id] = AtomicBit(self._monitor_bits, place, bit)
                self._pending[channel.monitor_id].clear()
                channel.monitor_signals += 1
                channel.look()

    def close(self) -> None:
        """Let go of all memory and descriptors."""
        for device, number in self._listeners.values():
            device.listeners[number].close()
        for channel in self._channels.values():
            channel.close()

    # -- system calls --------------------------------------------------------------------------------

    def open_node(self, uio: str, writable: bool) -> tuple[int, int]:
        """fs/namei.c, fs/char_dev.c chrdev_open(), then UIO uio_open().

        no file of that name                          -> ENOENT
        a file, and no driver has its number yet      -> ENXIO, which a test orders with `refuse_opens`
        else                                          -> as KernelDevice.open
        """
        refused = self._refusals[uio]
        if refused:
            raise refusal(refused.popleft())
        device = next((one for one in self._devices.values() if one.uio == uio), None)
        if device is None or not (self._tree.root / "dev" / uio).exists():
            raise refusal(errno.ENOENT)
        number, listener = device.open(writable)
        self._last_node += 1
        self._listeners[self._last_node] = device, number
        return self._last_node, listener.bell

    def close_node(self, node: int) -> None:
        device, number = self._listeners.pop(node)
        device.close(number)

    def read_node(self, node: int, length: int) -> bytes:
        device, number = self._listeners[node]
        return device.read(number, length)

    def write_node(self, node: int, data: bytes) -> int:
        device, number = self._listeners[node]
        return device.write(number, data)

    def map_node(self, node: int, offset: int, length: int, writable: bool) -> str:
        device, number = self._listeners[node]
        return str(device.map_place(number, offset, length, writable))

    def check_ring_file(self, relid: int) -> None:
        """GENERIC hv_uio_ring_mmap().

        state is not CHANNEL_OPENED_STATE (3)   -> ENODEV
        """
        if relid in self._channels and not self._channels[relid].is_open:
            raise refusal(errno.ENODEV)

    def attribute(self, instance: str, relid: int | None, name: str) -> int | None:
        """A file of sysfs that the driver answers when it is read; None where it refuses.

        the device is gone     -> no file, or ENODEV from one that was open (fs/kernfs: no active reference)
        of a channel           -> BUS vmbus_chan_attr_show(), as KernelChannel.attribute
        of the device          -> BUS vmbus_dev_attrs, as KernelDevice.attribute
        """
        if self._hidden[name] > 0:
            self._hidden[name] -= 1
            if self._hidden[name] == 0:
                self._finish_opening()
            return None
        device = self._devices.get(instance)
        if device is None:
            return None
        if relid is None:
            return device.attribute(name)
        return device.channels[relid].attribute(name) if relid in device.channels else None

    # -- orders: what happens ------------------------------------------------------------------------

    def refuse_opens(self, uio: str, numbers: list[int]) -> None:
        """Answer the next opens of a node with these errors: it is there before it can be opened."""
        self._refusals[uio].extend(numbers)

    def begin_opening(self, relid: int, looks: int) -> None:
        """Another process is about to open the device: a second open does not wait for it.

        The channel is open, with new control pages, when `out_mask` has been asked for that often.
        """
        device = self._device_of(relid)
        device.opens += 1
        device.primary.state = OPENING
        self._hidden["out_mask"] = looks

    def _finish_opening(self) -> None:
        for device in self._devices.values():
            if device.primary.state == OPENING:
                device.open_channel(device.primary)

    def end_opening(self, relid: int) -> None:
        """That other process has closed the device again."""
        self._device_of(relid)._let_go()

    def interrupt(self, relid: int) -> None:
        """An interrupt for nothing."""
        self._device_of(relid).interrupt(self._channels[relid])

    def revoke(self, relid: int, unregister: bool) -> None:
        self._device_of(relid).revoke(unregister)
        if unregister:
            self.remove_device(relid)

    # -- orders: what the host does ------------------------------------------------------------------

    def post(self, relid: int, packets: list[tuple[OutgoingPacket, bytes]]) -> None:
        host = self._channels[relid].host
        assert host is not None, f"channel {relid} is not open"
        host.post(packets)

    def flood(self, relid: int, count: int, size: int) -> None:
        """So many packets of that size, each with its number as its transaction id and in all of its payload."""
        self.post(
            relid,
            [
                (
                    OutgoingPacket.in_band(size, transaction_id=number),
                    number.to_bytes(8, "little") * (size // 8),
                )
                for number in range(count)
            ],
        )

    def set_manner(self, relid: int, manner: Manner) -> None:
        channel = self._channels[relid]
        channel.manner = manner
        if channel.host is not None:
            channel.host.manner = manner

    def set_silent(self, relid: int, silent: bool) -> None:
        """The host does not look, whatever it is told; or it looks again, and at once."""
        channel = self._channels[relid]
        assert channel.host is not None, f"channel {relid} is not open"
        channel.host.silent = silent
        channel.look()

    def taken(self, relid: int) -> list[Packet]:
        """The packets that the host has kept, and keeps no more."""
        host = self._channels[relid].host
        assert host is not None, f"channel {relid} is not open"
        packets = list(host.received)
        host.received.clear()
        return packets

    def report(self, relid: int) -> ChannelReport:
        channel = self._channels[relid]
        host = channel.host
        return ChannelReport(
            is_open=channel.is_open,
            hypercalls=channel.hypercalls,
            monitor_signals=channel.monitor_signals,
            interrupt_bit=bool(self._interrupt_bits[GUEST_HALF + relid // 8] & 1 << relid % 8),
            interrupts=channel.interrupts,
            received=host.received_count if host else 0,
            sent=host.sent_count if host else 0,
            waiting=host.waiting_count if host else 0,
            fault=str(host.fault) if host and host.fault else None,
        )

    # -- orders to wait ------------------------------------------------------------------------------

    def await_received(self, relid: int, count: int) -> Waiting:
        """Until the host has received so many packets."""
        return waiting(lambda: self.report(relid).received >= count)

    def await_unmasked(self, relid: int) -> Waiting:
        """Until the guest has cleared the mask of its inbound ring: it sleeps, or is about to."""
        return waiting(lambda: not self._channels[relid].inbound[INTERRUPT_MASK_WORD])

    def await_asking(self, relid: int) -> Waiting:
        """Until the guest has asked for room in its outbound ring."""
        return waiting(lambda: self._channels[relid].outbound[PENDING_SEND_SIZE_WORD] != 0)

    def await_host_asking(self, relid: int) -> Waiting:
        """Until the host has asked for room in the guest's inbound ring."""
        return waiting(lambda: self._channels[relid].inbound[PENDING_SEND_SIZE_WORD] != 0)


def run_kernel(calls: socket.socket, orders: socket.socket, root: Path, memory: Path, age: Age) -> None:
    """Be a kernel until the test closes its ends."""
    kernel = KernelProcess(calls, orders, root, memory, age)
    kernel.run()
    kernel.close()
    del kernel
    gc.collect()  # devices and channels know each other, and hold on to their mappings


def waiting(met: Callable[[], bool]) -> Waiting:
    return Waiting(met, monotonic() + PATIENCE / 2)
