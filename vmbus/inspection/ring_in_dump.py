"""A ring that lies in a dump, as a memory: its bytes are read when they are looked at, block by block.

A ring whose control page is not there cannot be shown.  Missing data is never read as zeros: whoever reads a
byte of it gets MissingMemory.  Nothing is mapped: a file that is cut short meanwhile is an error, and no signal
that ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from vmbus.errors import CallerError, DumpError
from vmbus.images import Dump, Finding, MissingMemory, RawDump, RawFileDump, Severity, State
from vmbus.memory import ControlWords, FlatRingMem, RingMem
from vmbus.sizes import CONTROL_SIZE, MAXIMUM_DATA_SIZE, PAGE_SIZE

from .names import counted
from .ring_place import RingPlace

__all__ = ["DumpRingMem", "Missing", "check_pages", "memory_of", "missing_findings"]

#: Stretches of missing memory that a ring's findings list.
MOST_LISTED = 10

#: What is read at a time, and how many such blocks are kept.
BLOCK_SIZE = 1 << 16
MOST_BLOCKS = 64


class Missing(NamedTuple):
    """Data from offset `start` to `end` that is not there, and why."""

    start: int
    end: int
    error: MissingMemory


class DumpRingMem(RingMem):
    """The memory of a ring in a dump; made by `memory_of`.

    missing   stretches of its data that the dump does not have, in order

    What was read is kept until `acquire`: whoever looks twice at a ring that is still in use sees what is there
    by then.
    """

    def __init__(self, dump: Dump, place: RingPlace) -> None:
        self._dump = dump
        self._place = place
        self._size = place.data_size
        self._blocks: dict[int, bytes] = {}
        self._control()  # MissingMemory when there is none
        self.missing = tuple(joined(missing_stretches(dump, place)))

    @property
    def control(self) -> ControlWords:
        return self._control()

    def _control(self) -> memoryview:
        return memoryview(self._dump.read(self._place.address, CONTROL_SIZE)).cast("I")

    @property
    def size(self) -> int:
        return self._size

    def acquire(self) -> object:
        self._blocks = {}
        return super().acquire()

    def read_at(self, offset: int, length: int) -> bytes:
        if offset >= self._size:
            offset -= self._size
        first = min(length, self._size - offset)
        if first == length:
            return self._read(offset, length)
        return self._read(offset, first) + self._read(0, length - first)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        raise CallerError(
            "a ring in a dump can only be looked at", argument="self", value="read-only", limit="writable"
        )

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        unpack, unpack_from, size = record.unpack, record.unpack_from, record.size
        last_start = BLOCK_SIZE - size

        def unpack_at(offset: int) -> tuple[Any, ...]:
            start = offset % BLOCK_SIZE
            block = self._blocks.get(offset // BLOCK_SIZE)
            if block is None or start > last_start or start + size > len(block):
                return unpack(self.read_at(offset, size))
            return unpack_from(block, start)

        return unpack_at

    def _read(self, offset: int, length: int) -> bytes:
        """Bytes that do not wrap."""
        number, start = divmod(offset, BLOCK_SIZE)
        if start + length > BLOCK_SIZE:
            return self._fetch(offset, length)
        block = self._blocks.get(number)
        if block is None:
            block = self._block(number)
        if start + length > len(block):  # some of the block is missing
            return self._fetch(offset, length)
        return block[start : start + length]

    def _block(self, number: int) -> bytes:
        """A block, kept; nothing where not all of it is there."""
        if len(self._blocks) >= MOST_BLOCKS:
            self._blocks.clear()
        start = number * BLOCK_SIZE
        try:
            block = self._fetch(start, min(BLOCK_SIZE, self._size - start))
        except MissingMemory:
            block = b""
        self._blocks[number] = block
        return block

    def _fetch(self, offset: int, length: int) -> bytes:
        read = self._dump.read
        parts = [read(address, count) for _, address, count in stretches(self._place, offset, length)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __repr__(self) -> str:
        return f"<DumpRingMem: {self._size} bytes of data at {self._place.address:#x} of {self._dump.path!r}>"


def memory_of(dump: Dump, place: RingPlace) -> RingMem:
    """The ring as a memory that can only be read.

    Raises MissingMemory when its control page is not there.
    """
    if isinstance(dump, RawDump) and not isinstance(dump, RawFileDump) and place.pages is None:
        view = dump.view(place.address, place.end - place.address)
        return FlatRingMem.over(view, header_size=place.header_size)
    return DumpRingMem(dump, place)


def stretches(place: RingPlace, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Where data that does not wrap lies: offset, address and length of each piece."""
    if place.pages is None:
        yield offset, place.address + place.header_size + offset, length
        return
    end = offset + length
    while offset < end:
        page, start = divmod(offset, PAGE_SIZE)
        count = min(PAGE_SIZE - start, end - offset)
        yield offset, place.pages[page + 1] + start, count
        offset += count


