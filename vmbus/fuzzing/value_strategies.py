"""Hypothesis strategies of the values that rings are made of: numbers, payloads, ranges, control pages.

Each reaches the values at which rings go wrong by construction, and shrinks to zeros and to nothing.

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from vmbus.layout import ControlPage, GpaRange, Guid, TransferPageRange
from vmbus.ring import PagedRange
from vmbus.sizes import PAGE_SIZE, SLOT

from .trial import pattern

__all__ = [
    "control_pages",
    "control_words",
    "gpa_ranges",
    "guids",
    "numbers",
    "offsets",
    "paged_ranges",
    "payloads",
    "remembered",
    "smallest",
    "transfer_page_ranges",
]

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])

#: Words of a control page that are right, and those that have no meaning.
BIT, FEATURES = st.integers(0, 1), st.sampled_from([0, 1, 3])
GARBAGE, NOTHING = st.binary(min_size=60, max_size=60), st.just(bytes(60))

#: Lengths around which a packet takes one slot more.
SLOT_LENGTHS = (0, SLOT, 1, SLOT - 1, SLOT + 1, 2 * SLOT)


def remembered(function: Function) -> Function:
    """A function that makes each of its strategies once: making one takes longer than drawing from it."""
    return cast(Function, cache(function))


#: A place in a page; the ends as likely as all others.
PAGE_PLACES = st.one_of(st.integers(0, PAGE_SIZE - 1), st.sampled_from([0, PAGE_SIZE - 1]))


def smallest(strategy: SearchStrategy[Value], condition: Callable[[Value], object]) -> Value:
    """The simplest value of a strategy for which a condition holds, as Hypothesis finds it.

    The same at every run, and nothing is written into a database of examples.

    >>> smallest(payloads(), lambda payload: len(payload) > 8)
    b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    quiet = settings(
        database=None, derandomize=True, max_examples=2000, phases=(Phase.generate, Phase.shrink)
    )
    return find(strategy, lambda value: bool(condition(value)), settings=quiet)


@remembered
def numbers(bits: int = 32) -> SearchStrategy[int]:
    """Numbers of so many bits; often at an end, or at a power of two or just beside one.

    >>> smallest(numbers(32), lambda number: number >= 2**31)
    2147483648
    """
    largest = (1 << bits) - 1
    beside = {1 << power for power in (3, 12, 16, 31, 32, bits - 1)}
    corners = {0, largest, largest - 1, largest & ~7, *beside, *(one - 1 for one in beside)}
    fitting = sorted(corner for corner in corners if 0 <= corner <= largest)
    return st.one_of(st.integers(0, largest), st.sampled_from(fitting), st.integers(0, min(9, largest)))


@remembered
def payloads(longest: int = 512) -> SearchStrategy[bytes]:
    """Payloads of at most so many bytes; often empty, a whole number of slots, or as long as can be.

    >>> smallest(payloads(longest=100), lambda payload: len(payload) == 100) == bytes(100)
    True
    """
    corners = [
        length for length in (*SLOT_LENGTHS, longest - SLOT, longest - 1, longest) if 0 <= length <= longest
    ]
    lengths = st.one_of(st.integers(0, longest), st.sampled_from(corners), st.just(longest))
    return st.one_of(
        st.binary(max_size=min(longest, 3 * SLOT)),
        st.builds(filled, lengths, st.integers(0, 3)),
    )


def filled(length: int, seed: int) -> bytes:
    """So many zeros, or bytes of which no eight are like others."""
    return pattern(length, seed) if seed else bytes(length)


@remembered
def offsets(data_size: int = PAGE_SIZE) -> SearchStrategy[int]:
    """Offsets that a packet of a ring of `data_size` bytes can have; often near the end.

    >>> smallest(offsets(4096), lambda offset: offset > 4080)
    4088
    """
    last = data_size // SLOT - 1
    return st.one_of(st.integers(0, last), st.integers(0, min(last, 8)).map(lambda back: last - back)).map(
        lambda slot: slot * SLOT
    )


@remembered
def control_words(data_size: int = PAGE_SIZE) -> SearchStrategy[int]:
    """What an enemy may leave in a control word: right, off by one or a slot, misaligned, or anything.

    >>> smallest(control_words(4096), lambda word: word >= 4096)
    4096
    """
    near = [
        data_size,
        data_size - SLOT,
        data_size - 1,
        data_size + 1,
        data_size + SLOT,
        2 * data_size,
        1,
        4,
        7,
    ]
    return st.one_of(offsets(data_size), st.sampled_from(near), numbers(32))


@remembered
@st.composite
def control_pages(draw: DrawFn, data_size: int = PAGE_SIZE, *, hostile: bool = False) -> ControlPage:
    """The control words of a ring of `data_size` bytes.

    hostile   whether indices may be out of range; else only the words that need no check are anything

    >>> smallest(control_pages(), lambda page: page.in_offset == 4088)._replace(reserved=b"").in_offset
    4088
    >>> smallest(control_pages(hostile=True), lambda page: page.out_offset > 4096).out_offset % 8
    1
    """
    index = control_words(data_size) if hostile else offsets(data_size)
    mask = numbers(32) if hostile else BIT
    garbage = draw(st.booleans())
    reserved = GARBAGE if garbage else NOTHING
    return ControlPage(
        in_offset=draw(index),
        out_offset=draw(index),
        interrupt_mask=draw(mask),
        pending_send_size=draw(control_words(data_size)),
        reserved=draw(reserved)[:48],
        feature_bits=draw(numbers(32) if hostile else FEATURES),
        reserved_after_features=draw(reserved),
    )


@remembered
@st.composite
def paged_ranges(draw: DrawFn, most_pages: int = 3) -> PagedRange:
    """Ranges of guest memory, of 1 to `most_pages` pages; often from or to the end of a page.

    >>> smallest(paged_ranges(), lambda one: len(one.gpns) == 2)
    PagedRange(0, 4097, [0, 0])
    """
    pages = draw(page_lists(most_pages))
    offset = draw(PAGE_PLACES)
    least = max((len(pages) - 1) * PAGE_SIZE, offset) + 1
    stop = min(len(pages) * PAGE_SIZE, least + draw(PAGE_PLACES))
    return PagedRange(offset, stop - offset, pages)


@remembered
def page_lists(most_pages: int) -> SearchStrategy[list[int]]:
    return st.lists(numbers(64), min_size=1, max_size=most_pages)


@remembered
def transfer_page_ranges() -> SearchStrategy[TransferPageRange]:
    """Ranges of a transfer-page packet; their numbers are anything, since rings do not judge them.

    >>> smallest(transfer_page_ranges(), lambda one: one.byte_offset)
    TransferPageRange(byte_count=0, byte_offset=1)
    """
    return st.builds(TransferPageRange, byte_count=numbers(32), byte_offset=numbers(32))


@remembered
def gpa_ranges() -> SearchStrategy[GpaRange]:
    """Heads of GPA ranges, right or wrong.

    >>> smallest(gpa_ranges(), lambda one: one.byte_offset > 4095)
    GpaRange(byte_count=0, byte_offset=4096)
    """
    return st.builds(GpaRange, byte_count=numbers(32), byte_offset=numbers(32))


@remembered
def guids() -> SearchStrategy[Guid]:
    """GUIDs.

    >>> smallest(guids(), lambda guid: guid.version == 4)
    Guid.parse('00000000-0000-4000-0000-000000000000')
    """
    return st.builds(Guid, st.binary(min_size=16, max_size=16))
