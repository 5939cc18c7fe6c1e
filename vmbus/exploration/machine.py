"""The machine that an exploration goes through: a state, and all that can happen next in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import NamedTuple

from vmbus.errors import CallerError

from .buffers import Memory, Store, StoreBuffer
from .shared import CLOSED, TOLD, World
from .sides import Node, Script, Tree
from .steps import BEGIN, FENCE, StepKind

__all__ = ["Machine", "Move", "State", "Violation", "ViolationKind"]

#: Makes what is made for every move, a State and a Move: calling these takes far longer.
new_tuple = tuple.__new__


class State(NamedTuple):
    """All that the rest of a schedule depends on.

    left, right                 where the two sides stand
    left_buffer, right_buffer   what each has stored and the other does not see yet
    memory                      what both see
    bits                        who has been told to wake, which wishes hold, and so on (see shared.py)
    """

    left: Node
    right: Node
    left_buffer: StoreBuffer
    right_buffer: StoreBuffer
    memory: Memory
    bits: int

    def node(self, side: int) -> Node:
        """Where that side stands."""
        return self.right if side else self.left

    def buffer(self, side: int) -> StoreBuffer:
        """What that side alone sees."""
        return self.right_buffer if side else self.left_buffer

    def changed(self, side: int, node: Node, buffer: StoreBuffer, memory: Memory, bits: int) -> State:
        """This state once that side has gone on; the other side stands where it stood."""
        if side:
            return new_tuple(State, (self.left, node, self.left_buffer, buffer, memory, bits))
        return new_tuple(State, (node, self.right, buffer, self.right_buffer, memory, bits))


class ViolationKind(Enum):
    """What can be found."""

    SLEEPS_FOREVER = "a side sleeps for ever"
    FAILED = "a script failed"
    NEEDLESS_SIGNAL = "a signal that nobody wished for"


Answered = tuple[Hashable, int, bool]


class Violation(NamedTuple):
    """What went wrong first.

    side   who sleeps, failed or signaled: 0 for the left side, 1 for the right
    """

    kind: ViolationKind
    side: int


class Move(NamedTuple):
    """One step from a state.

    side    whose: 0 or 1
    store   of that side, which becomes visible; None where the side does a step
    after   the state behind it
    """

    side: int
    store: Store | None
    after: State
    violation: Violation | None


class Machine:
    """The machine: from a state to those behind it."""

    def __init__(self, left: Script, right: Script, world: World) -> None:
        self.world = world
        self.trees = (Tree(0, left, world), Tree(1, right, world))

    # -- one side ----------------------------------------------------------------------------

    def go_on(self, side: int, state: State, answer: Hashable, bits: int) -> State:
        """The state in which a side has got the answer to its question; `bits` are those from then on."""
        node, buffer = state.node(side), state.buffer(side)
        while True:
            following = node.answers.get(answer)
            if following is None:
                following = self.trees[side].grow(node, answer)
            node = following
            bits = (bits & node.keeps) | node.sets
            for store in node.stores:
                buffer = buffer.push(store)
            if node.question is not FENCE or buffer.stores:
                return state.changed(side, node, buffer, state.memory, bits)
            answer = None

    def make_visible(self, side: int, state: State, store: Store, rest: StoreBuffer) -> State:
        """The state in which a store of a side can be seen, and `rest` is left in its buffer."""
        node = state.node(side)
        bits = (state.bits & store.keeps) | store.sets
        following = state.changed(side, node, rest, state.memory.after(store), bits)
        if node.question is FENCE and not rest.stores:
            return self.go_on(side, following, None, bits)
        return following

    def step(self, side: int, state: State) -> Move | None:
        """What a side does next; None where it cannot."""
        node = state.node(side)
        answer_of = ANSWERS.get(node.kind)
        if answer_of is None:
            return None
        found = answer_of(self, side, state, node)
        if found is None:
            return None
        answer, bits, needless = found
        violation = Violation(ViolationKind.NEEDLESS_SIGNAL, side) if needless else None
        return self.judged(side, None, self.go_on(side, state, answer, bits), violation)

    def judged(self, side: int, store: Store | None, after: State, violation: Violation | None) -> Move:
        if violation is None and after.node(side).error is not None:
            violation = Violation(ViolationKind.FAILED, side)
        return new_tuple(Move, (side, store, after, violation))

    # -- what a step answers: the answer, the bits behind it, and whether it is a needless signal ----

    def load(self, side: int, state: State, node: Node) -> Answered:
        answer = state.buffer(side).newest.get(node.place)
        if answer is None:
            answer = state.memory.values[node.place]
        bits = state.bits
        for held, heard in node.looks:
            if bits & held:
                bits |= heard
        return answer, bits, False

    def read(self, side: int, state: State, node: Node) -> Answered:
        _, _, offset, length = node.question
        data = state.memory.areas[node.place][offset : offset + length]
        return state.buffer(side).over(node.place, data, offset), state.bits, False

    def notify(self, side: int, state: State, _: Node) -> Answered:
        bits, wished = self.world.signal(side, state.bits)
        return None, bits | TOLD[1 - side], not wished

    def wait(self, side: int, state: State, _: Node) -> Answered | None:
        bits = state.bits
        if bits & (TOLD[side] | CLOSED[side]):
            return bool(bits & CLOSED[side]), bits & ~TOLD[side], False
        if bits >= self.world.one_wake:
            return False, bits - self.world.one_wake, False
        return None

    def poll(self, side: int, state: State, _: Node) -> Answered:
        told, closed = state.bits & (TOLD[side] | CLOSED[side]), state.bits & CLOSED[side]
        return (bool(told), bool(closed)), state.bits & ~TOLD[side], False

    def close(self, side: int, state: State, _: Node) -> Answered:
        return None, state.bits | TOLD[1 - side] | CLOSED[1 - side], False

    # -- both --------------------------------------------------------------------------------

    def moves(self, state: State) -> list[Move]:
        """All that can happen next."""
        found = []
        for side in (0, 1):
            move = self.step(side, state)
            if move is not None:
                found.append(move)
            for store, rest in state.buffer(side).choices:
                found.append(self.judged(side, store, self.make_visible(side, state, store, rest), None))
        return found

    def move_to(self, state: State, after: State) -> Move:
        """The move that leads from one state to the next."""
        return next(move for move in self.moves(state) if move.after == after)

    def start(self, spurious_wakes: int) -> State:
        """The first state: what comes before a `yield` has been done, one side behind the other."""
        world = self.world
        left, right = (tree.root for tree in self.trees)
        bits = world.first_bits(spurious_wakes)
        for root in (left, right):
            bits = (bits & root.keeps) | root.sets
        left_buffer, right_buffer = (world.empty_buffer.of(root.stores) for root in (left, right))
        state = State(left, right, left_buffer, right_buffer, world.memory, bits)
        for side in (0, 1):
            if state.node(side).question is FENCE and not state.buffer(side).stores:
                state = self.go_on(side, state, None, state.bits)
        return self.after_begin(state)

    def after_begin(self, state: State) -> State:
        """The state in which each side that has a `yield` has come to it, and then goes on from there."""
        begins = [side for side in (0, 1) if self.trees[side].begins]
        for side in begins:
            state = self.alone_to_its_yield(side, state)
        for side in begins:
            state = self.go_on(side, state, None, state.bits)
        return state

    def alone_to_its_yield(self, side: int, state: State) -> State:
        while state.buffer(side).stores or state.node(side).question is not BEGIN:
            if state.buffer(side).stores:
                state = self.make_visible(side, state, *state.buffer(side).choices[0])
                continue
            move = self.step(side, state)
            if move is None:
                raise CallerError(
                    f"the {('left', 'right')[side]} side ends, fails or sleeps before its yield",
                    argument="script",
                    value=state.node(side),
                    limit="a script that reaches its yield alone",
                ) from state.node(side).error
            state = move.after
        return state


#: Where each step gets its answer.  The others have none: a fence ends with the store before it.
ANSWERS: dict[StepKind, Callable[[Machine, int, State, Node], Answered | None]] = {
    StepKind.LOAD: Machine.load,
    StepKind.READ: Machine.read,
    StepKind.NOTIFY: Machine.notify,
    StepKind.WAIT: Machine.wait,
    StepKind.POLL: Machine.poll,
    StepKind.CLOSE: Machine.close,
}
