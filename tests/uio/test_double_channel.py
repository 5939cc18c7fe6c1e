"""Blocking channels of a device, with a double of the kernel and of the host in another process."""

from __future__ import annotations

import select
from contextlib import suppress

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE, Running
from tests.known_bugs import known_bug
from tests.uio.kernel import LATE, MASKS_ALL, OLD, PAGES_64K, PRIMARY_ONLY, RELID, Manner
from vmbus.channel import ByteChannel, MessageChannel, PacketChannel
from vmbus.errors import ChannelClosed, PeerClosed, PeerError, TimedOut
from vmbus.layout import INTERRUPT_MASK_WORD, TransferPageRange
from vmbus.uio import UioDevice

pytestmark = needs_linux

all_ages = pytest.mark.parametrize(
    "kernel", [LATE, OLD, PAGES_64K], ids=["late", "old", "64K"], indirect=True
)
both_ages = pytest.mark.parametrize("kernel", [LATE, OLD], ids=["late", "old"], indirect=True)
all_manners_of_masks = pytest.mark.parametrize(
    "kernel",
    [LATE, OLD, MASKS_ALL, PRIMARY_ONLY],
    ids=["late", "old", "masks all", "primary only"],
    indirect=True,
)
both_doorbells = pytest.mark.parametrize("monitor_id", [None, 70], ids=["interrupt", "monitor"])


def opened(kernel, uio="uio0"):
    return UioDevice(uio, root=kernel.system, timeout=PATIENCE)


