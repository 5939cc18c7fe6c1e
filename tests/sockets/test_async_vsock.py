"""Vsock sockets for asyncio: what differs from those for threads is how a task waits, and how it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from tests.channel.children import Children, needs_linux
from tests.sockets.pairs import FORMATS, PATIENCE, PORT, async_links
from vmbus.channel import local_signals
from vmbus.errors import BufferTooSmall, CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.sockets import AsyncVsockLink, AsyncVsockStream, SharedVsock
from vmbus.virtio import connected_vsock


@contextlib.asynccontextmanager
async def links(**options: int) -> AsyncIterator[tuple[AsyncVsockLink, AsyncVsockLink]]:
    near, far = async_links(**options)
    try:
        yield near, far
    finally:
        await near.close(0)
        await far.close(0)


async def connect(near: AsyncVsockLink, far: AsyncVsockLink, port: int = PORT, *, messages: bool = False):
    listener = far.listen_messages(port) if messages else far.listen(port)
    accepting = asyncio.ensure_future(listener.accept(PATIENCE))
    client = await (near.connect_messages if messages else near.connect)(port, timeout=PATIENCE)
    server = await accepting
    listener.close()
    return client, server


@contextlib.asynccontextmanager
async def pair(**options: int) -> AsyncIterator[tuple[AsyncVsockStream, AsyncVsockStream]]:
    async with links(**options) as (near, far):
        yield await connect(near, far)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in an event loop; one that hangs fails."""
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


async def settle(turns: int = 20) -> None:
    """Let every task go as far as it can."""
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.fixture
def children(no_descriptor_left: None) -> Iterator[Children]:
    with contextlib.closing(Children()) as started:
        yield started


@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_tasks_side_by_side_carry_streams_both_ways_at_once(no_descriptor_left, features):
    async def test() -> None:
        async with links(features=features, queue_size=8, buffer_size=20_000) as (near, far):
            pairs = [await connect(near, far, PORT + number) for number in range(3)]

            async def send(end, data, draw) -> None:
                while data:
                    count = draw.choice([1, 44, 4096, 30_000])
                    await end.send(data[:count], PATIENCE)
                    data = data[count:]
                await end.send_end()

            async def receive(end) -> bytes:
                return b"".join([data async for data in end])

            ends = [end for one in pairs for end in one]
            sent = [random.Random(number).randbytes(60_000) for number in range(6)]
            found = await asyncio.gather(
                *(receive(end) for end in ends),
                *(send(end, data, random.Random(1)) for end, data in zip(ends, sent, strict=True)),
            )
            assert found[:6] == [sent[number ^ 1] for number in range(6)]

    run(test)


def test_each_method_of_a_stream_does_what_that_of_threads_does():
    async def test() -> None:
        async with pair() as (client, server):
            await client.send(b"abcdef")
            assert await server.receive(4, PATIENCE) == b"abcd"
            buffer = bytearray(4)
            assert (await server.receive_into(buffer, PATIENCE), bytes(buffer)) == (2, b"ef\0\0")
            await client.send_end()
            assert [await server.receive(timeout=PATIENCE) for _ in range(2)] == [b"", b""]
            await server.send(b"still")
            assert await client.receive(timeout=PATIENCE) == b"still"
            with pytest.raises(CallerError, match="sends no more"):
                await client.send(b"x")
            async with server as same:
                assert same is server
            assert await client.receive(timeout=PATIENCE) == b""
            with pytest.raises(ChannelClosed):
                await server.receive()

    run(test)


def test_each_method_of_messages_does_what_that_of_threads_does():
    async def test() -> None:
        async with links() as (near, far):
            client, server = await connect(near, far, messages=True)
            for data in (b"one", b"", b"three" * 3000):
                await client.send(data, end_of_record=True)
                assert await server.receive_message(PATIENCE) == (data, True)
            await client.send(b"abcdef")
            with pytest.raises(BufferTooSmall) as caught:
                await server.receive_into(bytearray(2), PATIENCE)
            assert caught.value.needed == 6
            assert await server.receive_into(bytearray(6), PATIENCE) == 6
            await client.send(b"last")
            client.close()
            assert [data async for data in server] == [b"last"]
            with pytest.raises(PeerClosed):
                await server.receive(PATIENCE)

    run(test)


def test_a_listener_gives_connections_until_it_is_closed():
    async def test() -> None:
        async with links() as (near, far):
            async with far.listen(PORT) as listener:
                assert listener.port == PORT
                taken: list[AsyncVsockStream] = []

                async def accept_all() -> None:
                    async for stream in listener:
                        taken.append(stream)

                accepting = asyncio.ensure_future(accept_all())
                for _ in range(3):
                    await near.connect(PORT, timeout=PATIENCE)
                await settle()
            await accepting
            assert len(taken) == 3
            serving = asyncio.ensure_future(far.serve())
            with pytest.raises(PeerClosed, match="refused"):
                await near.connect(PORT, timeout=PATIENCE)
            with pytest.raises(ChannelClosed):
                await listener.accept()
            await far.close()
            await serving

    run(test)


