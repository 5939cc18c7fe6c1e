"""Channels for asyncio: the same calls as the blocking ones, many tasks in one loop, and cancellation.

Every test runs over two kinds of signals where signals matter: those of the package, and the plain
socket pairs of this file, whose descriptor stays readable for ever once the other side is closed.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.channel.helpers import mask_of, pending_of
from tests.helpers import padded, pattern
from tests.known_bugs import known_bug
from vmbus.channel import descriptor_signals, local_signals
from vmbus.channel.asynchronous import (
    CALLS_PER_PAUSE,
    AsyncByteChannel,
    AsyncMessageChannel,
    AsyncPacketChannel,
)
from vmbus.errors import (
    BufferTooSmall,
    CallerError,
    ChannelClosed,
    DeviceError,
    PeerClosed,
    PeerError,
    TimedOut,
)
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import IN_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingPacketType, IncomingRing, OutgoingPacket, OutgoingRing

#: Seconds after which a test that should have ended long ago fails.
PATIENCE = 30

KINDS = {"packets": AsyncPacketChannel, "messages": AsyncMessageChannel, "bytes": AsyncByteChannel}


class SocketSignal:
    """A Signal over a socket pair, for one loop: bytes are notifications, the end is the closing."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end
        self.peer_closed = False
        self.takes = 0
        self.closed = False

    def notify(self) -> None:
        with suppress(OSError):
            self.end.send(b"!")

    def wake(self) -> None:
        pass  # one loop: nobody waits meanwhile

    def wait(self, timeout: float | None) -> bool:
        assert timeout == 0, "the loop waits, not the signal"
        self.takes += 1
        try:
            self.peer_closed = not self.end.recv(4096)
        except BlockingIOError:
            return False
        except ConnectionError:
            self.peer_closed = True
        return True

    def fileno(self) -> int:
        return self.end.fileno()

    def close(self) -> None:
        self.closed = True
        self.end.close()


def socket_signals() -> tuple[SocketSignal, SocketSignal]:
    near, far = socket.socketpair()
    return SocketSignal(near), SocketSignal(far)


SIGNALS: dict[str, Callable[[], tuple[Any, Any]]] = {"sockets": socket_signals, "own": descriptor_signals}


class Sides:
    """Two channels in one loop that are closed with the test."""

    def __init__(
        self,
        kind: type[Any],
        size: int = 4096,
        signals: str = "own",
        guest_options: Any = None,
        **options: Any,
    ) -> None:
        self.out, self.back = FlatRingMem(size), FlatRingMem(size)
        near, far = SIGNALS[signals]()
        mine = {**options, **(guest_options or {})}
        self.guest = kind(IncomingRing(self.back), OutgoingRing(self.out), near, role="guest", **mine)
        self.host = kind(IncomingRing(self.out), OutgoingRing(self.back), far, role="host", **options)

    def __enter__(self) -> tuple[Any, Any]:
        return self.guest, self.host

    def __exit__(self, *error: object) -> None:
        self.guest.close()
        self.host.close()


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test of coroutines, for so long and no longer."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), PATIENCE))

    return run


async def settle() -> None:
    """Let everybody run until only the other side could wake them."""
    for _ in range(12):
        await asyncio.sleep(0)