def payload_of(number, length):
    return number.to_bytes(8, "little") * (length // 8)


def mask_of(channel):
    return channel.incoming.memory.control[INTERRUPT_MASK_WORD]


def talk(channel, count, length):
    """Send packets and get them back, more than both rings hold, with nobody waiting for the other."""

    def send():
        for number in range(count):
            channel.send(payload_of(number, length), number, timeout=PATIENCE)

    sending = Running(send)
    for number in range(count):
        packet = channel.receive(timeout=PATIENCE)
        assert (packet.transaction_id, packet.payload) == (number, payload_of(number, length))
    sending.result()


# -- both ways -----------------------------------------------------------------------------------


@all_ages
@both_doorbells
def test_packets_come_back_one_by_one(monitor_id, kernel):
    page = kernel.age.page_size
    kernel.add_device(ring_size=5 * page, monitor_id=monitor_id, manner=Manner.ECHO)
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(50):
            channel.send(payload_of(number, 8 * number), number, timeout=PATIENCE)
            packet = channel.receive(timeout=PATIENCE)
            assert (packet.transaction_id, packet.payload) == (number, payload_of(number, 8 * number))


@all_ages
@both_doorbells
def test_floods_fill_the_rings_both_ways_and_nothing_is_lost(monitor_id, kernel):
    page = kernel.age.page_size
    kernel.add_device(ring_size=2 * page, monitor_id=monitor_id, manner=Manner.ECHO)
    with opened(kernel) as device, device.open_channel() as channel:
        length = page // 8
        kernel.silence(RELID)
        sending = Running(lambda: [channel.send(payload_of(number, length), number) for number in range(100)])
        kernel.await_asking(RELID)
        kernel.end_silence(RELID)
        kernel.await_host_asking(RELID)  # now all is full, both ways
        for number in range(100):
            packet = channel.receive(timeout=PATIENCE)
            assert (packet.transaction_id, packet.payload) == (number, payload_of(number, length))
        sending.result()


@both_ages
def test_a_flood_of_the_host_comes_whole_and_in_order(kernel):
    kernel.add_device(ring_size=8192)
    with opened(kernel) as device, device.open_channel() as channel:
        kernel.flood(RELID, 300, 400)
        numbers = [channel.receive(timeout=PATIENCE).transaction_id for _ in range(300)]
        assert numbers == list(range(300))


@both_ages
def test_requests_are_completed(kernel):
    kernel.add_device(manner=Manner.COMPLETE)
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(20):
            assert channel.request(payload_of(number, 64), timeout=PATIENCE).payload == payload_of(number, 64)


@pytest.mark.parametrize(
    ("kind", "data"), [(MessageChannel, b"odd"), (ByteChannel, b"a stream"), (PacketChannel, b"packets!")]
)
def test_every_kind_of_channel_can_be_opened(kind, data, kernel):
    kernel.add_device(manner=Manner.ECHO)
    with opened(kernel) as device, device.open_channel(kind) as channel:
        channel.send(data)
        received = channel.receive(timeout=PATIENCE)
        assert getattr(received, "payload", received) == data
        assert type(channel) is kind


# -- masks and signals ---------------------------------------------------------------------------


@known_bug("B24")
@all_manners_of_masks
def test_whoever_waits_on_has_the_mask_cleared_whoever_has_set_it(kernel):
    kernel.add_device()
    with opened(kernel) as device, device.open_channel() as channel:
        for _ in range(3):
            with pytest.raises(TimedOut):
                channel.receive(timeout=0)
            assert mask_of(channel) == 0
            kernel.interrupt(RELID)
            assert mask_of(channel) == int(kernel.age.masks_itself)
        kernel.send(RELID, b"signaled or not")
        assert channel.receive(timeout=PATIENCE).payload == b"signaled or not\0"


@both_ages
def test_interrupts_for_nothing_neither_end_a_wait_nor_lose_a_packet(kernel):
    kernel.add_device()
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(10):
            waiting = Running(channel.receive, timeout=PATIENCE)
            kernel.await_unmasked(RELID)
            kernel.interrupt(RELID)
            kernel.await_unmasked(RELID)
            assert waiting.still_runs()
            kernel.send(RELID, payload_of(number, 8), number)
            assert waiting.result().transaction_id == number


@both_ages
def test_a_channel_can_be_polled_beside_other_descriptors(kernel):
    kernel.add_device()
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(3):
            for tell in (
                kernel.interrupt,
                lambda relid, number=number: kernel.send(relid, payload_of(number, 8)),
            ):
                with pytest.raises(TimedOut):
                    channel.receive(timeout=0)
                assert select.select([channel], [], [], 0)[0] == []
                tell(RELID)
                assert select.select([channel], [], [], PATIENCE)[0] == [channel]
            assert channel.receive(timeout=0).payload == payload_of(number, 8)


@pytest.mark.parametrize("event", [2**31 - 2, -2])
def test_a_count_of_interrupts_that_changes_its_sign_is_like_any_other(event, kernel):
    kernel.add_device(event=event)
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(4):
            with pytest.raises(TimedOut):
                channel.receive(timeout=0)
            kernel.send(RELID, payload_of(number, 8))
            assert select.select([channel], [], [], PATIENCE)[0] == [channel]
            assert channel.receive(timeout=PATIENCE).payload == payload_of(number, 8)
        assert kernel.report(RELID).interrupts == 4


def send_while_this_side_unmasks(kernel, channel, count):
    """So many packets, each while this side unmasks: the host has just seen the mask set, and interrupts nobody."""
    control = channel.incoming.memory.control
    fence = channel.incoming._fence
    left = count

    def fence_after_unmasking():
        nonlocal left
        if not control[INTERRUPT_MASK_WORD] and left:
            left -= 1
            control[INTERRUPT_MASK_WORD] = 1
            kernel.send(RELID, b"between")
            control[INTERRUPT_MASK_WORD] = 0
        fence()

    channel.incoming._fence = fence_after_unmasking


@both_ages
def test_packets_that_come_while_this_side_unmasks_are_not_slept_over(kernel):
    kernel.add_device()
    with opened(kernel) as device, device.open_channel() as channel:
        send_while_this_side_unmasks(kernel, channel, 3)
        for _ in range(3):
            assert channel.receive(timeout=PATIENCE).payload == b"between\0"
        assert kernel.report(RELID).interrupts == 0


@known_bug("B24")
@pytest.mark.parametrize("kernel", [OLD, MASKS_ALL], ids=["old", "masks all"], indirect=True)
def test_a_packet_that_comes_while_a_mask_of_the_kernel_is_cleared_is_not_slept_over(kernel):
    kernel.add_device()
    with opened(kernel) as device, device.open_channel() as channel:
        with pytest.raises(TimedOut):
            channel.receive(timeout=0)
        kernel.interrupt(RELID)
        assert mask_of(channel) == 1
        assert channel.signal.wait(0)  # woken by that interrupt: no other comes
        send_while_this_side_unmasks(kernel, channel, 1)
        sleeps = channel.statistics().walked["unmasked", "nothing"]
        assert channel.receive(timeout=0).payload == b"between\0"
        assert channel.statistics().walked["unmasked", "nothing"] == sleeps, "it would have slept first"
        assert kernel.report(RELID).interrupts == 1


@known_bug("B23")
@pytest.mark.parametrize(("monitor_id", "signals"), [(None, (3, 0, False)), (70, (0, 3, True))])
def test_the_host_is_told_by_the_one_means_that_it_hears_and_only_when_its_ring_was_empty(
    monitor_id, signals, kernel
):
    kernel.add_device(monitor_id=monitor_id)
    with opened(kernel) as device, device.open_channel() as channel:
        for number in range(3):
            channel.send(b"told of")
            kernel.await_received(RELID, number + 1)
        assert kernel.report(RELID)[1:4] == signals
        kernel.silence(RELID)
        for _ in range(3):
            channel.send(b"the first of these is told of")
        assert channel.statistics().signals_after_write == 4


@known_bug("B23")
def test_a_monitored_channel_is_signaled_through_its_bits_alone(kernel):
    kernel.add_device(monitor_id=127)
    with opened(kernel) as device, device.open_channel() as channel:
        kernel.silence(RELID)
        channel.send(b"told of through the page")
        assert (kernel.report(RELID).hypercalls, kernel.report(RELID).interrupt_bit) == (0, True)
        kernel.end_silence(RELID)


def test_a_host_that_waits_for_room_is_told_once(kernel):
    kernel.add_device(ring_size=8192)
    with opened(kernel) as device, device.open_channel() as channel:
        kernel.flood(RELID, 5, 1000)
        assert kernel.report(RELID).waiting == 2
        assert len(channel.receive_many()) == 3
        assert kernel.report(RELID)[1] == 1
        assert len(channel.receive_many()) == 2
        assert (kernel.report(RELID)[1], channel.statistics().signals_after_read) == (1, 1)


# -- several channels ----------------------------------------------------------------------------


@known_bug("B24")
@pytest.mark.parametrize(
    ("kernel", "monitors"),
    [
        (LATE, (None, None)),
        (LATE, (3, None)),
        (OLD, (3, 4)),
        (MASKS_ALL, (None, None)),
        (PRIMARY_ONLY, (None, 4)),
    ],
    ids=["late", "late, one monitored", "old", "masks all", "primary only"],
    indirect=["kernel"],
)
def test_two_channels_of_a_device_carry_floods_at_once(monitors, kernel):
    primary, second = monitors
    kernel.add_device("network", ring_size=8192, monitor_id=primary, manner=Manner.ECHO)
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=12288, manner=Manner.ECHO, monitor_id=second)
        with device.open_channel() as one, device.open_channel(relid=sub) as other:
            both = [Running(talk, one, 200, 400), Running(talk, other, 200, 504)]
            for running in both:
                running.result()
            assert other.outgoing.size == 8192


