"""A channel between processes: handed over in every way, and none of it outlives its process.

The other side of most tests is a forked child.  What is measured in time is bounded where the
design bounds it: a killed process is noticed within 100 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import multiprocessing
import os
import random
import select
import signal
import socket
import struct
import time
from array import array
from collections.abc import Callable

import pytest

from tests.channel.children import PATIENCE, Flag, check_echo, echo, exit_of, needs_linux
from tests.channel.helpers import Running, mask_of, pending_of
from tests.descriptors import assert_no_more_than, open_descriptors
from tests.helpers import pattern
from tests.known_bugs import known_bug
from tests.memory.children import fork_child
from vmbus.channel import AsyncMessageChannel, ByteChannel, MessageChannel, PacketChannel, shared
from vmbus.channel.descriptor_signal import Bells, DescriptorSignal
from vmbus.channel.hand_over import HAND_OVER, HandOverFault
from vmbus.channel.peer_link import Life, LinkFault
from vmbus.channel.shared import SharedChannel
from vmbus.errors import CallerError, DeviceError, PeerClosed, PeerError, TimedOut
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem, SharedMemory

pytestmark = needs_linux

#: Seconds from the death of a process until the other side has PeerClosed.
NOTICED = 0.1

FORMS = [(Bells.EVENTFD, Life.PIDFD), (Bells.SOCKETS, Life.SOCKETS)]
FORM_NAMES = [f"{bells.value}-{life.value}" for bells, life in FORMS]


@pytest.fixture
def ends(no_descriptor_left):
    near, far = SharedChannel.create(16384)
    yield near, far
    near.close()
    far.close()


# -- one process -------------------------------------------------------------------------------


def test_two_ends_carry_packets_both_ways(ends):
    near, far = ends
    with near.attach() as one, far.attach() as other:
        assert type(one) is PacketChannel
        for _ in range(100):
            one.send(pattern(200), 7)
            other.send(pattern(100, 2), 8)
            assert other.receive(timeout=PATIENCE).payload == pattern(200)
            assert one.receive(timeout=PATIENCE).transaction_id == 8


@pytest.mark.parametrize(
    ("kind", "sent"), [(MessageChannel, b"odd"), (ByteChannel, b"bytes"), (PacketChannel, bytes(8))]
)
def test_every_kind_of_channel_can_be_attached(kind, sent, ends):
    near, far = ends
    with near.attach(kind) as one, far.attach(kind) as other:
        one.send(sent)
        received = other.receive(timeout=PATIENCE)
        assert getattr(received, "payload", received) == sent
        assert type(one) is kind


def test_channels_for_asyncio_can_be_attached_and_see_the_other_side_close(ends):
    near, far = ends

    async def talk() -> list[bytes]:
        received = []
        async with near.attach(AsyncMessageChannel) as one:
            async with far.attach(AsyncMessageChannel) as other:
                waiting = asyncio.ensure_future(other.receive(timeout=PATIENCE))
                for _ in range(3):
                    await asyncio.sleep(0)
                await one.send(b"hello", timeout=PATIENCE)
                received.append(await waiting)
                await other.send(b"the last", timeout=PATIENCE)
            received.append(await one.receive(timeout=PATIENCE))
            with pytest.raises(PeerClosed):
                await one.receive(timeout=PATIENCE)
        return received

    assert asyncio.run(talk()) == [b"hello", b"the last"]


def test_a_channel_can_be_polled_beside_other_descriptors(ends):
    near, far = ends
    with near.attach() as one, far.attach() as other:
        for _ in range(3):
            with pytest.raises(TimedOut):
                other.receive(timeout=0)
            assert select.select([other], [], [], 0)[0] == []
            one.send(bytes(8))
            assert select.select([other], [], [], PATIENCE)[0] == [other]
            assert other.receive(timeout=0).payload == bytes(8)
        with pytest.raises(TimedOut):
            other.receive(timeout=0)
        one.close()
        assert select.select([other], [], [], PATIENCE)[0] == [other]
        with pytest.raises(PeerClosed):
            other.receive(timeout=0)


def test_sizes_may_differ_and_each_end_sees_them_from_its_side(no_descriptor_left):
    near, far = SharedChannel.create(4096, incoming_size=5 * 4096)
    with near, far, near.attach() as one, far.attach() as other:
        assert (near.size, near.incoming_size) == (4096, 20480)
        assert (far.size, far.incoming_size) == (20480, 4096)
        assert one.outgoing.size == other.incoming.size == 4096
        assert one.incoming.size == other.outgoing.size == 20480
        other.send(bytes(20_000))
        assert len(one.receive(timeout=PATIENCE).payload) == 20_000
        one.send(bytes(4000))
        assert len(other.receive(timeout=PATIENCE).payload) == 4000


@pytest.mark.parametrize("size", [0, -4096, 4095, 4097, 2**31, 100])
def test_a_size_that_no_ring_has_is_the_callers_error(size, no_descriptor_left):
    with pytest.raises(CallerError):
        SharedChannel.create(size)
    with pytest.raises(CallerError):
        SharedChannel.create(4096, incoming_size=size)


def test_an_end_says_what_it_is(ends):
    near, far = ends
    assert repr(near) == "<SharedChannel: near, out 16384 bytes, in 16384 bytes, not attached>"
    with far.attach() as channel:
        assert repr(far) == "<SharedChannel: far, out 16384 bytes, in 16384 bytes, attached>"
        assert (far.attached, near.attached) == (True, False)
        assert repr(channel).startswith("<PacketChannel: far, ")
    assert not far.attached
    near.close()
    assert repr(near) == "<SharedChannel: near, closed>"


def test_an_end_is_attached_once_at_a_time_in_a_process(ends):
    near, _ = ends
    with near.attach() as channel:
        for _ in range(2):
            with pytest.raises(CallerError, match=r"near end .* already"):
                near.attach()
        assert not channel.peer_closed
    near.attach().close()


def test_a_channel_that_was_dropped_and_not_closed_leaves_its_end_free(ends):
    near, far = ends
    with far.attach() as other:
        dropped = near.attach()
        with pytest.raises(TimedOut):
            other.receive(timeout=0)
        del dropped
        gc.collect()
        assert not near.attached
        with pytest.raises(PeerClosed):
            other.receive(timeout=PATIENCE)


def test_an_old_channel_that_is_collected_late_does_not_free_the_end_of_a_new_one(ends):
    near, _ = ends
    old = near.attach()
    old.close()
    with near.attach():
        del old
        gc.collect()
        assert near.attached


def test_a_channel_works_on_after_its_end_was_closed(ends):
    near, far = ends
    with near.attach() as one, far.attach() as other:
        near.close()
        far.close()
        far.close()
        one.send(bytes(8))
        assert other.receive(timeout=PATIENCE).payload == bytes(8)
        with socket.socket() as nowhere, pytest.raises(CallerError, match="closed"):
            near.send_over(nowhere)
        with pytest.raises(CallerError, match="closed"):
            near.attach()
    assert not far.attached


def mapped() -> int:
    """How many mappings of such memory this process has."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        return sum("memfd:vmbus" in line for line in maps)


