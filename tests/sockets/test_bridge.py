"""The relay between a VMBus byte channel and a vsock stream: bytes, ends, breaks, stops, and how little it holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.channel.children import Children, needs_linux
from tests.sockets.pairs import (
    FORMATS,
    PATIENCE,
    PORT,
    Running,
    connect,
    links,
    quickly,
    threads_of,
)
from vmbus.channel import ByteChannel, MessageChannel, SharedChannel, connected_channels
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError, TimedOut
from vmbus.layout import IN_WORD
from vmbus.sockets import BridgeEnd, BridgeResult, SharedVsock, VsockStream, bridge, serve_bridge
from vmbus.virtio import VsockShutdown


@pytest.fixture
def children(no_descriptor_left: None) -> Iterator[Children]:
    with contextlib.closing(Children()) as started:
        yield started


class Bridged(NamedTuple):
    """Who talks through a relay.

    guest, client     the outer ends: of the channel, and of the stream
    channel, stream   the inner ones
    relay             the relay, in a thread
    """

    guest: ByteChannel
    client: VsockStream
    channel: ByteChannel
    stream: VsockStream
    relay: Running[BridgeResult]


@contextlib.contextmanager
def bridged(timeout: float | None = None, **options: int) -> Iterator[Bridged]:
    with links(**options) as (near, far):
        client, stream = connect(near, far)
        guest, host = connected_channels(size=16384, kind=ByteChannel)
        one = Bridged(guest, client, host, stream, Running(bridge, host, stream, timeout))
        yield one
        guest.close()
        client.reset()
        with contextlib.suppress(Exception):
            one.relay.result()


def await_no_thread() -> None:
    """Return when no relay has a thread any more: one that was interrupted at its start may be ending still."""
    end = time.monotonic() + 1
    while threads_of("vmbus bridge"):
        assert time.monotonic() < end, "a thread of a relay is left"
        os.sched_yield()


@pytest.fixture
def pair():
    with bridged() as one:
        yield one
    await_no_thread()


def talk(end, sent: bytes, seed: int) -> tuple[Running[None], Running[bytes]]:
    """Send in random chunks, and receive to the end of the other side's stream."""

    def send() -> None:
        draw, rest = random.Random(seed), memoryview(sent)
        while rest:
            count = int(2 ** draw.uniform(0, 16))
            end.send(rest[:count], PATIENCE)
            rest = rest[count:]
        end.send_end(PATIENCE)

    def receive() -> bytes:
        taken = bytearray()
        while data := end.receive(65536, PATIENCE):
            taken += data
        return bytes(taken)

    return Running(send), Running(receive)


# -- bytes and ends ----------------------------------------------------------------------------


def test_random_chunks_go_through_whole_both_ways_at_once(pair):
    sent = [random.Random(one).randbytes(300_000 + one) for one in range(2)]
    (send, receive), (client_send, client_receive) = (
        talk(pair.guest, sent[0], 1),
        talk(pair.client, sent[1], 2),
    )
    assert client_receive.result() == sent[0]
    assert receive.result() == sent[1]
    send.result()
    client_send.result()
    assert pair.relay.result() == BridgeResult(BridgeEnd.ENDED, 300_000, 300_001)
    with pytest.raises(ChannelClosed):
        pair.channel.receive()
    with pytest.raises(ChannelClosed):
        pair.stream.receive()


@pytest.mark.parametrize("first", ["guest", "client"])
def test_the_end_of_either_stream_is_passed_on_and_the_other_direction_goes_on(pair, first):
    one, other = (pair.guest, pair.client) if first == "guest" else (pair.client, pair.guest)
    one.send(b"last words")
    one.send_end()
    assert other.receive(timeout=PATIENCE) == b"last words"
    assert other.receive(timeout=PATIENCE) == b""
    for number in range(20):
        other.send(b"%d" % number)
        assert one.receive(timeout=PATIENCE) == b"%d" % number
    assert pair.relay.still_runs()
    other.send_end()
    assert one.receive(timeout=PATIENCE) == b""
    result = pair.relay.result()
    assert (result.end, result.error) == (BridgeEnd.ENDED, None)
    assert sorted([result.to_stream, result.to_channel]) == [10, 30]


