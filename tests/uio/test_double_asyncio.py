"""Channels of a device for asyncio, with a double of the kernel and of the host in another process."""

from __future__ import annotations

import asyncio

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE
from tests.known_bugs import known_bug
from tests.uio.kernel import LATE, OLD, PAGES_64K, RELID, Manner
from vmbus.channel import AsyncByteChannel, AsyncMessageChannel, AsyncPacketChannel
from vmbus.errors import ChannelClosed, PeerClosed, TimedOut
from vmbus.layout import INTERRUPT_MASK_WORD
from vmbus.uio import UioDevice

pytestmark = needs_linux

all_ages = pytest.mark.parametrize(
    "kernel", [LATE, OLD, PAGES_64K], ids=["late", "old", "64K"], indirect=True
)
both_ages = pytest.mark.parametrize("kernel", [LATE, OLD], ids=["late", "old"], indirect=True)


def with_channel(kernel, use, kind=AsyncPacketChannel):
    """Run `use` with a channel of the device."""

    async def run():
        with UioDevice("uio0", root=kernel.system) as device:
            async with device.open_channel(kind) as channel:
                return await use(channel)

    return asyncio.run(run())


async def asleep():
    """Let the tasks that have just begun go as far as to sleep."""
    for _ in range(5):
        await asyncio.sleep(0)


async def until_unmasked(channel):
    """Until whoever waits has looked, and waits on."""
    while channel.incoming.memory.control[INTERRUPT_MASK_WORD]:
        await asyncio.sleep(0)


def payload_of(number):
    return number.to_bytes(8, "little") * 50


@all_ages
@pytest.mark.parametrize("monitor_id", [None, 70], ids=["interrupt", "monitor"])
def test_floods_both_ways_come_whole_and_in_order(monitor_id, kernel):
    kernel.add_device(ring_size=2 * kernel.age.page_size, monitor_id=monitor_id, manner=Manner.ECHO)
    count = 200 if kernel.age.page_size == 4096 else 600

    async def use(channel):
        kernel.silence(RELID)
        sending = asyncio.ensure_future(send_all(channel))
        await asleep()
        kernel.await_asking(RELID)
        kernel.end_silence(RELID)
        received = [await channel.receive(timeout=PATIENCE) for _ in range(count)]
        await sending
        return received

    async def send_all(channel):
        for number in range(count):
            await channel.send(payload_of(number), number, timeout=PATIENCE)

    received = with_channel(kernel, use)
    assert [(packet.transaction_id, packet.payload) for packet in received] == [
        (number, payload_of(number)) for number in range(count)
    ]


@pytest.mark.parametrize(("kind", "data"), [(AsyncMessageChannel, b"odd"), (AsyncByteChannel, b"a stream")])
def test_other_kinds_of_channel_can_be_opened(kind, data, kernel):
    kernel.add_device(manner=Manner.ECHO)

    async def use(channel):
        await channel.send(data, timeout=PATIENCE)
        return await channel.receive(timeout=PATIENCE)

    assert with_channel(kernel, use, kind) == data


@both_ages
def test_requests_of_several_tasks_are_completed(kernel):
    kernel.add_device(manner=Manner.COMPLETE)

    async def use(channel):
        asked = [channel.request(payload_of(number), timeout=PATIENCE) for number in range(20)]
        return [answer.payload for answer in await asyncio.gather(*asked)]

    assert with_channel(kernel, use) == [payload_of(number) for number in range(20)]


@both_ages
def test_interrupts_for_nothing_neither_end_a_wait_nor_lose_a_packet(kernel):
    kernel.add_device()

    async def use(channel):
        for number in range(5):
            waiting = asyncio.ensure_future(channel.receive(timeout=PATIENCE))
            await asleep()
            kernel.interrupt(RELID)
            await asyncio.wait_for(until_unmasked(channel), PATIENCE)
            assert not waiting.done()
            kernel.send(RELID, payload_of(number), number)
            assert (await waiting).transaction_id == number

    with_channel(kernel, use)


@known_bug("B22")
@pytest.mark.parametrize("unregister", [True, False], ids=["unregistered", "without interrupt"])
@pytest.mark.parametrize("waits", ["receive", "send", "request"])
@both_ages
def test_a_revoked_device_ends_a_task_that_waits_and_every_later_call(waits, unregister, kernel):
    kernel.add_device(ring_size=8192)

    async def fill(channel):
        while True:
            await channel.send(bytes(1000), timeout=PATIENCE)

    async def use(channel):
        kernel.silence(RELID)
        calls = {
            "receive": lambda: channel.receive(timeout=PATIENCE),
            "send": lambda: fill(channel),
            "request": lambda: channel.request(b"never completed", timeout=PATIENCE),
        }
        waiting = asyncio.ensure_future(calls[waits]())
        await asleep()
        assert not waiting.done()
        kernel.revoke(RELID, unregister=unregister)
        with pytest.raises(PeerClosed, match="revoked"):
            await waiting
        for call in (channel.receive, lambda: channel.send(b"too late")):
            with pytest.raises(PeerClosed):
                await call()

    with_channel(kernel, use)


@known_bug("B22")
def test_a_loop_does_not_spin_over_a_revoked_device(kernel):
    kernel.add_device()

    async def use(channel):
        with pytest.raises(TimedOut):
            await channel.receive(timeout=0)
        kernel.revoke(RELID)
        with pytest.raises(PeerClosed):
            await channel.receive(timeout=PATIENCE)
        turns = 0

        def turn():
            nonlocal turns
            turns += 1

        loop = asyncio.get_running_loop()
        loop.add_reader(channel.fileno(), turn)
        await asleep()
        loop.remove_reader(channel.fileno())
        return turns

    assert with_channel(kernel, use) == 0


def test_closing_a_channel_ends_a_task_that_waits(kernel):
    kernel.add_device()

    async def use(channel):
        waiting = asyncio.ensure_future(channel.receive(timeout=PATIENCE))
        await asleep()
        channel.close()
        with pytest.raises(ChannelClosed):
            await waiting

    with_channel(kernel, use)
    assert not kernel.report(RELID).is_open
