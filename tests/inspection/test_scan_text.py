"""What a scan found as lines: what waits and what is free only where it is known, and limits told."""

from __future__ import annotations

import pytest

from vmbus.inspection import Finding, Run, ScanReport, Severity, State, scan_to_lines
from vmbus.inspection.found_ring import FoundRing, Reason
from vmbus.inspection.ring_place import RingDevice
from vmbus.layout import CONTROL_PAGE

PAGE = 4096


def ring(in_offset: int = 64, out_offset: int = 0, **fields: object) -> FoundRing:
    words = (in_offset.to_bytes(4, "little") + out_offset.to_bytes(4, "little")).ljust(128, b"\0")
    given = {
        "address": 0x3F2000,
        "header_size": PAGE,
        "control": CONTROL_PAGE.unpack(words),
        "data_size": 4 * PAGE,
        "data_size_candidates": (),
        "smallest_data_size": PAGE,
        "score": 87,
        "reasons": (Reason("one", 80, "it looks good"), Reason("two", -7, "but not too good")),
        **fields,
    }
    return FoundRing(**given)  # type: ignore[arg-type]


def report(*rings: FoundRing, **fields: object) -> ScanReport:
    given = {
        "path": "memory",
        "format": "elf",
        "size": 1,
        "start": 0,
        "end": 2**64,
        "looked_at": 3 << 19,
        "rings": list(rings),
        "unsure": 0,
        "missing": [],
        "unlisted": 0,
        "findings": [],
        **fields,
    }
    return ScanReport(**given)  # type: ignore[arg-type]


def lines(*rings: FoundRing, why: bool = False, **fields: object) -> list[str]:
    return list(scan_to_lines(report(*rings, **fields), with_reasons=why))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (ring(), ["16384", "-", "64", "16312", "87", "-"]),
        (ring(64, 16376), ["16384", "-", "72", "16304", "87", "-"]),
        (ring(8, 8, role="inbound"), ["16384", "inbound", "0", "16376", "87", "-"]),
        (ring(20000, 0), ["16384", "-", "?", "?", "87", "-"]),
        (ring(data_size=None), ["?", "-", "64", "?", "87", "-"]),
        (ring(0, 64, data_size=None), ["?", "-", "?", "?", "87", "-"]),
        (ring(device=RingDevice("guid", "network", "i", 5)), ["16384", "-", "64", "16312", "87", "network"]),
        (ring(device=RingDevice("guid", None, "i", 5)), ["16384", "-", "64", "16312", "87", "guid"]),
        (ring(device=RingDevice(None, None, None, 5)), ["16384", "-", "64", "16312", "87", "channel"]),
    ],
)
def test_a_line_has_what_is_known_of_a_ring(one, words):
    head, title, line = lines(one)
    assert head == "memory: elf, 1 ring in 1.5 MiB of memory that is not just zeros"
    assert title.split() == ["ADDRESS", "DATA", "ROLE", "WAITING", "FREE", "SCORE", "DEVICE"]
    assert line.split()[:7] == ["0x3f2000", *words]


def test_of_an_unknown_size_it_is_said_what_it_is_at_least_and_what_perhaps():
    one = ring(data_size=None, data_size_candidates=(4096, 8192, 12288, 16384, 20480))
    assert lines(one)[-1].endswith(
        "size unknown: at least 4096, perhaps 4096, 8192, 12288, 16384 (the likeliest first)"
    )
    assert lines(one._replace(data_size_candidates=(8192,)))[-1].endswith("at least 4096, perhaps 8192")
    assert lines(one._replace(data_size_candidates=()))[-1].endswith("size unknown: at least 4096")


def test_scattered_pages_are_told():
    assert lines(ring(pages=(0x3F2000, 0x1000)))[-1].endswith("(scattered pages)")


def test_the_reasons_come_below_each_ring_when_asked_for():
    assert lines(ring(), why=True)[-2:] == [
        "       +80  one: it looks good",
        "        -7  two: but not too good",
    ]


def test_what_only_looks_like_a_ring_is_counted():
    assert "1 page only looks like" in lines(unsure=1)[-1]
    assert lines(unsure=3)[-1].endswith("--all lists them")
    assert lines(ring(score=20), unsure=1)[-1].endswith("listed above")


def test_missing_memory_is_listed_up_to_a_limit_and_counted_beyond():
    runs = [Run(at * 8192, at * 8192 + PAGE, State.LOST, "cut" if at else "") for at in range(7)]
    shown = lines(missing=runs, unlisted=100)
    assert shown[1] == "  missing  0x0 to 0xfff  lost"
    assert shown[2] == "  missing  0x2000 to 0x2fff  lost: cut"
    assert shown[-1] == f"  missing  {2 * PAGE + 100} more bytes"
    assert len(shown) == 7


def test_findings_of_the_image_come_last():
    finding = Finding("image-overlap", Severity.WARNING, None, "twice")
    assert lines(ring(), findings=[finding])[-1] == "  image  warning  image-overlap  twice"
