"""The conformance checks: ours pass all of them, and for each check there is a twin that fails it."""

from __future__ import annotations

import math
import os
import select
import time
from types import SimpleNamespace

import pytest

from tests.fuzzing.broken_twins import (
    CHANNEL_TWINS,
    KINDS,
    MEMORY_TWINS,
    RING_TWINS,
    SIGNAL_TWINS,
    carries,
    channels_of,
    pair_of,
)
from tests.helpers import SlowRingMem, paged_memory
from vmbus.channel import Bells, LocalSignal, connected_channels, descriptor_signals, local_signals
from vmbus.errors import CallerError
from vmbus.fuzzing import (
    CONFORMANCE_CHECKS,
    NotConforming,
    check_channel,
    check_ring_memory,
    check_ring_pair,
    check_signal,
)
from vmbus.fuzzing.bounded import StillRunning, Task
from vmbus.fuzzing.recording_memory import why_not_in_order
from vmbus.memory import FlatRingMem, SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing

#: Seconds for a check that is to fail: it waits for an eighth of it, or two.
SHORT = 0.6


def flat_again(memory):
    """The same bytes as FlatRingMem.over sees them."""
    return FlatRingMem.over(memory.block)


def memory_over_a_block(size):
    block = bytearray(4096 + size)
    memory = FlatRingMem.over(block)
    memory.block = block
    return memory


MEMORIES = {
    "flat": (FlatRingMem, None),
    "flat, seen twice": (memory_over_a_block, flat_again),
    "paged": (paged_memory, None),
    "slow": (SlowRingMem, None),
}
SIGNALS = {"local": local_signals, "sockets": lambda: descriptor_signals(Bells.SOCKETS)}
if hasattr(os, "eventfd") and hasattr(select, "epoll"):
    SIGNALS["eventfd"] = lambda: descriptor_signals(Bells.EVENTFD)


# -- what is right passes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "attach"), MEMORIES.values(), ids=MEMORIES)
def test_our_memories_pass_every_check(make, attach):
    report = check_ring_memory(make, attach=attach, sizes=(8192,) if make is SlowRingMem else (4096, 12288))
    assert report.passed, str(report)
    assert len(report.outcomes) == len(CONFORMANCE_CHECKS["ring memory"])


def test_shared_memory_passes_as_its_two_sides_map_it():
    made = {}

    def make(size):
        shared = SharedMemory.create(4096 + size)
        memory = FlatRingMem.over(shared.map())
        made[memory] = shared
        return memory

    def attach(memory):
        return FlatRingMem.over(SharedMemory.open(made[memory].fileno()).map())

    report = check_ring_memory(make, attach=attach)
    assert report.passed, str(report)


@pytest.mark.parametrize("make_pair", SIGNALS.values(), ids=SIGNALS)
def test_our_signals_pass_every_check(make_pair):
    check_signal(make_pair).raise_for_failures()


def test_our_rings_pass_every_check():
    check_ring_pair(lambda memory: (OutgoingRing(memory), IncomingRing(memory))).raise_for_failures()


@pytest.mark.parametrize("pollable", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: KINDS[kind])
def test_our_channels_pass_every_check(kind, pollable):
    report = check_channel(
        lambda: connected_channels(4096, kind=kind, pollable=pollable), carries=KINDS[kind]
    )
    assert report.passed, str(report)


# -- what is wrong fails -------------------------------------------------------------------------------


def assert_failed(report, name):
    outcomes = report.outcomes
    assert len(outcomes) == 1
    outcome = outcomes[0]
    assert outcome.name == name
    assert not outcome.passed, str(outcome)
    assert outcome.expected and outcome.came
    with pytest.raises(NotConforming, match=name):
        report.raise_for_failures()


def names(value):
    return value.__name__ if isinstance(value, type) else value


@pytest.mark.parametrize(("name", "twin"), MEMORY_TWINS, ids=names)
def test_a_memory_that_is_wrong_fails_its_check(name, twin):
    assert_failed(check_ring_memory(twin, only=[name]), name)


@pytest.mark.parametrize("name", ["control-words-are-live", "both-sides-see-the-data"])
def test_two_views_of_different_bytes_fail_their_checks(name):
    report = check_ring_memory(FlatRingMem, attach=lambda memory: FlatRingMem(memory.size), only=[name])
    assert_failed(report, name)


