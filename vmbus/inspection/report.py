"""All rings of a dump, looked at.

The document that `Report.to_json` returns is a promise: its keys keep their names and meanings for
as long as the schema's number stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vmbus.images import Dump, Finding, Severity, dump_over
from vmbus.memory import AddressSpace, RingMem
from vmbus.sizes import PAGE_SIZE

from .locate import find_rings
from .ring_in_dump import memory_of, missing_findings
from .ring_place import RingPlace
from .ring_report import RingReport, Selection, inspect_memory
from .to_json import SCHEMA, finding_to_json, ring_to_json

__all__ = ["Report", "check", "inspect_dump"]


class Report(NamedTuple):
    """All rings of a dump.

    path, format, size   the file
    rings                in the order of their addresses
    findings             what is wrong with the file as an image
    """

    path: str
    format: str
    size: int
    rings: list[RingReport]
    findings: Sequence[Finding] = ()

    @property
    def is_sound(self) -> bool:
        """True when neither the file nor a ring has an error or a warning."""
        return all(ring.is_sound for ring in self.rings) and all(
            finding.severity is Severity.NOTE for finding in self.findings
        )

    def to_json(self, *, whole: bool = False) -> dict[str, Any]:
        """The report as the document "vmbus.inspect/1"; `whole` adds every byte of the data areas."""
        return {
            "schema": SCHEMA,
            "source": {"path": self.path, "format": self.format, "size": self.size},
            "rings": [ring_to_json(ring, whole=whole) for ring in self.rings],
            "findings": [finding_to_json(finding) for finding in self.findings],
        }


def inspect_dump(
    dump: Dump | AddressSpace,
    *,
    address: int | None = None,
    header_size: int = PAGE_SIZE,
    data_size: int | None = None,
    pages: Sequence[int] | None = None,
    selection: Selection | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Look at the ring or the pair of rings in a raw dump, or at every ring of a memory image.

    address, header_size, data_size, pages, progress   where it is: see find_rings
    selection                                          which packets to report

    Raises DumpError with what speaks against a ring; CallerError as find_rings.
    """
    dump = dump_over(dump)
    places = find_rings(
        dump, address=address, header_size=header_size, data_size=data_size, pages=pages, progress=progress
    )
    rings = [ring_in(dump, place, selection) for place in places]
    return Report(dump.path, dump.format, dump.size, rings, tuple(dump.findings))


def ring_in(dump: Dump, place: RingPlace, selection: Selection | None) -> RingReport:
    """One ring of a dump, and what of it is missing."""
    memory = memory_of(dump, place)
    findings = (*place.findings, *missing_findings(memory))
    return inspect_memory(memory, place=place._replace(findings=findings), selection=selection)


def check(memory: RingMem | Dump | AddressSpace) -> list[Finding]:
    """Everything wrong or odd: about one ring, its control words and the packets that wait in it; or about every
    ring of a dump, and the dump.

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> check(sender.memory)
    []
    """
    nothing_shown = Selection(limit=0)
    if isinstance(memory, (Dump, AddressSpace)):
        report = inspect_dump(memory, selection=nothing_shown)
        return [*report.findings, *(finding for ring in report.rings for finding in ring.findings)]
    return inspect_memory(memory, selection=nothing_shown).findings
