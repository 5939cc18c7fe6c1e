"""Rings of a live device, copied: what is copied, and what is refused.

The device is a folder and a plain file, or has the double of a kernel behind it.
"""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.running import ring_with
from tests.uio.guest_tree import GuestTree
from tests.uio.kernel import LATE, PAGES_64K, RELID
from tests.uio.live_rings import (
    INBOUND,
    INSTANCE,
    OUTBOUND,
    RINGS_SIZE,
    LookingSystem,
    add_live_device,
    add_live_subchannel,
)
from vmbus.errors import CallerError, DeviceError
from vmbus.layout import INTERRUPT_MASK_WORD
from vmbus.uio import snapshot

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="maps files as Linux does")


@pytest.fixture
def tree(tmp_path: Path) -> GuestTree:
    return GuestTree(tmp_path / "root")


# -- what is copied --------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("which", [0, "0", "uio0", "/dev/uio0", INSTANCE, "file-copy"])
def test_a_snapshot_is_both_rings_of_the_primary_channel_byte_for_byte(tree, which):
    node = add_live_device(tree)
    taken = snapshot(which, root=tree.root)
    assert (taken.outbound.content, taken.inbound.content) == (OUTBOUND, INBOUND)
    assert taken.content == node.read_bytes() == OUTBOUND + INBOUND
    assert (taken.device.name, taken.channel.relid, taken.channel.subchannel_id) == ("file-copy", 14, 0)
    for copy, mask in ((taken.outbound, 0), (taken.inbound, 1)):
        assert (copy.header_size, copy.moved, copy.passed) == (4096, (), False)
        assert copy.memory.control[INTERRUPT_MASK_WORD] == mask
        assert copy.memory.control.readonly


@posix_only
def test_a_bare_number_is_that_of_the_node_and_never_a_relid(tree):
    add_live_device(tree)
    add_live_device(
        tree, INBOUND + OUTBOUND, number=14, instance="11111111-2222-3333-4444-555555555555", relid=7
    )
    assert snapshot(14, root=tree.root).channel.relid == 7
    assert snapshot("014", root=tree.root).outbound.content == INBOUND
    assert snapshot(0, root=tree.root).channel.relid == 14
    with pytest.raises(DeviceError, match="no device uio7"):
        snapshot(7, root=tree.root)


@posix_only
@pytest.mark.parametrize("pages", [1, 2, 16, 511])
def test_rings_are_as_long_as_the_map_says(tree, pages):
    outbound = ring_with((6, b"outbound"), data_size=4096 * pages)
    inbound = ring_with((6, b"inbound."), data_size=4096 * pages)
    add_live_device(tree, outbound + inbound)
    taken = snapshot(0, root=tree.root)
    assert (taken.outbound.content, taken.inbound.content) == (outbound, inbound)


@posix_only
@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("place", [0, 2])
def test_data_begins_a_page_of_the_kernel_behind_the_control_page_and_maps_stand_at_pages(
    tree, page_size, place
):
    # Data of 16 KiB, which is no multiple of the largest pages.
    rings = [ring[:4096].ljust(page_size, b"\0") + ring[4096:] for ring in (OUTBOUND, INBOUND)]
    add_live_device(tree, b"".join(rings), place=place, page_size=page_size)
    system = LookingSystem(tree.root, page_size=page_size)
    taken = snapshot(0, root=system)
    assert [taken.outbound.content, taken.inbound.content] == rings
    assert taken.inbound.header_size == page_size
    assert taken.inbound.memory.read_at(16, 8) == b"from the"
    assert system.done == ["open uio0", f"map {place * page_size:#x} {len(b''.join(rings))}", "close uio0"]


@posix_only
def test_what_lies_behind_the_control_words_is_not_copied(tree):
    add_live_device(tree, OUTBOUND[:128] + b"\xff" * 3968 + OUTBOUND[4096:] + INBOUND)
    assert snapshot(0, root=tree.root).outbound.content == OUTBOUND


# -- nothing is opened, and nothing stored ---------------------------------------------------------


@posix_only
@pytest.mark.parametrize("which", [0, "file-copy"])
def test_a_device_that_nobody_has_open_is_not_opened(tree, which):
    node = add_live_device(tree, is_open=False)
    system = LookingSystem(tree.root)
    with pytest.raises(
        CallerError, match=r"nobody has uio0 .* zero .*; even_if_closed=True does that"
    ) as caught:
        snapshot(which, root=system)
    assert (caught.value.argument, caught.value.value) == ("even_if_closed", False)
    assert (system.done, node.read_bytes()) == ([], OUTBOUND + INBOUND)


@posix_only
def test_it_is_opened_when_that_is_asked_for(tree):
    add_live_device(tree, is_open=False)
    system = LookingSystem(tree.root)
    taken = snapshot(0, root=system, even_if_closed=True)
    assert taken.content == OUTBOUND + INBOUND
    assert system.done == ["open uio0", f"map 0x0 {RINGS_SIZE}", "close uio0"]


