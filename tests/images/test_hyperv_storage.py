"""Hyper-V's storage container: keys by path, and what becomes of damage."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.vmrs import Unsigned, hyperv_storage, resealed

from vmbus.errors import CallerError, DumpError
from vmbus.images import BytesSource, Source
from vmbus.images import HyperVStorage as Storage
from vmbus.images.hyperv_storage import LARGEST_VALUE, MOST_OBJECTS
from vmbus.images.hyperv_storage_keys import DEEPEST, MOST_KEYS, MOST_TABLE_BYTES

ROOT_TABLE, FIRST_KEYS, REPLAY_LOG = 8192, 12288, 16384


def opened(image: bytes) -> Storage:
    return Storage(BytesSource("a.vmrs", memoryview(image)))


def checks(storage: Storage) -> list[str]:
    return [finding.check for finding in storage.findings]


def placed(*parts: tuple[int, str], size: int = 20480) -> bytes:
    """Bytes at places, the rest zeros."""
    image = bytearray(size)
    for place, text in parts:
        data = bytes.fromhex(text)
        image[place : place + len(data)] = data
    return bytes(image)


AFTER_SEQUENCE = "00 04 00 00 00 00 00 00 00 00 00 00 00 10 00 00 00 40 00 00 00 00 00 00 00 10 00 00 00 00 00 00 00 10 00 00"
MINIMAL = placed(
    (0, "14 20 28 01 fc 09 27 b6 01 00" + AFTER_SEQUENCE),
    (4096, "14 20 28 01 1e f4 af 3b 00 00" + AFTER_SEQUENCE),
    (ROOT_TABLE, "01 00 11 01 e3 00 00 00 02 c3 f5 f8 51 00 30 00 00 00 00 00 00 00 10 00 00 01"),
    (ROOT_TABLE + 26, ("00 4d cf 1b 67" + "00" * 13) * 226),
    (FIRST_KEYS, "02 00 01 00 01 00 70 6b 89 e0"),
    (
        FIRST_KEYS + 10,
        "03 00 1f 00 00 00 00 00 00 00 00 00 20 d9 4b b3 01 00 00 00 02 61 00 01 00 00 00 00 00 00 00",
    ),
    (FIRST_KEYS + 41, "01 00 d7 0f 00 00"),
    (REPLAY_LOG, "03 00 11 01 33 10 1e 28 00 00 00 00 00 91 00 00 00"),
)


def test_the_smallest_file_byte_for_byte() -> None:
    storage = opened(MINIMAL)
    assert [*storage.keys()] == ["/a"]
    assert storage.value("/a") == 1
    assert storage.stored("/a") == (FIRST_KEYS + 33, 8)
    assert storage.findings == []
    assert hyperv_storage({"/a": 1}) == MINIMAL


def test_padding_behind_a_key_is_not_in_its_checksum() -> None:
    image = hyperv_storage({"/a": 1}, table_size=50)
    assert image[FIRST_KEYS + 12] == 40
    storage = opened(image[: FIRST_KEYS + 45] + b"old" + image[FIRST_KEYS + 48 :])
    assert (storage.value("/a"), storage.findings) == (1, [])


VALUES = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(Unsigned)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.binary(max_size=40)
    | st.binary(min_size=2040, max_size=2060)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.just("long " * 1000)
    | st.none()
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=12)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@given(
    st.dictionaries(PATHS, VALUES, max_size=12), st.sampled_from([4096, 8192]), st.sampled_from([30, 2047])
)
@settings(max_examples=150, deadline=None)
def test_every_value_is_found_by_its_path(keys: dict[str, Any], table_size: int, largest_inline: int) -> None:
    storage = opened(hyperv_storage(keys, table_size=table_size, largest_inline=largest_inline))
    assert storage.findings == []
    assert keys.keys() <= {*storage.keys()}
    for path, value in keys.items():
        assert path in storage
        found = storage.value(path)
        assert found == value
        assert type(found) is (int if isinstance(value, Unsigned) else type(value))
        if isinstance(value, bytes):
            offset, size = storage.stored(path)
            assert (size, storage.source.read(offset, size)) == (len(value), value)
    for path in {*storage.keys()} - keys.keys():
        assert storage.value(path) is None  # a node


def test_keys_in_many_tables_and_objects_in_many_object_tables_are_all_found() -> None:
    keys = {f"/savedstate/RamBlock{number}": bytes([number % 256]) * 2100 for number in range(600)}
    storage = opened(hyperv_storage(keys))
    assert storage.findings == []
    assert len(storage) == 601
    assert all(storage.value(path) == value for path, value in keys.items())


def test_asking_where_a_value_is_reads_nothing() -> None:
    class Watched(BytesSource):
        reads = 0

        def read_into(self, offset: int, buffer: memoryview) -> None:
            Watched.reads += 1
            super().read_into(offset, buffer)

    image = hyperv_storage({"/large": bytes(1 << 20), "/small": b"12"})
    storage = Storage(Watched("a", memoryview(image)))
    Watched.reads = 0
    assert storage.stored("/large") == (20480, 1 << 20)
    assert storage.stored("/small")[1] == 2
    assert Watched.reads == 0


@pytest.mark.parametrize("path", ("/b", "a", "", "/", "/a/b", "//a", "/?"))
def test_a_path_that_is_not_there_is_the_callers_error(path: str) -> None:
    storage = opened(MINIMAL)
    assert path not in storage
    with pytest.raises(CallerError, match=f"a.vmrs has no key '{path}'" if path != "/?" else "no key"):
        storage.value(path)


# -- the header ------------------------------------------------------------------------------------


def header_of(image: bytes, place: int, **changes: int) -> bytes:
    """An image with fields of one header changed."""
    fields = {"sequence": (8, "<H"), "version": (10, "<I"), "signature": (0, "<I"), "replay_log": (26, "<Q")}
    made = bytearray(image)
    for name, value in changes.items():
        at, form = fields[name]
        struct.pack_into(form, made, place + at, value)
    return bytes(made)


@pytest.mark.parametrize(
    ("first", "second", "newer"),
    [(1, 0, 1), (0, 1, 1), (65535, 0, 0), (0, 65535, 0), (7, 7, 7), (5, 60000, 60000), (60000, 5, 60000)],
)
def test_the_copy_with_the_newer_sequence_counts(first: int, second: int, newer: int) -> None:
    storage = opened(hyperv_storage({"/a": 1}, sequences=(first, second)))
    assert storage.header.sequence == newer


def test_of_two_copies_with_one_sequence_the_first_counts() -> None:
    image = resealed(header_of(hyperv_storage({"/a": 1}, sequences=(7, 7)), 4096, replay_log=99))
    assert opened(image).header.replay_log == REPLAY_LOG


def test_a_copy_with_a_right_checksum_counts_before_a_newer_one_without() -> None:
    storage = opened(header_of(MINIMAL, 4096, sequence=2))
    assert storage.header.sequence == 1
    assert checks(storage) == ["storage-checksum"]


def test_a_header_whose_only_copies_have_wrong_checksums_is_used_all_the_same() -> None:
    image = bytearray(MINIMAL)
    image[4] ^= 1
    image[4100] ^= 1
    storage = opened(bytes(image))
    assert (storage.header.sequence, storage.value("/a")) == (1, 1)
    assert "wrong checksum, at 0x0 in the file (2 times)" in storage.findings[0].message


@pytest.mark.parametrize("gone", (0, 4096))
def test_one_copy_of_the_header_is_enough(gone: int) -> None:
    storage = opened(header_of(MINIMAL, gone, signature=0))
    assert storage.value("/a") == 1
    assert checks(storage) == ["storage-header"]


@pytest.mark.parametrize(
    ("image", "why", "place"),
    [
        (bytes(20480), "does not begin as a Hyper-V storage container does", 0),
        (b"", "does not begin as", 0),
        (MINIMAL[:45], "does not begin as", 0),
        (MINIMAL[:8190], "has no object table", 8192),
        (MINIMAL[:8192] + bytes(8192), "has no object table", 8192),
        (hyperv_storage({"/a": 1}, version=0x301), "of version 3.1; only 4.0 is read", 10),
        (hyperv_storage({"/a": 1}, version=0x100), "of version 1.0; only 4.0", 10),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(image: bytes, why: str, place: int) -> None:
    with pytest.raises(DumpError, match=why) as caught:
        opened(image)
    assert caught.value.place == place


def test_a_replay_log_with_entries_means_a_dirty_file_that_is_read_all_the_same() -> None:
    storage = opened(hyperv_storage({"/a": 1}, replay_entries=3))
    assert checks(storage) == ["storage-dirty"]
    assert "3 entries are in its replay log, at 0x4000" in storage.findings[0].message
    assert storage.value("/a") == 1


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "check"),
    [
        (ROOT_TABLE + 8 + 17, "storage-checksum"),  # flags of the table's entry
        (FIRST_KEYS + 4, "storage-checksum"),  # sequence of the key table
        (FIRST_KEYS + 26, "storage-checksum"),  # insertion sequence of the key
        (REPLAY_LOG + 13, "storage-checksum"),
        (REPLAY_LOG, "storage-replay-log"),
    ],
)
def test_a_wrong_checksum_is_a_finding_and_the_value_is_there(place: int, check: str) -> None:
    image = bytearray(MINIMAL)
    image[place] ^= 0x10
    storage = opened(bytes(image))
    assert checks(storage) == [check]
    assert storage.value("/a") == 1


def test_the_key_table_with_the_higher_sequence_counts() -> None:
    older, newer = hyperv_storage({"/a": 1}), hyperv_storage({"/a": 2})
    image = bytearray(older + newer[FIRST_KEYS:REPLAY_LOG])
    struct.pack_into("<H", image, 20480 + 4, 2)
    image[ROOT_TABLE + 26 : ROOT_TABLE + 44] = struct.pack("<BIQIB", 2, 0, 20480, 4096, 1)
    for both in (bytes(image), swapped(image)):
        storage = opened(resealed(both))
        assert storage.value("/a") == 2
        assert storage.findings == []


def swapped(image: bytearray) -> bytes:
    """The same with the first two entries of the object table the other way round."""
    made = bytearray(image)
    first, second = ROOT_TABLE + 8, ROOT_TABLE + 26
    made[first:second], made[second : second + 18] = image[second : second + 18], image[first:second]
    return bytes(made)


def with_parent(image: bytes, place: int, table: int, offset: int) -> bytes:
    made = bytearray(image)
    struct.pack_into("<HI", made, place + 6, table, offset)
    return resealed(bytes(made))


def test_a_key_whose_parent_is_not_there_is_found_under_a_question_mark() -> None:
    storage = opened(with_parent(MINIMAL, FIRST_KEYS + 10, 7, 10))
    assert [*storage.keys()] == ["/?/a"]
    assert storage.value("/?/a") == 1
    assert "a key's parent is not in the file, at 0x300a" in storage.findings[0].message


def test_keys_that_are_their_own_parents_are_not_listed_and_nothing_hangs() -> None:
    image = hyperv_storage({"/x/y": 1, "/z": 5})
    x, y = FIRST_KEYS + 10, FIRST_KEYS + 10 + 21 + 2 + 12
    assert image[x + 21 : x + 22] + image[y + 21 : y + 22] == b"xy"
    for target in (x, y):
        storage = opened(with_parent(image, x, 1, target - FIRST_KEYS))
        assert [*storage.keys()] == ["/z"]
        assert "2 keys are their own parents" in storage.findings[0].message


def test_a_key_that_is_there_twice_counts_once() -> None:
    image = bytearray(hyperv_storage({"/a": 1, "/b": 2}))
    image[image.index(b"\x02b\0") + 1] = ord("a")
    storage = opened(resealed(bytes(image)))
    assert (storage.value("/a"), checks(storage)) == (1, ["storage-keys"])


def test_a_slash_in_a_name_does_not_end_it() -> None:
    image = hyperv_storage({"/a": 1, "/bXc": 2}).replace(b"bXc", b"b/c")
    storage = opened(resealed(image))
    assert [*storage.keys()] == ["/a", "/b%2Fc"]
    assert storage.value("/b%2Fc") == 2


def test_keys_too_deep_are_counted_and_still_found() -> None:
    path = "/n" * (DEEPEST + 3)
    storage = opened(hyperv_storage({path: 5}))
    assert len([*storage.keys()]) == DEEPEST
    assert storage.value(path) == 5
    assert f"3 keys are their own parents, or deeper than {DEEPEST} levels" in storage.findings[0].message


def test_a_value_that_is_too_long_for_its_entry_or_to_be_read_is_refused_when_it_is_asked_for() -> None:
    image = hyperv_storage({"/v": b"four", "/w": 1})
    place = image.index(b"\x04\0\0\0four")
    storage = opened(resealed(image[:place] + b"\x05" + image[place + 1 :]))
    with pytest.raises(DumpError, match="value of 5 bytes is longer than its entry") as caught:
        storage.value("/v")
    assert caught.value.place == place + 4
    assert storage.value("/w") == 1

    image = hyperv_storage({"/v": bytes(3000)})
    place = image.index(struct.pack("<IQ", 3000, 20480))
    storage = opened(resealed(image[:place] + struct.pack("<I", LARGEST_VALUE + 1) + image[place + 4 :]))
    assert storage.stored("/v") == (20480, LARGEST_VALUE + 1)
    with pytest.raises(DumpError, match=f"up to {LARGEST_VALUE} are read whole"):
        storage.value("/v")


def test_a_type_that_is_not_known_is_listed_and_refused_when_asked_for() -> None:
    image = bytearray(MINIMAL)
    image[FIRST_KEYS + 10] = 0x33
    storage = opened(resealed(bytes(image)))
    assert "/a" in storage
    with pytest.raises(DumpError, match="type 51, which means nothing"):
        storage.value("/a")


def test_object_tables_that_lead_to_each_other_end() -> None:
    image = bytearray(MINIMAL)
    last = ROOT_TABLE + 8 + 226 * 18
    for target in (ROOT_TABLE, 4096, 2**63, 20480):
        struct.pack_into("<BIQIB", image, last, 1, 0, target, 4096, 1)
        storage = opened(resealed(bytes(image)))
        assert storage.value("/a") == 1
        assert checks(storage) == ([] if target == ROOT_TABLE else ["storage-table"])


class Repeating(Source):
    """A large file that costs nothing: a given start, then one unit of bytes over and over."""

    def __init__(self, start: bytes, unit: bytes, size: int) -> None:
        self.path = "large"
        self.start, self.unit, self.size = start, unit, size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        given = self.start[offset : offset + len(buffer)]
        rest = len(buffer) - len(given)
        skip = max(offset - len(self.start), 0) % len(self.unit)
        buffer[:] = given + (self.unit * (rest // len(self.unit) + 2))[skip : skip + rest]


def test_tables_of_any_size_are_read_up_to_their_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MOST_OBJECTS, MOST_TABLE_BYTES, MOST_KEYS) == (1 << 22, 1 << 27, 1 << 20)
    monkeypatch.setattr("vmbus.images.hyperv_storage.MOST_OBJECTS", 10_000)
    entry = struct.pack("<BIQIB", 3, 0, 4096, 4096, 1)
    start = bytearray(MINIMAL[: ROOT_TABLE + 8])
    struct.pack_into("<I", start, ROOT_TABLE + 4, 2**32 - 1)
    started = time.process_time()
    storage = Storage(Repeating(bytes(start), entry, 1 << 40))
    assert time.process_time() - started < 2
    assert "object tables have more than" in str(storage.findings)

    monkeypatch.setattr("vmbus.images.hyperv_storage.MOST_TABLE_BYTES", 5000)
    monkeypatch.setattr("vmbus.images.hyperv_storage_keys.MOST_KEYS", 3)
    storage = opened(hyperv_storage({f"/key{number}": bytes(100) for number in range(60)}))
    assert checks(storage) == ["storage-table", "storage-keys"]
    assert len(storage) == 3


# -- any bytes -------------------------------------------------------------------------------------


def look_everywhere(storage: Storage) -> None:
    """Every key that is listed can be asked for, and gives a value or DumpError."""
    listed = [*storage.keys()]
    assert len(listed) <= len(storage)
    for path in listed[:50]:
        assert path in storage
        for ask in (storage.value, storage.stored):
            try:
                ask(path)
            except DumpError as error:
                assert str(error).startswith("a.vmrs: ")
    assert len(storage.findings) < 40


SMALL = hyperv_storage(
    {"/savedstate/VmVersion": 0xA00, "/x/y/z": "text", "/x/large": bytes(3000), "/b": True, "/d": 1.5},
    table_size=4096,
)
#: Where numbers are that matter: headers, the object table's first entries, the keys, the replay log.
PLACES = (
    st.integers(0, 46)
    | st.integers(ROOT_TABLE, ROOT_TABLE + 80)
    | st.integers(FIRST_KEYS, FIRST_KEYS + 330)
    | st.integers(REPLAY_LOG, REPLAY_LOG + 34)
)


@given(
    st.lists(st.tuples(PLACES, st.sampled_from([0, 1, 2, 3, 9, 127, 255]) | st.integers(0, 255)), max_size=4),
    st.booleans(),
    st.integers(0, len(SMALL)) | st.just(0),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_behind_right_checksums_give_keys_or_an_error(
    changes: list[tuple[int, int]], seal: bool, cut: int
) -> None:
    image = bytearray(SMALL)
    for place, value in changes:
        image[place] = value
    made = resealed(bytes(image)) if seal else bytes(image)
    try:
        storage = opened(made[: len(made) - cut])
    except DumpError as error:
        assert str(error).startswith("a.vmrs: ")
    else:
        look_everywhere(storage)


@given(st.binary(max_size=600))
@settings(max_examples=100, deadline=None)
def test_random_bytes_as_keys_give_keys_or_an_error(data: bytes) -> None:
    image = SMALL[: FIRST_KEYS + 10] + data.ljust(4086, b"\0") + SMALL[REPLAY_LOG:]
    look_everywhere(opened(resealed(image)))
