"""The machine that an exploration goes through: a state, and all that can happen next in it.

A state is the Nodes of the two sides, their store Buffers, the visible Memory, and bits: who has been
told to wake, which wishes hold, and so on (see shared.py).
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Any, NamedTuple

from vmbus.errors import CallerError

from .shared import CLOSED, TOLD, Buffer, Memory, World
from .sides import Kind, Node, Script, Tree

__all__ = ["Machine", "Move", "State", "Violation", "ViolationKind"]

#: Left node, right node, left buffer, right buffer, memory, bits.
State = tuple[Any, ...]


class ViolationKind(Enum):
    """What can be found."""

    SLEEPS_FOREVER = "a side sleeps for ever"
    FAILED = "a script failed"
    NEEDLESS_SIGNAL = "a signal that nobody wished for"


class Violation(NamedTuple):
    """What went wrong first.

    side   who sleeps, failed or signaled: 0 for the left side, 1 for the right
    """

    kind: ViolationKind
    side: int


class Move(NamedTuple):
    """One step from a state.

    side      whose: 0 or 1
    visible   True where a store of that side becomes visible, False where the side does a step
    after     the state behind it
    """

    side: int
    visible: bool
    after: State
    violation: Violation | None


class Machine:
    """The machine: from a state to those behind it."""

    def __init__(self, left: Script, right: Script, world: World) -> None:
        self.world = world
        self.trees = (Tree(0, left, world), Tree(1, right, world))

    # -- one side ----------------------------------------------------------------------------

    def go_on(self, side: int, state: State, answer: Hashable, bits: int, memory: Memory) -> State:
        """The state in which a side has got the answer to its question."""
        node: Node = state[side]
        buffer: Buffer = state[2 + side]
        while True:
            following = node.answers.get(answer)
            if following is None:
                following = self.trees[side].grow(node, answer)
            node = following
            bits = bits & node.keeps | node.sets
            for store in node.stores:
                buffer = buffer.push(store)
            if node.kind is not Kind.FENCE or buffer.stores:
                break
            answer = None
        if side:
            return (state[0], node, state[2], buffer, memory, bits)
        return (node, state[1], buffer, state[3], memory, bits)

    def make_visible(self, side: int, state: State) -> State:
        """The state in which the oldest store of a side can be seen."""
        buffer: Buffer = state[2 + side]
        store = buffer.first
        memory = state[4].after(store)
        bits = state[5] & store.keeps | store.sets
        rest = buffer.rest
        node: Node = state[side]
        if side:
            following = (state[0], state[1], state[2], rest, memory, bits)
        else:
            following = (state[0], state[1], rest, state[3], memory, bits)
        if not rest.stores and node.kind is Kind.FENCE:
            return self.go_on(side, following, None, bits, memory)
        return following

    def step(self, side: int, state: State) -> Move | None:
        """What a side does next; None where it cannot."""
        node: Node = state[side]
        kind = node.kind
        memory, bits = state[4], state[5]
        violation = None
        answer: Hashable = None
        if kind is Kind.LOAD:
            buffer: Buffer = state[2 + side]
            answer = buffer.newest.get(node.place)
            if answer is None:
                answer = memory.values[node.place]
            for held, heard in node.looks:
                if bits & held:
                    bits |= heard
        elif kind is Kind.READ:
            _, _, offset, length = node.question
            data = memory.areas[node.place][offset : offset + length]
            answer = state[2 + side].over(node.place, data, offset)
        elif kind is Kind.NOTIFY:
            bits, wished = self.world.signal(side, bits)
            if not wished:
                violation = Violation(ViolationKind.NEEDLESS_SIGNAL, side)
            bits |= TOLD[1 - side]
        elif kind is Kind.WAIT:
            if bits & (TOLD[side] | CLOSED[side]):
                answer = bool(bits & CLOSED[side])
                bits &= ~TOLD[side]
            elif bits >= self.world.one_wake:
                answer = False
                bits -= self.world.one_wake
            else:
                return None
        elif kind is Kind.POLL:
            answer = (bool(bits & (TOLD[side] | CLOSED[side])), bool(bits & CLOSED[side]))
            bits &= ~TOLD[side]
        elif kind is Kind.CLOSE:
            bits |= TOLD[1 - side] | CLOSED[1 - side]
        else:
            return None
        return self.judged(side, False, self.go_on(side, state, answer, bits, memory), violation)

    def judged(self, side: int, visible: bool, after: State, violation: Violation | None) -> Move:
        if after[side].kind is Kind.FAILED:
            violation = violation or Violation(ViolationKind.FAILED, side)
        return Move(side, visible, after, violation)

    # -- both --------------------------------------------------------------------------------

    def moves(self, state: State) -> list[Move]:
        """All that can happen next."""
        found = []
        for side in (0, 1):
            move = self.step(side, state)
            if move is not None:
                found.append(move)
            if state[2 + side].stores:
                found.append(self.judged(side, True, self.make_visible(side, state), None))
        return found

    def move_to(self, state: State, after: State) -> Move:
        """The move that leads from one state to the next."""
        return next(move for move in self.moves(state) if move.after == after)

    def start(self, spurious_wakes: int) -> State:
        """The first state: what comes before a `yield` has been done, one side behind the other."""
        world = self.world
        left, right = (tree.root for tree in self.trees)
        state: State = (left, right, world.buffer, world.buffer, world.memory, 0)
        bits = world.first_bits(spurious_wakes)
        for side, root in enumerate((left, right)):
            buffer = world.buffer
            for store in root.stores:
                buffer = buffer.push(store)
            bits = bits & root.keeps | root.sets
            state = (*state[: 2 + side], buffer, *state[3 + side :])
        state = (*state[:5], bits)
        for side in (0, 1):
            if not state[2 + side].stores and state[side].kind is Kind.FENCE:
                state = self.go_on(side, state, None, state[5], state[4])
        return self.after_begin(state)

    def after_begin(self, state: State) -> State:
        begins = [tree.begins for tree in self.trees]
        for side in (0, 1):
            while begins[side] and not (state[side].kind is Kind.BEGIN and not state[2 + side].stores):
                if state[2 + side].stores:
                    state = self.make_visible(side, state)
                    continue
                move = self.step(side, state)
                if move is None:
                    raise CallerError(
                        f"the {('left', 'right')[side]} side ends, fails or sleeps before its yield",
                        argument="script",
                        value=state[side],
                        limit="a script that reaches its yield alone",
                    ) from state[side].error
                state = move.after
        for side in (0, 1):
            if begins[side]:
                state = self.go_on(side, state, None, state[5], state[4])
        return state