async def started(*coroutines: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    await settle()
    return tasks


async def outcomes(*tasks: Any) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def fill(channel: Any, size: int = 232) -> int:
    """Send until one is refused: how many."""
    count = 0
    with suppress(TimedOut):
        while True:
            await channel.send(bytes(size), timeout=0)
            count += 1
    return count


def payload_of(one: Any) -> bytes:
    return one if isinstance(one, bytes) else one.payload


all_signals = pytest.mark.parametrize("signals", SIGNALS)
all_kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


# -- carrying ------------------------------------------------------------------------------------


@all_kinds
@all_signals
@in_loop
async def test_what_one_side_sends_the_other_receives_and_echoes(kind, signals):
    with Sides(kind, signals=signals) as (guest, host):

        async def echo() -> None:
            async for one in host:
                await host.send(payload_of(one))

        echoing = asyncio.ensure_future(echo())
        for number in range(200):
            await guest.send(pattern(8 * (1 + number % 50), number + 1))
            got = b""
            while len(got) < 8 * (1 + number % 50):
                got += payload_of(await guest.receive())
            assert got == pattern(8 * (1 + number % 50), number + 1)
        guest.close() if kind is not AsyncByteChannel else await guest.send_end()
        await echoing


@all_kinds
@all_signals
@in_loop
async def test_both_directions_carry_at_once_through_small_rings(kind, signals):
    with Sides(kind, signals=signals) as (guest, host):

        async def put(channel, seed):
            for number in range(150):
                await channel.send(pattern(488, seed + number))

        async def take(channel):
            got = b""
            while len(got) < 150 * 488:
                got += payload_of(await channel.receive())
            return got

        answers = await asyncio.gather(put(guest, 1), put(host, 1000), take(guest), take(host))
        assert answers[2] == b"".join(pattern(488, 1000 + number) for number in range(150))
        assert answers[3] == b"".join(pattern(488, 1 + number) for number in range(150))


@all_signals
@in_loop
async def test_packets_of_many_tasks_arrive_whole_and_none_is_lost(signals):
    with Sides(AsyncPacketChannel, signals=signals) as (guest, host):

        async def put(task):
            for number in range(20):
                await guest.send(pattern(8 * (task + 1), 100 * task + number + 1))

        tasks = [asyncio.ensure_future(put(task)) for task in range(40)]
        got = [(await host.receive()).payload for _ in range(40 * 20)]
        await asyncio.gather(*tasks)
        for task in range(40):
            mine = [one for one in got if len(one) == 8 * (task + 1)]
            assert mine == [pattern(8 * (task + 1), 100 * task + number + 1) for number in range(20)]


@in_loop
async def test_a_batch_larger_than_the_ring_has_nobody_elses_packets_in_it():
    with Sides(AsyncPacketChannel) as (guest, host):
        batch = [bytes([1]) * 200] * 60
        tasks = await started(guest.send_many(batch), guest.send(bytes([2]) * 8), guest.send_many(batch[:3]))
        got = []
        while len(got) < 64:
            got += await host.receive_many(limit=7)
        await asyncio.gather(*tasks)
        assert [one.payload[0] for one in got] == [1] * 60 + [2] + [1] * 3


@in_loop
async def test_a_large_packet_is_not_overtaken_by_small_ones_that_would_fit():
    with Sides(AsyncPacketChannel) as (guest, host):
        await fill(guest)
        await host.receive()
        tasks = await started(guest.send(bytes(2000)), guest.send(b"small 1"), guest.send(b"small 2"))
        assert not any(task.done() for task in tasks)
        sizes = [len((await host.receive()).payload) for _ in range(15 + 2)]
        assert sizes == [232] * 14 + [2000, 8, 8]
        await asyncio.gather(*tasks)


@in_loop
async def test_calls_have_the_forms_of_the_blocking_channel():
    with Sides(AsyncPacketChannel) as (guest, host):
        await guest.send_packet(
            OutgoingPacket.in_band(5, transaction_id=9, completion_requested=True), b"12345"
        )
        question = await host.receive(timeout=1)
        await host.complete(question.transaction_id, b"done")
        answer = await guest.receive()
        assert (answer.type, answer.transaction_id) == (IncomingPacketType.COMPLETION, 9)
        await guest.send_many([])
        await guest.send(b"12345678")
        with pytest.raises(BufferTooSmall) as error:
            await host.receive_into(bytearray(4))
        buffer = bytearray(error.value.needed)
        assert await host.receive_into(buffer) == 8 and buffer == b"12345678"
        for wrong in (-1, float("nan")):
            with pytest.raises(CallerError, match="timeout"):
                await host.receive(timeout=wrong)


# -- requests ------------------------------------------------------------------------------------


@known_bug("B61", "B62")
@all_signals
def test_requests_of_many_tasks_get_their_own_answers_however_these_are_shuffled(signals):
    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel, 65536, signals=signals) as (guest, host):

            async def answer() -> None:
                for _ in range(4):
                    questions = [await host.receive() for _ in range(50)]
                    assert 0 not in {one.transaction_id for one in questions}
                    random.Random(7).shuffle(questions)
                    for one in questions:
                        await host.complete(one.transaction_id, one.payload[::-1])
                        await asyncio.sleep(0)

            answering = asyncio.ensure_future(answer())
            answers = await asyncio.gather(*(guest.request(pattern(16, one + 1)) for one in range(200)))
            assert [one.payload for one in answers] == [pattern(16, one + 1)[::-1] for one in range(200)]
            assert guest.outstanding == 0
            await answering

    run()


