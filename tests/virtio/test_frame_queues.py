"""The queues of frames between guest and host: what they hold, refuse, count, and wake.

Source: smolvm smolvm-network, NetworkFrameQueues.
"""

from __future__ import annotations

import threading
import time

import pytest

from vmbus.errors import CallerError
from vmbus.virtio import DEFAULT_FRAME_QUEUE_CAPACITY, EgressCounter, FlagWake, FrameQueue, NetworkFrameQueues

WAKES = ("guest_wake", "host_wake", "relay_wake")


def test_frames_leave_in_the_order_in_which_they_came():  # 4.3: FIFO, capacity 4, third pop None
    queues = NetworkFrameQueues.shared(4)
    for frame in (b"one", b"two"):
        assert queues.guest_to_host.push(frame) is None
    assert [queues.guest_to_host.pop() for _ in range(3)] == [b"one", b"two", None]


def test_a_full_queue_gives_the_frame_back():  # 4.3: push on full gives the frame back
    frames = FrameQueue(2)
    assert [frames.push(b"1"), frames.push(b"2")] == [None, None]
    refused = bytes([3])
    assert frames.push(refused) is refused
    assert len(frames) == 2 and frames.is_full
    assert frames.pop() == b"1"
    assert frames.push(refused) is None
    assert [frames.pop(), frames.pop(), frames.pop()] == [b"2", refused, None]


def test_an_empty_frame_that_is_refused_is_told_from_none():
    frames = FrameQueue(1)
    assert frames.push(b"") is None
    assert frames.push(b"") == b""


@pytest.mark.parametrize("frame", ["text", None, 7, memoryview(b"every other byte")[::2]])
def test_what_is_no_buffer_is_refused_by_the_push(frame):
    frames = FrameQueue(1)
    with pytest.raises(CallerError) as caught:
        frames.push(frame)
    assert caught.value.argument == "frame" and len(frames) == 0


