"""What stands on a device: trees with disks and networks of every build, and lists in /proc that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.uio.driver_core import IDLE
from tests.uio.guest_tree import GuestTree
from vmbus.protocols import device_class
from vmbus.uio import System, UseKind, read_device, uses_of
from vmbus.uio.in_use import MOST_MOUNTED
from vmbus.uio.stacks import MOST_BELOW, Stack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")

INSTANCE = "{:08x}-0000-4000-8000-000000000000".format

#: Kinds of devices, their drivers and relids.
DEVICES = {
    "scsi": ("hv_storvsc", 1),
    "ide": ("hv_storvsc", 2),
    "fibre-channel": ("hv_storvsc", 3),
    "network": ("hv_netvsc", 4),
    "pci": ("hv_pci", 5),
    "keyboard": ("hyperv_keyboard", 6),
    "unknown": ("uio_something", 7),
}

IPV4 = "{}\t{}\t010200C0\t{}\t0\t0\t0\t{}\t0\t0\t0\n".format
IPV6 = "{} {} {} 00 fd00{:028} 00000400 00000003 00000000 {} {:>8}\n".format
NOWHERE = "0" * 32


class Guest:
    """A guest with a device of each kind, in which nothing is in use."""

    def __init__(self, folder: Path) -> None:
        self.tree = GuestTree(folder / "root")
        self.root = self.tree.root
        for kind, (driver, relid) in DEVICES.items():
            class_id = INSTANCE(0x77) if kind == "unknown" else None
            # The few files that this is about: making them takes most of the time.
            folder = self.tree.device_folder(INSTANCE(relid))
            folder.mkdir()
            (folder / "class_id").write_text(f"{{{class_id or device_class(kind).class_id}}}\n")
            (folder / "driver").symlink_to(f"../../drivers/{driver}")
        for place, text in IDLE.items():
            self.put(place, text)

    def put(self, place: str, text: str) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def link(self, place: str, target: Path) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))

    def folder_of(self, kind: str | None) -> Path:
        if kind is None:
            return self.root / "sys/devices/virtual"
        return self.tree.device_folder(INSTANCE(DEVICES[kind][1]))

    def block(
        self, kind: str | None, name: str, number: str, *, disk: str = "", slaves: tuple[str, ...] = ()
    ) -> None:
        """A block device of a device, or none; of a partition the disk is named."""
        folder = self.folder_of(kind) / "block" / disk / name
        (folder / "slaves").mkdir(parents=True)
        for slave in slaves:
            self.link(
                f"{folder.relative_to(self.root)}/slaves/{slave}", self.root / "sys/class/block" / slave
            )
        if disk:
            (folder / "partition").write_text("1\n")
        self.link(f"sys/class/block/{name}", folder)
        self.link(f"sys/dev/block/{number}", folder)

    def interface(self, kind: str | None, name: str, *lower: str) -> None:
        folder = self.folder_of(kind) / "net" / name
        folder.mkdir(parents=True)
        for one in lower:
            (folder / f"lower_{one}").symlink_to(f"../{one}")
        self.link(f"sys/class/net/{name}", folder)

    def mount(self, *lines: str) -> None:
        """Lines of mountinfo without their first two fields: number, what of it, point, ..."""
        self.put("proc/self/mountinfo", "".join(f"{20 + n} 1 {line}\n" for n, line in enumerate(lines)))

    def uses(self, kind: str) -> list[str]:
        system = System(self.root)
        device = read_device(INSTANCE(DEVICES[kind][1]), system)
        assert device is not None
        return [str(use).replace(f"{self.root}/", "/") for use in uses_of(device, system)]

    def in_use(self) -> dict[str, list[str]]:
        """Of every device that is."""
        return {kind: uses for kind in DEVICES if (uses := self.uses(kind))}


@pytest.fixture
def guest(tmp_path):
    return Guest(tmp_path)


def with_partitions(guest: Guest) -> None:
    guest.block("scsi", "sda", "8:0")
    guest.block("scsi", "sda1", "8:1", disk="sda")
    guest.block("scsi", "sda2", "8:2", disk="sda")
    guest.block("ide", "sdb", "8:16")


ROOT_ON_SDA2 = "8:2 / / rw shared:1 - ext4 /dev/sda2 rw"


def test_a_guest_in_which_nothing_is_in_use_gives_every_device(guest):
    assert guest.in_use() == {}


# -- disks -----------------------------------------------------------------------------------------------


def test_the_root_file_system_on_a_partition_is_on_the_disk_of_one_controller(guest):
    with_partitions(guest)
    guest.mount("0:21 / /proc rw - proc proc rw", ROOT_ON_SDA2)
    assert guest.in_use() == {"scsi": ["holds the root file system (/ on sda2)"]}


def test_a_disk_without_partitions_on_ide_and_a_blank_in_the_name_of_its_place(guest):
    with_partitions(guest)
    guest.mount(ROOT_ON_SDA2, r"8:16 / /my\040data rw - xfs /dev/sdb rw")
    assert guest.uses("ide") == ["holds a mounted file system (/my data on sdb)"]


def test_of_many_places_where_one_file_system_is_mounted_the_shortest_is_named(guest):
    with_partitions(guest)
    bound = [f"8:2 /d{n} /var/lib/d{n} rw - ext4 /dev/sda2 rw" for n in range(5)]
    guest.mount(*bound, ROOT_ON_SDA2)
    assert guest.uses("scsi") == ["holds the root file system (/ on sda2)"]


def test_lvm_over_disks_of_two_controllers_is_on_both(guest):
    with_partitions(guest)
    guest.block(None, "dm-0", "253:0", slaves=("sda2", "dm-1"))
    guest.block(None, "dm-1", "253:1", slaves=("sdb",))
    guest.mount("253:0 / / rw - xfs /dev/mapper/vg-root rw")
    assert guest.in_use() == {
        "scsi": ["holds the root file system (/ on dm-0 over sda2)"],
        "ide": ["holds the root file system (/ on dm-0 over dm-1 over sdb)"],
    }


def test_a_partition_of_a_raid_is_on_the_disks_of_the_raid(guest):
    with_partitions(guest)
    guest.block(None, "md0", "9:0", slaves=("sda", "sdb"))
    guest.block(None, "md0p1", "259:0", disk="md0")
    guest.mount("259:0 / / rw - ext4 /dev/md0p1 rw")
    assert guest.uses("ide") == ["holds the root file system (/ on md0p1 over md0 over sdb)"]


def test_swap_counts_when_it_is_a_device_and_not_when_it_is_a_file(guest):
    with_partitions(guest)
    guest.link("dev/mapper/vg-swap", guest.root / "dev/dm-3")
    guest.block(None, "dm-3", "253:3", slaves=("sdb",))
    header = IDLE["proc/swaps"]
    guest.put("proc/swaps", f"{header}/dev/sda1 partition 8 0 -2\n/dev/mapper/vg-swap partition 8 0 -3\n")
    assert guest.in_use() == {
        "scsi": ["holds active swap (sda1)"],
        "ide": ["holds active swap (dm-3 over sdb)"],
    }
    guest.put("proc/swaps", f"{header}/swap\\040file file 8 0 -2\n")
    assert guest.in_use() == {}


def test_what_hurts_most_comes_first(guest):
    with_partitions(guest)
    guest.put("proc/swaps", f"{IDLE['proc/swaps']}/dev/sda1 partition 8 0 -2\n")
    guest.mount("8:1 / /b rw - ext4 /dev/sda1 rw", ROOT_ON_SDA2)
    system = System(guest.root)
    uses = uses_of(read_device(INSTANCE(1), system), system)
    assert [use.kind for use in uses] == [UseKind.ROOT, UseKind.MOUNT, UseKind.SWAP]


def test_btrfs_whose_number_is_no_device_is_on_all_its_members(guest):
    with_partitions(guest)
    for name in ("sda2", "sdb"):
        guest.link(f"sys/fs/btrfs/some-uuid/devices/{name}", guest.root / "sys/class/block" / name)
    guest.mount("0:30 /@ / rw - btrfs /dev/sdb rw")
    assert guest.in_use() == {
        "scsi": ["holds the root file system (/ on sda2)"],
        "ide": ["holds the root file system (/ on sdb)"],
    }


@pytest.mark.parametrize("kind", ["overlay", "nfs4"])
def test_a_root_that_is_on_no_device_may_be_on_any_disk_or_network(guest, kind):
    guest.mount(f"0:30 / / rw - {kind} somewhere rw")
    guess = f"may be in use: what carries / cannot be told: it is {kind} on somewhere, 0:30"
    assert guest.in_use() == {one: [guess] for one in ("scsi", "ide", "fibre-channel", "network", "pci")}


def test_zfs_may_be_on_any_disk_and_what_programs_mount_is_on_none(guest):
    guest.mount(
        "0:2 / / rw - rootfs rootfs rw", "0:40 / /tank rw - zfs tank rw", "0:41 / /x rw - fuse.x /dev/fuse rw"
    )
    assert set(guest.in_use()) == {"scsi", "ide", "fibre-channel", "pci"}
    guest.mount(
        "0:2 / / rw - tmpfs tmpfs rw",
        "0:41 / /x rw - fuse.x /dev/fuse rw",
        "0:5 / /dev rw - devtmpfs udev rw",
    )
    assert guest.in_use() == {}


def test_a_disk_image_in_a_file_is_on_the_file_system_that_has_the_file(guest):
    with_partitions(guest)
    guest.block(None, "loop3", "7:3")
    guest.mount(ROOT_ON_SDA2, "7:3 / /snap/x ro - squashfs /dev/loop3 ro")
    assert set(guest.in_use()) == {"scsi"}


def test_an_nvme_disk_with_several_paths_is_on_the_controllers_beside_it(guest):
    subsystem = guest.root / "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    (subsystem / "nvme0n1/nvme0n1p1").mkdir(parents=True)
    (subsystem / "nvme0n1/nvme0n1p1/partition").write_text("1\n")
    controller = guest.folder_of("pci") / "pci0001:00/0001:00:00.0/nvme/nvme0"
    controller.mkdir(parents=True)
    for place in (subsystem / "nvme0", guest.root / "sys/class/nvme/nvme0"):
        guest.link(str(place.relative_to(guest.root)), controller)
    for place in ("sys/class/block/nvme0n1p1", "sys/dev/block/259:1"):
        guest.link(place, subsystem / "nvme0n1/nvme0n1p1")
    guest.link("sys/class/block/nvme0n1", subsystem / "nvme0n1")
    guest.mount("259:1 / / rw - ext4 /dev/nvme0n1p1 rw")
    assert guest.in_use() == {"pci": ["holds the root file system (/ on nvme0n1p1 over nvme0n1 over nvme0)"]}


# -- networks --------------------------------------------------------------------------------------------


def default_route(guest: Guest, interface: str, flags: str = "0003") -> None:
    guest.put("proc/net/route", IDLE["proc/net/route"] + IPV4(interface, "00000000", flags, "00000000"))


def test_the_default_route_of_ipv4_is_on_its_network_card(guest):
    guest.interface("network", "eth0")
    default_route(guest, "eth0")
    assert guest.in_use() == {"network": ["carries the default route (IPv4 through eth0)"]}


def test_the_default_route_of_ipv6_alone_is_on_its_network_card(guest):
    guest.interface("network", "eth0")
    guest.put(
        "proc/net/ipv6_route",
        IPV6("fd" + "0" * 30, "40", NOWHERE, 1, "00000001", "eth0")
        + IPV6(NOWHERE, "00", NOWHERE, 1, "00000003", "eth0"),
    )
    assert guest.in_use() == {"network": ["carries the default route (IPv6 through eth0)"]}


def test_routes_to_single_networks_and_routes_that_reject_do_not_count(guest):
    guest.interface("network", "eth0")
    guest.put(
        "proc/net/route",
        IDLE["proc/net/route"]
        + IPV4("eth0", "000200C0", "0001", "00FFFFFF")
        + IPV4("eth0", "00000000", "0001", "000000FF")
        + IPV4("*", "00000000", "0201", "00000000"),
    )
    guest.put("proc/net/ipv6_route", IPV6(NOWHERE, "00", NOWHERE, 1, "00200200", "lo"))
    assert guest.in_use() == {}


def test_a_vlan_on_a_bridge_on_a_bond_is_on_the_cards_of_the_bond(guest):
    guest.interface("network", "eth0")
    guest.interface("pci", "eth1")
    guest.interface(None, "bond0", "eth0", "eth1")
    guest.interface(None, "br0", "bond0")
    guest.interface(None, "br0.7", "br0")
    default_route(guest, "br0.7")
    assert guest.in_use() == {
        "network": ["carries the default route (IPv4 through br0.7 over br0 over bond0 over eth0)"],
        "pci": ["carries the default route (IPv4 through br0.7 over br0 over bond0 over eth1)"],
    }


@pytest.mark.parametrize("interface", ["tun0", "eth7"])
def test_a_default_route_through_a_tunnel_or_what_is_not_there_may_be_on_any_network(guest, interface):
    guest.interface("network", "eth0")
    guest.interface(None, "tun0")
    default_route(guest, interface)
    guess = f"may be in use: what carries the default route of IPv4 cannot be told: nothing says what {interface} stands on"
    assert guest.in_use() == {"network": [guess], "pci": [guess]}


# -- what cannot be told ---------------------------------------------------------------------------------

DISKS, CARDS = {"scsi", "ide", "fibre-channel", "pci"}, {"network", "pci"}


@pytest.mark.parametrize(
    ("place", "could_carry"),
    [
        ("proc/self/mountinfo", DISKS),
        ("proc/swaps", DISKS),
        ("proc/net/route", CARDS),
        ("proc/net/ipv6_route", CARDS),
    ],
)
@pytest.mark.parametrize("text", [None, "what is\nthis?\n"])
def test_a_list_that_is_not_there_or_makes_no_sense_counts_as_use_of_what_could_be_in_it(
    guest, place, could_carry, text
):
    if text is None:
        (guest.root / place).unlink()
    else:
        guest.put(place, text)
    found = guest.in_use()
    assert set(found) == could_carry
    assert found["pci"] == [f"may be in use: /{place} cannot be read"]


def test_a_list_of_mounts_without_a_root_cannot_be_trusted(guest):
    guest.mount("0:5 / /dev rw - devtmpfs udev rw")
    assert guest.in_use() == {
        kind: ["may be in use: /proc/self/mountinfo has no root file system"]
        for kind in ("scsi", "ide", "fibre-channel", "pci")
    }


def test_a_kernel_without_ipv6_has_no_list_of_its_routes(guest):
    (guest.root / "proc/net/ipv6_route").unlink()
    (guest.root / "proc/sys/net/ipv4").mkdir(parents=True)
    assert guest.in_use() == {}
    (guest.root / "proc/sys/net/ipv6").mkdir()
    assert set(guest.in_use()) == CARDS


def test_a_disk_that_sysfs_does_not_have_may_be_any(guest):
    guest.mount("8:2 / / rw - ext4 /dev/sda2 rw")
    assert guest.uses("scsi") == [
        "may be in use: what carries / cannot be told: it is ext4 on /dev/sda2, 8:2"
    ]
    assert set(guest.in_use()) == DISKS | CARDS


def test_a_device_that_does_not_say_what_it_is_could_carry_anything(guest):
    (guest.folder_of("unknown") / "class_id").unlink()
    (guest.root / "proc/swaps").unlink()
    assert guest.uses("unknown") == ["may be in use: /proc/swaps cannot be read"]


def test_what_stands_on_a_device_of_an_unknown_kind_is_seen_all_the_same(guest):
    guest.block("unknown", "xda", "99:0")
    guest.mount("99:0 / / rw - ext4 /dev/xda rw")
    assert guest.in_use() == {"unknown": ["holds the root file system (/ on xda)"]}


@pytest.mark.parametrize("driver", [None, "uio_hv_generic"])
def test_a_device_that_no_driver_of_the_kernel_has_carries_nothing(guest, driver):
    with_partitions(guest)
    guest.mount(ROOT_ON_SDA2)
    guest.tree.set_driver(INSTANCE(1), driver)
    assert guest.uses("scsi") == []


#: What ends a word or a line for Python, and not for the kernel.
NO_BLANKS = {"em space": "\u2003", "file separator": "\x1c", "next line": "\x85", "line separator": "\u2028"}


@pytest.mark.parametrize("character", NO_BLANKS.values(), ids=NO_BLANKS)
def test_a_name_may_hold_what_only_python_takes_for_a_blank_or_the_end_of_a_line(guest, character):
    with_partitions(guest)
    name = f"e{character}th"
    guest.interface("network", name)
    guest.interface("pci", f"{name}6")
    default_route(guest, name)
    guest.put("proc/net/ipv6_route", IPV6(NOWHERE, "00", NOWHERE, 1, "00000003", f"{name}6"))
    guest.mount(f"8:2 / /my{character}data rw - ext4 /dev/sda2 rw", "0:2 / / rw - rootfs rootfs rw")
    guest.block("ide", f"sd{character}", "8:32")
    guest.put("proc/swaps", f"{IDLE['proc/swaps']}/dev/sd{character} partition 8 0 -2\n")
    assert guest.in_use() == {
        "scsi": [f"holds a mounted file system (/my{character}data on sda2)"],
        "ide": [f"holds active swap (sd{character})"],
        "network": [f"carries the default route (IPv4 through {name})"],
        "pci": [f"carries the default route (IPv6 through {name}6)"],
    }


def test_a_name_that_no_path_can_have_counts_as_a_guess(guest):
    guest.mount("0:2 / / rw - rootfs rootfs rw", r"0:9 / /x rw - ext4 /dev/sd\000a rw")
    guest.put("proc/swaps", IDLE["proc/swaps"] + "/dev/sd\\000b partition 8 0 -2\n")
    default_route(guest, "eth\x00")
    start = "may be in use: what carries {} cannot be told: nothing says what {} stands on".format
    disks = [start("/x", "sd\0a"), start("swap", "sd\0b")]
    cards = [start("the default route of IPv4", "eth\0")]
    assert guest.uses("scsi") == disks
    assert guest.uses("pci") == disks + cards


def test_a_pile_as_high_as_any_may_be_is_followed_to_its_end(guest):
    with_partitions(guest)
    above = {"sys/class/block/0": None}
    above |= {f"sys/class/block/{n + 1}": f"sys/class/block/{n}" for n in range(MOST_BELOW)}
    way = Stack(above, []).way_from_top(f"sys/class/block/{MOST_BELOW}")
    assert way == [f"sys/class/block/{n}" for n in range(MOST_BELOW + 1)]


def test_many_mounts_of_btrfs_have_its_members_listed_once(guest, monkeypatch):
    with_partitions(guest)
    for name in ("sda2", "sdb"):
        guest.link(f"sys/fs/btrfs/some-uuid/devices/{name}", guest.root / "sys/class/block" / name)
    guest.mount(
        "0:30 /@ / rw - btrfs /dev/sdb rw",
        *(f"0:{30 + n} /@{n} /d{n} rw - btrfs /dev/{('sda2', 'sdb')[n % 2]} rw" for n in range(50)),
    )
    listed: list[str] = []
    names = System.names
    monkeypatch.setattr(System, "names", lambda system, place: listed.append(place) or names(system, place))
    assert guest.uses("scsi")[0] == "holds the root file system (/ on sda2)"
    assert listed.count("sys/fs/btrfs") == listed.count("sys/fs/btrfs/some-uuid/devices") == 1


def test_of_more_file_systems_than_anybody_has_nobody_can_tell(guest, monkeypatch):
    monkeypatch.setattr("vmbus.uio.in_use.MOST_MOUNTED", 20)
    assert MOST_MOUNTED > 1000
    with_partitions(guest)
    guest.mount(ROOT_ON_SDA2, *(f"0:{n} / /d{n} rw - ext4 /dev/x{n} rw" for n in range(30)))
    assert guest.uses("scsi")[:2] == [
        "holds the root file system (/ on sda2)",
        "may be in use: more than 20 file systems are mounted",
    ]
    assert "may be in use: more than 20 file systems are mounted" in guest.uses("ide")


def test_links_that_go_in_a_circle_end(guest):
    with_partitions(guest)
    guest.block(None, "dm-0", "253:0", slaves=("dm-1",))
    guest.block(None, "dm-1", "253:1", slaves=("dm-0", "sda2"))
    guest.mount("253:0 / / rw - xfs /dev/dm-0 rw")
    guest.interface(None, "a", "b")
    guest.interface(None, "b", "a")
    default_route(guest, "a")
    assert guest.in_use() == {"scsi": ["holds the root file system (/ on dm-0 over dm-1 over sda2)"]}


def test_more_links_than_anybody_has_cannot_be_told(guest, monkeypatch):
    monkeypatch.setattr("vmbus.uio.stacks.MOST_BELOW", 20)
    assert MOST_BELOW > 100
    guest.interface(None, "a", *(f"x{n}" for n in range(30)))
    default_route(guest, "a")
    assert "more than 20 things are below a" in guest.uses("network")[0]


def test_a_device_whose_name_begins_like_another_is_another(guest):
    longer = guest.tree.device_folder(INSTANCE(1) + "0") / "block/sdz"
    longer.mkdir(parents=True)
    for place in ("sys/class/block/sdz", "sys/dev/block/65:144"):
        guest.link(place, longer)
    guest.mount("65:144 / / rw - ext4 /dev/sdz rw")
    assert guest.in_use() == {}


def test_a_list_longer_than_one_read_gives_is_read_to_its_end(guest):
    with_partitions(guest)
    guest.mount(*(f"0:{n} / /run/{n:0500} rw - tmpfs tmpfs rw" for n in range(100, 300)), ROOT_ON_SDA2)
    assert (guest.root / "proc/self/mountinfo").stat().st_size > 1 << 16
    assert guest.uses("scsi") == ["holds the root file system (/ on sda2)"]