def test_nothing_at_all_goes_through_as_nothing(pair):
    pair.guest.send_end()
    pair.client.send_end()
    assert pair.client.receive(timeout=PATIENCE) == pair.guest.receive(timeout=PATIENCE) == b""
    assert pair.relay.result() == BridgeResult(BridgeEnd.ENDED, 0, 0)


# -- a side that does not read -----------------------------------------------------------------


def used(channel: ByteChannel) -> int:
    """Bytes of a ring that nobody has read, of what a channel sends."""
    ring = channel.outgoing
    control = ring.memory.control
    return (control[IN_WORD] - control[IN_WORD + 1]) % ring.size


@pytest.mark.parametrize("direction", ["to the stream", "to the channel"])
def test_a_side_that_does_not_read_stops_the_other_and_little_is_held_between(direction):
    """What is taken is what the buffers of both sides hold, and one piece."""
    data = random.Random(3).randbytes(1_000_000)
    with bridged(queue_size=4, buffer_size=20_000) as pair:
        fast, slow = (pair.guest, pair.client) if direction == "to the stream" else (pair.client, pair.guest)
        with pytest.raises(TimedOut) as caught:
            fast.send(data, 0.1)
        taken = caught.value.done
        # ring and the client's buffer; or the stream's buffer, both once, and a piece of each
        assert 20_000 < taken <= 16_384 + 20_000 + 65_536 + 4 * 4096
        with pytest.raises(TimedOut) as caught:
            fast.send(data[taken:], 0.05)
        assert caught.value.done == 0  # it is stopped for good
        # The other direction is not.
        slow.send(b"still moving")
        assert fast.receive(timeout=PATIENCE) == b"still moving"
        sending = Running(lambda: (fast.send(data[taken:], PATIENCE), fast.send_end(PATIENCE)))
        came = bytearray()
        while part := slow.receive(65536, PATIENCE):
            came += part
        sending.result()
        assert came == data
        slow.send_end()
        assert pair.relay.result().end is BridgeEnd.ENDED


# -- breaks ----------------------------------------------------------------------------------


def test_a_stream_that_is_reset_closes_the_channel_behind_what_it_sent(pair):
    pair.client.send(b"before")
    assert pair.guest.receive(timeout=PATIENCE) == b"before"
    pair.client.reset()
    with quickly(), pytest.raises(PeerClosed):  # and not the end of a stream
        pair.guest.receive(timeout=PATIENCE)
    result = pair.relay.result()
    assert (result.end, result.to_stream, result.to_channel) == (BridgeEnd.STREAM_BROKE, 0, 6)
    assert isinstance(result.error, PeerClosed) and "reset" in str(result.error)


def test_a_channel_that_is_closed_resets_the_stream_behind_what_it_sent(pair):
    pair.guest.send(b"before")
    pair.guest.close()
    assert pair.client.receive(timeout=PATIENCE) == b"before"
    with quickly(), pytest.raises(PeerClosed, match="reset"):
        pair.client.receive(timeout=PATIENCE)
    result = pair.relay.result()
    assert (result.end, result.to_stream, result.to_channel) == (BridgeEnd.CHANNEL_BROKE, 6, 0)
    assert isinstance(result.error, PeerClosed)


def test_what_a_stream_sent_before_it_was_closed_reaches_a_channel_that_still_sends():
    """The first send that nobody takes must not throw away what is still to be passed on the other way."""
    data = bytes(range(256)) * 80
    with bridged(buffer_size=30_000) as pair:
        sending = Running(pair.guest.send, bytes(10**6), PATIENCE)
        taken = len(pair.client.receive(100, PATIENCE))
        pair.client.send(data)
        pair.client.close()
        came = b""
        while part := pair.guest.receive(timeout=PATIENCE):
            came += part
        assert (taken, came) == (100, data)
        assert pair.relay.result().end is BridgeEnd.STREAM_BROKE
        with pytest.raises(PeerClosed):
            sending.result()


