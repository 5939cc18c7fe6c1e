"""All rings of a dump, looked at.

The document that `Report.to_json` returns is a promise: its keys keep their names and meanings for
as long as the schema's number stays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vmbus.errors import CallerError
from vmbus.sizes import PAGE_SIZE, check_header_size

from .dump import Dump
from .findings import Severity
from .locate import memory_of, ring_at, rings_in
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
        return all(finding.severity is Severity.NOTE for ring in self.rings for finding in ring.findings)

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

    address      of the control page; None where the dump should begin with it
    header_size  bytes from there to the data area
    data_size    bytes of the data area; None where the dump's end says it

    Without address and data_size a dump must look like a ring.  Raises DumpError with what speaks
    against one; CallerError for sizes no ring can have.
    """
    check_header_size(header_size)
    start = address or 0
    if start < 0 or start >= dump.size:
        raise CallerError(
            f"{start:#x} is not inside a file of {dump.size} bytes",
            argument="address",
            value=start,
            limit=dump.size,
        )
    if data_size is not None:
        places = [ring_at(dump, start, header_size, data_size)]
    else:
        places = rings_in(dump, start, header_size, said=address is not None)
    rings = [inspect_memory(memory_of(dump, place), place=place, selection=selection) for place in places]
    return Report(dump.path, dump.format, dump.size, rings)