@known_bug("B64")
def test_packets_that_answer_no_request_are_kept_in_order_for_receive():
    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel) as (guest, host):
            asking = (await started(guest.request(b"question")))[0]
            question = await host.receive()
            await host.send_many([pattern(8, one) for one in (1, 2, 3)])
            await settle()
            assert not asking.done()
            await host.complete(question.transaction_id, b"answer")
            assert (await asking).payload == padded(b"answer")
            assert [(await guest.receive()).payload for _ in range(3)] == [
                pattern(8, one) for one in (1, 2, 3)
            ]

    run()


@in_loop
async def test_a_task_that_receives_gets_what_a_request_before_it_in_the_line_takes_out():
    with Sides(AsyncPacketChannel) as (guest, host):
        asking, receiving, receiving_too = await started(
            guest.request(b"?"), guest.receive(), guest.receive()
        )
        await host.send(b"packet 1")
        assert (await receiving).payload == b"packet 1"
        await host.send(b"packet 2")
        assert (await receiving_too).payload == b"packet 2"
        assert not asking.done()
        await host.complete((await host.receive()).transaction_id)
        await asking


@in_loop
async def test_what_a_small_buffer_leaves_goes_to_a_task_behind_a_request():
    with Sides(AsyncPacketChannel) as (guest, host):
        small, asking, receiving = await started(
            guest.receive_into(bytearray(1)), guest.request(b"?"), guest.receive()
        )
        await host.send(b"too long")
        assert (await receiving).payload == b"too long"
        assert isinstance((await outcomes(small))[0], BufferTooSmall) and not asking.done()
        asking.cancel()
        await outcomes(asking)


@in_loop
async def test_one_task_takes_many_and_the_answers_among_them_reach_their_requests():
    with Sides(AsyncPacketChannel) as (guest, host):
        tasks = await started(guest.receive_many(), guest.receive(), guest.request(b"1"), guest.request(b"2"))
        questions = [await host.receive() for _ in range(2)]
        await host.send(b"packet 1")
        for one in reversed(questions):
            await host.complete(one.transaction_id, one.payload)
        answers = await asyncio.gather(tasks[2], tasks[3])
        assert [one.payload for one in answers] == [padded(b"1"), padded(b"2")]
        assert [one.payload for one in await tasks[0]] == [b"packet 1"] and not tasks[1].done()
        tasks[1].cancel()
        await outcomes(tasks[1])


@in_loop
async def test_no_more_requests_are_outstanding_than_allowed_and_the_next_goes_when_one_is_answered():
    with Sides(AsyncPacketChannel, maximum_outstanding=3) as (guest, host):
        tasks = await started(*(guest.request(bytes([one])) for one in range(5)))
        assert guest.outstanding == 3
        for _ in range(5):
            await host.complete((await host.receive()).transaction_id)
            await settle()
            assert guest.outstanding <= 3
        await asyncio.gather(*tasks)


@in_loop
async def test_a_request_cancelled_before_it_was_sent_makes_room_for_the_next():
    with Sides(AsyncPacketChannel, maximum_outstanding=1) as (guest, host):
        await fill(guest)
        first, second, third = await started(*(guest.request(bytes([one]) * 232) for one in (1, 2, 3)))
        first.cancel()
        await settle()
        assert first.cancelled() and guest.outstanding == 1  # the second one
        second.cancel()
        await settle()
        assert first.cancelled() and second.cancelled() and guest.outstanding == 1
        while (question := await host.receive()).payload[0] != 3:
            assert question.payload[0] == 0
        await host.complete(question.transaction_id)
        await third


@in_loop
async def test_a_request_that_is_given_up_stays_outstanding_and_its_answer_is_dropped():
    with Sides(AsyncPacketChannel) as (guest, host):
        with pytest.raises(TimedOut):
            await guest.request(b"1", timeout=0)
        cancelled = (await started(guest.request(b"2")))[0]
        cancelled.cancel()
        await outcomes(cancelled)
        assert guest.outstanding == 2
        for _ in range(2):
            await host.complete((await host.receive()).transaction_id)
        await host.send(b"packet 1")
        assert (await guest.receive()).payload == b"packet 1" and guest.outstanding == 0


# -- timeouts ------------------------------------------------------------------------------------


