"""The double of the kernel's side does what Linux does, piece by piece, before anything is tested with it."""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
from pathlib import Path

import pytest

from tests.channel.children import needs_linux
from tests.descriptors import assert_no_more_than, open_descriptors
from tests.uio.kernel import INSTANCE, LATE, MASKS_ALL, OLD, PAGES_64K, PRIMARY_ONLY, RELID, Manner
from tests.uio.kernel import RING_SIZE as RING
from tests.uio.machine import Machine
from vmbus.errors import DeviceError, RingEmpty, RingFull
from vmbus.layout import FEATURE_BITS_WORD, INTERRUPT_MASK_WORD, PENDING_SEND_SIZE_WORD, TransferPageRange
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing
from vmbus.uio import find_device, find_devices

pytestmark = needs_linux

CHANNEL = f"sys/bus/vmbus/devices/{INSTANCE}/channels/{RELID}"
ON, OFF = struct.pack("=i", 1), struct.pack("=i", 0)


both_ages = pytest.mark.parametrize("kernel", [LATE, OLD], ids=["late", "old"], indirect=True)


class GuestEnd:
    """The guest's ends of both rings of a node, without a channel: it signals only where a test says so."""

    def __init__(self, kernel, uio="uio0", size=2 * RING):
        self.node = kernel.system.open_node(uio, writable=True)
        self.mapping = self.node.map(0, size, writable=True)
        view = memoryview(self.mapping)
        page = kernel.age.page_size
        self.out = FlatRingMem.over(view[: size // 2], header_size=page)
        self.back = FlatRingMem.over(view[size // 2 :], header_size=page)

    def sender(self):
        return OutgoingRing(self.out)

    def receiver(self):
        """It takes interrupts from the beginning."""
        receiver = IncomingRing(self.back)
        receiver.set_interrupt_mask(False)
        return receiver

    @property
    def mask(self):
        return self.back.control[INTERRUPT_MASK_WORD]


def count_of(node):
    return struct.unpack("=i", node.read(4))[0]


def is_readable(node):
    return bool(select.select([node], [], [], 0)[0])


def refused(number):
    return pytest.raises(OSError, match=os.strerror(number))


# -- reading /dev/uioN ---------------------------------------------------------------------------


def test_a_read_gives_the_running_count_and_only_what_differs_from_the_last_one(kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    with pytest.raises(BlockingIOError):
        node.read(4)
    for counts in (1, 2):
        kernel.interrupt(RELID)
        assert count_of(node) == counts
        with pytest.raises(BlockingIOError):
            node.read(4)


def test_interrupts_between_two_reads_are_one_count(kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    for _ in range(3):
        kernel.interrupt(RELID)
    assert count_of(node) == 3
    with pytest.raises(BlockingIOError):
        node.read(4)


def test_every_open_has_a_count_of_its_own_from_its_beginning_on(kernel):
    uio = kernel.add_device()
    first = kernel.system.open_node(uio, writable=True)
    kernel.interrupt(RELID)
    second = kernel.system.open_node(uio, writable=True)
    with pytest.raises(BlockingIOError):
        second.read(4)
    kernel.interrupt(RELID)
    assert (count_of(first), count_of(second)) == (2, 2)


def test_the_count_has_a_sign_and_wraps(kernel):
    uio = kernel.add_device(event=2**31 - 1)
    node = kernel.system.open_node(uio, writable=True)
    kernel.interrupt(RELID)
    assert count_of(node) == -(2**31)


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_numbers_of_another_length_than_4_are_refused(length, kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    kernel.interrupt(RELID)
    with refused(errno.EINVAL):
        node.read(length)
    with refused(errno.EINVAL):
        node.write(bytes(length))
    assert count_of(node) == 1


def test_the_descriptor_is_readable_exactly_while_a_read_would_not_wait(kernel):
    uio = kernel.add_device()
    first, second = (kernel.system.open_node(uio, writable=True) for _ in range(2))
    assert not is_readable(first)
    kernel.interrupt(RELID)
    kernel.interrupt(RELID)
    assert is_readable(first)
    assert is_readable(first)
    first.read(4)
    assert (is_readable(first), is_readable(second)) == (False, True)


# -- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "mask", "signals"), [(1, 0, 1), (-7, 0, 1), (0, 1, 0)])
@both_ages
def test_a_write_sets_the_mask_and_signals_the_host_unless_it_is_0(number, mask, signals, kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    guest.back.control[INTERRUPT_MASK_WORD] = 1 - mask
    assert guest.node.write(struct.pack("=i", number)) == 4
    assert guest.mask == mask
    assert kernel.report(RELID).hypercalls == signals


def test_the_host_takes_packets_when_it_is_signaled_and_not_before(kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    sender = guest.sender()
    assert sender.send(b"question", 5)
    assert kernel.report(RELID).received == 0
    guest.node.write(ON)
    (packet,) = kernel.taken(RELID)
    assert (packet.payload, packet.transaction_id) == (b"question", 5)
    assert sender.send(b"another!"), "the host sleeps again, and has said so"


def test_a_write_does_not_signal_a_monitored_channel_and_its_bit_in_the_monitor_page_does(kernel):
    guest = GuestEnd(kernel, kernel.add_device(monitor_id=37))
    guest.sender().send(b"question")
    guest.node.write(ON)
    assert kernel.report(RELID)[:5] == (True, 0, 0, False, 0)
    page = guest.node.map(2 * 4096, 4096, writable=True)
    page[8 + 8] |= 1 << 6  # of another channel
    page[8 + 8] |= 1 << 5  # bit 37 - 32 of group 1
    kernel.await_received(RELID, 1)
    assert kernel.report(RELID).monitor_signals == 1
    assert page[8 + 8] == 1 << 6
    page.close()


def test_a_node_that_was_opened_to_read_cannot_be_written_or_mapped_to_write(kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=False)
    with refused(errno.EBADF):
        node.write(ON)
    with refused(errno.EACCES):
        node.map(0, 4096, writable=True)


# -- opening and closing -------------------------------------------------------------------------


def test_the_first_open_makes_new_control_pages_and_leaves_the_old_data(kernel):
    uio = kernel.add_device()
    guest = GuestEnd(kernel, uio)
    for memory in (guest.out, guest.back):
        for word in range(32):
            memory.control[word] = 8
        memory.write_at(0, b"old data")
    second = kernel.system.open_node(uio, writable=True)
    assert guest.out.control[0] == 8, "only the first open does that"
    second.close()
    guest.node.close()
    again = GuestEnd(kernel, uio)
    for memory in (again.out, again.back):
        words = [memory.control[word] for word in range(32)]
        words[INTERRUPT_MASK_WORD] = 0  # the host's receiver has begun by now
        assert words == [int(word == FEATURE_BITS_WORD) for word in range(32)]
        assert memory.read_at(0, 8) == b"old data"


@both_ages
def test_the_last_close_closes_the_channel(kernel):
    uio = kernel.add_device()
    nodes = [kernel.system.open_node(uio, writable=True) for _ in range(2)]
    for node in nodes:
        assert find_device(uio, kernel.system).primary.is_open
        assert kernel.report(RELID).is_open
        node.close()
    assert not kernel.report(RELID).is_open
    device = find_device(uio, kernel.system)
    assert (device.state, device.primary.is_open, device.outbound.write_index) == (2, False, None)


def test_sysfs_shows_the_rings_as_they_are(kernel):
    uio = kernel.add_device()
    guest = GuestEnd(kernel, uio)
    guest.sender().send(bytes(40))
    kernel.send(RELID, bytes(8))
    guest.back.control[INTERRUPT_MASK_WORD] = 2**31
    device = find_device(uio, kernel.system)
    assert device.outbound[:2] == (64, 0)
    assert device.outbound.data_size == RING - 4096
    assert (device.inbound.write_index, device.inbound.intr_mask, device.state) == (32, 2**31, 3)
    channel = device.primary
    assert (channel.read_avail, channel.write_avail) == (32, RING - 4096 - 64)
    assert (channel.interrupts, channel.events, channel.ring_size) == (1, 0, 2 * RING)


@pytest.mark.parametrize(
    ("kernel", "masked"),
    [(LATE, 0), (OLD, 1), (MASKS_ALL, 1), (PRIMARY_ONLY, 0)],
    ids=["late", "old", "masks all", "primary only"],
    indirect=["kernel"],
)
def test_old_kernels_mask_at_open_and_in_every_interrupt_before_they_tell_of_it(masked, kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    assert guest.mask == masked
    guest.back.control[INTERRUPT_MASK_WORD] = 0
    kernel.interrupt(RELID)
    assert is_readable(guest.node)
    assert guest.mask == masked


def test_opens_are_refused_while_the_node_is_not_there_yet(kernel):
    uio = kernel.add_device()
    kernel.refuse_opens(uio, errno.ENOENT, errno.ENXIO)
    for number in (errno.ENOENT, errno.ENXIO):
        with pytest.raises(DeviceError) as caught:
            kernel.system.open_node(uio, writable=True)
        assert caught.value.errno == number
    kernel.system.open_node(uio, writable=True)


def test_an_open_does_not_wait_for_another_process_that_is_just_opening_the_channel(kernel):
    uio = kernel.add_device()
    kernel.begin_opening(RELID, looks=2)
    guest = GuestEnd(kernel, uio)
    guest.out.control[0] = 8
    assert [kernel.system.number(f"{CHANNEL}/out_mask") for _ in range(3)] == [None, None, 0]
    assert guest.out.control[0] == 0
    guest.node.close()
    assert kernel.report(RELID).is_open
    kernel.end_opening(RELID)
    assert not kernel.report(RELID).is_open


# -- mapping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [LATE, PAGES_64K], ids=["4 KiB", "64 KiB"], indirect=True)
def test_each_map_stands_at_its_number_times_the_size_of_a_page(kernel):
    page = kernel.age.page_size
    size = 4 * page
    uio = kernel.add_device("network", ring_size=size // 2, buffers={"recv:7": 3 * 4096})
    kernel.fill_map(RELID, 3, 4096, b"received")
    guest = GuestEnd(kernel, uio, size)
    assert guest.out.size == page
    assert guest.out.control[FEATURE_BITS_WORD] == 1
    with guest.node.map(3 * page, 3 * 4096, writable=False) as buffer:
        assert buffer[4096:4104] == b"received"
    with guest.node.map(2 * page, 4096, writable=True) as monitor:
        assert bytes(monitor) == bytes(4096)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 2 * RING + 1), (4096, 4097), (4096 * 3, 4096), (100, 4096), (4096 * 99, 4096)],
    ids=["longer than the rings", "longer than a page", "no such map", "not at a page", "far beyond"],
)
def test_what_is_no_map_or_longer_than_one_cannot_be_mapped(offset, length, kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    with pytest.raises(DeviceError) as caught:
        node.map(offset, length, writable=True)
    assert caught.value.errno == errno.EINVAL


def test_a_mapping_to_read_refuses_stores_and_shows_what_others_store(kernel):
    uio = kernel.add_device()
    guest = GuestEnd(kernel, uio)
    with guest.node.map(0, 2 * RING, writable=False) as seen:
        with pytest.raises(TypeError):
            seen[0] = 1
        guest.out.control[0] = 0x1234
        assert seen[:2] == b"\x34\x12"
        kernel.send(RELID, b"from the host's process")
        assert b"from the host's process" in seen[RING:]


def test_maps_have_the_sizes_that_sysfs_tells_whatever_they_are(kernel):
    kernel.add_device(map_size=2 * RING + 4096, buffers={"send:3": 5000}, pages=False)
    maps = "sys/class/uio/uio0/maps"
    assert kernel.system.names(maps) == ["map0", "map1"]
    assert [kernel.system.number(f"{maps}/map{number}/size") for number in (0, 1)] == [45056, 5000]
    node = kernel.system.open_node("uio0", writable=True)
    assert len(node.map(0, 45056, writable=True)) == 45056
    assert kernel.report(RELID).is_open, (
        "where no rings are there is no host either, and nothing else is wrong"
    )


# -- interrupts ----------------------------------------------------------------------------------


def test_the_host_interrupts_a_guest_that_sleeps_and_no_other(kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    receiver = guest.receiver()
    seen = []
    for action in (
        lambda: kernel.send(RELID, b"ends the emptiness"),
        lambda: kernel.send(RELID, b"the second"),
        lambda: receiver.receive_many() and kernel.send(RELID, b"empty again"),
        lambda: receiver.receive_many() and receiver.set_interrupt_mask(True),
        lambda: kernel.send(RELID, b"masked"),
    ):
        action()
        seen.append(kernel.report(RELID).interrupts)
    assert seen == [1, 1, 2, 2, 2]


def test_the_host_interrupts_a_guest_once_when_it_has_made_the_room_that_was_asked_for(kernel):
    guest = GuestEnd(kernel, kernel.add_device(ring_size=8192), 16384)
    sender = guest.sender()
    kernel.silence(RELID)
    with pytest.raises(RingFull):
        while True:
            sender.send(bytes(1000))
    sender.set_pending_send_size(1024)
    guest.node.write(ON)
    assert kernel.report(RELID).interrupts == 0
    kernel.end_silence(RELID)
    assert (kernel.report(RELID).interrupts, kernel.report(RELID).received) == (1, 3)


def test_a_host_without_room_asks_for_it_and_goes_on_when_it_is_signaled(kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    receiver = guest.receiver()
    kernel.flood(RELID, 100, 1000)
    report = kernel.report(RELID)
    assert report.sent < 100
    assert guest.back.control[PENDING_SEND_SIZE_WORD] >= 1024
    numbers = []
    while len(numbers) < 100:
        packets, must_signal = receiver.receive_many()
        numbers += [packet.transaction_id for packet in packets]
        assert packets, "the host does not go on"
        assert must_signal or not kernel.report(RELID).waiting
        guest.node.write(ON)
    assert numbers == list(range(100))


@pytest.mark.parametrize("manner", [Manner.ECHO, Manner.COMPLETE])
def test_the_host_answers_in_its_manner(manner, kernel):
    guest = GuestEnd(kernel, kernel.add_device(manner=manner))
    sender, receiver = guest.sender(), guest.receiver()
    sender.send(b"question", 9, completion_requested=True)
    guest.node.write(ON)
    packet, _ = receiver.receive()
    assert (packet.payload, packet.transaction_id) == (b"question", 9)
    assert (packet.type.name == "COMPLETION") == (manner is Manner.COMPLETE)


def test_the_host_sends_packets_of_every_kind(kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    receiver = guest.receiver()
    kernel.send(RELID, b"plain", 1, completion_requested=True)
    kernel.complete(RELID, 2, b"done")
    kernel.send_transfer_pages(RELID, 7, [TransferPageRange(8, 16)], b"message!")
    kernel.send_packet(RELID, OutgoingPacket.in_band(0))
    packets, _ = receiver.receive_many()
    assert [packet.type.name for packet in packets] == ["IN_BAND", "COMPLETION", "TRANSFER_PAGES", "IN_BAND"]
    assert packets[2].ranges == (TransferPageRange(8, 16),)


def test_what_a_guest_writes_wrong_is_reported_and_ends_nothing(kernel):
    guest = GuestEnd(kernel, kernel.add_device())
    guest.out.control[0] = 12
    guest.node.write(ON)
    assert "in is 0x000c" in kernel.report(RELID).fault


# -- subchannels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "masked", "signals"),
    [(LATE, 0, 1), (OLD, 1, 0), (MASKS_ALL, 1, 1), (PRIMARY_ONLY, 0, 0)],
    ids=["late", "old", "masks all", "primary only"],
    indirect=["kernel"],
)
def test_a_subchannel_is_opened_with_its_offer_and_writes_reach_it_in_some_kernels(masked, signals, kernel):
    node = kernel.system.open_node(kernel.add_device("network"), writable=True)
    sub = kernel.offer_subchannel(RELID, 1, ring_size=RING)
    place = f"sys/bus/vmbus/devices/{INSTANCE}/channels/{sub}/ring"
    with kernel.system.map_file(place, 2 * RING, writable=True) as rings:
        inbound = memoryview(rings)[RING:]
        assert inbound[8] == masked
        inbound[8] = 1
        node.write(ON)
        assert inbound[8] == 1 - signals
        inbound.release()
    assert kernel.report(sub).hypercalls == signals
    assert kernel.report(RELID).hypercalls == 1


def test_an_interrupt_of_a_subchannel_is_counted_with_those_of_its_device(kernel):
    node = kernel.system.open_node(kernel.add_device("network"), writable=True)
    sub = kernel.offer_subchannel(RELID, 1, ring_size=RING)
    kernel.interrupt(RELID)
    kernel.interrupt(sub)
    assert count_of(node) == 2
    assert [kernel.report(relid).interrupts for relid in (RELID, sub)] == [1, 1]


def test_a_ring_file_may_come_late_and_can_be_mapped_only_while_its_channel_is_open(kernel):
    uio = kernel.add_device("network")
    ring = f"{CHANNEL}/ring"
    with pytest.raises(DeviceError) as caught:
        kernel.system.map_file(ring, 4096, writable=False)
    assert caught.value.errno == errno.ENODEV
    node = kernel.system.open_node(uio, writable=True)
    kernel.system.map_file(ring, 4096, writable=False).close()
    sub = kernel.offer_subchannel(RELID, 1, ring_file=False)
    late = f"sys/bus/vmbus/devices/{INSTANCE}/channels/{sub}/ring"
    assert kernel.system.file_size(late) is None
    kernel.show_ring(sub)
    assert kernel.system.file_size(late) == 4 << 20
    kernel.system.map_file(late, 4 << 20, writable=True).close()
    node.close()
    with pytest.raises(DeviceError) as caught:
        kernel.system.map_file(late, 4096, writable=False)
    assert caught.value.errno == errno.ENODEV


# -- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unregister", "of_writes"), [(False, errno.EIO), (True, errno.EINVAL)])
def test_after_the_revocation_every_read_and_write_fails_and_the_descriptor_stays_readable(
    unregister, of_writes, kernel
):
    uio = kernel.add_device()
    nodes = [kernel.system.open_node(uio, writable=True) for _ in range(2)]
    kernel.revoke(RELID, unregister=unregister)
    for node in [*nodes, *nodes]:
        assert is_readable(node)
        with refused(errno.EIO):
            node.read(4)
        with refused(of_writes):
            node.write(ON)
        assert is_readable(node)


def test_a_device_that_is_gone_has_no_files_and_no_node(kernel):
    uio = kernel.add_device()
    guest = GuestEnd(kernel, uio)
    kernel.revoke(RELID)
    assert find_devices(kernel.system) == []
    with pytest.raises(DeviceError) as caught:
        kernel.system.open_node(uio, writable=True)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(RingEmpty):  # what was mapped is still mapped
        guest.receiver().receive()
    guest.node.close()


def test_kernels_run_one_after_another_in_a_process_that_leaves_nothing_behind(tmp_path):
    before = open_descriptors()
    with Machine() as machine:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            with machine.boot(folder, OLD) as kernel:
                node = kernel.system.open_node(kernel.add_device(), writable=True)
                assert isinstance(node.map(0, 4096, writable=True), mmap.mmap)
            descriptors = Path(f"/proc/{machine.process}/fd")
            assert len(list(descriptors.iterdir())) == 4, "its own end, and where it prints"
            mapped = Path(f"/proc/{machine.process}/maps").read_text(encoding="utf-8")
            assert str(folder) not in mapped
    with pytest.raises(ProcessLookupError):
        os.kill(machine.process, 0)
    machine.close()
    assert_no_more_than(before)
