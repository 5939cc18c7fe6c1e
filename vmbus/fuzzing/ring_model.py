"""What the trials of rings, pipes and channels stand beside: a list, two flags, and sums.

The model counts: it knows no index, no wrap and no rule of vmbus.ring, and is slow on purpose.

Sizes and places are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem, PagedRingMem, RingMem
from vmbus.sizes import PAGE_SIZE

from .arguments import Choice, Number
from .trial import pattern

__all__ = [
    "LENGTH",
    "MEMORIES",
    "MEMORY",
    "PAGES",
    "START",
    "HasTotal",
    "MakeMemory",
    "RingModel",
    "close_memory",
    "fresh_payload",
    "memory_for",
    "rounded_down",
    "rounded_up",
    "total_of",
    "words_of",
]

#: The size of a ring, the slot where its first packet starts (counted round and round), its memory.
PAGES = Number(1, 4, corners=[1, 1, 2])
START = Number(0, 2047, corners=[2046, 2045, 2043, 2041, 511, 510, 507])

#: Lengths of payloads: small ones fill a ring with many packets, large ones bring it to its end soon.
LENGTH = Number(
    0, 2500, corners=[0, 1, 7, 8, 9, 15, 16, 24, 33, 40, 100, 200, 400, 401, 1000, 2047, 2048, 2049]
)

MakeMemory = Callable[[int], RingMem]


def paged_memory(size: int) -> PagedRingMem:
    """A ring memory whose pages lie apart."""
    return PagedRingMem([bytearray(PAGE_SIZE) for page in range(1 + size // PAGE_SIZE)])


MEMORIES: dict[str, MakeMemory] = {"flat": FlatRingMem, "paged": paged_memory}

MEMORY = Choice(*MEMORIES)


def memory_for(kind: str, size: int, make_memory: MakeMemory | None) -> RingMem:
    """The memory of a ring, full of what was in it before; the user's own, where there is one."""
    memory = (make_memory or MEMORIES[kind])(size)
    memory.write_at(0, b"\xa5" * size)
    return memory


def close_memory(memory: object) -> None:
    """Let go of a memory that can be let go of."""
    close = getattr(memory, "close", None)
    if close is not None:
        close()


def fresh_payload(length: int, number: int) -> bytes:
    """Up to 16,384 bytes that differ from those of other packets nearby.

    Cut out of bytes that are kept: making new ones for each packet would take most of a case's time.

    >>> fresh_payload(3, 1) == fresh_payload(3, 2)
    False
    """
    first = 8 * 37 * number % 49152
    return pattern(65536)[first : first + length]


def rounded_up(length: int) -> int:
    while length % 8:
        length += 1
    return length


def rounded_down(length: int) -> int:
    while length % 8:
        length -= 1
    return length


class HasTotal(Protocol):
    """Something that takes so many bytes of a ring."""

    @property
    def total(self) -> int: ...


Item = TypeVar("Item", bound=HasTotal)


def total_of(items: Sequence[Any]) -> int:
    return sum([item.total for item in items])


class RingModel(Generic[Item]):
    """One ring as a list.

    waiting       committed, and its space not given back yet
    masked        whether the reader has said that it will look by itself
    wanted        free bytes that the sender waits for; 0 for none
    sent, freed   bytes that were committed and given back since the start
    """

    def __init__(self, size: int, start: int = 0, *, masked: bool = False) -> None:
        self.size = size
        self.start = start
        self.waiting: list[Item] = []
        self.masked = masked
        self.wanted = 0
        self.sent = 0
        self.freed = 0

    @property
    def free(self) -> int:
        """Free bytes as the two indices show them."""
        return self.size - 8 - total_of(self.waiting)

    @property
    def in_offset(self) -> int:
        return (self.start + self.sent) % self.size

    @property
    def out_offset(self) -> int:
        return (self.start + self.freed) % self.size

    def put(self, items: Sequence[Item]) -> bool:
        """One commit; whether the reader must be signaled."""
        was_empty = not self.waiting
        self.waiting += items
        self.sent += total_of(items)
        return bool(items) and was_empty and not self.masked

    def take(self, count: int) -> tuple[list[Item], bool]:
        """Give back the first so many: they, and whether the sender must be signaled."""
        before = self.free
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.freed += total_of(taken)
        return taken, self.wanted > 0 and before < self.wanted <= self.free

    def fitting(self, items: Sequence[Item]) -> list[Item]:
        """As many from the first on as there is room for."""
        free = self.free
        for count, item in enumerate(items):
            free -= item.total
            if free < 0:
                return list(items[:count])
        return list(items)

    def words(self) -> tuple[int, int, int, int]:
        """The first four words of the control page; the pending size without its low bits."""
        return (self.in_offset, self.out_offset, int(self.masked), self.wanted)


def words_of(memory: RingMem) -> tuple[int, int, int, int]:
    """The same of a memory."""
    control = memory.control
    return (
        control[IN_WORD],
        control[OUT_WORD],
        control[INTERRUPT_MASK_WORD],
        rounded_down(control[PENDING_SEND_SIZE_WORD]),
    )
