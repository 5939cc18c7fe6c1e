"""A schedule that goes wrong, told in two columns: the left side's steps, and the right side's.

A store stands where the side does it, and again, indented, where the other side can see it.  Bytes are
told by where they lie and how many they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from linecache import getline
from pathlib import PurePath
from typing import Any, NamedTuple

from .buffers import Store
from .machine import Move, State, Violation, ViolationKind
from .shared import CLOSED, TOLD, World
from .sides import Node
from .steps import Act, ActKind, StepKind

__all__ = ["tell"]

#: Characters of the left column.
COLUMN = 44


class Tale(NamedTuple):
    """What is told: the states on the way, and the moves between them."""

    world: World
    names: tuple[str, str]
    violation: Violation
    trail: Sequence[State]
    moves: Sequence[Move]


def tell(
    world: World,
    names: tuple[str, str],
    violation: Violation,
    trail: Sequence[State],
    moves: Sequence[Move],
) -> str:
    """The story of what went wrong."""
    tale = Tale(world, names, violation, trail, moves)
    lines = [f"{names[0]:<{COLUMN}}{names[1]}", ""]
    lines += [f"{'':{COLUMN * side}}{text}" for side, text in Teller(tale).lines()]
    return "\n".join([*lines, "", *ending(tale), ""])


class Teller:
    """Goes along a trail and says what each side does."""

    def __init__(self, tale: Tale) -> None:
        self.tale = tale
        self.world = tale.world
        self.asleep = [False, False]

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each line with the side whose it is."""
        trail = self.tale.trail
        for side in (0, 1):
            yield from self.passed(side, None, trail[0])
        for state, move in zip(trail, self.tale.moves, strict=False):
            for text in self.moved(state, move):
                yield move.side, text
            if move.violation is not None and move.violation.kind is ViolationKind.NEEDLESS_SIGNAL:
                return
            yield from self.passed(move.side, state.node(move.side), move.after)

    def moved(self, state: State, move: Move) -> Iterator[str]:
        """The step itself."""
        node = state.node(move.side)
        if move.store is not None:
            yield f"  {self.stored(move.store)} visible"
            return
        answer = answer_before(move.after.node(move.side), node)
        kind = node.kind
        if kind is StepKind.LOAD:
            yield f"load {node.question.place} -> {self.value(node.question.place, answer)}"
        elif kind is StepKind.READ:
            asked = node.question
            yield f"read {bytes_at(asked.place, asked.offset, asked.length)}"
        elif kind is StepKind.NOTIFY:
            yield "signal"
        elif kind is StepKind.WAIT:
            if not (state.bits & TOLD[move.side] or answer):
                yield "wakes for nothing"
            elif self.asleep[move.side]:
                yield "wakes"
            self.asleep[move.side] = False
        elif kind is StepKind.POLL:
            yield "looks for a signal: " + ("there is one" if answer[0] else "there is none")
        elif kind is StepKind.CLOSE:
            yield "close"

    def passed(self, side: int, before: Node | None, state: State) -> Iterator[tuple[int, str]]:
        """What the side does on its own between one node and another, and where it then stands."""
        node = state.node(side)
        if node is before:
            return
        between = []
        step: Node | None = node
        while step is not None and step is not before and not begins_at(step):
            between.append(step)
            step = step.parent
        for number, one in enumerate(reversed(between)):
            if number or (before is not None and before.kind is StepKind.FENCE):
                yield side, "fence"
            for act in one.acts:
                yield side, self.acted(act)
        if node.kind is StepKind.WAIT:
            told = state.bits & (TOLD[side] | CLOSED[side])
            self.asleep[side] = not told
            yield side, "does not sleep: it has been signaled" if told else "sleep"
        elif node.kind is StepKind.END:
            yield side, "ends"
        elif node.kind is StepKind.FAILED:
            yield side, "fails"

    def acted(self, act: Act) -> str:
        if act.kind is ActKind.STORE:
            return f"store {act.place} = {self.value(act.place, act.value)}"
        if act.kind is ActKind.WRITE:
            return f"write {bytes_at(act.place, act.offset, len(act.data))}"
        if act.kind is ActKind.RELEASE:
            return "release"
        if act.kind is ActKind.WAKE:
            return "keeps itself from sleeping"
        return f"-- {act.text}"

    def stored(self, store: Store) -> str:
        if store.word >= 0:
            return f"{store.name} = {self.value(store.name, store.value)} is"
        return f"{bytes_at(store.name, store.offset, len(store.data))} are"

    def value(self, word: str, value: int) -> str:
        return self.world.words[word].show(value)


