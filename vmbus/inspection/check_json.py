"""Files whose rings were checked, as the document "vmbus.check/1".

The document's keys:

    schema             "vmbus.check/1"
    assume_quiescent   whether nobody ran when the dumps were taken, as the caller says
    files              one object a file that could be checked:
        source             the file: path, format, size (bytes)
        findings           what is wrong with the file as an image: check, severity, offset (null), message
        rings              one object a ring, by ascending addresses:
            address, address_hex, role, pair, device, data_size, verdict, reader_needs_signal,
            writer_needs_signal   as in "vmbus.inspect/1"
            verdict_text       the verdict in a sentence, with what is known of signals
            stuck              signals owed: to, owed_by, rule, edge_rule, message; null without assume_quiescent,
                               for one snapshot cannot say
            findings           as in "vmbus.inspect/1", the stuck ones behind the others; each with its place
                               for reading: "control", or the offset in hex

As lines, an object each: every finding and, behind those of its ring, the ring's verdict.

    schema, kind       "vmbus.check/1"; "finding" or "verdict"
    path               of the file
    ring               of a finding: the address of its ring; null for one of the file, which has no place
    ...                the keys of a finding, or those of a ring without its findings

The list of checks has "checks" in place of files: check, severities, subject, meaning, source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .check_list import CHECKS
from .diff_report import owed_to_json
from .report import Report
from .ring_report import RingReport
from .stuck import owed_signals, stuck_findings
from .to_json import finding_to_json, some_of_ring
from .to_text import place_of, verdict_text

__all__ = ["CHECK_SCHEMA", "CheckedFile", "check_list_to_json", "check_to_json", "check_to_json_lines"]

CHECK_SCHEMA = "vmbus.check/1"


class CheckedFile(NamedTuple):
    """A file whose rings were checked.

    report             what is in it
    assume_quiescent   whether nobody ran when it was taken: then a signal that is owed makes a ring stuck
    """

    report: Report
    assume_quiescent: bool = False

    @property
    def is_sound(self) -> bool:
        """True when nothing is wrong with the file or a ring, and no ring is known to be stuck."""
        is_stuck = self.assume_quiescent and any(owed_signals(ring) for ring in self.report.rings)
        return self.report.is_sound and not is_stuck

    def to_json(self) -> dict[str, Any]:
        """One item of "files"."""
        report = self.report
        return {
            "source": {"path": report.path, "format": report.format, "size": report.size},
            "findings": [finding_to_json(finding) for finding in report.findings],
            "rings": [ring_to_json(ring, quiescent=self.assume_quiescent) for ring in report.rings],
        }


def check_to_json(files: Iterable[CheckedFile], *, assume_quiescent: bool = False) -> dict[str, Any]:
    """The document, with what was found in each file; of each no more is kept than stands in it."""
    return {
        "schema": CHECK_SCHEMA,
        "assume_quiescent": assume_quiescent,
        "files": [file.to_json() for file in files],
    }


def check_to_json_lines(file: CheckedFile) -> Iterator[dict[str, Any]]:
    """What was found in one file, an object a finding and a verdict."""
    document = file.to_json()
    start = {"schema": CHECK_SCHEMA, "kind": "finding", "path": file.report.path}
    for finding in document["findings"]:
        yield {**start, "ring": None, **finding}
    for ring in document["rings"]:
        for finding in ring.pop("findings"):
            yield {**start, "ring": ring["address"], **finding}
        yield {**start, "kind": "verdict", **ring}


def check_list_to_json() -> dict[str, Any]:
    """Every check there is."""
    rows = [
        {
            "check": check.name,
            "severities": [severity.value for severity in check.severities],
            "subject": check.subject,
            "meaning": check.meaning,
            "source": check.source,
        }
        for check in CHECKS
    ]
    return {"schema": CHECK_SCHEMA, "checks": rows}


def ring_to_json(ring: RingReport, *, quiescent: bool) -> dict[str, Any]:
    """One item of "rings"."""
    findings = [*ring.findings, *(stuck_findings(ring) if quiescent else ())]
    return {
        **some_of_ring(ring, ("address", "address_hex", "role", "pair", "device", "data_size", "verdict")),
        "verdict_text": verdict_text(ring),
        **some_of_ring(ring, ("reader_needs_signal", "writer_needs_signal")),
        "stuck": [owed_to_json(owed) for owed in owed_signals(ring)] if quiescent else None,
        "findings": [{**finding_to_json(finding), "place": place_of(ring, finding)} for finding in findings],
    }
