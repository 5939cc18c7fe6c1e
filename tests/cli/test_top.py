"""`vmbus top` without a terminal: its table for any size, its keys, its loop, its text and its JSON.

tests/cli/test_top_screen.py has the terminal.
"""

from __future__ import annotations

import builtins
import tempfile
from functools import lru_cache
from pathlib import Path
from unicodedata import east_asian_width

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import (
    booleans,
    builds,
    composite,
    floats,
    integers,
    none,
    one_of,
    sampled_from,
    text,
)

from tests.cli.documented import documented_keys, keys_in
from tests.cli.running import run
from tests.uio.guest_tree import GuestTree
from tests.uio.realistic_guest import realistic_guest
from vmbus.cli import top_command, top_json, top_screen
from vmbus.cli.top_columns import COLUMN_NAMES, COLUMNS, column, sorted_rows
from vmbus.cli.top_help import HELP
from vmbus.cli.top_keys import press
from vmbus.cli.top_loop import REDRAW, TERMINAL_GONE, picture_of, watch
from vmbus.cli.top_table import MORE, screen_lines
from vmbus.cli.top_text import ASCII, BLOCKS, HALVES, fill_text, rate_text
from vmbus.cli.top_view import Picture, View, matches
from vmbus.uio import COUNTERS, ChannelRow, Counter, Fill, Sample, take_sample

SCSI = "00000007-1234-5678-9abc-def012345678"
NETWORK = "00000008-1234-5678-9abc-def012345678"
VIDEO = "00000009-1234-5678-9abc-def012345678"


@pytest.fixture(scope="module")
def still_tree(tmp_path_factory):
    """One for all tests that change nothing in it."""
    return made_tree(tmp_path_factory.mktemp("still") / "guest")


@pytest.fixture
def tree(tmp_path):
    return made_tree(tmp_path / "guest")


def made_tree(root):
    tree = GuestTree(root)
    tree.add_device("scsi", SCSI, 7, driver="hv_storvsc")
    tree.add_device("network", NETWORK, 14, driver="hv_netvsc")
    tree.add_channel(NETWORK, 15, 1)
    tree.add_interface(NETWORK, "eth0")
    tree.add_disk(SCSI, "sda")
    tree.add_device("video", VIDEO, 20, is_open=False)
    return tree


def store(tree: GuestTree, relid: int, instance: str = SCSI, **files: object) -> None:
    tree.write(tree.device_folder(instance) / "channels" / str(relid), files)


def rows_of(tree: GuestTree) -> list[ChannelRow]:
    return picture_of(take_sample(tree.root), None, tree.root).rows


@lru_cache(maxsize=1)
def usual_rows() -> list[ChannelRow]:
    """The rows of the tree that every test begins with."""
    with tempfile.TemporaryDirectory() as folder:
        return rows_of(made_tree(Path(folder) / "guest"))


def relids(rows) -> list[int]:
    return [row.channel.relid for row in rows]


@pytest.fixture
def no_wait(monkeypatch, tree):
    """Nobody sleeps; meanwhile the SCSI channel is interrupted 50 times."""

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        store(tree, 7, interrupts=50 * len(waits))

    waits: list[float] = []
    monkeypatch.setattr(top_command, "sleep", sleep)
    return waits


# -- --once and --json ------------------------------------------------------------------------------


def test_once_prints_one_table_of_two_samples(tree, no_wait):
    ending = run("top", "--root", tree.root, "--once")
    assert ending.status == 0
    title, headings, *rows = ending.out.splitlines()
    assert title.startswith("3 devices, 4 channels, rates over ")
    assert headings.split()[:2] == ["DEVICE", "RELID"]
    assert [row.split()[:2] for row in rows] == [
        ["scsi", "7"],
        ["network", "14"],
        ["network", "15"],
        ["video", "20"],
    ]
    assert headings.split()[-1] == "INSTANCE"  # where no line ends, every column is there
    assert rows[3].split()[4:6] == ["closed", "closed"]
    assert len(no_wait) == 1


