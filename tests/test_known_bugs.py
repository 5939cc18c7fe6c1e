"""The catalogue of bugs is whole, and every line of it is kept out by a named test that was seen to notice it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests import bug_coverage
from tests.bug_coverage import COVERAGE, gaps_of, table_text
from tests.bug_holds import CannotApply, Explored, Planted, Refused, planted_faults
from tests.known_bugs import CATALOGUE, KNOWN_BUGS, known_bug, named_by
from tests.test_planted_faults import ALL_FAULTS
from vmbus.errors import CallerError, PeerError
from vmbus.ring import RingFault
from vmbus.sizes import check_data_size

TESTS = Path(__file__).parent


def test_the_numbers_are_b01_to_b70_and_v01_to_v15_each_once():
    expected = [f"B{number:02}" for number in range(1, 71)] + [f"V{number:02}" for number in range(1, 16)]
    assert [bug.number for bug in CATALOGUE] == expected
    assert list(KNOWN_BUGS) == expected


def test_every_bug_has_a_sentence_and_a_source():
    for bug in CATALOGUE:
        assert bug.sentence.endswith("."), bug.number
        assert bug.source, bug.number


def test_a_source_becomes_the_addresses_it_stands_for():
    assert KNOWN_BUGS["B04"].addresses == ["https://git.kernel.org/torvalds/c/71b38245"]
    assert KNOWN_BUGS["B27"].addresses == ["https://github.com/QubesOS/qubes-issues/issues/10833"]
    assert KNOWN_BUGS["B63"].addresses == [
        "https://lore.kernel.org/linux-hyperv/1648394710-33480-1-git-send-email-mikelley@microsoft.com/"
    ]
    assert KNOWN_BUGS["V13"].addresses == [
        "https://github.com/microsoft/openvmm/pull/3221",
        "https://github.com/oxidecomputer/propolis/issues/1135",
    ]


def test_a_bug_without_an_address_names_a_file_a_document_or_a_commit_by_its_title():
    for bug in CATALOGUE:
        if not bug.addresses:
            assert re.search(r"\.(c|h|rs|rst)\b|CHANGELOG|commit '", bug.source), bug


def test_every_number_named_anywhere_in_the_tests_is_in_the_catalogue():
    for path in sorted(TESTS.rglob("*.py")):
        named = set(re.findall(r"\b[BV]\d\d\b", path.read_text(encoding="utf-8")))
        assert named <= set(KNOWN_BUGS), path


@pytest.fixture(scope="module")
def tests_of():
    """The tests that name each number; the sources are read once."""
    return named_by()


# -- the table of what holds each ----------------------------------------------------------------


def test_the_table_has_every_number_once_and_in_order():
    module = ast.parse(Path(bug_coverage.__file__).read_text(encoding="utf-8"))
    [table] = [
        node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "COVERAGE"
    ]
    assert [ast.literal_eval(key) for key in table.keys] == list(KNOWN_BUGS)


@pytest.mark.parametrize("number", KNOWN_BUGS)
def test_every_bug_is_named_by_a_test_and_held_as_the_table_says(tests_of, number):
    assert gaps_of(number, tests_of[number]) == [], KNOWN_BUGS[number]


def test_it_prints_the_table_in_which_there_is_no_gap():
    table = table_text()
    print(f"\n{table}")
    assert re.findall(r"^([BV]\d\d)  ", table, re.MULTILINE) == list(KNOWN_BUGS)
    assert "GAP" not in table


def test_every_fault_that_the_table_names_is_planted_by_the_suite_and_no_name_is_used_twice():
    names = Counter(fault.name for fault in ALL_FAULTS)
    assert set(names.values()) == {1}
    assert {one.fault for held in COVERAGE.values() for one in held if isinstance(one, Planted)} <= set(names)
    assert set(names) <= set(planted_faults())


def test_a_reason_why_a_bug_cannot_apply_is_a_sentence_beside_something_that_holds():
    for number, held in COVERAGE.items():
        assert not isinstance(held[0], CannotApply), number


NAMED_FOR_B28 = [
    "ring/test_batches.py::test_a_packet_whose_footer_is_not_published_is_refused_wherever_it_starts"
]


def peer_error():
    raise PeerError("too short", kind=RingFault.INVALID_DATA_AVAILABLE)


@pytest.mark.parametrize(
    ("held", "gap"),
    [
        (Planted("footer forgotten in the availability check"), None),
        (Planted("no such fault"), "no fault is called 'no such fault'"),
        (Planted("no wrap"), "does not name the bug"),
        (Explored("no-fence-after-in"), "does not name the bug"),
        (Explored("no-such-line"), "no exploration is called 'no-such-line'"),
        (Refused("short", peer_error, PeerError, RingFault.INVALID_DATA_AVAILABLE), None),
        (Refused("short", peer_error, PeerError, RingFault.FOOTER_NOT_PUBLISHED), "short: met with"),
        (Refused("short", peer_error, CallerError, "size"), "short: met with"),
        (Refused("no data", lambda: check_data_size(0), CallerError, "size"), None),
        (Refused("no data", lambda: check_data_size(0), CallerError, "buffer"), "no data: met with"),
        (Refused("a page", lambda: check_data_size(4096), CallerError, "size"), "a page: taken"),
        (CannotApply("There is nothing like it."), None),
        (CannotApply(""), "no sentence"),
    ],
)
def test_a_line_of_the_table_that_does_not_hold_is_a_gap(held, gap):
    found = held.holds(NAMED_FOR_B28)
    assert found is None if gap is None else gap in found


def test_a_bug_that_no_test_names_or_that_only_has_a_reason_is_a_gap(monkeypatch):
    monkeypatch.setitem(COVERAGE, "B33", (CannotApply("There is nothing like it."),))
    assert gaps_of("B33", []) == ["no test names it", "nothing was planted, explored or put in"]
    monkeypatch.delitem(COVERAGE, "B33")
    assert gaps_of("B33", ["a test"]) == ["nothing was planted, explored or put in"]
    assert table_text().count("GAP") == 1


# -- the mark ------------------------------------------------------------------------------------


def test_a_number_that_is_not_in_the_catalogue_cannot_be_named():
    with pytest.raises(ValueError, match="no bug X99"):
        known_bug("B25", "X99")
    with pytest.raises(ValueError, match="without a number"):
        known_bug()


def test_the_mark_carries_the_numbers():
    assert known_bug("B25", "B28").mark.args == ("B25", "B28")
