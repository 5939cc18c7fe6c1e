"""Vsock sockets for threads: what each method does, how each wait ends, and what each error says."""

from __future__ import annotations

import io
import random
import re
import time
from contextlib import suppress

import pytest

from tests.sockets.pairs import (
    FORMATS,
    PATIENCE,
    PORT,
    Running,
    await_sleepers,
    connect,
    connected_pair,
    fill,
    links,
    quickly,
)
from vmbus.errors import BufferTooSmall, CallerError, ChannelClosed, PeerClosed, PeerError, TimedOut
from vmbus.virtio import VsockShutdown, VsockState


@pytest.fixture
def pair():
    with connected_pair() as ends:
        yield ends


@pytest.fixture
def messages():
    with links() as (near, far):
        yield connect(near, far, messages=True)


# -- streams ---------------------------------------------------------------------------------


@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_a_stream_of_any_chunks_arrives_as_it_was_sent_in_both_directions_at_once(features):
    size, seed = 400_000, 5
    with connected_pair(features=features, queue_size=8, buffer_size=20_000) as ends:

        def send(end, data, draw):
            while data:
                count = draw.choice([1, 43, 44, 45, 4095, 4096, 4097, 30_000])
                end.send(data[:count], PATIENCE)
                data = data[count:]
            end.send_end()

        def receive(end, draw):
            taken = bytearray()
            while data := end.receive(draw.choice([1000, 4096, 100_000]), PATIENCE):
                taken += data
            return bytes(taken)

        sent = [random.Random(seed + one).randbytes(size) for one in range(2)]
        senders = [
            Running(send, end, data, random.Random(seed)) for end, data in zip(ends, sent, strict=True)
        ]
        receivers = [Running(receive, end, random.Random(seed)) for end in ends]
        assert [one.result() for one in receivers] == sent[::-1]
        for one in senders:
            one.result()


def test_what_is_sent_before_anything_is_received_comes_in_order_and_whole(pair):
    client, server = pair
    for part in (b"one ", bytearray(b"two "), memoryview(b"three"), b""):
        client.send(part)
    assert server.receive(timeout=PATIENCE) == b"one two three"


def test_a_receive_takes_no_more_than_its_limit_and_leaves_the_rest(pair):
    client, server = pair
    client.send(b"abcdef")
    assert [server.receive(4, PATIENCE), server.receive(4, PATIENCE)] == [b"abcd", b"ef"]


def test_a_receive_into_a_buffer_fills_what_there_is_and_says_how_much(pair):
    client, server = pair
    client.send(b"abcdef")
    buffer = bytearray(b"........")
    assert server.receive_into(memoryview(buffer)[1:5], PATIENCE) == 4
    assert server.receive_into(buffer, PATIENCE) == 2
    assert buffer == b"efbcd..."[:2] + b"bcd..."
    client.send_end()
    assert server.receive_into(buffer, PATIENCE) == 0


def test_iterating_gives_bytes_until_the_end_of_the_stream(pair):
    client, server = pair
    client.send(b"abc")
    assert next(iter(server)) == b"abc"
    client.send(b"def")
    client.send_end()
    assert b"".join(server) == b"def"


def test_the_end_of_a_stream_is_no_bytes_each_time_and_the_other_direction_goes_on(pair):
    client, server = pair
    client.send(b"last")
    client.send_end()
    client.send_end()
    assert [server.receive(timeout=PATIENCE) for _ in range(3)] == [b"last", b"", b""]
    server.send(b"still here")
    assert client.receive(timeout=PATIENCE) == b"still here"
    server.send_end()
    assert client.receive(timeout=PATIENCE) == b""
    with pytest.raises(CallerError, match="sends no more"):
        client.send(b"x")