def test_once_with_count_is_so_many_tables(tree, no_wait):
    tables = run("top", "--root", tree.root, "--once", "--count", 3).out.split("\n\n")
    assert [table.splitlines()[0].split()[0] for table in tables] == ["3"] * 3
    assert len(no_wait) == 3


@pytest.mark.parametrize("form", ["--once", "--json"])
def test_a_filter_that_leaves_nothing_ends_with_1_as_that_of_devices_does(still_tree, form):
    words = ("top", "--root", still_tree.root, "--interval", 0, form, "--filter")
    assert [run(*words, which).status for which in ("zzz", "eth0")] == [1, 0]


@pytest.mark.parametrize("heading", [one.heading for one in COLUMNS])
def test_what_stands_above_a_column_is_its_name(still_tree, heading):
    words = ("top", "--root", still_tree.root, "--once", "--interval", 0, "--sort")
    assert run(*words, heading).out == run(*words, heading.lower()).out
    assert column(heading.lower()).heading == heading


def test_reverse_sorts_the_other_way_round(still_tree):
    lines = run("top", "--root", still_tree.root, "--once", "--interval", 0, "--reverse").out.splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["20", "15", "14", "7"]


def test_once_with_interval_0_is_one_sample_without_rates(tree, no_wait):
    ending = run("top", "--root", tree.root, "--once", "--interval", 0)
    assert ending.out.startswith("3 devices, 4 channels, no rates\n")
    assert no_wait == []


def test_json_is_one_object_with_every_number_and_null_for_what_is_not_known(tree, no_wait):
    store(tree, 14, NETWORK, monitor_id=3, pending=8, events=None)
    ending = run("top", "--root", tree.root, "--json", "--filter", "14")
    (document,) = ending.objects
    assert document["schema"] == "vmbus.top/1"
    assert document["device_count"] == 3
    assert document["problem"] is None
    assert document["seconds"] >= 0
    (channel,) = document["channels"]
    assert channel["instance_id"] == NETWORK
    assert (channel["class_name"], channel["driver"], channel["uio"]) == ("network", "hv_netvsc", None)
    assert (channel["relid"], channel["subchannel_id"], channel["cpu"]) == (14, 0, 0)
    assert (channel["pending"], channel["monitor_id"], channel["signal_pending"]) == (8, 3, True)
    assert (channel["interrupts"], channel["events"]) == (0, None)
    assert (channel["rates"]["interrupts"], channel["rates"]["events"]) == (0.0, None)
    assert channel["outbound"] == {
        "used": 0,
        "data_size": 16384,
        "data_size_assumed": False,
        "fraction": 0.0,
    }
    assert set(COUNTERS) == channel["rates"].keys()


def test_every_key_of_the_json_is_documented(still_tree):
    (document,) = run("top", "--root", still_tree.root, "--json", "--interval", 0).objects
    assert keys_in(document) == documented_keys(top_json)


def test_what_the_json_of_devices_has_too_is_called_the_same_there(tmp_path):
    tree = realistic_guest(tmp_path)
    (sample,) = run("top", "--root", tree.root, "--json", "--interval", 0).objects
    listed = run("devices", "--root", tree.root, "--json").document["devices"]
    devices = {device["instance_id"]: device for device in listed}
    assert sample["device_count"] == len(devices)
    assert len(sample["channels"]) == sum(len(device["channels"]) for device in listed)
    for row in sample["channels"]:
        device = devices[row["instance_id"]]
        (channel,) = (one for one in device["channels"] if one["relid"] == row["relid"])
        known = device | channel
        assert row.keys() - known.keys() == {"outbound", "inbound", "signal_pending", "rates"}
        assert {key: known[key] for key in row.keys() & known.keys()}.items() <= row.items()


def test_json_with_count_is_an_object_a_sample_each_with_rates(tree, no_wait):
    ending = run("top", "--root", tree.root, "--json", "--count", 3, "--sort", "INT/s")
    assert len(ending.out.splitlines()) == len(no_wait) == 3
    for one in ending.objects:
        first = one["channels"][0]
        assert first["relid"] == 7
        assert first["rates"]["interrupts"] == pytest.approx(50 / one["seconds"], rel=0.01)


