"""Watching a channel that somebody else uses."""

from __future__ import annotations

import os

import pytest

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE, Running
from tests.memory.children import in_child
from tests.uio.guest_tree import GuestTree
from tests.uio.kernel import RELID
from tests.uio.live_rings import add_live_device
from vmbus.channel import MessageChannel
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
        before = bytes(observer._rings.inbound.control), bytes(observer._rings.outbound.control)
        for _ in range(2):
            (packet,) = observer.look().inbound.packets()
            assert (packet.transaction_id, packet.payload) == (7, b"to the guest\0\0\0\0")
        assert observer.look().outbound.packets() == []
        assert (bytes(observer._rings.inbound.control), bytes(observer._rings.outbound.control)) == before
        with pytest.raises(CallerError):
            OutgoingRing(observer._rings.outbound)
        assert observer._rings.inbound.control.readonly and observer._rings.outbound.control.readonly
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


def test_a_channel_that_its_user_has_closed_is_not_opened_again_to_listen(kernel):
    kernel.add_device()
    with UioDevice("file-copy", root=kernel.system) as device, device.open_channel():
        observer = observer_of(kernel)
    opened = len(kernel.system.nodes)
    with observer:
        for call in (lambda: observer.wait(0), observer.look):
            with pytest.raises(PeerClosed, match="is not open any more"):
                call()
    assert len(kernel.system.nodes) == opened


def test_memory_that_was_given_to_somebody_else_is_not_looked_at(kernel, user):
    with observer_of(kernel) as observer:
        kernel.revoke(RELID)
        kernel.reuse_memory(RELID)
        with pytest.raises(PeerClosed):
            observer.look()


def test_a_closed_observer_opens_nothing_and_says_so(kernel, user):
    observer = observer_of(kernel)
    observer.close()
    observer.close()
    opened = len(kernel.system.nodes)
    for call in (observer.wait, observer.look):
        with pytest.raises(CallerError, match="closed"):
            call()
    assert len(kernel.system.nodes) == opened


def test_what_only_a_channel_has_is_refused_of_an_observer(kernel, user):
    with pytest.raises(CallerError, match="leave out MessageChannel, spin"):
        open_channel("file-copy", MessageChannel, root=kernel.system, read_only=True, spin=1)


def test_what_was_seen_is_shown_in_a_line(kernel, user):
    with observer_of(kernel) as observer:
        assert len(repr(observer.look())) < 250


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


def test_memory_that_is_taken_away_is_an_error_and_not_the_end_of_the_process(tmp_path):
    tree = GuestTree(tmp_path / "root")
    node = add_live_device(tree)

    def look():
        with open_channel("uio0", root=tree.root, read_only=True) as observer:
            assert [packet.payload for packet in observer.look().outbound.packets()] == [
                b"asked...",
                b"answered",
            ]
            os.truncate(node, 0)
            with pytest.raises(PeerClosed, match="is not open any more"):
                observer.look()

    assert in_child(look) == 0


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_closing_ends_the_waits_of_other_threads(timeout, kernel, user):
    observer = observer_of(kernel)
    assert observer.wait(0) is False
    waiting = [Running(observer.wait, timeout) for _ in range(3)]
    observer.close()
    for one in waiting:
        with pytest.raises(CallerError, match="this observer is closed"):
            one.result(patience=3)


def test_an_interrupt_between_two_waits_is_not_missed_and_ends_all_that_wait(kernel, user):
    with observer_of(kernel) as observer:
        assert observer.wait(0) is False
        kernel.interrupt(RELID)
        assert observer.wait(PATIENCE)
        assert observer.wait(0) is False
        waiting = [Running(observer.wait, PATIENCE) for _ in range(3)]
        kernel.interrupt(RELID)
        assert any(one.result() for one in waiting)