def test_closing_a_channel_unmaps_its_memory(ends):
    near, _ = ends
    before = mapped()
    channel = near.attach()
    assert mapped() == before + 1
    channel.close()
    assert mapped() == before


def test_the_callers_own_on_close_is_called_last_and_once(ends):
    near, _ = ends
    states = []
    channel = near.attach(on_close=lambda: states.append(near.attached))
    channel.close()
    channel.close()
    assert states == [False]


def test_a_channel_that_cannot_be_made_leaves_nothing_and_says_nothing(ends):
    near, far = ends
    with far.attach() as other:
        before = open_descriptors()
        for options, error in (({"spin": -1}, CallerError), ({"unknown": 1}, TypeError)):
            with pytest.raises(error) as caught:
                near.attach(**options)
            assert not near.attached
            assert_no_more_than(before)  # although the error keeps alive what was on the way
            del caught  # which keeps alive what was on the way
        with pytest.raises(TimedOut):
            other.receive(timeout=0)
        assert not other.peer_closed


@pytest.mark.parametrize("fails", ["greet", "must_signal"])
@pytest.mark.parametrize("kind", [PacketChannel, AsyncMessageChannel])
def test_a_channel_that_was_made_and_cannot_be_attached_is_closed_and_leaves_nothing(
    kind, fails, ends, monkeypatch
):
    near, far = ends
    made, closed = [], []

    class Noted(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    def fail(*arguments):
        raise KeyboardInterrupt

    before, mapped_before = open_descriptors(), mapped()
    with monkeypatch.context() as patch:
        patch.setattr(*{"greet": (DescriptorSignal, fails), "must_signal": (shared, fails)}[fails], fail)
        with pytest.raises(KeyboardInterrupt):
            near.attach(Noted, on_close=lambda: closed.append(1))
    (channel,) = made  # it is held here: nothing below is the work of a finalizer
    assert channel.closed and not near.attached and not closed
    assert (open_descriptors(), mapped()) == (before, mapped_before)
    with pytest.raises(CallerError, match="closed"):
        channel.signal.wait(0)
    for _ in range(2):  # what it may have said is history for the next ones
        with near.attach() as one, far.attach() as other:
            one.send(bytes(8))
            assert other.receive(timeout=PATIENCE).payload == bytes(8)


@pytest.mark.parametrize(("bells", "life"), FORMS, ids=FORM_NAMES)
def test_attaching_and_closing_many_times_leaves_no_descriptor(bells, life, no_descriptor_left):
    near, far = SharedChannel.create(4096, bells=bells)
    with near, far:
        before = open_descriptors()
        for _ in range(500):  # far more than the link would hold if nobody read it
            with near.attach(life=life) as one, far.attach(life=life) as other:
                one.send(bytes(8))
                other.receive(timeout=PATIENCE)
        assert_no_more_than(before)


def test_attaching_one_side_many_times_while_nobody_reads_the_link_never_stops(ends):
    near, far = ends
    for _ in range(1000):
        near.attach().close()
    with far.attach() as other, pytest.raises(PeerClosed):
        other.send(bytes(8))  # somebody came, and left
    for _ in range(3):  # and that is history now
        with near.attach() as one, far.attach() as other:
            one.send(bytes(8))
            other.receive(timeout=PATIENCE)


def test_creating_and_closing_many_times_leaves_no_descriptor(no_descriptor_left):
    for _ in range(200):
        near, far = SharedChannel.create(4096)
        near.close()
        far.close()
    SharedChannel.create(4096)  # also when nobody closes
    gc.collect()


def test_a_process_without_descriptors_gets_a_device_error_and_loses_none(no_descriptor_left):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_descriptors()
    outcomes = set()
    try:
        for spare in range(28):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            try:
                near, far = SharedChannel.create(4096)
                with near, far, near.attach(), far.attach():
                    outcomes.add("attached")
            except DeviceError:
                outcomes.add("refused")
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert_no_more_than(used)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcomes == {"attached", "refused"}


def test_no_descriptor_of_an_end_or_a_channel_is_inherited(ends):
    near, _ = ends
    before = set(os.listdir("/proc/self/fd"))
    created, _created = SharedChannel.create(4096)
    with near.attach(), created, _created:
        for name in set(os.listdir("/proc/self/fd")) - before:
            with contextlib.suppress(OSError):  # the listing's own
                assert not os.get_inheritable(int(name))


# -- closing -----------------------------------------------------------------------------------


@known_bug("B22", "B67")
@pytest.mark.parametrize("closes", [0, 1])
def test_closing_on_either_side_ends_the_others_wait_after_all_that_was_sent(closes, ends):
    channels = [end.attach() for end in ends]
    stays = channels[1 - closes]
    with pytest.raises(TimedOut):
        stays.receive(timeout=0)
    waiter = Running(lambda: [packet.payload for packet in stays])
    for number in range(20):
        channels[closes].send(pattern(80, number))
    channels[closes].close()
    assert waiter.result() == [pattern(80, number) for number in range(20)]
    with pytest.raises(PeerClosed):
        stays.receive(timeout=0)
    with pytest.raises(PeerClosed):
        stays.send(bytes(8))
    stays.close()


def test_closing_ends_a_wait_for_room(ends):
    near, far = ends
    with near.attach() as one:
        other = far.attach()
        while True:
            try:
                one.send(bytes(1000), timeout=0)
            except TimedOut:
                break
        waiter = Running(one.send, bytes(1000))
        other.close()
        with pytest.raises(PeerClosed):
            waiter.result()


def test_a_side_that_came_and_left_before_anybody_looked_is_heard_and_then_closed(ends):
    near, far = ends
    with far.attach() as other:
        other.send(bytes(8))
    with near.attach() as one:
        assert one.receive(timeout=PATIENCE).payload == bytes(8)
        with pytest.raises(PeerClosed):
            one.receive(timeout=PATIENCE)


@known_bug("B65")
def test_after_both_have_closed_both_attach_again(ends):
    near, far = ends
    for number in range(20):
        one, other = near.attach(), far.attach()
        one.send(pattern(8, number))
        assert other.receive(timeout=PATIENCE).payload == pattern(8, number)
        for channel in random.Random(number).sample([one, other], 2):
            assert not (number % 2 and channel.peer_closed)
            channel.close()


# -- what the one before has left ----------------------------------------------------------------


@known_bug("B12", "B13", "B15")
@pytest.mark.parametrize("size", [4096, 16384])
def test_a_reader_that_is_owed_a_signal_by_one_that_was_killed_gets_it(size, children):
    near, far = SharedChannel.create(size)
    with near, far, far.attach() as reader:
        with pytest.raises(TimedOut):
            reader.receive(timeout=0)  # it has unmasked, and sleeps from now on

        def commit_without_a_signal() -> None:
            channel = near.attach()
            assert channel.outgoing.send(pattern(64)) is True
            os.kill(os.getpid(), signal.SIGKILL)

        assert children.join(children.start(commit_without_a_signal)) == -signal.SIGKILL
        reader.signal.wait(0)  # the news of the death, which would end a wait too
        while reader.signal.wait(0):
            pass
        with near.attach():
            assert reader.signal.wait(0) is True
        assert reader.receive(timeout=0).payload == pattern(64)


@known_bug("B15")
def test_a_writer_that_is_owed_a_signal_by_one_that_was_killed_gets_it(children):
    near, far = SharedChannel.create(4096)
    with near, far, far.attach() as writer:
        with pytest.raises(TimedOut):
            while True:
                writer.send(bytes(1000), timeout=0)

        def take_without_a_signal() -> None:
            channel = near.attach()
            assert channel.incoming.receive_many()[1] is True
            os.kill(os.getpid(), signal.SIGKILL)

        assert children.join(children.start(take_without_a_signal)) == -signal.SIGKILL
        while writer.signal.wait(0):
            pass
        with near.attach():
            assert writer.signal.wait(0) is True


@known_bug("B12")
def test_what_one_that_was_killed_has_published_is_taken_back_by_the_next(ends, children):
    """It was unmasked and asked for room; whoever attaches next does not sleep."""
    near, _ = ends
    outgoing, incoming = near._shape.rings()
    with (
        SharedMemory.open(near._descriptors[0]) as memory,
        FlatRingMem.over(memory.map(*outgoing)) as sent_to,
        FlatRingMem.over(memory.map(*incoming)) as received_from,
    ):

        def publish() -> None:
            channel = near.attach()
            with pytest.raises(TimedOut):
                channel.receive(timeout=0)
            with pytest.raises(TimedOut):
                while True:
                    channel.send(bytes(1000), timeout=0)
            os.kill(os.getpid(), signal.SIGKILL)

        assert children.join(children.start(publish)) == -signal.SIGKILL
        assert mask_of(received_from) == 0
        assert pending_of(sent_to) >= 1024
        waiting = sent_to.control[IN_WORD], sent_to.control[OUT_WORD]
        with near.attach():
            assert (mask_of(received_from), pending_of(sent_to)) == (1, 0)
            assert (
                sent_to.control[IN_WORD],
                sent_to.control[OUT_WORD],
            ) == waiting  # what it has committed stays


def test_a_side_that_is_owed_nothing_is_not_signaled(ends):
    near, far = ends
    with far.attach() as other:
        near.attach().close()
        while other.signal.wait(0):
            pass
        with near.attach():
            other.signal.wait(0)  # the link may have something to tell
            assert other.signal.wait(0) is False


# -- handed to other processes -------------------------------------------------------------------


@pytest.mark.parametrize("with_bells", Bells)
def test_a_forked_child_answers(with_bells, children):
    near, far = SharedChannel.create(8192, bells=with_bells)
    with near, far:
        child = children.start(lambda: echo(far))
        far.close()
        with near.attach() as channel:
            check_echo(channel)
        assert children.join(child) == 0


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_answers(method):
    context = multiprocessing.get_context(method)
    near, far = SharedChannel.create(8192)
    with near, far, near.attach() as channel:
        child = context.Process(target=echo, args=(far,), daemon=True)
        child.start()
        far.close()
        check_echo(channel)
        channel.close()
        assert exit_of(child) == 0


def close_and_tell(end: SharedChannel, told: object) -> None:
    """Of a spawned child: whether any descriptor of an end that it was given can be inherited."""
    inheritable = [os.get_inheritable(one) for one in end._descriptors]
    end.close()
    told.send(any(inheritable))  # type: ignore[attr-defined]


def test_what_a_spawned_child_was_given_goes_no_further():
    context = multiprocessing.get_context("spawn")
    near, far = SharedChannel.create(4096)
    heard, told = context.Pipe()
    with near, far, heard, told:
        child = context.Process(target=close_and_tell, args=(far, told), daemon=True)
        child.start()
        assert heard.poll(PATIENCE)
        assert heard.recv() is False
        assert exit_of(child) == 0


def test_what_comes_over_a_socket_goes_no_further_on_a_system_without_a_flag_for_that(ends, monkeypatch):
    _, far = ends
    monkeypatch.setattr("vmbus.channel.descriptors.CLOSE_ON_EXEC", 0)
    here, there = socket.socketpair()
    with here, there:
        far.send_over(here)
        with SharedChannel.receive_over(there) as received:
            assert not any(os.get_inheritable(one) for one in received._descriptors)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
@pytest.mark.parametrize("with_bells", Bells)
def test_an_end_sent_over_a_socket_answers(kind, with_bells, children):
    near, far = SharedChannel.create(8192, incoming_size=4096, bells=with_bells)
    here, there = socket.socketpair(socket.AF_UNIX, kind)

    def child() -> None:
        near.close()
        far.close()
        there.settimeout(PATIENCE)
        received = SharedChannel.receive_over(there)
        assert (received.size, received.incoming_size) == (4096, 8192)
        echo(received)

    with near, here, there:
        process = children.start(child)
        with far:
            far.send_over(here)
        with near.attach() as channel:
            check_echo(channel)
        assert children.join(process) == 0


def test_bytes_behind_an_end_on_a_stream_are_left_on_it(ends):
    near, far = ends
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"")
        far.send_over(here)
        here.sendall(b"more")
        near.send_over(here)
        with SharedChannel.receive_over(there) as first:
            assert there.recv(4) == b"more"
            with SharedChannel.receive_over(there) as second:
                assert repr(first).split(",")[0] == "<SharedChannel: far"
                assert repr(second).split(",")[0] == "<SharedChannel: near"
                with pytest.raises(CallerError), near.attach():
                    second.attach()  # it is the same end


