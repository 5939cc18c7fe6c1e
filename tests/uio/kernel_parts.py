"""What there is in a guest, as its kernel makes it: devices, channels, the files of both, and memory to be shared.

Beside each step stands the function that it is a stand-in for, with the short names of kernel_device.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.uio.guest_tree import GuestTree
from tests.uio.host_end import Manner
from tests.uio.kernel_channel import Age, KernelChannel, map_all
from tests.uio.kernel_device import KernelDevice

__all__ = ["KernelParts"]

#: What the memory of a channel that is gone is filled with.
FOREIGN = b"\xa5"


class KernelParts:
    """Devices and channels; each public function is an order of the test.

    root     where a GuestTree is made
    memory   a folder for what is shared
    """

    def __init__(self, root: Path, memory: Path, age: Age) -> None:
        self._age = age
        self._memory = memory
        self._tree = GuestTree(root)
        self._devices: dict[str, KernelDevice] = {}
        self._channels: dict[int, KernelChannel] = {}
        self._interrupt_page = self._new_memory("int_page", 4096)
        self._monitor_page = self._new_memory("monitor_page", 4096)

    def report_for_duty(self) -> None:
        """Answered when all of the tree is there."""

    def add_device(
        self,
        kind: str,
        instance: str,
        relid: int,
        uio: str,
        *,
        map_size: int,
        ring_file: bool,
        buffers: Mapping[str, int],
        pages: bool,
        monitor_id: int | None,
        manner: Manner,
        event: int,
    ) -> None:
        """GENERIC hv_uio_probe().

            mem[0] txrx_rings, both rings; mem[1] int_page and mem[2] monitor_page, of 4096 bytes each;
            mem[3] recv:<gpadl>, mem[4] send:<gpadl>: in 6.12 of every class, later of network cards alone

        irq = UIO_IRQ_CUSTOM; the channel is opened by the first open(2), not here.  `ring` is made behind
        uio_register_device(): whoever sees the node may not see that file yet.
        """
        self._tree.add_device(kind, instance, relid, is_open=False, files=monitor_files(monitor_id))
        rings = self._new_memory(f"rings-{relid}", map_size)
        maps = {"txrx_rings": (rings, map_size)}
        if pages:
            maps |= {"int_page": (self._interrupt_page, 4096), "monitor_page": (self._monitor_page, 4096)}
        for name, size in buffers.items():
            maps[name] = (self._new_memory(f"{relid}-{name}", size), size)
        sizes = {name: size for name, (_, size) in maps.items()}
        self._tree.add_uio(instance, int(uio.removeprefix("uio")), sizes, self._age.page_size)
        (self._tree.root / "dev" / uio).touch()
        primary = KernelChannel(relid, 0, rings, map_size, self._age, monitor_id)
        primary.manner = manner
        self._channels[relid] = primary
        self._tree.write(
            self._tree.device_folder(instance) / "channels" / str(relid), monitor_files(monitor_id)
        )
        self._devices[instance] = KernelDevice(instance, uio, primary, list(maps.values()), self._age, event)
        if ring_file:
            self.show_ring(relid)

    def _new_memory(self, name: str, size: int) -> Path:
        """A file of zeros, as long as the last page of what is to lie in it."""
        path = self._memory / f"{len(os.listdir(self._memory))}-{name}"
        page_size = self._age.page_size
        with path.open("xb") as file:
            file.truncate(-(-size // page_size) * page_size)
        return path

    def offer_subchannel(
        self, relid: int, subchannel: int, size: int, manner: Manner, monitor_id: int | None
    ) -> None:
        """BUS vmbus_add_channel_kobj(), GENERIC hv_uio_new_channel(): it is opened when it is offered.

            its folder is made, then vmbus_open(2 MiB, 2 MiB), then hv_create_ring_sysfs()

        relid   of the primary channel; the new one gets that number plus `subchannel`
        size    of both its rings; 2 MiB each from Linux
        """
        device = self._device_of(relid)
        number = relid + subchannel
        files = monitor_files(monitor_id)
        self._tree.add_channel(device.instance, number, subchannel, is_open=False, files=files)
        memory = self._new_memory(f"rings-{number}", size)
        channel = KernelChannel(number, subchannel, memory, size, self._age, monitor_id)
        channel.manner = manner
        self._channels[number] = device.channels[number] = channel
        device.open_channel(channel)

    def show_ring(self, relid: int) -> None:
        """BUS hv_create_ring_sysfs(): the file `ring` of a channel, which may come late.

        the folder is there, and uio_hv_generic has the device   -> ring, mode 0600, as long as both rings
        """
        channel = self._channels[relid]
        os.link(channel.memory, self._channel_folder(relid) / "ring")

    def remove_device(self, relid: int) -> None:
        """BUS vmbus_device_unregister(): its folders and its node are gone.

        the channels' folders, then device_unregister(), whose driver's remove is hv_uio_remove():
        `ring` is removed, and uio_unregister_device() takes sys/class/uio/uioN and /dev/uioN away
        """
        device = self._device_of(relid)
        (self._tree.root / "dev" / device.uio).unlink(missing_ok=True)
        shutil.rmtree(self._tree.root / "sys/class/uio" / device.uio, ignore_errors=True)
        shutil.rmtree(self._tree.device_folder(device.instance), ignore_errors=True)
        del self._devices[device.instance]
        for number in device.channels:
            del self._channels[number]

    def _device_of(self, relid: int) -> KernelDevice:
        return next(device for device in self._devices.values() if relid in device.channels)

    def _channel_folder(self, relid: int) -> Path:
        return self._tree.device_folder(self._device_of(relid).instance) / "channels" / str(relid)

    # -- memory --------------------------------------------------------------------------------------

    def reuse_memory(self, relid: int) -> None:
        """CHANNEL vmbus_free_ring(): the memory of a channel that is gone belongs to somebody else.

        hv_ringbuffer_cleanup() of both rings, then __free_pages(); what a program has mapped of it stays mapped
        """
        with map_all(self._rings_of(relid)) as mapping:
            mapping[:] = FOREIGN * len(mapping)

    def memory_is_untouched(self, relid: int) -> bool:
        """Whether all of it is as `reuse_memory` has left it."""
        content = self._rings_of(relid).read_bytes()
        return content == FOREIGN * len(content)

    def _rings_of(self, relid: int) -> Path:
        """The newest memory that a channel of that number has had."""
        return max(self._memory.glob(f"*-rings-{relid}"), key=lambda path: int(path.name.partition("-")[0]))

    def fill_map(self, relid: int, number: int, offset: int, data: bytes) -> None:
        """The host stores bytes in a map, such as the buffer that its packets point into."""
        with map_all(self._device_of(relid).maps[number][0]) as mapping:
            mapping[offset : offset + len(data)] = data


def monitor_files(monitor_id: int | None) -> dict[str, int]:
    """Those of a monitored channel."""
    return {} if monitor_id is None else {"monitor_id": monitor_id}