@posix_only
@pytest.mark.parametrize("even_if_closed", [False, True])
def test_an_open_channel_is_mapped_through_its_ring_file_where_there_is_one(tree, even_if_closed):
    add_live_device(tree, bytes(RINGS_SIZE))
    # Kernels before 2025 say 4 MiB of every such file: as long as the map says is what counts.
    file = tree.device_folder(INSTANCE) / "channels/14/ring"
    file.write_bytes((OUTBOUND + INBOUND).ljust(1 << 20, b"\0"))
    system = LookingSystem(tree.root)
    assert snapshot(0, root=system, even_if_closed=even_if_closed).content == OUTBOUND + INBOUND
    assert system.done == [f"map 14/ring {RINGS_SIZE}"]


@posix_only
def test_a_channel_that_is_closed_just_then_is_not_opened_again(tree):
    add_live_device(tree)
    (tree.device_folder(INSTANCE) / "channels/14/ring").touch()
    system = LookingSystem(tree.root, refusal=DeviceError(errno.ENODEV, "ring: no such device"))
    with pytest.raises(DeviceError, match="ring: no such device"):
        snapshot(0, root=system)
    assert system.done == [f"map 14/ring {RINGS_SIZE}"]


@posix_only
def test_a_closed_channel_is_not_mapped_through_its_ring_file(tree):
    add_live_device(tree, is_open=False)
    (tree.device_folder(INSTANCE) / "channels/14/ring").touch()
    system = LookingSystem(tree.root)
    assert snapshot(0, root=system, even_if_closed=True).content == OUTBOUND + INBOUND
    assert system.done[0] == "open uio0"


@posix_only
def test_the_node_is_closed_when_it_cannot_be_mapped(tree):
    add_live_device(tree, OUTBOUND, size=RINGS_SIZE)
    system = LookingSystem(tree.root)
    with pytest.raises(DeviceError, match=f"dev/uio0: {RINGS_SIZE} bytes at 0x0 cannot be mapped"):
        snapshot(0, root=system)
    assert system.done == ["open uio0", f"map 0x0 {RINGS_SIZE}", "close uio0"]


# -- subchannels -----------------------------------------------------------------------------------


@posix_only
def test_the_rings_of_a_subchannel_are_those_of_its_ring_file(tree):
    add_live_device(tree)
    rings = [ring_with((6, name), data_size=8192) for name in (b"sub out.", b"sub in..")]
    add_live_subchannel(tree, 23, b"".join(rings))
    system = LookingSystem(tree.root)
    taken = snapshot(0, root=system, relid=23)
    assert [taken.outbound.content, taken.inbound.content] == rings
    assert (taken.channel.relid, taken.channel.subchannel_id) == (23, 1)
    assert system.done == ["map 23/ring 24576"]
    assert snapshot(0, root=system, relid=14).content == OUTBOUND + INBOUND


@posix_only
@pytest.mark.parametrize("size", [0, 4096, 8192, 24576 - 1, 24576 + 4096, 24576 + 2])
def test_a_ring_file_that_holds_no_two_rings_is_refused_before_it_is_mapped(tree, size):
    add_live_device(tree)
    add_live_subchannel(tree, 23, bytes(size))
    system = LookingSystem(tree.root)
    with pytest.raises(DeviceError, match=f"channels/23/ring has {size} bytes, which are no two rings"):
        snapshot(0, root=system, relid=23)
    assert system.done == []


@posix_only
@pytest.mark.parametrize("content", [None, OUTBOUND + INBOUND])
def test_a_subchannel_that_is_not_open_has_no_rings(tree, content):
    add_live_device(tree)
    add_live_subchannel(tree, 23, content, is_open=False)
    system = LookingSystem(tree.root)
    with pytest.raises(CallerError, match=r"channel 23 of file-copy .* is not open"):
        snapshot(0, root=system, relid=23)
    with pytest.raises(CallerError, match=r"channel 23 is a subchannel, .* only the kernel opens") as caught:
        snapshot(0, root=system, relid=23, even_if_closed=True)
    assert caught.value.argument == "even_if_closed"
    assert system.done == []


@posix_only
def test_a_ring_file_that_is_not_there_yet_is_no_reason_to_open_the_node(tree):
    add_live_device(tree)
    add_live_subchannel(tree, 23, None)
    system = LookingSystem(tree.root)
    with pytest.raises(DeviceError, match="channels/23/ring is not there"):
        snapshot(0, root=system, relid=23)
    assert system.done == []


@posix_only
def test_a_channel_of_another_device_is_refused_with_those_that_there_are(tree):
    add_live_device(tree)
    add_live_subchannel(tree, 23, None)
    with pytest.raises(CallerError, match="has no channel 15; it has 14, 23") as caught:
        snapshot(0, root=tree.root, relid=15)
    assert (caught.value.argument, caught.value.value) == ("relid", 15)


# -- what the system refuses, and what goes away ---------------------------------------------------


