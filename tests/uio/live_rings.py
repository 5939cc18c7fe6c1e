"""Devices whose /dev/uioN is a plain file: enough for whoever only looks, as it reads and maps alike.

A map K stands at K pages of it, as in the node that the kernel makes (Linux drivers/uio/uio.c,
uio_find_mem_index()); what a plain file cannot do is refuse, wait and signal.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from tests.cli.running import ring_with
from tests.uio.guest_tree import GuestTree
from vmbus.errors import DeviceError
from vmbus.uio import System, UioNode

__all__ = [
    "INBOUND",
    "INSTANCE",
    "OUTBOUND",
    "RINGS_SIZE",
    "LookingSystem",
    "add_live_device",
    "add_live_subchannel",
]

INSTANCE = "4487b255-b88c-403f-bb51-d1f69cf17f87"
RELID, PAGE = 14, 4096
IN_BAND, COMPLETION = 6, 11

#: Two rings of 5 pages each, as the kernel makes them for file copy, with packets that wait.
OUTBOUND = ring_with((IN_BAND, b"asked..."), (COMPLETION, b"answered"), data_size=4 * PAGE)
INBOUND = ring_with((IN_BAND, b"from the host..."), data_size=4 * PAGE, mask=1)
RINGS_SIZE = len(OUTBOUND) + len(INBOUND)


def add_live_device(
    tree: GuestTree,
    content: bytes = OUTBOUND + INBOUND,
    *,
    size: int | None = None,
    number: int = 0,
    place: int = 0,
    page_size: int = PAGE,
    instance: str = INSTANCE,
    relid: int = RELID,
    is_open: bool = True,
) -> Path:
    """A file-copy device at uioN, its rings with that content; the path of its node.

    size    what sysfs says of the map of the rings, where that is another size
    place   the number of that map
    """
    tree.add_device("file-copy", instance, relid, is_open=is_open)
    maps = {f"other{index}": page_size for index in range(place)}
    maps["txrx_rings"] = len(content) if size is None else size
    tree.add_uio(instance, number, maps, page_size)
    node = tree.root / f"dev/uio{number}"
    node.write_bytes(bytes(place * page_size) + content)
    return node


def add_live_subchannel(
    tree: GuestTree, relid: int, content: bytes | None, *, subchannel: int = 1, is_open: bool = True
) -> Path:
    """A subchannel with that `ring` file; None: it has none yet."""
    folder = tree.add_channel(INSTANCE, relid, subchannel, is_open=is_open)
    if content is not None:
        (folder / "ring").write_bytes(content)
    return folder


class LookingSystem(System):
    """A system that lets nobody store anything, and writes down what is opened and mapped.

    done   "open uio0", "map 0x0 40960", "close uio0"; "map PLACE 40960" of a file
    """

    def __init__(self, root: Path, *, page_size: int = PAGE, refusal: DeviceError | None = None) -> None:
        super().__init__(root)
        self.page_size = page_size
        self.refusal = refusal
        self.done: list[str] = []

    def open_node(self, name: str, *, writable: bool) -> UioNode:
        assert not writable
        self.done.append(f"open {name}")
        if self.refusal is not None:
            raise self.refusal
        return LookingNode(super().open_node(name, writable=False), name, self.done)

    def map_file(self, place: str, length: int, *, writable: bool) -> mmap.mmap:
        assert not writable
        self.done.append(f"map {place.rpartition('/channels/')[2]} {length}")
        if self.refusal is not None:
            raise self.refusal
        return super().map_file(place, length, writable=False)

    def write(self, place: str, text: str) -> None:
        raise AssertionError(f"{text!r} is written to {place}")

    def load_module(self, name: str) -> None:
        raise AssertionError(f"module {name} is loaded")


class LookingNode:
    """A node that can be mapped, to be read."""

    def __init__(self, inside: UioNode, name: str, done: list[str]) -> None:
        self.inside, self.name, self.done = inside, name, done

    def map(self, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        assert not writable
        self.done.append(f"map {offset:#x} {length}")
        return self.inside.map(offset, length, writable=False)

    def close(self) -> None:
        self.done.append(f"close {self.name}")
        self.inside.close()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of a node that is only looked at")
