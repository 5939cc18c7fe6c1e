"""Signals over /dev/uioN keep the contract of all signals, end when the device is revoked, and carry channels.

The device is played by an eventfd, which is readable as long as somebody has not read the last interrupt.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import select
import struct
import threading
import weakref
from collections.abc import Callable

import pytest

from tests.channel import test_signal_contract
from tests.channel.children import PATIENCE, check_echo, needs_linux
from tests.channel.helpers import RecordingSignal, Running, fill_ring
from tests.descriptors import assert_no_more_than, open_descriptors
from tests.known_bugs import known_bug
from tests.memory.children import in_child
from vmbus.channel import AsyncPacketChannel, PacketChannel, Signal
from vmbus.errors import CallerError, ChannelClosed, DeviceError, PeerClosed
from vmbus.layout import INTERRUPT_MASK_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingRing
from vmbus.uio import InterruptDoorbell, SystemNode, UioSignal

pytestmark = needs_linux


class StandInNode:
    """/dev/uioN, opened once: what drivers/uio/uio.c and uio_hv_generic.c do, without a kernel.

    on_signal   called when the host is to be told
    inbound     the ring whose mask is set and cleared
    """

    def __init__(self) -> None:
        self.on_signal: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.inbound: FlatRingMem | None = None
        self.revoked = False
        self.answer = errno.EIO
        self.reads = 0
        self.closes = 0
        self._lock = threading.Lock()
        self._count = 0
        self._process = os.getpid()
        self._readable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def interrupt(self) -> None:
        """uio_event_notify()"""
        with self._lock:
            self._count += 1
            if not self.closes:
                os.eventfd_write(self._readable, 1)

    def revoke(self) -> None:
        """hv_uio_rescind(): the interrupt is gone, and whoever polls finds the descriptor readable ever after."""
        self.revoked = True
        self.interrupt()

    def fileno(self) -> int:
        return self._readable

    def read(self, length: int) -> bytes:
        self.reads += 1
        if length != 4:
            raise OSError(errno.EINVAL, "another length")
        if self.revoked:
            raise OSError(self.answer, os.strerror(self.answer))
        os.eventfd_read(self._readable)
        return struct.pack("=i", self._count)

    def write(self, data: bytes) -> int:
        """hv_uio_irqcontrol()"""
        (state,) = struct.unpack("=i", data)
        if self.revoked:
            raise OSError(self.answer, os.strerror(self.answer))
        if self.inbound is not None:
            self.inbound.control[INTERRUPT_MASK_WORD] = not state
        if state:
            self.on_signal()
        return len(data)

    def close(self) -> None:
        with self._lock:
            self.closes += 1
            if self.closes == 1:
                os.close(self._readable)
        if os.getpid() == self._process:  # another has only a copy, and the last to close it counts
            self.on_close()

    def __repr__(self) -> str:
        return "<StandInNode: /dev/uio9>"


def nodes_back_to_back() -> tuple[StandInNode, StandInNode]:
    """Two nodes: a signal at the one is an interrupt at the other, and so is its end."""
    near, far = StandInNode(), StandInNode()
    for one, other in ((near, far), (far, near)):
        one.on_signal = other.interrupt
        one.on_close = other.revoke
    return near, far


def signals_back_to_back() -> tuple[UioSignal, UioSignal]:
    near, far = nodes_back_to_back()
    return UioSignal(near, InterruptDoorbell(near)), UioSignal(far, InterruptDoorbell(far))


@pytest.fixture
def ends(no_descriptor_left):
    near, far = signals_back_to_back()
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def node(no_descriptor_left):
    made = StandInNode()
    yield made
    if not made.closes:
        made.close()


#: Every test of the contract, here for these signals.
globals().update(
    {name: test for name, test in vars(test_signal_contract).items() if name.startswith("test_")}
)


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_uio_signal_is_a_signal(node):
    signal: Signal = UioSignal(node, InterruptDoorbell(node))
    assert signal.peer_closed is False
    assert repr(signal) == "<UioSignal: <StandInNode: /dev/uio9>>"
    node.revoke()
    signal.wait(0)
    assert repr(signal) == "<UioSignal: <StandInNode: /dev/uio9>, revoked>"
    signal.close()
    assert repr(signal) == "<UioSignal: closed>"


# -- interrupts ----------------------------------------------------------------------------------


def test_the_device_is_read_once_for_each_wait_that_it_ends_and_never_else(node):
    with_waits = UioSignal(node)
    assert with_waits.wait(0) is False
    with_waits.wake()
    assert with_waits.wait(0) is True
    assert node.reads == 0
    for number in (1, 2):
        for _ in range(3):
            node.interrupt()
        assert with_waits.wait(None) is True
        assert node.reads == number
        assert with_waits.wait(0) is False
    with_waits.close()


@pytest.mark.parametrize("answer", [errno.EAGAIN, errno.EINTR], ids=errno.errorcode.get)
def test_a_read_that_finds_nothing_is_a_wait_for_nothing_and_the_next_one_counts(node, answer, monkeypatch):
    signal = UioSignal(node)
    node.interrupt()
    with monkeypatch.context() as patch:
        patch.setattr(node, "read", refuse_with(answer))
        assert signal.wait(0) is True
    assert signal.peer_closed is False
    assert signal.wait(0) is True
    assert signal.wait(0) is False
    signal.close()


def refuse_with(answer: int) -> Callable[[int], bytes]:
    def read(length: int) -> bytes:
        raise OSError(answer, os.strerror(answer))

    return read


def test_a_device_that_fails_otherwise_is_an_error_with_its_number(node, monkeypatch):
    signal = UioSignal(node)
    node.interrupt()
    with monkeypatch.context() as patch:
        patch.setattr(node, "read", refuse_with(errno.EFAULT))
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"/dev/uio9.*cannot be read: Bad address") as caught:
                signal.wait(0)
            assert caught.value.errno == errno.EFAULT
    assert signal.peer_closed is False
    assert signal.wait(0) is True
    signal.close()


def test_two_signals_of_one_device_take_nothing_from_each_other(no_descriptor_left):
    """Each has opened the device for itself, and the device tells every open of each interrupt."""
    opened = [StandInNode(), StandInNode()]
    signals = [UioSignal(one) for one in opened]
    for one in opened:
        one.interrupt()
    assert [signal.wait(0) for signal in signals] == [True, True]
    signals[0].close()
    opened[1].interrupt()
    assert signals[1].wait(0) is True
    signals[1].close()


# -- the end of the device -------------------------------------------------------------------------


@known_bug("B22")
@pytest.mark.parametrize(
    "answer",
    [errno.EIO, errno.ENODEV, errno.EINVAL, None],
    ids=lambda answer: errno.errorcode.get(answer, "end"),
)
def test_a_revoked_device_ends_one_wait_and_is_never_read_again(node, answer, monkeypatch):
    signal = UioSignal(node, InterruptDoorbell(node))
    if answer is None:  # as some drivers end
        monkeypatch.setattr(node, "read", lambda length: b"")
    else:
        node.answer = answer
    node.revoke()
    assert is_readable(signal.fileno())
    assert signal.wait(None) is True
    assert signal.peer_closed is True
    reads = node.reads
    assert is_readable(node.fileno())  # for ever, and nobody looks
    assert not is_readable(signal.fileno())
    assert signal.wait(0) is False
    assert signal.wait(0.001) is False
    signal.notify()
    signal.wake()
    assert signal.wait(None) is True
    assert node.reads == reads
    assert signal.peer_closed is True
    signal.close()


def test_who_waits_says_at_once_that_the_device_was_revoked_and_says_it_once(node):
    signal = UioSignal(node)
    told = []
    signal.on_revoked = lambda: told.append(signal.peer_closed)
    node.interrupt()
    signal.wake()
    signal.wait(0)
    assert told == []
    node.revoke()
    signal.wait(None)
    signal.wake()
    signal.wait(0)
    assert told == [True]
    signal.close()
    assert told == [True]


def test_a_device_revoked_before_the_signal_was_made_ends_its_first_wait(node):
    node.revoke()
    signal = UioSignal(node)
    assert signal.peer_closed is False
    assert signal.wait(None) is True
    assert signal.peer_closed is True
    signal.close()


@known_bug("B22")
def test_the_end_of_the_device_keeps_no_event_loop_busy(ends):
    near, far = ends

    async def count() -> int:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[bool] = asyncio.Queue()
        loop.add_reader(far.fileno(), lambda: told.put_nowait(far.wait(0)))
        for _ in range(20):
            near.notify()
            assert await asyncio.wait_for(told.get(), PATIENCE) is True
        near.close()
        await asyncio.wait_for(told.get(), PATIENCE)
        assert far.peer_closed
        for _ in range(10):
            await asyncio.sleep(0)
        loop.remove_reader(far.fileno())
        return told.qsize()

    assert asyncio.run(count()) == 0


# -- without a doorbell, without a system that can --------------------------------------------------


def test_who_only_observes_cannot_tell_the_host_anything(node):
    signal = UioSignal(node)
    with pytest.raises(CallerError, match="only observes"):
        signal.notify()
    signal.close()
    signal.notify()


class NotedDoorbell:
    closes = 0

    def ring(self) -> None:
        pass

    def close(self) -> None:
        self.closes += 1


@pytest.mark.parametrize("missing", ["eventfd", "epoll"])
def test_a_system_without_the_means_is_refused_and_the_device_closed(node, missing, monkeypatch):
    bell = NotedDoorbell()
    with monkeypatch.context() as patch:
        patch.delattr(os if missing == "eventfd" else select, missing)
        with pytest.raises(DeviceError, match="no Linux") as caught:
            UioSignal(node, bell)
    assert caught.value.errno == errno.ENOSYS
    assert (node.closes, bell.closes) == (1, 1)


def test_a_node_that_cannot_be_polled_is_refused_and_closed(tmp_path, no_descriptor_left):
    (tmp_path / "uio0").touch()
    node, bell = SystemNode(f"{tmp_path}/uio0", writable=True), NotedDoorbell()
    with pytest.raises(DeviceError, match=r"uio0>: no signals from this device") as caught:
        UioSignal(node, bell)
    assert caught.value.errno == errno.EPERM
    assert (node.fileno(), bell.closes) == (-1, 1)


def test_a_process_without_a_descriptor_left_gets_a_device_error_and_loses_none(no_descriptor_left):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = 0
    used = open_descriptors()
    for spare in range(3):
        node = StandInNode()
        try:
            free = os.dup(node.fileno())  # the lowest number that is free; the limit is one of numbers
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
            UioSignal(node).close()
        except DeviceError as error:
            refused += 1
            assert error.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert node.closes == 1
        assert_no_more_than(used)
    assert refused >= 1


# -- closing -----------------------------------------------------------------------------------------


def test_closing_lets_go_of_the_device_and_the_doorbell_once(node):
    bell = NotedDoorbell()
    signal = UioSignal(node, bell)
    signal.close()
    signal.close()
    assert (node.closes, bell.closes) == (1, 1)
    for use in (lambda: signal.wait(None), lambda: signal.wait(0), signal.fileno):
        with pytest.raises(CallerError, match="closed"):
            use()
    signal.notify()
    signal.wake()


def test_a_signal_that_is_dropped_closes_its_device(node):
    signal = UioSignal(node, NotedDoorbell())
    gone = weakref.ref(signal)
    del signal
    gc.collect()
    assert gone() is None
    assert node.closes == 1


def test_no_descriptor_is_inherited_by_a_program_that_is_started(node):
    before = set(os.listdir("/proc/self/fd"))
    signal = UioSignal(node)
    made = [one for one in os.listdir("/proc/self/fd") if one not in before]
    inherited = [
        one for one in made if os.path.exists(f"/proc/self/fd/{one}") and os.get_inheritable(int(one))
    ]
    assert len(made) >= 2
    assert inherited == []
    signal.close()


# -- forks -------------------------------------------------------------------------------------------


def test_a_forked_child_has_no_part_in_a_signal_and_disturbs_nothing(ends):
    near, far = ends
    near.notify()
    devices = [signal._node.fileno() for signal in ends]

    def child() -> None:
        for device in devices:
            with pytest.raises(OSError):  # its copies would keep the channel open
                os.fstat(device)
        with pytest.raises(CallerError, match="closed"):
            near.wait(0)
        far.notify()
        near.wake()
        near.close()
        far.close()

    assert in_child(child) == 0
    assert (near.wait(0), far.wait(0), far.wait(0)) == (False, True, False)
    far.notify()
    assert near.wait(None) is True
    assert (near.peer_closed, far.peer_closed) == (False, False)
    near.close()
    assert far.wait(None) is True
    assert far.peer_closed is True


def test_a_child_forked_while_another_thread_wakes_still_lets_go(ends):
    near, _ = ends
    with near._waking:
        assert in_child(near.close) == 0


# -- channels over these signals ---------------------------------------------------------------------


class Guest:
    """A guest's channel of some kind over a node, and the host's own channel on the other side."""

    def __init__(self, kind=PacketChannel) -> None:
        out, back = FlatRingMem(4096), FlatRingMem(4096)
        self.node, host = nodes_back_to_back()
        self.node.inbound, host.inbound = back, out
        self.signal = RecordingSignal(UioSignal(self.node, InterruptDoorbell(self.node)))
        self.channel = kind(
            IncomingRing(back),
            OutgoingRing(out),
            self.signal if kind is PacketChannel else self.signal.inside,
            role="guest",
        )
        self.host = PacketChannel(
            IncomingRing(out), OutgoingRing(back), UioSignal(host, InterruptDoorbell(host)), role="host"
        )

    def close(self) -> None:
        self.channel.close()
        self.host.close()


@pytest.fixture
def guest(no_descriptor_left):
    made = Guest()
    yield made
    made.close()


def echo(host: PacketChannel) -> None:
    try:
        while True:
            packet = host.receive(timeout=PATIENCE)
            host.send(packet.payload[::-1], packet.transaction_id, timeout=PATIENCE)
    except PeerClosed:
        pass


def test_a_blocking_channel_talks_over_the_device(guest):
    host = Running(echo, guest.host)
    check_echo(guest.channel)
    guest.channel.close()
    host.result()


def test_an_asyncio_channel_talks_over_the_device_and_learns_of_its_end(no_descriptor_left):
    guest = Guest(AsyncPacketChannel)
    host = Running(echo, guest.host)

    async def talk() -> None:
        for number in range(100):
            payload = number.to_bytes(8, "little") * (1 + number % 64)
            await guest.channel.send(payload, number, timeout=PATIENCE)
            answer = await guest.channel.receive(timeout=PATIENCE)
            assert (answer.transaction_id, answer.payload) == (number, payload[::-1])
        receiver = asyncio.ensure_future(guest.channel.receive(timeout=PATIENCE))
        await asyncio.sleep(0)
        guest.node.revoke()
        with pytest.raises(PeerClosed):
            await receiver
        guest.channel.close()

    asyncio.run(talk())
    host.result()
    guest.close()


@known_bug("B22")
def test_a_receive_that_sleeps_ends_when_the_device_is_revoked(guest):
    receiver = Running(guest.channel.receive)
    guest.signal.await_sleeper()
    guest.node.revoke()
    with pytest.raises(PeerClosed, match="guest"):
        receiver.result()
    with pytest.raises(PeerClosed):
        guest.channel.receive()
    with pytest.raises(PeerClosed):
        guest.channel.send(b"nobody reads this")


def test_a_send_that_waits_for_room_ends_when_the_device_is_revoked(guest):
    fill_ring(guest.channel)
    sender = Running(guest.channel.send, bytes(232))
    guest.signal.await_sleeper()
    guest.node.revoke()
    with pytest.raises(PeerClosed):
        sender.result()


def test_a_receive_that_sleeps_ends_when_another_thread_closes_the_channel(guest):
    receiver = Running(guest.channel.receive)
    guest.signal.await_sleeper()
    guest.channel.close()
    with pytest.raises(ChannelClosed):
        receiver.result()
    assert guest.node.closes == 1
    with pytest.raises(PeerClosed):
        guest.host.receive(timeout=PATIENCE)
