"""What a hostile peer does: single strikes, and plans of them, also at random.

Numbers are drawn from where victims are likely to go wrong: beside what is allowed, at the edges of what fits, and
now and then anywhere.  Sizes and places are in bytes.
"""

from __future__ import annotations

from random import Random
from struct import Struct
from typing import NamedTuple

from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.sizes import SLOT

__all__ = ["Strike", "descriptor_bytes", "index_corners", "random_plan"]

#: The words that matter, the indices more often.
STRUCK_WORDS = (IN_WORD, IN_WORD, OUT_WORD, OUT_WORD, INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD)

DESCRIPTOR_HEAD = Struct("<HHHH")


class Strike(NamedTuple):
    """One thing that a hostile peer writes.

    after    how many accesses of the victim come first, from the moment at which it is planned
    what     "word"     control word number `place`; of a virtqueue the 16 bits at that address
             "bytes"    bytes at that place of the data area; of a virtqueue at that address
             "again"    bytes at what the victim read last, `place` bytes further on
             "next"     bytes at out, `place` bytes further on: where a reader looks next; rings only
             "packet"   bytes at that place, and then in behind them: a packet; rings only
    value    a number for a word, and bytes for everything else
    """

    after: int
    what: str
    place: int
    value: int | bytes


def descriptor_bytes(kind: int, data_offset8: int, length8: int, flags: int) -> bytes:
    """The first 8 bytes of a packet's descriptor, of any numbers of 16 bits.

    >>> descriptor_bytes(6, 2, 3, 1).hex()
    '0600020003000100'
    """
    return DESCRIPTOR_HEAD.pack(*(number & 0xFFFF for number in (kind, data_offset8, length8, flags)))


def index_corners(size: int) -> tuple[int, ...]:
    """Values of in and out at which a ring of that size can go wrong, right ones among them."""
    near = (0, 1, 4, 8, 16, 24, 32, size // 2, size - 24, size - 16, size - 8, size - 4, size - 1)
    return (*near, size, size + 8, 2 * size, 2**31 - 8, 2**31, 2**32 - 8, 2**32 - 1)


def random_plan(
    random: Random, size: int = 4096, *, strikes: int = 20, longest_gap: int = 30
) -> list[Strike]:
    """A plan against a ring of that size; the same generator, the same plan.

    longest_gap   most accesses from one strike to the next

    >>> random_plan(Random(1), strikes=2) == random_plan(Random(1), strikes=2)
    True
    """
    plan = []
    after = 0
    for _ in range(strikes):
        after += random.randint(0, longest_gap)
        plan.append(random_strike(random, size, after))
    return plan


def random_strike(random: Random, size: int, after: int) -> Strike:
    what = random.choice(("word", "word", "bytes", "again", "again", "again", "next", "next", "packet"))
    if what == "word":
        word = random.choice(
            (IN_WORD, IN_WORD, OUT_WORD, OUT_WORD, INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD)
        )
        anywhere = SLOT * random.randrange(size // SLOT)
        return Strike(
            after, what, word, random.choice((anywhere, anywhere, random.choice(index_corners(size))))
        )
    value = descriptor_bytes(
        random.choice((6, 6, 6, 11, 7, 9, random.getrandbits(16))),
        random.choice((2, 2, 2, 3, 4, random.getrandbits(16))),
        random.choice((2, 3, 4, 6, 8, random.randrange(600), random.getrandbits(16))),
        random.choice((0, 0, 1, 1, 2, random.getrandbits(16))),
    )
    if what == "packet":
        start = SLOT * random.randrange(size // SLOT)
        return Strike(after, what, start, value.ljust(SLOT * random.randint(1, 8), b"\0"))
    place = (
        SLOT * random.randrange(size // SLOT) if what == "bytes" else SLOT * random.choice((0, 0, 0, 1, 2, 3))
    )
    return Strike(after, what, place, value)
