"""A guest's network device as a stack sees it: staging, tokens, metering, back-pressure.

Sources: smolvm smolvm-network, VirtioNetworkDevice; smoltcp src/phy/mod.rs.
"""

from __future__ import annotations

import pytest

from vmbus.errors import CallerError
from vmbus.virtio import (
    ChecksumCapabilities,
    ChecksumWork,
    DeviceCapabilities,
    Medium,
    NetworkFrameQueues,
    VirtioNetworkDevice,
)


@pytest.fixture
def queues():
    return NetworkFrameQueues.shared(4)


@pytest.fixture
def device(queues):
    return VirtioNetworkDevice.new(queues, 1500)


def from_guest(queues, *frames):
    for frame in frames:
        assert queues.guest_to_host.push(frame) is None


def same(frame):
    return frame


# -- new(queues, mtu) --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [VirtioNetworkDevice, VirtioNetworkDevice.new])
def test_a_new_device_has_nothing_staged_and_has_emitted_nothing(make, queues):
    from_guest(queues, b"frame")
    device = make(queues, 9000)
    assert (device.mtu, device.staged_frame, device.frames_emitted) == (9000, None, False)
    assert device.queues is queues
    assert len(queues.guest_to_host) == 1


def test_the_mtu_is_1500_unless_told(queues):
    assert VirtioNetworkDevice(queues).mtu == 1500


def test_an_mtu_of_0_is_refused(queues):
    with pytest.raises(CallerError) as caught:
        VirtioNetworkDevice(queues, 0)
    assert (caught.value.argument, caught.value.value) == ("mtu", 0)


# -- stage_next_frame() ------------------------------------------------------------------------


def test_staging_takes_one_frame_of_the_guest(device, queues):
    from_guest(queues, b"one", b"two")
    assert device.stage_next_frame() == b"one"
    assert len(queues.guest_to_host) == 1


def test_staging_twice_gives_the_same_frame(device, queues):
    from_guest(queues, b"one", b"two")
    first = device.stage_next_frame()
    assert device.stage_next_frame() is first
    assert len(queues.guest_to_host) == 1


def test_staging_with_nothing_there_gives_none(device):
    assert device.stage_next_frame() is None


def test_an_empty_frame_can_be_staged_too(device, queues):
    from_guest(queues, b"", b"two")
    assert [device.stage_next_frame(), device.stage_next_frame()] == [b"", b""]
    assert device.receive(0) is not None


# -- drop_staged_frame() -----------------------------------------------------------------------


def test_dropping_forgets_the_staged_frame_and_again_is_harmless(device, queues):
    from_guest(queues, b"one", b"two")
    device.stage_next_frame()
    assert device.drop_staged_frame() is True
    assert device.drop_staged_frame() is False
    assert device.receive(0) is None
    assert device.stage_next_frame() == b"two"


def test_dropping_is_not_metered(device, queues):  # 100 bytes, stage, drop: counter unchanged
    from_guest(queues, bytes(100))
    device.stage_next_frame()
    device.drop_staged_frame()
    assert queues.egress_bytes() == 0


# -- receive(now) ------------------------------------------------------------------------------


def test_receive_takes_the_staged_frame_only(device, queues):
    from_guest(queues, b"one")
    assert device.receive(0) is None
    assert len(queues.guest_to_host) == 1
    device.stage_next_frame()
    rx, _ = device.receive(0)
    assert rx.consume(same) == b"one"
    assert device.staged_frame is None
    assert device.receive(0) is None


def test_a_received_frame_counts_as_egress_at_once(device, queues):  # 100, then 140
    from_guest(queues, bytes(100), bytes(40))
    device.stage_next_frame()
    assert queues.egress_bytes() == 0
    device.receive(0)
    assert queues.egress_bytes() == 100
    device.stage_next_frame()
    device.receive(0)
    assert queues.egress_bytes() == 140


def test_a_token_that_is_never_consumed_is_still_counted(device, queues):
    from_guest(queues, bytes(60))
    device.stage_next_frame()
    tokens = device.receive(0)
    del tokens
    assert queues.egress_bytes() == 60


def test_consuming_counts_nothing_more(device, queues):
    from_guest(queues, bytes(60))
    device.stage_next_frame()
    rx, tx = device.receive(0)
    rx.consume(len)
    tx.consume(10, len)
    assert queues.egress_bytes() == 60


def test_receive_gives_both_tokens_even_when_the_way_back_is_full(device, queues):
    for _ in range(4):
        queues.host_to_guest.push(b"full")
    from_guest(queues, b"ping")
    device.stage_next_frame()
    rx, tx = device.receive(0)
    assert rx.consume(same) == b"ping"
    assert tx.consume(4, lambda frame: "result") == "result"
    assert [queues.host_to_guest.pop() for _ in range(5)] == [b"full"] * 4 + [None]
    assert (device.frames_emitted, device.frames_lost) == (False, 1)


