"""The first findings of a ring are kept, all of them are counted, and the last says how many are not kept."""

from __future__ import annotations

import pytest

from vmbus.images import findings
from vmbus.images.findings import MOST_FINDINGS, Findings
from vmbus.inspection import Finding, Severity


def some(count: int, severity: Severity = Severity.ERROR) -> list[Finding]:
    return [Finding("check", severity, 8 * number, "it is so") for number in range(count)]


def test_so_many_findings_are_kept_as_nobody_reads_more():
    assert MOST_FINDINGS == 1000
    assert Findings().to_list() == []
    for count in (1, 999, 1000):
        assert Findings(some(count)).to_list() == some(count)


@pytest.mark.parametrize("more", [1, 2, 500])
def test_those_left_out_are_counted_in_a_note_behind_the_others(more):
    found = Findings(some(1000, Severity.NOTE))
    found.add(some(more))
    found.add(some(1, Severity.WARNING))
    *kept, last = found.to_list()
    assert kept == some(1000, Severity.NOTE)
    assert last[:3] == ("more-findings", Severity.NOTE, None)
    assert last.message == f"{more + 1} more findings are not listed, {more} of them errors"
    assert found.counts == {Severity.ERROR: more, Severity.WARNING: 1, Severity.NOTE: 1000}


def test_a_list_joined_to_another_brings_all_its_findings_kept_or_not(monkeypatch):
    monkeypatch.setattr(findings, "MOST_FINDINGS", 3)
    found, others = Findings(some(1, Severity.NOTE)), Findings(some(5))
    found.join(others)
    assert found.counts == {Severity.ERROR: 5, Severity.WARNING: 0, Severity.NOTE: 1}
    *kept, last = found.to_list()
    assert kept == [*some(1, Severity.NOTE), *some(2)]
    assert last.message == "3 more findings are not listed, 3 of them errors"


def test_a_list_may_be_joined_with_another_severity(monkeypatch):
    monkeypatch.setattr(findings, "MOST_FINDINGS", 3)
    found = Findings()
    found.join(Findings(some(5)), severity=Severity.NOTE)
    assert found.counts == {Severity.ERROR: 0, Severity.WARNING: 0, Severity.NOTE: 5}
    assert found.to_list()[:3] == some(3, Severity.NOTE)