@all_kinds
@all_signals
@in_loop
async def test_a_wait_ends_with_its_time_and_the_channel_goes_on(kind, signals):
    with Sides(kind, signals=signals) as (guest, host):
        for timeout in (0, 0.001):
            with pytest.raises(TimedOut):
                await host.receive(timeout=timeout)
        count = await fill(guest)
        with pytest.raises(TimedOut):
            await guest.send(bytes(3000), timeout=0.001)
        assert count and len(payload_of(await host.receive())) >= 232
        with pytest.raises(TimedOut), Sides(kind, signals=signals) as (_, other):
            await other.receive(timeout=0)


@in_loop
async def test_a_call_times_out_behind_one_that_still_waits():
    with Sides(AsyncPacketChannel) as (guest, host):
        first = (await started(guest.receive()))[0]
        with pytest.raises(TimedOut, match="another call"):
            await guest.receive(timeout=0.001)
        await host.send(b"packet 1")
        assert (await first).payload == b"packet 1"


@all_signals
@in_loop
async def test_what_ends_a_batch_early_says_how_much_of_it_was_sent(signals):
    with Sides(AsyncPacketChannel, signals=signals) as (guest, host):
        with pytest.raises(TimedOut) as error:
            await guest.send_many([bytes(232)] * 40, timeout=0)
        assert error.value.done == len(await host.receive_many()) == 15
    with Sides(AsyncByteChannel, signals=signals) as (guest, host):
        sending = (await started(guest.send(pattern(10000))))[0]
        host.close()
        with pytest.raises(PeerClosed) as closed:
            await sending
        assert 0 < closed.value.done < 10000


# -- ends ----------------------------------------------------------------------------------------

WAITS: dict[str, Callable[[Any], Any]] = {
    "receive": lambda channel: channel.receive(),
    "receive_many": lambda channel: channel.receive_many(),
    "receive_into": lambda channel: channel.receive_into(bytearray(8)),
    "send": lambda channel: channel.send(bytes(3000)),
    "send_many": lambda channel: channel.send_many([bytes(3000)] * 2),
    "request": lambda channel: channel.request(bytes(3000)),
    "anext": lambda channel: channel.__anext__(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("closer", ["this side", "the other"])
@all_signals
@in_loop
async def test_closing_either_side_ends_every_wait_also_of_those_in_line(wait, closer, signals):
    closed = []
    with Sides(AsyncPacketChannel, signals=signals, on_close=lambda: closed.append(1)) as (guest, host):
        await fill(guest)
        tasks = await started(*(wait(guest) for _ in range(3)))
        (guest if closer == "this side" else host).close()
        expected = ChannelClosed if closer == "this side" else PeerClosed
        if wait is WAITS["anext"]:
            expected = StopAsyncIteration
        assert [type(one) for one in await outcomes(*tasks)] == [expected] * 3
        assert closed == [1]
        (guest if closer == "this side" else host).close()
        assert closed == [1]


@in_loop
async def test_no_task_touches_the_ring_once_the_channel_is_closed():
    sides = Sides(AsyncPacketChannel)
    with sides as (guest, _):
        await fill(guest)
        await guest.receive_many(limit=0)
        tasks = await started(*(guest.send(bytes(3000)) for _ in range(3)), guest.receive(), guest.receive())
        before = bytes(sides.out.read_at(0, 4096)), pending_of(sides.out), mask_of(sides.back)
        assert pending_of(sides.out) > 0 and mask_of(sides.back) == 0
        guest.close()
        await outcomes(*tasks)
        assert before == (bytes(sides.out.read_at(0, 4096)), pending_of(sides.out), mask_of(sides.back))
        for call in (guest.receive(), guest.send(b""), guest.request(b"")):
            with pytest.raises(ChannelClosed):
                await call


@all_kinds
@all_signals
@in_loop
async def test_all_that_was_sent_before_the_close_is_received_and_then_the_close(kind, signals):
    with Sides(kind, signals=signals) as (guest, host):
        await guest.send(b"packet 1")
        await guest.send(b"packet 2")
        guest.close()
        got = b""
        with pytest.raises(PeerClosed):
            while True:
                got += payload_of(await host.receive())
        assert got == b"packet 1packet 2" and host.peer_closed
        with pytest.raises(PeerClosed):
            await host.send(b"to nobody")


@in_loop
async def test_async_for_ends_and_async_with_closes():
    with Sides(AsyncMessageChannel) as (guest, host):
        async with guest as same:
            assert same is guest
            await guest.send(b"a")
            await guest.send(b"b")
        assert guest.closed
        assert [one async for one in host] == [b"a", b"b"]
        assert [one async for one in guest] == []


@known_bug("B47")
@all_signals
def test_the_end_of_a_stream_is_read_again_and_again_and_nothing_stays_readable(signals):
    @in_loop
    async def run() -> None:
        with Sides(AsyncByteChannel, signals=signals) as (guest, host):
            receiving = (await started(host.receive(), host.receive()))[:]
            await guest.send_end()
            await guest.send_end()
            assert await asyncio.gather(*receiving) == [b"", b""]
            assert await host.receive() == b"" and [one async for one in host] == []
            await settle()
            with selectors.DefaultSelector() as selector:
                selector.register(host.fileno(), selectors.EVENT_READ)
                assert selector.select(0) == []
            await host.send(b"the other way still works")
            assert await guest.receive() == b"the other way still works"
            with pytest.raises(CallerError):
                await guest.send(b"behind the end")

    run()


@known_bug("B22")
def test_a_closed_peer_whose_signal_stays_readable_calls_the_loop_once():
    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel, signals="sockets") as (guest, host):
            receiving = (await started(guest.receive()))[0]
            host.close()
            with pytest.raises(PeerClosed):
                await receiving
            takes = guest.signal.takes
            await settle()
            assert guest.signal.takes == takes

    run()


@known_bug("B22")
def test_a_signal_that_fails_ends_every_wait_with_its_error_and_is_not_asked_again():
    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel, signals="sockets") as (guest, host):
            calls = []

            def fail(timeout):
                calls.append(timeout)
                raise DeviceError(5, "the device is gone")

            guest.signal.wait = fail
            await fill(guest)  # its end waits, too: the loop has seen the signal by then
            tasks = await started(guest.receive(), guest.send(bytes(3000)), guest.receive())
            await host.send(b"packet")
            ended = await outcomes(*tasks)
            assert [type(one) for one in ended[:2]] == [DeviceError, DeviceError] and len(calls) == 1
            assert ended[2].payload == padded(b"packet")  # it is in the ring: no wait is needed
            with pytest.raises(DeviceError):
                await guest.receive()
            assert len(calls) == 1

    run()


