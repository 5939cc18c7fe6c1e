"""What of the running system stands on a device: what would be lost if its driver were taken away.

That is a mounted file system, the root above all; swap that is in use; and the default route.  What lies between
them and the device is followed: partitions, LVM and RAID, bonds, bridges and VLANs.

What cannot be told counts as in use for the kinds of devices that could carry it, and is said to be a guess.
Keyboards and the like carry nothing.  A device that no driver has, or uio_hv_generic, carries nothing either.

Not seen: routes to single networks, default routes of other routing tables or network namespaces, and what
programs do with disks that are not mounted.

Sources: Linux Documentation/filesystems/proc.rst (mountinfo, swaps); fs/btrfs/sysfs.c; net/ipv4/fib_trie.c,
fib_route_seq_show(); net/ipv6/route.c, rt6_info_route(); net/core/dev.c, the links lower_<name>;
block/holder.c, the links in `slaves`; drivers/nvme/host/multipath.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from .devices import GuestDevice
from .late import UIO_DRIVER
from .lists_in_proc import Mount, default_interfaces, mounts_in, swaps_in
from .stacks import BLOCKS, INTERFACES, block_name, btrfs_members, stack_of
from .system import Root, System, system_at

__all__ = ["Use", "UseKind", "uses_of"]

#: The kinds of devices that can carry a file system, and those that can carry a route.
STORAGE = {"scsi", "ide", "fibre-channel", "pci"}
NETWORKS = {"network", "network-direct", "pci"}

#: File systems that lie in memory alone, although one of them may be the root.
IN_MEMORY = {"rootfs", "ramfs", "tmpfs"}

#: So many file systems on block devices are looked at; of more than that nobody can tell.
MOST_MOUNTED = 10_000

MOUNTS, SWAPS = "proc/self/mountinfo", "proc/swaps"


class UseKind(Enum):
    """What a device carries.  GUESS: nobody can tell, and it could."""

    ROOT = "root file system"
    MOUNT = "file system"
    SWAP = "swap"
    ROUTE = "default route"
    GUESS = "guess"


class Use(NamedTuple):
    """One use of a device: `text` goes on a sentence that begins with the device."""

    kind: UseKind
    text: str

    def __str__(self) -> str:
        return self.text


def uses_of(device: GuestDevice, root: Root = "/") -> list[Use]:
    """What stands on a device, what hurts most first; nothing where it may go."""
    if device.driver in (None, UIO_DRIVER):
        return []
    system = system_at(root)
    found = [*storage_uses(device, system), *route_uses(device, system)]
    order = list(UseKind)
    return sorted(dict.fromkeys(found), key=lambda use: order.index(use.kind))


def may_be(device: GuestDevice, kinds: set[str]) -> bool:
    """Whether it is of those kinds; what does not say its kind may be of any."""
    return device.class_id is None or device.name in kinds


def guesses(device: GuestDevice, kinds: set[str], reasons: Iterable[str]) -> Iterator[Use]:
    """A guess for each reason, where the device could carry what cannot be told."""
    if may_be(device, kinds):
        for reason in reasons:
            yield Use(UseKind.GUESS, f"may be in use: {reason}")


# -- disks -----------------------------------------------------------------------------------------


def storage_uses(device: GuestDevice, system: System) -> Iterator[Use]:
    mounts = mounts_in(system.whole_text(MOUNTS))
    swaps = swaps_in(system.whole_text(SWAPS))
    unread = [place for place, lines in ((MOUNTS, mounts), (SWAPS, swaps)) if lines is None]
    yield from guesses(device, STORAGE, [f"{system.path(place)} cannot be read" for place in unread])
    if mounts is not None and not any(mount.point == "/" for mount in mounts):
        yield from guesses(device, STORAGE, [f"{system.path(MOUNTS)} has no root file system"])
    together = btrfs_members(system)
    mounted: dict[tuple[str, ...], str] = {}
    # Of the places where a file system is mounted, the shortest is named.
    for mount in sorted(mounts or [], key=lambda mount: len(mount.point)):
        blocks = blocks_of(mount, system, together)
        if blocks is None:
            # A root that is on no disk may come over the network.
            kinds = STORAGE | NETWORKS if mount.point == "/" else STORAGE
            why = f"it is {mount.kind} on {mount.source}, {mount.number}"
            yield from guesses(device, kinds, [untold(mount.point, why)])
        elif blocks:
            mounted.setdefault(tuple(blocks), mount.point)
    swapped = dict.fromkeys(block_name(system, swap) for swap in swaps or [])
    found = [*mounted.items(), *(((name,), None) for name in swapped)]
    if len(found) > MOST_MOUNTED:
        yield from guesses(device, STORAGE, [f"more than {MOST_MOUNTED} file systems are mounted"])
    for names, point in found[:MOST_MOUNTED]:
        yield from block_uses(device, system, names, point)


def blocks_of(mount: Mount, system: System, together: dict[str, list[str]]) -> list[str] | None:
    """The block devices that a file system lies on, by the kernel's names; None where nobody can tell.

    together   as of btrfs_members
    """
    if not mount.number.startswith("0:"):
        name = system.link_name(f"sys/dev/block/{mount.number}")
        return None if name is None else [name]
    # File systems over several devices have a number that is no device's.
    if mount.source.startswith("/dev/") and not mount.kind.startswith("fuse"):
        names = [block_name(system, name) for name in mount.source.split(":")]
        if mount.kind == "btrfs":
            names += next((together[name] for name in names if name in together), [])
        return list(dict.fromkeys(names))
    if mount.kind == "zfs" or (mount.point == "/" and mount.kind not in IN_MEMORY):
        return None
    return []


def block_uses(
    device: GuestDevice, system: System, names: Iterable[str], mounted_at: str | None
) -> Iterator[Use]:
    """The use that something mounted, or else swap, makes of a device."""
    stack = stack_of(system, [f"{BLOCKS}/{name}" for name in names])
    way = stack.way_to(device, system)
    if way is None:
        what = "swap" if mounted_at is None else mounted_at
        yield from guesses(device, STORAGE, [untold(what, problem) for problem in stack.problems])
    elif mounted_at is None:
        yield Use(UseKind.SWAP, f"holds active swap ({way})")
    elif mounted_at == "/":
        yield Use(UseKind.ROOT, f"holds the root file system (/ on {way})")
    else:
        yield Use(UseKind.MOUNT, f"holds a mounted file system ({mounted_at} on {way})")


# -- networks --------------------------------------------------------------------------------------


def route_uses(device: GuestDevice, system: System) -> Iterator[Use]:
    for family, interfaces, trouble in default_interfaces(system):
        if trouble is not None:
            yield from guesses(device, NETWORKS, [trouble])
        for interface in interfaces:
            stack = stack_of(system, [f"{INTERFACES}/{interface}"])
            way = stack.way_to(device, system)
            if way is not None:
                yield Use(UseKind.ROUTE, f"carries the default route ({family} through {way})")
            else:
                what = f"the default route of {family}"
                yield from guesses(device, NETWORKS, [untold(what, problem) for problem in stack.problems])


def untold(what: str, why: str) -> str:
    return f"what carries {what} cannot be told: {why}"
