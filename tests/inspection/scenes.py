"""What the tests of scanning share: made-up memory of a guest, and what of it is to be found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from image_writers.elf import elf_core
from image_writers.scene import Scene

from vmbus.images.open_image import dump_in
from vmbus.images.source import BytesSource
from vmbus.inspection import Dump, ScanOptions, ScanReport, scan
from vmbus.inspection.found_ring import FoundRing

__all__ = ["Known", "dump_of_bytes", "expected", "found", "scan_bytes", "small_scene"]


class Known(NamedTuple):
    """What a scan says of a ring, and a scene too; all of it can be compared."""

    address: int
    data_size: int | None
    header_size: int
    in_offset: int
    out_offset: int
    role: str | None
    pair: int | None
    device: tuple[str, str, int] | None
    pages: tuple[int, ...] | None


def expected(scene: Scene) -> list[Known]:
    """Every ring that was planted, in the order of addresses."""
    return [Known(**{name: getattr(ring, name) for name in Known._fields}) for ring in scene.rings]


def found(rings: ScanReport | Iterable[FoundRing]) -> list[Known]:
    """Every ring of a report, in the same words."""
    listed = rings.rings if isinstance(rings, ScanReport) else rings
    return [known(ring) for ring in listed]


def known(ring: FoundRing) -> Known:
    device = ring.device
    return Known(
        ring.address,
        ring.data_size,
        ring.header_size,
        ring.control.in_offset,
        ring.control.out_offset,
        ring.role,
        ring.pair,
        None if device is None else (device.class_id or "", device.instance_id or "", device.channel_id),
        ring.pages,
    )


def dump_of_bytes(image: bytes, path: str = "image") -> Dump:
    """An image of any format that is in memory."""
    return dump_in(BytesSource(path, memoryview(image)))


def scan_bytes(image: bytes, options: ScanOptions | None = None) -> ScanReport:
    return scan(dump_of_bytes(image), options)


def scan_regions(regions: Sequence[tuple[int, bytes]], options: ScanOptions | None = None) -> ScanReport:
    """What is found in memory with holes."""
    return scan_bytes(elf_core(regions), options)


#: A guest small enough to be written in every format in no time, and to be scanned often.
SMALL_LAYOUT = ((0x1000, 0x9F000), (0x100000, 0x160000), (0x300000, 0x20000))
SMALL_KINDS = ("vectors", "without footers", "scattered", "closed channels", "corrupt", "young pair", "pair")


@lru_cache(maxsize=4)
def small_scene(seed: int = 3) -> Scene:
    return Scene(seed, SMALL_KINDS, noise=0.01, layout=SMALL_LAYOUT, largest=24576)
