"""What every ring memory must do, whatever it is made of: vmbus.memory.RingMem.

The model is a plain list of bytes, in which an access goes byte by byte, modulo its length.

Control words must be loaded and stored whole.  Between any two lines of Python that a memory runs for that,
the checks look as another processor would; what C code does inside one line is not seen: struct.pack_into, which may
store byte by byte, passes where a store through a memoryview of 32-bit numbers is needed.  Nor can one process
see whether a fence is one: tools/litmus.py of this project measures those of the machine.

Sources: OpenVMM vmbus_ring/src/lib.rs, trait RingMem.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from vmbus.layout import PACKET_DESCRIPTOR
from vmbus.memory import RingMem
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE

from .conformance_report import Subject, checks_of, demand, demand_equal
from .first_call import called, demand_has
from .trial import pattern

__all__ = ["MEMORY_CHECKS", "MemoryMaker"]

Result = TypeVar("Result")

ALL_ONES = 0xFFFF_FFFF

MEMORY_HAS = ("size", "control", "read_at", "write_at")

MOST_LINES = 100  # of a load, between which somebody else acts


class MemoryMaker(Subject):
    """What is tested: how to make a memory of a size and, where it can be done, another one over its bytes."""

    def __init__(
        self,
        make: Callable[[int], RingMem],
        attach: Callable[[RingMem], RingMem] | None,
        sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self._make = make
        self._attach = attach
        self.sizes = tuple(sizes)

    def try_out(self) -> None:
        call = f"make({self.sizes[0]})"
        memory = called(call, "a RingMem", self._make, self.sizes[0])
        self.keep(memory)
        demand_has(memory, MEMORY_HAS, call, "a RingMem")
        if self._attach is not None:
            other = called("attach(memory)", "a RingMem", self._attach, memory)
            self.keep(other)
            demand_has(other, MEMORY_HAS, "attach(memory)", "a RingMem")

    def make(self, size: int) -> RingMem:
        memory = self._make(size)
        self.keep(memory)
        return memory

    def each(self) -> Iterator[RingMem]:
        """A new memory of each size."""
        return (self.make(size) for size in self.sizes)

    def views(self) -> tuple[RingMem, RingMem]:
        """A new memory, and the other side's of the same bytes; where none can be made, the same again."""
        memory = self.make(self.sizes[0])
        if self._attach is None:
            return memory, memory
        other = self._attach(memory)
        self.keep(other)
        return memory, other


def size_is_as_asked(memories: MemoryMaker) -> None:
    """The size is the bytes of the data area, as they were asked for."""
    for size in memories.sizes:
        demand_equal(memories.make(size).size, size, "a size of")


def writable(memories: MemoryMaker) -> None:
    """The control words of a memory to write say that they are not read-only."""
    demand_equal(memories.make(memories.sizes[0]).control.readonly, False, "control.readonly")


def control_words_are_32(memories: MemoryMaker) -> None:
    """There are 32 control words of 32 bits, each kept by itself."""
    words = memories.make(memories.sizes[0]).control
    values = [(0x0102_0304 * (word + 1)) & ALL_ONES for word in range(CONTROL_WORD_COUNT)]
    values[7] = ALL_ONES
    for word, value in enumerate(values):
        words[word] = value
    demand_equal([words[word] for word in range(CONTROL_WORD_COUNT)], values, "words")


def control_words_are_live(memories: MemoryMaker) -> None:
    """A control word stored is there for whoever loads it: on both sides, and through words fetched earlier."""
    memory, other = memories.views()
    early, early_other = memory.control, other.control
    for number, store in enumerate((memory.control, other.control, early, early_other), start=1):
        store[number] = 0xABCD_0000 + number
        for words in (early, memory.control, early_other, other.control):
            demand_equal(words[number], 0xABCD_0000 + number, f"word {number} to be")


def control_words_are_whole(memories: MemoryMaker) -> None:
    """A control word is loaded and stored whole, as far as it can be seen between any two lines of Python."""
    memory, other = memories.views()
    words, watched = memory.control, other.control
    for before, after in ((0, ALL_ONES), (ALL_ONES, 0), (0x00FF_FF00, 0xFF00_00FF)):
        words[2] = before
        seen: set[int] = set()
        between_lines(partial(words.__setitem__, 2, after), lambda line: seen.add(watched[2]))  # noqa: B023
        demand(seen <= {before, after}, f"{before:#x} or {after:#x} while it is stored", seen)
        for moment in range(MOST_LINES):  # at which the other side stores

            def store(line: int) -> None:
                if line == moment:  # noqa: B023
                    watched[2] = after  # noqa: B023

            words[2] = before
            found, lines = between_lines(lambda: words[2], store)
            demand(found in (before, after), f"{before:#x} or {after:#x} while it changes", f"{found:#x}")
            if lines <= moment:
                break


