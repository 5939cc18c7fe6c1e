"""Saved states of Hyper-V VMs: the .vmrs file of a saved VM, or of a snapshot with memory.

The file is a storage container.  Keys RamMemoryBlock0, 1, ... say which guest-physical addresses there are; keys
RamBlock0, 1, ... hold the memory itself in blocks of 1 MiB, stored or compressed.  A stored block is read straight
from the file; a compressed one is expanded when it is asked for, and the last few are kept.  A block that is not
there is lost: it may be memory that was never touched, but nothing says so.

The first MOST_MEMORY_BLOCKS ranges of addresses and MOST_BLOCKS blocks of memory are taken.  Files of VMs of
version 5.0 and before (Windows Server 2012 R2) have another layout and are refused.

Sources: OpenVMM's writer of .vmrs files; public readers of them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from vmbus.errors import DumpError
from vmbus.sizes import PAGE_SIZE

from .dump import TOP, Dump, FilePlace, Run, State, joined_runs
from .findings import Finding, Severity
from .hyperv_storage import Storage, Value
from .hyperv_storage_layout import KeyType
from .source import Source
from .stored import BEHIND_THE_END
from .vmbus_context import ChannelPages, Processor, VmbusState, processors_of
from .vmrs_blocks import MOST_BLOCKS, NO_BLOCK, RamBlocks
from .vmrs_map import Stretch, stretches_of
from .xpress import BLOCK_SIZE

__all__ = ["VmrsDump", "load"]

#: Bytes of VmbusContext arrays that are read, all together.
MOST_CONTEXT_BYTES = 1 << 26

#: Findings about keys that are kept.
MOST_NOTED = 100

#: VMs of this version and below have another layout.
OLD_VERSION = 0x0500


def load(source: Source) -> VmrsDump:
    """The memory in a saved state; DumpError where there is none."""
    return VmrsDump(source)


class VmrsDump(Dump):
    """The memory of a saved VM.

    storage   the container, with all that it holds beside memory
    """

    format = "hyper-v-vmrs"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.storage = Storage(source)
        self._blocks = RamBlocks(source)
        self._contexts: dict[int, int] = {}
        self._stretches = self._read_keys()
        self._starts = [stretch.start for stretch in self._stretches]
        self._say_what_is_lost()
        self.findings[:0] = self.storage.findings

    # -- what is beside the memory -------------------------------------------------------------

    @property
    def version(self) -> int | None:
        """The version of the VM, 0x0a00 for 10.0; None where the file does not say it."""
        value = self._value("/savedstate/VmVersion")
        return value if isinstance(value, int) else None

    def channels(self) -> list[ChannelPages]:
        """The VMBus channels, with the pages of their rings; none where the file has no VmbusContext."""
        return self.vmbus.channels()

    def gpadls(self) -> dict[int, tuple[int, ...]]:
        """The page numbers of every GPADL by its id."""
        return self.vmbus.gpadls()

    @cached_property
    def vmbus(self) -> VmbusState:
        """What the host has saved of VMBus, read when first asked for; it has findings of its own."""
        return VmbusState(self._context_arrays())

    def processors(self) -> list[Processor]:
        """The processors and their page tables; none where the file does not have them."""
        value = self._value("/savedstate/savedVM/partition_state")
        return processors_of(value) if isinstance(value, bytes) else []

    def _value(self, path: str) -> Value:
        """The value of a key; None where there is none, or it cannot be read."""
        try:
            return self.storage.value(path) if path in self.storage else None
        except DumpError:
            return None

    def _context_arrays(self) -> Iterator[bytes]:
        """The values of VmbusContext0, 1, ...; empty ones, which mean nothing, where they cannot be read."""
        left = MOST_CONTEXT_BYTES
        for _, number in sorted(self._contexts.items()):
            try:
                left -= self.storage.stored_at(number)[1]
                value = self.storage.value_at(number) if left >= 0 else b""
            except DumpError:
                value = b""
            yield value if isinstance(value, bytes) else b""

    # -- the dump ------------------------------------------------------------------------------

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        return joined_runs(self._runs(start, end))

    def read_present(self, address: int, length: int) -> bytes:
        parts = []
        at, end = address, address + length
        while at < end:
            index, within = self._saved_place(at)
            taken = min(BLOCK_SIZE - within, end - at, self._stretch_end(at) - at)
            parts.append(self._blocks.read(index, within, taken, at))
            at += taken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def where(self, address: int) -> FilePlace | None:
        run = next(self.runs(address, address + 1), None)
        if run is None or run.state is not State.PRESENT:
            return None
        return FilePlace(self.path, self._blocks.place(*self._saved_place(address)))

    def _runs(self, start: int, end: int) -> Iterator[Run]:
        """What there is between two addresses, in order; neighbours may be alike."""
        first = max(0, bisect_right(self._starts, start // PAGE_SIZE) - 1)
        for stretch in self._stretches[first:]:
            low, high = max(stretch.start * PAGE_SIZE, start), min(stretch.end * PAGE_SIZE, end)
            if low >= end:
                return
            if low < high and stretch.why:
                yield Run(low, high, State.LOST, stretch.why)
            elif low < high:
                yield from self._blocks_between(low, high, stretch)

    def _blocks_between(self, low: int, high: int, stretch: Stretch) -> Iterator[Run]:
        """Part of a stretch, a block at a time."""
        saved = stretch.saved_index * PAGE_SIZE - stretch.start * PAGE_SIZE
        while low < high:
            index, within = divmod(low + saved, BLOCK_SIZE)
            if index >= len(self._blocks):  # nothing is saved from here on
                yield Run(low, high, State.LOST, NO_BLOCK)
                return
            stop = min(high, low + BLOCK_SIZE - within)
            there, why = self._blocks.there(index)
            cut = min(max(low, low - within + there), stop)
            if low < cut:
                yield Run(low, cut, State.PRESENT)
            if cut < stop:
                yield Run(cut, stop, State.LOST, why)
            low = stop

    def _saved_place(self, address: int) -> tuple[int, int]:
        """The block that has an address, and where in it."""
        place = bisect_right(self._starts, address // PAGE_SIZE) - 1
        stretch = self._stretches[place] if place >= 0 else None
        if stretch is None or stretch.why or address >= stretch.end * PAGE_SIZE:
            self._refuse(address)
        index, within = divmod(address + (stretch.saved_index - stretch.start) * PAGE_SIZE, BLOCK_SIZE)
        if index >= len(self._blocks) or within >= self._blocks.there(index)[0]:
            self._refuse(address)
        return index, within

    def _stretch_end(self, address: int) -> int:
        return self._stretches[bisect_right(self._starts, address // PAGE_SIZE) - 1].end * PAGE_SIZE

    # -- opening -------------------------------------------------------------------------------

    def _read_keys(self) -> list[Stretch]:
        """Sort the keys by what their last names say; the addresses that there are."""
        memory: dict[int, int] = {}
        old = False
        for path, number in self.storage.walk():
            old = old or OLD_KEY.search(path[-OLD_KEY_SIZE:]) is not None
            match = NUMBERED.fullmatch(path.rpartition("/")[2])
            if match is None:
                continue
            index = int(match[2])
            if match[1] == "RamBlock":
                self._take_block(index, number)
            elif match[1] == "RamMemoryBlock":
                memory.setdefault(index, number)
            else:
                self._contexts.setdefault(index, number)
        self._check_version(old)
        if not memory:
            raise DumpError(
                "is a Hyper-V storage container without memory: no key is called RamMemoryBlock0; a VM that runs "
                "keeps its memory to itself until it is saved",
                path=self.path,
                place=0,
            )
        return stretches_of(self.storage, memory, self._add)

    def _check_version(self, old: bool) -> None:
        version = self.version
        if version is None and not old:
            self._add("vmrs-version", "the file does not say the version of its VM (/savedstate/VmVersion)")
        elif version is None or version <= OLD_VERSION:
            named = "5.0 or before" if version is None else f"{version >> 8}.{version & 0xFF}"
            raise DumpError(
                f"is the saved state of a VM of version {named}, whose layout is not supported; update the VM's "
                "configuration version to 8.0 or later and save it again",
                path=self.path,
                place=0,
            )

    def _take_block(self, index: int, number: int) -> None:
        """Note where a RamBlock is."""
        if index >= MOST_BLOCKS:
            self._add("vmrs-block", f"RamBlock{index} is left out: only the first {MOST_BLOCKS} are read")
            return
        if index in self._blocks:
            self._add("vmrs-block", f"RamBlock{index} is there twice; the first counts")
            return
        try:
            if self.storage.type_at(number) != KeyType.ARRAY:
                self._add("vmrs-block", f"RamBlock{index} is no array")
                return
            self._blocks.add(index, *self.storage.stored_at(number))
        except DumpError as error:
            self._add("vmrs-block", f"RamBlock{index}: {error.args[0]}")

    def _say_what_is_lost(self) -> None:
        """A finding for each reason that memory is lost for."""
        lost: dict[str, list[int]] = {}
        for run in self._runs(0, TOP):
            if run.state is State.LOST:
                total = lost.setdefault(run.why, [run.start, 0])
                total[1] += run.end - run.start
        for why, (first, size) in lost.items():
            check = "image-cut-short" if why == BEHIND_THE_END else "vmrs-lost"
            self._add(check, f"{size} bytes of memory, the first at {first:#x}, are lost: {why}")

    def _add(self, check: str, message: str) -> None:
        if len(self.findings) < MOST_NOTED:
            self.findings.append(Finding(check, Severity.WARNING, None, message))


NUMBERED = re.compile(r"(RamMemoryBlock|RamBlock|VmbusContext)([0-9]{1,10})")

#: How VMs of version 5.0 and before call their blocks, at the end of a path.
OLD_KEY_SIZE = 32
OLD_KEY = re.compile(r"/Ram(Memory)?Block/[0-9]+$")
