"""Opening a device and its channels, with a double of the kernel: sizes, what comes late, what is refused."""

from __future__ import annotations

import errno

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE, Running
from tests.known_bugs import known_bug
from tests.uio.kernel import INSTANCE, LATE, OLD, PAGES_64K, RELID, RING_SIZE, Manner
from tests.uio.stand_in_node import StandInSystem
from vmbus.errors import CallerError, DeviceError, PeerClosed
from vmbus.layout import FEATURE_BITS_WORD
from vmbus.uio import UioDevice, find_devices, open_channel

pytestmark = needs_linux

both_ages = pytest.mark.parametrize("kernel", [LATE, OLD], ids=["late", "old"], indirect=True)

CHANNEL = f"sys/bus/vmbus/devices/{INSTANCE}/channels/{RELID}"


def opened(kernel, uio="uio0", **options):
    return UioDevice(uio, root=kernel.system, **{"timeout": PATIENCE, **options})


def refused(number, match=""):
    """DeviceError with that errno."""
    return pytest.raises(DeviceError, match=rf"(?s)\[Errno {number}\].*{match}")


def echoes(channel):
    channel.send(b"there and back again")
    return channel.receive(timeout=PATIENCE).payload.rstrip(b"\0") == b"there and back again"


# -- sizes ---------------------------------------------------------------------------------------


@known_bug("B38", "B35", "B34")
@pytest.mark.parametrize(
    ("kernel", "ring_size"),
    [
        (LATE, 8192),
        (LATE, 5 * 4096),
        (OLD, 16384),
        (LATE, 17 * 4096),
        (LATE, 2 << 20),
        (PAGES_64K, 2 * 65536),
        (PAGES_64K, 65536 + 4096),
        (PAGES_64K, 2 << 20),
    ],
    indirect=["kernel"],
)
def test_rings_are_as_long_as_the_map_says_behind_a_page_of_the_kernel(kernel, ring_size):
    kernel.add_device(ring_size=ring_size, manner=Manner.ECHO)
    with opened(kernel) as device, device.open_channel() as channel:
        size = ring_size - kernel.age.page_size
        assert (channel.outgoing.size, channel.incoming.size) == (size, size)
        assert echoes(channel)


@known_bug("B39", "B35")
@pytest.mark.parametrize("kernel", [LATE, PAGES_64K], indirect=True)
def test_the_inbound_ring_lies_behind_the_outbound_one_and_each_has_its_own_bytes(kernel):
    page = kernel.age.page_size
    uio = kernel.add_device(ring_size=3 * page)
    with opened(kernel) as device, device.open_channel() as channel:
        node = kernel.system.open_node(uio, writable=False)
        with node.map(0, 6 * page, writable=False) as seen:
            for number, ring in enumerate((channel.outgoing, channel.incoming)):
                ring.memory.write_at(0, bytes([1 + number]) * ring.size)
            assert bytes(seen[page : 3 * page]) == b"\1" * 2 * page
            assert bytes(seen[4 * page :]) == b"\2" * 2 * page


@known_bug("B38", "B34")
@pytest.mark.parametrize(
    ("kernel", "map_size"),
    [
        (LATE, 2 * RING_SIZE + 4096),
        (LATE, 2 * RING_SIZE + 2),
        (LATE, 8192),
        (LATE, 4096),
        (PAGES_64K, 2 * 24576),
        (PAGES_64K, 2 * 65536),
        (PAGES_64K, 3 * 65536 + 4096),
    ],
    indirect=["kernel"],
)
def test_a_map_that_holds_no_two_rings_is_refused_before_anything_is_stored(kernel, map_size):
    uio = kernel.add_device(map_size=map_size)
    node = kernel.system.open_node(uio, writable=False)
    with node.map(0, map_size, writable=False) as seen, opened(kernel, alone=False) as device:
        before = bytes(seen)
        with refused(errno.EINVAL, f"has {map_size} bytes, which are no two rings"):
            device.open_channel()
        assert bytes(seen) == before
    node.close()
    assert not kernel.report(RELID).is_open


@known_bug("B38")
@pytest.mark.parametrize("ring_size", [8192, 5 * 4096, 2 << 20])
def test_rings_of_a_subchannel_are_as_long_as_its_file_says(ring_size, kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=ring_size, manner=Manner.ECHO)
        with device.open_channel(relid=sub) as channel:
            assert channel.incoming.size == ring_size - 4096
            assert echoes(channel)
        assert [one.relid for one in device.channels()] == [RELID, sub]