@known_bug("B20")
@in_loop
async def test_a_flood_of_other_packets_leaves_other_tasks_their_turns():
    sides = Sides(AsyncPacketChannel)
    back = RecordingMemory(sides.back)
    guest = AsyncPacketChannel(IncomingRing(back), OutgoingRing(sides.out), sides.guest.signal)
    sides.guest = guest
    floods = 0

    def flood(access: Access) -> None:
        nonlocal floods
        if str(access) == "store out" and floods < 1000:
            floods += 1
            sides.host.outgoing.send(b"flood")

    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while floods < 1000:
            turns += 1
            await asyncio.sleep(0)

    with sides:
        await sides.host.send(b"the first")
        back.after = flood
        request, counting = await started(guest.request(b"question"), count_turns())
        await counting
        assert turns > 1000 // (2 * CALLS_PER_PAUSE)
        request.cancel()
        await outcomes(request)


@in_loop
async def test_an_error_of_the_other_side_is_raised_in_the_task_that_meets_it_and_in_those_behind():
    sides = Sides(AsyncPacketChannel)
    with sides as (_, host):
        tasks = await started(host.receive(), host.receive())
        sides.out.control[IN_WORD] = 3
        host.signal.wake()
        assert [type(one) for one in await outcomes(*tasks)] == [PeerError, PeerError]


def test_a_channel_belongs_to_its_first_loop_and_closes_without_it():
    with Sides(AsyncPacketChannel) as (guest, host):

        async def wait_a_little() -> None:
            with pytest.raises(TimedOut):
                await host.receive(timeout=0)

        asyncio.run(wait_a_little())
        with pytest.raises(CallerError, match="event loop"):
            asyncio.run(wait_a_little())
    assert guest.closed and host.closed


def test_a_task_left_waiting_in_a_loop_that_is_closed_does_no_harm():
    loop = asyncio.new_event_loop()
    with Sides(AsyncPacketChannel) as (guest, _):
        waiting = [guest.receive(), guest.receive()]
        tasks = [loop.create_task(one) for one in waiting]
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        guest.close()
        for one, task in zip(waiting, tasks, strict=True):
            one.close()
            task._log_destroy_pending = False  # what asyncio itself says of such tasks is not the point


