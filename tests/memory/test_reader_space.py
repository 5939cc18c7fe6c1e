"""Memory that a function reads has the places and the refusals of any address space, and copies for views."""

from __future__ import annotations

import pytest

from vmbus.errors import CallerError
from vmbus.memory import AddressError, AddressSpace, Placement

MEMORY = {0x1000: bytes(range(64)), 0x1040: b"right behind", 0x9000: b"far away"}


def read(address: int, length: int) -> bytes:
    for start, data in MEMORY.items():
        if start <= address < start + len(data):
            here = data[address - start : address - start + length]
            rest = length - len(here)
            return here + (read(address + len(here), rest) if rest else b"")
    raise AssertionError(f"{address:#x} was read, and is not there")


def space() -> AddressSpace:
    return AddressSpace.from_reader(read, [(start, len(data)) for start, data in MEMORY.items()])


def test_bytes_are_those_that_the_function_gives():
    assert space().read(0x1002, 3) == bytes([2, 3, 4])
    assert space().read(0x103E, 7) == bytes([62, 63]) + b"right"
    assert space().read(0x5000, 0) == b""


def test_views_are_copies_that_can_only_be_read():
    view = space().view(0x9000, 3)
    assert view == b"far" and view.readonly
    assert [bytes(one) for one in space().views(0x103F, 6)] == [bytes([63]) + b"right"]
    assert space().views(0x103F, 0) == []


def test_a_view_lies_inside_one_region_as_everywhere():
    with pytest.raises(AddressError):
        space().view(0x103F, 6)
    assert space().placement(0x103F, 6) is Placement.CROSSES


@pytest.mark.parametrize(
    "address, length, blamed", [(0x104C, 1, 0x104C), (0x8FFF, 4, 0x8FFF), (0x104A, 4, 0x104C)]
)
def test_what_is_not_there_is_never_asked_for(address, length, blamed):
    for method in (space().read, space().view, space().views):
        with pytest.raises(AddressError) as caught:
            method(address, length)
        assert caught.value.address == blamed


def test_what_the_function_raises_comes_through():
    def fails(address, length):
        raise LookupError("no such page")

    with pytest.raises(LookupError):
        AddressSpace.from_reader(fails, [(0, 4096)]).read(0, 8)


@pytest.mark.parametrize("given", [b"", b"abc", b"abcde"])
def test_a_function_that_gives_more_or_less_is_the_callers_mistake(given):
    with pytest.raises(CallerError, match=f"gave {len(given)} bytes"):
        AddressSpace.from_reader(lambda address, length: given, [(0, 4096)]).read(0x10, 4)


@pytest.mark.parametrize("start, length", [(-1, 8), (0, 0), (0, -8), (2**64 - 8, 9)])
def test_a_stretch_that_cannot_be_is_refused(start, length):
    with pytest.raises(CallerError):
        AddressSpace.from_reader(read, [(start, length)])


def test_stretches_do_not_overlap_and_there_is_at_least_one():
    with pytest.raises(CallerError):
        AddressSpace.from_reader(read, [(0, 8), (4, 8)])
    with pytest.raises(CallerError):
        AddressSpace.from_reader(read, [])


def test_closing_closes_nothing_and_says_nothing():
    with space() as memory:
        pass
    assert memory.read(0x9000, 3) == b"far"
