"""The explorer itself: what it must find it finds, what cannot be it does not, and it counts right.

Small scripts over a few words, of which the outcomes are known, and random ones compared with a plain
enumeration that neither merges states nor stops early.
"""

from __future__ import annotations

import gc
import math
import random
import sys
import threading
from collections import Counter
from contextlib import suppress

import pytest

from vmbus.errors import CallerError
from vmbus.exploration import ViolationKind, Wish, Word, explore_sides

SLEEPS, NEEDLESS, FAILED = (
    ViolationKind.SLEEPS_FOREVER,
    ViolationKind.NEEDLESS_SIGNAL,
    ViolationKind.FAILED,
)


def program(*steps):
    """A script of steps ("store", word, value), ("load", word), ("fence",), ...: returns what it loaded."""

    def script(side):
        loaded = [getattr(side, name)(*arguments) for name, *arguments in steps]
        return tuple(value for (name, *_), value in zip(steps, loaded, strict=True) if name == "load")

    return script


def outcomes(left, right, **words):
    """All outcomes of two programs, without violation and to the end."""
    result = explore_sides(program(*left), program(*right), words=words or {"x": 0, "y": 0})
    assert result.complete, result.story()
    assert sum(result.outcomes.values()) == result.schedules
    return {first + second for first, second in result.outcomes}


# -- the order of loads and stores ---------------------------------------------------------------

STORE_X, STORE_Y = ("store", "x", 1), ("store", "y", 1)
LOAD_X, LOAD_Y, FENCE = ("load", "x"), ("load", "y"), ("fence",)


def test_without_fences_both_sides_may_load_before_the_others_store_is_visible():
    found = outcomes([STORE_X, LOAD_Y], [STORE_Y, LOAD_X])
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_fence_on_one_side_alone_does_not_help():
    found = outcomes([STORE_X, FENCE, LOAD_Y], [STORE_Y, LOAD_X])
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_with_fences_on_both_sides_one_of_them_sees_the_other():
    found = outcomes([STORE_X, FENCE, LOAD_Y], [STORE_Y, FENCE, LOAD_X])
    assert found == {(0, 1), (1, 0), (1, 1)}


def test_who_sees_the_flag_sees_the_data_stored_before_it():
    assert outcomes([STORE_X, STORE_Y], [LOAD_Y, LOAD_X]) == {(0, 0), (0, 1), (1, 1)}


def test_a_load_does_not_see_a_store_that_comes_after_a_load_of_what_follows_from_it():
    assert outcomes([LOAD_X, STORE_Y], [LOAD_Y, STORE_X]) == {(0, 0), (0, 1), (1, 0)}


def test_a_side_sees_its_own_newest_store_before_anybody_else_does():
    left = [("store", "x", 1), LOAD_X, ("store", "x", 2), LOAD_X]
    assert outcomes(left, [LOAD_X]) == {(1, 2, 0), (1, 2, 1), (1, 2, 2)}


def test_two_sides_may_each_see_their_own_store_first():
    left, right = [STORE_X, LOAD_X, LOAD_Y], [STORE_Y, LOAD_Y, LOAD_X]
    assert (1, 0, 1, 0) in outcomes(left, right)
    assert (1, 0, 1, 0) not in outcomes([STORE_X, FENCE, *left[1:]], [STORE_Y, FENCE, *right[1:]])


def test_stores_to_one_word_are_seen_in_the_order_of_one_buffer():
    left = [("store", "x", 1), ("store", "x", 2)]
    assert outcomes(left, [LOAD_X, LOAD_X]) == {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}


def test_stores_of_both_sides_end_in_either_order():
    def writer(value):
        def script(side):
            side.store("x", value)
            side.fence()
            return side.load("x")

        return script

    result = explore_sides(writer(1), writer(2), words={"x": 0})
    assert set(result.outcomes) == {(1, 1), (2, 2), (1, 2)}


def test_a_side_reads_its_own_bytes_over_those_that_all_can_see():
    def writer(side):
        side.write("data", 2, b"cd")
        side.write("data", 3, b"D")
        side.write("other", 0, b"!")
        return side.read("data", 0, 6)

    def reader(side):
        return side.read("data", 0, 6)

    result = explore_sides(writer, reader, areas={"data": b"......", "other": b"."})
    assert set(result.outcomes) == {(b"..cD..", seen) for seen in (b"......", b"..cd..", b"..cD..")}


# -- violations ----------------------------------------------------------------------------------


