"""`vmbus inspect --uio` and `vmbus check --uio`: a live device, in every form that a dump can be shown in.

The device is a folder and a plain file below --root.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from tests.cli.running import control_page, ring_with, run, run_process
from tests.uio.guest_tree import GuestTree
from tests.uio.live_rings import INBOUND, INSTANCE, OUTBOUND, RINGS_SIZE, add_live_device, add_live_subchannel
from vmbus.cli.uio_input import UioDump, report_on
from vmbus.inspection import Severity, report_to_lines
from vmbus.uio import MovedWord, RingCopy, Snapshot, find_device

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="maps files as Linux does")

RING_SIZE = RINGS_SIZE // 2
FILE_COPY = "34d14be3-dee4-41c8-9ae7-6b174977c192"


@pytest.fixture
def tree(tmp_path: Path) -> GuestTree:
    return GuestTree(tmp_path / "root")


@pytest.fixture
def root(tree: GuestTree) -> Path:
    """Where there is a device that somebody has open, at uio0."""
    add_live_device(tree)
    return tree.root


# -- what is shown ---------------------------------------------------------------------------------


def test_both_rings_are_shown_with_their_roles_and_their_device(root):
    ending = run("inspect", "--uio", 0, "--root", root)
    assert ending.status == 0
    lines = ending.out.splitlines()
    assert lines[0] == "outbound ring at 0x0 of file-copy, channel 14, 16384 bytes of data"
    assert "inbound ring at 0x5000 of file-copy, channel 14, 16384 bytes of data" in lines
    assert "  interrupts masked   pending send size 0   features pending-send-size" in lines
    assert [line.split()[:3] for line in lines if line.startswith("  0x")] == [
        ["0x0000", "32", "in-band"],
        ["0x0020", "32", "completion"],
        ["0x0000", "40", "in-band"],
    ]


def test_json_says_that_the_source_is_a_device_and_whose_the_rings_are(root):
    document = run("inspect", "--uio", "uio0", "--root", root, "--json", "--whole").document
    assert document["schema"] == "vmbus.inspect/1"
    assert document["source"] == {"path": f"{root}/dev/uio0", "format": "uio", "size": RINGS_SIZE}
    assert document["findings"] == []
    outbound, inbound = document["rings"]
    assert (outbound["address"], outbound["role"], outbound["pair"]) == (0, "outbound", RING_SIZE)
    assert (inbound["address"], inbound["role"], inbound["pair"]) == (RING_SIZE, "inbound", 0)
    for ring, content in ((outbound, OUTBOUND), (inbound, INBOUND)):
        assert (ring["header_size"], ring["data_size"], ring["data_size_known"]) == (4096, 16384, True)
        assert bytes.fromhex(ring["data"]) == content[4096:]
        assert ring["device"] == {
            "class": FILE_COPY,
            "class_name": "file-copy",
            "instance": INSTANCE,
            "channel": 14,
        }
    assert [packet["type"] for packet in outbound["packets"]] == ["in-band", "completion"]
    assert bytes.fromhex(inbound["packets"][0]["payload"]) == b"from the host..."


def test_the_rings_of_a_device_are_those_of_a_raw_file_with_the_same_bytes(root, tmp_path):
    file = tmp_path / "rings.bin"
    file.write_bytes(OUTBOUND + INBOUND)
    of_file = run("inspect", file, "--history", "--json").document["rings"]
    of_device = run("inspect", "--uio", 0, "--root", root, "--history", "--json").document["rings"]
    assert [{**ring, "device": None} for ring in of_device] == of_file


@pytest.mark.parametrize("words", [["--type", "completion"], ["--limit", "1"], ["--transaction", "0"]])
def test_packets_are_selected_as_in_a_dump(root, words):
    packets = [
        packet
        for ring in run("inspect", "--uio", 0, "--root", root, "--json", *words).document["rings"]
        for packet in ring["packets"]
    ]
    assert len(packets) == {"--type": 1, "--limit": 2, "--transaction": 3}[words[0]]


def test_packets_that_were_read_already_are_shown_with_history(tree):
    read = struct.pack("<I", 64)
    add_live_device(tree, OUTBOUND[:4] + read + OUTBOUND[8:] + INBOUND)
    outbound, _ = run("inspect", "--uio", 0, "--root", tree.root, "--history", "--json").document["rings"]
    assert outbound["packets"] == []
    assert [packet["trust"] for packet in outbound["consumed"]] == ["intact", "intact"]


def test_jsonl_names_the_device_in_every_ring(root):
    objects = run("inspect", "--uio", 0, "--root", root, "--jsonl").objects
    assert [one["kind"] for one in objects] == ["ring", "packet", "packet", "ring", "packet"]
    assert {one["device"]["instance"] for one in objects if one["kind"] == "ring"} == {INSTANCE}
    assert {one["source"]["format"] for one in objects if one["kind"] == "ring"} == {"uio"}


def test_a_hexdump_has_the_bytes(root):
    assert "61 73 6b 65 64 2e 2e 2e" in run("inspect", "--uio", 0, "--root", root, "--hexdump").out


@pytest.mark.parametrize(
    ("option", "start"), [("--html", b"<!DOCTYPE html>"), ("--pcapng", b"\x0a\x0d\x0d\x0a")]
)
def test_a_page_and_a_capture_are_written(root, tmp_path, option, start):
    out = tmp_path / "out"
    assert run("inspect", "--uio", 0, "--root", root, option, out).out == ""
    assert out.read_bytes().startswith(start)
    assert b"answered" in out.read_bytes() or b"61 6e 73 77 65 72 65 64" in out.read_bytes()


def test_a_device_is_named_by_its_kind_and_checked_against_device(root):
    assert run("inspect", "--uio", "file-copy", "--root", root, "--device", "file-copy").status == 0
    refused = run("inspect", "--uio", "file-copy", "--root", root, "--device", "network")
    assert (refused.status, "device of class network" in refused.err) == (2, True)


def test_a_subchannel_is_shown(tree):
    add_live_device(tree)
    rings = [ring_with((6, name), data_size=8192) for name in (b"sub out.", b"sub in..")]
    add_live_subchannel(tree, 23, b"".join(rings))
    shown = run("inspect", "--uio", 0, "--root", tree.root, "--channel", 23, "--json").document["rings"]
    assert [bytes.fromhex(ring["packets"][0]["payload"]) for ring in shown] == [b"sub out.", b"sub in.."]
    assert {ring["device"]["channel"] for ring in shown} == {23}


def test_a_broken_ring_of_a_device_ends_with_1(tree):
    broken = control_page(0x4000, 0) + OUTBOUND[4096:]
    add_live_device(tree, broken + INBOUND)
    ending = run("inspect", "--uio", 0, "--root", tree.root, "--json")
    assert (ending.status, ending.document["rings"][0]["verdict"]) == (1, "corrupt")


def test_rings_that_were_never_used_are_shown(tree):
    add_live_device(tree, bytes(RINGS_SIZE))
    ending = run("inspect", "--uio", 0, "--root", tree.root, "--json")
    assert [ring["verdict"] for ring in ending.document["rings"]] == ["never-opened"] * 2


# -- a ring that moved -----------------------------------------------------------------------------


def report_of(tree: GuestTree, outbound: RingCopy):
    """What is said of a copy of which the outbound ring moved."""
    device = find_device("uio0", tree.root)
    inbound = RingCopy(INBOUND, 4096)
    return report_on(UioDump("/dev/uio0", Snapshot(device, device.primary, outbound, inbound)))


@pytest.mark.parametrize(
    ("moved", "passed", "said"),
    [
        (
            [MovedWord(0, 64, 128), MovedWord(1, 0, 32)],
            False,
            "in from 0x40 to 0x80, out from 0x0 to 0x20; "
            + "shown are in as it was before and out as it was after: the packets in between stood still",
        ),
        (
            [MovedWord(0, 64, 128), MovedWord(1, 0, 128)],
            True,
            "in from 0x40 to 0x80, out from 0x0 to 0x80; "
            + "all that had waited was read meanwhile, so that the ring is shown empty",
        ),
        (
            [MovedWord(2, 0, 1), MovedWord(7, 0, 5)],
            False,
            "interrupt mask from 0x0 to 0x1, word 7 from 0x0 to 0x5",
        ),
    ],
    ids=["indices", "passed", "masks"],
)
def test_what_moved_is_a_note_of_that_ring_alone(tree, root, moved, passed, said):
    report = report_of(tree, RingCopy(OUTBOUND, 4096, tuple(moved), passed, 3))
    ((finding,), others) = (ring.findings for ring in report.rings)
    assert (finding.check, finding.severity, finding.offset) == ("ring-moved", Severity.NOTE, None)
    assert finding.message == f"moved during each of 3 copies, the last time {said}"
    assert (others, report.is_sound) == ([], True)
    assert any("ring-moved" in line for line in report_to_lines(report))


# -- a copy that is kept ---------------------------------------------------------------------------


def test_what_is_saved_is_a_raw_file_of_both_rings(root, tmp_path):
    saved = tmp_path / "saved.bin"
    shown = run("inspect", "--uio", 0, "--root", root, "--save", saved, "--json").document["rings"]
    assert saved.read_bytes() == OUTBOUND + INBOUND
    again = run("inspect", saved, "--json").document["rings"]
    assert [ring["packets"] for ring in again] == [ring["packets"] for ring in shown]
    assert [ring["role"] for ring in again] == ["outbound", "inbound"]


def test_two_saved_copies_show_a_stuck_ring(tree, tmp_path):
    node = add_live_device(tree)
    before, after = tmp_path / "before.bin", tmp_path / "after.bin"
    run("inspect", "--uio", 0, "--root", tree.root, "--save", before)
    node.write_bytes(
        OUTBOUND + ring_with((6, b"from the host..."), (6, b"and more"), data_size=16384, mask=1)
    )
    run("inspect", "--uio", 0, "--root", tree.root, "--save", after)
    rings = run("diff", before, after, "--json").document["rings"]
    assert [ring["moved"] for ring in rings] == [False, True]
    assert [[one["to"] for one in ring["stuck"]] for ring in rings] == [["reader"], []]
    assert [bytes.fromhex(packet["payload"]) for packet in rings[1]["written"]] == [b"and more"]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_a_device_that_nobody_has_open_is_refused_and_what_open_would_do_is_said(tree, command):
    node = add_live_device(tree, is_open=False)
    refused = run(command, "--uio", 0, "--root", tree.root)
    assert refused.status == 2
    for words in ("nobody has uio0", "zero their control pages; --open does that, and closes it again\n"):
        assert words in refused.err
    assert run(command, "--uio", 0, "--root", tree.root, "--open").status == 0
    assert node.read_bytes() == OUTBOUND + INBOUND


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--uio", "3"], "no device uio3; uio_hv_generic has uio0: "),
        (["--uio", "network"], "no device network"),
        (["--uio", "0", "--channel", "15"], "has no channel 15; it has 14"),
        (["--uio", "0", "--channel", "23", "--open"], "only the kernel opens: leave out --open\n"),
    ],
)
def test_what_is_not_there_is_one_line(tree, words, said):
    add_live_device(tree)
    if "23" in words:
        add_live_subchannel(tree, 23, None)
    refused = run("inspect", *words, "--root", tree.root)
    assert (refused.status, said in refused.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--offset", "0"],
        ["--address", "0x1000"],
        ["--pages", "0,0x1000"],
        ["--data-size", "4K"],
        ["--header-size", "64K"],
        ["--map", "iomem"],
        ["--sample"],
        ["ring.bin"],
        ["-"],
    ],
)
@pytest.mark.parametrize("command", ["inspect", "check"])
def test_uio_says_where_the_rings_are_and_nothing_else_may(command, words):
    refused = run(command, "--uio", "0", *words)
    assert (refused.status, "leave out" in refused.err, words[0] in refused.err) == (2, True, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--channel", "14"], "--channel goes with --uio"),
        (["--open"], "--open goes with --uio"),
        (["--root", "/"], "--root goes with --uio"),
        (["--save", "out"], "--save goes with --uio"),
    ],
)
def test_its_options_are_nothing_without_it(words, said):
    for command in ("inspect", "check") if words[0] != "--save" else ("inspect",):
        refused = run(command, "--sample", *words)
        assert (refused.status, said in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--uio", " "], "followed by nothing"),
        (["--uio", "0", "--save", "-"], "--save needs a file"),
        (["--uio", "0", "--save", ""], "--save is followed by nothing"),
        (["--uio", "0", "--save", "twice", "--html", "twice"], "written twice"),
        (["--uio", "0", "--save", "twice", "--pcapng", "twice"], "written twice"),
        (["--uio", "0", "--queue-size", "8", "--descriptor-table", "0"], "--uio is a device with rings"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    refused = run("inspect", *words)
    assert (refused.status, said in refused.err) == (2, True)
    assert not Path("twice").exists()


# -- check, and what it costs ----------------------------------------------------------------------


def test_check_names_the_device_and_what_waits(root):
    ending = run("check", "--uio", 0, "--root", root, "--assume-quiescent")
    path = f"{root}/dev/uio0"
    assert ending.status == 1
    lines = ending.out.splitlines()
    assert lines[0].startswith(
        f"{path}: ring 0x0 (outbound of file-copy, channel 14): control: error: stuck-reader"
    )
    assert lines[-1].startswith(
        f"{path}: ring 0x5000 (inbound of file-copy, channel 14): verdict: waiting for its"
    )
    document = run("check", "--uio", 0, "--root", root, "--json").document
    assert document["files"][0]["source"]["format"] == "uio"


def test_looking_at_a_dump_does_not_import_what_looks_at_devices():
    code = (
        "import sys; from vmbus.cli.main import main; main(['inspect', '--sample']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    modules = run_process(command=[sys.executable, "-c", code]).err.split()
    assert "vmbus.inspection.report" in modules
    assert not [name for name in modules if name.startswith("vmbus.uio") or name == "vmbus.cli.uio_input"]