def test_closing_is_the_end_of_the_stream_for_the_other_side_behind_all_that_was_sent(pair):
    client, server = pair
    client.send(b"last words")
    client.close()
    client.close()
    assert server.receive(4, PATIENCE) == b"last"
    assert server.receive(timeout=PATIENCE) == b" words"
    assert server.receive(timeout=PATIENCE) == b""
    with pytest.raises(PeerClosed) as caught:
        server.send(b"x", PATIENCE)
    assert caught.value.done == 0
    for call in (lambda: client.receive(timeout=PATIENCE), lambda: client.send(b"x", PATIENCE)):
        with pytest.raises(ChannelClosed):
            call()


def test_the_context_manager_closes_the_connection(pair):
    client, server = pair
    with client as same:
        assert same is client
    assert client.state in (VsockState.CLOSING, VsockState.CLOSED)
    assert server.receive(timeout=PATIENCE) == b""


def test_a_side_that_receives_no_more_refuses_what_is_sent_and_can_still_send(pair):
    client, server = pair
    server.shutdown(VsockShutdown.RECEIVE)
    server.send(b"still sending")
    assert client.receive(timeout=PATIENCE) == b"still sending"
    with pytest.raises(PeerClosed, match="receives no more"):
        client.send(b"x", PATIENCE)
    with pytest.raises(ChannelClosed, match="receives no more"):
        server.receive(timeout=PATIENCE)


def test_a_reset_ends_both_directions_and_what_came_before_it_is_read_first(pair):
    client, server = pair
    client.send(b"before")
    assert server.receive(1, PATIENCE) == b"b"
    client.reset()
    client.reset()
    assert server.receive(timeout=PATIENCE) == b"efore"
    for call in (lambda: server.receive(timeout=PATIENCE), lambda: server.send(b"x", PATIENCE)):
        with pytest.raises(PeerClosed, match="reset"):
            call()


def test_a_send_that_runs_out_of_time_says_how_much_was_taken_and_that_much_arrives(pair):
    client, server = pair
    data = random.Random(1).randbytes(400_000)
    with pytest.raises(
        TimedOut, match=re.escape("the other side has not taken it all within 0.02 s")
    ) as caught:
        client.send(data, 0.02)
    assert 0 < caught.value.done < len(data)
    taken = bytearray()
    while len(taken) < caught.value.done:
        taken += server.receive(timeout=PATIENCE)
    assert taken == data[: caught.value.done]
    with pytest.raises(TimedOut):
        server.receive(timeout=0)


@pytest.mark.parametrize("end", ["close", "peer_close", "peer_reset", "link", "peer_link"])
def test_a_send_that_is_ended_says_how_much_was_taken(end):
    with links(queue_size=8) as (near, far):
        client, server = connect(near, far)
        data = bytes(10**6)
        sending = Running(client.send, data, PATIENCE)
        await_sleepers(near, 1)
        taken = len(server.receive(timeout=PATIENCE))
        await_sleepers(near, 1)
        action = {
            "close": client.close,
            "peer_close": server.close,
            "peer_reset": server.reset,
            "link": lambda: near.close(0),
            "peer_link": lambda: far.close(0),
        }[end]
        with quickly():
            action()
            with pytest.raises(ChannelClosed if end in ("close", "link") else PeerClosed) as caught:
                sending.result()
        assert taken <= caught.value.done < len(data)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_wait_that_nobody_ends_is_timed_out_and_the_next_one_works(pair, timeout):
    client, server = pair
    start = time.monotonic()
    with pytest.raises(TimedOut, match="nothing has come within") as caught:
        server.receive(timeout=timeout)
    assert time.monotonic() - start >= timeout and caught.value.done == 0
    client.send(b"late")
    assert server.receive(timeout=0) == b"late"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_a_time_that_is_none_is_refused_and_harms_nothing(pair, timeout):
    client, server = pair
    with pytest.raises(CallerError, match="timeout is a number of seconds"):
        server.receive(timeout=timeout)
    client.send(b"works")
    assert server.receive(timeout=PATIENCE) == b"works"


