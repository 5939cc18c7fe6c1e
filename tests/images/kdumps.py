"""What the tests of kdump images share: pages, and a dump opened from bytes."""

from __future__ import annotations

import pytest
from image_writers.kdump import kdump

from tests.helpers import pattern
from vmbus.images import BytesSource, KdumpDump
from vmbus.images.load_kdump import load
from vmbus.inspection import MissingMemory, State


def opened(image: bytes) -> KdumpDump:
    return load(BytesSource("guest.kdump", memoryview(image)))


def states(dump: KdumpDump) -> list[tuple[int, int, State]]:
    return [run[:3] for run in dump.runs()]


def checks(dump: KdumpDump) -> list[str]:
    return [finding.check for finding in dump.findings]


def why_missing(dump: KdumpDump, address: int) -> tuple[int, State | None, str]:
    with pytest.raises(MissingMemory) as missing:
        dump.read(address, 1)
    return missing.value.address, missing.value.state, missing.value.why


def page_bytes(number: int, size: int = 4096) -> bytes:
    """A page that every codec makes smaller."""
    return (pattern(size // 4, seed=number + 1) * 4)[:size]


#: An image of one page.
ONE_PAGE = kdump([(0, page_bytes(0))])


def changed(place: int, value: bytes, image: bytes = ONE_PAGE) -> bytes:
    """An image with other bytes at one place."""
    return image[:place] + value + image[place + len(value) :]
