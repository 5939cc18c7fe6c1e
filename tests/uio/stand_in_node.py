"""A System and a node of /dev whose answers come from the process of a Kernel.

What is mapped is memory that the two processes really share, mapped by the system with the rights asked for: a
store into a read-only mapping is refused, as by the kernel.
"""

from __future__ import annotations

import mmap
import os
import re

from tests.uio.calls import Caller
from vmbus.errors import DeviceError
from vmbus.uio import System
from vmbus.uio.node import map_descriptor

__all__ = ["StandInNode", "StandInSystem"]

#: What the driver answers when it is read, and no file can hold.
LIVE = re.compile(
    r"sys/bus/vmbus/devices/(?P<instance>[^/]+)/"
    r"(channels/(?P<relid>[0-9]+)/(?P<counter>(out|in)_mask|(read|write)_avail|interrupts|events)"
    r"|(?P<name>state|(out|in)_(write_index|read_index|intr_mask|(read|write)_bytes_avail)))"
)
RING_FILE = re.compile(r"sys/bus/vmbus/devices/[^/]+/channels/([0-9]+)/ring")


class StandInNode:
    """/dev/uioN; a UioNode."""

    def __init__(self, caller: Caller, path: str, writable: bool) -> None:
        self._caller = caller
        self.path = path
        try:
            self._node, bells = caller.ask_for_descriptors("open_node", os.path.basename(path), writable)
        except OSError as error:
            raise DeviceError(error.errno, f"{path}: {error.strerror}") from error
        self._bell = bells[0]
        self._process = os.getpid()
        self.closed = False

    def fileno(self) -> int:
        return self._bell

    def read(self, length: int) -> bytes:
        data = self._caller.ask("read_node", self._node, length)
        assert isinstance(data, bytes)
        return data

    def write(self, data: bytes) -> int:
        count = self._caller.ask("write_node", self._node, bytes(data))
        assert isinstance(count, int)
        return count

    def map(self, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        try:
            path = self._caller.ask("map_node", self._node, offset, length, writable)
        except OSError as error:
            raise DeviceError(
                error.errno, f"{self.path}: {length} bytes at {offset:#x} cannot be mapped: {error.strerror}"
            ) from error
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            return map_descriptor(descriptor, self.path, 0, length, writable=writable)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """As close(2): a forked child closes its copy, and the parent's stays."""
        if not self.closed:
            self.closed = True
            os.close(self._bell)
            if os.getpid() == self._process:
                self._caller.ask("close_node", self._node)


class StandInSystem(System):
    """The files of a GuestTree, with a kernel behind them.

    nodes   all that were opened
    """

    def __init__(self, caller: Caller, root: str, page_size: int) -> None:
        super().__init__(root)
        self.page_size = page_size
        self._caller = caller
        self.nodes: list[StandInNode] = []

    def text(self, place: str) -> str | None:
        live = LIVE.fullmatch(place)
        if live is None:
            return super().text(place)
        relid = live["relid"]
        value = self._caller.ask(
            "attribute",
            live["instance"],
            None if relid is None else int(relid),
            live["counter"] or live["name"],
        )
        return None if value is None else str(value)

    def open_node(self, name: str, *, writable: bool) -> StandInNode:
        node = StandInNode(self._caller, self.path(f"dev/{name}"), writable)
        self.nodes.append(node)
        return node

    def map_file(self, place: str, length: int, *, writable: bool) -> mmap.mmap:
        ring = RING_FILE.fullmatch(place)
        if ring is not None:
            try:
                self._caller.ask("check_ring_file", int(ring[1]))
            except OSError as error:
                raise DeviceError(error.errno, f"{self.path(place)}: {error.strerror}") from error
        return super().map_file(place, length, writable=writable)