@pytest.mark.parametrize("limit", [-1, 0, "x", None, 1.5])
@pytest.mark.parametrize("waiting", [b"", b"x", b"data"])
def test_a_limit_that_is_none_is_refused_at_once_and_harms_no_connection(pair, limit, waiting):
    client, server = pair
    client.send(waiting)
    with pytest.raises((CallerError, TypeError)):
        server.receive(limit, 0.2)
    client.send(b"works")
    taken = b""
    while len(taken) < len(waiting) + 5:
        taken += server.receive(timeout=PATIENCE)
    assert taken == waiting + b"works"


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_what_is_no_buffer_is_refused_and_harms_no_connection(pair, messages, data):
    for one, other in (pair, messages):
        with pytest.raises((CallerError, TypeError)):
            one.send(data)
        with pytest.raises((CallerError, TypeError)):
            one.receive_into(data, 0.1)
        with pytest.raises(CallerError, match="buffer"):
            one.receive_into(b"read only", 0.1)
        one.send(b"works")
        assert other.receive(timeout=PATIENCE) == b"works"


def test_the_receive_buffer_bounds_what_the_other_side_can_send_and_can_be_changed():
    with connected_pair(buffer_size=10_000) as (client, server):
        assert (client.buffer_size, server.buffer_size) == (10_000, 10_000)
        assert fill(client) == 10_000
        server.buffer_size = 25_000
        assert fill(client) == 15_000
        server.buffer_size = 5_000
        assert len(server.receive(20_000, PATIENCE)) == 20_000
        assert fill(client) == 0
        assert len(server.receive(20_000, PATIENCE)) == 5_000
        assert fill(client) == 5_000
        with pytest.raises(CallerError, match="receive buffer has"):
            server.buffer_size = 0


def test_a_socket_says_who_it_connects_and_where_it_stands(pair):
    client, server = pair
    assert (client.peer, server.local) == ((2, PORT), (2, PORT))
    assert client.local == server.peer and client.local.cid == 3
    assert client.state is VsockState.ESTABLISHED
    assert repr(server) == f"<VsockStream: 2:{PORT} - 3:{client.local.port}, established>"


def test_a_file_carries_lines_and_its_end_is_the_end_of_the_stream(pair):
    client, server = pair
    with io.TextIOWrapper(io.BufferedWriter(client.makefile("wb")), encoding="utf-8") as lines:
        print("first", "second", sep="\n", file=lines)
    assert list(io.BufferedReader(server.makefile("rb", timeout=PATIENCE))) == [b"first\n", b"second\n"]
    server.send(b"answer")
    assert client.makefile("rb", timeout=PATIENCE).read(6) == b"answer"
    with pytest.raises(TimedOut):
        client.makefile("rb", timeout=0).read(1)
    with pytest.raises(CallerError, match="opened as one of"):
        client.makefile("r")


def test_many_senders_on_one_stream_do_not_mix_their_bytes():
    """Each call's bytes come together, though every call is larger than the buffer."""
    senders, rounds, size = 6, 4, 3000
    with connected_pair(buffer_size=1000, queue_size=4) as (client, server):

        def send(number):
            for _ in range(rounds):
                client.send(bytes([number]) * size, PATIENCE)

        running = [Running(send, number) for number in range(senders)]
        taken = bytearray()
        with quickly(2 * senders * rounds * 0.1):
            while len(taken) < senders * rounds * size:
                taken += server.receive(timeout=PATIENCE)
        for one in running:
            one.result()
    pieces = [bytes(taken[start : start + size]) for start in range(0, len(taken), size)]
    assert all(len(set(piece)) == 1 for piece in pieces), "bytes of two calls are mixed"
    assert sorted(piece[0] for piece in pieces) == sorted(list(range(senders)) * rounds)


def test_a_send_that_waits_for_its_turn_can_run_out_of_time_and_the_turn_goes_on(pair):
    client, server = pair
    first = Running(client.send, b"a" * 600_000, PATIENCE)
    await_sleepers(client._link, 1)
    with pytest.raises(TimedOut) as caught:
        client.send(b"b", 0.01)
    assert caught.value.done == 0
    third = Running(client.send, b"c" * 10, PATIENCE)
    await_sleepers(client._link, 2)
    with quickly():
        taken = bytearray()
        while len(taken) < 600_010:
            taken += server.receive(timeout=PATIENCE)
        first.result()
        third.result()
    assert taken == b"a" * 600_000 + b"c" * 10


