"""`vmbus top` in a terminal: a pseudo-terminal, in which keys are typed, and whose screen is read."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import signal

import pytest

from tests.cli.running import COMMAND
from tests.cli.terminal import SECONDS, Program, Screen, is_on_linux, knows_terminal
from tests.uio.guest_tree import GuestTree
from vmbus.cli.main import main

pytestmark = [
    pytest.mark.skipif(not is_on_linux(), reason="the pseudo-terminals and terminfo of Linux"),
    pytest.mark.skipif(not knows_terminal("linux"), reason="terminfo has no terminal `linux`"),
]

SCSI = "00000007-1234-5678-9abc-def012345678"
NETWORK = "00000008-1234-5678-9abc-def012345678"
KEYBOARD = "00000009-1234-5678-9abc-def012345678"


@pytest.fixture(scope="module")
def still_tree(tmp_path_factory):
    """One for all tests that change nothing in it."""
    return made_tree(tmp_path_factory.mktemp("still") / "guest")


@pytest.fixture
def tree(tmp_path):
    return made_tree(tmp_path / "guest")


def made_tree(root) -> GuestTree:
    made = GuestTree(root)
    made.add_device("scsi", SCSI, 7, driver="hv_storvsc")
    made.add_device("network", NETWORK, 14, driver="hv_netvsc")
    made.add_channel(NETWORK, 15, 1)
    made.add_interface(NETWORK, "eth0")
    return made


def start(tree: GuestTree, *words: str, **options) -> Program:
    """`vmbus top` of a tree."""
    return Program(lambda: main(["top", "--root", str(tree.root), "--interval", "0.1", *words]), **options)


def count(tree: GuestTree, instance: str, relid: int, **files: int) -> None:
    tree.write(tree.device_folder(instance) / "channels" / str(relid), files)


def rows(screen: Screen) -> list[str]:
    """The kinds and relids in the table, from the top."""
    kinds = ("scsi", "network", "keyboard")
    return [" ".join(line.split()[:2]) for line in screen.lines[2:-4] if line.startswith(kinds)]


def rate(screen: Screen) -> str:
    """What stands under INT/s in the first row."""
    end = screen.lines[1].index("INT/s") + len("INT/s")
    return screen.lines[2][:end].split()[-1]


IN_ORDER = ["scsi 7", "network 14", "network 15"]


def test_the_screen_shows_the_channels_and_q_leaves_the_terminal_as_it_was(still_tree):
    with Program([*COMMAND, "top", "--root", str(still_tree.root)]) as top:
        screen = top.until("q quit")
        assert rows(screen) == IN_ORDER
        assert "2 devices, 3 channels  every 1 s  by relid" in screen.lines[0]
        assert screen.lines[1].split()[:6] == ["DEVICE", "RELID", "SUB", "CPU", "OUT", "IN"]
        assert "░░░░░░░░   0%" in screen.lines[2]
        assert not screen.cursor_shown
        top.type("q")
        assert top.ended() == 0
        assert top.is_restored()


def test_the_first_sample_has_no_rates(still_tree):
    with start(still_tree, "--interval", "3600") as top:
        assert rate(top.until("q quit")) == "-"


def test_rates_come_with_the_second_sample(tree):
    with start(tree) as top:
        top.until("q quit")
        interrupts = itertools.count(start=1000, step=1000)

        def moves(screen: Screen) -> bool:
            count(tree, SCSI, 7, interrupts=next(interrupts))
            return rate(screen) not in ("-", "0")

        top.until(moves)


def test_typed_keys_sort_and_turn_round(still_tree):
    with start(still_tree) as top:
        top.until("by relid")
        top.type("r")
        top.until("by relid, reversed")
        top.until(lambda screen: rows(screen) == IN_ORDER[::-1])
        top.type("<")
        top.until("by device")
        top.until(lambda screen: rows(screen) == [*IN_ORDER[1:], IN_ORDER[0]])
        top.type("ss")
        top.until("by sub")
        top.until(lambda screen: rows(screen) == IN_ORDER)
        top.type("SS>")
        top.until("by relid")


def test_a_filter_is_typed_shown_at_once_and_kept_by_enter(still_tree):
    with start(still_tree) as top:
        top.until("q quit")
        top.type("/netvsx")
        top.until("filter: netvsx_")
        top.until("no channel matches netvsx")
        top.type("\x7fc")
        top.until(lambda screen: rows(screen) == IN_ORDER[1:])
        top.type("\r")
        top.until("q quit")
        top.until("2 of 3 channels")
        top.type("/")
        top.until("filter: _")
        top.type("scsx\x15eth\x1b")
        top.until("q quit")
        assert rows(top.until("filter netvsc")) == IN_ORDER[1:]
        top.type("\x1b")
        top.until(lambda screen: rows(screen) == IN_ORDER)


def test_a_pause_holds_what_is_shown_while_files_change(tree):
    with start(tree) as top:
        top.until("q quit")
        top.type("p")
        top.until("PAUSED")
        count(tree, SCSI, 7, out_mask=1)
        top.type("r")
        top.until("reversed")
        assert "1/0" not in top.screen.text
        top.type(" ")
        top.until("1/0")
        assert "PAUSED" not in top.screen.text


@pytest.mark.parametrize("wrong", [b"\xff", b"\x80", b"\xe7\xbd"])
def test_bytes_that_are_no_character_are_no_key_and_hide_none(still_tree, wrong):
    with start(still_tree) as top:
        top.until("q quit")
        top.type("p")
        top.until("PAUSED")
        top.type(wrong)
        top.type("r")
        top.until("reversed")


def test_a_filter_may_have_characters_of_several_bytes(tree):
    tree.set_driver(NETWORK, "网络")
    with start(tree) as top:
        top.until("q quit")
        top.type("/网".encode()[:-1])
        top.type("网".encode()[-1:])
        top.until("filter: 网_")
        top.until(lambda screen: rows(screen) == IN_ORDER[1:])


def test_the_help_is_shown_scrolled_and_left(still_tree):
    with start(still_tree) as top:
        top.until("q quit")
        top.type("h")
        top.until("ctrl-l")
        top.until(lambda screen: screen.lines[-1] == "-- more: page down --")
        top.type("\x1b[6~")
        top.until("INFULL/s")
        top.type("G")
        top.until("INSTANCE")
        top.type("h")
        assert rows(top.until("q quit")) == IN_ORDER


def test_the_cursor_keys_move_the_cursor(still_tree):
    with start(still_tree) as top:
        top.until("scsi 7  0")
        top.type("\x1b[B\x1b[B\x1b[B")
        top.until("network 15  0")
        top.type("k")
        top.until("network 14  0")
        top.type("\x1b[1~")
        top.until("scsi 7  0")


def test_it_survives_every_size(still_tree):
    with start(still_tree) as top:
        top.until("q quit")
        for columns, lines in ((40, 10), (5, 3), (1, 1), (200, 60), (5, 1), (80, 24)):
            top.resize(columns, lines)
            top.until(lambda screen, columns=columns: "scsi"[:columns] in screen.text)
        screen = top.until("q quit")
        assert rows(screen) == IN_ORDER
        top.type("q")
        assert top.ended() == 0


def test_a_narrow_screen_keeps_the_most_important_columns(still_tree):
    with start(still_tree, columns=40, lines=10) as top:
        screen = top.until("network    15")
        assert screen.lines[1].split() == ["DEVICE", "RELID", "OUT", "IN", "INT/s"]


def test_devices_come_and_go_and_so_does_all_of_vmbus(tree):
    with start(tree) as top:
        top.until("q quit")
        top.type("j")
        top.until("network 14  0")
        shutil.rmtree(tree.device_folder(NETWORK))
        top.until("scsi 7  0")
        tree.add_device("keyboard", KEYBOARD, 20)
        top.until(lambda screen: rows(screen) == ["scsi 7", "keyboard 20"])
        bus = tree.root / "sys/bus/vmbus"
        bus.rename(tree.root / "away")
        top.until(lambda screen: "is not there: this is no copy of" in " ".join(screen.text.split()))
        (tree.root / "away").rename(bus)
        top.until(lambda screen: rows(screen) == ["scsi 7", "keyboard 20"])


def test_control_characters_are_escaped_and_wide_ones_have_two_cells(tree):
    tree.set_driver(SCSI, "a\x1b[2Jb")
    tree.set_driver(NETWORK, "网络驱动")
    with start(tree, columns=120) as top:
        screen = top.until("q quit")
        assert screen.text.count("a\\x1b[2Jb") == 2  # in its row, and in the lines that tell more of it
        assert "网络驱动" in screen.text
        assert rows(screen) == IN_ORDER


def test_ctrl_c_ends_with_130(still_tree):
    with start(still_tree, "--interval", "3600") as top:
        top.until("q quit")
        top.type("\x03")
        assert top.ended() == 130
        assert top.is_restored()
        assert "Traceback" not in top.screen.text


def test_sigterm_ends_with_143(still_tree):
    with start(still_tree, "--interval", "3600") as top:
        top.until("q quit")
        os.kill(top.pid, signal.SIGTERM)
        assert top.ended() == 143
        assert top.is_restored()


def test_it_ends_when_its_terminal_is_gone_though_nothing_tells_it(still_tree):
    def run():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return main(["top", "--root", str(still_tree.root), "--interval", "3600"])

    ends, lives = os.pipe()
    with open(ends, "rb") as ends_when_it_does, Program(run) as top:
        os.close(lives)
        top.until("q quit")
        top.hang_up()
        assert select.select([ends_when_it_does], [], [], SECONDS)[0], "it goes on"
        assert top.wait() == 0


def test_it_stops_for_ctrl_z_and_goes_on_in_the_foreground(still_tree):
    words = ["sh", "-c", 'set -m; "$@"; echo STOPPED; stty -a; read line; fg', "sh"]
    with Program([*words, *COMMAND, "top", "--root", str(still_tree.root), "--interval", "0.1"]) as top:
        top.until("q quit")
        top.type("\x1a")
        top.until("STOPPED")
        top.until(" icanon")
        top.type("\n")
        top.until("q quit")
        assert rows(top.screen) == IN_ORDER
        top.type("q")
        assert top.ended() == 0


@pytest.mark.parametrize("name", ["vt100", "xterm"])
def test_other_terminals_show_the_same(still_tree, name):
    if not knows_terminal(name):
        pytest.skip(f"terminfo has no terminal {name}")
    with start(still_tree, variables={"TERM": name}) as top:
        assert rows(top.until("q quit")) == IN_ORDER
        top.type("q")
        assert top.ended() == 0


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("1", False), ("", True)])
def test_no_color_is_honoured(still_tree, value, coloured):
    with start(still_tree, variables={"NO_COLOR": value}) as top:
        top.until("q quit")
        assert bool(top.screen.colours) is coloured


def test_a_terminal_of_ascii_gets_bars_of_ascii(still_tree):
    with start(still_tree, variables={"LC_ALL": "C"}) as top:
        top.until("q quit")
        assert "........   0%" in top.screen.lines[2]


@pytest.mark.parametrize("term", [None, "", "dumb", "no-such-terminal"])
def test_a_terminal_that_cannot_be_drawn_on_is_one_line_and_2(still_tree, term):
    with start(still_tree, variables={"TERM": term}) as top:
        assert top.ended() == 2
        printed = " ".join(top.screen.text.split())
        assert printed.startswith("vmbus: TERM is ")
        assert "--once prints one table" in printed