def inside(fenced):
    """Two sides, each of which enters a room unless the other has said that it will."""

    def entering(mine, other):
        def script(side):
            side.store(mine, 1)
            if fenced:
                side.fence()
            return side.load(other) == 0

        return script

    return explore_sides(entering("left", "right"), entering("right", "left"), words={"left": 0, "right": 0})


def test_two_flags_without_fences_let_both_sides_in_and_with_fences_never():
    assert (True, True) in inside(fenced=False).outcomes
    assert (True, True) not in inside(fenced=True).outcomes
    assert inside(fenced=True).complete


def test_a_side_that_sleeps_for_ever_is_found_with_the_shortest_way_there():
    def sleeper(side):
        if not side.load("flag"):
            side.wait()

    def waker(side):
        side.store("flag", 1)

    result = explore_sides(waker, sleeper, words={"flag": 0}, names=("waker", "sleeper"))
    assert result.violation == (SLEEPS, 1)
    assert result.story().splitlines() == [
        f"{'waker':44}sleeper",
        "",
        "store flag = 1",
        "ends",
        f"{'':44}load flag -> 0",
        f"{'':44}sleep",
        "  flag = 1 is visible",
        "",
        "The sleeper sleeps for ever: no signal is on its way, and the waker has ended.",
        "All can see: flag = 1.",
    ]


def test_of_equally_short_schedules_the_one_that_changes_sides_least_is_told():
    def failing(side):
        if side.load("x"):
            raise ValueError("behind a step of the other side")
        side.load("x")
        raise ValueError("alone")

    result = explore_sides(failing, program(("store", "x", 1)), words={"x": 0})
    assert result.violation == (FAILED, 0)
    assert result.steps == 1
    assert "The failing failed: ValueError: alone" in result.story()


def test_two_sides_that_sleep_for_ever_are_told_as_such():
    result = explore_sides(lambda side: side.wait(), lambda side: side.wait())
    assert result.violation == (SLEEPS, 0)
    assert (
        "The left sleeps for ever: no signal is on its way, and the right sleeps as well." in result.story()
    )


def test_a_signal_from_before_the_sleep_is_not_lost():
    result = explore_sides(lambda side: side.notify(), lambda side: side.wait())
    assert result.complete, result.story()
    assert result.schedules == 1


def test_two_signals_may_melt_into_one():
    def twice(side):
        side.wait()
        side.wait()

    def notifier(side):
        side.notify()
        side.notify()

    result = explore_sides(notifier, twice)
    assert result.violation == (SLEEPS, 1)
    lines = [line.strip() for line in result.story().splitlines()]
    assert lines[2:8] == ["sleep", "signal", "signal", "ends", "wakes", "sleep"]


def test_the_story_says_that_a_side_was_signaled_before_it_could_sleep():
    def sleeper(side):
        side.wake()
        side.wait()
        side.wait()

    story = explore_sides(lambda side: None, sleeper).story()
    assert [line.strip() for line in story.splitlines()[2:6]] == [
        "ends",
        "keeps itself from sleeping",
        "does not sleep: it has been signaled",
        "sleep",
    ]


def test_a_wake_of_ones_own_ends_the_next_sleep():
    def waking(side):
        side.wake()
        side.wait()

    assert explore_sides(waking, lambda side: None).complete


def test_a_look_for_a_signal_takes_it_and_never_sleeps():
    result = explore_sides(lambda side: side.notify(), lambda side: (side.poll()[0], side.poll()[0]))
    assert {seen for _, seen in result.outcomes} == {(False, False), (False, True), (True, False)}
    assert result.complete


def test_who_waits_for_a_side_that_closed_is_told_each_time():
    result = explore_sides(lambda side: side.close(), lambda side: (side.wait(), side.wait()))
    assert result.complete
    assert set(result.outcomes) == {(None, (True, True))}


def mailbox(sender, receiver):
    return explore_sides(
        sender, receiver, words={"full": 0, "first": 0, "second": 0}, names=("sender", "receiver")
    )


def send_letters(side, *letters):
    for number, letter in enumerate(letters):
        while number and side.load("full"):
            side.wait()
        side.store("first", letter)
        side.store("second", letter)
        side.store("full", 1)
        side.fence()
        side.notify()


def take_letter(side, *, clear=True):
    while not side.load("full"):
        side.wait()
    letter = side.load("first"), side.load("second")
    if clear:
        side.store("full", 0)
        side.fence()
        side.notify()
    return letter


