"""Every schedule of two sides, over memory that reorders as x86-64 does, or more.

A schedule is the order of the steps of both sides that the other can notice: a load, a read, a signal,
a sleep that ends, and a store that becomes visible.  All orders are gone through, breadth first, and
what led to the same state is gone on with once; the schedules are counted all the same.  What a side
does between two such steps (storing into its own buffer, a fence once that is empty) makes no
difference to the other, so it is done together with the step before.

With `stores_pass_stores` a store may become visible before earlier ones to other places, as on SPARC's
partial store order, unless a release stands between them; the stores to one place keep their order.  So
a release that is missing before the store that publishes something is found.

Limits.  What is not explored:
  * loads that overtake earlier loads, and stores that overtake earlier loads: weaker machines, as arm64.
    So an acquire that is missing is not found, nor a release that only keeps a store behind loads: that
    these stand where they must is held by comparing the recorded order of all accesses with a table;
  * stores that overtake stores, without `stores_pass_stores`;
  * a store that one processor sees before another does: there are two sides, and both see one memory;
  * compilers and interpreters: the code runs in the order in which it stands;
  * a read or write of bytes that is seen in part: each happens at one moment;
  * the order that a signal or a sleep may impose on a real machine: here neither is a fence;
  * time: a wait has no limit and the clock stands still;
  * wakes for nothing, but for the number given as `spurious_wakes`.

Always checked: no side sleeps for ever, no script raises; where wishes are given, no signal is sent
that nobody wished for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .machine import Machine, State, Violation, ViolationKind
from .shared import Explain, Wish, Word, World, say_nothing
from .sides import Node, Script
from .steps import StepKind
from .story import tell

__all__ = ["MAXIMUM_STATES", "MAXIMUM_STEPS", "Progress", "Result", "explore_sides", "name_of"]

#: Where an exploration ends on its own: each state takes about 250 bytes of memory.
MAXIMUM_STATES = 2_000_000

#: The same for the steps of one schedule: one that is longer goes round for ever, most likely.
MAXIMUM_STEPS = 500

Progress = Callable[[int, int], object]


class Visit:
    """How often a state was come to, and the best way there: the one that changes sides least."""

    __slots__ = ("before", "changes", "side", "ways")

    def __init__(self, ways: int, before: State | None, side: int, changes: int) -> None:
        self.ways = ways
        self.before = before
        self.side = side
        self.changes = changes


class Result:
    """What an exploration found.

    names         of the two sides
    states        how many different states were met
    schedules     how many schedules there are from the start to an end, all of them gone through;
                  where `complete` is False, only those that had ended by then
    steps         of the longest schedule so far
    complete      True when nothing was left out: no violation, and not too many states or steps
    outcomes      what the two scripts returned, and in how many schedules
    violation     None where nothing is wrong in what was explored
    trail         the states on the shortest way to the violation
    """

    def __init__(self, machine: Machine, names: tuple[str, str]) -> None:
        self._machine = machine
        self.names = names
        self.states = 1
        self.schedules = 0
        self.steps = 0
        self.complete = False
        self.outcomes: Counter[tuple[object, object]] = Counter()
        self.violation: Violation | None = None
        self.trail: list[State] = []

    @property
    def histories(self) -> tuple[int, int]:
        """How many different histories each side had: its script was run so often."""
        left, right = self._machine.trees
        return left.size, right.size

    def story(self) -> str:
        """The shortest schedule that goes wrong, a line a step; empty where nothing did."""
        if self.violation is None:
            return ""
        moves = [self._machine.move_to(*pair) for pair in zip(self.trail, self.trail[1:], strict=False)]
        return tell(self._machine.world, self.names, self.violation, self.trail, moves)

    def summary(self) -> str:
        """One line about it."""
        how = "complete" if self.complete else "not complete"
        what = "nothing wrong" if self.violation is None else self.violation.kind.value
        return f"{self.states} states, {self.schedules} schedules, {self.steps} steps at most, {how}: {what}"

    def __repr__(self) -> str:
        return f"<Result: {self.summary()}>"


class FoundViolation(NamedTuple):
    """A violation that was come to.

    changes   of sides on the way
    after     the state behind the step that went wrong; None where there is no step any more
    """

    changes: int
    state: State
    after: State | None
    violation: Violation


class Search:
    """Goes through the states of a machine, those that are equally many steps away together.

    All ways to a state are equally long: every step and every store that can be seen is counted in it.
    So a layer is done with once it has been gone through, and nothing is come to twice.
    """

    def __init__(self, machine: Machine, result: Result) -> None:
        self.machine = machine
        self.result = result
        self.layers: list[dict[State, Visit]] = []

    def run(self, first: State, maximum_states: int, maximum_steps: int, progress: Progress | None) -> None:
        """Go through all schedules, until something is wrong or there are too many states or steps."""
        result = self.result
        self.layers = [{first: Visit(1, None, 0, 0)}]
        failed = [side for side in (0, 1) if first.node(side).kind is StepKind.FAILED]
        if failed:
            self.stop(FoundViolation(0, first, None, Violation(ViolationKind.FAILED, failed[0])))
            return
        while self.layers[-1]:
            layer: dict[State, Visit] = {}
            found = self.next_layer(layer)
            if found is not None:
                self.stop(found)
                return
            result.states += len(layer)
            result.steps = len(self.layers) - (not layer)
            self.layers.append(layer)
            if progress is not None:
                progress(result.steps, result.states)
            if result.states > maximum_states or result.steps > maximum_steps:
                return
        result.complete = True

    def next_layer(self, layer: dict[State, Visit]) -> FoundViolation | None:
        """Fill in all states that are one step further; what went wrong on the way."""
        moves_of = self.machine.moves
        found: list[FoundViolation] = []
        for state, visit in self.layers[-1].items():
            moves = moves_of(state)
            if not moves:
                found += self.at_the_end(state, visit)
            for side, _, after, violation in moves:
                changes = visit.changes + (side != visit.side)
                if violation is not None:
                    found.append(FoundViolation(changes, state, after, violation))
                known = layer.get(after)
                if known is None:
                    layer[after] = Visit(visit.ways, state, side, changes)
                    continue
                known.ways += visit.ways
                if changes < known.changes:
                    known.before, known.side, known.changes = state, side, changes
        return min(found, key=lambda one: one.changes, default=None)

    def at_the_end(self, state: State, visit: Visit) -> list[FoundViolation]:
        """Nothing can happen any more: both sides have ended, or one sleeps for ever."""
        for side in (0, 1):
            if state.node(side).kind is not StepKind.END:
                return [
                    FoundViolation(visit.changes, state, None, Violation(ViolationKind.SLEEPS_FOREVER, side))
                ]
        self.result.schedules += visit.ways
        self.result.outcomes[outcome_of(state.left), outcome_of(state.right)] += visit.ways
        return []

    def stop(self, found: FoundViolation) -> None:
        """Keep the way to what went wrong."""
        trail = [] if found.after is None else [found.after]
        state: State | None = found.state
        for layer in reversed(self.layers):
            assert state is not None
            trail.append(state)
            state = layer[state].before
        self.result.trail = trail[::-1]
        self.result.violation = found.violation


def outcome_of(node: Node) -> object:
    """What a script returned, as something that can be counted."""
    try:
        hash(node.result)
    except TypeError:
        return repr(node.result)
    return node.result


def explore_sides(
    left: Script,
    right: Script,
    *,
    words: Mapping[str, Word | int] | None = None,
    areas: Mapping[str, bytes] | None = None,
    wishes: Sequence[Wish] = (),
    explain: Explain = say_nothing,
    names: tuple[str, str] | None = None,
    spurious_wakes: int = 0,
    stores_pass_stores: bool = False,
    maximum_states: int = MAXIMUM_STATES,
    maximum_steps: int = MAXIMUM_STEPS,
    progress: Progress | None = None,
) -> Result:
    """Go through every schedule of two scripts.

    left, right          each a function of a Side
    words                what they share: names, with first values
    areas                names, with first bytes
    wishes               when a signal is wanted; without any, every signal is taken for good
    explain              sentences about the words as they are when something is wrong, for the story
    names                of the sides, for the story; otherwise those of the functions
    spurious_wakes       how often, in one schedule, a wait may end for nothing
    stores_pass_stores   whether a store may become visible before earlier ones to other places
    maximum_states       the exploration ends, not complete, when it has met more
    maximum_steps        the same for a schedule that is longer
    progress             called with the number of steps so far and of states

    The store buffers show: each side may load before the other sees what it stored.

    >>> def left(side):
    ...     side.store("x", 1)
    ...     return side.load("y")
    >>> def right(side):
    ...     side.store("y", 1)
    ...     return side.load("x")
    >>> sorted(explore_sides(left, right, words={"x": 0, "y": 0}).outcomes)
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    world = World(words or {}, areas or {}, wishes, explain, stores_pass_stores)
    machine = Machine(left, right, world)
    result = Result(machine, names or (name_of(left, "left"), name_of(right, "right")))
    Search(machine, result).run(machine.start(spurious_wakes), maximum_states, maximum_steps, progress)
    return result


def name_of(script: Callable[..., object], otherwise: str) -> str:
    name = getattr(script, "__name__", otherwise)
    return name if name.isidentifier() else otherwise
