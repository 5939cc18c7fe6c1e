"""A file holds one ring, a pair of rings, or nothing; what is not borne out is not believed.

Every rule that turns a file into one ring, every one that makes a second ring believed, and for each
of these a file that breaks only that one.
"""

from __future__ import annotations

import re

import pytest

from tests.helpers import SAMPLE_NAMES, pattern
from tests.inspection.dumps import (
    checks,
    control_page,
    dump_of,
    packet,
    ring_image,
    sample_dump,
)
from vmbus.errors import CallerError, DumpError
from vmbus.inspection import Report, RingPlace, Severity, find_rings, inspect_dump, locate, walk
from vmbus.sizes import MAXIMUM_DATA_SIZE


def inspect(image: bytes, **options: object) -> Report:
    return inspect_dump(dump_of(image), **options)  # type: ignore[arg-type]


def places(report: Report) -> list[tuple[int, int, str | None]]:
    return [(ring.place.address, ring.place.data_size, ring.place.role) for ring in report.rings]


def refusal(image: bytes, **options: object) -> DumpError:
    with pytest.raises(DumpError) as caught:
        inspect(image, **options)
    assert caught.value.path == "ring.bin"
    return caught.value


WAITING = [packet(0, pattern(64)), packet(88, pattern(100))]

# -- one ring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_file_that_is_one_ring_is_one_ring(name):
    dump = sample_dump(name)
    report = inspect_dump(dump)
    assert places(report) == [(0, dump.size - 4096, None)]
    assert report.rings[0].place.header_size == 4096
    assert report.rings[0].place.findings == ()


@pytest.mark.parametrize(
    "image",
    [
        ring_image([], features=0, mask=1),
        ring_image([], features=0, out=4088),
        ring_image([], features=0)[:-1] + b"\1",
        ring_image([], features=0, others={31: 1}),
        ring_image([], features=0)[:4095] + b"\1" + bytes(4096),
        ring_image([]),
    ],
    ids=["mask", "indices", "last byte", "unused word", "behind the words", "features"],
)
def test_anything_that_is_not_zero_makes_good_indices_a_ring(image):
    assert places(inspect(image)) == [(0, 4096, None)]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (ring_image([], in_offset=4096), "in is 0x1000, which is no multiple of 8 below 0x1000"),
        (ring_image([], in_offset=4), "in is 0x4"),
        (ring_image([], in_offset=2**32 - 8), "in is 0xfffffff8"),
        (control_page(0, 4096) + bytes(4096), "out is 0x1000"),
        (control_page(0, 2**31) + bytes(4096), "out is 0x80000000"),
        (ring_image([], mask=2), "the interrupt mask is 0x2"),
        (bytes(8192), "all bytes are zero"),
        (bytes(3 << 20), "all bytes are zero"),
    ],
)
def test_a_file_that_does_not_look_like_a_ring_is_refused_with_what_is_wrong(image, words):
    error = refusal(image)
    assert f"no ring at 0x0: {words}" in str(error)
    assert "--offset 0x0 shows it as one all the same" in str(error)
    assert error.place == 0


@pytest.mark.parametrize("size", [1, 100, 128, 4095, 4096, 4097, 8191, 8193, 12288 + 8])
def test_a_file_whose_size_no_ring_has_is_refused_with_the_size(size):
    image = ring_image(WAITING, size=12288)[:size].ljust(size, b"\1")
    refusals = [str(refusal(image))]
    if size < 8192:
        refusals.append(str(refusal(image, address=0)))
    for said in refusals:
        assert (
            f"the {size} bytes from 0x0 on are no ring: it is a control page of 4096 bytes and then" in said
        )
        assert ("; --data-size 4096 takes what would fit" in said) == (8192 <= size < 12288)
        assert ("--data-size" in said) == (size >= 8192)


@pytest.mark.parametrize(
    ("size", "whole", "left_over"), [(8193, 4096, 1), (12287, 4096, 4095), (12296, 8192, 8)]
)
def test_of_a_rest_that_is_said_to_be_a_ring_the_whole_pages_are_taken_and_what_is_left_over_is_noted(
    size, whole, left_over
):
    image = ring_image([packet(0)], size=12288)[:size]
    for address in (0, 1000):
        (ring,) = inspect(bytes(address) + image, address=address).rings
        assert (ring.place.data_size, ring.place.data_size_known) == (whole, False)
        (finding,) = ring.findings
        assert finding[:3] == ("size-assumed", Severity.NOTE, None)
        assert f"{left_over} bytes are left over behind the {whole} bytes" in finding.message
        assert "--data-size says" in finding.message
        assert len(ring.packets) == 1
    assert "are no ring" in str(refusal(image))
    (said,) = inspect(image, address=0, data_size=whole).rings
    assert (said.findings, said.place.data_size_known) == ([], True)