def test_a_stream_that_receives_no_more_is_told_to_the_channel_once_it_sends_no_more_either(pair):
    pair.client.shutdown(VsockShutdown.RECEIVE)
    pair.guest.send(b"for nobody")
    for number in range(5):
        pair.client.send(b"%d" % number)
        assert pair.guest.receive(timeout=PATIENCE) == b"%d" % number
    assert pair.relay.still_runs()
    pair.client.send_end()
    with quickly(), pytest.raises(PeerClosed):
        while pair.guest.receive(timeout=PATIENCE):
            pass
        pair.guest.send(bytes(10**6), PATIENCE)
    result = pair.relay.result()
    assert (result.end, result.to_channel) == (BridgeEnd.STREAM_BROKE, 5)


def test_a_channel_whose_ring_makes_no_sense_closes_the_stream_and_is_blamed(pair):
    pair.guest.outgoing.memory.control[IN_WORD] = 12345
    pair.channel.signal.wake()
    with quickly(), pytest.raises(PeerClosed, match="reset"):
        pair.client.receive(timeout=PATIENCE)
    result = pair.relay.result()
    assert result.end is BridgeEnd.CHANNEL_BROKE and isinstance(result.error, PeerError)


def test_a_link_that_is_gone_ends_the_relay(pair):
    pair.client._link.signal.close()
    with quickly(), pytest.raises(PeerClosed):
        pair.guest.receive(timeout=PATIENCE)
    assert pair.relay.result().end is BridgeEnd.STREAM_BROKE


# -- stops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["channel", "stream"])
@pytest.mark.parametrize("busy", [False, True])
def test_closing_either_one_from_another_thread_ends_the_relay_at_once(pair, which, busy):
    if busy:
        sending = Running(pair.guest.send, bytes(10**6), PATIENCE)
        assert pair.client.receive(timeout=PATIENCE)
    with quickly():
        getattr(pair, which).close()
        assert pair.relay.result().end is BridgeEnd.STOPPED
        with pytest.raises(PeerClosed):
            pair.guest.receive(timeout=PATIENCE)
    if busy:
        with pytest.raises(PeerClosed):
            sending.result()


@pytest.mark.parametrize("busy", [False, True])
def test_a_relay_ends_with_its_time(busy):
    with bridged(timeout=0.05) as pair, quickly():
        if busy:
            sending = Running(pair.guest.send, bytes(10**6), PATIENCE)
        result = pair.relay.result()
        assert result.end is BridgeEnd.TIMED_OUT and isinstance(result.error, TimedOut)
        Running(pair.stream._link.serve)  # the reset is sent when there is room for it
        with pytest.raises(PeerClosed):
            while pair.client.receive(timeout=PATIENCE):
                pass
        if busy:
            with pytest.raises(PeerClosed):
                sending.result()


def test_a_time_that_is_none_is_refused_and_closes_nothing():
    with links() as (near, far):
        client, stream = connect(near, far)
        guest, host = connected_channels(kind=ByteChannel)
        with pytest.raises(CallerError):
            bridge(host, stream, -1)
        guest.send(b"open")
        client.send(b"open")
        assert host.receive() == stream.receive(timeout=PATIENCE) == b"open"


