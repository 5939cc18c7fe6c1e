"""What sysfs says of the devices of a guest: every documented file, and whatever may be wrong with it.

The files are those of Linux Documentation/ABI/stable/sysfs-bus-vmbus and of drivers/hv/vmbus_drv.c
(vmbus_dev_attrs, vmbus_chan_attrs).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.uio.guest_tree import GuestTree
from tests.uio.realistic_guest import instance_of
from vmbus.uio import GuestDevice, System, find_devices, read_device

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")

INSTANCE = instance_of(14)
OTHER = instance_of(15)
CHANNEL = "channels/14"

#: What is read out of a device for one of its files.
Getter = Callable[[GuestDevice], Any]


def of_ring(ring: str, name: str) -> Getter:
    return lambda device: getattr(getattr(device, ring), name)


def of_channel(name: str) -> Getter:
    return lambda device: getattr(device.channels[0], name) if device.channels else None


#: The documented files that hold one number each.
NUMBER_FILES: dict[str, Getter] = {
    **{
        name: lambda device, name=name: getattr(device, name)
        for name in ("id", "vendor", "device", "state", "numa_node", "monitor_id")
    },
    **{
        f"{start}_{name}": of_ring(ring, name)
        for start, ring in (("out", "outbound"), ("in", "inbound"))
        for name in ("write_index", "read_index", "intr_mask", "read_bytes_avail", "write_bytes_avail")
    },
    **{
        f"{side}_monitor_{name}": of_ring(side, name)
        for side in ("server", "client")
        for name in ("pending", "latency", "conn_id")
    },
    **{
        f"{CHANNEL}/{name}": of_channel(name)
        for name in (
            *("out_mask", "in_mask", "read_avail", "write_avail", "interrupts", "events"),
            *("intr_in_full", "intr_out_empty", "out_full_first", "out_full_total"),
            *("cpu", "subchannel_id", "pending", "latency", "monitor_id"),
        )
    },
}

#: Those that hold 32 bits of shared memory, which the kernel may print as if they had a sign.
WORD_FILES = [
    name
    for name in NUMBER_FILES
    if name.startswith(("out_", "in_", "server_", "client_")) or name.endswith(("mask", "_avail", "/pending"))
]

#: The others.
TEXT_FILES: dict[str, Getter] = {
    "class_id": lambda device: device.class_id,
    "device_id": lambda device: device.device_id,
    "modalias": lambda device: device.modalias,
    "driver_override": lambda device: device.driver_override,
    "channel_vp_mapping": lambda device: device.channel_vp_mapping,
    f"{CHANNEL}/ring": of_channel("ring_size"),
}
FILES = {**NUMBER_FILES, **TEXT_FILES}

#: What each file of numbers says in `full_tree`: every one something else.
NUMBERS = {name: 100 + index for index, name in enumerate(NUMBER_FILES)}


def full_tree(root: Path) -> GuestTree:
    """A device that has every documented file, and another."""
    tree = GuestTree(root)
    tree.add_device("network", INSTANCE, 14, driver="uio_hv_generic")
    tree.write(tree.device_folder(INSTANCE), {**NUMBERS, "driver_override": "uio_hv_generic"})
    tree.write(tree.device_folder(INSTANCE), {"channel_vp_mapping": "14:0\n15:3"})
    (tree.device_folder(INSTANCE) / CHANNEL / "ring").write_bytes(bytes(1000))
    (tree.device_folder(INSTANCE) / "uio/uio7").mkdir(parents=True)
    tree.add_device("hvsock", OTHER, 15, driver="hv_sock")
    return tree


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> GuestTree:
    return full_tree(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def tree(tmp_path) -> GuestTree:
    return GuestTree(tmp_path)


def the_device(tree: GuestTree, instance: str = INSTANCE) -> GuestDevice:
    """That device."""
    device = read_device(instance, tree.root)
    assert device is not None
    return device


# -- every documented file ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBER_FILES)
def test_every_documented_number_is_read(full, name):
    assert NUMBER_FILES[name](the_device(full)) == NUMBERS[name]


def test_every_other_documented_file_is_read(full):
    device = the_device(full)
    assert str(device.class_id) == "f8615163-df3e-46c5-913f-f2d2f965ed0e"
    assert str(device.device_id) == INSTANCE
    assert device.modalias == "vmbus:635161f83edfc546913ff2d2f965ed0e"
    assert device.driver_override == "uio_hv_generic"
    assert device.channel_vp_mapping == ((14, 0), (15, 3))
    assert device.channels[0].ring_size == 1000
    assert device.driver == "uio_hv_generic"
    assert device.uio == "uio7"


@pytest.mark.parametrize(
    ("text", "word"),
    [("-1", 2**32 - 1), ("-2147483648", 2**31), ("4294967295", 2**32 - 1), ("4294967296", None)],
)
def test_a_word_of_shared_memory_has_no_sign(full, text, word):
    with instead_of(full, INSTANCE, {name: text.encode() for name in WORD_FILES}):
        device = the_device(full)
    assert {name: NUMBER_FILES[name](device) for name in WORD_FILES} == dict.fromkeys(WORD_FILES, word)


def test_a_counter_may_have_64_bits(full):
    with instead_of(full, INSTANCE, {f"{CHANNEL}/interrupts": b"18446744073709551615\n"}):
        assert the_device(full).channels[0].interrupts == 2**64 - 1


def test_a_numa_node_may_be_none_of_them(tree):
    tree.add_device("network", INSTANCE, 14, files={"numa_node": -1})
    assert the_device(tree).numa_node == -1


def test_any_driver_may_have_a_device_without_an_override(tree):
    tree.add_device("network", INSTANCE, 14)
    assert the_device(tree).driver_override is None


def test_masks_and_fills_of_a_closed_channel_are_missing(tree):
    tree.add_device("network", INSTANCE, 14, is_open=False)
    device = the_device(tree)
    (channel,) = device.channels
    assert (channel.out_mask, channel.in_mask, channel.read_avail, channel.write_avail) == (None,) * 4
    assert channel.interrupts == 0
    assert not channel.is_open and not device.is_open
    assert device.outbound.data_size is None


def test_a_device_is_open_while_one_of_its_channels_is(tree):
    tree.add_device("network", INSTANCE, 14, is_open=False)
    tree.add_channel(INSTANCE, 15, 1)
    assert the_device(tree).is_open


def test_the_kernels_own_layout_of_links_is_followed(tree):
    """In sysfs a device is a link from the bus to where the device hangs."""
    folder = tree.add_device("network", INSTANCE, 14, driver="hv_netvsc")
    before = the_device(tree)
    hangs = tree.root / "sys/devices/LNXSYSTM:00/VMBUS:00" / INSTANCE
    hangs.parent.mkdir(parents=True)
    folder.rename(hangs)
    folder.symlink_to(f"../../../devices/LNXSYSTM:00/VMBUS:00/{INSTANCE}")
    assert the_device(tree) == before
    assert before.driver == "hv_netvsc"


def test_a_socket_has_the_port_of_its_service(tree):
    tree.add_device("hvsock", INSTANCE, 14, class_id="00001388-facb-11e6-bd58-64006a7986d3")
    tree.add_device("network", OTHER, 15)
    assert the_device(tree).hvsock_port == 5000
    assert the_device(tree).name == "hvsock"
    assert the_device(tree, OTHER).hvsock_port is None


# -- the size of a ring ------------------------------------------------------------------------------


def test_a_ring_has_the_size_of_what_can_be_read_and_written(tree):
    tree.add_device(
        "network", INSTANCE, 14, files={"out_read_bytes_avail": 144, "out_write_bytes_avail": 20336}
    )
    assert the_device(tree).outbound.data_size == 20480


def test_a_wild_index_does_not_hide_the_size_of_its_ring(tree):
    """Linux subtracts unsigned: for a write index of 0x80000000 and a read index of 8 this is what it prints."""
    tree.add_device(
        "network",
        INSTANCE,
        14,
        files={
            "in_write_index": -(2**31),
            "in_read_index": 8,
            "in_read_bytes_avail": 2**31 - 8,
            "in_write_bytes_avail": 16384 - (2**31 - 8),
        },
    )
    ring = the_device(tree).inbound
    assert ring.write_index == 2**31
    assert ring.data_size == 16384


class MovingRing(System):
    """A system on which 64 bytes are taken out of a ring between the look at one file and at the next."""

    looks = 0

    def __init__(self, root: Path, still_after: int) -> None:
        super().__init__(root)
        self.still_after = still_after

    def number(self, place: str) -> int | None:
        if place.endswith("out_read_bytes_avail"):
            self.looks += 1
            return 640
        if place.endswith("out_write_bytes_avail"):
            return 16384 - 640 + (64 if self.looks <= self.still_after else 0)
        return super().number(place)


def test_a_ring_that_moved_during_the_look_is_looked_at_again(full):
    moving = MovingRing(full.root, still_after=2)
    ring = read_device(INSTANCE, moving).outbound
    assert (ring.read_bytes_avail, ring.data_size) == (640, 16384)


def test_a_ring_that_never_holds_still_has_no_known_size(full):
    moving = MovingRing(full.root, still_after=10**9)
    ring = read_device(INSTANCE, moving).outbound
    assert (ring.write_bytes_avail, ring.data_size) == (15808, None)
    assert moving.looks == 3


# -- whatever is wrong with a file -------------------------------------------------------------------


class instead_of:
    """Something else in the place of some files, and afterwards they again."""

    def __init__(self, tree: GuestTree, instance: str, replaced: dict[str, object]) -> None:
        self.folder = tree.device_folder(instance)
        self.replaced = replaced
        self.contents = {name: (self.folder / name).read_bytes() for name in replaced}

    def __enter__(self) -> None:
        for name, what in self.replaced.items():
            path = self.folder / name
            path.unlink()
            if isinstance(what, bytes):
                path.write_bytes(what)
            elif what == "folder":
                path.mkdir()
            elif what == "pipe":
                os.mkfifo(path)
            elif what == "link to nothing":
                path.symlink_to("nowhere")

    def __exit__(self, *_: object) -> None:
        for name, content in self.contents.items():
            path = self.folder / name
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(content)


#: What may stand in the place of a file without being one.
NO_FILE = ("nothing", "folder", "pipe", "link to nothing")

contents = st.one_of(
    st.sampled_from(NO_FILE),
    st.binary(max_size=40),
    st.text("0123456789-x:{}() \n\x1b\0", max_size=40).map(str.encode),
    st.integers(-(2**70), 2**70).map(lambda number: b"%d\n" % number),
    st.sampled_from([b"", b"9" * 70_000, b"14:" + b"9" * 5000, b"{" * 100, b"\xff\xfe"]),
)


@settings(max_examples=30, deadline=None)
@given(replaced=st.dictionaries(st.sampled_from(sorted(FILES)), contents, max_size=12))
@example(replaced={"channel_vp_mapping": b"14:" + b"9" * 5000})
@example(replaced={"class_id": b"{f8615163-df3e-46c5-913f-f2d2f965ed0}"})
@example(replaced={name: "nothing" for name in FILES})
@example(replaced={name: "folder" for name in FILES})
@example(replaced={name: "pipe" for name in FILES})
def test_a_file_that_is_missing_or_garbled_hides_no_other(full, replaced):
    right = the_device(full)
    with instead_of(full, INSTANCE, replaced):
        device, other = find_devices(full.root)
        if device.instance_id == OTHER:  # the other one has a relid left
            device, other = other, device
        assert other.id == 15
    for name, get in FILES.items():
        if name not in replaced:
            assert get(device) == get(right), name
        elif replaced[name] in NO_FILE:
            assert get(device) in (None, ()), name
        else:
            assert get(device) is None or type(get(device)) is type(get(right)), name


@pytest.mark.parametrize("folder", ["channels", "uio", "driver"])
@pytest.mark.parametrize("odd", ["missing", "file", "link to nothing", "empty"])
def test_a_folder_of_a_device_that_is_none_is_empty(tree, folder, odd):
    place = tree.add_device("network", INSTANCE, 14) / folder
    shutil.rmtree(place, ignore_errors=True)
    if odd == "file":
        place.write_text("17\n")
    elif odd == "link to nothing":
        place.symlink_to("nowhere")
    elif odd == "empty":
        place.mkdir()
    device = the_device(tree)
    assert device.channels == () or folder != "channels"
    assert device.uio is None
    assert device.driver == ("nowhere" if folder == "driver" and odd == "link to nothing" else None)
    assert device.id == 14


def test_a_folder_without_any_attribute_is_a_device_of_which_nothing_is_known(tree):
    tree.device_folder(INSTANCE).mkdir()
    device = the_device(tree)
    assert (device.id, device.class_id, device.channels, device.name) == (None, None, (), "unknown")
    assert device.primary is None


#: What int() and \d take for a digit, and the kernel never prints.
DIGIT = "\N{ARABIC-INDIC DIGIT THREE}"


def test_a_device_may_have_any_name(tree):
    names = ["x", "vmbus 14", "\x1b[2J", "{odd}", b"\xff\xfe".decode(errors="surrogateescape")]
    for relid, name in enumerate(names):
        tree.add_device("network", name, relid, files={"device_id": None})
    assert [device.instance_id for device in find_devices(tree.root)] == names


def test_what_has_no_relid_for_a_name_is_no_channel(tree):
    tree.add_device("network", INSTANCE, 7)
    for name in ("007", "-1", "1_0", " 15", "0x15", "ring", "9" * 30, DIGIT):
        (tree.device_folder(INSTANCE) / "channels" / name).mkdir()
    assert [channel.relid for channel in the_device(tree).channels] == [7]


def test_what_is_no_node_of_uio_is_not_taken_for_one(tree):
    folder = tree.add_device("network", INSTANCE, 14)
    for name in ("uio", "uio-1", "uio1x", "event", f"uio{DIGIT}"):
        (folder / "uio" / name).mkdir(parents=True)
    assert the_device(tree).uio is None


def test_lines_of_the_mapping_that_are_no_pair_are_left_out(full):
    lines = ["", "14", "14:", ":0", "14:-1", "a:b", "14:0:1", "0x14:0", f"14:{DIGIT}", "15:1"]
    with instead_of(full, INSTANCE, {"channel_vp_mapping": "\n".join(lines).encode()}):
        assert the_device(full).channel_vp_mapping == ((15, 1),)