def test_of_a_pair_before_bytes_left_over_only_the_second_ones_size_is_assumed():
    image = ring_image(WAITING) + ring_image([]) + bytes(7)
    report = inspect(image, address=0)
    assert places(report) == [(0, 4096, "outbound"), (8192, 4096, "inbound")]
    assert [checks(ring) for ring in report.rings] == [[], ["size-assumed"]]
    assert [ring.place.data_size_known for ring in report.rings] == [True, False]


def test_what_is_said_to_be_a_ring_is_one_whatever_it_looks_like():
    for options in ({"address": 0}, {"data_size": 4096}, {"address": 0, "data_size": 4096}):
        assert places(inspect(ring_image([], mask=2), **options)) == [(0, 4096, None)]
        (zero,) = inspect(bytes(8192), **options).rings
        assert zero.verdict.value == "never-opened"
        (broken,) = inspect(ring_image([], in_offset=2**32 - 1), **options).rings
        assert (broken.verdict.value, broken.packets, broken.available) == ("corrupt", [], None)


def test_a_ring_anywhere_in_a_file_is_found_at_its_address_and_read_only_to_its_end():
    image = b"\xcc" * 1000 + ring_image(WAITING) + b"\xcc" * 555
    (ring,) = inspect(image, address=1000, data_size=4096).rings
    assert (ring.place.address, ring.place.data_size) == (1000, 4096)
    assert [one.payload for one in ring.packets] == [pattern(64), pattern(100) + bytes(4)]
    assert ring.memory.read_at(0, 4096) == ring_image(WAITING)[4096:]
    assert places(inspect(image[:-555], address=1000)) == [(1000, 4096, None)]


def test_a_ring_that_the_file_ends_before_is_refused_with_both_ends():
    error = refusal(ring_image(WAITING), data_size=8192)
    assert "ends at 0x3000, and the file has 8192 bytes" in str(error)
    assert "; --data-size 4096 takes what would fit" in str(error)
    assert error.place == 8192
    assert "ends at 0x2001" in str(refusal(ring_image(WAITING), address=1, data_size=4096))


def test_a_smaller_data_size_is_advised_only_where_one_would_fit():
    image = ring_image(WAITING, size=12288)
    for address, advised in ((0, 12288), (8, 8192), (8191, 4096), (8192, 4096), (8193, None), (16383, None)):
        said = str(refusal(image, address=address, data_size=16384))
        assert said.partition("16384 bytes")[2].endswith(
            "" if advised is None else f"; --data-size {advised} takes what would fit"
        )
        assert ("--data-size" in said) == (advised is not None)
        if advised is not None:
            assert inspect(image, address=address, data_size=advised).rings


@pytest.mark.parametrize("address", [-1, 8192, 1 << 40])
def test_an_address_outside_the_file_is_the_callers_error(address):
    with pytest.raises(CallerError, match="not inside a file of 8192 bytes"):
        inspect(ring_image(WAITING), address=address)


@pytest.mark.parametrize("data_size", [0, -4096, 100, 4095, MAXIMUM_DATA_SIZE + 4096])
def test_a_data_size_no_ring_has_is_the_callers_error(data_size):
    with pytest.raises(CallerError, match="a multiple of 4096 bytes"):
        inspect(ring_image(WAITING), data_size=data_size)


@pytest.mark.parametrize("header_size", [0, 128, 4095, 8192, 1 << 20])
def test_a_header_size_no_ring_has_is_the_callers_error(header_size):
    for options in ({}, {"address": 0}, {"data_size": 4096}):
        with pytest.raises(CallerError, match="4, 16 or 64 KiB"):
            inspect(ring_image(WAITING, size=8192), header_size=header_size, **options)


# -- a pair --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 3), (5, 5), (1, 4), (4, 1), (6, 5), (2, 7)])
@pytest.mark.parametrize("header_size", [4096, 16384])
def test_a_pair_of_rings_of_any_two_sizes_is_found(first, second, header_size):
    image = ring_image(WAITING, size=4096 * first, header_size=header_size)
    inbound = [packet(4088, pattern(8), transaction_id=5)] if second == 1 else WAITING
    image += ring_image(inbound, out=4088 if second == 1 else 0, size=4096 * second, header_size=header_size)
    report = inspect(image, header_size=header_size)
    assert places(report) == [
        (0, 4096 * first, "outbound"),
        (header_size + 4096 * first, 4096 * second, "inbound"),
    ]
    assert [len(ring.packets) for ring in report.rings] == [2, len(inbound)]
    assert all(ring.place.header_size == header_size and ring.findings == [] for ring in report.rings)