def test_an_end_that_comes_in_pieces_is_put_together(ends):
    _, far = ends
    here, there = socket.socketpair()
    with here, there:
        message = HAND_OVER.pack(b"VMBC", 1, *far._shape)
        receiving = Running(SharedChannel.receive_over, there)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", far._descriptors))]
        here.sendmsg([message[:1]], rights)
        for position in range(1, len(message)):
            here.sendall(message[position : position + 1])
        with receiving.result() as end:
            assert end.size == far.size


# -- hand-overs that are wrong -------------------------------------------------------------------


def good_message(**changes: int) -> bytes:
    values = {"version": 1, "side": 1, "outgoing": 16384, "incoming": 16384, **changes}
    return struct.pack("<4sBB2xII", b"VMBC", *values.values())


BAD_MESSAGES = {
    "nothing": b"",
    "short": good_message()[:-1],
    "another magic": b"VMBX" + good_message()[4:],
    "version 2": good_message(version=2),
    "side 2": good_message(side=2),
    "no outgoing bytes": good_message(outgoing=0),
    "odd outgoing bytes": good_message(outgoing=4097),
    "too many incoming bytes": good_message(incoming=2**32 - 4096),
    "more than there is": good_message(incoming=20480),
    "less than there is": good_message(outgoing=4096),
}


