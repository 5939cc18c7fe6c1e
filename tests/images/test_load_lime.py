"""LiME images: every record at its address, holes between them, and a sentence where a file does not go on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.avml import avml_record
from image_writers.lime import lime_image, lime_record

from tests.images.image_checks import (
    assert_holds,
    assert_keeps_to_the_rules,
    checks_of,
    damaged,
    peak_memory,
    place_of_refusal,
    regions_to_write,
    runs_of,
    source_of,
)
from vmbus.images import FilePlace, records
from vmbus.images.load_lime import load
from vmbus.inspection import MissingMemory, State

BY_HAND = bytes.fromhex(
    "45 4d 69 4c 01 00 00 00 00 10 00 00 00 00 00 00 03 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 02 03 04"
)


def dump_of(data):
    return load(source_of(data))


def test_a_file_spelled_by_hand_is_read():
    dump = dump_of(BY_HAND)
    assert (dump.format, dump.size, dump.findings) == ("lime", 36, [])
    assert dump.read(0x1000, 4) == b"\1\2\3\4"
    assert runs_of(dump) == [(0x1000, 0x1004, "present")]
    assert dump.where(0x1003) == FilePlace("image", 35)


def test_the_writer_of_these_tests_writes_what_was_spelled_by_hand():
    assert lime_image([(0x1000, b"\1\2\3\4")]) == BY_HAND


@settings(max_examples=100, deadline=None)
@given(regions_to_write())
def test_every_byte_of_every_record_is_read_and_nothing_else_is_there(regions):
    image = lime_image(regions)
    dump = dump_of(image)
    assert dump.findings == []
    assert_holds(dump, regions)
    for address, data in regions:
        assert image[dump.where(address).offset] == data[0]


def test_what_is_between_records_is_a_hole_and_not_zero():
    dump = dump_of(lime_image([(0x1000, b"left"), (0x3000, b"right")]))
    with pytest.raises(MissingMemory, match="has no memory in this image") as caught:
        dump.read(0x1000, 0x3000)
    assert (caught.value.address, caught.value.state) == (0x1004, None)


def test_of_records_that_overlap_the_first_is_taken_and_a_finding_says_so():
    dump = dump_of(lime_image([(0x1004, b"first"), (0x1000, b"the second one")]))
    assert dump.read(0x1000, 14) == b"the firstd one"
    assert checks_of(dump) == ["image-overlap"]


def test_a_file_can_go_on_with_compressed_records():
    regions = [(0x1000, b"plain"), (0x5000, b"compressed " * 20), (0x9000, b"plain again")]
    image = lime_record(*regions[0]) + avml_record(*regions[1]) + lime_record(*regions[2])
    dump = dump_of(image)
    assert (dump.format, dump.size, dump.findings) == ("avml", len(image), [])
    assert_holds(dump, regions)
    assert dump.where(0x9000) == FilePlace("image", len(image) - len(b"plain again"))


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (BY_HAND[:31], "has 31 bytes, fewer than the 32 that a record begins with"),
        (lime_record(0x1000, b"data", version=2), "its first record has version 2, where 1 is known"),
        (lime_record(0x1000, b"data", last=0xFFF), "its first record ends at address 0xfff, before it starts at 0x1000"),
        (b"LiME" * 10, "its first record begins with 4c 69 4d 45, as no record does"),
    ],
)  # fmt: skip
def test_what_does_not_begin_with_a_record_is_refused(image, why):
    assert place_of_refusal(load, image) == (why, 0)


@pytest.mark.parametrize("length", range(len(BY_HAND)))
def test_a_file_that_is_cut_anywhere_is_refused_or_says_what_is_lost(length):
    dump = assert_keeps_to_the_rules(load, BY_HAND[:length])
    if length < 32:
        assert dump is None
        return
    assert checks_of(dump) == ["image-cut-short"]
    assert dump.findings[0].message == f"ends at {length:#x}, within a record of 4 bytes at 0x0"
    assert dump.read(0x1000, length - 32) == b"\1\2\3\4"[: length - 32]
    with pytest.raises(MissingMemory, match="is lost: the file ends within its record") as caught:
        dump.read(0x1000, 4)
    assert (caught.value.address, caught.value.state) == (0x1000 + length - 32, State.LOST)


def test_the_header_of_a_later_record_that_is_cut_is_a_finding():
    dump = dump_of(BY_HAND + BY_HAND[:20])
    assert [finding.message for finding in dump.findings] == [
        "ends at 0x38, within the header of a record at 0x24"
    ]
    assert dump.read(0x1000, 4) == b"\1\2\3\4"


def test_behind_a_later_record_that_makes_no_sense_nothing_is_believed():
    dump = dump_of(BY_HAND + lime_record(0x5000, b"data", magic=0x12345678) + lime_record(0x9000, b"more"))
    assert runs_of(dump) == [(0x1000, 0x1004, "present")]
    assert [finding.message for finding in dump.findings] == [
        "the record at 0x24 begins with 78 56 34 12, as no record does; from there on nothing is known"
    ]


@pytest.mark.parametrize(("first", "last"), [(0, 2**64 - 1), (0, 2**63), (2**63, 2**64 - 1)])
def test_a_record_longer_than_any_file_costs_nothing_and_is_lost(first, last):
    image = lime_record(first, b"data", last=last)
    assert peak_memory(lambda: dump_of(image)) < 4 << 20
    dump = dump_of(image)
    assert runs_of(dump) == [(first, first + 4, "present"), (first + 4, last + 1, "lost")]


def test_records_behind_the_most_that_are_looked_at_are_left_and_a_finding_says_so(monkeypatch):
    monkeypatch.setattr(records, "MOST_RECORDS", 3)
    regions = [(0x1000 * number, b"data") for number in range(5)]
    assert dump_of(lime_image(regions[:3])).findings == []
    dump = dump_of(lime_image(regions))
    assert len(runs_of(dump)) == 3
    assert [finding.message for finding in dump.findings] == [
        "has more than 3 records; those from 0x6c on are left"
    ]


@settings(max_examples=120, deadline=None)
@given(damaged(st.builds(lime_image, regions_to_write(most=20))))
def test_a_damaged_file_is_refused_or_read_as_far_as_it_goes(image):
    assert_keeps_to_the_rules(load, image)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_behind_the_right_beginning_are_refused_or_read(rest):
    assert_keeps_to_the_rules(load, BY_HAND[:8] + rest)
    assert_keeps_to_the_rules(load, BY_HAND + rest)
