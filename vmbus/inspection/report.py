"""All rings of a dump, looked at.

The document that `Report.to_json` returns is a promise: its keys keep their names and meanings for
as long as the schema's number stays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vmbus.sizes import PAGE_SIZE

from .dump import Dump
from .locate import find_rings, memory_of
from .ring_report import RingReport, Selection, inspect_memory
from .to_json import SCHEMA, ring_to_json

__all__ = ["Report", "inspect_dump"]


class Report(NamedTuple):
    """All rings of a dump."""

    path: str
    format: str
    size: int
    rings: list[RingReport]

    @property
    def is_sound(self) -> bool:
        """True when no ring has an error or a warning."""
        return all(ring.is_sound for ring in self.rings)

    def to_json(self, *, whole: bool = False) -> dict[str, Any]:
        """The report as the document "vmbus.inspect/1"; `whole` adds every byte of the data areas."""
        return {
            "schema": SCHEMA,
            "source": {"path": self.path, "format": self.format, "size": self.size},
            "rings": [ring_to_json(ring, whole=whole) for ring in self.rings],
        }


def inspect_dump(
    dump: Dump,
    *,
    address: int | None = None,
    header_size: int = PAGE_SIZE,
    data_size: int | None = None,
    selection: Selection | None = None,
) -> Report:
    """Look at the ring or the pair of rings in a raw dump.

    address, header_size, data_size   where it is: see find_rings
    selection                         which packets to report

    Raises DumpError with what speaks against a ring; CallerError as find_rings.
    """
    places = find_rings(dump, address=address, header_size=header_size, data_size=data_size)
    rings = [inspect_memory(memory_of(dump, place), place=place, selection=selection) for place in places]
    return Report(dump.path, dump.format, dump.size, rings)