@pytest.mark.parametrize("wrong", ["messages of a channel", "messages of vsock", "the wrong way round"])
def test_what_is_no_channel_or_no_stream_is_refused_by_name_and_closes_nothing(wrong):
    with links() as (near, far):
        is_channel = wrong == "messages of a channel"
        client, stream = connect(near, far, messages=wrong == "messages of vsock")
        guest, host = connected_channels(kind=MessageChannel if is_channel else ByteChannel)
        ends = (stream, host) if wrong == "the wrong way round" else (host, stream)
        with pytest.raises(
            CallerError,
            match=r"a channel \(the class ByteChannel\) to a stream \(the class VsockStream\): its",
        ) as caught:
            bridge(*ends, 1)  # a second: an end of it where it is not refused
        found = {
            "messages of a channel": ("channel", "MessageChannel"),
            "messages of vsock": ("stream", "VsockMessages"),
            "the wrong way round": ("channel", "VsockStream"),
        }
        assert (caught.value.argument, caught.value.value) == found[wrong]
        guest.send(b"open")
        client.send(b"open")
        assert host.receive() == stream.receive(timeout=PATIENCE) == b"open"
    await_no_thread()


def test_what_is_nobodys_fault_is_raised_and_closes_both():
    """A caller that has ended the stream itself."""
    with links() as (near, far):
        _, stream = connect(near, far)
        guest, host = connected_channels(kind=ByteChannel)
        stream.send_end()
        guest.send(b"x")
        with quickly(), pytest.raises(CallerError, match="sends no more"):
            bridge(host, stream)
        with pytest.raises(PeerClosed):
            guest.receive(timeout=PATIENCE)


def test_an_interrupt_ends_both_and_leaves_no_thread():
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with links() as (near, far):
        client, stream = connect(near, far)
        guest, host = connected_channels(kind=ByteChannel)
        old = signal.signal(signal.SIGUSR1, interrupt)

        def once_it_runs() -> None:
            guest.send(b"x")
            client.receive(timeout=PATIENCE)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        task = Running(once_it_runs)
        try:
            with quickly(), pytest.raises(KeyboardInterrupt):
                bridge(host, stream)
        finally:
            task.result()
            signal.signal(signal.SIGUSR1, old)
        await_no_thread()
        with pytest.raises(PeerClosed):
            guest.receive(timeout=PATIENCE)
        with pytest.raises(PeerClosed):
            client.receive(timeout=PATIENCE)


def test_a_thread_that_cannot_be_started_closes_both(monkeypatch):
    with links() as (near, far):
        client, stream = connect(near, far)
        guest, host = connected_channels(kind=ByteChannel)
        start, started = threading.Thread.start, []

        def start_one(thread: threading.Thread) -> None:
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)
        with quickly(), pytest.raises(RuntimeError, match="new thread"):
            bridge(host, stream)
        monkeypatch.undo()
        assert not started[0].is_alive()
        for end in (guest, client):
            with pytest.raises(PeerClosed):
                end.receive(timeout=PATIENCE)


# -- between processes -------------------------------------------------------------------------

MEGABYTES = 20


def stream_of(seed: int) -> Iterator[bytes]:
    """The same random chunks each time."""
    draw = random.Random(seed)
    pool = draw.randbytes(1 << 17)
    left = MEGABYTES * 10**6 // 2
    while left:
        length = min(int(2 ** draw.uniform(8, 16.9)), left)
        start = draw.randrange(len(pool) - length + 1)
        yield pool[start : start + length]
        left -= length


def exchange(end, mine: int, its: int) -> None:
    """Send one stream and receive the other, both at once, and compare checksums."""
    expected, found = hashlib.sha256(), hashlib.sha256()

    def send() -> None:
        for chunk in stream_of(mine):
            end.send(chunk, PATIENCE)
        end.send_end(PATIENCE)

    sending = Running(send)
    while data := end.receive(65536, PATIENCE):
        found.update(data)
    sending.result()
    for chunk in stream_of(its):
        expected.update(chunk)
    assert found.digest() == expected.digest()


