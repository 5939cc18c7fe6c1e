"""Every schedule of the two sides of a VMBus channel, or of a pair of rings.

The rings and channels run as they are: their memory is an ExploredMemory and their signal an
ExploredSignal, and with these every access, fence, signal and sleep is a place where the other side
may go on.  search.py says what is explored and what is not; the worst of it:

  * the machine reorders as x86-64 does; with `stores_pass_stores` stores overtake each other as well, and
    loads still do not: some of what only goes wrong on arm64 is not found;
  * waits have no time limit (0 only looks), and the clock that a channel is given must stand still:
    `clock=stopped_clock`;
  * a side is one thread;
  * a write that does not wrap is seen whole, one that wraps in two parts.

A side may signal only when the other was ready for it.  The receiver of a ring is, from the moment at
which its mask = 0 can be seen until its mask = 1 or a new out can; the sender, from when its pending
send size can be seen until 0 or a new in can.  Who has stored its own index must have loaded the mask,
or the pending send size, since then and while the other side was ready; a signal is good for one.

Sources: Linux Documentation/virt/hyperv/vmbus.rst on when the host takes a signal amiss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NoReturn

from vmbus.channel import Signal
from vmbus.errors import CallerError
from vmbus.layout import (
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PENDING_SEND_SIZE_WORD,
)
from vmbus.memory import RingMem
from vmbus.ring import free_bytes, is_offset, used_bytes, wanted_space
from vmbus.sizes import CONTROL_WORD_COUNT, SLOT, check_data_size

from .search import MAXIMUM_STATES, MAXIMUM_STEPS, Progress, Result, explore_sides, name_of
from .shared import Wish, Word
from .sides import Script, Side

__all__ = [
    "ExploredMemory",
    "ExploredSignal",
    "RingSide",
    "explore",
    "stopped_clock",
]

#: The code of one side: a function of the ring it receives from, the one it sends to, and its signal.
RingSide = Callable[["ExploredMemory", "ExploredMemory", "ExploredSignal"], object]

NAMES = {
    IN_WORD: "in",
    OUT_WORD: "out",
    INTERRUPT_MASK_WORD: "mask",
    PENDING_SEND_SIZE_WORD: "pending",
    FEATURE_BITS_WORD: "features",
}
HEXADECIMAL = {IN_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD}

#: What the names of the two rings' words begin with: the one from left to right, and the one back.
FORTH, BACK = "", "back "


@cache
def word_names(ring: str) -> tuple[str, ...]:
    """The names of a ring's control words in stories."""
    return tuple(ring + NAMES.get(word, f"word {word}") for word in range(CONTROL_WORD_COUNT))


class ExploredWords:
    """Control words of an ExploredMemory."""

    readonly = False

    def __init__(self, side: Side, ring: str) -> None:
        self._names = word_names(ring)
        self._load = side.load
        self._store = side.store

    def __getitem__(self, word: int) -> int:
        return self._load(self._names[word])

    def __setitem__(self, word: int, value: int) -> None:
        self._store(self._names[word], value)


