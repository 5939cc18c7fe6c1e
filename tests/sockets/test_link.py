"""One link and many threads: who waits is woken at once, nobody is busy meanwhile, and closing ends every wait."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.channel.helpers import RecordingSignal
from tests.sockets.pairs import (
    FORMATS,
    PATIENCE,
    PORT,
    Running,
    await_sleepers,
    connect,
    fill,
    links,
    quickly,
)
from vmbus.channel import descriptor_signals, local_signals
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut, VmbusError
from vmbus.sockets import VsockLink
from vmbus.virtio import VirtioFeatures, VsockState, connected_vsock

#: With the event index, and with flags alone.
FEATURES = {"events": FORMATS["split"], "flags": VirtioFeatures.VERSION_1}

SIGNALS = {"threads": local_signals, "processes": descriptor_signals}


def recording_signals() -> tuple[RecordingSignal, RecordingSignal]:
    near, far = local_signals()
    return RecordingSignal(near), RecordingSignal(far)


class CountedSteps:
    """How often a link has looked."""

    def __init__(self, link: VsockLink) -> None:
        self.count = 0
        self._step = link._steps.step
        link._steps.step = self._count_and_step

    def _count_and_step(self, attempt):
        self.count += 1
        return self._step(attempt)


def end_of(task: Running[object]) -> object:
    """What a call has returned, or the type of what it has raised."""
    try:
        return task.result()
    except VmbusError as error:
        return type(error)


# -- connecting ------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_a_connection_is_made_from_either_side_whoever_comes_first(features, signals):
    with links(features=features, signals=signals) as (near, far):
        for one, other, port in ((near, far, PORT), (far, near, PORT), (near, far, PORT + 1)):
            with other.listen(port) as listener:
                accepting = Running(listener.accept, PATIENCE)
                if port == PORT:
                    await_sleepers(other, 1)
                client = one.connect(port, timeout=PATIENCE)
                server = accepting.result()
            client.send(b"hello")
            assert server.receive(timeout=PATIENCE) == b"hello"
            assert (client.peer, server.peer) == (server.local, client.local)


def test_a_connection_that_was_asked_for_before_anybody_accepts_is_made_by_the_accept():
    with links() as (near, far):
        listener = far.listen(PORT)
        connecting = Running(near.connect, PORT, timeout=PATIENCE)
        await_sleepers(near, 1)
        with quickly():
            server = listener.accept(PATIENCE)
            server.send(b"hello")
            assert connecting.result().receive(timeout=PATIENCE) == b"hello"


def test_a_connect_without_an_answer_is_given_up_and_its_late_answer_is_refused():
    with links() as (near, far):
        listener = far.listen(PORT)
        with pytest.raises(TimedOut, match=r"no answer within 0\.01 s"):
            near.connect(PORT, local_port=77, timeout=0.01)
        assert near.endpoint.connections == []
        late = listener.accept(PATIENCE)  # whose answer nobody waits for
        again = Running(near.connect, PORT, local_port=78, timeout=PATIENCE)
        server = listener.accept(PATIENCE)
        again.result().send(b"x")
        assert server.receive(timeout=PATIENCE) == b"x"
        with pytest.raises(PeerClosed, match="reset"):
            late.receive(timeout=PATIENCE)


def test_a_connect_ends_when_this_link_is_closed_or_the_other_one():
    for end, error in (("near", ChannelClosed), ("far", PeerClosed)):
        with links() as (near, far):
            connecting = Running(near.connect, PORT, timeout=PATIENCE)
            await_sleepers(near, 1)
            with quickly():
                {"near": near, "far": far}[end].close()
                with pytest.raises(error):
                    connecting.result()


@pytest.mark.parametrize("messages", [False, True])
def test_ports_and_cids_that_cannot_be_are_refused(messages):
    with links() as (near, far):
        client, _ = connect(near, far, messages=messages)
        call = near.connect_messages if messages else near.connect
        with pytest.raises(CallerError, match="only CID 2"):
            call(PORT, 9)
        with pytest.raises(CallerError, match="a port is a number"):
            call(2**32)
        with pytest.raises(CallerError, match="connection from port"):
            call(PORT, local_port=client.local.port)
        with pytest.raises(CallerError, match="a port is a number"):
            call(PORT, local_port=-2)


# -- many threads on one link ------------------------------------------------------------------


@pytest.mark.parametrize("signals", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_every_thread_that_waits_on_a_connection_of_its_own_is_woken_at_once(signals, features):
    """Round after round: a wake-up that is lost would take a second."""
    count, rounds = 6, 25
    with links(signals=signals, features=features) as (near, far):
        pairs = [connect(near, far, PORT + number) for number in range(count)]

        def echo(server):
            while data := server.receive(timeout=PATIENCE):
                server.send(data, PATIENCE)

        def ask(client, number):
            for turn in range(rounds):
                data = b"%d of %d" % (turn, number)
                client.send(data, PATIENCE)
                assert client.receive(timeout=PATIENCE) == data
            client.send_end()

        with quickly(4):  # 150 round trips; 0.1 s where nobody naps
            tasks = [Running(echo, server) for _, server in pairs]
            tasks += [Running(ask, client, number) for number, (client, _) in enumerate(pairs)]
            for task in tasks:
                task.result()


def test_data_for_one_of_many_sleepers_wakes_that_one_whichever_it_is():
    count = 5
    with links() as (near, far):
        pairs = [connect(near, far, PORT + number) for number in range(count)]
        tasks = [Running(client.receive, timeout=PATIENCE) for client, _ in pairs]
        await_sleepers(near, count)
        for number in (3, 0, 4, 1, 2):
            with quickly():
                pairs[number][1].send(b"%d" % number)
                assert tasks[number].result() == b"%d" % number
        assert not any(task.still_runs() for task in tasks)


def test_a_thread_that_takes_packets_for_another_wakes_it():
    with links() as (near, far):
        (mine, its), (other, others) = connect(near, far), connect(near, far, PORT + 1)
        waiting = Running(other.receive, timeout=PATIENCE)
        await_sleepers(near, 1)
        # What comes for both is in the queue without a signal: this thread takes it all.
        far.signal.notify, notify = (lambda: None), far.signal.notify
        others.send(b"for the other")
        its.send(b"for me")
        far.signal.notify = notify
        assert mine.receive(timeout=PATIENCE) == b"for me"
        with quickly():
            assert waiting.result() == b"for the other"


def test_a_sender_that_waits_for_credit_is_woken_when_another_thread_takes_the_update():
    with links(buffer_size=1000) as (near, far):
        (mine, its), (client, server) = connect(near, far), connect(near, far, PORT + 1)
        assert fill(client) == 1000
        sending = Running(client.send, b"x" * 100, PATIENCE)
        receiving = Running(mine.receive, timeout=PATIENCE)
        await_sleepers(near, 2)
        with quickly():
            server.receive(timeout=PATIENCE)
            sending.result()
        its.send(b"y")
        assert receiving.result() == b"y"


def test_a_thread_that_is_done_does_not_switch_off_the_notifications_that_another_waits_for():
    with links(features=FEATURES["flags"]) as (near, far):
        (mine, its), (other, others) = connect(near, far), connect(near, far, PORT + 1)
        for _ in range(10):
            waiting = Running(other.receive, timeout=3)
            await_asleep(near)
            receiving = Running(mine.receive, timeout=PATIENCE)
            await_sleepers(near, 2)
            its.send(b"for me")
            assert receiving.result() == b"for me"
            with quickly():
                others.send(b"for the other")
                assert waiting.result() == b"for the other"


def test_two_receivers_of_one_stream_share_what_comes_and_both_see_its_end():
    with links() as (near, far):
        client, server = connect(near, far)
        taken: list[bytes] = []
        tasks = [Running(lambda: taken.extend(iter(server))) for _ in range(2)]
        await_sleepers(far, 2)
        for number in range(50):
            client.send(b"%02d" % number)
        client.send_end()
        with quickly():
            for task in tasks:
                task.result()
        joined = b"".join(taken)
        assert sorted(joined[at : at + 2] for at in range(0, 100, 2)) == [b"%02d" % n for n in range(50)]


def test_serving_in_a_thread_answers_while_the_main_thread_computes():
    with links() as (near, far):
        listener = far.listen(PORT)
        serving = Running(far.serve)
        await_sleepers(far, 1)
        with quickly():
            client = near.connect(PORT, timeout=PATIENCE)  # answered though nobody accepts
            client.send(bytes(1000))
            with pytest.raises(PeerClosed, match="refused"):
                near.connect(PORT + 1, timeout=PATIENCE)
        assert listener.accept(0).receive(timeout=PATIENCE)
        far.close()
        serving.result()


@pytest.mark.parametrize("seconds", [0, 0.02])
def test_serving_ends_with_its_time_and_with_either_side(seconds):
    with links() as (near, far):
        start = time.monotonic()
        near.serve(seconds)
        assert time.monotonic() - start >= seconds
        serving = [Running(near.serve), Running(far.serve)]
        await_sleepers(near, 1)
        await_sleepers(far, 1)
        with quickly():
            near.close()
            for task in serving:
                task.result()


# -- nobody is busy ----------------------------------------------------------------------------


def cpu_while_idle(seconds: float) -> float:
    start = time.process_time()
    threading.Event().wait(seconds)  # the time in which nothing may happen
    return time.process_time() - start


def test_threads_that_wait_do_nothing_meanwhile():
    with links(signals=descriptor_signals) as (near, far):
        pairs = [connect(near, far, PORT + number) for number in range(3)]
        tasks = [Running(end.receive, timeout=PATIENCE) for pair in pairs for end in pair]
        await_sleepers(near, 3)
        await_sleepers(far, 3)
        steps = [CountedSteps(link) for link in (near, far)]
        assert cpu_while_idle(0.15) < 0.05
        assert sum(one.count for one in steps) <= 12
        near.close()
        for task in tasks:
            assert end_of(task) in (ChannelClosed, b"")


@pytest.mark.parametrize("sleepers", [1, 2, 3])
def test_threads_that_wait_while_a_message_waits_for_room_do_nothing_meanwhile(sleepers):
    """The queue is full and something is owed: that must not keep the threads waking each other."""
    with links(queue_size=4) as (near, far):
        client, server = connect(near, far, messages=True)
        others = [connect(near, far, PORT + 1 + number)[0] for number in range(sleepers)]
        client.send(bytes(100_000))
        tasks = [Running(other.receive, timeout=PATIENCE) for other in others]
        await_sleepers(near, sleepers)
        steps = CountedSteps(near)
        assert cpu_while_idle(0.1) < 0.05
        assert steps.count <= 10
        with quickly():
            assert len(server.receive(PATIENCE)) == 100_000  # the sleepers send the rest
        far.close()
        for task in tasks:
            assert end_of(task) in (PeerClosed, b"")


def test_a_sender_that_waits_for_credit_looks_about_once_a_second():
    with links(buffer_size=1000) as (near, far):
        client, _ = connect(near, far)
        fill(client)
        sending = Running(client.send, b"x", PATIENCE)
        await_sleepers(near, 1)
        steps = CountedSteps(near)
        assert cpu_while_idle(0.1) < 0.05
        assert steps.count <= 4
        client.reset()
        with pytest.raises(ChannelClosed):
            sending.result()


def test_a_credit_update_that_the_full_queue_held_back_is_sent_when_there_is_room_though_all_sleep():
    with links(queue_size=4, buffer_size=8000) as (near, far):
        (mine, its), (other, _) = connect(near, far), connect(near, far, PORT + 1)
        fill(its)
        waiting = Running(other.receive, timeout=PATIENCE)
        await_sleepers(near, 1)
        assert near._sleepers == 1
        fill(mine)  # the queue to the other side is full now
        assert mine.receive(8000, PATIENCE)
        with quickly():
            its.send(bytes(4000), PATIENCE)  # takes what is there, and so makes room
        other.close()
        with pytest.raises(ChannelClosed):
            waiting.result()


# -- the end ---------------------------------------------------------------------------------


def waits(near: VsockLink, far: VsockLink) -> list[Running[object]]:
    """A thread of the near link in every kind of wait."""
    client, _ = connect(near, far)
    messages, _ = connect(near, far, PORT + 1, messages=True)
    full, _ = connect(near, far, PORT + 2)
    fill(full)
    listener = near.listen(PORT)
    calls = [
        client.receive,
        messages.receive,
        full.send,
        listener.accept,
        lambda: near.connect(PORT + 3),
        lambda: client.receive_into(bytearray(5)),
        lambda: messages.receive_into(bytearray(5)),
    ]
    tasks = [Running(call, *([b"x"] if call == full.send else [])) for call in calls]
    await_sleepers(near, len(calls))
    return tasks


@pytest.mark.parametrize("signals", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("mine", [True, False], ids=["this side", "the other"])
def test_closing_a_link_ends_every_wait_of_both_sides(signals, mine):
    with links(signals=signals) as (near, far):
        tasks = waits(near, far)
        serving = [Running(near.serve)]
        with quickly():
            (near if mine else far).close(0.1)  # the queue to the other side is full
            ends = [end_of(task) for task in tasks]
            if mine:
                assert ends == [ChannelClosed] * len(tasks)
            else:  # which closes its connections in order
                assert ends == [b"", PeerClosed, PeerClosed, PeerClosed, PeerClosed, 0, PeerClosed]
            for task in serving:
                task.result()


def test_closing_ends_the_waits_of_others_at_once_though_the_other_side_makes_no_room():
    with links(queue_size=4) as (near, far):
        client, _ = connect(near, far, messages=True)
        listener = near.listen(PORT)
        accepting = Running(listener.accept)
        await_sleepers(near, 1)
        client.send(bytes(100_000))  # more than the queue holds
        closing = Running(near.close, 0.4)
        with quickly(0.25), pytest.raises(ChannelClosed):
            accepting.result()
        closing.result()


def test_a_closed_link_refuses_everything_and_says_so():
    with links() as (near, far):
        client, server = connect(near, far)
        listener = near.listen(PORT)
        far.close()
        near.close()
        near.close()
        for call in (
            lambda: near.connect(PORT, timeout=PATIENCE),
            lambda: near.listen(PORT),
            lambda: near.listen_messages(PORT),
            lambda: listener.accept(PATIENCE),
            lambda: client.receive(timeout=PATIENCE),
            lambda: client.send(b"x", PATIENCE),
        ):
            with pytest.raises(ChannelClosed):
                call()
        near.serve()
        client.close()
        client.reset()
        client.send_end()
        client.buffer_size = 5
        listener.close()
        server.close()
        assert repr(near) == "<VsockLink: closed>"


def test_closing_calls_what_was_asked_for_once_and_closes_the_signal_when_nobody_is_left_in_a_call():
    near_signal, far_signal = recording_signals()
    calls: list[int] = []
    guest, host = connected_vsock()
    near = VsockLink(guest, near_signal, on_close=lambda: calls.append(near_signal.waiting_now))
    with VsockLink(host, far_signal):
        tasks = [Running(near.serve) for _ in range(3)]
        await_sleepers(near, 3)
        closing = [Running(near.close) for _ in range(3)]
        for task in [*closing, *tasks]:
            task.result()
    assert (calls, near_signal.closes) == ([0], 1)


def test_the_rest_of_a_message_is_still_sent_when_the_link_is_closed():
    with links(queue_size=4) as (near, far):
        client, server = connect(near, far, messages=True)
        client.send(b"x" * 50_000)
        closing = Running(near.close)
        with quickly(2):
            assert server.receive(PATIENCE) == b"x" * 50_000
            with pytest.raises(PeerClosed):
                server.receive(PATIENCE)
            closing.result()


def test_closing_gives_up_in_time_where_nobody_takes_the_rest():
    with links(queue_size=4) as (near, far):
        client, _ = connect(near, far, messages=True)
        client.send(b"x" * 50_000)
        start = time.monotonic()
        near.close(0.05)
        assert 0.05 <= time.monotonic() - start < 0.5


def test_what_was_sent_before_a_link_was_closed_is_received_first():
    with links() as (near, far):
        client, server = connect(near, far)
        stuck, other = connect(near, far, PORT + 1)
        client.send(b"x" * 100_000)
        client.close()
        stuck.send(b"y" * 50_000)
        near.close()
        taken = b"".join(iter(server))
        assert taken == b"x" * 100_000
        assert other.receive(timeout=PATIENCE) == b"y" * 50_000
        assert other.receive(timeout=PATIENCE) == b""  # closing a link closes its connections in order


def test_a_side_that_goes_without_a_word_is_no_end_of_a_stream():
    with links() as (near, far):
        client, server = connect(near, far)
        client.send(b"half a sentence")
        near.signal.close()  # as when its process is gone
        assert server.receive(timeout=PATIENCE) == b"half a sentence"
        with pytest.raises(PeerClosed, match="gone"):
            server.receive(timeout=PATIENCE)
        with pytest.raises(PeerClosed):
            far.listen(PORT)
        assert server.state is VsockState.CLOSED


# -- interrupts ------------------------------------------------------------------------------


class Interrupted(Exception):
    """What a signal handler raises: not always a KeyboardInterrupt."""


@contextlib.contextmanager
def interrupt_when(ready, action):
    """A thread that sends this process SIGUSR1 when `ready` has returned; the handler does `action`."""
    old = signal.signal(signal.SIGUSR1, lambda *_: action())
    task = Running(lambda: (ready(), signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)))
    try:
        yield
    finally:
        task.result()
        signal.signal(signal.SIGUSR1, old)


@pytest.mark.parametrize("signals", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_an_interrupt_during_a_wait_leaves_the_link_usable(signals, error):
    def interrupt():
        raise error

    with links(signals=signals) as (near, far):
        client, server = connect(near, far)
        for _ in range(3):
            with pytest.raises(error), interrupt_when(lambda: await_asleep(near), interrupt):
                client.receive(timeout=PATIENCE)
            assert near._sleepers == 0
            server.send(b"after")
            with quickly():
                assert client.receive(timeout=PATIENCE) == b"after"
            client.send(b"and back")
            with quickly():
                assert server.receive(timeout=PATIENCE) == b"and back"


def await_asleep(link: VsockLink) -> None:
    """As await_sleepers, for one that really waits for the signal."""
    await_sleepers(link, 1)
    end = time.monotonic() + PATIENCE
    while link._waiters._waiting_thread is None:
        assert time.monotonic() < end
    threading.Event().wait(0.01)


def test_a_signal_handler_may_close_the_link_that_its_thread_waits_in():
    with links() as (near, far):
        client, server = connect(near, far)
        with (
            quickly(),
            pytest.raises(ChannelClosed),
            interrupt_when(lambda: await_asleep(near), near.close),
        ):
            client.receive(timeout=PATIENCE)
        assert server.receive(timeout=PATIENCE) == b""


@pytest.mark.parametrize("at", range(20))
def test_an_interrupt_in_the_middle_of_a_step_ends_the_link_or_harms_nothing(at):
    """It never leaves a connection that goes on with bytes missing."""
    with links() as (near, far):
        client, server = connect(near, far)
        sent = bytes(range(256)) * 16
        server.send(sent)
        server.send_end()
        left = at  # calls of functions, at whose start a signal handler may run

        def tracer(frame, event, argument):
            nonlocal left
            if "/vmbus/" in frame.f_code.co_filename:
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise Interrupted

        sys.settrace(tracer)
        taken = b""
        try:
            taken += client.receive(1000, PATIENCE)
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        with contextlib.suppress(ChannelClosed):
            while data := client.receive(timeout=PATIENCE):
                taken += data
            assert taken in (sent, sent[1000:])  # what the interrupted call had taken is lost with it
        near.close(0.1)


@contextlib.contextmanager
def interrupt_at(number: int) -> Iterator[None]:
    """Raises at the start of the so-manieth call of a function of the package, as a signal handler may."""
    left = number

    def tracer(frame, event, argument):
        nonlocal left
        if "/vmbus/" in frame.f_code.co_filename:
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupted

    sys.settrace(tracer)
    try:
        yield
    except Interrupted:
        pass
    finally:
        sys.settrace(None)


WORKS = {
    "send": lambda near, client: client.send(b"hello"),
    "send_end": lambda near, client: client.send_end(),
    "close": lambda near, client: client.close(),
    "reset": lambda near, client: client.reset(),
    "listen": lambda near, client: near.listen(),
    "connect": lambda near, client: near.endpoint.connections and near.connect(99, timeout=0),
    "close the link": lambda near, client: near.close(0.1),
}


@pytest.mark.parametrize("work", WORKS)
def test_wherever_an_interrupt_comes_nobody_waits_for_ever(work):
    """Either the call is done or not begun, or the link has ended: the other side learns of it at the latest
    when this one is closed, which always works."""
    for number in range(45):
        with links(queue_size=4) as (near, far):
            client, server = connect(near, far)
            receiving = Running(server.receive, timeout=PATIENCE)
            await_sleepers(far, 1)
            with interrupt_at(number), contextlib.suppress(TimedOut, PeerClosed):
                WORKS[work](near, client)
            if near.endpoint.error is None:
                with contextlib.suppress(CallerError, ChannelClosed, PeerClosed):
                    client.send(b" again", timeout=PATIENCE)
            near.close(0.1)
            assert near._steps.closed and near.signal._peer.peer_closed
            with contextlib.suppress(PeerClosed):
                while receiving.result():
                    receiving = Running(server.receive, timeout=PATIENCE)
