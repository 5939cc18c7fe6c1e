"""What hangs below a device: network interfaces and disks, by the names that the kernel gives them.

    <device>/net/<interface>                                        a network card
            /host0/target0:0:0/0:0:0:0/block/<disk>                 a disk of a SCSI or IDE controller
            /pci1234:00/1234:00:00.0/net/<interface>                a PCI device that is passed through
            /pci1234:00/1234:00:00.0/nvme/nvme0/<disk>              and one that holds disks

Links are not followed: in sysfs they lead to other devices, and in circles.  An NVMe disk that can be reached
through several controllers belongs to none of them, and is not found.

Sources: Linux Documentation/filesystems/sysfs.rst; drivers/base/core.c, get_device_parent().
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .system import System

__all__ = ["MOST_FOLDERS", "Attached", "attached_to"]

#: So many folders of a device are looked into: a controller has some five for each disk.
MOST_FOLDERS = 2000

#: Folders of every device that hold a great deal, and nothing of this.
ELSEWHERE = {"channels", "power", "uio"}

#: What the kernel calls the two classes.
INTERFACE, DISK = "net", "block"


class Attached(NamedTuple):
    """Names, sorted, such as eth0 and sda."""

    interfaces: tuple[str, ...]
    disks: tuple[str, ...]


def attached_to(place: str, system: System) -> Attached:
    """What is below the folder of a device; of a very great number of folders, below the first of them."""
    found: dict[str, list[str]] = {INTERFACE: [], DISK: []}
    waiting = [place]
    for folder in waiting:
        inside = [name for name in system.folders(folder) if name not in ELSEWHERE]
        for name in inside:
            kind = class_of(f"{folder}/{name}", system)
            if kind in found:
                found[kind].append(name)
            elif len(waiting) < MOST_FOLDERS:
                waiting.append(f"{folder}/{name}")
    return Attached(tuple(sorted(found[INTERFACE])), tuple(sorted(found[DISK])))


def class_of(place: str, system: System) -> str | None:
    """The class of what has that folder: as the folder around it is called, or as its own link says."""
    around = os.path.basename(os.path.dirname(place))
    return around if around in (INTERFACE, DISK) else system.link_name(f"{place}/subsystem")
