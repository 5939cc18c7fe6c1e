"""A tree of files as the kernel of a Linux guest shows them, below a root of the test's own.

It is written once and stands still; whoever wants a driver that answers puts it in the way of System.write,
System.open_node and System.map_file.

What each piece stands for, in Linux 6.12:

    devices/<instance>/...          drivers/hv/vmbus_drv.c, vmbus_dev_attrs and vmbus_dev_group
    devices/<instance>/channels/    drivers/hv/vmbus_drv.c, vmbus_chan_attrs: one folder a channel, by relid
    drivers/<name>/                 drivers/hv/vmbus_drv.c: bind and unbind of the driver core, new_id, remove_id
    class/net, class/block          drivers/base/core.c: links to the folders of what is of that class
    class/uio/uioN/maps/mapK/       drivers/uio/uio.c, map_attrs: name, size, addr, offset, with 0x
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vmbus.layout import Guid
from vmbus.protocols import device_class

__all__ = ["CLOSED_CHANNEL", "LINUX_NUMBERS", "OPEN_CHANNEL", "GuestTree"]

#: What Linux calls the kinds in `device`.  (include/linux/mod_devicetable.h and hyperv.h, vmbus_devs)
LINUX_NUMBERS = {
    "ide": 0,
    "scsi": 1,
    "fibre-channel": 2,
    "network": 3,
    "network-direct": 4,
    "pci": 5,
    "video": 6,
    "keyboard": 7,
    "mouse": 8,
    "key-value": 9,
    "time-sync": 10,
    "heartbeat": 11,
    "shutdown": 12,
    "file-copy": 13,
    "backup": 14,
    "balloon": 15,
}
UNKNOWN_NUMBER = 0x10

#: The counters of a channel that is open, and of one that is not: then the masks and fills are refused (EINVAL).
OPEN_CHANNEL = {
    "out_mask": 0,
    "in_mask": 0,
    "read_avail": 0,
    "write_avail": 16384,
    "interrupts": 0,
    "events": 0,
    "intr_in_full": 0,
    "intr_out_empty": 0,
    "out_full_first": 0,
    "out_full_total": 0,
}
CLOSED_CHANNEL = {
    name: count for name, count in OPEN_CHANNEL.items() if "mask" not in name and "avail" not in name
}


class GuestTree:
    """A root folder with /sys, /proc and /dev; `root` is what to give to System."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for place in ("sys/bus/vmbus/devices", "sys/bus/vmbus/drivers", "sys/class/uio", "dev", "proc/self"):
            (root / place).mkdir(parents=True)

    def device_folder(self, instance: str) -> Path:
        return self.root / "sys/bus/vmbus/devices" / instance

    def add_device(
        self,
        kind: str,
        instance: str,
        relid: int,
        *,
        driver: str | None = None,
        is_open: bool = True,
        class_id: str | None = None,
        files: Mapping[str, object] | None = None,
    ) -> Path:
        """A device with its primary channel; `files` are more of its attributes, or None for one that is not there.

        kind   a name from vmbus.protocols, unless class_id is given
        """
        known = device_class(kind)
        guid = Guid.parse(class_id) if class_id else known.class_id
        folder = self.device_folder(instance)
        folder.mkdir()
        attributes = {
            "id": relid,
            "class_id": f"{{{guid}}}",
            "device_id": f"{{{instance}}}",
            "vendor": "0x1414",
            "device": f"{LINUX_NUMBERS.get(kind, UNKNOWN_NUMBER):#x}",
            "modalias": f"vmbus:{guid.wire.hex()}",
            "channel_vp_mapping": f"{relid}:0",
            "numa_node": 0,
            "driver_override": "(null)",
            "state": 3 if is_open else 2,
        }
        if is_open:
            for ring in ("out", "in"):
                attributes |= {
                    f"{ring}_write_index": 0,
                    f"{ring}_read_index": 0,
                    f"{ring}_intr_mask": 0,
                    f"{ring}_read_bytes_avail": 0,
                    f"{ring}_write_bytes_avail": 16384,
                }
        self.write(folder, {**attributes, **(files or {})})
        self.add_channel(instance, relid, 0, is_open=is_open)
        if driver is not None:
            self.set_driver(instance, driver)
        return folder

    def add_channel(
        self,
        instance: str,
        relid: int,
        subchannel: int,
        *,
        is_open: bool = True,
        files: Mapping[str, object] | None = None,
    ) -> Path:
        folder = self.device_folder(instance) / "channels" / str(relid)
        folder.mkdir(parents=True)
        counters = OPEN_CHANNEL if is_open else CLOSED_CHANNEL
        self.write(folder, {"subchannel_id": subchannel, "cpu": 0, **counters, **(files or {})})
        return folder

    def add_driver(self, driver: str) -> Path:
        folder = self.root / "sys/bus/vmbus/drivers" / driver
        folder.mkdir(exist_ok=True)
        for name in ("bind", "unbind", "new_id", "remove_id"):
            (folder / name).touch()
        return folder

    def set_driver(self, instance: str, driver: str | None) -> None:
        """Have that driver bound to the device, or none."""
        link = self.device_folder(instance) / "driver"
        link.unlink(missing_ok=True)
        if driver is not None:
            self.add_driver(driver)
            link.symlink_to(f"../../drivers/{driver}")

    def add_uio(self, instance: str, number: int, maps: Mapping[str, int], page_size: int = 4096) -> Path:
        """The node uioN of a device that uio_hv_generic has: its maps by name, with their sizes in order."""
        name = f"uio{number}"
        self.set_driver(instance, "uio_hv_generic")
        (self.device_folder(instance) / "uio" / name).mkdir(parents=True)
        folder = self.root / "sys/class/uio" / name
        for index, (map_name, size) in enumerate(maps.items()):
            place = folder / "maps" / f"map{index}"
            place.mkdir(parents=True)
            self.write(place, {"name": map_name, "size": f"{size:#x}", "addr": "0x7f000000", "offset": "0x0"})
        self.write(folder, {"name": "hv_uio", "version": "0.02.1", "event": 0})
        return folder

    def add_interface(self, instance: str, name: str) -> Path:
        """A network interface of the device, as net/core/net-sysfs.c shows it."""
        return self.add_of_class("net", self.device_folder(instance) / "net" / name)

    def add_disk(self, instance: str, name: str, host: int = 0) -> Path:
        """A disk of the device, with one partition, as drivers/scsi/scsi_sysfs.c and block/genhd.c show it."""
        target = self.device_folder(instance) / f"host{host}" / f"target{host}:0:0" / f"{host}:0:0:0"
        disk = self.add_of_class("block", target / "block" / name)
        self.write(self.add_of_class("block", disk / f"{name}1"), {"partition": 1})
        return disk

    def add_of_class(self, kind: str, folder: Path) -> Path:
        """Something that has a link of that name in /sys/class, and links back to what it is part of."""
        folder.mkdir(parents=True)
        place = self.root / "sys/class" / kind
        place.mkdir(parents=True, exist_ok=True)
        (place / folder.name).symlink_to(os.path.relpath(folder, place))
        (folder / "device").symlink_to("../..")
        (folder / "subsystem").symlink_to(os.path.relpath(place, folder))
        return folder

    @staticmethod
    def write(folder: Path, files: Mapping[str, object]) -> None:
        for name, value in files.items():
            if value is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_text(f"{value}\n")
