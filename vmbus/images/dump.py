"""Memory that somebody saved: guest-physical addresses and the bytes there, with holes between.

Each format of memory images is a kind of Dump, in a file of its own (load_*.py); `open_dump` finds out which.
A byte of a dump is in one of five states.  Only two of them can be read, and nothing that is missing is
ever read as zeros:

    present    stored in the file
    zero       the format says that it is zero, without storing it
    excluded   memory that the writer left out
    lost       memory that should be there, of which the file has nothing: it is cut short, or damaged
    (a hole)   no memory at all at this address

Addresses and lengths are in bytes; an address is below 2**64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple, NoReturn, TypeVar

from vmbus.errors import CallerError, DumpError
from vmbus.sizes import PAGE_SIZE

from .findings import Finding
from .source import Source

__all__ = ["PIECE_SIZE", "Dump", "FilePlace", "MissingMemory", "Run", "State", "joined_runs"]

#: Memory is looked through in pieces of at most so many bytes.
PIECE_SIZE = 1 << 20

#: The end of a 64-bit address space.
TOP = 2**64

Kind = TypeVar("Kind", bound="Dump")


class State(Enum):
    """What a dump has of a byte of memory; the values stand in reports."""

    PRESENT = "present"
    ZERO = "zero"
    EXCLUDED = "excluded"
    LOST = "lost"


class Run(NamedTuple):
    """Addresses from `start` up to, and without, `end`, all in one state; `why` says more of it."""

    start: int
    end: int
    state: State
    why: str = ""


class FilePlace(NamedTuple):
    """Where a byte lies: in which file, and at which offset; of compressed ones, where they start."""

    path: str
    offset: int


WHAT = {
    State.EXCLUDED: "was left out by whoever wrote the image",
    State.LOST: "is lost",
    None: "has no memory in this image",
}


class MissingMemory(DumpError):
    """A byte of memory that the image does not have.

    address   the first that is missing
    state     State.EXCLUDED or State.LOST; None for a hole
    why       more about it, or nothing
    """

    def __init__(
        self,
        address: int,
        state: State | None = None,
        why: str = "",
        *,
        path: str = "",
        place: int | None = None,
    ) -> None:
        super().__init__(
            f"address {address:#x} {WHAT[state]}{f': {why}' if why else ''}", path=path, place=place
        )
        self.address = address
        self.state = state
        self.why = why

    def __reduce__(self) -> tuple[Callable[..., MissingMemory], tuple[object, ...]]:
        return missing_memory, (self.address, self.state, self.why, self.path, self.place)


def missing_memory(
    address: int, state: State | None, why: str, path: str, place: int | None
) -> MissingMemory:
    """One that was pickled."""
    return MissingMemory(address, state, why, path=path, place=place)


class Dump:
    """What every format has.  A context manager that closes its file at the end, as `close` does.

    format     the format's name
    source     the file's bytes
    findings   what is wrong with the file as an image
    """

    format = "?"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.findings: list[Finding] = []

    @property
    def path(self) -> str:
        """What to call it in messages."""
        return self.source.path

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.source.size

    # -- what a format provides ----------------------------------------------------------------

    def runs(self, start: int = 0, end: int = TOP) -> Iterator[Run]:
        """What memory there is from `start` to `end`: in order, cut to the range, never two of a kind in touch."""
        raise NotImplementedError

    def read_present(self, address: int, length: int) -> bytes:
        """Bytes that all lie inside one present run; MissingMemory where what is stored is damaged."""
        raise NotImplementedError

    def where(self, address: int) -> FilePlace | None:
        """Where the byte at `address` is stored; None where it is not."""
        raise NotImplementedError

    # -- what everybody uses -------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """A copy of the bytes; MissingMemory for the first that is not there."""
        check_addresses(address, length)
        parts = []
        at, end = address, address + length
        for run in self.runs(address, end):
            if run.start > at:
                break
            if run.state is State.PRESENT:
                parts.append(self.read_present(at, run.end - at))
            elif run.state is State.ZERO:
                parts.append(bytes(run.end - at))
            else:
                raise MissingMemory(at, run.state, run.why, path=self.path)
            at = run.end
        if at < end:
            raise MissingMemory(at, path=self.path)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def view(self, address: int, length: int) -> memoryview:
        """The same; of raw memory the bytes themselves, not a copy."""
        return memoryview(self.read(address, length))

    def pieces(
        self, start: int = 0, end: int = TOP, *, on_missing: Callable[[Run], object] | None = None
    ) -> Iterator[tuple[int, memoryview]]:
        """All memory that is stored, in order, each piece with its address.

        A piece is at most PIECE_SIZE long, crosses no multiple of it, and is to be used before the next one
        is asked for.  Memory that reads as zero has no piece.  `on_missing` is told what is excluded or lost.
        """
        missing = on_missing or (lambda run: None)
        for run in self.runs(start, end):
            if run.state is State.PRESENT:
                yield from self._pieces_of(run, missing)
            elif run.state is not State.ZERO:
                missing(run)

    def _pieces_of(self, run: Run, missing: Callable[[Run], object]) -> Iterator[tuple[int, memoryview]]:
        for at, stop in steps(run.start, run.end, PIECE_SIZE):
            try:
                piece = self._piece(at, stop - at)
            except MissingMemory:
                yield from self._pages_of(at, stop, missing)
            else:
                yield at, piece

    def _pages_of(
        self, start: int, end: int, missing: Callable[[Run], object]
    ) -> Iterator[tuple[int, memoryview]]:
        """The pages of a piece that cannot be read as a whole."""
        for at, stop in steps(start, end, PAGE_SIZE):
            try:
                page = self._piece(at, stop - at)
            except MissingMemory as error:
                missing(Run(at, stop, State.LOST, error.why))
            else:
                yield at, page

    def _piece(self, address: int, length: int) -> memoryview:
        """Bytes of one present run, valid until the next call."""
        return memoryview(self.read_present(address, length))

    def _refuse(self, address: int) -> NoReturn:
        """Raise MissingMemory for an address that lies in no present run."""
        run = next(self.runs(address, address + 1), None)
        raise MissingMemory(address, run and run.state, run.why if run else "", path=self.path)

    def close(self) -> None:
        """Let go of the file; again is harmless."""
        self.source.close()

    def __enter__(self: Kind) -> Kind:  # noqa: PYI019 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}: {self.size} bytes, {self.format}>"


def joined_runs(parts: Iterable[Run]) -> Iterator[Run]:
    """Runs in order, those in touch that are alike as one.

    >>> parts = [Run(0, 4, State.ZERO), Run(4, 8, State.ZERO), Run(8, 12, State.LOST)]
    >>> [(run.start, run.end) for run in joined_runs(parts)]
    [(0, 8), (8, 12)]
    """
    last: Run | None = None
    for run in parts:
        if last is not None and last.end == run.start and (last.state, last.why) == (run.state, run.why):
            last = last._replace(end=run.end)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def steps(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The range cut at every multiple of `size`.

    >>> list(steps(3, 9, 4))
    [(3, 4), (4, 8), (8, 9)]
    """
    while start < end:
        stop = min(end, (start // size + 1) * size)
        yield start, stop
        start = stop


def check_addresses(address: int, length: int) -> None:
    if address < 0 or length < 0 or address + length > TOP:
        raise CallerError(
            f"{length} bytes at {address:#x} are no range of 64-bit addresses",
            argument="address",
            value=address,
            limit=TOP,
        )