def expect(side, *expected, **how):
    for letter in expected:
        found = take_letter(side, **how)
        if found != (letter, letter):
            raise ValueError(f"{found} instead of {letter}")


def test_a_mailbox_that_waits_for_its_turn_loses_nothing():
    result = mailbox(lambda side: send_letters(side, 1, 2), lambda side: expect(side, 1, 2))
    assert result.complete, result.story()


def test_a_lost_message_is_found():
    def sender(side):
        for letter in (1, 2):
            side.store("first", letter)
            side.notify()

    def receiver(side):
        while not (letter := side.load("first")):
            side.wait()
        if letter != 1:
            raise ValueError(f"{letter} instead of 1")

    result = mailbox(sender, receiver)
    assert result.violation == (FAILED, 1)
    assert "The receiver failed: ValueError: 2 instead of 1" in result.story()


def test_a_doubled_message_is_found():
    result = mailbox(lambda side: send_letters(side, 1, 2), lambda side: expect(side, 1, 2, clear=False))
    assert result.violation == (FAILED, 1)
    assert "The receiver failed: ValueError: (1, 1) instead of 2" in result.story()


def test_a_torn_message_is_found():
    def writer(side):
        side.store("first", 1)
        side.store("second", 1)

    def reader(side):
        first, second = side.load("first"), side.load("second")
        if first != second:
            raise ValueError(f"torn: {first} and {second}")

    result = mailbox(writer, reader)
    assert result.violation == (FAILED, 1)
    assert "The receiver failed: ValueError: torn: 1 and 0" in result.story()


def test_a_script_that_fails_at_once_is_a_violation_without_a_step():
    def failing(side):
        raise ValueError("at once")

    result = explore_sides(failing, lambda side: None)
    assert result.violation == (FAILED, 0)
    assert "The failing failed: ValueError: at once" in result.story()


# -- signals that nobody wished for --------------------------------------------------------------

WISHES = [Wish(side=1, word="wants", says=bool, ends="taken", renewed="given")]
WISH_WORDS = {"wants": 0, "taken": 0, "given": Word(0, hexadecimal=True)}


def judged(giver, taker):
    return explore_sides(giver, taker, words=WISH_WORDS, wishes=WISHES, names=("giver", "taker"))


def give(side):
    side.store("given", 1)
    side.fence()
    if side.load("wants"):
        side.notify()


def test_a_signal_to_who_was_seen_to_wish_is_in_order():
    def taker(side):
        side.store("wants", 1)
        side.fence()
        if not side.load("given"):
            side.wait()
        side.store("wants", 0)

    result = judged(give, taker)
    assert result.complete, result.story()


def test_a_signal_that_comes_late_for_a_wish_that_was_seen_is_in_order():
    def taker(side):
        side.store("wants", 1)
        side.fence()
        side.store("wants", 0)

    result = judged(give, taker)
    assert result.complete, result.story()


@pytest.mark.parametrize(
    ("giver", "taker", "why"),
    [
        (
            [("notify",)],
            [],
            "it has not loaded wants: it cannot know that one is wanted",
        ),
        (
            [("load", "wants"), ("notify",)],
            [],
            "when it loaded wants the taker did not wait for one",
        ),
        (
            [("load", "wants"), ("notify",)],
            [("store", "wants", 1)],
            "when it loaded wants the taker did not wait for one",
        ),
        (
            [("load", "wants"), ("store", "given", 0x10), ("notify",)],
            [],
            "it has not loaded wants since it stored given",
        ),
        (
            [("notify",)],
            [("store", "wants", 1)],
            "it has not loaded wants: it cannot know that one is wanted",
        ),
    ],
)
def test_a_signal_that_nobody_wished_for_is_found_and_explained(giver, taker, why):
    result = judged(program(*giver), program(*taker))
    assert result.violation == (NEEDLESS, 0)
    assert f"\nThe giver signals, and {why}" in result.story()


def wishing(giver):
    """A taker that wishes before the exploration begins, and then does nothing more."""

    def taker(side):
        side.store("wants", 1)
        yield

    return judged(giver, taker)


def test_a_second_signal_for_one_look_is_found():
    result = wishing(program(("load", "wants"), ("notify",), ("notify",)))
    assert result.violation == (NEEDLESS, 0)
    assert "it has signaled already and not loaded wants since" in result.story()