@pytest.mark.parametrize("message", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_wrong_message_is_the_others_fault_and_leaves_no_descriptor(message, ends):
    _, far = ends
    here, there = socket.socketpair()
    with here, there:
        before = open_descriptors()
        if message:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", far._descriptors))]
            here.sendmsg([message], rights)
        here.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError) as caught:
            SharedChannel.receive_over(there)
        assert caught.value.kind in (HandOverFault.MALFORMED_MESSAGE, HandOverFault.BAD_MEMORY)
        assert_no_more_than(before)


def memfd(size: int, seals: int) -> int:
    descriptor = os.memfd_create("other", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def opened_to_read(descriptor: int) -> int:
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)


def blocking_eventfd() -> int:
    return os.eventfd(0)


def tcp_socket() -> int:
    return socket.socket().detach()


def stream_socket() -> int:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()


TOTAL = 2 * 4096 + 2 * 16384
MEMORY, OWN_BELL, OTHER_BELL, LINK = range(4)

#: Which descriptor is replaced, by what, and the fault that it is.
WRONG_DESCRIPTORS = {
    "memory that can shrink": (MEMORY, lambda _: memfd(TOTAL, 0), HandOverFault.BAD_MEMORY),
    "memory that cannot be written": (
        MEMORY,
        lambda _: memfd(TOTAL, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE),
        HandOverFault.BAD_MEMORY,
    ),
    "memory opened to read": (MEMORY, lambda good: opened_to_read(good[MEMORY]), HandOverFault.BAD_MEMORY),
    "memory too short": (MEMORY, lambda _: memfd(TOTAL - 1, fcntl.F_SEAL_SHRINK), HandOverFault.BAD_MEMORY),
    "a file": (MEMORY, lambda _: os.open(__file__, os.O_RDWR), HandOverFault.BAD_MEMORY),
    "a device as memory": (MEMORY, lambda _: os.open("/dev/zero", os.O_RDWR), HandOverFault.BAD_MEMORY),
    "a device as a bell": (
        OWN_BELL,
        lambda _: os.open("/dev/null", os.O_RDWR | os.O_NONBLOCK),
        HandOverFault.BAD_DESCRIPTOR,
    ),
    "a bell that waits": (OTHER_BELL, lambda _: blocking_eventfd(), HandOverFault.BAD_DESCRIPTOR),
    "an eventfd as a link": (LINK, lambda _: blocking_eventfd(), HandOverFault.BAD_DESCRIPTOR),
    "a TCP socket as a link": (LINK, lambda _: tcp_socket(), HandOverFault.BAD_DESCRIPTOR),
    "a stream as a link": (LINK, lambda _: stream_socket(), HandOverFault.BAD_DESCRIPTOR),
}


