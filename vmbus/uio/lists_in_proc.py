"""The lists in /proc that say what is in use: what is mounted, what is swapped to, where the default route goes.

Each function gives None for a list that is not there or makes no sense, which is something else than an empty one.

A line ends at a newline, and a field at a blank or a tab, and nowhere else: the kernel prints every other character
of a name as it is, also those that Python takes for the end of a line or a blank.

Sources: Linux Documentation/filesystems/proc.rst, 3.5 (mountinfo); mm/swapfile.c, swap_show();
net/ipv4/fib_trie.c, fib_route_seq_show(); net/ipv6/route.c, rt6_info_route(); include/uapi/linux/route.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .system import System

__all__ = ["Mount", "default_interfaces", "mounts_in", "swaps_in"]

ROUTES_4, ROUTES_6 = "proc/net/route", "proc/net/ipv6_route"
SETTINGS = "proc/sys/net"

BLANKS = re.compile("[ \t]+")

#: Flag of a route that leads nowhere.  (RTF_REJECT)
REJECTING = 0x200


class Mount(NamedTuple):
    """A line of mountinfo.

    point    where it is mounted
    number   of the block device, such as "8:2"; "0:..." where there is none, or several
    kind     of file system
    source   what was mounted, as the mount said
    """

    point: str
    number: str
    kind: str
    source: str


def mounts_in(text: str | None) -> list[Mount] | None:
    r"""What is mounted.

    >>> mounts_in("29 1 8:2 / /data\\040of\\0401 rw,relatime shared:1 - ext4 /dev/sda2 rw")
    [Mount(point='/data of 1', number='8:2', kind='ext4', source='/dev/sda2')]
    """
    mounts = []
    for line in lines_of(text or ""):
        place, _, what = line.partition(" - ")
        first, second = place.split(" "), what.split(" ")
        if len(first) < 6 or len(second) < 3:
            return None
        mounts.append(Mount(plain(first[4]), first[2], second[0], plain(second[1])))
    return None if text is None else mounts


def swaps_in(text: str | None) -> list[str] | None:
    """The block devices that are swapped to; a file is on a file system, which is mounted.

    >>> swaps_in("Filename Type Size Used Priority\\n/dev/sda3 partition 8 0 -2\\n/swap file 8 0 -3")
    ['/dev/sda3']
    """
    if text is None:
        return None
    lines = [fields_of(line) for line in lines_of(text)[1:]]
    return (
        None
        if any(len(line) < 2 for line in lines)
        else [plain(line[0]) for line in lines if line[1] != "file"]
    )


def lines_of(text: str) -> list[str]:
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def fields_of(line: str) -> list[str]:
    return BLANKS.split(line.strip(" \t"))


def plain(name: str) -> str:
    r"""A name in which blanks and the like are written as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def default_interfaces(system: System) -> Iterator[tuple[str, list[str], str | None]]:
    """For IPv4 and IPv6: the interfaces that a default route goes through, and what is wrong with the list."""
    for family, place, find in (("IPv4", ROUTES_4, defaults_of_4), ("IPv6", ROUTES_6, defaults_of_6)):
        text = system.whole_text(place)
        interfaces = None if text is None else find(text)
        if interfaces is not None:
            yield family, interfaces, None
        elif text is not None or family == "IPv4" or not is_without_ipv6(system):
            yield family, [], f"{system.path(place)} cannot be read"


def is_without_ipv6(system: System) -> bool:
    """Whether the kernel has no IPv6: then it has no such list, and nothing goes that way."""
    return system.exists(SETTINGS) and not system.exists(f"{SETTINGS}/ipv6")


def defaults_of_4(text: str) -> list[str] | None:
    """A line with names; then interface, destination, gateway, flags, and the mask in the eighth place."""
    lines = [fields_of(line) for line in lines_of(text)[1:]]
    if any(len(line) < 8 for line in lines):
        return None
    return leading([(line[0], line[3]) for line in lines if line[1] == line[7] == "00000000"])


def defaults_of_6(text: str) -> list[str] | None:
    """Destination and the length of its prefix first, flags and interface last."""
    lines = [fields_of(line) for line in lines_of(text)]
    if any(len(line) < 10 for line in lines):
        return None
    return leading([(line[9], line[8]) for line in lines if (line[0], line[1]) == ("0" * 32, "00")])


def leading(routes: list[tuple[str, str]]) -> list[str] | None:
    """Of interfaces with flags those that lead somewhere, each once."""
    try:
        return list(dict.fromkeys(name for name, flags in routes if not int(flags, 16) & REJECTING))
    except ValueError:
        return None