@known_bug("B23")
def test_a_monitored_channel_without_the_maps_that_signal_it_is_refused(kernel):
    kernel.add_device(monitor_id=5, pages=False)
    with opened(kernel) as device, refused(errno.ENODEV, "no map monitor_page; the kernel offers txrx_rings"):
        device.open_channel()


def test_a_map_that_does_not_begin_with_a_page_is_refused(kernel):
    uio = kernel.add_device()
    (kernel.root / "sys/class/uio" / uio / "maps/map0/offset").write_text("0x10\n")
    with opened(kernel) as device, refused(errno.EINVAL, "begins 0x10 into a page"):
        device.open_channel()


def test_a_ring_file_that_holds_no_two_rings_is_refused(kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=6144)
        with refused(errno.EINVAL, "has 12288 bytes"):
            device.open_channel(relid=sub)


# -- what comes late -----------------------------------------------------------------------------


@known_bug("B66")
def test_a_node_that_cannot_be_opened_yet_is_waited_for(kernel):
    kernel.refuse_opens(kernel.add_device(manner=Manner.ECHO), errno.ENOENT, errno.ENXIO, errno.ENODEV)
    with opened(kernel) as device, device.open_channel() as channel:
        assert echoes(channel)


@known_bug("B66")
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENXIO, errno.EACCES])
def test_a_node_that_cannot_be_opened_at_all_is_the_error_that_the_kernel_gave(number, kernel):
    kernel.refuse_opens(kernel.add_device(), *[number] * 50)
    with refused(number, "uio0"):
        opened(kernel, timeout=0)


@known_bug("B66")
def test_a_device_whose_node_is_announced_late_is_waited_for(kernel, monkeypatch):
    kernel.add_device(manner=Manner.ECHO)
    looks = []

    def names(self, place):
        if place.endswith("/uio"):
            looks.append(place)
            if len(looks) < 4:
                return []
        return super(StandInSystem, self).names(place)

    monkeypatch.setattr(StandInSystem, "names", names)
    with opened(kernel, INSTANCE) as device, device.open_channel() as channel:
        assert echoes(channel)


@known_bug("B66")
def test_a_device_that_is_offered_again_can_be_opened_again(kernel):
    for _ in range(2):
        uio = kernel.add_device(manner=Manner.ECHO)
        with opened(kernel, INSTANCE) as device, device.open_channel() as channel:
            assert device.uio == uio
            assert echoes(channel)
            kernel.revoke(RELID)
            with pytest.raises(PeerClosed):
                channel.receive(timeout=PATIENCE)


@known_bug("B50")
@both_ages
def test_rings_are_left_alone_until_the_channel_is_open(kernel):
    uio = kernel.add_device(manner=Manner.ECHO)
    kernel.begin_opening(RELID, looks=8)
    with opened(kernel, uio, alone=False) as device, device.open_channel() as channel:
        # Had it begun earlier, the kernel would have taken back what it stored.
        assert kernel.report(RELID).is_open
        assert echoes(channel)
        assert channel.outgoing.memory.control[FEATURE_BITS_WORD] == 1
    kernel.end_opening(RELID)


@known_bug("B50")
def test_a_channel_that_does_not_open_in_time_is_refused_and_nothing_is_stored(kernel):
    uio = kernel.add_device()
    kernel.begin_opening(RELID, looks=1000)
    with opened(kernel, uio, alone=False) as device:
        node = kernel.system.open_node(uio, writable=False)
        with node.map(0, 2 * RING_SIZE, writable=False) as seen:
            with refused(errno.ETIMEDOUT, "channel 14 is not open"):
                device.open_channel(timeout=0)
            assert bytes(seen) == bytes(2 * RING_SIZE)


@both_ages
def test_a_ring_file_that_comes_late_is_waited_for(kernel, monkeypatch):
    kernel.add_device("network")
    looks = []
    file_size = StandInSystem.file_size

    def size(self, place):
        if place.endswith("/15/ring"):
            looks.append(place)
            if len(looks) == 4:
                kernel.show_ring(15)
        return file_size(self, place)

    monkeypatch.setattr(StandInSystem, "file_size", size)
    with opened(kernel) as device:
        sub = kernel.offer_subchannel(RELID, 1, ring_size=8192, ring_file=False)
        with device.open_channel(relid=sub) as channel:
            kernel.send(sub, b"at last")
            assert channel.receive(timeout=PATIENCE).payload == b"at last\0"


