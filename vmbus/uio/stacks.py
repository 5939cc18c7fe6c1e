"""What block devices and network interfaces stand on: partitions, LVM, RAID; bonds, bridges, VLANs.

Each has a folder in /sys/class, whose links say what is directly below.  At the end there is hardware, whose
place in sysfs is below the VMBus device that it belongs to.

Sources: Linux block/holder.c (`slaves`); block/partitions/core.c (`partition`); net/core/dev.c (`lower_<name>`);
fs/btrfs/sysfs.c; drivers/nvme/host/multipath.c, whose disks belong to no single controller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from .devices import GuestDevice
from .system import System

__all__ = ["BLOCKS", "INTERFACES", "MOST_BELOW", "Stack", "block_name", "btrfs_members", "stack_of"]

BLOCKS, INTERFACES, CONTROLLERS = "sys/class/block", "sys/class/net", "sys/class/nvme"

#: So many things may be below one; more is taken for something that cannot be told.
MOST_BELOW = 1000

#: What stands on nothing: memory, and files of file systems, which are mounted themselves.
ON_NOTHING = re.compile(r"(loop|zram|ram)[0-9]+(p[0-9]+)?|lo")

#: The folder of what is no hardware.
VIRTUAL = "/devices/virtual/"

CONTROLLER = re.compile(r"nvme[0-9]+")


class Stack(NamedTuple):
    """Something and all that is below it, each by its folder, such as "sys/class/block/sda2".

    above      what stands directly on each; None for those asked about
    problems   why something of it cannot be told
    """

    above: dict[str, str | None]
    problems: list[str]

    def way_to(self, device: GuestDevice, system: System) -> str | None:
        """The way down to the device, such as "dm-0 over sda3"; None where nothing belongs to it."""
        base = system.real_path(device.place)
        for place in self.above:
            # In a copy links may have become folders, and the inner one may still be a link.
            for path in (system.real_path(place), system.real_path(f"{place}/device")):
                if os.path.commonpath([base, path]) == base:
                    return " over ".join(map(os.path.basename, self.way_from_top(place)))
        return None

    def way_from_top(self, place: str) -> list[str]:
        way = [place]
        while (upper := self.above[way[-1]]) is not None:
            way.append(upper)
        return way[::-1]


def stack_of(system: System, places: Iterable[str]) -> Stack:
    """Follow links down from there; each place once, so that a loop ends too."""
    stack = Stack(dict.fromkeys(places), [])
    waiting = list(stack.above)
    for place in waiting:
        if len(waiting) > MOST_BELOW:
            stack.problems.append(f"more than {MOST_BELOW} things are below {os.path.basename(waiting[0])}")
            break
        lower = directly_below(system, place)
        if not lower and not is_grounded(system, place):
            stack.problems.append(f"nothing says what {os.path.basename(place)} stands on")
        for one in lower:
            if one not in stack.above:
                stack.above[one] = place
                waiting.append(one)
    return stack


def directly_below(system: System, place: str) -> list[str]:
    names = system.names(place)
    lower = [f"{INTERFACES}/{name[6:]}" for name in names if name.startswith("lower_")]
    if "slaves" in names:
        lower += [f"{BLOCKS}/{name}" for name in system.names(f"{place}/slaves")]
    folder = os.path.dirname(system.real_path(place))
    if "partition" in names:
        lower.append(f"{BLOCKS}/{os.path.basename(folder)}")
    if f"{VIRTUAL}nvme-subsystem/" in folder:
        beside = system.names(os.path.relpath(folder, system.real_path("")))
        lower += [f"{CONTROLLERS}/{name}" for name in beside if CONTROLLER.fullmatch(name)]
    return lower


def is_grounded(system: System, place: str) -> bool:
    """Whether it may be that nothing is below: memory, files and hardware."""
    if ON_NOTHING.fullmatch(os.path.basename(place)):
        return True
    return system.exists(place) and VIRTUAL not in system.real_path(place)


def block_name(system: System, path: str) -> str:
    """The kernel's name of a block device in /dev, which may be a link, as those in /dev/mapper are."""
    place = path.removeprefix("/")
    return system.link_name(place) or place.removeprefix("dev/").replace("/", "!")


def btrfs_members(system: System) -> dict[str, list[str]]:
    """For each device of a btrfs file system, all devices of that file system."""
    folder = "sys/fs/btrfs"
    together = (system.names(f"{folder}/{one}/devices") for one in system.names(folder))
    return {name: members for members in together for name in members}
