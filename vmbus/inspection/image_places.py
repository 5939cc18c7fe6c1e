"""Where the rings of a memory image are, for looking at them."""

from __future__ import annotations

from vmbus.errors import DumpError
from vmbus.images import Dump, Finding, Severity
from vmbus.layout import CONTROL_PAGE, ControlPage
from vmbus.ring import inspect_ring, is_offset
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE, check_data_size

from .data_area import LARGEST_LOOKED_FOR, DataArea, blocks_at
from .found_ring import FoundRing
from .names import counted
from .ring_evidence import evidence_of, smallest_size
from .ring_place import RingPlace
from .scanning import ScanOptions, scan
from .sighting import Progress

__all__ = ["place_of", "places_in_image"]


def places_in_image(
    dump: Dump,
    *,
    address: int | None,
    header_size: int,
    data_size: int | None,
    progress: Progress | None = None,
) -> list[RingPlace]:
    """The ring at an address, or all that a scan finds.

    Raises DumpError when there is none, and MissingMemory for an address that is not in the image.
    """
    if address is None:
        rings = scan(dump, progress=progress).rings
        if not rings:
            raise DumpError(
                "no ring was found in it (`vmbus scan --all` lists what looks like one)", path=dump.path
            )
        return [place_of(ring, data_size) for ring in rings]
    control = inspect_ring(dump.read(address, CONTROL_PAGE.size))
    if data_size is not None:
        return [RingPlace(address, header_size, check_data_size(data_size))]
    # What says how large it is, and whose, may be anywhere: another ring behind it, or messages.
    rings = scan(dump, ScanOptions(everything=True), progress=progress).rings
    found = next((ring for ring in rings if ring.address == address), None)
    return [place_of(found) if found is not None else place_by_packets(dump, address, header_size, control)]


def rings_in_memory(dump: Dump, address: int | None, progress: Progress | None) -> list[RingPlace]:
    """The rings that a scan finds; with an address the one there, where it is more than a guess."""
    rings = scan(dump, ScanOptions(everything=address is not None), progress=progress).rings
    if address is None:
        return [place_of(ring) for ring in rings]
    return [place_of(ring) for ring in rings if ring.address == address and ring.data_size is not None]


def place_by_packets(dump: Dump, address: int, header_size: int, control: ControlPage) -> RingPlace:
    """A ring that a scan does not find, as large as its packets say."""
    largest = MAXIMUM_DATA_SIZE
    if not is_offset(largest, control.in_offset) or not is_offset(largest, control.out_offset):
        raise DumpError(
            f"no ring at {address:#x}: in is {control.in_offset:#x} and out is {control.out_offset:#x}, which are no "
            "offsets of a ring; --data-size shows it as one all the same",
            path=dump.path,
            place=address,
        )
    smallest = smallest_size(control)
    if smallest > LARGEST_LOOKED_FOR:
        raise DumpError(
            f"no ring at {address:#x}: in {control.in_offset:#x} and out {control.out_offset:#x} need {smallest} bytes "
            "of data, and no driver is known to make such a ring; --data-size shows it as one all the same",
            path=dump.path,
            place=address,
        )
    evidence = evidence_of(DataArea(blocks_at(dump, address + header_size)), control)
    place = RingPlace(address, header_size, evidence.size or evidence.smallest)
    return place if evidence.size else assumed(place, evidence.sizes)


def place_of(ring: FoundRing, data_size: int | None = None) -> RingPlace:
    """Where a ring that was found lies, to be looked at.

    data_size   what its size is taken to be where nothing decides it
    """
    place = RingPlace(
        address=ring.address,
        header_size=ring.header_size,
        data_size=ring.data_size or data_size or ring.smallest_data_size,
        role=ring.role,
        device=ring.device,
        pages=ring.pages,
        pair=ring.pair,
    )
    known = ring.data_size is not None or data_size is not None
    return place if known else assumed(place, ring.data_size_candidates)


def assumed(place: RingPlace, sizes: tuple[int, ...]) -> RingPlace:
    """A place whose size nothing decides."""
    perhaps = f"; it may be {', '.join(map(str, sizes[:4]))}" if sizes else ""
    pages = counted(place.data_size // PAGE_SIZE, "page")
    message = (
        f"nothing says how large the ring is: {place.data_size} bytes, {pages}, hold all that is known{perhaps}; "
        "--data-size says how large it is"
    )
    finding = Finding("size-assumed", Severity.NOTE, None, message)
    return place._replace(findings=(*place.findings, finding), data_size_known=False)