class ExploredMemory(RingMem):
    """The memory of one ring, as one side sees it; made by `explore`."""

    def __init__(self, side: Side, ring: str, size: int) -> None:
        self._side = side
        self._area = area_of(ring)
        self._size = size
        self._words = ExploredWords(side, ring)

    @property
    def control(self) -> ExploredWords:
        return self._words

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        parts = [self._side.read(self._area, at, count) for at, _, count in self._parts(offset, length)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        copy = bytes(data)
        for at, done, count in self._parts(offset, len(copy)):
            self._side.write(self._area, at, copy[done : done + count])

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where each part lies that does not wrap, how much is before it, and its length."""
        if not 0 <= offset <= offset + length <= 2 * self._size:
            raise CallerError(
                f"{length} bytes at {offset:#06x} are not within twice the {self._size} of the ring's data",
                argument="offset",
                value=offset,
                limit=2 * self._size - length,
            )
        done = 0
        while done < length:
            at = (offset + done) % self._size
            count = min(length - done, self._size - at)
            yield at, done, count
            done += count

    def acquire(self) -> None:
        """Nothing: this machine's loads stay in order."""

    def release(self) -> None:
        """Nothing, unless stores pass stores; they stay behind this machine's loads anyway."""
        self._side.release()

    def fence(self) -> None:
        self._side.fence()


class ExploredSignal(Signal):
    """One side's end of the signals; made by `explore`."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._peer_closed = False

    @property
    def peer_closed(self) -> bool:
        return self._peer_closed

    def notify(self) -> None:
        self._side.notify()

    def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            self._peer_closed = self._side.wait()
            return True
        if timeout:
            self._side.refuse(f"a wait of {timeout} seconds cannot be explored: None or 0 can")
        told, self._peer_closed = self._side.poll()
        return told

    def wake(self) -> None:
        self._side.wake()

    def close(self) -> None:
        self._side.close()

    def note(self, text: str) -> None:
        """A line for the story."""
        self._side.note(text)

    def fileno(self) -> NoReturn:
        raise CallerError(
            "explored signals have no descriptor", argument="signal", value="ExploredSignal", limit="wait()"
        )


def stopped_clock() -> float:
    """The clock for an explored channel: no time passes."""
    return 0.0


def explore(
    left: RingSide,
    right: RingSide,
    *,
    ring_sizes: tuple[int, int] = (4096, 4096),
    start: int = 0,
    names: tuple[str, str] | None = None,
    spurious_wakes: int = 0,
    stores_pass_stores: bool = False,
    maximum_states: int = MAXIMUM_STATES,
    maximum_steps: int = MAXIMUM_STEPS,
    progress: Progress | None = None,
) -> Result:
    """Go through every schedule of two sides of a pair of rings.

    left, right          each a function of (incoming memory, outgoing memory, signal).  One with a
                         `yield` does what comes before it alone, before the exploration begins
    ring_sizes           bytes of the ring from left to right, and of the one back
    start                where both rings stand at the start: an offset
    names                of the sides, for the story; otherwise those of the functions
    spurious_wakes       how often, in one schedule, a wait may end for nothing
    stores_pass_stores   whether a store may become visible before earlier ones to other places
    maximum_states       the exploration ends, not complete, when it has met more
    maximum_steps        the same for a schedule that is longer
    progress             called with the number of steps so far and of states

    Whatever a side raises is a violation, so a side checks by raising what it has received.

    >>> from vmbus.ring import IncomingRing, OutgoingRing
    >>> def sender(incoming, outgoing, signal):
    ...     if OutgoingRing(outgoing).send(b"explored"):
    ...         signal.notify()
    >>> def receiver(incoming, outgoing, signal):
    ...     ring = IncomingRing(incoming)
    ...     while not ring.can_read(ring.incoming()):
    ...         signal.wait(None)
    >>> result = explore(sender, receiver)
    >>> result.violation.kind.value
    'a side sleeps for ever'
    """
    for size in ring_sizes:
        check_data_size(size)
        if not is_offset(size, start):
            raise CallerError(
                f"a ring of {size} bytes cannot start at {start}",
                argument="start",
                value=start,
                limit=size - SLOT,
            )
    words = {name: word for ring in (FORTH, BACK) for name, word in control_of(ring, start)}
    return explore_sides(
        side_over(left, ring_sizes, incoming=BACK, outgoing=FORTH),
        side_over(right, ring_sizes, incoming=FORTH, outgoing=BACK),
        words=words,
        areas={area_of(ring): bytes(size) for ring, size in zip((FORTH, BACK), ring_sizes, strict=True)},
        wishes=[*wishes_of(FORTH, sender=0), *wishes_of(BACK, sender=1)],
        explain=lambda values: explain_rings(values, ring_sizes),
        names=names or (name_of(left, "left"), name_of(right, "right")),
        spurious_wakes=spurious_wakes,
        stores_pass_stores=stores_pass_stores,
        maximum_states=maximum_states,
        maximum_steps=maximum_steps,
        progress=progress,
    )


def side_over(side: RingSide, sizes: tuple[int, int], *, incoming: str, outgoing: str) -> Script:
    size_of = dict(zip((FORTH, BACK), sizes, strict=True))

    def script(steps: Side) -> Any:
        return side(
            ExploredMemory(steps, incoming, size_of[incoming]),
            ExploredMemory(steps, outgoing, size_of[outgoing]),
            ExploredSignal(steps),
        )

    return script


def area_of(ring: str) -> str:
    """The name of a ring's data area."""
    return f"{ring}data"


def control_of(ring: str, start: int) -> Iterator[tuple[str, Word]]:
    """The control words of a ring, by name."""
    for word, name in enumerate(word_names(ring)):
        value = start if word in (IN_WORD, OUT_WORD) else 0
        yield name, Word(value, word in HEXADECIMAL)


def wishes_of(ring: str, sender: int) -> Iterator[Wish]:
    """When the receiver and the sender of a ring are ready for a signal."""
    names = word_names(ring)
    yield Wish(
        side=1 - sender,
        word=names[INTERRUPT_MASK_WORD],
        says=is_clear,
        ends=names[OUT_WORD],
        renewed=names[IN_WORD],
    )
    yield Wish(
        side=sender,
        word=names[PENDING_SEND_SIZE_WORD],
        says=asks_for_room,
        ends=names[IN_WORD],
        renewed=names[OUT_WORD],
    )


def is_clear(mask: int) -> bool:
    return mask == 0


def asks_for_room(pending_send_size: int) -> bool:
    return wanted_space(pending_send_size) != 0


def explain_rings(values: Mapping[str, int], sizes: tuple[int, int]) -> Iterator[str]:
    """What the rings hold, a sentence each; nothing of one that was not used."""
    for ring, size, title in zip((FORTH, BACK), sizes, ("The ring", "The ring back"), strict=True):
        names = word_names(ring)
        in_offset, out_offset = values[names[IN_WORD]], values[names[OUT_WORD]]
        if in_offset != out_offset or values[names[PENDING_SEND_SIZE_WORD]] or ring == FORTH:
            used = used_bytes(size, in_offset, out_offset)
            yield f"{title} holds {used} bytes, and {free_bytes(size, in_offset, out_offset)} are free."