def test_a_signal_without_a_descriptor_is_refused_when_the_channel_is_made():
    near, _ = local_signals()
    with pytest.raises(CallerError, match="descriptor"):
        AsyncPacketChannel(IncomingRing(FlatRingMem(4096)), OutgoingRing(FlatRingMem(4096)), near)


# -- taking turns --------------------------------------------------------------------------------


@known_bug("B21")
def test_a_full_outgoing_ring_does_not_keep_packets_from_being_received():
    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel) as (guest, host):
            await fill(guest)
            sending = (await started(guest.send(bytes(232))))[0]
            for _ in range(100):
                await host.send(b"packet")
                assert (await guest.receive()).payload == padded(b"packet")
            assert not sending.done()
            await host.receive_many()
            await sending

    run()


@in_loop
async def test_a_slow_reader_holds_the_sender_back():
    with Sides(AsyncPacketChannel) as (guest, host):
        sent = 0

        async def put() -> None:
            nonlocal sent
            for _ in range(200):
                await guest.send(bytes(232))
                sent += 1

        sending = (await started(put()))[0]
        for got in range(200):
            assert sent <= got + 15
            await host.receive()
            await settle()
        await sending


@in_loop
async def test_a_task_whose_calls_never_wait_lets_others_run():
    with Sides(AsyncPacketChannel) as (guest, host):
        turns, most, calls = 0, 0, 0

        async def count_turns() -> None:
            nonlocal turns, most, calls
            while True:
                turns += 1
                most, calls = max(most, calls), 0
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count_turns())
        for _ in range(500):
            calls += 1
            await guest.send(b"packet")
            calls += 1
            assert (await host.receive(timeout=1)).payload == padded(b"packet")
        counting.cancel()
        assert turns >= 500 // CALLS_PER_PAUSE and most <= 2 * CALLS_PER_PAUSE


@in_loop
async def test_calls_that_pause_for_others_keep_their_order():
    with Sides(AsyncPacketChannel, 65536) as (guest, host):
        await asyncio.gather(*(guest.send(pattern(8, one + 1)) for one in range(300)))
        assert [one.payload for one in await host.receive_many()] == [
            pattern(8, one + 1) for one in range(300)
        ]


@in_loop
async def test_spinning_lets_other_tasks_run_and_publishes_nothing_before_its_end():
    sides = Sides(AsyncPacketChannel, guest_options={"spin": 1000.0})
    with sides as (guest, host):
        receiving = (await started(guest.receive()))[0]
        assert mask_of(sides.back) == 1
        await host.send(b"packet 1")
        assert (await receiving).payload == b"packet 1"
        assert host.statistics().signals_after_write == 0
        with pytest.raises(TimedOut):
            await guest.receive(timeout=0.001)
        receiving = (await started(guest.receive()))[0]
        host.close()
        with pytest.raises(PeerClosed):
            await asyncio.wait_for(receiving, PATIENCE)  # long before it has spun enough


@in_loop
async def test_after_spinning_in_vain_a_task_sleeps():
    times = iter(range(10**9))
    sides = Sides(AsyncPacketChannel, guest_options={"spin": 5.0, "clock": lambda: float(next(times))})
    with sides as (guest, host):
        receiving = (await started(guest.receive()))[0]
        assert mask_of(sides.back) == 0
        await host.send(b"packet 1")
        assert (await receiving).payload == b"packet 1" and host.statistics().signals_after_write == 1


# -- cancellation --------------------------------------------------------------------------------

MOMENTS = range(14)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("waiting", [1, 2, 3])
@all_signals
@in_loop
async def test_a_task_cancelled_at_any_moment_takes_a_packet_with_it_or_leaves_it(moment, waiting, signals):
    """The first of those that wait is cancelled so many turns of the loop after a packet was sent."""
    with Sides(AsyncPacketChannel, signals=signals) as (guest, host):
        tasks = await started(*(host.receive() for _ in range(waiting)))
        await guest.send(pattern(8, 1))
        for _ in range(moment):
            await asyncio.sleep(0)
        tasks[0].cancel()
        await settle()
        await guest.send_many([pattern(8, 2 + one) for one in range(waiting)])
        got = [one.payload for one in await outcomes(*tasks) if not isinstance(one, BaseException)]
        while len(got) < waiting + 1:
            got.append((await host.receive(timeout=PATIENCE)).payload)
        assert got == [pattern(8, 1 + one) for one in range(waiting + 1)]
        with pytest.raises(TimedOut):
            await host.receive(timeout=0)


