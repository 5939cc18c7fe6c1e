"""The pages of a GPADL, from its header message and the bodies that were found with its number.

A header has the first 26 page numbers and says how many there are; each body has the next 28.  Bodies do
not say where they belong (Linux leaves their number 0), and memory keeps bodies of long ago.  The place of
one is known where it is numbered; where its first page is the one behind the last page before it (the
rings of a Linux guest lie in one piece); and where only one body is left for the last place.  Else it is
not known, and neither are its pages.

Guests are taken to fill a message before they begin the next one, as all that are known do.

Source: Linux drivers/hv/channel.c, create_gpadl_header().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vmbus.layout import GPA_RANGE, PAGE_NUMBER_SIZE, unpack_words
from vmbus.protocols import GPADL_BODY, LARGEST_MESSAGE
from vmbus.sizes import PAGE_SIZE

__all__ = ["BODY_PAGES", "Pages", "joined"]

#: Page numbers in a full body message.
BODY_PAGES = (LARGEST_MESSAGE - GPADL_BODY.size) // PAGE_NUMBER_SIZE

#: Page numbers in their order; None where one is not known.
Pages = tuple[int | None, ...]


class Body(NamedTuple):
    """The page numbers of a body, and the number that its sender gave it."""

    number: int
    pages: tuple[int, ...]


def joined(ranges: bytes, bodies: Iterable[tuple[int, bytes]]) -> tuple[Pages, tuple[str, ...]]:
    """All pages of a GPADL with one range: those of its header, and those of bodies that belong there.

    ranges   as the header has them
    bodies   the number and the bytes of every body of that GPADL
    """
    total = GPA_RANGE.unpack(ranges).byte_count // PAGE_SIZE
    pages: list[int | None] = list(unpack_words(ranges[GPA_RANGE.size :])[:total])
    lengths = [min(BODY_PAGES, total - at) for at in range(len(pages), total, BODY_PAGES)]
    if not lengths:
        return tuple(pages), ()
    placed = in_place(pages[-1], lengths, [Body(number, unpack_words(data)) for number, data in bodies])
    for length, body in zip(lengths, placed, strict=True):
        pages += body[:length] if body else [None] * length
    missing = placed.count(())
    if not missing:
        return tuple(pages), ()
    return tuple(pages), (f"of {len(lengths)} body messages, {missing} are not found or have no sure place",)


def in_place(before: int | None, lengths: list[int], bodies: list[Body]) -> list[tuple[int, ...]]:
    """The pages of the body at every place, () where that is not known.

    before    the last page in front of the first place
    lengths   pages that the body at each place has, at least
    """
    numbered = by_number(lengths, bodies)
    if numbered:
        return numbered
    placed: list[tuple[int, ...]] = []
    for length in lengths:
        following = {one.pages[:length] for one in bodies if follows(one, before, length)}
        if len(following) != 1:
            break
        placed += following
        before = placed[-1][-1]
    if len(placed) == len(lengths) - 1:
        length = lengths[-1]
        left = {one.pages[:length] for one in bodies if len(one.pages) >= length}
        left -= {pages[:length] for pages in placed}
        if len(left) == 1:
            placed += left
    return placed + [()] * (len(lengths) - len(placed))


def follows(body: Body, before: int | None, length: int) -> bool:
    """Whether a body with that many pages goes on with the page behind `before`."""
    return before is not None and len(body.pages) >= length and body.pages[0] == before + 1


def by_number(lengths: list[int], bodies: list[Body]) -> list[tuple[int, ...]]:
    """The pages of the body at every place, where their senders have numbered them, from 0 or from 1."""
    if len(lengths) < 2:
        return []
    for first in (0, 1):
        placed = [
            {one.pages[:length] for one in bodies if one.number == first + place and len(one.pages) >= length}
            for place, length in enumerate(lengths)
        ]
        if all(len(choices) == 1 for choices in placed):
            return [choices.pop() for choices in placed]
    return []
