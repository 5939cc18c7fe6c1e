"""Every ring of an image is found, with its size, its partner and its device, and nothing else is; in bounded time,
whatever the image holds.

The images are made by tools/image_writers, which shares nothing with what is tested.
"""

from __future__ import annotations

import gzip
import itertools
import pickle
import struct
import time
from concurrent.futures import Future, ProcessPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.avml import avml_image
from image_writers.dmp import windows_dump
from image_writers.elf import elf_core
from image_writers.flattened import flattened, in_pieces
from image_writers.kdump import kdump
from image_writers.lime import lime_image
from image_writers.scene import KINDS, Scene
from image_writers.scene_noise import DECOYS, decoy
from image_writers.scene_rings import RingWriter, control_page
from image_writers.vmrs import compressed_block, saved_state

from tests.helpers import SAMPLES
from tests.inspection.scenes import (
    dump_of_bytes,
    expected,
    found,
    scan_bytes,
    scan_regions,
    small_scene,
)
from vmbus.errors import CallerError, DumpError
from vmbus.inspection import RawDump, ScanOptions, State, scan, scan_many, scanning, sighting
from vmbus.inspection.data_area import MOST_EFFORT

PAGE = 4096
MIB = 1 << 20


# -- scenes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_every_ring_of_a_guest_is_found_and_nothing_else(seed):
    """Each scene has a third of all that there is, or everything."""
    random = Random(seed)
    kinds = None if seed % 12 == 0 else random.sample(list(KINDS), 6)
    scene = Scene(seed, kinds, noise=0.05)
    report = scan_regions(scene.regions)
    assert found(report) == expected(scene)
    assert [finding for finding in report.findings if finding.check != "channel-doubt"] == []


def test_scenes_have_rings_of_every_kind_of_size_and_of_none():
    """Otherwise the test above says little."""
    rings = [ring for seed in range(6) for ring in Scene(seed, noise=0).rings]
    assert {ring.header_size for ring in rings} == {4096, 16384, 65536}
    assert {ring.role for ring in rings} == {"outbound", "inbound", None}
    assert any(ring.data_size is None for ring in rings)
    assert any(ring.pages and ring.device and ring.device[0] for ring in rings)
    assert any(ring.data_size and ring.out_offset > ring.in_offset for ring in rings)
    assert any(not ring.waiting and ring.in_offset for ring in rings)
    assert len({ring.kind for ring in rings}) >= len(KINDS) + 2  # four vectors, no rings of closed channels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_kind_of_ring_is_found_alone(kind, seed):
    scene = Scene(1000 + seed, [kind], noise=0)
    assert found(scan_regions(scene.regions)) == expected(scene)


@pytest.mark.parametrize("kind", DECOYS)
def test_what_looks_like_a_ring_is_none(kind):
    random = Random(kind)
    image = b"".join(decoy(random, kind) for _ in range(40))
    assert found(scan_bytes(image)) == []


@pytest.mark.parametrize("seed", range(4))
def test_no_ring_is_found_in_noise(seed):
    random = Random(seed)
    kinds = list(DECOYS)
    image = b"".join(decoy(random, random.choice(kinds)) for _ in range(700))
    report = scan_bytes(image)
    assert found(report) == []
    assert report.unsure > 0


def test_what_only_looks_like_a_ring_is_counted_and_comes_when_asked_for():
    image = control_page(0, 0) + bytes(PAGE) + control_page(64, 32) + bytes(PAGE)
    report = scan_bytes(image)
    assert (report.rings, report.unsure) == ([], 2)
    every = scan_bytes(image, ScanOptions(everything=True))
    assert [(ring.address, ring.is_ring) for ring in every.rings] == [(0, False), (8192, False)]
    assert {reason.reason for reason in every.rings[0].reasons} == {"control-page", "unused"}


# -- what is said of a ring ------------------------------------------------------------------------


