"""A stream of frames and the frame queues: both directions, every way to end, and nothing that hangs.

No test sleeps: each thread is ended by what the test does, and joined with a limit.
"""

from __future__ import annotations

import errno
import socket
import threading

import pytest

from vmbus.errors import CallerError, DeviceError, PeerError
from vmbus.sockets import read_frames, shared_frame_queues, wake_of, write_frames, write_whole
from vmbus.virtio import FrameStreamFault, NetworkFrameQueues, encode_frame

PATIENCE = 20

GOLDEN = bytes.fromhex("00000006 010203040506")


@pytest.fixture
def queues():
    queues = shared_frame_queues(4)
    yield queues
    queues.begin_shutdown()
    for name in ("guest_wake", "host_wake", "relay_wake"):
        wake_of(queues, name).close()


@pytest.fixture
def ends():
    """The monitor's end of a stream, and ours."""
    monitor, ours = socket.socketpair()
    monitor.settimeout(PATIENCE)
    with monitor, ours:
        yield monitor, ours


class Loop:
    """A loop in a thread of its own."""

    def __init__(self, body, *arguments):
        self.report = None
        self._body, self._arguments = body, arguments
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        self.report = self._body(*self._arguments)

    def end(self):
        """Its report; the test fails when it does not end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the loop does not end"
        return self.report


def popped(queue, wake, count):
    """So many frames of a queue, as they come."""
    frames = []
    while len(frames) < count:
        frame = queue.pop()
        if frame is not None:
            frames.append(frame)
        else:
            assert wake.wait(PATIENCE), "no frame comes"
    return frames


# -- reading -----------------------------------------------------------------------------------


def test_frames_of_the_stream_go_to_the_host_and_wake_the_poll_loop(queues, ends):
    monitor, ours = ends
    loop = Loop(read_frames, ours, queues)
    monitor.sendall(GOLDEN + bytes.fromhex("00000003 070809"))
    assert popped(queues.guest_to_host, wake_of(queues, "guest_wake"), 2) == [
        bytes([1, 2, 3, 4, 5, 6]),
        bytes([7, 8, 9]),
    ]
    monitor.close()
    assert loop.end() == (2, 0, None)
    assert queues.is_shutting_down()


def test_a_frame_in_pieces_is_one_frame(queues, ends):
    monitor, ours = ends
    loop = Loop(read_frames, ours, queues)
    for at in range(0, len(GOLDEN), 3):
        monitor.sendall(GOLDEN[at : at + 3])
    assert popped(queues.guest_to_host, wake_of(queues, "guest_wake"), 1) == [bytes([1, 2, 3, 4, 5, 6])]
    queues.begin_shutdown()
    assert loop.end().error is None


def test_a_full_queue_drops_the_newest(queues, ends):  # 4.5: frames are lost in the reader
    monitor, ours = ends
    monitor.sendall(b"".join(encode_frame(bytes([number])) for number in range(7)))
    monitor.close()
    assert read_frames(ours, queues) == (4, 3, None)
    assert [queues.guest_to_host.pop() for _ in range(5)] == [b"\0", b"\1", b"\2", b"\3", None]


@pytest.mark.parametrize("length", [0, 65537, 2**32 - 1])
def test_a_bad_length_stops_the_reader_and_begins_the_shutdown(queues, ends, length):  # 4.2
    monitor, ours = ends
    monitor.sendall(GOLDEN + length.to_bytes(4, "big"))  # and the stream stays open
    report = Loop(read_frames, ours, queues).end()
    assert (report.frames, report.error.kind, report.error.found) == (1, FrameStreamFault.LENGTH, length)
    assert queues.is_shutting_down()
    assert queues.guest_to_host.pop() == bytes([1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_truncated_stream_is_an_error(queues, ends, cut):  # 4.2: EOF error
    monitor, ours = ends
    monitor.sendall(GOLDEN + GOLDEN[:cut])
    monitor.close()
    report = read_frames(ours, queues)
    assert isinstance(report.error, PeerError) and report.error.kind is FrameStreamFault.TRUNCATED
    assert report.frames == 1 and queues.is_shutting_down()


def test_an_empty_stream_ends_cleanly_and_begins_the_shutdown(queues, ends):
    monitor, ours = ends
    monitor.close()
    assert read_frames(ours, queues) == (0, 0, None)
    assert queues.is_shutting_down()


def test_a_read_error_begins_the_shutdown(queues, ends):  # 4.3: a read or write error begins shutdown
    ours = ends[1]
    ours.close()
    report = read_frames(ours, queues)
    assert isinstance(report.error, OSError) and report.error.errno == errno.EBADF
    assert queues.is_shutting_down()


def test_a_reader_of_a_silent_stream_ends_at_a_shutdown(queues, ends):
    loop = Loop(read_frames, ends[1], queues)
    queues.begin_shutdown()
    assert loop.end() == (0, 0, None)


def test_a_reader_that_starts_after_the_shutdown_reads_nothing(queues, ends):
    ends[0].sendall(GOLDEN)
    queues.begin_shutdown()
    assert read_frames(ends[1], queues) == (0, 0, None)


def test_a_reader_leaves_nothing_behind_in_the_queues(queues, ends):
    ends[0].close()
    read_frames(ends[1], queues)
    assert queues._at_shutdown == []


# -- writing -----------------------------------------------------------------------------------


def received(monitor, length):
    """So many bytes of the stream."""
    data = b""
    while len(data) < length:
        piece = monitor.recv(length - len(data))
        assert piece, "the stream has ended"
        data += piece
    return data


def test_frames_for_the_guest_go_on_the_stream_whenever_the_writer_is_woken(queues, ends):
    monitor, ours = ends
    loop = Loop(write_frames, ours, queues)
    for frame in (bytes([1, 2, 3, 4, 5, 6]), bytes([7, 8, 9])):
        assert queues.host_to_guest.push(frame) is None
        queues.host_wake.wake()
        assert received(monitor, 4 + len(frame)) == encode_frame(frame)
    queues.begin_shutdown()
    assert loop.end() == (2, 0, None)


def test_one_wake_writes_all_that_is_queued(queues, ends):
    monitor, ours = ends
    frames = [bytes([number]) * 9 for number in range(4)]
    for frame in frames:
        queues.host_to_guest.push(frame)
    queues.host_wake.wake()
    loop = Loop(write_frames, ours, queues)
    assert received(monitor, 13 * 4) == b"".join(map(encode_frame, frames))
    queues.begin_shutdown()
    assert loop.end().frames == 4


def test_what_is_queued_at_a_shutdown_is_written_first(queues, ends):  # 4.3: stop if ... and is empty
    monitor, ours = ends
    queues.host_to_guest.push(b"last")
    queues.host_to_guest.push(b"words")
    queues.begin_shutdown()
    assert write_frames(ours, queues) == (2, 0, None)
    assert received(monitor, 17) == encode_frame(b"last") + encode_frame(b"words")


def test_a_writer_with_nothing_to_do_ends_at_a_shutdown(queues, ends):
    loop = Loop(write_frames, ends[1], queues)
    queues.begin_shutdown()
    assert loop.end() == (0, 0, None)


def test_a_monitor_that_does_not_read_holds_up_no_shutdown(queues, ends):
    monitor, ours = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    loop = Loop(write_frames, ours, queues)
    large = bytes(65536)
    while queues.host_to_guest.push(large) is None:  # more than the stream takes
        queues.host_wake.wake()
    monitor.recv(1)  # the writer is at it
    queues.begin_shutdown()
    report = loop.end()
    assert report.error is None and report.lost == 1 + len(queues.host_to_guest)


def test_a_monitor_that_reads_late_gets_everything(queues, ends):
    monitor, ours = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    frames = [bytes([number]) * 65536 for number in range(4)]
    for frame in frames:
        queues.host_to_guest.push(frame)
    loop = Loop(write_frames, ours, queues)
    queues.host_wake.wake()
    for frame in frames:
        assert received(monitor, 65540) == encode_frame(frame)
    queues.begin_shutdown()
    assert loop.end() == (4, 0, None)


def test_a_write_error_begins_the_shutdown(queues, ends):  # 4.3
    monitor, ours = ends
    monitor.close()
    for frame in (b"frame", b"another", b"last"):
        queues.host_to_guest.push(frame)
    report = write_frames(ours, queues)
    assert isinstance(report.error, OSError) and report.error.errno in (errno.EPIPE, errno.ECONNRESET)
    assert (report.frames, report.lost) == (0, 3)  # the one that was being written, too
    assert queues.is_shutting_down()


@pytest.mark.parametrize("frame", [b"", bytes(65537)], ids=["empty", "too large"])
def test_a_frame_that_cannot_be_written_is_an_error_and_begins_the_shutdown(queues, ends, frame):  # 4.2
    for one in (b"before", frame, b"behind"):
        queues.host_to_guest.push(one)
    report = write_frames(ends[1], queues)
    assert isinstance(report.error, CallerError)
    assert (report.frames, report.lost) == (1, 2)
    assert queues.is_shutting_down()


def test_a_writer_needs_a_wake_that_can_be_waited_for(ends):
    with pytest.raises(CallerError, match="host_wake"):
        write_frames(ends[1], NetworkFrameQueues())


def test_the_end_of_one_loop_is_the_end_of_the_other(queues, ends):
    monitor, ours = ends
    reader, writer = Loop(read_frames, ours, queues), Loop(write_frames, ours, queues)
    monitor.sendall(bytes(4))
    assert isinstance(reader.end().error, PeerError)
    assert writer.end() == (0, 0, None)


# -- a stream that takes little ----------------------------------------------------------------


class Sluggish:
    """A stream that takes `step` bytes at once, and every other time none now."""

    def __init__(self, step, blocks=False):
        self.step, self.blocks, self.taken, self.calls = step, blocks, b"", 0

    def send(self, data):
        self.calls += 1
        if self.blocks and self.calls % 2:
            raise BlockingIOError
        self.taken += data[: self.step]
        return min(self.step, len(data))


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_short_writes_go_on_until_all_is_written(step, blocks):  # 4.2: chunks of 3
    stream = Sluggish(step, blocks)
    assert write_whole(stream, GOLDEN, lambda: True) is True
    assert stream.taken == GOLDEN


def test_a_write_of_no_bytes_is_an_error():  # 4.2: write-zero error
    with pytest.raises(DeviceError, match="10 of 10 bytes are left") as caught:
        write_whole(Sluggish(0), GOLDEN, lambda: True)
    assert caught.value.errno == errno.EIO


def test_a_write_that_is_given_up_says_so():
    stream = Sluggish(3, blocks=True)
    assert write_whole(stream, GOLDEN, lambda: stream.calls < 3) is False
    assert stream.taken == GOLDEN[:3]