@known_bug("B24")
@all_manners_of_masks
def test_a_subchannel_that_waits_on_has_its_own_mask_cleared(kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=8192)
        with device.open_channel(relid=sub) as channel:
            for number in range(3):
                with pytest.raises(TimedOut):
                    channel.receive(timeout=0)
                assert mask_of(channel) == 0
                kernel.send(sub, payload_of(number, 8))
                assert kernel.report(sub).interrupts == number + 1
                assert channel.receive(timeout=PATIENCE).payload == payload_of(number, 8)


@known_bug("B39")
def test_two_devices_with_maps_of_different_sizes_do_not_touch_each_other(kernel):
    other = "00000000-1111-2222-3333-444444444444"
    kernel.add_device(ring_size=8192, manner=Manner.ECHO)
    kernel.add_device("network", other, 20, ring_size=20480, manner=Manner.ECHO)
    with (
        opened(kernel, "uio0") as small,
        opened(kernel, "uio1") as large,
        small.open_channel() as one,
        large.open_channel() as another,
    ):
        assert (one.incoming.size, another.incoming.size) == (4096, 16384)
        for running in [Running(talk, one, 100, 400), Running(talk, another, 200, 800)]:
            running.result()


# -- buffers -------------------------------------------------------------------------------------


@known_bug("B35")
@all_ages
def test_packets_of_transfer_pages_resolve_to_the_bytes_of_the_receive_buffer(kernel):
    kernel.add_device(
        "network", ring_size=4 * kernel.age.page_size, buffers={"recv:7": 31 << 20, "send:9": 16 << 20}
    )
    first, last = b"first frame", b"last bytes"
    end = (31 << 20) - len(last)
    kernel.fill_map(RELID, 3, 4000, first)
    kernel.fill_map(RELID, 3, end, last)
    with opened(kernel) as device, device.open_channel() as channel:
        assert (device.buffers.receive.gpadl, device.buffers.send.gpadl) == (7, 9)
        ranges = [TransferPageRange(len(first), 4000), TransferPageRange(len(last), end)]
        kernel.send_transfer_pages(RELID, 0xCAFE, ranges, b"header")
        packet = channel.receive(timeout=PATIENCE)
        assert device.buffers.resolve(packet, transfer_page_set_id=0xCAFE) == [first, last]
        kernel.send_transfer_pages(RELID, 0xCAFE, [TransferPageRange(len(last) + 1, end)])
        outside = channel.receive(timeout=PATIENCE)
        with pytest.raises(PeerError, match="of a buffer of 32505856 bytes"):
            device.buffers.resolve(outside)
        channel.complete(packet.transaction_id)
        assert kernel.await_received(RELID, 1)[0].type.name == "COMPLETION"


