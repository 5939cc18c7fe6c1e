"""Plain segments in a file make up memory: sorted, without overlaps, and lost where the file ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.images import BytesSource, FilePlace, Segment, StoredDump
from vmbus.inspection import MissingMemory, State

FILE = bytes(number * 7 % 251 for number in range(400))


def stored(*segments: Segment) -> StoredDump:
    return StoredDump(BytesSource("file", memoryview(FILE)), segments, format="test")


@settings(max_examples=200, deadline=None)
@given(
    listed=st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 60), st.integers(0, 420), st.sampled_from(list(State))),
        max_size=8,
    )
)
def test_memory_is_what_a_slow_model_says(listed):
    """Byte for byte: the first segment in the list that has an address says what is there."""
    dump = stored(*(Segment(address, length, offset, state) for address, length, offset, state in listed))
    for address in range(200):
        model = next(((o + address - a, s) for a, n, o, s in listed if a <= address < a + n), None)
        run = next(dump.runs(address, address + 1), None)
        if model is None:
            assert run is None
            continue
        offset, state = model
        if state is State.PRESENT and offset >= len(FILE):
            state = State.LOST
        assert run is not None and run.state is state
        if state is State.PRESENT:
            assert dump.read(address, 1) == FILE[offset : offset + 1]
            assert dump.where(address) == FilePlace("file", offset)
        elif state is State.ZERO:
            assert dump.read(address, 1) == b"\0"
        else:
            with pytest.raises(MissingMemory) as caught:
                dump.read(address, 1)
            assert (caught.value.address, caught.value.state) == (address, state)
    runs = list(dump.runs())
    assert all(one.end <= other.start for one, other in itertools.pairwise(runs))
    assert all(
        one.end < other.start or (one.state, one.why) != (other.state, other.why)
        for one, other in itertools.pairwise(runs)
    )


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, 260), length=st.integers(0, 100))
def test_a_range_is_read_over_segments_that_touch_and_not_over_holes(start, length):
    dump = stored(Segment(100, 50, 200), Segment(0, 100, 10), Segment(160, 20, 0))
    memory = {at: FILE[10 + at] for at in range(100)} | {at: FILE[100 + at] for at in range(100, 150)}
    memory |= {at: FILE[at - 160] for at in range(160, 180)}
    wanted = range(start, start + length)
    missing = next((at for at in wanted if at not in memory), None)
    if missing is None:
        assert dump.read(start, length) == bytes(memory[at] for at in wanted)
    else:
        with pytest.raises(MissingMemory) as caught:
            dump.read(start, length)
        assert (caught.value.address, caught.value.state) == (missing, None)


def test_overlaps_and_what_lies_behind_the_end_of_the_file_are_findings():
    overlapping = stored(Segment(0, 50, 0), Segment(40, 20, 100))
    assert [finding.check for finding in overlapping.findings] == ["image-overlap"]
    assert "10 bytes" in overlapping.findings[0].message
    short = stored(Segment(0x1000, 100, 350))
    assert [finding.check for finding in short.findings] == ["image-cut-short"]
    assert "50 bytes" in short.findings[0].message and "0x1032" in short.findings[0].message
    assert stored(Segment(0, 50, 0), Segment(50, 50, 0)).findings == []


def test_pieces_are_all_that_is_stored_in_order():
    dump = stored(Segment(0x1000, 100, 0), Segment(0, 8, 100), Segment(0x2000, 8, 0, State.EXCLUDED))
    missing = []
    pieces = [(address, bytes(piece)) for address, piece in dump.pieces(on_missing=missing.append)]
    assert pieces == [(0, FILE[100:108]), (0x1000, FILE[:100])]
    assert [(run.start, run.end) for run in missing] == [(0x2000, 0x2008)]