def test_a_send_that_gives_up_its_turn_wakes_the_next_one():
    """The other side takes nothing more: nothing but the turn itself can wake the one that waits for it."""
    with links(queue_size=8, buffer_size=1000) as (near, far):
        client, server = connect(near, far)
        other, _ = connect(near, far, PORT + 1)
        waiting = Running(other.receive, timeout=PATIENCE)  # for the signal: the others wait to be called
        await_sleepers(near, 1)
        while near._waiters._waiting_thread is None:
            time.sleep(0)
        first = Running(client.send, bytes(1001), 0.15)
        await_sleepers(near, 2)
        second = Running(client.send, b"", PATIENCE)
        await_sleepers(near, 3)
        with quickly():
            with pytest.raises(TimedOut):
                first.result()
            second.result()
        assert len(server.receive(timeout=PATIENCE)) == 1000
        other.reset()
        with pytest.raises(ChannelClosed):
            waiting.result()


# -- messages --------------------------------------------------------------------------------


def test_messages_keep_their_boundaries_and_the_ends_of_records(messages):
    client, server = messages
    for data, end_of_record in [(b"one", False), (b"", True), (b"x" * 9000, True), (b"last", False)]:
        client.send(data, end_of_record=end_of_record)
        received = server.receive_message(PATIENCE)
        assert received == (data, end_of_record)
    client.send(b"more")
    assert server.receive(PATIENCE) == b"more"


def test_a_message_that_is_too_long_for_a_buffer_stays_the_next_one(messages):
    client, server = messages
    client.send(b"abcdef")
    client.send(b"gh")
    buffer = bytearray(5)
    for _ in range(2):
        with pytest.raises(BufferTooSmall) as caught:
            server.receive_into(buffer, PATIENCE)
        assert caught.value.needed == 6
    assert buffer == bytes(5)
    larger = bytearray(7)
    assert (server.receive_into(larger, PATIENCE), bytes(larger)) == (6, b"abcdef\0")
    assert (server.receive_into(buffer, PATIENCE), bytes(buffer)) == (2, b"gh\0\0\0")


def test_a_message_that_is_kept_is_the_next_of_any_receive(messages):
    client, server = messages
    client.send(b"abcdef", end_of_record=True)
    client.close()
    with pytest.raises(BufferTooSmall):
        server.receive_into(bytearray(1), PATIENCE)
    assert server.receive_message(PATIENCE) == (b"abcdef", True)
    with pytest.raises(PeerClosed):
        server.receive_into(bytearray(1), PATIENCE)


def test_iterating_gives_messages_until_the_other_side_closes(messages):
    client, server = messages
    for data in (b"a", b"", b"b"):
        client.send(data)
    client.close()
    assert list(server) == [b"a", b"", b"b"]
    with pytest.raises(PeerClosed):
        server.receive(PATIENCE)


def test_behind_the_last_message_of_a_side_that_sends_no_more_there_is_none(messages):
    client, server = messages
    client.send(b"last")
    client.send_end()
    assert server.receive(PATIENCE) == b"last"
    with pytest.raises(PeerClosed, match="last message"):
        server.receive(PATIENCE)
    server.send(b"goes on")
    assert client.receive(PATIENCE) == b"goes on"


def test_a_message_that_never_fits_is_refused_with_the_limit():
    with links(buffer_size=1000) as (near, far):
        client, server = connect(near, far, messages=True)
        with pytest.raises(CallerError, match="never fits") as caught:
            client.send(bytes(1001), timeout=PATIENCE)
        assert (caught.value.value, caught.value.limit) == (1001, 1000)
        client.send(bytes(1000), timeout=PATIENCE)
        with pytest.raises(TimedOut, match="has not taken it all within"):
            client.send(b"x", timeout=0)
        assert len(server.receive(PATIENCE)) == 1000
        client.send(b"x", timeout=PATIENCE)
        assert server.receive(PATIENCE) == b"x"


