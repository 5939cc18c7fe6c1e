"""The format of an image is known by its content, under any name and inside wrappings."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_writers.avml import avml_image
from image_writers.dmp import windows_dump
from image_writers.elf import elf_core
from image_writers.flattened import flattened, in_pieces
from image_writers.kdump import kdump
from image_writers.lime import lime_image
from image_writers.vmrs import saved_state

from tests.inspection.scenes import dump_of_bytes
from vmbus.errors import DumpError
from vmbus.inspection import open_dump

PAGE = 4096
REGIONS = [(0x1000, bytes(range(256)) * 16), (0x8000, b"ring" * 2048)]

IMAGES = {
    "elf": elf_core(REGIONS),
    "lime": lime_image(REGIONS),
    "avml": avml_image(REGIONS),
    "kdump": kdump(REGIONS),
    "windows-dmp64": windows_dump(REGIONS),
    "hyper-v-vmrs": saved_state(REGIONS),
}
WRAPPINGS = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "flattened": lambda data: flattened(in_pieces(data, 5000)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_format_is_known_by_its_content(tmp_path, name):
    path = tmp_path / "image.of.any.name"
    path.write_bytes(IMAGES[name])
    with open_dump(path) as dump:
        assert dump.format == name
        assert all(dump.read(address, len(data)) == data for address, data in REGIONS)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", IMAGES)
def test_wrappings_are_taken_off(tmp_path, name, wrapping):
    path = tmp_path / "image"
    path.write_bytes(WRAPPINGS[wrapping](IMAGES[name]))
    with open_dump(path) as dump:
        assert name in dump.format
        assert dump.read(*[(address, len(data)) for address, data in REGIONS][1]) == REGIONS[1][1]


def test_two_wrappings_are_taken_off_and_too_many_are_refused():
    twice = gzip.compress(flattened(in_pieces(IMAGES["kdump"], 3000)))
    assert "kdump" in dump_of_bytes(twice).format
    image = IMAGES["elf"]
    for _ in range(6):
        image = gzip.compress(image)
    with pytest.raises(DumpError, match="wrappings"):
        dump_of_bytes(image)


@pytest.mark.parametrize(
    ("first", "hint"),
    [(b"QEVM", "dump-guest-memory"), (b"LibvirtQemudSave", "virsh dump"), (b"\xd2\xbe\xd2\xbe", ".vmem")],
)
def test_formats_known_by_name_alone_are_refused_with_what_would_help(first, hint):
    with pytest.raises(DumpError, match=hint):
        dump_of_bytes(first.ljust(PAGE, b"\0"))


@pytest.mark.parametrize("wrapping", [None, "gzip"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_map_of_an_image_that_has_its_own_is_refused(tmp_path, name, wrapping):
    path, lines = tmp_path / "image", tmp_path / "map"
    path.write_bytes(IMAGES[name] if wrapping is None else WRAPPINGS[wrapping](IMAGES[name]))
    lines.write_text("0x1000 0x1000 0")
    with pytest.raises(DumpError) as caught:
        open_dump(path, memory_map=lines)
    what = str(caught.value).removeprefix(f"{path}: ")
    assert what.startswith(("is a", "is an"))
    assert what.endswith(", which says itself where its memory belongs; --map is for raw files")
    assert "(dmp)" in what or f"({name})" in what
    path.write_bytes(bytes(PAGE))
    assert open_dump(path, memory_map=lines).format == "raw+map"


def test_what_nothing_knows_is_raw_memory():
    dump = dump_of_bytes(b"no magic here".ljust(PAGE, b"\0"))
    assert (dump.format, dump.size) == ("raw", PAGE)


@pytest.mark.parametrize("first", [b"\x78\x01", b"\x78\x9c", b"\x38\x8d"])
def test_a_ring_whose_in_looks_like_zlib_is_raw_memory(first):
    assert dump_of_bytes(first.ljust(2 * PAGE, b"\0")).format == "raw"


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(list(IMAGES)),
    wrapping=st.sampled_from([None, *WRAPPINGS]),
    cut=st.integers(0, 20000),
    flips=st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 255)), max_size=4),
)
def test_a_damaged_image_gives_a_dump_or_a_dump_error(name, wrapping, cut, flips):
    image = bytearray(IMAGES[name] if wrapping is None else WRAPPINGS[wrapping](IMAGES[name]))
    del image[max(1, len(image) - cut) :]
    for at, change in flips:
        image[at % len(image)] ^= change
    try:
        dump = dump_of_bytes(bytes(image))
    except DumpError as error:
        assert error.path == "image"
        return
    assert all(one.start < one.end for one in [run for run, _ in zip(dump.runs(), range(1000), strict=False)])