def ring_image(size: int = 16384, *, start: int = 0, footers: bool = True, waiting: int = 3) -> bytes:
    writer = RingWriter(Random(size + start), size, start=start, footers=footers)
    for _ in range(waiting + 4):
        writer.send(200)
    writer.receive(4)
    return writer.snapshot()


def test_a_score_is_the_sum_of_its_reasons_and_every_reason_is_said_once():
    for ring in scan_regions(small_scene().regions, ScanOptions(everything=True)).rings:
        assert ring.score == max(0, min(100, sum(reason.points for reason in ring.reasons)))
        names = [reason.reason for reason in ring.reasons]
        assert len(set(names)) == len(names)
        assert ring.is_ring == (ring.score >= 50)


def test_where_nothing_decides_the_size_it_is_unknown_and_the_sizes_of_drivers_are_listed():
    image = ring_image() + bytes(64 * PAGE)
    (ring,) = scan_bytes(image).rings
    assert ring.data_size is None
    assert ring.smallest_data_size == PAGE
    assert {12288, 16384} <= set(ring.data_size_candidates)


@pytest.mark.parametrize("gap", [1, 3, 5])
def test_a_ring_at_an_odd_distance_does_not_say_where_another_one_ends(gap):
    """Neither a size that drivers use, nor where Linux would put a pair."""
    image = bytes(PAGE) + ring_image() + bytes((50 + 2 * gap) * PAGE) + ring_image()
    assert [ring.data_size for ring in scan_bytes(image).rings] == [None, None]


def test_a_wrong_size_never_takes_a_ring_away():
    """Between two rings of unknown size lie the scattered pages of others; all are found."""
    scene = Scene(5, ["young", "scattered", "young", "without footers", "scattered"], noise=0)
    assert found(scan_regions(scene.regions)) == expected(scene)


@pytest.mark.parametrize(("pages", "aligned"), [(3, False), (7, False), (11, True), (37, True)])
def test_the_partner_says_where_a_ring_ends_that_has_not_wrapped(pages, aligned):
    size = pages * PAGE
    pair = ring_image(size) + ring_image(size)
    lead = 1 << (len(pair) - 1).bit_length() if aligned else 3 * PAGE
    outbound, inbound = scan_bytes(bytes(lead) + pair + bytes(PAGE)).rings
    assert (outbound.data_size, outbound.role, outbound.pair) == (size, "outbound", inbound.address)
    assert (inbound.data_size, inbound.role, inbound.pair) == (None, "inbound", outbound.address)


def test_a_ring_never_used_behind_a_used_one_is_its_partner():
    writer = RingWriter(Random(1), 12288)
    writer.run(30000, waiting=2)
    first, second = scan_bytes(writer.snapshot() + control_page(0, 0) + bytes(12288)).rings
    assert (first.pair, second.pair) == (second.address, first.address)


def test_three_rings_in_a_row_are_paired_as_linux_puts_pairs():
    rings = []
    for seed in range(3):
        writer = RingWriter(Random(seed), 12288)
        writer.run(40000, waiting=2)
        rings.append(writer.snapshot())
    report = scan_bytes(bytes(4 * PAGE) + b"".join(rings))
    assert [ring.role for ring in report.rings] == [None, "outbound", "inbound"]


@pytest.mark.parametrize("name", ["random", "zeros", "text", "unused ring"])
def test_a_message_of_a_closed_channel_makes_no_ring_of_pages_that_hold_something_else(name):
    for seed in range(3):
        scene = Scene(seed, ["closed channels"], noise=0)
        assert scan_regions(scene.regions).rings == []


