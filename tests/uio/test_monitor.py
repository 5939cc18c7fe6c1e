"""Every channel has one doorbell that its host hears, and it is that one which is rung."""

from __future__ import annotations

import errno
import mmap
import os
import struct

import pytest

from tests.known_bugs import known_bug
from tests.memory.children import in_child
from tests.memory.test_atomic_words import cut_off_mapping, needs_futex
from vmbus.errors import CallerError, DeviceError
from vmbus.uio import GuestChannel, InterruptDoorbell, MonitorDoorbell, doorbell_of, monitor


class WrittenNode:
    """A node that only takes note of what is written, or refuses it."""

    def __init__(self, refusal: int | None = None) -> None:
        self.written: list[bytes] = []
        self.refusal = refusal

    def write(self, data: bytes) -> int:
        self.written.append(data)
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return len(data)

    def __repr__(self) -> str:
        return "<WrittenNode: /dev/uio9>"


def channel_of(relid: int, monitor_id: int | None) -> GuestChannel:
    return GuestChannel(**{**dict.fromkeys(GuestChannel._fields), "relid": relid, "monitor_id": monitor_id})


def pages() -> tuple[mmap.mmap, mmap.mmap]:
    return mmap.mmap(-1, 4096), mmap.mmap(-1, 4096)


def bits_of(page: mmap.mmap) -> set[int]:
    """The numbers of the bits that are set in a page."""
    number = int.from_bytes(page, "little")
    return {bit for bit in range(8 * 4096) if number >> bit & 1} if number else set()


# -- writing to the device ---------------------------------------------------------------------


def test_an_interrupt_is_one_write_of_the_number_1():
    node = WrittenNode()
    bell = InterruptDoorbell(node)
    bell.ring()
    bell.ring()
    assert node.written == 2 * [struct.pack("=i", 1)]
    assert repr(bell) == "<InterruptDoorbell: <WrittenNode: /dev/uio9>>"


@pytest.mark.parametrize("answer", [errno.EIO, errno.ENODEV, errno.EINVAL], ids=errno.errorcode.get)
def test_a_device_that_is_gone_is_not_told_and_that_is_no_error(answer):
    node = WrittenNode(answer)
    InterruptDoorbell(node).ring()
    assert len(node.written) == 1


