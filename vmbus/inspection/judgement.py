"""What judges rings: the list of checks, who is owed a signal, and two snapshots compared.

The names are here as one, so that whoever only shows a ring does not wait for them.
"""

from __future__ import annotations

from .check_json import CHECK_SCHEMA, CheckedFile, check_list_to_json, check_to_json, check_to_json_lines
from .check_list import CHECKS, CHECKS_BY_NAME, Check
from .diff_report import DIFF_SCHEMA, DiffReport, diff_reports, match_rings, owed_to_json
from .guess import Chain, GuessedPacket, guess_chain
from .snapshot_diff import RingDiff, diff
from .stuck import STANDING_REQUEST, OwedSignal, owed_signals, stuck_findings
from .to_text import place_of, verdict_text

__all__ = [
    "CHECKS",
    "CHECKS_BY_NAME",
    "CHECK_SCHEMA",
    "DIFF_SCHEMA",
    "STANDING_REQUEST",
    "Chain",
    "Check",
    "CheckedFile",
    "DiffReport",
    "GuessedPacket",
    "OwedSignal",
    "RingDiff",
    "check_list_to_json",
    "check_to_json",
    "check_to_json_lines",
    "diff",
    "diff_reports",
    "guess_chain",
    "match_rings",
    "owed_signals",
    "owed_to_json",
    "place_of",
    "stuck_findings",
    "verdict_text",
]