@posix_only
@pytest.mark.parametrize("size", [1, 8192, 8193, 12288, 16384 + 2, 40960 + 8])
def test_a_map_that_holds_no_two_rings_is_refused_with_its_size_before_anything_is_opened(tree, size):
    add_live_device(tree, bytes(65536), size=size)
    system = LookingSystem(tree.root)
    message = rf"dev/uio0: map 0 \(txrx_rings\) has {size} bytes, which are no two rings"
    with pytest.raises(DeviceError, match=message):
        snapshot(0, root=system)
    assert system.done == []


@posix_only
def test_rings_that_fit_pages_of_4_kib_need_not_fit_larger_ones(tree):
    add_live_device(tree)
    with pytest.raises(DeviceError, match=f"{RINGS_SIZE} bytes, .* a control page of 65536 bytes"):
        snapshot(0, root=LookingSystem(tree.root, page_size=65536))


def remove_device(tree: GuestTree) -> None:
    shutil.rmtree(tree.device_folder(INSTANCE))


def remove_maps(tree: GuestTree) -> None:
    shutil.rmtree(tree.root / "sys/class/uio/uio0")


def remove_node(tree: GuestTree) -> None:
    (tree.root / "dev/uio0").unlink()


def remove_channels(tree: GuestTree) -> None:
    shutil.rmtree(tree.device_folder(INSTANCE) / "channels")


def give_back(tree: GuestTree) -> None:
    shutil.rmtree(tree.device_folder(INSTANCE) / "uio")
    tree.set_driver(INSTANCE, "hv_utils")


def spoil_size(tree: GuestTree) -> None:
    (tree.root / "sys/class/uio/uio0/maps/map0/size").write_text("many\n")


@posix_only
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_device, "no device uio0"),
        (remove_maps, "dev/uio0 has no map txrx_rings"),
        (spoil_size, "dev/uio0 has no map txrx_rings"),
        (remove_node, "dev/uio0: No such file"),
        (remove_channels, f"file-copy {INSTANCE} has no primary channel"),
    ],
)
def test_what_is_gone_is_a_device_error_that_names_it(tree, spoil, message):
    add_live_device(tree)
    spoil(tree)
    with pytest.raises(DeviceError, match=message):
        snapshot(0, root=tree.root)


@posix_only
def test_a_device_of_another_driver_is_refused_with_what_would_help(tree):
    add_live_device(tree)
    give_back(tree)
    with pytest.raises(DeviceError, match=f"bound to hv_utils: `vmbus bind {INSTANCE}`"):
        snapshot("file-copy", root=LookingSystem(tree.root))


@posix_only
@pytest.mark.parametrize("number", [errno.ENODEV, errno.EACCES, errno.EBUSY, errno.EIO])
def test_what_the_system_answers_is_passed_on(tree, number):
    add_live_device(tree)
    with pytest.raises(DeviceError, match="the answer") as caught:
        snapshot(0, root=LookingSystem(tree.root, refusal=DeviceError(number, "the answer")))
    assert caught.value.errno == number


def test_where_there_is_no_bus_that_is_said(tmp_path):
    with pytest.raises(DeviceError, match="vmbus/devices is not there") as caught:
        snapshot(0, root=tmp_path)
    assert caught.value.errno == errno.ENODEV


# -- a device with a kernel behind it --------------------------------------------------------------


def test_what_waits_is_seen_while_its_user_has_the_device_open_and_stays_there(kernel):
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    kernel.send(RELID, b"from the host...")
    for _ in range(2):
        taken = snapshot("file-copy", root=kernel.system)
        assert [packet.payload for packet in taken.inbound.packets()] == [b"from the host..."]
        assert taken.outbound.packets() == []
    assert kernel.system.nodes == [node]  # nobody else has opened it
    assert (kernel.report(RELID).hypercalls, kernel.report(RELID).fault) == (0, None)


@pytest.mark.parametrize("kernel", [LATE, PAGES_64K], ids=["4k", "64k"], indirect=True)
@pytest.mark.parametrize("ring_file", [False, True])
def test_a_device_that_nobody_has_open_keeps_its_rings(kernel, ring_file):
    size = kernel.system.page_size + 4 * 4096
    kernel.add_device(ring_size=size, ring_file=ring_file)
    with pytest.raises(CallerError, match="nobody has uio0"):
        snapshot(0, root=kernel.system)
    assert (kernel.system.nodes, kernel.report(RELID).is_open) == ([], False)
    taken = snapshot(0, root=kernel.system, even_if_closed=True)
    assert len(taken.inbound.content) == size
    assert [node.closed for node in kernel.system.nodes] == [True]
    assert not kernel.report(RELID).is_open


def test_a_device_that_is_closed_between_the_look_and_the_copy_is_not_opened_again(kernel):
    """Its masks could be read, and then its user closed it."""
    node = kernel.system.open_node(kernel.add_device(), writable=True)
    ask_size = kernel.system.number

    def number(place: str) -> int | None:
        if place.endswith("map0/size"):
            node.close()
        return ask_size(place)

    kernel.system.number = number
    with pytest.raises(DeviceError, match="/ring: ") as caught:
        snapshot(0, root=kernel.system)
    assert caught.value.errno == errno.ENODEV
    assert kernel.system.nodes == [node]
