"""A corpus has cases that were performed, each under the name of its bytes; a dictionary has what the schemas name."""

from __future__ import annotations

import hashlib

import pytest

from tests.fuzzing.shelf_trial import ForgetfulShelfTrial, ShelfTrial
from vmbus import layout, protocols, virtio
from vmbus.fuzzing import Case, Wrong, corpus_of, crash_path, dictionary, write_corpus
from vmbus.fuzzing.fuzzer_dictionary import SCHEMAS, enumerated_fields
from vmbus.layout import PACKET_DESCRIPTOR_SCHEMA, PacketType
from vmbus.protocols import DEVICE_CLASSES


def test_every_file_is_named_after_its_bytes_and_is_a_case_that_does_not_fail(tmp_path):
    written = list(write_corpus(tmp_path, ShelfTrial))
    assert written
    files = sorted((tmp_path / "shelf").iterdir())
    assert files == sorted(path for path, _ in written)
    for path, kept in written:
        data = path.read_bytes()
        assert path.name == hashlib.sha1(data).hexdigest()
        assert Case.from_bytes(ShelfTrial, data) == kept.case
        kept.case.perform()


def test_each_case_meets_a_corner_that_those_before_it_did_not_and_together_they_meet_all():
    met = set()
    for kept in corpus_of(ShelfTrial):
        corners = kept.case.perform().keys()
        assert set(kept.new) == corners - met != set()
        met |= corners
    assert met == set(ShelfTrial.CORNERS)


def test_the_same_seed_makes_the_same_corpus_and_another_another():
    assert list(corpus_of(ShelfTrial, 1)) == list(corpus_of(ShelfTrial, 1)) != list(corpus_of(ShelfTrial, 2))


def test_a_case_that_fails_does_not_enter_a_corpus(tmp_path):
    with pytest.raises(Wrong):
        for _ in range(20):
            list(write_corpus(tmp_path, ForgetfulShelfTrial, seed=_))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            Case.from_bytes(ForgetfulShelfTrial, path.read_bytes()).perform()


def test_a_crash_is_kept_under_the_name_of_its_bytes(tmp_path):
    path = crash_path(tmp_path, "shelf", b"bytes")
    assert path == tmp_path / "shelf" / f"crash-{hashlib.sha1(b'bytes').hexdigest()}"


def test_the_dictionary_has_every_number_with_a_name_as_its_field_stores_it():
    entries = [entry.data for entry in dictionary()]
    for kind in PacketType:
        fields = {"type": kind, "data_offset8": 0, "length8": 0, "flags": 0, "transaction_id": 0}
        assert PACKET_DESCRIPTOR_SCHEMA.build(fields)[:2] in entries
    assert {one.class_id.wire for one in DEVICE_CLASSES} <= set(entries)
    assert len(set(entries)) == len(entries)


def test_an_entry_of_the_dictionary_is_named_after_its_schema_its_field_and_its_number():
    entries = {entry.name: entry.data for entry in dictionary()}
    assert entries["packet_descriptor_type_in_band"] == b"\6\0"
    assert entries["packet_descriptor_type_completion"] == b"\x0b\0"
    assert entries["class_network"] in {one.class_id.wire for one in DEVICE_CLASSES}


def test_no_schema_whose_numbers_have_names_is_forgotten():
    with_names = {
        name.removesuffix("_SCHEMA").lower()
        for part in (layout, protocols, virtio)
        for name in part.__all__
        if name.endswith("_SCHEMA") and list(enumerated_fields(getattr(part, name)))
    }
    assert set(SCHEMAS) == with_names


def test_each_line_of_the_dictionary_has_the_form_that_fuzzers_read():
    lines = [str(entry) for entry in dictionary()]
    names = [line.partition("=")[0] for line in lines]
    assert len(set(names)) == len(names) > 60
    for line in lines:
        name, _, text = line.partition("=")
        assert name.replace("_", "").isalnum()
        assert eval(f"b{text}")  # what stands between the quotes are escaped bytes and nothing else
        assert len(text) == 2 + 4 * (text.count("\\x"))
