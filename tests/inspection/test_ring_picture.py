"""A picture has every byte of the data area once, and each where in, out and the packets say.

Over bytes of any kind the rows hold the data area without gap or overlap, what waits is as much as in
and out say, and each packet of the report is in the block that has its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import booleans, builds, integers, lists, sampled_from

from tests.inspection.dumps import HISTORY, control_page, data_area, look, packet, ring_image, sample_dump
from tests.inspection.html_reports import broken_ring, crowded_ring, doubtful_ring, filtered_ring
from vmbus.images import BytesSource, Segment, StoredDump
from vmbus.inspection import (
    DumpRingMem,
    RingPlace,
    RingReport,
    Selection,
    inspect_dump,
    inspect_memory,
    memory_of,
)
from vmbus.inspection.picture_rows import MOST_PIECES, NARROWEST, shares
from vmbus.inspection.ring_picture import MOST_BLOCKS, Kind, Picture, Stretch, draw_ring

#: What a waiting packet is, by the check that speaks against it; any other check makes it broken.
KIND_OF_BROKEN = {None: Kind.WAITING, "missing-memory": Kind.MISSING}


def parts(picture: Picture) -> list[tuple[int, int, Kind]]:
    """Every part of the band, from its first byte to behind its last."""
    return [(piece.start, piece.end, picture.blocks[piece.block].kind) for piece in picture.pieces()]


def bytes_of(block: Stretch, size: int) -> set[int]:
    return {(block.start + number) % size for number in range(block.length)}


# -- any ring ------------------------------------------------------------------------------------


def memory_with_holes(image: bytes, pages: Iterable[int]) -> DumpRingMem:
    """A ring of which these data pages are not in its image."""
    holes = {4096 + 4096 * page for page in pages}
    kept = [Segment(at, 4096, at) for at in range(0, len(image), 4096) if at not in holes]
    dump = StoredDump(BytesSource("image", memoryview(image)), kept)
    memory = memory_of(dump, RingPlace(0, 4096, len(image) - 4096))
    assert isinstance(memory, DumpRingMem)
    return memory


def random_ring(seed: int, pages: int, sound: bool, limit: int | None, history: bool) -> RingReport:
    """A ring that packets were written to for up to two laps, some of them damaged; or noise."""
    random = Random(seed)
    size = 4096 * pages
    at = 8 * random.randrange(size // 8)
    starts, pieces = [at], []
    for _ in range(random.choice([1, 5, 40, 80 * pages])):
        length = random.choice([0, 1, 8, 40, 100, 300])
        damage = {"length8": random.randrange(40)} if random.random() < 0.05 else {}
        pieces.append((at % size, packet(at % size, random.randbytes(length), **damage)))
        at += len(pieces[-1][1])
        starts.append(at)
    out = random.choice([start for start in starts if at - start < size])
    data = data_area(size, *pieces) if sound else random.randbytes(size)
    selection = Selection(limit=limit, history=history, packet_type=random.choice([None, None, "in-band"]))
    holes = [page for page in range(pages) if random.random() < 0.2]
    memory = memory_with_holes(control_page(at % size, out % size) + data, holes)
    return inspect_memory(memory, selection=selection)


ANY_RING = builds(
    random_ring,
    seed=integers(0, 2**32),
    pages=integers(1, 5),
    sound=booleans(),
    limit=sampled_from([None, None, 0, 3]),
    history=booleans(),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(ANY_RING)
@example(broken_ring())
@example(crowded_ring())
@example(doubtful_ring())
@example(filtered_ring())
def test_every_byte_stands_once_in_the_band_and_is_what_in_out_and_the_packets_say(ring):
    picture = draw_ring(ring)
    size, available = ring.memory.size, ring.available
    found = parts(picture)
    assert found[0][0] == 0
    assert found[-1][1] == size
    assert all(start < end for start, end, _ in found)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert [(row.start, row.end) for row in picture.rows] == [
        (row.pieces[0].start, row.pieces[-1].end) for row in picture.rows
    ]

    # What waits is what lies from out to in, byte for byte; where no packet is known it is a gap, or a hole.
    out = ring.control.out_offset
    holes = {byte for start, end in holes_of(ring) for byte in range(start, end)}
    for piece in picture.pieces():
        block = picture.blocks[piece.block]
        for offset in range(piece.start, piece.end):
            waits = (offset - out) % size < available
            if block.packets:
                assert waits == (block.first in waiting(ring))
            elif not picture.is_merged:
                gap = Kind.UNLISTED if waits else Kind.FREE
                assert block.kind is (Kind.MISSING if offset in holes else gap)
    starts = {start for start, _, _ in found}
    assert {picture.in_offset, picture.out_offset} <= starts

    # Each packet is in a block that has its first byte; alone in one, it has all its bytes.
    blocks = picture.block_of()
    assert sorted(blocks) == [*range(len(ring.consumed) + len(ring.packets))]
    for number, packet_report in enumerate([*ring.consumed, *ring.packets]):
        block = picture.blocks[blocks[number]]
        assert packet_report.offset in bytes_of(block, size)
        if not picture.is_merged:
            assert (block.start, block.packets) == (packet_report.offset, 1)
            if packet_report.broken == "missing-memory":  # its footer may be what is missing
                assert block.length in (packet_report.packet_size, packet_report.available)
            else:
                whole = packet_report.footer is not None
                assert block.length == (packet_report.packet_size if whole else packet_report.available)
            if number in waiting(ring):
                assert block.kind is KIND_OF_BROKEN.get(packet_report.broken, Kind.BROKEN)
            else:
                assert block.kind in (Kind.CONSUMED, Kind.DOUBTFUL)


def holes_of(ring: RingReport) -> list[tuple[int, int]]:
    missing = ring.memory.missing if isinstance(ring.memory, DumpRingMem) else ()
    return [(one.start, one.end) for one in missing]


def waiting(ring: RingReport) -> range:
    return range(len(ring.consumed), len(ring.consumed) + len(ring.packets))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ANY_RING)
@example(crowded_ring())
def test_the_pieces_of_a_row_stand_side_by_side_and_none_is_too_narrow_to_point_at(ring):
    for row in draw_ring(ring).rows:
        assert 1 <= len(row.pieces) <= MOST_PIECES
        assert row.pieces[0].x == 0
        assert all(piece.width >= NARROWEST - 1e-9 for piece in row.pieces)
        for before, after in pairwise(row.pieces):
            assert after.x == pytest.approx(before.x + before.width)
        assert row.pieces[-1].x + row.pieces[-1].width <= 100 + 1e-9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lists(sampled_from([8, 16, 24, 480, 8000, 800_000]), min_size=1, max_size=MOST_PIECES))
def test_width_is_shared_out_whole_and_the_longer_piece_is_never_the_narrower(several):
    widths = shares(several, 100.0)
    assert sum(widths) == pytest.approx(100)
    assert min(widths) >= NARROWEST - 1e-9
    ordered = sorted(zip(several, widths, strict=True))
    assert all(one[1] <= other[1] + 1e-9 for one, other in pairwise(ordered))


# -- rings made by hand --------------------------------------------------------------------------


def test_the_parts_of_a_ring_are_told_apart():
    image = control_page(200, 96) + data_area(
        4096,
        (0, packet(0, bytes(40)) + packet(64, bytes(8))),
        (96, packet(96, bytes(16)) + packet(136, b"", length8=2000)),
    )
    assert parts(draw_ring(look(image, HISTORY))) == [
        (0, 64, Kind.CONSUMED),
        (64, 96, Kind.CONSUMED),
        (96, 136, Kind.WAITING),
        (136, 200, Kind.BROKEN),  # up to in: there is no telling where it ends
        (200, 4096, Kind.FREE),
    ]


def test_a_packet_over_the_end_is_one_block_in_two_pieces():
    picture = draw_ring(look(ring_image([packet(4080, bytes(40))], out=4080)))
    assert parts(picture) == [(0, 48, Kind.WAITING), (48, 4080, Kind.FREE), (4080, 4096, Kind.WAITING)]
    pieces = [*picture.pieces()]
    assert pieces[0].block == pieces[2].block
    assert picture.wraps(picture.blocks[pieces[0].block])
    assert not picture.wraps(picture.blocks[pieces[1].block])


def test_blocks_stand_in_the_order_of_reading():
    (ring,) = inspect_dump(sample_dump("ring-4-pages-wrapped"), selection=HISTORY).rings
    numbers = [block.first for block in draw_ring(ring).blocks if block.first is not None]
    assert numbers == [*range(len(ring.consumed) + len(ring.packets))]


def test_where_an_index_is_out_of_range_nothing_is_known():
    picture = draw_ring(look(control_page(4096, 0) + bytes(4096)))
    assert parts(picture) == [(0, 4096, Kind.UNKNOWN)]
    assert (picture.in_offset, picture.out_offset) == (None, None)


def test_waiting_packets_that_are_not_listed_are_waiting_all_the_same():
    assert [kind for _, _, kind in parts(draw_ring(filtered_ring()))] == [
        *[Kind.WAITING, Kind.UNLISTED] * 2,
        Kind.WAITING,
        Kind.FREE,
    ]


def test_pages_that_are_not_in_the_image_are_holes():
    """Of three waiting packets the second goes over into the missing page, the third is all in it."""
    packets = packet(4000, bytes(40)) + packet(4064, bytes(80)) + packet(4168, bytes(40))
    image = control_page(4232, 4000) + data_area(3 * 4096, (4000, packets))
    assert parts(draw_ring(inspect_memory(memory_with_holes(image, [1])))) == [
        (0, 4000, Kind.FREE),
        (4000, 4064, Kind.WAITING),
        (4064, 4168, Kind.MISSING),
        (4168, 4232, Kind.MISSING),
        (4232, 8192, Kind.MISSING),
        (8192, 12288, Kind.FREE),
    ]


def test_a_recovered_packet_that_is_not_intact_is_doubtful():
    assert [kind for _, _, kind in parts(draw_ring(doubtful_ring()))] == [
        Kind.CONSUMED,
        Kind.DOUBTFUL,
        Kind.CONSUMED,
        Kind.FREE,
    ]


def test_too_many_packets_share_blocks_and_a_broken_one_is_never_hidden():
    packets = [packet(24 * number) for number in range(1000)]
    packets[500] = packet(24 * 500, data_offset8=1)
    ring = look(ring_image(packets, size=65536))
    picture = draw_ring(ring)
    assert picture.is_merged
    assert len(picture.blocks) <= MOST_BLOCKS + 1
    assert [block.kind for block in picture.blocks].count(Kind.BROKEN) == 1
    assert sum(block.packets for block in picture.blocks) == 1000
    assert picture.blocks[picture.block_of()[500]].kind is Kind.BROKEN


def test_few_packets_each_have_a_block_of_their_own():
    picture = draw_ring(look(ring_image([packet(24 * number) for number in range(MOST_BLOCKS)], size=65536)))
    assert not picture.is_merged
    assert len(picture.blocks) == MOST_BLOCKS + 1


@pytest.mark.parametrize(
    ("size", "rows"), [(4096, 1), (16384, 1), (20480, 2), (65536, 4), (2 << 20, 8), (16 << 20, 8)]
)
def test_a_ring_that_is_mostly_free_takes_a_few_rows(size, rows):
    assert len(draw_ring(look(control_page(8, 8) + bytes(size))).rows) == rows