# -- the end -------------------------------------------------------------------------------------


def block_in_receive(channel, kernel):
    waiting = Running(channel.receive, timeout=PATIENCE)
    kernel.await_unmasked(RELID)
    return waiting


def block_in_send(channel, kernel):
    kernel.silence(RELID)

    def fill():
        while True:
            channel.send(bytes(1000), timeout=PATIENCE)

    waiting = Running(fill)
    kernel.await_asking(RELID)
    return waiting


def block_in_request(channel, kernel):
    waiting = Running(channel.request, b"never completed", timeout=PATIENCE)
    kernel.await_unmasked(RELID)
    return waiting


@known_bug("B22")
@pytest.mark.parametrize("unregister", [True, False], ids=["unregistered", "without interrupt"])
@pytest.mark.parametrize("block", [block_in_receive, block_in_send, block_in_request])
@both_ages
def test_a_revoked_device_ends_a_call_that_waits_and_every_later_one(block, unregister, kernel):
    kernel.add_device(ring_size=8192)
    with opened(kernel) as device, device.open_channel() as channel:
        waiting = block(channel, kernel)
        kernel.revoke(RELID, unregister=unregister)
        with pytest.raises(PeerClosed, match="revoked"):
            waiting.result()
        for call in (channel.receive, lambda: channel.send(b"too late")):
            with pytest.raises(PeerClosed):
                call()
        assert channel.peer_closed


@known_bug("B22")
@both_ages
def test_a_revocation_in_the_middle_of_traffic_ends_both_directions(kernel):
    kernel.add_device(ring_size=8192, manner=Manner.ECHO)

    def send(channel):
        while True:
            channel.send(bytes(400), timeout=PATIENCE)

    def receive(channel):
        while True:
            channel.receive(timeout=PATIENCE)

    with opened(kernel) as device, device.open_channel() as channel:
        both = [Running(send, channel), Running(receive, channel)]
        kernel.await_received(RELID, 50)
        kernel.revoke(RELID)
        for running in both:
            with pytest.raises(PeerClosed):
                running.result()


@known_bug("B22")
def test_all_channels_of_a_revoked_device_end(kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=8192)
        with device.open_channel() as one, device.open_channel(relid=sub) as other:
            waiting = [Running(channel.receive, timeout=PATIENCE) for channel in (one, other)]
            kernel.await_unmasked(RELID)
            kernel.await_unmasked(sub)
            kernel.revoke(RELID)
            for one_waiting in waiting:
                with pytest.raises(PeerClosed):
                    one_waiting.result()


def test_nothing_is_stored_in_the_rings_once_a_call_has_found_the_device_revoked(kernel):
    kernel.add_device()
    device = opened(kernel)
    channel = device.open_channel()
    with pytest.raises(TimedOut):
        channel.receive(timeout=0)
    kernel.revoke(RELID)
    with pytest.raises(PeerClosed):
        channel.receive(timeout=PATIENCE)
    kernel.reuse_memory(RELID)
    for call in (channel.receive, lambda: channel.send(b"too late"), channel.close, device.close):
        with suppress(PeerClosed):
            call()
    assert kernel.memory_is_untouched(RELID)


def test_closing_a_channel_leaves_the_device_open_and_the_next_one_goes_on(kernel):
    kernel.add_device()
    with opened(kernel) as device:
        with device.open_channel() as channel:
            kernel.send(RELID, b"the first")
            assert channel.receive(timeout=PATIENCE).payload[:9] == b"the first"
        assert kernel.report(RELID).is_open
        kernel.send(RELID, b"meanwhile")
        with device.open_channel() as channel:
            assert channel.receive(timeout=PATIENCE).payload[:9] == b"meanwhile"
    assert not kernel.report(RELID).is_open


def test_closing_the_device_ends_a_call_that_waits(kernel):
    kernel.add_device()
    device = opened(kernel)
    channel = device.open_channel()
    waiting = block_in_receive(channel, kernel)
    device.close()
    with pytest.raises(ChannelClosed):
        waiting.result()
    assert not kernel.report(RELID).is_open