def test_json_goes_on_when_vmbus_is_gone_and_says_so(tree, monkeypatch):
    bus = tree.root / "sys/bus/vmbus"
    monkeypatch.setattr(top_command, "sleep", lambda seconds: bus.exists() and bus.rename(tree.root / "away"))
    ending = run("top", "--root", tree.root, "--json", "--count", 2)
    assert [one["channels"] for one in ending.objects] == [[], []]
    assert "is not there" in ending.objects[0]["problem"]


def test_a_broken_ring_ends_with_1_and_is_not_shown_as_full(tree, no_wait):
    tree.write(tree.device_folder(SCSI), {"in_read_bytes_avail": -4096, "in_write_bytes_avail": 16384 + 4096})
    ending = run("top", "--root", tree.root, "--once")
    assert ending.status == 1
    assert "wild index" in ending.out.splitlines()[2]


def test_where_there_is_no_vmbus_that_is_one_line_and_2(tmp_path):
    for form in ("--once", "--json"):
        ending = run("top", "--root", tmp_path, form)
        assert ending.status == 2
        assert "sys/bus/vmbus" in ending.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "this is no terminal"),
        (["--count", "3"], "this is no terminal"),
        (["--once", "--interval", "0", "--count", "2"], "--interval 0 is one sample"),
        (["--interval", "0"], "--interval 0 is one sample"),
        (["--json", "--interval", "0", "--count", "2"], "--interval 0 is one sample"),
        (["--interval", "0.05"], "from 0.1 to 3600 seconds"),
        (["--interval", "nan"], "from 0.1 to 3600 seconds"),
        (["--interval", "-1"], "--interval"),
        (["--count", "0"], "from 1"),
        (["--count", "٣"], "from 1"),
        (["--sort", "speed"], "'speed' is no column; there is device, relid, "),
        (["--sort", "interupts"], "'interupts' is no column; did you mean interrupts?"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(still_tree, words, message):
    ending = run("top", "--root", still_tree.root, *words)
    assert ending.status == 2
    assert message in ending.err


def test_without_curses_that_is_one_line_and_2(still_tree, monkeypatch):
    usual = builtins.__import__

    def without_curses(name, *more):
        if name == "curses":
            raise ImportError(name)
        return usual(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_curses)
    monkeypatch.setattr(top_screen, "is_terminal", lambda stream: True)
    assert "has no curses" in run("top", "--root", still_tree.root).err


# -- the loop, with a screen and a clock of its own -------------------------------------------------


class TypedScreen:
    """A screen on which keys are typed at given moments of its own clock; (0.3, "q") is at 0.3 seconds."""

    bars = ASCII

    def __init__(self, *keys: tuple[float, str], width: int = 100, height: int = 20) -> None:
        self.now = 0.0
        self.shown: list[tuple[float, list[str]]] = []
        self._keys = [*keys]
        self._size = width, height

    def clock(self) -> float:
        return self.now

    def size(self) -> tuple[int, int]:
        return self._size

    def show(self, lines) -> None:
        self.shown.append((round(self.now, 6), [line.text for line in lines]))

    def key(self, seconds: float) -> str | None:
        if self._keys and self._keys[0][0] <= self.now + seconds:
            at, key = self._keys.pop(0)
            self.now = max(self.now, at)
            return key
        assert seconds < 3000, "it waits for a key that nobody types"
        self.now += seconds
        return None

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.shown]


def test_a_sample_is_taken_every_interval_and_the_last_one_stays_as_long(still_tree):
    screen = TypedScreen()
    watch(screen, View(interval=0.5), still_tree.root, count=3, clock=screen.clock)
    assert screen.times == [0.0, 0.5, 1.0]
    assert screen.now == 1.5


def test_keys_are_answered_at_once_and_do_not_move_the_samples(still_tree):
    screen = TypedScreen((0.2, "s"), (0.3, REDRAW), (1.1, "q"))
    watch(screen, View(), still_tree.root, clock=screen.clock)
    assert screen.times == [0.0, 0.2, 0.3, 1.0]
    assert "by sub" in screen.shown[1][1][0]


