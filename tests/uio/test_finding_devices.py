"""Which devices of a guest are found: while they come and go, and by what they are called."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.uio.guest_tree import GuestTree
from tests.uio.realistic_guest import UNKNOWN_CLASS, instance_of, realistic_guest
from vmbus.errors import CallerError, DeviceError
from vmbus.layout import Guid
from vmbus.uio import GuestDevice, System, find_device, find_devices, read_device

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")

INSTANCE = instance_of(14)
OTHER = instance_of(15)


@pytest.fixture
def tree(tmp_path) -> GuestTree:
    return GuestTree(tmp_path)


def the_device(tree: GuestTree, instance: str = INSTANCE) -> GuestDevice:
    """The device as the look at all of them finds it."""
    (device,) = (one for one in find_devices(tree.root) if one.instance_id == instance)
    return device


# -- what comes and goes during the look ------------------------------------------------------------


class Changing(System):
    """A system on which something happens at the n-th look at a file or folder."""

    def __init__(self, root: Path, at: int, change: Callable[[], None]) -> None:
        super().__init__(root)
        self.until = at
        self.change = change

    def path(self, place: str) -> str:
        self.until -= 1
        if self.until == 0:
            self.change()
        return super().path(place)


def looks_of(tree: GuestTree) -> int:
    """How often a look at all devices looks at a file or folder."""
    counting = Changing(tree.root, 0, lambda: None)
    find_devices(counting)
    return -counting.until


def two_small_devices(tree: GuestTree) -> None:
    tree.add_device("network", INSTANCE, 14)
    tree.add_channel(INSTANCE, 16, 1)
    tree.add_device("scsi", OTHER, 15)


@pytest.mark.parametrize("gone", ["device", "channel"])
def test_what_is_removed_at_any_moment_is_shown_whole_or_left_out(tree, gone):
    two_small_devices(tree)
    before = the_device(tree)
    other = the_device(tree, OTHER)
    folder = tree.device_folder(INSTANCE)
    removed = folder if gone == "device" else folder / "channels/16"
    aside = tree.root / "aside"
    seen = set()
    for at in range(1, looks_of(tree) + 1):
        found = find_devices(Changing(tree.root, at, lambda: removed.rename(aside)))
        aside.rename(removed)
        *devices, last = found
        assert last == other
        seen.add(tuple(devices))
    without = () if gone == "device" else (before._replace(channels=before.channels[:1]),)
    assert seen == {(before,), without}


def test_a_device_that_appears_at_any_moment_is_shown_whole_or_not_yet(tree):
    two_small_devices(tree)
    before = find_devices(tree.root)
    folder, aside = tree.device_folder(INSTANCE), tree.root / "aside"
    most = looks_of(tree)
    folder.rename(aside)
    seen = set()
    for at in range(1, most + 1):
        found = find_devices(Changing(tree.root, at, lambda: aside.rename(folder)))
        if folder.exists():
            folder.rename(aside)
        seen.add(tuple(found))
    assert seen == {tuple(before), tuple(before[1:])}


def test_the_whole_bus_may_go_away_at_any_moment(tree):
    two_small_devices(tree)
    bus, aside = tree.root / "sys/bus/vmbus", tree.root / "aside"
    for at in range(2, looks_of(tree) + 1):  # at the first there is none yet
        found = find_devices(Changing(tree.root, at, lambda: bus.rename(aside)))
        assert {device.id for device in found} <= {14, 15}
        aside.rename(bus)


def test_a_link_to_a_device_that_is_gone_is_left_out(tree):
    tree.device_folder(INSTANCE).symlink_to("nowhere")
    assert find_devices(tree.root) == []


def test_every_file_is_looked_at_once(tree):
    """Devices with hundreds of channels have thousands of files."""

    class Counting(System):
        def text(self, place: str) -> str | None:
            places.append(place)
            return super().text(place)

    tree.add_device("network", INSTANCE, 100)
    for number in range(1, 200):
        (tree.device_folder(INSTANCE) / "channels" / str(100 + number)).mkdir()
    places: list[str] = []
    (device,) = find_devices(Counting(tree.root))
    assert [channel.relid for channel in device.channels] == list(range(100, 300))
    assert len(places) == len(set(places))


def test_a_device_is_read_by_itself_as_among_all(tree):
    two_small_devices(tree)
    assert [read_device(device.instance_id, tree.root) for device in find_devices(tree.root)] == [
        the_device(tree),
        the_device(tree, OTHER),
    ]
    assert read_device("gone", tree.root) is None


# -- which device ------------------------------------------------------------------------------------


def test_devices_stand_in_the_order_of_their_relids(tree):
    for relid in (9, 100, 10):
        tree.add_device("network", instance_of(relid), relid)
    tree.device_folder("aaa").mkdir()
    tree.device_folder("bbb").mkdir()
    assert [device.id for device in find_devices(tree.root)] == [9, 10, 100, None, None]


def test_where_there_is_no_bus_the_system_refuses(tmp_path):
    with pytest.raises(DeviceError, match="is not there: this is no copy of the files") as refused:
        find_devices(tmp_path)
    assert refused.value.errno == errno.ENODEV
    assert str(tmp_path / "sys/bus/vmbus/devices") in str(refused.value)


class BareMachine(System):
    """This machine, if it had no VMBus."""

    def exists(self, place: str) -> bool:
        return False


def test_a_machine_without_the_bus_is_no_guest_of_hyper_v():
    with pytest.raises(DeviceError, match="no Linux guest of Hyper-V, or hv_vmbus is not loaded"):
        find_devices(BareMachine("/"))


@pytest.fixture(scope="module")
def guest(tmp_path_factory) -> GuestTree:
    return realistic_guest(tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize(
    ("which", "relids"),
    [
        ("14", [14]),
        (instance_of(14), [14]),
        (f"{{{instance_of(14).upper()}}}", [14]),
        ("network", [14]),
        ("NetVSC", [14]),
        ("f8615163-df3e-46c5-913f-f2d2f965ed0e", [14]),
        ("hv_netvsc", [14]),
        ("uio0", [24]),
        ("/dev/uio0", [24]),
        ("hv_utils", [2, 3, 4, 5]),
        ("hvsock", [25, 26]),
        ("00001388-facb-11e6-bd58-64006a7986d3", [26]),
        (UNKNOWN_CLASS, [27]),
        ("unknown", [27]),
        ("Unknown", [27]),
        ("15", []),
        ("014", []),
        ("", []),
        ("{}", []),
        ("none", []),
        ("/dev/none", []),
    ],
)
def test_a_device_has_these_names(guest, which, relids):
    matching = [device.id for device in find_devices(guest.root) if device.matches(which)]
    assert matching == relids


def test_one_device_is_found_by_its_name(guest):
    assert find_device("netvsc", guest.root).id == 14


def test_a_device_that_is_not_there_cannot_be_found(guest):
    with pytest.raises(DeviceError, match=r"no device ide; there are balloon, .*unknown, video") as refused:
        find_device("ide", guest.root)
    assert refused.value.errno == errno.ENODEV


def test_every_name_that_is_offered_where_none_is_found_names_a_device(guest):
    with pytest.raises(DeviceError) as refused:
        find_device("ide", guest.root)
    offered = str(refused.value).partition("there are ")[2].partition(" (")[0].split(", ")
    assert len(offered) == 14
    for name in offered:
        assert any(device.matches(name) for device in find_devices(guest.root)), name


def test_a_name_of_several_devices_names_none(guest):
    with pytest.raises(
        CallerError, match=f"hvsock names 2 devices.*: 25 {instance_of(25)}, 26 {instance_of(26)}"
    ):
        find_device("hvsock", guest.root)


def test_the_primary_channel_is_that_with_the_relid_of_the_device(tree):
    tree.add_device("network", INSTANCE, 20)
    tree.add_channel(INSTANCE, 9, 0)
    device = the_device(tree)
    assert device.primary.relid == 20
    assert device._replace(id=None).primary.relid == 9


@pytest.mark.parametrize("which", ["hvsock", "vsock", "000003e8-facb-11e6-bd58-64006a7986d3"])
def test_a_service_is_of_the_class_of_sockets_and_of_its_own(tree, which):
    tree.add_device("hvsock", INSTANCE, 14, class_id="000003e8-facb-11e6-bd58-64006a7986d3")
    device = the_device(tree)
    assert device.is_of_class(which)
    assert not device.is_of_class("000003e9-facb-11e6-bd58-64006a7986d3")
    assert device.class_id == Guid.parse("000003e8-facb-11e6-bd58-64006a7986d3")
