"""The relay for tasks: as that for threads, and cancelled it ends both sides at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from tests.sockets.pairs import PATIENCE, PORT, async_links
from vmbus.channel import AsyncByteChannel, ByteChannel, connected_channels
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.sockets import AsyncVsockStream, BridgeEnd, BridgeResult, async_bridge, serve_async_bridge


class Bridged(NamedTuple):
    """As in test_bridge."""

    guest: AsyncByteChannel
    client: AsyncVsockStream
    channel: AsyncByteChannel
    stream: AsyncVsockStream
    relay: asyncio.Task[BridgeResult]


@contextlib.asynccontextmanager
async def bridged(timeout: float | None = None, **options: int) -> AsyncIterator[Bridged]:
    near, far = async_links(**options)
    listener = far.listen(PORT)
    accepting = asyncio.ensure_future(listener.accept(PATIENCE))
    client = await near.connect(PORT, timeout=PATIENCE)
    stream = await accepting
    guest, host = connected_channels(size=16384, kind=AsyncByteChannel, pollable=True)
    relay = asyncio.ensure_future(async_bridge(host, stream, timeout))
    yield Bridged(guest, client, host, stream, relay)
    guest.close()
    await near.close(0)
    await asyncio.wait([relay], timeout=PATIENCE)
    assert relay.done()
    await far.close(0)
    assert len(asyncio.all_tasks()) <= 2, "the relay has left a task"


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


async def everything(end) -> bytes:
    taken = bytearray()
    while data := await end.receive(65536, PATIENCE):
        taken += data
    return bytes(taken)


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def test_random_chunks_go_through_whole_both_ways_at_once(no_descriptor_left):
    async def test() -> None:
        async with bridged() as pair:
            sent = [random.Random(one).randbytes(150_000 + one) for one in range(2)]

            async def send(end, data: bytes) -> None:
                draw = random.Random(5)
                while data:
                    count = int(2 ** draw.uniform(0, 16))
                    await end.send(data[:count], PATIENCE)
                    data = data[count:]
                await end.send_end()

            found = await asyncio.gather(
                everything(pair.client),
                everything(pair.guest),
                send(pair.guest, sent[0]),
                send(pair.client, sent[1]),
            )
            assert found[:2] == sent
            assert await pair.relay == BridgeResult(BridgeEnd.ENDED, 150_000, 150_001)

    run(test)


@pytest.mark.parametrize("first", ["guest", "client"])
def test_the_end_of_either_stream_is_passed_on_and_the_other_direction_goes_on(first):
    async def test() -> None:
        async with bridged() as pair:
            one, other = (pair.guest, pair.client) if first == "guest" else (pair.client, pair.guest)
            await one.send(b"last words")
            await one.send_end()
            assert await everything(other) == b"last words"
            await other.send(b"still here")
            assert await one.receive(timeout=PATIENCE) == b"still here"
            assert not pair.relay.done()
            await other.send_end()
            assert await everything(one) == b""
            assert await pair.relay == BridgeResult(BridgeEnd.ENDED, 10, 10)

    run(test)


@pytest.mark.parametrize("direction", ["to the stream", "to the channel"])
def test_a_side_that_does_not_read_stops_the_other_and_little_is_held_between(direction):
    async def test() -> None:
        async with bridged(queue_size=4, buffer_size=20_000) as pair:
            to_stream = direction == "to the stream"
            fast, slow = (pair.guest, pair.client) if to_stream else (pair.client, pair.guest)
            data = random.Random(3).randbytes(400_000)
            with pytest.raises(TimedOut) as caught:
                await fast.send(data, 0.1)
            taken = caught.value.done
            assert 20_000 < taken <= 16_384 + 20_000 + 65_536 + 4 * 4096
            sending = asyncio.ensure_future(fast.send(data[taken:], PATIENCE))
            came = b""
            while len(came) < len(data):
                came += await slow.receive(65536, PATIENCE)
            await sending
            assert came == data

    run(test)


@pytest.mark.parametrize("side", ["channel", "stream"])
def test_a_side_that_breaks_off_is_told_to_the_other_behind_what_it_sent(side):
    async def test() -> None:
        async with bridged() as pair:
            one, other = (pair.guest, pair.client) if side == "channel" else (pair.client, pair.guest)
            await one.send(b"before")
            assert await other.receive(timeout=PATIENCE) == b"before"
            one.close() if side == "channel" else one.reset()
            with pytest.raises(PeerClosed):
                await other.receive(timeout=PATIENCE)
            result = await pair.relay
            assert result.end is (BridgeEnd.CHANNEL_BROKE if side == "channel" else BridgeEnd.STREAM_BROKE)
            assert isinstance(result.error, PeerClosed)

    run(test)


@pytest.mark.parametrize("how", ["cancel", "channel", "stream", "time"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_relay_that_is_stopped_ends_at_once_and_is_no_end_of_a_stream(how, busy):
    async def test() -> None:
        async with bridged(0.05 if how == "time" else None) as pair:
            await settle()
            if busy:
                sending = asyncio.ensure_future(pair.guest.send(bytes(10**6), PATIENCE))
                await settle()
            start = time.monotonic()
            if how == "cancel":
                pair.relay.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pair.relay
            else:
                if how != "time":
                    getattr(pair, how).close()
                wanted = BridgeEnd.TIMED_OUT if how == "time" else BridgeEnd.STOPPED
                assert (await pair.relay).end is wanted
            with pytest.raises(PeerClosed):
                await everything(pair.guest)
            if busy:
                with pytest.raises(PeerClosed):
                    await sending
            elif how != "stream":  # which was closed in order
                with pytest.raises(PeerClosed):
                    await everything(pair.client)
            assert time.monotonic() - start < 0.5
            with pytest.raises(ChannelClosed):
                await pair.channel.receive()

    run(test)


@pytest.mark.parametrize("wrong", ["a channel for threads", "messages", "the wrong way round"])
def test_what_is_no_channel_or_no_stream_is_refused_by_name_and_closes_nothing(wrong):
    async def test() -> None:
        near, far = async_links()
        messages = wrong == "messages"
        listener = far.listen_messages(PORT) if messages else far.listen(PORT)
        accepting = asyncio.ensure_future(listener.accept(PATIENCE))
        client = await (near.connect_messages if messages else near.connect)(PORT, timeout=PATIENCE)
        stream = await accepting
        kind = ByteChannel if wrong == "a channel for threads" else AsyncByteChannel
        guest, host = connected_channels(kind=kind, pollable=True)
        ends = (stream, host) if wrong == "the wrong way round" else (host, stream)
        with pytest.raises(
            CallerError, match=r"a channel \(the class AsyncByteChannel\) to a stream"
        ) as caught:
            await async_bridge(*ends, 1)
        found = {
            "a channel for threads": ("channel", "ByteChannel"),
            "messages": ("stream", "AsyncVsockMessages"),
            "the wrong way round": ("channel", "AsyncVsockStream"),
        }
        assert (caught.value.argument, caught.value.value) == found[wrong]
        await client.send(b"open")
        assert await stream.receive(timeout=PATIENCE) == b"open"
        host.close()
        guest.close()
        await near.close()
        await far.close()

    run(test)


def test_what_is_nobodys_fault_is_raised():
    async def test() -> None:
        async with bridged() as pair:
            await settle()
            pair.stream.shutdown(2)
            await pair.guest.send(b"x")
            with pytest.raises(CallerError, match="sends no more"):
                await pair.relay

    run(test)


def test_the_service_bridges_so_many_at_a_time_and_ends_with_its_listener_or_cancelled():
    async def test() -> None:
        near, far = async_links()
        now = most = 0
        results: list[BridgeResult] = []
        echoes: list[asyncio.Task[None]] = []

        async def echo(guest: AsyncByteChannel) -> None:
            with contextlib.suppress(PeerClosed):
                while data := await guest.receive():
                    await guest.send(data)
                await guest.send_end()

        async def connect(stream: AsyncVsockStream) -> AsyncByteChannel:
            nonlocal now, most
            if fails:
                raise OSError("no such service")
            now += 1
            most = max(most, now)
            guest, host = connected_channels(kind=AsyncByteChannel, pollable=True)
            echoes.append(asyncio.ensure_future(echo(guest)))
            return host

        def on_end(result: BridgeResult) -> None:
            nonlocal now
            now -= 1
            results.append(result)

        async def ask(number: int) -> bytes:
            client = await near.connect(PORT, timeout=PATIENCE)
            await client.send(b"question %d" % number)
            await client.send_end()
            return await everything(client)

        fails = False
        listener = far.listen(PORT)
        serving = asyncio.ensure_future(serve_async_bridge(listener, connect, most=3, on_end=on_end))
        assert await asyncio.gather(*map(ask, range(8))) == [b"question %d" % one for one in range(8)]
        fails = True
        with pytest.raises(PeerClosed, match="reset"):
            await ask(9)
        fails = False
        listener.close()
        await serving
        assert [one.end for one in results] == [BridgeEnd.ENDED] * 8 and 1 <= most <= 3

        serving = asyncio.ensure_future(serve_async_bridge(far.listen(PORT), connect))
        client = await near.connect(PORT, timeout=PATIENCE)
        await client.send(b"x")
        assert await client.receive(timeout=PATIENCE) == b"x"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(PeerClosed):
            await client.receive(timeout=PATIENCE)
        await near.close()
        await far.close()
        await asyncio.gather(*echoes)

    run(test)


def test_an_on_end_that_fails_is_said_to_have_and_the_service_goes_on(caplog):
    async def test() -> None:
        near, far = async_links()
        guests: list[AsyncByteChannel] = []

        async def connect(stream: AsyncVsockStream) -> AsyncByteChannel:
            guest, host = connected_channels(kind=AsyncByteChannel, pollable=True)
            guests.append(guest)
            await guest.send_end()
            return host

        def fail(result: BridgeResult) -> None:
            raise ValueError("no room for results")

        listener = far.listen(PORT)
        serving = asyncio.ensure_future(serve_async_bridge(listener, connect, most=1, on_end=fail))
        for _ in range(2):
            client = await near.connect(PORT, timeout=PATIENCE)
            await client.send_end()
            assert await everything(client) == b""
        listener.close()
        await serving
        await near.close()
        await far.close()
        for guest in guests:
            guest.close()

    run(test)
    assert caplog.text.count("on_end has failed") == caplog.text.count("ValueError: no room for results") == 2
    assert "could not be bridged" not in caplog.text
