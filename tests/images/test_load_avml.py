"""AVML images: memory is decoded when it is read, damage costs the chunk that it is in, and the rest is found."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.avml import avml_image, avml_record, snappy_chunk, snappy_stream
from image_writers.lime import lime_record

from tests.helpers import pattern
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
from vmbus.images import FilePlace, load_avml, snappy_chunks
from vmbus.images.load_avml import load
from vmbus.inspection import MissingMemory, State

BY_HAND = bytes.fromhex(
    "41 56 4d 4c 02 00 00 00 00 10 00 00 00 00 00 00 13 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "ff 06 00 00 73 4e 61 50 70 59 00 0a 00 00 51 a4 e0 43 14 00 41 4a 01 00 18 00 00 00 00 00 00 00"
)

START = bytes.fromhex("ff 06 00 00 73 4e 61 50 70 59")


def dump_of(data):
    return load(source_of(data))


def refusal_of_read(dump, address, length):
    with pytest.raises(MissingMemory) as caught:
        dump.read(address, length)
    return caught.value


def stream_of(*chunks):
    return START + b"".join(chunks)


# -- what is there -------------------------------------------------------------------------------


def test_a_file_spelled_by_hand_is_read():
    dump = dump_of(BY_HAND)
    assert (dump.format, dump.size, dump.findings) == ("avml", 64, [])
    assert dump.read(0x1000, 20) == b"A" * 20
    assert runs_of(dump) == [(0x1000, 0x1014, "present")]
    assert dump.where(0x1000) == dump.where(0x1013) == FilePlace("image", 42)
    assert dump.where(0x1014) is None


def test_the_writer_of_these_tests_writes_what_was_spelled_by_hand():
    assert avml_image([(0x1000, b"A" * 20)]) == BY_HAND


@settings(max_examples=100, deadline=None)
@given(
    regions_to_write(),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.integers(1, 100),
)
def test_every_byte_of_every_record_is_read_and_nothing_else_is_there(regions, kinds, chunk):
    dump = dump_of(avml_image(regions, kinds=kinds, chunk=chunk))
    assert dump.findings == []
    assert_holds(dump, regions)


@settings(max_examples=100, deadline=None)
@given(st.data(), regions_to_write())
def test_records_of_both_kinds_stand_in_one_file(data, regions):
    image = b"".join(data.draw(st.sampled_from([lime_record, avml_record]))(*region) for region in regions)
    dump = load(source_of(image))
    assert dump.findings == []
    assert dump.size == len(image)
    assert_holds(dump, regions)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 299), st.integers(1, 300), st.integers(1, 40))
def test_any_stretch_of_a_record_is_read(start, length, chunk):
    content = pattern(300)
    dump = dump_of(avml_record(0x1000, content, chunk=chunk, kinds=(0, 1)))
    length = min(length, 300 - start)
    assert dump.read(0x1000 + start, length) == content[start : start + length]


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_a_place_is_that_of_the_chunk_that_a_byte_is_in(kind):
    chunks = [snappy_chunk(pattern(20, seed), kind) for seed in range(3)]
    content = b"".join(pattern(20, seed) for seed in range(3))
    image = avml_record(0x1000, content, stream=stream_of(*chunks))
    dump = dump_of(image)
    for number in range(3):
        for inside in (0, 19):
            place = dump.where(0x1000 + 20 * number + inside)
            assert image[place.offset :].startswith(chunks[number])


def test_padding_and_chunks_that_nobody_knows_are_stepped_over():
    parts = [pattern(30, 1), pattern(40, 2)]
    padding, unknown = b"\xfe\x03\x00\x00abc", b"\x80\x00\x00\x00"
    stream = stream_of(padding, snappy_chunk(parts[0]), unknown, START, snappy_chunk(parts[1], 1), padding)
    dump = dump_of(avml_record(0x1000, b"".join(parts), stream=stream))
    assert dump.findings == []
    assert dump.read(0x1000, 70) == b"".join(parts)


def test_a_record_larger_than_memory_is_to_be_is_decoded_piece_by_piece():
    chunk = snappy_chunk(pattern(64) * 1024)
    image = avml_record(0, b"", last=1000 * 65536 - 1, stream=stream_of(*[chunk] * 1000))
    dump = dump_of(image)
    assert runs_of(dump) == [(0, 1000 * 65536, "present")]

    def look_through():
        for _, piece in dump.pieces(0, 140 * 65536):
            assert piece[:8] == pattern(8)

    assert peak_memory(look_through) < 8 << 20
    assert dump.read(999 * 65536, 64) == pattern(64)


def test_opening_decodes_nothing_and_looks_at_a_chunk_once(monkeypatch):
    monkeypatch.setattr(snappy_chunks, "decode_chunk", None)  # whoever decodes fails
    image = avml_record(
        0, b"", last=10_000 * 65536 - 1, stream=stream_of(*[snappy_chunk(bytes(65536))] * 10_000)
    )
    start = time.process_time()
    dump = dump_of(image)
    assert time.process_time() - start < 2
    assert dump.findings == []


def test_a_chunk_that_was_just_decoded_is_not_decoded_again(monkeypatch):
    decoded = []

    def counting(kind, body):
        decoded.append(len(body))
        return right(kind, body)

    right = snappy_chunks.decode_chunk
    monkeypatch.setattr(snappy_chunks, "decode_chunk", counting)
    dump = dump_of(avml_record(0, pattern(100 * 50), chunk=100))
    for at in range(0, 3000, 10):
        dump.read(at, 10)
    assert len(decoded) == 30
    dump.read(2900, 100)  # still there
    assert len(decoded) == 30
    dump.read(3000, 2000)
    dump.read(0, 100)  # twenty others came after it, and thirty-two are kept
    assert len(decoded) == 51


# -- what is wrong with a chunk ----------------------------------------------------------------------


def test_a_chunk_whose_bytes_were_changed_is_lost_and_its_neighbours_are_not():
    image = bytearray(avml_record(0x1000, pattern(300), chunk=100, kinds=(1,)))
    dump = dump_of(bytes(image))
    damaged_at = dump.where(0x1064).offset
    image[damaged_at + 20] ^= 4
    dump = dump_of(bytes(image))
    assert dump.findings == []  # nobody has looked yet
    assert dump.read(0x1000, 100) == pattern(300)[:100]
    assert dump.read(0x10C8, 100) == pattern(300)[200:]
    error = refusal_of_read(dump, 0x1032, 200)
    assert (error.address, error.state, error.place) == (0x1064, State.LOST, damaged_at)
    assert "the checksum of a chunk is 0x" in error.why
    error = refusal_of_read(dump, 0x1070, 4)
    assert error.address == 0x1070


def test_what_is_looked_through_leaves_out_the_chunk_that_is_damaged():
    content = pattern(16 * 4096)
    image = bytearray(avml_record(0x1000, content, chunk=4096, kinds=(1,)))
    image[dump_of(bytes(image)).where(0x5000).offset + 100] ^= 1
    told = []
    memory = {at: bytes(piece) for at, piece in dump_of(bytes(image)).pieces(on_missing=told.append)}
    assert sum(map(len, memory.values())) == 15 * 4096
    assert [(run.start, run.end, run.state) for run in told] == [(0x5000, 0x6000, State.LOST)]


def test_a_chunk_that_does_not_decode_names_why():
    stream = stream_of(b"\x02\x04\x00\x00\x14\x00\x41\x01", b"")
    error = refusal_of_read(dump_of(avml_record(0x1000, bytes(20), stream=stream)), 0x1000, 20)
    assert error.why == "a block ends inside an element"


def test_a_length_that_no_chunk_can_have_loses_the_rest_of_its_record_alone():
    wrong = b"\x02\x05\x00\x00\xff\xff\xff\xff\x0f"
    stream = stream_of(snappy_chunk(pattern(20)), wrong, snappy_chunk(pattern(20, 3)))
    image = avml_record(0x1000, bytes(60), stream=stream) + avml_record(0x5000, b"the next one")
    dump = dump_of(image)
    assert checks_of(dump) == ["image-damaged"]
    assert runs_of(dump) == [
        (0x1000, 0x1014, "present"),
        (0x1014, 0x103C, "lost"),
        (0x5000, 0x500C, "present"),
    ]
    assert dump.read(0x1000, 20) == pattern(20)
    assert dump.read(0x5000, 12) == b"the next one"
    assert "says that it decodes to more than a chunk can" in refusal_of_read(dump, 0x1014, 1).why


@pytest.mark.parametrize(
    ("chunk", "why"),
    [
        (b"\x04\x00\x00\x00", "the chunk at 0x2a has the unknown type 0x04"),
        (b"\x7f\x00\x00\x00", "the chunk at 0x2a has the unknown type 0x7f"),
        (b"\x00\x04\x00\x00abcd", "the chunk at 0x2a has 4 bytes, too few for its type"),
        (b"\x01\x03\x00\x00abcd", "the chunk at 0x2a has 3 bytes, too few for its type"),
        (b"\x02\x00\x00\x00abcd", "the chunk at 0x2a has 0 bytes, too few for its type"),
    ],
)
def test_behind_a_chunk_that_cannot_be_one_nothing_is_found(chunk, why):
    image = avml_record(0x1000, bytes(20), stream=stream_of(chunk)) + avml_record(0x5000, b"the next one")
    dump = dump_of(image)
    assert [finding.message for finding in dump.findings] == [f"in the stream at 0x20: {why}"]
    assert runs_of(dump) == [(0x1000, 0x1014, "lost")]


def test_a_stream_that_begins_otherwise_is_a_finding_and_is_read():
    stream = bytearray(snappy_stream(b"ring" * 5))
    stream[5] ^= 1
    dump = dump_of(avml_record(0x1000, b"ring" * 5, stream=bytes(stream)))
    assert checks_of(dump) == ["image-damaged"]
    assert dump.read(0x1000, 20) == b"ring" * 5


# -- what is wrong with a record ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (BY_HAND[:31], "has 31 bytes, fewer than the 32 that a record begins with"),
        (avml_record(0x1000, b"data", version=1), "its first record has version 1, where 2 is known"),
        (avml_record(0x1000, b"data", version=3), "its first record has version 3, where 2 is known"),
    ],
)
def test_what_does_not_begin_with_a_record_is_refused(image, why):
    assert place_of_refusal(load, image) == (why, 0)


@pytest.mark.parametrize("behind", [b"", avml_record(0x5000, b"next"), lime_record(0x5000, b"next")])
@pytest.mark.parametrize("trailer", [0, 23, 25, 2**64 - 1])
def test_a_trailer_with_a_wrong_length_is_a_finding_and_the_record_is_read(trailer, behind):
    dump = dump_of(avml_record(0x1000, b"A" * 20, trailer=trailer) + behind)
    assert [finding.message for finding in dump.findings] == [
        f"in the stream at 0x20: it has 24 bytes, and the trailer at 0x38 says {trailer}"
    ]
    assert dump.read(0x1000, 20) == b"A" * 20
    assert not behind or dump.read(0x5000, 4) == b"next"


def test_a_stream_that_ends_before_its_range_is_full_loses_what_it_does_not_have():
    dump = dump_of(avml_record(0x1000, b"A" * 20, last=0x101D) + avml_record(0x5000, b"next"))
    assert runs_of(dump) == [
        (0x1000, 0x1014, "present"),
        (0x1014, 0x101E, "lost"),
        (0x5000, 0x5004, "present"),
    ]
    assert checks_of(dump) == ["image-damaged"]
    assert "10 bytes before its record is full" in refusal_of_read(dump, 0x1014, 1).why


def test_a_stream_that_goes_on_behind_its_range_is_read_as_far_as_the_range_goes():
    content = pattern(300)
    dump = dump_of(avml_record(0x1000, content, last=0x1000 + 149, chunk=100) + avml_record(0x5000, b"next"))
    assert runs_of(dump) == [(0x1000, 0x1096, "present"), (0x5000, 0x5004, "present")]
    assert dump.read(0x1000, 150) == content[:150]
    assert dump.read(0x5000, 4) == b"next"
    assert checks_of(dump) == ["image-damaged"]


@pytest.mark.parametrize("length", range(len(BY_HAND)))
def test_a_file_that_is_cut_anywhere_is_refused_or_says_what_is_lost(length):
    dump = assert_keeps_to_the_rules(load, BY_HAND[:length])
    if length < 32:
        assert dump is None
        return
    assert checks_of(dump) == ["image-cut-short"]
    assert runs_of(dump) == [(0x1000, 0x1014, "present" if length >= 56 else "lost")]


@pytest.mark.parametrize("length", range(80, 390, 7))
def test_of_a_file_that_is_cut_every_whole_chunk_is_read(length):
    content = pattern(300)
    image = avml_record(0x1000, content, chunk=50, kinds=(1,))
    dump = dump_of(image[:length])
    whole = max(0, (length - 42) // 58) * 50
    assert whole < 300
    assert dump.read(0x1000, whole) == content[:whole]
    error = refusal_of_read(dump, 0x1000, 300)
    assert (error.address, error.why) == (0x1000 + whole, "the file ends within its record")


@pytest.mark.parametrize("last", [2**64 - 1, 2**40])
def test_a_record_longer_than_any_file_costs_nothing_and_is_lost(last):
    image = avml_record(0, b"A" * 20, last=last)
    assert peak_memory(lambda: dump_of(image)) < 4 << 20
    assert runs_of(dump_of(image)) == [(0, 20, "present"), (20, last + 1, "lost")]


def test_a_chunk_as_long_as_one_can_say_costs_no_more_than_it_has():
    image = avml_record(0, bytes(65536), stream=stream_of(b"\x00\xff\xff\xff" + bytes(4) + b"\x80\x80\x04"))
    assert peak_memory(lambda: assert_keeps_to_the_rules(load, image)) < 4 << 20
    assert checks_of(dump_of(image)) == ["image-cut-short"]


def test_chunks_behind_the_most_that_are_looked_at_are_left_and_a_finding_says_so(monkeypatch):
    monkeypatch.setattr(load_avml, "MOST_CHUNKS", 4)
    assert dump_of(avml_record(0x1000, pattern(30), chunk=10)).findings == []
    dump = dump_of(avml_record(0x1000, pattern(40), chunk=10))
    assert runs_of(dump) == [(0x1000, 0x101E, "present"), (0x101E, 0x1028, "lost")]
    assert [finding.message for finding in dump.findings] == [
        "in the stream at 0x20: more than 4 chunks; those from 0x66 on are left"
    ]


def test_of_very_many_findings_the_first_are_kept_and_all_are_counted():
    image = b"".join(avml_record(0x1000 * number, b"A", trailer=0) for number in range(1500))
    dump = dump_of(image)
    assert len(dump.findings) == 1001
    assert dump.findings[-1].message == "500 more findings are not listed, 0 of them errors"
    assert dump.read(0x1000 * 1499, 1) == b"A"


@settings(max_examples=120, deadline=None)
@given(
    damaged(
        st.builds(
            lambda regions, kinds, chunk: avml_image(regions, kinds=kinds, chunk=chunk),
            regions_to_write(most=40),
            st.lists(st.integers(0, 3), min_size=1, max_size=4),
            st.integers(5, 60),
        )
    )
)
def test_a_damaged_file_is_refused_or_read_as_far_as_it_goes(image):
    assert_keeps_to_the_rules(load, image)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200), st.integers(8, 56))
def test_random_bytes_behind_the_right_beginning_are_refused_or_read(rest, length):
    assert_keeps_to_the_rules(load, BY_HAND[:length] + rest)
