"""Watching a channel that somebody else uses."""

from __future__ import annotations

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE, Running
from tests.uio.kernel import RELID
from vmbus.errors import CallerError, DeviceError, PeerClosed
from vmbus.ring import OutgoingRing
from vmbus.uio import UioDevice, open_channel

pytestmark = needs_linux


@pytest.fixture
def user(kernel):
    """Somebody who uses the file copy device."""
    kernel.add_device()
    with UioDevice("file-copy", root=kernel.system) as device, device.open_channel() as channel:
        yield channel


def observer_of(kernel, **options):
    return open_channel("file-copy", root=kernel.system, read_only=True, **options)


def test_what_waits_is_seen_and_stays_and_nothing_is_stored(kernel, user):
    user.send(b"to the host")
    kernel.await_received(RELID, 1)
    kernel.send(RELID, b"to the guest", 7)
    with observer_of(kernel) as observer:
        before = bytes(observer.inbound.control), bytes(observer.outbound.control)
        for _ in range(2):
            (packet,) = observer.look().inbound.packets()
            assert (packet.transaction_id, packet.payload) == (7, b"to the guest\0\0\0\0")
        assert observer.look().outbound.packets() == []
        assert (bytes(observer.inbound.control), bytes(observer.outbound.control)) == before
        with pytest.raises(CallerError):
            OutgoingRing(observer.outbound)
        assert observer.inbound.control.readonly and observer.outbound.control.readonly
    assert user.receive(timeout=PATIENCE).transaction_id == 7


def test_an_interrupt_wakes_the_observer_and_the_user_alike(kernel, user):
    with observer_of(kernel) as observer:
        assert observer.wait(0) is False
        receiving = Running(user.receive, timeout=PATIENCE)
        kernel.await_unmasked(RELID)
        kernel.send(RELID, b"to both", 1)
        assert observer.wait(PATIENCE)
        assert receiving.result().transaction_id == 1


def test_of_a_channel_that_nobody_has_open_nothing_is_opened(kernel):
    kernel.add_device()
    with pytest.raises(DeviceError, match="is not open"):
        observer_of(kernel, timeout=0)
    assert kernel.system.nodes == []


def test_a_revoked_device_ends_a_wait_and_is_looked_at_no_more(kernel, user):
    with observer_of(kernel) as observer:
        assert observer.wait(0) is False
        waiting = Running(observer.wait, PATIENCE)
        kernel.revoke(RELID)
        with pytest.raises(PeerClosed):
            waiting.result()
        with pytest.raises(PeerClosed):
            observer.look()
        with pytest.raises(PeerClosed):
            observer.wait(0)
