"""What the tests of image loaders share: images in hand as sources, regions to draw, and what any file must keep to."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice

from hypothesis import strategies as st

from vmbus.errors import DumpError
from vmbus.images import BytesSource, Source
from vmbus.inspection import Dump, MissingMemory, State

__all__ = [
    "Regions",
    "assert_holds",
    "assert_keeps_to_the_rules",
    "checks_of",
    "damaged",
    "peak_memory",
    "place_of_refusal",
    "regions_to_write",
    "runs_of",
    "source_of",
]

Regions = Sequence[tuple[int, bytes]]

Load = Callable[[Source], Dump]

#: So much of a run is read where it may be as long as its file says.
LONGEST_READ = 1 << 20


def source_of(data: bytes, path: str = "image") -> BytesSource:
    return BytesSource(path, memoryview(data))


def runs_of(dump: Dump) -> list[tuple[int, int, str]]:
    return [(run.start, run.end, run.state.value) for run in dump.runs()]


def checks_of(dump: Dump) -> list[str]:
    return [finding.check for finding in dump.findings]


def present_runs(regions: Regions) -> list[tuple[int, int, str]]:
    """The runs of regions that are all stored: those that touch are one."""
    runs: list[tuple[int, int, str]] = []
    for address, data in sorted(regions):
        if runs and runs[-1][1] == address:
            runs[-1] = (runs[-1][0], address + len(data), "present")
        elif data:
            runs.append((address, address + len(data), "present"))
    return runs


def assert_holds(dump: Dump, regions: Regions) -> None:
    """The dump has these regions, every byte of them, and nothing else."""
    assert runs_of(dump) == present_runs(regions)
    for address, data in regions:
        assert dump.read(address, len(data)) == data
    memory: dict[int, int] = {}
    for at, piece in dump.pieces():
        memory.update(zip(range(at, at + len(piece)), piece, strict=True))
    assert memory == {
        at: byte for address, data in regions for at, byte in zip(range(address, 2**64), data, strict=False)
    }
    for start, end, _ in runs_of(dump):
        for hole in (start - 1, end):
            if hole >= 0 and not any(run[0] <= hole < run[1] for run in runs_of(dump)):
                assert dump.where(hole) is None


def assert_keeps_to_the_rules(load: Load, data: bytes) -> Dump | None:
    """Refused with DumpError, or a dump that gives bytes or MissingMemory wherever it says it has some."""
    source = source_of(data)
    try:
        dump = load(source)
    except DumpError as error:
        assert error.path == "image"
        assert str(error).startswith("image: ")
        return None
    end = 0
    for run in islice(dump.runs(), 10_000):
        assert end <= run.start < run.end <= 2**64
        end = run.end
        length = min(run.end - run.start, LONGEST_READ)
        try:
            assert len(dump.read(run.start, length)) == length
            assert run.state in (State.PRESENT, State.ZERO)
        except MissingMemory as error:
            assert run.start <= error.address < run.start + length
            assert error.state in (State.EXCLUDED, State.LOST)
        place = dump.where(run.start)
        if run.state is State.PRESENT:
            assert place is not None
            assert 0 <= place.offset < len(data)
        else:
            assert place is None
    for finding in dump.findings:
        assert finding.check.startswith("image-")
    return dump


def place_of_refusal(load: Load, data: bytes) -> tuple[str, int | None]:
    """What is said of an image that is refused, and where."""
    try:
        load(source_of(data))
    except DumpError as error:
        return str(error).removeprefix("image: "), error.place
    raise AssertionError("it was not refused")


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that a call has allocated at any moment."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@st.composite
def regions_to_write(draw: st.DrawFn, most: int = 300) -> Regions:
    """Some regions that do not overlap, some of which touch, in any order."""
    at = draw(st.sampled_from([0, 0x1000, 2**32 - 5, 2**63]))
    regions = []
    for _ in range(draw(st.integers(1, 6))):
        data = draw(st.binary(min_size=1, max_size=most))
        if draw(st.booleans()):
            data = data[:4] * draw(st.integers(1, 50))
        regions.append((at, data))
        at += len(data) + draw(st.sampled_from([0, 0, 1, 4096, 2**40]))
    return draw(st.permutations(regions))


def damaged(images: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Images of which some bytes were changed, put in, or taken off the end."""

    @st.composite
    def strategy(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(images))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, max(len(data) - 1, 0)))
            how = draw(st.sampled_from(["flip", "flip", "field", "cut", "insert"]))
            if how == "flip" and data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            elif how == "field":
                value = draw(st.sampled_from([0, 1, 2**32 - 1, 2**63, 2**64 - 1, 2**16 - 1]))
                data[at : at + 8] = value.to_bytes(8, "little")
            elif how == "cut":
                del data[at:]
            else:
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
        return bytes(data)

    return strategy()