@pytest.mark.parametrize("what", ["waiting", "read"])
def test_packets_whose_footers_name_other_places_make_no_ring(what):
    """A stale control page, and behind it data of another ring that happen to begin and end as it says."""
    writer = RingWriter(Random(6), 4 * PAGE, start=2 * PAGE)
    for _ in range(12):
        writer.send(120)
    data = bytes(writer.data)[2 * PAGE :].ljust(4 * PAGE, b"\0")
    words = (12 * 120, 0) if what == "waiting" else (12 * 120, 12 * 120)
    assert scan_bytes(control_page(*words) + data).rings == []
    own = RingWriter(Random(6), 4 * PAGE, start=0)
    for _ in range(12):
        own.send(120)
    assert len(scan_bytes(control_page(*words) + bytes(own.data)).rings) == 1


def test_a_control_page_at_the_last_page_of_the_address_space_is_no_problem():
    top = 2**64 - 2 * PAGE
    report = scan_bytes(lime_image([(top, ring_image(4096))]))
    assert [ring.address for ring in report.rings] == [top]
    alone = scan_bytes(lime_image([(top + PAGE, control_page(64, 8))]), ScanOptions(everything=True))
    assert [ring.address for ring in alone.rings] == [top + PAGE]


# -- every format, in parts, by several processes --------------------------------------------------


def raw_image(regions) -> bytes:
    image = bytearray()
    for address, data in regions:
        image += bytes(address - len(image)) + data
    return bytes(image)


FORMATS = {
    "raw": raw_image,
    "elf": elf_core,
    "lime": lime_image,
    "avml": lambda regions: avml_image(regions, kinds=(3,)),
    "kdump": kdump,
    "flattened": lambda regions: flattened(in_pieces(kdump(regions), 65536)),
    "dmp": windows_dump,
    "dmp with a bitmap": lambda regions: windows_dump(regions, kind=5),
    "vmrs": saved_state,
    "vmrs, compressed": lambda regions: saved_state(regions, compress=compressed_block),
    "gzip of elf": lambda regions: gzip.compress(elf_core(regions), 1),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_makes_no_difference(name):
    scene = small_scene()
    assert found(scan_bytes(FORMATS[name](scene.regions))) == expected(scene)


@pytest.mark.parametrize("jobs", [2, 5])
@pytest.mark.parametrize("form", ["elf", "gzip of elf"])
def test_the_number_of_processes_makes_no_difference(tmp_path, form, jobs):
    path = tmp_path / "image"
    path.write_bytes(FORMATS[form](Scene(8, ["pair", "scattered"], noise=0.1).regions))
    alone = scan(path)
    seen: list[tuple[int, int]] = []
    together = scan(path, ScanOptions(jobs=jobs), progress=lambda done, total: seen.append((done, total)))
    assert together._replace(looked_at=0) == alone._replace(looked_at=0)  # parts overlap by a message
    assert seen and all(0 <= done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]


def test_the_parts_of_an_image_are_all_of_it_and_share_nothing():
    dump = dump_of_bytes(elf_core(Scene(1, [], noise=0).regions))
    for count in range(1, 9):
        parts = sighting.parts_of(dump, 0, 2**64, count)
        assert parts[0][0] == 0 and parts[-1][1] == 2**64
        assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
        assert 1 <= len(parts) <= count
    assert len(sighting.parts_of(dump, 0, 2**64, 4)) > 2


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 0x320))
def test_rings_found_in_two_halves_are_all_rings(cut):
    """Those of which each half has all there is to know: the pages of the others are known to one alone."""
    scene = small_scene()
    dump = dump_of_bytes(elf_core(scene.regions))
    address = cut * PAGE
    halves = []
    if address:
        halves += scan(dump, ScanOptions(end=address)).rings
    halves += scan(dump, ScanOptions(start=address)).rings
    addresses = [ring.address for ring in halves]
    assert addresses == sorted(set(addresses))
    plain = {ring.address for ring in scene.rings if ring.pages is None}
    assert plain <= set(addresses)
    sizes = {ring.address: ring.true_size for ring in scene.rings}
    assert all(ring.data_size in (None, sizes[ring.address]) for ring in halves if ring.address in plain)