def test_a_pair_can_begin_inside_the_file():
    image = b"\xcc" * 4096 + ring_image(WAITING) + ring_image([])
    assert places(inspect(image, address=4096)) == [(4096, 4096, "outbound"), (12288, 4096, "inbound")]


def test_a_second_ring_is_believed_for_its_feature_bit_or_an_index():
    first = ring_image(WAITING)
    for second in (
        ring_image([]),
        ring_image([], features=0, out=8),
        ring_image([packet(0)], features=0),
        ring_image([packet(4072)], out=4072, features=0),  # in is 0, out is not
    ):
        assert len(inspect(first + second).rings) == 2


def test_both_rings_of_a_pair_may_be_empty():
    image = ring_image([], out=800) + ring_image([], out=24)
    assert places(inspect(image)) == [(0, 4096, "outbound"), (8192, 4096, "inbound")]


def test_a_pair_with_broken_packets_whose_lengths_can_be_followed_is_a_pair():
    image = ring_image([packet(0, kind=99)]) + ring_image([packet(0, flags=6)])
    report = inspect(image)
    assert [ring.place.role for ring in report.rings] == ["outbound", "inbound"]
    assert [checks(ring) for ring in report.rings] == [["descriptor-type"], ["descriptor-flags"]]


# -- no pair -------------------------------------------------------------------------------------


def one_ring_with_note(image: bytes, at: int = 8192) -> None:
    (ring,) = inspect(image).rings
    assert (ring.place.address, ring.place.data_size, ring.place.role) == (0, len(image) - 4096, None)
    finding = ring.findings[0]
    assert finding[:3] == ("maybe-a-pair", Severity.NOTE, None)
    assert f"the page at {at:#x} looks like the control page of a second ring" in finding.message
    assert (
        f"--data-size {at - 4096} shows the first ring alone, --offset {at:#x} the second" in finding.message
    )
    assert ring.place.data_size_known is False


def one_ring_without(image: bytes) -> None:
    (ring,) = inspect(image).rings
    assert (ring.place.data_size, ring.place.role, ring.place.data_size_known) == (
        len(image) - 4096,
        None,
        True,
    )
    assert "maybe-a-pair" not in checks(ring)


def test_a_second_ring_without_feature_bit_and_indices_is_no_ring():
    one_ring_without(ring_image(WAITING) + ring_image([], features=0))
    one_ring_without(ring_image(WAITING) + ring_image([], features=0, mask=1))
    one_ring_without(ring_image(WAITING) + ring_image([], features=0)[:-1] + b"\1")


@pytest.mark.parametrize(
    "words",
    [
        {"features": 0, "in_offset": 12},
        {"features": 0, "in_offset": 4096},
        {"features": 0, "out": 4096, "in_offset": 0},
        {"features": 0, "in_offset": 8, "mask": 2},
        {"features": 2},
        {"features": 3},
        {"others": {5: 1}},
        {"others": {31: 1}},
    ],
)
def test_a_page_whose_words_a_control_page_does_not_have_is_data(words):
    one_ring_without(ring_image(WAITING) + ring_image([], **words))


@pytest.mark.parametrize(
    "words", [{"in_offset": 12}, {"in_offset": 4096}, {"out": 4096, "in_offset": 0}, {"mask": 2}]
)
def test_a_page_with_the_feature_word_and_broken_words_beside_it_is_worth_a_note(words):
    one_ring_with_note(ring_image(WAITING) + ring_image([], **words))


@pytest.mark.parametrize("at", [8192, 8192 + 4096])
def test_both_commands_that_the_note_of_a_pair_names_show_one_ring(at):
    image = ring_image(WAITING, size=at - 4096) + ring_image([packet(0)], in_offset=32)
    (ring,) = inspect(image).rings
    named = re.search(r"--data-size (\d+) .* --offset (0x[0-9a-f]+) ", ring.findings[0].message)
    assert named is not None
    assert places(inspect(image, data_size=int(named[1]))) == [(0, at - 4096, None)]
    assert places(inspect(image, address=int(named[2], 0))) == [(at, 4096, None)]