def missing_stretches(dump: Dump, place: RingPlace) -> Iterator[Missing]:
    """Data that the dump says it does not have; what is damaged shows only when it is read."""
    for offset, address, length in stretches(place, 0, place.data_size):
        at, end = address, address + length
        for run in dump.runs(address, end):
            if at < run.start:
                yield missing(offset, address, at, run.start, MissingMemory(at, path=dump.path))
            if run.state in (State.EXCLUDED, State.LOST):
                error = MissingMemory(run.start, run.state, run.why, path=dump.path)
                yield missing(offset, address, run.start, run.end, error)
            at = run.end
        if at < end:
            yield missing(offset, address, at, end, MissingMemory(at, path=dump.path))


def missing(offset: int, address: int, start: int, end: int, error: MissingMemory) -> Missing:
    """Addresses from `start` to `end`, as offsets, where `address` is at `offset`."""
    return Missing(offset + start - address, offset + end - address, error)


def joined(missing: Iterable[Missing]) -> Iterator[Missing]:
    """Those in touch, and missing for one reason, as one."""
    last: Missing | None = None
    for one in missing:
        if last is not None and last.end == one.start and why(last) == why(one):
            last = last._replace(end=one.end)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def why(one: Missing) -> tuple[object, str]:
    return one.error.state, one.error.why


def missing_findings(memory: RingMem) -> Iterator[Finding]:
    """What of a ring's data is not there."""
    missing = memory.missing if isinstance(memory, DumpRingMem) else ()
    for one in missing[:MOST_LISTED]:
        message = f"{one.end - one.start} bytes of data are missing: {strip_path(one.error)}"
        yield Finding("missing-memory", Severity.WARNING, one.start, message)
    if len(missing) > MOST_LISTED:
        more = missing[MOST_LISTED:]
        total = sum(one.end - one.start for one in more)
        message = f"{total} more bytes of data are missing, in {len(more)} stretches"
        yield Finding("missing-memory", Severity.WARNING, more[0].start, message)


def strip_path(error: MissingMemory) -> str:
    """The error without the file's name, which the report has already."""
    return str(DumpError(*error.args))


def check_pages(pages: Iterable[int], path: str) -> tuple[int, ...]:
    """A page list as a ring has it; DumpError when no ring can lie in these pages."""
    listed = tuple(pages)
    if len(listed) < 2 or (len(listed) - 1) * PAGE_SIZE > MAXIMUM_DATA_SIZE:
        raise DumpError(
            f"a ring has a control page and from 1 to {MAXIMUM_DATA_SIZE // PAGE_SIZE} data pages, and "
            f"{counted(len(listed), 'page')} {'is' if len(listed) == 1 else 'are'} listed",
            path=path,
        )
    seen: set[int] = set()
    for page in listed:
        if page % PAGE_SIZE:
            raise DumpError(
                f"the page list has {page:#x}, and pages begin on multiples of {PAGE_SIZE}", path=path
            )
        if page in seen:
            raise DumpError(
                f"the page list has {page:#x} twice, and every page of a ring is its own", path=path
            )
        seen.add(page)
    return listed