@pytest.mark.parametrize(("name", "twin"), SIGNAL_TWINS, ids=names)
def test_a_signal_that_is_wrong_fails_its_check(name, twin):
    assert_failed(check_signal(lambda: pair_of(twin), limit=SHORT, only=[name]), name)


@pytest.mark.parametrize(("name", "sender", "receiver"), RING_TWINS, ids=names)
def test_a_ring_that_is_wrong_fails_its_check(name, sender, receiver):
    assert_failed(check_ring_pair(lambda memory: (sender(memory), receiver(memory)), only=[name]), name)


@pytest.mark.parametrize(("name", "twin"), CHANNEL_TWINS, ids=names)
def test_a_channel_that_is_wrong_fails_its_check(name, twin):
    report = check_channel(channels_of(twin), carries=carries(twin), limit=SHORT, only=[name])
    assert_failed(report, name)


def test_there_is_a_twin_for_every_check():
    checks = {check.name for checks in CONFORMANCE_CHECKS.values() for check in checks}
    twins = {twin[0] for twins in (MEMORY_TWINS, SIGNAL_TWINS, RING_TWINS, CHANNEL_TWINS) for twin in twins}
    assert checks == twins | {"both-sides-see-the-data"}


def test_every_check_has_a_sentence_and_a_name_of_its_own():
    for checks in CONFORMANCE_CHECKS.values():
        assert len({check.name for check in checks}) == len(checks)
        assert all(check.sentence.endswith(".") and "\n" not in check.sentence for check in checks)


# -- reports ---------------------------------------------------------------------------------------------


def test_a_failure_says_what_was_expected_and_what_came():
    report = check_ring_pair(
        lambda memory: (OutgoingRing(memory), IncomingRing(memory)), only=["mask-silences-the-sender"]
    )
    assert str(report) == "ring pair: all 1 checks passed"
    name, sender, receiver = next(twin for twin in RING_TWINS if twin[0] == "mask-silences-the-sender")
    report = check_ring_pair(lambda memory: (sender(memory), receiver(memory)), only=[name])
    assert str(report) == (
        "ring pair: 1 of 1 checks failed\n"
        "FAILED  mask-silences-the-sender: While interrupts are masked no write asks for a signal.\n"
        "        expected: the signal under a mask False\n"
        "        came:     True"
    )


def test_a_ring_without_a_fence_is_told_where_it_lacks():
    found = [twin for twin in RING_TWINS if twin[0] == "write-goes-in-order"]
    report = check_ring_pair(
        lambda memory: (found[0][1](memory), IncomingRing(memory)), only=["write-goes-in-order"]
    )
    assert [one.came for one in report.failures] == ["no fence between store in and load mask"]


def test_all_failures_are_listed():
    report = check_ring_pair(lambda memory: (SimpleNamespace(write=0, commit_write=0), IncomingRing(memory)))
    with pytest.raises(NotConforming) as caught:
        report.raise_for_failures()
    assert caught.value.report is report
    assert len(report.failures) > 15
    assert all(outcome.name in str(caught.value) for outcome in report.failures)
    assert "AttributeError" in str(caught.value)
    assert "conformance_rings.py, line" in str(caught.value)


def no_argument():
    return None


#: What a factory does wrong, how it is called, and what is said of it.
WRONG_FACTORIES = {
    "memory None": (
        check_ring_memory,
        lambda size: None,
        "a RingMem from make(4096)",
        "None, which has no size, ",
    ),
    "memory of no size": (
        check_ring_memory,
        no_argument,
        "a RingMem from make(4096)",
        "TypeError: no_argument() ",
    ),
    "memory of bytes": (
        check_ring_memory,
        bytearray,
        "a RingMem from make(4096)",
        "bytearray, which has no size, ",
    ),
    "signal None": (
        check_signal,
        no_argument,
        "a pair of signals from make_pair()",
        "None, which is no pair",
    ),
    "one signal": (
        check_signal,
        lambda: local_signals()[0],
        "a pair of signals from make_pair()",
        "LocalSignal, which is no pair",
    ),
    "signal with argument": (
        check_signal,
        lambda near: None,
        "a pair of signals from make_pair()",
        "TypeError: <lambda>() missing 1 required positional argument: 'near'",
    ),
    "one ring": (
        check_ring_pair,
        OutgoingRing,
        "a sender and a receiver from make(memory)",
        "OutgoingRing, which is no pair",
    ),
    "rings the other way round": (
        check_ring_pair,
        lambda memory: (IncomingRing(memory), OutgoingRing(memory)),
        "a sender and a receiver from make(memory)",
        "IncomingRing, which has no write, commit_write",
    ),
    "rings over no memory": (
        check_ring_pair,
        no_argument,
        "a sender and a receiver from make(memory)",
        "TypeError: no_argument() takes 0 positional arguments but 1 was given",
    ),
    "channel None": (
        check_channel,
        no_argument,
        "a pair of channels from make_pair()",
        "None, which is no pair",
    ),
    "three channels": (
        check_channel,
        lambda: (*connected_channels(4096), None),
        "a pair of channels from make_pair()",
        "tuple of 3",
    ),
}