# -- times -----------------------------------------------------------------------------------


def test_every_wait_ends_with_its_time_and_says_what_was_done():
    async def test() -> None:
        async with pair(buffer_size=1000) as (client, server):
            for timeout in (0, 0.01):
                with pytest.raises(TimedOut, match="nothing has come"):
                    await server.receive(timeout=timeout)
            with pytest.raises(TimedOut, match="not taken it all") as caught:
                await client.send(bytes(5000), 0.01)
            assert caught.value.done == 1000
            with pytest.raises(TimedOut, match="nobody has come"):
                await client._link.listen(5).accept(0.01)
            with pytest.raises(TimedOut, match="no answer"):
                await client._link.connect(7, timeout=0)
            await client._link.serve(0.01)
            with pytest.raises(CallerError):
                await server._link.serve(-1)
            assert len(await server.receive(timeout=PATIENCE)) == 1000

    run(test)


def test_a_time_that_is_over_is_looked_at_before_the_last_look():
    async def test() -> None:
        async with pair() as (client, server):
            await client.send(b"here already")
            assert await server.receive(timeout=0) == b"here already"

    run(test)


# -- cancellation ----------------------------------------------------------------------------


def test_a_cancelled_receive_loses_nothing():
    async def test() -> None:
        async with pair() as (client, server):
            taken = bytearray()
            draw = random.Random(4)
            sent = draw.randbytes(30_000)
            sending = asyncio.ensure_future(client.send(sent))
            while len(taken) < len(sent):
                task = asyncio.ensure_future(server.receive(draw.randrange(1, 900)))
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    taken += await task
            await sending
            assert taken == sent

    run(test)


def test_a_receive_that_is_cancelled_as_data_comes_leaves_it_for_the_next():
    async def test() -> None:
        async with pair() as (client, server):
            task = asyncio.ensure_future(server.receive())
            await settle()
            await client.send(b"data")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await server.receive(timeout=PATIENCE) == b"data"

    run(test)


def test_a_cancelled_send_gives_its_turn_to_the_next_one():
    async def test() -> None:
        async with pair(buffer_size=1000) as (client, server):
            first = asyncio.ensure_future(client.send(b"a" * 3000))
            await settle()
            second = asyncio.ensure_future(client.send(b"b" * 500))
            await settle()
            assert not first.done() and not second.done()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            taken = b""
            while len(taken) < 1500:
                taken += await server.receive(timeout=3)
            await second
            assert taken == b"a" * 1000 + b"b" * 500

    run(test)


def test_a_cancelled_connect_and_accept_leave_nothing_behind():
    async def test() -> None:
        async with links() as (near, far):
            connecting = asyncio.ensure_future(near.connect(PORT))
            await settle()
            connecting.cancel()
            listener = far.listen(PORT + 1)
            accepting = asyncio.ensure_future(listener.accept())
            await settle()
            accepting.cancel()
            for task in (connecting, accepting):
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert near.endpoint.connections == []
            accepting = asyncio.ensure_future(listener.accept())
            client = await near.connect(PORT + 1, timeout=PATIENCE)
            await client.send(b"x")
            assert await (await accepting).receive(timeout=PATIENCE) == b"x"

    run(test)


def test_a_cancelled_close_closes_at_once():
    async def test() -> None:
        near, far = async_links(queue_size=4)
        client, _ = await connect(near, far, messages=True)
        await client.send(bytes(100_000))  # more than the queue holds
        closing = asyncio.ensure_future(near.close())
        await settle()
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ChannelClosed):
            near.listen(PORT)
        await far.close()

    run(test)


# -- many tasks ------------------------------------------------------------------------------


def test_many_senders_on_one_stream_do_not_mix_their_bytes():
    async def test() -> None:
        async with pair(buffer_size=1000) as (client, server):
            tasks = [asyncio.ensure_future(client.send(bytes([one]) * 2500)) for one in range(5)]
            taken = bytearray()
            while len(taken) < 5 * 2500:
                taken += await server.receive(timeout=PATIENCE)
            await asyncio.gather(*tasks)
            pieces = [set(taken[start : start + 2500]) for start in range(0, len(taken), 2500)]
            assert sorted(len(piece) for piece in pieces) == [1] * 5

    run(test)


def test_a_task_that_takes_packets_for_others_wakes_them():
    async def test() -> None:
        async with links() as (near, far):
            pairs = [await connect(near, far, PORT + number) for number in range(4)]
            tasks = [asyncio.ensure_future(client.receive()) for client, _ in pairs[1:]]
            await settle()
            far.signal.notify, notify = (lambda: None), far.signal.notify
            for _, server in reversed(pairs):
                await server.send(b"x")
            far.signal.notify = notify
            start = time.monotonic()
            assert await pairs[0][0].receive(timeout=PATIENCE) == b"x"
            assert await asyncio.gather(*tasks) == [b"x"] * 3
            assert time.monotonic() - start < 0.3

    run(test)


