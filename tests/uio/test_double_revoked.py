"""Whoever sends and never waits notices as well that the device is gone; and opening, where nothing may wait."""

from __future__ import annotations

import asyncio

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE
from tests.uio.kernel import LATE, OLD, RELID, Manner
from vmbus.channel import AsyncPacketChannel
from vmbus.errors import CallerError, PeerClosed, TimedOut
from vmbus.uio import UioDevice, open_channel

pytestmark = needs_linux


@pytest.mark.parametrize("monitor_id", [None], ids=["interrupt"])
@pytest.mark.parametrize("kernel", [LATE, OLD], ids=["late", "old"], indirect=True)
def test_a_sender_that_never_waits_stores_no_more_once_a_signal_found_the_device_gone(kernel, monitor_id):
    kernel.add_device(monitor_id=monitor_id)
    with UioDevice("file-copy", root=kernel.system) as device, device.open_channel() as channel:
        channel.send(b"received")
        kernel.await_received(RELID, 1)
        kernel.revoke(RELID)
        with pytest.raises(PeerClosed, match="revoked"):
            for _ in range(2):  # the first of them is signaled, and nobody is there
                channel.send(b"to nobody")
        assert channel.peer_closed
        kernel.reuse_memory(RELID)
        for call in (lambda: channel.send(b"more"), lambda: channel.receive(timeout=0)):
            with pytest.raises(PeerClosed, match="revoked"):
                call()
        assert kernel.memory_is_untouched(RELID)


def test_a_channel_opened_in_another_thread_belongs_to_the_loop_that_uses_it(kernel):
    kernel.add_device(manner=Manner.ECHO)

    async def talk():
        channel = await asyncio.to_thread(open_channel, "file-copy", AsyncPacketChannel, root=kernel.system)
        async with channel:
            await channel.send(b"from a loop")
            return (await channel.receive(timeout=PATIENCE)).payload

    assert asyncio.run(talk()) == b"from a loop".ljust(16, b"\0")


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_what_is_no_number_of_seconds_is_refused_before_anything_waits(timeout, kernel):
    kernel.add_device()
    with UioDevice("file-copy", root=kernel.system) as device:
        for relid in (None, 99):
            with pytest.raises(CallerError, match="number of seconds"):
                device.open_channel(relid=relid, timeout=timeout)


def test_what_is_no_relid_is_refused(kernel):
    kernel.add_device()
    with pytest.raises(CallerError, match="a relid is a number"):
        open_channel(RELID, root=kernel.system, relid="14")


def test_without_a_timeout_opening_waits_until_the_ring_is_there(kernel):
    kernel.add_device("network")
    with UioDevice("network", root=kernel.system, timeout=None) as device:
        kernel.offer_subchannel(RELID, 1)
        with device.open_channel(relid=RELID + 1, timeout=None) as channel, pytest.raises(TimedOut):
            channel.receive(timeout=0)
