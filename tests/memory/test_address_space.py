"""AddressSpace: bytes at addresses, with holes between, and nothing wraps past the top.

The regions of most tests, in hexadecimal:

    1000-13ff  1400-14ff   touch
    2000-20ff              alone
    ..ff00-..ffff          the last 256 addresses there are

Source: rust-vmm vm-memory, GuestMemory and GuestMemoryRegion, whose regions these are.
"""

from __future__ import annotations

import copy
import mmap
import pickle

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, sampled_from, tuples

from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.memory import TOP_OF_MEMORY, AddressError, AddressSpace, GuestMemory, Placement

TOP = 2**64
LAST = TOP - 0x100

KINDS = [AddressSpace, GuestMemory]
both_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def new_space(kind: type[AddressSpace] = AddressSpace) -> AddressSpace:
    return kind(
        [
            (LAST, bytearray(pattern(0x100))),
            (0x1400, bytearray(b"B" * 0x100)),
            (0x2000, bytearray(b"C" * 0x100)),
            (0x1000, bytearray(b"A" * 0x400)),
        ]
    )


# -- where a range lies ------------------------------------------------------------------------------

#: (address, length): the placement, and the first hole.
RANGES = {
    (0x1000, 1): ("INSIDE", None),
    (0x1000, 0x400): ("INSIDE", None),
    (0x13FF, 1): ("INSIDE", None),
    (0x1400, 0x100): ("INSIDE", None),
    (0x13FF, 2): ("CROSSES", None),
    (0x1000, 0x500): ("CROSSES", None),
    (0x1000, 0x501): ("OUTSIDE", 0x1500),
    (0x14FF, 2): ("OUTSIDE", 0x1500),
    (0x1500, 1): ("OUTSIDE", 0x1500),
    (0x1FFF, 2): ("OUTSIDE", 0x1FFF),
    (0xFFF, 2): ("OUTSIDE", 0xFFF),
    (0, 1): ("OUTSIDE", 0),
    (0x1000, 0x2000): ("OUTSIDE", 0x1500),
    (0, TOP): ("OUTSIDE", 0),
    (LAST, 0x100): ("INSIDE", None),
    (TOP - 1, 1): ("INSIDE", None),
    (LAST, 0x101): ("OUTSIDE", TOP),
    (TOP - 1, 2): ("OUTSIDE", TOP),
    (TOP - 1, TOP): ("OUTSIDE", TOP),
    (TOP, 1): ("OUTSIDE", TOP),
    (LAST - 1, 2): ("OUTSIDE", LAST - 1),
    (-1, 1): ("OUTSIDE", -1),
    (-1, 0x2000): ("OUTSIDE", -1),
    # No bytes are inside wherever they are.
    (0x1000, 0): ("INSIDE", None),
    (0x1500, 0): ("INSIDE", None),
    (0, 0): ("INSIDE", None),
    (TOP, 0): ("INSIDE", None),
}
IDS = [f"{length:#x} at {address:#x}" for address, length in RANGES]


@both_kinds
@pytest.mark.parametrize("address, length", RANGES, ids=IDS)
def test_a_range_is_inside_crosses_or_has_a_first_hole(kind, address, length):
    space = new_space(kind)
    placement, hole = RANGES[address, length]
    assert space.placement(address, length) is Placement[placement]
    assert space.first_hole(address, length) == hole


@both_kinds
@pytest.mark.parametrize("address, length", RANGES, ids=IDS)
@pytest.mark.parametrize("warm", [None, 0x1000, 0x1400, LAST], ids=lambda warm: f"after {warm}")
def test_checking_reading_and_viewing_agree_with_the_placement(kind, address, length, warm):
    """From any region that the access before went to: what was found last must not matter."""
    space = new_space(kind)
    if warm is not None:
        space.view(warm, 1)
    placement, hole = RANGES[address, length]
    calls = {"check_range": space.check_range, "read": space.read, "views": space.views}
    for name, call in calls.items():
        if hole is None:
            found = call(address, length)
            assert name == "check_range" or len(b"".join(found) if name == "views" else found) == length
        else:
            with pytest.raises(AddressError) as caught:
                call(address, length)
            assert caught.value.address == caught.value.value == hole
    if placement == "INSIDE":
        assert len(space.view(address, length)) == length
    else:
        with pytest.raises(AddressError) as caught:
            space.view(address, length)
        expected = hole if hole is not None else 0x1400
        assert caught.value.address == expected


