"""What two explored sides share: words, areas of bytes, and wishes for signals.

A wish is one way in which a side says that it wants a signal; with wishes, a signal that answers none is
a violation.  What is stored goes through the buffers of buffers.py.

Everything here is made once for each value that it can have and then compared by what it is: two
states are the same when their parts are the same objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from vmbus.errors import CallerError

from .buffers import BARRIER, LooseBuffer, Memory, Store, StoreBuffer
from .steps import Act, ActKind, Question, StepKind

__all__ = [
    "Effect",
    "Explain",
    "Target",
    "Wish",
    "WishBits",
    "Word",
    "World",
    "say_nothing",
]

LEFT, RIGHT = 0, 1

#: The bits of a state: who has been told to wake, and who has been closed on; those of each wish (see
#: WishBits); above them the number of wakes for nothing that are left.
TOLD = (1, 2)
CLOSED = (4, 8)
FIRST_WISH = 4
BITS_OF_WISH = 4


class Word(NamedTuple):
    """A word that both sides can load and store.

    value         at the start
    hexadecimal   how the story shows it
    """

    value: int = 0
    hexadecimal: bool = False

    def show(self, value: int) -> str:
        return f"{value:#06x}" if self.hexadecimal else str(value)


class Wish(NamedTuple):
    """One way in which a side says that it wants a signal.

    side      who wishes: 0 for the left side, 1 for the right
    word      the word that says so
    says      whether a value of that word does
    ends      a word of the same side: storing it ends the wish, whatever `word` says
    renewed   a word of the other side, or several: once it has stored one of them, what it knew of the
              wish is too old
    standing  whether the wish is for a signal after each such store, and not for one signal
    anew      a further word of the same side: storing it makes another wish of one that holds

    The wish holds from the moment at which a value that says so can be seen.  The other side may
    signal when it has loaded `word` while the wish held, and has not stored `renewed` or signaled
    since; but not again for a wish that still holds and has been answered, unless it is a standing one
    and `renewed` was stored again.
    """

    side: int
    word: str
    says: Callable[[int], bool]
    ends: str
    renewed: str | tuple[str, ...]
    standing: bool = False
    anew: str = ""

    @property
    def renewing(self) -> tuple[str, ...]:
        """The words whose store makes what was known too old."""
        return (self.renewed,) if isinstance(self.renewed, str) else self.renewed


class WishBits(NamedTuple):
    """What a state knows of a wish, a bit each.

    held       it holds
    heard      the other side has loaded it while it held, now or before
    fresh      it has held ever since
    answered   the other side has signaled since it heard of it, and it still holds
    """

    held: int
    heard: int
    fresh: int
    answered: int


class Effect(NamedTuple):
    """What a side's acts do to a state.

    stores   go into the side's buffer
    sets     bits of the state that are then set
    keeps    bits that are left before
    """

    stores: tuple[Store, ...]
    sets: int
    keeps: int


class Target(NamedTuple):
    """What a step is about.

    place   the index of its word or area; -1 where it has none
    looks   of each wish that a load tells of, the bit that says whether it holds, and the bits that the
            load then sets
    """

    place: int
    looks: tuple[tuple[int, int], ...]


NO_TARGET = Target(-1, ())


Explain = Callable[[Mapping[str, int]], Iterable[str]]


def say_nothing(words: Mapping[str, int]) -> Iterable[str]:
    """No sentence."""
    return ()


class World:
    """The names of all that is shared, what it starts as, and who wishes for signals how.

    words    name, and the word or its first value
    areas    name, and the bytes at the start
    wishes   when a signal is wanted; where none are given, no signal is judged
    explain  sentences about the visible words, for the end of a story
    loose    whether stores may pass stores
    """

    def __init__(
        self,
        words: Mapping[str, Word | int],
        areas: Mapping[str, bytes],
        wishes: Sequence[Wish],
        explain: Explain = say_nothing,
        loose: bool = False,
    ) -> None:
        self.explain = explain
        self.loose = loose
        self.words = {name: word if isinstance(word, Word) else Word(word) for name, word in words.items()}
        self.areas = dict(areas)
        self.wishes = tuple(wishes)
        self._word_index = {name: index for index, name in enumerate(self.words)}
        self._area_index = {name: index for index, name in enumerate(self.areas)}
        self.memory = Memory(
            tuple(word.value for word in self.words.values()), tuple(self.areas.values()), {}
        )
        self.empty_buffer: StoreBuffer = LooseBuffer((), {}) if loose else StoreBuffer((), {})
        self._stores: dict[tuple[int, Act], Store] = {}
        for wish in self.wishes:
            for name in (wish.word, wish.ends, wish.anew or wish.word, *wish.renewing):
                self.word_index(name)
        #: For each side, the wishes that it can hear of.
        self.heard_by = tuple(
            [self.bits_of(number) for number, wish in enumerate(self.wishes) if wish.side != side]
            for side in (LEFT, RIGHT)
        )
        #: One wake for nothing.
        self.one_wake = 1 << (FIRST_WISH + BITS_OF_WISH * len(self.wishes))

    def bits_of(self, number: int) -> WishBits:
        """The bits of the wish of that number."""
        first = 1 << (FIRST_WISH + BITS_OF_WISH * number)
        return WishBits(first, first << 1, first << 2, first << 3)

    def signal(self, side: int, bits: int) -> tuple[int, bool]:
        """The bits behind a signal, and whether anybody wished for it."""
        wished = not self.wishes
        for _, heard, fresh, answered in self.heard_by[side]:
            if bits & heard:
                # A signal for a wish that is over comes too late to be one for the next.
                wished = wished or not (bits & fresh and bits & answered)
                if bits & fresh:
                    bits |= answered
                bits &= ~(heard | fresh)
        return bits, wished

    def looked_at(self, number: int) -> tuple[int, int]:
        """The bit that a wish holds, and those that a load sets then."""
        held, heard, fresh, _ = self.bits_of(number)
        return held, heard | fresh

    def first_bits(self, spurious_wakes: int) -> int:
        """The bits of the first state: a word that says so from the start is a wish from the start."""
        held = sum(
            self.bits_of(number).held
            for number, wish in enumerate(self.wishes)
            if wish.says(self.words[wish.word].value)
        )
        return held + spurious_wakes * self.one_wake

    def word_index(self, name: str) -> int:
        return index_of(self._word_index, name, "word")

    def effect_of(self, side: int, acts: Sequence[Act]) -> Effect:
        """What these acts of a side do."""
        stores = []
        sets, keeps = 0, -1
        for act in acts:
            if act.kind is ActKind.WAKE:
                sets |= TOLD[side]
            elif act.kind is ActKind.RELEASE:
                stores.append(BARRIER)
            elif act.kind is not ActKind.NOTE:
                stores.append(self._store_of(side, act))
                keeps &= ~self._outdated_by(side, act)
        return Effect(tuple(stores), sets, keeps)

    def target_of(self, side: int, question: Question) -> Target:
        """What a step of a side is about."""
        kind, place, offset, length = question
        if kind is StepKind.LOAD:
            looks = [
                self.looked_at(number)
                for number, wish in enumerate(self.wishes)
                if wish.side != side and wish.word == place
            ]
            return Target(self.word_index(place), tuple(looks))
        if kind is StepKind.READ:
            return Target(self._checked_area(place, offset, length), ())
        return NO_TARGET

    def _outdated_by(self, side: int, act: Act) -> int:
        """The bits of what a side knew of the other's wishes, where this store makes it too old."""
        outdated = 0
        for number, wish in enumerate(self.wishes):
            if wish.side != side and act.kind is ActKind.STORE and act.place in wish.renewing:
                bits = self.bits_of(number)
                outdated |= bits.heard | bits.fresh | (bits.answered if wish.standing else 0)
        return outdated

    def _checked_area(self, name: str, offset: int, length: int) -> int:
        index = index_of(self._area_index, name, "area")
        size = len(self.areas[name])
        if offset < 0 or length < 0 or offset + length > size:
            raise CallerError(
                f"{length} bytes at {offset} are not all in {name}, which has {size}",
                argument="offset",
                value=(offset, length),
                limit=size,
            )
        return index

    def _store_of(self, side: int, act: Act) -> Store:
        """The store that an act puts into its side's buffer, made once."""
        store = self._stores.get((side, act))
        if store is None:
            make = self._store_of_word if act.kind is ActKind.STORE else self._store_of_bytes
            store = self._stores[side, act] = make(side, act)
        return store

    def _store_of_word(self, side: int, act: Act) -> Store:
        store = Store(act.place, self.word_index(act.place), act.value, -1, 0, b"")
        for number, wish in enumerate(self.wishes):
            held, _, fresh, answered = self.bits_of(number)
            if wish.side == side and act.place == wish.anew:
                store.keeps &= ~(fresh | answered)
            if wish.side == side and act.place in (wish.word, wish.ends):
                store.keeps &= ~(held | fresh | answered)
                if act.place == wish.word and wish.says(act.value):
                    store.sets |= held
        return store

    def _store_of_bytes(self, _: int, act: Act) -> Store:
        area = self._checked_area(act.place, act.offset, len(act.data))
        return Store(act.place, -1, 0, area, act.offset, act.data)


def index_of(indices: Mapping[str, int], name: str, what: str) -> int:
    index = indices.get(name)
    if index is None:
        raise CallerError(
            f"there is no {what} {name!r}: {', '.join(indices) or 'none at all'}",
            argument=what,
            value=name,
            limit=", ".join(indices),
        )
    return index
