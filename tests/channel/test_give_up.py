"""A channel whose other side is gone, and the memory of the rings with it."""

from __future__ import annotations

import asyncio

import pytest

from tests.channel.helpers import PATIENCE, Running
from vmbus.channel import (
    AsyncByteChannel,
    AsyncMessageChannel,
    AsyncPacketChannel,
    ByteChannel,
    MessageChannel,
    PacketChannel,
    connected_channels,
)
from vmbus.errors import ChannelClosed, PeerClosed


def take_memory_away(channel):
    """Whoever touches a ring of it from now on gets a ValueError."""
    channel.give_up("all is gone")
    channel.incoming.memory.close()
    channel.outgoing.memory.close()


@pytest.mark.parametrize("kind", [PacketChannel, MessageChannel, ByteChannel])
def test_a_channel_that_was_given_up_ends_every_call_and_touches_no_ring(kind):
    guest, host = connected_channels(kind=kind)
    host.send(b"lost")
    take_memory_away(guest)
    for call in (lambda: guest.receive(timeout=0), lambda: guest.send(b"more", timeout=0), guest.receive):
        with pytest.raises(PeerClosed, match="guest: all is gone"):
            call()
    assert repr(guest) == f"<{kind.__name__}: guest, the other side is gone>"
    guest.close()
    with pytest.raises(ChannelClosed, match="this side has closed"):
        guest.receive(timeout=0)


def test_who_sleeps_in_it_is_ended_by_the_next_signal():
    guest, host = connected_channels()
    receiving = Running(guest.receive, timeout=PATIENCE)
    while guest.statistics().walked.get(("unmasked", "nothing")) is None:
        pass
    take_memory_away(guest)
    guest.signal.wake()
    with pytest.raises(PeerClosed, match="all is gone"):
        receiving.result()
    host.close()


@pytest.mark.parametrize("kind", [AsyncPacketChannel, AsyncMessageChannel, AsyncByteChannel])
def test_a_channel_for_asyncio_that_was_given_up_does_the_same(kind):
    async def run():
        guest, host = connected_channels(kind=kind)
        async with guest, host:
            await host.send(b"lost")
            take_memory_away(guest)
            with pytest.raises(PeerClosed, match="guest: all is gone"):
                await guest.receive()
            with pytest.raises(PeerClosed, match="guest: all is gone"):
                await guest.send(b"more")
        with pytest.raises(ChannelClosed):
            await guest.receive()

    asyncio.run(run())


def test_a_task_that_sleeps_in_it_is_ended_by_the_next_signal():
    async def run():
        guest, host = connected_channels(kind=AsyncPacketChannel)
        async with guest, host:
            receiving = asyncio.ensure_future(guest.receive(timeout=PATIENCE))
            while ("unmasked", "nothing") not in guest.statistics().walked:
                await asyncio.sleep(0)
            take_memory_away(guest)
            guest.signal.wake()
            with pytest.raises(PeerClosed, match="all is gone"):
                await receiving

    asyncio.run(run())