def test_nothing_is_looked_at_during_a_pause(still_tree, monkeypatch):
    screen = TypedScreen((0.5, "p"), (5.0, "j"), (9.0, " "), (9.5, "q"))
    looked = []

    def counted(root, clock):
        looked.append(clock())
        return take_sample(root, clock)

    monkeypatch.setattr("vmbus.cli.top_loop.take_sample", counted)
    watch(screen, View(), still_tree.root, clock=screen.clock)
    assert looked == [0.0, 9.0]
    assert [("PAUSED" in lines[0]) for _, lines in screen.shown] == [False, True, True, False]


def test_a_shorter_interval_counts_from_the_last_sample(still_tree):
    screen = TypedScreen((0.1, "-"), (0.8, "q"))
    watch(screen, View(), still_tree.root, clock=screen.clock)
    assert screen.times == [0.0, 0.1, 0.5]


def test_a_look_that_takes_longer_than_the_interval_is_followed_by_as_long_a_rest(still_tree, monkeypatch):
    screen = TypedScreen((4.0, "q"))

    def slow(root, clock):
        sample = take_sample(root, clock)
        screen.now += 1.0
        return sample

    monkeypatch.setattr("vmbus.cli.top_loop.take_sample", slow)
    watch(screen, View(interval=0.1), still_tree.root, clock=screen.clock)
    assert screen.times == [1.0, 2.0, 4.0]


def test_it_ends_when_the_terminal_is_gone(still_tree):
    screen = TypedScreen((0.2, TERMINAL_GONE))
    watch(screen, View(), still_tree.root, clock=screen.clock)
    assert screen.now == 0.2


# -- keys -------------------------------------------------------------------------------------------


def typed(view: View, rows: list[ChannelRow], *keys: str, height: int = 24) -> list[str]:
    """The screen after some keys."""
    picture = Picture(Sample(tuple({row.device.instance_id: row.device for row in rows}.values()), 0.0), rows)
    for key in keys:
        press(view, key, view.visible(rows))
        lines = screen_lines(view, picture, 100, height, ASCII)
    return [line.text for line in lines]


def test_s_goes_through_every_column_and_comes_back():
    view, rows = View(), usual_rows()
    seen = []
    for _ in COLUMN_NAMES:
        typed(view, rows, "s")
        seen.append(view.sort)
    assert sorted(seen) == sorted(COLUMN_NAMES)
    assert view.sort == "relid"
    typed(view, rows, "S")
    assert view.sort == "device"


def test_the_cursor_stays_on_its_channel_and_before_it_was_moved_on_the_first_row():
    view, rows = View(), usual_rows()
    typed(view, rows, "r")
    assert relids(view.visible(rows))[view.index] == 20
    typed(view, rows, "j")
    assert view.selected == (NETWORK, 15)
    view.sort = "device"
    typed(view, rows, "x")
    assert relids(view.visible(rows))[view.index] == 15
    typed(view, rows, "g")
    assert (view.selected, view.index) == (None, 0)


def test_the_cursor_keeps_its_place_when_its_channel_is_gone():
    view, rows = View(), usual_rows()
    typed(view, rows, "j", "j")
    left = [row for row in rows if row.channel.relid != 15]
    typed(view, left, "x")
    assert view.selected == (VIDEO, 20)
    typed(view, left[:1], "x")
    assert view.selected == (SCSI, 7)
    typed(view, [], "x", "j", "G", "page down")
    assert view.selected is None


def test_pages_are_as_long_as_the_screen_has_rows():
    rows = usual_rows()
    many = [row._replace(channel=row.channel._replace(relid=n)) for n, row in enumerate(rows * 10)]
    view = View()
    lines = typed(view, many, "x", "page down", height=10)
    assert view.index == view.page == 7
    assert (lines[2].split()[1], lines[8].split()[1]) == ("1", "7")
    typed(view, many, "G", height=10)
    assert (view.index, view.top) == (39, 33)


def test_quiet_channels_are_hidden_by_i():
    view = View()
    lines = typed(view, usual_rows(), "i")
    assert "3 devices, 3 of 4 channels" in lines[0]
    assert not any(line.startswith("video") for line in lines[2:])