def test_a_second_signal_for_one_look_is_found_also_when_the_wish_is_over():
    def giver(side):
        if side.load("wants") and side.load("over"):
            side.notify()
            side.notify()

    def taker(side):
        side.store("wants", 1)
        side.store("wants", 0)
        side.store("over", 1)

    result = explore_sides(giver, taker, words={**WISH_WORDS, "over": 0}, wishes=WISHES)
    assert result.violation == (NEEDLESS, 0)
    assert "it has signaled already and not loaded wants since" in result.story()


def test_a_second_signal_for_a_wish_that_was_answered_is_found():
    result = wishing(program(("load", "wants"), ("notify",), ("load", "wants"), ("notify",)))
    assert result.violation == (NEEDLESS, 0)
    assert "the taker has been told already, and has not yet looked" in result.story()


def test_what_was_known_of_a_wish_is_too_old_after_a_store_of_ones_own():
    stale = program(("load", "wants"), ("store", "given", 1), ("fence",), ("notify",))
    assert wishing(stale).violation == (NEEDLESS, 0)
    assert wishing(program(("store", "given", 1), ("fence",), ("load", "wants"), ("notify",))).complete


def test_a_wish_ends_when_its_side_goes_on_although_its_word_still_says_so():
    def taker(side):
        side.store("wants", 1)
        side.store("taken", 1)
        yield

    assert judged(program(("load", "wants"), ("notify",)), taker).violation == (NEEDLESS, 0)


def test_a_word_that_says_so_from_the_start_is_a_wish_from_the_start():
    notifier = program(("load", "wants"), ("notify",))
    result = explore_sides(notifier, program(), words={**WISH_WORDS, "wants": 1}, wishes=WISHES)
    assert result.complete, result.story()


# -- options and limits --------------------------------------------------------------------------


def trusting(side):
    """Takes a wake for what it waited for."""
    if not side.load("flag"):
        side.wait()
        assert side.load("flag")


def raising_flag(side):
    side.store("flag", 1)
    side.fence()
    side.notify()


def test_a_side_that_trusts_a_wake_fails_only_where_wakes_may_come_for_nothing():
    assert explore_sides(raising_flag, trusting, words={"flag": 0}).complete
    result = explore_sides(raising_flag, trusting, words={"flag": 0}, spurious_wakes=1)
    assert result.violation == (FAILED, 1)
    assert "wakes for nothing" in result.story()


def test_so_many_wakes_for_nothing_and_no_more():
    def counting(side):
        wakes = 0
        while not side.load("flag"):
            side.wait()
            wakes += 1
        return wakes

    result = explore_sides(raising_flag, counting, words={"flag": 0}, spurious_wakes=3, maximum_states=1000)
    assert result.complete
    assert {wakes for _, wakes in result.outcomes} == {0, 1, 2, 3, 4}


def test_what_comes_before_a_yield_is_done_alone_the_left_side_first():
    def left(side):
        side.store("x", 1)
        seen = side.load("y")
        yield
        return seen, side.load("y")

    def right(side):
        seen = side.load("x")
        side.store("y", 1)
        yield
        return seen, side.load("x")

    result = explore_sides(left, right, words={"x": 0, "y": 0})
    assert result.outcomes == {((0, 1), (1, 1)): 2}


def test_what_a_script_would_clean_up_at_its_yield_disturbs_nobody(monkeypatch):
    def cleaning(side):
        try:
            yield
        finally:
            side.notify()
        return side.load("x")

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    assert explore_sides(cleaning, cleaning, words={"x": 0}).complete
    gc.collect()
    assert unraisable == []


def test_a_script_that_fails_when_it_is_thrown_away_at_its_yield_disturbs_nobody():
    def fragile(side):
        try:
            yield
        except GeneratorExit:
            raise ValueError("thrown away") from None
        return side.load("x")

    assert explore_sides(fragile, fragile, words={"x": 0}).complete


def test_a_side_that_sleeps_before_its_yield_is_refused():
    def sleeper(side):
        side.wait()
        yield

    with pytest.raises(CallerError, match="the left side ends, fails or sleeps before its yield"):
        explore_sides(sleeper, lambda side: None)


def test_a_script_that_is_not_the_same_again_is_refused():
    runs = iter(range(1000))

    def moody(side):
        for _ in range(3):
            side.load("x" if next(runs) % 2 else "y")

    with pytest.raises(CallerError, match="run again with the same answers did something else: load"):
        explore_sides(moody, lambda side: None, words={"x": 0, "y": 0})


def test_a_script_that_stores_without_end_is_refused():
    def endless(side):
        while True:
            side.store("x", 1)

    with pytest.raises(CallerError, match="10000 things in a row"):
        explore_sides(endless, lambda side: None, words={"x": 0})