def test_the_places_of_rings_can_be_had_without_looking_into_them():
    pair = find_rings(dump_of(ring_image(WAITING) + ring_image([packet(0, kind=0)])))
    assert [(type(one), one.address, one.role, one.end) for one in pair] == [
        (RingPlace, 0, "outbound", 8192),
        (RingPlace, 8192, "inbound", 16384),
    ]
    dump = dump_of(bytes(100) + ring_image(WAITING, header_size=16384))
    assert find_rings(dump, address=100, header_size=16384) == [RingPlace(100, 16384, 4096)]
    assert find_rings(dump, address=4, data_size=8192) == [RingPlace(4, 4096, 8192)]
    with pytest.raises(DumpError, match="no ring at 0x0: all bytes are zero"):
        find_rings(dump_of(bytes(8192)))


def test_a_page_with_more_in_it_than_control_words_is_data():
    for at in (128, 4095):
        second = bytearray(ring_image([]))
        second[at] = 1
        one_ring_without(ring_image(WAITING) + second)


def test_a_second_ring_whose_walk_does_not_end_at_its_in_is_not_believed():
    first = ring_image(WAITING)
    one_ring_with_note(first + ring_image([packet(0), packet(24, length8=9)]))
    one_ring_with_note(first + ring_image([packet(0)], in_offset=32))
    one_ring_with_note(first + ring_image([packet(0)], in_offset=16))
    one_ring_with_note(first + ring_image([], in_offset=800))


def test_a_second_ring_is_not_believed_when_the_first_rings_indices_do_not_fit_before_it():
    sent = packet(0, pattern(4096))
    assert len(sent) > 4096
    image = bytearray(ring_image([sent], size=4 * 4096))
    image[8192 : 8192 + 4096] = control_page()
    one_ring_with_note(bytes(image))


def test_a_second_ring_is_not_believed_when_the_first_rings_packets_do_not_fit_before_it():
    """Both indices would: the packet between them goes round the whole ring, over the lure."""
    lure = bytes(80) + control_page()
    sent = packet(4000, lure.ljust(4 * 4096 - 4000 + 104 - 24, b"\0"))
    image = ring_image([sent], out=4000, size=4 * 4096)
    assert image[:8] == control_page(104, 4000)[:8]
    assert image[8192:12288] == control_page()
    one_ring_with_note(image)


def test_a_second_ring_is_not_believed_when_the_first_ones_packets_end_elsewhere_before_it():
    one_ring_with_note(ring_image([packet(0)], in_offset=32) + ring_image([]))


def test_a_data_page_that_happens_to_look_like_a_control_page_does_not_cut_a_ring():
    """A page of payload with the words of an empty ring, in a packet that is waiting."""
    lure = bytes(4096 - 16) + control_page() + bytes(600)
    image = ring_image([packet(0, lure)], size=4 * 4096)
    assert image[8192:12288] == control_page()
    one_ring_with_note(image)
    (ring,) = inspect(image).rings
    assert ring.packets[0].payload == lure


def test_the_middle_of_the_file_is_tried_first():
    """Two places that would both do: a channel's rings are mostly of one size."""
    image = ring_image(WAITING, size=4096 * 2)
    image += ring_image([], size=4096 * 2)
    tempting = bytearray(image)
    tempting[8192 : 8192 + 128] = control_page()[:128]  # the last page of the first ring
    assert places(inspect(bytes(tempting))) == [(0, 8192, "outbound"), (12288, 8192, "inbound")]


def test_of_many_pages_that_look_like_control_pages_only_some_are_tried(monkeypatch):
    """Each may cost a walk of the whole ring, and a file may be nothing but such pages."""
    walks = []

    def counted_walk(memory, start, end):
        walks.append(memory.size)
        return walk(memory, start, end)

    monkeypatch.setattr(locate, "walk", counted_walk)
    lures = control_page(8, 0) * 400  # no packet is at 0, so that no walk ends at 8
    report = inspect(ring_image([]) + lures)
    assert [checks(ring) for ring in report.rings] == [["maybe-a-pair"]]
    assert 1 < len(walks) <= 2 * locate.MOST_SUSPECTS


def test_with_a_data_size_there_is_one_ring_whatever_follows():
    image = ring_image(WAITING) + ring_image([])
    assert places(inspect(image, data_size=4096)) == [(0, 4096, None)]
    assert places(inspect(image, data_size=3 * 4096)) == [(0, 12288, None)]
    assert places(inspect(image, address=8192, data_size=4096)) == [(8192, 4096, None)]


def test_words_at_a_place_where_no_page_starts_are_data():
    image = bytearray(ring_image(WAITING, size=4 * 4096))
    image[8192 + 512 : 8192 + 512 + 4096] = control_page()
    one_ring_without(bytes(image))
