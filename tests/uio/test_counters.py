"""Samples of a guest's channels: rates between two of them, and how full the rings are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, none, one_of

from tests.uio.guest_tree import GuestTree
from vmbus.uio import COUNTERS, Fill, Sample, System, channel_rows, take_sample

SCSI = "00000007-1234-5678-9abc-def012345678"
NETWORK = "00000008-1234-5678-9abc-def012345678"

DATA_SIZE = 126976
MIB = 1 << 20


@pytest.fixture
def tree(tmp_path):
    made = GuestTree(tmp_path / "guest")
    made.add_device("scsi", SCSI, 7, files=ring_files(out_used=4096, in_used=96))
    return made


def ring_files(out_used: int = 0, in_used: int = 0, size: int = DATA_SIZE) -> dict[str, int]:
    return {
        "out_read_bytes_avail": out_used,
        "out_write_bytes_avail": size - out_used,
        "in_read_bytes_avail": in_used,
        "in_write_bytes_avail": size - in_used,
    }


def look(tree: GuestTree, at: float = 0.0) -> Sample:
    return take_sample(tree.root, lambda: at)


def store(tree: GuestTree, relid: int, instance: str = SCSI, **files: int | None) -> None:
    tree.write(tree.device_folder(instance) / "channels" / str(relid), files)


def the_row(tree: GuestTree, before: Sample | None = None, at: float = 0.0, relid: int = 7):
    """The row of one channel."""
    (row,) = (row for row in channel_rows(look(tree, at), before, tree.root) if row.channel.relid == relid)
    return row


def rates(row) -> dict[str, float | None]:
    return {name: counter.rate for name, counter in row.counters.items()}


# -- rates ------------------------------------------------------------------------------------------


def test_a_rate_is_what_came_in_between_by_the_seconds(tree):
    store(tree, 7, interrupts=100, events=7)
    before = look(tree, at=10.0)
    store(tree, 7, interrupts=150, events=7)
    row = the_row(tree, before, at=10.5)
    assert row.counters["interrupts"] == (150, 100.0)
    assert row.counters["events"] == (7, 0.0)


def test_the_first_sample_has_totals_and_no_rates(tree):
    store(tree, 7, out_full_total=3)
    row = the_row(tree)
    assert row.counters["out_full_total"] == (3, None)
    assert set(rates(row).values()) == {None}


def test_a_counter_that_went_back_is_of_a_new_channel_and_none_of_its_rates_means_anything(tree):
    store(tree, 7, interrupts=1000, events=5)
    before = look(tree)
    store(tree, 7, interrupts=3, events=6)
    row = the_row(tree, before, at=1.0)
    assert set(rates(row).values()) == {None}
    assert row.counters["events"].total == 6


@pytest.mark.parametrize(("old", "new"), [(None, 5), (5, None), (None, None)])
def test_a_counter_that_is_missing_has_no_rate_and_the_others_have_theirs(tree, old, new):
    store(tree, 7, interrupts=old)
    before = look(tree)
    store(tree, 7, interrupts=new, events=2)
    row = the_row(tree, before, at=1.0)
    assert row.counters["interrupts"] == (new, None)
    assert row.counters["events"].rate == 2.0


@pytest.mark.parametrize("at", [0.0, -1.0])
def test_two_samples_of_one_moment_have_no_rates(tree, at):
    assert set(rates(the_row(tree, look(tree), at=at)).values()) == {None}


def test_a_relid_that_is_now_another_subchannel_has_no_rates(tree):
    tree.add_channel(SCSI, 21, 1)
    before = look(tree)
    store(tree, 21, subchannel_id=2, interrupts=5)
    assert set(rates(the_row(tree, before, at=1.0, relid=21)).values()) == {None}


def test_a_relid_that_is_now_of_another_device_has_no_rates(tree):
    before = look(tree)
    tree.device_folder(SCSI).rename(tree.root / "gone")
    tree.add_device("network", NETWORK, 7)
    assert set(rates(the_row(tree, before, at=1.0)).values()) == {None}


@given(old=one_of(none(), integers(0, 2**64 - 1)), new=one_of(none(), integers(0, 2**64 - 1)))
@settings(max_examples=60)
def test_a_rate_is_never_negative_and_is_there_where_both_numbers_are(tmp_path_factory, old, new):
    counted = sample_with(tmp_path_factory)
    rows = channel_rows(counted(new)._replace(at=2.0), counted(old))
    (rate,) = {row.counters["events"].rate for row in rows}
    if old is None or new is None or new < old:
        assert rate is None
    else:
        assert rate == (new - old) / 2


def sample_with(tmp_path_factory):
    """Gives samples of one device whose events are as told; the files are read once."""
    if not SAMPLES:
        tree = GuestTree(tmp_path_factory.mktemp("one") / "guest")
        tree.add_device("scsi", SCSI, 7)
        SAMPLES.append(look(tree))
    (sample,) = SAMPLES
    (device,) = sample.devices

    def counted(events: int | None) -> Sample:
        channels = tuple(channel._replace(events=events) for channel in device.channels)
        return sample._replace(devices=(device._replace(channels=channels),))

    return counted


SAMPLES: list[Sample] = []


# -- how full ---------------------------------------------------------------------------------------


def test_the_rings_of_a_primary_channel_are_as_full_as_its_files_say(tree):
    row = the_row(tree)
    assert row.outbound == Fill(4096, DATA_SIZE)
    assert row.inbound == Fill(96, DATA_SIZE)
    assert row.outbound.fraction == 4096 / DATA_SIZE


def test_the_rings_of_a_subchannel_are_taken_to_be_as_large_as_the_primarys(tree):
    tree.add_channel(SCSI, 21, 1, files={"read_avail": 64, "write_avail": DATA_SIZE - 8})
    row = the_row(tree, relid=21)
    assert row.outbound == Fill(8, DATA_SIZE, assumed=True)
    assert row.inbound == Fill(64, DATA_SIZE, assumed=True)


def add_subchannel(tree: GuestTree, size: int, page_size: int) -> None:
    """Channel 21, with the file of its rings; 8 bytes wait outbound, and 64 inbound."""
    folder = tree.add_channel(SCSI, 21, 1, files={"read_avail": 64, "write_avail": size - 8})
    with open(folder / "ring", "wb") as ring:
        ring.truncate(2 * (page_size + size))


def add_node(tree: GuestTree, page_size: int, instance: str = SCSI, number: int = 0) -> None:
    """The node of a device, with a map of both rings of its primary channel."""
    tree.add_uio(instance, number, {"txrx_rings": 2 * (page_size + DATA_SIZE)})


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_the_file_of_its_rings_tells_the_size_of_a_subchannels(tree, page_size):
    add_node(tree, page_size)
    add_subchannel(tree, 2 * MIB - page_size, page_size)
    row = the_row(tree, relid=21)
    assert (row.outbound, row.inbound) == (Fill(8, 2 * MIB - page_size), Fill(64, 2 * MIB - page_size))


def test_the_node_of_any_device_tells_the_page_size_of_the_whole_guest(tree):
    add_subchannel(tree, 2 * MIB - 65536, 65536)
    tree.add_device("network", NETWORK, 14, files=ring_files())
    add_node(tree, 65536, NETWORK)
    assert the_row(tree, relid=21).outbound == Fill(8, 2 * MIB - 65536)


def without_node(tree: GuestTree) -> None:
    pass


def with_rings_that_moved(tree: GuestTree) -> None:
    add_node(tree, 65536)
    for ring in ("out", "in"):
        tree.write(tree.device_folder(SCSI), {f"{ring}_read_bytes_avail": 100})


def with_a_map_that_fits_no_page(tree: GuestTree) -> None:
    add_node(tree, 8192)


def with_nodes_that_disagree(tree: GuestTree) -> None:
    tree.add_device("network", NETWORK, 14, files=ring_files())
    add_node(tree, 65536)
    add_node(tree, 16384, NETWORK, 1)


@pytest.mark.parametrize(
    "changed",
    [without_node, with_rings_that_moved, with_a_map_that_fits_no_page, with_nodes_that_disagree],
)
def test_in_a_copy_that_does_not_tell_its_page_size_the_size_of_a_subchannels_rings_is_a_guess(tree, changed):
    add_subchannel(tree, 2 * MIB - 65536, 65536)
    changed(tree)
    row = the_row(tree, relid=21)
    assert row.outbound == Fill(65536 - 4096 + 8, 2 * MIB - 4096, assumed=True)
    assert row.inbound == Fill(64, 2 * MIB - 4096, assumed=True)


def test_a_ring_that_holds_more_than_a_guess_from_its_file_is_of_unknown_size(tree):
    add_subchannel(tree, MIB, 4096)
    store(tree, 21, write_avail=2 * MIB)
    assert the_row(tree, relid=21).outbound == Fill(None, None)


def test_on_this_machine_the_kernel_tells_its_page_size(tree):
    class ThisMachine(System):
        is_this_machine = True
        page_size = 65536

    add_node(tree, 4096)
    add_subchannel(tree, 2 * MIB - 65536, 65536)
    row = channel_rows(look(tree), None, ThisMachine(tree.root))[1]
    assert row.outbound == Fill(8, 2 * MIB - 65536)


@pytest.mark.parametrize("length", [0, 8191, 8192, 8194, 4 * 4096 + 2])
def test_a_file_in_which_no_two_rings_fit_tells_no_size(tree, length):
    add_node(tree, 4096)
    add_subchannel(tree, DATA_SIZE, 4096)
    (tree.device_folder(SCSI) / "channels/21/ring").write_bytes(bytes(length))
    assert the_row(tree, relid=21).outbound == Fill(8, DATA_SIZE, assumed=True)  # that of the primary's


def test_a_subchannel_that_holds_more_than_the_primarys_rings_is_of_unknown_size(tree):
    tree.add_channel(SCSI, 21, 1, files={"read_avail": 64, "write_avail": DATA_SIZE + 4096})
    row = the_row(tree, relid=21)
    assert (row.outbound, row.inbound) == (Fill(None, None), Fill(64, None))


def test_a_ring_that_moved_between_the_looks_at_its_files_has_the_size_it_had_before(tree):
    before = look(tree)
    tree.write(tree.device_folder(SCSI), {"out_write_bytes_avail": DATA_SIZE - 4096 - 3000})
    assert the_row(tree, before, at=1.0).outbound == Fill(4096, DATA_SIZE)
    assert the_row(tree).outbound == Fill(4096, DATA_SIZE - 4096, assumed=True)


def test_an_index_that_no_ring_can_have_is_shown_as_broken_and_not_as_full(tree):
    wild = {"in_read_bytes_avail": -4096, "in_write_bytes_avail": DATA_SIZE + 4096}
    tree.write(tree.device_folder(SCSI), wild)
    row = the_row(tree)
    assert row.inbound == Fill(2**32 - 4096, DATA_SIZE)
    assert row.inbound.is_broken
    assert row.inbound.fraction is None
    assert not row.outbound.is_broken


def test_a_closed_channel_has_no_fill(tree):
    tree.add_device("network", NETWORK, 14, is_open=False)
    row = the_row(tree, relid=14)
    assert (row.outbound, row.inbound) == (Fill(None, None), Fill(None, None))
    assert row.is_quiet


@pytest.mark.parametrize("missing", ["out_read_bytes_avail", "out_write_bytes_avail"])
def test_what_a_missing_file_would_tell_is_not_known(tree, missing):
    tree.write(tree.device_folder(SCSI), {missing: None})
    fill = the_row(tree).outbound
    assert fill.data_size is None
    assert fill.fraction is None


# -- the rest of a row ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pending", "monitor", "waits"),
    [(None, None, None), (None, 5, None), (32, None, None), (32, 5, True), (32, 6, False), (2, 65, True)],
)
def test_of_a_group_of_monitored_channels_each_has_its_own_bit(tree, pending, monitor, waits):
    store(tree, 7, pending=pending, monitor_id=monitor)
    assert the_row(tree).is_signal_pending is waits


def test_a_channel_is_quiet_when_nothing_waits_and_nothing_moves(tree):
    still = the_row(tree, look(tree), at=1.0)
    assert not still.is_quiet  # something waits
    tree.write(tree.device_folder(SCSI), ring_files())
    before = look(tree)
    assert the_row(tree, before, at=1.0).is_quiet
    assert not the_row(tree).is_quiet  # without rates nobody knows
    store(tree, 7, events=1)
    assert not the_row(tree, before, at=1.0).is_quiet


def test_where_there_is_no_vmbus_the_sample_says_so(tmp_path):
    sample = take_sample(tmp_path, lambda: 5.0)
    assert (sample.devices, sample.at) == ((), 5.0)
    assert "sys/bus/vmbus" in sample.problem
    assert channel_rows(sample) == []


def test_every_counter_is_a_file_of_a_channel(tree):
    assert set(COUNTERS) <= set(the_row(tree).channel._fields)