def test_a_message_larger_than_the_queue_is_on_its_way_when_send_returns_and_its_buffer_is_free(messages):
    """What the queue had no room for is a copy: the caller may change its own."""
    with links(queue_size=4) as (near, far):
        client, server = connect(near, far, messages=True)
        data = bytearray(random.Random(2).randbytes(100_000))
        sent = bytes(data)
        client.send(data, timeout=0)
        data[:] = bytes(len(data))
        serving = Running(near.serve)
        assert server.receive(PATIENCE) == sent
        near.close()
        serving.result()


# -- listeners -------------------------------------------------------------------------------


def test_connections_are_accepted_in_the_order_in_which_they_came():
    with links() as (near, far):
        with far.listen(PORT) as listener:
            serving = Running(far.serve)
            clients = [near.connect(PORT, timeout=PATIENCE) for _ in range(5)]
            for number, client in enumerate(clients):
                client.send(bytes([number]))
            assert [listener.accept(PATIENCE).receive(1, PATIENCE)[0] for _ in clients] == list(range(5))
            assert listener.port == PORT
        far.close()
        serving.result()


def test_who_comes_to_a_port_where_nobody_listens_is_refused():
    with links() as (near, far):
        serving = Running(far.serve)
        with quickly(), pytest.raises(PeerClosed, match="refused"):
            near.connect(PORT, timeout=PATIENCE)
        far.listen_messages(PORT)
        with quickly(), pytest.raises(PeerClosed, match="refused"):  # of another type
            near.connect(PORT, timeout=PATIENCE)
        far.close()
        serving.result()


def test_who_comes_behind_the_backlog_is_refused_and_there_is_room_again_after_an_accept():
    with links() as (near, far):
        listener = far.listen(PORT, backlog=2)
        serving = Running(far.serve)
        waiting = [near.connect(PORT, timeout=PATIENCE) for _ in range(2)]
        with pytest.raises(PeerClosed, match="refused"):
            near.connect(PORT, timeout=PATIENCE)
        listener.accept(PATIENCE)
        waiting.append(near.connect(PORT, timeout=PATIENCE))
        assert all(one.state is VsockState.ESTABLISHED for one in waiting)
        far.close()
        serving.result()


@pytest.mark.parametrize("end", ["listener", "link", "peer_link"])
def test_an_accept_ends_when_the_listener_or_a_link_is_closed(end):
    with links() as (near, far):
        listener = far.listen(PORT)
        accepting = Running(listener.accept, PATIENCE)
        await_sleepers(far, 1)
        with quickly():
            {"listener": listener, "link": far, "peer_link": near}[end].close()
            with pytest.raises(PeerClosed if end == "peer_link" else ChannelClosed):
                accepting.result()


def test_iterating_over_a_listener_ends_with_it():
    with links() as (near, far):
        listener = far.listen(PORT)
        accepting = Running(lambda: [one.receive(timeout=PATIENCE) for one in listener])
        for data in (b"one", b"two"):
            near.connect(PORT, timeout=PATIENCE).send(data)
            await_sleepers(far, 1)
        # The second is taken when its connection sleeps in accept again.
        while not [one for one in far.endpoint.connections if not one.has_received][1:]:
            await_sleepers(far, 1)
        listener.close()
        listener.close()
        assert accepting.result() == [b"one", b"two"]
        with pytest.raises(ChannelClosed, match="closed the listener"):
            listener.accept(0)


def test_who_waits_to_be_accepted_is_reset_when_the_listener_is_closed_and_the_port_is_free():
    with links() as (near, far):
        listener = far.listen(PORT)
        serving = Running(far.serve)
        client = near.connect(PORT, timeout=PATIENCE)
        listener.close()
        with quickly(), pytest.raises(PeerClosed, match="reset"):
            client.receive(timeout=PATIENCE)
        assert repr(far.listen(PORT)).startswith("<VsockListener")
        far.close()
        serving.result()


