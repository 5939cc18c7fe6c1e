"""A byte channel as a file, bare and inside the io module's wrappers."""

from __future__ import annotations

import gc
import io

import pytest

from tests.channel.helpers import Running, threaded_pair
from tests.helpers import pattern
from vmbus.channel import ByteChannel, ChannelFile, connected_channels
from vmbus.errors import CallerError, PeerClosed, TimedOut


@pytest.fixture
def sides():
    guest, host = connected_channels(4096, kind=ByteChannel)
    yield guest, host
    guest.close()
    host.close()


def test_text_written_to_one_side_is_read_line_by_line_on_the_other(sides):
    guest, host = sides
    with io.TextIOWrapper(io.BufferedWriter(guest.makefile("wb")), encoding="utf-8") as lines:
        lines.write("eins\nzwölf\n")
    with io.TextIOWrapper(io.BufferedReader(host.makefile("rb")), encoding="utf-8") as lines:
        assert list(lines) == ["eins\n", "zwölf\n"]
    host.send(b"the channel is open still")
    assert guest.receive() == b"the channel is open still"


def test_a_megabyte_goes_through_a_ring_of_a_page_in_a_buffered_pair():
    guest, host = threaded_pair(ByteChannel)
    with guest, host:

        def write() -> None:
            with io.BufferedRWPair(guest.makefile("rb"), guest.makefile("wb")) as both:
                both.write(pattern(1_000_000))
                both.flush()

        writing = Running(write)
        with io.BufferedReader(host.makefile("rb")) as reader:
            assert reader.read(500_000) + reader.read() == pattern(1_000_000)
        writing.result()


def test_a_bare_file_reads_what_is_there_and_writes_everything(sides):
    guest, host = sides
    near, far = guest.makefile(), host.makefile("rb")
    assert near.readable() and near.writable() and not near.seekable() and not far.writable()
    assert near.write(memoryview(pattern(16)).cast("I")) == 16 and near.write(b"") == 0
    buffer = bytearray(10)
    assert far.readinto(buffer) == 10 and buffer == pattern(16)[:10]
    assert far.readinto(bytearray(0)) == 0
    assert far.read(100) == pattern(16)[10:]
    near.close()
    near.close()
    assert near.closed and far.readall() == b"" and far.read(1) == b""


@pytest.mark.parametrize(
    "mode, method", [("wb", lambda one: one.read(1)), ("rb", lambda one: one.write(b"1"))]
)
def test_a_file_does_what_its_mode_says_and_nothing_else(sides, mode, method):
    with pytest.raises(io.UnsupportedOperation):
        method(sides[0].makefile(mode))
    with pytest.raises(CallerError, match="'a'"):
        sides[0].makefile("a")


def test_closing_a_file_that_only_reads_leaves_the_stream_of_this_side_open(sides):
    guest, host = sides
    guest.makefile("rb").close()
    guest.send(b"on")
    assert host.receive() == b"on"


def test_a_write_whose_time_is_over_says_how_much_was_written_and_a_read_raises(sides):
    guest, host = sides
    near = guest.makefile("wb", timeout=0)
    written = near.write(bytes(10000))
    assert 0 < written < 10000
    assert host.receive(65536) == bytes(written)
    with pytest.raises(TimedOut):
        while near.write(bytes(1000)):
            pass
    with pytest.raises(TimedOut):
        guest.makefile("rb", timeout=0).read(1)


def test_a_side_that_left_without_an_end_is_an_error_and_no_end_of_file(sides):
    guest, host = sides
    guest.send(b"some")
    guest.close()
    reader = io.BufferedReader(host.makefile("rb"))
    assert reader.read1(4) == b"some"
    with pytest.raises(PeerClosed):
        reader.read(1)
    with pytest.raises(PeerClosed):
        host.makefile("wb").write(b"to nobody")


# -- files that are dropped and not closed -------------------------------------------------------

WRAPPERS = {
    "bare": lambda raw: raw,
    "buffered": io.BufferedWriter,
    "text": lambda raw: io.TextIOWrapper(io.BufferedWriter(raw), encoding="ascii"),
    "pair": lambda raw: io.BufferedRWPair(io.BytesIO(), raw),
}


#: Python 3.13 and later tell of bytes that a wrapper could not send when it was dropped.
tells_of_what_was_lost = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@tells_of_what_was_lost
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("buffers", [False, True])
def test_a_file_that_is_dropped_over_a_full_ring_waits_for_nobody(wrap, buffers, sides):
    guest, host = sides
    with pytest.raises(TimedOut):
        guest.send(bytes(10_000), timeout=0)

    def drop() -> None:
        file = wrap(guest.makefile("wb"))
        if buffers and isinstance(file, io.TextIOWrapper):
            file.write("text")
        elif buffers and not isinstance(file, io.RawIOBase):
            file.write(b"bytes")
        del file
        gc.collect()

    Running(drop).result()  # fails when it is not over in time
    # Neither an end nor what was in a buffer: this side's stream goes on.
    received = host.receive(65536)
    guest.send(b"on")
    assert set(received) == {0} and host.receive(65536) == b"on"


@tells_of_what_was_lost
def test_a_file_that_is_dropped_in_a_cycle_waits_for_nobody_either(sides):
    guest, _ = sides
    with pytest.raises(TimedOut):
        guest.send(bytes(10_000), timeout=0)

    def drop() -> None:
        file = io.BufferedWriter(guest.makefile("wb"))
        file.write(b"bytes")
        file.raw.itself = [file, file.raw]
        del file
        gc.collect()

    Running(drop).result()


def test_a_dropped_file_leaves_the_stream_open_and_one_that_was_refused_can_be_dropped(sides):
    guest, host = sides
    guest.makefile("wb")
    with pytest.raises(CallerError):
        ChannelFile(guest, "a")
    gc.collect()
    guest.send(b"on")
    assert host.receive() == b"on"


def test_a_file_has_no_descriptor_for_what_reads_it_would_not_be_the_stream():
    guest, host = connected_channels(kind=ByteChannel, pollable=True)
    with guest, host, guest.makefile() as file, pytest.raises(io.UnsupportedOperation):
        file.fileno()
