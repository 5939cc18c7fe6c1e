"""One attachment after another, and the copies that a forked child inherits."""

from __future__ import annotations

import asyncio

import pytest

from tests.channel.children import PATIENCE, needs_linux
from tests.channel.helpers import Running
from vmbus.channel import AsyncPacketChannel, PacketChannel, SharedChannel, connected_channels
from vmbus.errors import CallerError, ChannelClosed, TimedOut

pytestmark = needs_linux


def test_no_completion_for_an_earlier_attachment_answers_a_request_of_a_later_one():
    near, far = SharedChannel.create()
    with near, far:
        with near.attach() as first, pytest.raises(TimedOut):
            first.request(b"old", timeout=0)
        with near.attach() as second, far.attach() as server:
            answer = Running(second.request, b"new", PATIENCE)
            for _ in range(2):
                question = server.receive(PATIENCE)
                server.complete(question.transaction_id, question.payload)
            assert answer.result().payload == b"new" + bytes(5)
            assert second.receive(PATIENCE).payload == b"old" + bytes(5)  # nobody's any more


@pytest.mark.parametrize("kind", [PacketChannel, AsyncPacketChannel])
def test_a_channel_over_an_end_draws_the_first_of_its_request_ids(kind):
    near, far = SharedChannel.create()
    with near, far:
        first = []
        for _ in range(5):
            with_id = near.attach(kind)
            first.append(with_id._work.transactions.begin().id)
            with_id.close()
        assert len(set(first)) == 5
        chosen = near.attach(kind, first_request_id=7)
        assert chosen._work.transactions.begin().id == 7
        chosen.close()


def test_a_forked_child_cannot_use_the_channel_that_its_parent_attached(children):
    near, far = SharedChannel.create()
    with near, far, near.attach() as channel, far.attach() as other:

        def use_it() -> None:
            calls = (
                lambda: channel.send(b"child"),
                lambda: channel.receive(timeout=0),
                lambda: channel.request(b"", timeout=0),
            )
            for call in calls:
                with pytest.raises(ChannelClosed, match="attached in the process that forked"):
                    call()
            assert "closed" in repr(channel)
            channel.close()

        assert children.join(children.start(use_it)) == 0
        channel.send(b"parent")
        assert other.receive(PATIENCE).payload == b"parent" + bytes(2)
        assert not other.peer_closed


@pytest.mark.parametrize("shared", [True, False], ids=["between processes", "between threads"])
def test_a_child_forked_while_a_thread_sleeps_in_a_call_closes_its_copy_at_once(children, shared):
    near, far = SharedChannel.create()
    with near, far:
        ends = (near.attach(), far.attach()) if shared else connected_channels()
        channel, other = ends
        sleeper = Running(channel.receive, PATIENCE)
        while channel._receiving._sleeper is None:
            assert sleeper.still_runs()

        def close_it() -> None:
            channel.close()
            with pytest.raises(ChannelClosed):
                channel.receive(timeout=0)

        assert children.join(children.start(close_it)) == 0
        other.send(b"packet 1")
        assert sleeper.result().payload == b"packet 1"
        channel.close()
        other.close()


def test_closing_under_a_thread_that_spins_takes_no_memory_away_that_it_looks_at():
    for _ in range(50):
        near, far = SharedChannel.create()
        with near, far:
            channel = near.attach(spin=1000.0)
            spinner = Running(channel.receive)
            while channel._receiving._sleeper is None:
                assert spinner.still_runs()
            channel.close()
            with pytest.raises(ChannelClosed):
                spinner.result()


def test_closing_under_a_task_that_spins_takes_no_memory_away_that_it_looks_at():
    async def spin_and_close() -> None:
        near, far = SharedChannel.create()
        with near, far:
            channel = near.attach(AsyncPacketChannel, spin=1000.0)
            spinner = asyncio.create_task(channel.receive())
            await asyncio.sleep(0)
            channel.close()
            with pytest.raises(ChannelClosed):
                await asyncio.wait_for(spinner, PATIENCE)

    asyncio.run(spin_and_close())


@pytest.mark.parametrize("kind", ["message", int, None, SharedChannel])
def test_what_is_no_kind_of_channel_is_refused(kind):
    with pytest.raises(CallerError, match="a kind of channel is a class"):
        connected_channels(kind=kind)
    near, far = SharedChannel.create()
    with near, far, pytest.raises(CallerError, match="a kind of channel is a class"):
        near.attach(kind)


def test_channels_in_one_process_have_a_descriptor_where_that_is_asked_for():
    guest, host = connected_channels(pollable=True)
    with guest, host:
        assert guest.fileno() >= 0
    guest, host = connected_channels()
    with guest, host, pytest.raises(CallerError, match="pollable"):
        guest.fileno()