@pytest.mark.parametrize("moment", MOMENTS)
@all_signals
@in_loop
async def test_a_sender_cancelled_at_any_moment_has_sent_its_packet_or_not(moment, signals):
    with Sides(AsyncPacketChannel, signals=signals) as (guest, host):
        count = await fill(guest)
        tasks = await started(*(guest.send(pattern(1000, one)) for one in (1, 2, 3)))
        await host.receive_many()
        for _ in range(moment):
            await asyncio.sleep(0)
        tasks[0].cancel()
        ended = await outcomes(*tasks)
        got = [one.payload for one in await host.receive_many()]
        expected = [pattern(1000, one) for one in (1, 2, 3)]
        assert count == 15 and got == expected[isinstance(ended[0], BaseException) :]


@pytest.mark.parametrize("moment", MOMENTS)
@in_loop
async def test_a_batch_cancelled_at_any_moment_has_sent_its_first_packets_and_each_whole(moment):
    with Sides(AsyncPacketChannel) as (guest, host):
        batch = [pattern(232, one + 1) for one in range(40)]
        sending, behind = await started(guest.send_many(batch), guest.send(pattern(8, 100)))
        got = [one.payload for one in await host.receive_many()]
        for _ in range(moment):
            await asyncio.sleep(0)
        sending.cancel()
        while not got or got[-1] != pattern(8, 100):
            got += [one.payload for one in await host.receive_many(timeout=PATIENCE)]
        await outcomes(sending, behind)
        assert got[:-1] == batch[: len(got) - 1] and len(got) > 15


@pytest.mark.parametrize("moment", MOMENTS)
@in_loop
async def test_a_request_cancelled_at_any_moment_leaves_the_others_their_answers(moment):
    with Sides(AsyncPacketChannel, maximum_outstanding=2) as (guest, host):
        tasks = [asyncio.ensure_future(guest.request(pattern(8, one))) for one in (1, 2, 3, 4)]

        async def answer() -> None:
            async for one in host:
                await host.send(b"unasked!")
                await host.complete(one.transaction_id, one.payload)

        answering = asyncio.ensure_future(answer())
        for _ in range(moment):
            await asyncio.sleep(0)
        tasks[moment % 4].cancel()
        ended = await outcomes(*tasks)
        for number, one in enumerate(ended, 1):
            if not isinstance(one, asyncio.CancelledError):
                assert one.payload == pattern(8, number)
        asked = [one for one in ended if not isinstance(one, BaseException)]
        assert len(asked) >= 3
        last = await guest.request(pattern(8, 9))
        assert last.payload == pattern(8, 9)
        unasked = [await guest.receive(timeout=PATIENCE) for _ in range(len(asked) + 1)]
        assert {one.payload for one in unasked} == {b"unasked!"}
        answering.cancel()
        await outcomes(answering)


@all_signals
@in_loop
async def test_the_wake_up_of_a_task_cancelled_at_that_very_moment_goes_to_the_next(signals):
    with Sides(AsyncPacketChannel, signals=signals) as (guest, host):
        first, second = await started(host.receive(), host.receive())
        await guest.send(b"packet 1")
        seen = asyncio.Event()
        take = host.signal.wait

        def take_and_cancel(timeout):
            first.cancel()  # in the callback that wakes it
            seen.set()
            return take(timeout)

        host.signal.wait = take_and_cancel
        await seen.wait()
        assert (await second).payload == b"packet 1" and first.cancelled()


@pytest.mark.parametrize("turns", range(8))
@all_signals
@in_loop
async def test_wait_for_never_loses_a_packet(turns, signals):
    """The time is over in the same turn of the loop as the packet comes, or a few away from it."""
    with Sides(AsyncMessageChannel, signals=signals) as (guest, host):
        loop = asyncio.get_running_loop()
        got, sent = [], []

        async def send_later(number):
            for _ in range(turns):
                await asyncio.sleep(0)
            await guest.send(b"%d" % number)
            sent.append(b"%d" % number)

        for number in range(40):
            sending = loop.create_task(send_later(number))
            with suppress(asyncio.TimeoutError):
                got.append(await asyncio.wait_for(host.receive(), 0.00002 * (number % 8) + 1e-9))
            await sending
        while len(got) < len(sent):
            got.append(await host.receive(timeout=PATIENCE))
        assert got == sent


@pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="asyncio.timeout came with Python 3.11")
@in_loop
async def test_asyncio_timeout_never_loses_a_packet():
    with Sides(AsyncMessageChannel) as (guest, host):
        got = []
        for number in range(60):
            sending = asyncio.ensure_future(guest.send(b"%d" % number))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.00002 * (number % 6)):
                    got.append(await host.receive())
            await sending
        while len(got) < 60:
            got.append(await host.receive(timeout=PATIENCE))
        assert got == [b"%d" % number for number in range(60)]


@pytest.mark.parametrize("at", [CALLS_PER_PAUSE - 1, CALLS_PER_PAUSE])
@in_loop
async def test_a_task_cancelled_while_it_pauses_for_others_has_taken_nothing(at):
    with Sides(AsyncPacketChannel, 65536) as (guest, host):
        await guest.send_many([pattern(8, one + 1) for one in range(200)])
        got = []

        async def take_all() -> None:
            while True:
                got.append((await host.receive()).payload)

        taking = asyncio.ensure_future(take_all())
        await asyncio.sleep(0)
        assert len(got) == CALLS_PER_PAUSE - 1
        taking.cancel()
        await outcomes(taking)
        got += [one.payload for one in await host.receive_many()]
        assert got == [pattern(8, one + 1) for one in range(200)]


# -- the model -----------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "big", "batch", "receive", "receive", "many", "cancel", "turn", "time"]
        ),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS, signals=st.sampled_from(sorted(SIGNALS)))
def test_any_mixture_of_calls_and_cancellations_carries_what_a_queue_carries(operations, signals):
    """Packets are numbered in the order of their calls; the model is who was cancelled and who not.

    What arrives is ascending, each once; missing may be only what a cancelled or timed out call had
    not sent; and every packet that nobody took out is still there at the end.
    """

    @in_loop
    async def run() -> None:
        with Sides(AsyncPacketChannel, signals=signals) as (guest, host):
            number = 0
            senders: dict[asyncio.Task[Any], list[int]] = {}
            receivers: deque[asyncio.Task[Any]] = deque()

            def numbered(size: int) -> bytes:
                nonlocal number
                number += 1
                return number.to_bytes(8, "little") + pattern(size, number)

            for operation, choice in operations:
                if operation in ("send", "big", "batch"):
                    sizes = {
                        "send": [8 * choice],
                        "big": [400 * choice + 8],
                        "batch": [96] * (8 * choice + 1),
                    }
                    payloads = [numbered(size) for size in sizes[operation]]
                    numbers = list(range(number - len(payloads) + 1, number + 1))
                    senders[asyncio.ensure_future(guest.send_many(payloads))] = numbers
                elif operation == "receive":
                    receivers.append(asyncio.ensure_future(host.receive_many(limit=1)))
                elif operation == "many":
                    receivers.append(asyncio.ensure_future(host.receive_many(limit=choice + 1)))
                elif operation == "time":
                    receivers.append(asyncio.ensure_future(host.receive_many(timeout=0)))
                elif operation == "cancel":
                    tasks = [*senders, *receivers]
                    if tasks:
                        tasks[choice % len(tasks)].cancel()
                else:
                    for _ in range(choice):
                        await asyncio.sleep(0)
            got = []
            for task in receivers:
                await settle()
                if not task.done():
                    task.cancel()
                    await settle()
                with suppress(asyncio.CancelledError, TimedOut):
                    got += task.result()
            await settle()
            while not all(task.done() for task in senders):
                with suppress(TimedOut):
                    got += await host.receive_many(timeout=0)
            with suppress(TimedOut):
                got += await host.receive_many(timeout=0)
            arrived = [int.from_bytes(one.payload[:8], "little") for one in got]
            assert arrived == sorted(set(arrived))
            for one, arrived_number in zip(got, arrived, strict=True):
                assert one.payload[8:] == pattern(len(one.payload) - 8, arrived_number)
            for task, numbers in senders.items():
                mine = [one for one in numbers if one in set(arrived)]
                assert mine == (numbers[: len(mine)] if task.cancelled() else numbers)

    run()