@pytest.mark.parametrize(("place", "make", "fault"), WRONG_DESCRIPTORS.values(), ids=WRONG_DESCRIPTORS)
def test_a_wrong_descriptor_is_the_others_fault_and_all_are_closed(place, make, fault, ends):
    _, far = ends
    here, there = socket.socketpair()
    with here, there:
        before = open_descriptors()
        descriptors = list(far._descriptors)
        descriptors[place] = make(descriptors)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        here.sendmsg([good_message()], rights)
        os.close(descriptors[place])
        with pytest.raises(PeerError) as caught:
            SharedChannel.receive_over(there)
        assert caught.value.kind is fault
        assert_no_more_than(before)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 50])
def test_too_few_or_too_many_descriptors_are_refused_and_closed(count, ends):
    _, far = ends
    here, there = socket.socketpair()
    with here, there:
        before = open_descriptors()
        descriptors = (far._descriptors * 20)[:count]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if count else []
        here.sendmsg([good_message()], rights)
        with contextlib.ExitStack() as received:
            if count < 5:
                with pytest.raises(PeerError):
                    SharedChannel.receive_over(there)
            else:  # the first four are what they should be, the others were closed
                received.enter_context(SharedChannel.receive_over(there))
        assert_no_more_than(before)


@pytest.mark.parametrize("seed", range(6))
def test_any_bytes_with_any_descriptors_are_refused_without_harm(seed, ends):
    draw = random.Random(seed)
    near, far = ends
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        before = open_descriptors()
        spare = [*near._descriptors, *far._descriptors, here.fileno()]
        for _ in range(100):
            message = bytearray(good_message())
            for _ in range(draw.choice([0, 1, 3])):
                message[draw.randrange(len(message))] = draw.randrange(256)
            descriptors = draw.choices(spare, k=draw.randrange(7))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
            here.sendmsg([message], rights)
            with contextlib.suppress(PeerError):
                SharedChannel.receive_over(there).close()
        assert_no_more_than(before)


