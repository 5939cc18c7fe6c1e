"""Wakes that can be waited for: none is lost, any number melt into one, and shares are one wake.

No test sleeps: where a thread must be seen to wait, another one wakes it.
"""

from __future__ import annotations

import selectors
import threading
import time

import pytest

from vmbus.errors import CallerError, DeviceError
from vmbus.sockets import PollWake, shared_frame_queues, wake_of
from vmbus.virtio import NetworkFrameQueues

PATIENCE = 20


@pytest.fixture
def wake():
    with PollWake() as wake:
        yield wake


@pytest.fixture
def queues():
    queues = shared_frame_queues(4)
    yield queues
    for name in ("guest_wake", "host_wake", "relay_wake"):
        wake_of(queues, name).close()


def test_a_wake_ends_one_wait(wake):  # 4.3: wake, wait 10 ms true, drain, wait 1 ms false
    wake.wake()
    assert wake.wait(0.01) is True
    wake.drain()
    assert wake.wait(0.001) is False


def test_a_wait_consumes_the_wake(wake):  # 4.3: HEAD, drain does nothing that wait has not done
    wake.wake()
    assert wake.wait(0.01) is True
    assert wake.wait(0) is False


def test_draining_without_a_wait_consumes_the_wake_too(wake):  # 4.3: early version, for selectors
    wake.wake()
    wake.wake()
    assert (wake.drain(), wake.drain(), wake.wait(0)) == (True, False, False)


@pytest.mark.parametrize("timeout", [0, -1, 0.0, 0.001])
def test_a_wait_that_nobody_ends_is_false(wake, timeout):
    assert wake.wait(timeout) is False


def test_many_wakes_melt_into_one(wake):
    for _ in range(9999):
        wake.wake()
    assert wake.wait(0) is True
    assert wake.wait(0) is False


def test_a_full_pipe_is_no_error_and_still_a_wake(wake):  # 4.3: errors (full pipe) ignored
    wake._pipe.writer.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            wake._pipe.writer.send(bytes(65536))
    wake.wake()
    assert wake.wait(0) is True
    assert wake.wait(0) is False


@pytest.mark.parametrize("timeout", [None, PATIENCE, 1e9, 1e300], ids=str)
def test_a_wait_is_ended_by_another_thread(wake, timeout):  # 4.3: None waits for ever
    ended = []
    thread = threading.Thread(target=lambda: ended.append(wake.wait(timeout)), daemon=True)
    thread.start()
    wake.wake()
    thread.join(PATIENCE)
    assert ended == [True]


def test_waiting_takes_no_longer_than_asked(wake):
    begin = time.monotonic()
    assert wake.wait(0.05) is False
    assert 0.04 < time.monotonic() - begin < PATIENCE


def test_waking_a_share_wakes_the_other(wake):  # 4.3: clone / share()
    with wake.share() as other:
        other.wake()
        assert wake.wait(0.01) is True
        wake.wake()
        assert other.wait(0.01) is True
        assert wake.wait(0) is False


def test_a_share_lives_on_when_the_first_is_closed(wake):
    other = wake.share()
    wake.close()
    other.wake()
    assert other.wait(0.01) is True
    third = other.share()
    other.close()
    third.wake()
    assert third.wait(0) is True
    third.close()


def test_the_descriptor_is_readable_while_there_is_a_wake(wake):
    with selectors.DefaultSelector() as selector:
        selector.register(wake, selectors.EVENT_READ)
        assert not selector.select(0)
        wake.wake()
        assert [key.fd for key, _ in selector.select(PATIENCE)] == [wake.fileno()]
        wake.drain()
        assert not selector.select(0)


def test_a_closed_wake_wakes_nobody_and_cannot_be_waited_for(wake):
    wake.close()
    wake.close()
    wake.wake()
    for call in (wake.wait, wake.drain, wake.fileno, wake.share):
        with pytest.raises(CallerError, match="closed"):
            call()
    assert repr(wake) == "<PollWake: closed>"


def test_the_last_share_closes_the_sockets(wake):
    pipe, other = wake._pipe, wake.share()
    wake.close()
    wake.close()
    assert pipe.reader.fileno() >= 0
    other.close()
    assert pipe.reader.fileno() == pipe.writer.fileno() == -1


def test_no_sockets_are_a_device_error(monkeypatch):
    def refused():
        raise OSError(24, "too many open files")

    monkeypatch.setattr("vmbus.sockets.wakes.socket.socketpair", refused)
    with pytest.raises(DeviceError, match="too many open files"):
        PollWake()


# -- the wakes of frame queues -----------------------------------------------------------------


def test_guest_and_relay_wake_are_one_and_host_wake_another(queues):  # 4.3: HEAD
    guest, host, relay = (wake_of(queues, name) for name in ("guest_wake", "host_wake", "relay_wake"))
    for one in (guest, relay):
        one.wake()
        assert host.wait(0) is False
        assert guest.wait(0) is True
    host.wake()
    assert guest.wait(0) is False and host.wait(0) is True


def test_a_shutdown_wakes_whoever_waits(queues):
    queues.begin_shutdown()
    assert wake_of(queues, "guest_wake").wait(0) and wake_of(queues, "host_wake").wait(0)


def test_the_queues_have_the_capacity_that_was_asked_for(queues):
    assert queues.guest_to_host.capacity == queues.host_to_guest.capacity == 4


def test_a_capacity_of_0_is_refused_before_there_are_sockets(monkeypatch):
    monkeypatch.setattr("vmbus.sockets.wakes.socket.socketpair", lambda: pytest.fail("sockets were made"))
    with pytest.raises(CallerError, match="at least 1"):
        shared_frame_queues(0)


def test_wakes_that_are_only_flags_cannot_be_waited_for():
    with pytest.raises(CallerError, match="shared_frame_queues"):
        wake_of(NetworkFrameQueues(), "host_wake")


@pytest.mark.parametrize("name", ["wake", "guest_to_host", ""])
def test_a_name_that_is_no_wakes_is_refused_with_those_there_are(queues, name):
    with pytest.raises(CallerError, match="guest_wake, host_wake, relay_wake"):
        wake_of(queues, name)