@pytest.mark.parametrize("answer", [errno.EBADF, errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_host_that_could_not_be_told_is_a_device_error(answer):
    """Such as a node that was opened to be read only: its host would sleep for ever."""
    with pytest.raises(DeviceError, match=r"/dev/uio9.*cannot signal the host") as caught:
        InterruptDoorbell(WrittenNode(answer)).ring()
    assert caught.value.errno == answer


def test_a_closed_doorbell_writes_nothing():
    node = WrittenNode()
    bell = InterruptDoorbell(node)
    bell.close()
    bell.close()
    bell.ring()
    assert node.written == []
    assert repr(bell) == "<InterruptDoorbell: closed>"


# -- the monitor page --------------------------------------------------------------------------


@needs_futex
@pytest.mark.parametrize(
    ("monitor_id", "relid", "in_monitor_page", "in_interrupt_page"),
    [
        (0, 0, 8 * 8, 8 * 2048),
        (31, 14, 8 * 8 + 31, 8 * 2048 + 14),
        (32, 33, 8 * 16, 8 * 2048 + 33),
        (127, 16383, 8 * 32 + 31, 8 * 4096 - 1),
    ],
)
def test_a_monitored_channel_sets_its_bit_in_both_pages(
    monitor_id, relid, in_monitor_page, in_interrupt_page
):
    monitor_page, interrupt_page = pages()
    bell = MonitorDoorbell(monitor_page, interrupt_page, monitor_id=monitor_id, relid=relid)
    assert bits_of(monitor_page) == bits_of(interrupt_page) == set()
    for _ in range(2):
        bell.ring()
        assert bits_of(monitor_page) == {in_monitor_page}
        assert bits_of(interrupt_page) == {in_interrupt_page}


@needs_futex
def test_doorbells_leave_the_bits_of_other_channels_alone():
    monitor_page, interrupt_page = pages()
    monitor_page[8:16] = bytes([0x80, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF])
    interrupt_page[2048:2052] = bytes([1, 0, 0, 0x80])
    MonitorDoorbell(monitor_page, interrupt_page, monitor_id=1, relid=2).ring()
    MonitorDoorbell(monitor_page, interrupt_page, monitor_id=2, relid=3).ring()
    assert monitor_page[8:16] == bytes([0x86, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF])
    assert interrupt_page[2048:2052] == bytes([0b1101, 0, 0, 0x80])


def test_the_channels_bit_is_set_before_the_monitors(monkeypatch):
    """Whoever finds the monitor's bit looks for the channel at once."""
    rung = []

    class Bit:
        def __init__(self, page: str, offset: int, bit: int) -> None:
            self.page = page

        def set(self) -> None:
            rung.append(self.page)

    monkeypatch.setattr(monitor, "AtomicBit", Bit)
    MonitorDoorbell("monitor page", "interrupt page", monitor_id=0, relid=1).ring()
    assert rung == ["interrupt page", "monitor page"]


@needs_futex
def test_pages_that_are_gone_end_neither_the_ring_nor_the_process():
    def ring() -> None:
        here = mmap.mmap(-1, 4096)
        MonitorDoorbell(cut_off_mapping(), here, monitor_id=3, relid=5).ring()
        assert bits_of(here) == {8 * 2048 + 5}
        here = mmap.mmap(-1, 4096)
        MonitorDoorbell(here, cut_off_mapping(), monitor_id=3, relid=5).ring()
        assert bits_of(here) == {8 * 8 + 3}

    assert in_child(ring) == 0


def test_any_other_refusal_is_told(monkeypatch):
    class Refusing:
        def __init__(self, *place: object) -> None:
            pass

        def set(self) -> None:
            raise DeviceError(errno.EPERM, "forbidden")

    monkeypatch.setattr(monitor, "AtomicBit", Refusing)
    with pytest.raises(DeviceError, match="forbidden"):
        MonitorDoorbell(b"", b"", monitor_id=0, relid=1).ring()


@needs_futex
def test_pages_can_be_closed_behind_their_doorbell_which_then_rings_no_more():
    monitor_page, interrupt_page = pages()
    bell = MonitorDoorbell(monitor_page, interrupt_page, monitor_id=3, relid=5)
    assert repr(bell) == "<MonitorDoorbell: monitor 3 of channel 5>"
    for page in (monitor_page, interrupt_page):
        with pytest.raises(BufferError):
            page.close()
    bits = bell._bits
    bell.close()
    bell.close()
    monitor_page.close()
    interrupt_page.close()
    bell.ring()
    assert repr(bell) == "<MonitorDoorbell: monitor 3 of channel 5, closed>"
    bell._bits = bits  # as another thread has them that is in the middle of a ring
    bell.ring()


@pytest.mark.parametrize(("monitor_id", "relid"), [(128, 1), (-1, 1), (1, 16384)])
def test_numbers_that_no_channel_has_are_refused(monitor_id, relid):
    with pytest.raises(CallerError):
        MonitorDoorbell(*pages(), monitor_id=monitor_id, relid=relid)


# -- which of the two --------------------------------------------------------------------------


@needs_futex
@known_bug("B23")
@pytest.mark.parametrize("monitor_id", [0, 5])
def test_a_monitored_channel_is_never_signaled_through_the_device(monitor_id):
    node = WrittenNode()
    monitor_page, interrupt_page = pages()
    bell = doorbell_of(
        channel_of(14, monitor_id), node, monitor_page=monitor_page, interrupt_page=interrupt_page
    )
    bell.ring()
    assert bits_of(monitor_page) == {8 * 8 + monitor_id}
    assert bits_of(interrupt_page) == {8 * 2048 + 14}
    assert node.written == []


@known_bug("B23")
def test_a_channel_without_a_monitor_is_signaled_through_the_device_and_the_pages_stay():
    node = WrittenNode()
    monitor_page, interrupt_page = pages()
    doorbell_of(channel_of(14, None), node, monitor_page=monitor_page, interrupt_page=interrupt_page).ring()
    doorbell_of(channel_of(15, None), node).ring()
    assert node.written == 2 * [struct.pack("=i", 1)]
    assert bits_of(monitor_page) == bits_of(interrupt_page) == set()


@pytest.mark.parametrize("given", ["monitor_page", "interrupt_page", None])
def test_a_monitored_channel_without_its_pages_is_refused(given):
    maps = {given: bytearray(4096)} if given else {}
    missing = "interrupt_page" if given == "monitor_page" else "monitor_page"
    with pytest.raises(CallerError, match=rf"channel 14 is monitored \(monitor 0\).*{missing}") as caught:
        doorbell_of(channel_of(14, 0), WrittenNode(), **maps)
    assert caught.value.argument == missing
