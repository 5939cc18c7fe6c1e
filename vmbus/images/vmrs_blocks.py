"""The blocks of 1 MiB in which a saved state of Hyper-V holds memory: keys RamBlock0, 1, ...

A stored block is read straight from the file.  A compressed one is expanded when it is asked for, and the last few
are kept; of one that is damaged the pages before the damage are read.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict

from vmbus.sizes import PAGE_SIZE

from .dump import MissingMemory, State
from .source import Source
from .stored import BEHIND_THE_END
from .xpress import BLOCK_SIZE, XpressError, expand_block

__all__ = ["BLOCK_PAGES", "MOST_BLOCKS", "NO_BLOCK", "RamBlocks"]

#: Blocks with higher numbers are left out: 4 TiB of memory.
MOST_BLOCKS = 1 << 22

BLOCK_PAGES = BLOCK_SIZE // PAGE_SIZE

#: Blocks that are expanded and kept.
BLOCKS_KEPT = 4

NO_BLOCK = "its RamBlock is not in the file"
TOO_LARGE = "its RamBlock has more than 1 MiB"


class RamBlocks:
    """Where each block is in the file, by its number; its length is one more than the highest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._places = array("Q")
        self._sizes = array("Q")
        self._kept: OrderedDict[int, tuple[bytes, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number < len(self) and self._sizes[number] > 0

    def add(self, number: int, place: int, size: int) -> None:
        """Take a block below MOST_BLOCKS that has `size` bytes at a place in the file."""
        missing = number + 1 - len(self)
        if missing > 0:
            self._sizes.extend(array("Q", bytes(8 * missing)))
            self._places.extend(array("Q", bytes(8 * missing)))
        self._places[number], self._sizes[number] = place, size

    def there(self, number: int) -> tuple[int, str]:
        """How many bytes of a block the file has, and why not all; of a compressed one all or none."""
        place, size = self._places[number], self._sizes[number]
        if not size:
            return 0, NO_BLOCK
        if size > BLOCK_SIZE:
            return 0, TOO_LARGE
        if place + size <= self._source.size:
            return BLOCK_SIZE, ""
        return (max(self._source.size - place, 0) if self._is_stored(number) else 0), BEHIND_THE_END

    def place(self, number: int, within: int) -> int:
        """Where in the file a byte of a block is; of a compressed one, where the block begins."""
        return self._places[number] + (within if self._is_stored(number) else 0)

    def read(self, number: int, within: int, length: int, address: int) -> bytes:
        """Bytes of a block that is there; MissingMemory where it is damaged.  `address` is that of the first."""
        if self._is_stored(number):
            return self._source.read(self._places[number] + within, length)
        data, why = self._expanded(number)
        if within + length > len(data):
            missing = address + max(len(data) - within, 0)
            why = f"RamBlock{number} is damaged: it {why}"
            raise MissingMemory(missing, State.LOST, why, path=self._source.path, place=self._places[number])
        return data[within : within + length]

    def _is_stored(self, number: int) -> bool:
        return self._sizes[number] == BLOCK_SIZE

    def _expanded(self, number: int) -> tuple[bytes, str]:
        """The bytes of a compressed block; or those before what is damaged, and what that is."""
        kept = self._kept.get(number)
        if kept is not None:
            self._kept.move_to_end(number)
            return kept
        try:
            expanded = expand_block(self._source.read(self._places[number], self._sizes[number])), ""
        except XpressError as error:
            expanded = error.done, str(error)
        self._kept[number] = expanded
        if len(self._kept) > BLOCKS_KEPT:
            self._kept.popitem(last=False)
        return expanded