@known_bug("V07")
@both_kinds
def test_a_range_past_the_top_of_memory_does_not_go_on_at_0(kind):
    """One buffer at 2**64-1-0x800 with 0x900 bytes, and memory at 0 for those that would wrap."""
    address = TOP - 1 - 0x800
    space = kind([(0, bytearray(b"low!" * 0x400)), (TOP - 0x1000, bytearray(0x1000))])
    for call in (space.check_range, space.read, space.view, space.views):
        with pytest.raises(AddressError) as caught:
            call(address, 0x900)
        assert caught.value.address == TOP
    assert space.placement(address, 0x900) is Placement.OUTSIDE
    assert space.read(address, 0x801) == bytes(0x801)


@both_kinds
def test_bytes_of_adjacent_regions_are_read_as_one_piece_and_viewed_as_several(kind):
    space = new_space(kind)
    assert space.read(0x13FE, 4) == b"AABB"
    assert [view.tobytes() for view in space.views(0x13FE, 4)] == [b"AA", b"BB"]
    assert [len(view) for view in space.views(0x1000, 0x500)] == [0x400, 0x100]
    assert space.read(0x1000, 0x500) == b"A" * 0x400 + b"B" * 0x100
    assert space.views(0x1200, 0) == []


def test_a_view_is_the_bytes_themselves_and_a_read_is_a_copy():
    buffer = bytearray(b"before")
    space = AddressSpace([(0x1000, buffer)])
    view, copied = space.view(0x1001, 3), space.read(0x1001, 3)
    (other,) = space.views(0x1001, 3)
    buffer[1:4] = b"EFO"
    assert (bytes(view), bytes(other), copied) == (b"EFO", b"EFO", b"efo")
    assert type(copied) is bytes


@both_kinds
@pytest.mark.parametrize("address", [0x1000, 0x1400, 0x1500, 0])
@pytest.mark.parametrize("warm", [0x1000, 0x2000])
def test_a_negative_length_is_refused(kind, address, warm):
    space = new_space(kind)
    space.view(warm, 1)
    for call in (space.read, space.view, space.views):
        with pytest.raises(CallerError) as caught:
            call(address, -1)
        assert (caught.value.argument, caught.value.value) == ("length", -1)


@both_kinds
def test_the_region_of_an_address_is_found_at_its_first_and_its_last_byte(kind):
    space = new_space(kind)
    for address, start in (
        (0x1000, 0x1000),
        (0x13FF, 0x1000),
        (0x1400, 0x1400),
        (0x14FF, 0x1400),
        (TOP - 1, LAST),
    ):
        region = space.find_region(address)
        assert region is not None and region.start == start
    for address in (0, 0xFFF, 0x1500, 0x1FFF, 0x2100, LAST - 1, TOP, -1):
        assert space.find_region(address) is None


@both_kinds
def test_the_error_names_the_range_the_hole_and_what_is_mapped(kind):
    with pytest.raises(AddressError) as caught:
        new_space(kind).read(0x14F0, 0x20)
    message = str(caught.value)
    for part in (
        "32 bytes at 0x14f0",
        "address 0x1500 is not mapped",
        "0x1000 to 0x13ff",
        "0x2000 to 0x20ff",
    ):
        assert part in message
    with pytest.raises(AddressError, match="0x1400 belongs to another region"):
        new_space(kind).view(0x13FF, 2)


def test_the_error_of_many_regions_does_not_list_them_all():
    space = AddressSpace([(0x1000 * number, b"x") for number in range(10)])
    with pytest.raises(AddressError, match="and 6 more"):
        space.read(0x5001, 1)


def test_an_address_error_is_the_callers_and_keeps_its_address_over_pickling_and_copying():
    error = AddressError("8 bytes at 0x10", address=0x12)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is AddressError and isinstance(again, (CallerError, ValueError))
        assert (again.address, again.argument, again.value, str(again)) == (
            0x12,
            "address",
            0x12,
            "8 bytes at 0x10",
        )


# -- making one --------------------------------------------------------------------------------------


@both_kinds
def test_regions_come_in_any_order_and_are_kept_by_address(kind):
    space = new_space(kind)
    assert [(region.start, region.end) for region in space.regions] == [
        (0x1000, 0x1400),
        (0x1400, 0x1500),
        (0x2000, 0x2100),
        (LAST, TOP),
    ]
    assert repr(space) == f"<{kind.__name__}: 1792 bytes in 4 regions>"
    assert TOP_OF_MEMORY == TOP


@both_kinds
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "second, length",
    [(0x1000, 1), (0x1000, 0x100), (0x10FF, 1), (0x10FF, 0x100), (0x0FFF, 2), (0x800, 0x1000)],
)
def test_regions_that_overlap_are_refused(kind, second, length, order):
    regions = [(0x1000, bytearray(0x100)), (second, bytearray(length))]
    with pytest.raises(CallerError, match="starts inside") as caught:
        kind(regions[::order])
    assert caught.value.argument == "regions"
    assert caught.value.value == max(second, 0x1000)