@pytest.mark.parametrize("kind", [bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_a_buffer_that_is_pushed_is_copied_and_given_back_itself_when_there_is_no_room(kind):
    changing = bytearray(b"frame")
    frame = changing if kind is bytearray else memoryview(changing)
    frames = FrameQueue(1)
    assert frames.push(frame) is None
    changing[:] = b"other"
    assert frames.push(frame) is frame
    popped = frames.pop()
    assert (type(popped), popped) == (bytes, b"frame")


def test_a_queue_counts_and_is_true_without_frames():
    frames = FrameQueue(3)
    assert (len(frames), frames.capacity, bool(frames), frames.is_full) == (0, 3, True, False)
    assert frames.push(b"frame") is None
    assert len(frames) == 1 and repr(frames) == "<FrameQueue: 1 of 3 frames>"


def test_both_directions_have_the_given_capacity_and_1024_without_one():  # 4.3: shared(capacity), default
    queues = NetworkFrameQueues.shared(7)
    assert queues.guest_to_host.capacity == queues.host_to_guest.capacity == 7
    assert DEFAULT_FRAME_QUEUE_CAPACITY == 1024
    assert NetworkFrameQueues().host_to_guest.capacity == 1024
    assert NetworkFrameQueues.shared().guest_to_host.capacity == 1024


def test_the_directions_are_apart():
    queues = NetworkFrameQueues.shared(1)
    assert queues.guest_to_host.push(b"out") is None
    assert queues.host_to_guest.push(b"in") is None
    assert (queues.host_to_guest.pop(), queues.guest_to_host.pop()) == (b"in", b"out")


@pytest.mark.parametrize("make", [NetworkFrameQueues, NetworkFrameQueues.shared, FrameQueue])
@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_of_0_is_refused(make, capacity):  # 4.3: 0 panics
    with pytest.raises(CallerError) as caught:
        make(capacity)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("capacity", capacity, 1)


def test_each_wake_wakes_alone():  # 4.3: three wakes
    for name in WAKES:
        queues = NetworkFrameQueues.shared(1)
        getattr(queues, name).wake()
        assert [getattr(queues, one).woken for one in WAKES] == [one == name for one in WAKES]


def test_wakes_of_ones_own_are_used():
    wakes = {name: FlagWake() for name in WAKES}
    queues = NetworkFrameQueues(1, **wakes)
    assert all(getattr(queues, name) is wake for name, wake in wakes.items())


def test_a_wake_of_no_effect_is_remembered_once():
    wake = FlagWake()
    assert wake.drain() is False
    wake.wake()
    wake.wake()
    assert (wake.drain(), wake.drain()) == (True, False)


def test_egress_bytes_add_up():  # 4.3: add_egress_bytes, egress_bytes
    queues = NetworkFrameQueues.shared(1)
    assert queues.egress_bytes() == 0
    queues.add_egress_bytes(100)
    queues.add_egress_bytes(0)
    queues.add_egress_bytes(40)
    assert queues.egress_bytes() == 140


def test_the_counter_is_a_handle_that_sees_later_bytes():  # 4.3: egress_counter
    queues = NetworkFrameQueues.shared(1)
    counter = queues.egress_counter()
    queues.add_egress_bytes(5)
    counter.add(2)
    assert counter is queues.egress_counter()
    assert counter.value == queues.egress_bytes() == 7


def test_the_counter_never_goes_back():  # 4.3: monotonic
    counter = EgressCounter()
    counter.add(3)
    with pytest.raises(CallerError):
        counter.add(-1)
    assert counter.value == 3


def test_a_shutdown_is_sticky_and_wakes_all_three():  # 4.3: begin_shutdown, is_shutting_down
    queues = NetworkFrameQueues.shared(1)
    assert queues.is_shutting_down() is False
    queues.begin_shutdown()
    assert queues.is_shutting_down() is True
    assert all(getattr(queues, name).drain() for name in WAKES)
    queues.begin_shutdown()
    assert queues.is_shutting_down() is True


def test_the_flag_is_up_before_anybody_is_woken():  # 4.3: sticky flag, then wakes all three
    seen = []

    class Looks:
        def wake(self):
            seen.append(queues.is_shutting_down())

    queues = NetworkFrameQueues(1, guest_wake=Looks(), host_wake=Looks(), relay_wake=Looks())
    queues.begin_shutdown()
    assert seen == [True, True, True]


def test_others_are_woken_at_a_shutdown_until_they_are_forgotten():
    queues = NetworkFrameQueues.shared(1)
    stays, goes, late = FlagWake(), FlagWake(), FlagWake()
    queues.wake_at_shutdown(stays)
    queues.wake_at_shutdown(goes)
    queues.forget_at_shutdown(goes)
    queues.begin_shutdown()
    queues.wake_at_shutdown(late)
    assert [wake.woken for wake in (stays, goes, late)] == [True, False, True]


def test_a_shutdown_takes_no_frame_away():
    queues = NetworkFrameQueues.shared(2)
    queues.host_to_guest.push(b"last")
    queues.begin_shutdown()
    assert queues.host_to_guest.pop() == b"last"
    assert queues.host_to_guest.push(b"later") is None


def test_many_producers_and_consumers_lose_and_double_nothing():
    frames, counter, taken = FrameQueue(8), EgressCounter(), []
    producers, each = 3, 300
    deadline = time.monotonic() + 20
    start = threading.Barrier(producers + 2)

    def produce(number):
        start.wait(10)
        for index in range(each):
            frame = bytes([number]) + index.to_bytes(2, "big")
            counter.add(len(frame))
            while frames.push(frame) is not None and time.monotonic() < deadline:
                time.sleep(0)  # let somebody else go on

    def consume():
        start.wait(10)
        while len(taken) < producers * each and time.monotonic() < deadline:
            frame = frames.pop()
            if frame is not None:
                taken.append(frame)
            else:
                time.sleep(0)

    threads = [threading.Thread(target=produce, args=(number,), daemon=True) for number in range(producers)]
    threads += [threading.Thread(target=consume, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(taken) == len(set(taken)) == producers * each
    assert counter.value == 3 * producers * each