def test_a_task_whose_calls_never_wait_lets_others_run():
    async def test() -> None:
        async with pair(queue_size=1024) as (client, _):
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.ensure_future(count())
            for _ in range(500):
                await client.send(b"x")
            counting.cancel()
            assert turns >= 5

    run(test)


def test_tasks_that_wait_do_nothing_meanwhile():
    async def test() -> None:
        async with links(queue_size=4) as (near, far):
            client, _ = await connect(near, far, messages=True)
            other, _ = await connect(near, far, PORT + 1)
            third, _ = await connect(near, far, PORT + 2)
            await client.send(bytes(50_000))  # something is owed, and there is no room for it
            tasks = [asyncio.ensure_future(one.receive()) for one in (other, third)]
            await settle()
            step, steps = near._steps.step, 0

            def count_and_step(attempt):
                nonlocal steps
                steps += 1
                return step(attempt)

            near._steps.step = count_and_step
            await settle(200)  # in which nothing may happen
            assert steps == 0
            await near.close(0)
            for task in tasks:
                with pytest.raises(ChannelClosed):
                    await task

    run(test)


# -- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mine", [True, False], ids=["this side", "the other"])
def test_closing_a_link_ends_every_wait(mine):
    async def test() -> None:
        async with links(queue_size=16) as (near, far):
            client, _ = await connect(near, far)
            full, _ = await connect(near, far, PORT + 1)
            calls = [near.listen(9).accept(), client.receive(), near.serve(), full.send(bytes(10**6))]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await settle()
            start = time.monotonic()
            await (near if mine else far).close(0.1)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert time.monotonic() - start < 0.5
            error = ChannelClosed if mine else PeerClosed
            assert isinstance(found[0], error) and found[2] is None and isinstance(found[3], error)
            assert found[1] == b"" if not mine else isinstance(found[1], ChannelClosed)
            assert found[3].done > 0

    run(test)


def test_a_link_is_of_one_loop_and_needs_a_descriptor():
    near, far = async_links()

    async def use() -> None:
        with pytest.raises(TimedOut):
            await near.listen().accept(0)

    asyncio.run(use())

    async def use_again() -> None:
        with pytest.raises(CallerError, match="event loop"):
            await near.listen().accept(0)

    asyncio.run(use_again())
    for link in (near, far):
        with contextlib.suppress(CallerError):
            asyncio.run(link.close(0))
    guest, _ = connected_vsock()
    with pytest.raises(CallerError, match="descriptor"):
        AsyncVsockLink(guest, local_signals()[0])


@needs_linux
@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_tasks_talk_to_threads_of_another_process(children, features):
    guest, host = SharedVsock.create(features=features, buffer_size=20_000)

    def echo() -> None:
        with host, host.attach() as link:
            stream = link.listen(PORT).accept(PATIENCE)
            for data in stream:
                stream.send(data, PATIENCE)
            stream.send_end()
            assert stream.receive(timeout=PATIENCE) == b""

    async def test() -> None:
        async with guest.attach(AsyncVsockLink) as link:
            while True:
                try:
                    stream = await link.connect(PORT, timeout=PATIENCE)
                    break
                except PeerClosed:  # nobody listens yet
                    await asyncio.sleep(0)
            sent = random.Random(6).randbytes(500_000)

            async def send() -> None:
                await stream.send(sent, PATIENCE)
                await stream.send_end()

            sending = asyncio.ensure_future(send())
            assert b"".join([data async for data in stream]) == sent
            await sending

    with guest, host:
        child = children.start(echo)
        run(test)
        assert children.join(child) == 0


@needs_linux
def test_the_end_of_the_other_process_is_noticed_at_once(children):
    guest, host = SharedVsock.create()
    may_die = children.flag()

    def send_and_hang() -> None:
        import threading

        link = guest.attach()
        while True:
            try:
                link.connect(PORT, timeout=PATIENCE).send(b"before")
                break
            except PeerClosed:
                continue
        may_die.set()
        threading.Event().wait()

    async def test() -> None:
        async with host.attach(AsyncVsockLink) as link:
            stream = await link.listen(PORT).accept(PATIENCE)
            may_die.wait()
            waiting = [asyncio.ensure_future(link.listen().accept()) for _ in range(2)]
            await settle()
            children.kill(child)
            start = time.monotonic()
            for task in waiting:
                with pytest.raises(PeerClosed):
                    await task
            assert time.monotonic() - start < 0.1
            assert await stream.receive(timeout=PATIENCE) == b"before"
            with pytest.raises(PeerClosed):
                await stream.receive(timeout=PATIENCE)

    with guest, host:
        child = children.start(send_and_hang)
        run(test)
        children.join(child)