# -- transmit(now) -----------------------------------------------------------------------------


def test_transmit_is_refused_while_the_way_to_the_guest_is_full(device, queues):
    for sent in range(4):
        assert len(queues.host_to_guest) == sent
        device.transmit(0).consume(1, len)
    assert device.transmit(0) is None
    queues.host_to_guest.pop()
    assert device.transmit(0) is not None


def test_transmit_needs_nothing_staged_and_takes_nothing(device, queues):
    from_guest(queues, b"one")
    assert device.transmit(0) is not None
    assert len(queues.guest_to_host) == 1 and queues.egress_bytes() == 0


# -- capabilities() ----------------------------------------------------------------------------


@pytest.mark.parametrize(("mtu", "unit"), [(1500, 1514), (9000, 9014)])
def test_a_frame_is_as_long_as_the_mtu_and_an_ethernet_header(queues, mtu, unit):
    both = ChecksumCapabilities(*[ChecksumWork.BOTH] * 5)
    expected = DeviceCapabilities(Medium.ETHERNET, unit, None, both)
    assert VirtioNetworkDevice(queues, mtu).capabilities() == expected


# -- rx token ----------------------------------------------------------------------------------


def test_an_rx_token_gives_the_frame_once(device, queues):
    from_guest(queues, b"frame")
    device.stage_next_frame()
    rx, _ = device.receive(0)
    assert rx.consume(bytes.upper) == b"FRAME"
    with pytest.raises(CallerError, match="receive token has been consumed"):
        rx.consume(same)


def test_an_rx_token_is_gone_when_the_look_at_it_raises(device, queues):
    from_guest(queues, b"frame")
    device.stage_next_frame()
    rx, _ = device.receive(0)
    with pytest.raises(ZeroDivisionError):
        rx.consume(lambda frame: 1 // 0)
    with pytest.raises(CallerError):
        rx.consume(same)


def test_later_staging_does_not_change_a_token(device, queues):
    from_guest(queues, b"one", b"two")
    device.stage_next_frame()
    rx, _ = device.receive(0)
    device.stage_next_frame()
    assert rx.consume(same) == b"one"
    assert device.staged_frame == b"two"


# -- tx token ----------------------------------------------------------------------------------


def test_a_tx_token_hands_out_zeros_and_sends_what_was_filled_in(device, queues):
    def fill(frame):
        assert bytes(frame) == bytes(8)
        frame[:3] = b"abc"
        return "result"

    assert device.transmit(0).consume(8, fill) == "result"
    sent = queues.host_to_guest.pop()
    assert sent == b"abc" + bytes(5) and type(sent) is bytes


def test_what_is_written_afterwards_is_not_sent(device, queues):
    kept = device.transmit(0).consume(3, same)
    kept[:] = b"xyz"
    assert queues.host_to_guest.pop() == bytes(3)


def test_a_tx_token_sends_once(device, queues):
    token = device.transmit(0)
    token.consume(3, len)
    with pytest.raises(CallerError, match="transmit token has been consumed"):
        token.consume(3, len)
    assert len(queues.host_to_guest) == 1


def test_a_fill_that_raises_sends_nothing_and_uses_the_token_up(device, queues):
    token = device.transmit(0)
    with pytest.raises(ZeroDivisionError):
        token.consume(3, lambda frame: 1 // 0)
    assert len(queues.host_to_guest) == 0 and device.frames_emitted is False
    with pytest.raises(CallerError):
        token.consume(3, len)


def test_a_token_from_before_the_queue_was_full_loses_its_frame_and_gives_the_result(device, queues):
    early = device.transmit(0)
    for _ in range(4):
        queues.host_to_guest.push(b"full")
    assert early.consume(3, lambda frame: 17) == 17
    assert (device.frames_lost, device.frames_emitted, len(queues.host_to_guest)) == (1, False, 4)


def test_frames_emitted_is_set_by_success_and_cleared_by_the_look(device):
    device.transmit(0).consume(3, len)
    assert device.frames_emitted is True
    assert device.frames_emitted is True
    assert device.take_frames_emitted() is True
    assert device.take_frames_emitted() is False
    assert device.frames_emitted is False


@pytest.mark.parametrize("length", [0, 1514, 1515, 70000])
def test_no_length_is_checked_against_the_mtu(device, queues, length):
    device.transmit(0).consume(length, len)
    assert queues.host_to_guest.pop() == bytes(length)


def test_a_negative_length_is_refused(device, queues):
    with pytest.raises(CallerError) as caught:
        device.transmit(0).consume(-1, len)
    assert (caught.value.argument, caught.value.value) == ("length", -1)
    assert len(queues.host_to_guest) == 0
