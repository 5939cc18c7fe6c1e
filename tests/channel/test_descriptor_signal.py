"""Signals over descriptors keep the contract of all signals, and what is theirs alone.

Everything runs over eventfds and over the socket pair that stands in for them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import selectors
import socket
import threading
import time

import pytest

from tests.channel import test_signal_contract
from tests.channel.children import needs_linux
from tests.channel.helpers import Running
from tests.descriptors import assert_no_more_than, open_descriptors
from tests.known_bugs import known_bug
from vmbus.channel import Signal
from vmbus.channel.descriptor_signal import (
    Bells,
    DescriptorSignal,
    bell_pair,
    descriptor_signals,
)
from vmbus.channel.peer_link import Life, link_pair
from vmbus.errors import CallerError, DeviceError

pytestmark = needs_linux

FORMS = [(Bells.EVENTFD, Life.PIDFD), (Bells.SOCKETS, Life.SOCKETS), (Bells.EVENTFD, Life.SOCKETS)]


@pytest.fixture(params=FORMS, ids=lambda form: f"{form[0].value}-{form[1].value}")
def ends(request, no_descriptor_left):
    bells, life = request.param
    near, far = descriptor_signals(bells, life=life)
    yield near, far
    near.close()
    far.close()


#: Every test of the contract, here for these signals.
globals().update(
    {name: test for name, test in vars(test_signal_contract).items() if name.startswith("test_")}
)


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_descriptor_signal_is_a_signal(ends):
    signal: Signal = ends[0]
    assert signal.peer_closed is False
    assert repr(signal) == "<DescriptorSignal: joined>"
    signal.close()
    assert repr(signal) == "<DescriptorSignal: closed>"


# -- time ------------------------------------------------------------------------------------


def test_a_wait_of_more_than_a_day_ends_early_and_says_that_there_may_be_a_reason(ends, monkeypatch):
    monkeypatch.setattr("vmbus.channel.polled_signal.LONGEST_SLEEP", 0.001)
    assert ends[0].wait(0.002) is True
    assert ends[0].wait(0.001) is False


@pytest.mark.parametrize("timeout", [1e-9, 0.0001, 0.0011, 0.01])
def test_a_wait_for_nothing_is_never_over_before_its_time(ends, timeout):
    """Or its caller would have to go round and round until it is."""
    for _ in range(5):
        start = time.monotonic()
        assert ends[0].wait(timeout) is False
        assert time.monotonic() - start >= timeout


def test_a_wait_for_a_signal_costs_one_system_call(monkeypatch, no_descriptor_left):
    near, far = descriptor_signals(Bells.EVENTFD)
    called = []

    def poll(*arguments):
        called.append(arguments)
        return far._poller.poll(*arguments)

    monkeypatch.setattr(far, "_poll", poll)
    monkeypatch.setattr(os, "read", None)
    monkeypatch.setattr(os, "eventfd_read", None)
    for _ in range(3):
        near.notify()
        assert far.wait(None) is True
    assert len(called) == 3
    near.close()
    far.close()


# -- one descriptor for all of it --------------------------------------------------------------


@pytest.mark.parametrize("event", ["notify", "wake", "close"])
@pytest.mark.parametrize("edge", [False, True])
def test_the_descriptor_works_inside_another_epoll(ends, event, edge):
    near, far = ends
    with select.epoll() as outer:
        outer.register(far.fileno(), select.EPOLLIN | (select.EPOLLET if edge else 0))
        assert outer.poll(0) == []
        for _ in range(1 if event == "close" else 3):
            far.wake() if event == "wake" else getattr(near, event)()
            assert outer.poll(0) == [(far.fileno(), select.EPOLLIN)]
            assert far.wait(0) is True
            assert outer.poll(0) == []


@pytest.mark.parametrize("selector", [selectors.SelectSelector, selectors.PollSelector])
def test_the_descriptor_works_in_every_selector(ends, selector):
    near, far = ends
    with selector() as outer:
        outer.register(far.fileno(), selectors.EVENT_READ)
        assert outer.select(0) == []
        near.notify()
        assert len(outer.select(0)) == 1
        far.wait(0)
        assert outer.select(0) == []


def test_the_descriptor_works_in_an_event_loop(ends):
    near, far = ends

    async def count() -> int:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[bool] = asyncio.Queue()
        loop.add_reader(far.fileno(), lambda: told.put_nowait(far.wait(0)))
        for _ in range(50):
            near.notify()
            assert await asyncio.wait_for(told.get(), 20) is True
        near.close()
        await asyncio.wait_for(told.get(), 20)
        assert far.peer_closed
        for _ in range(10):
            await asyncio.sleep(0)
        loop.remove_reader(far.fileno())
        return told.qsize()

    assert asyncio.run(count()) == 0


@known_bug("B22")
@pytest.mark.parametrize("how", ["close", "abandon"])
def test_the_end_of_the_other_side_is_told_once_and_never_again(ends, how):
    """A descriptor that stays readable for ever keeps an event loop busy for ever."""
    near, far = ends
    getattr(near, how)()
    while far.wait(0):  # "abandon" closes without a word, as death does
        pass
    assert far.peer_closed
    assert not is_readable(far.fileno())
    assert far.wait(0.001) is False
    far.wake()
    assert far.wait(0) is True


@known_bug("B14", "B65")
def test_signals_from_before_this_side_was_there_are_kept_for_it(no_descriptor_left):
    for bells in Bells:
        (own, peer), link = bell_pair(bells), link_pair()
        other = DescriptorSignal(peer, link[1])
        other.notify()
        late = DescriptorSignal(own, link[0])
        assert late.wait(0) is True
        late.greet()
        assert late.wait(0) is False
        late.close()
        other.close()


def test_a_side_that_has_not_attached_yet_is_not_closed(no_descriptor_left):
    bells, link = bell_pair(), link_pair()
    near = DescriptorSignal(bells[0], link[0])
    near.greet()
    assert near.wait(0) is False
    assert near.peer_closed is False
    far = DescriptorSignal(bells[1], link[1])
    far.close()  # it was never there: it has not said hello
    assert near.wait(0) is True
    assert near.peer_closed is True  # but nobody can come any more
    near.close()


# -- hostile bells -----------------------------------------------------------------------------


def test_a_bell_that_was_filled_or_emptied_by_the_other_side_loses_no_wake():
    bells, link = bell_pair(Bells.EVENTFD), link_pair()
    own = os.dup(bells[0][0])
    near = DescriptorSignal(bells[0], link[0])
    os.eventfd_write(own, 2**64 - 2)
    assert near.wait(0) is True
    near.wake()
    assert near.wait(0) is True
    near.wake()
    os.eventfd_read(own)
    assert near.wait(0) is True
    near.close()
    os.close(own)
    for descriptor in (*bells[1], link[1]):
        os.close(descriptor)


@pytest.mark.parametrize("bells", Bells)
def test_notify_never_waits_and_never_raises_for_a_full_bell(bells, no_descriptor_left):
    pair, link = bell_pair(bells), link_pair()
    near = DescriptorSignal(pair[0], link[0])
    if bells is Bells.EVENTFD:
        os.eventfd_write(pair[1][0], 2**64 - 2)
    else:
        os.set_blocking(near._quiet, True)  # what the other side could do
        for _ in range(100_000):
            near.notify()
    near.notify()
    near.close()
    near.notify()
    near.wake()
    for descriptor in (*pair[1], link[1]):
        os.close(descriptor)


def test_bells_of_sockets_that_somebody_else_rings_wildly_are_silenced(ends):
    near, far = ends
    for _ in range(10_000):
        near.notify()
    reasons = 0
    while far.wait(0):
        reasons += 1
    assert 1 <= reasons < 100


# -- closing -----------------------------------------------------------------------------------


def test_a_closed_signal_refuses_to_wait_and_ignores_the_rest(ends):
    near, _ = ends
    near.close()
    for use in (lambda: near.wait(None), lambda: near.wait(0), near.fileno):
        with pytest.raises(CallerError, match="closed"):
            use()
    near.notify()
    near.wake()


def test_wakes_while_the_signal_is_closed_touch_no_descriptor_of_somebody_else(no_descriptor_left):
    for _ in range(50):
        near, far = descriptor_signals()
        waker = Running(lambda near=near: [near.wake() for _ in range(20)])
        near.close()
        others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(8)]
        waker.result()
        for descriptor in others:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(descriptor)
            os.close(descriptor)
        far.close()


@pytest.mark.parametrize(("bells", "life"), FORMS)
def test_many_pairs_leave_no_descriptor_behind(bells, life, no_descriptor_left):
    for _ in range(50):
        near, far = descriptor_signals(bells, life=life)
        near.notify()
        far.wait(0)
        far.close()
        near.wait(0)
        near.close()


def test_signals_that_are_dropped_and_never_closed_leave_no_descriptor_and_say_goodbye(no_descriptor_left):
    for bells, life in FORMS:
        near, far = descriptor_signals(bells, life=life)
        del near
        gc.collect()
        assert far.wait(0) is True
        assert far.peer_closed
        del far


@pytest.mark.parametrize("bells", Bells)
def test_a_process_without_a_descriptor_left_gets_a_device_error_and_loses_none(bells, no_descriptor_left):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_descriptors()
    refused = 0
    try:
        for spare in range(20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            try:
                near, far = descriptor_signals(bells)
            except (DeviceError, OSError):
                refused += 1
            else:
                near.close()
                far.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert_no_more_than(used)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 5 < refused < 20


def test_no_descriptor_is_inherited_by_a_program_that_is_started(ends):
    for signal in ends:
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            try:
                name = os.readlink(f"/proc/self/fd/{descriptor}")
            except OSError:
                continue
            if "event" in name or "pidfd" in name or "socket" in name:
                assert not os.get_inheritable(descriptor), name
        assert not os.get_inheritable(signal.fileno())


# -- forks -------------------------------------------------------------------------------------


def test_a_forked_child_has_no_part_in_a_signal_and_disturbs_nothing(ends, children):
    near, far = ends

    def child() -> None:
        with pytest.raises(CallerError, match="closed"):
            near.wait(0)
        near.notify()
        near.wake()
        near.close()
        far.close()

    assert children.join(children.start(child)) == 0
    assert (near.wait(0), far.wait(0)) == (False, False)
    near.notify()
    assert far.wait(None) is True
    assert (near.peer_closed, far.peer_closed) == (False, False)


def test_a_child_forked_while_another_thread_holds_every_lock_still_lets_go(ends, children):
    near, far = ends
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with near._waking, far._waking:
            held.set()
            done.wait(20)

    holder = Running(hold)
    held.wait(20)
    child = children.start(lambda: near.wake())
    assert children.join(child) == 0
    done.set()
    holder.result()


def test_without_eventfd_or_epoll_a_socket_pair_serves(monkeypatch, no_descriptor_left):
    for owner, name in ((os, "eventfd"), (select, "epoll")):
        with monkeypatch.context() as patch:
            patch.delattr(owner, name)
            (near, far) = bell_pair()
            assert (len(near), len(far)) == (1, 1)
            for descriptor in (*near, *far):
                socket.socket(fileno=descriptor).close()
    near, far = bell_pair()
    assert (len(near), len(far)) == (2, 2)
    for descriptor in (*near, *far):
        os.close(descriptor)
