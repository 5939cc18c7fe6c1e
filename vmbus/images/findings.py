"""What there is to say about an image, or about what lies in it, one sentence a finding.

A finding has the name of its check, a severity and a place.  An error means that a correct reader
would refuse what it is about; a warning, that something is there which no correct writer leaves; a
note is for people only.  What a check of that name is about, a Check says: whoever looks at something
has a list of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

__all__ = ["MOST_FINDINGS", "Check", "Finding", "Findings", "Severity"]

#: A broken ring can have a finding every 24 bytes; nobody reads more than these.
MOST_FINDINGS = 1000


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Check(NamedTuple):
    """One check.

    name         what findings and JSON call it
    severities   those its findings can have, the usual one first
    subject      what is checked: ring, packet, history, signals,
                 snapshots, queue, socket, image
    meaning      one sentence
    source       where the rule comes from
    """

    name: str
    severities: tuple[Severity, ...]
    subject: str
    meaning: str
    source: str


class Finding(NamedTuple):
    """One finding.

    check     the name of the check, which never changes its meaning
    severity  how bad it is
    offset    where, in bytes from the start of the data area; None for the control page
    message   one sentence
    """

    check: str
    severity: Severity
    offset: int | None
    message: str


class Findings:
    """The findings of one ring, of which the first MOST_FINDINGS are kept and all are counted.

    counts   how many of each severity, kept or not
    """

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self.counts = dict.fromkeys(Severity, 0)
        self._kept: list[Finding] = []
        self.add(findings)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.counts[finding.severity] += 1
            if len(self._kept) < MOST_FINDINGS:
                self._kept.append(finding)

    def join(self, others: Findings, *, severity: Severity | None = None) -> None:
        """Add all findings of another list, kept there or not; with `severity` in place of their own."""
        for finding in others._kept:
            self.add([finding if severity is None else finding._replace(severity=severity)])
        for own, count in others.left_out().items():
            self.counts[severity or own] += count

    def left_out(self) -> dict[Severity, int]:
        """How many of each severity are not kept."""
        counts = self.counts.copy()
        for finding in self._kept:
            counts[finding.severity] -= 1
        return counts

    def to_list(self) -> list[Finding]:
        """Those kept, and a last one that says how many were not."""
        left_out = self.left_out()
        total = sum(left_out.values())
        if not total:
            return [*self._kept]
        message = f"{total} more findings are not listed, {left_out[Severity.ERROR]} of them errors"
        return [*self._kept, Finding("more-findings", Severity.NOTE, None, message)]