def spinning(side):
    while not side.load("x"):
        pass


def test_a_script_that_goes_round_for_ever_ends_and_is_not_called_complete():
    result = explore_sides(spinning, lambda side: None, words={"x": 0})
    assert not result.complete
    assert result.violation is None
    assert result.steps == 501
    assert explore_sides(spinning, lambda side: None, words={"x": 0}, maximum_steps=7).steps == 8


def test_so_many_states_and_hardly_more():
    result = explore_sides(spinning, lambda side: None, words={"x": 0}, maximum_states=50)
    assert not result.complete
    assert result.violation is None
    assert result.states == 51


@pytest.mark.parametrize(
    ("step", "what", "known"),
    [
        (("load", "z"), "word", "x"),
        (("store", "z", 1), "word", "x"),
        (("load", "d"), "word", "x"),
        (("read", "z", 0, 1), "area", "d"),
        (("write", "z", 0, b"1"), "area", "d"),
        (("write", "x", 0, b"1"), "area", "d"),
    ],
)
def test_a_name_that_nobody_declared_is_refused(step, what, known):
    with pytest.raises(CallerError, match=f"^there is no {what} '{step[1]}': {known}$") as caught:
        explore_sides(program(step), lambda side: None, words={"x": 0}, areas={"d": b"1234"})
    assert (caught.value.argument, caught.value.value, caught.value.limit) == (what, step[1], known)


@pytest.mark.parametrize("step", [("read", "d", 3, 2), ("read", "d", -1, 1), ("write", "d", 0, b"12345")])
def test_bytes_outside_an_area_are_refused(step):
    with pytest.raises(CallerError, match="are not all in d, which has 4"):
        explore_sides(program(step), lambda side: None, areas={"d": b"1234"})


def test_code_that_catches_everything_meets_the_stop_again():
    caught = []

    def stubborn(side):
        try:
            side.load("x")
        except BaseException:  # noqa: BLE001
            caught.append(1)
            try:
                side.notify()
            finally:
                side.store("x", 1)
        return side.load("x")

    result = explore_sides(stubborn, program(("store", "x", 1)), words={"x": 0})
    assert caught
    assert {seen for seen, _ in result.outcomes} == {0, 1}


def test_code_that_catches_the_stop_for_ever_is_refused():
    def stubborn(side):
        caught = None
        while not isinstance(caught, Exception):
            try:
                side.load("x")
            except BaseException as error:  # noqa: BLE001
                caught = error

    with pytest.raises(CallerError, match="caught what stops it 1000 times"):
        explore_sides(stubborn, lambda side: None, words={"x": 0})


def test_code_that_catches_the_stop_for_ever_while_it_stores_is_refused():
    def stubborn(side):
        with suppress(BaseException):
            side.load("x")
        for _ in range(2000):
            with suppress(BaseException):
                side.store("x", 1)

    with pytest.raises(CallerError, match="caught what stops it 1000 times"):
        explore_sides(stubborn, lambda side: None, words={"x": 0})


def yields_twice(side):
    yield
    yield


def yields_for_ever(side):
    while True:
        yield


@pytest.mark.parametrize("script", [yields_twice, yields_for_ever])
@pytest.mark.parametrize("index", [0, 1])
def test_a_second_yield_is_refused(script, index):
    scripts = [lambda side: None, lambda side: None]
    scripts[index] = script
    with pytest.raises(CallerError, match="a side yields a second time"):
        explore_sides(*scripts)


@pytest.mark.parametrize("step", [("load", "x"), ("store", "x", 1), ("fence",), ("notify",)])
def test_a_side_with_a_thread_of_its_own_is_refused(step):
    """Also where that thread keeps to itself what it was told."""
    told = []

    def threaded(side):
        def inner():
            try:
                program(step)(side)
            except CallerError as error:
                told.append(error)

        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    with pytest.raises(CallerError, match="a side is one thread"):
        explore_sides(threaded, lambda side: None, words={"x": 0})
    assert len(told) == 1


def test_a_result_that_cannot_be_counted_is_counted_by_what_it_looks_like():
    assert explore_sides(lambda side: [1], lambda side: ({},)).outcomes == {("[1]", "({},)"): 1}


# -- compared with a plain enumeration -----------------------------------------------------------


