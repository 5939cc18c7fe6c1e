"""What links and sockets try under the lock, and what a link does around it.

Each of these was once wrong in a way that only shows when something comes in between.
"""

from __future__ import annotations

import threading
import time

import pytest

from tests.sockets.pairs import PATIENCE, PORT, Running, connect, links
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.sockets import link as link_module
from vmbus.sockets.attempts import SendBytes, Turn, give_up_connecting, send_at_once
from vmbus.virtio import VsockState, connected_vsock


def established(buffer_size: int = 100):
    """Both endpoints, and the two ends of a stream."""
    guest, host = connected_vsock(buffer_size=buffer_size)
    listener = host.listen(PORT)
    client = guest.connect(PORT)
    host.pump()
    guest.pump()
    return guest, host, client, listener.accept()


def test_bytes_that_would_fit_wait_while_another_call_is_in_the_middle_of_its_own():
    guest, host, client, server = established(buffer_size=100)
    turn = Turn()
    long = SendBytes(client, turn, memoryview(b"a" * 150))
    assert long.attempt() is None and long.done == 100
    host.pump()
    assert server.receive(100) == b"a" * 100
    guest.pump()
    assert client.sending.free == 100
    assert send_at_once(client, turn, memoryview(b"b")) is None, "into the middle of somebody's bytes"
    assert long.attempt() is True
    assert send_at_once(client, turn, memoryview(b"b")) is True
    host.pump()
    assert server.receive(100) == b"a" * 50 + b"b"


def test_a_connect_that_is_given_up_after_the_answer_came_is_reset_and_not_left_half_open():
    guest, host, client, server = established()
    give_up_connecting(client)
    assert client.state is VsockState.CLOSED and not guest.connections
    host.pump()
    with pytest.raises(PeerClosed):
        server.receive(1)
    assert not host.connections


def test_a_connect_that_is_given_up_before_the_answer_has_it_reset_when_it_comes():
    guest, host = connected_vsock()
    listener = host.listen(PORT)
    client = guest.connect(PORT)
    give_up_connecting(client)
    host.pump()
    server = listener.accept()
    guest.pump()
    host.pump()
    assert server.state is VsockState.CLOSED and not host.connections


def test_the_reminder_comes_every_second_however_busy_the_link_is(monkeypatch):
    monkeypatch.setattr(link_module, "REMIND_AFTER", 0.04)
    with links() as (near, _):
        over = threading.Event()

        def keep_busy() -> None:
            while not over.wait(0.005):
                near.wake()

        busy = Running(keep_busy)
        reminded = []

        def remind() -> None:
            reminded.append(time.monotonic())

        with pytest.raises(TimedOut):
            near.run(lambda: None, 0.4, "nothing", remind)
        over.set()
        busy.result()
        assert 3 <= len(reminded) <= 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_in_the_middle_of_an_action_ends_the_link(error):
    def interrupted() -> None:
        raise error

    with links() as (near, far):
        client, _ = connect(near, far)
        with pytest.raises(error):
            near.act(interrupted)
        with pytest.raises(ChannelClosed, match="interrupted"):
            client.send(b"more")


@pytest.mark.parametrize(
    "call",
    [
        lambda link: link.connect("9"),
        lambda link: link.connect(9, "host"),
        lambda link: link.connect(9, local_port="any"),
        lambda link: link.listen(None),
        lambda link: link.listen(9, backlog="all"),
        lambda link: link.listen_messages(1.5),
    ],
)
def test_what_is_no_number_is_a_type_error_and_harms_no_connection(call):
    with links() as (near, far):
        client, server = connect(near, far)
        with pytest.raises(TypeError):
            call(near)
        client.send(b"still here")
        assert server.receive(timeout=PATIENCE) == b"still here"


@pytest.mark.parametrize("timeout", [-1, "soon"])
def test_a_timeout_that_is_none_closes_nothing(timeout):
    with links() as (near, far):
        client, server = connect(near, far)
        with pytest.raises(CallerError):
            near.close(timeout)
        with pytest.raises(CallerError):
            near.connect(PORT, timeout=timeout)
        assert near.endpoint.connections == [client._core]
        client.send(b"still here")
        assert server.receive(timeout=PATIENCE) == b"still here"


def test_an_abandoned_link_can_be_closed_although_a_thread_of_the_parent_was_closing_it():
    with links() as (near, _):
        closing, done = threading.Event(), threading.Event()

        def hold() -> None:
            with near._closing, near._lock:
                closing.set()
                done.wait(PATIENCE)

        other = Running(hold)
        assert closing.wait(PATIENCE)
        near.abandon()  # as in a forked child, where that thread is not
        near.close()
        done.set()
        other.result()
        with pytest.raises(ChannelClosed, match="forked"):
            near.connect(PORT, timeout=0)