@both_kinds
@pytest.mark.parametrize("second", [0x1100, 0x0FF0])
def test_regions_that_touch_are_taken(kind, second):
    space = kind([(0x1000, bytearray(0x100)), (second, bytearray(0x10))])
    start = min(second, 0x1000)
    assert space.placement(start, 0x110) is Placement.CROSSES


@both_kinds
@pytest.mark.parametrize("start, length", [(-1, 1), (-8, 16), (0x1000, 0), (TOP, 1), (TOP - 1, 2), (TOP, 0)])
def test_a_region_that_cannot_be_is_refused(kind, start, length):
    with pytest.raises(CallerError, match=f"{length} bytes") as caught:
        kind([(0, bytearray(1)), (start, bytearray(length))])
    assert (caught.value.argument, caught.value.value) == ("regions", start)


@both_kinds
def test_a_space_of_no_region_is_refused(kind):
    with pytest.raises(CallerError, match="at least one") as caught:
        kind([])
    assert caught.value.argument == "regions"


BUFFERS = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "mmap": lambda data: mapping(data),
    "memoryview": lambda data: memoryview(data),
    "memoryview of a part": lambda data: memoryview(b"before" + data + b"behind")[6 : 6 + len(data)],
    "memoryview of words": lambda data: memoryview(bytearray(data)).cast("I"),
}


def mapping(data: bytes) -> mmap.mmap:
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data
    return mapped


@both_kinds
@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS)
def test_any_contiguous_buffer_is_a_region(kind, buffer):
    space = kind([(0x1000, buffer(pattern(64)))])
    assert space.read(0x1000, 64) == pattern(64)
    assert space.read(0x1011, 5) == pattern(64)[17:22]


@both_kinds
@pytest.mark.parametrize("buffer", [None, 64, "text", [1, 2], memoryview(b"12345678")[::2]])
def test_what_is_no_contiguous_buffer_is_refused(kind, buffer):
    with pytest.raises(CallerError) as caught:
        kind([(0x1000, buffer)])
    assert caught.value.argument == "regions"


@both_kinds
def test_a_mapping_that_is_closed_is_refused(kind):
    closed = mmap.mmap(-1, 4096)
    closed.close()
    with pytest.raises(CallerError):
        kind([(0x1000, closed)])


# -- against a model ---------------------------------------------------------------------------------

#: (bytes of hole before it, bytes): regions one after the other, often touching.
layouts = lists(tuples(sampled_from([0, 0, 0, 1, 3]), integers(1, 5)), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(
    layout=layouts,
    base=sampled_from([0, 1, 0x1000, None]),
    accesses=lists(tuples(integers(-3, 30), integers(0, 30)), min_size=1, max_size=12),
)
def test_a_space_reads_what_a_table_of_addresses_says(layout, base, accesses):
    """The table has a line for each byte; base None ends the last region at 2**64."""
    total = sum(hole + length for hole, length in layout)
    address = first = TOP - total if base is None else base
    table: dict[int, int] = {}
    regions, owner = [], {}
    for hole, length in layout:
        address += hole
        content = bytes(value * 7 & 0xFF for value in range(len(table), len(table) + length))
        regions.append((address, content))
        for offset, value in enumerate(content):
            table[address + offset] = value
            owner[address + offset] = address
        address += length
    space = AddressSpace(regions)
    for offset, length in accesses:
        start = first + offset
        wanted = range(start, start + length)
        hole = next((one for one in wanted if one not in table), None)
        pieces = len({owner[one] for one in wanted}) if hole is None else 0
        assert space.first_hole(start, length) == hole
        expected = "OUTSIDE" if hole is not None else "INSIDE" if pieces <= 1 else "CROSSES"
        assert space.placement(start, length).name == expected
        if hole is None:
            content = bytes(table[one] for one in wanted)
            assert space.read(start, length) == content
            assert b"".join(space.views(start, length)) == content
            assert len(space.views(start, length)) == pieces
            space.check_range(start, length)
        else:
            for call in (space.read, space.views, space.check_range):
                with pytest.raises(AddressError) as caught:
                    call(start, length)
                assert caught.value.address == hole
        if length:
            try:
                viewed: bytes | None = bytes(space.view(start, length))
            except AddressError:
                viewed = None
            assert viewed == (bytes(table[one] for one in wanted) if expected == "INSIDE" else None)