class Plain:
    """Every schedule of two programs, one by one, with nothing merged.

    ahead      stores into the own buffer and fences of an empty one are done with the step before, as
               the explorer does; otherwise each is a step by itself
    outcomes   what was loaded, and in how many schedules
    asleep     how many schedules end with a side asleep
    """

    def __init__(self, programs, *, ahead):
        self.programs = programs
        self.ahead = ahead
        self.outcomes = Counter()
        self.asleep = 0
        sides = tuple(self.run_ahead(side, (0, (), ())) for side in (0, 1))
        self.visit(sides, {"x": 0, "y": 0}, (False, False))

    def step_of(self, side, state):
        steps = self.programs[side]
        return steps[state[0]] if state[0] < len(steps) else ("end",)

    def run_ahead(self, side, state):
        """A side's program counter, buffer and loaded values behind what needs nobody."""
        while self.ahead:
            at, buffer, loaded = state
            name, *arguments = self.step_of(side, state)
            if name == "store":
                state = (at + 1, (*buffer, tuple(arguments)), loaded)
            elif name == "fence" and not buffer:
                state = (at + 1, buffer, loaded)
            else:
                break
        return state

    def visit(self, sides, memory, told):
        moves = [(side, *move) for side in (0, 1) for move in self.moves(side, sides[side], memory, told)]
        for side, state, changed, still_told in moves:
            after = self.run_ahead(side, state)
            self.visit((after, sides[1]) if side == 0 else (sides[0], after), changed, still_told)
        if not moves and any(self.step_of(side, sides[side]) != ("end",) for side in (0, 1)):
            self.asleep += 1
        elif not moves:
            self.outcomes[sides[0][2], sides[1][2]] += 1

    def moves(self, side, state, memory, told):
        at, buffer, loaded = state
        if buffer:
            word, value = buffer[0]
            yield (at, buffer[1:], loaded), {**memory, word: value}, told
        name, *arguments = self.step_of(side, state)
        if name == "store":
            yield (at + 1, (*buffer, tuple(arguments)), loaded), memory, told
        elif name == "load":
            seen = {**memory, **dict(buffer)}[arguments[0]]
            yield (at + 1, buffer, (*loaded, seen)), memory, told
        elif name == "fence" and not buffer:
            yield (at + 1, buffer, loaded), memory, told
        elif name == "notify":
            yield (at + 1, buffer, loaded), memory, tuple(who != side or told[who] for who in (0, 1))
        elif name == "wait" and told[side]:
            yield (at + 1, buffer, loaded), memory, tuple(who != side and told[who] for who in (0, 1))


STEPS = [
    ("store", "x", 1),
    ("store", "y", 1),
    ("store", "x", 2),
    ("load", "x"),
    ("load", "y"),
    ("load", "x"),
    ("load", "y"),
    ("fence",),
    ("notify",),
    ("wait",),
]


def random_programs(seed, longest):
    draw = random.Random(seed)
    return tuple([draw.choice(STEPS) for _ in range(draw.randint(0, longest))] for _ in range(2))


def check_against(plain, result, *, count):
    if plain.asleep:
        assert result.violation is not None
        assert result.violation.kind is SLEEPS
        return
    assert result.complete, result.story()
    assert set(result.outcomes) == set(plain.outcomes)
    if count:
        assert result.outcomes == plain.outcomes
        assert result.schedules == sum(plain.outcomes.values())


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_the_schedules_are_those_of_a_plain_enumeration_and_as_many(first):
    sleepers = 0
    for seed in range(first, first + 100):
        programs = random_programs(seed, longest=5)
        plain = Plain(programs, ahead=True)
        result = explore_sides(*(program(*steps) for steps in programs), words={"x": 0, "y": 0})
        check_against(plain, result, count=True)
        sleepers += plain.asleep > 0
    assert 5 < sleepers < 95


def test_doing_stores_and_fences_ahead_changes_no_outcome():
    for seed in range(1000, 1200):
        programs = random_programs(seed, longest=4)
        plain = Plain(programs, ahead=False)
        result = explore_sides(*(program(*steps) for steps in programs), words={"x": 0, "y": 0})
        check_against(plain, result, count=False)


def test_a_count_of_schedules_is_exact_where_it_can_be_worked_out_by_hand():
    """So many ways to lay two rows of steps into each other: 8 over 4, and far too many to go through."""
    loads = program(*[LOAD_X] * 4)
    assert explore_sides(loads, loads, words={"x": 0}).schedules == 70
    loads = program(*[LOAD_X] * 60)
    assert explore_sides(loads, loads, words={"x": 0}).schedules == math.comb(120, 60)