def test_a_reset_of_who_waits_is_sent_though_nobody_of_this_side_waits():
    with links() as (near, far):
        listener = far.listen(PORT)
        connecting = Running(near.connect, PORT, timeout=PATIENCE)
        while not far.endpoint.connections:
            far.serve(0)
        client = connecting.result()
        listener.close()
        with pytest.raises(PeerClosed, match="reset"):
            client.receive(timeout=0.3)


def test_the_last_close_of_two_frees_the_other_sides_connection_though_nobody_waits():
    with connected_pair() as (client, server):
        client.close()
        assert server.receive(timeout=PATIENCE) == b""
        client._link.serve(0)
        assert client.state is VsockState.CLOSED


@pytest.mark.parametrize("messages", [False, True])
def test_listening_twice_on_one_port_is_refused_and_a_free_one_is_found(messages):
    with links() as (_, far):
        listen = far.listen_messages if messages else far.listen
        first, second = listen(), listen()
        assert first.port != second.port
        with pytest.raises(CallerError, match="listens on port"):
            far.listen(first.port)
        with pytest.raises(CallerError, match="must be able to wait"):
            listen(backlog=0)
        with pytest.raises(CallerError, match="a port is a number"):
            listen(-1)


# -- what the other side breaks ----------------------------------------------------------------


def test_a_side_that_breaks_the_protocol_is_reset_and_harms_no_other_connection():
    with links() as (near, far):
        bad, victim = connect(near, far)
        good, other = connect(near, far, PORT + 1)
        # More than the credit: the near side believes in more than there is.
        bad._core.sending.note(10**9, 0)
        serving = Running(far.serve)
        with pytest.raises(PeerClosed, match="reset"):
            bad.send(bytes(600_000), PATIENCE)
        with pytest.raises(PeerError, match="may send"):
            while victim.receive(timeout=PATIENCE):
                pass
        with pytest.raises(PeerClosed, match="reset"):
            bad.receive(timeout=PATIENCE)
        good.send(b"unharmed")
        assert other.receive(timeout=PATIENCE) == b"unharmed"
        far.close()
        serving.result()


@pytest.mark.parametrize("messages", [False, True], ids=["stream", "messages"])
def test_a_block_that_fails_breaks_the_connection_off_and_one_that_does_not_ends_it(messages):
    with links() as (near, far):
        for fails in (False, True):
            client, server = connect(near, far, PORT + fails, messages=messages)
            with suppress(ZeroDivisionError), client:
                client.send(b"a part")
                if fails:
                    raise ZeroDivisionError
            assert server.receive(timeout=PATIENCE) == b"a part"
            if messages or fails:
                with pytest.raises(PeerClosed, match="reset" if fails else "last message"):
                    server.receive(timeout=PATIENCE)
            else:
                assert server.receive(timeout=PATIENCE) == b""


def test_who_is_refused_can_tell_it_from_a_side_that_is_gone():
    with links() as (near, far):
        serving = Running(far.serve)
        with pytest.raises(ConnectionRefusedError, match="stream"):
            near.connect(PORT, timeout=PATIENCE)
        far.close()
        serving.result()
        with pytest.raises(PeerClosed) as caught:
            near.connect(PORT, timeout=PATIENCE)
        assert not isinstance(caught.value, ConnectionRefusedError)


def test_an_end_waits_for_room_in_the_queue_so_that_the_other_side_learns_of_it():
    with links(queue_size=4) as (near, far):
        client, server = connect(near, far)
        fill(client)
        with pytest.raises(TimedOut):
            client.send_end(0.02)
        ending = Running(client.send_end, PATIENCE)
        while server.receive(timeout=PATIENCE):
            pass
        ending.result()  # and nobody else waits on this link