def test_a_subchannel_that_is_offered_later_is_waited_for(kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        opening = Running(device.open_channel, relid=RELID + 1, timeout=PATIENCE)
        kernel.offer_subchannel(RELID, 1, ring_size=8192)
        assert opening.result().incoming.size == 4096


@pytest.mark.parametrize(("relid", "number"), [(15, errno.ENOENT), (99, errno.ETIMEDOUT)])
def test_what_does_not_come_in_time_is_an_error_that_says_so(relid, number, kernel):
    kernel.add_device("network")
    with opened(kernel) as device:
        kernel.offer_subchannel(RELID, 1, ring_file=False)
        with refused(number):
            device.open_channel(relid=relid, timeout=0)


# -- looking at what comes and goes --------------------------------------------------------------


def test_a_device_that_is_removed_while_devices_are_listed_is_left_out(kernel):
    kernel.add_device()
    other = "00000000-1111-2222-3333-444444444444"
    kernel.add_device("network", other, 20)

    class Removing(StandInSystem):
        def names(self, place):
            listed = super().names(place)
            if place.endswith("/devices") and other in listed:
                kernel.revoke(20)
            return listed

    system = Removing(kernel.system._caller, kernel.system.root, 4096)
    assert [device.id for device in find_devices(system)] == [RELID]


def test_a_device_that_is_removed_while_it_is_opened_is_an_error_of_the_system(kernel, monkeypatch):
    kernel.add_device()
    with opened(kernel) as device:
        kernel.revoke(RELID)
        with refused(errno.ETIMEDOUT):
            device.open_channel(timeout=0)
        assert device.channels() == ()


# -- who may ---------------------------------------------------------------------------------------


def test_a_device_that_another_process_has_open_is_refused_unless_it_is_asked_for(kernel):
    uio = kernel.add_device()
    node = kernel.system.open_node(uio, writable=True)
    with refused(errno.EBUSY, "somebody has the channel"):
        opened(kernel)
    opened(kernel, alone=False).close()
    assert kernel.report(RELID).is_open
    node.close()


@both_ages
def test_nothing_is_stored_before_a_channel_is_opened(kernel):
    uio = kernel.add_device("network", buffers={"recv:7": 65536})
    node = kernel.system.open_node(uio, writable=False)
    with node.map(0, 2 * RING_SIZE, writable=False) as seen:
        before = bytes(seen)
        with opened(kernel, alone=False) as device:
            assert len(device.buffers.receive.data) == 65536
            assert bytes(seen) == before
    node.close()
    assert kernel.report(RELID)[1:5] == (0, 0, False, 0)


def test_the_receive_buffer_can_only_be_read(kernel):
    kernel.add_device("network", buffers={"recv:7": 65536, "send:8": 4096})
    with opened(kernel) as device:
        assert device.buffers.receive.data.readonly
        device.buffers.send.data[:4] = b"sent"
        with pytest.raises(TypeError):
            device.buffers.receive.data[0] = 1


def test_a_channel_is_opened_once_at_a_time(kernel):
    kernel.add_device()
    with (
        opened(kernel) as device,
        device.open_channel(),
        pytest.raises(CallerError, match="open here already"),
    ):
        device.open_channel()


@pytest.mark.parametrize("step", ["find_device", "open_node", "map"])
def test_a_device_that_could_not_be_opened_is_not_held_open(step, kernel):
    kernel.add_device(map_size={"map": 12288}.get(step, 40960))
    if step == "open_node":
        kernel.refuse_opens("uio0", errno.EACCES)
    with pytest.raises(DeviceError):
        open_channel("uio9" if step == "find_device" else "uio0", root=kernel.system)
    assert not kernel.report(RELID).is_open


def test_closing_a_channel_that_was_opened_in_one_call_closes_the_device(kernel):
    kernel.add_device(manner=Manner.ECHO)
    closed = []
    with open_channel("file-copy", root=kernel.system, on_close=lambda: closed.append(True)) as channel:
        assert echoes(channel)
    assert closed == [True]
    assert not kernel.report(RELID).is_open