def test_every_key_that_means_nothing_changes_nothing():
    for key in ("x", "tab", "\x00", "é", "enter", "backspace"):
        view = View()
        press(view, key, usual_rows())
        assert view == View()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_help_is_whole_at_any_width_and_says_where_there_is_more(width):
    view, words = View(help=True), set()
    picture = Picture(Sample((), 0.0))
    ends = []
    while not ends or ends[-1] == MORE[:width]:
        lines = [line.text for line in screen_lines(view, picture, width, 24, ASCII)]
        ends.append(lines[-1])
        words |= {word for line in lines for word in line.split()}
        press(view, "page down", [])
    assert len(ends) > 1
    assert {word for _, meaning in HELP for word in meaning.split()} <= words
    assert {word for one in COLUMNS for word in f"{one.heading} {one.meaning}".split()} <= words


def test_a_help_that_fits_says_nothing_of_more():
    lines = [line.text for line in screen_lines(View(help=True), Picture(Sample((), 0.0)), 100, 60, ASCII)]
    assert MORE not in lines
    assert any(line.startswith("INSTANCE ") for line in lines)


def test_a_message_breaks_between_words():
    problem = (
        "/sys/bus/vmbus/devices is not there: this is no Linux guest of Hyper-V, or hv_vmbus is not loaded"
    )
    lines = screen_lines(View(), Picture(Sample((), 0.0, problem)), 80, 24, ASCII)
    assert [line.text for line in lines[2:4]] == [problem[:74], problem[75:]]
    assert (
        "".join(
            line.text for line in screen_lines(View(), Picture(Sample((), 0.0, "x" * 50)), 20, 24, ASCII)[2:5]
        )
        == "x" * 50
    )


def test_the_lines_on_the_selected_row_lose_no_value_at_80_columns(tree):
    store(tree, 7, intr_out_empty=987654, interrupts=10**9)
    view, rows = View(), rows_of(tree)
    picture = Picture(Sample(tuple(row.device for row in rows), 0.0), rows)
    *_, first, second, third, _ = (line.text for line in screen_lines(view, picture, 80, 24, ASCII))
    assert first.endswith("hv_storvsc  sda")
    assert second.startswith("out 0/16384  in 0/16384  int 1000000000  ")
    assert third.endswith("empty 987654")


# -- columns, filter, text --------------------------------------------------------------------------


def test_what_is_not_known_comes_last_in_either_order(tree):
    store(tree, 14, NETWORK, out_full_total=5)
    store(tree, 15, NETWORK, out_full_total=None)
    rows = [row for row in rows_of(tree) if row.channel.relid != 20]
    assert relids(sorted_rows(rows, "full")) == [14, 7, 15]
    assert relids(sorted_rows(rows, "full", reverse=True)) == [7, 14, 15]


@pytest.mark.parametrize(
    ("filter_text", "wanted"),
    [
        ("", [7, 14, 15, 20]),
        ("NET", [14, 15]),
        ("nic", [14, 15]),
        ("hv_ 7", [7]),
        ("1", []),
        ("00000009-12", [20]),
        ("uio", []),
        ("eth0", [14, 15]),
        ("scsi SDA", [7]),
    ],
)
def test_every_word_of_a_filter_is_found_in_a_row(filter_text, wanted):
    assert relids(row for row in usual_rows() if matches(row, filter_text)) == wanted


@pytest.mark.parametrize(
    ("fill", "shown"),
    [
        (Fill(0, 16384), "........   0%"),
        (Fill(1000, 16384), "........   6%"),
        (Fill(1024, 16384), "#.......   6%"),
        (Fill(8192, 16384), "####....  50%"),
        (Fill(16376, 16384, True), "########~100%"),
        (Fill(77, None), "77 bytes     "),
        (Fill(None, None), "-            "),
        (Fill(20000, 16384), "wild index   "),
    ],
)
def test_a_bar_tells_how_full_a_ring_is(fill, shown):
    assert fill_text(fill, True, 13, ASCII) == shown