def begins_at(node: Node) -> bool:
    """Whether a node is from before the exploration began."""
    return node.kind is StepKind.BEGIN


def answer_before(node: Node, before: Node) -> Any:
    """The answer with which a side went on from `before`, on its way to `node`."""
    while node.parent is not before:
        assert node.parent is not None
        node = node.parent
    return node.answer


def bytes_at(area: str, offset: int, length: int) -> str:
    return f"{length} bytes at {offset:#06x} of {area}"


# -- the sentence at the end -------------------------------------------------------------------


def ending(tale: Tale) -> Iterator[str]:
    """What is wrong, and what can be seen of it in memory."""
    kind, side = tale.violation
    name, other = tale.names[side], tale.names[1 - side]
    last = tale.trail[-1]
    if kind is ViolationKind.FAILED:
        yield f"The {name} failed: {failure(last.node(side))}"
    elif kind is ViolationKind.NEEDLESS_SIGNAL:
        yield f"The {name} signals, and {needless(tale, side, other)}."
    else:
        what = "has ended" if last.node(1 - side).kind is StepKind.END else "sleeps as well"
        yield f"The {name} sleeps for ever: no signal is on its way, and the {other} {what}."
    values = dict(zip(tale.world.words, last.memory.values, strict=True))
    words = changed_words(tale.world, values)
    if words:
        yield f"All can see: {words}."
    yield from tale.world.explain(values)


def failure(node: Node) -> str:
    """What a side raised, and where: the file's name, the line, and what stands there."""
    kind, text = type(node.error).__name__, str(node.error)
    said = f"{kind}: {text}" if text else kind
    if node.raised is None:
        return said
    file, line = node.raised
    code = getline(file, line).strip()
    return f"{said} ({PurePath(file).name}, line {line}{f': {code}' if code else ''})"


def needless(tale: Tale, side: int, other: str) -> str:
    """Why a signal was not called for."""
    wishes = [wish for wish in tale.world.wishes if wish.side != side]
    words = list(dict.fromkeys(wish.word for wish in wishes))
    renewing = {word for wish in wishes for word in wish.renewing}
    which = " or ".join(words)
    for state, move in zip(tale.trail[-3::-1], tale.moves[-2::-1], strict=False):
        if move.side != side or move.store is not None:
            continue
        stored = newest_store(move.after.node(side), state.node(side), renewing)
        if stored:
            return f"it has not loaded {which} since it stored {stored}: it cannot know that one is wanted"
        node = state.node(side)
        if node.kind is StepKind.NOTIFY:
            return f"it has signaled already and not loaded {which} since"
        if node.kind is StepKind.LOAD and node.question.place in words:
            if state.bits & answered_bits(tale.world, node.question.place):
                return f"the {other} has been told already, and has not yet looked"
            return f"when it loaded {node.question.place} the {other} did not wait for one"
    return f"it has not loaded {which}: it cannot know that one is wanted"


def newest_store(node: Node, before: Node, words: set[str]) -> str:
    """The word of these that a side stored last on its way from one node to another; empty for none."""
    while node is not before:
        for act in reversed(node.acts):
            if act.kind is ActKind.STORE and act.place in words:
                return act.place
        assert node.parent is not None
        node = node.parent
    return ""


def answered_bits(world: World, word: str) -> int:
    """The bits that say of the wishes a word tells of that they have been answered."""
    return sum(
        world.bits_of(number).answered for number, wish in enumerate(world.wishes) if wish.word == word
    )


def changed_words(world: World, values: Mapping[str, int]) -> str:
    """The words that are not as they were at the start."""
    return ", ".join(
        f"{name} = {word.show(values[name])}"
        for name, word in world.words.items()
        if values[name] != word.value
    )
