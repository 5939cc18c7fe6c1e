"""What a scan found as JSON, "vmbus.scan/1": integers stay integers, unknown is null.

    {"schema", "source": {"path", "format", "size"}, "start", "end", "looked_at",
     "rings": [{"address", "header_size", "data_size", "data_size_candidates", "smallest_data_size", "role",
                "pair", "score", "reasons": [{"reason", "points", "message"}], "control",
                "device": {"class", "class_name", "instance", "channel"}, "pages"}],
     "unsure", "missing": [{"start", "end", "state", "why"}], "missing_unlisted", "findings"}

Addresses and pages come a second time in hex under a key ending in _hex: jq and browsers round above 2**53.
"""

from __future__ import annotations

from typing import Any

from vmbus.images import Run

from .found_ring import FoundRing
from .scanning import ScanReport
from .to_json import control_to_json, device_to_json, finding_to_json

__all__ = ["SCAN_SCHEMA", "found_ring_to_json", "scan_to_json"]

SCAN_SCHEMA = "vmbus.scan/1"


def scan_to_json(report: ScanReport) -> dict[str, Any]:
    """The document of one image."""
    return {
        "schema": SCAN_SCHEMA,
        "source": {"path": report.path, "format": report.format, "size": report.size},
        "start": report.start,
        "end": report.end,
        "looked_at": report.looked_at,
        "rings": [found_ring_to_json(ring) for ring in report.rings],
        "unsure": report.unsure,
        "missing": [missing_to_json(run) for run in report.missing],
        "missing_unlisted": report.unlisted,
        "findings": [finding_to_json(finding) for finding in report.findings],
    }


def found_ring_to_json(ring: FoundRing) -> dict[str, Any]:
    """One item of the document's "rings"."""
    document: dict[str, Any] = {
        "address": ring.address,
        "address_hex": f"{ring.address:#x}",
        "header_size": ring.header_size,
        "data_size": ring.data_size,
        "data_size_candidates": list(ring.data_size_candidates),
        "smallest_data_size": ring.smallest_data_size,
        "role": ring.role,
        "pair": ring.pair,
        "pair_hex": None if ring.pair is None else f"{ring.pair:#x}",
        "score": ring.score,
        "reasons": [reason._asdict() for reason in ring.reasons],
        "control": control_to_json(ring.control),
        "device": device_to_json(ring.device),
        "pages": None if ring.pages is None else list(ring.pages),
    }
    if ring.pages is not None:
        document["pages_hex"] = [f"{page:#x}" for page in ring.pages]
    return document


def missing_to_json(run: Run) -> dict[str, Any]:
    return {
        "start": run.start,
        "start_hex": f"{run.start:#x}",
        "end": run.end,
        "end_hex": f"{run.end:#x}",
        "state": run.state.value,
        "why": run.why or None,
    }
