"""The memory of a ring that lies in a dump: its bytes where they are one behind the other in a raw file, else a
copy of them, of which pages may be missing.

A ring whose control page is not there cannot be shown.  Missing data pages are never read as zeros: whoever
reads a byte of theirs gets MissingMemory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from vmbus.errors import DumpError
from vmbus.images import Dump, Finding, MissingMemory, RawDump, Severity
from vmbus.memory import FlatRingMem
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE

from .ring_place import RingPlace

__all__ = ["PartialRingMem", "memory_of", "missing_findings"]

#: Stretches of missing memory that a ring's findings list.
MOST_LISTED = 10


class Missing(NamedTuple):
    """Data from offset `start` to `end` that is not there, and why."""

    start: int
    end: int
    error: MissingMemory


class PartialRingMem(FlatRingMem):
    """A ring of which some data pages are not there; made by `memory_of`.

    missing   those stretches, in order
    """

    missing: tuple[Missing, ...] = ()

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, offset + length)
        return super().read_at(offset, length)

    def unpacker(self, record: Struct) -> Callable[[int], tuple[Any, ...]]:
        unpack, size, check = super().unpacker(record), record.size, self._check

        def unpack_checked(offset: int) -> tuple[Any, ...]:
            check(offset, offset + size)
            return unpack(offset)

        return unpack_checked

    def _check(self, start: int, end: int) -> None:
        """Raise MissingMemory when some byte of these offsets, which may go on at the start, is not there."""
        size = self.size
        for one in self.missing:
            if (start < one.end and one.start < end) or (end > size and one.start < end - size):
                raise one.error


def memory_of(dump: Dump, place: RingPlace) -> FlatRingMem:
    """The ring as a memory that can only be read.

    Raises MissingMemory when its control page is not there.
    """
    if isinstance(dump, RawDump) and place.pages is None:
        view = dump.view(place.address, place.end - place.address)
        return FlatRingMem.over(view, header_size=place.header_size)
    control = dump.read(place.address, PAGE_SIZE)
    parts: list[bytes] = [control]
    missing: list[Missing] = []
    for offset, address, length in stretches(place):
        add_stretch(dump, parts, missing, Missing(offset, offset + length, MissingMemory(address)), address)
    memory = PartialRingMem.over(b"".join(parts))
    assert isinstance(memory, PartialRingMem)
    memory.missing = tuple(joined(missing))
    return memory


def stretches(place: RingPlace) -> Iterator[tuple[int, int, int]]:
    """The data area in pieces: offset, address and length of each."""
    if place.pages is not None:
        for number, page in enumerate(place.pages[1:]):
            yield number * PAGE_SIZE, page, PAGE_SIZE
        return
    start = place.address + place.header_size
    for offset in range(0, place.data_size, LARGEST_READ):
        yield offset, start + offset, min(LARGEST_READ, place.data_size - offset)


#: What is read at a time; where something of it is missing, page by page.
LARGEST_READ = 1 << 18


def add_stretch(
    dump: Dump, parts: list[bytes], missing: list[Missing], stretch: Missing, address: int
) -> None:
    length = stretch.end - stretch.start
    try:
        parts.append(dump.read(address, length))
        return
    except MissingMemory as error:
        if length <= PAGE_SIZE:
            parts.append(bytes(length))
            missing.append(stretch._replace(error=error))
            return
    for at in range(0, length, PAGE_SIZE):
        start = stretch.start + at
        page = stretch._replace(start=start, end=start + min(PAGE_SIZE, length - at))
        add_stretch(dump, parts, missing, page, address + at)


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


def missing_findings(memory: FlatRingMem) -> Iterator[Finding]:
    """What of a ring's data is not there."""
    missing = memory.missing if isinstance(memory, PartialRingMem) else ()
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
            f"{len(listed)} pages are listed",
            path=path,
        )
    for page in listed:
        if page % PAGE_SIZE:
            raise DumpError(
                f"the page list has {page:#x}, and pages begin on multiples of {PAGE_SIZE}", path=path
            )
    return listed
