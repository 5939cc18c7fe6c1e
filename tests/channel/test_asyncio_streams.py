"""A byte channel as asyncio streams: what asyncio's own reader and writer make of our transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.channel.test_asynchronous import Sides, in_loop, outcomes, settle, started
from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.channel.asynchronous import AsyncByteChannel
from vmbus.channel.asyncio_streams import ChannelTransport, open_streams
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, PeerError
from vmbus.layout import IN_WORD

HIGH_WATER = 65536


class Recorder(asyncio.Protocol):
    """A protocol that writes down its calls."""

    def __init__(self, keep_open: bool = True) -> None:
        self.calls: list[Any] = []
        self.data = b""
        self.keep_open = keep_open

    def connection_made(self, transport):
        self.calls.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.calls.append("eof")
        return self.keep_open

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, error):
        self.calls.append(("lost", type(error)))


class Buffered(asyncio.BufferedProtocol):
    """A protocol with a buffer of its own, of five bytes."""

    def __init__(self) -> None:
        self.buffer = bytearray(5)
        self.data = b""

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.data += self.buffer[:count]


async def streams(sides: Sides) -> tuple[Any, Any, Any, Any]:
    guest, host = sides.guest, sides.host
    return (*await open_streams(guest), *await open_streams(host))


@in_loop
async def test_lines_and_exact_lengths_come_out_as_they_went_in():
    with (sides := Sides(AsyncByteChannel)):
        reader, writer, far_reader, far_writer = await streams(sides)
        assert isinstance(reader, asyncio.StreamReader) and isinstance(writer, asyncio.StreamWriter)
        assert writer.get_extra_info("channel") is sides.guest
        assert writer.get_extra_info("peername") is None
        writer.writelines([b"first line\n", b"second ", b"line\n", pattern(5000), b"the rest"])
        await writer.drain()
        writer.write_eof()
        assert await far_reader.readline() == b"first line\n"
        assert await far_reader.readuntil(b"e\n") == b"second line\n"
        assert await far_reader.readexactly(5000) == pattern(5000)
        assert await far_reader.read() == b"the rest" and far_reader.at_eof()
        far_writer.write(b"an answer after the end of the question\n")
        assert [line async for line in iterate_once(reader)] == [b"an answer after the end of the question\n"]
        for one in (writer, far_writer):
            one.close()
            await one.wait_closed()
        assert await reader.read() == b"" and sides.guest.closed and sides.host.closed


async def iterate_once(reader):
    yield await reader.readline()


@in_loop
async def test_ten_megabytes_go_through_rings_of_a_page_and_the_buffers_stay_bounded():
    with (sides := Sides(AsyncByteChannel, 16384)):
        _, writer, far_reader, far_writer = await streams(sides)
        block = pattern(65536)
        largest = 0

        async def put():
            nonlocal largest
            for _ in range(160):
                writer.write(block)
                largest = max(largest, writer.transport.get_write_buffer_size())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        putting = asyncio.ensure_future(put())
        for _ in range(160):
            assert await far_reader.readexactly(65536) == block
        assert await far_reader.read() == b""
        await putting
        assert largest <= HIGH_WATER + 65536
        far_writer.close()
        await far_writer.wait_closed()


@in_loop
async def test_a_slow_reader_stops_the_writer_in_drain():
    with (sides := Sides(AsyncByteChannel)):
        _, writer, far_reader, far_writer = await streams(sides)
        writer.write(bytes(600000))
        draining = (await started(writer.drain()))[0]
        for _ in range(20):
            await settle()
        assert not draining.done()
        assert len(far_reader._buffer) <= 2 * 65536 + 65536 and not sides.host.closed
        assert await far_reader.readexactly(600000) == bytes(600000)
        await draining
        for one in (writer, far_writer):
            one.close()
            await one.wait_closed()


@in_loop
async def test_the_limits_of_the_write_buffer_pause_and_resume_its_protocol():
    with (sides := Sides(AsyncByteChannel)):
        protocol = Recorder()
        transport = ChannelTransport(sides.guest, protocol)
        assert transport.get_write_buffer_limits() == (HIGH_WATER // 4, HIGH_WATER)
        transport.set_write_buffer_limits(high=10000)
        assert transport.get_write_buffer_limits() == (2500, 10000)
        transport.write(bytes(10000))
        assert protocol.calls == ["made"]
        transport.write(b"1")
        assert protocol.calls == ["made", "pause"]
        got = b""
        while len(got) < 10001:
            got += await sides.host.receive(65536)
            await settle()
        assert protocol.calls == ["made", "pause", "resume"] and transport.get_write_buffer_size() == 0
        with pytest.raises(CallerError, match="high >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.abort()
        await settle()
        assert protocol.calls[3:] == [("lost", type(None))]


@in_loop
async def test_a_paused_transport_leaves_everything_in_the_ring():
    with (sides := Sides(AsyncByteChannel)):
        protocol = Recorder()
        transport = ChannelTransport(sides.guest, protocol)
        await settle()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await sides.host.send(b"first")
        await sides.host.send_end()
        sides.host.close()
        for _ in range(5):
            await settle()
        assert protocol.data == b"" and protocol.calls == ["made"]
        transport.resume_reading()
        assert transport.is_reading()
        await settle()
        assert protocol.data == b"first" and protocol.calls == ["made", "eof"]
        assert transport.get_protocol() is protocol


@in_loop
async def test_a_protocol_that_does_not_stay_open_is_closed_at_the_end_of_the_stream():
    with (sides := Sides(AsyncByteChannel)):
        protocol = Recorder(keep_open=False)
        transport = ChannelTransport(sides.guest, protocol)
        transport.write(b"farewell")
        await sides.host.send_end()
        await settle()
        assert protocol.calls == ["made", "eof", ("lost", type(None))] and sides.guest.closed
        assert await sides.host.receive() == b"farewell" and await sides.host.receive() == b""


@in_loop
async def test_a_buffered_protocol_gets_the_bytes_in_its_own_buffer():
    with (sides := Sides(AsyncByteChannel)):
        first, second = Recorder(), Buffered()
        transport = ChannelTransport(sides.guest, first)
        transport.set_protocol(second)
        await sides.host.send(pattern(23))
        await settle()
        assert second.data == pattern(23) and first.data == b""
        transport.abort()
        await settle()


# -- ends ----------------------------------------------------------------------------------------


@known_bug("B67")
def test_a_close_loses_nothing_that_was_written_and_ends_the_stream_for_the_other_side():
    @in_loop
    async def run() -> None:
        with (sides := Sides(AsyncByteChannel)):
            _, writer, far_reader, far_writer = await streams(sides)
            writer.write(pattern(300000))
            writer.close()
            assert writer.is_closing()
            closing = (await started(writer.wait_closed()))[0]
            assert not closing.done()
            assert await far_reader.read() == pattern(300000)
            await closing
            far_writer.close()
            await far_writer.wait_closed()

    run()


@known_bug("B67")
def test_two_sides_that_write_without_reading_can_both_close():
    @in_loop
    async def run() -> None:
        with (sides := Sides(AsyncByteChannel)):
            _, writer, _, far_writer = await streams(sides)
            for one in (writer, far_writer):
                one.write(bytes(500000))
            while writer.transport.is_reading() or far_writer.transport.is_reading():
                await settle()
            for one in (writer, far_writer):
                one.close()
            ended = await outcomes(writer.wait_closed(), far_writer.wait_closed())
            # The first to get all away is gone then; what the other had still to send is lost, and said so.
            assert {type(one) for one in ended} <= {type(None), PeerClosed} and None in ended

    run()


@in_loop
async def test_a_peer_that_goes_without_an_end_is_an_error_after_all_its_bytes():
    with (sides := Sides(AsyncByteChannel)):
        reader, writer = await open_streams(sides.guest)
        await sides.host.send(b"a line\nhalf a li")
        sides.host.close()
        for _ in range(5):
            await settle()  # the loss is known long before anybody reads
        assert await reader.readline() == b"a line\n"
        assert await reader.readexactly(4) == b"half"
        with pytest.raises(PeerClosed) as error:
            await reader.readline()
        assert error.value.__cause__.partial == b" a li"
        for call in (reader.read(), reader.readexactly(1), writer.drain(), writer.wait_closed()):
            with pytest.raises(PeerClosed):
                await call
        assert sides.guest.closed and writer.is_closing()


@in_loop
async def test_what_a_lost_peer_sent_is_read_also_when_writing_notices_the_loss_first():
    with (sides := Sides(AsyncByteChannel)):
        protocol = Recorder()
        transport = ChannelTransport(sides.guest, protocol)
        await settle()
        transport.pause_reading()
        transport.write(bytes(200000))
        await sides.host.send(b"last words")
        await settle()
        sides.host.close()
        for _ in range(3):
            await settle()
        assert transport.is_closing() and transport.get_write_buffer_size() == 0
        assert protocol.calls == ["made", "pause", "resume"] and protocol.data == b""
        transport.write(b"to nobody")
        transport.resume_reading()
        await settle()
        assert protocol.data == b"last words" and protocol.calls[3:] == [("lost", PeerClosed)]


@in_loop
async def test_bytes_that_nobody_will_read_are_an_error_of_the_close():
    with (sides := Sides(AsyncByteChannel)):
        _, writer = await open_streams(sides.guest)
        writer.write(bytes(100000))
        writer.close()
        await settle()
        sides.host.close()
        with pytest.raises(PeerClosed):
            await writer.wait_closed()


@in_loop
async def test_closing_behind_a_peer_that_ended_and_left_is_no_error():
    with (sides := Sides(AsyncByteChannel)):
        reader, writer, _, far_writer = await streams(sides)
        far_writer.write(b"all")
        far_writer.close()
        await far_writer.wait_closed()
        assert await reader.read() == b"all"
        writer.write_eof()
        await settle()
        writer.close()
        await writer.wait_closed()


@in_loop
async def test_abort_drops_what_is_in_the_buffer_and_the_other_side_sees_a_loss():
    with (sides := Sides(AsyncByteChannel)):
        _, writer = await open_streams(sides.guest)
        writer.transport.abort()  # before its tasks have run at all
        writer.transport.abort()
        await writer.wait_closed()
        with pytest.raises(PeerClosed):
            await sides.host.receive()


@in_loop
async def test_an_error_of_the_other_side_ends_the_streams_with_it():
    with (sides := Sides(AsyncByteChannel)):
        reader, writer = await open_streams(sides.guest)
        reading = (await started(reader.read()))[0]
        sides.back.control[IN_WORD] = 5
        sides.host.signal.notify()
        assert [type(one) for one in await outcomes(reading, writer.wait_closed())] == [PeerError, PeerError]
        assert sides.guest.closed


@in_loop
async def test_a_channel_closed_under_its_streams_ends_them():
    with (sides := Sides(AsyncByteChannel)):
        reader, writer = await open_streams(sides.guest)
        reading = (await started(reader.read()))[0]
        sides.guest.close()
        ended = await outcomes(reading, writer.wait_closed())
        assert [type(one) for one in ended] == [ChannelClosed, ChannelClosed]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("turns", [0, 5])
@in_loop
async def test_who_cancels_a_task_of_the_transport_aborts_it(which, turns):
    with (sides := Sides(AsyncByteChannel)):
        protocol = Recorder()
        transport = ChannelTransport(sides.guest, protocol)
        for _ in range(turns):
            await asyncio.sleep(0)
        transport._tasks[which].cancel()
        await settle()
        assert protocol.calls == ["made", ("lost", type(None))] and sides.guest.closed


@in_loop
async def test_a_protocol_that_fails_is_reported_to_the_loop_and_loses_its_connection():
    with (sides := Sides(AsyncByteChannel)):
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        protocol = Recorder()
        ChannelTransport(sides.guest, protocol)
        protocol.data_received = lambda data: 1 / 0
        await sides.host.send(b"data")
        await settle()
        assert [type(one["exception"]) for one in reports] == [ZeroDivisionError]
        assert protocol.calls == ["made", ("lost", ZeroDivisionError)] and sides.guest.closed


@in_loop
async def test_nothing_can_be_written_behind_the_end():
    with (sides := Sides(AsyncByteChannel)):
        _, writer = await open_streams(sides.guest)
        assert writer.can_write_eof()
        writer.write_eof()
        writer.write_eof()
        with pytest.raises(CallerError, match="behind it"):
            writer.write(b"too late")
        assert await sides.host.receive() == b""
        writer.close()
        await writer.wait_closed()


def test_a_transport_closed_after_its_loop_closes_the_channel():
    with (sides := Sides(AsyncByteChannel)):
        transports = []

        async def make() -> None:
            transports.append(ChannelTransport(sides.guest, Recorder()))
            transports.append(ChannelTransport(sides.host, Recorder()))

        loop = asyncio.new_event_loop()
        loop.run_until_complete(make())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # the loop is closed over them on purpose
        loop.close()
        transports[0].close()
        transports[1].abort()
        assert sides.guest.closed and sides.host.closed
        del transports[:]


# -- the model -----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "flood", "drain", "read", "exactly", "turn"]), st.integers(0, 9)
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, close=st.booleans())
def test_any_mixture_of_reads_and_writes_carries_what_a_bytearray_carries(steps, close):
    @in_loop
    async def run() -> None:
        with (sides := Sides(AsyncByteChannel)):
            _, writer, far_reader, far_writer = await streams(sides)
            written, read = bytearray(), bytearray()
            drains = []
            for seed, (step, choice) in enumerate(steps, 1):
                if step in ("write", "flood"):
                    data = pattern(choice * (100 if step == "write" else 9000) + choice % 3, seed)
                    writer.write(data)
                    written += data
                elif step == "drain":
                    drains.append(asyncio.ensure_future(writer.drain()))
                elif step == "turn":
                    await asyncio.sleep(0)
                elif len(written) - len(read) >= choice * 500 > 0:
                    read += await (
                        far_reader.readexactly(choice * 500)
                        if step == "exactly"
                        else far_reader.read(choice * 500)
                    )
                assert written.startswith(read)
            writer.close() if close else writer.write_eof()
            read += await far_reader.read()
            assert read == written
            # asyncio says so to who begins to drain when all is over.
            late = {ConnectionResetError} if close else set()
            assert {type(one) for one in await outcomes(*drains)} <= {type(None), *late}
            for one in (writer, far_writer):
                one.close()
                await one.wait_closed()

    run()
