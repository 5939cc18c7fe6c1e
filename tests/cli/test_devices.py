"""`vmbus devices`: its text, its JSON, its filters, and how it ends.

The expected texts are tests/expected_output/devices-*.txt, of the guest in tests/uio/realistic_guest.py.  After a
wanted change of them write them anew, and read each before it is kept:

    python -m tests.cli.test_devices
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.documented import documented_keys, keys_in
from tests.cli.running import Ending, run
from tests.uio.guest_tree import GuestTree
from tests.uio.realistic_guest import NETWORK, UNKNOWN_CLASS, instance_of, realistic_guest
from vmbus.cli import devices_json
from vmbus.errors import DeviceError
from vmbus.uio import find_device

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")

EXPECTED = Path(__file__).parent.parent / "expected_output"

#: The expected texts, and the options of each.
CASES = {
    "devices": [],
    "devices-v": ["-v"],
    "devices-vv": ["-vv", str(NETWORK), "uio0", "hvsock", UNKNOWN_CLASS],
}

#: The keys of the JSON, which are promised; and of those, the files in sysfs.
RING_FILES = ("write_index", "read_index", "intr_mask", "read_bytes_avail", "write_bytes_avail")
DEVICE_KEYS = {
    *("instance_id", "path", "class_name", "class_description", "hvsock_port", "driver", "uio", "open"),
    *("interfaces", "disks"),
    *("state_name", "id", "class_id", "device_id", "vendor", "device", "state", "modalias", "numa_node"),
    *("driver_override", "monitor_id", "channel_vp_mapping", "channels", "maps"),
    *(f"out_{name}" for name in (*RING_FILES, "data_size")),
    *(f"in_{name}" for name in (*RING_FILES, "data_size")),
    *(
        f"{side}_monitor_{name}"
        for side in ("server", "client")
        for name in ("pending", "latency", "conn_id")
    ),
}
CHANNEL_KEYS = {
    *("relid", "open", "subchannel_id", "cpu", "out_mask", "in_mask", "read_avail", "write_avail"),
    *("interrupts", "events", "intr_in_full", "intr_out_empty", "out_full_first", "out_full_total"),
    *("pending", "latency", "monitor_id", "ring_size"),
}


@pytest.fixture(scope="module")
def guest(tmp_path_factory) -> GuestTree:
    return realistic_guest(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def tree(tmp_path) -> GuestTree:
    return GuestTree(tmp_path)


def devices(tree: GuestTree, *words: object) -> Ending:
    return run("devices", *words, "--root", tree.root)


def relids(tree: GuestTree, *words: object) -> list[int]:
    """Those of the devices that are listed."""
    return [int(line.split()[0]) for line in devices(tree, *words).out.splitlines()[1:]]


# -- the text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_as_expected(guest, monkeypatch, name):
    monkeypatch.chdir(guest.root)
    shown = run("devices", *CASES[name], "--root", ".")
    assert shown.out == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")
    assert shown.status == 0


def test_what_lsvmbus_shows_is_all_there(guest):
    """Its -vv: VMBus id, class, device, path, and relid and processor of every channel."""
    (line, *more) = devices(guest, "-vv", NETWORK).out.splitlines()[1:]
    instance = instance_of(NETWORK)
    assert line.split()[:2] == ["14", "network"]
    text = "\n".join(more)
    for field in (
        "f8615163-df3e-46c5-913f-f2d2f965ed0e",
        instance,
        f"{guest.root}/sys/bus/vmbus/devices/{instance}",
    ):
        assert f" {field}\n" in text
    for relid, cpu in ((14, 0), (15, 1), (16, 2), (17, 3), (18, 0)):
        assert any(one.split()[:2] == ["channel", str(relid)] and f"  cpu {cpu}  " in one for one in more), (
            relid
        )


def test_every_file_is_named_in_the_most_detailed_text(guest):
    text = devices(guest, "-vv", NETWORK).out
    device_files = {
        "driver_override",
        "modalias",
        "vendor",
        "channel_vp_mapping",
        "monitor_conn_id",
        "monitor_id",
    }
    of_channels = CHANNEL_KEYS - {"relid", "open", "subchannel_id", "ring_size"}
    for name in {*device_files, *of_channels, *RING_FILES} - {"read_bytes_avail", "write_bytes_avail"}:
        assert f"{name} " in text, name


def test_what_is_missing_is_a_dash(tree):
    tree.device_folder("bare").mkdir()
    title, line = devices(tree).out.splitlines()
    assert len(line.split()) == len(title.split())
    assert set(line.split()) == {"-", "unknown"}
    for detail in ("-v", "-vv"):
        assert "None" not in devices(tree, detail).out


def test_an_older_kernel_names_channels_in_the_mapping_alone(tree):
    folder = tree.add_device("network", "old", 14, files={"channel_vp_mapping": "14:0\n21:3\n"})
    shutil.rmtree(folder / "channels")
    assert devices(tree).out.splitlines()[1].split()[3:5] == ["2", "-"]
    assert "channel   21  subchannel -  cpu 3" in devices(tree, "-v").out


def test_a_channel_whose_processor_cannot_be_read_has_that_of_the_mapping(tree):
    tree.add_device("network", "one", 14, files={"channel_vp_mapping": "14:6\n"})
    tree.write(tree.device_folder("one") / "channels/14", {"cpu": None})
    assert "channel   14  subchannel 0  cpu 6" in devices(tree, "-v").out


def test_a_state_that_has_no_name_is_a_number(tree):
    tree.add_device("network", "one", 14, files={"state": 9})
    assert devices(tree).out.splitlines()[1].split()[2] == "9"


@pytest.mark.parametrize("word", ["write_index", "read_index"])
def test_an_index_that_its_ring_cannot_have_is_pointed_out(tree, word):
    tree.add_device("network", "one", 14, files={f"in_{word}": 16384})
    (line,) = (line for line in devices(tree, "-v").out.splitlines() if "is outside" in line)
    assert line.split()[0] == "inbound"
    assert line.endswith(f"  {word} is outside")


def test_names_that_a_terminal_would_obey_are_escaped(tree):
    tree.add_device(
        "network", "one\x1b[2J\ntwo", 14, files={"driver_override": "\x1b[31m", "modalias": "\a\b"}
    )
    (tree.device_folder("one\x1b[2J\ntwo") / "driver").symlink_to("red\x1b[31m")
    shown = devices(tree, "-vv").out  # held to have no escape by running.Ending.check
    assert r"instance  one\x1b[2J\ntwo" in shown
    assert r"red\x1b[31m" in shown


def test_one_long_name_does_not_push_the_columns_of_others_away(tree):
    tree.add_device("network", "one", 1, driver="d" * 200)
    tree.add_device("network", "two", 2, driver="hv_netvsc")
    assert [len(line) < 130 for line in devices(tree).out.splitlines()] == [True, False, True]


def test_of_a_great_many_disks_the_first_are_named_and_all_by_v(tree):
    tree.add_device("scsi", "one", 9)
    for number in range(6):
        tree.add_disk("one", f"sd{number}", host=number)
    assert devices(tree).out.endswith("synthetic SCSI controller, sd0, sd1, sd2, sd3, and 2 more\n")
    assert "carries   sd0 sd1 sd2 sd3 sd4 sd5\n" in devices(tree, "-v").out


def test_a_bus_without_devices_is_an_empty_list(tree):
    shown = devices(tree)
    assert shown.out.split()[0] == "RELID"
    assert len(shown.out.splitlines()) == 1
    assert shown.status == 0


# -- JSON --------------------------------------------------------------------------------------------


def test_the_json_has_the_promised_keys_and_all_files(guest):
    document = devices(guest, "--json").document
    assert document.keys() == {"schema", "root", "hibernation", "devices"}
    assert document["schema"] == "vmbus.devices/1"
    assert document["root"] == str(guest.root)
    assert document["hibernation"] == 0
    assert len(document["devices"]) == 15
    for device in document["devices"]:
        assert device.keys() == DEVICE_KEYS
        for channel in device["channels"]:
            assert channel.keys() == CHANNEL_KEYS


def test_every_key_of_the_json_is_documented_unless_it_is_the_name_of_a_file(guest):
    keys, documented = keys_in(devices(guest, "--json").document), documented_keys(devices_json)
    files = {path.name for path in (guest.root / "sys/bus/vmbus/devices").rglob("*")}
    assert documented - keys == set()
    assert keys - documented - files == set()


def test_the_json_of_a_device_has_what_its_files_say(guest):
    (device,) = devices(guest, "--json", NETWORK).document["devices"]
    assert device["instance_id"] == device["device_id"] == instance_of(NETWORK)
    assert device["path"] == str(guest.device_folder(instance_of(NETWORK)))
    assert (device["class_name"], device["class_id"]) == ("network", "f8615163-df3e-46c5-913f-f2d2f965ed0e")
    assert (device["id"], device["vendor"], device["device"], device["numa_node"]) == (14, 0x1414, 3, 0)
    assert (device["state"], device["state_name"], device["open"]) == (3, "open", True)
    assert (device["driver"], device["driver_override"], device["uio"]) == ("hv_netvsc", None, None)
    assert (device["in_write_index"], device["in_read_index"], device["in_intr_mask"]) == (0x138, 0xA8, 1)
    assert (device["in_read_bytes_avail"], device["in_data_size"]) == (144, 508 * 1024)
    assert (device["monitor_id"], device["server_monitor_conn_id"]) == (1, 0x10005)
    assert device["client_monitor_latency"] == 1000
    assert device["channel_vp_mapping"][1] == {"relid": 15, "cpu": 1}
    assert [channel["relid"] for channel in device["channels"]] == [14, 15, 16, 17, 18]
    first = device["channels"][0]
    assert (first["open"], first["interrupts"], first["out_full_total"], first["in_mask"]) == (
        True,
        123456,
        7,
        1,
    )
    assert device["maps"] == []


def test_the_json_of_a_closed_device_of_uio_has_its_maps_and_no_indices(guest):
    (device,) = devices(guest, "--json", "uio0").document["devices"]
    assert (device["uio"], device["open"], device["state_name"]) == ("uio0", False, "ready")
    assert device["out_write_index"] is device["in_data_size"] is None
    assert device["channels"][0]["out_mask"] is None
    assert device["channels"][0]["ring_size"] == 40960
    assert device["maps"][0] == {
        "number": 0,
        "name": "txrx_rings",
        "size": 40960,
        "addr": 0x7F000000,
        "addr_hex": "0x7f000000",
        "offset": 0,
    }


def test_a_socket_is_shown_with_its_port(guest):
    ports = [
        device["hvsock_port"] for device in devices(guest, "--json", "--class", "hvsock").document["devices"]
    ]
    assert ports == [1024, 5000]
    assert "Hyper-V socket, port 5000\n" in devices(guest).out


def test_a_kind_that_nobody_knows_is_null_and_has_its_guid(guest):
    (device,) = devices(guest, "--json", UNKNOWN_CLASS).document["devices"]
    assert device["class_name"] is device["class_description"] is None
    assert device["class_id"] == UNKNOWN_CLASS


def test_the_json_of_a_bare_device_is_null_for_null(tree):
    tree.device_folder("bare").mkdir()
    document = devices(tree, "--json").document
    assert document["hibernation"] is None
    (device,) = document["devices"]
    present = {name: value for name, value in device.items() if value is not None}
    path = str(tree.device_folder("bare"))
    empty = {key: [] for key in ("interfaces", "disks", "channels", "channel_vp_mapping", "maps")}
    assert present == {"instance_id": "bare", "path": path, "open": False, **empty}


# -- filters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--class", "network"], [14]),
        (["--class", "NETVSC"], [14]),
        (["--class", "{F8615163-df3e-46c5-913f-f2d2f965ed0e}"], [14]),
        (["--class", "hvsock"], [25, 26]),
        (["--class", "00000400-facb-11e6-bd58-64006a7986d3"], [25]),
        (["--class", UNKNOWN_CLASS], [27]),
        (["--class", "unknown"], [27]),
        (["--class", "Unknown", "--class", "mouse"], [7, 27]),
        (["--class", "scsi", "--class", "kvp"], [5, 9]),
        (["--name", "integration service"], [2, 3, 4, 5]),
        (["--name", "VSC"], [9, 14]),
        (["--name", "unknown"], [27]),
        (["--name", instance_of(24)[:13]], [24]),
        (["--relid", "14"], [14]),
        (["--relid", "0xe"], [14]),
        (["--relid", "18"], [14]),
        (["--relid", "1", "--relid", "28"], [1, 28]),
        (["--driver", "hv_utils"], [2, 3, 4, 5]),
        (["--driver", "HV_Netvsc"], [14]),
        (["--driver", "none"], [27]),
        (["--driver", "none", "--driver", "hv_pci"], [27, 28]),
        (["hv_utils", "--class", "heartbeat"], [3]),
        (["14", "uio0", "mouse"], [7, 14, 24]),
        ([instance_of(8)], [8]),
        (["eth0"], [14]),
        (["/dev/sda"], [9]),
        (["--name", "eth"], [14]),
    ],
)
def test_filters_leave_these_devices(guest, words, found):
    assert relids(guest, *words) == found


@pytest.mark.parametrize(
    "words",
    [
        ["--class", "ide"],
        ["--name", "floppy"],
        ["--relid", "99"],
        ["--driver", "hv_nothing"],
        ["--driver", ""],
        ["14", "--driver", "none"],
    ],
)
def test_filters_that_leave_nothing_end_as_grep_does(guest, words):
    ending = devices(guest, *words)
    assert (ending.status, ending.out, ending.err) == (1, "", "")
    ending = devices(guest, "--json", *words)
    assert (ending.status, ending.document["devices"]) == (1, [])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("netwrok", "no device netwrok (did you mean network?)"),
        ("hv_nettvsc", "no device hv_nettvsc (did you mean hv_netvsc?)"),
        ("uio7", "no device uio7; uio_hv_generic has uio0: file-copy"),
        ("16", "no device 16; that is a subchannel of 14 (eth0), network"),
        ("99", "no device 99; there are balloon, "),
        ("ide", "no device ide; there are balloon, "),
    ],
)
def test_a_device_that_is_named_and_not_there_is_told(guest, name, complaint):
    for form in ([], ["--json"]):
        ending = devices(guest, name, *form)
        assert (ending.status, ending.err.count("\n")) == (1, 1)
        assert ending.err.startswith(f"vmbus: {complaint}")
        assert find_refusal(guest, name) in ending.err


def find_refusal(guest: GuestTree, name: str) -> str:
    """What whoever needs one device is told."""
    with pytest.raises(DeviceError) as refused:
        find_device(name, guest.root)
    return refused.value.strerror


def test_the_others_are_listed_beside_a_device_that_is_not_there(guest):
    ending = devices(guest, "14", "netwrok")
    assert [line.split()[0] for line in ending.out.splitlines()[1:]] == ["14"]
    assert (ending.status, ending.err) == (1, "vmbus: no device netwrok (did you mean network?)\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--class", "netwerk"], "netwerk is no class; did you mean network?"),
        (["--class", "unknwon"], "unknwon is no class; did you mean unknown?"),
        (["--class", "%%%"], "%%% is no class; there is activation, "),
        (["--relid", "x"], "'x' is no number"),
        (["--root"], "expected one argument"),
    ],
)
def test_bad_usage_is_one_line(words, complaint):
    ending = run("devices", *words)
    assert ending.status == 2
    assert complaint in ending.err


# -- where there is no bus ---------------------------------------------------------------------------


def test_where_there_is_no_bus_one_line_says_so(tmp_path):
    for form in ([], ["-v"], ["--json"], ["--driver", "none"]):
        ending = run("devices", *form, "--root", tmp_path)
        assert ending.status == 2
        assert f"{tmp_path}/sys/bus/vmbus/devices is not there: this is no copy of the files" in ending.err


def test_a_root_that_is_not_there_has_no_bus(tmp_path):
    assert run("devices", "--root", tmp_path / "gone").status == 2


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        realistic_guest(Path(folder))
        os.chdir(folder)
        for case, options in CASES.items():
            text = run("devices", *options, "--root", ".").out
            (EXPECTED / f"{case}.txt").write_text(text, encoding="utf-8")
    sys.exit(0)
