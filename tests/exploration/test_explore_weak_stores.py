"""Stores that pass stores: what a missing release does is found then, and what has its releases is sound.

Expected texts are tests/expected_output/explore-weak-*.txt: the stories of some changes.  After a wanted
change write them anew, and read each before it is kept:

    python -m tests.exploration.test_explore_weak_stores
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.exploration.changed_package import Change, changed_package
from tests.exploration.test_explore import EXPLORATIONS as CHANNELS
from tests.exploration.test_explore_queues import KINDS, QUEUES
from tests.exploration.test_explore_sides import program
from vmbus.exploration import ViolationKind, channel_sides, explore, explore_queue, explore_sides, queue_sides

EXPECTED = Path(__file__).parent.parent / "expected_output"

FAILED = ViolationKind.FAILED

STORE_X, STORE_Y, STORE_X_TWICE = ("store", "x", 1), ("store", "y", 1), ("store", "x", 2)
LOAD_X, LOAD_Y = ("load", "x"), ("load", "y")
FENCE, RELEASE = ("fence",), ("release",)


def outcomes(left, right, *, weak=True):
    """All outcomes of two programs, without violation and to the end."""
    result = explore_sides(program(*left), program(*right), words={"x": 0, "y": 0}, stores_pass_stores=weak)
    assert result.complete, result.story()
    assert sum(result.outcomes.values()) == result.schedules
    return {first + second for first, second in result.outcomes}


# -- what may pass what ----------------------------------------------------------------------------


def test_a_flag_may_be_seen_before_the_data_that_was_stored_before_it_and_only_then():
    assert (1, 0) in outcomes([STORE_X, STORE_Y], [LOAD_Y, LOAD_X])
    assert (1, 0) not in outcomes([STORE_X, STORE_Y], [LOAD_Y, LOAD_X], weak=False)


@pytest.mark.parametrize("between", [RELEASE, FENCE])
def test_behind_a_release_or_a_fence_the_flag_comes_last(between):
    assert outcomes([STORE_X, between, STORE_Y], [LOAD_Y, LOAD_X]) == {(0, 0), (0, 1), (1, 1)}


def test_a_release_keeps_stores_in_order_and_no_load_behind_them():
    """So it is no fence, and one that is missing is found although there is a release."""
    found = outcomes([STORE_X, RELEASE, LOAD_Y], [STORE_Y, RELEASE, LOAD_X])
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_release_in_front_of_both_stores_orders_neither():
    assert (1, 0) in outcomes([RELEASE, STORE_X, STORE_Y], [LOAD_Y, LOAD_X])


def test_a_release_keeps_its_place_while_nothing_is_stored_behind_it_yet():
    assert (1, 0) not in outcomes([STORE_X, RELEASE, LOAD_Y, STORE_Y], [LOAD_Y, LOAD_X])


def test_stores_to_one_word_are_seen_in_their_order():
    found = outcomes([STORE_X, STORE_X_TWICE], [LOAD_X, LOAD_X])
    assert found == {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}


def test_a_side_sees_its_own_newest_store_whatever_passes_what():
    assert {seen[0] for seen in outcomes([STORE_X, STORE_Y, STORE_X_TWICE, LOAD_X], [])} == {2}


def test_bytes_that_overlap_keep_their_order_and_others_do_not():
    def writer(side):
        side.write("data", 0, b"ab")
        side.write("data", 1, b"B")
        side.write("data", 2, b"c")
        side.write("other", 0, b"!")

    def reader(side):
        return side.read("other", 0, 1) + side.read("data", 0, 3)

    result = explore_sides(writer, reader, areas={"data": b"...", "other": b"."}, stores_pass_stores=True)
    data = {b"...", b"..c", b"ab.", b"abc", b"aB.", b"aBc"}
    assert {seen for _, seen in result.outcomes} == {first + rest for first in (b".", b"!") for rest in data}


def test_loads_pass_no_loads_and_stores_pass_no_loads():
    """The limits that are stated: a machine that does this reorders more than is explored."""
    assert (1, 0) not in outcomes([STORE_X, FENCE, STORE_Y], [LOAD_Y, LOAD_X])
    assert (1, 1) not in outcomes([LOAD_X, STORE_Y], [LOAD_Y, STORE_X])


# -- compared with a plain enumeration -------------------------------------------------------------


class Plain:
    """Every schedule of two programs over loose buffers, one by one, with nothing merged or left out.

    outcomes   what was loaded, and in how many schedules
    """

    def __init__(self, programs):
        self.programs = programs
        self.outcomes = Counter()
        self.visit(tuple(self.run_ahead(side, (0, (), ())) for side in (0, 1)), {"x": 0, "y": 0})

    def step_of(self, side, at):
        steps = self.programs[side]
        return steps[at] if at < len(steps) else ("end",)

    def run_ahead(self, side, state):
        """What needs nobody is done with the step before, as the explorer does it."""
        while True:
            at, buffer, loaded = state
            name, *arguments = self.step_of(side, at)
            if name in ("store", "release"):
                state = (at + 1, (*buffer, tuple(arguments)), loaded)
            elif name == "fence" and not any(buffer):
                state = (at + 1, (), loaded)
            else:
                return state

    def visit(self, sides, memory):
        found = [(side, *move) for side in (0, 1) for move in self.moves(side, sides[side], memory)]
        for side, state, changed in found:
            after = self.run_ahead(side, state)
            self.visit((after, sides[1]) if side == 0 else (sides[0], after), changed)
        if not found:
            self.outcomes[sides[0][2], sides[1][2]] += 1

    def moves(self, side, state, memory):
        at, buffer, loaded = state
        for number, store in enumerate(buffer):
            earlier = buffer[:number]
            held_back = any(earlier) and () in earlier[next(i for i, one in enumerate(earlier) if one) :]
            if store and not held_back and all(one[:1] != store[:1] for one in earlier):
                yield (at, (*earlier, *buffer[number + 1 :]), loaded), {**memory, store[0]: store[1]}
        name, *arguments = self.step_of(side, at)
        if name == "load":
            seen = {**memory, **dict(store for store in buffer if store)}[arguments[0]]
            yield (at + 1, buffer, (*loaded, seen)), memory


STORES = [STORE_X, STORE_Y, STORE_X_TWICE, ("store", "y", 2), RELEASE]
LOADS = [LOAD_X, LOAD_Y]
STEPS = [*STORES, *LOADS, FENCE]


def random_programs(seed):
    """Two programs of anything; for every second seed one that stores and one that loads."""
    draw = random.Random(seed)
    choices = (STORES, LOADS) if seed % 2 else (STEPS, STEPS)
    return tuple([draw.choice(steps) for _ in range(draw.randint(1, 5))] for steps in choices)


def test_the_schedules_are_those_of_a_plain_enumeration_and_as_many():
    passed = 0
    for seed in range(120):
        programs = random_programs(seed)
        scripts = [program(*steps) for steps in programs]
        result = explore_sides(*scripts, words={"x": 0, "y": 0}, stores_pass_stores=True)
        assert result.complete
        assert result.outcomes == Plain(programs).outcomes, programs
        in_order = explore_sides(*scripts, words={"x": 0, "y": 0})
        assert set(in_order.outcomes) <= set(result.outcomes)
        passed += set(in_order.outcomes) != set(result.outcomes)
    assert passed > 5


# -- rings, channels and queues as they are --------------------------------------------------------

SOUND_CHANNELS = (
    "two messages across the end of the ring",
    "two messages and two wakes for nothing",
    "a side that closes",
)


@pytest.mark.parametrize("name", SOUND_CHANNELS)
def test_a_channel_is_sound_where_stores_pass_stores(name):
    sides, options = CHANNELS[name]
    result = explore(*sides(), **options, stores_pass_stores=True)
    assert result.complete, result.story()


@pytest.mark.parametrize(("count", "silent"), [(1, True), (2, False)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_is_sound_where_stores_pass_stores(kind, count, silent):
    if kind == "packed, event idx":
        count = 1  # two take a second, and find nothing more
    result = explore_queue(*queue_sides(count, silent=silent), **KINDS[kind], stores_pass_stores=True)
    assert result.complete, result.story()


# -- without their releases ------------------------------------------------------------------------

RINGS = (
    *(
        "vmbus.ring.outgoing",
        "vmbus.ring.pair",
        "vmbus.ring",
        "vmbus.exploration.ring_explorer",
        "vmbus.exploration.packet_sides",
    ),
    *("vmbus.exploration.queue_explorer", "vmbus.exploration.request_sides"),
)


class Removal(NamedTuple):
    """A release that is needed, and what happens without it.

    change   of the shipped source
    kinds    of queue in which it must be found missing; of none for the ring
    """

    change: Change
    kinds: Sequence[str]


SPLIT, PACKED = ("split", "split, event idx"), ("packed", "packed, event idx")
OF_THE_RING = "        self._release()  # a call, after which an interrupt may come: nothing has moved yet"
OF_THE_DRIVER = (
    "        self._uncounted += 1\n        self._release()\n        self._available[INDEX_WORD] = index"
)
OF_THE_DEVICE = (
    "        self._uncounted += 1\n        self._release()\n        self._used[INDEX_WORD] = index"
)
OF_THE_LIST = "        self._release()\n        words[first] = first_flags"
OF_THE_SLOT = "        self._release()\n        self._words[owed[0]] = owed[1]"
OF_THE_EVENT = "            self._release()\n            self._own[EVENT_FLAGS_WORD] = AT_DESCRIPTOR"


def without_release(file: str, lines: str) -> Change:
    kept = "\n".join(line for line in lines.splitlines() if "self._release()" not in line)
    return Change(file, lines, kept or "        pass")


REMOVALS = {
    "no-release-before-in": Removal(without_release("ring/outgoing.py", OF_THE_RING), ()),
    "no-release-before-the-available-index": Removal(
        without_release("virtio/split_driver.py", OF_THE_DRIVER), SPLIT
    ),
    "no-release-before-the-used-index": Removal(
        without_release("virtio/split_device.py", OF_THE_DEVICE), SPLIT
    ),
    "no-release-before-the-flags-of-a-list": Removal(
        without_release("virtio/packed_driver.py", OF_THE_LIST), PACKED
    ),
    "no-release-before-the-flags-of-a-used-slot": Removal(
        without_release("virtio/packed_device.py", OF_THE_SLOT), PACKED
    ),
}

#: Those whose stories are kept word for word.
STORIES = ("no-release-before-in", "no-release-before-the-used-index")

#: A release whose fence behind it, with the look that follows, makes up for it: nobody sleeps for ever over it.
MADE_UP_FOR = Removal(without_release("virtio/packed_events.py", OF_THE_EVENT), ("packed, event idx",))


class Found(NamedTuple):
    """What one exploration came to."""

    kind: Any
    complete: bool
    states: int
    story: str


@cache
def explored_without(name: str, weak: bool) -> list[Found]:
    """What each exploration without that release finds."""
    return found_by(REMOVALS[name], weak)


def found_by(removal: Removal, weak: bool) -> list[Found]:
    with changed_package([removal.change], anew=QUEUES if removal.kinds else RINGS):
        if removal.kinds:
            explorer = import_module("vmbus.exploration.queue_explorer")
            sides = import_module("vmbus.exploration.request_sides").queue_sides(1)
            results = [
                explorer.explore_queue(*sides, **KINDS[kind], stores_pass_stores=weak)
                for kind in removal.kinds
            ]
        else:
            sides = import_module("vmbus.exploration.packet_sides").channel_sides(2, ready=True)
            results = [
                import_module("vmbus.exploration.ring_explorer").explore(*sides, stores_pass_stores=weak)
            ]
        return [
            Found(getattr(one.violation, "kind", None), one.complete, one.states, one.story())
            for one in results
        ]


@pytest.mark.parametrize("name", REMOVALS)
def test_a_missing_release_is_found_with_its_story(name):
    for found in explored_without(name, True):
        assert found.kind is FAILED
        assert found.states < 1000
        assert "visible" in found.story


@pytest.mark.parametrize("name", REMOVALS)
def test_where_no_store_passes_another_the_same_is_sound(name):
    assert all(found.complete for found in explored_without(name, False))


def test_a_release_that_a_fence_makes_up_for_is_held_by_the_recorded_order_alone():
    (found,) = found_by(MADE_UP_FOR, True)
    assert found.complete, found.story


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_the_one_that_was_read(name):
    expected = EXPECTED / f"explore-weak-{name}.txt"
    assert explored_without(name, True)[-1].story == expected.read_text(encoding="utf-8")


def test_the_story_tells_of_releases_only_where_stores_pass_stores():
    def careless(incoming, outgoing, signal):
        outgoing.write_at(0, b"data")
        outgoing.release()
        raise ValueError("behind a release")

    for weak in (False, True):
        story = explore(careless, channel_sides(1)[1], stores_pass_stores=weak).story()
        assert ("\nrelease\n" in story) is weak


def main() -> None:
    """Write every expected text anew."""
    for name in REMOVALS:
        found = explored_without(name, True)[-1]
        print(f"{name}: {found.kind}, {found.states} states", file=sys.stderr)
        if name in STORIES:
            (EXPECTED / f"explore-weak-{name}.txt").write_text(found.story, encoding="utf-8")


if __name__ == "__main__":
    main()