def test_messages_across_a_cut_are_seen_by_the_half_in_which_they_begin():
    scene = small_scene()
    dump = dump_of_bytes(elf_core(scene.regions))
    whole = {one.address for one in sighting.look_through(dump, 0, 2**64).messages}
    assert len(whole) > 3
    for cut in {address + at for address in whole for at in (8, 64, 144)}:
        first, second = sighting.look_through(dump, 0, cut), scanning.look_through(dump, cut, 2**64)
        parts = [one.address for part in (first, second) for one in part.messages]
        assert sorted(parts) == sorted(whole), hex(cut)


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE, 100_000, MIB])
def test_the_pieces_in_which_memory_comes_make_no_difference(monkeypatch, size):
    monkeypatch.setattr("vmbus.images.dump.PIECE_SIZE", size // PAGE * PAGE)
    scene = small_scene()
    assert found(scan_bytes(FORMATS["kdump"](scene.regions))) == expected(scene)


def test_memory_that_is_excluded_or_lost_is_in_the_report_and_never_taken_for_zeros():
    image = ring_image(12288) + bytes(PAGE)
    pages = {number: image[number * PAGE : number * PAGE + PAGE] for number in range(5)}
    kept = [(number * PAGE, data) for number, data in pages.items() if number not in (2, 3)]
    report = scan_bytes(kdump([*kept, (3 * PAGE, pages[3])], excluded=[2], lost=[3]))
    assert [(run.start, run.end, run.state) for run in report.missing] == [
        (2 * PAGE, 3 * PAGE, State.EXCLUDED),
        (3 * PAGE, 4 * PAGE, State.LOST),
    ]
    assert report.unlisted == 0
    assert [ring.address for ring in report.rings] == [0]
    assert report.looked_at == 3 * PAGE


def test_of_much_missing_memory_the_first_stretches_are_listed_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(sighting, "MOST_MISSING", 3)
    pages = [(number * PAGE, control_page(number * 8, 0)) for number in range(0, 20, 2)]
    report = scan_bytes(kdump(pages, excluded=range(1, 20, 2)))
    assert len(report.missing) == 3
    assert report.unlisted == 7 * PAGE


# -- images against the scan -----------------------------------------------------------------------


def test_of_too_many_control_pages_the_first_are_judged_and_a_finding_says_so(monkeypatch):
    for module in (scanning, sighting):
        monkeypatch.setattr(module, "MOST_CANDIDATES", 10)
    image = b"".join(ring_image(4096, waiting=2) for _ in range(20))
    report = scan_bytes(image)
    assert len(report.rings) == 10
    (finding,) = report.findings
    assert finding.check == "too-many-candidates"
    assert f"{10 * 8192:#x}" in finding.message


def hostile(random: Random, kind: str, pages: int) -> bytes:
    """Memory in which much looks like rings, and whose packets lead far."""
    parts = []
    for number in range(pages):
        if kind == "control pages" or (kind == "alternating" and number % 2 == 0):
            words = [8 * random.randrange(1 << random.randrange(1, 21)) for _ in range(2)]
            if random.random() < 0.3:
                words[random.getrandbits(1)] = 0
            parts.append(control_page(*words, features=random.getrandbits(1)))
        else:
            parts.append(short_packets(random.choice([0, number * PAGE, max(0, number - 1) * PAGE])))
    return b"".join(parts)


def short_packets(first: int) -> bytes:
    """A page of the shortest packets, each with its footer; the last one leads over the next page."""
    page = b"".join(struct.pack("<HHHHQII", 6, 2, 2, 0, 0, 0, first + at) for at in range(0, 4056, 24))
    return page + struct.pack("<HHHHQ", 6, 2, (40 + PAGE - 8) // 8, 0, 0).ljust(40, b"\0")


@pytest.mark.parametrize("kind", ["control pages", "alternating", "packets"])
def test_an_image_full_of_lookalikes_is_scanned_in_bounded_work(kind, monkeypatch):
    """Twice as many of them take about twice as long, not four times: counted, not timed."""
    monkeypatch.setattr("vmbus.inspection.data_area.MOST_EFFORT", 30_000)
    monkeypatch.setattr(scanning.Effort.__init__, "__defaults__", (30_000,))
    spent = []
    for pages in (400, 800):
        dump = RawDump("hostile", memoryview(hostile(Random(pages), kind, pages)))
        reads = [0]
        original = dump.read

        def counted(address: int, length: int, reads=reads, original=original) -> bytes:
            reads[0] += 1
            return original(address, length)

        dump.read = counted  # type: ignore[method-assign]
        started = time.process_time()
        report = scan(dump, ScanOptions(everything=True))
        assert time.process_time() - started < 10
        spent.append(reads[0])
        if kind != "packets":
            assert "too-much-to-judge" in [finding.check for finding in report.findings]
    assert spent[1] < 3 * spent[0] + 1000


def test_an_honest_guest_takes_a_small_part_of_the_effort():
    from vmbus.inspection.control_page_finder import find_control_pages
    from vmbus.inspection.data_area import Effort
    from vmbus.inspection.scan_rings import rings_of

    scene = Scene(2)
    effort = Effort()
    dump = dump_of_bytes(elf_core(scene.regions))
    candidates = [one for address, piece in dump.pieces() for one in find_control_pages(address, piece)]
    rings_of(dump, candidates, [], effort)
    assert len(candidates) > 30
    assert MOST_EFFORT - effort.left < MOST_EFFORT / 10


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_memory_gives_a_report(data):
    """Control pages with any words, among packets, with any of it doubled."""
    random = Random(data.draw(st.integers(0, 2**32)))
    kinds = data.draw(
        st.lists(st.sampled_from(["control pages", "alternating", "packets"]), min_size=1, max_size=3)
    )
    image = bytearray(b"".join(hostile(random, kind, random.randrange(1, 12)) for kind in kinds))
    for _ in range(random.randrange(20)):
        at = random.randrange(len(image))
        image[at] = random.getrandbits(8)
    report = scan_bytes(bytes(image), ScanOptions(everything=True))
    addresses = [ring.address for ring in report.rings]
    assert addresses == sorted(set(addresses))
    ends = [(ring.address, ring.end) for ring in report.rings if ring.pages is None]
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends))
    for ring in report.rings:
        assert ring.data_size is None or ring.data_size >= ring.smallest_data_size
        assert (ring.data_size or PAGE) % PAGE == 0


