"""Signals between threads, beyond what every signal must do (test_signal_contract.py)."""

from __future__ import annotations

import threading

import pytest

from tests.channel.helpers import PATIENCE, Running
from vmbus.channel import PacketChannel, connected_channels, local_signals
from vmbus.errors import CallerError


def test_any_number_of_signals_are_one():
    near, far = local_signals()
    for _ in range(5):
        near.notify()
        far.wake()
    assert far.wait(0) is True
    assert far.wait(0) is False


def test_it_has_no_descriptor_and_says_what_has():
    near, _ = local_signals()
    with pytest.raises(CallerError, match="pollable=True"):
        near.fileno()
    with pytest.raises(CallerError, match="pollable=True"):
        connected_channels()[0].fileno()


def test_two_pairs_know_nothing_of_each_other():
    near, far = local_signals()
    other_near, other_far = local_signals()
    near.notify()
    near.close()
    assert other_near.wait(0) is other_far.wait(0) is False
    assert (other_near.peer_closed, other_far.peer_closed, far.peer_closed) == (False, False, True)


def test_only_the_other_side_sees_the_close():
    near, far = local_signals()
    near.close()
    assert (near.peer_closed, far.peer_closed) == (False, True)
    assert near.wait(0) is False


def test_many_threads_that_signal_at_once_harm_nothing():
    near, far = local_signals()
    start = threading.Barrier(4)

    def tell() -> None:
        start.wait(PATIENCE)
        for _ in range(500):
            near.notify()
            far.wake()

    tasks = [Running(tell) for _ in range(3)]
    start.wait(PATIENCE)
    while any(task.still_runs() for task in tasks):
        far.wait(0)
    for task in tasks:
        task.result()
    far.wait(0)
    assert far.wait(0) is False


def test_connected_channels_over_it_carry_both_ways():
    guest, host = connected_channels(kind=PacketChannel)
    reader = Running(host.receive)
    guest.send(b"there")
    assert reader.result().payload == b"there\0\0\0"
    reader = Running(guest.receive)
    host.send(b"back")
    assert reader.result().payload == b"back\0\0\0\0"