def test_a_socket_error_is_a_device_error(ends):
    near, _ = ends
    with socket.socket() as unconnected:
        with pytest.raises(DeviceError):
            near.send_over(unconnected)
        with pytest.raises(DeviceError):
            SharedChannel.receive_over(unconnected)
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(0.001)
        with pytest.raises(TimeoutError):
            SharedChannel.receive_over(there)


def test_junk_on_the_link_ends_the_channel_like_a_death_and_names_itself(ends):
    near, far = ends
    with near.attach() as one, far.attach() as other:
        one.send(bytes(8))
        with socket.socket(fileno=os.dup(near._descriptors[-1])) as link:
            link.send(b"junk")
        assert other.receive(timeout=PATIENCE).payload == bytes(8)
        with pytest.raises(PeerClosed):
            other.receive(timeout=PATIENCE)
        assert other.signal.fault.kind is LinkFault.MALFORMED_MESSAGE


# -- death ---------------------------------------------------------------------------------------


def stream_until_killed(end: SharedChannel, life: Life, third: Callable[[], object], told: Flag) -> None:
    """Send numbered packets, for ever, and fork a third process on the way; tell when both are well begun."""
    with end.attach(life=life) as channel:
        number = 0
        while True:
            channel.send(number.to_bytes(8, "little") * (1 + number % 20), number, timeout=PATIENCE)
            number += 1
            if number == 250:
                third()
            elif number == 500:
                told.set()