@pytest.mark.parametrize(
    ("used", "eighths", "halves"),
    [
        (144, "░░░░░░░░  <1%", "░░░░░░░░  <1%"),
        (520192 // 64, "▏░░░░░░░   2%", "░░░░░░░░   2%"),
        (520192 // 16, "▌░░░░░░░   6%", "▌░░░░░░░   6%"),
        (520192 * 15 // 16, "███████▌  94%", "███████▌  94%"),
        (520192, "████████ 100%", "████████ 100%"),
    ],
)
def test_a_bar_of_blocks_has_parts_of_cells(used, eighths, halves):
    assert [fill_text(Fill(used, 520192), True, 13, bars) for bars in (BLOCKS, HALVES)] == [eighths, halves]


@given(floats(0, 1e21))
@settings(max_examples=60)
def test_a_rate_takes_six_characters_at_most(rate):
    assert len(rate_text(rate)) <= 6


def test_the_sorted_column_is_among_those_that_a_narrow_screen_keeps(still_tree):
    picture = Picture(take_sample(still_tree.root), rows_of(still_tree))
    lines = screen_lines(View(sort="driver"), picture, 40, 10, ASCII)
    assert "DRIVER" in lines[1].text.split()
    assert "IN" not in lines[1].text.split()


# -- any rows on any screen -------------------------------------------------------------------------


NUMBERS = one_of(none(), integers(0, 2**64 - 1))
FILLS = builds(Fill, one_of(none(), integers(0, 2**33)), one_of(none(), integers(0, 2**22)), booleans())
RATES = one_of(none(), floats(0, 1e20))
NAMES = one_of(
    none(), text(max_size=20), sampled_from(["hv_netvsc", "网络驱动网络驱动", "a\x1b[2Jb", "e\u0301"])
)


@composite
def drawn_rows(draw) -> list[ChannelRow]:
    kinds = [draw(drawn_row()) for _ in range(draw(integers(1, 3)))]
    return [
        kinds[relid % len(kinds)]._replace(channel=kinds[relid % len(kinds)].channel._replace(relid=relid))
        for relid in range(draw(integers(0, 30)))
    ]


@composite
def drawn_row(draw) -> ChannelRow:
    row, cell = usual_rows()[0], draw(NUMBERS)
    device = row.device._replace(driver=draw(NAMES), uio=draw(NAMES), state=cell)
    channel = row.channel._replace(subchannel_id=cell, out_mask=draw(NUMBERS))
    counters = {name: Counter(cell, draw(RATES)) for name in COUNTERS[:2]}
    counters |= dict.fromkeys(COUNTERS[2:], Counter(cell, draw(RATES)))
    return ChannelRow(device, channel, draw(FILLS), draw(FILLS), counters)


def cells(line: str) -> int:
    return sum(2 if east_asian_width(one) in "WF" else 1 for one in line)


VIEWS = builds(
    View,
    sort=sampled_from(COLUMN_NAMES),
    reverse=booleans(),
    filter=sampled_from(["", "scsi", "7", "zzz"]),
    typed=one_of(none(), text(max_size=10)),
    paused=booleans(),
    hide_quiet=booleans(),
    help=booleans(),
    help_top=integers(-5, 100),
    index=integers(0, 40),
    top=integers(0, 40),
    selected=one_of(none(), integers(0, 30).map(lambda relid: (SCSI, relid))),
)


@given(rows=drawn_rows(), view=VIEWS, width=integers(1, 200), height=integers(1, 60), unicode=booleans())
@example(rows=[], view=View(), width=1, height=1, unicode=False)
@example(rows=[], view=View(typed="x"), width=3, height=2, unicode=False)
@settings(max_examples=30)
def test_lines_fit_any_screen_and_the_selected_row_is_on_it(rows, view, width, height, unicode):
    picture = Picture(Sample(tuple(row.device for row in rows), 0.0), rows, 1.0, "12:34:56")
    lines = screen_lines(view, picture, width, height, BLOCKS if unicode else ASCII)
    assert len(lines) == height
    for line in lines:
        assert line.text.isprintable()
        assert cells(line.text.replace("\u0301", "")) <= width
    shown = view.visible(rows)
    is_marked = [part.style for line in lines for part in line.parts].count("selected")
    if view.help or not shown or (height == 1 and view.typed is not None):
        assert is_marked == 0
    else:
        assert is_marked == 1
        assert view.top <= view.index < view.top + view.page