@pytest.mark.parametrize(("check", "make", "expected", "came"), WRONG_FACTORIES.values(), ids=WRONG_FACTORIES)
def test_a_function_that_makes_the_wrong_thing_is_told_of_once_and_nothing_is_checked(
    check, make, expected, came
):
    report = check(make)
    outcomes = report.outcomes
    assert len(outcomes) == 1
    outcome = outcomes[0]
    assert (outcome.name, outcome.passed, outcome.expected) == ("make", False, expected)
    assert outcome.came.startswith(came)
    assert "first_call.py" not in outcome.came


def test_an_attach_that_makes_no_memory_is_told_of_once():
    outcomes = check_ring_memory(FlatRingMem, attach=lambda memory: None).outcomes
    assert len(outcomes) == 1
    outcome = outcomes[0]
    assert (outcome.name, outcome.expected) == ("make", "a RingMem from attach(memory)")


def test_what_cannot_be_made_is_told_of_once_and_where_it_was_raised():
    outcomes = check_ring_memory(lambda size: 1 // 0).outcomes
    assert len(outcomes) == 1
    outcome = outcomes[0]
    assert outcome.came.startswith("ZeroDivisionError: ")
    assert "test_conformance.py, line " in outcome.came


def test_a_signal_need_not_take_a_wait_that_is_infinite():
    class Finite(LocalSignal):
        def wait(self, timeout):
            if timeout is not None and math.isinf(timeout):
                raise OverflowError("timestamp out of range for platform time_t")
            return super().wait(timeout)

    check_signal(lambda: pair_of(Finite)).raise_for_failures()


def test_a_check_that_hangs_is_a_failure_and_no_hang():
    started = time.monotonic()
    report = check_ring_memory(lambda size: time.sleep(3600), limit=0.05, only=["writable"])
    assert time.monotonic() - started < 5
    assert report.failures[0].expected == "an end of the check"
    assert "still running after 0.0" in report.failures[0].came


def ends_all(kind, method):
    """A memory one method of which ends the process, or would."""

    def end(*arguments):
        raise kind("no more")

    return type("EndsAll", (FlatRingMem,), {method: end})


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_the_process_fails_a_check_and_the_others_are_done(kind):
    report = check_ring_memory(ends_all(kind, "read_at"))
    assert len(report.outcomes) == len(CONFORMANCE_CHECKS["ring memory"])
    assert 1 < len(report.failures) < len(report.outcomes)
    assert all(f"{kind.__name__}: no more, raised in " in outcome.came for outcome in report.failures)


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit])
def test_a_close_behind_a_check_that_would_end_the_process_fails_that_check(kind):
    report = check_ring_memory(ends_all(kind, "close"))
    assert f"{kind.__name__}: no more, raised in " in report.failures[0].came


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: check_ring_memory(FlatRingMem, only=["no-such"]),
            "no check is named 'no-such'; there are size",
        ),
        (lambda: check_channel(connected_channels, carries="letters"), "packets, messages, bytes, and not"),
    ],
)
def test_what_there_is_not_is_the_callers_error(call, message):
    with pytest.raises(CallerError, match=message):
        call()


def test_a_task_returns_raises_or_is_still_running():
    assert Task(lambda: 7).result(5) == 7
    with pytest.raises(ZeroDivisionError):
        Task(lambda: 1 // 0).result(5)
    with pytest.raises(StillRunning, match="still running after"):
        Task(lambda: time.sleep(3600)).result(0.01)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["write", "acquire", "write", "release", "store in"], None),
        (["write", "acquire", "store in"], "no release between write and store in"),
        (["store in", "release", "write"], "the accesses store in, write instead of write, store in"),
        ([], "the accesses none instead of write, store in"),
    ],
)
def test_an_order_is_kept_where_each_fence_or_a_stronger_one_stands_between(words, problem):
    assert why_not_in_order(words, ["write", "release", "store in"]) == problem
