"""What an inspection has to say about a ring, one sentence a finding.

A finding has the name of its check, a severity and a place.  An error means that a correct reader
would refuse the ring; a warning, that something is there which no correct writer leaves; a note is
for people only.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Finding", "Severity"]


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


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