@needs_linux
@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_twenty_megabytes_go_from_process_to_process_to_process(children, features):
    near, far = SharedChannel.create(1 << 17)
    guest, host = SharedVsock.create(features=features)
    with near, far, guest, host:

        def hvsock_guest() -> None:
            with near.attach(ByteChannel) as channel:
                exchange(channel, 1, 2)

        def vsock_guest() -> None:
            with guest.attach() as link:
                link.serve(0)
                exchange(connect_somehow(link), 2, 1)

        started = [children.start(hvsock_guest), children.start(vsock_guest)]
        with host.attach() as link, far.attach(ByteChannel) as channel:
            stream = link.listen(PORT).accept(PATIENCE)
            result = bridge(channel, stream, PATIENCE)
        assert [children.join(child) for child in started] == [0, 0]
    half = MEGABYTES * 10**6 // 2
    assert result == BridgeResult(BridgeEnd.ENDED, half, half)


def connect_somehow(link):
    """Nobody may listen there yet."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return link.connect(PORT, timeout=PATIENCE)
        except PeerClosed:
            assert link.endpoint.error is None and time.monotonic() < end
            os.sched_yield()


@needs_linux
@pytest.mark.parametrize("victim", ["the channel's", "the stream's"])
def test_a_peer_that_is_killed_on_either_side_is_told_to_the_other(children, victim):
    near, far = SharedChannel.create(16384)
    guest, host = SharedVsock.create()
    flag = children.flag()
    with near, far, guest, host, contextlib.ExitStack() as cleanup:

        def hang(end) -> None:
            end.send(b"hello")
            flag.set()
            end.receive(timeout=PATIENCE)
            threading.Event().wait()

        if victim == "the channel's":
            child = children.start(lambda: hang(near.attach(ByteChannel)))
            link = cleanup.enter_context(guest.attach())
        else:
            child = children.start(lambda: hang(connect_somehow(guest.attach())))
            survivor = cleanup.enter_context(near.attach(ByteChannel))
        there = cleanup.enter_context(host.attach())
        listener = there.listen(PORT)
        if victim == "the channel's":
            accepting = Running(listener.accept, PATIENCE)
            survivor = link.connect(PORT, timeout=PATIENCE)
            stream = accepting.result()
        else:
            stream = listener.accept(PATIENCE)
        channel = cleanup.enter_context(far.attach(ByteChannel))
        relay = Running(bridge, channel, stream)
        assert survivor.receive(timeout=PATIENCE) == b"hello"
        flag.wait()
        children.kill(child)
        with quickly(0.3):
            with pytest.raises(PeerClosed):
                survivor.receive(timeout=PATIENCE)
            end = relay.result().end
        assert end is (BridgeEnd.CHANNEL_BROKE if victim == "the channel's" else BridgeEnd.STREAM_BROKE)
        children.join(child)


# -- the service -----------------------------------------------------------------------------


class Echoes:
    """Gives channels to echoing threads, and counts how many there are at a time."""

    def __init__(self) -> None:
        self.open = self.most = 0
        self.lock = threading.Lock()
        self.fails = False

    def connect(self, stream: VsockStream) -> ByteChannel:
        if self.fails:
            raise OSError("no such service")
        guest, host = connected_channels(kind=ByteChannel)
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)

        def echo() -> None:
            with contextlib.suppress(PeerClosed):
                for data in guest:
                    guest.send(data)
                guest.send_end()

        Running(echo)
        return host

    def done(self, result: BridgeResult) -> None:
        with self.lock:
            self.open -= 1


def test_the_service_bridges_so_many_at_a_time_and_returns_with_its_listener():
    echoes = Echoes()
    results: list[BridgeResult] = []

    def on_end(result: BridgeResult) -> None:
        echoes.done(result)
        results.append(result)

    with links() as (near, far):
        listener = far.listen(PORT)
        serving = Running(serve_bridge, listener, echoes.connect, most=3, on_end=on_end)

        def ask(number: int) -> bytes:
            with near.connect(PORT, timeout=PATIENCE) as client:
                client.send(b"question %d" % number)
                client.send_end()
                return b"".join(client)

        tasks = [Running(ask, number) for number in range(10)]
        assert [task.result() for task in tasks] == [b"question %d" % number for number in range(10)]
        listener.close()
        serving.result()
        assert len(results) == 10 and {one.end for one in results} == {BridgeEnd.ENDED}
        assert 1 <= echoes.most <= 3
    await_no_thread()


def test_a_connection_that_gets_no_channel_is_reset_and_the_service_goes_on(caplog):
    echoes = Echoes()
    with links() as (near, far):
        listener = far.listen(PORT)
        serving = Running(serve_bridge, listener, echoes.connect, most=1)
        echoes.fails = True
        with quickly(), pytest.raises(PeerClosed, match="reset"):
            near.connect(PORT, timeout=PATIENCE).receive(timeout=PATIENCE)
        echoes.fails = False
        with near.connect(PORT, timeout=PATIENCE) as client:
            client.send(b"works")
            client.send_end()
            assert b"".join(client) == b"works"
        listener.close()
        serving.result()
    assert "could not be bridged" in caplog.text


def test_an_on_end_that_fails_is_said_to_have_and_the_service_goes_on(caplog):
    def fail(result: BridgeResult) -> None:
        raise ValueError("no room for results")

    with links() as (near, far):
        listener = far.listen(PORT)
        serving = Running(serve_bridge, listener, Echoes().connect, most=1, on_end=fail)
        for number in range(2):
            with near.connect(PORT, timeout=PATIENCE) as client:
                client.send(b"%d" % number)
                client.send_end()
                assert b"".join(client) == b"%d" % number
        listener.close()
        serving.result()
    assert caplog.text.count("on_end has failed") == caplog.text.count("ValueError: no room for results") == 2
    assert "BridgeEnd.ENDED" in caplog.text and "could not be bridged" not in caplog.text


@pytest.mark.parametrize("before", [0, 1])
def test_a_service_that_gets_no_thread_says_so_and_ends_its_bridges(monkeypatch, before):
    """A bridge takes three threads: the service's, and one for each way."""
    start, left = threading.Thread.start, 3 * before

    def start_some(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name == "vmbus bridge":
            if not left:
                raise RuntimeError("can't start new thread")
            left -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with links() as (near, far):
        serving = Running(serve_bridge, far.listen(PORT), Echoes().connect)
        clients = []
        for _ in range(before):
            clients.append(near.connect(PORT, timeout=PATIENCE))
            clients[-1].send(b"x")
            assert clients[-1].receive(timeout=PATIENCE) == b"x"
        clients.append(near.connect(PORT, timeout=PATIENCE))
        with quickly(), pytest.raises(RuntimeError, match="new thread"):
            serving.result()
        for client in clients:
            with pytest.raises(PeerClosed, match="reset"):
                client.receive(timeout=PATIENCE)
    await_no_thread()


def test_an_interrupted_service_ends_its_bridges():
    echoes = Echoes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with links() as (near, far):
        old = signal.signal(signal.SIGUSR1, interrupt)

        def use_and_interrupt() -> None:
            client = near.connect(PORT, timeout=PATIENCE)
            client.send(b"x")
            client.receive(timeout=PATIENCE)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            with pytest.raises(PeerClosed):
                client.receive(timeout=PATIENCE)

        listener = far.listen(PORT)
        task = Running(use_and_interrupt)
        try:
            with quickly(), pytest.raises(KeyboardInterrupt):
                serve_bridge(listener, echoes.connect)
        finally:
            task.result()
            signal.signal(signal.SIGUSR1, old)
    await_no_thread()


def test_a_stream_that_is_closed_altogether_ends_the_bridge_though_the_guest_says_nothing():
    with links() as (near, far):
        client, server = connect(near, far)
        guest, host = connected_channels(kind=ByteChannel)
        with guest:
            bridging = Running(bridge, host, server)
            client.send(b"the last words")
            client.close()
            result = bridging.result()
            assert (result.end, result.to_channel) == (BridgeEnd.STREAM_BROKE, 14)
            assert "takes no more" in str(result.error)
            assert b"".join(guest) == b"the last words"
