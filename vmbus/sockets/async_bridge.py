"""The relay of `bridge`, for tasks.

Source: see there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vmbus.channel import AsyncByteChannel
from vmbus.errors import ChannelClosed, PeerClosed

from .asynchronous import AsyncVsockListener, AsyncVsockStream
from .bridge import MOST_BRIDGES, NOT_BRIDGED, BridgeResult, Relay, Way, check_ends, log, tell
from .socket_base import RECEIVE_SIZE

__all__ = ["async_bridge", "serve_async_bridge"]

AsyncRelay = Relay[AsyncByteChannel, AsyncVsockStream]


async def async_bridge(
    channel: AsyncByteChannel, stream: AsyncVsockStream, timeout: float | None = None
) -> BridgeResult:
    """As `bridge`.  Cancelled, it ends both at once."""
    check_ends(channel, AsyncByteChannel, stream, AsyncVsockStream)
    relay = Relay(channel, stream, timeout)
    tasks = [asyncio.ensure_future(pass_on(relay, way)) for way in (relay.to_stream, relay.to_channel)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        relay.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return relay.finish()


async def pass_on(relay: AsyncRelay, way: Way[AsyncByteChannel | AsyncVsockStream]) -> None:
    """One way, in a task of its own, to its end."""
    source, sink = way.source, way.sink
    while True:
        try:
            data = await source.receive(RECEIVE_SIZE, relay.remaining())
        except Exception as error:  # noqa: BLE001 - it is raised where the tasks are awaited
            relay.note_lost(way, error)
            return
        try:
            if not data:
                way.done = True
                await sink.send_end(relay.remaining())
                relay.note_end(way)
                return
            await sink.send(data, relay.remaining())
        except Exception as error:  # noqa: BLE001
            relay.note_refused(way, error)
            return
        way.count += len(data)


async def serve_async_bridge(
    listener: AsyncVsockListener[AsyncVsockStream],
    connect: Callable[[AsyncVsockStream], Awaitable[AsyncByteChannel]],
    *,
    most: int = MOST_BRIDGES,
    on_end: Callable[[BridgeResult], object] = lambda result: None,
) -> None:
    """As `serve_bridge`; `connect` is awaited.  Cancelled, it ends all bridges."""
    places = asyncio.Semaphore(most)
    running: set[asyncio.Task[None]] = set()

    async def serve_one(stream: AsyncVsockStream) -> None:
        try:
            result = await async_bridge(await connect(stream), stream)
        except BaseException as error:
            stream.reset()
            if not isinstance(error, Exception):
                raise
            log.exception(NOT_BRIDGED, stream)
        else:
            tell(on_end, result, stream)
        finally:
            places.release()

    try:
        with suppress(ChannelClosed, PeerClosed):
            while True:
                await places.acquire()
                task = asyncio.ensure_future(serve_one(await listener.accept()))
                running.add(task)
                task.add_done_callback(running.discard)
    except BaseException:
        for task in running:
            task.cancel()
        raise
    finally:
        await asyncio.gather(*running, return_exceptions=True)
