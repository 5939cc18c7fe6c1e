"""The headers of kdump-compressed images: which version says what, and what is refused."""

from __future__ import annotations

import pytest
from image_writers.kdump import kdump

from tests.images.kdumps import ONE_PAGE, changed, checks, opened, page_bytes, states
from vmbus.errors import DumpError
from vmbus.inspection import State

PRESENT = State.PRESENT


def test_what_later_versions_brought_is_not_read_in_an_older_file():
    for version in (0, 1, 2, 5):
        image = bytearray(kdump([(0, page_bytes(0))], version=version, pages=10))
        image[4096 + 80 : 4096 + 104] = b"\xff" * 24
        assert opened(bytes(image)).header.pages == 10
    image = bytearray(kdump([(0, page_bytes(0))], version=1, pages=10))
    image[4096 + 12 : 4096 + 32] = b"\1\0\0\0" + bytes(16)  # would be an empty part
    assert states(opened(bytes(image))) == [(0, 4096, PRESENT)]


def test_version_6_takes_64_bits_of_the_number_of_pages_from_the_sub_header():
    image = bytearray(kdump([(0, page_bytes(0))], pages=10))
    image[440:444] = b"\xff\xff\xff\xff"
    assert opened(bytes(image)).header.pages == 10


def test_a_newer_version_is_read_as_the_newest_known_and_that_is_said():
    image = bytearray(kdump([(0, page_bytes(0))]))
    image[8] = 7
    dump = opened(bytes(image))
    assert (checks(dump), dump.read(0, 4096)) == (["image-version"], page_bytes(0))


@pytest.mark.parametrize(
    ("image", "place", "why"),
    [
        (changed(0, b"DISKDUMP"), 0, "diskdump image.*not supported"),
        (changed(0, b"KDUMP"), 0, None),
        (changed(0, b"KDUMPED "), 0, "begins with"),
        (changed(428, b"\0\x10\0\1"), 428, "blocks of 16781312 bytes"),
        (changed(428, b"\0\x20\0\x80"), 428, "blocks of -"),
        (changed(428, bytes(4)), 428, "blocks of 0 bytes"),
        (changed(428, bytes(4), changed(416, b"\0\x10\0\0")), 0, "32-bit machine.*not supported"),
        (changed(428, b"\0\0\x10\0"), 0, "big-endian machine.*not supported"),
        (changed(428, bytes(4), changed(416, b"\0\0\x10\0")), 0, "32-bit big-endian machine"),
        (changed(8, b"\xff\xff\xff\xff"), 8, "version -1"),
        (changed(432, bytes(4)), 432, "sub header of 0 blocks"),
        (changed(432, b"\0\0\0\x80"), 432, "sub header of -"),
        (ONE_PAGE[:443], 0, "too short"),
        (ONE_PAGE[:4199], 4096, "sub header"),
    ],
)
def test_what_is_not_supported_or_cannot_be_is_refused_with_the_place(image, place, why):
    if why is None:  # the same bytes
        assert opened(image).findings == []
        return
    with pytest.raises(DumpError, match=why) as refused:
        opened(image)
    assert (refused.value.path, refused.value.place) == ("guest.kdump", place)