def between_lines(act: Callable[[], Result], disturb: Callable[[int], object]) -> tuple[Result, int]:
    """Let somebody else act before every line of Python that `act` runs: its result, and how many lines.

    disturb   called with the number of the line
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        disturb(count)
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = act()
    finally:
        sys.settrace(before)
    return result, count


def read_is_a_copy(memories: MemoryMaker) -> None:
    """What was read is bytes, and no longer changes."""
    memory = memories.make(memories.sizes[0])
    memory.write_at(16, b"as it was")
    found = memory.read_at(16, 9)
    memory.write_at(16, b"otherwise")
    demand(isinstance(found, bytes), "bytes from read_at", type(found).__name__)
    demand_equal(found, b"as it was", "the copy")


def accesses_wrap(memories: MemoryMaker) -> None:
    """What is stored behind the end of the data area goes on at its start, from any offset below twice its size."""
    for memory in memories.each():
        size = memory.size
        model = bytearray(memory.read_at(0, size))
        for number, (offset, length) in enumerate(edges(size), start=1):
            data = pattern(length, number)
            memory.write_at(offset, memoryview(data) if number % 2 else data)
            for index, byte in enumerate(data):
                model[(offset + index) % size] = byte
            found = memory.read_at(offset, length)
            demand_equal(found, data, f"{length} bytes at {offset} of {size}, written and read:")
            demand(memory.read_at(0, size) == model, f"no other byte changed by {length} bytes at {offset}")
            demand(memory.read_at(size, size) == model, "the same bytes one round further on")


def edges(size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) pairs about every page's edge and the data area's end."""
    for edge in (*range(0, size, PAGE_SIZE), size, 2 * size - PAGE_SIZE):
        for before in (0, 1, 8, 20):
            for length in (0, 1, 8, 24):
                offset = edge - before
                if offset >= 0 and offset + length <= 2 * size:
                    yield offset, length
    yield from ((0, size), (size - 8, size), (PAGE_SIZE // 2, size), (size + 8, size - 8))


def data_and_control_are_apart(memories: MemoryMaker) -> None:
    """No store to the data area changes a control word, and none to a control word the data."""
    memory = memories.make(memories.sizes[0])
    size = memory.size
    memory.write_at(0, pattern(size))
    for word in range(CONTROL_WORD_COUNT):
        memory.control[word] = word + 1
    demand(memory.read_at(0, size) == pattern(size), "the data as it was before words were stored")
    memory.write_at(0, bytes(size))
    found = [memory.control[word] for word in range(CONTROL_WORD_COUNT)]
    demand_equal(found, list(range(1, CONTROL_WORD_COUNT + 1)), "the words")


def records_are_their_bytes(memories: MemoryMaker) -> None:
    """A packer stores what write_at would store, and an unpacker loads what read_at would, at every place."""
    record = PACKET_DESCRIPTOR.struct
    for memory in memories.each():
        pack, unpack = memory.packer(record), memory.unpacker(record)
        for edge in range(0, memory.size + 1, PAGE_SIZE):
            for offset in range(max(edge - 24, 0), min(edge + 8, memory.size - record.size) + 1):
                values = (offset % 65536, 2, 3, 1, 2**64 - 1 - offset)
                pack(offset, *values)
                found = memory.read_at(offset, record.size)
                demand_equal(found, record.pack(*values), f"packed at {offset}:")
                demand_equal(unpack(offset), values, f"unpacked at {offset}:")


def both_sides_see_the_data(memories: MemoryMaker) -> None:
    """What one side stores in the data area the other reads."""
    memory, other = memories.views()
    for number, (one, another) in enumerate(((memory, other), (other, memory)), start=1):
        one.write_at(memory.size - 12, pattern(24, number))
        demand_equal(another.read_at(memory.size - 12, 24), pattern(24, number), "the other side's bytes")


def fences_change_nothing(memories: MemoryMaker) -> None:
    """The three fences can be called at any time, and change no byte."""
    memory = memories.make(memories.sizes[0])
    memory.write_at(0, pattern(64))
    memory.control[0] = 8
    for fence in (memory.acquire, memory.release, memory.fence) * 3:
        fence()
    demand_equal((memory.control[0], memory.read_at(0, 64)), (8, pattern(64)), "word and bytes")


MEMORY_CHECKS = checks_of(
    size_is_as_asked,
    writable,
    control_words_are_32,
    control_words_are_live,
    control_words_are_whole,
    read_is_a_copy,
    accesses_wrap,
    data_and_control_are_apart,
    records_are_their_bytes,
    both_sides_see_the_data,
    fences_change_nothing,
)