# -- many images, and the call ---------------------------------------------------------------------


def test_many_images_give_a_report_each_in_their_order_and_the_reason_for_one_that_cannot_be_read(tmp_path):
    good = SAMPLES / "ring-5-pages.bin"
    paths = [good, tmp_path / "nothing", good]
    for executor in (None, Immediately()):
        first, second, third = scan_many(paths, executor=executor)
        assert first == third == scan(good)
        assert isinstance(second, DumpError)


class Immediately:
    """The smallest executor: it runs a task when it is given it, from its pickled form."""

    def submit(self, function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        task: Future = Future()
        task.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return task


def test_many_images_can_be_scanned_by_other_processes():
    names = [SAMPLES / f"ring-{name}.bin" for name in ("1-page", "4-pages", "5-pages")]
    with ProcessPoolExecutor(2) as pool:
        assert list(scan_many(names, executor=pool)) == [scan(name) for name in names]


@pytest.mark.parametrize(("start", "end"), [(-4096, 2**64), (8192, 8192), (8192, 4096)])
def test_addresses_between_which_there_is_nothing_are_the_callers_mistake(start, end):
    with pytest.raises(CallerError):
        scan(SAMPLES / "ring-1-page.bin", ScanOptions(start=start, end=end))


def test_progress_comes_to_the_end():
    seen: list[tuple[int, int]] = []
    image = Random(1).randbytes(3 * MIB + 5000)
    report = scan(dump_of_bytes(image), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(image), len(image))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert report.looked_at == len(image)
