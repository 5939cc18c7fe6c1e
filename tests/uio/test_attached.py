"""What hangs below the devices of a guest: network interfaces and disks."""

from __future__ import annotations

import os

import pytest

from tests.uio.guest_tree import GuestTree
from tests.uio.realistic_guest import instance_of
from vmbus.errors import CallerError
from vmbus.uio import System, find_device, find_devices, read_device
from vmbus.uio.attached import MOST_FOLDERS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")

ONE, OTHER = instance_of(14), instance_of(15)


@pytest.fixture
def tree(tmp_path) -> GuestTree:
    made = GuestTree(tmp_path)
    made.add_device("network", ONE, 14, driver="hv_netvsc")
    made.add_device("network", OTHER, 15, driver="hv_netvsc")
    return made


def carried(tree: GuestTree, instance: str = ONE) -> tuple[str, ...]:
    return read_device(instance, tree.root).carried


def test_of_two_network_cards_each_has_its_own_interface(tree):
    tree.add_interface(ONE, "eth1")
    tree.add_interface(OTHER, "eth0")
    assert [device.interfaces for device in find_devices(tree.root)] == [("eth1",), ("eth0",)]
    assert find_device("eth0", tree.root).instance_id == OTHER


def test_the_disks_of_a_controller_are_found_without_their_partitions(tree):
    for number, name in enumerate(("sdb", "sda", "sdc")):
        tree.add_disk(ONE, name, host=number)
    device = read_device(ONE, tree.root)
    assert (device.disks, device.interfaces) == (("sda", "sdb", "sdc"), ())
    assert [device.matches(name) for name in ("sda", "/dev/sdc", "SDB", "sda1", "sdd")] == [True] * 3 + [
        False
    ] * 2


def test_what_a_pci_device_carries_is_found_below_it(tree):
    """Its NVMe disk lies in no folder `block`: the controller around it is of a class already."""
    place = tree.device_folder(ONE) / "pci0001:00/0001:00:00.0"
    tree.add_of_class("net", place / "net/enP1s1")
    tree.add_of_class("nvme", place / "nvme/nvme0")
    tree.add_of_class("block", place / "nvme/nvme0/nvme0n1")
    assert carried(tree) == ("enP1s1", "nvme0n1")


def test_links_are_not_followed(tree):
    tree.add_interface(OTHER, "eth0")
    (tree.device_folder(ONE) / "peer").symlink_to(tree.device_folder(OTHER))
    (tree.device_folder(ONE) / "itself").symlink_to(".")
    assert carried(tree) == ()


def test_a_device_that_is_a_link_itself_is_looked_into(tree):
    """As all are on a running system."""
    tree.add_interface(ONE, "eth0")
    folder = tree.device_folder(ONE)
    folder.rename(tree.root / "sys" / ONE)
    folder.symlink_to(f"../../../{ONE}")
    assert carried(tree) == ("eth0",)


def test_a_device_without_any_carries_nothing_and_an_empty_name_is_none(tree):
    assert carried(tree) == ()
    assert not read_device(ONE, tree.root).matches("/dev/")


def test_no_more_than_so_many_folders_are_looked_into(tree):
    class Endless(System):
        looks = 0

        def folders(self, place: str) -> list[str]:
            self.looks += 1
            return ["deeper", "wider"]

    system = Endless(tree.root)
    read_device(ONE, system)
    assert system.looks == MOST_FOLDERS


def test_an_interface_called_as_another_device_is_ambiguous(tree):
    tree.add_interface(ONE, "15")
    with pytest.raises(CallerError, match=rf"15 names 2 devices.*: 14 \(15\) {ONE}, 15 {OTHER}"):
        find_device("15", tree.root)
