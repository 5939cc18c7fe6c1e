"""The system calls on a device, tried with ordinary files: they answer, or a DeviceError says why not."""

from __future__ import annotations

import errno
import mmap
import os
import re
import sys

import pytest

from tests.descriptors import assert_no_more_than, open_descriptors
from vmbus.errors import CallerError, DeviceError
from vmbus.uio import System, SystemNode
from vmbus.uio.node import map_descriptor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/uioN is of Linux")

PAGE = mmap.PAGESIZE


@pytest.fixture
def root(tmp_path, no_descriptor_left):
    """A root with a file of three pages in place of /dev/uio0, whose pages begin with their numbers."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/uio0").write_bytes(b"".join(bytes([page]) + bytes(PAGE - 1) for page in range(3)))
    return tmp_path


def test_a_node_reads_and_writes_what_the_system_does(root):
    node = System(root).open_node("uio0", writable=True)
    assert node.read(4) == bytes(4)
    assert node.write(b"abcd") == 4
    assert (root / "dev/uio0").read_bytes()[:8] == b"\0\0\0\0abcd"
    node.close()


def test_a_node_never_waits_and_is_not_inherited(root):
    os.mkfifo(root / "dev/uio1")
    for name in ("uio0", "uio1"):
        node = SystemNode(f"{root}/dev/{name}", writable=name == "uio1")
        assert not os.get_blocking(node.fileno())
        assert not os.get_inheritable(node.fileno())
        if name == "uio1":
            with pytest.raises(BlockingIOError):
                node.read(4)
        node.close()


def test_maps_stand_at_their_offsets_and_are_shared(root):
    node = System(root).open_node("uio0", writable=True)
    with node.map(PAGE, 2 * PAGE, writable=True) as near, node.map(2 * PAGE, PAGE, writable=False) as far:
        assert (near[0], near[PAGE], far[0], len(near), len(far)) == (1, 2, 2, 2 * PAGE, PAGE)
        near[PAGE + 5] = 77
        assert far[5] == 77
    node.close()
    assert (root / "dev/uio0").read_bytes()[2 * PAGE + 5] == 77


@pytest.mark.parametrize("opened_writable", [False, True])
def test_nothing_can_be_stored_in_a_map_that_is_to_be_read(root, opened_writable):
    node = System(root).open_node("uio0", writable=opened_writable)
    with node.map(0, PAGE, writable=False) as mapped:
        with pytest.raises(TypeError):
            mapped[0] = 1
        with memoryview(mapped) as view:
            assert view.readonly
    node.close()


def test_a_node_that_was_opened_to_be_read_gives_no_map_that_can_be_written(root):
    node = System(root).open_node("uio0", writable=False)
    with pytest.raises(DeviceError, match=r"uio0: 4096 bytes at 0x0 cannot be mapped") as caught:
        node.map(0, 4096, writable=True)
    assert caught.value.errno == errno.EACCES
    with pytest.raises(OSError) as refused:
        node.write(b"abcd")
    assert refused.value.errno == errno.EBADF
    node.close()


def test_a_map_outlives_its_node(root):
    node = System(root).open_node("uio0", writable=True)
    mapped = node.map(PAGE, PAGE, writable=True)
    node.close()
    assert mapped[0] == 1
    mapped.close()


@pytest.mark.parametrize(
    ("place", "answer"),
    [("dev/uio7", errno.ENOENT), ("dev", errno.EISDIR), ("dev/uio0/uio0", errno.ENOTDIR)],
)
def test_what_cannot_be_opened_is_a_device_error_with_its_number_and_its_path(root, place, answer):
    path = f"{root}/{place}"
    for use in (
        lambda: SystemNode(path, writable=True),
        lambda: System(root).map_file(place, PAGE, writable=True),
    ):
        with pytest.raises(DeviceError, match=re.escape(path)) as caught:
            use()
        assert caught.value.errno == answer


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 3 * PAGE + 1),
        (PAGE, 3 * PAGE),
        (5, PAGE),
        (7 * PAGE, PAGE),
        (0, 2**62),
        (0, 2**64),
        (-PAGE, PAGE),
        (2**64, PAGE),
    ],
)
def test_what_is_not_in_the_file_cannot_be_mapped(root, offset, length):
    node = System(root).open_node("uio0", writable=True)
    with pytest.raises(
        DeviceError, match=rf"{length} bytes at {re.escape(hex(offset))} cannot be mapped"
    ) as caught:
        node.map(offset, length, writable=True)
    assert f"{root}/dev/uio0" in str(caught.value)
    node.close()


@pytest.mark.parametrize("length", [0, -1])
def test_a_map_of_nothing_is_refused(root, length):
    with pytest.raises(CallerError, match=f"{length} bytes cannot be mapped") as caught:
        System(root).map_file("dev/uio0", length, writable=False)
    assert caught.value.argument == "length"


def test_what_is_no_file_of_bytes_cannot_be_mapped(root):
    descriptor = os.open(root / "dev", os.O_RDONLY)
    with pytest.raises(DeviceError, match="dev: ") as caught:
        map_descriptor(descriptor, "dev", 0, PAGE, writable=False)
    os.close(descriptor)
    assert caught.value.errno == errno.ENODEV


def test_a_file_is_mapped_from_its_start_and_shared_with_all_who_map_it(root):
    system = System(root)
    before = open_descriptors()
    near = system.map_file("dev/uio0", PAGE, writable=True)
    far = system.map_file("dev/uio0", 2 * PAGE, writable=False)
    near[1] = 9
    assert (far[0], far[1], far[PAGE]) == (0, 9, 1)
    near.close()
    far.close()
    assert_no_more_than(before)


def test_a_closed_node_answers_nothing_and_closes_nobody_elses_descriptor(root):
    node = System(root).open_node("uio0", writable=True)
    number = node.fileno()
    assert repr(node) == f"<SystemNode: {root}/dev/uio0>"
    node.close()
    assert repr(node) == f"<SystemNode: {root}/dev/uio0, closed>"
    other = os.open(root / "dev/uio0", os.O_RDONLY)
    assert other == number
    node.close()
    for use in (lambda: node.read(4), lambda: node.write(bytes(4))):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EBADF
    os.close(other)