def read_until_closed(channel: PacketChannel) -> tuple[int, float]:
    """Check what stream_until_killed sends, to the end: how many, and when that was."""
    number = 0
    with contextlib.suppress(PeerClosed):
        while True:
            packet = channel.receive(timeout=PATIENCE)
            assert packet.transaction_id == number
            assert packet.payload == number.to_bytes(8, "little") * (1 + number % 20)
            number += 1
    return number, time.monotonic()


@known_bug("B67")
@pytest.mark.parametrize(("bells", "life"), FORMS, ids=FORM_NAMES)
def test_a_killed_peer_is_noticed_after_everything_it_committed_was_read(bells, life, children):
    """All of it in one place: within 100 ms, and although each side has forked a process that lives on."""
    near, far = SharedChannel.create(4096, bells=bells)
    told, stop = children.flag(), children.flag()
    lives = [children.flag(), children.flag()]

    def live_on(life: Flag) -> None:
        stop.wait()
        life.set()

    def leave_a_third() -> None:
        fork_child(lambda: live_on(lives[1]))

    try:
        with near, far, near.attach(life=life) as reader:
            writer = children.start(lambda: stream_until_killed(far, life, leave_a_third, told))
            reading = Running(read_until_closed, reader)
            told.wait()
            children.start(lambda: live_on(lives[0]))
            children.kill(writer)
            killed = time.monotonic()
            count, noticed = reading.result()
            assert noticed - killed < NOTICED
            assert count >= 500
            control = reader.incoming.memory.control
            assert control[IN_WORD] == control[OUT_WORD]  # nothing was left in the ring
            assert children.join(writer) == -signal.SIGKILL
    finally:
        stop.set()
    for one in lives:  # until now: they tell it themselves
        one.wait()


def attach_and_sleep(end: SharedChannel, life: Life, ready, third=None) -> None:
    """Attach, perhaps leave a third process behind, tell it, and sleep until killed."""
    with end.attach(life=life) as channel:
        channel.send(bytes(8), timeout=PATIENCE)
        if third is not None:
            third()
        ready.set()
        channel.receive(timeout=PATIENCE)


@pytest.mark.parametrize(("bells", "life"), FORMS, ids=FORM_NAMES)
@pytest.mark.parametrize("thirds", [False, True], ids=["two processes", "with forked copies"])
def test_a_killed_peer_is_noticed_within_a_tenth_of_a_second(bells, life, thirds, children, record_property):
    """Also when each side has forked another process meanwhile, which holds copies and lives on."""
    stop_read, stop_write = os.pipe()

    def live_on() -> None:
        os.close(stop_write)
        os.read(stop_read, 1)

    def leave_a_third() -> None:
        if os.fork() == 0:
            signal.alarm(PATIENCE)
            try:
                live_on()
            finally:
                os._exit(0)

    delays = []
    for _ in range(3):
        near, far = SharedChannel.create(4096, bells=bells)
        ready = children.flag()
        with near, far, near.attach(life=life) as channel:
            peer = children.start(
                lambda far=far, ready=ready: attach_and_sleep(
                    far, life, ready, leave_a_third if thirds else None
                )
            )
            if thirds:
                children.start(live_on)
            ready.wait()
            assert channel.receive(timeout=PATIENCE).payload == bytes(8)
            with pytest.raises(TimedOut):
                channel.receive(timeout=0)  # the link has been read: it knows of the other side
            waiter = Running(noticed_at, channel)
            children.kill(peer)
            killed = time.monotonic()
            delays.append(waiter.result() - killed)
            assert children.join(peer) == -signal.SIGKILL
    os.close(stop_write)
    os.close(stop_read)
    record_property("seconds", max(delays))
    assert max(delays) < NOTICED, delays


def noticed_at(channel: PacketChannel) -> float:
    with pytest.raises(PeerClosed):
        channel.receive(timeout=PATIENCE)
    return time.monotonic()


@pytest.mark.parametrize(("bells", "life"), FORMS, ids=FORM_NAMES)
def test_a_close_is_noticed_at_once_although_a_forked_copy_lives_on(bells, life, children):
    near, far = SharedChannel.create(4096, bells=bells)
    stop = children.flag()
    with near, far, near.attach(life=life) as one:
        other = far.attach(life=life)
        third = children.start(stop.wait)
        waiter = Running(noticed_at, one)
        closed = time.monotonic()
        other.close()
        assert waiter.result() - closed < NOTICED
        stop.set()
        assert children.join(third) == 0


def test_a_forked_child_that_drops_a_channel_of_its_parent_closes_nothing(ends, children):
    near, far = ends
    with near.attach() as one, far.attach() as other:
        one.send(pattern(16))

        def child() -> None:
            assert not near.attached
            one.close()

        assert children.join(children.start(child)) == 0
        assert other.receive(timeout=PATIENCE).payload == pattern(16)
        with pytest.raises(TimedOut):
            other.receive(timeout=0)


@known_bug("B65", "B67")
def test_side_after_side_is_killed_and_each_successor_goes_on(children):
    """Ten readers in a row are killed in the middle; the writer attaches again each time, as a user would."""
    near, far = SharedChannel.create(4096)
    with near, far:
        for _ in range(10):
            told = children.flag()
            peer = children.start(lambda told=told: attach_and_sleep(far, Life.PIDFD, told))
            told.wait()
            with near.attach() as channel:
                packet = channel.receive(timeout=PATIENCE)
                assert packet.payload == bytes(8)
                channel.send(pattern(8), 1)
                assert children.join(peer) == 0  # it got that, and closed
                with pytest.raises(PeerClosed):
                    channel.receive(timeout=PATIENCE)
            told = children.flag()
            peer = children.start(lambda told=told: attach_and_sleep(far, Life.PIDFD, told))
            told.wait()
            with near.attach() as channel:
                assert channel.receive(timeout=PATIENCE).payload == bytes(8)
                children.kill(peer)
                with pytest.raises(PeerClosed):
                    channel.receive(timeout=PATIENCE)
                assert children.join(peer) == -signal.SIGKILL


def test_an_end_whose_other_holders_are_all_gone_is_closed(ends):
    near, far = ends
    with near.attach() as channel:
        with pytest.raises(TimedOut):
            channel.receive(timeout=0)
        far.close()
        with pytest.raises(PeerClosed):
            channel.receive(timeout=PATIENCE)


def test_memory_of_a_channel_is_sealed_against_shrinking(ends):
    near, _ = ends
    with SharedMemory.open(near._descriptors[0]) as memory:
        assert memory.size == TOTAL
        with pytest.raises(PermissionError):
            os.ftruncate(memory.fileno(), 4096)
